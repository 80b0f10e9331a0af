/* Half precision as bits: exact one way, to nearest even the other, the same on every machine. */
#ifndef PS_MATH_HALF_H
#define PS_MATH_HALF_H

#include <stdint.h>
#include <string.h>

static inline float ps_float_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t ps_float_to_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float ps_half_widen(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7FFF;
    if (magnitude >= 0x7C00)
        return ps_float_from_bits(sign | 0x7F800000u | (magnitude & 0x3FF) << 13);
    if (magnitude >= 0x0400) return ps_float_from_bits(sign | (magnitude + 0x1C000u) << 13);
    const float value = (float)magnitude * 0x1p-24f;
    return sign ? -value : value;
}

static inline uint16_t ps_half_narrow(float value)
{
    const uint32_t bits = ps_float_to_bits(value);
    const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000u) return (uint16_t)(sign | 0x7E00);
    if (magnitude >= 0x477FF000u) return (uint16_t)(sign | 0x7C00); // 65520 and more round up
    if (magnitude < 0x38800000u) {
        // Adding 2^-1 puts the rounding position of a denormal half at the float's last bit.
        const float shifted = ps_float_from_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (ps_float_to_bits(shifted) - ps_float_to_bits(0.5f)));
    }
    const uint32_t even = magnitude >> 13 & 1;
    return (uint16_t)(sign | (magnitude - 0x38000000u + 0xFFF + even) >> 13);
}

#endif
