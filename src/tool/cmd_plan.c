/* pipestep plan: the dry run. Says per stage what a run would take, and refuses what cannot fit. */
#include <string.h>

#include "base/log.h"
#include "tool/commands.h"
#include "tool/job.h"
#include "tool/windows.h"

typedef struct state {
    int n_ranks, head_ids;
    bool json;
} state;

static const ps_opt rows[] = {
    {"np", 0, PS_OPT_INT, offsetof(state, n_ranks), 0, 65536, "0", NULL, "S",
     "ranks to plan for; 0: as many as this was started with"},
    {"head-ids", 0, PS_OPT_INT, offsetof(state, head_ids), 0, PS_SPEC_VOCAB_MAX, "0", NULL, "N",
     "ids whose logits most tokens need, which the head is counted by: 64001 of acestep's; 0: all"},
    {"json", 0, PS_OPT_FLAG, offsetof(state, json), 0, 0, NULL, NULL, NULL, "prints JSON"},
};

static ps_err make_plan(const state *s, ps_job *job, ps_plan *plan)
{
    char *path;
    PS_TRY(ps_job_model_file(job, &path));
    const ps_err opened = ps_ckpt_open(path, &job->ckpt);
    ps_mem_free(path);
    PS_TRY(opened);
    PS_TRY(ps_windows_apply(&job->run, &job->ckpt.spec));
    const ps_spec *spec = &job->ckpt.spec;
    const int n_ranks = s->n_ranks > 0 ? s->n_ranks : job->size;
    const ps_needs needs = {.n_sequences = 1,
                            .longest = spec->context > 0 ? spec->context : INT64_MAX,
                            .head_ids = s->head_ids};
    PS_TRY(ps_job_limits(&job->run, spec, &needs, n_ranks, &job->limits));
    ps_engine_params engine;
    PS_TRY(ps_job_engine_params(job, false, &engine));
    const int share = job->cores.count / n_ranks > 1 ? job->cores.count / n_ranks : 1;
    if (job->run.threads == 0) engine.n_threads = share;
    PS_TRY(ps_engine_open(&engine, &job->engine));
    PS_TRY(ps_job_open_tokenizer(job));
    const ps_plan_params params = {.ckpt = &job->ckpt,
                                   .n_stages = n_ranks,
                                   .split = job->run.split,
                                   .limits = job->limits,
                                   .gemm = (ps_gemm)job->run.gemm,
                                   .activations = (ps_activations)job->run.activations,
                                   .n_threads = engine.n_threads,
                                   .in_flight = job->run.in_flight};
    return ps_plan_make(&params, plan);
}

/* `base`: what this process takes now, with MPI, threads and tokenizer, but no model. */
static ps_err print(const state *s, const ps_job *job, const ps_plan *plan, size_t base)
{
    ps_text text = {0}, json = {0};
    if (s->json) {
        ps_plan_to_json(plan, &json);
        ps_text_appendf(&text, "{\"base_bytes\": %zu, %s\n", base, ps_text_str(&json) + 1);
    } else {
        ps_plan_describe(plan, &text);
        ps_text_appendf(&text,
                        "a rank takes %.1f MiB before it holds any of the model (measured here); "
                        "its peak is that and its total\n",
                        (double)base / 1048576.0);
    }
    const ps_err err = ps_output_write(&job->output, text.data, text.len);
    ps_text_release(&json);
    ps_text_release(&text);
    return err;
}

/* Each stage must fit where this runs. All of them need not: they may be for many machines. */
static ps_err check_memory(const ps_plan *plan, size_t base)
{
    const char *source;
    const size_t limit = ps_mem_limit(&source);
    const bool shared = ps_job_limit_is_shared(source);
    const size_t taken = shared ? base : ps_mem_mapped();
    size_t sum = 0;
    for (int i = 0; i < plan->n_stages; i++) {
        PS_TRY(ps_plan_check_memory(plan, i, i + 1, limit > taken ? limit - taken : 0, source));
        sum += ps_plan_all_bytes(&plan->stages[i]) + base;
    }
    if (shared && sum > limit)
        ps_log(PS_LOG_WARNING,
               "together the ranks need %.1f MiB, the limit here (%s) is %.1f MiB: one machine "
               "like this is not enough",
               (double)sum / 1048576.0, source, (double)limit / 1048576.0);
    return PS_OK;
}

static ps_err work(void *arg, ps_job *job)
{
    const state *s = arg;
    ps_plan plan;
    PS_TRY(make_plan(s, job, &plan));
    const size_t base = ps_mem_resident();
    ps_err err = print(s, job, &plan, base);
    if (!err) err = check_memory(&plan, base);
    ps_plan_release(&plan);
    return err;
}

/* "-np 4" is how launchers spell it, and so does this command. */
static void accept_np(int argc, char **argv)
{
    static char np[] = "--np";
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "-np") == 0) argv[i] = np;
    }
}

int ps_cmd_plan(int argc, char **argv)
{
    accept_np(argc, argv);
    state s = {0};
    ps_job job = {0};
    ps_opt_group groups[] = {{"Plan", rows, sizeof rows / sizeof rows[0], &s},
                             ps_run_group(&job.run),
                             ps_base_group(&job.run)};
    static const char *const names[] = {"MODEL"};
    const ps_job_command command = {.name = "plan",
                                    .groups = groups,
                                    .n_groups = 3,
                                    .positionals = {names, 0, 1},
                                    .work = work,
                                    .state = &s};
    return ps_job_main_alone(&command, &job, argc, argv);
}
