/* Generation over a pipeline that keeps books: every request, whatever runs beside it, comes to
 * what its sampler, detokenizer and stop strings make of the logits, one token after the other. */
#include "serve/generate.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "support/dice.h"
#include "support/fake_pipeline.h"
#include "support/scratch.h"
#include "support/tiny_tokenizer.h"

enum { VOCABULARY = 128, CONTEXT = 90, END_ONE = 3, END_TWO = 97, REQUESTS_MAX = 64 };

typedef struct result {
    int n; // samples; 0: not done
    ps_completion completions[40];
    ps_text shown[40];
    int n_ends[40]; // calls with token -1
} result;

typedef struct stage {
    ps_spec spec;
    ps_limits limits;
    ps_tokenizer *tokenizer;
    ps_pipeline *pipeline;
    ps_generate *generate;
    result results[REQUESTS_MAX];
    int n_tokens, fail_at; // on_token of this number fails; -1: none
} stage;

static ps_err on_token(void *arg, uint64_t number, int sample, int32_t token, const char *text,
                       size_t n)
{
    stage *s = arg;
    result *r = &s->results[number];
    ck_assert_int_eq(r->n, 0);
    ck_assert_int_eq(r->n_ends[sample], 0);
    ps_text_append(&r->shown[sample], text, n);
    if (token < 0) r->n_ends[sample]++;
    if (s->n_tokens++ == s->fail_at) return PS_FAIL(PS_ERR_CLOSED, "the reader went away");
    return PS_OK;
}

static void copy_completion(const ps_completion *from, ps_completion *to)
{
    *to = (ps_completion){.finish = from->finish};
    for (size_t i = 0; i < from->tokens.n; i++) {
        ps_tokens_append(&to->tokens, from->tokens.ids[i]);
    }
    ps_text_append(&to->text, from->text.data, from->text.len);
    if (!from->logprobs) return;
    to->logprobs = ps_mem_new(from->tokens.n, sizeof *to->logprobs);
    memcpy(to->logprobs, from->logprobs, from->tokens.n * sizeof *to->logprobs);
}

static ps_err on_done(void *arg, uint64_t number, const ps_request *input,
                      const ps_completion *completions, int n)
{
    stage *s = arg;
    result *r = &s->results[number];
    ck_assert_int_eq(r->n, 0);
    ck_assert_int_eq(n, input->n_samples);
    for (int i = 0; i < n; i++) {
        copy_completion(&completions[i], &r->completions[i]);
    }
    r->n = n;
    return PS_OK;
}

static stage *open_stage(int n_slots, int chunk, int in_flight, bool endless)
{
    stage *s = ps_mem_new(1, sizeof *s);
    s->spec = fake_spec(VOCABULARY, endless);
    s->spec.n_eos = 2;
    s->spec.eos_ids[0] = END_ONE;
    s->spec.eos_ids[1] = END_TWO;
    s->fail_at = -1;
    s->limits = (ps_limits){.rows_max = chunk + n_slots,
                            .chunk_rows = chunk,
                            .n_slots = n_slots,
                            .context = endless ? INT64_C(1) << 40 : CONTEXT};
    char *model = tiny_tokenizer_bpe("", "");
    const tiny_tokenizer parts = {.model = model, .decoder = "{\"type\": \"Fuse\"}"};
    assert_ok(tiny_tokenizer_open(&parts, &s->tokenizer));
    ps_mem_free(model);
    s->pipeline = fake_pipeline_new(&s->limits, in_flight, VOCABULARY);
    const ps_generate_params params = {.pipeline = s->pipeline,
                                       .spec = &s->spec,
                                       .tokenizer = s->tokenizer,
                                       .limits = s->limits,
                                       .in_flight = in_flight,
                                       .callbacks = {on_token, on_done, s}};
    s->generate = ps_generate_new(&params);
    return s;
}

static void close_stage(stage *s)
{
    for (int i = 0; i < REQUESTS_MAX; i++) {
        for (int k = 0; k < 40; k++) {
            ps_completion_release(&s->results[i].completions[k]);
            ps_text_release(&s->results[i].shown[k]);
        }
    }
    ps_generate_free(s->generate);
    fake_pipeline_free(s->pipeline);
    ps_tokenizer_free(s->tokenizer);
    ps_spec_release(&s->spec);
    ps_mem_free(s);
}

