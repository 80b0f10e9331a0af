/* Generation over a pipeline that keeps books: every request, whatever runs beside it, comes to
 * what its sampler, detokenizer and stop strings make of the logits, one token after the other. */
#include "generate_stage.h"

START_TEST(requests_come_to_the_same_under_any_limits_and_in_any_mix)
{
    dice d = {.seed = 21};
    for (int mix = 0; mix < 40; mix++) {
        stage *s = open_stage(1 + dice_throw(&d, 12), 1 + dice_throw(&d, 40), 1 + dice_throw(&d, 6),
                              mix % 4 == 3);
        const uint64_t n = 1 + (uint64_t)dice_throw(&d, 40);
        for (uint64_t i = 0; i < n; i++) {
            ps_request r = throw_request(i);
            assert_ok(ps_generate_check(&r, &s->spec, &s->limits));
            assert_ok(ps_generate_add(s->generate, i, &r));
            while (dice_throw(&d, 2) && ps_generate_busy(s->generate)) {
                assert_ok(ps_generate_step(s->generate));
            }
        }
        run(s);
        for (uint64_t i = 0; i < n; i++) {
            ps_request r = throw_request(i);
            expect_result(s, i, &r);
            ps_request_release(&r);
        }
        close_stage(s);
    }
}
END_TEST

static ps_request many_samples(uint64_t number)
{
    ps_request r = request_of(12, 9);
    r.n_samples = (int)number;
    r.sampling.seed = 5;
    return r;
}

/* In waves of as many as there are slots. */
START_TEST(more_samples_than_slots_run_in_waves)
{
    static const int n_samples[] = {3, 4, 5, 17};
    for (int i = 0; i < 4; i++) {
        stage *s = open_stage(4, 8, 2, false);
        run_one(s, (uint64_t)n_samples[i], many_samples);
        close_stage(s);
    }
}
END_TEST

/* The prompt's rows are there once for all samples of a wave. */
START_TEST(samples_share_the_rows_of_the_prompt)
{
    stage *s = open_stage(6, 50, 1, false);
    run_one(s, 5, many_samples);
    int rows = 0;
    for (int b = 0; b < fake_pipeline_count(s->pipeline); b++) {
        rows += fake_pipeline_batch(s->pipeline, b)->n_rows;
    }
    size_t new_tokens = 0;
    for (int i = 0; i < 5; i++) {
        new_tokens += s->results[5].completions[i].tokens.n;
    }
    // The last token of a sample is not fed any more.
    ck_assert_int_eq(rows, 12 + (int)new_tokens - 5);
    close_stage(s);
}
END_TEST

static ps_request no_tokens(uint64_t number)
{
    ps_request r = request_of(4, 0);
    r.n_samples = (int)number;
    return r;
}

START_TEST(no_tokens_at_all_need_no_pipeline)
{
    stage *s = open_stage(4, 8, 2, false);
    run_one(s, 2, no_tokens);
    ck_assert_int_eq(fake_pipeline_count(s->pipeline), 0);
    close_stage(s);
}
END_TEST

static ps_request fills_the_context(uint64_t number)
{
    ps_request r = request_of((int)number, 1000);
    r.ignore_eos = true;
    return r;
}

START_TEST(a_full_context_ends_a_sequence)
{
    static const uint64_t lengths[] = {1, CONTEXT - 1, CONTEXT};
    for (int i = 0; i < 3; i++) {
        stage *s = open_stage(1, 8, 1, false);
        const uint64_t n = lengths[i];
        ps_request r = fills_the_context(n);
        assert_ok(ps_generate_add(s->generate, 0, &r));
        run(s);
        ck_assert_int_eq(s->results[0].completions[0].finish, PS_FINISH_LENGTH);
        // Every position is used, and the last logits give one token more.
        ck_assert_uint_eq(s->results[0].completions[0].tokens.n, CONTEXT - n + 1);
        close_stage(s);
    }
}
END_TEST

static ps_request wants_many(uint64_t number)
{
    ps_request r = request_of(6, 60);
    r.sampling.min_new_tokens = (int)number;
    r.sampling.seed = 1;
    // An end token next to certainly, if it were allowed.
    ps_sample_bias *bias = ps_mem_new(1, sizeof *bias);
    *bias = (ps_sample_bias){END_TWO, 100.0f};
    r.sampling.logit_bias = bias;
    r.sampling.n_logit_bias = 1;
    return r;
}

START_TEST(no_end_token_comes_before_min_tokens)
{
    stage *s = open_stage(1, 8, 1, false);
    for (uint64_t n = 0; n <= 20; n += 20) {
        run_one(s, n, wants_many);
        const ps_completion *c = &s->results[n].completions[0];
        ck_assert_uint_eq(c->tokens.n, n + 1);
        ck_assert_int_eq(c->tokens.ids[n], END_TWO);
        ck_assert_int_eq(c->finish, PS_FINISH_STOP);
    }
    close_stage(s);
}
END_TEST

/* An endless request keeps no record of what it said. */
START_TEST(an_endless_request_shows_its_text_and_keeps_nothing)
{
    stage *s = open_stage(1, 8, 1, true);
    ps_request r = request_of(3, PS_REQUEST_ENDLESS);
    r.ignore_eos = true;
    assert_ok(ps_generate_check(&r, &s->spec, &s->limits));
    assert_ok(ps_generate_add(s->generate, 0, &r));
    for (int i = 0; i < 2000; i++) {
        assert_ok(ps_generate_step(s->generate));
    }
    ck_assert(ps_generate_busy(s->generate));
    ck_assert_uint_gt(s->results[0].shown[0].len, 1900);
    // The end of the generator is the end of the request: no leak.
    close_stage(s);
}
END_TEST

