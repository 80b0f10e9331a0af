/* What all architectures read alike: keys behind a prefix, rotation, tokens, and at the end the
 * account of keys that nobody asked for. */
#include "tool/import/gguf_reader.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define KEY_BYTES 160

static const char *full_key(const ps_gguf_reader *r, const char *name, char out[KEY_BYTES])
{
    snprintf(out, KEY_BYTES, "%.60s.%s", r->arch, name);
    return out;
}

static ps_err missing(const ps_gguf_reader *r, const char *name)
{
    return PS_FAIL(PS_ERR_FORMAT, "%s: key %s.%s is missing", ps_gguf_path(r->gguf), r->arch, name);
}

const ps_gguf_value *ps_gguf_reader_find(const ps_gguf_reader *r, const char *name)
{
    char key[KEY_BYTES];
    return ps_gguf_find(r->gguf, full_key(r, name, key));
}

ps_err ps_gguf_reader_int(const ps_gguf_reader *r, const char *name, int min, int max, int *out)
{
    char key[KEY_BYTES];
    int64_t value = *out;
    PS_TRY(ps_gguf_find_int(r->gguf, full_key(r, name, key), min, max, &value));
    *out = (int)value;
    return PS_OK;
}

ps_err ps_gguf_reader_need_int(const ps_gguf_reader *r, const char *name, int min, int max,
                               int *out)
{
    if (!ps_gguf_reader_find(r, name)) return missing(r, name);
    return ps_gguf_reader_int(r, name, min, max, out);
}

ps_err ps_gguf_reader_real(const ps_gguf_reader *r, const char *name, double *out)
{
    char key[KEY_BYTES];
    return ps_gguf_find_real(r->gguf, full_key(r, name, key), out);
}

ps_err ps_gguf_reader_need_real(const ps_gguf_reader *r, const char *name, double *out)
{
    if (!ps_gguf_reader_find(r, name)) return missing(r, name);
    return ps_gguf_reader_real(r, name, out);
}

ps_err ps_gguf_reader_bool(const ps_gguf_reader *r, const char *name, bool *out)
{
    char key[KEY_BYTES];
    return ps_gguf_find_bool(r->gguf, full_key(r, name, key), out);
}

ps_err ps_gguf_reader_text(const ps_gguf_reader *r, const char *name, const char **out)
{
    char key[KEY_BYTES];
    return ps_gguf_find_text(r->gguf, full_key(r, name, key), out);
}

ps_err ps_gguf_reader_layers_int(const ps_gguf_reader *r, const char *name, int min, int max,
                                 int *out)
{
    char key[KEY_BYTES];
    const ps_gguf_value *value = ps_gguf_reader_find(r, name);
    if (!value || !value->is_array) return ps_gguf_reader_int(r, name, min, max, out);
    PS_TRY(ps_gguf_find_array(r->gguf, full_key(r, name, key), PS_GGUF_I64, &value));
    if (value->n != (size_t)r->spec->n_layers)
        return PS_FAIL(PS_ERR_FORMAT, "%s: key %s has %zu values for %d layers",
                       ps_gguf_path(r->gguf), value->key, value->n, r->spec->n_layers);
    const int64_t first = ps_gguf_int_at(value, 0);
    for (size_t i = 0; i < value->n; i++) {
        const int64_t v = ps_gguf_int_at(value, i);
        if (v < min || v > max)
            return PS_FAIL(PS_ERR_FORMAT, "%s: key %s holds %lld, wanted %d..%d",
                           ps_gguf_path(r->gguf), value->key, (long long)v, min, max);
        if (v != first)
            return PS_FAIL(PS_ERR_UNSUPPORTED,
                           "%s: key %s differs between layers (%lld and %lld), which is not "
                           "computed here",
                           ps_gguf_path(r->gguf), value->key, (long long)first, (long long)v);
    }
    *out = (int)first;
    return PS_OK;
}

/* ---- rotation ---- */

/* The values of a tensor with a factor for each pair of dimensions; *found says if it is there. */
static ps_err read_factors(const ps_gguf_reader *r, const char *name, int n, double *out,
                           bool *found)
{
    const ps_gguf_tensor *t = ps_gguf_find_tensor(r->gguf, name);
    *found = t != NULL;
    if (!t) return PS_OK;
    const char *file = ps_gguf_file(r->gguf, t);
    if (strcmp(ps_gguf_type_name(t->type), "F32") != 0)
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: tensor %s is %s, wanted F32", file, name,
                       ps_gguf_type_name(t->type));
    if (t->bytes != (size_t)n * sizeof(float))
        return PS_FAIL(PS_ERR_SHAPE, "%s: tensor %s has %zu values, wanted %d", file, name,
                       t->bytes / sizeof(float), n);
    for (int i = 0; i < n; i++) {
        float value;
        memcpy(&value, t->data + (size_t)i * sizeof value, sizeof value);
        if (!(isfinite(value) && value > 0.0f))
            return PS_FAIL(PS_ERR_NUMERIC, "%s: tensor %s holds %g, wanted positive numbers", file,
                           name, (double)value);
        out[i] = (double)value;
    }
    return PS_OK;
}

