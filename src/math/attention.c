/* An item of work is a block of queries of one run in all query heads of one key head: up to 24
 * rows (query, head) that read the same keys. For each segment: scores by the panel product over
 * the key tiles, biases by their providers, softmax against the segment's maximum, weights times
 * values by the same panel product (chained over pages), and the fold into the block's state.
 *
 * Queries of a block see slightly different keys. What all of them see is multiplied for all rows
 * at once; the ragged edges before and behind it row by row. Each row's sum still goes over its own
 * keys in ascending order, and nothing hidden is multiplied: a stale slot may hold anything. */
#include "math/attention.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "math/kernels.h"
#include "math/panel.h"

enum { BLOCK_ROWS = 24 };

/* State and scratch of one block. Rows are (head, query), queries fastest. */
typedef struct block_state {
    const ps_attention_job *job;
    const ps_kernels *kernels;
    const ps_attention_run *run;
    int kv_head, group, n_queries, rows;
    int64_t first_position;
    size_t head_stride;               // head_dim rounded up to 16
    float *q;                         // [rows, head_dim]
    float *z, *bias;                  // [rows, PS_SEGMENT]
    float *acc, *part;                // [rows, head_stride]
    float *maximum, *sum;             // [rows] over all segments so far
    float *segment_max, *segment_sum; // [rows]
    float *bias_scratch;
} block_state;

/* Keys of one row inside the segment at `start`, as offsets [first, last). */
typedef struct key_range {
    int first, last;
} key_range;

static int rows_max(int group)
{
    return group > BLOCK_ROWS ? group : BLOCK_ROWS;
}

static int queries_per_block(int group)
{
    return BLOCK_ROWS / group > 1 ? BLOCK_ROWS / group : 1;
}

/* Grows with both arguments, as the header promises: a small group has more queries in a block, so
 * the providers' part is that of the most queries. */
static size_t thread_scratch_floats(int group, int head_dim)
{
    const size_t rows = (size_t)rows_max(group);
    const size_t stride = ps_mem_round_up((size_t)head_dim, PS_PANEL_LANES);
    const size_t all =
        rows * (stride + 2 * PS_SEGMENT + 2 * stride + 4) + ps_bias_scratch_floats(BLOCK_ROWS);
    return ps_mem_round_up(all, 16);
}

size_t ps_attention_scratch_floats(int n_threads, int group, int head_dim)
{
    return (size_t)n_threads * thread_scratch_floats(group, head_dim);
}

static key_range visible(const block_state *b, int query, int64_t start)
{
    const int64_t position = b->first_position + query, window = b->job->shape.window;
    int64_t first = window > 0 ? position - window + 1 - start : -start;
    int64_t last = position + 1 - start;
    if (first < 0) first = 0;
    if (first > PS_SEGMENT) first = PS_SEGMENT;
    if (last > PS_SEGMENT) last = PS_SEGMENT;
    return (key_range){(int)first, (int)(last > first ? last : first)};
}

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

static int larger(int a, int b)
{
    return a > b ? a : b;
}

/* z[row, j] = <q, k> for the tiles of [first, last), page by page. */
static void scores(const block_state *b, int64_t start, key_range keys)
{
    const size_t k = (size_t)b->job->shape.head_dim;
    int j = keys.first / PS_KV_TILE * PS_KV_TILE;
    while (j < keys.last) {
        const int page_end = (j / PS_KV_PAGE + 1) * PS_KV_PAGE;
        const int end = smaller(page_end, keys.last);
        const ps_panel_job job = {
            .dtype = PS_F32,
            .rows = b->rows,
            .panels = ps_panel_count(end - j),
            .k = b->job->shape.head_dim,
            .weights = ps_kv_keys(&b->run->view, start + j, b->kv_head),
            .k_stride = PS_KV_TILE,
            .panel_stride = k * PS_KV_TILE,
            .x = b->q,
            .x_stride = k,
            .out = b->z + j,
            .out_stride = PS_SEGMENT,
        };
        b->kernels->panel_product(&job);
        j = page_end;
    }
}

