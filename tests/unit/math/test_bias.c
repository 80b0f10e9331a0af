/* Slopes against the published recipe, the relative-position table and every provider's tile
 * against the double-precision formula for one pair of positions (tests/support/providers.h), and
 * the rule that what fill computes for a pair does not depend on what else is in the tile. */
#include "math/bias.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "support/engines.h"
#include "support/floats.h"
#include "support/providers.h"

/* The recipe of the ALiBi paper's code: a geometric series for powers of two, otherwise that of the
 * next lower power and every other one of the next higher. */
static void published_slopes(int n_heads, double max_exponent, double *slopes)
{
    int power = 1;
    while (2 * power <= n_heads) {
        power *= 2;
    }
    const double start = pow(2.0, -max_exponent / power);
    const double between = pow(2.0, -max_exponent / (2 * power));
    for (int h = 0; h < power; h++) {
        slopes[h] = pow(start, h + 1);
    }
    for (int h = power; h < n_heads; h++) {
        slopes[h] = pow(between, 2 * (h - power) + 1);
    }
}

START_TEST(alibi_slopes_are_the_published_ones)
{
    static const int heads[] = {8, 12, 16, 32, 40, 64, 71, 112, 1, 2, 3, 7, 128, 200};
    static const double exponents[2] = {8.0, 16.0};
    for (size_t i = 0; i < 2 * sizeof heads / sizeof heads[0]; i++) {
        const int n = heads[i / 2];
        float found[200];
        double wanted[200];
        ps_bias_alibi_slopes(n, exponents[i % 2], 1.0, found);
        published_slopes(n, exponents[i % 2], wanted);
        for (int h = 0; h < n; h++) {
            ck_assert_msg(fabs((double)found[h] - wanted[h]) <= 0x1p-24 * wanted[h] * 1.001,
                          "head %d of %d: %a, not %a", h, n, (double)found[h], wanted[h]);
        }
    }
}
END_TEST

START_TEST(alibi_slopes_of_8_and_32_and_40_heads_have_their_known_values)
{
    static const double tail[8] = {.917, .7711, .6484, .5453, .4585, .3856, .3242, .2726};
    float slopes[40];
    ps_bias_alibi_slopes(8, 8.0, 1.0, slopes);
    for (int h = 0; h < 8; h++) {
        ck_assert(slopes[h] == ldexpf(1.0f, -1 - h));
    }
    ps_bias_alibi_slopes(32, 8.0, 1.0, slopes);
    ck_assert_double_eq_tol((double)slopes[0], .8409, 5e-5);
    ck_assert_double_eq_tol((double)slopes[1], .7071, 5e-5);
    ps_bias_alibi_slopes(40, 8.0, 1.0, slopes);
    for (int h = 0; h < 8; h++) {
        ck_assert_double_eq_tol((double)slopes[32 + h], tail[h], 5e-5);
    }
}
END_TEST

/* Families that add the bias before the scores are divided have it divided too. */
START_TEST(a_factor_multiplies_every_slope_with_one_rounding)
{
    static const double factors[] = {0.125, 1.0, 0.35355339059327379, 3.0};
    for (int i = 0; i < 4; i++) {
        float found[40];
        double wanted[40];
        ps_bias_alibi_slopes(40, 8.0, factors[i], found);
        published_slopes(40, 8.0, wanted);
        for (int h = 0; h < 40; h++) {
            const double slope = factors[i] * wanted[h];
            ck_assert_double_le(fabs((double)found[h] - slope), 0x1p-24 * slope * 1.001);
        }
    }
}
END_TEST

static provider_shape shape_roll(dice *d)
{
    static const int groups[] = {1, 2, 3, 5, 8};
    provider_shape s = {.n_kv_heads = 1 + dice_throw(d, 3),
                        .head_dim = 1 + dice_throw(d, 40),
                        .width = 3 + dice_throw(d, 9),
                        .span = 1 + dice_throw(d, 600),
                        .ahead = dice_throw(d, 2) ? dice_throw(d, 300) : 0};
    s.n_heads = s.n_kv_heads * groups[dice_throw(d, 5)];
    s.scale = (float)(1.0 / sqrt(s.head_dim));
    return s;
}

