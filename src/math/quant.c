/* Blocks in packed panels, lane by lane, and what the codes mean as numbers. The kernels read the
 * same layout with vectors (src/math/isa/quant_codes.h). */
#include "math/quant.h"

#include <string.h>

#include "math/half.h"

enum { LANES = PS_QUANT_LANES, UNIT = PS_QUANT_UNIT_BYTES };

/* ---- the head ---- */

static void put_16(uint8_t *head, int at, int lane, uint16_t value)
{
    memcpy(head + at + lane * 2, &value, sizeof value);
}

static uint16_t get_16(const uint8_t *head, int at, int lane)
{
    uint16_t value;
    memcpy(&value, head + at + lane * 2, sizeof value);
    return value;
}

static void put_32(uint8_t *head, int at, int lane, uint32_t value)
{
    memcpy(head + at + lane * 4, &value, sizeof value);
}

static uint32_t get_32(const uint8_t *head, int at, int lane)
{
    uint32_t value;
    memcpy(&value, head + at + lane * 4, sizeof value);
    return value;
}

static void put_bytes(const uint8_t *field, int lane, uint8_t *words)
{
    for (int w = 0; w < 4; w++) {
        uint32_t word = 0;
        for (int i = 0; i < 4; i++) {
            word |= (uint32_t)field[4 * w + i] << (8 * i);
        }
        put_32(words, w * UNIT, lane, word);
    }
}

static void get_bytes(const uint8_t *words, int lane, uint8_t *field)
{
    for (int i = 0; i < 16; i++) {
        field[i] = (uint8_t)(get_32(words, i / 4 * UNIT, lane) >> (i % 4 * 8));
    }
}

static void put_sixes(const uint8_t *field, int lane, uint8_t *words)
{
    for (int w = 0; w < 3; w++) {
        uint32_t word = (uint32_t)(field[15] >> (2 * w) & 3) << 30;
        for (int i = 0; i < 5; i++) {
            word |= (uint32_t)field[5 * w + i] << (6 * i);
        }
        put_32(words, w * UNIT, lane, word);
    }
}

static void get_sixes(const uint8_t *words, int lane, uint8_t *field)
{
    field[15] = 0;
    for (int w = 0; w < 3; w++) {
        const uint32_t word = get_32(words, w * UNIT, lane);
        for (int i = 0; i < 5; i++) {
            field[5 * w + i] = word >> (6 * i) & 63;
        }
        field[15] |= (uint8_t)(word >> 30 << (2 * w));
    }
}

static void put_xs(const uint8_t *field, int lane, uint8_t *head)
{
    uint32_t low = 0, high = 0;
    for (int s = 0; s < 8; s++) {
        low |= (uint32_t)(field[s] & 15) << (4 * s);
        high |= (uint32_t)(field[s] >> 4) << (2 * s);
    }
    put_16(head, 0, lane, (uint16_t)high);
    put_32(head, 32, lane, low);
}

static void get_xs(const uint8_t *head, int lane, uint8_t *field)
{
    const uint32_t low = get_32(head, 32, lane), high = get_16(head, 0, lane);
    for (int s = 0; s < 8; s++) {
        field[s] = (uint8_t)((low >> (4 * s) & 15) | (high >> (2 * s) & 3) << 4);
    }
}

static void put_head(ps_quant_scales scales, const ps_quant_block *b, int lane, uint8_t *head)
{
    if (scales == PS_SCALES_POWER) {
        head[lane] = (uint8_t)b->d;
        return;
    }
    put_16(head, 0, lane, b->d);
    if (ps_quant_has_min(scales)) put_16(head, 2 * LANES, lane, b->m);
    head += ps_quant_has_min(scales) ? 4 * LANES : 2 * LANES;
    if (scales == PS_SCALES_Q2 || scales == PS_SCALES_Q6) put_bytes(b->field, lane, head);
    if (scales == PS_SCALES_Q3 || scales == PS_SCALES_K) put_sixes(b->field, lane, head);
    if (scales == PS_SCALES_XS) put_xs(b->field, lane, head);
}

