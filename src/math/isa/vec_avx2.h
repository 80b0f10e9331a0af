/* v16 as two 256-bit registers (AVX2, FMA, F16C). */
#include <immintrin.h>

typedef struct v16 {
    __m256 low, high;
} v16;
typedef struct m16 {
    __m256 low, high;
} m16;
typedef struct w16 {
    __m256i low, high;
} w16;

/* Register tiles of the panel kernel, for 16 registers: a panel takes two accumulators a row, and
 * weights of 16 bits two more, so that two panels of them do not fit beside three rows. Tiles are
 * as large as they can be: of 8 rows, six with the weights from memory and two with them from a
 * cache are 1.07 to 1.29 times as fast on a Zen 3 as four and four. */
#define TILE_ROWS_MAX 6
#define TILE_PANELS(rows, is_f32)                                                                  \
    ((rows) == 1 ? 4 : (rows) == 2 || ((rows) == 3 && (is_f32)) ? 2 : 1)
#define GROUP_PANELS    4
#define CACHE_TILE_ROWS 0 // keys and values take the same tiles
#define CACHE_ASK_BYTES 8192
#define EVEN_TILES      0

/* Steps of k from what is read to what is asked for (panel_kernel.c); 0: nothing is. 32 lines ahead, for
 * four rows of f32, whose lines pass twice as fast, 16. Of plain reads, f16 of 4 rows on a thread of a
 * Zen 3, 0.76, 0.56 without, and 0.47 if two lines are asked for at once, which is why tiles of two
 * panels do without; f32 of 4 rows 0.87, with 32 lines 0.81, of 6 rows 0.98 of that speed. */
#define ASK_STEPS(rows, is_f32)                                                                    \
    (TILE_PANELS(rows, is_f32) > 1 ? 0 : !(is_f32) ? 64 : (rows) <= 4 ? 16 : 32)

#define ASK_FOR(once, line) ((void)(once), __builtin_prefetch(line, 0, 3))

/* Loops over the units of a run are unrolled, so that shifts and masks are constants. */
#define UNROLL_UNITS _Pragma("GCC unroll 16")
#define KEEP_ROLLED  _Pragma("GCC unroll 1")
#define DIRECT_ROWS  16 // of quantised weights that unpacking does not pay for; 0: always unpacked
#define TRIT_ROWS    4  // the same of tq1_0, whose digits each four rows take out anew

/* How far quantised weights are asked for ahead, in bytes; where FETCH_FAR is not 0, so far and into
 * the second cache level, for codes of so many bits. */
#define FETCH_DISTANCE(rows, bits, further) ((rows) == 1 ? 1024 : 4096)
#define FETCH_FURTHER                       0
#define FETCH_FAR(rows, bits)               ((rows) == 1 && (bits) < 8 ? 4096 : 0)
#define ASK_EVERY(rows, bits)               1 // unit, for a line

/* Panels that are read at once. There is little work on bytes, and one panel's numbers for the
 * other from registers: q8_0 from memory, Zen 3, of plain reads: two at once 0.97 to 1.0, one 0.87;
 * two threads 0.96, 0.90. Narrower codes take longer so (from memory 1.1 to 1.4 times). */
#define SIDE_BY_SIDE(rows, bits) ((rows) == 1 && (bits) == 8 ? 2 : 1)

/* Tiles of rows and unpacked panels of quantised weights: the integer accumulators fill the
 * registers. */
#define QUANT_ROWS   4
#define QUANT_PANELS 1