START_TEST(the_table_is_w_pos_times_the_encoding_of_every_distance)
{
    dice d = {.seed = (uint64_t)_i};
    const provider_shape s = shape_roll(&d);
    ps_engine engine = engines_open(1 + _i % 2);
    providers list = {0};
    providers_add(&list, PROVIDER_REL_POS, &s, &engine, &d);
    const provider *p = &list.item[0];
    const int64_t lanes = (s.span + s.ahead + 15) / 16 * 16;
    ck_assert_uint_eq(ps_bias_table_floats(s.n_heads, s.head_dim, s.span, s.ahead),
                      (size_t)(s.n_heads * s.head_dim) * (size_t)lanes);
    for (int64_t r = -s.ahead; r < s.span; r++) {
        const int64_t lane = lanes - 1 - s.ahead - r;
        for (int i = 0; i < s.n_heads * s.head_dim; i++) {
            const int64_t tile = i / s.head_dim * (lanes / 16) + lane / 16;
            const float found = p->table[(tile * s.head_dim + i % s.head_dim) * 16 + lane % 16];
            const double wanted = p->positions[(r + s.ahead) * s.n_heads * s.head_dim + i];
            ck_assert_double_le(fabs((double)found - wanted), 1e-5);
        }
    }
    providers_release(&list);
    ps_engine_close(&engine);
}
END_TEST

START_TEST(the_table_has_the_same_bits_from_every_engine)
{
    dice d = {.seed = 50 + (uint64_t)_i};
    const provider_shape s = shape_roll(&d);
    const int width = 1 + dice_throw(&d, 40);
    matrix w = matrix_roll(&d, PS_BF16, s.n_heads * s.head_dim, width, 1.0, false);
    const size_t n = ps_bias_table_floats(s.n_heads, s.head_dim, s.span, s.ahead);
    float *tables[2] = {floats_new_poisoned(n), floats_new_poisoned(n)};
    float *scratch = floats_new(ps_bias_table_scratch_floats(s.n_heads, s.head_dim, width));
    engines_all all = engines_open_all();
    for (int e = 0; e < all.n; e++) {
        ps_bias_make_table(&all.engine[e], &w.linear, 10000.0, s.n_heads, s.head_dim, s.span,
                           s.ahead, scratch, tables[e > 0]);
        ck_assert_uint_eq(floats_first_difference(tables[0], tables[e > 0], n), n);
    }
    engines_close_all(&all);
    ps_mem_free(tables[0]);
    ps_mem_free(tables[1]);
    ps_mem_free(scratch);
    matrix_release(&w);
}
END_TEST

START_TEST(rel_pos_keeps_q_plus_v_and_the_keys_product_with_u)
{
    dice d = {.seed = (uint64_t)_i};
    const provider_shape s = shape_roll(&d);
    ps_engine engine = engines_open(1);
    providers list = {0};
    providers_add(&list, PROVIDER_REL_POS, &s, &engine, &d);
    const int n = s.n_heads * s.head_dim;
    ck_assert_int_eq(list.n_features, n);
    ck_assert_int_eq(list.n_numbers, s.n_heads);
    float *q = floats_new_rolled(&d, (size_t)n, -2.0, 2.0);
    float *k = floats_new_rolled(&d, (size_t)(s.n_kv_heads * s.head_dim), -2.0, 2.0);
    float *features = floats_new_poisoned((size_t)n + 1);
    float *numbers = floats_new_poisoned((size_t)s.n_heads + 1);
    const ps_bias_row row = {.kernels = engine.kernels,
                             .position = 7,
                             .q = q,
                             .k = k,
                             .features = features,
                             .numbers = numbers};
    ps_bias_prepare_row(&list.bias[0], &row);
    for (int h = 0; h < s.n_heads; h++) {
        double sum = 0.0;
        for (int t = 0; t < s.head_dim; t++) {
            const int at = h * s.head_dim + t, kv = h / (s.n_heads / s.n_kv_heads);
            ck_assert(features[at] == q[at] + list.item[0].v[at]);
            sum += (double)list.item[0].u[at] * (double)k[kv * s.head_dim + t];
        }
        ck_assert_double_le(fabs((double)numbers[h] - sum * (double)s.scale), 1e-5);
    }
    ck_assert(floats_untouched(features + n, 1) && floats_untouched(numbers + s.n_heads, 1));
    ps_mem_free(q);
    ps_mem_free(k);
    ps_mem_free(features);
    ps_mem_free(numbers);
    providers_release(&list);
    ps_engine_close(&engine);
}
END_TEST

/* A block of queries against one segment, with everything that one provider reads. */
typedef struct tile_case {
    provider_shape shape;
    providers list;
    ps_bias_tile tile;
    float *query_x, *q, *features; // [n_queries, ...]
    float *key_x, *k, *numbers;    // [PS_SEGMENT, ...]; numbers [n_numbers][PS_SEGMENT]
    float *before, *scratch;
    size_t bias_floats, scratch_floats;
} tile_case;

