/* The spec as JSON and back. Written by hand so that equal specs give equal bytes; read through the
 * checked getters. Layers that repeat are written one by one: the file stays plain to read, and a
 * thousand layers are a few tens of kilobytes. */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "model/spec.h"

/* The whole-model numbers and flags: one table for writer, reader and the list of known keys. */
typedef enum { FIELD_INT, FIELD_REAL, FIELD_BOOL, FIELD_NAME } field_type;

static const char *norm_name(int kind)
{
    static const char *const names[PS_NORM_KIND_COUNT] = {"rms", "layer"};
    return kind < PS_NORM_KIND_COUNT ? names[kind] : NULL;
}

static const char *qk_norm_name(int kind)
{
    static const char *const names[PS_QK_NORM_COUNT] = {"none", "head", "heads", "all"};
    return kind < PS_QK_NORM_COUNT ? names[kind] : NULL;
}

static const char *activation_name(int kind)
{
    return kind < PS_ACTIVATION_KIND_COUNT ? ps_activation_name((ps_activation_kind)kind) : NULL;
}

static const char *router_name(int kind)
{
    static const char *const names[PS_ROUTER_COUNT] = {"chosen", "all"};
    return kind < PS_ROUTER_COUNT ? names[kind] : NULL;
}

static const char *output_gate_name(int kind)
{
    static const char *const names[PS_OUTPUT_GATE_COUNT] = {"none", "heads", "elements"};
    return kind < PS_OUTPUT_GATE_COUNT ? names[kind] : NULL;
}

#define INT(key)                                                                                   \
    {                                                                                              \
#key, FIELD_INT, offsetof(ps_spec, key), NULL, false                                       \
    }
#define REAL(key)                                                                                  \
    {                                                                                              \
#key, FIELD_REAL, offsetof(ps_spec, key), NULL, false                                      \
    }
#define BOOL(key)                                                                                  \
    {                                                                                              \
#key, FIELD_BOOL, offsetof(ps_spec, key), NULL, false                                      \
    }
#define NAME(key, names)                                                                           \
    {                                                                                              \
#key, FIELD_NAME, offsetof(ps_spec, key), names, false                                     \
    }

/* Written only where they are not 0, so that files without them keep their bytes. */
#define OPTIONAL_BOOL(key)                                                                         \
    {                                                                                              \
#key, FIELD_BOOL, offsetof(ps_spec, key), NULL, true                                       \
    }
#define OPTIONAL_NAME(key, names)                                                                  \
    {                                                                                              \
#key, FIELD_NAME, offsetof(ps_spec, key), names, true                                      \
    }

static const struct {
    const char *key;
    field_type type;
    size_t offset;
    const char *(*name)(int kind); // FIELD_NAME: NULL behind the last
    bool optional;                 // 0 where the key is absent
} fields[] = {
    INT(n_layers),
    INT(d_model),
    INT(n_heads),
    INT(n_kv_heads),
    INT(head_dim),
    INT(d_ff),
    INT(vocab_size),
    NAME(norm, norm_name),
    REAL(norm_eps),
    BOOL(norm_bias),
    BOOL(pre_norm),
    BOOL(post_norm),
    BOOL(parallel),
    BOOL(shared_norm),
    REAL(attention_scale),
    REAL(softcap),
    REAL(qkv_clip),
    BOOL(qkv_bias),
    BOOL(o_bias),
    BOOL(mlp_bias),
    BOOL(sinks),
    NAME(qk_norm, qk_norm_name),
    NAME(activation, activation_name),
    REAL(swiglu_alpha),
    REAL(swiglu_limit),
    BOOL(gated),
    INT(n_experts),
    INT(n_experts_used),
    INT(d_ff_expert),
    NAME(router, router_name),
    BOOL(router_bias),
    BOOL(expert_bias),
    REAL(embed_scale),
    REAL(residual_scale),
    REAL(logit_scale),
    REAL(final_softcap),
    BOOL(embed_norm),
    INT(n_positions),
    BOOL(tied_head),
    BOOL(head_bias),
    BOOL(add_bos),
    OPTIONAL_BOOL(quiet_softmax),
    OPTIONAL_NAME(output_gate, output_gate_name),
};

