/* The spec as data and its checks. The JSON form is in spec_json.c. */
#include "model/spec.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "math/panel.h"

ps_spec ps_spec_plain(void)
{
    return (ps_spec){.pre_norm = true,
                     .activation = PS_ACTIVATION_SILU,
                     .gated = true,
                     .embed_scale = 1.0,
                     .residual_scale = 1.0,
                     .logit_scale = 1.0,
                     .bos_id = -1};
}

void ps_spec_take_layers(ps_spec *spec, int n_layers)
{
    spec->n_layers = n_layers;
    spec->layers = ps_mem_new((size_t)n_layers, sizeof *spec->layers);
}

void ps_spec_release(ps_spec *spec)
{
    ps_mem_free(spec->layers);
    *spec = (ps_spec){0};
}

static ps_err check_range(const char *where, const char *key, int64_t value, int64_t min,
                          int64_t max)
{
    if (value >= min && value <= max) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "%s: %s is %lld, wanted %lld..%lld", where, key, (long long)value,
                   (long long)min, (long long)max);
}

static ps_err check_positive(const char *where, const char *key, double value)
{
    if (isfinite(value) && value > 0.0) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "%s: %s is %g, wanted a positive number", where, key, value);
}

static ps_err check_not_negative(const char *where, const char *key, double value)
{
    if (isfinite(value) && value >= 0.0) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "%s: %s is %g, wanted >= 0", where, key, value);
}

/* `higher` must be above `lower`. */
static ps_err check_above(const char *where, const char *higher_key, double higher,
                          const char *lower_key, double lower)
{
    if (higher > lower) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "%s: %s %g must be above %s %g", where, higher_key, higher,
                   lower_key, lower);
}

static ps_err check_factors(const double *factors, int n, const char *key, const char *where)
{
    for (int t = 0; t < n; t++) {
        PS_TRY(check_positive(where, key, factors[t]));
    }
    return PS_OK;
}

static ps_err check_rope_kind(const ps_rope *rope, const char *where)
{
    switch (rope->kind) {
    case PS_ROPE_LINEAR:
        return check_positive(where, "rope factor", rope->factor);
    case PS_ROPE_LLAMA3:
        PS_TRY(check_positive(where, "rope factor", rope->factor));
        PS_TRY(check_positive(where, "rope low_factor", rope->low_factor));
        PS_TRY(check_positive(where, "rope high_factor", rope->high_factor));
        PS_TRY(check_positive(where, "rope original_length", rope->original_length));
        return check_above(where, "rope high_factor", rope->high_factor, "low_factor",
                           rope->low_factor);
    case PS_ROPE_DIVIDED:
        return check_factors(rope->factors, rope->dims / 2, "rope factors", where);
    case PS_ROPE_YARN:
        PS_TRY(check_positive(where, "rope factor", rope->factor));
        PS_TRY(check_positive(where, "rope original_length", rope->original_length));
        PS_TRY(check_positive(where, "rope beta_slow", rope->beta_slow));
        PS_TRY(check_above(where, "rope base", rope->base, "its least value", 1.0));
        return check_above(where, "rope beta_fast", rope->beta_fast, "beta_slow", rope->beta_slow);
    case PS_ROPE_DYNAMIC:
        PS_TRY(check_positive(where, "rope original_length", rope->original_length));
        if (isfinite(rope->factor) && rope->factor >= 1.0) return PS_OK;
        return PS_FAIL(PS_ERR_FORMAT, "%s: rope factor is %g, wanted 1 or more", where,
                       rope->factor);
    case PS_ROPE_LONGROPE:
        PS_TRY(check_positive(where, "rope original_length", rope->original_length));
        PS_TRY(check_factors(rope->factors, rope->dims / 2, "rope factors", where));
        return check_factors(rope->long_factors, rope->dims / 2, "rope long_factors", where);
    default:
        return PS_OK;
    }
}

static ps_err check_rope(const ps_spec *spec, const ps_rope *rope, const char *where)
{
    PS_TRY(check_range(where, "rope dims", rope->dims, 2, spec->head_dim));
    if (rope->dims % 2 != 0)
        return PS_FAIL(PS_ERR_FORMAT, "%s: rope dims is %d, wanted an even number", where,
                       rope->dims);
    PS_TRY(check_positive(where, "rope base", rope->base));
    PS_TRY(check_positive(where, "rope magnitude", rope->magnitude));
    return check_rope_kind(rope, where);
}