static ps_request request_of(int n_prompt, int64_t max_tokens)
{
    ps_request r = {.max_tokens = max_tokens,
                    .n_samples = 1,
                    .n_logprobs = -1,
                    .sampling = ps_sample_params_default()};
    for (int i = 0; i < n_prompt; i++) {
        ps_tokens_append(&r.prompt, (7 * i + n_prompt) % VOCABULARY);
    }
    return r;
}

static void set_stops(ps_request *r, const char *one, const char *two)
{
    r->stops = ps_mem_new(2, sizeof *r->stops);
    r->stops[r->n_stops++] = (ps_stop_string){ps_mem_copy_text(one), strlen(one)};
    if (two) r->stops[r->n_stops++] = (ps_stop_string){ps_mem_copy_text(two), strlen(two)};
}

/* Any request; the same number gives the same one. */
static ps_request throw_request(uint64_t number)
{
    dice d = {.seed = number + 500};
    ps_request r = request_of(1 + dice_throw(&d, 30), dice_throw(&d, 60));
    r.n_samples = dice_throw(&d, 3) ? 1 : 1 + dice_throw(&d, 9);
    r.n_logprobs = dice_throw(&d, 4) - 1;
    r.ignore_eos = dice_throw(&d, 2) == 0;
    r.sampling.seed = number;
    r.sampling.temperature = dice_throw(&d, 3) ? 0.7 : 0.0;
    r.sampling.top_k = dice_throw(&d, 2) ? 0 : 30;
    r.sampling.repetition_penalty = dice_throw(&d, 2) ? 1.0 : 1.3;
    r.sampling.presence_penalty = dice_throw(&d, 2) ? 0.0 : 0.6;
    r.sampling.min_new_tokens = dice_throw(&d, 2) ? 0 : 10;
    if (dice_throw(&d, 2)) set_stops(&r, "a", dice_throw(&d, 2) ? "Zz" : NULL);
    return r;
}

static ps_finish expected_finish(const stage *s, const ps_request *r, int64_t n_new, int32_t token)
{
    if (!r->ignore_eos && (token == END_ONE || token == END_TWO)) return PS_FINISH_STOP;
    if (n_new >= r->max_tokens) return PS_FINISH_LENGTH;
    const bool full = !ps_spec_is_endless(&s->spec) && (int64_t)r->prompt.n + n_new > CONTEXT;
    return full ? PS_FINISH_LENGTH : PS_FINISH_NONE;
}

/* What a sample must come to: token by token, with no scheduler in between. */
static void expect_sample(const stage *s, const ps_request *r, int sample,
                          const ps_completion *found)
{
    ps_sample_params params = r->sampling;
    params.sample = (uint32_t)sample;
    params.end_tokens = s->spec.eos_ids;
    params.n_end_tokens = 2;
    ps_sampler *sampler;
    ps_stop *stop;
    ps_sampler_work *work = ps_sampler_work_new(VOCABULARY);
    assert_ok(ps_sampler_new(&params, VOCABULARY, &sampler));
    assert_ok(ps_stop_new(r->stops, r->n_stops, &stop));
    ps_tokens all = {0};
    ps_text text = {0};
    for (size_t i = 0; i < r->prompt.n; i++) {
        ps_tokens_append(&all, r->prompt.ids[i]);
        ps_sampler_advance(sampler, r->prompt.ids[i], true);
    }
    ps_finish finish = r->max_tokens == 0 ? PS_FINISH_LENGTH : PS_FINISH_NONE;
    size_t n_new = 0;
    while (finish == PS_FINISH_NONE) {
        float logits[VOCABULARY];
        int32_t token;
        ps_sampler_logprobs lp;
        fake_logits(all.ids, all.n, VOCABULARY, logits);
        assert_ok(ps_sampler_pick(sampler, work, logits, NULL, &token));
        ck_assert_msg(n_new < found->tokens.n, "sample %d ends after %zu tokens", sample, n_new);
        ck_assert_int_eq(found->tokens.ids[n_new], token);
        if (r->n_logprobs >= 0) {
            assert_ok(ps_sampler_find_logprobs(logits, VOCABULARY, token, r->n_logprobs, &lp));
            const ps_sampler_logprobs *other = &found->logprobs[n_new];
            ck_assert(other->chosen == lp.chosen);
            ck_assert_int_eq(other->n_top, lp.n_top);
            for (int i = 0; i < lp.n_top; i++) {
                ck_assert_int_eq(other->token[i], lp.token[i]);
                ck_assert(other->logprob[i] == lp.logprob[i]);
            }
        }
        ps_sampler_advance(sampler, token, false);
        ps_tokens_append(&all, token);
        n_new++;
        finish = expected_finish(s, r, (int64_t)n_new, token);
        // Token and character have the same number; token 0 has none.
        const char character = (char)token;
        if (finish != PS_FINISH_STOP && ps_stop_push(stop, &character, token > 0, &text))
            finish = PS_FINISH_STOP;
    }
    if (ps_stop_matched(stop) < 0) ps_stop_finish(stop, &text);
    ck_assert_uint_eq(found->tokens.n, n_new);
    ck_assert_int_eq(found->finish, finish);
    ck_assert_uint_eq(found->text.len, text.len);
    ck_assert(text.len == 0 || memcmp(found->text.data, text.data, text.len) == 0);
    ps_text_release(&text);
    ps_tokens_release(&all);
    ps_stop_free(stop);
    ps_sampler_free(sampler);
    ps_sampler_work_free(work);
}

