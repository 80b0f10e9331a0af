#include "serve/score.h"

#include "base/mem.h"
#include "math/real.h"
#include "serve/sampler.h"

typedef struct sequence {
    ps_task task;
    ps_score_result result;
    struct sequence *next, **link; // of the scorer's list; *link points here
} sequence;

struct ps_score {
    ps_score_params params;
    ps_sched *sched;
    sequence *sequences; // all that are not done
};

static void free_sequence(sequence *q)
{
    *q->link = q->next;
    if (q->next) q->next->link = q->link;
    ps_tokens_release(&q->task.tokens);
    ps_mem_free(q);
}

static ps_err finish(ps_score *s, ps_sched *sched, sequence *q)
{
    const int64_t n = (int64_t)q->result.n_tokens - 1 - s->params.skip;
    if (n > 0) q->result.perplexity = ps_real_exp(-q->result.sum / (double)n);
    ps_sched_finish(sched, &q->task);
    const ps_err err = s->params.callbacks.on_done(s->params.callbacks.arg, &q->result);
    free_sequence(q);
    return err;
}

static ps_err on_row(void *arg, ps_sched *sched, ps_task *task, int64_t position,
                     const float *logits)
{
    ps_score *s = arg;
    sequence *q = task->user;
    const bool last = (size_t)position + 1 == q->result.n_tokens;
    const int32_t next = last ? -1 : task->tokens.ids[position + 1];
    ps_sampler_logprobs lp = {0};
    if (!last) PS_TRY(ps_sampler_find_logprobs(logits, s->params.spec->vocab_size, next, 0, &lp));
    q->result.sum += lp.chosen;
    if (s->params.callbacks.on_logits)
        PS_TRY(s->params.callbacks.on_logits(s->params.callbacks.arg, q->result.number, position,
                                             logits, next, lp.chosen));
    return last ? finish(s, sched, q) : PS_OK;
}

ps_score *ps_score_new(const ps_score_params *params)
{
    ps_score *s = ps_mem_new(1, sizeof *s);
    s->params = *params;
    const ps_sched_params sched = {.pipeline = params->pipeline,
                                   .spec = params->spec,
                                   .limits = params->limits,
                                   .in_flight = params->in_flight,
                                   .on_row = on_row,
                                   .arg = s};
    s->sched = ps_sched_new(&sched);
    return s;
}

void ps_score_free(ps_score *s)
{
    if (!s) return;
    // After an error there are some that were not finished.
    while (s->sequences) {
        free_sequence(s->sequences);
    }
    ps_sched_free(s->sched);
    ps_mem_free(s);
}

ps_err ps_score_check(const ps_tokens *tokens, const ps_spec *spec, const ps_limits *limits,
                      int64_t skip)
{
    if (tokens->n == 0) return PS_FAIL(PS_ERR_USAGE, "the sequence is empty");
    for (size_t i = 0; i < tokens->n; i++) {
        if (tokens->ids[i] >= 0 && tokens->ids[i] < spec->vocab_size) continue;
        return PS_FAIL(PS_ERR_USAGE, "token %zu is %d, the vocabulary has 0..%d", i, tokens->ids[i],
                       spec->vocab_size - 1);
    }
    if (tokens->n > (uint64_t)limits->context)
        return PS_FAIL(PS_ERR_LIMIT, "the sequence has %zu tokens, the context %lld", tokens->n,
                       (long long)limits->context);
    if (tokens->n <= (uint64_t)skip)
        return PS_FAIL(PS_ERR_USAGE, "the sequence has %zu tokens, of which %lld are skipped",
                       tokens->n, (long long)skip);
    return PS_OK;
}

void ps_score_add(ps_score *s, uint64_t number, ps_tokens *tokens)
{
    sequence *q = ps_mem_new(1, sizeof *q);
    q->task = (ps_task){.tokens = *tokens,
                        .wants_all = true,
                        .wants_from = s->params.skip,
                        .n_slots = 1,
                        .user = q};
    q->task.length = (int64_t)q->task.tokens.n;
    q->result = (ps_score_result){.number = number, .n_tokens = tokens->n, .perplexity = 1.0};
    *tokens = (ps_tokens){0};
    q->next = s->sequences;
    q->link = &s->sequences;
    if (q->next) q->next->link = &q->next;
    s->sequences = q;
    ps_sched_add(s->sched, &q->task);
}

int ps_score_waiting(const ps_score *s)
{
    return ps_sched_waiting(s->sched);
}

int ps_score_slots_used(const ps_score *s)
{
    return ps_sched_slots_used(s->sched);
}

bool ps_score_busy(const ps_score *s)
{
    return ps_sched_busy(s->sched);
}

ps_err ps_score_step(ps_score *s)
{
    return ps_sched_step(s->sched);
}