static ps_err check_bias(const ps_spec *spec, const ps_bias_spec *bias, const char *where)
{
    switch (bias->kind) {
    case PS_BIAS_ALIBI:
        PS_TRY(check_positive(where, "alibi max_exponent", bias->max_exponent));
        return check_positive(where, "alibi factor", bias->factor);
    case PS_BIAS_REL_POS:
        PS_TRY(check_range(where, "rel_pos dim", bias->dim, 2, PS_SPEC_WIDTH_MAX));
        return check_positive(where, "rel_pos theta", bias->theta);
    case PS_BIAS_T5: {
        const int least = bias->bidirectional ? 4 : 2;
        PS_TRY(check_range(where, "t5 n_buckets", bias->n_buckets, least, PS_SPEC_BUCKETS_MAX));
        if (bias->bidirectional && bias->n_buckets % 2 != 0)
            return PS_FAIL(PS_ERR_FORMAT,
                           "%s: t5 n_buckets is %d, wanted an even number for both directions",
                           where, bias->n_buckets);
        return check_range(where, "t5 max_distance", bias->max_distance,
                           bias->n_buckets / least + 1, INT32_MAX);
    }
    case PS_BIAS_SANDWICH:
        return check_range(where, "sandwich dim", bias->dim, 2, PS_SPEC_WIDTH_MAX);
    case PS_BIAS_FIRE:
        PS_TRY(check_range(where, "fire width", bias->width, 1, PS_SPEC_FIRE_WIDTH_MAX));
        return check_range(where, "fire width times n_heads", (int64_t)bias->width * spec->n_heads,
                           1, PS_SPEC_WIDTH_MAX);
    case PS_BIAS_KERPLE_LOG:
    case PS_BIAS_KERPLE_POWER:
    case PS_BIAS_FOX:
    case PS_BIAS_KEY_MASK:
        return PS_OK;
    default:
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: bias %s cannot come from a file", where,
                       ps_bias_kind_name(bias->kind));
    }
}

bool ps_spec_bias_repeats(ps_bias_kind kind)
{
    return kind == PS_BIAS_ALIBI || kind == PS_BIAS_SANDWICH;
}

static ps_err check_biases(const ps_spec *spec, const ps_layer_spec *layer, const char *where)
{
    for (int b = 0; b < layer->n_biases; b++) {
        const ps_bias_spec *bias = &layer->biases[b];
        PS_TRY(check_bias(spec, bias, where));
        if (bias->kind == PS_BIAS_FOX && layer->look_ahead)
            return PS_FAIL(PS_ERR_UNSUPPORTED,
                           "%s: fox biases sum over the past, found one in a layer with look_ahead",
                           where);
        for (int other = 0; other < b; other++) {
            // A layer has one set of tensors for each kind.
            if (layer->biases[other].kind == bias->kind && !ps_spec_bias_repeats(bias->kind))
                return PS_FAIL(PS_ERR_FORMAT, "%s: a layer has two %s biases, wanted one at most",
                               where, ps_bias_kind_name(bias->kind));
        }
    }
    return PS_OK;
}

static ps_err check_visible(const ps_spec *spec, const ps_layer_spec *layer, const char *where)
{
    PS_TRY(check_range(where, "window", layer->window, 0, INT32_MAX));
    PS_TRY(check_range(where, "chunk", layer->chunk, 0, INT32_MAX));
    // The reach, (left_chunks + 1) chunk, is bounded as a window is.
    const int64_t most = layer->chunk > 0 ? INT32_MAX / layer->chunk - 1 : 0;
    PS_TRY(check_range(where, "left_chunks", layer->left_chunks, -1, most));
    if (layer->look_ahead && layer->window > 0)
        return PS_FAIL(PS_ERR_FORMAT, "%s: look_ahead goes with chunks, found window %lld", where,
                       (long long)layer->window);
    if (spec->kept_at_cache && layer->chunk > 0)
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: kept tokens at cache positions need windows, found chunks of %lld",
                       where, (long long)layer->chunk);
    return PS_OK;
}

