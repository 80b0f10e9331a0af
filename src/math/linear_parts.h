/* What the two files of the room share: linear.c deals products over the pool, linear_input.c rounds
 * what goes into them. */
#ifndef PS_MATH_LINEAR_PARTS_H
#define PS_MATH_LINEAR_PARTS_H

#include "math/kernels.h"
#include "math/linear.h"
#include "math/quant.h"

/* Whether the call goes to BLAS. */
static inline bool ps_linear_uses_blas(const ps_engine *engine, const ps_linear_call *call)
{
    return engine->gemm == PS_GEMM_BLAS && call->rows >= PS_LINEAR_BLAS_ROWS;
}

/* Runs of rounded activations in a row of k values. */
static inline size_t ps_linear_runs(int k)
{
    return (size_t)(k / PS_QUANT_RUN);
}

/* The input of a call as its weights want it: rounded, or NULL where they take floats. */
typedef struct ps_linear_input {
    const ps_rounded *rounded; // [rows, k/32]
    bool pairs;                // the form of that
} ps_linear_input;

/* Rounds the inputs of the calls that want it and have none yet, each input once for a run of calls.
 * inputs[n_calls] is filled. Returns the scratch that is left. */
char *ps_linear_round_inputs(const ps_engine *engine, const ps_linear_call *calls, int n_calls,
                             char *scratch, const char *end, ps_linear_input *inputs);

#endif
