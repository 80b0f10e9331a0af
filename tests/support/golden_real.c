/* The logits of a long text are many (0.7 GB for 674 positions of 262144): they are looked at where
 * the program's output maps them. */
#include "support/golden_real.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

enum { TOP = 20 };

static const char *const groups[] = {"short", "mixed", "long"};

static const struct {
    const char *options, *label;
    double logits, logprob;
} runs[] = {
    {"--activations f32", "f32", 2e-3, 5e-4},
    {"", "default", 2e-2, 1e-2},
};

/* What one run of one text is compared with. */
typedef struct reference {
    size_t n, vocabulary;
    int32_t *top_ids;    // [n, TOP]
    float *top_logits;   // [n, TOP]
    float *next_logprob; // [n]
    float *last_logits;  // [vocabulary]
} reference;

static void *read_in(ps_h5_file *file, const char *group, const char *name, ps_h5_type type,
                     size_t *n)
{
    char path[64];
    snprintf(path, sizeof path, "/%s/%s", group, name);
    return golden_read_dataset(file, path, type, n);
}

static void release(reference *r)
{
    ps_mem_free(r->top_ids);
    ps_mem_free(r->top_logits);
    ps_mem_free(r->next_logprob);
    ps_mem_free(r->last_logits);
}

static bool read_reference(ps_h5_file *file, const char *group, reference *out)
{
    size_t n_ids, n_logits;
    *out = (reference){0};
    out->next_logprob = read_in(file, group, "next_logprob", PS_H5_F32, &out->n);
    out->top_ids = read_in(file, group, "top_ids", PS_H5_I32, &n_ids);
    out->top_logits = read_in(file, group, "top_logits", PS_H5_F32, &n_logits);
    out->last_logits = read_in(file, group, "last_logits", PS_H5_F32, &out->vocabulary);
    if (out->n > 1 && n_ids == out->n * TOP && n_logits == n_ids && out->last_logits) return true;
    release(out);
    return false;
}

bool golden_is_real(const char *directory)
{
    char path[4200];
    ps_h5_file *file;
    snprintf(path, sizeof path, "%s/expected.h5", directory);
    if (!golden_exists(directory, "expected.h5") || ps_h5_open(path, &file)) return false;
    const bool is_real = ps_h5_exists(file, "/short/top_ids");
    ps_h5_close(file);
    return is_real;
}

/* ---- one run of one text ---- */

typedef struct errors {
    double logits, logprob;
    int n_argmax; // positions whose highest logit is the reference's
} errors;

static int highest(const float *logits, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++) {
        if (logits[i] > logits[best]) best = i;
    }
    return (int)best;
}

static void compare_rows(const float *logits, const reference *r, errors *out)
{
    for (size_t row = 0; row < r->n; row++) {
        const float *found = logits + row * r->vocabulary;
        for (size_t t = 0; t < TOP; t++) {
            const int32_t id = r->top_ids[row * TOP + t];
            const double error = fabs((double)found[id] - (double)r->top_logits[row * TOP + t]);
            if (!(error <= out->logits)) out->logits = error;
        }
        out->n_argmax += highest(found, r->vocabulary) == r->top_ids[row * TOP];
    }
    const float *last = logits + (r->n - 1) * r->vocabulary;
    for (size_t i = 0; i < r->vocabulary; i++) {
        const double error = fabs((double)last[i] - (double)r->last_logits[i]);
        if (!(error <= out->logits)) out->logits = error;
    }
}

static bool compare_logits(const char *path, ps_h5_file *file, const reference *r, errors *out)
{
    ps_h5_info info;
    ps_file_map map;
    if (!ps_h5_exists(file, "/0/logits") || ps_h5_find(file, "/0/logits", &info) ||
        info.type != PS_H5_F32 || info.values != r->n * r->vocabulary ||
        info.offset == PS_H5_NOT_MAPPABLE || info.offset % sizeof(float) != 0 ||
        ps_file_map_open(path, &map))
        return false;
    compare_rows((const float *)(const void *)(map.data + info.offset), r, out);
    ps_file_map_close(&map);
    return true;
}

