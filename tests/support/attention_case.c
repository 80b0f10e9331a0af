#include "support/attention_case.h"

#include <check.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "support/floats.h"

enum { GAP = 3, COMPANY_ROWS = 5, COMPANY_KEYS = 40 };

/* Rounds vectors to what a type can hold, in blocks of 32 as math/dtype.h has them. */
static void hold(ps_dtype type, size_t n_vectors, size_t k, float *x)
{
    for (size_t i = 0; i < n_vectors; i++, x += k) {
        for (size_t t = 0; t < k; t += PS_KV_BLOCK) {
            const size_t n = k - t < PS_KV_BLOCK ? k - t : PS_KV_BLOCK;
            float block[PS_KV_BLOCK] = {0};
            char bytes[PS_KV_BLOCK * sizeof(float)];
            memcpy(block, x + t, n * sizeof *x);
            ps_dtype_narrow(type, block, PS_KV_BLOCK, bytes);
            ps_dtype_widen(type, bytes, PS_KV_BLOCK, block);
            memcpy(x + t, block, n * sizeof *x);
        }
    }
}

/* Distances that occur: those of the window, and from the end of a full cache to its kept tokens;
 * else all. */
static int64_t span_of(const attention_sizes *s)
{
    const bool bounded = s->window > 0 && (s->n_kept == 0 || s->kept_at_cache);
    return bounded ? s->window + s->n_kept : s->n;
}

attention_case attention_case_roll(const attention_sizes *s, const ps_engine *engine, dice *d)
{
    attention_case c = {.shape = {.n_heads = s->n_kv_heads * s->group,
                                  .n_kv_heads = s->n_kv_heads,
                                  .head_dim = s->head_dim,
                                  .scale = (float)(1.0 / sqrt(s->head_dim)),
                                  .softcap = s->softcap,
                                  .visible = {.window = s->window,
                                              .chunk = s->chunk,
                                              .left_chunks = s->left_chunks,
                                              .look_ahead = s->look_ahead,
                                              .n_kept = s->n_kept,
                                              .kept_at_cache = s->kept_at_cache}},
                        .types = s->types,
                        .base = s->base,
                        .n = s->n,
                        .first_query = s->first_query,
                        .width = 3 + dice_throw(d, 4)};
    const provider_shape shape = {.n_heads = c.shape.n_heads,
                                  .n_kv_heads = s->n_kv_heads,
                                  .head_dim = s->head_dim,
                                  .width = c.width,
                                  .scale = c.shape.scale,
                                  .span = span_of(s),
                                  .ahead = s->look_ahead ? s->n - 1 : 0};
    for (int i = 0; i < s->n_providers; i++) {
        providers_add(&c.list, s->kinds[i], &shape, engine, d);
    }
    const size_t n = (size_t)s->n, k = (size_t)(s->n_kv_heads * s->head_dim);
    c.x = floats_new_rolled(d, n * (size_t)c.width, -1.0, 1.0);
    c.q = floats_new_rolled(d, n * k * (size_t)s->group, -2.0, 2.0);
    c.k = floats_new_rolled(d, n * k, -2.0, 2.0);
    c.v = floats_new_rolled(d, n * k, -1.0, 1.0);
    hold(s->types.key, (size_t)(s->n * s->n_kv_heads), (size_t)s->head_dim, c.k);
    hold(s->types.value, (size_t)(s->n * s->n_kv_heads), (size_t)s->head_dim, c.v);
    if (s->kept_at_cache) c.q_kept = floats_new_rolled(d, n * k * (size_t)s->group, -2.0, 2.0);
    c.quiet = s->quiet;
    if (s->sinks) c.sinks = floats_new_rolled(d, (size_t)c.shape.n_heads, -4.0, 6.0);
    return c;
}

void attention_case_release(attention_case *c)
{
    providers_release(&c->list);
    ps_mem_free(c->x);
    ps_mem_free(c->q);
    ps_mem_free(c->k);
    ps_mem_free(c->v);
    ps_mem_free(c->q_kept);
    ps_mem_free(c->sinks);
    *c = (attention_case){0};
}

