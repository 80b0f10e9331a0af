/* pipestep plan: the dry run. Says per stage what a run would take, and refuses what cannot fit. With
 * --measure a short trial says what layers, head and hops take here, and the split follows it: under
 * a launcher on the nodes that it was started on, else as if all ranks were like this process. */
#include <string.h>

#include "base/log.h"
#include "serve/chunks.h"
#include "serve/rehearsal.h"
#include "tool/commands.h"
#include "tool/job.h"
#include "tool/placing.h"
#include "tool/windows.h"

typedef struct state {
    int n_ranks, head_ids;
    bool json, measures;
} state;

static const ps_opt rows[] = {
    {"np", 0, PS_OPT_INT, offsetof(state, n_ranks), 0, 65536, "0", NULL, "S",
     "ranks to plan for; 0: as many as this was started with"},
    {"head-ids", 0, PS_OPT_INT, offsetof(state, head_ids), 0, PS_SPEC_VOCAB_MAX, "0", NULL, "N",
     "ids whose logits most tokens need, which the head is counted by: 64001 of acestep's; 0: all"},
    {"measure", 0, PS_OPT_FLAG, offsetof(state, measures), 0, 0, NULL, NULL, NULL,
     "splits by times measured on the ranks that this was started with; started alone, as if all "
     "ranks were like this process"},
    {"json", 0, PS_OPT_FLAG, offsetof(state, json), 0, 0, NULL, NULL, NULL, "prints JSON"},
};

static ps_err check(void *arg, ps_job *job)
{
    state *s = arg;
    const bool is_auto = job->run.split && strcmp(job->run.split, PS_SPLIT_AUTO) == 0;
    if (is_auto) s->measures = true;
    if (s->measures && job->run.split && !is_auto)
        return PS_FAIL(PS_ERR_USAGE, "--measure finds the split: --split %s contradicts it",
                       job->run.split);
    job->works_together = s->measures;
    return PS_OK;
}

static int count_ranks(const state *s, const ps_job *job)
{
    return s->n_ranks > 0 ? s->n_ranks : job->size;
}

/* Limits and engine for the model that is open. */
static ps_err prepare(const state *s, ps_job *job, ps_engine_params *engine)
{
    const ps_spec *spec = &job->ckpt.spec;
    const int n_ranks = count_ranks(s, job);
    const ps_needs needs = {.n_sequences = 1,
                            .longest = spec->context > 0 ? spec->context : INT64_MAX,
                            .head_ids = s->head_ids};
    PS_TRY(ps_job_limits(&job->run, spec, &needs, n_ranks, &job->limits));
    const bool measures_together = s->measures && job->size > 1;
    PS_TRY(ps_job_engine_params(job, measures_together, engine));
    const int share = job->cores.count / n_ranks > 1 ? job->cores.count / n_ranks : 1;
    if (job->run.threads == 0 && !measures_together) engine->n_threads = share;
    return ps_engine_open(engine, &job->engine);
}

/* `base` gets what this process takes with MPI, threads and tokenizer, but no model. */
static ps_err make_plan(const state *s, ps_job *job, ps_plan *plan, size_t *base)
{
    char *path;
    PS_TRY(ps_job_model_file(job, &path));
    const ps_err opened = ps_ckpt_open(path, &job->ckpt);
    ps_mem_free(path);
    PS_TRY(opened);
    PS_TRY(ps_windows_apply(&job->run, &job->ckpt.spec));
    ps_engine_params engine;
    PS_TRY(prepare(s, job, &engine));
    PS_TRY(ps_job_open_tokenizer(job));
    PS_TRY(ps_job_make_plan(job, count_ranks(s, job), NULL, plan));
    ps_placing_apply_alone(job, plan);
    *base = ps_mem_resident();
    return PS_OK;
}

/* A trial of the plan by bytes; *times are those of the ranks to plan for. */
static ps_err measure(const state *s, ps_job *job, ps_wait wait, ps_plan_times *times)
{
    ps_plan plan;
    PS_TRY(ps_job_make_plan(job, job->size, NULL, &plan));
    PS_TRY(ps_placing_apply(job, &plan));
    const ps_stage_params stage = {.comm = job->comm,
                                   .watch = job->watch,
                                   .ckpt = &job->ckpt,
                                   .plan = &plan,
                                   .engine = &job->engine,
                                   .verify = (ps_verify)job->run.verify,
                                   .wait = wait};
    const int n_ranks = count_ranks(s, job), n_slots = job->limits.n_slots;
    const ps_err err = ps_rehearsal_run(&stage, (n_slots + n_ranks - 1) / n_ranks, times);
    ps_plan_release(&plan);
    PS_TRY(err);
    if (job->size == 1) ps_trial_spread(times, count_ranks(s, job));
    return PS_OK;
}

/* Collective. */
static ps_err make_measured_plan(const state *s, ps_job *job, ps_plan *plan, size_t *base)
{
    if (job->size > 1 && s->n_ranks > 0 && s->n_ranks != job->size)
        return PS_FAIL(PS_ERR_USAGE,
                       "--measure measures the %d ranks that there are: -np %d is another number",
                       job->size, s->n_ranks);
    PS_TRY(ps_job_load_index(job, PS_JOB_ALL_MODELS));
    ps_engine_params engine = {0};
    PS_TRY(ps_comm_agree(job->comm, prepare(s, job, &engine)));
    *base = ps_mem_resident();
    ps_plan_times times;
    PS_TRY(measure(s, job, engine.wait, &times));
    job->limits.chunk_overhead = ps_chunks_overhead_of(&times);
    const ps_err err = ps_job_make_plan(job, count_ranks(s, job), &times, plan);
    ps_plan_times_release(&times);
    PS_TRY(ps_comm_agree(job->comm, err));
    if (job->size > 1) return ps_placing_apply(job, plan);
    ps_placing_apply_alone(job, plan);
    return PS_OK;
}

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
    const size_t taken = shared ? base : ps_job_memory_taken(source);
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
    size_t base = 0;
    PS_TRY(s->measures ? make_measured_plan(s, job, &plan, &base)
                       : make_plan(s, job, &plan, &base));
    ps_err err = PS_OK;
    if (job->rank == 0) {
        err = print(s, job, &plan, base);
        if (!err) err = check_memory(&plan, base);
    }
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
                                    .check = check,
                                    .work = work,
                                    .state = &s};
    return ps_job_main_alone(&command, &job, argc, argv);
}
