/* Walks reference data and compares: a row a case, then "N passed, N failed".
 *
 *   golden PIPESTEP        data under $PS_GOLDEN (default tests/golden), ranks in $GOLDEN_NP
 * (default 1)
 *
 * Kinds are told by what lies in a directory, never by its name:
 *   config.json + *.safetensors + expected.h5    a model: logits, hidden, logprob, greedy ids
 *   tokenizer.json + cases.jsonl                 a tokenizer: cases, decode, stream
 * What is of no kind known here is listed at the end as not known yet, and counts as neither. */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/text.h"
#include "model/h5.h"
#include "support/golden_tokenizer.h"

enum { DEPTH_MAX = 4 };

typedef struct golden {
    const char *program, *ranks;
    char scratch[64];
    int n_passed, n_failed;
    ps_text unknown;
} golden;

static void row(golden *g, const char *name, const char *what, double error, double tolerance)
{
    const bool good = error <= tolerance; // false for NaN
    *(good ? &g->n_passed : &g->n_failed) += 1;
    printf("%-36s %-16s %10.2e  tolerance %8.1e  %s\n", name, what, error, tolerance,
           good ? "ok" : "FAIL");
}

static void verdict(golden *g, const char *name, const char *what, bool good, const char *detail)
{
    *(good ? &g->n_passed : &g->n_failed) += 1;
    printf("%-36s %-16s %s%s\n", name, what, good ? "ok" : "FAIL ", good ? "" : detail);
}

static bool exists(const char *directory, const char *file)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, file);
    return access(path, R_OK) == 0;
}

/* Whether a file whose name ends so is there. */
static bool has_suffix(const char *directory, const char *suffix)
{
    DIR *d = opendir(directory);
    bool found = false;
    for (struct dirent *e; d && !found && (e = readdir(d)) != NULL;) {
        const size_t n = strlen(e->d_name), m = strlen(suffix);
        found = n > m && strcmp(e->d_name + n - m, suffix) == 0;
    }
    if (d) closedir(d);
    return found;
}

