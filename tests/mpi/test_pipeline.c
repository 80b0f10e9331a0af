/* The pipeline against one process that runs the whole model: the same bits, whatever is under way,
 * forked and ended; and errors that end all ranks. */
#include "pipe/pipeline.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "model/h5.h"
#include "support/dice.h"
#include "support/h5_raw.h"
#include "support/ranks.h"
#include "support/scratch.h"
#include "support/stage_runner.h"

enum { ROWS = 24, SLOTS = 5, CONTEXT = 120, STEPS = 220, VOCABULARY = 61 };

static const ps_limits limits = {
    .rows_max = ROWS, .chunk_rows = ROWS, .n_slots = SLOTS, .context = CONTEXT};

static tiny_model model_of(tiny_family family)
{
    tiny_model m = tiny_model_default(family);
    m.vocabulary = VOCABULARY;
    return m;
}

/* A batch, kept until it has come round, with the logits that are to come of it. */
typedef struct batch {
    ps_parcel_action actions[2 * SLOTS];
    ps_batch_row rows[ROWS];
    int n_actions, n_rows, n_wanted;
    float wanted[ROWS][VOCABULARY];
} batch;

/* Rank 0's game: random batches through the pipeline and through a process of its own. */
typedef struct game {
    ranks_pipeline p;
    stage_runner whole;
    dice d;
    int64_t length[SLOTS]; // positions that a slot holds; 0: free
    bool acted[SLOTS];     // in this batch
    batch batches[16];     // ring of those under way
    uint64_t submitted, collected;
} game;

static void add_action(game *g, batch *b, ps_action_kind kind, int slot, int from)
{
    b->actions[b->n_actions++] =
        (ps_parcel_action){.kind = (int32_t)kind, .slot = slot, .argument = from};
    g->acted[slot] = true;
    if (kind == PS_ACTION_END) {
        stage_runner_end(&g->whole, slot);
        g->length[slot] = 0;
    } else {
        stage_runner_fork(&g->whole, from, slot);
        g->length[slot] = g->length[from];
    }
}

static void throw_actions(game *g, batch *b)
{
    memset(g->acted, 0, sizeof g->acted);
    for (int slot = 0; slot < SLOTS; slot++) {
        const int from = dice_throw(&g->d, SLOTS);
        if (g->length[slot] > 0 && (dice_throw(&g->d, 8) == 0 || g->length[slot] > CONTEXT - ROWS))
            add_action(g, b, PS_ACTION_END, slot, 0);
        else if (g->length[slot] == 0 && g->length[from] > 0 && dice_throw(&g->d, 3) == 0)
            add_action(g, b, PS_ACTION_FORK, slot, from);
    }
}

static void throw_rows(game *g, batch *b)
{
    int slots[ROWS];
    int32_t tokens[ROWS];
    int64_t positions[ROWS];
    for (int slot = 0; slot < SLOTS; slot++) {
        int n = dice_throw(&g->d, 3) == 0 ? dice_throw(&g->d, ROWS) : dice_throw(&g->d, 3);
        for (; n > 0 && b->n_rows < ROWS && g->length[slot] < CONTEXT; n--) {
            const int r = b->n_rows++;
            tokens[r] = dice_throw(&g->d, VOCABULARY);
            slots[r] = slot;
            positions[r] = g->length[slot]++;
            b->rows[r] = (ps_batch_row){.slot = slot,
                                        .position = positions[r],
                                        .token = tokens[r],
                                        .wants_logits = dice_throw(&g->d, 2) == 0};
        }
    }
    if (b->n_rows == 0) return;
    float *logits = ps_mem_new(ROWS * VOCABULARY, sizeof *logits);
    stage_runner_rows(&g->whole, &(ps_rows){.n = b->n_rows, .slot = slots, .position = positions},
                      tokens, logits);
    for (int r = 0; r < b->n_rows; r++) {
        if (!b->rows[r].wants_logits) continue;
        memcpy(b->wanted[b->n_wanted++], logits + (size_t)r * VOCABULARY, sizeof b->wanted[0]);
    }
    ps_mem_free(logits);
}

