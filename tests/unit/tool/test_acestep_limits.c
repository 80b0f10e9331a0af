/* What is refused, and how it is said. */
#include "tool/acestep/limits.h"

#include <string.h>

#include "support/scratch.h"

/* `n` characters that take three bytes each. */
static ps_text characters(size_t n)
{
    ps_text text = {0};
    for (size_t i = 0; i < n; i++) {
        ps_text_append_str(&text, "夜");
    }
    return text;
}

START_TEST(texts_are_measured_in_characters)
{
    ps_text caption = characters(511), lyrics = characters(4095);
    ck_assert_int_eq(ps_acestep_check_caption("--caption", ps_span_of_text(&caption)), PS_OK);
    ck_assert_int_eq(ps_acestep_check_lyrics("lyrics.txt", ps_span_of_text(&lyrics)), PS_OK);
    ps_text_append_char(&caption, 'x');
    ps_text_append_char(&lyrics, 'x');
    ck_assert_int_eq(ps_acestep_check_caption("--caption", ps_span_of_text(&caption)),
                     PS_ERR_LIMIT);
    assert_message("--caption: has 512 characters, wanted at most 511");
    ck_assert_int_eq(ps_acestep_check_lyrics("lyrics.txt", ps_span_of_text(&lyrics)), PS_ERR_LIMIT);
    assert_message("lyrics.txt: has 4096 characters, wanted at most 4095");
    ps_text_release(&caption);
    ps_text_release(&lyrics);
}
END_TEST

START_TEST(bytes_that_are_not_utf8_are_refused_everywhere)
{
    const ps_span bad = ps_span_of("ab\xFFz");
    const char *out;
    ck_assert_int_eq(ps_acestep_check_caption("c", bad), PS_ERR_FORMAT);
    assert_message("c: not UTF-8: byte 2 is 0xff");
    ck_assert_int_eq(ps_acestep_check_lyrics("l", bad), PS_ERR_FORMAT);
    ck_assert_int_eq(ps_acestep_check_keyscale("k", bad), PS_ERR_FORMAT);
    ck_assert_int_eq(ps_acestep_check_language("l", bad), PS_ERR_FORMAT);
    ck_assert_int_eq(ps_acestep_read_timesignature("t", bad, &out), PS_ERR_FORMAT);
}
END_TEST

START_TEST(numbers_have_their_ranges)
{
    static const double good_bpm[] = {30, 300}, bad_bpm[] = {29, 301, 120.5, -1, 1e300};
    static const double good_duration[] = {10, 12.5, 600}, bad_duration[] = {9.99, 600.01, 0};
    for (size_t i = 0; i < 2; i++) {
        ck_assert_int_eq(ps_acestep_check_bpm("--bpm", good_bpm[i]), PS_OK);
    }
    for (size_t i = 0; i < 5; i++) {
        ck_assert_int_eq(ps_acestep_check_bpm("--bpm", bad_bpm[i]), PS_ERR_USAGE);
    }
    ck_assert_int_eq(ps_acestep_check_bpm("--bpm", 12), PS_ERR_USAGE);
    assert_message("--bpm: 12 beats a minute, wanted a whole number from 30 to 300");
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(ps_acestep_check_duration("d", good_duration[i]), PS_OK);
        ck_assert_int_eq(ps_acestep_check_duration("d", bad_duration[i]), PS_ERR_USAGE);
    }
    assert_message("d: 0 seconds, wanted 10 to 600");
}
END_TEST

START_TEST(all_seventy_keys_are_known_and_no_others)
{
    static const char *const signs[] = {"", "#", "b", "♯", "♭"}, *const modes[] = {"major",
                                                                                   "minor"};
    static const char *const bad[] = {"",        "H minor", "a minor", "C",         "C  major",
                                      "C Major", "Cm",      "C# ",     "C## major", "C major "};
    for (int note = 'A'; note <= 'G'; note++) {
        for (size_t i = 0; i < 10; i++) {
            ps_text key = {0};
            ps_text_appendf(&key, "%c%s %s", note, signs[i % 5], modes[i / 5]);
            ck_assert_int_eq(ps_acestep_check_keyscale("k", ps_span_of_text(&key)), PS_OK);
            ps_text_release(&key);
        }
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_eq(ps_acestep_check_keyscale("--keyscale", ps_span_of(bad[i])), PS_ERR_USAGE);
    }
    ck_assert_int_eq(ps_acestep_check_keyscale("--keyscale", ps_span_of("H minor")), PS_ERR_USAGE);
    assert_message("--keyscale: \"H minor\" is no key, wanted A to G, then nothing, # or b, a "
                   "blank, and major or minor: F# minor");
}
END_TEST

START_TEST(languages_are_codes_of_a_list)
{
    static const char *const good[] = {"ar", "en", "zh", "yue", "unknown"};
    for (size_t i = 0; i < 5; i++) {
        ck_assert_int_eq(ps_acestep_check_language("l", ps_span_of(good[i])), PS_OK);
    }
    ck_assert_int_eq(ps_acestep_check_language("l", ps_span_of("EN")), PS_ERR_USAGE);
    ck_assert_int_eq(ps_acestep_check_language("--language", ps_span_of("klingon")), PS_ERR_USAGE);
    assert_mentions(
        "--language: \"klingon\" is no language that the model knows, wanted one of ar az");
    assert_mentions(" zh unknown");
}
END_TEST

START_TEST(time_signatures_are_read_as_musicians_write_them)
{
    static const char *const cases[][2] = {{"2", "2"},   {"2/4", "2"}, {"3/4", "3"},
                                           {"4/4", "4"}, {"6/8", "6"}, {"6", "6"}};
    const char *out;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ck_assert_int_eq(ps_acestep_read_timesignature("t", ps_span_of(cases[i][0]), &out), PS_OK);
        ck_assert_str_eq(out, cases[i][1]);
    }
    ck_assert_int_eq(ps_acestep_read_timesignature("--timesignature", ps_span_of("7/8"), &out),
                     PS_ERR_USAGE);
    assert_message("--timesignature: \"7/8\" is no time signature, wanted 2, 3, 4 or 6");
}
END_TEST

START_TEST(a_long_value_is_shown_up_to_a_whole_character)
{
    ps_text long_key = characters(100);
    ck_assert_int_eq(ps_acestep_check_keyscale("k", ps_span_of_text(&long_key)), PS_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(ps_err_message(), "夜夜\" is no key"));
    ck_assert_uint_eq(ps_utf8_valid_prefix(ps_err_message(), strlen(ps_err_message()), NULL),
                      strlen(ps_err_message()));
    ps_text_release(&long_key);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/acestep/limits");
    TCase *tcase = tcase_create("limits");
    suite_add_tcase(suite, tcase);
    tcase_add_test(tcase, texts_are_measured_in_characters);
    tcase_add_test(tcase, bytes_that_are_not_utf8_are_refused_everywhere);
    tcase_add_test(tcase, numbers_have_their_ranges);
    tcase_add_test(tcase, all_seventy_keys_are_known_and_no_others);
    tcase_add_test(tcase, languages_are_codes_of_a_list);
    tcase_add_test(tcase, time_signatures_are_read_as_musicians_write_them);
    tcase_add_test(tcase, a_long_value_is_shown_up_to_a_whole_character);
    return scratch_run(suite);
}
