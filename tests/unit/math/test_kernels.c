/* The row kernels of every instruction set against their formulas: where math/kernels.h states the
 * order of the operations, bit by bit, elsewhere against double precision. The loop number of a
 * test is the instruction set. Activations, layer norm and caps are in test_activations.c. */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "support/kernel_checks.h"

enum { LENGTHS = 70, SEGMENT = 256 };

/* Distance from the true exponential in units of its last place; denormal results have the units of
 * the smallest numbers. */
static double exp_ulps(const ps_kernels *kernels, float x)
{
    const double wanted = exp((double)x);
    int exponent;
    frexp(wanted, &exponent);
    const double unit = ldexp(1.0, (exponent < -125 ? -125 : exponent) - 24);
    return fabs((double)kernels->exp(x) - wanted) / unit;
}

START_TEST(exp_is_within_one_ulp_of_the_true_value)
{
    const ps_kernels *kernels = kernels_of(_i);
    if (!kernels) return;
    dice d = {.seed = (uint64_t)_i};
    double worst = 0.0;
    for (int run = 0; run < 400000; run++) {
        // The whole range, the denormal results, near 0, and tiny arguments.
        static const double low[4] = {-87.3, -103.97, -1.0, -1e-6};
        static const double high[4] = {88.72, -87.3, 1.0, 1e-6};
        const float x = (float)dice_real(&d, low[run % 4], high[run % 4]);
        const double off = exp_ulps(kernels, x);
        ck_assert_msg(off <= 1.0, "exp(%a) is %g ulp off", (double)x, off);
        if (off > worst) worst = off;
    }
    ck_assert_double_gt(worst, 0.0);
}
END_TEST

START_TEST(exp_is_exact_at_its_ends)
{
    const ps_kernels *k = kernels_of(_i);
    if (!k) return;
    ck_assert(k->exp(0.0f) == 1.0f && k->exp(-0.0f) == 1.0f);
    ck_assert(k->exp(-HUGE_VALF) == 0.0f && !signbit(k->exp(-HUGE_VALF)));
    ck_assert(k->exp(-104.0f) == 0.0f && k->exp(-3e38f) == 0.0f);
    ck_assert(k->exp(HUGE_VALF) == HUGE_VALF && k->exp(3e38f) == HUGE_VALF);
    ck_assert(k->exp(88.73f) == HUGE_VALF && k->exp(88.72f) < HUGE_VALF);
    ck_assert(k->exp(-103.0f) == 0x1p-149f);
    ck_assert(isnan(k->exp(NAN)) && isnan(k->exp(-NAN)));
}
END_TEST

/* A segment's row of scores with NaN and infinities wherever no visible score stands. */
typedef struct scores {
    ps_softmax_job job;
    int first, last, count;
    float *z, *bias, *original; // [count] rounded up to 16, no float more
} scores;

static scores scores_roll(dice *d, bool with_bias, double size)
{
    static const float rubbish[4] = {NAN, HUGE_VALF, -HUGE_VALF, 3e38f};
    scores s = {.first = dice_throw(d, SEGMENT)};
    s.last = s.first + 1 + dice_throw(d, SEGMENT - s.first);
    s.count = (s.last + LANES - 1) / LANES * LANES;
    s.z = floats_new((size_t)s.count);
    s.bias = with_bias ? floats_new((size_t)s.count) : NULL;
    s.original = floats_new((size_t)s.count);
    for (int j = 0; j < s.count; j++) {
        const bool visible = j >= s.first && j < s.last;
        s.z[j] = visible ? (float)dice_real(d, -size, size) : rubbish[dice_throw(d, 4)];
        if (!with_bias) continue;
        s.bias[j] = visible ? (float)dice_real(d, -size, size) : rubbish[dice_throw(d, 4)];
    }
    memcpy(s.original, s.z, (size_t)s.count * sizeof *s.z);
    s.job = (ps_softmax_job){.z = s.z,
                             .bias = s.bias,
                             .first = s.first,
                             .last = s.last,
                             .scale = (float)dice_real(d, 0.05, 1.5)};
    return s;
}

