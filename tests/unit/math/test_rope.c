/* Rotations are rotations, they compose, and their frequencies and angles are those of the
 * published formulas, computed here by the mathematical library in long double. */
#include "math/rope.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "support/engines.h"
#include "support/floats.h"

enum { HALF_MAX = 64, HEAD_MAX = 2 * HALF_MAX + 20 };

/* One random head, its rotation, and the variant it is rotated by. */
typedef struct turn {
    ps_rope rope;
    int half;
    double frequencies[HALF_MAX];
    float cosine[HALF_MAX], sine[HALF_MAX];
} turn;

static turn turn_roll(dice *d)
{
    turn t = {.half = 1 + dice_throw(d, HALF_MAX)};
    t.rope = (ps_rope){.kind = PS_ROPE_DEFAULT, .dims = 2 * t.half, .base = 10000.0};
    ps_rope_frequencies(&t.rope, 0, t.frequencies);
    return t;
}

static void rotate(const ps_engine *engine, turn *t, int64_t position, float *x)
{
    ps_rope_angles(t->frequencies, 1.0, t->half, position, t->cosine, t->sine);
    ps_rope_rotate(engine, x, 1, 0, t->cosine, t->sine, t->half);
}

static double dot(const float *a, const float *b, int n)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

START_TEST(rotation_keeps_the_length_of_every_pair)
{
    dice d = {.seed = (uint64_t)_i};
    ps_engine engine = engines_open(1);
    for (int run = 0; run < 200; run++) {
        turn t = turn_roll(&d);
        float x[2 * HALF_MAX], before[2 * HALF_MAX];
        floats_roll(&d, x, 2 * (size_t)t.half, -5.0, 5.0);
        memcpy(before, x, sizeof x);
        rotate(&engine, &t, dice_throw(&d, 1 << 30), x);
        for (int i = 0; i < t.half; i++) {
            const double now = hypot((double)x[i], (double)x[i + t.half]);
            const double then = hypot((double)before[i], (double)before[i + t.half]);
            ck_assert_double_le(fabs(now - then), 0x1p-22 * then);
        }
    }
    ps_engine_close(&engine);
}
END_TEST

START_TEST(rotating_by_p_then_q_is_rotating_by_their_sum)
{
    dice d = {.seed = (uint64_t)_i};
    ps_engine engine = engines_open(1);
    for (int run = 0; run < 200; run++) {
        turn t = turn_roll(&d);
        const int64_t p = dice_throw(&d, 1000000), q = dice_throw(&d, 1000000);
        float twice[2 * HALF_MAX], once[2 * HALF_MAX];
        floats_roll(&d, twice, 2 * (size_t)t.half, -5.0, 5.0);
        memcpy(once, twice, sizeof once);
        rotate(&engine, &t, p, twice);
        rotate(&engine, &t, q, twice);
        rotate(&engine, &t, p + q, once);
        for (int i = 0; i < 2 * t.half; i++) {
            ck_assert_double_le(fabs((double)twice[i] - (double)once[i]), 5e-6);
        }
    }
    ps_engine_close(&engine);
}
END_TEST

START_TEST(scores_depend_on_the_difference_of_positions_alone)
{
    dice d = {.seed = (uint64_t)_i};
    ps_engine engine = engines_open(1);
    for (int run = 0; run < 200; run++) {
        turn t = turn_roll(&d);
        const int64_t difference = dice_throw(&d, 5000), far = dice_throw(&d, 1 << 30);
        float q[2][2 * HALF_MAX], k[2][2 * HALF_MAX];
        floats_roll(&d, q[0], 2 * (size_t)t.half, -1.0, 1.0);
        floats_roll(&d, k[0], 2 * (size_t)t.half, -1.0, 1.0);
        memcpy(q[1], q[0], sizeof q[0]);
        memcpy(k[1], k[0], sizeof k[0]);
        rotate(&engine, &t, difference, q[0]);
        rotate(&engine, &t, 0, k[0]);
        rotate(&engine, &t, far + difference, q[1]);
        rotate(&engine, &t, far, k[1]);
        const double near = dot(q[0], k[0], 2 * t.half), away = dot(q[1], k[1], 2 * t.half);
        ck_assert_double_le(fabs(near - away), 2e-5);
    }
    ps_engine_close(&engine);
}
END_TEST

