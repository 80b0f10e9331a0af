/* Walks reference data and compares: a row a case, then "N passed, N failed".
 *
 *   golden PIPESTEP        data under $PS_GOLDEN (default tests/golden), ranks in $GOLDEN_NP
 *                          (default 1)
 *
 * Kinds are told by what lies in a directory, never by its name:
 *   config.json + *.safetensors + expected.h5    a model: logits, hidden, logprob, greedy ids
 *   ... and report.json                          an encoder: support/golden_encoder.h
 *   model.gguf + expected.h5                     a model with its vocabulary: logits, greedy ids
 *   expected.h5 with top_ids                     a real model, whose file $PS_GOLDEN_MODEL names
 *   tokenizers and chat templates                support/golden_vocabularies.h
 *   generate.jsonl + fsm.jsonl + model/          ACE-Step's language model: support/golden_acestep.h
 *   quants.h5                                    blocks of stored formats and their values
 * What is of no kind known here is listed at the end as not known yet, and counts as neither. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/text.h"
#include "support/golden_acestep.h"
#include "support/golden_encoder.h"
#include "support/golden_gguf.h"
#include "support/golden_quants.h"
#include "support/golden_real.h"
#include "support/golden_run.h"
#include "support/golden_vocabularies.h"
#include "tool/import/convert.h"

enum { DEPTH_MAX = 4 };

static void check_scores(golden *g, const char *name, ps_h5_file *expected)
{
    char arguments[512], error[1024];
    const bool alone = strcmp(g->ranks, "1") == 0;
    snprintf(arguments, sizeof arguments,
             "score %s/model.h5 --tokens %s/tokens.txt --logits %s/out.h5 -q%s", g->scratch,
             g->scratch, g->scratch, alone ? " --hidden" : "");
    if (!golden_write_ids(g, "tokens.txt", false, expected, "/input_ids") ||
        golden_run(g, true, arguments, "score") != 0) {
        golden_read_text(g, "score.err", error, sizeof error);
        golden_verdict(g, name, "score", false, error);
        return;
    }
    char path[128];
    ps_h5_file *out = NULL;
    snprintf(path, sizeof path, "%s/out.h5", g->scratch);
    if (ps_h5_open(path, &out)) out = NULL;
    golden_row(g, name, "logits, rel",
               golden_compare(out, "/0/logits", expected, "/logits", GOLDEN_BY_LARGEST), 1e-4);
    if (alone)
        golden_row(g, name, "hidden, rel",
                   golden_compare(out, "/0/hidden", expected, "/hidden", GOLDEN_BY_LARGEST), 1e-4);
    golden_row(g, name, "logprob, abs",
               golden_compare(out, "/0/logprob", expected, "/logprob", GOLDEN_ABSOLUTE), 5e-4);
    ps_h5_close(out);
}

static void check_greedy(golden *g, const char *name, ps_h5_file *expected)
{
    if (golden_write_ids(g, "prompt.txt", false, expected, "/greedy_prompt"))
        golden_check_greedy(g, name, "greedy ids", "prompt.txt", "", expected, "/greedy_ids");
}

/* Converted without a process of its own: starting one takes longer than all it does. */
static void check_model(golden *g, const char *directory, const char *name)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/model.h5", g->scratch);
    if (ps_convert_directory(directory, path, NULL)) {
        if (strstr(ps_err_message(), "is not one of")) {
            ps_text_appendf(&g->unknown, "not known yet: %s: %s\n", name, ps_err_message());
        } else {
            golden_verdict(g, name, "convert", false, ps_err_message());
        }
        return;
    }
    ps_h5_file *expected;
    snprintf(path, sizeof path, "%s/expected.h5", directory);
    if (ps_h5_open(path, &expected)) {
        golden_verdict(g, name, "expected.h5", false, ps_err_message());
        return;
    }
    check_scores(g, name, expected);
    check_greedy(g, name, expected);
    if (ps_h5_exists(expected, "/bias"))
        ps_text_appendf(&g->unknown, "not known yet: %s: expected.h5:/bias\n", name);
    ps_h5_close(expected);
}

