#include "support/pool_runs.h"

#include <check.h>
#include <sched.h>
#include <string.h>

#include "base/clock.h"

ps_pool *pool_runs_open(int n_threads, ps_wait wait)
{
    ps_pool *pool = NULL;
    ck_assert_msg(ps_pool_open(n_threads, NULL, wait, &pool) == PS_OK, "%s", ps_err_message());
    ck_assert_int_eq(ps_pool_threads(pool), n_threads);
    return pool;
}

static void count_item(void *arg, int item, int thread)
{
    tally *t = arg;
    t->times[item]++;
    t->run_of[item] = t->run;
    const bool is_caller = pthread_equal(pthread_self(), t->caller) != 0;
    t->wrong_thread[item] = thread < 0 || thread >= t->n_threads || is_caller != (thread == 0);
}

static void count_range(void *arg, int first, int end, int thread)
{
    ck_assert_int_lt(first, end);
    for (int item = first; item < end; item++) {
        count_item(arg, item, thread);
    }
}

static bool item_is_right(const tally *t, int item, int n_items)
{
    if (item >= n_items) return t->times[item] == 0;
    return t->times[item] == 1 && t->run_of[item] == t->run && !t->wrong_thread[item];
}

static void check_run(ps_pool *pool, tally *t, int n_items, bool by_ranges)
{
    memset(t->times, 0, sizeof t->times);
    t->run++;
    t->n_threads = ps_pool_threads(pool);
    t->caller = pthread_self();
    if (by_ranges) {
        ps_pool_run_ranges(pool, n_items, count_range, t);
    } else {
        ps_pool_run(pool, n_items, count_item, t);
    }
    int bad = 0;
    while (bad < TALLY_ITEMS_MAX && item_is_right(t, bad, n_items)) {
        bad++;
    }
    ck_assert_msg(bad == TALLY_ITEMS_MAX,
                  "item %d of %d: %d times, in run %d of %d, wrong thread: %d", bad, n_items,
                  t->times[bad], t->run_of[bad], t->run, t->wrong_thread[bad]);
}

void tally_check_run(ps_pool *pool, tally *t, int n_items)
{
    check_run(pool, t, n_items, false);
}

void tally_check_ranges(ps_pool *pool, tally *t, int n_items)
{
    check_run(pool, t, n_items, true);
}

void meeting_item(void *arg, int item, int thread)
{
    (void)item;
    (void)thread;
    meeting *m = arg;
    atomic_fetch_add(&m->begun, 1);
    const int64_t until_ns = ps_clock_now_ns() + 5000000000;
    while (atomic_load(&m->begun) < m->n && ps_clock_now_ns() < until_ns) {
        sched_yield();
    }
    atomic_fetch_add(&m->met, atomic_load(&m->begun) >= m->n);
}
