/* Blocks of source rows, as ggml and GGUF lay them out: a function a family of formats. */
#include <assert.h>
#include <string.h>

#include "math/quant.h"

static uint16_t read_16(const uint8_t *in)
{
    return (uint16_t)(in[0] | in[1] << 8);
}

/* 32 nibbles: value j is the low half of byte j, value j + 16 the high half. */
static void nibbles_16(const uint8_t *in, uint8_t *code)
{
    for (int j = 0; j < 16; j++) {
        code[j] = in[j] & 15;
        code[j + 16] = in[j] >> 4;
    }
}

/* 64 nibbles: value l is the low half of byte l, value l + 32 the high half. */
static void nibbles_32(const uint8_t *in, uint8_t *code)
{
    for (int l = 0; l < 32; l++) {
        code[l] = in[l] & 15;
        code[l + 32] = in[l] >> 4;
    }
}

/* 256 pairs of bits: bits 2i, 2i+1 of byte l of half h are value 128h + 32i + l. */
static void pairs(const uint8_t *in, uint8_t *code)
{
    for (int i = 0; i < 256; i++) {
        code[i] = in[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
    }
}

static void read_q5(const uint8_t *in, uint8_t *code)
{
    nibbles_16(in + 4, code);
    for (int j = 0; j < 32; j++) {
        code[j] |= (uint8_t)((in[j / 8] >> (j % 8) & 1) << 4);
    }
}

static void read_q2_k(const uint8_t *in, ps_quant_block *b)
{
    memcpy(b->field, in, 16);
    pairs(in + 16, b->code);
}

/* The 12 bytes of q3_k: 16 lower nibbles, then 16 upper pairs of bits. */
static void read_q3_k(const uint8_t *in, ps_quant_block *b)
{
    const uint8_t *plane = in, *scales = in + 96;
    pairs(in + 32, b->code);
    for (int i = 0; i < 256; i++) {
        b->code[i] |= (uint8_t)((plane[i % 32] >> (i / 32) & 1) << 2);
    }
    for (int s = 0; s < 16; s++) {
        const int low = scales[s % 8] >> (s / 8 * 4) & 15, high = scales[8 + s % 4] >> (s / 4 * 2);
        b->field[s] = (uint8_t)(low | (high & 3) << 4);
    }
}

/* The 12 bytes of q4_k and q5_k: scale and minimum of each sub-block of 32. */
static void read_k_scales(const uint8_t *s, uint8_t *field)
{
    for (int b = 0; b < 8; b++) {
        uint8_t *scale = &field[2 * b], *min = &field[2 * b + 1];
        if (b < 4) {
            *scale = s[b] & 63;
            *min = s[b + 4] & 63;
        } else {
            *scale = (uint8_t)((s[b + 4] & 15) | (s[b - 4] >> 6) << 4);
            *min = (uint8_t)(s[b + 4] >> 4 | (s[b] >> 6) << 4);
        }
    }
}

static void read_q4_k(const uint8_t *in, ps_quant_block *b)
{
    read_k_scales(in + 4, b->field);
    for (int half = 0; half < 4; half++) {
        nibbles_32(in + 16 + 32 * half, b->code + 64 * half);
    }
}

static void read_q5_k(const uint8_t *in, ps_quant_block *b)
{
    const uint8_t *plane = in + 16;
    read_k_scales(in + 4, b->field);
    for (int half = 0; half < 4; half++) {
        nibbles_32(in + 48 + 32 * half, b->code + 64 * half);
    }
    for (int i = 0; i < 256; i++) {
        b->code[i] |= (uint8_t)((plane[i % 32] >> (i / 32) & 1) << 4);
    }
}

static void read_q6_k(const uint8_t *in, ps_quant_block *b)
{
    for (int i = 0; i < 256; i++) {
        const uint8_t *low = in + i / 128 * 64, *high = in + 128 + i / 128 * 32;
        const int quarter = i % 128 / 32, l = i % 32;
        const int nibble = low[l + quarter % 2 * 32] >> (quarter / 2 * 4) & 15;
        b->code[i] = (uint8_t)(nibble | (high[l] >> (quarter * 2) & 3) << 4);
    }
    memcpy(b->field, in + 192, 16);
}

static void read_iq4_xs(const uint8_t *in, ps_quant_block *b)
{
    const int high = read_16(in + 2);
    for (int s = 0; s < 8; s++) {
        b->field[s] = (uint8_t)((in[4 + s / 2] >> (s % 2 * 4) & 15) | (high >> (2 * s) & 3) << 4);
        nibbles_16(in + 8 + 16 * s, b->code + 32 * s);
    }
}

/* Digit n of a byte of base-3 digits: multiplying by 3^n modulo 256, then by 3, carries it out. */
static uint8_t trit(uint8_t byte, int n)
{
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    return (uint8_t)((uint8_t)(byte * power[n]) * 3 >> 8);
}

/* 32 bytes of five digits, 16 bytes of five, 4 bytes of four; digits of a kind stand together. */
static void read_tq1_0(const uint8_t *in, uint8_t *code)
{
    for (int i = 0; i < 160; i++) {
        code[i] = trit(in[i % 32], i / 32);
    }
    for (int i = 0; i < 80; i++) {
        code[160 + i] = trit(in[32 + i % 16], i / 16);
    }
    for (int i = 0; i < 16; i++) {
        code[240 + i] = trit(in[48 + i % 4], i / 4);
    }
}

/* Where the scales stand in a source block; -1: none. */
static const struct {
    int16_t d, m;
} places[PS_DTYPE_COUNT] = {
    [PS_Q8_0] = {0, -1},   [PS_Q4_0] = {0, -1},   [PS_Q4_1] = {0, 2},   [PS_Q5_0] = {0, -1},
    [PS_Q5_1] = {0, 2},    [PS_IQ4_NL] = {0, -1}, [PS_MXFP4] = {0, -1}, [PS_Q2_K] = {80, 82},
    [PS_Q3_K] = {108, -1}, [PS_Q4_K] = {0, 2},    [PS_Q5_K] = {0, 2},   [PS_Q6_K] = {208, -1},
    [PS_IQ4_XS] = {0, -1}, [PS_TQ1_0] = {52, -1}, [PS_TQ2_0] = {64, -1}};

void ps_quant_read_scales(ps_dtype dtype, const uint8_t *in, uint16_t *d, uint16_t *m)
{
    *d = dtype == PS_MXFP4 ? in[0] : read_16(in + places[dtype].d);
    *m = places[dtype].m < 0 ? 0 : read_16(in + places[dtype].m);
}

void ps_quant_read(ps_dtype dtype, const uint8_t *in, ps_quant_block *b)
{
    ps_quant_read_scales(dtype, in, &b->d, &b->m);
    switch (dtype) {
    case PS_Q8_0:
        for (int j = 0; j < 32; j++) {
            b->code[j] = in[2 + j] ^ 0x80; // a code is never negative
        }
        break;
    case PS_Q4_0:
    case PS_IQ4_NL:
        nibbles_16(in + 2, b->code);
        break;
    case PS_MXFP4:
        nibbles_16(in + 1, b->code);
        break;
    case PS_Q4_1:
        nibbles_16(in + 4, b->code);
        break;
    case PS_Q5_0:
        read_q5(in + 2, b->code);
        break;
    case PS_Q5_1:
        read_q5(in + 4, b->code);
        break;
    case PS_Q2_K:
        read_q2_k(in, b);
        break;
    case PS_Q3_K:
        read_q3_k(in, b);
        break;
    case PS_Q4_K:
        read_q4_k(in, b);
        break;
    case PS_Q5_K:
        read_q5_k(in, b);
        break;
    case PS_Q6_K:
        read_q6_k(in, b);
        break;
    case PS_IQ4_XS:
        read_iq4_xs(in, b);
        break;
    case PS_TQ1_0:
        read_tq1_0(in, b->code);
        break;
    default:
        assert(dtype == PS_TQ2_0);
        pairs(in, b->code);
    }
}
