/* Tokenizers of a few tokens, written down in the test that needs them.   MPI: local. */
#ifndef TESTS_SUPPORT_TINY_TOKENIZER_H
#define TESTS_SUPPORT_TINY_TOKENIZER_H

#include "serve/tokenizer.h"

/* Parts of a tokenizer.json as JSON; NULL is null. */
typedef struct tiny_tokenizer {
    const char *model, *normalizer, *pre_tokenizer, *post_processor, *decoder, *added_tokens;
    const char *other; // further keys, each with a comma behind it; NULL: none
} tiny_tokenizer;

char *tiny_tokenizer_json(const tiny_tokenizer *parts); // owned by the caller
ps_err tiny_tokenizer_open(const tiny_tokenizer *parts, ps_tokenizer **out) PS_MUST_CHECK;

/* What a text or ids come to, as text owned by the caller: "1 2 3", or the error's message. */
char *tiny_tokenizer_ids(const ps_tokenizer *t, const char *text, bool add_special);
char *tiny_tokenizer_text(const ps_tokenizer *t, const int32_t *ids, size_t n, bool skip_special);

/* A BPE model whose vocabulary is all ASCII characters (id = code point) and these merges, given as
 * "a b" strings separated by commas; their products have the ids from 128 on. `options` are further
 * keys, each with a comma behind it. */
char *tiny_tokenizer_bpe(const char *merges, const char *options);

#endif
