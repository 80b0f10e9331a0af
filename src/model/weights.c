/* One function lays a stage's weights out, twice: once over an arena that only counts, for the plan
 * and the size of the region, once over the region itself. */
#include "model/weights.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

#include "math/panel.h"
#include "math/real.h"
#include "model/h5.h"
#include "model/weights_parts.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

enum { MAP_FROM_BYTES = 65536, MAP_ALIGN = 64, PAGE_BYTES = 4096 };

typedef struct layout {
    const ps_ckpt *ckpt;
    ps_part part;
    int64_t span;
    ps_arena arena;
    size_t mapped_bytes;
    ps_weights *weights; // NULL while counting
    ps_h5_file *h5;      // opened when the first unmappable tensor is met
} layout;

bool ps_weights_in_place(const ps_ckpt_tensor *t)
{
    return t->need.panel && t->bytes >= MAP_FROM_BYTES && t->offset != PS_H5_NOT_MAPPABLE &&
           t->offset % MAP_ALIGN == 0;
}

/* Reads a tensor into `to`, from its place in the file or through HDF5. */
static ps_err read_tensor(layout *l, const ps_ckpt_tensor *t, void *to)
{
    const char *path = l->ckpt->path;
    if (t->offset != PS_H5_NOT_MAPPABLE)
        return ps_file_read_at(l->weights->map.fd, path, t->offset, to, t->bytes);
    char name[PS_TENSOR_NAME_BYTES];
    ps_h5_info info;
    ps_tensor_name(t->need.role, t->need.layer, name);
    if (!l->h5) PS_TRY(ps_h5_open(path, &l->h5));
    PS_TRY(ps_h5_find(l->h5, name, &info));
    if (info.bytes != t->bytes)
        return PS_FAIL(PS_ERR_FORMAT, "%s: tensor %s changed its size", path, name);
    return ps_h5_read(l->h5, name, &info, to);
}

/* The tensor's bytes: in the map or the copy of it, or in the arena. *out is NULL while counting,
 * or when the spec does not call for the tensor. Vectors are padded with zeros to a multiple of 16. */
static ps_err place(layout *l, ps_role role, int layer, const void **out)
{
    *out = NULL;
    const ps_ckpt_tensor *t = ps_ckpt_find(l->ckpt, role, layer);
    if (!t) return PS_OK;
    const void **at = l->weights ? &l->weights->tensors[t - l->ckpt->tensors] : NULL;
    if (ps_weights_in_place(t)) {
        l->mapped_bytes += t->bytes;
        if (at && l->weights->access == PS_WEIGHTS_MAP) *at = l->weights->map.data + t->offset;
        if (at) *out = *at;
        return PS_OK;
    }
    void *to = ps_arena_take(&l->arena, ps_mem_round_up(t->bytes, PS_MEM_ALIGN), 1);
    if (!at) return PS_OK;
    *out = *at = to;
    return read_tensor(l, t, to);
}

static ps_err place_linear(layout *l, ps_role role, ps_role bias_role, int layer, ps_linear *out)
{
    const ps_ckpt_tensor *t = ps_ckpt_find(l->ckpt, role, layer);
    const void *panels, *bias = NULL;
    PS_TRY(place(l, role, layer, &panels));
    if (bias_role != PS_ROLE_COUNT) PS_TRY(place(l, bias_role, layer, &bias));
    if (t) {
        *out = (ps_linear){
            .dtype = t->dtype, .n = t->need.n, .k = t->need.k, .panels = panels, .bias = bias};
    }
    return PS_OK;
}

static ps_err place_experts(layout *l, ps_role role, ps_role bias_role, int layer,
                            ps_expert_linear *out)
{
    PS_TRY(place_linear(l, role, bias_role, layer, &out->first));
    const ps_linear *first = &out->first;
    if (!ps_ckpt_find(l->ckpt, role, layer)) return PS_OK;
    out->panel_bytes = ps_linear_bytes(first);
    out->bias_floats = (size_t)ps_panel_count(first->n) * PS_PANEL_LANES;
    return PS_OK;
}

static ps_err place_vector(layout *l, ps_role role, int layer, const float **out)
{
    const void *bytes;
    PS_TRY(place(l, role, layer, &bytes));
    *out = bytes;
    return PS_OK;
}