/* What YaRN makes of a factor: 0.1 ln s + 1. ggml multiplies it with attn_factor. A
 * yarn_attn_factor would replace it where the model comes from, and ggml ignores it: it must say
 * the same. */
static ps_err read_yarn(const ps_gguf_reader *r, ps_rope *rope)
{
    const char *path = ps_gguf_path(r->gguf);
    const double natural = rope->factor > 1.0 ? 0.1 * log(rope->factor) + 1.0 : 1.0;
    double ext = 1.0, attention = natural, log_multiplier = 0.0;
    PS_TRY(ps_gguf_reader_real(r, "rope.scaling.yarn_ext_factor", &ext));
    PS_TRY(ps_gguf_reader_real(r, "rope.scaling.yarn_attn_factor", &attention));
    PS_TRY(ps_gguf_reader_real(r, "rope.scaling.yarn_log_multiplier", &log_multiplier));
    if ((ext >= 0.0 && ext != 1.0) || fabs(attention - natural) > 1e-5 * natural ||
        log_multiplier != 0.0)
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: YaRN with yarn_ext_factor %g, yarn_attn_factor %g and "
                       "yarn_log_multiplier %g, wanted 1, %g and 0",
                       path, ext, attention, log_multiplier, natural);
    rope->kind = PS_ROPE_YARN;
    rope->magnitude *= natural;
    rope->beta_fast = 32.0;
    rope->beta_slow = 1.0;
    rope->truncate = true;
    PS_TRY(ps_gguf_reader_real(r, "rope.scaling.yarn_beta_fast", &rope->beta_fast));
    return ps_gguf_reader_real(r, "rope.scaling.yarn_beta_slow", &rope->beta_slow);
}

/* Keys rope.scaling.*: how far the positions are stretched. */
static ps_err read_scaling(const ps_gguf_reader *r, ps_rope *rope)
{
    const char *type = "linear";
    rope->factor = 1.0;
    rope->magnitude = 1.0;
    rope->original_length = (double)r->spec->context;
    PS_TRY(ps_gguf_reader_text(r, "rope.scaling.type", &type));
    PS_TRY(ps_gguf_reader_real(r, "rope.scale_linear", &rope->factor)); // older name
    PS_TRY(ps_gguf_reader_real(r, "rope.scaling.factor", &rope->factor));
    PS_TRY(ps_gguf_reader_real(r, "rope.scaling.original_context_length", &rope->original_length));
    PS_TRY(ps_gguf_reader_real(r, "rope.scaling.attn_factor", &rope->magnitude));
    if (rope->factor == 0.0) rope->factor = 1.0; // ggml: not scaled
    if (strcmp(type, "yarn") == 0) return read_yarn(r, rope);
    if (strcmp(type, "none") == 0) rope->factor = 1.0;
    if (strcmp(type, "none") != 0 && strcmp(type, "linear") != 0 && strcmp(type, "longrope") != 0)
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: key %s.rope.scaling.type is %s, which is not known",
                       ps_gguf_path(r->gguf), r->arch, type);
    rope->kind = rope->factor == 1.0 ? PS_ROPE_DEFAULT : PS_ROPE_LINEAR;
    if (strcmp(type, "longrope") == 0 && rope->factor == 1.0) rope->kind = PS_ROPE_LONGROPE;
    return PS_OK;
}

/* Factors of single pairs of dimensions, which stand in tensors: divisors of plain RoPE, or those
 * of longrope, which files do not always name as such. */
static ps_err read_rope_tensors(const ps_gguf_reader *r, ps_rope *rope)
{
    bool divided, is_long, is_short = false;
    const int n = rope->dims / 2;
    if (n > PS_ROPE_FACTORS_MAX)
        return PS_FAIL(PS_ERR_LIMIT, "%s: %d rotated dimensions, wanted at most %d",
                       ps_gguf_path(r->gguf), rope->dims, 2 * PS_ROPE_FACTORS_MAX);
    PS_TRY(read_factors(r, "rope_freqs.weight", n, rope->factors, &divided));
    PS_TRY(read_factors(r, "rope_factors_long.weight", n, rope->long_factors, &is_long));
    if (!divided) PS_TRY(read_factors(r, "rope_factors_short.weight", n, rope->factors, &is_short));
    if (rope->kind != PS_ROPE_LONGROPE && !divided && !is_long && !is_short) return PS_OK;
    const bool is_plain = rope->kind == PS_ROPE_DEFAULT || rope->kind == PS_ROPE_LONGROPE;
    const bool one_kind = divided ? !is_long && rope->kind == PS_ROPE_DEFAULT : is_long && is_short;
    if (!is_plain || !one_kind)
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: rope factors of another kind than rope_freqs alone, or "
                       "rope_factors_long and rope_factors_short, without scaling",
                       ps_gguf_path(r->gguf));
    rope->kind = divided ? PS_ROPE_DIVIDED : PS_ROPE_LONGROPE;
    return PS_OK;
}

