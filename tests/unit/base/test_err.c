/* Codes, and the one message of a thread. */
#include "base/err.h"

#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

START_TEST(failing_returns_the_code_and_keeps_the_message)
{
    ck_assert_int_eq(PS_FAIL(PS_ERR_SHAPE, "%s is [%d], wanted [%d]", "x", 3, 4), PS_ERR_SHAPE);
    ck_assert_str_eq(ps_err_message(), "x is [3], wanted [4]");
    ck_assert_int_eq(PS_FAIL(PS_ERR_IO, "next"), PS_ERR_IO);
    ck_assert_str_eq(ps_err_message(), "next");
}
END_TEST

START_TEST(a_message_too_long_is_cut_and_terminated)
{
    char longer[2 * PS_ERR_MESSAGE_BYTES];
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    ck_assert_int_eq(PS_FAIL(PS_ERR_FORMAT, "%s", longer), PS_ERR_FORMAT);
    ck_assert_uint_eq(strlen(ps_err_message()), PS_ERR_MESSAGE_BYTES - 1);
}
END_TEST

static void *fail_elsewhere(void *seen)
{
    strcpy(seen, ps_err_message());
    (void)PS_FAIL(PS_ERR_LIMIT, "of the other thread");
    return NULL;
}

START_TEST(each_thread_has_its_own_message)
{
    char seen[PS_ERR_MESSAGE_BYTES] = "?";
    (void)PS_FAIL(PS_ERR_IO, "of this thread");
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, fail_elsewhere, seen), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_str_eq(seen, "");
    ck_assert_str_eq(ps_err_message(), "of this thread");
}
END_TEST

START_TEST(every_code_has_a_name_of_its_own)
{
    for (int a = 0; a < PS_ERR_COUNT; a++) {
        ck_assert_ptr_nonnull(ps_err_name((ps_err)a));
        ck_assert_uint_gt(strlen(ps_err_name((ps_err)a)), 0);
        for (int b = 0; b < a; b++) {
            ck_assert_str_ne(ps_err_name((ps_err)a), ps_err_name((ps_err)b));
        }
    }
}
END_TEST

START_TEST(only_success_exits_with_zero)
{
    ck_assert_int_eq(ps_err_exit_status(PS_OK), 0);
    ck_assert_int_eq(ps_err_exit_status(PS_ERR_USAGE), 2);
    ck_assert_int_eq(ps_err_exit_status(PS_ERR_SAVED), 75);
    // As a shell has it of a process that the signal ended.
    ck_assert_int_eq(ps_err_exit_status(PS_ERR_INTERRUPTED), 128 + SIGINT);
    ck_assert_int_eq(ps_err_exit_status(PS_ERR_TERMINATED), 128 + SIGTERM);
    for (int code = 1; code < PS_ERR_COUNT; code++) {
        if (code == PS_ERR_INTERRUPTED || code == PS_ERR_TERMINATED) continue;
        ck_assert_int_ge(ps_err_exit_status((ps_err)code), 1);
        ck_assert_int_le(ps_err_exit_status((ps_err)code), 125);
    }
}
END_TEST

static ps_err try_it(ps_err code, int *reached)
{
    *reached = 0;
    PS_TRY(code);
    *reached = 1;
    return PS_OK;
}

START_TEST(try_returns_at_the_first_error)
{
    int reached;
    ck_assert_int_eq(try_it(PS_OK, &reached), PS_OK);
    ck_assert_int_eq(reached, 1);
    ck_assert_int_eq(try_it(PS_ERR_LOST, &reached), PS_ERR_LOST);
    ck_assert_int_eq(reached, 0);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("err");
    tcase_add_test(tcase, failing_returns_the_code_and_keeps_the_message);
    tcase_add_test(tcase, a_message_too_long_is_cut_and_terminated);
    tcase_add_test(tcase, each_thread_has_its_own_message);
    tcase_add_test(tcase, every_code_has_a_name_of_its_own);
    tcase_add_test(tcase, only_success_exits_with_zero);
    tcase_add_test(tcase, try_returns_at_the_first_error);
    Suite *suite = suite_create("base/err");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
