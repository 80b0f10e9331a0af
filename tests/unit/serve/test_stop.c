/* The matcher of stop strings, against a search over the whole text at once. */
#include "serve/stop.h"

#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../support/dice.h"
#include "base/mem.h"

static ps_stop *make(const char *const *strings, int n)
{
    ps_stop_string list[8];
    ck_assert_int_le(n, 8);
    for (int i = 0; i < n; i++) {
        list[i] = (ps_stop_string){strings[i], strlen(strings[i])};
    }
    ps_stop *s;
    ck_assert_int_eq(ps_stop_new(list, n, &s), PS_OK);
    return s;
}

/* Pushes a piece and checks what it lets out. */
static void expect_push(ps_stop *s, const char *piece, const char *shown, bool stopped)
{
    ps_text out = {0};
    const bool found = ps_stop_push(s, piece, strlen(piece), &out);
    ck_assert_str_eq(ps_text_str(&out), shown);
    ck_assert_int_eq(found, stopped);
    ps_text_release(&out);
}

static void expect_finish(ps_stop *s, const char *shown)
{
    ps_text out = {0};
    ps_stop_finish(s, &out);
    ck_assert_str_eq(ps_text_str(&out), shown);
    ps_text_release(&out);
    ps_stop_free(s);
}

START_TEST(text_without_stop_strings_passes_at_once)
{
    ps_stop *s = make(NULL, 0);
    expect_push(s, "abc", "abc", false);
    expect_push(s, "", "", false);
    ck_assert_uint_eq(ps_stop_held_bytes(s), 0);
    expect_finish(s, "");
}
END_TEST

START_TEST(the_beginning_of_a_stop_string_is_held_back)
{
    ps_stop *s = make((const char *[]){"###"}, 1);
    expect_push(s, "one #", "one ", false);
    ck_assert_uint_eq(ps_stop_held_bytes(s), 1);
    expect_push(s, "#", "", false);
    expect_push(s, " two", "## two", false);
    expect_finish(s, "");
}
END_TEST

START_TEST(a_stop_string_over_three_pieces_ends_the_text_before_it)
{
    ps_stop *s = make((const char *[]){"STOP"}, 1);
    expect_push(s, "go S", "go ", false);
    expect_push(s, "TO", "", false);
    expect_push(s, "P and more", "", true);
    ck_assert_int_eq(ps_stop_matched(s), 0);
    ck_assert_uint_eq(ps_stop_held_bytes(s), 0);
    expect_push(s, "later", "", true);
    expect_finish(s, "");
}
END_TEST

START_TEST(finish_lets_out_what_was_held_back)
{
    ps_stop *s = make((const char *[]){"abab"}, 1);
    expect_push(s, "xaba", "x", false);
    expect_finish(s, "aba");
}
END_TEST

START_TEST(the_earliest_end_wins_over_the_earliest_start)
{
    ps_stop *s = make((const char *[]){"abcd", "c"}, 2);
    expect_push(s, "xabcd", "xab", true);
    ck_assert_int_eq(ps_stop_matched(s), 1);
    expect_finish(s, "");
}
END_TEST

START_TEST(of_equal_ends_the_longest_wins)
{
    ps_stop *s = make((const char *[]){"c", "abc", "bc"}, 3);
    expect_push(s, "xabc", "x", true);
    ck_assert_int_eq(ps_stop_matched(s), 1);
    expect_finish(s, "");
}
END_TEST

START_TEST(of_equal_strings_the_first_is_named)
{
    ps_stop *s = make((const char *[]){"zz", "ab", "ab"}, 3);
    expect_push(s, "ab", "", true);
    ck_assert_int_eq(ps_stop_matched(s), 1);
    expect_finish(s, "");
}
END_TEST

START_TEST(a_failed_match_falls_back_to_a_shorter_one)
{
    ps_stop *s = make((const char *[]){"aab"}, 1);
    expect_push(s, "aa", "", false);
    expect_push(s, "a", "a", false);
    expect_push(s, "b", "", true);
    expect_finish(s, "");
}
END_TEST

START_TEST(a_stop_string_inside_a_character_takes_the_whole_character)
{
    ps_stop *s = make((const char *[]){"\xA9"}, 1);
    expect_push(s, "a\xC3\xA8", "a\xC3\xA8", false);
    expect_push(s, "b\xC3\xA9", "b", true);
    expect_finish(s, "");
}
END_TEST

