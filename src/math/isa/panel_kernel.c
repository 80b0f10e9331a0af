/* Products of rows with panels: the kernel where all the time goes.
 *
 * A register tile of ROWS x PANELS accumulators walks k once. Which tile a row or a panel falls
 * into changes nothing in its sum: each output has its own accumulator, k ascends, one fused
 * multiply-add per k. The tile sizes are a matter of registers alone (TILE_... in the vec header).
 *
 * Weights come from memory, and are asked for ahead: the processor reads ahead by itself, but not
 * over the end of a page of 4 KiB, and with several rows there is too much work on each line for the
 * misses at a page's begin to overlap. Each line is asked for once, in the order in which it will be
 * read, at a fixed distance (ASK_STEPS). If one tile takes all rows, it asks for the lines of its own
 * panels; if several do, they pass over a block of k one after the other and tile t asks for panel
 * t's lines of the block behind it, so that memory works all the while. Keys and values of a head lie
 * one behind the other, and then those of the next (math/kv.h): the first tile of rows asks for what
 * is CACHE_ASK_BYTES on (a Zen 5, one thread, caches larger than the processor's: one row 39 GB/s and
 * 31, 128 rows 145 GFLOP/s and 113; 4 to 32 KB are as good).
 *
 * Of plain reads, or of the multiply-adds if they are slower, one thread, a Zen 5, with this and with
 * tiles of at most six rows and four panels that asked for nothing (one row, two) or for the next
 * block: f16 of 1, 4, 8, 16 rows 1.00 and 0.95, 0.94 and 0.64, 0.88 and 0.53, 0.92 and 0.81; f32 of
 * 4, 8, 16 rows 0.97 and 0.92, 0.91 and 0.55, 0.92 and 0.61. */
#include "math/isa/vec.h"
#include "math/kernels.h"
#include "math/panel.h"

void PS_ISA(ps_panel_product)(const ps_panel_job *job);
void PS_ISA(ps_quant_widen)(ps_dtype dtype, const void *panel, int k0, int k1, float *out);

/* Tiles of fewer rows are the only ones that read their weights, or keys and values of a decoding step. */
enum { LINE_BYTES = 64, TILE_PANELS_MAX = 4, READ_ONCE_ROWS = 6 };

V_INLINE size_t value_bytes_of(ps_dtype dtype)
{
    return dtype == PS_F32 ? 4 : 2;
}

V_INLINE v16 load_weights(ps_dtype dtype, const char *weights)
{
    switch (dtype) {
    case PS_F16:
        return v_load_f16((const void *)weights);
    case PS_BF16:
        return v_load_bf16((const void *)weights);
    default:
        return v_load((const void *)weights);
    }
}

/* Some panels beside each other, over k in [k0, k1). */
typedef struct span {
    int panel, panels, k0, k1;
} span;

/* What a tile asks for ahead. */
typedef struct asks {
    int steps;       // of k from what is read to what is asked for, in packed panels
    unsigned panels; // of the tile, a bit each
    size_t bytes;    // the same in keys and values, all panels; 0: nothing is
} asks;

/* The rows of a tile's activations at one k. Three rows share an address, since an instruction can add
 * once and twice the distance of two rows: with an address for each, as compilers make of it, those
 * of eight rows lay on the stack and in vector registers, and f16 from a cache took 1.3 times as
 * long. */
typedef struct x_rows {
    const char *at[(TILE_ROWS_MAX + 2) / 3];
    size_t row_bytes;
} x_rows;

V_INLINE x_rows x_rows_at(const ps_panel_job *job, int rows, int row, int k)
{
    x_rows x = {.row_bytes = job->x_stride * sizeof(float)};
    const char *first = (const char *)(job->x + (size_t)row * job->x_stride + k);
    for (int i = 0; 3 * i < rows; i++) {
        x.at[i] = first + (size_t)(3 * i) * x.row_bytes;
    }
    return x;
}

