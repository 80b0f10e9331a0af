/* All 65536 patterns of the 16-bit formats against the formula of their definition (sign, exponent,
 * fraction, by ldexp), and rounding against a reference that rounds in double precision. */
#include "math/dtype.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "support/floats.h"

enum { PATTERNS = 65536 };

/* The two formats as numbers: widths, bias, and the largest finite value. */
typedef struct half_format {
    ps_dtype dtype;
    int fraction_bits, exponent_max, bias;
} half_format;

static const half_format formats[2] = {{PS_F16, 10, 31, 15}, {PS_BF16, 7, 255, 127}};

static double value_of_pattern(const half_format *f, uint32_t pattern)
{
    const int fraction = (int)(pattern & ((1u << f->fraction_bits) - 1));
    const int exponent = (int)(pattern >> f->fraction_bits) & f->exponent_max;
    const double sign = pattern & 0x8000 ? -1.0 : 1.0;
    if (exponent == f->exponent_max) return fraction ? (double)NAN : sign * HUGE_VAL;
    if (exponent == 0) return sign * ldexp(fraction, 1 - f->bias - f->fraction_bits);
    const int whole = fraction + (1 << f->fraction_bits);
    return sign * ldexp(whole, exponent - f->bias - f->fraction_bits);
}

/* The nearest value of the format, ties to even: x in units of the last place, rounded by the
 * processor's own rounding to whole numbers. */
static double rounded(const half_format *f, double x)
{
    if (isnan(x) || isinf(x) || x == 0.0) return x;
    int exponent;
    frexp(x, &exponent); // |x| in [2^(exponent-1), 2^exponent)
    const int lowest = 1 - f->bias;
    const int of_x = exponent - 1 < lowest ? lowest : exponent - 1;
    const double unit = ldexp(1.0, of_x - f->fraction_bits);
    const double nearest = nearbyint(x / unit) * unit;
    if (fabs(nearest) >= ldexp(1.0, f->bias + 1)) return copysign(HUGE_VAL, x);
    return nearest == 0.0 ? copysign(0.0, x) : nearest;
}

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void check_narrowing(const half_format *f, float x)
{
    uint16_t half;
    float back;
    ps_dtype_narrow(f->dtype, &x, 1, &half);
    ps_dtype_widen(f->dtype, &half, 1, &back);
    const double wanted = rounded(f, (double)x);
    const bool same = isnan(wanted) ? isnan(back) != 0
                                    : (double)back == wanted && !signbit(back) == !signbit(wanted);
    ck_assert_msg(same, "%s of %a is %a, not %a", ps_dtype_name(f->dtype), (double)x, (double)back,
                  wanted);
}

START_TEST(every_pattern_widens_to_its_value)
{
    const half_format *f = &formats[_i];
    uint16_t *patterns = ps_mem_new(PATTERNS, sizeof *patterns);
    float *values = floats_new(PATTERNS);
    for (int i = 0; i < PATTERNS; i++) {
        patterns[i] = (uint16_t)i;
    }
    ps_dtype_widen(f->dtype, patterns, PATTERNS, values);
    for (int i = 0; i < PATTERNS; i++) {
        const double wanted = value_of_pattern(f, (uint32_t)i);
        ck_assert_msg(isnan(wanted) ? isnan(values[i]) != 0 : (double)values[i] == wanted,
                      "%s %04x is %a", ps_dtype_name(f->dtype), (unsigned)i, (double)values[i]);
        ck_assert_int_eq(!signbit(values[i]), !(i & 0x8000));
    }
    ps_mem_free(patterns);
    ps_mem_free(values);
}
END_TEST

START_TEST(every_pattern_comes_back_from_f32)
{
    const half_format *f = &formats[_i];
    for (uint32_t i = 0; i < PATTERNS; i++) {
        const uint16_t pattern = (uint16_t)i;
        float wide;
        uint16_t back;
        ps_dtype_widen(f->dtype, &pattern, 1, &wide);
        ps_dtype_narrow(f->dtype, &wide, 1, &back);
        if (isnan(wide)) {
            ck_assert(isnan(value_of_pattern(f, back)));
        } else {
            ck_assert_uint_eq(back, pattern);
        }
    }
}
END_TEST

