/* Products of rounded rows with quantised panels, in integers.
 *
 * One row: codes go from memory through registers into the products, several panels side by side,
 * so that the processor sees as many sequential streams. More rows: a block of PS_PANEL_BLOCK k of
 * a few panels is unpacked once, to bytes in the first cache level, and register tiles of rows and
 * panels pass over it. Which way a row goes changes nothing: the integers are exact, and the
 * floating-point steps for each sub-block are those of math/panel.h. */
#include "math/isa/quant_codes.h"
#include "math/kernels.h"
#include "math/panel.h"

enum {
    GROUP = QUANT_PANELS,             // of the unpacked block
    BLOCK_UNITS = PS_PANEL_BLOCK / 4, // byte units
    BLOCK_SUBS = PS_PANEL_BLOCK / 16, // sub-blocks of the smaller kind
    LANES = PS_PANEL_LANES
};

void PS_ISA(ps_quant_product)(const ps_quant_job *job);
void PS_ISA(ps_quant_widen)(ps_dtype dtype, const void *panel, int k0, int k1, float *out);

/* Calls macro(format) for the format that is known at run time: a build of the code for each. */
#define EACH_FORMAT(macro)                                                                         \
    macro(PS_Q8_0) macro(PS_Q4_0) macro(PS_Q4_1) macro(PS_Q5_0) macro(PS_Q5_1) macro(PS_IQ4_NL)    \
        macro(PS_MXFP4) macro(PS_Q2_K) macro(PS_Q3_K) macro(PS_Q4_K) macro(PS_Q5_K) macro(PS_Q6_K) \
            macro(PS_IQ4_XS) macro(PS_TQ2_0)

/* Values 2i and 2i + 1 of a run in all lanes. */
V_INLINE w16 value_pair(const ps_rounded *x, int i)
{
    int32_t pair;
    memcpy(&pair, x->q + 2 * i, sizeof pair);
    return w_set(pair);
}

/* ---- one row ---- */

#if ROW_PANELS > 0

/* acc += the products of one sub-block: units first .. first + n-1 of the run. */
V_INLINE w16 units_dot(const ps_quant_format *f, const uint8_t *run, const ps_rounded *x, int first,
                       int n, w16 acc)
{
    UNROLL_UNITS
    for (int j = first; j < first + n; j++) {
        const w16 codes = byte_unit(f, run, j);
        acc = w_dot(acc, w_low_bytes(codes), value_pair(x, 2 * j));
        acc = w_dot(acc, w_high_bytes(codes), value_pair(x, 2 * j + 1));
    }
    return acc;
}

/* Scales of the sub-blocks of one block, where there are such. */
typedef struct block_scales {
    float scale[PS_QUANT_SUBS_MAX][LANES], min[PS_QUANT_SUBS_MAX][LANES];
} block_scales;

V_INLINE v16 run_product(const ps_quant_format *f, const uint8_t *block, int r,
                         const block_scales *scales, const ps_rounded *x, v16 acc)
{
    const uint8_t *run = block + f->head_bytes + (size_t)r * ps_quant_run_bytes(f);
    const bool has_subs = ps_quant_has_subs(f->scales), has_min = ps_quant_has_min(f->scales);
    const int halves = PS_QUANT_RUN / f->sub;
    for (int h = 0; h < halves; h++) {
        const int s = r * halves + h, sum = halves == 1 ? 2 : h;
        const w16 dot = units_dot(f, run, x, h * RUN_UNITS / 2, RUN_UNITS / halves,
                                  w_set(-f->zero * x->sum[sum]));
        const v16 scale = has_subs ? v_load(scales->scale[s]) : block_scale(f, block);
        acc = v_fma(w_to_float(dot), v_mul(scale, v_set(x->scale)), acc);
        if (!has_min) continue;
        const v16 min = has_subs ? v_load(scales->min[s]) : block_min(block);
        acc = v_fma(min, v_set(x->scaled_sum[sum]), acc);
    }
    return acc;
}

