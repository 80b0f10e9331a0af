/* Divergences against plain loops over the vocabulary. */
#include "serve/divergence.h"

#include <math.h>

#include "base/mem.h"
#include "support/dice.h"
#include "support/scratch.h"

enum { V_MAX = 1200 };

static double log_sum_of(const float *x, int V)
{
    double sum = 0.0;
    for (int v = 0; v < V; v++) {
        sum += exp((double)x[v]);
    }
    return log(sum);
}

/* From the definition. */
static double divergence_of(const float *q, const float *p, int V)
{
    double sum = 0.0;
    const double log_p = log_sum_of(p, V), log_q = log_sum_of(q, V);
    for (int v = 0; v < V; v++) {
        const double probability = exp((double)p[v] - log_p);
        if (probability > 0.0) sum += probability * (((double)p[v] - log_p) - (q[v] - log_q));
    }
    return sum;
}

static int top_of(const float *x, int V)
{
    int top = 0;
    for (int v = 1; v < V; v++) {
        if (x[v] > x[top]) top = v;
    }
    return top;
}

static void draw(dice *d, int V, double spread, float *out)
{
    for (int v = 0; v < V; v++) {
        out[v] = (float)dice_real(d, -spread, spread);
    }
}

START_TEST(a_divergence_is_that_of_the_definition)
{
    dice d = {.seed = 1};
    static const double spreads[] = {0.5, 8.0, 40.0};
    float p[V_MAX], q[V_MAX];
    int n_same = 0;
    for (int round = 0; round < DICE_ROUNDS(600); round++) {
        const int V = 1 + dice_throw(&d, round % 2 ? V_MAX : 5);
        const int32_t next = dice_throw(&d, V);
        draw(&d, V, spreads[round % 3], p);
        draw(&d, V, spreads[round / 3 % 3], q);
        ps_divergence found;
        assert_ok(ps_divergence_find(q, p, V, next, &found));
        const double wanted = divergence_of(q, p, V);
        ck_assert_double_eq_tol(found.kl, wanted, 1e-12 * (1.0 + wanted));
        ck_assert_double_eq_tol(found.logprob, q[next] - log_sum_of(q, V), 1e-12 * 80.0);
        ck_assert_double_eq_tol(found.reference_logprob, p[next] - log_sum_of(p, V), 1e-12 * 80.0);
        ck_assert_int_eq(found.same_top, top_of(p, V) == top_of(q, V));
        n_same += found.same_top;
    }
    ck_assert_int_gt(n_same, DICE_ROUNDS(600) / 12); // both answers were asked for
}
END_TEST

START_TEST(equal_logits_are_at_no_distance)
{
    dice d = {.seed = 2};
    float p[V_MAX];
    for (int round = 0; round < DICE_ROUNDS(100); round++) {
        const int V = 1 + dice_throw(&d, V_MAX);
        draw(&d, V, 30.0, p);
        ps_divergence found;
        assert_ok(ps_divergence_find(p, p, V, 0, &found));
        ck_assert(found.kl == 0.0);
        ck_assert(found.same_top);
        ck_assert(found.logprob == found.reference_logprob);
    }
}
END_TEST

/* Of small differences e the divergence is half their variance under p: numbers that would drown in
 * the rounding of single precision. */
START_TEST(small_divergences_are_not_lost)
{
    dice d = {.seed = 3};
    float p[V_MAX], q[V_MAX];
    for (int round = 0; round < DICE_ROUNDS(60); round++) {
        const int V = 300 + dice_throw(&d, V_MAX - 300);
        draw(&d, V, 2.0, p);
        double mean = 0.0, square = 0.0;
        const double log_p = log_sum_of(p, V);
        for (int v = 0; v < V; v++) {
            q[v] = p[v] + (float)dice_real(&d, -1e-4, 1e-4);
            const double e = (double)q[v] - (double)p[v], probability = exp(p[v] - log_p);
            mean += probability * e;
            square += probability * e * e;
        }
        const double wanted = 0.5 * (square - mean * mean);
        ps_divergence found;
        assert_ok(ps_divergence_find(q, p, V, 0, &found));
        ck_assert_double_eq_tol(found.kl, wanted, 1e-3 * wanted);
        ck_assert_double_lt(found.kl, 1e-8);
    }
}
END_TEST

