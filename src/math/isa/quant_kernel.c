/* Products of rounded rows with quantised panels, in integers: few rows.
 *
 * Codes go from memory through registers into the products, mostly one panel after the other. That is
 * one stream for the processor to read ahead in; four panels side by side, as for floats, are read a
 * third slower, since there is more work on each line (SIDE_BY_SIDE says where two are not). More rows
 * are those of quant_tiles.c. Which way a row goes changes nothing: the integers are exact, and the
 * floating-point steps for each sub-block are those of math/panel.h. */
#include "math/isa/quant_steps.h"

void PS_ISA(ps_quant_product)(const ps_quant_job *job);
void PS_ISA(ps_quant_tiles)(const ps_quant_job *job);

#if DIRECT_ROWS > 0

enum { LINE_BYTES = 64 };
enum { FEW_ROWS = 4, FEW_PANELS = 2, FEW_SUMS = 4 }; // of the largest products: FEW_SUMS of both
#ifdef ROUND_TO_BYTES
_Static_assert(PAIR_ROWS <= DIRECT_ROWS, "tiles take bytes");
#endif
_Static_assert(SIDE_BY_SIDE(1, 8) <= FEW_PANELS && FEW_PANELS <= FEW_SUMS, "panels have a place");

/* Scales of the sub-blocks of one block, where there are such. */
typedef struct block_scales {
    float scale[PS_QUANT_SUBS_MAX][LANES], min[PS_QUANT_SUBS_MAX][LANES];
} block_scales;

/* Some rows under panels side by side. What is for both is [panels, rows], rows the faster. */
typedef struct rows_job {
    const ps_quant_format *format;
    bool pairs; // the rows are 16-bit integers
    int rows, panels;
    size_t x_stride, panel_bytes;
    int distance; // from what is read to what is asked for, 0: nothing is
} rows_job;

/* Asks for what is as far behind `at` as the rows want: the processor's own reading ahead falls behind
 * where there is much work on each line.
 *
 * Zen 4: one row does without; more rows least with a page or one and a half as the distance (q6_k, two
 * rows, of plain reads: 0.68 with half a page, 0.76 with one, 0.80 so, 0.78 with two; q8_0, four rows:
 * 0.84, 0.95, 0.90, 0.85). With all lines of a run at once, or into the second cache level, it is worse
 * (0.88, 0.67).
 * Zen 5: one row needs it where sub-blocks have scales (of plain reads, one thread: q4_k 0.38, q6_k 0.51,
 * q4_0 0.86 without; 0.86, 0.91, 0.96 with one page, 0.95, 0.99, 0.99 with two, 0.92, 0.95, 0.96 with
 * three); bytes least with one page (two threads 0.86 without, 0.89, 0.92, 0.91 with half a page, one and
 * two). More rows best with two and a half: with half a page, one, two, so and with three, q8_0 of four
 * rows 0.60, 0.72, 0.89, 0.95, 0.94, q4_0 0.44, 0.56, 0.68, 0.69, 0.68, q5_k of two -, 0.85, 0.89, 1.00,
 * 0.95.
 * Zen 3: one row needs it too (of plain reads, q8_0, q4_0, q4_k: 0.74, 0.64, 0.60 without). Bytes, on
 * which there is little work, best a quarter of a page before their use (0.88); of what takes longer a
 * page ahead into the second level is 1.03 to 1.1 times as fast as that with one thread and two (q8_0
 * 0.9, more rows 0.91 to 1.03). */
V_INLINE void fetch_line(const rows_job *job, const uint8_t *at)
{
    if (job->distance == 0) return;
    if (FETCH_FAR(job->rows, job->format->low_bits) > 0) {
        __builtin_prefetch(at + FETCH_FAR(job->rows, job->format->low_bits), 0, 2);
    } else {
        ASK_FOR(job->rows < FEW_ROWS, at + job->distance); // more rows come back to a panel
    }
}

/* The future of a run: a line with each unit, or with one in some.
 *
 * One row of bytes wants few lines asked for on a Zen 5: it reads ahead by itself, and what it is told
 * to fetch in between holds that up (of plain reads, one thread, 4096 bytes ahead: every line 0.94, with
 * one unit in two, three, four and eight 0.95, 0.97, 0.99, 0.96, no line 0.93). Where codes are narrower
 * its own reading falls behind (one unit in two, and all: q4_0 0.91, 0.96, q4_k 0.40, 0.97). */
