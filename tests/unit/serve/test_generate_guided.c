/* Generation with guidance and constraints, over a pipeline that keeps books: what comes out is what
 * two sequences and a state machine come to, token by token, whatever is shared and saved. */
#include "generate_stage.h"

START_TEST(requests_come_to_the_same_under_any_limits_and_in_any_mix)
{
    dice d = {.seed = 77};
    for (int mix = 0; mix < 60; mix++) {
        stage *s = open_stage(2 + dice_throw(&d, 12), 1 + dice_throw(&d, 40), 1 + dice_throw(&d, 6),
                              mix % 4 == 3);
        const uint64_t n = 1 + (uint64_t)dice_throw(&d, 40);
        for (uint64_t i = 0; i < n; i++) {
            ps_request r = i % 4 ? throw_guided_request(i) : throw_request(i);
            assert_ok(ps_generate_check(&r, &s->spec, &s->limits));
            assert_ok(ps_generate_add(s->generate, i, &r));
            while (dice_throw(&d, 2) && ps_generate_busy(s->generate)) {
                assert_ok(ps_generate_step(s->generate));
            }
        }
        run(s);
        for (uint64_t i = 0; i < n; i++) {
            ps_request r = i % 4 ? throw_guided_request(i) : throw_request(i);
            expect_result(s, i, &r);
            ps_request_release(&r);
        }
        close_stage(s);
    }
}
END_TEST

/* ---- what is computed ---- */

static int count_rows(const stage *s, bool wanted)
{
    int n = 0;
    for (int b = 0; b < fake_pipeline_count(s->pipeline); b++) {
        const fake_batch *batch = fake_pipeline_batch(s->pipeline, b);
        for (int r = 0; r < batch->n_rows; r++) {
            n += !wanted || batch->rows[r].wants_logits;
        }
    }
    return n;
}

enum { COMMON = 20, OWN = 9, NEW = 12 };

/* The number is that of the samples. */
static ps_request shares_a_beginning(uint64_t number)
{
    ps_request r = request_of(COMMON + 14, NEW);
    r.ignore_eos = true;
    r.n_samples = (int)number;
    set_guidance(&r, COMMON, OWN);
    return r;
}

START_TEST(what_the_prompts_share_is_computed_once)
{
    for (int chunk = 1; chunk < 60; chunk += 7) {
        for (int n = 1; n <= 3; n++) {
            stage *s = open_stage(2 * n, chunk, 2, false);
            run_one(s, (uint64_t)n, shares_a_beginning);
            const int prompts = COMMON + 14 + OWN;
            ck_assert_int_eq(count_rows(s, false), prompts + 2 * n * (NEW - 1));
            ps_generate_counts counts;
            ps_generate_count(s->generate, &counts);
            ck_assert_uint_eq(counts.prompt_tokens, (uint64_t)prompts);
            ck_assert_uint_eq(counts.new_tokens, (uint64_t)(n * NEW));
            ps_generate_counts_release(&counts);
            close_stage(s);
        }
    }
}
END_TEST

/* A few tokens are not worth a parcel of their own. */
START_TEST(a_short_common_beginning_goes_along)
{
    stage *s = open_stage(2, 60, 2, false);
    ps_request r = request_of(12, 1);
    set_guidance(&r, 4, 3);
    assert_ok(ps_generate_add(s->generate, 0, &r));
    run(s);
    ck_assert_int_eq(fake_pipeline_count(s->pipeline), 1);
    ck_assert_int_eq(count_rows(s, false), 12 + 7);
    close_stage(s);
}
END_TEST

/* Rows whose logits are wanted come two by two: prompt, negative prompt. */
START_TEST(the_rows_of_a_pair_are_in_the_same_parcel)
{
    static const int chunks[] = {1, 3, 8, 40};
    for (int i = 0; i < 4; i++) {
        stage *s = open_stage(6, chunks[i], 3, false);
        run_one(s, 3, shares_a_beginning);
        for (int b = 0; b < fake_pipeline_count(s->pipeline); b++) {
            const fake_batch *batch = fake_pipeline_batch(s->pipeline, b);
            int n = 0;
            int64_t position = 0;
            for (int r = 0; r < batch->n_rows; r++) {
                const ps_batch_row *row = &batch->rows[r];
                if (!row->wants_logits) continue;
                // The prompt is 5 tokens longer.
                if (n % 2 == 1) ck_assert_int_eq(row->position, position - 5);
                position = row->position;
                n++;
            }
            ck_assert_int_eq(n % 2, 0);
        }
        ck_assert_int_eq(count_rows(s, true), 2 + 2 * 3 * (NEW - 1));
        close_stage(s);
    }
}
END_TEST

