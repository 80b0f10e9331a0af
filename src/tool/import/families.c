#include "tool/import/families.h"

#include <math.h>
#include <string.h>

#include "base/json.h"

struct ps_family {
    const char *model_type;
    ps_err (*read)(ps_config *config, ps_spec *spec); // what is special about the family
    const char *const *names;                         // [PS_ROLE_COUNT]; %d is the layer
};

/* ---- what Llama-shaped configs share ---- */

static ps_err read_sizes(ps_config *c, ps_spec *s)
{
    int n_layers;
    PS_TRY(ps_config_need_int(c, "hidden_size", 1, PS_SPEC_WIDTH_MAX, &s->d_model));
    PS_TRY(ps_config_need_int(c, "intermediate_size", 1, PS_SPEC_WIDTH_MAX, &s->d_ff));
    PS_TRY(ps_config_need_int(c, "num_hidden_layers", 1, PS_SPEC_LAYERS_MAX, &n_layers));
    PS_TRY(ps_config_need_int(c, "num_attention_heads", 1, PS_SPEC_WIDTH_MAX, &s->n_heads));
    PS_TRY(ps_config_need_int(c, "vocab_size", 1, PS_SPEC_VOCAB_MAX, &s->vocab_size));
    s->n_kv_heads = s->n_heads;
    PS_TRY(ps_config_int(c, "num_key_value_heads", 1, s->n_heads, &s->n_kv_heads));
    s->head_dim = s->d_model / s->n_heads;
    PS_TRY(ps_config_int(c, "head_dim", 1, PS_SPEC_HEAD_DIM_MAX, &s->head_dim));
    if (s->head_dim < 1)
        return PS_FAIL(PS_ERR_FORMAT,
                       "%s: hidden_size %d over num_attention_heads %d leaves no head", c->path,
                       s->d_model, s->n_heads);
    ps_spec_take_layers(s, n_layers);
    s->attention_scale = 1.0 / sqrt((double)s->head_dim);
    int context = 0;
    PS_TRY(ps_config_int(c, "max_position_embeddings", 0, INT32_MAX, &context));
    s->context = context;
    return PS_OK;
}

static ps_err read_common(ps_config *c, ps_spec *s)
{
    PS_TRY(read_sizes(c, s));
    s->norm_eps = 1e-6;
    PS_TRY(ps_config_real(c, "rms_norm_eps", &s->norm_eps));
    const char *activation = "silu";
    PS_TRY(ps_config_text(c, "hidden_act", &activation));
    if (strcmp(activation, "silu") != 0 && strcmp(activation, "swish") != 0)
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: hidden_act %s is not computed here", c->path,
                       activation);
    PS_TRY(ps_config_bool(c, "tie_word_embeddings", &s->tied_head));
    s->bos_id = -1;
    int bos[1], n_bos = 0;
    PS_TRY(ps_config_token_ids(c, "bos_token_id", 1, bos, &n_bos));
    if (n_bos == 1) s->bos_id = bos[0];
    return ps_config_token_ids(c, "eos_token_id", PS_SPEC_EOS_MAX, s->eos_ids, &s->n_eos);
}

/* ---- RoPE: flat keys of older files, or everything inside rope_parameters ---- */

static ps_err reject_unknown(const json_t *object, const char *where, const char *const *known,
                             size_t n_known)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        bool found = false;
        for (size_t i = 0; i < n_known && !found; i++) {
            found = strcmp(known[i], key) == 0;
        }
        if (!found && !json_is_null(value))
            return PS_FAIL(PS_ERR_UNSUPPORTED,
                           "%s: key %s of the rope parameters is not understood", where, key);
    }
    return PS_OK;
}

static ps_err read_llama3(const json_t *o, const char *where, ps_rope *rope)
{
    static const char *const known[] = {
        "type",   "rope_type",       "rope_theta",       "partial_rotary_factor",
        "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"};
    rope->kind = PS_ROPE_LLAMA3;
    PS_TRY(reject_unknown(o, where, known, sizeof known / sizeof known[0]));
    PS_TRY(ps_json_get_real(o, "factor", where, &rope->factor));
    PS_TRY(ps_json_get_real(o, "low_freq_factor", where, &rope->low_factor));
    PS_TRY(ps_json_get_real(o, "high_freq_factor", where, &rope->high_factor));
    return ps_json_get_real(o, "original_max_position_embeddings", where, &rope->original_length);
}