_Static_assert(sizeof(ps_norm_kind) == sizeof(int) && sizeof(ps_qk_norm) == sizeof(int) &&
                   sizeof(ps_activation_kind) == sizeof(int) && sizeof(ps_router) == sizeof(int) &&
                   sizeof(ps_output_gate) == sizeof(int),
               "a name is stored as an int");

enum { N_FIELDS = sizeof fields / sizeof fields[0] };

static const char *const other_keys[] = {"family",  "context",  "bos_id",        "eos_ids",
                                         "encoder", "n_kept",   "kept_at_cache", "ropes",
                                         "layers",  "n_outputs"};

/* Optional fields are flags and names. */
static bool is_zero(const ps_spec *spec, int i)
{
    const char *at = (const char *)spec + fields[i].offset;
    return fields[i].type == FIELD_BOOL ? !*(const bool *)at : *(const int *)(const void *)at == 0;
}

static void append_field(const ps_spec *spec, int i, ps_text *out)
{
    const char *at = (const char *)spec + fields[i].offset;
    if (fields[i].optional && is_zero(spec, i)) return;
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
    case FIELD_NAME:
        ps_text_appendf(out, "\"%s\"", fields[i].name(*(const int *)(const void *)at));
        break;
    }
    ps_text_append_str(out, ",\n");
}

static void append_real_key(ps_text *out, const char *key, double value)
{
    ps_text_appendf(out, ", \"%s\": ", key);
    ps_json_append_real(out, value);
}

static void append_list(ps_text *out, const char *key, const double *values, int n)
{
    ps_text_appendf(out, ", \"%s\": [", key);
    for (int i = 0; i < n; i++) {
        if (i > 0) ps_text_append_str(out, ", ");
        ps_json_append_real(out, values[i]);
    }
    ps_text_append_char(out, ']');
}

/* The numbers of a rope, and the kinds that have them: one table for writer and reader. */
typedef enum { ROPE_REAL, ROPE_BOOL, ROPE_LIST } rope_field_type;

#define KIND(name)     (1u << PS_ROPE_##name)
#define KINDS_SCALED   (KIND(LINEAR) | KIND(LLAMA3) | KIND(YARN) | KIND(DYNAMIC))
#define KINDS_ALL      (~0u)
#define KINDS_ORIGINAL (KIND(LLAMA3) | KIND(YARN) | KIND(DYNAMIC) | KIND(LONGROPE))

static const struct {
    const char *key;
    rope_field_type type;
    size_t offset;
    unsigned kinds;
} rope_fields[] = {
    {"base", ROPE_REAL, offsetof(ps_rope, base), KINDS_ALL},
    {"magnitude", ROPE_REAL, offsetof(ps_rope, magnitude), KINDS_ALL},
    {"factor", ROPE_REAL, offsetof(ps_rope, factor), KINDS_SCALED},
    {"low_factor", ROPE_REAL, offsetof(ps_rope, low_factor), KIND(LLAMA3)},
    {"high_factor", ROPE_REAL, offsetof(ps_rope, high_factor), KIND(LLAMA3)},
    {"original_length", ROPE_REAL, offsetof(ps_rope, original_length), KINDS_ORIGINAL},
    {"beta_fast", ROPE_REAL, offsetof(ps_rope, beta_fast), KIND(YARN)},
    {"beta_slow", ROPE_REAL, offsetof(ps_rope, beta_slow), KIND(YARN)},
    {"truncate", ROPE_BOOL, offsetof(ps_rope, truncate), KIND(YARN)},
    {"factors", ROPE_LIST, offsetof(ps_rope, factors), KIND(DIVIDED) | KIND(LONGROPE)},
    {"long_factors", ROPE_LIST, offsetof(ps_rope, long_factors), KIND(LONGROPE)},
};

enum { N_ROPE_FIELDS = sizeof rope_fields / sizeof rope_fields[0] };

