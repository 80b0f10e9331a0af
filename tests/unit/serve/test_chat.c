/* Chat templates: families are told apart, messages are rendered, texts stay texts. The renderings
 * of the reference are in tests/golden/tokenizers/chat.jsonl; those here were written down from the
 * templates. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "serve/chat.h"
#include "support/golden_chat.h"
#include "support/tiny_tokenizer.h"

static ps_chat *open_chat(const char *name)
{
    ps_chat *chat;
    ck_assert_msg(ps_chat_open(name, &chat) == PS_OK, "%s", ps_err_message());
    ck_assert_str_eq(ps_chat_name(chat), name);
    return chat;
}

/* Messages are given as "role:text" strings up to NULL. */
static size_t split(const char *const *lines, ps_chat_message *out, char roles[][16])
{
    size_t n = 0;
    for (; lines[n]; n++) {
        const char *colon = strchr(lines[n], ':');
        const size_t length = (size_t)(colon - lines[n]);
        memcpy(roles[n], lines[n], length);
        roles[n][length] = '\0';
        out[n] = (ps_chat_message){roles[n], colon + 1, strlen(colon + 1)};
    }
    return n;
}

static ps_err render(const ps_chat *chat, const char *const *lines, bool prompt, ps_text *out)
{
    char roles[8][16];
    ps_chat_message messages[8];
    ps_chat_rendering r = {0};
    const size_t n = split(lines, messages, roles);
    const ps_err err = ps_chat_render(chat, messages, n, prompt, &r);
    if (!err) ps_chat_to_text(&r, "{BOS}", "{EOS}", out);
    ps_chat_rendering_release(&r);
    return err;
}

static void expect_rendering(const ps_chat *chat, const char *const *lines, bool prompt,
                             const char *wanted)
{
    ps_text found = {0};
    ck_assert_msg(render(chat, lines, prompt, &found) == PS_OK, "%s", ps_err_message());
    ck_assert_str_eq(ps_text_str(&found), wanted);
    ps_text_release(&found);
}

#define MESSAGES(...)                                                                              \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }

static void expect_named(const char *name, const char *const *lines, bool prompt,
                         const char *wanted)
{
    ps_chat *chat = open_chat(name);
    expect_rendering(chat, lines, prompt, wanted);
    ps_chat_free(chat);
}

START_TEST(chatml_has_the_system_message_that_is_given_or_its_own)
{
    expect_named("chatml", MESSAGES("user:Hi"), true,
                 "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    expect_named("qwen2", MESSAGES("user:Hi"), false,
                 "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
                 "<|im_start|>user\nHi<|im_end|>\n");
    expect_named("qwen2", MESSAGES("developer:Be brief.", "user:Hi"), false,
                 "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n");
}
END_TEST

START_TEST(qwen3_forgets_what_it_thought_before_the_last_question)
{
    expect_named("qwen3", MESSAGES("user:a", "assistant:<think>\nwhy\n</think>\n\nb", "user:c"),
                 true,
                 "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
                 "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n");
    expect_named("qwen3", MESSAGES("user:a", "assistant:<think>\nwhy\n</think>\n\nb"), false,
                 "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<think>\nwhy\n</think>\n\nb"
                 "<|im_end|>\n");
    expect_named("qwen3", MESSAGES("user:a", "assistant:b"), false,
                 "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nb"
                 "<|im_end|>\n");
}
END_TEST

START_TEST(llama3_trims_texts_and_its_later_edition_tells_the_date)
{
    expect_named("llama3", MESSAGES("user:\xC2\xA0 Hi\n"), true,
                 "{BOS}<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
                 "<|start_header_id|>assistant<|end_header_id|>\n\n");
    expect_named("llama3.1", MESSAGES("system: Be brief. ", "user:Hi"), false,
                 "{BOS}<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: "
                 "December 2023\nToday Date: 26 Jul 2024\n\nBe brief.<|eot_id|>"
                 "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>");
    expect_named("llama3.1", MESSAGES("user:Hi"), false,
                 "{BOS}<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: "
                 "December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
                 "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>");
}
END_TEST

START_TEST(mistral_has_three_editions)
{
    static const char *const chat[] = {"user:a ", "assistant: b", "user:c", NULL};
    expect_named("mistral", chat, true, "{BOS}[INST] a  [/INST] b{EOS}[INST] c [/INST]");
    expect_named("mistral-v3", chat, true, "{BOS}[INST] a [/INST] b{EOS}[INST] c[/INST]");
    expect_named("mistral-tekken", chat, true, "{BOS}[INST]a [/INST] b{EOS}[INST]c[/INST]");
    expect_named("mistral-v3", MESSAGES("system:S", "user:a", "assistant:b", "user:c"), true,
                 "{BOS}[INST] a[/INST] b{EOS}[INST] S\n\nc[/INST]");
}
END_TEST

