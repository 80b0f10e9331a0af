#include "tool/import/gguf_families.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "tool/import/gguf_reader.h"

/* Which of its neighbours are rotated together. */
typedef enum rotation {
    ROTATES_NOTHING,
    ROTATES_HALVES,    // t and t + n/2, as here
    ROTATES_NEIGHBOURS // 2t and 2t+1: rows of q and k are taken apart
} rotation;

typedef struct gguf_family {
    const char *arch;
    ps_norm_kind norm;
    ps_activation_kind activation;
    bool gated;
    rotation rotation;
    ps_err (*read)(ps_gguf_reader *r); // what is special about it; may be NULL
    bool mixture;                      // may have experts
} gguf_family;

/* ---- what a file holds says what is computed ---- */

static bool has(const ps_gguf *gguf, const char *name)
{
    return ps_gguf_find_tensor(gguf, name) != NULL;
}

static void detect_parts(const ps_gguf *gguf, ps_spec *s)
{
    s->tied_head = !has(gguf, "output.weight");
    s->head_bias = has(gguf, "output.bias");
    s->norm_bias = has(gguf, "output_norm.bias");
    s->embed_norm = has(gguf, "token_embd_norm.weight");
    s->qkv_bias = has(gguf, "blk.0.attn_q.bias") || has(gguf, "blk.0.attn_qkv.bias");
    s->o_bias = has(gguf, "blk.0.attn_output.bias");
    s->mlp_bias = has(gguf, "blk.0.ffn_up.bias");
    s->router_bias = has(gguf, "blk.0.ffn_gate_inp.bias");
    s->expert_bias = has(gguf, "blk.0.ffn_up_exps.bias");
    s->sinks = has(gguf, "blk.0.attn_sinks.weight");
}

/* ---- what all architectures share ---- */

static ps_err read_vocab_size(ps_gguf_reader *r)
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

static ps_err read_sizes(ps_gguf_reader *r)
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
static ps_err read_experts(ps_gguf_reader *r, const gguf_family *family)
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

static ps_err read_common(ps_gguf_reader *r, const gguf_family *family)
{
    ps_spec *s = r->spec;
    bool causal = true;
    s->norm = family->norm;
    s->activation = family->activation;
    s->gated = family->gated;
    detect_parts(r->gguf, s);
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
    if (family->rotation == ROTATES_NOTHING) {
        for (int l = 0; l < s->n_layers; l++) {
            s->layers[l].rope = -1;
        }
        return PS_OK;
    }
    return ps_gguf_reader_rope(r);
}

/* ---- windows ---- */

/* Windows of attention.sliding_window keys. Which layers have one says sliding_window_pattern, as a
 * period or layer by layer; else, in files without it, the architecture's own period: the last
 * layer of each period sees everything. Period 1: none of them does. */
static ps_err read_windows(ps_gguf_reader *r, int period, int window)
{
    ps_spec *s = r->spec;
    PS_TRY(ps_gguf_reader_int(r, "attention.sliding_window", 0, INT32_MAX, &window));
    const ps_gguf_value *pattern = ps_gguf_reader_find(r, "attention.sliding_window_pattern");
    const bool by_layer = pattern && pattern->is_array;
    if (by_layer && (pattern->n != (size_t)s->n_layers || pattern->kind == PS_GGUF_STRING ||
                     pattern->kind == PS_GGUF_F32 || pattern->kind == PS_GGUF_F64))
        return PS_FAIL(PS_ERR_FORMAT, "%s: key %s does not say yes or no for %d layers",
                       ps_gguf_path(r->gguf), pattern->key, s->n_layers);
    if (pattern && !by_layer)
        PS_TRY(ps_gguf_reader_int(r, "attention.sliding_window_pattern", 0, INT32_MAX, &period));
    for (int l = 0; l < s->n_layers; l++) {
        // ggml: period 0 is a window everywhere, 1 nowhere.
        const bool has_window = by_layer ? ps_gguf_int_at(pattern, (size_t)l) != 0
                                         : period == 0 || l % period < period - 1;
        s->layers[l].window = has_window ? window : 0;
    }
    return PS_OK;
}

