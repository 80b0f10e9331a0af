/* pipestep plan: the dry run. Says per stage what a run would take, and refuses what cannot fit. */
#include <string.h>

#include "tool/commands.h"
#include "tool/job.h"

typedef struct state {
    int n_ranks;
    bool json;
} state;

static const ps_opt rows[] = {
    {"np", 0, PS_OPT_INT, offsetof(state, n_ranks), 0, 65536, "0", NULL, "S",
     "ranks to plan for; 0: as many as this was started with"},
    {"json", 0, PS_OPT_FLAG, offsetof(state, json), 0, 0, NULL, NULL, NULL, "prints JSON"},
};

static ps_err make_plan(const state *s, ps_job *job, ps_plan *plan)
{
    char *path;
    PS_TRY(ps_job_model_path(job, &path));
    const ps_err opened = ps_ckpt_open(path, &job->ckpt);
    ps_mem_free(path);
    PS_TRY(opened);
    const ps_spec *spec = &job->ckpt.spec;
    const int n_ranks = s->n_ranks > 0 ? s->n_ranks : job->size;
    const ps_needs needs = {.n_sequences = 1,
                            .longest = spec->context > 0 ? spec->context : INT64_MAX};
    PS_TRY(ps_job_limits(&job->run, spec, &needs, n_ranks, &job->limits));
    PS_TRY(ps_cores_find(&job->cores));
    const int share = job->cores.count / n_ranks > 1 ? job->cores.count / n_ranks : 1;
    const ps_plan_params params = {.ckpt = &job->ckpt,
                                   .n_stages = n_ranks,
                                   .split = job->run.split,
                                   .limits = job->limits,
                                   .gemm = (ps_gemm)job->run.gemm,
                                   .activations = (ps_activations)job->run.activations,
                                   .n_threads = job->run.threads > 0 ? job->run.threads : share,
                                   .in_flight = job->run.in_flight};
    return ps_plan_make(&params, plan);
}

static ps_err work(void *arg, ps_job *job)
{
    const state *s = arg;
    ps_plan plan;
    PS_TRY(make_plan(s, job, &plan));
    ps_text text = {0};
    if (s->json) {
        ps_plan_to_json(&plan, &text);
        ps_text_append_str(&text, "\n");
    } else {
        const size_t base = ps_mem_resident();
        ps_plan_describe(&plan, &text);
        ps_text_appendf(&text, "a rank that holds nothing yet: %.1f MiB\n",
                        (double)base / 1048576.0);
    }
    ps_err err = ps_output_write(&job->output, text.data, text.len);
    ps_text_release(&text);
    const char *source;
    const size_t limit = ps_mem_limit(&source);
    if (!err) err = ps_plan_check_memory(&plan, 0, plan.n_stages, limit, source);
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