static void append_rope(const ps_rope *rope, ps_text *out)
{
    ps_text_appendf(out, "{\"kind\": \"%s\", \"dims\": %d", ps_rope_kind_name(rope->kind),
                    rope->dims);
    for (int i = 0; i < N_ROPE_FIELDS; i++) {
        const char *at = (const char *)rope + rope_fields[i].offset;
        if (!(rope_fields[i].kinds & 1u << rope->kind)) continue;
        switch (rope_fields[i].type) {
        case ROPE_REAL:
            append_real_key(out, rope_fields[i].key, *(const double *)(const void *)at);
            break;
        case ROPE_BOOL:
            ps_text_appendf(out, ", \"%s\": %s", rope_fields[i].key,
                            *(const bool *)at ? "true" : "false");
            break;
        case ROPE_LIST:
            append_list(out, rope_fields[i].key, (const double *)(const void *)at, rope->dims / 2);
            break;
        }
    }
    ps_text_append_char(out, '}');
}

/* The numbers of a bias provider likewise. */
typedef enum { BIAS_INT, BIAS_REAL, BIAS_BOOL } bias_field_type;

#define BIAS(name) (1u << PS_BIAS_##name)

static const struct {
    const char *key;
    bias_field_type type;
    size_t offset;
    unsigned kinds;
} bias_fields[] = {
    {"max_exponent", BIAS_REAL, offsetof(ps_bias_spec, max_exponent), BIAS(ALIBI)},
    {"factor", BIAS_REAL, offsetof(ps_bias_spec, factor), BIAS(ALIBI)},
    {"dim", BIAS_INT, offsetof(ps_bias_spec, dim), BIAS(REL_POS) | BIAS(SANDWICH)},
    {"theta", BIAS_REAL, offsetof(ps_bias_spec, theta), BIAS(REL_POS)},
    {"n_buckets", BIAS_INT, offsetof(ps_bias_spec, n_buckets), BIAS(T5)},
    {"max_distance", BIAS_INT, offsetof(ps_bias_spec, max_distance), BIAS(T5)},
    {"bidirectional", BIAS_BOOL, offsetof(ps_bias_spec, bidirectional), BIAS(T5)},
    {"width", BIAS_INT, offsetof(ps_bias_spec, width), BIAS(FIRE)},
};

enum { N_BIAS_FIELDS = sizeof bias_fields / sizeof bias_fields[0] };

static void append_bias(const ps_bias_spec *bias, ps_text *out)
{
    ps_text_appendf(out, "{\"kind\": \"%s\"", ps_bias_kind_name(bias->kind));
    for (int i = 0; i < N_BIAS_FIELDS; i++) {
        const char *at = (const char *)bias + bias_fields[i].offset;
        if (!(bias_fields[i].kinds & 1u << bias->kind)) continue;
        switch (bias_fields[i].type) {
        case BIAS_INT:
            ps_text_appendf(out, ", \"%s\": %d", bias_fields[i].key,
                            *(const int *)(const void *)at);
            break;
        case BIAS_REAL:
            append_real_key(out, bias_fields[i].key, *(const double *)(const void *)at);
            break;
        case BIAS_BOOL:
            ps_text_appendf(out, ", \"%s\": %s", bias_fields[i].key,
                            *(const bool *)at ? "true" : "false");
            break;
        }
    }
    ps_text_append_char(out, '}');
}

