/* The kind "expected.h5 of a model that is not stored here": a real model, given by its path.
 *
 * Groups with input_ids; for each position the 20 highest logits (top_ids, top_logits) and the
 * log-probability of the next id (next_logprob, NaN at the end); all logits of the last position
 * (last_logits); and greedy_ids. Checked with f32 activations and with the default ones: the
 * highest logit of every position, logits, log-probabilities, the continuation.
 *
 * MPI: local.
 */
#ifndef TESTS_SUPPORT_GOLDEN_REAL_H
#define TESTS_SUPPORT_GOLDEN_REAL_H

#include "support/golden_run.h"

/* Whether expected.h5 of the directory is of this kind. */
bool golden_is_real(const char *directory);

void golden_check_real(golden *g, const char *directory, const char *name, const char *model);

#endif
