/* Rotary position embedding (RoFormer, arXiv 2104.09864), half-split pairs (t, t + n/2).
 *
 *   angle(p, t) = p * f_t        y_t       = x_t cos - x_{t+n/2} sin
 *                                y_{t+n/2} = x_{t+n/2} cos + x_t sin        t < n/2
 *
 * n = number of rotated dimensions of a head; the rest of the head passes through. Frequencies are
 * double precision, positions 64 bit, angles double: exact enough at any position an endless stream
 * reaches (error of an angle at position 10^9: 10^-7).
 *
 * Frequencies by kind (base b, factor s):
 *   default   f_t = b^(-2t/n)
 *   linear    f_t / s
 *   llama3    wavelength w = 2 pi / f_t:  w < M/high: f_t;  w > M/low: f_t / s;  between: blended
 * with u = (M/w - low) / (high - low):  (1-u) f_t / s + u f_t       (M = original length)
 *
 * Errors: none.   MPI: local.
 */
#ifndef PS_MATH_ROPE_H
#define PS_MATH_ROPE_H

#include <stddef.h>
#include <stdint.h>

#include "math/engine.h"

typedef enum ps_rope_kind {
    PS_ROPE_NONE,
    PS_ROPE_DEFAULT,
    PS_ROPE_LINEAR,
    PS_ROPE_LLAMA3,
    PS_ROPE_KIND_COUNT
} ps_rope_kind;

/* One variant of RoPE; a model has one, or one for each kind of layer. */
typedef struct ps_rope {
    ps_rope_kind kind;
    int dims; // rotated dimensions of a head, even
    double base;
    double factor;                  // linear, llama3
    double low_factor, high_factor; // llama3
    double original_length;         // llama3
} ps_rope;

const char *ps_rope_kind_name(ps_rope_kind kind);

/* frequencies[dims/2], out. */
void ps_rope_frequencies(const ps_rope *rope, double *frequencies);

/* cosine[half], sine[half] of position * frequency: one row of the table of a parcel. */
void ps_rope_angles(const double *frequencies, int half, int64_t position, float *cosine,
                    float *sine);

/* Rotates n_heads heads of x in place, `head_stride` floats apart. */
void ps_rope_rotate(const ps_engine *engine, float *x, int n_heads, size_t head_stride,
                    const float *cosine, const float *sine, int half);

#endif
