/* A run is published by giving `state` the next number, open and joined by nobody. A worker that
 * sees it joins (a compare-and-swap that fails once the run is closed), takes items until none is
 * left, and raises `finished`. The caller works too; when no item is left it closes the run and
 * waits for those who joined. A worker that the system has put aside before it could join is not
 * waited for: on a busy machine that would cost a time slice for every run.
 *
 * Every thread has a share of items that follow each other and takes them in order; one that has
 * none left takes the last ones of others. What lies one behind the other in memory is so read as
 * one stream by each thread. A decoding step of quantised weights (Zen 3, two threads) is 1.05 to
 * 1.12 times as fast as with items dealt in turn, each of which began with a wait for memory.
 *
 * The caller returns only when finished == joined, so nobody can still look at an old run when the
 * next one is published: that is the invariant.
 *
 * Sleeping: a worker raises `sleepers` and looks at `state` again under the mutex; the caller
 * changes `state` and then looks at `sleepers`. Both orders are sequentially consistent, so one of
 * the two sees the other. */
#include "base/pool.h"

#include <assert.h>
#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/cores.h"
#include "base/mem.h"

enum { LATENCY_SPINS = 1 << 15, SHARED_SPINS = 64, YIELDS = 200, POKE_EVERY_SPINS = 256 };

typedef struct worker {
    ps_pool *pool;
    pthread_t handle;
    int thread, processor;
} worker;

/* state: number of the run << 32 | closed << 31 | workers that joined it */
static const uint64_t CLOSED = UINT64_C(1) << 31;

static uint32_t run_of(uint64_t state)
{
    return (uint32_t)(state >> 32);
}

/* Items that nobody has begun: the first one in the lower 32 bits, one past the last in the upper. */
typedef struct share {
    _Alignas(64) _Atomic uint64_t items;
} share;

/* What a run of items calls for each. */
typedef struct single {
    ps_pool_work *work;
    void *arg;
} single;

struct ps_pool {
    _Alignas(64) _Atomic uint64_t state;
    _Alignas(64)
        atomic_int unfinished; // shares that have items left: the search for more ends at 0
    _Alignas(64) _Atomic uint64_t finished;
    _Alignas(64) atomic_int sleepers;
    _Alignas(64) ps_region region; // the pool itself
    ps_pool_range_work *work;
    void *arg;
    single single;
    uint32_t most; // items of a range
    int n_threads, spins;
    atomic_bool closing;
    ps_pool_poke *poke;
    void *poke_arg;
    int64_t poke_interval_ns, poked_ns;
    int unseen_items; // since the last look at the clock
    int look_every;   // items from one look to the next
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    worker *workers; // [n_threads], entry 0 unused
    share shares[];  // [n_threads]
};

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    // Takes as long as a pause of x86; yield is nothing on most processors.
    __asm__ __volatile__("isb");
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

/* Looks at the clock, and returns how long ago the last poke was, 0 after one. */
static int64_t poke_if_due(ps_pool *pool)
{
    const int64_t now = ps_clock_now_ns();
    if (now - pool->poked_ns < pool->poke_interval_ns) return now - pool->poked_ns;
    pool->poke(pool->poke_arg);
    pool->poked_ns = ps_clock_now_ns();
    return 0;
}

/* Between items the clock is looked at the more seldom the less of the interval is over: items of one
 * run take about as long, so no poke is late by more than an interval. Items of a decoding step take
 * some microseconds, and a look after each of them would be a third of a percent of its time. */
static void poke_between_items(ps_pool *pool)
{
    if (!pool->poke || ++pool->unseen_items < pool->look_every) return;
    pool->unseen_items = 0;
    const bool early = 2 * poke_if_due(pool) < pool->poke_interval_ns;
    pool->look_every = early ? 2 * pool->look_every : 1;
}

typedef struct range {
    int first, end;
} range;

/* What the owner of a share takes next of the items that are left. */
static uint32_t portion(const ps_pool *pool, uint32_t left)
{
    const uint32_t half = left > 3 ? left / 2 : 1;
    return half < pool->most ? half : pool->most;
}

/* The first items of a share, or its last one. False when none is left. Who takes the rest tells so:
 * a count of all items instead, which every thread changes for every item, costs 1 % of a decoding
 * step on two cores that share no cache (Zen 5, items of 6 us). */