/* A plain rotation of another base for the layers with a window, where it is another one. */
static ps_err rotate_windows(ps_gguf_reader *r, double base)
{
    ps_spec *s = r->spec;
    PS_TRY(ps_gguf_reader_real(r, "rope.freq_base_swa", &base));
    const ps_rope *global = &s->ropes[0];
    if (global->kind == PS_ROPE_DEFAULT && global->base == base && global->magnitude == 1.0)
        return PS_OK;
    for (int l = 0; l < s->n_layers; l++) {
        if (s->layers[l].window == 0) continue;
        s->layers[l].rope = 1;
        s->n_ropes = 2;
    }
    s->ropes[1] =
        (ps_rope){.kind = PS_ROPE_DEFAULT, .dims = global->dims, .base = base, .magnitude = 1.0};
    return PS_OK;
}

/* ---- architectures ---- */

static ps_err read_qwen3(ps_gguf_reader *r)
{
    r->spec->qk_norm = PS_QK_NORM_HEAD;
    return PS_OK;
}

static ps_err read_llama(ps_gguf_reader *r)
{
    return ps_gguf_reader_real(r, "attention.scale", &r->spec->attention_scale);
}

/* Every fourth layer goes without rotation, which no key says. */
static ps_err read_smollm3(ps_gguf_reader *r)
{
    enum { STEP = 4 };
    for (int l = 0; l < r->spec->n_layers; l++) {
        if ((l + 1) % STEP == 0) r->spec->layers[l].rope = -1;
    }
    return read_llama(r);
}

static ps_err read_granite(ps_gguf_reader *r)
{
    ps_spec *s = r->spec;
    double logits = 1.0;
    bool rotates = true; // the family's use of this key
    PS_TRY(ps_gguf_reader_need_real(r, "logit_scale", &logits));
    s->logit_scale = 1.0 / logits;
    PS_TRY(ps_gguf_reader_real(r, "residual_scale", &s->residual_scale));
    PS_TRY(ps_gguf_reader_real(r, "embedding_scale", &s->embed_scale));
    PS_TRY(ps_gguf_reader_bool(r, "rope.scaling.finetuned", &rotates));
    for (int l = 0; l < s->n_layers && !rotates; l++) {
        s->layers[l].rope = -1;
    }
    return read_llama(r);
}

/* Largest models of Gemma 2 and 3 scale by the width over the heads, all others by the head. */
static void scale_gemma(ps_spec *s, int largest_layers)
{
    s->embed_scale = sqrt((double)s->d_model);
    if (s->n_layers == largest_layers)
        s->attention_scale = 1.0 / sqrt((double)(s->d_model / s->n_heads));
}

static ps_err read_gemma(ps_gguf_reader *r)
{
    scale_gemma(r->spec, 0);
    return PS_OK;
}

static ps_err read_gemma2(ps_gguf_reader *r)
{
    ps_spec *s = r->spec;
    scale_gemma(s, 46);
    s->post_norm = true;
    s->softcap = 50.0;
    s->final_softcap = 30.0;
    PS_TRY(ps_gguf_reader_real(r, "attn_logit_softcapping", &s->softcap));
    PS_TRY(ps_gguf_reader_real(r, "final_logit_softcapping", &s->final_softcap));
    return read_windows(r, 2, 4096);
}

/* Layers with a window rotate by a base of their own, and are never stretched. */
static ps_err read_gemma3(ps_gguf_reader *r)
{
    ps_spec *s = r->spec;
    scale_gemma(s, 62);
    s->post_norm = true;
    s->qk_norm = PS_QK_NORM_HEAD;
    PS_TRY(ps_gguf_reader_real(r, "final_logit_softcapping", &s->final_softcap));
    PS_TRY(read_windows(r, 6, 0));
    return rotate_windows(r, 10000.0);
}

/* The window is the model's own in every layer. */
static ps_err read_phi3(ps_gguf_reader *r)
{
    return read_windows(r, 0, 0);
}

