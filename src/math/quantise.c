/* Numbers into blocks of q8_0, q4_0 and q4_k. Plain IEEE operations in one order, so that every
 * processor writes the same bytes.
 *
 * q4_k: each sub-block is fitted by scale * code + min. For a range of trial scales the codes are
 * rounded, then scale and min follow by least squares; the trial with the least weighted squared
 * error wins. Large values weigh more: w = sqrt(mean x^2) + |x|. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "math/half.h"
#include "math/quant.h"

enum { BLOCK = 32, SUBS = 8, CODES = 15, FIELDS = 63, TRIALS = 21 };

static void write_16(uint8_t *out, uint16_t value)
{
    out[0] = (uint8_t)value;
    out[1] = (uint8_t)(value >> 8);
}

/* The nearest whole number in [low, high]; low for NaN. */
static int nearest_within(float x, int low, int high)
{
    if (!(x > (float)low)) return low;
    return x < (float)high ? (int)nearbyintf(x) : high;
}

static float inverse(float x)
{
    return x != 0.0f ? 1.0f / x : 0.0f;
}

static void write_q8_0(const float *in, uint8_t *out)
{
    float largest = 0.0f;
    for (int i = 0; i < BLOCK; i++) {
        if (fabsf(in[i]) > largest) largest = fabsf(in[i]);
    }
    const uint16_t d = ps_half_narrow(largest / 127.0f);
    const float factor = inverse(ps_half_widen(d));
    write_16(out, d);
    for (int i = 0; i < BLOCK; i++) {
        out[2 + i] = (uint8_t)nearest_within(in[i] * factor, -127, 127);
    }
}

/* The value of largest magnitude becomes code 0, -8: the range is -8 .. 7. */
static void write_q4_0(const float *in, uint8_t *out)
{
    float largest = 0.0f;
    for (int i = 0; i < BLOCK; i++) {
        if (fabsf(in[i]) > fabsf(largest)) largest = in[i];
    }
    const uint16_t d = ps_half_narrow(largest / -8.0f);
    const float factor = inverse(ps_half_widen(d));
    write_16(out, d);
    for (int i = 0; i < BLOCK / 2; i++) {
        const int low = nearest_within(in[i] * factor + 8.0f, 0, CODES);
        const int high = nearest_within(in[i + BLOCK / 2] * factor + 8.0f, 0, CODES);
        out[2 + i] = (uint8_t)(low | high << 4);
    }
}

/* x[i] is about scale * code[i] - min, both >= 0. */
typedef struct fit {
    float scale, min;
} fit;

/* Weighted sums over one rounding of a sub-block. */
typedef struct sums {
    float w, wx, wl, wll, wlx;
} sums;

static sums sums_of(const float *x, const float *w, const uint8_t *code)
{
    sums s = {0};
    for (int i = 0; i < BLOCK; i++) {
        const float l = (float)code[i];
        s.w += w[i];
        s.wx += w[i] * x[i];
        s.wl += w[i] * l;
        s.wll += w[i] * l * l;
        s.wlx += w[i] * l * x[i];
    }
    return s;
}

static float error_of(const float *x, const float *w, const uint8_t *code, fit f)
{
    float error = 0.0f;
    for (int i = 0; i < BLOCK; i++) {
        const float difference = f.scale * (float)code[i] - f.min - x[i];
        error += w[i] * difference * difference;
    }
    return error;
}

/* The least squares for given codes, with min >= 0; false when they do not determine it. */
static bool solve(const sums *s, fit *out)
{
    const float determinant = s->w * s->wll - s->wl * s->wl;
    if (!(determinant > 0.0f)) return false;
    out->scale = (s->w * s->wlx - s->wx * s->wl) / determinant;
    out->min = -(s->wll * s->wx - s->wl * s->wlx) / determinant;
    if (out->min < 0.0f) *out = (fit){.scale = s->wlx / s->wll};
    return out->scale >= 0.0f;
}

