/* v16 as one 512-bit register (AVX-512 F, VL, DQ, BW). */
#include <immintrin.h>

typedef __m512 v16;
typedef __mmask16 m16;
typedef __m512i w16;

/* Register tiles of the panel kernel: TILE_PANELS(rows) panels of 16 outputs beside each other, in groups
 * of GROUP_PANELS. With 32 registers, 24 accumulators leave room for the weights and the broadcast:
 * twelve rows of two panels, so that of weights from memory few streams are read, each line once.
 * Keys and values, which lie in a cache, take tiles of CACHE_TILE_ROWS rows and four panels: the values
 * of a position are read at once (bench_attention, 4 rows over 1024 positions: 77 and 64 GB/s). */
#define TILE_ROWS_MAX             12
#define TILE_PANELS(rows, is_f32) 2
#define GROUP_PANELS              2
#define CACHE_TILE_ROWS           6
#define CACHE_ASK_BYTES           8192
#define EVEN_TILES                1 // a small last one would wait for its weights and not for its products

/* Asks for a line. What is read once stays out of the second cache level, so that the lines which it
 * would drive out need not go to the third (a Zen 5, 1.1 B shape, tokens with two threads: q8_0 1.05,
 * q4_k, q5_k, q6_k 1.02, f16 1.025 times as fast, with one 1.00 to 1.025). */
#define ASK_FOR(once, line)                                                                        \
    ((once) ? __builtin_prefetch(line, 0, 0) : __builtin_prefetch(line, 0, 3))

/* Steps of k from what is read to what is asked for (panel_kernel.c); 0: nothing is. Several tiles ask
 * for the block of k behind theirs, one for 4096 bytes ahead, or 6144 (f16 of 6 rows 0.98 and 0.88 of
 * plain reads). */
#define ASK_STEPS(rows, is_f32)                                                                    \
    ((rows) > TILE_ROWS_MAX ? PS_PANEL_BLOCK : (is_f32) ? 64 : (rows) < 4 ? 128 : 192)

/* Loops over the units of a run are unrolled, so that shifts and masks are constants. */
#define UNROLL_UNITS _Pragma("GCC unroll 16")
#define KEEP_ROLLED  _Pragma("GCC unroll 1")
#define DIRECT_ROWS  32 // of quantised weights that unpacking does not pay for; 0: always unpacked
#define TRIT_ROWS    8  // the same of tq1_0, whose digits each four rows take out anew

/* How far quantised weights are asked for ahead, for codes of so many bits, in bytes. */
#define FETCH_DISTANCE(rows, bits, further)                                                        \
    ((rows) == 1 ? (bits) == 8 ? 4096 : 8192 : (further) ? 10240 : (rows) < 4 ? 6144 : 4096)
#define FETCH_FURTHER            (__builtin_cpu_supports("avx512vp2intersect") != 0) // a Zen 5
#define FETCH_FAR(rows, bits)    0
#define ASK_EVERY(rows, bits)    ((rows) == 1 && (bits) == 8 ? 4 : 1) // units, for a line
#define SIDE_BY_SIDE(rows, bits) 1                                    // panel that is read at once

/* Keeps what was loaded in its register. gcc would load it anew for each use, which is two accesses for
 * what crosses lines (units in steps of their own, one row from a cache, Zen 5: q5_0 1.5, q6_k 1.4 times
 * as fast). */
#define W_HOLD(value) V_KEEP_ORDER(value)

/* Tiles of rows and unpacked panels of quantised weights: the integer accumulators fill the
 * registers. Two panels of 16 bits would fill the first cache level. */
#define QUANT_ROWS 6
#ifdef __AVX512VNNI__
#define QUANT_PANELS 2
#else
#define QUANT_PANELS 1
#endif

V_INLINE v16 v_zero(void)
{
    return _mm512_setzero_ps();
}
V_INLINE v16 v_set(float a)
{
    return _mm512_set1_ps(a);
}
V_INLINE v16 v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
V_INLINE void v_store(float *p, v16 a)
{
    _mm512_storeu_ps(p, a);
}
V_INLINE v16 v_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
V_INLINE v16 v_load_bf16(const uint16_t *p)
{
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
V_INLINE v16 v_add(v16 a, v16 b)
{
    return _mm512_add_ps(a, b);
}
V_INLINE v16 v_sub(v16 a, v16 b)
{
    return _mm512_sub_ps(a, b);
}
V_INLINE v16 v_mul(v16 a, v16 b)
{
    return _mm512_mul_ps(a, b);
}
V_INLINE v16 v_div(v16 a, v16 b)
{
    return _mm512_div_ps(a, b);
}
V_INLINE v16 v_fma(v16 a, v16 b, v16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}
V_INLINE v16 v_max(v16 a, v16 b)
{
    return _mm512_max_ps(a, b);
}
V_INLINE v16 v_min(v16 a, v16 b)
{
    return _mm512_min_ps(a, b);
}
V_INLINE m16 v_less(v16 a, v16 b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
V_INLINE v16 v_blend(m16 mask, v16 when_true, v16 when_false)
{
    return _mm512_mask_blend_ps(mask, when_false, when_true);
}
/* p * 2^n for whole n in [-150, 129], in two exact-power factors so that denormals round once. */
V_INLINE v16 v_scale_by_power(v16 p, v16 n)
{
    const __m512i whole = _mm512_cvtps_epi32(n);
    const __m512i half = _mm512_srai_epi32(whole, 1);
    const __m512i rest = _mm512_sub_epi32(whole, half);
    const __m512i bias = _mm512_set1_epi32(127);
    const v16 first = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(half, bias), 23));
    const v16 second = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(rest, bias), 23));
    return v_mul(v_mul(p, first), second);
}
/* Sum over lanes by the tree l + (l+8), l + (l+4), l + (l+2), l + (l+1). */
V_INLINE float v_sum(v16 a)
{
    const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1));
    const __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(a), high);
    const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}
