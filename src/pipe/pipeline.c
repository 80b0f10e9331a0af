#include "pipe/pipeline.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

struct ps_pipeline {
    ps_stage stage;
    const ps_spec *spec;
    uint64_t submitted, collected;
    ps_ring_buffer *next;     // taken for the next batch, or NULL
    ps_ring_buffer *returned; // the collected batch, or NULL
    ps_parcel parcel;         // view of `returned`
    int32_t *tokens;          // [rows_max] scratch; owned
};

ps_err ps_pipeline_open(const ps_stage_params *params, ps_pipeline **out)
{
    *out = NULL;
    ps_pipeline *p = ps_mem_new(1, sizeof *p);
    p->spec = &params->ckpt->spec;
    p->tokens = ps_mem_new((size_t)params->plan->limits.rows_max, sizeof *p->tokens);
    ps_err err = ps_stage_open(params, &p->stage);
    err = ps_comm_agree(params->together ? params->together : params->comm, err);
    if (err) {
        ps_pipeline_close(p);
        return err;
    }
    *out = p;
    return PS_OK;
}

void ps_pipeline_close(ps_pipeline *p)
{
    if (!p) return;
    ps_stage_close(&p->stage);
    ps_mem_free(p->tokens);
    ps_mem_free(p);
}

ps_err ps_pipeline_serve(ps_pipeline *p)
{
    return ps_ring_rank(p->stage.ring) == 0 ? PS_OK : ps_stage_run(&p->stage);
}

int ps_pipeline_in_flight(const ps_pipeline *p)
{
    return (int)(p->submitted - p->collected);
}

bool ps_pipeline_can_submit(ps_pipeline *p)
{
    if (ps_pipeline_in_flight(p) >= p->stage.plan->in_flight) return false;
    if (!p->next) p->next = ps_ring_take(p->stage.ring);
    // With nothing under way there is nothing else to wait for than what is still being sent.
    if (!p->next && ps_pipeline_in_flight(p) == 0 && ps_ring_flush(p->stage.ring) == PS_OK)
        p->next = ps_ring_take(p->stage.ring);
    return p->next != NULL;
}

ps_err ps_pipeline_submit(ps_pipeline *p, const ps_batch *batch, uint64_t *sequence)
{
    assert(p->next && "ask ps_pipeline_can_submit first");
    assert(batch->n_rows <= p->stage.limits.rows_max);
    ps_ring_buffer *buffer = p->next;
    p->next = NULL;
    const ps_parcel parcel =
        ps_parcel_begin(buffer->data, PS_PARCEL_WORK, p->submitted, batch->n_actions, batch->n_rows,
                        p->stage.limits.stride);
    if (batch->n_actions > 0)
        memcpy(parcel.actions, batch->actions, (size_t)batch->n_actions * sizeof *batch->actions);
    for (int r = 0; r < batch->n_rows; r++) {
        const ps_batch_row *row = &batch->rows[r];
        parcel.rows[r] = (ps_parcel_row){.position = row->position,
                                         .slot = row->slot,
                                         .wants_logits = row->wants_logits,
                                         .hidden = row->hidden};
        p->tokens[r] = row->token;
        p->stage.positions[r] = row->position;
    }
    ps_stage_begin(&p->stage);
    const int64_t begin = ps_clock_now_ns();
    ps_stage_embed(p->stage.model, p->tokens, p->stage.positions, batch->n_rows, parcel.data);
    ps_stage_end_span(&p->stage, PS_SPAN_EMBED, p->submitted, begin);
    int n_data;
    const ps_err err = ps_stage_step(&p->stage, &parcel, &n_data);
    if (err) {
        p->next = buffer; // never sent: STOP will need it
        return err;
    }
    const int64_t send = ps_clock_now_ns();
    buffer->bytes = ps_parcel_seal(&parcel, n_data);
    ps_ring_send(p->stage.ring, buffer);
    ps_stage_end_span(&p->stage, PS_SPAN_SEND, p->submitted, send);
    *sequence = p->submitted++;
    ps_watch_expect_progress(p->stage.watch, true);
    return PS_OK;
}

