/* The panel layout of weight matrices, and the one order of sums over it.
 *
 * A matrix W[N, K] (out, in) is stored as ceil(N/16) panels; panel p holds outputs 16p .. 16p+15,
 * and a vector lane is an output. Outputs past N are zero. A row of the matrix is never split over
 * panels, and a panel never over threads.
 *
 *   float formats       [K][16]: the 16 weights of one k stand side by side
 *   quantised formats   blocks in order of k, each the blocks of 16 source rows side by side: first
 *                       their scales, then their codes (src/math/quant.h). 16 rows take the bytes
 *                       that they have in the source, and keep their exact values.
 *
 * Arithmetic of float weights: each output has one accumulator per block of PS_PANEL_BLOCK values
 * of k; within a block k ascends, one fused multiply-add each, starting from 0; the block sums are
 * added in ascending order; then the bias, if any.
 *
 * Arithmetic of quantised weights with integer activations (math/engine.h): a row x is rounded in
 * runs of 32 values of k,
 *   xs = max|x| / limit (f32 division; limit 32639 or 127),  q[k] = x[k] / xs to nearest even,
 *   xs = 0 and q = 0 where that scale would be zero or denormal; xs = NaN where x holds NaN or
 *   infinity, so that every output of the row becomes NaN,
 * and each sub-block s of the weights (16 or 32 values, never across runs) adds to the accumulator,
 * k ascending:
 *   acc = fma((float)D, scale * xs, acc)      D = sum_k q[k] number[k], in integers, exact
 *   acc = fma(min, xs * (float)Q, acc)        Q = sum_k q[k]; only formats with minima
 * (every conversion and product rounded once to nearest even), with value = scale number + min as
 * in math/dtype.h. Accumulators per PS_PANEL_BLOCK, block sums and bias as for float weights.
 * With f32 activations quantised weights are widened exactly and take the order of float weights.
 *
 * So a result depends on neither the rows beside it, nor the threads, nor the instruction set.
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

/* Bytes of one panel (16 times those of a source row; k is a multiple of the format's block), and
 * of the whole matrix; false on overflow, or when a block does not divide k. */
size_t ps_panel_bytes(ps_dtype dtype, int k);
bool ps_panel_matrix_bytes(ps_dtype dtype, int n, int k, size_t *out);

/* Writes one panel from n_rows (1..16) source rows of k values, which begin row_bytes apart and
 * need no alignment. Lanes >= n_rows become zero. Cost: moves K*16 values. */
void ps_panel_pack(ps_dtype dtype, const void *rows, int n_rows, size_t row_bytes, int k,
                   void *out);

/* out[k] = W[row, k] in f32, exactly as ps_dtype_widen gives it, for one row of a packed matrix. */
void ps_panel_unpack_row(ps_dtype dtype, const void *panels, int k, int row, float *out);

/* Looks for NaN or infinity in n rows of a packed matrix (of quantised formats: in the scales).
 * True when one was found: *row and *column say where, for quantised formats where its block
 * begins. Cost: one pass over float formats, over the scales of quantised ones. */
bool ps_panel_find_not_finite(ps_dtype dtype, const void *panels, int n, int k, int *row,
                              int *column);

#endif
