/* The forward pass of tiny models: right (against plain loops in double precision), and the same to
 * the last bit however it is cut up. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "math/explain.h"
#include "math/isa.h"
#include "support/dice.h"
#include "support/naive_model.h"
#include "support/scratch.h"
#include "support/stage_runner.h"

enum { LONG = 300 }; // past one segment of 256 keys, and twice round the smaller rings

/* Of the largest logit. Measured over 800 random models: 4e-5 at most, but for one that is two wide
 * and whose norms lose digits (2.3e-4, seed 510). The bits are the same on every machine, so what
 * passes once passes always. */
#define TOLERANCE 6e-5

static int32_t *random_tokens(const tiny_model *m, int n, uint64_t seed)
{
    dice d = {.seed = seed};
    int32_t *tokens = ps_mem_new((size_t)n, sizeof *tokens);
    for (int i = 0; i < n; i++) {
        tokens[i] = dice_throw(&d, m->vocabulary);
    }
    return tokens;
}

static float *new_logits(const tiny_model *m, int n)
{
    return ps_mem_new((size_t)n * (size_t)m->vocabulary, sizeof(float));
}

/* Logits of a sequence in one slot of a fresh runner; owned by the caller. */
static float *run_alone(const stage_runner_params *params, const tiny_model *m,
                        const int32_t *tokens, int n, int chunk)
{
    stage_runner r;
    assert_ok(stage_runner_open(params, &r));
    float *logits = new_logits(m, n);
    stage_runner_run(&r, 0, 0, tokens, n, chunk, logits);
    stage_runner_close(&r);
    return logits;
}

static void assert_same(const tiny_model *m, const float *found, const float *wanted, int n,
                        const char *what, int number)
{
    for (int i = 0; i < n; i++) {
        const size_t at = (size_t)i * (size_t)m->vocabulary;
        ck_assert_msg(memcmp(found + at, wanted + at, (size_t)m->vocabulary * sizeof *found) == 0,
                      "%s %d: the logits of position %d differ", what, number, i);
    }
}

/* Largest difference in units of the largest logit. NaN and infinities count as 1e30. */
static double distance(const tiny_model *m, const float *found, const double *wanted, int n)
{
    double difference = 0.0, largest = 0.0;
    for (size_t i = 0; i < (size_t)n * (size_t)m->vocabulary; i++) {
        if (!isfinite(found[i])) return 1e30;
        difference = fmax(difference, fabs((double)found[i] - wanted[i]));
        largest = fmax(largest, fabs(wanted[i]));
    }
    return difference / largest;
}

static void compare_with_naive(const tiny_model *m, int n, int chunk)
{
    assert_ok(tiny_model_convert(m, "m.h5"));
    int32_t *tokens = random_tokens(m, n, m->seed);
    double *wanted = ps_mem_new((size_t)n * (size_t)m->vocabulary, sizeof *wanted);
    naive_model_forward(m, tokens, n, wanted);
    float *found = run_alone(&(stage_runner_params){.path = "m.h5"}, m, tokens, n, chunk);
    const double d = distance(m, found, wanted, n);
    ck_assert_msg(d <= TOLERANCE, "%s, seed %llu: the logits are off by %.2e",
                  tiny_model_family_name(m->family), (unsigned long long)m->seed, d);
    ps_mem_free(found);
    ps_mem_free(wanted);
    ps_mem_free(tokens);
}

START_TEST(logits_of_each_family_are_those_of_the_formulas)
{
    const tiny_model m = tiny_model_default((tiny_family)_i);
    compare_with_naive(&m, LONG, 64);
}
END_TEST

START_TEST(logits_of_each_rope_kind_are_those_of_the_formulas)
{
    tiny_model m = tiny_model_default(TINY_LLAMA);
    m.rope = (ps_rope_kind)_i;
    compare_with_naive(&m, 100, 33);
}
END_TEST

START_TEST(logits_of_random_models_are_those_of_the_formulas)
{
    const tiny_model m = tiny_model_random((uint64_t)_i);
    dice d = {.seed = (uint64_t)_i + 1000};
    compare_with_naive(&m, 1 + dice_throw(&d, 180), 1 + dice_throw(&d, 70));
}
END_TEST

/* Bits of the mask, from the lowest: whether a part ends behind layer 0, 1, ... */
static void set_cuts(stage_runner_params *p, int layers, int mask)
{
    p->n_parts = 1;
    for (int l = 1; l < layers; l++) {
        if (mask >> (l - 1) & 1) p->cuts[p->n_parts++ - 1] = l;
    }
}

