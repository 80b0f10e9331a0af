/* What the pictures are made of: lists of numbers, maps, labels of tokens, quoted texts. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tool/pictures/plot.h"
#include "tool/pictures/ranges.h"

START_TEST(ranges_hold_what_they_name_and_nothing_else)
{
    ps_ranges r;
    ck_assert_int_eq(ps_ranges_parse("step", "0,7-9,40-", 1000, &r), PS_OK);
    for (int64_t i = 0; i < 50; i++) {
        ck_assert(ps_ranges_hold(&r, i) == (i == 0 || (i >= 7 && i <= 9) || i >= 40));
    }
    ck_assert(ps_ranges_hold(&r, INT64_MAX));
    ck_assert_int_eq(ps_ranges_highest(&r), 40);
    ck_assert_int_eq(ps_ranges_parse("step", "all", 3, &r), PS_OK);
    ck_assert(ps_ranges_hold(&r, 0) && ps_ranges_hold(&r, INT64_MAX));
    ck_assert_int_eq(ps_ranges_highest(&r), 0);
}
END_TEST

START_TEST(lists_that_are_none_are_refused)
{
    static const char *const bad[] = {
        "",    ",",  "1,", ",1", "a",   "1a", "1-a",  "-1",
        "2-1", "+1", " 1", "1 ", "1--", "11", "5-11", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ps_ranges r;
        ck_assert_msg(ps_ranges_parse("layer", bad[i], 10, &r) == PS_ERR_USAGE, "'%s'", bad[i]);
        ck_assert(strstr(ps_err_message(), "--layer"));
    }
}
END_TEST

START_TEST(more_ranges_than_there_is_room_for_are_refused)
{
    ps_text list = {0};
    ps_ranges r;
    for (int i = 0; i < PS_RANGES_MAX; i++) {
        ps_text_appendf(&list, i ? ",%d" : "%d", i);
    }
    ck_assert_int_eq(ps_ranges_parse("head", ps_text_str(&list), 1000, &r), PS_OK);
    ps_text_append_str(&list, ",7");
    ck_assert_int_eq(ps_ranges_parse("head", ps_text_str(&list), 1000, &r), PS_ERR_USAGE);
    ps_text_release(&list);
}
END_TEST

/* Steps 4, 5 and 7, which see the two keys before them and their own; one head. The bias of key j
 * for query i is 10 i + j. */
static ps_record new_record(ps_record_layer *layer)
{
    static const int64_t queries[3] = {4, 5, 7};
    static int head = 0;
    *layer = (ps_record_layer){.n_steps = 3, .n_keys = 9};
    layer->steps = ps_mem_new(3, sizeof *layer->steps);
    layer->keys = ps_mem_new(9, sizeof *layer->keys);
    layer->values = ps_mem_new(9 * PS_RECORD_QUANTITIES, sizeof *layer->values);
    for (size_t s = 0; s < 3; s++) {
        layer->steps[s] = (ps_record_step){.query = queries[s], .first = 3 * s, .n = 3};
        for (size_t j = 0; j < 3; j++) {
            const int64_t key = queries[s] - 2 + (int64_t)j;
            layer->keys[3 * s + j] = key;
            layer->values[(s * PS_RECORD_QUANTITIES + PS_QUANTITY_BIAS) * 3 + j] =
                (float)(10 * queries[s] + key);
        }
    }
    return (ps_record){.n_heads = 1, .heads = &head, .n_layers = 1, .layers = layer};
}

static void release_layer(ps_record_layer *layer)
{
    ps_mem_free(layer->steps);
    ps_mem_free(layer->keys);
    ps_mem_free(layer->values);
}

