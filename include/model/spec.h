/* What an architecture is, as plain data.
 *
 * A spec holds every number that changes the mathematics, under canonical names, however the source
 * spelled them. It is written into the model file as JSON (/spec) and read back with every key
 * checked: an unknown key means a newer writer and is an error. Nothing in here depends on ranks or
 * requests.
 *
 *   start       x = embed_scale E[t] (+ P[position]) (normed if embed_norm)
 *   a layer     a = norm1(x), or x without pre_norm
 *               q, k, v = W a (+ b) (clipped) (normed: qk_norm) (q, k rotated)
 *               o = Wo (attention(q, k, v) (* sigmoid(Wg a (+ b)): output_gate)) (+ b) (post norm)
 *   sequential  x += r o;  m = mlp(norm2(x));  x += r m (post norm of m)
 *   parallel    x += r o + r mlp(norm2(x)), or mlp(a) with shared_norm
 *   mlp(n)      Wdown act(Wup n), or Wdown (act(Wgate n) * (Wup n)) where gated; of a mixture
 *               sum over the chosen experts e, ascending: weight_e mlp_e(n)
 *   end         logits = cap(logit_scale (head(norm(x)) (+ b)))
 *   an encoder  hidden = norm(x), output = head(hidden) (+ b): n_outputs numbers, no logits;
 *               without a head where n_outputs is 0
 *
 * r = residual_scale. Canonical form: pairs of rotated dimensions are half a head apart, norm
 * weights hold the 1 that some families add, fused matrices are separate.
 *
 * Errors: PS_ERR_FORMAT with the key.   MPI: local.
 */
#ifndef PS_MODEL_SPEC_H
#define PS_MODEL_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/text.h"
#include "math/activation.h"
#include "math/bias.h"
#include "math/rope.h"
#include "math/visible.h"

enum {
    PS_SPEC_LAYERS_MAX = 4096,
    PS_SPEC_WIDTH_MAX = 1 << 20, // of any row of activations
    PS_SPEC_VOCAB_MAX = 1 << 24,
    PS_SPEC_HEAD_DIM_MAX = 1024,
    PS_SPEC_ROPES_MAX = 4,
    PS_SPEC_EXPERTS_MAX = 512,
    PS_SPEC_EOS_MAX = 16,
    PS_SPEC_KEPT_MAX = 4096,
    PS_SPEC_BUCKETS_MAX = 65536,   // of t5
    PS_SPEC_FIRE_WIDTH_MAX = 4096, // hidden units of fire
    PS_SPEC_NAME_BYTES = 32
};

/* A bias provider of a layer, without its tensors. */
typedef struct ps_bias_spec {
    ps_bias_kind kind;
    double max_exponent; // alibi
    double factor;       // alibi: of the slopes; 1 as published
    int dim;             // rel_pos: width of the position encoding; sandwich: twice its cosines
    double theta;        // rel_pos: its base
    int n_buckets;       // t5
    int max_distance;    // t5: from it on all keys share a bucket
    bool bidirectional;  // t5: half of the buckets are for keys ahead
    int width;           // fire: hidden units
} ps_bias_spec;

typedef struct ps_layer_spec {
    int64_t window;      // keys that a query sees, itself included; 0: all
    int64_t chunk;       // math/visible.h; 0: no chunks
    int64_t left_chunks; // -1: all
    bool look_ahead;
    int rope;     // index into ropes; -1: none
    bool mixture; // the feed-forward part is a mixture of experts
    int n_biases;
    ps_bias_spec biases[PS_BIAS_MAX];
} ps_layer_spec;

typedef enum ps_norm_kind { PS_NORM_RMS, PS_NORM_LAYER, PS_NORM_KIND_COUNT } ps_norm_kind;

/* Norm of q and k before the rotation, of the same kind as the others and without a bias. */
typedef enum ps_qk_norm {
    PS_QK_NORM_NONE,
    PS_QK_NORM_HEAD,  // each head, one weight [K] for all
    PS_QK_NORM_HEADS, // each head, weights of its own [heads, K]
    PS_QK_NORM_ALL,   // all heads together, [heads*K]
    PS_QK_NORM_COUNT
} ps_qk_norm;

/* How the scores of the chosen experts become weights. The chosen are the n_experts_used highest;
 * of equals the lowest. */
typedef enum ps_router {
    PS_ROUTER_CHOSEN, // softmax over the chosen
    PS_ROUTER_ALL,    // softmax over all, the weights of the chosen as they are
    PS_ROUTER_COUNT
} ps_router;

/* A gate on what attention gives, before Wo: sigmoid of a product of the layer's input. */
typedef enum ps_output_gate {
    PS_OUTPUT_GATE_NONE,
    PS_OUTPUT_GATE_HEADS,    // one for each head
    PS_OUTPUT_GATE_ELEMENTS, // one for each number
    PS_OUTPUT_GATE_COUNT
} ps_output_gate;

