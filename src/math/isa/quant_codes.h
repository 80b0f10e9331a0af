/* Packed blocks of quantised panels, read with vectors: 16 outputs' scales and codes at a time. The
 * layout is that of math/quant.h; all functions are inlined with a constant format. */
#ifndef PS_MATH_ISA_QUANT_CODES_H
#define PS_MATH_ISA_QUANT_CODES_H

#include "math/isa/vec.h"
#include "math/quant.h"

enum { RUN_UNITS = PS_QUANT_RUN / 4 }; // byte units of a run of 32 k

/* The same byte in all bytes. */
V_INLINE w16 w_bytes(int byte)
{
    return w_set((int32_t)((uint32_t)byte * 0x01010101u));
}

/* Pair 15 of five bits, bit u from unit u; times 64. */
V_INLINE w16 last_five(const uint8_t *run)
{
    w16 bits = w_set(0);
    UNROLL_UNITS
    for (int u = 0; u < 5; u++) {
        const w16 unit = w_load(run + u * PS_QUANT_UNIT_BYTES);
        bits = w_or(w_shr(bits, 1), w_and(unit, w_set(0x04000400)));
    }
    return bits;
}

/* Pair 6 or 7 of six bits, from the middles of its unit and of the third; times 64. */
V_INLINE w16 middle_six(w16 unit, w16 third, int pair)
{
    const w16 upper = pair == 6 ? w_shl(w_and(third, w_set(0x00C000C0)), 4)
                                : w_shl(w_and(third, w_set(0x03000300)), 2);
    return w_or(w_and(unit, w_set(0x03C003C0)), upper);
}

/* Pair i of a run whose codes lie in halves: codes as 16-bit halves of the lanes. */
V_INLINE w16 half_pair(const ps_quant_format *f, const uint8_t *run, int i)
{
    if (f->low_bits == 5) {
        if (i == 15) return w_shr(last_five(run), 6);
        const w16 unit = w_load(run + i / 3 * PS_QUANT_UNIT_BYTES);
        if (i % 3 == 2) return w_shr_pairs(unit, 11);
        return w_and(i % 3 == 0 ? unit : w_shr(unit, 5), w_set(0x001F001F));
    }
    const uint8_t *units = run + i / 8 * 3 * PS_QUANT_UNIT_BYTES;
    const w16 unit = w_load(units + (i % 8 < 6 ? i % 8 / 2 : i % 8 - 6) * PS_QUANT_UNIT_BYTES);
    if (i % 8 >= 6)
        return w_shr(middle_six(unit, w_load(units + 2 * PS_QUANT_UNIT_BYTES), i % 8), 6);
    return i % 2 == 0 ? w_and(unit, w_set(0x003F003F)) : w_shr_pairs(unit, 10);
}

/* Byte unit j of a run: the codes (or the table's numbers, offset by the zero point) of 4 k. */
V_INLINE w16 byte_unit(const ps_quant_format *f, const uint8_t *run, int j)
{
    if (ps_quant_in_halves(f))
        return w_or(half_pair(f, run, 2 * j), w_shl(half_pair(f, run, 2 * j + 1), 8));
    const int per_unit = 8 / f->low_bits, shift = j % per_unit * f->low_bits;
    w16 codes = w_load(run + (f->plane_bits + j / per_unit) * PS_QUANT_UNIT_BYTES);
    if (shift > 0) codes = w_shr(codes, shift);
    if (f->low_bits < 8) codes = w_and(codes, w_bytes((1 << f->low_bits) - 1));
    if (f->plane_bits > 0) {
        const int per_plane = 8 / f->plane_bits;
        const int up = f->low_bits - j % per_plane * f->plane_bits;
        w16 plane = w_load(run + j / per_plane * PS_QUANT_UNIT_BYTES);
        if (up > 0) plane = w_shl(plane, up);
        if (up < 0) plane = w_shr(plane, -up);
        const int mask = ((1 << f->plane_bits) - 1) << f->low_bits;
        codes = w_or(codes, w_and(plane, w_bytes(mask)));
    }
    return f->numbers ? w_lookup(f->numbers, codes) : codes;
}

/* n byte units from one unit of base-3 digits: 3 x byte moves a digit to bit 8, so the first is how
 * many of 256 / 3 and 512 / 3 the byte is above, and 3 x byte modulo 256 has the others. */
V_INLINE void trit_units(const uint8_t *unit, int n, uint8_t *const *out)
{
    w16 bytes = w_load(unit);
    UNROLL_UNITS
    for (int i = 0; i < n; i++) {
        w_store(out[i], w_add_bytes(w_above_bytes(bytes, 85), w_above_bytes(bytes, 170)));
        bytes = w_add_bytes(bytes, w_add_bytes(bytes, bytes));
    }
}

