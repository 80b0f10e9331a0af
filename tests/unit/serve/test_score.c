/* Scores against sums of one's own, whatever runs side by side. */
#include "serve/score.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "support/dice.h"
#include "support/fake_pipeline.h"
#include "support/scratch.h"

enum { VOCABULARY = 37, CONTEXT = 80, SEQUENCES_MAX = 48 };

typedef struct stage {
    ps_spec spec;
    ps_limits limits;
    ps_pipeline *pipeline;
    ps_score *score;
    ps_score_result results[SEQUENCES_MAX]; // n_tokens 0: not done
    int n_rows[SEQUENCES_MAX];
    double sums[SEQUENCES_MAX]; // of what on_logits was told
    ps_err fail_with;
    int64_t skip;
} stage;

static ps_tokens tokens_of(uint64_t number, size_t n)
{
    dice d = {.seed = number};
    ps_tokens t = {0};
    for (size_t i = 0; i < n; i++) {
        ps_tokens_append(&t, dice_throw(&d, VOCABULARY));
    }
    return t;
}

static size_t length_of(uint64_t number)
{
    dice d = {.seed = number + 77};
    return 1 + (size_t)dice_throw(&d, CONTEXT);
}

/* Log-probability of a token, from the definition. */
static double logprob_of(const float *logits, int32_t token)
{
    double sum = 0.0;
    for (int v = 0; v < VOCABULARY; v++) {
        sum += exp((double)logits[v]);
    }
    return (double)logits[token] - log(sum);
}

static ps_err on_logits(void *arg, uint64_t number, int64_t position, const float *logits,
                        int32_t next, double logprob)
{
    stage *s = arg;
    float wanted[VOCABULARY];
    ps_tokens t = tokens_of(number, length_of(number));
    ck_assert_int_eq(position, s->skip + s->n_rows[number]++);
    fake_logits(t.ids, (size_t)position + 1, VOCABULARY, wanted);
    ck_assert_mem_eq(logits, wanted, sizeof wanted);
    const bool last = (size_t)position + 1 == t.n;
    ck_assert_int_eq(next, last ? -1 : t.ids[position + 1]);
    ck_assert_double_eq_tol(logprob, last ? 0.0 : logprob_of(wanted, t.ids[position + 1]), 1e-12);
    s->sums[number] += logprob;
    ps_tokens_release(&t);
    return s->fail_with ? PS_FAIL(s->fail_with, "the disk is full") : PS_OK;
}

static ps_err on_done(void *arg, const ps_score_result *result)
{
    stage *s = arg;
    ck_assert_uint_eq(s->results[result->number].n_tokens, 0);
    s->results[result->number] = *result;
    return PS_OK;
}

static stage *open_skipping(int n_slots, int chunk, int in_flight, bool with_logits, int64_t skip)
{
    stage *s = ps_mem_new(1, sizeof *s);
    s->skip = skip;
    s->spec = fake_spec(VOCABULARY, false);
    s->limits = (ps_limits){
        .rows_max = chunk + n_slots, .chunk_rows = chunk, .n_slots = n_slots, .context = CONTEXT};
    s->pipeline = fake_pipeline_new(&s->limits, in_flight, VOCABULARY);
    const ps_score_params params = {.pipeline = s->pipeline,
                                    .spec = &s->spec,
                                    .limits = s->limits,
                                    .in_flight = in_flight,
                                    .skip = skip,
                                    .callbacks = {with_logits ? on_logits : NULL, on_done, s}};
    s->score = ps_score_new(&params);
    return s;
}

static stage *open_stage(int n_slots, int chunk, int in_flight, bool with_logits)
{
    return open_skipping(n_slots, chunk, in_flight, with_logits, 0);
}

static void close_stage(stage *s)
{
    ps_score_free(s->score);
    fake_pipeline_free(s->pipeline);
    ps_spec_release(&s->spec);
    ps_mem_free(s);
}

static void add(stage *s, uint64_t number)
{
    ps_tokens t = tokens_of(number, length_of(number));
    assert_ok(ps_score_check(&t, &s->spec, &s->limits, s->skip));
    ps_score_add(s->score, number, &t);
    ck_assert_ptr_null(t.ids); // moved
}

static void run(stage *s)
{
    int steps = 0;
    while (ps_score_busy(s->score)) {
        assert_ok(ps_score_step(s->score));
        ck_assert_msg(++steps < 100000, "it does not end");
    }
}

START_TEST(scores_are_the_sums_of_log_probabilities)
{
    dice d = {.seed = 2};
    double first_sums[SEQUENCES_MAX] = {0};
    for (int mix = 0; mix < 30; mix++) {
        stage *s = open_stage(1 + dice_throw(&d, 9), 1 + dice_throw(&d, 50), 1 + dice_throw(&d, 5),
                              mix % 3 != 2);
        const uint64_t n = mix == 0 ? SEQUENCES_MAX : 1 + (uint64_t)dice_throw(&d, SEQUENCES_MAX);
        for (uint64_t i = 0; i < n; i++) {
            add(s, i);
        }
        ck_assert_int_eq(ps_score_waiting(s->score), (int)n);
        run(s);
        for (uint64_t i = 0; i < n; i++) {
            const ps_score_result *r = &s->results[i];
            ck_assert_uint_eq(r->n_tokens, length_of(i));
            if (mix % 3 != 2) {
                ck_assert_int_eq(s->n_rows[i], (int)r->n_tokens);
                ck_assert(s->sums[i] == r->sum);
            }
            // To the last bit the same, whatever runs beside it.
            if (mix == 0) first_sums[i] = r->sum;
            ck_assert(r->sum == first_sums[i]);
            const double perplexity =
                r->n_tokens > 1 ? exp(-r->sum / (double)(r->n_tokens - 1)) : 1.0;
            ck_assert_double_eq_tol(r->perplexity, perplexity, 1e-12 * perplexity);
        }
        close_stage(s);
    }
}
END_TEST

