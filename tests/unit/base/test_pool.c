/* A pool does every item once and nothing after the call returned, on any number of threads,
 * whether they spin, yield or sleep when the work comes. Waits are bounded: a pool that loses a
 * wake-up fails the test by its time limit. */
#include "base/pool.h"

#include <check.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "support/dice.h"
#include "support/pool_runs.h"

START_TEST(every_item_is_done_once)
{
    static tally t;
    ps_pool *pool = pool_runs_open(1 + _i / PS_WAIT_COUNT, (ps_wait)(_i % PS_WAIT_COUNT));
    dice d = {.seed = (uint64_t)_i};
    for (int n = 0; n < 40; n++) {
        tally_check_run(pool, &t, n);
        tally_check_ranges(pool, &t, n);
    }
    for (int run = 0; run < 60; run++) {
        tally_check_run(pool, &t, dice_throw(&d, TALLY_ITEMS_MAX + 1));
        tally_check_ranges(pool, &t, dice_throw(&d, TALLY_ITEMS_MAX + 1));
    }
    ps_pool_close(pool);
}
END_TEST

START_TEST(runs_after_a_sleep_lose_nothing)
{
    static tally t;
    ps_pool *pool = pool_runs_open(2 + _i % 3, (ps_wait)(_i % PS_WAIT_COUNT));
    dice d = {.seed = (uint64_t)_i};
    for (int run = 0; run < 120; run++) {
        // From none at all to well into the sleeping state, most of them near its beginning.
        ps_clock_sleep_us(run % 20 == 19 ? 20000 : dice_throw(&d, 1 << dice_throw(&d, 12)));
        tally_check_run(pool, &t, 2 + dice_throw(&d, 30));
    }
    ps_pool_close(pool);
}
END_TEST

static void work_for_a_while(void *arg, int item, int thread)
{
    (void)thread;
    const int *wait_us = arg;
    const int64_t until_ns = ps_clock_now_ns() + (int64_t)wait_us[item] * 1000;
    while (ps_clock_now_ns() < until_ns) {
        sched_yield();
    }
}

/* Runs with uneven items, so that the caller waits for the others and they for the caller. */
START_TEST(uneven_items_and_pauses_are_survived)
{
    static tally t;
    ps_pool *pool = pool_runs_open(2 + _i, _i % 2 ? PS_WAIT_LATENCY : PS_WAIT_SHARED);
    dice d = {.seed = 100 + (uint64_t)_i};
    for (int run = 0; run < 250; run++) {
        int wait_us[8];
        for (int i = 0; i < 8; i++) {
            wait_us[i] = dice_throw(&d, 4) ? 0 : dice_throw(&d, 400);
        }
        ps_pool_run(pool, 2 + dice_throw(&d, 7), work_for_a_while, wait_us);
        tally_check_run(pool, &t, dice_throw(&d, 50));
        if (dice_throw(&d, 3) == 0) ps_clock_sleep_us(dice_throw(&d, 1500));
    }
    ps_pool_close(pool);
}
END_TEST

/* Short runs with nothing between them: a worker that comes too late for one is in time for the
 * next, and must be counted in the right one. */
typedef struct sprint {
    int n_items;
    volatile bool done[4];
} sprint;

static void spin_and_finish(void *arg, int item, int thread)
{
    (void)thread;
    sprint *s = arg;
    for (volatile int i = 0; i < 300 * (item + 1); i++) {
    }
    s->done[item] = true;
}

START_TEST(short_runs_after_each_other_are_whole)
{
    enum { RUNS = 20000 };
    sprint *runs = ps_mem_new(RUNS, sizeof *runs);
    ps_pool *pool = pool_runs_open(2 + _i % 3, (ps_wait)(_i % PS_WAIT_COUNT));
    dice d = {.seed = 200 + (uint64_t)_i};
    int unfinished = 0;
    for (int run = 0; run < RUNS; run++) {
        runs[run].n_items = 2 + dice_throw(&d, 3);
        ps_pool_run(pool, runs[run].n_items, spin_and_finish, &runs[run]);
        for (int i = 0; i < runs[run].n_items; i++) {
            unfinished += !runs[run].done[i];
        }
    }
    ps_pool_close(pool);
    ck_assert_int_eq(unfinished, 0);
    ps_mem_free(runs);
}
END_TEST

