#include "support/ranks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "support/scratch.h"

static struct {
    ps_comm *comm;
    ps_watch *watch;
    double timeout_s;
    ps_text directory;
} world;

static void must(ps_err err)
{
    if (!err) return;
    fprintf(stderr, "%s\n", ps_err_message());
    if (world.comm) ps_comm_abort(world.comm, EXIT_FAILURE);
    exit(EXIT_FAILURE);
}

void ranks_open(double timeout_s)
{
    must(timeout_s > 0.0 ? ps_comm_open(timeout_s, &world.comm)
                         : ps_comm_open_blocking(&world.comm));
    world.timeout_s = timeout_s;
    if (ranks_rank() == 0) {
        char name[] = "/tmp/pipestep-test-XXXXXX";
        if (!mkdtemp(name)) must(PS_FAIL(PS_ERR_IO, "%s: cannot be made", name));
        ps_text_append_str(&world.directory, name);
    }
    must(ps_comm_broadcast(world.comm, &world.directory));
}

void ranks_meet(void)
{
    must(ps_comm_agree(world.comm, PS_OK));
}

TCase *ranks_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);
    tcase_add_checked_fixture(tcase, ranks_meet, NULL);
    suite_add_tcase(suite, tcase);
    return tcase;
}

int ranks_run(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    // Said as it happens: the others may end this rank before the summary.
    srunner_set_log(runner, "-");
    srunner_run_all(runner, CK_NORMAL);
    const int status = srunner_ntests_failed(runner) ? EXIT_FAILURE : EXIT_SUCCESS;
    srunner_free(runner);
    ranks_meet();
    if (world.watch) ps_watch_close(world.watch);
    if (ranks_rank() == 0) scratch_try_remove(world.directory.data);
    ps_text_release(&world.directory);
    ps_comm_close(world.comm);
    return status;
}

ps_comm *ranks_comm(void)
{
    return world.comm;
}

int ranks_size(void)
{
    return ps_comm_size(world.comm);
}

int ranks_rank(void)
{
    return ps_comm_rank(world.comm);
}

ps_watch *ranks_watch(void)
{
    if (!world.watch) world.watch = ps_watch_open(world.comm, world.timeout_s);
    return world.watch;
}

char *ranks_path(const char *name)
{
    ps_text path = {0};
    ps_text_appendf(&path, "%s/%s", world.directory.data, name);
    return ps_text_take(&path);
}

/* Rank 0 writes the model and opens it; the others get its index. */
static void share_model(const ranks_pipeline_params *params, ranks_pipeline *p)
{
    char *path = ranks_path("model.h5");
    ps_text index = {0};
    if (ranks_rank() == 0) {
        must(tiny_model_convert(params->model, path));
        must(ps_ckpt_open(path, &p->ckpt));
        ps_ckpt_pack(&p->ckpt, &index);
    }
    must(ps_comm_broadcast(world.comm, &index));
    if (ranks_rank() != 0) must(ps_ckpt_unpack(index.data, index.len, path, &p->ckpt));
    ranks_meet();
    if (params->path) {
        ps_mem_free(p->ckpt.path);
        p->ckpt.path = ps_mem_copy_text(params->path);
    }
    ps_text_release(&index);
    ps_mem_free(path);
}

void ranks_pipeline_prepare(const ranks_pipeline_params *params, ranks_pipeline *out)
{
    *out = (ranks_pipeline){0};
    share_model(params, out);
    const int n_threads = params->n_threads > 0 ? params->n_threads : 1;
    must(ps_engine_open(&(ps_engine_params){.n_threads = n_threads, .wait = PS_WAIT_SHARED},
                        &out->engine));
    const ps_plan_params plan = {.ckpt = &out->ckpt,
                                 .n_stages = ranks_size(),
                                 .limits = params->limits,
                                 .n_threads = n_threads,
                                 .in_flight = params->in_flight};
    must(ps_plan_make(&plan, &out->plan));
}

ps_stage_params ranks_pipeline_stage(const ranks_pipeline *p)
{
    return (ps_stage_params){.comm = world.comm,
                             .watch = ranks_watch(),
                             .ckpt = &p->ckpt,
                             .plan = &p->plan,
                             .engine = &p->engine,
                             .verify = PS_VERIFY_ALWAYS,
                             .wait = PS_WAIT_SHARED};
}

ps_err ranks_pipeline_open(const ranks_pipeline_params *params, ranks_pipeline *out)
{
    ranks_pipeline_prepare(params, out);
    const ps_stage_params stage = ranks_pipeline_stage(out);
    return ps_pipeline_open(&stage, &out->pipeline);
}

void ranks_pipeline_close(ranks_pipeline *p)
{
    ps_pipeline_close(p->pipeline);
    ps_plan_release(&p->plan);
    ps_engine_close(&p->engine);
    ps_ckpt_close(&p->ckpt);
    *p = (ranks_pipeline){0};
}