/* A row for each format of the file. */
static void check_quants(golden *g, const char *directory, const char *name)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/quants.h5", directory);
    for (int dtype = 0; dtype < PS_DTYPE_COUNT; dtype++) {
        golden_quant blocks;
        bool found;
        ps_text first = {0};
        const char *what = ps_dtype_name((ps_dtype)dtype);
        if (golden_quant_open(path, (ps_dtype)dtype, &blocks, &found)) {
            golden_verdict(g, name, what, false, ps_err_message());
        } else if (found) {
            const int wrong = golden_quant_count_wrong(&blocks, &first);
            golden_verdict(g, name, what, wrong == 0, ps_text_str(&first));
        }
        golden_quant_release(&blocks);
        ps_text_release(&first);
    }
}

/* Files of a directory that belong to no kind known here. */
static void list_unknown_files(golden *g, const char *directory, const char *name)
{
    static const char *const suffixes[] = {"report.json"};
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        if (golden_has_suffix(directory, suffixes[i]) || golden_exists(directory, suffixes[i]))
            ps_text_appendf(&g->unknown, "not known yet: %s/*%s\n", name, suffixes[i]);
    }
}

/* A real model is not stored with its reference: it is there when somebody says where. */
static void check_real(golden *g, const char *directory, const char *name)
{
    const char *model = getenv("PS_GOLDEN_MODEL");
    if (model && model[0]) {
        golden_check_real(g, directory, name[0] ? name : "real model", model);
    } else {
        ps_text_appendf(&g->unknown, "not checked: %s: wants its model, see make real\n", name);
    }
}

static void check_directory(golden *g, const char *directory, const char *name)
{
    bool known = false;
    if (golden_exists(directory, "config.json") && golden_exists(directory, "expected.h5") &&
        golden_has_suffix(directory, ".safetensors") && !golden_exists(directory, "report.json")) {
        check_model(g, directory, name);
        known = true;
    }
    const bool encoder = golden_check_encoder(g, directory, name);
    if (encoder || golden_check_vocabularies(g, directory, name)) known = true;
    if (golden_exists(directory, "model.gguf") && golden_exists(directory, "expected.h5")) {
        golden_check_gguf(g, directory, name);
        known = true;
    } else if (golden_is_real(directory)) {
        check_real(g, directory, name);
        known = true;
    }
    if (golden_check_acestep(g, directory, name)) known = true;
    if (golden_exists(directory, "quants.h5"))
        check_quants(g, directory, name[0] ? name : "quants.h5");
    if (!encoder) list_unknown_files(g, directory, name);
    if (!known && golden_exists(directory, "expected.h5"))
        ps_text_appendf(&g->unknown, "not known yet: %s/expected.h5\n", name);
    fflush(stdout);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_visible(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static void walk(golden *g, const char *directory, const char *name, int depth)
{
    struct dirent **entries;
    check_directory(g, directory, name);
    if (depth == DEPTH_MAX) return;
    const int n = scandir(directory, &entries, is_visible, by_name);
    for (int i = 0; i < n; i++) {
        ps_text path = {0}, sub = {0};
        struct stat status;
        ps_text_appendf(&path, "%s/%s", directory, entries[i]->d_name);
        ps_text_appendf(&sub, "%s%s%s", name, name[0] ? "/" : "", entries[i]->d_name);
        if (stat(ps_text_str(&path), &status) == 0 && S_ISDIR(status.st_mode))
            walk(g, ps_text_str(&path), ps_text_str(&sub), depth + 1);
        ps_text_release(&sub);
        ps_text_release(&path);
        free(entries[i]);
    }
    if (n >= 0) free(entries);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: golden PIPESTEP\n");
        return 2;
    }
    const char *root = getenv("PS_GOLDEN"), *ranks = getenv("GOLDEN_NP");
    golden g = {.program = argv[1],
                .ranks = ranks && ranks[0] ? ranks : "1",
                .scratch = "/tmp/pipestep-golden-XXXXXX"};
    if (!mkdtemp(g.scratch)) {
        perror(g.scratch);
        return 1;
    }
    // A process alone starts its MPI without a daemon (0.42 s instead of 0.58 a start). What other
    // MPIs do is not changed by it.
    setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
    walk(&g, root && root[0] ? root : "tests/golden", "", 0);
    fputs(ps_text_str(&g.unknown), stdout);
    ps_text remove = {0};
    ps_text_appendf(&remove, "rm -rf %s", g.scratch);
    if (system(ps_text_str(&remove)) != 0) fprintf(stderr, "%s is left behind\n", g.scratch);
    ps_text_release(&remove);
    ps_text_release(&g.unknown);
    printf("%d passed, %d failed\n", g.n_passed, g.n_failed);
    return g.n_failed > 0 || g.n_passed == 0;
}