static bool compare_logprobs(ps_h5_file *file, const reference *r, errors *out)
{
    size_t n;
    float *found = golden_read_dataset(file, "/0/logprob", PS_H5_F32, &n);
    for (size_t i = 0; found && i < n && n == r->n - 1; i++) {
        const double error = fabs((double)found[i] - (double)r->next_logprob[i]);
        if (!(error <= out->logprob)) out->logprob = error;
    }
    const bool good = found && n == r->n - 1;
    ps_mem_free(found);
    return good;
}

static void check_scores(golden *g, const char *name, int run, const reference *r)
{
    char arguments[512], error[1024], path[128], what[32];
    snprintf(arguments, sizeof arguments,
             "score %s/model.h5 --tokens %s/tokens.txt --logits %s/out.h5 -q %s", g->scratch,
             g->scratch, g->scratch, runs[run].options);
    if (golden_run(g, true, arguments, "score") != 0) {
        golden_read_text(g, "score.err", error, sizeof error);
        golden_verdict(g, name, "score", false, error);
        return;
    }
    errors found = {0};
    ps_h5_file *file = NULL;
    snprintf(path, sizeof path, "%s/out.h5", g->scratch);
    const bool good = !ps_h5_open(path, &file) && compare_logits(path, file, r, &found) &&
                      compare_logprobs(file, r, &found);
    ps_h5_close(file);
    if (!good) {
        golden_verdict(g, name, "score", false, "its output has other datasets");
        return;
    }
    snprintf(what, sizeof what, "logits %s", runs[run].label);
    golden_row(g, name, what, found.logits, runs[run].logits);
    snprintf(what, sizeof what, "logprob %s", runs[run].label);
    golden_row(g, name, what, found.logprob, runs[run].logprob);
    snprintf(what, sizeof what, "argmax %s", runs[run].label);
    snprintf(error, sizeof error, "%d of %zu", found.n_argmax, r->n);
    golden_verdict(g, name, what, found.n_argmax == (int)r->n, error);
}

static void check_group(golden *g, const char *name, const char *group, ps_h5_file *expected)
{
    char full[256], ids[64], greedy[64], what[32];
    reference r;
    snprintf(full, sizeof full, "%s/%s", name, group);
    snprintf(ids, sizeof ids, "/%s/input_ids", group);
    snprintf(greedy, sizeof greedy, "/%s/greedy_ids", group);
    if (!read_reference(expected, group, &r) ||
        !golden_write_ids(g, "tokens.txt", false, expected, ids)) {
        golden_verdict(g, full, "expected.h5", false, "a dataset is missing");
        return;
    }
    for (size_t run = 0; run < sizeof runs / sizeof runs[0]; run++) {
        check_scores(g, full, (int)run, &r);
        snprintf(what, sizeof what, "greedy %s", runs[run].label);
        golden_check_greedy(g, full, what, "tokens.txt", runs[run].options, expected, greedy);
        fflush(stdout);
    }
    release(&r);
}

void golden_check_real(golden *g, const char *directory, const char *name, const char *model)
{
    char arguments[4400], error[1024], path[4200];
    snprintf(arguments, sizeof arguments, "convert '%s' -o %s/model.h5 -q", model, g->scratch);
    if (golden_run(g, false, arguments, "convert") != 0) {
        golden_read_text(g, "convert.err", error, sizeof error);
        golden_verdict(g, name, "convert", false, error);
        return;
    }
    ps_h5_file *expected;
    snprintf(path, sizeof path, "%s/expected.h5", directory);
    if (ps_h5_open(path, &expected)) {
        golden_verdict(g, name, "expected.h5", false, ps_err_message());
        return;
    }
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        check_group(g, name, groups[i], expected);
    }
    ps_h5_close(expected);
}