/* Between any two neighbours of a format: the middle and the floats on both sides of it. */
START_TEST(ties_go_to_the_even_neighbour)
{
    const half_format *f = &formats[_i];
    const uint32_t infinity = (uint32_t)f->exponent_max << f->fraction_bits;
    for (uint32_t i = 0; i < infinity; i++) {
        const double low = value_of_pattern(f, i);
        const double high =
            i + 1 == infinity ? ldexp(1.0, f->bias + 1) : value_of_pattern(f, i + 1);
        const float middle = (float)((low + high) / 2.0);
        ck_assert_msg(_i == 1 || (double)middle == (low + high) / 2.0, "no float");
        for (int sign = -1; sign <= 1; sign += 2) {
            check_narrowing(f, (float)sign * middle);
            check_narrowing(f, (float)sign * nextafterf(middle, 0.0f));
            check_narrowing(f, (float)sign * nextafterf(middle, HUGE_VALF));
        }
    }
}
END_TEST

START_TEST(random_floats_round_to_nearest)
{
    const half_format *f = &formats[_i % 2];
    dice d = {.seed = (uint64_t)_i};
    for (int run = 0; run < 200000; run++) {
        const uint32_t bits = (uint32_t)dice_bits(&d);
        check_narrowing(f, from_bits(bits));
        // The same fraction at an exponent where f16 has values.
        check_narrowing(f, from_bits((bits & 0x807FFFFF) | (uint32_t)(96 + run % 50) << 23));
    }
}
END_TEST

START_TEST(denormals_and_overflow_round_as_published)
{
    static const struct {
        float x;
        uint16_t f16;
    } cases[] = {{0x1p-24f, 0x0001},   {0x1p-25f, 0x0000},     {0x1.8p-25f, 0x0001},
                 {0x1.8p-24f, 0x0002}, {0x1.ff8p-15f, 0x03FF}, {0x1.ffcp-15f, 0x0400},
                 {65504.0f, 0x7BFF},   {65519.996f, 0x7BFF},   {65520.0f, 0x7C00},
                 {-65520.0f, 0xFC00},  {HUGE_VALF, 0x7C00},    {-0x1p-26f, 0x8000}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint16_t half;
        ps_dtype_narrow(PS_F16, &cases[i].x, 1, &half);
        ck_assert_msg(half == cases[i].f16, "f16 of %a is %04x", (double)cases[i].x, half);
    }
    const float largest = 0x1.fffffep127f, above = 0x1.fep127f;
    uint16_t half;
    ps_dtype_narrow(PS_BF16, &largest, 1, &half);
    ck_assert_uint_eq(half, 0x7F80);
    ps_dtype_narrow(PS_BF16, &above, 1, &half);
    ck_assert_uint_eq(half, 0x7F7F);
}
END_TEST

START_TEST(f32_is_copied_bit_by_bit)
{
    dice d = {.seed = 3};
    uint32_t in[1000], narrowed[1000];
    float widened[1000];
    for (size_t i = 0; i < 1000; i++) {
        in[i] = (uint32_t)dice_bits(&d);
    }
    ps_dtype_widen(PS_F32, in, 1000, widened);
    ck_assert_mem_eq(widened, in, sizeof in);
    ps_dtype_narrow(PS_F32, widened, 1000, narrowed);
    ck_assert_mem_eq(narrowed, in, sizeof in);
}
END_TEST

/* Values as narrow as the format has them, with one NaN or infinity at every place in turn; longer
 * than two of the blocks that the search goes by. */
