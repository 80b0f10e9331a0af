/* Ties weights, caches and scratch of a stage together. Scratch is laid out by one function that
 * also counts for the plan. */
#include "model/stage_model.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "math/kernels.h"
#include "math/panel.h"
#include "model/block.h"
#include "model/cache_file.h"
#include "model/head.h"

struct ps_stage_model {
    const ps_ckpt *ckpt;
    ps_part part;
    ps_limits limits;
    const ps_engine *engine;
    ps_weights weights;
    ps_cache cache;
    ps_region region;
    ps_workspace work;
    ps_head head;
    int64_t map_ns, verify_ns; // what open took
    ps_observer *observer;
    void *observer_arg;
    ps_attention_observer *attention_observer;
    void *attention_observer_arg;
};

static size_t round16(size_t n)
{
    return ps_mem_round_up(n, PS_PANEL_LANES);
}

size_t ps_stage_stride(const ps_spec *spec)
{
    return round16((size_t)spec->d_model);
}

size_t ps_stage_logits_stride(const ps_spec *spec)
{
    return round16((size_t)ps_spec_head_size(spec));
}

static int larger(int a, int b)
{
    return a > b ? a : b;
}

static size_t larger_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void most_bias_needs(const ps_spec *spec, const ps_part *part, const ps_own_biases *own,
                            ps_workspace *w)
{
    for (int l = part->first_layer; l < part->end_layer; l++) {
        const int features = ps_spec_layer_features(spec, l) + ps_own_biases_features(own, l);
        const int numbers = ps_spec_layer_numbers(spec, l) + ps_own_biases_numbers(own, l);
        w->feature_stride = larger_size(w->feature_stride, round16((size_t)features));
        w->number_stride = larger_size(w->number_stride, round16((size_t)numbers));
        w->projected_stride = larger_size(w->projected_stride, ps_spec_layer_projected(spec, l) +
                                                                   ps_own_biases_projected(own, l));
    }
}

/* The widest input of any product of the part. */
static int widest_input(const ps_spec *spec)
{
    const int mlp = larger(spec->d_ff, spec->d_ff_expert);
    return larger(larger(spec->d_model, mlp), spec->n_heads * spec->head_dim);
}

static void lay_out_mixture(const ps_spec *spec, const ps_part *part, size_t rows, size_t d_stride,
                            ps_arena *arena, ps_mixture_work *m)
{
    bool any = false;
    for (int l = part->first_layer; l < part->end_layer; l++) {
        any = any || spec->layers[l].mixture;
    }
    if (!any) return;
    const size_t n = (size_t)spec->n_experts, choices = rows * (size_t)spec->n_experts_used;
    m->score_stride = round16(n);
    m->f_stride = round16((size_t)spec->d_ff_expert);
    m->scores = ps_arena_take(arena, rows * m->score_stride, sizeof(float));
    m->chosen = ps_arena_take(arena, choices, sizeof *m->chosen);
    m->weights = ps_arena_take(arena, choices, sizeof *m->weights);
    m->places = ps_arena_take(arena, choices, sizeof *m->places);
    m->first_entry = ps_arena_take(arena, n + 1, sizeof *m->first_entry);
    m->x = ps_arena_take(arena, choices * d_stride, sizeof(float));
    m->out = ps_arena_take(arena, choices * d_stride, sizeof(float));
    m->gate = ps_arena_take(arena, choices * m->f_stride, sizeof(float));
    m->up = ps_arena_take(arena, choices * m->f_stride, sizeof(float));
    m->matrices = ps_arena_take(arena, 2 * n, sizeof *m->matrices);
    m->calls = ps_arena_take(arena, 2 * n, sizeof *m->calls);
}

/* Rows that the products of the part may have to round: none when all its weights are floats. */
static int rounded_rows(const ps_ckpt *ckpt, const ps_part *part, const ps_limits *limits)
{
    for (int i = 0; i < ckpt->n_tensors; i++) {
        const ps_ckpt_tensor *t = &ckpt->tensors[i];
        if (ps_part_owns(part, t->need.layer) && ps_dtype_is_quantised(t->dtype))
            return larger(limits->rows_max * larger(1, ckpt->spec.n_experts_used), PS_HEAD_ROWS);
    }
    return 0;
}

