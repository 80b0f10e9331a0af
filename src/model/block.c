/* The one decoder block: what differs between families is data in the spec.
 *
 *   n = norm(x);  q, k, v = W n + b;  [q, k normed per head];  bias providers prepare;  q, k
 * rotated; k, v appended;  x += Wo attention + b;  n = norm(x);  x += Wdown (silu(Wgate n) * (Wup
 * n)) + b
 *
 * Work over rows is dealt in groups of eight rows; fewer stay on the calling thread, where a
 * hand-over would cost more than the work. */
#include "model/block.h"

#include "math/kernels.h"

enum { ROWS_PER_ITEM = 8 };

typedef void row_function(const ps_block *block, const ps_rows *rows, int row, float *x);

typedef struct row_work {
    const ps_block *block;
    const ps_rows *rows;
    row_function *function;
    float *x;
} row_work;

static void run_rows(void *arg, int item, int thread)
{
    (void)thread;
    const row_work *w = arg;
    const int end =
        (item + 1) * ROWS_PER_ITEM < w->rows->n ? (item + 1) * ROWS_PER_ITEM : w->rows->n;
    for (int row = item * ROWS_PER_ITEM; row < end; row++) {
        w->function(w->block, w->rows, row, w->x);
    }
}

static void each_row(const ps_block *block, const ps_rows *rows, row_function *function, float *x)
{
    row_work w = {block, rows, function, x};
    const int items = (rows->n + ROWS_PER_ITEM - 1) / ROWS_PER_ITEM;
    ps_pool_run(block->engine->pool, items, run_rows, &w);
}

static void norm_row(const ps_block *b, const float *x, const float *weight, int row)
{
    const ps_workspace *w = b->work;
    b->engine->kernels->rms_norm(x + (size_t)row * w->d_stride, weight, b->spec->d_model,
                                 (float)b->spec->norm_eps, w->normed + (size_t)row * w->d_stride);
}

static void attention_norm_row(const ps_block *b, const ps_rows *rows, int row, float *x)
{
    (void)rows;
    norm_row(b, x, b->weights->attention_norm, row);
}

static void norm_heads(const ps_block *b, float *x, int n_heads, const float *weight)
{
    const int k = b->spec->head_dim;
    for (int h = 0; h < n_heads; h++) {
        float *head = x + (size_t)h * (size_t)k;
        b->engine->kernels->rms_norm(head, weight, k, (float)b->spec->norm_eps, head);
    }
}

/* Bias providers take what they need from the row before it is rotated. */
static void prepare_biases(const ps_block *b, int64_t position, int row)
{
    const ps_workspace *w = b->work;
    ps_bias_row r = {.position = position,
                     .x = w->normed + (size_t)row * w->d_stride,
                     .q = w->q + (size_t)row * w->q_stride,
                     .k = w->k + (size_t)row * w->k_stride,
                     .features = w->features + (size_t)row * w->feature_stride,
                     .numbers = w->numbers + (size_t)row * w->number_stride};
    for (int p = 0; p < b->weights->n_biases; p++) {
        const ps_bias *bias = &b->weights->biases[p];
        ps_bias_prepare_row(bias, &r);
        r.features += ps_bias_features(bias);
        r.numbers += ps_bias_numbers(bias);
    }
}

static void rotate(const ps_block *b, int row)
{
    const int rope = b->spec->layers[b->layer].rope;
    if (rope < 0) return;
    const ps_workspace *w = b->work;
    const size_t k = (size_t)b->spec->head_dim;
    const int half = b->spec->ropes[rope].dims / 2;
    const size_t at = ((size_t)rope * (size_t)w->rows_max + (size_t)row) * (k / 2);
    ps_rope_rotate(b->engine, w->q + (size_t)row * w->q_stride, b->spec->n_heads, k, w->cosine + at,
                   w->sine + at, half);
    ps_rope_rotate(b->engine, w->k + (size_t)row * w->k_stride, b->spec->n_kv_heads, k,
                   w->cosine + at, w->sine + at, half);
}

