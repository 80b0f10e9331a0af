/* The scheduler over a pipeline that keeps books: what goes into each parcel, and that tasks see
 * the logits of their own tokens whatever else is under way. */
#include "serve/sched.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "serve/chunks.h"
#include "support/dice.h"
#include "support/fake_pipeline.h"
#include "support/scratch.h"

enum { VOCABULARY = 23, TASKS_MAX = 64 };

/* A task of these tests: decodes greedily until it has `n_new` tokens more than its prompt, unless
 * it wants all; forks `n_forks` children when its prompt is through. */
typedef struct player {
    ps_task task;
    int32_t history[600]; // all of its tokens, as this test knows them
    int n_history, n_prompt, n_new, n_forks;
    int n_seen; // rows whose logits it saw
    bool done, is_child;
    struct player *children; // [n_forks]
} player;

typedef struct stage {
    ps_spec spec;
    ps_limits limits;
    ps_pipeline *pipeline;
    ps_sched *sched;
    int n_done;
    int finished[TASKS_MAX]; // numbers of players in the order in which they ended
    player players[TASKS_MAX];
    int fail_at; // the on_row of this number fails; -1: none
    int n_rows;
} stage;

static int32_t likeliest(const float *logits)
{
    int best = 0;
    for (int v = 1; v < VOCABULARY; v++) {
        if (logits[v] > logits[best]) best = v;
    }
    return best;
}

static void finish(stage *s, ps_sched *sched, player *p)
{
    ps_sched_finish(sched, &p->task);
    p->done = true;
    if (!p->is_child) s->finished[s->n_done++] = (int)(p - s->players);
}

static void append(player *p, int32_t token)
{
    p->history[p->n_history++] = token;
    ps_task_append(&p->task, token);
}

/* Child c goes on with the c+1-th next token, so that all go different ways. */
static void fork_children(ps_sched *sched, player *p, int32_t token)
{
    for (int c = 0; c < p->n_forks; c++) {
        player *child = &p->children[c];
        *child = (player){.n_history = p->n_history, .n_new = p->n_new, .is_child = true};
        child->n_prompt = p->n_prompt;
        child->task.user = child;
        memcpy(child->history, p->history, sizeof p->history);
        for (int i = 0; i < p->n_history; i++) {
            ps_tokens_append(&child->task.tokens, p->history[i]);
        }
        ps_sched_fork(sched, &p->task, &child->task);
        append(child, (token + c + 1) % VOCABULARY);
    }
}

static ps_err on_row(void *arg, ps_sched *sched, ps_task *task, int64_t position,
                     const float *logits)
{
    stage *s = arg;
    player *p = task->user;
    if (s->n_rows++ == s->fail_at) return PS_FAIL(PS_ERR_CLOSED, "row %d", s->fail_at);
    float wanted[VOCABULARY];
    ck_assert_int_eq(position, task->wants_all ? p->n_seen : p->n_history - 1);
    fake_logits(p->history, (size_t)position + 1, VOCABULARY, wanted);
    ck_assert_mem_eq(logits, wanted, sizeof wanted);
    p->n_seen++;
    if (task->wants_all) {
        if (p->n_seen == p->n_history) finish(s, sched, p);
        return PS_OK;
    }
    if (p->n_history - p->n_prompt == p->n_new) {
        finish(s, sched, p);
        return PS_OK;
    }
    const int32_t token = likeliest(logits);
    if (p->n_seen == 1 && !p->is_child) fork_children(sched, p, token);
    append(p, token);
    return PS_OK;
}

static stage *open_stage(int n_slots, int chunk, int in_flight)
{
    stage *s = ps_mem_new(1, sizeof *s);
    s->spec = fake_spec(VOCABULARY, false);
    s->limits = (ps_limits){
        .rows_max = chunk + n_slots, .chunk_rows = chunk, .n_slots = n_slots, .context = 600};
    s->fail_at = -1;
    s->pipeline = fake_pipeline_new(&s->limits, in_flight, VOCABULARY);
    const ps_sched_params params = {.pipeline = s->pipeline,
                                    .spec = &s->spec,
                                    .limits = s->limits,
                                    .in_flight = in_flight,
                                    .on_row = on_row,
                                    .arg = s};
    s->sched = ps_sched_new(&params);
    return s;
}

