/* Readers of the keys that several families share. */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "tool/import/families_parts.h"

const ps_size_keys ps_size_keys_llama = {
    .width = {"hidden_size"},
    .ffn = {"intermediate_size"},
    .layers = {"num_hidden_layers"},
    .heads = {"num_attention_heads"},
    .kv_heads = {"num_key_value_heads"},
    .head_dim = "head_dim",
    .context = {"max_position_embeddings"},
};

/* The value under any of up to three spellings. Files may have several of one key: they must agree.
 * *found is the spelling that was there, or NULL. */
static ps_err read_spelled(ps_config *c, const char *const keys[3], int min, int max, int *out,
                           const char **found)
{
    *found = NULL;
    for (int i = 0; i < 3 && keys[i]; i++) {
        int value = 0;
        if (!ps_config_take(c, keys[i])) continue;
        PS_TRY(ps_config_int(c, keys[i], min, max, &value));
        if (*found && value != *out)
            return PS_FAIL(PS_ERR_FORMAT, "%s: %s is %d, but %s is %d", c->path, *found, *out,
                           keys[i], value);
        *found = keys[i];
        *out = value;
    }
    return PS_OK;
}

static ps_err read_optional(ps_config *c, const char *const keys[3], int min, int max, int *out)
{
    const char *found;
    return read_spelled(c, keys, min, max, out, &found);
}

static ps_err read_needed(ps_config *c, const char *const keys[3], int min, int max, int *out)
{
    const char *found;
    PS_TRY(read_spelled(c, keys, min, max, out, &found));
    return found ? PS_OK : ps_config_need_int(c, keys[0], min, max, out); // says that it is missing
}

static ps_err read_heads(ps_config *c, ps_spec *s, const ps_size_keys *keys)
{
    PS_TRY(read_needed(c, keys->heads, 1, PS_SPEC_WIDTH_MAX, &s->n_heads));
    s->n_kv_heads = s->n_heads;
    PS_TRY(read_optional(c, keys->kv_heads, 1, s->n_heads, &s->n_kv_heads));
    s->head_dim = s->d_model / s->n_heads;
    if (keys->head_dim)
        PS_TRY(ps_config_int(c, keys->head_dim, 1, PS_SPEC_HEAD_DIM_MAX, &s->head_dim));
    if (s->head_dim < 1)
        return PS_FAIL(PS_ERR_FORMAT, "%s: %d heads leave none of the width %d to each", c->path,
                       s->n_heads, s->d_model);
    s->attention_scale = 1.0 / sqrt((double)s->head_dim);
    return PS_OK;
}

ps_err ps_read_sizes(ps_config *c, ps_spec *s, const ps_size_keys *keys)
{
    int n_layers, context = 0;
    PS_TRY(read_needed(c, keys->width, 1, PS_SPEC_WIDTH_MAX, &s->d_model));
    PS_TRY(read_needed(c, keys->layers, 1, PS_SPEC_LAYERS_MAX, &n_layers));
    PS_TRY(read_heads(c, s, keys));
    PS_TRY(ps_config_need_int(c, "vocab_size", 1, PS_SPEC_VOCAB_MAX, &s->vocab_size));
    s->d_ff = s->d_model <= PS_SPEC_WIDTH_MAX / 4 ? 4 * s->d_model : PS_SPEC_WIDTH_MAX;
    PS_TRY(keys->ffn_optional ? read_optional(c, keys->ffn, 1, PS_SPEC_WIDTH_MAX, &s->d_ff)
                              : read_needed(c, keys->ffn, 1, PS_SPEC_WIDTH_MAX, &s->d_ff));
    PS_TRY(read_optional(c, keys->context, 0, INT32_MAX, &context));
    s->context = context;
    ps_spec_take_layers(s, n_layers);
    return PS_OK;
}

