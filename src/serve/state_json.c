#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "model/spec.h"
#include "serve/state_parts.h"

/* The numbers of the sampler that are reals, and those that are integers. */
static const struct {
    const char *key;
    size_t offset;
} reals[] = {{"temperature", offsetof(ps_sample_params, temperature)},
             {"top_p", offsetof(ps_sample_params, top_p)},
             {"min_p", offsetof(ps_sample_params, min_p)},
             {"typical_p", offsetof(ps_sample_params, typical_p)},
             {"repetition_penalty", offsetof(ps_sample_params, repetition_penalty)},
             {"frequency_penalty", offsetof(ps_sample_params, frequency_penalty)},
             {"presence_penalty", offsetof(ps_sample_params, presence_penalty)}},
  integers[] = {{"top_k", offsetof(ps_sample_params, top_k)},
                {"repeat_last_n", offsetof(ps_sample_params, repeat_last_n)},
                {"min_tokens", offsetof(ps_sample_params, min_new_tokens)}};

enum {
    N_REALS = sizeof reals / sizeof reals[0],
    N_INTEGERS = sizeof integers / sizeof integers[0],
    IDENTITY_BYTES = 24
};

/* ---- writing ---- */

static void append_ids(ps_text *out, const char *key, const int32_t *ids, int n)
{
    ps_text_appendf(out, "\"%s\": [", key);
    for (int i = 0; i < n; i++) {
        ps_text_appendf(out, i ? ", %d" : "%d", ids[i]);
    }
    ps_text_append_str(out, "]");
}

static void append_sampling(ps_text *out, const ps_sample_params *p)
{
    ps_text_append_str(out, " \"sampling\": {");
    for (int i = 0; i < N_REALS; i++) {
        ps_text_appendf(out, "\"%s\": ", reals[i].key);
        ps_json_append_real(out,
                            *(const double *)(const void *)((const char *)p + reals[i].offset));
        ps_text_append_str(out, ", ");
    }
    for (int i = 0; i < N_INTEGERS; i++) {
        ps_text_appendf(out, "\"%s\": %d, ", integers[i].key,
                        *(const int *)(const void *)((const char *)p + integers[i].offset));
    }
    // 64 bits are more than every reader of JSON keeps in a number.
    ps_text_appendf(out, "\"seed\": \"%" PRIu64 "\", \"sample\": %" PRIu32 ",\n  \"order\": \"",
                    p->seed, p->sample);
    for (int i = 0; i < p->n_order; i++) {
        ps_text_appendf(out, i ? ",%s" : "%s", ps_sample_step_name(p->order[i]));
    }
    ps_text_append_str(out, "\",\n  \"logit_bias\": [");
    for (int i = 0; i < p->n_logit_bias; i++) {
        ps_text_appendf(out, i ? ", [%d, " : "[%d, ", p->logit_bias[i].token);
        ps_json_append_real(out, (double)p->logit_bias[i].bias);
        ps_text_append_str(out, "]");
    }
    ps_text_append_str(out, "], ");
    append_ids(out, "banned", p->banned, p->n_banned);
    ps_text_append_str(out, "}");
}

void ps_state_to_json(const ps_state *s, const ps_state_origin *origin, ps_text *out)
{
    ps_text_appendf(
        out, "{\"model_identity\": \"%016" PRIx64 "\", \"arithmetic\": ", origin->model_identity);
    ps_json_append_text(out, origin->arithmetic, strlen(origin->arithmetic));
    ps_text_appendf(out,
                    ",\n \"position\": %" PRId64 ", \"length\": %" PRId64
                    ", \"first_token\": %" PRId64 ", \"finish\": \"%s\",\n \"generated\": "
                    "\"%" PRIu64 "\", \"ignore_eos\": %s, ",
                    s->position, s->length, s->first, ps_finish_name(s->finish),
                    s->sampler.generated, s->request.ignore_eos ? "true" : "false");
    append_ids(out, "end_ids", s->request.end_ids, s->request.n_end_ids);
    ps_text_append_str(out, ", \"stop_bytes\": [");
    for (int i = 0; i < s->request.n_stops; i++) {
        ps_text_appendf(out, i ? ", %zu" : "%zu", s->request.stops[i].n);
    }
    ps_text_append_str(out, "],\n");
    append_sampling(out, &s->request.sampling);
    ps_text_append_str(out, "}\n");
}

