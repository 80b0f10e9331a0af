/* What is read out of the model's text, and metadata as JSON. */
#include "tool/acestep/parse.h"

#include <string.h>

#include "support/acestep_rows.h"
#include "support/jsonl.h"
#include "support/scratch.h"

static void expect_text(const char *file, int line, const char *what, ps_text *got,
                        const json_t *wanted)
{
    const ps_span text = acestep_span(wanted);
    ck_assert_msg(got->len == text.n && memcmp(ps_text_str(got), text.at, text.n) == 0,
                  "%s:%d: %s \"%s\", wanted \"%s\"", file, line, what, ps_text_str(got), text.at);
    ps_text_clear(got);
}

static void check_row(const json_t *row, int line, void *arg)
{
    const char *file = arg;
    const ps_span text = acestep_span(json_object_get(row, "text"));
    ps_metadata metadata = {0};
    ps_text found = {0};
    ps_acestep_parse_metadata(text, &metadata);
    ps_text difference = acestep_difference(&metadata, json_object_get(row, "metadata"));
    ck_assert_msg(difference.len == 0, "%s:%d: %s", file, line, ps_text_str(&difference));
    ps_acestep_parse_codes(text, &found);
    expect_text(file, line, "codes", &found, json_object_get(row, "audio_codes"));
    ps_acestep_parse_lyrics(text, &found);
    expect_text(file, line, "lyrics", &found, json_object_get(row, "lyrics"));
    ps_text_release(&found);
    ps_text_release(&difference);
    ps_metadata_release(&metadata);
}

static void walk(const char *name)
{
    ck_assert_msg(jsonl_walk(name, check_row, (void *)(uintptr_t)name) > 0, "%s: %s", name,
                  ps_err_message());
}

START_TEST(outputs_are_read_as_in_the_reference)
{
    walk("acestep/lm/parse.jsonl");
}
END_TEST

START_TEST(odd_outputs_are_read_by_the_same_rules)
{
    walk("acestep/texts/parse.jsonl");
}
END_TEST

START_TEST(codes_are_numbers_in_their_order)
{
    ps_tokens codes = {0};
    const char *text = "x <|audio_code_12|><|audio_code_0|> <|audio_code_|><|audio_code_٣٤|>";
    ck_assert(ps_acestep_parse_code_numbers(ps_span_of(text), &codes));
    ck_assert_uint_eq(codes.n, 3);
    ck_assert_int_eq(codes.ids[0], 12);
    ck_assert_int_eq(codes.ids[1], 0);
    ck_assert_int_eq(codes.ids[2], 34);
    ck_assert(!ps_acestep_parse_code_numbers(ps_span_of("<|audio_code_2147483648|>"), &codes));
    ps_tokens_release(&codes);
}
END_TEST

START_TEST(metadata_become_json_in_the_order_of_the_block)
{
    ps_metadata metadata = {0};
    ps_text json = {0};
    ps_metadata_append_json(&json, &metadata);
    ck_assert_str_eq(ps_text_str(&json), "{}");
    ps_text_clear(&json);
    ps_metadata_set_text(&metadata, PS_ACESTEP_TIMESIGNATURE, ps_span_of("4"));
    ps_metadata_set_real(&metadata, PS_ACESTEP_DURATION, 30.0);
    ps_metadata_set_text(&metadata, PS_ACESTEP_CAPTION, ps_span_of("a \"b\""));
    ps_metadata_set_number(&metadata, PS_ACESTEP_BPM, ps_span_of(" +0120 "));
    ps_metadata_append_json(&json, &metadata);
    ck_assert_str_eq(ps_text_str(&json), "{\"bpm\": 120, \"caption\": \"a \\\"b\\\"\", "
                                         "\"duration\": 30.0, \"timesignature\": \"4\"}");
    ps_text_release(&json);
    ps_metadata_release(&metadata);
}
END_TEST

START_TEST(durations_are_seconds_where_they_are_numbers)
{
    static const struct {
        const char *text;
        double seconds;
    } cases[] = {{"120", 120.0}, {"12.5", 12.5}, {"1:30", 0.0},
                 {"", 0.0},      {"long", 0.0},  {"nan", 0.0}};
    ps_metadata metadata = {0};
    ck_assert_double_eq(ps_metadata_duration(&metadata), 0.0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ps_metadata_set_number(&metadata, PS_ACESTEP_DURATION, ps_span_of(cases[i].text));
        ck_assert_double_eq(ps_metadata_duration(&metadata), cases[i].seconds);
    }
    ps_metadata_set_real(&metadata, PS_ACESTEP_DURATION, 11.5);
    ck_assert_double_eq(ps_metadata_duration(&metadata), 11.5);
    ps_metadata_release(&metadata);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/acestep/parse");
    TCase *tcase = tcase_create("parse");
    suite_add_tcase(suite, tcase);
    tcase_add_test(tcase, outputs_are_read_as_in_the_reference);
    tcase_add_test(tcase, odd_outputs_are_read_by_the_same_rules);
    tcase_add_test(tcase, codes_are_numbers_in_their_order);
    tcase_add_test(tcase, metadata_become_json_in_the_order_of_the_block);
    tcase_add_test(tcase, durations_are_seconds_where_they_are_numbers);
    return scratch_run(suite);
}