static void biases(const block_state *b, int64_t start, key_range keys)
{
    const ps_attention_job *job = b->job;
    for (int r = 0; r < b->rows; r++) {
        memset(b->bias + (size_t)r * PS_SEGMENT + keys.first, 0,
               (size_t)(keys.last - keys.first) * sizeof(float));
    }
    const size_t row =
        (size_t)(b->run->first_row) + (size_t)(b->first_position - b->run->first_position);
    size_t feature = 0;
    int number = 0;
    for (int p = 0; p < job->n_biases; p++) {
        const ps_bias *bias = &job->biases[p];
        ps_bias_tile tile = {
            .first_head = b->kv_head * b->group,
            .n_heads = b->group,
            .n_queries = b->n_queries,
            .first_position = b->first_position,
            .features = job->features + row * job->feature_stride + feature,
            .feature_stride = job->feature_stride,
            .start = start,
            .first = keys.first,
            .last = keys.last,
            .bias = b->bias,
            .scratch = b->bias_scratch,
        };
        for (int j = keys.first; j < keys.last; j = (j / PS_KV_PAGE + 1) * PS_KV_PAGE) {
            const int64_t page_start = start + j / PS_KV_PAGE * PS_KV_PAGE;
            tile.numbers[j / PS_KV_PAGE] = ps_kv_number(&b->run->view, page_start, number);
        }
        ps_bias_fill_tile(bias, b->kernels, &tile);
        feature += (size_t)ps_bias_features(bias);
        number += ps_bias_numbers(bias);
    }
}

/* part[row] += sum over keys [first, last) of weight * value for rows row .. + rows, keys
 * ascending. */
static void add_values(const block_state *b, int64_t start, int row, int rows, int first, int last)
{
    const size_t stride = b->head_stride;
    int j = first;
    while (j < last) {
        const int end = smaller((j / PS_KV_PAGE + 1) * PS_KV_PAGE, last);
        const ps_panel_job job = {
            .dtype = PS_F32,
            .chain = true,
            .rows = rows,
            .panels = (int)(stride / PS_PANEL_LANES),
            .k = end - j,
            .weights = ps_kv_value(&b->run->view, start + j, b->kv_head),
            .k_stride = stride,
            .panel_stride = PS_PANEL_LANES,
            .x = b->z + (size_t)row * PS_SEGMENT + j,
            .x_stride = PS_SEGMENT,
            .out = b->part + (size_t)row * stride,
            .out_stride = stride,
        };
        b->kernels->panel_product(&job);
        j = end;
    }
}

/* Weights times values of a segment: ragged beginning, common middle, ragged end. */
static void values(const block_state *b, int64_t start, key_range common)
{
    memset(b->part, 0, (size_t)b->rows * b->head_stride * sizeof(float));
    const bool middle = common.first < common.last;
    for (int r = 0; r < b->rows; r++) {
        const key_range own = visible(b, r % b->n_queries, start);
        add_values(b, start, r, 1, own.first, middle ? common.first : own.last);
    }
    if (!middle) return;
    add_values(b, start, 0, b->rows, common.first, common.last);
    for (int r = 0; r < b->rows; r++) {
        const key_range own = visible(b, r % b->n_queries, start);
        add_values(b, start, r, 1, common.last, own.last);
    }
}

/* Folds the segment's (maximum, sum, part) into the block's state, row by row. */
static void fold(const block_state *b)
{
    for (int r = 0; r < b->rows; r++) {
        if (b->segment_sum[r] == 0.0f) continue;
        const float before = b->maximum[r], now = b->segment_max[r];
        const float maximum = before > now ? before : now;
        const float keep = before == -INFINITY ? 0.0f : b->kernels->exp(before - maximum);
        const float take = now == maximum ? 1.0f : b->kernels->exp(now - maximum);
        b->sum[r] = fmaf(b->segment_sum[r], take, b->sum[r] * keep);
        b->maximum[r] = maximum;
        b->kernels->fold(b->acc + (size_t)r * b->head_stride, b->part + (size_t)r * b->head_stride,
                         keep, take, b->job->shape.head_dim);
    }
}

static void segment(const block_state *b, int64_t start)
{
    key_range all = {PS_SEGMENT, 0}, common = {0, PS_SEGMENT};
    for (int i = 0; i < b->n_queries; i++) {
        const key_range own = visible(b, i, start);
        if (own.first < own.last) {
            all.first = smaller(all.first, own.first);
            all.last = larger(all.last, own.last);
        }
        common.first = larger(common.first, own.first);
        common.last = smaller(common.last, own.last);
    }
    if (all.first >= all.last) return;
    scores(b, start, all);
    if (b->job->n_biases > 0) biases(b, start, all);
    for (int r = 0; r < b->rows; r++) {
        const key_range own = visible(b, r % b->n_queries, start);
        b->segment_sum[r] = 0.0f;
        b->segment_max[r] = -INFINITY;
        if (own.first >= own.last) continue;
        const ps_softmax_job job = {
            .z = b->z + (size_t)r * PS_SEGMENT,
            .bias = b->job->n_biases > 0 ? b->bias + (size_t)r * PS_SEGMENT : NULL,
            .first = own.first,
            .last = own.last,
            .scale = b->job->shape.scale,
            .softcap = b->job->shape.softcap,
        };
        b->segment_max[r] = b->kernels->softmax(&job, &b->segment_sum[r]);
    }
    values(b, start, common);
    fold(b);
}

