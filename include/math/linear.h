/* Products with weight matrices.
 *
 *   out[r, n] = sum_k x[r, k] W[n, k] + bias[n]        order of the sums: math/panel.h
 *
 * Several products over the same or different inputs go through the pool together, so that a query,
 * a key and a value projection cost one hand-over to the threads and not three.
 *
 * Cost: 2 R N K flops; reads float weights once for each tile of rows, once in all for R <= 6;
 * quantised ones once in all.
 * Errors: none (shapes are asserted).   MPI: local.
 */
#ifndef PS_MATH_LINEAR_H
#define PS_MATH_LINEAR_H

#include <stdbool.h>
#include <stddef.h>

#include "math/dtype.h"
#include "math/engine.h"

/* Chunks of at least this many rows go to BLAS where the engine says so. */
#define PS_LINEAR_BLAS_ROWS 16

/* A weight matrix in panel layout (math/panel.h); panels and bias are borrowed. */
typedef struct ps_linear {
    ps_dtype dtype;
    int n, k;           // outputs, inputs
    const void *panels; // [ceil(n/16)][k][16]
    const float *bias;  // [round_up(n, 16)] or NULL
} ps_linear;

typedef struct ps_linear_call {
    const ps_linear *weight;
    const float *x; // [rows, k], row stride x_stride
    size_t x_stride;
    float *out; // [rows, round_up(n, 16)], row stride out_stride; the padding is written too
    size_t out_stride;
    int rows;
    struct ps_rounded *rounded; // x as ps_linear_round_columns rounded it, or NULL
    bool pairs;                 // the form of that
} ps_linear_call;

static inline ps_linear_call ps_linear_call_make(const ps_linear *weight, const float *x,
                                                 size_t x_stride, float *out, size_t out_stride,
                                                 int rows)
{
    return (ps_linear_call){.weight = weight,
                            .x = x,
                            .x_stride = x_stride,
                            .out = out,
                            .out_stride = out_stride,
                            .rows = rows};
}

enum { PS_LINEAR_CALLS_MAX = 1024 }; // gate and up of 512 experts

/* Memory for rounded activations and for BLAS; borrowed. Nothing needs it with float weights and
 * the panel engine. */
typedef struct ps_linear_scratch {
    void *memory; // aligned to PS_MEM_ALIGN
    size_t bytes; // ps_linear_scratch_bytes of what the calls are, or more
} ps_linear_scratch;

/* scratch: may be NULL when ps_linear_scratch_bytes gives 0. Calls one after the other that have
 * the same x, stride and number of rows share one rounding of it. */
void ps_linear_forward(const ps_engine *engine, const ps_linear_call *calls, int n_calls,
                       const ps_linear_scratch *scratch);

/* Calls whose weights have the same n, all panel by panel side by side: as soon as a thread has made
 * the columns first .. end-1 of every call's output, in all rows, it calls `after` with them. Several
 * threads do so at a time, for different columns. `first` is a multiple of 32; so is `end`, but for
 * the last columns, where it is n. */
typedef void ps_linear_after(void *arg, int first, int end);
void ps_linear_forward_side_by_side(const ps_engine *engine, const ps_linear_call *calls,
                                    int n_calls, ps_linear_after *after, void *arg,
                                    const ps_linear_scratch *scratch);

/* For a call whose x is yet to be made, by `after` of the product before it: chooses the form and takes
 * the memory for the rounded x, ps_linear_rounded_bytes, from a scratch that only this call uses.
 * Then ps_linear_round_columns is called for all columns of all rows, each as soon as it is made, and
 * then ps_linear_forward. Both do nothing where the weights take x as it is. */
void ps_linear_expect(const ps_engine *engine, ps_linear_call *call,
                      const ps_linear_scratch *scratch);
void ps_linear_round_columns(const ps_engine *engine, const ps_linear_call *call, int row,
                             int first, int end);
size_t ps_linear_rounded_bytes(ps_activations activations, int rows, int k);

/* Bytes of scratch for forwards whose different inputs have up to `rows` rows in all (0 when no
 * weight is quantised) and up to k_max values a row. Grows with each argument. */
size_t ps_linear_scratch_bytes(ps_gemm gemm, ps_activations activations, int n_threads, int rows,
                               int k_max);

/* Bytes that one pass over the matrix reads from memory. */
size_t ps_linear_bytes(const ps_linear *weight);

/* BLAS runs single-threaded inside our pool. Called once by ps_engine_open. */
void ps_linear_blas_prepare(void);

/* One line on the BLAS library in use; out[n]. */
void ps_linear_blas_version(char *out, size_t n);

/* Rate of the BLAS yardstick: out[m, n] = a[m, k] b[n, k]^T, for benchmarks. */
void ps_linear_blas_product(int m, int n, int k, const float *a, const float *b, float *out);

#endif