static void expect_result(const stage *s, uint64_t number, const ps_request *r)
{
    const result *found = &s->results[number];
    ck_assert_int_eq(found->n, r->n_samples);
    for (int i = 0; i < r->n_samples; i++) {
        expect_sample(s, r, i, &found->completions[i]);
        const ps_text *text = &found->completions[i].text;
        // What was shown on the way is the text.
        ck_assert_uint_eq(found->shown[i].len, text->len);
        ck_assert(text->len == 0 || memcmp(found->shown[i].data, text->data, text->len) == 0);
        ck_assert_int_eq(found->n_ends[i], r->max_tokens > 0);
    }
}

static void run(stage *s)
{
    int steps = 0;
    while (ps_generate_busy(s->generate)) {
        assert_ok(ps_generate_step(s->generate));
        ck_assert_msg(++steps < 100000, "it does not end");
    }
}

/* Runs one request alone; the copy in *r stays the caller's. */
static void run_one(stage *s, uint64_t number, ps_request (*make)(uint64_t))
{
    ps_request r = make(number);
    assert_ok(ps_generate_check(&r, &s->spec, &s->limits));
    assert_ok(ps_generate_add(s->generate, number, &r));
    ck_assert_ptr_null(r.prompt.ids); // moved
    run(s);
    r = make(number);
    expect_result(s, number, &r);
    ps_request_release(&r);
}

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

/* ---- states ---- */

static const ps_state_origin origin = {77, "as always"};

/* One sample that goes on for `total` tokens, or ends before. */
static ps_request state_request(uint64_t number, int64_t max_tokens)
{
    dice d = {.seed = number + 900};
    ps_request r = throw_request(number);
    r.n_samples = 1;
    r.n_logprobs = -1;
    r.max_tokens = max_tokens;
    r.sampling.frequency_penalty = dice_throw(&d, 2) ? 0.0 : 0.2;
    r.sampling.repeat_last_n = dice_throw(&d, 2) ? 0 : 1 + dice_throw(&d, 20);
    r.streamed = dice_throw(&d, 2);
    return r;
}

/* Runs a request, and saves it. Returns how it ended; what it showed goes behind *text. */
static ps_finish run_and_save(uint64_t number, int64_t n, ps_text *text)
{
    stage *s = open_stage(1 + (int)(number % 3), 5, 2, number % 2);
    ps_request r = state_request(number, n);
    r.keeps_state = true;
    assert_ok(ps_generate_check(&r, &s->spec, &s->limits));
    assert_ok(ps_generate_add(s->generate, number, &r));
    run(s);
    assert_ok(ps_generate_save(s->generate, &origin, "state.h5"));
    ps_text_append(text, s->results[number].shown[0].data, s->results[number].shown[0].len);
    const ps_finish finish = s->results[number].completions[0].finish;
    close_stage(s);
    return finish;
}

