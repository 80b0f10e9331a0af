#include "math/attention_parts.h"

#include "math/panel.h"

/* The tile of keys that begins at `position`, widened if it is quantised. */
static const void *tile_of(const ps_attention_scores_job *job, int64_t position, ps_dtype *type)
{
    const ps_kv_layout *layout = job->view->layout;
    const char *tile = ps_kv_keys(job->view, position, job->kv_head);
    *type = layout->types.key;
    if (!ps_dtype_is_quantised(*type)) return tile;
    job->kernels->kv_widen_keys(*type, tile, layout->head_dim, job->widened);
    *type = PS_F32;
    return job->widened;
}

void ps_attention_scores(const ps_attention_scores_job *job)
{
    const size_t k = (size_t)job->view->layout->head_dim;
    int j = job->first / PS_PANEL_LANES * PS_PANEL_LANES;
    while (j < job->last) {
        const int begin = j / PS_KV_TILE * PS_KV_TILE, end = begin + PS_KV_TILE;
        ps_dtype type;
        const char *tile = tile_of(job, job->start + begin, &type);
        const size_t value_bytes = type == PS_F32 ? sizeof(float) : sizeof(uint16_t);
        const ps_panel_job product = {
            .dtype = type,
            .near = tile == (const char *)job->widened,
            .rows = job->rows,
            .panels = ps_panel_count((end < job->last ? end : job->last) - j),
            .k = (int)k,
            .weights = tile + (size_t)(j - begin) * value_bytes,
            .k_stride = PS_KV_TILE,
            .panel_stride = PS_PANEL_LANES,
            .x = job->q,
            .x_stride = k,
            .out = job->z + j,
            .out_stride = PS_SEGMENT,
        };
        job->kernels->panel_product(&product);
        j = end;
    }
}

void ps_attention_find_numbers(const ps_kv_view *view, int number, ps_bias_tile *tile)
{
    tile->numbers = ps_kv_number(view, tile->start, number);
}
