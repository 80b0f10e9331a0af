/* A trial: what layers, head and a hop take here, measured before the work.
 *
 * A few rounds of parcels with one token of each of several sequences go through a pipeline that is
 * opened for them alone, as many at a time as will be under way: so ranks that share a memory or a
 * network measure it as shared. Each rank times its own layers, rank 0 the head too, with what is
 * done with its logits. What a layer would take on another rank is its time here by the ratio of
 * the two ranks' speeds,
 *
 *   t(l, s) = t(l, owner) b(s) / b(owner)      b: time over bytes of a rank's own layers
 *
 * A hop is a turn of a parcel without rows over the ranks. Then come a few rounds with pieces of
 * prompts, from which follows how large these should be (serve/chunks.h). Medians of several rounds.
 *
 * Cost: opening the model once more, a dozen tokens, and 96 tokens of prompts for each rank.
 * Errors: those of opening and running a pipeline.   MPI: collective; the times are the same on all
 * ranks.
 */
#ifndef PS_PIPE_TRIAL_H
#define PS_PIPE_TRIAL_H

#include "pipe/pipeline.h"

/* What is done with the logits of a row, on rank 0: logits[V], those of *ids where that is not
 * NULL. */
typedef struct ps_trial_draw {
    ps_err (*draw)(void *arg, const float *logits, const ps_id_range *ids);
    void *arg;
} ps_trial_draw;

/* Of params->plan, whose split decides who measures which layer, with parcels of `rows` sequences
 * (as many as slots, rows of a parcel and PS_HEAD_ROWS allow). draw: NULL for nothing, as on other
 * ranks than 0. *out is the caller's to release. */
ps_err ps_trial_run(const ps_stage_params *params, int rows, const ps_trial_draw *draw,
                    ps_plan_times *out) PS_MUST_CHECK;

/* Times of one rank become those of n_stages ranks like it. */
void ps_trial_spread(ps_plan_times *times, int n_stages);

#endif
