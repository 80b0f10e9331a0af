#include "support/golden_acestep.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "tool/import/convert.h"

enum { TEXT_MAX = 1 << 26, PROMPTS_MAX = 64 };

// ---- logits ----

/* Largest difference of found[last n_wanted values before `end`] and wanted; NaN: no such data. */
static double compare_tail(const float *found, size_t end, const float *wanted, size_t n_wanted)
{
    if (!found || !wanted || n_wanted > end) return NAN;
    double worst = 0.0;
    for (size_t i = 0; i < n_wanted; i++) {
        const double d = fabs((double)found[end - n_wanted + i] - (double)wanted[i]);
        if (isnan(d) || d > worst) worst = d;
    }
    return worst;
}

typedef struct figures {
    double logits, logprob, hidden;
    int n_argmax_wrong;
} figures;

static void worsen(double *worst, double error)
{
    if (isnan(error) || error > *worst) *worst = error;
}

/* Likeliest tokens, where the reference says that they are so by enough. */
static int count_wrong_argmax(const float *logits, size_t n_logits, const int32_t *argmax,
                              const float *gap, size_t T)
{
    int wrong = 0;
    const size_t V = T > 0 ? n_logits / T : 0;
    for (size_t t = 0; t < T; t++) {
        size_t best = 0;
        for (size_t v = 1; v < V; v++) {
            if (logits[t * V + v] > logits[t * V + best]) best = v;
        }
        wrong += gap[t] > 1e-3F && best != (size_t)argmax[t];
    }
    return wrong;
}

/* The embedding and the outputs of all blocks but the last, of the last token: the reference has
 * the last one's behind the norm. found[L + 1, T, D], wanted[L + 1, D]. */
static double compare_hidden(const float *found, size_t n_found, const float *wanted,
                             size_t n_wanted, size_t T, size_t D)
{
    if (!found || !wanted || D == 0 || n_wanted < 2 * D || n_found != T * n_wanted) return NAN;
    double worst = 0.0;
    for (size_t layer = 0; layer + 1 < n_wanted / D; layer++) {
        worsen(&worst, compare_tail(found + layer * T * D, T * D, wanted + layer * D, D));
    }
    return worst;
}

static void *read_at(ps_h5_file *file, const char *format, int i, const char *what, ps_h5_type type,
                     size_t *n)
{
    char name[64];
    snprintf(name, sizeof name, format, i, what);
    return golden_read_dataset(file, name, type, n);
}

/* D 0: without hidden values. */
static void compare_prompt(ps_h5_file *found, ps_h5_file *wanted, int i, size_t D, figures *f)
{
    size_t n, n_wanted, T, n_gap, n_logits;
    int32_t *argmax = read_at(wanted, "/prompt%d/%s", i, "argmax", PS_H5_I32, &T);
    float *gap = read_at(wanted, "/prompt%d/%s", i, "argmax_gap", PS_H5_F32, &n_gap);
    float *a = read_at(found, "/%d/%s", i, "logits", PS_H5_F32, &n_logits);
    float *b = read_at(wanted, "/prompt%d/%s", i, "last_logits", PS_H5_F32, &n_wanted);
    worsen(&f->logits, compare_tail(a, n_logits, b, n_wanted));
    if (a && argmax && gap && n_gap == T) {
        f->n_argmax_wrong += count_wrong_argmax(a, n_logits, argmax, gap, T);
    } else {
        f->n_argmax_wrong++;
    }
    ps_mem_free(a);
    ps_mem_free(b);
    if (T > 1) {
        a = read_at(found, "/%d/%s", i, "logprob", PS_H5_F32, &n);
        b = read_at(wanted, "/prompt%d/%s", i, "next_logprob", PS_H5_F32, &n_wanted);
        worsen(&f->logprob, n == n_wanted ? compare_tail(a, n, b, n_wanted) : NAN);
        ps_mem_free(a);
        ps_mem_free(b);
    }
    if (D > 0) {
        a = read_at(found, "/%d/%s", i, "hidden", PS_H5_F32, &n);
        b = read_at(wanted, "/prompt%d/%s", i, "hidden_last_token", PS_H5_F32, &n_wanted);
        worsen(&f->hidden, compare_hidden(a, n, b, n_wanted, T, D));
        ps_mem_free(a);
        ps_mem_free(b);
    }
    ps_mem_free(argmax);
    ps_mem_free(gap);
}

