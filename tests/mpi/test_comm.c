/* Agreeing, comparing, broadcasting, notes, and waits that end. */
#include "pipe/comm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "support/dice.h"
#include "support/ranks.h"
#include "support/scratch.h"

#define TIMEOUT_S 4.0

/* "rank 2 (host): " as it stands before another rank's message; nothing before rank 0's. */
static void append_rank(ps_text *out, int rank)
{
    if (rank > 0) ps_text_appendf(out, "rank %d (%s): ", rank, ps_comm_host(ranks_comm(), rank));
}

START_TEST(ranks_that_are_all_well_agree)
{
    assert_ok(ps_comm_agree(ranks_comm(), PS_OK));
    assert_ok(ps_comm_wait_agree(ranks_comm(), PS_OK));
}
END_TEST

/* Every set of failing ranks: all get the code and the message of the lowest. */
START_TEST(the_lowest_failing_rank_speaks_for_all)
{
    const int size = ranks_size(), rank = ranks_rank();
    for (int failing = 1; failing < 1 << size; failing++) {
        int lowest = 0;
        while (!(failing >> lowest & 1)) {
            lowest++;
        }
        ps_text wanted = {0};
        append_rank(&wanted, lowest);
        ps_text_appendf(&wanted, "fault %d of set %d", lowest, failing);
        for (int waiting = 0; waiting < 2; waiting++) {
            const ps_err code = (ps_err)(PS_ERR_USAGE + rank);
            const ps_err mine =
                failing >> rank & 1 ? PS_FAIL(code, "fault %d of set %d", rank, failing) : PS_OK;
            const ps_err found = waiting ? ps_comm_wait_agree(ranks_comm(), mine)
                                         : ps_comm_agree(ranks_comm(), mine);
            ck_assert_int_eq(found, (int)PS_ERR_USAGE + lowest);
            assert_message(ps_text_str(&wanted));
        }
        ps_text_release(&wanted);
    }
}
END_TEST

START_TEST(a_broadcast_of_any_length_arrives_whole)
{
    static const size_t lengths[] = {0, 1, 4097, (1 << 24) - 1, 1 << 24, (1 << 24) + 5};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        ps_text wanted = {0}, text = {0};
        for (size_t at = 0; at < lengths[i]; at += 4) {
            const uint32_t value = (uint32_t)(at * 2654435761u + i);
            ps_text_append(&wanted, &value, lengths[i] - at < 4 ? lengths[i] - at : 4);
        }
        ps_text_append_str(&text, "what was there before");
        if (ranks_rank() == 0) {
            ps_text_clear(&text);
            ps_text_append(&text, wanted.data, wanted.len);
        }
        assert_ok(ps_comm_broadcast(ranks_comm(), &text));
        ck_assert_uint_eq(text.len, lengths[i]);
        ck_assert(lengths[i] == 0 || memcmp(text.data, wanted.data, lengths[i]) == 0);
        ps_text_release(&text);
        ps_text_release(&wanted);
    }
}
END_TEST

START_TEST(a_text_of_any_rank_comes_to_the_first_whole)
{
    static const size_t lengths[] = {0, 1, 4097, (1 << 24) + 5};
    for (int from = 0; from < ranks_size(); from++) {
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            ps_text text = {0};
            for (size_t at = 0; ranks_rank() == from && at < lengths[i]; at++) {
                ps_text_append_char(&text, (char)(at * 31 + (size_t)from));
            }
            if (ranks_rank() != from) ps_text_append_str(&text, "what was there before");
            assert_ok(ps_comm_bring(ranks_comm(), from, &text));
            bool same = text.len == lengths[i];
            for (size_t at = 0; same && at < lengths[i]; at++) {
                same = text.data[at] == (char)(at * 31 + (size_t)from);
            }
            ck_assert(same == (ranks_rank() == 0 || ranks_rank() == from));
            ps_text_release(&text);
        }
    }
}
END_TEST

START_TEST(gathered_pieces_stand_in_the_order_of_ranks)
{
    int32_t mine[3] = {ranks_rank(), 7, -ranks_rank()};
    int32_t(*all)[3] = ps_mem_new((size_t)ranks_size(), sizeof *all);
    assert_ok(ps_comm_gather_all(ranks_comm(), mine, sizeof mine, all));
    for (int r = 0; r < ranks_size(); r++) {
        ck_assert_int_eq(all[r][0], r);
        ck_assert_int_eq(all[r][1], 7);
        ck_assert_int_eq(all[r][2], -r);
    }
    ps_mem_free(all);
}
END_TEST

