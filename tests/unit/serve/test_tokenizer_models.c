/* BPE and Unigram on words. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "serve/tokenizer_parts.h"
#include "support/tiny_tokenizer.h"

static ps_tokenizer *open_parts(const tiny_tokenizer *parts)
{
    ps_tokenizer *t;
    ck_assert_msg(tiny_tokenizer_open(parts, &t) == PS_OK, "%s", ps_err_message());
    return t;
}

static void expect_model_ids(const char *model, const char *text, const char *wanted)
{
    const tiny_tokenizer parts = {.model = model};
    ps_tokenizer *t = open_parts(&parts);
    char *found = tiny_tokenizer_ids(t, text, false);
    ck_assert_msg(strcmp(found, wanted) == 0, "\"%s\" with %s:\n  wanted %s\n  found  %s", text,
                  model, wanted, found);
    ps_mem_free(found);
    ps_tokenizer_free(t);
}

static void expect_bpe_ids(const char *merges, const char *options, const char *text,
                           const char *wanted)
{
    char *model = tiny_tokenizer_bpe(merges, options);
    expect_model_ids(model, text, wanted);
    ps_mem_free(model);
}

START_TEST(the_lowest_rank_merges_first_and_leftmost_among_equals)
{
    expect_bpe_ids("b c,a b,ab c", "", "abc", "97 128");
    expect_bpe_ids("a b,b c,ab c", "", "abc", "130");
    expect_bpe_ids("a a", "", "aaa", "128 97");
}
END_TEST

START_TEST(a_pair_listed_twice_has_its_later_rank)
{
    expect_bpe_ids("a b,b c", "", "abc", "128 99");
    expect_model_ids("{\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"c\": 2, \"ab\": 3, "
                     "\"bc\": 4}, \"merges\": [\"a b\", \"b c\", [\"a\", \"b\"]]}",
                     "abc", "0 4");
}
END_TEST

START_TEST(merges_are_ignored_for_words_that_are_tokens)
{
    static const char model[] =
        "{\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": [], "
        "\"ignore_merges\": %s}";
    char json[160];
    snprintf(json, sizeof json, model, "true");
    expect_model_ids(json, "ab", "2");
    expect_model_ids(json, "aba", "0 1 0");
    snprintf(json, sizeof json, model, "false");
    expect_model_ids(json, "ab", "0 1");
}
END_TEST

#define KNOWN "\"vocab\": {\"a\": 0, \"<unk>\": 1, \"<0xC3>\": 2, \"<0xA9>\": 3}, \"merges\": []"

START_TEST(unknown_characters_are_fused_or_not_or_dropped)
{
    expect_model_ids("{\"type\": \"BPE\", \"unk_token\": \"<unk>\", \"fuse_unk\": true, " KNOWN "}",
                     "axya", "0 1 0");
    expect_model_ids("{\"type\": \"BPE\", \"unk_token\": \"<unk>\", " KNOWN "}", "axya", "0 1 1 0");
    expect_model_ids("{\"type\": \"BPE\", " KNOWN "}", "axya", "0 0");
    expect_model_ids("{\"type\": \"BPE\", \"unk_token\": \"<none>\", " KNOWN "}", "ax",
                     "tokenizer: unknown character \"x\", and unk_token <none> is not in the "
                     "vocabulary");
}
END_TEST

START_TEST(bytes_stand_for_a_character_if_all_of_them_are_tokens)
{
    expect_model_ids("{\"type\": \"BPE\", \"unk_token\": \"<unk>\", \"byte_fallback\": true, " KNOWN
                     "}",
                     "\xC3\xA9\xC3\xA8", "2 3 1");
}
END_TEST

START_TEST(affixes_mark_the_parts_of_a_word)
{
    expect_model_ids("{\"type\": \"BPE\", \"continuing_subword_prefix\": \"##\", "
                     "\"end_of_word_suffix\": \"</w>\", \"vocab\": {\"a\": 0, \"##b\": 1, "
                     "\"##c</w>\": 2, \"ab\": 3, \"a</w>\": 4}, \"merges\": [[\"a\", \"##b\"]]}",
                     "abc", "3 2");
}
END_TEST

/* Merges with a quadratic search through all pairs, which is the definition. */
static size_t merge_plainly(const ps_tok_bpe *b, int32_t *symbol, size_t n)
{
    for (;;) {
        uint32_t lowest = UINT32_MAX;
        size_t best = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            const uint32_t rank = ps_tok_bpe_find(b, symbol[i], symbol[i + 1])->rank;
            if (rank >= lowest) continue;
            lowest = rank;
            best = i;
        }
        if (lowest == UINT32_MAX) return n;
        symbol[best] = ps_tok_bpe_find(b, symbol[best], symbol[best + 1])->merged;
        n--;
        memmove(symbol + best + 1, symbol + best + 2, (n - best - 1) * sizeof *symbol);
    }
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 16;
}

