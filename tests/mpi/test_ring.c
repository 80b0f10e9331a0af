/* Parcels of any size, in order, whole, as many in flight as there are credits; ranks that lag; and
 * how a loss comes out. */
#include "pipe/ring.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "support/dice.h"
#include "support/ranks.h"
#include "support/scratch.h"

enum { BUFFER_BYTES = 200 * 1000 }; // past every eager limit

typedef struct run {
    int depth, in_flight, n_parcels, bytes_max;
    int lagging; // a rank that now and then sleeps; -1: none
    bool waits;  // rank 0 waits for a buffer, too, not only for parcels
} run;

/* In front of each parcel; the bytes behind it follow from it. */
typedef struct mark {
    uint64_t number, hops, bytes;
} mark;

static ps_ring *open_ring(int depth)
{
    ps_ring *ring;
    const ps_ring_params params = {.comm = ranks_comm(),
                                   .watch = ranks_watch(),
                                   .depth = depth,
                                   .buffer_bytes = BUFFER_BYTES,
                                   .wait = PS_WAIT_SHARED};
    assert_ok(ps_ring_open(&params, &ring));
    ck_assert_int_eq(ps_ring_rank(ring), ranks_rank());
    ck_assert_int_eq(ps_ring_size(ring), ranks_size());
    ck_assert_int_eq(ps_ring_credits(ring), ranks_size() * depth - 1);
    return ring;
}

/* The receives of a ring that not all have closed would take what the next one sends. */
static void close_ring(ps_ring *ring)
{
    ranks_meet();
    ps_ring_close(ring);
    ranks_meet();
}

/* Small, middling and large parcels, each size found again from the number. */
static size_t bytes_of(uint64_t number, int bytes_max)
{
    dice d = {.seed = number};
    int most = bytes_max;
    if (dice_throw(&d, 2) == 0) most = most < 300 ? most : 300;
    if (dice_throw(&d, 4) == 0) most = most < 5000 ? most : 5000;
    return sizeof(mark) + (size_t)dice_throw(&d, most - (int)sizeof(mark) + 1);
}

static uint8_t byte_of(uint64_t number, size_t at)
{
    return (uint8_t)(number * 7 + at * 13 + (at >> 8));
}

static void fill(ps_ring_buffer *b, uint64_t number, int bytes_max)
{
    b->bytes = bytes_of(number, bytes_max);
    const mark m = {number, 0, b->bytes};
    memcpy(b->data, &m, sizeof m);
    for (size_t at = sizeof m; at < b->bytes; at++) {
        b->data[at] = (char)byte_of(number, at);
    }
}

static void check(const ps_ring_buffer *b, uint64_t number, uint64_t hops, int bytes_max)
{
    mark m;
    ck_assert_uint_eq(b->bytes, bytes_of(number, bytes_max));
    ck_assert_uint_eq((uintptr_t)b->data % 64, 0);
    memcpy(&m, b->data, sizeof m);
    ck_assert_uint_eq(m.number, number);
    ck_assert_uint_eq(m.hops, hops);
    ck_assert_uint_eq(m.bytes, b->bytes);
    for (size_t at = sizeof m; at < b->bytes; at++) {
        if ((uint8_t)b->data[at] != byte_of(number, at))
            ck_abort_msg("parcel %d: byte %zu differs", (int)number, at);
    }
}

static void lag(const run *r, uint64_t number)
{
    if (ranks_rank() == r->lagging && number % 16 == 3) ps_clock_sleep_us(2000);
}