static void scores_release(scores *s)
{
    ps_mem_free(s->z);
    ps_mem_free(s->bias);
    ps_mem_free(s->original);
}

static float biased(const ps_kernels *kernels, const scores *s, int j)
{
    float z = s->original[j] * s->job.scale;
    if (s->job.softcap > 0.0f) kernels->softcap(&z, s->job.softcap, 1);
    return s->bias ? z + s->bias[j] : z;
}

START_TEST(softmax_has_the_bits_of_its_stated_order_and_ignores_hidden_lanes)
{
    const ps_kernels *kernels = kernels_of(_i);
    if (!kernels) return;
    dice d = {.seed = 20};
    for (int run = 0; run < 2000; run++) {
        scores s = scores_roll(&d, run % 2, run % 3 ? 8.0 : 300.0);
        float sum, lanes[LANES] = {0}, wanted = -HUGE_VALF;
        s.job.softcap = run % 5 == 0 ? (float)dice_real(&d, 0.5, 60.0) : 0.0f;
        const float maximum = kernels->softmax(&s.job, &sum);
        for (int j = s.first; j < s.last; j++) {
            if (biased(kernels, &s, j) > wanted) wanted = biased(kernels, &s, j);
        }
        ck_assert(maximum == wanted);
        for (int j = s.first; j < s.last; j++) {
            const float p = kernels->exp(biased(kernels, &s, j) - maximum);
            ck_assert_msg(s.z[j] == p, "weight %d of [%d, %d)", j, s.first, s.last);
            lanes[j % LANES] += p;
        }
        ck_assert_msg(sum == tree_sum(lanes), "sum over [%d, %d)", s.first, s.last);
        scores_release(&s);
    }
}
END_TEST

/* The cap comes before the bias: a score of any size stays within the cap of its bias. */
START_TEST(softmax_caps_scores_before_it_adds_the_bias)
{
    const ps_kernels *kernels = kernels_of(_i);
    if (!kernels) return;
    float z[16] = {1e6f, -1e6f, 0.0f, 40.0f}, bias[16] = {-30.0f, 20.0f, 0.0f, 1.0f}, sum;
    const ps_softmax_job job = {
        .z = z, .bias = bias, .first = 0, .last = 4, .scale = 0.5f, .softcap = 30.0f};
    const float maximum = kernels->softmax(&job, &sum);
    const double wanted[4] = {0.0, -10.0, 0.0, 30.0 * tanh(20.0 / 30.0) + 1.0};
    ck_assert_double_le(fabs((double)maximum - wanted[3]), 1e-5);
    for (int j = 0; j < 4; j++) {
        ck_assert_double_le(fabs((double)z[j] - exp(wanted[j] - wanted[3])), 1e-6);
    }
}
END_TEST

START_TEST(softmax_weights_over_their_sum_make_one)
{
    const ps_kernels *kernels = kernels_of(_i);
    if (!kernels) return;
    dice d = {.seed = 21};
    for (int run = 0; run < 2000; run++) {
        scores s = scores_roll(&d, run % 2, run % 3 ? 8.0 : 1000.0);
        float sum;
        kernels->softmax(&s.job, &sum);
        double total = 0.0;
        for (int j = s.first; j < s.last; j++) {
            ck_assert(s.z[j] >= 0.0f && s.z[j] <= 1.0f);
            total += (double)s.z[j];
        }
        ck_assert_double_ge((double)sum, 1.0);
        ck_assert_double_le(fabs(total / (double)sum - 1.0), 0x1p-20);
        scores_release(&s);
    }
}
END_TEST

START_TEST(softmax_of_nothing_but_minus_infinity_is_nothing)
{
    const ps_kernels *kernels = kernels_of(_i);
    if (!kernels) return;
    dice d = {.seed = 22};
    for (int run = 0; run < 200; run++) {
        scores s = scores_roll(&d, true, 1.0);
        for (int j = s.first; j < s.last; j++) {
            s.bias[j] = -HUGE_VALF;
        }
        float sum = 1.0f;
        ck_assert(kernels->softmax(&s.job, &sum) == -HUGE_VALF);
        ck_assert(sum == 0.0f);
        for (int j = s.first; j < s.last; j++) {
            ck_assert(s.z[j] == 0.0f);
        }
        scores_release(&s);
    }
}
END_TEST

