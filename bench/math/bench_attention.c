/* Attention of one layer: a decode step and a prompt chunk at several depths of the cache, without
 * bias, with ALiBi, and with the relative-position bias; the cost of a bias is the ratio to the row
 * without. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "harness.h"
#include "math/attention.h"
#include "math/panel.h"

enum { HEADS = 32, KV_HEADS = 8, HEAD_DIM = 64, POSITIONS = 32768, CHUNK = 128 };

typedef struct attention_work {
    const ps_engine *engine;
    ps_attention_job job;
    ps_attention_run run;
} attention_work;

static void forward(void *arg)
{
    const attention_work *w = arg;
    ps_attention_forward(w->engine, &w->job);
}

static void take_pages(ps_kv_layout *layout, char **pages, int n_pages)
{
    char *memory = bench_memory((size_t)n_pages * layout->page_bytes);
    float *values = (float *)(void *)memory;
    for (size_t i = 0; i < (size_t)n_pages * layout->page_bytes / sizeof(float); i++) {
        values[i] = (float)(i % 251) * 0.001f - 0.125f;
    }
    for (int p = 0; p < n_pages; p++) {
        pages[p] = memory + (size_t)p * layout->page_bytes;
    }
}

static const float *filled(size_t n)
{
    float *values = bench_memory(n * sizeof *values);
    for (size_t i = 0; i < n; i++) {
        values[i] = (float)(i % 127) * 0.01f - 0.5f;
    }
    return values;
}

static void measure(attention_work *w, const char *bias, int n_biases, int rows, int64_t depth,
                    int64_t window)
{
    w->job.n_biases = n_biases;
    w->job.shape.visible.window = window;
    w->run =
        (ps_attention_run){.n_rows = rows, .first_position = depth - rows, .view = w->run.view};
    const bench_time t = bench_measure(forward, w, 5, 0.3);
    const int64_t seen = window > 0 && window < depth ? window : depth;
    const double bytes = (double)seen * 2.0 * KV_HEADS * HEAD_DIM * sizeof(float);
    const double flops = 4.0 * rows * HEADS * HEAD_DIM * (double)seen;
    printf("%s,%d,%lld,%lld,%d,%.4f,%.4f,%.4f,%.2f,%.1f\n", bias, rows, (long long)depth,
           (long long)window, t.runs, 1e3 * t.min_s, 1e3 * t.median_s, 1e3 * t.p90_s,
           bytes * 1e-9 / t.median_s, flops * 1e-9 / t.median_s);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    const int threads = argc > 1 ? atoi(argv[1]) : 1;
    const int64_t only_depth = argc > 2 ? atoll(argv[2]) : 0; // one row at this depth, nothing else
    const ps_engine engine = bench_engine(threads, "auto");
    static ps_kv_layout layout;
    static char *pages[POSITIONS / PS_KV_PAGE];
    static ps_attention_block blocks[CHUNK];
    float slopes[HEADS];
    layout = ps_kv_layout_make(KV_HEADS, HEAD_DIM, HEADS, (ps_kv_types){0});
    take_pages(&layout, pages, POSITIONS / PS_KV_PAGE);
    ps_bias_alibi_slopes(HEADS, 8.0, 1.0, slopes);
    const int64_t span = 1024;
    ps_bias bias = {.kind = PS_BIAS_ALIBI,
                    .n_heads = HEADS,
                    .n_kv_heads = KV_HEADS,
                    .head_dim = HEAD_DIM,
                    .scale = 0.125f,
                    .span = span,
                    .slopes = slopes,
                    .u = filled(HEADS * HEAD_DIM),
                    .v = filled(HEADS * HEAD_DIM),
                    .table = filled(ps_bias_table_floats(HEADS, HEAD_DIM, span, 0))};
    attention_work w = {.engine = &engine};
    w.run.view = (ps_kv_view){.layout = &layout, .pages = pages, .n_pages = POSITIONS / PS_KV_PAGE};
    const size_t width = HEADS * HEAD_DIM;
    w.job = (ps_attention_job){
        .shape = {.n_heads = HEADS, .n_kv_heads = KV_HEADS, .head_dim = HEAD_DIM, .scale = 0.125f},
        .runs = &w.run,
        .n_runs = 1,
        .q = filled(CHUNK * width),
        .q_stride = width,
        .out = bench_memory(CHUNK * width * sizeof(float)),
        .out_stride = width,
        .biases = &bias,
        .features = filled(CHUNK * width),
        .feature_stride = width,
        .blocks = blocks,
        .scratch = bench_memory(ps_attention_scratch_floats(threads, HEADS / KV_HEADS, HEAD_DIM) *
                                sizeof(float))};
    bench_header("attention", &engine);
    printf("# heads=%d\n# kv_heads=%d\n# head_dim=%d\n", HEADS, KV_HEADS, HEAD_DIM);
    printf("bias,rows,depth,window,runs,min_ms,median_ms,p90_ms,read_gb_s,rate_gflop_s\n");
    static const int64_t depths[] = {256, 1024, 8192, 32768};
    static const int rows[] = {1, CHUNK};
    if (only_depth > 0 && only_depth <= POSITIONS) {
        measure(&w, "none", 0, 1, only_depth, 0);
        return 0;
    }
    for (size_t d = 0; d < sizeof depths / sizeof depths[0]; d++) {
        for (size_t r = 0; r < 2; r++) {
            measure(&w, "none", 0, rows[r], depths[d], 0);
            measure(&w, "none", 0, rows[r], depths[d], span);
            bias.kind = PS_BIAS_ALIBI;
            measure(&w, "alibi", 1, rows[r], depths[d], span);
            bias.kind = PS_BIAS_REL_POS;
            measure(&w, "rel_pos", 1, rows[r], depths[d], span);
        }
    }
    return 0;
}
