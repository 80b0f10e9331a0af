/* Inside of the GGUF families: the metadata of one architecture, read into a spec.  MPI: local. */
#ifndef PS_TOOL_IMPORT_GGUF_READER_H
#define PS_TOOL_IMPORT_GGUF_READER_H

#include "tool/import/families.h"
#include "tool/import/gguf.h"

typedef struct ps_gguf_reader {
    ps_gguf *gguf;
    const char *arch; // prefix of its keys
    ps_spec *spec;
} ps_gguf_reader;

/* Keys by their name behind the prefix: "attention.head_count". *out is left alone when the key is
 * absent; `need` makes that an error. */
ps_err ps_gguf_reader_int(const ps_gguf_reader *r, const char *name, int min, int max,
                          int *out) PS_MUST_CHECK;
ps_err ps_gguf_reader_need_int(const ps_gguf_reader *r, const char *name, int min, int max,
                               int *out) PS_MUST_CHECK;
ps_err ps_gguf_reader_real(const ps_gguf_reader *r, const char *name, double *out) PS_MUST_CHECK;
ps_err ps_gguf_reader_need_real(const ps_gguf_reader *r, const char *name,
                                double *out) PS_MUST_CHECK;
ps_err ps_gguf_reader_bool(const ps_gguf_reader *r, const char *name, bool *out) PS_MUST_CHECK;
ps_err ps_gguf_reader_text(const ps_gguf_reader *r, const char *name,
                           const char **out) PS_MUST_CHECK;

/* An integer, or an array with the same one for every layer. */
ps_err ps_gguf_reader_layers_int(const ps_gguf_reader *r, const char *name, int min, int max,
                                 int *out) PS_MUST_CHECK;

/* The value of a key, NULL when absent. */
const ps_gguf_value *ps_gguf_reader_find(const ps_gguf_reader *r, const char *name);

/* ropes[0] from the keys rope.*, rope_freqs and rope_factors_*; every layer gets it. */
ps_err ps_gguf_reader_rope(const ps_gguf_reader *r) PS_MUST_CHECK;

/* What the tensors are called in this file. */
void ps_gguf_reader_names(const ps_gguf_reader *r, ps_tensor_from from[PS_ROLE_COUNT]);

/* bos, eos and whether a prompt begins with bos, from the keys of the tokenizer. */
ps_err ps_gguf_reader_tokens(const ps_gguf_reader *r) PS_MUST_CHECK;

/* Error when a key of the architecture was not asked for and is not known to be harmless. */
ps_err ps_gguf_reader_check_all_used(const ps_gguf_reader *r) PS_MUST_CHECK;

/* Whether the file has a tensor of this name. */
bool ps_gguf_reader_has(const ps_gguf_reader *r, const char *tensor);

/* Which of its neighbours are rotated together. */
typedef enum ps_gguf_rotation {
    PS_GGUF_ROTATES_NOTHING,
    PS_GGUF_ROTATES_HALVES,    // t and t + n/2, as here
    PS_GGUF_ROTATES_NEIGHBOURS // 2t and 2t+1: rows of q and k are taken apart
} ps_gguf_rotation;

/* A row of the table of architectures. */
typedef struct ps_gguf_family {
    const char *arch;
    ps_norm_kind norm;
    ps_activation_kind activation;
    bool gated;
    ps_gguf_rotation rotation;
    ps_err (*read)(const ps_gguf_reader *r); // what is special about it; may be NULL
    bool mixture;                            // may have experts
} ps_gguf_family;

extern const ps_gguf_family ps_gguf_families[]; // ended by arch NULL

#endif
