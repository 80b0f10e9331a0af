/* Rows come back in the order in which they were submitted, and all of them are wanted: a cursor
 * over the sequences tells whose they are. A sequence takes the slot after that of the one before
 * it; no parcel takes more sequences than there are slots. */
#include "serve/encode.h"

#include <assert.h>

#include "base/mem.h"

/* A place in the sequences. */
typedef struct cursor {
    size_t sequence, position;
} cursor;

typedef struct encoder {
    const ps_encode_params *params;
    bool whole; // sequences are not cut
    cursor submitted, returned;
    ps_parcel_action *actions; // [2 n_slots] of the parcel being made
    ps_batch_row *rows;        // [chunk_rows] of the parcel being made
    int n_actions, n_rows;
} encoder;

ps_err ps_encode_check(const ps_encode_sequence *sequence, const ps_spec *spec, int64_t rows_max)
{
    if (sequence->n == 0) return PS_FAIL(PS_ERR_USAGE, "the sequence is empty");
    for (size_t i = 0; i < sequence->n; i++) {
        if (sequence->ids[i] >= 0 && sequence->ids[i] < spec->vocab_size) continue;
        return PS_FAIL(PS_ERR_USAGE, "token %zu is %d, the vocabulary has 0..%d", i,
                       sequence->ids[i], spec->vocab_size - 1);
    }
    if (ps_spec_looks_ahead(spec) && sequence->n > (uint64_t)rows_max)
        return PS_FAIL(PS_ERR_LIMIT,
                       "the sequence has %zu tokens, but one whose tokens see all others goes in "
                       "one message, of %lld tokens at most (--chunk)",
                       sequence->n, (long long)rows_max);
    return PS_OK;
}

/* The slot of a sequence is given up by the one that had it, and begun. */
static void begin_sequence(encoder *e, int slot, size_t n_tokens)
{
    if (e->submitted.sequence >= (size_t)e->params->limits.n_slots)
        e->actions[e->n_actions++] = (ps_parcel_action){.kind = PS_ACTION_END, .slot = slot};
    e->actions[e->n_actions++] =
        (ps_parcel_action){.kind = PS_ACTION_BEGIN, .slot = slot, .argument = (int64_t)n_tokens};
}

/* Adds what fits of the next sequence to the parcel; false when it is full. */
static bool add_sequence(encoder *e)
{
    const ps_encode_params *p = e->params;
    cursor *at = &e->submitted;
    if (at->sequence == p->n_sequences) return false;
    const ps_encode_sequence *s = &p->sequences[at->sequence];
    const size_t room = (size_t)(p->limits.chunk_rows - e->n_rows), left = s->n - at->position;
    if (room == 0 || (e->whole && left > room && e->n_rows > 0)) return false;
    const size_t n = left < room ? left : room;
    const int slot = (int)(at->sequence % (size_t)p->limits.n_slots);
    if (at->position == 0) begin_sequence(e, slot, s->n);
    for (size_t i = 0; i < n; i++, at->position++) {
        e->rows[e->n_rows++] = (ps_batch_row){.slot = slot,
                                              .position = (int64_t)at->position,
                                              .token = s->ids[at->position],
                                              .wants_logits = true,
                                              .hidden = s->mask && s->mask[at->position] == 0};
    }
    if (at->position < s->n) return false;
    *at = (cursor){.sequence = at->sequence + 1};
    return true;
}

static ps_err submit(encoder *e)
{
    uint64_t sequence;
    e->n_actions = e->n_rows = 0;
    for (int n = 0; n < e->params->limits.n_slots && add_sequence(e); n++) {
    }
    const ps_batch batch = {
        .actions = e->actions, .n_actions = e->n_actions, .rows = e->rows, .n_rows = e->n_rows};
    return ps_pipeline_submit(e->params->pipeline, &batch, &sequence);
}

/* Rows of the collected parcel, in groups that one call of the head takes and that belong to one
 * sequence. */
static ps_err hand_out(encoder *e, const ps_finished *done)
{
    const ps_encode_params *p = e->params;
    cursor *at = &e->returned;
    assert(done->n_wanted == done->n_rows);
    for (int first = 0; first < done->n_rows;) {
        const size_t left = p->sequences[at->sequence].n - at->position;
        int n = done->n_rows - first < PS_HEAD_ROWS ? done->n_rows - first : PS_HEAD_ROWS;
        if ((size_t)n > left) n = (int)left;
        const float *output;
        PS_TRY(ps_pipeline_logits(p->pipeline, first, n, NULL, &output));
        PS_TRY(p->on_rows(p->arg, at->sequence, at->position, n,
                          ps_pipeline_head_input(p->pipeline), output));
        at->position += (size_t)n;
        if (at->position == p->sequences[at->sequence].n)
            *at = (cursor){.sequence = at->sequence + 1};
        first += n;
    }
    return PS_OK;
}

static ps_err collect(encoder *e)
{
    ps_pipeline *pipeline = e->params->pipeline;
    ps_finished done;
    PS_TRY(ps_pipeline_collect(pipeline, &done));
    const ps_err err = hand_out(e, &done);
    ps_pipeline_release(pipeline);
    return err;
}

static ps_err run(encoder *e)
{
    ps_pipeline *pipeline = e->params->pipeline;
    const size_t n = e->params->n_sequences;
    while (e->returned.sequence < n) {
        while (e->submitted.sequence < n && ps_pipeline_can_submit(pipeline)) {
            PS_TRY(submit(e));
        }
        PS_TRY(ps_pipeline_in_flight(pipeline) > 0 ? collect(e) : ps_pipeline_poll(pipeline));
    }
    return PS_OK;
}

ps_err ps_encode_run(const ps_encode_params *params)
{
    encoder e = {.params = params, .whole = ps_spec_looks_ahead(params->spec)};
    e.actions = ps_mem_new(2 * (size_t)params->limits.n_slots, sizeof *e.actions);
    e.rows = ps_mem_new((size_t)params->limits.chunk_rows, sizeof *e.rows);
    const ps_err err = run(&e);
    ps_mem_free(e.rows);
    ps_mem_free(e.actions);
    return err;
}
