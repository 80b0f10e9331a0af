/* The head: logits of a few rows, of the ids that somebody looks at.
 *
 *   logits[r, v] = head_v . x_r for the ids v that are wanted of row r, -inf for the others
 *
 * What is computed are whole panels of 16 ids; for rows of one call their union, since a panel that
 * was read serves all rows. An output's sum knows nothing of other outputs, so a logit has the same
 * bits whatever else is computed.   MPI: local.
 */
#ifndef PS_MODEL_HEAD_H
#define PS_MODEL_HEAD_H

#include "math/linear.h"
#include "model/spec.h"
#include "model/stage_model.h"

typedef struct ps_head {
    float *normed;      // [PS_HEAD_ROWS, stride of rows]
    float *logits;      // [PS_HEAD_ROWS, stride of logits]
    uint64_t *computed; // [words] panels of this call
    uint64_t *written;  // [PS_HEAD_ROWS, words] panels of a row that hold anything but -inf
    size_t bytes_read;  // of weights, by the last call
} ps_head;

/* Takes a head's memory, of `rows` rows (0: none), from an arena, which may be one that counts. */
void ps_head_lay_out(const ps_spec *spec, size_t rows, ps_arena *arena, ps_head *out);

/* Nothing of the rows can be relied on. */
void ps_head_reset(const ps_spec *spec, ps_head *head);

/* Of normed[n] rows; wanted[n], or NULL for all logits. */
void ps_head_forward(const ps_spec *spec, const ps_linear *weight, const ps_engine *engine,
                     const ps_linear_scratch *scratch, int n, const ps_logits_wanted *wanted,
                     ps_head *head);

#endif
