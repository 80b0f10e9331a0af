/* The file that `score --logits` writes and `score --reference` reads. HDF5; of the n-th sequence
 * of T tokens, V being the vocabulary:
 *
 *   /                skip        attribute: logits of the first `skip` tokens are left out
 *   /n/tokens        i32 [T]
 *   /n/logits        f32 [T - skip, V]          row r is what token r + skip predicts
 *   /n/logprob       f32 [T - 1 - skip]         of the token that came next
 *   /n/hidden        f32 [n_layers + 1, T, D]   with --hidden: input of block 0, output of each
 *
 * Every sequence has more than `skip` tokens. All datasets are made first, in the order of the
 * input, so that the file does not depend on the order in which rows come back.
 *
 * Errors: PS_ERR_IO, PS_ERR_FORMAT, PS_ERR_SHAPE, with the file's name.   MPI: local.
 */
#ifndef PS_TOOL_LOGITS_FILE_H
#define PS_TOOL_LOGITS_FILE_H

#include "model/h5.h"
#include "model/spec.h"
#include "serve/tokenizer.h"

/* What is scored; borrowed. */
typedef struct ps_logits_input {
    const ps_tokens *sequences; // [n]
    size_t n;
    int64_t skip;
    const ps_spec *spec;
} ps_logits_input;

/* ---- writing: the file appears with ps_h5_commit ---- */

ps_err ps_logits_create(const char *path, const ps_logits_input *input, bool with_hidden,
                        ps_h5_writer **out) PS_MUST_CHECK;

/* logits[V] of the token at `position` >= skip, and the log-probability of the next one, of which
 * the last token has none: NULL. */
ps_err ps_logits_write(ps_h5_writer *w, const ps_logits_input *input, uint64_t number,
                       int64_t position, const float *logits, const double *logprob) PS_MUST_CHECK;

/* ---- reading ---- */

typedef struct ps_logits_reference ps_logits_reference;

/* PS_ERR_SHAPE unless the file holds the same tokens, a vocabulary of the same size, and all rows
 * that the input counts: it may leave out fewer. */
ps_err ps_logits_open(const char *path, const ps_logits_input *input,
                      ps_logits_reference **out) PS_MUST_CHECK;
void ps_logits_close(ps_logits_reference *r);

/* Into logits[V]. */
ps_err ps_logits_read(ps_logits_reference *r, uint64_t number, int64_t position,
                      float *logits) PS_MUST_CHECK;

#endif
