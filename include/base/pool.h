/* A pool of threads that works off numbered items.
 *
 * ps_pool_run(pool, n, work, arg) calls work(arg, item, thread) once for every item in [0, n),
 * and returns when all are done. The calling thread is thread 0 and works too. Thread t of T begins
 * with item ceil(n t / T) and goes on in order to where the next one began; whoever is done takes the
 * last items of others. What an item computes must not depend on which thread takes it.
 *
 * Thread 0 calls the poke function between items and while it waits, at most once per interval:
 * that is how messages move while a long computation runs. The poke function must be short.
 *
 * Between runs the other threads spin, then yield, then sleep. Spinning is worth it only while
 * every thread has a core of its own; PS_WAIT_SHARED cuts it short.
 *
 * Ownership: ps_pool_open owns its threads until ps_pool_close. One caller at a time; no nesting.
 * Cost of an empty run: 0.5-2 us with spinning threads.   Errors: PS_ERR_NOMEM.   MPI: local.
 */
#ifndef PS_BASE_POOL_H
#define PS_BASE_POOL_H

#include "base/err.h"

typedef enum ps_wait {
    PS_WAIT_LATENCY, // every thread has a core: spin long
    PS_WAIT_SHARED,  // cores are shared with other work: yield and sleep soon
    PS_WAIT_COUNT
} ps_wait;

typedef struct ps_pool ps_pool;
typedef void ps_pool_work(void *arg, int item, int thread);
typedef void ps_pool_range_work(void *arg, int first, int end, int thread);
typedef void ps_pool_poke(void *arg);

/* `processors` (may be NULL: unbound) holds one processor number for each thread. When the system
 * refuses threads the pool gets fewer, at least one; ps_pool_threads tells. */
ps_err ps_pool_open(int n_threads, const int *processors, ps_wait wait,
                    ps_pool **out) PS_MUST_CHECK;
void ps_pool_close(ps_pool *pool);

int ps_pool_threads(const ps_pool *pool);
void ps_pool_set_poke(ps_pool *pool, ps_pool_poke *poke, void *arg, int interval_us);
void ps_pool_run(ps_pool *pool, int n_items, ps_pool_work *work, void *arg);

/* The same for items that cost less together: work gets first .. end-1, half of what is left of the
 * thread's own items each time but at most PS_POOL_RANGE_ITEMS, or one of another's. So items can be as
 * small as the threads are to end together, and few are paid for. The poke function is called between
 * ranges. */
enum { PS_POOL_RANGE_ITEMS = 64 };
void ps_pool_run_ranges(ps_pool *pool, int n_items, ps_pool_range_work *work, void *arg);

#endif
