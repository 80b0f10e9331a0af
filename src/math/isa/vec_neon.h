/* v16 as four 128-bit registers (Advanced SIMD of 64-bit ARM; I8MM for products of bytes). */
#include <arm_neon.h>

typedef struct v16 {
    float32x4_t a, b, c, d;
} v16;
typedef struct m16 {
    uint32x4_t a, b, c, d;
} m16;
typedef struct w16 {
    uint32x4_t a, b, c, d;
} w16;

/* Register tiles of the panel kernel: 32 registers hold the accumulators of six rows under a panel,
 * or of one row under four panels, and the weights beside them. */
#define TILE_ROWS_MAX             6
#define TILE_PANELS(rows, is_f32) ((rows) == 1 ? 4 : (rows) <= 3 ? 2 : 1)
#define GROUP_PANELS              4
#define CACHE_TILE_ROWS           0 // keys and values take the same tiles
#define CACHE_ASK_BYTES           0
#define EVEN_TILES                0
#define ASK_STEPS(rows, is_f32)   0 // of k from what is read to what is asked for (panel_kernel.c)
#define ASK_FOR(once, line)       ((void)(once), __builtin_prefetch(line, 0, 3))

/* Loops over the units of a run are unrolled, so that shifts and masks are constants. */
#define UNROLL_UNITS _Pragma("GCC unroll 16")
#define KEEP_ROLLED  _Pragma("GCC unroll 1")
#define DIRECT_ROWS  16 // of quantised weights that unpacking does not pay for; 0: always unpacked
#define TRIT_ROWS    4  // the same of tq1_0, whose digits each four rows take out anew

/* No row of quantised weights is asked for ahead: the processor does that. */
#define FETCH_DISTANCE(rows, bits, further) 0
#define FETCH_FURTHER                       0
#define FETCH_FAR(rows, bits)               0
#define ASK_EVERY(rows, bits)               1 // unit, for a line
#define SIDE_BY_SIDE(rows, bits)            1 // panel that is read at once

/* Tiles of rows and unpacked panels of quantised weights: the integer accumulators fill half of the
 * registers, those of the products' sums the others. */
#define QUANT_ROWS   4
#define QUANT_PANELS 1

/* The same for all four registers. */
#define V_EACH_1(type, does, x) ((type){does(x.a), does(x.b), does(x.c), does(x.d)})
#define V_EACH_2(type, does, x, y)                                                                 \
    ((type){does(x.a, y.a), does(x.b, y.b), does(x.c, y.c), does(x.d, y.d)})
#define V_EACH_3(type, does, x, y, z)                                                              \
    ((type){does(x.a, y.a, z.a), does(x.b, y.b, z.b), does(x.c, y.c, z.c), does(x.d, y.d, z.d)})
#define V_LOAD_4(type, does, p) ((type){does(p), does((p) + 4), does((p) + 8), does((p) + 12)})

