/* Pre-tokenizers: how they cut texts. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "serve/tokenizer_parts.h"

/* Spans of a text, joined by '|', or the message of the error that reading the parts met. */
static char *split_with(const char *json, const char *text)
{
    ps_text out = {0}, document = {0};
    json_t *root;
    ps_tok_splitters splitters = {0};
    ps_tok_matcher matcher = {0};
    ps_tok_work work = {.matcher = &matcher};
    ps_text_appendf(&document, "{\"pre_tokenizer\": %s}", json);
    ck_assert_int_eq(ps_json_parse(document.data, document.len, "test", &root), PS_OK);
    ps_err err = ps_tok_splitters_read(&splitters, root, "test");
    uint32_t first;
    const size_t n = strlen(text);
    ps_tok_work_begin(&work, text, n, n ? ps_utf8_decode(text, n, &first) : 0);
    if (!err) err = ps_tok_split(&splitters, false, &work);
    if (err) ps_text_append_str(&out, ps_err_message());
    for (size_t i = 0; i < work.spans.n && !err; i++) {
        if (i > 0) ps_text_append_char(&out, '|');
        ps_text_append(&out, work.text + work.spans.span[i].start, work.spans.span[i].n);
    }
    ps_tok_work_release(&work);
    ps_tok_matcher_release(&matcher);
    ps_tok_splitters_release(&splitters);
    json_decref(root);
    ps_text_release(&document);
    return ps_text_take(&out);
}

static void expect_split(const char *json, const char *text, const char *wanted)
{
    char *found = split_with(json, text);
    ck_assert_msg(strcmp(found, wanted) == 0, "%s on \"%s\":\n  wanted %s\n  found  %s", json, text,
                  wanted, found);
    ps_mem_free(found);
}

static const struct {
    const char *behavior, *plain, *inverted;
} behaviors[] = {
    {"Removed", "the|final|countdown", "-|-|-"},
    {"Isolated", "the|-|final|-|-|countdown", "the|-|final|-|-|countdown"},
    {"MergedWithPrevious", "the-|final-|-|countdown", "the|-final|-|-countdown"},
    {"MergedWithNext", "the|-final|-|-countdown", "the-|final-|-|countdown"},
    {"Contiguous", "the|-|final|--|countdown", "the|-|final|--|countdown"},
};

START_TEST(each_behavior_treats_matches_in_its_way)
{
    char json[160];
    static const char form[] = "{\"type\": \"Split\", \"pattern\": {\"String\": \"-\"}, "
                               "\"behavior\": \"%s\", \"invert\": %s}";
    snprintf(json, sizeof json, form, behaviors[_i].behavior, "false");
    expect_split(json, "the-final--countdown", behaviors[_i].plain);
    snprintf(json, sizeof json, form, behaviors[_i].behavior, "true");
    expect_split(json, "the-final--countdown", behaviors[_i].inverted);
}
END_TEST

START_TEST(an_unknown_behavior_is_refused_by_name)
{
    expect_split("{\"type\": \"Split\", \"pattern\": {\"String\": \"-\"}, \"behavior\": \"Gone\"}",
                 "a", "test: behavior is \"Gone\", which is not supported");
}
END_TEST

START_TEST(an_unknown_type_is_refused_by_name)
{
    expect_split("{\"type\": \"UnicodeScripts\"}", "a",
                 "test: pre_tokenizer of type UnicodeScripts is not supported");
}
END_TEST

START_TEST(an_empty_match_is_not_taken_right_behind_a_match)
{
    expect_split("{\"type\": \"Split\", \"pattern\": {\"Regex\": \"x*\"}, \"behavior\": "
                 "\"Isolated\", \"invert\": false}",
                 "axxb", "a|xx|b");
}
END_TEST

START_TEST(an_empty_literal_matches_between_all_characters)
{
    expect_split("{\"type\": \"Split\", \"pattern\": {\"String\": \"\"}, \"behavior\": "
                 "\"Removed\", \"invert\": false}",
                 "aéb", "a|é|b");
}
END_TEST

START_TEST(digits_stand_together_or_alone)
{
    expect_split("{\"type\": \"Digits\", \"individual_digits\": false}", "a12½b", "a|12½|b");
    expect_split("{\"type\": \"Digits\", \"individual_digits\": true}", "a12½b", "a|1|2|½|b");
}
END_TEST

START_TEST(punctuation_is_isolated_by_default)
{
    expect_split("{\"type\": \"Punctuation\"}", "Hey, you!?«", "Hey|,| you|!|?|«");
    expect_split("{\"type\": \"Punctuation\", \"behavior\": \"Contiguous\"}", "a!?b", "a|!?|b");
}
END_TEST

START_TEST(whitespace_separates_words_from_signs)
{
    expect_split("{\"type\": \"Whitespace\"}", "How are  you-doing?", "How|are|you|-|doing|?");
    expect_split("{\"type\": \"WhitespaceSplit\"}", "How are\tyou-doing? ", "How|are|you-doing?");
}
END_TEST

