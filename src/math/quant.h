/* The quantised formats, a row a format, and one block of one row taken apart.
 *
 * Every format is codes and scales: value = scale[s] * number(code) + min[s], s being the
 * sub-block, and number(code) either code - zero or an entry of a table. A code is its low bits
 * and, for some, one more bit from a plane of its own.
 *
 * Packed panels hold the same fields of 16 rows side by side, a lane a row, one block after the
 * other, in as many bytes as the 16 rows have:
 *
 *   head    the scales:
 *             d[16] f16 (mxfp4: e[16] u8), then dmin[16] f16 where there are minima, then the
 *             sub-block scales: 16 fields of 8 bits as [4][16] u32, four to a word;
 *             16 fields of 6 bits as [3][16] u32, five to a word, the 16th in the words' upper two
 *             bits (q4_k, q5_k: scale and minimum in turn);
 *             iq4_xs: [16] u16 of upper pairs of bits, [16] u32 of lower nibbles
 *   codes   runs of 32 k: the plane's units, then the low bits' units (tq1_0: 13 units)
 *
 * A unit is [16] u32, 64 bytes. Its bytes hold 8/bits fields each: field f of unit u is "byte
 * unit" j = u*8/bits + f, the codes of k = 4j, 4j+2, 4j+1, 4j+3 from the lowest byte of a lane up.
 * So masking the even and the odd bytes gives two pairs of consecutive k as 16-bit halves of each
 * lane: what an integer multiply-add of pairs takes.
 *
 * Codes of five and six bits do not fit bytes, so they lie in the 16-bit halves themselves, the even k
 * in the lower one: pair i is k = 2i, 2i+1. From the lowest bit up a half holds
 *   five bits  unit u = 0..4    pair 3u | pair 3u+1 | bit u of pair 15 | pair 3u+2
 *   six bits   units of eight pairs, u = 0, 1, 2: pair 2u | m_u of four bits | pair 2u+1, where
 *              pair 6 = m_0 + 16 (m_2 mod 4) and pair 7 = m_1 + 4 (m_2 - m_2 mod 4)
 * which is fewer steps for a product than nibbles and a plane of upper bits (AVX2, Zen 3, one row
 * from a cache: q5_k 1.28, q6_k 1.21 times as fast; from memory 1.20 and 1.07 for whole steps).
 *
 * The integers of a sub-block stay small: |sum of q * code| <= 32 * 32639 * 255 < 2^28, and the
 * part that the zero point takes off, 32 * 32639 * 128, is half of that.
 *
 * tq1_0: a byte holds five base-3 digits d0..d4, as ceil(256/243 * (81 d0 + 27 d1 + 9 d2 + 3 d3 +
 * d4)): multiplying by 3 moves the first digit to bit 8. Of each 16 byte units j, the first 15 are
 * the digits of three units; the last ones of the four 16s are digits of the 13th unit. */
#ifndef PS_MATH_QUANT_H
#define PS_MATH_QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "math/dtype.h"

enum {
    PS_QUANT_LANES = 16,
    PS_QUANT_RUN = 32, // k that share an activation scale
    PS_QUANT_UNIT_BYTES = 64,
    PS_QUANT_SUBS_MAX = 16, // sub-blocks of a block
    PS_QUANT_TRIT_UNITS = 13
};

typedef enum ps_quant_scales {
    PS_SCALES_HALF,     // d
    PS_SCALES_HALF_MIN, // d, m
    PS_SCALES_POWER,    // 2^(e-128): mxfp4, whose table holds twice the values
    PS_SCALES_Q2,       // d (f&15), -dmin (f>>4), fields of 8 bits
    PS_SCALES_Q3,       // d (f-32), fields of 6 bits
    PS_SCALES_K,        // d f, -dmin g, pairs of 6 bits
    PS_SCALES_Q6,       // d f, f signed, 8 bits
    PS_SCALES_XS        // d (f-32), 8 fields of 6 bits
} ps_quant_scales;

typedef struct ps_quant_format {
    int values;             // of a block
    int sub;                // values of a sub-block: 16 or 32
    int low_bits;           // 8, 6, 5, 4, 2; 0: base-3 digits
    int plane_bits;         // 0, 1
    int zero;               // what is subtracted from a code
    const uint8_t *numbers; // [16] number(code) + zero of a nibble, or NULL: the code itself
    ps_quant_scales scales;
    int head_bytes; // of a packed block
} ps_quant_format;