START_TEST(a_map_holds_each_value_at_its_query_and_key)
{
    ps_record_layer layer;
    const ps_record record = new_record(&layer);
    const ps_map_area area = ps_map_area_of(&layer);
    ck_assert(area.first_query == 4 && area.end_query == 8);
    ck_assert(area.first_key == 2 && area.end_key == 8);
    ps_map m;
    ps_map_make(&record, &layer, 0, PS_QUANTITY_BIAS, &area, 1, 1, &m);
    ck_assert(m.rows == 4 && m.columns == 6);
    for (int r = 0; r < 4; r++) {
        for (int c = 0; c < 6; c++) {
            const int query = 4 + r, key = 2 + c;
            const bool seen = query != 6 && key <= query && key >= query - 2;
            const double value = m.value[r * 6 + c];
            ck_assert(seen ? value == 10.0 * query + key : isnan(value));
        }
    }
    ck_assert(m.low == 42.0 && m.high == 77.0);
    ck_assert(ps_map_extent(&m, 1, 0.0) == 77.0 && ps_map_extent(&m, 1, 0.5) == 55.0 - 1.0);
    ps_map_release(&m);
    release_layer(&layer);
}
END_TEST

START_TEST(coarse_cells_hold_means_and_shades_equal_shares)
{
    ps_record_layer layer;
    const ps_record record = new_record(&layer);
    const ps_map_area area = ps_map_area_of(&layer);
    ps_map m;
    double border;
    ps_map_make(&record, &layer, 0, PS_QUANTITY_BIAS, &area, 2, 3, &m);
    ck_assert(m.rows == 2 && m.columns == 2);
    ck_assert_double_eq_tol(m.value[0], (42 + 43 + 44 + 53 + 54) / 5.0, 1e-9);
    ck_assert_double_eq_tol(m.value[1], 55.0, 1e-9);
    ck_assert(isnan(m.value[2]));
    ck_assert_double_eq_tol(m.value[3], 76.0, 1e-9);
    ps_map_quantiles(&m, 1, &border);
    ck_assert_double_eq_tol(border, 55.0, 1e-9);
    ps_map_release(&m);
    release_layer(&layer);
}
END_TEST

START_TEST(labels_show_blanks_and_broken_bytes_and_end_in_time)
{
    static const struct {
        const char *text;
        int limit;
        const char *label;
    } cases[] = {{" A\n", 8, "␣A↵"},   {"abcdefgh", 8, "abcdefgh"},   {"abcdefghi", 8, "abcdefg…"},
                 {"\xc3", 8, "\\xc3"}, {"h\xc3\xa9", 8, "h\xc3\xa9"}, {"", 8, "<5>"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int32_t id = 5;
        ps_text text = {0}, label = {0};
        ps_text_append_str(&text, cases[i].text);
        const ps_scene scene = {.tokens = {.ids = &id, .n = 1}, .texts = &text};
        ps_scene_label(&scene, 0, cases[i].limit, &label);
        ck_assert_str_eq(ps_text_str(&label), cases[i].label);
        ps_text_clear(&label);
        ps_scene_label(&scene, 1, cases[i].limit, &label);
        ck_assert_uint_eq(label.len, 0);
        ps_text_release(&text);
        ps_text_release(&label);
    }
}
END_TEST

START_TEST(texts_in_scripts_cannot_end_their_quotes)
{
    ps_plot plot = {0};
    ps_plot_quote(&plot, "it's '; system 'x");
    ck_assert_str_eq(ps_text_str(&plot.script), "'it''s ''; system ''x'");
    ps_text_release(&plot.script);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("pictures");
    tcase_add_test(tcase, ranges_hold_what_they_name_and_nothing_else);
    tcase_add_test(tcase, lists_that_are_none_are_refused);
    tcase_add_test(tcase, more_ranges_than_there_is_room_for_are_refused);
    tcase_add_test(tcase, a_map_holds_each_value_at_its_query_and_key);
    tcase_add_test(tcase, coarse_cells_hold_means_and_shades_equal_shares);
    tcase_add_test(tcase, labels_show_blanks_and_broken_bytes_and_end_in_time);
    tcase_add_test(tcase, texts_in_scripts_cannot_end_their_quotes);
    Suite *suite = suite_create("tool/pictures");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
