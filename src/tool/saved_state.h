/* --save-state and --load-state of generate: what goes with them, and what a state must agree with.
 *
 * A loaded state brings its prompt and the whole sampler with it, so every option that would say
 * something else is refused.
 *
 * Errors: PS_ERR_USAGE; those of serve/state.h.   MPI: rank 0 only, but for the check.
 */
#ifndef PS_TOOL_SAVED_STATE_H
#define PS_TOOL_SAVED_STATE_H

#include "serve/state.h"
#include "tool/job.h"

typedef struct ps_saved_state {
    const char *save, *load; // paths; NULL: not asked for
    ps_state state;          // what was loaded, until it is moved
} ps_saved_state;

/* On every rank, before anything is opened. n: new tokens. */
ps_err ps_saved_state_check(const ps_saved_state *s, const ps_job *job, int64_t n,
                            int n_samples) PS_MUST_CHECK;

/* Whether the state can be written where it is to go; reads the one to go on with. */
ps_err ps_saved_state_prepare(ps_saved_state *s, const ps_job *job) PS_MUST_CHECK;

/* Adds the loaded state to the generator, with what this run asks of it: of `request` max_tokens,
 * n_logprobs, streamed and keeps_state. */
ps_err ps_saved_state_add(ps_saved_state *s, const ps_job *job, const ps_request *request,
                          ps_generate *g) PS_MUST_CHECK;

ps_err ps_saved_state_save(const ps_saved_state *s, const ps_job *job,
                           ps_generate *g) PS_MUST_CHECK;

#endif