/* Chunks and looking ahead are written only where there are any. */
static void append_layer(const ps_layer_spec *layer, ps_text *out)
{
    ps_text_appendf(out, "  {\"window\": %lld, ", (long long)layer->window);
    if (layer->chunk > 0)
        ps_text_appendf(out, "\"chunk\": %lld, \"left_chunks\": %lld, ", (long long)layer->chunk,
                        (long long)layer->left_chunks);
    if (layer->look_ahead) ps_text_append_str(out, "\"look_ahead\": true, ");
    ps_text_appendf(out, "\"rope\": %d, \"mixture\": %s, \"biases\": [", layer->rope,
                    layer->mixture ? "true" : "false");
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
    // Written only where there is something to say, so that other models' files stay as they are.
    if (spec->encoder)
        ps_text_appendf(out, " \"encoder\": true,\n \"n_outputs\": %d,\n", spec->n_outputs);
    ps_text_appendf(out, " \"context\": %lld,\n \"bos_id\": %d,\n \"eos_ids\": [",
                    (long long)spec->context, spec->bos_id);
    for (int i = 0; i < spec->n_eos; i++) {
        ps_text_appendf(out, i > 0 ? ", %d" : "%d", spec->eos_ids[i]);
    }
    ps_text_append_str(out, "],\n");
    if (spec->n_kept > 0)
        ps_text_appendf(out, " \"n_kept\": %lld,\n \"kept_at_cache\": %s,\n",
                        (long long)spec->n_kept, spec->kept_at_cache ? "true" : "false");
    ps_text_append_str(out, " \"ropes\": [");
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
    const char *name;
    if (fields[i].optional && !json_object_get(object, fields[i].key)) return PS_OK;
    switch (fields[i].type) {
    case FIELD_NAME:
        PS_TRY(ps_json_get_text(object, fields[i].key, where, &name));
        for (int kind = 0; fields[i].name(kind); kind++) {
            if (strcmp(fields[i].name(kind), name) != 0) continue;
            *(int *)(void *)at = kind;
            return PS_OK;
        }
        return PS_FAIL(PS_ERR_FORMAT, "%s: unknown %s %s", where, fields[i].key, name);
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

static ps_err read_list(const json_t *object, const char *key, const char *where, int n,
                        double *out)
{
    json_t *list;
    PS_TRY(ps_json_get(object, key, JSON_ARRAY, where, &list));
    if (json_array_size(list) != (size_t)n)
        return PS_FAIL(PS_ERR_FORMAT, "%s: %s has %zu numbers, wanted %d", where, key,
                       json_array_size(list), n);
    for (int i = 0; i < n; i++) {
        const json_t *value = json_array_get(list, (size_t)i);
        if (!json_is_number(value))
            return PS_FAIL(PS_ERR_FORMAT, "%s: %s[%d] is not a number", where, key, i);
        out[i] = json_number_value(value);
    }
    return PS_OK;
}

static ps_err read_rope_field(const json_t *object, int i, const char *where, ps_rope *rope)
{
    char *at = (char *)rope + rope_fields[i].offset;
    json_t *value;
    switch (rope_fields[i].type) {
    case ROPE_LIST:
        return read_list(object, rope_fields[i].key, where, rope->dims / 2, (double *)(void *)at);
    case ROPE_BOOL:
        PS_TRY(ps_json_get(object, rope_fields[i].key, JSON_TRUE, where, &value));
        *(bool *)at = json_is_true(value);
        return PS_OK;
    default:
        return ps_json_get_real(object, rope_fields[i].key, where, (double *)(void *)at);
    }
}

static ps_err read_rope(const json_t *object, const char *where, ps_rope *rope)
{
    const char *kind, *keys[N_ROPE_FIELDS + 2] = {"kind", "dims"};
    int n_keys = 2;
    PS_TRY(ps_json_get_text(object, "kind", where, &kind));
    rope->kind = PS_ROPE_KIND_COUNT;
    for (int k = PS_ROPE_DEFAULT; k < PS_ROPE_KIND_COUNT; k++) {
        if (strcmp(kind, ps_rope_kind_name((ps_rope_kind)k)) == 0) rope->kind = (ps_rope_kind)k;
    }
    if (rope->kind == PS_ROPE_KIND_COUNT)
        return PS_FAIL(PS_ERR_FORMAT, "%s: unknown rope kind %s", where, kind);
    for (int i = 0; i < N_ROPE_FIELDS; i++) {
        if (rope_fields[i].kinds & 1u << rope->kind) keys[n_keys++] = rope_fields[i].key;
    }
    PS_TRY(check_keys(object, keys, n_keys, "rope", where));
    PS_TRY(ps_json_get_int(object, "dims", 0, PS_SPEC_HEAD_DIM_MAX, where, &rope->dims));
    for (int i = 0; i < N_ROPE_FIELDS; i++) {
        if (rope_fields[i].kinds & 1u << rope->kind)
            PS_TRY(read_rope_field(object, i, where, rope));
    }
    return PS_OK;
}

static ps_err read_bias_field(const json_t *object, int i, const char *where, ps_bias_spec *bias)
{
    char *at = (char *)bias + bias_fields[i].offset;
    json_t *value;
    switch (bias_fields[i].type) {
    case BIAS_INT:
        return ps_json_opt_int(object, bias_fields[i].key, 0, INT32_MAX, where, (int *)(void *)at);
    case BIAS_BOOL:
        if (!json_object_get(object, bias_fields[i].key)) return PS_OK;
        PS_TRY(ps_json_get(object, bias_fields[i].key, JSON_TRUE, where, &value));
        *(bool *)at = json_is_true(value);
        return PS_OK;
    default:
        return ps_json_opt_real(object, bias_fields[i].key, where, (double *)(void *)at);
    }
}

static ps_err read_bias(const json_t *object, const char *where, ps_bias_spec *bias)
{
    const char *kind, *keys[N_BIAS_FIELDS + 1] = {"kind"};
    int n_keys = 1;
    PS_TRY(ps_json_get_text(object, "kind", where, &kind));
    bias->kind = PS_BIAS_KIND_COUNT;
    for (int k = 0; k < PS_BIAS_KIND_COUNT; k++) {
        if (strcmp(kind, ps_bias_kind_name((ps_bias_kind)k)) == 0) bias->kind = (ps_bias_kind)k;
    }
    if (bias->kind == PS_BIAS_KIND_COUNT)
        return PS_FAIL(PS_ERR_FORMAT, "%s: unknown bias kind %s", where, kind);
    for (int i = 0; i < N_BIAS_FIELDS; i++) {
        if (bias_fields[i].kinds & 1u << bias->kind) keys[n_keys++] = bias_fields[i].key;
    }
    PS_TRY(check_keys(object, keys, n_keys, "bias", where));
    for (int i = 0; i < N_BIAS_FIELDS; i++) {
        if (bias_fields[i].kinds & 1u << bias->kind)
            PS_TRY(read_bias_field(object, i, where, bias));
    }
    return PS_OK;
}

static ps_err read_visible(const json_t *object, const char *where, ps_layer_spec *layer)
{
    int window, chunk = 0, left_chunks = 0;
    PS_TRY(ps_json_get_int(object, "window", 0, INT32_MAX, where, &window));
    PS_TRY(ps_json_opt_int(object, "chunk", 0, INT32_MAX, where, &chunk));
    PS_TRY(ps_json_opt_int(object, "left_chunks", -1, INT32_MAX, where, &left_chunks));
    layer->window = window;
    layer->chunk = chunk;
    layer->left_chunks = left_chunks;
    return ps_json_opt_bool(object, "look_ahead", where, &layer->look_ahead);
}

static ps_err read_layer(const json_t *object, const char *where, ps_layer_spec *layer)
{
    static const char *const keys[] = {"window", "rope",        "mixture",   "biases",
                                       "chunk",  "left_chunks", "look_ahead"};
    json_t *biases, *mixture;
    PS_TRY(check_keys(object, keys, sizeof keys / sizeof keys[0], "layer", where));
    PS_TRY(ps_json_get(object, "mixture", JSON_TRUE, where, &mixture));
    layer->mixture = json_is_true(mixture);
    PS_TRY(read_visible(object, where, layer));
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
    PS_TRY(ps_json_opt_bool(root, "encoder", where, &spec->encoder));
    PS_TRY(ps_json_opt_int(root, "n_outputs", 0, PS_SPEC_WIDTH_MAX, where, &spec->n_outputs));
    double context;
    PS_TRY(ps_json_get_real(root, "context", where, &context));
    if (!(context >= 0.0 && context <= 0x1p48 && context == trunc(context)))
        return PS_FAIL(PS_ERR_FORMAT, "%s: context is %g, wanted an integer 0..2^48", where,
                       context);
    spec->context = (int64_t)context;
    int bos_id;
    PS_TRY(ps_json_get_int(root, "bos_id", -1, INT32_MAX, where, &bos_id));
    spec->bos_id = bos_id;
    int n_kept = 0;
    PS_TRY(ps_json_opt_int(root, "n_kept", 0, PS_SPEC_KEPT_MAX, where, &n_kept));
    spec->n_kept = n_kept;
    PS_TRY(ps_json_opt_bool(root, "kept_at_cache", where, &spec->kept_at_cache));
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

ps_err ps_spec_bias_from_json(const char *json, size_t n, const char *where, ps_bias_spec *bias)
{
    json_t *root;
    PS_TRY(ps_json_parse(json, n, where, &root));
    const ps_err err = read_bias(root, where, bias);
    json_decref(root);
    return err;
}
