/* Hooks of the providers that have a file of their own. */
#ifndef PS_MATH_BIAS_KINDS_H
#define PS_MATH_BIAS_KINDS_H

#include "math/bias.h"

/* rel_pos.c: features are q_i + v [n_heads, K], numbers are <u_h, k_j> scale [n_heads]. */
int ps_rel_pos_features(const ps_bias *bias);
int ps_rel_pos_numbers(const ps_bias *bias);
void ps_rel_pos_prepare(const ps_bias *bias, const ps_bias_row *row);
void ps_rel_pos_fill(const ps_bias *bias, const struct ps_kernels *kernels,
                     const ps_bias_tile *tile);
size_t ps_rel_pos_scratch_floats(int n_queries);

#endif