START_TEST(a_stop_string_from_inside_a_character_holds_the_whole_character)
{
    ps_stop *s = make((const char *[]){"\xA9x"}, 1);
    expect_push(s, "b\xC3\xA9", "b", false);
    ck_assert_uint_eq(ps_stop_held_bytes(s), 2);
    expect_push(s, "y", "\xC3\xA9y", false);
    expect_push(s, "\xC3\xA9", "", false);
    expect_push(s, "x", "", true);
    expect_finish(s, "");
}
END_TEST

START_TEST(pieces_of_broken_characters_are_searched_all_the_same)
{
    ps_stop *s = make((const char *[]){"\xA9"}, 1);
    expect_push(s, "a\xC3", "a\xC3", false);
    expect_push(s, "\xA9", "", true);
    expect_finish(s, "");
    s = make((const char *[]){"\x80\x80z"}, 1);
    expect_push(s, "\x80\x80\x80\x80\x80", "", false);
    expect_push(s, "y", "\x80\x80\x80\x80\x80y", false);
    expect_finish(s, "");
}
END_TEST

START_TEST(stop_strings_may_hold_nul_bytes)
{
    ps_stop *s;
    ck_assert_int_eq(ps_stop_new(&(ps_stop_string){"\0\0", 2}, 1, &s), PS_OK);
    ps_text out = {0};
    ck_assert(!ps_stop_push(s, "a\0b\0", 4, &out));
    ck_assert_uint_eq(out.len, 3);
    ck_assert(ps_stop_push(s, "\0", 1, &out));
    ck_assert_uint_eq(out.len, 3);
    ps_text_release(&out);
    ps_stop_free(s);
}
END_TEST

START_TEST(an_empty_stop_string_is_refused)
{
    ps_stop *s;
    const ps_stop_string list[2] = {{"a", 1}, {"", 0}};
    ck_assert_int_eq(ps_stop_new(list, 2, &s), PS_ERR_USAGE);
    ck_assert_ptr_null(s);
    ck_assert_str_eq(ps_err_message(), "stop: string 2 is empty, wanted at least one byte");
}
END_TEST

START_TEST(too_many_and_too_long_stop_strings_are_refused)
{
    static char bytes[PS_STOP_MAX_BYTES + 1];
    ps_stop_string list[PS_STOP_MAX_STRINGS + 1];
    for (int i = 0; i <= PS_STOP_MAX_STRINGS; i++) {
        list[i] = (ps_stop_string){bytes, PS_STOP_MAX_BYTES};
    }
    ps_stop *s;
    ck_assert_int_eq(ps_stop_new(list, PS_STOP_MAX_STRINGS + 1, &s), PS_ERR_LIMIT);
    ck_assert_str_eq(ps_err_message(), "stop: 65 strings, at most 64 are allowed");
    ck_assert_int_eq(ps_stop_new(list, PS_STOP_MAX_STRINGS, &s), PS_OK);
    ps_stop_free(s);
    list[2].n++;
    ck_assert_int_eq(ps_stop_new(list, 3, &s), PS_ERR_LIMIT);
    ck_assert_str_eq(ps_err_message(), "stop: string 3 has 4097 bytes, at most 4096 are allowed");
}
END_TEST

/* 4 MB of the worst text for the longest string, a byte a piece. Check ends the test after 4 s; a
 * failed match that is tried again from its second byte takes longer. */
START_TEST(the_worst_text_takes_linear_time)
{
    static char bytes[PS_STOP_MAX_BYTES];
    memset(bytes, 'a', sizeof bytes);
    bytes[sizeof bytes - 1] = 'b';
    ps_stop *s;
    ck_assert_int_eq(ps_stop_new(&(ps_stop_string){bytes, sizeof bytes}, 1, &s), PS_OK);
    ps_text out = {0};
    const size_t n = (size_t)4 << 20;
    for (size_t i = 0; i < n; i++) {
        ps_stop_push(s, i % 5000 == 4999 ? "c" : "a", 1, &out);
    }
    ps_stop_finish(s, &out);
    ck_assert_uint_eq(out.len, n);
    ps_text_release(&out);
    ps_stop_free(s);
}
END_TEST

