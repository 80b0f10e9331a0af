/* Quantised keys and values widened to f32, in the layouts of math/kv.h: exact, since codes have 8
 * bits at most and scales 11. */
#include "math/half.h"
#include "math/isa/vec.h"
#include "math/kernels.h"
#include "math/kv.h"

void PS_ISA(ps_kv_widen_keys)(ps_dtype type, const void *tile, int k, float *out);
void PS_ISA(ps_kv_widen_value)(ps_dtype type, const void *row, int k, float *out);

/* 16 codes, their zero point and scales to values. */
V_INLINE v16 widen(w16 codes, int zero, v16 scale)
{
    return v_mul(w_to_float(w_add(codes, w_set(-zero))), scale);
}

/* Codes of a head lie one behind the other, as in panel_kernel.c. */
V_INLINE void ask_ahead(const uint8_t *codes)
{
    if (CACHE_ASK_BYTES > 0) ASK_FOR(false, codes + CACHE_ASK_BYTES);
}

void PS_ISA(ps_kv_widen_keys)(ps_dtype type, const void *tile, int k, float *out)
{
    const uint8_t *codes = tile;
    const bool bytes = type == PS_Q8_0;
    const uint8_t *scales = codes + (size_t)(bytes ? k : (k + 1) / 2) * PS_KV_TILE;
    for (int first = 0; first < k; first += PS_KV_BLOCK) {
        uint16_t halves[PS_KV_TILE];
        memcpy(halves, scales + (size_t)(first / PS_KV_BLOCK) * sizeof halves, sizeof halves);
        const int end = k - first < PS_KV_BLOCK ? k : first + PS_KV_BLOCK;
        for (int lane = 0; lane < PS_KV_TILE; lane += 16) {
            const v16 scale = v_load_f16(halves + lane);
            for (int t = first; t < end; t++) {
                const size_t row = (size_t)(bytes ? t : t / 2);
                if (lane == 0) ask_ahead(codes + row * PS_KV_TILE);
                w16 code = w_load_u8(codes + row * PS_KV_TILE + lane);
                if (!bytes) code = t % 2 ? w_shr(code, 4) : w_and(code, w_set(15));
                v_store(out + t * PS_KV_TILE + lane, widen(code, bytes ? 128 : 8, scale));
            }
        }
    }
}

void PS_ISA(ps_kv_widen_value)(ps_dtype type, const void *row, int k, float *out)
{
    const uint8_t *codes = row;
    const bool bytes = type == PS_Q8_0;
    const int stride = (k + 15) / 16 * 16, blocks = (k + PS_KV_BLOCK - 1) / PS_KV_BLOCK;
    const uint8_t *scales = codes + (bytes ? stride : blocks * PS_KV_BLOCK / 2);
    for (int t = 0; t < stride; t += 16) {
        if (t % PS_KV_TILE == 0) ask_ahead(codes + t);
        uint16_t half;
        memcpy(&half, scales + t / PS_KV_BLOCK * 2, sizeof half);
        w16 code;
        if (bytes) {
            code = w_load_u8(codes + t);
        } else {
            code = w_load_u8(codes + t / PS_KV_BLOCK * 16);
            code = t % PS_KV_BLOCK ? w_shr(code, 4) : w_and(code, w_set(15));
        }
        v_store(out + t, widen(code, bytes ? 128 : 8, v_set(ps_half_widen(half))));
    }
}
