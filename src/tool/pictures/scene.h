/* What the pictures show: a record, and what it takes to read it without the model.
 *
 * MPI: local, rank 0.
 */
#ifndef PS_TOOL_PICTURES_SCENE_H
#define PS_TOOL_PICTURES_SCENE_H

#include "tool/job.h"
#include "tool/pictures/record.h"

typedef struct ps_scene {
    char *model;  // name of its file
    char *family; // of the spec
    int model_layers, model_heads, head_dim;
    double scale, softcap;
    bool sinks, quiet;     // of the softmax
    ps_layer_spec *layers; // [record.n_layers] as the spec has them
    ps_text *visible;      // [record.n_layers] "the last 64 keys, its own included"
    ps_tokens tokens;      // the prompt and what followed
    size_t n_prompt;
    ps_text *texts; // [tokens.n] each token alone; an id in angle brackets without a tokenizer
    ps_record record;
} ps_scene;

/* Copies what is asked of the model; the record is in the scene already, tokens too. */
ps_err ps_scene_describe(ps_scene *scene, const ps_job *job) PS_MUST_CHECK;
void ps_scene_release(ps_scene *scene);

/* The token at a position as a label of at most `limit` characters: blanks and line ends visible,
 * bytes that are no text as \xNN. Appends. */
void ps_scene_label(const ps_scene *scene, int64_t position, int limit, ps_text *out);

/* "rel_pos", "alibi + t5", "none". Appends. */
void ps_scene_biases(const ps_layer_spec *layer, ps_text *out);

/* Whether any of the recorded layers has a bias. */
bool ps_scene_has_bias(const ps_scene *scene);

#endif
