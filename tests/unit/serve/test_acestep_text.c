/* What ACE-Step's states leave of captions and genres, over the tokenizer of the reference data. */
#include "serve/acestep_states.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "../../support/acestep_machine.h"

/* In the value of the caption, behind "caption:". */
static machine open_in_caption(ps_acestep_params p)
{
    p.values[PS_ACESTEP_BPM] = "120";
    machine m = open_machine(&p);
    ck_assert_str_eq(follow_certain(&m), "<think>\nbpm: 120\ncaption:");
    expect_state(&m, "CAPTION_VALUE");
    return m;
}

/* In the value of genres, behind "genres:". */
static machine open_in_genres(const ps_acestep_genres *genres)
{
    ps_acestep_params p = ps_acestep_params_default();
    p.skip_genres = false;
    p.skip_caption = true;
    p.genres = genres;
    p.values[PS_ACESTEP_BPM] = "120";
    p.values[PS_ACESTEP_DURATION] = "60";
    machine m = open_machine(&p);
    ck_assert_str_eq(follow_certain(&m), "<think>\nbpm: 120\nduration: 60\ngenres:");
    expect_state(&m, "GENRES_VALUE");
    return m;
}

static ps_acestep_genres *make_genres(const char *table)
{
    ps_acestep_genres *g;
    ck_assert_msg(ps_acestep_genres_new(lm.vocabulary, table, strlen(table), "table", &g) == PS_OK,
                  "%s", ps_err_message());
    return g;
}

// ---- the caption ----

START_TEST(a_caption_takes_all_but_a_backtick_and_legal_codes)
{
    machine m = open_in_caption(ps_acestep_params_default());
    ck_assert(!find_allowed(&m, -1));
    ck_assert_int_eq(count_allowed(&m), lm.V - lm.ids->n_legal_codes - 1);
    ck_assert(!is_allowed(&m, lm.ids->backtick));
    ck_assert(is_allowed(&m, lm.ids->eos));
    ck_assert(is_allowed(&m, lm.ids->pad));
    ck_assert(is_allowed(&m, lm.ids->newline));
    for (int code = 0; code < lm.ids->n_codes; code++) {
        ck_assert_int_eq(is_allowed(&m, lm.ids->first_code + code), code >= lm.ids->n_legal_codes);
    }
    ps_expectation e;
    m.c->kind->expect(m.c, &e);
    int n_named = 0;
    for (int i = 0; i < e.n_ranges; i++) {
        n_named += e.ranges[i].end - e.ranges[i].first;
    }
    ck_assert_int_eq(n_named, count_allowed(&m));
    close_machine(&m);
}
END_TEST

START_TEST(a_caption_goes_on_behind_an_indented_line)
{
    machine m = open_in_caption(ps_acestep_params_default());
    take_text(&m, " Warm\n");
    take_text(&m, " piano");
    take_text(&m, " key: duration:");
    expect_state(&m, "CAPTION_VALUE");
    ck_assert(!find_allowed(&m, -1));
    ck_assert(!is_allowed(&m, lm.ids->backtick));
    close_machine(&m);
}
END_TEST

START_TEST(a_tab_indents_a_line_as_a_blank_does)
{
    const int32_t largest[] = {token_of("\xC4\x89"), token_of("\xC4\xA0")};
    for (int i = 0; i < 2; i++) {
        machine m = open_in_caption(ps_acestep_params_default());
        take_text(&m, " Warm\n");
        ck_assert(!find_allowed(&m, largest[i]));
        ck_assert(!is_allowed(&m, lm.ids->backtick));
        close_machine(&m);
    }
}
END_TEST

START_TEST(behind_the_caption_a_line_break_does_not_bring_it_back)
{
    machine m = open_in_caption(ps_acestep_params_default());
    take_text(&m, " Warm\n");
    take_text(&m, "key\n");
    ck_assert(find_allowed(&m, token_of("\xC4\xA0"))); // an indented line: the name goes on
    advance(&m, token_of("a"));
    take_text(&m, "\n");
    take_text(&m, "keyscale:"); // another: it begins again
    expect_state(&m, "KEYSCALE_VALUE");
    close_machine(&m);
}
END_TEST

