/* Groups of ranks, and texts between the first of them and the others: any length, whole, in order. */
#include "serve/dispatch.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "support/ranks.h"
#include "support/scratch.h"

#define TIMEOUT_S 10.0

/* ---- groups ---- */

START_TEST(ranks_of_a_group_are_a_comm_of_their_own)
{
    const int rank = ranks_rank(), size = ranks_size(), half = rank % 2;
    ps_comm *group;
    assert_ok(ps_comm_split(ranks_comm(), half, &group));
    ck_assert_int_eq(ps_comm_rank(group), rank / 2);
    ck_assert_int_eq(ps_comm_size(group), (size + 1 - rank % 2) / 2);
    for (int r = 0; r < ps_comm_size(group); r++) {
        ck_assert_int_eq(ps_comm_whole_rank(group, r), 2 * r + rank % 2);
        ck_assert_str_eq(ps_comm_host(group, r), ps_comm_host(ranks_comm(), rank));
    }
    ck_assert_int_eq(ps_comm_whole_rank(ranks_comm(), rank), rank);
    ps_text text = {0};
    ps_text_appendf(&text, "of rank %d", rank);
    assert_ok(ps_comm_broadcast(group, &text));
    ck_assert_str_eq(text.data, rank % 2 ? "of rank 1" : "of rank 0");
    ps_text_release(&text);
    ps_comm_close_group(group);
}
END_TEST

/* The rank in the message is that of all ranks. */
START_TEST(a_group_agrees_by_itself_and_names_ranks_of_all)
{
    const int rank = ranks_rank();
    ps_comm *group;
    assert_ok(ps_comm_split(ranks_comm(), rank < 2 ? 0 : 1, &group));
    ps_err mine = PS_OK;
    if (rank == 3) mine = PS_FAIL(PS_ERR_IO, "a fault");
    const ps_err found = ps_comm_agree(group, mine);
    ck_assert_int_eq(found, rank >= 2 && ranks_size() == 4 ? PS_ERR_IO : PS_OK);
    if (found) {
        ps_text wanted = {0};
        ps_text_appendf(&wanted, "rank 3 (%s): a fault", ps_comm_host(ranks_comm(), 3));
        assert_message(ps_text_str(&wanted));
        ps_text_release(&wanted);
    }
    ps_comm_close_group(group);
}
END_TEST

START_TEST(who_names_no_group_gets_none)
{
    ps_comm *group;
    assert_ok(ps_comm_split(ranks_comm(), ranks_rank() == 0 ? 5 : -1, &group));
    ck_assert_int_eq(group != NULL, ranks_rank() == 0);
    if (group) ck_assert_int_eq(ps_comm_size(group), 1);
    ps_comm_close_group(group);
}
END_TEST

/* ---- texts ---- */

enum { TEXTS = 60 };

/* Short ones, those that just fill a letter or two, and long ones. */
static size_t length_of(uint64_t number)
{
    static const size_t lengths[] = {0, 1, 300, PS_LETTER_BYTES, 3 * PS_LETTER_BYTES, 500001};
    const size_t n = lengths[number % 6];
    return n < PS_LETTER_BYTES ? n : n - 18 + (size_t)(number / 6);
}

static char byte_of(int from, uint64_t number, size_t at)
{
    return (char)(at * 31 + number * 7 + (size_t)from);
}

static void append(ps_text *text, int from, uint64_t number)
{
    for (size_t i = 0; i < length_of(number); i++) {
        ps_text_append_char(text, byte_of(from, number, i));
    }
}

typedef struct post {
    ps_letters *letters;
    ps_dispatch *dispatch;
    uint64_t *next; // [size] number that comes from there
    int n_came;
    bool answers;
} post;

