/* The phases of a song: which there are, what they ask, what is made of what comes out. */
#include "tool/acestep/song.h"

#include <string.h>

#include "support/acestep_lm.h"
#include "support/scratch.h"
#include "tool/acestep/request_json.h"
#include "tool/acestep/song_output.h"

static acestep_lm lm;

static void set_up(void)
{
    ck_assert_msg(acestep_lm_open(&lm) == PS_OK, "%s", ps_err_message());
}

static void tear_down(void)
{
    acestep_lm_close(&lm);
}

static ps_song_context context(void)
{
    return (ps_song_context){lm.tokenizer, lm.vocabulary, lm.genres};
}

static ps_err begin(const char *line, ps_song *song, ps_request *out)
{
    const ps_song_context c = context();
    ps_acestep_request defaults = ps_acestep_request_default(), r;
    json_t *id;
    ck_assert_msg(ps_acestep_request_parse(line, strlen(line), &defaults, 7, &id, &r) == PS_OK,
                  "%s: %s", line, ps_err_message());
    ps_acestep_request_release(&defaults);
    json_decref(id);
    return ps_song_begin(&c, &r, song, out);
}

static ps_song begin_well(const char *line, ps_request *out)
{
    ps_song song;
    ck_assert_msg(begin(line, &song, out) == PS_OK, "%s: %s", line, ps_err_message());
    return song;
}

/* A phase's output as the generator would give it: `n` samples of the same text. */
static bool take(ps_song *song, const char *text, int n, ps_request *next)
{
    const ps_song_context c = context();
    ps_completion completions[4] = {0};
    bool more;
    for (int i = 0; i < n; i++) {
        completions[i].finish = PS_FINISH_STOP;
        ck_assert_int_eq(
            ps_tokenizer_encode(lm.tokenizer, text, strlen(text), false, &completions[i].tokens),
            PS_OK);
    }
    const ps_err err = ps_song_take(&c, song, completions, n, &more, next);
    ck_assert_msg(err == PS_OK, "%s", ps_err_message());
    for (int i = 0; i < n; i++) {
        ps_completion_release(&completions[i]);
    }
    return more;
}

static const char block[] = "<think>\nbpm: 101\ncaption: Warm: piano\nduration: 21\n"
                            "keyscale: F# minor\nlanguage: no\ntimesignature: 3\n<|im_end|>";

START_TEST(metadata_come_first_and_their_duration_is_the_target)
{
    ps_request first, next, none;
    ps_song song = begin_well("{\"caption\": \"piano\", \"batch_size\": 2}", &first);
    ck_assert_str_eq(ps_song_phase_name(&song, 0), "metadata");
    ck_assert_double_eq(first.guidance, 1.0);
    ck_assert_uint_eq(first.negative.n, 0);
    ck_assert_int_eq(first.n_samples, 1);
    ck_assert_uint_eq(first.sampling.sample, UINT32_MAX);
    ck_assert_ptr_nonnull(first.constraint);
    ck_assert(take(&song, block, 1, &next));
    ck_assert_str_eq(ps_song_phase_name(&song, 0), "metadata");
    ck_assert_str_eq(ps_song_phase_name(&song, 1), "codes");
    ck_assert_str_eq(ps_text_str(&song.cot),
                     "<think>\nbpm: 101\ncaption: 'Warm: piano'\nduration: 21\nkeyscale: F# minor\n"
                     "language: 'no'\ntimesignature: 3\n</think>");
    ck_assert_int_eq(song.phases[1].n_target_codes, 105);
    ck_assert_int_eq(next.max_tokens, 106);
    ck_assert_int_eq(next.n_samples, 2);
    ck_assert_uint_eq(next.sampling.sample, 0);
    ck_assert_double_eq(next.guidance, 2.0);
    ck_assert_uint_gt(next.negative.n, 0);
    ck_assert(!take(&song, "<|audio_code_5|><|audio_code_1979|><|im_end|>", 2, &none));
    ck_assert_uint_eq(song.codes[1].n, 2);
    ck_assert_int_eq(song.codes[1].ids[1], 1979);
    ps_request_release(&first);
    ps_request_release(&next);
    ps_song_release(&song);
}
END_TEST

START_TEST(with_the_four_fields_given_there_are_codes_at_once)
{
    ps_request first;
    ps_song song = begin_well("{\"bpm\": 90, \"duration\": 12.5, \"keyscale\": \"C major\", "
                              "\"timesignature\": 4, \"lm_cfg_scale\": 1}",
                              &first);
    ck_assert_str_eq(ps_song_phase_name(&song, 0), "codes");
    ck_assert_str_eq(
        ps_text_str(&song.cot),
        "<think>\nbpm: 90\nduration: 12\nkeyscale: C major\ntimesignature: 4\n</think>");
    ck_assert_int_eq(song.phases[0].n_target_codes, 62);
    ck_assert_double_eq(first.guidance, 1.0);
    ck_assert_uint_eq(first.negative.n, 0);
    ck_assert_int_eq(ps_song_longest(&song.request, &first), (int)first.prompt.n + 63);
    ps_request_release(&first);
    ps_song_release(&song);
}
END_TEST

