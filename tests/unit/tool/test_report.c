/* The report at the end: its figures follow from the counts, and it stays readable without any. */
#include "tool/report.h"

#include <math.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "math/kernels.h"
#include "support/scratch.h"

static const int64_t S = 1000000000;

typedef struct run {
    ps_job job;
    ps_plan_stage stages[2];
    ps_stage_report reports[2];
    float token_ms[4];
    size_t planned_bytes[2];
} run;

/* Two ranks, 10 s of wall time, busy 5 and 7 s; 20 prompt and 11 new tokens. */
static void make_run(run *r)
{
    *r = (run){0};
    for (int i = 0; i < 2; i++) {
        r->stages[i] = (ps_plan_stage){.part = {4 * i, 4 * i + 4, i == 0}, .cost_bytes = 100};
        r->reports[i] = (ps_stage_report){.rank = i,
                                          .first_layer = 4 * i,
                                          .end_layer = 4 * i + 4,
                                          .n_threads = 2,
                                          .wall_ns = 10 * S - i,
                                          .busy_ns = (5 + 2 * i) * S,
                                          .wait_ns = 2 * S,
                                          .send_ns = S,
                                          .parcels = 8,
                                          .rows = 31,
                                          .sent_bytes = 800,
                                          .weight_bytes = 4000000000,
                                          .cache_bytes = 1000000000,
                                          .peak_resident_bytes = 3 << 20,
                                          .base_resident_bytes = 1 << 20,
                                          .host = "node \"x\"",
                                          .isa = "avx2"};
    }
    memcpy(r->token_ms, (float[]){4.0f, 1.0f, 3.0f, 2.0f}, sizeof r->token_ms);
    r->job = (ps_job){.size = 2,
                      .n_rings = 1,
                      .n_stages = 2,
                      .planned_bytes = r->planned_bytes,
                      .ckpt = {.path = (char *)(uintptr_t) "m\".h5", .identity = 0xABCDEF},
                      .plan = {.n_stages = 2, .stages = r->stages, .in_flight = 2},
                      .reports = r->reports,
                      .counts = {.prompt_tokens = 20,
                                 .new_tokens = 11,
                                 .requests = 3,
                                 .begun_ns = S,
                                 .first_token_ns = 3 * S,
                                 .last_token_ns = 8 * S,
                                 .n_prompts = 3,
                                 .prompt_ns = 6 * S,
                                 .last_prompt_ns = 5 * S,
                                 .token_ms = r->token_ms,
                                 .n_token_ms = 4}};
}

static json_t *json_of(const run *r)
{
    ps_text text = {0};
    json_t *object;
    ps_report_to_json(&r->job, &text);
    assert_ok(ps_json_parse(text.data, text.len, "report", &object));
    ps_text_release(&text);
    return object;
}

static double real_at(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    ck_assert_msg(json_is_number(value), "%s is no number", key);
    return json_number_value(value);
}

static void assert_near(double found, double wanted)
{
    ck_assert_double_eq_tol(found, wanted, 1e-6);
}

START_TEST(figures_follow_from_the_counts)
{
    run r;
    make_run(&r);
    json_t *object = json_of(&r);
    assert_near(real_at(object, "wall_s"), 10.0);
    assert_near(real_at(object, "first_token_s"), 2.0);       // a request, of three
    assert_near(real_at(object, "prompt_tokens_per_s"), 5.0); // until the last of them had one
    assert_near(real_at(object, "new_tokens_per_s"), 2.0);    // ten behind the first, in 5 s
    assert_near(real_at(object, "token_p50_ms"), 2.0);
    assert_near(real_at(object, "token_p99_ms"), 3.0);
    assert_near(real_at(object, "bubble"), 1.0 - 12.0 / 20.0);
    assert_near(real_at(object, "read_gb_per_s"), 1.0);
    ck_assert_int_eq((int)real_at(object, "requests"), 3);
    ck_assert_str_eq(json_string_value(json_object_get(object, "model")), "m\".h5");
    ck_assert_str_eq(json_string_value(json_object_get(object, "model_identity")),
                     "0000000000abcdef");
    json_decref(object);
}
END_TEST