START_TEST(among_equals_the_lowest_id_is_the_likeliest)
{
    const float p[4] = {1.0f, 3.0f, 3.0f, 0.0f}, q[4] = {1.0f, 4.0f, 2.0f, 0.0f};
    const float other[4] = {1.0f, 2.0f, 4.0f, 0.0f};
    ps_divergence found;
    assert_ok(ps_divergence_find(q, p, 4, 0, &found));
    ck_assert(found.same_top);
    assert_ok(ps_divergence_find(other, p, 4, 0, &found));
    ck_assert(!found.same_top);
}
END_TEST

START_TEST(tokens_without_probability_count_on_one_side_alone)
{
    const float hole[3] = {0.0f, -INFINITY, 0.0f}, flat[3] = {0.0f, 0.0f, 0.0f};
    ps_divergence found;
    assert_ok(ps_divergence_find(flat, hole, 3, 0, &found));
    ck_assert_double_eq_tol(found.kl, log(1.5), 1e-15);
    assert_ok(ps_divergence_find(hole, hole, 3, 0, &found));
    ck_assert(found.kl == 0.0);
    ck_assert_int_eq(ps_divergence_find(hole, flat, 3, 0, &found), PS_ERR_NUMERIC);
    assert_message("token 1 has the logit -inf, and the probability 0.333333 by the reference: the "
                   "divergence is infinite");
    const float bad[3] = {0.0f, NAN, 0.0f};
    ck_assert_int_eq(ps_divergence_find(bad, flat, 3, 0, &found), PS_ERR_NUMERIC);
    ck_assert_int_eq(ps_divergence_find(flat, bad, 3, 0, &found), PS_ERR_NUMERIC);
}
END_TEST

START_TEST(a_summary_has_means_and_quantiles_in_any_order)
{
    dice d = {.seed = 4};
    enum { N = 201 };
    ps_divergence all[N];
    double logprob = 0.0, reference = 0.0;
    // 0 .. 200 in some order: quantile f is 200 f.
    for (int i = 0; i < N; i++) {
        all[i] = (ps_divergence){.kl = i,
                                 .logprob = -dice_real(&d, 0.0, 9.0),
                                 .reference_logprob = -dice_real(&d, 0.0, 9.0),
                                 .same_top = i % 4 == 0};
        logprob += all[i].logprob;
        reference += all[i].reference_logprob;
    }
    for (int i = N - 1; i > 0; i--) {
        const int j = dice_throw(&d, i + 1);
        const ps_divergence kept = all[i];
        all[i] = all[j];
        all[j] = kept;
    }
    ps_divergence_summary s;
    ps_divergence_summarise(all, N, &s);
    ck_assert_uint_eq(s.n, N);
    ck_assert_double_eq_tol(s.kl_mean, 100.0, 1e-12);
    ck_assert_double_eq_tol(s.kl_median, 100.0, 1e-12);
    ck_assert_double_eq_tol(s.kl_99, 198.0, 1e-12);
    ck_assert(s.kl_max == 200.0);
    ck_assert_double_eq_tol(s.same_top, 51.0 / N, 1e-15);
    ck_assert_double_eq_tol(s.perplexity, exp(-logprob / N), 1e-9);
    ck_assert_double_eq_tol(s.reference_perplexity, exp(-reference / N), 1e-9);
    // Between neighbours; and one alone.
    const ps_divergence few[2] = {{.kl = 3.0}, {.kl = 1.0}};
    ps_divergence_summarise(few, 2, &s);
    ck_assert_double_eq_tol(s.kl_median, 2.0, 1e-15);
    ck_assert_double_eq_tol(s.kl_99, 2.98, 1e-12);
    ps_divergence_summarise(few, 1, &s);
    ck_assert(s.kl_mean == 3.0 && s.kl_median == 3.0 && s.kl_99 == 3.0 && s.kl_max == 3.0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("serve/divergence");
    TCase *tcase = tcase_create("divergence");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_divergence_is_that_of_the_definition);
    tcase_add_test(tcase, equal_logits_are_at_no_distance);
    tcase_add_test(tcase, small_divergences_are_not_lost);
    tcase_add_test(tcase, among_equals_the_lowest_id_is_the_likeliest);
    tcase_add_test(tcase, tokens_without_probability_count_on_one_side_alone);
    tcase_add_test(tcase, a_summary_has_means_and_quantiles_in_any_order);
    suite_add_tcase(suite, tcase);
    return scratch_run(suite);
}
