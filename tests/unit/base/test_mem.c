/* Checked sizes, small allocations, regions, arenas, and what the system lets us have. */
#include "base/mem.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

START_TEST(products_and_sums_that_overflow_are_told)
{
    size_t out = 7;
    ck_assert(ps_mem_mul(6, 7, &out) && out == 42);
    ck_assert(ps_mem_add(SIZE_MAX - 1, 1, &out) && out == SIZE_MAX);
    out = 7;
    ck_assert(!ps_mem_mul(SIZE_MAX / 2, 3, &out));
    ck_assert(!ps_mem_mul((size_t)1 << 32, (size_t)1 << 32, &out));
    ck_assert(!ps_mem_add(SIZE_MAX, 1, &out));
    ck_assert_uint_eq(out, 7);
    ck_assert(ps_mem_mul(0, SIZE_MAX, &out) && out == 0);
}
END_TEST

START_TEST(rounding_up_reaches_the_next_multiple)
{
    ck_assert_uint_eq(ps_mem_round_up(0, 64), 0);
    ck_assert_uint_eq(ps_mem_round_up(1, 64), 64);
    ck_assert_uint_eq(ps_mem_round_up(64, 64), 64);
    ck_assert_uint_eq(ps_mem_round_up(10, 3), 12);
}
END_TEST

START_TEST(new_memory_is_zero_and_never_null)
{
    int *array = ps_mem_new(1000, sizeof *array);
    for (int i = 0; i < 1000; i++) {
        ck_assert_int_eq(array[i], 0);
    }
    ps_mem_free(array);
    void *nothing = ps_mem_new(0, 8);
    ck_assert_ptr_nonnull(nothing);
    ps_mem_free(nothing);
    ps_mem_free(NULL);
}
END_TEST

START_TEST(growing_keeps_what_was_there_and_doubles)
{
    int *array = NULL;
    size_t capacity = 0, moves = 0;
    for (size_t i = 0; i < 10000; i++) {
        const size_t before = capacity;
        array = ps_mem_grow(array, &capacity, i + 1, sizeof *array);
        moves += capacity != before;
        ck_assert_uint_ge(capacity, i + 1);
        array[i] = (int)i;
    }
    ck_assert_uint_le(moves, 12);
    for (int i = 0; i < 10000; i++) {
        ck_assert_int_eq(array[i], i);
    }
    int *same = ps_mem_grow(array, &capacity, 3, sizeof *array);
    ck_assert_ptr_eq(same, array);
    ps_mem_free(array);
}
END_TEST

START_TEST(copies_end_with_nul)
{
    char *text = ps_mem_copy_text("abc"), *bytes = ps_mem_copy_bytes("a\0b", 3);
    char *none = ps_mem_copy_bytes(NULL, 0);
    ck_assert_str_eq(text, "abc");
    ck_assert_mem_eq(bytes, "a\0b\0", 4);
    ck_assert_str_eq(none, "");
    ps_mem_free(text);
    ps_mem_free(bytes);
    ps_mem_free(none);
}
END_TEST

START_TEST(exhaustion_says_one_line_and_exits_with_one)
{
    int to_parent[2];
    ck_assert_int_eq(pipe(to_parent), 0);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        dup2(to_parent[1], STDERR_FILENO);
        size_t capacity = 0;
        ps_mem_grow(NULL, &capacity, SIZE_MAX, 16);
        _exit(77);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    close(to_parent[1]);
    char line[256];
    const ssize_t n = read(to_parent[0], line, sizeof line - 1);
    ck_assert_int_gt(n, 0);
    line[n] = '\0';
    ck_assert_ptr_eq(strstr(line, "pipestep: error: out of memory: wanted "), line);
    ck_assert_ptr_eq(strchr(line, '\n'), line + n - 1);
    close(to_parent[0]);
}
END_TEST

