/* What goes into a parcel: first sequences that are one token at a time, no more than their share
 * of the parcels in flight, then pieces of prompts, one after the other, up to a chunk.
 *
 * The share is what keeps the stages busy: with B such sequences and S parcels in flight each
 * parcel takes ceil(B / S) of those that are ready, so that S parcels follow each other round the
 * ring.
 *
 * The last known tokens of a pair wait for each other: a parcel has both or neither. So their
 * logits are always there together, whatever the lengths of the prompts. A pair that shares its
 * beginning runs it as the first of the two; the parcel that brings it to its end is followed by
 * one that forks the partner.
 *
 * Actions on slots wait for the next parcel. Between two parcels a slot is ended at most once, and
 * begun or forked into at most once, so twice the slots is room enough. */
#include "serve/sched.h"

#include <assert.h>

#include "base/mem.h"
#include "serve/chunks.h"

struct ps_sched {
    ps_sched_params params;
    ps_task **tasks;        // [n_slots] by slot; NULL: nobody
    int *free_slots;        // stack
    int n_free, n_reserved; // of the free ones, n_reserved are promised to running tasks
    int n_running, n_waiting;
    int turn, prompt_turn; // slots to look at first, so that all get their turn
    ps_task *first_waiting, *last_waiting;
    ps_parcel_action *actions; // [2 n_slots] for the next parcel
    int n_actions;
    ps_batch_row *rows; // [rows_max] of the parcel being made
    int n_rows;
    ps_chunks_times times; // of parcels that came back
};

ps_sched *ps_sched_new(const ps_sched_params *params)
{
    const size_t n_slots = (size_t)params->limits.n_slots;
    ps_sched *s = ps_mem_new(1, sizeof *s);
    s->params = *params;
    s->tasks = ps_mem_new(n_slots, sizeof(ps_task *));
    s->free_slots = ps_mem_new(n_slots, sizeof *s->free_slots);
    s->actions = ps_mem_new(2 * n_slots, sizeof *s->actions);
    s->rows = ps_mem_new((size_t)params->limits.rows_max, sizeof *s->rows);
    for (int i = params->limits.n_slots - 1; i >= 0; i--) {
        s->free_slots[s->n_free++] = i;
    }
    return s;
}

void ps_sched_free(ps_sched *s)
{
    if (!s) return;
    ps_mem_free(s->rows);
    ps_mem_free(s->actions);
    ps_mem_free(s->free_slots);
    ps_mem_free(s->tasks);
    ps_mem_free(s);
}

static void prepare(ps_task *task, ps_task *lead)
{
    task->slot = -1;
    task->held = false;
    task->n_submitted = task->first;
    task->n_reserved = 0;
    task->lead = lead;
    task->next_waiting = NULL;
}

void ps_sched_add(ps_sched *s, ps_task *task)
{
    assert(task->tokens.n >= 1 && task->n_slots >= 1 && task->n_slots <= s->params.limits.n_slots);
    assert(task->first == 0 || task->parent);
    prepare(task, NULL);
    if (task->partner) prepare(task->partner, task);
    if (s->last_waiting) {
        s->last_waiting->next_waiting = task;
    } else {
        s->first_waiting = task;
    }
    s->last_waiting = task;
    s->n_waiting++;
}

int ps_sched_waiting(const ps_sched *s)
{
    return s->n_waiting;
}

int ps_sched_slots_used(const ps_sched *s)
{
    return s->params.limits.n_slots - s->n_free;
}

bool ps_sched_busy(const ps_sched *s)
{
    return s->n_waiting > 0 || s->n_running > 0;
}

void ps_task_append(ps_task *task, int32_t token)
{
    enum { FORGET_FROM = 4096 };
    if (task->tokens.n >= FORGET_FROM &&
        task->n_submitted == task->first + (int64_t)task->tokens.n) {
        task->first += (int64_t)task->tokens.n;
        task->tokens.n = 0;
    }
    ps_tokens_append(&task->tokens, token);
}

/* Tokens known but not yet submitted. */
static int64_t count_left(const ps_task *task)
{
    return task->first + (int64_t)task->tokens.n - task->n_submitted;
}

static void start(ps_sched *s, ps_task *task)
{
    task->slot = s->free_slots[--s->n_free];
    s->tasks[task->slot] = task;
    s->n_running++;
}