V_INLINE void row_panels(const ps_quant_job *job, const ps_quant_format *f, int panels, int panel)
{
    const size_t block_bytes = ps_dtype_block_bytes(job->dtype) * LANES;
    const size_t panel_bytes = block_bytes * (size_t)(job->k / f->values);
    const uint8_t *weights = (const uint8_t *)job->weights + (size_t)panel * panel_bytes;
    float *out = job->out + (size_t)panel * LANES;
    block_scales scales[ROW_PANELS];
    for (int k0 = 0; k0 < job->k; k0 += PS_PANEL_BLOCK) {
        const int k1 = job->k - k0 < PS_PANEL_BLOCK ? job->k : k0 + PS_PANEL_BLOCK;
        v16 acc[ROW_PANELS];
        for (int p = 0; p < panels; p++) {
            acc[p] = v_zero();
        }
        for (int k = k0; k < k1; k += f->values, weights += block_bytes) {
            if (ps_quant_has_subs(f->scales)) {
                for (int p = 0; p < panels; p++) {
                    sub_scales(f, weights + (size_t)p * panel_bytes, scales[p].scale,
                               scales[p].min);
                }
            }
            for (int r = 0; r < f->values / PS_QUANT_RUN; r++) {
                const ps_rounded *x = job->x + k / PS_QUANT_RUN + r;
                for (int p = 0; p < panels; p++) {
                    acc[p] =
                        run_product(f, weights + (size_t)p * panel_bytes, r, &scales[p], x, acc[p]);
                }
            }
        }
        for (int p = 0; p < panels; p++) {
            float *to = out + (size_t)p * LANES;
            v_store(to, k0 > 0 ? v_add(v_load(to), acc[p]) : acc[p]);
        }
    }
}

V_INLINE void row_product(const ps_quant_job *job, ps_dtype dtype)
{
    const ps_quant_format *f = &ps_quant_formats[dtype];
    int panel = 0;
    for (; panel + ROW_PANELS <= job->panels; panel += ROW_PANELS) {
        row_panels(job, f, ROW_PANELS, panel);
    }
    for (; panel < job->panels; panel++) {
        row_panels(job, f, 1, panel);
    }
}

static void one_row_product(const ps_quant_job *job)
{
    switch (job->dtype) {
#define CASE(name)                                                                                 \
    case name:                                                                                     \
        row_product(job, name);                                                                    \
        break;
        EACH_FORMAT(CASE)
#undef CASE
    default:
        break;
    }
}

#endif

/* ---- unpacking ---- */

/* A block of k of a group of panels: codes as byte units, scales and minima for each sub-block. */
typedef struct unpacked {
    uint8_t codes[GROUP][BLOCK_UNITS][PS_QUANT_UNIT_BYTES];
    float scale[GROUP][BLOCK_SUBS][LANES], min[GROUP][BLOCK_SUBS][LANES];
} unpacked;

/* `count` blocks of one panel. Formats with one scale for a block repeat it for each run. */
V_INLINE void unpack_bits(const ps_quant_format *f, const uint8_t *block, int count,
                          size_t block_bytes, uint8_t (*codes)[PS_QUANT_UNIT_BYTES],
                          float (*scale)[LANES], float (*min)[LANES])
{
    const int runs = f->values / PS_QUANT_RUN;
    for (int i = 0; i < count; i++, block += block_bytes) {
        if (ps_quant_has_subs(f->scales)) {
            sub_scales(f, block, scale, min);
            scale += f->values / f->sub;
            min += f->values / f->sub;
        }
        for (int r = 0; r < runs; r++, codes += RUN_UNITS) {
            const uint8_t *run = block + f->head_bytes + (size_t)r * ps_quant_run_bytes(f);
            UNROLL_UNITS
            for (int j = 0; j < RUN_UNITS; j++) {
                w_store(codes[j], byte_unit(f, run, j));
            }
            if (ps_quant_has_subs(f->scales)) continue;
            v_store(*scale++, block_scale(f, block));
            if (ps_quant_has_min(f->scales)) v_store(*min++, block_min(block));
        }
    }
}

static void unpack_trits(const uint8_t *block, int count, size_t block_bytes,
                         uint8_t (*codes)[PS_QUANT_UNIT_BYTES], float (*scale)[LANES])
{
    const ps_quant_format *f = &ps_quant_formats[PS_TQ1_0];
    const int runs = f->values / PS_QUANT_RUN;
    for (int i = 0; i < count; i++, block += block_bytes) {
        trit_block(block + f->head_bytes, codes[i * runs * RUN_UNITS]);
        for (int r = 0; r < runs; r++) {
            v_store(*scale++, block_scale(f, block));
        }
    }
}

