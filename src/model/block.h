/* One decoder block over the rows of a parcel, and the scratch memory it works in. */
#ifndef PS_MODEL_BLOCK_H
#define PS_MODEL_BLOCK_H

#include <stdatomic.h>

#include "math/attention.h"
#include "model/cache.h"
#include "model/stage_model.h"
#include "model/weights.h"

/* Scratch of layers with a mixture of experts. A row that chose an expert stands in the table once
 * for each: C = R * n_experts_used entries, ordered by expert, then by row. */
typedef struct ps_mixture_work {
    float *scores;         // [R, score_stride] of the router
    int *chosen;           // [R, used] experts, ascending
    float *weights;        // [R, used] of the chosen
    int *places;           // [R, used] entries of the table
    int *first_entry;      // [n_experts + 1]
    float *x, *out;        // [C, d_stride]
    float *gate, *up;      // [C, f_stride of the experts]
    ps_linear *matrices;   // [2 n_experts] of the experts that were chosen
    ps_linear_call *calls; // [2 n_experts]
    size_t score_stride, f_stride;
    size_t bytes_read; // of experts' matrices, by the parcel's rows so far
} ps_mixture_work;

/* Scratch of a stage, shared by its layers. Rows are `*_stride` floats apart. */
typedef struct ps_workspace {
    size_t d_stride, q_stride, k_stride, f_stride, feature_stride, number_stride;
    size_t gate_stride, projected_stride;
    float *normed;       // [R, d_stride]
    float *q, *attended; // [R, q_stride]
    float *q_kept;       // [R, q_stride], or NULL: queries as kept tokens see them
    float *kept_cosine;  // [layers of the part, head_dim/2] where a full cache's query stands
    float *kept_sine;
    float *k, *v;               // [R, k_stride]
    float *output_gate;         // [R, gate_stride]
    float *projected;           // [R, projected_stride] of bias providers, each from a 16th on
    float *gate, *up;           // [R, f_stride]
    float *added;               // [R, d_stride]
    float *features;            // [R, feature_stride] of bias providers
    float *numbers;             // [R, number_stride]
    float *numbers_before;      // [number_stride] of the key before a run
    float *cosine, *sine;       // [n_ropes, R, head_dim/2] of this parcel's positions
    double *frequencies;        // [n_ropes, n_slots, head_dim/2]
    float *attention;           // ps_attention_scratch_floats
    ps_linear_scratch linear;   // of the products
    ps_linear_scratch down;     // of W_down's input alone
    ps_attention_block *blocks; // [R]
    ps_attention_run *runs;     // [R]
    int n_runs, rows_max;
    atomic_bool overflow; // a key or value did not fit the cache's type
    ps_mixture_work mixture;
} ps_workspace;

typedef struct ps_block {
    const ps_spec *spec;
    int layer;       // of the model
    int local_layer; // of the stage: index into cache and weights
    const ps_layer_weights *weights;
    ps_cache *cache;
    ps_workspace *work;
    const ps_engine *engine;
    ps_attention_observer *observer; // of the attention; NULL: nobody
    void *observer_arg;
} ps_block;

/* x[R, D] in place. The runs in the workspace describe the rows; their pages are reserved. */
void ps_block_forward(const ps_block *block, const ps_rows *rows, float *x);

/* added[R, D] = the mixture of experts over n rows of `input`, d_stride apart. */
void ps_mixture_forward(const ps_block *block, const float *input, int n);

/* gate[n] = the activation of gate times up, or of up alone where there are no gates. */
void ps_block_activate(const ps_block *block, float *gate, const float *up, int n);

/* Calls `function` for all rows 0 .. n-1, dealt over the pool in groups of eight. */
typedef void ps_block_row(void *arg, int row);
void ps_block_each_row(const ps_engine *engine, int n, ps_block_row *function, void *arg);

#endif
