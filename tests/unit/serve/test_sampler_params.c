/* What may be asked of a sampler, and the list of its steps. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "serve/sampler.h"

static void expect_refused(const ps_sample_params *p, int V, const char *message)
{
    ck_assert_int_eq(ps_sample_params_check(p, V), PS_ERR_USAGE);
    ck_assert_str_eq(ps_err_message(), message);
}

START_TEST(the_default_is_plain_sampling_in_hf_order)
{
    const ps_sample_params p = ps_sample_params_default();
    ck_assert_int_eq(ps_sample_params_check(&p, 1), PS_OK);
    ck_assert_double_eq(p.temperature, 1.0);
    ps_sample_params parsed = p;
    ck_assert_int_eq(
        ps_sample_order_parse("guidance,logit_bias,banned,repetition,frequency,presence,"
                              "constraint,temperature,top_k,top_p,min_p,typical",
                              &parsed),
        PS_OK);
    ck_assert_int_eq(p.n_order, parsed.n_order);
    ck_assert_mem_eq(p.order, parsed.order, sizeof p.order);
}
END_TEST

static const struct {
    size_t offset;
    double good, bad;
    const char *message;
} reals[] = {
    {offsetof(ps_sample_params, temperature), 1e-5, 9e-6,
     "temperature is 9e-06, wanted 1e-05 to 100000, or 0 for greedy"},
    {offsetof(ps_sample_params, temperature), 1e5, 2e5,
     "temperature is 200000, wanted 1e-05 to 100000, or 0 for greedy"},
    {offsetof(ps_sample_params, temperature), -1.0, NAN,
     "temperature is nan, wanted 1e-05 to 100000, or 0 for greedy"},
    {offsetof(ps_sample_params, temperature), 0.0, -INFINITY,
     "temperature is -inf, wanted 1e-05 to 100000, or 0 for greedy"},
    {offsetof(ps_sample_params, top_p), 0.0, -0.25, "top_p is -0.25, wanted 0 to 1"},
    {offsetof(ps_sample_params, top_p), 1.0, 1.5, "top_p is 1.5, wanted 0 to 1"},
    {offsetof(ps_sample_params, top_p), 0.5, NAN, "top_p is nan, wanted 0 to 1"},
    {offsetof(ps_sample_params, min_p), 1.0, 1.25, "min_p is 1.25, wanted 0 to 1"},
    {offsetof(ps_sample_params, min_p), 0.0, NAN, "min_p is nan, wanted 0 to 1"},
    {offsetof(ps_sample_params, typical_p), 1.0, 2.0, "typical_p is 2, wanted 0 to 1"},
    {offsetof(ps_sample_params, typical_p), 0.5, 0.0, "typical_p is 0, wanted more, up to 1"},
    {offsetof(ps_sample_params, guidance), 0.0, -1.0, "guidance is -1, wanted 0 to 100000"},
    {offsetof(ps_sample_params, guidance), 1e5, NAN, "guidance is nan, wanted 0 to 100000"},
    {offsetof(ps_sample_params, repetition_penalty), 1e-5, 0.0,
     "repetition_penalty is 0, wanted 1e-05 to 100000"},
    {offsetof(ps_sample_params, repetition_penalty), 1e5, INFINITY,
     "repetition_penalty is inf, wanted 1e-05 to 100000"},
    {offsetof(ps_sample_params, frequency_penalty), -1e5, -1e6,
     "frequency_penalty is -1e+06, wanted -100000 to 100000"},
    {offsetof(ps_sample_params, presence_penalty), 1e5, NAN,
     "presence_penalty is nan, wanted -100000 to 100000"},
};

START_TEST(numbers_out_of_range_are_refused_by_name)
{
    ps_sample_params p = ps_sample_params_default();
    double *real = (double *)((char *)&p + reals[_i].offset);
    *real = reals[_i].good;
    ck_assert_int_eq(ps_sample_params_check(&p, 0), PS_OK);
    *real = reals[_i].bad;
    expect_refused(&p, 0, reals[_i].message);
}
END_TEST

static const struct {
    size_t offset;
    int good, bad;
    const char *message;
} ints[] = {
    {offsetof(ps_sample_params, top_k), INT32_MAX, -1, "top_k is -1, wanted 0 to 2147483647"},
    {offsetof(ps_sample_params, repeat_last_n), -1, -2,
     "repeat_last_n is -2, wanted -1 to 1048576"},
    {offsetof(ps_sample_params, repeat_last_n), 1 << 20, (1 << 20) + 1,
     "repeat_last_n is 1048577, wanted -1 to 1048576"},
    {offsetof(ps_sample_params, min_new_tokens), 0, -5,
     "min_new_tokens is -5, wanted 0 to 2147483647"},
};

START_TEST(counts_out_of_range_are_refused_by_name)
{
    ps_sample_params p = ps_sample_params_default();
    int *number = (int *)((char *)&p + ints[_i].offset);
    *number = ints[_i].good;
    ck_assert_int_eq(ps_sample_params_check(&p, 0), PS_OK);
    *number = ints[_i].bad;
    expect_refused(&p, 0, ints[_i].message);
}
END_TEST

START_TEST(listed_tokens_must_lie_in_the_vocabulary)
{
    ps_sample_params p = ps_sample_params_default();
    p.banned = (const int32_t[]){0, 9};
    p.n_banned = 2;
    ck_assert_int_eq(ps_sample_params_check(&p, 10), PS_OK);
    expect_refused(&p, 9, "banned: token 9, wanted 0 to 8");
    p.end_tokens = (const int32_t[]){-1};
    p.n_end_tokens = 1;
    expect_refused(&p, 0, "end_tokens: token -1, wanted 0 or more");
    p.n_end_tokens = 0;
    p.logit_bias = (const ps_sample_bias[]){{3, 1.0f}, {10, 1.0f}};
    p.n_logit_bias = 2;
    expect_refused(&p, 10, "logit_bias: token 10, wanted 0 to 9");
}
END_TEST

START_TEST(bans_must_leave_a_token_whatever_is_listed_twice)
{
    ps_sample_params p = ps_sample_params_default();
    p.banned = (const int32_t[]){0, 1, 1, 1};
    p.n_banned = 4;
    p.end_tokens = (const int32_t[]){2};
    p.n_end_tokens = 1;
    ck_assert_int_eq(ps_sample_params_check_left(&p, 3), PS_OK);
    p.min_new_tokens = 1; // now the end token is banned as well
    ck_assert_int_eq(ps_sample_params_check_left(&p, 3), PS_ERR_USAGE);
    ck_assert_str_eq(ps_err_message(), "banned: all 3 tokens, none is left");
    ck_assert_int_eq(ps_sample_params_check_left(&p, 4), PS_OK);
}
END_TEST

START_TEST(a_bias_must_be_finite)
{
    ps_sample_params p = ps_sample_params_default();
    p.logit_bias = (const ps_sample_bias[]){{3, -INFINITY}};
    p.n_logit_bias = 1;
    expect_refused(&p, 10, "logit_bias: token 3 has -inf, wanted a finite number");
}
END_TEST

START_TEST(a_parameter_whose_step_the_order_leaves_out_is_refused)
{
    ps_sample_params p = ps_sample_params_default();
    ck_assert_int_eq(ps_sample_order_parse("temperature", &p), PS_OK);
    p.temperature = 0.5;
    ck_assert_int_eq(ps_sample_params_check(&p, 0), PS_OK);
    p.top_k = 40;
    expect_refused(&p, 0, "top_k is set, but the sampler order does not name top_k");
    p.top_k = 0;
    p.end_tokens = (const int32_t[]){1};
    p.n_end_tokens = 1;
    ck_assert_int_eq(ps_sample_params_check(&p, 0), PS_OK);
    p.min_new_tokens = 3;
    expect_refused(&p, 0, "min_new_tokens is set, but the sampler order does not name banned");
}
END_TEST

START_TEST(an_order_filled_by_hand_may_not_name_a_step_twice)
{
    ps_sample_params p = ps_sample_params_default();
    p.order[0] = p.order[1] = PS_SAMPLE_TOP_P;
    p.n_order = 2;
    expect_refused(&p, 0, "sampler order: top_p stands there twice");
}
END_TEST

START_TEST(an_order_is_parsed_in_its_order)
{
    ps_sample_params p = ps_sample_params_default();
    ck_assert_int_eq(ps_sample_order_parse(" constraint ,repetition,top_k,top_p,temperature", &p),
                     PS_OK);
    const ps_sample_step wanted[] = {PS_SAMPLE_CONSTRAINT, PS_SAMPLE_REPETITION, PS_SAMPLE_TOP_K,
                                     PS_SAMPLE_TOP_P, PS_SAMPLE_TEMPERATURE};
    ck_assert_int_eq(p.n_order, 5);
    ck_assert_mem_eq(p.order, wanted, sizeof wanted);
}
END_TEST

static const struct {
    const char *name, *order;
} presets[] = {
    {"llama", "guidance,logit_bias,banned,repetition,frequency,presence,constraint,top_k,typical,"
              "top_p,min_p,temperature"},
    {"pytorch", "guidance,logit_bias,banned,constraint,repetition,frequency,presence,top_k,top_p,"
                "min_p,typical,temperature"},
    {"vllm", "output_repetition,frequency,presence,guidance,logit_bias,banned,constraint,"
             "temperature,top_k,top_p,min_p,typical"},
    {"hf", "guidance,logit_bias,banned,repetition,frequency,presence,constraint,temperature,top_k,"
           "top_p,min_p,typical"},
};

/* With a preset every parameter may be set. */
START_TEST(a_preset_is_the_order_that_its_page_shows)
{
    ps_sample_params p = ps_sample_params_default(), parsed = p;
    ck_assert_int_eq(ps_sample_order_parse(presets[_i].name, &p), PS_OK);
    ck_assert_int_eq(ps_sample_order_parse(presets[_i].order, &parsed), PS_OK);
    ck_assert_int_eq(p.n_order, parsed.n_order);
    ck_assert_mem_eq(p.order, parsed.order, (size_t)p.n_order * sizeof *p.order);
    p.guidance = 2.0;
    p.repetition_penalty = 1.5;
    p.frequency_penalty = p.presence_penalty = 0.5;
    p.top_k = 3;
    p.top_p = p.min_p = p.typical_p = 0.5;
    p.logit_bias = &(ps_sample_bias){1, 1.0f};
    p.banned = (const int32_t[]){2};
    p.n_logit_bias = p.n_banned = 1;
    ck_assert_int_eq(ps_sample_params_check(&p, 9), PS_OK);
    ck_assert_int_eq(ps_sample_params_check_constraint(&p), PS_OK);
}
END_TEST

