#include "math/attention_parts.h"

#include "math/panel.h"

/* n tiles of keys from `position` on, all in one page, as a panel product reads them. */
static const void *keys_of(const ps_attention_scores_job *job, int64_t position, int n_tiles,
                           ps_dtype *type)
{
    const ps_kv_layout *layout = job->view->layout;
    const char *tiles = ps_kv_keys(job->view, position, job->kv_head);
    *type = layout->types.key;
    if (!ps_dtype_is_quantised(*type)) return tiles;
    const size_t tile_floats = (size_t)layout->head_dim * PS_KV_TILE;
    for (int t = 0; t < n_tiles; t++) {
        job->kernels->kv_widen_keys(*type, tiles + (size_t)t * layout->tile_bytes, layout->head_dim,
                                    job->widened + (size_t)t * tile_floats);
    }
    *type = PS_F32;
    return job->widened;
}

void ps_attention_scores(const ps_attention_scores_job *job)
{
    const size_t k = (size_t)job->view->layout->head_dim;
    int j = job->first / PS_KV_TILE * PS_KV_TILE;
    while (j < job->last) {
        const int page_end = (j / PS_KV_PAGE + 1) * PS_KV_PAGE;
        const int panels = ps_panel_count((page_end < job->last ? page_end : job->last) - j);
        ps_dtype type;
        const void *tiles = keys_of(job, job->start + j, panels, &type);
        const ps_panel_job product = {
            .dtype = type,
            .rows = job->rows,
            .panels = panels,
            .k = (int)k,
            .weights = tiles,
            .k_stride = PS_KV_TILE,
            .panel_stride = k * PS_KV_TILE,
            .x = job->q,
            .x_stride = k,
            .out = job->z + j,
            .out_stride = PS_SEGMENT,
        };
        job->kernels->panel_product(&product);
        j = page_end;
    }
}

void ps_attention_find_numbers(const ps_kv_view *view, int number, ps_bias_tile *tile)
{
    for (int j = tile->first; j < tile->last; j = (j / PS_KV_PAGE + 1) * PS_KV_PAGE) {
        const int64_t page_start = tile->start + j / PS_KV_PAGE * PS_KV_PAGE;
        tile->numbers[j / PS_KV_PAGE] = ps_kv_number(view, page_start, number);
    }
}
