/* Tokenizers out of foreign files.
 *
 *   NAME.json     a tokenizer.json
 *   NAME.model    SentencePiece
 *   NAME.gguf     metadata of a GGUF file
 *   a directory   tokenizer.json, or else tokenizer.model with what tokenizer_config.json,
 *                 added_tokens.json and special_tokens_map.json say about it
 *
 * Of tokenizer_config.json count: added_tokens_decoder, add_bos_token, add_eos_token,
 * add_prefix_space, legacy, tokenizer_class (T5Tokenizer ends texts with eos, others begin them
 * with bos).
 *
 * Errors: PS_ERR_IO and those of the readers.   MPI: local.
 */
#ifndef PS_TOOL_IMPORT_TOKENIZERS_H
#define PS_TOOL_IMPORT_TOKENIZERS_H

#include <stdbool.h>

#include "model/spec.h"
#include "serve/tokenizer.h"

/* Whether a path is named like one of these, or a directory. */
bool ps_tokenizers_knows(const char *path);

/* *out is the caller's; NULL when there is an error, or nothing to be read in a directory or GGUF
 * file. */
ps_err ps_tokenizers_open(const char *path, ps_tokenizer **out) PS_MUST_CHECK;

/* Appends the tokenizer as a model file holds it. It must not know tokens that the model does not:
 * PS_ERR_SHAPE, with `where`. */
ps_err ps_tokenizers_pack(const ps_tokenizer *t, const char *where, const ps_spec *spec,
                          ps_text *out) PS_MUST_CHECK;

/* A tokenizer.model, with the files of a Hugging Face directory beside it if `directory` is not
 * NULL. */
ps_err ps_tokenizers_open_sentencepiece(const char *path, const char *directory,
                                        ps_tokenizer **out) PS_MUST_CHECK;

#endif
