/* Trials: who times what, the same times on all ranks, and plans made of them. */
#include "pipe/trial.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "support/ranks.h"
#include "support/scratch.h"

enum { LAYERS = 5, SLOTS = 6 };

static const ps_limits limits = {.rows_max = 8, .chunk_rows = 8, .n_slots = SLOTS, .context = 40};

static void prepare(ranks_pipeline *p, tiny_family family)
{
    tiny_model m = tiny_model_default(family);
    m.layers = LAYERS;
    ranks_pipeline_prepare(&(ranks_pipeline_params){.model = &m, .limits = limits}, p);
}

static void run(const ranks_pipeline *p, int rows, ps_plan_times *times)
{
    const ps_stage_params params = ranks_pipeline_stage(p);
    assert_ok(ps_trial_run(&params, rows, NULL, times));
    ck_assert_int_eq(times->n_stages, ranks_size());
    ck_assert_int_eq(times->n_layers, LAYERS);
}

START_TEST(every_layer_has_a_time_on_every_rank)
{
    ranks_pipeline p;
    prepare(&p, TINY_LLAMA);
    ps_plan_times times;
    run(&p, 2, &times);
    ck_assert_int_eq(times.rows, 2);
    ck_assert_double_gt(times.head_ns, 0.0);
    ck_assert_int_eq(times.hop_ns > 0.0, ranks_size() > 1);
    ck_assert_int_eq(times.chunk_rows, ranks_size() > 1 ? limits.chunk_rows : 0);
    ck_assert_int_eq(times.chunk_ns > 0.0, ranks_size() > 1);
    ck_assert_double_gt(times.rows_ns, 0.0);
    for (int s = 0; s < ranks_size(); s++) {
        ck_assert_double_gt(times.byte_ns[s], 0.0);
        for (int l = 0; l < LAYERS; l++) {
            ck_assert_double_gt(times.layer_ns[s * LAYERS + l], 0.0);
        }
    }
    ps_plan_times_release(&times);
    ranks_pipeline_close(&p);
}
END_TEST

/* On other ranks a layer takes its owner's time by the ratio of their speeds. */
START_TEST(others_times_follow_the_speed_of_the_rank)
{
    ranks_pipeline p;
    prepare(&p, TINY_MISTRAL);
    ps_plan_times times;
    run(&p, 1, &times);
    for (int owner = 0; owner < ranks_size(); owner++) {
        const ps_part *part = &p.plan.stages[owner].part;
        for (int l = part->first_layer; l < part->end_layer; l++) {
            const double own = times.layer_ns[owner * LAYERS + l];
            for (int s = 0; s < ranks_size(); s++) {
                ck_assert_double_eq_tol(times.layer_ns[s * LAYERS + l] * times.byte_ns[owner],
                                        own * times.byte_ns[s], 1e-9 * own * times.byte_ns[s]);
            }
        }
    }
    ps_plan_times_release(&times);
    ranks_pipeline_close(&p);
}
END_TEST

enum { DRAW_US = 500 };

static ps_err draw_slowly(void *arg, const float *logits, const ps_id_range *ids)
{
    int *n = arg;
    ck_assert(logits[0] > -INFINITY);
    ck_assert_ptr_null(ids);
    const int64_t end = ps_clock_now_ns() + 1000 * DRAW_US;
    while (ps_clock_now_ns() < end) {
    }
    (*n)++;
    return PS_OK;
}

/* What is done with the logits keeps rank 0 from its layers, as its head does. */
START_TEST(draws_count_as_the_head)
{
    enum { ROWS = 3 };
    ranks_pipeline p;
    prepare(&p, TINY_LLAMA);
    const ps_stage_params params = ranks_pipeline_stage(&p);
    int n_drawn = 0;
    const ps_trial_draw draw = {draw_slowly, &n_drawn};
    ps_plan_times times;
    assert_ok(ps_trial_run(&params, ROWS, ranks_rank() == 0 ? &draw : NULL, &times));
    ck_assert_double_ge(times.head_ns, ROWS * 1e3 * DRAW_US);
    ck_assert_int_eq(n_drawn % ROWS, 0);
    ck_assert_int_eq(n_drawn > ROWS, ranks_rank() == 0);
    ps_plan_times_release(&times);
    ranks_pipeline_close(&p);
}
END_TEST

