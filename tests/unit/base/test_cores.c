/* What the process may use is what its affinity says, before and after it is narrowed. */
#include "base/cores.h"

#include <check.h>
#include <sched.h>
#include <stdlib.h>

static cpu_set_t affinity(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    ck_assert_int_eq(sched_getaffinity(0, sizeof set, &set), 0);
    return set;
}

static ps_cores *find(void)
{
    static ps_cores cores;
    ck_assert_msg(ps_cores_find(&cores) == PS_OK, "%s", ps_err_message());
    return &cores;
}

START_TEST(every_core_is_one_that_the_process_may_use)
{
    const cpu_set_t allowed = affinity();
    const ps_cores *cores = find();
    ck_assert_int_ge(cores->count, 1);
    ck_assert_int_ge(cores->n_numa_nodes, 1);
    ck_assert_int_le(cores->count, CPU_COUNT(&allowed));
    for (int i = 0; i < cores->count; i++) {
        ck_assert(CPU_ISSET((size_t)cores->processor[i], &allowed));
        for (int j = 0; j < i; j++) {
            ck_assert_int_ne(cores->processor[i], cores->processor[j]);
        }
    }
}
END_TEST

START_TEST(asking_twice_gives_the_same)
{
    const ps_cores first = *find(), *second = find();
    ck_assert_int_eq(first.count, second->count);
    ck_assert_uint_eq(first.cpuset_hash, second->cpuset_hash);
    ck_assert_mem_eq(first.processor, second->processor,
                     (size_t)first.count * sizeof first.processor[0]);
}
END_TEST

START_TEST(a_bound_process_has_one_core)
{
    const ps_cores all = *find();
    for (int i = 0; i < all.count && i < 8; i++) {
        ps_cores_bind_thread(all.processor[i]);
        const cpu_set_t now = affinity();
        ck_assert_int_eq(CPU_COUNT(&now), 1);
        ck_assert(CPU_ISSET((size_t)all.processor[i], &now));
        const ps_cores *one = find();
        ck_assert_int_eq(one->count, 1);
        ck_assert_int_eq(one->processor[0], all.processor[i]);
    }
}
END_TEST

START_TEST(different_affinities_have_different_hashes)
{
    const ps_cores all = *find();
    uint64_t hashes[9] = {all.cpuset_hash};
    int n = 1;
    // With a single processor allowed, binding to it changes nothing.
    const cpu_set_t allowed = affinity();
    for (int i = 0; CPU_COUNT(&allowed) > 1 && i < all.count && n < 9; i++) {
        ps_cores_bind_thread(all.processor[i]);
        hashes[n++] = find()->cpuset_hash;
    }
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < i; j++) {
            ck_assert_uint_ne(hashes[i], hashes[j]);
        }
    }
}
END_TEST

/* A machine of one core with two hardware threads, as the topology library can pretend; the
 * affinity is the real one, and has to allow both. */
START_TEST(a_core_counts_once_however_many_hardware_threads_it_has)
{
    const cpu_set_t allowed = affinity();
    if (!CPU_ISSET(0, &allowed) || !CPU_ISSET(1, &allowed)) return;
    setenv("HWLOC_SYNTHETIC", "core:1 pu:2", 1);
    setenv("HWLOC_THISSYSTEM", "1", 1);
    const ps_cores *cores = find();
    ck_assert_int_eq(cores->count, 1);
    ck_assert_int_eq(cores->processor[0], 0);
    ps_cores_bind_thread(1);
    ck_assert_int_eq(find()->count, 1);
    ck_assert_int_eq(find()->processor[0], 1);
}
END_TEST

START_TEST(binding_to_a_processor_that_is_not_there_changes_nothing)
{
    const cpu_set_t before = affinity();
    ps_cores_bind_thread(-1);
    ps_cores_bind_thread(CPU_SETSIZE);
    ps_cores_bind_thread(CPU_SETSIZE - 1);
    const cpu_set_t after = affinity();
    if (CPU_ISSET((size_t)CPU_SETSIZE - 1, &before)) return;
    ck_assert(CPU_EQUAL(&before, &after));
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("cores");
    tcase_add_test(tcase, every_core_is_one_that_the_process_may_use);
    tcase_add_test(tcase, asking_twice_gives_the_same);
    tcase_add_test(tcase, a_bound_process_has_one_core);
    tcase_add_test(tcase, different_affinities_have_different_hashes);
    tcase_add_test(tcase, a_core_counts_once_however_many_hardware_threads_it_has);
    tcase_add_test(tcase, binding_to_a_processor_that_is_not_there_changes_nothing);
    Suite *suite = suite_create("base/cores");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
