/* Products with quantised weights: exactly the bits that math/panel.h states, by scalar C with sums
 * in 64 bits, for every format, all kinds of activations, any number of rows and threads and every
 * instruction set; and near the double-precision sum over the widened weights.
 *
 * The loop number gives format and seed: _i % QUANTISED is the format. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/isa.h"
#include "math/kernels.h"
#include "math/linear.h"
#include "math/panel.h"
#include "support/engines.h"
#include "support/floats.h"
#include "support/matrices.h"
#include "support/quant_rows.h"

enum { QUANTISED = PS_DTYPE_COUNT - PS_DTYPE_FLOATS, ROWS_MAX = 40, GAP = 5, GUARD = 64 };

static ps_dtype format_of(int i)
{
    return (ps_dtype)(PS_DTYPE_FLOATS + i % QUANTISED);
}

static int limit_of(ps_activations activations)
{
    return activations == PS_ACTIVATIONS_I8 ? 127 : 32639;
}

typedef struct product {
    quant_matrix weight;
    int rows;
    float *x, *out;
    size_t x_stride, out_stride;
} product;

/* k blocks up to 1536 values, so that sums have one to three blocks of PS_PANEL_BLOCK. */
static product product_roll(dice *d, ps_dtype dtype, int rows, quant_pattern pattern)
{
    const int values = ps_dtype_block_values(dtype);
    const int k = values * (1 + dice_throw(d, 1536 / values)), n = 1 + dice_throw(d, 75);
    product p = {.rows = rows,
                 .x_stride = (size_t)k + (size_t)dice_throw(d, GAP),
                 .out_stride =
                     (size_t)ps_panel_count(n) * PS_PANEL_LANES + (size_t)dice_throw(d, GAP)};
    p.weight = quant_matrix_roll(d, dtype, n, k, pattern, dice_throw(d, 2) != 0);
    p.x = floats_new_poisoned((size_t)rows * p.x_stride);
    p.out = floats_new((size_t)rows * p.out_stride);
    for (int r = 0; r < rows; r++) {
        // Runs of different size, one without any value but zero.
        float *x = p.x + (size_t)r * p.x_stride;
        const double size = ldexp(1.0, dice_throw(d, 20) - 10);
        floats_roll(d, x, (size_t)k, -size, size);
        if (dice_throw(d, 3) == 0) memset(x + 32 * dice_throw(d, k / 32), 0, 32 * sizeof *x);
    }
    return p;
}

static void product_release(product *p)
{
    quant_matrix_release(&p->weight);
    ps_mem_free(p->x);
    ps_mem_free(p->out);
}

static ps_linear_call call_of(const product *p, int first, int rows, float *out)
{
    return (ps_linear_call){.weight = &p->weight.linear,
                            .x = p->x + (size_t)first * p->x_stride,
                            .x_stride = p->x_stride,
                            .out = out,
                            .out_stride = p->out_stride,
                            .rows = rows};
}

/* As many bytes as are asked for, with a guard behind them. */
static ps_linear_scratch scratch_new(const ps_engine *engine, int rows, int k)
{
    ps_linear_scratch s = {.bytes =
                               ps_linear_scratch_bytes(engine->gemm, engine->activations,
                                                       ps_pool_threads(engine->pool), rows, k)};
    char *memory = ps_mem_new(s.bytes + GUARD, 1);
    memset(memory, 0xA5, s.bytes + GUARD);
    s.memory = memory;
    return s;
}

static void scratch_release(ps_linear_scratch *s)
{
    const unsigned char *guard = (const unsigned char *)s->memory + s->bytes;
    for (int i = 0; i < GUARD; i++) {
        ck_assert_uint_eq(guard[i], 0xA5);
    }
    ps_mem_free(s->memory);
}

static void compute(const ps_engine *engine, product *p)
{
    ps_linear_scratch scratch = scratch_new(engine, p->rows, p->weight.linear.k);
    floats_poison(p->out, (size_t)p->rows * p->out_stride);
    const ps_linear_call call = call_of(p, 0, p->rows, p->out);
    ps_linear_forward(engine, &call, 1, &scratch);
    scratch_release(&scratch);
}

/* wanted[rows, n] */
static float *reference(const product *p, int limit)
{
    const int n = p->weight.linear.n;
    float *wanted = floats_new((size_t)p->rows * (size_t)n);
    for (int r = 0; r < p->rows; r++) {
        for (int o = 0; o < n; o++) {
            wanted[r * n + o] =
                quant_row_times(&p->weight, o, p->x + (size_t)r * p->x_stride, limit);
        }
    }
    return wanted;
}

