/* Products of rounded rows with quantised panels, in integers: many rows.
 *
 * A block of PS_PANEL_BLOCK k of a few panels is unpacked once, into the first cache level, and
 * register tiles of rows and panels pass over it. */
#include "math/isa/quant_steps.h"

enum {
    GROUP = QUANT_PANELS,             // of the unpacked block
    BLOCK_UNITS = PS_PANEL_BLOCK / 4, // byte units
    BLOCK_SUBS = PS_PANEL_BLOCK / 16, // sub-blocks of the smaller kind
    UNPACKED_BYTES = HALVES_APART ? PS_QUANT_UNIT_BYTES : 2 * PS_QUANT_UNIT_BYTES
};

void PS_ISA(ps_quant_tiles)(const ps_quant_job *job);
void PS_ISA(ps_quant_widen)(ps_dtype dtype, const void *panel, int k0, int k1, float *out);

/* A block of k of a group of panels: codes, and scales and minima for each sub-block. */
typedef struct unpacked {
    uint8_t codes[GROUP][BLOCK_UNITS][UNPACKED_BYTES];
    float scale[GROUP][BLOCK_SUBS][LANES], min[GROUP][BLOCK_SUBS][LANES];
} unpacked;

typedef struct tile_job {
    const ps_rounded *x; // of the first row and k
    size_t x_stride;
    const unpacked *weights;
    int runs, zero;
    float *out;
    size_t out_stride;
    bool add;
} tile_job;

/* ---- unpacked codes ---- */

#ifdef ROUND_TO_BYTES
/* A byte unit, as it is multiplied; the zero point is taken off each sum. */
V_INLINE void store_unpacked(uint8_t *to, w16 codes, int zero)
{
    (void)zero;
    w_store(to, codes);
}

V_INLINE void unpack_unit(const ps_quant_format *f, const uint8_t *run, int j, uint8_t *to)
{
    store_unpacked(to, byte_unit(f, run, j), f->zero);
}

/* Number k = 0 .. 3 of a unit. */
V_INLINE w16 load_number(const uint8_t *unit, int k, int zero)
{
    static const int place[4] = {0, 16, 8, 24}; // the bits of k in a lane
    return w_add(w_and(w_shr(w_load(unit), place[k]), w_set(255)), w_set(-zero));
}

/* Half a sub-block, units first .. first + n-1 of run r, for a tile. */
V_INLINE void tile_half(const tile_job *t, int rows, int panels, int first_panel, int r, int first,
                        int n, int half, w16 (*dot)[4])
{
    KEEP_ROLLED
    for (int j = first; j < first + n; j++) {
        w16 codes[4];
        for (int p = 0; p < panels; p++) {
            codes[p] = w_load(t->weights->codes[first_panel + p][r * RUN_UNITS + j]);
        }
        for (int i = 0; i < rows; i++) {
            for (int p = 0; p < panels; p++) {
                dot[i][p] = half_step(dot[i][p], codes[p],
                                      &t->x[(size_t)i * t->x_stride + (size_t)r], j, half);
            }
        }
    }
}

/* One sub-block; `sum` is the place of the sum of its activations. */
V_INLINE void tile_sub_block(const tile_job *t, int rows, int panels, int first_panel, int r,
                             int first, int n, int sum, w16 (*dot)[4])
{
    tile_half(t, rows, panels, first_panel, r, first, n, 0, dot);
    for (int i = 0; i < rows; i++) {
        const w16 start = w_set(-t->zero * t->x[(size_t)i * t->x_stride + (size_t)r].sum[sum]);
        for (int p = 0; p < panels; p++) {
            dot[i][p] = both_halves(dot[i][p], start);
        }
    }
    tile_half(t, rows, panels, first_panel, r, first, n, 1, dot);
}
#else
/* Two units of 16 bits, the even and the odd bytes, with the zero point taken off: tiles multiply what
 * they load, and sums need no correction (AVX2, Zen 3, 128 rows: 1.2 to 1.27 of the speed of byte units
 * that each tile takes apart, 1.55 with sub-blocks of 16). */
V_INLINE void store_pairs(uint8_t *to, w16 even, w16 odd, int zero)
{
    const w16 zeros = w_set(zero << 16 | zero);
    w_store(to, w_sub_pairs(even, zeros));
    w_store(to + PS_QUANT_UNIT_BYTES, w_sub_pairs(odd, zeros));
}