static ps_request more_pairs_than_slots(uint64_t number)
{
    ps_request r = shares_a_beginning(number);
    r.sampling.seed = 3;
    return r;
}

START_TEST(a_guided_sample_takes_two_slots)
{
    for (int n_slots = 2; n_slots <= 5; n_slots++) {
        stage *s = open_stage(n_slots, 16, 2, false);
        run_one(s, 7, more_pairs_than_slots);
        const int waves = (7 + n_slots / 2 - 1) / (n_slots / 2);
        ck_assert_int_eq(count_rows(s, false), waves * (COMMON + 14 + OWN) + 2 * 7 * (NEW - 1));
        close_stage(s);
    }
}
END_TEST

/* More than a head's worth of rows in a parcel. */
START_TEST(pairs_are_not_divided_when_there_are_many)
{
    stage *s = open_stage(39, 8, 1, false);
    ps_request r = request_of(5, 30);
    assert_ok(ps_generate_add(s->generate, 8, &r));
    run_one(s, 19, shares_a_beginning);
    close_stage(s);
}
END_TEST

/* ---- constraints ---- */

static ps_request constrained(uint64_t number)
{
    ps_request r = request_of(10, 40);
    r.ignore_eos = true;
    r.sampling.seed = number;
    r.constraint = dice_constraint_new(number, VOCABULARY);
    if (number % 2) set_guidance(&r, 3, 4);
    return r;
}

/* The same with log-probabilities, for which every token needs its logits. */
static ps_request constrained_with_logprobs(uint64_t number)
{
    ps_request r = constrained(number);
    r.n_logprobs = 1;
    return r;
}

START_TEST(tokens_that_are_certain_need_no_logits)
{
    for (uint64_t number = 0; number < 10; number++) {
        const int sequences = number % 2 ? 2 : 1, before = dice_constraint_allows();
        stage *s = open_stage(2, 16, 2, false);
        run_one(s, number, constrained);
        // The expectation asks as often as the generator did.
        const int drawn = (dice_constraint_allows() - before) / 2;
        ck_assert_int_lt(drawn, 40);
        ck_assert_int_eq(count_rows(s, true), sequences * drawn);
        run_one(s, number + 20, constrained_with_logprobs);
        ck_assert_int_gt(count_rows(s, true), sequences * drawn + 20);
        close_stage(s);
    }
}
END_TEST

/* Draws are counted by tokens: whether some were jumped over shows nowhere. */
START_TEST(jumping_forward_changes_no_token)
{
    stage *s = open_stage(2, 16, 2, false);
    for (uint64_t number = 0; number < 10; number++) {
        ps_request plain = constrained(number), watched = constrained_with_logprobs(number);
        assert_ok(ps_generate_add(s->generate, 2 * number, &plain));
        assert_ok(ps_generate_add(s->generate, 2 * number + 1, &watched));
    }
    run(s);
    for (uint64_t number = 0; number < 10; number++) {
        const ps_tokens *a = &s->results[2 * number].completions[0].tokens;
        const ps_tokens *b = &s->results[2 * number + 1].completions[0].tokens;
        ck_assert_uint_eq(a->n, 40);
        ck_assert_uint_eq(b->n, 40);
        ck_assert_mem_eq(a->ids, b->ids, 40 * sizeof *a->ids);
    }
    close_stage(s);
}
END_TEST

/* Says 10, 11, 12, ... and is certain of it. */
typedef struct counting {
    ps_constraint base;
    int32_t next;
} counting;

static void counting_expect(ps_constraint *c, ps_expectation *out)
{
    *out = (ps_expectation){.certain = ((counting *)(void *)c)->next};
}

static ps_err counting_allow(ps_constraint *c, const float *logits, uint64_t *allowed, bool *all)
{
    (void)c, (void)logits, (void)allowed, (void)all;
    ck_abort_msg("nothing is to be drawn");
    return PS_OK;
}

static void counting_advance(ps_constraint *c, int32_t token)
{
    ck_assert_int_eq(((counting *)(void *)c)->next++, token);
}

static ps_constraint *counting_copy(const ps_constraint *c)
{
    return (ps_constraint *)(void *)ps_mem_copy_bytes(c, sizeof(counting));
}

static void counting_free(ps_constraint *c)
{
    ps_mem_free(c);
}

static ps_request counts(uint64_t number)
{
    static const ps_constraint_kind kind = {counting_expect, counting_allow, counting_advance,
                                            counting_copy, counting_free};
    counting *c = ps_mem_new(1, sizeof *c);
    *c = (counting){.base = {&kind}, .next = 10};
    ps_request r = request_of(8, 1 + (int64_t)number);
    r.n_samples = 5;
    r.constraint = &c->base;
    return r;
}