static const uint8_t ps_quant_iq4[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                         129, 141, 153, 166, 181, 197, 217, 241};
static const uint8_t ps_quant_mxfp4[16] = {12, 13, 14, 15, 16, 18, 20, 24,
                                           12, 11, 10, 9,  8,  6,  4,  0};

static const ps_quant_format ps_quant_formats[PS_DTYPE_COUNT] = {
    [PS_Q8_0] = {32, 32, 8, 0, 128, NULL, PS_SCALES_HALF, 32},
    [PS_Q4_0] = {32, 32, 4, 0, 8, NULL, PS_SCALES_HALF, 32},
    [PS_Q4_1] = {32, 32, 4, 0, 0, NULL, PS_SCALES_HALF_MIN, 64},
    [PS_Q5_0] = {32, 32, 5, 0, 16, NULL, PS_SCALES_HALF, 32},
    [PS_Q5_1] = {32, 32, 5, 0, 0, NULL, PS_SCALES_HALF_MIN, 64},
    [PS_IQ4_NL] = {32, 32, 4, 0, 128, ps_quant_iq4, PS_SCALES_HALF, 32},
    [PS_MXFP4] = {32, 32, 4, 0, 12, ps_quant_mxfp4, PS_SCALES_POWER, 16},
    [PS_Q2_K] = {256, 16, 2, 0, 0, NULL, PS_SCALES_Q2, 320},
    [PS_Q3_K] = {256, 16, 2, 1, 4, NULL, PS_SCALES_Q3, 224},
    [PS_Q4_K] = {256, 32, 4, 0, 0, NULL, PS_SCALES_K, 256},
    [PS_Q5_K] = {256, 32, 5, 0, 0, NULL, PS_SCALES_K, 256},
    [PS_Q6_K] = {256, 16, 6, 0, 32, NULL, PS_SCALES_Q6, 288},
    [PS_IQ4_XS] = {256, 32, 4, 0, 128, ps_quant_iq4, PS_SCALES_XS, 128},
    [PS_TQ1_0] = {256, 32, 0, 0, 1, NULL, PS_SCALES_HALF, 32},
    [PS_TQ2_0] = {256, 32, 2, 0, 1, NULL, PS_SCALES_HALF, 32},
};

/* Whether values have a minimum, and whether sub-blocks have scales of their own. */
static inline bool ps_quant_has_min(ps_quant_scales scales)
{
    return scales == PS_SCALES_HALF_MIN || scales == PS_SCALES_Q2 || scales == PS_SCALES_K;
}

static inline bool ps_quant_has_subs(ps_quant_scales scales)
{
    return scales >= PS_SCALES_Q2;
}

/* Whether codes lie in the 16-bit halves of units. */
static inline bool ps_quant_in_halves(const ps_quant_format *f)
{
    return f->low_bits == 5 || f->low_bits == 6;
}

/* Bytes of a packed run of 32 k of 16 rows (not tq1_0). */
static inline size_t ps_quant_run_bytes(const ps_quant_format *f)
{
    return (size_t)(f->low_bits + f->plane_bits) * PS_QUANT_UNIT_BYTES;
}

/* One block of one row. */
typedef struct ps_quant_block {
    uint8_t code[PS_DTYPE_BLOCK_VALUES_MAX];
    uint16_t d, m;                    // half bits; mxfp4: d is the exponent byte
    uint8_t field[PS_QUANT_SUBS_MAX]; // sub-block scales
} ps_quant_block;

/* Reads a block of a source row (src/math/quant_source.c). */
void ps_quant_read(ps_dtype dtype, const uint8_t *in, ps_quant_block *out);
void ps_quant_read_scales(ps_dtype dtype, const uint8_t *in, uint16_t *d, uint16_t *m);

/* Moves a block into a lane of a packed block, and back (src/math/quant.c). The packed codes are
 * zero before the first lane is put. */
void ps_quant_put(ps_dtype dtype, const ps_quant_block *block, int lane, uint8_t *packed);
void ps_quant_get(ps_dtype dtype, const uint8_t *packed, int lane, ps_quant_block *out);
void ps_quant_get_scales(ps_dtype dtype, const uint8_t *packed, int lane, uint16_t *d, uint16_t *m);

/* out[values of a block] */
void ps_quant_values(ps_dtype dtype, const ps_quant_block *block, float *out);

/* Whether all values of a block are finite, whatever its codes. */
bool ps_quant_is_finite(ps_dtype dtype, uint16_t d, uint16_t m);

/* Writes a source block from numbers (src/math/quantise.c): q8_0, q4_0, q4_k. */
void ps_quant_write(ps_dtype dtype, const float *in, uint8_t *out);

#endif
