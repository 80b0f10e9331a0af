/* The ledger: whenever its writer stops, and whatever is left of its files, the next one ends with
 * the same output; what was begun comes back exactly. */
#include "tool/ledger.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "support/dice.h"
#include "support/scratch.h"
#include "tool/ledger_lines.h"

enum { N = 30, VOCABULARY = 1000 };

static const char identity[] = "program = 1\n# a comment\nseed = 5\nstop = \"a\\\"b\"\n";
static const ps_output standard_output = {0};

static ps_ledger_params params_of(ps_ledger_order order)
{
    return (ps_ledger_params){
        .out = "out", .n = N, .order = order, .journal = true, .exact = true, .identity = identity};
}

static ps_text result_of(size_t number)
{
    ps_text text = {0};
    dice d = {.seed = number};
    ps_text_appendf(&text, "{\"number\": %zu, \"text\": \"", number);
    for (int i = dice_throw(&d, 300); i > 0; i--) {
        ps_text_append_char(&text, (char)('a' + i % 26));
    }
    ps_text_append_str(&text, "\"}\n");
    return text;
}

/* Opens, puts up to n results in a random order, and stops without a word. True when all were
 * there. */
static bool run(const ps_ledger_params *params, dice *d, int n)
{
    ps_ledger *l;
    assert_ok(ps_ledger_open(params, &l));
    assert_ok(ps_ledger_begin(l, 1, 1, &standard_output));
    for (int i = 0; i < n && ps_ledger_finished(l) < N; i++) {
        size_t number = (size_t)dice_throw(d, N);
        while (ps_ledger_has(l, number)) {
            number = (number + 1) % N;
        }
        ps_text result = result_of(number);
        assert_ok(ps_ledger_put(l, number, &result));
    }
    const bool done = ps_ledger_finished(l) == N;
    if (done) {
        ck_assert_uint_eq(ps_ledger_written(l), N);
        assert_ok(ps_ledger_finish(l));
    }
    ps_ledger_close(l, done);
    return done;
}

/* Something happens to a file that is not being written. */
static void damage(const char *path, dice *d)
{
    size_t n;
    if (!scratch_exists(path)) return;
    char *bytes = scratch_read(path, &n);
    const size_t kept = n > 0 ? (size_t)dice_throw(d, (int)n + 1) : 0;
    switch (dice_throw(d, 4)) {
    case 0:
        scratch_write(path, bytes, kept);
        break;
    case 1:
        if (kept < n) bytes[kept] = (char)(bytes[kept] ^ 4);
        scratch_write(path, bytes, n);
        break;
    default:
        break;
    }
    ps_mem_free(bytes);
}

static void check_output(ps_ledger_order order)
{
    size_t n, at = 0;
    char *bytes = scratch_read("out", &n);
    bool seen[N] = {false};
    for (size_t i = 0; i < N; i++) {
        size_t number = i;
        if (order == PS_ORDER_FINISH)
            ck_assert_int_eq(sscanf(bytes + at, "{\"number\": %zu", &number), 1);
        ck_assert_uint_lt(number, N);
        ck_assert(!seen[number]);
        seen[number] = true;
        ps_text result = result_of(number);
        ck_assert_uint_le(at + result.len, n);
        ck_assert(memcmp(bytes + at, result.data, result.len) == 0);
        at += result.len;
        ps_text_release(&result);
    }
    ck_assert_uint_eq(at, n);
    ps_mem_free(bytes);
    ck_assert_int_eq(scratch_count(), 1);
}

START_TEST(the_output_does_not_show_who_wrote_it)
{
    dice d = {.seed = (uint64_t)_i};
    const ps_ledger_order order = _i % 2 ? PS_ORDER_FINISH : PS_ORDER_INPUT;
    ps_ledger_params params = params_of(order);
    int runs = 0;
    while (!run(&params, &d, dice_throw(&d, 12))) {
        damage("out", &d);
        size_t n;
        char *journal = scratch_read("out.journal", &n);
        damage("out.journal", &d);
        ps_ledger *l;
        // Without its first line it is no journal any more.
        if (ps_ledger_open(&params, &l) == PS_OK) {
            ps_ledger_close(l, false);
        } else {
            scratch_write("out.journal", journal, n);
        }
        ps_mem_free(journal);
        ck_assert_int_lt(runs++, 1000);
    }
    check_output(order);
}
END_TEST

