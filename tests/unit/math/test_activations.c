/* Activations, layer norm, caps and clips of every instruction set against their formulas in double
 * precision. The loop number of a test is the instruction set. */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "support/kernel_checks.h"

enum { LENGTHS = 70 };

START_TEST(every_kind_has_a_name_of_its_own)
{
    for (int kind = 0; kind < PS_ACTIVATION_KIND_COUNT; kind++) {
        for (int other = 0; other < kind; other++) {
            ck_assert_str_ne(ps_activation_name((ps_activation_kind)kind),
                             ps_activation_name((ps_activation_kind)other));
        }
    }
    ck_assert_str_eq(ps_activation_name(PS_ACTIVATION_SILU), "silu");
    ck_assert_str_eq(ps_activation_name(PS_ACTIVATION_GELU_TANH), "gelu_tanh");
    ck_assert_str_eq(ps_activation_name(PS_ACTIVATION_SWIGLU_OSS), "swiglu_oss");
}
END_TEST

/* The formulas of math/activation.h in double precision. */
static double activated(ps_activation a, double g)
{
    switch (a.kind) {
    case PS_ACTIVATION_SILU:
        return g / (1.0 + exp(-g));
    case PS_ACTIVATION_GELU:
        return 0.5 * g * erfc(-g / sqrt(2.0));
    case PS_ACTIVATION_GELU_TANH: {
        const double inner = sqrt(2.0 / acos(-1.0)) * (g + 0.044715 * g * g * g);
        return g / (1.0 + exp(-2.0 * inner)); // 1 + tanh without its cancellation
    }
    case PS_ACTIVATION_GELU_QUICK:
        return g / (1.0 + exp(-1.702 * g));
    case PS_ACTIVATION_RELU:
        return g > 0.0 ? g : 0.0;
    case PS_ACTIVATION_RELU2:
        return g > 0.0 ? g * g : 0.0;
    default:
        g = g < (double)a.limit ? g : (double)a.limit;
        return g / (1.0 + exp(-(double)a.alpha * g));
    }
}

static double gated(ps_activation a, double g, double up)
{
    const double limit = (double)a.limit;
    if (a.kind != PS_ACTIVATION_SWIGLU_OSS) return activated(a, g) * up;
    return activated(a, g) * ((up > limit ? limit : up < -limit ? -limit : up) + 1.0);
}

/* Below 0 the result is a small difference of an exponential's argument, which f32 holds to 2^-24
 * of its own size: the error grows with that argument, and the result is far below 1 by then. */
static double tolerance(ps_activation a, double g, double wanted)
{
    const double argument =
        a.kind == PS_ACTIVATION_GELU        ? g * g / 2.0
        : a.kind == PS_ACTIVATION_GELU_TANH ? fabs(1.6 * g + 0.0714 * g * g * g)
        : a.kind == PS_ACTIVATION_GELU_QUICK || a.kind == PS_ACTIVATION_SWIGLU_OSS ? fabs(1.702 * g)
                                                                                   : 0.0;
    const double relative = 0x1p-20 + (g < 0.0 ? argument * 0x1p-22 : 0.0);
    // Below -88 the exponential overflows and the result is 0 instead of a number under 1e-35.
    return relative * fabs(wanted) + 1e-35;
}

START_TEST(activations_are_near_their_formulas)
{
    const ps_kernels *kernels = kernels_of(_i);
    if (!kernels) return;
    dice d = {.seed = 31};
    for (int run = 0; run < LENGTHS * PS_ACTIVATION_KIND_COUNT; run++) {
        const int n = 1 + run % LENGTHS;
        const ps_activation a = {
            .kind = (ps_activation_kind)(run / LENGTHS), .alpha = 1.702f, .limit = 7.0f};
        const double size = n % 3 == 0 ? 200.0 : n % 3 == 1 ? 8.0 : 0.01;
        float *gate = floats_new_rolled(&d, (size_t)n, -size, size);
        float *up = floats_new_rolled(&d, (size_t)n, -9.0, 9.0);
        float *with = floats_new_poisoned((size_t)n + 1);
        float *without = floats_new_poisoned((size_t)n + 1);
        kernels->activate(&a, gate, up, with, n);
        kernels->activate(&a, gate, NULL, without, n);
        for (int i = 0; i < n; i++) {
            const double g = (double)gate[i], both = gated(a, g, (double)up[i]);
            const double one = activated(a, g);
            ck_assert_msg(fabs((double)with[i] - both) <= tolerance(a, g, both),
                          "%s(%a) gated by %a is %a", ps_activation_name(a.kind), g, (double)up[i],
                          (double)with[i]);
            ck_assert_msg(fabs((double)without[i] - one) <= tolerance(a, g, one),
                          "%s(%a) is %a, not %a", ps_activation_name(a.kind), g, (double)without[i],
                          one);
        }
        ck_assert(floats_untouched(with + n, 1) && floats_untouched(without + n, 1));
        ps_mem_free(gate);
        ps_mem_free(up);
        ps_mem_free(with);
        ps_mem_free(without);
    }
}
END_TEST

