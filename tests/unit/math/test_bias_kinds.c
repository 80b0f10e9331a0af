/* What is particular to each provider: published values, what is held to a range, distances beyond
 * the tables, sums of a million steps, the plain tensor's columns. That every provider is its
 * formula is told by test_bias.c and test_attention.c. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/bias.h"
#include "support/engines.h"
#include "support/floats.h"
#include "support/provider_formulas.h"

/* ---- t5 ---- */

/* The bucket of a distance: every bucket's value is its number. */
static int bucket_of(int n_buckets, int max_distance, bool bidirectional, int64_t distance)
{
    float numbers[64];
    for (int b = 0; b < n_buckets; b++) {
        numbers[b] = (float)b;
    }
    const ps_bias bias = {.kind = PS_BIAS_T5,
                          .n_heads = 1,
                          .buckets = numbers,
                          .n_buckets = n_buckets,
                          .max_distance = max_distance,
                          .bidirectional = bidirectional};
    return (int)ps_bias_distance_value(&bias, 0, distance);
}

START_TEST(buckets_of_32_and_128_begin_where_published)
{
    static const int first[16] = {16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113};
    for (int r = 0; r < 16; r++) {
        ck_assert_int_eq(bucket_of(32, 128, false, r), r);
    }
    for (int b = 16; b < 32; b++) {
        ck_assert_int_eq(bucket_of(32, 128, false, first[b - 16]), b);
        ck_assert_int_eq(bucket_of(32, 128, false, first[b - 16] - 1), b - 1);
    }
    ck_assert_int_eq(bucket_of(32, 128, false, 128), 31);
    ck_assert_int_eq(bucket_of(32, 128, false, INT64_C(1) << 40), 31);
    ck_assert_int_eq(bucket_of(32, 128, false, -5), 0);
}
END_TEST

START_TEST(half_of_bidirectional_buckets_are_for_keys_ahead)
{
    for (int r = 0; r < 200; r++) {
        const int behind = bucket_of(32, 128, true, r);
        ck_assert_int_lt(behind, 16);
        if (r > 0) ck_assert_int_eq(bucket_of(32, 128, true, -r), behind + 16);
    }
    // Whole powers of two are where a logarithm's last bit would decide.
    ck_assert_int_eq(bucket_of(32, 128, true, 15), 9);
    ck_assert_int_eq(bucket_of(32, 128, true, 16), 10);
    ck_assert_int_eq(bucket_of(32, 128, true, 32), 12);
    ck_assert_int_eq(bucket_of(32, 128, true, 64), 14);
    ck_assert_int_eq(bucket_of(32, 128, true, 127), 15);
}
END_TEST

/* ---- kerple, sandwich ---- */

START_TEST(kerple_parameters_are_held_to_the_published_range)
{
    const float p[3] = {-1.0f, 0.5f, 2.0f}, a[3] = {-3.0f, 0.0f, 3.0f};
    ps_bias bias = {.kind = PS_BIAS_KERPLE_LOG, .n_heads = 3, .p = p, .a = a};
    for (int h = 0; h < 3; h++) {
        const double gain = fmax((double)p[h], 0.01), inner = fmax((double)a[h], 0.01);
        ck_assert_double_eq_tol(ps_bias_distance_value(&bias, h, 1000),
                                -gain * log(1.0 + inner * 1000.0), 1e-13);
        ck_assert(ps_bias_distance_value(&bias, h, 0) == 0.0);
    }
    bias.kind = PS_BIAS_KERPLE_POWER;
    const double power[3] = {0.01, 0.01, 2.0};
    for (int h = 0; h < 3; h++) {
        const double wanted = -fmax((double)p[h], 0.01) * pow(1000.0, power[h]);
        ck_assert_double_le(fabs(ps_bias_distance_value(&bias, h, 1000) - wanted),
                            1e-13 * fabs(wanted));
        ck_assert(ps_bias_distance_value(&bias, h, 0) == 0.0);
    }
}
END_TEST

