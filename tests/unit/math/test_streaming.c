/* What streaming attention promises, each fact by itself and as exact as it can be said: values are
 * unit vectors, one for each key, so that a result shows the weight of every key. Against sums in
 * double precision with random numbers: test_attention.c; bit by bit: test_attention_bits.c. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/rope.h"
#include "support/attention_case.h"
#include "support/engines.h"
#include "support/floats.h"

enum { KEYS = 40 }; // and as many values of a head

typedef struct stream {
    ps_engine engine;
    attention_case c;
    float *weights; // [KEYS, KEYS] of query and key
} stream;

/* One head. Scores are 0 (queries are zeros) unless a test changes that. */
static stream stream_open(const attention_sizes *sizes)
{
    stream s = {.engine = engines_open(1)};
    dice d = {.seed = 1};
    attention_sizes all = *sizes;
    all.n_kv_heads = all.group = 1;
    all.head_dim = all.n = KEYS;
    s.c = attention_case_roll(&all, &s.engine, &d);
    memset(s.c.q, 0, KEYS * KEYS * sizeof *s.c.q);
    if (s.c.q_kept) memset(s.c.q_kept, 0, KEYS * KEYS * sizeof *s.c.q_kept);
    memset(s.c.v, 0, KEYS * KEYS * sizeof *s.c.v);
    for (int j = 0; j < KEYS; j++) {
        s.c.v[j * KEYS + j] = 1.0f;
    }
    s.weights = floats_new(KEYS * KEYS);
    return s;
}

static void stream_close(stream *s)
{
    attention_case_release(&s->c);
    ps_engine_close(&s->engine);
    ps_mem_free(s->weights);
}

static void stream_run(stream *s, int chunk, bool ring)
{
    const attention_way way = {.chunk = chunk, .ring = ring};
    attention_case_run(&s->c, &s->engine, &way, s->weights);
}

typedef bool sees(int query, int key);

/* Every query gives equal weight to the keys that it sees, and none, exactly, to the others. */
static void check_equal_weights(const stream *s, sees *visible)
{
    for (int i = 0; i < KEYS; i++) {
        int n = 0;
        for (int j = 0; j < KEYS; j++) {
            n += visible(i, j);
        }
        for (int j = 0; j < KEYS; j++) {
            const double wanted = visible(i, j) ? 1.0 / n : 0.0;
            const double found = (double)s->weights[i * KEYS + j];
            ck_assert_msg(wanted > 0.0 ? fabs(found - wanted) < 1e-7 : found == 0.0,
                          "query %d gives key %d %g, not %g", i, j, found, wanted);
        }
    }
}

static const int chunks[] = {1, 4, 7, 16, KEYS};
enum { N_CHUNKS = sizeof chunks / sizeof chunks[0] };

/* ---- what is seen ---- */

static bool sees_back(int query, int key)
{
    return key <= query;
}

START_TEST(a_query_does_not_see_later_tokens_of_its_own_chunk)
{
    stream s = stream_open(&(attention_sizes){0});
    for (int c = 0; c < N_CHUNKS; c++) {
        stream_run(&s, chunks[c], false);
        check_equal_weights(&s, sees_back);
    }
    stream_close(&s);
}
END_TEST

static bool sees_five(int query, int key)
{
    return key <= query && query - key < 5;
}

START_TEST(a_window_counts_the_current_token)
{
    stream s = stream_open(&(attention_sizes){.window = 5});
    for (int c = 0; c < N_CHUNKS; c++) {
        stream_run(&s, chunks[c], c % 2);
        check_equal_weights(&s, sees_five);
    }
    stream_close(&s);
}
END_TEST

static bool sees_two_and_three(int query, int key)
{
    return key <= query && (query - key < 3 || key < 2);
}

START_TEST(kept_first_tokens_stay_visible_at_any_capacity)
{
    for (int at_cache = 0; at_cache < 2; at_cache++) {
        stream s =
            stream_open(&(attention_sizes){.window = 3, .n_kept = 2, .kept_at_cache = at_cache});
        for (int c = 0; c < 2 * N_CHUNKS; c++) {
            stream_run(&s, chunks[c / 2], c % 2);
            check_equal_weights(&s, sees_two_and_three);
        }
        stream_close(&s);
    }
}
END_TEST

static bool sees_chunk_and_one_before(int query, int key)
{
    return key / 2 <= query / 2 && key / 2 >= query / 2 - 1;
}

START_TEST(a_chunk_is_bidirectional_inside_and_sees_whole_chunks_before_it)
{
    stream s = stream_open(&(attention_sizes){.chunk = 2, .left_chunks = 1, .look_ahead = true});
    for (int chunk = 2; chunk <= KEYS; chunk += 2) {
        stream_run(&s, chunk, false);
        check_equal_weights(&s, sees_chunk_and_one_before);
    }
    stream_close(&s);
}
END_TEST

