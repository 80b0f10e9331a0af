/* Lines and token ids as they are typed. */
#include "tool/input.h"

#include <string.h>

#include "base/mem.h"
#include "support/scratch.h"

static void expect_ids(const char *text, const char *wanted)
{
    ps_tokens ids = {0};
    ps_text found = {0};
    // In a block of its own, without a terminator, for a sanitizer to see.
    char *copy = ps_mem_new(strlen(text), 1);
    memcpy(copy, text, strlen(text));
    const ps_err err = ps_input_parse_ids(copy, strlen(text), "f", 3, &ids);
    ps_mem_free(copy);
    if (err) ps_text_append_str(&found, ps_err_message());
    for (size_t i = 0; i < ids.n && !err; i++) {
        ps_text_appendf(&found, i ? " %d" : "%d", ids.ids[i]);
    }
    ck_assert_str_eq(ps_text_str(&found), wanted);
    ps_text_release(&found);
    ps_tokens_release(&ids);
}

START_TEST(ids_are_separated_by_blanks_or_commas)
{
    expect_ids("1 2 3", "1 2 3");
    expect_ids("  7,8 ,9\t10\r", "7 8 9 10");
    expect_ids("", "");
    expect_ids(" , ,", "");
    expect_ids("0 00012 2147483647", "0 12 2147483647");
}
END_TEST

START_TEST(what_is_not_an_id_is_named_with_its_place)
{
    expect_ids("1 x", "f:3: \"x\" at column 3 is not a token id");
    expect_ids("12a 4", "f:3: \"12a 4\" at column 1 is not a token id");
    expect_ids("4 -1", "f:3: \"-1\" at column 3 is not a token id");
    expect_ids("2147483648", "f:3: \"2147483648\" at column 1 is not a token id");
    expect_ids("1 99999999999999999999999999", "f:3: \"99999999999999999999\" at column 3 is not a "
                                               "token id");
    expect_ids("1.5", "f:3: \"1.5\" at column 1 is not a token id");
}
END_TEST

/* What stands on the lines behind is not shown as part of it. */
START_TEST(a_message_ends_with_its_line)
{
    ps_tokens ids = {0};
    ck_assert_int_eq(ps_input_parse_ids("5 y\n6 7", 3, "f", 1, &ids), PS_ERR_FORMAT);
    assert_message("f:1: \"y\" at column 3 is not a token id");
    ps_tokens_release(&ids);
}
END_TEST

START_TEST(lines_end_with_a_line_end_or_with_the_text)
{
    static const char *const wanted[] = {"one", "", "three \r", "four"};
    ps_text text = {0};
    const char *line;
    size_t at = 0, n;
    ps_text_append_str(&text, "one\n\nthree \r\nfour");
    for (int i = 0; i < 4; i++) {
        ck_assert(ps_input_next_line(&text, &at, &line, &n));
        ck_assert_uint_eq(n, strlen(wanted[i]));
        ck_assert_mem_eq(line, wanted[i], n);
    }
    ck_assert(!ps_input_next_line(&text, &at, &line, &n));
    ps_text_release(&text);
}
END_TEST

START_TEST(the_end_of_a_last_line_is_no_line_of_its_own)
{
    ps_text text = {0};
    const char *line;
    size_t at = 0, n;
    ck_assert(!ps_input_next_line(&text, &at, &line, &n));
    ps_text_append_str(&text, "one\n");
    ck_assert(ps_input_next_line(&text, &at, &line, &n));
    ck_assert(!ps_input_next_line(&text, &at, &line, &n));
    ps_text_release(&text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/input");
    TCase *tcase = tcase_create("input");
    tcase_add_test(tcase, ids_are_separated_by_blanks_or_commas);
    tcase_add_test(tcase, what_is_not_an_id_is_named_with_its_place);
    tcase_add_test(tcase, a_message_ends_with_its_line);
    tcase_add_test(tcase, lines_end_with_a_line_end_or_with_the_text);
    tcase_add_test(tcase, the_end_of_a_last_line_is_no_line_of_its_own);
    suite_add_tcase(suite, tcase);
    return scratch_run(suite);
}