ps_err ps_read_activation(ps_config *c, ps_spec *s, const char *key, const char *fallback)
{
    static const struct {
        const char *name;
        ps_activation_kind kind;
    } names[] = {{"silu", PS_ACTIVATION_SILU},
                 {"swish", PS_ACTIVATION_SILU},
                 {"gelu", PS_ACTIVATION_GELU},
                 {"gelu_python", PS_ACTIVATION_GELU},
                 {"gelu_new", PS_ACTIVATION_GELU_TANH},
                 {"gelu_fast", PS_ACTIVATION_GELU_TANH},
                 {"gelu_pytorch_tanh", PS_ACTIVATION_GELU_TANH},
                 {"quick_gelu", PS_ACTIVATION_GELU_QUICK},
                 {"relu", PS_ACTIVATION_RELU},
                 {"relu2", PS_ACTIVATION_RELU2}};
    const char *name = fallback;
    PS_TRY(ps_config_text(c, key, &name));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i].name, name) != 0) continue;
        s->activation = names[i].kind;
        return PS_OK;
    }
    return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: %s %s is not computed here", c->path, key, name);
}

ps_err ps_read_norm(ps_config *c, ps_spec *s, ps_norm_kind kind, const char *key, double fallback)
{
    s->norm = kind;
    s->norm_eps = fallback;
    return ps_config_real(c, key, &s->norm_eps);
}

ps_err ps_read_attention_bias(ps_config *c, ps_spec *s, bool fallback)
{
    bool bias = fallback;
    PS_TRY(ps_config_bool(c, "attention_bias", &bias));
    s->qkv_bias = s->o_bias = bias;
    return PS_OK;
}

ps_err ps_want_flag(ps_config *c, const char *key, bool wanted)
{
    bool found = wanted;
    PS_TRY(ps_config_bool(c, key, &found));
    if (found == wanted) return PS_OK;
    return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: %s %s is not computed here", c->path, key,
                   found ? "true" : "false");
}

/* ---- windows ---- */

bool ps_slides_never(int layer, int arg)
{
    (void)layer;
    (void)arg;
    return false;
}

bool ps_slides_from(int layer, int arg)
{
    return layer >= arg;
}

bool ps_slides_but_every(int layer, int arg)
{
    return (layer + 1) % arg != 0;
}

ps_err ps_read_windows(ps_config *c, ps_spec *s, int window, bool (*slides)(int layer, int arg),
                       int arg)
{
    const json_t *types = ps_config_take(c, "layer_types");
    if (types && (!json_is_array(types) || json_array_size(types) != (size_t)s->n_layers))
        return PS_FAIL(PS_ERR_FORMAT, "%s: layer_types does not name %d layers", c->path,
                       s->n_layers);
    for (int l = 0; l < s->n_layers; l++) {
        bool has_window = window > 0 && slides(l, arg);
        const char *type = types ? json_string_value(json_array_get(types, (size_t)l)) : NULL;
        if (types && (!type || (strcmp(type, "full_attention") != 0 &&
                                strcmp(type, "sliding_attention") != 0)))
            return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: layer_types[%d] is %s, not computed here",
                           c->path, l, type ? type : "no string");
        if (type) has_window = strcmp(type, "sliding_attention") == 0;
        if (has_window && window <= 0)
            return PS_FAIL(PS_ERR_FORMAT,
                           "%s: layer_types[%d] slides, but sliding_window is not set", c->path, l);
        s->layers[l].window = has_window ? window : 0;
    }
    return PS_OK;
}

ps_err ps_read_window(ps_config *c, int fallback, int *out)
{
    *out = json_object_get(c->root, "sliding_window") ? 0 : fallback;
    return ps_config_int(c, "sliding_window", 1, INT32_MAX, out);
}

void ps_give_ropes(ps_spec *s)
{
    for (int l = 0; l < s->n_layers; l++) {
        s->layers[l].rope = s->n_ropes > 1 && s->layers[l].window > 0 ? 1 : 0;
    }
}

void ps_give_alibi(ps_spec *s, double max_exponent, double factor)
{
    s->n_ropes = 0;
    for (int l = 0; l < s->n_layers; l++) {
        s->layers[l].rope = -1;
        s->layers[l].n_biases = 1;
        s->layers[l].biases[0] =
            (ps_bias_spec){.kind = PS_BIAS_ALIBI, .max_exponent = max_exponent, .factor = factor};
    }
}
