/* What a stage computes with: an instruction set's kernels, a pool of threads, and the engine for
 * the products of prompt chunks.
 *
 * Borrowed by everything in math and model; owned by whoever opened it. Not shared between threads:
 * one caller at a time, as for the pool.
 */
#ifndef PS_MATH_ENGINE_H
#define PS_MATH_ENGINE_H

#include "base/err.h"
#include "base/pool.h"

typedef enum ps_gemm {
    PS_GEMM_PANEL, // our kernels: same bits for any chunk size
    PS_GEMM_BLAS,  // BLAS for chunks of PS_LINEAR_BLAS_ROWS rows and more: bits depend on the chunk
    PS_GEMM_COUNT
} ps_gemm;

/* What quantised weights are multiplied with (math/panel.h). Float weights take f32 always. */
typedef enum ps_activations {
    PS_ACTIVATIONS_I16, // rounded to 16-bit integers, 32 values to a scale
    PS_ACTIVATIONS_F32, // as they are; the weights are widened
    PS_ACTIVATIONS_I8,  // rounded to 8-bit integers
    PS_ACTIVATIONS_COUNT
} ps_activations;

/* "i16", "f32", "i8" */
const char *ps_activations_name(ps_activations activations);

typedef struct ps_engine {
    const struct ps_kernels *kernels;
    ps_pool *pool;
    ps_gemm gemm;
    ps_activations activations;
} ps_engine;

typedef struct ps_engine_params {
    const char *isa; // NULL or "auto": the best of this processor
    int n_threads;
    const int *processors; // [n_threads] to bind to, or NULL; borrowed for the call
    ps_wait wait;
    ps_gemm gemm;
    ps_activations activations;
} ps_engine_params;

/* Errors: PS_ERR_USAGE for an unknown set, PS_ERR_NOMEM. */
ps_err ps_engine_open(const ps_engine_params *params, ps_engine *out) PS_MUST_CHECK;
void ps_engine_close(ps_engine *engine);

#endif
