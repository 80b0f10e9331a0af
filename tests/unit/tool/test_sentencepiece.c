/* tokenizer.model: what the pieces make of texts, the directory around it, and damage. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "support/golden_tokenizer.h"
#include "support/scratch.h"
#include "support/spm_file.h"
#include "support/tiny_tokenizer.h"
#include "tool/import/tokenizers.h"

#define MARK "\xE2\x96\x81"

static ps_tokenizer *open_path(const char *path)
{
    ps_tokenizer *t;
    assert_ok(ps_tokenizers_open(path, &t));
    ck_assert_ptr_nonnull(t);
    return t;
}

static ps_tokenizer *open_file(spm_file *f)
{
    spm_file_write(f, "m.model");
    spm_file_release(f);
    return open_path("m.model");
}

static void expect(const ps_tokenizer *t, const char *text, bool special, const char *wanted)
{
    char *found = tiny_tokenizer_ids(t, text, special);
    ck_assert_str_eq(found, wanted);
    ps_mem_free(found);
}

/* a b c, ab and bc of equal score, abc: ids from 3 on. */
static void add_letters(spm_file *f)
{
    spm_file_piece(f, "a", -10.0f, 0);
    spm_file_piece(f, "b", -11.0f, 1);
    spm_file_piece(f, "c", -12.0f, 1);
    spm_file_piece(f, "bc", -1.0f, 1);
    spm_file_piece(f, "ab", -1.0f, 1);
    spm_file_piece(f, MARK, -13.0f, 1);
}