/* Rows of every batch that wanted logits. */
static int count_wanted(const stage *s)
{
    int n = 0;
    for (int b = 0; b < fake_pipeline_count(s->pipeline); b++) {
        const fake_batch *batch = fake_pipeline_batch(s->pipeline, b);
        for (int r = 0; r < batch->n_rows; r++) {
            n += batch->rows[r].wants_logits;
        }
    }
    return n;
}

START_TEST(skipped_predictions_are_neither_computed_nor_counted)
{
    dice d = {.seed = 9};
    for (int round = 0; round < 20; round++) {
        const int64_t skip = 1 + dice_throw(&d, 20);
        stage *s = open_skipping(1 + dice_throw(&d, 5), 1 + dice_throw(&d, 30),
                                 1 + dice_throw(&d, 3), true, skip);
        int n_wanted = 0;
        for (uint64_t i = 0; i < SEQUENCES_MAX; i++) {
            if (length_of(i) <= (size_t)skip) continue;
            add(s, i);
            n_wanted += (int)(length_of(i) - (size_t)skip);
        }
        run(s);
        ck_assert_int_eq(count_wanted(s), n_wanted);
        for (uint64_t i = 0; i < SEQUENCES_MAX; i++) {
            const ps_score_result *r = &s->results[i];
            if (length_of(i) <= (size_t)skip) continue;
            const int64_t n = (int64_t)r->n_tokens - 1 - skip;
            ck_assert_int_eq(s->n_rows[i], (int)n + 1);
            ck_assert(r->sum == s->sums[i]);
            ck_assert_double_eq_tol(r->perplexity, n > 0 ? exp(-r->sum / (double)n) : 1.0, 1e-9);
        }
        close_stage(s);
    }
}
END_TEST

START_TEST(a_single_token_has_nothing_to_score)
{
    stage *s = open_stage(1, 4, 1, false);
    ps_tokens t = tokens_of(3, 1);
    ps_score_add(s->score, 3, &t);
    run(s);
    ck_assert_uint_eq(s->results[3].n_tokens, 1);
    ck_assert(s->results[3].sum == 0.0);
    ck_assert(s->results[3].perplexity == 1.0);
    close_stage(s);
}
END_TEST

START_TEST(an_error_of_a_callback_comes_out_of_the_step)
{
    stage *s = open_stage(2, 8, 2, true);
    add(s, 5);
    s->fail_with = PS_ERR_IO;
    ps_err err = PS_OK;
    for (int i = 0; i < 20 && !err; i++) {
        err = ps_score_step(s->score);
    }
    ck_assert_int_eq(err, PS_ERR_IO);
    assert_message("the disk is full");
    ck_assert_int_eq(s->n_rows[5], 1);
    close_stage(s);
}
END_TEST

static void expect_refusal(const stage *s, ps_tokens t, ps_err code, const char *message)
{
    ck_assert_int_eq(ps_score_check(&t, &s->spec, &s->limits, s->skip), code);
    assert_message(message);
    ps_tokens_release(&t);
}

START_TEST(what_cannot_be_scored_says_why)
{
    stage *s = open_stage(2, 8, 2, true);
    expect_refusal(s, (ps_tokens){0}, PS_ERR_USAGE, "the sequence is empty");
    ps_tokens t = tokens_of(1, 3);
    t.ids[1] = VOCABULARY;
    expect_refusal(s, t, PS_ERR_USAGE, "token 1 is 37, the vocabulary has 0..36");
    t = tokens_of(1, 3);
    t.ids[2] = -5;
    expect_refusal(s, t, PS_ERR_USAGE, "token 2 is -5, the vocabulary has 0..36");
    expect_refusal(s, tokens_of(1, CONTEXT + 1), PS_ERR_LIMIT,
                   "the sequence has 81 tokens, the context 80");
    t = tokens_of(1, CONTEXT);
    assert_ok(ps_score_check(&t, &s->spec, &s->limits, s->skip));
    ps_tokens_release(&t);
    s->skip = CONTEXT - 1;
    t = tokens_of(1, CONTEXT);
    assert_ok(ps_score_check(&t, &s->spec, &s->limits, s->skip));
    ps_tokens_release(&t);
    s->skip = 5;
    expect_refusal(s, tokens_of(1, 5), PS_ERR_USAGE,
                   "the sequence has 5 tokens, of which 5 are skipped");
    s->limits.context = PS_CONTEXT_ENDLESS;
    t = tokens_of(1, 10 * CONTEXT);
    assert_ok(ps_score_check(&t, &s->spec, &s->limits, s->skip));
    ps_tokens_release(&t);
    close_stage(s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("serve/score");
    TCase *tcase = tcase_create("score");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, scores_are_the_sums_of_log_probabilities);
    tcase_add_test(tcase, skipped_predictions_are_neither_computed_nor_counted);
    tcase_add_test(tcase, a_single_token_has_nothing_to_score);
    tcase_add_test(tcase, an_error_of_a_callback_comes_out_of_the_step);
    tcase_add_test(tcase, what_cannot_be_scored_says_why);
    suite_add_tcase(suite, tcase);
    return scratch_run(suite);
}
