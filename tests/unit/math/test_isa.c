/* The table of instruction sets, and the law that it rests on: every kernel of every set gives the
 * bits of the portable one. The loop number of a test is its seed; each goes through all sets. */
#include "math/isa.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/dtype.h"
#include "math/kernels.h"
#include "support/floats.h"

enum { SETS_MAX = 8, LENGTH_MAX = 90 };

typedef struct sets {
    int n;
    const ps_kernels *kernels[SETS_MAX];
} sets;

static sets supported_sets(void)
{
    sets s = {0};
    for (int isa = 0; isa < ps_isa_count() && s.n < SETS_MAX; isa++) {
        if (!ps_isa_supported(isa)) continue;
        ck_assert_int_eq(ps_isa_kernels(ps_isa_name(isa), &s.kernels[s.n++]), PS_OK);
    }
    return s;
}

static void check_equal(const ps_kernels *set, const float *found, const float *wanted, size_t n,
                        const char *what)
{
    const size_t at = floats_first_difference(found, wanted, n);
    ck_assert_msg(at == n, "%s on %s: value %zu of %zu is %a, portable %a", what, set->name, at, n,
                  (double)found[at], (double)wanted[at]);
}

/* Any float at all: denormals, infinities and NaN among them, but mostly of ordinary size. */
static float any_float(dice *d)
{
    uint32_t bits = (uint32_t)dice_bits(d);
    if (dice_throw(d, 10) != 0) bits = (bits & 0x83FFFFFF) | 0x3C000000u;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float *new_any(dice *d, size_t n)
{
    float *values = floats_new(n);
    for (size_t i = 0; i < n; i++) {
        values[i] = any_float(d);
    }
    return values;
}

START_TEST(portable_comes_first_and_is_always_there)
{
    ck_assert_int_ge(ps_isa_count(), 1);
    ck_assert_str_eq(ps_isa_name(0), "portable");
    ck_assert(ps_isa_supported(0));
}
END_TEST

START_TEST(each_name_gives_its_own_kernels)
{
    for (int isa = 0; isa < ps_isa_count(); isa++) {
        const ps_kernels *kernels = NULL;
        const ps_err err = ps_isa_kernels(ps_isa_name(isa), &kernels);
        if (!ps_isa_supported(isa)) {
            ck_assert_int_eq(err, PS_ERR_USAGE);
            continue;
        }
        ck_assert_int_eq(err, PS_OK);
        ck_assert_str_eq(kernels->name, ps_isa_name(isa));
    }
}
END_TEST

START_TEST(auto_takes_the_last_set_that_the_processor_has)
{
    int best = 0;
    for (int isa = 0; isa < ps_isa_count(); isa++) {
        if (ps_isa_supported(isa)) best = isa;
    }
    const ps_kernels *by_name = NULL, *by_default = NULL;
    ck_assert_int_eq(ps_isa_kernels("auto", &by_name), PS_OK);
    ck_assert_int_eq(ps_isa_kernels(NULL, &by_default), PS_OK);
    ck_assert_ptr_eq(by_name, by_default);
    ck_assert_str_eq(by_name->name, ps_isa_name(best));
}
END_TEST

START_TEST(an_unknown_set_is_an_error_that_lists_what_there_is)
{
    const ps_kernels *kernels = NULL;
    ck_assert_int_eq(ps_isa_kernels("sve9", &kernels), PS_ERR_USAGE);
    ck_assert_ptr_null(kernels);
    ck_assert_ptr_nonnull(strstr(ps_err_message(), "sve9"));
    for (int isa = 0; isa < ps_isa_count(); isa++) {
        const bool listed = strstr(ps_err_message(), ps_isa_name(isa)) != NULL;
        ck_assert_int_eq(listed, ps_isa_supported(isa));
    }
    ck_assert_int_eq(ps_isa_kernels("", &kernels), PS_ERR_USAGE);
}
END_TEST

START_TEST(exp_has_the_same_bits_for_any_float)
{
    const sets s = supported_sets();
    dice d = {.seed = (uint64_t)_i};
    for (int run = 0; run < 100000; run++) {
        const float x = run % 2 ? any_float(&d) : (float)dice_real(&d, -105.0, 90.0);
        const float wanted = s.kernels[0]->exp(x);
        for (int i = 1; i < s.n; i++) {
            const float found = s.kernels[i]->exp(x);
            check_equal(s.kernels[i], &found, &wanted, 1, "exp");
        }
    }
}
END_TEST

/* Inputs of one call of each row kernel, of any length. */
typedef struct row_inputs {
    int n;
    float *a, *b, *x; // [n], [n], [2n]
    float keep, take;
} row_inputs;

enum { ROW_KERNELS = 10 + PS_ACTIVATION_KIND_COUNT };
static const char *row_kernel_name(int which)
{
    static const char *const names[] = {"rms_norm",  "layer_norm", "layer_norm without bias",
                                        "softcap",   "clip",       "add",
                                        "scale",     "fold",       "rope_half",
                                        "gelu alone"};
    const int kind = which - (int)(sizeof names / sizeof names[0]);
    return kind < 0 ? names[which] : ps_activation_name((ps_activation_kind)kind);
}

/* out[2n]: what the kernel makes of x and the other inputs. */
static void run_row_kernel(const ps_kernels *kernels, int which, const row_inputs *in, float *out)
{
    ps_activation activation = {.kind = PS_ACTIVATION_GELU, .alpha = 1.702f, .limit = 7.0f};
    memcpy(out, in->x, 2 * (size_t)in->n * sizeof *out);
    switch (which) {
    case 0:
        kernels->rms_norm(in->x, in->a, in->n, 1e-6f, out);
        break;
    case 1:
        kernels->layer_norm(in->x, in->a, in->b, in->n, 1e-6f, out);
        break;
    case 2:
        kernels->layer_norm(in->x, in->a, NULL, in->n, 1e-6f, out);
        break;
    case 3:
        kernels->softcap(out, 2.5f, in->n);
        break;
    case 4:
        kernels->clip(out, 0.5f, in->n);
        break;
    case 5:
        kernels->add(in->a, out, in->n);
        break;
    case 6:
        kernels->scale(out, in->keep, in->n);
        break;
    case 7:
        kernels->fold(out, in->a, in->keep, in->take, in->n);
        break;
    case 8:
        kernels->rope_half(out, in->a, in->b, in->n);
        break;
    case 9:
        kernels->activate(&activation, in->x, NULL, out, in->n);
        break;
    default:
        activation.kind = (ps_activation_kind)(which - 10);
        kernels->activate(&activation, in->x, in->b, out, in->n);
    }
}

START_TEST(row_kernels_have_the_same_bits_for_any_length)
{
    const sets s = supported_sets();
    dice d = {.seed = (uint64_t)_i};
    for (int n = 1; n <= LENGTH_MAX; n++) {
        row_inputs in = {.n = n,
                         .a = new_any(&d, (size_t)n),
                         .b = new_any(&d, (size_t)n),
                         .x = _i % 2 ? new_any(&d, 2 * (size_t)n)
                                     : floats_new_rolled(&d, 2 * (size_t)n, -9.0, 9.0),
                         .keep = any_float(&d),
                         .take = any_float(&d)};
        float *wanted = floats_new(2 * (size_t)n), *found = floats_new(2 * (size_t)n);
        for (int which = 0; which < ROW_KERNELS; which++) {
            run_row_kernel(s.kernels[0], which, &in, wanted);
            for (int i = 1; i < s.n; i++) {
                run_row_kernel(s.kernels[i], which, &in, found);
                check_equal(s.kernels[i], found, wanted, 2 * (size_t)n, row_kernel_name(which));
            }
        }
        ps_mem_free(in.a);
        ps_mem_free(in.b);
        ps_mem_free(in.x);
        ps_mem_free(wanted);
        ps_mem_free(found);
    }
}
END_TEST

START_TEST(rms_norm_has_the_same_bits_for_lengths_1_to_70_and_ordinary_values)
{
    const sets s = supported_sets();
    dice d = {.seed = (uint64_t)_i};
    for (int n = 1; n <= 70; n++) {
        float x[70], weight[70], wanted[70], found[70];
        floats_roll(&d, x, (size_t)n, -50.0, 50.0);
        floats_roll(&d, weight, (size_t)n, -2.0, 2.0);
        s.kernels[0]->rms_norm(x, weight, n, 1e-6f, wanted);
        for (int i = 1; i < s.n; i++) {
            s.kernels[i]->rms_norm(x, weight, n, 1e-6f, found);
            check_equal(s.kernels[i], found, wanted, (size_t)n, "rms_norm");
        }
    }
}
END_TEST

START_TEST(softmax_has_the_same_bits)
{
    enum { COUNT = 256 };
    const sets s = supported_sets();
    dice d = {.seed = (uint64_t)_i};
    for (int run = 0; run < 500; run++) {
        float z[COUNT], bias[COUNT], wanted[COUNT], found[COUNT], results[2][2];
        floats_roll(&d, z, COUNT, -40.0, 40.0);
        floats_roll(&d, bias, COUNT, -40.0, 4.0);
        const int first = dice_throw(&d, COUNT), last = first + dice_throw(&d, COUNT - first + 1);
        // Some segments hold -inf or NaN, or nothing else than -inf.
        for (int bad = run % 5; bad > 0; bad--) {
            bias[dice_throw(&d, COUNT)] = run % 2 ? -HUGE_VALF : NAN;
        }
        for (int j = first; j < last && run % 50 == 0; j++) {
            bias[j] = -HUGE_VALF;
        }
        for (int i = 0; i < s.n; i++) {
            float *to = i == 0 ? wanted : found, *result = results[i > 0];
            memcpy(to, z, sizeof z);
            const ps_softmax_job job = {.z = to,
                                        .bias = run % 3 ? bias : NULL,
                                        .first = first,
                                        .last = last,
                                        .scale = 0.37f,
                                        .softcap = run % 2 ? 20.0f : 0.0f};
            result[0] = s.kernels[i]->softmax(&job, &result[1]);
            if (i == 0) continue;
            check_equal(s.kernels[i], results[1] + 1, results[0] + 1, 1, "softmax's sum");
            if (isnan(results[0][1])) continue; // of a NaN it is enough that it shows
            check_equal(s.kernels[i], results[1], results[0], 1, "softmax's maximum");
            check_equal(s.kernels[i], found + first, wanted + first, (size_t)(last - first),
                        "softmax");
        }
    }
}
END_TEST

/* A panel product with every freedom that its job has. */
typedef struct panel_case {
    ps_panel_job job;
    float *x, *start;
    void *weights;
    size_t out_floats;
} panel_case;

static panel_case panel_case_roll(dice *d, ps_dtype dtype, bool chain)
{
    panel_case c = {.job = {.dtype = dtype,
                            .chain = chain,
                            .rows = 1 + dice_throw(d, 30), // up to three tiles
                            .panels = 1 + dice_throw(d, 9),
                            .k = dice_throw(d, dice_throw(d, 3) ? 80 : 1200)}};
    ps_panel_job *job = &c.job;
    // Either panel after panel, as weights lie, or side by side, as values do.
    const bool side_by_side = dice_throw(d, 2) != 0;
    job->k_stride = side_by_side ? 16 * (size_t)job->panels : 16;
    job->panel_stride = side_by_side ? 16 : 16 * (size_t)job->k;
    job->x_stride = (size_t)job->k + (size_t)dice_throw(d, 5);
    job->out_stride = 16 * (size_t)job->panels + (size_t)dice_throw(d, 5);
    const size_t n_weights = 16 * (size_t)job->k * (size_t)job->panels;
    float *weights = floats_new_rolled(d, n_weights, -2.0, 2.0);
    c.weights = ps_mem_new(n_weights, ps_dtype_block_bytes(dtype));
    ps_dtype_narrow(dtype, weights, n_weights, c.weights);
    ps_mem_free(weights);
    c.x = floats_new_rolled(d, (size_t)job->rows * job->x_stride, -2.0, 2.0);
    c.out_floats = (size_t)job->rows * job->out_stride;
    c.start = floats_new_rolled(d, c.out_floats, -2.0, 2.0);
    job->weights = c.weights;
    job->x = c.x;
    return c;
}

static void panel_case_release(panel_case *c)
{
    ps_mem_free(c->x);
    ps_mem_free(c->start);
    ps_mem_free(c->weights);
}

/* Value (row, output) by the contract of ps_panel_job, one fused multiply-add after the other. */
static float panel_value(const panel_case *c, int row, int output)
{
    const ps_panel_job *job = &c->job;
    const int block = job->chain ? job->k : 512;
    float total = job->chain ? c->start[(size_t)row * job->out_stride + (size_t)output] : 0.0f;
    float sum = total;
    for (int k = 0; k < job->k; k++) {
        if (k % block == 0 && k > 0) {
            total = k == block ? sum : total + sum;
            sum = 0.0f;
        }
        const size_t at = (size_t)(output / 16) * job->panel_stride + (size_t)k * job->k_stride +
                          (size_t)(output % 16);
        float w;
        ps_dtype_widen(job->dtype, (const char *)c->weights + at * ps_dtype_block_bytes(job->dtype),
                       1, &w);
        sum = fmaf(job->x[(size_t)row * job->x_stride + (size_t)k], w, sum);
    }
    return job->k <= block ? sum : total + sum;
}

START_TEST(panel_products_have_the_bits_of_their_contract)
{
    const sets s = supported_sets();
    dice d = {.seed = 100 + (uint64_t)_i};
    panel_case c = panel_case_roll(&d, (ps_dtype)(_i % PS_DTYPE_FLOATS), _i / PS_DTYPE_FLOATS % 2);
    float *wanted = floats_new(c.out_floats), *found = floats_new(c.out_floats);
    memcpy(wanted, c.start, c.out_floats * sizeof *wanted); // gaps between rows stay as they are
    for (int r = 0; r < c.job.rows; r++) {
        for (int o = 0; o < 16 * c.job.panels; o++) {
            wanted[(size_t)r * c.job.out_stride + (size_t)o] = panel_value(&c, r, o);
        }
    }
    for (int i = 0; i < s.n; i++) {
        memcpy(found, c.start, c.out_floats * sizeof *found);
        c.job.out = found;
        s.kernels[i]->panel_product(&c.job);
        check_equal(s.kernels[i], found, wanted, c.out_floats, "panel_product");
    }
    ps_mem_free(wanted);
    ps_mem_free(found);
    panel_case_release(&c);
}
END_TEST

/* 1 * w for all patterns: what the kernels widen in registers is what ps_dtype_widen gives. */
START_TEST(every_16_bit_weight_widens_in_registers_as_elsewhere)
{
    enum { PATTERNS = 65536 };
    const ps_dtype dtype = _i ? PS_BF16 : PS_F16;
    const sets s = supported_sets();
    uint16_t *weights = ps_mem_new(PATTERNS, sizeof *weights);
    float *wanted = floats_new(PATTERNS), *found = floats_new(PATTERNS);
    for (int i = 0; i < PATTERNS; i++) {
        weights[i] = (uint16_t)i;
    }
    ps_dtype_widen(dtype, weights, PATTERNS, wanted);
    const float one = 1.0f;
    for (int i = 0; i < s.n; i++) {
        const ps_panel_job job = {.dtype = dtype,
                                  .rows = 1,
                                  .panels = PATTERNS / 16,
                                  .k = 1,
                                  .weights = weights,
                                  .k_stride = 16,
                                  .panel_stride = 16,
                                  .x = &one,
                                  .x_stride = 1,
                                  .out = found,
                                  .out_stride = PATTERNS};
        s.kernels[i]->panel_product(&job);
        found[0x8000] = -found[0x8000]; // the sum 0 + -0 is 0
        check_equal(s.kernels[i], found, wanted, PATTERNS, "widening");
    }
    ps_mem_free(weights);
    ps_mem_free(wanted);
    ps_mem_free(found);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("isa");
    tcase_set_timeout(tcase, 60.0);
    tcase_add_test(tcase, portable_comes_first_and_is_always_there);
    tcase_add_test(tcase, each_name_gives_its_own_kernels);
    tcase_add_test(tcase, auto_takes_the_last_set_that_the_processor_has);
    tcase_add_test(tcase, an_unknown_set_is_an_error_that_lists_what_there_is);
    tcase_add_loop_test(tcase, exp_has_the_same_bits_for_any_float, 0, 4);
    tcase_add_loop_test(tcase, row_kernels_have_the_same_bits_for_any_length, 0, 20);
    tcase_add_loop_test(tcase, rms_norm_has_the_same_bits_for_lengths_1_to_70_and_ordinary_values,
                        0, 10);
    tcase_add_loop_test(tcase, softmax_has_the_same_bits, 0, 10);
    tcase_add_loop_test(tcase, panel_products_have_the_bits_of_their_contract, 0, DICE_ROUNDS(120));
    tcase_add_loop_test(tcase, every_16_bit_weight_widens_in_registers_as_elsewhere, 0, 2);
    Suite *suite = suite_create("math/isa");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
