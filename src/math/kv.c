#include "math/kv.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "math/half.h"
#include "math/panel.h"

bool ps_kv_can_store(ps_dtype type)
{
    return type == PS_F32 || type == PS_F16 || type == PS_BF16 || type == PS_Q8_0 ||
           type == PS_Q4_0;
}

static size_t blocks_of(size_t k)
{
    return (k + PS_KV_BLOCK - 1) / PS_KV_BLOCK;
}

/* Bytes of a tile of keys. */
static size_t tile_bytes(ps_dtype type, size_t k)
{
    switch (type) {
    case PS_F32:
        return k * PS_KV_TILE * sizeof(float);
    case PS_F16:
    case PS_BF16:
        return k * PS_KV_TILE * sizeof(uint16_t);
    case PS_Q8_0:
        return (k + blocks_of(k) * sizeof(uint16_t)) * PS_KV_TILE;
    default:
        return ((k + 1) / 2 + blocks_of(k) * sizeof(uint16_t)) * PS_KV_TILE;
    }
}

/* Bytes of a row of values. */
static size_t row_bytes(ps_dtype type, size_t k)
{
    const size_t stride = ps_mem_round_up(k, PS_PANEL_LANES);
    switch (type) {
    case PS_F32:
        return stride * sizeof(float);
    case PS_F16:
    case PS_BF16:
        return stride * sizeof(uint16_t);
    case PS_Q8_0:
        return stride + blocks_of(k) * sizeof(uint16_t);
    default:
        return blocks_of(k) * (PS_KV_BLOCK / 2 + sizeof(uint16_t));
    }
}

ps_kv_layout ps_kv_layout_make(int n_kv_heads, int head_dim, int n_numbers, ps_kv_types types)
{
    assert(ps_kv_can_store(types.key) && ps_kv_can_store(types.value));
    const size_t heads = (size_t)n_kv_heads, k = (size_t)head_dim;
    ps_kv_layout l = {.n_kv_heads = n_kv_heads,
                      .head_dim = head_dim,
                      .n_numbers = n_numbers,
                      .types = types,
                      .value_stride = ps_mem_round_up(k, PS_PANEL_LANES),
                      .tile_bytes = tile_bytes(types.key, k),
                      .row_bytes = row_bytes(types.value, k)};
    l.value_at = ps_mem_round_up(PS_KV_PAGE / PS_KV_TILE * l.tile_bytes, PS_MEM_ALIGN);
    l.head_bytes = ps_mem_round_up(l.value_at + PS_KV_PAGE * l.row_bytes, PS_MEM_ALIGN);
    l.number_at = heads * l.head_bytes;
    l.page_bytes = l.number_at + (size_t)n_numbers * PS_KV_PAGE * sizeof(float);
    return l;
}

/* ---- one head's key or value as codes, whatever the type ---- */

/* Codes of n <= 32 values of a quantised block, as ps_dtype_narrow has them; returns the scale. */
static uint16_t encode_block(ps_dtype type, const float *x, size_t n, uint8_t *codes)
{
    float padded[PS_KV_BLOCK] = {0};
    uint8_t block[sizeof(uint16_t) + PS_KV_BLOCK];
    uint16_t scale;
    for (size_t i = 0; i < n; i++) {
        padded[i] = isfinite(x[i]) ? x[i] : 0.0f;
    }
    ps_dtype_narrow(type, padded, PS_KV_BLOCK, block);
    memcpy(&scale, block, sizeof scale);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *code = block + sizeof scale;
        const size_t half = PS_KV_BLOCK / 2;
        codes[i] = type == PS_Q8_0 ? (uint8_t)(code[i] ^ 0x80)
                   : i < half      ? code[i] & 0x0F
                                   : (uint8_t)(code[i - half] >> 4);
        if (!isfinite(x[i])) scale = 0x7E00; // NaN, which will show in the logits
    }
    return scale;
}

static bool is_infinite(uint16_t half)
{
    return (half & 0x7FFF) == 0x7C00;
}

/* Value i of a tile's lane or of a row, `step` values apart. */
static bool put_floats(ps_dtype type, const float *x, size_t k, void *to, size_t step)
{
    bool fits = true;
    uint16_t *halves = to;
    float *floats = to;
    for (size_t t = 0; t < k; t++) {
        switch (type) {
        case PS_F16:
            halves[t * step] = ps_half_narrow(x[t]);
            fits = fits && !(is_infinite(halves[t * step]) && isfinite(x[t]));
            break;
        case PS_BF16:
            ps_dtype_narrow(PS_BF16, &x[t], 1, &halves[t * step]);
            break;
        default:
            floats[t * step] = x[t];
        }
    }
    return fits;
}

