#include "support/fake_pipeline.h"

#include <check.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "model/h5.h"
#include "support/dice.h"

typedef struct flight {
    ps_parcel_row *rows; // [n_rows]
    float *logits;       // [n_wanted, stride]
    int n_rows, n_wanted;
} flight;

struct ps_pipeline {
    ps_limits limits;
    int in_flight, vocabulary;
    ps_tokens *slots; // [n_slots]
    fake_batch *batches;
    flight *flights; // as many as batches
    size_t capacity, flight_capacity;
    int submitted, collected, lost;
    int n_buffers, n_sending; // batches that can be on their way out at a time, and are; 0: any
    bool held;                // a collected batch that was not released
    const float *shown;       // logits of the last call
    int64_t batch_ns, row_ns;
};

int __wrap_ps_pipeline_in_flight(const ps_pipeline *p);
bool __wrap_ps_pipeline_can_submit(ps_pipeline *p);
ps_err __wrap_ps_pipeline_submit(ps_pipeline *p, const ps_batch *batch, uint64_t *sequence);
ps_err __wrap_ps_pipeline_wait(ps_pipeline *p, bool *can_submit);
ps_err __wrap_ps_pipeline_collect(ps_pipeline *p, ps_finished *out);
ps_err __wrap_ps_pipeline_logits(ps_pipeline *p, int first, int n, const ps_logits_wanted *wanted,
                                 const float **logits);
void __wrap_ps_pipeline_release(ps_pipeline *p);
ps_err __wrap_ps_pipeline_save(ps_pipeline *p, int slot, int64_t position, const char *path);
ps_err __wrap_ps_pipeline_load(ps_pipeline *p, int slot, int64_t position, int64_t length,
                               const char *path);
const float *__wrap_ps_pipeline_head_input(const ps_pipeline *p);

static size_t stride_of(const ps_pipeline *p)
{
    return ps_mem_round_up((size_t)p->vocabulary, 16);
}

void fake_logits(const int32_t *tokens, size_t n, int vocabulary, float *logits)
{
    uint64_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = (state ^ (uint64_t)(tokens[i] + 1)) * UINT64_C(0x9E3779B97F4A7C15);
        state ^= state >> 29;
    }
    dice d = {.seed = state};
    for (int v = 0; v < vocabulary; v++) {
        logits[v] = (float)dice_real(&d, -4.0, 4.0);
    }
}

ps_spec fake_spec(int vocabulary, bool endless)
{
    ps_spec spec = {.vocab_size = vocabulary, .bos_id = -1};
    ps_spec_take_layers(&spec, 1);
    spec.layers[0].window = endless ? 16 : 0;
    return spec;
}

ps_pipeline *fake_pipeline_new(const ps_limits *limits, int in_flight, int vocabulary)
{
    ps_pipeline *p = ps_mem_new(1, sizeof *p);
    *p = (ps_pipeline){
        .limits = *limits, .in_flight = in_flight, .vocabulary = vocabulary, .lost = -1};
    p->slots = ps_mem_new((size_t)limits->n_slots, sizeof *p->slots);
    return p;
}

void fake_pipeline_free(ps_pipeline *p)
{
    for (int i = 0; i < p->submitted; i++) {
        ps_mem_free(p->batches[i].actions);
        ps_mem_free(p->batches[i].rows);
        ps_mem_free(p->flights[i].rows);
        ps_mem_free(p->flights[i].logits);
    }
    for (int s = 0; s < p->limits.n_slots; s++) {
        ps_tokens_release(&p->slots[s]);
    }
    ps_mem_free(p->batches);
    ps_mem_free(p->flights);
    ps_mem_free(p->slots);
    ps_mem_free(p);
}

int fake_pipeline_count(const ps_pipeline *p)
{
    return p->submitted;
}

const fake_batch *fake_pipeline_batch(const ps_pipeline *p, int number)
{
    ck_assert_int_lt(number, p->submitted);
    return &p->batches[number];
}

void fake_pipeline_set_times(ps_pipeline *p, int64_t batch_ns, int64_t row_ns)
{
    p->batch_ns = batch_ns;
    p->row_ns = row_ns;
}

void fake_pipeline_lose(ps_pipeline *p, int number)
{
    p->lost = number;
}

size_t fake_pipeline_length(const ps_pipeline *p, int slot)
{
    return p->slots[slot].n;
}

int __wrap_ps_pipeline_in_flight(const ps_pipeline *p)
{
    return p->submitted - p->collected;
}

