/* From metadata to a spec: what all architectures share. */
#include "tool/import/gguf_families.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "tool/import/gguf_reader.h"

/* ---- what a file holds says what is computed ---- */

bool ps_gguf_reader_has(const ps_gguf_reader *r, const char *tensor)
{
    return ps_gguf_find_tensor(r->gguf, tensor) != NULL;
}

static void detect_parts(const ps_gguf_reader *r)
{
    ps_spec *s = r->spec;
    s->tied_head = !ps_gguf_reader_has(r, "output.weight");
    s->head_bias = ps_gguf_reader_has(r, "output.bias");
    s->norm_bias = ps_gguf_reader_has(r, "output_norm.bias");
    s->embed_norm = ps_gguf_reader_has(r, "token_embd_norm.weight");
    s->qkv_bias =
        ps_gguf_reader_has(r, "blk.0.attn_q.bias") || ps_gguf_reader_has(r, "blk.0.attn_qkv.bias");
    s->o_bias = ps_gguf_reader_has(r, "blk.0.attn_output.bias");
    s->mlp_bias = ps_gguf_reader_has(r, "blk.0.ffn_up.bias");
    s->router_bias = ps_gguf_reader_has(r, "blk.0.ffn_gate_inp.bias");
    s->expert_bias = ps_gguf_reader_has(r, "blk.0.ffn_up_exps.bias");
    s->sinks = ps_gguf_reader_has(r, "blk.0.attn_sinks.weight");
}

/* ---- what all architectures share ---- */

static ps_err read_vocab_size(const ps_gguf_reader *r)
{
    const ps_gguf_tensor *t = ps_gguf_find_tensor(r->gguf, "token_embd.weight");
    if (!t)
        return PS_FAIL(PS_ERR_FORMAT, "%s: tensor token_embd.weight is missing",
                       ps_gguf_path(r->gguf));
    if (t->n_dims != 2 || t->shape[0] > PS_SPEC_VOCAB_MAX)
        return PS_FAIL(PS_ERR_SHAPE, "%s: tensor token_embd.weight has %d dimensions and %zu rows",
                       ps_gguf_file(r->gguf, t), t->n_dims, t->shape[0]);
    r->spec->vocab_size = (int)t->shape[0];
    int said = r->spec->vocab_size;
    PS_TRY(ps_gguf_reader_int(r, "vocab_size", 1, PS_SPEC_VOCAB_MAX, &said));
    if (said == r->spec->vocab_size) return PS_OK;
    return PS_FAIL(PS_ERR_SHAPE, "%s: key %s.vocab_size is %d, token_embd.weight has %d rows",
                   ps_gguf_path(r->gguf), r->arch, said, r->spec->vocab_size);
}

static ps_err read_sizes(const ps_gguf_reader *r)
{
    ps_spec *s = r->spec;
    int n_layers = 0, context = 0;
    PS_TRY(ps_gguf_reader_need_int(r, "block_count", 1, PS_SPEC_LAYERS_MAX, &n_layers));
    ps_spec_take_layers(s, n_layers);
    PS_TRY(ps_gguf_reader_need_int(r, "embedding_length", 1, PS_SPEC_WIDTH_MAX, &s->d_model));
    PS_TRY(ps_gguf_reader_int(r, "context_length", 0, INT32_MAX, &context));
    s->context = context;
    PS_TRY(ps_gguf_reader_layers_int(r, "feed_forward_length", 1, PS_SPEC_WIDTH_MAX, &s->d_ff));
    PS_TRY(ps_gguf_reader_layers_int(r, "attention.head_count", 1, PS_SPEC_WIDTH_MAX, &s->n_heads));
    if (s->n_heads == 0 || s->d_ff == 0)
        return PS_FAIL(PS_ERR_FORMAT, "%s: key %s.%s is missing", ps_gguf_path(r->gguf), r->arch,
                       s->d_ff == 0 ? "feed_forward_length" : "attention.head_count");
    s->n_kv_heads = s->n_heads;
    PS_TRY(ps_gguf_reader_layers_int(r, "attention.head_count_kv", 1, s->n_heads, &s->n_kv_heads));
    s->head_dim = s->d_model / s->n_heads;
    PS_TRY(ps_gguf_reader_int(r, "attention.key_length", 1, PS_SPEC_HEAD_DIM_MAX, &s->head_dim));
    int value_length = s->head_dim;
    PS_TRY(ps_gguf_reader_int(r, "attention.value_length", 1, PS_SPEC_HEAD_DIM_MAX, &value_length));
    if (value_length != s->head_dim || s->head_dim < 1)
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: keys of %d and values of %d numbers a head are not computed here",
                       ps_gguf_path(r->gguf), s->head_dim, value_length);
    s->attention_scale = 1.0 / sqrt((double)s->head_dim);
    return read_vocab_size(r);
}

/* Experts: the same number in every layer. Weights of the chosen sum to 1 unless the file says that
 * they do not. */
