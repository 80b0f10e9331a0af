/* Sequences that come from a state file, and the one that leaves one. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "serve/generate_parts.h"

/* Forgets all but the newest n tokens. */
static void trim_recent(ps_generate_job *j, size_t n)
{
    ps_tokens *t = &j->recent;
    if (t->n <= n) return;
    memmove(t->ids, t->ids + (t->n - n), n * sizeof *t->ids);
    t->n = n;
}

void ps_generate_note_recent(ps_generate_job *j, int32_t token)
{
    if (!j->request.keeps_state) return;
    ps_tokens_append(&j->recent, token);
    if (j->recent.n == 2 * PS_STATE_TOKENS_MAX) trim_recent(j, PS_STATE_TOKENS_MAX);
}

ps_err ps_generate_check_state(const ps_state *state, const ps_spec *spec, const ps_limits *limits)
{
    const int64_t known = state->first + (int64_t)state->request.prompt.n;
    if (known > limits->context)
        return PS_FAIL(PS_ERR_LIMIT, "the state has %lld positions, the context %lld",
                       (long long)known, (long long)limits->context);
    return ps_generate_check(&state->request, spec, limits);
}

/* What the sequence remembers of its text. */
static ps_err restore_text(ps_generate *g, const ps_state *state, ps_sequence *q)
{
    PS_TRY(ps_sampler_restore(q->sampler, &state->sampler));
    ps_text_clear(&g->shown);
    ps_stop_push(q->stop, ps_text_str(&state->held), state->held.len, &g->shown);
    if (g->shown.len > 0 || ps_stop_matched(q->stop) >= 0)
        return PS_FAIL(PS_ERR_FORMAT, "no stop string holds back the %zu bytes in /held",
                       state->held.len);
    if (state->has_detokenizer != (q->detokenizer != NULL))
        return PS_FAIL(PS_ERR_FORMAT, "the state was saved %s a tokenizer",
                       state->has_detokenizer ? "with" : "without");
    if (!q->detokenizer) return PS_OK;
    return ps_detokenizer_load(q->detokenizer, ps_text_str(&state->detokenizer),
                               state->detokenizer.len);
}

static ps_err start_state(ps_generate *g, ps_generate_job *j, const ps_state *state,
                          const char *path)
{
    const ps_tokens *tokens = &j->request.prompt;
    j->wave = j->n_open = 1;
    j->known = state->first + (int64_t)tokens->n;
    j->computed = 0;
    j->sequences = ps_mem_new(1, sizeof *j->sequences);
    ps_sequence *q = &j->sequences[0];
    PS_TRY(ps_generate_open_sequence(g, j, 0, q));
    PS_TRY(restore_text(g, state, q));
    q->task.user = q;
    q->task.n_slots = 1;
    q->task.length = state->length;
    q->task.first = state->position;
    for (size_t i = 0; i < tokens->n; i++) {
        ps_generate_note_recent(j, tokens->ids[i]);
        if (state->first + (int64_t)i >= state->position)
            ps_tokens_append(&q->task.tokens, tokens->ids[i]);
    }
    ps_generate_counts_note(&g->counts, state->length);
    const int slot = ps_sched_place(g->sched, &q->task);
    PS_TRY(ps_pipeline_load(g->params.pipeline, slot, state->position, state->length, path));
    ps_sched_resume(g->sched, &q->task);
    return PS_OK;
}

ps_err ps_generate_add_state(ps_generate *g, uint64_t number, ps_state *state, const char *path)
{
    // The draws' counter goes on; which of its request's samples it was is in it.
    ps_generate_job *j = ps_generate_new_job(g, number, &state->request);
    const ps_err err = start_state(g, j, state, path);
    ps_state_release(state);
    if (err) {
        ps_generate_close_wave(j);
        ps_generate_free_job(j);
    }
    return err;
}

ps_err ps_generate_save(ps_generate *g, const ps_state_origin *origin, const char *path)
{
    assert(g->kept && !ps_sched_busy(g->sched));
    ps_generate_job *j = g->kept;
    trim_recent(j, PS_STATE_TOKENS_MAX);
    const ps_sequence *q = &j->sequences[0];
    ps_state state = {.request = j->request, // its lists are borrowed, its tokens replaced
                      .position = j->known + q->n_new - 1,
                      .length = q->task.length,
                      .finish = q->completion->finish,
                      .has_detokenizer = q->detokenizer != NULL};
    state.request.prompt = j->recent;
    state.first = state.position + 1 - (int64_t)j->recent.n;
    ps_sampler_remember(q->sampler, &state.sampler);
    ps_text_append(&state.held, ps_stop_held(q->stop), ps_stop_held_bytes(q->stop));
    if (q->detokenizer) ps_detokenizer_save(q->detokenizer, &state.detokenizer);
    ps_h5_writer *w;
    ps_err err = ps_h5_create(path, &w);
    if (!err) {
        err = ps_state_write(w, &state, origin);
        if (!err) err = ps_h5_hand_over(w);
        if (!err)
            err = ps_pipeline_save(g->params.pipeline, q->task.slot, state.position,
                                   ps_h5_temporary(w));
        if (err) {
            ps_h5_abandon(w);
        } else {
            err = ps_h5_commit(w);
        }
    }
    ps_sampler_memory_release(&state.sampler);
    ps_text_release(&state.held);
    ps_text_release(&state.detokenizer);
    return err;
}
