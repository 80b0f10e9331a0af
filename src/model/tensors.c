#include "model/tensors.h"

#include <stdio.h>

typedef enum {
    ALWAYS,
    HEAD,
    HEAD_BIAS,
    POSITIONS,
    EMBED_NORM,
    EMBED_NORM_BIAS,
    NORM_BIAS,
    PRE_NORM,
    PRE_NORM_BIAS,
    MLP_PRE_NORM,
    MLP_PRE_NORM_BIAS,
    POST_NORM,
    QKV_BIAS,
    O_BIAS,
    QK_NORM,
    SINKS,
    REL_POS,
    T5,
    KERPLE_LOG,
    KERPLE_POWER,
    FIRE,
    FOX,
    OUTPUT_GATE,
    OUTPUT_GATE_BIAS,
    GATED,
    DENSE,
    GATE_BIAS,
    MLP_BIAS,
    MIXTURE,
    ROUTER_BIAS,
    MIXTURE_GATED,
    EXPERT_GATE_BIAS,
    EXPERT_BIAS
} condition;

/* Names as in the formulas. O: what the head gives for a token, P: rel_pos dim, QN and KN: norms of
 * q and k, E: experts, FE: their ffn width, N: learned positions, H: heads, BH: t5 buckets times
 * heads, FW: width of fire, OG: outputs of the output gate. */
typedef enum { ONE, THREE, D, H, HK, GK, QN, KN, F, V, O, P, E, FE, N, BH, FW, FWH, OG } dimension;