V_INLINE void fetch_ahead(const rows_job *job, const uint8_t *run, int unit)
{
    if (unit % ASK_EVERY(job->rows, job->format->low_bits) != 0) return;
    if ((size_t)unit * LINE_BYTES < ps_quant_run_bytes(job->format))
        fetch_line(job, run + unit * LINE_BYTES);
}

/* The same for the lines that a block's head takes, without which one in nine of q8_0 and q4_0 is not
 * asked for (Zen 3, from memory: q8_0 1.07 with one thread and 1.03 with two, others up to 1.02). */
V_INLINE void fetch_heads(const rows_job *job, const uint8_t *block)
{
    if (ASK_EVERY(job->rows, job->format->low_bits) > 1) return;
    UNROLL_UNITS
    for (int at = 0; at < job->format->head_bytes; at += LINE_BYTES) {
        for (int p = 0; p < job->panels; p++) {
            fetch_line(job, block + (size_t)p * job->panel_bytes + at);
        }
    }
}

/* A unit whose codes are taken out in several steps. */
V_INLINE w16 load_once(const uint8_t *unit)
{
    w16 codes = w_load(unit);
    W_HOLD(codes);
    return codes;
}

/* One row of plain nibbles: they stay where they are in their bytes or 16 bits, which multiplies
 * products by 1, 16 or 256, and sums are shifted once for each run.
 * |256 * sum of q * code| <= 2^8 * 8 * 32639 * 15 < 2^30, and of bytes 2^4 * 32 * 32639 * 15 < 2^28. With
 * more rows there are not enough registers (q4_0 on a Zen 3: one row 1.12 of the speed of byte units,
 * two rows 0.72; bytes, from a cache, Zen 5: one row 1.23). */
V_INLINE bool sums_in_place(const ps_quant_format *f, int sums)
{
    return sums == 1 && f->low_bits == 4 && f->plane_bits == 0 && !f->numbers &&
           f->sub == PS_QUANT_RUN;
}

/* The integers of a run. */
#ifdef ROUND_TO_BYTES
V_INLINE w16 nibbles_dot(const rows_job *job, const uint8_t *run, const ps_rounded *x)
{
    w16 dot[2] = {w_set(0), w_set(-job->format->zero * x->sum[2])};
    w16 by_16[2] = {w_set(0), w_set(0)};
    UNROLL_UNITS
    for (int u = 0; u < RUN_UNITS / 2; u++) {
        const w16 unit = load_once(run + u * PS_QUANT_UNIT_BYTES);
        fetch_ahead(job, run, u);
        UNROLL_UNITS
        for (int half = 0; half < 2; half++) {
            dot[half] = half_step(dot[half], w_and(unit, w_bytes(0x0F)), x, 2 * u, half);
            by_16[half] = half_step(by_16[half], w_and(unit, w_bytes(0xF0)), x, 2 * u + 1, half);
        }
    }
    return w_add(both_halves(dot[0], dot[1]), w_sar(both_halves(by_16[0], by_16[1]), 4));
}
#else
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
        dot = w_dot(dot, w_shr_pairs(unit, 12), pair_of(x, 4 * u + 3));
    }
    return w_add(dot, w_add(w_sar(by_16, 4), w_sar(by_256, 8)));
}
#endif

/* Adds codes of pair i times the rows' activations to sums[rows]. */
V_INLINE void pair_step(const rows_job *job, w16 codes, const ps_rounded *x, int i, w16 *sums)
{
    for (int row = 0; row < job->rows; row++) {
        sums[row] = w_dot(sums[row], codes, pair_of(&x[(size_t)row * job->x_stride], i));
    }
}

/* Codes of five or six bits that stay where they are in their 16 bits multiply products by 32 or 64:
 * one step less for each of them, as long as there are registers for sums of their own.
 * |64 * sum of q * code| <= 2^6 * 8 * 32639 * 63 < 2^30. */
V_INLINE bool halves_in_place(int rows)
{
    return rows <= 2;
}

