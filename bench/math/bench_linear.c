/* Products with weight matrices: one row against the read bandwidth, many rows against the
 * multiply-add rate, and OpenBLAS on the same f32 shape beside them. Quantised weights with every
 * kind of activations, or those listed.
 *
 *   bench_linear [THREADS [ISA [TYPE,TYPE... [ACTIVATIONS,...]]]]      all for the last two: every one
 *
 * The weights (2048 x 5632) are read from memory each time: as many matrices as fill half a GiB; a
 * quarter of that from 8 rows on, which are busy for long enough. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "math/linear.h"
#include "math/panel.h"
#include "math/quant.h"

enum { N = 5632, K = 2048, MATRICES_MAX = 64 };

typedef struct linear_work {
    ps_engine engine;
    ps_linear weights[MATRICES_MAX];
    int n_matrices, rows;
    const float *x;
    float *out;
    ps_linear_scratch scratch;
} linear_work;

typedef struct limits {
    double read_gb_s, fma_gflop_s;
} limits;

static void run_panels(void *arg)
{
    const linear_work *w = arg;
    for (int i = 0; i < w->n_matrices; i++) {
        const ps_linear_call call =
            ps_linear_call_make(&w->weights[i], w->x, K, w->out, N, w->rows);
        ps_linear_forward(&w->engine, &call, 1, &w->scratch);
    }
}

static void run_blas(void *arg)
{
    const linear_work *w = arg;
    for (int i = 0; i < w->n_matrices; i++) {
        ps_linear_blas_product(w->rows, N, K, w->x, w->weights[i].panels, w->out);
    }
}

/* of_limit: against plain reads or the f32 multiply-add rate, whichever bounds f32 arithmetic;
 * integers may pass 1 with many rows. */
static void print_row(const linear_work *w, const char *engine, bench_time t, const limits *l)
{
    const ps_dtype dtype = w->weights[0].dtype;
    const double bytes = (double)ps_linear_bytes(&w->weights[0]) * w->n_matrices;
    const double flops = 2.0 * w->rows * N * (double)K * w->n_matrices;
    const double least_s = bytes * 1e-9 / l->read_gb_s, busy_s = flops * 1e-9 / l->fma_gflop_s;
    const double limit_s = least_s > busy_s ? least_s : busy_s;
    const char *activations =
        ps_dtype_is_quantised(dtype) ? ps_activations_name(w->engine.activations) : "f32";
    printf("%s,%s,%s,%d,%d,%.3f,%.3f,%.3f,%.2f,%.1f,%.3f\n", engine, ps_dtype_name(dtype),
           activations, w->rows, t.runs, 1e3 * t.min_s, 1e3 * t.median_s, 1e3 * t.p90_s,
           bytes * 1e-9 / t.median_s, flops * 1e-9 / t.median_s, limit_s / t.median_s);
    fflush(stdout);
}

/* Values of ordinary size: multiplying denormal numbers would measure the processor's assists. */
static void fill_floats(ps_dtype dtype, void *out, size_t n)
{
    enum { BLOCK = 4096 };
    float values[BLOCK];
    char *to = out;
    for (size_t at = 0; at < n; at += BLOCK) {
        const size_t count = n - at < BLOCK ? n - at : BLOCK;
        for (size_t i = 0; i < count; i++) {
            values[i] = (float)((at + i) * 2654435761u % 1000) * 1e-4f - 0.05f;
        }
        ps_dtype_narrow(dtype, values, count, to + at * ps_dtype_block_bytes(dtype));
    }
}

/* Packed blocks of any codes, with ordinary scales. */
static void fill_blocks(ps_dtype dtype, char *out, size_t bytes)
{
    const size_t block = ps_dtype_block_bytes(dtype) * PS_PANEL_LANES;
    const ps_quant_scales scales = ps_quant_formats[dtype].scales;
    for (size_t at = 0; at + block <= bytes; at += block) {
        for (size_t i = 0; i < block; i++) {
            out[at + i] = (char)((at / block * 40503u + i) * 2654435761u >> 13);
        }
        const int halves = ps_quant_has_min(scales) ? 2 * PS_PANEL_LANES : PS_PANEL_LANES;
        for (int i = 0; i < halves; i++) {
            const uint16_t half = 0x2000; // 2^-7
            memcpy(out + at + (size_t)i * sizeof half, &half, sizeof half);
        }
        if (scales == PS_SCALES_POWER) memset(out + at, 120, PS_PANEL_LANES);
    }
}

