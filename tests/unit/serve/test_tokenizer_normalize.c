/* Normalizers, and the editions of Unicode behind them. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "serve/tokenizer_parts.h"

/* A text normalized by these components, or the message of the error that was met. */
static char *normalize_with(const char *json, const char *text)
{
    ps_text out = {0}, document = {0};
    json_t *root;
    ps_tok_normalizers normalizers = {0};
    ps_tok_matcher matcher = {0};
    ps_tok_work work = {.matcher = &matcher};
    ps_text_appendf(&document, "{\"normalizer\": %s}", json);
    ck_assert_int_eq(ps_json_parse(document.data, document.len, "test", &root), PS_OK);
    ps_err err = ps_tok_normalizers_read(&normalizers, root, "test");
    ps_tok_work_begin(&work, text, strlen(text), 0);
    if (!err) err = ps_tok_normalize(&normalizers, &work);
    if (err) {
        ps_text_append_str(&out, ps_err_message());
    } else {
        ps_text_append(&out, work.text, work.n);
    }
    ps_tok_work_release(&work);
    ps_tok_matcher_release(&matcher);
    ps_tok_normalizers_release(&normalizers);
    json_decref(root);
    ps_text_release(&document);
    return ps_text_take(&out);
}

static void expect_normal(const char *json, const char *text, const char *wanted)
{
    char *found = normalize_with(json, text);
    ck_assert_msg(strcmp(found, wanted) == 0, "%s of \"%s\":\n  wanted %s\n  found  %s", json, text,
                  wanted, found);
    ps_mem_free(found);
}

START_TEST(nfc_composes_across_ascii)
{
    expect_normal("{\"type\": \"NFC\"}", "xe\xCC\x81y", "x\xC3\xA9y");
    expect_normal("{\"type\": \"NFC\"}", "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", "\xED\x95\x9C");
    expect_normal("{\"type\": \"NFC\"}", "plain", "plain");
}
END_TEST

START_TEST(forms_differ_in_compatibility_and_composition)
{
    expect_normal("{\"type\": \"NFD\"}", "\xC3\xA9\xEF\xAC\x81", "e\xCC\x81\xEF\xAC\x81");
    expect_normal("{\"type\": \"NFKD\"}", "\xC3\xA9\xEF\xAC\x81",
                  "e\xCC\x81"
                  "fi");
    expect_normal("{\"type\": \"NFKC\"}", "e\xCC\x81\xEF\xAC\x81",
                  "\xC3\xA9"
                  "fi");
}
END_TEST

START_TEST(marks_are_put_in_canonical_order)
{
    // U+0301 has class 230, U+0316 class 220.
    expect_normal("{\"type\": \"NFD\"}", "a\xCC\x81\xCC\x96", "a\xCC\x96\xCC\x81");
}
END_TEST

START_TEST(a_long_run_of_marks_takes_linear_time)
{
    ps_text text = {0}, wanted = {0};
    const int n = 1000000;
    ps_text_append_char(&text, 'x');
    ps_text_append_char(&wanted, 'x');
    for (int i = 0; i < n; i++) {
        ps_text_append_str(&text, i % 2 ? "\xCC\x96" : "\xCC\x81");
        ps_text_append_str(&wanted, i < n / 2 ? "\xCC\x96" : "\xCC\x81");
    }
    char *found = normalize_with("{\"type\": \"NFD\"}", text.data);
    ck_assert(strcmp(found, wanted.data) == 0);
    ps_mem_free(found);
    ps_text_release(&wanted);
    ps_text_release(&text);
}
END_TEST

START_TEST(lower_case_is_taken_letter_by_letter)
{
    expect_normal("{\"type\": \"Lowercase\"}", "A\xC3\x89\xC4\xB0\xCE\xA3", // A É İ Σ
                  "a\xC3\xA9i\xCC\x87\xCF\x83");
}
END_TEST

START_TEST(accents_are_marks)
{
    expect_normal("{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFD\"}, {\"type\": "
                  "\"StripAccents\"}]}",
                  "\xC3\xA9t\xC3\xA9", "ete");
}
END_TEST

