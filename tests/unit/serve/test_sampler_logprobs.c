/* Log-probabilities of raw logits, against the mathematical library and a full sort. */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "../../support/dice.h"
#include "serve/sampler.h"

enum { V_MAX = 1000 };

typedef struct entry {
    double z;
    int32_t token;
} entry;

static int compare_entries(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->z != y->z) return x->z > y->z ? -1 : 1;
    return x->token - y->token;
}

/* Multiples of 1/4, many of them equal; some -inf. */
static int random_logits(dice *d, float *logits)
{
    const int V = 1 + dice_throw(d, dice_throw(d, 3) ? 80 : V_MAX);
    for (int v = 0; v < V; v++) {
        logits[v] = (float)(dice_throw(d, 80) - 40) * 0.25f;
        if (v > 0 && dice_throw(d, 10) == 0) logits[v] = -INFINITY;
    }
    return V;
}

START_TEST(logprobs_equal_a_sorted_log_softmax)
{
    for (uint64_t run = 0; run < 100; run++) {
        dice d = {.seed = (uint64_t)_i * 1000 + run};
        float logits[V_MAX];
        entry sorted[V_MAX];
        const int V = random_logits(&d, logits), n_top = dice_throw(&d, 65);
        const int32_t token = dice_throw(&d, V);
        double sum = 0.0;
        for (int v = 0; v < V; v++) {
            sorted[v] = (entry){(double)logits[v], v};
            sum += exp((double)logits[v]);
        }
        qsort(sorted, (size_t)V, sizeof *sorted, compare_entries);
        ps_sampler_logprobs found;
        ck_assert_int_eq(ps_sampler_find_logprobs(logits, V, token, n_top, &found), PS_OK);
        ck_assert_int_eq(found.n_top, n_top < V ? n_top : V);
        for (int i = 0; i < found.n_top; i++) {
            ck_assert_int_eq(found.token[i], sorted[i].token);
            const double wanted = sorted[i].z - log(sum);
            ck_assert(found.logprob[i] == wanted || fabs(found.logprob[i] - wanted) < 1e-12);
        }
        const double wanted = (double)logits[token] - log(sum);
        ck_assert(found.chosen == wanted || fabs(found.chosen - wanted) < 1e-12);
    }
}
END_TEST

START_TEST(the_chosen_token_has_the_same_number_as_in_the_list)
{
    float logits[V_MAX];
    dice d = {.seed = 11};
    const int V = random_logits(&d, logits);
    ps_sampler_logprobs list, one;
    ck_assert_int_eq(ps_sampler_find_logprobs(logits, V, 0, 8, &list), PS_OK);
    for (int i = 0; i < list.n_top; i++) {
        ck_assert_int_eq(ps_sampler_find_logprobs(logits, V, list.token[i], 0, &one), PS_OK);
        ck_assert_int_eq(one.n_top, 0);
        ck_assert(one.chosen == list.logprob[i]);
    }
}
END_TEST

START_TEST(a_lone_token_has_probability_one)
{
    const float logits[3] = {-INFINITY, 88.0f, -INFINITY};
    ps_sampler_logprobs found;
    ck_assert_int_eq(ps_sampler_find_logprobs(logits, 3, 1, 1, &found), PS_OK);
    ck_assert(found.chosen == 0.0 && found.token[0] == 1);
    ck_assert_int_eq(ps_sampler_find_logprobs(logits, 3, 2, 0, &found), PS_OK);
    ck_assert(found.chosen == -HUGE_VAL);
}
END_TEST

START_TEST(large_logits_do_not_overflow)
{
    const float logits[3] = {3e38f, 3e38f, -3e38f};
    ps_sampler_logprobs found;
    ck_assert_int_eq(ps_sampler_find_logprobs(logits, 3, 1, 3, &found), PS_OK);
    ck_assert_double_eq_tol(found.chosen, -log(2.0), 1e-15);
    ck_assert_double_lt(found.logprob[2], -5e38);
}
END_TEST

START_TEST(logits_that_are_not_numbers_are_refused)
{
    const float bad[2] = {1.0f, NAN}, infinite[2] = {INFINITY, 0.0f};
    const float none[2] = {-INFINITY, -INFINITY};
    ps_sampler_logprobs found;
    ck_assert_int_eq(ps_sampler_find_logprobs(bad, 2, 0, 0, &found), PS_ERR_NUMERIC);
    ck_assert_str_eq(ps_err_message(), "logits: token 1 has NaN, wanted a number or -inf");
    ck_assert_int_eq(ps_sampler_find_logprobs(infinite, 2, 0, 0, &found), PS_ERR_NUMERIC);
    ck_assert_str_eq(ps_err_message(), "logits: token 0 has +inf, wanted a number or -inf");
    ck_assert_int_eq(ps_sampler_find_logprobs(none, 2, 0, 0, &found), PS_ERR_NUMERIC);
    ck_assert_str_eq(ps_err_message(), "logits: all 2 tokens have -inf, wanted a number somewhere");
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("logprobs");
    tcase_add_loop_test(tcase, logprobs_equal_a_sorted_log_softmax, 0, 10);
    tcase_add_test(tcase, the_chosen_token_has_the_same_number_as_in_the_list);
    tcase_add_test(tcase, a_lone_token_has_probability_one);
    tcase_add_test(tcase, large_logits_do_not_overflow);
    tcase_add_test(tcase, logits_that_are_not_numbers_are_refused);
    Suite *suite = suite_create("serve/sampler_logprobs");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
