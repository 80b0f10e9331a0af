/* The threads of a pool: they come, go and may be refused, and all of them compute with the same
 * arithmetic, where they were told to. */
#include <check.h>
#include <fenv.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/cores.h"
#include "support/dice.h"
#include "support/pool_runs.h"
#include "support/threads.h"

START_TEST(pools_come_and_go)
{
    static tally t;
    dice d = {.seed = 9};
    // A sanitizer starts a thread of its own with our first one.
    ps_pool_close(pool_runs_open(2, PS_WAIT_SHARED));
    ps_clock_sleep_us(20000);
    const int before = threads_of_process();
    for (int run = 0; run < 200; run++) {
        const int n = 1 + dice_throw(&d, POOL_THREADS_MAX);
        ps_pool *pool = pool_runs_open(n, (ps_wait)dice_throw(&d, PS_WAIT_COUNT));
        ck_assert_msg(threads_become(before + n - 1), "%d threads instead of %d",
                      threads_of_process(), before + n - 1);
        for (int runs = dice_throw(&d, 3); runs > 0; runs--) {
            tally_check_run(pool, &t, dice_throw(&d, 40));
        }
        if (run % 40 == 0) ps_clock_sleep_us(10000); // close while they sleep
        ps_pool_close(pool);
    }
    ck_assert(threads_become(before));
    ps_pool_close(NULL);
}
END_TEST

/* A pool is closed just when its threads are about to sleep: none may miss it. */
START_TEST(closing_finds_threads_that_are_falling_asleep)
{
    static tally t;
    dice d = {.seed = 12};
    for (int run = 0; run < 6000; run++) {
        ps_pool *pool = pool_runs_open(2 + dice_throw(&d, 2), PS_WAIT_SHARED);
        if (run % 8 == 0) tally_check_run(pool, &t, 4);
        const int64_t until_ns = ps_clock_now_ns() + dice_throw(&d, 150000);
        while (ps_clock_now_ns() < until_ns) {
        }
        ps_pool_close(pool);
    }
}
END_TEST

START_TEST(two_pools_do_not_disturb_each_other)
{
    static tally t[2];
    ps_pool *pools[2] = {pool_runs_open(3, PS_WAIT_SHARED), pool_runs_open(2, PS_WAIT_LATENCY)};
    dice d = {.seed = 10};
    for (int run = 0; run < 200; run++) {
        const int which = dice_throw(&d, 2);
        tally_check_run(pools[which], &t[which], dice_throw(&d, 60));
    }
    ps_pool_close(pools[0]);
    ps_pool_close(pools[1]);
}
END_TEST

/* Room for the stacks of very few threads: the rest of them is refused. */
START_TEST(fewer_threads_when_the_system_refuses_them)
{
    if (!threads_can_be_refused()) return;
    enum { WANTED = 64 };
    static tally t;
    const size_t stacks = threads_stack_bytes() * 5 / 2 * (size_t)_i + ((size_t)1 << 20);
    struct rlimit limit, tight;
    ck_assert_int_eq(getrlimit(RLIMIT_AS, &limit), 0);
    tight = limit;
    tight.rlim_cur = threads_address_space_bytes() + stacks;
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &tight), 0);
    ps_pool *pool = NULL;
    const ps_err err = ps_pool_open(WANTED, NULL, PS_WAIT_SHARED, &pool);
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
    ck_assert_int_eq(err, PS_OK);
    ck_assert_int_lt(ps_pool_threads(pool), WANTED);
    ck_assert_int_ge(ps_pool_threads(pool), _i == 0 ? 1 : 2);
    for (int n = 0; n < 200; n++) {
        tally_check_run(pool, &t, n);
    }
    ps_pool_close(pool);
}
END_TEST

/* ---- what a thread computes with, and where ---- */

typedef struct environment {
    meeting all; // so that every thread gets one item
    bool wrong[POOL_THREADS_MAX];
    const int *processors;
} environment;

static void look_at_arithmetic(void *arg, int item, int thread)
{
    environment *e = arg;
    meeting_item(&e->all, item, thread);
    const volatile float smallest = 0x1p-149f, one = 1.0f, little = 0x1p-30f;
    const bool denormals = smallest * one != 0.0f && smallest + smallest == 0x1p-148f;
    e->wrong[thread] = fegetround() != FE_TONEAREST || !denormals || one + little != 1.0f;
}

static void look_at_processor(void *arg, int item, int thread)
{
    environment *e = arg;
    meeting_item(&e->all, item, thread);
    cpu_set_t set;
    const bool known = sched_getaffinity(0, sizeof set, &set) == 0;
    e->wrong[thread] =
        !known || CPU_COUNT(&set) != 1 || !CPU_ISSET((size_t)e->processors[thread], &set);
}

static void check_environment(const environment *e)
{
    ck_assert_int_eq(atomic_load(&e->all.met), e->all.n);
    for (int thread = 0; thread < e->all.n; thread++) {
        ck_assert_msg(!e->wrong[thread], "thread %d", thread);
    }
}

START_TEST(every_thread_has_denormals_and_rounds_to_nearest)
{
    ck_assert_int_eq(fesetround(FE_UPWARD), 0);
    threads_flush_denormals();
    ps_pool *pool = pool_runs_open(1 + _i, PS_WAIT_SHARED);
    environment e = {.all = {.n = 1 + _i}};
    ps_pool_run(pool, 1 + _i, look_at_arithmetic, &e);
    check_environment(&e);
    ps_pool_close(pool);
}
END_TEST

START_TEST(threads_stay_on_the_processors_that_they_were_given)
{
    enum { N = 4 };
    static ps_cores cores;
    ck_assert_int_eq(ps_cores_find(&cores), PS_OK);
    int processors[N];
    for (int i = 0; i < N; i++) {
        processors[i] = cores.processor[(i + 1) % cores.count];
    }
    ps_pool *pool = NULL;
    ck_assert_int_eq(ps_pool_open(N, processors, PS_WAIT_SHARED, &pool), PS_OK);
    environment e = {.all = {.n = N}, .processors = processors};
    ps_pool_run(pool, N, look_at_processor, &e);
    check_environment(&e);
    ps_pool_close(pool);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("threads");
    tcase_set_timeout(tcase, 60.0);
    tcase_add_test(tcase, pools_come_and_go);
    tcase_add_test(tcase, closing_finds_threads_that_are_falling_asleep);
    tcase_add_test(tcase, two_pools_do_not_disturb_each_other);
    tcase_add_loop_test(tcase, fewer_threads_when_the_system_refuses_them, 0, 2);
    tcase_add_loop_test(tcase, every_thread_has_denormals_and_rounds_to_nearest, 0, 4);
    tcase_add_test(tcase, threads_stay_on_the_processors_that_they_were_given);
    Suite *suite = suite_create("base/pool threads");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