static ps_err check_layer(const ps_spec *spec, const ps_layer_spec *layer, const char *where)
{
    PS_TRY(check_visible(spec, layer, where));
    PS_TRY(check_range(where, "rope of a layer", layer->rope, -1, spec->n_ropes - 1));
    PS_TRY(check_range(where, "number of biases", layer->n_biases, 0, PS_BIAS_MAX));
    if (layer->mixture && spec->n_experts == 0)
        return PS_FAIL(PS_ERR_FORMAT, "%s: a layer has a mixture, but n_experts is 0", where);
    return check_biases(spec, layer, where);
}

static ps_err check_tokens(const ps_spec *spec, const char *where)
{
    PS_TRY(check_range(where, "bos_id", spec->bos_id, -1, spec->vocab_size - 1));
    if (spec->add_bos && spec->bos_id < 0)
        return PS_FAIL(PS_ERR_FORMAT, "%s: add_bos is true, but there is no bos_id", where);
    PS_TRY(check_range(where, "number of eos_ids", spec->n_eos, 0, PS_SPEC_EOS_MAX));
    for (int i = 0; i < spec->n_eos; i++) {
        PS_TRY(check_range(where, "eos_ids", spec->eos_ids[i], 0, spec->vocab_size - 1));
    }
    return PS_OK;
}

static ps_err check_experts(const ps_spec *spec, const char *where)
{
    PS_TRY(check_range(where, "n_experts", spec->n_experts, 0, PS_SPEC_EXPERTS_MAX));
    if (spec->n_experts == 0) return PS_OK;
    PS_TRY(check_range(where, "n_experts_used", spec->n_experts_used, 1, spec->n_experts));
    PS_TRY(check_range(where, "d_ff_expert", spec->d_ff_expert, 1, PS_SPEC_WIDTH_MAX));
    return check_range(where, "router", spec->router, 0, PS_ROUTER_COUNT - 1);
}

static ps_err check_block(const ps_spec *spec, const char *where)
{
    PS_TRY(check_positive(where, "attention_scale", spec->attention_scale));
    PS_TRY(check_not_negative(where, "norm_eps", spec->norm_eps));
    PS_TRY(check_not_negative(where, "softcap", spec->softcap));
    PS_TRY(check_not_negative(where, "qkv_clip", spec->qkv_clip));
    PS_TRY(check_not_negative(where, "final_softcap", spec->final_softcap));
    PS_TRY(check_positive(where, "embed_scale", spec->embed_scale));
    PS_TRY(check_positive(where, "residual_scale", spec->residual_scale));
    PS_TRY(check_positive(where, "logit_scale", spec->logit_scale));
    if (spec->activation == PS_ACTIVATION_SWIGLU_OSS) {
        PS_TRY(check_positive(where, "swiglu_alpha", spec->swiglu_alpha));
        PS_TRY(check_positive(where, "swiglu_limit", spec->swiglu_limit));
        if (!spec->gated)
            return PS_FAIL(PS_ERR_FORMAT, "%s: activation swiglu_oss is gated, gated is false",
                           where);
    }
    if (spec->norm_bias && spec->norm != PS_NORM_LAYER)
        return PS_FAIL(PS_ERR_FORMAT, "%s: norm_bias is true, but rms norms have none", where);
    if ((spec->parallel && !spec->pre_norm) || (spec->shared_norm && !spec->parallel))
        return PS_FAIL(PS_ERR_FORMAT, "%s: parallel needs pre_norm, shared_norm needs parallel",
                       where);
    if (spec->sinks && spec->quiet_softmax)
        return PS_FAIL(PS_ERR_FORMAT,
                       "%s: sinks and quiet_softmax are both true, wanted one of them", where);
    PS_TRY(check_range(where, "output_gate", spec->output_gate, 0, PS_OUTPUT_GATE_COUNT - 1));
    PS_TRY(check_range(where, "n_positions", spec->n_positions, 0, INT32_MAX / 2));
    PS_TRY(
        check_range(where, "n_outputs", spec->n_outputs, 0, spec->encoder ? PS_SPEC_WIDTH_MAX : 0));
    if (spec->encoder && (spec->tied_head || (spec->head_bias && spec->n_outputs == 0)))
        return PS_FAIL(PS_ERR_FORMAT,
                       "%s: an encoder's head has weights of its own, and a bias with them", where);
    return check_experts(spec, where);
}