#define HARMONY                                                                                    \
    "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"       \
    "Knowledge cutoff: 2024-06\nCurrent date: 2025-06-28\n\nReasoning: medium\n\n"                 \
    "# Valid channels: analysis, commentary, final. Channel must be included for every message."   \
    "<|end|>"

START_TEST(harmony_puts_answers_into_a_channel)
{
    expect_named("gpt-oss", MESSAGES("system:S", "user:a", "assistant:b", "user:c"), true,
                 HARMONY "<|start|>developer<|message|># Instructions\n\nS<|end|>"
                         "<|start|>user<|message|>a<|end|>"
                         "<|start|>assistant<|channel|>final<|message|>b<|end|>"
                         "<|start|>user<|message|>c<|end|><|start|>assistant");
    expect_named("gpt-oss", MESSAGES("user:a", "assistant:b"), false,
                 HARMONY "<|start|>user<|message|>a<|end|>"
                         "<|start|>assistant<|channel|>final<|message|>b<|return|>");
}
END_TEST

/* Marks of templates, and the family that they tell; NULL: none. */
static const struct {
    const char *text, *name;
} marks[] = {
    {"{{ '<|im_start|>' + message.role }}", "chatml"},
    {"<|im_start|> ns.last_query_index </think>", "qwen3"},
    {"<|im_start|> content.split('</think>')", NULL},
    {"<|im_start|> <|im_sep|>", NULL},
    {"<|start_header_id|>", "llama3"},
    {"<|start_header_id|> Cutting Knowledge Date: ", "llama3.1"},
    {"<start_of_turn>", "gemma"},
    {"'[INST] ' + message['content'] + ' [/INST]'", "mistral"},
    {"\"[INST] \" + message[\"content\"] + \"[/INST]\"", "mistral-v3"},
    {"\"[INST]\" + message[\"content\"] + \"[/INST]\"", "mistral-tekken"},
    {"'[INST] ' + '<<SYS>>' + ' [/INST]'", NULL},
    {"[SYSTEM_PROMPT] [INST] [/INST]", NULL},
    {"<|start|> <|channel|> <|message|>", "gpt-oss"},
    {"{% for m in messages %}{{ m.content }}{% endfor %}", NULL},
};

enum { N_MARKS = sizeof marks / sizeof *marks };

START_TEST(the_text_of_a_template_tells_the_family)
{
    ps_chat *chat;
    const ps_err err = ps_chat_detect(marks[_i].text, NULL, "m.h5", &chat);
    if (marks[_i].name) {
        ck_assert_msg(err == PS_OK, "%s", ps_err_message());
        ck_assert_str_eq(ps_chat_name(chat), marks[_i].name);
    } else {
        ck_assert_int_eq(err, PS_ERR_UNSUPPORTED);
        ck_assert_ptr_null(chat);
        ck_assert_ptr_nonnull(strstr(ps_err_message(), "m.h5: its chat template is none of"));
        ck_assert_ptr_nonnull(strstr(ps_err_message(), "mistral-tekken, gpt-oss"));
    }
    ps_chat_free(chat);
}
END_TEST

static void expect_default_system(const char *text, const char *wanted)
{
    ps_chat *chat;
    ck_assert_msg(ps_chat_detect(text, NULL, "m", &chat) == PS_OK, "%s", ps_err_message());
    ps_text expected = {0};
    if (wanted) ps_text_appendf(&expected, "<|im_start|>system\n%s<|im_end|>\n", wanted);
    ps_text_append_str(&expected, "<|im_start|>user\nHi<|im_end|>\n");
    expect_rendering(chat, MESSAGES("user:Hi"), false, ps_text_str(&expected));
    ps_text_release(&expected);
    ps_chat_free(chat);
}

START_TEST(a_chatml_template_may_bring_a_system_message)
{
    expect_default_system("{{- '<|im_start|>system\\n' }}{{- '<|im_start|>system\\nYou are Qwen."
                          "<|im_end|>\\n' }}",
                          "You are Qwen.");
    expect_default_system("{{ \"<|im_start|>system\nI'm it.<|im_end|>\n\" }}", "I'm it.");
    expect_default_system("{{ '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}",
                          NULL);
    expect_default_system("{{ '<|im_start|>' + role }}", NULL);
}
END_TEST

