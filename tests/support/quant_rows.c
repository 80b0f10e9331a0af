#include "support/quant_rows.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/half.h"
#include "math/panel.h"
#include "math/quant.h"
#include "support/floats.h"

enum { RUN = 32 };

void quant_set_scales(ps_dtype dtype, uint8_t *block, uint16_t d, uint16_t m)
{
    static const struct {
        int d, m;
    } places[PS_DTYPE_COUNT] = {
        [PS_Q8_0] = {0, -1},   [PS_Q4_0] = {0, -1},   [PS_Q4_1] = {0, 2},    [PS_Q5_0] = {0, -1},
        [PS_Q5_1] = {0, 2},    [PS_IQ4_NL] = {0, -1}, [PS_MXFP4] = {-1, -1}, [PS_Q2_K] = {80, 82},
        [PS_Q3_K] = {108, -1}, [PS_Q4_K] = {0, 2},    [PS_Q5_K] = {0, 2},    [PS_Q6_K] = {208, -1},
        [PS_IQ4_XS] = {0, -1}, [PS_TQ1_0] = {52, -1}, [PS_TQ2_0] = {64, -1}};
    if (dtype == PS_MXFP4) {
        block[0] = (uint8_t)d;
        return;
    }
    block[places[dtype].d] = (uint8_t)d;
    block[places[dtype].d + 1] = (uint8_t)(d >> 8);
    if (places[dtype].m < 0) return;
    block[places[dtype].m] = (uint8_t)m;
    block[places[dtype].m + 1] = (uint8_t)(m >> 8);
}

static void roll_block(dice *d, ps_dtype dtype, quant_pattern pattern, uint8_t *block)
{
    static const uint8_t bytes[QUANT_PATTERN_COUNT] = {0, 0, 0xFF, 0x80, 0x7F};
    const size_t n = ps_dtype_block_bytes(dtype);
    for (size_t i = 0; i < n; i++) {
        block[i] = pattern == QUANT_ANY ? (uint8_t)dice_bits(d) : bytes[pattern];
    }
    if (pattern != QUANT_ANY) {
        quant_set_scales(dtype, block, dtype == PS_MXFP4 ? 127 : 0x3C00, 0x3C00);
    } else if (dtype == PS_MXFP4) {
        quant_set_scales(dtype, block, (uint16_t)(118 + dice_throw(d, 4)), 0);
    } else {
        const uint16_t sign = (uint16_t)(dice_throw(d, 2) << 15);
        quant_set_scales(dtype, block, (uint16_t)(sign | (0x1400 + dice_throw(d, 0x1400))),
                         (uint16_t)(sign ^ (0x1400 + dice_throw(d, 0x1400))));
    }
}

quant_matrix quant_matrix_roll(dice *d, ps_dtype dtype, int n, int k, quant_pattern pattern,
                               bool with_bias)
{
    quant_matrix m = {0};
    const size_t block = ps_dtype_block_bytes(dtype), panel = ps_panel_bytes(dtype, k);
    const size_t padded = (size_t)ps_panel_count(n) * PS_PANEL_LANES;
    ck_assert(ps_dtype_row_bytes(dtype, (size_t)k, &m.row_bytes));
    m.rows = ps_mem_new((size_t)n, m.row_bytes);
    m.values = floats_new((size_t)n * (size_t)k);
    m.panels = ps_mem_new((size_t)ps_panel_count(n), panel);
    for (size_t at = 0; at < (size_t)n * m.row_bytes; at += block) {
        roll_block(d, dtype, pattern, m.rows + at);
    }
    for (int r = 0; r < n; r++) {
        ps_dtype_widen(dtype, m.rows + (size_t)r * m.row_bytes, (size_t)k,
                       m.values + (size_t)r * (size_t)k);
    }
    for (int p = 0; p < ps_panel_count(n); p++) {
        const int first = p * PS_PANEL_LANES, left = n - first;
        ps_panel_pack(dtype, m.rows + (size_t)first * m.row_bytes,
                      left < PS_PANEL_LANES ? left : PS_PANEL_LANES, m.row_bytes, k,
                      (char *)m.panels + (size_t)p * panel);
    }
    if (with_bias) {
        m.bias = floats_new(padded);
        floats_roll(d, m.bias, (size_t)n, -1.0, 1.0);
    }
    m.linear = (ps_linear){.dtype = dtype, .n = n, .k = k, .panels = m.panels, .bias = m.bias};
    return m;
}

void quant_matrix_release(quant_matrix *m)
{
    ps_mem_free(m->rows);
    ps_mem_free(m->values);
    ps_mem_free(m->panels);
    ps_mem_free(m->bias);
    *m = (quant_matrix){0};
}

/* ---- the reference ---- */

/* xs and q of a run. */
static float round_run(const float *x, int limit, int *q)
{
    float largest = 0.0f;
    for (int i = 0; i < RUN; i++) {
        if (fabsf(x[i]) > largest) largest = fabsf(x[i]);
        q[i] = 0;
    }
    for (int i = 0; i < RUN; i++) {
        if (!isfinite(x[i])) return NAN;
    }
    const float scale = largest / (float)limit;
    if (scale < 0x1p-126f) return 0.0f;
    for (int i = 0; i < RUN; i++) {
        q[i] = (int)nearbyintf(x[i] / scale);
        if (abs(q[i]) > limit) ck_abort_msg("%d is beyond %d", q[i], limit);
    }
    return scale;
}

