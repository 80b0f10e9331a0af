/* Products with matrices of random shapes: near the truth, which a double loop computes, and with
 * exactly the bits of the order that math/panel.h states, however many rows and threads take part
 * and whatever instruction set they use. */
#include "math/linear.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "math/isa.h"
#include "math/panel.h"
#include "support/engines.h"
#include "support/floats.h"
#include "support/matrices.h"

enum { ROWS_MAX = 40, INNER_MAX = 3000, OUTER_MAX = 900, GAP = 5 };

/* A matrix, rows for it with spoiled gaps between them, and room for results. */
typedef struct product {
    matrix weight;
    int rows;
    float *x, *out;
    size_t x_stride, out_stride;
} product;

static product product_roll(dice *d, ps_dtype dtype, int work_max)
{
    // Sizes of all magnitudes, not mostly large ones.
    const int k = 1 + (int)exp(dice_real(d, 0.0, log((double)INNER_MAX)));
    int n = 1 + (int)exp(dice_real(d, 0.0, log((double)OUTER_MAX)));
    int rows = 1 + dice_throw(d, ROWS_MAX);
    while ((double)n * k * rows > work_max) {
        n = (n + 1) / 2;
        rows = (rows + 1) / 2;
        if (n == 1 && rows == 1) break;
    }
    product p = {.rows = rows,
                 .x_stride = (size_t)k + (size_t)dice_throw(d, GAP),
                 .out_stride =
                     (size_t)ps_panel_count(n) * PS_PANEL_LANES + (size_t)dice_throw(d, GAP)};
    p.weight = matrix_roll(d, dtype, n, k, 1.0, dice_throw(d, 2) != 0);
    p.x = floats_new_poisoned((size_t)rows * p.x_stride);
    for (int r = 0; r < rows; r++) {
        floats_roll(d, p.x + (size_t)r * p.x_stride, (size_t)k, -2.0, 2.0);
    }
    p.out = floats_new((size_t)rows * p.out_stride);
    return p;
}

static void product_release(product *p)
{
    matrix_release(&p->weight);
    ps_mem_free(p->x);
    ps_mem_free(p->out);
}

static ps_linear_call call_of(const product *p, int first_row, int rows, float *out)
{
    return (ps_linear_call){.weight = &p->weight.linear,
                            .x = p->x + (size_t)first_row * p->x_stride,
                            .x_stride = p->x_stride,
                            .out = out,
                            .out_stride = p->out_stride,
                            .rows = rows};
}

static ps_linear_scratch scratch_new(const ps_engine *engine, int rows, int k)
{
    ps_linear_scratch s = {.bytes =
                               ps_linear_scratch_bytes(engine->gemm, engine->activations,
                                                       ps_pool_threads(engine->pool), rows, k)};
    s.memory = ps_mem_new(s.bytes, 1);
    return s;
}

/* The results of `engine` for rows first_row .. + rows, into p->out from its start on. */
static void compute(const ps_engine *engine, product *p, int first_row, int rows,
                    const ps_linear_scratch *scratch)
{
    floats_poison(p->out, (size_t)p->rows * p->out_stride);
    const ps_linear_call call = call_of(p, first_row, rows, p->out);
    ps_linear_forward(engine, &call, 1, scratch);
}

/* Error bound of a sum of `terms` roundings over values whose sizes add up to `size`. */
static double bound(int terms, double size)
{
    return (double)terms * 0x1p-24 * size;
}

static void check_near(const product *p, int roundings)
{
    const int k = p->weight.linear.k;
    for (int r = 0; r < p->rows; r++) {
        for (int n = 0; n < p->weight.linear.n; n++) {
            const float *x = p->x + (size_t)r * p->x_stride;
            const float *w = p->weight.values + (size_t)n * (size_t)k;
            double sum = p->weight.bias ? (double)p->weight.bias[n] : 0.0, size = fabs(sum);
            for (int i = 0; i < k; i++) {
                sum += (double)x[i] * (double)w[i];
                size += fabs((double)x[i] * (double)w[i]);
            }
            const double found = (double)p->out[(size_t)r * p->out_stride + (size_t)n];
            ck_assert_msg(fabs(found - sum) <= bound(roundings, size),
                          "row %d output %d of K %d is %a, not %a", r, n, k, found, sum);
        }
    }
}

