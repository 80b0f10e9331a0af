/* Walks over the same segments and pages as attention.c, with a single row and a single head: what
 * a panel product or a provider gives for (head, query, key) does not depend on its neighbours. */
#include "math/explain.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "math/attention_parts.h"

/* One query in one head, and the rows of one segment. */
typedef struct view {
    const ps_attention_job *job;
    const ps_kernels *kernels;
    const ps_attention_run *run;
    size_t row;        // of the parcel
    int64_t seen_from; // where the query stands as the pass sees it
    const float *q;    // [K] of the pass
    int head, kv_head;
    ps_explained *out;
    float *z, *bias, *key_part; // [PS_SEGMENT]
    float *widened;             // [K, PS_KV_TILE] for quantised keys
    float *bias_scratch;
} view;

/* Keys [first, last) of a segment, as offsets. */
typedef struct key_range {
    int first, last;
} key_range;

static void lay_out(ps_explained *e, ps_arena *arena)
{
    const size_t n = (size_t)e->capacity;
    e->position = ps_arena_take(arena, n, sizeof *e->position);
    float **const rows[] = {&e->score, &e->bias, &e->total, &e->weight, &e->plain_weight};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        *rows[i] = ps_arena_take(arena, n, sizeof(float));
    }
    for (int p = 0; p < PS_BIAS_MAX; p++) {
        e->key_part[p] = ps_arena_take(arena, n, sizeof(float));
        e->position_part[p] = ps_arena_take(arena, n, sizeof(float));
    }
    e->scratch = ps_arena_take(arena, 3 * PS_SEGMENT + ps_bias_scratch_floats(1), sizeof(float));
    e->widened = ps_arena_take(arena, PS_KV_TILE * (size_t)e->head_dim, sizeof(float));
}

ps_err ps_explained_open(int64_t capacity, int head_dim, ps_explained *out)
{
    assert(capacity >= 1 && capacity <= PS_EXPLAIN_KEYS_MAX && head_dim >= 1);
    *out = (ps_explained){.capacity = capacity, .head_dim = head_dim};
    ps_arena counting = ps_arena_counting();
    lay_out(out, &counting);
    PS_TRY(ps_region_take(counting.used, "an explanation", &out->region));
    ps_arena arena = ps_arena_over(&out->region);
    lay_out(out, &arena);
    return PS_OK;
}

void ps_explained_close(ps_explained *e)
{
    ps_region_release(&e->region);
    *e = (ps_explained){0};
}

int64_t ps_attention_count_keys(const ps_attention_job *job, const ps_attention_run *run, int row)
{
    const ps_visible *v = &job->shape.visible;
    const int64_t position = run->first_position + row;
    return ps_visible_kept(v, position) + ps_visible_end(v, position, ps_attention_length(run)) -
           ps_visible_first(v, position);
}

/* z[j] = cap(scale <q, k_j>) of the range. */
static void scores(const view *v, int64_t start, key_range keys)
{
    const ps_attention_shape *shape = &v->job->shape;
    const ps_attention_scores_job job = {.kernels = v->kernels,
                                         .view = &v->run->view,
                                         .kv_head = v->kv_head,
                                         .rows = 1,
                                         .q = v->q,
                                         .start = start,
                                         .first = keys.first,
                                         .last = keys.last,
                                         .widened = v->widened,
                                         .z = v->z};
    ps_attention_scores(&job);
    v->kernels->scale(v->z + keys.first, shape->scale, keys.last - keys.first);
    if (shape->softcap > 0.0f)
        v->kernels->softcap(v->z + keys.first, shape->softcap, keys.last - keys.first);
}

/* Calls one hook of a provider for the range; its first number in the cache is `number`. */
static void fill(const view *v, const ps_bias *bias, ps_bias_fill *hook, int number,
                 const float *features, int64_t start, key_range keys, float *out)
{
    ps_bias_tile tile = {
        .sequence = v->run->sequence,
        .first_head = v->head,
        .n_heads = 1,
        .n_queries = 1,
        .first_position = v->seen_from,
        .features = features,
        .feature_stride = v->job->feature_stride,
        .start = start,
        .first = keys.first,
        .last = keys.last,
        .bias = out,
        .scratch = v->bias_scratch,
    };
    ps_attention_find_numbers(&v->run->view, number, &tile);
    hook(bias, v->kernels, &tile);
}

/* The providers' biases of the range, added up in `bias` in the order of the list, and their parts
 * from place `at` of the explanation on. */