static void submit(game *g)
{
    batch *b = &g->batches[g->submitted % 16];
    *b = (batch){0};
    throw_actions(g, b);
    throw_rows(g, b);
    uint64_t sequence;
    assert_ok(ps_pipeline_submit(
        g->p.pipeline, &(ps_batch){b->actions, b->n_actions, b->rows, b->n_rows}, &sequence));
    ck_assert_uint_eq(sequence, g->submitted++);
}

/* Logits are asked for in pieces of any size, and again. */
static void check_logits(game *g, const batch *b, int first, int n)
{
    const float *logits;
    assert_ok(ps_pipeline_logits(g->p.pipeline, first, n, NULL, &logits));
    for (int i = 0; i < n; i++) {
        ck_assert_msg(memcmp(logits + (size_t)i * ps_stage_logits_stride(&g->p.ckpt.spec),
                             b->wanted[first + i], sizeof b->wanted[0]) == 0,
                      "batch %d: the logits of wanted row %d differ", (int)g->collected, first + i);
    }
}

static void collect(game *g)
{
    const batch *b = &g->batches[g->collected % 16];
    ps_finished done;
    assert_ok(ps_pipeline_collect(g->p.pipeline, &done));
    ck_assert_uint_eq(done.sequence, g->collected);
    ck_assert_int_eq(done.n_rows, b->n_rows);
    ck_assert_int_eq(done.n_wanted, b->n_wanted);
    for (int r = 0; r < b->n_rows; r++) {
        ck_assert_int_eq(done.rows[r].slot, b->rows[r].slot);
        ck_assert_int_eq(done.rows[r].position, b->rows[r].position);
        ck_assert_int_eq(done.rows[r].wants_logits, b->rows[r].wants_logits);
    }
    for (int first = 0; first < b->n_wanted;) {
        const int most = b->n_wanted - first < PS_HEAD_ROWS ? b->n_wanted - first : PS_HEAD_ROWS;
        const int n = 1 + dice_throw(&g->d, most);
        check_logits(g, b, first, n);
        first += n;
    }
    if (b->n_wanted > 0) check_logits(g, b, 0, 1);
    ps_pipeline_release(g->p.pipeline);
    g->collected++;
}

static void check_reports(const game *g, const ps_stage_report *reports)
{
    int layer = 0;
    for (int r = 0; r < ranks_size(); r++) {
        ck_assert_int_eq(reports[r].rank, r);
        ck_assert_int_eq(reports[r].first_layer, layer);
        ck_assert_int_eq(reports[r].n_threads, 1);
        ck_assert_uint_eq(reports[r].parcels, g->submitted);
        ck_assert_uint_eq(reports[r].rows, reports[0].rows);
        ck_assert_uint_gt(reports[r].sent_bytes, g->submitted * sizeof(ps_parcel_head));
        ck_assert_int_ge(reports[r].wall_ns, reports[r].busy_ns / 2);
        ck_assert_str_eq(reports[r].host, ps_comm_host(ranks_comm(), r));
        ck_assert_str_eq(reports[r].isa, reports[0].isa);
        layer = reports[r].end_layer;
    }
    ck_assert_int_eq(layer, g->p.ckpt.spec.n_layers);
}

static void play(game *g, int in_flight, uint64_t seed)
{
    char *path = ranks_path("model.h5");
    assert_ok(stage_runner_open(
        &(stage_runner_params){.path = path, .limits = limits, .verify = PS_VERIFY_NEVER},
        &g->whole));
    ps_mem_free(path);
    g->d = (dice){.seed = seed};
    while (g->collected < STEPS) {
        while (g->submitted < STEPS && ps_pipeline_can_submit(g->p.pipeline)) {
            submit(g);
            ck_assert_int_le(ps_pipeline_in_flight(g->p.pipeline), in_flight);
        }
        ck_assert_int_eq(ps_pipeline_in_flight(g->p.pipeline), (int)(g->submitted - g->collected));
        collect(g);
    }
    ps_stage_report *reports = ps_mem_new((size_t)ranks_size(), sizeof *reports);
    assert_ok(ps_pipeline_stop(g->p.pipeline, reports));
    check_reports(g, reports);
    ps_mem_free(reports);
    stage_runner_close(&g->whole);
}

