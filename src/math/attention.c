/* A block is some queries of one run in all query heads of one key head: up to 24 rows (query,
 * head) that read the same keys. An item of work is a block, in as many key heads as make 24 rows:
 * one query of a far sequence then reads the pages of its cache nearly as they lie. For each
 * segment: scores by the panel product over the key tiles, biases by their providers, softmax
 * against the segment's maximum, weights times values by the same panel product (chained over
 * pages), and the fold into the block's state.
 *
 * Queries of a block see slightly different keys. What all of them see is multiplied for all rows
 * at once; the ragged edges before and behind it row by row. Each row's sum still goes over its own
 * keys in ascending order, and nothing hidden is multiplied: a stale slot may hold anything.
 *
 * Where there are fewer items than threads, as for one query of a model with one key head, the
 * threads sum up the segments of an item side by side, and one folds them in their order. */
#include "math/attention.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "math/attention_parts.h"
#include "math/kernels.h"
#include "math/panel.h"

enum {
    BLOCK_ROWS = 24,
    SPLIT_UNITS = 32,   // segments that the threads sum up before they are folded
    SPLIT_SEGMENTS = 4, // least segments of an item that is split
};

/* What the sums of a block stand at: [rows] and [rows, head_stride]. */
typedef struct sums {
    float *maximum, *sum, *acc;
} sums;

/* State and scratch of one item. Rows are (head, query), queries fastest; q and the sums are those
 * of the present key head. */
typedef struct block_state {
    const ps_attention_job *job;
    const ps_kernels *kernels;
    const ps_attention_run *run;
    int first_kv_head, n_kv_heads; // of the item
    int kv_head, group, n_queries, rows;
    int64_t first_position;
    bool kept;               // the pass over kept tokens; else over the queries' own part
    size_t head_stride;      // head_dim rounded up to 16
    float *q;                // [rows, head_dim] of the pass
    float *all_q;            // of all key heads of the item, one after the other
    float *z, *bias;         // [rows, PS_SEGMENT]
    sums so_far, all_so_far; // over all segments so far
    sums segment;            // of one segment
    float *widened;          // [PS_KV_TILE, head_stride] a tile of keys, or as many values
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
    const size_t all = rows * (stride + 2 * PS_SEGMENT + 2 * stride + 4) + PS_KV_TILE * stride +
                       ps_bias_scratch_floats(BLOCK_ROWS);
    return ps_mem_round_up(all, 16);
}

/* Sums of one unit of a split item. */
static size_t unit_floats(int group, int head_dim)
{
    const size_t stride = ps_mem_round_up((size_t)head_dim, PS_PANEL_LANES);
    return (size_t)rows_max(group) * (stride + 2);
}

size_t ps_attention_scratch_floats(int n_threads, int group, int head_dim)
{
    const size_t units = n_threads > 1 ? SPLIT_UNITS : 0;
    return (size_t)n_threads * thread_scratch_floats(group, head_dim) +
           units * unit_floats(group, head_dim);
}

/* What a query of the block sees of a segment in this pass. */
static key_range visible(const block_state *b, int query, int64_t start)
{
    const ps_visible *v = &b->job->shape.visible;
    const int64_t position = b->first_position + query;
    int64_t first = (b->kept ? 0 : ps_visible_first(v, position)) - start;
    int64_t last = (b->kept ? ps_visible_kept(v, position)
                            : ps_visible_end(v, position, ps_attention_length(b->run))) -
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

/* Values of n positions from `first` on, all in one segment. */
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
        ps_attention_find_numbers(&b->run->view, number, tile);
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
        .sequence = b->run->sequence,
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
        const int end = smaller((j / PS_KV_TILE + 1) * PS_KV_TILE, last);
        ps_dtype type;
        const void *rows_of_values = values_of(b, start + j, end - j, &type);
        const ps_panel_job job = {
            .dtype = type,
            .chain = true,
            .near = rows_of_values == b->widened,
            .rows = rows,
            .panels = (int)(stride / PS_PANEL_LANES),
            .k = end - j,
            .weights = rows_of_values,
            .k_stride = stride,
            .panel_stride = PS_PANEL_LANES,
            .x = b->z + (size_t)row * PS_SEGMENT + j,
            .x_stride = PS_SEGMENT,
            .out = b->segment.acc + (size_t)row * stride,
            .out_stride = stride,
        };
        b->kernels->panel_product(&job);
        j = end;
    }
}

