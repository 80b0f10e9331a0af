/* The names that GGUF gives to pre-tokenizers (tokenizer.ggml.pre) and what each of them means: the
 * normalizer and pre-tokenizers of the Hugging Face tokenizer that the name stands for, and what
 * else goes with it.   MPI: local.
 */
#ifndef PS_TOOL_IMPORT_PRE_TOKENIZERS_H
#define PS_TOOL_IMPORT_PRE_TOKENIZERS_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

typedef struct ps_pre_tokenizer {
    const char *name;
    bool ignore_merges; // a word that is a token is not merged
    bool add_bos;       // unless the file says otherwise
} ps_pre_tokenizer;

/* Borrowed. PS_ERR_UNSUPPORTED for an unknown name, with all the known ones; `where` begins the
 * message. */
ps_err ps_pre_tokenizer_find(const char *name, const char *where,
                             const ps_pre_tokenizer **out) PS_MUST_CHECK;

/* New objects, the caller's. */
json_t *ps_pre_tokenizer_normalizer(const ps_pre_tokenizer *p); // may be null
json_t *ps_pre_tokenizer_pipeline(const ps_pre_tokenizer *p);

#endif
