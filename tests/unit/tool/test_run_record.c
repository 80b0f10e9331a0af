/* The record of a run: whole JSON whatever ends it, one key a line, and there only where it belongs.
 */
#include "tool/run_record.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "support/scratch.h"

static const ps_output standard_output = {0};
static char *const arguments[] = {(char *)(uintptr_t) "--in", (char *)(uintptr_t) "a\n\"b\x80"};

typedef struct run {
    ps_job job;
    ps_job_command command;
    ps_plan_stage stages[2];
    ps_stage_report reports[2];
    ps_ledger *ledger;
} run;

static void make_run(run *r, const char *out)
{
    *r = (run){.command = {.name = "batch"}};
    for (int i = 0; i < 2; i++) {
        r->stages[i] = (ps_plan_stage){.part = {4 * i, 4 * i + 4, i == 0}};
        r->reports[i] = (ps_stage_report){.n_threads = 3 + i};
    }
    r->job = (ps_job){
        .size = 2,
        .argv = arguments,
        .argc = 2,
        .begun_unix_s = 951827696,
        .command = &r->command,
        .ckpt = {.path = (char *)(uintptr_t) "m\".h5", .identity = 0xABCDEF},
        .plan = {.n_stages = 2, .stages = r->stages},
        .reports = r->reports,
        .counts = {.prompt_tokens = 20, .new_tokens = 11, .begun_tokens = 7},
    };
    const ps_ledger_params params = {
        .out = out, .n = 5, .journal = true, .exact = true, .identity = "seed = 1\n"};
    assert_ok(ps_ledger_open(&params, &r->ledger));
    assert_ok(ps_ledger_begin(r->ledger, 2, 3, &standard_output));
    for (size_t i = 0; i < 3 && ps_ledger_finished(r->ledger) < 3; i++) {
        ps_text text = {0};
        ps_text_append_str(&text, "{}\n");
        assert_ok(i == 2 ? ps_ledger_put_failed(r->ledger, i, &text)
                         : ps_ledger_put(r->ledger, i, &text));
    }
}

static json_t *read_record(void)
{
    json_t *object;
    assert_ok(ps_json_load("out.run.json", 1 << 20, &object));
    return object;
}

static const char *text_at(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    ck_assert_msg(text != NULL, "%s", key);
    return text;
}

static long long number_at(const json_t *object, const char *in, const char *key)
{
    const json_t *value = json_object_get(in ? json_object_get(object, in) : object, key);
    ck_assert_msg(json_is_integer(value), "%s", key);
    return json_integer_value(value);
}

START_TEST(a_run_that_is_under_way_says_so)
{
    run r;
    make_run(&r, "out");
    r.job.plan.n_stages = 0;
    r.job.reports = NULL;
    assert_ok(ps_run_record_begin(&r.job, r.ledger));
    json_t *object = read_record();
    ck_assert_str_eq(text_at(object, "format"), "pipestep-run");
    ck_assert_int_eq(number_at(object, NULL, "version"), 1);
    ck_assert_str_eq(text_at(object, "state"), "running");
    ck_assert(json_is_null(json_object_get(object, "exit_status")));
    ck_assert(json_is_null(json_object_get(object, "ended")));
    ck_assert_str_eq(text_at(object, "begun"), "2000-02-29T12:34:56Z");
    ck_assert_str_eq(text_at(object, "model"), "m\".h5");
    ck_assert_str_eq(text_at(object, "model_identity"), "0000000000abcdef");
    ck_assert_str_eq(text_at(object, "output"), "out");
    ck_assert_str_eq(text_at(object, "journal"), "out.journal");
    const json_t *words = json_object_get(object, "arguments");
    ck_assert_uint_eq(json_array_size(words), 2);
    ck_assert_str_eq(json_string_value(json_array_get(words, 1)), "a\n\"b\xEF\xBF\xBD");
    const json_t *stages = json_object_get(object, "stages");
    ck_assert_uint_eq(json_array_size(stages), 2);
    ck_assert(json_is_null(json_object_get(json_array_get(stages, 1), "threads")));
    ck_assert(json_is_null(json_object_get(json_array_get(stages, 1), "first_layer")));
    json_decref(object);
    ps_ledger_close(r.ledger, false);
}
END_TEST