START_TEST(every_stage_stands_in_the_report)
{
    run r;
    make_run(&r);
    json_t *object = json_of(&r);
    const json_t *stages = json_object_get(object, "stages");
    ck_assert_uint_eq(json_array_size(stages), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *stage = json_array_get(stages, i);
        ck_assert_int_eq((int)real_at(stage, "rank"), (int)i);
        ck_assert_int_eq((int)real_at(stage, "end_layer"), 4 * (int)i + 4);
        assert_near(real_at(stage, "busy_s"), 5.0 + 2.0 * (double)i);
        assert_near(real_at(stage, "wait_s"), 2.0);
        assert_near(real_at(stage, "send_s"), 1.0);
        ck_assert_str_eq(json_string_value(json_object_get(stage, "host")), "node \"x\"");
        ck_assert_str_eq(json_string_value(json_object_get(stage, "isa")), "avx2");
    }
    ck_assert_uint_eq(json_array_size(json_object_get(json_object_get(object, "plan"), "stages")),
                      2);
    json_decref(object);
}
END_TEST

START_TEST(the_lines_say_the_same)
{
    run r;
    ps_text text = {0};
    make_run(&r);
    r.reports[1].end_layer = r.reports[1].first_layer;
    ps_report_describe(&r.job, &text);
    const char *found = ps_text_str(&text);
    ck_assert_ptr_nonnull(strstr(found, "20 prompt and 11 new tokens in 10.000 s"));
    ck_assert_ptr_nonnull(strstr(found, "bubble 40.0 %, 1.00 GB/s of weights and caches read"));
    ck_assert_ptr_nonnull(strstr(found, "\n   0 node \"x\"           0..3       2   50 %   20 %"));
    ck_assert_ptr_nonnull(strstr(found, "\n   1 node \"x\"           none       2   70 %   20 %"));
    ps_text_release(&text);
}
END_TEST

/* Nothing was asked for: no division by nothing shows. */
START_TEST(a_run_without_work_has_a_report_too)
{
    run r;
    ps_text text = {0};
    make_run(&r);
    r.job.counts = (ps_generate_counts){0};
    memset(r.reports, 0, sizeof r.reports);
    ps_report_describe(&r.job, &text);
    ck_assert_ptr_null(strstr(ps_text_str(&text), "nan"));
    ck_assert_ptr_null(strstr(ps_text_str(&text), "inf"));
    ps_text_release(&text);
    json_t *object = json_of(&r);
    assert_near(real_at(object, "bubble"), 0.0);
    assert_near(real_at(object, "new_tokens_per_s"), 0.0);
    assert_near(real_at(object, "token_p99_ms"), 0.0);
    json_decref(object);
}
END_TEST

/* What was not computed, and what was given up. */
START_TEST(prefixes_and_evictions_are_said_where_there_are_any)
{
    run r;
    ps_text text = {0};
    make_run(&r);
    ps_report_describe(&r.job, &text);
    ck_assert_ptr_null(strstr(ps_text_str(&text), "prefix"));
    ck_assert_ptr_null(strstr(ps_text_str(&text), "evicted"));
    ps_text_clear(&text);
    r.job.counts.prefix_tokens = 12;
    r.job.counts.shared_tokens = 108;
    for (int i = 0; i < 2; i++) {
        r.reports[i].evicted = 6000000000 + (uint64_t)i;
        r.reports[i].window_layers = 3;
    }
    ps_report_describe(&r.job, &text);
    const char *found = ps_text_str(&text);
    ck_assert_ptr_nonnull(strstr(found, "\nprefix: 12 tokens computed once, 108 prompt tokens "
                                        "saved\nevicted: 12000000001 positions from 6 layers with "
                                        "windows\nrank host"));
    ps_text_release(&text);
    json_t *object = json_of(&r);
    assert_near(real_at(object, "prefix_tokens"), 12.0);
    assert_near(real_at(object, "shared_prompt_tokens"), 108.0);
    assert_near(real_at(object, "evicted_positions"), 12000000001.0);
    assert_near(real_at(object, "window_layers"), 6.0);
    json_decref(object);
}
END_TEST

START_TEST(one_token_has_no_rate_of_decoding)
{
    run r;
    make_run(&r);
    r.job.counts.new_tokens = 1;
    r.job.counts.last_token_ns = r.job.counts.first_token_ns;
    r.job.counts.n_token_ms = 0;
    json_t *object = json_of(&r);
    assert_near(real_at(object, "new_tokens_per_s"), 0.0);
    assert_near(real_at(object, "prompt_tokens_per_s"), 5.0);
    json_decref(object);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/report");
    TCase *tcase = tcase_create("report");
    tcase_add_test(tcase, figures_follow_from_the_counts);
    tcase_add_test(tcase, every_stage_stands_in_the_report);
    tcase_add_test(tcase, the_lines_say_the_same);
    tcase_add_test(tcase, a_run_without_work_has_a_report_too);
    tcase_add_test(tcase, prefixes_and_evictions_are_said_where_there_are_any);
    tcase_add_test(tcase, one_token_has_no_rate_of_decoding);
    suite_add_tcase(suite, tcase);
    return scratch_run(suite);
}
