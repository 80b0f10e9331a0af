/* Families that are about what is added to scores: our own (relpos_llama), which can say everything
 * that a spec can, and the forgetting transformer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "tool/import/families_parts.h"

#define LAYER "model.layers.%d."

/* ---- relpos_llama ---- */

static ps_bias_kind kind_of(const char *name)
{
    int kind = 0;
    while (kind < PS_BIAS_KIND_COUNT && strcmp(ps_bias_kind_name((ps_bias_kind)kind), name) != 0) {
        kind++;
    }
    return (ps_bias_kind)kind;
}

/* What a kind has where nothing is said: the published numbers. */
static ps_bias_spec plain_bias(ps_bias_kind kind, const ps_bias_spec *rel_pos)
{
    switch (kind) {
    case PS_BIAS_ALIBI:
        return (ps_bias_spec){.kind = kind, .max_exponent = 8.0, .factor = 1.0};
    case PS_BIAS_REL_POS:
        return *rel_pos;
    case PS_BIAS_T5:
        return (ps_bias_spec){.kind = kind, .n_buckets = 32, .max_distance = 128};
    case PS_BIAS_SANDWICH:
        return (ps_bias_spec){.kind = kind, .dim = 128};
    case PS_BIAS_FIRE:
        return (ps_bias_spec){.kind = kind, .width = 32};
    default:
        return (ps_bias_spec){.kind = kind};
    }
}

/* A name, or an object {"kind": name, ...} with numbers as the spec calls them. */
static ps_err read_bias(const ps_config *c, const char *key, const json_t *value,
                        const ps_bias_spec *rel_pos, ps_bias_spec *out)
{
    const json_t *named = json_is_object(value) ? json_object_get(value, "kind") : value;
    const char *name = json_string_value(named);
    if (!name)
        return PS_FAIL(PS_ERR_FORMAT, "%s: %s holds something that names no bias", c->path, key);
    const ps_bias_kind kind = kind_of(name);
    if (kind == PS_BIAS_KIND_COUNT || kind == PS_BIAS_CUSTOM)
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: %s %s is not computed here", c->path, key, name);
    *out = plain_bias(kind, rel_pos);
    if (!json_is_object(value)) return PS_OK;
    char *json = json_dumps(value, 0);
    const ps_err err = ps_spec_bias_from_json(json, strlen(json), c->path, out);
    free(json);
    return err;
}

/* One bias, or a list of them: a sum. "none", null and [] are none. */
static ps_err read_biases(const ps_config *c, const char *key, const json_t *value,
                          const ps_bias_spec *rel_pos, ps_layer_spec *out)
{
    const char *name = json_string_value(value);
    if (!value || json_is_null(value) || (name && strcmp(name, "none") == 0)) return PS_OK;
    if (!json_is_array(value)) {
        out->n_biases = 1;
        return read_bias(c, key, value, rel_pos, &out->biases[0]);
    }
    if (json_array_size(value) > PS_BIAS_MAX)
        return PS_FAIL(PS_ERR_FORMAT, "%s: %s has %zu biases, wanted at most %d", c->path, key,
                       json_array_size(value), PS_BIAS_MAX);
    out->n_biases = (int)json_array_size(value);
    for (int b = 0; b < out->n_biases; b++) {
        PS_TRY(read_bias(c, key, json_array_get(value, (size_t)b), rel_pos, &out->biases[b]));
    }
    return PS_OK;
}

/* The value of each layer under a key, NULL where the key is absent. */
static ps_err take_layers(ps_config *c, const char *key, int n_layers, const json_t **out)
{
    *out = ps_config_take(c, key);
    if (*out && (!json_is_array(*out) || json_array_size(*out) != (size_t)n_layers))
        return PS_FAIL(PS_ERR_FORMAT, "%s: %s does not name %d layers", c->path, key, n_layers);
    return PS_OK;
}

static ps_err read_score_biases(ps_config *c, ps_spec *s)
{
    ps_bias_spec rel_pos = {
        .kind = PS_BIAS_REL_POS, .dim = s->n_heads * s->head_dim, .theta = 10000.0};
    PS_TRY(ps_config_int(c, "rel_pos_dim", 2, PS_SPEC_WIDTH_MAX, &rel_pos.dim));
    PS_TRY(ps_config_real(c, "rel_pos_theta", &rel_pos.theta));
    const json_t *all = ps_config_take(c, "attention_score_bias"), *layers;
    PS_TRY(take_layers(c, "layer_score_biases", s->n_layers, &layers));
    if (all && layers)
        return PS_FAIL(PS_ERR_FORMAT,
                       "%s: attention_score_bias and layer_score_biases, wanted one of them",
                       c->path);
    for (int l = 0; l < s->n_layers; l++) {
        const json_t *own = layers ? json_array_get(layers, (size_t)l) : all;
        PS_TRY(read_biases(c, layers ? "layer_score_biases" : "attention_score_bias", own, &rel_pos,
                           &s->layers[l]));
    }
    return PS_OK;
}