static const struct {
    const char *part;
    const char *name;
    condition when;
    bool panel;
    dimension n, k;
} table[PS_ROLE_COUNT] = {
    [PS_ROLE_EMBED] = {"embed", "weight", ALWAYS, true, V, D},
    [PS_ROLE_POSITIONS] = {"embed", "positions", POSITIONS, true, N, D},
    [PS_ROLE_EMBED_NORM] = {"embed", "norm", EMBED_NORM, false, D, ONE},
    [PS_ROLE_EMBED_NORM_BIAS] = {"embed", "norm_bias", EMBED_NORM_BIAS, false, D, ONE},
    [PS_ROLE_FINAL_NORM] = {"norm", "weight", ALWAYS, false, D, ONE},
    [PS_ROLE_FINAL_NORM_BIAS] = {"norm", "bias", NORM_BIAS, false, D, ONE},
    [PS_ROLE_HEAD] = {"head", "weight", HEAD, true, O, D},
    [PS_ROLE_HEAD_BIAS] = {"head", "bias", HEAD_BIAS, false, O, ONE},
    [PS_ROLE_ATTENTION_NORM] = {"attention", "norm", PRE_NORM, false, D, ONE},
    [PS_ROLE_ATTENTION_NORM_BIAS] = {"attention", "norm_bias", PRE_NORM_BIAS, false, D, ONE},
    [PS_ROLE_Q] = {"attention", "q", ALWAYS, true, HK, D},
    [PS_ROLE_K] = {"attention", "k", ALWAYS, true, GK, D},
    [PS_ROLE_V] = {"attention", "v", ALWAYS, true, GK, D},
    [PS_ROLE_O] = {"attention", "o", ALWAYS, true, D, HK},
    [PS_ROLE_Q_BIAS] = {"attention", "q_bias", QKV_BIAS, false, HK, ONE},
    [PS_ROLE_K_BIAS] = {"attention", "k_bias", QKV_BIAS, false, GK, ONE},
    [PS_ROLE_V_BIAS] = {"attention", "v_bias", QKV_BIAS, false, GK, ONE},
    [PS_ROLE_O_BIAS] = {"attention", "o_bias", O_BIAS, false, D, ONE},
    [PS_ROLE_Q_NORM] = {"attention", "q_norm", QK_NORM, false, QN, ONE},
    [PS_ROLE_K_NORM] = {"attention", "k_norm", QK_NORM, false, KN, ONE},
    [PS_ROLE_SINKS] = {"attention", "sinks", SINKS, false, H, ONE},
    [PS_ROLE_ATTENTION_POST_NORM] = {"attention", "post_norm", POST_NORM, false, D, ONE},
    [PS_ROLE_REL_POS_W] = {"rel_pos", "w_pos", REL_POS, true, HK, P},
    [PS_ROLE_REL_POS_U] = {"rel_pos", "u", REL_POS, false, HK, ONE},
    [PS_ROLE_REL_POS_V] = {"rel_pos", "v", REL_POS, false, HK, ONE},
    [PS_ROLE_T5_TABLE] = {"t5", "table", T5, false, BH, ONE},
    [PS_ROLE_KERPLE_LOG_P] = {"kerple_log", "p", KERPLE_LOG, false, H, ONE},
    [PS_ROLE_KERPLE_LOG_A] = {"kerple_log", "a", KERPLE_LOG, false, H, ONE},
    [PS_ROLE_KERPLE_POWER_P] = {"kerple_power", "p", KERPLE_POWER, false, H, ONE},
    [PS_ROLE_KERPLE_POWER_EXPONENT] = {"kerple_power", "exponent", KERPLE_POWER, false, H, ONE},
    [PS_ROLE_FIRE_W1] = {"fire", "w1", FIRE, false, FW, ONE},
    [PS_ROLE_FIRE_B1] = {"fire", "b1", FIRE, false, FW, ONE},
    [PS_ROLE_FIRE_W2] = {"fire", "w2", FIRE, false, FWH, ONE},
    [PS_ROLE_FIRE_B2] = {"fire", "b2", FIRE, false, H, ONE},
    [PS_ROLE_FIRE_SCALARS] = {"fire", "scalars", FIRE, false, THREE, ONE},
    [PS_ROLE_FOX_WEIGHT] = {"fox", "weight", FOX, true, H, D},
    [PS_ROLE_FOX_BIAS] = {"fox", "bias", FOX, false, H, ONE},
    [PS_ROLE_OUTPUT_GATE] = {"attention", "gate", OUTPUT_GATE, true, OG, D},
    [PS_ROLE_OUTPUT_GATE_BIAS] = {"attention", "gate_bias", OUTPUT_GATE_BIAS, false, OG, ONE},
    [PS_ROLE_MLP_NORM] = {"mlp", "norm", MLP_PRE_NORM, false, D, ONE},
    [PS_ROLE_MLP_NORM_BIAS] = {"mlp", "norm_bias", MLP_PRE_NORM_BIAS, false, D, ONE},
    [PS_ROLE_GATE] = {"mlp", "gate", GATED, true, F, D},
    [PS_ROLE_UP] = {"mlp", "up", DENSE, true, F, D},
    [PS_ROLE_DOWN] = {"mlp", "down", DENSE, true, D, F},
    [PS_ROLE_GATE_BIAS] = {"mlp", "gate_bias", GATE_BIAS, false, F, ONE},
    [PS_ROLE_UP_BIAS] = {"mlp", "up_bias", MLP_BIAS, false, F, ONE},
    [PS_ROLE_DOWN_BIAS] = {"mlp", "down_bias", MLP_BIAS, false, D, ONE},
    [PS_ROLE_ROUTER] = {"mlp", "router", MIXTURE, true, E, D},
    [PS_ROLE_ROUTER_BIAS] = {"mlp", "router_bias", ROUTER_BIAS, false, E, ONE},
    [PS_ROLE_EXPERT_GATE] = {"experts", "gate", MIXTURE_GATED, true, FE, D},
    [PS_ROLE_EXPERT_UP] = {"experts", "up", MIXTURE, true, FE, D},
    [PS_ROLE_EXPERT_DOWN] = {"experts", "down", MIXTURE, true, D, FE},
    [PS_ROLE_EXPERT_GATE_BIAS] = {"experts", "gate_bias", EXPERT_GATE_BIAS, false, FE, ONE},
    [PS_ROLE_EXPERT_UP_BIAS] = {"experts", "up_bias", EXPERT_BIAS, false, FE, ONE},
    [PS_ROLE_EXPERT_DOWN_BIAS] = {"experts", "down_bias", EXPERT_BIAS, false, D, ONE},
    [PS_ROLE_MLP_POST_NORM] = {"mlp", "post_norm", POST_NORM, false, D, ONE},
};

