/* exp, log, sin and cos against the mathematical library's long double versions, with the bounds
 * that math/real.h states; and the values that must be exact. */
#include "math/real.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../support/dice.h"

enum { RUNS = 20000 };

/* Distance from the true value in units of the last place of the nearest double. */
static double ulps(double found, long double wanted)
{
    const double nearest = fabs((double)wanted);
    const double ulp = nextafter(nearest, HUGE_VAL) - nearest;
    return (double)(fabsl((long double)found - wanted) / (long double)ulp);
}

START_TEST(exp_is_within_two_ulp)
{
    static const double low[4] = {-1.0, -745.0, -708.0, 0.0}, high[4] = {1.0, -708.0, 0.0, 709.7};
    dice d = {.seed = (uint64_t)_i};
    double worst = 0.0;
    for (int run = 0; run < RUNS; run++) {
        const double x = dice_real(&d, low[_i], high[_i]);
        const double error = ulps(ps_real_exp(x), expl((long double)x));
        ck_assert_msg(error <= 2.0, "exp(%a) is %g ulp off", x, error);
        if (error > worst) worst = error;
    }
    ck_assert_double_gt(worst, 0.0);
}
END_TEST

START_TEST(log_is_within_two_ulp)
{
    dice d = {.seed = (uint64_t)_i};
    for (int run = 0; run < RUNS; run++) {
        double x = dice_real(&d, 0.5, 2.0);                       // near 1: cancellation
        if (_i == 1) x = 1.0 + ldexp(x, -1 - dice_throw(&d, 50)); // very near
        if (_i == 2) x = ldexp(x, dice_throw(&d, 2040) - 1020);   // all normal sizes
        if (_i == 3) x = ldexp(x, -1030 - dice_throw(&d, 40));    // subnormal
        if (_i == 4) x = 1.0 - ldexp(x, -2 - dice_throw(&d, 50));
        const double error = ulps(ps_real_log(x), logl((long double)x));
        ck_assert_msg(error <= 2.0, "log(%a) is %g ulp off", x, error);
    }
}
END_TEST

START_TEST(sine_and_cosine_are_within_2_to_the_minus_52)
{
    dice d = {.seed = (uint64_t)_i};
    for (int run = 0; run < RUNS; run++) {
        const double size = ldexp(1.0, _i * 4 - 20); // 2^-20 .. 2^40
        const double x = dice_real(&d, -size, size);
        double sine, cosine;
        ps_real_sincos(x, &sine, &cosine);
        const double off_sine = (double)fabsl((long double)sine - sinl((long double)x));
        const double off_cosine = (double)fabsl((long double)cosine - cosl((long double)x));
        ck_assert_msg(off_sine <= 0x1p-52, "sin(%a) is %a off", x, off_sine);
        ck_assert_msg(off_cosine <= 0x1p-52, "cos(%a) is %a off", x, off_cosine);
    }
}
END_TEST

/* The doubles nearest to multiples of pi/2: one of the two results is tiny, all of it comes from
 * the reduction. */
START_TEST(sine_and_cosine_hold_near_multiples_of_a_right_angle)
{
    dice d = {.seed = 1};
    for (int run = 0; run < RUNS; run++) {
        const double n = (double)(dice_bits(&d) >> (25 + dice_throw(&d, 38)));
        const double x = n * 0x1.921fb54442d18p0;
        double sine, cosine;
        ps_real_sincos(x, &sine, &cosine);
        ck_assert_double_le(fabs((double)((long double)sine - sinl((long double)x))), 0x1p-52);
        ck_assert_double_le(fabs((double)((long double)cosine - cosl((long double)x))), 0x1p-52);
    }
}
END_TEST

/* From where 1 + x is 1 to where it is x. */
START_TEST(log1p_is_within_four_ulp)
{
    dice d = {.seed = 11};
    for (int i = 0; i < 200000; i++) {
        const double x = ldexp(dice_real(&d, 1.0, 2.0), dice_throw(&d, 160) - 80);
        ck_assert_double_le(ulps(ps_real_log1p(x), log1pl((long double)x)), 4.0);
    }
    ck_assert(ps_real_log1p(0.0) == 0.0 && isinf(ps_real_log1p((double)INFINITY)));
    ck_assert(isnan(ps_real_log1p((double)NAN)));
}
END_TEST

