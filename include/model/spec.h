/* What an architecture is, as plain data.
 *
 * A spec holds every number that changes the mathematics, under canonical names, however the source
 * spelled them. It is written into the model file as JSON (/spec) and read back with every key
 * checked: an unknown key means a newer writer and is an error. Nothing in here depends on ranks or
 * requests.
 *
 *   x = E[t];  per layer: x += Wo attention(norm(x));  x += Wdown(silu(Wgate n) * Wup n), n =
 * norm(x) end: logits = head(norm(x))
 *
 * Errors: PS_ERR_FORMAT with the key.   MPI: local.
 */
#ifndef PS_MODEL_SPEC_H
#define PS_MODEL_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/text.h"
#include "math/bias.h"
#include "math/rope.h"

enum {
    PS_SPEC_LAYERS_MAX = 4096,
    PS_SPEC_WIDTH_MAX = 1 << 20, // of any row of activations
    PS_SPEC_VOCAB_MAX = 1 << 24,
    PS_SPEC_HEAD_DIM_MAX = 1024,
    PS_SPEC_ROPES_MAX = 4,
    PS_SPEC_EOS_MAX = 16,
    PS_SPEC_NAME_BYTES = 32
};

/* A bias provider of a layer, without its tensors. */
typedef struct ps_bias_spec {
    ps_bias_kind kind;
    double max_exponent; // alibi
    int dim;             // rel_pos: width of the position encoding
    double theta;        // rel_pos: its base
} ps_bias_spec;

typedef struct ps_layer_spec {
    int64_t window; // keys that a query sees, itself included; 0: all
    int rope;       // index into ropes; -1: none
    int n_biases;
    ps_bias_spec biases[PS_BIAS_MAX];
} ps_layer_spec;

typedef struct ps_spec {
    char family[PS_SPEC_NAME_BYTES];
    int n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ff, vocab_size;
    double norm_eps;
    double attention_scale; // of <q, k>; usually 1/sqrt(head_dim)
    bool qkv_bias, o_bias, mlp_bias;
    bool qk_norm;    // RMS norm of each head of q and k before the rotation
    bool tied_head;  // the head is the embedding
    int64_t context; // trained positions; 0: no bound
    int n_ropes;
    ps_rope ropes[PS_SPEC_ROPES_MAX];
    ps_layer_spec *layers; // [n_layers], owned
    int32_t bos_id;        // -1: none
    bool add_bos;          // a prompt begins with bos even if the tokenizer adds nothing
    int n_eos;
    int32_t eos_ids[PS_SPEC_EOS_MAX];
} ps_spec;

/* Zeroed layers for n_layers; released with ps_spec_release. */
void ps_spec_take_layers(ps_spec *spec, int n_layers);
void ps_spec_release(ps_spec *spec);

/* Every number in its range, every product representable. `where` begins the message. */
ps_err ps_spec_check(const ps_spec *spec, const char *where) PS_MUST_CHECK;

/* Canonical JSON: equal specs give equal bytes. */
void ps_spec_to_json(const ps_spec *spec, ps_text *out);
ps_err ps_spec_from_json(const char *json, size_t n, const char *where, ps_spec *out) PS_MUST_CHECK;

/* True when every layer has a window, so that caches stay bounded for ever. */
bool ps_spec_is_endless(const ps_spec *spec);

/* Providers' floats for each query and key of a layer. */
int ps_spec_layer_features(const ps_spec *spec, int layer);
int ps_spec_layer_numbers(const ps_spec *spec, int layer);

bool ps_spec_is_eos(const ps_spec *spec, int32_t token);

#endif
