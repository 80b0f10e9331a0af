/* Products of rows with panels: the kernel where all the time goes.
 *
 * A register tile of ROWS x PANELS accumulators walks k once. Which tile a row or a panel falls
 * into changes nothing in its sum: each output has its own accumulator, k ascends, one fused
 * multiply-add per k. The tile sizes are a matter of registers alone (TILE_PANELS in the vec
 * header).
 *
 * One row reads four panels at once, so that four chains hide the latency of the multiply-add and
 * the processor sees four sequential streams. */
#include "math/isa/vec.h"
#include "math/kernels.h"
#include "math/panel.h"

void PS_ISA(ps_panel_product)(const ps_panel_job *job);
void PS_ISA(ps_quant_widen)(ps_dtype dtype, const void *panel, int k0, int k1, float *out);

enum { GROUP_PANELS = 4, LINE_BYTES = 64 };

V_INLINE v16 load_weights(ps_dtype dtype, const void *weights, size_t at)
{
    switch (dtype) {
    case PS_F16:
        return v_load_f16((const uint16_t *)weights + at);
    case PS_BF16:
        return v_load_bf16((const uint16_t *)weights + at);
    default:
        return v_load((const float *)weights + at);
    }
}

/* Some panels beside each other, over k in [k0, k1). */
typedef struct span {
    int panel, panels, k0, k1;
} span;

/* Weights that are asked for ahead. The processor reads ahead by itself, but not over the end of a
 * page of 4 KiB, and with several rows there is too much work on each line for the misses at a page's
 * begin to overlap. What helps differs (ASKS_... in the vec header):
 *
 * evenly     the block behind this one, line by line, while all rows pass over this one, into the
 *            second cache level: f16 on a thread of a Zen 4, of the roof at 4 and 8 rows 0.72 and 0.78
 *            without, 0.83 and 0.85 so, 0.73 at 4 if all lines of a k are asked for at once, 0.68 into
 *            the first level.
 * in stream  a fixed distance before the tile that reads them first, one line at a time: f16 on a thread
 *            of a Zen 3, of plain reads at 4 rows 0.56 without, 0.76 so, and 0.47 if two lines are asked
 *            for at once, which is why tiles of two panels do without. Counting what to ask for, as
 *            above, takes as long there as the products do. 32 lines ahead; for four rows of f32, whose
 *            lines pass twice as fast, 16 (0.81 and 0.87 of plain reads; six rows 0.98 of the speed so).
 *            Few rows on a Zen 5, of plain reads, without and so: f16 one row 0.85 and 0.93 (two threads
 *            0.87 and 0.94; 0.86 with 48 lines), two rows 0.82 and 0.96, f32 four rows 0.82 and 0.97; f32 is
 *            as good without with one row and two (1.02, 0.97; 0.90, 0.95 so). */
typedef struct ahead {
    const char *next;   // a line of the first panel
    size_t panel_bytes; // from panel to panel
    int panel, lines;   // to ask for next; of the block in all, 0: nothing to ask for
    int done, enough;   // multiply-adds since the last line, from one to the next, times lines
    bool in_stream;     // the tile is the first that reads its weights, and asks for them
} ahead;

V_INLINE void ask_ahead(ahead *a, int work)
{
    a->done += work;
    while (a->done >= a->enough) {
        a->done -= a->enough;
        __builtin_prefetch(a->next + (size_t)a->panel * a->panel_bytes, 0, 2);
        a->panel = (a->panel + 1) % GROUP_PANELS;
        if (a->panel == 0) a->next += LINE_BYTES;
    }
}

V_INLINE size_t value_bytes_of(ps_dtype dtype)
{
    return dtype == PS_F32 ? 4 : 2;
}

V_INLINE ahead plan_ahead(const ps_panel_job *job, ps_dtype dtype, span now, span next)
{
    const size_t value_bytes = value_bytes_of(dtype);
    const size_t first = (size_t)next.panel * job->panel_stride + (size_t)next.k0 * job->k_stride;
    const size_t bytes = (size_t)(next.k1 - next.k0) * job->k_stride * value_bytes;
    return (ahead){.next = (const char *)job->weights + first * value_bytes,
                   .panel_bytes = job->panel_stride * value_bytes,
                   .lines = GROUP_PANELS * (int)(bytes / LINE_BYTES),
                   .enough = (now.k1 - now.k0) * job->rows * now.panels};
}

/* Few rows that ask in stream, where tiles of more rows do not (above: a Zen 5). */
V_INLINE bool few_rows_ask(ps_dtype dtype, int rows)
{
    return FEW_ROWS_ASK > 0 && (dtype == PS_F32 ? rows == 3 || rows == 4 : rows <= 2);
}