static void check_bits(const product *p, const float *wanted, const ps_engine *engine)
{
    const size_t n = (size_t)p->weight.linear.n;
    for (int r = 0; r < p->rows; r++) {
        const float *found = p->out + (size_t)r * p->out_stride;
        const size_t at = floats_first_difference(found, wanted + (size_t)r * n, n);
        ck_assert_msg(at == n, "%s on %s: row %d of %d, output %zu of %zu, k %d: %a, not %a",
                      ps_dtype_name(p->weight.linear.dtype), engine->kernels->name, r, p->rows, at,
                      n, p->weight.linear.k, (double)found[at], (double)wanted[(size_t)r * n + at]);
    }
}

/* Every instruction set, on one to three threads. */
static void check_all_engines(product *p, ps_activations activations, const float *wanted)
{
    for (int isa = 0; isa < ps_isa_count(); isa++) {
        if (!ps_isa_supported(isa)) continue;
        ps_engine engine = engines_open_isa(isa, 1 + isa % 3, PS_GEMM_PANEL);
        engine.activations = activations;
        compute(&engine, p);
        check_bits(p, wanted, &engine);
        ps_engine_close(&engine);
    }
}

START_TEST(products_have_the_bits_of_the_stated_order)
{
    dice d = {.seed = (uint64_t)_i};
    const ps_activations activations =
        _i / QUANTISED % 3 == 2 ? PS_ACTIVATIONS_I8 : PS_ACTIVATIONS_I16;
    const int few = 1 + _i / QUANTISED % 10;
    product p = product_roll(&d, format_of(_i),
                             dice_throw(&d, 2) ? few : 1 + dice_throw(&d, ROWS_MAX), QUANT_ANY);
    float *wanted = reference(&p, limit_of(activations));
    check_all_engines(&p, activations, wanted);
    ps_mem_free(wanted);
    product_release(&p);
}
END_TEST

START_TEST(every_number_of_rows_gives_a_row_the_same_bits)
{
    dice d = {.seed = 100 + (uint64_t)_i};
    product p = product_roll(&d, format_of(_i), ROWS_MAX, QUANT_ANY);
    float *wanted = reference(&p, 32639);
    ps_engine engine = engines_open(1 + _i % 3);
    for (p.rows = 1; p.rows <= ROWS_MAX; p.rows++) {
        compute(&engine, &p);
        check_bits(&p, wanted, &engine);
    }
    ps_engine_close(&engine);
    ps_mem_free(wanted);
    product_release(&p);
}
END_TEST

/* 5 rows are multiplied as the codes come from memory, 34 by way of an unpacked block. Activations
 * at +-1 in patterns that let the integers of a sub-block grow as far as they can. */
START_TEST(extreme_weights_and_activations_do_not_overflow)
{
    dice d = {.seed = 200 + (uint64_t)_i};
    for (int pattern = QUANT_ZEROS; pattern < QUANT_PATTERN_COUNT; pattern++) {
        product p =
            product_roll(&d, format_of(_i), _i < QUANTISED ? 5 : 34, (quant_pattern)pattern);
        const int k = p.weight.linear.k;
        for (int r = 0; r < p.rows; r++) {
            for (int i = 0; i < k; i++) {
                const int sign = r < 2 ? r : r < 6 ? i >> (r - 2) & 1 : dice_throw(&d, 2);
                p.x[(size_t)r * p.x_stride + (size_t)i] = sign ? -1.0f : 1.0f;
            }
        }
        float *wanted = reference(&p, 32639);
        check_all_engines(&p, PS_ACTIVATIONS_I16, wanted);
        ps_mem_free(wanted);
        product_release(&p);
    }
}
END_TEST

/* The codes that multiply to the largest magnitude, each with the sign of its activation. */
START_TEST(weights_that_follow_the_signs_of_the_activations_do_not_overflow)
{
    dice d = {.seed = 250 + (uint64_t)_i};
    product p = product_roll(&d, format_of(_i), _i < QUANTISED ? 5 : 34, QUANT_ANY);
    const int k = p.weight.linear.k;
    for (int r = 0; r < p.rows; r++) {
        const float *w = p.weight.values + (size_t)(r % p.weight.linear.n) * (size_t)k;
        for (int i = 0; i < k; i++) {
            p.x[(size_t)r * p.x_stride + (size_t)i] = w[i] < 0.0f ? -0x1p100f : 0x1p100f;
        }
    }
    float *wanted = reference(&p, 32639);
    check_all_engines(&p, PS_ACTIVATIONS_I16, wanted);
    ps_mem_free(wanted);
    product_release(&p);
}
END_TEST

