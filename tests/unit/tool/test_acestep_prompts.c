/* Prompts of all modes, as texts and as the ids that the model gets. */
#include "tool/acestep/prompts.h"

#include <string.h>

#include "serve/tokenizer.h"
#include "support/acestep_rows.h"
#include "support/jsonl.h"
#include "support/scratch.h"

static ps_tokenizer *open_tokenizer(void)
{
    ps_text json = {0};
    ps_tokenizer *t;
    ck_assert_msg(jsonl_read("acestep/lm/model/tokenizer.json", &json) == PS_OK, "%s",
                  ps_err_message());
    ck_assert_msg(ps_tokenizer_open(json.data, json.len, "tokenizer.json", &t) == PS_OK, "%s",
                  ps_err_message());
    ps_text_release(&json);
    return t;
}

static void check_ids(const ps_tokenizer *t, const char *what, ps_span text, const json_t *wanted)
{
    ps_tokens tokens = {0};
    ck_assert_int_eq(ps_tokenizer_encode(t, text.at, text.n, false, &tokens), PS_OK);
    ck_assert_msg(tokens.n == json_array_size(wanted), "%s: %zu ids, wanted %zu", what, tokens.n,
                  json_array_size(wanted));
    for (size_t i = 0; i < tokens.n; i++) {
        const json_int_t id = json_integer_value(json_array_get(wanted, i));
        ck_assert_msg(tokens.ids[i] == id, "%s: id %zu is %d, wanted %d", what, i, tokens.ids[i],
                      (int)id);
    }
    ps_tokens_release(&tokens);
}

/* A prompt against the row's member of this name, which must not be there without one. */
static void check_prompt(const ps_tokenizer *t, const json_t *row, const char *member,
                         const ps_text *got)
{
    const json_t *wanted = json_object_get(row, member);
    const char *id = jsonl_text(row, "id");
    ck_assert_msg(json_is_object(wanted), "%s: has no %s", id, member);
    ck_assert_msg(strcmp(ps_text_str(got), jsonl_text(wanted, "text")) == 0,
                  "%s %s:\n%s\nwanted\n%s", id, member, ps_text_str(got),
                  jsonl_text(wanted, "text"));
    check_ids(t, id, ps_span_of_text(got), json_object_get(wanted, "ids"));
}

static ps_acestep_format format_of(const json_t *row)
{
    int format = 0;
    while (format < PS_ACESTEP_FORMATS &&
           strcmp(jsonl_text(row, "format"), ps_acestep_format_name((ps_acestep_format)format)) !=
               0) {
        format++;
    }
    ck_assert_int_lt(format, PS_ACESTEP_FORMATS);
    return (ps_acestep_format)format;
}

static void check_generate(const ps_tokenizer *t, const json_t *row)
{
    const ps_span caption = acestep_span(json_object_get(row, "caption")),
                  lyrics = acestep_span(json_object_get(row, "lyrics")),
                  negative = acestep_span(json_object_get(row, "negative_prompt")),
                  cot = acestep_span(json_object_get(row, "cot"));
    ps_text with = {0}, without = {0};
    if (json_integer_value(json_object_get(row, "phase")) == 1) {
        ps_acestep_prompt_metadata(&with, caption, lyrics);
        ps_acestep_prompt_metadata_without(&without, negative, lyrics);
        check_prompt(t, row, "uncond_legacy", &without);
    } else {
        ps_acestep_prompt_codes(&with, format_of(row), caption, lyrics, cot);
        ps_acestep_prompt_codes_without(&without, format_of(row), caption, lyrics, negative);
        check_prompt(t, row, "uncond", &without);
    }
    check_prompt(t, row, "cond", &with);
    ps_text_release(&with);
    ps_text_release(&without);
}

static void check_other(const ps_tokenizer *t, const json_t *row, const char *mode)
{
    ps_text prompt = {0};
    if (strcmp(mode, "understand") == 0) {
        ps_acestep_prompt_understand(&prompt, acestep_span(json_object_get(row, "audio_codes")));
    } else if (strcmp(mode, "inspiration") == 0) {
        ps_acestep_prompt_inspiration(&prompt, acestep_span(json_object_get(row, "query")),
                                      json_is_true(json_object_get(row, "instrumental")));
    } else {
        ck_assert_str_eq(mode, "rewrite");
        ps_acestep_prompt_rewrite(&prompt, acestep_span(json_object_get(row, "caption")),
                                  acestep_span(json_object_get(row, "lyrics")));
    }
    check_prompt(t, row, "cond", &prompt);
    ps_text_release(&prompt);
}