static void roll_rows(tile_case *c, dice *d)
{
    const size_t width = (size_t)c->shape.width, n = (size_t)c->tile.n_queries;
    const size_t q = (size_t)(c->shape.n_heads * c->shape.head_dim);
    const size_t k = (size_t)(c->shape.n_kv_heads * c->shape.head_dim);
    c->query_x = floats_new_rolled(d, n * width, -1.0, 1.0);
    c->q = floats_new_rolled(d, n * q, -1.0, 1.0);
    c->key_x = floats_new_rolled(d, PS_SEGMENT * width, -1.0, 1.0);
    c->k = floats_new_rolled(d, PS_SEGMENT * k, -1.0, 1.0);
    const size_t stride = (size_t)c->list.n_features + 2, n_numbers = (size_t)c->list.n_numbers;
    c->features = floats_new_poisoned(n * stride);
    c->numbers = floats_new_poisoned(n_numbers * PS_SEGMENT);
    float *row_features = floats_new(stride), *row_numbers = floats_new(n_numbers + 1);
    for (size_t i = 0; i < n; i++) {
        const ps_bias_row row = {.x = c->query_x + i * width,
                                 .q = c->q + i * q,
                                 .k = c->k,
                                 .features = c->features + i * stride,
                                 .numbers = row_numbers};
        providers_prepare(&c->list, &row);
    }
    for (size_t j = (size_t)c->tile.first; j < (size_t)c->tile.last; j++) {
        const ps_bias_row row = {.x = c->key_x + j * width,
                                 .q = c->q,
                                 .k = c->k + j * k,
                                 .features = row_features,
                                 .numbers = row_numbers};
        providers_prepare(&c->list, &row);
        for (size_t i = 0; i < n_numbers; i++) {
            c->numbers[i * PS_SEGMENT + j] = row_numbers[i];
        }
    }
    c->tile.features = c->features;
    c->tile.feature_stride = stride;
    c->tile.numbers = c->numbers;
    ps_mem_free(row_features);
    ps_mem_free(row_numbers);
}

/* A block at a random place; the keys are those that the span and causality leave it in one of its
 * segments. */
static tile_case tile_case_roll(dice *d, provider_kind kind, const ps_engine *engine)
{
    tile_case c = {.shape = shape_roll(d)};
    ps_bias_tile *t = &c.tile;
    providers_add(&c.list, kind, &c.shape, engine, d);
    t->n_queries = 1 + dice_throw(d, 24);
    const int group = c.shape.n_heads / c.shape.n_kv_heads;
    t->first_head = dice_throw(d, c.shape.n_kv_heads) * group;
    t->n_heads = group;
    t->first_position = dice_throw(d, 3000);
    const int64_t newest = t->first_position + t->n_queries - 1 + c.shape.ahead;
    const int64_t oldest = t->first_position - c.shape.span + 1;
    const int64_t first = oldest < 0 ? 0 : oldest;
    t->start =
        (first / PS_SEGMENT + dice_throw(d, (int)(newest / PS_SEGMENT - first / PS_SEGMENT) + 1)) *
        PS_SEGMENT;
    t->first = first > t->start ? (int)(first - t->start) : 0;
    t->last = newest - t->start < PS_SEGMENT ? (int)(newest - t->start) + 1 : PS_SEGMENT;
    roll_rows(&c, d);
    c.bias_floats = (size_t)(t->n_heads * t->n_queries) * PS_SEGMENT;
    c.before = floats_new_rolled(d, c.bias_floats, -1.0, 1.0);
    t->bias = floats_new(c.bias_floats);
    memcpy(t->bias, c.before, c.bias_floats * sizeof *c.before);
    c.scratch_floats = ps_bias_scratch_floats(t->n_queries);
    t->scratch = c.scratch = floats_new_poisoned(c.scratch_floats + 1);
    return c;
}

static void tile_case_release(tile_case *c)
{
    ck_assert(floats_untouched(c->scratch + c->scratch_floats, 1));
    ps_mem_free(c->query_x);
    ps_mem_free(c->q);
    ps_mem_free(c->features);
    ps_mem_free(c->key_x);
    ps_mem_free(c->k);
    ps_mem_free(c->numbers);
    ps_mem_free(c->before);
    ps_mem_free(c->scratch);
    ps_mem_free(c->tile.bias);
    providers_release(&c->list);
}

static bool can_occur(const tile_case *c, int query, int key)
{
    const int64_t distance = c->tile.first_position + query - c->tile.start - key;
    return distance >= -c->shape.ahead && distance < c->shape.span;
}