static void unpack(ps_dtype dtype, const uint8_t *block, int count,
                   uint8_t (*codes)[PS_QUANT_UNIT_BYTES], float (*scale)[LANES],
                   float (*min)[LANES])
{
    const size_t block_bytes = ps_dtype_block_bytes(dtype) * LANES;
    switch (dtype) {
#define CASE(name)                                                                                 \
    case name:                                                                                     \
        unpack_bits(&ps_quant_formats[name], block, count, block_bytes, codes, scale, min);        \
        break;
        EACH_FORMAT(CASE)
#undef CASE
    default:
        unpack_trits(block, count, block_bytes, codes, scale);
    }
}

/* ---- rows and panels ---- */

typedef struct tile_job {
    const ps_rounded *x; // of the first row and k
    size_t x_stride;
    const unpacked *weights;
    int runs, zero;
    float *out;
    size_t out_stride;
    bool add;
} tile_job;

/* One sub-block, units first .. first + n-1 of run r, for a tile. */
V_INLINE void tile_sub_block(const tile_job *t, int rows, int panels, int first_panel, int r,
                             int first, int n, int sum, w16 (*dot)[4])
{
    const ps_rounded *x = t->x + r;
    for (int i = 0; i < rows; i++) {
        const w16 start = w_set(-t->zero * x[(size_t)i * t->x_stride].sum[sum]);
        for (int p = 0; p < panels; p++) {
            dot[i][p] = start;
        }
    }
    UNROLL_UNITS
    for (int j = first; j < first + n; j++) {
        for (int half = 0; half < 2; half++) {
            w16 w[4];
            for (int p = 0; p < panels; p++) {
                const w16 codes = w_load(t->weights->codes[first_panel + p][r * RUN_UNITS + j]);
                w[p] = half ? w_high_bytes(codes) : w_low_bytes(codes);
            }
            for (int i = 0; i < rows; i++) {
                const w16 pair = value_pair(&x[(size_t)i * t->x_stride], 2 * j + half);
                for (int p = 0; p < panels; p++) {
                    dot[i][p] = w_dot(dot[i][p], w[p], pair);
                }
            }
        }
    }
}

V_INLINE void tile(const tile_job *t, int rows, int panels, int panel, int halves, bool has_min)
{
    v16 acc[TILE_ROWS_MAX][4];
    for (int i = 0; i < rows; i++) {
        for (int p = 0; p < panels; p++) {
            acc[i][p] = v_zero();
        }
    }
    for (int r = 0; r < t->runs; r++) {
        for (int h = 0; h < halves; h++) {
            const int s = r * halves + h, sum = halves == 1 ? 2 : h;
            w16 dot[TILE_ROWS_MAX][4];
            tile_sub_block(t, rows, panels, panel, r, h * RUN_UNITS / 2, RUN_UNITS / halves, sum,
                           dot);
            for (int i = 0; i < rows; i++) {
                const ps_rounded *x = t->x + (size_t)i * t->x_stride + r;
                for (int p = 0; p < panels; p++) {
                    const v16 scale = v_load(t->weights->scale[panel + p][s]);
                    acc[i][p] =
                        v_fma(w_to_float(dot[i][p]), v_mul(scale, v_set(x->scale)), acc[i][p]);
                    if (!has_min) continue;
                    const v16 min = v_load(t->weights->min[panel + p][s]);
                    acc[i][p] = v_fma(min, v_set(x->scaled_sum[sum]), acc[i][p]);
                }
            }
        }
    }
    for (int i = 0; i < rows; i++) {
        for (int p = 0; p < panels; p++) {
            float *to = t->out + (size_t)i * t->out_stride + (size_t)(panel + p) * LANES;
            v_store(to, t->add ? v_add(v_load(to), acc[i][p]) : acc[i][p]);
        }
    }
}

V_INLINE void strip(const tile_job *t, int rows, int panels, int halves, bool has_min)
{
    if (panels == GROUP) {
        tile(t, rows, GROUP, 0, halves, has_min);
        return;
    }
    for (int p = 0; p < panels; p++) {
        tile(t, rows, 1, p, halves, has_min);
    }
}

V_INLINE void all_rows(tile_job *t, int rows, int panels, int halves, bool has_min)
{
    for (; rows >= TILE_ROWS_MAX; rows -= TILE_ROWS_MAX) {
        strip(t, TILE_ROWS_MAX, panels, halves, has_min);
        t->x += TILE_ROWS_MAX * t->x_stride;
        t->out += TILE_ROWS_MAX * t->out_stride;
    }
    switch (rows) {
#if TILE_ROWS_MAX == 6
    case 5:
        strip(t, 5, panels, halves, has_min);
        break;
    case 4:
        strip(t, 4, panels, halves, has_min);
        break;
    case 3:
        strip(t, 3, panels, halves, has_min);
        break;
    case 2:
        strip(t, 2, panels, halves, has_min);
        break;
#endif
    case 1:
        strip(t, 1, panels, halves, has_min);
        break;
    default:
        break;
    }
}