/* Runs the program; its output goes to scratch/NAME.out and .err. Returns the exit status. */
static int run(const golden *g, bool ranks, const char *arguments, const char *name)
{
    ps_text command = {0};
    if (ranks && strcmp(g->ranks, "1") != 0)
        ps_text_appendf(&command, ". launch/launcher.sh; launch %s 300 ", g->ranks);
    ps_text_appendf(&command, "%s %s >%s/%s.out 2>%s/%s.err", g->program, arguments, g->scratch,
                    name, g->scratch, name);
    char *const argv[] = {(char *)(uintptr_t) "bash", (char *)(uintptr_t) "-c", command.data, NULL};
    const pid_t child = fork();
    if (child == 0) {
        execvp("bash", argv);
        _exit(127);
    }
    int status = -1;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    ps_text_release(&command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void read_text(const golden *g, const char *name, char *out, size_t n)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", g->scratch, name);
    FILE *f = fopen(path, "r");
    const size_t got = f ? fread(out, 1, n - 1, f) : 0;
    out[got] = '\0';
    if (f) fclose(f);
}

/* A whole dataset as floats or ids; the caller frees it. NULL when it is not there. */
static void *read_dataset(ps_h5_file *file, const char *name, ps_h5_type type, size_t *n)
{
    ps_h5_info info;
    *n = 0;
    if (!file || !ps_h5_exists(file, name) || ps_h5_find(file, name, &info) || info.type != type)
        return NULL;
    void *values = ps_mem_new(info.values, ps_h5_type_bytes(type));
    if (ps_h5_read(file, name, &info, values)) {
        ps_mem_free(values);
        return NULL;
    }
    *n = info.values;
    return values;
}

static bool write_ids(const golden *g, const char *name, ps_h5_file *expected, const char *dataset)
{
    size_t n;
    int32_t *ids = read_dataset(expected, dataset, PS_H5_I32, &n);
    if (!ids) return false;
    char path[128];
    snprintf(path, sizeof path, "%s/%s", g->scratch, name);
    FILE *f = fopen(path, "w");
    for (size_t i = 0; f && i < n; i++) {
        fprintf(f, i ? " %d" : "%d", ids[i]);
    }
    if (f) {
        fputc('\n', f);
        fclose(f);
    }
    ps_mem_free(ids);
    return f != NULL;
}

/* Largest |found - wanted|, over the largest |wanted| if `relative`; NaN when they cannot be
 * compared. */
static double compare(ps_h5_file *found_file, const char *found_name, ps_h5_file *wanted_file,
                      const char *wanted_name, bool relative)
{
    size_t n_found, n_wanted;
    float *found = read_dataset(found_file, found_name, PS_H5_F32, &n_found);
    float *wanted = read_dataset(wanted_file, wanted_name, PS_H5_F32, &n_wanted);
    double worst = 0.0, largest = 0.0;
    if (!found || !wanted || n_found != n_wanted) worst = NAN;
    for (size_t i = 0; !isnan(worst) && i < n_wanted; i++) {
        const double difference = fabs((double)found[i] - (double)wanted[i]);
        if (isnan(difference) || difference > worst) worst = difference;
        if (fabs((double)wanted[i]) > largest) largest = fabs((double)wanted[i]);
    }
    ps_mem_free(found);
    ps_mem_free(wanted);
    return relative && largest > 0.0 ? worst / largest : worst;
}

static void check_scores(golden *g, const char *name, ps_h5_file *expected)
{
    char arguments[512], error[1024];
    const bool alone = strcmp(g->ranks, "1") == 0;
    snprintf(arguments, sizeof arguments,
             "score %s/model.h5 --tokens %s/tokens.txt --logits %s/out.h5 -q%s", g->scratch,
             g->scratch, g->scratch, alone ? " --hidden" : "");
    if (!write_ids(g, "tokens.txt", expected, "/input_ids") ||
        run(g, true, arguments, "score") != 0) {
        read_text(g, "score.err", error, sizeof error);
        verdict(g, name, "score", false, error);
        return;
    }
    char path[128];
    ps_h5_file *out = NULL;
    snprintf(path, sizeof path, "%s/out.h5", g->scratch);
    if (ps_h5_open(path, &out)) out = NULL;
    row(g, name, "logits, rel", compare(out, "/0/logits", expected, "/logits", true), 1e-4);
    if (alone)
        row(g, name, "hidden, rel", compare(out, "/0/hidden", expected, "/hidden", true), 1e-4);
    row(g, name, "logprob, abs", compare(out, "/0/logprob", expected, "/logprob", false), 5e-4);
    ps_h5_close(out);
}

static void check_greedy(golden *g, const char *name, ps_h5_file *expected)
{
    size_t n;
    int32_t *wanted = read_dataset(expected, "/greedy_ids", PS_H5_I32, &n);
    if (!wanted || !write_ids(g, "prompt.txt", expected, "/greedy_prompt")) {
        ps_mem_free(wanted);
        return;
    }
    char arguments[512];
    snprintf(
        arguments, sizeof arguments,
        "generate %s/model.h5 --tokens %s/prompt.txt -n %zu --ids --temperature 0 --ignore-eos -q",
        g->scratch, g->scratch, n);
    run(g, true, arguments, "generate");
    ps_text line = {0};
    for (size_t i = 0; i < n; i++) {
        ps_text_appendf(&line, i ? " %d" : "%d", wanted[i]);
    }
    ps_text_append_str(&line, "\n");
    char *found = ps_mem_new(line.len + 4096, 1);
    read_text(g, "generate.out", found, line.len + 4096);
    verdict(g, name, "greedy ids", strcmp(found, ps_text_str(&line)) == 0, "differ");
    ps_mem_free(found);
    ps_text_release(&line);
    ps_mem_free(wanted);
}

static void check_model(golden *g, const char *directory, const char *name)
{
    char arguments[4400], error[1024], path[4200];
    snprintf(arguments, sizeof arguments, "convert '%s' -o %s/model.h5 -q", directory, g->scratch);
    if (run(g, false, arguments, "convert") != 0) {
        read_text(g, "convert.err", error, sizeof error);
        if (strstr(error, "is not one of")) {
            ps_text_appendf(&g->unknown, "not known yet: %s: %s", name, error);
        } else {
            verdict(g, name, "convert", false, error);
        }
        return;
    }
    ps_h5_file *expected;
    snprintf(path, sizeof path, "%s/expected.h5", directory);
    if (ps_h5_open(path, &expected)) {
        verdict(g, name, "expected.h5", false, ps_err_message());
        return;
    }
    check_scores(g, name, expected);
    check_greedy(g, name, expected);
    if (ps_h5_exists(expected, "/bias"))
        ps_text_appendf(&g->unknown, "not known yet: %s: expected.h5:/bias\n", name);
    ps_h5_close(expected);
}

static void check_tokenizer(golden *g, const char *directory, const char *name)
{
    int n_cases = 0, n_failed = 0;
    ps_text first = {0};
    const ps_err err = golden_tokenizer_check(directory, &n_cases, &n_failed, &first);
    *(n_failed || err ? &g->n_failed : &g->n_passed) += 1;
    printf("%-36s %-16s %d of %d cases  %s%s\n", name, "tokenizer", n_cases - n_failed, n_cases,
           n_failed || err ? "FAIL " : "ok", err ? ps_err_message() : ps_text_str(&first));
    ps_text_release(&first);
}

/* Files of a directory that belong to no kind known here. */
static void list_unknown_files(golden *g, const char *directory, const char *name)
{
    static const char *const suffixes[] = {".gguf",     ".model",     "gguf_cases.jsonl",
                                           "quants.h5", "chat.jsonl", "report.json"};
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        if (has_suffix(directory, suffixes[i]) || exists(directory, suffixes[i]))
            ps_text_appendf(&g->unknown, "not known yet: %s/*%s\n", name, suffixes[i]);
    }
}

static void check_directory(golden *g, const char *directory, const char *name)
{
    bool known = false;
    if (exists(directory, "config.json") && exists(directory, "expected.h5") &&
        has_suffix(directory, ".safetensors") && !exists(directory, "report.json")) {
        check_model(g, directory, name);
        known = true;
    }
    if (exists(directory, "tokenizer.json") && exists(directory, "cases.jsonl")) {
        check_tokenizer(g, directory, name);
        known = true;
    }
    list_unknown_files(g, directory, name);
    if (!known && exists(directory, "expected.h5"))
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