START_TEST(products_are_near_the_double_precision_sum)
{
    dice d = {.seed = (uint64_t)_i};
    ps_engine engine = engines_open(1 + _i % 2);
    product p = product_roll(&d, (ps_dtype)(_i % PS_DTYPE_FLOATS), 5000000);
    compute(&engine, &p, 0, p.rows, NULL);
    const int k = p.weight.linear.k;
    check_near(&p, (k < PS_PANEL_BLOCK ? k : PS_PANEL_BLOCK) + k / PS_PANEL_BLOCK + 2);
    product_release(&p);
    ps_engine_close(&engine);
}
END_TEST

/* wanted[rows, n], by the order written down in math/panel.h. */
static float *scalar_results(const product *p)
{
    const size_t n = (size_t)p->weight.linear.n;
    float *wanted = floats_new((size_t)p->rows * n);
    for (int r = 0; r < p->rows; r++) {
        for (size_t o = 0; o < n; o++) {
            wanted[(size_t)r * n + o] =
                matrix_row_times(&p->weight, (int)o, p->x + (size_t)r * p->x_stride);
        }
    }
    return wanted;
}

static void check_bits(const product *p, const float *wanted, int first_row, int rows)
{
    const size_t n = (size_t)p->weight.linear.n;
    for (int r = 0; r < rows; r++) {
        const size_t at = floats_first_difference(p->out + (size_t)r * p->out_stride,
                                                  wanted + (size_t)(first_row + r) * n, n);
        ck_assert_msg(at == n, "row %d of %d, output %zu of %zu, K %d", r, rows, at, n,
                      p->weight.linear.k);
    }
}

START_TEST(bits_are_those_of_the_stated_order_on_all_sets_and_threads)
{
    dice d = {.seed = 1000 + (uint64_t)_i};
    product p = product_roll(&d, (ps_dtype)(_i % PS_DTYPE_FLOATS), 1500000);
    float *wanted = scalar_results(&p);
    engines_all all = engines_open_all();
    for (int e = 0; e < all.n; e++) {
        compute(&all.engine[e], &p, 0, p.rows, NULL);
        check_bits(&p, wanted, 0, p.rows);
    }
    engines_close_all(&all);
    ps_mem_free(wanted);
    product_release(&p);
}
END_TEST

START_TEST(a_row_has_the_same_bits_alone_and_among_any_others)
{
    dice d = {.seed = 2000 + (uint64_t)_i};
    product p = product_roll(&d, (ps_dtype)(_i % PS_DTYPE_FLOATS), 300000);
    float *wanted = scalar_results(&p);
    for (int isa = 0; isa < ps_isa_count(); isa++) {
        if (!ps_isa_supported(isa)) continue;
        ps_engine engine = engines_open_isa(isa, 2, PS_GEMM_PANEL);
        for (int rows = 1; rows <= p.rows; rows += rows < 14 ? 1 : 1 + dice_throw(&d, 5)) {
            const int first = dice_throw(&d, p.rows - rows + 1);
            compute(&engine, &p, first, rows, NULL);
            check_bits(&p, wanted, first, rows);
        }
        ps_engine_close(&engine);
    }
    ps_mem_free(wanted);
    product_release(&p);
}
END_TEST

/* Shapes at the borders of blocks, panels and tiles. */
START_TEST(bits_hold_at_the_borders_of_blocks_and_panels)
{
    static const int inner[] = {1, 2, 511, 512, 513, 1023, 1024, 1025, 1536, 1537};
    static const int outer[] = {1, 15, 16, 17, 63, 64, 65, 79, 80, 81};
    dice d = {.seed = 4};
    engines_all all = engines_open_all();
    for (size_t i = 0; i < sizeof inner / sizeof inner[0]; i++) {
        product p = {.rows = 7, .x_stride = (size_t)inner[i]};
        p.weight = matrix_roll(&d, (ps_dtype)(i % PS_DTYPE_FLOATS), outer[i], inner[i], 1.0, i % 2);
        p.out_stride = (size_t)ps_panel_count(outer[i]) * PS_PANEL_LANES;
        p.x = floats_new_rolled(&d, 7 * p.x_stride, -2.0, 2.0);
        p.out = floats_new(7 * p.out_stride);
        float *wanted = scalar_results(&p);
        for (int e = 0; e < all.n; e++) {
            compute(&all.engine[e], &p, 0, 7, NULL);
            check_bits(&p, wanted, 0, 7);
        }
        ps_mem_free(wanted);
        product_release(&p);
    }
    engines_close_all(&all);
}
END_TEST

