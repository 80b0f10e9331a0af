#include "tool/acestep/request_json.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"

static const char where[] = "request";

typedef ps_err reader(const json_t *object, const char *key, ps_acestep_request *r);

static json_t *value_of(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

/* A text, if there is one; out->at NULL: none. It may hold NULs. */
static ps_err read_text(const json_t *object, const char *key, ps_span *out)
{
    json_t *value = NULL;
    *out = (ps_span){0};
    PS_TRY(ps_json_opt(object, key, JSON_STRING, where, &value));
    if (value) *out = (ps_span){json_string_value(value), json_string_length(value)};
    return PS_OK;
}

/* The same, where it says something; out->at NULL: nothing. */
static ps_err read_said(const json_t *object, const char *key, ps_span *out)
{
    PS_TRY(read_text(object, key, out));
    const bool said = out->at && ps_span_strip(*out).n > 0 && strcasecmp(out->at, "N/A") != 0;
    if (!said) out->at = NULL;
    return PS_OK;
}

static ps_err read_flag(const json_t *object, const char *key, ps_acestep_parameter p, bool *flag,
                        ps_acestep_request *r)
{
    if (!value_of(object, key)) return PS_OK;
    const bool before = *flag;
    PS_TRY(ps_json_opt_bool(object, key, where, flag));
    // What stays as it was is no wish: other tools write all their flags.
    if (*flag != before) ps_acestep_note_given(r, p);
    return PS_OK;
}

// ---- a reader for each kind of key ----

static ps_err read_mode(const json_t *object, const char *key, ps_acestep_request *r)
{
    const char *name = NULL;
    PS_TRY(ps_json_opt_text(object, key, where, &name));
    return name ? ps_acestep_parse_mode(key, name, &r->mode) : PS_OK;
}

static ps_err read_format(const json_t *object, const char *key, ps_acestep_request *r)
{
    const char *name = NULL;
    PS_TRY(ps_json_opt_text(object, key, where, &name));
    if (!name) return PS_OK;
    ps_acestep_note_given(r, PS_ACESTEP_P_FORMAT);
    return ps_acestep_parse_format(key, name, &r->format);
}

static ps_err read_caption(const json_t *object, const char *key, ps_acestep_request *r)
{
    ps_span text;
    PS_TRY(read_text(object, key, &text));
    return text.at ? ps_acestep_set_caption(r, key, text) : PS_OK;
}

static ps_err read_lyrics(const json_t *object, const char *key, ps_acestep_request *r)
{
    ps_span text;
    PS_TRY(read_text(object, key, &text));
    return text.at ? ps_acestep_set_lyrics(r, key, text) : PS_OK;
}

static ps_err read_negative(const json_t *object, const char *key, ps_acestep_request *r)
{
    ps_span text;
    PS_TRY(read_text(object, key, &text));
    return text.at ? ps_acestep_set_negative(r, key, text) : PS_OK;
}

static ps_err read_instrumental(const json_t *object, const char *key, ps_acestep_request *r)
{
    return read_flag(object, key, PS_ACESTEP_P_INSTRUMENTAL, &r->instrumental, r);
}

static ps_err read_codes(const json_t *object, const char *key, ps_acestep_request *r)
{
    const json_t *value = value_of(object, key);
    if (!value) return PS_OK;
    if (json_is_string(value))
        return ps_acestep_set_codes(r, key,
                                    (ps_span){json_string_value(value), json_string_length(value)});
    if (!json_is_array(value))
        return PS_FAIL(PS_ERR_FORMAT, "%s: wanted a text or an array of numbers", key);
    size_t i;
    json_t *code;
    json_array_foreach(value, i, code)
    {
        if (!json_is_integer(code) || json_integer_value(code) < 0 ||
            json_integer_value(code) > INT32_MAX)
            return PS_FAIL(PS_ERR_FORMAT, "%s: entry %zu is no code", key, i);
        ps_tokens_append(&r->codes, (int32_t)json_integer_value(code));
    }
    ps_acestep_note_given(r, PS_ACESTEP_P_CODES);
    return PS_OK;
}

static ps_err read_bpm(const json_t *object, const char *key, ps_acestep_request *r)
{
    double bpm = 0.0;
    PS_TRY(ps_json_opt_real(object, key, where, &bpm));
    return bpm == 0.0 ? PS_OK : ps_acestep_set_bpm(r, key, bpm);
}

static ps_err read_duration(const json_t *object, const char *key, ps_acestep_request *r)
{
    double seconds = 0.0;
    PS_TRY(ps_json_opt_real(object, key, where, &seconds));
    return seconds == 0.0 || seconds == -1.0 ? PS_OK : ps_acestep_set_duration(r, key, seconds);
}

static ps_err read_keyscale(const json_t *object, const char *key, ps_acestep_request *r)
{
    ps_span text;
    PS_TRY(read_said(object, key, &text));
    return text.at ? ps_acestep_set_keyscale(r, key, text) : PS_OK;
}

static ps_err read_timesignature(const json_t *object, const char *key, ps_acestep_request *r)
{
    const json_t *value = value_of(object, key);
    ps_span text;
    if (json_is_integer(value)) {
        char number[24];
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
        return ps_acestep_set_timesignature(r, key, ps_span_of(number));
    }
    PS_TRY(read_said(object, key, &text));
    return text.at ? ps_acestep_set_timesignature(r, key, text) : PS_OK;
}

static ps_err read_language(const json_t *object, const char *key, ps_acestep_request *r)
{
    ps_span text;
    PS_TRY(read_said(object, key, &text));
    return text.at ? ps_acestep_set_language(r, key, text) : PS_OK;
}

static ps_err read_real(const json_t *object, const char *key, double *out, bool *given)
{
    *given = value_of(object, key) != NULL;
    return ps_json_opt_real(object, key, where, out);
}

static ps_err read_cfg_scale(const json_t *object, const char *key, ps_acestep_request *r)
{
    bool given;
    PS_TRY(read_real(object, key, &r->cfg_scale, &given));
    if (given) ps_acestep_note_given(r, PS_ACESTEP_P_CFG_SCALE);
    return PS_OK;
}

static ps_err read_top_p(const json_t *object, const char *key, ps_acestep_request *r)
{
    bool given;
    PS_TRY(read_real(object, key, &r->sampling.top_p, &given));
    if (given) ps_acestep_note_given(r, PS_ACESTEP_P_TOP_P);
    return PS_OK;
}

static ps_err read_target(const json_t *object, const char *key, ps_acestep_request *r)
{
    bool given;
    PS_TRY(read_real(object, key, &r->target_duration, &given));
    if (given) ps_acestep_note_given(r, PS_ACESTEP_P_TARGET_DURATION);
    return PS_OK;
}

static ps_err read_temperature(const json_t *object, const char *key, ps_acestep_request *r)
{
    PS_TRY(ps_json_opt_real(object, key, where, &r->sampling.temperature));
    if (r->sampling.temperature >= 0.0) return PS_OK;
    return PS_FAIL(PS_ERR_USAGE, "%s is %g, wanted 0 or more", key, r->sampling.temperature);
}

static ps_err read_top_k(const json_t *object, const char *key, ps_acestep_request *r)
{
    return ps_json_opt_int(object, key, 0, INT32_MAX, where, &r->sampling.top_k);
}

static ps_err read_order(const json_t *object, const char *key, ps_acestep_request *r)
{
    const char *order = NULL;
    PS_TRY(ps_json_opt_text(object, key, where, &order));
    return order ? ps_sample_order_parse(order, &r->sampling) : PS_OK;
}

static ps_err read_seed(const json_t *object, const char *key, ps_acestep_request *r)
{
    json_t *value = NULL;
    PS_TRY(ps_json_opt(object, key, JSON_INTEGER, where, &value));
    const json_int_t seed = value ? json_integer_value(value) : -1;
    if (seed < -1)
        return PS_FAIL(PS_ERR_USAGE, "%s is %lld, wanted 0 or more, or -1", key, (long long)seed);
    if (seed >= 0) r->sampling.seed = (uint64_t)seed;
    return PS_OK;
}

static ps_err read_samples(const json_t *object, const char *key, ps_acestep_request *r)
{
    const int before = r->n_samples;
    PS_TRY(ps_json_opt_int(object, key, 1, PS_ACESTEP_SAMPLES_MAX, where, &r->n_samples));
    if (r->n_samples != before) ps_acestep_note_given(r, PS_ACESTEP_P_SAMPLES);
    return PS_OK;
}

static ps_err read_cot(const json_t *object, const char *key, ps_acestep_request *r)
{
    return read_flag(object, key, PS_ACESTEP_P_COT, &r->cot, r);
}

static ps_err read_cot_caption(const json_t *object, const char *key, ps_acestep_request *r)
{
    return read_flag(object, key, PS_ACESTEP_P_COT_CAPTION, &r->cot_caption, r);
}

static ps_err read_cot_language(const json_t *object, const char *key, ps_acestep_request *r)
{
    return read_flag(object, key, PS_ACESTEP_P_COT_LANGUAGE, &r->cot_language, r);
}

static ps_err read_thinking(const json_t *object, const char *key, ps_acestep_request *r)
{
    return read_flag(object, key, PS_ACESTEP_P_CODES_WANTED, &r->wants_codes, r);
}

static ps_err read_max_duration(const json_t *object, const char *key, ps_acestep_request *r)
{
    return ps_json_opt_int(object, key, PS_ACESTEP_MIN_DURATION, PS_ACESTEP_MAX_DURATION, where,
                           &r->max_duration);
}

static ps_err read_max_tokens(const json_t *object, const char *key, ps_acestep_request *r)
{
    return ps_json_opt_int(object, key, 0, PS_ACESTEP_TOKENS_MAX, where, &r->max_tokens);
}

/* In the order in which they are read; the reader NULL: not looked at. */
static const struct {
    const char *key;
    reader *read;
} keys[] = {
    {"id", NULL},
    {"mode", read_mode},
    {"format", read_format},
    {"caption", read_caption},
    {"query", read_caption},
    {"lyrics", read_lyrics},
    {"instrumental", read_instrumental},
    {"audio_codes", read_codes},
    {"bpm", read_bpm},
    {"duration", read_duration},
    {"keyscale", read_keyscale},
    {"timesignature", read_timesignature},
    {"vocal_language", read_language},
    {"language", read_language},
    {"lm_temperature", read_temperature},
    {"lm_top_p", read_top_p},
    {"lm_top_k", read_top_k},
    {"lm_cfg_scale", read_cfg_scale},
    {"lm_negative_prompt", read_negative},
    {"sampler_order", read_order},
    {"seed", read_seed},
    {"batch_size", read_samples},
    {"use_cot_metas", read_cot},
    {"use_cot_caption", read_cot_caption},
    {"use_cot_language", read_cot_language},
    {"thinking", read_thinking},
    {"target_duration", read_target},
    {"max_duration", read_max_duration},
    {"max_tokens", read_max_tokens},
    {"task_type", NULL},
    {"inference_steps", NULL},
    {"guidance_scale", NULL},
    {"shift", NULL},
    {"infer_method", NULL},
    {"audio_format", NULL},
};

enum { N_KEYS = sizeof keys / sizeof keys[0] };

static ps_err check_keys(const json_t *object)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        int best = 0, distance = 4;
        for (int i = 0; i < N_KEYS && distance > 0; i++) {
            const int d = ps_text_distance(key, keys[i].key);
            if (d >= distance) continue;
            distance = d;
            best = i;
        }
        if (distance == 0) continue;
        if (distance < 4)
            return PS_FAIL(PS_ERR_USAGE, "unknown key \"%.60s\"; did you mean \"%s\"?", key,
                           keys[best].key);
        return PS_FAIL(PS_ERR_USAGE, "unknown key \"%.60s\"", key);
    }
    return PS_OK;
}