START_TEST(guidance_and_repetition_need_a_place_in_the_order)
{
    ps_sample_params p = ps_sample_params_default();
    p.temperature = 0.0;
    ck_assert_int_eq(ps_sample_order_parse("top_k", &p), PS_OK);
    p.guidance = 1.0;
    ck_assert_int_eq(ps_sample_params_check(&p, 9), PS_OK);
    p.guidance = 1.5;
    expect_refused(&p, 9, "guidance is set, but the sampler order does not name guidance");
    p.guidance = 0.0;
    p.repetition_penalty = 2.0;
    expect_refused(&p, 9,
                   "repetition_penalty is set, but the sampler order does not name repetition");
    ck_assert_int_eq(ps_sample_order_parse("output_repetition", &p), PS_OK);
    ck_assert_int_eq(ps_sample_params_check(&p, 9), PS_OK);
    ck_assert_int_eq(ps_sample_params_check_constraint(&p), PS_ERR_USAGE);
}
END_TEST

static const struct {
    const char *text, *message;
} bad_orders[] = {
    {"", "sampler order: a name is missing"},
    {"top_k,", "sampler order: a name is missing"},
    {"top_k,  ,top_p", "sampler order: a name is missing"},
    {"temprature", "sampler order: no step is named \"temprature\"; the nearest is temperature"},
    {"top_k,topp", "sampler order: no step is named \"topp\"; the nearest is top_p"},
    {"lama", "sampler order: no step is named \"lama\"; the nearest is llama"},
    {"top_k,hf", "sampler order: the preset hf must stand alone"},
    {"hf,top_k", "sampler order: the preset hf must stand alone"},
    {"top_k,top_p,top_k", "sampler order: top_k stands there twice"},
    {"min_p,a_name_of_more_than_thirty_one_bytes",
     "sampler order: no step is named \"a_name_of_more_than_thirty_one_\"; the nearest is "
     "output_repetition"},
};

