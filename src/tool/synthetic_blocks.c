#include "tool/synthetic_blocks.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "math/half.h"

enum { CODE_BYTES = PS_DTYPE_BLOCK_VALUES_MAX, BYTES = PS_SYNTHETIC_BLOCK_DRAWS * 16 };

static void draw_bytes(uint64_t seed, ps_rng_block counter, uint8_t *out)
{
    for (int i = 0; i < PS_SYNTHETIC_BLOCK_DRAWS; i++) {
        const ps_rng_block block = ps_rng_philox(seed, counter);
        memcpy(out + (size_t)i * sizeof block, &block, sizeof block);
        if (++counter.word[0] == 0) counter.word[1]++;
    }
}

/* How many codes a format has: ternary formats leave one of four out. */
static int codes_of(ps_dtype dtype)
{
    const ps_quant_format *f = &ps_quant_formats[dtype];
    if (dtype == PS_TQ1_0 || dtype == PS_TQ2_0) return 3;
    return 1 << (f->low_bits + f->plane_bits);
}

/* Fields in the upper half of their range; a minimum's is its scale's. */
static void set_fields(ps_quant_scales scales, const uint8_t *random, uint8_t *field)
{
    for (int s = 0; s < PS_QUANT_SUBS_MAX; s++) {
        switch (scales) {
        case PS_SCALES_Q2:
            field[s] = (uint8_t)((8 + random[s] % 8) * 17);
            break;
        case PS_SCALES_K:
            field[s] = (uint8_t)(32 + random[s / 2] % 32);
            break;
        case PS_SCALES_Q3:
        case PS_SCALES_XS:
            field[s] = (uint8_t)(48 + random[s] % 16);
            break;
        case PS_SCALES_Q6:
            field[s] = (uint8_t)(64 + random[s] % 64);
            break;
        default:
            break;
        }
    }
}

/* The scale and, where there is one, the minimum that centres uniform codes. */
static void set_scale(ps_dtype dtype, float scale, ps_quant_block *out)
{
    const ps_quant_scales scales = ps_quant_formats[dtype].scales;
    if (scales == PS_SCALES_POWER) {
        out->d = (uint16_t)(128 + (int)nearbyintf(log2f(scale)));
        return;
    }
    out->d = ps_half_narrow(scale);
    if (!ps_quant_has_min(scales)) return;
    const float middle = ps_half_widen(out->d) * (float)(codes_of(dtype) - 1) / 2.0f;
    out->m = ps_half_narrow(scales == PS_SCALES_HALF_MIN ? -middle : middle);
}

void ps_synthetic_block(ps_dtype dtype, uint64_t seed, ps_rng_block counter, float deviation,
                        ps_quant_block *out)
{
    assert(ps_dtype_is_quantised(dtype));
    const ps_quant_format *f = &ps_quant_formats[dtype];
    uint8_t random[BYTES];
    float values[PS_DTYPE_BLOCK_VALUES_MAX], squares = 0.0f;
    *out = (ps_quant_block){.d = 0};
    draw_bytes(seed, counter, random);
    for (int i = 0; i < f->values; i++) {
        out->code[i] = (uint8_t)(random[i] % codes_of(dtype));
    }
    set_fields(f->scales, random + CODE_BYTES, out->field);
    set_scale(dtype, 1.0f, out);
    ps_quant_values(dtype, out, values);
    for (int i = 0; i < f->values; i++) {
        squares += values[i] * values[i];
    }
    set_scale(dtype, deviation / sqrtf(squares / (float)f->values), out);
    // Codes without a minimum lie around -1/2; half of the blocks have them around +1/2.
    const bool turn = random[BYTES - 1] >= 128;
    if (turn && f->scales != PS_SCALES_POWER && !ps_quant_has_min(f->scales)) out->d |= 0x8000;
}
