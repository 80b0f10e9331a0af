/* Results and the report say which variant of a rope a sequence's length took, and nothing about
 * ropes that do not depend on it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "support/scratch.h"
#include "tool/report.h"
#include "tool/result.h"

/* A job without a run, its model having this kind of rope and an original length of 20. */
static ps_job make_job(ps_rope_kind kind)
{
    ps_job job = {.limits = {.context = 100}, .n_rings = 1};
    ps_spec *s = &job.ckpt.spec;
    *s = ps_spec_plain();
    s->head_dim = 4;
    s->n_ropes = 1;
    s->ropes[0] = (ps_rope){.kind = kind,
                            .dims = 4,
                            .base = 100.0,
                            .magnitude = 1.0,
                            .factor = 2.0,
                            .original_length = 20.0,
                            .factors = {1.0, 1.0},
                            .long_factors = {2.0, 2.0}};
    ps_spec_take_layers(s, 2);
    job.ckpt.path = ps_mem_copy_text("model.h5");
    return job;
}

static void release_job(ps_job *job)
{
    ps_mem_free(job->ckpt.path);
    ps_spec_release(&job->ckpt.spec);
}

/* The value of "rope" in a JSON text; NULL when it has none. Owned by the caller. */
static char *rope_in(const char *json, size_t n)
{
    json_t *root;
    assert_ok(ps_json_parse(json, n, "result", &root));
    const char *rope = json_string_value(json_object_get(root, "rope"));
    char *copy = rope ? ps_mem_copy_text(rope) : NULL;
    json_decref(root);
    return copy;
}

/* `wanted` NULL: none. */
static void assert_result(const ps_job *job, int64_t max_tokens, const char *wanted)
{
    ps_request request = {.max_tokens = max_tokens, .n_samples = 1, .n_logprobs = -1};
    const ps_completion completion = {.finish = PS_FINISH_LENGTH};
    ps_text line = {0};
    for (int i = 0; i < 5; i++) {
        ps_tokens_append(&request.prompt, i);
    }
    ps_result_to_json(NULL, job, &request, &completion, 1, &line);
    char *found = rope_in(line.data, line.len);
    ck_assert_msg(wanted ? found && strcmp(found, wanted) == 0 : !found, "rope is %s, not %s",
                  found ? found : "absent", wanted ? wanted : "absent");
    ps_mem_free(found);
    ps_text_release(&line);
    ps_request_release(&request);
}

START_TEST(a_result_names_the_factors_that_its_length_took)
{
    ps_job job = make_job(PS_ROPE_LONGROPE);
    assert_result(&job, 15, "longrope, short factors"); // 20 positions
    assert_result(&job, 16, "longrope, long factors");
    assert_result(&job, INT64_MAX, "longrope, long factors"); // as far as the context goes
    job.limits.context = 20;
    assert_result(&job, INT64_MAX, "longrope, short factors");
    assert_result(&job, PS_REQUEST_ENDLESS, "longrope, short factors");
    for (int l = 0; l < 2; l++) {
        job.ckpt.spec.layers[l].window = 8; // now it may go on for ever
    }
    assert_result(&job, PS_REQUEST_ENDLESS, "longrope, long factors");
    release_job(&job);
}
END_TEST

/* 100 (2 40/20 - 1)^(4/2) = 900 */
START_TEST(a_result_names_the_base_that_its_length_took)
{
    ps_job job = make_job(PS_ROPE_DYNAMIC);
    assert_result(&job, 15, "dynamic, base 100");
    assert_result(&job, 35, "dynamic, base 900");
    release_job(&job);
}
END_TEST

START_TEST(other_ropes_are_not_named)
{
    for (int kind = PS_ROPE_DEFAULT; kind < PS_ROPE_DYNAMIC; kind++) {
        ps_job job = make_job((ps_rope_kind)kind);
        assert_result(&job, 50, NULL);
        release_job(&job);
    }
    ps_job job = make_job(PS_ROPE_LONGROPE);
    job.ckpt.spec.layers[0].rope = job.ckpt.spec.layers[1].rope = -1; // no layer has it
    assert_result(&job, 50, NULL);
    release_job(&job);
}
END_TEST

static void assert_report(const ps_job *job, const char *wanted)
{
    ps_text json = {0}, text = {0};
    ps_report_to_json(job, &json);
    ps_report_describe(job, &text);
    char *found = rope_in(json.data, json.len);
    ck_assert_msg(wanted ? found && strcmp(found, wanted) == 0 : !found, "rope is %s, not %s",
                  found ? found : "absent", wanted ? wanted : "absent");
    const char *line = strstr(text.data, "\nrope: ");
    ck_assert_int_eq(line != NULL, wanted != NULL);
    if (line) ck_assert_int_eq(strncmp(line + 7, wanted, strlen(wanted)), 0);
    ps_mem_free(found);
    ps_text_release(&text);
    ps_text_release(&json);
}

START_TEST(a_report_names_what_its_shortest_and_longest_sequences_took)
{
    ps_job job = make_job(PS_ROPE_LONGROPE);
    assert_report(&job, NULL); // no sequence has begun
    ps_generate_counts_note(&job.counts, 18);
    ps_generate_counts_note(&job.counts, 7);
    assert_report(&job, "longrope, short factors");
    ps_generate_counts_note(&job.counts, 0); // without an end
    assert_report(&job, "longrope, short factors to longrope, long factors");
    release_job(&job);
    job = make_job(PS_ROPE_LONGROPE);
    ps_generate_counts_note(&job.counts, 0);
    assert_report(&job, "longrope, long factors");
    release_job(&job);
    job = make_job(PS_ROPE_LLAMA3);
    ps_generate_counts_note(&job.counts, 50);
    assert_report(&job, NULL);
    release_job(&job);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/result rope");
    TCase *tcase = scratch_case(suite, "rope");
    tcase_add_test(tcase, a_result_names_the_factors_that_its_length_took);
    tcase_add_test(tcase, a_result_names_the_base_that_its_length_took);
    tcase_add_test(tcase, other_ropes_are_not_named);
    tcase_add_test(tcase, a_report_names_what_its_shortest_and_longest_sequences_took);
    return scratch_run(suite);
}