V_INLINE void fives_dot(const rows_job *job, const uint8_t *run, const ps_rounded *x, w16 *dot)
{
    const bool in_place = halves_in_place(job->rows);
    w16 by_32[FEW_SUMS], last = w_set(0);
    for (int row = 0; row < job->rows; row++) {
        by_32[row] = w_set(0);
    }
    UNROLL_UNITS
    for (int u = 0; u < 5; u++) {
        const w16 unit = load_once(run + u * PS_QUANT_UNIT_BYTES);
        fetch_ahead(job, run, u);
        last = w_or(w_shr(last, 1), w_and(unit, w_set(0x04000400)));
        pair_step(job, w_and(unit, w_set(0x001F001F)), x, 3 * u, dot);
        if (in_place) {
            pair_step(job, w_and(unit, w_set(0x03E003E0)), x, 3 * u + 1, by_32);
        } else {
            pair_step(job, w_and(w_shr(unit, 5), w_set(0x001F001F)), x, 3 * u + 1, dot);
        }
        pair_step(job, w_shr_pairs(unit, 11), x, 3 * u + 2, dot);
    }
    pair_step(job, w_shr(last, 6), x, 15, dot);
    for (int row = 0; row < job->rows && in_place; row++) {
        dot[row] = w_add(dot[row], w_sar(by_32[row], 5));
    }
}

/* Sub-block h: eight pairs. */
V_INLINE void sixes_dot(const rows_job *job, const uint8_t *run, int h, const ps_rounded *x,
                        w16 *dot)
{
    const bool in_place = halves_in_place(job->rows);
    w16 by_64[FEW_SUMS], units[3];
    for (int row = 0; row < job->rows; row++) {
        by_64[row] = w_set(0);
    }
    for (int u = 0; u < 3; u++) {
        units[u] = load_once(run + (3 * h + u) * PS_QUANT_UNIT_BYTES);
        fetch_ahead(job, run, 3 * h + u);
        pair_step(job, w_and(units[u], w_set(0x003F003F)), x, 8 * h + 2 * u, dot);
        pair_step(job, w_shr_pairs(units[u], 10), x, 8 * h + 2 * u + 1, dot);
    }
    for (int i = 6; i < 8; i++) {
        const w16 codes = middle_six(units[i - 6], units[2], i);
        if (in_place) {
            pair_step(job, codes, x, 8 * h + i, by_64);
        } else {
            pair_step(job, w_shr(codes, 6), x, 8 * h + i, dot);
        }
    }
    for (int row = 0; row < job->rows && in_place; row++) {
        dot[row] = w_add(dot[row], w_sar(by_64[row], 6));
    }
}

V_INLINE void halves_dot(const rows_job *job, const uint8_t *run, int h, const ps_rounded *x,
                         int sum, w16 *dot)
{
    for (int row = 0; row < job->rows; row++) {
        dot[row] = w_set(-job->format->zero * x[(size_t)row * job->x_stride].sum[sum]);
    }
    if (job->format->low_bits == 5) {
        fives_dot(job, run, x, dot);
    } else {
        sixes_dot(job, run, h, x, dot);
    }
}

/* The integers of sub-block h of a run: dot[panels, rows]. Few rows have a second chain of sums
 * each. */
V_INLINE void sub_block_dot(const rows_job *job, const uint8_t *run, int h, const ps_rounded *x,
                            int sum, w16 *dot)
{
    const ps_quant_format *f = job->format;
    const int n = RUN_UNITS * f->sub / PS_QUANT_RUN, sums = job->panels * job->rows;
    const bool apart = HALVES_APART || sums < FEW_SUMS;
    w16 first[FEW_SUMS];
    for (int i = 0; i < sums; i++) {
        first[i] = w_set(0);
        dot[i] = w_set(-f->zero * x[(size_t)(i % job->rows) * job->x_stride].sum[sum]);
    }
    UNROLL_UNITS
    for (int j = h * n; j < (h + 1) * n; j++) {
        w16 codes[FEW_PANELS];
        for (int p = 0; p < job->panels; p++) {
            codes[p] = byte_unit(f, run + (size_t)p * job->panel_bytes, j);
            fetch_ahead(job, run + (size_t)p * job->panel_bytes, j);
        }
        for (int i = 0; i < sums; i++) {
            const ps_rounded *row = &x[(size_t)(i % job->rows) * job->x_stride];
            w16 *of_first = apart ? &first[i] : &dot[i];
            *of_first = half_step(*of_first, codes[i / job->rows], row, j, 0);
            dot[i] = half_step(dot[i], codes[i / job->rows], row, j, 1);
        }
    }
    for (int i = 0; i < sums && apart; i++) {
        dot[i] = both_halves(first[i], dot[i]);
    }
}

