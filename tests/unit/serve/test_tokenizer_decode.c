/* Decoders, on whole texts and in streams. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "support/golden_tokenizer.h"
#include "support/tiny_tokenizer.h"

/* Ids 0 to 9. */
static const char model[] =
    "{\"type\": \"BPE\", \"merges\": [], \"vocab\": {\"a\": 0, \"b</w>\": 1, \"<0xE6>\": 2, "
    "\"<0x97>\": 3, \"<0xA5>\": 4, \"\xE2\x96\x81"
    "c\": 5, \" \": 6, \"\xC3\xA6\": 7, "
    "\"</w>\": 8, \"ab\": 9}}";

static const char added[] = "[{\"id\": 10, \"content\": \"<s>\", \"special\": true}, "
                            "{\"id\": 11, \"content\": \"<t>\", \"special\": false}]";

static ps_tokenizer *open_decoder(const char *decoder)
{
    const tiny_tokenizer parts = {.model = model, .decoder = decoder, .added_tokens = added};
    ps_tokenizer *t;
    ck_assert_msg(tiny_tokenizer_open(&parts, &t) == PS_OK, "%s", ps_err_message());
    return t;
}

/* Another detokenizer goes on with what this one held back. */
static ps_detokenizer *moved(const ps_tokenizer *t, bool skip_special, ps_detokenizer *d)
{
    ps_text saved = {0};
    ps_detokenizer *other = ps_detokenizer_new(t, skip_special);
    ps_detokenizer_save(d, &saved);
    ck_assert_msg(ps_detokenizer_load(other, ps_text_str(&saved), saved.len) == PS_OK, "%s",
                  ps_err_message());
    ps_text_release(&saved);
    ps_detokenizer_free(d);
    return other;
}

/* What a stream shows, whoever goes on with it: the text after each id and the tail, joined by '|'.
 */
static char *stream_of(const ps_tokenizer *t, const int32_t *ids, size_t n)
{
    ps_detokenizer *d = ps_detokenizer_new(t, false);
    ps_text out = {0};
    for (size_t i = 0; i < n; i++) {
        d = moved(t, false, d);
        ck_assert_int_eq(ps_detokenizer_push(d, ids[i], &out), PS_OK);
        ps_text_append_char(&out, '|');
    }
    ck_assert_int_eq(ps_detokenizer_finish(d, &out), PS_OK);
    ps_detokenizer_free(d);
    return ps_text_take(&out);
}

static void expect_decoded(const char *decoder, const int32_t *ids, size_t n, const char *text,
                           const char *stream)
{
    ps_tokenizer *t = open_decoder(decoder);
    char *found = tiny_tokenizer_text(t, ids, n, false), *shown = stream_of(t, ids, n);
    ck_assert_str_eq(found, text);
    ck_assert_str_eq(shown, stream);
    ps_mem_free(shown);
    ps_mem_free(found);
    ps_tokenizer_free(t);
}

#define IDS(...)                                                                                   \
    (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t)

START_TEST(without_a_decoder_blanks_stand_between_tokens)
{
    expect_decoded(NULL, IDS(0, 9, 0), "a ab a", "a| ab| a|");
    expect_decoded("{\"type\": \"Sequence\", \"decoders\": []}", IDS(0, 9, 0), "aaba", "a|ab|a|");
}
END_TEST

START_TEST(ids_that_do_not_exist_are_passed_over)
{
    expect_decoded(NULL, IDS(0, -1, 12, INT32_MAX, 9), "a ab", "a|||| ab|");
    expect_decoded("{\"type\": \"Fuse\"}", IDS(0, 9), "aab", "a|ab|");
}
END_TEST

START_TEST(special_tokens_are_skipped_on_demand)
{
    ps_tokenizer *t = open_decoder("{\"type\": \"Fuse\"}");
    char *all = tiny_tokenizer_text(t, IDS(10, 0, 11), false);
    char *some = tiny_tokenizer_text(t, IDS(10, 0, 11), true);
    ck_assert_str_eq(all, "<s>a<t>");
    ck_assert_str_eq(some, "a<t>");
    ck_assert(ps_tokenizer_is_special(t, 10) && !ps_tokenizer_is_special(t, 11));
    ck_assert(!ps_tokenizer_is_special(t, -1) && !ps_tokenizer_is_special(t, 12));
    ps_mem_free(some);
    ps_mem_free(all);
    ps_tokenizer_free(t);
}
END_TEST