START_TEST(bert_isolates_punctuation_and_drops_blanks)
{
    expect_split("{\"type\": \"BertPreTokenizer\"}", "Hey friend!  How's?",
                 "Hey|friend|!|How|'|s|?");
}
END_TEST

START_TEST(a_delimiter_is_dropped)
{
    expect_split("{\"type\": \"CharDelimiterSplit\", \"delimiter\": \",\"}", "a,b,,c", "a|b|c");
}
END_TEST

START_TEST(a_fixed_length_counts_characters)
{
    expect_split("{\"type\": \"FixedLength\", \"length\": 2}", "aébßc", "aé|bß|c");
}
END_TEST

START_TEST(metaspace_marks_blanks_and_the_start)
{
    expect_split(
        "{\"type\": \"Metaspace\", \"replacement\": \"▁\", \"prepend_scheme\": \"always\", "
        "\"split\": true}",
        "Hey  you", "▁Hey|▁|▁you");
    expect_split("{\"type\": \"Metaspace\", \"replacement\": \"▁\", \"prepend_scheme\": \"never\", "
                 "\"split\": false}",
                 "Hey you", "Hey▁you");
    expect_split("{\"type\": \"Metaspace\", \"replacement\": \"_\"}", " Hey", "_Hey");
}
END_TEST

START_TEST(metaspace_first_marks_only_what_begins_the_text)
{
    static const char json[] =
        "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": "
        "{\"String\": \"-\"}, \"behavior\": \"Isolated\", \"invert\": false}, {\"type\": "
        "\"Metaspace\", \"replacement\": \"▁\", \"prepend_scheme\": \"%s\", \"split\": true}]}";
    char first[320], always[320];
    snprintf(first, sizeof first, json, "first");
    snprintf(always, sizeof always, json, "always");
    expect_split(first, "a-b", "▁a|-|b");
    expect_split(always, "a-b", "▁a|▁-|▁b");
}
END_TEST

START_TEST(metaspace_may_not_contradict_itself)
{
    expect_split("{\"type\": \"Metaspace\", \"replacement\": \"▁\", \"add_prefix_space\": false, "
                 "\"prepend_scheme\": \"always\"}",
                 "a", "test: Metaspace says both add_prefix_space false and prepend_scheme always");
}
END_TEST

START_TEST(byte_level_cuts_like_gpt2_and_writes_the_byte_alphabet)
{
    expect_split("{\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"use_regex\": true}",
                 "It's 10€\n", "ĠIt|'s|Ġ10|âĤ¬|Ċ");
    expect_split("{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": false}",
                 "a b", "aĠb");
}
END_TEST

START_TEST(sequences_in_sequences_are_one_chain)
{
    expect_split("{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Sequence\", "
                 "\"pretokenizers\": [{\"type\": \"WhitespaceSplit\"}]}, {\"type\": \"Sequence\", "
                 "\"pretokenizers\": []}, {\"type\": \"Punctuation\"}]}",
                 "a b.c", "a|b|.|c");
}
END_TEST

START_TEST(sequences_do_not_nest_without_end)
{
    ps_text json = {0};
    for (int i = 0; i < 20; i++) {
        ps_text_append_str(&json, "{\"type\": \"Sequence\", \"pretokenizers\": [");
    }
    for (int i = 0; i < 20; i++) {
        ps_text_append_str(&json, "]}");
    }
    expect_split(json.data, "a", "test: pre_tokenizer: more than 8 Sequences in one another");
    ps_text_release(&json);
}
END_TEST

#define COUNT(array) (int)(sizeof(array) / sizeof *(array))

int main(void)
{
    TCase *tcase = tcase_create("split");
    tcase_add_loop_test(tcase, each_behavior_treats_matches_in_its_way, 0, COUNT(behaviors));
    tcase_add_test(tcase, an_unknown_behavior_is_refused_by_name);
    tcase_add_test(tcase, an_unknown_type_is_refused_by_name);
    tcase_add_test(tcase, an_empty_match_is_not_taken_right_behind_a_match);
    tcase_add_test(tcase, an_empty_literal_matches_between_all_characters);
    tcase_add_test(tcase, digits_stand_together_or_alone);
    tcase_add_test(tcase, punctuation_is_isolated_by_default);
    tcase_add_test(tcase, whitespace_separates_words_from_signs);
    tcase_add_test(tcase, bert_isolates_punctuation_and_drops_blanks);
    tcase_add_test(tcase, a_delimiter_is_dropped);
    tcase_add_test(tcase, a_fixed_length_counts_characters);
    tcase_add_test(tcase, metaspace_marks_blanks_and_the_start);
    tcase_add_test(tcase, metaspace_first_marks_only_what_begins_the_text);
    tcase_add_test(tcase, metaspace_may_not_contradict_itself);
    tcase_add_test(tcase, byte_level_cuts_like_gpt2_and_writes_the_byte_alphabet);
    tcase_add_test(tcase, sequences_in_sequences_are_one_chain);
    tcase_add_test(tcase, sequences_do_not_nest_without_end);
    Suite *suite = suite_create("serve/tokenizer_split");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
