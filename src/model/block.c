/* The one decoder block: what differs between families is data in the spec (model/spec.h has the
 * formulas).
 *
 * Work over rows is dealt in groups of eight rows; fewer stay on the calling thread, where a
 * hand-over would cost more than the work. */
#include "model/block.h"

#include <string.h>

#include "math/kernels.h"
#include "math/panel.h"

enum { ROWS_PER_ITEM = 8 };

typedef struct row_work {
    ps_block_row *function;
    void *arg;
    int n;
} row_work;

static void run_rows(void *arg, int item, int thread)
{
    (void)thread;
    const row_work *w = arg;
    const int end = (item + 1) * ROWS_PER_ITEM < w->n ? (item + 1) * ROWS_PER_ITEM : w->n;
    for (int row = item * ROWS_PER_ITEM; row < end; row++) {
        w->function(w->arg, row);
    }
}

void ps_block_each_row(const ps_engine *engine, int n, ps_block_row *function, void *arg)
{
    row_work w = {function, arg, n};
    ps_pool_run(engine->pool, (n + ROWS_PER_ITEM - 1) / ROWS_PER_ITEM, run_rows, &w);
}

void ps_block_activate(const ps_block *b, float *gate, const float *up, int n)
{
    const ps_spec *s = b->spec;
    const ps_activation activation = {
        .kind = s->activation, .alpha = (float)s->swiglu_alpha, .limit = (float)s->swiglu_limit};
    b->engine->kernels->activate(&activation, s->gated ? gate : up, s->gated ? up : NULL, gate, n);
}

/* One layer's pass over the rows of a parcel. */
typedef struct pass {
    const ps_block *block;
    const ps_rows *rows;
    float *x;           // [R, d_stride] the residual stream
    const float *input; // [R, d_stride] of the part being computed: normed, or x
} pass;

static void norm(const ps_block *b, const float *x, const float *weight, const float *bias, int n,
                 float *out)
{
    const float eps = (float)b->spec->norm_eps;
    if (b->spec->norm == PS_NORM_LAYER) {
        b->engine->kernels->layer_norm(x, weight, bias, n, eps, out);
    } else {
        b->engine->kernels->rms_norm(x, weight, n, eps, out);
    }
}

static void norm_row(const pass *p, const ps_norm *weights, int row)
{
    const ps_workspace *w = p->block->work;
    const size_t at = (size_t)row * w->d_stride;
    norm(p->block, p->x + at, weights->weight, weights->bias, p->block->spec->d_model,
         w->normed + at);
}

static void attention_norm_row(void *arg, int row)
{
    const pass *p = arg;
    norm_row(p, &p->block->weights->attention_norm, row);
}

/* q or k of one row, by the kind of norm that the spec has. */
static void norm_heads(const ps_block *b, float *x, int n_heads, const float *weight)
{
    const int k = b->spec->head_dim;
    if (b->spec->qk_norm == PS_QK_NORM_ALL) {
        norm(b, x, weight, NULL, n_heads * k, x);
        return;
    }
    const size_t step = b->spec->qk_norm == PS_QK_NORM_HEADS ? (size_t)k : 0;
    for (int h = 0; h < n_heads; h++) {
        float *head = x + (size_t)h * (size_t)k;
        norm(b, head, weight + (size_t)h * step, NULL, k, head);
    }
}

/* Bias providers take what they need from the row before it is rotated. */
static void prepare_biases(const pass *p, int row)
{
    const ps_block *b = p->block;
    const ps_workspace *w = b->work;
    ps_bias_row r = {.kernels = b->engine->kernels,
                     .sequence = p->rows->slot[row],
                     .position = p->rows->position[row],
                     .hidden = p->rows->hidden && p->rows->hidden[row],
                     .x = p->input + (size_t)row * w->d_stride,
                     .q = w->q + (size_t)row * w->q_stride,
                     .k = w->k + (size_t)row * w->k_stride,
                     .projected = w->projected + (size_t)row * w->projected_stride,
                     .features = w->features + (size_t)row * w->feature_stride,
                     .numbers = w->numbers + (size_t)row * w->number_stride};
    for (int i = 0; i < b->weights->n_biases; i++) {
        const ps_bias *bias = &b->weights->biases[i];
        ps_bias_prepare_row(bias, &r);
        r.features += ps_bias_features(bias);
        r.numbers += ps_bias_numbers(bias);
        r.projected += ps_mem_round_up((size_t)ps_bias_projected(bias), PS_PANEL_LANES);
    }
}