static ps_err on_text(void *arg, int from, uint32_t kind, uint64_t number, ps_text *text)
{
    post *p = arg;
    ck_assert_uint_eq(number, p->next[from]++);
    ck_assert_uint_eq(kind, number % 3);
    // What comes back is what was sent.
    const int author = ranks_rank() == 0 ? 0 : from;
    ck_assert_uint_eq(text->len, length_of(number));
    bool same = true;
    for (size_t i = 0; i < text->len; i++) {
        same = same && text->data[i] == byte_of(author, number, i);
    }
    ck_assert(same);
    p->n_came++;
    if (p->answers) ps_dispatch_send(p->dispatch, from, kind, number, text);
    return number == TEXTS / 2 ? PS_FAIL(PS_ERR_IO, "half") : PS_OK;
}

static post open_post(void)
{
    post p = {.next = ps_mem_new((size_t)ranks_size(), sizeof *p.next),
              .answers = ranks_rank() > 0};
    assert_ok(ps_letters_open(ranks_comm(), &p.letters));
    return p;
}

static void close_post(post *p)
{
    ps_dispatch_free(p->dispatch);
    ranks_meet();
    ps_letters_close(p->letters);
    ranks_meet();
    ps_mem_free(p->next);
}

/* Until so many texts came and nothing is on its way. One text's error is returned, and not in the way
 * of the others. */
static int run_post(post *p, int n)
{
    const int64_t begin = ps_clock_now_ns();
    int n_errors = 0;
    bool left = false;
    while (p->n_came < n || !left) {
        const ps_err err = ps_dispatch_poll(p->dispatch);
        ck_assert(!err || err == PS_ERR_IO);
        n_errors += err != PS_OK;
        assert_ok(ps_dispatch_has_left(p->dispatch, &left));
        ck_assert(ps_clock_seconds_between(begin, ps_clock_now_ns()) < TIMEOUT_S);
    }
    return n_errors;
}

START_TEST(texts_go_to_all_and_come_back_in_order)
{
    const int size = ranks_size();
    post p = open_post();
    p.dispatch = ps_dispatch_new(p.letters, size, on_text, &p);
    int n = TEXTS;
    if (ranks_rank() == 0) {
        for (uint64_t number = 0; number < TEXTS; number++) {
            for (int to = 1; to < size; to++) {
                ps_text text = {0};
                append(&text, 0, number);
                ps_dispatch_send(p.dispatch, to, (uint32_t)(number % 3), number, &text);
                ck_assert_ptr_null(text.data);
            }
        }
        n = TEXTS * (size - 1);
    }
    const int n_errors = run_post(&p, n);
    ck_assert_int_eq(p.n_came, n);
    ck_assert_int_eq(n_errors, ranks_rank() == 0 ? size - 1 : 1);
    close_post(&p);
}
END_TEST

/* More than anybody takes: it waits here, and goes when it can. */
START_TEST(texts_nobody_takes_yet_do_not_hold_up_who_sends)
{
    const int size = ranks_size();
    post p = open_post();
    p.dispatch = ps_dispatch_new(p.letters, size, on_text, &p);
    p.answers = false;
    const bool sends = ranks_rank() == 0;
    for (uint64_t number = 0; sends && number < 20; number++) {
        for (int to = 1; to < size; to++) {
            ps_text text = {0};
            append(&text, 0, number);
            ps_dispatch_send(p.dispatch, to, (uint32_t)(number % 3), number, &text);
            assert_ok(ps_dispatch_poll(p.dispatch));
        }
    }
    ranks_meet();
    run_post(&p, sends ? 0 : 20);
    close_post(&p);
}
END_TEST

int main(void)
{
    ranks_open(TIMEOUT_S);
    Suite *suite = suite_create("serve/dispatch");
    TCase *groups = ranks_case(suite, "groups");
    tcase_add_test(groups, ranks_of_a_group_are_a_comm_of_their_own);
    tcase_add_test(groups, a_group_agrees_by_itself_and_names_ranks_of_all);
    tcase_add_test(groups, who_names_no_group_gets_none);
    TCase *texts = ranks_case(suite, "texts");
    tcase_add_test(texts, texts_go_to_all_and_come_back_in_order);
    tcase_add_test(texts, texts_nobody_takes_yet_do_not_hold_up_who_sends);
    return ranks_run(suite);
}