static ps_err place_rel_pos(layout *l, const ps_bias_spec *spec, int layer, ps_bias *bias,
                            const ps_engine *engine)
{
    ps_linear w_pos = {0};
    PS_TRY(place_linear(l, PS_ROLE_REL_POS_W, PS_ROLE_COUNT, layer, &w_pos));
    PS_TRY(place_vector(l, PS_ROLE_REL_POS_U, layer, &bias->u));
    PS_TRY(place_vector(l, PS_ROLE_REL_POS_V, layer, &bias->v));
    const size_t floats =
        ps_bias_table_floats(bias->n_heads, bias->head_dim, bias->span, bias->ahead);
    float *table = ps_arena_take(&l->arena, floats, sizeof *table);
    bias->table = table;
    if (!l->weights) return PS_OK;
    ps_region scratch;
    PS_TRY(ps_region_take(ps_bias_table_scratch_floats(bias->n_heads, bias->head_dim, spec->dim) *
                              sizeof(float),
                          "scratch for a bias table", &scratch));
    ps_bias_make_table(engine, &w_pos, spec->theta, bias->n_heads, bias->head_dim, bias->span,
                       bias->ahead, scratch.base, table);
    ps_region_release(&scratch);
    return PS_OK;
}

/* Distances that occur in a layer: as far as a query reaches, and from the end of a full cache to
 * its kept tokens. */
static int64_t span_of(const ps_spec *spec, int layer, int64_t context)
{
    const int64_t reach = ps_spec_reach(spec, layer);
    const int64_t span = reach + (spec->kept_at_cache ? spec->n_kept : 0);
    return reach > 0 && span < context ? span : context;
}

static void place_alibi(layout *l, const ps_bias_spec *spec, ps_bias *bias)
{
    float *slopes = ps_arena_take(&l->arena, (size_t)bias->n_heads, sizeof *slopes);
    bias->slopes = slopes;
    if (slopes) ps_bias_alibi_slopes(bias->n_heads, spec->max_exponent, spec->factor, slopes);
}

/* A function of the distance: its parameters, and the table that is made of them. */
static ps_err place_distances(layout *l, int layer, ps_bias *bias)
{
    const bool log = bias->kind == PS_BIAS_KERPLE_LOG, power = bias->kind == PS_BIAS_KERPLE_POWER;
    if (bias->kind == PS_BIAS_T5) PS_TRY(place_vector(l, PS_ROLE_T5_TABLE, layer, &bias->buckets));
    if (log) PS_TRY(place_vector(l, PS_ROLE_KERPLE_LOG_P, layer, &bias->p));
    if (log) PS_TRY(place_vector(l, PS_ROLE_KERPLE_LOG_A, layer, &bias->a));
    if (power) PS_TRY(place_vector(l, PS_ROLE_KERPLE_POWER_P, layer, &bias->p));
    if (power) PS_TRY(place_vector(l, PS_ROLE_KERPLE_POWER_EXPONENT, layer, &bias->a));
    float *table = ps_arena_take(&l->arena, ps_bias_distance_floats(bias), sizeof *table);
    bias->table = table;
    if (l->weights) ps_bias_make_distances(bias, table);
    return PS_OK;
}

static ps_err place_fire(layout *l, int width, int layer, ps_bias *bias)
{
    ps_bias_fire_weights w = {.width = width};
    PS_TRY(place_vector(l, PS_ROLE_FIRE_W1, layer, &w.w1));
    PS_TRY(place_vector(l, PS_ROLE_FIRE_B1, layer, &w.b1));
    PS_TRY(place_vector(l, PS_ROLE_FIRE_W2, layer, &w.w2));
    PS_TRY(place_vector(l, PS_ROLE_FIRE_B2, layer, &w.b2));
    PS_TRY(place_vector(l, PS_ROLE_FIRE_SCALARS, layer, &w.scalars));
    double *memory = ps_arena_take(&l->arena, ps_bias_fire_doubles(bias, width), sizeof *memory);
    if (l->weights) ps_bias_make_fire(&w, memory, bias);
    return PS_OK;
}

