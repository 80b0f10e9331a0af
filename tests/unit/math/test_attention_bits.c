/* The law of same bits for attention: the result of the order that math/attention.h states,
 * whatever the chunks, the threads, the instruction set, the page table and the rows beside. */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "math/isa.h"
#include "math/kernels.h"
#include "math/panel.h"
#include "support/attention_picks.h"
#include "support/engines.h"
#include "support/floats.h"

enum { CHUNKS = 9 };

static int smaller(int64_t a, int64_t b)
{
    return (int)(a < b ? a : b);
}

static void check_same(const attention_case *c, const float *found, const float *wanted,
                       const attention_way *way, const char *engine)
{
    const size_t n = attention_case_floats(c);
    const size_t at = floats_first_difference(found, wanted, n);
    const size_t row = (size_t)c->shape.n_heads * (size_t)c->shape.head_dim;
    ck_assert_msg(
        at == n,
        "query %zu value %zu is %a, not %a: H %d, G %d, K %d, window %lld, %d keys, first "
        "query %d; chunk %d, ring %d, company %d, %s",
        at / row, at % row, (double)found[at], (double)wanted[at], c->shape.n_heads,
        c->shape.n_kv_heads, c->shape.head_dim, (long long)c->shape.visible.window, c->n,
        c->first_query, way->chunk, way->ring, way->company, engine);
}

/* 1, 7, 24, 64, all at once, and the sizes around the window. */
static int chunk_of(const attention_case *c, int number)
{
    const int64_t w = c->shape.visible.window > 0 ? c->shape.visible.window : 100;
    const int64_t sizes[CHUNKS] = {1, 7, w - 1, w, w + 1, 3 * w, 24, 64, c->n};
    const int size = smaller(sizes[number], c->n);
    return size < 1 ? 1 : size;
}

/* All rows at once on a linear cache, by the best set on one thread. */
static float *at_once(const attention_case *c)
{
    ps_engine engine = engines_open(1);
    const attention_way way = {.chunk = c->n};
    float *out = floats_new_poisoned(attention_case_floats(c));
    attention_case_run(c, &engine, &way, out);
    ps_engine_close(&engine);
    return out;
}

static attention_case roll(int number, dice *d, double work_max)
{
    ps_engine engine = engines_open(1);
    const attention_sizes sizes = attention_picks_sizes(number, d, work_max);
    const attention_case c = attention_case_roll(&sizes, &engine, d);
    ps_engine_close(&engine);
    return c;
}

/* ---- the stated order, one operation after the other ---- */

/* Running result of one query and head. */
typedef struct state {
    float maximum, sum, *out; // [K]
} state;

static float dot(const float *q, const float *k, int n)
{
    float sum = 0.0f;
    for (int start = 0; start < n; start += PS_PANEL_BLOCK) {
        float block = 0.0f;
        for (int t = start; t < smaller(n, start + PS_PANEL_BLOCK); t++) {
            block = fmaf(q[t], k[t], block);
        }
        sum = start == 0 ? block : sum + block;
    }
    return sum;
}

/* Sum over keys by their place in a tile of 16, then over the 16 by halves. */
static float lane_sum(const float *weights, int first, int last)
{
    float lanes[16] = {0};
    for (int j = first; j < last; j++) {
        lanes[j % 16] += weights[j];
    }
    for (int step = 8; step >= 1; step /= 2) {
        for (int l = 0; l < step; l++) {
            lanes[l] += lanes[l + step];
        }
    }
    return lanes[0];
}

/* Keys [first, last) of the segment at `start` into the state. */
static void add_segment(const attention_case *c, const ps_kernels *kernels, int query, int head,
                        int start, int first, int last, state *s)
{
    const int dim = c->shape.head_dim, kv_heads = c->shape.n_kv_heads;
    const int kv_head = head / (c->shape.n_heads / kv_heads);
    const float *q = c->q + (size_t)(query * c->shape.n_heads + head) * (size_t)dim;
    float z[PS_SEGMENT], maximum = -INFINITY;
    for (int j = first; j < last; j++) {
        const float *k = c->k + (size_t)((start + j) * kv_heads + kv_head) * (size_t)dim;
        z[j] = dot(q, k, dim) * c->shape.scale;
        if (c->shape.softcap > 0.0f) kernels->softcap(&z[j], c->shape.softcap, 1);
        if (c->list.n) z[j] += c->list.item[0].slopes[head] * (float)(start + j - query);
        if (z[j] > maximum) maximum = z[j];
    }
    for (int j = first; j < last; j++) {
        z[j] = kernels->exp(z[j] - maximum);
    }
    const float before = s->maximum;
    s->maximum = before > maximum ? before : maximum;
    const float keep = kernels->exp(before - s->maximum);
    const float take = kernels->exp(maximum - s->maximum);
    s->sum = fmaf(lane_sum(z, first, last), take, s->sum * keep);
    for (int t = 0; t < dim; t++) {
        float part = 0.0f;
        for (int j = first; j < last; j++) {
            part = fmaf(z[j],
                        c->v[(size_t)((start + j) * kv_heads + kv_head) * (size_t)dim + (size_t)t],
                        part);
        }
        s->out[t] = fmaf(part, take, s->out[t] * keep);
    }
}

