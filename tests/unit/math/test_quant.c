/* The quantised formats: reference blocks bit for bit, scales that are not finite, and the
 * quantisers' errors. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/dtype.h"
#include "math/panel.h"
#include "support/floats.h"
#include "support/golden_quants.h"
#include "support/quant_rows.h"

enum { QUANTISED = PS_DTYPE_COUNT - PS_DTYPE_FLOATS };

START_TEST(reference_blocks_come_out_bit_for_bit)
{
    golden_quant g;
    bool found;
    ck_assert_msg(!golden_quant_open("tests/golden/quants.h5", (ps_dtype)_i, &g, &found), "%s",
                  ps_err_message());
    ck_assert_int_eq(found, _i != PS_F32);
    if (!found) return;
    ps_text first = {0};
    const int wrong = golden_quant_count_wrong(&g, &first);
    ck_assert_msg(wrong == 0, "%s: %d values differ: %s", ps_dtype_name(g.dtype), wrong,
                  ps_text_str(&first));
    ps_text_release(&first);
    golden_quant_release(&g);
}
END_TEST

static ps_dtype format_of(int i)
{
    return (ps_dtype)(PS_DTYPE_FLOATS + i);
}

START_TEST(panels_take_the_bytes_of_their_rows)
{
    const ps_dtype dtype = format_of(_i);
    const int k = 3 * ps_dtype_block_values(dtype);
    size_t row, matrix;
    ck_assert(ps_dtype_row_bytes(dtype, (size_t)k, &row));
    ck_assert_uint_eq(ps_panel_bytes(dtype, k), 16 * row);
    ck_assert(ps_panel_matrix_bytes(dtype, 17, k, &matrix));
    ck_assert_uint_eq(matrix, 32 * row);
    ck_assert(!ps_panel_matrix_bytes(dtype, 17, k + 1, &matrix));
}
END_TEST

/* Rows apart from each other and not aligned; nothing behind the panel is written. */
START_TEST(rows_come_back_and_lanes_past_the_end_are_zero)
{
    dice d = {.seed = (uint64_t)_i};
    const ps_dtype dtype = format_of(_i);
    const int k = ps_dtype_block_values(dtype) * (1 + dice_throw(&d, 4));
    const int n = 1 + dice_throw(&d, PS_PANEL_LANES - 1);
    quant_matrix m = quant_matrix_roll(&d, dtype, n, k, QUANT_ANY, false);
    const size_t stride = m.row_bytes + 3, bytes = ps_panel_bytes(dtype, k);
    uint8_t *rows = ps_mem_new((size_t)n * stride + 1, 1), *panel = ps_mem_new(bytes + 1, 1);
    for (int r = 0; r < n; r++) {
        memcpy(rows + 1 + (size_t)r * stride, m.rows + (size_t)r * m.row_bytes, m.row_bytes);
    }
    memset(panel, 0xA5, bytes + 1);
    ps_panel_pack(dtype, rows + 1, n, stride, k, panel);
    ck_assert_uint_eq(panel[bytes], 0xA5);
    float *row = floats_new((size_t)k);
    for (int r = 0; r < PS_PANEL_LANES; r++) {
        ps_panel_unpack_row(dtype, panel, k, r, row);
        for (int i = 0; i < k && r >= n; i++) {
            ck_assert(row[i] == 0.0f);
        }
        if (r < n) ck_assert_mem_eq(row, m.values + (size_t)r * (size_t)k, (size_t)k * 4);
    }
    ps_mem_free(row);
    ps_mem_free(rows);
    ps_mem_free(panel);
    quant_matrix_release(&m);
}
END_TEST

static void check_bad_scale(quant_matrix *m, int row, int block, uint16_t d, uint16_t min)
{
    const ps_dtype dtype = m->linear.dtype;
    const int k = m->linear.k, values = ps_dtype_block_values(dtype);
    uint8_t *at =
        m->rows + (size_t)row * m->row_bytes + (size_t)block * ps_dtype_block_bytes(dtype);
    uint8_t saved[256];
    const int first = row / PS_PANEL_LANES * PS_PANEL_LANES, left = m->linear.n - first;
    const int lanes = left < PS_PANEL_LANES ? left : PS_PANEL_LANES;
    char *panel = (char *)m->panels + (size_t)(row / PS_PANEL_LANES) * ps_panel_bytes(dtype, k);
    memcpy(saved, at, ps_dtype_block_bytes(dtype));
    quant_set_scales(dtype, at, d, min);
    ck_assert_uint_eq(
        ps_dtype_first_not_finite(dtype, m->rows + (size_t)row * m->row_bytes, (size_t)k),
        (size_t)(block * values));
    ps_panel_pack(dtype, m->rows + (size_t)first * m->row_bytes, lanes, m->row_bytes, k, panel);
    int found_row = -1, column = -1;
    ck_assert(ps_panel_find_not_finite(dtype, m->panels, m->linear.n, k, &found_row, &column));
    ck_assert_int_eq(found_row, row);
    ck_assert_int_eq(column, block * values);
    memcpy(at, saved, ps_dtype_block_bytes(dtype));
    ps_panel_pack(dtype, m->rows + (size_t)first * m->row_bytes, lanes, m->row_bytes, k, panel);
}

