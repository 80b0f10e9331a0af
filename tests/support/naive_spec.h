/* The forward pass of any spec in double precision, straight from the formulas of model/spec.h,
 * math/rope.h, math/bias.h and math/activation.h.
 *
 * Plain loops over whole sequences: no panels, no cache, no chunks, no code of src/. It shares
 * with the program only the spec, and the weights, which support/spec_model.h makes from the seed.
 *
 * Errors: none.   MPI: local.
 */
#ifndef TESTS_SUPPORT_NAIVE_SPEC_H
#define TESTS_SUPPORT_NAIVE_SPEC_H

#include "support/spec_model.h"

/* logits[n, vocab_size], out: those behind each of the n tokens of a sequence that may reach
 * `length` positions (0: no end). */
void naive_spec_forward(const spec_model *m, const int32_t *tokens, int n, int64_t length,
                        double *logits);

/* frequency of pair t of a rope, in a sequence of that length */
double naive_spec_frequency(const ps_rope *rope, int64_t length, int t);

#endif
