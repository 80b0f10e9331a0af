/* A run is published by raising `generation`; each worker takes items from `next` until none is
 * left and then lowers `working`. The caller returns when `working` is zero, so no worker can still
 * look at an old run when the next one is published: that is the only invariant, and why a plain
 * counter is enough.
 *
 * Sleeping: a worker raises `sleepers` and looks at `generation` again under the mutex; the caller
 * raises `generation` and then looks at `sleepers`. Both orders are sequentially consistent, so one
 * of the two sees the other. */
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

struct ps_pool {
    _Alignas(64) atomic_uint generation;
    _Alignas(64) atomic_int next;
    _Alignas(64) atomic_int working;
    _Alignas(64) atomic_int sleepers;
    _Alignas(64) int n_items;
    ps_pool_work *work;
    void *arg;
    int n_threads, spins;
    atomic_bool closing;
    ps_pool_poke *poke;
    void *poke_arg;
    int64_t poke_interval_ns, poked_ns;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    worker *workers; // [n_threads], entry 0 unused
};

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

static void poke_if_due(ps_pool *pool)
{
    if (!pool->poke) return;
    const int64_t now = ps_clock_now_ns();
    if (now - pool->poked_ns < pool->poke_interval_ns) return;
    pool->poke(pool->poke_arg);
    pool->poked_ns = ps_clock_now_ns();
}

static void take_items(ps_pool *pool, int thread)
{
    for (;;) {
        const int item = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (item >= pool->n_items) return;
        pool->work(pool->arg, item, thread);
        if (thread == 0) poke_if_due(pool);
    }
}

static void sleep_until_changed(ps_pool *pool, unsigned seen)
{
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(&pool->generation) == seen) {
        pthread_cond_wait(&pool->wake, &pool->mutex);
    }
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->mutex);
}

/* Waits for a run newer than `seen` and returns its number. */
static unsigned wait_for_run(ps_pool *pool, unsigned seen)
{
    for (int i = 0; i < pool->spins; i++) {
        const unsigned now = atomic_load_explicit(&pool->generation, memory_order_acquire);
        if (now != seen) return now;
        relax();
    }
    for (int i = 0; i < YIELDS; i++) {
        const unsigned now = atomic_load_explicit(&pool->generation, memory_order_acquire);
        if (now != seen) return now;
        sched_yield();
    }
    sleep_until_changed(pool, seen);
    return atomic_load_explicit(&pool->generation, memory_order_acquire);
}

static void *worker_main(void *arg)
{
    const worker *self = arg;
    ps_pool *pool = self->pool;
    // Denormals on and rounding to nearest: the arithmetic is the same in every thread.
    fesetenv(FE_DFL_ENV);
    if (self->processor >= 0) ps_cores_bind_thread(self->processor);
    unsigned seen = 0;
    for (;;) {
        seen = wait_for_run(pool, seen);
        if (atomic_load_explicit(&pool->closing, memory_order_acquire)) return NULL;
        take_items(pool, self->thread);
        atomic_fetch_sub_explicit(&pool->working, 1, memory_order_release);
    }
}

static void publish(ps_pool *pool)
{
    atomic_fetch_add(&pool->generation, 1);
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
    PS_TRY(ps_region_take(sizeof(ps_pool), "thread pool", &region));
    ps_pool *pool = region.base;
    pool->n_threads = 1;
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
    ps_region region = {
        .base = pool, .bytes = sizeof *pool, .mapped = ps_mem_round_up(sizeof *pool, 4096)};
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

static void run_alone(ps_pool *pool, int n_items, ps_pool_work *work, void *arg)
{
    for (int item = 0; item < n_items; item++) {
        work(arg, item, 0);
        poke_if_due(pool);
    }
}

void ps_pool_run(ps_pool *pool, int n_items, ps_pool_work *work, void *arg)
{
    if (pool->n_threads == 1 || n_items <= 1) {
        run_alone(pool, n_items, work, arg);
        return;
    }
    pool->work = work;
    pool->arg = arg;
    pool->n_items = n_items;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->working, pool->n_threads - 1, memory_order_relaxed);
    publish(pool);
    take_items(pool, 0);
    for (int spin = 1; atomic_load_explicit(&pool->working, memory_order_acquire) > 0; spin++) {
        relax();
        if (spin % POKE_EVERY_SPINS == 0) poke_if_due(pool);
        if (spin > pool->spins) sched_yield();
    }
}
