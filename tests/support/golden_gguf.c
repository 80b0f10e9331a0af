#include "support/golden_gguf.h"

#include <stdio.h>
#include <string.h>

enum { PROMPTS_MAX = 16 };

static const struct {
    const char *options, *logits, *greedy;
    double tolerance;
} runs[] = {
    {"--activations f32", "logits f32, rng", "greedy f32", 1e-4},
    {"", "logits, range", "greedy ids", 1e-3},
};

/* Datasets of prompt p. */
static const char *in_group(char *out, size_t n, int prompt, const char *dataset)
{
    snprintf(out, n, "/prompt%d/%s", prompt, dataset);
    return out;
}

/* All prompts as lines of prompts.txt; returns their number. */
static int write_prompts(const golden *g, ps_h5_file *expected)
{
    char dataset[64];
    int n = 0;
    while (n < PROMPTS_MAX && golden_write_ids(g, "prompts.txt", n > 0, expected,
                                               in_group(dataset, sizeof dataset, n, "input_ids"))) {
        n++;
    }
    return n;
}

static void check_logits(golden *g, const char *name, int r, int n_prompts, ps_h5_file *expected)
{
    char arguments[512], error[1024], path[128], found[64], wanted[64];
    snprintf(arguments, sizeof arguments,
             "score %s/model.h5 --tokens %s/prompts.txt --logits %s/out.h5 -q %s", g->scratch,
             g->scratch, g->scratch, runs[r].options);
    if (golden_run(g, true, arguments, "score") != 0) {
        golden_read_text(g, "score.err", error, sizeof error);
        golden_verdict(g, name, runs[r].logits, false, error);
        return;
    }
    ps_h5_file *out = NULL;
    snprintf(path, sizeof path, "%s/out.h5", g->scratch);
    if (ps_h5_open(path, &out)) out = NULL;
    for (int p = 0; p < n_prompts; p++) {
        snprintf(found, sizeof found, "/%d/logits", p);
        const double error_of_range = golden_compare(
            out, found, expected, in_group(wanted, sizeof wanted, p, "logits"), GOLDEN_BY_RANGE);
        golden_row(g, name, runs[r].logits, error_of_range, runs[r].tolerance);
    }
    ps_h5_close(out);
}

static void check_greedy(golden *g, const char *name, int r, int n_prompts, ps_h5_file *expected)
{
    char ids[64], wanted[64];
    for (int p = 0; p < n_prompts; p++) {
        if (golden_write_ids(g, "prompt.txt", false, expected,
                             in_group(ids, sizeof ids, p, "input_ids")))
            golden_check_greedy(g, name, runs[r].greedy, "prompt.txt", runs[r].options, expected,
                                in_group(wanted, sizeof wanted, p, "greedy_ids"));
    }
}

void golden_check_gguf(golden *g, const char *directory, const char *name)
{
    char arguments[4400], error[1024], path[4200];
    snprintf(arguments, sizeof arguments, "convert '%s/model.gguf' -o %s/model.h5 -q", directory,
             g->scratch);
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
    const int n_prompts = write_prompts(g, expected);
    if (n_prompts == 0) golden_verdict(g, name, "expected.h5", false, "no /prompt0/input_ids");
    for (size_t r = 0; n_prompts > 0 && r < sizeof runs / sizeof runs[0]; r++) {
        check_logits(g, name, (int)r, n_prompts, expected);
        check_greedy(g, name, (int)r, n_prompts, expected);
    }
    ps_h5_close(expected);
}
