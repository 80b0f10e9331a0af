/* Products with weight matrices: one row against the read bandwidth, many rows against the
 * multiply-add rate, and OpenBLAS on the same f32 shape beside them.
 *
 * The weights (2048 x 5632, as many matrices as fill half a GiB) are read from memory each time. */
#include <stdio.h>
#include <stdlib.h>

#include "harness.h"
#include "math/linear.h"
#include "math/panel.h"

enum { N = 5632, K = 2048, MATRICES_MAX = 64 };

typedef struct linear_work {
    const ps_engine *engine;
    ps_linear weights[MATRICES_MAX];
    int n_matrices, rows;
    const float *x;
    float *out;
} linear_work;

static void run_panels(void *arg)
{
    const linear_work *w = arg;
    for (int i = 0; i < w->n_matrices; i++) {
        const ps_linear_call call = {&w->weights[i], w->x, K, w->out, N, w->rows};
        ps_linear_forward(w->engine, &call, 1, NULL);
    }
}

static void run_blas(void *arg)
{
    const linear_work *w = arg;
    for (int i = 0; i < w->n_matrices; i++) {
        ps_linear_blas_product(w->rows, N, K, w->x, w->weights[i].panels, w->out);
    }
}

static void print_row(const linear_work *w, const char *engine, ps_dtype dtype, bench_time t,
                      double read_gb_s, double fma_gflop_s)
{
    const double bytes = (double)ps_linear_bytes(&w->weights[0]) * w->n_matrices;
    const double flops = 2.0 * w->rows * N * (double)K * w->n_matrices;
    const double least_s = bytes * 1e-9 / read_gb_s, busy_s = flops * 1e-9 / fma_gflop_s;
    const double limit_s = least_s > busy_s ? least_s : busy_s;
    printf("%s,%s,%d,%d,%.3f,%.3f,%.3f,%.2f,%.1f,%.3f\n", engine, ps_dtype_name(dtype), w->rows,
           t.runs, 1e3 * t.min_s, 1e3 * t.median_s, 1e3 * t.p90_s, bytes * 1e-9 / t.median_s,
           flops * 1e-9 / t.median_s, limit_s / t.median_s);
    fflush(stdout);
}

/* Values of ordinary size: multiplying denormal numbers would measure the processor's assists. */
static void fill(ps_dtype dtype, void *out, size_t n)
{
    enum { BLOCK = 4096 };
    float values[BLOCK];
    char *to = out;
    for (size_t at = 0; at < n; at += BLOCK) {
        const size_t count = n - at < BLOCK ? n - at : BLOCK;
        for (size_t i = 0; i < count; i++) {
            values[i] = (float)((at + i) * 2654435761u % 1000) * 1e-4f - 0.05f;
        }
        ps_dtype_narrow(dtype, values, count, to + at * ps_dtype_bytes(dtype));
    }
}

int main(int argc, char **argv)
{
    const int threads = argc > 1 ? atoi(argv[1]) : 1;
    static const int rows[] = {1, 2, 4, 8, 16, 32, 128, 512};
    const size_t bytes = (size_t)1 << 29;
    linear_work w = {0};
    const ps_engine engine = bench_engine(threads, argc > 2 ? argv[2] : "auto");
    w.engine = &engine;
    bench_header("linear", &engine);
    const double read_gb_s = bench_read_gb_s(&engine), fma_gflop_s = bench_fma_gflop_s(&engine);
    printf("# read_gb_s=%.2f\n# fma_gflop_s=%.1f\n", read_gb_s, fma_gflop_s);
    printf("engine,type,rows,runs,min_ms,median_ms,p90_ms,read_gb_s,rate_gflop_s,of_limit\n");
    char *memory = bench_memory(bytes);
    float *x = bench_memory((size_t)512 * K * sizeof(float));
    fill(PS_F32, x, (size_t)512 * K);
    w.x = x;
    w.out = bench_memory((size_t)512 * N * sizeof(float));
    for (int t = 0; t < PS_DTYPE_COUNT; t++) {
        fill((ps_dtype)t, memory, bytes / ps_dtype_bytes((ps_dtype)t));
        const size_t matrix = ps_panel_bytes((ps_dtype)t, K) * (size_t)ps_panel_count(N);
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            w.rows = rows[i];
            w.n_matrices = rows[i] >= 128 ? 2
                                          : (int)(bytes / matrix < MATRICES_MAX ? bytes / matrix
                                                                                : MATRICES_MAX);
            for (int m = 0; m < w.n_matrices; m++) {
                w.weights[m] = (ps_linear){
                    .dtype = (ps_dtype)t, .n = N, .k = K, .panels = memory + (size_t)m * matrix};
            }
            print_row(&w, "panel", (ps_dtype)t, bench_measure(run_panels, &w, 5, 0.5), read_gb_s,
                      fma_gflop_s);
            // BLAS runs on one thread inside our pool, so it is a yardstick for one thread.
            if (t == PS_F32 && threads == 1) {
                ps_linear_blas_prepare();
                print_row(&w, "openblas", PS_F32, bench_measure(run_blas, &w, 5, 0.5), read_gb_s,
                          fma_gflop_s);
            }
        }
    }
    return 0;
}