/* Scale, minimum and values of a sub-block as integers: number = value of the code without scales.
 */
static void sub_block(ps_dtype dtype, const ps_quant_block *b, int s, float *scale, float *min,
                      int *zero)
{
    const float d = ps_half_widen(b->d), m = ps_half_widen(b->m);
    *min = 0.0f;
    *scale = d;
    *zero = 0;
    switch (dtype) {
    case PS_Q8_0:
        *zero = 128;
        break;
    case PS_Q4_0:
        *zero = 8;
        break;
    case PS_Q5_0:
        *zero = 16;
        break;
    case PS_Q4_1:
    case PS_Q5_1:
        *min = m;
        break;
    case PS_MXFP4:
        *scale = ldexpf(1.0f, b->d - 128);
        break;
    case PS_Q2_K:
        *scale = d * (float)(b->field[s] % 16);
        *min = -(m * (float)(b->field[s] / 16));
        break;
    case PS_Q3_K:
        *zero = 4;
        *scale = d * (float)(b->field[s] - 32);
        break;
    case PS_Q4_K:
    case PS_Q5_K:
        *scale = d * (float)b->field[2 * s];
        *min = -(m * (float)b->field[2 * s + 1]);
        break;
    case PS_Q6_K:
        *zero = 32;
        *scale = d * (float)(int8_t)b->field[s];
        break;
    case PS_IQ4_XS:
        *scale = d * (float)(b->field[s] - 32);
        break;
    case PS_TQ1_0:
    case PS_TQ2_0:
        *zero = 1;
        break;
    default:
        break;
    }
}

static int number_of(ps_dtype dtype, int code, int zero)
{
    static const int iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                1,    13,   25,  38,  53,  69,  89,  113};
    static const int mxfp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    if (dtype == PS_IQ4_NL || dtype == PS_IQ4_XS) return iq4[code];
    return dtype == PS_MXFP4 ? mxfp4[code] : code - zero;
}

/* Values of a sub-block: 16 in q2_k, q3_k, q6_k, else 32. */
static int sub_values(ps_dtype dtype)
{
    return dtype == PS_Q2_K || dtype == PS_Q3_K || dtype == PS_Q6_K ? 16 : 32;
}

static bool has_min(ps_dtype dtype)
{
    return dtype == PS_Q4_1 || dtype == PS_Q5_1 || dtype == PS_Q2_K || dtype == PS_Q4_K ||
           dtype == PS_Q5_K;
}

static float add_sub_block(ps_dtype dtype, const ps_quant_block *b, int first, const int *q,
                           float xs, float acc)
{
    const int n = sub_values(dtype);
    float scale, min;
    int zero;
    int64_t dot = 0, sum = 0;
    sub_block(dtype, b, first / n, &scale, &min, &zero);
    for (int i = 0; i < n; i++) {
        dot += (int64_t)q[i] * number_of(dtype, b->code[first + i], zero);
        sum += q[i];
    }
    // Every assertion of Check is a system call, so not one for each sub-block.
    if (dot != (int32_t)dot || sum != (int32_t)sum) ck_abort_msg("a sum needs more than 32 bits");
    acc = fmaf((float)dot, scale * xs, acc);
    return has_min(dtype) ? fmaf(min, xs * (float)sum, acc) : acc;
}

float quant_row_times(const quant_matrix *m, int output, const float *x, int limit)
{
    const ps_dtype dtype = m->linear.dtype;
    const int values = ps_dtype_block_values(dtype), k = m->linear.k;
    const uint8_t *row = m->rows + (size_t)output * m->row_bytes;
    float total = 0.0f, acc = 0.0f;
    ps_quant_block block = {0};
    for (int i = 0; i < k; i += RUN) {
        if (i > 0 && i % PS_PANEL_BLOCK == 0) {
            total = i == PS_PANEL_BLOCK ? acc : total + acc;
            acc = 0.0f;
        }
        if (i % values == 0)
            ps_quant_read(dtype, row + (size_t)(i / values) * ps_dtype_block_bytes(dtype), &block);
        int q[RUN];
        const float xs = round_run(x + i, limit, q);
        for (int s = 0; s < RUN; s += sub_values(dtype)) {
            acc = add_sub_block(dtype, &block, i % values + s, q + s, xs, acc);
        }
    }
    total = k > PS_PANEL_BLOCK ? total + acc : acc;
    return m->bias ? total + m->bias[output] : total;
}

double quant_rounding_bound(const quant_matrix *m, int output, const float *x, int limit)
{
    const float *w = m->values + (size_t)output * (size_t)m->linear.k;
    double bound = 0.0, magnitude = m->bias ? fabs((double)m->bias[output]) : 0.0;
    for (int i = 0; i < m->linear.k; i += RUN) {
        double largest = 0.0, weights = 0.0;
        for (int j = i; j < i + RUN; j++) {
            largest = fmax(largest, fabs((double)x[j]));
            weights += fabs((double)w[j]);
        }
        bound += 0.502 * largest / limit * weights;
        magnitude += largest * weights;
    }
    return bound + magnitude * 0x1p-23 * 64.0;
}
