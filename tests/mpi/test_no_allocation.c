/* The law of no allocation after the start: between open and stop neither math nor model nor pipe
 * asks the system for memory, on no rank and on none of its threads.
 *
 * The linker sends every call of malloc, calloc, realloc and mmap in this program to the counters
 * below; what MPI and other libraries do inside themselves is not seen. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "support/dice.h"
#include "support/ranks.h"
#include "support/scratch.h"

enum { ROWS = 70, SLOTS = 6, CONTEXT = 400, STEPS = 400, VOCABULARY = 61, SHOWN_MAX = 8 };

static atomic_bool counting;
static atomic_int n_allocations;
static _Atomic(void *) callers[SHOWN_MAX]; // for addr2line

void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t n);
void *__real_realloc(void *p, size_t n);
void *__real_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset);

static void count(void *caller)
{
    if (!atomic_load(&counting)) return;
    const int number = atomic_fetch_add(&n_allocations, 1);
    if (number < SHOWN_MAX) atomic_store(&callers[number], caller);
}

void *__wrap_malloc(size_t n)
{
    count(__builtin_return_address(0));
    return __real_malloc(n);
}

void *__wrap_calloc(size_t number, size_t n)
{
    count(__builtin_return_address(0));
    return __real_calloc(number, n);
}

void *__wrap_realloc(void *p, size_t n)
{
    count(__builtin_return_address(0));
    return __real_realloc(p, n);
}

void *__wrap_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    count(__builtin_return_address(0));
    return __real_mmap(at, n, protection, flags, fd, offset);
}

static void begin_count(void)
{
    atomic_store(&n_allocations, 0);
    atomic_store(&counting, true);
}

static int end_count(void)
{
    atomic_store(&counting, false);
    return atomic_load(&n_allocations);
}

/* The checks stand behind the counting, since they allocate themselves. */
START_TEST(every_way_to_take_memory_is_counted)
{
    ps_region region;
    size_t capacity = 0;
    begin_count();
    void *p = ps_mem_new(3, 5);
    const int after_new = atomic_load(&n_allocations);
    void *q = ps_mem_grow(NULL, &capacity, 4, 8);
    const int after_grow = atomic_load(&n_allocations);
    const ps_err err = ps_region_take(10000, "a region", &region);
    const int after_region = atomic_load(&n_allocations);
    void *volatile r = malloc(1);
    const int after_malloc = end_count();
    void *uncounted = ps_mem_new(1, 1);
    ck_assert_int_eq(err, PS_OK);
    ck_assert_int_eq(after_new, 1);
    ck_assert_int_eq(after_grow, 2);
    ck_assert_int_eq(after_region, 3);
    ck_assert_int_eq(after_malloc, 4);
    ck_assert_int_eq(atomic_load(&n_allocations), 4);
    ps_mem_free(uncounted);
    free(r);
    ps_region_release(&region);
    ps_mem_free(q);
    ps_mem_free(p);
}
END_TEST

/* Also on the other threads of the pool. */
static void allocate_item(void *arg, int item, int thread)
{
    (void)arg;
    (void)item;
    (void)thread;
    ps_mem_free(ps_mem_new(1, 1));
}

START_TEST(the_threads_of_a_pool_are_counted_too)
{
    ps_pool *pool;
    assert_ok(ps_pool_open(2, NULL, PS_WAIT_SHARED, &pool));
    begin_count();
    ps_pool_run(pool, 50, allocate_item, NULL);
    ck_assert_int_eq(end_count(), 50);
    ps_pool_close(pool);
}
END_TEST

/* Prompts, decoding, forks and ends, all there is; the numbers are not looked at here. */
typedef struct load {
    ps_pipeline *pipeline;
    dice d;
    int64_t length[SLOTS];
    ps_parcel_action actions[2 * SLOTS];
    ps_batch_row rows[ROWS];
    int n_actions, n_rows;
} load;