START_TEST(an_endless_stream_takes_no_memory)
{
    static char piece[1 << 16];
    memset(piece, 'a', sizeof piece);
    ps_stop *s = make((const char *[]){"ab"}, 1);
    ps_text out = {0};
    ps_stop_push(s, piece, sizeof piece, &out);
    const size_t before = ps_mem_resident();
    for (int i = 0; i < 512; i++) {
        ps_text_clear(&out);
        ck_assert(!ps_stop_push(s, piece, sizeof piece, &out));
        ck_assert_uint_eq(out.len, sizeof piece);
    }
    ck_assert_uint_lt(ps_mem_resident(), before + ((size_t)8 << 20)); // of 32 MiB that went through
    ps_text_release(&out);
    ps_stop_free(s);
}
END_TEST

/* --- whole text against pieces ---------------------------------------------------------------- */

static const char *const characters[] = {
    "a", "b", "\xC3\xA9", "\xC3\xA8", "\xE2\x82\xAC", "\xF0\x9F\x8E\xB5"};
static const char stop_bytes[] = "abab\xC3\xA9\xA8\xE2\x82\xAC\xF0\x9F\x8E\xB5";

static size_t start_of_character(const char *text, size_t len, size_t place)
{
    while (place > 0 && place < len && ((unsigned char)text[place] & 0xC0) == 0x80) {
        place--;
    }
    return place;
}

/* What may be shown of text[0..len) by the definition; *matched: which string is complete. */
static size_t naive_shown(const char *text, size_t len, size_t whole, const ps_stop_string *list,
                          int n, bool over, int *matched)
{
    *matched = -1;
    for (size_t end = 1; end <= len; end++) {
        for (int i = 0; i < n; i++) {
            if (list[i].n > end || memcmp(text + end - list[i].n, list[i].bytes, list[i].n) != 0)
                continue;
            if (*matched < 0 || list[i].n > list[*matched].n) *matched = i;
        }
        if (*matched >= 0) return start_of_character(text, whole, end - list[*matched].n);
    }
    if (over) return len;
    size_t hold = 0;
    for (int i = 0; i < n; i++) {
        for (size_t k = 1; k < list[i].n && k <= len; k++) {
            if (memcmp(text + len - k, list[i].bytes, k) == 0 && k > hold) hold = k;
        }
    }
    return start_of_character(text, whole, len - hold);
}

typedef struct scene {
    char text[256];
    size_t len;
    char bytes[4][8];
    ps_stop_string list[4];
    int n;
} scene;

static void random_scene(dice *d, scene *c, bool any_bytes)
{
    *c = (scene){.n = 1 + dice_throw(d, 4)};
    const int kinds = 2 + dice_throw(d, 5), length = dice_throw(d, 40);
    for (int i = 0; i < length; i++) {
        const char *character = characters[dice_throw(d, kinds)];
        memcpy(c->text + c->len, character, strlen(character));
        c->len += strlen(character);
    }
    for (int i = 0; i < c->n; i++) {
        size_t n = 0, wanted = 1 + (size_t)dice_throw(d, 5);
        while (n < wanted) {
            const char *character = characters[dice_throw(d, kinds)];
            const size_t bytes = any_bytes ? 1 : strlen(character);
            if (n + bytes > sizeof c->bytes[i]) break;
            if (any_bytes) character = &stop_bytes[dice_throw(d, (int)sizeof stop_bytes - 1)];
            memcpy(c->bytes[i] + n, character, bytes);
            n += bytes;
        }
        c->list[i] = (ps_stop_string){c->bytes[i], n};
    }
}

static size_t next_cut(dice *d, const scene *c, size_t from)
{
    size_t cut = from + (size_t)dice_throw(d, 8);
    if (cut > c->len) cut = c->len;
    while (cut < c->len && ((unsigned char)c->text[cut] & 0xC0) == 0x80) {
        cut++;
    }
    return cut;
}