START_TEST(activations_of_ordinary_size_are_within_2_to_the_minus_20)
{
    const ps_kernels *kernels = kernels_of(_i);
    if (!kernels) return;
    dice d = {.seed = 34};
    enum { N = 4096 };
    float *gate = floats_new_rolled(&d, N, -2.0, 12.0), *out = floats_new(N);
    for (int kind = 0; kind < PS_ACTIVATION_KIND_COUNT; kind++) {
        const ps_activation a = {.kind = (ps_activation_kind)kind, .alpha = 1.702f, .limit = 7.0f};
        kernels->activate(&a, gate, NULL, out, N);
        for (int i = 0; i < N; i++) {
            const double wanted = activated(a, (double)gate[i]);
            const double off = fabs((double)out[i] - wanted);
            ck_assert_msg(off <= 0x1p-20 * fabs(wanted), "%s(%a) is off by %g of itself",
                          ps_activation_name(a.kind), (double)gate[i], off / fabs(wanted));
        }
    }
    ps_mem_free(gate);
    ps_mem_free(out);
}
END_TEST

START_TEST(activations_may_write_over_gate_or_up)
{
    const ps_kernels *kernels = kernels_of(_i);
    if (!kernels) return;
    dice d = {.seed = 35};
    for (int run = 0; run < LENGTHS * PS_ACTIVATION_KIND_COUNT; run++) {
        const int length = 1 + run % LENGTHS;
        const size_t n = (size_t)length;
        const ps_activation a = {
            .kind = (ps_activation_kind)(run / LENGTHS), .alpha = 1.5f, .limit = 2.0f};
        float *gate = floats_new_rolled(&d, n, -9.0, 9.0),
              *up = floats_new_rolled(&d, n, -3.0, 3.0);
        float *first = floats_new_rolled(&d, n, 0.0, 1.0), *wanted = floats_new(n);
        memcpy(first, gate, n * sizeof *first);
        kernels->activate(&a, gate, up, wanted, length);
        kernels->activate(&a, first, up, first, length);
        check_same(first, wanted, n, "over the gate");
        kernels->activate(&a, gate, up, up, length);
        check_same(up, wanted, n, "over up");
        ps_mem_free(gate);
        ps_mem_free(up);
        ps_mem_free(first);
        ps_mem_free(wanted);
    }
}
END_TEST

START_TEST(activations_at_their_ends)
{
    const ps_kernels *kernels = kernels_of(_i);
    if (!kernels) return;
    const float gate[6] = {NAN, 0.0f, HUGE_VALF, 1e30f, -1e30f, -HUGE_VALF};
    for (int kind = 0; kind < PS_ACTIVATION_KIND_COUNT; kind++) {
        const ps_activation a = {.kind = (ps_activation_kind)kind, .alpha = 1.702f, .limit = 7.0f};
        const char *name = ps_activation_name(a.kind);
        const bool bounded = a.kind == PS_ACTIVATION_SWIGLU_OSS;
        const float one[2] = {1.0f, NAN};
        float out[6], by_nan[2];
        kernels->activate(&a, gate, NULL, out, 6);
        ck_assert_msg(isnan(out[0]), "%s hides a NaN", name);
        ck_assert_msg(out[1] == 0.0f, "%s(0) is %a", name, (double)out[1]);
        ck_assert_msg(bounded ? out[2] == out[3] && out[3] < 7.0f : out[2] == HUGE_VALF,
                      "%s(inf) is %a", name, (double)out[2]);
        ck_assert_msg(a.kind == PS_ACTIVATION_RELU2 || bounded || out[3] == 1e30f, "%s(1e30) is %a",
                      name, (double)out[3]);
        ck_assert_msg(fabs((double)out[4]) < 1e-5, "%s(-1e30) is %a", name, (double)out[4]);
        kernels->activate(&a, one, one, by_nan, 2);
        ck_assert_msg(isfinite(by_nan[0]) && isnan(by_nan[1]), "%s hides a NaN", name);
        const float up[1] = {NAN};
        kernels->activate(&a, one, up, by_nan, 1);
        ck_assert_msg(isnan(by_nan[0]), "%s hides a NaN of up", name);
    }
}
END_TEST