/* ---- reading ---- */

static ps_err read_i64(const json_t *object, const char *key, const char *where, int64_t *out)
{
    json_t *value;
    PS_TRY(ps_json_get(object, key, JSON_INTEGER, where, &value));
    *out = json_integer_value(value);
    if (*out >= 0 && *out <= INT64_C(1) << 62) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "%s: %s is %lld, wanted 0 or more", where, key, (long long)*out);
}

/* An unsigned number of 64 bits in a text. */
static ps_err read_u64(const json_t *object, const char *key, const char *where, uint64_t *out)
{
    const char *text;
    PS_TRY(ps_json_get_text(object, key, where, &text));
    char again[IDENTITY_BYTES];
    *out = strtoull(text, NULL, 10);
    snprintf(again, sizeof again, "%" PRIu64, *out);
    if (strcmp(text, again) == 0) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "%s: %s is \"%.30s\", wanted a number of 64 bits", where, key,
                   text);
}

static ps_err read_array(const json_t *object, const char *key, size_t limit, const char *where,
                         json_t **out)
{
    PS_TRY(ps_json_get(object, key, JSON_ARRAY, where, out));
    if (json_array_size(*out) <= limit) return PS_OK;
    return PS_FAIL(PS_ERR_LIMIT, "%s: %s has %zu entries, wanted at most %zu", where, key,
                   json_array_size(*out), limit);
}

static ps_err read_ids(const json_t *object, const char *key, size_t limit, const char *where,
                       int32_t *out, int *n)
{
    json_t *array;
    PS_TRY(read_array(object, key, limit, where, &array));
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *id = json_array_get(array, i);
        const json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
        if (value < 0 || value > INT32_MAX)
            return PS_FAIL(PS_ERR_FORMAT, "%s: entry %zu of %s is not a token id", where, i, key);
        out[(*n)++] = (int32_t)value;
    }
    return PS_OK;
}

static ps_err read_logit_bias(const json_t *sampling, const char *where, ps_sample_params *out)
{
    json_t *array;
    PS_TRY(read_array(sampling, "logit_bias", PS_SPEC_VOCAB_MAX, where, &array));
    ps_sample_bias *biases = ps_mem_new(json_array_size(array), sizeof *biases);
    out->logit_bias = biases;
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *pair = json_array_get(array, i);
        const json_t *id = json_array_get(pair, 0), *bias = json_array_get(pair, 1);
        const json_int_t token = json_is_integer(id) ? json_integer_value(id) : -1;
        // What is beyond a float would be written as no number.
        if (token < 0 || token > INT32_MAX || !json_is_number(bias) ||
            fabs(json_number_value(bias)) > (double)FLT_MAX)
            return PS_FAIL(PS_ERR_FORMAT, "%s: entry %zu of logit_bias is not [token, number]",
                           where, i);
        biases[out->n_logit_bias++] =
            (ps_sample_bias){(int32_t)token, (float)json_number_value(bias)};
    }
    return PS_OK;
}

static ps_err read_banned(const json_t *sampling, const char *where, ps_sample_params *out)
{
    json_t *array;
    PS_TRY(read_array(sampling, "banned", PS_SPEC_VOCAB_MAX, where, &array));
    int32_t *ids = ps_mem_new(json_array_size(array), sizeof *ids);
    out->banned = ids;
    return read_ids(sampling, "banned", PS_SPEC_VOCAB_MAX, where, ids, &out->n_banned);
}

