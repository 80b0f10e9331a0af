#include "tool/batch_request.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

static const char where[] = "request";

/* Keys that are numbers of the sampler. */
static const struct {
    const char *key;
    bool whole;
    size_t offset; // in ps_sample_params
} numbers[] = {
    {"temperature", false, offsetof(ps_sample_params, temperature)},
    {"top_p", false, offsetof(ps_sample_params, top_p)},
    {"top_k", true, offsetof(ps_sample_params, top_k)},
    {"min_p", false, offsetof(ps_sample_params, min_p)},
    {"typical_p", false, offsetof(ps_sample_params, typical_p)},
    {"repetition_penalty", false, offsetof(ps_sample_params, repetition_penalty)},
    {"presence_penalty", false, offsetof(ps_sample_params, presence_penalty)},
    {"frequency_penalty", false, offsetof(ps_sample_params, frequency_penalty)},
    {"repeat_last_n", true, offsetof(ps_sample_params, repeat_last_n)},
    {"min_tokens", true, offsetof(ps_sample_params, min_new_tokens)},
};

enum { N_NUMBERS = sizeof numbers / sizeof numbers[0] };

static const char *const other_keys[] = {"id",
                                         "prompt",
                                         "tokens",
                                         "max_tokens",
                                         "n",
                                         "seed",
                                         "stop",
                                         "logprobs",
                                         "logit_bias",
                                         "banned",
                                         "model",
                                         "user",
                                         "ignore_eos",
                                         "sampler_order",
                                         "messages",
                                         "negative_prompt",
                                         "guidance_scale"};

enum { N_OTHER_KEYS = sizeof other_keys / sizeof other_keys[0] };

static ps_err check_keys(const json_t *object)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        bool known = false;
        const char *nearest = "";
        int distance = 4;
        for (int i = 0; i < N_NUMBERS + N_OTHER_KEYS && !known; i++) {
            const char *name = i < N_NUMBERS ? numbers[i].key : other_keys[i - N_NUMBERS];
            const int d = ps_text_distance(key, name);
            known = d == 0;
            if (d >= distance) continue;
            distance = d;
            nearest = name;
        }
        if (known) continue;
        if (nearest[0])
            return PS_FAIL(PS_ERR_USAGE, "unknown key \"%.60s\"; did you mean \"%s\"?", key,
                           nearest);
        return PS_FAIL(PS_ERR_USAGE, "unknown key \"%.60s\"", key);
    }
    return PS_OK;
}

static ps_err read_ids(const json_t *array, const char *key, ps_tokens *out)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *id = json_array_get(array, i);
        const json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
        if (value < 0 || value > INT32_MAX)
            return PS_FAIL(PS_ERR_FORMAT, "\"%s\": entry %zu is not a token id", key, i);
        ps_tokens_append(out, (int32_t)value);
    }
    return PS_OK;
}

static ps_err read_chat(ps_batch_context *batch, const json_t *messages, ps_request *out)
{
    if (!batch->chat) PS_TRY(ps_chat_prompt_open(batch->job, batch->chat_template, &batch->chat));
    return ps_chat_prompt_encode_json(batch->job, batch->chat, messages, out);
}

/* The ids of a text; behind a prefix without what begins or ends a whole prompt. */
static ps_err read_text(const ps_batch_context *batch, const char *key, const char *text, size_t n,
                        ps_tokens *out)
{
    if (!batch->prefix) {
        char quoted[32];
        snprintf(quoted, sizeof quoted, "\"%s\"", key);
        return ps_job_encode(batch->job, quoted, text, n, out);
    }
    if (!batch->job->tokenizer)
        return PS_FAIL(PS_ERR_USAGE, "\"%s\": the model has no tokenizer: give token ids", key);
    return ps_tokenizer_encode(batch->job->tokenizer, text, n, false, out);
}

/* A prompt behind the prefix: a text, or an array of ids. */
static ps_err read_either(const ps_batch_context *batch, const char *key, const json_t *value,
                          ps_tokens *out)
{
    for (size_t i = 0; batch->prefix && i < batch->prefix->n; i++) {
        ps_tokens_append(out, batch->prefix->ids[i]);
    }
    if (json_is_string(value))
        return read_text(batch, key, json_string_value(value), json_string_length(value), out);
    if (json_is_array(value)) return read_ids(value, key, out);
    return PS_FAIL(PS_ERR_FORMAT, "\"%s\" is not a text or an array of token ids", key);
}