/* OLMo 2, and OLMo 3 when there is a window: then those layers are not stretched. */
static ps_err read_olmo2(ps_gguf_reader *r)
{
    ps_spec *s = r->spec;
    s->pre_norm = false;
    s->post_norm = true;
    s->qk_norm = PS_QK_NORM_ALL;
    PS_TRY(read_windows(r, 4, 0));
    return rotate_windows(r, s->ropes[0].base);
}

static ps_err read_command_r(ps_gguf_reader *r)
{
    ps_spec *s = r->spec;
    s->parallel = s->shared_norm = true;
    if (has(r->gguf, "blk.0.attn_q_norm.weight")) s->qk_norm = PS_QK_NORM_HEADS;
    return ps_gguf_reader_need_real(r, "logit_scale", &s->logit_scale);
}

/* Layers that see everything are not rotated. */
static ps_err read_cohere2(ps_gguf_reader *r)
{
    ps_spec *s = r->spec;
    PS_TRY(read_command_r(r));
    PS_TRY(read_windows(r, 4, 0));
    for (int l = 0; l < s->n_layers; l++) {
        if (s->layers[l].window == 0) s->layers[l].rope = -1;
    }
    return PS_OK;
}

static void add_alibi(ps_spec *s, double max_exponent)
{
    for (int l = 0; l < s->n_layers; l++) {
        s->layers[l].n_biases = 1;
        s->layers[l].biases[0] =
            (ps_bias_spec){.kind = PS_BIAS_ALIBI, .max_exponent = max_exponent, .factor = 1.0};
    }
}

static ps_err read_positions(ps_gguf_reader *r)
{
    const ps_gguf_tensor *t = ps_gguf_find_tensor(r->gguf, "position_embd.weight");
    if (!t)
        return PS_FAIL(PS_ERR_FORMAT, "%s: tensor position_embd.weight is missing",
                       ps_gguf_path(r->gguf));
    if (t->n_dims != 2 || t->shape[0] > INT32_MAX / 2)
        return PS_FAIL(PS_ERR_SHAPE,
                       "%s: tensor position_embd.weight has %d dimensions and %zu rows",
                       ps_gguf_file(r->gguf, t), t->n_dims, t->shape[0]);
    r->spec->n_positions = (int)t->shape[0];
    return PS_OK;
}

static ps_err read_mpt(ps_gguf_reader *r)
{
    double max_exponent = 0.0;
    PS_TRY(ps_gguf_reader_real(r, "attention.max_alibi_bias", &max_exponent));
    if (max_exponent > 0.0) add_alibi(r->spec, max_exponent);
    PS_TRY(ps_gguf_reader_real(r, "attention.clamp_kqv", &r->spec->qkv_clip));
    if (has(r->gguf, "blk.0.attn_q_norm.weight")) r->spec->qk_norm = PS_QK_NORM_ALL;
    return has(r->gguf, "position_embd.weight") ? read_positions(r) : PS_OK;
}

static ps_err read_bloom(ps_gguf_reader *r)
{
    add_alibi(r->spec, 8.0);
    return PS_OK;
}

/* Baichuan 2 (it has a vocabulary of its own) scales the rows of its head to length 1 whenever it is
 * used. Files hold them scaled or not, as who made them did, and ggml takes them as they are. */
static ps_err check_head_of_baichuan2(const ps_gguf_reader *r)
{
    enum { VOCABULARY = 125696, ROWS = 16 };
    const ps_gguf_tensor *t = ps_gguf_find_tensor(r->gguf, "output.weight");
    const size_t d = (size_t)r->spec->d_model;
    ps_dtype dtype;
    if (r->spec->vocab_size != VOCABULARY || !t || t->n_dims != 2 || t->shape[0] != VOCABULARY ||
        t->shape[1] != d || !ps_gguf_format(t, &dtype))
        return PS_OK; // another model; or what is wrong is said when the tensors are converted
    const size_t bytes = t->bytes / VOCABULARY * ROWS;
    char *rows = ps_mem_copy_bytes(t->data, bytes); // the source aligns nothing
    float *values = ps_mem_new(ROWS * d, sizeof *values);
    ps_dtype_widen(dtype, rows, ROWS * d, values);
    double worst = 0.0;
    for (size_t row = 0; row < ROWS; row++) {
        double squares = 0.0;
        for (size_t i = 0; i < d; i++) {
            squares += (double)values[row * d + i] * (double)values[row * d + i];
        }
        worst = fmax(worst, fabs(sqrt(squares) - 1.0));
    }
    ps_mem_free(values);
    ps_mem_free(rows);
    if (worst < 0.05) return PS_OK; // formats of few bits are off by about 0.01
    return PS_FAIL(PS_ERR_UNSUPPORTED,
                   "%s: rows of output.weight are not of length 1 (off by %.2g), as Baichuan 2 has "
                   "them: convert the model that this was made from",
                   ps_gguf_path(r->gguf), worst);
}