bool __wrap_ps_pipeline_can_submit(ps_pipeline *p)
{
    return p->submitted - p->collected < p->in_flight &&
           (p->n_buffers == 0 || p->n_sending < p->n_buffers);
}

/* Buffers are free again before the oldest batch has come round. */
ps_err __wrap_ps_pipeline_wait(ps_pipeline *p, bool *can_submit)
{
    ck_assert_int_gt(p->submitted - p->collected, 0);
    p->n_sending = 0;
    *can_submit = __wrap_ps_pipeline_can_submit(p);
    return PS_OK;
}

void fake_pipeline_set_buffers(ps_pipeline *p, int n)
{
    p->n_buffers = n;
}

static void do_action(ps_pipeline *p, const ps_parcel_action *a)
{
    ck_assert(a->slot >= 0 && a->slot < p->limits.n_slots);
    ps_tokens *slot = &p->slots[a->slot];
    if (a->kind == PS_ACTION_END) {
        ck_assert_msg(slot->n > 0, "slot %d is ended and holds nothing", a->slot);
        slot->n = 0;
        return;
    }
    ck_assert_msg(slot->n == 0, "slot %d is begun and not free", a->slot);
    if (a->kind == PS_ACTION_BEGIN) {
        ck_assert(a->argument >= 0);
        return;
    }
    ck_assert_int_eq(a->kind, PS_ACTION_FORK);
    ck_assert(a->argument >= 0 && a->argument < p->limits.n_slots && a->argument != a->slot);
    const ps_tokens *from = &p->slots[a->argument];
    ck_assert_msg(from->n > 0, "slot %d is forked and holds nothing", (int)a->argument);
    for (size_t i = 0; i < from->n; i++) {
        ps_tokens_append(slot, from->ids[i]);
    }
}

static void do_row(ps_pipeline *p, const ps_batch_row *row, flight *f)
{
    ck_assert(row->slot >= 0 && row->slot < p->limits.n_slots);
    ck_assert(row->token >= 0 && row->token < p->vocabulary);
    ps_tokens *slot = &p->slots[row->slot];
    ck_assert_msg(row->position == (int64_t)slot->n, "slot %d: position %d behind %zu tokens",
                  row->slot, (int)row->position, slot->n);
    ck_assert_int_lt(row->position, p->limits.context);
    ps_tokens_append(slot, row->token);
    f->rows[f->n_rows++] = (ps_parcel_row){
        .position = row->position, .slot = row->slot, .wants_logits = row->wants_logits};
    if (!row->wants_logits) return;
    fake_logits(slot->ids, slot->n, p->vocabulary,
                f->logits + (size_t)f->n_wanted++ * stride_of(p));
}

static void check_batch(const ps_pipeline *p, const ps_batch *batch)
{
    ck_assert_int_lt(p->submitted - p->collected, p->in_flight);
    ck_assert(batch->n_rows > 0 && batch->n_rows <= p->limits.rows_max);
    ck_assert(batch->n_actions >= 0 && batch->n_actions <= 2 * p->limits.n_slots);
    for (int slot = 0; slot < p->limits.n_slots; slot++) {
        int n = 0;
        for (int r = 0; r < batch->n_rows; r++) {
            n += batch->rows[r].slot == slot;
        }
        ck_assert_int_le(n, p->limits.chunk_rows);
    }
}

ps_err __wrap_ps_pipeline_submit(ps_pipeline *p, const ps_batch *batch, uint64_t *sequence)
{
    check_batch(p, batch);
    const size_t n = (size_t)p->submitted + 1;
    p->batches = ps_mem_grow(p->batches, &p->capacity, n, sizeof *p->batches);
    p->flights = ps_mem_grow(p->flights, &p->flight_capacity, n, sizeof *p->flights);
    fake_batch *b = &p->batches[p->submitted];
    *b = (fake_batch){.n_actions = batch->n_actions, .n_rows = batch->n_rows};
    b->actions = ps_mem_new((size_t)batch->n_actions, sizeof *b->actions);
    b->rows = ps_mem_new((size_t)batch->n_rows, sizeof *b->rows);
    if (b->n_actions) memcpy(b->actions, batch->actions, (size_t)b->n_actions * sizeof *b->actions);
    memcpy(b->rows, batch->rows, (size_t)b->n_rows * sizeof *b->rows);
    flight *f = &p->flights[p->submitted];
    *f = (flight){.rows = ps_mem_new((size_t)b->n_rows, sizeof *f->rows),
                  .logits = ps_mem_new((size_t)b->n_rows * stride_of(p), sizeof *f->logits)};
    for (int i = 0; i < b->n_actions; i++) {
        do_action(p, &b->actions[i]);
    }
    for (int r = 0; r < b->n_rows; r++) {
        do_row(p, &b->rows[r], f);
    }
    p->n_sending++;
    *sequence = (uint64_t)p->submitted++;
    b->in_flight = p->submitted - p->collected;
    return PS_OK;
}