static void close_stage(stage *s)
{
    for (int i = 0; i < TASKS_MAX; i++) {
        player *p = &s->players[i];
        for (int c = 0; c < p->n_forks; c++) {
            ps_tokens_release(&p->children[c].task.tokens);
        }
        ps_mem_free(p->children);
        ps_tokens_release(&p->task.tokens);
    }
    ps_sched_free(s->sched);
    fake_pipeline_free(s->pipeline);
    ps_spec_release(&s->spec);
    ps_mem_free(s);
}

/* Player `number`: a prompt of its own, then n_new tokens; -1: logits of all. */
static void add(stage *s, int number, int n_prompt, int n_new, int n_forks)
{
    player *p = &s->players[number];
    dice d = {.seed = (uint64_t)number + 1000};
    *p = (player){.n_prompt = n_prompt, .n_new = n_new, .n_forks = n_forks};
    p->task = (ps_task){.wants_all = n_new < 0, .n_slots = 1 + n_forks, .user = p};
    p->children = ps_mem_new((size_t)n_forks, sizeof *p->children);
    for (int i = 0; i < n_prompt; i++) {
        append(p, dice_throw(&d, VOCABULARY));
    }
    ps_sched_add(s->sched, &p->task);
}

static void run(stage *s)
{
    int steps = 0;
    while (ps_sched_busy(s->sched)) {
        assert_ok(ps_sched_step(s->sched));
        ck_assert_msg(++steps < 100000, "it does not end");
    }
}

static int rows_of(const stage *s, int batch, int slot)
{
    const fake_batch *b = fake_pipeline_batch(s->pipeline, batch);
    int n = 0;
    for (int r = 0; r < b->n_rows; r++) {
        n += b->rows[r].slot == slot;
    }
    return n;
}

START_TEST(a_prompt_goes_in_chunks_and_its_last_row_wants_logits)
{
    stage *s = open_stage(2, 4, 1);
    add(s, 0, 10, 0, 0);
    run(s);
    ck_assert_int_eq(fake_pipeline_count(s->pipeline), 3);
    static const int rows[3] = {4, 4, 2};
    for (int b = 0; b < 3; b++) {
        const fake_batch *batch = fake_pipeline_batch(s->pipeline, b);
        ck_assert_int_eq(batch->n_rows, rows[b]);
        for (int r = 0; r < batch->n_rows; r++) {
            ck_assert_int_eq(batch->rows[r].position, 4 * b + r);
            ck_assert_int_eq(batch->rows[r].wants_logits, 4 * b + r == 9);
        }
    }
    ck_assert_int_eq(s->players[0].n_seen, 1);
    close_stage(s);
}
END_TEST

/* A stage whose scheduler chooses chunks of 4 to 64 rows. */
static stage *open_choosing(int n_slots, int in_flight, double growth)
{
    stage *s = open_stage(n_slots, 64, in_flight);
    s->limits.chunk_least = 4;
    s->limits.chunk_growth = growth;
    const ps_sched_params params = {.pipeline = s->pipeline,
                                    .spec = &s->spec,
                                    .limits = s->limits,
                                    .in_flight = in_flight,
                                    .on_row = on_row,
                                    .arg = s};
    ps_sched_free(s->sched);
    s->sched = ps_sched_new(&params);
    return s;
}

START_TEST(a_prompt_alone_is_cut_so_that_stages_are_busy)
{
    static const struct {
        int n, in_flight, first, n_chunks;
    } cases[] = {{320, 1, 64, 5},  // nothing to fill
                 {320, 2, 24, 14}, // sqrt(2 * 320), in tiles of 12; the last is what is left
                 {320, 3, 12, 27}, // sqrt(2 * 320 / 2)
                 {599, 2, 36, 17}, // sqrt(2 * 599)
                 {10, 2, 4, 3}};   // no smaller than the least
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        stage *s = open_choosing(1, cases[i].in_flight, 0.0);
        add(s, 0, cases[i].n, 0, 0);
        run(s);
        ck_assert_int_eq(fake_pipeline_batch(s->pipeline, 0)->n_rows, cases[i].first);
        ck_assert_int_eq(fake_pipeline_count(s->pipeline), cases[i].n_chunks);
        close_stage(s);
    }
}
END_TEST