static void attend(const attention_case *c, const ps_kernels *kernels, int query, int head,
                   float *out)
{
    const int window = c->shape.visible.window > 0 ? (int)c->shape.visible.window : query + 1;
    const int first = query + 1 > window ? query + 1 - window : 0;
    state s = {.maximum = -INFINITY, .out = out};
    if (c->sinks) {
        s.maximum = c->sinks[head];
        s.sum = 1.0f;
    }
    for (int start = first / PS_SEGMENT * PS_SEGMENT; start <= query; start += PS_SEGMENT) {
        add_segment(c, kernels, query, head, start, first > start ? first - start : 0,
                    smaller(query + 1 - start, PS_SEGMENT), &s);
    }
    for (int t = 0; t < c->shape.head_dim; t++) {
        out[t] *= 1.0f / s.sum;
    }
}

START_TEST(bits_are_those_of_the_stated_order)
{
    static const int dims[] = {8, 40, 513, 600};
    dice d = {.seed = 300 + (uint64_t)_i};
    ps_engine engine = engines_open(2);
    const attention_sizes sizes = {.n_kv_heads = 1 + _i % 2,
                                   .group = 2,
                                   .head_dim = dims[_i % 4],
                                   .window = _i % 3 ? 200 + dice_throw(&d, 200) : 0,
                                   .n = 640,
                                   .first_query = _i % 4 < 2 ? 590 : 630,
                                   .n_providers = _i % 2,
                                   .kinds = {PROVIDER_ALIBI},
                                   .softcap = _i % 5 == 0 ? 3.0f : 0.0f,
                                   .sinks = _i % 3 == 1};
    attention_case c = attention_case_roll(&sizes, &engine, &d);
    float *wanted = floats_new(attention_case_floats(&c));
    float *found = floats_new(attention_case_floats(&c));
    float *out = wanted;
    for (int query = c.first_query; query < c.n; query++) {
        for (int head = 0; head < c.shape.n_heads; head++) {
            attend(&c, engine.kernels, query, head, out);
            out += c.shape.head_dim;
        }
    }
    const attention_way way = {.chunk = 50, .ring = true};
    attention_case_run(&c, &engine, &way, found);
    check_same(&c, found, wanted, &way, "the best set");
    ps_mem_free(wanted);
    ps_mem_free(found);
    attention_case_release(&c);
    ps_engine_close(&engine);
}
END_TEST

START_TEST(bits_do_not_depend_on_chunks_page_tables_and_company)
{
    dice d = {.seed = 5000 + (uint64_t)_i};
    attention_case c = roll(_i, &d, 5e5);
    float *wanted = at_once(&c), *found = floats_new(attention_case_floats(&c));
    ps_engine engine = engines_open(1);
    for (int number = 0; number < CHUNKS; number++) {
        for (int ring = 0; ring < 2; ring++) {
            const attention_way way = {
                .chunk = chunk_of(&c, number), .ring = ring, .company = (number + ring) % 2};
            floats_poison(found, attention_case_floats(&c));
            attention_case_run(&c, &engine, &way, found);
            check_same(&c, found, wanted, &way, "the best set");
        }
    }
    ps_engine_close(&engine);
    ps_mem_free(wanted);
    ps_mem_free(found);
    attention_case_release(&c);
}
END_TEST

START_TEST(bits_do_not_depend_on_threads_and_instruction_sets)
{
    dice d = {.seed = 9000 + (uint64_t)_i};
    attention_case c = roll(3 * _i, &d, 3e5);
    float *wanted = at_once(&c), *found = floats_new(attention_case_floats(&c));
    engines_all all = engines_open_all();
    for (int e = 0; e < all.n; e++) {
        const attention_way way = {.chunk = chunk_of(&c, (e + _i) % CHUNKS), .ring = (e + _i) % 2};
        floats_poison(found, attention_case_floats(&c));
        attention_case_run(&c, &all.engine[e], &way, found);
        check_same(&c, found, wanted, &way, ps_isa_name(e / ENGINES_THREADS_MAX));
    }
    engines_close_all(&all);
    ps_mem_free(wanted);
    ps_mem_free(found);
    attention_case_release(&c);
}
END_TEST

