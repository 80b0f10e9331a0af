/* The options of running and sampling, from the command line to what they set. */
#include "tool/options.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "support/scratch.h"
#include "tool/job.h"

typedef struct line {
    ps_run_options run;
    ps_sampling_options sampling;
    ps_opt_group groups[3];
    ps_opt_parsed parsed;
    ps_request request;
    char *words[40];
    char text[300];
} line;

/* Parses "--a 1 --b" as a command would; words are separated by blanks. */
static ps_err parse(line *l, const char *text)
{
    int n = 0;
    *l = (line){0};
    l->groups[0] = ps_run_group(&l->run);
    l->groups[1] = ps_base_group(&l->run);
    l->groups[2] = ps_sampling_group(&l->sampling);
    snprintf(l->text, sizeof l->text, "%s", text);
    char *save = NULL;
    for (char *w = strtok_r(l->text, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        l->words[n++] = w;
    }
    return ps_opt_parse(l->groups, 3, NULL, n, l->words, &l->parsed);
}

static ps_err sample(line *l, const char *text)
{
    assert_ok(parse(l, text));
    return ps_sampling_to_request(&l->sampling, &l->parsed, &l->request);
}

static void release(line *l)
{
    ps_request_release(&l->request);
    ps_opt_release(&l->parsed);
}

START_TEST(the_defaults_are_those_of_the_help)
{
    line l;
    assert_ok(parse(&l, ""));
    ck_assert_int_eq(l.run.threads, 0);
    ck_assert_str_eq(l.run.isa, "auto");
    ck_assert_int_eq(l.run.gemm, PS_GEMM_PANEL);
    ck_assert_int_eq(l.run.chunk, 0);
    ck_assert_int_eq(l.run.slots, 0);
    ck_assert_int_eq(l.run.in_flight, 0);
    ck_assert_int_eq(l.run.verify, PS_VERIFY_ONCE);
    ck_assert_int_eq(l.run.wait, PS_WAIT_AUTO);
    ck_assert(l.run.stall_timeout_s == 60.0);
    ck_assert(l.run.start_timeout_s == 600.0);
    ck_assert(l.run.progress && !l.run.quiet && !l.run.verbose && !l.run.bind);
    ck_assert_ptr_null(l.run.split);
    ck_assert_ptr_null(l.run.report);
    release(&l);
}
END_TEST

START_TEST(every_option_reaches_its_field)
{
    line l;
    assert_ok(parse(&l, "-t 3 --isa portable --gemm blas --slots 5 --ctx 4096 --chunk 7 "
                        "--in-flight 2 --split 1,2 --verify always --wait shared"));
    ck_assert_int_eq(l.run.threads, 3);
    ck_assert_str_eq(l.run.isa, "portable");
    ck_assert_int_eq(l.run.gemm, PS_GEMM_BLAS);
    ck_assert_int_eq(l.run.slots, 5);
    ck_assert_int_eq(l.run.context, 4096);
    ck_assert_int_eq(l.run.chunk, 7);
    ck_assert_int_eq(l.run.in_flight, 2);
    ck_assert_str_eq(l.run.split, "1,2");
    ck_assert_int_eq(l.run.verify, PS_VERIFY_ALWAYS);
    ck_assert_int_eq(l.run.wait, PS_WAIT_SHARED);
    release(&l);
    assert_ok(parse(&l, "--bind --report r.json -q --stall-timeout 0.25 --start-timeout 2m"));
    ck_assert(l.run.bind && l.run.quiet);
    ck_assert_str_eq(l.run.report, "r.json");
    ck_assert(l.run.stall_timeout_s == 0.25);
    ck_assert(l.run.start_timeout_s == 120.0);
    release(&l);
}
END_TEST

START_TEST(values_out_of_range_are_refused)
{
    static const char *const texts[] = {
        "--chunk -1",          "--chunk 8193",      "-t -1",       "--slots 65537",
        "--gemm none",         "--verify no",       "--wait long", "--stall-timeout 0",
        "--top-p 1.5",         "--temperature -1",  "--samples 0", "--samples 1025",
        "--logprobs 21",       "--min-p nan",       "--typical 2", "--repetition-penalty 0",
        "--start-timeout 0.5", "--repeat-last-n -2"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        line l;
        ck_assert_msg(parse(&l, texts[i]) == PS_ERR_USAGE, "%s is taken", texts[i]);
    }
}
END_TEST

/* Greedy unless something is asked for that only makes sense with draws. */
START_TEST(the_choice_is_greedy_until_randomness_is_asked_for)
{
    static const struct {
        const char *text;
        double temperature;
    } cases[] = {
        {"", 0.0},
        {"--repetition-penalty 1.2", 0.0},
        {"--ban 3 --logit-bias 4:1", 0.0},
        {"--min-tokens 4 --ignore-eos", 0.0},
        {"--seed 4", 1.0},
        {"--samples 2", 1.0},
        {"--top-k 5", 1.0},
        {"--top-p 0.5", 1.0},
        {"--min-p 0.1", 1.0},
        {"--typical 0.5", 1.0},
        {"--sampler-order llama", 1.0},
        {"--temperature 0.5", 0.5},
        {"--temperature 0 --seed 4", 0.0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        line l;
        assert_ok(sample(&l, cases[i].text));
        ck_assert_msg(l.request.sampling.temperature == cases[i].temperature, "%s: %f",
                      cases[i].text, l.request.sampling.temperature);
        release(&l);
    }
}
END_TEST

START_TEST(every_sampling_option_reaches_the_request)
{
    line l;
    assert_ok(sample(&l, "--temperature 0.5 --top-k 4 --top-p 0.25 --min-p 0.125 --typical 0.75 "
                         "--min-tokens 6 --seed 18446744073709551615"));
    const ps_sample_params *p = &l.request.sampling;
    ck_assert(p->temperature == 0.5 && p->top_p == 0.25 && p->min_p == 0.125 &&
              p->typical_p == 0.75);
    ck_assert_int_eq(p->top_k, 4);
    ck_assert_int_eq(p->min_new_tokens, 6);
    ck_assert_uint_eq(p->seed, UINT64_MAX);
    release(&l);
    assert_ok(sample(&l, "--repetition-penalty 1.5 --presence-penalty -2 --frequency-penalty 3 "
                         "--repeat-last-n 8 --samples 3 --logprobs 2 --ignore-eos"));
    ck_assert(p->repetition_penalty == 1.5 && p->presence_penalty == -2.0 &&
              p->frequency_penalty == 3.0);
    ck_assert_int_eq(p->repeat_last_n, 8);
    ck_assert_int_eq(l.request.n_samples, 3);
    ck_assert_int_eq(l.request.n_logprobs, 2);
    ck_assert(l.request.ignore_eos);
    release(&l);
}
END_TEST

START_TEST(lists_keep_their_order)
{
    line l;
    assert_ok(sample(&l, "--logit-bias 3:-1.5 --logit-bias 0:2e1 --ban 7 --ban 8 --stop a --stop "
                         "bc"));
    const ps_request *r = &l.request;
    ck_assert_int_eq(r->sampling.n_logit_bias, 2);
    ck_assert_int_eq(r->sampling.logit_bias[0].token, 3);
    ck_assert(r->sampling.logit_bias[0].bias == -1.5f);
    ck_assert_int_eq(r->sampling.logit_bias[1].token, 0);
    ck_assert(r->sampling.logit_bias[1].bias == 20.0f);
    ck_assert_int_eq(r->sampling.n_banned, 2);
    ck_assert_int_eq(r->sampling.banned[1], 8);
    ck_assert_int_eq(r->n_stops, 2);
    ck_assert_uint_eq(r->stops[1].n, 2);
    ck_assert_mem_eq(r->stops[1].bytes, "bc", 2);
    release(&l);
}
END_TEST

START_TEST(list_entries_that_are_none_are_named)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"--logit-bias 3", "--logit-bias 3: wanted a token id, a colon and a number"},
        {"--logit-bias 3:", "--logit-bias 3:: wanted a token id, a colon and a number"},
        {"--logit-bias 3:x", "--logit-bias 3:x: wanted a token id, a colon and a number"},
        {"--logit-bias 3:1x", "--logit-bias 3:1x: wanted a token id, a colon and a number"},
        {"--logit-bias 3:1e300", "--logit-bias 3:1e300: wanted a token id, a colon and a number"},
        {"--logit-bias x:1", "--logit-bias x:1: wanted a token id, a colon and a number"},
        {"--logit-bias -1:1", "--logit-bias -1:1: wanted a token id, a colon and a number"},
        {"--ban x", "--ban x: wanted a token id"},
        {"--ban 2147483648", "--ban 2147483648: wanted a token id"},
        {"--ban 3:1", "--ban 3:1: wanted a token id"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        line l;
        ck_assert_int_eq(sample(&l, cases[i].text), PS_ERR_USAGE);
        assert_message(cases[i].message);
        release(&l);
    }
}
END_TEST