static ps_err read_sampling(const json_t *object, const char *where, ps_sample_params *out)
{
    json_t *sampling;
    const char *order;
    int sample;
    PS_TRY(ps_json_get(object, "sampling", JSON_OBJECT, where, &sampling));
    for (int i = 0; i < N_REALS; i++) {
        PS_TRY(ps_json_get_real(sampling, reals[i].key, where,
                                (double *)(void *)((char *)out + reals[i].offset)));
    }
    for (int i = 0; i < N_INTEGERS; i++) {
        PS_TRY(ps_json_get_int(sampling, integers[i].key, -1, INT32_MAX, where,
                               (int *)(void *)((char *)out + integers[i].offset)));
    }
    PS_TRY(read_u64(sampling, "seed", where, &out->seed));
    PS_TRY(ps_json_get_int(sampling, "sample", 0, PS_REQUEST_SAMPLES_MAX, where, &sample));
    out->sample = (uint32_t)sample;
    PS_TRY(ps_json_get_text(sampling, "order", where, &order));
    PS_TRY(ps_sample_order_parse(order, out));
    PS_TRY(read_banned(sampling, where, out));
    return read_logit_bias(sampling, where, out);
}

/* Lengths only; the bytes follow. */
static ps_err read_stops(const json_t *object, const char *where, ps_request *out)
{
    json_t *array;
    PS_TRY(read_array(object, "stop_bytes", PS_STOP_MAX_STRINGS, where, &array));
    out->stops = ps_mem_new(json_array_size(array), sizeof *out->stops);
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *entry = json_array_get(array, i);
        const json_int_t n = json_is_integer(entry) ? json_integer_value(entry) : 0;
        if (n < 1 || n > PS_STOP_MAX_BYTES)
            return PS_FAIL(PS_ERR_FORMAT, "%s: a stop string of %lld bytes, wanted 1..%d", where,
                           (long long)n, PS_STOP_MAX_BYTES);
        out->stops[out->n_stops++].n = (size_t)n;
    }
    return PS_OK;
}

static ps_err read_finish(const json_t *object, const char *where, ps_finish *out)
{
    const char *name;
    PS_TRY(ps_json_get_text(object, "finish", where, &name));
    for (int f = PS_FINISH_STOP; f < PS_FINISH_COUNT; f++) {
        if (strcmp(name, ps_finish_name((ps_finish)f)) != 0) continue;
        *out = (ps_finish)f;
        return PS_OK;
    }
    return PS_FAIL(PS_ERR_FORMAT, "%s: finish is \"%.30s\"", where, name);
}

static ps_err check_origin(const json_t *object, const char *where, const ps_state_origin *origin)
{
    const char *found;
    char wanted[IDENTITY_BYTES];
    snprintf(wanted, sizeof wanted, "%016" PRIx64, origin->model_identity);
    PS_TRY(ps_json_get_text(object, "model_identity", where, &found));
    if (strcmp(found, wanted) != 0)
        return PS_FAIL(PS_ERR_FORMAT, "%s: is the state of another model: %.30s, this one is %s",
                       where, found, wanted);
    PS_TRY(ps_json_get_text(object, "arithmetic", where, &found));
    if (strcmp(found, origin->arithmetic) != 0)
        return PS_FAIL(PS_ERR_FORMAT, "%s: was computed with %.100s, this run has %s", where, found,
                       origin->arithmetic);
    return PS_OK;
}

static ps_err read_all(const json_t *object, const char *where, const ps_state_origin *origin,
                       ps_state *out)
{
    PS_TRY(check_origin(object, where, origin));
    PS_TRY(read_i64(object, "position", where, &out->position));
    PS_TRY(read_i64(object, "length", where, &out->length));
    PS_TRY(read_i64(object, "first_token", where, &out->first));
    PS_TRY(read_u64(object, "generated", where, &out->sampler.generated));
    PS_TRY(read_finish(object, where, &out->finish));
    PS_TRY(ps_json_opt_bool(object, "ignore_eos", where, &out->request.ignore_eos));
    PS_TRY(read_ids(object, "end_ids", PS_REQUEST_ENDS_MAX, where, out->request.end_ids,
                    &out->request.n_end_ids));
    PS_TRY(read_stops(object, where, &out->request));
    return read_sampling(object, where, &out->request.sampling);
}

ps_err ps_state_from_json(const char *json, size_t n, const char *where,
                          const ps_state_origin *origin, ps_state *out)
{
    json_t *object;
    PS_TRY(ps_json_parse(json, n, where, &object));
    const ps_err err = json_is_object(object)
                           ? read_all(object, where, origin, out)
                           : PS_FAIL(PS_ERR_FORMAT, "%s: /state is not a JSON object", where);
    json_decref(object);
    return err;
}
