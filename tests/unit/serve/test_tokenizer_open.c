/* Opening a tokenizer.json: what it says about itself, and what is wrong with it. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "support/golden_tokenizer.h"
#include "support/tiny_tokenizer.h"

static const char letters[] =
    "{\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 5}, \"merges\": []}";

static ps_tokenizer *open_parts(const tiny_tokenizer *parts)
{
    ps_tokenizer *t;
    ck_assert_msg(tiny_tokenizer_open(parts, &t) == PS_OK, "%s", ps_err_message());
    return t;
}

START_TEST(tokens_are_found_by_content)
{
    const tiny_tokenizer parts = {
        .model = letters,
        .added_tokens = "[{\"id\": 9, \"content\": \"<s>\", \"special\": true}, {\"id\": 5, "
                        "\"content\": \"b\", \"special\": true}]"};
    ps_tokenizer *t = open_parts(&parts);
    ck_assert_int_eq(ps_tokenizer_size(t), 10);
    ck_assert_int_eq(ps_tokenizer_find(t, "a"), 0);
    ck_assert_int_eq(ps_tokenizer_find(t, "b"), 5);
    ck_assert_int_eq(ps_tokenizer_find(t, "<s>"), 9);
    ck_assert_int_eq(ps_tokenizer_find(t, "c"), -1);
    ck_assert_int_eq(ps_tokenizer_find(t, ""), -1);
    ck_assert(ps_tokenizer_is_special(t, 9) && ps_tokenizer_is_special(t, 5));
    ck_assert(!ps_tokenizer_is_special(t, 0) && !ps_tokenizer_is_special(t, 3));
    ps_tokenizer_free(t);
    ps_tokenizer_free(NULL);
}
END_TEST

static void expect_special_ids(const char *post, const char *wanted, bool has)
{
    const tiny_tokenizer parts = {.model = letters, .post_processor = post};
    ps_tokenizer *t = open_parts(&parts);
    char *with = tiny_tokenizer_ids(t, "aa", true), *without = tiny_tokenizer_ids(t, "aa", false);
    ck_assert_str_eq(with, wanted);
    ck_assert_str_eq(without, "0 0");
    ck_assert_int_eq(ps_tokenizer_has_post_processor_tokens(t), has);
    ps_mem_free(without);
    ps_mem_free(with);
    ps_tokenizer_free(t);
}

#define SPECIALS         ", \"special_tokens\": {\"S\": {\"id\": \"S\", \"ids\": [5, 5], \"tokens\": []}}}"
#define TEMPLATE(single) "{\"type\": \"TemplateProcessing\", \"single\": [" single "]" SPECIALS
#define TEXT             "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}"
#define S                "{\"SpecialToken\": {\"id\": \"S\", \"type_id\": 0}}"

START_TEST(post_processors_add_their_tokens)
{
    expect_special_ids(NULL, "0 0", false);
    expect_special_ids("{\"type\": \"ByteLevel\"}", "0 0", false);
    expect_special_ids(TEMPLATE(S ", " TEXT), "5 5 0 0", true);
    expect_special_ids(TEMPLATE(TEXT), "0 0", false);
    expect_special_ids(
        "{\"type\": \"Sequence\", \"processors\": [{\"type\": \"ByteLevel\"}, " TEMPLATE(
            TEXT ", " S) "]}",
        "0 0 5 5", true);
    expect_special_ids(
        "{\"type\": \"RobertaProcessing\", \"sep\": [\"b\", 5], \"cls\": [\"a\", 0]}", "0 0 0 5",
        true);
    expect_special_ids("{\"type\": \"BertProcessing\", \"sep\": [\"b\", 5], \"cls\": [\"a\", 0]}",
                       "0 0 0 5", true);
}
END_TEST

START_TEST(a_template_may_name_the_text_twice)
{
    const tiny_tokenizer parts = {.model = letters,
                                  .post_processor = TEMPLATE(TEXT ", " S ", " TEXT)};
    ps_tokenizer *t = open_parts(&parts);
    char *with = tiny_tokenizer_ids(t, "ab", true), *without = tiny_tokenizer_ids(t, "ab", false);
    ck_assert_str_eq(with, "0 5 5 5 0 5");
    ck_assert_str_eq(without, "0 5 0 5");
    ps_mem_free(without);
    ps_mem_free(with);
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(an_old_file_need_not_name_the_model)
{
    const tiny_tokenizer bpe = {.model = "{\"vocab\": {\"a\": 0}, \"merges\": []}"};
    const tiny_tokenizer unigram = {.model = "{\"vocab\": [[\"a\", 0.0]]}"};
    ps_tokenizer_free(open_parts(&bpe));
    ps_tokenizer_free(open_parts(&unigram));
}
END_TEST

START_TEST(padding_to_the_longest_of_a_batch_is_nothing_to_one_text)
{
    const tiny_tokenizer parts = {.model = letters,
                                  .other = "\"padding\": {\"strategy\": \"BatchLongest\", "
                                           "\"pad_to_multiple_of\": null}, "};
    ps_tokenizer_free(open_parts(&parts));
}
END_TEST

/* One part of a tokenizer that is otherwise good, and what is said about it. */
static const struct {
    tiny_tokenizer parts;
    ps_err err;
    const char *message;
} refused[] = {
    {{.model = "{\"type\": \"WordPiece\", \"vocab\": {}}"},
     PS_ERR_UNSUPPORTED,
     "tiny: model of type WordPiece is not supported"},
    {{.model = "{\"vocab\": {}}"},
     PS_ERR_UNSUPPORTED,
     "tiny: model of type WordPiece is not supported"},
    {{.model = NULL}, PS_ERR_FORMAT, "tiny: key model is missing"},
    {{.model = "{\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 0}, \"merges\": []}"},
     PS_ERR_FORMAT,
     "have the same id 0"},
    {{.model = "{\"type\": \"BPE\", \"vocab\": {\"a\": -1}, \"merges\": []}"},
     PS_ERR_LIMIT,
     "tiny: a token has the id -1, wanted 0..16777215"},
    {{.model = "{\"type\": \"BPE\", \"vocab\": {\"a\": 16777216}, \"merges\": []}"},
     PS_ERR_LIMIT,
     "tiny: a token has the id 16777216, wanted 0..16777215"},
    {{.model = "{\"type\": \"BPE\", \"vocab\": {\"a\": 9223372036854775807}, \"merges\": []}"},
     PS_ERR_LIMIT,
     "wanted 0..16777215"},
    {{.model = "{\"type\": \"BPE\", \"vocab\": {\"a\": \"x\"}, \"merges\": []}"},
     PS_ERR_FORMAT,
     "tiny: the id of token a is not an integer"},
    {{.model = "{\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a c\"]}"},
     PS_ERR_FORMAT,
     "tiny: merge 0 names the token \"c\", not in the vocabulary"},
    {{.model = "{\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [[\"a\", \"a\"]]}"},
     PS_ERR_FORMAT,
     "tiny: merge 0 names the token \"aa\", not in the vocabulary"},
    {{.model = "{\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a a a\"]}"},
     PS_ERR_FORMAT,
     "tiny: merge 0 is not a pair of tokens"},
    {{.model = "{\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [7]}"},
     PS_ERR_FORMAT,
     "tiny: merge 0 is not a pair of tokens"},
    {{.model = "{\"type\": \"BPE\", \"vocab\": {\"a\": 0}}"},
     PS_ERR_FORMAT,
     "tiny: key merges is missing"},
    {{.model = "{\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [], \"dropout\": 0.1}"},
     PS_ERR_UNSUPPORTED,
     "tiny: BPE dropout 0.1 is not supported"},
    {{.model = "{\"type\": \"Unigram\", \"vocab\": [[\"a\", 0.0]], \"unk_id\": 1}"},
     PS_ERR_FORMAT,
     "tiny: unk_id is 1, wanted 0..0"},
    {{.model = "{\"type\": \"Unigram\", \"vocab\": []}"},
     PS_ERR_LIMIT,
     "tiny: a vocabulary of 0 tokens, wanted 1..16777216"},
    {{.model = "{\"type\": \"Unigram\", \"vocab\": [[\"a\"]]}"},
     PS_ERR_FORMAT,
     "tiny: token 0 is not a pair of string and score"},
    {{.model = letters, .other = "\"version\": \"2.0\", "},
     PS_ERR_UNSUPPORTED,
     "tiny: version 2.0, wanted 1.0"},
    {{.model = letters, .other = "\"truncation\": {\"max_length\": 5}, "},
     PS_ERR_UNSUPPORTED,
     "tiny: truncation is not supported"},
    {{.model = letters, .other = "\"padding\": {\"strategy\": {\"Fixed\": 8}}, "},
     PS_ERR_UNSUPPORTED,
     "tiny: padding is not supported"},
    {{.model = letters, .normalizer = "{\"type\": \"BertNormalizer\"}"},
     PS_ERR_UNSUPPORTED,
     "tiny: normalizer of type BertNormalizer is not supported"},
    {{.model = letters, .decoder = "{\"type\": \"CTC\"}"},
     PS_ERR_UNSUPPORTED,
     "tiny: decoder of type CTC is not supported"},
    {{.model = letters, .decoder = "{}"}, PS_ERR_FORMAT, "tiny: key type is missing"},
    {{.model = letters, .decoder = "[]"}, PS_ERR_FORMAT, "tiny: decoder is an array"},
    {{.model = letters, .pre_tokenizer = "{\"type\": \"Split\", \"behavior\": \"Isolated\"}"},
     PS_ERR_FORMAT,
     "tiny: key pattern is missing"},
    {{.model = letters,
      .pre_tokenizer = "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"(\"}, \"behavior\": "
                       "\"Isolated\"}"},
     PS_ERR_FORMAT,
     "tiny: the regular expression ( does not compile"},
    {{.model = letters, .post_processor = TEMPLATE("{\"Sequence\": {\"id\": \"B\"}}")},
     PS_ERR_FORMAT,
     "tiny: the template for one text names the sequence B"},
    {{.model = letters, .post_processor = TEMPLATE("{\"SpecialToken\": {\"id\": \"X\"}}")},
     PS_ERR_FORMAT,
     "tiny: key X is missing"},
    {{.model = letters,
      .post_processor = "{\"type\": \"BertProcessing\", \"sep\": [\"b\", 1], \"cls\": [\"a\", 0]}"},
     PS_ERR_FORMAT,
     "tiny: post_processor adds the id 1, which no token has"},
    {{.model = letters,
      .post_processor =
          "{\"type\": \"Sequence\", \"processors\": [" TEMPLATE(TEXT) ", " TEMPLATE(TEXT) "]}"},
     PS_ERR_UNSUPPORTED,
     "tiny: post_processor: a second one that adds tokens (TemplateProcessing)"},
    {{.model = letters, .added_tokens = "[{\"id\": 9, \"content\": \"a\"}]"},
     PS_ERR_FORMAT,
     "tiny: added token a has id 9, in the vocabulary it has 0"},
    {{.model = letters, .added_tokens = "[{\"id\": 0, \"content\": \"x\"}]"},
     PS_ERR_FORMAT,
     "tiny: added token x has id 0, which is a's"},
    {{.model = letters,
      .added_tokens = "[{\"id\": 9, \"content\": \"x\"}, {\"id\": 9, \"content\": \"y\"}]"},
     PS_ERR_FORMAT,
     "have the same id 9"},
    {{.model = letters, .added_tokens = "[{\"id\": 99999999, \"content\": \"x\"}]"},
     PS_ERR_FORMAT,
     "tiny: id is 99999999, wanted 0..16777215"},
    {{.model = letters, .added_tokens = "[7]"},
     PS_ERR_FORMAT,
     "tiny: an added token is not an object"},
};

START_TEST(what_is_wrong_is_refused_and_named)
{
    ps_tokenizer *t;
    ck_assert_int_eq(tiny_tokenizer_open(&refused[_i].parts, &t), refused[_i].err);
    ck_assert_msg(strstr(ps_err_message(), refused[_i].message), "wanted %s\nfound  %s",
                  refused[_i].message, ps_err_message());
    ck_assert_ptr_null(t);
}
END_TEST

/* A token of n times "x", in the vocabulary or added. */
static void expect_long_token(size_t n, const char *before, const char *behind, bool added,
                              ps_err wanted)
{
    ps_text json = {0};
    ps_text_append_str(&json, before);
    for (size_t i = 0; i < n; i++) {
        ps_text_append_char(&json, 'x');
    }
    ps_text_append_str(&json, behind);
    const tiny_tokenizer parts = {.model = added ? letters : json.data,
                                  .added_tokens = added ? json.data : NULL};
    ps_tokenizer *t;
    ck_assert_int_eq(tiny_tokenizer_open(&parts, &t), wanted);
    ps_tokenizer_free(t);
    ps_text_release(&json);
}

START_TEST(tokens_have_a_greatest_length)
{
    static const char bpe[] = "{\"type\": \"BPE\", \"merges\": [], \"vocab\": {\"";
    expect_long_token(4096, bpe, "\": 0}}", false, PS_OK);
    expect_long_token(4097, bpe, "\": 0}}", false, PS_ERR_LIMIT);
    static const char unigram[] = "{\"type\": \"Unigram\", \"vocab\": [[\"";
    expect_long_token(256, unigram, "\", 0.0]]}", false, PS_OK);
    expect_long_token(257, unigram, "\", 0.0]]}", false, PS_ERR_LIMIT);
    static const char added[] = "[{\"id\": 9, \"content\": \"";
    expect_long_token(512, added, "\"}]", true, PS_OK);
    expect_long_token(513, added, "\"}]", true, PS_ERR_LIMIT);
}
END_TEST

static char *read_golden(const char *name, size_t *n)
{
    ps_text path = {0}, json = {0};
    ps_text_appendf(&path, "%s/tokenizers/%s/tokenizer.json", golden_root(), name);
    ck_assert_int_eq(ps_file_read(path.data, 1 << 26, &json), PS_OK);
    *n = json.len;
    ps_text_release(&path);
    return ps_text_take(&json);
}

static const char *const kinds[] = {"flags", "llama2-prepend", "unigram-bytes", "falcon"};

START_TEST(a_file_that_is_cut_short_is_refused)
{
    size_t n;
    char *json = read_golden(kinds[_i / 16], &n);
    ps_tokenizer *t;
    ck_assert_int_eq(ps_tokenizer_open(json, n * (size_t)(_i % 16) / 16, "cut", &t), PS_ERR_FORMAT);
    ck_assert_ptr_null(t);
    ps_mem_free(json);
}
END_TEST

/* Any change of a few bytes is either refused or makes a tokenizer that works. */
START_TEST(a_damaged_file_does_no_harm)
{
    size_t n;
    char *json = read_golden(kinds[_i % 4], &n);
    uint32_t state = (uint32_t)_i * 2654435761u + 7;
    for (int k = 0; k < 3; k++) {
        state = state * 1664525u + 1013904223u;
        const size_t at = (state >> 4) % n;
        state = state * 1664525u + 1013904223u;
        json[at] = "0123456789\",:[]{}ntfx\\-"[(state >> 16) % 23];
    }
    ps_tokenizer *t;
    if (ps_tokenizer_open(json, n, "damaged", &t) == PS_OK) {
        static const char text[] = "Hello <Mask>  w\xC3\xB6rld 123 \xE6\x97\xA5\xE6\x9C\xAC\n";
        ps_tokens ids = {0};
        ps_text out = {0};
        ck_assert_int_ge(ps_tokenizer_encode(t, text, sizeof text - 1, true, &ids), 0);
        ck_assert_int_ge(ps_tokenizer_decode(t, ids.ids, ids.n, false, &out), 0);
        ck_assert_uint_eq(ps_utf8_valid_prefix(ps_text_str(&out), out.len, NULL), out.len);
        ps_text_release(&out);
        ps_tokens_release(&ids);
    }
    ps_tokenizer_free(t);
    ps_mem_free(json);
}
END_TEST

START_TEST(a_text_that_is_too_long_is_refused)
{
    const tiny_tokenizer parts = {.model = letters};
    ps_tokenizer *t = open_parts(&parts);
    ps_tokens ids = {0};
    ck_assert_int_eq(ps_tokenizer_encode(t, "a", (size_t)PS_TOKENIZER_MAX_TEXT + 1, false, &ids),
                     PS_ERR_LIMIT);
    ck_assert_uint_eq(ids.n, 0);
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(an_error_leaves_the_tokens_as_they_were)
{
    const tiny_tokenizer parts = {.model = "{\"type\": \"Unigram\", \"vocab\": [[\"a\", 0.0]]}"};
    ps_tokenizer *t = open_parts(&parts);
    ps_tokens ids = {0};
    ck_assert_int_eq(ps_tokenizer_encode(t, "a", 1, false, &ids), PS_OK);
    ck_assert_int_eq(ps_tokenizer_encode(t, "aax", 3, false, &ids), PS_ERR_FORMAT);
    ck_assert_uint_eq(ids.n, 1);
    ck_assert_int_eq(ids.ids[0], 0);
    ps_tokens_release(&ids);
    ps_tokenizer_free(t);
}
END_TEST

#define COUNT(array) (int)(sizeof(array) / sizeof *(array))

int main(void)
{
    TCase *tcase = tcase_create("open");
    tcase_add_test(tcase, tokens_are_found_by_content);
    tcase_add_test(tcase, post_processors_add_their_tokens);
    tcase_add_test(tcase, a_template_may_name_the_text_twice);
    tcase_add_test(tcase, an_old_file_need_not_name_the_model);
    tcase_add_test(tcase, padding_to_the_longest_of_a_batch_is_nothing_to_one_text);
    tcase_add_loop_test(tcase, what_is_wrong_is_refused_and_named, 0, COUNT(refused));
    tcase_add_test(tcase, tokens_have_a_greatest_length);
    tcase_add_loop_test(tcase, a_file_that_is_cut_short_is_refused, 0, 16 * COUNT(kinds));
    tcase_add_loop_test(tcase, a_damaged_file_does_no_harm, 0, 400);
    tcase_add_test(tcase, a_text_that_is_too_long_is_refused);
    tcase_add_test(tcase, an_error_leaves_the_tokens_as_they_were);
    Suite *suite = suite_create("serve/tokenizer_open");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