/* What the engine's choices have to do with sizes. */
typedef struct arithmetic {
    ps_gemm gemm;
    ps_activations activations;
    int n_threads;
} arithmetic;

static void lay_out_linear(const ps_ckpt *ckpt, const ps_part *part, const ps_limits *limits,
                           const arithmetic *a, ps_arena *arena, ps_workspace *w)
{
    const int rows = rounded_rows(ckpt, part, limits);
    w->linear.bytes = ps_linear_scratch_bytes(a->gemm, a->activations, a->n_threads, rows,
                                              widest_input(&ckpt->spec));
    w->linear.memory = ps_arena_take(arena, w->linear.bytes, 1);
    w->down.bytes =
        ps_linear_rounded_bytes(a->activations, rows > 0 ? limits->rows_max : 0, ckpt->spec.d_ff);
    w->down.memory = ps_arena_take(arena, w->down.bytes, 1);
}

static void lay_out(const ps_ckpt *ckpt, const ps_part *part, const ps_limits *limits,
                    const ps_own_biases *own, const arithmetic *a, ps_arena *arena, ps_workspace *w)
{
    const ps_spec *spec = &ckpt->spec;
    const size_t rows = (size_t)limits->rows_max, k = (size_t)spec->head_dim;
    *w = (ps_workspace){.rows_max = limits->rows_max,
                        .d_stride = ps_stage_stride(spec),
                        .q_stride = round16((size_t)spec->n_heads * k),
                        .k_stride = round16((size_t)spec->n_kv_heads * k),
                        .f_stride = round16((size_t)spec->d_ff),
                        .gate_stride = round16((size_t)ps_spec_output_gates(spec))};
    most_bias_needs(spec, part, own, w);
    w->normed = ps_arena_take(arena, rows * w->d_stride, sizeof(float));
    w->added = ps_arena_take(arena, rows * w->d_stride, sizeof(float));
    w->q = ps_arena_take(arena, rows * w->q_stride, sizeof(float));
    w->attended = ps_arena_take(arena, rows * w->q_stride, sizeof(float));
    if (spec->kept_at_cache) {
        const size_t layers = (size_t)(part->end_layer - part->first_layer);
        w->q_kept = ps_arena_take(arena, rows * w->q_stride, sizeof(float));
        w->kept_cosine = ps_arena_take(arena, layers * (k / 2), sizeof(float));
        w->kept_sine = ps_arena_take(arena, layers * (k / 2), sizeof(float));
    }
    w->k = ps_arena_take(arena, rows * w->k_stride, sizeof(float));
    w->v = ps_arena_take(arena, rows * w->k_stride, sizeof(float));
    w->gate = ps_arena_take(arena, rows * w->f_stride, sizeof(float));
    w->up = ps_arena_take(arena, rows * w->f_stride, sizeof(float));
    w->features = ps_arena_take(arena, rows * w->feature_stride, sizeof(float));
    w->numbers = ps_arena_take(arena, rows * w->number_stride, sizeof(float));
    w->numbers_before = ps_arena_take(arena, w->number_stride, sizeof(float));
    w->projected = ps_arena_take(arena, rows * w->projected_stride, sizeof(float));
    w->output_gate = ps_arena_take(arena, rows * w->gate_stride, sizeof(float));
    const size_t angles = (size_t)spec->n_ropes * (k / 2);
    const size_t slots = (size_t)limits->n_slots;
    w->cosine = ps_arena_take(arena, rows * angles, sizeof(float));
    w->sine = ps_arena_take(arena, rows * angles, sizeof(float));
    w->frequencies = ps_arena_take(arena, slots * angles, sizeof(double));
    const int group = spec->n_heads / spec->n_kv_heads;
    w->attention = ps_arena_take(
        arena, ps_attention_scratch_floats(a->n_threads, group, spec->head_dim), sizeof(float));
    lay_out_linear(ckpt, part, limits, a, arena, w);
    w->blocks = ps_arena_take(arena, rows, sizeof *w->blocks);
    w->runs = ps_arena_take(arena, rows, sizeof *w->runs);
    lay_out_mixture(spec, part, rows, w->d_stride, arena, &w->mixture);
}