static fit fit_sub_block(const float *x)
{
    float low = 0.0f, high = x[0], squares = 0.0f, w[BLOCK];
    for (int i = 0; i < BLOCK; i++) {
        if (x[i] < low) low = x[i];
        if (x[i] > high) high = x[i];
        squares += x[i] * x[i];
    }
    const float range = high - low;
    // Nothing so small has a scale in half precision.
    if (!(range > 1e-20f)) return (fit){.min = -low};
    for (int i = 0; i < BLOCK; i++) {
        w[i] = sqrtf(squares / (float)BLOCK) + fabsf(x[i]);
    }
    fit best = {.scale = range / (float)CODES, .min = -low};
    float least = INFINITY;
    for (int t = 0; t < TRIALS; t++) {
        const float factor = ((float)CODES - 1.0f + 0.1f * (float)t) / range;
        uint8_t code[BLOCK];
        for (int i = 0; i < BLOCK; i++) {
            code[i] = (uint8_t)nearest_within(factor * (x[i] - low), 0, CODES);
        }
        const sums s = sums_of(x, w, code);
        fit trial;
        if (!solve(&s, &trial)) continue;
        const float error = error_of(x, w, code, trial);
        if (!(error < least)) continue;
        least = error;
        best = trial;
    }
    return best;
}

/* 8 scales and 8 minima of 6 bits in 12 bytes. */
static void write_k_scales(const uint8_t *scale, const uint8_t *min, uint8_t *out)
{
    for (int b = 0; b < 4; b++) {
        out[b] = (uint8_t)(scale[b] | scale[b + 4] >> 4 << 6);
        out[b + 4] = (uint8_t)(min[b] | min[b + 4] >> 4 << 6);
        out[b + 8] = (uint8_t)((scale[b + 4] & 15) | (min[b + 4] & 15) << 4);
    }
}

static void write_q4_k(const float *in, uint8_t *out)
{
    fit fits[SUBS];
    float scale_max = 0.0f, min_max = 0.0f;
    for (int s = 0; s < SUBS; s++) {
        fits[s] = fit_sub_block(in + BLOCK * s);
        if (fits[s].scale > scale_max) scale_max = fits[s].scale;
        if (fits[s].min > min_max) min_max = fits[s].min;
    }
    const uint16_t d = ps_half_narrow(scale_max / FIELDS), m = ps_half_narrow(min_max / FIELDS);
    const float per_scale = inverse(ps_half_widen(d)), per_min = inverse(ps_half_widen(m));
    uint8_t scale[SUBS], min[SUBS], code[SUBS * BLOCK];
    for (int s = 0; s < SUBS; s++) {
        scale[s] = (uint8_t)nearest_within(fits[s].scale * per_scale, 0, FIELDS);
        min[s] = (uint8_t)nearest_within(fits[s].min * per_min, 0, FIELDS);
        const float factor = inverse(ps_half_widen(d) * (float)scale[s]);
        const float offset = ps_half_widen(m) * (float)min[s];
        for (int i = BLOCK * s; i < BLOCK * (s + 1); i++) {
            code[i] = (uint8_t)nearest_within((in[i] + offset) * factor, 0, CODES);
        }
    }
    write_16(out, d);
    write_16(out + 2, m);
    write_k_scales(scale, min, out + 4);
    for (int i = 0; i < SUBS * BLOCK / 2; i++) {
        const int low = i / BLOCK * 2 * BLOCK + i % BLOCK;
        out[16 + i] = (uint8_t)(code[low] | code[low + BLOCK] << 4);
    }
}

void ps_quant_write(ps_dtype dtype, const float *in, uint8_t *out)
{
    switch (dtype) {
    case PS_Q8_0:
        write_q8_0(in, out);
        break;
    case PS_Q4_0:
        write_q4_0(in, out);
        break;
    default:
        assert(dtype == PS_Q4_K);
        write_q4_k(in, out);
    }
}
