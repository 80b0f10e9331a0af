/* Regular expressions of Oniguruma, as PCRE2 runs them. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "serve/tokenizer_parts.h"

/* All matches of a regular expression in a text, joined by '|', or the error's message. */
static char *matches_of(const char *regex, const char *text)
{
    ps_text out = {0};
    ps_tok_pattern pattern;
    ps_tok_matcher matcher = {0};
    ps_err err = ps_tok_pattern_regex(&pattern, regex, strlen(regex), "test");
    ps_tok_search search = {0};
    if (!err) ps_tok_search_begin(&search, &pattern, &matcher, text, strlen(text));
    for (bool first = true, found = true; !err && found; first = false) {
        size_t start, end;
        err = ps_tok_search_next(&search, &found, &start, &end);
        if (err || !found) break;
        if (!first) ps_text_append_char(&out, '|');
        ps_text_append(&out, text + start, end - start);
    }
    if (err) {
        ps_text_clear(&out);
        ps_text_append_str(&out, ps_err_message());
    }
    ps_tok_matcher_release(&matcher);
    ps_tok_pattern_release(&pattern);
    return ps_text_take(&out);
}

static void expect_matches(const char *regex, const char *text, const char *wanted)
{
    char *found = matches_of(regex, text);
    ck_assert_msg(strcmp(found, wanted) == 0, "%s in \"%s\":\n  wanted %s\n  found  %s", regex,
                  text, wanted, found);
    ps_mem_free(found);
}

START_TEST(white_space_is_that_of_unicode)
{
    expect_matches("\\s+", "a\t\xC2\x85\xE2\x80\x83 b", "\t\xC2\x85\xE2\x80\x83 ");
    expect_matches("\\s", "\xE1\xA0\x8E", ""); // U+180E is white space for PCRE2 alone
    expect_matches("\\S", "\xE1\xA0\x8E", "\xE1\xA0\x8E");
    expect_matches("[^\\S\\n]+", "\xE1\xA0\x8E \n\t", " |\t");
}
END_TEST

START_TEST(words_are_letters_marks_digits_and_connectors)
{
    expect_matches("\\w+", "e\xCC\x81t\xC3\xA9_2 \xE2\x93\x90 \xC2\xBD-\xE2\x82\xAC",
                   "e\xCC\x81t\xC3\xA9_2|\xE2\x93\x90|\xC2\xBD");
    expect_matches("[\\w]+",
                   "\xC2\xBD"
                   "a",
                   "a");
    expect_matches("\\bt\\w+", "at to the", "to|the");
    expect_matches("\\Bt", "at to", "t");
}
END_TEST

START_TEST(h_is_a_hexadecimal_digit)
{
    expect_matches("\\h+", "xyz1aF gh", "1aF");
    expect_matches("[\\H]+", "12xy", "xy");
}
END_TEST

START_TEST(properties_go_by_loose_names)
{
    expect_matches("\\p{Lu}+", "abCD", "CD");
    expect_matches("\\p{ upper case_letter }", "aB", "B");
    expect_matches("\\p{^L}+", "a12b", "12");
    expect_matches("\\P{L}+", "a12b", "12");
    expect_matches("\\p{Han}+", "\xE6\x97\xA5\xE6\x9C\xACx", "\xE6\x97\xA5\xE6\x9C\xAC");
    expect_matches("\\p{Nope}", "a",
                   "test: an unknown property in the regular expression \\p{Nope}");
}
END_TEST

START_TEST(a_script_is_not_its_extensions)
{
    // U+3001, the ideographic comma, is Common, but extends to Han.
    expect_matches("\\p{Han}", "\xE3\x80\x81", "");
}
END_TEST

START_TEST(classes_nest_and_intersect)
{
    expect_matches("[a[bc]d]+", "xabcdy", "abcd");
    expect_matches("[a-z&&[^aeiou]]+", "hello", "h|ll");
    expect_matches("[^a-z&&[^q]]+", "aqB1", "qB1");
    expect_matches("[\\p{L}&&[^\\p{Han}]]+",
                   "ab\xE6\x97\xA5"
                   "c",
                   "ab|c");
    expect_matches("[^(\\s|[.,!])]+", "ab|c (d.e", "ab|c|d|e");
    expect_matches("[x[^a-y]]+", "axyz", "x|z");
    expect_matches("[]a]+", "[]a", "]a");
}
END_TEST

START_TEST(posix_brackets_cover_unicode)
{
    expect_matches("[[:punct:]]+", "a+\xE2\x82\xAC!b", "+\xE2\x82\xAC!");
    expect_matches("[[:alpha:]]+", "1\xC3\xA9t2", "\xC3\xA9t");
    expect_matches("[[:^digit:]]+", "12a", "a");
}
END_TEST

START_TEST(a_plus_behind_an_interval_repeats_it)
{
    expect_matches("\\p{N}{1,3}+", "1234567", "1234567");
    expect_matches("\\p{N}{1,3}", "1234567", "123|456|7");
    expect_matches("a{2}?b", "aab b", "aab|b");
    expect_matches("(?:ab){,2}c", "ababc c", "ababc|c");
    expect_matches("a{x}", "a{x}", "a{x}");
}
END_TEST

