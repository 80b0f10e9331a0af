/* Windows of a run: which keys the layers see, where that is not to be as the model has it.
 *
 *   --window LIST        one entry for each layer, from the first on again when the list is shorter:
 *                          W        the last W keys, the query's own among them
 *                          full     all keys
 *                          model    as the model has it
 *                          chunk:C  the query's chunk of C positions (chunk:C+L: and L chunks before
 *                                   it; chunk:C+all: and all before it)
 *                        so "256" is a window everywhere, "full,256" one in every other layer
 *   --keep-first N       the first N tokens stay visible in layers with a window
 *   --keep-at true|cache at their true positions, or as if nothing lay between them and the window
 *
 *   --stream W           (encode) a window of W keys in every layer, and nothing ahead
 *
 * Errors: PS_ERR_USAGE with the entry; what the model's biases and ropes do not allow.   MPI: local.
 */
#ifndef PS_TOOL_WINDOWS_H
#define PS_TOOL_WINDOWS_H

#include "model/spec.h"
#include "tool/options.h"

/* Changes the spec to what the options ask for. */
ps_err ps_windows_apply(const ps_run_options *run, ps_spec *spec) PS_MUST_CHECK;

/* What the layer sees, as an entry of the list: "full", "256", "chunk:64+1". */
void ps_windows_describe(const ps_spec *spec, int layer, ps_text *out);

#endif