/* The two sizes that there are: one rotates, the other has linear biases. No key tells them. */
static ps_err read_baichuan(ps_gguf_reader *r)
{
    ps_spec *s = r->spec;
    PS_TRY(check_head_of_baichuan2(r));
    if (s->n_layers == 32) return PS_OK;
    if (s->n_layers != 40)
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: baichuan with %d layers; 32 rotate, 40 have linear biases, others are "
                       "not known",
                       ps_gguf_path(r->gguf), s->n_layers);
    for (int l = 0; l < s->n_layers; l++) {
        s->layers[l].rope = -1;
    }
    s->n_ropes = 0;
    add_alibi(s, 8.0);
    return PS_OK;
}

static ps_err read_falcon(ps_gguf_reader *r)
{
    r->spec->parallel = true;
    r->spec->shared_norm = !has(r->gguf, "blk.0.attn_norm_2.weight");
    return PS_OK;
}

static ps_err read_gptneox(ps_gguf_reader *r)
{
    r->spec->parallel = true;
    return ps_gguf_reader_bool(r, "use_parallel_residual", &r->spec->parallel);
}

static ps_err read_phi2(ps_gguf_reader *r)
{
    r->spec->parallel = r->spec->shared_norm = true;
    return PS_OK;
}

/* Parallel where there is no second norm. The key use_parallel_residual says yes in files of models
 * that are not. */
static ps_err read_stablelm(ps_gguf_reader *r)
{
    ps_spec *s = r->spec;
    bool ignored = true;
    s->parallel = s->shared_norm = !has(r->gguf, "blk.0.ffn_norm.weight");
    if (has(r->gguf, "blk.0.attn_q_norm.weight")) s->qk_norm = PS_QK_NORM_HEADS;
    return ps_gguf_reader_bool(r, "use_parallel_residual", &ignored);
}

/* The frequencies are blended at unrounded places, which no key says. */
static ps_err read_gpt_oss(ps_gguf_reader *r)
{
    ps_spec *s = r->spec;
    s->swiglu_alpha = 1.702;
    s->swiglu_limit = 7.0;
    s->ropes[0].truncate = false;
    if (s->n_experts == 0)
        return PS_FAIL(PS_ERR_FORMAT, "%s: key gpt-oss.expert_count is missing",
                       ps_gguf_path(r->gguf));
    return read_windows(r, 2, 0);
}