V_INLINE v16 v_zero(void)
{
    return (v16){_mm256_setzero_ps(), _mm256_setzero_ps()};
}
V_INLINE v16 v_set(float a)
{
    return (v16){_mm256_set1_ps(a), _mm256_set1_ps(a)};
}
V_INLINE v16 v_load(const float *p)
{
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
V_INLINE void v_store(float *p, v16 a)
{
    _mm256_storeu_ps(p, a.low);
    _mm256_storeu_ps(p + 8, a.high);
}
V_INLINE v16 v_load_f16(const uint16_t *p)
{
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}
V_INLINE __m256 v_widen_bf16_(const uint16_t *p)
{
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
V_INLINE v16 v_load_bf16(const uint16_t *p)
{
    return (v16){v_widen_bf16_(p), v_widen_bf16_(p + 8)};
}
V_INLINE v16 v_add(v16 a, v16 b)
{
    return (v16){_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
V_INLINE v16 v_sub(v16 a, v16 b)
{
    return (v16){_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
V_INLINE v16 v_mul(v16 a, v16 b)
{
    return (v16){_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
V_INLINE v16 v_div(v16 a, v16 b)
{
    return (v16){_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}
V_INLINE v16 v_fma(v16 a, v16 b, v16 c)
{
    return (v16){_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
V_INLINE v16 v_max(v16 a, v16 b)
{
    return (v16){_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
V_INLINE v16 v_min(v16 a, v16 b)
{
    return (v16){_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
V_INLINE m16 v_less(v16 a, v16 b)
{
    return (m16){_mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ),
                 _mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ)};
}
V_INLINE v16 v_blend(m16 mask, v16 when_true, v16 when_false)
{
    return (v16){_mm256_blendv_ps(when_false.low, when_true.low, mask.low),
                 _mm256_blendv_ps(when_false.high, when_true.high, mask.high)};
}
V_INLINE __m256 v_scale_half_(__m256 p, __m256 n)
{
    const __m256i whole = _mm256_cvtps_epi32(n);
    const __m256i half = _mm256_srai_epi32(whole, 1);
    const __m256i rest = _mm256_sub_epi32(whole, half);
    const __m256i bias = _mm256_set1_epi32(127);
    const __m256 first = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    const __m256 second = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(p, first), second);
}
/* p * 2^n for whole n in [-150, 129], in two exact-power factors so that denormals round once. */
V_INLINE v16 v_scale_by_power(v16 p, v16 n)
{
    return (v16){v_scale_half_(p.low, n.low), v_scale_half_(p.high, n.high)};
}
/* Sum over lanes by the tree l + (l+8), l + (l+4), l + (l+2), l + (l+1). */
V_INLINE float v_sum(v16 a)
{
    const __m256 s8 = _mm256_add_ps(a.low, a.high);
    const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}
V_INLINE float v_largest(v16 a)
{
    const __m256 m8 = _mm256_max_ps(a.low, a.high);
    const __m128 m4 = _mm_max_ps(_mm256_castps256_ps128(m8), _mm256_extractf128_ps(m8, 1));
    const __m128 m2 = _mm_max_ps(m4, _mm_movehl_ps(m4, m4));
    return _mm_cvtss_f32(_mm_max_ss(m2, _mm_shuffle_ps(m2, m2, 1)));
}

/* ---- integers ---- */

V_INLINE w16 w_load(const void *p)
{
    const __m256i *halves = p;
    return (w16){_mm256_loadu_si256(halves), _mm256_loadu_si256(halves + 1)};
}
V_INLINE void w_store(void *p, w16 a)
{
    __m256i *halves = p;
    _mm256_storeu_si256(halves, a.low);
    _mm256_storeu_si256(halves + 1, a.high);
}
V_INLINE w16 w_set(int32_t a)
{
    return (w16){_mm256_set1_epi32(a), _mm256_set1_epi32(a)};
}
V_INLINE w16 w_load_u8(const uint8_t *p)
{
    const __m128i bytes = _mm_loadu_si128((const __m128i *)p);
    return (w16){_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))};
}
V_INLINE w16 w_load_u16(const void *p)
{
    const __m128i *halves = p;
    return (w16){_mm256_cvtepu16_epi32(_mm_loadu_si128(halves)),
                 _mm256_cvtepu16_epi32(_mm_loadu_si128(halves + 1))};
}
V_INLINE w16 w_and(w16 a, w16 b)
{
    return (w16){_mm256_and_si256(a.low, b.low), _mm256_and_si256(a.high, b.high)};
}
V_INLINE w16 w_or(w16 a, w16 b)
{
    return (w16){_mm256_or_si256(a.low, b.low), _mm256_or_si256(a.high, b.high)};
}
V_INLINE w16 w_add(w16 a, w16 b)
{
    return (w16){_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}
V_INLINE w16 w_sub_pairs(w16 a, w16 b)
{
    return (w16){_mm256_sub_epi16(a.low, b.low), _mm256_sub_epi16(a.high, b.high)};
}
V_INLINE w16 w_shl(w16 a, int n)
{
    return (w16){_mm256_slli_epi32(a.low, n), _mm256_slli_epi32(a.high, n)};
}
V_INLINE w16 w_shr(w16 a, int n)
{
    return (w16){_mm256_srli_epi32(a.low, n), _mm256_srli_epi32(a.high, n)};
}
V_INLINE w16 w_sar(w16 a, int n)
{
    return (w16){_mm256_srai_epi32(a.low, n), _mm256_srai_epi32(a.high, n)};
}
V_INLINE w16 w_shr_pairs(w16 a, int n)
{
    return (w16){_mm256_srli_epi16(a.low, n), _mm256_srli_epi16(a.high, n)};
}
V_INLINE w16 w_add_bytes(w16 a, w16 b)
{
    return (w16){_mm256_add_epi8(a.low, b.low), _mm256_add_epi8(a.high, b.high)};
}
V_INLINE __m256i w_above_bytes_(__m256i a, int limit)
{
    const __m256i over = _mm256_subs_epu8(a, _mm256_set1_epi8((char)limit));
    return _mm256_min_epu8(over, _mm256_set1_epi8(1));
}
V_INLINE w16 w_above_bytes(w16 a, int limit)
{
    return (w16){w_above_bytes_(a.low, limit), w_above_bytes_(a.high, limit)};
}
V_INLINE w16 w_dot(w16 acc, w16 a, w16 b)
{
    acc.low = _mm256_add_epi32(acc.low, _mm256_madd_epi16(a.low, b.low));
    acc.high = _mm256_add_epi32(acc.high, _mm256_madd_epi16(a.high, b.high));
    V_KEEP_ORDER(acc.low);
    V_KEEP_ORDER(acc.high);
    return acc;
}
V_INLINE w16 w_lookup(const uint8_t *table, w16 codes)
{
    const __m256i rows = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
    return (w16){_mm256_shuffle_epi8(rows, codes.low), _mm256_shuffle_epi8(rows, codes.high)};
}
V_INLINE v16 w_to_float(w16 a)
{
    return (v16){_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)};
}
V_INLINE w16 w_from_float(v16 a)
{
    return (w16){_mm256_cvtps_epi32(a.low), _mm256_cvtps_epi32(a.high)};
}
V_INLINE w16 w_bits(v16 a)
{
    return (w16){_mm256_castps_si256(a.low), _mm256_castps_si256(a.high)};
}
V_INLINE v16 v_from_bits(w16 a)
{
    return (v16){_mm256_castsi256_ps(a.low), _mm256_castsi256_ps(a.high)};
}
V_INLINE void w_store_i16(int16_t *p, w16 a)
{
    // Packing works within 128 bits, so the middle quarters change places.
    const __m256i packed = _mm256_packs_epi32(a.low, a.high);
    _mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(packed, 0xD8));
}
V_INLINE w16 w_max(w16 a, w16 b)
{
    return (w16){_mm256_max_epi32(a.low, b.low), _mm256_max_epi32(a.high, b.high)};
}
V_INLINE int32_t w_largest(w16 a)
{
    const __m256i m8 = _mm256_max_epi32(a.low, a.high);
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(m8), _mm256_extracti128_si256(m8, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4E));
    return _mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xB1)));
}
V_INLINE int32_t w_sum(w16 a)
{
    const __m256i s8 = _mm256_add_epi32(a.low, a.high);
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(s8), _mm256_extracti128_si256(s8, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1)));
}