static double reference(const tile_case *c, int head, int query, int key)
{
    const size_t width = (size_t)c->shape.width;
    const size_t q = (size_t)(c->shape.n_heads * c->shape.head_dim);
    const size_t k = (size_t)(c->shape.n_kv_heads * c->shape.head_dim);
    const provider_pair pair = {.head = c->tile.first_head + head,
                                .distance = c->tile.first_position + query - c->tile.start - key,
                                .position = c->tile.first_position + query,
                                .query_x = c->query_x + (size_t)query * width,
                                .q = c->q + (size_t)query * q,
                                .key_x = c->key_x + (size_t)key * width,
                                .k = c->k + (size_t)key * k};
    return provider_reference(&c->list.item[0], &pair);
}

START_TEST(a_tile_gets_the_bias_of_every_pair_added)
{
    dice d = {.seed = (uint64_t)_i};
    ps_engine engine = engines_open(1);
    tile_case c = tile_case_roll(&d, (provider_kind)(_i % PROVIDER_FOX), &engine);
    ps_bias_fill_tile(&c.list.bias[0], engine.kernels, &c.tile);
    for (int r = 0; r < c.tile.n_heads * c.tile.n_queries; r++) {
        const int head = r / c.tile.n_queries, query = r % c.tile.n_queries;
        const float *row = c.tile.bias + (size_t)r * PS_SEGMENT;
        const float *before = c.before + (size_t)r * PS_SEGMENT;
        for (int j = c.tile.first; j < c.tile.last; j++) {
            if (!can_occur(&c, query, j)) continue;
            const double wanted = (double)before[j] + reference(&c, head, query, j);
            ck_assert_msg(fabs((double)row[j] - wanted) <= 2e-5 + 0x1p-22 * fabs(wanted),
                          "head %d query %d key %d: %g, not %g", head, query, j, (double)row[j],
                          wanted);
        }
        ck_assert_mem_eq(row, before, (size_t)c.tile.first * sizeof *row);
        ck_assert_mem_eq(row + c.tile.last, before + c.tile.last,
                         (size_t)(PS_SEGMENT - c.tile.last) * sizeof *row);
    }
    tile_case_release(&c);
    ps_engine_close(&engine);
}
END_TEST

/* One query of the block alone, over a random part of the keys that it can have; false when it has
 * none in this segment. */
static bool fill_part(const tile_case *c, const ps_engine *engine, dice *d, int query,
                      ps_bias_tile *part, float *bias)
{
    *part = c->tile;
    while (part->first < part->last && !can_occur(c, query, part->first)) {
        part->first++;
    }
    while (part->first < part->last && !can_occur(c, query, part->last - 1)) {
        part->last--;
    }
    if (part->first == part->last) return false;
    part->n_queries = 1;
    part->first_position += query;
    part->features += (size_t)query * part->feature_stride;
    part->first += dice_throw(d, part->last - part->first);
    part->last -= dice_throw(d, part->last - part->first);
    part->bias = bias;
    memset(bias, 0, (size_t)part->n_heads * PS_SEGMENT * sizeof *bias);
    ps_bias_fill_tile(&c->list.bias[0], engine->kernels, part);
    return true;
}

START_TEST(bits_of_a_bias_do_not_depend_on_the_rest_of_the_tile_nor_on_the_set)
{
    dice d = {.seed = 70 + (uint64_t)_i};
    engines_all all = engines_open_all();
    tile_case c = tile_case_roll(&d, (provider_kind)(_i % PROVIDER_FOX), &all.engine[0]);
    memset(c.tile.bias, 0, c.bias_floats * sizeof *c.tile.bias);
    ps_bias_fill_tile(&c.list.bias[0], all.engine[0].kernels, &c.tile);
    float *alone = floats_new((size_t)c.tile.n_heads * PS_SEGMENT);
    for (int query = 0; query < c.tile.n_queries; query++) {
        ps_bias_tile part;
        if (!fill_part(&c, &all.engine[query % all.n], &d, query, &part, alone)) continue;
        for (int head = 0; head < c.tile.n_heads; head++) {
            const float *row = c.tile.bias + (size_t)(head * c.tile.n_queries + query) * PS_SEGMENT;
            for (int j = part.first; j < part.last; j++) {
                ck_assert_mem_eq(&alone[head * PS_SEGMENT + j], &row[j], sizeof *row);
            }
        }
    }
    ps_mem_free(alone);
    tile_case_release(&c);
    engines_close_all(&all);
}
END_TEST