/* The weights are read from memory, and the processor does not read ahead far enough for so many rows.
 * Packed panels are weights; what lies otherwise are keys and values. */
V_INLINE bool wants_ahead(const ps_panel_job *job, ps_dtype dtype)
{
    const bool more = ASKS_EVENLY && dtype == PS_F32;
    const int least = more ? 2 * PS_PANEL_AHEAD_ROWS : PS_PANEL_AHEAD_ROWS;
    const bool many = (ASKS_EVENLY || ASKS_IN_STREAM) && job->rows >= least;
    return !job->chain && job->k_stride == PS_PANEL_LANES &&
           (many || few_rows_ask(dtype, job->rows));
}

/* One k of a tile: weights at `at`, activations at x. */
V_INLINE void tile_step(const ps_panel_job *job, ps_dtype dtype, int rows, int panels, size_t at,
                        const float *x, v16 (*acc)[4])
{
    v16 w[4];
    for (int p = 0; p < panels; p++) {
        w[p] = load_weights(dtype, job->weights, at + (size_t)p * job->panel_stride);
    }
    for (int r = 0; r < rows; r++) {
        const v16 value = v_set(x[(size_t)r * job->x_stride]);
        for (int p = 0; p < panels; p++) {
            acc[r][p] = v_fma(value, w[p], acc[r][p]);
        }
    }
}

/* How many bytes before their use a tile asks for its lines, one by one; 0: not at all. */
V_INLINE int stream_distance(const ps_panel_job *job, ps_dtype dtype, int rows, int panels,
                             bool is_first)
{
    if (!is_first) return 0;
    if (few_rows_ask(dtype, rows)) return panels > 1 && job->rows == rows ? FEW_ROWS_ASK : 0;
    if (!ASKS_IN_STREAM || panels > 1 || rows < PS_PANEL_AHEAD_ROWS) return 0;
    return dtype == PS_F32 && rows <= 4 ? 1024 : 2048;
}

/* Steps of a tile from *k on, as many as fill lines; asks for each line ahead, near the end of the
 * panels in those behind the tile. */
V_INLINE void steps_in_stream(const ps_panel_job *job, ps_dtype dtype, int rows, int panels,
                              int distance, int end, int *k, size_t *at, const float *x,
                              v16 (*acc)[4])
{
    const int k_bytes = PS_PANEL_LANES * (int)value_bytes_of(dtype);
    const int of_line = LINE_BYTES / k_bytes, last = job->k - distance / k_bytes;
    const size_t panel_bytes = job->panel_stride * value_bytes_of(dtype);
    for (; *k + of_line <= end; *k += of_line) {
        const char *ask =
            (const char *)job->weights + *at * value_bytes_of(dtype) + (size_t)distance;
        if (panels > 1 && *k >= last) ask += (size_t)(panels - 1) * panel_bytes;
        for (int p = 0; p < panels; p++) {
            __builtin_prefetch(ask + (size_t)p * panel_bytes, 0, 3);
        }
        for (int i = 0; i < of_line; i++, *at += PS_PANEL_LANES) {
            tile_step(job, dtype, rows, panels, *at, x + *k + i, acc);
        }
    }
}

/* One tile over k in [k0, k1), which overwrites out or is added to it. All of dtype, rows and panels
 * are constants after inlining. */
V_INLINE void tile(const ps_panel_job *job, ps_dtype dtype, int rows, int panels, int row,
                   int panel, span over, ahead *fetch)
{
    v16 acc[TILE_ROWS_MAX][4];
    float *out = job->out + (size_t)row * job->out_stride + (size_t)panel * PS_PANEL_LANES;
    for (int r = 0; r < rows; r++) {
        for (int p = 0; p < panels; p++) {
            acc[r][p] = job->chain
                            ? v_load(out + (size_t)r * job->out_stride + (size_t)p * PS_PANEL_LANES)
                            : v_zero();
        }
    }
    const float *x = job->x + (size_t)row * job->x_stride;
    size_t at = (size_t)panel * job->panel_stride + (size_t)over.k0 * job->k_stride;
    ahead local = *fetch;
    const int work = rows * panels * local.lines;
    int k = over.k0;
    const int distance = stream_distance(job, dtype, rows, panels, local.in_stream);
    if (distance > 0) steps_in_stream(job, dtype, rows, panels, distance, over.k1, &k, &at, x, acc);
    for (; k < over.k1; k++, at += job->k_stride) {
        if (ASKS_EVENLY && rows >= PS_PANEL_AHEAD_ROWS) ask_ahead(&local, work);
        tile_step(job, dtype, rows, panels, at, x + k, acc);
    }
    *fetch = local;
    const bool add = job->add || (!job->chain && over.k0 > 0);
    for (int r = 0; r < rows; r++) {
        for (int p = 0; p < panels; p++) {
            float *to = out + (size_t)r * job->out_stride + (size_t)p * PS_PANEL_LANES;
            v_store(to, add ? v_add(v_load(to), acc[r][p]) : acc[r][p]);
        }
    }
}