static const char some_merges[] = "a b,b a,ab a,a a,c a,ba ab,aa ab,b b,ab ab,bb a,abab c,a c,c c,"
                                  "cc ca,ac b,aba ba,ca ab,caab c,b c";

/* Short words, long words on the heap, and words that are cut first: all as by definition. */
START_TEST(every_way_of_merging_gives_the_same)
{
    char *model = tiny_tokenizer_bpe(some_merges, "");
    const tiny_tokenizer parts = {.model = model};
    ps_tokenizer *t = open_parts(&parts);
    uint32_t state = (uint32_t)_i * 7919 + 1;
    const size_t n = 1 + next_random(&state) % (_i % 2 ? 40 : 400);
    char *text = ps_mem_new(n + 1, 1);
    int32_t *symbol = ps_mem_new(n, sizeof *symbol);
    for (size_t i = 0; i < n; i++) {
        text[i] = "aaabbcd"[next_random(&state) % 7];
        symbol[i] = text[i];
    }
    const size_t wanted = merge_plainly(&t->bpe, symbol, n);
    ps_tokens found = {0}, whole = {0};
    ps_tok_bpe_scratch scratch = {0};
    ck_assert_int_eq(ps_tokenizer_encode(t, text, n, false, &found), PS_OK);
    ck_assert_int_eq(ps_tok_bpe_encode(&t->bpe, text, n, &scratch, &whole), PS_OK);
    ck_assert_uint_eq(found.n, wanted);
    ck_assert_mem_eq(found.ids, symbol, wanted * sizeof *symbol);
    ck_assert_uint_eq(whole.n, wanted);
    ck_assert_mem_eq(whole.ids, symbol, wanted * sizeof *symbol);
    ps_tok_bpe_scratch_release(&scratch);
    ps_tokens_release(&whole);
    ps_tokens_release(&found);
    ps_mem_free(symbol);
    ps_mem_free(text);
    ps_tokenizer_free(t);
    ps_mem_free(model);
}
END_TEST

START_TEST(a_word_is_cut_only_where_no_merge_joins)
{
    char *model = tiny_tokenizer_bpe("a b,ab c", "");
    const tiny_tokenizer parts = {.model = model};
    ps_tokenizer *t = open_parts(&parts);
    ck_assert_uint_eq(ps_tok_bpe_cut(&t->bpe, "abcab", 5, 0), 3);
    ck_assert_uint_eq(ps_tok_bpe_cut(&t->bpe, "abcab", 5, 3), 5);
    ck_assert_uint_eq(ps_tok_bpe_cut(&t->bpe,
                                     "a\xC3\xA9"
                                     "b",
                                     4, 0),
                      4); // next to an unknown one
    ps_tokenizer_free(t);
    ps_mem_free(model);
}
END_TEST

/* All bytes as the characters of the byte alphabet, and one merge. */
static char *byte_level_model(void)
{
    ps_text json = {0};
    ps_text_append_str(&json, "{\"type\": \"BPE\", \"vocab\": {");
    for (int i = 0; i < 256; i++) {
        char c[4];
        const size_t n = ps_utf8_encode(ps_tok_char_of_byte((unsigned char)i), c);
        ps_text_append_str(&json, c[0] == '"' || c[0] == '\\' ? "\"\\" : "\"");
        ps_text_append(&json, c, n);
        ps_text_appendf(&json, "\": %d, ", i);
    }
    ps_text_append_str(&json, "\"\xC4\xA0"
                              "a\": 256}, \"merges\": [[\"\xC4\xA0\", \"a\"]]}");
    return ps_text_take(&json);
}

