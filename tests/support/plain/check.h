/* As much of Check as the tests of the kernels use, for machines without its library, such as an emulated
 * one: all tests run in this process, and the first that fails ends it. */
#ifndef PS_TESTS_PLAIN_CHECK_H
#define PS_TESTS_PLAIN_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct TCase {
    int n;
    struct {
        void (*run)(int);
        int first, behind;
    } tests[64];
} TCase, Suite, SRunner;

#define CK_NORMAL 0
#define START_TEST(name)                                                                           \
    static void name(int _i)                                                                       \
    {                                                                                              \
        (void)_i;
#define END_TEST }

#define ck_assert_msg(holds, ...)                                                                  \
    do {                                                                                           \
        if (holds) break;                                                                          \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                            \
        fprintf(stderr, __VA_ARGS__);                                                              \
        fputc('\n', stderr);                                                                       \
        exit(EXIT_FAILURE);                                                                        \
    } while (0)
#define ck_assert(holds)           ck_assert_msg(holds, "%s", #holds)
#define ck_assert_int_eq(a, b)     ck_assert((a) == (b))
#define ck_assert_int_ne(a, b)     ck_assert((a) != (b))
#define ck_assert_int_ge(a, b)     ck_assert((a) >= (b))
#define ck_assert_double_le(a, b)  ck_assert((a) <= (b))
#define ck_assert_double_ge(a, b)  ck_assert((a) >= (b))
#define ck_assert_double_gt(a, b)  ck_assert((a) > (b))
#define ck_assert_uint_eq(a, b)    ck_assert((a) == (b))
#define ck_assert_ptr_eq(a, b)     ck_assert((a) == (b))
#define ck_assert_ptr_null(a)      ck_assert((a) == NULL)
#define ck_assert_ptr_nonnull(a)   ck_assert((a) != NULL)
#define ck_assert_str_eq(a, b)     ck_assert(strcmp(a, b) == 0)
#define suite_create(name)         tcase_create(name)
#define suite_add_tcase(suite, t)  (*(suite) = *(t))
#define tcase_set_timeout(t, s)    ((void)(t))
#define srunner_create(suite)      (suite)
#define srunner_free(runner)       free(runner)
#define srunner_ntests_failed(run) ((void)(run), 0)
#define tcase_add_test(t, name)    tcase_add_loop_test(t, name, 0, 1)

static inline TCase *tcase_create(const char *name)
{
    (void)name;
    return calloc(1, sizeof(TCase));
}

static inline void tcase_add_loop_test(TCase *t, void (*run)(int), int first, int behind)
{
    t->tests[t->n].run = run;
    t->tests[t->n].first = first;
    t->tests[t->n++].behind = behind;
}

static inline void srunner_run_all(SRunner *runner, int how)
{
    int n = 0;
    for (int t = 0; t < runner->n; t++) {
        for (int i = runner->tests[t].first; i < runner->tests[t].behind; i++, n++) {
            runner->tests[t].run(i);
        }
    }
    printf("100%%: Checks: %d, Failures: 0, Errors: %d\n", n, how);
}

#endif
