/* Byte strings, UTF-8 by its definition, and the distance between names. */
#include "base/text.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "../../support/dice.h"
#include "base/mem.h"

START_TEST(an_empty_text_is_an_empty_string)
{
    ps_text text = {0};
    ck_assert_str_eq(ps_text_str(&text), "");
    ps_text_append(&text, NULL, 0);
    ck_assert_str_eq(ps_text_str(&text), "");
    ck_assert_uint_eq(text.len, 0);
    ps_text_release(&text);
    char *taken = ps_text_take(&text);
    ck_assert_str_eq(taken, "");
    ps_mem_free(taken);
}
END_TEST

START_TEST(appended_bytes_stand_in_order_before_a_nul)
{
    ps_text text = {0};
    ps_text_append_str(&text, "ab");
    ps_text_append(&text, "c\0d", 3);
    ps_text_append_char(&text, 'e');
    ps_text_appendf(&text, "%d-%s", 42, "x");
    ck_assert_uint_eq(text.len, 10);
    ck_assert_mem_eq(text.data, "abc\0de42-x\0", 11);
    ps_text_release(&text);
    ck_assert_ptr_null(text.data);
}
END_TEST

START_TEST(clearing_keeps_the_memory_and_taking_gives_it_away)
{
    ps_text text = {0};
    ps_text_append_str(&text, "hello");
    const char *before = text.data;
    ps_text_clear(&text);
    ck_assert_str_eq(ps_text_str(&text), "");
    ps_text_append_str(&text, "you");
    ck_assert_ptr_eq(text.data, before);
    char *taken = ps_text_take(&text);
    ck_assert_str_eq(taken, "you");
    ck_assert_ptr_null(text.data);
    ck_assert_uint_eq(text.len + text.capacity, 0);
    ps_mem_free(taken);
}
END_TEST

START_TEST(long_texts_grow_without_loss)
{
    ps_text text = {0};
    for (int i = 0; i < 20000; i++) {
        ps_text_appendf(&text, "%05d", i);
    }
    ck_assert_uint_eq(text.len, 100000);
    ck_assert_mem_eq(text.data + 5 * 12345, "12345", 5);
    ps_text_appendf(&text, "%*d", 70000, 7); // more than any fixed buffer
    ck_assert_uint_eq(text.len, 170000);
    ck_assert_int_eq(text.data[169999], '7');
    ps_text_release(&text);
}
END_TEST

START_TEST(every_code_point_survives_encoding_and_decoding)
{
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        char bytes[5] = {0};
        const size_t n = ps_utf8_encode(c, bytes);
        const size_t wanted = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        ck_assert_uint_eq(n, wanted);
        const bool surrogate = c >= 0xD800 && c <= 0xDFFF;
        if (ps_utf8_valid_prefix(bytes, n, NULL) != (surrogate ? 0 : n))
            ck_abort_msg("U+%04X", (unsigned)c);
        if (surrogate) continue;
        uint32_t back = 0;
        if (ps_utf8_decode(bytes, n, &back) != n || back != c) ck_abort_msg("U+%04X", (unsigned)c);
    }
}
END_TEST

/* Whether bytes[0..n) is the encoding of one code point, by encoding all that it could be. */
static bool is_character(const unsigned char *bytes, size_t n)
{
    uint32_t c = 0;
    for (size_t i = 0; i < n; i++) {
        c = c << 6 | (bytes[i] & 0x3F);
    }
    c &= n == 1 ? 0x3F : n == 2 ? 0x7FF : n == 3 ? 0xFFFF : 0x1FFFFF;
    if (n == 1) c = bytes[0];
    if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) return false;
    char encoded[4];
    return ps_utf8_encode(c, encoded) == n && memcmp(encoded, bytes, n) == 0;
}