/* All panels for `rows` rows from `row` on: TILE_PANELS at a time, then one by one, but for one row,
 * where the last two or three together wait for one chain and not for each. */
V_INLINE void strip(const ps_panel_job *job, ps_dtype dtype, int rows, int row, span at,
                    ahead *fetch)
{
    const int wide = TILE_PANELS(rows, dtype == PS_F32);
    const int end = at.panel + at.panels;
    int panel = at.panel;
    for (; panel + wide <= end; panel += wide) {
        tile(job, dtype, rows, wide, row, panel, at, fetch);
    }
    if (wide == 1) return;
    if (rows == 1 && wide == 4 && end - panel >= 2) {
        if (end - panel == 3) {
            tile(job, dtype, 1, 3, row, panel, at, fetch);
        } else {
            tile(job, dtype, 1, 2, row, panel, at, fetch);
        }
        return;
    }
    for (; panel < end; panel++) {
        tile(job, dtype, rows, 1, row, panel, at, fetch);
    }
}

/* Tiles of as many rows as there are registers for and one of the rest, or as even as they can be. */
V_INLINE void all_rows(const ps_panel_job *job, ps_dtype dtype, span at, ahead *fetch)
{
    const int tiles = (job->rows + TILE_ROWS_MAX - 1) / TILE_ROWS_MAX;
    for (int t = 0, row = 0, rows; t < tiles; t++, row += rows) {
        const int left = job->rows - row;
        rows = EVEN_TILES ? left / (tiles - t) : left < TILE_ROWS_MAX ? left : TILE_ROWS_MAX;
        switch (rows) {
#if TILE_ROWS_MAX == 6
        case 6:
            strip(job, dtype, 6, row, at, fetch);
            break;
        case 5:
            strip(job, dtype, 5, row, at, fetch);
            break;
        case 4:
            strip(job, dtype, 4, row, at, fetch);
            break;
        case 3:
            strip(job, dtype, 3, row, at, fetch);
            break;
#endif
        case 2:
            strip(job, dtype, 2, row, at, fetch);
            break;
        default:
            strip(job, dtype, 1, row, at, fetch);
        }
        fetch->in_stream = false;
    }
}

/* What comes after a span: the next k of its panels, else the next of `panels` panels. */
V_INLINE span span_after(const ps_panel_job *job, int block, span at, int panels)
{
    span next = {.panel = at.panel, .panels = at.panels, .k0 = at.k1};
    if (at.k1 >= job->k) {
        next.panel = at.panel + at.panels;
        const int left = panels - next.panel;
        next.panels = left < GROUP_PANELS ? left : GROUP_PANELS;
        next.k0 = 0;
    }
    next.k1 = job->k - next.k0 < block ? job->k : next.k0 + block;
    return next;
}

/* Groups of four panels, so that a block of their weights stays in the nearest cache levels while
 * all rows pass over it. */
V_INLINE void product(const ps_panel_job *job, ps_dtype dtype, bool from_memory)
{
    const int block = job->chain ? job->k : PS_PANEL_BLOCK;
    const int most = job->panels + job->panels_behind;
    span at = {.panels = job->panels < GROUP_PANELS ? job->panels : GROUP_PANELS,
               .k1 = job->k < block ? job->k : block};
    while (at.panels > 0) {
        ahead fetch = {.enough = 1, .in_stream = from_memory};
        if (from_memory && ASKS_EVENLY && !few_rows_ask(dtype, job->rows)) {
            const span next = span_after(job, block, at, most);
            if (next.panels == GROUP_PANELS) fetch = plan_ahead(job, dtype, at, next);
        }
        all_rows(job, dtype, at, &fetch);
        at = span_after(job, block, at, job->panels);
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
            product(&part, PS_F32, false);
        }
    }
}

void PS_ISA(ps_panel_product)(const ps_panel_job *job)
{
    switch (job->dtype) {
    case PS_F16:
        product(job, PS_F16, wants_ahead(job, PS_F16));
        break;
    case PS_BF16:
        product(job, PS_BF16, wants_ahead(job, PS_BF16));
        break;
    case PS_F32:
        product(job, PS_F32, wants_ahead(job, PS_F32));
        break;
    default:
        widened_product(job);
    }
}
