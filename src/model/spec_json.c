/* The spec as JSON and back. Written by hand so that equal specs give equal bytes; read through the
 * checked getters. Layers that repeat are written one by one: the file stays plain to read, and a
 * thousand layers are a few tens of kilobytes. */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "model/spec.h"

/* The whole-model numbers and flags: one table for writer, reader and the list of known keys. */
typedef enum { FIELD_INT, FIELD_REAL, FIELD_BOOL } field_type;

static const struct {
    const char *key;
    field_type type;
    size_t offset;
} fields[] = {
    {"n_layers", FIELD_INT, offsetof(ps_spec, n_layers)},
    {"d_model", FIELD_INT, offsetof(ps_spec, d_model)},
    {"n_heads", FIELD_INT, offsetof(ps_spec, n_heads)},
    {"n_kv_heads", FIELD_INT, offsetof(ps_spec, n_kv_heads)},
    {"head_dim", FIELD_INT, offsetof(ps_spec, head_dim)},
    {"d_ff", FIELD_INT, offsetof(ps_spec, d_ff)},
    {"vocab_size", FIELD_INT, offsetof(ps_spec, vocab_size)},
    {"norm_eps", FIELD_REAL, offsetof(ps_spec, norm_eps)},
    {"attention_scale", FIELD_REAL, offsetof(ps_spec, attention_scale)},
    {"qkv_bias", FIELD_BOOL, offsetof(ps_spec, qkv_bias)},
    {"o_bias", FIELD_BOOL, offsetof(ps_spec, o_bias)},
    {"mlp_bias", FIELD_BOOL, offsetof(ps_spec, mlp_bias)},
    {"qk_norm", FIELD_BOOL, offsetof(ps_spec, qk_norm)},
    {"tied_head", FIELD_BOOL, offsetof(ps_spec, tied_head)},
    {"add_bos", FIELD_BOOL, offsetof(ps_spec, add_bos)},
};

enum { N_FIELDS = sizeof fields / sizeof fields[0] };

static const char *const other_keys[] = {"family",  "context", "bos_id",
                                         "eos_ids", "ropes",   "layers"};

static void append_field(const ps_spec *spec, int i, ps_text *out)
{
    const char *at = (const char *)spec + fields[i].offset;
    ps_text_appendf(out, " \"%s\": ", fields[i].key);
    switch (fields[i].type) {
    case FIELD_INT:
        ps_text_appendf(out, "%d", *(const int *)(const void *)at);
        break;
    case FIELD_REAL:
        ps_json_append_real(out, *(const double *)(const void *)at);
        break;
    case FIELD_BOOL:
        ps_text_append_str(out, *(const bool *)at ? "true" : "false");
        break;
    }
    ps_text_append_str(out, ",\n");
}

static void append_real_key(ps_text *out, const char *key, double value)
{
    ps_text_appendf(out, ", \"%s\": ", key);
    ps_json_append_real(out, value);
}

static void append_rope(const ps_rope *rope, ps_text *out)
{
    ps_text_appendf(out, "{\"kind\": \"%s\", \"dims\": %d", ps_rope_kind_name(rope->kind),
                    rope->dims);
    append_real_key(out, "base", rope->base);
    if (rope->kind == PS_ROPE_LINEAR || rope->kind == PS_ROPE_LLAMA3)
        append_real_key(out, "factor", rope->factor);
    if (rope->kind == PS_ROPE_LLAMA3) {
        append_real_key(out, "low_factor", rope->low_factor);
        append_real_key(out, "high_factor", rope->high_factor);
        append_real_key(out, "original_length", rope->original_length);
    }
    ps_text_append_char(out, '}');
}

static void append_bias(const ps_bias_spec *bias, ps_text *out)
{
    ps_text_appendf(out, "{\"kind\": \"%s\"", ps_bias_kind_name(bias->kind));
    if (bias->kind == PS_BIAS_ALIBI) append_real_key(out, "max_exponent", bias->max_exponent);
    if (bias->kind == PS_BIAS_REL_POS) {
        ps_text_appendf(out, ", \"dim\": %d", bias->dim);
        append_real_key(out, "theta", bias->theta);
    }
    ps_text_append_char(out, '}');
}

static void append_layer(const ps_layer_spec *layer, ps_text *out)
{
    ps_text_appendf(out, "  {\"window\": %lld, \"rope\": %d, \"biases\": [",
                    (long long)layer->window, layer->rope);
    for (int b = 0; b < layer->n_biases; b++) {
        if (b > 0) ps_text_append_str(out, ", ");
        append_bias(&layer->biases[b], out);
    }
    ps_text_append_str(out, "]}");
}