/* Providers that sum over the sequence, run by run, after all rows are appended. */
static void accumulate_biases(const ps_block *b)
{
    const ps_workspace *w = b->work;
    size_t feature = 0, number = 0;
    for (int i = 0; i < b->weights->n_biases; i++) {
        const ps_bias *bias = &b->weights->biases[i];
        for (int r = 0; r < w->n_runs && ps_bias_accumulates(bias); r++) {
            const ps_attention_run *run = &w->runs[r];
            const size_t row = (size_t)run->first_row;
            const ps_bias_run rows = {.sequence = run->sequence,
                                      .n_rows = run->n_rows,
                                      .first = run->first_position,
                                      .view = &run->view,
                                      .number_at = (int)number,
                                      .features = w->features + row * w->feature_stride + feature,
                                      .numbers = w->numbers + row * w->number_stride + number,
                                      .feature_stride = w->feature_stride,
                                      .number_stride = w->number_stride,
                                      .before = w->numbers_before};
            ps_bias_accumulate_run(bias, &rows);
        }
        feature += (size_t)ps_bias_features(bias);
        number += (size_t)ps_bias_numbers(bias);
    }
}

/* The query again, rotated for its place in a cache of the kept tokens and the window; that is its
 * own position as long as such a cache is not full. */
static void rotate_kept(const ps_block *b, int64_t position, int row, const float *cosine,
                        const float *sine)
{
    const ps_workspace *w = b->work;
    const size_t k = (size_t)b->spec->head_dim, n = (size_t)b->spec->n_heads * k;
    const ps_visible visible = ps_spec_visible(b->spec, b->layer);
    const size_t at = (size_t)b->local_layer * (k / 2);
    const bool full = ps_visible_kept_query(&visible, position) != position;
    float *q = w->q_kept + (size_t)row * w->q_stride;
    memcpy(q, w->q + (size_t)row * w->q_stride, n * sizeof *q);
    ps_rope_rotate(b->engine, q, b->spec->n_heads, k, full ? w->kept_cosine + at : cosine,
                   full ? w->kept_sine + at : sine,
                   b->spec->ropes[b->spec->layers[b->layer].rope].dims / 2);
}

static void rotate(const ps_block *b, int64_t position, int row)
{
    const int rope = b->spec->layers[b->layer].rope;
    if (rope < 0) return;
    const ps_workspace *w = b->work;
    const size_t k = (size_t)b->spec->head_dim;
    const int half = b->spec->ropes[rope].dims / 2;
    const size_t at = ((size_t)rope * (size_t)w->rows_max + (size_t)row) * (k / 2);
    if (w->q_kept) rotate_kept(b, position, row, w->cosine + at, w->sine + at);
    ps_rope_rotate(b->engine, w->q + (size_t)row * w->q_stride, b->spec->n_heads, k, w->cosine + at,
                   w->sine + at, half);
    ps_rope_rotate(b->engine, w->k + (size_t)row * w->k_stride, b->spec->n_kv_heads, k,
                   w->cosine + at, w->sine + at, half);
}

static void clip_row(const ps_block *b, float *q, float *k, float *v)
{
    const ps_spec *s = b->spec;
    const ps_kernels *kernels = b->engine->kernels;
    kernels->clip(q, (float)s->qkv_clip, s->n_heads * s->head_dim);
    kernels->clip(k, (float)s->qkv_clip, s->n_kv_heads * s->head_dim);
    kernels->clip(v, (float)s->qkv_clip, s->n_kv_heads * s->head_dim);
}