START_TEST(the_same_text_everywhere_is_no_error)
{
    assert_ok(ps_comm_check_same(ranks_comm(), "thing", ""));
    assert_ok(ps_comm_check_same(ranks_comm(), "thing", "a\nb\n"));
}
END_TEST

/* `other` on the ranks from first_other on; all fail alike with `wanted` about rank first_other. */
static void expect_difference(const char *text, const char *other, int first_other,
                              const char *wanted)
{
    ps_text message = {0};
    append_rank(&message, first_other);
    ps_text_append_str(&message, wanted);
    ck_assert_int_eq(
        ps_comm_check_same(ranks_comm(), "thing", ranks_rank() < first_other ? text : other),
        PS_ERR_USAGE);
    assert_message(ps_text_str(&message));
    ps_text_release(&message);
}

START_TEST(another_text_names_the_rank_and_the_line)
{
    for (int r = 1; r < ranks_size(); r++) {
        expect_difference("one", "two", r, "has another thing than rank 0: \"two\", there \"one\"");
        expect_difference("a = 1\nb = 2\nc = 3\n", "a = 1\nb = 22\nc = 4\n", r,
                          "has another thing than rank 0: \"b = 22\", there \"b = 2\"");
        expect_difference("a\nb", "a", r, "has another thing than rank 0: \"a\", there \"a\"");
        expect_difference("", "x", r, "has another thing than rank 0: \"x\", there \"\"");
    }
}
END_TEST

START_TEST(long_differing_lines_are_cut)
{
    char text[600], other[600], wanted[600];
    memset(text, 'x', sizeof text - 1);
    memset(other, 'x', sizeof other - 1);
    text[599] = other[599] = '\0';
    other[500] = 'y';
    snprintf(wanted, sizeof wanted, "has another thing than rank 0: \"%.200s\", there \"%.200s\"",
             text, text);
    for (int r = 1; r < ranks_size(); r++) {
        expect_difference(text, other, r, wanted);
    }
}
END_TEST

START_TEST(ranks_with_the_same_cores_divide_them)
{
    int sharing, index;
    ck_assert_int_eq(ps_comm_local_size(ranks_comm()), ranks_size());
    assert_ok(ps_comm_share_cores(ranks_comm(), 5, &sharing, &index));
    ck_assert_int_eq(sharing, ranks_size());
    ck_assert_int_eq(index, ranks_rank());
    const uint64_t odd = (uint64_t)ranks_rank() % 2;
    assert_ok(ps_comm_share_cores(ranks_comm(), odd, &sharing, &index));
    ck_assert_int_eq(sharing, (ranks_size() + 1 - ranks_rank() % 2) / 2);
    ck_assert_int_eq(index, ranks_rank() / 2);
}
END_TEST

/* Numbered notes from each rank to each, in order, while the sender drops what does not fit. */
START_TEST(notes_arrive_whole_and_in_order)
{
    enum { NOTES = 200 };
    typedef struct numbered {
        int32_t from, to, number, check;
    } numbered;
    const int size = ranks_size(), rank = ranks_rank();
    int *sent = ps_mem_new((size_t)size, sizeof *sent);
    int *received = ps_mem_new((size_t)size, sizeof *received);
    int64_t left = 2 * (int64_t)NOTES * (size - 1);
    const int64_t begin = ps_clock_now_ns();
    while (left > 0) {
        ck_assert(ps_clock_seconds_between(begin, ps_clock_now_ns()) < 30.0);
        for (int to = 0; to < size; to++) {
            const numbered n = {rank, to, sent[to], 31 * rank + to};
            if (to == rank || sent[to] == NOTES) continue;
            if (!ps_comm_note_send(ranks_comm(), to, &n, sizeof n)) continue;
            sent[to]++;
            left--;
        }
        union {
            numbered n;
            char bytes[PS_NOTE_BYTES];
        } in;
        int from;
        while (ps_comm_note_receive(ranks_comm(), in.bytes, &from)) {
            ck_assert_int_eq(in.n.from, from);
            ck_assert_int_eq(in.n.to, rank);
            ck_assert_int_eq(in.n.number, received[from]++);
            ck_assert_int_eq(in.n.check, 31 * from + rank);
            left--;
        }
    }
    ps_mem_free(received);
    ps_mem_free(sent);
}
END_TEST

static ps_err count_calls(void *arg)
{
    ++*(int *)arg;
    return PS_OK;
}

