/* The directories of a case's tests stand inside one that the parent process makes and removes: in
 * Check's fork mode the teardown of a failed test does not run, the parent's does. */
#include "support/scratch.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

static char outer[64];

static void make_outer(void)
{
    snprintf(outer, sizeof outer, "/tmp/pipestep-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(outer));
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

bool scratch_try_remove(const char *path)
{
    return nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0;
}

void scratch_remove(const char *path)
{
    ck_assert(scratch_try_remove(path));
}

static void remove_outer(void)
{
    scratch_remove(outer);
}

static void enter(void)
{
    char inner[80];
    snprintf(inner, sizeof inner, "%s/XXXXXX", outer);
    ck_assert_ptr_nonnull(mkdtemp(inner));
    ck_assert_int_eq(chdir(inner), 0);
}

TCase *scratch_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);
    tcase_add_unchecked_fixture(tcase, make_outer, remove_outer);
    tcase_add_checked_fixture(tcase, enter, NULL);
    tcase_set_timeout(tcase, 60);
    suite_add_tcase(suite, tcase);
    return tcase;
}

int scratch_run(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

void scratch_write(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    if (n > 0) ck_assert_uint_eq(fwrite(bytes, 1, n, f), n);
    ck_assert_int_eq(fclose(f), 0);
}

void scratch_write_text(const char *path, const char *text)
{
    scratch_write(path, text, strlen(text));
}

char *scratch_read(const char *path, size_t *n)
{
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fseek(f, 0, SEEK_END), 0);
    const long bytes = ftell(f);
    ck_assert_int_ge(bytes, 0);
    rewind(f);
    char *data = ps_mem_new((size_t)bytes + 1, 1);
    ck_assert_uint_eq(fread(data, 1, (size_t)bytes, f), (size_t)bytes);
    fclose(f);
    *n = (size_t)bytes;
    return data;
}

bool scratch_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

int scratch_count(void)
{
    DIR *d = opendir(".");
    ck_assert_ptr_nonnull(d);
    int n = 0;
    while (readdir(d)) {
        n++;
    }
    closedir(d);
    return n - 2; // . and ..
}