static void get_halves(ps_quant_scales scales, const uint8_t *head, int lane, uint16_t *d,
                       uint16_t *m)
{
    *d = scales == PS_SCALES_POWER ? head[lane] : get_16(head, 0, lane);
    *m = ps_quant_has_min(scales) ? get_16(head, 2 * LANES, lane) : 0;
}

static void get_head(ps_quant_scales scales, const uint8_t *head, int lane, ps_quant_block *b)
{
    get_halves(scales, head, lane, &b->d, &b->m);
    head += ps_quant_has_min(scales) ? 4 * LANES : 2 * LANES;
    if (scales == PS_SCALES_Q2 || scales == PS_SCALES_Q6) get_bytes(head, lane, b->field);
    if (scales == PS_SCALES_Q3 || scales == PS_SCALES_K) get_sixes(head, lane, b->field);
    if (scales == PS_SCALES_XS) get_xs(head, lane, b->field);
}

/* ---- codes ---- */

/* Byte of a unit's lane that holds value k of its four. */
static int byte_of(int k)
{
    static const uint8_t place[4] = {0, 2, 1, 3};
    return place[k % 4];
}

static int get_field(const uint8_t *units, int bits, int k, int lane)
{
    const int per_byte = 8 / bits, j = k / 4;
    const uint8_t *byte = units + j / per_byte * UNIT + lane * 4 + byte_of(k);
    return *byte >> (j % per_byte * bits) & ((1 << bits) - 1);
}

/* Four codes as the bytes of a unit's lane: the middle ones change places. */
static uint32_t word_of(const uint8_t *code)
{
    const uint32_t first = code[0], second = code[1], third = code[2], fourth = code[3];
    return first | third << 8 | second << 16 | fourth << 24;
}

/* The fields of `bits` bits of a run, eight words of four codes, as words of the lane's units. */
static void put_fields(const uint32_t words[8], int bits, int shift, int lane, uint8_t *units)
{
    const int per_byte = 8 / bits;
    const uint32_t mask = 0x01010101u * ((1u << bits) - 1);
    for (int u = 0; u < bits; u++) {
        uint32_t word = 0;
        for (int f = 0; f < per_byte; f++) {
            word |= (words[u * per_byte + f] >> shift & mask) << (f * bits);
        }
        put_32(units, u * UNIT, lane, word);
    }
}

/* Two codes that lie at the same bits of both halves of a word. */
static uint32_t pair_of(const uint8_t *code, int pair)
{
    return (uint32_t)code[2 * pair] | (uint32_t)code[2 * pair + 1] << 16;
}

static void put_five_bits(const uint8_t *code, int lane, uint8_t *units)
{
    const uint32_t last = pair_of(code, 15);
    for (int u = 0; u < 5; u++) {
        const uint32_t word = pair_of(code, 3 * u) | pair_of(code, 3 * u + 1) << 5 |
                              (last >> u & 0x00010001) << 10 | pair_of(code, 3 * u + 2) << 11;
        put_32(units, u * UNIT, lane, word);
    }
}

/* Eight pairs. */
static void put_six_bits(const uint8_t *code, int lane, uint8_t *units)
{
    const uint32_t six = pair_of(code, 6), seven = pair_of(code, 7);
    const uint32_t middle[3] = {six & 0x000F000F, seven & 0x000F000F,
                                (six >> 4 & 0x00030003) | (seven >> 2 & 0x000C000C)};
    for (int u = 0; u < 3; u++) {
        const uint32_t word =
            pair_of(code, 2 * u) | middle[u] << 6 | pair_of(code, 2 * u + 1) << 10;
        put_32(units, u * UNIT, lane, word);
    }
}

