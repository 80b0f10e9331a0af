/* Scoring: log-probabilities of given sequences under the model.
 *
 *   logprob[t] = log softmax(logits[t])[token[t+1]]        skip <= t < T-1
 *
 * The first `skip` predictions of a sequence, which have little to go by, may be left out: their
 * logits are not computed. A perplexity over the second half of each context is what many report.
 *
 * Sequences go through the pipeline side by side, in chunks; their rows come back in order within a
 * sequence. Sums are taken in double precision, t ascending.
 *
 * Errors: those of the pipeline and of the callbacks.   MPI: rank 0 only.
 */
#ifndef PS_SERVE_SCORE_H
#define PS_SERVE_SCORE_H

#include "serve/sched.h"

typedef struct ps_score ps_score;

typedef struct ps_score_result {
    uint64_t number; // of the sequence, as added
    size_t n_tokens;
    double sum;        // of the log-probabilities
    double perplexity; // exp(-sum / (T-1-skip)); 1 without any
} ps_score_result;

typedef struct ps_score_callbacks {
    /* logits[V] of a token at a position >= skip, the next token and its log-probability (-1 and 0
     * behind the last). NULL: not wanted. */
    ps_err (*on_logits)(void *arg, uint64_t number, int64_t position, const float *logits,
                        int32_t next, double logprob);
    ps_err (*on_done)(void *arg, const ps_score_result *result);
    void *arg;
} ps_score_callbacks;

typedef struct ps_score_params {
    ps_pipeline *pipeline;
    const ps_spec *spec;
    ps_limits limits;
    int in_flight;
    int64_t skip;
    ps_score_callbacks callbacks;
} ps_score_params; // borrowed while the scorer lives

ps_score *ps_score_new(const ps_score_params *params);
void ps_score_free(ps_score *s);

/* PS_ERR_USAGE or PS_ERR_LIMIT for an empty sequence, a token outside the vocabulary, one longer
 * than the context, or one that has no more than `skip` tokens. */
ps_err ps_score_check(const ps_tokens *tokens, const ps_spec *spec, const ps_limits *limits,
                      int64_t skip) PS_MUST_CHECK;

/* The tokens are moved. */
void ps_score_add(ps_score *s, uint64_t number, ps_tokens *tokens);
int ps_score_waiting(const ps_score *s);
bool ps_score_busy(const ps_score *s);
int ps_score_slots_used(const ps_score *s);
ps_err ps_score_step(ps_score *s) PS_MUST_CHECK;

#endif