START_TEST(padding_is_written_and_gaps_between_rows_are_not)
{
    dice d = {.seed = (uint64_t)_i};
    ps_engine engine = engines_open(2);
    product p = product_roll(&d, (ps_dtype)(_i % PS_DTYPE_FLOATS), 100000);
    const size_t n = (size_t)p.weight.linear.n;
    const size_t padded = (size_t)ps_panel_count((int)n) * PS_PANEL_LANES;
    compute(&engine, &p, 0, p.rows, NULL);
    for (int r = 0; r < p.rows; r++) {
        const float *row = p.out + (size_t)r * p.out_stride;
        for (size_t i = n; i < padded; i++) {
            ck_assert(row[i] == 0.0f);
        }
        ck_assert(floats_untouched(row + padded, p.out_stride - padded));
    }
    product_release(&p);
    ps_engine_close(&engine);
}
END_TEST

START_TEST(several_products_in_one_call_are_those_of_single_calls)
{
    dice d = {.seed = (uint64_t)_i};
    ps_engine engine = engines_open(1 + _i % 3);
    enum { N_CALLS = 5 };
    product p[N_CALLS];
    ps_linear_call calls[N_CALLS];
    const int n_calls = 1 + _i % N_CALLS;
    for (int c = 0; c < n_calls; c++) {
        p[c] = product_roll(&d, (ps_dtype)dice_throw(&d, PS_DTYPE_FLOATS), 300000);
        calls[c] = call_of(&p[c], 0, p[c].rows, p[c].out);
    }
    ps_linear_forward(&engine, calls, n_calls, NULL);
    for (int c = 0; c < n_calls; c++) {
        float *wanted = scalar_results(&p[c]);
        check_bits(&p[c], wanted, 0, p[c].rows);
        ps_mem_free(wanted);
        product_release(&p[c]);
    }
    ps_engine_close(&engine);
}
END_TEST

START_TEST(blas_is_near_the_double_precision_sum)
{
    dice d = {.seed = 3000 + (uint64_t)_i};
    ps_engine engine = engines_open_isa(0, 1 + _i % 3, PS_GEMM_BLAS);
    product p = product_roll(&d, (ps_dtype)(_i % PS_DTYPE_FLOATS), 5000000);
    const int k = p.weight.linear.k;
    ps_linear_scratch scratch = scratch_new(&engine, 0, k);
    compute(&engine, &p, 0, p.rows, &scratch);
    check_near(&p, k + 2);
    ps_mem_free(scratch.memory);
    product_release(&p);
    ps_engine_close(&engine);
}
END_TEST

/* The strips that sgemm gets are the same however the panels are dealt. */
START_TEST(blas_has_the_same_bits_on_any_number_of_threads)
{
    enum { ROWS = 20, N = 16 * 38, K = 700 };
    dice d = {.seed = 3100 + (uint64_t)_i};
    product p = {.rows = ROWS, .x_stride = K, .out_stride = N};
    p.weight = matrix_roll(&d, (ps_dtype)(_i % PS_DTYPE_FLOATS), N, K, 1.0, true);
    p.x = floats_new_rolled(&d, ROWS * K, -2.0, 2.0);
    p.out = floats_new(ROWS * N);
    float *wanted = floats_new(ROWS * N);
    for (int threads = 1; threads <= 5; threads++) {
        ps_engine engine = engines_open_isa(0, threads, PS_GEMM_BLAS);
        ps_linear_scratch scratch = scratch_new(&engine, 0, K);
        compute(&engine, &p, 0, ROWS, &scratch);
        if (threads == 1) memcpy(wanted, p.out, ROWS * N * sizeof *wanted);
        ck_assert_uint_eq(floats_first_difference(p.out, wanted, ROWS * N), ROWS * N);
        ps_mem_free(scratch.memory);
        ps_engine_close(&engine);
    }
    ps_mem_free(wanted);
    product_release(&p);
}
END_TEST