START_TEST(swiglu_of_gpt_oss_holds_gate_and_up_within_its_limit)
{
    const ps_kernels *kernels = kernels_of(_i);
    if (!kernels) return;
    const ps_activation a = {.kind = PS_ACTIVATION_SWIGLU_OSS, .alpha = 1.702f, .limit = 7.0f};
    const float gate[4] = {7.0f, 50.0f, 2.0f, 2.0f}, up[4] = {9.0f, 7.0f, -8.0f, -7.0f};
    float out[4];
    kernels->activate(&a, gate, up, out, 4);
    ck_assert(out[0] == out[1] && out[2] == out[3]);
    ck_assert_double_le(fabs((double)out[0] - 7.0 / (1.0 + exp(-1.702 * 7.0)) * 8.0), 1e-5);
    ck_assert_double_le(fabs((double)out[2] - 2.0 / (1.0 + exp(-1.702 * 2.0)) * -6.0), 1e-5);
}
END_TEST

START_TEST(layer_norm_has_the_bits_of_its_order_and_is_near_its_formula)
{
    const ps_kernels *kernels = kernels_of(_i);
    if (!kernels) return;
    dice d = {.seed = 36};
    for (int run = 0; run < 2 * LENGTHS; run++) {
        const int n = 1 + run / 2;
        float *x = floats_new_rolled(&d, (size_t)n, -3.0, 5.0);
        float *weight = floats_new_rolled(&d, (size_t)n, -2.0, 2.0);
        float *bias = run % 2 ? floats_new_rolled(&d, (size_t)n, -2.0, 2.0) : NULL;
        float *out = floats_new_poisoned((size_t)n + 1), *wanted = floats_new((size_t)n);
        float sums[LANES] = {0}, lanes[LANES] = {0};
        double total = 0.0, squares = 0.0;
        for (int i = 0; i < n; i++) {
            sums[i % LANES] += x[i];
            total += (double)x[i];
        }
        const float mean = tree_sum(sums) / (float)n;
        for (int i = 0; i < n; i++) {
            lanes[i % LANES] = fmaf(x[i] - mean, x[i] - mean, lanes[i % LANES]);
            squares += ((double)x[i] - total / n) * ((double)x[i] - total / n);
        }
        const float factor = 1.0f / sqrtf(tree_sum(lanes) / (float)n + 1e-5f);
        kernels->layer_norm(x, weight, bias, n, 1e-5f, out);
        for (int i = 0; i < n; i++) {
            wanted[i] = (x[i] - mean) * factor * weight[i];
            if (bias) wanted[i] += bias[i];
            const double truth =
                ((double)x[i] - total / n) / sqrt(squares / n + 1e-5) * (double)weight[i] +
                (bias ? (double)bias[i] : 0.0);
            // The mean is rounded to 2^-24 of 5, and a row of one or two may stand near its mean.
            ck_assert_double_le(fabs((double)out[i] - truth), n > 2 ? 2e-5 : 2e-3);
        }
        check_same(out, wanted, (size_t)n, "layer_norm");
        ck_assert(floats_untouched(out + n, 1));
        kernels->layer_norm(x, weight, bias, n, 1e-5f, x); // in place, as for the heads
        check_same(x, wanted, (size_t)n, "layer_norm in place");
        ps_mem_free(x);
        ps_mem_free(weight);
        ps_mem_free(bias);
        ps_mem_free(out);
        ps_mem_free(wanted);
    }
}
END_TEST

/* A row far from 0 keeps its digits: the mean goes before the squares are taken. */
START_TEST(layer_norm_of_a_shifted_row_is_that_of_the_row)
{
    const ps_kernels *kernels = kernels_of(_i);
    if (!kernels) return;
    float near[50], far[50], weight[50], out[2][50];
    for (int i = 0; i < 50; i++) {
        near[i] = (float)(i % 7) - 3.0f;
        far[i] = near[i] + 4096.0f;
        weight[i] = 1.0f;
    }
    kernels->layer_norm(near, weight, NULL, 50, 1e-5f, out[0]);
    kernels->layer_norm(far, weight, NULL, 50, 1e-5f, out[1]);
    for (int i = 0; i < 50; i++) {
        ck_assert_double_le(fabs((double)(out[0][i] - out[1][i])), 1e-3);
    }
}
END_TEST

START_TEST(layer_norm_of_equal_values_is_the_bias)
{
    const ps_kernels *kernels = kernels_of(_i);
    if (!kernels) return;
    float x[20], weight[20], bias[20], out[20];
    for (int i = 0; i < 20; i++) {
        x[i] = 3.0f;
        weight[i] = 2.0f;
        bias[i] = (float)i;
    }
    kernels->layer_norm(x, weight, bias, 20, 1e-5f, out);
    check_same(out, bias, 20, "layer_norm of equal values");
}
END_TEST

