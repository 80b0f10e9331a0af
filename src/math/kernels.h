/* The kernels that exist once for each instruction set, as one table of functions.
 *
 * They are compiled from src/math/isa/ with the flags of each set; ps_isa_kernels picks a table.
 * All tables give the same bits (tests/unit/math/test_isa.c). Strides count values, not bytes.
 * Pointers need no alignment. Nothing allocates. */
#ifndef PS_MATH_KERNELS_H
#define PS_MATH_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

#include "math/activation.h"
#include "math/dtype.h"

/* out[r, 16 p + lane] = sum_k x[r, k] weights[p, k, lane]
 *
 *   x        [rows, k]             f32, row stride x_stride
 *   weights  dtype                 value (p, k, lane) at p*panel_stride + k*k_stride + lane;
 *                                  quantised: packed panels one after the other, strides unused
 *   out      [rows, 16*panels]     f32, row stride out_stride
 *
 * chain false: the arithmetic of math/panel.h (blocks of PS_PANEL_BLOCK), out is overwritten, or
 * with `add` the block sums are added to it. chain true: one accumulator that starts from out and
 * goes through all k; not for quantised weights. */
typedef struct ps_panel_job {
    ps_dtype dtype;
    bool chain, add;
    bool near; // the weights were written just now: nothing is to be asked for ahead
    int rows, panels, k;
    const void *weights;
    size_t k_stride, panel_stride;
    const float *x;
    size_t x_stride;
    float *out;
    size_t out_stride;
} ps_panel_job;

/* The largest integers that activations are rounded to (math/panel.h). The larger one is such that
 * an integer is 256 upper + lower, both signed bytes. */
enum { PS_ROUNDED_LIMIT_I8 = 127, PS_ROUNDED_LIMIT_I16 = 256 * 127 + 127 };

/* A run of 32 activations rounded to integers (math/panel.h): either as they are, for products of
 * pairs, or, for kernels that multiply bytes, as upper and lower bytes in the order of the weights'
 * codes: byte 4j + (0, 1, 2, 3) is of value 4j + (0, 2, 1, 3). */
typedef struct ps_rounded {
    union {
        int16_t q[32];
        struct {
            int8_t upper[32], lower[32];
        };
    };
    float scale;         // xs
    int32_t sum[3];      // of q[0..15], of q[16..31], of all
    float scaled_sum[3]; // xs * (float)sum
    int32_t unused;      // 96 bytes
} ps_rounded;

/* The same product with quantised weights and rounded activations: the integer arithmetic of
 * math/panel.h.
 *   x        [rows, k/32]         row stride x_stride runs
 *   weights  packed panels, one after the other
 *   out      [rows, 16*panels]    overwritten */
typedef struct ps_quant_job {
    ps_dtype dtype;
    int rows, panels, k;
    const void *weights;
    const ps_rounded *x;
    size_t x_stride;
    bool pairs; // which form x has, where the kernels multiply bytes
    float *out;
    size_t out_stride;
} ps_quant_job;

/* One row of scores of one segment, turned into weights in place.
 *   z      [count]   in: <q,k>;  out: exp(cap(z*scale) + bias - max) for first <= j < last
 *                    cap(a) = softcap tanh(a / softcap), a itself when softcap is 0
 *   bias   [count]   or NULL
 * Only [first, last) is visible; nothing outside is read as a number. Returns the maximum, and the
 * sum over the weights in *sum: 16 lanes by j mod 16, ascending, then the fixed tree. When every
 * visible score is -inf, the maximum is -inf and the sum 0. z and bias must be readable up to the
 * next multiple of 16. */
typedef struct ps_softmax_job {
    float *z;
    const float *bias;
    int first, last;
    float scale, softcap;
} ps_softmax_job;

typedef struct ps_kernels {
    const char *name;
    void (*panel_product)(const ps_panel_job *job);
    void (*quant_product)(const ps_quant_job *job);
    /* out[k1 - k0][16] = values k0 .. k1-1 of one panel of quantised weights, exactly; k0 and k1
     * are multiples of the format's block. */
    void (*quant_widen)(ps_dtype dtype, const void *panel, int k0, int k1, float *out);
    bool rounds_to_bytes; // this build multiplies bytes, but for
    int pair_rows; // so many rows and fewer of codes in halves (math/quant.h), which want pairs
    /* Rounds x[k], k a multiple of 32, to integers of magnitude <= limit. pairs: the form to write,
     * where the kernels multiply bytes. */
    void (*round_row)(const float *x, int k, int limit, bool pairs, ps_rounded *out);
    /* out[i] = (x[i] / sqrt(mean(x^2) + eps)) * weight[i], 16 lanes of sums and the fixed tree. */
    void (*rms_norm)(const float *x, const float *weight, int n, float eps, float *out);
    void (*add)(const float *a, float *out, int n); // out += a
    /* out[i] = activation of gate[i], times up[i] unless up is NULL. out may be gate or up. */
    void (*activate)(const ps_activation *activation, const float *gate, const float *up,
                     float *out, int n);
    /* out[i] = (x[i] - mean) / sqrt(mean((x - mean)^2) + eps) * weight[i] + bias[i]; bias may be
     * NULL. Sums as in rms_norm. */
    void (*layer_norm)(const float *x, const float *weight, const float *bias, int n, float eps,
                       float *out);
    void (*gate)(const float *gate, float *x, int n); // x *= sigmoid(gate)
    void (*softcap)(float *x, float cap, int n);      // x = cap tanh(x / cap)
    void (*clip)(float *x, float limit, int n);       // x = min(max(x, -limit), limit)
    /* Rotates pairs (t, t + half) of x[0 .. 2 half) by the angles whose cosines and sines are
     * given. */
    void (*rope_half)(float *x, const float *cosine, const float *sine, int half);
    /* out[r] = sum_i rows[r, i] x[i], one chain of fused multiply-adds from 0, i ascending; rows
     * follow each other. */
    void (*dots)(const float *rows, const float *x, int n_rows, int n, float *out);
    /* out[i] += a[i] + b[i] * scale, three roundings. */
    void (*add_scaled)(const float *a, const float *b, float scale, float *out, int n);
    float (*softmax)(const ps_softmax_job *job, float *sum);
    /* A tile of quantised keys as out[k][64], a quantised row of values as out[k rounded up to 16]
     * (math/kv.h). */
    void (*kv_widen_keys)(ps_dtype type, const void *tile, int k, float *out);
    void (*kv_widen_value)(ps_dtype type, const void *row, int k, float *out);
    /* acc = acc * keep + part * take, n values: one fused multiply-add on the product acc * keep.
     */
    void (*fold)(float *acc, const float *part, float keep, float take, int n);
    void (*scale)(float *x, float factor, int n); // x *= factor
    float (*exp)(float x);                        // the same exponential as in softmax
    /* The machine's limits, for benchmarks: a plain read of n bytes (a multiple of 512), and
     * `turns` turns of independent multiply-adds of flops_per_multiply operations. The results keep
     * the work alive. */
    float (*read)(const void *bytes, size_t n);
    float (*multiply)(int turns);
    double flops_per_multiply;
} ps_kernels;

#endif
