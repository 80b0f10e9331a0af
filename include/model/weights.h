/* The weights of a stage: layers [first, end), and for stage 0 embedding, final norm and head.
 *
 * Panel matrices of 64 KiB and more are used where they lie in the mapped file, shared between the
 * processes of a node; or, with PS_WEIGHTS_COPY, they are read into memory of the stage's own, in
 * huge pages: 4 MiB at a time by the threads of the pool, each of which so takes the pages it reads
 * into near it (they take pieces as they will take panels: as they come, evenly). Then nothing of
 * the file is mapped, and it may change or go away. Smaller tensors, and those that cannot be
 * mapped, are always read. Tables that a bias needs (rel_pos: P) are made here.
 *
 * Verification reads every tensor of the stage where it lies: XXH3 against the manifest, and no NaN
 * or infinity.
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

/* Where the large matrices are used. */
typedef enum ps_weights_access {
    PS_WEIGHTS_MAP,
    PS_WEIGHTS_COPY,
    PS_WEIGHTS_ACCESS_COUNT
} ps_weights_access;

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
    ps_weights_access access;
    ps_file_map map;
    ps_region region, copy;
    const void **tensors; // [ckpt->n_tensors] where each of the part lies; owned
    size_t mapped_bytes;  // of the file that this stage uses in place
} ps_weights;

/* `span` bounds the distances of biases in layers without a window: the context of the run. */
ps_err ps_weights_open(const ps_ckpt *ckpt, const ps_part *part, int64_t span,
                       ps_weights_access access, const ps_engine *engine,
                       ps_weights *out) PS_MUST_CHECK;
void ps_weights_close(ps_weights *weights);

/* Fails when weights lie in a mapped file that was written to since. */
ps_err ps_weights_check_file(const ps_weights *weights) PS_MUST_CHECK;

ps_err ps_weights_verify(const ps_weights *weights, ps_verify verify,
                         const ps_engine *engine) PS_MUST_CHECK;

/* What ps_weights_open would use: bytes of the file in place, of memory for a copy of them, and of
 * memory for all else. One of the first two is 0. */
typedef struct ps_weights_size {
    size_t mapped_bytes, copied_bytes, taken_bytes;
} ps_weights_size;

ps_weights_size ps_weights_measure(const ps_ckpt *ckpt, const ps_part *part, int64_t span,
                                   ps_weights_access access);

/* Bytes of weights that one pass over a layer (or the head) reads: the plan's cost. */
size_t ps_weights_layer_bytes(const ps_ckpt *ckpt, int layer);
/* The same without the experts, which only rows that choose them read. */
size_t ps_weights_shared_bytes(const ps_ckpt *ckpt, int layer);
size_t ps_weights_head_bytes(const ps_ckpt *ckpt);

#endif