START_TEST(without_a_journal_nothing_is_kept)
{
    dice d = {.seed = 1};
    ps_ledger_params params = params_of(PS_ORDER_INPUT);
    params.journal = false;
    scratch_write_text("out", "an old output");
    ck_assert(!run(&params, &d, 5));
    ck_assert_int_eq(scratch_count(), 1);
    ck_assert(run(&params, &d, N));
    check_output(PS_ORDER_INPUT);
    params.resume = PS_RESUME_YES;
    ps_ledger *l;
    ck_assert_int_eq(ps_ledger_open(&params, &l), PS_ERR_USAGE);
    assert_message("out: has no journal: --resume yes");
}
END_TEST

START_TEST(another_job_is_refused_by_what_differs)
{
    static const struct {
        const char *identity, *message;
    } rows[] = {
        {"program = 1\nseed = 6\nstop = \"a\\\"b\"\n", "begun with seed 5, this run has 6;"},
        {"program = 1\nseed = 5\n", "begun with stop \"a\\\"b\", this run has it unset;"},
        {"program = 1\nseed = 5\nstop = \"a\\\"b\"\nban = 1\n",
         "begun with ban unset, this run has 1;"},
    };
    dice d = {.seed = 1};
    ps_ledger_params params = params_of(PS_ORDER_INPUT);
    ck_assert(!run(&params, &d, 5));
    ps_ledger *l;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        params.identity = rows[i].identity;
        ck_assert_int_eq(ps_ledger_open(&params, &l), PS_ERR_USAGE);
        assert_mentions(rows[i].message);
    }
    params.identity = identity;
    params.exact = false;
    ck_assert_int_eq(ps_ledger_open(&params, &l), PS_ERR_USAGE);
    params.exact = true;
    params.n = N + 1;
    ck_assert_int_eq(ps_ledger_open(&params, &l), PS_ERR_FORMAT);
    params.n = N;
    ck_assert(run(&params, &d, N));
    check_output(PS_ORDER_INPUT);
}
END_TEST

/* ---- what was begun ---- */

static ps_completion throw_completion(dice *d, size_t n, int n_logprobs)
{
    ps_completion c = {0};
    if (n_logprobs >= 0) {
        c.logprobs = ps_mem_new(n, sizeof *c.logprobs);
        c.logprobs_capacity = n;
    }
    for (size_t t = 0; t < n; t++) {
        ps_tokens_append(&c.tokens, dice_throw(d, VOCABULARY));
        if (n_logprobs < 0) continue;
        ps_sampler_logprobs *l = &c.logprobs[t];
        l->n_top = n_logprobs;
        l->chosen = dice_throw(d, 9) ? -(double)dice_throw(d, 1 << 30) / 3e7 : -INFINITY;
        for (int i = 0; i < n_logprobs; i++) {
            l->token[i] = dice_throw(d, VOCABULARY);
            l->logprob[i] = dice_throw(d, 9) ? -(double)dice_throw(d, 1 << 30) / 7e300 : -0.0;
        }
    }
    return c;
}

static void check_same(const ps_completion *a, const ps_completion *b)
{
    ck_assert_uint_eq(a->tokens.n, b->tokens.n);
    for (size_t t = 0; t < a->tokens.n; t++) {
        ck_assert_int_eq(a->tokens.ids[t], b->tokens.ids[t]);
        if (!a->logprobs) continue;
        const ps_sampler_logprobs *x = &a->logprobs[t], *y = &b->logprobs[t];
        ck_assert(x->chosen == y->chosen && x->n_top == y->n_top);
        for (int i = 0; i < x->n_top; i++) {
            ck_assert_int_eq(x->token[i], y->token[i]);
            ck_assert(memcmp(&x->logprob[i], &y->logprob[i], sizeof x->logprob[i]) == 0);
        }
    }
}