V_INLINE v16 v_set(float a)
{
    const float32x4_t all = vdupq_n_f32(a);
    return (v16){all, all, all, all};
}
V_INLINE v16 v_zero(void)
{
    return v_set(0.0f);
}
V_INLINE v16 v_load(const float *p)
{
    return V_LOAD_4(v16, vld1q_f32, p);
}
V_INLINE void v_store(float *p, v16 x)
{
    vst1q_f32(p, x.a);
    vst1q_f32(p + 4, x.b);
    vst1q_f32(p + 8, x.c);
    vst1q_f32(p + 12, x.d);
}
V_INLINE float32x4_t v_widen_f16_(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
V_INLINE v16 v_load_f16(const uint16_t *p)
{
    return V_LOAD_4(v16, v_widen_f16_, p);
}
V_INLINE float32x4_t v_widen_bf16_(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}
V_INLINE v16 v_load_bf16(const uint16_t *p)
{
    return V_LOAD_4(v16, v_widen_bf16_, p);
}
V_INLINE v16 v_add(v16 x, v16 y)
{
    return V_EACH_2(v16, vaddq_f32, x, y);
}
V_INLINE v16 v_sub(v16 x, v16 y)
{
    return V_EACH_2(v16, vsubq_f32, x, y);
}
V_INLINE v16 v_mul(v16 x, v16 y)
{
    return V_EACH_2(v16, vmulq_f32, x, y);
}
V_INLINE v16 v_div(v16 x, v16 y)
{
    return V_EACH_2(v16, vdivq_f32, x, y);
}
/* x y + z: the instruction's first operand is what is added to. */
V_INLINE v16 v_fma(v16 x, v16 y, v16 z)
{
    return V_EACH_3(v16, vfmaq_f32, z, x, y);
}
/* The processor's own maximum and minimum give NaN when either is. */
V_INLINE float32x4_t v_max_(float32x4_t x, float32x4_t y)
{
    return vbslq_f32(vcgtq_f32(x, y), x, y);
}
V_INLINE v16 v_max(v16 x, v16 y)
{
    return V_EACH_2(v16, v_max_, x, y);
}
V_INLINE float32x4_t v_min_(float32x4_t x, float32x4_t y)
{
    return vbslq_f32(vcltq_f32(x, y), x, y);
}
V_INLINE v16 v_min(v16 x, v16 y)
{
    return V_EACH_2(v16, v_min_, x, y);
}
V_INLINE m16 v_less(v16 x, v16 y)
{
    return V_EACH_2(m16, vcltq_f32, x, y);
}
V_INLINE v16 v_blend(m16 mask, v16 when_true, v16 when_false)
{
    return V_EACH_3(v16, vbslq_f32, mask, when_true, when_false);
}
V_INLINE float32x4_t v_power_(int32x4_t n)
{
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}
V_INLINE float32x4_t v_scale_(float32x4_t p, float32x4_t n)
{
    const int32x4_t whole = vcvtnq_s32_f32(n), half = vshrq_n_s32(whole, 1);
    return vmulq_f32(vmulq_f32(p, v_power_(half)), v_power_(vsubq_s32(whole, half)));
}
/* p * 2^n for whole n in [-150, 129], in two exact-power factors so that denormals round once. */
V_INLINE v16 v_scale_by_power(v16 p, v16 n)
{
    return V_EACH_2(v16, v_scale_, p, n);
}
/* Sum over lanes by the tree l + (l+8), l + (l+4), l + (l+2), l + (l+1). */
V_INLINE float v_sum(v16 x)
{
    const float32x4_t s4 = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
    const float32x2_t s2 = vadd_f32(vget_low_f32(s4), vget_high_f32(s4));
    return vget_lane_f32(s2, 0) + vget_lane_f32(s2, 1);
}
V_INLINE float v_largest(v16 x)
{
    return vmaxvq_f32(v_max_(v_max_(x.a, x.b), v_max_(x.c, x.d)));
}

/* ---- integers ---- */

V_INLINE w16 w_load(const void *p)
{
    const uint8_t *bytes = p;
    return (w16){vreinterpretq_u32_u8(vld1q_u8(bytes)), vreinterpretq_u32_u8(vld1q_u8(bytes + 16)),
                 vreinterpretq_u32_u8(vld1q_u8(bytes + 32)),
                 vreinterpretq_u32_u8(vld1q_u8(bytes + 48))};
}
V_INLINE void w_store(void *p, w16 x)
{
    uint8_t *bytes = p;
    vst1q_u8(bytes, vreinterpretq_u8_u32(x.a));
    vst1q_u8(bytes + 16, vreinterpretq_u8_u32(x.b));
    vst1q_u8(bytes + 32, vreinterpretq_u8_u32(x.c));
    vst1q_u8(bytes + 48, vreinterpretq_u8_u32(x.d));
}
V_INLINE w16 w_set(int32_t x)
{
    const uint32x4_t all = vdupq_n_u32((uint32_t)x);
    return (w16){all, all, all, all};
}
V_INLINE w16 w_widen_(uint16x8_t low, uint16x8_t high)
{
    return (w16){vmovl_u16(vget_low_u16(low)), vmovl_high_u16(low), vmovl_u16(vget_low_u16(high)),
                 vmovl_high_u16(high)};
}
V_INLINE w16 w_load_u8(const uint8_t *p)
{
    const uint8x16_t bytes = vld1q_u8(p);
    return w_widen_(vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes));
}
V_INLINE w16 w_load_u16(const void *p)
{
    const uint8_t *bytes = p;
    return w_widen_(vreinterpretq_u16_u8(vld1q_u8(bytes)),
                    vreinterpretq_u16_u8(vld1q_u8(bytes + 16)));
}
V_INLINE w16 w_and(w16 x, w16 y)
{
    return V_EACH_2(w16, vandq_u32, x, y);
}
V_INLINE w16 w_or(w16 x, w16 y)
{
    return V_EACH_2(w16, vorrq_u32, x, y);
}
V_INLINE w16 w_add(w16 x, w16 y)
{
    return V_EACH_2(w16, vaddq_u32, x, y);
}
V_INLINE uint32x4_t w_sub_pairs_(uint32x4_t x, uint32x4_t y)
{
    return vreinterpretq_u32_u16(vsubq_u16(vreinterpretq_u16_u32(x), vreinterpretq_u16_u32(y)));
}
V_INLINE w16 w_sub_pairs(w16 x, w16 y)
{
    return V_EACH_2(w16, w_sub_pairs_, x, y);
}
/* As operators, which compilers turn into shifts by constants; the functions of arm_neon.h would want
 * them as such. */