START_TEST(the_idle_function_runs_while_a_rank_waits)
{
    int calls = 0;
    if (ranks_rank() == 0) {
        ps_comm_set_idle(ranks_comm(), count_calls, &calls);
    } else {
        ps_clock_sleep_us(50000);
    }
    assert_ok(ps_comm_agree(ranks_comm(), PS_OK));
    ps_comm_set_idle(ranks_comm(), NULL, NULL);
    ck_assert(ranks_rank() != 0 || ranks_size() == 1 || calls > 5);
}
END_TEST

static ps_err fail_at_once(void *arg)
{
    (void)arg;
    return PS_FAIL(PS_ERR_LOST, "somebody is lost");
}

/* What rank 0 gave up is completed behind its back when the others come, so it lives on. */
static char gathered[64];

START_TEST(an_error_of_the_idle_function_ends_the_wait)
{
    if (ranks_size() == 1) return;
    static char mine;
    if (ranks_rank() == 0) {
        ps_comm_set_idle(ranks_comm(), fail_at_once, NULL);
        ck_assert_int_eq(ps_comm_gather_all(ranks_comm(), &mine, 1, gathered), PS_ERR_LOST);
        assert_message("somebody is lost");
        ps_comm_set_idle(ranks_comm(), NULL, NULL);
    } else {
        ps_clock_sleep_us(100000);
        assert_ok(ps_comm_gather_all(ranks_comm(), &mine, 1, gathered));
    }
}
END_TEST

/* Costs the deadline, so it runs with two ranks only. */
START_TEST(a_rank_that_does_not_come_is_waited_for_as_long_as_was_said)
{
    if (ranks_size() != 2) return;
    static char mine;
    if (ranks_rank() == 0) {
        char wanted[200];
        snprintf(wanted, sizeof wanted, "rank 0 (%s) waited %.0f s for the other ranks (gather)",
                 ps_comm_host(ranks_comm(), 0), TIMEOUT_S);
        ck_assert_int_eq(ps_comm_gather_all(ranks_comm(), &mine, 1, gathered), PS_ERR_LOST);
        assert_message(wanted);
    } else {
        ps_clock_sleep_us((int64_t)(TIMEOUT_S * 1e6) + 500000);
        assert_ok(ps_comm_gather_all(ranks_comm(), &mine, 1, gathered));
    }
    // For work of unknown length there is no deadline.
    if (ranks_rank() == 1) ps_clock_sleep_us((int64_t)(TIMEOUT_S * 1e6) + 500000);
    assert_ok(ps_comm_wait_agree(ranks_comm(), PS_OK));
}
END_TEST

START_TEST(the_launcher_says_which_rank_this_is)
{
    int rank;
    ck_assert(ps_comm_launched(&rank));
    ck_assert_int_eq(rank, ranks_rank());
}
END_TEST

/* Ranks of one host have one clock. */
START_TEST(clocks_of_one_host_agree)
{
    for (int r = 0; r < ranks_size(); r++) {
        int64_t ahead_ns = 1;
        assert_ok(ps_comm_compare_clocks(ranks_comm(), r, &ahead_ns));
        ck_assert_int_eq(ahead_ns, 0);
    }
    ranks_meet();
}
END_TEST

int main(void)
{
    ranks_open(TIMEOUT_S);
    Suite *suite = suite_create("pipe/comm");
    TCase *tcase = ranks_case(suite, "comm");
    tcase_add_test(tcase, ranks_that_are_all_well_agree);
    tcase_add_test(tcase, clocks_of_one_host_agree);
    tcase_add_test(tcase, the_lowest_failing_rank_speaks_for_all);
    tcase_add_test(tcase, a_broadcast_of_any_length_arrives_whole);
    tcase_add_test(tcase, a_text_of_any_rank_comes_to_the_first_whole);
    tcase_add_test(tcase, gathered_pieces_stand_in_the_order_of_ranks);
    tcase_add_test(tcase, the_same_text_everywhere_is_no_error);
    tcase_add_test(tcase, another_text_names_the_rank_and_the_line);
    tcase_add_test(tcase, long_differing_lines_are_cut);
    tcase_add_test(tcase, ranks_with_the_same_cores_divide_them);
    tcase_add_test(tcase, notes_arrive_whole_and_in_order);
    tcase_add_test(tcase, the_idle_function_runs_while_a_rank_waits);
    tcase_add_test(tcase, an_error_of_the_idle_function_ends_the_wait);
    tcase_add_test(tcase, a_rank_that_does_not_come_is_waited_for_as_long_as_was_said);
    tcase_add_test(tcase, the_launcher_says_which_rank_this_is);
    return ranks_run(suite);
}