/* Chosen anew, and small enough for every reader of JSON. */
START_TEST(a_seed_that_is_not_given_is_chosen)
{
    line one, two;
    assert_ok(sample(&one, ""));
    assert_ok(sample(&two, ""));
    ck_assert_uint_ne(one.request.sampling.seed, two.request.sampling.seed);
    ck_assert_uint_lt(one.request.sampling.seed, UINT64_C(1) << 53);
    release(&one);
    release(&two);
}
END_TEST

/* ---- limits from options and needs ---- */

static ps_limits limits_of(const char *text, ps_needs needs, int64_t window, int64_t context,
                           int n_ranks)
{
    line l;
    ps_limits out;
    ps_layer_spec layer = {.window = window};
    ps_spec spec = {.n_layers = 1, .layers = &layer, .context = context};
    assert_ok(parse(&l, text));
    assert_ok(ps_job_limits(&l.run, &spec, &needs, n_ranks, &out));
    ck_assert_int_eq(out.rows_max, out.chunk_rows + out.n_slots);
    release(&l);
    return out;
}

START_TEST(limits_follow_the_needs)
{
    ps_limits l = limits_of("", (ps_needs){3, 40, 0, 0}, 0, 100, 1);
    ck_assert_int_eq(l.n_slots, 3);
    ck_assert_int_eq(l.context, 40);
    ck_assert_int_eq(l.chunk_rows, 40);
    l = limits_of("", (ps_needs){1000, 4000, 0, 0}, 0, 1000, 2);
    ck_assert_int_eq(l.n_slots, 16);
    ck_assert_int_eq(l.context, 1000); // the model's
    ck_assert_int_eq(l.chunk_rows, 128);
    ck_assert_int_eq(l.chunk_least, 12);
    l = limits_of("", (ps_needs){1000, 4000, 0, 0}, 0, 1000, 7);
    ck_assert_int_eq(l.n_slots, 28);
    l = limits_of("", (ps_needs){0, 0, 0, 0}, 0, 1000, 1);
    ck_assert_int_eq(l.n_slots, 1);
    ck_assert_int_eq(l.context, 1);
}
END_TEST

