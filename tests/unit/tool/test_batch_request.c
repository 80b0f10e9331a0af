/* Lines of a batch: what each key does, and that nothing is ignored. */
#include "tool/batch_request.h"

#include <string.h>

#include "base/mem.h"
#include "support/scratch.h"
#include "support/tiny_tokenizer.h"

enum { SEED = 1234 };

/* A job as far as requests look at it: ASCII characters are tokens. */
static ps_job job_with_tokenizer(void)
{
    ps_job job = {.ckpt = {.spec = {.bos_id = 1}}};
    char *model = tiny_tokenizer_bpe("", "");
    const tiny_tokenizer parts = {.model = model};
    assert_ok(tiny_tokenizer_open(&parts, &job.tokenizer));
    ps_mem_free(model);
    return job;
}

static ps_err parse(const ps_job *job, const char *line, json_t **id, ps_request *out)
{
    char *copy = ps_mem_new(strlen(line), 1);
    memcpy(copy, line, strlen(line));
    ps_batch_context batch = {.job = job};
    const ps_err err = ps_batch_request_parse(&batch, copy, strlen(line), SEED, id, out);
    ps_mem_free(copy);
    return err;
}

/* Parses with a fresh job; the request is the caller's. */
static ps_request request_of(const char *line)
{
    ps_job job = job_with_tokenizer();
    ps_request r;
    json_t *id;
    const ps_err err = parse(&job, line, &id, &r);
    ck_assert_msg(err == PS_OK, "%s: %s", line, ps_err_message());
    json_decref(id);
    ps_tokenizer_free(job.tokenizer);
    return r;
}

static void expect_refusal(const char *line, ps_err code, const char *message)
{
    ps_job job = job_with_tokenizer();
    ps_request r;
    json_t *id;
    const ps_err err = parse(&job, line, &id, &r);
    ck_assert_msg(err == code, "%s: %s", line, err ? ps_err_message() : "taken");
    ck_assert_msg(strstr(ps_err_message(), message), "%s: \"%s\" does not mention \"%s\"", line,
                  ps_err_message(), message);
    ck_assert_ptr_null(r.prompt.ids);
    ck_assert_ptr_null(r.stops);
    json_decref(id);
    ps_tokenizer_free(job.tokenizer);
}

static void expect_prompt(const ps_request *r, const char *wanted)
{
    ps_text found = {0};
    for (size_t i = 0; i < r->prompt.n; i++) {
        ps_text_appendf(&found, i ? " %d" : "%d", r->prompt.ids[i]);
    }
    ck_assert_str_eq(ps_text_str(&found), wanted);
    ps_text_release(&found);
}

START_TEST(what_is_not_said_has_its_default)
{
    ps_request r = request_of("{\"prompt\": \"ab\"}");
    const ps_sample_params d = ps_sample_params_default();
    expect_prompt(&r, "97 98");
    ck_assert_int_eq(r.max_tokens, 16);
    ck_assert_int_eq(r.n_samples, 1);
    ck_assert_int_eq(r.n_logprobs, -1);
    ck_assert(!r.ignore_eos);
    ck_assert_int_eq(r.n_stops, 0);
    ck_assert_uint_eq(r.sampling.seed, SEED);
    ck_assert(r.sampling.temperature == d.temperature);
    ck_assert(r.sampling.top_p == d.top_p);
    ck_assert_int_eq(r.sampling.top_k, 0);
    ck_assert_int_eq(r.sampling.n_logit_bias, 0);
    ck_assert_int_eq(r.sampling.min_new_tokens, 0);
    ps_request_release(&r);
}
END_TEST