/* Adds the products of sub-block h of run r, whose activations are x[rows], to acc[panels, rows]. */
V_INLINE void sub_block(const rows_job *job, const uint8_t *block, const block_scales *scales,
                        int r, int h, const ps_rounded *x, v16 *acc)
{
    const ps_quant_format *f = job->format;
    const bool has_subs = ps_quant_has_subs(f->scales), has_min = ps_quant_has_min(f->scales);
    const int halves = PS_QUANT_RUN / f->sub, s = r * halves + h, sum = halves == 1 ? 2 : h;
    const uint8_t *run = block + f->head_bytes + (size_t)r * ps_quant_run_bytes(f);
    w16 dot[FEW_SUMS];
    if (sums_in_place(f, job->panels * job->rows)) {
        dot[0] = nibbles_dot(job, run, x);
    } else if (job->pairs && ps_quant_in_halves(f)) {
        halves_dot(job, run, h, x, sum, dot);
    } else {
        sub_block_dot(job, run, h, x, sum, dot);
    }
    for (int i = 0; i < job->panels * job->rows; i++) {
        const int p = i / job->rows;
        const uint8_t *head = block + (size_t)p * job->panel_bytes;
        const ps_rounded *row = &x[(size_t)(i % job->rows) * job->x_stride];
        const v16 scale = has_subs ? v_load(scales[p].scale[s]) : block_scale(f, head);
        acc[i] = v_fma(w_to_float(dot[i]), v_mul(scale, v_set(row->scale)), acc[i]);
        if (!has_min) continue;
        const v16 min = has_subs ? v_load(scales[p].min[s]) : block_min(head);
        acc[i] = v_fma(min, v_set(row->scaled_sum[sum]), acc[i]);
    }
}

/* A tq1_0 block as one of byte codes in the first cache level: a unit's digits come out of it one
 * after the other, but belong to two runs, and those of the last unit to all. */
enum { SPREAD_HEAD = 2 * PS_QUANT_LANES };
enum { SPREAD_BYTES = SPREAD_HEAD + PS_DTYPE_BLOCK_VALUES_MAX / 4 * PS_QUANT_UNIT_BYTES };
static const ps_quant_format spread_trits = {
    PS_DTYPE_BLOCK_VALUES_MAX, PS_QUANT_RUN, 8, 0, 1, NULL, PS_SCALES_HALF, SPREAD_HEAD};

V_INLINE const uint8_t *spread_block(const rows_job *job, const uint8_t *block, uint8_t *out)
{
    UNROLL_UNITS
    for (int at = 0; at < SPREAD_HEAD + PS_QUANT_TRIT_UNITS * LINE_BYTES; at += LINE_BYTES) {
        fetch_line(job, block + at);
    }
    memcpy(out, block, SPREAD_HEAD);
    trit_block(block + SPREAD_HEAD, out + SPREAD_HEAD);
    return out;
}

/* `rows` rows from x on under `panels` panels: out[rows, panels, 16]. Panels are read once, in
 * order. */
V_INLINE void panels_of_rows(const ps_quant_job *job, const ps_quant_format *f, bool pairs,
                             int rows, int panels, int distance, const ps_rounded *x,
                             const uint8_t *panel, float *out)
{
    const size_t block_bytes = ps_dtype_block_bytes(job->dtype) * LANES;
    // A call for each panel is half a percent of the time of decoding.
    const size_t panel_bytes = panels > 1 ? ps_panel_bytes(job->dtype, job->k) : 0;
    const rows_job as_read = {f, pairs, rows, panels, job->x_stride, panel_bytes, distance};
    rows_job shape = as_read;
    const bool trits = f->low_bits == 0;
    _Alignas(LINE_BYTES) uint8_t space[LINE_BYTES + SPREAD_BYTES];
    if (trits) {
        shape.format = &spread_trits;
        shape.distance = 0; // spread_block asks
    }
    block_scales scales[FEW_PANELS];
    for (int k0 = 0; k0 < job->k; k0 += PS_PANEL_BLOCK) {
        const int k1 = job->k - k0 < PS_PANEL_BLOCK ? job->k : k0 + PS_PANEL_BLOCK;
        v16 acc[FEW_SUMS];
        for (int i = 0; i < panels * rows; i++) {
            acc[i] = v_zero();
        }
        for (int k = k0; k < k1; k += f->values, panel += block_bytes) {
            for (int p = 0; p < panels && ps_quant_has_subs(f->scales); p++) {
                sub_scales(f, panel + (size_t)p * shape.panel_bytes, scales[p].scale,
                           scales[p].min);
            }
            fetch_heads(&shape, panel);
            const uint8_t *block =
                trits ? spread_block(&as_read, panel, space + LINE_BYTES - SPREAD_HEAD) : panel;
            for (int r = 0; r < f->values / PS_QUANT_RUN; r++, x++) {
                UNROLL_UNITS
                for (int h = 0; h < PS_QUANT_RUN / f->sub; h++) {
                    sub_block(&shape, block, scales, r, h, x, acc);
                }
            }
        }
        for (int i = 0; i < panels * rows; i++) {
            float *to = out + (size_t)(i % rows) * job->out_stride + (size_t)(i / rows) * LANES;
            v_store(to, k0 > 0 ? v_add(v_load(to), acc[i]) : acc[i]);
        }
    }
}

