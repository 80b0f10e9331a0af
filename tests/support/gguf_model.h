/* A model file written as the GGUF file that it could have come from.
 *
 * The other direction of src/tool/import/gguf_families.c, from what is known of the format: names,
 * fused matrices, rows of rotated neighbours, keys. All weights become f32, all reals of the
 * metadata f64, so that nothing is lost on the way and back.
 *
 * MPI: local.   Errors: the test fails.
 */
#ifndef TESTS_SUPPORT_GGUF_MODEL_H
#define TESTS_SUPPORT_GGUF_MODEL_H

#include "model/ckpt.h"
#include "support/gguf_file.h"

enum {
    GGUF_MODEL_NEIGHBOURS = 1, // the architecture rotates 2t and 2t+1
    GGUF_MODEL_FUSED_QKV = 2,  // attn_qkv
    GGUF_MODEL_FUSED_UP = 4,   // ffn_up holds gate and up
    GGUF_MODEL_SINGLE = 8,     // a tensor for each expert
    GGUF_MODEL_POST_NORM = 16, // the norm before the mlp is called post_attention_norm
    GGUF_MODEL_NORM_2 = 32     // the norm before the attention is called attn_norm_2
};

/* Values of a tensor of the model file, [count, n, k] without padding; owned by the caller, NULL
 * when the spec does not call for it. */
float *gguf_model_values(const ps_ckpt *ckpt, ps_role role, int layer, size_t *n);

/* The first n_layers layers of `ckpt`, and all keys that the architectures share, with rotation.
 */
void gguf_model_add(gguf_file *f, const ps_ckpt *ckpt, const char *arch, int flags, int n_layers);

/* Keys of one architecture: "arch.name". */
void gguf_model_int(gguf_file *f, const char *arch, const char *name, int64_t value);
void gguf_model_real(gguf_file *f, const char *arch, const char *name, double value);

#endif