/* Weights times values of a segment: ragged beginning, common middle, ragged end. */
static void values(const block_state *b, int64_t start, key_range common)
{
    memset(b->segment.acc, 0, (size_t)b->rows * b->head_stride * sizeof(float));
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

/* Folds the sums of a segment into those so far, row by row. */
static void fold(const block_state *b, const sums *segment)
{
    for (int r = 0; r < b->rows; r++) {
        if (segment->sum[r] == 0.0f) continue;
        const float before = b->so_far.maximum[r], now = segment->maximum[r];
        const float maximum = before > now ? before : now;
        const float keep = before == -INFINITY ? 0.0f : b->kernels->exp(before - maximum);
        const float take = now == maximum ? 1.0f : b->kernels->exp(now - maximum);
        const size_t at = (size_t)r * b->head_stride;
        b->so_far.sum[r] = fmaf(segment->sum[r], take, b->so_far.sum[r] * keep);
        b->so_far.maximum[r] = maximum;
        b->kernels->fold(b->so_far.acc + at, segment->acc + at, keep, take, b->job->shape.head_dim);
    }
}

/* The sums of one segment, into b->segment. False when no query sees anything of it. */
static bool sum_segment(const block_state *b, int64_t start)
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
    if (all.first >= all.last) return false;
    const ps_attention_scores_job scores = {.kernels = b->kernels,
                                            .view = &b->run->view,
                                            .kv_head = b->kv_head,
                                            .rows = b->rows,
                                            .q = b->q,
                                            .start = start,
                                            .first = all.first,
                                            .last = all.last,
                                            .widened = b->widened,
                                            .z = b->z};
    ps_attention_scores(&scores);
    if (b->job->n_biases > 0) biases(b, start, all);
    for (int r = 0; r < b->rows; r++) {
        const key_range own = visible(b, r % b->n_queries, start);
        b->segment.sum[r] = 0.0f;
        b->segment.maximum[r] = -INFINITY;
        if (own.first >= own.last) continue;
        const ps_softmax_job job = {
            .z = b->z + (size_t)r * PS_SEGMENT,
            .bias = b->job->n_biases > 0 ? b->bias + (size_t)r * PS_SEGMENT : NULL,
            .first = own.first,
            .last = own.last,
            .scale = b->job->shape.scale,
            .softcap = b->job->shape.softcap,
        };
        b->segment.maximum[r] = b->kernels->softmax(&job, &b->segment.sum[r]);
    }
    values(b, start, common);
    return true;
}

/* Makes key head number i of the item the present one. */
static void select_head(block_state *b, int i)
{
    const size_t rows = (size_t)i * (size_t)b->rows;
    b->kv_head = b->first_kv_head + i;
    b->q = b->all_q + rows * (size_t)b->job->shape.head_dim;
    b->so_far = (sums){b->all_so_far.maximum + rows, b->all_so_far.sum + rows,
                       b->all_so_far.acc + rows * b->head_stride};
}

/* Gathers the queries of the present head for a pass. */
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

/* The state that the sums of the present head start from. */
static void begin(const block_state *b)
{
    const ps_attention_job *job = b->job;
    for (int r = 0; r < b->rows; r++) {
        const size_t head = (size_t)b->kv_head * (size_t)b->group + (size_t)(r / b->n_queries);
        b->so_far.maximum[r] = job->sinks ? job->sinks[head] : job->quiet ? 0.0f : -INFINITY;
        b->so_far.sum[r] = job->sinks || job->quiet ? 1.0f : 0.0f;
    }
    memset(b->so_far.acc, 0, (size_t)b->rows * b->head_stride * sizeof(float));
}

/* Segments of a pass: [first, end), in positions. */
typedef struct span {
    int64_t first, end;
} span;

/* Chooses a pass: over kept tokens before the queries' own part, of which the last query has the
 * most, or over that part. */
