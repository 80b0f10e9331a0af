/* Deals panels over the pool. An item is a run of panels, and all items of a forward have about as many
 * bytes. Products of few rows, whose time is that of the memory, are dealt as ranges of small items
 * (base/pool.h): a thread reads on and on in its own share, and the threads end together. Those of many
 * rows are dealt item by item. What is asked for past the end of an item is so the thread's own. The
 * split changes nothing in the sums, since a panel is never divided.
 *
 * With --gemm blas the panels of an item are widened into a [K][64] strip and multiplied by sgemm;
 * its sums depend on the number of rows, which is why that engine is an option and not the default.
 */
#include "math/linear.h"

#include <assert.h>
#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "math/kernels.h"
#include "math/linear_parts.h"
#include "math/panel.h"

enum { ITEM_BYTES = 256 * 1024, ITEMS_PER_THREAD = 4, GROUP_PANELS = 2, STRIP_PANELS = 4 };
enum { FEW_ROWS_ITEM_BYTES = 32 * 1024, FEW_ROWS = 32 };

typedef struct work {
    const ps_engine *engine;
    const ps_linear_call *calls;
    int n_calls, n_items;
    ps_linear_after *after; // NULL: the calls follow each other; else they go side by side
    void *after_arg;
    // Of each call's weights, as if they followed each other.
    size_t first_byte[PS_LINEAR_CALLS_MAX + 1];
    size_t panel_bytes[PS_LINEAR_CALLS_MAX];
    ps_linear_input inputs[PS_LINEAR_CALLS_MAX];
    float *blas;
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

static void quant_item(const work *w, int c, int panel, int panels)
{
    const ps_linear_call *call = &w->calls[c];
    const ps_linear *weight = call->weight;
    const ps_quant_job job = {
        .dtype = weight->dtype,
        .rows = call->rows,
        .panels = panels,
        .k = weight->k,
        .weights = (const char *)weight->panels + (size_t)panel * w->panel_bytes[c],
        .x = w->inputs[c].rounded,
        .x_stride = ps_linear_runs(weight->k),
        .pairs = w->inputs[c].pairs,
        .out = call->out + (size_t)panel * PS_PANEL_LANES,
        .out_stride = call->out_stride,
    };
    w->engine->kernels->quant_product(&job);
}

static void panel_item(const work *w, int c, int panel, int panels)
{
    const ps_linear_call *call = &w->calls[c];
    const ps_linear *weight = call->weight;
    const ps_panel_job job = {
        .dtype = weight->dtype,
        .rows = call->rows,
        .panels = panels,
        .k = weight->k,
        .weights = (const char *)weight->panels + (size_t)panel * w->panel_bytes[c],
        .k_stride = PS_PANEL_LANES,
        .panel_stride = (size_t)weight->k * PS_PANEL_LANES,
        .x = call->x,
        .x_stride = call->x_stride,
        .out = call->out + (size_t)panel * PS_PANEL_LANES,
        .out_stride = call->out_stride,
    };
    w->engine->kernels->panel_product(&job);
}

/* out[k][16] */
static void widen_panel(const ps_engine *engine, const ps_linear *weight, const char *panel,
                        float *out)
{
    if (ps_dtype_is_quantised(weight->dtype)) {
        engine->kernels->quant_widen(weight->dtype, panel, 0, weight->k, out);
    } else {
        ps_dtype_widen(weight->dtype, panel, (size_t)weight->k * PS_PANEL_LANES, out);
    }
}

static void blas_item(const work *w, int c, int panel, int panels, int thread)
{
    const ps_linear_call *call = &w->calls[c];
    const ps_linear *weight = call->weight;
    const int width = panels * PS_PANEL_LANES;
    float *strip = w->blas + (size_t)thread * w->blas_stride;
    float *panel_f32 = strip + (size_t)weight->k * STRIP_PANELS * PS_PANEL_LANES;
    for (int p = 0; p < panels; p++) {
        widen_panel(w->engine, weight,
                    (const char *)weight->panels + (size_t)(panel + p) * w->panel_bytes[c],
                    panel_f32);
        for (int k = 0; k < weight->k; k++) {
            memcpy(strip + (size_t)k * (size_t)width + (size_t)p * PS_PANEL_LANES,
                   panel_f32 + (size_t)k * PS_PANEL_LANES, PS_PANEL_LANES * sizeof(float));
        }
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, call->rows, width, weight->k, 1.0f,
                call->x, (int)call->x_stride, strip, width, 0.0f,
                call->out + (size_t)panel * PS_PANEL_LANES, (int)call->out_stride);
}

/* The call that a byte belongs to: first_byte ascends. */
static int call_of(const work *w, size_t byte)
{
    int low = 0, high = w->n_calls - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (w->first_byte[middle] <= byte) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

/* Where an item begins. */
static size_t item_byte(const work *w, int item)
{
    const size_t bytes = w->first_byte[w->n_calls], n = (size_t)w->n_items, at = (size_t)item;
    return bytes / n * at + bytes % n * at / n;
}

/* Items are made of groups: the panels that AVX-512 multiplies side by side, and the values of a run of
 * rounded activations; with BLAS whole strips, so that its sums do not depend on the threads. The last
 * one may be narrower. */
static int group_panels(const work *w)
{
    return w->engine->gemm == PS_GEMM_BLAS ? STRIP_PANELS : GROUP_PANELS;
}

/* The first panel of call c that belongs to the item that begins at a byte: that of the first group
 * which begins there or behind it. */
static int panel_at(const work *w, int c, size_t byte)
{
    const int count = ps_panel_count(w->calls[c].weight->n);
    if (byte <= w->first_byte[c]) return 0;
    if (byte >= w->first_byte[c + 1]) return count;
    const size_t group = (size_t)group_panels(w), each = group * w->panel_bytes[c];
    const size_t panel = (byte - w->first_byte[c] + each - 1) / each * group;
    return panel < (size_t)count ? (int)panel : count;
}

static void run_part(const work *w, int c, int panel, int panels, int thread)
{
    const ps_linear_call *call = &w->calls[c];
    if (ps_linear_uses_blas(w->engine, call)) {
        for (int p = 0; p < panels; p += STRIP_PANELS) {
            const int left = panels - p;
            blas_item(w, c, panel + p, left < STRIP_PANELS ? left : STRIP_PANELS, thread);
        }
    } else if (w->inputs[c].rounded) {
        quant_item(w, c, panel, panels);
    } else {
        panel_item(w, c, panel, panels);
    }
    add_bias(w->engine, call, panel, panels);
}

/* The end of a call and the beginning of the next ones may be one item: calls are of all sizes, and the
 * shares of the threads are to be equal (q, k and v of q4_0, Zen 3: of 85 us one thread waited 7). */
static void run_items(const work *w, int first, int end_item, int thread)
{
    const size_t begin = item_byte(w, first), end = item_byte(w, end_item);
    for (int c = call_of(w, begin); c < w->n_calls && w->first_byte[c] < end; c++) {
        const int panel = panel_at(w, c, begin), panels = panel_at(w, c, end) - panel;
        if (panels > 0) run_part(w, c, panel, panels, thread);
    }
}

/* The same panels of all calls, and what is to be done with their columns. */
static void run_side_by_side(const work *w, int first, int end_item, int thread)
{
    const int n = w->calls[0].weight->n, count = ps_panel_count(n);
    const int group = group_panels(w), groups = (count + group - 1) / group;
    const int panel = group * (int)((int64_t)groups * first / w->n_items);
    const int next = group * (int)((int64_t)groups * end_item / w->n_items);
    const int panels = (next < count ? next : count) - panel;
    if (panels <= 0) return;
    for (int c = 0; c < w->n_calls; c++) {
        run_part(w, c, panel, panels, thread);
    }
    const int end = (panel + panels) * PS_PANEL_LANES;
    w->after(w->after_arg, panel * PS_PANEL_LANES, end < n ? end : n);
}

static void run_range(void *arg, int first, int end, int thread)
{
    const work *w = arg;
    if (w->after) {
        run_side_by_side(w, first, end, thread);
    } else {
        run_items(w, first, end, thread);
    }
}

static void run_item(void *arg, int item, int thread)
{
    run_range(arg, item, item + 1, thread);
}

/* Cuts the calls into items: a multiple of the number of threads, of equal bytes as far as groups of
 * panels allow. */
static void cut(work *w, size_t item_bytes)
{
    const double n_threads = ps_pool_threads(w->engine->pool);
    w->first_byte[0] = 0;
    for (int c = 0; c < w->n_calls; c++) {
        const ps_linear *weight = w->calls[c].weight;
        w->panel_bytes[c] = ps_panel_bytes(weight->dtype, weight->k);
        w->first_byte[c + 1] =
            w->first_byte[c] + (size_t)ps_panel_count(weight->n) * w->panel_bytes[c];
    }
    const double wanted = (double)w->first_byte[w->n_calls] / (double)item_bytes;
    const double least = n_threads > 1.0 ? ITEMS_PER_THREAD : 1.0;
    w->n_items = (int)(fmax(ceil(wanted / n_threads), least) * n_threads);
}

static size_t blas_floats(int k)
{
    return (size_t)k * PS_PANEL_LANES * (STRIP_PANELS + 1);
}

size_t ps_linear_scratch_bytes(ps_gemm gemm, ps_activations activations, int n_threads, int rows,
                               int k_max)
{
    size_t bytes = ps_linear_rounded_bytes(activations, rows, k_max);
    if (gemm == PS_GEMM_BLAS) bytes += (size_t)n_threads * blas_floats(k_max) * sizeof(float);
    return ps_mem_round_up(bytes, PS_MEM_ALIGN);
}

static void forward(const ps_engine *engine, const ps_linear_call *calls, int n_calls,
                    ps_linear_after *after, void *after_arg, const ps_linear_scratch *scratch)
{
    assert(n_calls >= 1 && n_calls <= PS_LINEAR_CALLS_MAX);
    const int n_threads = ps_pool_threads(engine->pool);
    // The tables are filled as far as there are calls: clearing them takes as long as a norm.
    work w;
    w.engine = engine;
    w.calls = calls;
    w.n_calls = n_calls;
    w.after = after;
    w.after_arg = after_arg;
    int k_max = 0, rows_max = 0;
    for (int c = 0; c < n_calls; c++) {
        const ps_linear *weight = calls[c].weight;
        if (calls[c].rows > rows_max) rows_max = calls[c].rows;
        assert(weight->k >= 1 && weight->n >= 1);
        assert(calls[c].out_stride >= (size_t)ps_panel_count(weight->n) * PS_PANEL_LANES);
        assert(!after || weight->n == calls[0].weight->n);
        if (ps_linear_uses_blas(engine, &calls[c]) && weight->k > k_max) k_max = weight->k;
    }
    const bool few_rows = rows_max <= FEW_ROWS;
    cut(&w, few_rows ? FEW_ROWS_ITEM_BYTES : ITEM_BYTES);
    char *memory = scratch ? scratch->memory : NULL;
    const char *end = scratch ? memory + scratch->bytes : NULL;
    w.blas = (float *)(void *)ps_linear_round_inputs(engine, calls, n_calls, memory, end, w.inputs);
    w.blas_stride = blas_floats(k_max);
    assert((const char *)(w.blas + w.blas_stride * (size_t)n_threads) <= end || k_max == 0);
    if (few_rows) {
        ps_pool_run_ranges(engine->pool, w.n_items, run_range, &w);
    } else {
        ps_pool_run(engine->pool, w.n_items, run_item, &w);
    }
}

void ps_linear_forward(const ps_engine *engine, const ps_linear_call *calls, int n_calls,
                       const ps_linear_scratch *scratch)
{
    forward(engine, calls, n_calls, NULL, NULL, scratch);
}

void ps_linear_forward_side_by_side(const ps_engine *engine, const ps_linear_call *calls,
                                    int n_calls, ps_linear_after *after, void *arg,
                                    const ps_linear_scratch *scratch)
{
    assert(after);
    forward(engine, calls, n_calls, after, arg, scratch);
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