V_INLINE float v_largest(v16 a)
{
    return _mm512_reduce_max_ps(a);
}

/* ---- integers ---- */

V_INLINE w16 w_load(const void *p)
{
    return _mm512_loadu_si512(p);
}
V_INLINE void w_store(void *p, w16 a)
{
    _mm512_storeu_si512(p, a);
}
V_INLINE w16 w_set(int32_t a)
{
    return _mm512_set1_epi32(a);
}
V_INLINE w16 w_load_u8(const uint8_t *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}
V_INLINE w16 w_load_u16(const void *p)
{
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
}
V_INLINE w16 w_and(w16 a, w16 b)
{
    return _mm512_and_si512(a, b);
}
V_INLINE w16 w_or(w16 a, w16 b)
{
    return _mm512_or_si512(a, b);
}
V_INLINE w16 w_add(w16 a, w16 b)
{
    return _mm512_add_epi32(a, b);
}
V_INLINE w16 w_sub_pairs(w16 a, w16 b)
{
    return _mm512_sub_epi16(a, b);
}
V_INLINE w16 w_shl(w16 a, int n)
{
    return _mm512_slli_epi32(a, (unsigned)n);
}
V_INLINE w16 w_shr(w16 a, int n)
{
    return _mm512_srli_epi32(a, (unsigned)n);
}
V_INLINE w16 w_sar(w16 a, int n)
{
    return _mm512_srai_epi32(a, (unsigned)n);
}
V_INLINE w16 w_shr_pairs(w16 a, int n)
{
    return _mm512_srli_epi16(a, (uint8_t)n); // compilers differ in the type of the count
}
V_INLINE w16 w_add_bytes(w16 a, w16 b)
{
    return _mm512_add_epi8(a, b);
}
V_INLINE w16 w_above_bytes(w16 a, int limit)
{
    const w16 over = _mm512_subs_epu8(a, _mm512_set1_epi8((char)limit));
    return _mm512_min_epu8(over, _mm512_set1_epi8(1));
}
/* gcc 12 copies the sums of its own functions for these two instructions from register to register at
 * each step, and one of a tile's through memory: 0.75 of the speed (128 rows, Zen 5). */
V_INLINE w16 w_dot(w16 acc, w16 a, w16 b)
{
#ifdef __AVX512VNNI__
    __asm__("vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
    return acc;
#else
    acc = _mm512_add_epi32(acc, _mm512_madd_epi16(a, b));
    V_KEEP_ORDER(acc);
    return acc;
#endif
}
#ifdef __AVX512VNNI__
/* The processor multiplies unsigned by signed bytes, four to a lane: rounded activations as bytes
 * spare the weights' codes the way to 16 bits. */
#define ROUND_TO_BYTES 1
#define PAIR_ROWS      DIRECT_ROWS // codes in halves are pairs already: as many products, no joining
V_INLINE w16 w_dot_bytes(w16 acc, w16 a, w16 b)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
    return acc;
}
/* The lowest byte of each lane, of four lanes the inner two exchanged. */
V_INLINE void w_store_bytes(int8_t *p, w16 a)
{
    const __m128i order = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
    _mm_storeu_si128((__m128i *)(void *)p, _mm_shuffle_epi8(_mm512_cvtepi32_epi8(a), order));
}
#endif
V_INLINE w16 w_lookup(const uint8_t *table, w16 codes)
{
    const __m128i row = _mm_loadu_si128((const __m128i *)table);
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(row), codes);
}
V_INLINE v16 w_to_float(w16 a)
{
    return _mm512_cvtepi32_ps(a);
}
V_INLINE w16 w_from_float(v16 a)
{
    return _mm512_cvtps_epi32(a);
}
V_INLINE w16 w_bits(v16 a)
{
    return _mm512_castps_si512(a);
}
V_INLINE v16 v_from_bits(w16 a)
{
    return _mm512_castsi512_ps(a);
}
V_INLINE void w_store_i16(int16_t *p, w16 a)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(a));
}
V_INLINE w16 w_max(w16 a, w16 b)
{
    return _mm512_max_epi32(a, b);
}
V_INLINE int32_t w_largest(w16 a)
{
    return _mm512_reduce_max_epi32(a);
}
V_INLINE int32_t w_sum(w16 a)
{
    return _mm512_reduce_add_epi32(a);
}