static ps_err place_bias(layout *l, const ps_bias_spec *spec, int layer, ps_layer_weights *out,
                         ps_bias *bias, const ps_engine *engine)
{
    switch (bias->kind) {
    case PS_BIAS_ALIBI:
        place_alibi(l, spec, bias);
        return PS_OK;
    case PS_BIAS_REL_POS:
        return place_rel_pos(l, spec, layer, bias, engine);
    case PS_BIAS_FIRE:
        return place_fire(l, spec->width, layer, bias);
    case PS_BIAS_FOX:
        bias->projection = &out->fox;
        return place_linear(l, PS_ROLE_FOX_WEIGHT, PS_ROLE_FOX_BIAS, layer, &out->fox);
    case PS_BIAS_KEY_MASK:
        return PS_OK;
    default:
        assert(ps_bias_is_of_distance(bias->kind));
        return place_distances(l, layer, bias);
    }
}

/* Distances below zero that occur in a layer: as far as a query looks ahead. */
static int64_t ahead_of(const ps_spec *spec, int layer, int64_t context)
{
    const ps_layer_spec *l = &spec->layers[layer];
    if (!l->look_ahead) return 0;
    return l->chunk > 0 && l->chunk < context ? l->chunk - 1 : context - 1;
}

static ps_err place_biases(layout *l, int layer, ps_layer_weights *out, const ps_engine *engine)
{
    const ps_spec *spec = &l->ckpt->spec;
    const ps_layer_spec *ls = &spec->layers[layer];
    out->n_biases = ls->n_biases;
    for (int b = 0; b < ls->n_biases; b++) {
        const ps_bias_spec *own = &ls->biases[b];
        ps_bias *bias = &out->biases[b];
        *bias = (ps_bias){.kind = own->kind,
                          .n_heads = spec->n_heads,
                          .n_kv_heads = spec->n_kv_heads,
                          .head_dim = spec->head_dim,
                          .scale = (float)spec->attention_scale,
                          .span = span_of(spec, layer, l->span),
                          .ahead = ahead_of(spec, layer, l->span),
                          .n_buckets = own->n_buckets,
                          .max_distance = own->max_distance,
                          .bidirectional = own->bidirectional,
                          .dim = own->dim};
        PS_TRY(place_bias(l, own, layer, out, bias, engine));
    }
    return PS_OK;
}

static ps_err place_norm(layout *l, ps_role role, ps_role bias_role, int layer, ps_norm *out)
{
    PS_TRY(place_vector(l, role, layer, &out->weight));
    return place_vector(l, bias_role, layer, &out->bias);
}

static ps_err place_mlp(layout *l, int layer, ps_layer_weights *out)
{
    PS_TRY(place_norm(l, PS_ROLE_MLP_NORM, PS_ROLE_MLP_NORM_BIAS, layer, &out->mlp_norm));
    PS_TRY(place_linear(l, PS_ROLE_GATE, PS_ROLE_GATE_BIAS, layer, &out->gate));
    PS_TRY(place_linear(l, PS_ROLE_UP, PS_ROLE_UP_BIAS, layer, &out->up));
    PS_TRY(place_linear(l, PS_ROLE_DOWN, PS_ROLE_DOWN_BIAS, layer, &out->down));
    PS_TRY(place_linear(l, PS_ROLE_ROUTER, PS_ROLE_ROUTER_BIAS, layer, &out->router));
    PS_TRY(
        place_experts(l, PS_ROLE_EXPERT_GATE, PS_ROLE_EXPERT_GATE_BIAS, layer, &out->expert_gate));
    PS_TRY(place_experts(l, PS_ROLE_EXPERT_UP, PS_ROLE_EXPERT_UP_BIAS, layer, &out->expert_up));
    PS_TRY(
        place_experts(l, PS_ROLE_EXPERT_DOWN, PS_ROLE_EXPERT_DOWN_BIAS, layer, &out->expert_down));
    return place_vector(l, PS_ROLE_MLP_POST_NORM, layer, &out->mlp_post_norm);
}

