/* What each bias provider costs: attention of one layer with it, relative to none, for a decode step
 * and a prompt chunk, at a depth and in a window.
 *
 *   bench_bias [THREADS]
 *
 * Runs with and without take turns, so that a machine that slows down does so for both. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "harness.h"
#include "math/attention.h"
#include "math/panel.h"

enum { HEADS = 16, KV_HEADS = 4, HEAD_DIM = 64, DEPTH = 1024, CHUNK = 128, TURNS = 7 };
enum { BUCKETS = 32, FIRE_WIDTH = 32 };

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

static float *filled(size_t n, float low, float high)
{
    float *values = bench_memory(n * sizeof *values);
    for (size_t i = 0; i < n; i++) {
        values[i] = low + (high - low) * (float)(i * 37 % 127) / 126.0f;
    }
    return values;
}

/* A provider of a kind with numbers of the size that trained ones have. */
static ps_bias make_bias(ps_bias_kind kind)
{
    ps_bias b = {.kind = kind,
                 .n_heads = HEADS,
                 .n_kv_heads = KV_HEADS,
                 .head_dim = HEAD_DIM,
                 .scale = 0.125f,
                 .span = DEPTH,
                 .n_buckets = BUCKETS,
                 .max_distance = 128,
                 .dim = 128,
                 .slopes = filled(HEADS, 0.01f, 0.5f),
                 .buckets = filled(BUCKETS * HEADS, -2.0f, 2.0f),
                 .p = filled(HEADS, 0.1f, 1.0f),
                 .a = filled(HEADS, 0.1f, 1.0f),
                 .u = filled(HEADS * HEAD_DIM, -0.5f, 0.5f),
                 .v = filled(HEADS * HEAD_DIM, -0.5f, 0.5f)};
    if (kind == PS_BIAS_REL_POS)
        b.table = filled(ps_bias_table_floats(HEADS, HEAD_DIM, DEPTH, 0), -0.5f, 0.5f);
    if (ps_bias_is_of_distance(kind)) {
        float *table = bench_memory(ps_bias_distance_floats(&b) * sizeof *table);
        ps_bias_make_distances(&b, table);
        b.table = table;
    }
    if (kind == PS_BIAS_FIRE) {
        static const float scalars[3] = {0.1f, 1.0f, 512.0f};
        const ps_bias_fire_weights w = {FIRE_WIDTH,
                                        filled(FIRE_WIDTH, -2.0f, 2.0f),
                                        filled(FIRE_WIDTH, -1.0f, 1.0f),
                                        filled(FIRE_WIDTH * HEADS, -0.5f, 0.5f),
                                        filled(HEADS, -0.5f, 0.5f),
                                        scalars};
        ps_bias_make_fire(&w, bench_memory(ps_bias_fire_doubles(&b, FIRE_WIDTH) * sizeof(double)),
                          &b);
    }
    return b;
}

static double fastest_ms(attention_work *w, const ps_bias *bias)
{
    w->job.biases = bias;
    w->job.n_biases = bias ? 1 : 0;
    return 1e3 * bench_measure(forward, w, 5, 0.02).min_s;
}

/* The fastest runs of all turns: what else runs on the machine can only slow them. */
static void measure(attention_work *w, ps_bias_kind kind, int rows, int64_t window)
{
    const ps_bias bias = make_bias(kind);
    double with = INFINITY, without = INFINITY;
    w->job.shape.visible.window = window;
    w->run.n_rows = rows;
    w->run.first_position = DEPTH - rows;
    for (int i = 0; i < TURNS; i++) {
        without = fmin(without, fastest_ms(w, NULL));
        with = fmin(with, fastest_ms(w, &bias));
    }
    printf("%s,%d,%d,%lld,%.4f,%.4f,%.3f\n", ps_bias_kind_name(kind), rows, DEPTH,
           (long long)window, without, with, with / without);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    const int threads = argc > 1 ? atoi(argv[1]) : 1;
    const ps_engine engine = bench_engine(threads, "auto");
    static char *pages[DEPTH / PS_KV_PAGE];
    static ps_attention_block blocks[CHUNK];
    const ps_kv_layout layout = ps_kv_layout_make(KV_HEADS, HEAD_DIM, 2 * HEADS, (ps_kv_types){0});
    char *memory =
        (char *)filled(DEPTH / PS_KV_PAGE * layout.page_bytes / sizeof(float), -0.1f, 0.1f);
    for (int p = 0; p < DEPTH / PS_KV_PAGE; p++) {
        pages[p] = memory + (size_t)p * layout.page_bytes;
    }
    const size_t width = HEADS * HEAD_DIM;
    attention_work w = {.engine = &engine};
    w.run.view = (ps_kv_view){.layout = &layout, .pages = pages, .n_pages = DEPTH / PS_KV_PAGE};
    w.job = (ps_attention_job){
        .shape = {.n_heads = HEADS, .n_kv_heads = KV_HEADS, .head_dim = HEAD_DIM, .scale = 0.125f},
        .runs = &w.run,
        .n_runs = 1,
        .q = filled(CHUNK * width, -0.5f, 0.5f),
        .q_stride = width,
        .out = bench_memory(CHUNK * width * sizeof(float)),
        .out_stride = width,
        .features = filled(CHUNK * width, -0.5f, 0.5f),
        .feature_stride = width,
        .blocks = blocks,
        .scratch = bench_memory(ps_attention_scratch_floats(threads, HEADS / KV_HEADS, HEAD_DIM) *
                                sizeof(float))};
    bench_header("bias", &engine);
    printf("# heads=%d\n# kv_heads=%d\n# head_dim=%d\n", HEADS, KV_HEADS, HEAD_DIM);
    printf("bias,rows,depth,window,none_ms,min_ms,of_none\n");
    static const int rows[] = {1, CHUNK};
    static const int64_t windows[] = {0, 256};
    for (int kind = 0; kind < PS_BIAS_CUSTOM; kind++) {
        for (int i = 0; i < 4; i++) {
            measure(&w, (ps_bias_kind)kind, rows[i / 2], windows[i % 2]);
        }
    }
    return 0;
}