static bool sees_causally_in_chunks(int query, int key)
{
    return key <= query && sees_chunk_and_one_before(query, key);
}

START_TEST(without_looking_ahead_a_chunk_is_causal_inside)
{
    stream s = stream_open(&(attention_sizes){.chunk = 2, .left_chunks = 1});
    for (int c = 0; c < N_CHUNKS; c++) {
        stream_run(&s, chunks[c], c % 2);
        check_equal_weights(&s, sees_causally_in_chunks);
    }
    stream_close(&s);
}
END_TEST

static bool sees_all(int query, int key)
{
    return query >= 0 && key >= 0;
}

START_TEST(an_encoder_sees_the_whole_sequence)
{
    stream s = stream_open(&(attention_sizes){.look_ahead = true});
    stream_run(&s, KEYS, false);
    check_equal_weights(&s, sees_all);
    stream_close(&s);
}
END_TEST

START_TEST(a_window_as_long_as_the_sequence_is_no_window)
{
    float *full = floats_new(KEYS * KEYS);
    for (int window = 0; window <= 2 * KEYS; window += KEYS) {
        dice d = {.seed = 5};
        stream s = stream_open(&(attention_sizes){.window = window});
        float *q = floats_new_rolled(&d, KEYS * KEYS, -1.0, 1.0);
        float *k = floats_new_rolled(&d, KEYS * KEYS, -1.0, 1.0);
        memcpy(s.c.q, q, KEYS * KEYS * sizeof *q);
        memcpy(s.c.k, k, KEYS * KEYS * sizeof *k);
        stream_run(&s, KEYS, false);
        if (window == 0) memcpy(full, s.weights, KEYS * KEYS * sizeof *full);
        ck_assert_mem_eq(s.weights, full, KEYS * KEYS * sizeof *full);
        ps_mem_free(k);
        ps_mem_free(q);
        stream_close(&s);
    }
    ps_mem_free(full);
}
END_TEST

START_TEST(four_chunks_of_four_have_the_bits_of_sixteen_at_once)
{
    dice d = {.seed = 6};
    stream s = stream_open(
        &(attention_sizes){.window = 16, .n_providers = 1, .kinds = {PROVIDER_REL_POS}});
    float *q = floats_new_rolled(&d, KEYS * KEYS, -1.0, 1.0);
    float *at_once = floats_new(KEYS * KEYS);
    memcpy(s.c.q, q, KEYS * KEYS * sizeof *q);
    stream_run(&s, 16, true);
    memcpy(at_once, s.weights, KEYS * KEYS * sizeof *at_once);
    stream_run(&s, 4, true);
    ck_assert_mem_eq(s.weights, at_once, KEYS * KEYS * sizeof *at_once);
    ps_mem_free(at_once);
    ps_mem_free(q);
    stream_close(&s);
}
END_TEST

/* ---- what it weighs ---- */

/* A provider that adds user[key]. */
static void by_key_fill(const ps_bias *bias, const struct ps_kernels *kernels,
                        const ps_bias_tile *tile)
{
    (void)kernels;
    const float *of_key = bias->user;
    for (int r = 0; r < tile->n_heads * tile->n_queries; r++) {
        for (int j = tile->first; j < tile->last; j++) {
            tile->bias[(size_t)r * PS_SEGMENT + (size_t)j] += of_key[tile->start + j];
        }
    }
}

static void give_biases(stream *s, float *of_key)
{
    s->c.list.n = 1;
    s->c.list.bias[0] = (ps_bias){
        .kind = PS_BIAS_CUSTOM, .n_heads = 1, .n_kv_heads = 1, .fill = by_key_fill, .user = of_key};
}

START_TEST(a_bias_of_ln_9_weighs_nine_times_as_much)
{
    float of_key[KEYS] = {0.0f, (float)log(9.0)};
    stream s = stream_open(&(attention_sizes){0});
    give_biases(&s, of_key);
    stream_run(&s, 4, false);
    ck_assert_double_eq_tol((double)s.weights[KEYS], 0.1, 1e-7);
    ck_assert_double_eq_tol((double)s.weights[KEYS + 1], 0.9, 1e-7);
    s.c.list.n = 0;
    stream_close(&s);
}
END_TEST

START_TEST(scores_are_products_of_query_and_key_times_the_scale)
{
    stream s = stream_open(&(attention_sizes){0});
    memset(s.c.k, 0, KEYS * KEYS * sizeof *s.c.k);
    s.c.q[KEYS] = 2.0f; // query 1
    s.c.k[KEYS] = 2.0f; // key 1
    s.c.shape.scale = 1.0f;
    stream_run(&s, KEYS, false);
    const double wanted = exp(4.0) / (exp(4.0) + 1.0);
    ck_assert_double_eq_tol((double)s.weights[KEYS + 1], wanted, 1e-7);
    s.c.shape.scale = 0.5f;
    stream_run(&s, KEYS, false);
    ck_assert_double_eq_tol((double)s.weights[KEYS + 1], exp(2.0) / (exp(2.0) + 1.0), 1e-7);
    stream_close(&s);
}
END_TEST

