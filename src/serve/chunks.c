#include "serve/chunks.h"

#include <math.h>

/* Means are over the last MEMORY parcels, so that they follow a machine that others use too. */
enum { FEW_ROWS = PS_CHUNKS_LEAST, MEMORY = 8 };

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

void ps_chunks_saw(ps_chunks_times *times, double cost, double ns)
{
    ps_chunks_mean *mean = cost < FEW_ROWS ? &times->few : &times->many;
    if (mean->n < MEMORY) mean->n++;
    mean->cost += (cost - mean->cost) / mean->n;
    mean->ns += (ns - mean->ns) / mean->n;
}

/* Where the line through two points begins, in rows. Noise may turn it, or move it below 0. */
static double overhead_of(ps_chunks_mean few, ps_chunks_mean many)
{
    const double least = 0.25, ns = many.ns - few.ns;
    if (ns <= 0.0 || few.ns <= 0.0) return 0.0;
    return fmax(few.ns * (many.cost - few.cost) / ns - few.cost, least);
}

double ps_chunks_overhead(const ps_chunks_times *times)
{
    if (times->few.n < MEMORY || times->many.n < 2) return 0.0;
    return overhead_of(times->few, times->many);
}

double ps_chunks_overhead_of(const ps_plan_times *times)
{
    if (times->chunk_rows == 0) return 0.0;
    const ps_chunks_mean few = {.cost = times->rows, .ns = times->rows_ns};
    const ps_chunks_mean many = {.cost = times->chunk_rows, .ns = times->chunk_ns};
    return overhead_of(few, many);
}

int ps_chunks_rows(double growth, double overhead, double cost, int n_stages, int64_t position,
                   int least, int most)
{
    if (overhead <= 0.0) overhead = PS_CHUNKS_OVERHEAD;
    const double share = sqrt(cost * overhead / (n_stages - 1)); // C / m
    // The positive root, written so that it holds for growth 0.
    const double row = 1.0 + growth * (double)position;
    const double rows = 2.0 * share / (row + sqrt(row * row + 2.0 * growth * share));
    if (rows >= most) return most;
    const int tiles = (int)lround(rows / PS_CHUNKS_TILE) * PS_CHUNKS_TILE;
    const int wanted = tiles > least ? tiles : least;
    return wanted < most ? wanted : most;
}
