/* One decoder block over the rows of a parcel, and the scratch memory it works in. */
#ifndef PS_MODEL_BLOCK_H
#define PS_MODEL_BLOCK_H

#include "math/attention.h"
#include "model/cache.h"
#include "model/stage_model.h"
#include "model/weights.h"

/* Scratch of a stage, shared by its layers. Rows are `*_stride` floats apart. */
typedef struct ps_workspace {
    size_t d_stride, q_stride, k_stride, f_stride, feature_stride, number_stride;
    float *normed;              // [R, d_stride]
    float *q, *attended;        // [R, q_stride]
    float *k, *v;               // [R, k_stride]
    float *gate, *up;           // [R, f_stride]
    float *added;               // [R, d_stride]
    float *features;            // [R, feature_stride] of bias providers
    float *numbers;             // [R, number_stride]
    float *cosine, *sine;       // [n_ropes, R, head_dim/2] of this parcel's positions
    double *frequencies;        // [n_ropes, head_dim/2]
    float *attention;           // ps_attention_scratch_floats
    ps_linear_scratch linear;   // of the products
    ps_attention_block *blocks; // [R]
    ps_attention_run *runs;     // [R]
    int *run_slot;              // [R]
    int n_runs, rows_max;
} ps_workspace;

typedef struct ps_block {
    const ps_spec *spec;
    int layer;       // of the model
    int local_layer; // of the stage: index into cache and weights
    const ps_layer_weights *weights;
    ps_cache *cache;
    ps_workspace *work;
    const ps_engine *engine;
} ps_block;

/* x[R, D] in place. The runs in the workspace describe the rows; their pages are reserved. */
void ps_block_forward(const ps_block *block, const ps_rows *rows, float *x);

#endif