START_TEST(scales_that_are_not_finite_are_found_in_rows_and_panels)
{
    static const uint16_t bad[4] = {0x7C00, 0xFC00, 0x7E00, 0xFFFF};
    dice d = {.seed = 50 + (uint64_t)_i};
    const ps_dtype dtype = format_of(_i);
    quant_matrix m =
        quant_matrix_roll(&d, dtype, 37, 3 * ps_dtype_block_values(dtype), QUANT_ANY, false);
    const bool has_min = dtype == PS_Q4_1 || dtype == PS_Q5_1 || dtype == PS_Q2_K ||
                         dtype == PS_Q4_K || dtype == PS_Q5_K;
    int row, column;
    ck_assert(!ps_panel_find_not_finite(dtype, m.panels, 37, m.linear.k, &row, &column));
    ck_assert_uint_eq(ps_dtype_first_not_finite(dtype, m.rows, 37 * (size_t)m.linear.k),
                      37 * (size_t)m.linear.k);
    for (int run = 0; run < 20; run++) {
        const uint16_t d_bits = (uint16_t)(dtype == PS_MXFP4 ? 253 + run % 3 : bad[run % 4]);
        check_bad_scale(&m, dice_throw(&d, 37), dice_throw(&d, 3), d_bits, 0x3C00);
        if (has_min)
            check_bad_scale(&m, dice_throw(&d, 37), dice_throw(&d, 3), 0x3C00, bad[run % 4]);
    }
    quant_matrix_release(&m);
}
END_TEST

/* With the largest scale that counts as finite, no code gives an infinity; with denormal ones, none
 * is lost. */
