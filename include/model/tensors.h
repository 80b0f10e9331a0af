/* The tensors that a spec calls for: one table for converter, loader, plan and synthetic models.
 *
 *   panel    matrix [n, k] in panel layout (math/panel.h), any dtype
 *   vector   [n] f32 (norm weights, biases, sinks, parameters of bias providers; those with two
 *            dimensions row by row: t5/table [n_buckets, heads], fire/w2 [heads, width])
 *
 * Those of experts are stacked: count panel matrices, or count vectors of n rounded up to 16.
 *
 * Names in the model file: /embed/weight, /norm/weight, /head/weight and
 * /layers/NNN/<part>/<tensor>.   MPI: local.
 */
#ifndef PS_MODEL_TENSORS_H
#define PS_MODEL_TENSORS_H

#include <stdbool.h>

#include "model/spec.h"

typedef enum ps_role {
    // of the whole model
    PS_ROLE_EMBED,
    PS_ROLE_POSITIONS,
    PS_ROLE_EMBED_NORM,
    PS_ROLE_EMBED_NORM_BIAS,
    PS_ROLE_FINAL_NORM,
    PS_ROLE_FINAL_NORM_BIAS,
    PS_ROLE_HEAD,
    PS_ROLE_HEAD_BIAS,
    // of a layer
    PS_ROLE_ATTENTION_NORM,
    PS_ROLE_ATTENTION_NORM_BIAS,
    PS_ROLE_Q,
    PS_ROLE_K,
    PS_ROLE_V,
    PS_ROLE_O,
    PS_ROLE_Q_BIAS,
    PS_ROLE_K_BIAS,
    PS_ROLE_V_BIAS,
    PS_ROLE_O_BIAS,
    PS_ROLE_Q_NORM,
    PS_ROLE_K_NORM,
    PS_ROLE_SINKS,
    PS_ROLE_ATTENTION_POST_NORM,
    PS_ROLE_REL_POS_W,
    PS_ROLE_REL_POS_U,
    PS_ROLE_REL_POS_V,
    PS_ROLE_T5_TABLE,
    PS_ROLE_KERPLE_LOG_P,
    PS_ROLE_KERPLE_LOG_A,
    PS_ROLE_KERPLE_POWER_P,
    PS_ROLE_KERPLE_POWER_EXPONENT,
    PS_ROLE_FIRE_W1,
    PS_ROLE_FIRE_B1,
    PS_ROLE_FIRE_W2,
    PS_ROLE_FIRE_B2,
    PS_ROLE_FIRE_SCALARS,
    PS_ROLE_FOX_WEIGHT,
    PS_ROLE_FOX_BIAS,
    PS_ROLE_OUTPUT_GATE,
    PS_ROLE_OUTPUT_GATE_BIAS,
    PS_ROLE_MLP_NORM,
    PS_ROLE_MLP_NORM_BIAS,
    PS_ROLE_GATE,
    PS_ROLE_UP,
    PS_ROLE_DOWN,
    PS_ROLE_GATE_BIAS,
    PS_ROLE_UP_BIAS,
    PS_ROLE_DOWN_BIAS,
    PS_ROLE_ROUTER,
    PS_ROLE_ROUTER_BIAS,
    PS_ROLE_EXPERT_GATE,
    PS_ROLE_EXPERT_UP,
    PS_ROLE_EXPERT_DOWN,
    PS_ROLE_EXPERT_GATE_BIAS,
    PS_ROLE_EXPERT_UP_BIAS,
    PS_ROLE_EXPERT_DOWN_BIAS,
    PS_ROLE_MLP_POST_NORM,
    PS_ROLE_COUNT
} ps_role;

enum { PS_ROLE_FIRST_OF_LAYER = PS_ROLE_ATTENTION_NORM, PS_TENSOR_NAME_BYTES = 64 };

typedef struct ps_tensor_need {
    ps_role role;
    int layer;  // -1: of the whole model
    bool panel; // panel matrix, else vector
    int n, k;   // k is 1 for vectors
    int count;  // matrices or vectors of this shape, stacked: the experts; else 1
} ps_tensor_need;

/* Whether the spec calls for this role (in this layer), and its shape. */
bool ps_tensor_needed(const ps_spec *spec, ps_role role, int layer, ps_tensor_need *out);

/* [count,] n [, k] without what is 1 of necessity; returns the rank. */
int ps_tensor_shape(const ps_tensor_need *need, int shape[3]);

/* Name in the model file; out[PS_TENSOR_NAME_BYTES]. */
void ps_tensor_name(ps_role role, int layer, char *out);

/* Walks all needed tensors in the order of the file: whole-model ones first. Start with *cursor =
 * 0; false at the end. */
bool ps_tensor_next(const ps_spec *spec, int *cursor, ps_tensor_need *out);

#endif
