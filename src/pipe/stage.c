#include "pipe/stage.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "math/isa.h"
#include "math/kernels.h"

enum { POKE_INTERVAL_US = 200 };

/* Bytes of weights that a parcel reads: each layer once, since a panel stays in the first cache
 * level while all rows pass over it; the experts are counted as they are chosen. */
static size_t weights_read(const ps_ckpt *ckpt, const ps_part *part)
{
    size_t bytes = 0;
    for (int l = part->first_layer; l < part->end_layer; l++) {
        bytes += ps_weights_shared_bytes(ckpt, l);
    }
    return bytes;
}

static ps_err open_ring(const ps_stage_params *params, ps_stage *stage)
{
    const ps_plan *plan = params->plan;
    stage->limits =
        (ps_parcel_limits){.rows_max = plan->limits.rows_max,
                           .n_slots = plan->limits.n_slots,
                           .stride = (uint32_t)ps_stage_stride(&params->ckpt->spec),
                           .report_bytes = (size_t)plan->n_stages * sizeof(ps_stage_report)};
    const ps_ring_params ring = {.comm = params->comm,
                                 .watch = params->watch,
                                 .depth = plan->depth,
                                 .buffer_bytes = plan->parcel_bytes,
                                 .wait = params->wait};
    return ps_ring_open(&ring, &stage->ring);
}

static ps_err open_model(const ps_stage_params *params, const ps_plan_stage *own, ps_stage *stage)
{
    const ps_stage_model_params model = {.ckpt = params->ckpt,
                                         .part = own->part,
                                         .access = own->access,
                                         .limits = params->plan->limits,
                                         .verify = params->verify,
                                         .engine = params->engine,
                                         .own = params->own};
    PS_TRY(ps_stage_model_open(&model, &stage->model));
    const size_t rows = (size_t)params->plan->limits.rows_max;
    PS_TRY(ps_region_take(rows * (sizeof(int) + sizeof(int64_t) + sizeof(bool)), "rows",
                          &stage->region));
    stage->positions = stage->region.base;
    stage->slots = (int *)(stage->positions + rows);
    stage->hidden = (bool *)(stage->slots + rows);
    return PS_OK;
}

ps_err ps_stage_open(const ps_stage_params *params, ps_stage *out)
{
    const int rank = ps_comm_rank(params->comm);
    const ps_plan_stage *own = &params->plan->stages[rank];
    const ps_part *part = &own->part;
    *out = (ps_stage){.plan = params->plan,
                      .engine = params->engine,
                      .watch = params->watch,
                      .last = rank == params->plan->n_stages - 1,
                      .weight_bytes = weights_read(params->ckpt, part)};
    out->report = (ps_stage_report){.rank = ps_comm_whole_rank(params->comm, rank),
                                    .first_layer = part->first_layer,
                                    .end_layer = part->end_layer,
                                    .n_threads = ps_pool_threads(params->engine->pool),
                                    .base_resident_bytes = ps_mem_resident()};
    snprintf(out->report.host, sizeof out->report.host, "%s", ps_comm_host(params->comm, rank));
    snprintf(out->report.isa, sizeof out->report.isa, "%s", params->engine->kernels->name);
    ps_watch_set_layers(params->watch, part->first_layer, part->end_layer);
    ps_err err = open_ring(params, out);
    if (!err) {
        // From here on messages and signs of life move while this rank reads and checks its
        // weights.
        ps_pool_set_poke(params->engine->pool, ps_ring_poke, out->ring, POKE_INTERVAL_US);
        err = open_model(params, own, out);
        if (!err) ps_stage_opened(out->model, &out->report.map_ns, &out->report.verify_ns);
    }
    if (err) ps_stage_close(out);
    return err;
}

void ps_stage_close(ps_stage *stage)
{
    if (stage->engine) ps_pool_set_poke(stage->engine->pool, NULL, NULL, 0);
    ps_stage_model_close(stage->model);
    ps_ring_close(stage->ring);
    ps_region_release(&stage->region);
    *stage = (ps_stage){0};
}

static void do_actions(ps_stage *stage, const ps_parcel *parcel)
{
    for (uint32_t i = 0; i < parcel->head->n_actions; i++) {
        const ps_parcel_action *a = &parcel->actions[i];
        if (a->kind == PS_ACTION_END) ps_stage_end(stage->model, a->slot);
        if (a->kind == PS_ACTION_FORK) ps_stage_fork(stage->model, (int)a->argument, a->slot);
        if (a->kind == PS_ACTION_BEGIN) ps_stage_start(stage->model, a->slot, a->argument);
    }
}

/* Moves the rows whose logits are wanted together; returns their number. */
static int keep_wanted(const ps_parcel *parcel)
{
    const size_t stride = parcel->head->stride;
    int n = 0;
    for (uint32_t r = 0; r < parcel->head->n_rows; r++) {
        if (!parcel->rows[r].wants_logits) continue;
        if ((uint32_t)n != r)
            memcpy(parcel->data + (size_t)n * stride, parcel->data + r * stride,
                   stride * sizeof *parcel->data);
        n++;
    }
    return n;
}

void ps_stage_begin(ps_stage *stage)
{
    if (stage->begun_ns != 0) return;
    stage->begun_ns = ps_clock_now_ns();
    stage->idle_ns = ps_ring_waited_ns(stage->ring);
}

void ps_stage_end_span(ps_stage *stage, ps_stage_span span, uint64_t sequence, int64_t begin_ns)
{
    const int64_t end_ns = ps_clock_now_ns();
    if (span == PS_SPAN_SEND) {
        stage->report.send_ns += end_ns - begin_ns;
    } else if (span != PS_SPAN_WAIT) { // that is the ring's to count
        stage->report.busy_ns += end_ns - begin_ns;
    }
    if (stage->span_observer)
        stage->span_observer(stage->span_arg, span, sequence, begin_ns, end_ns);
}

