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

typedef struct golden_counts {
    int n_cases, n_failed;
    int n_excepted; // comparisons in which the second opinion was followed, not llama.cpp
} golden_counts;

/* The tokenizer in dir/name, or at an absolute path, against ids that llama.cpp made:
 *
 *   text, ids (control tokens recognised), ids_special (with bos and eos; missing: ids),
 *   ids_noparse (control tokens as plain text; missing: ids), decoded (missing: text),
 *   decoded_skip_special (may be missing)
 * `second` names a file beside it whose tokenizer's ids are right too, where they differ; such
 * comparisons are counted. NULL: none. */
ps_err golden_tokenizer_check_llama(const char *dir, const char *name, const char *second,
                                    const char *cases, golden_counts *counts,
                                    ps_text *first_failures) PS_MUST_CHECK;

/* dir/tokenizer.model against what SentencePiece made of texts: sentencepiece_cases.jsonl with
 * text, ids (control pieces are not recognised), decoded (of ids; missing: text; null: unknown
 * pieces are among them, which SentencePiece shows as U+2047). */
ps_err golden_tokenizer_check_sentencepiece(const char *dir, golden_counts *counts,
                                            ps_text *first_failures) PS_MUST_CHECK;

/* Sorted names of the directories under `root` that hold a tokenizer.json; owned by the caller and
 * released with golden_tokenizer_free_list. */
ps_err golden_tokenizer_list(const char *root, char ***names, int *n) PS_MUST_CHECK;
void golden_tokenizer_free_list(char **names, int n);

/* Where the reference data lies: the environment's PS_GOLDEN, or tests/golden. */
const char *golden_root(void);

#endif
