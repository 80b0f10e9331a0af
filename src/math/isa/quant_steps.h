/* A step of a product of rounded rows with packed codes (math/isa/quant_codes.h), in integers. */
#ifndef PS_MATH_ISA_QUANT_STEPS_H
#define PS_MATH_ISA_QUANT_STEPS_H

#include "math/isa/quant_codes.h"
#include "math/kernels.h"
#include "math/panel.h"

enum { LANES = PS_PANEL_LANES };

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
    return w_dot(sum, half ? w_shr_pairs(codes, 8) : w_low_bytes(codes), pair_of(x, 2 * j + half));
}

V_INLINE w16 both_halves(w16 first, w16 second)
{
    return w_add(first, second);
}
#endif

#endif