static void play_on_all(tiny_family family, int in_flight)
{
    const tiny_model m = model_of(family);
    game *g = ps_mem_new(1, sizeof *g);
    assert_ok(ranks_pipeline_open(
        &(ranks_pipeline_params){.model = &m, .limits = limits, .in_flight = in_flight}, &g->p));
    const int most = g->p.plan.in_flight;
    ck_assert_int_eq(most, in_flight > 0 ? in_flight : ranks_size());
    if (ranks_rank() == 0) play(g, most, (uint64_t)family * 100 + (uint64_t)in_flight);
    assert_ok(ps_pipeline_serve(g->p.pipeline));
    ranks_meet();
    ranks_pipeline_close(&g->p);
    ps_mem_free(g);
    ranks_meet();
}

START_TEST(random_batches_give_the_bits_of_one_process)
{
    play_on_all(TINY_LLAMA, 0);
    play_on_all(TINY_RELPOS_LLAMA, 0);
}
END_TEST

START_TEST(so_they_do_one_at_a_time)
{
    play_on_all(TINY_QWEN3, 1);
}
END_TEST

START_TEST(so_they_do_with_every_credit_in_flight)
{
    play_on_all(TINY_MISTRAL, 3 * ranks_size() - 1);
}
END_TEST

START_TEST(a_pipeline_that_does_nothing_stops)
{
    const tiny_model m = model_of(TINY_LLAMA);
    ranks_pipeline p;
    ps_stage_report reports[8];
    assert_ok(ranks_pipeline_open(&(ranks_pipeline_params){.model = &m, .limits = limits}, &p));
    if (ranks_rank() == 0) {
        assert_ok(ps_pipeline_poll(p.pipeline));
        assert_ok(ps_pipeline_stop(p.pipeline, reports));
        ck_assert_uint_eq(reports[ranks_size() - 1].parcels, 0);
        ck_assert_int_eq(reports[ranks_size() - 1].wall_ns, 0);
    }
    assert_ok(ps_pipeline_serve(p.pipeline));
    ranks_meet();
    ranks_pipeline_close(&p);
    ranks_meet();
}
END_TEST

/* Whichever rank cannot open its part: none gets a pipeline, and all say the same. */
START_TEST(a_rank_that_cannot_open_its_part_ends_all)
{
    const tiny_model m = model_of(TINY_LLAMA);
    for (int bad = 0; bad < ranks_size(); bad++) {
        ranks_pipeline p;
        ps_text wanted = {0};
        if (bad > 0)
            ps_text_appendf(&wanted, "rank %d (%s): ", bad, ps_comm_host(ranks_comm(), bad));
        ps_text_append_str(&wanted, "none.h5: cannot open: No such file or directory");
        const ranks_pipeline_params params = {
            .model = &m, .limits = limits, .path = ranks_rank() == bad ? "none.h5" : NULL};
        ck_assert_int_eq(ranks_pipeline_open(&params, &p), PS_ERR_IO);
        assert_message(ps_text_str(&wanted));
        ck_assert_ptr_null(p.pipeline);
        ranks_pipeline_close(&p);
        ps_text_release(&wanted);
        ranks_meet();
    }
}
END_TEST