/* Everything between the projections and the scores. */
static void qkv_row(void *arg, int row)
{
    const pass *p = arg;
    const ps_block *b = p->block;
    const ps_workspace *w = b->work;
    float *q = w->q + (size_t)row * w->q_stride;
    float *k = w->k + (size_t)row * w->k_stride, *v = w->v + (size_t)row * w->k_stride;
    if (b->spec->qkv_clip > 0.0) clip_row(b, q, k, v);
    if (b->weights->q_norm) {
        norm_heads(b, q, b->spec->n_heads, b->weights->q_norm);
        norm_heads(b, k, b->spec->n_kv_heads, b->weights->k_norm);
    }
    prepare_biases(p, row);
    rotate(b, p->rows->position[row], row);
    const ps_kv_view view = ps_cache_view(b->cache, b->local_layer, p->rows->slot[row]);
    if (!ps_kv_append(&view, p->rows->position[row], k, v,
                      w->numbers + (size_t)row * w->number_stride))
        atomic_store_explicit(&b->work->overflow, true, memory_order_relaxed);
}

/* x += residual_scale * (post norm of) added */
static void add_row(const pass *p, const float *post_norm, int row)
{
    const ps_block *b = p->block;
    const size_t at = (size_t)row * b->work->d_stride;
    const int d = b->spec->d_model;
    float *added = b->work->added + at;
    if (post_norm) norm(b, added, post_norm, NULL, d, added);
    if (b->spec->residual_scale != 1.0)
        b->engine->kernels->scale(added, (float)b->spec->residual_scale, d);
    b->engine->kernels->add(added, p->x + at, d);
}

/* The attention's output goes into x; the input of the feed-forward part is made before that in
 * parallel blocks, after it in sequential ones. */
static void after_attention_row(void *arg, int row)
{
    const pass *p = arg;
    const ps_spec *s = p->block->spec;
    const ps_layer_weights *lw = p->block->weights;
    const bool own_norm = s->pre_norm && !s->shared_norm;
    if (own_norm && s->parallel) norm_row(p, &lw->mlp_norm, row);
    add_row(p, lw->attention_post_norm, row);
    if (own_norm && !s->parallel) norm_row(p, &lw->mlp_norm, row);
}

static void after_mlp_row(void *arg, int row)
{
    const pass *p = arg;
    add_row(p, p->block->weights->mlp_post_norm, row);
}

/* The runs' places in this layer's cache. */
static void find_views(const ps_block *b)
{
    ps_workspace *w = b->work;
    for (int r = 0; r < w->n_runs; r++) {
        w->runs[r].view = ps_cache_view(b->cache, b->local_layer, w->runs[r].sequence);
    }
}

static void attend(const ps_block *b)
{
    ps_workspace *w = b->work;
    const ps_attention_job job = {
        .shape = {.n_heads = b->spec->n_heads,
                  .n_kv_heads = b->spec->n_kv_heads,
                  .head_dim = b->spec->head_dim,
                  .scale = (float)b->spec->attention_scale,
                  .softcap = (float)b->spec->softcap,
                  .visible = ps_spec_visible(b->spec, b->layer)},
        .runs = w->runs,
        .n_runs = w->n_runs,
        .q = w->q,
        .q_kept = b->spec->layers[b->layer].rope >= 0 ? w->q_kept : NULL,
        .q_stride = w->q_stride,
        .out = w->attended,
        .out_stride = w->q_stride,
        .sinks = b->weights->sinks,
        .quiet = b->spec->quiet_softmax,
        .biases = b->weights->biases,
        .n_biases = b->weights->n_biases,
        .features = w->features,
        .feature_stride = w->feature_stride,
        .blocks = w->blocks,
        .scratch = w->attention,
    };
    ps_attention_forward(b->engine, &job);
    if (b->observer) b->observer(b->observer_arg, b->engine, b->layer, &job);
}

/* What attention gave, times the gates of the row. */
static void gate_row(void *arg, int row)
{
    const ps_block *b = ((const pass *)arg)->block;
    const ps_workspace *w = b->work;
    const ps_kernels *kernels = b->engine->kernels;
    const int k = b->spec->head_dim;
    const float *gates = w->output_gate + (size_t)row * w->gate_stride;
    float *attended = w->attended + (size_t)row * w->q_stride;
    if (b->spec->output_gate == PS_OUTPUT_GATE_ELEMENTS) {
        kernels->gate(gates, attended, b->spec->n_heads * k);
        return;
    }
    for (int h = 0; h < b->spec->n_heads; h++) {
        float open = 1.0f;
        kernels->gate(&gates[h], &open, 1);
        kernels->scale(attended + (size_t)h * (size_t)k, open, k);
    }
}

