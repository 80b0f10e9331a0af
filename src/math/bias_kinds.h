/* Hooks of the providers that have a file of their own. */
#ifndef PS_MATH_BIAS_KINDS_H
#define PS_MATH_BIAS_KINDS_H

#include "math/bias.h"

/* A double for each key of a segment. */
enum { PS_DOUBLES_SCRATCH_FLOATS = 2 * PS_SEGMENT };

/* rel_pos.c: features are q_i + v [n_heads, K], numbers are <u_h, k_j> scale [n_heads]. */
int ps_rel_pos_features(const ps_bias *bias);
int ps_rel_pos_numbers(const ps_bias *bias);
void ps_rel_pos_prepare(const ps_bias *bias, const ps_bias_row *row);
void ps_rel_pos_fill(const ps_bias *bias, const struct ps_kernels *kernels,
                     const ps_bias_tile *tile);
void ps_rel_pos_fill_key_part(const ps_bias *bias, const struct ps_kernels *kernels,
                              const ps_bias_tile *tile);
size_t ps_rel_pos_scratch_floats(int n_queries);

/* distance_bias.c: functions of head and distance, without features or numbers. */
void ps_distance_fill(const ps_bias *bias, const struct ps_kernels *kernels,
                      const ps_bias_tile *tile);

/* fire.c: needs the query's position, nothing else. Scratch: PS_DOUBLES_SCRATCH_FLOATS. */
void ps_fire_fill(const ps_bias *bias, const struct ps_kernels *kernels, const ps_bias_tile *tile);

/* fox.c: features are c_i, numbers are c_j, [2, n_heads] each: the upper and the lower halves of
 * doubles. Scratch: PS_DOUBLES_SCRATCH_FLOATS. */
int ps_fox_floats(const ps_bias *bias);
void ps_fox_prepare(const ps_bias *bias, const ps_bias_row *row);
void ps_fox_accumulate(const ps_bias *bias, const ps_bias_step *step);
void ps_fox_fill(const ps_bias *bias, const struct ps_kernels *kernels, const ps_bias_tile *tile);

#endif