static void check_logits(golden *g, const char *directory, const char *name, size_t D)
{
    char path[4200], arguments[512], ids[64];
    ps_h5_file *wanted, *found = NULL;
    const bool alone = strcmp(g->ranks, "1") == 0;
    snprintf(path, sizeof path, "%s/logits.h5", directory);
    if (ps_h5_open(path, &wanted)) {
        golden_verdict(g, name, "logits.h5", false, ps_err_message());
        return;
    }
    int n = 0;
    for (; n < PROMPTS_MAX; n++) {
        snprintf(ids, sizeof ids, "/prompt%d/ids", n);
        if (!ps_h5_exists(wanted, ids) || !golden_write_ids(g, "prompts.txt", n > 0, wanted, ids))
            break;
    }
    snprintf(arguments, sizeof arguments,
             "score %s/model.h5 --tokens %s/prompts.txt --logits %s/logits.h5 -q%s", g->scratch,
             g->scratch, g->scratch, alone ? " --hidden" : "");
    snprintf(path, sizeof path, "%s/logits.h5", g->scratch);
    if (golden_run(g, true, arguments, "score") != 0 || ps_h5_open(path, &found)) found = NULL;
    figures f = {0};
    for (int i = 0; i < n; i++) {
        compare_prompt(found, wanted, i, alone ? D : 0, &f);
    }
    golden_row(g, name, "logits, abs", n > 0 ? f.logits : NAN, 1e-4);
    golden_row(g, name, "logprob, abs", f.logprob, 1e-4);
    if (alone) golden_row(g, name, "hidden, abs", f.hidden, 1e-4);
    golden_verdict(g, name, "likeliest", n > 0 && f.n_argmax_wrong == 0, "differ");
    if (found) ps_h5_close(found);
    ps_h5_close(wanted);
}

// ---- runs ----

/* Rows of a file, as an array; NULL when it cannot be read. */
static json_t *read_rows(const char *directory, const char *file)
{
    ps_text path = {0}, text = {0};
    ps_text_appendf(&path, "%s/%s", directory, file);
    const ps_err err = ps_file_read(ps_text_str(&path), TEXT_MAX, &text);
    json_t *rows = err ? NULL : json_array();
    for (const char *at = ps_text_str(&text); rows && *at;) {
        const char *end = strchrnul(at, '\n');
        if (json_array_append_new(rows, json_loadb(at, (size_t)(end - at), 0, NULL))) {
            json_decref(rows);
            rows = NULL;
        }
        at = *end ? end + 1 : end;
    }
    ps_text_release(&text);
    ps_text_release(&path);
    return rows;
}

/* Copies a member under the request's name for it, if it is there and not null. */
static void copy(const json_t *row, const char *from, json_t *request, const char *to)
{
    json_t *value = json_object_get(row, from);
    if (value && !json_is_null(value)) json_object_set(request, to, value);
}

static void copy_given(const json_t *row, json_t *request)
{
    const json_t *given = json_object_get(row, "user_metadata");
    static const char *const same[] = {"bpm", "duration", "keyscale", "timesignature"};
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        copy(given, same[i], request, same[i]);
    }
    copy(given, "language", request, "vocal_language");
}

static void copy_texts(const json_t *row, json_t *request)
{
    copy(row, "id", request, "id");
    copy(row, "caption", request, "caption");
    copy(row, "lyrics", request, "lyrics");
    copy(row, "max_duration", request, "max_duration");
    copy_given(row, request);
}