static const char byte_level[] =
    "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": true}";

START_TEST(byte_level_brings_any_text_back)
{
    char *model = byte_level_model();
    const tiny_tokenizer parts = {
        .model = model, .pre_tokenizer = byte_level, .decoder = "{\"type\": \"ByteLevel\"}"};
    ps_tokenizer *t = open_parts(&parts);
    uint32_t state = (uint32_t)_i + 1;
    char text[300];
    const size_t n = next_random(&state) % sizeof text;
    for (size_t i = 0; i < n; i++) {
        text[i] = (char)(next_random(&state) % (_i % 2 ? 256 : 128));
    }
    ps_text wanted = {0}, found = {0};
    ps_tokens ids = {0};
    ps_tok_append_lossy(&wanted, text, n);
    ck_assert_int_eq(ps_tokenizer_encode(t, text, n, false, &ids), PS_OK);
    ck_assert_int_eq(ps_tokenizer_decode(t, ids.ids, ids.n, false, &found), PS_OK);
    ck_assert_uint_eq(found.len, wanted.len);
    ck_assert_mem_eq(ps_text_str(&found), ps_text_str(&wanted), wanted.len);
    ps_tokens_release(&ids);
    ps_text_release(&found);
    ps_text_release(&wanted);
    ps_tokenizer_free(t);
    ps_mem_free(model);
}
END_TEST

START_TEST(bytes_that_are_not_utf8_become_the_replacement_character)
{
    char *model = byte_level_model();
    const tiny_tokenizer parts = {.model = model, .pre_tokenizer = byte_level};
    ps_tokenizer *t = open_parts(&parts);
    char *found = tiny_tokenizer_ids(t,
                                     " a\xE6\x97"
                                     "b\xFF",
                                     false);
    ck_assert_str_eq(found, "256 239 191 189 98 239 191 189");
    ps_mem_free(found);
    ps_tokenizer_free(t);
    ps_mem_free(model);
}
END_TEST

#define UNIGRAM(vocab, options) "{\"type\": \"Unigram\", \"vocab\": [" vocab "]" options "}"
#define LETTERS                                                                                    \
    "[\"<unk>\", 0.0], [\"a\", 0.0], [\"b\", 0.0], [\"c\", 0.0], [\"d\", 0.0], [\"cd\", 1.0], "    \
    "[\"ab\", 2.0], [\"abc\", 5.0], [\"abcd\", 10.0]"

START_TEST(unigram_finds_the_greatest_sum)
{
    expect_model_ids(UNIGRAM(LETTERS, ", \"unk_id\": 0"), "abcdacdxx", "8 1 5 0");
    expect_model_ids(UNIGRAM(LETTERS, ", \"unk_id\": 0"), "xabxc", "0 6 0 3");
    expect_model_ids(UNIGRAM(LETTERS, ", \"unk_id\": 0"), "", "");
}
END_TEST

START_TEST(unigram_without_an_unknown_token_refuses_unknown_characters)
{
    expect_model_ids(UNIGRAM("[\"a\", 0.0]", ""), "aa", "0 0");
    expect_model_ids(UNIGRAM("[\"a\", 0.0]", ""), "ax",
                     "tokenizer: unknown characters \"x\", and there is no unk_id");
}
END_TEST

START_TEST(unigram_falls_back_to_bytes)
{
    expect_model_ids(UNIGRAM("[\"<unk>\", 0.0], [\"a\", 0.0], [\"<0xC3>\", 0.0], [\"<0xA9>\", 0.0]",
                             ", \"unk_id\": 0, \"byte_fallback\": true"),
                     "a\xC3\xA9"
                     "a\xC3\xA8",
                     "1 2 3 1 0");
}
END_TEST