static ps_cache_params cache_params(const ps_spec *spec, const ps_part *part,
                                    const ps_limits *limits, const ps_own_biases *own)
{
    return (ps_cache_params){.spec = spec,
                             .own = *own,
                             .first_layer = part->first_layer,
                             .end_layer = part->end_layer,
                             .n_slots = limits->n_slots,
                             .context = limits->context,
                             .chunk_rows = limits->chunk_rows,
                             .types = limits->cache};
}

static ps_err measure(const ps_ckpt *ckpt, const ps_part *part, const ps_limits *limits,
                      const ps_own_biases *own, const arithmetic *a, ps_stage_size *out)
{
    *out = (ps_stage_size){0};
    const ps_cache_params cache = cache_params(&ckpt->spec, part, limits, own);
    if (!ps_cache_measure(&cache, &out->cache_bytes))
        return PS_FAIL(PS_ERR_LIMIT, "caches for %d slots of %lld positions overflow",
                       limits->n_slots, (long long)limits->context);
    const ps_weights_size weights = ps_weights_measure(ckpt, part, limits->context, PS_WEIGHTS_MAP);
    out->mapped_bytes = weights.mapped_bytes;
    out->weights_bytes = weights.taken_bytes;
    ps_arena arena = ps_arena_counting();
    ps_workspace work;
    lay_out(ckpt, part, limits, own, a, &arena, &work);
    ps_head head;
    ps_head_lay_out(&ckpt->spec, part->ends ? PS_HEAD_ROWS : 0, &arena, &head);
    out->buffer_bytes = arena.used;
    return PS_OK;
}

ps_err ps_stage_measure(const ps_ckpt *ckpt, const ps_part *part, const ps_limits *limits,
                        ps_gemm gemm, ps_activations activations, int n_threads, ps_stage_size *out)
{
    const arithmetic a = {gemm, activations, n_threads};
    return measure(ckpt, part, limits, &(ps_own_biases){0}, &a, out);
}

/* Hangs the caller's providers behind those of the file. */
static void add_own_biases(const ps_stage_model_params *params, ps_weights *weights)
{
    const ps_spec *spec = &params->ckpt->spec;
    for (int i = 0; i < params->own.n; i++) {
        const ps_own_bias *own = &params->own.list[i];
        if (own->layer < params->part.first_layer || own->layer >= params->part.end_layer) continue;
        ps_layer_weights *layer = &weights->layers[own->layer - params->part.first_layer];
        ps_bias *bias = &layer->biases[layer->n_biases++];
        *bias = own->bias;
        bias->n_heads = spec->n_heads;
        bias->n_kv_heads = spec->n_kv_heads;
        bias->head_dim = spec->head_dim;
        bias->scale = (float)spec->attention_scale;
        const int64_t reach = ps_spec_reach(spec, own->layer), context = params->limits.context;
        bias->span = reach > 0 && reach < context ? reach : context;
    }
}

/* [head_dim/2] of one rope for one slot's sequence. */
static double *frequencies_of(const ps_stage_model *m, int rope, int slot)
{
    const size_t at = (size_t)rope * (size_t)m->limits.n_slots + (size_t)slot;
    return m->work.frequencies + at * (size_t)(m->ckpt->spec.head_dim / 2);
}

/* Angles of the queries that stand at the end of a full cache. */
static void find_kept_angles(const ps_stage_model *m)
{
    const ps_spec *spec = &m->ckpt->spec;
    const size_t half = (size_t)(spec->head_dim / 2);
    if (!m->work.q_kept) return;
    for (int l = m->part.first_layer; l < m->part.end_layer; l++) {
        const int rope = spec->layers[l].rope;
        if (rope < 0) continue;
        const ps_visible visible = ps_spec_visible(spec, l);
        const size_t at = (size_t)(l - m->part.first_layer) * half;
        ps_rope_angles(frequencies_of(m, rope, 0), spec->ropes[rope].magnitude,
                       spec->ropes[rope].dims / 2, ps_visible_kept_query(&visible, INT64_MAX),
                       m->work.kept_cosine + at, m->work.kept_sine + at);
    }
}

