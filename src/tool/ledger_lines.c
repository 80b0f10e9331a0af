#include "tool/ledger_lines.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/lock.h"
#include "base/mem.h"

#define FORMAT "pipestep-journal"
enum { VERSION = 1 };

bool ps_ledger_read_number(const char *body, size_t n, size_t *at, uint64_t max, uint64_t *out)
{
    const size_t begin = *at;
    uint64_t value = 0;
    while (*at < n && body[*at] >= '0' && body[*at] <= '9') {
        const uint64_t digit = (uint64_t)(body[*at] - '0');
        if (value > (max - digit) / 10) return false;
        value = value * 10 + digit;
        ++*at;
    }
    if (*at == begin || *at >= n || body[*at] != ' ') return false;
    ++*at;
    *out = value;
    return true;
}

/* ---- head ---- */

/* Next "name = value" of `text`, moved behind it. */
static bool next_pair(const char **text, const char **name, size_t *n_name, const char **value,
                      size_t *n_value)
{
    while (**text) {
        const char *line = *text, *end = strchr(line, '\n');
        const size_t n = end ? (size_t)(end - line) : strlen(line);
        *text = line + n + (end != NULL);
        const char *middle = memmem(line, n, " = ", 3);
        if (!middle || *line == '#') continue;
        *name = line;
        *n_name = (size_t)(middle - line);
        *value = middle + 3;
        *n_value = n - *n_name - 3;
        return true;
    }
    return false;
}

void ps_ledger_write_head(const char *identity, size_t n, ps_text *out)
{
    const char *name, *value;
    size_t n_name, n_value;
    ps_text_appendf(out,
                    "H {\"format\": \"" FORMAT "\", \"version\": %d, \"requests\": %zu, "
                    "\"begun_with\": {",
                    VERSION, n);
    for (bool first = true; next_pair(&identity, &name, &n_name, &value, &n_value); first = false) {
        if (!first) ps_text_append_str(out, ", ");
        ps_json_append_text(out, name, n_name);
        ps_text_append_str(out, ": ");
        ps_json_append_text(out, value, n_value);
    }
    ps_text_append_str(out, "}}");
}

static ps_err differs(const char *path, const char *name, const char *then, const char *now)
{
    return PS_FAIL(PS_ERR_USAGE,
                   "%s: was begun with %s %.200s, this run has %.200s; --resume no begins again",
                   path, name, then, now);
}

static ps_err compare_pairs(const json_t *begun, const char *identity, const char *path)
{
    const char *name, *value;
    size_t n_name, n_value, n_pairs = 0;
    ps_text key = {0}, own = {0};
    ps_err err = PS_OK;
    while (!err && next_pair(&identity, &name, &n_name, &value, &n_value)) {
        ps_text_clear(&key);
        ps_text_append(&key, name, n_name);
        ps_text_clear(&own);
        ps_text_append(&own, value, n_value);
        const char *then = json_string_value(json_object_get(begun, ps_text_str(&key)));
        if (!then || strcmp(then, ps_text_str(&own)) != 0)
            err = differs(path, ps_text_str(&key), then ? then : "unset", ps_text_str(&own));
        n_pairs++;
    }
    ps_text_release(&own);
    ps_text_release(&key);
    if (!err && n_pairs != json_object_size(begun))
        err = differs(path, "other options", "set", "them unset");
    return err;
}

/* Which of its options this run has not. */
static ps_err check_unset(json_t *begun, const char *identity, const char *path)
{
    const char *key;
    json_t *then;
    json_object_foreach(begun, key, then)
    {
        const char *text = identity, *name, *value;
        size_t n_name, n_value;
        bool found = false;
        while (!found && next_pair(&text, &name, &n_name, &value, &n_value)) {
            found = strlen(key) == n_name && memcmp(key, name, n_name) == 0;
        }
        if (!found) return differs(path, key, json_string_value(then), "it unset");
    }
    return PS_OK;
}

ps_err ps_ledger_check_head(const char *body, size_t n_body, const char *identity, size_t n,
                            const char *path)
{
    json_t *head = NULL, *begun;
    const char *format;
    int version;
    if (n_body < 2 || memcmp(body, "H ", 2) != 0)
        return PS_FAIL(PS_ERR_FORMAT, "%s: is no journal of results", path);
    PS_TRY(ps_json_parse(body + 2, n_body - 2, path, &head));
    ps_err err = ps_json_get_text(head, "format", path, &format);
    if (!err) err = ps_json_get_int(head, "version", 0, INT32_MAX, path, &version);
    if (!err && (strcmp(format, FORMAT) != 0 || version != VERSION))
        err = PS_FAIL(PS_ERR_UNSUPPORTED, "%s: format %.40s %d, wanted " FORMAT " %d", path, format,
                      version, VERSION);
    if (!err) err = ps_json_get(head, "begun_with", JSON_OBJECT, path, &begun);
    if (!err) err = check_unset(begun, identity, path);
    if (!err) err = compare_pairs(begun, identity, path);
    const json_t *requests = json_object_get(head, "requests");
    if (!err && (!json_is_integer(requests) || (size_t)json_integer_value(requests) != n))
        err = PS_FAIL(PS_ERR_FORMAT, "%s: holds another number of requests than the input, %zu",
                      path, n);
    json_decref(head);
    return err;
}

/* ---- runs ---- */