V_INLINE float x_value(const x_rows *x, int row, int step)
{
    float value;
    memcpy(&value, x->at[row / 3] + (size_t)(row % 3) * x->row_bytes + (size_t)step * sizeof value,
           sizeof value);
    return value;
}

V_INLINE void x_advance(x_rows *x, int rows, int steps)
{
    for (int i = 0; 3 * i < rows; i++) {
        x->at[i] += (size_t)steps * sizeof(float);
        V_KEEP_ADDRESS(x->at[i]);
    }
}

/* Where a tile stands. */
typedef struct place {
    const char *weights; // of the first panel
    size_t panel_bytes;  // from panel to panel
    x_rows x;
} place;

/* One k of a tile, `step` behind the place. */
V_INLINE void tile_step(ps_dtype dtype, int rows, int panels, const place *at, int step,
                        size_t k_bytes, v16 (*acc)[TILE_PANELS_MAX])
{
    v16 w[TILE_PANELS_MAX];
    for (int p = 0; p < panels; p++) {
        w[p] =
            load_weights(dtype, at->weights + (size_t)p * at->panel_bytes + (size_t)step * k_bytes);
    }
    for (int r = 0; r < rows; r++) {
        const v16 value = v_set(x_value(&at->x, r, step));
        for (int p = 0; p < panels; p++) {
            acc[r][p] = v_fma(value, w[p], acc[r][p]);
        }
    }
}

/* Lines of packed panels; `ahead` bytes from a line to the one that is asked for. */
V_INLINE void tile_lines(ps_dtype dtype, int rows, int panels, place *at, int lines, size_t ahead,
                         unsigned ask_panels, v16 (*acc)[TILE_PANELS_MAX])
{
    const size_t k_bytes = PS_PANEL_LANES * value_bytes_of(dtype);
    const int of_line = LINE_BYTES / (int)k_bytes;
    place now = *at; // in registers
    const char *const end = now.weights + (size_t)lines * LINE_BYTES;
    while (now.weights != end) {
        for (int p = 0; p < panels; p++) {
            if (!(ask_panels & 1u << p)) continue;
            ASK_FOR(rows < READ_ONCE_ROWS, now.weights + (size_t)p * now.panel_bytes + ahead);
        }
        for (int i = 0; i < of_line; i++) {
            tile_step(dtype, rows, panels, &now, i, k_bytes, acc);
        }
        now.weights += LINE_BYTES;
        x_advance(&now.x, rows, of_line);
    }
    *at = now;
}

/* Packed panels over k from k0 to k1, but for what does not fill a line; returns the k it came to.
 * What is asked for near the end of the panels lies in those behind the tile. */
V_INLINE int packed_steps(ps_dtype dtype, int rows, int panels, place *at, int k, int k0, int k1,
                          asks ask, v16 (*acc)[TILE_PANELS_MAX])
{
    const size_t k_bytes = PS_PANEL_LANES * value_bytes_of(dtype);
    const int of_line = LINE_BYTES / (int)k_bytes;
    size_t ahead = (size_t)ask.steps * k_bytes;
    const int last = k - ask.steps, turn = last < k0 ? k0 : last < k1 ? last : k1;
    int lines = (turn - k0) / of_line;
    for (int part = 0; part < 2; part++) {
        tile_lines(dtype, rows, panels, at, lines, ahead, ask.panels, acc);
        lines = (k1 - k0) / of_line - lines;
        ahead += (size_t)(panels - 1) * at->panel_bytes;
    }
    return k1 - (k1 - k0) % of_line;
}

/* One tile over k in [k0, k1), which overwrites out or is added to it. All of dtype, rows and panels
 * are constants after inlining. */
