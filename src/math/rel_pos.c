/* The relative-position bias of Transformer-XL and ACE-Step.
 *
 * Distances, not keys, index the table, so a block of consecutive queries of one head needs the
 * products (q + v) P[r] for one run of distances: one panel product for all of them. Lane n of the
 * table is distance top - n, and the lowest is -ahead. For query i and key j, n = top - i + j:
 * the products that belong to ascending keys stand in ascending lanes, shifted by the query's
 * position, and are added without turning anything round. */
#include <assert.h>
#include <string.h>

#include "math/bias_kinds.h"
#include "math/kernels.h"
#include "math/panel.h"
#include "math/real.h"

enum { TABLE_ROWS = 64 };

static int64_t table_lanes(int64_t span, int64_t ahead)
{
    return (int64_t)ps_mem_round_up((size_t)(span + ahead), PS_PANEL_LANES);
}

int ps_rel_pos_features(const ps_bias *bias)
{
    return bias->n_heads * bias->head_dim;
}

int ps_rel_pos_numbers(const ps_bias *bias)
{
    return bias->n_heads;
}

void ps_rel_pos_prepare(const ps_bias *bias, const ps_bias_row *row)
{
    const int n = bias->n_heads * bias->head_dim, group = bias->n_heads / bias->n_kv_heads;
    for (int g = 0; g < bias->n_kv_heads; g++) {
        const size_t at = (size_t)g * (size_t)group * (size_t)bias->head_dim;
        row->kernels->dots(bias->u + at, row->k + (size_t)g * (size_t)bias->head_dim, group,
                           bias->head_dim, row->numbers + g * group);
    }
    row->kernels->scale(row->numbers, bias->scale, bias->n_heads);
    memcpy(row->features, row->q, (size_t)n * sizeof *row->features);
    row->kernels->add(bias->v, row->features, n);
}

/* Lanes that a block of queries can touch in one segment, rounded out to whole tiles. */
static size_t lanes_max(int n_queries)
{
    return ps_mem_round_up((size_t)PS_SEGMENT + (size_t)n_queries, PS_PANEL_LANES) + PS_PANEL_LANES;
}

size_t ps_rel_pos_scratch_floats(int n_queries)
{
    return (size_t)n_queries * lanes_max(n_queries);
}

/* bias[j] += key part + position part for the keys of one query that lie inside the span.
 * product[j + shift] is (q + v) P[i - j]. */
static void add_row(const ps_bias *bias, const struct ps_kernels *kernels, const ps_bias_tile *tile,
                    int head, int64_t position, const float *product, int64_t shift, float *out)
{
    const int64_t oldest = position - bias->span + 1 - tile->start;
    const int64_t newest = position + bias->ahead + 1 - tile->start;
    const int last = newest < tile->last ? (int)newest : tile->last;
    const int j = oldest > tile->first ? (int)oldest : tile->first;
    if (j >= last) return;
    const float *key_part = tile->numbers + (size_t)head * PS_SEGMENT;
    kernels->add_scaled(key_part + j, product + shift + j, bias->scale, out + j, last - j);
}

static void fill_head(const ps_bias *bias, const struct ps_kernels *kernels,
                      const ps_bias_tile *tile, int head_in_block)
{
    const int head = tile->first_head + head_in_block, n = tile->n_queries;
    const size_t k = (size_t)bias->head_dim, stride = lanes_max(n);
    const int64_t lanes = table_lanes(bias->span, bias->ahead), top = lanes - 1 - bias->ahead;
    const int64_t oldest = tile->first_position, newest = oldest + n - 1;
    int64_t from = top - newest + tile->start + tile->first;
    int64_t to = top - oldest + tile->start + tile->last;
    from = (from < 0 ? 0 : from) / PS_PANEL_LANES * PS_PANEL_LANES;
    to = to > lanes ? lanes : to;
    const ps_panel_job job = {
        .dtype = PS_F32,
        .rows = n,
        .panels = ps_panel_count((int)(to - from)),
        .k = bias->head_dim,
        .weights = bias->table + ((size_t)head * (size_t)lanes + (size_t)from) * k,
        .k_stride = PS_PANEL_LANES,
        .panel_stride = k * PS_PANEL_LANES,
        .x = tile->features + (size_t)head * k,
        .x_stride = tile->feature_stride,
        .out = tile->scratch,
        .out_stride = stride,
    };
    kernels->panel_product(&job);
    for (int i = 0; i < n; i++) {
        const int64_t position = oldest + i;
        add_row(bias, kernels, tile, head, position, tile->scratch + (size_t)i * stride,
                top - position + tile->start - from,
                tile->bias + (size_t)(head_in_block * n + i) * PS_SEGMENT);
    }
}