/* Waits for the parcel that comes next and checks it. */
static ps_err receive(ps_pipeline *p, uint64_t sequence)
{
    const int64_t begin = ps_clock_now_ns();
    PS_TRY(ps_ring_receive(p->stage.ring, &p->returned));
    ps_stage_end_span(&p->stage, PS_SPAN_WAIT, sequence, begin);
    return ps_parcel_open(p->returned->data, p->returned->bytes, sequence, &p->stage.limits,
                          &p->parcel);
}

ps_err ps_pipeline_wait(ps_pipeline *p, bool *can_submit)
{
    assert(ps_pipeline_in_flight(p) > 0 && !p->returned);
    *can_submit = false;
    if (ps_pipeline_in_flight(p) >= p->stage.plan->in_flight) return PS_OK;
    const int64_t begin = ps_clock_now_ns();
    if (!p->next) PS_TRY(ps_ring_wait(p->stage.ring));
    ps_stage_end_span(&p->stage, PS_SPAN_WAIT, p->collected, begin);
    *can_submit = ps_pipeline_can_submit(p);
    return PS_OK;
}

ps_err ps_pipeline_collect(ps_pipeline *p, ps_finished *out)
{
    assert(ps_pipeline_in_flight(p) > 0 && !p->returned);
    PS_TRY(receive(p, p->collected));
    *out = (ps_finished){.sequence = p->collected++,
                         .n_wanted = (int)p->parcel.head->n_data,
                         .rows = p->parcel.rows,
                         .n_rows = (int)p->parcel.head->n_rows,
                         .slowest_ns = (int64_t)p->parcel.head->slowest_ns};
    if (ps_pipeline_in_flight(p) == 0) ps_watch_expect_progress(p->stage.watch, false);
    return PS_OK;
}

static ps_err check_range(const ps_pipeline *p, const float *row, const ps_id_range *range)
{
    const size_t first = (size_t)range->first, n = (size_t)range->end - first;
    const size_t at = ps_dtype_first_not_finite(PS_F32, row + first, n);
    if (at == n) return PS_OK;
    return PS_FAIL(PS_ERR_NUMERIC, "%s %zu is %s: the model's numbers overflow",
                   p->spec->encoder ? "output" : "the logit of token", first + at,
                   isnan(row[first + at]) ? "NaN" : "infinite");
}

static ps_err check_finite(const ps_pipeline *p, const float *logits, int n,
                           const ps_logits_wanted *wanted)
{
    const ps_id_range whole = {0, ps_spec_head_size(p->spec)};
    for (int r = 0; r < n; r++) {
        const float *row = logits + (size_t)r * ps_stage_logits_stride(p->spec);
        const int n_ranges = wanted ? wanted[r].n_ranges : 0;
        if (n_ranges == 0) PS_TRY(check_range(p, row, &whole));
        for (int i = 0; i < n_ranges; i++) {
            PS_TRY(check_range(p, row, &wanted[r].ranges[i]));
        }
    }
    return PS_OK;
}

const float *ps_pipeline_head_input(const ps_pipeline *p)
{
    return ps_stage_head_input(p->stage.model);
}

ps_err ps_pipeline_logits(ps_pipeline *p, int first, int n, const ps_logits_wanted *wanted,
                          const float **logits)
{
    assert(p->returned && first >= 0 && first + n <= (int)p->parcel.head->n_data);
    const int64_t begin = ps_clock_now_ns();
    *logits = ps_stage_head(p->stage.model, p->parcel.data + (size_t)first * p->stage.limits.stride,
                            n, wanted);
    p->stage.report.weight_bytes += ps_stage_head_bytes_read(p->stage.model);
    ps_stage_end_span(&p->stage, PS_SPAN_HEAD, p->parcel.head->sequence, begin);
    return check_finite(p, *logits, n, wanted);
}

void ps_pipeline_release(ps_pipeline *p)
{
    assert(p->returned);
    ps_ring_release(p->stage.ring, p->returned);
    p->returned = NULL;
}

ps_err ps_pipeline_poll(ps_pipeline *p)
{
    return ps_watch_poll(p->stage.watch);
}

/* A buffer for a parcel that goes round alone. */
static ps_err take_buffer(ps_pipeline *p, ps_ring_buffer **out)
{
    assert(ps_pipeline_in_flight(p) == 0 && !p->returned);
    if (!p->next) p->next = ps_ring_take(p->stage.ring);
    if (!p->next) {
        PS_TRY(ps_ring_flush(p->stage.ring));
        p->next = ps_ring_take(p->stage.ring);
    }
    *out = p->next;
    p->next = NULL;
    return PS_OK;
}