/* Rank 0: keeps as many on the way as the run says; if asked to, waits for a send. */
static void inject(ps_ring *ring, const run *r)
{
    int submitted = 0, collected = 0;
    uint64_t sent_bytes = 0;
    while (collected < r->n_parcels) {
        while (submitted < r->n_parcels && submitted - collected < r->in_flight) {
            ps_ring_buffer *b = ps_ring_take(ring);
            if (!b && r->waits) {
                assert_ok(ps_ring_wait(ring));
                b = ps_ring_take(ring);
            }
            if (!b) break;
            fill(b, (uint64_t)submitted, r->bytes_max);
            sent_bytes += b->bytes;
            ps_ring_send(ring, b);
            submitted++;
        }
        ps_ring_buffer *back;
        ck_assert_msg(submitted > collected, "no buffer although nothing is under way");
        assert_ok(ps_ring_receive(ring, &back));
        lag(r, (uint64_t)collected);
        check(back, (uint64_t)collected, (uint64_t)ranks_size() - 1, r->bytes_max);
        ps_ring_release(ring, back);
        collected++;
    }
    ck_assert_uint_eq(ps_ring_sent_bytes(ring), sent_bytes);
}

static void pass_on(ps_ring *ring, const run *r)
{
    for (int i = 0; i < r->n_parcels; i++) {
        ps_ring_buffer *b;
        assert_ok(ps_ring_receive(ring, &b));
        lag(r, (uint64_t)i);
        check(b, (uint64_t)i, (uint64_t)ranks_rank() - 1, r->bytes_max);
        mark m;
        memcpy(&m, b->data, sizeof m);
        m.hops++;
        memcpy(b->data, &m, sizeof m);
        if (i % 5 == 0) ps_ring_poke(ring);
        ps_ring_send(ring, b);
    }
}

static void go_round(const run *r)
{
    ps_ring *ring = open_ring(r->depth);
    if (ranks_rank() == 0) {
        inject(ring, r);
    } else {
        pass_on(ring, r);
    }
    assert_ok(ps_ring_flush(ring));
    ck_assert_int_ge(ps_ring_waited_ns(ring), 0);
    close_ring(ring);
}

START_TEST(ten_thousand_parcels_of_any_size_stay_in_order)
{
    go_round(&(run){.depth = 3,
                    .in_flight = ranks_size(),
                    .n_parcels = 10000,
                    .bytes_max = 20000,
                    .lagging = -1});
}
END_TEST

/* All credits out: the receive buffers of all ranks but one are full at times. */
START_TEST(all_credits_may_be_in_flight)
{
    static const int depths[] = {2, 3, 16};
    static const int sizes[] = {200, BUFFER_BYTES};
    for (int d = 0; d < 3; d++) {
        for (int s = 0; s < 2; s++) {
            go_round(&(run){.depth = depths[d],
                            .in_flight = ranks_size() * depths[d] - 1,
                            .n_parcels = 400,
                            .bytes_max = sizes[s],
                            .lagging = -1});
        }
    }
}
END_TEST

START_TEST(one_parcel_at_a_time_uses_every_buffer_in_turn)
{
    go_round(
        &(run){.depth = 2, .in_flight = 1, .n_parcels = 300, .bytes_max = 9000, .lagging = -1});
}
END_TEST

/* Parcels pile up in front of a rank that lags, whichever it is. */
START_TEST(a_lagging_rank_loses_nothing)
{
    for (int r = 0; r < ranks_size(); r++) {
        go_round(&(run){.depth = 2,
                        .in_flight = ranks_size() * 2 - 1,
                        .n_parcels = 200,
                        .bytes_max = r % 2 ? BUFFER_BYTES : 1000,
                        .lagging = r});
    }
}
END_TEST

START_TEST(a_wait_for_buffers_loses_no_parcel_that_comes_meanwhile)
{
    for (int depth = 2; depth <= 4; depth++) {
        go_round(&(run){.depth = depth,
                        .in_flight = ranks_size() * depth - 1,
                        .n_parcels = 400,
                        .bytes_max = depth == 3 ? 500 : BUFFER_BYTES,
                        .lagging = 0,
                        .waits = true});
    }
}
END_TEST