/* Everything between the projections and the scores. */
static void qkv_row(const ps_block *b, const ps_rows *rows, int row, float *x)
{
    (void)x;
    const ps_workspace *w = b->work;
    float *q = w->q + (size_t)row * w->q_stride, *k = w->k + (size_t)row * w->k_stride;
    if (b->weights->q_norm) {
        norm_heads(b, q, b->spec->n_heads, b->weights->q_norm);
        norm_heads(b, k, b->spec->n_kv_heads, b->weights->k_norm);
    }
    prepare_biases(b, rows->position[row], row);
    rotate(b, row);
    const ps_kv_view view = ps_cache_view(b->cache, b->local_layer, rows->slot[row]);
    ps_kv_append(&view, rows->position[row], k, w->v + (size_t)row * w->k_stride,
                 w->numbers + (size_t)row * w->number_stride);
}

static void add_row(const ps_block *b, int row, float *x)
{
    const size_t at = (size_t)row * b->work->d_stride;
    b->engine->kernels->add(b->work->added + at, x + at, b->spec->d_model);
}

static void add_and_norm_row(const ps_block *b, const ps_rows *rows, int row, float *x)
{
    (void)rows;
    add_row(b, row, x);
    norm_row(b, x, b->weights->mlp_norm, row);
}

static void activate_row(const ps_block *b, const ps_rows *rows, int row, float *x)
{
    (void)rows;
    (void)x;
    float *gate = b->work->gate + (size_t)row * b->work->f_stride;
    const float *up = b->work->up + (size_t)row * b->work->f_stride;
    b->engine->kernels->silu_mul(gate, up, gate, b->spec->d_ff);
}

static void add_only_row(const ps_block *b, const ps_rows *rows, int row, float *x)
{
    (void)rows;
    add_row(b, row, x);
}

static void attend(const ps_block *b)
{
    ps_workspace *w = b->work;
    for (int r = 0; r < w->n_runs; r++) {
        w->runs[r].view = ps_cache_view(b->cache, b->local_layer, w->run_slot[r]);
    }
    const ps_attention_job job = {
        .shape = {.n_heads = b->spec->n_heads,
                  .n_kv_heads = b->spec->n_kv_heads,
                  .head_dim = b->spec->head_dim,
                  .scale = (float)b->spec->attention_scale,
                  .window = b->spec->layers[b->layer].window},
        .runs = w->runs,
        .n_runs = w->n_runs,
        .q = w->q,
        .q_stride = w->q_stride,
        .out = w->attended,
        .out_stride = w->q_stride,
        .biases = b->weights->biases,
        .n_biases = b->weights->n_biases,
        .features = w->features,
        .feature_stride = w->feature_stride,
        .blocks = w->blocks,
        .scratch = w->attention,
    };
    ps_attention_forward(b->engine, &job);
}

void ps_block_forward(const ps_block *b, const ps_rows *rows, float *x)
{
    const ps_workspace *w = b->work;
    const ps_layer_weights *lw = b->weights;
    const int n = rows->n;
    each_row(b, rows, attention_norm_row, x);
    const ps_linear_call qkv[3] = {{&lw->q, w->normed, w->d_stride, w->q, w->q_stride, n},
                                   {&lw->k, w->normed, w->d_stride, w->k, w->k_stride, n},
                                   {&lw->v, w->normed, w->d_stride, w->v, w->k_stride, n}};
    ps_linear_forward(b->engine, qkv, 3, &w->linear);
    each_row(b, rows, qkv_row, x);
    attend(b);
    const ps_linear_call out = {&lw->o, w->attended, w->q_stride, w->added, w->d_stride, n};
    ps_linear_forward(b->engine, &out, 1, &w->linear);
    each_row(b, rows, add_and_norm_row, x);
    const ps_linear_call gate_up[2] = {{&lw->gate, w->normed, w->d_stride, w->gate, w->f_stride, n},
                                       {&lw->up, w->normed, w->d_stride, w->up, w->f_stride, n}};
    ps_linear_forward(b->engine, gate_up, 2, &w->linear);
    each_row(b, rows, activate_row, x);
    const ps_linear_call down = {&lw->down, w->gate, w->f_stride, w->added, w->d_stride, n};
    ps_linear_forward(b->engine, &down, 1, &w->linear);
    each_row(b, rows, add_only_row, x);
}
