#include "model/tensors.h"

#include <stdio.h>

typedef enum { ALWAYS, UNTIED, QKV_BIAS, O_BIAS, QK_NORM, REL_POS, MLP_BIAS } condition;
typedef enum { ONE, D, HK, GK, K, F, V, P } dimension; // names as in the formulas; P: rel_pos dim

static const struct {
    const char *part;
    const char *name;
    condition when;
    bool panel;
    dimension n, k;
} table[PS_ROLE_COUNT] = {
    [PS_ROLE_EMBED] = {"embed", "weight", ALWAYS, true, V, D},
    [PS_ROLE_FINAL_NORM] = {"norm", "weight", ALWAYS, false, D, ONE},
    [PS_ROLE_HEAD] = {"head", "weight", UNTIED, true, V, D},
    [PS_ROLE_ATTENTION_NORM] = {"attention", "norm", ALWAYS, false, D, ONE},
    [PS_ROLE_Q] = {"attention", "q", ALWAYS, true, HK, D},
    [PS_ROLE_K] = {"attention", "k", ALWAYS, true, GK, D},
    [PS_ROLE_V] = {"attention", "v", ALWAYS, true, GK, D},
    [PS_ROLE_O] = {"attention", "o", ALWAYS, true, D, HK},
    [PS_ROLE_Q_BIAS] = {"attention", "q_bias", QKV_BIAS, false, HK, ONE},
    [PS_ROLE_K_BIAS] = {"attention", "k_bias", QKV_BIAS, false, GK, ONE},
    [PS_ROLE_V_BIAS] = {"attention", "v_bias", QKV_BIAS, false, GK, ONE},
    [PS_ROLE_O_BIAS] = {"attention", "o_bias", O_BIAS, false, D, ONE},
    [PS_ROLE_Q_NORM] = {"attention", "q_norm", QK_NORM, false, K, ONE},
    [PS_ROLE_K_NORM] = {"attention", "k_norm", QK_NORM, false, K, ONE},
    [PS_ROLE_REL_POS_W] = {"rel_pos", "w_pos", REL_POS, true, HK, P},
    [PS_ROLE_REL_POS_U] = {"rel_pos", "u", REL_POS, false, HK, ONE},
    [PS_ROLE_REL_POS_V] = {"rel_pos", "v", REL_POS, false, HK, ONE},
    [PS_ROLE_MLP_NORM] = {"mlp", "norm", ALWAYS, false, D, ONE},
    [PS_ROLE_GATE] = {"mlp", "gate", ALWAYS, true, F, D},
    [PS_ROLE_UP] = {"mlp", "up", ALWAYS, true, F, D},
    [PS_ROLE_DOWN] = {"mlp", "down", ALWAYS, true, D, F},
    [PS_ROLE_GATE_BIAS] = {"mlp", "gate_bias", MLP_BIAS, false, F, ONE},
    [PS_ROLE_UP_BIAS] = {"mlp", "up_bias", MLP_BIAS, false, F, ONE},
    [PS_ROLE_DOWN_BIAS] = {"mlp", "down_bias", MLP_BIAS, false, D, ONE},
};

static const ps_bias_spec *rel_pos_of(const ps_spec *spec, int layer)
{
    if (layer < 0) return NULL;
    const ps_layer_spec *l = &spec->layers[layer];
    for (int b = 0; b < l->n_biases; b++) {
        if (l->biases[b].kind == PS_BIAS_REL_POS) return &l->biases[b];
    }
    return NULL;
}

static bool holds(const ps_spec *spec, condition when, int layer)
{
    switch (when) {
    case UNTIED:
        return !spec->tied_head;
    case QKV_BIAS:
        return spec->qkv_bias;
    case O_BIAS:
        return spec->o_bias;
    case QK_NORM:
        return spec->qk_norm;
    case REL_POS:
        return rel_pos_of(spec, layer) != NULL;
    case MLP_BIAS:
        return spec->mlp_bias;
    default:
        return true;
    }
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
    case K:
        return spec->head_dim;
    case F:
        return spec->d_ff;
    case V:
        return spec->vocab_size;
    case P:
        return rel_pos_of(spec, layer)->dim;
    default:
        return 1;
    }
}

bool ps_tensor_needed(const ps_spec *spec, ps_role role, int layer, ps_tensor_need *out)
{
    if (((int)role >= PS_ROLE_FIRST_OF_LAYER) != (layer >= 0)) return false;
    if (!holds(spec, table[role].when, layer)) return false;
    *out = (ps_tensor_need){.role = role,
                            .layer = layer,
                            .panel = table[role].panel,
                            .n = length(spec, table[role].n, layer),
                            .k = length(spec, table[role].k, layer)};
    return true;
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