START_TEST(an_error_of_a_callback_comes_out_of_the_step)
{
    stage *s = open_stage(2, 8, 2, false);
    ps_request r = request_of(5, 40);
    r.ignore_eos = true;
    s->fail_at = 7;
    assert_ok(ps_generate_add(s->generate, 0, &r));
    ps_err err = PS_OK;
    for (int i = 0; i < 100 && !err; i++) {
        err = ps_generate_step(s->generate);
    }
    ck_assert_int_eq(err, PS_ERR_CLOSED);
    assert_message("the reader went away");
    close_stage(s);
}
END_TEST

START_TEST(the_counts_are_those_of_the_run)
{
    stage *s = open_stage(3, 8, 2, false);
    uint64_t new_tokens = 0;
    for (uint64_t i = 0; i < 3; i++) {
        ps_request r = request_of(5 + (int)i, 10);
        r.ignore_eos = true;
        r.n_samples = 2;
        assert_ok(ps_generate_add(s->generate, i, &r));
    }
    run(s);
    for (int i = 0; i < 3; i++) {
        new_tokens += s->results[i].completions[0].tokens.n + s->results[i].completions[1].tokens.n;
    }
    ps_generate_counts counts;
    ps_generate_count(s->generate, &counts);
    ck_assert_uint_eq(counts.requests, 3);
    ck_assert_uint_eq(counts.prompt_tokens, 5 + 6 + 7);
    ck_assert_uint_eq(counts.new_tokens, new_tokens);
    ck_assert_uint_eq(new_tokens, 60);
    ck_assert_uint_eq(counts.n_token_ms, 60 - 6); // the first of a sample has none before it
    ck_assert_int_ge(counts.first_token_ns, counts.begun_ns);
    ck_assert_int_ge(counts.last_token_ns, counts.first_token_ns);
    ps_generate_counts_release(&counts);
    close_stage(s);
}
END_TEST

static void expect_refusal(const stage *s, ps_request r, ps_err code, const char *message)
{
    ck_assert_int_eq(ps_generate_check(&r, &s->spec, &s->limits), code);
    assert_message(message);
    ps_request_release(&r);
}

START_TEST(what_cannot_run_says_why)
{
    stage *s = open_stage(2, 8, 2, false);
    ps_request r = request_of(0, 1);
    expect_refusal(s, r, PS_ERR_USAGE, "the prompt is empty");
    r = request_of(3, 1);
    r.prompt.ids[2] = VOCABULARY;
    expect_refusal(s, r, PS_ERR_USAGE, "prompt token 2 is 128, the vocabulary has 0..127");
    r = request_of(3, 1);
    r.prompt.ids[0] = -1;
    expect_refusal(s, r, PS_ERR_USAGE, "prompt token 0 is -1, the vocabulary has 0..127");
    expect_refusal(s, request_of(CONTEXT + 1, 1), PS_ERR_LIMIT,
                   "the prompt has 91 tokens, the context 90");
    expect_refusal(s, request_of(3, -2), PS_ERR_USAGE,
                   "max_tokens is -2, wanted 0 or more, or -1 for no end");
    r = request_of(3, 1);
    r.n_samples = 0;
    expect_refusal(s, r, PS_ERR_USAGE, "n is 0, wanted 1..1024 samples");
    r = request_of(3, 1);
    r.n_samples = 1025;
    expect_refusal(s, r, PS_ERR_USAGE, "n is 1025, wanted 1..1024 samples");
    r = request_of(3, 1);
    r.n_logprobs = 21;
    expect_refusal(s, r, PS_ERR_USAGE, "logprobs is 21, wanted 0..20");
    r = request_of(3, 1);
    r.sampling.top_p = 2.0;
    ck_assert_int_eq(ps_generate_check(&r, &s->spec, &s->limits), PS_ERR_USAGE);
    assert_mentions("top_p");
    // Without the step that bans them, end tokens would come in spite of min_tokens.
    r.sampling.top_p = 1.0;
    r.sampling.min_new_tokens = 5;
    assert_ok(ps_sample_order_parse("temperature", &r.sampling));
    ck_assert_int_eq(ps_generate_check(&r, &s->spec, &s->limits), PS_ERR_USAGE);
    assert_mentions("banned");
    ps_request_release(&r);
    close_stage(s);
}
END_TEST

/* With windows in all layers no prompt is too long. */
START_TEST(an_endless_model_takes_any_prompt)
{
    stage *s = open_stage(2, 8, 2, true);
    ps_request r = request_of(5 * CONTEXT, 1);
    assert_ok(ps_generate_check(&r, &s->spec, &s->limits));
    ps_request_release(&r);
    close_stage(s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("serve/generate");
    TCase *tcase = tcase_create("generate");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, requests_come_to_the_same_under_any_limits_and_in_any_mix);
    tcase_add_test(tcase, more_samples_than_slots_run_in_waves);
    tcase_add_test(tcase, samples_share_the_rows_of_the_prompt);
    tcase_add_test(tcase, no_tokens_at_all_need_no_pipeline);
    tcase_add_test(tcase, a_full_context_ends_a_sequence);
    tcase_add_test(tcase, no_end_token_comes_before_min_tokens);
    tcase_add_test(tcase, an_endless_request_shows_its_text_and_keeps_nothing);
    tcase_add_test(tcase, an_error_of_a_callback_comes_out_of_the_step);
    tcase_add_test(tcase, the_counts_are_those_of_the_run);
    tcase_add_test(tcase, what_cannot_run_says_why);
    tcase_add_test(tcase, an_endless_model_takes_any_prompt);
    suite_add_tcase(suite, tcase);
    return scratch_run(suite);
}