static void throw_batch(load *l)
{
    l->n_actions = l->n_rows = 0;
    for (int slot = 0; slot < SLOTS; slot++) {
        const int from = dice_throw(&l->d, SLOTS);
        const bool full = l->length[slot] + ROWS > CONTEXT;
        if (l->length[slot] > 0 && (full || dice_throw(&l->d, 12) == 0)) {
            l->actions[l->n_actions++] = (ps_parcel_action){.kind = PS_ACTION_END, .slot = slot};
            l->length[slot] = 0;
        } else if (l->length[slot] == 0 && l->length[from] > 0 && dice_throw(&l->d, 2) == 0) {
            l->actions[l->n_actions++] =
                (ps_parcel_action){.kind = PS_ACTION_FORK, .slot = slot, .argument = from};
            l->length[slot] = l->length[from];
        }
    }
    for (int slot = 0; slot < SLOTS; slot++) {
        for (int n = dice_throw(&l->d, 5) == 0 ? ROWS : 1; n > 0 && l->n_rows < ROWS; n--) {
            l->rows[l->n_rows++] = (ps_batch_row){.slot = slot,
                                                  .position = l->length[slot]++,
                                                  .token = dice_throw(&l->d, VOCABULARY),
                                                  .wants_logits = n == 1};
        }
    }
}

static ps_err collect(load *l)
{
    ps_finished done;
    const float *logits;
    PS_TRY(ps_pipeline_collect(l->pipeline, &done));
    const int n = done.n_wanted < PS_HEAD_ROWS ? done.n_wanted : PS_HEAD_ROWS;
    static const ps_id_range ranges[] = {{1, 3}, {VOCABULARY - 9, VOCABULARY}};
    ps_logits_wanted wanted[PS_HEAD_ROWS];
    for (int r = 0; r < n; r++) {
        wanted[r] = (ps_logits_wanted){ranges, dice_throw(&l->d, 3)};
    }
    PS_TRY(ps_pipeline_logits(l->pipeline, 0, n, wanted, &logits));
    ps_pipeline_release(l->pipeline);
    return PS_OK;
}

static ps_err work(load *l)
{
    for (int i = 0; i < STEPS; i++) {
        uint64_t sequence;
        while (!ps_pipeline_can_submit(l->pipeline)) {
            PS_TRY(collect(l));
        }
        throw_batch(l);
        PS_TRY(ps_pipeline_submit(
            l->pipeline, &(ps_batch){l->actions, l->n_actions, l->rows, l->n_rows}, &sequence));
    }
    while (ps_pipeline_in_flight(l->pipeline) > 0) {
        PS_TRY(collect(l));
    }
    return PS_OK;
}

static void run_family(tiny_family family, int n_threads)
{
    tiny_model m = tiny_model_default(family);
    m.vocabulary = VOCABULARY;
    ranks_pipeline p;
    ps_stage_report reports[8];
    const ps_limits limits = {
        .rows_max = ROWS, .chunk_rows = ROWS, .n_slots = SLOTS, .context = CONTEXT};
    assert_ok(ranks_pipeline_open(
        &(ranks_pipeline_params){.model = &m, .limits = limits, .n_threads = n_threads}, &p));
    load l = {.pipeline = p.pipeline, .d = {.seed = (uint64_t)family}};
    begin_count();
    ps_err err = PS_OK;
    if (ranks_rank() == 0) {
        err = work(&l);
        if (!err) err = ps_pipeline_stop(p.pipeline, reports);
    } else {
        err = ps_pipeline_serve(p.pipeline);
    }
    const int n = end_count();
    ck_assert_msg(err == PS_OK, "%s", ps_err_message());
    ck_assert_msg(n == 0, "%d allocations, the first from %p", n, atomic_load(&callers[0]));
    if (ranks_rank() == 0) ck_assert_uint_eq(reports[ranks_size() - 1].parcels, STEPS);
    ranks_meet();
    ranks_pipeline_close(&p);
    ranks_meet();
}

START_TEST(nothing_is_allocated_while_parcels_go_round)
{
    for (int family = 0; family < TINY_FAMILY_COUNT; family++) {
        run_family((tiny_family)family, 1 + family % 2);
    }
}
END_TEST

int main(void)
{
    ranks_open(20.0);
    Suite *suite = suite_create("no allocation");
    TCase *tcase = ranks_case(suite, "no allocation");
    tcase_add_test(tcase, every_way_to_take_memory_is_counted);
    tcase_add_test(tcase, the_threads_of_a_pool_are_counted_too);
    tcase_add_test(tcase, nothing_is_allocated_while_parcels_go_round);
    return ranks_run(suite);
}