/* Goes on with what was saved, and saves again. */
static ps_finish go_on(uint64_t number, int64_t n, ps_text *text)
{
    stage *s = open_stage(2, 1 + (int)(number % 7), 1 + (int)(number % 4), number % 2);
    ps_state state;
    assert_ok(ps_state_read("state.h5", &origin, &state));
    state.request.max_tokens = n;
    state.request.keeps_state = true;
    assert_ok(ps_generate_check_state(&state, &s->spec, &s->limits));
    assert_ok(ps_generate_add_state(s->generate, number, &state, "state.h5"));
    run(s);
    assert_ok(ps_generate_save(s->generate, &origin, "state.h5"));
    ps_text_append(text, s->results[number].shown[0].data, s->results[number].shown[0].len);
    const ps_finish finish = s->results[number].completions[0].finish;
    close_stage(s);
    return finish;
}

/* Stopped at a random step and again at another: what is shown is what one run shows that keeps its
 * state too, whatever sampler and stop strings remember. */
START_TEST(a_saved_sequence_goes_on_as_if_it_had_not_stopped)
{
    const uint64_t number = (uint64_t)_i;
    dice d = {.seed = number};
    const int64_t total = 4 + dice_throw(&d, 55), first = 1 + dice_throw(&d, (int)total - 2);
    const int64_t second = 1 + dice_throw(&d, (int)(total - first - 1));
    ps_text whole = {0}, parts = {0};
    const ps_finish finish = run_and_save(number, total, &whole);
    ps_finish now = run_and_save(number, first, &parts);
    if (now == PS_FINISH_LENGTH) now = go_on(number, second, &parts);
    if (now == PS_FINISH_LENGTH && first + second < total)
        now = go_on(number, total - first - second, &parts);
    ck_assert_int_eq(now, finish);
    ck_assert_uint_eq(parts.len, whole.len);
    ck_assert(whole.len == 0 || memcmp(parts.data, whole.data, whole.len) == 0);
    ps_text_release(&parts);
    ps_text_release(&whole);
}
END_TEST

/* More tokens than a state keeps: it begins later, and goes on all the same. */
START_TEST(a_long_sequence_keeps_its_newest_tokens)
{
    enum { MORE = 50, PROMPT = PS_STATE_TOKENS_MAX + MORE };
    ps_text whole = {0}, parts = {0};
    for (int stops = 0; stops < 2; stops++) {
        stage *s = open_stage(1, 4096, 1, true);
        ps_request r = {.max_tokens = stops ? 4 : 9,
                        .n_samples = 1,
                        .n_logprobs = -1,
                        .ignore_eos = true,
                        .keeps_state = true,
                        .sampling = ps_sample_params_default()};
        r.sampling.frequency_penalty = 0.3;
        for (int i = 0; i < PROMPT; i++) {
            ps_tokens_append(&r.prompt, i % VOCABULARY);
        }
        assert_ok(ps_generate_add(s->generate, 0, &r));
        run(s);
        assert_ok(ps_generate_save(s->generate, &origin, "state.h5"));
        ps_text *text = stops ? &parts : &whole;
        ps_text_append(text, s->results[0].shown[0].data, s->results[0].shown[0].len);
        close_stage(s);
    }
    ps_state state;
    assert_ok(ps_state_read("state.h5", &origin, &state));
    ck_assert_uint_eq(state.request.prompt.n, PS_STATE_TOKENS_MAX);
    ck_assert_int_eq(state.first, MORE + 4);
    ck_assert_int_eq(state.position, PROMPT + 3);
    ck_assert_int_eq(state.request.prompt.ids[0], (MORE + 4) % VOCABULARY);
    ps_state_release(&state);
    ck_assert_int_eq(go_on(1, 5, &parts), PS_FINISH_LENGTH);
    ck_assert_str_eq(ps_text_str(&parts), ps_text_str(&whole));
    ps_text_release(&parts);
    ps_text_release(&whole);
}
END_TEST

