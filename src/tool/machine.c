#include "tool/machine.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "math/kernels.h"
#include "math/linear.h"
#include "math/panel.h"

enum { RUNS = 7, PIECES = 64, ROW_N = 5632, ROW_K = 2048 };

static const size_t READ_BYTES = (size_t)2 << 30;

typedef struct read_work {
    const ps_engine *engine;
    const char *base;
    size_t piece_bytes;
    float sums[PIECES];
} read_work;

static void read_piece(void *arg, int item, int thread)
{
    (void)thread;
    read_work *w = arg;
    w->sums[item] =
        w->engine->kernels->read(w->base + (size_t)item * w->piece_bytes, w->piece_bytes);
}

static void fma_piece(void *arg, int item, int thread)
{
    (void)thread;
    read_work *w = arg;
    w->sums[item] = w->engine->kernels->multiply(1 << 16);
}

typedef void timed_function(const ps_engine *engine, void *arg);

/* Seconds of the fastest run; the first is not counted. */
static double best_s(const ps_engine *engine, timed_function *function, void *arg)
{
    double best = 1e30;
    for (int run = 0; run <= RUNS; run++) {
        const int64_t begin = ps_clock_now_ns();
        function(engine, arg);
        const double s = ps_clock_seconds_between(begin, ps_clock_now_ns());
        if (run > 0 && s < best) best = s;
    }
    return best;
}

static void read_all(const ps_engine *engine, void *arg)
{
    ps_pool_run(engine->pool, PIECES, read_piece, arg);
}

static void multiply_all(const ps_engine *engine, void *arg)
{
    ps_pool_run(engine->pool, PIECES, fma_piece, arg);
}

typedef struct row_work {
    ps_linear weights[64];
    int n;
    const float *x;
    float *out;
    ps_linear_scratch scratch;
} row_work;

static void all_rows(const ps_engine *engine, void *arg)
{
    const row_work *w = arg;
    for (int i = 0; i < w->n; i++) {
        const ps_linear_call call =
            ps_linear_call_make(&w->weights[i], w->x, ROW_K, w->out, ROW_N, 1);
        ps_linear_forward(engine, &call, 1, &w->scratch);
    }
}

/* One-row products through as many matrices as the region holds, so that none is still in a cache.
 */
static double row_rate(const ps_engine *engine, ps_dtype dtype, const ps_region *region)
{
    row_work w = {0};
    const size_t bytes = ps_panel_bytes(dtype, ROW_K) * (size_t)ps_panel_count(ROW_N);
    w.x = ps_mem_new(ROW_K, sizeof *w.x);
    w.out = ps_mem_new(ROW_N, sizeof *w.out);
    w.scratch.bytes = ps_linear_scratch_bytes(engine->gemm, engine->activations,
                                              ps_pool_threads(engine->pool), 1, ROW_K);
    w.scratch.memory = ps_mem_new(w.scratch.bytes, 1);
    while (w.n < 64 && (size_t)(w.n + 1) * bytes <= region->bytes) {
        w.weights[w.n] = (ps_linear){.dtype = dtype,
                                     .n = ROW_N,
                                     .k = ROW_K,
                                     .panels = (const char *)region->base + (size_t)w.n * bytes};
        w.n++;
    }
    const double s = best_s(engine, all_rows, &w);
    ps_mem_free((void *)(uintptr_t)w.x);
    ps_mem_free(w.out);
    ps_mem_free(w.scratch.memory);
    return (double)w.n * (double)bytes * 1e-9 / s;
}

static ps_err take_memory(ps_region *region)
{
    PS_TRY(ps_region_take(READ_BYTES, "memory to read", region));
    // Untouched pages would all be the one page of zeros, and scales of mxfp4 that are 0 denormal numbers,
    // at half of the speed. These bytes are an ordinary number in each format.
    memset(region->base, 0x3c, READ_BYTES);
    return PS_OK;
}

static double read_rate(const ps_engine *engine, const ps_region *region)
{
    read_work w = {.engine = engine, .base = region->base, .piece_bytes = READ_BYTES / PIECES};
    return (double)READ_BYTES * 1e-9 / best_s(engine, read_all, &w);
}

ps_err ps_machine_measure_read(const ps_engine *engine, ps_machine *out)
{
    ps_region region;
    PS_TRY(take_memory(&region));
    out->read_gb_s = read_rate(engine, &region);
    ps_region_release(&region);
    return PS_OK;
}

void ps_machine_measure_fma(const ps_engine *engine, ps_machine *out)
{
    read_work w = {.engine = engine};
    const double flops = (double)PIECES * engine->kernels->flops_per_multiply * (1 << 16);
    out->fma_gflop_s = flops * 1e-9 / best_s(engine, multiply_all, &w);
}

ps_err ps_machine_measure(const ps_engine *engine, ps_machine *out)
{
    ps_region region;
    PS_TRY(take_memory(&region));
    out->read_gb_s = read_rate(engine, &region);
    ps_machine_measure_fma(engine, out);
    for (int t = 0; t < PS_DTYPE_COUNT; t++) {
        out->row_gb_s[t] = row_rate(engine, (ps_dtype)t, &region);
    }
    ps_region_release(&region);
    return PS_OK;
}