static ps_err read_linear(const json_t *o, const char *where, ps_rope *rope)
{
    static const char *const known[] = {"type", "rope_type", "rope_theta", "partial_rotary_factor",
                                        "factor"};
    rope->kind = PS_ROPE_LINEAR;
    PS_TRY(reject_unknown(o, where, known, sizeof known / sizeof known[0]));
    return ps_json_get_real(o, "factor", where, &rope->factor);
}

static ps_err read_default(const json_t *o, const char *where, ps_rope *rope)
{
    static const char *const known[] = {"type", "rope_type", "rope_theta", "partial_rotary_factor"};
    rope->kind = PS_ROPE_DEFAULT;
    return reject_unknown(o, where, known, sizeof known / sizeof known[0]);
}

static const struct {
    const char *type;
    ps_err (*read)(const json_t *object, const char *where, ps_rope *rope);
} rope_types[] = {{"default", read_default}, {"linear", read_linear}, {"llama3", read_llama3}};

/* One variant from a JSON object; NULL means plain RoPE. theta and dims are already set. */
static ps_err read_rope_object(const json_t *o, const char *where, ps_rope *rope)
{
    rope->kind = PS_ROPE_DEFAULT;
    if (!o) return PS_OK;
    if (!json_is_object(o))
        return PS_FAIL(PS_ERR_FORMAT, "%s: the rope parameters are not an object", where);
    const char *type = "default";
    PS_TRY(ps_json_opt_text(o, "type", where, &type));
    PS_TRY(ps_json_opt_text(o, "rope_type", where, &type));
    PS_TRY(ps_json_opt_real(o, "rope_theta", where, &rope->base));
    for (size_t i = 0; i < sizeof rope_types / sizeof rope_types[0]; i++) {
        if (strcmp(type, rope_types[i].type) == 0) return rope_types[i].read(o, where, rope);
    }
    return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: rope type %s is not computed here", where, type);
}

static ps_err read_rope(ps_config *c, ps_spec *s)
{
    ps_rope rope = {.dims = s->head_dim, .base = 10000.0};
    PS_TRY(ps_config_real(c, "rope_theta", &rope.base));
    const json_t *flat = ps_config_take(c, "rope_scaling");
    const json_t *nested = ps_config_take(c, "rope_parameters");
    if (flat && nested && !json_equal(flat, nested))
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: rope_scaling and rope_parameters are both there, and differ", c->path);
    double partial = 1.0;
    PS_TRY(ps_config_real(c, "partial_rotary_factor", &partial));
    if (json_is_object(nested))
        PS_TRY(ps_json_opt_real(nested, "partial_rotary_factor", c->path, &partial));
    if (!(partial > 0.0 && partial <= 1.0))
        return PS_FAIL(PS_ERR_FORMAT, "%s: partial_rotary_factor is %g, wanted 0..1", c->path,
                       partial);
    rope.dims = (int)((double)s->head_dim * partial);
    PS_TRY(read_rope_object(nested ? nested : flat, c->path, &rope));
    s->ropes[0] = rope;
    s->n_ropes = 1;
    return PS_OK;
}

/* ---- windows ---- */

