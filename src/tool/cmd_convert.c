/* pipestep convert: a foreign model into a model file. */
#include <sys/stat.h>

#include "tool/commands.h"
#include "tool/import/convert.h"
#include "tool/job.h"

typedef struct state {
    const char *output;
} state;

static const ps_opt rows[] = {
    {"output", 'o', PS_OPT_TEXT, offsetof(state, output), 0, 0, NULL, NULL, "MODEL.h5",
     "the model file to write"},
};

static ps_err check(void *arg, ps_job *job)
{
    (void)job;
    const state *s = arg;
    return s->output ? PS_OK : PS_FAIL(PS_ERR_USAGE, "-o MODEL.h5 is missing");
}

static ps_err work(void *arg, ps_job *job)
{
    const state *s = arg;
    const char *source = job->parsed.positionals[0];
    struct stat status;
    if (stat(source, &status) == 0 && !S_ISDIR(status.st_mode))
        return ps_convert_gguf(source, s->output, job->run.progress);
    return ps_convert_directory(source, s->output, job->run.progress);
}

int ps_cmd_convert(int argc, char **argv)
{
    state s = {0};
    ps_job job = {0};
    ps_opt_group groups[] = {{"Conversion", rows, 1, &s}, ps_base_group(&job.run)};
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