START_TEST(a_split_over_any_parts_gives_the_same_bits)
{
    tiny_model m = tiny_model_default((tiny_family)_i);
    m.layers = 4;
    assert_ok(tiny_model_convert(&m, "m.h5"));
    int32_t *tokens = random_tokens(&m, 150, 3);
    stage_runner_params p = {.path = "m.h5"};
    float *whole = run_alone(&p, &m, tokens, 150, 40);
    for (int mask = 1; mask < 8; mask++) {
        set_cuts(&p, 4, mask);
        float *split = run_alone(&p, &m, tokens, 150, 40);
        assert_same(&m, split, whole, 150, "split", mask);
        ps_mem_free(split);
    }
    ps_mem_free(whole);
    ps_mem_free(tokens);
}
END_TEST

START_TEST(parts_without_layers_change_no_bit)
{
    const tiny_model m = tiny_model_default(TINY_QWEN3);
    assert_ok(tiny_model_convert(&m, "m.h5"));
    int32_t *tokens = random_tokens(&m, 50, 3);
    float *whole = run_alone(&(stage_runner_params){.path = "m.h5"}, &m, tokens, 50, 50);
    static const int cuts[3][3] = {{0, 2, 3}, {1, 1, 3}, {0, 0, 0}};
    for (int i = 0; i < 3; i++) {
        stage_runner_params p = {.path = "m.h5", .n_parts = 4};
        memcpy(p.cuts, cuts[i], sizeof cuts[i]);
        float *split = run_alone(&p, &m, tokens, 50, 50);
        assert_same(&m, split, whole, 50, "cuts", i);
        ps_mem_free(split);
    }
    ps_mem_free(whole);
    ps_mem_free(tokens);
}
END_TEST

START_TEST(the_size_of_chunks_changes_no_bit)
{
    static const int chunks[] = {1, 2, 3, 7, 16, 17, 64, 65, 128};
    const tiny_model m = tiny_model_default((tiny_family)_i);
    assert_ok(tiny_model_convert(&m, "m.h5"));
    int32_t *tokens = random_tokens(&m, LONG, 4);
    stage_runner_params p = {.path = "m.h5"};
    float *whole = run_alone(&p, &m, tokens, LONG, LONG);
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        p.limits.chunk_rows = chunks[i]; // the rings are as small as they may be
        float *cut = run_alone(&p, &m, tokens, LONG, chunks[i]);
        assert_same(&m, cut, whole, LONG, "chunks of", chunks[i]);
        ps_mem_free(cut);
    }
    ps_mem_free(whole);
    ps_mem_free(tokens);
}
END_TEST

START_TEST(threads_and_instruction_sets_change_no_bit)
{
    const tiny_model m = tiny_model_random((uint64_t)_i + 500);
    assert_ok(tiny_model_convert(&m, "m.h5"));
    int32_t *tokens = random_tokens(&m, 90, 5);
    stage_runner_params p = {.path = "m.h5", .isa = "portable"};
    float *wanted = run_alone(&p, &m, tokens, 90, 45);
    for (int isa = 0; isa < ps_isa_count(); isa++) {
        if (!ps_isa_supported(isa)) continue;
        for (p.n_threads = 1; p.n_threads <= 3; p.n_threads++) {
            p.isa = ps_isa_name(isa);
            float *found = run_alone(&p, &m, tokens, 90, 45);
            assert_same(&m, found, wanted, 90, p.isa, p.n_threads);
            ps_mem_free(found);
        }
    }
    ps_mem_free(wanted);
    ps_mem_free(tokens);
}
END_TEST

START_TEST(the_format_of_equal_weights_changes_no_bit)
{
    tiny_model m = tiny_model_random((uint64_t)_i);
    m.coarse = true;
    int32_t *tokens = random_tokens(&m, 70, 6);
    float *wanted = NULL;
    for (int dtype = 0; dtype < PS_DTYPE_FLOATS; dtype++) {
        m.dtype = (ps_dtype)dtype;
        assert_ok(tiny_model_convert(&m, "m.h5"));
        float *found = run_alone(&(stage_runner_params){.path = "m.h5"}, &m, tokens, 70, 70);
        if (!wanted) {
            wanted = found;
            continue;
        }
        assert_same(&m, found, wanted, 70, "dtype", dtype);
        ps_mem_free(found);
    }
    ps_mem_free(wanted);
    ps_mem_free(tokens);
}
END_TEST