static bool take(ps_pool *pool, share *from, bool last, range *taken)
{
    uint64_t items = atomic_load_explicit(&from->items, memory_order_relaxed);
    for (;;) {
        const uint32_t first = (uint32_t)items, end = (uint32_t)(items >> 32);
        if (first >= end) return false;
        const uint32_t n = last ? 1 : portion(pool, end - first);
        const uint32_t begin = last ? end - 1 : first;
        *taken = (range){(int)begin, (int)(begin + n)};
        const uint64_t left = last ? items - (UINT64_C(1) << 32) : items + n;
        if (!atomic_compare_exchange_weak_explicit(&from->items, &items, left, memory_order_relaxed,
                                                   memory_order_relaxed))
            continue;
        if (first + n == end) atomic_fetch_sub_explicit(&pool->unfinished, 1, memory_order_relaxed);
        return true;
    }
}

static void work_off(ps_pool *pool, share *from, bool last, int thread)
{
    range r;
    while (take(pool, from, last, &r)) {
        pool->work(pool->arg, r.first, r.end, thread);
        if (thread == 0) poke_between_items(pool);
    }
}

static void take_items(ps_pool *pool, int thread)
{
    work_off(pool, &pool->shares[thread], false, thread);
    for (int t = 1; t < pool->n_threads; t++) {
        if (atomic_load_explicit(&pool->unfinished, memory_order_relaxed) <= 0) return;
        work_off(pool, &pool->shares[(thread + t) % pool->n_threads], true, thread);
    }
}

/* Gives every thread its share of the items, the caller the first ones. */
static void deal(ps_pool *pool, int n_items)
{
    const uint64_t n = (uint64_t)n_items, threads = (uint64_t)pool->n_threads;
    uint64_t first = 0;
    int unfinished = 0;
    for (uint64_t t = 0; t < threads; t++) {
        const uint64_t end = (n * (t + 1) + threads - 1) / threads;
        atomic_store_explicit(&pool->shares[t].items, end << 32 | first, memory_order_relaxed);
        unfinished += end > first;
        first = end;
    }
    atomic_store_explicit(&pool->unfinished, unfinished, memory_order_relaxed);
}

static void sleep_until_changed(ps_pool *pool, uint32_t seen)
{
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleepers, 1);
    while (run_of(atomic_load(&pool->state)) == seen) {
        pthread_cond_wait(&pool->wake, &pool->mutex);
    }
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->mutex);
}

static bool is_new(ps_pool *pool, uint32_t seen)
{
    return run_of(atomic_load_explicit(&pool->state, memory_order_acquire)) != seen;
}

static void wait_for_run(ps_pool *pool, uint32_t seen)
{
    for (int i = 0; i < pool->spins; i++) {
        if (is_new(pool, seen)) return;
        relax();
    }
    for (int i = 0; i < YIELDS; i++) {
        if (is_new(pool, seen)) return;
        sched_yield();
    }
    sleep_until_changed(pool, seen);
}

/* Joins the present run if it is still open; *seen becomes its number either way. */
static bool join_run(ps_pool *pool, uint32_t *seen)
{
    uint64_t state = atomic_load_explicit(&pool->state, memory_order_acquire);
    while (!(state & CLOSED)) {
        if (!atomic_compare_exchange_weak_explicit(&pool->state, &state, state + 1,
                                                   memory_order_acq_rel, memory_order_acquire))
            continue;
        *seen = run_of(state);
        return true;
    }
    *seen = run_of(state);
    return false;
}

static void *worker_main(void *arg)
{
    const worker *self = arg;
    ps_pool *pool = self->pool;
    // Denormals on and rounding to nearest: the arithmetic is the same in every thread.
    fesetenv(FE_DFL_ENV);
    if (self->processor >= 0) ps_cores_bind_thread(self->processor);
    uint32_t seen = 0;
    for (;;) {
        wait_for_run(pool, seen);
        if (!join_run(pool, &seen)) continue;
        if (atomic_load_explicit(&pool->closing, memory_order_acquire)) return NULL;
        take_items(pool, self->thread);
        atomic_fetch_add_explicit(&pool->finished, 1, memory_order_release);
    }
}