static void tiles(tile_job *t, int rows, int panels, int halves, bool has_min)
{
    if (halves == 2 && has_min) {
        all_rows(t, rows, panels, 2, true);
    } else if (halves == 2) {
        all_rows(t, rows, panels, 2, false);
    } else if (has_min) {
        all_rows(t, rows, panels, 1, true);
    } else {
        all_rows(t, rows, panels, 1, false);
    }
}

static void rows_product(const ps_quant_job *job)
{
    const ps_quant_format *f = &ps_quant_formats[job->dtype];
    const size_t block_bytes = ps_dtype_block_bytes(job->dtype) * LANES;
    const size_t panel_bytes = block_bytes * (size_t)(job->k / f->values);
    unpacked u;
    for (int panel = 0; panel < job->panels; panel += GROUP) {
        const int panels = job->panels - panel < GROUP ? job->panels - panel : GROUP;
        const uint8_t *weights = (const uint8_t *)job->weights + (size_t)panel * panel_bytes;
        for (int k0 = 0; k0 < job->k; k0 += PS_PANEL_BLOCK) {
            const int k1 = job->k - k0 < PS_PANEL_BLOCK ? job->k : k0 + PS_PANEL_BLOCK;
            for (int p = 0; p < panels; p++) {
                unpack(job->dtype,
                       weights + (size_t)p * panel_bytes + (size_t)(k0 / f->values) * block_bytes,
                       (k1 - k0) / f->values, u.codes[p], u.scale[p], u.min[p]);
            }
            tile_job t = {.x = job->x + k0 / PS_QUANT_RUN,
                          .x_stride = job->x_stride,
                          .weights = &u,
                          .runs = (k1 - k0) / PS_QUANT_RUN,
                          .zero = f->zero,
                          .out = job->out + (size_t)panel * LANES,
                          .out_stride = job->out_stride,
                          .add = k0 > 0};
            tiles(&t, job->rows, panels, PS_QUANT_RUN / f->sub, ps_quant_has_min(f->scales));
        }
    }
}

void PS_ISA(ps_quant_product)(const ps_quant_job *job)
{
#if ROW_PANELS > 0
    if (job->rows == 1 && job->dtype != PS_TQ1_0) {
        one_row_product(job);
        return;
    }
#endif
    rows_product(job);
}

/* ---- exact values ---- */

static void widen_unit(const uint8_t *codes, int zero, const float *scale, const float *min,
                       float *out)
{
    static const int place[4] = {0, 16, 8, 24}; // the bits of k = 0, 1, 2, 3 in a lane
    for (int i = 0; i < 4; i++) {
        const w16 code = w_and(w_shr(w_load(codes), place[i]), w_set(255));
        const v16 number = w_to_float(w_add(code, w_set(-zero)));
        // The product is exact, so the fused form rounds once as a product and a sum do.
        const v16 s = v_load(scale);
        v_store(out + i * LANES, min ? v_fma(number, s, v_load(min)) : v_mul(number, s));
    }
}

void PS_ISA(ps_quant_widen)(ps_dtype dtype, const void *panel, int k0, int k1, float *out)
{
    enum { PART = PS_DTYPE_BLOCK_VALUES_MAX };
    const ps_quant_format *f = &ps_quant_formats[dtype];
    const size_t block_bytes = ps_dtype_block_bytes(dtype) * LANES;
    const bool has_min = ps_quant_has_min(f->scales);
    uint8_t codes[PART / 4][PS_QUANT_UNIT_BYTES];
    float scale[PS_QUANT_SUBS_MAX][LANES], min[PS_QUANT_SUBS_MAX][LANES];
    for (int k = k0; k < k1; k += f->values) {
        unpack(dtype, (const uint8_t *)panel + (size_t)(k / f->values) * block_bytes, 1, codes,
               scale, min);
        for (int i = 0; i < f->values; i += 4) {
            const int s = i / f->sub;
            widen_unit(codes[i / 4], f->zero, scale[s], has_min ? min[s] : NULL,
                       out + (size_t)(k - k0 + i) * LANES);
        }
    }
}