/* There are slots for it, and its parent's rows are all behind it. */
static bool can_start(const ps_sched *s, const ps_task *task)
{
    return task->n_slots <= s->n_free - s->n_reserved && (!task->parent || task->parent->held);
}

static void begin_slot(ps_sched *s, const ps_task *task)
{
    ps_parcel_action *action = &s->actions[s->n_actions++];
    *action =
        (ps_parcel_action){.kind = PS_ACTION_BEGIN, .slot = task->slot, .argument = task->length};
    if (!task->parent) return;
    assert(task->parent->n_submitted == task->first);
    action->kind = PS_ACTION_FORK;
    action->argument = task->parent->slot;
}

/* The partner takes one of the slots that its lead reserved. */
static void begin_partner(ps_sched *s, ps_task *lead)
{
    ps_task *task = lead->partner;
    assert(lead->n_reserved > 0);
    lead->n_reserved--;
    s->n_reserved--;
    start(s, task);
    const bool forked = task->first > 0;
    s->actions[s->n_actions++] =
        (ps_parcel_action){.kind = forked ? PS_ACTION_FORK : PS_ACTION_BEGIN,
                           .slot = task->slot,
                           .argument = forked ? lead->slot : task->length};
}

static bool waits_for_lead(const ps_task *partner)
{
    return partner && partner->slot < 0;
}

/* Partners that begin by themselves, and those whose beginning their lead has submitted. */
static void begin_partners(ps_sched *s)
{
    for (int i = 0; i < s->params.limits.n_slots; i++) {
        ps_task *lead = s->tasks[i];
        if (!lead || !waits_for_lead(lead->partner)) continue;
        const int64_t first = lead->partner->first;
        if (first == 0 || lead->n_submitted == first) begin_partner(s, lead);
    }
}

/* Gives slots to waiting tasks, in their order: a later small one does not overtake a big one. */
static void admit(ps_sched *s)
{
    while (s->first_waiting && can_start(s, s->first_waiting)) {
        ps_task *task = s->first_waiting;
        s->first_waiting = task->next_waiting;
        if (!s->first_waiting) s->last_waiting = NULL;
        s->n_waiting--;
        start(s, task);
        begin_slot(s, task);
        task->n_reserved = task->n_slots - 1;
        s->n_reserved += task->n_reserved;
    }
}

static void rest(ps_sched *s, ps_task *task)
{
    s->n_reserved -= task->n_reserved;
    s->n_running--;
    task->n_reserved = 0;
}

void ps_sched_hold(ps_sched *s, ps_task *task)
{
    assert(task->slot >= 0 && !task->held && !task->partner);
    rest(s, task);
    task->held = true;
}

int ps_sched_place(ps_sched *s, ps_task *task)
{
    assert(!ps_sched_busy(s) && s->n_actions == 0 && s->n_free > 0);
    prepare(task, NULL);
    start(s, task);
    ps_sched_hold(s, task);
    return task->slot;
}

void ps_sched_resume(ps_sched *s, ps_task *task)
{
    assert(task->held);
    task->held = false;
    s->n_running++;
}

static void finish_one(ps_sched *s, ps_task *task)
{
    assert(task->slot >= 0);
    s->actions[s->n_actions++] = (ps_parcel_action){.kind = PS_ACTION_END, .slot = task->slot};
    s->tasks[task->slot] = NULL;
    s->free_slots[s->n_free++] = task->slot;
    if (!task->held) rest(s, task);
    task->held = false;
    task->slot = -1;
}

void ps_sched_finish(ps_sched *s, ps_task *task)
{
    if (task->partner) finish_one(s, task->partner);
    finish_one(s, task);
}

static void fork_one(ps_sched *s, const ps_task *task, ps_task *child, ps_task *lead)
{
    assert(task->slot >= 0 && child->first <= task->n_submitted);
    prepare(child, lead);
    child->n_submitted = task->n_submitted;
    start(s, child);
    s->actions[s->n_actions++] =
        (ps_parcel_action){.kind = PS_ACTION_FORK, .slot = child->slot, .argument = task->slot};
}

void ps_sched_fork(ps_sched *s, ps_task *task, ps_task *child)
{
    const int n = task->partner ? 2 : 1;
    assert(task->n_reserved >= n && !task->partner == !child->partner);
    task->n_reserved -= n;
    s->n_reserved -= n;
    fork_one(s, task, child, NULL);
    if (task->partner) fork_one(s, task->partner, child->partner, child);
}