/* Noted piece by piece by one run, read by the next: every bit of them. */
START_TEST(what_was_begun_comes_back_exactly)
{
    dice d = {.seed = (uint64_t)_i};
    const int n_logprobs = _i % 4 - 1;
    ps_ledger_params params = params_of(PS_ORDER_INPUT);
    ps_completion whole[2] = {throw_completion(&d, 40, n_logprobs),
                              throw_completion(&d, 25, n_logprobs)};
    ps_completion begun[2];
    ps_ledger *l;
    assert_ok(ps_ledger_open(&params, &l));
    assert_ok(ps_ledger_begin(l, 1, 1, &standard_output));
    for (int s = 0; s < 2; s++) {
        const size_t all = whole[s].tokens.n;
        for (size_t first = 0, n; first < all; first = n) {
            n = first + 1 + (size_t)dice_throw(&d, 9);
            if (n > all) n = all;
            whole[s].tokens.n = n;
            assert_ok(ps_ledger_note(l, 7, s, first, &whole[s]));
        }
    }
    ps_ledger_close(l, false);
    assert_ok(ps_ledger_open(&params, &l));
    ck_assert(!ps_ledger_begun(l, 6, 2, n_logprobs, VOCABULARY, begun));
    ck_assert(ps_ledger_begun(l, 7, 2, n_logprobs, VOCABULARY, begun));
    for (int s = 0; s < 2; s++) {
        check_same(&whole[s], &begun[s]);
        ps_completion_release(&begun[s]);
    }
    // Nothing that does not fit the request.
    ck_assert(!ps_ledger_begun(l, 7, 1, n_logprobs, VOCABULARY, begun));
    ck_assert(!ps_ledger_begun(l, 7, 2, n_logprobs + 1, VOCABULARY, begun));
    ck_assert(!ps_ledger_begun(l, 7, 2, n_logprobs, 10, begun));
    ps_ledger_close(l, false);
    ps_completion_release(&whole[0]);
    ps_completion_release(&whole[1]);
}
END_TEST

/* What failed counts over all runs, and so do the runs. */
START_TEST(failed_requests_and_runs_are_counted_from_the_journal)
{
    ps_ledger_params params = params_of(PS_ORDER_INPUT);
    for (int i = 0; i < 3; i++) {
        ps_ledger *l;
        assert_ok(ps_ledger_open(&params, &l));
        ck_assert_int_eq(ps_ledger_earlier_runs(l), i);
        ck_assert_uint_eq(ps_ledger_requests(l), N);
        ck_assert_uint_eq(ps_ledger_failed(l), (size_t)i);
        ck_assert_uint_eq(ps_ledger_finished(l), 2 * (size_t)i);
        assert_ok(ps_ledger_begin(l, 1, 1, &standard_output));
        ps_text good = result_of(2 * (size_t)i), bad = result_of(2 * (size_t)i + 1);
        assert_ok(ps_ledger_put(l, 2 * (size_t)i, &good));
        assert_ok(ps_ledger_put_failed(l, 2 * (size_t)i + 1, &bad));
        ck_assert_uint_eq(ps_ledger_failed(l), (size_t)i + 1);
        ck_assert_uint_eq(ps_ledger_written(l), 2 * (size_t)i + 2);
        ps_ledger_close(l, false);
    }
    dice d = {.seed = 1};
    ck_assert(run(&params, &d, N));
    check_output(PS_ORDER_INPUT);
}
END_TEST

START_TEST(an_output_has_its_own_name_whatever_leads_to_it)
{
    ps_ledger_params params = params_of(PS_ORDER_INPUT);
    ps_ledger *l;
    scratch_write_text("real", "");
    ck_assert_int_eq(symlink("real", "out"), 0);
    assert_ok(ps_ledger_open(&params, &l));
    const char *path = ps_ledger_output(l);
    ck_assert_str_eq(path + strlen(path) - strlen("/real"), "/real");
    ps_ledger_close(l, false);
    params.out = "/dev/null";
    assert_ok(ps_ledger_open(&params, &l));
    ck_assert_ptr_null(ps_ledger_output(l));
    ps_ledger_close(l, false);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/ledger");
    TCase *tcase = scratch_case(suite, "ledger");
    tcase_add_loop_test(tcase, the_output_does_not_show_who_wrote_it, 0, 20);
    tcase_add_test(tcase, without_a_journal_nothing_is_kept);
    tcase_add_test(tcase, another_job_is_refused_by_what_differs);
    tcase_add_loop_test(tcase, what_was_begun_comes_back_exactly, 0, 8);
    tcase_add_test(tcase, failed_requests_and_runs_are_counted_from_the_journal);
    tcase_add_test(tcase, an_output_has_its_own_name_whatever_leads_to_it);
    return scratch_run(suite);
}
