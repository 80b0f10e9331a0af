/* Attention against the plain double-precision sum (tests/support/naive_attention.c), over all
 * combinations of head sizes, group sizes, windows and providers that a loop number picks; caches
 * are full of NaN wherever nobody may look. Exact bits are the business of test_attention_bits.c.
 */
#include "math/attention.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "support/attention_case.h"
#include "support/attention_picks.h"
#include "support/engines.h"
#include "support/floats.h"

/* What has to come out of a case. The caller's to free. */
static double *naive_new(const attention_case *c)
{
    double *wanted = ps_mem_new(attention_case_floats(c), sizeof *wanted);
    attention_case_naive(c, wanted);
    return wanted;
}

static void compare(const attention_case *c, const float *found, const double *wanted,
                    double tolerance)
{
    const double off = floats_distance(found, wanted, attention_case_floats(c));
    ck_assert_msg(off <= tolerance,
                  "%g off (H %d, G %d, K %d, window %lld, %d keys, first query %d)", off,
                  c->shape.n_heads, c->shape.n_kv_heads, c->shape.head_dim,
                  (long long)c->shape.visible.window, c->n, c->first_query);
}

static void check_near(const attention_case *c, const float *found, double tolerance)
{
    double *wanted = naive_new(c);
    compare(c, found, wanted, tolerance);
    ps_mem_free(wanted);
}

/* Runs the case in each of these ways, and compares it with the naive sum. */
static void check_ways(const attention_case *c, const ps_engine *engine, const attention_way *ways,
                       int n_ways)
{
    float *out = floats_new(attention_case_floats(c));
    double *wanted = naive_new(c);
    for (int i = 0; i < n_ways; i++) {
        attention_case_run(c, engine, &ways[i], out);
        compare(c, out, wanted, 5e-6);
    }
    ps_mem_free(wanted);
    ps_mem_free(out);
}

START_TEST(results_are_near_the_double_precision_sum)
{
    dice d = {.seed = (uint64_t)_i};
    ps_engine engine = engines_open(1 + _i % 3);
    const attention_sizes sizes = attention_picks_sizes(_i, &d, 5e6);
    attention_case c = attention_case_roll(&sizes, &engine, &d);
    const attention_way way = {
        .chunk = 1 + dice_throw(&d, 100), .ring = _i % 2, .company = _i % 4 > 1};
    check_ways(&c, &engine, &way, 1);
    attention_case_release(&c);
    ps_engine_close(&engine);
}
END_TEST

/* Windows whose edge crosses a border of segments while the chunk does, at every offset. */
START_TEST(window_edges_are_right_around_the_borders_of_segments)
{
    static const int windows[] = {1, 15, 16, 17, 255, 256, 257};
    dice d = {.seed = 900 + (uint64_t)_i};
    ps_engine engine = engines_open(1);
    const int64_t window = windows[_i % 7];
    const attention_sizes sizes = {.n_kv_heads = 1,
                                   .group = 1 + _i % 3,
                                   .head_dim = 4,
                                   .window = window,
                                   .n = 560,
                                   .first_query = _i % 2 ? 230 : 490,
                                   .n_providers = _i % 2,
                                   .kinds = {PROVIDER_ALIBI}};
    attention_case c = attention_case_roll(&sizes, &engine, &d);
    attention_way ways[24];
    for (int i = 0; i < 24; i++) {
        ways[i] = (attention_way){.chunk = 1 + i, .ring = true};
    }
    check_ways(&c, &engine, ways, 24);
    attention_case_release(&c);
    ps_engine_close(&engine);
}
END_TEST

START_TEST(a_window_of_one_gives_back_the_own_value)
{
    dice d = {.seed = (uint64_t)_i};
    ps_engine engine = engines_open(1);
    const attention_sizes sizes = {
        .n_kv_heads = 2, .group = 1 + _i, .head_dim = 24, .window = 1, .n = 300};
    attention_case c = attention_case_roll(&sizes, &engine, &d);
    const attention_way way = {.chunk = 50, .ring = true};
    float *out = floats_new(attention_case_floats(&c));
    attention_case_run(&c, &engine, &way, out);
    for (int i = 0; i < c.n; i++) {
        for (int h = 0; h < c.shape.n_heads; h++) {
            const float *wanted = c.v + (i * 2 + h / (1 + _i)) * 24;
            ck_assert_mem_eq(out + (i * c.shape.n_heads + h) * 24, wanted, 24 * sizeof *out);
        }
    }
    ps_mem_free(out);
    attention_case_release(&c);
    ps_engine_close(&engine);
}
END_TEST

/* A provider that hides keys by -inf: those for which the user's function says so. */
typedef bool hides(int64_t query, int64_t key);