static void put_halves(int bits, const uint8_t *code, int lane, uint8_t *units)
{
    if (bits == 5) {
        put_five_bits(code, lane, units);
        return;
    }
    put_six_bits(code, lane, units);
    put_six_bits(code + 16, lane, units + 3 * UNIT);
}

/* `bits` bits of the half word of value k in unit u, from bit `at` on. */
static int half_field(const uint8_t *units, int u, int k, int lane, int at, int bits)
{
    return (int)(get_32(units, u * UNIT, lane) >> (k % 2 * 16 + at)) & ((1 << bits) - 1);
}

static int get_five_bits(const uint8_t *units, int k, int lane)
{
    static const uint8_t place[3] = {0, 5, 11};
    const int pair = k / 2;
    if (pair < 15) return half_field(units, pair / 3, k, lane, place[pair % 3], 5);
    int code = 0;
    for (int u = 0; u < 5; u++) {
        code |= half_field(units, u, k, lane, 10, 1) << u;
    }
    return code;
}

static int get_six_bits(const uint8_t *units, int k, int lane)
{
    const int pair = k / 2 % 8, first = k / 16 * 3;
    if (pair < 6) return half_field(units, first + pair / 2, k, lane, pair % 2 * 10, 6);
    return half_field(units, first + pair - 6, k, lane, 6, 4) |
           half_field(units, first + 2, k, lane, pair == 6 ? 6 : 8, 2) << 4;
}

static void put_bits(const ps_quant_format *f, const uint8_t *code, int lane, uint8_t *units)
{
    for (int i = 0; i < f->values; i += PS_QUANT_RUN) {
        if (ps_quant_in_halves(f)) {
            put_halves(f->low_bits, code + i, lane, units);
            units += ps_quant_run_bytes(f);
            continue;
        }
        uint32_t words[PS_QUANT_RUN / 4];
        for (int j = 0; j < PS_QUANT_RUN / 4; j++) {
            words[j] = word_of(code + i + 4 * j);
        }
        if (f->plane_bits) put_fields(words, f->plane_bits, f->low_bits, lane, units);
        put_fields(words, f->low_bits, 0, lane, units + f->plane_bits * UNIT);
        units += ps_quant_run_bytes(f);
    }
}

static void get_bits(const ps_quant_format *f, const uint8_t *units, int lane, uint8_t *code)
{
    for (int i = 0; i < f->values; i++) {
        const int k = i % PS_QUANT_RUN;
        const uint8_t *run = units + (size_t)(i / PS_QUANT_RUN) * ps_quant_run_bytes(f);
        if (ps_quant_in_halves(f)) {
            const bool five = f->low_bits == 5;
            code[i] = (uint8_t)(five ? get_five_bits(run, k, lane) : get_six_bits(run, k, lane));
            continue;
        }
        int value = get_field(run + f->plane_bits * UNIT, f->low_bits, k, lane);
        if (f->plane_bits) value |= get_field(run, f->plane_bits, k, lane) << f->low_bits;
        code[i] = (uint8_t)value;
    }
}

/* Unit and digit of byte unit j of a tq1_0 block. */
static int trit_unit(int j, int *digit)
{
    const int sixteen = j / 16, i = j % 16;
    *digit = i < 15 ? i % 5 : sixteen;
    return i < 15 ? 3 * sixteen + i / 5 : PS_QUANT_TRIT_UNITS - 1;
}

static void put_trits(const uint8_t *code, int lane, uint8_t *units)
{
    static const uint8_t power[5] = {81, 27, 9, 3, 1};
    uint8_t sum[PS_QUANT_TRIT_UNITS][4] = {{0}};
    for (int i = 0; i < 256; i++) {
        int digit;
        const int unit = trit_unit(i / 4, &digit);
        sum[unit][byte_of(i)] = (uint8_t)(sum[unit][byte_of(i)] + code[i] * power[digit]);
    }
    for (int u = 0; u < PS_QUANT_TRIT_UNITS; u++) {
        for (int i = 0; i < 4; i++) {
            units[u * UNIT + lane * 4 + i] = (uint8_t)((sum[u][i] * 256 + 242) / 243);
        }
    }
}

