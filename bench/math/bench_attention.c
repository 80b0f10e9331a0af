/* Attention of one layer without bias: a decode step and a prompt chunk at several depths of the
 * cache, over all of it and in a window. What a bias costs beyond that is in bench_bias.
 *
 *   bench_attention [THREADS [DEPTH]]      with DEPTH one row over all of that depth, nothing else */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "harness.h"
#include "math/attention.h"
#include "math/panel.h"

enum { HEADS = 32, KV_HEADS = 8, HEAD_DIM = 64, POSITIONS = 32768, CHUNK = 128, WINDOW = 1024 };

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

static void measure(attention_work *w, int rows, int64_t depth, int64_t window)
{
    w->job.shape.visible.window = window;
    w->run =
        (ps_attention_run){.n_rows = rows, .first_position = depth - rows, .view = w->run.view};
    const bench_time t = bench_measure(forward, w, 5, 0.3);
    const int64_t seen = window > 0 && window < depth ? window : depth;
    const double bytes = (double)seen * 2.0 * KV_HEADS * HEAD_DIM * sizeof(float);
    const double flops = 4.0 * rows * HEADS * HEAD_DIM * (double)seen;
    printf("%d,%lld,%lld,%d,%.4f,%.4f,%.4f,%.2f,%.1f\n", rows, (long long)depth, (long long)window,
           t.runs, 1e3 * t.min_s, 1e3 * t.median_s, 1e3 * t.p90_s, bytes * 1e-9 / t.median_s,
           flops * 1e-9 / t.median_s);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    const int threads = argc > 1 ? atoi(argv[1]) : 1;
    const int64_t only_depth = argc > 2 ? atoll(argv[2]) : 0;
    const ps_engine engine = bench_engine(threads, "auto");
    static ps_kv_layout layout;
    static char *pages[POSITIONS / PS_KV_PAGE];
    static ps_attention_block blocks[CHUNK];
    layout = ps_kv_layout_make(KV_HEADS, HEAD_DIM, 0, (ps_kv_types){0});
    take_pages(&layout, pages, POSITIONS / PS_KV_PAGE);
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
        .blocks = blocks,
        .scratch = bench_memory(ps_attention_scratch_floats(threads, HEADS / KV_HEADS, HEAD_DIM) *
                                sizeof(float))};
    bench_header("attention", &engine);
    printf("# heads=%d\n# kv_heads=%d\n# head_dim=%d\n", HEADS, KV_HEADS, HEAD_DIM);
    printf("rows,depth,window,runs,min_ms,median_ms,p90_ms,read_gb_s,rate_gflop_s\n");
    static const int64_t depths[] = {256, 1024, 8192, 32768};
    static const int rows[] = {1, CHUNK};
    if (only_depth > 0 && only_depth <= POSITIONS) {
        measure(&w, 1, only_depth, 0);
        return 0;
    }
    for (size_t d = 0; d < sizeof depths / sizeof depths[0]; d++) {
        for (size_t r = 0; r < 2; r++) {
            measure(&w, rows[r], depths[d], 0);
            measure(&w, rows[r], depths[d], WINDOW);
        }
    }
    return 0;
}
