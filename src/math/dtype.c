/* Conversions value by value on the bits: exact or rounded to nearest even, on every machine. They
 * serve loading and converting, not the kernels, which widen in registers. */
#include "math/dtype.h"

#include <string.h>

static const struct {
    const char *name;
    size_t bytes;
} table[] = {[PS_F32] = {"f32", 4}, [PS_F16] = {"f16", 2}, [PS_BF16] = {"bf16", 2}};

_Static_assert(sizeof table / sizeof table[0] == PS_DTYPE_COUNT, "one row for each format");

const char *ps_dtype_name(ps_dtype dtype)
{
    return table[dtype].name;
}

size_t ps_dtype_bytes(ps_dtype dtype)
{
    return table[dtype].bytes;
}

bool ps_dtype_from_name(const char *name, ps_dtype *out)
{
    for (int i = 0; i < PS_DTYPE_COUNT; i++) {
        if (strcmp(table[i].name, name) != 0) continue;
        *out = (ps_dtype)i;
        return true;
    }
    return false;
}

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t to_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float widen_f16(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7FFF;
    if (magnitude >= 0x7C00) return from_bits(sign | 0x7F800000u | (magnitude & 0x3FF) << 13);
    if (magnitude >= 0x0400) return from_bits(sign | (magnitude + 0x1C000u) << 13);
    const float value = (float)magnitude * 0x1p-24f;
    return sign ? -value : value;
}

static uint16_t narrow_f16(float value)
{
    const uint32_t bits = to_bits(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000u) return (uint16_t)(sign | 0x7E00);
    if (magnitude >= 0x477FF000u) return (uint16_t)(sign | 0x7C00); // 65520 and more round up
    if (magnitude < 0x38800000u) {
        // Adding 2^-1 puts the rounding position of a denormal half at the float's last bit.
        const uint32_t rounded = to_bits(from_bits(magnitude) + 0.5f) - to_bits(0.5f);
        return (uint16_t)(sign | rounded);
    }
    const uint32_t even = magnitude >> 13 & 1;
    return (uint16_t)(sign | (magnitude - 0x38000000u + 0xFFF + even) >> 13);
}

static uint16_t narrow_bf16(float value)
{
    const uint32_t bits = to_bits(value);
    if ((bits & 0x7FFFFFFF) > 0x7F800000u) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

/* Values as they lie in a file need not be aligned. */
static uint16_t load_16(const void *in, size_t i)
{
    uint16_t bits;
    memcpy(&bits, (const char *)in + i * sizeof bits, sizeof bits);
    return bits;
}

static uint32_t load_32(const void *in, size_t i)
{
    uint32_t bits;
    memcpy(&bits, (const char *)in + i * sizeof bits, sizeof bits);
    return bits;
}

void ps_dtype_widen(ps_dtype dtype, const void *in, size_t n, float *out)
{
    switch (dtype) {
    case PS_F16:
        for (size_t i = 0; i < n; i++) {
            out[i] = widen_f16(load_16(in, i));
        }
        break;
    case PS_BF16:
        for (size_t i = 0; i < n; i++) {
            out[i] = from_bits((uint32_t)load_16(in, i) << 16);
        }
        break;
    default:
        memcpy(out, in, n * sizeof *out);
    }
}

void ps_dtype_narrow(ps_dtype dtype, const float *in, size_t n, void *out)
{
    uint16_t *half = out;
    switch (dtype) {
    case PS_F16:
        for (size_t i = 0; i < n; i++) {
            half[i] = narrow_f16(in[i]);
        }
        break;
    case PS_BF16:
        for (size_t i = 0; i < n; i++) {
            half[i] = narrow_bf16(in[i]);
        }
        break;
    default:
        memcpy(out, in, n * sizeof *in);
    }
}

/* True if any of n 16-bit values has all bits of `exponent` set; written to be vectorised. */
static bool any_special_16(const void *in, size_t n, uint16_t exponent)
{
    unsigned found = 0;
    for (size_t i = 0; i < n; i++) {
        found |= (load_16(in, i) & exponent) == exponent;
    }
    return found;
}

static bool any_special_32(const void *in, size_t n)
{
    unsigned found = 0;
    for (size_t i = 0; i < n; i++) {
        found |= (load_32(in, i) & 0x7F800000u) == 0x7F800000u;
    }
    return found;
}

static bool any_special(ps_dtype dtype, const char *in, size_t n)
{
    if (dtype == PS_F32) return any_special_32(in, n);
    return any_special_16(in, n, dtype == PS_F16 ? 0x7C00 : 0x7F80);
}

size_t ps_dtype_first_not_finite(ps_dtype dtype, const void *in, size_t n)
{
    enum { BLOCK = 4096 };
    const size_t size = ps_dtype_bytes(dtype);
    const char *bytes = in;
    for (size_t start = 0; start < n; start += BLOCK) {
        const size_t count = n - start < BLOCK ? n - start : BLOCK;
        if (!any_special(dtype, bytes + start * size, count)) continue;
        size_t i = start;
        while (!any_special(dtype, bytes + i * size, 1)) {
            i++;
        }
        return i;
    }
    return n;
}