static ps_err place_layer(layout *l, int layer, ps_layer_weights *out, const ps_engine *engine)
{
    PS_TRY(place_norm(l, PS_ROLE_ATTENTION_NORM, PS_ROLE_ATTENTION_NORM_BIAS, layer,
                      &out->attention_norm));
    PS_TRY(place_linear(l, PS_ROLE_Q, PS_ROLE_Q_BIAS, layer, &out->q));
    PS_TRY(place_linear(l, PS_ROLE_K, PS_ROLE_K_BIAS, layer, &out->k));
    PS_TRY(place_linear(l, PS_ROLE_V, PS_ROLE_V_BIAS, layer, &out->v));
    PS_TRY(place_linear(l, PS_ROLE_O, PS_ROLE_O_BIAS, layer, &out->o));
    PS_TRY(place_vector(l, PS_ROLE_Q_NORM, layer, &out->q_norm));
    PS_TRY(place_vector(l, PS_ROLE_K_NORM, layer, &out->k_norm));
    PS_TRY(place_vector(l, PS_ROLE_SINKS, layer, &out->sinks));
    PS_TRY(
        place_linear(l, PS_ROLE_OUTPUT_GATE, PS_ROLE_OUTPUT_GATE_BIAS, layer, &out->output_gate));
    PS_TRY(place_biases(l, layer, out, engine));
    PS_TRY(place_vector(l, PS_ROLE_ATTENTION_POST_NORM, layer, &out->attention_post_norm));
    return place_mlp(l, layer, out);
}

static ps_err place_ends(layout *l, ps_weights *w)
{
    PS_TRY(place_linear(l, PS_ROLE_EMBED, PS_ROLE_COUNT, -1, &w->embed));
    PS_TRY(place_linear(l, PS_ROLE_POSITIONS, PS_ROLE_COUNT, -1, &w->positions));
    PS_TRY(place_norm(l, PS_ROLE_EMBED_NORM, PS_ROLE_EMBED_NORM_BIAS, -1, &w->embed_norm));
    PS_TRY(place_norm(l, PS_ROLE_FINAL_NORM, PS_ROLE_FINAL_NORM_BIAS, -1, &w->final_norm));
    if (!l->ckpt->spec.tied_head)
        return place_linear(l, PS_ROLE_HEAD, PS_ROLE_HEAD_BIAS, -1, &w->head);
    const void *bias;
    PS_TRY(place(l, PS_ROLE_HEAD_BIAS, -1, &bias));
    w->head = w->embed;
    w->head.bias = bias;
    return PS_OK;
}

static ps_err place_all(layout *l, const ps_engine *engine)
{
    ps_layer_weights counted;
    ps_weights counted_ends = {0};
    ps_weights *w = l->weights;
    const int n_layers = l->part.end_layer - l->part.first_layer;
    ps_layer_weights *layers = ps_arena_take(&l->arena, (size_t)n_layers, sizeof *layers);
    if (w) w->layers = layers;
    if (l->part.ends) PS_TRY(place_ends(l, w ? w : &counted_ends));
    for (int i = 0; i < n_layers; i++) {
        PS_TRY(place_layer(l, l->part.first_layer + i, w ? &layers[i] : &counted, engine));
    }
    return PS_OK;
}

ps_weights_size ps_weights_measure(const ps_ckpt *ckpt, const ps_part *part, int64_t span,
                                   ps_weights_access access)
{
    layout l = {.ckpt = ckpt, .part = *part, .span = span, .arena = ps_arena_counting()};
    const ps_err err = place_all(&l, NULL);
    assert(!err && "counting cannot fail");
    (void)err;
    if (access == PS_WEIGHTS_MAP) return (ps_weights_size){l.mapped_bytes, 0, l.arena.used};
    return (ps_weights_size){0, ps_weights_lay_out_copy(ckpt, part, NULL), l.arena.used};
}

typedef struct fetch {
    const ps_weights *weights;
} fetch;

/* Maps a tensor's pages, reading them from the file where they are not in memory yet. */
static void fetch_tensor(void *arg, int item, int thread)
{
    (void)thread;
    const ps_weights *w = ((const fetch *)arg)->weights;
    const ps_ckpt_tensor *t = &w->ckpt->tensors[item];
    // Experts come when a row chooses them: most may never be read.
    if (!ps_part_owns(&w->part, t->need.layer) || !ps_weights_in_place(t) || t->need.count > 1)
        return;
    const size_t start = t->offset - t->offset % PAGE_BYTES;
    void *at = (void *)(uintptr_t)(w->map.data + start);
    const size_t n = t->offset + t->bytes - start;
    // A refusal (kernels before 5.14 do not know the first advice) costs time at first use, nothing
    // else.
    if (madvise(at, n, MADV_POPULATE_READ) != 0) madvise(at, n, MADV_WILLNEED);
}

