/* Who is lost, when, and what is said of it: several ranks' watches in one process, with a clock
 * and a post office of this file's own (the linker wraps those of base/clock and pipe/comm). */
#include "pipe/watch.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "support/scratch.h"

enum { RANKS = 4, WAITING_MAX = 64 };

static const double TIMEOUT_S = 10.0;

typedef struct letter {
    int from;
    char bytes[PS_NOTE_BYTES];
} letter;

struct ps_comm {
    int rank;
    letter inbox[WAITING_MAX];
    int n_letters;
    bool clogged; // what is sent to it does not leave
    ps_comm_idle *idle;
};

static struct {
    int64_t now_ns;
    ps_comm comms[RANKS];
    ps_watch *watches[RANKS];
    bool away[RANKS]; // dead, or stopped
    ps_err err[RANKS];
    char message[RANKS][PS_ERR_MESSAGE_BYTES];
    int64_t ended_ns[RANKS];
    int turn; // the rank that runs
    ps_asked asked[RANKS];
    bool tell[RANKS];
} world;

ps_asked __wrap_ps_signals_asked(void);
bool __wrap_ps_signals_take_tell(void);

ps_asked __wrap_ps_signals_asked(void)
{
    return world.asked[world.turn];
}

bool __wrap_ps_signals_take_tell(void)
{
    const bool tell = world.tell[world.turn];
    world.tell[world.turn] = false;
    return tell;
}

int64_t __wrap_ps_clock_now_ns(void);
void __wrap_ps_clock_sleep_us(int64_t wait_us);
int __wrap_ps_comm_rank(const ps_comm *comm);
int __wrap_ps_comm_size(const ps_comm *comm);
const char *__wrap_ps_comm_host(const ps_comm *comm, int rank);
void __wrap_ps_comm_set_idle(ps_comm *comm, ps_comm_idle *idle, void *arg);
bool __wrap_ps_comm_note_send(ps_comm *comm, int to, const void *note, size_t n);
bool __wrap_ps_comm_note_receive(ps_comm *comm, void *note, int *from);

int64_t __wrap_ps_clock_now_ns(void)
{
    return world.now_ns;
}

void __wrap_ps_clock_sleep_us(int64_t wait_us)
{
    world.now_ns += wait_us * 1000;
}

int __wrap_ps_comm_rank(const ps_comm *comm)
{
    return comm->rank;
}

int __wrap_ps_comm_size(const ps_comm *comm)
{
    (void)comm;
    return RANKS;
}

const char *__wrap_ps_comm_host(const ps_comm *comm, int rank)
{
    static const char *const hosts[RANKS] = {"n0", "n1", "n2", "n3"};
    (void)comm;
    return hosts[rank];
}

void __wrap_ps_comm_set_idle(ps_comm *comm, ps_comm_idle *idle, void *arg)
{
    (void)arg;
    comm->idle = idle;
}

bool __wrap_ps_comm_note_send(ps_comm *comm, int to, const void *note, size_t n)
{
    ps_comm *c = &world.comms[to];
    ck_assert_int_ne(comm->rank, to);
    if (c->clogged || c->n_letters == WAITING_MAX) return false;
    letter *l = &c->inbox[c->n_letters++];
    memset(l, 0, sizeof *l);
    l->from = comm->rank;
    memcpy(l->bytes, note, n);
    return true;
}

bool __wrap_ps_comm_note_receive(ps_comm *comm, void *note, int *from)
{
    if (comm->n_letters == 0) return false;
    memcpy(note, comm->inbox[0].bytes, PS_NOTE_BYTES);
    *from = comm->inbox[0].from;
    memmove(comm->inbox, comm->inbox + 1, (size_t)--comm->n_letters * sizeof *comm->inbox);
    return true;
}

static void begin(void)
{
    memset(&world, 0, sizeof world);
    world.now_ns = 1000000000000;
    for (int r = 0; r < RANKS; r++) {
        world.comms[r].rank = r;
        world.watches[r] = ps_watch_open(&world.comms[r], TIMEOUT_S);
        ck_assert_ptr_nonnull(world.comms[r].idle);
    }
    // Two layers each, but none on rank 0.
    for (int r = 0; r < RANKS; r++) {
        ps_watch_set_layers(world.watches[r], r > 0 ? 2 * r - 2 : 0, 2 * r);
    }
}