/* Appends a byte to the model file while all have it open. */
START_TEST(a_model_that_was_written_to_is_an_error_at_the_end)
{
    const tiny_model m = model_of(TINY_LLAMA);
    ranks_pipeline p;
    ps_stage_report reports[8];
    assert_ok(ranks_pipeline_open(&(ranks_pipeline_params){.model = &m, .limits = limits}, &p));
    if (ranks_rank() == 0) {
        FILE *f = fopen(p.ckpt.path, "a");
        ck_assert_int_eq(fputc('x', f), 'x');
        ck_assert_int_eq(fclose(f), 0);
    }
    ranks_meet();
    const ps_err err =
        ranks_rank() == 0 ? ps_pipeline_stop(p.pipeline, reports) : ps_pipeline_serve(p.pipeline);
    ck_assert_int_eq(err, PS_ERR_IO);
    assert_mentions("model.h5: was written to while it was in use");
    ranks_meet();
    ranks_pipeline_close(&p);
    ranks_meet();
}
END_TEST

/* ---- slots in files ---- */

/* n rows of a slot from `first` on in parcels of up to 20; the logits of the last into
 * out[VOCABULARY]. */
static void feed(ps_pipeline *p, int slot, int64_t first, const int32_t *tokens, int n, float *out)
{
    for (int done = 0; done < n;) {
        ps_batch_row rows[ROWS];
        const int some = n - done < 20 ? n - done : 20;
        for (int r = 0; r < some; r++) {
            rows[r] = (ps_batch_row){.slot = slot,
                                     .position = first + done + r,
                                     .token = tokens[done + r],
                                     .wants_logits = done + r == n - 1};
        }
        uint64_t sequence;
        ps_finished finished;
        const float *logits;
        ck_assert(ps_pipeline_can_submit(p));
        assert_ok(ps_pipeline_submit(p, &(ps_batch){NULL, 0, rows, some}, &sequence));
        assert_ok(ps_pipeline_collect(p, &finished));
        if (finished.n_wanted > 0) {
            assert_ok(ps_pipeline_logits(p, 0, 1, NULL, &logits));
            memcpy(out, logits, VOCABULARY * sizeof *out);
        }
        ps_pipeline_release(p);
        done += some;
    }
}

static void save_slot(ps_pipeline *p, int slot, int64_t position, const char *path)
{
    ps_h5_writer *w;
    assert_ok(ps_h5_create(path, &w));
    assert_ok(ps_h5_hand_over(w));
    assert_ok(ps_pipeline_save(p, slot, position, ps_h5_temporary(w)));
    assert_ok(ps_h5_commit(w));
}

/* One slot goes on, another goes on from what was saved of it: the same bits, at 20 places. */
static void save_and_load(ps_pipeline *p, const char *path)
{
    dice d = {.seed = 12};
    for (int turn = 0; turn < 20; turn++) {
        int32_t tokens[CONTEXT];
        float one[VOCABULARY], other[VOCABULARY];
        for (int i = 0; i < CONTEXT; i++) {
            tokens[i] = dice_throw(&d, VOCABULARY);
        }
        const int position = 1 + dice_throw(&d, CONTEXT - 2);
        const int more = 1 + dice_throw(&d, CONTEXT - position - 1);
        feed(p, 0, 0, tokens, position, one);
        save_slot(p, 0, position, path);
        feed(p, 0, position, tokens + position, more, one);
        assert_ok(ps_pipeline_load(p, 3, position, 0, path));
        feed(p, 3, position, tokens + position, more, other);
        ck_assert_msg(memcmp(one, other, sizeof one) == 0, "saved at %d: differs %d later",
                      position, more);
        const ps_parcel_action ends[2] = {{.kind = PS_ACTION_END, .slot = 0},
                                          {.kind = PS_ACTION_END, .slot = 3}};
        uint64_t sequence;
        ps_finished finished;
        ck_assert(ps_pipeline_can_submit(p));
        assert_ok(ps_pipeline_submit(p, &(ps_batch){ends, 2, NULL, 0}, &sequence));
        assert_ok(ps_pipeline_collect(p, &finished));
        ps_pipeline_release(p);
    }
}