/* The distance is a constant in each of both: as a variable it is a tenth of the time of four rows of
 * q8_0. */
V_INLINE void few_rows(const ps_quant_job *job, const ps_quant_format *f, bool pairs, int rows,
                       int panels, const ps_rounded *x, const uint8_t *panel, float *out)
{
    const int near = FETCH_DISTANCE(rows, f->low_bits, false);
    const int far = FETCH_DISTANCE(rows, f->low_bits, true);
    if (near != far && FETCH_FURTHER) {
        panels_of_rows(job, f, pairs, rows, panels, far, x, panel, out);
    } else {
        panels_of_rows(job, f, pairs, rows, panels, near, x, panel, out);
    }
}

/* Panels come from memory once; rows beyond the first four find them in a cache. */
V_INLINE void direct_product(const ps_quant_job *job, ps_dtype dtype, bool pairs)
{
    const ps_quant_format *f = &ps_quant_formats[dtype];
    const size_t panel_bytes = ps_panel_bytes(dtype, job->k);
    const uint8_t *panel = job->weights;
    const int aside = SIDE_BY_SIDE(job->rows, f->low_bits);
    int p = 0;
    for (; aside > 1 && p + aside <= job->panels;
         p += aside, panel += (size_t)aside * panel_bytes) {
        few_rows(job, f, pairs, 1, aside, job->x, panel, job->out + (size_t)p * LANES);
    }
    for (; p < job->panels; p++, panel += panel_bytes) {
        const ps_rounded *x = job->x;
        float *out = job->out + (size_t)p * LANES;
        int left = job->rows;
        for (; left >= 4; left -= 4, x += 4 * job->x_stride, out += 4 * job->out_stride) {
            few_rows(job, f, pairs, 4, 1, x, panel, out);
        }
        for (; left >= 2; left -= 2, x += 2 * job->x_stride, out += 2 * job->out_stride) {
            few_rows(job, f, pairs, 2, 1, x, panel, out);
        }
        if (left > 0) few_rows(job, f, pairs, 1, 1, x, panel, out);
    }
}

/* Where bytes are multiplied, both forms of the rows occur, but for codes in halves alone. */
V_INLINE bool takes_pairs(const ps_quant_job *job, ps_dtype dtype)
{
    if (!HALVES_APART) return true;
    return ps_quant_in_halves(&ps_quant_formats[dtype]) && job->pairs;
}

static void few_rows_product(const ps_quant_job *job)
{
    switch (job->dtype) {
#define CASE(name)                                                                                 \
    case name:                                                                                     \
        if (takes_pairs(job, name)) {                                                              \
            direct_product(job, name, true);                                                       \
        } else {                                                                                   \
            direct_product(job, name, false);                                                      \
        }                                                                                          \
        break;
        EACH_FORMAT(CASE)
        CASE(PS_TQ1_0)
#undef CASE
    default:
        break;
    }
}

#endif

void PS_ISA(ps_quant_product)(const ps_quant_job *job)
{
#if DIRECT_ROWS > 0
    if (job->rows <= (job->dtype == PS_TQ1_0 ? TRIT_ROWS : DIRECT_ROWS)) {
        few_rows_product(job);
        return;
    }
#endif
    PS_ISA(ps_quant_tiles)(job);
}