static void end(void)
{
    for (int r = 0; r < RANKS; r++) {
        ps_watch_close(world.watches[r]);
        ck_assert_ptr_null(world.comms[r].idle);
    }
}

/* Every rank that is there polls, twice in each millisecond. */
static void run(double seconds)
{
    const int64_t until = world.now_ns + (int64_t)(seconds * 1e9);
    while (world.now_ns < until) {
        for (int r = 0; r < RANKS; r++) {
            if (world.away[r] || world.err[r]) continue;
            world.turn = r;
            world.err[r] = ps_watch_poll(world.watches[r]);
            if (!world.err[r]) continue;
            snprintf(world.message[r], sizeof world.message[r], "%s", ps_err_message());
            world.ended_ns[r] = world.now_ns;
        }
        world.now_ns += 500000;
    }
}

static void assert_nobody_ended(void)
{
    for (int r = 0; r < RANKS; r++) {
        ck_assert_msg(world.err[r] == PS_OK, "rank %d: %s", r, world.message[r]);
    }
}

/* `tells`: this rank speaks for the others. */
static void assert_ended(int rank, const char *message, bool tells)
{
    ck_assert_int_eq(world.err[rank], PS_ERR_LOST);
    ck_assert_str_eq(world.message[rank], message);
    ck_assert_int_eq(ps_watch_is_told(world.watches[rank]), !tells);
}

START_TEST(ranks_that_poll_live_for_ever)
{
    begin();
    run(10 * TIMEOUT_S);
    assert_nobody_ended();
    end();
}
END_TEST

START_TEST(rank_0_finds_who_is_silent_and_who_waits_for_it)
{
    begin();
    ps_watch_waits_for(world.watches[3], 2);
    run(5.0);
    world.away[2] = true;
    run(TIMEOUT_S - 1.5);
    assert_nobody_ended();
    run(2.0);
    assert_ended(0,
                 "rank 2 (n2, layers 2..3) gave no sign of life for 10.0 s; rank 3 (n3, layers "
                 "4..5) waits for it",
                 true);
    // The others hear it from rank 0, and only from it.
    ck_assert_int_eq(world.err[1], PS_OK);
    ps_watch_tell_all(world.watches[0], PS_ERR_LOST, world.message[0]);
    run(0.1);
    assert_ended(1, world.message[0], false);
    assert_ended(3, world.message[0], false);
    end();
}
END_TEST

START_TEST(a_silent_rank_nobody_waits_for_is_named_alone)
{
    begin();
    world.away[1] = true;
    run(TIMEOUT_S + 2.0);
    assert_ended(0, "rank 1 (n1, layers 0..1) gave no sign of life for 10.0 s", true);
    end();
}
END_TEST

START_TEST(rank_0_itself_may_be_who_waits)
{
    begin();
    ps_watch_waits_for(world.watches[0], 3);
    world.away[3] = true;
    run(TIMEOUT_S + 2.0);
    assert_ended(0,
                 "rank 3 (n3, layers 4..5) gave no sign of life for 10.0 s; rank 0 (n0, no layers) "
                 "waits for it",
                 true);
    end();
}
END_TEST

/* Its layers are known from the moment it has them, not from its next sign of life. */
START_TEST(a_rank_that_dies_at_once_is_named_with_its_layers)
{
    begin();
    run(1.0);
    ps_watch_set_layers(world.watches[2], 7, 8);
    world.away[2] = true;
    run(TIMEOUT_S + 2.0);
    assert_ended(0, "rank 2 (n2, layers 7..7) gave no sign of life for 10.0 s", true);
    end();
}
END_TEST

START_TEST(a_rank_that_never_got_layers_is_named_without)
{
    memset(&world, 0, sizeof world);
    world.now_ns = 1000000000000;
    for (int r = 0; r < RANKS; r++) {
        world.comms[r].rank = r;
        world.watches[r] = ps_watch_open(&world.comms[r], TIMEOUT_S);
    }
    world.away[1] = true;
    run(TIMEOUT_S + 2.0);
    assert_ended(0, "rank 1 (n1) gave no sign of life for 10.0 s", true);
    end();
}
END_TEST