START_TEST(a_fork_goes_on_as_if_it_had_been_alone)
{
    enum { COMMON = 130, N = 210 };
    const tiny_model m = tiny_model_default((tiny_family)_i);
    const size_t v = (size_t)m.vocabulary;
    assert_ok(tiny_model_convert(&m, "m.h5"));
    const stage_runner_params p = {
        .path = "m.h5", .n_parts = 2, .cuts = {1}, .limits = {.n_slots = 3, .chunk_rows = 64}};
    int32_t *tokens[3] = {random_tokens(&m, N, 7), random_tokens(&m, N, 8),
                          random_tokens(&m, N, 9)};
    stage_runner r;
    assert_ok(stage_runner_open(&p, &r));
    float *found[3], *scratch = new_logits(&m, COMMON);
    for (int s = 0; s < 3; s++) {
        memcpy(tokens[s], tokens[0], COMMON * sizeof *tokens[s]);
        found[s] = new_logits(&m, N);
    }
    stage_runner_run(&r, 0, 0, tokens[0], COMMON, 64, scratch);
    stage_runner_fork(&r, 0, 1);
    stage_runner_fork(&r, 1, 2);
    for (int at = COMMON; at < N; at += 10) {
        for (int s = 2; s >= 0; s--) {
            stage_runner_run(&r, s, at, tokens[s] + at, 10, 10, found[s] + (size_t)at * v);
        }
    }
    stage_runner_close(&r);
    for (int s = 0; s < 3; s++) {
        float *wanted = run_alone(&p, &m, tokens[s], N, 37);
        assert_same(&m, scratch, wanted, COMMON, "common part", s);
        assert_same(&m, found[s] + COMMON * v, wanted + COMMON * v, N - COMMON, "fork", s);
        ps_mem_free(wanted);
        ps_mem_free(found[s]);
        ps_mem_free(tokens[s]);
    }
    ps_mem_free(scratch);
}
END_TEST

/* Sequences of slots that take turns at random: a parcel holds up to 9 rows of each of some slots,
 * in any order of slots; ended slots begin anew with another sequence. */
typedef struct crowd {
    const tiny_model *m;
    stage_runner *r;
    dice d;
    int32_t **tokens; // [CROWD]
    float **logits;   // [CROWD]
    int *done;        // [CROWD]
} crowd;

enum { CROWD = 12, CROWD_LENGTH = 160, TURN = 9 };

static void one_parcel(crowd *c)
{
    enum { ROWS = CROWD * TURN };
    int slot[ROWS], order[CROWD], n = 0;
    int64_t position[ROWS];
    int32_t tokens[ROWS];
    for (int s = 0; s < CROWD; s++) {
        const int other = dice_throw(&c->d, s + 1);
        order[s] = order[other];
        order[other] = s;
    }
    for (int i = 0; i < CROWD; i++) {
        const int s = order[i], left = CROWD_LENGTH - c->done[s];
        int rows = dice_throw(&c->d, TURN + 1);
        rows = rows < left ? rows : left;
        for (int k = 0; k < rows; k++, n++) {
            slot[n] = s;
            position[n] = c->done[s];
            tokens[n] = c->tokens[s][c->done[s]++];
        }
    }
    if (n == 0) return;
    float *logits = new_logits(c->m, n);
    stage_runner_rows(c->r, &(ps_rows){.n = n, .slot = slot, .position = position}, tokens, logits);
    for (int row = 0; row < n; row++) {
        memcpy(c->logits[slot[row]] + (size_t)position[row] * (size_t)c->m->vocabulary,
               logits + (size_t)row * (size_t)c->m->vocabulary,
               (size_t)c->m->vocabulary * sizeof *logits);
    }
    ps_mem_free(logits);
}

static int least_done(const crowd *c)
{
    int least = CROWD_LENGTH;
    for (int s = 0; s < CROWD; s++) {
        least = c->done[s] < least ? c->done[s] : least;
    }
    return least;
}