/* NaN must not be smoothed away: it is how broken weights are found out. */
START_TEST(softmax_shows_a_visible_nan)
{
    const ps_kernels *kernels = kernels_of(_i);
    if (!kernels) return;
    dice d = {.seed = 23};
    for (int run = 0; run < 500; run++) {
        scores s = scores_roll(&d, run % 2, run % 3 ? 5.0 : 1000.0);
        s.z[s.first + dice_throw(&d, s.last - s.first)] = NAN;
        s.job.softcap = run % 4 == 0 ? 30.0f : 0.0f;
        float sum = 0.0f;
        kernels->softmax(&s.job, &sum);
        ck_assert(isnan(sum));
        scores_release(&s);
    }
}
END_TEST

START_TEST(rms_norm_has_the_bits_of_its_order_and_is_near_its_formula)
{
    const ps_kernels *kernels = kernels_of(_i);
    if (!kernels) return;
    dice d = {.seed = 30};
    for (int n = 1; n <= LENGTHS; n++) {
        float *x = floats_new_rolled(&d, (size_t)n, -3.0, 3.0), lanes[LANES] = {0};
        float *weight = floats_new_rolled(&d, (size_t)n, -2.0, 2.0);
        float *out = floats_new_poisoned((size_t)n + 1), *wanted = floats_new((size_t)n);
        double squares = 0.0;
        for (int i = 0; i < n; i++) {
            lanes[i % LANES] = fmaf(x[i], x[i], lanes[i % LANES]);
            squares += (double)x[i] * (double)x[i];
        }
        const float factor = 1.0f / sqrtf(tree_sum(lanes) / (float)n + 1e-5f);
        const double root = sqrt(squares / n + 1e-5);
        kernels->rms_norm(x, weight, n, 1e-5f, out);
        for (int i = 0; i < n; i++) {
            wanted[i] = x[i] * factor * weight[i];
            const double truth = (double)x[i] / root * (double)weight[i];
            ck_assert_double_le(fabs((double)out[i] - truth), 0x1p-21 * fabs(truth));
        }
        check_same(out, wanted, (size_t)n, "rms_norm");
        ck_assert(floats_untouched(out + n, 1));
        kernels->rms_norm(x, weight, n, 1e-5f, x); // in place, as for the heads
        check_same(x, wanted, (size_t)n, "rms_norm in place");
        ps_mem_free(x);
        ps_mem_free(weight);
        ps_mem_free(out);
        ps_mem_free(wanted);
    }
}
END_TEST

START_TEST(rms_norm_of_zeros_is_zero)
{
    const ps_kernels *kernels = kernels_of(_i);
    if (!kernels) return;
    const float x[20] = {0}, weight[20] = {1.0f, 2.0f};
    float out[20];
    kernels->rms_norm(x, weight, 20, 1e-6f, out);
    check_same(out, x, 20, "rms_norm of zeros");
}
END_TEST

/* add, scale and fold, of every length that ends inside a vector. */
START_TEST(elementwise_kernels_round_as_stated_and_stop_at_their_length)
{
    const ps_kernels *kernels = kernels_of(_i);
    if (!kernels) return;
    dice d = {.seed = 32};
    for (int length = 1; length <= LENGTHS; length++) {
        const size_t n = (size_t)length;
        const float keep = (float)dice_real(&d, 0.0, 1.0), take = (float)dice_real(&d, 0.0, 1.0);
        float *a = floats_new_rolled(&d, n, -3.0, 3.0), *b = floats_new_rolled(&d, n, -3.0, 3.0);
        float *out = floats_new_poisoned(3 * (n + 1)), *wanted = floats_new(3 * n);
        float *sum = out, *scaled = out + n + 1, *folded = out + 2 * (n + 1);
        for (size_t i = 0; i < n; i++) {
            sum[i] = scaled[i] = folded[i] = b[i];
            wanted[i] = b[i] + a[i];
            wanted[n + i] = b[i] * keep;
            wanted[2 * n + i] = fmaf(a[i], take, b[i] * keep);
        }
        kernels->add(a, sum, length);
        kernels->scale(scaled, keep, length);
        kernels->fold(folded, a, keep, take, length);
        check_same(sum, wanted, n, "add");
        check_same(scaled, wanted + n, n, "scale");
        check_same(folded, wanted + 2 * n, n, "fold");
        ck_assert(floats_untouched(sum + n, 1) && floats_untouched(scaled + n, 1));
        ck_assert(floats_untouched(folded + n, 1));
        ps_mem_free(a);
        ps_mem_free(b);
        ps_mem_free(out);
        ps_mem_free(wanted);
    }
}
END_TEST