START_TEST(an_output_that_is_certain_to_its_end_is_not_computed)
{
    stage *s = open_stage(2, 8, 2, false);
    run_one(s, 6, counts);
    run_one(s, 0, counts);
    ck_assert_int_eq(s->results[6].completions[4].tokens.ids[6], 16);
    ck_assert_int_eq(fake_pipeline_count(s->pipeline), 0);
    close_stage(s);
}
END_TEST

START_TEST(an_error_of_a_callback_on_the_way_to_the_pipeline_leaves_nothing_behind)
{
    for (int fail_at = 0; fail_at < 20; fail_at += 6) {
        stage *s = open_stage(2, 8, 2, false);
        ps_request r = counts(6);
        s->fail_at = fail_at;
        ck_assert_int_eq(ps_generate_add(s->generate, 0, &r), PS_ERR_CLOSED);
        close_stage(s);
    }
}
END_TEST

/* ---- refusals ---- */

static void expect_refusal(const stage *s, ps_request r, ps_err code, const char *message)
{
    ck_assert_int_eq(ps_generate_check(&r, &s->spec, &s->limits), code);
    assert_message(message);
    ps_request_release(&r);
}

static ps_request guided(void)
{
    ps_request r = request_of(3, 5);
    set_guidance(&r, 0, 2);
    return r;
}

START_TEST(what_cannot_run_says_why)
{
    stage *s = open_stage(2, 8, 2, false);
    ps_request r = request_of(3, 5);
    r.guidance = 2.0;
    expect_refusal(s, r, PS_ERR_USAGE, "the negative prompt is empty");
    r = guided();
    r.negative.ids[1] = VOCABULARY;
    expect_refusal(s, r, PS_ERR_USAGE, "negative prompt token 1 is 128, the vocabulary has 0..127");
    r = guided();
    set_guidance(&r, 0, CONTEXT);
    expect_refusal(s, r, PS_ERR_LIMIT, "the negative prompt has 92 tokens, the context 90");
    r = guided();
    r.guidance = 1e6;
    expect_refusal(s, r, PS_ERR_USAGE, "guidance is 1e+06, wanted 0 to 100000");
    r = guided();
    assert_ok(ps_sample_order_parse("constraint", &r.sampling));
    expect_refusal(s, r, PS_ERR_USAGE,
                   "guidance is set, but the sampler order does not name guidance");
    r = guided();
    r.keeps_state = true;
    expect_refusal(s, r, PS_ERR_USAGE, "no state is kept of an output with guidance");
    r = constrained(0);
    r.keeps_state = true;
    expect_refusal(s, r, PS_ERR_USAGE, "no state is kept of an output with a constraint");
    r = constrained(0);
    assert_ok(ps_sample_order_parse("guidance", &r.sampling));
    expect_refusal(s, r, PS_ERR_USAGE,
                   "the output is constrained, but the sampler order does not name constraint");
    s->limits.n_slots = 1;
    expect_refusal(s, guided(), PS_ERR_USAGE, "a sample with guidance takes two slots, there is 1");
    // Without guidance the negative prompt is not looked at.
    r = guided();
    r.guidance = 1.0;
    r.negative.ids[1] = -5;
    assert_ok(ps_generate_check(&r, &s->spec, &s->limits));
    ps_request_release(&r);
    s->limits.n_slots = 2;
    close_stage(s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("serve/generate_guided");
    TCase *tcase = tcase_create("guided");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, requests_come_to_the_same_under_any_limits_and_in_any_mix);
    tcase_add_test(tcase, what_the_prompts_share_is_computed_once);
    tcase_add_test(tcase, a_short_common_beginning_goes_along);
    tcase_add_test(tcase, the_rows_of_a_pair_are_in_the_same_parcel);
    tcase_add_test(tcase, a_guided_sample_takes_two_slots);
    tcase_add_test(tcase, pairs_are_not_divided_when_there_are_many);
    tcase_add_test(tcase, tokens_that_are_certain_need_no_logits);
    tcase_add_test(tcase, jumping_forward_changes_no_token);
    tcase_add_test(tcase, an_output_that_is_certain_to_its_end_is_not_computed);
    tcase_add_test(tcase, an_error_of_a_callback_on_the_way_to_the_pipeline_leaves_nothing_behind);
    tcase_add_test(tcase, what_cannot_run_says_why);
    suite_add_tcase(suite, tcase);
    return scratch_run(suite);
}