V_INLINE w16 w_shl(w16 x, int n)
{
    const uint32x4_t by = vdupq_n_u32((uint32_t)n);
    return (w16){x.a << by, x.b << by, x.c << by, x.d << by};
}
V_INLINE w16 w_shr(w16 x, int n)
{
    const uint32x4_t by = vdupq_n_u32((uint32_t)n);
    return (w16){x.a >> by, x.b >> by, x.c >> by, x.d >> by};
}
V_INLINE uint32x4_t w_sar_(uint32x4_t x, int32x4_t by)
{
    return vreinterpretq_u32_s32(vreinterpretq_s32_u32(x) >> by);
}
V_INLINE w16 w_sar(w16 x, int n)
{
    const int32x4_t by = vdupq_n_s32(n);
    return (w16){w_sar_(x.a, by), w_sar_(x.b, by), w_sar_(x.c, by), w_sar_(x.d, by)};
}
V_INLINE uint32x4_t w_shr_pairs_(uint32x4_t x, uint16x8_t by)
{
    return vreinterpretq_u32_u16(vreinterpretq_u16_u32(x) >> by);
}
V_INLINE w16 w_shr_pairs(w16 x, int n)
{
    const uint16x8_t by = vdupq_n_u16((uint16_t)n);
    return (w16){w_shr_pairs_(x.a, by), w_shr_pairs_(x.b, by), w_shr_pairs_(x.c, by),
                 w_shr_pairs_(x.d, by)};
}
V_INLINE uint32x4_t w_add_bytes_(uint32x4_t x, uint32x4_t y)
{
    return vreinterpretq_u32_u8(vaddq_u8(vreinterpretq_u8_u32(x), vreinterpretq_u8_u32(y)));
}
V_INLINE w16 w_add_bytes(w16 x, w16 y)
{
    return V_EACH_2(w16, w_add_bytes_, x, y);
}
V_INLINE uint32x4_t w_above_bytes_(uint32x4_t x, uint8x16_t limit)
{
    const uint8x16_t over = vqsubq_u8(vreinterpretq_u8_u32(x), limit);
    return vreinterpretq_u32_u8(vminq_u8(over, vdupq_n_u8(1)));
}
V_INLINE w16 w_above_bytes(w16 x, int limit)
{
    const uint8x16_t l = vdupq_n_u8((uint8_t)limit);
    return (w16){w_above_bytes_(x.a, l), w_above_bytes_(x.b, l), w_above_bytes_(x.c, l),
                 w_above_bytes_(x.d, l)};
}
V_INLINE uint32x4_t w_dot_(uint32x4_t sum, uint32x4_t x, uint32x4_t y)
{
    const int16x8_t p = vreinterpretq_s16_u32(x), q = vreinterpretq_s16_u32(y);
    const int32x4_t low = vmull_s16(vget_low_s16(p), vget_low_s16(q));
    return vaddq_u32(sum, vreinterpretq_u32_s32(vpaddq_s32(low, vmull_high_s16(p, q))));
}
V_INLINE w16 w_dot(w16 sum, w16 x, w16 y)
{
    return V_EACH_3(w16, w_dot_, sum, x, y);
}
#ifdef __ARM_FEATURE_MATMUL_INT8
/* The processor multiplies unsigned by signed bytes, four to a lane: rounded activations as bytes
 * spare the weights' codes the way to 16 bits. */