/* Sends it round; it is in p->parcel, to be released. */
static ps_err send_round(ps_pipeline *p, const ps_parcel *parcel, ps_ring_buffer *buffer,
                         int n_data)
{
    buffer->bytes = ps_parcel_seal(parcel, n_data);
    ps_ring_send(p->stage.ring, buffer);
    return receive(p, p->collected++);
}

/* The path as all ranks can open it, wherever they were started. */
static ps_err set_path(const char *path, ps_parcel_state *state)
{
    char *absolute = realpath(path, NULL);
    const char *told = absolute ? absolute : path;
    const size_t n = strlen(told);
    if (n < sizeof state->path) memcpy(state->path, told, n);
    free(absolute);
    if (n < sizeof state->path) return PS_OK;
    return PS_FAIL(PS_ERR_LIMIT, "%.100s...: a path of %zu bytes, wanted less than %zu", path, n,
                   sizeof state->path);
}

static ps_err pass_state(ps_pipeline *p, ps_parcel_kind kind, ps_parcel_state *state,
                         const char *path)
{
    PS_TRY(set_path(path, state));
    ps_ring_buffer *buffer;
    PS_TRY(take_buffer(p, &buffer));
    const ps_parcel parcel = ps_parcel_begin(buffer->data, kind, p->submitted++, 0, 0,
                                             (uint32_t)(sizeof *state / sizeof(float)));
    ps_parcel_state *sent = (ps_parcel_state *)(void *)parcel.data;
    *sent = *state;
    ps_stage_do_state(&p->stage, kind, sent);
    // No progress is expected meanwhile: a stage may take as long as its disk does.
    PS_TRY(send_round(p, &parcel, buffer, 1));
    const ps_parcel_state *back = (const void *)p->parcel.data;
    const ps_err err = back->err ? PS_FAIL((ps_err)back->err, "%s", back->message) : PS_OK;
    ps_pipeline_release(p);
    return err;
}

ps_err ps_pipeline_save(ps_pipeline *p, int slot, int64_t position, const char *path)
{
    ps_parcel_state state = {.slot = slot, .position = position};
    return pass_state(p, PS_PARCEL_SAVE, &state, path);
}

ps_err ps_pipeline_load(ps_pipeline *p, int slot, int64_t position, int64_t length,
                        const char *path)
{
    ps_parcel_state state = {.slot = slot, .position = position, .length = length};
    return pass_state(p, PS_PARCEL_LOAD, &state, path);
}

ps_err ps_pipeline_stop(ps_pipeline *p, ps_stage_report *reports)
{
    const int n_stages = p->stage.plan->n_stages;
    ps_ring_buffer *buffer;
    PS_TRY(take_buffer(p, &buffer));
    const ps_parcel stop = ps_parcel_begin(buffer->data, PS_PARCEL_STOP, p->submitted++, 0, 0,
                                           (uint32_t)(sizeof(ps_stage_report) / sizeof(float)));
    memset(stop.data, 0, (size_t)n_stages * sizeof(ps_stage_report));
    ps_stage_fill_report(&p->stage, (ps_stage_report *)(void *)stop.data);
    PS_TRY(send_round(p, &stop, buffer, n_stages));
    memcpy(reports, p->parcel.data, (size_t)n_stages * sizeof *reports);
    ps_pipeline_release(p);
    PS_TRY(ps_ring_flush(p->stage.ring));
    return ps_stage_check_file(p->stage.model);
}

void ps_pipeline_observe(ps_pipeline *p, ps_observer *observer, void *arg)
{
    ps_stage_observe(p->stage.model, observer, arg);
}

void ps_pipeline_observe_attention(ps_pipeline *p, ps_attention_observer *observer, void *arg)
{
    ps_stage_observe_attention(p->stage.model, observer, arg);
}

void ps_pipeline_report(ps_pipeline *p, ps_stage_report *out)
{
    ps_stage_fill_report(&p->stage, out);
}

void ps_pipeline_observe_spans(ps_pipeline *p, ps_stage_span_observer *observer, void *arg)
{
    p->stage.span_observer = observer;
    p->stage.span_arg = arg;
}