static ps_err read_all(const json_t *object, ps_acestep_request *out)
{
    PS_TRY(check_keys(object));
    for (int i = 0; i < N_KEYS; i++) {
        if (keys[i].read) PS_TRY(keys[i].read(object, keys[i].key, out));
    }
    return ps_acestep_request_check(out, ps_acestep_key_name);
}

ps_err ps_acestep_request_parse(const char *line, size_t n, const ps_acestep_request *defaults,
                                uint64_t seed, json_t **id, ps_acestep_request *out)
{
    *id = NULL;
    ps_acestep_request_copy(defaults, out);
    out->sampling.seed = seed;
    json_t *object;
    ps_err err = ps_json_parse(line, n, where, &object);
    if (!err && !json_is_object(object)) {
        err = PS_FAIL(PS_ERR_FORMAT, "the line is not a JSON object");
    } else if (!err) {
        *id = json_incref(json_object_get(object, "id"));
        err = read_all(object, out);
    }
    json_decref(object);
    if (err) ps_acestep_request_release(out);
    return err;
}

ps_err ps_acestep_parse_mode(const char *key, const char *name, ps_acestep_mode *out)
{
    for (int mode = 0; mode < PS_ACESTEP_MODES; mode++) {
        *out = (ps_acestep_mode)mode;
        if (strcmp(name, ps_acestep_mode_name(*out)) == 0) return PS_OK;
    }
    return PS_FAIL(PS_ERR_USAGE,
                   "%s: \"%.40s\", wanted generate, understand, inspiration or rewrite", key, name);
}

ps_err ps_acestep_parse_format(const char *key, const char *name, ps_acestep_format *out)
{
    for (int format = 0; format < PS_ACESTEP_FORMATS; format++) {
        *out = (ps_acestep_format)format;
        if (strcmp(name, ps_acestep_format_name(*out)) == 0) return PS_OK;
    }
    return PS_FAIL(PS_ERR_USAGE, "%s: \"%.40s\", wanted new, legacy or legacy_cfg_open", key, name);
}