START_TEST(position_zero_changes_nothing)
{
    dice d = {.seed = 2};
    ps_engine engine = engines_open(1);
    turn t = turn_roll(&d);
    float x[2 * HALF_MAX], before[2 * HALF_MAX];
    floats_roll(&d, x, 2 * HALF_MAX, -5.0, 5.0);
    memcpy(before, x, sizeof x);
    rotate(&engine, &t, 0, x);
    ck_assert_mem_eq(x, before, sizeof x);
    ps_engine_close(&engine);
}
END_TEST

/* The pairs are (t, t + half), by the formula; what lies behind the rotated part passes through. */
START_TEST(every_head_is_rotated_and_the_rest_of_it_passes_through)
{
    dice d = {.seed = (uint64_t)_i};
    ps_engine engine = engines_open(1);
    turn t = turn_roll(&d);
    const int n_heads = 1 + dice_throw(&d, 5);
    const size_t half = (size_t)t.half, stride = 2 * half + (size_t)dice_throw(&d, 20);
    float *x = floats_new_poisoned((size_t)n_heads * stride + 1);
    float *before = floats_new((size_t)n_heads * stride);
    for (int h = 0; h < n_heads; h++) {
        floats_roll(&d, x + (size_t)h * stride, 2 * half, -5.0, 5.0);
    }
    memcpy(before, x, (size_t)n_heads * stride * sizeof *x);
    const int64_t position = dice_throw(&d, 100000);
    ps_rope_angles(t.frequencies, 1.0, t.half, position, t.cosine, t.sine);
    ps_rope_rotate(&engine, x, n_heads, stride, t.cosine, t.sine, t.half);
    for (int h = 0; h < n_heads; h++) {
        const float *now = x + (size_t)h * stride, *then = before + (size_t)h * stride;
        for (size_t i = 0; i < half; i++) {
            const double angle = (double)position * t.frequencies[i];
            const double a = (double)then[i], b = (double)then[half + i];
            ck_assert_double_le(fabs((double)now[i] - (a * cos(angle) - b * sin(angle))), 2e-6);
            ck_assert_double_le(fabs((double)now[half + i] - (b * cos(angle) + a * sin(angle))),
                                2e-6);
        }
        ck_assert(floats_untouched(now + 2 * half, stride - 2 * half));
    }
    ck_assert(floats_untouched(x + (size_t)n_heads * stride, 1));
    ps_mem_free(x);
    ps_mem_free(before);
    ps_engine_close(&engine);
}
END_TEST

static double plain_frequency(const ps_rope *rope, int t)
{
    return (double)powl((long double)rope->base, -2.0L * (long double)t / (long double)rope->dims);
}

/* The power's error grows with the exponent; the blend of llama3 subtracts numbers near each other
 * before it adds a factor-th part of the frequency. */
static void check_frequency(const ps_rope *rope, int t, double found, double wanted)
{
    const double blend = rope->kind == PS_ROPE_LLAMA3 ? rope->factor : 1.0;
    const double bound = blend * (8.0 + 3.0 * log(rope->base)) * 0x1p-53 * wanted;
    ck_assert_msg(fabs(found - wanted) <= bound, "%s, base %g: frequency %d of %d is %a, not %a",
                  ps_rope_kind_name(rope->kind), rope->base, t, rope->dims / 2, found, wanted);
}

START_TEST(default_and_linear_frequencies_follow_their_formulas)
{
    static const double bases[] = {10000.0, 500000.0, 1e6, 150000.0, 2.0};
    dice d = {.seed = 5};
    for (int run = 0; run < 200; run++) {
        ps_rope rope = {.kind = PS_ROPE_DEFAULT,
                        .dims = 2 + 2 * dice_throw(&d, HALF_MAX),
                        .base = bases[run % 5],
                        .factor = dice_real(&d, 1.0, 40.0)};
        double frequencies[HALF_MAX], slower[HALF_MAX];
        ps_rope_frequencies(&rope, 0, frequencies);
        rope.kind = PS_ROPE_LINEAR;
        ps_rope_frequencies(&rope, 0, slower);
        for (int t = 0; t < rope.dims / 2; t++) {
            check_frequency(&rope, t, frequencies[t], plain_frequency(&rope, t));
            check_frequency(&rope, t, slower[t], plain_frequency(&rope, t) / rope.factor);
        }
        ck_assert(frequencies[0] == 1.0);
    }
}
END_TEST