static bool hides_all(int64_t query, int64_t key)
{
    (void)query;
    (void)key;
    return true;
}

static bool hides_some(int64_t query, int64_t key)
{
    return (query * 7 + key) % 3 != 0 || key / PS_SEGMENT == 1;
}

static bool hides_nothing_but_odd_queries(int64_t query, int64_t key)
{
    (void)key;
    return query % 2 != 0;
}

static void hide_fill(const ps_bias *bias, const struct ps_kernels *kernels,
                      const ps_bias_tile *tile)
{
    (void)kernels;
    hides *const *hidden = bias->user;
    for (int r = 0; r < tile->n_heads * tile->n_queries; r++) {
        for (int j = tile->first; j < tile->last; j++) {
            if (!(*hidden)(tile->first_position + r % tile->n_queries, tile->start + j)) continue;
            tile->bias[(size_t)r * PS_SEGMENT + (size_t)j] = -INFINITY;
        }
    }
}

static attention_case hiding_case(hides **hidden, const ps_engine *engine, dice *d)
{
    const attention_sizes sizes = {.n_kv_heads = 2, .group = 3, .head_dim = 8, .n = 620};
    attention_case c = attention_case_roll(&sizes, engine, d);
    c.list.bias[0] = (ps_bias){.kind = PS_BIAS_CUSTOM, .fill = hide_fill, .user = (void *)hidden};
    return c;
}

/* Runs with the provider put in by hand, which the list does not own. */
static float *run_hiding(attention_case *c, const ps_engine *engine)
{
    const attention_way way = {.chunk = 31};
    float *out = floats_new_poisoned(attention_case_floats(c));
    c->list.n = 1;
    attention_case_run(c, engine, &way, out);
    c->list.n = 0;
    return out;
}

START_TEST(a_query_whose_keys_are_all_minus_infinity_gives_zeros)
{
    dice d = {.seed = 11};
    ps_engine engine = engines_open(2);
    hides *hidden[2] = {hides_all, hides_nothing_but_odd_queries};
    for (int which = 0; which < 2; which++) {
        attention_case c = hiding_case(&hidden[which], &engine, &d);
        float *out = run_hiding(&c, &engine);
        const size_t row = (size_t)(c.shape.n_heads * c.shape.head_dim);
        for (int i = 0; i < c.n; i++) {
            const bool zeros = which == 0 || i % 2 != 0;
            for (size_t t = 0; t < row; t++) {
                ck_assert((out[(size_t)i * row + t] == 0.0f) == zeros);
            }
        }
        ps_mem_free(out);
        attention_case_release(&c);
    }
    ps_engine_close(&engine);
}
END_TEST

/* Hidden one by one, in whole segments, and for some queries altogether. */
START_TEST(keys_at_minus_infinity_weigh_nothing)
{
    dice d = {.seed = 12};
    ps_engine engine = engines_open(1);
    hides *hidden = hides_some;
    attention_case c = hiding_case(&hidden, &engine, &d);
    float *out = run_hiding(&c, &engine);
    const int heads = c.shape.n_heads, dim = c.shape.head_dim;
    for (int i = 0; i < c.n; i++) {
        for (int h = 0; h < heads; h++) {
            double sum[8] = {0}, total = 0.0;
            for (int j = 0; j <= i; j++) {
                if (hides_some(i, j)) continue;
                double z = 0.0;
                for (int t = 0; t < dim; t++) {
                    z += (double)c.q[(i * heads + h) * dim + t] *
                         (double)c.k[(j * 2 + h / 3) * dim + t];
                }
                const double weight = exp(z * (double)c.shape.scale);
                total += weight;
                for (int t = 0; t < dim; t++) {
                    sum[t] += weight * (double)c.v[(j * 2 + h / 3) * dim + t];
                }
            }
            for (int t = 0; t < dim; t++) {
                const double wanted = total > 0.0 ? sum[t] / total : 0.0;
                ck_assert_double_le(fabs((double)out[(i * heads + h) * dim + t] - wanted), 2e-5);
            }
        }
    }
    ps_mem_free(out);
    attention_case_release(&c);
    ps_engine_close(&engine);
}
END_TEST

/* Everything in one parcel: a whole sequence, or whole chunks, each query seeing what comes later.
 */