static void check_row(const json_t *row, int line, void *arg)
{
    (void)line;
    const char *mode = jsonl_text(row, "mode");
    if (strcmp(mode, "generate") == 0) {
        check_generate(arg, row);
    } else {
        check_other(arg, row, mode);
    }
}

START_TEST(prompts_and_their_ids_are_those_of_the_reference)
{
    ps_tokenizer *t = open_tokenizer();
    ck_assert_msg(jsonl_walk("acestep/lm/prompts.jsonl", check_row, t) > 0, "%s", ps_err_message());
    ps_tokenizer_free(t);
}
END_TEST

static void check_tokenizer_row(const json_t *row, int line, void *arg)
{
    const ps_tokenizer *t = arg;
    const json_t *ids = json_object_get(row, "ids");
    char what[32];
    ps_tokens tokens = {0};
    ps_text decoded = {0};
    snprintf(what, sizeof what, "tokenizer.jsonl:%d", line);
    check_ids(t, what, acestep_span(json_object_get(row, "text")), ids);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        ps_tokens_append(&tokens, (int32_t)json_integer_value(json_array_get(ids, i)));
    }
    ck_assert_int_eq(ps_tokenizer_decode(t, tokens.ids, tokens.n, false, &decoded), PS_OK);
    ck_assert_msg(strcmp(ps_text_str(&decoded), jsonl_text(row, "decoded")) == 0, "%s: \"%s\"",
                  what, ps_text_str(&decoded));
    ps_text_release(&decoded);
    ps_tokens_release(&tokens);
}

START_TEST(the_small_tokenizer_is_read_as_in_the_reference)
{
    ps_tokenizer *t = open_tokenizer();
    ck_assert_msg(jsonl_walk("acestep/lm/tokenizer.jsonl", check_tokenizer_row, t) > 0, "%s",
                  ps_err_message());
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(nothing_said_is_said_so)
{
    static const char *const blanks[] = {"", "  \n\t", "\xC2\xA0\xE3\x80\x80"};
    for (size_t i = 0; i < 3; i++) {
        const ps_span nothing = ps_span_of(blanks[i]);
        ps_text prompt = {0};
        ps_acestep_prompt_understand(&prompt, nothing);
        ck_assert_ptr_nonnull(strstr(ps_text_str(&prompt), "user\nNO USER INPUT<|im_end|>"));
        ps_text_clear(&prompt);
        ps_acestep_prompt_inspiration(&prompt, nothing, true);
        ck_assert_ptr_nonnull(
            strstr(ps_text_str(&prompt), "user\nNO USER INPUT\n\ninstrumental: true<|im_end|>"));
        ps_text_clear(&prompt);
        ps_acestep_prompt_rewrite(&prompt, nothing, nothing);
        ck_assert_ptr_nonnull(strstr(
            ps_text_str(&prompt), "# Caption\nNO USER INPUT\n\n# Lyric\n[Instrumental]<|im_end|>"));
        ps_text_release(&prompt);
        ck_assert(!ps_acestep_is_negative(nothing));
    }
    ck_assert(!ps_acestep_is_negative(ps_span_of(" NO USER INPUT\n")));
    ck_assert(ps_acestep_is_negative(ps_span_of("no user input")));
}
END_TEST

/* The block of a closed turn goes through the chat template, which takes it apart at its tags. */
START_TEST(a_closed_turn_keeps_what_stands_before_the_first_end_of_thinking)
{
    ps_text prompt = {0};
    ps_acestep_prompt_codes(&prompt, PS_ACESTEP_LEGACY, ps_span_of("c"), ps_span_of("l"),
                            ps_span_of("<think>\n\ncaption: a</think>b\nbpm: 3\n</think>"));
    ck_assert_ptr_nonnull(
        strstr(ps_text_str(&prompt), "assistant\n<think>\ncaption: a\n</think>\n\n<|im_end|>\n"));
    ps_text_release(&prompt);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/acestep/prompts");
    TCase *tcase = tcase_create("prompts");
    suite_add_tcase(suite, tcase);
    tcase_add_test(tcase, prompts_and_their_ids_are_those_of_the_reference);
    tcase_add_test(tcase, the_small_tokenizer_is_read_as_in_the_reference);
    tcase_add_test(tcase, nothing_said_is_said_so);
    tcase_add_test(tcase, a_closed_turn_keeps_what_stands_before_the_first_end_of_thinking);
    return scratch_run(suite);
}