/* One new token, behind rows that have all come back: not a prompt. Of a pair: the last known
 * tokens are all that is left. */
static bool is_decoding(const ps_task *task)
{
    if (count_left(task) != 1 || task->lead || task->held || task->wants_all) return false;
    if (!task->partner) return task->n_submitted > 0;
    return task->partner->slot >= 0 && count_left(task->partner) == 1;
}

static void add_rows(ps_sched *s, ps_task *task, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const int64_t position = task->n_submitted++;
        s->rows[s->n_rows++] =
            (ps_batch_row){.slot = task->slot,
                           .position = position,
                           .token = task->tokens.ids[position - task->first],
                           .wants_logits = (task->wants_all && position >= task->wants_from) ||
                                           count_left(task) == 0};
    }
}

static void add_decoding(ps_sched *s)
{
    const int n_slots = s->params.limits.n_slots, in_flight = s->params.in_flight;
    int share = (s->n_running + in_flight - 1) / in_flight;
    for (int i = 0; i < n_slots && share > 0; i++) {
        const int slot = (s->turn + i) % n_slots;
        ps_task *task = s->tasks[slot];
        if (!task || !is_decoding(task)) continue;
        add_rows(s, task, 1);
        if (task->partner) add_rows(s, task->partner, 1);
        share -= task->partner ? 2 : 1;
        if (share <= 0) s->turn = (slot + 1) % n_slots;
    }
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Rows of a pair, at most `budget`: all that are left, or none of the last ones. Returns how many. */
static int64_t add_pair(ps_sched *s, ps_task *lead, int64_t budget)
{
    ps_task *partner = lead->partner;
    if (waits_for_lead(partner)) {
        const int64_t n = smaller(partner->first - lead->n_submitted, budget);
        add_rows(s, lead, n);
        return n;
    }
    const int64_t lead_left = count_left(lead), partner_left = count_left(partner);
    const bool last = lead_left + partner_left <= budget;
    const int64_t n_lead = last ? lead_left : smaller(lead_left - 1, budget);
    const int64_t n_partner = last ? partner_left : smaller(partner_left - 1, budget - n_lead);
    add_rows(s, lead, n_lead);
    add_rows(s, partner, n_partner);
    return n_lead + n_partner;
}

/* The task has rows that go in chunks. */
static bool is_prompt(const ps_task *task)
{
    if (!task || task->held || task->lead || is_decoding(task)) return false;
    return count_left(task) > 0;
}

/* Chunks are cut by what parcels take: --chunk says nothing, and there are stages to keep busy. */
static bool chooses_chunks(const ps_sched *s)
{
    return s->params.limits.chunk_least > 0 && s->params.in_flight > 1;
}

/* Rows of prompts for the next parcel. Where others wait for a slot the stages will have work
 * anyway; else all prompts that are being read are cut as if they were one. */
static int choose_chunk(const ps_sched *s)
{
    const ps_limits *l = &s->params.limits;
    if (!chooses_chunks(s) || s->n_waiting > 0) return l->chunk_rows;
    double cost = 0.0;
    const ps_task *next = NULL;
    for (int i = 0; i < l->n_slots; i++) {
        const ps_task *task = s->tasks[(s->prompt_turn + i) % l->n_slots];
        if (!is_prompt(task)) continue;
        if (!next) next = task;
        cost += ps_chunks_cost(l->chunk_growth, task->first, (int64_t)task->tokens.n);
        const ps_task *partner = task->partner;
        if (partner)
            cost += ps_chunks_cost(l->chunk_growth, partner->first, (int64_t)partner->tokens.n);
    }
    if (!next) return l->chunk_rows;
    const double overhead = ps_chunks_overhead(&s->times);
    return ps_chunks_rows(l->chunk_growth, overhead > 0.0 ? overhead : l->chunk_overhead, cost,
                          s->params.in_flight, next->n_submitted, l->chunk_least, l->chunk_rows);
}

static void note_times(ps_sched *s, const ps_finished *done)
{
    if (!chooses_chunks(s) || done->n_rows == 0 || done->slowest_ns == 0) return;
    double cost = 0.0;
    for (int r = 0; r < done->n_rows; r++) {
        cost += ps_chunks_cost(s->params.limits.chunk_growth, done->rows[r].position, 1);
    }
    ps_chunks_saw(&s->times, cost, (double)done->slowest_ns);
}

static void add_prompts(ps_sched *s)
{
    const int n_slots = s->params.limits.n_slots, first = s->prompt_turn;
    int64_t budget = choose_chunk(s);
    for (int i = 0; i < n_slots && budget > 0; i++) {
        const int slot = (first + i) % n_slots;
        ps_task *task = s->tasks[slot];
        if (!is_prompt(task)) continue;
        if (task->partner) {
            budget -= add_pair(s, task, budget);
        } else {
            const int64_t n = smaller(count_left(task), budget);
            add_rows(s, task, n);
            budget -= n;
        }
        // A prompt that was begun goes on first next time; a finished one passes the turn on.
        s->prompt_turn = count_left(task) > 0 ? slot : (slot + 1) % n_slots;
    }
}

static ps_err submit(ps_sched *s)
{
    admit(s);
    begin_partners(s);
    s->n_rows = 0;
    add_decoding(s);
    add_prompts(s);
    if (s->n_rows == 0) return PS_OK;
    const ps_batch batch = {
        .actions = s->actions, .n_actions = s->n_actions, .rows = s->rows, .n_rows = s->n_rows};
    uint64_t sequence;
    s->n_actions = 0;
    return ps_pipeline_submit(s->params.pipeline, &batch, &sequence);
}

/* Rows of a finished parcel that go through the head together. */
typedef struct group {
    const ps_parcel_row *rows[PS_HEAD_ROWS];
    ps_logits_wanted wanted[PS_HEAD_ROWS];
    int n;
} group;

/* The next rows from *at on whose logits were wanted; a pair is not divided. */
static void next_group(const ps_sched *s, const ps_finished *done, int *at, group *g)
{
    g->n = 0;
    int r = *at, before_last = r;
    for (; r < done->n_rows && g->n < PS_HEAD_ROWS; r++) {
        if (!done->rows[r].wants_logits) continue;
        before_last = r;
        const ps_task *task = s->tasks[done->rows[r].slot];
        assert(task && "a task is finished only when none of its rows is under way");
        g->wanted[g->n] = task->wanted;
        g->rows[g->n++] = &done->rows[r];
    }
    const ps_task *last = g->n > 0 ? s->tasks[g->rows[g->n - 1]->slot] : NULL;
    if (last && last->partner) {
        r = before_last;
        g->n--;
    }
    *at = r;
}

/* Rows of a finished parcel whose logits were wanted, in their order. */
static ps_err hand_out(ps_sched *s, const ps_finished *done)
{
    const size_t stride = ps_stage_logits_stride(s->params.spec);
    group g;
    for (int at = 0, first = 0; first < done->n_wanted; first += g.n) {
        const float *logits;
        next_group(s, done, &at, &g);
        PS_TRY(ps_pipeline_logits(s->params.pipeline, first, g.n, g.wanted, &logits));
        for (int i = 0; i < g.n; i++) {
            ps_task *task = s->tasks[g.rows[i]->slot];
            const float *row = logits + (size_t)i * stride;
            const int64_t position = g.rows[i]->position;
            i += task->partner != NULL;
            PS_TRY(s->params.on_row(s->params.arg, s, task, position, row));
        }
    }
    return PS_OK;
}

ps_err ps_sched_step(ps_sched *s)
{
    ps_pipeline *pipeline = s->params.pipeline;
    bool can_submit = ps_pipeline_can_submit(pipeline), is_idle = false;
    if (can_submit) {
        const int before = ps_pipeline_in_flight(pipeline);
        PS_TRY(submit(s));
        is_idle = ps_pipeline_in_flight(pipeline) == before;
        // Fill the ring before waiting for anything.
        if (!is_idle && ps_pipeline_can_submit(pipeline)) return PS_OK;
    }
    if (ps_pipeline_in_flight(pipeline) == 0) return PS_OK;
    if (!is_idle) PS_TRY(ps_pipeline_wait(pipeline, &can_submit));
    if (!is_idle && can_submit) return PS_OK;
    ps_finished done;
    PS_TRY(ps_pipeline_collect(pipeline, &done));
    note_times(s, &done);
    const ps_err err = hand_out(s, &done);
    ps_pipeline_release(pipeline);
    return err;
}
