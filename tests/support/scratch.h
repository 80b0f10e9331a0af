/* A directory of a test's own, and what unit tests with files need around it.
 *
 *   int main(void)
 *   {
 *       Suite *suite = suite_create("model/ckpt");
 *       TCase *tcase = scratch_case(suite, "ckpt");
 *       tcase_add_test(tcase, ...);
 *       return scratch_run(suite);
 *   }
 *
 * Each test of such a case runs in an empty directory, which is its working directory, and which
 * goes away with all that is in it, also when the test fails.
 *
 * MPI: local.
 */
#ifndef TESTS_SUPPORT_SCRATCH_H
#define TESTS_SUPPORT_SCRATCH_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>

/* Under the address sanitizer, where the library's many small allocations take most of the time,
 * long searches look at fewer cases. */
#ifdef __SANITIZE_ADDRESS__
enum { SCRATCH_SHARE = 5 };
#else
enum { SCRATCH_SHARE = 1 };
#endif

/* A test case of `suite` with such directories, and a time limit of 60 s for each test. */
TCase *scratch_case(Suite *suite, const char *name);

/* Runs a suite and frees it. Returns the exit status of the program. */
int scratch_run(Suite *suite);

/* A new file, or an old one replaced, with exactly these bytes. */
void scratch_write(const char *path, const void *bytes, size_t n);
void scratch_write_text(const char *path, const char *text);

/* The bytes of a file; owned by the caller (ps_mem_free). */
char *scratch_read(const char *path, size_t *n);

bool scratch_exists(const char *path);

/* Number of entries of the working directory. */
int scratch_count(void);

/* Removes a file, or a directory with all that is in it. */
void scratch_remove(const char *path);

/* The same outside of tests. */
bool scratch_try_remove(const char *path);

/* Fails unless the last error's message is, or contains, this text. */
#define assert_message(text) ck_assert_str_eq(ps_err_message(), (text))
#define assert_mentions(text)                                                                      \
    ck_assert_msg(strstr(ps_err_message(), (text)) != NULL, "\"%s\" does not mention \"%s\"",      \
                  ps_err_message(), (text))

/* Fails with the message unless the call is PS_OK. */
#define assert_ok(call)                                                                            \
    do {                                                                                           \
        const ps_err assert_ok_ = (call);                                                          \
        ck_assert_msg(assert_ok_ == PS_OK, #call ": %s", ps_err_message());                        \
    } while (0)

#endif