START_TEST(all_threads_work_at_the_same_time)
{
    for (int n = 1; n <= POOL_THREADS_MAX; n++) {
        ps_pool *pool = pool_runs_open(n, PS_WAIT_SHARED);
        for (int run = 0; run < 5; run++) {
            meeting m = {.n = n};
            ps_pool_run(pool, n, meeting_item, &m);
            ck_assert_int_eq(atomic_load(&m.met), n);
            if (run == 3) ps_clock_sleep_us(30000); // and when all of them sleep
        }
        ps_pool_close(pool);
    }
}
END_TEST

/* Who did what, in each thread's order. */
typedef struct diary {
    meeting all_begun;
    int n_done[POOL_THREADS_MAX], items[POOL_THREADS_MAX][TALLY_ITEMS_MAX];
} diary;

static void note_item(void *arg, int item, int thread)
{
    diary *d = arg;
    d->items[thread][d->n_done[thread]++] = item;
    if (d->n_done[thread] == 1) meeting_item(&d->all_begun, item, thread);
}

/* A thread reads on in memory from item to item: its own share from the front, then what is left of
 * others from behind. */
START_TEST(threads_take_their_own_items_in_order_and_then_the_last_of_others)
{
    const int n_threads = 1 + _i % POOL_THREADS_MAX,
              n_items = n_threads + 7 * (_i / POOL_THREADS_MAX);
    static diary d;
    memset(&d, 0, sizeof d);
    d.all_begun.n = n_threads;
    ps_pool *pool = pool_runs_open(n_threads, PS_WAIT_SHARED);
    ps_pool_run(pool, n_items, note_item, &d);
    ps_pool_close(pool);
    ck_assert_int_eq(atomic_load(&d.all_begun.met), n_threads);
    for (int t = 0; t < n_threads; t++) {
        const int first = (n_items * t + n_threads - 1) / n_threads;
        const int end = (n_items * (t + 1) + n_threads - 1) / n_threads;
        int own = 0;
        while (own < d.n_done[t] && d.items[t][own] == first + own) {
            own++;
        }
        ck_assert_int_ge(own, 1);
        ck_assert_int_le(own, end - first);
        for (int i = own; i < d.n_done[t]; i++) {
            ck_assert(d.items[t][i] < first || d.items[t][i] >= end);
        }
    }
}
END_TEST

static void note_range(void *arg, int first, int end, int thread)
{
    diary *d = arg;
    d->items[thread][d->n_done[thread]++] = 65536 * first + end;
    if (d->n_done[thread] == 1) meeting_item(&d->all_begun, first, thread);
}

/* Half of what is left of the own share, then half of the rest, and single ones of others. */
START_TEST(ranges_become_smaller_towards_the_end_of_a_share)
{
    const int n_threads = 1 + _i % POOL_THREADS_MAX, each = _i < POOL_THREADS_MAX ? 16 : 300;
    const int n_items = each * n_threads;
    static diary d;
    memset(&d, 0, sizeof d);
    d.all_begun.n = n_threads;
    ps_pool *pool = pool_runs_open(n_threads, PS_WAIT_SHARED);
    ps_pool_run_ranges(pool, n_items, note_range, &d);
    ps_pool_close(pool);
    for (int t = 0; t < n_threads; t++) {
        int next = each * t;
        const int end = each * (t + 1); // of the own share, as far as others leave it
        for (int i = 0; i < d.n_done[t]; i++) {
            const int first = d.items[t][i] / 65536, n = d.items[t][i] % 65536 - first;
            if (first < next || first >= end) {
                ck_assert_int_eq(n, 1);
                continue;
            }
            ck_assert_int_eq(first, next);
            ck_assert_int_le(n, end - next > 1 ? (end - next) / 2 : 1);
            ck_assert_int_le(n, PS_POOL_RANGE_ITEMS);
            if (n_threads == 1 && end - next > 3)
                ck_assert(n == (end - next) / 2 || n == PS_POOL_RANGE_ITEMS);
            next += n;
        }
        ck_assert_int_gt(next, each * t);
    }
}
END_TEST

