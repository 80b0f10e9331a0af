/* Pages of cached keys and values, as attention reads them.
 *
 * A page holds 64 consecutive positions of one layer of one sequence:
 *
 *   keys     [kv heads][4 tiles][K][16]       like weight panels: a lane is a key
 *   values   [kv heads][64][value_stride]     rows; value_stride = K rounded up to 16
 *   numbers  [n_numbers][64]                  what bias providers keep for each key
 *
 * all f32. A sequence's layer is a cyclic table of pages: position p lies in page (p / 64) mod
 * n_pages. A ring (window layers) is the same table with few pages. What lies in slots that hold no
 * visible position is never multiplied.
 *
 * MPI: local.
 */
#ifndef PS_MATH_KV_H
#define PS_MATH_KV_H

#include <stddef.h>
#include <stdint.h>

enum { PS_KV_PAGE = 64, PS_KV_TILE = 16 };

typedef struct ps_kv_layout {
    int n_kv_heads, head_dim, n_numbers;
    size_t value_stride;                    // floats between two positions' values of a head
    size_t value_at, number_at, page_bytes; // byte offsets of values and numbers; size of a page
} ps_kv_layout;

/* Shapes come from a checked spec (model/spec.h), so nothing here can overflow. */
ps_kv_layout ps_kv_layout_make(int n_kv_heads, int head_dim, int n_numbers);

typedef struct ps_kv_view {
    const ps_kv_layout *layout;
    char *const *pages; // [n_pages], borrowed
    int n_pages;
} ps_kv_view;

static inline char *ps_kv_page(const ps_kv_view *view, int64_t position)
{
    return view->pages[(position / PS_KV_PAGE) % view->n_pages];
}

static inline float *ps_kv_keys(const ps_kv_view *view, int64_t position, int kv_head)
{
    const int tile = (int)(position % PS_KV_PAGE) / PS_KV_TILE;
    const size_t k = (size_t)view->layout->head_dim;
    const size_t at = (size_t)(kv_head * (PS_KV_PAGE / PS_KV_TILE) + tile) * k * PS_KV_TILE;
    return (float *)(void *)ps_kv_page(view, position) + at;
}

static inline float *ps_kv_value(const ps_kv_view *view, int64_t position, int kv_head)
{
    const ps_kv_layout *l = view->layout;
    const size_t row = (size_t)kv_head * PS_KV_PAGE + (size_t)(position % PS_KV_PAGE);
    return (float *)(void *)(ps_kv_page(view, position) + l->value_at) + row * l->value_stride;
}

static inline float *ps_kv_number(const ps_kv_view *view, int64_t position, int number)
{
    const ps_kv_layout *l = view->layout;
    return (float *)(void *)(ps_kv_page(view, position) + l->number_at) +
           (size_t)number * PS_KV_PAGE + (size_t)(position % PS_KV_PAGE);
}

/* Writes one position: key and value [kv heads][K], numbers [n_numbers]. */
void ps_kv_append(const ps_kv_view *view, int64_t position, const float *key, const float *value,
                  const float *numbers);

#endif
