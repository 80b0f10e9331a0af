#include "support/spec_model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "math/panel.h"
#include "model/ckpt.h"
#include "support/dice.h"

static bool one_in(dice *d, int sides)
{
    return dice_throw(d, sides) == 0;
}

/* ---- the spec ---- */

static void roll_sizes(dice *d, ps_spec *s)
{
    s->d_model = 1 + dice_throw(d, 60);
    s->n_kv_heads = 1 + dice_throw(d, 3);
    s->n_heads = s->n_kv_heads * (1 + dice_throw(d, 4));
    s->head_dim = 4 * (1 + dice_throw(d, 6));
    s->d_ff = 1 + dice_throw(d, 80);
    s->vocab_size = 2 + dice_throw(d, 200);
    s->attention_scale = dice_real(d, 0.5, 1.5) / sqrt((double)s->head_dim);
    s->norm_eps = 1e-4;
}

static void roll_block(dice *d, uint64_t number, ps_spec *s)
{
    s->norm = (ps_norm_kind)(number % PS_NORM_KIND_COUNT);
    s->norm_bias = s->norm == PS_NORM_LAYER && dice_throw(d, 2);
    s->parallel = one_in(d, 3);
    s->shared_norm = s->parallel && dice_throw(d, 2);
    s->pre_norm = s->parallel || !one_in(d, 4);
    s->post_norm = !s->pre_norm || one_in(d, 3); // a model without any norm is none
    s->embed_norm = one_in(d, 3);
    s->qkv_bias = one_in(d, 3);
    s->o_bias = one_in(d, 3);
    s->mlp_bias = one_in(d, 3);
    s->head_bias = one_in(d, 3);
    s->tied_head = one_in(d, 2);
    s->sinks = one_in(d, 3);
    s->quiet_softmax = !s->sinks && one_in(d, 3);
    s->output_gate = (ps_output_gate)(number / 3 % PS_OUTPUT_GATE_COUNT);
    s->qk_norm = (ps_qk_norm)(number / 2 % PS_QK_NORM_COUNT);
    s->activation = (ps_activation_kind)(number % PS_ACTIVATION_KIND_COUNT);
    s->gated = s->activation == PS_ACTIVATION_SWIGLU_OSS || dice_throw(d, 2);
    s->swiglu_alpha = 1.702;
    s->swiglu_limit = 1.5;
    if (one_in(d, 3)) s->softcap = dice_real(d, 1.0, 4.0);
    if (one_in(d, 3)) s->qkv_clip = dice_real(d, 0.5, 1.5);
    if (one_in(d, 3)) s->final_softcap = dice_real(d, 1.0, 4.0);
    if (one_in(d, 3)) s->embed_scale = dice_real(d, 0.5, 4.0);
    if (one_in(d, 3)) s->residual_scale = dice_real(d, 0.25, 1.0);
    if (one_in(d, 3)) s->logit_scale = dice_real(d, 0.1, 2.0);
}

static void roll_experts(dice *d, ps_spec *s)
{
    if (dice_throw(d, 2)) return;
    s->n_experts = 1 + dice_throw(d, 9);
    s->n_experts_used = 1 + dice_throw(d, s->n_experts < 4 ? s->n_experts : 4);
    s->d_ff_expert = 1 + dice_throw(d, 40);
    s->router = (ps_router)dice_throw(d, PS_ROUTER_COUNT);
    s->router_bias = dice_throw(d, 2);
    s->expert_bias = dice_throw(d, 2);
}

/* Original lengths are short enough that test sequences go beyond them. */
static void roll_rope(dice *d, const ps_spec *s, ps_rope_kind kind, ps_rope *r)
{
    *r = (ps_rope){.kind = kind,
                   .dims = 2 * (1 + dice_throw(d, s->head_dim / 2)),
                   .base = dice_real(d, 50.0, 5000.0),
                   .magnitude = one_in(d, 2) ? 1.0 : dice_real(d, 0.7, 1.3),
                   .factor = dice_real(d, 1.0, 8.0),
                   .low_factor = 1.0,
                   .high_factor = 4.0,
                   .original_length = 20.0 + dice_throw(d, 60),
                   .beta_fast = dice_real(d, 3.0, 9.0),
                   .beta_slow = 0.5,
                   .truncate = dice_throw(d, 2)};
    for (int t = 0; t < r->dims / 2; t++) {
        r->factors[t] = dice_real(d, 1.0, 2.0);
        r->long_factors[t] = dice_real(d, 2.0, 6.0);
    }
}