START_TEST(a_region_is_zero_aligned_and_of_whole_pages)
{
    static const size_t sizes[] = {1, 4096, 4097, (size_t)2 << 20, ((size_t)5 << 20) + 1};
    ps_region region;
    ck_assert_int_eq(ps_region_take(sizes[_i], "block", &region), PS_OK);
    ck_assert_uint_eq(region.bytes, sizes[_i]);
    ck_assert_uint_ge(region.mapped, region.bytes);
    ck_assert_uint_eq(region.mapped % 4096, 0);
    ck_assert_uint_eq((uintptr_t)region.base % 4096, 0);
    const unsigned char *bytes = region.base;
    for (size_t i = 0; i < region.mapped; i++) {
        if (bytes[i] != 0) ck_abort_msg("byte %zu is %d", i, bytes[i]);
    }
    ps_region_release(&region);
    ck_assert_ptr_null(region.base);
    ps_region_release(&region);
}
END_TEST

START_TEST(a_region_of_nothing_is_null)
{
    ps_region region;
    ck_assert_int_eq(ps_region_take(0, "nothing", &region), PS_OK);
    ck_assert_ptr_null(region.base);
    ps_region_release(&region);
}
END_TEST

START_TEST(a_region_that_cannot_be_is_an_error_with_its_name)
{
    ps_region region;
    ck_assert_int_eq(ps_region_take((size_t)1 << 60, "cache", &region), PS_ERR_NOMEM);
    ck_assert_ptr_nonnull(strstr(ps_err_message(), "cache: no 1099511627776.0 MiB"));
    ck_assert_ptr_null(region.base);
    ck_assert_int_eq(ps_region_take(SIZE_MAX - 5, "cache", &region), PS_ERR_NOMEM);
    ck_assert_ptr_nonnull(strstr(ps_err_message(), "overflows"));
}
END_TEST

/* The same layout, counted or real. */
static void lay_out(ps_arena *arena, void *out[4])
{
    out[0] = ps_arena_take(arena, 3, 1);
    out[1] = ps_arena_take(arena, 0, 8);
    out[2] = ps_arena_take(arena, 100, 8);
    out[3] = ps_arena_take(arena, 1, 64);
}

START_TEST(a_counting_arena_gives_the_size_of_a_real_one)
{
    void *p[4];
    ps_arena counting = ps_arena_counting();
    lay_out(&counting, p);
    ck_assert_ptr_null(p[0]);
    ck_assert_uint_eq(counting.used, 64 + 832 + 64);
    ps_region region;
    ck_assert_int_eq(ps_region_take(counting.used, "arena", &region), PS_OK);
    ps_arena real = ps_arena_over(&region);
    lay_out(&real, p);
    ck_assert_uint_eq(real.used, counting.used);
    ck_assert_ptr_eq(p[0], region.base);
    ck_assert_ptr_eq(p[2], (char *)region.base + 64);
    ck_assert_ptr_eq(p[3], (char *)region.base + 64 + 832);
    for (int i = 0; i < 4; i++) {
        ck_assert_uint_eq((uintptr_t)p[i] % PS_MEM_ALIGN, 0);
    }
    ps_region_release(&region);
}
END_TEST

static int status_of_taking(size_t count, size_t size)
{
    const pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr)) _exit(77);
        char block[128];
        ps_arena arena = {.base = block, .bytes = sizeof block, .used = 64};
        ps_arena_take(&arena, count, size);
        _exit(0);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return status;
}

START_TEST(an_arena_that_is_too_small_is_an_assertion)
{
    ck_assert(WIFEXITED(status_of_taking(64, 1)));
    ck_assert(WIFSIGNALED(status_of_taking(65, 1)));
    ck_assert(WIFSIGNALED(status_of_taking(SIZE_MAX, 2)));
    ck_assert(WIFSIGNALED(status_of_taking(SIZE_MAX, 1)));
}
END_TEST

START_TEST(the_limit_is_that_of_the_machine_or_less)
{
    const char *source = NULL;
    const size_t machine = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    const size_t limit = ps_mem_limit(&source);
    ck_assert_uint_gt(limit, 0);
    ck_assert_uint_le(limit, machine);
    ck_assert_ptr_nonnull(source);
    ck_assert_uint_eq(ps_mem_limit(NULL), limit);
}
END_TEST

