/* The kind "model.gguf + expected.h5" of reference data: a model of mixed weight formats.
 *
 * expected.h5 has groups /prompt0, /prompt1, ... with input_ids, logits and greedy_ids. Logits are
 * compared relative to their range: 1e-4 with f32 activations, 1e-3 with the default ones.
 *
 * MPI: local.
 */
#ifndef TESTS_SUPPORT_GOLDEN_GGUF_H
#define TESTS_SUPPORT_GOLDEN_GGUF_H

#include "support/golden_run.h"

void golden_check_gguf(golden *g, const char *directory, const char *name);

#endif