START_TEST(without_thinking_there_is_what_was_given_alone)
{
    ps_request first;
    ps_song song = begin_well("{\"use_cot_metas\": false}", &first);
    ck_assert_str_eq(ps_text_str(&song.cot), "<think>\n\n</think>");
    ck_assert_int_eq(song.phases[0].n_target_codes, 0);
    ck_assert_int_eq(first.max_tokens, 4032);
    ps_request_release(&first);
    ps_song_release(&song);
}
END_TEST

START_TEST(the_legacy_form_guides_both_phases_and_asks_for_no_length)
{
    ps_request first, next;
    ps_song song =
        begin_well("{\"format\": \"legacy\", \"lm_negative_prompt\": \"noise\"}", &first);
    ck_assert_double_eq(first.guidance, 2.0);
    ck_assert_ptr_nonnull(strstr(ps_text_str(&song.phases[0].without), "# Caption\nnoise\n"));
    ck_assert(take(&song, block, 1, &next));
    ck_assert_int_eq(song.phases[1].n_target_codes, 0);
    ck_assert_int_eq(next.max_tokens, 4032);
    ps_request_release(&first);
    ps_request_release(&next);
    ps_song_release(&song);
}
END_TEST

START_TEST(a_target_counts_more_than_a_duration)
{
    ps_request first, next;
    ps_song song = begin_well("{\"target_duration\": 10.5, \"duration\": 30}", &first);
    ck_assert_int_eq(ps_song_longest(&song.request, &first),
                     (int)first.prompt.n + 1024 + 64 + 52 + 1);
    ck_assert(take(&song, block, 1, &next));
    ck_assert_int_eq(song.phases[1].n_target_codes, 52);
    ps_request_release(&first);
    ps_request_release(&next);
    ps_song_release(&song);
}
END_TEST

START_TEST(what_was_given_counts_whatever_the_model_wrote)
{
    ps_request first, next;
    ps_song song = begin_well("{\"bpm\": 77, \"duration\": 30}", &first);
    ck_assert(take(&song, block, 1, &next));
    ck_assert_str_eq(ps_text_str(&song.metadata.fields[PS_ACESTEP_BPM].text), "77");
    ck_assert_str_eq(ps_text_str(&song.metadata.fields[PS_ACESTEP_DURATION].text), "30");
    ck_assert_str_eq(ps_text_str(&song.metadata.fields[PS_ACESTEP_KEYSCALE].text), "F# minor");
    ck_assert_int_eq(song.phases[1].n_target_codes, 150);
    ps_request_release(&first);
    ps_request_release(&next);
    ps_song_release(&song);
}
END_TEST

START_TEST(metadata_alone_are_one_phase_even_when_all_are_given)
{
    ps_request first, none;
    ps_song song = begin_well("{\"thinking\": false, \"bpm\": 90, \"duration\": 12, "
                              "\"keyscale\": \"C major\", \"timesignature\": 4}",
                              &first);
    ck_assert_str_eq(ps_song_phase_name(&song, 0), "metadata");
    ck_assert(!take(&song, block, 1, &none));
    ck_assert_ptr_null(song.codes);
    ck_assert_ptr_nonnull(strstr(ps_text_str(&song.cot), "bpm: 90\n"));
    ps_request_release(&first);
    ps_song_release(&song);
}
END_TEST

START_TEST(understanding_gives_metadata_and_lyrics)
{
    ps_request first, none;
    ps_text json = {0};
    ps_song song = begin_well("{\"mode\": \"understand\", \"audio_codes\": [3, 4]}", &first);
    ck_assert_ptr_nonnull(strstr(ps_text_str(&song.phases[0].prompt),
                                 "user\n<|audio_code_3|><|audio_code_4|><|im_end|>"));
    ck_assert_double_eq(first.sampling.top_p, 1.0);
    ck_assert_double_eq(first.guidance, 1.0);
    ck_assert_int_eq(first.max_tokens, 4032);
    ck_assert(!take(&song, "<think>\nbpm: 80\n</think>\n# Lyric\n[Verse]\nla<|im_end|>", 1, &none));
    ck_assert_str_eq(ps_text_str(&song.lyrics), "[Verse]\nla");
    ps_song_append_text(&song, &json);
    ck_assert_str_eq(ps_text_str(&json), "bpm: 80\n\n[Verse]\nla\n");
    ps_text_clear(&json);
    ps_song_append_json(NULL, &song, false, &json);
    ck_assert_ptr_eq(strstr(ps_text_str(&json),
                            "{\"mode\": \"understand\", \"seed\": 7, \"metadata\": {\"bpm\": 80}, "
                            "\"lyrics\": \"[Verse]\\nla\", \"phases\": [{\"phase\": \"text\""),
                     ps_text_str(&json));
    ps_text_release(&json);
    ps_request_release(&first);
    ps_song_release(&song);
}
END_TEST

