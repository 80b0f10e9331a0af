/* Small random models for tests, as other people's files and as model files.
 *
 * A tiny_model is all there is to say about one: sizes, family, seed. From it come a Hugging Face
 * directory (config.json, safetensors, tokenizer.json), written byte by byte without the reader's
 * code, the model file that the converter makes of it, and every weight as a number, for a
 * computation of one's own (support/naive_model.h).
 *
 * A weight is a pure function of seed, tensor name and index.   Errors: those of the file system
 * and the converter.   MPI: local; one rank writes.
 */
#ifndef TESTS_SUPPORT_TINY_MODEL_H
#define TESTS_SUPPORT_TINY_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "math/dtype.h"
#include "math/rope.h"

typedef enum tiny_family {
    TINY_LLAMA,
    TINY_MISTRAL,      // every layer has windows[0]
    TINY_QWEN3,        // the upper half of the layers has windows[0]
    TINY_RELPOS_LLAMA, // layer l has windows[l % TINY_WINDOWS]
    TINY_FAMILY_COUNT
} tiny_family;

enum {
    TINY_WINDOWS = 4,
    TINY_TOKENIZER_SIZE = 266, // 256 bytes, 8 merges, begin, end
    TINY_BOS = 264,            // with a tokenizer; else bos is 0 and eos 1
    TINY_EOS = 265
};

/* Constants of the rope kinds, as they stand in config.json. */
#define TINY_ROPE_THETA    500.0
#define TINY_ROPE_FACTOR   4.0
#define TINY_ROPE_LOW      1.0
#define TINY_ROPE_HIGH     4.0
#define TINY_ROPE_LENGTH   32.0
#define TINY_REL_POS_THETA 100.0
#define TINY_NORM_EPS      1e-5
#define TINY_T5_BUCKETS    8
#define TINY_T5_DISTANCE   40
#define TINY_FIRE_WIDTH    6

typedef struct tiny_model {
    tiny_family family;
    int layers, width, heads, kv_heads, head_dim, ffn, vocabulary;
    int windows[TINY_WINDOWS]; // 0: all keys
    int rel_pos_dim;           // relpos_llama
    const char *score_biases;  // relpos_llama: of the layers in turn, "a+b/c"; NULL: "rel_pos"
    int output_gate;           // relpos_llama: as ps_output_gate
    bool quiet_softmax;        // relpos_llama
    ps_rope_kind rope;
    bool half_rotary;    // half of a head is rotated; head_dim is a multiple of 4
    bool tied_head;      // no lm_head
    bool attention_bias; // q, k, v, o; not mistral
    bool mlp_bias;       // gate, up, down; llama and relpos_llama
    bool coarse;         // weights that every dtype holds exactly
    bool tokenizer;      // a byte-level BPE; vocabulary >= TINY_TOKENIZER_SIZE
    ps_dtype dtype;
    int shards;  // 1: model.safetensors
    int context; // max_position_embeddings; 0: not bounded
    uint64_t seed;
} tiny_model;

/* 3 layers, 20-40 wide, sizes that fill no panel, windows where the family has them. */
tiny_model tiny_model_default(tiny_family family);

/* Any family, sizes and options, from a seed. 1-4 layers. */
tiny_model tiny_model_random(uint64_t seed);

const char *tiny_model_family_name(tiny_family family);

/* Window of a layer; 0: all keys. */
int tiny_model_window(const tiny_model *m, int layer);

/* Whether a layer has a score bias of this kind. */
bool tiny_model_has_bias(const tiny_model *m, int layer, const char *kind);

/* One tensor of the source: name, shape, and where its weights lie. */
typedef struct tiny_tensor {
    char name[64];
    int rows, columns; // columns 0: a vector
    double center, half_width;
} tiny_tensor;

/* The tensors in the order of the files; *n of them, owned by the caller (ps_mem_free). */
tiny_tensor *tiny_model_tensors(const tiny_model *m, int *n);

/* The weights of a tensor by its name, [rows, columns], rounded to the model's dtype; owned by the
 * caller. NULL when the model has no such tensor. */
float *tiny_model_values(const tiny_model *m, const char *name);

/* Text of config.json; owned by the caller. */
char *tiny_model_config(const tiny_model *m);

/* Text of tokenizer.json, whatever the model; owned by the caller. */
char *tiny_model_tokenizer(void);

/* The directory, made if it is not there. Old files in it are replaced. */
ps_err tiny_model_write(const tiny_model *m, const char *directory) PS_MUST_CHECK;

/* The model file, by way of a directory beside it that is removed again. */
ps_err tiny_model_convert(const tiny_model *m, const char *path) PS_MUST_CHECK;

#endif