/* For whoever cuts prompts into parcels (serve/chunks.h). */
static void note_time(ps_parcel_head *head, int64_t ns)
{
    if (ns > 0 && (uint64_t)ns > head->slowest_ns) head->slowest_ns = (uint64_t)ns;
}

ps_err ps_stage_step(ps_stage *stage, const ps_parcel *parcel, int *n_data)
{
    ps_stage_begin(stage);
    const int64_t begin = ps_clock_now_ns();
    const int n_rows = (int)parcel->head->n_rows;
    for (int r = 0; r < n_rows; r++) {
        stage->slots[r] = parcel->rows[r].slot;
        stage->positions[r] = parcel->rows[r].position;
        stage->hidden[r] = parcel->rows[r].hidden != 0;
    }
    do_actions(stage, parcel);
    const ps_rows rows = {
        .n = n_rows, .slot = stage->slots, .position = stage->positions, .hidden = stage->hidden};
    PS_TRY(ps_stage_blocks(stage->model, &rows, parcel->data));
    note_time(parcel->head, ps_clock_now_ns() - begin);
    *n_data = stage->last ? keep_wanted(parcel) : n_rows;
    ps_watch_step(stage->watch);
    stage->report.parcels++;
    stage->report.rows += (uint64_t)n_rows;
    if (n_rows > 0) {
        stage->report.weight_bytes +=
            stage->weight_bytes + ps_stage_expert_bytes_read(stage->model);
        stage->report.cache_bytes += ps_stage_cache_bytes_read(stage->model);
        stage->report.evicted += ps_stage_evicted(stage->model);
    }
    ps_stage_end_span(stage, PS_SPAN_BLOCKS, parcel->head->sequence, begin);
    return PS_OK;
}

void ps_stage_fill_report(ps_stage *stage, ps_stage_report *out)
{
    ps_stage_report *r = &stage->report;
    r->window_layers = ps_stage_window_layers(stage->model);
    r->wall_ns = stage->begun_ns ? ps_clock_now_ns() - stage->begun_ns : 0;
    r->wait_ns = stage->begun_ns ? ps_ring_waited_ns(stage->ring) - stage->idle_ns : 0;
    r->sent_bytes = ps_ring_sent_bytes(stage->ring);
    r->peak_resident_bytes = ps_mem_peak_resident();
    *out = *r;
}

void ps_stage_do_state(ps_stage *stage, ps_parcel_kind kind, ps_parcel_state *state)
{
    if (state->err) return;
    ps_watch_suspend(stage->watch, true);
    const ps_err err =
        kind == PS_PARCEL_SAVE
            ? ps_stage_save(stage->model, state->slot, state->position, state->path)
            : ps_stage_load(stage->model, state->slot, state->position, state->length, state->path);
    ps_watch_suspend(stage->watch, false);
    ps_watch_progress(stage->watch);
    if (!err) return;
    const int rank = ps_ring_rank(stage->ring);
    state->err = (int32_t)err;
    if (rank == 0) {
        snprintf(state->message, sizeof state->message, "%s", ps_err_message());
    } else {
        snprintf(state->message, sizeof state->message, "rank %d (%s): %s", stage->report.rank,
                 stage->report.host, ps_err_message());
    }
}

static void pass_state(ps_stage *stage, const ps_parcel *parcel, ps_ring_buffer *buffer)
{
    ps_stage_do_state(stage, (ps_parcel_kind)parcel->head->kind,
                      (ps_parcel_state *)(void *)parcel->data);
    buffer->bytes = ps_parcel_seal(parcel, (int)parcel->head->n_data);
    ps_ring_send(stage->ring, buffer);
}

static void pass_stop(ps_stage *stage, const ps_parcel *parcel, ps_ring_buffer *buffer)
{
    const int rank = ps_ring_rank(stage->ring);
    ps_stage_fill_report(stage, (ps_stage_report *)(void *)parcel->data + rank);
    buffer->bytes = ps_parcel_seal(parcel, (int)parcel->head->n_data);
    ps_ring_send(stage->ring, buffer);
}

static ps_err pass_work(ps_stage *stage, const ps_parcel *parcel, ps_ring_buffer *buffer)
{
    const uint64_t sequence = parcel->head->sequence;
    int n_data;
    PS_TRY(ps_stage_step(stage, parcel, &n_data));
    const int64_t begin = ps_clock_now_ns();
    buffer->bytes = ps_parcel_seal(parcel, n_data);
    ps_ring_send(stage->ring, buffer);
    ps_stage_end_span(stage, PS_SPAN_SEND, sequence, begin);
    return PS_OK;
}

ps_err ps_stage_run(ps_stage *stage)
{
    assert(ps_ring_rank(stage->ring) > 0);
    for (uint64_t sequence = 0;; sequence++) {
        ps_ring_buffer *buffer;
        ps_parcel parcel;
        const int64_t begin = ps_clock_now_ns();
        PS_TRY(ps_ring_receive(stage->ring, &buffer));
        ps_stage_end_span(stage, PS_SPAN_WAIT, sequence, begin);
        PS_TRY(ps_parcel_open(buffer->data, buffer->bytes, sequence, &stage->limits, &parcel));
        if (parcel.head->kind == PS_PARCEL_STOP) {
            pass_stop(stage, &parcel, buffer);
            PS_TRY(ps_ring_flush(stage->ring));
            return ps_stage_check_file(stage->model);
        }
        if (parcel.head->kind == PS_PARCEL_WORK) {
            PS_TRY(pass_work(stage, &parcel, buffer));
        } else {
            pass_state(stage, &parcel, buffer);
        }
    }
}