/* More than the injecting buffers cannot be on their way out; a receive makes room. */
START_TEST(rank_0_has_as_many_buffers_to_inject_from_as_the_ring_is_deep)
{
    ps_ring *ring = open_ring(2);
    if (ranks_rank() == 0) {
        ps_ring_buffer *taken[4];
        int n = 0;
        while (n < 4 && (taken[n] = ps_ring_take(ring)) != NULL) {
            n++;
        }
        // A ring of one receives into what was injected, so all of its buffers inject.
        ck_assert_int_eq(n, ranks_size() == 1 ? 4 : 2);
        for (int i = 0; i < n; i++) {
            ck_assert(i == 0 || taken[i]->data != taken[i - 1]->data);
            ps_ring_release(ring, taken[i]);
        }
        ck_assert_ptr_nonnull(ps_ring_take(ring));
    }
    close_ring(ring);
}
END_TEST

START_TEST(an_oversized_parcel_is_refused_when_the_ring_is_opened)
{
    ps_ring *ring;
    const ps_ring_params params = {.comm = ranks_comm(),
                                   .watch = ranks_watch(),
                                   .depth = 2,
                                   .buffer_bytes = ((size_t)1 << 30) + 1};
    ck_assert_int_eq(ps_ring_open(&params, &ring), PS_ERR_LIMIT);
    assert_message("a parcel of 1073741825 bytes is over the limit of 1073741824: take fewer rows");
    ck_assert_ptr_null(ring);
}
END_TEST

START_TEST(a_ring_takes_what_it_says_it_takes)
{
    ck_assert_uint_eq(ps_ring_bytes(0, 3, 1), 6 * 4096);
    ck_assert_uint_eq(ps_ring_bytes(1, 3, 4097), 3 * 8192);
}
END_TEST

/* The last: the watch does not recover from it, and need not. */
START_TEST(what_a_poke_learns_comes_out_of_the_next_receive)
{
    if (ranks_size() == 1) return;
    ps_ring *ring = open_ring(2);
    // Nobody hears it while it still waits for the others to begin.
    ps_comm_set_idle(ranks_comm(), NULL, NULL);
    ranks_meet();
    if (ranks_rank() == 1) {
        ps_watch_tell_all(ranks_watch(), PS_ERR_LOST, "rank 1 has had enough");
    } else {
        ps_ring_buffer *b;
        const int64_t begin = ps_clock_now_ns();
        while (!ps_watch_is_told(ranks_watch())) {
            ps_ring_poke(ring);
            ck_assert(ps_clock_seconds_between(begin, ps_clock_now_ns()) < 10.0);
        }
        PS_FAIL(PS_ERR_IO, "another message");
        ck_assert_int_eq(ps_ring_receive(ring, &b), PS_ERR_LOST);
        assert_message("rank 1 has had enough");
        ck_assert_ptr_null(b);
    }
    close_ring(ring);
}
END_TEST

int main(void)
{
    ranks_open(20.0);
    Suite *suite = suite_create("pipe/ring");
    TCase *tcase = ranks_case(suite, "ring");
    tcase_add_test(tcase, ten_thousand_parcels_of_any_size_stay_in_order);
    tcase_add_test(tcase, all_credits_may_be_in_flight);
    tcase_add_test(tcase, one_parcel_at_a_time_uses_every_buffer_in_turn);
    tcase_add_test(tcase, a_lagging_rank_loses_nothing);
    tcase_add_test(tcase, a_wait_for_buffers_loses_no_parcel_that_comes_meanwhile);
    tcase_add_test(tcase, rank_0_has_as_many_buffers_to_inject_from_as_the_ring_is_deep);
    tcase_add_test(tcase, an_oversized_parcel_is_refused_when_the_ring_is_opened);
    tcase_add_test(tcase, a_ring_takes_what_it_says_it_takes);
    tcase_add_test(tcase, what_a_poke_learns_comes_out_of_the_next_receive);
    return ranks_run(suite);
}