START_TEST(exp_is_exact_at_its_ends)
{
    ck_assert(ps_real_exp(0.0) == 1.0 && ps_real_exp(-0.0) == 1.0);
    ck_assert(ps_real_exp(-HUGE_VAL) == 0.0);
    ck_assert(ps_real_exp(-1e308) == 0.0 && ps_real_exp(-746.0) == 0.0);
    ck_assert(ps_real_exp(HUGE_VAL) == HUGE_VAL && ps_real_exp(1e308) == HUGE_VAL);
    ck_assert(isfinite(ps_real_exp(0x1.62e42fefa39efp9))); // the largest with a finite result
    ck_assert(ps_real_exp(0x1.62e42fefa39fp9) == HUGE_VAL);
    ck_assert(isnan(ps_real_exp((double)NAN)));
}
END_TEST

START_TEST(log_is_exact_at_its_ends)
{
    ck_assert(ps_real_log(1.0) == 0.0);
    ck_assert(ps_real_log(0.0) == -HUGE_VAL && ps_real_log(-0.0) == -HUGE_VAL);
    ck_assert(ps_real_log(HUGE_VAL) == HUGE_VAL);
    ck_assert(isnan(ps_real_log(-1.0)) && isnan(ps_real_log(-HUGE_VAL)));
    ck_assert(isnan(ps_real_log((double)NAN)));
}
END_TEST

START_TEST(sine_and_cosine_are_exact_at_zero_and_odd_and_even)
{
    double sine, cosine, other_sine, other_cosine;
    ps_real_sincos(0.0, &sine, &cosine);
    ck_assert(sine == 0.0 && cosine == 1.0);
    dice d = {.seed = 3};
    for (int run = 0; run < RUNS; run++) {
        const double x = dice_real(&d, 0.0, 1e6);
        ps_real_sincos(x, &sine, &cosine);
        ps_real_sincos(-x, &other_sine, &other_cosine);
        ck_assert(sine == -other_sine && cosine == other_cosine);
        ck_assert_double_le(fabs(sine * sine + cosine * cosine - 1.0), 0x1p-51);
    }
}
END_TEST

START_TEST(sine_and_cosine_of_nan_are_nan)
{
    double sine, cosine;
    ps_real_sincos((double)NAN, &sine, &cosine);
    ck_assert(isnan(sine) && isnan(cosine));
}
END_TEST

START_TEST(exp_and_log_never_fall)
{
    double exp_before = 0.0, log_before = -HUGE_VAL;
    for (int i = 0; i <= RUNS; i++) {
        const double x = ldexp(1.0 + (double)i / RUNS, -1);
        const double e = ps_real_exp(x), l = ps_real_log(x);
        ck_assert(e >= exp_before && l >= log_before);
        exp_before = e;
        log_before = l;
    }
}
END_TEST

/* The error of the logarithm is multiplied by the exponent. */
START_TEST(pow_is_as_good_as_its_formula)
{
    ck_assert(ps_real_pow(10000.0, 0.0) == 1.0 && ps_real_pow(1.0, 77.0) == 1.0);
    dice d = {.seed = 5};
    for (int run = 0; run < RUNS; run++) {
        const double base = dice_real(&d, 0.1, 1e6), exponent = dice_real(&d, -20.0, 20.0);
        const long double wanted = powl((long double)base, (long double)exponent);
        const double bound = (4.0 + 3.0 * fabs(exponent * log(base))) * 0x1p-53;
        const double found = ps_real_pow(base, exponent);
        const double error = (double)fabsl(((long double)found - wanted) / wanted);
        ck_assert_msg(error <= bound, "pow(%a, %a) is %g off", base, exponent, error);
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("real");
    tcase_add_loop_test(tcase, exp_is_within_two_ulp, 0, 4);
    tcase_add_loop_test(tcase, log_is_within_two_ulp, 0, 5);
    tcase_add_loop_test(tcase, sine_and_cosine_are_within_2_to_the_minus_52, 0, 16);
    tcase_add_test(tcase, sine_and_cosine_hold_near_multiples_of_a_right_angle);
    tcase_add_test(tcase, log1p_is_within_four_ulp);
    tcase_add_test(tcase, exp_is_exact_at_its_ends);
    tcase_add_test(tcase, log_is_exact_at_its_ends);
    tcase_add_test(tcase, sine_and_cosine_are_exact_at_zero_and_odd_and_even);
    tcase_add_test(tcase, sine_and_cosine_of_nan_are_nan);
    tcase_add_test(tcase, exp_and_log_never_fall);
    tcase_add_test(tcase, pow_is_as_good_as_its_formula);
    Suite *suite = suite_create("math/real");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
