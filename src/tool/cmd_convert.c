/* pipestep convert: a foreign model into a model file. */
#include <string.h>

#include "base/text.h"
#include "tool/commands.h"
#include "tool/import/convert.h"
#include "tool/job.h"

typedef struct state {
    const char *output;
    const char *type;
    ps_opt_list loras;
    ps_convert_options options;
} state;

static const ps_opt rows[] = {
    {"output", 'o', PS_OPT_TEXT, offsetof(state, output), 0, 0, NULL, NULL, "MODEL.h5",
     "the model file to write"},
    {"type", 0, PS_OPT_TEXT, offsetof(state, type), 0, 0, NULL, NULL, "TYPE",
     "writes the matrices as f32, f16, bf16, q8_0, q4_0 or q4_k, and says what that cost each"},
    {"lora", 0, PS_OPT_LIST_TEXT, offsetof(state, loras), 0, 0, NULL, NULL, "DIR[:SCALE]",
     "merges a PEFT adapter into the weights; may be given again"},
};

static ps_err check(void *arg, ps_job *job)
{
    (void)job;
    state *s = arg;
    if (!s->output) return PS_FAIL(PS_ERR_USAGE, "-o MODEL.h5 is missing");
    s->options.has_type = s->type != NULL;
    if (s->type &&
        !(ps_dtype_from_name(s->type, &s->options.type) && ps_dtype_can_narrow(s->options.type)))
        return PS_FAIL(PS_ERR_USAGE, "--type %s: wanted f32, f16, bf16, q8_0, q4_0 or q4_k",
                       s->type);
    s->options.loras = s->loras.items;
    s->options.n_loras = s->loras.count;
    return PS_OK;
}

static ps_err work(void *arg, ps_job *job)
{
    state *s = arg;
    s->options.progress = job->run.progress;
    return ps_convert_model(job->parsed.positionals[0], s->output, &s->options);
}

int ps_cmd_convert(int argc, char **argv)
{
    state s = {0};
    ps_job job = {0};
    ps_opt_group groups[] = {{"Conversion", rows, sizeof rows / sizeof rows[0], &s},
                             ps_base_group(&job.run)};
    static const char *const names[] = {"SOURCE"};
    const ps_job_command command = {.name = "convert",
                                    .groups = groups,
                                    .n_groups = 2,
                                    .positionals = {names, 1, 1},
                                    .check = check,
                                    .work = work,
                                    .state = &s};
    return ps_job_main_alone(&command, &job, argc, argv);
}
