#include "serve/chunks.h"

#include <math.h>

enum { CHUNKS_PER_STAGE = 16 };

/* Multiply-adds of a row in a layer's MLP. */
static double mlp_cost(const ps_spec *s, const ps_layer_spec *layer)
{
    const double matrices = s->gated ? 3.0 : 2.0;
    const double width =
        layer->mixture ? (double)s->n_experts_used * (double)s->d_ff_expert : (double)s->d_ff;
    return matrices * width * (double)s->d_model;
}

double ps_chunks_growth(const ps_spec *s)
{
    const double queries = (double)s->n_heads * (double)s->head_dim;
    const double keys = (double)s->n_kv_heads * (double)s->head_dim;
    double row = 0.0, key = 0.0;
    for (int l = 0; l < s->n_layers; l++) {
        const ps_layer_spec *layer = &s->layers[l];
        row += 2.0 * (queries + keys) * (double)s->d_model + mlp_cost(s, layer);
        if (layer->window == 0 && layer->chunk == 0) key += 2.0 * queries;
    }
    return row > 0.0 ? key / row : 0.0;
}

double ps_chunks_cost(double growth, int64_t position, int64_t n)
{
    return (double)n * (1.0 + growth * ((double)position + 0.5 * (double)n));
}

int ps_chunks_rows(double growth, double cost, int n_stages, int64_t position, int least, int most)
{
    const double share = cost / ((double)CHUNKS_PER_STAGE * (n_stages - 1));
    // The positive root, written so that it holds for growth 0.
    const double row = 1.0 + growth * (double)position;
    const double rows = 2.0 * share / (row + sqrt(row * row + 2.0 * growth * share));
    if (rows >= most) return most;
    return rows <= least ? (least < most ? least : most) : (int)lround(rows);
}
