/* Panels hold every value of the matrix where the header says, zeros past its end, and nothing
 * else; rows come back exactly. */
#include "math/panel.h"

#include <check.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "support/floats.h"

/* Random rows of a format, a row every `stride` values, spoiled between the rows. */
static char *roll_rows(dice *d, ps_dtype dtype, int n, int k, size_t stride, float *values)
{
    const size_t size = ps_dtype_block_bytes(dtype);
    char *rows = ps_mem_new((size_t)n * stride, size);
    memset(rows, 0xFF, (size_t)n * stride * size);
    for (int r = 0; r < n; r++) {
        float *row = values + (size_t)r * (size_t)k;
        floats_roll(d, row, (size_t)k, -2.0, 2.0);
        char *stored = rows + (size_t)r * stride * size;
        ps_dtype_narrow(dtype, row, (size_t)k, stored);
        ps_dtype_widen(dtype, stored, (size_t)k, row);
    }
    return rows;
}

static void pack_all(ps_dtype dtype, const char *rows, int n, size_t stride, int k, char *panels)
{
    for (int p = 0; p < ps_panel_count(n); p++) {
        const int left = n - p * PS_PANEL_LANES;
        ps_panel_pack(
            dtype, rows + (size_t)p * PS_PANEL_LANES * stride * ps_dtype_block_bytes(dtype),
            left < PS_PANEL_LANES ? left : PS_PANEL_LANES, stride * ps_dtype_block_bytes(dtype), k,
            panels + (size_t)p * ps_panel_bytes(dtype, k));
    }
}

START_TEST(rows_come_back_as_they_were_packed)
{
    dice d = {.seed = (uint64_t)_i};
    const ps_dtype dtype = (ps_dtype)(_i % PS_DTYPE_FLOATS);
    const int n = 1 + dice_throw(&d, 70), k = 1 + dice_throw(&d, 300);
    const size_t stride = (size_t)k + (size_t)dice_throw(&d, 9);
    float *values = floats_new((size_t)n * (size_t)k), *row = floats_new_poisoned((size_t)k + 1);
    char *rows = roll_rows(&d, dtype, n, k, stride, values);
    size_t bytes = 0;
    ck_assert(ps_panel_matrix_bytes(dtype, n, k, &bytes));
    ck_assert_uint_eq(bytes, (size_t)ps_panel_count(n) * ps_panel_bytes(dtype, k));
    char *panels = ps_mem_new(bytes, 1);
    memset(panels, 0xFF, bytes);
    pack_all(dtype, rows, n, stride, k, panels);
    for (int r = 0; r < n; r++) {
        ps_panel_unpack_row(dtype, panels, k, r, row);
        ck_assert_mem_eq(row, values + (size_t)r * (size_t)k, (size_t)k * sizeof *row);
    }
    ck_assert(floats_untouched(row + k, 1));
    ps_mem_free(values);
    ps_mem_free(row);
    ps_mem_free(rows);
    ps_mem_free(panels);
}
END_TEST

START_TEST(a_lane_is_an_output_and_lanes_past_the_end_are_zero)
{
    dice d = {.seed = (uint64_t)_i};
    const ps_dtype dtype = (ps_dtype)(_i % PS_DTYPE_FLOATS);
    const size_t size = ps_dtype_block_bytes(dtype);
    const int n = 1 + _i % PS_PANEL_LANES, k = 1 + dice_throw(&d, 40);
    const size_t stride = (size_t)k + 3;
    float *values = floats_new((size_t)n * (size_t)k);
    char *rows = roll_rows(&d, dtype, n, k, stride, values);
    const size_t bytes = ps_panel_bytes(dtype, k);
    char *panel = ps_mem_new(bytes + 1, 1);
    memset(panel, 0xFF, bytes + 1);
    ps_panel_pack(dtype, rows, n, stride * size, k, panel);
    static const char zeros[4] = {0};
    for (int i = 0; i < k; i++) {
        for (int lane = 0; lane < PS_PANEL_LANES; lane++) {
            const char *wanted =
                lane < n ? rows + ((size_t)lane * stride + (size_t)i) * size : zeros;
            ck_assert_mem_eq(panel + (size_t)(i * PS_PANEL_LANES + lane) * size, wanted, size);
        }
    }
    ck_assert_int_eq((unsigned char)panel[bytes], 0xFF);
    ps_mem_free(values);
    ps_mem_free(rows);
    ps_mem_free(panel);
}
END_TEST

/* Values are moved, not rounded: NaN payloads, infinities and denormals too. */
START_TEST(packing_keeps_every_bit)
{
    uint16_t *half = ps_mem_new(65536, sizeof *half), *packed = ps_mem_new(65536, sizeof *packed);
    for (uint32_t i = 0; i < 65536; i++) {
        half[i] = (uint16_t)i;
    }
    ps_panel_pack(PS_F16, half, 16, 4096 * sizeof *half, 4096, packed);
    for (uint32_t lane = 0; lane < 16; lane++) {
        for (uint32_t k = 0; k < 4096; k++) {
            ck_assert_uint_eq(packed[k * 16 + lane], half[lane * 4096 + k]);
        }
    }
    ps_mem_free(half);
    ps_mem_free(packed);
}
END_TEST

START_TEST(counts_round_up)
{
    ck_assert_int_eq(ps_panel_count(1), 1);
    ck_assert_int_eq(ps_panel_count(16), 1);
    ck_assert_int_eq(ps_panel_count(17), 2);
    ck_assert_int_eq(ps_panel_count(217204), 13576);
    ck_assert_uint_eq(ps_panel_bytes(PS_F32, 3), 192);
    ck_assert_uint_eq(ps_panel_bytes(PS_BF16, 3), 96);
}
END_TEST

/* Sizes come from files: the largest ones that an int holds must not overflow on the way. */
START_TEST(the_largest_shapes_have_the_right_size)
{
    size_t bytes = 0;
    ck_assert_int_eq(ps_panel_count(INT32_MAX), 1 << 27);
    ck_assert(ps_panel_matrix_bytes(PS_F32, INT32_MAX, INT32_MAX, &bytes));
    ck_assert_uint_eq(bytes, ((size_t)1 << 27) * (((size_t)1 << 31) - 1) * 64);
    ck_assert(ps_panel_matrix_bytes(PS_F16, 1 << 20, 1 << 20, &bytes));
    ck_assert_uint_eq(bytes, (size_t)1 << 41);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("panel");
    tcase_add_loop_test(tcase, rows_come_back_as_they_were_packed, 0, 60);
    tcase_add_loop_test(tcase, a_lane_is_an_output_and_lanes_past_the_end_are_zero, 0, 48);
    tcase_add_test(tcase, packing_keeps_every_bit);
    tcase_add_test(tcase, counts_round_up);
    tcase_add_test(tcase, the_largest_shapes_have_the_right_size);
    Suite *suite = suite_create("math/panel");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