START_TEST(strip_takes_the_sides_it_is_told)
{
    expect_normal("{\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": false}", " a ",
                  "a ");
    expect_normal("{\"type\": \"Strip\", \"strip_left\": false, \"strip_right\": true}",
                  " a\xE2\x80\x83", " a");
    expect_normal("{\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": true}", " \n", "");
}
END_TEST

START_TEST(replace_takes_literals_and_expressions)
{
    expect_normal("{\"type\": \"Replace\", \"pattern\": {\"String\": \"aa\"}, \"content\": \"b\"}",
                  "aaaxa", "baxa");
    expect_normal(
        "{\"type\": \"Replace\", \"pattern\": {\"Regex\": \" {2,}\"}, \"content\": \" \"}",
        "a   b c", "a b c");
    expect_normal("{\"type\": \"Replace\", \"pattern\": {\"String\": \"\"}, \"content\": \"-\"}",
                  "ab", "-a-b-");
}
END_TEST

START_TEST(nothing_is_put_in_front_of_nothing)
{
    expect_normal("{\"type\": \"Prepend\", \"prepend\": \"_\"}", "a", "_a");
    expect_normal("{\"type\": \"Prepend\", \"prepend\": \"_\"}", "", "");
}
END_TEST

START_TEST(nmt_drops_controls_and_blanks_the_rest)
{
    expect_normal("{\"type\": \"Nmt\"}",
                  "a\x01\tb\xE2\x96\x81\xEF\xBB\xBF"
                  "c",
                  "a b  c");
}
END_TEST

START_TEST(the_byte_alphabet_has_a_character_for_each_byte)
{
    for (int i = 0; i < 256; i++) {
        ck_assert_int_eq(ps_tok_byte_of_char(ps_tok_char_of_byte((unsigned char)i)), i);
    }
    ck_assert_uint_eq(ps_tok_char_of_byte(' '), 0x120);
    ck_assert_uint_eq(ps_tok_char_of_byte('\n'), 0x10A);
    ck_assert_uint_eq(ps_tok_char_of_byte(173), 0x143);
    ck_assert_int_eq(ps_tok_byte_of_char(' '), -1);
    ck_assert_int_eq(ps_tok_byte_of_char(0x144), -1);
    expect_normal("{\"type\": \"ByteLevel\"}", "a \xC3\xA9", "a\xC4\xA0\xC3\x83\xC2\xA9");
}
END_TEST

/* A double array with one rule: "a" becomes "bc". Unit 0 leads to label 'a' at 97; its leaf is at
 * 97 ^ 1 with the value 0. */
static char *charsmap(uint32_t leaf_value, const char *strings, size_t n_strings)
{
    enum { N_UNITS = 128 };
    uint32_t unit[N_UNITS] = {0};
    unit[97] = 97 | 1u << 8 | 1u << 10;
    unit[96] = leaf_value | 1u << 31;
    ps_text blob = {0}, out = {0};
    const uint32_t bytes = sizeof unit;
    ps_text_append(&blob, &bytes, 4);
    ps_text_append(&blob, unit, sizeof unit);
    ps_text_append(&blob, strings, n_strings);
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < blob.len; i += 3) {
        uint32_t bits = 0;
        for (size_t k = 0; k < 3; k++) {
            bits = bits << 8 | (i + k < blob.len ? (unsigned char)blob.data[i + k] : 0);
        }
        for (size_t k = 0; k < 4; k++) {
            const bool there = i + k <= blob.len;
            ps_text_append_char(&out, there ? digits[bits >> (18 - 6 * k) & 63] : '=');
        }
    }
    ps_text_release(&blob);
    ps_text json = {0};
    ps_text_appendf(&json, "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"%s\"}",
                    out.data);
    ps_text_release(&out);
    return ps_text_take(&json);
}

START_TEST(the_rules_of_a_sentencepiece_model_are_applied)
{
    char *json = charsmap(0, "bc", 3);
    expect_normal(json, "xay", "xbcy");
    // The shortest prefix with a rule replaces its whole grapheme cluster.
    expect_normal(json, "xa\xCC\x81y", "xbcy");
    expect_normal(json, "\r\n", "\r\n");
    ps_mem_free(json);
}
END_TEST