/* A number of positions for each layer; 0 where it is null. */
static ps_err read_layer_length(ps_config *c, const char *key, const json_t *list, int layer,
                                int64_t *out)
{
    *out = 0;
    const json_t *value = list ? json_array_get(list, (size_t)layer) : NULL;
    if (!value || json_is_null(value)) return PS_OK;
    if (!json_is_integer(value) || json_integer_value(value) < 1 ||
        json_integer_value(value) > INT32_MAX)
        return PS_FAIL(PS_ERR_FORMAT, "%s: %s[%d] is not a number of positions", c->path, key,
                       layer);
    *out = json_integer_value(value);
    return PS_OK;
}

/* What the layers see. */
static ps_err read_visible(ps_config *c, ps_spec *s)
{
    const json_t *windows, *chunks;
    int left_chunks = 0, n_kept = 0;
    bool look_ahead = false;
    PS_TRY(take_layers(c, "layer_windows", s->n_layers, &windows));
    PS_TRY(take_layers(c, "layer_chunks", s->n_layers, &chunks));
    PS_TRY(ps_config_int(c, "left_chunks", -1, INT32_MAX, &left_chunks));
    PS_TRY(ps_config_bool(c, "look_ahead", &look_ahead));
    PS_TRY(ps_config_int(c, "kept_tokens", 0, PS_SPEC_KEPT_MAX, &n_kept));
    PS_TRY(ps_config_bool(c, "kept_at_cache", &s->kept_at_cache));
    s->n_kept = n_kept;
    for (int l = 0; l < s->n_layers; l++) {
        ps_layer_spec *layer = &s->layers[l];
        PS_TRY(read_layer_length(c, "layer_windows", windows, l, &layer->window));
        PS_TRY(read_layer_length(c, "layer_chunks", chunks, l, &layer->chunk));
        layer->left_chunks = layer->chunk > 0 ? left_chunks : 0;
        layer->look_ahead = look_ahead && layer->chunk > 0;
    }
    return PS_OK;
}

static ps_err read_softmax(ps_config *c, ps_spec *s)
{
    static const char *const gates[PS_OUTPUT_GATE_COUNT] = {"none", "heads", "elements"};
    const char *gate = gates[0];
    PS_TRY(ps_config_bool(c, "attention_sinks", &s->sinks));
    PS_TRY(ps_config_bool(c, "quiet_softmax", &s->quiet_softmax));
    PS_TRY(ps_config_real(c, "attn_logit_softcapping", &s->softcap));
    PS_TRY(ps_config_text(c, "output_gate", &gate));
    for (int i = 0; i < PS_OUTPUT_GATE_COUNT; i++) {
        if (strcmp(gate, gates[i]) != 0) continue;
        s->output_gate = (ps_output_gate)i;
        return PS_OK;
    }
    return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: output_gate %s is not computed here", c->path, gate);
}

static ps_err read_relpos_llama(ps_config *c, ps_import *m)
{
    ps_spec *s = &m->spec;
    bool use_rope = true;
    PS_TRY(ps_read_sizes(c, s, &ps_size_keys_llama));
    PS_TRY(ps_read_norm(c, s, PS_NORM_RMS, "rms_norm_eps", 1e-6));
    PS_TRY(ps_read_activation(c, s, "hidden_act", "silu"));
    PS_TRY(ps_read_attention_bias(c, s, false));
    PS_TRY(ps_config_bool(c, "mlp_bias", &s->mlp_bias));
    PS_TRY(ps_read_rope(c, s, s->head_dim, 1e4));
    PS_TRY(ps_config_bool(c, "use_rope", &use_rope));
    PS_TRY(read_visible(c, s));
    PS_TRY(read_softmax(c, s));
    if (!use_rope) s->n_ropes = 0;
    for (int l = 0; l < s->n_layers; l++) {
        s->layers[l].rope = use_rope ? 0 : -1;
    }
    return read_score_biases(c, s);
}

/* ---- the forgetting transformer ---- */

static const ps_tensor_from from_fox[PS_ROLE_COUNT] = {
    [PS_ROLE_EMBED] = {.name = "model.embeddings.weight"},
    [PS_ROLE_FINAL_NORM] = {.name = "model.norm.weight"},
    [PS_ROLE_HEAD] = {.name = "lm_head.weight"},
    [PS_ROLE_ATTENTION_NORM] = {.name = LAYER "attn_norm.weight"},
    [PS_ROLE_Q] = {.name = LAYER "attn.q_proj.weight"},
    [PS_ROLE_K] = {.name = LAYER "attn.k_proj.weight"},
    [PS_ROLE_V] = {.name = LAYER "attn.v_proj.weight"},
    [PS_ROLE_O] = {.name = LAYER "attn.o_proj.weight"},
    [PS_ROLE_FOX_WEIGHT] = {.name = LAYER "attn.fgate_proj.weight"},
    [PS_ROLE_FOX_BIAS] = {.name = LAYER "attn.fgate_proj.bias"},
    [PS_ROLE_OUTPUT_GATE] = {.name = LAYER "attn.ogate_proj.weight"},
    [PS_ROLE_MLP_NORM] = {.name = LAYER "mlp_norm.weight"},
    [PS_ROLE_GATE] = {.name = LAYER "mlp.gate_proj.weight", .rows = PS_ROWS_GATE_UP},
    [PS_ROLE_UP] = {.name = LAYER "mlp.gate_proj.weight", .rows = PS_ROWS_GATE_UP},
    [PS_ROLE_DOWN] = {.name = LAYER "mlp.down_proj.weight"},
};

