/* ACE-Step's states, rule by rule, over the tokenizer of the reference data. Captions and genres are
 * in test_acestep_text.c, the sets of recorded runs in test_acestep_golden.c. */
#include "serve/acestep_states.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../support/acestep_machine.h"
#include "../../support/dice.h"
#include "base/mem.h"

// ---- tags, names, given values ----

START_TEST(tags_and_names_are_certain_and_values_are_not)
{
    const ps_acestep_params p = ps_acestep_params_default();
    machine m = open_machine(&p);
    expect_state(&m, "THINK_TAG");
    ck_assert_int_eq(certain(&m), lm.ids->think);
    ck_assert_str_eq(follow_certain(&m), "<think>\nbpm: "); // no value begins otherwise
    take_text(&m, "97\n");
    ck_assert_str_eq(follow_certain(&m), "caption:");
    expect_state(&m, "CAPTION_VALUE");
    close_machine(&m);
}
END_TEST

START_TEST(given_values_are_written_as_they_are)
{
    ps_acestep_params p = ps_acestep_params_default();
    p.skip_genres = false;
    p.values[PS_ACESTEP_BPM] = "999";
    p.values[PS_ACESTEP_CAPTION] = "two\n  lines: `of` it";
    p.values[PS_ACESTEP_DURATION] = "0.5";
    p.values[PS_ACESTEP_GENRES] = "Not In The Table";
    p.values[PS_ACESTEP_KEYSCALE] = "H minor";
    p.values[PS_ACESTEP_LANGUAGE] = "xx";
    p.values[PS_ACESTEP_TIMESIGNATURE] = "7/8";
    p.genres = lm.genres;
    machine m = open_machine(&p);
    ck_assert_str_eq(follow_certain(&m),
                     "<think>\nbpm: 999\ncaption: two\n  lines: `of` it\nduration: 0.5\n"
                     "genres: Not In The Table\nkeyscale: H minor\nlanguage: xx\n"
                     "timesignature: 7/8\n<|im_end|>");
    expect_state(&m, "COMPLETED");
    close_machine(&m);
}
END_TEST

START_TEST(skipped_fields_are_not_written)
{
    ps_acestep_params p = ps_acestep_params_default();
    p.skip_caption = p.skip_genres = p.skip_language = true;
    p.stop_at_reasoning = false;
    p.values[PS_ACESTEP_BPM] = "60";
    p.values[PS_ACESTEP_DURATION] = "30";
    p.values[PS_ACESTEP_KEYSCALE] = "C major";
    p.values[PS_ACESTEP_LANGUAGE] = "en";
    p.values[PS_ACESTEP_TIMESIGNATURE] = "4";
    machine m = open_machine(&p);
    ck_assert_str_eq(follow_certain(&m), "<think>\nbpm: 60\nduration: 30\nkeyscale: C major\n"
                                         "timesignature: 4\n</think>");
    expect_state(&m, "CODES_GENERATION");
    close_machine(&m);
}
END_TEST

/* Values that would become other tokens than those of a text. */
static const char *const refused_values[] = {
    "<|im_end|>",       "a <|endoftext|> b",   "<think>", "</think>",
    "<|audio_code_3|>", "<|audio_code_1990|>", "\xC3(",
};

START_TEST(given_values_that_are_no_text_are_refused)
{
    ps_acestep_params p = ps_acestep_params_default();
    ps_constraint *c;
    p.values[PS_ACESTEP_KEYSCALE] = refused_values[_i];
    ck_assert_int_eq(ps_acestep_states_new(lm.vocabulary, &p, &c), PS_ERR_USAGE);
    ck_assert_ptr_null(c);
    ck_assert_ptr_nonnull(strstr(ps_err_message(), "keyscale"));
}
END_TEST

START_TEST(a_given_value_that_is_too_long_is_refused)
{
    ps_acestep_params p = ps_acestep_params_default();
    ps_constraint *c;
    char *value = ps_mem_new(PS_ACESTEP_MAX_USER_BYTES + 2, 1);
    memset(value, 'x', PS_ACESTEP_MAX_USER_BYTES + 1);
    p.values[PS_ACESTEP_CAPTION] = value;
    ck_assert_int_eq(ps_acestep_states_new(lm.vocabulary, &p, &c), PS_ERR_LIMIT);
    ps_mem_free(value);
}
END_TEST

