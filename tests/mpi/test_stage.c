/* A rank's step and loop, with rank 0 played by hand: what a parcel does, and parcels that are not
 * what they should be. */
#include "pipe/stage.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "support/ranks.h"
#include "support/scratch.h"
#include "support/stage_runner.h"

enum { ROWS = 8, SLOTS = 3, VOCABULARY = 61 };

static const ps_limits limits = {
    .rows_max = ROWS, .chunk_rows = ROWS, .n_slots = SLOTS, .context = 100};

static tiny_model model_of_tests(void)
{
    tiny_model m = tiny_model_default(TINY_RELPOS_LLAMA);
    m.vocabulary = VOCABULARY;
    return m;
}

static void open_stage(ranks_pipeline *p, ps_stage *stage)
{
    const tiny_model m = model_of_tests();
    ranks_pipeline_prepare(&(ranks_pipeline_params){.model = &m, .limits = limits}, p);
    const ps_stage_params params = ranks_pipeline_stage(p);
    assert_ok(ps_stage_open(&params, stage));
}

static void close_stage(ranks_pipeline *p, ps_stage *stage)
{
    ranks_meet();
    ps_stage_close(stage);
    ranks_pipeline_close(p);
    ranks_meet();
}

/* Rank 0 makes a parcel of two rows of slot 1 in a buffer of the ring. */
static ps_ring_buffer *make_parcel(const ps_stage *stage, uint64_t sequence, ps_parcel *out)
{
    static const int32_t tokens[2] = {7, 60};
    ps_ring_buffer *b = ps_ring_take(stage->ring);
    ck_assert_ptr_nonnull(b);
    *out = ps_parcel_begin(b->data, PS_PARCEL_WORK, sequence, 0, 2, stage->limits.stride);
    int64_t positions[2];
    for (int r = 0; r < 2; r++) {
        positions[r] = 2 * (int64_t)sequence + r;
        out->rows[r] = (ps_parcel_row){.position = positions[r], .slot = 1};
    }
    out->rows[1].wants_logits = 1;
    ps_stage_embed(stage->model, tokens, positions, 2, out->data);
    return b;
}

/* Rank 0 sends a STOP round and reads the reports. */
static void stop_by_hand(ps_stage *stage, uint64_t sequence, ps_stage_report *reports)
{
    ps_ring_buffer *b;
    ps_parcel back;
    while (!(b = ps_ring_take(stage->ring))) {
        assert_ok(ps_watch_poll(stage->watch));
    }
    const ps_parcel stop = ps_parcel_begin(b->data, PS_PARCEL_STOP, sequence, 0, 0,
                                           (uint32_t)(sizeof(ps_stage_report) / sizeof(float)));
    memset(stop.data, 0, (size_t)ranks_size() * sizeof(ps_stage_report));
    b->bytes = ps_parcel_seal(&stop, ranks_size());
    ps_ring_send(stage->ring, b);
    assert_ok(ps_ring_receive(stage->ring, &b));
    assert_ok(ps_parcel_open(b->data, b->bytes, sequence, &stage->limits, &back));
    memcpy(reports, back.data, (size_t)ranks_size() * sizeof *reports);
    ps_ring_release(stage->ring, b);
}

START_TEST(a_parcel_comes_back_with_the_rows_that_are_wanted)
{
    ranks_pipeline p;
    ps_stage stage;
    open_stage(&p, &stage);
    ck_assert_int_eq(stage.last, ranks_rank() == ranks_size() - 1);
    if (ranks_rank() == 0) {
        ps_stage_report reports[8];
        ps_parcel parcel;
        for (uint64_t sequence = 0; sequence < 10; sequence++) {
            ps_ring_buffer *b = make_parcel(&stage, sequence, &parcel);
            int n_data;
            ck_assert_int_eq(ps_stage_step(&stage, &parcel, &n_data), PS_OK);
            ck_assert_int_eq(n_data, ranks_size() == 1 ? 1 : 2);
            b->bytes = ps_parcel_seal(&parcel, n_data);
            ps_ring_send(stage.ring, b);
            assert_ok(ps_ring_receive(stage.ring, &b));
            assert_ok(ps_parcel_open(b->data, b->bytes, sequence, &stage.limits, &parcel));
            ck_assert_uint_eq(parcel.head->n_data, 1);
            ck_assert_uint_eq(parcel.head->n_rows, 2);
            ps_ring_release(stage.ring, b);
        }
        stop_by_hand(&stage, 10, reports);
        for (int r = 1; r < ranks_size(); r++) {
            ck_assert_int_eq(reports[r].rank, r);
            ck_assert_uint_eq(reports[r].parcels, 10);
            ck_assert_uint_eq(reports[r].rows, 20);
            ck_assert_uint_gt(reports[r].weight_bytes, 0);
            ck_assert_uint_gt(reports[r].cache_bytes, 0);
            ck_assert_int_gt(reports[r].busy_ns, 0);
            ck_assert_uint_gt(reports[r].base_resident_bytes, 0);
            ck_assert_uint_ge(reports[r].peak_resident_bytes, reports[r].base_resident_bytes);
        }
        // Who makes the STOP fills its own report.
        ck_assert_uint_eq(reports[0].parcels, 0);
    } else {
        assert_ok(ps_stage_run(&stage));
    }
    close_stage(&p, &stage);
}
END_TEST