static void check_near(const product *p, int limit)
{
    const int n = p->weight.linear.n, k = p->weight.linear.k;
    for (int r = 0; r < p->rows; r++) {
        const float *x = p->x + (size_t)r * p->x_stride;
        for (int o = 0; o < n; o++) {
            const float *w = p->weight.values + (size_t)o * (size_t)k;
            double sum = p->weight.bias ? (double)p->weight.bias[o] : 0.0;
            for (int i = 0; i < k; i++) {
                sum += (double)x[i] * (double)w[i];
            }
            const double error = fabs((double)p->out[(size_t)r * p->out_stride + (size_t)o] - sum);
            const double bound = quant_rounding_bound(&p->weight, o, x, limit);
            ck_assert_msg(error <= bound, "%s row %d output %d: error %g, bound %g",
                          ps_dtype_name(p->weight.linear.dtype), r, o, error, bound);
        }
    }
}

START_TEST(products_are_near_the_sum_over_the_widened_weights)
{
    dice d = {.seed = 300 + (uint64_t)_i};
    ps_engine engine = engines_open(2);
    for (int a = 0; a < PS_ACTIVATIONS_COUNT; a++) {
        product p = product_roll(&d, format_of(_i), 1 + dice_throw(&d, ROWS_MAX), QUANT_ANY);
        engine.activations = (ps_activations)a;
        compute(&engine, &p);
        check_near(&p, limit_of((ps_activations)a));
        product_release(&p);
    }
    ps_engine_close(&engine);
}
END_TEST

START_TEST(under_f32_activations_the_order_is_that_of_float_weights)
{
    dice d = {.seed = 400 + (uint64_t)_i};
    product p = product_roll(&d, format_of(_i), 1 + dice_throw(&d, 20), QUANT_ANY);
    const int n = p.weight.linear.n;
    const matrix widened = {
        .linear = p.weight.linear, .values = p.weight.values, .bias = p.weight.bias};
    float *wanted = floats_new((size_t)p.rows * (size_t)n);
    for (int r = 0; r < p.rows; r++) {
        for (int o = 0; o < n; o++) {
            wanted[r * n + o] = matrix_row_times(&widened, o, p.x + (size_t)r * p.x_stride);
        }
    }
    check_all_engines(&p, PS_ACTIVATIONS_F32, wanted);
    ps_mem_free(wanted);
    product_release(&p);
}
END_TEST

START_TEST(blas_multiplies_the_widened_weights)
{
    dice d = {.seed = 500 + (uint64_t)_i};
    ps_engine engine = engines_open_isa(0, 1 + _i % 3, PS_GEMM_BLAS);
    product p = product_roll(&d, format_of(_i), PS_LINEAR_BLAS_ROWS + dice_throw(&d, 5), QUANT_ANY);
    compute(&engine, &p);
    check_near(&p, 1 << 22);
    product_release(&p);
    ps_engine_close(&engine);
}
END_TEST

/* Query, key and value of one input, another input, and a float matrix, in one call. */
START_TEST(calls_share_a_rounding_only_where_the_input_is_the_same)
{
    enum { CALLS = 5 };
    dice d = {.seed = 600 + (uint64_t)_i};
    ps_engine engine = engines_open(2);
    product p = product_roll(&d, format_of(_i), 7, QUANT_ANY);
    const int n = p.weight.linear.n, k = p.weight.linear.k;
    float *wanted = reference(&p, 32639), *more = floats_new((size_t)CALLS * 7 * p.out_stride);
    matrix plain = matrix_roll(&d, PS_F16, n, k, 1.0, false);
    ps_linear_call calls[CALLS];
    for (int c = 0; c < CALLS; c++) {
        calls[c] = call_of(&p, 0, 7, more + (size_t)c * 7 * p.out_stride);
    }
    calls[1].weight = &plain.linear; // leaves the rounding of call 0 to call 2
    calls[3].x += p.x_stride;        // rows 1 .. 6
    calls[3].rows = 6;
    calls[4].rows = 5; // the same beginning, fewer rows
    ps_linear_scratch scratch = scratch_new(&engine, 7 + 6 + 5, k);
    ps_linear_forward(&engine, calls, CALLS, &scratch);
    static const int first_row[CALLS] = {0, 0, 0, 1, 0};
    for (int c = 0; c < CALLS; c++) {
        for (int r = 0; r < calls[c].rows; r++) {
            for (int o = 0; o < n; o++) {
                const float found = calls[c].out[(size_t)r * p.out_stride + (size_t)o];
                const float *x = p.x + (size_t)(first_row[c] + r) * p.x_stride;
                const float want =
                    c == 1 ? matrix_row_times(&plain, o, x) : wanted[(first_row[c] + r) * n + o];
                ck_assert_msg(memcmp(&found, &want, sizeof want) == 0, "call %d row %d", c, r);
            }
        }
    }
    scratch_release(&scratch);
    ps_mem_free(wanted);
    ps_mem_free(more);
    matrix_release(&plain);
    product_release(&p);
    ps_engine_close(&engine);
}
END_TEST

