/* Pages of cached keys and values, as attention reads them.
 *
 * A page holds 256 consecutive positions, a segment of attention, of one layer of one sequence:
 *
 *   [kv heads]
 *     keys     [4 tiles]             a tile: 64 keys, a lane is a key
 *     values   [256] rows
 *   numbers    [n_numbers][256] f32  what bias providers keep for each key
 *
 * So a decode step reads a page from its beginning to its end, as one stream. Tiles of 16 keys
 * that are read beside each other, in pages of 64 positions with all keys before all values, took 1.6
 * times as long outside of the caches: the processor follows a stream only some KB after it began.
 *
 * Keys and values are stored as f32, f16, bf16, q8_0 or q4_0, each in its own type:
 *
 *             tile of keys                          row of values
 *   floats    [K][64]                               [value_stride], K rounded up to 16
 *   q8_0      codes u8 [K][64], scales [B][64]      codes u8 [value_stride], scales [B]
 *   q4_0      codes u8 [K/2][64], scales [B][64]    codes u8 [K/2 rounded up to 16], scales [B]
 *
 * B = ceil(K/32) blocks of 32 dimensions of one key or value (of K where K < 32); scales are f16.
 * The blocks are those of ps_dtype_narrow, the last one filled up with zeros: q8_0 means (code - 128)
 * scale, q4_0 (code - 8) scale; in keys a byte holds dimensions t (low) and t + 1, t even, in
 * values the dimensions t and t + 16 of a block.
 *
 * A sequence's layer is a table of pages: the first n_fixed hold the first positions for ever, the
 * others are a ring: position p lies in page n_fixed + (p/256 - n_fixed) mod (n_pages - n_fixed).
 * What lies in slots that hold no visible position is never multiplied.
 *
 * MPI: local.
 */
#ifndef PS_MATH_KV_H
#define PS_MATH_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "math/dtype.h"

enum { PS_KV_PAGE = 256, PS_KV_TILE = 64, PS_KV_BLOCK = 32 };

/* Types of what is stored; {0} is f32 for both. */
typedef struct ps_kv_types {
    ps_dtype key, value;
} ps_kv_types;

typedef struct ps_kv_layout {
    int n_kv_heads, head_dim, n_numbers;
    ps_kv_types types;
    size_t value_stride;          // values of a widened row: head_dim rounded up to 16
    size_t tile_bytes, row_bytes; // of 64 keys, of one value
    size_t value_at, head_bytes; // byte offset of a head's values behind its keys; of the next head
    size_t number_at, page_bytes; // byte offset of the numbers; size of a page
} ps_kv_layout;

/* Whether keys or values can be stored so: f32, f16, bf16, q8_0, q4_0. */
bool ps_kv_can_store(ps_dtype type);

/* Shapes come from a checked spec (model/spec.h), so nothing here can overflow. */
ps_kv_layout ps_kv_layout_make(int n_kv_heads, int head_dim, int n_numbers, ps_kv_types types);

typedef struct ps_kv_view {
    const ps_kv_layout *layout;
    char *const *pages; // [n_pages], borrowed
    int n_pages, n_fixed;
} ps_kv_view;

/* Index in a table of n_pages, the first n_fixed fixed, of the page that holds a position. */
static inline int64_t ps_kv_page_index(int64_t page, int n_pages, int n_fixed)
{
    return page < n_fixed ? page : n_fixed + (page - n_fixed) % (n_pages - n_fixed);
}

static inline char *ps_kv_page(const ps_kv_view *view, int64_t position)
{
    return view->pages[ps_kv_page_index(position / PS_KV_PAGE, view->n_pages, view->n_fixed)];
}

/* The tile of keys in which a position lies, and its row of values. */
static inline char *ps_kv_keys(const ps_kv_view *view, int64_t position, int kv_head)
{
    const ps_kv_layout *l = view->layout;
    const size_t tile = (size_t)(position % PS_KV_PAGE) / PS_KV_TILE;
    return ps_kv_page(view, position) + (size_t)kv_head * l->head_bytes + tile * l->tile_bytes;
}

static inline char *ps_kv_value(const ps_kv_view *view, int64_t position, int kv_head)
{
    const ps_kv_layout *l = view->layout;
    const size_t row = (size_t)(position % PS_KV_PAGE);
    return ps_kv_page(view, position) + (size_t)kv_head * l->head_bytes + l->value_at +
           row * l->row_bytes;
}

static inline float *ps_kv_number(const ps_kv_view *view, int64_t position, int number)
{
    const ps_kv_layout *l = view->layout;
    return (float *)(void *)(ps_kv_page(view, position) + l->number_at) +
           (size_t)number * PS_KV_PAGE + (size_t)(position % PS_KV_PAGE);
}

/* Writes one position: key and value [kv heads][K], numbers [n_numbers]. False when a finite number
 * does not fit the type (f16: more than 65504 in magnitude; q8_0, q4_0: a scale beyond that); an
 * infinity is stored then. */
bool ps_kv_append(const ps_kv_view *view, int64_t position, const float *key, const float *value,
                  const float *numbers);

/* One position as it is stored: every head's key, then every head's value, then the numbers,
 * without padding. Equal bytes mean equal keys and values; written into another slot they give the
 * same attention. `bytes`: [ps_kv_position_bytes]. */
size_t ps_kv_position_bytes(const ps_kv_layout *layout);
void ps_kv_read_position(const ps_kv_view *view, int64_t position, uint8_t *bytes);
void ps_kv_write_position(const ps_kv_view *view, int64_t position, const uint8_t *bytes);

/* Bytes of keys and values that attention reads for one position. */
size_t ps_kv_read_bytes(const ps_kv_layout *layout);

#endif