static ps_err open_parts(const ps_stage_model_params *params, ps_stage_model *m)
{
    const ps_spec *spec = &params->ckpt->spec;
    const arithmetic a = {params->engine->gemm, params->engine->activations,
                          ps_pool_threads(params->engine->pool)};
    ps_stage_size size;
    PS_TRY(ps_own_biases_check(&params->own, spec));
    PS_TRY(measure(params->ckpt, &params->part, &params->limits, &params->own, &a, &size));
    const int64_t begin = ps_clock_now_ns();
    PS_TRY(ps_weights_open(params->ckpt, &params->part, params->limits.context, params->access,
                           params->engine, &m->weights));
    const int64_t mapped = ps_clock_now_ns();
    PS_TRY(ps_weights_verify(&m->weights, params->verify, params->engine));
    m->map_ns = mapped - begin;
    m->verify_ns = ps_clock_now_ns() - mapped;
    add_own_biases(params, &m->weights);
    const ps_cache_params cache = cache_params(spec, &params->part, &params->limits, &params->own);
    PS_TRY(ps_cache_open(&cache, &m->cache));
    PS_TRY(ps_region_take(size.buffer_bytes, "buffers", &m->region));
    ps_arena arena = ps_arena_over(&m->region);
    lay_out(params->ckpt, &params->part, &params->limits, &params->own, &a, &arena, &m->work);
    ps_head_lay_out(spec, params->part.ends ? PS_HEAD_ROWS : 0, &arena, &m->head);
    if (params->part.ends) ps_head_reset(spec, &m->head);
    for (int slot = 0; slot < params->limits.n_slots; slot++) {
        for (int r = 0; r < spec->n_ropes; r++) {
            ps_rope_frequencies(&spec->ropes[r], 0, frequencies_of(m, r, slot));
        }
    }
    find_kept_angles(m);
    return PS_OK;
}

ps_err ps_stage_model_open(const ps_stage_model_params *params, ps_stage_model **out)
{
    assert(params->limits.rows_max >= 1 && params->limits.chunk_rows <= params->limits.rows_max);
    *out = NULL;
    ps_stage_model *m = ps_mem_new(1, sizeof *m);
    *m = (ps_stage_model){.ckpt = params->ckpt,
                          .part = params->part,
                          .limits = params->limits,
                          .engine = params->engine,
                          .weights = {.map = {.fd = -1}}};
    const ps_err err = open_parts(params, m);
    if (err) {
        ps_stage_model_close(m);
        return err;
    }
    *out = m;
    return PS_OK;
}

void ps_stage_model_close(ps_stage_model *model)
{
    if (!model) return;
    ps_region_release(&model->region);
    ps_cache_close(&model->cache);
    ps_weights_close(&model->weights);
    ps_mem_free(model);
}

void ps_stage_opened(const ps_stage_model *model, int64_t *map_ns, int64_t *verify_ns)
{
    *map_ns = model->map_ns;
    *verify_ns = model->verify_ns;
}

ps_err ps_stage_check_file(const ps_stage_model *model)
{
    return ps_weights_check_file(&model->weights);
}

void ps_stage_observe(ps_stage_model *model, ps_observer *observer, void *arg)
{
    model->observer = observer;
    model->observer_arg = arg;
}

void ps_stage_observe_attention(ps_stage_model *model, ps_attention_observer *observer, void *arg)
{
    model->attention_observer = observer;
    model->attention_observer_arg = arg;
}

/* The norm that the spec has, of one row of activations. */
static void norm_row(const ps_stage_model *m, const ps_norm *weights, const float *x, float *out)
{
    const ps_spec *s = &m->ckpt->spec;
    const ps_kernels *kernels = m->engine->kernels;
    const float eps = (float)s->norm_eps;
    if (s->norm == PS_NORM_LAYER) {
        kernels->layer_norm(x, weights->weight, weights->bias, s->d_model, eps, out);
    } else {
        kernels->rms_norm(x, weights->weight, s->d_model, eps, out);
    }
}

static void embed_row(const ps_stage_model *m, int32_t token, int64_t position, float *x)
{
    const ps_spec *s = &m->ckpt->spec;
    const ps_weights *w = &m->weights;
    const ps_kernels *kernels = m->engine->kernels;
    assert(token >= 0 && token < w->embed.n);
    ps_panel_unpack_row(w->embed.dtype, w->embed.panels, w->embed.k, token, x);
    if (s->embed_scale != 1.0) kernels->scale(x, (float)s->embed_scale, s->d_model);
    if (s->n_positions > 0) {
        assert(position >= 0 && position < s->n_positions);
        ps_panel_unpack_row(w->positions.dtype, w->positions.panels, w->positions.k, (int)position,
                            m->work.added);
        kernels->add(m->work.added, x, s->d_model);
    }
    if (s->embed_norm) norm_row(m, &w->embed_norm, x, x);
}