START_TEST(of_equal_scores_the_leftmost_pair_is_merged)
{
    spm_file f = {0};
    spm_file_plain(&f);
    add_letters(&f);
    ps_tokenizer *t = open_file(&f);
    expect(t, "abc", false, "7 5");
    expect(t, "abcbc", false, "7 5 6");
    expect(t, "aabc", false, "3 7 5");
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(a_piece_can_be_made_in_several_ways)
{
    spm_file f = {0};
    spm_file_plain(&f);
    add_letters(&f);
    spm_file_piece(&f, "abc", -2.0f, 1);
    ps_tokenizer *t = open_file(&f);
    expect(t, "abc", false, "9");
    expect(t, "abcabc", false, "9 9");
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(blanks_are_marked_and_a_prefix_begins_the_text)
{
    spm_file f = {0};
    spm_file_piece(&f, "<unk>", 0.0f, 2);
    spm_file_piece(&f, "<s>", 0.0f, 3);
    spm_file_piece(&f, "</s>", 0.0f, 3);
    add_letters(&f);
    spm_file_piece(&f, MARK "a", -3.0f, 1);
    spm_file_trainer(&f, 3, 2);
    ps_tokenizer *t = open_file(&f);
    // Defaults: a prefix, no white space around the text or in runs.
    expect(t, "a", false, "9");
    expect(t, "  a   b ", false, "9 8 4");
    expect(t, "a", true, "1 9");
    expect(t, "   ", false, "");
    char *text = tiny_tokenizer_text(t, (const int32_t[]){9, 8, 4}, 3, false);
    ck_assert_str_eq(text, "a b");
    ps_mem_free(text);
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(user_defined_pieces_are_found_whole_and_take_no_prefix_behind_them)
{
    spm_file f = {0};
    spm_file_piece(&f, "<unk>", 0.0f, 2);
    spm_file_piece(&f, "<s>", 0.0f, 3);
    spm_file_piece(&f, "[U]", 0.0f, 4);
    add_letters(&f);
    spm_file_trainer(&f, 3, 2);
    ps_tokenizer *t = open_file(&f);
    expect(t, "a[U]b", false, "8 3 2 4");
    expect(t, "[U][U]", false, "8 2 2");
    // Behind a control token a new text begins.
    expect(t, "<s>a", false, "1 8 3");
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(what_is_unknown_becomes_one_token_or_bytes)
{
    spm_file f = {0};
    spm_file_plain(&f);
    add_letters(&f);
    ps_tokenizer *t = open_file(&f);
    expect(t, "axyb", false, "3 0 4");
    ps_tokenizer_free(t);
    spm_file g = {0};
    spm_file_plain(&g);
    for (int i = 0; i < 256; i++) {
        char piece[8];
        snprintf(piece, sizeof piece, "<0x%02X>", (unsigned)i);
        spm_file_piece(&g, piece, 0.0f, 6);
    }
    spm_file_piece(&g, "a", -1.0f, 1);
    t = open_file(&g);
    expect(t, "a\xC3\xA9", false, "259 198 172");
    // The name of a byte piece is text.
    expect(t, "<0x41>", false, "63 51 123 55 52 65");
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(control_pieces_are_never_made_of_a_text)
{
    spm_file f = {0};
    spm_file_plain(&f);
    spm_file_piece(&f, "<", -1.0f, 1);
    spm_file_piece(&f, "s>", -2.0f, 1);
    spm_file_piece(&f, "s", -3.0f, 1);
    spm_file_piece(&f, ">", -4.0f, 1);
    ps_tokenizer *t = open_file(&f);
    const ps_tokenizer_part part = {-1, "<s>", 3};
    ps_tokens ids = {0};
    assert_ok(ps_tokenizer_encode_parts(t, &part, 1, &ids));
    ck_assert_uint_eq(ids.n, 2);
    ck_assert(ids.ids[0] == 3 && ids.ids[1] == 4);
    expect(t, "<s>", false, "1");
    ps_tokens_release(&ids);
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(unigram_takes_the_best_sum)
{
    spm_file f = {0};
    spm_file_piece(&f, "<unk>", 0.0f, 2);
    add_letters(&f);
    spm_file_normalizer(&f, 3, 0);
    ps_tokenizer *t = open_file(&f);
    // ab c: -1 - 12; a bc: -10 - 1.
    expect(t, "abc", false, "1 4");
    expect(t, "a b", false, "1 6 2");
    ps_tokenizer_free(t);
}
END_TEST

static void refuse(spm_file *f, ps_err code, const char *message)
{
    ps_tokenizer *t;
    spm_file_write(f, "m.model");
    spm_file_release(f);
    ck_assert_int_eq(ps_tokenizers_open("m.model", &t), code);
    ck_assert_ptr_null(t);
    assert_message(message);
}

START_TEST(what_is_not_understood_is_refused_and_named)
{
    spm_file f = {0};
    refuse(&f, PS_ERR_FORMAT, "m.model: not a SentencePiece model: it has no pieces");
    spm_file_plain(&f);
    spm_file_trainer(&f, 3, 3);
    refuse(&f, PS_ERR_UNSUPPORTED,
           "m.model: SentencePiece model of type 3, wanted 1 (Unigram) or 2 (BPE)");
    spm_file_plain(&f);
    spm_file_trainer(&f, 24, 1);
    refuse(&f, PS_ERR_UNSUPPORTED, "m.model: treat_whitespace_as_suffix is not supported");
    spm_file_plain(&f);
    spm_file_append_field(&f.denormalizer, 2, "x", 1);
    refuse(&f, PS_ERR_UNSUPPORTED, "m.model: denormalization is not supported");
    spm_file_plain(&f);
    spm_file_piece(&f, "x", 0.0f, 7);
    refuse(&f, PS_ERR_FORMAT, "m.model: not a SentencePiece model: a piece is of no known type");
    spm_file_plain(&f);
    spm_file_piece(&f, "", 0.0f, 1);
    refuse(&f, PS_ERR_FORMAT, "m.model: not a SentencePiece model: a piece is empty");
    spm_file_plain(&f);
    spm_file_piece(&f, "x", NAN, 1);
    refuse(&f, PS_ERR_NUMERIC, "m.model: piece 3 has the score nan");
    spm_file_plain(&f);
    spm_file_piece(&f, "\xFF", 0.0f, 1);
    refuse(&f, PS_ERR_FORMAT, "m.model: token 3 is not UTF-8");
    spm_file_plain(&f);
    spm_file_piece(&f, "u", 0.0f, 2);
    refuse(&f, PS_ERR_FORMAT, "m.model: pieces 0 and 3 are both the unknown one");
    spm_file_plain(&f);
    add_letters(&f);
    spm_file_piece(&f, "abc", 0.0f, 5);
    refuse(&f, PS_ERR_UNSUPPORTED, "m.model: piece 9 is unused, but pieces 3 and 6 make it");
}
END_TEST

START_TEST(a_file_that_is_cut_short_is_refused_or_has_fewer_pieces)
{
    spm_file f = {0};
    spm_file_plain(&f);
    add_letters(&f);
    ps_text bytes = spm_file_bytes(&f);
    spm_file_release(&f);
    for (size_t n = 0; n < bytes.len; n++) {
        ps_tokenizer *t;
        scratch_write("m.model", bytes.data, n);
        if (ps_tokenizers_open("m.model", &t) == PS_OK) ck_assert_int_le(ps_tokenizer_size(t), 9);
        ps_tokenizer_free(t);
    }
    ps_text_release(&bytes);
}
END_TEST

START_TEST(a_damaged_file_does_no_harm)
{
    static const unsigned char masks[] = {0x01, 0x02, 0x08, 0x80, 0xFF};
    spm_file f = {0};
    spm_file_plain(&f);
    add_letters(&f);
    ps_text bytes = spm_file_bytes(&f);
    spm_file_release(&f);
    for (size_t i = 0; i < bytes.len; i++) {
        for (size_t k = 0; k < sizeof masks; k++) {
            ps_tokenizer *t;
            bytes.data[i] = (char)(bytes.data[i] ^ (char)masks[k]);
            scratch_write("m.model", bytes.data, bytes.len);
            if (ps_tokenizers_open("m.model", &t) == PS_OK) {
                char *ids = tiny_tokenizer_ids(t, "abc <s> x abcabc", true);
                ps_mem_free(ids);
            }
            ps_tokenizer_free(t);
            bytes.data[i] = (char)(bytes.data[i] ^ (char)masks[k]);
        }
    }
    ps_text_release(&bytes);
}
END_TEST

/* ---- directories ---- */

static void write_model(void)
{
    spm_file f = {0};
    spm_file_piece(&f, "<unk>", 0.0f, 2);
    spm_file_piece(&f, "<s>", 0.0f, 3);
    spm_file_piece(&f, "</s>", 0.0f, 3);
    add_letters(&f);
    spm_file_trainer(&f, 3, 2);
    spm_file_write(&f, "tokenizer.model");
    spm_file_release(&f);
}

static ps_tokenizer *open_directory(void)
{
    return open_path(".");
}

START_TEST(a_directory_without_a_tokenizer_has_none)
{
    ps_tokenizer *t;
    assert_ok(ps_tokenizers_open(".", &t));
    ck_assert_ptr_null(t);
}
END_TEST

START_TEST(the_config_says_what_is_added_and_how)
{
    write_model();
    scratch_write_text("tokenizer_config.json",
                       "{\"add_bos_token\": false, \"add_eos_token\": true, \"legacy\": true,"
                       " \"added_tokens_decoder\": {"
                       "\"9\": {\"content\": \"<|x|>\", \"special\": true, \"rstrip\": true},"
                       "\"2\": {\"content\": \"</s>\", \"special\": true}}}");
    ps_tokenizer *t = open_directory();
    expect(t, "a", true, "8 3 2");
    expect(t, "a<|x|>  b", false, "8 3 9 8 4");
    ck_assert(ps_tokenizer_is_special(t, 9));
    ps_tokenizer_free(t);
    scratch_write_text("tokenizer_config.json", "{\"add_prefix_space\": false}");
    t = open_directory();
    expect(t, "a<s>b", true, "1 3 1 4");
    ps_tokenizer_free(t);
    scratch_write_text("tokenizer_config.json", "{\"legacy\": false}");
    t = open_directory();
    expect(t, "a<s>b", true, "1 8 3 1 4");
    ps_tokenizer_free(t);
    scratch_write_text("tokenizer_config.json", "{\"tokenizer_class\": \"T5Tokenizer\"}");
    t = open_directory();
    expect(t, "a", true, "8 3 2");
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(older_directories_name_added_tokens_in_two_files)
{
    write_model();
    scratch_write_text("added_tokens.json", "{\"<|y|>\": 10, \"plain\": 11}");
    scratch_write_text("special_tokens_map.json",
                       "{\"bos_token\": \"<s>\", \"additional_special_tokens\": [{\"content\": "
                       "\"<|y|>\"}, \"ab\"]}");
    ps_tokenizer *t = open_directory();
    expect(t, "<|y|>plain", false, "10 11");
    ck_assert(ps_tokenizer_is_special(t, 10) && !ps_tokenizer_is_special(t, 11));
    ck_assert(ps_tokenizer_is_special(t, 7)); // a piece that became special
    ps_tokenizer_free(t);
    scratch_write_text("special_tokens_map.json", "{\"pad_token\": \"<pad>\"}");
    ck_assert_int_eq(ps_tokenizers_open(".", &t), PS_ERR_FORMAT);
    assert_message(".: special_tokens_map.json: <pad> is no token");
    scratch_remove("special_tokens_map.json");
    scratch_write_text("added_tokens.json", "{\"<|y|>\": -1}");
    ck_assert_int_eq(ps_tokenizers_open(".", &t), PS_ERR_FORMAT);
    assert_message(".: added_tokens.json: <|y|> has no id in 0..16777215");
}
END_TEST

START_TEST(what_is_named_twice_counts_once)
{
    write_model();
    scratch_write_text("tokenizer_config.json",
                       "{\"added_tokens_decoder\": {\"11\": {\"content\": \"two\"}, \"10\": "
                       "{\"content\": \"one\"}, \"010\": {\"content\": \"other\"}}}");
    scratch_write_text("added_tokens.json", "{\"later\": 11}");
    scratch_write_text("special_tokens_map.json",
                       "{\"bos_token\": \"ab\", \"additional_special_tokens\": [\"ab\", \"two\"], "
                       "\"eos_token\": \"two\"}");
    ps_tokenizer *t = open_directory();
    ck_assert_int_eq(ps_tokenizer_find(t, "one"), 10);
    ck_assert_int_eq(ps_tokenizer_find(t, "two"), 11);
    ck_assert_int_eq(ps_tokenizer_find(t, "other"), -1);
    ck_assert_int_eq(ps_tokenizer_find(t, "later"), -1);
    ck_assert(ps_tokenizer_is_special(t, 7) && ps_tokenizer_is_special(t, 11));
    ck_assert(!ps_tokenizer_is_special(t, 10));
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(an_added_token_must_be_the_piece_of_its_id)
{
    ps_tokenizer *t;
    write_model();
    scratch_write_text("tokenizer_config.json",
                       "{\"added_tokens_decoder\": {\"3\": {\"content\": \"other\"}}}");
    ck_assert_int_eq(ps_tokenizers_open(".", &t), PS_ERR_FORMAT);
    assert_mentions("added token other has id 3, which is a's");
    scratch_write_text("tokenizer_config.json", "{\"added_tokens_decoder\": {\"x\": {}}}");
    ck_assert_int_eq(ps_tokenizers_open(".", &t), PS_ERR_FORMAT);
    assert_mentions("\"x\" is not an id with a token");
}
END_TEST

START_TEST(a_tokenizer_json_goes_before_a_model)
{
    write_model();
    scratch_write_text("tokenizer.json",
                       "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []}}");
    ps_tokenizer *t = open_directory();
    ck_assert_int_eq(ps_tokenizer_size(t), 1);
    ps_tokenizer_free(t);
}
END_TEST

/* ---- the reference ---- */

static char *golden_dir; // its absolute path: the tests of a scratch case run elsewhere

static const char *const kinds[] = {"spm-bpe", "spm-bpe-noprefix", "spm-bpe-nfkc", "spm-unigram",
                                    "spm-unigram-bytes"};

START_TEST(every_text_is_cut_as_sentencepiece_cuts_it)
{
    golden_counts counts = {0};
    ps_text dir = {0}, failures = {0};
    ps_text_appendf(&dir, "%s/tokenizers/%s", golden_dir, kinds[_i]);
    assert_ok(golden_tokenizer_check_sentencepiece(dir.data, &counts, &failures));
    ck_assert_msg(counts.n_failed == 0, "%s", ps_text_str(&failures));
    ck_assert_int_gt(counts.n_cases, 1000);
    ps_text_release(&failures);
    ps_text_release(&dir);
}
END_TEST

int main(void)
{
    golden_dir = realpath("tests/golden", NULL);
    Suite *suite = suite_create("tool/sentencepiece");
    TCase *tcase = scratch_case(suite, "sentencepiece");
    tcase_add_test(tcase, of_equal_scores_the_leftmost_pair_is_merged);
    tcase_add_test(tcase, a_piece_can_be_made_in_several_ways);
    tcase_add_test(tcase, blanks_are_marked_and_a_prefix_begins_the_text);
    tcase_add_test(tcase, user_defined_pieces_are_found_whole_and_take_no_prefix_behind_them);
    tcase_add_test(tcase, what_is_unknown_becomes_one_token_or_bytes);
    tcase_add_test(tcase, control_pieces_are_never_made_of_a_text);
    tcase_add_test(tcase, unigram_takes_the_best_sum);
    tcase_add_test(tcase, what_is_not_understood_is_refused_and_named);
    tcase_add_test(tcase, a_file_that_is_cut_short_is_refused_or_has_fewer_pieces);
    tcase_add_test(tcase, a_damaged_file_does_no_harm);
    tcase_add_test(tcase, a_directory_without_a_tokenizer_has_none);
    tcase_add_test(tcase, the_config_says_what_is_added_and_how);
    tcase_add_test(tcase, older_directories_name_added_tokens_in_two_files);
    tcase_add_test(tcase, what_is_named_twice_counts_once);
    tcase_add_test(tcase, an_added_token_must_be_the_piece_of_its_id);
    tcase_add_test(tcase, a_tokenizer_json_goes_before_a_model);
    tcase_add_loop_test(tcase, every_text_is_cut_as_sentencepiece_cuts_it, 0,
                        (int)(sizeof kinds / sizeof *kinds));
    const int status = scratch_run(suite);
    free(golden_dir);
    return status;
}