START_TEST(a_template_may_refuse_system_messages)
{
    ps_chat *chat;
    ps_text out = {0};
    const char *text = "<start_of_turn> {{ raise_exception('System role not supported') }}";
    ck_assert_int_eq(ps_chat_detect(text, NULL, "m", &chat), PS_OK);
    ck_assert_int_eq(render(chat, MESSAGES("system:S", "user:a"), true, &out), PS_ERR_USAGE);
    ck_assert_str_eq(ps_err_message(), "the chat template gemma has no place for a system message");
    expect_rendering(chat, MESSAGES("user:a"), true,
                     "{BOS}<start_of_turn>user\na<end_of_turn>\n<start_of_turn>model\n");
    ps_chat_free(chat);
}
END_TEST

START_TEST(a_harmony_template_may_end_the_instructions_with_an_empty_line)
{
    ps_chat *chat;
    const char *text = "<|start|> <|channel|> <|message|> {{- developer_message }}\n"
                       "   {{- \"\\n\\n\" }}";
    ck_assert_int_eq(ps_chat_detect(text, NULL, "m", &chat), PS_OK);
    expect_rendering(chat, MESSAGES("system:S", "user:a"), true,
                     HARMONY "<|start|>developer<|message|># Instructions\n\nS\n\n<|end|>"
                             "<|start|>user<|message|>a<|end|><|start|>assistant");
    ps_chat_free(chat);
}
END_TEST

/* Messages that a template has no place for. */
static const struct {
    const char *name, *messages[4], *message;
} refused[] = {
    {"chatml", {"tool:x"}, "message 0 has the role \"tool\", wanted system, user or assistant"},
    {"gemma",
     {"assistant:x"},
     "message 0 is of role assistant, the chat template gemma wants user"},
    {"gemma",
     {"user:a", "user:b"},
     "message 1 is of role user, the chat template gemma wants assistant"},
    {"gemma", {"system:a"}, "the chat template gemma wants a message of role user"},
    {"mistral",
     {"system:S", "user:a"},
     "the chat template mistral has no place for a system message"},
    {"mistral-v3",
     {"user:a", "system:S"},
     "message 1 is of role system, the chat template mistral-v3 wants assistant"},
    {"gpt-oss", {"user:a", "system:S"}, "message 1 is a system message, wanted as the first"},
};

enum { N_REFUSED = sizeof refused / sizeof *refused };

START_TEST(messages_without_a_place_are_refused)
{
    ps_chat *chat = open_chat(refused[_i].name);
    ps_text out = {0};
    ck_assert_int_eq(render(chat, refused[_i].messages, true, &out), PS_ERR_USAGE);
    ck_assert_str_eq(ps_err_message(), refused[_i].message);
    ps_chat_free(chat);
}
END_TEST

START_TEST(an_unknown_name_is_refused_with_the_list)
{
    ps_chat *chat;
    ck_assert_int_eq(ps_chat_open("alpaca", &chat), PS_ERR_USAGE);
    ck_assert_ptr_null(chat);
    ck_assert_ptr_nonnull(strstr(ps_err_message(), "\"alpaca\": it is one of qwen3, chatml"));
}
END_TEST

/* ASCII letters by their code points; control tokens from 200 on. */
static ps_tokenizer *open_tokenizer(const char *first, const char *second)
{
    ps_text added = {0};
    ps_text_appendf(&added,
                    "[{\"id\": 200, \"content\": \"%s\", \"special\": true}, {\"id\": 201, "
                    "\"content\": \"%s\", \"special\": true, \"lstrip\": true, \"rstrip\": true}]",
                    first, second);
    char *model = tiny_tokenizer_bpe("", "");
    const tiny_tokenizer parts = {.model = model, .added_tokens = added.data};
    ps_tokenizer *t;
    ck_assert_msg(tiny_tokenizer_open(&parts, &t) == PS_OK, "%s", ps_err_message());
    ps_mem_free(model);
    ps_text_release(&added);
    return t;
}