void ps_spec_to_json(const ps_spec *spec, ps_text *out)
{
    ps_text_append_str(out, "{\n \"family\": ");
    ps_json_append_text(out, spec->family, strlen(spec->family));
    ps_text_append_str(out, ",\n");
    for (int i = 0; i < N_FIELDS; i++) {
        append_field(spec, i, out);
    }
    ps_text_appendf(out, " \"context\": %lld,\n \"bos_id\": %d,\n \"eos_ids\": [",
                    (long long)spec->context, spec->bos_id);
    for (int i = 0; i < spec->n_eos; i++) {
        ps_text_appendf(out, i > 0 ? ", %d" : "%d", spec->eos_ids[i]);
    }
    ps_text_append_str(out, "],\n \"ropes\": [");
    for (int r = 0; r < spec->n_ropes; r++) {
        if (r > 0) ps_text_append_str(out, ", ");
        append_rope(&spec->ropes[r], out);
    }
    ps_text_append_str(out, "],\n \"layers\": [\n");
    for (int l = 0; l < spec->n_layers; l++) {
        append_layer(&spec->layers[l], out);
        ps_text_append_str(out, l + 1 < spec->n_layers ? ",\n" : "\n");
    }
    ps_text_append_str(out, " ]\n}\n");
}

static ps_err read_field(const json_t *object, int i, const char *where, ps_spec *spec)
{
    char *at = (char *)spec + fields[i].offset;
    json_t *value;
    switch (fields[i].type) {
    case FIELD_INT:
        return ps_json_get_int(object, fields[i].key, INT32_MIN, INT32_MAX, where,
                               (int *)(void *)at);
    case FIELD_REAL:
        return ps_json_get_real(object, fields[i].key, where, (double *)(void *)at);
    default:
        PS_TRY(ps_json_get(object, fields[i].key, JSON_TRUE, where, &value));
        *(bool *)at = json_is_true(value);
        return PS_OK;
    }
}

static bool is_known_key(const char *key)
{
    for (int i = 0; i < N_FIELDS; i++) {
        if (strcmp(fields[i].key, key) == 0) return true;
    }
    for (size_t i = 0; i < sizeof other_keys / sizeof other_keys[0]; i++) {
        if (strcmp(other_keys[i], key) == 0) return true;
    }
    return false;
}

/* Only the first n_known of `known` may stand in the object. */
static ps_err check_keys(const json_t *object, const char *const *known, int n_known,
                         const char *what, const char *where)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        bool found = false;
        for (int i = 0; i < n_known && !found; i++) {
            found = strcmp(known[i], key) == 0;
        }
        if (!found)
            return PS_FAIL(PS_ERR_FORMAT, "%s: unknown key %s of a %s (made by a newer version?)",
                           where, key, what);
    }
    return PS_OK;
}

static ps_err read_rope(const json_t *object, const char *where, ps_rope *rope)
{
    static const char *const keys[] = {"kind",       "dims",        "base",           "factor",
                                       "low_factor", "high_factor", "original_length"};
    static const int n_keys[PS_ROPE_KIND_COUNT] = {
        [PS_ROPE_DEFAULT] = 3, [PS_ROPE_LINEAR] = 4, [PS_ROPE_LLAMA3] = 7};
    const char *kind;
    PS_TRY(ps_json_get_text(object, "kind", where, &kind));
    rope->kind = PS_ROPE_KIND_COUNT;
    for (int k = PS_ROPE_DEFAULT; k < PS_ROPE_KIND_COUNT; k++) {
        if (strcmp(kind, ps_rope_kind_name((ps_rope_kind)k)) == 0) rope->kind = (ps_rope_kind)k;
    }
    if (rope->kind == PS_ROPE_KIND_COUNT)
        return PS_FAIL(PS_ERR_FORMAT, "%s: unknown rope kind %s", where, kind);
    PS_TRY(check_keys(object, keys, n_keys[rope->kind], "rope", where));
    PS_TRY(ps_json_get_int(object, "dims", 0, PS_SPEC_HEAD_DIM_MAX, where, &rope->dims));
    PS_TRY(ps_json_get_real(object, "base", where, &rope->base));
    PS_TRY(ps_json_opt_real(object, "factor", where, &rope->factor));
    PS_TRY(ps_json_opt_real(object, "low_factor", where, &rope->low_factor));
    PS_TRY(ps_json_opt_real(object, "high_factor", where, &rope->high_factor));
    return ps_json_opt_real(object, "original_length", where, &rope->original_length);
}

static ps_err read_bias(const json_t *object, const char *where, ps_bias_spec *bias)
{
    static const char *const keys[PS_BIAS_KIND_COUNT][3] = {
        [PS_BIAS_ALIBI] = {"kind", "max_exponent", "max_exponent"},
        [PS_BIAS_REL_POS] = {"kind", "dim", "theta"},
        [PS_BIAS_CUSTOM] = {"kind", "kind", "kind"}};
    const char *kind;
    PS_TRY(ps_json_get_text(object, "kind", where, &kind));
    bias->kind = PS_BIAS_KIND_COUNT;
    for (int k = 0; k < PS_BIAS_KIND_COUNT; k++) {
        if (strcmp(kind, ps_bias_kind_name((ps_bias_kind)k)) == 0) bias->kind = (ps_bias_kind)k;
    }
    if (bias->kind == PS_BIAS_KIND_COUNT)
        return PS_FAIL(PS_ERR_FORMAT, "%s: unknown bias kind %s", where, kind);
    PS_TRY(check_keys(object, keys[bias->kind], 3, "bias", where));
    PS_TRY(ps_json_opt_real(object, "max_exponent", where, &bias->max_exponent));
    PS_TRY(ps_json_opt_int(object, "dim", 0, PS_SPEC_WIDTH_MAX, where, &bias->dim));
    return ps_json_opt_real(object, "theta", where, &bias->theta);
}

