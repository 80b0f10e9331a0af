#include "pipe/trial.h"
#include <assert.h>

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

enum { WARM_ROUNDS = 2, ROUNDS = 9, CHUNK_ROUNDS = 3, CHUNK_ROWS = 32, SAMPLES_MAX = 256 };

/* The last times of one thing; which of them are dropped does not matter. */
typedef struct samples {
    double ns[SAMPLES_MAX];
    int n; // seen
} samples;

/* A rank's trial. Layers are its own, from part.first_layer on. */
typedef struct trial {
    const ps_stage_params *params;
    const ps_trial_draw *draw; // NULL: nothing is done with logits
    ps_part part;
    ps_pipeline *pipeline;
    int rows;        // of a parcel
    int n_parcels;   // under way at a time
    int chunk_rows;  // of a parcel with a prompt
    samples *layers; // [own layers]
    samples head, draws, turn;
    samples few, many;  // the slowest stage's blocks: of `rows`, of `chunk_rows`
    int64_t *layer_end; // [own layers] of the parcel being computed
    int n_marked;
} trial;

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void add(samples *s, double ns)
{
    s->ns[s->n++ % SAMPLES_MAX] = ns;
}

static double median(samples *s)
{
    const int n = s->n < SAMPLES_MAX ? s->n : SAMPLES_MAX;
    if (n == 0) return 0.0;
    qsort(s->ns, (size_t)n, sizeof s->ns[0], by_value);
    return s->ns[(n - 1) / 2];
}

/* ---- every rank: its layers ---- */

static void mark_layer(void *arg, int layer, const float *x, size_t stride, int rows)
{
    (void)x;
    (void)stride;
    trial *t = arg;
    if (layer >= t->part.first_layer && rows > 0) t->layer_end[t->n_marked++] = ps_clock_now_ns();
}

/* Parcels of one token for each of some sequences; those behind them hold prompts. */
static int count_parcels(const trial *t)
{
    return (WARM_ROUNDS + ROUNDS) * t->n_parcels;
}

/* When the blocks of a parcel are done it is known when the first of them began. */
static void end_span(void *arg, ps_stage_span span, uint64_t sequence, int64_t begin_ns,
                     int64_t end_ns)
{
    trial *t = arg;
    const uint64_t first = (uint64_t)WARM_ROUNDS * (uint64_t)t->n_parcels;
    const bool counts = sequence >= first && sequence < (uint64_t)count_parcels(t);
    if (span == PS_SPAN_HEAD && counts) add(&t->head, (double)(end_ns - begin_ns));
    if (span != PS_SPAN_BLOCKS) return;
    for (int i = 0; i < t->n_marked && counts; i++) {
        add(&t->layers[i], (double)(t->layer_end[i] - begin_ns));
        begin_ns = t->layer_end[i];
    }
    t->n_marked = 0;
}

/* ---- rank 0: parcels ---- */

/* A slot begins anew. Returns the number of actions. */
static int begin_slot(const trial *t, int round, int slot, ps_parcel_action *actions)
{
    int n = 0;
    if (round > 0) actions[n++] = (ps_parcel_action){.kind = PS_ACTION_END, .slot = slot};
    actions[n++] = (ps_parcel_action){
        .kind = PS_ACTION_BEGIN, .slot = slot, .argument = t->params->plan->limits.context};
    return n;
}

static int32_t some_token(const trial *t, int round, int row)
{
    return (int32_t)((row * 7919 + round * 104729) % t->params->ckpt->spec.vocab_size);
}

static ps_err submit(trial *t, int round, int parcel)
{
    ps_parcel_action actions[2 * PS_HEAD_ROWS];
    ps_batch_row rows[PS_HEAD_ROWS];
    int n_actions = 0;
    for (int r = 0; r < t->rows; r++) {
        const int slot = parcel * t->rows + r;
        n_actions += begin_slot(t, round, slot, actions + n_actions);
        rows[r] =
            (ps_batch_row){.slot = slot, .token = some_token(t, round, slot), .wants_logits = true};
    }
    const ps_batch batch = {actions, n_actions, rows, t->rows};
    uint64_t sequence;
    return ps_pipeline_submit(t->pipeline, &batch, &sequence);
}

/* A piece of a prompt, in the first slot of the parcel's. */
static ps_err submit_chunk(trial *t, int round, int parcel)
{
    ps_parcel_action actions[2];
    ps_batch_row rows[CHUNK_ROWS];
    const int slot = parcel * t->rows;
    const int n_actions = begin_slot(t, round, slot, actions);
    for (int r = 0; r < t->chunk_rows; r++) {
        rows[r] = (ps_batch_row){.slot = slot, .position = r, .token = some_token(t, round, r)};
    }
    const ps_batch batch = {actions, n_actions, rows, t->chunk_rows};
    uint64_t sequence;
    return ps_pipeline_submit(t->pipeline, &batch, &sequence);
}

