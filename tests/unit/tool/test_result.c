/* Results as JSON lines: they read back to what was put in. */
#include "tool/result.h"

#include <math.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "support/scratch.h"
#include "support/tiny_tokenizer.h"

static const ps_job no_tokenizer = {0};

static ps_completion completion_of(const char *text, size_t n, ps_finish finish)
{
    ps_completion c = {.finish = finish};
    for (size_t i = 0; i < n; i++) {
        ps_tokens_append(&c.tokens, (unsigned char)text[i]);
    }
    ps_text_append(&c.text, text, n);
    return c;
}

/* The line, parsed; it must be one line. */
static json_t *line_of(const ps_text *text)
{
    json_t *object;
    ck_assert_uint_gt(text->len, 0);
    ck_assert_ptr_eq(memchr(text->data, '\n', text->len), text->data + text->len - 1);
    assert_ok(ps_json_parse(text->data, text->len, "result", &object));
    return object;
}

static json_int_t number_at(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    ck_assert_msg(json_is_integer(value), "%s is no integer", key);
    return json_integer_value(value);
}

START_TEST(a_result_holds_its_choices_and_counts)
{
    ps_request request = {.n_logprobs = -1, .n_samples = 2, .sampling.seed = 77};
    ps_tokens_append(&request.prompt, 5);
    ps_tokens_append(&request.prompt, 6);
    ps_completion c[2] = {completion_of("a\n\"\x01z", 5, PS_FINISH_LENGTH),
                          completion_of("", 0, PS_FINISH_STOP)};
    ps_text text = {0};
    json_t *id = json_string("an id");
    ps_result_to_json(id, &no_tokenizer, &request, c, 2, &text);
    json_t *object = line_of(&text);
    ck_assert_str_eq(json_string_value(json_object_get(object, "id")), "an id");
    ck_assert_int_eq(number_at(object, "seed"), 77);
    const json_t *usage = json_object_get(object, "usage");
    ck_assert_int_eq(number_at(usage, "prompt_tokens"), 2);
    ck_assert_int_eq(number_at(usage, "completion_tokens"), 5);
    ck_assert_int_eq(number_at(usage, "total_tokens"), 7);
    const json_t *choices = json_object_get(object, "choices");
    ck_assert_uint_eq(json_array_size(choices), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *choice = json_array_get(choices, i);
        ck_assert_int_eq(number_at(choice, "index"), (json_int_t)i);
        ck_assert_str_eq(json_string_value(json_object_get(choice, "text")), i ? "" : "a\n\"\x01z");
        ck_assert_str_eq(json_string_value(json_object_get(choice, "finish_reason")),
                         i ? "stop" : "length");
        ck_assert_uint_eq(json_array_size(json_object_get(choice, "tokens")), i ? 0 : 5);
        ck_assert_ptr_null(json_object_get(choice, "logprobs"));
        ps_completion_release(&c[i]);
    }
    json_decref(object);
    json_decref(id);
    ps_text_release(&text);
    ps_request_release(&request);
}
END_TEST

START_TEST(without_an_id_there_is_none)
{
    const ps_request request = {.n_logprobs = -1};
    ps_completion c = completion_of("x", 1, PS_FINISH_LENGTH);
    ps_text text = {0};
    ps_result_to_json(NULL, &no_tokenizer, &request, &c, 1, &text);
    json_t *object = line_of(&text);
    ck_assert_ptr_null(json_object_get(object, "id"));
    json_decref(object);
    ps_text_release(&text);
    ps_completion_release(&c);
}
END_TEST

START_TEST(bytes_that_are_no_characters_become_replacements)
{
    const ps_request request = {.n_logprobs = -1};
    ps_completion c = completion_of("a\xFF\xC3", 3, PS_FINISH_LENGTH);
    ps_text text = {0};
    ps_result_to_json(NULL, &no_tokenizer, &request, &c, 1, &text);
    json_t *object = line_of(&text);
    const json_t *choice = json_array_get(json_object_get(object, "choices"), 0);
    ck_assert_str_eq(json_string_value(json_object_get(choice, "text")),
                     "a\xEF\xBF\xBD\xEF\xBF\xBD");
    json_decref(object);
    ps_text_release(&text);
    ps_completion_release(&c);
}
END_TEST

