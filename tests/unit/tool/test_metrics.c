/* Metrics: what the file says while a run goes on and in its end, and names of any bytes. */
#include "tool/metrics.h"

#include <string.h>

#include "base/mem.h"
#include "support/scratch.h"

typedef struct run {
    ps_job job;
    ps_job_command command;
    ps_plan_stage stages[2];
    ps_stage_report reports[2];
} run;

static void make_run(run *r, const char *model)
{
    *r = (run){.command = {.name = "batch"}};
    for (int i = 0; i < 2; i++) {
        r->stages[i] = (ps_plan_stage){.size = {.cache_bytes = 1000 + (size_t)i}};
        r->reports[i] = (ps_stage_report){.rank = i,
                                          .n_threads = 1,
                                          .wall_ns = 1000,
                                          .busy_ns = 500,
                                          .wait_ns = 250,
                                          .host = "node"};
    }
    r->job = (ps_job){.size = 2,
                      .begun_unix_s = 951827696,
                      .command = &r->command,
                      .ckpt = {.path = (char *)(uintptr_t)model, .identity = 0xABCDEF},
                      .plan = {.n_stages = 2, .stages = r->stages},
                      .limits = {.n_slots = 8},
                      .run = {.metrics = "m.prom", .metrics_every_s = 1000.0}};
}

static void check_says(const char *line, bool wanted)
{
    size_t n;
    ps_text with_ends = {0};
    char *text = scratch_read("m.prom", &n);
    ps_text_appendf(&with_ends, "\n%s\n", line);
    ck_assert_msg((strstr(text, ps_text_str(&with_ends)) != NULL) == wanted, "%s in %s", line,
                  text);
    ps_mem_free(text);
    ps_text_release(&with_ends);
}

START_TEST(nobody_asked)
{
    run r;
    const ps_metrics_work work = {0};
    make_run(&r, "m.h5");
    r.job.run.metrics = NULL;
    ps_metrics *m = ps_metrics_open(&r.job);
    ck_assert_ptr_null(m);
    ck_assert(!ps_metrics_due(m));
    ps_metrics_update(m, &work);
    ps_metrics_end(m, PS_OK);
    ps_metrics_free(m);
    ck_assert_int_eq(scratch_count(), 0);
}
END_TEST

START_TEST(a_run_is_followed_to_its_end)
{
    run r;
    make_run(&r, "m.h5");
    ps_metrics *m = ps_metrics_open(&r.job);
    ck_assert(!ps_metrics_due(m));
    check_says("pipestep_start_time_seconds 951827696", true);
    check_says("pipestep_running 1", true);
    check_says("pipestep_exit_status 0", false);
    check_says("pipestep_slots 8", true);
    check_says("pipestep_cache_bytes{rank=\"1\"} 1001", true);
    const ps_metrics_work work = {.finished = 3,
                                  .failed = 1,
                                  .begun = 2,
                                  .waiting = 4,
                                  .prompt_tokens = 100,
                                  .generated_tokens = 9007199254740993 - 1,
                                  .slots_used = 5};
    ps_metrics_update(m, &work);
    check_says("pipestep_requests{state=\"finished\"} 3", true);
    check_says("pipestep_requests{state=\"failed\"} 1", true);
    check_says("pipestep_requests{state=\"begun\"} 2", true);
    check_says("pipestep_requests{state=\"waiting\"} 4", true);
    check_says("pipestep_tokens_total{ring=\"0\",kind=\"prompt\"} 100", true);
    check_says("pipestep_tokens_total{ring=\"0\",kind=\"generated\"} 9007199254740992", true);
    check_says("pipestep_tokens_per_second{ring=\"0\",kind=\"prompt\"} 0", false);
    check_says("pipestep_slots_used{ring=\"0\"} 5", true);
    check_says("pipestep_time_ratio{rank=\"1\",host=\"node\",activity=\"busy\"} 0.5", false);
    // Nothing since: no rate.
    ps_metrics_update(m, &work);
    check_says("pipestep_tokens_per_second{ring=\"0\",kind=\"prompt\"} 0", true);
    r.job.reports = r.reports;
    ps_err_set(PS_ERR_SAVED, "why");
    ps_metrics_end(m, PS_ERR_SAVED);
    ck_assert_str_eq(ps_err_message(), "why");
    check_says("pipestep_running 0", true);
    check_says("pipestep_exit_status 75", true);
    check_says("pipestep_requests{state=\"finished\"} 3", true);
    check_says("pipestep_time_ratio{rank=\"1\",host=\"node\",activity=\"busy\"} 0.5", true);
    check_says("pipestep_time_ratio{rank=\"0\",host=\"node\",activity=\"wait\"} 0.25", true);
    ps_metrics_free(m);
    ck_assert_int_eq(scratch_count(), 1);
}
END_TEST

/* A rank that did not come to its report is left out, not there as rank 0 again. */
START_TEST(ranks_without_a_report_are_left_out)
{
    run r;
    size_t n, found = 0;
    make_run(&r, "m.h5");
    memset(r.reports, 0, sizeof r.reports);
    r.job.reports = r.reports;
    ps_metrics *m = ps_metrics_open(&r.job);
    ps_err_set(PS_ERR_LOST, "gone");
    ps_metrics_end(m, PS_ERR_LOST);
    char *text = scratch_read("m.prom", &n);
    for (const char *at = strstr(text, "\npipestep_time_ratio{"); at;
         at = strstr(at + 1, "\npipestep_time_ratio{")) {
        found++;
    }
    ck_assert_uint_eq(found, 0);
    check_says("pipestep_exit_status 3", true);
    ps_mem_free(text);
    ps_metrics_free(m);
}
END_TEST

START_TEST(names_are_escaped)
{
    static const char *const cases[][2] = {
        {"a\\\"\n", "a\\\\\\\"\\n"},
        {"\x01\t\x80z\xE2\x82", "???z??"},
        {"Gr\xC3\xBC\xC3\x9F", "Gr\xC3\xBC\xC3\x9F"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run r;
        size_t n;
        ps_text wanted = {0};
        make_run(&r, cases[i][0]);
        ps_metrics *m = ps_metrics_open(&r.job);
        char *text = scratch_read("m.prom", &n);
        ps_text_appendf(&wanted, ",model=\"%s\",model_identity=\"0000000000abcdef\"} 1\n",
                        cases[i][1]);
        ck_assert_msg(strstr(text, ps_text_str(&wanted)) != NULL, "%s", text);
        ps_mem_free(text);
        ps_text_release(&wanted);
        ps_metrics_free(m);
    }
}
END_TEST

START_TEST(a_file_that_cannot_be_written_ends_nothing)
{
    run r;
    const ps_metrics_work work = {0};
    make_run(&r, "m.h5");
    r.job.run.metrics = "none/m.prom";
    ps_metrics *m = ps_metrics_open(&r.job);
    ps_metrics_update(m, &work);
    ps_metrics_end(m, PS_OK);
    ps_metrics_free(m);
    ck_assert_int_eq(scratch_count(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/metrics");
    TCase *tcase = scratch_case(suite, "metrics");
    tcase_add_test(tcase, nobody_asked);
    tcase_add_test(tcase, a_run_is_followed_to_its_end);
    tcase_add_test(tcase, ranks_without_a_report_are_left_out);
    tcase_add_test(tcase, names_are_escaped);
    tcase_add_test(tcase, a_file_that_cannot_be_written_ends_nothing);
    return scratch_run(suite);
}