static void set_nibble(uint8_t *byte, bool high, uint8_t code)
{
    *byte = (uint8_t)(high ? (*byte & 0x0F) | code << 4 : (*byte & 0xF0) | code);
}

static uint8_t get_nibble(uint8_t byte, bool high)
{
    return high ? byte >> 4 : byte & 0x0F;
}

/* Where code t of a lane of a q4_0 tile, or of a q4_0 row, lies. */
static size_t tile_byte(size_t t, size_t lane)
{
    return t / 2 * PS_KV_TILE + lane;
}

static size_t row_byte(size_t t)
{
    return t / PS_KV_BLOCK * (PS_KV_BLOCK / 2) + t % (PS_KV_BLOCK / 2);
}

static bool row_is_high(size_t t)
{
    return t % PS_KV_BLOCK >= PS_KV_BLOCK / 2;
}

/* Code t of a lane of a tile of keys, or of a row of values (lane < 0). */
static void put_code(ps_dtype type, uint8_t *to, int lane, size_t t, uint8_t code)
{
    if (type == PS_Q8_0) {
        to[lane < 0 ? t : t * PS_KV_TILE + (size_t)lane] = code;
    } else if (lane < 0) {
        set_nibble(&to[row_byte(t)], row_is_high(t), code);
    } else {
        set_nibble(&to[tile_byte(t, (size_t)lane)], t % 2 == 1, code);
    }
}

static uint8_t get_code(ps_dtype type, const uint8_t *from, int lane, size_t t)
{
    if (type == PS_Q8_0) return from[lane < 0 ? t : t * PS_KV_TILE + (size_t)lane];
    if (lane < 0) return get_nibble(from[row_byte(t)], row_is_high(t));
    return get_nibble(from[tile_byte(t, (size_t)lane)], t % 2 == 1);
}

/* The scale of block b. Scales stand behind the codes, and need not be aligned. */
static uint8_t *scale_at(ps_dtype type, size_t k, uint8_t *base, int lane, size_t b)
{
    size_t codes;
    if (type == PS_Q8_0) {
        codes = lane < 0 ? ps_mem_round_up(k, PS_PANEL_LANES) : k * PS_KV_TILE;
    } else {
        codes = lane < 0 ? blocks_of(k) * (PS_KV_BLOCK / 2) : (k + 1) / 2 * PS_KV_TILE;
    }
    const size_t at = lane < 0 ? b : b * PS_KV_TILE + (size_t)lane;
    return base + codes + at * sizeof(uint16_t);
}

static bool put_blocks(ps_dtype type, const float *x, size_t k, void *to, int lane)
{
    bool fits = true;
    for (size_t b = 0; b < blocks_of(k); b++) {
        const size_t first = b * PS_KV_BLOCK;
        const size_t n = k - first < PS_KV_BLOCK ? k - first : PS_KV_BLOCK;
        uint8_t codes[PS_KV_BLOCK];
        const uint16_t scale = encode_block(type, x + first, n, codes);
        fits = fits && !is_infinite(scale);
        memcpy(scale_at(type, k, to, lane, b), &scale, sizeof scale);
        for (size_t i = 0; i < n; i++) {
            put_code(type, to, lane, first + i, codes[i]);
        }
    }
    return fits;
}

static size_t float_bytes(ps_dtype type)
{
    return type == PS_F32 ? sizeof(float) : sizeof(uint16_t);
}

static bool put_key(const ps_kv_layout *l, const float *x, char *tile, int lane)
{
    const size_t k = (size_t)l->head_dim;
    if (ps_dtype_is_quantised(l->types.key)) return put_blocks(l->types.key, x, k, tile, lane);
    return put_floats(l->types.key, x, k, tile + (size_t)lane * float_bytes(l->types.key),
                      PS_KV_TILE);
}

static bool put_value(const ps_kv_layout *l, const float *x, char *row)
{
    const size_t k = (size_t)l->head_dim;
    if (ps_dtype_is_quantised(l->types.value)) return put_blocks(l->types.value, x, k, row, -1);
    return put_floats(l->types.value, x, k, row, 1);
}

bool ps_kv_append(const ps_kv_view *view, int64_t position, const float *key, const float *value,
                  const float *numbers)
{
    const ps_kv_layout *l = view->layout;
    const size_t k = (size_t)l->head_dim;
    const int lane = (int)(position % PS_KV_TILE);
    bool fits = true;
    for (int g = 0; g < l->n_kv_heads; g++) {
        fits = put_key(l, key + (size_t)g * k, ps_kv_keys(view, position, g), lane) && fits;
        fits = put_value(l, value + (size_t)g * k, ps_kv_value(view, position, g)) && fits;
    }
    for (int n = 0; n < l->n_numbers; n++) {
        *ps_kv_number(view, position, n) = numbers[n];
    }
    return fits;
}