/* The formula of the published configuration: kept, divided, or blended by wavelength. */
static double llama3_frequency(const ps_rope *rope, int t)
{
    const double f = plain_frequency(rope, t), wavelength = 2.0 * acos(-1.0) / f;
    const double smooth = (rope->original_length / wavelength - rope->low_factor) /
                          (rope->high_factor - rope->low_factor);
    if (smooth >= 1.0) return f;
    if (smooth <= 0.0) return f / rope->factor;
    return f * ((1.0 - smooth) / rope->factor + smooth);
}

START_TEST(llama3_frequencies_follow_their_formula)
{
    dice d = {.seed = 6};
    int kept = 0, divided = 0, blended = 0;
    for (int run = 0; run < 200; run++) {
        const ps_rope rope = {.kind = PS_ROPE_LLAMA3,
                              .dims = run ? 2 + 2 * dice_throw(&d, HALF_MAX) : 128,
                              .base = 500000.0,
                              .factor = run % 2 ? 32.0 : 8.0,
                              .low_factor = 1.0,
                              .high_factor = 4.0,
                              .original_length = 8192.0};
        double frequencies[HALF_MAX];
        ps_rope_frequencies(&rope, 0, frequencies);
        for (int t = 0; t < rope.dims / 2; t++) {
            const double wanted = llama3_frequency(&rope, t), plain = plain_frequency(&rope, t);
            check_frequency(&rope, t, frequencies[t], wanted);
            kept += wanted == plain;
            divided += wanted == plain / rope.factor;
            blended += wanted < plain && wanted > plain / rope.factor;
        }
    }
    ck_assert_msg(kept > 100 && divided > 100 && blended > 100, "not all cases were met");
}
END_TEST

/* Llama 3.1 8B: the pairs around the two borders, from an independent calculation with 40 digits.
 */
START_TEST(llama31_has_its_known_frequencies)
{
    static const struct {
        int t;
        double frequency;
    } known[] = {{0, 1},
                 {1, 0.81461723385654472},
                 {28, 0.0032114459947525909},
                 {29, 0.0021665707635033587},
                 {31, 0.00085675141291963208},
                 {33, 0.00031269375038406512},
                 {34, 0.00017850781276799641},
                 {35, 9.5562123539646833e-05},
                 {36, 7.7846552739324498e-05},
                 {63, 3.0689259889145111e-07}};
    const ps_rope rope = {.kind = PS_ROPE_LLAMA3,
                          .dims = 128,
                          .base = 500000.0,
                          .factor = 8.0,
                          .low_factor = 1.0,
                          .high_factor = 4.0,
                          .original_length = 8192.0};
    double frequencies[64];
    ps_rope_frequencies(&rope, 0, frequencies);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        check_frequency(&rope, known[i].t, frequencies[known[i].t], known[i].frequency);
    }
}
END_TEST

/* gpt-oss: neither border of the ramp is rounded; numbers from a calculation with 40 digits. The
 * borders themselves are 8.0928 and 17.3980, which the pairs around them show. */
START_TEST(gpt_oss_has_its_known_frequencies)
{
    static const struct {
        int t;
        double plain, truncated;
    } known[] = {{0, 1, 1},
                 {8, 0.050813274815461473628, 0.050813274815461473628},
                 {9, 0.031705696184663765988, 0.031620752275346487904},
                 {13, 0.0038603593171920662812, 0.0040695547147582428178},
                 {17, 0.00012931870124506272061, 0.00022794779579512526326},
                 {18, 0.000038308812373753382914, 0.000038308812373753382914},
                 {31, 3.0235114281192143739e-7, 3.0235114281192143739e-7}};
    ps_rope rope = {.kind = PS_ROPE_YARN,
                    .dims = 64,
                    .base = 150000.0,
                    .factor = 32.0,
                    .original_length = 4096.0,
                    .beta_fast = 32.0,
                    .beta_slow = 1.0};
    double plain[32], truncated[32];
    ps_rope_frequencies(&rope, 0, plain);
    rope.truncate = true;
    ps_rope_frequencies(&rope, 0, truncated);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        check_frequency(&rope, known[i].t, plain[known[i].t], known[i].plain);
        check_frequency(&rope, known[i].t, truncated[known[i].t], known[i].truncated);
    }
}
END_TEST