START_TEST(the_first_value_that_is_not_finite_is_found_at_every_place)
{
    enum { N = 8500 };
    const ps_dtype dtype = (ps_dtype)_i;
    const size_t size = ps_dtype_block_bytes(dtype);
    static const float bad[4] = {NAN, HUGE_VALF, -HUGE_VALF, -NAN};
    dice d = {.seed = (uint64_t)_i};
    float *values = floats_new_rolled(&d, N, -60000.0, 60000.0);
    char *stored = ps_mem_new(N, size);
    ps_dtype_narrow(dtype, values, N, stored);
    ck_assert_uint_eq(ps_dtype_first_not_finite(dtype, stored, N), N);
    for (size_t i = 0; i < N; i++) {
        ps_dtype_narrow(dtype, &bad[i % 4], 1, stored + i * size);
        ck_assert_uint_eq(ps_dtype_first_not_finite(dtype, stored, N), i);
        ck_assert_uint_eq(ps_dtype_first_not_finite(dtype, stored, i + 1), i);
        ck_assert_uint_eq(ps_dtype_first_not_finite(dtype, stored, i), i);
        ps_dtype_narrow(dtype, &values[i], 1, stored + i * size);
    }
    ps_mem_free(values);
    ps_mem_free(stored);
}
END_TEST

START_TEST(the_first_of_several_bad_values_counts)
{
    dice d = {.seed = 17};
    for (int run = 0; run < 300; run++) {
        const ps_dtype dtype = (ps_dtype)(run % PS_DTYPE_FLOATS);
        float values[10000] = {0};
        char stored[sizeof values];
        const size_t n = 1 + (size_t)dice_throw(&d, 10000);
        size_t first = n;
        for (int bad = dice_throw(&d, 4); bad > 0; bad--) {
            const size_t at = (size_t)dice_throw(&d, (int)n);
            values[at] = bad % 2 ? NAN : HUGE_VALF;
            if (at < first) first = at;
        }
        ps_dtype_narrow(dtype, values, n, stored);
        ck_assert_uint_eq(ps_dtype_first_not_finite(dtype, stored, n), first);
    }
}
END_TEST

START_TEST(values_to_widen_or_to_search_need_not_be_aligned)
{
    enum { N = 100 };
    const ps_dtype dtype = (ps_dtype)_i;
    const size_t bytes = N * ps_dtype_block_bytes(dtype);
    dice d = {.seed = 23};
    float values[N], wanted[N], found[N];
    uint32_t aligned[N];
    char shifted[sizeof aligned + 4];
    floats_roll(&d, values, N, -9.0, 9.0);
    values[N - 1] = NAN;
    ps_dtype_narrow(dtype, values, N, aligned);
    ps_dtype_widen(dtype, aligned, N, wanted);
    for (size_t shift = 0; shift < 4; shift++) {
        memcpy(shifted + shift, aligned, bytes);
        ps_dtype_widen(dtype, shifted + shift, N, found);
        ck_assert_uint_eq(floats_first_difference(found, wanted, N), N);
        ck_assert_uint_eq(ps_dtype_first_not_finite(dtype, shifted + shift, N), N - 1);
    }
}
END_TEST

START_TEST(largest_values_count_as_finite)
{
    static const uint32_t f32[2] = {0x7F7FFFFF, 0xFF7FFFFF};
    static const uint16_t f16[2] = {0x7BFF, 0xFBFF}, bf16[2] = {0x7F7F, 0xFF7F};
    ck_assert_uint_eq(ps_dtype_first_not_finite(PS_F32, f32, 2), 2);
    ck_assert_uint_eq(ps_dtype_first_not_finite(PS_F16, f16, 2), 2);
    ck_assert_uint_eq(ps_dtype_first_not_finite(PS_BF16, bf16, 2), 2);
}
END_TEST