static json_t *request_of_generate(const json_t *row)
{
    json_t *request = json_object();
    copy_texts(row, request);
    copy(row, "format", request, "format");
    copy(row, "cfg_scale", request, "lm_cfg_scale");
    copy(row, "negative_prompt", request, "lm_negative_prompt");
    copy(row, "use_cot_caption", request, "use_cot_caption");
    copy(row, "use_cot_language", request, "use_cot_language");
    copy(row, "target_duration", request, "target_duration");
    return request;
}

/* The run as a request, or NULL for one that requests cannot say. */
static json_t *request_of_states(const json_t *row)
{
    const json_t *given = json_object_get(row, "user_metadata");
    const char *logits = json_string_value(json_object_get(row, "logits"));
    if (!logits || strcmp(logits, "model") != 0 || json_object_get(given, "caption") ||
        json_object_get(given, "genres") || json_is_false(json_object_get(row, "skip_genres")) ||
        json_is_false(json_object_get(row, "stop_at_reasoning")) ||
        json_is_real(json_object_get(row, "target_duration")))
        return NULL;
    json_t *request = json_object();
    const char *mode = json_string_value(json_object_get(row, "mode"));
    copy_texts(row, request);
    copy(row, "mode", request, "mode");
    copy(row, "max_new_tokens", request, "max_tokens");
    copy(row, "audio_codes", request, "audio_codes");
    copy(row, "query", request, "query");
    copy(row, "instrumental", request, "instrumental");
    copy(row, "vocal_language", request, "vocal_language");
    if (strcmp(mode, "generate") != 0) return request;
    const double scale = json_number_value(json_object_get(row, "cfg_scale"));
    const bool caption = json_is_true(json_object_get(row, "skip_caption"));
    const bool language = json_is_true(json_object_get(row, "skip_language"));
    copy(row, "negative_prompt", request, "lm_negative_prompt");
    copy(row, "cfg_scale", request, "lm_cfg_scale");
    json_object_set_new(request, "format", json_string(scale > 1.0 ? "legacy" : "new"));
    json_object_set_new(request, "thinking", json_false());
    json_object_set_new(request, "use_cot_caption", json_boolean(!caption));
    json_object_set_new(request, "use_cot_language", json_boolean(!language));
    return request;
}

/* Appends what of `found` is not as in `wanted`. */
static void expect(const json_t *found, const char *key, const json_t *wanted,
                   const char *wanted_key, ps_text *wrong)
{
    const json_t *a = json_object_get(found, key), *b = json_object_get(wanted, wanted_key);
    if (json_is_null(b)) b = NULL;
    if (a == b || (a && b && json_equal(a, b))) return;
    ps_text_appendf(wrong, "%s%s", wrong->len ? ", " : "", key);
}

static void compare_generate(const json_t *found, const json_t *wanted, ps_text *wrong)
{
    const json_t *outputs = json_object_get(found, "outputs");
    const json_t *phases = json_object_get(wanted, "phases");
    expect(found, "metadata", wanted, "metadata", wrong);
    expect(found, "cot", wanted, "cot", wrong);
    expect(json_array_get(outputs, 0), "codes", wanted, "codes", wrong);
    if (json_array_size(phases) != json_array_size(json_object_get(found, "phases")))
        ps_text_append_str(wrong, " number of phases");
    for (size_t i = 0; i < json_array_size(phases); i++) {
        const json_t *a = json_array_get(json_object_get(found, "phases"), i);
        const json_t *b = json_array_get(phases, i);
        expect(a, "prompt", b, "prompt_text", wrong);
        expect(a, "without", b, "uncond_text", wrong);
        if (json_object_get(a, "tokens")) expect(a, "tokens", b, "tokens", wrong);
    }
}