START_TEST(many_slots_side_by_side_give_each_its_own_bits)
{
    const tiny_model m = tiny_model_default((tiny_family)_i);
    assert_ok(tiny_model_convert(&m, "m.h5"));
    stage_runner_params p = {
        .path = "m.h5",
        .n_parts = 2,
        .cuts = {2},
        .n_threads = 2,
        .limits = {.n_slots = CROWD, .chunk_rows = TURN, .rows_max = CROWD * TURN, .context = 200}};
    stage_runner r;
    assert_ok(stage_runner_open(&p, &r));
    int done[CROWD];
    int32_t *tokens[CROWD];
    float *logits[CROWD];
    crowd c = {&m, &r, {.seed = (uint64_t)_i}, tokens, logits, done};
    for (int round = 0; round < 2; round++) {
        for (int s = 0; s < CROWD; s++) {
            done[s] = 0;
            tokens[s] = random_tokens(&m, CROWD_LENGTH, (uint64_t)(100 * round + s));
            logits[s] = new_logits(&m, CROWD_LENGTH);
        }
        for (int turn = 0; turn < 1000 && least_done(&c) < CROWD_LENGTH; turn++) {
            one_parcel(&c);
        }
        ck_assert_int_eq(least_done(&c), CROWD_LENGTH);
        for (int s = 0; s < CROWD; s++) {
            float *wanted = run_alone(&p, &m, tokens[s], CROWD_LENGTH, TURN);
            assert_same(&m, logits[s], wanted, CROWD_LENGTH, "slot", s);
            ps_mem_free(wanted);
            ps_mem_free(logits[s]);
            ps_mem_free(tokens[s]);
            stage_runner_end(&r, s); // and begins anew
        }
    }
    stage_runner_close(&r);
}
END_TEST

typedef struct sight {
    int layers[16], n, rows;
    bool finite;
} sight;

static void look(void *arg, int layer, const float *x, size_t stride, int rows)
{
    sight *s = arg;
    s->layers[s->n++] = layer;
    s->rows = rows;
    for (int r = 0; r < rows; r++) {
        s->finite = s->finite && isfinite(x[(size_t)r * stride]);
    }
}

START_TEST(an_observer_sees_the_embedding_and_each_block)
{
    const tiny_model m = tiny_model_default(TINY_LLAMA);
    assert_ok(tiny_model_convert(&m, "m.h5"));
    stage_runner r;
    assert_ok(stage_runner_open(&(stage_runner_params){.path = "m.h5"}, &r));
    sight s = {.finite = true};
    ps_stage_observe(r.parts[0], look, &s);
    float *logits = new_logits(&m, 5);
    stage_runner_run(&r, 0, 0, (int32_t[]){5, 4, 3, 2, 1}, 5, 5, logits);
    ck_assert_int_eq(s.n, 4);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(s.layers[i], i - 1);
    }
    ck_assert_int_eq(s.rows, 5);
    ck_assert(s.finite);
    ps_mem_free(logits);
    stage_runner_close(&r);
}
END_TEST

static void look_at_attention(void *arg, const ps_engine *engine, int layer,
                              const ps_attention_job *job)
{
    sight *s = arg;
    s->layers[s->n++] = layer;
    s->rows = job->runs[0].n_rows;
    s->finite = s->finite && job->n_runs == 1 && job->runs[0].sequence == 0;
    ps_explained e;
    assert_ok(ps_explained_open(5, job->shape.head_dim, &e));
    for (int row = 0; row < s->rows; row++) {
        ps_attention_explain(engine, job, &job->runs[0], row, 0, &e);
        float sum = 0.0f;
        for (int64_t j = 0; j < e.n; j++) {
            sum += e.weight[j];
        }
        s->finite = s->finite && e.n == row + 1 && fabsf(sum - 1.0f) < 1e-5f;
    }
    ps_explained_close(&e);
}

START_TEST(an_observer_can_take_each_layers_attention_apart)
{
    const tiny_model m = tiny_model_default(TINY_RELPOS_LLAMA); // windows 7, 70, all
    assert_ok(tiny_model_convert(&m, "m.h5"));
    stage_runner r;
    assert_ok(stage_runner_open(&(stage_runner_params){.path = "m.h5"}, &r));
    sight s = {.finite = true};
    ps_stage_observe_attention(r.parts[0], look_at_attention, &s);
    float *logits = new_logits(&m, 5);
    stage_runner_run(&r, 0, 0, (int32_t[]){5, 4, 3, 2, 1}, 5, 5, logits);
    ck_assert_int_eq(s.n, 3);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(s.layers[i], i);
    }
    ck_assert_int_eq(s.rows, 5);
    ck_assert(s.finite);
    ps_mem_free(logits);
    stage_runner_close(&r);
}
END_TEST

START_TEST(caches_that_overflow_are_refused)
{
    tiny_model m = tiny_model_default(TINY_LLAMA);
    m.context = 0;
    assert_ok(tiny_model_convert(&m, "m.h5"));
    ps_ckpt ckpt;
    ps_stage_size size;
    assert_ok(ps_ckpt_open("m.h5", &ckpt));
    const ps_part part = {0, 3, true};
    const ps_limits limits = {
        .rows_max = 1, .chunk_rows = 1, .n_slots = 7, .context = INT64_C(1) << 48};
    ck_assert_int_eq(
        ps_stage_measure(&ckpt, &part, &limits, PS_GEMM_PANEL, PS_ACTIVATIONS_I16, 1, &size),
        PS_ERR_LIMIT);
    assert_message("caches for 7 slots of 281474976710656 positions overflow");
    ps_ckpt_close(&ckpt);
}
END_TEST