START_TEST(where_others_wait_chunks_are_as_large_as_may_be)
{
    stage *s = open_choosing(1, 2, 0.0);
    add(s, 0, 320, 0, 0);
    add(s, 1, 320, 0, 0);
    run(s);
    ck_assert_int_eq(fake_pipeline_batch(s->pipeline, 0)->n_rows, 64);
    ck_assert_int_eq(fake_pipeline_batch(s->pipeline, 5)->n_rows, 24);
    close_stage(s);
}
END_TEST

START_TEST(later_chunks_are_smaller_where_keys_cost)
{
    const double growth = 0.01;
    stage *s = open_choosing(1, 2, growth);
    add(s, 0, 600, 0, 0);
    run(s);
    const int n = fake_pipeline_count(s->pipeline);
    const double share = sqrt(PS_CHUNKS_OVERHEAD * ps_chunks_cost(growth, 0, 600));
    int position = 0, last = 64;
    ck_assert_int_ge(n, 34);
    ck_assert_int_le(n, 40);
    for (int b = 0; b < n; b++) {
        const int rows = fake_pipeline_batch(s->pipeline, b)->n_rows;
        ck_assert_int_le(rows, last);
        // Equal costs, to half a tile; the last is what is left.
        const double half_tile = 0.5 * PS_CHUNKS_TILE * (1.0 + growth * (position + 2 * rows));
        const double cost = ps_chunks_cost(growth, position, rows);
        if (b < n - 1) ck_assert_double_eq_tol(cost, share, half_tile);
        position += rows;
        last = rows;
    }
    close_stage(s);
}
END_TEST

/* A batch costs as much as twelve rows: 300 rows in sqrt(300 / 12) chunks. */
START_TEST(chunks_follow_what_parcels_took)
{
    stage *s = open_choosing(2, 2, 0.0);
    fake_pipeline_set_times(s->pipeline, 12000, 1000);
    add(s, 0, 500, 20, 0);
    run(s);
    const int before = fake_pipeline_count(s->pipeline);
    add(s, 1, 300, 0, 0);
    run(s);
    ck_assert_int_eq(fake_pipeline_batch(s->pipeline, before)->n_rows, 60);
    ck_assert_int_eq(fake_pipeline_count(s->pipeline), before + 5);
    close_stage(s);
}
END_TEST

START_TEST(overhead_is_where_the_line_begins)
{
    ps_chunks_times times = {0};
    for (int i = 0; i < 8; i++) {
        ck_assert_double_eq(ps_chunks_overhead(&times), 0.0); // not known yet
        ps_chunks_saw(&times, 2.0, 4.5);
    }
    ps_chunks_saw(&times, 20.0, 22.5);
    ck_assert_double_eq(ps_chunks_overhead(&times), 0.0);
    ps_chunks_saw(&times, 40.0, 42.5);
    ck_assert_double_eq_tol(ps_chunks_overhead(&times), 2.5, 1e-12);
    // The machine gets slower: the means follow.
    for (int i = 0; i < 200; i++) {
        ps_chunks_saw(&times, 2.0, 5.0);
        ps_chunks_saw(&times, 20.0, 14.0);
    }
    ck_assert_double_eq_tol(ps_chunks_overhead(&times), 8.0, 1e-6);

    ps_plan_times trial = {.rows = 4, .rows_ns = 1e6, .chunk_rows = 32, .chunk_ns = 4.5e6};
    ck_assert_double_eq_tol(ps_chunks_overhead_of(&trial), 4.0, 1e-12);
    trial.chunk_ns = 9e5; // noise
    ck_assert_double_eq(ps_chunks_overhead_of(&trial), 0.0);
    trial.chunk_rows = 0;
    ck_assert_double_eq(ps_chunks_overhead_of(&trial), 0.0);
}
END_TEST

/* Rows and keys of a layer by hand; windows bound what keys cost. */
START_TEST(growth_is_the_cost_of_keys_in_rows)
{
    ps_layer_spec layers[2] = {{.window = 0}, {.window = 64}};
    ps_spec spec = {.n_layers = 2,
                    .layers = layers,
                    .d_model = 100,
                    .n_heads = 4,
                    .n_kv_heads = 2,
                    .head_dim = 10,
                    .d_ff = 200,
                    .gated = true};
    const double row = 2 * ((40 + 2 * 20 + 40) * 100 + 3 * 200 * 100);
    ck_assert_double_eq_tol(ps_chunks_growth(&spec), 2 * 40 / row, 1e-12);
    layers[0].window = 64;
    ck_assert_double_eq(ps_chunks_growth(&spec), 0.0);
    layers[1] = (ps_layer_spec){.mixture = true};
    spec.n_experts_used = 2;
    spec.d_ff_expert = 30;
    const double mixed = row / 2 + (40 + 2 * 20 + 40) * 100 + 3 * 2 * 30 * 100;
    ck_assert_double_eq_tol(ps_chunks_growth(&spec), 2 * 40 / mixed, 1e-12);
}
END_TEST

