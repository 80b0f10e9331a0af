#include "serve/rehearsal.h"

#include <assert.h>

#include "serve/sampler.h"

typedef struct drawer {
    ps_sampler *sampler;
    ps_sampler_work *work;
} drawer;

static ps_err draw(void *arg, const float *logits, const ps_id_range *ids)
{
    const drawer *d = arg;
    const ps_sampler_input in = {.logits = logits, .ranges = ids, .n_ranges = ids ? 1 : 0};
    int32_t token;
    return ps_sampler_pick(d->sampler, d->work, &in, &token);
}

ps_err ps_rehearsal_run(const ps_stage_params *params, int rows, ps_plan_times *out)
{
    if (ps_comm_rank(params->comm) != 0) return ps_trial_run(params, rows, NULL, out);
    const int V = params->ckpt->spec.vocab_size;
    const ps_sample_params sampling = ps_sample_params_default();
    drawer d = {.work = ps_sampler_work_new(V)};
    ps_err err = ps_sampler_new(&sampling, V, &d.sampler);
    assert(!err); // nothing in the defaults is out of range
    err = ps_trial_run(params, rows, &(ps_trial_draw){draw, &d}, out);
    ps_sampler_free(d.sampler);
    ps_sampler_work_free(d.work);
    return err;
}