START_TEST(options_have_the_last_word)
{
    const ps_limits l =
        limits_of("--slots 9 --ctx 50 --chunk 20", (ps_needs){3, 40, 0, 0}, 0, 100, 1);
    ck_assert_int_eq(l.n_slots, 9);
    ck_assert_int_eq(l.context, 50);
    ck_assert_int_eq(l.chunk_rows, 20);
    ck_assert_int_eq(l.chunk_least, 0);
}
END_TEST

START_TEST(windows_everywhere_allow_any_length)
{
    const ps_limits l = limits_of("", (ps_needs){1, INT64_MAX, 0, 0}, 64, 0, 1);
    ck_assert_int_eq(l.context, INT64_C(1) << 48);
    ck_assert_int_eq(l.chunk_rows, 128);
}
END_TEST

START_TEST(without_windows_and_a_context_one_must_be_given)
{
    line l;
    ps_limits out;
    ps_layer_spec layer = {0};
    const ps_spec spec = {.n_layers = 1, .layers = &layer};
    const ps_needs endless = {1, INT64_MAX, 0, 0};
    assert_ok(parse(&l, ""));
    ck_assert_int_eq(ps_job_limits(&l.run, &spec, &endless, 1, &out), PS_ERR_USAGE);
    assert_message("the model has layers without a window and names no context: give --ctx");
    l.run.context = 300;
    assert_ok(ps_job_limits(&l.run, &spec, &endless, 1, &out));
    ck_assert_int_eq(out.context, 300);
    release(&l);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/options");
    TCase *tcase = tcase_create("options");
    tcase_add_test(tcase, the_defaults_are_those_of_the_help);
    tcase_add_test(tcase, every_option_reaches_its_field);
    tcase_add_test(tcase, values_out_of_range_are_refused);
    tcase_add_test(tcase, the_choice_is_greedy_until_randomness_is_asked_for);
    tcase_add_test(tcase, every_sampling_option_reaches_the_request);
    tcase_add_test(tcase, lists_keep_their_order);
    tcase_add_test(tcase, list_entries_that_are_none_are_named);
    tcase_add_test(tcase, a_seed_that_is_not_given_is_chosen);
    tcase_add_test(tcase, limits_follow_the_needs);
    tcase_add_test(tcase, options_have_the_last_word);
    tcase_add_test(tcase, windows_everywhere_allow_any_length);
    tcase_add_test(tcase, without_windows_and_a_context_one_must_be_given);
    suite_add_tcase(suite, tcase);
    return scratch_run(suite);
}