START_TEST(a_given_top_p_holds_in_every_mode)
{
    ps_request first;
    ps_song song =
        begin_well("{\"mode\": \"inspiration\", \"query\": \"x\", \"lm_top_p\": 0.4}", &first);
    ck_assert_double_eq(first.sampling.top_p, 0.4);
    ps_request_release(&first);
    ps_song_release(&song);
}
END_TEST

START_TEST(codes_that_the_model_does_not_have_are_refused)
{
    ps_song song;
    ps_request first;
    ck_assert_int_eq(begin("{\"mode\": \"understand\", \"audio_codes\": [3, 1980]}", &song, &first),
                     PS_ERR_USAGE);
    assert_message("audio code 1 is 1980, the model has 0..1979");
    ps_song_release(&song);
}
END_TEST

START_TEST(json_has_codes_as_numbers_and_no_times_unless_wanted)
{
    ps_request first, none;
    ps_text json = {0};
    json_t *id = json_string("x");
    ps_song song =
        begin_well("{\"use_cot_metas\": false, \"batch_size\": 2, \"duration\": 10}", &first);
    ck_assert(!take(&song, "<|audio_code_5|><|audio_code_7|><|im_end|>", 2, &none));
    ps_song_append_json(id, &song, false, &json);
    ck_assert_ptr_nonnull(strstr(ps_text_str(&json), "{\"id\": \"x\", \"mode\": \"generate\", "
                                                     "\"format\": \"new\", \"seed\": 7, "));
    ck_assert_ptr_nonnull(strstr(
        ps_text_str(&json), "\"outputs\": [{\"sample\": 0, \"codes\": [5, 7], \"finish_reason\": "
                            "\"stop\"}, {\"sample\": 1, \"codes\": [5, 7]"));
    ck_assert_ptr_nonnull(strstr(ps_text_str(&json), "\"target_codes\": 50"));
    ck_assert_ptr_null(strstr(ps_text_str(&json), "seconds"));
    ps_text_clear(&json);
    ps_song_append_json(id, &song, true, &json);
    ck_assert_ptr_nonnull(strstr(ps_text_str(&json), "\"seconds\": "));
    ps_text_clear(&json);
    ps_song_append_codes(&song, &json);
    ck_assert_str_eq(ps_text_str(&json), "<|audio_code_5|><|audio_code_7|>\n"
                                         "<|audio_code_5|><|audio_code_7|>\n");
    json_decref(id);
    ps_text_release(&json);
    ps_request_release(&first);
    ps_song_release(&song);
}
END_TEST

START_TEST(guidance_takes_two_sequences_for_each_sample)
{
    ps_request first;
    ps_song song = begin_well("{\"batch_size\": 3}", &first);
    ck_assert_int_eq(ps_song_sequences(&song.request), 6);
    ps_request_release(&first);
    ps_song_release(&song);
    song = begin_well("{\"batch_size\": 3, \"lm_cfg_scale\": 1}", &first);
    ck_assert_int_eq(ps_song_sequences(&song.request), 3);
    ps_request_release(&first);
    ps_song_release(&song);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/acestep/song");
    TCase *tcase = tcase_create("song");
    suite_add_tcase(suite, tcase);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, metadata_come_first_and_their_duration_is_the_target);
    tcase_add_test(tcase, with_the_four_fields_given_there_are_codes_at_once);
    tcase_add_test(tcase, without_thinking_there_is_what_was_given_alone);
    tcase_add_test(tcase, the_legacy_form_guides_both_phases_and_asks_for_no_length);
    tcase_add_test(tcase, a_target_counts_more_than_a_duration);
    tcase_add_test(tcase, what_was_given_counts_whatever_the_model_wrote);
    tcase_add_test(tcase, metadata_alone_are_one_phase_even_when_all_are_given);
    tcase_add_test(tcase, understanding_gives_metadata_and_lyrics);
    tcase_add_test(tcase, a_given_top_p_holds_in_every_mode);
    tcase_add_test(tcase, codes_that_the_model_does_not_have_are_refused);
    tcase_add_test(tcase, json_has_codes_as_numbers_and_no_times_unless_wanted);
    tcase_add_test(tcase, guidance_takes_two_sequences_for_each_sample);
    return scratch_run(suite);
}