/* A sanitizer's shadow counts as address space: there is then nothing to test. */
START_TEST(an_address_space_limit_counts)
{
    const size_t wanted = ps_mem_limit(NULL) / 4096 * 4096 - 4096;
    FILE *f = fopen("/proc/self/statm", "re");
    unsigned long long pages = 0;
    ck_assert(f && fscanf(f, "%llu", &pages) == 1);
    fclose(f);
    if (pages * 4096 > wanted / 2) return;
    struct rlimit before, limited;
    ck_assert_int_eq(getrlimit(RLIMIT_AS, &before), 0);
    limited = before;
    limited.rlim_cur = wanted;
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &limited), 0);
    const char *source = "";
    const size_t found = ps_mem_limit(&source);
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &before), 0);
    ck_assert_uint_eq(found, wanted);
    ck_assert_str_eq(source, "RLIMIT_AS");
}
END_TEST

START_TEST(touched_memory_shows_in_the_resident_size)
{
    const size_t bytes = (size_t)32 << 20, before = ps_mem_resident();
    ps_region region;
    ck_assert_uint_gt(before, 0);
    ck_assert_int_eq(ps_region_take(bytes, "touched", &region), PS_OK);
    memset(region.base, 1, bytes);
    ck_assert_uint_ge(ps_mem_resident(), before + bytes / 2);
    ps_region_release(&region);
    ck_assert_uint_lt(ps_mem_resident(), before + bytes / 2);
    ck_assert_uint_ge(ps_mem_peak_resident(), before + bytes / 2);
}
END_TEST

START_TEST(a_reserved_region_takes_pages_as_they_are_touched)
{
    const size_t bytes = (size_t)64 << 20, before = ps_mem_resident(), data = ps_mem_data();
    ps_region region;
    ck_assert_int_eq(ps_region_reserve(bytes, "reserved", &region), PS_OK);
    ck_assert_uint_lt(ps_mem_resident(), before + bytes / 4);
    ck_assert_uint_ge(ps_mem_data(), data + bytes);
    memset(region.base, 1, bytes / 2);
    ck_assert_uint_ge(ps_mem_resident(), before + bytes / 2);
    ck_assert_uint_lt(ps_mem_resident(), before + bytes / 2 + bytes / 4);
    ps_region_release(&region);
    ck_assert_uint_lt(ps_mem_data(), data + bytes);
}
END_TEST

START_TEST(available_memory_is_less_than_the_machines)
{
    const long pages = sysconf(_SC_PHYS_PAGES);
    ck_assert_uint_gt(ps_mem_available(), 0);
    ck_assert_uint_le(ps_mem_available(), (size_t)pages * (size_t)sysconf(_SC_PAGESIZE));
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("mem");
    tcase_add_test(tcase, products_and_sums_that_overflow_are_told);
    tcase_add_test(tcase, rounding_up_reaches_the_next_multiple);
    tcase_add_test(tcase, new_memory_is_zero_and_never_null);
    tcase_add_test(tcase, growing_keeps_what_was_there_and_doubles);
    tcase_add_test(tcase, copies_end_with_nul);
    tcase_add_test(tcase, exhaustion_says_one_line_and_exits_with_one);
    tcase_add_loop_test(tcase, a_region_is_zero_aligned_and_of_whole_pages, 0, 5);
    tcase_add_test(tcase, a_region_of_nothing_is_null);
    tcase_add_test(tcase, a_region_that_cannot_be_is_an_error_with_its_name);
    tcase_add_test(tcase, a_counting_arena_gives_the_size_of_a_real_one);
    tcase_add_test(tcase, an_arena_that_is_too_small_is_an_assertion);
    tcase_add_test(tcase, the_limit_is_that_of_the_machine_or_less);
    tcase_add_test(tcase, an_address_space_limit_counts);
    tcase_add_test(tcase, touched_memory_shows_in_the_resident_size);
    tcase_add_test(tcase, a_reserved_region_takes_pages_as_they_are_touched);
    tcase_add_test(tcase, available_memory_is_less_than_the_machines);
    Suite *suite = suite_create("base/mem");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