void ps_ledger_write_run(int n_ranks, int n_threads, ps_text *out)
{
    char host[256] = "", utc[PS_CLOCK_UTC_BYTES];
    int restart;
    ps_text job = {0};
    gethostname(host, sizeof host - 1);
    ps_clock_utc_text(ps_clock_unix_s(), utc);
    ps_lock_batch_job(&job, &restart);
    ps_text_appendf(out, "J {\"ranks\": %d, \"threads\": %d, \"begun\": \"%s\", \"pid\": %ld, ",
                    n_ranks, n_threads, utc, (long)getpid());
    ps_text_append_str(out, "\"host\": ");
    ps_json_append_text(out, host, strlen(host));
    ps_text_append_str(out, ", \"job\": ");
    ps_json_append_text(out, ps_text_str(&job), job.len);
    ps_text_appendf(out, ", \"restart\": %d}", restart);
    ps_text_release(&job);
}

bool ps_ledger_read_run(const char *body, size_t n, int *n_ranks, int *n_threads)
{
    json_t *run;
    if (n < 2 || ps_json_parse(body + 2, n - 2, "run", &run) != PS_OK) return false;
    const bool good = ps_json_get_int(run, "ranks", 1, INT32_MAX, "run", n_ranks) == PS_OK &&
                      ps_json_get_int(run, "threads", 1, INT32_MAX, "run", n_threads) == PS_OK;
    json_decref(run);
    return good;
}

/* ---- notes ---- */

/* [chosen, id, log-probability, id, ...]; -inf, which JSON does not have, is null. */
static void append_logprobs(const ps_sampler_logprobs *l, ps_text *out)
{
    ps_text_append_char(out, '[');
    ps_json_append_real(out, l->chosen);
    for (int i = 0; i < l->n_top; i++) {
        ps_text_appendf(out, ",%d,", l->token[i]);
        ps_json_append_real(out, l->logprob[i]);
    }
    ps_text_append_char(out, ']');
}

void ps_ledger_write_note(size_t number, int sample, size_t first, const ps_completion *so_far,
                          ps_text *out)
{
    ps_text_appendf(out, "P %zu %d %zu {\"tokens\": [", number, sample, first);
    for (size_t t = first; t < so_far->tokens.n; t++) {
        ps_text_appendf(out, t > first ? ",%d" : "%d", so_far->tokens.ids[t]);
    }
    ps_text_append_char(out, ']');
    if (so_far->logprobs) {
        ps_text_append_str(out, ", \"logprobs\": [");
        for (size_t t = first; t < so_far->tokens.n; t++) {
            if (t > first) ps_text_append_char(out, ',');
            append_logprobs(&so_far->logprobs[t], out);
        }
        ps_text_append_char(out, ']');
    }
    ps_text_append_char(out, '}');
}

static bool read_real(const json_t *value, double *out)
{
    *out = json_is_null(value) ? -INFINITY : json_number_value(value);
    return json_is_null(value) || json_is_number(value);
}

static bool read_id(const json_t *value, int vocab_size, int32_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) >= vocab_size)
        return false;
    *out = (int32_t)json_integer_value(value);
    return true;
}

static bool read_logprobs(const json_t *array, int n_logprobs, int vocab_size,
                          ps_sampler_logprobs *out)
{
    const int n_top = n_logprobs < vocab_size ? n_logprobs : vocab_size;
    if (!json_is_array(array) || json_array_size(array) != 1 + 2 * (size_t)n_top) return false;
    *out = (ps_sampler_logprobs){.n_top = n_top};
    bool good = read_real(json_array_get(array, 0), &out->chosen);
    for (int i = 0; i < n_top && good; i++) {
        const size_t at = 1 + 2 * (size_t)i;
        good = read_id(json_array_get(array, at), vocab_size, &out->token[i]) &&
               read_real(json_array_get(array, at + 1), &out->logprob[i]);
    }
    return good;
}

static bool read_tokens(const json_t *note, size_t first, int n_logprobs, int vocab_size,
                        ps_completion *c)
{
    const json_t *tokens = json_object_get(note, "tokens");
    const json_t *logprobs = json_object_get(note, "logprobs");
    const size_t n = json_array_size(tokens);
    if (!json_is_array(tokens) || (n_logprobs >= 0) != (logprobs != NULL)) return false;
    if (logprobs && json_array_size(logprobs) != n) return false;
    c->tokens.n = first;
    for (size_t t = 0; t < n; t++) {
        int32_t id;
        if (!read_id(json_array_get(tokens, t), vocab_size, &id)) return false;
        if (logprobs) {
            c->logprobs =
                ps_mem_grow(c->logprobs, &c->logprobs_capacity, first + t + 1, sizeof *c->logprobs);
            if (!read_logprobs(json_array_get(logprobs, t), n_logprobs, vocab_size,
                               &c->logprobs[first + t]))
                return false;
        }
        ps_tokens_append(&c->tokens, id);
    }
    return true;
}

bool ps_ledger_read_note(const char *body, size_t n, int n_samples, int n_logprobs, int vocab_size,
                         ps_completion *begun)
{
    size_t at = 2;
    uint64_t number, sample, first;
    if (!ps_ledger_read_number(body, n, &at, SIZE_MAX, &number) ||
        !ps_ledger_read_number(body, n, &at, INT32_MAX, &sample) ||
        !ps_ledger_read_number(body, n, &at, SIZE_MAX, &first))
        return false;
    json_t *note;
    if (sample >= (uint64_t)n_samples || first > begun[sample].tokens.n ||
        ps_json_parse(body + at, n - at, "note", &note) != PS_OK)
        return false;
    const bool good = read_tokens(note, (size_t)first, n_logprobs, vocab_size, &begun[sample]);
    json_decref(note);
    return good;
}
