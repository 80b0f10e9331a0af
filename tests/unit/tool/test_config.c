/* A config.json that keeps account of what was understood. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/text.h"
#include "support/scratch.h"
#include "tool/import/config.h"

static ps_config open_text(const char *json)
{
    ps_config config;
    scratch_write_text("config.json", json);
    assert_ok(ps_config_open("config.json", &config));
    return config;
}

static void refuse_open(const char *message)
{
    ps_config config;
    ck_assert_int_ne(ps_config_open("config.json", &config), PS_OK);
    assert_mentions(message);
    ck_assert_ptr_null(config.root);
    ps_config_close(&config); // harmless
}

START_TEST(what_is_no_json_object_is_refused)
{
    refuse_open("config.json: cannot open: No such file or directory");
    scratch_write_text("config.json", "[1]");
    refuse_open("config.json: not a JSON object");
    scratch_write_text("config.json", "");
    refuse_open("config.json: not valid JSON: line 1");
    scratch_write_text("config.json", "{\"a\": 1} x");
    refuse_open("config.json: not valid JSON: line 1");
    scratch_write_text("config.json", "{\"a\": 1, \"a\": 2}");
    refuse_open("duplicate object key");
    scratch_remove("config.json");
    ck_assert_int_eq(mkdir("config.json", 0700), 0);
    refuse_open("config.json: is a directory, wanted a file");
}
END_TEST

START_TEST(values_come_in_their_types)
{
    ps_config c = open_text("{\"i\": -7, \"r\": 2.5, \"n\": 3, \"b\": true, \"t\": \"text\"}");
    int i = 0;
    double r = 0.0, n = 0.0;
    bool b = false;
    const char *t = NULL;
    assert_ok(ps_config_int(&c, "i", -10, 10, &i));
    assert_ok(ps_config_real(&c, "r", &r));
    assert_ok(ps_config_real(&c, "n", &n));
    assert_ok(ps_config_bool(&c, "b", &b));
    assert_ok(ps_config_text(&c, "t", &t));
    ck_assert(i == -7 && r == 2.5 && n == 3.0 && b);
    ck_assert_str_eq(t, "text");
    assert_ok(ps_config_check_all_used(&c));
    ps_config_close(&c);
}
END_TEST

START_TEST(absent_and_null_leave_the_default)
{
    ps_config c = open_text("{\"null\": null}");
    static const char *const keys[] = {"null", "absent"};
    for (int k = 0; k < 2; k++) {
        int i = 5;
        double r = 5.5;
        bool b = true;
        const char *t = "kept";
        assert_ok(ps_config_int(&c, keys[k], 0, 9, &i));
        assert_ok(ps_config_real(&c, keys[k], &r));
        assert_ok(ps_config_bool(&c, keys[k], &b));
        assert_ok(ps_config_text(&c, keys[k], &t));
        ck_assert(i == 5 && r == 5.5 && b);
        ck_assert_str_eq(t, "kept");
        ck_assert_ptr_null(ps_config_take(&c, keys[k]));
        ck_assert_int_eq(ps_config_need_int(&c, keys[k], 0, 9, &i), PS_ERR_FORMAT);
        assert_mentions("is missing");
    }
    ps_config_close(&c);
}
END_TEST

START_TEST(wrong_types_and_ranges_are_named)
{
    ps_config c = open_text("{\"k\": 11, \"t\": \"x\", \"r\": 1.5, \"huge\": 99999999999}");
    int i;
    double r;
    bool b;
    const char *t;
    ck_assert_int_eq(ps_config_int(&c, "k", 0, 10, &i), PS_ERR_FORMAT);
    assert_message("config.json: k is 11, wanted 0..10");
    ck_assert_int_eq(ps_config_int(&c, "huge", 0, 10, &i), PS_ERR_FORMAT);
    assert_message("config.json: huge is 99999999999, wanted 0..10");
    ck_assert_int_eq(ps_config_int(&c, "r", 0, 10, &i), PS_ERR_FORMAT);
    assert_message("config.json: r is a number, wanted an integer");
    ck_assert_int_eq(ps_config_real(&c, "t", &r), PS_ERR_FORMAT);
    assert_message("config.json: t is a string, wanted a number");
    ck_assert_int_eq(ps_config_bool(&c, "k", &b), PS_ERR_FORMAT);
    assert_message("config.json: k is an integer, wanted a boolean");
    ck_assert_int_eq(ps_config_text(&c, "k", &t), PS_ERR_FORMAT);
    assert_message("config.json: k is an integer, wanted a string");
    ck_assert_int_eq(ps_config_need_int(&c, "none", 0, 10, &i), PS_ERR_FORMAT);
    assert_message("config.json: key none is missing");
    ps_config_close(&c);
}
END_TEST

START_TEST(token_ids_are_a_number_or_a_list)
{
    ps_config c = open_text("{\"one\": 5, \"list\": [7, 5, 7, 9], \"none\": null, \"empty\": []}");
    int32_t ids[4];
    int n = 0;
    assert_ok(ps_config_token_ids(&c, "none", 4, ids, &n));
    assert_ok(ps_config_token_ids(&c, "empty", 4, ids, &n));
    ck_assert_int_eq(n, 0);
    assert_ok(ps_config_token_ids(&c, "one", 4, ids, &n));
    assert_ok(ps_config_token_ids(&c, "list", 4, ids, &n)); // 5 is there already
    ck_assert_int_eq(n, 3);
    ck_assert(ids[0] == 5 && ids[1] == 7 && ids[2] == 9);
    ps_config_close(&c);
}
END_TEST

START_TEST(what_is_no_token_id_is_refused)
{
    static const char *const bad[] = {"-1",      "2147483648", "\"5\"", "1.5",
                                      "[1, -2]", "[[1]]",      "{}",    "true"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ps_text json = {0};
        ps_text_appendf(&json, "{\"eos\": %s}", bad[i]);
        ps_config c = open_text(json.data);
        int32_t ids[4];
        int n = 0;
        ck_assert_int_eq(ps_config_token_ids(&c, "eos", 4, ids, &n), PS_ERR_FORMAT);
        assert_message("config.json: eos holds something that is not a token id");
        ps_config_close(&c);
        ps_text_release(&json);
    }
}
END_TEST

START_TEST(more_token_ids_than_there_is_room_for_are_refused)
{
    ps_config c = open_text("{\"eos\": [1, 2, 3]}");
    int32_t ids[2];
    int n = 0;
    ck_assert_int_eq(ps_config_token_ids(&c, "eos", 2, ids, &n), PS_ERR_LIMIT);
    assert_message("config.json: eos has more than 2 ids");
    ps_config_close(&c);
}
END_TEST

START_TEST(a_key_that_nobody_asked_for_is_refused)
{
    ps_config c = open_text("{\"known\": 1, \"logit_softcap\": 30.0}");
    int i;
    assert_ok(ps_config_int(&c, "known", 0, 9, &i));
    ck_assert_int_eq(ps_config_check_all_used(&c), PS_ERR_UNSUPPORTED);
    assert_message("config.json: key logit_softcap is not understood, and it may change the "
                   "computation");
    ck_assert_ptr_nonnull(ps_config_take(&c, "logit_softcap"));
    assert_ok(ps_config_check_all_used(&c));
    ps_config_close(&c);
}
END_TEST

START_TEST(keys_that_change_no_number_may_stand)
{
    ps_config c = open_text("{\"architectures\": [\"X\"], \"torch_dtype\": \"bfloat16\", "
                            "\"dtype\": \"bfloat16\", \"use_cache\": true, "
                            "\"transformers_version\": \"4.51.0\", \"attention_dropout\": 0.1, "
                            "\"initializer_range\": 0.02, \"pad_token_id\": 0, "
                            "\"_name_or_path\": \"x\", \"pretraining_tp\": 1}");
    assert_ok(ps_config_check_all_used(&c));
    ps_config_close(&c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/config");
    TCase *tcase = scratch_case(suite, "config");
    tcase_add_test(tcase, what_is_no_json_object_is_refused);
    tcase_add_test(tcase, values_come_in_their_types);
    tcase_add_test(tcase, absent_and_null_leave_the_default);
    tcase_add_test(tcase, wrong_types_and_ranges_are_named);
    tcase_add_test(tcase, token_ids_are_a_number_or_a_list);
    tcase_add_test(tcase, what_is_no_token_id_is_refused);
    tcase_add_test(tcase, more_token_ids_than_there_is_room_for_are_refused);
    tcase_add_test(tcase, a_key_that_nobody_asked_for_is_refused);
    tcase_add_test(tcase, keys_that_change_no_number_may_stand);
    return scratch_run(suite);
}