START_TEST(sandwich_begins_at_its_largest_value_and_weighs_heads)
{
    const ps_bias bias = {.kind = PS_BIAS_SANDWICH, .n_heads = 12, .dim = 128};
    for (int h = 0; h < 12; h++) {
        const double largest = 12.0 / (8.0 * (h + 1)) * 64.0;
        ck_assert_double_eq_tol(ps_bias_distance_value(&bias, h, 0), largest, 1e-12);
        ck_assert_double_lt(ps_bias_distance_value(&bias, h, 1), largest);
        ck_assert(ps_bias_distance_value(&bias, h, -7) == ps_bias_distance_value(&bias, h, 7));
    }
}
END_TEST

/* ---- tables of distances ---- */

/* A tile whose keys are far away, near, and ahead. */
START_TEST(distances_outside_the_table_have_the_bits_of_the_function)
{
    static const provider_kind kinds[4] = {PROVIDER_T5, PROVIDER_KERPLE_LOG, PROVIDER_KERPLE_POWER,
                                           PROVIDER_SANDWICH};
    enum { HEADS = 3, QUERIES = 5 };
    dice d = {.seed = (uint64_t)_i};
    ps_engine engine = engines_open(1);
    const provider_shape shape = {.n_heads = HEADS,
                                  .n_kv_heads = 1,
                                  .head_dim = 4,
                                  .width = 3,
                                  .span = 1 + 40 * _i,
                                  .ahead = _i / 4 * 50};
    providers list = {0};
    providers_add(&list, kinds[_i % 4], &shape, &engine, &d);
    float *bias = floats_new(HEADS * QUERIES * PS_SEGMENT);
    const int64_t starts[2] = {256, 0};
    for (int s = 0; s < 2; s++) {
        const ps_bias_tile tile = {.n_heads = HEADS,
                                   .n_queries = QUERIES,
                                   .first_position = 300 + (s == 1 ? INT64_C(1) << 30 : 0),
                                   .start = starts[s],
                                   .first = 3,
                                   .last = PS_SEGMENT,
                                   .bias = bias};
        memset(bias, 0, HEADS * QUERIES * PS_SEGMENT * sizeof *bias);
        ps_bias_fill_tile(&list.bias[0], engine.kernels, &tile);
        for (int r = 0; r < HEADS * QUERIES; r++) {
            for (int j = 3; j < PS_SEGMENT; j++) {
                const int64_t distance = tile.first_position + r % QUERIES - tile.start - j;
                const float wanted =
                    (float)ps_bias_distance_value(&list.bias[0], r / QUERIES, distance);
                ck_assert_msg(bias[r * PS_SEGMENT + j] == wanted, "row %d key %d: %a, not %a", r, j,
                              (double)bias[r * PS_SEGMENT + j], (double)wanted);
            }
        }
    }
    ps_mem_free(bias);
    providers_release(&list);
    ps_engine_close(&engine);
}
END_TEST

/* ---- fire ---- */