START_TEST(a_wrong_order_is_refused_and_changes_nothing)
{
    ps_sample_params p = ps_sample_params_default();
    const ps_sample_params before = p;
    ck_assert_int_eq(ps_sample_order_parse(bad_orders[_i].text, &p), PS_ERR_USAGE);
    ck_assert_str_eq(ps_err_message(), bad_orders[_i].message);
    ck_assert_mem_eq(p.order, before.order, sizeof p.order);
    ck_assert_int_eq(p.n_order, before.n_order);
}
END_TEST

START_TEST(every_step_is_found_by_its_name)
{
    ps_sample_params p = ps_sample_params_default();
    for (int i = 0; i < PS_SAMPLE_STEP_COUNT; i++) {
        ck_assert_int_eq(ps_sample_order_parse(ps_sample_step_name((ps_sample_step)i), &p), PS_OK);
        ck_assert_int_eq(p.n_order, 1);
        ck_assert_int_eq(p.order[0], i);
    }
}
END_TEST

START_TEST(a_sampler_is_not_made_from_bad_parameters)
{
    ps_sample_params p = ps_sample_params_default();
    p.top_p = 3.0;
    ps_sampler *s;
    ck_assert_int_eq(ps_sampler_new(&p, 10, &s), PS_ERR_USAGE);
    ck_assert_ptr_null(s);
}
END_TEST

