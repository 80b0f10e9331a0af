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
    bool kept;                        // the pass over kept tokens; else over the queries' own part
    size_t head_stride;               // head_dim rounded up to 16
    float *q;                         // [rows, head_dim] of the pass
    float *z, *bias;                  // [rows, PS_SEGMENT]
    float *acc, *part;                // [rows, head_stride]
    float *maximum, *sum;             // [rows] over all segments so far
    float *segment_max, *segment_sum; // [rows]
    float *widened;                   // [PS_KV_PAGE, head_stride] keys or values of a page
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
    const size_t all = rows * (stride + 2 * PS_SEGMENT + 2 * stride + 4) + PS_KV_PAGE * stride +
                       ps_bias_scratch_floats(BLOCK_ROWS);
    return ps_mem_round_up(all, 16);
}

size_t ps_attention_scratch_floats(int n_threads, int group, int head_dim)
{
    return (size_t)n_threads * thread_scratch_floats(group, head_dim);
}

/* Positions behind the sequence's last: what a query that looks ahead can see. */
static int64_t length_of(const block_state *b)
{
    return b->run->first_position + b->run->n_rows;
}

/* What a query of the block sees of a segment in this pass. */
static key_range visible(const block_state *b, int query, int64_t start)
{
    const ps_visible *v = &b->job->shape.visible;
    const int64_t position = b->first_position + query;
    int64_t first = (b->kept ? 0 : ps_visible_first(v, position)) - start;
    int64_t last =
        (b->kept ? ps_visible_kept(v, position) : ps_visible_end(v, position, length_of(b))) -
        start;
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

/* The tiles from position `first` on as far as `end` in one page, as a panel product reads them. */
static const void *keys_of(const block_state *b, int64_t first, int n_tiles, ps_dtype *type)
{
    const ps_kv_layout *layout = b->run->view.layout;
    const char *tiles = ps_kv_keys(&b->run->view, first, b->kv_head);
    *type = layout->types.key;
    if (!ps_dtype_is_quantised(*type)) return tiles;
    const size_t tile_floats = (size_t)layout->head_dim * PS_KV_TILE;
    for (int t = 0; t < n_tiles; t++) {
        b->kernels->kv_widen_keys(*type, tiles + (size_t)t * layout->tile_bytes, layout->head_dim,
                                  b->widened + (size_t)t * tile_floats);
    }
    *type = PS_F32;
    return b->widened;
}

/* Values of n positions from `first` on, all in one page. */
static const void *values_of(const block_state *b, int64_t first, int n, ps_dtype *type)
{
    const ps_kv_layout *layout = b->run->view.layout;
    const char *rows = ps_kv_value(&b->run->view, first, b->kv_head);
    *type = layout->types.value;
    if (!ps_dtype_is_quantised(*type)) return rows;
    for (int i = 0; i < n; i++) {
        b->kernels->kv_widen_value(*type, rows + (size_t)i * layout->row_bytes, layout->head_dim,
                                   b->widened + (size_t)i * b->head_stride);
    }
    *type = PS_F32;
    return b->widened;
}

/* z[row, j] = <q, k> for the tiles of [first, last), page by page. */
static void scores(const block_state *b, int64_t start, key_range keys)
{
    const size_t k = (size_t)b->job->shape.head_dim;
    int j = keys.first / PS_KV_TILE * PS_KV_TILE;
    while (j < keys.last) {
        const int page_end = (j / PS_KV_PAGE + 1) * PS_KV_PAGE;
        const int panels = ps_panel_count(smaller(page_end, keys.last) - j);
        ps_dtype type;
        const void *tiles = keys_of(b, start + j, panels, &type);
        const ps_panel_job job = {
            .dtype = type,
            .rows = b->rows,
            .panels = panels,
            .k = b->job->shape.head_dim,
            .weights = tiles,
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

/* Adds every provider's biases for n_queries queries from `query` on, as seen from `position`, to
 * the rows of the tile's heads. */
static void fill_biases(const block_state *b, ps_bias_tile *tile, int query)
{
    const ps_attention_job *job = b->job;
    const size_t row = (size_t)b->run->first_row +
                       (size_t)(b->first_position - b->run->first_position) + (size_t)query;
    const float *features = job->features + row * job->feature_stride;
    int number = 0;
    for (int p = 0; p < job->n_biases; p++) {
        const ps_bias *bias = &job->biases[p];
        tile->features = features;
        for (int j = tile->first; j < tile->last; j = (j / PS_KV_PAGE + 1) * PS_KV_PAGE) {
            const int64_t page_start = tile->start + j / PS_KV_PAGE * PS_KV_PAGE;
            tile->numbers[j / PS_KV_PAGE] = ps_kv_number(&b->run->view, page_start, number);
        }
        ps_bias_fill_tile(bias, b->kernels, tile);
        features += (size_t)ps_bias_features(bias);
        number += ps_bias_numbers(bias);
    }
}

static void biases(const block_state *b, int64_t start, key_range keys)
{
    for (int r = 0; r < b->rows; r++) {
        memset(b->bias + (size_t)r * PS_SEGMENT + keys.first, 0,
               (size_t)(keys.last - keys.first) * sizeof(float));
    }
    ps_bias_tile tile = {
        .first_head = b->kv_head * b->group,
        .n_heads = b->group,
        .n_queries = b->n_queries,
        .first_position = b->first_position,
        .feature_stride = b->job->feature_stride,
        .start = start,
        .first = keys.first,
        .last = keys.last,
        .bias = b->bias,
        .scratch = b->bias_scratch,
    };
    if (!b->kept || !b->job->shape.visible.kept_at_cache) {
        fill_biases(b, &tile, 0);
        return;
    }
    // Queries that stand at the same place in their caches do not follow each other.
    tile.n_heads = tile.n_queries = 1;
    for (int r = 0; r < b->rows; r++) {
        const int query = r % b->n_queries;
        tile.first_head = b->kv_head * b->group + r / b->n_queries;
        tile.first_position =
            ps_visible_kept_query(&b->job->shape.visible, b->first_position + query);
        tile.bias = b->bias + (size_t)r * PS_SEGMENT;
        fill_biases(b, &tile, query);
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
        ps_dtype type;
        const void *rows_of_values = values_of(b, start + j, end - j, &type);
        const ps_panel_job job = {
            .dtype = type,
            .chain = true,
            .rows = rows,
            .panels = (int)(stride / PS_PANEL_LANES),
            .k = end - j,
            .weights = rows_of_values,
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

/* Gathers the block's queries for a pass. */
static void gather(const block_state *b, const float *q)
{
    const ps_attention_job *job = b->job;
    const size_t k = (size_t)job->shape.head_dim;
    const size_t first_row =
        (size_t)b->run->first_row + (size_t)(b->first_position - b->run->first_position);
    for (int r = 0; r < b->rows; r++) {
        const size_t head = (size_t)b->kv_head * (size_t)b->group + (size_t)(r / b->n_queries);
        const size_t row = first_row + (size_t)(r % b->n_queries);
        memcpy(b->q + (size_t)r * k, q + row * job->q_stride + head * k, k * sizeof(float));
    }
}

/* The state that the sums start from. */
static void begin(const block_state *b)
{
    const ps_attention_job *job = b->job;
    for (int r = 0; r < b->rows; r++) {
        const size_t head = (size_t)b->kv_head * (size_t)b->group + (size_t)(r / b->n_queries);
        b->maximum[r] = job->sinks ? job->sinks[head] : -INFINITY;
        b->sum[r] = job->sinks ? 1.0f : 0.0f;
    }
    memset(b->acc, 0, (size_t)b->rows * b->head_stride * sizeof(float));
}

/* Kept tokens before the queries' own part: the last query has the most of them. */
static void kept_pass(block_state *b)
{
    const int64_t last = b->first_position + b->n_queries - 1;
    const int64_t end = ps_visible_kept(&b->job->shape.visible, last);
    if (end == 0) return;
    b->kept = true;
    gather(b, b->job->q_kept ? b->job->q_kept : b->job->q);
    for (int64_t start = 0; start < end; start += PS_SEGMENT) {
        segment(b, start);
    }
    b->kept = false;
}

static void own_pass(block_state *b)
{
    const ps_visible *v = &b->job->shape.visible;
    const int64_t last = b->first_position + b->n_queries - 1;
    const int64_t first = ps_visible_first(v, b->first_position);
    const int64_t end = ps_visible_end(v, last, length_of(b));
    gather(b, b->job->q);
    for (int64_t start = first / PS_SEGMENT * PS_SEGMENT; start < end; start += PS_SEGMENT) {
        segment(b, start);
    }
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
    b->widened = b->segment_sum + rows;
    b->bias_scratch = b->widened + PS_KV_PAGE * stride;
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
    kept_pass(&b);
    own_pass(&b);
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