/* The same distance means less the farther the query has come; up to the length it does not. */
START_TEST(fire_depends_on_the_position_beyond_its_length_only)
{
    static const float w1 = 1.0f, b1 = 0.0f, w2 = 1.0f, b2 = 0.0f, scalars[3] = {0.1f, 2.0f, 50.0f};
    const ps_bias_fire_weights w = {1, &w1, &b1, &w2, &b2, scalars};
    ps_bias bias = {.kind = PS_BIAS_FIRE, .n_heads = 1, .span = 64};
    double *memory = ps_mem_new(ps_bias_fire_doubles(&bias, 1), sizeof *memory);
    ps_bias_make_fire(&w, memory, &bias);
    ps_engine engine = engines_open(1);
    float *row = floats_new(PS_SEGMENT);
    double scratch[PS_SEGMENT];
    float found[4];
    const int64_t positions[4] = {60, 100, 200, 1000000};
    for (int i = 0; i < 4; i++) {
        const int64_t start = (positions[i] - 10) / PS_SEGMENT * PS_SEGMENT;
        const int key = (int)(positions[i] - 10 - start);
        memset(row, 0, PS_SEGMENT * sizeof *row);
        const ps_bias_tile tile = {.n_heads = 1,
                                   .n_queries = 1,
                                   .first_position = positions[i],
                                   .start = start,
                                   .first = key,
                                   .last = key + 1,
                                   .bias = row,
                                   .scratch = (float *)(void *)scratch};
        ps_bias_fill_tile(&bias, engine.kernels, &tile);
        found[i] = row[key];
        const double reach = fmax((double)positions[i], 100.0);
        const double c = (double)scalars[0];
        ck_assert_double_eq_tol((double)found[i],
                                log(1.0 + 10.0 * c) / (log(1.0 + c * reach) + 1e-6), 1e-7);
    }
    ck_assert(found[0] == found[1] && found[1] > found[2] && found[2] > found[3]);
    ps_mem_free(row);
    ps_mem_free(memory);
    ps_engine_close(&engine);
}
END_TEST

/* ---- fox ---- */

/* After a million tokens c is about -7e5; differences are still those of single gates. */
START_TEST(gates_of_a_long_sequence_keep_their_digits)
{
    enum { STEPS = 1000000 };
    const ps_bias bias = {.kind = PS_BIAS_FOX, .n_heads = 1, .n_kv_heads = 1, .head_dim = 4};
    dice d = {.seed = 3};
    float numbers[2][2], features[2], row[PS_SEGMENT] = {0};
    float page[2][PS_SEGMENT];
    double wanted[PS_SEGMENT], sum = 0.0;
    double scratch[PS_SEGMENT];
    const int64_t start = STEPS / PS_SEGMENT * PS_SEGMENT;
    for (int64_t i = 0; i < STEPS; i++) {
        const float z = (float)dice_real(&d, -1.0, 1.0);
        float *own = numbers[i % 2];
        const ps_bias_row r = {
            .position = i, .projected = &z, .features = features, .numbers = own};
        ps_bias_prepare_row(&bias, &r);
        const ps_bias_step step = {.position = i,
                                   .before = i > 0 ? numbers[(i + 1) % 2] : NULL,
                                   .features = features,
                                   .numbers = own};
        ps_bias_accumulate_step(&bias, &step);
        if (i < start) continue;
        const int j = (int)(i - start);
        sum += -log1p(exp(-(double)z));
        wanted[j] = sum;
        page[0][j] = own[0];
        page[1][j] = own[1];
    }
    const int n = (int)(STEPS - start);
    const ps_bias_tile tile = {.n_heads = 1,
                               .n_queries = 1,
                               .first_position = STEPS - 1,
                               .features = features,
                               .feature_stride = 2,
                               .start = start,
                               .last = n,
                               .numbers = page[0],
                               .bias = row,
                               .scratch = (float *)(void *)scratch};
    ps_bias_fill_tile(&bias, NULL, &tile);
    ck_assert_int_gt(n, 60);
    for (int j = 0; j < n; j++) {
        const double difference = wanted[n - 1] - wanted[j];
        ck_assert_msg(fabs((double)row[j] - difference) <= 1e-8 + 1e-7 * fabs(difference),
                      "key %d: %.9g, not %.9g", j, (double)row[j], difference);
    }
}
END_TEST