START_TEST(a_text_that_has_ended_is_not_gone_on_with)
{
    ps_text text = {0};
    stage *s = open_stage(1, 5, 1, false);
    ps_request r = request_of(5, 50);
    r.keeps_state = true;
    r.sampling.temperature = 0.0;
    ps_sample_bias *bias = ps_mem_new(1, sizeof *bias);
    *bias = (ps_sample_bias){END_TWO, 100.0f};
    r.sampling.logit_bias = bias;
    r.sampling.n_logit_bias = 1;
    assert_ok(ps_generate_add(s->generate, 0, &r));
    run(s);
    assert_ok(ps_generate_save(s->generate, &origin, "state.h5"));
    ck_assert_int_eq(s->results[0].completions[0].finish, PS_FINISH_STOP);
    ps_state state;
    ck_assert_int_eq(ps_state_read("state.h5", &origin, &state), PS_ERR_FORMAT);
    assert_message("state.h5: its text has ended, nothing follows it");
    ps_state_release(&state);
    close_stage(s);
    ps_text_release(&text);
}
END_TEST

START_TEST(a_state_is_kept_of_one_sample_with_an_end)
{
    stage *s = open_stage(4, 5, 1, true);
    ps_request r = request_of(5, 3);
    r.keeps_state = true;
    r.n_samples = 2;
    ck_assert_int_eq(ps_generate_check(&r, &s->spec, &s->limits), PS_ERR_USAGE);
    assert_message("a state is kept of one sample with an end, found n 2 and max_tokens 3");
    r.n_samples = 1;
    r.max_tokens = PS_REQUEST_ENDLESS;
    ck_assert_int_eq(ps_generate_check(&r, &s->spec, &s->limits), PS_ERR_USAGE);
    r.max_tokens = 3;
    assert_ok(ps_generate_check(&r, &s->spec, &s->limits));
    ps_request_release(&r);
    close_stage(s);
}
END_TEST

START_TEST(a_state_that_fits_neither_vocabulary_nor_context_is_refused)
{
    ps_text text = {0};
    ck_assert_int_eq(run_and_save(2, 5, &text), PS_FINISH_LENGTH);
    ps_text_release(&text);
    stage *s = open_stage(1, 5, 1, false);
    ps_state state;
    assert_ok(ps_state_read("state.h5", &origin, &state));
    const int64_t known = state.first + (int64_t)state.request.prompt.n;
    state.request.max_tokens = 3;
    s->limits.context = known - 1;
    ck_assert_int_eq(ps_generate_check_state(&state, &s->spec, &s->limits), PS_ERR_LIMIT);
    assert_mentions("positions, the context ");
    s->limits.context = known;
    s->spec.vocab_size = 60;
    ck_assert_int_eq(ps_generate_check_state(&state, &s->spec, &s->limits), PS_ERR_USAGE);
    assert_mentions("the vocabulary has 0..59");
    s->spec.vocab_size = VOCABULARY;
    ps_text_append_str(&state.held, "text that no stop string holds back");
    ck_assert_int_eq(ps_generate_add_state(s->generate, 0, &state, "state.h5"), PS_ERR_FORMAT);
    assert_mentions("no stop string holds back the ");
    close_stage(s);
}
END_TEST

/* ---- a common prefix ---- */

enum { PREFIX = 20 };

/* Most requests begin with the prefix, one is the prefix, some begin otherwise. */
static ps_request prefix_request(uint64_t number)
{
    ps_request r = throw_request(number);
    const size_t n = number == 7 ? 0 : r.prompt.n;
    ps_tokens own = r.prompt;
    r.prompt = (ps_tokens){0};
    for (int i = 0; i < PREFIX && number % 5 != 4; i++) {
        ps_tokens_append(&r.prompt, i * 5 % VOCABULARY);
    }
    for (size_t i = 0; i < n; i++) {
        ps_tokens_append(&r.prompt, own.ids[i]);
    }
    ps_tokens_release(&own);
    return r;
}

static void set_prefix(stage *s, const ps_tokens *prefix, int in_flight)
{
    ps_generate_free(s->generate);
    const ps_generate_params params = {.pipeline = s->pipeline,
                                       .spec = &s->spec,
                                       .tokenizer = s->tokenizer,
                                       .limits = s->limits,
                                       .in_flight = in_flight,
                                       .prefix = prefix,
                                       .callbacks = {on_token, on_done, s}};
    s->generate = ps_generate_new(&params);
}

