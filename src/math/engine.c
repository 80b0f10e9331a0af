#include "math/engine.h"

#include "math/isa.h"
#include "math/linear.h"

const char *ps_activations_name(ps_activations activations)
{
    static const char *const names[PS_ACTIVATIONS_COUNT] = {"i16", "f32", "i8"};
    return names[activations];
}

ps_err ps_engine_open(const ps_engine_params *params, ps_engine *out)
{
    *out = (ps_engine){.gemm = params->gemm, .activations = params->activations};
    PS_TRY(ps_isa_kernels(params->isa, &out->kernels));
    if (params->gemm == PS_GEMM_BLAS) ps_linear_blas_prepare();
    return ps_pool_open(params->n_threads, params->processors, params->wait, &out->pool);
}

void ps_engine_close(ps_engine *engine)
{
    ps_pool_close(engine->pool);
    *engine = (ps_engine){0};
}