/* Two segmentations have sums that differ in the last bit, or not at all; ids by the library. */
START_TEST(unigram_scores_are_read_with_the_rounding_of_the_library)
{
    expect_model_ids(UNIGRAM("[\"<unk>\", 0.0], [\".\", -5.161379614071651], [\"/\", "
                             "-7.715508004123354], [\"../../\", -14.180196661782603], [\"_\", "
                             "-1.5133657847710822]",
                             ", \"unk_id\": 0"),
                     "_../../../", "4 1 1 2 3");
}
END_TEST

static const char *const pieces[] = {"a", "b", "c", "ab", "bc", "ca", "abc", "aa", "bb", "cab"};
static const double scores[] = {-3.1, -2.9, -3.3, -4.0, -4.4, -4.2, -5.5, -5.1, -5.0, -6.1};

/* The greatest sum over all segmentations, by the definition. */
static double best_sum(const char *text, size_t n)
{
    double best[64] = {0.0};
    for (size_t end = 1; end <= n; end++) {
        best[end] = -1e9;
        for (size_t k = 0; k < sizeof pieces / sizeof *pieces; k++) {
            const size_t length = strlen(pieces[k]);
            if (length > end || memcmp(text + end - length, pieces[k], length) != 0) continue;
            const double sum = best[end - length] + scores[k];
            if (sum > best[end]) best[end] = sum;
        }
    }
    return best[n];
}

START_TEST(no_segmentation_is_better_than_the_one_found)
{
    ps_text model = {0};
    ps_text_append_str(&model, "{\"type\": \"Unigram\", \"vocab\": [");
    for (size_t k = 0; k < sizeof pieces / sizeof *pieces; k++) {
        ps_text_appendf(&model, "%s[\"%s\", %.1f]", k ? ", " : "", pieces[k], scores[k]);
    }
    ps_text_append_str(&model, "]}");
    const tiny_tokenizer parts = {.model = model.data};
    ps_tokenizer *t = open_parts(&parts);
    uint32_t state = (uint32_t)_i + 99;
    char text[64];
    const size_t n = 1 + next_random(&state) % 60;
    for (size_t i = 0; i < n; i++) {
        text[i] = (char)('a' + next_random(&state) % 3);
    }
    ps_tokens ids = {0};
    ck_assert_int_eq(ps_tokenizer_encode(t, text, n, false, &ids), PS_OK);
    double sum = 0.0;
    size_t at = 0;
    for (size_t i = 0; i < ids.n; i++) {
        const char *piece = pieces[ids.ids[i]];
        ck_assert_mem_eq(text + at, piece, strlen(piece));
        at += strlen(piece);
        sum += scores[ids.ids[i]];
    }
    ck_assert_uint_eq(at, n);
    ck_assert_double_eq_tol(sum, best_sum(text, n), 1e-9);
    ps_tokens_release(&ids);
    ps_tokenizer_free(t);
    ps_text_release(&model);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("models");
    tcase_add_test(tcase, the_lowest_rank_merges_first_and_leftmost_among_equals);
    tcase_add_test(tcase, a_pair_listed_twice_has_its_later_rank);
    tcase_add_test(tcase, merges_are_ignored_for_words_that_are_tokens);
    tcase_add_test(tcase, unknown_characters_are_fused_or_not_or_dropped);
    tcase_add_test(tcase, bytes_stand_for_a_character_if_all_of_them_are_tokens);
    tcase_add_test(tcase, affixes_mark_the_parts_of_a_word);
    tcase_add_loop_test(tcase, every_way_of_merging_gives_the_same, 0, 60);
    tcase_add_test(tcase, a_word_is_cut_only_where_no_merge_joins);
    tcase_add_loop_test(tcase, byte_level_brings_any_text_back, 0, 60);
    tcase_add_test(tcase, bytes_that_are_not_utf8_become_the_replacement_character);
    tcase_add_test(tcase, unigram_finds_the_greatest_sum);
    tcase_add_test(tcase, unigram_without_an_unknown_token_refuses_unknown_characters);
    tcase_add_test(tcase, unigram_falls_back_to_bytes);
    tcase_add_test(tcase, unigram_scores_are_read_with_the_rounding_of_the_library);
    tcase_add_loop_test(tcase, no_segmentation_is_better_than_the_one_found, 0, 60);
    Suite *suite = suite_create("serve/tokenizer_models");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
