#include "support/engines.h"

#include <check.h>

#include "math/isa.h"

static ps_engine open_named(const char *isa, int n_threads, ps_gemm gemm)
{
    const ps_engine_params params = {
        .isa = isa, .n_threads = n_threads, .wait = PS_WAIT_SHARED, .gemm = gemm};
    ps_engine engine;
    const ps_err err = ps_engine_open(&params, &engine);
    ck_assert_msg(err == PS_OK, "engine: %s", ps_err_message());
    return engine;
}

ps_engine engines_open(int n_threads)
{
    return open_named("auto", n_threads, PS_GEMM_PANEL);
}

ps_engine engines_open_isa(int isa, int n_threads, ps_gemm gemm)
{
    return open_named(ps_isa_name(isa), n_threads, gemm);
}

engines_all engines_open_all(void)
{
    engines_all all = {0};
    for (int isa = 0; isa < ps_isa_count(); isa++) {
        if (!ps_isa_supported(isa)) continue;
        for (int n_threads = 1; n_threads <= ENGINES_THREADS_MAX; n_threads++) {
            all.n_threads[all.n] = n_threads;
            all.engine[all.n++] = engines_open_isa(isa, n_threads, PS_GEMM_PANEL);
        }
    }
    return all;
}

void engines_close_all(engines_all *all)
{
    for (int e = 0; e < all->n; e++) {
        ps_engine_close(&all->engine[e]);
    }
    all->n = 0;
}