/* The layer's provider of a kind that has tensors, of which there is one at most. */
static const ps_bias_spec *bias_of(const ps_spec *spec, int layer, ps_bias_kind kind)
{
    if (layer < 0) return NULL;
    const ps_layer_spec *l = &spec->layers[layer];
    for (int b = 0; b < l->n_biases; b++) {
        if (l->biases[b].kind == kind) return &l->biases[b];
    }
    return NULL;
}

static bool holds_for_bias(const ps_spec *s, condition when, int layer)
{
    static const ps_bias_kind kinds[] = {[REL_POS] = PS_BIAS_REL_POS,
                                         [T5] = PS_BIAS_T5,
                                         [KERPLE_LOG] = PS_BIAS_KERPLE_LOG,
                                         [KERPLE_POWER] = PS_BIAS_KERPLE_POWER,
                                         [FIRE] = PS_BIAS_FIRE,
                                         [FOX] = PS_BIAS_FOX};
    return bias_of(s, layer, kinds[when]) != NULL;
}

static bool holds_for_mlp(const ps_spec *s, condition when, bool mixture)
{
    switch (when) {
    case GATED:
        return !mixture && s->gated;
    case DENSE:
        return !mixture;
    case GATE_BIAS:
        return !mixture && s->gated && s->mlp_bias;
    case MLP_BIAS:
        return !mixture && s->mlp_bias;
    case MIXTURE:
        return mixture;
    case ROUTER_BIAS:
        return mixture && s->router_bias;
    case MIXTURE_GATED:
        return mixture && s->gated;
    case EXPERT_GATE_BIAS:
        return mixture && s->gated && s->expert_bias;
    case EXPERT_BIAS:
        return mixture && s->expert_bias;
    default:
        return true;
    }
}

static bool holds(const ps_spec *s, condition when, int layer)
{
    switch (when) {
    case HEAD:
        return !s->tied_head && ps_spec_head_size(s) > 0;
    case HEAD_BIAS:
        return s->head_bias;
    case POSITIONS:
        return s->n_positions > 0;
    case EMBED_NORM:
        return s->embed_norm;
    case EMBED_NORM_BIAS:
        return s->embed_norm && s->norm_bias;
    case NORM_BIAS:
        return s->norm_bias;
    case PRE_NORM:
        return s->pre_norm;
    case PRE_NORM_BIAS:
        return s->pre_norm && s->norm_bias;
    case MLP_PRE_NORM:
        return s->pre_norm && !s->shared_norm;
    case MLP_PRE_NORM_BIAS:
        return s->pre_norm && !s->shared_norm && s->norm_bias;
    case POST_NORM:
        return s->post_norm;
    case QKV_BIAS:
        return s->qkv_bias;
    case O_BIAS:
        return s->o_bias;
    case QK_NORM:
        return s->qk_norm != PS_QK_NORM_NONE;
    case SINKS:
        return s->sinks;
    case REL_POS:
    case T5:
    case KERPLE_LOG:
    case KERPLE_POWER:
    case FIRE:
    case FOX:
        return holds_for_bias(s, when, layer);
    case OUTPUT_GATE:
        return s->output_gate != PS_OUTPUT_GATE_NONE;
    case OUTPUT_GATE_BIAS:
        return s->output_gate != PS_OUTPUT_GATE_NONE && s->qkv_bias;
    default:
        return holds_for_mlp(s, when, layer >= 0 && s->layers[layer].mixture);
    }
}

