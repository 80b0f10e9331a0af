/* Rotary position embedding (RoFormer, arXiv 2104.09864), half-split pairs (t, t + n/2).
 *
 *   angle(p, t) = p * f_t        y_t       = m (x_t cos - x_{t+n/2} sin)
 *                                y_{t+n/2} = m (x_{t+n/2} cos + x_t sin)        t < n/2
 *
 * n = number of rotated dimensions of a head; the rest of the head passes through. m = magnitude, 1
 * for most. Frequencies are double precision, positions 64 bit, angles double: exact enough at any
 * position an endless stream reaches (error of an angle at position 10^9: 10^-7). Models that
 * rotate neighbours (2t, 2t+1) come with their rows put into this order: products of q and k do not
 * change.
 *
 * Frequencies by kind, with f_t = b^(-2t/n) (base b, factor s, original length M):
 *   default    f_t
 *   linear     f_t / s
 *   divided    f_t / factors[t]
 *   llama3     by wavelength w = 2 pi / f_t:  w < M/high: f_t;  w > M/low: f_t / s;  between:
 *              (1-u) f_t / s + u f_t,  u = (M/w - low) / (high - low)
 *   yarn       (1-r_t) f_t + r_t f_t / s,  r_t = (t - a) / (z - a) held within 0..1,
 *              a = d(beta_fast), z = d(beta_slow), d(c) = n log(M / (2 pi c)) / (2 log b); with
 *              `truncate` a is rounded down and z up; a >= 0, z <= n - 1      (arXiv 2309.00071)
 *   dynamic    b' = b (s L / M - (s - 1))^(n / (n - 2)) for sequences of L > M positions
 *   longrope   f_t / long_factors[t] for sequences of more than M positions, else f_t / factors[t]
 *              (arXiv 2402.13753)
 *
 * The last two depend on the sequence's length, the number of positions it may reach; it is fixed
 * when a sequence begins and is 0 for one without an end (longrope: long; dynamic: L = s M).
 *
 * Errors: none.   MPI: local.
 */
#ifndef PS_MATH_ROPE_H
#define PS_MATH_ROPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "math/engine.h"

enum { PS_ROPE_FACTORS_MAX = 512, PS_ROPE_VARIANT_BYTES = 64 };

typedef enum ps_rope_kind {
    PS_ROPE_NONE,
    PS_ROPE_DEFAULT,
    PS_ROPE_LINEAR,
    PS_ROPE_LLAMA3,
    PS_ROPE_DIVIDED,
    PS_ROPE_YARN,
    PS_ROPE_DYNAMIC,
    PS_ROPE_LONGROPE,
    PS_ROPE_KIND_COUNT
} ps_rope_kind;

/* One variant of RoPE; a model has one, or one for each kind of layer. */
typedef struct ps_rope {
    ps_rope_kind kind;
    int dims; // rotated dimensions of a head, even
    double base;
    double magnitude;                         // m
    double factor;                            // linear, llama3, yarn, dynamic
    double low_factor, high_factor;           // llama3
    double original_length;                   // llama3, yarn, dynamic, longrope
    double beta_fast, beta_slow;              // yarn
    bool truncate;                            // yarn
    double factors[PS_ROPE_FACTORS_MAX];      // [dims/2] divided, longrope
    double long_factors[PS_ROPE_FACTORS_MAX]; // [dims/2] longrope
} ps_rope;

const char *ps_rope_kind_name(ps_rope_kind kind);

/* Whether sequences of different lengths have different frequencies. */
bool ps_rope_depends_on_length(const ps_rope *rope);

/* What a sequence of `length` positions (0: without an end) makes of the rope, in words:
 * "longrope, long factors", "dynamic, base 23144.1"; the kind alone where it makes nothing of it.
 * out[PS_ROPE_VARIANT_BYTES]. */
void ps_rope_variant(const ps_rope *rope, int64_t length, char *out);

/* frequencies[dims/2], out, for a sequence of `length` positions (0: without an end). */
void ps_rope_frequencies(const ps_rope *rope, int64_t length, double *frequencies);

/* magnitude * cosine[half], sine[half] of position * frequency: one row of the table of a parcel.
 */
void ps_rope_angles(const double *frequencies, double magnitude, int half, int64_t position,
                    float *cosine, float *sine);

/* Rotates n_heads heads of x in place, `head_stride` floats apart. */
void ps_rope_rotate(const ps_engine *engine, float *x, int n_heads, size_t head_stride,
                    const float *cosine, const float *sine, int half);

#endif