/* A key that must have this value, or be absent or null. */
static ps_err want_text(ps_config *c, const char *key, const char *wanted)
{
    const char *found = wanted;
    PS_TRY(ps_config_text(c, key, &found));
    if (strcmp(found, wanted) == 0) return PS_OK;
    return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: %s %s is not computed here", c->path, key, found);
}

static ps_err want_absent(ps_config *c, const char *key)
{
    if (!ps_config_take(c, key)) return PS_OK;
    return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: %s is not computed here", c->path, key);
}

/* Width of the feed-forward part where no key says it: 2/3 hidden_ratio d_model, rounded up to a
 * multiple of 256. */
static ps_err read_fox_width(ps_config *c, ps_spec *s)
{
    double ratio = 4.0;
    PS_TRY(ps_config_real(c, "hidden_ratio", &ratio));
    if (json_is_integer(json_object_get(c->root, "intermediate_size"))) return PS_OK;
    const double width = (double)s->d_model * ratio * 2.0 / 3.0;
    if (!(width >= 1.0 && width <= PS_SPEC_WIDTH_MAX - 256))
        return PS_FAIL(PS_ERR_FORMAT, "%s: hidden_ratio is %g, wanted a width of 1..%d", c->path,
                       ratio, PS_SPEC_WIDTH_MAX - 256);
    s->d_ff = ((int)width + 255) / 256 * 256;
    return PS_OK;
}

/* The variant without shifted keys and values and without norms of q, k and the output. */
static ps_err refuse_pro(ps_config *c)
{
    static const char *const flags[] = {"qk_norm",         "qk_norm_share_param_across_head",
                                        "use_k_shift",     "use_v_shift",
                                        "use_output_norm", "attention_bias",
                                        "fgate_bias_init"};
    static const char *const absent[] = {"window_size", "decay_time_min", "decay_time_max"};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        PS_TRY(ps_want_flag(c, flags[i], false));
    }
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++) {
        PS_TRY(want_absent(c, absent[i]));
    }
    PS_TRY(ps_want_flag(c, "elementwise_affine", true));
    PS_TRY(want_text(c, "fgate_type", "full"));
    return want_text(c, "ogate_act", "sigmoid");
}

static ps_err read_fox(ps_config *c, ps_import *m)
{
    static const ps_size_keys keys = {.width = {"hidden_size"},
                                      .ffn = {"intermediate_size"},
                                      .layers = {"num_hidden_layers"},
                                      .heads = {"num_heads"},
                                      .kv_heads = {"num_kv_heads"},
                                      .context = {"max_position_embeddings"},
                                      .ffn_optional = true};
    ps_spec *s = &m->spec;
    bool use_rope = false, use_gate = false;
    double base = 5e5;
    snprintf(s->family, sizeof s->family, "forgetting_transformer");
    PS_TRY(ps_read_sizes(c, s, &keys));
    PS_TRY(read_fox_width(c, s));
    PS_TRY(ps_read_norm(c, s, PS_NORM_RMS, "norm_eps", 1e-6));
    PS_TRY(want_text(c, "hidden_act", "swish"));
    PS_TRY(refuse_pro(c));
    PS_TRY(ps_config_bool(c, "use_output_gate", &use_gate));
    PS_TRY(ps_config_bool(c, "use_rope", &use_rope));
    PS_TRY(ps_config_real(c, "rope_base", &base));
    if (use_gate) s->output_gate = PS_OUTPUT_GATE_ELEMENTS;
    if (use_rope) {
        s->n_ropes = 1;
        s->ropes[0] =
            (ps_rope){.kind = PS_ROPE_DEFAULT, .dims = s->head_dim, .base = base, .magnitude = 1.0};
    }
    for (int l = 0; l < s->n_layers; l++) {
        s->layers[l].rope = use_rope ? 0 : -1;
        s->layers[l].n_biases = 1;
        s->layers[l].biases[0] = (ps_bias_spec){.kind = PS_BIAS_FOX};
    }
    return PS_OK;
}

const ps_family ps_families_score[] = {
    {"relpos_llama", read_relpos_llama, ps_from_llama, false},
    {"forgetting_transformer-project_fox", read_fox, from_fox, false},
    {0},
};
