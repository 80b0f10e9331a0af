#include "tool/saved_state.h"

#include <stdio.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

enum { ARITHMETIC_BYTES = 64 };

/* Options of generate whose values stand in the state. */
static const char *const stored[] = {"prompt",
                                     "prompt-file",
                                     "tokens",
                                     "chat",
                                     "system",
                                     "chat-template",
                                     "echo",
                                     "temperature",
                                     "top-k",
                                     "top-p",
                                     "min-p",
                                     "typical",
                                     "repetition-penalty",
                                     "presence-penalty",
                                     "frequency-penalty",
                                     "repeat-last-n",
                                     "logit-bias",
                                     "ban",
                                     "stop",
                                     "sampler-order",
                                     "seed",
                                     "min-tokens",
                                     "ignore-eos"};

ps_err ps_saved_state_check(const ps_saved_state *s, const ps_job *job, int64_t n, int n_samples)
{
    if (!s->save && !s->load) return PS_OK;
    if (n_samples > 1)
        return PS_FAIL(PS_ERR_USAGE, "--%s-state goes with one sample, found --samples %d",
                       s->save ? "save" : "load", n_samples);
    if (s->save && n < 1)
        return PS_FAIL(PS_ERR_USAGE,
                       "--save-state: the state is written after -n tokens, wanted 1 "
                       "or more, found %lld",
                       (long long)n);
    for (size_t i = 0; s->load && i < sizeof stored / sizeof stored[0]; i++) {
        if (ps_opt_is_set(&job->parsed, stored[i]))
            return PS_FAIL(PS_ERR_USAGE,
                           "--%s and --load-state exclude each other: it stands in the "
                           "state",
                           stored[i]);
    }
    return PS_OK;
}

/* What changes bits and is neither in the model nor in the caches' policy. */
static ps_state_origin origin_of(const ps_job *job, char *arithmetic)
{
    snprintf(arithmetic, ARITHMETIC_BYTES, "gemm %s, activations %s",
             job->run.gemm == PS_GEMM_BLAS ? "blas" : "panel",
             ps_activations_name((ps_activations)job->run.activations));
    return (ps_state_origin){job->ckpt.identity, arithmetic};
}

ps_err ps_saved_state_prepare(ps_saved_state *s, const ps_job *job)
{
    if (s->save) {
        char *target;
        PS_TRY(ps_file_find_target(s->save, NULL, &target));
        ps_mem_free(target);
    }
    if (!s->load) return PS_OK;
    char arithmetic[ARITHMETIC_BYTES];
    const ps_state_origin origin = origin_of(job, arithmetic);
    return ps_state_read(s->load, &origin, &s->state);
}

/* Keys that are cached were turned for this length, and new ones are: behind it they are right, but
 * a run that had known of more might have turned them otherwise. */
static void warn_of_length(const ps_job *job, const ps_state *state, int64_t max_tokens)
{
    const int64_t known = state->first + (int64_t)state->request.prompt.n;
    bool depends = false;
    for (int r = 0; r < job->ckpt.spec.n_ropes; r++) {
        depends = depends || ps_rope_depends_on_length(&job->ckpt.spec.ropes[r]);
    }
    if (!depends || state->length == 0 || (max_tokens >= 0 && known + max_tokens <= state->length))
        return;
    ps_log(
        PS_LOG_WARNING,
        "the state's rotations are those of a sequence of %lld positions, which it may now pass: "
        "give --ctx where a state is first saved",
        (long long)state->length);
}

ps_err ps_saved_state_add(ps_saved_state *s, const ps_job *job, const ps_request *request,
                          ps_generate *g)
{
    ps_request *r = &s->state.request;
    r->max_tokens = request->max_tokens;
    r->n_logprobs = request->n_logprobs;
    r->streamed = request->streamed;
    r->keeps_state = request->keeps_state;
    PS_TRY(ps_generate_check_state(&s->state, &job->ckpt.spec, &job->limits));
    warn_of_length(job, &s->state, r->max_tokens);
    return ps_generate_add_state(g, 0, &s->state, s->load);
}

ps_err ps_saved_state_save(const ps_saved_state *s, const ps_job *job, ps_generate *g)
{
    char arithmetic[ARITHMETIC_BYTES];
    const ps_state_origin origin = origin_of(job, arithmetic);
    return ps_generate_save(g, &origin, s->save);
}
