/* RoPE in config.json: flat keys of older files, or everything inside rope_parameters. */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "math/real.h"
#include "tool/import/families_parts.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Keys that any kind may have. */
static const char *const common[] = {"type", "rope_type", "rope_theta", "partial_rotary_factor"};

/* Every key of the object is common or in known[n]. */
static ps_err reject_unknown(const json_t *object, const char *where, const char *const *known,
                             size_t n)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        bool found = json_is_null(value);
        for (size_t i = 0; i < COUNT(common) && !found; i++) {
            found = strcmp(common[i], key) == 0;
        }
        for (size_t i = 0; i < n && !found; i++) {
            found = strcmp(known[i], key) == 0;
        }
        if (!found)
            return PS_FAIL(PS_ERR_UNSUPPORTED,
                           "%s: key %s of the rope parameters is not understood", where, key);
    }
    return PS_OK;
}

/* original_max_position_embeddings of the object, of the config, or max_position_embeddings. */
static ps_err read_original(ps_config *c, const json_t *o, double *out)
{
    *out = 0.0;
    PS_TRY(ps_config_real(c, "max_position_embeddings", out));
    PS_TRY(ps_config_real(c, "original_max_position_embeddings", out));
    return ps_json_opt_real(o, "original_max_position_embeddings", c->path, out);
}

/* Without a factor it is how much longer than the original the context has become. */
static ps_err read_factor(ps_config *c, const json_t *o, ps_rope *rope)
{
    double longest = rope->original_length;
    PS_TRY(ps_config_real(c, "max_position_embeddings", &longest));
    rope->factor = rope->original_length > 0.0 ? longest / rope->original_length : 0.0;
    return ps_json_opt_real(o, "factor", c->path, &rope->factor);
}

static ps_err read_default(ps_config *c, const json_t *o, ps_rope *rope)
{
    static const char *const known[] = {"original_max_position_embeddings"};
    rope->kind = PS_ROPE_DEFAULT;
    return reject_unknown(o, c->path, known, COUNT(known));
}

static ps_err read_linear(ps_config *c, const json_t *o, ps_rope *rope)
{
    static const char *const known[] = {"factor"};
    rope->kind = PS_ROPE_LINEAR;
    PS_TRY(reject_unknown(o, c->path, known, COUNT(known)));
    return ps_json_get_real(o, "factor", c->path, &rope->factor);
}

static ps_err read_llama3(ps_config *c, const json_t *o, ps_rope *rope)
{
    static const char *const known[] = {"factor", "low_freq_factor", "high_freq_factor",
                                        "original_max_position_embeddings"};
    rope->kind = PS_ROPE_LLAMA3;
    PS_TRY(reject_unknown(o, c->path, known, COUNT(known)));
    PS_TRY(ps_json_get_real(o, "factor", c->path, &rope->factor));
    PS_TRY(ps_json_get_real(o, "low_freq_factor", c->path, &rope->low_factor));
    PS_TRY(ps_json_get_real(o, "high_freq_factor", c->path, &rope->high_factor));
    return ps_json_get_real(o, "original_max_position_embeddings", c->path, &rope->original_length);
}

static ps_err read_dynamic(ps_config *c, const json_t *o, ps_rope *rope)
{
    static const char *const known[] = {"factor", "original_max_position_embeddings"};
    rope->kind = PS_ROPE_DYNAMIC;
    PS_TRY(reject_unknown(o, c->path, known, COUNT(known)));
    PS_TRY(read_original(c, o, &rope->original_length));
    return ps_json_get_real(o, "factor", c->path, &rope->factor);
}

/* 0.1 m log(s) + 1 */
static double yarn_magnitude(double factor, double m)
{
    return factor > 1.0 ? 0.1 * m * ps_real_log(factor) + 1.0 : 1.0;
}