typedef void spoil_function(ps_ring_buffer *b, ps_parcel *parcel);

/* Rank 0 sends one parcel that was spoilt after sealing; rank 1 finds out, and nothing goes on. */
static void send_spoilt(spoil_function *spoil, const char *wanted)
{
    ranks_pipeline p;
    ps_stage stage;
    if (ranks_size() == 1) return;
    open_stage(&p, &stage);
    if (ranks_rank() == 0) {
        ps_parcel parcel;
        ps_ring_buffer *b = make_parcel(&stage, 0, &parcel);
        b->bytes = ps_parcel_seal(&parcel, 2);
        spoil(b, &parcel);
        ps_ring_send(stage.ring, b);
        assert_ok(ps_ring_flush(stage.ring));
    }
    if (ranks_rank() == 1) {
        ck_assert_int_eq(ps_stage_run(&stage), PS_ERR_LOST);
        assert_message(wanted);
        ck_assert_uint_eq(stage.report.parcels, 0);
    }
    close_stage(&p, &stage);
}

static void flip_a_bit(ps_ring_buffer *b, ps_parcel *parcel)
{
    (void)b;
    ((unsigned char *)parcel->data)[5] ^= 4;
}

static void be_another(ps_ring_buffer *b, ps_parcel *parcel)
{
    parcel->head->sequence = 1;
    b->bytes = ps_parcel_seal(parcel, 2);
}

static void lose_the_end(ps_ring_buffer *b, ps_parcel *parcel)
{
    (void)parcel;
    b->bytes -= 4;
}

static void name_a_slot_that_is_not_there(ps_ring_buffer *b, ps_parcel *parcel)
{
    parcel->rows[1].slot = SLOTS;
    b->bytes = ps_parcel_seal(parcel, 2);
}

START_TEST(a_changed_parcel_is_found_at_the_next_hop)
{
    send_spoilt(flip_a_bit, "parcel 0: changed on the way, its checksum differs");
}
END_TEST

START_TEST(a_lost_parcel_is_found_at_the_next_hop)
{
    send_spoilt(be_another, "parcel 1 arrived where 0 was expected");
}
END_TEST

START_TEST(half_a_parcel_is_found_at_the_next_hop)
{
    const tiny_model m = model_of_tests();
    char wanted[100];
    const size_t stride = (size_t)(m.width + 15) / 16 * 16;
    snprintf(wanted, sizeof wanted, "parcel 0: %zu bytes arrived that are not a parcel",
             128 + 2 * stride * sizeof(float) - 4);
    send_spoilt(lose_the_end, wanted);
}
END_TEST

START_TEST(a_parcel_for_another_run_is_found_at_the_next_hop)
{
    send_spoilt(name_a_slot_that_is_not_there, "parcel 0: its head contradicts this run's sizes");
}
END_TEST

/* The watch outlives it, since the note is for this test alone: the last one. */
START_TEST(a_rank_that_is_told_to_leave_ends_its_loop)
{
    ranks_pipeline p;
    ps_stage stage;
    if (ranks_size() == 1) return;
    open_stage(&p, &stage);
    ps_comm_set_idle(ranks_comm(), NULL, NULL);
    ranks_meet();
    if (ranks_rank() == 0) {
        ps_watch_tell_all(ranks_watch(), PS_ERR_LOST, "rank 7 is lost");
    } else {
        ck_assert_int_eq(ps_stage_run(&stage), PS_ERR_LOST);
        assert_message("rank 7 is lost");
        ck_assert(ps_watch_is_told(ranks_watch()));
    }
    close_stage(&p, &stage);
}
END_TEST

int main(void)
{
    ranks_open(20.0);
    Suite *suite = suite_create("pipe/stage");
    TCase *tcase = ranks_case(suite, "stage");
    tcase_add_test(tcase, a_parcel_comes_back_with_the_rows_that_are_wanted);
    tcase_add_test(tcase, a_changed_parcel_is_found_at_the_next_hop);
    tcase_add_test(tcase, a_lost_parcel_is_found_at_the_next_hop);
    tcase_add_test(tcase, half_a_parcel_is_found_at_the_next_hop);
    tcase_add_test(tcase, a_parcel_for_another_run_is_found_at_the_next_hop);
    tcase_add_test(tcase, a_rank_that_is_told_to_leave_ends_its_loop);
    return ranks_run(suite);
}