START_TEST(behind_a_line_break_every_logit_counts_and_then_nothing_is_masked)
{
    machine m = open_in_caption(ps_acestep_params_default());
    take_text(&m, " Warm\n");
    ps_expectation e;
    m.c->kind->expect(m.c, &e);
    ck_assert_int_eq(e.certain, -1);
    ck_assert_int_eq(e.n_ranges, 0);
    ck_assert(
        find_allowed(&m, lm.ids->first_code)); // an audio code begins with <: the caption ends
    advance(&m, token_of("a"));
    ck_assert(find_allowed(&m, -1));
    expect_state(&m, "CAPTION_VALUE");
    close_machine(&m);
}
END_TEST

typedef struct ending {
    const char *line, *state;
} ending;

static const ending endings[] = {
    {"duration:", "DURATION_VALUE"},
    {"genres:", "GENRES_VALUE"},
    {"keyscale:", "KEYSCALE_VALUE"},
    {"language:", "LANGUAGE_VALUE"},
    {"timesignature:", "TIMESIG_VALUE"},
    {"KeyScale :", "KEYSCALE_VALUE"},
    {"bpm:", "DURATION_NAME"},
    {"caption:", "DURATION_NAME"},
    {"tempo:", "DURATION_NAME"},
    {"key\nlanguage:", "LANGUAGE_VALUE"},
    {"duration and:", "DURATION_NAME"},
    {"\xE2\x84\xAA"
     "eyscale:", // the Kelvin sign, whose lower case is k
     "KEYSCALE_VALUE"},
};

START_TEST(a_caption_ends_in_the_field_that_its_last_line_names)
{
    ps_acestep_params p = ps_acestep_params_default();
    p.skip_genres = false;
    p.genres = lm.genres;
    machine m = open_in_caption(p);
    take_text(&m, " Warm\n");
    take_text(&m, endings[_i].line);
    expect_state(&m, endings[_i].state);
    close_machine(&m);
}
END_TEST

START_TEST(a_skipped_field_that_a_caption_ends_in_is_followed_by_the_next)
{
    ps_acestep_params p = ps_acestep_params_default();
    p.skip_language = true;
    p.genres = lm.genres;
    machine m = open_in_caption(p);
    take_text(&m, " Warm\n");
    take_text(&m, "genres:");
    take_text(&m, "metal\n");
    ck_assert_str_eq(follow_certain(&m), "keyscale:");
    close_machine(&m);
    m = open_in_caption(p);
    take_text(&m, " Warm\n");
    take_text(&m, "language:");
    take_text(&m, " en\n");
    ck_assert_str_eq(follow_certain(&m), "timesignature: ");
    close_machine(&m);
}
END_TEST

START_TEST(from_512_tokens_on_a_caption_takes_line_breaks_alone)
{
    machine m = open_in_caption(ps_acestep_params_default());
    for (int i = 0; i < PS_ACESTEP_MAX_CAPTION; i++) {
        ck_assert_int_eq(certain(&m), -1);
        take(&m, token_of("a"));
    }
    ck_assert_int_eq(certain(&m), lm.ids->newline);
    advance(&m, lm.ids->newline);
    ck_assert_int_eq(certain(&m), -1);
    find_allowed(&m, token_of("\xC4\xA0")); // a blank: the caption would go on
    ck_assert_int_eq(count_allowed(&m), 1);
    ck_assert(is_allowed(&m, lm.ids->newline));
    advance(&m, lm.ids->newline);
    ck_assert(find_allowed(&m, token_of("a")));
    take_text(&m, "keyscale:");
    expect_state(&m, "KEYSCALE_VALUE");
    close_machine(&m);
}
END_TEST

