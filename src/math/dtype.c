/* Conversions value by value on the bits: exact or rounded to nearest even, on every machine. They
 * serve loading and converting, not the kernels, which widen in registers. */
#include "math/dtype.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "math/half.h"
#include "math/quant.h"

static const struct {
    const char *name;
    int values;   // of a block
    size_t bytes; // of a block in a source row
} table[] = {
    [PS_F32] = {"f32", 1, 4},         [PS_F16] = {"f16", 1, 2},
    [PS_BF16] = {"bf16", 1, 2},       [PS_Q8_0] = {"q8_0", 32, 34},
    [PS_Q4_0] = {"q4_0", 32, 18},     [PS_Q4_1] = {"q4_1", 32, 20},
    [PS_Q5_0] = {"q5_0", 32, 22},     [PS_Q5_1] = {"q5_1", 32, 24},
    [PS_IQ4_NL] = {"iq4_nl", 32, 18}, [PS_MXFP4] = {"mxfp4", 32, 17},
    [PS_Q2_K] = {"q2_k", 256, 84},    [PS_Q3_K] = {"q3_k", 256, 110},
    [PS_Q4_K] = {"q4_k", 256, 144},   [PS_Q5_K] = {"q5_k", 256, 176},
    [PS_Q6_K] = {"q6_k", 256, 210},   [PS_IQ4_XS] = {"iq4_xs", 256, 136},
    [PS_TQ1_0] = {"tq1_0", 256, 54},  [PS_TQ2_0] = {"tq2_0", 256, 66},
};

_Static_assert(sizeof table / sizeof table[0] == PS_DTYPE_COUNT, "one row for each format");

const char *ps_dtype_name(ps_dtype dtype)
{
    return table[dtype].name;
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

bool ps_dtype_is_quantised(ps_dtype dtype)
{
    return (int)dtype >= PS_DTYPE_FLOATS;
}

int ps_dtype_block_values(ps_dtype dtype)
{
    return table[dtype].values;
}

size_t ps_dtype_block_bytes(ps_dtype dtype)
{
    return table[dtype].bytes;
}

bool ps_dtype_row_bytes(ps_dtype dtype, size_t k, size_t *out)
{
    const size_t values = (size_t)table[dtype].values;
    return k % values == 0 && ps_mem_mul(k / values, table[dtype].bytes, out);
}

static uint16_t narrow_bf16(float value)
{
    const uint32_t bits = ps_float_to_bits(value);
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

static void widen_blocks(ps_dtype dtype, const uint8_t *in, size_t n, float *out)
{
    const size_t values = (size_t)table[dtype].values;
    assert(n % values == 0);
    for (size_t i = 0; i < n; i += values, in += table[dtype].bytes) {
        ps_quant_block block;
        ps_quant_read(dtype, in, &block);
        ps_quant_values(dtype, &block, out + i);
    }
}

void ps_dtype_widen(ps_dtype dtype, const void *in, size_t n, float *out)
{
    switch (dtype) {
    case PS_F32:
        memcpy(out, in, n * sizeof *out);
        break;
    case PS_F16:
        for (size_t i = 0; i < n; i++) {
            out[i] = ps_half_widen(load_16(in, i));
        }
        break;
    case PS_BF16:
        for (size_t i = 0; i < n; i++) {
            out[i] = ps_float_from_bits((uint32_t)load_16(in, i) << 16);
        }
        break;
    default:
        widen_blocks(dtype, in, n, out);
    }
}

bool ps_dtype_can_narrow(ps_dtype dtype)
{
    return !ps_dtype_is_quantised(dtype) || dtype == PS_Q8_0 || dtype == PS_Q4_0 ||
           dtype == PS_Q4_K;
}

static void narrow_blocks(ps_dtype dtype, const float *in, size_t n, uint8_t *out)
{
    const size_t values = (size_t)table[dtype].values;
    assert(n % values == 0);
    for (size_t i = 0; i < n; i += values, out += table[dtype].bytes) {
        ps_quant_write(dtype, in + i, out);
    }
}

void ps_dtype_narrow(ps_dtype dtype, const float *in, size_t n, void *out)
{
    uint16_t *half = out;
    switch (dtype) {
    case PS_F32:
        memcpy(out, in, n * sizeof *in);
        break;
    case PS_F16:
        for (size_t i = 0; i < n; i++) {
            half[i] = ps_half_narrow(in[i]);
        }
        break;
    case PS_BF16:
        for (size_t i = 0; i < n; i++) {
            half[i] = narrow_bf16(in[i]);
        }
        break;
    default:
        assert(ps_dtype_can_narrow(dtype));
        narrow_blocks(dtype, in, n, out);
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

static size_t first_bad_block(ps_dtype dtype, const uint8_t *in, size_t n)
{
    const size_t values = (size_t)table[dtype].values;
    for (size_t i = 0; i < n; i += values, in += table[dtype].bytes) {
        uint16_t d, m;
        ps_quant_read_scales(dtype, in, &d, &m);
        if (!ps_quant_is_finite(dtype, d, m)) return i;
    }
    return n;
}

size_t ps_dtype_first_not_finite(ps_dtype dtype, const void *in, size_t n)
{
    enum { BLOCK = 4096 };
    if (ps_dtype_is_quantised(dtype)) return first_bad_block(dtype, in, n);
    const size_t size = table[dtype].bytes;
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