/* Rank 1 speaks first; the others, which would end it by leaving, wait for it. */
START_TEST(without_rank_0_rank_1_speaks)
{
    begin();
    ps_watch_waits_for(world.watches[1], 0);
    run(3.0);
    world.away[0] = true;
    run(TIMEOUT_S + 1.0);
    assert_ended(1,
                 "rank 0 (n0, no layers) gave no sign of life for 10.0 s; rank 1 (n1, layers 0..1) "
                 "waits for it",
                 true);
    ck_assert_int_eq(world.err[2], PS_OK);
    ck_assert_int_eq(world.err[3], PS_OK);
    ps_watch_tell_all(world.watches[1], PS_ERR_LOST, world.message[1]);
    run(0.1);
    assert_ended(2, world.message[1], false);
    assert_ended(3, world.message[1], false);
    end();
}
END_TEST

START_TEST(without_ranks_0_and_1_all_find_out_by_themselves)
{
    begin();
    world.away[0] = world.away[1] = true;
    run(TIMEOUT_S + 1.5);
    assert_nobody_ended();
    run(2.0);
    assert_ended(2, "rank 0 (n0, no layers) gave no sign of life for 12.0 s", true);
    assert_ended(3, "rank 0 (n0, no layers) gave no sign of life for 12.0 s", true);
    end();
}
END_TEST

START_TEST(a_rank_that_said_it_will_be_away_is_not_missed)
{
    begin();
    ps_watch_suspend(world.watches[0], true);
    world.away[0] = true;
    run(5 * TIMEOUT_S);
    assert_nobody_ended();
    // Back again, it does not hold the silence that it did not hear against the others.
    world.away[0] = false;
    ps_watch_suspend(world.watches[0], false);
    run(TIMEOUT_S / 2);
    assert_nobody_ended();
    // And is missed again from now on.
    world.away[0] = true;
    run(TIMEOUT_S + 4.0);
    ck_assert_int_eq(world.err[1], PS_ERR_LOST);
    end();
}
END_TEST

/* A job that was stopped as a whole, and goes on. */
START_TEST(ranks_that_were_all_stopped_go_on)
{
    begin();
    run(1.0);
    ps_watch_expect_progress(world.watches[0], true);
    world.now_ns += 100000000000;
    run(TIMEOUT_S / 2);
    assert_nobody_ended();
    end();
}
END_TEST

START_TEST(standing_still_with_work_under_way_is_a_loss)
{
    begin();
    ps_watch_expect_progress(world.watches[0], true);
    for (int i = 0; i < 50; i++) {
        ps_watch_progress(world.watches[i % RANKS]);
        run(1.0);
    }
    assert_nobody_ended();
    ps_watch_waits_for(world.watches[2], 1);
    run(1.0);
    ps_watch_waits_for(world.watches[3], 2);
    run(TIMEOUT_S + 2.0);
    assert_ended(0,
                 "nothing has moved for 10.0 s although work is under way; rank 2 (n2, layers "
                 "2..3) waits for rank 1 (n1, layers 0..1)",
                 true);
    end();
}
END_TEST

START_TEST(nobody_waits_but_nothing_moves)
{
    begin();
    ps_watch_expect_progress(world.watches[0], true);
    run(TIMEOUT_S + 2.0);
    assert_ended(0, "nothing has moved for 10.0 s although work is under way", true);
    end();
}
END_TEST

/* Two rings of two: each has to move by itself while its head has parcels under way. */
START_TEST(a_ring_that_stands_still_is_a_loss_although_another_moves)
{
    begin();
    for (int r = 0; r < RANKS; r++) {
        ps_watch_set_ring_size(world.watches[r], 2);
    }
    ps_watch_expect_progress(world.watches[0], true);
    ps_watch_waits_for(world.watches[3], 2);
    for (int i = 0; i < 50; i++) {
        ps_watch_progress(world.watches[i % 2]);
        run(1.0);
    }
    assert_nobody_ended();
    ps_watch_expect_progress(world.watches[2], true);
    for (int i = 0; i < 50; i++) {
        ps_watch_progress(world.watches[i % RANKS]);
        run(1.0);
    }
    assert_nobody_ended();
    for (int i = 0; i < 14; i++) {
        ps_watch_progress(world.watches[i % 2]);
        run(1.0);
    }
    assert_ended(0,
                 "nothing in the ring of ranks 2..3 has moved for 10.0 s although work is under "
                 "way; rank 3 (n3, layers 4..5) waits for rank 2 (n2, layers 2..3)",
                 true);
    end();
}
END_TEST

