/* The thinking block, byte for byte what the model was trained on. */
#include "tool/acestep/yaml.h"

#include <string.h>

#include "support/acestep_rows.h"
#include "support/jsonl.h"
#include "support/scratch.h"

static void check_row(const json_t *row, int line, void *arg)
{
    const char *file = arg;
    ps_metadata metadata = {0};
    ps_text cot = {0};
    acestep_metadata(json_object_get(row, "metadata"), &metadata);
    const ps_err err = ps_acestep_append_cot(&cot, &metadata);
    if (json_object_get(row, "error")) {
        ck_assert_msg(err == PS_ERR_FORMAT, "%s:%d: taken: %s", file, line, ps_text_str(&cot));
        ck_assert_uint_eq(cot.len, 0);
    } else {
        const ps_span wanted = acestep_span(json_object_get(row, "cot"));
        ck_assert_msg(err == PS_OK, "%s:%d: %s", file, line, ps_err_message());
        ck_assert_msg(cot.len == wanted.n && memcmp(cot.data, wanted.at, wanted.n) == 0,
                      "%s:%d:\n%s\nwanted\n%s", file, line, ps_text_str(&cot), wanted.at);
    }
    ps_text_release(&cot);
    ps_metadata_release(&metadata);
}

static void walk(const char *name)
{
    ck_assert_msg(jsonl_walk(name, check_row, (void *)(uintptr_t)name) > 0, "%s: %s", name,
                  ps_err_message());
}

START_TEST(blocks_are_those_of_the_reference)
{
    walk("acestep/lm/yaml.jsonl");
}
END_TEST

START_TEST(other_shapes_are_those_of_pyyaml)
{
    walk("acestep/texts/yaml.jsonl");
}
END_TEST

START_TEST(a_number_may_have_any_length_that_python_converts)
{
    static const struct {
        size_t digits;
        ps_err err;
    } cases[] = {{4300, PS_OK}, {4301, PS_ERR_FORMAT}};
    for (size_t i = 0; i < 2; i++) {
        ps_metadata metadata = {0};
        ps_text digits = {0}, cot = {0};
        for (size_t k = 0; k < cases[i].digits; k++) {
            ps_text_append_char(&digits, '7');
        }
        ps_metadata_set_text(&metadata, PS_ACESTEP_BPM, ps_span_of_text(&digits));
        ck_assert_int_eq(ps_acestep_append_cot(&cot, &metadata), cases[i].err);
        if (!cases[i].err)
            ck_assert_uint_eq(cot.len, cases[i].digits + strlen("<think>\nbpm: \n</think>"));
        ps_text_release(&cot);
        ps_text_release(&digits);
        ps_metadata_release(&metadata);
    }
    assert_mentions("bpm");
}
END_TEST

START_TEST(genres_stay_out_of_the_block)
{
    ps_metadata metadata = {0};
    ps_text cot = {0};
    ps_metadata_set_text(&metadata, PS_ACESTEP_GENRES, ps_span_of("polka"));
    ck_assert_int_eq(ps_acestep_append_cot(&cot, &metadata), PS_OK);
    ck_assert_str_eq(ps_text_str(&cot), "<think>\n\n</think>");
    ps_text_release(&cot);
    ps_metadata_release(&metadata);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/acestep/yaml");
    TCase *tcase = tcase_create("yaml");
    suite_add_tcase(suite, tcase);
    tcase_add_test(tcase, blocks_are_those_of_the_reference);
    tcase_add_test(tcase, other_shapes_are_those_of_pyyaml);
    tcase_add_test(tcase, a_number_may_have_any_length_that_python_converts);
    tcase_add_test(tcase, genres_stay_out_of_the_block);
    return scratch_run(suite);
}
