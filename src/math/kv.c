#include "math/kv.h"

#include <string.h>

#include "base/mem.h"

ps_kv_layout ps_kv_layout_make(int n_kv_heads, int head_dim, int n_numbers)
{
    const size_t heads = (size_t)n_kv_heads, k = (size_t)head_dim;
    const size_t stride = ps_mem_round_up(k, PS_KV_TILE);
    ps_kv_layout l = {.n_kv_heads = n_kv_heads,
                      .head_dim = head_dim,
                      .n_numbers = n_numbers,
                      .value_stride = stride};
    l.value_at = heads * PS_KV_PAGE * k * sizeof(float);
    l.number_at = l.value_at + heads * PS_KV_PAGE * stride * sizeof(float);
    l.page_bytes = l.number_at + (size_t)n_numbers * PS_KV_PAGE * sizeof(float);
    return l;
}

void ps_kv_append(const ps_kv_view *view, int64_t position, const float *key, const float *value,
                  const float *numbers)
{
    const ps_kv_layout *l = view->layout;
    const size_t k = (size_t)l->head_dim, lane = (size_t)(position % PS_KV_TILE);
    for (int g = 0; g < l->n_kv_heads; g++) {
        float *tile = ps_kv_keys(view, position, g);
        for (size_t t = 0; t < k; t++) {
            tile[t * PS_KV_TILE + lane] = key[(size_t)g * k + t];
        }
        memcpy(ps_kv_value(view, position, g), value + (size_t)g * k, k * sizeof *value);
    }
    for (int n = 0; n < l->n_numbers; n++) {
        *ps_kv_number(view, position, n) = numbers[n];
    }
}
