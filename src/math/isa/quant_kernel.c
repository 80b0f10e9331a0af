/* Products of rounded rows with quantised panels, in integers.
 *
 * Few rows: codes go from memory through registers into the products, one panel after the other.
 * That is one stream for the processor to read ahead in; four panels side by side, as for floats,
 * are read a third slower, since there is more work on each line. More rows: a block of
 * PS_PANEL_BLOCK k of a few panels is unpacked once, to bytes in the first cache level, and
 * register tiles of rows and panels pass over it. Which way a row goes changes nothing: the
 * integers are exact, and the floating-point steps for each sub-block are those of math/panel.h. */
#include "math/isa/quant_codes.h"
#include "math/kernels.h"
#include "math/panel.h"

enum {
    FEW_ROWS = 4,                     // of the largest direct product
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

/* Two consecutive values as they are, in every lane. */
V_INLINE w16 pair_of(const ps_rounded *x, int pair)
{
    int32_t values;
    memcpy(&values, x->q + 2 * pair, sizeof values);
    return w_set(values);
}

/* A step of a dot product is one byte unit by the activations of its 4 k, in two halves: the pairs
 * of even and of odd bytes as 16 bits, by values as they are; or all codes by the upper bytes of the
 * values, and by the lower ones. */
#ifdef ROUND_TO_BYTES
enum { HALVES_APART = true };

V_INLINE w16 half_step(w16 sum, w16 codes, const ps_rounded *x, int j, int half)
{
    int32_t bytes;
    memcpy(&bytes, (half ? x->lower : x->upper) + 4 * j, sizeof bytes);
    return w_dot_bytes(sum, codes, w_set(bytes));
}

/* The sum of a sub-block from those of its halves. */
V_INLINE w16 both_halves(w16 first, w16 second)
{
    return w_add(w_shl(first, 8), second);
}
#else
enum { HALVES_APART = false }; // they may share one sum

V_INLINE w16 half_step(w16 sum, w16 codes, const ps_rounded *x, int j, int half)
{
    return w_dot(sum, half ? w_high_bytes(codes) : w_low_bytes(codes), pair_of(x, 2 * j + half));
}

V_INLINE w16 both_halves(w16 first, w16 second)
{
    return w_add(first, second);
}
#endif

/* ---- few rows ---- */

#if DIRECT_ROWS > 0

/* Scales of the sub-blocks of one block, where there are such. */
typedef struct block_scales {
    float scale[PS_QUANT_SUBS_MAX][LANES], min[PS_QUANT_SUBS_MAX][LANES];
} block_scales;

/* Some rows under a panel. */
typedef struct rows_job {
    const ps_quant_format *format;
    int rows;
    size_t x_stride;
} rows_job;

/* Asks for the future of a run, a line with each unit: the processor's own reading ahead falls behind
 * where there is much work on each line.
 *
 * Zen 4: one row does without; more rows least with a page or one and a half as the distance (q6_k, two
 * rows, of plain reads: 0.68 with half a page, 0.76 with one, 0.80 so, 0.78 with two; q8_0, four rows:
 * 0.84, 0.95, 0.90, 0.85). With all lines of a run at once, or into the second cache level, it is worse
 * (0.88, 0.67).
 * Zen 3: one row needs it too (of plain reads, q8_0, q4_0, q4_k: 0.74, 0.64, 0.60 without, 0.88, 0.82,
 * 0.79 so), best a quarter of a page before its use. */
V_INLINE void fetch_ahead(const rows_job *job, const uint8_t *run, int unit)
{
    enum { LINE = 64 };
    if (job->rows >= FETCH_ROWS && (size_t)unit * LINE < ps_quant_run_bytes(job->format))
        __builtin_prefetch(run + FETCH_DISTANCE(job->rows) + unit * LINE, 0, 3);
}

/* One row of plain nibbles, where bytes are not multiplied as they are: nibbles stay where they are in
 * their 16 bits, which multiplies products by 1, 16 or 256, and sums are shifted once for each run.
 * |256 * sum of q * code| <= 2^8 * 8 * 32639 * 15 < 2^30. With more rows there are not enough registers
 * (q4_0 on a Zen 3: one row 1.12 of the speed of byte units, two rows 0.72). */
V_INLINE bool sums_in_place(const ps_quant_format *f, int rows)
{
    return rows == 1 && !HALVES_APART && f->low_bits == 4 && f->plane_bits == 0 && !f->numbers &&
           f->sub == PS_QUANT_RUN;
}

/* The integers of a run. */
V_INLINE w16 nibbles_dot(const rows_job *job, const uint8_t *run, const ps_rounded *x)
{
    w16 dot = w_set(-job->format->zero * x->sum[2]), by_16 = w_set(0), by_256 = by_16;
    UNROLL_UNITS
    for (int u = 0; u < RUN_UNITS / 2; u++) {
        const w16 unit = w_load(run + u * PS_QUANT_UNIT_BYTES);
        fetch_ahead(job, run, u);
        dot = w_dot(dot, w_and(unit, w_set(0x000F000F)), pair_of(x, 4 * u));
        by_256 = w_dot(by_256, w_and(unit, w_set(0x0F000F00)), pair_of(x, 4 * u + 1));
        by_16 = w_dot(by_16, w_and(unit, w_set(0x00F000F0)), pair_of(x, 4 * u + 2));
        dot = w_dot(dot, w_high_nibbles(unit), pair_of(x, 4 * u + 3));
    }
    return w_add(dot, w_add(w_sar(by_16, 4), w_sar(by_256, 8)));
}

/* The integers of sub-block h of a run: dot[rows]. Few rows have a second chain of sums each. */
V_INLINE void sub_block_dot(const rows_job *job, const uint8_t *run, int h, const ps_rounded *x,
                            int sum, w16 *dot)
{
    const ps_quant_format *f = job->format;
    const int n = RUN_UNITS * f->sub / PS_QUANT_RUN;
    const bool apart = HALVES_APART || job->rows < FEW_ROWS;
    w16 first[FEW_ROWS];
    for (int i = 0; i < job->rows; i++) {
        first[i] = w_set(0);
        dot[i] = w_set(-f->zero * x[(size_t)i * job->x_stride].sum[sum]);
    }
    UNROLL_UNITS
    for (int j = h * n; j < (h + 1) * n; j++) {
        const w16 codes = byte_unit(f, run, j);
        fetch_ahead(job, run, j);
        for (int i = 0; i < job->rows; i++) {
            const ps_rounded *row = &x[(size_t)i * job->x_stride];
            w16 *of_first = apart ? &first[i] : &dot[i];
            *of_first = half_step(*of_first, codes, row, j, 0);
            dot[i] = half_step(dot[i], codes, row, j, 1);
        }
    }
    for (int i = 0; i < job->rows && apart; i++) {
        dot[i] = both_halves(first[i], dot[i]);
    }
}

/* Adds the products of sub-block h of run r, whose activations are x[rows], to acc[rows]. */
V_INLINE void sub_block(const rows_job *job, const uint8_t *block, const block_scales *scales,
                        int r, int h, const ps_rounded *x, v16 *acc)
{
    const ps_quant_format *f = job->format;
    const bool has_subs = ps_quant_has_subs(f->scales), has_min = ps_quant_has_min(f->scales);
    const int halves = PS_QUANT_RUN / f->sub, s = r * halves + h, sum = halves == 1 ? 2 : h;
    const uint8_t *run = block + f->head_bytes + (size_t)r * ps_quant_run_bytes(f);
    w16 dot[FEW_ROWS];
    if (sums_in_place(f, job->rows)) {
        dot[0] = nibbles_dot(job, run, x);
    } else {
        sub_block_dot(job, run, h, x, sum, dot);
    }
    const v16 scale = has_subs ? v_load(scales->scale[s]) : block_scale(f, block);
    for (int i = 0; i < job->rows; i++) {
        const ps_rounded *row = &x[(size_t)i * job->x_stride];
        acc[i] = v_fma(w_to_float(dot[i]), v_mul(scale, v_set(row->scale)), acc[i]);
        if (!has_min) continue;
        const v16 min = has_subs ? v_load(scales->min[s]) : block_min(block);
        acc[i] = v_fma(min, v_set(row->scaled_sum[sum]), acc[i]);
    }
}

/* `rows` rows from x on under one panel: out[rows, 16]. The panel is read once, in order. */
V_INLINE void few_rows(const ps_quant_job *job, const ps_quant_format *f, int rows,
                       const ps_rounded *x, const uint8_t *panel, float *out)
{
    const size_t block_bytes = ps_dtype_block_bytes(job->dtype) * LANES;
    const rows_job shape = {f, rows, job->x_stride};
    block_scales scales;
    for (int k0 = 0; k0 < job->k; k0 += PS_PANEL_BLOCK) {
        const int k1 = job->k - k0 < PS_PANEL_BLOCK ? job->k : k0 + PS_PANEL_BLOCK;
        v16 acc[FEW_ROWS];
        for (int i = 0; i < rows; i++) {
            acc[i] = v_zero();
        }
        for (int k = k0; k < k1; k += f->values, panel += block_bytes) {
            if (ps_quant_has_subs(f->scales)) sub_scales(f, panel, scales.scale, scales.min);
            for (int r = 0; r < f->values / PS_QUANT_RUN; r++, x++) {
                UNROLL_UNITS
                for (int h = 0; h < PS_QUANT_RUN / f->sub; h++) {
                    sub_block(&shape, panel, &scales, r, h, x, acc);
                }
            }
        }
        for (int i = 0; i < rows; i++) {
            float *to = out + (size_t)i * job->out_stride;
            v_store(to, k0 > 0 ? v_add(v_load(to), acc[i]) : acc[i]);
        }
    }
}

/* A panel comes from memory once; rows beyond the first four find it in a cache. */
V_INLINE void direct_product(const ps_quant_job *job, ps_dtype dtype)
{
    const ps_quant_format *f = &ps_quant_formats[dtype];
    const size_t panel_bytes = ps_panel_bytes(dtype, job->k);
    for (int p = 0; p < job->panels; p++) {
        const uint8_t *panel = (const uint8_t *)job->weights + (size_t)p * panel_bytes;
        const ps_rounded *x = job->x;
        float *out = job->out + (size_t)p * LANES;
        int left = job->rows;
        for (; left >= 4; left -= 4, x += 4 * job->x_stride, out += 4 * job->out_stride) {
            few_rows(job, f, 4, x, panel, out);
        }
        for (; left >= 2; left -= 2, x += 2 * job->x_stride, out += 2 * job->out_stride) {
            few_rows(job, f, 2, x, panel, out);
        }
        if (left > 0) few_rows(job, f, 1, x, panel, out);
    }
}

static void few_rows_product(const ps_quant_job *job)
{
    switch (job->dtype) {
#define CASE(name)                                                                                 \
    case name:                                                                                     \
        direct_product(job, name);                                                                 \
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
        for (int p = 0; p < panels; p++) {
            dot[i][p] = w_set(0);
        }
    }
    for (int half = 0; half < 2; half++) {
        KEEP_ROLLED
        for (int j = first; j < first + n; j++) {
            w16 codes[4];
            for (int p = 0; p < panels; p++) {
                codes[p] = w_load(t->weights->codes[first_panel + p][r * RUN_UNITS + j]);
            }
            for (int i = 0; i < rows; i++) {
                for (int p = 0; p < panels; p++) {
                    dot[i][p] =
                        half_step(dot[i][p], codes[p], &x[(size_t)i * t->x_stride], j, half);
                }
            }
        }
        for (int i = 0; i < rows && half == 0; i++) {
            const w16 start = w_set(-t->zero * x[(size_t)i * t->x_stride].sum[sum]);
            for (int p = 0; p < panels; p++) {
                dot[i][p] = both_halves(dot[i][p], start);
            }
        }
    }
}

V_INLINE void tile(const tile_job *t, int rows, int panels, int panel, int halves, bool has_min)
{
    v16 acc[QUANT_ROWS][4];
    for (int i = 0; i < rows; i++) {
        for (int p = 0; p < panels; p++) {
            acc[i][p] = v_zero();
        }
    }
    for (int r = 0; r < t->runs; r++) {
        for (int h = 0; h < halves; h++) {
            const int s = r * halves + h, sum = halves == 1 ? 2 : h;
            w16 dot[QUANT_ROWS][4];
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
    for (; rows >= QUANT_ROWS; rows -= QUANT_ROWS) {
        strip(t, QUANT_ROWS, panels, halves, has_min);
        t->x += QUANT_ROWS * t->x_stride;
        t->out += QUANT_ROWS * t->out_stride;
    }
    switch (rows) {
#if QUANT_ROWS > 4
    case 5:
        strip(t, 5, panels, halves, has_min);
        break;
    case 4:
        strip(t, 4, panels, halves, has_min);
        break;
#endif
#if QUANT_ROWS > 2
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
#if DIRECT_ROWS > 0
    if (job->rows <= DIRECT_ROWS && job->dtype != PS_TQ1_0) {
        few_rows_product(job);
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