/* The rule of the library: the string that is shown decides, and a normalized one is another. */
START_TEST(a_special_token_that_normalizing_changes_is_not_skipped)
{
    const tiny_tokenizer parts = {
        .model = model,
        .normalizer = "{\"type\": \"Lowercase\"}",
        .decoder = "{\"type\": \"Fuse\"}",
        .added_tokens = "[{\"id\": 10, \"content\": \"<S>\", \"special\": true, \"normalized\": "
                        "true}]"};
    ps_tokenizer *t;
    ck_assert_int_eq(tiny_tokenizer_open(&parts, &t), PS_OK);
    char *text = tiny_tokenizer_text(t, IDS(10, 0), true);
    ck_assert_str_eq(text, "<s>a");
    ck_assert(ps_tokenizer_is_special(t, 10));
    ps_mem_free(text);
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(byte_level_reads_the_byte_alphabet)
{
    static const char decoder[] = "{\"type\": \"ByteLevel\"}";
    expect_decoded(decoder, IDS(0, 7, 0),
                   "a\xEF\xBF\xBD"
                   "a",
                   "a||\xEF\xBF\xBD"
                   "a|");
    expect_decoded(decoder, IDS(7), "\xEF\xBF\xBD", "|\xEF\xBF\xBD");
    // A token with a character outside the alphabet is taken as it is.
    expect_decoded(decoder, IDS(5, 6),
                   "\xE2\x96\x81"
                   "c ",
                   "\xE2\x96\x81"
                   "c| |");
}
END_TEST

START_TEST(byte_tokens_are_shown_as_characters)
{
    static const char decoder[] = "{\"type\": \"ByteFallback\"}";
    expect_decoded(decoder, IDS(2, 3, 4, 0),
                   "\xE6\x97\xA5"
                   "a",
                   "||\xE6\x97\xA5|a|");
}
END_TEST

START_TEST(an_invalid_run_of_byte_tokens_is_one_replacement_a_byte)
{
    static const char decoder[] = "{\"type\": \"ByteFallback\"}";
#define R "\xEF\xBF\xBD"
    expect_decoded(decoder, IDS(2, 3, 0), R R "a", "||" R R "a|");
    expect_decoded(decoder, IDS(3, 2, 3, 4, 0), R R R R "a", R "|" R "|" R "|" R "|a|");
    expect_decoded(decoder, IDS(2, 2), R R, "|" R R "|");
    expect_decoded(decoder, IDS(2, 3), R R, "||" R R);
#undef R
}
END_TEST

START_TEST(a_stream_shows_a_character_before_its_run_turns_out_invalid)
{
    ps_tokenizer *t = open_decoder("{\"type\": \"ByteFallback\"}");
    char *shown = stream_of(t, IDS(2, 3, 4, 2));
    ck_assert_str_eq(shown, "||\xE6\x97\xA5||\xEF\xBF\xBD");
    ps_mem_free(shown);
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(metaspace_drops_the_mark_of_the_first_token)
{
    expect_decoded("{\"type\": \"Metaspace\", \"replacement\": \"\xE2\x96\x81\", "
                   "\"prepend_scheme\": \"always\"}",
                   IDS(5, 5), "c c", "c| c|");
    expect_decoded("{\"type\": \"Metaspace\", \"replacement\": \"\xE2\x96\x81\", "
                   "\"prepend_scheme\": \"never\"}",
                   IDS(5, 5), " c c", " c| c|");
}
END_TEST

START_TEST(a_suffix_is_a_blank_except_in_the_last_token)
{
    expect_decoded("{\"type\": \"BPEDecoder\", \"suffix\": \"</w>\"}", IDS(0, 1, 9, 1), "ab abb",
                   "a|b| ab|b|");
    expect_decoded("{\"type\": \"BPEDecoder\", \"suffix\": \"</w>\"}", IDS(8, 8), " ", "| |");
}
END_TEST

START_TEST(strip_takes_off_both_ends_of_each_string)
{
    expect_decoded("{\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}",
                   IDS(6, 0), "a", "|a|");
    expect_decoded("{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Fuse\"}, {\"type\": "
                   "\"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 1}]}",
                   IDS(6, 6, 0, 6, 6), " a ", "|| a|| |");
}
END_TEST

START_TEST(replace_sees_each_token_by_itself)
{
    static const char form[] =
        "{\"type\": \"Replace\", \"pattern\": {\"String\": \"ab\"}, \"content\": \"x\"}";
    expect_decoded(form, IDS(0, 9, 1), "axb</w>", "a|x|b</w>|");
    expect_decoded("{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"a|b\"}, \"content\": \"\"}",
                   IDS(0, 9, 6), " ", "|| |");
}
END_TEST

START_TEST(replace_behind_a_fuse_holds_back_what_may_begin_a_match)
{
    expect_decoded("{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Fuse\"}, {\"type\": "
                   "\"Replace\", \"pattern\": {\"String\": \"ab<\"}, \"content\": \"x\"}]}",
                   IDS(0, 0, 1, 9), "ax/w>ab", "|a|x/w>||ab");
}
END_TEST

/* Every stream shows whole characters only, and in all what decoding shows. */
START_TEST(streams_agree_with_whole_texts)
{
    ps_text root = {0};
    char **names;
    int n;
    ps_text_appendf(&root, "%s/tokenizers", golden_root());
    ck_assert_int_eq(golden_tokenizer_list(root.data, &names, &n), PS_OK);
    for (int i = 0; i < n; i++) {
        ps_text path = {0}, json = {0}, whole = {0}, shown = {0};
        ps_tokenizer *t;
        ps_text_appendf(&path, "%s/%s/tokenizer.json", root.data, names[i]);
        ck_assert_int_eq(ps_file_read(path.data, 1 << 26, &json), PS_OK);
        ck_assert_int_eq(ps_tokenizer_open(json.data, json.len, path.data, &t), PS_OK);
        ps_detokenizer *d = ps_detokenizer_new(t, false);
        int32_t ids[40];
        uint32_t state = (uint32_t)_i * 31 + (uint32_t)i;
        for (int k = 0; k < 40; k++) {
            state = state * 1664525u + 1013904223u;
            ids[k] = (int32_t)((state >> 8) % (uint32_t)ps_tokenizer_size(t));
            // Runs of byte tokens that are invalid as a whole are the exception.
            if (ps_tokenizer_find(t, "<0x00>") >= 0) {
                const int32_t first = ps_tokenizer_find(t, "<0x00>");
                if (ids[k] >= first + 128 && ids[k] < first + 256) ids[k] = first + 65;
            }
            const size_t before = shown.len;
            if (k % 3 == 0) d = moved(t, false, d);
            ck_assert_int_eq(ps_detokenizer_push(d, ids[k], &shown), PS_OK);
            const size_t added_bytes = shown.len - before;
            ck_assert_uint_eq(ps_utf8_valid_prefix(ps_text_str(&shown) + before, added_bytes, NULL),
                              added_bytes);
        }
        ck_assert_int_eq(ps_detokenizer_finish(d, &shown), PS_OK);
        ck_assert_int_eq(ps_tokenizer_decode(t, ids, 40, false, &whole), PS_OK);
        ck_assert_msg(strcmp(ps_text_str(&shown), ps_text_str(&whole)) == 0, "%s", names[i]);
        ps_detokenizer_free(d);
        ps_tokenizer_free(t);
        ps_text_release(&shown);
        ps_text_release(&whole);
        ps_text_release(&json);
        ps_text_release(&path);
    }
    golden_tokenizer_free_list(names, n);
    ps_text_release(&root);
}
END_TEST

/* Nothing that a file could say makes a detokenizer that goes wrong. */
START_TEST(what_another_tokenizer_held_back_is_refused)
{
    ps_tokenizer *t = open_decoder("{\"type\": \"Strip\", \"content\": \"a\", \"start\": 1, "
                                   "\"stop\": 2}");
    const int32_t saved[5] = {0}, bad[][5] = {{64, 0, 0, 0, 0}, {0, 2, 0, 0, 0},  {0, 0, 3, 0, 0},
                                              {0, -1, 0, 0, 0}, {0, 0, 0, -1, 0}, {0, 0, 0, 0, 9}};
    ps_detokenizer *d = ps_detokenizer_new(t, false);
    ck_assert_int_eq(ps_detokenizer_load(d, (const char *)saved, sizeof saved), PS_OK);
    ps_detokenizer_free(d);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        d = ps_detokenizer_new(t, false);
        ck_assert_int_eq(ps_detokenizer_load(d, (const char *)bad[i], sizeof bad[i]),
                         PS_ERR_FORMAT);
        ps_detokenizer_free(d);
    }
    d = ps_detokenizer_new(t, false);
    ck_assert_int_eq(ps_detokenizer_load(d, (const char *)saved, 19), PS_ERR_FORMAT);
    ps_detokenizer_free(d);
    const char more[21] = {0};
    d = ps_detokenizer_new(t, false);
    ck_assert_int_eq(ps_detokenizer_load(d, more, sizeof more), PS_ERR_FORMAT);
    ps_detokenizer_free(d);
    ps_tokenizer_free(t);
    t = open_decoder("{\"type\": \"ByteLevel\"}");
    const struct {
        int32_t numbers[5];
        char held[4];
    } broken = {{0, 0, 0, 4, 0}, {'a', '\xC3', 'a', 'a'}};
    d = ps_detokenizer_new(t, false);
    ck_assert_int_eq(ps_detokenizer_load(d, (const char *)&broken, sizeof broken), PS_ERR_FORMAT);
    ps_detokenizer_free(d);
    ps_tokenizer_free(t);
}
END_TEST

/* What waits for the rest of a literal is a beginning of it, and so whole characters. */
START_TEST(only_the_beginning_of_a_literal_can_have_been_held_back)
{
    static const struct {
        const char *held;
        ps_err wanted;
    } cases[] = {{"", PS_OK},
                 {"ab", PS_OK},
                 {"aba", PS_ERR_FORMAT},
                 {"ac", PS_ERR_FORMAT},
                 {"a\xEF", PS_ERR_FORMAT}};
    ps_tokenizer *t = open_decoder("{\"type\": \"Replace\", \"pattern\": {\"String\": \"aba\"}, "
                                   "\"content\": \"x\"}");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int32_t numbers[5] = {0, 0, 0, (int32_t)strlen(cases[i].held), 0};
        ps_text saved = {0};
        ps_text_append(&saved, numbers, sizeof numbers);
        ps_text_append_str(&saved, cases[i].held);
        ps_detokenizer *d = ps_detokenizer_new(t, false);
        ck_assert_int_eq(ps_detokenizer_load(d, saved.data, saved.len), cases[i].wanted);
        ps_detokenizer_free(d);
        ps_text_release(&saved);
    }
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(a_finished_stream_begins_anew)
{
    ps_tokenizer *t = open_decoder("{\"type\": \"Metaspace\", \"replacement\": \"\xE2\x96\x81\"}");
    ps_detokenizer *d = ps_detokenizer_new(t, false);
    ps_text out = {0};
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(ps_detokenizer_push(d, 5, &out), PS_OK);
        ck_assert_int_eq(ps_detokenizer_finish(d, &out), PS_OK);
    }
    ck_assert_str_eq(out.data, "cc");
    ps_detokenizer_free(d);
    ps_detokenizer_free(NULL);
    ps_text_release(&out);
    ps_tokenizer_free(t);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("decode");
    tcase_add_test(tcase, without_a_decoder_blanks_stand_between_tokens);
    tcase_add_test(tcase, ids_that_do_not_exist_are_passed_over);
    tcase_add_test(tcase, special_tokens_are_skipped_on_demand);
    tcase_add_test(tcase, a_special_token_that_normalizing_changes_is_not_skipped);
    tcase_add_test(tcase, byte_level_reads_the_byte_alphabet);
    tcase_add_test(tcase, byte_tokens_are_shown_as_characters);
    tcase_add_test(tcase, an_invalid_run_of_byte_tokens_is_one_replacement_a_byte);
    tcase_add_test(tcase, a_stream_shows_a_character_before_its_run_turns_out_invalid);
    tcase_add_test(tcase, metaspace_drops_the_mark_of_the_first_token);
    tcase_add_test(tcase, a_suffix_is_a_blank_except_in_the_last_token);
    tcase_add_test(tcase, strip_takes_off_both_ends_of_each_string);
    tcase_add_test(tcase, replace_sees_each_token_by_itself);
    tcase_add_test(tcase, replace_behind_a_fuse_holds_back_what_may_begin_a_match);
    tcase_add_loop_test(tcase, streams_agree_with_whole_texts, 0, 6);
    tcase_add_test(tcase, what_another_tokenizer_held_back_is_refused);
    tcase_add_test(tcase, only_the_beginning_of_a_literal_can_have_been_held_back);
    tcase_add_test(tcase, a_finished_stream_begins_anew);
    Suite *suite = suite_create("serve/tokenizer_decode");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