size_t attention_case_queries(const attention_case *c)
{
    return (size_t)(c->n - c->first_query);
}

static size_t query_floats(const attention_case *c)
{
    return (size_t)c->shape.n_heads * (size_t)c->shape.head_dim;
}

size_t attention_case_floats(const attention_case *c)
{
    return attention_case_queries(c) * query_floats(c);
}

/* ---- the cache of one sequence ---- */

typedef struct sequence {
    ps_kv_layout layout;
    ps_kv_view view;
    char *memory, **pages;
    uint8_t *spoiled;  // a position of NaN
    int64_t end;       // positions before it were appended
    int64_t forgotten; // positions before it are spoiled
} sequence;

/* Pages in an order of their own, full of NaN. */
static void sequence_open(sequence *s, const attention_case *c, int64_t base, int64_t n_pages,
                          int64_t n_fixed)
{
    *s = (sequence){.end = base, .forgotten = base};
    s->layout =
        ps_kv_layout_make(c->shape.n_kv_heads, c->shape.head_dim, c->list.n_numbers, c->types);
    const size_t bytes = s->layout.page_bytes;
    s->memory = ps_mem_new((size_t)n_pages, bytes);
    memset(s->memory, 0xFF, (size_t)n_pages * bytes); // NaN in every type
    s->pages = ps_mem_new((size_t)n_pages, sizeof *s->pages);
    for (int64_t i = 0; i < n_pages; i++) {
        const int64_t at = i % 2 ? i / 2 : n_pages - 1 - i / 2;
        s->pages[i] = s->memory + (size_t)at * bytes;
    }
    s->spoiled = ps_mem_new(ps_kv_position_bytes(&s->layout), 1);
    memset(s->spoiled, 0xFF, ps_kv_position_bytes(&s->layout));
    s->view = (ps_kv_view){
        .layout = &s->layout, .pages = s->pages, .n_pages = (int)n_pages, .n_fixed = (int)n_fixed};
    // Sums over the sequence go on from 0.
    for (int i = 0; i < c->list.n_numbers && base > 0; i++) {
        *ps_kv_number(&s->view, base - 1, i) = 0.0f;
    }
}

static void sequence_close(sequence *s)
{
    ps_mem_free(s->spoiled);
    ps_mem_free(s->memory);
    ps_mem_free(s->pages);
}

/* Spoils the slot of a position that no query will see again, unless a later one has it already. */
static void forget(sequence *s, int64_t position)
{
    const int64_t ring = (int64_t)(s->view.n_pages - s->view.n_fixed) * PS_KV_PAGE;
    if (position >= (int64_t)s->view.n_fixed * PS_KV_PAGE && position < s->end - ring) return;
    ps_kv_write_position(&s->view, position, s->spoiled);
}

/* Appends key `key` of the case at the sequence's end. features: [list.n_features], numbers:
 * [list.n_numbers], out. */
static void append(sequence *s, const attention_case *c, int key, float *features, float *numbers)
{
    const size_t k = (size_t)(c->shape.n_kv_heads * c->shape.head_dim), i = (size_t)key;
    const ps_bias_row row = {.position = s->end,
                             .x = c->x + i * (size_t)c->width,
                             .q = c->q + i * query_floats(c),
                             .k = c->k + i * k,
                             .features = features,
                             .numbers = numbers};
    providers_prepare(&c->list, &row);
    ck_assert(ps_kv_append(&s->view, s->end, c->k + i * k, c->v + i * k, numbers));
    ck_assert(floats_untouched(numbers + c->list.n_numbers, GAP));
    s->end++;
}

/* ---- one job after the other ---- */

typedef struct parcel {
    int rows;
    size_t q_stride, out_stride, feature_stride, number_stride;
    float *q, *q_kept, *out, *features, *numbers; // [rows, their strides]
    float *before;                                // [number_stride]
    float *scratch;
    size_t scratch_floats;
    ps_attention_block *blocks;
} parcel;

