/* Lines of requests: what each key does, what is no wish, and that nothing is ignored. */
#include "tool/acestep/request_json.h"

#include <string.h>

#include "support/scratch.h"

enum { SEED = 1234 };

static ps_err parse(const char *line, json_t **id, ps_acestep_request *out)
{
    ps_acestep_request defaults = ps_acestep_request_default();
    const ps_err err = ps_acestep_request_parse(line, strlen(line), &defaults, SEED, id, out);
    ps_acestep_request_release(&defaults);
    return err;
}

static ps_acestep_request request_of(const char *line)
{
    json_t *id;
    ps_acestep_request r;
    const ps_err err = parse(line, &id, &r);
    ck_assert_msg(err == PS_OK, "%s: %s", line, ps_err_message());
    json_decref(id);
    return r;
}

static void expect_refusal(const char *line, ps_err code, const char *message)
{
    json_t *id;
    ps_acestep_request r;
    const ps_err err = parse(line, &id, &r);
    ck_assert_msg(err == code, "%s: %s", line, err ? ps_err_message() : "taken");
    ck_assert_msg(strstr(ps_err_message(), message), "%s: \"%s\" does not mention \"%s\"", line,
                  ps_err_message(), message);
    json_decref(id);
}

static void expect_given(const ps_acestep_request *r, ps_acestep_field field, const char *text)
{
    const ps_metadata_value *value = &r->user.fields[field];
    if (text) {
        ck_assert_str_eq(ps_text_str(&value->text), text);
    } else {
        ck_assert_int_eq(value->kind, PS_METADATA_ABSENT);
    }
}

START_TEST(an_empty_object_asks_for_what_ace_step_does_by_default)
{
    ps_acestep_request r = request_of("{}");
    ck_assert_int_eq(r.mode, PS_ACESTEP_MODE_GENERATE);
    ck_assert_int_eq(r.format, PS_ACESTEP_NEW);
    ck_assert(r.cot && r.cot_caption && r.cot_language && r.wants_codes);
    ck_assert_double_eq(r.cfg_scale, 2.0);
    ck_assert_double_eq(r.sampling.temperature, 0.85);
    ck_assert_double_eq(r.sampling.top_p, 0.9);
    ck_assert_int_eq(r.sampling.top_k, 0);
    ck_assert_uint_eq(r.sampling.seed, SEED);
    ck_assert_int_eq(r.n_samples, 1);
    for (int i = 0; i < PS_ACESTEP_FIELDS; i++) {
        expect_given(&r, (ps_acestep_field)i, NULL);
    }
    ps_acestep_request_release(&r);
}
END_TEST

START_TEST(each_key_goes_where_it_belongs)
{
    ps_acestep_request r = request_of(
        "{\"caption\": \"calm\", \"lyrics\": \"la\", \"bpm\": 96, \"duration\": 12.5, "
        "\"keyscale\": \"B♭ major\", \"timesignature\": \"6/8\", \"vocal_language\": \"zh\", "
        "\"lm_temperature\": 0, \"lm_top_p\": 0.5, \"lm_top_k\": 7, \"lm_cfg_scale\": 3, "
        "\"lm_negative_prompt\": \"noise\", \"seed\": 9, \"batch_size\": 4, \"format\": "
        "\"legacy\", "
        "\"use_cot_caption\": false, \"use_cot_language\": false, \"target_duration\": 20.5, "
        "\"max_duration\": 180, \"max_tokens\": 50, \"sampler_order\": \"llama\"}");
    ck_assert_str_eq(ps_text_str(&r.caption), "calm");
    ck_assert_str_eq(ps_text_str(&r.lyrics), "la");
    ck_assert_str_eq(ps_text_str(&r.negative), "noise");
    expect_given(&r, PS_ACESTEP_BPM, "96");
    expect_given(&r, PS_ACESTEP_DURATION, "12");
    expect_given(&r, PS_ACESTEP_KEYSCALE, "B♭ major");
    expect_given(&r, PS_ACESTEP_TIMESIGNATURE, "6");
    expect_given(&r, PS_ACESTEP_LANGUAGE, "zh");
    ck_assert_double_eq(r.duration, 12.5);
    ck_assert_double_eq(r.target_duration, 20.5);
    ck_assert_double_eq(r.sampling.temperature, 0.0);
    ck_assert_double_eq(r.sampling.top_p, 0.5);
    ck_assert_int_eq(r.sampling.top_k, 7);
    ck_assert_double_eq(r.cfg_scale, 3.0);
    ck_assert_uint_eq(r.sampling.seed, 9);
    ck_assert_int_eq(r.n_samples, 4);
    ck_assert_int_eq(r.format, PS_ACESTEP_LEGACY);
    ck_assert(!r.cot_caption && !r.cot_language && r.cot);
    ck_assert_int_eq(r.max_duration, 180);
    ck_assert_int_eq(r.max_tokens, 50);
    ck_assert_int_eq(r.sampling.order[r.sampling.n_order - 1], PS_SAMPLE_TEMPERATURE);
    ps_acestep_request_release(&r);
}
END_TEST