static ps_err read_prompt(ps_batch_context *batch, const json_t *object, ps_request *out)
{
    const json_t *prompt = json_object_get(object, "prompt");
    const json_t *tokens = json_object_get(object, "tokens");
    const json_t *messages = json_object_get(object, "messages");
    if (!!prompt + !!tokens + !!messages != 1)
        return PS_FAIL(PS_ERR_USAGE, "wanted one of \"prompt\", \"tokens\" and \"messages\"");
    if (messages && batch->prefix)
        return PS_FAIL(PS_ERR_USAGE, "\"messages\" do not go on from a prefix: give \"prompt\" or "
                                     "\"tokens\"");
    if (messages) return read_chat(batch, messages, out);
    if (tokens && !json_is_array(tokens))
        return PS_FAIL(PS_ERR_FORMAT, "\"tokens\" is not an array of token ids");
    return read_either(batch, tokens ? "tokens" : "prompt", tokens ? tokens : prompt, &out->prompt);
}

/* Without a negative prompt it is what an empty text comes to. */
static ps_err read_guidance(const ps_batch_context *batch, const json_t *object, ps_request *out)
{
    const json_t *negative = json_object_get(object, "negative_prompt");
    out->guidance = 1.0;
    if (json_is_null(negative)) negative = NULL;
    if (negative && !json_object_get(object, "guidance_scale"))
        return PS_FAIL(PS_ERR_USAGE, "\"negative_prompt\" goes with \"guidance_scale\"");
    PS_TRY(ps_json_opt_real(object, "guidance_scale", where, &out->guidance));
    if (!(out->guidance >= 1.0))
        return PS_FAIL(PS_ERR_USAGE, "guidance_scale is %g, wanted 1 (off) or more", out->guidance);
    if (!ps_request_is_guided(out)) return PS_OK;
    if (json_object_get(object, "messages") && !json_is_array(negative))
        return PS_FAIL(PS_ERR_USAGE, "with \"messages\" a \"negative_prompt\" is an array of token "
                                     "ids");
    json_t *empty = json_string("");
    const ps_err err =
        read_either(batch, "negative_prompt", negative ? negative : empty, &out->negative);
    json_decref(empty);
    if (err || out->negative.n > 0) return err;
    return PS_FAIL(PS_ERR_USAGE, "\"negative_prompt\" comes to no token");
}

static ps_err read_numbers(const json_t *object, ps_sample_params *params)
{
    for (int i = 0; i < N_NUMBERS; i++) {
        char *at = (char *)params + numbers[i].offset;
        if (numbers[i].whole) {
            PS_TRY(
                ps_json_opt_int(object, numbers[i].key, -1, INT32_MAX, where, (int *)(void *)at));
        } else {
            PS_TRY(ps_json_opt_real(object, numbers[i].key, where, (double *)(void *)at));
        }
    }
    return PS_OK;
}

static ps_err add_stop(const json_t *value, ps_request *out)
{
    if (!json_is_string(value))
        return PS_FAIL(PS_ERR_FORMAT, "\"stop\" is neither a text nor an array of texts");
    const size_t n = json_string_length(value);
    out->stops[out->n_stops++] =
        (ps_stop_string){ps_mem_copy_bytes(json_string_value(value), n), n};
    return PS_OK;
}

static ps_err read_stops(const json_t *object, ps_request *out)
{
    const json_t *stop = json_object_get(object, "stop");
    if (!stop || json_is_null(stop)) return PS_OK;
    const size_t n = json_is_array(stop) ? json_array_size(stop) : 1;
    if (n > PS_STOP_MAX_STRINGS)
        return PS_FAIL(PS_ERR_LIMIT, "%zu stop strings, wanted at most %d", n, PS_STOP_MAX_STRINGS);
    out->stops = ps_mem_new(n, sizeof *out->stops);
    if (!json_is_array(stop)) return add_stop(stop, out);
    for (size_t i = 0; i < n; i++) {
        PS_TRY(add_stop(json_array_get(stop, i), out));
    }
    return PS_OK;
}