/* The formulas of arXiv 2309.00071, with borders held within the head. */
static double yarn_frequency(const ps_rope *r, int t)
{
    const double n = r->dims, f = plain_frequency(r, t);
    double a = n * log(r->original_length / (2.0 * acos(-1.0) * r->beta_fast)) / (2 * log(r->base));
    double z = n * log(r->original_length / (2.0 * acos(-1.0) * r->beta_slow)) / (2 * log(r->base));
    if (r->truncate) {
        a = floor(a);
        z = ceil(z);
    }
    a = fmax(a, 0.0);
    z = fmin(z, n - 1.0);
    if (a == z) z += 0.001;
    const double u = fmin(fmax((t - a) / (z - a), 0.0), 1.0);
    return (1.0 - u) * f + u * f / r->factor;
}

START_TEST(yarn_frequencies_follow_their_formula)
{
    dice d = {.seed = 8};
    int kept = 0, divided = 0, blended = 0;
    for (int run = 0; run < 400; run++) {
        ps_rope rope = {.kind = PS_ROPE_YARN,
                        .dims = 2 + 2 * dice_throw(&d, HALF_MAX),
                        .base = run % 2 ? 10000.0 : 1e6,
                        .factor = dice_real(&d, 1.0, 40.0),
                        .original_length = 64.0 * (1 + dice_throw(&d, 128)),
                        .beta_slow = dice_real(&d, 0.5, 2.0),
                        .truncate = run % 3};
        rope.beta_fast = rope.beta_slow + dice_real(&d, 0.1, 40.0);
        double frequencies[HALF_MAX];
        ps_rope_frequencies(&rope, 0, frequencies);
        for (int t = 0; t < rope.dims / 2; t++) {
            const double wanted = yarn_frequency(&rope, t), plain = plain_frequency(&rope, t);
            // A ramp as narrow as 0.001 amplifies the rounding of its ends.
            ck_assert_double_le(fabs(frequencies[t] - wanted), 1e-10 * plain);
            kept += wanted == plain;
            divided += wanted == plain / rope.factor;
            blended += wanted < plain * 0.999 && wanted > plain / rope.factor * 1.001;
        }
    }
    ck_assert_msg(kept > 100 && divided > 100 && blended > 100, "not all cases were met");
}
END_TEST

static ps_rope factored(dice *d, ps_rope_kind kind)
{
    ps_rope rope = {.kind = kind,
                    .dims = 2 + 2 * dice_throw(d, HALF_MAX),
                    .base = 10000.0,
                    .original_length = 100.0};
    for (int t = 0; t < rope.dims / 2; t++) {
        rope.factors[t] = dice_real(d, 1.0, 3.0);
        rope.long_factors[t] = dice_real(d, 3.0, 60.0);
    }
    return rope;
}

START_TEST(divided_frequencies_are_divided_one_by_one)
{
    dice d = {.seed = 9};
    for (int run = 0; run < 50; run++) {
        const ps_rope rope = factored(&d, PS_ROPE_DIVIDED);
        double frequencies[HALF_MAX];
        ps_rope_frequencies(&rope, 12345, frequencies);
        for (int t = 0; t < rope.dims / 2; t++) {
            const double wanted = plain_frequency(&rope, t) / rope.factors[t];
            check_frequency(&rope, t, frequencies[t], wanted);
        }
    }
}
END_TEST

/* Long ones from one position beyond the original length on, and for sequences without an end. */
START_TEST(longrope_chooses_by_the_length)
{
    static const int64_t lengths[] = {1, 99, 100, 101, 5000, 0};
    dice d = {.seed = 10};
    for (int run = 0; run < 60; run++) {
        const ps_rope rope = factored(&d, PS_ROPE_LONGROPE);
        const int64_t length = lengths[run % 6];
        double frequencies[HALF_MAX];
        ps_rope_frequencies(&rope, length, frequencies);
        for (int t = 0; t < rope.dims / 2; t++) {
            const double *factors = run % 6 < 3 ? rope.factors : rope.long_factors;
            check_frequency(&rope, t, frequencies[t], plain_frequency(&rope, t) / factors[t]);
        }
    }
}
END_TEST

