/* Deals panels over the pool. An item is a run of panels of one matrix: long enough that the memory
 * streams (up to 256 KiB of weights, 1 MiB for a few rows of floats, which ask for weights ahead
 * within an item), short enough that the threads end together. All items of a forward have about as
 * many bytes, and each thread as many items, so that nobody waits at the end; they follow each other,
 * so that what is asked for past an item's end is the thread's own. The split changes nothing in the
 * sums, since a panel is never divided.
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
#include "math/panel.h"
#include "math/quant.h"

enum { ITEM_BYTES = 256 * 1024, ITEMS_PER_THREAD = 4, GROUP_PANELS = 4 };
enum { AHEAD_ITEM_BYTES = 1024 * 1024, AHEAD_ROWS_LEAST = 3, AHEAD_ROWS_MAX = 32 };

typedef struct work {
    const ps_engine *engine;
    const ps_linear_call *calls;
    int n_calls, n_items;
    // Of each call's weights, as if they followed each other.
    size_t first_byte[PS_LINEAR_CALLS_MAX + 1];
    const ps_rounded *rounded[PS_LINEAR_CALLS_MAX]; // of each call's input, or NULL
    bool pairs[PS_LINEAR_CALLS_MAX];                // the form of that
    float *blas;
    size_t blas_stride; // floats of scratch for one thread
} work;

size_t ps_linear_bytes(const ps_linear *w)
{
    return (size_t)ps_panel_count(w->n) * ps_panel_bytes(w->dtype, w->k);
}

/* Runs of rounded activations in a row of k values. */
static size_t runs_of(int k)
{
    return (size_t)(k / PS_QUANT_RUN);
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
    const size_t panel_bytes = ps_panel_bytes(weight->dtype, weight->k);
    const ps_quant_job job = {
        .dtype = weight->dtype,
        .rows = call->rows,
        .panels = panels,
        .k = weight->k,
        .weights = (const char *)weight->panels + (size_t)panel * panel_bytes,
        .x = w->rounded[c],
        .x_stride = runs_of(weight->k),
        .pairs = w->pairs[c],
        .out = call->out + (size_t)panel * PS_PANEL_LANES,
        .out_stride = call->out_stride,
    };
    w->engine->kernels->quant_product(&job);
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

static void blas_item(const work *w, const ps_linear_call *call, int panel, int panels, int thread)
{
    const ps_linear *weight = call->weight;
    const size_t panel_bytes = ps_panel_bytes(weight->dtype, weight->k);
    const int width = panels * PS_PANEL_LANES;
    float *strip = w->blas + (size_t)thread * w->blas_stride;
    float *panel_f32 = strip + (size_t)weight->k * GROUP_PANELS * PS_PANEL_LANES;
    for (int p = 0; p < panels; p++) {
        widen_panel(w->engine, weight,
                    (const char *)weight->panels + (size_t)(panel + p) * panel_bytes, panel_f32);
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
    return w->engine->gemm == PS_GEMM_BLAS && call->rows >= PS_LINEAR_BLAS_ROWS;
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

/* At least what the kernels of floats read side by side, and the width of a strip for BLAS: items are
 * made of such groups, the last of which may be narrower. */
static size_t group_bytes(const ps_linear *weight)
{
    return GROUP_PANELS * ps_panel_bytes(weight->dtype, weight->k);
}

/* Where an item begins. */
static size_t item_byte(const work *w, int item)
{
    const size_t bytes = w->first_byte[w->n_calls], n = (size_t)w->n_items, at = (size_t)item;
    return bytes / n * at + bytes % n * at / n;
}

/* The first panel of call c that belongs to the item that begins at a byte: that of the first group
 * which begins there or behind it. */
static int panel_at(const work *w, int c, size_t byte)
{
    const int count = ps_panel_count(w->calls[c].weight->n);
    if (byte <= w->first_byte[c]) return 0;
    if (byte >= w->first_byte[c + 1]) return count;
    const size_t each = group_bytes(w->calls[c].weight);
    const size_t panel = (byte - w->first_byte[c] + each - 1) / each * GROUP_PANELS;
    return panel < (size_t)count ? (int)panel : count;
}

static void run_part(const work *w, int c, int panel, int panels, int thread)
{
    const ps_linear_call *call = &w->calls[c];
    if (uses_blas(w, call)) {
        for (int p = 0; p < panels; p += GROUP_PANELS) {
            const int left = panels - p;
            blas_item(w, call, panel + p, left < GROUP_PANELS ? left : GROUP_PANELS, thread);
        }
    } else if (w->rounded[c]) {
        quant_item(w, c, panel, panels);
    } else {
        panel_item(w, call, panel, panels);
    }
    add_bias(w->engine, call, panel, panels);
}

/* The end of a call and the beginning of the next ones may be one item: calls are of all sizes, and the
 * shares of the threads are to be equal (q, k and v of q4_0, Zen 3: of 85 us one thread waited 7). */
static void run_item(void *arg, int item, int thread)
{
    const work *w = arg;
    const size_t begin = item_byte(w, item), end = item_byte(w, item + 1);
    for (int c = call_of(w, begin); c < w->n_calls && w->first_byte[c] < end; c++) {
        const int panel = panel_at(w, c, begin), panels = panel_at(w, c, end) - panel;
        if (panels > 0) run_part(w, c, panel, panels, thread);
    }
}

/* Bytes of an item, when there are enough for the threads. */
static size_t most_bytes(const ps_linear_call *call)
{
    const bool asks_ahead = !ps_dtype_is_quantised(call->weight->dtype) &&
                            call->rows >= AHEAD_ROWS_LEAST && call->rows <= AHEAD_ROWS_MAX;
    return asks_ahead ? AHEAD_ITEM_BYTES : ITEM_BYTES;
}

/* Cuts the calls into items: a multiple of the number of threads, of equal bytes as far as groups of
 * panels allow. */
static void cut(work *w)
{
    const double n_threads = ps_pool_threads(w->engine->pool);
    double wanted = 0.0;
    w->first_byte[0] = 0;
    for (int c = 0; c < w->n_calls; c++) {
        const size_t bytes = ps_linear_bytes(w->calls[c].weight);
        w->first_byte[c + 1] = w->first_byte[c] + bytes;
        wanted += (double)bytes / (double)most_bytes(&w->calls[c]);
    }
    const double least = n_threads > 1.0 ? ITEMS_PER_THREAD : 1.0;
    w->n_items = (int)(fmax(ceil(wanted / n_threads), least) * n_threads);
}

/* ---- rounding ---- */

static bool needs_rounding(const work *w, const ps_linear_call *call)
{
    return ps_dtype_is_quantised(call->weight->dtype) &&
           w->engine->activations != PS_ACTIVATIONS_F32 && !uses_blas(w, call);
}

static bool same_input(const ps_linear_call *a, const ps_linear_call *b)
{
    return a->x == b->x && a->x_stride == b->x_stride && a->rows == b->rows &&
           a->weight->k == b->weight->k;
}

/* Whether call c and those behind it that share its input want it as pairs. */
static bool all_want_pairs(const work *w, int c)
{
    const ps_linear_call *first = &w->calls[c];
    if (first->rows > w->engine->kernels->pair_rows) return false;
    for (int i = c; i < w->n_calls; i++) {
        const ps_linear_call *call = &w->calls[i];
        if (!needs_rounding(w, call)) continue;
        if (!same_input(call, first)) break;
        if (!ps_quant_in_halves(&ps_quant_formats[call->weight->dtype])) return false;
    }
    return true;
}

/* One input being rounded: items are rows. */
typedef struct rounding {
    const ps_engine *engine;
    const ps_linear_call *call;
    bool pairs;
    ps_rounded *out;
} rounding;

static void round_item(void *arg, int item, int thread)
{
    (void)thread;
    const rounding *r = arg;
    const int limit =
        r->engine->activations == PS_ACTIVATIONS_I8 ? PS_ROUNDED_LIMIT_I8 : PS_ROUNDED_LIMIT_I16;
    const int k = r->call->weight->k;
    r->engine->kernels->round_row(r->call->x + (size_t)item * r->call->x_stride, k, limit, r->pairs,
                                  r->out + (size_t)item * runs_of(k));
}

/* A few rows are rounded in less time than the threads need to take them over. */
static void round_input(const ps_engine *engine, const ps_linear_call *call, bool pairs,
                        ps_rounded *out)
{
    enum { ALONE_VALUES = 32768 };
    rounding r = {engine, call, pairs, out};
    if ((size_t)call->rows * (size_t)call->weight->k >= ALONE_VALUES) {
        ps_pool_run(engine->pool, call->rows, round_item, &r);
        return;
    }
    for (int row = 0; row < call->rows; row++) {
        round_item(&r, row, 0);
    }
}

/* Rounds the inputs of the calls that want it, each input once for a run of calls. Returns the
 * scratch that is left. */
static char *round_inputs(work *w, char *scratch, const char *end)
{
    int last = -1; // the call that was rounded last
    for (int c = 0; c < w->n_calls; c++) {
        const ps_linear_call *call = &w->calls[c];
        if (!needs_rounding(w, call)) continue;
        if (last >= 0 && same_input(call, &w->calls[last])) {
            w->rounded[c] = w->rounded[last];
            w->pairs[c] = w->pairs[last];
            continue;
        }
        ps_rounded *out = (ps_rounded *)(void *)scratch;
        scratch += (size_t)call->rows * runs_of(call->weight->k) * sizeof *out;
        assert(scratch <= end && "ps_linear_scratch_bytes");
        (void)end;
        w->pairs[c] = all_want_pairs(w, c);
        round_input(w->engine, call, w->pairs[c], out);
        w->rounded[c] = out;
        last = c;
    }
    return scratch;
}

static size_t blas_floats(int k)
{
    return (size_t)k * PS_PANEL_LANES * (GROUP_PANELS + 1);
}

size_t ps_linear_scratch_bytes(ps_gemm gemm, ps_activations activations, int n_threads, int rows,
                               int k_max)
{
    size_t bytes = 0;
    if (activations != PS_ACTIVATIONS_F32)
        bytes = (size_t)rows * (runs_of(k_max) + 1) * sizeof(ps_rounded);
    if (gemm == PS_GEMM_BLAS) bytes += (size_t)n_threads * blas_floats(k_max) * sizeof(float);
    return ps_mem_round_up(bytes, PS_MEM_ALIGN);
}

void ps_linear_forward(const ps_engine *engine, const ps_linear_call *calls, int n_calls,
                       const ps_linear_scratch *scratch)
{
    assert(n_calls >= 1 && n_calls <= PS_LINEAR_CALLS_MAX);
    const int n_threads = ps_pool_threads(engine->pool);
    // The tables are filled as far as there are calls: clearing them takes as long as a norm.
    work w;
    w.engine = engine;
    w.calls = calls;
    w.n_calls = n_calls;
    int k_max = 0;
    for (int c = 0; c < n_calls; c++) {
        const ps_linear *weight = calls[c].weight;
        assert(weight->k >= 1 && weight->n >= 1);
        assert(calls[c].out_stride >= (size_t)ps_panel_count(weight->n) * PS_PANEL_LANES);
        w.rounded[c] = NULL;
        if (uses_blas(&w, &calls[c]) && weight->k > k_max) k_max = weight->k;
    }
    cut(&w);
    char *memory = scratch ? scratch->memory : NULL;
    const char *end = scratch ? memory + scratch->bytes : NULL;
    w.blas = (float *)(void *)round_inputs(&w, memory, end);
    w.blas_stride = blas_floats(k_max);
    assert((const char *)(w.blas + w.blas_stride * (size_t)n_threads) <= end || k_max == 0);
    ps_pool_run(engine->pool, w.n_items, run_item, &w);
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