/* Its status, the word and the line, for each way to end. */
START_TEST(every_end_is_recorded)
{
    const ps_err err = (ps_err)_i;
    run r;
    make_run(&r, "out");
    assert_ok(ps_run_record_begin(&r.job, r.ledger));
    ps_err_set(err, "said \"%s\"\n\x80", "so");
    assert_ok(ps_run_record_end(&r.job, r.ledger, err));
    json_t *object = read_record();
    ck_assert_str_eq(text_at(object, "state"), "ended");
    ck_assert_int_eq(number_at(object, NULL, "exit_status"), ps_err_exit_status(err));
    ck_assert_str_eq(text_at(object, "reason"), err ? ps_err_name(err) : "done");
    ck_assert_str_eq(text_at(object, "message"), err ? "said \"so\"\n\xEF\xBF\xBD" : "");
    ck_assert(json_is_null(json_object_get(object, "journal")) == (err == PS_OK));
    ck_assert_int_eq(number_at(object, "requests", "all"), 5);
    ck_assert_int_eq(number_at(object, "requests", "finished"), 2);
    ck_assert_int_eq(number_at(object, "requests", "failed"), 1);
    ck_assert_int_eq(number_at(object, "requests", "left"), 2);
    ck_assert_int_eq(number_at(object, "tokens", "prompt"), 20);
    ck_assert_int_eq(number_at(object, "tokens", "generated"), 11);
    ck_assert_int_eq(number_at(object, "tokens", "begun"), 7);
    ck_assert_int_eq(number_at(object, NULL, "earlier_runs"), 0);
    const json_t *stage = json_array_get(json_object_get(object, "stages"), 1);
    ck_assert_int_eq(number_at(stage, NULL, "threads"), 4);
    ck_assert_int_eq(number_at(stage, NULL, "first_layer"), 4);
    json_decref(object);
    ps_ledger_close(r.ledger, false);
}
END_TEST

START_TEST(earlier_runs_and_the_batch_system_are_named)
{
    run r;
    setenv("SLURM_JOB_ID", "4711", 1);
    setenv("SLURM_RESTART_COUNT", "3", 1);
    for (int i = 0; i < 2; i++) {
        make_run(&r, "out");
        ps_err_set(PS_ERR_SAVED, "saved");
        assert_ok(ps_run_record_end(&r.job, r.ledger, PS_ERR_SAVED));
        ps_ledger_close(r.ledger, false);
    }
    json_t *object = read_record();
    ck_assert_int_eq(number_at(object, NULL, "earlier_runs"), 1);
    ck_assert_str_eq(text_at(object, "job"), "slurm 4711");
    ck_assert_int_eq(number_at(object, NULL, "restart"), 3);
    json_decref(object);
}
END_TEST

/* What scripts read with sed. */
START_TEST(the_exit_status_has_a_line_of_its_own)
{
    run r;
    size_t n;
    make_run(&r, "out");
    ps_err_set(PS_ERR_SAVED, "x\n\"exit_status\": 1,\n");
    assert_ok(ps_run_record_end(&r.job, r.ledger, PS_ERR_SAVED));
    char *text = scratch_read("out.run.json", &n);
    char *at = strstr(text, "\n\"exit_status\": 75,\n");
    ck_assert_ptr_nonnull(at);
    ck_assert_ptr_null(strstr(text, "\n\"exit_status\": 1,\n"));
    ps_mem_free(text);
    ps_ledger_close(r.ledger, false);
}
END_TEST

START_TEST(where_there_is_no_file_there_is_no_record)
{
    run r;
    make_run(&r, "/dev/null");
    assert_ok(ps_run_record_begin(&r.job, r.ledger));
    assert_ok(ps_run_record_end(&r.job, r.ledger, PS_OK));
    ps_ledger_close(r.ledger, true);
    assert_ok(ps_run_record_end(&r.job, NULL, PS_OK));
    ck_assert_int_eq(scratch_count(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/run_record");
    TCase *tcase = scratch_case(suite, "record");
    tcase_add_test(tcase, a_run_that_is_under_way_says_so);
    tcase_add_loop_test(tcase, every_end_is_recorded, 0, PS_ERR_COUNT);
    tcase_add_test(tcase, earlier_runs_and_the_batch_system_are_named);
    tcase_add_test(tcase, the_exit_status_has_a_line_of_its_own);
    tcase_add_test(tcase, where_there_is_no_file_there_is_no_record);
    return scratch_run(suite);
}