START_TEST(m_lets_the_dot_match_newlines)
{
    expect_matches("(?m:a.b)", "a\nb", "a\nb");
    expect_matches("a.b", "a\nb", "");
    expect_matches("^b$", "a\nb\nc", "b");
}
END_TEST

START_TEST(i_reaches_to_the_end_of_its_group)
{
    expect_matches("x(?i)a|b", "xA xB", "xA|xB");
    expect_matches("(?i:'S|'ll)", "'s 'LL", "'s|'LL");
    expect_matches("((?i)a)b", "Ab AB", "Ab");
}
END_TEST

START_TEST(escapes_name_characters)
{
    expect_matches("\\u65E5\\x{672C}", "\xE6\x97\xA5\xE6\x9C\xAC", "\xE6\x97\xA5\xE6\x9C\xAC");
    expect_matches("[\\t\\-\\]]+", "a\t-]b", "\t-]");
    expect_matches("\\v", "a\x0B\n", "\x0B");
}
END_TEST

START_TEST(what_has_no_sure_meaning_is_refused)
{
    static const char *const regexes[] = {"\\X",   "(?~a)", "(?x: a)", "[a", "[\\",     "\\",
                                          "\\p{L", "a)",    "\\xE4",   "[[", "[a&&[b]", "\\c"};
    for (size_t i = 0; i < sizeof regexes / sizeof *regexes; i++) {
        ps_tok_pattern pattern;
        const ps_err err = ps_tok_pattern_regex(&pattern, regexes[i], strlen(regexes[i]), "test");
        ck_assert_msg(err == PS_ERR_UNSUPPORTED, "%s: %s", regexes[i], ps_err_name(err));
        ck_assert_ptr_nonnull(strstr(ps_err_message(), "in the regular expression"));
    }
}
END_TEST

START_TEST(what_does_not_compile_says_why)
{
    expect_matches("(a", "a",
                   "test: the regular expression (a does not compile: missing closing "
                   "parenthesis");
}
END_TEST

START_TEST(endless_backtracking_is_an_error)
{
    ps_text text = {0};
    for (int i = 0; i < 60; i++) {
        ps_text_append_char(&text, 'a');
    }
    char *found = matches_of("(?:a|a)+(?:a|a)+(?:a|a)+$(?<!a)", text.data);
    ck_assert_ptr_nonnull(strstr(found, "a regular expression gave up on the text after byte 0"));
    ps_mem_free(found);
    ps_text_release(&text);
}
END_TEST

START_TEST(characters_younger_than_the_library_are_known)
{
    expect_matches("\\p{S}", "\xF0\x9F\xAB\xA8", "\xF0\x9F\xAB\xA8"); // U+1FAE8, Unicode 15
    expect_matches("\\p{Han}+", "\xF0\xB1\x8D\x90\xF0\xAE\xAF\xB0",   // U+31350, U+2EBF0
                   "\xF0\xB1\x8D\x90\xF0\xAE\xAF\xB0");
    expect_matches("\\p{Lu}", "\xEA\x9F\x8B", "\xEA\x9F\x8B"); // U+A7CB, Unicode 16
}
END_TEST

/* Any bytes are either refused or searched for; nothing else happens. */
START_TEST(random_expressions_do_no_harm)
{
    static const char alphabet[] = "ab[]^-&(){}?*+|\\pLs:i,1.$<=!>\"é";
    unsigned state = (unsigned)_i * 2654435761u + 1;
    char regex[24];
    size_t n = 0;
    while (n < sizeof regex - 3) {
        state = state * 1664525u + 1013904223u;
        const size_t at = (state >> 16) % (sizeof alphabet - 3); // not the é's bytes apart
        regex[n++] = alphabet[at];
        if ((state >> 8) % 13 == 0) break;
    }
    regex[n] = '\0';
    ps_mem_free(matches_of(regex, "ab]-1 (a)"));
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("regex");
    tcase_add_test(tcase, white_space_is_that_of_unicode);
    tcase_add_test(tcase, words_are_letters_marks_digits_and_connectors);
    tcase_add_test(tcase, h_is_a_hexadecimal_digit);
    tcase_add_test(tcase, properties_go_by_loose_names);
    tcase_add_test(tcase, a_script_is_not_its_extensions);
    tcase_add_test(tcase, classes_nest_and_intersect);
    tcase_add_test(tcase, posix_brackets_cover_unicode);
    tcase_add_test(tcase, a_plus_behind_an_interval_repeats_it);
    tcase_add_test(tcase, m_lets_the_dot_match_newlines);
    tcase_add_test(tcase, i_reaches_to_the_end_of_its_group);
    tcase_add_test(tcase, escapes_name_characters);
    tcase_add_test(tcase, what_has_no_sure_meaning_is_refused);
    tcase_add_test(tcase, what_does_not_compile_says_why);
    tcase_add_test(tcase, endless_backtracking_is_an_error);
    tcase_add_test(tcase, characters_younger_than_the_library_are_known);
    tcase_add_loop_test(tcase, random_expressions_do_no_harm, 0, 400);
    Suite *suite = suite_create("serve/tokenizer_regex");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
