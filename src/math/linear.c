/* Deals panels over the pool. An item is a run of panels of one matrix: long enough that the memory
 * streams (about 256 KiB of weights), short enough that the threads end together. The split changes
 * nothing in the sums, since a panel is never divided.
 *
 * With --gemm blas the panels of an item are widened into a [K][64] strip and multiplied by sgemm;
 * its sums depend on the number of rows, which is why that engine is an option and not the default.
 */
#include "math/linear.h"

#include <assert.h>
#include <cblas.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "math/kernels.h"
#include "math/panel.h"

enum { ITEM_BYTES = 256 * 1024, ITEMS_PER_THREAD = 4, BLAS_PANELS = 4 };

typedef struct work {
    const ps_engine *engine;
    const ps_linear_call *calls;
    int n_calls;
    int panels_per_item[PS_LINEAR_CALLS_MAX];
    int first_item[PS_LINEAR_CALLS_MAX + 1];
    float *blas_scratch;
    size_t blas_stride; // floats of scratch for one thread
} work;

size_t ps_linear_bytes(const ps_linear *w)
{
    return (size_t)ps_panel_count(w->n) * ps_panel_bytes(w->dtype, w->k);
}

static void add_bias(const ps_engine *engine, const ps_linear_call *call, int panel, int panels)
{
    if (!call->weight->bias) return;
    const size_t at = (size_t)panel * PS_PANEL_LANES;
    for (int r = 0; r < call->rows; r++) {
        engine->kernels->add(call->weight->bias + at, call->out + (size_t)r * call->out_stride + at,
                             panels * PS_PANEL_LANES);
    }
}

static void panel_item(const work *w, const ps_linear_call *call, int panel, int panels)
{
    const ps_linear *weight = call->weight;
    const size_t panel_bytes = ps_panel_bytes(weight->dtype, weight->k);
    const ps_panel_job job = {
        .dtype = weight->dtype,
        .rows = call->rows,
        .panels = panels,
        .k = weight->k,
        .weights = (const char *)weight->panels + (size_t)panel * panel_bytes,
        .k_stride = PS_PANEL_LANES,
        .panel_stride = (size_t)weight->k * PS_PANEL_LANES,
        .x = call->x,
        .x_stride = call->x_stride,
        .out = call->out + (size_t)panel * PS_PANEL_LANES,
        .out_stride = call->out_stride,
    };
    w->engine->kernels->panel_product(&job);
}

static void blas_item(const work *w, const ps_linear_call *call, int panel, int panels, int thread)
{
    const ps_linear *weight = call->weight;
    const size_t panel_bytes = ps_panel_bytes(weight->dtype, weight->k);
    const int width = panels * PS_PANEL_LANES;
    float *strip = w->blas_scratch + (size_t)thread * w->blas_stride;
    float *panel_f32 = strip + (size_t)weight->k * BLAS_PANELS * PS_PANEL_LANES;
    for (int p = 0; p < panels; p++) {
        ps_dtype_widen(weight->dtype,
                       (const char *)weight->panels + (size_t)(panel + p) * panel_bytes,
                       (size_t)weight->k * PS_PANEL_LANES, panel_f32);
        for (int k = 0; k < weight->k; k++) {
            memcpy(strip + (size_t)k * (size_t)width + (size_t)p * PS_PANEL_LANES,
                   panel_f32 + (size_t)k * PS_PANEL_LANES, PS_PANEL_LANES * sizeof(float));
        }
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, call->rows, width, weight->k, 1.0f,
                call->x, (int)call->x_stride, strip, width, 0.0f,
                call->out + (size_t)panel * PS_PANEL_LANES, (int)call->out_stride);
}

/* Whether the call goes to BLAS. */
static bool uses_blas(const work *w, const ps_linear_call *call)
{
    return w->blas_scratch && call->rows >= PS_LINEAR_BLAS_ROWS;
}

/* The call that an item belongs to: first_item ascends. */
static int call_of(const work *w, int item)
{
    int low = 0, high = w->n_calls - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (w->first_item[middle] <= item) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

static void run_item(void *arg, int item, int thread)
{
    const work *w = arg;
    const int c = call_of(w, item);
    const ps_linear_call *call = &w->calls[c];
    const int per_item = w->panels_per_item[c];
    const int panel = (item - w->first_item[c]) * per_item;
    const int left = ps_panel_count(call->weight->n) - panel;
    const int panels = left < per_item ? left : per_item;
    if (uses_blas(w, call)) {
        blas_item(w, call, panel, panels, thread);
    } else {
        panel_item(w, call, panel, panels);
    }
    add_bias(w->engine, call, panel, panels);
}

/* Panels of one item: a multiple of four (the one-row kernel's width) of about ITEM_BYTES, fewer
 * when there would be too few items for the threads. */
static int choose_panels(const ps_linear *weight, int n_threads)
{
    const int count = ps_panel_count(weight->n);
    int panels = (int)(ITEM_BYTES / ps_panel_bytes(weight->dtype, weight->k));
    const int fair = count / (n_threads * ITEMS_PER_THREAD);
    if (panels > fair) panels = fair;
    return panels < 4 ? 4 : panels / 4 * 4;
}

void ps_linear_forward(const ps_engine *engine, const ps_linear_call *calls, int n_calls,
                       float *blas_scratch)
{
    assert(n_calls >= 1 && n_calls <= PS_LINEAR_CALLS_MAX);
    const int n_threads = ps_pool_threads(engine->pool);
    work w = {.engine = engine,
              .calls = calls,
              .n_calls = n_calls,
              .blas_scratch = engine->gemm == PS_GEMM_BLAS ? blas_scratch : NULL};
    int k_max = 0;
    for (int c = 0; c < n_calls; c++) {
        const ps_linear *weight = calls[c].weight;
        assert(weight->k >= 1 && weight->n >= 1);
        assert(calls[c].out_stride >= (size_t)ps_panel_count(weight->n) * PS_PANEL_LANES);
        w.panels_per_item[c] =
            uses_blas(&w, &calls[c]) ? BLAS_PANELS : choose_panels(weight, n_threads);
        const int items =
            (ps_panel_count(weight->n) + w.panels_per_item[c] - 1) / w.panels_per_item[c];
        w.first_item[c + 1] = w.first_item[c] + items;
        if (weight->k > k_max) k_max = weight->k;
    }
    w.blas_stride = ps_linear_scratch_floats(PS_GEMM_BLAS, 1, k_max);
    ps_pool_run(engine->pool, w.first_item[n_calls], run_item, &w);
}

size_t ps_linear_scratch_floats(ps_gemm gemm, int n_threads, int k_max)
{
    if (gemm != PS_GEMM_BLAS) return 0;
    return (size_t)n_threads * (size_t)k_max * PS_PANEL_LANES * (BLAS_PANELS + 1);
}

void ps_linear_blas_prepare(void)
{
    openblas_set_num_threads(1);
}

void ps_linear_blas_version(char *out, size_t n)
{
    snprintf(out, n, "%s", openblas_get_config());
}

void ps_linear_blas_product(int m, int n, int k, const float *a, const float *b, float *out)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1.0f, a, k, b, k, 0.0f, out, n);
}
