/* Waiting inside MPI, without deadlines, as a simulator wants it: the same parcels, the same bits. */
#include <string.h>

#include "base/mem.h"
#include "pipe/ring.h"
#include "support/ranks.h"
#include "support/scratch.h"
#include "support/stage_runner.h"

enum { VOCABULARY = 61, TOKENS = 12, BUFFER_BYTES = 150 * 1000 };

static const ps_limits limits = {.rows_max = 8, .chunk_rows = 8, .n_slots = 2, .context = 40};

START_TEST(it_is_told_apart)
{
    ck_assert(ps_comm_blocks(ranks_comm()));
}
END_TEST

START_TEST(all_learn_what_each_has)
{
    const int mine = 7 * ranks_rank();
    int all[16] = {0};
    assert_ok(ps_comm_gather_all(ranks_comm(), &mine, sizeof mine, all));
    for (int r = 0; r < ranks_size(); r++) {
        ck_assert_int_eq(all[r], 7 * r);
    }
    const int last = ranks_size() - 1;
    const ps_err err =
        ps_comm_agree(ranks_comm(), ranks_rank() == last ? PS_FAIL(PS_ERR_IO, "no more") : PS_OK);
    ck_assert_int_eq(err, PS_ERR_IO);
    ck_assert_ptr_nonnull(strstr(ps_err_message(), "no more"));
}
END_TEST

/* Nothing is watched, so a watch that is polled neither sends nor fails. */
START_TEST(nothing_is_watched)
{
    ps_watch *watch = ps_watch_open(ranks_comm(), 0.0);
    ps_watch_set_layers(watch, 0, 1);
    ps_watch_expect_progress(watch, true);
    for (int i = 0; i < 3; i++) {
        assert_ok(ps_watch_poll(watch));
    }
    ck_assert(!ps_watch_is_told(watch));
    ps_watch_close(watch);
}
END_TEST

static void go_round(ps_ring *ring, int in_flight, int n_parcels, size_t bytes)
{
    for (int sent = 0, back = 0; back < n_parcels;) {
        ps_ring_buffer *b = NULL;
        if (ranks_rank() == 0 && sent < n_parcels && sent - back < in_flight)
            b = ps_ring_take(ring);
        if (b) {
            memset(b->data, sent, bytes);
            b->bytes = bytes;
            ps_ring_send(ring, b);
            sent++;
            continue;
        }
        assert_ok(ps_ring_receive(ring, &b));
        ck_assert_uint_eq(b->bytes, bytes);
        ck_assert_int_eq((unsigned char)b->data[bytes - 1], (unsigned char)back);
        back++;
        if (ranks_rank() == 0) {
            ps_ring_release(ring, b);
        } else {
            ps_ring_send(ring, b);
        }
    }
    assert_ok(ps_ring_flush(ring));
}

START_TEST(parcels_of_any_size_come_round_with_all_credits_out)
{
    static const size_t sizes[] = {64, 5000, BUFFER_BYTES};
    for (int i = 0; i < 3; i++) {
        ps_ring *ring;
        const ps_ring_params params = {.comm = ranks_comm(),
                                       .watch = ranks_watch(),
                                       .depth = 3,
                                       .buffer_bytes = BUFFER_BYTES,
                                       .wait = PS_WAIT_SHARED};
        assert_ok(ps_ring_open(&params, &ring));
        go_round(ring, ps_ring_credits(ring), 300, sizes[i]);
        ranks_meet();
        ps_ring_close(ring);
        ranks_meet();
    }
}
END_TEST

/* Rank 0 decodes a few tokens, two parcels at a time, and knows what must come of them. */
static void decode(ranks_pipeline *p, stage_runner *whole)
{
    float wanted[VOCABULARY];
    for (int t = 0; t < TOKENS; t++) {
        for (int slot = 0; slot < 2; slot++) {
            const ps_batch_row row = {.slot = slot,
                                      .position = t,
                                      .token = (t * 5 + slot) % VOCABULARY,
                                      .wants_logits = true};
            uint64_t sequence;
            while (!ps_pipeline_can_submit(p->pipeline)) {
            }
            assert_ok(
                ps_pipeline_submit(p->pipeline, &(ps_batch){.rows = &row, .n_rows = 1}, &sequence));
            if (ranks_size() > 1 && slot == 0) continue;
            for (int s = ranks_size() > 1 ? 0 : slot; s <= slot; s++) {
                const int32_t token = (t * 5 + s) % VOCABULARY;
                ps_finished done;
                const float *logits;
                assert_ok(ps_pipeline_collect(p->pipeline, &done));
                assert_ok(ps_pipeline_logits(p->pipeline, 0, 1, NULL, &logits));
                stage_runner_run(whole, s, t, &token, 1, 1, wanted);
                ck_assert_mem_eq(logits, wanted, sizeof wanted);
                ps_pipeline_release(p->pipeline);
            }
        }
    }
}

START_TEST(a_pipeline_gives_the_same_bits)
{
    tiny_model m = tiny_model_default(TINY_LLAMA);
    m.vocabulary = VOCABULARY;
    ranks_pipeline p;
    assert_ok(ranks_pipeline_open(&(ranks_pipeline_params){.model = &m, .limits = limits}, &p));
    if (ranks_rank() == 0) {
        stage_runner whole;
        assert_ok(stage_runner_open(&(stage_runner_params){.path = p.ckpt.path, .limits = limits},
                                    &whole));
        decode(&p, &whole);
        ps_stage_report reports[16];
        assert_ok(ps_pipeline_stop(p.pipeline, reports));
        stage_runner_close(&whole);
    } else {
        assert_ok(ps_pipeline_serve(p.pipeline));
    }
    ranks_pipeline_close(&p);
}
END_TEST

int main(void)
{
    ranks_open(0.0);
    Suite *suite = suite_create("pipe/blocking");
    TCase *tcase = ranks_case(suite, "blocking");
    tcase_add_test(tcase, it_is_told_apart);
    tcase_add_test(tcase, all_learn_what_each_has);
    tcase_add_test(tcase, nothing_is_watched);
    tcase_add_test(tcase, parcels_of_any_size_come_round_with_all_credits_out);
    tcase_add_test(tcase, a_pipeline_gives_the_same_bits);
    return ranks_run(suite);
}
