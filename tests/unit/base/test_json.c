/* JSON: strict parsing, typed getters with messages, and writing what can be read back. */
#include "base/json.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../support/dice.h"

static json_t *parse(const char *text)
{
    json_t *value;
    ck_assert_msg(ps_json_parse(text, strlen(text), "doc", &value) == PS_OK, "%s",
                  ps_err_message());
    return value;
}

static void expect_message(ps_err found, const char *wanted)
{
    ck_assert_int_eq(found, PS_ERR_FORMAT);
    ck_assert_str_eq(ps_err_message(), wanted);
}

static const char *const broken[] = {
    "",          "{",       "[1,]",       "{\"a\":1,\"a\":2}",  "[1] x", "[1][2]",
    "{\"a\" 1}", "nul",     "[\"\xC3\"]", "[\"\\ud800\"]",      "[01]",  "[1e]",
    "[\"\n\"]",  "[1e999]", "\xFF",       "[\"\xED\xA0\x80\"]",
};

START_TEST(documents_that_are_not_json_are_refused_with_their_place)
{
    json_t *value;
    ck_assert_int_eq(ps_json_parse(broken[_i], strlen(broken[_i]), "doc", &value), PS_ERR_FORMAT);
    ck_assert_ptr_eq(strstr(ps_err_message(), "doc: not valid JSON: line "), ps_err_message());
}
END_TEST

START_TEST(an_absent_document_is_refused)
{
    json_t *value;
    ck_assert_int_eq(ps_json_parse(NULL, 0, "doc", &value), PS_ERR_FORMAT);
}
END_TEST

START_TEST(deep_nesting_is_refused_and_no_crash)
{
    enum { DEPTH = 200000 };
    static char text[DEPTH];
    memset(text, '[', sizeof text);
    json_t *value;
    ck_assert_int_eq(ps_json_parse(text, sizeof text, "doc", &value), PS_ERR_FORMAT);
}
END_TEST

START_TEST(a_missing_key_is_an_error_only_where_it_must_be_there)
{
    json_t *doc = parse("{\"b\":null}");
    int number = 5;
    double real = 0.5;
    bool flag = true;
    const char *text = "kept";
    for (int i = 0; i < 2; i++) {
        const char *key = i == 0 ? "a" : "b";
        ck_assert_int_eq(ps_json_opt_int(doc, key, 0, 9, "doc", &number), PS_OK);
        ck_assert_int_eq(ps_json_opt_real(doc, key, "doc", &real), PS_OK);
        ck_assert_int_eq(ps_json_opt_bool(doc, key, "doc", &flag), PS_OK);
        ck_assert_int_eq(ps_json_opt_text(doc, key, "doc", &text), PS_OK);
        ck_assert_int_eq(ps_json_get_int(doc, key, 0, 9, "doc", &number), PS_ERR_FORMAT);
        ck_assert_int_eq(ps_json_get_real(doc, key, "doc", &real), PS_ERR_FORMAT);
        ck_assert_int_eq(ps_json_get_text(doc, key, "doc", &text), PS_ERR_FORMAT);
    }
    ck_assert(number == 5 && real == 0.5 && flag && strcmp(text, "kept") == 0);
    expect_message(ps_json_get_int(doc, "a", 0, 9, "doc", &number), "doc: key a is missing");
    json_decref(doc);
}
END_TEST

