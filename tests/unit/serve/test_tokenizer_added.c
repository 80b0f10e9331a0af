/* Added tokens: where they cut a text. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "support/tiny_tokenizer.h"

/* Ids of a text under these added tokens; plain ASCII characters are their own ids. */
static void expect_ids_with(const char *normalizer, const char *added, const char *text,
                            const char *wanted)
{
    char *model = tiny_tokenizer_bpe("", "");
    const tiny_tokenizer parts = {.model = model, .normalizer = normalizer, .added_tokens = added};
    ps_tokenizer *t;
    ck_assert_msg(tiny_tokenizer_open(&parts, &t) == PS_OK, "%s", ps_err_message());
    char *found = tiny_tokenizer_ids(t, text, false);
    ck_assert_msg(strcmp(found, wanted) == 0, "\"%s\" with %s:\n  wanted %s\n  found  %s", text,
                  added, wanted, found);
    ps_mem_free(found);
    ps_tokenizer_free(t);
    ps_mem_free(model);
}

static void expect_ids(const char *added, const char *text, const char *wanted)
{
    expect_ids_with(NULL, added, text, wanted);
}

START_TEST(the_leftmost_and_of_those_the_longest_wins)
{
    static const char added[] = "[{\"id\": 200, \"content\": \"ab\"}, {\"id\": 201, \"content\": "
                                "\"abc\"}, {\"id\": 202, \"content\": \"bcd\"}]";
    expect_ids(added, "abcd", "201 100");
    expect_ids(added, "abd", "200 100");
    expect_ids(added, "xbcd", "120 202");
    expect_ids(added, "ababc", "200 201");
}
END_TEST

START_TEST(a_token_of_the_model_can_be_an_added_one)
{
    expect_ids("[{\"id\": 97, \"content\": \"a\"}]", "bab", "98 97 98");
}
END_TEST

START_TEST(lstrip_and_rstrip_swallow_white_space)
{
    expect_ids("[{\"id\": 200, \"content\": \"<>\", \"lstrip\": true}]", "a \t<> b",
               "97 200 32 98");
    expect_ids("[{\"id\": 200, \"content\": \"<>\", \"rstrip\": true}]",
               "a <> \xE2\x80\x83"
               "b",
               "97 32 200 98");
}
END_TEST

START_TEST(a_token_inside_swallowed_space_is_found_unless_it_swallows_too)
{
    static const char form[] = "[{\"id\": 200, \"content\": \"<>\", \"rstrip\": true}, "
                               "{\"id\": 10, \"content\": \"\\n\", \"lstrip\": %s}]";
    char added[160];
    snprintf(added, sizeof added, form, "false");
    expect_ids(added, "<>\n\n\na", "200 10 10 10 97");
    snprintf(added, sizeof added, form, "true");
    expect_ids(added, "<>\na", "200 97");
}
END_TEST

START_TEST(single_words_stand_alone)
{
    static const char added[] = "[{\"id\": 200, \"content\": \"ab\", \"single_word\": true}]";
    expect_ids(added, "ab", "200");
    expect_ids(added, "(ab)", "40 200 41");
    expect_ids(added, "xab", "120 97 98");
    expect_ids(added, "ab_", "97 98 95");
    expect_ids(added, "ab ab1", "200 32 97 98 49");
}
END_TEST

START_TEST(normalized_tokens_are_found_in_the_normalized_text)
{
    static const char lower[] = "{\"type\": \"Lowercase\"}";
    static const char form[] = "[{\"id\": 200, \"content\": \"Ab\", \"normalized\": %s}]";
    char added[100];
    snprintf(added, sizeof added, form, "true");
    expect_ids_with(lower, added, "AB ab Ab", "200 32 200 32 200");
    snprintf(added, sizeof added, form, "false");
    expect_ids_with(lower, added, "AB ab Ab", "97 98 32 97 98 32 200");
}
END_TEST

START_TEST(tokens_that_are_not_special_are_normalized_by_default)
{
    static const char lower[] = "{\"type\": \"Lowercase\"}";
    expect_ids_with(lower, "[{\"id\": 200, \"content\": \"QQ\"}]", "qq", "200");
    expect_ids_with(lower, "[{\"id\": 200, \"content\": \"QQ\", \"special\": true}]", "qq",
                    "113 113");
}
END_TEST

START_TEST(what_is_not_normalized_is_cut_out_first)
{
    static const char added[] =
        "[{\"id\": 200, \"content\": \"abc\", \"normalized\": true}, {\"id\": 201, \"content\": "
        "\"cd\", \"normalized\": false}]";
    expect_ids(added, "abcd", "97 98 201");
}
END_TEST

START_TEST(runs_of_swallowing_tokens_take_linear_time)
{
    ps_text text = {0};
    for (int i = 0; i < 2000000; i++) {
        ps_text_append_char(&text, '\n');
    }
    char *model = tiny_tokenizer_bpe("", "");
    const tiny_tokenizer parts = {
        .model = model, .added_tokens = "[{\"id\": 10, \"content\": \"\\n\", \"rstrip\": true}]"};
    ps_tokenizer *t;
    ps_tokens ids = {0};
    ck_assert_int_eq(tiny_tokenizer_open(&parts, &t), PS_OK);
    ck_assert_int_eq(ps_tokenizer_encode(t, text.data, text.len, false, &ids), PS_OK);
    ck_assert_uint_eq(ids.n, text.len);
    ps_tokens_release(&ids);
    ps_tokenizer_free(t);
    ps_mem_free(model);
    ps_text_release(&text);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("added");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, the_leftmost_and_of_those_the_longest_wins);
    tcase_add_test(tcase, a_token_of_the_model_can_be_an_added_one);
    tcase_add_test(tcase, lstrip_and_rstrip_swallow_white_space);
    tcase_add_test(tcase, a_token_inside_swallowed_space_is_found_unless_it_swallows_too);
    tcase_add_test(tcase, single_words_stand_alone);
    tcase_add_test(tcase, normalized_tokens_are_found_in_the_normalized_text);
    tcase_add_test(tcase, tokens_that_are_not_special_are_normalized_by_default);
    tcase_add_test(tcase, what_is_not_normalized_is_cut_out_first);
    tcase_add_test(tcase, runs_of_swallowing_tokens_take_linear_time);
    Suite *suite = suite_create("serve/tokenizer_added");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