START_TEST(what_other_tools_write_for_nothing_is_nothing)
{
    ps_acestep_request r = request_of(
        "{\"bpm\": 0, \"duration\": -1, \"keyscale\": \"\", \"timesignature\": \"N/A\", "
        "\"vocal_language\": \"unknown\", \"seed\": -1, \"caption\": null, \"instrumental\": "
        "false, "
        "\"use_cot_metas\": true, \"thinking\": true, \"batch_size\": 1, "
        "\"task_type\": \"text2music\", \"inference_steps\": 8, \"guidance_scale\": 7.0, "
        "\"shift\": 3, \"infer_method\": \"ode\", \"audio_format\": \"flac\"}");
    for (int i = 0; i < PS_ACESTEP_FIELDS; i++) {
        expect_given(&r, (ps_acestep_field)i, NULL);
    }
    ck_assert_uint_eq(r.sampling.seed, SEED);
    ck_assert_uint_eq(r.given, 0);
    ps_acestep_request_release(&r);
    r = request_of("{\"bpm\": null, \"duration\": 0, \"keyscale\": \"n/a\", \"timesignature\": 3}");
    expect_given(&r, PS_ACESTEP_KEYSCALE, NULL);
    expect_given(&r, PS_ACESTEP_TIMESIGNATURE, "3");
    ps_acestep_request_release(&r);
}
END_TEST

START_TEST(codes_come_as_tokens_as_numbers_or_as_an_array)
{
    static const char *const lines[] = {
        "{\"mode\": \"understand\", \"audio_codes\": \"<|audio_code_5|><|audio_code_63999|>\\n\"}",
        "{\"mode\": \"understand\", \"audio_codes\": \"5,63999\"}",
        "{\"mode\": \"understand\", \"audio_codes\": \" 5\\n63999 \"}",
        "{\"mode\": \"understand\", \"audio_codes\": [5, 63999]}"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        ps_acestep_request r = request_of(lines[i]);
        ps_text text = {0};
        ck_assert_uint_eq(r.codes.n, 2);
        ps_acestep_append_codes(&text, &r.codes);
        ck_assert_str_eq(ps_text_str(&text), "<|audio_code_5|><|audio_code_63999|>");
        ps_text_release(&text);
        ps_acestep_request_release(&r);
    }
    expect_refusal("{\"mode\": \"understand\", \"audio_codes\": \"<|audio_code_5|>x\"}",
                   PS_ERR_FORMAT, "audio_codes: there is other text among 1 codes");
    expect_refusal("{\"mode\": \"understand\", \"audio_codes\": \"5 x\"}", PS_ERR_FORMAT,
                   "audio_codes:1");
    expect_refusal("{\"mode\": \"understand\", \"audio_codes\": [5, -1]}", PS_ERR_FORMAT,
                   "audio_codes: entry 1 is no code");
    expect_refusal("{\"mode\": \"understand\", \"audio_codes\": 5}", PS_ERR_FORMAT,
                   "audio_codes: wanted a text or an array of numbers");
    expect_refusal("{\"mode\": \"understand\", \"audio_codes\": \"<|audio_code_4294967296|>\"}",
                   PS_ERR_FORMAT, "audio_codes: a code is over 2147483647");
}
END_TEST

START_TEST(what_a_mode_has_no_use_for_is_refused)
{
    expect_refusal("{\"mode\": \"understand\", \"caption\": \"x\"}", PS_ERR_USAGE,
                   "caption has no use in mode understand");
    expect_refusal("{\"mode\": \"understand\", \"bpm\": 100}", PS_ERR_USAGE,
                   "bpm has no use in mode understand");
    expect_refusal("{\"mode\": \"inspiration\", \"lyrics\": \"x\"}", PS_ERR_USAGE,
                   "lyrics has no use in mode inspiration");
    expect_refusal("{\"mode\": \"rewrite\", \"lm_cfg_scale\": 2}", PS_ERR_USAGE,
                   "lm_cfg_scale has no use in mode rewrite");
    expect_refusal("{\"mode\": \"rewrite\", \"batch_size\": 2}", PS_ERR_USAGE,
                   "batch_size has no use in mode rewrite");
    expect_refusal("{\"audio_codes\": [1]}", PS_ERR_USAGE,
                   "audio_codes has no use in mode generate");
    expect_refusal("{\"lyrics\": \"la\", \"instrumental\": true}", PS_ERR_USAGE,
                   "lyrics and instrumental exclude each other");
    expect_refusal("{\"use_cot_metas\": false, \"thinking\": false}", PS_ERR_USAGE,
                   "use_cot_metas and thinking leave nothing to do");
    expect_refusal("{\"thinking\": false, \"batch_size\": 2}", PS_ERR_USAGE,
                   "batch_size has no use where there are no codes");
}
END_TEST