START_TEST(every_key_has_its_effect)
{
    ps_request r = request_of(
        "{\"id\": 7, \"tokens\": [5, 6], \"max_tokens\": 3, \"n\": 4, \"temperature\": 0.5, "
        "\"top_p\": 0.75, \"top_k\": 9, \"min_p\": 0.125, \"typical_p\": 0.5, \"seed\": 99, "
        "\"repetition_penalty\": 1.5, \"presence_penalty\": -0.5, \"frequency_penalty\": 0.25, "
        "\"repeat_last_n\": -1, \"min_tokens\": 2, \"ignore_eos\": true, \"logprobs\": 5, "
        "\"stop\": [\"x\", \"\\u0000y\"], \"logit_bias\": {\"3\": -100, \"4\": 1.5}, "
        "\"model\": \"m\", \"user\": \"u\"}");
    expect_prompt(&r, "5 6");
    ck_assert_int_eq(r.max_tokens, 3);
    ck_assert_int_eq(r.n_samples, 4);
    ck_assert(r.sampling.temperature == 0.5);
    ck_assert(r.sampling.top_p == 0.75);
    ck_assert_int_eq(r.sampling.top_k, 9);
    ck_assert(r.sampling.min_p == 0.125);
    ck_assert(r.sampling.typical_p == 0.5);
    ck_assert_uint_eq(r.sampling.seed, 99);
    ck_assert(r.sampling.repetition_penalty == 1.5);
    ck_assert(r.sampling.presence_penalty == -0.5);
    ck_assert(r.sampling.frequency_penalty == 0.25);
    ck_assert_int_eq(r.sampling.repeat_last_n, -1);
    ck_assert_int_eq(r.sampling.min_new_tokens, 2);
    ck_assert(r.ignore_eos);
    ck_assert_int_eq(r.n_logprobs, 5);
    ck_assert_int_eq(r.n_stops, 2);
    ck_assert_uint_eq(r.stops[1].n, 2);
    ck_assert_mem_eq(r.stops[1].bytes, "\0y", 2);
    ck_assert_int_eq(r.sampling.n_logit_bias, 2);
    float sum = 0.0f;
    for (int i = 0; i < 2; i++) {
        const ps_sample_bias *b = &r.sampling.logit_bias[i];
        sum += b->bias;
        ck_assert(b->bias == (b->token == 3 ? -100.0f : 1.5f));
    }
    ck_assert(sum == -98.5f);
    ps_request_release(&r);
}
END_TEST

static void expect_negative(const char *line, double guidance, const char *wanted)
{
    ps_request r = request_of(line);
    ps_tokens prompt = r.prompt;
    ck_assert(r.guidance == guidance);
    r.prompt = r.negative;
    expect_prompt(&r, wanted);
    r.prompt = prompt;
    ps_request_release(&r);
}

START_TEST(guidance_has_a_negative_prompt)
{
    expect_negative("{\"prompt\": \"ab\"}", 1.0, "");
    expect_negative("{\"prompt\": \"ab\", \"guidance_scale\": 1, \"negative_prompt\": \"c\"}", 1.0,
                    "");
    expect_negative("{\"prompt\": \"ab\", \"guidance_scale\": 2.5, \"negative_prompt\": \"cd\"}",
                    2.5, "99 100");
    expect_negative("{\"tokens\": [4], \"guidance_scale\": 2, \"negative_prompt\": [7, 8]}", 2.0,
                    "7 8");
    expect_refusal("{\"prompt\": \"ab\", \"negative_prompt\": \"c\"}", PS_ERR_USAGE,
                   "\"negative_prompt\" goes with \"guidance_scale\"");
    expect_refusal("{\"prompt\": \"ab\", \"guidance_scale\": 0.5}", PS_ERR_USAGE,
                   "guidance_scale is 0.5, wanted 1 (off) or more");
    expect_refusal("{\"prompt\": \"ab\", \"guidance_scale\": 2, \"negative_prompt\": 3}",
                   PS_ERR_FORMAT, "\"negative_prompt\" is not a text or an array of token ids");
    // This model begins a text with nothing.
    expect_refusal("{\"prompt\": \"ab\", \"guidance_scale\": 2, \"negative_prompt\": null}",
                   PS_ERR_USAGE, "\"negative_prompt\" comes to no token");
}
END_TEST

START_TEST(a_prompt_may_be_ids_too)
{
    ps_request r = request_of("{\"prompt\": [1, 2, 3]}");
    expect_prompt(&r, "1 2 3");
    ps_request_release(&r);
    r = request_of("{\"prompt\": \"\"}");
    expect_prompt(&r, "");
    ps_request_release(&r);
}
END_TEST

START_TEST(a_single_stop_string_needs_no_array)
{
    ps_request r = request_of("{\"prompt\": \"a\", \"stop\": \"end\"}");
    ck_assert_int_eq(r.n_stops, 1);
    ck_assert_mem_eq(r.stops[0].bytes, "end", 3);
    ps_request_release(&r);
    r = request_of("{\"prompt\": \"a\", \"stop\": null, \"seed\": null, \"logprobs\": null}");
    ck_assert_int_eq(r.n_stops, 0);
    ck_assert_uint_eq(r.sampling.seed, SEED);
    ps_request_release(&r);
}
END_TEST

/* As a number in the completions interface, as a flag in that of chats. */
START_TEST(logprobs_may_be_a_number_or_a_flag)
{
    static const struct {
        const char *value;
        int wanted;
    } cases[] = {{"true", 0}, {"false", -1}, {"0", 0}, {"20", 20}};
    for (int i = 0; i < 4; i++) {
        ps_text line = {0};
        ps_text_appendf(&line, "{\"prompt\": \"a\", \"logprobs\": %s}", cases[i].value);
        ps_request r = request_of(ps_text_str(&line));
        ck_assert_int_eq(r.n_logprobs, cases[i].wanted);
        ps_request_release(&r);
        ps_text_release(&line);
    }
}
END_TEST