START_TEST(a_rule_that_leads_nowhere_is_no_rule)
{
    char *json = charsmap(100, "bc", 3);
    expect_normal(json, "a", "a");
    ps_mem_free(json);
    json = charsmap(0, "\xFF", 2);
    expect_normal(json, "a", "a");
    ps_mem_free(json);
}
END_TEST

START_TEST(rules_that_are_cut_short_are_refused)
{
    expect_normal("{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"AAA\"}", "a",
                  "test: precompiled_charsmap has 2 bytes, an array of 0");
    expect_normal("{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"/////w==\"}", "a",
                  "test: precompiled_charsmap has 4 bytes, an array of 4294967295");
    expect_normal("{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"A-B\"}", "a",
                  "test: precompiled_charsmap is not base64");
}
END_TEST

START_TEST(each_table_knows_its_edition_of_unicode)
{
    ck_assert(ps_tok_is_punctuation(0x2E42) && !ps_tok_is_punctuation(0x2E43));
    ck_assert(ps_tok_is_punctuation('$') && ps_tok_is_punctuation(0xBF));
    ck_assert(!ps_tok_is_punctuation(0x20AC)); // the euro sign is a symbol
    ck_assert(ps_tok_is_mark(0x301) && !ps_tok_is_mark(0x1ABF));
    ck_assert(ps_tok_is_word(0x24D0) && ps_tok_is_word(0x200D) && !ps_tok_is_word(0xB2));
    ck_assert(ps_tok_is_numeric(0xBD) && ps_tok_is_numeric(0x10D40));
    ck_assert(ps_tok_is_space(0x85) && !ps_tok_is_space(0x180E) && !ps_tok_is_space(0x200B));
    ck_assert_uint_eq(ps_tok_small_letter(0x10D50), 0x10D70);
    ck_assert_uint_eq(ps_tok_small_letter(0x1F600), 0x1F600);
    expect_normal("{\"type\": \"NFKC\"}", "\xE3\x8B\xBF", "\xE3\x8B\xBF"); // U+32FF, Unicode 12
}
END_TEST

START_TEST(a_stand_in_takes_as_many_bytes)
{
    int n = 0;
    for (uint32_t c = 0x80; c <= 0x10FFFF; c++) {
        const uint32_t stand_in = ps_tok_stand_in(c);
        if (stand_in == 0) continue;
        char a[4], b[4];
        ck_assert_uint_eq(ps_utf8_encode(c, a), ps_utf8_encode(stand_in, b));
        ck_assert_uint_eq(ps_tok_stand_in(stand_in), 0);
        n++;
    }
    ck_assert_int_eq(n, 10294);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("normalize");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, nfc_composes_across_ascii);
    tcase_add_test(tcase, forms_differ_in_compatibility_and_composition);
    tcase_add_test(tcase, marks_are_put_in_canonical_order);
    tcase_add_test(tcase, a_long_run_of_marks_takes_linear_time);
    tcase_add_test(tcase, lower_case_is_taken_letter_by_letter);
    tcase_add_test(tcase, accents_are_marks);
    tcase_add_test(tcase, strip_takes_the_sides_it_is_told);
    tcase_add_test(tcase, replace_takes_literals_and_expressions);
    tcase_add_test(tcase, nothing_is_put_in_front_of_nothing);
    tcase_add_test(tcase, nmt_drops_controls_and_blanks_the_rest);
    tcase_add_test(tcase, the_byte_alphabet_has_a_character_for_each_byte);
    tcase_add_test(tcase, the_rules_of_a_sentencepiece_model_are_applied);
    tcase_add_test(tcase, a_rule_that_leads_nowhere_is_no_rule);
    tcase_add_test(tcase, rules_that_are_cut_short_are_refused);
    tcase_add_test(tcase, each_table_knows_its_edition_of_unicode);
    tcase_add_test(tcase, a_stand_in_takes_as_many_bytes);
    Suite *suite = suite_create("serve/tokenizer_normalize");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
