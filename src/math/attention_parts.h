/* What attention and its explanation (math/explain.h) both do with a segment of a cache. */
#ifndef PS_MATH_ATTENTION_PARTS_H
#define PS_MATH_ATTENTION_PARTS_H

#include "math/attention.h"
#include "math/kernels.h"

/* Products of some queries with the keys [first, last) of the segment at `start`, of one key head,
 * unscaled: z[row, j] = <q[row], k[start + j]>. Whole groups of 16 keys
 * are multiplied. */
typedef struct ps_attention_scores_job {
    const ps_kernels *kernels;
    const ps_kv_view *view;
    int kv_head, rows;
    const float *q; // [rows, K]
    int64_t start;
    int first, last;
    float *widened; // [K, PS_KV_TILE] scratch for quantised keys
    float *z;       // [rows, PS_SEGMENT] out
} ps_attention_scores_job;

void ps_attention_scores(const ps_attention_scores_job *job);

/* Points the tile at a provider's numbers of its keys, the first of which is `number` in the
 * cache. */
void ps_attention_find_numbers(const ps_kv_view *view, int number, ps_bias_tile *tile);

/* Position behind the sequence's last: what a query that looks ahead can see. */
static inline int64_t ps_attention_length(const ps_attention_run *run)
{
    return run->first_position + run->n_rows;
}

#endif