/* Gathers the block's queries, and clears its state. */
static void begin(block_state *b)
{
    const ps_attention_job *job = b->job;
    const size_t k = (size_t)job->shape.head_dim;
    const size_t first_row =
        (size_t)b->run->first_row + (size_t)(b->first_position - b->run->first_position);
    for (int r = 0; r < b->rows; r++) {
        const size_t head = (size_t)b->kv_head * (size_t)b->group + (size_t)(r / b->n_queries);
        const size_t row = first_row + (size_t)(r % b->n_queries);
        memcpy(b->q + (size_t)r * k, job->q + row * job->q_stride + head * k, k * sizeof(float));
        b->maximum[r] = job->sinks ? job->sinks[head] : -INFINITY;
        b->sum[r] = job->sinks ? 1.0f : 0.0f;
    }
    memset(b->acc, 0, (size_t)b->rows * b->head_stride * sizeof(float));
}

static void finish(const block_state *b)
{
    const ps_attention_job *job = b->job;
    const size_t k = (size_t)job->shape.head_dim;
    const size_t first_row =
        (size_t)b->run->first_row + (size_t)(b->first_position - b->run->first_position);
    for (int r = 0; r < b->rows; r++) {
        const size_t head = (size_t)b->kv_head * (size_t)b->group + (size_t)(r / b->n_queries);
        const size_t row = first_row + (size_t)(r % b->n_queries);
        float *out = job->out + row * job->out_stride + head * k;
        memcpy(out, b->acc + (size_t)r * b->head_stride, k * sizeof(float));
        if (b->sum[r] != 0.0f) b->kernels->scale(out, 1.0f / b->sum[r], job->shape.head_dim);
    }
}

static void lay_out(block_state *b, float *scratch)
{
    const size_t rows = (size_t)rows_max(b->group), stride = b->head_stride;
    b->q = scratch;
    b->z = b->q + rows * stride;
    b->bias = b->z + rows * PS_SEGMENT;
    b->acc = b->bias + rows * PS_SEGMENT;
    b->part = b->acc + rows * stride;
    b->maximum = b->part + rows * stride;
    b->sum = b->maximum + rows;
    b->segment_max = b->sum + rows;
    b->segment_sum = b->segment_max + rows;
    b->bias_scratch = b->segment_sum + rows;
}

typedef struct work {
    const ps_engine *engine;
    const ps_attention_job *job;
} work;

static void run_item(void *arg, int item, int thread)
{
    const work *w = arg;
    const ps_attention_job *job = w->job;
    const ps_attention_block *block = &job->blocks[item / job->shape.n_kv_heads];
    const ps_attention_run *run = &job->runs[block->run];
    const int group = job->shape.n_heads / job->shape.n_kv_heads;
    block_state b = {
        .job = job,
        .kernels = w->engine->kernels,
        .run = run,
        .kv_head = item % job->shape.n_kv_heads,
        .group = group,
        .n_queries = block->n_queries,
        .rows = block->n_queries * group,
        .first_position = run->first_position + block->first,
        .head_stride = ps_mem_round_up((size_t)job->shape.head_dim, PS_PANEL_LANES),
    };
    lay_out(&b, job->scratch + (size_t)thread * thread_scratch_floats(group, job->shape.head_dim));
    begin(&b);
    const int64_t window = job->shape.window;
    const int64_t last = b.first_position + b.n_queries - 1;
    const int64_t oldest = window > 0 ? b.first_position - window + 1 : 0;
    const int64_t first = oldest < 0 ? 0 : oldest;
    for (int64_t s = first / PS_SEGMENT; s <= last / PS_SEGMENT; s++) {
        segment(&b, s * PS_SEGMENT);
    }
    finish(&b);
}

void ps_attention_forward(const ps_engine *engine, const ps_attention_job *job)
{
    assert(job->shape.n_heads % job->shape.n_kv_heads == 0);
    const int per_block = queries_per_block(job->shape.n_heads / job->shape.n_kv_heads);
    int n_blocks = 0;
    for (int r = 0; r < job->n_runs; r++) {
        const int n_rows = job->runs[r].n_rows;
        for (int first = 0; first < n_rows; first += per_block) {
            job->blocks[n_blocks++] =
                (ps_attention_block){r, first, smaller(per_block, n_rows - first)};
        }
    }
    work w = {engine, job};
    ps_pool_run(engine->pool, n_blocks * job->shape.n_kv_heads, run_item, &w);
}
