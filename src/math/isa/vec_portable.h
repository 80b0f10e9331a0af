/* v16 as plain C: for processors without a build of their own, and the yardstick of the others.
 * fmaf rounds once everywhere, in hardware or in the mathematical library. */

typedef struct v16 {
    float lane[16];
} v16;
typedef struct m16 {
    uint32_t lane[16];
} m16;
typedef struct w16 {
    uint32_t lane[16];
} w16;

/* Two rows of one panel fill the 32 registers of 128 bits that a 64-bit machine usually has. */
#define TILE_ROWS_MAX             2
#define TILE_PANELS(rows, is_f32) 1
#define GROUP_PANELS              4
#define CACHE_TILE_ROWS           0 // keys and values take the same tiles
#define CACHE_ASK_BYTES           0
#define EVEN_TILES                0
#define ASK_STEPS(rows, is_f32)   0 // of k from what is read to what is asked for (panel_kernel.c)
#define ASK_FOR(once, line)       ((void)(once), __builtin_prefetch(line, 0, 3))

/* Unrolled by lanes already: more would only grow the code. */
#define UNROLL_UNITS
#define KEEP_ROLLED
#define DIRECT_ROWS 0

#define V_EACH for (int i = 0; i < 16; i++)

/* Tiles of rows and unpacked panels of quantised weights: the integer accumulators fill the
 * registers. */
#define QUANT_ROWS   2
#define QUANT_PANELS 1

V_INLINE v16 v_set(float a)
{
    v16 r;
    V_EACH r.lane[i] = a;
    return r;
}
V_INLINE v16 v_zero(void)
{
    return v_set(0.0f);
}
V_INLINE v16 v_load(const float *p)
{
    v16 r;
    memcpy(r.lane, p, sizeof r.lane);
    return r;
}
V_INLINE void v_store(float *p, v16 a)
{
    memcpy(p, a.lane, sizeof a.lane);
}
V_INLINE float v_from_bits_(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
/* Exact: normal numbers by moving the exponent, denormal ones by one exact subtraction. */
V_INLINE float v_widen_f16_(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7FFF;
    if (magnitude >= 0x7C00) return v_from_bits_(sign | 0x7F800000u | (magnitude & 0x3FF) << 13);
    if (magnitude >= 0x0400) return v_from_bits_(sign | (magnitude + 0x1C000u) << 13);
    const float value = v_from_bits_(0x38800000u | magnitude << 13) - v_from_bits_(0x38800000u);
    return sign ? -value : value;
}
V_INLINE v16 v_load_f16(const uint16_t *p)
{
    v16 r;
    V_EACH r.lane[i] = v_widen_f16_(p[i]);
    return r;
}
V_INLINE v16 v_load_bf16(const uint16_t *p)
{
    v16 r;
    V_EACH r.lane[i] = v_from_bits_((uint32_t)p[i] << 16);
    return r;
}
V_INLINE v16 v_add(v16 a, v16 b)
{
    V_EACH a.lane[i] = a.lane[i] + b.lane[i];
    return a;
}
V_INLINE v16 v_sub(v16 a, v16 b)
{
    V_EACH a.lane[i] = a.lane[i] - b.lane[i];
    return a;
}
V_INLINE v16 v_mul(v16 a, v16 b)
{
    V_EACH a.lane[i] = a.lane[i] * b.lane[i];
    return a;
}
V_INLINE v16 v_div(v16 a, v16 b)
{
    V_EACH a.lane[i] = a.lane[i] / b.lane[i];
    return a;
}
V_INLINE v16 v_fma(v16 a, v16 b, v16 c)
{
    V_EACH a.lane[i] = fmaf(a.lane[i], b.lane[i], c.lane[i]);
    return a;
}
V_INLINE v16 v_max(v16 a, v16 b)
{
    V_EACH a.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
    return a;
}
V_INLINE v16 v_min(v16 a, v16 b)
{
    V_EACH a.lane[i] = a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i];
    return a;
}
V_INLINE m16 v_less(v16 a, v16 b)
{
    m16 r;
    V_EACH r.lane[i] = a.lane[i] < b.lane[i];
    return r;
}
V_INLINE v16 v_blend(m16 mask, v16 when_true, v16 when_false)
{
    V_EACH when_false.lane[i] = mask.lane[i] ? when_true.lane[i] : when_false.lane[i];
    return when_false;
}
/* p * 2^n for whole n in [-150, 129], in two exact-power factors so that denormals round once. NaN
 * in p stays NaN whatever n is, hence the clamp before the conversion. */
V_INLINE v16 v_scale_by_power(v16 p, v16 n)
{
    V_EACH
    {
        const int32_t whole = n.lane[i] >= -150.0f && n.lane[i] <= 150.0f ? (int32_t)n.lane[i] : 0;
        const int32_t half = whole >> 1, rest = whole - half;
        p.lane[i] = p.lane[i] * v_from_bits_((uint32_t)(half + 127) << 23) *
                    v_from_bits_((uint32_t)(rest + 127) << 23);
    }
    return p;
}
/* Sum over lanes by the tree l + (l+8), l + (l+4), l + (l+2), l + (l+1). */
V_INLINE float v_sum(v16 a)
{
    for (int step = 8; step >= 1; step /= 2) {
        for (int i = 0; i < step; i++) {
            a.lane[i] = a.lane[i] + a.lane[i + step];
        }
    }
    return a.lane[0];
}
V_INLINE float v_largest(v16 a)
{
    float largest = a.lane[0];
    for (int i = 1; i < 16; i++) {
        if (a.lane[i] > largest) largest = a.lane[i];
    }
    return largest;
}

/* ---- integers ---- */

