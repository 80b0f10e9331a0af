/* Encoding: what an encoder makes of given sequences.
 *
 *   hidden[t] = final norm(x[t])      output[t] = head(hidden[t]), where the model has a head
 *
 * Where queries look ahead a sequence goes through in one parcel; else in chunks. A parcel takes as
 * many sequences as fit, and as many parcels are under way as the pipeline allows. Rows come back
 * in the order of the sequences.
 *
 * Errors: those of the pipeline and of the callback.   MPI: rank 0 only.
 */
#ifndef PS_SERVE_ENCODE_H
#define PS_SERVE_ENCODE_H

#include "pipe/pipeline.h"

typedef struct ps_encode_sequence {
    const int32_t *ids;  // [n]
    const int32_t *mask; // [n] 0: padding, which no query sees; NULL: all are seen
    size_t n;
} ps_encode_sequence; // borrowed

/* Rows first .. + n of a sequence, n <= PS_HEAD_ROWS: hidden[n, D] with row stride ps_stage_stride,
 * output[n, n_outputs] with row stride ps_stage_logits_stride. Valid during the call. */
typedef ps_err ps_encode_on_rows(void *arg, size_t sequence, size_t first, int n,
                                 const float *hidden, const float *output);

typedef struct ps_encode_params {
    ps_pipeline *pipeline;
    const ps_spec *spec;
    ps_limits limits;
    const ps_encode_sequence *sequences; // [n_sequences]
    size_t n_sequences;
    ps_encode_on_rows *on_rows;
    void *arg;
} ps_encode_params; // all borrowed

/* PS_ERR_USAGE or PS_ERR_LIMIT for a sequence that is empty, holds a token outside the vocabulary,
 * or has more than `rows_max` tokens where queries look ahead. */
ps_err ps_encode_check(const ps_encode_sequence *sequence, const ps_spec *spec,
                       int64_t rows_max) PS_MUST_CHECK;

/* All of them, each checked before. */
ps_err ps_encode_run(const ps_encode_params *params) PS_MUST_CHECK;

#endif
