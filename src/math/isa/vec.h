/* Sixteen floats at once: with their integers, the only vector types of the kernels.
 *
 * Every kernel is written once over this type and compiled once for each instruction set; a lane's
 * result never depends on which. That holds because each function below is one IEEE operation in
 * every lane (v_fma rounds once), and because sums over lanes follow one fixed tree (v_sum).
 *
 *   v16   16 float            m16   16 truth values
 *   w16   16 lanes of 32 bits, taken as integers: one of 32 bits, two of 16 or four of 8
 *
 * w_dot(acc, a, b) adds to each lane the two products of its signed 16-bit halves, w_sub_pairs is
 * the difference of each of them, and w_shr_pairs shifts each; shifts are by constants;
 * w_dot_bytes, where ROUND_TO_BYTES is defined, the four products of unsigned bytes of a with
 * signed ones of b; w_lookup(table, codes) replaces each byte (0..15) by table[byte]; w_from_float
 * rounds to nearest even; w_above_bytes(a, limit) is 1 for each byte above the limit, else 0. w_add_bytes
 * adds bytes modulo 256; other integers wrap nowhere: the formats' bounds see to that (math/quant.h).
 *
 * v_max(a,b) is a > b ? a : b and v_min(a,b) is a < b ? a : b, so both give b when either is NaN.
 *
 * PS_ISA(name) makes the symbol of this build: name_avx2, name_portable, ...
 */
#ifndef PS_MATH_ISA_VEC_H
#define PS_MATH_ISA_VEC_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PS_ISA_JOIN_(name, isa) name##_##isa
#define PS_ISA_JOIN(name, isa)  PS_ISA_JOIN_(name, isa)
#define PS_ISA(name)            PS_ISA_JOIN(name, PS_ISA_NAME)

#define V_INLINE static inline __attribute__((always_inline, unused))

/* Chains of integer sums stay as they are written: gathered into trees, their terms would need more
 * registers than there are. */
#define V_KEEP_ORDER(value) __asm__("" : "+v"(value))

/* An address that is not worked out from others anew. */
#define V_KEEP_ADDRESS(value) __asm__("" : "+r"(value))

/* Compilers for 64-bit ARM always have NEON, and those for x86 what -march says: portable C is
 * chosen by name. */
#if defined(__aarch64__) && !defined(PS_ISA_PORTABLE)
#include "math/isa/vec_neon.h"
#elif defined(__AVX512F__) && !defined(PS_ISA_PORTABLE)
#include "math/isa/vec_avx512.h"
#elif defined(__AVX2__) && !defined(PS_ISA_PORTABLE)
#include "math/isa/vec_avx2.h"
#else
#include "math/isa/vec_portable.h"
#endif

#ifndef W_HOLD
#define W_HOLD(value) ((void)0)
#endif

/* The even bytes of each lane as its two halves. */
V_INLINE w16 w_low_bytes(w16 a)
{
    return w_and(a, w_set(0x00FF00FF));
}

/* Lanes 0, 1, ... 15. */
V_INLINE v16 v_lanes(void)
{
    static const float lanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return v_load(lanes);
}

/* The first n floats of p, zeros behind; nothing is read past them. 0 <= n <= 16. */
V_INLINE v16 v_load_first(const float *p, int n)
{
    if (n >= 16) return v_load(p);
    float buffer[16] = {0};
    memcpy(buffer, p, (size_t)n * sizeof *p);
    return v_load(buffer);
}

/* Stores the first n lanes. */
V_INLINE void v_store_first(float *p, int n, v16 a)
{
    if (n >= 16) {
        v_store(p, a);
        return;
    }
    float buffer[16];
    v_store(buffer, a);
    memcpy(p, buffer, (size_t)n * sizeof *p);
}

/* e^x: e^0 = 1 and e^-inf = 0 exactly, NaN stays NaN, overflow to inf, denormal results rounded
 * once. x = n ln2 + r, Taylor to r^7 (|r| <= 0.347: remainder under 6e-9), times 2^n in two
 * factors. */
V_INLINE v16 v_exp(v16 x)
{
    const v16 rounder = v_set(0x1.8p23f);
    x = v_min(v_set(89.0f), v_max(v_set(-104.0f), x));
    const v16 n = v_sub(v_fma(x, v_set(0x1.715476p0f), rounder), rounder);
    v16 r = v_fma(n, v_set(-0x1.62e4p-1f), x);
    r = v_fma(n, v_set(-0x1.7f7d1cp-20f), r);
    v16 p = v_set(1.0f / 5040.0f);
    p = v_fma(p, r, v_set(1.0f / 720.0f));
    p = v_fma(p, r, v_set(1.0f / 120.0f));
    p = v_fma(p, r, v_set(1.0f / 24.0f));
    p = v_fma(p, r, v_set(1.0f / 6.0f));
    p = v_fma(p, r, v_set(0.5f));
    p = v_fma(p, r, v_set(1.0f));
    p = v_fma(p, r, v_set(1.0f));
    return v_scale_by_power(p, n);
}

/* x where sign is not negative, else -x. */
V_INLINE v16 v_with_sign_of(v16 x, v16 sign)
{
    return v_blend(v_less(sign, v_zero()), v_sub(v_zero(), x), x);
}

/* tanh: an odd polynomial below 0.625 (relative error 2e-7), 1 - 2 / (e^2|x| + 1) above. */
V_INLINE v16 v_tanh(v16 x)
{
    const v16 size = v_with_sign_of(x, x), square = v_mul(x, x);
    v16 p = v_set(-5.70498872745e-3f);
    p = v_fma(p, square, v_set(2.06390887954e-2f));
    p = v_fma(p, square, v_set(-5.37397155531e-2f));
    p = v_fma(p, square, v_set(1.33314422036e-1f));
    p = v_fma(p, square, v_set(-3.33332819422e-1f));
    const v16 small = v_fma(v_mul(p, square), x, x);
    const v16 e = v_exp(v_add(size, size)), one = v_set(1.0f);
    const v16 large = v_sub(one, v_div(v_set(2.0f), v_add(e, one)));
    return v_blend(v_less(size, v_set(0.625f)), small, v_with_sign_of(large, x));
}

/* erfc for x >= 0, relative error 1.2e-7: t e^(-x^2 + P(t)), t = 1 / (1 + x/2), P a Chebyshev fit
 * (Press et al., Numerical Recipes, 6.2). */
V_INLINE v16 v_erfc_positive(v16 x)
{
    const v16 t = v_div(v_set(1.0f), v_fma(x, v_set(0.5f), v_set(1.0f)));
    v16 p = v_set(0.17087277f);
    p = v_fma(p, t, v_set(-0.82215223f));
    p = v_fma(p, t, v_set(1.48851587f));
    p = v_fma(p, t, v_set(-1.13520398f));
    p = v_fma(p, t, v_set(0.27886807f));
    p = v_fma(p, t, v_set(-0.18628806f));
    p = v_fma(p, t, v_set(0.09678418f));
    p = v_fma(p, t, v_set(0.37409196f));
    p = v_fma(p, t, v_set(1.00002368f));
    p = v_fma(p, t, v_set(-1.26551223f));
    const v16 minus = v_sub(v_zero(), x);
    return v_mul(t, v_exp(v_fma(minus, x, p)));
}

/* 1 / (1 + e^-x) */
V_INLINE v16 v_sigmoid(v16 x)
{
    const v16 one = v_set(1.0f);
    return v_div(one, v_add(one, v_exp(v_sub(v_zero(), x))));
}

#endif