/* layer_types decides where it stands; else layers from `first_window_layer` on have the window. */
static ps_err read_windows(ps_config *c, ps_spec *s, int window, int first_window_layer)
{
    const json_t *types = ps_config_take(c, "layer_types");
    if (types && (!json_is_array(types) || json_array_size(types) != (size_t)s->n_layers))
        return PS_FAIL(PS_ERR_FORMAT, "%s: layer_types does not name %d layers", c->path,
                       s->n_layers);
    for (int l = 0; l < s->n_layers; l++) {
        bool has_window = window > 0 && l >= first_window_layer;
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

/* Both families' configurations have a window of 4096 where the key is absent; null means none. */
static ps_err read_window(ps_config *c, int *window)
{
    *window = json_object_get(c->root, "sliding_window") ? 0 : 4096;
    return ps_config_int(c, "sliding_window", 1, INT32_MAX, window);
}

/* ---- the families ---- */

static ps_err read_llama(ps_config *c, ps_spec *s)
{
    bool attention_bias = false;
    PS_TRY(ps_config_bool(c, "attention_bias", &attention_bias));
    PS_TRY(ps_config_bool(c, "mlp_bias", &s->mlp_bias));
    s->qkv_bias = s->o_bias = attention_bias;
    return read_windows(c, s, 0, 0);
}

static ps_err read_mistral(ps_config *c, ps_spec *s)
{
    int window;
    PS_TRY(read_window(c, &window));
    return read_windows(c, s, window, 0);
}

static ps_err read_qwen3(ps_config *c, ps_spec *s)
{
    bool attention_bias = false, use_window = false;
    int window, max_window_layers = 28; // what the family's configuration has where it is absent
    s->qk_norm = true;
    PS_TRY(ps_config_bool(c, "attention_bias", &attention_bias));
    s->qkv_bias = s->o_bias = attention_bias;
    PS_TRY(ps_config_bool(c, "use_sliding_window", &use_window));
    PS_TRY(read_window(c, &window));
    PS_TRY(ps_config_int(c, "max_window_layers", 0, INT32_MAX, &max_window_layers));
    return read_windows(c, s, use_window ? window : 0, max_window_layers);
}

/* The tune model: Llama with a window for each layer and the relative-position bias. */
static ps_err read_relpos_llama(ps_config *c, ps_spec *s)
{
    const char *score_bias = "none";
    PS_TRY(ps_config_text(c, "attention_score_bias", &score_bias));
    if (strcmp(score_bias, "rel_pos") != 0)
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: attention_score_bias %s is not computed here",
                       c->path, score_bias);
    ps_bias_spec bias = {
        .kind = PS_BIAS_REL_POS, .dim = s->n_heads * s->head_dim, .theta = 10000.0};
    PS_TRY(ps_config_int(c, "rel_pos_dim", 2, PS_SPEC_WIDTH_MAX, &bias.dim));
    PS_TRY(ps_config_real(c, "rel_pos_theta", &bias.theta));
    PS_TRY(read_llama(c, s));
    const json_t *windows = ps_config_take(c, "layer_windows");
    if (windows && (!json_is_array(windows) || json_array_size(windows) != (size_t)s->n_layers))
        return PS_FAIL(PS_ERR_FORMAT, "%s: layer_windows does not name %d layers", c->path,
                       s->n_layers);
    for (int l = 0; l < s->n_layers; l++) {
        s->layers[l].n_biases = 1;
        s->layers[l].biases[0] = bias;
        const json_t *window = windows ? json_array_get(windows, (size_t)l) : NULL;
        if (!window || json_is_null(window)) continue;
        if (!json_is_integer(window) || json_integer_value(window) < 1 ||
            json_integer_value(window) > INT32_MAX)
            return PS_FAIL(PS_ERR_FORMAT, "%s: layer_windows[%d] is not a number of positions",
                           c->path, l);
        s->layers[l].window = json_integer_value(window);
    }
    return PS_OK;
}

static const char *const llama_names[PS_ROLE_COUNT] = {
    [PS_ROLE_EMBED] = "model.embed_tokens.weight",
    [PS_ROLE_FINAL_NORM] = "model.norm.weight",
    [PS_ROLE_HEAD] = "lm_head.weight",
    [PS_ROLE_ATTENTION_NORM] = "model.layers.%d.input_layernorm.weight",
    [PS_ROLE_Q] = "model.layers.%d.self_attn.q_proj.weight",
    [PS_ROLE_K] = "model.layers.%d.self_attn.k_proj.weight",
    [PS_ROLE_V] = "model.layers.%d.self_attn.v_proj.weight",
    [PS_ROLE_O] = "model.layers.%d.self_attn.o_proj.weight",
    [PS_ROLE_Q_BIAS] = "model.layers.%d.self_attn.q_proj.bias",
    [PS_ROLE_K_BIAS] = "model.layers.%d.self_attn.k_proj.bias",
    [PS_ROLE_V_BIAS] = "model.layers.%d.self_attn.v_proj.bias",
    [PS_ROLE_O_BIAS] = "model.layers.%d.self_attn.o_proj.bias",
    [PS_ROLE_Q_NORM] = "model.layers.%d.self_attn.q_norm.weight",
    [PS_ROLE_K_NORM] = "model.layers.%d.self_attn.k_norm.weight",
    [PS_ROLE_REL_POS_W] = "model.layers.%d.self_attn.linear_pos.weight",
    [PS_ROLE_REL_POS_U] = "model.layers.%d.self_attn.pos_bias_u",
    [PS_ROLE_REL_POS_V] = "model.layers.%d.self_attn.pos_bias_v",
    [PS_ROLE_MLP_NORM] = "model.layers.%d.post_attention_layernorm.weight",
    [PS_ROLE_GATE] = "model.layers.%d.mlp.gate_proj.weight",
    [PS_ROLE_UP] = "model.layers.%d.mlp.up_proj.weight",
    [PS_ROLE_DOWN] = "model.layers.%d.mlp.down_proj.weight",
    [PS_ROLE_GATE_BIAS] = "model.layers.%d.mlp.gate_proj.bias",
    [PS_ROLE_UP_BIAS] = "model.layers.%d.mlp.up_proj.bias",
    [PS_ROLE_DOWN_BIAS] = "model.layers.%d.mlp.down_proj.bias",
};

static const ps_family families[] = {
    {"llama", read_llama, llama_names},
    {"mistral", read_mistral, llama_names},
    {"qwen3", read_qwen3, llama_names},
    {"relpos_llama", read_relpos_llama, llama_names},
};

enum { N_FAMILIES = sizeof families / sizeof families[0] };

static ps_err find_family(ps_config *config, const ps_family **out)
{
    const char *model_type = NULL;
    PS_TRY(ps_config_text(config, "model_type", &model_type));
    if (!model_type) return PS_FAIL(PS_ERR_FORMAT, "%s: key model_type is missing", config->path);
    ps_text known = {0};
    for (int i = 0; i < N_FAMILIES; i++) {
        if (strcmp(families[i].model_type, model_type) == 0) {
            *out = &families[i];
            ps_text_release(&known);
            return PS_OK;
        }
        ps_text_appendf(&known, " %s", families[i].model_type);
    }
    const ps_err err = PS_FAIL(PS_ERR_UNSUPPORTED, "%s: model_type %s is not one of%s",
                               config->path, model_type, ps_text_str(&known));
    ps_text_release(&known);
    return err;
}

ps_err ps_family_read(ps_config *config, const ps_family **family, ps_spec *spec)
{
    *spec = (ps_spec){0};
    PS_TRY(find_family(config, family));
    strncpy(spec->family, (*family)->model_type, sizeof spec->family - 1);
    PS_TRY(read_common(config, spec));
    PS_TRY(read_rope(config, spec));
    PS_TRY((*family)->read(config, spec));
    PS_TRY(ps_config_check_all_used(config));
    return ps_spec_check(spec, config->path);
}

void ps_family_tensor_name(const ps_family *family, ps_role role, int layer, ps_text *out)
{
    const char *pattern = family->names[role];
    const char *place = strstr(pattern, "%d");
    if (!place) {
        ps_text_append_str(out, pattern);
        return;
    }
    ps_text_append(out, pattern, (size_t)(place - pattern));
    ps_text_appendf(out, "%d%s", layer, place + 2);
}

bool ps_family_ignores(const ps_family *family, const ps_spec *spec, const char *name)
{
    if (spec->tied_head && strcmp(name, family->names[PS_ROLE_HEAD]) == 0) return true;
    static const char buffer[] = ".rotary_emb.inv_freq";
    const size_t n = strlen(name), suffix = sizeof buffer - 1;
    return n > suffix && strcmp(name + n - suffix, buffer) == 0;
}