/* Opens the next run, and wakes whoever sleeps. */
static void publish(ps_pool *pool)
{
    const uint32_t run = run_of(atomic_load_explicit(&pool->state, memory_order_relaxed));
    atomic_store(&pool->state, (uint64_t)(run + 1) << 32);
    if (atomic_load(&pool->sleepers) == 0) return;
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

ps_err ps_pool_open(int n_threads, const int *processors, ps_wait wait, ps_pool **out)
{
    assert(n_threads >= 1);
    *out = NULL;
    fesetenv(FE_DFL_ENV);
    ps_region region;
    const size_t bytes = sizeof(ps_pool) + (size_t)n_threads * sizeof(share);
    PS_TRY(ps_region_take(bytes, "thread pool", &region));
    ps_pool *pool = region.base;
    pool->region = region;
    pool->n_threads = 1;
    atomic_init(&pool->state, CLOSED);
    pool->spins = wait == PS_WAIT_LATENCY ? LATENCY_SPINS : SHARED_SPINS;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->workers = ps_mem_new((size_t)n_threads, sizeof *pool->workers);
    for (int t = 1; t < n_threads; t++) {
        worker *w = &pool->workers[t];
        *w = (worker){.pool = pool, .thread = t, .processor = processors ? processors[t] : -1};
        if (pthread_create(&w->handle, NULL, worker_main, w) != 0) break;
        pool->n_threads = t + 1;
    }
    if (processors && n_threads > 1) ps_cores_bind_thread(processors[0]);
    *out = pool;
    return PS_OK;
}

void ps_pool_close(ps_pool *pool)
{
    if (!pool) return;
    atomic_store(&pool->closing, true);
    publish(pool);
    for (int t = 1; t < pool->n_threads; t++) {
        pthread_join(pool->workers[t].handle, NULL);
    }
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    ps_mem_free(pool->workers);
    ps_region region = pool->region;
    ps_region_release(&region);
}

int ps_pool_threads(const ps_pool *pool)
{
    return pool->n_threads;
}

void ps_pool_set_poke(ps_pool *pool, ps_pool_poke *poke, void *arg, int interval_us)
{
    pool->poke = poke;
    pool->poke_arg = arg;
    pool->poke_interval_ns = (int64_t)interval_us * 1000;
}

/* Works off the items in order, by portions. */
static void run_alone(ps_pool *pool, int n_items)
{
    for (int item = 0; item < n_items;) {
        const int next = item + (int)portion(pool, (uint32_t)(n_items - item));
        pool->work(pool->arg, item, next, 0);
        poke_between_items(pool);
        item = next;
    }
}

/* Closes the run, and waits for those who joined it. */
static void finish(ps_pool *pool)
{
    const uint64_t joined = atomic_fetch_or(&pool->state, CLOSED) & (CLOSED - 1);
    int spin = 0;
    while (atomic_load_explicit(&pool->finished, memory_order_acquire) < joined) {
        relax();
        // A yield may cost a time slice where cores are shared, a look at the clock costs nothing.
        if (spin == pool->spins) {
            sched_yield();
        } else if (++spin % POKE_EVERY_SPINS != 0) {
            continue;
        }
        if (pool->poke) poke_if_due(pool);
    }
}

/* Ranges of up to `most` items. */
static void run(ps_pool *pool, int n_items, uint32_t most, ps_pool_range_work *work, void *arg)
{
    pool->look_every = 1;
    pool->most = most;
    pool->work = work;
    pool->arg = arg;
    if (pool->n_threads == 1 || n_items <= 1) {
        run_alone(pool, n_items);
        return;
    }
    deal(pool, n_items);
    atomic_store_explicit(&pool->finished, 0, memory_order_relaxed);
    publish(pool);
    take_items(pool, 0);
    finish(pool);
}

static void run_single(void *arg, int first, int end, int thread)
{
    const single *s = arg;
    assert(end == first + 1);
    (void)end;
    s->work(s->arg, first, thread);
}

void ps_pool_run(ps_pool *pool, int n_items, ps_pool_work *work, void *arg)
{
    pool->single = (single){work, arg};
    run(pool, n_items, 1, run_single, &pool->single);
}

void ps_pool_run_ranges(ps_pool *pool, int n_items, ps_pool_range_work *work, void *arg)
{
    run(pool, n_items, PS_POOL_RANGE_ITEMS, work, arg);
}
