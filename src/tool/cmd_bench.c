/* pipestep bench: a quick look at what this machine gives, or a random model to measure with. */
#include <string.h>

#include "base/clock.h"
#include "math/isa.h"
#include "math/kernels.h"
#include "tool/commands.h"
#include "tool/job.h"
#include "tool/machine.h"
#include "tool/synthetic.h"

typedef struct state {
    const char *synthetic, *output;
    int threads;
    bool limits;
} state;

static const ps_opt option_rows[] = {
    {"synthetic", 0, PS_OPT_TEXT, offsetof(state, synthetic), 0, 0, NULL, NULL, "SPEC",
     "writes a random model: llama-0.3b, llama-1.1b, tunes, acestep-0.6b, acestep-1.7b or "
     "acestep-4b, then ,key=value for layers d heads kv head_dim ff vocab window context type "
     "seed"},
    {"output", 'o', PS_OPT_TEXT, offsetof(state, output), 0, 0, NULL, NULL, "MODEL.h5",
     "with --synthetic: the model file to write"},
    {"threads", 't', PS_OPT_INT, offsetof(state, threads), 0, 1024, "0", NULL, "N",
     "threads of the measurement; 0: the cores this process may use"},
    {"limits", 0, PS_OPT_FLAG, offsetof(state, limits), 0, 0, NULL, NULL, NULL,
     "measures plain reads and multiply-adds alone, in two seconds"},
};

static ps_err check(void *arg, ps_job *job)
{
    (void)job;
    const state *s = arg;
    if (!s->synthetic != !s->output)
        return PS_FAIL(PS_ERR_USAGE, "--synthetic SPEC and -o MODEL.h5 go together");
    if (s->synthetic && s->limits)
        return PS_FAIL(PS_ERR_USAGE, "--synthetic and --limits exclude each other");
    return PS_OK;
}

static ps_err measure(const state *s, ps_job *job)
{
    job->run.threads = s->threads;
    job->run.isa = "auto";
    job->run.wait = PS_WAIT_AUTO;
    ps_engine_params params;
    PS_TRY(ps_job_engine_params(job, false, &params));
    PS_TRY(ps_engine_open(&params, &job->engine));
    ps_machine m;
    if (s->limits) {
        PS_TRY(ps_machine_measure_read(&job->engine, &m));
        ps_machine_measure_fma(&job->engine, &m);
    } else {
        PS_TRY(ps_machine_measure(&job->engine, &m));
    }
    ps_text text = {0};
    ps_text_appendf(&text, "# threads=%d isa=%s\nread_gb_s,fma_gflop_s\n%.2f,%.1f\n",
                    ps_pool_threads(job->engine.pool), job->engine.kernels->name, m.read_gb_s,
                    m.fma_gflop_s);
    if (!s->limits)
        ps_text_append_str(&text, "# one-row products, 2048 x 5632\ntype,gb_s,of_read\n");
    for (int t = 0; t < PS_DTYPE_COUNT && !s->limits; t++) {
        ps_text_appendf(&text, "%s,%.2f,%.3f\n", ps_dtype_name((ps_dtype)t), m.row_gb_s[t],
                        m.row_gb_s[t] / m.read_gb_s);
    }
    const ps_err err = ps_output_write(&job->output, text.data, text.len);
    ps_text_release(&text);
    return err;
}

static ps_err work(void *arg, ps_job *job)
{
    const state *s = arg;
    if (s->synthetic) return ps_synthetic_write(s->synthetic, s->output, job->run.progress);
    return measure(s, job);
}

int ps_cmd_bench(int argc, char **argv)
{
    state s = {0};
    ps_job job = {0};
    ps_opt_group groups[] = {{"Bench", option_rows, sizeof option_rows / sizeof option_rows[0], &s},
                             ps_base_group(&job.run)};
    const ps_job_command command = {.name = "bench",
                                    .groups = groups,
                                    .n_groups = 2,
                                    .check = check,
                                    .work = work,
                                    .state = &s};
    return ps_job_main_alone(&command, &job, argc, argv);
}
