/* Reference data of encoders: a directory with config.json, *.safetensors, expected.h5, and a
 * report.json whose keys are the groups of expected.h5.
 *
 * For each group: what `pipestep encode` writes, and from the inside (tests/tools/encoder_parts.c)
 * every layer's output, bias parts and weights, each compared by the rank that has the layer.
 *
 * MPI: local.   Errors: rows that fail.
 */
#ifndef TESTS_SUPPORT_GOLDEN_ENCODER_H
#define TESTS_SUPPORT_GOLDEN_ENCODER_H

#include "support/golden_run.h"

/* False when the directory holds no such data. */
bool golden_check_encoder(golden *g, const char *directory, const char *name);

#endif