#define ROUND_TO_BYTES 1
#define PAIR_ROWS      0
V_INLINE uint32x4_t w_dot_bytes_(uint32x4_t sum, uint32x4_t x, uint32x4_t y)
{
    return vreinterpretq_u32_s32(
        vusdotq_s32(vreinterpretq_s32_u32(sum), vreinterpretq_u8_u32(x), vreinterpretq_s8_u32(y)));
}
V_INLINE w16 w_dot_bytes(w16 sum, w16 x, w16 y)
{
    return V_EACH_3(w16, w_dot_bytes_, sum, x, y);
}
/* The lowest byte of each lane, of four lanes the inner two exchanged. */
V_INLINE void w_store_bytes(int8_t *p, w16 x)
{
    static const uint8_t order[16] = {0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15};
    const uint16x8_t low = vcombine_u16(vmovn_u32(x.a), vmovn_u32(x.b));
    const uint16x8_t high = vcombine_u16(vmovn_u32(x.c), vmovn_u32(x.d));
    const uint8x16_t bytes = vcombine_u8(vmovn_u16(low), vmovn_u16(high));
    vst1q_s8(p, vreinterpretq_s8_u8(vqtbl1q_u8(bytes, vld1q_u8(order))));
}
#endif
V_INLINE w16 w_lookup(const uint8_t *table, w16 codes)
{
    const uint8x16_t row = vld1q_u8(table);
    return (w16){vreinterpretq_u32_u8(vqtbl1q_u8(row, vreinterpretq_u8_u32(codes.a))),
                 vreinterpretq_u32_u8(vqtbl1q_u8(row, vreinterpretq_u8_u32(codes.b))),
                 vreinterpretq_u32_u8(vqtbl1q_u8(row, vreinterpretq_u8_u32(codes.c))),
                 vreinterpretq_u32_u8(vqtbl1q_u8(row, vreinterpretq_u8_u32(codes.d)))};
}
V_INLINE float32x4_t w_to_float_(uint32x4_t x)
{
    return vcvtq_f32_s32(vreinterpretq_s32_u32(x));
}
V_INLINE v16 w_to_float(w16 x)
{
    return V_EACH_1(v16, w_to_float_, x);
}
V_INLINE uint32x4_t w_from_float_(float32x4_t x)
{
    return vreinterpretq_u32_s32(vcvtnq_s32_f32(x));
}
V_INLINE w16 w_from_float(v16 x)
{
    return V_EACH_1(w16, w_from_float_, x);
}
V_INLINE w16 w_bits(v16 x)
{
    return V_EACH_1(w16, vreinterpretq_u32_f32, x);
}
V_INLINE v16 v_from_bits(w16 x)
{
    return V_EACH_1(v16, vreinterpretq_f32_u32, x);
}
V_INLINE void w_store_i16(int16_t *p, w16 x)
{
    vst1_u16((uint16_t *)p, vmovn_u32(x.a));
    vst1_u16((uint16_t *)p + 4, vmovn_u32(x.b));
    vst1_u16((uint16_t *)p + 8, vmovn_u32(x.c));
    vst1_u16((uint16_t *)p + 12, vmovn_u32(x.d));
}
V_INLINE uint32x4_t w_max_(uint32x4_t x, uint32x4_t y)
{
    return vreinterpretq_u32_s32(vmaxq_s32(vreinterpretq_s32_u32(x), vreinterpretq_s32_u32(y)));
}
V_INLINE w16 w_max(w16 x, w16 y)
{
    return V_EACH_2(w16, w_max_, x, y);
}
V_INLINE int32_t w_largest(w16 x)
{
    return vmaxvq_s32(vreinterpretq_s32_u32(w_max_(w_max_(x.a, x.b), w_max_(x.c, x.d))));
}
V_INLINE int32_t w_sum(w16 x)
{
    return (int32_t)vaddvq_u32(vaddq_u32(vaddq_u32(x.a, x.b), vaddq_u32(x.c, x.d)));
}

#undef V_EACH_1
#undef V_EACH_2
#undef V_EACH_3
#undef V_LOAD_4