START_TEST(copies_go_their_own_ways)
{
    machine m = open_in_caption(ps_acestep_params_default());
    take_text(&m, " Warm\n");
    take_text(&m, "key");
    machine other = copy_machine(&m);
    take_text(&m, "note:");
    take_text(&other, "scale:");
    expect_state(&m, "DURATION_NAME");
    expect_state(&other, "KEYSCALE_VALUE");
    close_machine(&m);
    ck_assert_int_eq(certain(&other), -1);
    close_machine(&other);
}
END_TEST

START_TEST(what_is_expected_changes_nothing)
{
    machine m = open_in_caption(ps_acestep_params_default());
    ps_expectation first, again;
    m.c->kind->expect(m.c, &first);
    m.c->kind->expect(m.c, &again);
    ck_assert_int_eq(first.n_ranges, again.n_ranges);
    ck_assert_int_eq(first.certain, again.certain);
    close_machine(&m);
}
END_TEST

// ---- genres ----

START_TEST(genres_are_entries_in_any_case_without_a_blank_before_them)
{
    ps_acestep_genres *g = make_genres("# no: comment\n\n  Trip Hop \r\ntrance\rK-POP");
    machine m = open_in_genres(g);
    find_allowed(&m, -1);
    ck_assert(is_allowed(&m, token_of("T")));
    ck_assert(is_allowed(&m, token_of("k")));
    ck_assert(!is_allowed(&m, token_of("n")));
    ck_assert(!is_allowed(&m, lm.ids->newline));
    ck_assert(!is_allowed(&m, token_of("\xC4\xA0")));
    take(&m, token_of("T"));
    take(&m, token_of("R"));
    take(&m, token_of("i"));
    take(&m, token_of("p"));
    take(&m, token_of("\xC4\xA0"));
    take(&m, token_of("\xC4\xA0")); // white space at the end is forgotten
    find_allowed(&m, -1);
    ck_assert(!is_allowed(&m, token_of("h"))); // "triph" is no beginning
    close_machine(&m);
    ps_acestep_genres_free(g);
}
END_TEST

START_TEST(a_whole_genre_may_end_or_go_on)
{
    ps_acestep_genres *g = make_genres("pop\npop rock\n");
    machine m = open_in_genres(g);
    take_text(&m, "pop");
    find_allowed(&m, -1);
    ck_assert(is_allowed(&m, lm.ids->newline));
    ck_assert(is_allowed(&m, token_of("\xC4\xA0r")));
    ck_assert(!is_allowed(&m, token_of("s")));
    take_text(&m, "\n");
    ck_assert_str_eq(follow_certain(&m), "keyscale:");
    close_machine(&m);
    ps_acestep_genres_free(g);
}
END_TEST

START_TEST(genres_that_cannot_go_on_end)
{
    ps_acestep_genres *g = make_genres("trip hop\n");
    machine m = open_in_genres(g);
    take_text(&m, "trip");
    machine other = copy_machine(&m);
    take(&m, token_of("\xC4\xA0h"));
    take(&m, token_of("o"));
    take(&m, token_of("p"));
    ck_assert_int_eq(certain(&m), lm.ids->newline);
    close_machine(&m);
    take(&other, token_of("\xC4\xA0")); // forgotten for the next token, and written all the same
    take(&other, token_of("\xC4\xA0h"));
    ck_assert_int_eq(certain(&other), lm.ids->newline);
    close_machine(&other);
    ps_acestep_genres_free(g);
}
END_TEST

START_TEST(white_space_in_genres_needs_a_blank_or_a_comma_that_may_follow)
{
    const int32_t tab = token_of("\xC4\x89");
    ps_acestep_genres *g = make_genres("a\tb\nc\td\nc, e\n");
    machine m = open_in_genres(g), other = copy_machine(&m);
    take(&m, token_of("a"));
    find_allowed(&m, -1);
    ck_assert(!is_allowed(&m, tab));
    take(&other, token_of("c"));
    find_allowed(&other, -1);
    ck_assert(is_allowed(&other, tab));
    ck_assert(!is_allowed(&other, token_of("\xC4\xA0"))); // a blank does not follow itself
    close_machine(&m);
    close_machine(&other);
    ps_acestep_genres_free(g);
}
END_TEST