static parcel parcel_new(const attention_case *c, int rows, int n_threads)
{
    const size_t q = query_floats(c), n = (size_t)rows;
    parcel p = {.rows = rows,
                .q_stride = q + GAP,
                .out_stride = q + 2 * GAP,
                .feature_stride = (size_t)c->list.n_features + GAP,
                .number_stride = (size_t)c->list.n_numbers + GAP};
    p.q = floats_new_poisoned(n * p.q_stride);
    p.q_kept = floats_new_poisoned(n * p.q_stride);
    p.out = floats_new_poisoned(n * p.out_stride);
    p.features = floats_new_poisoned(n * p.feature_stride);
    p.numbers = floats_new_poisoned(n * p.number_stride);
    p.before = floats_new_poisoned(p.number_stride);
    p.scratch_floats = ps_attention_scratch_floats(
        n_threads, c->shape.n_heads / c->shape.n_kv_heads, c->shape.head_dim);
    p.scratch = floats_new_poisoned(p.scratch_floats + 1);
    p.blocks = ps_mem_new(n, sizeof *p.blocks);
    return p;
}

static void parcel_release(parcel *p)
{
    ck_assert_msg(floats_untouched(p->scratch + p->scratch_floats, 1), "written behind scratch");
    ps_mem_free(p->q);
    ps_mem_free(p->q_kept);
    ps_mem_free(p->out);
    ps_mem_free(p->features);
    ps_mem_free(p->numbers);
    ps_mem_free(p->before);
    ps_mem_free(p->scratch);
    ps_mem_free(p->blocks);
}

/* Appends n keys of the case from `key` on, as rows from `row` on: a run. */
static ps_attention_run add_run(const attention_case *c, parcel *p, sequence *s, int key, int row,
                                int n)
{
    const ps_attention_run run = {
        .first_row = row, .n_rows = n, .first_position = s->end, .view = s->view};
    for (int i = 0; i < n; i++) {
        const size_t at = (size_t)(row + i);
        memcpy(p->q + at * p->q_stride, c->q + (size_t)(key + i) * query_floats(c),
               query_floats(c) * sizeof(float));
        if (c->q_kept)
            memcpy(p->q_kept + at * p->q_stride, c->q_kept + (size_t)(key + i) * query_floats(c),
                   query_floats(c) * sizeof(float));
        float *numbers = p->numbers + at * p->number_stride;
        floats_poison(numbers, p->number_stride);
        append(s, c, key + i, p->features + at * p->feature_stride, numbers);
    }
    const ps_bias_run rows = {.n_rows = n,
                              .first = run.first_position,
                              .view = &run.view,
                              .features = p->features + (size_t)row * p->feature_stride,
                              .numbers = p->numbers + (size_t)row * p->number_stride,
                              .feature_stride = p->feature_stride,
                              .number_stride = p->number_stride,
                              .before = p->before};
    providers_accumulate(&c->list, &rows);
    return run;
}

static void forward(const attention_case *c, const ps_engine *engine, parcel *p,
                    const ps_attention_run *runs, int n_runs)
{
    const ps_attention_job job = {.shape = c->shape,
                                  .runs = runs,
                                  .n_runs = n_runs,
                                  .q = p->q,
                                  .q_kept = c->q_kept ? p->q_kept : NULL,
                                  .q_stride = p->q_stride,
                                  .out = p->out,
                                  .out_stride = p->out_stride,
                                  .sinks = c->sinks,
                                  .quiet = c->quiet,
                                  .biases = c->list.bias,
                                  .n_biases = c->list.n,
                                  .features = p->features,
                                  .feature_stride = p->feature_stride,
                                  .blocks = p->blocks,
                                  .scratch = p->scratch};
    floats_poison(p->out, (size_t)p->rows * p->out_stride);
    ps_attention_forward(engine, &job);
    if (c->look) c->look(c->look_arg, engine, &job);
}