/* ---- positions as bytes ---- */

/* Bytes of one head's key or value: floats, or a byte a code and the scales. */
static size_t packed_bytes(ps_dtype type, size_t k)
{
    if (!ps_dtype_is_quantised(type)) return k * float_bytes(type);
    const size_t codes = type == PS_Q8_0 ? k : (k + 1) / 2;
    return codes + blocks_of(k) * sizeof(uint16_t);
}

size_t ps_kv_position_bytes(const ps_kv_layout *l)
{
    const size_t k = (size_t)l->head_dim;
    const size_t head = packed_bytes(l->types.key, k) + packed_bytes(l->types.value, k);
    return (size_t)l->n_kv_heads * head + (size_t)l->n_numbers * sizeof(float);
}

size_t ps_kv_read_bytes(const ps_kv_layout *l)
{
    const size_t k = (size_t)l->head_dim;
    return (size_t)l->n_kv_heads *
           (packed_bytes(l->types.key, k) + packed_bytes(l->types.value, k));
}

/* Between a lane of a tile (a row: lane < 0) and packed bytes; to_bytes tells which way. */
static void move_floats(ps_dtype type, size_t k, char *stored, int lane, uint8_t *bytes,
                        bool to_bytes)
{
    const size_t n = float_bytes(type), step = lane < 0 ? 1 : PS_KV_TILE;
    char *at = stored + (lane < 0 ? 0 : (size_t)lane * n);
    for (size_t t = 0; t < k; t++) {
        if (to_bytes) {
            memcpy(bytes + t * n, at + t * step * n, n);
        } else {
            memcpy(at + t * step * n, bytes + t * n, n);
        }
    }
}

static void move_blocks(ps_dtype type, size_t k, char *stored, int lane, uint8_t *bytes,
                        bool to_bytes)
{
    uint8_t *base = (uint8_t *)stored;
    const size_t codes = type == PS_Q8_0 ? k : (k + 1) / 2;
    if (to_bytes) memset(bytes, 0, codes);
    for (size_t t = 0; t < k; t++) {
        uint8_t *byte = bytes + (type == PS_Q8_0 ? t : t / 2);
        const bool high = t % 2 == 1;
        if (type == PS_Q8_0 && to_bytes) *byte = get_code(type, base, lane, t);
        if (type == PS_Q8_0 && !to_bytes) put_code(type, base, lane, t, *byte);
        if (type == PS_Q4_0 && to_bytes) set_nibble(byte, high, get_code(type, base, lane, t));
        if (type == PS_Q4_0 && !to_bytes) put_code(type, base, lane, t, get_nibble(*byte, high));
    }
    for (size_t b = 0; b < blocks_of(k); b++) {
        uint8_t *scale = scale_at(type, k, base, lane, b);
        uint8_t *packed = bytes + codes + b * sizeof(uint16_t);
        memcpy(to_bytes ? packed : scale, to_bytes ? scale : packed, sizeof(uint16_t));
    }
}

static void move(ps_dtype type, size_t k, char *stored, int lane, uint8_t *bytes, bool to_bytes)
{
    if (ps_dtype_is_quantised(type)) {
        move_blocks(type, k, stored, lane, bytes, to_bytes);
    } else {
        move_floats(type, k, stored, lane, bytes, to_bytes);
    }
}

static void move_position(const ps_kv_view *view, int64_t position, uint8_t *bytes, bool to_bytes)
{
    const ps_kv_layout *l = view->layout;
    const size_t k = (size_t)l->head_dim;
    const int lane = (int)(position % PS_KV_TILE);
    for (int g = 0; g < l->n_kv_heads; g++) {
        move(l->types.key, k, ps_kv_keys(view, position, g), lane, bytes, to_bytes);
        bytes += packed_bytes(l->types.key, k);
    }
    for (int g = 0; g < l->n_kv_heads; g++) {
        move(l->types.value, k, ps_kv_value(view, position, g), -1, bytes, to_bytes);
        bytes += packed_bytes(l->types.value, k);
    }
    for (int n = 0; n < l->n_numbers; n++) {
        float *number = ps_kv_number(view, position, n);
        if (to_bytes) {
            memcpy(bytes, number, sizeof *number);
        } else {
            memcpy(number, bytes, sizeof *number);
        }
        bytes += sizeof *number;
    }
}

void ps_kv_read_position(const ps_kv_view *view, int64_t position, uint8_t *bytes)
{
    move_position(view, position, bytes, true);
}

void ps_kv_write_position(const ps_kv_view *view, int64_t position, const uint8_t *bytes)
{
    move_position(view, position, (uint8_t *)(uintptr_t)bytes, false);
}