START_TEST(requests_with_a_common_prefix_come_to_the_same_and_it_runs_once)
{
    ps_tokens prefix = {0};
    for (int i = 0; i < PREFIX; i++) {
        ps_tokens_append(&prefix, i * 5 % VOCABULARY);
    }
    dice d = {.seed = 22};
    for (int mix = 0; mix < 20; mix++) {
        const int in_flight = 1 + dice_throw(&d, 6);
        stage *s = open_stage(2 + dice_throw(&d, 12), 1 + dice_throw(&d, 40), in_flight, mix % 2);
        set_prefix(s, &prefix, in_flight);
        uint64_t shared = 0, computed = PREFIX;
        for (uint64_t i = 0; i < 25; i++) {
            ps_request r = prefix_request(i);
            const int most = s->limits.n_slots - 1, waves = (r.n_samples + most - 1) / most;
            const bool shares = i % 5 != 4 && r.prompt.n > PREFIX;
            if (r.max_tokens > 0) {
                shared += shares ? (uint64_t)(waves * PREFIX) : 0;
                computed += (uint64_t)waves * (r.prompt.n - (shares ? PREFIX : 0));
            }
            assert_ok(ps_generate_check(&r, &s->spec, &s->limits));
            assert_ok(ps_generate_add(s->generate, i, &r));
            while (dice_throw(&d, 2) && ps_generate_busy(s->generate)) {
                assert_ok(ps_generate_step(s->generate));
            }
        }
        run(s);
        for (uint64_t i = 0; i < 25; i++) {
            ps_request r = prefix_request(i);
            expect_result(s, i, &r);
            ps_request_release(&r);
        }
        ps_generate_counts counts;
        ps_generate_count(s->generate, &counts);
        ck_assert_uint_eq(counts.prefix_tokens, PREFIX);
        ck_assert_uint_eq(counts.shared_tokens, shared);
        ck_assert_uint_eq(counts.prompt_tokens, computed);
        ps_generate_counts_release(&counts);
        close_stage(s);
    }
    ps_tokens_release(&prefix);
}
END_TEST

/* Rotations that depend on a request's length turn the prefix's keys each in its own way. */
START_TEST(a_prefix_is_shared_where_ropes_agree)
{
    ps_tokens prefix = {0};
    ps_tokens_append(&prefix, 4);
    stage *s = open_stage(4, 8, 2, false);
    set_prefix(s, &prefix, 2);
    s->spec.head_dim = 8;
    s->spec.n_ropes = 1;
    s->spec.ropes[0] = (ps_rope){
        .kind = PS_ROPE_DYNAMIC, .dims = 8, .base = 1e4, .factor = 2.0, .original_length = 16};
    static const int64_t new_tokens[] = {20, 4, 20, 30};
    static const uint64_t shared[] = {1, 1, 2, 2};
    for (uint64_t i = 0; i < 4; i++) {
        ps_request r = {.max_tokens = new_tokens[i],
                        .n_samples = 1,
                        .n_logprobs = -1,
                        .ignore_eos = true,
                        .sampling = ps_sample_params_default()};
        ps_tokens_append(&r.prompt, 4);
        ps_tokens_append(&r.prompt, 5);
        assert_ok(ps_generate_add(s->generate, i, &r));
        run(s);
        ps_generate_counts counts;
        ps_generate_count(s->generate, &counts);
        ck_assert_uint_eq(counts.shared_tokens, shared[i]);
        ps_generate_counts_release(&counts);
    }
    close_stage(s);
    ps_tokens_release(&prefix);
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
    TCase *states = scratch_case(suite, "states and prefixes");
    tcase_add_loop_test(states, a_saved_sequence_goes_on_as_if_it_had_not_stopped, 0, 60);
    tcase_add_test(states, a_long_sequence_keeps_its_newest_tokens);
    tcase_add_test(states, a_text_that_has_ended_is_not_gone_on_with);
    tcase_add_test(states, a_state_is_kept_of_one_sample_with_an_end);
    tcase_add_test(states, a_state_that_fits_neither_vocabulary_nor_context_is_refused);
    tcase_add_test(states, requests_with_a_common_prefix_come_to_the_same_and_it_runs_once);
    tcase_add_test(states, a_prefix_is_shared_where_ropes_agree);
    return scratch_run(suite);
}
