/* Random models of given shapes, for measuring without a download.
 *
 *   SPEC = preset[,key=value...]     presets: llama-0.3b llama-1.1b tunes
 *                                             acestep-0.6b acestep-1.7b acestep-4b
 *   keys: layers d heads kv head_dim ff vocab window context seed type (any of math/dtype.h)
 *
 * The acestep models are ACE-Step's language models in shape, ids and tokens (Qwen3, heads normed,
 * tied, 217,204 ids; tool/synthetic_tokenizer.h).
 *
 * Weights are uniform with the variance 1/K that keeps activations in range (formats that no
 * numbers are rounded to: tool/synthetic_blocks.h), norms are 1; drawn by
 * Philox from the seed, so equal specs give equal files. Written panel by panel: memory for a few
 * panels.
 *
 * Errors: PS_ERR_USAGE for the spec, those of the writer.   MPI: rank 0 only.
 */
#ifndef PS_TOOL_SYNTHETIC_H
#define PS_TOOL_SYNTHETIC_H

#include <stdbool.h>

#include "base/err.h"

ps_err ps_synthetic_write(const char *spec_text, const char *output, bool progress) PS_MUST_CHECK;

#endif