static span choose_pass(block_state *b, bool kept)
{
    const ps_attention_job *job = b->job;
    const ps_visible *v = &job->shape.visible;
    const int64_t last = b->first_position + b->n_queries - 1;
    span pass = {0, ps_visible_kept(v, last)};
    b->kept = kept;
    if (!kept) {
        pass.first = ps_visible_first(v, b->first_position) / PS_SEGMENT * PS_SEGMENT;
        pass.end = ps_visible_end(v, last, ps_attention_length(b->run));
    }
    return pass;
}

/* The queries of the present head as the pass takes them. */
static void gather_for_pass(const block_state *b)
{
    gather(b, b->kept && b->job->q_kept ? b->job->q_kept : b->job->q);
}

static void run_pass(block_state *b, bool kept)
{
    const span pass = choose_pass(b, kept);
    for (int i = 0; i < b->n_kv_heads && pass.first < pass.end; i++) {
        select_head(b, i);
        gather_for_pass(b);
    }
    for (int64_t start = pass.first; start < pass.end; start += PS_SEGMENT) {
        for (int i = 0; i < b->n_kv_heads; i++) {
            select_head(b, i);
            if (sum_segment(b, start)) fold(b, &b->segment);
        }
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
        const float sum = b->so_far.sum[r];
        memcpy(out, b->so_far.acc + (size_t)r * b->head_stride, k * sizeof(float));
        if (sum != 0.0f) b->kernels->scale(out, 1.0f / sum, job->shape.head_dim);
    }
}

static void lay_out(block_state *b, float *scratch)
{
    const size_t rows = (size_t)rows_max(b->group), stride = b->head_stride;
    b->all_q = scratch;
    b->z = b->all_q + rows * stride;
    b->bias = b->z + rows * PS_SEGMENT;
    b->all_so_far.acc = b->bias + rows * PS_SEGMENT;
    b->segment.acc = b->all_so_far.acc + rows * stride;
    b->all_so_far.maximum = b->segment.acc + rows * stride;
    b->all_so_far.sum = b->all_so_far.maximum + rows;
    b->segment.maximum = b->all_so_far.sum + rows;
    b->segment.sum = b->segment.maximum + rows;
    b->widened = b->segment.sum + rows;
    b->bias_scratch = b->widened + PS_KV_TILE * stride;
}

typedef struct work {
    const ps_engine *engine;
    const ps_attention_job *job;
    int heads_per_item, items_per_block;
} work;

/* The state of an item in a thread's scratch. */
static block_state open_item(const work *w, int item, int thread)
{
    const ps_attention_job *job = w->job;
    const ps_attention_block *block = &job->blocks[item / w->items_per_block];
    const ps_attention_run *run = &job->runs[block->run];
    const int group = job->shape.n_heads / job->shape.n_kv_heads;
    const int first_head = item % w->items_per_block * w->heads_per_item;
    block_state b = {
        .job = job,
        .kernels = w->engine->kernels,
        .run = run,
        .first_kv_head = first_head,
        .n_kv_heads = smaller(w->heads_per_item, job->shape.n_kv_heads - first_head),
        .group = group,
        .n_queries = block->n_queries,
        .rows = block->n_queries * group,
        .first_position = run->first_position + block->first,
        .head_stride = ps_mem_round_up((size_t)job->shape.head_dim, PS_PANEL_LANES),
    };
    lay_out(&b, job->scratch + (size_t)thread * thread_scratch_floats(group, job->shape.head_dim));
    return b;
}

static void begin_all(block_state *b)
{
    for (int i = 0; i < b->n_kv_heads; i++) {
        select_head(b, i);
        begin(b);
    }
}

static void finish_all(block_state *b)
{
    for (int i = 0; i < b->n_kv_heads; i++) {
        select_head(b, i);
        finish(b);
    }
}

static void run_item(void *arg, int item, int thread)
{
    block_state b = open_item(arg, item, thread);
    begin_all(&b);
    run_pass(&b, true);
    run_pass(&b, false);
    finish_all(&b);
}

/* Units of a split item: (segment, key head) from `first` on, heads fastest. */
typedef struct split {
    const work *work;
    int item;
    bool kept;
    int64_t first;
    float *units; // [SPLIT_UNITS] of unit_floats
} split;

static sums sums_of_unit(const split *s, const block_state *b, int unit)
{
    float *at = s->units + (size_t)unit * unit_floats(b->group, b->job->shape.head_dim);
    return (sums){at, at + b->rows, at + 2 * b->rows};
}

