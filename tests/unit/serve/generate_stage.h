/* A generator over a pipeline that keeps books, and what each request must come to on it. */
#ifndef PS_TESTS_GENERATE_STAGE_H
#define PS_TESTS_GENERATE_STAGE_H

#include "serve/generate.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "support/dice.h"
#include "support/dice_constraint.h"
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

static inline ps_err on_token(void *arg, uint64_t number, int sample, int32_t token,
                              const char *text, size_t n)
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

static inline void copy_completion(const ps_completion *from, ps_completion *to)
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

static inline ps_err on_done(void *arg, uint64_t number, const ps_request *input,
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

static inline stage *open_stage(int n_slots, int chunk, int in_flight, bool endless)
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

static inline void close_stage(stage *s)
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

static inline ps_request request_of(int n_prompt, int64_t max_tokens)
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

static inline void set_stops(ps_request *r, const char *one, const char *two)
{
    r->stops = ps_mem_new(2, sizeof *r->stops);
    r->stops[r->n_stops++] = (ps_stop_string){ps_mem_copy_text(one), strlen(one)};
    if (two) r->stops[r->n_stops++] = (ps_stop_string){ps_mem_copy_text(two), strlen(two)};
}

/* A negative prompt that has its first n_common tokens from the prompt, as far as that goes. */
static inline void set_guidance(ps_request *r, int n_common, int n_own)
{
    r->guidance = 1.8;
    for (int i = 0; i < n_common && i < (int)r->prompt.n; i++) {
        ps_tokens_append(&r->negative, r->prompt.ids[i]);
    }
    for (int i = 0; i < n_own; i++) {
        ps_tokens_append(&r->negative, (5 * i + n_own) % VOCABULARY);
    }
}

/* Any request; the same number gives the same one. */
static inline ps_request throw_request(uint64_t number)
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

/* With guidance, a constraint, or both. */
static inline ps_request throw_guided_request(uint64_t number)
{
    dice d = {.seed = number + 900};
    ps_request r = throw_request(number);
    const int kind = dice_throw(&d, 3);
    if (kind < 2) set_guidance(&r, dice_throw(&d, 50), 1 + dice_throw(&d, 20));
    if (kind == 0) return r;
    r.constraint = dice_constraint_new(number, VOCABULARY);
    r.sampling.min_new_tokens = 0; // what is banned may be all that is allowed
    return r;
}

static inline ps_finish expected_finish(const stage *s, const ps_request *r, int64_t n_new,
                                        int32_t token)
{
    if (!r->ignore_eos && (token == END_ONE || token == END_TWO)) return PS_FINISH_STOP;
    if (n_new >= r->max_tokens) return PS_FINISH_LENGTH;
    const int64_t known = ps_request_longest_prompt(r) + n_new;
    const bool full = !ps_spec_is_endless(&s->spec) && known > CONTEXT;
    return full ? PS_FINISH_LENGTH : PS_FINISH_NONE;
}

/* The next token by its definition: all logits, and no work saved. */
static inline int32_t expected_token(const ps_request *r, const ps_sampler *sampler,
                                     ps_constraint *constraint, const ps_tokens *other,
                                     const float *logits)
{
    float unconditional[VOCABULARY];
    int32_t token;
    ps_expectation e = {.certain = -1};
    if (constraint) constraint->kind->expect(constraint, &e);
    if (e.certain >= 0) return e.certain;
    fake_logits(other->ids, other->n, VOCABULARY, unconditional);
    ps_sampler_work *work = ps_sampler_work_new(VOCABULARY);
    const ps_sampler_input in = {.logits = logits,
                                 .unconditional = ps_request_is_guided(r) ? unconditional : NULL,
                                 .constraint = constraint};
    assert_ok(ps_sampler_pick(sampler, work, &in, &token));
    ps_sampler_work_free(work);
    return token;
}

/* What a sample must come to: token by token, with no scheduler in between. */
static inline void expect_sample(const stage *s, const ps_request *r, int sample,
                                 const ps_completion *found)
{
    ps_sample_params params = r->sampling;
    params.sample = (uint32_t)sample;
    params.end_tokens = s->spec.eos_ids;
    params.n_end_tokens = 2;
    params.guidance = r->guidance;
    ps_sampler *sampler;
    ps_stop *stop;
    ps_constraint *constraint = r->constraint ? r->constraint->kind->copy(r->constraint) : NULL;
    assert_ok(ps_sampler_new(&params, VOCABULARY, &sampler));
    assert_ok(ps_stop_new(r->stops, r->n_stops, &stop));
    ps_tokens all = {0}, other = {0};
    ps_text text = {0};
    for (size_t i = 0; i < r->negative.n; i++) {
        ps_tokens_append(&other, r->negative.ids[i]);
    }
    for (size_t i = 0; i < r->prompt.n; i++) {
        ps_tokens_append(&all, r->prompt.ids[i]);
        ps_sampler_advance(sampler, r->prompt.ids[i], true);
    }
    ps_finish finish = r->max_tokens == 0 ? PS_FINISH_LENGTH : PS_FINISH_NONE;
    size_t n_new = 0;
    while (finish == PS_FINISH_NONE) {
        float logits[VOCABULARY];
        ps_sampler_logprobs lp;
        fake_logits(all.ids, all.n, VOCABULARY, logits);
        const int32_t token = expected_token(r, sampler, constraint, &other, logits);
        ck_assert_msg(n_new < found->tokens.n, "sample %d ends after %zu tokens", sample, n_new);
        ck_assert_int_eq(found->tokens.ids[n_new], token);
        if (r->n_logprobs >= 0) {
            assert_ok(ps_sampler_find_logprobs(logits, VOCABULARY, token, r->n_logprobs, &lp));
            const ps_sampler_logprobs *shown = &found->logprobs[n_new];
            ck_assert(shown->chosen == lp.chosen);
            ck_assert_int_eq(shown->n_top, lp.n_top);
            for (int i = 0; i < lp.n_top; i++) {
                ck_assert_int_eq(shown->token[i], lp.token[i]);
                ck_assert(shown->logprob[i] == lp.logprob[i]);
            }
        }
        ps_sampler_advance(sampler, token, false);
        ps_tokens_append(&all, token);
        ps_tokens_append(&other, token);
        if (constraint) constraint->kind->advance(constraint, token);
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
    ps_tokens_release(&other);
    if (constraint) constraint->kind->free(constraint);
    ps_stop_free(stop);
    ps_sampler_free(sampler);
}

static inline void expect_result(const stage *s, uint64_t number, const ps_request *r)
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

static inline void run(stage *s)
{
    int steps = 0;
    while (ps_generate_busy(s->generate)) {
        assert_ok(ps_generate_step(s->generate));
        ck_assert_msg(++steps < 100000, "it does not end");
    }
}

/* Runs one request alone; the copy in *r stays the caller's. */
static inline void run_one(stage *s, uint64_t number, ps_request (*make)(uint64_t))
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

#endif
