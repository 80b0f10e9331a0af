/* A saved sequence: everything a run needs to go on with it, in one HDF5 file.
 *
 *   attributes      format = "pipestep-state", version = 1
 *   /state          JSON: model_identity and arithmetic of the run, position, length, first_token,
 *                   finish, end_ids, ignore_eos, generated, sampling, stop_bytes
 *   /tokens         i32 [n]     tokens from position first_token on: prompt and output, those that
 *                               are not in the caches yet last
 *   /sampler        i64 [n, 3]  token, seen, drawn (serve/sampler.h)
 *   /stops          u8 [n]      the stop strings one behind the other, their lengths in stop_bytes
 *   /held           u8 [n]      text that a stop string holds back (serve/stop.h)
 *   /detokenizer    u8 [n]      what the detokenizer holds back; only where there is a tokenizer
 *   /layers/NNN/... the caches (model/cache_file.h)
 *
 * The datasets up to /detokenizer have an attribute xxh3. Randomness needs no more than
 * `generated`: draws are counted, not chained. At most PS_STATE_TOKENS_MAX tokens are kept: what
 * penalties and texts need of older ones is in /sampler, /held and /detokenizer.
 *
 * Errors: PS_ERR_IO, PS_ERR_FORMAT, PS_ERR_SHAPE, PS_ERR_LIMIT, naming file and dataset.
 * MPI: local.
 */
#ifndef PS_SERVE_STATE_H
#define PS_SERVE_STATE_H

#include "model/h5.h"
#include "serve/request.h"

#define PS_STATE_FORMAT     "pipestep-state"
#define PS_STATE_VERSION    1
#define PS_STATE_TOKENS_MAX (1 << 20)

/* What must be the same in the run that saves and in the one that goes on. */
typedef struct ps_state_origin {
    uint64_t model_identity;
    const char *arithmetic; // the engine's choices that change bits
} ps_state_origin;

typedef struct ps_state {
    ps_request request; // prompt: tokens from position `first` on; without max_tokens and logprobs
    int64_t first;
    int64_t position; // positions 0 .. position-1 are in the caches
    int64_t length;   // most positions that its ropes were made for; 0: no end
    ps_finish finish; // PS_FINISH_STOP: its text has ended
    ps_sampler_memory sampler;
    ps_text held, detokenizer;
    bool has_detokenizer;
} ps_state;

void ps_state_release(ps_state *state);

/* Into a file that was just created, before the caches. */
ps_err ps_state_write(ps_h5_writer *w, const ps_state *state,
                      const ps_state_origin *origin) PS_MUST_CHECK;

/* Everything but the caches, and whether it can go on here: PS_ERR_FORMAT for another model,
 * another arithmetic, a text that has ended, and whatever is damaged. Values are checked for
 * themselves; against vocabulary and context see ps_generate_check_state. *out is to be released in
 * any case. */
ps_err ps_state_read(const char *path, const ps_state_origin *origin, ps_state *out) PS_MUST_CHECK;

#endif