START_TEST(dynamic_bases_grow_with_the_length_beyond_the_original)
{
    dice d = {.seed = 11};
    for (int run = 0; run < 200; run++) {
        const ps_rope rope = {.kind = PS_ROPE_DYNAMIC,
                              .dims = run % 10 ? 4 + 2 * dice_throw(&d, HALF_MAX - 1) : 2,
                              .base = 10000.0,
                              .factor = dice_real(&d, 1.0, 8.0),
                              .original_length = 128.0};
        const int64_t length = run % 3 ? 1 + dice_throw(&d, 1000) : 0;
        const double n = rope.dims, s = rope.factor;
        const double reach = length ? (double)length : s * 128.0;
        ps_rope grown = rope;
        if (reach > 128.0 && rope.dims > 2)
            grown.base *= pow(s * reach / 128.0 - (s - 1.0), n / (n - 2.0));
        double frequencies[HALF_MAX];
        ps_rope_frequencies(&rope, length, frequencies);
        for (int t = 0; t < rope.dims / 2; t++) {
            const double wanted = plain_frequency(&grown, t);
            ck_assert_double_le(fabs(frequencies[t] - wanted), 1e-12 * wanted);
        }
    }
}
END_TEST

START_TEST(only_dynamic_and_longrope_depend_on_the_length)
{
    for (int kind = PS_ROPE_DEFAULT; kind < PS_ROPE_KIND_COUNT; kind++) {
        dice d = {.seed = 12};
        ps_rope rope = factored(&d, (ps_rope_kind)kind);
        double a[HALF_MAX], b[HALF_MAX];
        rope.factor = rope.high_factor = rope.beta_fast = 4.0;
        rope.low_factor = rope.beta_slow = 1.0;
        rope.dims = 16;
        ps_rope_frequencies(&rope, 50, a);
        ps_rope_frequencies(&rope, 5000, b);
        const bool differ = memcmp(a, b, 8 * sizeof *a) != 0;
        ck_assert_int_eq(differ, kind == PS_ROPE_DYNAMIC || kind == PS_ROPE_LONGROPE);
        ck_assert_int_eq(ps_rope_depends_on_length(&rope), differ);
    }
}
END_TEST

START_TEST(variants_name_what_the_length_chose)
{
    ps_rope rope = {
        .kind = PS_ROPE_LONGROPE, .dims = 4, .base = 100.0, .factor = 2.0, .original_length = 20.0};
    char out[PS_ROPE_VARIANT_BYTES];
    ps_rope_variant(&rope, 20, out);
    ck_assert_str_eq(out, "longrope, short factors");
    ps_rope_variant(&rope, 21, out);
    ck_assert_str_eq(out, "longrope, long factors");
    ps_rope_variant(&rope, 0, out);
    ck_assert_str_eq(out, "longrope, long factors");
    rope.kind = PS_ROPE_DYNAMIC;
    ps_rope_variant(&rope, 20, out);
    ck_assert_str_eq(out, "dynamic, base 100");
    ps_rope_variant(&rope, 40, out); // 100 (2 40/20 - 1)^(4/2)
    ck_assert_str_eq(out, "dynamic, base 900");
    ps_rope_variant(&rope, 0, out); // as for 40: factor times the original length
    ck_assert_str_eq(out, "dynamic, base 900");
    rope.kind = PS_ROPE_YARN;
    ps_rope_variant(&rope, 0, out);
    ck_assert_str_eq(out, "yarn");
}
END_TEST

/* It multiplies q and k both, and so scores by its square. */
START_TEST(the_magnitude_multiplies_the_rotated_part)
{
    dice d = {.seed = 13};
    ps_engine engine = engines_open(1);
    for (int run = 0; run < 50; run++) {
        turn t = turn_roll(&d);
        const double magnitude = dice_real(&d, 0.5, 2.0);
        const int64_t position = dice_throw(&d, 100000);
        float plain[2 * HALF_MAX], grown[2 * HALF_MAX];
        floats_roll(&d, plain, 2 * (size_t)t.half, -5.0, 5.0);
        memcpy(grown, plain, sizeof grown);
        rotate(&engine, &t, position, plain);
        ps_rope_angles(t.frequencies, magnitude, t.half, position, t.cosine, t.sine);
        ps_rope_rotate(&engine, grown, 1, 0, t.cosine, t.sine, t.half);
        for (int i = 0; i < 2 * t.half; i++) {
            ck_assert_double_le(fabs((double)grown[i] - magnitude * (double)plain[i]), 4e-6);
        }
    }
    ps_engine_close(&engine);
}
END_TEST

