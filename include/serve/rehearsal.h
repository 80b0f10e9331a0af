/* A trial as the work will go (pipe/trial.h): a token is drawn from each row's logits, at
 * temperature 1 and without other steps, as for requests that ask for nothing else. The draws count
 * as rank 0's head: while it draws, its layers wait.
 *
 * Errors: those of the trial; PS_ERR_NUMERIC for logits that are not finite.   MPI: collective.
 */
#ifndef PS_SERVE_REHEARSAL_H
#define PS_SERVE_REHEARSAL_H

#include "pipe/trial.h"

/* As ps_trial_run. */
ps_err ps_rehearsal_run(const ps_stage_params *params, int rows, ps_plan_times *out) PS_MUST_CHECK;

#endif