ps_err ps_spec_check(const ps_spec *spec, const char *where)
{
    PS_TRY(check_range(where, "n_layers", spec->n_layers, 1, PS_SPEC_LAYERS_MAX));
    PS_TRY(check_range(where, "d_model", spec->d_model, 1, PS_SPEC_WIDTH_MAX));
    PS_TRY(check_range(where, "d_ff", spec->d_ff, 1, PS_SPEC_WIDTH_MAX));
    PS_TRY(check_range(where, "head_dim", spec->head_dim, 1, PS_SPEC_HEAD_DIM_MAX));
    PS_TRY(check_range(where, "n_heads", spec->n_heads, 1, PS_SPEC_WIDTH_MAX / spec->head_dim));
    PS_TRY(check_range(where, "n_kv_heads", spec->n_kv_heads, 1, spec->n_heads));
    PS_TRY(check_range(where, "vocab_size", spec->vocab_size, 1, PS_SPEC_VOCAB_MAX));
    if (spec->n_heads % spec->n_kv_heads != 0) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: n_heads %d is not a multiple of n_kv_heads %d", where,
                       spec->n_heads, spec->n_kv_heads);
    }
    PS_TRY(check_range(where, "context", spec->context, 0, INT64_C(1) << 48));
    PS_TRY(check_range(where, "n_kept", spec->n_kept, 0, PS_SPEC_KEPT_MAX));
    PS_TRY(check_block(spec, where));
    PS_TRY(check_range(where, "number of ropes", spec->n_ropes, 0, PS_SPEC_ROPES_MAX));
    for (int r = 0; r < spec->n_ropes; r++) {
        PS_TRY(check_rope(spec, &spec->ropes[r], where));
    }
    for (int l = 0; l < spec->n_layers; l++) {
        PS_TRY(check_layer(spec, &spec->layers[l], where));
    }
    return check_tokens(spec, where);
}

ps_visible ps_spec_visible(const ps_spec *spec, int layer)
{
    const ps_layer_spec *l = &spec->layers[layer];
    return (ps_visible){.window = l->window,
                        .chunk = l->chunk,
                        .left_chunks = l->left_chunks,
                        .look_ahead = l->look_ahead,
                        .n_kept = spec->n_kept,
                        .kept_at_cache = spec->kept_at_cache};
}

int64_t ps_spec_reach(const ps_spec *spec, int layer)
{
    const ps_visible visible = ps_spec_visible(spec, layer);
    return ps_visible_reach(&visible);
}

bool ps_spec_is_endless(const ps_spec *spec)
{
    for (int l = 0; l < spec->n_layers; l++) {
        if (ps_spec_reach(spec, l) == 0) return false;
    }
    return spec->n_positions == 0;
}

bool ps_spec_looks_ahead(const ps_spec *spec)
{
    for (int l = 0; l < spec->n_layers; l++) {
        if (spec->layers[l].look_ahead) return true;
    }
    return false;
}

int ps_spec_head_size(const ps_spec *spec)
{
    return spec->encoder ? spec->n_outputs : spec->vocab_size;
}

bool ps_spec_has_mixture(const ps_spec *spec)
{
    for (int l = 0; l < spec->n_layers; l++) {
        if (spec->layers[l].mixture) return true;
    }
    return false;
}

static bool uses_rope(const ps_spec *spec, int rope)
{
    for (int l = 0; l < spec->n_layers; l++) {
        if (spec->layers[l].rope == rope) return true;
    }
    return false;
}

void ps_spec_describe_ropes(const ps_spec *spec, int64_t length, ps_text *out)
{
    const char *between = "";
    for (int r = 0; r < spec->n_ropes; r++) {
        if (!ps_rope_depends_on_length(&spec->ropes[r]) || !uses_rope(spec, r)) continue;
        char variant[PS_ROPE_VARIANT_BYTES];
        ps_rope_variant(&spec->ropes[r], length, variant);
        ps_text_appendf(out, "%s%s", between, variant);
        between = "; ";
    }
}

