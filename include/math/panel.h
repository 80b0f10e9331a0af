/* The panel layout of weight matrices.
 *
 * A matrix W[N, K] (out, in) is stored as ceil(N/16) panels; panel p holds outputs 16p .. 16p+15 as
 * [K][16]: the 16 weights of one k stand side by side, so a vector lane is an output. Outputs past
 * N are zero. A row of the matrix is never split over panels, and a panel never over threads.
 *
 * Arithmetic over panels (the law of same bits, DESIGN section 5): each output has one accumulator
 * per block of PS_PANEL_BLOCK values of k; within a block k ascends, one fused multiply-add each,
 * starting from 0; the block sums are added in ascending order; then the bias, if any.
 *
 * MPI: local.
 */
#ifndef PS_MATH_PANEL_H
#define PS_MATH_PANEL_H

#include <stdbool.h>
#include <stddef.h>

#include "math/dtype.h"

#define PS_PANEL_LANES 16
#define PS_PANEL_BLOCK 512

/* Number of panels of N outputs. */
int ps_panel_count(int n);

/* Bytes of one panel, and of the whole matrix; false on overflow. */
size_t ps_panel_bytes(ps_dtype dtype, int k);
bool ps_panel_matrix_bytes(ps_dtype dtype, int n, int k, size_t *out);

/* Writes one panel from `rows` (1..16) rows of `row_stride` values each, all of format dtype:
 *   in   [rows][row_stride]   the first K values of each row are taken
 *   out  [K][16]              lanes >= rows become zero
 * Cost: moves K*16 values. */
void ps_panel_pack(ps_dtype dtype, const void *in, int rows, size_t row_stride, int k, void *out);

/* out[k] = W[row, k] widened to f32, for one row of a packed matrix. */
void ps_panel_unpack_row(ps_dtype dtype, const void *panels, int k, int row, float *out);

#endif