/* Moves n results from row `row` on to `out`; whatever is not in a run must not be written. */
static void collect(const attention_case *c, const parcel *p, int row, int n, int end_row,
                    float *out)
{
    const size_t q = query_floats(c);
    for (int r = 0; r < p->rows; r++) {
        const float *from = p->out + (size_t)r * p->out_stride;
        const size_t used = r < end_row ? q : 0;
        ck_assert_msg(floats_untouched(from + used, p->out_stride - used), "written beside row %d",
                      r);
        if (r >= row && r < row + n) memcpy(out + (size_t)(r - row) * q, from, q * sizeof *out);
    }
}

static bool is_ring(const attention_case *c, const attention_way *way)
{
    return way->ring && ps_visible_reach(&c->shape.visible) > 0;
}

static int64_t fixed_pages(const attention_case *c, const attention_way *way)
{
    return is_ring(c, way) ? (c->shape.visible.n_kept + PS_KV_PAGE - 1) / PS_KV_PAGE : 0;
}

/* A page table as model/cache.c sizes it for what is visible, or one that never wraps. */
static int64_t table_pages(const attention_case *c, const attention_way *way)
{
    const int64_t reach = ps_visible_reach(&c->shape.visible);
    if (is_ring(c, way)) return fixed_pages(c, way) + (reach + way->chunk - 2) / PS_KV_PAGE + 2;
    return c->n / PS_KV_PAGE + 2;
}

/* Spoils what the next query does not see, but for the last position, whose sums go on. */
static void forget_unseen(const attention_case *c, sequence *s)
{
    const int64_t first = ps_visible_first(&c->shape.visible, s->end);
    for (; s->forgotten < first && s->forgotten < s->end - 1; s->forgotten++) {
        if (s->forgotten >= c->shape.visible.n_kept) forget(s, s->forgotten);
    }
}

/* One job: the next n keys of the case as rows, and with company some rows of another sequence
 * before them and one behind, as long as that one has keys. */
static void one_job(const attention_case *c, const ps_engine *engine, const attention_way *way,
                    parcel *p, sequence *own, sequence *other, int key, int n, float *out)
{
    const int other_keys = !way->company ? 0 : c->n < COMPANY_KEYS ? c->n : COMPANY_KEYS;
    ps_attention_run runs[3];
    int n_runs = 0, row = 0;
    if (other->end < other_keys) {
        const int left = other_keys - (int)other->end;
        row = left < COMPANY_ROWS ? left : COMPANY_ROWS;
        runs[n_runs++] = add_run(c, p, other, (int)other->end, 0, row);
    }
    const int first_row = row;
    runs[n_runs++] = add_run(c, p, own, key, row, n);
    row += n;
    if (other->end < other_keys) {
        runs[n_runs++] = add_run(c, p, other, (int)other->end, row, 1);
        row++;
    }
    forward(c, engine, p, runs, n_runs);
    collect(c, p, first_row, n, row, out);
}

void attention_case_run(const attention_case *c, const ps_engine *engine, const attention_way *way,
                        float *out)
{
    sequence own, other;
    sequence_open(&own, c, c->base, table_pages(c, way), fixed_pages(c, way));
    sequence_open(&other, c, 0, 1 + COMPANY_KEYS / PS_KV_PAGE, 0);
    parcel p = parcel_new(c, way->chunk + COMPANY_ROWS + 1, ps_pool_threads(engine->pool));
    for (int key = 0; key < c->n;) {
        const int limit = key < c->first_query ? c->first_query : c->n;
        const int n = limit - key < way->chunk ? limit - key : way->chunk;
        if (key < c->first_query) {
            add_run(c, &p, &own, key, 0, n);
        } else {
            one_job(c, engine, way, &p, &own, &other, key, n,
                    out + (size_t)(key - c->first_query) * query_floats(c));
        }
        key += n;
        forget_unseen(c, &own);
    }
    parcel_release(&p);
    sequence_close(&own);
    sequence_close(&other);
}