START_TEST(idle_threads_go_to_sleep)
{
    ps_pool *pool = pool_runs_open(4, (ps_wait)_i);
    static tally t;
    tally_check_run(pool, &t, 100);
    ps_clock_sleep_us(50000);
    struct timespec before, after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    ps_clock_sleep_us(200000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    const double used_s =
        (double)(after.tv_sec - before.tv_sec) + 1e-9 * (double)(after.tv_nsec - before.tv_nsec);
    ck_assert_double_lt(used_s, 0.05);
    tally_check_run(pool, &t, 100);
    ps_pool_close(pool);
}
END_TEST

/* ---- poke ---- */

typedef struct pokes {
    pthread_t caller;
    int n, from_elsewhere, too_early;
    int64_t interval_ns, last_ns;
} pokes;

static void poke(void *arg)
{
    pokes *p = arg;
    const int64_t now_ns = ps_clock_now_ns();
    p->from_elsewhere += !pthread_equal(pthread_self(), p->caller);
    p->too_early += p->n > 0 && now_ns - p->last_ns < p->interval_ns;
    p->n++;
    p->last_ns = ps_clock_now_ns();
}

static void set_poke(ps_pool *pool, int interval_us, pokes *p)
{
    *p = (pokes){.caller = pthread_self(), .interval_ns = (int64_t)interval_us * 1000};
    ps_pool_set_poke(pool, poke, p, interval_us);
}

START_TEST(the_caller_is_poked_between_items_but_not_too_often)
{
    ps_pool *pool = pool_runs_open(1 + _i, PS_WAIT_SHARED);
    pokes p;
    set_poke(pool, 1000, &p);
    int wait_us[200];
    for (int i = 0; i < 200; i++) {
        wait_us[i] = 200;
    }
    const int64_t before_ns = ps_clock_now_ns();
    ps_pool_run(pool, 200, work_for_a_while, wait_us);
    const int64_t lasted_us = (ps_clock_now_ns() - before_ns) / 1000;
    ck_assert_int_eq(p.from_elsewhere, 0);
    ck_assert_int_eq(p.too_early, 0);
    ck_assert_int_ge(p.n, 3);
    ck_assert_int_le(p.n, lasted_us / 1000 + 1);
    ps_pool_close(pool);
}
END_TEST

static void only_others_work(void *arg, int item, int thread)
{
    meeting *m = arg;
    meeting_item(m, item, thread);
    if (thread != 0) ps_clock_sleep_us(100000);
}

START_TEST(the_caller_is_poked_while_it_waits_for_the_others)
{
    ps_pool *pool = pool_runs_open(2, (ps_wait)_i);
    pokes p;
    set_poke(pool, 1000, &p);
    meeting m = {.n = 2};
    ps_pool_run(pool, 2, only_others_work, &m);
    ck_assert_int_eq(atomic_load(&m.met), 2);
    ck_assert_int_ge(p.n, 4); // 100 ms of waiting; the machine may be busy with other things
    ck_assert_int_eq(p.from_elsewhere + p.too_early, 0);
    ps_pool_close(pool);
}
END_TEST

START_TEST(a_poke_can_be_taken_away)
{
    ps_pool *pool = pool_runs_open(2, PS_WAIT_SHARED);
    static tally t;
    pokes p;
    set_poke(pool, 0, &p);
    tally_check_run(pool, &t, 50);
    const int before = p.n;
    ck_assert_int_gt(before, 0);
    ps_pool_set_poke(pool, NULL, NULL, 0);
    tally_check_run(pool, &t, 50);
    ck_assert_int_eq(p.n, before);
    ps_pool_close(pool);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("pool");
    tcase_set_timeout(tcase, 60.0);
    tcase_add_loop_test(tcase, every_item_is_done_once, 0, POOL_THREADS_MAX * PS_WAIT_COUNT);
    tcase_add_loop_test(tcase, runs_after_a_sleep_lose_nothing, 0, 6);
    tcase_add_loop_test(tcase, uneven_items_and_pauses_are_survived, 0, 4);
    tcase_add_loop_test(tcase, short_runs_after_each_other_are_whole, 0, 6);
    tcase_add_test(tcase, all_threads_work_at_the_same_time);
    tcase_add_loop_test(tcase, threads_take_their_own_items_in_order_and_then_the_last_of_others, 0,
                        3 * POOL_THREADS_MAX);
    tcase_add_loop_test(tcase, ranges_become_smaller_towards_the_end_of_a_share, 0,
                        2 * POOL_THREADS_MAX);
    tcase_add_loop_test(tcase, idle_threads_go_to_sleep, 0, PS_WAIT_COUNT);
    tcase_add_loop_test(tcase, the_caller_is_poked_between_items_but_not_too_often, 0, 3);
    tcase_add_loop_test(tcase, the_caller_is_poked_while_it_waits_for_the_others, 0, PS_WAIT_COUNT);
    tcase_add_test(tcase, a_poke_can_be_taken_away);
    Suite *suite = suite_create("base/pool");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