START_TEST(a_slot_goes_on_from_a_file)
{
    ps_stage_report reports[8];
    for (int family = 0; family < TINY_FAMILY_COUNT; family++) {
        tiny_model m = model_of((tiny_family)family);
        ranks_pipeline p;
        assert_ok(ranks_pipeline_open(
            &(ranks_pipeline_params){.model = &m, .limits = limits, .in_flight = 1}, &p));
        char *path = ranks_path("state.h5");
        if (ranks_rank() == 0) {
            save_and_load(p.pipeline, path);
            assert_ok(ps_pipeline_stop(p.pipeline, reports));
        }
        ps_mem_free(path);
        assert_ok(ps_pipeline_serve(p.pipeline));
        ranks_meet();
        ranks_pipeline_close(&p);
        ranks_meet();
    }
}
END_TEST

/* A file that holds the first stage's layers only: the next rank says what is missing, and the
 * pipeline still stops in order. */
START_TEST(the_rank_that_cannot_load_its_layers_is_named)
{
    const tiny_model m = model_of(TINY_LLAMA);
    ranks_pipeline p;
    ps_stage_report reports[8];
    assert_ok(ranks_pipeline_open(
        &(ranks_pipeline_params){.model = &m, .limits = limits, .in_flight = 1}, &p));
    char *path = ranks_path("state.h5");
    if (ranks_rank() == 0) {
        const int32_t tokens[3] = {1, 2, 3};
        float logits[VOCABULARY];
        feed(p.pipeline, 0, 0, tokens, 3, logits);
        save_slot(p.pipeline, 0, 3, path);
        const int last = p.plan.stages[ranks_size() - 1].part.first_layer;
        char name[32], wanted[160];
        snprintf(name, sizeof name, "/layers/%03d", last);
        h5_raw_delete(path, name);
        snprintf(wanted, sizeof wanted, "state.h5: %s/cache is missing", name);
        ck_assert_int_eq(ps_pipeline_load(p.pipeline, 1, 3, 0, path), PS_ERR_FORMAT);
        assert_mentions(wanted);
        if (ranks_size() > 1) {
            snprintf(wanted, sizeof wanted, "rank %d (%s): ", ranks_size() - 1,
                     ps_comm_host(ranks_comm(), ranks_size() - 1));
            assert_mentions(wanted);
        }
        ck_assert_int_eq(ps_pipeline_save(p.pipeline, 0, 3, "none/state.h5"), PS_ERR_IO);
        assert_message("none/state.h5: cannot open: No such file or directory");
        char longest[PS_PARCEL_PATH_BYTES + 1];
        memset(longest, 'x', sizeof longest);
        longest[PS_PARCEL_PATH_BYTES] = '\0';
        ck_assert_int_eq(ps_pipeline_save(p.pipeline, 0, 3, longest), PS_ERR_LIMIT);
        assert_ok(ps_pipeline_stop(p.pipeline, reports));
    }
    ps_mem_free(path);
    assert_ok(ps_pipeline_serve(p.pipeline));
    ranks_meet();
    ranks_pipeline_close(&p);
    ranks_meet();
}
END_TEST

int main(void)
{
    ranks_open(20.0);
    Suite *suite = suite_create("pipe/pipeline");
    TCase *tcase = ranks_case(suite, "pipeline");
    tcase_add_test(tcase, random_batches_give_the_bits_of_one_process);
    tcase_add_test(tcase, so_they_do_one_at_a_time);
    tcase_add_test(tcase, so_they_do_with_every_credit_in_flight);
    tcase_add_test(tcase, a_pipeline_that_does_nothing_stops);
    tcase_add_test(tcase, a_rank_that_cannot_open_its_part_ends_all);
    tcase_add_test(tcase, a_model_that_was_written_to_is_an_error_at_the_end);
    tcase_add_test(tcase, a_slot_goes_on_from_a_file);
    tcase_add_test(tcase, the_rank_that_cannot_load_its_layers_is_named);
    return ranks_run(suite);
}
