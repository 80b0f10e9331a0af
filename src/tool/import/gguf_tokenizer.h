/* The tokenizer in the metadata of a GGUF file.
 *
 *   tokenizer.ggml.model   llama (BPE by scores), t5 (Unigram), gpt2 (BPE by merges over bytes)
 *                  .pre    gpt2: tool/import/pre_tokenizers.h
 *                  .tokens .scores .token_type .merges   .bos_token_id .eos_token_id
 *                  .add_bos_token .add_eos_token .add_space_prefix .remove_extra_whitespaces
 *                  .precompiled_charsmap
 * Texts are cut as the Hugging Face tokenizer of that kind cuts them. Where llama.cpp differs from
 * it, so does this: llama.cpp never composes characters (NFC), and puts a blank behind user-defined
 * tokens too.
 *
 * Errors: PS_ERR_FORMAT, PS_ERR_SHAPE, PS_ERR_UNSUPPORTED naming file and key.   MPI: local.
 */
#ifndef PS_TOOL_IMPORT_GGUF_TOKENIZER_H
#define PS_TOOL_IMPORT_GGUF_TOKENIZER_H

#include "serve/tokenizer.h"
#include "tool/import/gguf.h"

/* *out is the caller's; NULL when there is an error, or no tokenizer in the file. */
ps_err ps_gguf_tokenizer_read(ps_gguf *g, ps_tokenizer **out) PS_MUST_CHECK;

#endif