static const gguf_family families[] = {
    {.arch = "llama",
     .gated = true,
     .rotation = ROTATES_NEIGHBOURS,
     .read = read_llama,
     .mixture = true},
    {.arch = "qwen2", .gated = true, .rotation = ROTATES_HALVES},
    {.arch = "qwen3", .gated = true, .rotation = ROTATES_HALVES, .read = read_qwen3},
    {.arch = "qwen3moe",
     .gated = true,
     .rotation = ROTATES_HALVES,
     .read = read_qwen3,
     .mixture = true},
    {.arch = "gemma",
     .activation = PS_ACTIVATION_GELU_TANH,
     .gated = true,
     .rotation = ROTATES_HALVES,
     .read = read_gemma},
    {.arch = "gemma2",
     .activation = PS_ACTIVATION_GELU_TANH,
     .gated = true,
     .rotation = ROTATES_HALVES,
     .read = read_gemma2},
    {.arch = "gemma3",
     .activation = PS_ACTIVATION_GELU_TANH,
     .gated = true,
     .rotation = ROTATES_HALVES,
     .read = read_gemma3},
    {.arch = "phi3", .gated = true, .rotation = ROTATES_HALVES, .read = read_phi3},
    {.arch = "olmo2", .gated = true, .rotation = ROTATES_HALVES, .read = read_olmo2},
    {.arch = "smollm3", .gated = true, .rotation = ROTATES_NEIGHBOURS, .read = read_smollm3},
    {.arch = "granite", .gated = true, .rotation = ROTATES_NEIGHBOURS, .read = read_granite},
    {.arch = "baichuan", .gated = true, .rotation = ROTATES_NEIGHBOURS, .read = read_baichuan},
    {.arch = "gpt-oss",
     .activation = PS_ACTIVATION_SWIGLU_OSS,
     .gated = true,
     .rotation = ROTATES_HALVES,
     .read = read_gpt_oss,
     .mixture = true},
    {.arch = "command-r",
     .norm = PS_NORM_LAYER,
     .gated = true,
     .rotation = ROTATES_NEIGHBOURS,
     .read = read_command_r},
    {.arch = "cohere2",
     .norm = PS_NORM_LAYER,
     .gated = true,
     .rotation = ROTATES_NEIGHBOURS,
     .read = read_cohere2},
    {.arch = "stablelm",
     .norm = PS_NORM_LAYER,
     .gated = true,
     .rotation = ROTATES_HALVES,
     .read = read_stablelm},
    {.arch = "mpt", .norm = PS_NORM_LAYER, .activation = PS_ACTIVATION_GELU, .read = read_mpt},
    {.arch = "falcon",
     .norm = PS_NORM_LAYER,
     .activation = PS_ACTIVATION_GELU,
     .rotation = ROTATES_HALVES,
     .read = read_falcon},
    {.arch = "gptneox",
     .norm = PS_NORM_LAYER,
     .activation = PS_ACTIVATION_GELU,
     .rotation = ROTATES_HALVES,
     .read = read_gptneox},
    {.arch = "phi2",
     .norm = PS_NORM_LAYER,
     .activation = PS_ACTIVATION_GELU_TANH,
     .rotation = ROTATES_HALVES,
     .read = read_phi2},
    {.arch = "starcoder2",
     .norm = PS_NORM_LAYER,
     .activation = PS_ACTIVATION_GELU_TANH,
     .rotation = ROTATES_HALVES},
    {.arch = "bloom",
     .norm = PS_NORM_LAYER,
     .activation = PS_ACTIVATION_GELU_TANH,
     .read = read_bloom},
    {.arch = "gpt2",
     .norm = PS_NORM_LAYER,
     .activation = PS_ACTIVATION_GELU_TANH,
     .read = read_positions},
    {.arch = "starcoder",
     .norm = PS_NORM_LAYER,
     .activation = PS_ACTIVATION_GELU_TANH,
     .read = read_positions},
};

enum { N_FAMILIES = sizeof families / sizeof families[0] };

static ps_err find_family(ps_gguf *gguf, const gguf_family **out)
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
    for (int i = 0; i < N_FAMILIES; i++) {
        if (strcmp(families[i].arch, arch) == 0) {
            *out = &families[i];
            ps_text_release(&known);
            return PS_OK;
        }
        ps_text_appendf(&known, " %s", families[i].arch);
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
    const gguf_family *family = NULL;
    *out = (ps_import){.spec = ps_spec_plain()};
    PS_TRY(find_family(gguf, &family));
    PS_TRY(check_quantisation(gguf));
    ps_gguf_reader r = {.gguf = gguf, .arch = family->arch, .spec = &out->spec};
    strncpy(out->spec.family, r.arch, sizeof out->spec.family - 1);
    out->interleaved = family->rotation == ROTATES_NEIGHBOURS;
    PS_TRY(read_common(&r, family));
    if (family->read) PS_TRY(family->read(&r));
    PS_TRY(ps_gguf_reader_tokens(&r));
    PS_TRY(ps_gguf_reader_check_all_used(&r));
    ps_gguf_reader_names(&r, out->from);
    return ps_spec_check(&out->spec, ps_gguf_path(gguf));
}
