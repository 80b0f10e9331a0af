/* Generation: requests to completions, many at a time.
 *
 * Each sample of a request is a sequence: sampler, detokenizer and stop matcher advance token by
 * token and hold all its state, so it can be rebuilt from its tokens. The samples of a request
 * share the prompt's cache: the prompt runs once, the others are forked from it. So do requests
 * whose prompts begin with a common prefix: it runs once, in a slot of its own.
 *
 * With guidance a sample is a pair of sequences, the one behind the prompt and the one behind the
 * negative prompt; the token that is drawn from both goes on behind both. What the prompts have in
 * common at the beginning runs once if it is long. With a constraint tokens that are certain are
 * not drawn: they go through the model together, with the next one that is, unless their
 * log-probabilities are wanted. Draws are counted by tokens, certain ones included, so what is
 * drawn knows nothing of that.
 *
 *   ps_generate_add     queues a request (the generator owns it from then on)
 *   ps_generate_step    moves everything on by a parcel
 *   callbacks           new text and tokens as they come; a request when all its samples are done
 *   ps_generate_save    the state of a request that came to its end, for another run to go on with
 *   ps_generate_note    what requests under way have so far, for another run to begin them with
 *
 * Errors: those of pipeline and sampler; PS_ERR_LIMIT for a prompt that is longer than the context.
 * MPI: rank 0 only.
 */
#ifndef PS_SERVE_GENERATE_H
#define PS_SERVE_GENERATE_H

#include "serve/request.h"
#include "serve/sched.h"
#include "serve/state.h"

typedef struct ps_generate ps_generate;

typedef struct ps_generate_callbacks {
    /* A sample grew by `token`; `text` (n bytes of whole characters, may be 0) can be shown now. At
     * the end of a sample it is called once more with token -1 and what was held back. NULL: not
     * wanted. */
    ps_err (*on_token)(void *arg, uint64_t request, int sample, int32_t token, const char *text,
                       size_t n);
    /* All samples are done; completions[n] are the generator's and go away after the call. */
    ps_err (*on_done)(void *arg, uint64_t request, const ps_request *input,
                      const ps_completion *completions, int n);
    void *arg;
} ps_generate_callbacks;

typedef struct ps_generate_params {
    ps_pipeline *pipeline;
    const ps_spec *spec;
    const ps_tokenizer *tokenizer; // NULL: no text, token ids only
    ps_limits limits;
    int in_flight;
    const ps_tokens *prefix; // common beginning of prompts, takes a slot for itself; NULL: none
    ps_generate_callbacks callbacks;
} ps_generate_params; // everything borrowed while the generator lives

ps_generate *ps_generate_new(const ps_generate_params *params);
void ps_generate_free(ps_generate *g);

/* Why a request cannot run: its sampling parameters, an empty prompt, a token outside the
 * vocabulary, a prompt that fills the context, more samples than allowed, guidance without a
 * negative prompt or without two slots, a constraint without a place in the order. limits: the
 * slots are those that samples can have, without that of the prefix. */
ps_err ps_generate_check(const ps_request *request, const ps_spec *spec,
                         const ps_limits *limits) PS_MUST_CHECK;

/* Most positions that a sequence of the request can reach; 0: no end. With keeps_state the whole
 * context, since another run will go on. What ropes that depend on the length go by. */
int64_t ps_generate_length(const ps_request *request, const ps_spec *spec, const ps_limits *limits);

/* `number` comes back in the callbacks. The request's contents are moved. */
ps_err ps_generate_add(ps_generate *g, uint64_t number, ps_request *request) PS_MUST_CHECK;

/* The same for a request that another run had begun: begun[n_samples] are what its samples had, each
 * with as many log-probabilities as tokens if the request wants them. Their tokens are fed to the
 * model again, as a prompt is; nothing is drawn twice, and what comes out is what would have come
 * without the interruption. Contents are moved. Tokens are those of the vocabulary: the caller saw
 * to that. */
ps_err ps_generate_add_begun(ps_generate *g, uint64_t number, ps_request *request,
                             ps_completion *begun) PS_MUST_CHECK;

/* Sees tokens (and log-probabilities) first .. tokens.n-1 of a sample that is not done, or whose
 * request is not. */
typedef ps_err ps_generate_noter(void *arg, uint64_t request, int sample, size_t first,
                                 const ps_completion *so_far);

/* Shows each sample that has grown by `every` tokens or more since it was shown last; streamed and
 * endless requests have nothing to show. Between two steps. */
ps_err ps_generate_note(ps_generate *g, size_t every, ps_generate_noter *noter,
                        void *arg) PS_MUST_CHECK;

/* Goes on with a saved sequence, whose caches are read from `path` by all stages: the next tokens
 * and texts are those that the run that saved it would have had next. max_tokens counts new ones.
 * The state's contents are moved. Before anything else is added. */
ps_err ps_generate_add_state(ps_generate *g, uint64_t number, ps_state *state,
                             const char *path) PS_MUST_CHECK;

/* PS_ERR_LIMIT for a state that fills the context, PS_ERR_FORMAT for what another tokenizer or
 * vocabulary made; and as ps_generate_check. */
ps_err ps_generate_check_state(const ps_state *state, const ps_spec *spec,
                               const ps_limits *limits) PS_MUST_CHECK;

/* Once nothing is busy: writes the state of the request with keeps_state, whole or not at all. What
 * a stop string or an unfinished character held back was not shown: it is in the state. A text that
 * has ended is written too, and refused when it is read. */
ps_err ps_generate_save(ps_generate *g, const ps_state_origin *origin,
                        const char *path) PS_MUST_CHECK;

/* Requests that wait for a slot, and whether anything is left to do. */
int ps_generate_waiting(const ps_generate *g);
bool ps_generate_busy(const ps_generate *g);
ps_err ps_generate_step(ps_generate *g) PS_MUST_CHECK;

/* What a run has done so far, for the report. */
typedef struct ps_generate_counts {
    uint64_t prompt_tokens, new_tokens, requests; // prompt tokens that were computed
    uint64_t prefix_tokens, shared_tokens; // of the prefix; of prompts that it was forked for
    uint64_t begun_tokens;                 // of other runs, fed again
    int slots_used;                        // now
    int64_t shortest, longest; // lengths that sequences began with; INT64_MAX: no end; 0: none yet
    int64_t begun_ns, first_token_ns, last_token_ns; // 0: not yet
    uint64_t n_prompts;                              // that have come to their first token
    int64_t prompt_ns;       // from a request's start to its first token, summed over n_prompts
    int64_t last_prompt_ns;  // when the last of them did
    int64_t second_token_ns; // from the first first token to its sequence's next; 0: not yet
    float *token_ms; // [n_token_ms] times between tokens of a sequence, the last 65536; owned
    size_t n_token_ms;
} ps_generate_counts;

/* *out is released with ps_generate_counts_release. */
void ps_generate_count(const ps_generate *g, ps_generate_counts *out);
void ps_generate_counts_note(ps_generate_counts *counts, int64_t length); // a sequence begins
void ps_generate_counts_release(ps_generate_counts *counts);

#endif
