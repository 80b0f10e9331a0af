/* Encoding over a pipeline that shows what each row was computed from: every row of every sequence
 * comes back once, in order, and sequences that must not be cut are not. */
#include "serve/encode.h"

#include <string.h>

#include "base/mem.h"
#include "support/dice.h"
#include "support/fake_pipeline.h"
#include "support/scratch.h"

enum { VOCABULARY = 21, SEQUENCES_MAX = 60, LONGEST = 70 };

typedef struct stage {
    ps_spec spec;
    ps_limits limits;
    ps_pipeline *pipeline;
    int32_t *ids, *mask; // of all sequences
    ps_encode_sequence sequences[SEQUENCES_MAX];
    size_t n, done, rows_done; // rows of sequence `done` that came back
    size_t fail_at;            // sequence whose first row the callback refuses
} stage;

static stage *stage_new(dice *d, int n_slots, int chunk, int in_flight, bool whole)
{
    stage *s = ps_mem_new(1, sizeof *s);
    s->spec = fake_spec(VOCABULARY, false);
    s->spec.layers[0].look_ahead = whole;
    s->limits = (ps_limits){
        .rows_max = chunk + n_slots, .chunk_rows = chunk, .n_slots = n_slots, .context = LONGEST};
    s->pipeline = fake_pipeline_new(&s->limits, in_flight, VOCABULARY);
    s->ids = ps_mem_new((size_t)SEQUENCES_MAX * LONGEST, sizeof *s->ids);
    s->mask = ps_mem_new((size_t)SEQUENCES_MAX * LONGEST, sizeof *s->mask);
    s->n = 1 + (size_t)dice_throw(d, SEQUENCES_MAX);
    s->fail_at = SIZE_MAX;
    const int longest = whole && chunk < LONGEST ? chunk : LONGEST;
    for (size_t i = 0; i < s->n; i++) {
        int32_t *ids = s->ids + i * LONGEST, *mask = s->mask + i * LONGEST;
        const int n = 1 + dice_throw(d, longest);
        for (int t = 0; t < n; t++) {
            ids[t] = dice_throw(d, VOCABULARY);
            mask[t] = dice_throw(d, 2);
        }
        s->sequences[i] =
            (ps_encode_sequence){.ids = ids, .mask = i % 2 ? mask : NULL, .n = (size_t)n};
        assert_ok(ps_encode_check(&s->sequences[i], &s->spec, chunk));
    }
    return s;
}

static void stage_free(stage *s)
{
    fake_pipeline_free(s->pipeline);
    ps_spec_release(&s->spec);
    ps_mem_free(s->ids);
    ps_mem_free(s->mask);
    ps_mem_free(s);
}

static ps_err on_rows(void *arg, size_t sequence, size_t first, int n, const float *hidden,
                      const float *output)
{
    stage *s = arg;
    float wanted[VOCABULARY];
    ck_assert_uint_eq(sequence, s->done);
    ck_assert_uint_eq(first, s->rows_done);
    ck_assert(n >= 1 && n <= PS_HEAD_ROWS);
    ck_assert_ptr_eq(hidden, output);
    if (sequence == s->fail_at) return PS_FAIL(PS_ERR_IO, "the disk is full");
    const ps_encode_sequence *q = &s->sequences[sequence];
    ck_assert_uint_le(first + (size_t)n, q->n);
    for (size_t r = 0; r < (size_t)n; r++) {
        fake_logits(q->ids, first + r + 1, VOCABULARY, wanted);
        ck_assert_mem_eq(output + r * ps_stage_logits_stride(&s->spec), wanted, sizeof wanted);
    }
    s->rows_done += (size_t)n;
    if (s->rows_done == q->n) {
        s->rows_done = 0;
        s->done++;
    }
    return PS_OK;
}

static ps_err run(stage *s)
{
    const ps_encode_params params = {.pipeline = s->pipeline,
                                     .spec = &s->spec,
                                     .limits = s->limits,
                                     .sequences = s->sequences,
                                     .n_sequences = s->n,
                                     .on_rows = on_rows,
                                     .arg = s};
    return ps_encode_run(&params);
}

static stage *stage_roll(uint64_t number, bool whole)
{
    dice d = {.seed = number};
    const int n_slots = 1 + dice_throw(&d, 6), chunk = 1 + dice_throw(&d, 80);
    return stage_new(&d, n_slots, chunk, 1 + dice_throw(&d, 4), whole);
}

START_TEST(every_row_of_every_sequence_comes_back_in_order)
{
    stage *s = stage_roll((uint64_t)_i, _i % 2);
    assert_ok(run(s));
    ck_assert_uint_eq(s->done, s->n);
    stage_free(s);
}
END_TEST