static ps_err read_yarn(ps_config *c, const json_t *o, ps_rope *rope)
{
    static const char *const known[] = {"factor",           "original_max_position_embeddings",
                                        "attention_factor", "beta_fast",
                                        "beta_slow",        "mscale",
                                        "mscale_all_dim",   "truncate"};
    double scale = 0.0, scale_all = 0.0;
    rope->kind = PS_ROPE_YARN;
    rope->beta_fast = 32.0;
    rope->beta_slow = 1.0;
    PS_TRY(reject_unknown(o, c->path, known, COUNT(known)));
    PS_TRY(read_original(c, o, &rope->original_length));
    PS_TRY(read_factor(c, o, rope));
    PS_TRY(ps_json_opt_real(o, "beta_fast", c->path, &rope->beta_fast));
    PS_TRY(ps_json_opt_real(o, "beta_slow", c->path, &rope->beta_slow));
    PS_TRY(ps_json_opt_bool(o, "truncate", c->path, &rope->truncate));
    PS_TRY(ps_json_opt_real(o, "mscale", c->path, &scale));
    PS_TRY(ps_json_opt_real(o, "mscale_all_dim", c->path, &scale_all));
    rope->magnitude = yarn_magnitude(rope->factor, 1.0);
    if (scale != 0.0 && scale_all != 0.0)
        rope->magnitude =
            yarn_magnitude(rope->factor, scale) / yarn_magnitude(rope->factor, scale_all);
    return ps_json_opt_real(o, "attention_factor", c->path, &rope->magnitude);
}

static ps_err read_list(const char *where, const json_t *o, const char *key, int n, double *out)
{
    json_t *list;
    PS_TRY(ps_json_get(o, key, JSON_ARRAY, where, &list));
    if (json_array_size(list) != (size_t)n)
        return PS_FAIL(PS_ERR_FORMAT,
                       "%s: %s has %zu numbers, wanted %d, half of the rotated "
                       "dimensions",
                       where, key, json_array_size(list), n);
    for (int i = 0; i < n; i++) {
        const json_t *value = json_array_get(list, (size_t)i);
        if (!json_is_number(value))
            return PS_FAIL(PS_ERR_FORMAT, "%s: %s[%d] is not a number", where, key, i);
        out[i] = json_number_value(value);
    }
    return PS_OK;
}

static ps_err read_longrope(ps_config *c, const json_t *o, ps_rope *rope)
{
    static const char *const known[] = {"factor", "original_max_position_embeddings",
                                        "attention_factor", "short_factor", "long_factor"};
    double longest = 0.0;
    rope->kind = PS_ROPE_LONGROPE;
    PS_TRY(reject_unknown(o, c->path, known, COUNT(known)));
    PS_TRY(read_original(c, o, &rope->original_length));
    PS_TRY(read_list(c->path, o, "short_factor", rope->dims / 2, rope->factors));
    PS_TRY(read_list(c->path, o, "long_factor", rope->dims / 2, rope->long_factors));
    // How much longer: by the two lengths where both are known, else as the file says.
    const bool known_original =
        json_object_get(c->root, "original_max_position_embeddings") != NULL;
    PS_TRY(ps_config_real(c, "max_position_embeddings", &longest));
    double factor = rope->original_length > 0.0 ? longest / rope->original_length : 1.0;
    if (!known_original) PS_TRY(ps_json_opt_real(o, "factor", c->path, &factor));
    if (factor > 1.0 && rope->original_length > 1.0)
        rope->magnitude = sqrt(1.0 + ps_real_log(factor) / ps_real_log(rope->original_length));
    return ps_json_opt_real(o, "attention_factor", c->path, &rope->magnitude);
}

static const struct {
    const char *type;
    ps_err (*read)(ps_config *c, const json_t *object, ps_rope *rope);
} types[] = {{"default", read_default}, {"linear", read_linear}, {"llama3", read_llama3},
             {"dynamic", read_dynamic}, {"yarn", read_yarn},     {"longrope", read_longrope},
             {"su", read_longrope}};

