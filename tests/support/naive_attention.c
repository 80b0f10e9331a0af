/* Attention as it is defined, one query after the other, in double precision and with the
 * mathematical library's exponential. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "support/attention_case.h"

provider_pair attention_case_pair(const attention_case *c, int head, int query, int key)
{
    const ps_visible *v = &c->shape.visible;
    const size_t i = (size_t)query, j = (size_t)key, k = (size_t)c->shape.head_dim;
    const int64_t position = c->base + query;
    const bool kept = key < ps_visible_kept(v, position);
    const int64_t seen_from = kept ? ps_visible_kept_query(v, position) : position;
    return (provider_pair){.head = head,
                           .distance = seen_from - c->base - key,
                           .position = seen_from,
                           .rows = query - key,
                           .x_stride = c->width,
                           .query_x = c->x + i * (size_t)c->width,
                           .q = c->q + i * (size_t)c->shape.n_heads * k,
                           .key_x = c->x + j * (size_t)c->width,
                           .k = c->k + j * (size_t)c->shape.n_kv_heads * k};
}

static double score(const attention_case *c, int head, int query, int key)
{
    const size_t k = (size_t)c->shape.head_dim;
    const size_t q_row = (size_t)query * (size_t)c->shape.n_heads * k;
    const size_t k_row = (size_t)key * (size_t)c->shape.n_kv_heads * k;
    const int kv_head = head / (c->shape.n_heads / c->shape.n_kv_heads);
    const ps_visible *v = &c->shape.visible;
    const int64_t position = c->base + query;
    const bool kept = key < ps_visible_kept(v, position);
    const float *q = (kept && c->q_kept ? c->q_kept : c->q) + q_row + (size_t)head * k;
    const float *kv = c->k + k_row + (size_t)kv_head * k;
    double sum = 0.0;
    for (size_t t = 0; t < k; t++) {
        sum += (double)q[t] * (double)kv[t];
    }
    sum *= (double)c->shape.scale;
    const double cap = (double)c->shape.softcap;
    if (cap > 0.0) sum = cap * tanh(sum / cap);
    const provider_pair pair = attention_case_pair(c, head, query, key);
    for (int p = 0; p < c->list.n; p++) {
        sum += provider_reference(&c->list.item[p], &pair);
    }
    return sum;
}

/* Whether the query sees the key: the definition once more, pair by pair. */
static bool sees(const attention_case *c, int query, int key)
{
    const ps_visible *v = &c->shape.visible;
    const int64_t i = c->base + query, j = c->base + key;
    const int64_t own_chunk = v->chunk > 0 ? i / v->chunk : 0;
    const int64_t key_chunk = v->chunk > 0 ? j / v->chunk : 0;
    if (j < v->n_kept && j <= i) return true;
    if (v->window > 0 && i - j >= v->window) return false;
    if (v->left_chunks >= 0 && key_chunk < own_chunk - v->left_chunks) return false;
    return v->look_ahead ? key_chunk <= own_chunk : j <= i;
}

/* out[K] of one query and head; weights[n] is scratch. */
static void attend(const attention_case *c, int head, int query, double *weights, double *out)
{
    const int k = c->shape.head_dim, kv_heads = c->shape.n_kv_heads;
    const int kv_head = head / (c->shape.n_heads / kv_heads);
    double maximum = c->sinks ? (double)c->sinks[head] : c->quiet ? 0.0 : -HUGE_VAL;
    for (int j = 0; j < c->n; j++) {
        weights[j] = sees(c, query, j) ? score(c, head, query, j) : -HUGE_VAL;
        if (weights[j] > maximum) maximum = weights[j];
    }
    double total = c->sinks   ? exp((double)c->sinks[head] - maximum)
                   : c->quiet ? exp(-maximum)
                              : 0.0;
    memset(out, 0, (size_t)k * sizeof *out);
    for (int j = 0; j < c->n; j++) {
        const double weight = exp(weights[j] - maximum);
        const float *v = c->v + (size_t)(j * kv_heads + kv_head) * (size_t)k;
        total += weight;
        for (int t = 0; t < k; t++) {
            out[t] += weight * (double)v[t];
        }
    }
    for (int t = 0; t < k; t++) {
        out[t] /= total;
    }
}

void attention_case_naive(const attention_case *c, double *out)
{
    double *weights = ps_mem_new((size_t)c->n, sizeof *weights);
    for (int query = c->first_query; query < c->n; query++) {
        for (int head = 0; head < c->shape.n_heads; head++) {
            attend(c, head, query, weights, out);
            out += c->shape.head_dim;
        }
    }
    ps_mem_free(weights);
}