START_TEST(an_id_of_any_type_comes_back_also_with_an_error)
{
    static const char *const ids[] = {"7", "\"x\"", "[1,{\"a\":2}]", "null"};
    for (int i = 0; i < 4; i++) {
        for (int bad = 0; bad < 2; bad++) {
            ps_job job = job_with_tokenizer();
            ps_request r;
            json_t *id;
            ps_text line = {0};
            ps_text_appendf(&line, "{\"id\": %s, \"%s\": \"a\"}", ids[i], bad ? "prmpt" : "prompt");
            ck_assert_int_eq(parse(&job, ps_text_str(&line), &id, &r), bad ? PS_ERR_USAGE : PS_OK);
            char *text = json_dumps(id, JSON_ENCODE_ANY | JSON_COMPACT);
            ck_assert_str_eq(text, ids[i]);
            free(text);
            json_decref(id);
            if (!bad) ps_request_release(&r);
            ps_text_release(&line);
            ps_tokenizer_free(job.tokenizer);
        }
    }
}
END_TEST

START_TEST(an_unknown_key_is_an_error)
{
    expect_refusal("{\"prompt\": \"a\", \"max_token\": 3}", PS_ERR_USAGE,
                   "unknown key \"max_token\"; did you mean \"max_tokens\"?");
    expect_refusal("{\"prompt\": \"a\", \"best_of_all_worlds\": 3}", PS_ERR_USAGE,
                   "unknown key \"best_of_all_worlds\"");
}
END_TEST