START_TEST(gates_that_are_shut_or_open_do_not_overflow)
{
    const ps_bias bias = {.kind = PS_BIAS_FOX, .n_heads = 2, .n_kv_heads = 1, .head_dim = 4};
    const float z[2] = {-1000.0f, 1000.0f};
    float numbers[4], features[4], row[2][PS_SEGMENT];
    float page[4][PS_SEGMENT] = {{0}}; // c of key 0 is 0
    double scratch[PS_SEGMENT];
    const ps_bias_row r = {.position = 1, .projected = z, .features = features, .numbers = numbers};
    ps_bias_prepare_row(&bias, &r);
    memset(row, 0, sizeof row);
    const ps_bias_tile tile = {.n_heads = 2,
                               .n_queries = 1,
                               .first_position = 1,
                               .features = features,
                               .feature_stride = 4,
                               .last = 1,
                               .numbers = page[0],
                               .bias = row[0],
                               .scratch = (float *)(void *)scratch};
    ps_bias_fill_tile(&bias, NULL, &tile);
    ck_assert(row[0][0] == -1000.0f && row[1][0] == 0.0f);
}
END_TEST

/* ---- a tensor ---- */

/* Column c is the c-th key that the query sees, whatever its position. */
START_TEST(a_tensor_is_aligned_to_the_window_of_each_query)
{
    enum { SEQUENCES = 2, HEADS = 4, QUERIES = 6, KEYS = 5, WINDOW = 9 };
    float values[SEQUENCES * HEADS * QUERIES * KEYS];
    for (int i = 0; i < SEQUENCES * HEADS * QUERIES * KEYS; i++) {
        values[i] = (float)(i + 1);
    }
    const ps_bias_tensor tensor = {.values = values,
                                   .n_sequences = SEQUENCES,
                                   .n_heads = HEADS,
                                   .q_len = QUERIES,
                                   .k_len = KEYS,
                                   .first_query = 260,
                                   .visible = {.window = WINDOW}};
    const ps_bias bias = ps_bias_from_tensor(&tensor);
    ck_assert_int_eq(ps_bias_features(&bias) + ps_bias_numbers(&bias), 0);
    float rows[2][8][PS_SEGMENT];
    memset(rows, 0, sizeof rows);
    const ps_bias_tile tile = {.sequence = 1,
                               .first_head = 2,
                               .n_heads = 2,
                               .n_queries = 8,
                               .first_position = 259,
                               .start = 256,
                               .last = 12,
                               .bias = rows[0][0]};
    ps_bias_fill_tile(&bias, NULL, &tile);
    for (int h = 0; h < 2; h++) {
        for (int i = 0; i < 8; i++) {
            const int64_t query = 259 + i;
            for (int j = 0; j < 12; j++) {
                const int64_t column = 256 + j - (query - WINDOW + 1), row = query - 260;
                float wanted = 0.0f;
                if (row >= 0 && row < QUERIES && column >= 0 && column < KEYS)
                    wanted = values[((HEADS + 2 + h) * QUERIES + row) * KEYS + column];
                ck_assert_msg(rows[h][i][j] == wanted, "head %d query %d key %d: %g, not %g", h, i,
                              j, (double)rows[h][i][j], (double)wanted);
            }
        }
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("kinds");
    tcase_set_timeout(tcase, 60.0);
    tcase_add_test(tcase, buckets_of_32_and_128_begin_where_published);
    tcase_add_test(tcase, half_of_bidirectional_buckets_are_for_keys_ahead);
    tcase_add_test(tcase, kerple_parameters_are_held_to_the_published_range);
    tcase_add_test(tcase, sandwich_begins_at_its_largest_value_and_weighs_heads);
    tcase_add_loop_test(tcase, distances_outside_the_table_have_the_bits_of_the_function, 0, 8);
    tcase_add_test(tcase, fire_depends_on_the_position_beyond_its_length_only);
    tcase_add_test(tcase, gates_of_a_long_sequence_keep_their_digits);
    tcase_add_test(tcase, gates_that_are_shut_or_open_do_not_overflow);
    tcase_add_test(tcase, a_tensor_is_aligned_to_the_window_of_each_query);
    Suite *suite = suite_create("math/bias kinds");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