/* All pairs of first bytes, each with continuation, limit and plain bytes behind them. */
START_TEST(only_shortest_forms_are_valid)
{
    static const unsigned char tails[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90,
                                          0x9F, 0xA0, 0xBF, 0xC0, 0xFF};
    for (int pair = 0; pair < 65536; pair++) {
        for (size_t t = 0; t < sizeof tails * sizeof tails; t++) {
            const unsigned char bytes[4] = {(unsigned char)(pair >> 8), (unsigned char)pair,
                                            tails[t / sizeof tails], tails[t % sizeof tails]};
            size_t wanted = 0;
            for (size_t n = 1; n <= 4 && wanted == 0; n++) {
                if (is_character(bytes, n)) wanted = n;
            }
            const size_t n = wanted ? wanted : 4;
            const size_t found = ps_utf8_valid_prefix((const char *)bytes, n, NULL);
            if (found != wanted)
                ck_abort_msg("%02x %02x %02x %02x: %zu, wanted %zu", bytes[0], bytes[1], bytes[2],
                             bytes[3], found, wanted);
        }
    }
}
END_TEST

static void expect_prefix(const char *bytes, size_t wanted, bool wanted_incomplete)
{
    bool incomplete = !wanted_incomplete;
    ck_assert_uint_eq(ps_utf8_valid_prefix(bytes, strlen(bytes), &incomplete), wanted);
    ck_assert_int_eq(incomplete, wanted_incomplete);
}

START_TEST(an_unfinished_character_is_told_from_a_broken_one)
{
    expect_prefix("", 0, false);
    expect_prefix("ab", 2, false);
    expect_prefix("ab\xC3", 2, true);
    expect_prefix("ab\xE2\x82", 2, true);
    expect_prefix("\xF0\x9F\x8E", 0, true);
    expect_prefix("\xF0\x9F\x8E\xB5", 4, false);
    expect_prefix("ab\xE2\x28", 2, false);
    expect_prefix("ab\xED\xA0", 2, false); // a surrogate for certain, although unfinished
    expect_prefix("ab\xF4\x90", 2, false);
    expect_prefix("ab\x80", 2, false);
    expect_prefix("ab\xC0", 2, false);
    expect_prefix("\xC3\xC3\xA9", 0, false);
}
END_TEST

/* The full matrix. */
static int plain_distance(const char *a, const char *b)
{
    static int d[64][64];
    const int la = (int)strlen(a), lb = (int)strlen(b);
    for (int i = 0; i <= la; i++) {
        for (int j = 0; j <= lb; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            d[i][j] = best;
        }
    }
    return d[la][lb];
}

START_TEST(distance_counts_single_edits)
{
    ck_assert_int_eq(ps_text_distance("", ""), 0);
    ck_assert_int_eq(ps_text_distance("", "abc"), 3);
    ck_assert_int_eq(ps_text_distance("kitten", "sitting"), 3);
    for (uint64_t run = 0; run < 2000; run++) {
        dice d = {.seed = run};
        char a[64] = "", b[64] = "";
        const int la = dice_throw(&d, 64), lb = dice_throw(&d, 64);
        for (int i = 0; i < la; i++) {
            a[i] = (char)('a' + dice_throw(&d, 3));
        }
        for (int i = 0; i < lb; i++) {
            b[i] = (char)('a' + dice_throw(&d, 3));
        }
        ck_assert_int_eq(ps_text_distance(a, b), plain_distance(a, b));
    }
}
END_TEST

START_TEST(names_of_64_bytes_are_far_from_everything)
{
    char name[65];
    memset(name, 'a', 64);
    name[64] = '\0';
    ck_assert_int_ge(ps_text_distance(name, "a"), 64);
    ck_assert_int_ge(ps_text_distance("a", name), 64);
    ck_assert_int_ge(ps_text_distance(name, name), 64);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("text");
    tcase_add_test(tcase, an_empty_text_is_an_empty_string);
    tcase_add_test(tcase, appended_bytes_stand_in_order_before_a_nul);
    tcase_add_test(tcase, clearing_keeps_the_memory_and_taking_gives_it_away);
    tcase_add_test(tcase, long_texts_grow_without_loss);
    tcase_add_test(tcase, every_code_point_survives_encoding_and_decoding);
    tcase_add_test(tcase, only_shortest_forms_are_valid);
    tcase_add_test(tcase, an_unfinished_character_is_told_from_a_broken_one);
    tcase_add_test(tcase, distance_counts_single_edits);
    tcase_add_test(tcase, names_of_64_bytes_are_far_from_everything);
    Suite *suite = suite_create("base/text");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