START_TEST(a_task_that_wants_all_sees_every_row_in_order)
{
    stage *s = open_stage(2, 4, 3);
    add(s, 0, 21, -1, 0);
    run(s);
    ck_assert_int_eq(s->players[0].n_seen, 21);
    // Its chunks do not wait for each other.
    ck_assert_int_eq(fake_pipeline_batch(s->pipeline, 2)->in_flight, 3);
    close_stage(s);
}
END_TEST

START_TEST(short_prompts_share_a_chunk)
{
    stage *s = open_stage(4, 5, 1);
    for (int i = 0; i < 3; i++) {
        add(s, i, 2, 0, 0);
    }
    run(s);
    ck_assert_int_eq(fake_pipeline_count(s->pipeline), 2);
    ck_assert_int_eq(fake_pipeline_batch(s->pipeline, 0)->n_rows, 5);
    ck_assert_int_eq(fake_pipeline_batch(s->pipeline, 1)->n_rows, 1);
    close_stage(s);
}
END_TEST

START_TEST(a_prompt_that_was_begun_goes_on_before_others)
{
    stage *s = open_stage(3, 4, 1);
    for (int i = 0; i < 3; i++) {
        add(s, i, 9, 0, 0);
    }
    run(s);
    ck_assert_int_eq(s->finished[0], 0);
    ck_assert_int_eq(s->finished[1], 1);
    ck_assert_int_eq(s->finished[2], 2);
    ck_assert_int_eq(fake_pipeline_count(s->pipeline), 7); // 27 rows by 4
    close_stage(s);
}
END_TEST

/* Seven that decode, three parcels: each takes its share of those that are ready, and the ring is
 * full from the first moment on. */
START_TEST(decoding_is_dealt_over_the_parcels_in_flight)
{
    stage *s = open_stage(8, 100, 3);
    for (int i = 0; i < 7; i++) {
        add(s, i, 3, 30, 0);
    }
    run(s);
    int full = 0;
    for (int b = 1; b < fake_pipeline_count(s->pipeline); b++) {
        const fake_batch *batch = fake_pipeline_batch(s->pipeline, b);
        ck_assert_int_le(batch->n_rows, 3);
        full += batch->in_flight == 3;
    }
    // 7 * 30 rows of at most 3 each.
    ck_assert_int_ge(fake_pipeline_count(s->pipeline), 71);
    ck_assert_int_le(fake_pipeline_count(s->pipeline), 100);
    ck_assert_int_ge(full, 60);
    close_stage(s);
}
END_TEST

/* Large parcels are on their way out for long. Who waited for the oldest to come round before it made
 * the next would have no more under way than there are buffers. */
START_TEST(the_pipeline_is_filled_as_soon_as_buffers_are_free)
{
    stage *s = open_stage(1, 4, 6);
    fake_pipeline_set_buffers(s->pipeline, 2);
    add(s, 0, 48, 0, 0);
    run(s);
    ck_assert_int_eq(fake_pipeline_count(s->pipeline), 12);
    for (int b = 0; b < 12; b++) {
        ck_assert_int_eq(fake_pipeline_batch(s->pipeline, b)->in_flight, b < 6 ? b + 1 : 6);
    }
    close_stage(s);
}
END_TEST

START_TEST(prompts_ride_along_with_decoding_rows)
{
    stage *s = open_stage(3, 4, 1);
    add(s, 0, 2, 50, 0);
    for (int i = 0; i < 3; i++) {
        assert_ok(ps_sched_step(s->sched));
    }
    add(s, 1, 8, 0, 0);
    const int before = fake_pipeline_count(s->pipeline);
    run(s);
    for (int b = before; b < before + 2; b++) {
        ck_assert_int_eq(rows_of(s, b, 0), 1);
        ck_assert_int_eq(rows_of(s, b, 1), 4);
    }
    close_stage(s);
}
END_TEST

