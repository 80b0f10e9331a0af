/* What the families' readers share. */
#ifndef PS_TOOL_IMPORT_FAMILIES_PARTS_H
#define PS_TOOL_IMPORT_FAMILIES_PARTS_H

#include "tool/import/families.h"

/* A row of the table of families. */
typedef struct ps_family {
    const char *model_type; // or _class_name, where a config.json has that instead
    ps_err (*read)(ps_config *config, ps_import *out);
    const ps_tensor_from *from; // [PS_ROLE_COUNT]
    bool tied;                  // whether the head is tied where the config does not say
} ps_family;

// Ended by model_type NULL.
extern const ps_family ps_families_llama[], ps_families_gpt[], ps_families_score[],
    ps_families_encoder[];
extern const ps_tensor_from ps_from_llama[PS_ROLE_COUNT];

/* Keys of the sizes, each in all its spellings. NULL: the family has no such key. */
typedef struct ps_size_keys {
    const char *width[3], *ffn[3], *layers[3], *heads[3], *kv_heads[3], *head_dim, *context[3];
    bool ffn_optional; // it is 4 d_model where the file has no key for it
} ps_size_keys;

extern const ps_size_keys ps_size_keys_llama;

/* d_model, n_heads, ..., vocab_size, context, attention_scale 1/sqrt(head_dim), layers. */
ps_err ps_read_sizes(ps_config *c, ps_spec *s, const ps_size_keys *keys) PS_MUST_CHECK;

/* The activation under a key; `fallback` is a Hugging Face name. */
ps_err ps_read_activation(ps_config *c, ps_spec *s, const char *key,
                          const char *fallback) PS_MUST_CHECK;

ps_err ps_read_norm(ps_config *c, ps_spec *s, ps_norm_kind kind, const char *key,
                    double fallback) PS_MUST_CHECK;

/* attention_bias for q, k, v and o. */
ps_err ps_read_attention_bias(ps_config *c, ps_spec *s, bool fallback) PS_MUST_CHECK;

/* RoPE for all layers: flat keys (rope_theta, rope_scaling), or everything in rope_parameters,
 * there for all layers or for each layer type. Rope 0 serves full layers, rope 1, if there is one,
 * those with a window. `dims`: rotated dimensions where no key says so. */
ps_err ps_read_rope(ps_config *c, ps_spec *s, int dims, double theta) PS_MUST_CHECK;

/* One rope from a JSON object (NULL: plain); base and dims are already set. */
ps_err ps_read_rope_object(ps_config *c, const json_t *object, ps_rope *rope) PS_MUST_CHECK;

/* Windows: layer_types decides where it stands; else `slides(layer, arg)`. */
ps_err ps_read_windows(ps_config *c, ps_spec *s, int window, bool (*slides)(int layer, int arg),
                       int arg) PS_MUST_CHECK;
bool ps_slides_never(int layer, int arg);
bool ps_slides_from(int layer, int arg);      // layers arg, arg + 1, ...
bool ps_slides_but_every(int layer, int arg); // all but layers arg - 1, 2 arg - 1, ...

/* sliding_window; `fallback` where the key is absent, 0 where it is null. */
ps_err ps_read_window(ps_config *c, int fallback, int *out) PS_MUST_CHECK;

/* Layers with a window take rope 1, if there is one. */
void ps_give_ropes(ps_spec *s);

/* ALiBi in all layers, and no rope. */
void ps_give_alibi(ps_spec *s, double max_exponent, double factor);

/* A flag that must have the value `wanted`, which is also what its absence means. */
ps_err ps_want_flag(ps_config *c, const char *key, bool wanted) PS_MUST_CHECK;

#endif