static void get_trits(const uint8_t *units, int lane, uint8_t *code)
{
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    for (int i = 0; i < 256; i++) {
        int digit;
        const int unit = trit_unit(i / 4, &digit);
        const uint8_t byte = units[unit * UNIT + lane * 4 + byte_of(i)];
        code[i] = (uint8_t)((uint8_t)(byte * power[digit]) * 3 >> 8);
    }
}

void ps_quant_put(ps_dtype dtype, const ps_quant_block *block, int lane, uint8_t *packed)
{
    const ps_quant_format *f = &ps_quant_formats[dtype];
    put_head(f->scales, block, lane, packed);
    if (f->low_bits == 0) {
        put_trits(block->code, lane, packed + f->head_bytes);
    } else {
        put_bits(f, block->code, lane, packed + f->head_bytes);
    }
}

void ps_quant_get(ps_dtype dtype, const uint8_t *packed, int lane, ps_quant_block *out)
{
    const ps_quant_format *f = &ps_quant_formats[dtype];
    get_head(f->scales, packed, lane, out);
    if (f->low_bits == 0) {
        get_trits(packed + f->head_bytes, lane, out->code);
    } else {
        get_bits(f, packed + f->head_bytes, lane, out->code);
    }
}

void ps_quant_get_scales(ps_dtype dtype, const uint8_t *packed, int lane, uint16_t *d, uint16_t *m)
{
    get_halves(ps_quant_formats[dtype].scales, packed, lane, d, m);
}

/* ---- numbers ---- */

/* 2^(e-128), denormal for e < 2. */
static float power_of(uint16_t e)
{
    return ps_float_from_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}

static void scale_of(ps_quant_scales scales, const ps_quant_block *b, int sub, float *scale,
                     float *min)
{
    const float d = ps_half_widen(b->d), m = ps_half_widen(b->m);
    const uint8_t *field = b->field;
    *scale = d;
    *min = 0.0f;
    switch (scales) {
    case PS_SCALES_HALF:
        break;
    case PS_SCALES_HALF_MIN:
        *min = m;
        break;
    case PS_SCALES_POWER:
        *scale = power_of(b->d);
        break;
    case PS_SCALES_Q2:
        *scale = d * (float)(field[sub] & 15);
        *min = -(m * (float)(field[sub] >> 4));
        break;
    case PS_SCALES_Q3:
    case PS_SCALES_XS:
        *scale = d * (float)(field[sub] - 32);
        break;
    case PS_SCALES_K:
        *scale = d * (float)field[2 * sub];
        *min = -(m * (float)field[2 * sub + 1]);
        break;
    case PS_SCALES_Q6:
        *scale = d * (float)(int8_t)field[sub];
    }
}

void ps_quant_values(ps_dtype dtype, const ps_quant_block *b, float *out)
{
    const ps_quant_format *f = &ps_quant_formats[dtype];
    const bool has_min = ps_quant_has_min(f->scales);
    for (int start = 0; start < f->values; start += f->sub) {
        float scale, min;
        scale_of(f->scales, b, start / f->sub, &scale, &min);
        for (int i = start; i < start + f->sub; i++) {
            const int number = f->numbers ? f->numbers[b->code[i]] : b->code[i];
            const float product = scale * (float)(number - f->zero);
            out[i] = has_min ? product + min : product;
        }
    }
}

bool ps_quant_is_finite(ps_dtype dtype, uint16_t d, uint16_t m)
{
    // 12 x 2^(e-128) is finite up to e = 252; e = 255 means NaN.
    if (ps_quant_formats[dtype].scales == PS_SCALES_POWER) return d <= 252;
    return (d & 0x7C00) != 0x7C00 && (m & 0x7C00) != 0x7C00;
}