static void roll_positions(dice *d, uint64_t number, ps_spec *s)
{
    const int kinds = PS_ROPE_KIND_COUNT - PS_ROPE_DEFAULT;
    s->n_positions = one_in(d, 4) ? 512 : 0;
    s->n_ropes = 1 + dice_throw(d, 2);
    for (int r = 0; r < s->n_ropes; r++) {
        const int kind = (int)(number % (uint64_t)kinds + (uint64_t)(3 * r)) % kinds;
        roll_rope(d, s, (ps_rope_kind)(PS_ROPE_DEFAULT + kind), &s->ropes[r]);
    }
}

/* Providers in any order, of each kind that a file may name one at most. */
static void roll_biases(dice *d, ps_layer_spec *layer)
{
    const int first = dice_throw(d, PS_BIAS_CUSTOM);
    for (int i = 0; i < PS_BIAS_CUSTOM && layer->n_biases < PS_BIAS_MAX; i++) {
        const ps_bias_kind kind = (ps_bias_kind)((first + i) % PS_BIAS_CUSTOM);
        if (!one_in(d, 6)) continue;
        layer->biases[layer->n_biases++] = (ps_bias_spec){.kind = kind,
                                                          .max_exponent = 8.0,
                                                          .factor = dice_real(d, 0.3, 1.0),
                                                          .dim = 2 + dice_throw(d, 30),
                                                          .theta = 100.0,
                                                          .n_buckets = 4 + 2 * dice_throw(d, 10),
                                                          .max_distance = 24 + dice_throw(d, 50),
                                                          .bidirectional = dice_throw(d, 2),
                                                          .width = 1 + dice_throw(d, 20)};
    }
}

static void roll_layer(dice *d, const ps_spec *s, ps_layer_spec *layer)
{
    layer->window = one_in(d, 3) ? 0 : 1 + dice_throw(d, 120);
    layer->rope = one_in(d, 4) ? -1 : dice_throw(d, s->n_ropes);
    layer->mixture = s->n_experts > 0 && !one_in(d, 3);
    roll_biases(d, layer);
}

spec_model spec_model_roll(uint64_t number)
{
    dice d = {.seed = 0x73706563 + number};
    spec_model m = {.spec = ps_spec_plain(), .seed = number};
    ps_spec *s = &m.spec;
    snprintf(s->family, sizeof s->family, "spec_model");
    roll_sizes(&d, s);
    roll_block(&d, number, s);
    roll_experts(&d, s);
    roll_positions(&d, number, s);
    ps_spec_take_layers(s, 1 + dice_throw(&d, 4));
    for (int l = 0; l < s->n_layers; l++) {
        roll_layer(&d, s, &s->layers[l]);
    }
    m.dtype = (ps_dtype)(number % PS_DTYPE_FLOATS);
    return m;
}

void spec_model_release(spec_model *m)
{
    ps_spec_release(&m->spec);
}

/* ---- the weights ---- */

/* Center and half width of a role's values: activations stay near 1 through any number of layers.
 */
static double half_width_of(const ps_tensor_need *need, double *center)
{
    *center = 0.0;
    switch (need->role) {
    case PS_ROLE_EMBED_NORM:
    case PS_ROLE_FINAL_NORM:
    case PS_ROLE_ATTENTION_NORM:
    case PS_ROLE_Q_NORM:
    case PS_ROLE_K_NORM:
    case PS_ROLE_ATTENTION_POST_NORM:
    case PS_ROLE_MLP_NORM:
    case PS_ROLE_MLP_POST_NORM:
        *center = 1.0;
        return 0.25;
    case PS_ROLE_EMBED:
        return 1.0;
    case PS_ROLE_POSITIONS:
    case PS_ROLE_REL_POS_U:
    case PS_ROLE_REL_POS_V:
        return 0.5;
    case PS_ROLE_SINKS:
    case PS_ROLE_T5_TABLE:
    case PS_ROLE_FIRE_W1:
        return 2.0;
    case PS_ROLE_FIRE_SCALARS: // c, L, L0: the reach is within test sequences
        *center = 2.0;
        return 1.0;
    case PS_ROLE_KERPLE_LOG_P:
    case PS_ROLE_KERPLE_LOG_A:
    case PS_ROLE_KERPLE_POWER_P:
    case PS_ROLE_KERPLE_POWER_EXPONENT:
        *center = 0.3;
        return 0.4; // some below what they are held to
    case PS_ROLE_ROUTER:
        return 2.0 * sqrt(3.0 / need->k);
    default:
        return need->panel ? sqrt(3.0 / need->k) : 0.25;
    }
}