V_INLINE w16 w_load(const void *p)
{
    w16 r;
    memcpy(r.lane, p, sizeof r.lane);
    return r;
}
V_INLINE void w_store(void *p, w16 a)
{
    memcpy(p, a.lane, sizeof a.lane);
}
V_INLINE w16 w_set(int32_t a)
{
    w16 r;
    V_EACH r.lane[i] = (uint32_t)a;
    return r;
}
V_INLINE w16 w_load_u8(const uint8_t *p)
{
    w16 r;
    V_EACH r.lane[i] = p[i];
    return r;
}
V_INLINE w16 w_load_u16(const void *p)
{
    uint16_t values[16];
    w16 r;
    memcpy(values, p, sizeof values);
    V_EACH r.lane[i] = values[i];
    return r;
}
V_INLINE w16 w_and(w16 a, w16 b)
{
    V_EACH a.lane[i] = a.lane[i] & b.lane[i];
    return a;
}
V_INLINE w16 w_or(w16 a, w16 b)
{
    V_EACH a.lane[i] = a.lane[i] | b.lane[i];
    return a;
}
V_INLINE w16 w_add(w16 a, w16 b)
{
    V_EACH a.lane[i] = a.lane[i] + b.lane[i];
    return a;
}
V_INLINE w16 w_shl(w16 a, int n)
{
    V_EACH a.lane[i] = a.lane[i] << n;
    return a;
}
V_INLINE w16 w_shr(w16 a, int n)
{
    V_EACH a.lane[i] = a.lane[i] >> n;
    return a;
}
V_INLINE w16 w_sar(w16 a, int n)
{
    V_EACH a.lane[i] = (uint32_t)((int32_t)a.lane[i] >> n);
    return a;
}
V_INLINE w16 w_shr_pairs(w16 a, int n)
{
    V_EACH a.lane[i] = (a.lane[i] >> n & 0xFFFF0000u) | (a.lane[i] & 0xFFFFu) >> n;
    return a;
}
V_INLINE w16 w_add_bytes(w16 a, w16 b)
{
    V_EACH
    {
        const uint32_t sum = (a.lane[i] & 0x7F7F7F7Fu) + (b.lane[i] & 0x7F7F7F7Fu);
        a.lane[i] = sum ^ ((a.lane[i] ^ b.lane[i]) & 0x80808080u);
    }
    return a;
}
V_INLINE w16 w_above_bytes(w16 a, int limit)
{
    // A carry into bit 7 says that the lower seven bits are above the limit's.
    const uint32_t carry = (uint32_t)(127 - (limit & 127)) * 0x01010101u;
    V_EACH
    {
        const uint32_t sum = (a.lane[i] & 0x7F7F7F7Fu) + carry;
        a.lane[i] = (limit < 128 ? a.lane[i] | sum : a.lane[i] & sum) >> 7 & 0x01010101u;
    }
    return a;
}
V_INLINE int32_t v_half_(uint32_t lane, int shift)
{
    return (int16_t)(lane >> shift);
}
V_INLINE w16 w_sub_pairs(w16 a, w16 b)
{
    V_EACH
    {
        const uint32_t low = (a.lane[i] - b.lane[i]) & 0xFFFFu;
        a.lane[i] = (a.lane[i] & 0xFFFF0000u) - (b.lane[i] & 0xFFFF0000u) + low;
    }
    return a;
}
V_INLINE w16 w_dot(w16 acc, w16 a, w16 b)
{
    V_EACH acc.lane[i] += (uint32_t)(v_half_(a.lane[i], 0) * v_half_(b.lane[i], 0)) +
                          (uint32_t)(v_half_(a.lane[i], 16) * v_half_(b.lane[i], 16));
    return acc;
}
V_INLINE w16 w_lookup(const uint8_t *table, w16 codes)
{
    V_EACH
    {
        const uint32_t c = codes.lane[i];
        codes.lane[i] = (uint32_t)table[c & 15] | (uint32_t)table[c >> 8 & 15] << 8 |
                        (uint32_t)table[c >> 16 & 15] << 16 | (uint32_t)table[c >> 24 & 15] << 24;
    }
    return codes;
}
V_INLINE v16 w_to_float(w16 a)
{
    v16 r;
    V_EACH r.lane[i] = (float)(int32_t)a.lane[i];
    return r;
}
/* Adding 1.5 * 2^23 puts the rounding position at the units; |a| < 2^22. */
V_INLINE w16 w_from_float(v16 a)
{
    w16 r;
    V_EACH r.lane[i] = (uint32_t)(int32_t)((a.lane[i] + 0x1.8p23f) - 0x1.8p23f);
    return r;
}
V_INLINE w16 w_bits(v16 a)
{
    w16 r;
    memcpy(r.lane, a.lane, sizeof r.lane);
    return r;
}
V_INLINE v16 v_from_bits(w16 a)
{
    v16 r;
    memcpy(r.lane, a.lane, sizeof r.lane);
    return r;
}
V_INLINE void w_store_i16(int16_t *p, w16 a)
{
    V_EACH p[i] = (int16_t)a.lane[i];
}
V_INLINE w16 w_max(w16 a, w16 b)
{
    V_EACH a.lane[i] = (int32_t)a.lane[i] > (int32_t)b.lane[i] ? a.lane[i] : b.lane[i];
    return a;
}
V_INLINE int32_t w_largest(w16 a)
{
    for (int i = 1; i < 16; i++) {
        if ((int32_t)a.lane[i] > (int32_t)a.lane[0]) a.lane[0] = a.lane[i];
    }
    return (int32_t)a.lane[0];
}
V_INLINE int32_t w_sum(w16 a)
{
    for (int i = 1; i < 16; i++) {
        a.lane[0] += a.lane[i];
    }
    return (int32_t)a.lane[0];
}

#undef V_EACH