int ps_spec_output_gates(const ps_spec *spec)
{
    if (spec->output_gate == PS_OUTPUT_GATE_NONE) return 0;
    return spec->output_gate == PS_OUTPUT_GATE_HEADS ? spec->n_heads
                                                     : spec->n_heads * spec->head_dim;
}

/* A provider of this layer as far as its needs go: no tensors. */
static ps_bias shape_of(const ps_spec *spec, const ps_bias_spec *bias)
{
    return (ps_bias){.kind = bias->kind,
                     .n_heads = spec->n_heads,
                     .n_kv_heads = spec->n_kv_heads,
                     .head_dim = spec->head_dim};
}

int ps_spec_layer_features(const ps_spec *spec, int layer)
{
    int n = 0;
    for (int b = 0; b < spec->layers[layer].n_biases; b++) {
        const ps_bias bias = shape_of(spec, &spec->layers[layer].biases[b]);
        n += ps_bias_features(&bias);
    }
    return n;
}

int ps_spec_layer_numbers(const ps_spec *spec, int layer)
{
    int n = 0;
    for (int b = 0; b < spec->layers[layer].n_biases; b++) {
        const ps_bias bias = shape_of(spec, &spec->layers[layer].biases[b]);
        n += ps_bias_numbers(&bias);
    }
    return n;
}

size_t ps_spec_layer_projected(const ps_spec *spec, int layer)
{
    size_t n = 0;
    for (int b = 0; b < spec->layers[layer].n_biases; b++) {
        if (spec->layers[layer].biases[b].kind == PS_BIAS_FOX)
            n += ps_mem_round_up((size_t)spec->n_heads, PS_PANEL_LANES);
    }
    return n;
}

int ps_own_biases_features(const ps_own_biases *own, int layer)
{
    int n = 0;
    for (int i = 0; i < own->n; i++) {
        if (own->list[i].layer == layer) n += ps_bias_features(&own->list[i].bias);
    }
    return n;
}

int ps_own_biases_numbers(const ps_own_biases *own, int layer)
{
    int n = 0;
    for (int i = 0; i < own->n; i++) {
        if (own->list[i].layer == layer) n += ps_bias_numbers(&own->list[i].bias);
    }
    return n;
}

size_t ps_own_biases_projected(const ps_own_biases *own, int layer)
{
    size_t n = 0;
    for (int i = 0; i < own->n; i++) {
        if (own->list[i].layer == layer)
            n += ps_mem_round_up((size_t)ps_bias_projected(&own->list[i].bias), PS_PANEL_LANES);
    }
    return n;
}

ps_err ps_own_biases_check(const ps_own_biases *own, const ps_spec *spec)
{
    for (int i = 0; i < own->n; i++) {
        const ps_own_bias *b = &own->list[i];
        if (b->layer < 0 || b->layer >= spec->n_layers)
            return PS_FAIL(PS_ERR_USAGE, "own bias %d: layer %d of a model with %d", i, b->layer,
                           spec->n_layers);
        if (b->bias.kind != PS_BIAS_CUSTOM || !b->bias.fill)
            return PS_FAIL(PS_ERR_USAGE, "own bias %d: wanted a custom provider with a fill", i);
        if (b->bias.projection && b->bias.projection->k != spec->d_model)
            return PS_FAIL(PS_ERR_USAGE, "own bias %d: projection of %d inputs, wanted %d", i,
                           b->bias.projection->k, spec->d_model);
        int n = spec->layers[b->layer].n_biases;
        for (int other = 0; other < own->n; other++) {
            n += own->list[other].layer == b->layer;
        }
        if (n > PS_BIAS_MAX)
            return PS_FAIL(PS_ERR_USAGE, "own bias %d: layer %d has %d biases, wanted at most %d",
                           i, b->layer, n, PS_BIAS_MAX);
    }
    return PS_OK;
}

bool ps_spec_is_eos(const ps_spec *spec, int32_t token)
{
    for (int i = 0; i < spec->n_eos; i++) {
        if (spec->eos_ids[i] == token) return true;
    }
    return false;
}