static size_t values_of(const ps_tensor_need *need)
{
    return (size_t)need->count * (size_t)need->n * (size_t)need->k;
}

float *spec_model_values(const spec_model *m, ps_role role, int layer)
{
    ps_tensor_need need;
    if (!ps_tensor_needed(&m->spec, role, layer, &need)) return NULL;
    const ps_dtype dtype = need.panel ? m->dtype : PS_F32;
    const size_t n = values_of(&need);
    dice d = {.seed = m->seed * 1000003 + (uint64_t)role * 1009 + (uint64_t)(layer + 1)};
    double center;
    const double half_width = half_width_of(&need, &center);
    float *values = ps_mem_new(n, sizeof *values);
    char *stored = ps_mem_new(n, sizeof *values);
    for (size_t i = 0; i < n; i++) {
        values[i] = (float)(center + dice_real(&d, -half_width, half_width));
    }
    for (int i = 0; i < 2; i++) {
        const spec_model_edit *e = &m->edits[i];
        if (e->values && e->role == role && e->layer == layer)
            memcpy(values, e->values, n * sizeof *values);
    }
    ps_dtype_narrow(dtype, values, n, stored);
    ps_dtype_widen(dtype, stored, n, values);
    ps_mem_free(stored);
    return values;
}

/* One matrix, panel by panel. */
static ps_err write_matrix(ps_ckpt_writer *w, const ps_tensor_need *need, ps_dtype dtype,
                           const float *values)
{
    const size_t k = (size_t)need->k, row_bytes = k * ps_dtype_block_bytes(dtype);
    char *rows = ps_mem_new(16, row_bytes), *panel = ps_mem_new(ps_panel_bytes(dtype, need->k), 1);
    ps_err err = PS_OK;
    for (int first = 0; first < need->n && !err; first += 16) {
        const int n = need->n - first < 16 ? need->n - first : 16;
        ps_dtype_narrow(dtype, values + (size_t)first * k, (size_t)n * k, rows);
        ps_panel_pack(dtype, rows, n, row_bytes, need->k, panel);
        err = ps_ckpt_append(w, panel, ps_panel_bytes(dtype, need->k));
    }
    ps_mem_free(panel);
    ps_mem_free(rows);
    return err;
}

/* Vectors of experts are padded to whole panels, others are not. */
static ps_err write_vector(ps_ckpt_writer *w, const ps_tensor_need *need, const float *values)
{
    const size_t n = (size_t)need->n, padded = need->count > 1 ? (n + 15) / 16 * 16 : n;
    float *row = ps_mem_new(padded, sizeof *row);
    memcpy(row, values, n * sizeof *row);
    const ps_err err = ps_ckpt_append(w, row, padded * sizeof *row);
    ps_mem_free(row);
    return err;
}

static ps_err write_tensor(const spec_model *m, ps_ckpt_writer *w, const ps_tensor_need *need,
                           const float *values)
{
    const size_t step = (size_t)need->n * (size_t)need->k;
    PS_TRY(ps_ckpt_begin(w, need, need->panel ? m->dtype : PS_F32));
    for (int item = 0; item < need->count; item++) {
        const float *own = values + (size_t)item * step;
        PS_TRY(need->panel ? write_matrix(w, need, m->dtype, own) : write_vector(w, need, own));
    }
    return ps_ckpt_end(w);
}

ps_err spec_model_write(const spec_model *m, const char *path)
{
    ps_ckpt_writer *w;
    int cursor = 0;
    ps_tensor_need need;
    PS_TRY(ps_spec_check(&m->spec, path));
    PS_TRY(ps_ckpt_create(path, &m->spec, &w));
    ps_err err = PS_OK;
    while (!err && ps_tensor_next(&m->spec, &cursor, &need)) {
        float *values = spec_model_values(m, need.role, need.layer);
        err = write_tensor(m, w, &need, values);
        ps_mem_free(values);
    }
    if (!err) return ps_ckpt_commit(w);
    ps_ckpt_abandon(w);
    return err;
}