#define COUNT(array) (int)(sizeof(array) / sizeof *(array))

int main(void)
{
    TCase *tcase = tcase_create("params");
    tcase_add_test(tcase, the_default_is_plain_sampling_in_hf_order);
    tcase_add_loop_test(tcase, numbers_out_of_range_are_refused_by_name, 0, COUNT(reals));
    tcase_add_loop_test(tcase, counts_out_of_range_are_refused_by_name, 0, COUNT(ints));
    tcase_add_test(tcase, listed_tokens_must_lie_in_the_vocabulary);
    tcase_add_test(tcase, bans_must_leave_a_token_whatever_is_listed_twice);
    tcase_add_test(tcase, a_bias_must_be_finite);
    tcase_add_test(tcase, a_parameter_whose_step_the_order_leaves_out_is_refused);
    tcase_add_test(tcase, an_order_filled_by_hand_may_not_name_a_step_twice);
    tcase_add_test(tcase, an_order_is_parsed_in_its_order);
    tcase_add_loop_test(tcase, a_preset_is_the_order_that_its_page_shows, 0, 4);
    tcase_add_test(tcase, guidance_and_repetition_need_a_place_in_the_order);
    tcase_add_loop_test(tcase, a_wrong_order_is_refused_and_changes_nothing, 0, COUNT(bad_orders));
    tcase_add_test(tcase, every_step_is_found_by_its_name);
    tcase_add_test(tcase, a_sampler_is_not_made_from_bad_parameters);
    Suite *suite = suite_create("serve/sampler_params");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