void ps_stage_embed(ps_stage_model *m, const int32_t *tokens, const int64_t *positions, int n,
                    float *x)
{
    assert(m->part.ends && n <= m->limits.rows_max);
    for (int r = 0; r < n; r++) {
        embed_row(m, tokens[r], positions[r], x + (size_t)r * m->work.d_stride);
    }
    if (m->observer) m->observer(m->observer_arg, -1, x, m->work.d_stride, n);
}

/* Groups the rows into runs, and gives each run room in the caches. */
static void find_runs(ps_stage_model *m, const ps_rows *rows)
{
    ps_workspace *w = &m->work;
    w->n_runs = 0;
    for (int r = 0; r < rows->n; r++) {
        ps_attention_run *run = w->n_runs > 0 ? &w->runs[w->n_runs - 1] : NULL;
        if (run && run->sequence == rows->slot[r] &&
            run->first_position + run->n_rows == rows->position[r]) {
            run->n_rows++;
            continue;
        }
        w->runs[w->n_runs++] = (ps_attention_run){.sequence = rows->slot[r],
                                                  .first_row = r,
                                                  .n_rows = 1,
                                                  .first_position = rows->position[r]};
    }
    for (int i = 0; i < w->n_runs; i++) {
        ps_cache_reserve(&m->cache, w->runs[i].sequence, w->runs[i].first_position,
                         w->runs[i].n_rows);
    }
}

/* cos and sin of every row's position, once for all layers. */
static void find_angles(ps_stage_model *m, const ps_rows *rows)
{
    const ps_spec *spec = &m->ckpt->spec;
    ps_workspace *w = &m->work;
    const size_t half_stride = (size_t)(spec->head_dim / 2);
    for (int rope = 0; rope < spec->n_ropes; rope++) {
        for (int r = 0; r < rows->n; r++) {
            const size_t at = ((size_t)rope * (size_t)w->rows_max + (size_t)r) * half_stride;
            ps_rope_angles(frequencies_of(m, rope, rows->slot[r]), spec->ropes[rope].magnitude,
                           spec->ropes[rope].dims / 2, rows->position[r], w->cosine + at,
                           w->sine + at);
        }
    }
}

static ps_err overflow_error(const ps_stage_model *m, int layer)
{
    return PS_FAIL(PS_ERR_NUMERIC,
                   "layer %d: a key or value is too large for a cache of %s keys and %s values "
                   "(f16 and scales of blocks end at 65504): use bf16 or f32",
                   layer, ps_dtype_name(m->limits.cache.key), ps_dtype_name(m->limits.cache.value));
}

ps_err ps_stage_blocks(ps_stage_model *m, const ps_rows *rows, float *x)
{
    assert(rows->n <= m->limits.rows_max);
    m->work.mixture.bytes_read = 0;
    if (rows->n == 0) return PS_OK;
    find_runs(m, rows);
    find_angles(m, rows);
    for (int layer = m->part.first_layer; layer < m->part.end_layer; layer++) {
        const int local = layer - m->part.first_layer;
        const ps_block block = {.spec = &m->ckpt->spec,
                                .layer = layer,
                                .local_layer = local,
                                .weights = &m->weights.layers[local],
                                .cache = &m->cache,
                                .work = &m->work,
                                .engine = m->engine,
                                .observer = m->attention_observer,
                                .observer_arg = m->attention_observer_arg};
        ps_block_forward(&block, rows, x);
        if (atomic_load_explicit(&m->work.overflow, memory_order_relaxed))
            return overflow_error(m, layer);
        if (m->observer) m->observer(m->observer_arg, layer, x, m->work.d_stride, rows->n);
    }
    return PS_OK;
}

