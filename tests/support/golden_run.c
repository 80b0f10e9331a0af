#include "support/golden_run.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"

void golden_row(golden *g, const char *name, const char *what, double error, double tolerance)
{
    const bool good = error <= tolerance; // false for NaN
    *(good ? &g->n_passed : &g->n_failed) += 1;
    printf("%-36s %-16s %10.2e  tolerance %8.1e  %s\n", name, what, error, tolerance,
           good ? "ok" : "FAIL");
}

void golden_verdict(golden *g, const char *name, const char *what, bool good, const char *detail)
{
    *(good ? &g->n_passed : &g->n_failed) += 1;
    printf("%-36s %-16s %s%s\n", name, what, good ? "ok" : "FAIL ", good ? "" : detail);
}

bool golden_exists(const char *directory, const char *file)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, file);
    return access(path, R_OK) == 0;
}

bool golden_has_suffix(const char *directory, const char *suffix)
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

int golden_run(const golden *g, bool ranks, const char *arguments, const char *name)
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

void golden_read_text(const golden *g, const char *name, char *out, size_t n)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", g->scratch, name);
    FILE *f = fopen(path, "r");
    const size_t got = f ? fread(out, 1, n - 1, f) : 0;
    out[got] = '\0';
    if (f) fclose(f);
}

void *golden_read_dataset(ps_h5_file *file, const char *name, ps_h5_type type, size_t *n)
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

bool golden_write_ids(const golden *g, const char *name, bool append, ps_h5_file *expected,
                      const char *dataset)
{
    size_t n;
    int32_t *ids = golden_read_dataset(expected, dataset, PS_H5_I32, &n);
    if (!ids) return false;
    char path[128];
    snprintf(path, sizeof path, "%s/%s", g->scratch, name);
    FILE *f = fopen(path, append ? "a" : "w");
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

double golden_compare(ps_h5_file *found_file, const char *found_name, ps_h5_file *wanted_file,
                      const char *wanted_name, golden_measure measure)
{
    size_t n_found, n_wanted;
    float *found = golden_read_dataset(found_file, found_name, PS_H5_F32, &n_found);
    float *wanted = golden_read_dataset(wanted_file, wanted_name, PS_H5_F32, &n_wanted);
    double worst = 0.0, largest = 0.0, low = INFINITY, high = -INFINITY;
    if (!found || !wanted || n_found != n_wanted) worst = NAN;
    for (size_t i = 0; !isnan(worst) && i < n_wanted; i++) {
        const double difference = fabs((double)found[i] - (double)wanted[i]);
        if (isnan(difference) || difference > worst) worst = difference;
        largest = fmax(largest, fabs((double)wanted[i]));
        low = fmin(low, (double)wanted[i]);
        high = fmax(high, (double)wanted[i]);
    }
    ps_mem_free(found);
    ps_mem_free(wanted);
    if (measure == GOLDEN_BY_LARGEST && largest > 0.0) return worst / largest;
    if (measure == GOLDEN_BY_RANGE && high > low) return worst / (high - low);
    return worst;
}

void golden_check_greedy(golden *g, const char *name, const char *what, const char *prompt,
                         const char *options, ps_h5_file *expected, const char *wanted)
{
    size_t n;
    int32_t *ids = golden_read_dataset(expected, wanted, PS_H5_I32, &n);
    char arguments[512];
    snprintf(arguments, sizeof arguments,
             "generate %s/model.h5 --tokens %s/%s -n %zu --ids --temperature 0 --ignore-eos -q %s",
             g->scratch, g->scratch, prompt, n, options);
    golden_run(g, true, arguments, "generate");
    ps_text line = {0};
    for (size_t i = 0; i < n; i++) {
        ps_text_appendf(&line, i ? " %d" : "%d", ids[i]);
    }
    ps_text_append_str(&line, "\n");
    char *found = ps_mem_new(line.len + 4096, 1);
    golden_read_text(g, "generate.out", found, line.len + 4096);
    golden_verdict(g, name, what, n > 0 && strcmp(found, ps_text_str(&line)) == 0, "differ");
    ps_mem_free(found);
    ps_text_release(&line);
    ps_mem_free(ids);
}
