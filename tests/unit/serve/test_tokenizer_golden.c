/* Tokenizers of every kind against the reference data; `make golden` runs the same comparison. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "support/golden_tokenizer.h"

enum { N_KINDS = 22 };

static char *tokenizers_dir(void)
{
    ps_text dir = {0};
    ps_text_appendf(&dir, "%s/tokenizers", golden_root());
    return ps_text_take(&dir);
}

START_TEST(every_reference_case_agrees)
{
    char *root = tokenizers_dir(), **names;
    int n = 0, n_cases = 0, n_failed = 0;
    ck_assert_int_eq(golden_tokenizer_list(root, &names, &n), PS_OK);
    ck_assert_int_ge(n, N_KINDS);
    for (int i = _i; i < n; i += N_KINDS) {
        ps_text dir = {0}, failures = {0};
        ps_text_appendf(&dir, "%s/%s", root, names[i]);
        const ps_err err = golden_tokenizer_check(dir.data, &n_cases, &n_failed, &failures);
        ck_assert_msg(err == PS_OK, "%s: %s", dir.data, ps_err_message());
        ck_assert_msg(n_failed == 0, "%s: %d of %d\n%s", dir.data, n_failed, n_cases,
                      ps_text_str(&failures));
        ck_assert_int_gt(n_cases, 1000);
        ps_text_release(&failures);
        ps_text_release(&dir);
    }
    golden_tokenizer_free_list(names, n);
    ps_mem_free(root);
}
END_TEST

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs(text, f), 0);
    ck_assert_int_eq(fclose(f), 0);
}

/* A tokenizer of two letters, and a wrong expectation in each place. */
START_TEST(wrong_expectations_are_counted_and_shown)
{
    char dir[] = "/tmp/golden_tokenizer_XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(dir));
    write_file(dir, "tokenizer.json",
               "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": []},"
               " \"decoder\": {\"type\": \"Fuse\"}}");
    write_file(dir, "cases.jsonl",
               "{\"text\": \"ab\", \"ids\": [0, 1]}\n{\"text\": \"ab\", \"ids\": [0, 0]}\n");
    write_file(dir, "decode.jsonl",
               "{\"ids\": [1], \"decoded\": \"a\", \"decoded_skip_special\": \"b\"}\n");
    write_file(dir, "stream.jsonl",
               "{\"ids\": [1, 0], \"emitted\": [\"b\", \"b\"], \"tail\": \"x\"}\n");
    int n_cases = 0, n_failed = 0;
    ps_text failures = {0};
    ck_assert_int_eq(golden_tokenizer_check(dir, &n_cases, &n_failed, &failures), PS_OK);
    ck_assert_int_eq(n_cases, 2 * (4 + 4 + 2 + 3));
    ck_assert_int_eq(n_failed, 2 * (4 + 1 + 2));
    ck_assert_ptr_nonnull(strstr(failures.data, "cases.jsonl:2: ids\n  wanted 0 0\n  found  0 1"));
    ps_text_release(&failures);
    static const char *const files[] = {"tokenizer.json", "cases.jsonl", "decode.jsonl",
                                        "stream.jsonl"};
    for (int i = 0; i < 4; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("golden");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, every_reference_case_agrees, 0, N_KINDS);
    tcase_add_test(tcase, wrong_expectations_are_counted_and_shown);
    Suite *suite = suite_create("serve/tokenizer_golden");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