START_TEST(rows_are_no_more_than_there_are_slots)
{
    ranks_pipeline p;
    prepare(&p, TINY_LLAMA);
    ps_plan_times times;
    run(&p, 100, &times);
    ck_assert_int_eq(times.rows, SLOTS);
    ps_plan_times_release(&times);
    ranks_pipeline_close(&p);
}
END_TEST

/* All ranks find the same numbers, so the same split, and the next pipeline runs on it. */
START_TEST(a_pipeline_runs_on_the_plan_that_was_measured)
{
    ranks_pipeline p;
    prepare(&p, TINY_LLAMA);
    ps_plan_times times;
    run(&p, 2, &times);
    const size_t n = (size_t)(ranks_size() * LAYERS) * sizeof *times.layer_ns;
    double *all = ps_mem_new((size_t)ranks_size(), n);
    assert_ok(ps_comm_gather_all(ranks_comm(), times.layer_ns, n, all));
    for (int r = 0; r < ranks_size(); r++) {
        ck_assert_mem_eq((const char *)all + (size_t)r * n, times.layer_ns, n);
    }
    ps_mem_free(all);
    const ps_plan_params params = {.ckpt = &p.ckpt,
                                   .n_stages = ranks_size(),
                                   .limits = limits,
                                   .n_threads = 1,
                                   .times = &times};
    ps_plan_release(&p.plan);
    assert_ok(ps_plan_make(&params, &p.plan));
    ck_assert_double_gt(ps_plan_tokens_per_s(&p.plan), 0.0);
    ps_plan_times_release(&times);
    const ps_stage_params stage = ranks_pipeline_stage(&p);
    assert_ok(ps_pipeline_open(&stage, &p.pipeline));
    if (ranks_rank() == 0) {
        ps_stage_report reports[8];
        assert_ok(ps_pipeline_stop(p.pipeline, reports));
    } else {
        assert_ok(ps_pipeline_serve(p.pipeline));
    }
    ranks_pipeline_close(&p);
}
END_TEST

START_TEST(one_rank_stands_for_many)
{
    double *layer_ns = ps_mem_new(2, sizeof *layer_ns), *byte_ns = ps_mem_new(1, sizeof *byte_ns);
    layer_ns[0] = 3;
    layer_ns[1] = 4;
    byte_ns[0] = 5;
    ps_plan_times times = {.n_stages = 1,
                           .n_layers = 2,
                           .rows = 1,
                           .layer_ns = layer_ns,
                           .byte_ns = byte_ns,
                           .head_ns = 6};
    ps_trial_spread(&times, 3);
    ck_assert_int_eq(times.n_stages, 3);
    for (int s = 0; s < 3; s++) {
        ck_assert_double_eq(times.layer_ns[2 * s], 3);
        ck_assert_double_eq(times.layer_ns[2 * s + 1], 4);
        ck_assert_double_eq(times.byte_ns[s], 5);
    }
    ck_assert_double_eq(times.head_ns, 6);
    ps_plan_times_release(&times);
}
END_TEST

int main(void)
{
    ranks_open(20.0);
    Suite *suite = suite_create("pipe/trial");
    TCase *tcase = ranks_case(suite, "trial");
    tcase_add_test(tcase, every_layer_has_a_time_on_every_rank);
    tcase_add_test(tcase, others_times_follow_the_speed_of_the_rank);
    tcase_add_test(tcase, draws_count_as_the_head);
    tcase_add_test(tcase, rows_are_no_more_than_there_are_slots);
    tcase_add_test(tcase, a_pipeline_runs_on_the_plan_that_was_measured);
    tcase_add_test(tcase, one_rank_stands_for_many);
    return ranks_run(suite);
}