/* One row less than BLAS takes, and long sums: there BLAS has other bits. */
START_TEST(few_rows_go_by_panels_whatever_the_engine)
{
    enum { ROWS = PS_LINEAR_BLAS_ROWS - 1, N = 300, K = 1500 };
    dice d = {.seed = 5};
    ps_engine engine = engines_open_isa(0, 2, PS_GEMM_BLAS);
    product p = {.rows = ROWS, .x_stride = K, .out_stride = 304};
    p.weight = matrix_roll(&d, PS_BF16, N, K, 1.0, true);
    p.x = floats_new_rolled(&d, ROWS * K, -2.0, 2.0);
    p.out = floats_new(ROWS * p.out_stride);
    ps_linear_scratch scratch = scratch_new(&engine, 0, K);
    float *wanted = scalar_results(&p);
    compute(&engine, &p, 0, ROWS, &scratch);
    check_bits(&p, wanted, 0, ROWS);
    ps_mem_free(wanted);
    ps_mem_free(scratch.memory);
    product_release(&p);
    ps_engine_close(&engine);
}
END_TEST

START_TEST(the_yardstick_multiplies_by_the_transpose)
{
    const float a[2 * 3] = {1, 2, 3, 4, 5, 6}, b[2 * 3] = {1, 0, -1, 2, 1, 0};
    float out[4];
    ps_linear_blas_product(2, 2, 3, a, b, out);
    ck_assert(out[0] == -2.0f && out[1] == 4.0f && out[2] == -2.0f && out[3] == 13.0f);
}
END_TEST

START_TEST(sizes_are_those_of_the_layout)
{
    const ps_linear w = {.dtype = PS_F16, .n = 33, .k = 10};
    ck_assert_uint_eq(ps_linear_bytes(&w), 3 * 10 * 16 * 2);
    const ps_activations i16 = PS_ACTIVATIONS_I16, f32 = PS_ACTIVATIONS_F32;
    ck_assert_uint_eq(ps_linear_scratch_bytes(PS_GEMM_PANEL, i16, 8, 0, 4096), 0);
    ck_assert_uint_eq(ps_linear_scratch_bytes(PS_GEMM_PANEL, f32, 8, 100, 4096), 0);
    ck_assert_uint_ge(ps_linear_scratch_bytes(PS_GEMM_BLAS, f32, 3, 0, 128),
                      3 * ps_linear_scratch_bytes(PS_GEMM_BLAS, f32, 1, 0, 128));
    ck_assert_uint_gt(ps_linear_scratch_bytes(PS_GEMM_PANEL, i16, 1, 2, 64),
                      ps_linear_scratch_bytes(PS_GEMM_PANEL, i16, 1, 1, 64));
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("linear");
    tcase_set_timeout(tcase, 60.0);
    tcase_add_loop_test(tcase, products_are_near_the_double_precision_sum, 0, 60);
    tcase_add_loop_test(tcase, bits_are_those_of_the_stated_order_on_all_sets_and_threads, 0, 60);
    tcase_add_loop_test(tcase, a_row_has_the_same_bits_alone_and_among_any_others, 0, 24);
    tcase_add_test(tcase, bits_hold_at_the_borders_of_blocks_and_panels);
    tcase_add_loop_test(tcase, padding_is_written_and_gaps_between_rows_are_not, 0, 12);
    tcase_add_loop_test(tcase, several_products_in_one_call_are_those_of_single_calls, 0, 12);
    tcase_add_loop_test(tcase, blas_is_near_the_double_precision_sum, 0, 20);
    tcase_add_loop_test(tcase, blas_has_the_same_bits_on_any_number_of_threads, 0, PS_DTYPE_FLOATS);
    tcase_add_test(tcase, few_rows_go_by_panels_whatever_the_engine);
    tcase_add_test(tcase, the_yardstick_multiplies_by_the_transpose);
    tcase_add_test(tcase, sizes_are_those_of_the_layout);
    Suite *suite = suite_create("math/linear");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