START_TEST(durations_out_of_range_are_refused)
{
    const int longest[] = {9, 601, -1};
    const double targets[] = {-1.0, 600.5, (double)NAN, (double)INFINITY};
    ps_constraint *c;
    for (int i = 0; i < 3; i++) {
        ps_acestep_params p = ps_acestep_params_default();
        p.max_duration = longest[i];
        ck_assert_int_eq(ps_acestep_states_new(lm.vocabulary, &p, &c), PS_ERR_USAGE);
    }
    for (int i = 0; i < 4; i++) {
        ps_acestep_params p = ps_acestep_params_default();
        p.target_duration = targets[i];
        ck_assert_int_eq(ps_acestep_states_new(lm.vocabulary, &p, &c), PS_ERR_USAGE);
    }
}
END_TEST

START_TEST(a_target_is_written_as_the_duration_without_a_blank)
{
    ps_acestep_params p = ps_acestep_params_default();
    p.skip_caption = true;
    p.target_duration = 37.9;
    p.values[PS_ACESTEP_BPM] = "60";
    machine m = open_machine(&p);
    ck_assert_str_eq(follow_certain(&m), "<think>\nbpm: 60\nduration:37\nkeyscale:");
    close_machine(&m);
    p.values[PS_ACESTEP_DURATION] = "12";
    m = open_machine(&p);
    ck_assert_str_eq(follow_certain(&m), "<think>\nbpm: 60\nduration: 12\nkeyscale:");
    close_machine(&m);
}
END_TEST

// ---- values out of trees ----

typedef struct value_list {
    char value[700][24]; // what the field may hold, its blank taken off
    int n;
} value_list;

/* Every way from here to the field's line break. */
static void list_values(const machine *m, value_list *list)
{
    ps_expectation e;
    m->c->kind->expect(m->c, &e);
    ck_assert_int_gt(e.n_ranges, 0);
    for (int i = 0; i < e.n_ranges; i++) {
        for (int32_t token = e.ranges[i].first; token < e.ranges[i].end; token++) {
            if (token == lm.ids->newline) {
                ck_assert_int_lt(list->n, 700);
                ck_assert_int_eq(m->text.data[0], ' ');
                snprintf(list->value[list->n++], 24, "%s", m->text.data + 1);
                continue;
            }
            machine next = copy_machine(m);
            advance(&next, token);
            list_values(&next, list);
            close_machine(&next);
        }
    }
}