/* What was seen so far weighs nothing against a segment infinitely larger, and the other way. */
START_TEST(fold_with_zero_forgets)
{
    const ps_kernels *kernels = kernels_of(_i);
    if (!kernels) return;
    float acc[17], part[17];
    for (int i = 0; i < 17; i++) {
        acc[i] = (float)i;
        part[i] = (float)(100 + i);
    }
    kernels->fold(acc, part, 0.0f, 1.0f, 17);
    check_same(acc, part, 17, "the new part");
    kernels->fold(acc, acc, 1.0f, 0.0f, 17);
    check_same(acc, part, 17, "the old sum");
}
END_TEST

START_TEST(rotation_rounds_each_product_and_sum_once)
{
    const ps_kernels *kernels = kernels_of(_i);
    if (!kernels) return;
    dice d = {.seed = 33};
    for (int half = 1; half <= LENGTHS; half++) {
        const size_t n = (size_t)half;
        float *x = floats_new_poisoned(2 * n + 1), *wanted = floats_new(2 * n);
        float *cosine = floats_new_rolled(&d, n, -1.0, 1.0);
        float *sine = floats_new_rolled(&d, n, -1.0, 1.0);
        floats_roll(&d, x, 2 * n, -3.0, 3.0);
        for (size_t t = 0; t < n; t++) {
            wanted[t] = x[t] * cosine[t] - x[n + t] * sine[t];
            wanted[n + t] = x[n + t] * cosine[t] + x[t] * sine[t];
        }
        kernels->rope_half(x, cosine, sine, half);
        check_same(x, wanted, 2 * n, "rotation");
        ck_assert(floats_untouched(x + 2 * n, 1));
        ps_mem_free(x);
        ps_mem_free(wanted);
        ps_mem_free(cosine);
        ps_mem_free(sine);
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("kernels");
    tcase_set_timeout(tcase, 60.0);
    const int n = ps_isa_count();
    tcase_add_loop_test(tcase, exp_is_within_one_ulp_of_the_true_value, 0, n);
    tcase_add_loop_test(tcase, exp_is_exact_at_its_ends, 0, n);
    tcase_add_loop_test(tcase, softmax_has_the_bits_of_its_stated_order_and_ignores_hidden_lanes, 0,
                        n);
    tcase_add_loop_test(tcase, softmax_caps_scores_before_it_adds_the_bias, 0, n);
    tcase_add_loop_test(tcase, softmax_weights_over_their_sum_make_one, 0, n);
    tcase_add_loop_test(tcase, softmax_of_nothing_but_minus_infinity_is_nothing, 0, n);
    tcase_add_loop_test(tcase, softmax_shows_a_visible_nan, 0, n);
    tcase_add_loop_test(tcase, rms_norm_has_the_bits_of_its_order_and_is_near_its_formula, 0, n);
    tcase_add_loop_test(tcase, rms_norm_of_zeros_is_zero, 0, n);
    tcase_add_loop_test(tcase, elementwise_kernels_round_as_stated_and_stop_at_their_length, 0, n);
    tcase_add_loop_test(tcase, fold_with_zero_forgets, 0, n);
    tcase_add_loop_test(tcase, rotation_rounds_each_product_and_sum_once, 0, n);
    Suite *suite = suite_create("math/kernels");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