ps_err __wrap_ps_pipeline_collect(ps_pipeline *p, ps_finished *out)
{
    ck_assert(p->collected < p->submitted && !p->held);
    if (p->collected == p->lost) return PS_FAIL(PS_ERR_LOST, "lost");
    const flight *f = &p->flights[p->collected];
    *out = (ps_finished){.sequence = (uint64_t)p->collected++,
                         .n_wanted = f->n_wanted,
                         .rows = f->rows,
                         .n_rows = f->n_rows,
                         .slowest_ns = p->batch_ns + f->n_rows * p->row_ns};
    p->held = true;
    return PS_OK;
}

static void hide_unwanted(const ps_logits_wanted *wanted, int vocabulary, float *row)
{
    int before = 0;
    for (int i = 0; i < wanted->n_ranges; i++) {
        ck_assert(wanted->ranges[i].first >= before && wanted->ranges[i].end <= vocabulary);
        ck_assert_int_lt(wanted->ranges[i].first, wanted->ranges[i].end);
        for (; before < wanted->ranges[i].first; before++) {
            row[before] = NAN;
        }
        before = wanted->ranges[i].end;
    }
    for (; wanted->n_ranges > 0 && before < vocabulary; before++) {
        row[before] = NAN;
    }
}

ps_err __wrap_ps_pipeline_logits(ps_pipeline *p, int first, int n, const ps_logits_wanted *wanted,
                                 const float **logits)
{
    const flight *f = &p->flights[p->collected - 1];
    ck_assert(p->held && first >= 0 && n > 0 && n <= PS_HEAD_ROWS && first + n <= f->n_wanted);
    for (int r = 0; wanted && r < n; r++) {
        hide_unwanted(&wanted[r], p->vocabulary, f->logits + (size_t)(first + r) * stride_of(p));
    }
    *logits = p->shown = f->logits + (size_t)first * stride_of(p);
    return PS_OK;
}

/* The same numbers: what matters is that they are asked for while they are there. */
const float *__wrap_ps_pipeline_head_input(const ps_pipeline *p)
{
    ck_assert(p->held && p->shown);
    return p->shown;
}

void __wrap_ps_pipeline_release(ps_pipeline *p)
{
    ck_assert(p->held);
    flight *f = &p->flights[p->collected - 1];
    // What is read behind the release is seen by a sanitizer.
    ps_mem_free(f->rows);
    ps_mem_free(f->logits);
    *f = (flight){0};
    p->shown = NULL;
    p->held = false;
}

ps_err __wrap_ps_pipeline_save(ps_pipeline *p, int slot, int64_t position, const char *path)
{
    const ps_tokens *tokens = &p->slots[slot];
    const uint64_t dims[1] = {tokens->n};
    ck_assert(p->submitted == p->collected && !p->held);
    ck_assert_int_eq(position, (int64_t)tokens->n);
    ps_h5_writer *w;
    PS_TRY(ps_h5_append(path, &w));
    const ps_err err = ps_h5_put(w, "/layers/000/cache", PS_H5_I32, 1, dims, tokens->ids);
    if (!err) return ps_h5_commit(w);
    ps_h5_abandon(w);
    return err;
}

ps_err __wrap_ps_pipeline_load(ps_pipeline *p, int slot, int64_t position, int64_t length,
                               const char *path)
{
    ps_tokens *tokens = &p->slots[slot];
    ck_assert(p->submitted == p->collected && !p->held);
    ck_assert(tokens->n == 0 && length >= 0 && position <= p->limits.context);
    ps_h5_file *file;
    ps_h5_info info;
    PS_TRY(ps_h5_open(path, &file));
    ps_err err = ps_h5_find(file, "/layers/000/cache", &info);
    if (!err) {
        tokens->ids = ps_mem_grow(tokens->ids, &tokens->capacity, info.values, sizeof *tokens->ids);
        tokens->n = info.values;
        ck_assert_int_eq(position, (int64_t)tokens->n);
        err = ps_h5_read(file, "/layers/000/cache", &info, tokens->ids);
    }
    ps_h5_close(file);
    return err;
}