/* tanh is seen through softcap with a cap of 1, where the division and the product are exact. */
START_TEST(softcap_is_a_tanh_of_relative_error_under_2_to_the_minus_20)
{
    const ps_kernels *kernels = kernels_of(_i);
    if (!kernels) return;
    dice d = {.seed = 37};
    for (int run = 0; run < 20000; run++) {
        static const double size[4] = {1e-6, 0.7, 3.0, 30.0};
        const float x = (float)dice_real(&d, -size[run % 4], size[run % 4]);
        float found = x;
        kernels->softcap(&found, 1.0f, 1);
        const double wanted = tanh((double)x);
        ck_assert_msg(fabs((double)found - wanted) <= 0x1p-21 * fabs(wanted), "tanh(%a) is %a",
                      (double)x, (double)found);
    }
    float ends[5] = {0.0f, HUGE_VALF, -HUGE_VALF, NAN, 1e30f};
    kernels->softcap(ends, 30.0f, 5);
    ck_assert(ends[0] == 0.0f && ends[1] == 30.0f && ends[2] == -30.0f && isnan(ends[3]));
    ck_assert(ends[4] == 30.0f);
}
END_TEST

START_TEST(softcap_and_clip_stop_at_their_length)
{
    const ps_kernels *kernels = kernels_of(_i);
    if (!kernels) return;
    dice d = {.seed = 38};
    for (int n = 1; n <= LENGTHS; n++) {
        float *capped = floats_new_poisoned((size_t)n + 1);
        float *clipped = floats_new_poisoned((size_t)n + 1), *x = floats_new((size_t)n);
        floats_roll(&d, x, (size_t)n, -200.0, 200.0);
        memcpy(capped, x, (size_t)n * sizeof *x);
        memcpy(clipped, x, (size_t)n * sizeof *x);
        kernels->softcap(capped, 50.0f, n);
        kernels->clip(clipped, 6.0f, n);
        for (int i = 0; i < n; i++) {
            const double wanted = 50.0 * tanh((double)x[i] / 50.0);
            ck_assert_double_le(fabs((double)capped[i] - wanted), 0x1p-20 * fabs(wanted));
            ck_assert(clipped[i] == (x[i] > 6.0f ? 6.0f : x[i] < -6.0f ? -6.0f : x[i]));
        }
        ck_assert(floats_untouched(capped + n, 1) && floats_untouched(clipped + n, 1));
        ps_mem_free(capped);
        ps_mem_free(clipped);
        ps_mem_free(x);
    }
}
END_TEST

START_TEST(clip_keeps_a_nan_and_holds_infinities)
{
    const ps_kernels *kernels = kernels_of(_i);
    if (!kernels) return;
    float x[4] = {NAN, HUGE_VALF, -HUGE_VALF, -0.0f};
    kernels->clip(x, 8.0f, 4);
    ck_assert(isnan(x[0]) && x[1] == 8.0f && x[2] == -8.0f && x[3] == 0.0f);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("activations");
    tcase_set_timeout(tcase, 60.0);
    const int n = ps_isa_count();
    tcase_add_test(tcase, every_kind_has_a_name_of_its_own);
    tcase_add_loop_test(tcase, activations_are_near_their_formulas, 0, n);
    tcase_add_loop_test(tcase, activations_of_ordinary_size_are_within_2_to_the_minus_20, 0, n);
    tcase_add_loop_test(tcase, activations_may_write_over_gate_or_up, 0, n);
    tcase_add_loop_test(tcase, activations_at_their_ends, 0, n);
    tcase_add_loop_test(tcase, swiglu_of_gpt_oss_holds_gate_and_up_within_its_limit, 0, n);
    tcase_add_loop_test(tcase, layer_norm_has_the_bits_of_its_order_and_is_near_its_formula, 0, n);
    tcase_add_loop_test(tcase, layer_norm_of_a_shifted_row_is_that_of_the_row, 0, n);
    tcase_add_loop_test(tcase, layer_norm_of_equal_values_is_the_bias, 0, n);
    tcase_add_loop_test(tcase, softcap_is_a_tanh_of_relative_error_under_2_to_the_minus_20, 0, n);
    tcase_add_loop_test(tcase, softcap_and_clip_stop_at_their_length, 0, n);
    tcase_add_loop_test(tcase, clip_keeps_a_nan_and_holds_infinities, 0, n);
    Suite *suite = suite_create("math/activations");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
