/* Requests that one run begins and another goes on with, over a pipeline that keeps books: their
 * results are those of a run that nobody stopped. */
#include "generate_stage.h"

enum { N = 12 };

/* What a run that is to be stopped leaves of each request. */
typedef struct notes {
    ps_completion samples[N][40];
} notes;

static ps_err keep(void *arg, uint64_t number, int sample, size_t first,
                   const ps_completion *so_far)
{
    notes *n = arg;
    ps_completion *c = &n->samples[number][sample];
    ck_assert_uint_eq(c->tokens.n, first);
    ck_assert_uint_gt(so_far->tokens.n, first);
    for (size_t t = first; t < so_far->tokens.n; t++) {
        if (so_far->logprobs) {
            c->logprobs =
                ps_mem_grow(c->logprobs, &c->logprobs_capacity, t + 1, sizeof *c->logprobs);
            c->logprobs[t] = so_far->logprobs[t];
        }
        ps_tokens_append(&c->tokens, so_far->tokens.ids[t]);
    }
    return PS_OK;
}

/* With guidance, a constraint, both or neither. */
static ps_request request_number(uint64_t number)
{
    return number % 2 ? throw_guided_request(number) : throw_request(number);
}

/* Those that are not done yet, with what was noted of them; the notes stay. */
static void add_all(stage *s, uint64_t seed, const notes *begun, const bool *done)
{
    ps_completion copies[40];
    for (uint64_t i = 0; i < N; i++) {
        if (done[i]) continue;
        ps_request r = request_number(seed * N + i);
        assert_ok(ps_generate_check(&r, &s->spec, &s->limits));
        for (int k = 0; k < r.n_samples; k++) {
            copy_completion(&begun->samples[i][k], &copies[k]);
            copies[k].logprobs_capacity = copies[k].tokens.n;
        }
        assert_ok(ps_generate_add_begun(s->generate, i, &r, copies));
    }
}

static void release_notes(notes *begun)
{
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < 40; k++) {
            ps_completion_release(&begun->samples[i][k]);
        }
    }
    ps_mem_free(begun);
}

static void step_some(stage *s, int n_steps, size_t every, notes *begun)
{
    for (int i = 0; i < n_steps && ps_generate_busy(s->generate); i++) {
        assert_ok(ps_generate_step(s->generate));
        assert_ok(ps_generate_note(s->generate, every, keep, begun));
    }
}

static void check_done(stage *s, uint64_t seed, bool *done)
{
    for (uint64_t i = 0; i < N; i++) {
        if (s->results[i].n == 0) continue;
        ck_assert(!done[i]);
        done[i] = true;
        ps_request r = request_number(seed * N + i);
        expect_result(s, i, &r);
        ps_request_release(&r);
    }
}

/* Stopped three times at random steps, with notes every few tokens, and now and then with a last
 * note of everything; slots, chunks and parcels in flight are others each time. */
START_TEST(results_do_not_show_where_a_run_was_stopped)
{
    const uint64_t seed = (uint64_t)_i;
    dice d = {.seed = seed + 77};
    notes *begun = ps_mem_new(1, sizeof *begun);
    bool done[N] = {false};
    for (int part = 0; part < 4; part++) {
        stage *s = open_stage(2 + dice_throw(&d, 9), 1 + dice_throw(&d, 40), 1 + dice_throw(&d, 4),
                              seed % 2);
        const size_t every = 1 + (size_t)dice_throw(&d, 20);
        add_all(s, seed, begun, done);
        if (part < 3) {
            step_some(s, dice_throw(&d, 150), every, begun);
            if (dice_throw(&d, 2)) assert_ok(ps_generate_note(s->generate, 1, keep, begun));
        } else {
            run(s);
        }
        check_done(s, seed, done);
        close_stage(s);
    }
    for (int i = 0; i < N; i++) {
        ck_assert_msg(done[i], "request %d is not done", i);
    }
    release_notes(begun);
}
END_TEST

/* A prompt so long that the task has forgotten it by the time others are forked from it. */
START_TEST(samples_of_a_long_prompt_are_forked)
{
    stage *s = open_stage(3, 512, 1, true);
    ps_request r = request_of(5000, 4), same = request_of(5000, 4);
    r.n_samples = same.n_samples = 3;
    r.ignore_eos = same.ignore_eos = true;
    assert_ok(ps_generate_add(s->generate, 0, &r));
    run(s);
    expect_result(s, 0, &same);
    ps_request_release(&same);
    close_stage(s);
}
END_TEST

/* What is fed again is counted apart from what is new. */
START_TEST(tokens_of_another_run_are_counted_apart)
{
    notes *begun = ps_mem_new(1, sizeof *begun);
    uint64_t fed = 0;
    for (int part = 0; part < 2; part++) {
        stage *s = open_stage(2, 8, 1, true);
        ps_request r = request_of(5, 40);
        r.ignore_eos = true;
        assert_ok(ps_generate_add_begun(s->generate, 0, &r, part ? begun->samples[0] : NULL));
        if (part == 0) step_some(s, 20, 1, begun);
        if (part == 0) fed = begun->samples[0][0].tokens.n;
        if (part == 1) run(s);
        ps_generate_counts counts;
        ps_generate_count(s->generate, &counts);
        ck_assert_uint_eq(counts.begun_tokens, part ? fed : 0);
        ck_assert_uint_eq(counts.new_tokens, part ? 40 - fed : fed);
        ps_generate_counts_release(&counts);
        close_stage(s);
    }
    release_notes(begun);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("serve/generate_begun");
    TCase *tcase = scratch_case(suite, "begun");
    tcase_add_loop_test(tcase, results_do_not_show_where_a_run_was_stopped, 0, 60);
    tcase_add_test(tcase, samples_of_a_long_prompt_are_forked);
    tcase_add_test(tcase, tokens_of_another_run_are_counted_apart);
    return scratch_run(suite);
}