START_TEST(tasks_begin_in_the_order_in_which_they_were_added)
{
    stage *s = open_stage(2, 8, 2);
    for (int i = 0; i < 9; i++) {
        add(s, i, 3, 4, 0);
    }
    ck_assert_int_eq(ps_sched_waiting(s->sched), 9);
    run(s);
    ck_assert_int_eq(ps_sched_waiting(s->sched), 0);
    for (int i = 0; i < 9; i++) {
        ck_assert_int_eq(s->finished[i], i);
    }
    close_stage(s);
}
END_TEST

/* One that needs three slots waits for them; a small one behind it does not take one away. */
START_TEST(a_big_task_is_not_overtaken)
{
    stage *s = open_stage(3, 8, 1);
    add(s, 0, 2, 40, 0);
    add(s, 1, 2, 3, 2);
    add(s, 2, 2, 1, 0);
    run(s);
    ck_assert_int_eq(s->finished[0], 0);
    ck_assert_int_eq(s->finished[1], 1);
    ck_assert_int_eq(s->finished[2], 2);
    close_stage(s);
}
END_TEST

/* Slots promised to forks are not given away before they happen. */
START_TEST(reserved_slots_are_kept_for_the_forks)
{
    stage *s = open_stage(4, 2, 3);
    add(s, 0, 20, 5, 3);
    add(s, 1, 2, 1, 0);
    run(s);
    for (int c = 0; c < 3; c++) {
        ck_assert(s->players[0].children[c].done);
        ck_assert_int_eq(s->players[0].children[c].n_history, 25);
    }
    ck_assert(s->players[1].done);
    close_stage(s);
}
END_TEST

START_TEST(a_slot_is_ended_once_and_used_again)
{
    stage *s = open_stage(1, 8, 1);
    for (int i = 0; i < 3; i++) {
        add(s, i, 2, 2, 0);
    }
    run(s);
    int ends = 0, begins = 0;
    for (int b = 0; b < fake_pipeline_count(s->pipeline); b++) {
        const fake_batch *batch = fake_pipeline_batch(s->pipeline, b);
        for (int i = 0; i < batch->n_actions; i++) {
            ends += batch->actions[i].kind == PS_ACTION_END;
            begins += batch->actions[i].kind == PS_ACTION_BEGIN;
        }
    }
    // The last end waits for a parcel that does not come any more.
    ck_assert_int_eq(ends, 2);
    ck_assert_int_eq(begins, 3);
    close_stage(s);
}
END_TEST

/* Before a sequence's first row its slot hears how long it may become; forks take it over. */
START_TEST(a_slot_begins_with_the_length_of_its_task)
{
    stage *s = open_stage(3, 8, 2);
    add(s, 0, 20, 3, 1);
    s->players[0].task.length = 77; // read when the slot is given
    add(s, 1, 5, 3, 0);
    run(s);
    bool begun[3] = {false};
    int64_t lengths[2];
    int n = 0;
    for (int b = 0; b < fake_pipeline_count(s->pipeline); b++) {
        const fake_batch *batch = fake_pipeline_batch(s->pipeline, b);
        for (int i = 0; i < batch->n_actions; i++) {
            const ps_parcel_action *a = &batch->actions[i];
            begun[a->slot] = a->kind != PS_ACTION_END;
            if (a->kind != PS_ACTION_BEGIN) continue;
            ck_assert_int_lt(n, 2);
            lengths[n++] = a->argument;
        }
        for (int r = 0; r < batch->n_rows; r++) {
            ck_assert(begun[batch->rows[r].slot]);
        }
    }
    ck_assert_int_eq(n, 2);
    ck_assert(lengths[0] == 77 && lengths[1] == 0);
    close_stage(s);
}
END_TEST

/* Any mix of tasks under any limits: the checks of on_row, which knows what each must see, and of
 * the pipeline hold, and all end. */