/* An angle p f is rounded once in double precision: at 10^12 that is 10^-4, at 10^9 10^-7. */
START_TEST(angles_are_right_at_positions_up_to_10_to_the_12)
{
    dice d = {.seed = (uint64_t)_i};
    const ps_rope rope = {.kind = PS_ROPE_DEFAULT, .dims = 128, .base = 10000.0};
    double frequencies[64];
    float cosine[64], sine[64];
    ps_rope_frequencies(&rope, 0, frequencies);
    for (int run = 0; run < 500; run++) {
        const int64_t position = (int64_t)exp(dice_real(&d, 0.0, log(1e12)));
        ps_rope_angles(frequencies, 1.0, 64, position, cosine, sine);
        for (int t = 0; t < 64; t++) {
            const long double angle = (long double)position * (long double)frequencies[t];
            const double bound = 0x1p-24 + (double)angle * 0x1p-52;
            ck_assert_double_le(fabs((double)((long double)cosine[t] - cosl(angle))), bound);
            ck_assert_double_le(fabs((double)((long double)sine[t] - sinl(angle))), bound);
        }
    }
}
END_TEST

START_TEST(at_position_10_to_the_9_angles_are_within_1e_minus_7_of_the_true_ones)
{
    const int64_t position = 1000000000;
    const ps_rope rope = {.kind = PS_ROPE_DEFAULT, .dims = 128, .base = 10000.0};
    double frequencies[64];
    float cosine[64], sine[64];
    ps_rope_frequencies(&rope, 0, frequencies);
    ps_rope_angles(frequencies, 1.0, 64, position, cosine, sine);
    for (int t = 0; t < 64; t++) {
        const long double angle = (long double)position * powl(10000.0L, -(long double)t / 64.0L);
        ck_assert_double_le(fabs((double)((long double)cosine[t] - cosl(angle))), 1e-7 + 0x1p-25);
        ck_assert_double_le(fabs((double)((long double)sine[t] - sinl(angle))), 1e-7 + 0x1p-25);
    }
}
END_TEST

START_TEST(kinds_have_their_names)
{
    ck_assert_str_eq(ps_rope_kind_name(PS_ROPE_NONE), "none");
    ck_assert_str_eq(ps_rope_kind_name(PS_ROPE_DEFAULT), "default");
    ck_assert_str_eq(ps_rope_kind_name(PS_ROPE_LINEAR), "linear");
    ck_assert_str_eq(ps_rope_kind_name(PS_ROPE_LLAMA3), "llama3");
    ck_assert_str_eq(ps_rope_kind_name(PS_ROPE_DIVIDED), "divided");
    ck_assert_str_eq(ps_rope_kind_name(PS_ROPE_YARN), "yarn");
    ck_assert_str_eq(ps_rope_kind_name(PS_ROPE_DYNAMIC), "dynamic");
    ck_assert_str_eq(ps_rope_kind_name(PS_ROPE_LONGROPE), "longrope");
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("rope");
    tcase_add_loop_test(tcase, rotation_keeps_the_length_of_every_pair, 0, 4);
    tcase_add_loop_test(tcase, rotating_by_p_then_q_is_rotating_by_their_sum, 0, 4);
    tcase_add_loop_test(tcase, scores_depend_on_the_difference_of_positions_alone, 0, 4);
    tcase_add_test(tcase, position_zero_changes_nothing);
    tcase_add_loop_test(tcase, every_head_is_rotated_and_the_rest_of_it_passes_through, 0, 20);
    tcase_add_test(tcase, default_and_linear_frequencies_follow_their_formulas);
    tcase_add_test(tcase, llama3_frequencies_follow_their_formula);
    tcase_add_test(tcase, llama31_has_its_known_frequencies);
    tcase_add_test(tcase, gpt_oss_has_its_known_frequencies);
    tcase_add_test(tcase, yarn_frequencies_follow_their_formula);
    tcase_add_test(tcase, divided_frequencies_are_divided_one_by_one);
    tcase_add_test(tcase, longrope_chooses_by_the_length);
    tcase_add_test(tcase, dynamic_bases_grow_with_the_length_beyond_the_original);
    tcase_add_test(tcase, only_dynamic_and_longrope_depend_on_the_length);
    tcase_add_test(tcase, variants_name_what_the_length_chose);
    tcase_add_test(tcase, the_magnitude_multiplies_the_rotated_part);
    tcase_add_loop_test(tcase, angles_are_right_at_positions_up_to_10_to_the_12, 0, 4);
    tcase_add_test(tcase, at_position_10_to_the_9_angles_are_within_1e_minus_7_of_the_true_ones);
    tcase_add_test(tcase, kinds_have_their_names);
    Suite *suite = suite_create("math/rope");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