static int compare_values(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void expect_numbers(value_list *list, int first, int last)
{
    ck_assert_int_eq(list->n, last - first + 1);
    qsort(list->value, (size_t)list->n, sizeof *list->value, compare_values);
    for (int number = first; number <= last; number++) {
        char text[24];
        snprintf(text, sizeof text, "%d", number);
        ck_assert_ptr_nonnull(
            bsearch(text, list->value, (size_t)list->n, sizeof *list->value, compare_values));
    }
}

static void list_field(ps_acestep_params p, ps_acestep_field field, value_list *list)
{
    static const char *const others[PS_ACESTEP_FIELDS] = {"60",      "x",  "30", "pop",
                                                          "A minor", "en", "4"};
    for (int i = 0; i < PS_ACESTEP_FIELDS; i++) {
        p.values[i] = i == (int)field ? NULL : others[i];
    }
    machine m = open_machine(&p);
    char label[24];
    snprintf(label, sizeof label, "\n%s:", ps_acestep_field_name(field));
    while (m.text.len < strlen(label) ||
           strcmp(m.text.data + m.text.len - strlen(label), label) != 0) {
        advance(&m, certain(&m));
    }
    ps_text_clear(&m.text);
    list->n = 0;
    list_values(&m, list);
    close_machine(&m);
}

START_TEST(bpm_is_any_number_from_30_to_300)
{
    value_list list;
    list_field(ps_acestep_params_default(), PS_ACESTEP_BPM, &list);
    expect_numbers(&list, 30, 300);
}
END_TEST

START_TEST(duration_is_any_number_from_10_to_the_longest)
{
    const int longest[] = {10, 17, 180, 600};
    for (int i = 0; i < 4; i++) {
        value_list list;
        ps_acestep_params p = ps_acestep_params_default();
        p.max_duration = longest[i];
        list_field(p, PS_ACESTEP_DURATION, &list);
        expect_numbers(&list, 10, longest[i]);
    }
}
END_TEST

START_TEST(timesignature_is_2_3_4_or_6)
{
    value_list list;
    list_field(ps_acestep_params_default(), PS_ACESTEP_TIMESIGNATURE, &list);
    ck_assert_int_eq(list.n, 4);
    for (int i = 0; i < 4; i++) {
        ck_assert_str_eq(list.value[i], ((const char *[]){"2", "3", "4", "6"})[i]);
    }
}
END_TEST

START_TEST(keyscales_are_notes_signs_and_modes)
{
    static const char *const signs[] = {"", "#", "b", "\xE2\x99\xAF", "\xE2\x99\xAD"};
    value_list list;
    list_field(ps_acestep_params_default(), PS_ACESTEP_KEYSCALE, &list);
    qsort(list.value, (size_t)list.n, sizeof *list.value, compare_values);
    ck_assert_int_eq(list.n, 70);
    for (int i = 0; i < 70; i++) {
        char text[24] = "";
        snprintf(text, sizeof text, "%c%s %s", 'A' + i / 10, signs[i / 2 % 5],
                 i % 2 ? "minor" : "major");
        ck_assert_ptr_nonnull(bsearch(text, list.value, 70, sizeof *list.value, compare_values));
    }
}
END_TEST

START_TEST(the_first_token_of_a_language_is_the_one_with_the_largest_logit)
{
    ps_acestep_params p = ps_acestep_params_default();
    p.skip_caption = true;
    p.values[PS_ACESTEP_BPM] = "60";
    p.values[PS_ACESTEP_DURATION] = "30";
    p.values[PS_ACESTEP_KEYSCALE] = "C major";
    machine m = open_machine(&p);
    follow_certain(&m);
    expect_state(&m, "LANGUAGE_VALUE");
    ps_expectation e;
    m.c->kind->expect(m.c, &e);
    ck_assert_int_eq(e.certain, -1);
    ck_assert_int_gt(e.n_ranges, 1);
    const int32_t last = e.ranges[e.n_ranges - 1].end - 1, first = e.ranges[0].first;
    machine other = copy_machine(&m);
    find_allowed(&m, last);
    ck_assert_int_eq(count_allowed(&m), 1);
    ck_assert(is_allowed(&m, last));
    find_allowed(&other, lm.ids->backtick); // no language begins with it: the lowest of equals
    ck_assert_int_eq(count_allowed(&other), 1);
    ck_assert(is_allowed(&other, first));
    close_machine(&other);
    close_machine(&m);
}
END_TEST

// ---- codes, and behind the block ----

START_TEST(codes_are_counted_to_the_target_and_then_end)
{
    ps_acestep_params p = ps_acestep_params_default();
    p.phase = PS_ACESTEP_CODES;
    p.target_duration = 2.5;
    machine m = open_machine(&p);
    for (int i = 0; i < 12; i++) {
        find_allowed(&m, lm.ids->eos);
        ck_assert_int_eq(count_allowed(&m), lm.ids->n_legal_codes);
        ck_assert(!is_allowed(&m, lm.ids->eos));
        ck_assert_int_eq(certain(&m), -1);
        advance(&m, lm.ids->first_code + i);
    }
    ck_assert_int_eq(ps_acestep_states_codes(m.c), 12);
    ck_assert_int_eq(certain(&m), lm.ids->eos);
    advance(&m, lm.ids->eos);
    ck_assert_int_eq(ps_acestep_states_codes(m.c), 12);
    close_machine(&m);
}
END_TEST

START_TEST(codes_without_a_target_may_end_at_any_time)
{
    ps_acestep_params p = ps_acestep_params_default();
    p.phase = PS_ACESTEP_CODES;
    machine m = open_machine(&p);
    ps_expectation e;
    m.c->kind->expect(m.c, &e);
    ck_assert_int_eq(e.n_ranges, 2);
    ck_assert_int_eq(e.ranges[0].first, lm.ids->eos);
    ck_assert_int_eq(e.ranges[0].end, lm.ids->eos + 1);
    ck_assert_int_eq(e.ranges[1].first, lm.ids->first_code);
    ck_assert_int_eq(e.ranges[1].end, lm.ids->first_code + 1980);
    find_allowed(&m, -1);
    ck_assert_int_eq(count_allowed(&m), 1981);
    close_machine(&m);
}
END_TEST

START_TEST(to_understand_is_free_text_without_codes_behind_the_block)
{
    ps_acestep_params p = ps_acestep_params_default();
    p.phase = PS_ACESTEP_UNDERSTAND;
    p.stop_at_reasoning = false;
    p.skip_caption = p.skip_language = true;
    p.values[PS_ACESTEP_BPM] = p.values[PS_ACESTEP_DURATION] = "60";
    p.values[PS_ACESTEP_KEYSCALE] = "C major";
    p.values[PS_ACESTEP_TIMESIGNATURE] = "4";
    machine m = open_machine(&p);
    follow_certain(&m);
    expect_state(&m, "COMPLETED");
    find_allowed(&m, -1);
    ck_assert_int_eq(count_allowed(&m), lm.V - lm.ids->n_legal_codes);
    ck_assert(is_allowed(&m, lm.ids->eos));
    close_machine(&m);
}
END_TEST

// ---- any logits ----

enum { MANY_TOKENS = 3000 };

static ps_acestep_params throw_params(dice *d)
{
    ps_acestep_params p = ps_acestep_params_default();
    p.phase = (ps_acestep_phase)dice_throw(d, 3);
    p.stop_at_reasoning = dice_throw(d, 3) == 0;
    p.skip_caption = dice_throw(d, 2);
    p.skip_genres = dice_throw(d, 2);
    p.skip_language = dice_throw(d, 2);
    p.genres = dice_throw(d, 2) ? lm.genres : NULL;
    p.max_duration = 10 + dice_throw(d, 591);
    if (dice_throw(d, 2)) p.target_duration = dice_real(d, 0.1, 60.0);
    if (dice_throw(d, 4) == 0) p.values[PS_ACESTEP_BPM] = "77";
    if (dice_throw(d, 4) == 0) p.values[PS_ACESTEP_CAPTION] = "given: so\n  it is";
    return p;
}

static void throw_logits(dice *d, machine *m)
{
    for (int v = 0; v < m->V; v++) {
        m->logits[v] = (float)dice_real(d, -4.0, 4.0);
    }
    m->logits[lm.ids->newline] += 3.0f;
    m->logits[token_of(":")] += (float)dice_throw(d, 4);
}

/* Draws one of the allowed tokens, each as likely, and checks that it was expected. */
static int32_t draw(dice *d, machine *m)
{
    ps_expectation e;
    m->c->kind->expect(m->c, &e);
    if (e.certain >= 0) return e.certain;
    bool all = false, is_named = e.n_ranges == 0;
    throw_logits(d, m);
    ps_id_range ranges[512];
    ck_assert_int_le(e.n_ranges, 512);
    for (int i = 0; i < e.n_ranges; i++) { // allow may narrow what was borrowed
        ranges[i] = e.ranges[i];
    }
    ck_assert_int_eq(m->c->kind->allow(m->c, m->logits, m->allowed, &all), PS_OK);
    if (all) return (int32_t)dice_throw(d, m->V);
    const int n = count_allowed(m);
    ck_assert_int_gt(n, 0);
    int32_t token = 0;
    for (int left = dice_throw(d, n); !is_allowed(m, token) || left-- > 0;) {
        token++;
    }
    for (int i = 0; i < e.n_ranges; i++) {
        is_named = is_named || (token >= ranges[i].first && token < ranges[i].end);
    }
    ck_assert(is_named);
    return token;
}

START_TEST(any_logits_lead_through_the_states_in_order_and_to_legal_codes)
{
    dice d = {.seed = (uint64_t)_i};
    const ps_acestep_params p = throw_params(&d);
    machine m = open_machine(&p);
    int n_codes = 0;
    for (int t = 0; t < MANY_TOKENS; t++) {
        const bool in_codes = strcmp(ps_acestep_states_name(m.c), "CODES_GENERATION") == 0;
        const int32_t token = draw(&d, &m);
        ck_assert_int_ge(token, 0);
        ck_assert_int_lt(token, lm.V);
        if (in_codes && token != lm.ids->eos) {
            ck_assert_int_ge(token, lm.ids->first_code);
            ck_assert_int_lt(token, lm.ids->first_code + lm.ids->n_legal_codes);
            n_codes++;
        }
        advance(&m, token);
        if (token == lm.ids->eos || token == lm.ids->pad) {
            if (in_codes && p.target_duration > 0)
                ck_assert_int_eq(n_codes, (int)(p.target_duration * 5));
            break;
        }
    }
    ck_assert_int_eq(ps_acestep_states_codes(m.c), n_codes);
    close_machine(&m);
}
END_TEST

START_TEST(equal_logits_lead_the_same_way)
{
    ps_text first = {0};
    for (int round = 0; round < 2; round++) {
        dice d = {.seed = 1000 + (uint64_t)_i};
        const ps_acestep_params p = throw_params(&d);
        machine m = open_machine(&p);
        for (int t = 0; t < 200; t++) {
            advance(&m, draw(&d, &m));
        }
        if (round == 0) {
            ps_text_append(&first, ps_text_str(&m.text), m.text.len);
        } else {
            ck_assert_uint_eq(first.len, m.text.len);
            ck_assert_mem_eq(first.data, m.text.data, first.len);
        }
        close_machine(&m);
    }
    ps_text_release(&first);
}
END_TEST

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static void add_value_tests(TCase *tcase)
{
    tcase_add_test(tcase, tags_and_names_are_certain_and_values_are_not);
    tcase_add_test(tcase, given_values_are_written_as_they_are);
    tcase_add_test(tcase, skipped_fields_are_not_written);
    tcase_add_loop_test(tcase, given_values_that_are_no_text_are_refused, 0, COUNT(refused_values));
    tcase_add_test(tcase, a_given_value_that_is_too_long_is_refused);
    tcase_add_test(tcase, durations_out_of_range_are_refused);
    tcase_add_test(tcase, a_target_is_written_as_the_duration_without_a_blank);
    tcase_add_test(tcase, bpm_is_any_number_from_30_to_300);
    tcase_add_test(tcase, duration_is_any_number_from_10_to_the_longest);
    tcase_add_test(tcase, timesignature_is_2_3_4_or_6);
    tcase_add_test(tcase, keyscales_are_notes_signs_and_modes);
    tcase_add_test(tcase, the_first_token_of_a_language_is_the_one_with_the_largest_logit);
}

static void add_other_tests(TCase *tcase)
{
    tcase_add_test(tcase, codes_are_counted_to_the_target_and_then_end);
    tcase_add_test(tcase, codes_without_a_target_may_end_at_any_time);
    tcase_add_test(tcase, to_understand_is_free_text_without_codes_behind_the_block);
    tcase_add_loop_test(tcase, any_logits_lead_through_the_states_in_order_and_to_legal_codes, 0,
                        40);
    tcase_add_loop_test(tcase, equal_logits_lead_the_same_way, 0, 4);
}

int main(void)
{
    TCase *tcase = tcase_create("states");
    tcase_add_unchecked_fixture(tcase, open_lm, close_lm);
    tcase_set_timeout(tcase, 60);
    add_value_tests(tcase);
    add_other_tests(tcase);
    Suite *suite = suite_create("serve/acestep_states");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