START_TEST(queries_that_look_ahead_are_near_the_double_precision_sum)
{
    static const int64_t chunks[] = {0, 1, 16, 37, 300};
    static const provider_kind kinds[] = {PROVIDER_ALIBI, PROVIDER_DOT, PROVIDER_REL_POS};
    dice d = {.seed = 1500 + (uint64_t)_i};
    ps_engine engine = engines_open(1 + _i % 2);
    const attention_sizes sizes = {.n_kv_heads = 2,
                                   .group = 1 + _i % 3,
                                   .head_dim = 20,
                                   .n = 300,
                                   .chunk = chunks[_i % 5],
                                   .left_chunks = _i % 4 - 1,
                                   .look_ahead = true,
                                   .sinks = _i % 2,
                                   .n_providers = 1,
                                   .kinds = {kinds[_i % 3]}};
    attention_case c = attention_case_roll(&sizes, &engine, &d);
    const attention_way way = {.chunk = c.n};
    check_ways(&c, &engine, &way, 1);
    attention_case_release(&c);
    ps_engine_close(&engine);
}
END_TEST

/* The first tokens stay in sight however far the sequence goes, whatever the size of the ring. */
START_TEST(kept_tokens_stay_visible_far_beyond_the_window)
{
    static const int64_t kept[] = {1, 4, 16, 63, 64, 65, 300};
    dice d = {.seed = 1700 + (uint64_t)_i};
    ps_engine engine = engines_open(1);
    const attention_sizes sizes = {.n_kv_heads = 1,
                                   .group = 2,
                                   .head_dim = 8,
                                   .window = 1 + _i % 3 * 40,
                                   .n = 900,
                                   .first_query = _i % 4 == 3 ? 800 : 0,
                                   .n_kept = kept[_i % 7],
                                   .kept_at_cache = _i % 2,
                                   .n_providers = 2,
                                   .kinds = {PROVIDER_ALIBI, PROVIDER_REL_POS}};
    attention_case c = attention_case_roll(&sizes, &engine, &d);
    static const attention_way ways[] = {{.chunk = 1, .ring = true},
                                         {.chunk = 4, .ring = true},
                                         {.chunk = 16, .ring = true, .company = true},
                                         {.chunk = 64, .ring = true}};
    check_ways(&c, &engine, ways, 4);
    attention_case_release(&c);
    ps_engine_close(&engine);
}
END_TEST

/* A sink takes weight, and gives nothing back: it is one more key whose value is 0. */
START_TEST(a_sink_is_a_key_without_a_value)
{
    dice d = {.seed = 15 + (uint64_t)_i};
    ps_engine engine = engines_open(1);
    const attention_sizes sizes = {
        .n_kv_heads = 2, .group = 2, .head_dim = 8, .window = _i ? 40 : 0, .n = 600, .sinks = true};
    attention_case c = attention_case_roll(&sizes, &engine, &d);
    const size_t n = attention_case_floats(&c);
    const attention_way way = {.chunk = 31, .ring = true};
    float *with = floats_new(n), *without = floats_new(n), *sinks = c.sinks;
    attention_case_run(&c, &engine, &way, with);
    check_near(&c, with, 5e-6);
    c.sinks = NULL;
    attention_case_run(&c, &engine, &way, without);
    size_t smaller = 0;
    for (size_t i = 0; i < n; i++) {
        ck_assert(fabsf(with[i]) <= fabsf(without[i]));
        smaller += fabsf(with[i]) < 0.99f * fabsf(without[i]);
    }
    ck_assert_uint_gt(smaller, n / 20);
    for (int h = 0; h < 4; h++) {
        sinks[h] = -HUGE_VALF; // no weight at all
    }
    c.sinks = sinks;
    attention_case_run(&c, &engine, &way, with);
    ck_assert_uint_eq(floats_first_difference(with, without, n), n);
    ps_mem_free(with);
    ps_mem_free(without);
    attention_case_release(&c);
    ps_engine_close(&engine);
}
END_TEST

/* Far above all scores, or far below: neither overflows. */
START_TEST(sinks_of_any_size_leave_numbers)
{
    dice d = {.seed = 17};
    ps_engine engine = engines_open(1);
    const attention_sizes sizes = {
        .n_kv_heads = 1, .group = 4, .head_dim = 8, .n = 300, .sinks = true};
    attention_case c = attention_case_roll(&sizes, &engine, &d);
    const float extreme[4] = {500.0f, -500.0f, 3e38f, -3e38f};
    memcpy(c.sinks, extreme, sizeof extreme);
    const attention_way way = {.chunk = 64};
    float *out = floats_new(attention_case_floats(&c));
    attention_case_run(&c, &engine, &way, out);
    check_near(&c, out, 5e-6);
    for (size_t i = 0; i < attention_case_floats(&c); i++) {
        const size_t head = i / 8 % 4;
        if (head == 0 || head == 2) ck_assert(out[i] == 0.0f);
    }
    ps_mem_free(out);
    attention_case_release(&c);
    ps_engine_close(&engine);
}
END_TEST