static void compare_states(const json_t *found, const json_t *wanted, ps_text *wrong)
{
    const json_t *phase = json_array_get(json_object_get(found, "phases"), 0);
    expect(found, "metadata", wanted, "metadata", wrong);
    expect(phase, "prompt", wanted, "prompt_text", wrong);
    expect(phase, "tokens", wanted, "tokens", wrong);
    expect(phase, "text", wanted, "text", wrong);
    if (json_object_get(wanted, "lyrics_out")) expect(found, "lyrics", wanted, "lyrics_out", wrong);
}

/* A number of a JSON file of the model; 0 when it is not there. */
static int read_number(const char *directory, const char *file, const char *key)
{
    ps_text path = {0};
    ps_text_appendf(&path, "%s/model/%s", directory, file);
    json_t *about = json_load_file(ps_text_str(&path), 0, NULL);
    const int number = (int)json_integer_value(json_object_get(about, key));
    json_decref(about);
    ps_text_release(&path);
    return number;
}

static void check_runs(golden *g, const char *directory, const char *name, const char *file,
                       json_t *(*request_of)(const json_t *row),
                       void (*compare)(const json_t *found, const json_t *wanted, ps_text *wrong))
{
    char path[128], error[1024];
    ps_text arguments = {0};
    json_t *rows = read_rows(directory, file), *used = json_array(), *row;
    snprintf(path, sizeof path, "%s/requests.jsonl", g->scratch);
    FILE *requests = fopen(path, "w");
    size_t i;
    json_array_foreach(rows, i, row)
    {
        json_t *request = request_of(row);
        if (!request) continue;
        json_dumpf(request, requests, JSON_COMPACT);
        fputc('\n', requests);
        json_array_append(used, row);
        json_decref(request);
    }
    fclose(requests);
    ps_text_appendf(&arguments,
                    "acestep %s/model.h5 --requests %s --out %s/results.jsonl --temperature 0 "
                    "--codebook %d --genres %s/genres.txt -q",
                    g->scratch, path, g->scratch,
                    read_number(directory, "acestep.json", "legal_codes"), directory);
    const int status = golden_run(g, true, ps_text_str(&arguments), "acestep");
    json_t *results = status == 0 ? read_rows(g->scratch, "results.jsonl") : NULL;
    golden_read_text(g, "acestep.err", error, sizeof error);
    if (json_array_size(used) == 0 || json_array_size(results) != json_array_size(used))
        golden_verdict(g, name, file, false, error[0] ? error : "no rows");
    json_array_foreach(results, i, row)
    {
        const json_t *wanted = json_array_get(used, i);
        ps_text wrong = {0};
        compare(row, wanted, &wrong);
        if (wrong.len > 0) ps_text_append_str(&wrong, " differ");
        golden_verdict(g, name, json_string_value(json_object_get(wanted, "id")), wrong.len == 0,
                       ps_text_str(&wrong));
        ps_text_release(&wrong);
    }
    json_decref(results);
    json_decref(used);
    json_decref(rows);
    ps_text_release(&arguments);
}

bool golden_check_acestep(golden *g, const char *directory, const char *name)
{
    char source[4200], model[128];
    if (!golden_exists(directory, "generate.jsonl") || !golden_exists(directory, "fsm.jsonl"))
        return false;
    snprintf(source, sizeof source, "%s/model", directory);
    snprintf(model, sizeof model, "%s/model.h5", g->scratch);
    if (ps_convert_directory(source, model, NULL)) {
        golden_verdict(g, name, "convert", false, ps_err_message());
        return true;
    }
    if (golden_exists(directory, "logits.h5"))
        check_logits(g, directory, name,
                     (size_t)read_number(directory, "config.json", "hidden_size"));
    check_runs(g, directory, name, "generate.jsonl", request_of_generate, compare_generate);
    check_runs(g, directory, name, "fsm.jsonl", request_of_states, compare_states);
    return true;
}