START_TEST(special_tokens_tell_the_family_where_there_is_no_template)
{
    static const struct {
        const char *first, *second, *name;
    } kinds[] = {{"<|im_start|>", "<|im_end|>", "chatml"},
                 {"<|start_header_id|>", "<|eot_id|>", "llama3"},
                 {"<start_of_turn>", "<end_of_turn>", "gemma"},
                 {"<|start|>", "<|channel|>", "gpt-oss"},
                 {"<|im_start|>", "<s>", NULL}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        ps_tokenizer *t = open_tokenizer(kinds[i].first, kinds[i].second);
        ps_chat *chat;
        const ps_err err = ps_chat_detect(NULL, t, "m", &chat);
        ck_assert_int_eq(err, kinds[i].name ? PS_OK : PS_ERR_UNSUPPORTED);
        if (kinds[i].name) ck_assert_str_eq(ps_chat_name(chat), kinds[i].name);
        ps_chat_free(chat);
        ps_tokenizer_free(t);
    }
}
END_TEST

static void expect_ids(const ps_tokenizer *t, const ps_chat *chat, const char *message,
                       const char *wanted)
{
    ps_chat_rendering r = {0};
    ps_tokens ids = {0};
    ps_text found = {0};
    const ps_chat_message m = {"user", message, strlen(message)};
    ck_assert_int_eq(ps_chat_render(chat, &m, 1, false, &r), PS_OK);
    ck_assert_int_eq(ps_chat_to_ids(&r, t, 65, -1, &ids), PS_OK);
    for (size_t i = 0; i < ids.n; i++) {
        ps_text_appendf(&found, i ? " %d" : "%d", ids.ids[i]);
    }
    ck_assert_str_eq(ps_text_str(&found), wanted);
    ps_text_release(&found);
    ps_tokens_release(&ids);
    ps_chat_rendering_release(&r);
}

START_TEST(tokens_of_the_template_are_tokens_and_those_in_a_message_are_text)
{
    ps_tokenizer *t = open_tokenizer("<|im_start|>", "<|im_end|>");
    ps_chat *chat = open_chat("chatml");
    expect_ids(t, chat, "a", "200 117 115 101 114 10 97 201");
    expect_ids(t, chat, "<|im_end|>",
               "200 117 115 101 114 10 60 124 105 109 95 101 110 100 124 62 201");
    // What stands beside a token that swallows white space loses it, as it would in a text.
    expect_ids(t, chat, "a  ", "200 117 115 101 114 10 97 201");
    ps_chat_free(chat);
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(a_token_that_the_tokenizer_lacks_is_text)
{
    ps_tokenizer *t = open_tokenizer("[INST]", "<x>");
    ps_chat *chat = open_chat("mistral-tekken");
    expect_ids(t, chat, "a", "65 200 97 91 47 73 78 83 84 93");
    ps_chat_free(chat);
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(every_reference_rendering_agrees)
{
    golden_counts counts = {0};
    ps_text dir = {0}, failures = {0};
    ps_text_appendf(&dir, "%s/tokenizers", golden_root());
    ck_assert_msg(golden_chat_check(dir.data, &counts, &failures) == PS_OK, "%s", ps_err_message());
    ck_assert_msg(counts.n_failed == 0, "%s", ps_text_str(&failures));
    ck_assert_int_ge(counts.n_cases, 48);
    ps_text_release(&failures);
    ps_text_release(&dir);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("chat");
    tcase_add_test(tcase, chatml_has_the_system_message_that_is_given_or_its_own);
    tcase_add_test(tcase, qwen3_forgets_what_it_thought_before_the_last_question);
    tcase_add_test(tcase, llama3_trims_texts_and_its_later_edition_tells_the_date);
    tcase_add_test(tcase, mistral_has_three_editions);
    tcase_add_test(tcase, harmony_puts_answers_into_a_channel);
    tcase_add_loop_test(tcase, the_text_of_a_template_tells_the_family, 0, N_MARKS);
    tcase_add_test(tcase, a_chatml_template_may_bring_a_system_message);
    tcase_add_test(tcase, a_template_may_refuse_system_messages);
    tcase_add_test(tcase, a_harmony_template_may_end_the_instructions_with_an_empty_line);
    tcase_add_loop_test(tcase, messages_without_a_place_are_refused, 0, N_REFUSED);
    tcase_add_test(tcase, an_unknown_name_is_refused_with_the_list);
    tcase_add_test(tcase, special_tokens_tell_the_family_where_there_is_no_template);
    tcase_add_test(tcase, tokens_of_the_template_are_tokens_and_those_in_a_message_are_text);
    tcase_add_test(tcase, a_token_that_the_tokenizer_lacks_is_text);
    tcase_add_test(tcase, every_reference_rendering_agrees);
    Suite *suite = suite_create("serve/chat");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