static ps_err draw_from(trial *t, const float *logits, int n_rows, const ps_id_range *ids)
{
    const size_t stride = ps_stage_logits_stride(&t->params->ckpt->spec);
    const int64_t begin = ps_clock_now_ns();
    for (int r = 0; r < n_rows; r++) {
        PS_TRY(t->draw->draw(t->draw->arg, logits + (size_t)r * stride, ids));
    }
    add(&t->draws, (double)(ps_clock_now_ns() - begin));
    return PS_OK;
}

static ps_err collect(trial *t, ps_finished *done)
{
    PS_TRY(ps_pipeline_collect(t->pipeline, done));
    // As much of the head as the work will need.
    const ps_id_range ids = {0, t->params->plan->limits.head_ids};
    ps_logits_wanted wanted[PS_HEAD_ROWS];
    for (int r = 0; r < done->n_wanted; r++) {
        wanted[r] = (ps_logits_wanted){&ids, ids.end > 0 ? 1 : 0};
    }
    const float *logits;
    ps_err err = PS_OK;
    if (done->n_wanted > 0) {
        err = ps_pipeline_logits(t->pipeline, 0, done->n_wanted, wanted, &logits);
        if (!err && t->draw) err = draw_from(t, logits, done->n_wanted, ids.end > 0 ? &ids : NULL);
    }
    ps_pipeline_release(t->pipeline);
    return err;
}

/* Every parcel's next round begins when it has come back, as tokens do. Rounds with prompts come
 * last. */
static ps_err run_rounds(trial *t)
{
    assert(t->n_parcels > 0);
    const int n_few = count_parcels(t), first_few = WARM_ROUNDS * t->n_parcels;
    const int total = n_few + (t->chunk_rows > 0 ? CHUNK_ROUNDS * t->n_parcels : 0);
    const int first_many = n_few + t->n_parcels;
    ps_finished done;
    for (int sent = 0, back = 0; back < total;) {
        if (sent < total && sent - back < t->n_parcels && ps_pipeline_can_submit(t->pipeline)) {
            const int round = sent / t->n_parcels, parcel = sent % t->n_parcels;
            PS_TRY(sent < n_few ? submit(t, round, parcel) : submit_chunk(t, round, parcel));
            sent++;
        } else {
            PS_TRY(collect(t, &done));
            if (back >= first_few && back < n_few) add(&t->few, (double)done.slowest_ns);
            if (back >= first_many) add(&t->many, (double)done.slowest_ns);
            back++;
        }
    }
    return PS_OK;
}

static ps_err run_turns(trial *t)
{
    enum { TURNS = 40 };
    const ps_batch empty = {0};
    for (int i = 0; i < TURNS;) {
        if (!ps_pipeline_can_submit(t->pipeline)) {
            PS_TRY(ps_pipeline_poll(t->pipeline));
            continue;
        }
        ps_finished done;
        uint64_t sequence;
        const int64_t begin = ps_clock_now_ns();
        PS_TRY(ps_pipeline_submit(t->pipeline, &empty, &sequence));
        PS_TRY(collect(t, &done));
        add(&t->turn, (double)(ps_clock_now_ns() - begin));
        i++;
    }
    return PS_OK;
}

static ps_err lead(trial *t)
{
    const int n_stages = t->params->plan->n_stages;
    PS_TRY(run_rounds(t));
    if (n_stages > 1) PS_TRY(run_turns(t));
    ps_stage_report *reports = ps_mem_new((size_t)n_stages, sizeof *reports);
    const ps_err err = ps_pipeline_stop(t->pipeline, reports);
    ps_mem_free(reports);
    return err;
}

/* ---- together ---- */

/* What each rank tells the others: its layers, then head, turn, time over bytes; rank 0 what the
 * slowest took for few rows and for many. */
enum { TOLD_HEAD, TOLD_TURN, TOLD_BYTE, TOLD_FEW, TOLD_MANY, TOLD };

static void tell(trial *t, double *mine)
{
    const ps_ckpt *ckpt = t->params->ckpt;
    const int n_layers = ckpt->spec.n_layers;
    double ns = 0.0, bytes = 0.0;
    for (int l = t->part.first_layer; l < t->part.end_layer; l++) {
        mine[l] = median(&t->layers[l - t->part.first_layer]);
        ns += mine[l];
        bytes += (double)ps_weights_layer_bytes(ckpt, l);
    }
    double *rest = mine + n_layers;
    rest[TOLD_HEAD] = median(&t->head) + median(&t->draws);
    rest[TOLD_TURN] = median(&t->turn);
    if (bytes == 0.0) { // a rank with nothing but the head
        ns = rest[TOLD_HEAD];
        bytes = (double)ps_weights_head_bytes(ckpt);
    }
    rest[TOLD_BYTE] = bytes > 0.0 ? ns / bytes : 0.0;
    rest[TOLD_FEW] = median(&t->few);
    rest[TOLD_MANY] = median(&t->many);
}