static ps_err read_dims(ps_config *c, const json_t *o, int head_dim, int *dims)
{
    double partial = 0.0;
    PS_TRY(ps_json_opt_real(o, "partial_rotary_factor", c->path, &partial));
    if (partial == 0.0) return PS_OK;
    if (!(partial > 0.0 && partial <= 1.0))
        return PS_FAIL(PS_ERR_FORMAT, "%s: partial_rotary_factor is %g, wanted 0..1", c->path,
                       partial);
    *dims = (int)((double)head_dim * partial);
    return PS_OK;
}

ps_err ps_read_rope_object(ps_config *c, const json_t *o, ps_rope *rope)
{
    rope->kind = PS_ROPE_DEFAULT;
    rope->magnitude = 1.0;
    rope->truncate = true;
    if (!o) return PS_OK;
    if (!json_is_object(o))
        return PS_FAIL(PS_ERR_FORMAT, "%s: the rope parameters are not an object", c->path);
    const char *type = "default";
    PS_TRY(ps_json_opt_text(o, "type", c->path, &type));
    PS_TRY(ps_json_opt_text(o, "rope_type", c->path, &type));
    PS_TRY(ps_json_opt_real(o, "rope_theta", c->path, &rope->base));
    for (size_t i = 0; i < COUNT(types); i++) {
        if (strcmp(type, types[i].type) == 0) return types[i].read(c, o, rope);
    }
    return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: rope type %s is not computed here", c->path, type);
}

/* A rope for each type of layer: full_attention, sliding_attention. */
static ps_err read_typed(ps_config *c, const json_t *nested, const ps_rope *plain, ps_spec *s)
{
    static const char *const layer_types[] = {"full_attention", "sliding_attention"};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)nested, key, value)
    {
        if (strcmp(key, layer_types[0]) != 0 && strcmp(key, layer_types[1]) != 0)
            return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: key %s of rope_parameters is not understood",
                           c->path, key);
    }
    s->n_ropes = 2;
    for (int i = 0; i < 2; i++) {
        s->ropes[i] = *plain;
        const json_t *o = json_object_get(nested, layer_types[i]);
        if (o) PS_TRY(read_dims(c, o, s->head_dim, &s->ropes[i].dims));
        PS_TRY(ps_read_rope_object(c, o, &s->ropes[i]));
    }
    return PS_OK;
}

/* rope_theta and a partial rotation, in the spellings of the families. */
static ps_err read_flat(ps_config *c, const ps_spec *s, ps_rope *rope)
{
    double partial = 0.0;
    PS_TRY(ps_config_real(c, "rope_theta", &rope->base));
    PS_TRY(ps_config_real(c, "rotary_emb_base", &rope->base));
    PS_TRY(ps_config_real(c, "rope_pct", &partial));
    PS_TRY(ps_config_real(c, "rotary_pct", &partial));
    PS_TRY(ps_config_real(c, "partial_rotary_factor", &partial));
    if (partial == 0.0) return PS_OK;
    if (!(partial > 0.0 && partial <= 1.0))
        return PS_FAIL(PS_ERR_FORMAT, "%s: the rotated part of a head is %g, wanted 0..1", c->path,
                       partial);
    rope->dims = (int)((double)s->head_dim * partial);
    return PS_OK;
}

ps_err ps_read_rope(ps_config *c, ps_spec *s, int dims, double theta)
{
    ps_rope rope = {.dims = dims, .base = theta, .magnitude = 1.0};
    PS_TRY(read_flat(c, s, &rope));
    const json_t *flat = ps_config_take(c, "rope_scaling");
    const json_t *nested = ps_config_take(c, "rope_parameters");
    if (flat && nested && !json_equal(flat, nested))
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: rope_scaling and rope_parameters are both there, and differ", c->path);
    const json_t *o = nested ? nested : flat;
    if (json_is_object(o) &&
        (json_object_get(o, "full_attention") || json_object_get(o, "sliding_attention")))
        return read_typed(c, o, &rope, s);
    if (json_is_object(o)) PS_TRY(read_dims(c, o, s->head_dim, &rope.dims));
    PS_TRY(ps_read_rope_object(c, o, &rope));
    s->ropes[0] = rope;
    s->n_ropes = 1;
    return PS_OK;
}