START_TEST(with_a_sink_a_query_without_keys_gives_zeros)
{
    dice d = {.seed = 18};
    ps_engine engine = engines_open(1);
    hides *hidden = hides_all;
    attention_case c = hiding_case(&hidden, &engine, &d);
    c.sinks = floats_new_rolled(&d, (size_t)c.shape.n_heads, -1.0, 1.0);
    float *out = run_hiding(&c, &engine);
    for (size_t i = 0; i < attention_case_floats(&c); i++) {
        ck_assert(out[i] == 0.0f);
    }
    ps_mem_free(out);
    attention_case_release(&c);
    ps_engine_close(&engine);
}
END_TEST

START_TEST(a_nan_shows_in_its_own_row_and_head_alone)
{
    dice d = {.seed = 13};
    ps_engine engine = engines_open(2);
    const attention_sizes sizes = {.n_kv_heads = 2, .group = 2, .head_dim = 16, .n = 530};
    attention_case c = attention_case_roll(&sizes, &engine, &d);
    const int row = 523, head = 1;
    c.q[(row * 4 + head) * 16 + 3] = NAN;
    const attention_way way = {.chunk = 40};
    float *out = floats_new(attention_case_floats(&c));
    attention_case_run(&c, &engine, &way, out);
    for (int i = 0; i < c.n; i++) {
        for (int h = 0; h < 4; h++) {
            for (int t = 0; t < 16; t++) {
                ck_assert_int_eq(isnan(out[(i * 4 + h) * 16 + t]) != 0, i == row && h == head);
            }
        }
    }
    ps_mem_free(out);
    attention_case_release(&c);
    ps_engine_close(&engine);
}
END_TEST

/* Scores so far apart that exp underflows in one segment against another, both ways round. */
START_TEST(segments_of_very_different_size_fold_without_overflow)
{
    dice d = {.seed = 14};
    ps_engine engine = engines_open(1);
    const attention_sizes sizes = {
        .n_kv_heads = 1, .group = 2, .head_dim = 8, .n = 700, .first_query = 600};
    attention_case c = attention_case_roll(&sizes, &engine, &d);
    for (int j = 0; j < c.n * 8; j++) {
        c.k[j] *= j / 8 / PS_SEGMENT == _i ? 120.0f : 0.5f;
    }
    const attention_way way = {.chunk = 64};
    float *out = floats_new(attention_case_floats(&c));
    attention_case_run(&c, &engine, &way, out);
    check_near(&c, out, 6e-5); // scores of some hundreds are rounded at 2^-16
    ps_mem_free(out);
    attention_case_release(&c);
    ps_engine_close(&engine);
}
END_TEST

START_TEST(scratch_for_larger_layers_is_enough_for_smaller_ones)
{
    for (int group = 1; group <= 40; group++) {
        for (int dim = 1; dim <= 130; dim += 3) {
            const size_t here = ps_attention_scratch_floats(3, group, dim);
            ck_assert_uint_ge(ps_attention_scratch_floats(3, group + 1, dim), here);
            ck_assert_uint_ge(ps_attention_scratch_floats(3, group, dim + 1), here);
            ck_assert_uint_ge(ps_attention_scratch_floats(4, group, dim), here);
        }
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("attention");
    tcase_set_timeout(tcase, 60.0);
    tcase_add_loop_test(tcase, results_are_near_the_double_precision_sum, 0,
                        DICE_ROUNDS(ATTENTION_PICKS));
    tcase_add_loop_test(tcase, window_edges_are_right_around_the_borders_of_segments, 0, 14);
    tcase_add_loop_test(tcase, a_window_of_one_gives_back_the_own_value, 0, 4);
    tcase_add_test(tcase, a_query_whose_keys_are_all_minus_infinity_gives_zeros);
    tcase_add_test(tcase, keys_at_minus_infinity_weigh_nothing);
    tcase_add_loop_test(tcase, queries_that_look_ahead_are_near_the_double_precision_sum, 0,
                        DICE_ROUNDS(20));
    tcase_add_loop_test(tcase, kept_tokens_stay_visible_far_beyond_the_window, 0, 14);
    tcase_add_loop_test(tcase, a_sink_is_a_key_without_a_value, 0, 2);
    tcase_add_test(tcase, sinks_of_any_size_leave_numbers);
    tcase_add_test(tcase, with_a_sink_a_query_without_keys_gives_zeros);
    tcase_add_test(tcase, a_nan_shows_in_its_own_row_and_head_alone);
    tcase_add_loop_test(tcase, segments_of_very_different_size_fold_without_overflow, 0, 3);
    tcase_add_test(tcase, scratch_for_larger_layers_is_enough_for_smaller_ones);
    Suite *suite = suite_create("math/attention");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