START_TEST(what_is_not_finite_makes_its_row_nan_and_no_other)
{
    static const float bad[3] = {NAN, HUGE_VALF, -HUGE_VALF};
    dice d = {.seed = 700 + (uint64_t)_i};
    product p = product_roll(&d, format_of(_i), 1 + dice_throw(&d, 12), QUANT_ANY);
    const int spoiled = dice_throw(&d, p.rows), n = p.weight.linear.n;
    p.x[(size_t)spoiled * p.x_stride + (size_t)dice_throw(&d, p.weight.linear.k)] = bad[_i % 3];
    for (int isa = 0; isa < ps_isa_count(); isa++) {
        if (!ps_isa_supported(isa)) continue;
        ps_engine engine = engines_open_isa(isa, 1, PS_GEMM_PANEL);
        compute(&engine, &p);
        for (int r = 0; r < p.rows; r++) {
            for (int o = 0; o < n; o++) {
                const float found = p.out[(size_t)r * p.out_stride + (size_t)o];
                ck_assert_int_eq(isnan(found) != 0, r == spoiled);
            }
        }
        ps_engine_close(&engine);
    }
    product_release(&p);
}
END_TEST

/* Runs of any floats: zeros, denormals, the largest, with ties and values that are not finite. */
static void roll_run(dice *d, float *x)
{
    const uint32_t exponent = (uint32_t)dice_throw(d, 256);
    for (int i = 0; i < 32; i++) {
        uint32_t bits = (uint32_t)dice_bits(d) & 0x807FFFFF;
        const uint32_t lower = (uint32_t)dice_throw(d, 20);
        bits |= (exponent > lower ? exponent - lower : 0) << 23;
        memcpy(&x[i], &bits, sizeof bits);
        if (dice_throw(d, 9) == 0) x[i] = 0.0f;
    }
}

static void check_run(const float *x, const ps_rounded *r, int limit)
{
    double largest = 0.0;
    bool finite = true;
    int sum[2] = {0, 0};
    for (int i = 0; i < 32; i++) {
        finite = finite && isfinite(x[i]);
        largest = fmax(largest, fabs((double)x[i]));
        ck_assert_int_le(abs(r->q[i]), limit);
        sum[i / 16] += r->q[i];
    }
    ck_assert(r->sum[0] == sum[0] && r->sum[1] == sum[1] && r->sum[2] == sum[0] + sum[1]);
    ck_assert_int_eq(isnan(r->scale) != 0, !finite);
    if (!finite) {
        ck_assert(isnan(r->scaled_sum[0]) && isnan(r->scaled_sum[1]) && isnan(r->scaled_sum[2]));
        return;
    }
    ck_assert(r->scale == 0.0f || r->scale >= 0x1p-126f);
    for (int i = 0; i < 32; i++) {
        const double error = fabs((double)r->scale * r->q[i] - (double)x[i]);
        ck_assert(error <= (r->scale > 0.0f ? 0.502 * (double)r->scale : 0x1p-126 * limit));
    }
    for (int i = 0; i < 3; i++) {
        ck_assert(r->scaled_sum[i] == r->scale * (float)r->sum[i]);
    }
}

/* The same run as plain integers. */
static ps_rounded plain_run(const ps_rounded *bytes)
{
    ps_rounded plain = *bytes;
    for (int i = 0; i < 32; i++) {
        const int at = i / 4 * 4 + (int[]){0, 2, 1, 3}[i % 4];
        plain.q[i] = (int16_t)(256 * bytes->upper[at] + bytes->lower[at]);
    }
    return plain;
}