static void fill(ps_dtype dtype, char *out, size_t bytes)
{
    if (ps_dtype_is_quantised(dtype)) {
        fill_blocks(dtype, out, bytes);
    } else {
        fill_floats(dtype, out, bytes / ps_dtype_block_bytes(dtype));
    }
}

static void measure(linear_work *w, ps_dtype dtype, const char *memory, size_t bytes,
                    const limits *l)
{
    static const int rows[] = {1, 2, 4, 8, 16, 32, 128, 512};
    const size_t matrix = ps_panel_bytes(dtype, K) * (size_t)ps_panel_count(N);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        w->rows = rows[i];
        const int fitting = (int)((rows[i] < 8 ? bytes : bytes / 4) / matrix);
        w->n_matrices = rows[i] >= 128 ? 1 : fitting < MATRICES_MAX ? fitting : MATRICES_MAX;
        for (int m = 0; m < w->n_matrices; m++) {
            w->weights[m] =
                (ps_linear){.dtype = dtype, .n = N, .k = K, .panels = memory + (size_t)m * matrix};
        }
        print_row(w, "panel", bench_measure(run_panels, w, 5, 0.3), l);
        // BLAS runs on one thread inside our pool, so it is a yardstick for one thread.
        if (dtype == PS_F32 && ps_pool_threads(w->engine.pool) == 1) {
            ps_linear_blas_prepare();
            print_row(w, "openblas", bench_measure(run_blas, w, 5, 0.3), l);
        }
    }
}

/* Whether `name` is one of the words of a list with commas; everything is in "all". */
static bool is_listed(const char *list, const char *name)
{
    if (strcmp(list, "all") == 0) return true;
    const size_t n = strlen(name);
    for (const char *at = list; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, n) == 0 && (at[n] == ',' || at[n] == '\0')) return true;
    }
    return false;
}

int main(int argc, char **argv)
{
    enum { ROWS_MAX = 512 };
    const int threads = argc > 1 ? atoi(argv[1]) : 1;
    const char *types = argc > 3 ? argv[3] : "all", *activations = argc > 4 ? argv[4] : "all";
    const size_t bytes = (size_t)1 << 29;
    linear_work w = {.engine = bench_engine(threads, argc > 2 ? argv[2] : "auto")};
    bench_header("linear", &w.engine);
    const limits l = {bench_read_gb_s(&w.engine), bench_fma_gflop_s(&w.engine)};
    printf("# read_gb_s=%.2f\n# fma_gflop_s=%.1f\n", l.read_gb_s, l.fma_gflop_s);
    printf("engine,type,activations,rows,runs,min_ms,median_ms,p90_ms,read_gb_s,rate_gflop_s,"
           "of_limit\n");
    char *memory = bench_memory(bytes);
    float *x = bench_memory((size_t)ROWS_MAX * K * sizeof(float));
    fill_floats(PS_F32, x, (size_t)ROWS_MAX * K);
    w.x = x;
    w.out = bench_memory((size_t)ROWS_MAX * N * sizeof(float));
    w.scratch.bytes =
        ps_linear_scratch_bytes(PS_GEMM_PANEL, PS_ACTIVATIONS_I16, threads, ROWS_MAX, K);
    w.scratch.memory = bench_memory(w.scratch.bytes);
    for (int t = 0; t < PS_DTYPE_COUNT; t++) {
        if (!is_listed(types, ps_dtype_name((ps_dtype)t))) continue;
        fill((ps_dtype)t, memory, bytes);
        const bool has_kinds = ps_dtype_is_quantised((ps_dtype)t);
        for (int a = 0; a < (has_kinds ? PS_ACTIVATIONS_COUNT : 1); a++) {
            if (has_kinds && !is_listed(activations, ps_activations_name((ps_activations)a)))
                continue;
            w.engine.activations = (ps_activations)a;
            measure(&w, (ps_dtype)t, memory, bytes, &l);
        }
    }
    return 0;
}