/* The file, with its length checked: what is mapped or read from it lies inside. */
static ps_err open_file(const ps_ckpt *ckpt, ps_weights *out)
{
    PS_TRY(out->access == PS_WEIGHTS_MAP ? ps_file_map_open(ckpt->path, &out->map)
                                         : ps_file_map_open_unmapped(ckpt->path, &out->map));
    if (out->map.bytes == ckpt->file_bytes) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "%s: has %zu bytes, at the start it had %llu", ckpt->path,
                   out->map.bytes, (unsigned long long)ckpt->file_bytes);
}

static ps_err open_tensors(int64_t span, const ps_engine *engine, ps_weights *out)
{
    const ps_ckpt *ckpt = out->ckpt;
    const bool copies = out->access == PS_WEIGHTS_COPY;
    const ps_weights_size size = ps_weights_measure(ckpt, &out->part, span, out->access);
    PS_TRY(open_file(ckpt, out));
    PS_TRY(ps_region_take(size.taken_bytes, "weights", &out->region));
    out->tensors = ps_mem_new((size_t)ckpt->n_tensors, sizeof *out->tensors);
    if (copies) PS_TRY(ps_weights_copy(out, engine));
    layout l = {.ckpt = ckpt,
                .part = out->part,
                .span = span,
                .arena = ps_arena_over(&out->region),
                .weights = out};
    const ps_err err = place_all(&l, engine);
    ps_h5_close(l.h5);
    PS_TRY(err);
    out->mapped_bytes = size.mapped_bytes;
    if (!copies) {
        fetch f = {out};
        ps_pool_run(engine->pool, ckpt->n_tensors, fetch_tensor, &f);
        return PS_OK;
    }
    // What was read is one state of the file; what becomes of it now does not matter.
    PS_TRY(ps_file_map_check(&out->map, ckpt->path));
    ps_file_map_close(&out->map);
    return PS_OK;
}

ps_err ps_weights_open(const ps_ckpt *ckpt, const ps_part *part, int64_t span,
                       ps_weights_access access, const ps_engine *engine, ps_weights *out)
{
    *out = (ps_weights){.ckpt = ckpt, .part = *part, .access = access, .map = {.fd = -1}};
    const ps_err err = open_tensors(span, engine, out);
    if (err) ps_weights_close(out);
    return err;
}

void ps_weights_close(ps_weights *weights)
{
    ps_region_release(&weights->copy);
    ps_region_release(&weights->region);
    ps_mem_free(weights->tensors);
    if (weights->map.fd >= 0) ps_file_map_close(&weights->map);
    *weights = (ps_weights){.map = {.fd = -1}};
}

ps_err ps_weights_check_file(const ps_weights *weights)
{
    if (weights->access == PS_WEIGHTS_COPY) return PS_OK;
    return ps_file_map_check(&weights->map, weights->ckpt->path);
}

/* Bytes of a layer's tensors; of the experts' `n_experts` of each kind. */
static size_t layer_bytes(const ps_ckpt *ckpt, int layer, int n_experts)
{
    size_t bytes = 0;
    for (int role = 0; role < PS_ROLE_COUNT; role++) {
        const ps_ckpt_tensor *t = ps_ckpt_find(ckpt, (ps_role)role, layer);
        // w_pos itself is read once, to make its table.
        if (!t || role == PS_ROLE_REL_POS_W) continue;
        bytes +=
            t->need.count > 1 ? t->bytes / (size_t)t->need.count * (size_t)n_experts : t->bytes;
    }
    return bytes;
}

size_t ps_weights_layer_bytes(const ps_ckpt *ckpt, int layer)
{
    return layer_bytes(ckpt, layer, ckpt->spec.n_experts_used);
}

size_t ps_weights_shared_bytes(const ps_ckpt *ckpt, int layer)
{
    return layer_bytes(ckpt, layer, 0);
}

size_t ps_weights_head_bytes(const ps_ckpt *ckpt)
{
    const ps_ckpt_tensor *head =
        ps_ckpt_find(ckpt, ckpt->spec.tied_head ? PS_ROLE_EMBED : PS_ROLE_HEAD, -1);
    return head ? head->bytes : 0;
}