typedef struct ps_spec {
    char family[PS_SPEC_NAME_BYTES];
    int n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ff, vocab_size;
    ps_norm_kind norm;
    double norm_eps;
    bool norm_bias;
    bool pre_norm, post_norm; // of the inputs, of the outputs of attention and mlp
    bool parallel, shared_norm;
    double attention_scale; // of <q, k>; usually 1/sqrt(head_dim)
    double softcap;         // of scores; 0: none
    double qkv_clip;        // 0: none
    bool qkv_bias, o_bias, mlp_bias;
    bool sinks;         // one more score of each head in the softmax, without a value
    bool quiet_softmax; // that score is 0 for every head
    ps_output_gate output_gate;
    ps_qk_norm qk_norm;
    ps_activation_kind activation;
    double swiglu_alpha, swiglu_limit; // swiglu_oss
    bool gated;
    int n_experts, n_experts_used, d_ff_expert; // of layers with a mixture; 0: none
    ps_router router;
    bool router_bias, expert_bias;
    double embed_scale, residual_scale, logit_scale, final_softcap; // 1, 1, 1, 0: nothing
    bool embed_norm;
    int n_positions; // learned positions; 0: none
    bool tied_head;  // the head is the embedding
    bool head_bias;
    bool encoder;    // gives vectors for given tokens: nothing is generated or scored with it
    int n_outputs;   // of an encoder's head; 0: it has none
    int64_t context; // trained positions; 0: no bound
    int64_t n_kept;  // first tokens that layers with a window see for ever
    bool kept_at_cache;
    int n_ropes;
    ps_rope ropes[PS_SPEC_ROPES_MAX];
    ps_layer_spec *layers; // [n_layers], owned
    int32_t bos_id;        // -1: none
    bool add_bos;          // a prompt begins with bos even if the tokenizer adds nothing
    int n_eos;
    int32_t eos_ids[PS_SPEC_EOS_MAX];
} ps_spec;

/* The numbers that mean nothing special: scales 1, pre_norm, gated silu; no layers yet. */
ps_spec ps_spec_plain(void);

/* Zeroed layers for n_layers; released with ps_spec_release. */
void ps_spec_take_layers(ps_spec *spec, int n_layers);
void ps_spec_release(ps_spec *spec);

/* Every number in its range, every product representable. `where` begins the message. */
ps_err ps_spec_check(const ps_spec *spec, const char *where) PS_MUST_CHECK;

/* Canonical JSON: equal specs give equal bytes. */
void ps_spec_to_json(const ps_spec *spec, ps_text *out);
ps_err ps_spec_from_json(const char *json, size_t n, const char *where, ps_spec *out) PS_MUST_CHECK;

/* A provider as it stands in the spec's JSON: {"kind": name, ...}. Numbers that the JSON leaves out
 * stay as they are in *bias. */
ps_err ps_spec_bias_from_json(const char *json, size_t n, const char *where,
                              ps_bias_spec *bias) PS_MUST_CHECK;

/* Which keys a query of the layer sees. */
ps_visible ps_spec_visible(const ps_spec *spec, int layer);

/* Most positions from the oldest that a query of the layer sees, kept ones aside, to its own; 0: no
 * bound. */
int64_t ps_spec_reach(const ps_spec *spec, int layer);

/* True when the reach of every layer is bounded, and so its cache for ever. */
bool ps_spec_is_endless(const ps_spec *spec);

/* Whether queries look ahead, so that a sequence has to go through in one piece. */
bool ps_spec_looks_ahead(const ps_spec *spec);

/* Whether any layer has a mixture of experts. */
bool ps_spec_has_mixture(const ps_spec *spec);

/* What a sequence of `length` positions makes of the ropes that depend on it: their variants
 * (math/rope.h), "; " between them. Appends nothing where no layer has such a rope. */
void ps_spec_describe_ropes(const ps_spec *spec, int64_t length, ps_text *out);

/* Outputs of the output gate's matrix: n_heads, n_heads*head_dim, or 0. */
int ps_spec_output_gates(const ps_spec *spec);

/* Custom providers (math/bias.h) for layers of a model, beside those that its file has. Rows of the
 * table are borrowed; sizes of heads, scale and span are filled in where the layers are opened. */
typedef struct ps_own_bias {
    int layer;
    ps_bias bias;
} ps_own_bias;

typedef struct ps_own_biases {
    const ps_own_bias *list; // [n]
    int n;
} ps_own_biases;

/* Whether two providers of this kind may stand in one layer: those without tensors. */
bool ps_spec_bias_repeats(ps_bias_kind kind);

/* Numbers that the head gives for a token: vocab_size, or an encoder's n_outputs. */
int ps_spec_head_size(const ps_spec *spec);

/* Providers' floats for each query and key of a layer. */
int ps_spec_layer_features(const ps_spec *spec, int layer);
int ps_spec_layer_numbers(const ps_spec *spec, int layer);

int ps_own_biases_features(const ps_own_biases *own, int layer);
int ps_own_biases_numbers(const ps_own_biases *own, int layer);
size_t ps_own_biases_projected(const ps_own_biases *own, int layer);

/* Every one is custom, of a layer that there is, with a fill, and no layer has more than
 * PS_BIAS_MAX in all. Errors: PS_ERR_USAGE. */
ps_err ps_own_biases_check(const ps_own_biases *own, const ps_spec *spec) PS_MUST_CHECK;

/* Floats of all projections of a layer's providers, each rounded up to 16. */
size_t ps_spec_layer_projected(const ps_spec *spec, int layer);

bool ps_spec_is_eos(const ps_spec *spec, int32_t token);

#endif