START_TEST(sequences_whose_queries_look_ahead_are_never_cut)
{
    stage *s = stage_roll(500 + (uint64_t)_i, true);
    assert_ok(run(s));
    size_t sequence = 0;
    for (int b = 0; b < fake_pipeline_count(s->pipeline); b++) {
        const fake_batch *batch = fake_pipeline_batch(s->pipeline, b);
        for (int r = 0; r < batch->n_rows; sequence++) {
            r += (int)s->sequences[sequence].n;
            ck_assert_int_le(r, batch->n_rows);
        }
    }
    ck_assert_uint_eq(sequence, s->n);
    stage_free(s);
}
END_TEST

START_TEST(a_parcel_takes_as_many_short_sequences_as_fit)
{
    dice d = {.seed = 4};
    stage *s = stage_new(&d, 8, 40, 2, true);
    s->n = 8;
    for (size_t i = 0; i < s->n; i++) {
        s->sequences[i].n = 10;
    }
    assert_ok(run(s));
    ck_assert_int_eq(fake_pipeline_count(s->pipeline), 2);
    ck_assert_int_eq(fake_pipeline_batch(s->pipeline, 0)->n_rows, 40);
    stage_free(s);
}
END_TEST

START_TEST(the_mask_hides_the_rows_that_it_has_zeros_for)
{
    stage *s = stage_roll(900 + (uint64_t)_i, _i % 2);
    assert_ok(run(s));
    size_t sequence = 0, position = 0;
    for (int b = 0; b < fake_pipeline_count(s->pipeline); b++) {
        const fake_batch *batch = fake_pipeline_batch(s->pipeline, b);
        for (int r = 0; r < batch->n_rows; r++) {
            const ps_encode_sequence *q = &s->sequences[sequence];
            ck_assert_int_eq(batch->rows[r].hidden, q->mask && q->mask[position] == 0);
            if (++position < q->n) continue;
            position = 0;
            sequence++;
        }
    }
    stage_free(s);
}
END_TEST

START_TEST(an_error_of_the_callback_ends_the_run_with_its_message)
{
    stage *s = stage_roll(7, true);
    s->fail_at = s->n / 2;
    ck_assert_int_eq(run(s), PS_ERR_IO);
    ck_assert_str_eq(ps_err_message(), "the disk is full");
    stage_free(s);
}
END_TEST

START_TEST(a_lost_parcel_ends_the_run)
{
    stage *s = stage_roll(8, false);
    fake_pipeline_lose(s->pipeline, 0);
    ck_assert_int_eq(run(s), PS_ERR_LOST);
    stage_free(s);
}
END_TEST

START_TEST(sequences_that_cannot_be_encoded_are_refused)
{
    ps_spec spec = fake_spec(VOCABULARY, false);
    const int32_t ids[6] = {0, 1, 20, 21, 4, 5};
    const ps_encode_sequence empty = {.ids = ids}, beyond = {.ids = ids, .n = 4},
                             longer = {.ids = ids, .n = 3};
    ck_assert_int_eq(ps_encode_check(&empty, &spec, 9), PS_ERR_USAGE);
    ck_assert_int_eq(ps_encode_check(&beyond, &spec, 9), PS_ERR_USAGE);
    ck_assert_str_eq(ps_err_message(), "token 3 is 21, the vocabulary has 0..20");
    assert_ok(ps_encode_check(&longer, &spec, 2));
    spec.layers[0].look_ahead = true;
    assert_ok(ps_encode_check(&longer, &spec, 3));
    ck_assert_int_eq(ps_encode_check(&longer, &spec, 2), PS_ERR_LIMIT);
    ck_assert_str_eq(ps_err_message(),
                     "the sequence has 3 tokens, but one whose tokens see all others goes in one "
                     "message, of 2 tokens at most (--chunk)");
    ps_spec_release(&spec);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("encode");
    tcase_set_timeout(tcase, 60.0);
    tcase_add_loop_test(tcase, every_row_of_every_sequence_comes_back_in_order, 0, 60);
    tcase_add_loop_test(tcase, sequences_whose_queries_look_ahead_are_never_cut, 0, 30);
    tcase_add_test(tcase, a_parcel_takes_as_many_short_sequences_as_fit);
    tcase_add_loop_test(tcase, the_mask_hides_the_rows_that_it_has_zeros_for, 0, 20);
    tcase_add_test(tcase, an_error_of_the_callback_ends_the_run_with_its_message);
    tcase_add_test(tcase, a_lost_parcel_ends_the_run);
    tcase_add_test(tcase, sequences_that_cannot_be_encoded_are_refused);
    Suite *suite = suite_create("serve/encode");
    suite_add_tcase(suite, tcase);
    return scratch_run(suite);
}