V_INLINE void store_unpacked(uint8_t *to, w16 codes, int zero)
{
    store_pairs(to, w_low_bytes(codes), w_shr_pairs(codes, 8), zero);
}

V_INLINE void unpack_unit(const ps_quant_format *f, const uint8_t *run, int j, uint8_t *to)
{
    if (ps_quant_in_halves(f)) {
        store_pairs(to, half_pair(f, run, 2 * j), half_pair(f, run, 2 * j + 1), f->zero);
    } else {
        store_unpacked(to, byte_unit(f, run, j), f->zero);
    }
}

V_INLINE w16 load_number(const uint8_t *unit, int k, int zero)
{
    (void)zero;
    const w16 pair = w_load(unit + k / 2 * PS_QUANT_UNIT_BYTES);
    return w_sar(k % 2 == 0 ? w_shl(pair, 16) : pair, 16);
}

V_INLINE void tile_sub_block(const tile_job *t, int rows, int panels, int first_panel, int r,
                             int first, int n, int sum, w16 (*dot)[4])
{
    (void)sum;
    UNROLL_UNITS
    for (int j = 2 * first; j < 2 * (first + n); j++) {
        w16 codes[4];
        for (int p = 0; p < panels; p++) {
            const uint8_t *run = t->weights->codes[first_panel + p][r * RUN_UNITS];
            codes[p] = w_load(run + (size_t)j * PS_QUANT_UNIT_BYTES);
        }
        for (int i = 0; i < rows; i++) {
            const w16 pair = pair_of(&t->x[(size_t)i * t->x_stride + (size_t)r], j);
            for (int p = 0; p < panels; p++) {
                dot[i][p] = w_dot(dot[i][p], codes[p], pair);
            }
        }
    }
}
#endif

/* ---- unpacking ---- */

/* `count` blocks of one panel. Formats with one scale for a block repeat it for each run. */
V_INLINE void unpack_bits(const ps_quant_format *f, const uint8_t *block, int count,
                          size_t block_bytes, uint8_t (*codes)[UNPACKED_BYTES],
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
                unpack_unit(f, run, j, codes[j]);
            }
            if (ps_quant_has_subs(f->scales)) continue;
            v_store(*scale++, block_scale(f, block));
            if (ps_quant_has_min(f->scales)) v_store(*min++, block_min(block));
        }
    }
}

static void unpack_trits(const uint8_t *block, int count, size_t block_bytes,
                         uint8_t (*codes)[UNPACKED_BYTES], float (*scale)[LANES])
{
    const ps_quant_format *f = &ps_quant_formats[PS_TQ1_0];
    const int runs = f->values / PS_QUANT_RUN;
    uint8_t units[PS_DTYPE_BLOCK_VALUES_MAX / 4][PS_QUANT_UNIT_BYTES];
    for (int i = 0; i < count; i++, block += block_bytes) {
        trit_block(block + f->head_bytes, units[0]);
        for (int j = 0; j < runs * RUN_UNITS; j++, codes++) {
            store_unpacked(*codes, w_load(units[j]), f->zero);
        }
        for (int r = 0; r < runs; r++) {
            v_store(*scale++, block_scale(f, block));
        }
    }
}

static void unpack(ps_dtype dtype, const uint8_t *block, int count,
                   uint8_t (*codes)[UNPACKED_BYTES], float (*scale)[LANES], float (*min)[LANES])
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
            for (int i = 0; i < rows * panels; i++) {
                dot[i / panels][i % panels] = w_set(0);
            }
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

void PS_ISA(ps_quant_tiles)(const ps_quant_job *job)
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

/* ---- exact values ---- */

static void widen_unit(const uint8_t *codes, int zero, const float *scale, const float *min,
                       float *out)
{
    const v16 s = v_load(scale);
    for (int i = 0; i < 4; i++) {
        const v16 number = w_to_float(load_number(codes, i, zero));
        // The product is exact, so the fused form rounds once as a product and a sum do.
        v_store(out + i * LANES, min ? v_fma(number, s, v_load(min)) : v_mul(number, s));
    }
}

void PS_ISA(ps_quant_widen)(ps_dtype dtype, const void *panel, int k0, int k1, float *out)
{
    enum { PART = PS_DTYPE_BLOCK_VALUES_MAX };
    const ps_quant_format *f = &ps_quant_formats[dtype];
    const size_t block_bytes = ps_dtype_block_bytes(dtype) * LANES;
    const bool has_min = ps_quant_has_min(f->scales);
    uint8_t codes[PART / 4][UNPACKED_BYTES];
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