/* All 64 byte units of a tq1_0 block. */
V_INLINE void trit_block(const uint8_t *units, uint8_t *out)
{
    uint8_t *to[5];
    for (int u = 0; u < PS_QUANT_TRIT_UNITS - 1; u++) {
        for (int i = 0; i < 5; i++) {
            to[i] = out + (u / 3 * 16 + u % 3 * 5 + i) * PS_QUANT_UNIT_BYTES;
        }
        trit_units(units + u * PS_QUANT_UNIT_BYTES, 5, to);
    }
    for (int i = 0; i < 4; i++) {
        to[i] = out + (16 * i + 15) * PS_QUANT_UNIT_BYTES;
    }
    trit_units(units + (PS_QUANT_TRIT_UNITS - 1) * PS_QUANT_UNIT_BYTES, 4, to);
}

V_INLINE v16 half_lanes(const uint8_t *p)
{
    return v_load_f16((const uint16_t *)(const void *)p);
}

/* Scale (or minimum) of a whole block. */
V_INLINE v16 block_scale(const ps_quant_format *f, const uint8_t *head)
{
    if (f->scales != PS_SCALES_POWER) return half_lanes(head);
    // 2^(e-128) as 2^(e+1-127) / 4: right for denormal results too.
    return v_mul(v_from_bits(w_shl(w_add(w_load_u8(head), w_set(1)), 23)), v_set(0.25f));
}

V_INLINE v16 block_min(const uint8_t *head)
{
    return half_lanes(head + 2 * PS_QUANT_LANES);
}

/* Field i of 8 or 6 bits from the words behind the halves (math/quant.h). */
V_INLINE w16 byte_field(const uint8_t *words, int i)
{
    const w16 word = w_load(words + i / 4 * PS_QUANT_UNIT_BYTES);
    return w_and(w_shr(word, i % 4 * 8), w_set(255));
}

V_INLINE w16 six_field(const uint8_t *words, int i)
{
    if (i < 15) {
        const w16 word = w_load(words + i / 5 * PS_QUANT_UNIT_BYTES);
        return w_and(w_shr(word, i % 5 * 6), w_set(63));
    }
    const w16 a = w_load(words), b = w_load(words + PS_QUANT_UNIT_BYTES),
              c = w_load(words + 2 * PS_QUANT_UNIT_BYTES);
    const w16 high = w_or(w_shl(w_shr(b, 30), 2), w_shl(w_shr(c, 30), 4));
    return w_or(w_shr(a, 30), high);
}

V_INLINE w16 xs_field(const uint8_t *fields, int i)
{
    const w16 low = w_and(w_shr(w_load(fields + 2 * PS_QUANT_LANES), 4 * i), w_set(15));
    const w16 high = w_and(w_shr(w_load_u16(fields), 2 * i), w_set(3));
    return w_or(low, w_shl(high, 4));
}

/* Scale and minimum of sub-block s of a format that has such, from the block's d and -dmin. That a
 * minimum is -dmin by its field keeps the sign of a zero. */
V_INLINE void sub_scale(const ps_quant_format *f, const uint8_t *head, int s, v16 d, v16 minus_dmin,
                        float *scale, float *min)
{
    const uint8_t *words = head + 2 * PS_QUANT_LANES * (ps_quant_has_min(f->scales) ? 2 : 1);
    w16 field;
    switch (f->scales) {
    case PS_SCALES_Q2:
        field = byte_field(words, s);
        v_store(scale, v_mul(d, w_to_float(w_and(field, w_set(15)))));
        v_store(min, v_mul(minus_dmin, w_to_float(w_shr(field, 4))));
        return;
    case PS_SCALES_K:
        v_store(scale, v_mul(d, w_to_float(six_field(words, 2 * s))));
        v_store(min, v_mul(minus_dmin, w_to_float(six_field(words, 2 * s + 1))));
        return;
    case PS_SCALES_Q6:
        field = w_load(words + s / 4 * PS_QUANT_UNIT_BYTES);
        v_store(scale, v_mul(d, w_to_float(w_sar(w_shl(field, 24 - s % 4 * 8), 24))));
        return;
    default:
        field = f->scales == PS_SCALES_Q3 ? six_field(words, s) : xs_field(words, s);
        v_store(scale, v_mul(d, w_to_float(w_add(field, w_set(-32)))));
    }
}

/* All sub-blocks' scales and minima of a block of 256. */
V_INLINE void sub_scales(const ps_quant_format *f, const uint8_t *head,
                         float (*scale)[PS_QUANT_LANES], float (*min)[PS_QUANT_LANES])
{
    const int n = f->values / f->sub;
    const v16 d = half_lanes(head);
    const v16 minus_dmin =
        ps_quant_has_min(f->scales) ? v_mul(block_min(head), v_set(-1.0f)) : v_zero();
    UNROLL_UNITS
    for (int s = 0; s < n; s++) {
        sub_scale(f, head, s, d, minus_dmin, scale[s], min[s]);
    }
}

#endif