static ps_err read_layer(const json_t *object, const char *where, ps_layer_spec *layer)
{
    static const char *const keys[] = {"window", "rope", "biases"};
    int window;
    json_t *biases;
    PS_TRY(check_keys(object, keys, 3, "layer", where));
    PS_TRY(ps_json_get_int(object, "window", 0, INT32_MAX, where, &window));
    layer->window = window;
    PS_TRY(ps_json_get_int(object, "rope", -1, PS_SPEC_ROPES_MAX - 1, where, &layer->rope));
    PS_TRY(ps_json_get(object, "biases", JSON_ARRAY, where, &biases));
    if (json_array_size(biases) > PS_BIAS_MAX)
        return PS_FAIL(PS_ERR_FORMAT, "%s: a layer has %zu biases, wanted at most %d", where,
                       json_array_size(biases), PS_BIAS_MAX);
    layer->n_biases = (int)json_array_size(biases);
    for (int b = 0; b < layer->n_biases; b++) {
        PS_TRY(read_bias(json_array_get(biases, (size_t)b), where, &layer->biases[b]));
    }
    return PS_OK;
}

static ps_err read_lists(const json_t *root, const char *where, ps_spec *spec)
{
    json_t *eos, *ropes, *layers;
    PS_TRY(ps_json_get(root, "eos_ids", JSON_ARRAY, where, &eos));
    PS_TRY(ps_json_get(root, "ropes", JSON_ARRAY, where, &ropes));
    PS_TRY(ps_json_get(root, "layers", JSON_ARRAY, where, &layers));
    if (json_array_size(eos) > PS_SPEC_EOS_MAX || json_array_size(ropes) > PS_SPEC_ROPES_MAX ||
        json_array_size(layers) != (size_t)spec->n_layers || spec->n_layers < 1 ||
        spec->n_layers > PS_SPEC_LAYERS_MAX) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: %zu eos_ids, %zu ropes, %zu layers for n_layers %d",
                       where, json_array_size(eos), json_array_size(ropes), json_array_size(layers),
                       spec->n_layers);
    }
    spec->n_eos = (int)json_array_size(eos);
    for (int i = 0; i < spec->n_eos; i++) {
        const json_t *id = json_array_get(eos, (size_t)i);
        const json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
        if (value < 0 || value > INT32_MAX)
            return PS_FAIL(PS_ERR_FORMAT, "%s: eos_ids[%d] is not a token id", where, i);
        spec->eos_ids[i] = (int32_t)value;
    }
    spec->n_ropes = (int)json_array_size(ropes);
    for (int r = 0; r < spec->n_ropes; r++) {
        PS_TRY(read_rope(json_array_get(ropes, (size_t)r), where, &spec->ropes[r]));
    }
    ps_spec_take_layers(spec, spec->n_layers);
    for (int l = 0; l < spec->n_layers; l++) {
        PS_TRY(read_layer(json_array_get(layers, (size_t)l), where, &spec->layers[l]));
    }
    return PS_OK;
}

static ps_err read_root(const json_t *root, const char *where, ps_spec *spec)
{
    if (!json_is_object(root)) return PS_FAIL(PS_ERR_FORMAT, "%s: not a JSON object", where);
    const char *key, *family;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)root, key, value)
    {
        if (!is_known_key(key))
            return PS_FAIL(PS_ERR_FORMAT, "%s: unknown key %s (made by a newer version?)", where,
                           key);
    }
    PS_TRY(ps_json_get_text(root, "family", where, &family));
    if (strlen(family) >= PS_SPEC_NAME_BYTES)
        return PS_FAIL(PS_ERR_FORMAT, "%s: family has more than %d bytes", where,
                       PS_SPEC_NAME_BYTES - 1);
    memcpy(spec->family, family, strlen(family) + 1);
    for (int i = 0; i < N_FIELDS; i++) {
        PS_TRY(read_field(root, i, where, spec));
    }
    double context;
    PS_TRY(ps_json_get_real(root, "context", where, &context));
    if (!(context >= 0.0 && context <= 0x1p48 && context == trunc(context)))
        return PS_FAIL(PS_ERR_FORMAT, "%s: context is %g, wanted an integer 0..2^48", where,
                       context);
    spec->context = (int64_t)context;
    int bos_id;
    PS_TRY(ps_json_get_int(root, "bos_id", -1, INT32_MAX, where, &bos_id));
    spec->bos_id = bos_id;
    return read_lists(root, where, spec);
}

ps_err ps_spec_from_json(const char *json, size_t n, const char *where, ps_spec *out)
{
    *out = (ps_spec){0};
    json_t *root;
    PS_TRY(ps_json_parse(json, n, where, &root));
    ps_err err = read_root(root, where, out);
    if (!err) err = ps_spec_check(out, where);
    json_decref(root);
    if (err) ps_spec_release(out);
    return err;
}