START_TEST(a_sink_takes_its_share_of_the_weights)
{
    static const double sinks[] = {0.0, 9.0}, wanted[] = {1.0 / 4.0, 1.0 / 12.0};
    for (int i = 0; i < 2; i++) {
        stream s = stream_open(&(attention_sizes){.sinks = true});
        s.c.sinks[0] = i ? (float)log(sinks[i]) : 0.0f;
        stream_run(&s, 4, false);
        for (int j = 0; j < 3; j++) { // query 2 has three keys
            ck_assert_double_eq_tol((double)s.weights[2 * KEYS + j], wanted[i], 1e-7);
        }
        stream_close(&s);
    }
}
END_TEST

/* A sink of 0 is the quiet softmax, e^z / (1 + sum e^z), which must not be computed that way. */
START_TEST(a_quiet_softmax_keeps_its_numbers_at_any_height_of_the_scores)
{
    static const float heights[] = {-2000.0f, -100.0f, -20.0f, 0.0f, 20.0f, 100.0f, 2000.0f};
    for (size_t h = 0; h < sizeof heights / sizeof heights[0]; h++) {
        float of_key[KEYS];
        for (int j = 0; j < KEYS; j++) {
            of_key[j] = heights[h];
        }
        stream s = stream_open(&(attention_sizes){.sinks = true});
        s.c.sinks[0] = 0.0f;
        give_biases(&s, of_key);
        stream_run(&s, 7, false);
        const double wanted = 1.0 / (3.0 + exp(-(double)heights[h]));
        for (int j = 0; j < 3; j++) {
            ck_assert_double_eq_tol((double)s.weights[2 * KEYS + j], wanted, 1e-7);
        }
        s.c.list.n = 0;
        stream_close(&s);
    }
}
END_TEST

START_TEST(alibi_rewards_nearness)
{
    stream s = stream_open(&(attention_sizes){.n_providers = 1, .kinds = {PROVIDER_ALIBI}});
    stream_run(&s, 7, false);
    for (int i = 1; i < KEYS; i++) {
        for (int j = 1; j <= i; j++) {
            // One head has the slope 2^-8.
            const double ratio =
                (double)s.weights[i * KEYS + j] / (double)s.weights[i * KEYS + j - 1];
            ck_assert_double_eq_tol(ratio, exp(0x1p-8), 1e-5);
        }
    }
    stream_close(&s);
}
END_TEST

/* Fast pairs keep their frequency and slow ones are stretched, not the other way round. */
START_TEST(yarn_leaves_fast_pairs_and_stretches_slow_ones)
{
    const ps_rope rope = {.kind = PS_ROPE_YARN,
                          .dims = 64,
                          .base = 150000.0,
                          .magnitude = 1.0,
                          .factor = 32.0,
                          .original_length = 4096.0,
                          .beta_fast = 32.0,
                          .beta_slow = 1.0};
    double found[32];
    ps_rope_frequencies(&rope, 0, found);
    for (int t = 0; t < 32; t++) {
        const double plain = pow(rope.base, -2.0 * t / rope.dims);
        if (t < 8) ck_assert_double_eq_tol(found[t] / plain, 1.0, 1e-12);
        if (t > 18) ck_assert_double_eq_tol(found[t] / plain, 1.0 / 32.0, 1e-12);
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("streaming");
    tcase_set_timeout(tcase, 60.0);
    tcase_add_test(tcase, a_query_does_not_see_later_tokens_of_its_own_chunk);
    tcase_add_test(tcase, a_window_counts_the_current_token);
    tcase_add_test(tcase, kept_first_tokens_stay_visible_at_any_capacity);
    tcase_add_test(tcase, a_chunk_is_bidirectional_inside_and_sees_whole_chunks_before_it);
    tcase_add_test(tcase, without_looking_ahead_a_chunk_is_causal_inside);
    tcase_add_test(tcase, an_encoder_sees_the_whole_sequence);
    tcase_add_test(tcase, a_window_as_long_as_the_sequence_is_no_window);
    tcase_add_test(tcase, four_chunks_of_four_have_the_bits_of_sixteen_at_once);
    tcase_add_test(tcase, a_bias_of_ln_9_weighs_nine_times_as_much);
    tcase_add_test(tcase, scores_are_products_of_query_and_key_times_the_scale);
    tcase_add_test(tcase, a_sink_takes_its_share_of_the_weights);
    tcase_add_test(tcase, a_quiet_softmax_keeps_its_numbers_at_any_height_of_the_scores);
    tcase_add_test(tcase, alibi_rewards_nearness);
    tcase_add_test(tcase, yarn_leaves_fast_pairs_and_stretches_slow_ones);
    Suite *suite = suite_create("math/streaming");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
