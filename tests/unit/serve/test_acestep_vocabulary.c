/* The tokenizers that ACE-Step's states take and refuse. */
#include "serve/acestep_states.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../support/acestep_machine.h"

/* The data's tokenizer.json, changed. */
typedef void (*change)(json_t *added);

static ps_err open_changed(change change_it, ps_tokenizer **out)
{
    ps_text text = {0};
    json_error_t error;
    ck_assert_int_eq(acestep_lm_read("model/tokenizer.json", &text), PS_OK);
    json_t *root = json_loadb(text.data, text.len, 0, &error);
    ck_assert_ptr_nonnull(root);
    change_it(json_object_get(root, "added_tokens"));
    char *changed = json_dumps(root, JSON_COMPACT);
    const ps_err err = ps_tokenizer_open(changed, strlen(changed), "tokenizer.json", out);
    free(changed);
    json_decref(root);
    ps_text_release(&text);
    return err;
}

static void rename_token(json_t *added, const char *from, const char *to)
{
    size_t i;
    json_t *token;
    json_array_foreach(added, i, token)
    {
        if (strcmp(json_string_value(json_object_get(token, "content")), from) == 0) {
            json_object_set_new(token, "content", json_string(to));
        }
    }
}

static void lose_end(json_t *added)
{
    rename_token(added, "<|im_end|>", "<|end|>");
}

static void lose_think(json_t *added)
{
    rename_token(added, "<think>", "<thought>");
}

static void lose_think_end(json_t *added)
{
    rename_token(added, "</think>", "</thought>");
}

static void lose_codes(json_t *added)
{
    while (json_array_size(added) > 26) {
        json_array_remove(added, json_array_size(added) - 1);
    }
}

static void lose_first_code(json_t *added)
{
    rename_token(added, "<|audio_code_0|>", "<|no_code|>");
}

static void lose_a_code(json_t *added)
{
    rename_token(added, "<|audio_code_77|>", "<|no_code|>");
}

static void write_codes_with_zeros(json_t *added)
{
    rename_token(added, "<|audio_code_7|>", "<|audio_code_0007|>");
    rename_token(added, "<|audio_code_8|>", "<|audio_code_0007|>x");
}

typedef struct bad_tokenizer {
    change change_it;
    const char *message; // part of it
} bad_tokenizer;

static const bad_tokenizer bad_tokenizers[] = {
    {lose_end, "no token <|im_end|>"},
    {lose_think, "no token <think>"},
    {lose_think_end, "no token </think>"},
    {lose_codes, "no audio codes"},
    {lose_first_code, "<|audio_code_1|> is token 1783, wanted <|audio_code_0|>"},
    {lose_a_code, "<|audio_code_78|> is token 1860, wanted <|audio_code_77|>"},
    {write_codes_with_zeros, "<|audio_code_9|> is token 1791, wanted <|audio_code_8|>"},
};

START_TEST(other_tokenizers_are_refused)
{
    ps_tokenizer *t;
    ps_acestep_vocabulary *v;
    ck_assert_msg(open_changed(bad_tokenizers[_i].change_it, &t) == PS_OK, "%s", ps_err_message());
    ck_assert_int_eq(ps_acestep_vocabulary_new(t, ps_tokenizer_size(t), 0, &v), PS_ERR_FORMAT);
    ck_assert_ptr_null(v);
    ck_assert_msg(strstr(ps_err_message(), bad_tokenizers[_i].message), "%s", ps_err_message());
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(numbers_that_do_not_fit_the_tokenizer_are_refused)
{
    ps_acestep_vocabulary *v;
    ck_assert_int_eq(ps_acestep_vocabulary_new(lm.tokenizer, lm.V - 1, 0, &v), PS_ERR_SHAPE);
    ck_assert_int_eq(ps_acestep_vocabulary_new(lm.tokenizer, lm.V, 2001, &v), PS_ERR_USAGE);
    ck_assert_int_eq(ps_acestep_vocabulary_new(lm.tokenizer, lm.V, -1, &v), PS_ERR_USAGE);
}
END_TEST

enum { PUBLISHED_CODES = 65535 };

static void add_published_codes(json_t *added)
{
    for (int code = (int)json_array_size(added) - 26; code < PUBLISHED_CODES; code++) {
        json_t *token = json_deep_copy(json_array_get(added, 27));
        char content[32];
        snprintf(content, sizeof content, "<|audio_code_%d|>", code);
        json_object_set_new(token, "content", json_string(content));
        json_object_set_new(token, "id", json_integer(1782 + code));
        json_array_append_new(added, token);
    }
}

START_TEST(of_the_published_65535_codes_64000_are_legal)
{
    ps_tokenizer *t;
    ps_acestep_vocabulary *v;
    ps_acestep_params p = ps_acestep_params_default();
    p.phase = PS_ACESTEP_CODES;
    ck_assert_msg(open_changed(add_published_codes, &t) == PS_OK, "%s", ps_err_message());
    const int V = ps_tokenizer_size(t);
    ck_assert_int_eq(V, 1782 + PUBLISHED_CODES);
    ck_assert_int_eq(ps_acestep_vocabulary_new(t, V, 64001, &v), PS_ERR_USAGE);
    ck_assert_int_eq(ps_acestep_vocabulary_new(t, V, 0, &v), PS_OK);
    ck_assert_int_eq(ps_acestep_vocabulary_ids(v)->n_codes, PUBLISHED_CODES);
    ck_assert_int_eq(ps_acestep_vocabulary_ids(v)->n_legal_codes, 64000);
    machine m = open_machine_of(v, V, &p);
    find_allowed(&m, V - 1);
    ck_assert_int_eq(count_allowed(&m), 64001);
    ck_assert(is_allowed(&m, 1782 + 63999));
    ck_assert(!is_allowed(&m, 1782 + 64000));
    close_machine(&m);
    ps_acestep_vocabulary_free(v);
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(ids_behind_the_tokenizer_are_never_allowed)
{
    ps_acestep_vocabulary *v;
    ck_assert_int_eq(ps_acestep_vocabulary_new(lm.tokenizer, lm.V + 70, 0, &v), PS_OK);
    ck_assert_int_eq(ps_acestep_vocabulary_ids(v)->n_legal_codes, 2000);
    ps_acestep_params p = ps_acestep_params_default();
    p.phase = PS_ACESTEP_COT;
    p.values[PS_ACESTEP_BPM] = "60";
    machine m = open_machine_of(v, lm.V + 70, &p);
    follow_certain(&m);
    take_text(&m, "a\n");
    ck_assert(!find_allowed(&m, token_of("a")));
    ck_assert_int_eq(count_allowed(&m), lm.V);
    ck_assert(!is_allowed(&m, lm.V));
    close_machine(&m);
    ps_acestep_vocabulary_free(v);
}
END_TEST

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

int main(void)
{
    TCase *tcase = tcase_create("states");
    tcase_add_unchecked_fixture(tcase, open_lm, close_lm);
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, other_tokenizers_are_refused, 0, COUNT(bad_tokenizers));
    tcase_add_test(tcase, numbers_that_do_not_fit_the_tokenizer_are_refused);
    tcase_add_test(tcase, of_the_published_65535_codes_64000_are_legal);
    tcase_add_test(tcase, ids_behind_the_tokenizer_are_never_allowed);
    Suite *suite = suite_create("serve/acestep_vocabulary");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