void ps_rel_pos_fill(const ps_bias *bias, const struct ps_kernels *kernels,
                     const ps_bias_tile *tile)
{
    for (int h = 0; h < tile->n_heads; h++) {
        fill_head(bias, kernels, tile, h);
    }
}

void ps_rel_pos_fill_key_part(const ps_bias *bias, const struct ps_kernels *kernels,
                              const ps_bias_tile *tile)
{
    (void)kernels;
    for (int r = 0; r < tile->n_heads * tile->n_queries; r++) {
        const size_t head = (size_t)tile->first_head + (size_t)(r / tile->n_queries);
        const int64_t position = tile->first_position + r % tile->n_queries;
        float *out = tile->bias + (size_t)r * PS_SEGMENT;
        for (int j = tile->first; j < tile->last; j++) {
            const int64_t distance = position - (tile->start + j);
            if (distance < -bias->ahead || distance >= bias->span) continue;
            out[j] += tile->numbers[head * PS_SEGMENT + (size_t)j];
        }
    }
}

size_t ps_bias_table_floats(int n_heads, int head_dim, int64_t span, int64_t ahead)
{
    return (size_t)n_heads * (size_t)head_dim * (size_t)table_lanes(span, ahead);
}

size_t ps_bias_table_scratch_floats(int n_heads, int head_dim, int d)
{
    const size_t out = ps_mem_round_up((size_t)n_heads * (size_t)head_dim, PS_PANEL_LANES);
    return TABLE_ROWS * (out + (size_t)d);
}

static void position_encoding(int64_t distance, double theta, int d, float *out)
{
    for (int t = 0; 2 * t < d; t++) {
        const double w = ps_real_pow(theta, -2.0 * (double)t / (double)d);
        double sine, cosine;
        ps_real_sincos((double)distance * w, &sine, &cosine);
        out[2 * t] = (float)sine;
        if (2 * t + 1 < d) out[2 * t + 1] = (float)cosine;
    }
}

void ps_bias_make_table(const ps_engine *engine, const ps_linear *w_pos, double theta, int n_heads,
                        int head_dim, int64_t span, int64_t ahead, float *scratch, float *table)
{
    assert(w_pos->n == n_heads * head_dim);
    const size_t d = (size_t)w_pos->k;
    const size_t stride = ps_mem_round_up((size_t)w_pos->n, PS_PANEL_LANES);
    const int64_t lanes = table_lanes(span, ahead);
    float *encoding = scratch, *rows = scratch + TABLE_ROWS * d;
    // The table belongs to the model, not to a chunk: by panels and unrounded, whatever the run is.
    const ps_engine panels = {
        .kernels = engine->kernels, .pool = engine->pool, .activations = PS_ACTIVATIONS_F32};
    for (int64_t start = 0; start < lanes; start += TABLE_ROWS) {
        const int n = lanes - start < TABLE_ROWS ? (int)(lanes - start) : TABLE_ROWS;
        for (int r = 0; r < n; r++) {
            position_encoding(start + r - ahead, theta, w_pos->k, encoding + (size_t)r * d);
        }
        const ps_linear_call call = ps_linear_call_make(w_pos, encoding, d, rows, stride, n);
        ps_linear_forward(&panels, &call, 1, NULL);
        for (int r = 0; r < n; r++) {
            const size_t lane = (size_t)(lanes - 1 - (start + r));
            for (int i = 0; i < w_pos->n; i++) {
                const size_t head = (size_t)(i / head_dim), t = (size_t)(i % head_dim);
                const size_t tile = head * ((size_t)lanes / PS_PANEL_LANES) + lane / PS_PANEL_LANES;
                table[(tile * (size_t)head_dim + t) * PS_PANEL_LANES + lane % PS_PANEL_LANES] =
                    rows[(size_t)r * stride + (size_t)i];
            }
        }
    }
}