START_TEST(without_work_nothing_needs_to_move)
{
    begin();
    run(5 * TIMEOUT_S);
    ps_watch_expect_progress(world.watches[0], true);
    run(TIMEOUT_S - 1.0);
    ps_watch_expect_progress(world.watches[0], false);
    run(5 * TIMEOUT_S);
    assert_nobody_ended();
    end();
}
END_TEST

/* The time that counts is that since work was submitted, not since the last that was done. */
START_TEST(new_work_after_a_long_rest_has_the_whole_deadline)
{
    begin();
    ps_watch_expect_progress(world.watches[0], true);
    run(1.0);
    ps_watch_expect_progress(world.watches[0], false);
    run(5 * TIMEOUT_S);
    ps_watch_expect_progress(world.watches[0], true);
    run(TIMEOUT_S - 1.0);
    assert_nobody_ended();
    run(2.0);
    ck_assert_int_eq(world.err[0], PS_ERR_LOST);
    end();
}
END_TEST

/* A note that cannot leave at once is sent again. */
START_TEST(telling_all_waits_for_those_whose_post_is_clogged)
{
    begin();
    run(1.0);
    world.comms[2].clogged = true;
    ps_watch_tell_all(world.watches[3], PS_ERR_LOST, "x");
    world.comms[2].clogged = false;
    run(0.1);
    assert_ended(0, "x", false);
    assert_ended(1, "x", false);
    ck_assert_int_eq(world.err[2], PS_OK);
    ck_assert_int_eq(world.err[3], PS_OK);
    // Its post flows again: one more try reaches it, and the others hear nothing twice.
    world.comms[0].n_letters = world.comms[1].n_letters = 0;
    ps_watch_tell_all(world.watches[3], PS_ERR_LOST, "x");
    ck_assert_int_eq(world.comms[0].n_letters, 0);
    ck_assert_int_eq(world.comms[1].n_letters, 0);
    run(0.1);
    assert_ended(2, "x", false);
    end();
}
END_TEST

START_TEST(a_long_message_is_cut_to_fit_a_note)
{
    char message[PS_ERR_MESSAGE_BYTES], wanted[PS_NOTE_BYTES];
    memset(message, 'm', sizeof message - 1);
    message[sizeof message - 1] = '\0';
    begin();
    ps_watch_tell_all(world.watches[1], PS_ERR_IO, message);
    run(0.1);
    const size_t n = strlen(world.message[3]);
    ck_assert_uint_gt(n, 150);
    ck_assert_uint_lt(n, PS_NOTE_BYTES);
    snprintf(wanted, sizeof wanted, "%.*s", (int)n, message);
    assert_ended(3, wanted, false);
    end();
}
END_TEST

/* ---- what is said on standard error ---- */

static int kept_stderr;

static void listen(void)
{
    const int fd = open("said", O_WRONLY | O_CREAT | O_TRUNC, 0666);
    kept_stderr = dup(STDERR_FILENO);
    dup2(fd, STDERR_FILENO);
    close(fd);
}

static void assert_said(const char *wanted)
{
    size_t n;
    dup2(kept_stderr, STDERR_FILENO);
    close(kept_stderr);
    char *said = scratch_read("said", &n);
    ck_assert_msg(n == strlen(wanted) && memcmp(said, wanted, n) == 0, "%.*s", (int)n, said);
    ps_mem_free(said);
}

