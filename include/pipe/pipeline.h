/* The pipeline as rank 0 sees it: batches go in, finished rows come out, in order.
 *
 *   submit   rows (slot, position, token) and actions on slots; embeds, runs stage 0, sends. May be
 *            called while fewer than the plan's in_flight parcels are under way.
 *   collect  waits for the oldest batch to come round; the rows whose logits were wanted are there,
 *            and their logits are computed when asked for, at most PS_HEAD_ROWS at a time
 *
 * It knows slots and positions, not requests. Nothing allocates after open.
 *
 * Errors: PS_ERR_LOST, PS_ERR_NUMERIC (NaN or infinity in the rows).
 * MPI: open, serve, stop and close are collective; the rest is for rank 0.
 */
#ifndef PS_PIPE_PIPELINE_H
#define PS_PIPE_PIPELINE_H

#include "pipe/stage.h"

typedef struct ps_pipeline ps_pipeline;

typedef struct ps_batch_row {
    int slot;
    int64_t position;
    int32_t token;
    bool wants_logits;
    bool hidden; // its key is padding: no query sees it; only for specs with key_mask
} ps_batch_row;

typedef struct ps_batch {
    const ps_parcel_action *actions; // [n_actions], at most 2 * n_slots; done before the rows
    int n_actions;
    const ps_batch_row *rows; // [n_rows], at most rows_max
    int n_rows;
} ps_batch;

/* A batch that came round. Valid until released. */
typedef struct ps_finished {
    uint64_t sequence; // as submit returned it
    int n_wanted;
    const ps_parcel_row *rows; // [n_rows] as submitted
    int n_rows;
    int64_t slowest_ns; // what the slowest stage took for it
} ps_finished;

ps_err ps_pipeline_open(const ps_stage_params *params, ps_pipeline **out) PS_MUST_CHECK;
void ps_pipeline_close(ps_pipeline *p);

/* Ranks 1..S-1: works until rank 0 stops the pipeline. Returns at once on rank 0. */
ps_err ps_pipeline_serve(ps_pipeline *p) PS_MUST_CHECK;

int ps_pipeline_in_flight(const ps_pipeline *p);
bool ps_pipeline_can_submit(ps_pipeline *p);
ps_err ps_pipeline_submit(ps_pipeline *p, const ps_batch *batch, uint64_t *sequence) PS_MUST_CHECK;

/* Waits until the oldest batch has come round or, while more may be under way, until there is a
 * buffer for another: *can_submit. For large parcels a buffer is not free before it is sent, and who
 * waited for the oldest batch instead would leave the pipeline empty behind it. */
ps_err ps_pipeline_wait(ps_pipeline *p, bool *can_submit) PS_MUST_CHECK;

ps_err ps_pipeline_collect(ps_pipeline *p, ps_finished *out) PS_MUST_CHECK;

/* logits[n, V] of the wanted rows first .. first+n-1 of the collected batch; n <= PS_HEAD_ROWS. Row
 * stride ps_stage_logits_stride. Valid until the next call. wanted[n]: -inf outside of what each row
 * wants, and less work; NULL: all. A NaN or infinity in what is wanted is PS_ERR_NUMERIC. */
ps_err ps_pipeline_logits(ps_pipeline *p, int first, int n, const ps_logits_wanted *wanted,
                          const float **logits) PS_MUST_CHECK;

/* [n, D] what the final norm made of the rows of the last ps_pipeline_logits, before the head: row
 * stride ps_stage_stride. Valid as long as those. */
const float *ps_pipeline_head_input(const ps_pipeline *p);

void ps_pipeline_release(ps_pipeline *p);

/* Adds the caches of a slot, which holds positions 0 .. position-1, to the state file being written
 * at `path`: all stages in turn, layer by layer (model/cache_file.h). And fills an empty slot from
 * a complete one. All batches must have been collected. The message of the first rank that fails
 * names it; a path of PS_PARCEL_PATH_BYTES is PS_ERR_LIMIT. Disks may take their time: there is no
 * deadline for them. Allocates, as HDF5 does. */
ps_err ps_pipeline_save(ps_pipeline *p, int slot, int64_t position, const char *path) PS_MUST_CHECK;
ps_err ps_pipeline_load(ps_pipeline *p, int slot, int64_t position, int64_t length,
                        const char *path) PS_MUST_CHECK;

/* Keeps messages and signs of life moving while rank 0 does something else for long. */
ps_err ps_pipeline_poll(ps_pipeline *p) PS_MUST_CHECK;

/* Sends STOP round; reports[n_stages]. All batches must have been collected. PS_ERR_IO when this
 * rank's model file was written to meanwhile (serve looks at the other ranks' files). */
ps_err ps_pipeline_stop(ps_pipeline *p, ps_stage_report *reports) PS_MUST_CHECK;

/* The time that this rank spent so far. MPI: local. */
void ps_pipeline_report(ps_pipeline *p, ps_stage_report *out);

/* For tests and --hidden: sees x after embedding and blocks of this rank's stage. */
void ps_pipeline_observe(ps_pipeline *p, ps_observer *observer, void *arg);

/* Sees how this rank spends its time. MPI: local, any rank. */
void ps_pipeline_observe_spans(ps_pipeline *p, ps_stage_span_observer *observer, void *arg);

/* Sees the attention of this rank's layers. MPI: local, any rank. */
void ps_pipeline_observe_attention(ps_pipeline *p, ps_attention_observer *observer, void *arg);

#endif
