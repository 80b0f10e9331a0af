/* What the kinds of reference data share: running the program, rows of the report, datasets.
 *
 * MPI: local.   Errors: a row that fails.
 */
#ifndef TESTS_SUPPORT_GOLDEN_RUN_H
#define TESTS_SUPPORT_GOLDEN_RUN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/text.h"
#include "model/h5.h"

typedef struct golden {
    const char *program, *ranks;
    char scratch[64]; // directory of the run's files
    int n_passed, n_failed;
    ps_text unknown; // lines about data of no kind known here
} golden;

/* One row of the report: a figure with its tolerance (NaN fails), or a verdict. */
void golden_row(golden *g, const char *name, const char *what, double error, double tolerance);
void golden_verdict(golden *g, const char *name, const char *what, bool good, const char *detail);

bool golden_exists(const char *directory, const char *file);

/* Whether a file whose name ends so is there. */
bool golden_has_suffix(const char *directory, const char *suffix);

/* Runs the program, on the run's ranks or alone; its output goes to scratch/NAME.out and .err.
 * Returns the exit status. */
int golden_run(const golden *g, bool ranks, const char *arguments, const char *name);

/* A file of the scratch directory, cut to n-1 bytes. */
void golden_read_text(const golden *g, const char *name, char *out, size_t n);

/* A whole dataset as floats or ids; the caller frees it. NULL when it is not there. */
void *golden_read_dataset(ps_h5_file *file, const char *name, ps_h5_type type, size_t *n);

/* A dataset of ids as a line of scratch/NAME, behind what is there if `append`. */
bool golden_write_ids(const golden *g, const char *name, bool append, ps_h5_file *expected,
                      const char *dataset);

/* Largest |found - wanted|: as it is, over the largest |wanted|, or over the range of wanted; NaN
 * when they cannot be compared. */
typedef enum golden_measure { GOLDEN_ABSOLUTE, GOLDEN_BY_LARGEST, GOLDEN_BY_RANGE } golden_measure;
double golden_compare(ps_h5_file *found_file, const char *found_name, ps_h5_file *wanted_file,
                      const char *wanted_name, golden_measure measure);

/* Greedy continuation of the prompt in scratch/PROMPT: a row that says whether it is `wanted`, a
 * dataset of expected. `options` are further options of generate. */
void golden_check_greedy(golden *g, const char *name, const char *what, const char *prompt,
                         const char *options, ps_h5_file *expected, const char *wanted);

#endif