static void run_unit(void *arg, int unit, int thread)
{
    const split *s = arg;
    block_state b = open_item(s->work, s->item, thread);
    b.kept = s->kept;
    b.segment = sums_of_unit(s, &b, unit);
    select_head(&b, unit % b.n_kv_heads);
    gather_for_pass(&b);
    if (!sum_segment(&b, s->first + unit / b.n_kv_heads * PS_SEGMENT))
        memset(b.segment.sum, 0, (size_t)b.rows * sizeof *b.segment.sum);
}

static void split_pass(split *s, block_state *b, bool kept)
{
    const span pass = choose_pass(b, kept);
    const int64_t step = SPLIT_UNITS / b->n_kv_heads * PS_SEGMENT;
    s->kept = kept;
    for (s->first = pass.first; s->first < pass.end; s->first += step) {
        const int64_t left = (pass.end - s->first + PS_SEGMENT - 1) / PS_SEGMENT;
        const int64_t segments = left < step / PS_SEGMENT ? left : step / PS_SEGMENT;
        const int n = (int)segments * b->n_kv_heads;
        ps_pool_run(s->work->engine->pool, n, run_unit, s);
        for (int unit = 0; unit < n; unit++) {
            const sums segment = sums_of_unit(s, b, unit);
            select_head(b, unit % b->n_kv_heads);
            fold(b, &segment);
        }
    }
}

/* An item whose segments all threads share. Its sums so far lie in scratch of thread 0 that no unit
 * writes to. */
static void run_split_item(const work *w, int item)
{
    const ps_attention_job *job = w->job;
    const int group = job->shape.n_heads / job->shape.n_kv_heads;
    const size_t threads = (size_t)ps_pool_threads(w->engine->pool);
    split s = {.work = w,
               .item = item,
               .units = job->scratch + threads * thread_scratch_floats(group, job->shape.head_dim)};
    block_state b = open_item(w, item, 0);
    begin_all(&b);
    split_pass(&s, &b, true);
    split_pass(&s, &b, false);
    finish_all(&b);
}

/* Whether the segments of an item are worth sharing out. */
static bool is_long(const work *w, int item)
{
    block_state b = open_item(w, item, 0);
    const span pass = choose_pass(&b, false);
    return pass.end - pass.first > (SPLIT_SEGMENTS - 1) * PS_SEGMENT;
}

/* Key heads of an item: as many as fill its rows, but no thread without an item. */
static int heads_per_item(const ps_attention_job *job, int n_blocks, int n_queries, int n_threads)
{
    const int kv_heads = job->shape.n_kv_heads;
    const int fit = BLOCK_ROWS / (n_queries * (job->shape.n_heads / kv_heads));
    const int share = kv_heads * n_blocks / n_threads;
    const int heads = smaller(smaller(fit, share), kv_heads);
    return heads > 1 ? heads : 1;
}

void ps_attention_forward(const ps_engine *engine, const ps_attention_job *job)
{
    assert(job->shape.n_heads % job->shape.n_kv_heads == 0);
    assert(!(job->sinks && job->quiet));
    const int per_block = queries_per_block(job->shape.n_heads / job->shape.n_kv_heads);
    int n_blocks = 0, most = 1;
    for (int r = 0; r < job->n_runs; r++) {
        const int n_rows = job->runs[r].n_rows;
        for (int first = 0; first < n_rows; first += per_block) {
            const int n_queries = smaller(per_block, n_rows - first);
            job->blocks[n_blocks++] = (ps_attention_block){r, first, n_queries};
            most = larger(most, n_queries);
        }
    }
    const int heads = heads_per_item(job, n_blocks, most, ps_pool_threads(engine->pool));
    work w = {engine, job, heads, (job->shape.n_kv_heads + heads - 1) / heads};
    const int n_items = n_blocks * w.items_per_block;
    if (n_items >= ps_pool_threads(engine->pool) || !is_long(&w, 0)) {
        ps_pool_run(engine->pool, n_items, run_item, &w);
        return;
    }
    for (int item = 0; item < n_items; item++) {
        run_split_item(&w, item);
    }
}