START_TEST(no_mix_and_no_limits_change_what_a_task_sees)
{
    dice d = {.seed = 8};
    for (int mix = 0; mix < 60; mix++) {
        const int n_slots = 4 + dice_throw(&d, 8), chunk = 1 + dice_throw(&d, 40);
        stage *s = open_stage(n_slots, chunk, 1 + dice_throw(&d, 6));
        const int n = 1 + dice_throw(&d, 30);
        for (int i = 0; i < n; i++) {
            // What a player is depends on its number alone.
            dice own = {.seed = (uint64_t)i};
            const int n_prompt = 1 + dice_throw(&own, 60);
            const int n_new = dice_throw(&own, 4) ? dice_throw(&own, 40) : -1;
            const int n_forks = n_new > 0 ? dice_throw(&own, 4) : 0;
            add(s, i, n_prompt, n_new, n_forks);
            while (dice_throw(&d, 3) == 0 && ps_sched_busy(s->sched)) {
                assert_ok(ps_sched_step(s->sched));
            }
        }
        run(s);
        ck_assert_int_eq(s->n_done, n);
        for (int i = 0; i < n; i++) {
            const player *p = &s->players[i];
            ck_assert(p->done);
            ck_assert_int_eq(p->n_history, p->n_prompt + (p->n_new > 0 ? p->n_new : 0));
            for (int c = 0; c < p->n_forks; c++) {
                ck_assert(p->children[c].done);
            }
        }
        close_stage(s);
    }
}
END_TEST

static ps_err feed_for_ever(void *arg, ps_sched *sched, ps_task *task, int64_t position,
                            const float *logits)
{
    int64_t *left = arg;
    (void)logits;
    ck_assert_int_eq(position + 1, task->first + (int64_t)task->tokens.n);
    if (--*left == 0) {
        ps_sched_finish(sched, task);
    } else {
        ps_task_append(task, (int32_t)(position % VOCABULARY));
    }
    return PS_OK;
}

START_TEST(an_endless_task_forgets_what_was_submitted)
{
    int64_t left = 20000;
    ps_spec spec = fake_spec(VOCABULARY, true);
    const ps_limits limits = {
        .rows_max = 9, .chunk_rows = 8, .n_slots = 1, .context = INT64_C(1) << 48};
    ps_pipeline *pipeline = fake_pipeline_new(&limits, 2, VOCABULARY);
    const ps_sched_params params = {.pipeline = pipeline,
                                    .spec = &spec,
                                    .limits = limits,
                                    .in_flight = 2,
                                    .on_row = feed_for_ever,
                                    .arg = &left};
    ps_sched *sched = ps_sched_new(&params);
    ps_task task = {.n_slots = 1};
    size_t most = 0;
    ps_task_append(&task, 1);
    ps_sched_add(sched, &task);
    // The books of the fake pipeline grow with the square of the length: long enough is enough.
    while (ps_sched_busy(sched) && left > 10000) {
        assert_ok(ps_sched_step(sched));
        if (task.tokens.n > most) most = task.tokens.n;
    }
    ck_assert_int_gt(task.first, 9000 - 4096);
    ck_assert_uint_le(most, 4097);
    ck_assert_uint_le(task.tokens.capacity, 8192);
    ps_tokens_release(&task.tokens);
    ps_sched_free(sched);
    fake_pipeline_free(pipeline);
    ps_spec_release(&spec);
}
END_TEST

/* What feed_for_ever is not: the parent goes on first, and forgets what the child begins with. */
static ps_err append_then_fork(void *arg, ps_sched *sched, ps_task *task, int64_t position,
                               const float *logits)
{
    ps_task *child = arg;
    (void)logits;
    if (child->slot >= 0 || position > 5000) {
        ck_assert_int_eq(position, 5000);
        ps_sched_finish(sched, task);
        return PS_OK;
    }
    ps_task_append(task, 3);
    ck_assert_int_eq(task->first, 5000);
    ps_sched_fork(sched, task, child);
    ps_task_append(child, 4);
    return PS_OK;
}