START_TEST(values_come_out_as_they_stand)
{
    json_t *doc = parse("{\"i\":-3,\"r\":2.5,\"t\":\"\\u20ac\",\"b\":false,\"o\":{},\"a\":[1]}");
    int number = 0;
    double real = 0.0;
    bool flag = true;
    const char *text = "";
    json_t *value = NULL;
    ck_assert_int_eq(ps_json_get_int(doc, "i", -3, -3, "doc", &number), PS_OK);
    ck_assert_int_eq(number, -3);
    ck_assert_int_eq(ps_json_get_real(doc, "r", "doc", &real), PS_OK);
    ck_assert(real == 2.5);
    ck_assert_int_eq(ps_json_get_real(doc, "i", "doc", &real), PS_OK);
    ck_assert(real == -3.0);
    ck_assert_int_eq(ps_json_get_text(doc, "t", "doc", &text), PS_OK);
    ck_assert_str_eq(text, "\xE2\x82\xAC");
    ck_assert_int_eq(ps_json_opt_bool(doc, "b", "doc", &flag), PS_OK);
    ck_assert(!flag);
    ck_assert_int_eq(ps_json_get(doc, "o", JSON_OBJECT, "doc", &value), PS_OK);
    ck_assert(json_is_object(value));
    ck_assert_int_eq(ps_json_get(doc, "a", JSON_ARRAY, "doc", &value), PS_OK);
    ck_assert_uint_eq(json_array_size(value), 1);
    json_decref(doc);
}
END_TEST

START_TEST(another_type_is_refused_with_both_names)
{
    json_t *doc = parse("{\"i\":3,\"r\":2.5,\"t\":\"x\",\"b\":true,\"o\":{},\"a\":[]}");
    int number = 5;
    double real = 0.5;
    bool flag = false;
    const char *text = "kept";
    json_t *value = NULL;
    expect_message(ps_json_get_int(doc, "r", 0, 9, "doc", &number),
                   "doc: r is a number, wanted an integer");
    expect_message(ps_json_opt_int(doc, "t", 0, 9, "doc", &number),
                   "doc: t is a string, wanted an integer");
    expect_message(ps_json_get_real(doc, "b", "doc", &real),
                   "doc: b is a boolean, wanted a number");
    expect_message(ps_json_get_text(doc, "i", "doc", &text),
                   "doc: i is an integer, wanted a string");
    expect_message(ps_json_opt_bool(doc, "i", "doc", &flag),
                   "doc: i is an integer, wanted a boolean");
    expect_message(ps_json_get(doc, "a", JSON_OBJECT, "doc", &value),
                   "doc: a is an array, wanted an object");
    ck_assert(number == 5 && real == 0.5 && !flag && strcmp(text, "kept") == 0);
    json_decref(doc);
}
END_TEST

START_TEST(integers_out_of_range_are_refused)
{
    json_t *doc = parse("{\"i\":10,\"huge\":9000000000000000000}");
    int number = 5;
    expect_message(ps_json_get_int(doc, "i", 0, 9, "doc", &number), "doc: i is 10, wanted 0..9");
    expect_message(ps_json_opt_int(doc, "i", 11, 20, "doc", &number),
                   "doc: i is 10, wanted 11..20");
    expect_message(ps_json_get_int(doc, "huge", 0, 9, "doc", &number),
                   "doc: huge is 9000000000000000000, wanted 0..9");
    ck_assert_int_eq(number, 5);
    json_decref(doc);
}
END_TEST

START_TEST(a_file_is_loaded_under_its_name)
{
    char path[] = "/tmp/pipestep-test-json-XXXXXX";
    const int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, "{\"k\":1}", 7), 7);
    close(fd);
    json_t *doc = NULL;
    ck_assert_int_eq(ps_json_load(path, 100, &doc), PS_OK);
    ck_assert_uint_eq(json_object_size(doc), 1);
    json_decref(doc);
    ck_assert_int_eq(ps_json_load(path, 6, &doc), PS_ERR_LIMIT);
    ck_assert_int_eq(truncate(path, 4), 0);
    ck_assert_int_eq(ps_json_load(path, 100, &doc), PS_ERR_FORMAT);
    ck_assert_ptr_eq(strstr(ps_err_message(), path), ps_err_message());
    unlink(path);
    ck_assert_int_eq(ps_json_load(path, 100, &doc), PS_ERR_IO);
}
END_TEST

static void expect_text(const char *bytes, size_t n, const char *wanted)
{
    ps_text out = {0};
    ps_json_append_text(&out, bytes, n);
    ck_assert_str_eq(ps_text_str(&out), wanted);
    ps_text_release(&out);
}