START_TEST(what_is_wrong_is_named)
{
    static const struct {
        const char *line;
        ps_err code;
        const char *message;
    } cases[] = {
        {"", PS_ERR_FORMAT, "request"},
        {"[1]", PS_ERR_FORMAT, "the line is not a JSON object"},
        {"{\"prompt\": \"a\"", PS_ERR_FORMAT, "request"},
        {"{\"prompt\": \"a\"} x", PS_ERR_FORMAT, "request"},
        {"{\"prompt\": \"a\", \"prompt\": \"b\"}", PS_ERR_FORMAT, "request"},
        {"{}", PS_ERR_USAGE, "wanted one of \"prompt\", \"tokens\" and \"messages\""},
        {"{\"prompt\": \"a\", \"tokens\": [1]}", PS_ERR_USAGE,
         "wanted one of \"prompt\", \"tokens\" and \"messages\""},
        {"{\"prompt\": 5}", PS_ERR_FORMAT, "\"prompt\" is not a text or an array of token ids"},
        {"{\"tokens\": \"a\"}", PS_ERR_FORMAT, "\"tokens\" is not an array of token ids"},
        {"{\"tokens\": [1, -1]}", PS_ERR_FORMAT, "entry 1 is not a token id"},
        {"{\"tokens\": [2147483648]}", PS_ERR_FORMAT, "entry 0 is not a token id"},
        {"{\"tokens\": [1.0]}", PS_ERR_FORMAT, "entry 0 is not a token id"},
        {"{\"prompt\": \"a\", \"max_tokens\": -1}", PS_ERR_FORMAT, "max_tokens"},
        {"{\"prompt\": \"a\", \"max_tokens\": 1.5}", PS_ERR_FORMAT, "max_tokens"},
        {"{\"prompt\": \"a\", \"n\": 0}", PS_ERR_FORMAT, "request: n is "},
        {"{\"prompt\": \"a\", \"n\": 1025}", PS_ERR_FORMAT, "request: n is "},
        {"{\"prompt\": \"a\", \"temperature\": \"hot\"}", PS_ERR_FORMAT, "temperature"},
        {"{\"prompt\": \"a\", \"top_k\": 1.5}", PS_ERR_FORMAT, "top_k"},
        {"{\"prompt\": \"a\", \"ignore_eos\": 1}", PS_ERR_FORMAT, "ignore_eos"},
        {"{\"prompt\": \"a\", \"seed\": 1.5}", PS_ERR_FORMAT, "seed"},
        {"{\"prompt\": \"a\", \"logprobs\": 21}", PS_ERR_FORMAT, "logprobs"},
        {"{\"prompt\": \"a\", \"stop\": 3}", PS_ERR_FORMAT,
         "\"stop\" is neither a text nor an array of texts"},
        {"{\"prompt\": \"a\", \"stop\": [\"x\", 3]}", PS_ERR_FORMAT,
         "\"stop\" is neither a text nor an array of texts"},
        {"{\"prompt\": \"a\", \"logit_bias\": {\"x\": 1}}", PS_ERR_FORMAT,
         "\"x\" is not a token id with a number"},
        {"{\"prompt\": \"a\", \"logit_bias\": {\"-1\": 1}}", PS_ERR_FORMAT, "\"-1\""},
        {"{\"prompt\": \"a\", \"logit_bias\": {\"1\": \"2\"}}", PS_ERR_FORMAT, "\"1\""},
        {"{\"prompt\": \"a\", \"logit_bias\": {\"1\": 1e300}}", PS_ERR_FORMAT, "\"1\""},
        {"{\"prompt\": \"a\", \"logit_bias\": [1]}", PS_ERR_FORMAT, "logit_bias"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect_refusal(cases[i].line, cases[i].code, cases[i].message);
    }
}
END_TEST

START_TEST(too_many_stop_strings_are_refused)
{
    ps_text line = {0};
    ps_text_append_str(&line, "{\"prompt\": \"a\", \"stop\": [\"x\"");
    for (int i = 0; i < PS_STOP_MAX_STRINGS; i++) {
        ps_text_append_str(&line, ", \"x\"");
    }
    ps_text_append_str(&line, "]}");
    expect_refusal(ps_text_str(&line), PS_ERR_LIMIT, "65 stop strings, wanted at most 64");
    ps_text_release(&line);
}
END_TEST

START_TEST(text_needs_a_tokenizer_and_gets_its_bos)
{
    ps_job none = {.ckpt = {.path = (char *)(uintptr_t) "m.h5"}};
    ps_request r;
    json_t *id;
    ck_assert_int_eq(parse(&none, "{\"prompt\": \"a\"}", &id, &r), PS_ERR_USAGE);
    assert_message("m.h5: has no tokenizer: give token ids (--tokens)");
    assert_ok(parse(&none, "{\"tokens\": [4]}", &id, &r));
    ps_request_release(&r);
    ps_job job = job_with_tokenizer();
    job.ckpt.spec.add_bos = true;
    assert_ok(parse(&job, "{\"prompt\": \"a\"}", &id, &r));
    expect_prompt(&r, "1 97");
    ps_request_release(&r);
    // Ids are taken as they are.
    assert_ok(parse(&job, "{\"tokens\": [97]}", &id, &r));
    expect_prompt(&r, "97");
    ps_request_release(&r);
    ps_tokenizer_free(job.tokenizer);
}
END_TEST

/* Texts go on from the prefix without a bos of their own, ids as they are. */
START_TEST(a_prompt_goes_on_from_the_prefix)
{
    static const struct {
        const char *line;
        int32_t ids[5];
        size_t n;
    } wanted[] = {{"{\"prompt\": \"ab\"}", {1, 50, 'a', 'b'}, 4},
                  {"{\"prompt\": \"\"}", {1, 50}, 2},
                  {"{\"prompt\": [7]}", {1, 50, 7}, 3},
                  {"{\"tokens\": [7, 8, 9]}", {1, 50, 7, 8, 9}, 5}};
    ps_job job = job_with_tokenizer();
    job.ckpt.spec.add_bos = true;
    int32_t ids[] = {1, 50};
    const ps_tokens prefix = {.ids = ids, .n = 2};
    ps_batch_context batch = {.job = &job, .prefix = &prefix};
    ps_request r;
    json_t *id;
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        assert_ok(
            ps_batch_request_parse(&batch, wanted[i].line, strlen(wanted[i].line), SEED, &id, &r));
        ck_assert_uint_eq(r.prompt.n, wanted[i].n);
        ck_assert_mem_eq(r.prompt.ids, wanted[i].ids, wanted[i].n * sizeof *ids);
        ps_request_release(&r);
    }
    const char *chat = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}";
    ck_assert_int_eq(ps_batch_request_parse(&batch, chat, strlen(chat), SEED, &id, &r),
                     PS_ERR_USAGE);
    assert_message("\"messages\" do not go on from a prefix: give \"prompt\" or \"tokens\"");
    ps_tokenizer_free(job.tokenizer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/batch_request");
    TCase *tcase = tcase_create("batch_request");
    tcase_add_test(tcase, what_is_not_said_has_its_default);
    tcase_add_test(tcase, every_key_has_its_effect);
    tcase_add_test(tcase, guidance_has_a_negative_prompt);
    tcase_add_test(tcase, a_prompt_may_be_ids_too);
    tcase_add_test(tcase, a_single_stop_string_needs_no_array);
    tcase_add_test(tcase, logprobs_may_be_a_number_or_a_flag);
    tcase_add_test(tcase, an_id_of_any_type_comes_back_also_with_an_error);
    tcase_add_test(tcase, an_unknown_key_is_an_error);
    tcase_add_test(tcase, what_is_wrong_is_named);
    tcase_add_test(tcase, too_many_stop_strings_are_refused);
    tcase_add_test(tcase, text_needs_a_tokenizer_and_gets_its_bos);
    tcase_add_test(tcase, a_prompt_goes_on_from_the_prefix);
    suite_add_tcase(suite, tcase);
    return scratch_run(suite);
}