START_TEST(who_is_missed_is_said_once_and_that_it_is_back)
{
    begin();
    ps_watch_waits_for(world.watches[3], 2);
    run(5.0);
    world.away[2] = true;
    listen();
    run(5.0);
    world.away[2] = false;
    run(3.0);
    assert_said(
        "pipestep: warning: rank 2 (n2, layers 2..3) gave no sign of life for 2.5 s; rank 3 "
        "(n3, layers 4..5) waits for it; waiting for it until 10 s\n"
        "pipestep: warning: rank 2 (n2, layers 2..3) is back\n");
    assert_nobody_ended();
    end();
}
END_TEST

/* Not only of rank 0, and the strongest wish counts. */
START_TEST(what_any_rank_is_asked_for_comes_to_rank_0)
{
    begin();
    run(1.0);
    world.turn = 0;
    ck_assert_int_eq(ps_watch_asked(world.watches[0]), PS_ASKED_NOTHING);
    world.asked[2] = PS_ASKED_SAVE;
    run(0.01);
    world.turn = 0;
    ck_assert_int_eq(ps_watch_asked(world.watches[0]), PS_ASKED_SAVE);
    world.asked[0] = PS_ASKED_TERMINATE;
    ck_assert_int_eq(ps_watch_asked(world.watches[0]), PS_ASKED_TERMINATE);
    end();
}
END_TEST

START_TEST(a_table_is_printed_once_for_all_that_are_asked)
{
    begin();
    for (int i = 0; i < 3; i++) {
        ps_watch_step(world.watches[1]);
    }
    ps_watch_waits_for(world.watches[2], 1);
    run(2.0);
    for (int r = 0; r < RANKS; r++) {
        world.tell[r] = r != 1;
    }
    ck_assert(!ps_watch_take_tell(world.watches[0]));
    listen();
    run(0.5);
    assert_said("pipestep: rank 0 (n0, no layers): 0 steps, works; 0.0 s ago\n"
                "pipestep: rank 1 (n1, layers 0..1): 3 steps, works; 0.1 s ago\n"
                "pipestep: rank 2 (n2, layers 2..3): 0 steps, waits for rank 1 since 2.0 s; 0.1 s "
                "ago\n"
                "pipestep: rank 3 (n3, layers 4..5): 0 steps, works; 0.1 s ago\n");
    ck_assert(ps_watch_take_tell(world.watches[0]));
    ck_assert(!ps_watch_take_tell(world.watches[0]));
    end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pipe/watch");
    TCase *tcase = scratch_case(suite, "watch");
    tcase_add_test(tcase, ranks_that_poll_live_for_ever);
    tcase_add_test(tcase, rank_0_finds_who_is_silent_and_who_waits_for_it);
    tcase_add_test(tcase, a_silent_rank_nobody_waits_for_is_named_alone);
    tcase_add_test(tcase, rank_0_itself_may_be_who_waits);
    tcase_add_test(tcase, a_rank_that_dies_at_once_is_named_with_its_layers);
    tcase_add_test(tcase, a_rank_that_never_got_layers_is_named_without);
    tcase_add_test(tcase, without_rank_0_rank_1_speaks);
    tcase_add_test(tcase, without_ranks_0_and_1_all_find_out_by_themselves);
    tcase_add_test(tcase, a_rank_that_said_it_will_be_away_is_not_missed);
    tcase_add_test(tcase, ranks_that_were_all_stopped_go_on);
    tcase_add_test(tcase, standing_still_with_work_under_way_is_a_loss);
    tcase_add_test(tcase, nobody_waits_but_nothing_moves);
    tcase_add_test(tcase, a_ring_that_stands_still_is_a_loss_although_another_moves);
    tcase_add_test(tcase, without_work_nothing_needs_to_move);
    tcase_add_test(tcase, new_work_after_a_long_rest_has_the_whole_deadline);
    tcase_add_test(tcase, telling_all_waits_for_those_whose_post_is_clogged);
    tcase_add_test(tcase, a_long_message_is_cut_to_fit_a_note);
    tcase_add_test(tcase, who_is_missed_is_said_once_and_that_it_is_back);
    tcase_add_test(tcase, what_any_rank_is_asked_for_comes_to_rank_0);
    tcase_add_test(tcase, a_table_is_printed_once_for_all_that_are_asked);
    return scratch_run(suite);
}