const float *ps_stage_head(ps_stage_model *m, const float *x, int n, const ps_logits_wanted *wanted)
{
    assert(m->part.ends && n >= 1 && n <= PS_HEAD_ROWS);
    const ps_spec *spec = &m->ckpt->spec;
    const size_t stride = m->work.d_stride;
    for (int r = 0; r < n; r++) {
        norm_row(m, &m->weights.final_norm, x + (size_t)r * stride,
                 m->head.normed + (size_t)r * stride);
    }
    m->head.bytes_read = 0;
    if (ps_spec_head_size(spec) > 0)
        ps_head_forward(spec, &m->weights.head, m->engine, &m->work.linear, n, wanted, &m->head);
    return m->head.logits;
}

size_t ps_stage_head_bytes_read(const ps_stage_model *m)
{
    return m->head.bytes_read;
}

const float *ps_stage_head_input(const ps_stage_model *m)
{
    assert(m->part.ends);
    return m->head.normed;
}

size_t ps_stage_expert_bytes_read(const ps_stage_model *m)
{
    return m->work.mixture.bytes_read;
}

size_t ps_stage_cache_bytes_read(const ps_stage_model *m)
{
    const ps_spec *spec = &m->ckpt->spec;
    size_t seen = 0;
    for (int i = 0; i < m->work.n_runs; i++) {
        const ps_attention_run *run = &m->work.runs[i];
        const int64_t end = run->first_position + run->n_rows;
        for (int l = m->part.first_layer; l < m->part.end_layer; l++) {
            const int64_t reach = ps_spec_reach(spec, l);
            const int64_t bound = reach + run->n_rows - 1 + spec->n_kept;
            seen += (size_t)(reach > 0 && bound < end ? bound : end);
        }
    }
    // A position takes the same in every layer.
    return seen > 0 ? seen * ps_kv_read_bytes(&m->cache.layers[0].layout) : 0;
}

/* Positions before this one that the query there does not see. */
static int64_t left_behind(const ps_visible *v, int64_t query)
{
    return ps_visible_first(v, query) - ps_visible_kept(v, query);
}

size_t ps_stage_evicted(const ps_stage_model *m)
{
    size_t evicted = 0;
    for (int l = m->part.first_layer; l < m->part.end_layer; l++) {
        const ps_visible v = ps_spec_visible(&m->ckpt->spec, l);
        for (int i = 0; i < m->work.n_runs; i++) {
            const ps_attention_run *run = &m->work.runs[i];
            const int64_t end = run->first_position + run->n_rows;
            evicted += (size_t)(left_behind(&v, end) - left_behind(&v, run->first_position));
        }
    }
    return evicted;
}

int ps_stage_window_layers(const ps_stage_model *m)
{
    int n = 0;
    for (int l = m->part.first_layer; l < m->part.end_layer; l++) {
        n += ps_spec_reach(&m->ckpt->spec, l) > 0;
    }
    return n;
}

void ps_stage_start(ps_stage_model *m, int slot, int64_t length)
{
    const ps_spec *spec = &m->ckpt->spec;
    for (int r = 0; r < spec->n_ropes; r++) {
        if (ps_rope_depends_on_length(&spec->ropes[r]))
            ps_rope_frequencies(&spec->ropes[r], length, frequencies_of(m, r, slot));
    }
}

void ps_stage_fork(ps_stage_model *model, int from, int to)
{
    const ps_spec *spec = &model->ckpt->spec;
    for (int r = 0; r < spec->n_ropes; r++) {
        memcpy(frequencies_of(model, r, to), frequencies_of(model, r, from),
               (size_t)(spec->head_dim / 2) * sizeof(double));
    }
    ps_cache_fork(&model->cache, from, to);
}

void ps_stage_end(ps_stage_model *model, int slot)
{
    ps_cache_end(&model->cache, slot);
}

static ps_cache_part cache_part(ps_stage_model *model)
{
    return (ps_cache_part){&model->cache, &model->ckpt->spec, model->part.first_layer};
}

ps_err ps_stage_save(ps_stage_model *model, int slot, int64_t position, const char *path)
{
    const ps_cache_part part = cache_part(model);
    return ps_cache_save(&part, slot, position, path);
}

ps_err ps_stage_load(ps_stage_model *model, int slot, int64_t position, int64_t length,
                     const char *path)
{
    const ps_cache_part part = cache_part(model);
    ps_stage_start(model, slot, length);
    return ps_cache_load(&part, slot, position, path);
}