/* All products with the layer's input: q, k, v, the output gate, and the providers' own. */
static void project(const pass *p)
{
    const ps_block *b = p->block;
    const ps_workspace *w = b->work;
    const ps_layer_weights *lw = b->weights;
    const int n = p->rows->n;
    ps_linear_call calls[4 + PS_BIAS_MAX] = {
        ps_linear_call_make(&lw->q, p->input, w->d_stride, w->q, w->q_stride, n),
        ps_linear_call_make(&lw->k, p->input, w->d_stride, w->k, w->k_stride, n),
        ps_linear_call_make(&lw->v, p->input, w->d_stride, w->v, w->k_stride, n)};
    int n_calls = 3;
    if (b->spec->output_gate != PS_OUTPUT_GATE_NONE)
        calls[n_calls++] = ps_linear_call_make(&lw->output_gate, p->input, w->d_stride,
                                               w->output_gate, w->gate_stride, n);
    size_t at = 0;
    for (int i = 0; i < lw->n_biases; i++) {
        const ps_bias *bias = &lw->biases[i];
        if (!bias->projection) continue;
        calls[n_calls++] = ps_linear_call_make(bias->projection, p->input, w->d_stride,
                                               w->projected + at, w->projected_stride, n);
        at += ps_mem_round_up((size_t)ps_bias_projected(bias), PS_PANEL_LANES);
    }
    ps_linear_forward(b->engine, calls, n_calls, &w->linear);
}

/* added = Wo attention(q, k, v) */
static void attention(pass *p)
{
    const ps_block *b = p->block;
    const ps_workspace *w = b->work;
    const int n = p->rows->n;
    project(p);
    ps_block_each_row(b->engine, n, qkv_row, p);
    find_views(b);
    accumulate_biases(b);
    attend(b);
    if (b->spec->output_gate != PS_OUTPUT_GATE_NONE) ps_block_each_row(b->engine, n, gate_row, p);
    const ps_linear_call out =
        ps_linear_call_make(&b->weights->o, w->attended, w->q_stride, w->added, w->d_stride, n);
    ps_linear_forward(b->engine, &out, 1, &w->linear);
}

typedef struct dense {
    const ps_block *block;
    ps_linear_call down;
} dense;

/* Columns of gate and up become columns of the input of W_down while their thread has them at hand. */
static void activate_columns(void *arg, int first, int end)
{
    const dense *m = arg;
    const ps_block *b = m->block;
    const ps_workspace *w = b->work;
    for (int row = 0; row < m->down.rows; row++) {
        const size_t at = (size_t)row * w->f_stride + (size_t)first;
        ps_block_activate(b, w->gate + at, w->up + at, end - first);
        ps_linear_round_columns(b->engine, &m->down, row, first, end);
    }
}

/* added = Wdown act(...) */
static void dense_mlp(pass *p)
{
    const ps_block *b = p->block;
    const ps_workspace *w = b->work;
    const ps_layer_weights *lw = b->weights;
    const int n = p->rows->n;
    const ps_linear_call in[2] = {
        ps_linear_call_make(&lw->up, p->input, w->d_stride, w->up, w->f_stride, n),
        ps_linear_call_make(&lw->gate, p->input, w->d_stride, w->gate, w->f_stride, n)};
    dense m = {b, ps_linear_call_make(&lw->down, w->gate, w->f_stride, w->added, w->d_stride, n)};
    ps_linear_expect(b->engine, &m.down, &w->down);
    ps_linear_forward_side_by_side(b->engine, in, b->spec->gated ? 2 : 1, activate_columns, &m,
                                   &w->linear);
    ps_linear_forward(b->engine, &m.down, 1, &w->linear);
}

void ps_block_forward(const ps_block *b, const ps_rows *rows, float *x)
{
    const bool pre_norm = b->spec->pre_norm;
    pass p = {.block = b, .rows = rows, .x = x, .input = pre_norm ? b->work->normed : x};
    if (pre_norm) ps_block_each_row(b->engine, rows->n, attention_norm_row, &p);
    attention(&p);
    ps_block_each_row(b->engine, rows->n, after_attention_row, &p);
    if (b->spec->layers[b->layer].mixture) {
        ps_mixture_forward(b, p.input, rows->n);
    } else {
        dense_mlp(&p);
    }
    ps_block_each_row(b->engine, rows->n, after_mlp_row, &p);
}