V_INLINE void tile(const ps_panel_job *job, ps_dtype dtype, int rows, int panels, int row,
                   int panel, span over, asks ask)
{
    v16 acc[TILE_ROWS_MAX][TILE_PANELS_MAX];
    float *out = job->out + (size_t)row * job->out_stride + (size_t)panel * PS_PANEL_LANES;
    for (int r = 0; r < rows; r++) {
        for (int p = 0; p < panels; p++) {
            acc[r][p] = job->chain
                            ? v_load(out + (size_t)r * job->out_stride + (size_t)p * PS_PANEL_LANES)
                            : v_zero();
        }
    }
    const size_t k_bytes = job->k_stride * value_bytes_of(dtype);
    place at = {.panel_bytes = job->panel_stride * value_bytes_of(dtype),
                .x = x_rows_at(job, rows, row, over.k0)};
    at.weights =
        (const char *)job->weights + (size_t)panel * at.panel_bytes + (size_t)over.k0 * k_bytes;
    int k = over.k0;
    if (job->k_stride == PS_PANEL_LANES) {
        k = packed_steps(dtype, rows, panels, &at, job->k, over.k0, over.k1, ask, acc);
    }
    for (; k < over.k1; k++, at.weights += k_bytes) {
        for (int p = 0; p < panels && ask.bytes > 0; p++) {
            ASK_FOR(rows < READ_ONCE_ROWS, at.weights + (size_t)p * at.panel_bytes + ask.bytes);
        }
        tile_step(dtype, rows, panels, &at, 0, k_bytes, acc);
        x_advance(&at.x, rows, 1);
    }
    const bool add = job->add || (!job->chain && over.k0 > 0);
    for (int r = 0; r < rows; r++) {
        for (int p = 0; p < panels; p++) {
            float *to = out + (size_t)r * job->out_stride + (size_t)p * PS_PANEL_LANES;
            v_store(to, add ? v_add(v_load(to), acc[r][p]) : acc[r][p]);
        }
    }
}

/* All panels for `rows` rows from `row` on: `wide` at a time, then one by one, but for one row, where
 * the last two or three together wait for one chain and not for each. */
V_INLINE void strip(const ps_panel_job *job, ps_dtype dtype, int rows, int wide, int row, span at,
                    asks ask)
{
    const int end = at.panel + at.panels;
    int panel = at.panel;
    for (; panel + wide <= end; panel += wide) {
        tile(job, dtype, rows, wide, row, panel, at, ask);
    }
    if (wide == 1) return;
    if (rows == 1 && wide == 4 && end - panel >= 2) {
        if (end - panel == 3) {
            tile(job, dtype, 1, 3, row, panel, at, ask);
        } else {
            tile(job, dtype, 1, 2, row, panel, at, ask);
        }
        return;
    }
    for (; panel < end; panel++) {
        tile(job, dtype, rows, 1, row, panel, at, ask);
    }
}

V_INLINE void strip_of(const ps_panel_job *job, ps_dtype dtype, bool is_weights, int rows, int row,
                       span at, asks ask)
{
    if (is_weights || CACHE_TILE_ROWS == 0) {
        strip(job, dtype, rows, TILE_PANELS(rows, dtype == PS_F32), row, at, ask);
    } else if (rows <= CACHE_TILE_ROWS) {
        strip(job, dtype, rows, 4, row, at, ask);
    }
}

/* Tiles of as many rows as there are registers for and one of the rest, or as even as they can be. */
V_INLINE void all_rows(const ps_panel_job *job, ps_dtype dtype, bool is_weights, span at,
                       int ask_steps)
{
    const int most = is_weights || CACHE_TILE_ROWS == 0 ? TILE_ROWS_MAX : CACHE_TILE_ROWS;
    const int tiles = (job->rows + most - 1) / most;
    for (int t = 0, row = 0, rows; t < tiles; t++, row += rows) {
        const int left = job->rows - row;
        rows = EVEN_TILES ? left / (tiles - t) : left < most ? left : most;
        asks ask = {.steps = ask_steps};
        if (ask_steps > 0 && t < TILE_PANELS_MAX) ask.panels = tiles == 1 ? ~0u : 1u << t;
        if (!is_weights && !job->near && t == 0) ask.bytes = CACHE_ASK_BYTES;
        switch (rows) {
#define ROWS_CASE(n)                                                                               \
    case n:                                                                                        \
        strip_of(job, dtype, is_weights, n, row, at, ask);                                         \
        break;
#if TILE_ROWS_MAX >= 12
            ROWS_CASE(12)
            ROWS_CASE(11)
            ROWS_CASE(10)
            ROWS_CASE(9)
            ROWS_CASE(8)
            ROWS_CASE(7)
#endif
#if TILE_ROWS_MAX >= 6
            ROWS_CASE(6)
            ROWS_CASE(5)
            ROWS_CASE(4)
            ROWS_CASE(3)
#endif
            ROWS_CASE(2)
        default:
            strip_of(job, dtype, is_weights, 1, row, at, ask);
#undef ROWS_CASE
        }
    }
}

