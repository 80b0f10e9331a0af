/* What weights.c and weights_copy.c share. */
#ifndef PS_MODEL_WEIGHTS_PARTS_H
#define PS_MODEL_WEIGHTS_PARTS_H

#include "model/weights.h"

/* Whether the tensor is large enough, and lies so in the file, that it can be used there. */
bool ps_weights_in_place(const ps_ckpt_tensor *t);

/* Bytes of memory for a copy of the part's tensors that could be used in place; at[n_tensors] (may
 * be NULL) gets where in it each of them begins. */
size_t ps_weights_lay_out_copy(const ps_ckpt *ckpt, const ps_part *part, size_t *at);

/* Takes that memory and reads them into it: fills weights->copy and weights->tensors. The file is
 * open, with the length that it had when its index was read. */
ps_err ps_weights_copy(ps_weights *weights, const ps_engine *engine) PS_MUST_CHECK;

#endif