START_TEST(bytes_of_cache_read_are_those_that_the_windows_leave)
{
    const tiny_model m = tiny_model_default(TINY_RELPOS_LLAMA); // windows 7, 70, all
    assert_ok(tiny_model_convert(&m, "m.h5"));
    stage_runner r;
    assert_ok(stage_runner_open(&(stage_runner_params){.path = "m.h5"}, &r));
    int32_t *tokens = random_tokens(&m, 101, 1);
    float *logits = new_logits(&m, 101);
    const size_t position_bytes = 2 * 2 * 12 * sizeof(float);
    stage_runner_run(&r, 0, 0, tokens, 100, 100, logits);
    ck_assert_uint_eq(ps_stage_cache_bytes_read(r.parts[0]), (100 + 100 + 100) * position_bytes);
    stage_runner_run(&r, 0, 100, tokens + 100, 1, 1, logits);
    ck_assert_uint_eq(ps_stage_cache_bytes_read(r.parts[0]), (7 + 70 + 101) * position_bytes);
    ps_mem_free(logits);
    ps_mem_free(tokens);
    stage_runner_close(&r);
}
END_TEST

/* Behind position 101 windows of 7, 70 and all see from 95, 32 and 0 on, whatever the chunks. */
START_TEST(what_windows_leave_behind_is_counted)
{
    const tiny_model m = tiny_model_default(TINY_RELPOS_LLAMA);
    assert_ok(tiny_model_convert(&m, "m.h5"));
    int32_t *tokens = random_tokens(&m, 101, 1);
    float *logits = new_logits(&m, 101);
    for (int chunk = 1; chunk <= 101; chunk += 20) {
        stage_runner r;
        assert_ok(stage_runner_open(&(stage_runner_params){.path = "m.h5"}, &r));
        ck_assert_int_eq(ps_stage_window_layers(r.parts[0]), 2);
        size_t evicted = 0;
        for (int done = 0; done < 101; done += chunk) {
            const int n = done + chunk < 101 ? chunk : 101 - done;
            stage_runner_run(&r, 0, done, tokens + done, n, n, logits);
            evicted += ps_stage_evicted(r.parts[0]);
        }
        ck_assert_uint_eq(evicted, 95 + 32);
        stage_runner_close(&r);
    }
    ps_mem_free(logits);
    ps_mem_free(tokens);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/stage_model");
    TCase *right = scratch_case(suite, "right");
    tcase_add_loop_test(right, logits_of_each_family_are_those_of_the_formulas, 0,
                        TINY_FAMILY_COUNT);
    tcase_add_loop_test(right, logits_of_each_rope_kind_are_those_of_the_formulas, PS_ROPE_DEFAULT,
                        PS_ROPE_LLAMA3 + 1);
    tcase_add_loop_test(right, logits_of_random_models_are_those_of_the_formulas, 0, 25);
    TCase *same = scratch_case(suite, "same bits");
    tcase_add_loop_test(same, a_split_over_any_parts_gives_the_same_bits, 0, TINY_FAMILY_COUNT);
    tcase_add_test(same, parts_without_layers_change_no_bit);
    tcase_add_loop_test(same, the_size_of_chunks_changes_no_bit, 0, TINY_FAMILY_COUNT);
    tcase_add_loop_test(same, threads_and_instruction_sets_change_no_bit, 0, 4);
    tcase_add_loop_test(same, the_format_of_equal_weights_changes_no_bit, 0, 4);
    tcase_add_loop_test(same, a_fork_goes_on_as_if_it_had_been_alone, 0, TINY_FAMILY_COUNT);
    tcase_add_loop_test(same, many_slots_side_by_side_give_each_its_own_bits, 0, TINY_FAMILY_COUNT);
    TCase *rest = scratch_case(suite, "rest");
    tcase_add_test(rest, an_observer_sees_the_embedding_and_each_block);
    tcase_add_test(rest, an_observer_can_take_each_layers_attention_apart);
    tcase_add_test(rest, caches_that_overflow_are_refused);
    tcase_add_test(rest, bytes_of_cache_read_are_those_that_the_windows_leave);
    tcase_add_test(rest, what_windows_leave_behind_is_counted);
    return scratch_run(suite);
}