START_TEST(the_largest_and_smallest_exponents_of_mxfp4_give_their_values)
{
    static const float numbers[16] = {0,    0.5f,  1,     1.5f,  2,     3,     4,     6,
                                      0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
    uint8_t block[17];
    float values[32];
    for (int e = 0; e <= 252; e++) {
        block[0] = (uint8_t)e;
        for (int i = 0; i < 16; i++) {
            block[1 + i] = (uint8_t)(i | i << 4);
        }
        ck_assert_uint_eq(ps_dtype_first_not_finite(PS_MXFP4, block, 32), 32);
        ps_dtype_widen(PS_MXFP4, block, 32, values);
        for (int i = 0; i < 32; i++) {
            ck_assert(values[i] == (float)ldexp((double)numbers[i % 16], e - 127));
        }
    }
}
END_TEST

/* ---- quantisers ---- */

typedef struct errors {
    double squares, values; // sums of squares of the errors and of what was quantised
    double worst_steps;     // largest error over the block's range of values
} errors;

static errors errors_of(ps_dtype dtype, const float *x, size_t n)
{
    errors e = {0};
    size_t bytes;
    ck_assert(ps_dtype_row_bytes(dtype, n, &bytes));
    void *stored = ps_mem_new(bytes, 1);
    float *back = floats_new(n);
    ps_dtype_narrow(dtype, x, n, stored);
    ck_assert_uint_eq(ps_dtype_first_not_finite(dtype, stored, n), n);
    ps_dtype_widen(dtype, stored, n, back);
    for (size_t i = 0; i < n; i += 32) {
        double low = 0.0, high = 0.0, worst = 0.0;
        for (size_t j = i; j < i + 32; j++) {
            const double error = (double)back[j] - (double)x[j];
            low = fmin(low, (double)x[j]);
            high = fmax(high, (double)x[j]);
            worst = fmax(worst, fabs(error));
            e.squares += error * error;
            e.values += (double)x[j] * (double)x[j];
        }
        if (high > low) e.worst_steps = fmax(e.worst_steps, worst / (high - low));
    }
    ps_mem_free(stored);
    ps_mem_free(back);
    return e;
}

/* Normal values by the sum of twelve uniform ones, as weights are. */
static float *normal_values(dice *d, size_t n)
{
    float *x = floats_new(n);
    for (size_t i = 0; i < n; i++) {
        double sum = -6.0;
        for (int t = 0; t < 12; t++) {
            sum += dice_real(d, 0.0, 1.0);
        }
        x[i] = (float)(0.02 * sum);
    }
    return x;
}

/* The bounds: on such values q8_0 and q4_0 have relative errors of 0.00537 and 0.0862 when codes
 * are made with the scale before it is rounded to f16, and codes from minimum and maximum alone,
 * with scales in f32, have 0.0784, which the search of q4_k must beat with scales of 6 bits. */
START_TEST(quantisers_are_as_exact_as_their_formats_allow)
{
    enum { N = 256 * 400 };
    static const struct {
        ps_dtype dtype;
        double relative, worst_steps;
    } cases[] = {{PS_Q8_0, 0.00537, 0.5 / 127}, {PS_Q4_0, 0.0862, 0.07}, {PS_Q4_K, 0.072, 0.07}};
    dice d = {.seed = 77};
    float *x = normal_values(&d, N);
    const errors e = errors_of(cases[_i].dtype, x, N);
    ck_assert_msg(sqrt(e.squares / e.values) < cases[_i].relative, "relative error %g",
                  sqrt(e.squares / e.values));
    ck_assert_msg(e.worst_steps < cases[_i].worst_steps, "worst error %g", e.worst_steps);
    ps_mem_free(x);
}
END_TEST

/* Zeros, one value, one sign, and sizes from denormal to as large as f16 scales reach. */
START_TEST(quantisers_take_any_finite_block)
{
    static const ps_dtype dtypes[3] = {PS_Q8_0, PS_Q4_0, PS_Q4_K};
    const ps_dtype dtype = dtypes[_i];
    dice d = {.seed = 78 + (uint64_t)_i};
    float x[256], back[256];
    uint8_t stored[8 * 34];
    for (int run = 0; run < 2000; run++) {
        const double size = ldexp(1.0, dice_throw(&d, 165) - 149);
        const int kind = run % 4;
        for (int i = 0; i < 256; i++) {
            x[i] = (float)dice_real(&d, kind == 1 ? 0.0 : -size, kind == 2 ? 0.0 : size);
            if (kind == 3) x[i] = run % 8 == 3 ? (float)size : dice_throw(&d, 90) ? 0.0f : x[i];
        }
        ps_dtype_narrow(dtype, x, 256, stored);
        ck_assert_uint_eq(ps_dtype_first_not_finite(dtype, stored, 256), 256);
        ps_dtype_widen(dtype, stored, 256, back);
        for (int i = 0; i < 256; i++) {
            // Half a step of q4_0, and what q4_k loses of 63 * 15 steps when its scale is denormal.
            ck_assert_msg(fabs((double)back[i] - (double)x[i]) <= 0.26 * size + 0x1p-15, "%g is %g",
                          (double)x[i], (double)back[i]);
        }
    }
}
END_TEST

START_TEST(values_that_a_format_holds_are_kept)
{
    dice d = {.seed = 79};
    float x[32], back[32];
    uint8_t stored[34];
    for (int run = 0; run < 500; run++) {
        for (int i = 0; i < 32; i++) {
            x[i] = (float)(dice_throw(&d, 255) - 127) * 0.125f;
        }
        x[dice_throw(&d, 32)] = 127 * 0.125f;
        ps_dtype_narrow(PS_Q8_0, x, 32, stored);
        ps_dtype_widen(PS_Q8_0, stored, 32, back);
        ck_assert_mem_eq(x, back, sizeof x);
        for (int i = 0; i < 32; i++) {
            x[i] = (float)(dice_throw(&d, 16) - 8) * 0.5f;
        }
        x[dice_throw(&d, 32)] = -4.0f;
        ps_dtype_narrow(PS_Q4_0, x, 32, stored);
        ps_dtype_widen(PS_Q4_0, stored, 32, back);
        ck_assert_mem_eq(x, back, sizeof x);
    }
}
END_TEST

START_TEST(only_some_formats_can_be_written)
{
    for (int i = 0; i < PS_DTYPE_COUNT; i++) {
        const bool wanted = i < PS_DTYPE_FLOATS || i == PS_Q8_0 || i == PS_Q4_0 || i == PS_Q4_K;
        ck_assert_int_eq(ps_dtype_can_narrow((ps_dtype)i), wanted);
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("quant");
    tcase_set_timeout(tcase, 60.0);
    tcase_add_loop_test(tcase, reference_blocks_come_out_bit_for_bit, 0, PS_DTYPE_COUNT);
    tcase_add_loop_test(tcase, panels_take_the_bytes_of_their_rows, 0, QUANTISED);
    tcase_add_loop_test(tcase, rows_come_back_and_lanes_past_the_end_are_zero, 0, QUANTISED);
    tcase_add_loop_test(tcase, scales_that_are_not_finite_are_found_in_rows_and_panels, 0,
                        QUANTISED);
    tcase_add_test(tcase, the_largest_and_smallest_exponents_of_mxfp4_give_their_values);
    tcase_add_loop_test(tcase, quantisers_are_as_exact_as_their_formats_allow, 0, 3);
    tcase_add_loop_test(tcase, quantisers_take_any_finite_block, 0, 3);
    tcase_add_test(tcase, values_that_a_format_holds_are_kept);
    tcase_add_test(tcase, only_some_formats_can_be_written);
    Suite *suite = suite_create("math/quant");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