START_TEST(log_probabilities_read_back_as_they_were)
{
    char *model = tiny_tokenizer_bpe("", "");
    const tiny_tokenizer parts = {.model = model};
    ps_tokenizer *tokenizer;
    assert_ok(tiny_tokenizer_open(&parts, &tokenizer));
    ps_mem_free(model);
    for (int n_top = 0; n_top <= 2; n_top += 2) {
        const ps_request request = {.n_logprobs = n_top};
        ps_completion c = completion_of("hi", 2, PS_FINISH_LENGTH);
        ps_text text = {0};
        c.logprobs = ps_mem_new(2, sizeof *c.logprobs);
        c.logprobs[0] = (ps_sampler_logprobs){
            .chosen = -0.1, .n_top = n_top, .token = {104, 9}, .logprob = {-0.1, -1e-17}};
        c.logprobs[1] = (ps_sampler_logprobs){
            .chosen = -INFINITY, .n_top = n_top, .token = {3, 4}, .logprob = {-2.0 / 3.0, -745.0}};
        const ps_job job = {.tokenizer = tokenizer};
        ps_result_to_json(NULL, &job, &request, &c, 1, &text);
        json_t *object = line_of(&text);
        const json_t *choice = json_array_get(json_object_get(object, "choices"), 0);
        const json_t *lp = json_object_get(choice, "logprobs");
        const json_t *chosen = json_object_get(lp, "token_logprobs");
        ck_assert_uint_eq(json_array_size(chosen), 2);
        ck_assert(json_real_value(json_array_get(chosen, 0)) == -0.1);
        ck_assert(json_is_null(json_array_get(chosen, 1))); // JSON has no infinity
        const json_t *tokens = json_object_get(lp, "tokens");
        ck_assert_str_eq(json_string_value(json_array_get(tokens, 0)), "h");
        ck_assert_str_eq(json_string_value(json_array_get(tokens, 1)), "i");
        const json_t *top = json_object_get(lp, "top");
        ck_assert_int_eq(top != NULL, n_top > 0);
        for (size_t t = 0; t < 2 && top; t++) {
            for (size_t i = 0; i < 2; i++) {
                const json_t *entry = json_array_get(json_array_get(top, t), i);
                ck_assert_int_eq(number_at(entry, "id"), c.logprobs[t].token[i]);
                ck_assert(json_number_value(json_object_get(entry, "logprob")) ==
                          c.logprobs[t].logprob[i]);
            }
        }
        json_decref(object);
        ps_text_release(&text);
        ps_completion_release(&c);
    }
    ps_tokenizer_free(tokenizer);
}
END_TEST

START_TEST(an_error_is_a_line_too)
{
    ps_text text = {0};
    json_t *id = json_pack("[i,s]", 1, "x");
    ps_result_error_to_json(id, 12, PS_ERR_LIMIT, "\"n\" is\ttoo much", &text);
    json_t *object = line_of(&text);
    ck_assert_int_eq(number_at(object, "line"), 12);
    ck_assert(json_equal(json_object_get(object, "id"), id));
    const json_t *error = json_object_get(object, "error");
    ck_assert_str_eq(json_string_value(json_object_get(error, "type")), "limit");
    ck_assert_str_eq(json_string_value(json_object_get(error, "message")), "\"n\" is\ttoo much");
    json_decref(object);
    json_decref(id);
    ps_text_release(&text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/result");
    TCase *tcase = tcase_create("result");
    tcase_add_test(tcase, a_result_holds_its_choices_and_counts);
    tcase_add_test(tcase, without_an_id_there_is_none);
    tcase_add_test(tcase, bytes_that_are_no_characters_become_replacements);
    tcase_add_test(tcase, log_probabilities_read_back_as_they_were);
    tcase_add_test(tcase, an_error_is_a_line_too);
    suite_add_tcase(suite, tcase);
    return scratch_run(suite);
}