START_TEST(names_and_formats_belong_together)
{
    static const struct {
        const char *name;
        int values;
        size_t bytes;
    } formats_by_number[PS_DTYPE_COUNT] = {
        [PS_F32] = {"f32", 1, 4},         [PS_F16] = {"f16", 1, 2},
        [PS_BF16] = {"bf16", 1, 2},       [PS_Q8_0] = {"q8_0", 32, 34},
        [PS_Q4_0] = {"q4_0", 32, 18},     [PS_Q4_1] = {"q4_1", 32, 20},
        [PS_Q5_0] = {"q5_0", 32, 22},     [PS_Q5_1] = {"q5_1", 32, 24},
        [PS_IQ4_NL] = {"iq4_nl", 32, 18}, [PS_MXFP4] = {"mxfp4", 32, 17},
        [PS_Q2_K] = {"q2_k", 256, 84},    [PS_Q3_K] = {"q3_k", 256, 110},
        [PS_Q4_K] = {"q4_k", 256, 144},   [PS_Q5_K] = {"q5_k", 256, 176},
        [PS_Q6_K] = {"q6_k", 256, 210},   [PS_IQ4_XS] = {"iq4_xs", 256, 136},
        [PS_TQ1_0] = {"tq1_0", 256, 54},  [PS_TQ2_0] = {"tq2_0", 256, 66}};
    for (int i = 0; i < PS_DTYPE_COUNT; i++) {
        ps_dtype found = PS_DTYPE_COUNT;
        ck_assert_str_eq(ps_dtype_name((ps_dtype)i), formats_by_number[i].name);
        ck_assert(ps_dtype_from_name(formats_by_number[i].name, &found));
        ck_assert_int_eq(found, i);
        ck_assert_int_eq(ps_dtype_block_values((ps_dtype)i), formats_by_number[i].values);
        ck_assert_uint_eq(ps_dtype_block_bytes((ps_dtype)i), formats_by_number[i].bytes);
        ck_assert_int_eq(ps_dtype_is_quantised((ps_dtype)i), i > PS_BF16);
    }
    ps_dtype untouched = PS_BF16;
    ck_assert(!ps_dtype_from_name("f64", &untouched) && !ps_dtype_from_name("", &untouched));
    ck_assert(!ps_dtype_from_name("F16", &untouched));
    ck_assert_int_eq(untouched, PS_BF16);
}
END_TEST

START_TEST(rows_are_whole_blocks_and_fit_a_size)
{
    size_t bytes = 7;
    ck_assert(ps_dtype_row_bytes(PS_Q4_K, 512, &bytes));
    ck_assert_uint_eq(bytes, 288);
    ck_assert(!ps_dtype_row_bytes(PS_Q4_K, 511, &bytes));
    ck_assert(!ps_dtype_row_bytes(PS_Q8_0, 16, &bytes));
    ck_assert(!ps_dtype_row_bytes(PS_F32, SIZE_MAX / 2, &bytes));
    ck_assert(!ps_dtype_row_bytes(PS_Q8_0, SIZE_MAX - 31, &bytes));
    ck_assert_uint_eq(bytes, 288);
    ck_assert(ps_dtype_row_bytes(PS_BF16, 0, &bytes));
    ck_assert_uint_eq(bytes, 0);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("dtype");
    tcase_set_timeout(tcase, 60.0);
    tcase_add_loop_test(tcase, every_pattern_widens_to_its_value, 0, 2);
    tcase_add_loop_test(tcase, every_pattern_comes_back_from_f32, 0, 2);
    tcase_add_loop_test(tcase, ties_go_to_the_even_neighbour, 0, 2);
    tcase_add_loop_test(tcase, random_floats_round_to_nearest, 0, 4);
    tcase_add_test(tcase, denormals_and_overflow_round_as_published);
    tcase_add_test(tcase, f32_is_copied_bit_by_bit);
    tcase_add_loop_test(tcase, the_first_value_that_is_not_finite_is_found_at_every_place, 0,
                        PS_DTYPE_FLOATS);
    tcase_add_test(tcase, the_first_of_several_bad_values_counts);
    tcase_add_loop_test(tcase, values_to_widen_or_to_search_need_not_be_aligned, 0,
                        PS_DTYPE_FLOATS);
    tcase_add_test(tcase, largest_values_count_as_finite);
    tcase_add_test(tcase, names_and_formats_belong_together);
    tcase_add_test(tcase, rows_are_whole_blocks_and_fit_a_size);
    Suite *suite = suite_create("math/dtype");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