START_TEST(a_long_sequence_is_forked_behind_its_next_token)
{
    ps_spec spec = fake_spec(VOCABULARY, false);
    const ps_limits limits = {.rows_max = 5002, .chunk_rows = 5000, .n_slots = 2, .context = 6000};
    ps_pipeline *pipeline = fake_pipeline_new(&limits, 1, VOCABULARY);
    ps_task task = {.n_slots = 2}, child = {.slot = -1};
    const ps_sched_params params = {.pipeline = pipeline,
                                    .spec = &spec,
                                    .limits = limits,
                                    .in_flight = 1,
                                    .on_row = append_then_fork,
                                    .arg = &child};
    ps_sched *sched = ps_sched_new(&params);
    for (int i = 0; i < 5000; i++) {
        ps_tokens_append(&task.tokens, i % VOCABULARY);
        ps_tokens_append(&child.tokens, i % VOCABULARY);
    }
    ps_sched_add(sched, &task);
    while (ps_sched_busy(sched)) {
        assert_ok(ps_sched_step(sched));
    }
    ck_assert_int_eq(fake_pipeline_count(pipeline), 2);
    ps_tokens_release(&task.tokens);
    ps_tokens_release(&child.tokens);
    ps_sched_free(sched);
    fake_pipeline_free(pipeline);
    ps_spec_release(&spec);
}
END_TEST

START_TEST(an_error_of_on_row_comes_out_of_the_step)
{
    stage *s = open_stage(2, 8, 2);
    add(s, 0, 3, 10, 0);
    s->fail_at = 4;
    ps_err err = PS_OK;
    for (int i = 0; i < 100 && !err; i++) {
        err = ps_sched_step(s->sched);
    }
    ck_assert_int_eq(err, PS_ERR_CLOSED);
    assert_message("row 4");
    close_stage(s);
}
END_TEST

START_TEST(an_error_of_the_pipeline_comes_out_of_the_step)
{
    stage *s = open_stage(2, 8, 2);
    add(s, 0, 3, 10, 0);
    fake_pipeline_lose(s->pipeline, 3);
    ps_err err = PS_OK;
    for (int i = 0; i < 100 && !err; i++) {
        err = ps_sched_step(s->sched);
    }
    ck_assert_int_eq(err, PS_ERR_LOST);
    assert_message("lost");
    ck_assert_int_eq(s->players[0].n_seen, 3);
    close_stage(s);
}
END_TEST

START_TEST(a_step_without_work_does_nothing)
{
    stage *s = open_stage(2, 8, 2);
    ck_assert(!ps_sched_busy(s->sched));
    assert_ok(ps_sched_step(s->sched));
    ck_assert_int_eq(fake_pipeline_count(s->pipeline), 0);
    close_stage(s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("serve/sched");
    TCase *tcase = tcase_create("sched");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_prompt_goes_in_chunks_and_its_last_row_wants_logits);
    tcase_add_test(tcase, a_prompt_alone_is_cut_so_that_stages_are_busy);
    tcase_add_test(tcase, where_others_wait_chunks_are_as_large_as_may_be);
    tcase_add_test(tcase, later_chunks_are_smaller_where_keys_cost);
    tcase_add_test(tcase, chunks_follow_what_parcels_took);
    tcase_add_test(tcase, overhead_is_where_the_line_begins);
    tcase_add_test(tcase, growth_is_the_cost_of_keys_in_rows);
    tcase_add_test(tcase, a_task_that_wants_all_sees_every_row_in_order);
    tcase_add_test(tcase, short_prompts_share_a_chunk);
    tcase_add_test(tcase, a_prompt_that_was_begun_goes_on_before_others);
    tcase_add_test(tcase, decoding_is_dealt_over_the_parcels_in_flight);
    tcase_add_test(tcase, the_pipeline_is_filled_as_soon_as_buffers_are_free);
    tcase_add_test(tcase, prompts_ride_along_with_decoding_rows);
    tcase_add_test(tcase, tasks_begin_in_the_order_in_which_they_were_added);
    tcase_add_test(tcase, a_big_task_is_not_overtaken);
    tcase_add_test(tcase, reserved_slots_are_kept_for_the_forks);
    tcase_add_test(tcase, a_slot_is_ended_once_and_used_again);
    tcase_add_test(tcase, a_slot_begins_with_the_length_of_its_task);
    tcase_add_test(tcase, no_mix_and_no_limits_change_what_a_task_sees);
    tcase_add_test(tcase, an_endless_task_forgets_what_was_submitted);
    tcase_add_test(tcase, a_long_sequence_is_forked_behind_its_next_token);
    tcase_add_test(tcase, an_error_of_on_row_comes_out_of_the_step);
    tcase_add_test(tcase, an_error_of_the_pipeline_comes_out_of_the_step);
    tcase_add_test(tcase, a_step_without_work_does_nothing);
    suite_add_tcase(suite, tcase);
    return scratch_run(suite);
}