/* A new matcher in the place of one that has not matched, with what that one holds back. */
static void go_on_with_another(const scene *c, ps_stop **s)
{
    if (ps_stop_matched(*s) >= 0) return;
    ps_stop *other;
    ps_text out = {0};
    const size_t n = ps_stop_held_bytes(*s);
    ck_assert_int_eq(ps_stop_new(c->list, c->n, &other), PS_OK);
    ck_assert(!ps_stop_push(other, ps_stop_held(*s), n, &out));
    ck_assert_uint_eq(out.len, 0);
    ck_assert_uint_eq(ps_stop_held_bytes(other), n);
    ps_stop_free(*s);
    *s = other;
}

static void run_scene(dice *d, const scene *c, bool any_bytes)
{
    ps_stop *s;
    ck_assert_int_eq(ps_stop_new(c->list, c->n, &s), PS_OK);
    size_t longest = 0;
    for (int i = 0; i < c->n; i++) {
        if (c->list[i].n > longest) longest = c->list[i].n;
    }
    ps_text out = {0};
    size_t from = 0;
    int matched = -1;
    while (from < c->len) {
        const size_t to = next_cut(d, c, from);
        const bool stopped = ps_stop_push(s, c->text + from, to - from, &out);
        const size_t shown = naive_shown(c->text, to, c->len, c->list, c->n, false, &matched);
        ck_assert_uint_eq(out.len, shown);
        ck_assert_mem_eq(ps_text_str(&out), c->text, shown);
        ck_assert_uint_eq(ps_utf8_valid_prefix(ps_text_str(&out), out.len, NULL), out.len);
        ck_assert_int_eq(stopped, matched >= 0);
        ck_assert_int_eq(ps_stop_matched(s), matched);
        ck_assert_uint_lt(ps_stop_held_bytes(s), longest + (any_bytes ? 3 : 0));
        from = to;
        if (dice_throw(d, 3) == 0) go_on_with_another(c, &s);
    }
    ps_stop_finish(s, &out);
    const size_t shown = naive_shown(c->text, c->len, c->len, c->list, c->n, true, &matched);
    ck_assert_uint_eq(out.len, shown);
    ck_assert_mem_eq(ps_text_str(&out), c->text, shown);
    ps_text_release(&out);
    ps_stop_free(s);
}

START_TEST(pieces_show_what_the_whole_text_shows)
{
    for (int run = 0; run < 400; run++) {
        dice d = {.seed = (uint64_t)_i * 1000 + (uint64_t)run};
        scene c;
        random_scene(&d, &c, false);
        run_scene(&d, &c, false);
    }
}
END_TEST

START_TEST(stop_strings_of_any_bytes_never_split_a_character)
{
    for (int run = 0; run < 400; run++) {
        dice d = {.seed = (uint64_t)_i * 1000 + (uint64_t)run};
        scene c;
        random_scene(&d, &c, true);
        run_scene(&d, &c, true);
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("stop");
    tcase_add_test(tcase, text_without_stop_strings_passes_at_once);
    tcase_add_test(tcase, the_beginning_of_a_stop_string_is_held_back);
    tcase_add_test(tcase, a_stop_string_over_three_pieces_ends_the_text_before_it);
    tcase_add_test(tcase, finish_lets_out_what_was_held_back);
    tcase_add_test(tcase, the_earliest_end_wins_over_the_earliest_start);
    tcase_add_test(tcase, of_equal_ends_the_longest_wins);
    tcase_add_test(tcase, of_equal_strings_the_first_is_named);
    tcase_add_test(tcase, a_failed_match_falls_back_to_a_shorter_one);
    tcase_add_test(tcase, a_stop_string_inside_a_character_takes_the_whole_character);
    tcase_add_test(tcase, a_stop_string_from_inside_a_character_holds_the_whole_character);
    tcase_add_test(tcase, pieces_of_broken_characters_are_searched_all_the_same);
    tcase_add_test(tcase, stop_strings_may_hold_nul_bytes);
    tcase_add_test(tcase, an_empty_stop_string_is_refused);
    tcase_add_test(tcase, too_many_and_too_long_stop_strings_are_refused);
    tcase_add_test(tcase, the_worst_text_takes_linear_time);
    tcase_add_test(tcase, an_endless_stream_takes_no_memory);
    tcase_add_loop_test(tcase, pieces_show_what_the_whole_text_shows, 0, 20);
    tcase_add_loop_test(tcase, stop_strings_of_any_bytes_never_split_a_character, 0, 20);
    Suite *suite = suite_create("serve/stop");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
