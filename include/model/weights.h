/* The weights of a stage: layers [first, end), and for stage 0 embedding, final norm and head.
 *
 * Panel matrices of 64 KiB and more are used where they lie in the mapped file, shared between the
 * processes of a node; smaller tensors, and those that cannot be mapped, are read into memory of
 * the stage's own. Tables that a bias needs (rel_pos: P) are made here.
 *
 * Verification reads every tensor of the stage: XXH3 against the manifest, and no NaN or infinity.
 * With PS_VERIFY_ONCE it is skipped when the same file (device, inode, size, times) and the same
 * layers were verified before; the record is a small file in the user's cache directory.
 *
 * Ownership: pointers inside are borrowed from the ps_weights until ps_weights_close.
 * Errors: PS_ERR_FORMAT naming file and tensor, PS_ERR_NOMEM.   MPI: local.
 */
#ifndef PS_MODEL_WEIGHTS_H
#define PS_MODEL_WEIGHTS_H

#include "base/file.h"
#include "base/mem.h"
#include "math/bias.h"
#include "math/linear.h"
#include "model/ckpt.h"

typedef enum ps_verify {
    PS_VERIFY_ALWAYS,
    PS_VERIFY_ONCE,
    PS_VERIFY_NEVER,
    PS_VERIFY_COUNT
} ps_verify;

/* Which part of a model a stage owns. */
typedef struct ps_part {
    int first_layer, end_layer; // [first, end); may be empty
    bool ends;                  // embedding, final norm and head
} ps_part;

/* Whether a tensor of this layer (-1: of the whole model) belongs to the part. */
static inline bool ps_part_owns(const ps_part *part, int layer)
{
    return layer < 0 ? part->ends : layer >= part->first_layer && layer < part->end_layer;
}

/* A norm's weights [n] and bias [n]; NULL where there is none. */
typedef struct ps_norm {
    const float *weight, *bias;
} ps_norm;

/* The experts' matrices of one kind: `first` is that of expert 0, the others follow it. */
typedef struct ps_expert_linear {
    ps_linear first;
    size_t panel_bytes; // of one expert's matrix
    size_t bias_floats; // from one expert's bias to the next
} ps_expert_linear;

/* The matrix of one expert. */
static inline ps_linear ps_expert_at(const ps_expert_linear *experts, int expert)
{
    ps_linear linear = experts->first;
    linear.panels = (const char *)linear.panels + (size_t)expert * experts->panel_bytes;
    if (linear.bias) linear.bias += (size_t)expert * experts->bias_floats;
    return linear;
}

typedef struct ps_layer_weights {
    ps_linear q, k, v, o, gate, up, down, router;
    ps_expert_linear expert_gate, expert_up, expert_down;
    ps_norm attention_norm, mlp_norm;                 // of the inputs
    const float *attention_post_norm, *mlp_post_norm; // [D] or NULL
    const float *q_norm, *k_norm;                     // by the spec's qk_norm, or NULL
    const float *sinks;                               // [H] or NULL
    ps_linear output_gate;                            // panels NULL: none
    ps_linear fox;                                    // of the fox provider, if there is one
    int n_biases;
    ps_bias biases[PS_BIAS_MAX];
} ps_layer_weights;

typedef struct ps_weights {
    const ps_ckpt *ckpt; // borrowed
    ps_part part;
    ps_layer_weights *layers;         // [end_layer - first_layer]
    ps_linear embed, positions, head; // panels NULL unless part.ends
    ps_norm embed_norm, final_norm;
    ps_file_map map;
    ps_region region;
    size_t mapped_bytes; // of the file that this stage uses in place
} ps_weights;

/* `span` bounds the distances of biases in layers without a window: the context of the run. */
ps_err ps_weights_open(const ps_ckpt *ckpt, const ps_part *part, int64_t span,
                       const ps_engine *engine, ps_weights *out) PS_MUST_CHECK;
void ps_weights_close(ps_weights *weights);

ps_err ps_weights_verify(const ps_weights *weights, ps_verify verify,
                         const ps_engine *engine) PS_MUST_CHECK;

/* What ps_weights_open would use: bytes of the file in place, bytes of memory taken. */
typedef struct ps_weights_size {
    size_t mapped_bytes, taken_bytes;
} ps_weights_size;

ps_weights_size ps_weights_measure(const ps_ckpt *ckpt, const ps_part *part, int64_t span);

/* Bytes of weights that one pass over a layer (or the head) reads: the plan's cost. */
size_t ps_weights_layer_bytes(const ps_ckpt *ckpt, int layer);
/* The same without the experts, which only rows that choose them read. */
size_t ps_weights_shared_bytes(const ps_ckpt *ckpt, int layer);
size_t ps_weights_head_bytes(const ps_ckpt *ckpt);

#endif
