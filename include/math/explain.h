/* Attention taken apart: what one query in one head saw of each key, and why.
 *
 * For (row, head) of a job that has just run, with queries, features and caches as they were:
 *
 *   score[j]          cap(scale <q, k[j]>)
 *   key_part[p, j]    of provider p: what the key or the stretch of text up to it decides
 *   position_part     of provider p: the rest; for a given query a function of the distance
 *   bias[j]           all providers' biases, added as attention adds them
 *   total[j]          score + bias
 *   weight[j]         e^total / (sum_j e^total + e^sink)
 *   plain_weight[j]   the same without biases: e^score / (sum_j e^score + e^sink)
 *
 * over the visible keys in ascending order, kept tokens first; those that stand at cache positions
 * are scored from there. Scores and biases come from the kernels and the hooks that attention itself
 * uses, key by key the same numbers; only the softmax is one sum over all keys here, so weights
 * agree to rounding. Key and position part add up to the provider's bias to rounding.
 *
 * Cost: one query's share of attention, three times.   Errors: PS_ERR_NOMEM from open.
 * MPI: local. Nothing allocates after open.
 */
#ifndef PS_MATH_EXPLAIN_H
#define PS_MATH_EXPLAIN_H

#include "base/mem.h"
#include "math/attention.h"

typedef struct ps_explained {
    int64_t capacity;  // keys that there is room for
    int n_biases;      // providers of the last explanation, at most PS_BIAS_MAX
    int64_t n;         // visible keys of the last explanation
    int64_t *position; // [n] of the keys, ascending
    float *score, *bias, *total, *weight, *plain_weight;       // [n]
    float *key_part[PS_BIAS_MAX], *position_part[PS_BIAS_MAX]; // [n_biases][n]
    float sink_weight; // what the head's sink, or a quiet softmax, takes; else 0
    int head_dim;
    float *scratch, *widened;
    ps_region region;
} ps_explained;

#define PS_EXPLAIN_KEYS_MAX (INT64_C(1) << 40)

/* Room for queries that see up to `capacity` keys (1 .. PS_EXPLAIN_KEYS_MAX), in heads of up to
 * `head_dim`. Owned by the caller, ended with ps_explained_close. */
ps_err ps_explained_open(int64_t capacity, int head_dim, ps_explained *out) PS_MUST_CHECK;
void ps_explained_close(ps_explained *e);

/* How many keys row `row` (0 .. n_rows-1) of a run sees. */
int64_t ps_attention_count_keys(const ps_attention_job *job, const ps_attention_run *run, int row);

/* Explains row `row` of a run of the job in one query head. `out` must have room for its keys. */
void ps_attention_explain(const ps_engine *engine, const ps_attention_job *job,
                          const ps_attention_run *run, int row, int head, ps_explained *out);

#endif