/* What comes after a span: the next k of its panels, else the next panels. */
V_INLINE span span_after(const ps_panel_job *job, int block, int group, span at)
{
    span next = {.panel = at.panel, .panels = at.panels, .k0 = at.k1};
    if (at.k1 >= job->k) {
        next.panel = at.panel + at.panels;
        const int left = job->panels - next.panel;
        next.panels = left < group ? left : group;
        next.k0 = 0;
    }
    next.k1 = job->k - next.k0 < block ? job->k : next.k0 + block;
    return next;
}

/* Groups of a few panels, so that a block of their weights stays in the nearest cache levels while
 * all rows pass over it. */
V_INLINE void product(const ps_panel_job *job, ps_dtype dtype)
{
    /* What is packed are weights; what lies otherwise are keys and values. */
    const bool is_weights = !job->chain && job->k_stride == PS_PANEL_LANES;
    const int block = job->chain ? job->k : PS_PANEL_BLOCK;
    const int group = is_weights ? GROUP_PANELS : 4;
    const int ask_steps = is_weights && !job->near ? ASK_STEPS(job->rows, dtype == PS_F32) : 0;
    span at = {.panels = job->panels < group ? job->panels : group,
               .k1 = job->k < block ? job->k : block};
    while (at.panels > 0) {
        all_rows(job, dtype, is_weights, at, ask_steps);
        at = span_after(job, block, group, at);
    }
}

/* Quantised weights under f32 activations: a block of k of a few panels is widened once for all
 * rows, and then is a product with f32 weights. */
static void widened_product(const ps_panel_job *job)
{
    enum { PANELS = 4, BLOCK = PS_PANEL_BLOCK };
    float widened[PANELS][BLOCK][PS_PANEL_LANES];
    const size_t bytes = ps_panel_bytes(job->dtype, job->k);
    const char *weights = job->weights;
    for (int panel = 0; panel < job->panels; panel += PANELS) {
        ps_panel_job part = *job;
        part.dtype = PS_F32;
        part.near = true;
        part.panels = job->panels - panel < PANELS ? job->panels - panel : PANELS;
        part.weights = widened;
        part.k_stride = PS_PANEL_LANES;
        part.panel_stride = (size_t)BLOCK * PS_PANEL_LANES;
        part.out = job->out + (size_t)panel * PS_PANEL_LANES;
        for (int k0 = 0; k0 < job->k; k0 += BLOCK) {
            part.k = job->k - k0 < BLOCK ? job->k - k0 : BLOCK;
            part.x = job->x + k0;
            part.add = job->add || k0 > 0;
            for (int p = 0; p < part.panels; p++) {
                PS_ISA(ps_quant_widen)
                (job->dtype, weights + (size_t)(panel + p) * bytes, k0, k0 + part.k, widened[p][0]);
            }
            product(&part, PS_F32);
        }
    }
}

void PS_ISA(ps_panel_product)(const ps_panel_job *job)
{
    switch (job->dtype) {
    case PS_F16:
        product(job, PS_F16);
        break;
    case PS_BF16:
        product(job, PS_BF16);
        break;
    case PS_F32:
        product(job, PS_F32);
        break;
    default:
        widened_product(job);
    }
}