START_TEST(without_a_table_genres_are_any_text_and_the_next_name_is_whole)
{
    machine m = open_in_genres(NULL);
    ck_assert(!find_allowed(&m, lm.ids->newline));
    ck_assert_int_eq(count_allowed(&m), lm.V - 1);
    take(&m, token_of("\xC4\xA0"));
    find_allowed(&m, lm.ids->newline);
    ck_assert(!is_allowed(&m, lm.ids->newline)); // still nothing but a blank
    advance(&m, token_of("a"));
    ck_assert(find_allowed(&m, token_of("a")));
    ck_assert(find_allowed(&m, -1)); // the line break is not larger than the others
    find_allowed(&m, lm.ids->newline);
    ck_assert_int_eq(count_allowed(&m), 1);
    ck_assert(is_allowed(&m, lm.ids->newline));
    advance(&m, lm.ids->newline);
    ck_assert_str_eq(follow_certain(&m), "keyscale:");
    close_machine(&m);
}
END_TEST

START_TEST(tables_without_genres_and_of_other_bytes_are_refused)
{
    ps_acestep_genres *g;
    const char *empty = "# nothing\n \n\n";
    ck_assert_int_eq(ps_acestep_genres_new(lm.vocabulary, empty, strlen(empty), "table", &g),
                     PS_ERR_FORMAT);
    ck_assert_ptr_null(g);
    ck_assert_int_eq(ps_acestep_genres_new(lm.vocabulary, NULL, 0, "table", &g), PS_ERR_FORMAT);
    ck_assert_int_eq(ps_acestep_genres_new(lm.vocabulary, "a\nb\xFF", 4, "table", &g),
                     PS_ERR_FORMAT);
    ck_assert_str_eq(ps_err_message(), "table: byte 3 is not UTF-8, wanted genres, one a line");
}
END_TEST

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

int main(void)
{
    TCase *tcase = tcase_create("states");
    tcase_add_unchecked_fixture(tcase, open_lm, close_lm);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_caption_takes_all_but_a_backtick_and_legal_codes);
    tcase_add_test(tcase, a_caption_goes_on_behind_an_indented_line);
    tcase_add_test(tcase, a_tab_indents_a_line_as_a_blank_does);
    tcase_add_test(tcase, behind_the_caption_a_line_break_does_not_bring_it_back);
    tcase_add_test(tcase, behind_a_line_break_every_logit_counts_and_then_nothing_is_masked);
    tcase_add_loop_test(tcase, a_caption_ends_in_the_field_that_its_last_line_names, 0,
                        COUNT(endings));
    tcase_add_test(tcase, a_skipped_field_that_a_caption_ends_in_is_followed_by_the_next);
    tcase_add_test(tcase, from_512_tokens_on_a_caption_takes_line_breaks_alone);
    tcase_add_test(tcase, genres_are_entries_in_any_case_without_a_blank_before_them);
    tcase_add_test(tcase, a_whole_genre_may_end_or_go_on);
    tcase_add_test(tcase, genres_that_cannot_go_on_end);
    tcase_add_test(tcase, white_space_in_genres_needs_a_blank_or_a_comma_that_may_follow);
    tcase_add_test(tcase, without_a_table_genres_are_any_text_and_the_next_name_is_whole);
    tcase_add_test(tcase, tables_without_genres_and_of_other_bytes_are_refused);
    tcase_add_test(tcase, copies_go_their_own_ways);
    tcase_add_test(tcase, what_is_expected_changes_nothing);
    Suite *suite = suite_create("serve/acestep_text");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