/* Weights of the norm of q or k, of `heads` heads. */
static int norm_length(const ps_spec *spec, int heads)
{
    return spec->qk_norm == PS_QK_NORM_HEAD ? spec->head_dim : heads * spec->head_dim;
}

static int length(const ps_spec *spec, dimension d, int layer)
{
    switch (d) {
    case D:
        return spec->d_model;
    case HK:
        return spec->n_heads * spec->head_dim;
    case GK:
        return spec->n_kv_heads * spec->head_dim;
    case QN:
        return norm_length(spec, spec->n_heads);
    case KN:
        return norm_length(spec, spec->n_kv_heads);
    case H:
        return spec->n_heads;
    case E:
        return spec->n_experts;
    case FE:
        return spec->d_ff_expert;
    case N:
        return spec->n_positions;
    case F:
        return spec->d_ff;
    case V:
        return spec->vocab_size;
    case O:
        return ps_spec_head_size(spec);
    case P:
        return bias_of(spec, layer, PS_BIAS_REL_POS)->dim;
    case BH:
        return bias_of(spec, layer, PS_BIAS_T5)->n_buckets * spec->n_heads;
    case FW:
        return bias_of(spec, layer, PS_BIAS_FIRE)->width;
    case FWH:
        return bias_of(spec, layer, PS_BIAS_FIRE)->width * spec->n_heads;
    case OG:
        return ps_spec_output_gates(spec);
    case THREE:
        return 3;
    default:
        return 1;
    }
}

static bool is_of_experts(ps_role role)
{
    return role >= PS_ROLE_EXPERT_GATE && role <= PS_ROLE_EXPERT_DOWN_BIAS;
}

bool ps_tensor_needed(const ps_spec *spec, ps_role role, int layer, ps_tensor_need *out)
{
    if (((int)role >= PS_ROLE_FIRST_OF_LAYER) != (layer >= 0)) return false;
    if (!holds(spec, table[role].when, layer)) return false;
    *out = (ps_tensor_need){.role = role,
                            .layer = layer,
                            .panel = table[role].panel,
                            .n = length(spec, table[role].n, layer),
                            .k = length(spec, table[role].k, layer),
                            .count = is_of_experts(role) ? spec->n_experts : 1};
    return true;
}

int ps_tensor_shape(const ps_tensor_need *need, int shape[3])
{
    int rank = 0;
    if (need->count > 1) shape[rank++] = need->count;
    shape[rank++] = need->n;
    if (need->panel) shape[rank++] = need->k;
    return rank;
}

void ps_tensor_name(ps_role role, int layer, char *out)
{
    if (layer < 0) {
        snprintf(out, PS_TENSOR_NAME_BYTES, "/%s/%s", table[role].part, table[role].name);
    } else {
        snprintf(out, PS_TENSOR_NAME_BYTES, "/layers/%03d/%s/%s", layer, table[role].part,
                 table[role].name);
    }
}

bool ps_tensor_next(const ps_spec *spec, int *cursor, ps_tensor_need *out)
{
    const int per_layer = PS_ROLE_COUNT - PS_ROLE_FIRST_OF_LAYER;
    const int end = PS_ROLE_FIRST_OF_LAYER + per_layer * spec->n_layers;
    while (*cursor < end) {
        const int at = (*cursor)++;
        const bool global = at < PS_ROLE_FIRST_OF_LAYER;
        const int layer = global ? -1 : (at - PS_ROLE_FIRST_OF_LAYER) / per_layer;
        const int role =
            global ? at : PS_ROLE_FIRST_OF_LAYER + (at - PS_ROLE_FIRST_OF_LAYER) % per_layer;
        if (ps_tensor_needed(spec, (ps_role)role, layer, out)) return true;
    }
    return false;
}
