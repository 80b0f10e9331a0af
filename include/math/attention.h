/* Attention of new rows over cached keys and values, biased and windowed.
 *
 *   z[h,i,j] = cap(scale <q[i,h], k[j,g]>) + bias(h,i,j)  g = h G / H, visible: math/visible.h
 *   out[i,h] = sum_j e^(z[h,i,j]) v[j,g] / (sum_j e^(z[h,i,j]) + e^(sink[h]))
 *   quiet softmax: 1 in the place of e^(sink[h])
 *
 * cap(a) = softcap tanh(a / softcap), or a; the sink's term stands only where there are sinks, or
 * the softmax is quiet.
 *
 * The rows of a parcel come as runs: consecutive positions of one sequence, already appended to its
 * cache. A sum's order depends on i, j and the visible keys alone: first the kept tokens that lie
 * before the query's own part, then that part, each in segments of PS_SEGMENT absolute positions;
 * inside a segment scores are exponentiated against the segment's maximum, weights and values
 * summed over ascending keys; segments are folded in ascending order. So the result does not change
 * with chunking, threads, the cache's page table, or the rows beside. Where queries look ahead, all
 * that they see must be in the cache: the end of a run is the end of its sequence so far.
 *
 * Kept tokens at cache positions take the queries q_kept, rotated at ps_visible_kept_query.
 *
 * A query whose keys are all hidden or -inf gives zeros. A sink is the state that the sums start
 * from: maximum sink[h] (0 of a quiet softmax), sum 1.
 *
 * Cost: 4 R H T K flops; a key is read once for all query heads of its group and all queries of a
 * block.   Errors: none.   MPI: local.
 */
#ifndef PS_MATH_ATTENTION_H
#define PS_MATH_ATTENTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "math/bias.h"
#include "math/engine.h"
#include "math/kv.h"
#include "math/visible.h"

typedef struct ps_attention_shape {
    int n_heads, n_kv_heads, head_dim;
    float scale;
    float softcap; // 0: none
    ps_visible visible;
} ps_attention_shape;

/* Consecutive new rows of one sequence: rows first_row .. + n_rows at positions first_position ..
 */
typedef struct ps_attention_run {
    int sequence; // as bias providers see it: the slot of the cache
    int first_row, n_rows;
    int64_t first_position;
    ps_kv_view view;
} ps_attention_run;

/* Part of a run that one item of work takes. */
typedef struct ps_attention_block {
    int run, first, n_queries;
} ps_attention_block;

typedef struct ps_attention_job {
    ps_attention_shape shape;
    const ps_attention_run *runs; // [n_runs]
    int n_runs;
    const float *q;      // [R, H*K] rotated, row stride q_stride
    const float *q_kept; // the same for kept tokens at cache positions; NULL: q
    size_t q_stride;
    float *out; // [R, H*K], row stride out_stride
    size_t out_stride;
    const float *sinks;    // [H] or NULL: one more score of each head, without a value
    bool quiet;            // that score is 0 for every head; sinks are NULL then
    const ps_bias *biases; // [n_biases]
    int n_biases;
    const float *features; // [R, all providers' features], row stride feature_stride
    size_t feature_stride;
    ps_attention_block *blocks; // scratch [R]
    float *scratch;             // ps_attention_scratch_floats
} ps_attention_job;

void ps_attention_forward(const ps_engine *engine, const ps_attention_job *job);

/* Scratch for all threads, in floats, for layers of up to these sizes. `group` = H / G. */
size_t ps_attention_scratch_floats(int n_threads, int group, int head_dim);

#endif