START_TEST(a_hidden_key_gets_minus_infinity_from_every_query_and_the_others_nothing)
{
    enum { QUERIES = 3, HEADS = 2, FIRST = 40, LAST = 170 };
    const ps_bias bias = {.kind = PS_BIAS_KEY_MASK, .n_heads = HEADS, .n_kv_heads = 1};
    ck_assert_int_eq(ps_bias_features(&bias), 0);
    ck_assert_int_eq(ps_bias_numbers(&bias), 1);
    dice d = {.seed = 3};
    ps_engine engine = engines_open(1);
    float *numbers = floats_new_poisoned(PS_SEGMENT);
    float *before = floats_new_rolled(&d, (size_t)HEADS * QUERIES * PS_SEGMENT, -1.0, 1.0);
    float *found = floats_new((size_t)HEADS * QUERIES * PS_SEGMENT);
    memcpy(found, before, (size_t)HEADS * QUERIES * PS_SEGMENT * sizeof *found);
    for (int j = FIRST; j < LAST; j++) {
        const ps_bias_row row = {.hidden = j % 3 == 0, .numbers = &numbers[j]};
        ps_bias_prepare_row(&bias, &row);
    }
    ps_bias_tile tile = {.n_heads = HEADS,
                         .n_queries = QUERIES,
                         .first_position = 100,
                         .first = FIRST,
                         .last = LAST,
                         .bias = found};
    tile.numbers = numbers;
    ps_bias_fill_tile(&bias, engine.kernels, &tile);
    for (int i = 0; i < HEADS * QUERIES * PS_SEGMENT; i++) {
        const int j = i % PS_SEGMENT;
        const bool hidden = j >= FIRST && j < LAST && j % 3 == 0;
        ck_assert(found[i] == (hidden ? -INFINITY : before[i]));
    }
    ps_mem_free(numbers);
    ps_mem_free(before);
    ps_mem_free(found);
    ps_engine_close(&engine);
}
END_TEST

START_TEST(providers_say_what_they_need)
{
    static const struct {
        const char *name;
        int features, numbers;
        bool accumulates;
    } wanted[] = {
        [PS_BIAS_ALIBI] = {"alibi", 0, 0, false},
        [PS_BIAS_REL_POS] = {"rel_pos", 32, 8, false},
        [PS_BIAS_T5] = {"t5", 0, 0, false},
        [PS_BIAS_KERPLE_LOG] = {"kerple_log", 0, 0, false},
        [PS_BIAS_KERPLE_POWER] = {"kerple_power", 0, 0, false},
        [PS_BIAS_SANDWICH] = {"sandwich", 0, 0, false},
        [PS_BIAS_FIRE] = {"fire", 0, 0, false},
        [PS_BIAS_FOX] = {"fox", 16, 16, true},
        [PS_BIAS_KEY_MASK] = {"key_mask", 0, 1, false},
        [PS_BIAS_CUSTOM] = {"custom", 3, 2, false},
    };
    for (int kind = 0; kind < PS_BIAS_KIND_COUNT; kind++) {
        const ps_bias bias = {.kind = (ps_bias_kind)kind,
                              .n_heads = 8,
                              .head_dim = 4,
                              .n_features = 3,
                              .n_numbers = 2};
        ck_assert_str_eq(ps_bias_kind_name(bias.kind), wanted[kind].name);
        ck_assert_int_eq(ps_bias_features(&bias), wanted[kind].features);
        ck_assert_int_eq(ps_bias_numbers(&bias), wanted[kind].numbers);
        ck_assert_int_eq(ps_bias_accumulates(&bias), wanted[kind].accumulates);
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("bias");
    tcase_set_timeout(tcase, 60.0);
    tcase_add_test(tcase, alibi_slopes_are_the_published_ones);
    tcase_add_test(tcase, a_factor_multiplies_every_slope_with_one_rounding);
    tcase_add_test(tcase, alibi_slopes_of_8_and_32_and_40_heads_have_their_known_values);
    tcase_add_loop_test(tcase, the_table_is_w_pos_times_the_encoding_of_every_distance, 0, 15);
    tcase_add_loop_test(tcase, the_table_has_the_same_bits_from_every_engine, 0, 5);
    tcase_add_loop_test(tcase, rel_pos_keeps_q_plus_v_and_the_keys_product_with_u, 0, 10);
    tcase_add_loop_test(tcase, a_tile_gets_the_bias_of_every_pair_added, 0, DICE_ROUNDS(120));
    tcase_add_loop_test(tcase, bits_of_a_bias_do_not_depend_on_the_rest_of_the_tile_nor_on_the_set,
                        0, DICE_ROUNDS(40));
    tcase_add_test(tcase, a_hidden_key_gets_minus_infinity_from_every_query_and_the_others_nothing);
    tcase_add_test(tcase, providers_say_what_they_need);
    Suite *suite = suite_create("math/bias");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