/* all: [n_stages, n_layers + TOLD] */
static void fill_times(const trial *t, const double *all, ps_plan_times *out)
{
    const ps_plan *plan = t->params->plan;
    const int n_layers = t->params->ckpt->spec.n_layers;
    const size_t row = (size_t)n_layers + TOLD;
    *out = (ps_plan_times){.n_stages = plan->n_stages, .n_layers = n_layers, .rows = t->rows};
    out->layer_ns = ps_mem_new((size_t)plan->n_stages * (size_t)n_layers, sizeof *out->layer_ns);
    out->byte_ns = ps_mem_new((size_t)plan->n_stages, sizeof *out->byte_ns);
    out->head_ns = all[(size_t)n_layers + TOLD_HEAD];
    out->hop_ns = all[(size_t)n_layers + TOLD_TURN] / plan->n_stages;
    out->chunk_rows = t->chunk_rows;
    out->rows_ns = all[(size_t)n_layers + TOLD_FEW];
    out->chunk_ns = all[(size_t)n_layers + TOLD_MANY];
    for (int s = 0; s < plan->n_stages; s++) {
        out->byte_ns[s] = all[(size_t)s * row + (size_t)n_layers + TOLD_BYTE];
    }
    for (int owner = 0; owner < plan->n_stages; owner++) {
        const ps_part *part = &plan->stages[owner].part;
        for (int l = part->first_layer; l < part->end_layer; l++) {
            const double own = all[(size_t)owner * row + (size_t)l];
            for (int s = 0; s < plan->n_stages; s++) {
                const double speed = s == owner ? 1.0 : out->byte_ns[s] / out->byte_ns[owner];
                out->layer_ns[(size_t)s * (size_t)n_layers + (size_t)l] = own * speed;
            }
        }
    }
}

/* All rings of the job that try at once. */
static ps_comm *everybody(const ps_stage_params *params)
{
    return params->together ? params->together : params->comm;
}

/* Everything but what must be closed in any case. */
static ps_err measure(trial *t, ps_plan_times *out)
{
    const ps_stage_params *params = t->params;
    PS_TRY(ps_pipeline_open(params, &t->pipeline));
    ps_pipeline_observe(t->pipeline, mark_layer, t);
    ps_pipeline_observe_spans(t->pipeline, end_span, t);
    const bool leads = ps_comm_rank(params->comm) == 0;
    const ps_err err = leads ? lead(t) : ps_pipeline_serve(t->pipeline);
    // Others wait for a parcel that will not come: the caller's way out is that of any run.
    if (err == PS_ERR_LOST || err == PS_ERR_NUMERIC) return err;
    PS_TRY(ps_comm_agree(everybody(params), err));
    const size_t n = (size_t)params->ckpt->spec.n_layers + TOLD;
    double *mine = ps_mem_new(n, sizeof *mine);
    double *all = ps_mem_new(n * (size_t)params->plan->n_stages, sizeof *all);
    tell(t, mine);
    const ps_err gathered = ps_comm_gather_all(params->comm, mine, n * sizeof *mine, all);
    if (!gathered) fill_times(t, all, out);
    ps_mem_free(all);
    ps_mem_free(mine);
    return gathered;
}

ps_err ps_trial_run(const ps_stage_params *params, int rows, const ps_trial_draw *draw,
                    ps_plan_times *out)
{
    const ps_plan *plan = params->plan;
    const ps_part part = plan->stages[ps_comm_rank(params->comm)].part;
    const size_t n_own = (size_t)(part.end_layer - part.first_layer);
    *out = (ps_plan_times){0};
    trial t = {.params = params, .draw = draw, .part = part};
    const int n_slots = plan->limits.n_slots;
    t.rows = rows < n_slots ? rows : n_slots;
    if (t.rows > PS_HEAD_ROWS) t.rows = PS_HEAD_ROWS;
    if (t.rows > plan->limits.rows_max) t.rows = plan->limits.rows_max;
    t.n_parcels = n_slots / t.rows < plan->in_flight ? n_slots / t.rows : plan->in_flight;
    t.chunk_rows = plan->limits.chunk_rows < CHUNK_ROWS ? plan->limits.chunk_rows : CHUNK_ROWS;
    if (t.chunk_rows <= t.rows || plan->n_stages == 1) t.chunk_rows = 0;
    t.layers = ps_mem_new(n_own + 1, sizeof *t.layers);
    t.layer_end = ps_mem_new(n_own + 1, sizeof *t.layer_end);
    const ps_err err = measure(&t, out);
    ps_pipeline_close(t.pipeline);
    ps_mem_free(t.layer_end);
    ps_mem_free(t.layers);
    if (err) return err;
    // All have closed this ring before any opens the next.
    return ps_comm_agree(everybody(params), PS_OK);
}

void ps_trial_spread(ps_plan_times *times, int n_stages)
{
    const size_t n_layers = (size_t)times->n_layers;
    double *layer_ns = ps_mem_new((size_t)n_stages * n_layers, sizeof *layer_ns);
    double *byte_ns = ps_mem_new((size_t)n_stages, sizeof *byte_ns);
    for (int s = 0; s < n_stages; s++) {
        memcpy(layer_ns + (size_t)s * n_layers, times->layer_ns, n_layers * sizeof *layer_ns);
        byte_ns[s] = times->byte_ns[0];
    }
    ps_mem_free(times->layer_ns);
    ps_mem_free(times->byte_ns);
    times->layer_ns = layer_ns;
    times->byte_ns = byte_ns;
    times->n_stages = n_stages;
}
