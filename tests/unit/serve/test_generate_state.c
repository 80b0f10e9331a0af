/* Sequences that are saved and gone on with, and prompts that share a prefix, over a pipeline that
 * keeps books: nothing that a request comes to shows where it was stopped or what it shared. */
#include "generate_stage.h"

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
    Suite *suite = suite_create("serve/generate_state");
    TCase *states = scratch_case(suite, "states and prefixes");
    tcase_add_loop_test(states, a_saved_sequence_goes_on_as_if_it_had_not_stopped, 0,
                        DICE_ROUNDS(60));
    tcase_add_test(states, a_long_sequence_keeps_its_newest_tokens);
    tcase_add_test(states, a_text_that_has_ended_is_not_gone_on_with);
    tcase_add_test(states, a_state_is_kept_of_one_sample_with_an_end);
    tcase_add_test(states, a_state_that_fits_neither_vocabulary_nor_context_is_refused);
    tcase_add_test(states, requests_with_a_common_prefix_come_to_the_same_and_it_runs_once);
    tcase_add_test(states, a_prefix_is_shared_where_ropes_agree);
    return scratch_run(suite);
}