static void biases(const view *v, int64_t start, key_range keys, int64_t at)
{
    const ps_attention_job *job = v->job;
    const float *features = job->features + v->row * job->feature_stride;
    const size_t bytes = (size_t)(keys.last - keys.first) * sizeof(float);
    int number = 0;
    memset(v->bias + keys.first, 0, bytes);
    for (int p = 0; p < job->n_biases; p++) {
        const ps_bias *bias = &job->biases[p];
        float *key_part = v->out->key_part[p] + at, *position_part = v->out->position_part[p] + at;
        fill(v, bias, ps_bias_fill_tile, number, features, start, keys, v->bias);
        memset(v->key_part + keys.first, 0, bytes);
        fill(v, bias, ps_bias_fill_tile, number, features, start, keys, v->key_part);
        memcpy(position_part, v->key_part + keys.first, bytes);
        memset(v->key_part + keys.first, 0, bytes);
        fill(v, bias, ps_bias_fill_key_part, number, features, start, keys, v->key_part);
        memcpy(key_part, v->key_part + keys.first, bytes);
        for (int j = 0; j < keys.last - keys.first; j++) {
            // A key that the provider hides is hidden by its key part, if that says so.
            position_part[j] = key_part[j] == -INFINITY ? 0.0f : position_part[j] - key_part[j];
        }
        features += (size_t)ps_bias_features(bias);
        number += ps_bias_numbers(bias);
    }
}

static void segment(const view *v, int64_t start, key_range keys)
{
    ps_explained *e = v->out;
    const int64_t at = e->n;
    const int n = keys.last - keys.first;
    scores(v, start, keys);
    biases(v, start, keys, at);
    for (int j = 0; j < n; j++) {
        e->position[at + j] = start + keys.first + j;
        e->score[at + j] = v->z[keys.first + j];
        e->bias[at + j] = v->bias[keys.first + j];
        e->total[at + j] = e->score[at + j] + e->bias[at + j];
    }
    e->n += n;
}

/* weight[n] = softmax of z[n] and the score that has no key: a sink's, or 0 of a quiet softmax; returns
 * what that takes. */
static float softmax(const view *v, const float *z, float *weight)
{
    const int64_t n = v->out->n;
    const bool starts = v->job->sinks || v->job->quiet;
    float maximum = v->job->sinks ? v->job->sinks[v->head] : v->job->quiet ? 0.0f : -INFINITY;
    const float sink = maximum;
    for (int64_t j = 0; j < n; j++) {
        if (z[j] > maximum) maximum = z[j];
    }
    if (maximum == -INFINITY) {
        memset(weight, 0, (size_t)n * sizeof *weight);
        return 0.0f;
    }
    const double start = starts ? (double)v->kernels->exp(sink - maximum) : 0.0;
    double sum = start;
    for (int64_t j = 0; j < n; j++) {
        weight[j] = v->kernels->exp(z[j] - maximum);
        sum += (double)weight[j];
    }
    for (int64_t j = 0; j < n; j++) {
        weight[j] = (float)((double)weight[j] / sum);
    }
    return (float)(start / sum);
}

/* The keys [first, end), segment by segment, with the queries `q` of all rows and heads. */
static void pass(view *v, const float *q, int64_t seen_from, int64_t first, int64_t end)
{
    const size_t k = (size_t)v->job->shape.head_dim;
    v->q = q + v->row * v->job->q_stride + (size_t)v->head * k;
    v->seen_from = seen_from;
    for (int64_t start = first / PS_SEGMENT * PS_SEGMENT; start < end; start += PS_SEGMENT) {
        const int64_t last = end - start;
        segment(v, start,
                (key_range){first > start ? (int)(first - start) : 0,
                            last < PS_SEGMENT ? (int)last : PS_SEGMENT});
    }
}

void ps_attention_explain(const ps_engine *engine, const ps_attention_job *job,
                          const ps_attention_run *run, int row, int head, ps_explained *out)
{
    assert(row >= 0 && row < run->n_rows && head >= 0 && head < job->shape.n_heads);
    assert(ps_attention_count_keys(job, run, row) <= out->capacity);
    assert(job->shape.head_dim <= out->head_dim);
    const ps_visible *visible = &job->shape.visible;
    const int64_t position = run->first_position + row;
    view v = {
        .job = job,
        .kernels = engine->kernels,
        .run = run,
        .row = (size_t)(run->first_row + row),
        .head = head,
        .kv_head = head / (job->shape.n_heads / job->shape.n_kv_heads),
        .out = out,
        .z = out->scratch,
        .bias = out->scratch + PS_SEGMENT,
        .key_part = out->scratch + 2 * PS_SEGMENT,
        .widened = out->widened,
        .bias_scratch = out->scratch + 3 * PS_SEGMENT,
    };
    out->n = 0;
    out->n_biases = job->n_biases;
    pass(&v, job->q_kept ? job->q_kept : job->q, ps_visible_kept_query(visible, position), 0,
         ps_visible_kept(visible, position));
    pass(&v, job->q, position, ps_visible_first(visible, position),
         ps_visible_end(visible, position, ps_attention_length(run)));
    out->sink_weight = softmax(&v, out->total, out->weight);
    softmax(&v, out->score, out->plain_weight);
}