/* Few key heads and a long past: the threads share the segments of one query. */
START_TEST(bits_do_not_depend_on_threads_that_share_a_far_query)
{
    dice d = {.seed = 11000 + (uint64_t)_i};
    ps_engine one = engines_open(1), several = engines_open(2 + _i % 4);
    const attention_sizes sizes = {.n_kv_heads = 1 + _i % 2,
                                   .group = 1 + _i % 5 * 7,
                                   .head_dim = 24,
                                   .window = _i % 3 ? 0 : 1100,
                                   .n = 1027 + dice_throw(&d, 1500),
                                   .n_kept = _i % 2 * 5,
                                   .kept_at_cache = _i % 6 == 3,
                                   .sinks = _i % 4 == 1,
                                   .n_providers = _i % 3,
                                   .kinds = {PROVIDER_ALIBI, PROVIDER_DOT},
                                   .types = {_i % 5 == 4 ? PS_Q8_0 : PS_F32, PS_F32}};
    attention_sizes last = sizes;
    last.first_query = sizes.n - 1 - _i % 3;
    attention_case c = attention_case_roll(&last, &one, &d);
    float *wanted = floats_new(attention_case_floats(&c));
    float *found = floats_new(attention_case_floats(&c));
    const attention_way way = {.chunk = 1 + _i % 2, .ring = _i % 2};
    attention_case_run(&c, &one, &way, wanted);
    attention_case_run(&c, &several, &way, found);
    check_same(&c, found, wanted, &way, "several threads");
    ps_mem_free(wanted);
    ps_mem_free(found);
    attention_case_release(&c);
    ps_engine_close(&one);
    ps_engine_close(&several);
}
END_TEST

/* Biases that know distances alone: moving a sequence by whole segments changes nothing, however
 * far, where only a ring can follow. */
START_TEST(bits_do_not_change_when_a_stream_is_far_out)
{
    static const provider_kind kinds[] = {PROVIDER_ALIBI, PROVIDER_REL_POS, PROVIDER_TABLE};
    dice d = {.seed = 7000 + (uint64_t)_i};
    attention_sizes sizes = attention_picks_sizes(_i, &d, 3e5);
    if (sizes.window == 0) sizes.window = 200;
    sizes.chunk = sizes.n_kept = 0;
    sizes.kept_at_cache = false;
    sizes.n_providers = _i % 4 ? 1 : 0;
    sizes.kinds[0] = kinds[_i % 3];
    attention_case c;
    ps_engine engine = engines_open(2);
    c = attention_case_roll(&sizes, &engine, &d);
    // Only queries whose whole window exists: the far stream has a past of its own.
    if (c.first_query < c.shape.visible.window - 1) c.first_query = (int)c.shape.visible.window - 1;
    if (c.n <= c.first_query) c.first_query = c.n - 1;
    const bool whole = c.first_query >= c.shape.visible.window - 1;
    float *wanted = at_once(&c), *found = floats_new(attention_case_floats(&c));
    static const int64_t far[] = {PS_SEGMENT, (int64_t)1 << 31, (int64_t)1 << 40,
                                  ((int64_t)1 << 50) + 3 * PS_SEGMENT};
    for (int i = 0; i < 4 && whole; i++) {
        const attention_way way = {.chunk = chunk_of(&c, (_i + i) % CHUNKS), .ring = true};
        c.base = far[i];
        attention_case_run(&c, &engine, &way, found);
        check_same(&c, found, wanted, &way, "far out");
    }
    ps_mem_free(wanted);
    ps_mem_free(found);
    attention_case_release(&c);
    ps_engine_close(&engine);
}
END_TEST

START_TEST(a_window_that_nobody_reaches_changes_no_bit)
{
    dice d = {.seed = 8000 + (uint64_t)_i};
    attention_sizes sizes = attention_picks_sizes(11 * _i, &d, 5e5); // multiples of 11: no window
    ck_assert_int_eq(sizes.window, 0);
    sizes.n_providers = 0;
    ps_engine engine = engines_open(1);
    attention_case c = attention_case_roll(&sizes, &engine, &d);
    float *wanted = at_once(&c), *found = floats_new(attention_case_floats(&c));
    const int64_t windows[3] = {c.n, c.n + 1, (int64_t)1 << 40};
    for (int i = 0; i < 3; i++) {
        const attention_way way = {.chunk = 7 + i * 20};
        c.shape.visible.window = windows[i];
        attention_case_run(&c, &engine, &way, found);
        check_same(&c, found, wanted, &way, "a wide window");
    }
    ps_mem_free(wanted);
    ps_mem_free(found);
    attention_case_release(&c);
    ps_engine_close(&engine);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("bits");
    tcase_set_timeout(tcase, 60.0);
    tcase_add_loop_test(tcase, bits_are_those_of_the_stated_order, 0, DICE_ROUNDS(24));
    tcase_add_loop_test(tcase, bits_do_not_depend_on_chunks_page_tables_and_company, 0,
                        DICE_ROUNDS(ATTENTION_PICKS / 3)); // more than all pairs of sizes
    tcase_add_loop_test(tcase, bits_do_not_depend_on_threads_and_instruction_sets, 0,
                        DICE_ROUNDS(50));
    tcase_add_loop_test(tcase, bits_do_not_depend_on_threads_that_share_a_far_query, 0,
                        DICE_ROUNDS(24));
    tcase_add_loop_test(tcase, bits_do_not_change_when_a_stream_is_far_out, 0, DICE_ROUNDS(40));
    tcase_add_loop_test(tcase, a_window_that_nobody_reaches_changes_no_bit, 0, 12);
    Suite *suite = suite_create("math/attention bits");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
