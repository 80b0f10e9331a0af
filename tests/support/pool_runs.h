/* Runs of a pool for tests: items that are counted, and items that meet. */
#ifndef PS_TESTS_POOL_RUNS_H
#define PS_TESTS_POOL_RUNS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/pool.h"

enum { POOL_THREADS_MAX = 6, TALLY_ITEMS_MAX = 2000 };

/* Fails the test when there are fewer threads than asked for. */
ps_pool *pool_runs_open(int n_threads, ps_wait wait);

/* What the items of one run leave behind; plain memory, so that it also tests that a run's writes
 * are seen by the caller. */
typedef struct tally {
    int n_threads, run;
    pthread_t caller;
    int times[TALLY_ITEMS_MAX + 1], run_of[TALLY_ITEMS_MAX + 1];
    bool wrong_thread[TALLY_ITEMS_MAX + 1];
} tally;

/* One run of n_items: each once, by a thread that gives its own number, and none behind the end. */
void tally_check_run(ps_pool *pool, tally *t, int n_items);

/* The same run by ranges. */
void tally_check_ranges(ps_pool *pool, tally *t, int n_items);

/* Items that meet: each waits until all n have begun, or five seconds. */
typedef struct meeting {
    atomic_int begun, met;
    int n;
} meeting;

void meeting_item(void *arg, int item, int thread);

#endif