START_TEST(bad_values_name_their_key)
{
    static const struct {
        const char *line;
        ps_err err;
        const char *message;
    } cases[] = {
        {"[]", PS_ERR_FORMAT, "the line is not a JSON object"},
        {"{\"caption\": ", PS_ERR_FORMAT, "not valid JSON"},
        {"{\"captoin\": \"x\"}", PS_ERR_USAGE,
         "unknown key \"captoin\"; did you mean \"caption\"?"},
        {"{\"something_else\": 1}", PS_ERR_USAGE, "unknown key \"something_else\""},
        {"{\"mode\": \"sing\"}", PS_ERR_USAGE, "mode: \"sing\", wanted generate, understand"},
        {"{\"format\": \"old\"}", PS_ERR_USAGE, "format: \"old\", wanted new, legacy"},
        {"{\"caption\": 5}", PS_ERR_FORMAT, "caption"},
        {"{\"bpm\": 20}", PS_ERR_USAGE, "bpm: 20 beats a minute, wanted a whole number from 30"},
        {"{\"duration\": 5}", PS_ERR_USAGE, "duration: 5 seconds, wanted 10 to 600"},
        {"{\"duration\": 601}", PS_ERR_USAGE, "duration: 601 seconds"},
        {"{\"keyscale\": \"X\"}", PS_ERR_USAGE, "keyscale: \"X\" is no key"},
        {"{\"timesignature\": 5}", PS_ERR_USAGE, "timesignature: \"5\" is no time signature"},
        {"{\"vocal_language\": \"xx\"}", PS_ERR_USAGE, "vocal_language: \"xx\" is no language"},
        {"{\"lm_temperature\": -1}", PS_ERR_USAGE, "lm_temperature is -1"},
        {"{\"lm_cfg_scale\": -1}", PS_ERR_USAGE, "lm_cfg_scale: -1"},
        {"{\"lm_top_k\": -1}", PS_ERR_FORMAT, "lm_top_k is -1"},
        {"{\"seed\": -2}", PS_ERR_USAGE, "seed is -2"},
        {"{\"batch_size\": 65}", PS_ERR_FORMAT, "batch_size is 65, wanted 1..64"},
        {"{\"target_duration\": -1}", PS_ERR_USAGE, "target_duration: -1 seconds"},
        {"{\"max_duration\": 9}", PS_ERR_FORMAT, "max_duration is 9, wanted 10..600"},
        {"{\"sampler_order\": \"x\"}", PS_ERR_USAGE, "x"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect_refusal(cases[i].line, cases[i].err, cases[i].message);
    }
}
END_TEST

START_TEST(the_id_comes_back_even_from_a_bad_line)
{
    json_t *id;
    ps_acestep_request r;
    ck_assert_int_eq(parse("{\"id\": [1, \"x\"], \"bpm\": 1}", &id, &r), PS_ERR_USAGE);
    ck_assert_uint_eq(json_array_size(id), 2);
    json_decref(id);
}
END_TEST

START_TEST(defaults_are_what_a_line_leaves_out)
{
    ps_acestep_request defaults = ps_acestep_request_default(), r;
    json_t *id;
    const char *line = "{\"keyscale\": \"C major\"}";
    ck_assert_int_eq(ps_acestep_set_bpm(&defaults, "x", 77), PS_OK);
    ck_assert_int_eq(ps_acestep_set_caption(&defaults, "x", ps_span_of("waltz")), PS_OK);
    ck_assert_int_eq(ps_acestep_request_parse(line, strlen(line), &defaults, 1, &id, &r), PS_OK);
    ck_assert_str_eq(ps_text_str(&r.caption), "waltz");
    expect_given(&r, PS_ACESTEP_BPM, "77");
    expect_given(&r, PS_ACESTEP_KEYSCALE, "C major");
    expect_given(&defaults, PS_ACESTEP_KEYSCALE, NULL);
    ps_acestep_request_release(&r);
    ps_acestep_request_release(&defaults);
}
END_TEST

START_TEST(a_text_may_hold_any_character)
{
    ps_acestep_request r = request_of("{\"caption\": \"a\\u0000b 🎵\"}");
    ck_assert_uint_eq(r.caption.len, 8);
    ck_assert_int_eq(memcmp(r.caption.data, "a\0b \xF0\x9F\x8E\xB5", 8), 0);
    ps_acestep_request_release(&r);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/acestep/request");
    TCase *tcase = tcase_create("request");
    suite_add_tcase(suite, tcase);
    tcase_add_test(tcase, an_empty_object_asks_for_what_ace_step_does_by_default);
    tcase_add_test(tcase, each_key_goes_where_it_belongs);
    tcase_add_test(tcase, what_other_tools_write_for_nothing_is_nothing);
    tcase_add_test(tcase, codes_come_as_tokens_as_numbers_or_as_an_array);
    tcase_add_test(tcase, what_a_mode_has_no_use_for_is_refused);
    tcase_add_test(tcase, bad_values_name_their_key);
    tcase_add_test(tcase, the_id_comes_back_even_from_a_bad_line);
    tcase_add_test(tcase, defaults_are_what_a_line_leaves_out);
    tcase_add_test(tcase, a_text_may_hold_any_character);
    return scratch_run(suite);
}
