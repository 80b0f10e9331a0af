/* Low-rank adapters (LoRA, arXiv 2106.09685) in PEFT's layout, merged into weights at conversion.
 *
 *   W' = W + s B A      A [r, in], B [out, r], s = scale * lora_alpha / r (use_rslora: / sqrt(r))
 *
 *   directory   adapter_config.json, adapter_model.safetensors
 *   names       base_model.model.<module>.lora_A.weight and .lora_B.weight, the module being the
 *               source tensor's name without ".weight"; either may have one part more in front
 *
 * The product is computed by the panel kernels, in f32 and in the order of math/panel.h, so that
 * the model file is the same whatever the processor. What is not a plain adapter of a matrix (DoRA,
 * adapters of embeddings, saved modules, biases, ranks or alphas that differ by pattern, a
 * beginning that changed the base's weights) is refused, and so is every key that is not known.
 *
 * Errors: PS_ERR_FORMAT, PS_ERR_UNSUPPORTED, PS_ERR_SHAPE with file and key or tensor.
 * MPI: rank 0 only.
 */
#ifndef PS_TOOL_IMPORT_LORA_H
#define PS_TOOL_IMPORT_LORA_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

typedef struct ps_lora ps_lora;

/* `argument`: DIR or DIR:SCALE. *out is owned by the caller, NULL on error. */
ps_err ps_lora_open(const char *argument, ps_lora **out) PS_MUST_CHECK;
void ps_lora_close(ps_lora *lora);

/* Makes the adapter of a source tensor the current one: *found tells whether there is one. `out`
 * and `in` are the sizes of the tensor's matrix, whichever way it is stored. */
ps_err ps_lora_select(ps_lora *lora, const char *tensor, size_t out, size_t in,
                      bool *found) PS_MUST_CHECK;

/* values[n, in] += s (B A) for n <= 16 rows of the current adapter's matrix, given by number. */
void ps_lora_add(const ps_lora *lora, const size_t *rows, int n, float *values);

/* Every adapter must have been selected once: one that fits no tensor is an error. */
ps_err ps_lora_check_all_used(const ps_lora *lora) PS_MUST_CHECK;

#endif