static ps_err read_experts(const ps_gguf_reader *r, const ps_gguf_family *family)
{
    ps_spec *s = r->spec;
    double scale = 1.0;
    int gating = 1;
    bool normed = true;
    PS_TRY(ps_gguf_reader_int(r, "expert_count", 0, PS_SPEC_EXPERTS_MAX, &s->n_experts));
    PS_TRY(ps_gguf_reader_int(r, "expert_used_count", 0, PS_SPEC_EXPERTS_MAX, &s->n_experts_used));
    if (s->n_experts == 0) return PS_OK;
    if (!family->mixture)
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: experts of architecture %s are not computed here",
                       ps_gguf_path(r->gguf), r->arch);
    s->d_ff_expert = s->d_ff;
    PS_TRY(
        ps_gguf_reader_int(r, "expert_feed_forward_length", 1, PS_SPEC_WIDTH_MAX, &s->d_ff_expert));
    PS_TRY(ps_gguf_reader_real(r, "expert_weights_scale", &scale));
    PS_TRY(ps_gguf_reader_int(r, "expert_gating_func", 0, INT32_MAX, &gating));
    PS_TRY(ps_gguf_reader_bool(r, "expert_weights_norm", &normed));
    // 1: softmax over all, 3: over the chosen; with a norm behind it both are the same.
    if ((scale != 0.0 && scale != 1.0) || (gating != 0 && gating != 1 && gating != 3))
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: expert_weights_scale %g and expert_gating_func %d, wanted 1 and a "
                       "softmax (1 or 3)",
                       ps_gguf_path(r->gguf), scale, gating);
    s->router = normed || gating == 3 ? PS_ROUTER_CHOSEN : PS_ROUTER_ALL;
    for (int l = 0; l < s->n_layers; l++) {
        s->layers[l].mixture = true;
    }
    return PS_OK;
}

static ps_err read_common(const ps_gguf_reader *r, const ps_gguf_family *family)
{
    ps_spec *s = r->spec;
    bool causal = true;
    s->norm = family->norm;
    s->activation = family->activation;
    s->gated = family->gated;
    detect_parts(r);
    PS_TRY(read_sizes(r));
    PS_TRY(ps_gguf_reader_need_real(r,
                                    family->norm == PS_NORM_RMS ? "attention.layer_norm_rms_epsilon"
                                                                : "attention.layer_norm_epsilon",
                                    &s->norm_eps));
    PS_TRY(ps_gguf_reader_bool(r, "attention.causal", &causal));
    if (!causal)
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: attention to later positions is not computed here",
                       ps_gguf_path(r->gguf));
    PS_TRY(read_experts(r, family));
    if (family->rotation == PS_GGUF_ROTATES_NOTHING) {
        if (ps_gguf_reader_has(r, "rope_freqs.weight"))
            return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: tensor rope_freqs.weight in a %s model",
                           ps_gguf_path(r->gguf), r->arch);
        for (int l = 0; l < s->n_layers; l++) {
            s->layers[l].rope = -1;
        }
        return PS_OK;
    }
    return ps_gguf_reader_rope(r);
}

static ps_err find_family(ps_gguf *gguf, const ps_gguf_family **out)
{
    const char *arch = NULL, *type = "model";
    PS_TRY(ps_gguf_find_text(gguf, "general.architecture", &arch));
    PS_TRY(ps_gguf_find_text(gguf, "general.type", &type));
    if (!arch)
        return PS_FAIL(PS_ERR_FORMAT, "%s: key general.architecture is missing",
                       ps_gguf_path(gguf));
    if (strcmp(type, "model") != 0)
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: general.type is %s, wanted model",
                       ps_gguf_path(gguf), type);
    ps_text known = {0};
    for (const ps_gguf_family *f = ps_gguf_families; f->arch; f++) {
        if (strcmp(f->arch, arch) == 0) {
            *out = f;
            ps_text_release(&known);
            return PS_OK;
        }
        ps_text_appendf(&known, " %s", f->arch);
    }
    const ps_err err = PS_FAIL(PS_ERR_UNSUPPORTED, "%s: architecture %s is not one of%s",
                               ps_gguf_path(gguf), arch, ps_text_str(&known));
    ps_text_release(&known);
    return err;
}

/* Quantised blocks had other layouts before version 2. */
static ps_err check_quantisation(ps_gguf *gguf)
{
    int64_t version = 2;
    PS_TRY(ps_gguf_find_int(gguf, "general.quantization_version", 0, INT32_MAX, &version));
    if (version == 2) return PS_OK;
    return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: quantisation version %d, wanted 2", ps_gguf_path(gguf),
                   (int)version);
}

ps_err ps_gguf_family_read(ps_gguf *gguf, ps_import *out)
{
    const ps_gguf_family *family = NULL;
    *out = (ps_import){.spec = ps_spec_plain()};
    PS_TRY(find_family(gguf, &family));
    PS_TRY(check_quantisation(gguf));
    ps_gguf_reader r = {.gguf = gguf, .arch = family->arch, .spec = &out->spec};
    strncpy(out->spec.family, r.arch, sizeof out->spec.family - 1);
    out->interleaved = family->rotation == PS_GGUF_ROTATES_NEIGHBOURS;
    PS_TRY(read_common(&r, family));
    if (family->read) PS_TRY(family->read(&r));
    PS_TRY(ps_gguf_reader_tokens(&r));
    PS_TRY(ps_gguf_reader_check_all_used(&r));
    ps_gguf_reader_names(&r, out->from);
    return ps_spec_check(&out->spec, ps_gguf_path(gguf));
}