static ps_err read_logit_bias(const json_t *object, ps_request *out)
{
    json_t *map = NULL;
    PS_TRY(ps_json_opt(object, "logit_bias", JSON_OBJECT, where, &map));
    if (!map) return PS_OK;
    ps_sample_bias *biases = ps_mem_new(json_object_size(map), sizeof *biases);
    out->sampling.logit_bias = biases;
    const char *key;
    json_t *value;
    json_object_foreach(map, key, value)
    {
        char *end;
        const long id = strtol(key, &end, 10);
        const double bias = json_number_value(value);
        if (end == key || *end != '\0' || id < 0 || id > INT32_MAX || !json_is_number(value) ||
            !isfinite((float)bias))
            return PS_FAIL(PS_ERR_FORMAT,
                           "\"logit_bias\": \"%.20s\" is not a token id with a number", key);
        biases[out->sampling.n_logit_bias++] = (ps_sample_bias){(int32_t)id, (float)bias};
    }
    return PS_OK;
}

static ps_err read_banned(const json_t *object, ps_request *out)
{
    json_t *array = NULL;
    ps_tokens ids = {0};
    PS_TRY(ps_json_opt(object, "banned", JSON_ARRAY, where, &array));
    const ps_err err = read_ids(array, "banned", &ids);
    out->sampling.banned = ids.ids; // the request's from here on
    out->sampling.n_banned = (int)ids.n;
    return err;
}

static ps_err read_order(const json_t *object, ps_request *out)
{
    json_t *order = NULL;
    PS_TRY(ps_json_opt(object, "sampler_order", JSON_STRING, where, &order));
    return order ? ps_sample_order_parse(json_string_value(order), &out->sampling) : PS_OK;
}

static ps_err read_logprobs(const json_t *object, ps_request *out)
{
    const json_t *value = json_object_get(object, "logprobs");
    out->n_logprobs = -1;
    if (!value || json_is_null(value) || json_is_false(value)) return PS_OK;
    if (json_is_true(value)) {
        out->n_logprobs = 0;
        return PS_OK;
    }
    return ps_json_get_int(object, "logprobs", 0, PS_REQUEST_LOGPROBS_MAX, where, &out->n_logprobs);
}

static ps_err read_seed(const json_t *object, ps_request *out)
{
    json_t *seed = NULL;
    PS_TRY(ps_json_opt(object, "seed", JSON_INTEGER, where, &seed));
    if (!seed) return PS_OK;
    const json_int_t value = json_integer_value(seed);
    if (value < 0)
        return PS_FAIL(PS_ERR_FORMAT, "%s: seed is %lld, wanted 0 or more", where,
                       (long long)value);
    out->sampling.seed = (uint64_t)value;
    return PS_OK;
}

static ps_err read_all(ps_batch_context *batch, const json_t *object, ps_request *out)
{
    int max_tokens = 16;
    PS_TRY(check_keys(object));
    PS_TRY(read_prompt(batch, object, out));
    PS_TRY(read_guidance(batch, object, out));
    PS_TRY(ps_json_opt_int(object, "max_tokens", 0, INT32_MAX, where, &max_tokens));
    out->max_tokens = max_tokens;
    PS_TRY(ps_json_opt_int(object, "n", 1, PS_REQUEST_SAMPLES_MAX, where, &out->n_samples));
    PS_TRY(ps_json_opt_bool(object, "ignore_eos", where, &out->ignore_eos));
    PS_TRY(read_numbers(object, &out->sampling));
    if (out->sampling.temperature < 0.0)
        return PS_FAIL(PS_ERR_USAGE, "temperature is %g, wanted 0 or more",
                       out->sampling.temperature);
    PS_TRY(read_seed(object, out));
    PS_TRY(read_stops(object, out));
    PS_TRY(read_banned(object, out));
    PS_TRY(read_order(object, out));
    PS_TRY(read_logprobs(object, out));
    return read_logit_bias(object, out);
}

ps_err ps_batch_request_parse(ps_batch_context *batch, const char *line, size_t n,
                              uint64_t default_seed, json_t **id, ps_request *out)
{
    *id = NULL;
    *out = (ps_request){.n_samples = 1, .sampling = ps_sample_params_default()};
    out->sampling.seed = default_seed;
    json_t *object;
    PS_TRY(ps_json_parse(line, n, where, &object));
    ps_err err = PS_OK;
    if (!json_is_object(object)) {
        err = PS_FAIL(PS_ERR_FORMAT, "the line is not a JSON object");
    } else {
        *id = json_incref(json_object_get(object, "id"));
        err = read_all(batch, object, out);
    }
    json_decref(object);
    if (err) ps_request_release(out);
    return err;
}