START_TEST(strings_are_written_with_escapes)
{
    expect_text("", 0, "\"\"");
    expect_text("a\"\\\n\r\t\x01\x1F\x7F", 9, "\"a\\\"\\\\\\n\\r\\t\\u0001\\u001f\x7F\"");
    expect_text("a\0b", 3, "\"a\\u0000b\"");
    expect_text("\xE2\x82\xAC", 3, "\"\xE2\x82\xAC\"");
    expect_text("\xE2\x82", 2, "\"\xEF\xBF\xBD\xEF\xBF\xBD\"");
    expect_text("a\xFFz", 3, "\"a\xEF\xBF\xBDz\"");
}
END_TEST

/* Any bytes give valid JSON; valid UTF-8 comes back as it was. */
START_TEST(any_bytes_give_a_string_that_parses)
{
    for (uint64_t run = 0; run < 300; run++) {
        dice d = {.seed = (uint64_t)_i * 1000 + run};
        char bytes[40];
        const size_t n = (size_t)dice_throw(&d, 41);
        for (size_t i = 0; i < n; i++) {
            bytes[i] = (char)dice_throw(&d, run % 2 ? 128 : 256);
        }
        ps_text out = {0};
        ps_text_append_char(&out, '[');
        ps_json_append_text(&out, bytes, n);
        ps_text_append_char(&out, ']');
        json_t *value;
        ck_assert_int_eq(ps_json_parse(out.data, out.len, "doc", &value), PS_OK);
        const json_t *string = json_array_get(value, 0);
        if (ps_utf8_valid_prefix(bytes, n, NULL) == n) {
            ck_assert_uint_eq(json_string_length(string), n);
            ck_assert_mem_eq(json_string_value(string), bytes, n);
        }
        json_decref(value);
        ps_text_release(&out);
    }
}
END_TEST

static void expect_real(double value, const char *wanted)
{
    ps_text out = {0};
    ps_json_append_real(&out, value);
    ck_assert_str_eq(ps_text_str(&out), wanted);
    ps_text_release(&out);
}

START_TEST(numbers_are_written_short)
{
    expect_real(0.0, "0");
    expect_real(-0.0, "-0.0");
    expect_real(0.1, "0.1");
    expect_real(-2.5, "-2.5");
    expect_real(1.0 / 3.0, "0.3333333333333333");
    expect_real(1e300, "1e+300");
    expect_real((double)NAN, "null");
    expect_real(-HUGE_VAL, "null");
}
END_TEST

START_TEST(numbers_read_back_as_the_same_double)
{
    for (uint64_t run = 0; run < 2000; run++) {
        dice d = {.seed = run};
        const uint64_t negative_zero = UINT64_C(1) << 63;
        const uint64_t bits = run == 0 ? negative_zero : dice_bits(&d);
        double value;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value)) continue;
        ps_text out = {0};
        ps_text_append_char(&out, '[');
        ps_json_append_real(&out, value);
        ps_text_append_char(&out, ']');
        json_t *doc = parse(ps_text_str(&out));
        const double back = json_number_value(json_array_get(doc, 0));
        ck_assert_mem_eq(&back, &value, sizeof value);
        json_decref(doc);
        ps_text_release(&out);
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("json");
    tcase_add_loop_test(tcase, documents_that_are_not_json_are_refused_with_their_place, 0,
                        (int)(sizeof broken / sizeof *broken));
    tcase_add_test(tcase, an_absent_document_is_refused);
    tcase_add_test(tcase, deep_nesting_is_refused_and_no_crash);
    tcase_add_test(tcase, a_missing_key_is_an_error_only_where_it_must_be_there);
    tcase_add_test(tcase, values_come_out_as_they_stand);
    tcase_add_test(tcase, another_type_is_refused_with_both_names);
    tcase_add_test(tcase, integers_out_of_range_are_refused);
    tcase_add_test(tcase, a_file_is_loaded_under_its_name);
    tcase_add_test(tcase, strings_are_written_with_escapes);
    tcase_add_loop_test(tcase, any_bytes_give_a_string_that_parses, 0, 5);
    tcase_add_test(tcase, numbers_are_written_short);
    tcase_add_test(tcase, numbers_read_back_as_the_same_double);
    Suite *suite = suite_create("base/json");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
