/* A tokenizer held against reference data: a directory with
 *
 *   tokenizer.json
 *   cases.jsonl    text, ids, ids_special (missing: ids), decoded (of ids; missing: text),
 *                  decoded_skip_special (of ids_special; missing: decoded)
 *   decode.jsonl   ids, decoded, decoded_skip_special
 *   stream.jsonl   ids, emitted (one string an id), tail
 * Everything is compared exactly, and twice: with the tokenizer as it came, and packed and opened
 * again.   MPI: local.
 */
#ifndef TESTS_SUPPORT_GOLDEN_TOKENIZER_H
#define TESTS_SUPPORT_GOLDEN_TOKENIZER_H

#include "base/err.h"
#include "base/text.h"

/* Adds to the counts the comparisons made and those that failed, and appends a line for each of the
 * first failures. An error when a file cannot be read or the tokenizer not be opened. */
ps_err golden_tokenizer_check(const char *dir, int *n_cases, int *n_failed,
                              ps_text *first_failures) PS_MUST_CHECK;

/* Sorted names of the directories under `root` that hold a tokenizer.json; owned by the caller and
 * released with golden_tokenizer_free_list. */
ps_err golden_tokenizer_list(const char *root, char ***names, int *n) PS_MUST_CHECK;
void golden_tokenizer_free_list(char **names, int n);

/* Where the reference data lies: the environment's PS_GOLDEN, or tests/golden. */
const char *golden_root(void);

#endif