ps_err ps_gguf_reader_rope(const ps_gguf_reader *r)
{
    ps_spec *s = r->spec;
    ps_rope *rope = &s->ropes[0];
    *rope = (ps_rope){.dims = s->head_dim, .base = 10000.0};
    s->n_ropes = 1;
    PS_TRY(ps_gguf_reader_int(r, "rope.dimension_count", 2, s->head_dim, &rope->dims));
    PS_TRY(ps_gguf_reader_real(r, "rope.freq_base", &rope->base));
    PS_TRY(read_scaling(r, rope));
    PS_TRY(read_rope_tensors(r, rope));
    for (int l = 0; l < s->n_layers; l++) {
        s->layers[l].rope = 0;
    }
    return PS_OK;
}

/* ---- tokens ---- */

static ps_err read_token(const ps_gguf_reader *r, const char *key, int32_t *out)
{
    int64_t id = *out;
    // Some files write -1 for "none", as u32.
    const ps_gguf_value *value = ps_gguf_find(r->gguf, key);
    if (value && value->kind == PS_GGUF_U32 && !value->is_array &&
        ps_gguf_int_at(value, 0) == UINT32_MAX)
        return PS_OK;
    PS_TRY(ps_gguf_find_int(r->gguf, key, -1, r->spec->vocab_size - 1, &id));
    *out = (int32_t)id;
    return PS_OK;
}

ps_err ps_gguf_reader_tokens(const ps_gguf_reader *r)
{
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    ps_spec *s = r->spec;
    s->bos_id = -1;
    PS_TRY(read_token(r, "tokenizer.ggml.bos_token_id", &s->bos_id));
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        int32_t id = -1;
        PS_TRY(read_token(r, ends[i], &id));
        if (id >= 0 && !ps_spec_is_eos(s, id)) s->eos_ids[s->n_eos++] = id;
    }
    // ggml's defaults where the key is absent: SentencePiece vocabularies, and Llama 3's.
    const char *model = "", *pre = "";
    PS_TRY(ps_gguf_find_text(r->gguf, "tokenizer.ggml.model", &model));
    PS_TRY(ps_gguf_find_text(r->gguf, "tokenizer.ggml.pre", &pre));
    s->add_bos = strcmp(model, "llama") == 0 || strcmp(pre, "llama-bpe") == 0 ||
                 strcmp(pre, "llama3") == 0 || strcmp(pre, "llama-v3") == 0;
    PS_TRY(ps_gguf_find_bool(r->gguf, "tokenizer.ggml.add_bos_token", &s->add_bos));
    if (s->bos_id < 0) s->add_bos = false;
    return PS_OK;
}

/* ---- keys that nobody asked for ---- */

/* Say nothing about the computation. */
static const char *const harmless[] = {
    "pooling_type",           // of embeddings made from the last layer
    "rope.scaling.finetuned", // where it is a remark (Granite reads it)
    "tensor_data_layout",     // a remark of old converters
};

/* Parts of a model that are not computed here: the key may be there if it says that there are none.
 */
static const char *const must_be_zero[] = {
    "expert_shared_count",
    "expert_shared_feed_forward_length",
    "leading_dense_block_count",
    "nextn_predict_layers",
};

static bool is_listed(const char *name, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(name, list[i]) == 0) return true;
    }
    return false;
}

static bool is_zero(const ps_gguf_value *value)
{
    return !value->is_array && value->kind != PS_GGUF_STRING && ps_gguf_real_at(value, 0) == 0.0;
}

ps_err ps_gguf_reader_check_all_used(const ps_gguf_reader *r)
{
    const size_t prefix = strlen(r->arch);
    for (int i = 0; i < ps_gguf_key_count(r->gguf); i++) {
        const ps_gguf_value *value = ps_gguf_key_at(r->gguf, i);
        if (ps_gguf_key_is_used(r->gguf, i) || strncmp(value->key, r->arch, prefix) != 0 ||
            value->key[prefix] != '.')
            continue;
        const char *name = value->key + prefix + 1;
        if (is_listed(name, harmless, sizeof harmless / sizeof harmless[0])) continue;
        if (is_listed(name, must_be_zero, sizeof must_be_zero / sizeof must_be_zero[0]) &&
            is_zero(value))
            continue;
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: key %.200s is not understood, and it may change the computation",
                       ps_gguf_path(r->gguf), value->key);
    }
    return PS_OK;
}