START_TEST(activations_round_to_the_nearest_step_with_the_same_bits_everywhere)
{
    enum { RUNS = 500 };
    dice d = {.seed = 800 + (uint64_t)_i};
    const int limit = _i % 2 ? 127 : 32639;
    float *x = floats_new(RUNS * 32);
    ps_rounded *portable = ps_mem_new(RUNS, sizeof *portable),
               *found = ps_mem_new(RUNS, sizeof *found);
    for (int r = 0; r < RUNS; r++) {
        roll_run(&d, x + 32 * r);
    }
    for (int i = 0; i < 32; i++) { // ties: 2i + 1 halves of a step of 1
        x[i] = i == 0 ? (float)limit : (float)i - 15.5f;
    }
    for (int isa = 0; isa < ps_isa_count(); isa++) {
        const ps_kernels *kernels;
        if (!ps_isa_supported(isa)) continue;
        ck_assert_int_eq(ps_isa_kernels(ps_isa_name(isa), &kernels), PS_OK);
        const bool pairs = _i / 2 % 2 != 0;
        kernels->round_row(x, RUNS * 32, limit, pairs, isa == 0 ? portable : found);
        for (int r = 0; r < RUNS && kernels->rounds_to_bytes && !pairs; r++) {
            found[r] = plain_run(&found[r]);
        }
        if (isa > 0) ck_assert_mem_eq(found, portable, RUNS * sizeof *found);
    }
    for (int r = 0; r < RUNS; r++) {
        check_run(x + 32 * r, &portable[r], limit);
    }
    for (int i = 1; i < 32; i++) {
        ck_assert_int_eq(portable[0].q[i], (int)nearbyint(i - 15.5));
    }
    ps_mem_free(x);
    ps_mem_free(portable);
    ps_mem_free(found);
}
END_TEST

/* quant_widen is what the products under f32 activations and BLAS see. */
START_TEST(kernels_widen_to_the_bits_of_the_source)
{
    dice d = {.seed = 900 + (uint64_t)_i};
    product p = product_roll(&d, format_of(_i), 1, QUANT_ANY);
    const int k = p.weight.linear.k, n = p.weight.linear.n;
    const int step = ps_dtype_block_values(p.weight.linear.dtype);
    const int k0 = step * dice_throw(&d, k / step);
    float *out = floats_new((size_t)k * PS_PANEL_LANES);
    for (int isa = 0; isa < ps_isa_count(); isa++) {
        const ps_kernels *kernels;
        if (!ps_isa_supported(isa)) continue;
        ck_assert_int_eq(ps_isa_kernels(ps_isa_name(isa), &kernels), PS_OK);
        floats_poison(out, (size_t)k * PS_PANEL_LANES);
        kernels->quant_widen(p.weight.linear.dtype, p.weight.panels, k0, k, out);
        for (int i = k0; i < k; i++) {
            for (int lane = 0; lane < n && lane < PS_PANEL_LANES; lane++) {
                const float *found = &out[(i - k0) * PS_PANEL_LANES + lane];
                ck_assert_mem_eq(found, &p.weight.values[lane * k + i], sizeof *found);
            }
        }
    }
    ps_mem_free(out);
    product_release(&p);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("linear_quant");
    tcase_set_timeout(tcase, 120.0);
    tcase_add_loop_test(tcase, products_have_the_bits_of_the_stated_order, 0, 4 * QUANTISED);
    tcase_add_loop_test(tcase, every_number_of_rows_gives_a_row_the_same_bits, 0, QUANTISED);
    tcase_add_loop_test(tcase, extreme_weights_and_activations_do_not_overflow, 0, 2 * QUANTISED);
    tcase_add_loop_test(tcase, weights_that_follow_the_signs_of_the_activations_do_not_overflow, 0,
                        2 * QUANTISED);
    tcase_add_loop_test(tcase, products_are_near_the_sum_over_the_widened_weights, 0, QUANTISED);
    tcase_add_loop_test(tcase, under_f32_activations_the_order_is_that_of_float_weights, 0,
                        2 * QUANTISED);
    tcase_add_loop_test(tcase, blas_multiplies_the_widened_weights, 0, QUANTISED);
    tcase_add_loop_test(tcase, calls_share_a_rounding_only_where_the_input_is_the_same, 0,
                        QUANTISED);
    tcase_add_loop_test(tcase, what_is_not_finite_makes_its_row_nan_and_no_other, 0, QUANTISED);
    tcase_add_loop_test(tcase, activations_round_to_the_nearest_step_with_the_same_bits_everywhere,
                        0, 8);
    tcase_add_loop_test(tcase, kernels_widen_to_the_bits_of_the_source, 0, QUANTISED);
    Suite *suite = suite_create("math/linear_quant");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
