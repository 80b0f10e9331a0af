/* What a tokenizer is made of, whatever file it came from: plain tokens, numbers, and a pipeline.
 *
 *   tokenizer.json, tokenizer.model, GGUF metadata, a model file's /tokenizer
 *       -> definition: vocabulary, merges or scores, added tokens, pipeline -> ps_tokenizer
 *
 * A reader makes one for the ids below a bound, defines what it finds in any order, and builds. The
 * pipeline is a JSON object of the form of a tokenizer.json, with the keys normalizer,
 * pre_tokenizer, post_processor, decoder and model, the last with its type (BPE or Unigram) and
 * options, without vocab and merges. Two keys are known beyond those of a tokenizer.json, for what
 * SentencePiece does otherwise than the tokenizers library: longest_match of a Precompiled
 * normalizer, single_precision of a Unigram model.
 *
 * Strings are copied; they are UTF-8, and that is checked. Whatever can be wrong with a definition
 * is an error that begins with `where`, when it is defined or when it is built.
 *
 * Errors: PS_ERR_FORMAT, PS_ERR_LIMIT, PS_ERR_UNSUPPORTED.   MPI: local.
 */
#ifndef PS_SERVE_TOKENIZER_DEFINITION_H
#define PS_SERVE_TOKENIZER_DEFINITION_H

#include <jansson.h>

#include "serve/tokenizer.h"

typedef struct ps_tokenizer_definition ps_tokenizer_definition;

/* Ids are 0 .. n_ids - 1, n_tokens of them are going to be tokens of the vocabulary. */
ps_tokenizer_definition *ps_tokenizer_definition_new(int32_t n_ids, size_t n_tokens,
                                                     const char *where);
void ps_tokenizer_definition_free(ps_tokenizer_definition *d); // d may be NULL

/* A token of the vocabulary: what the model itself can find in a text. */
ps_err ps_tokenizer_define_token(ps_tokenizer_definition *d, int32_t id, const char *token,
                                 size_t n) PS_MUST_CHECK;
int32_t ps_tokenizer_defined_id(const ps_tokenizer_definition *d, const char *token,
                                size_t n); // -1: none

/* Unigram: log probability of a token; -INFINITY, which is what a token has that was given none,
 * keeps it from being found in a text. */
void ps_tokenizer_define_score(ps_tokenizer_definition *d, int32_t id, double score);

/* BPE: `left` and `right` side by side become `merged`, lowest rank first, leftmost among equal
 * ranks. A pair that is defined twice has its later rank. */
typedef struct ps_tokenizer_merge {
    int32_t left, right, merged;
    uint32_t rank;
} ps_tokenizer_merge;

ps_err ps_tokenizer_define_merge(ps_tokenizer_definition *d,
                                 const ps_tokenizer_merge *merge) PS_MUST_CHECK;

/* A token that is found wherever its content stands in a text: before normalization, or
 * (`normalized`) its normalized content in the normalized text, or (`verbatim` too) its content as
 * it is in the normalized text. `special` are control tokens. An empty content is passed over. */
typedef struct ps_tokenizer_added {
    int32_t id;
    const char *content;
    size_t n;
    bool single_word, lstrip, rstrip, normalized, special, verbatim;
} ps_tokenizer_added;

ps_err ps_tokenizer_define_added(ps_tokenizer_definition *d,
                                 const ps_tokenizer_added *token) PS_MUST_CHECK;

/* Takes the object over. */
void ps_tokenizer_define_pipeline(ps_tokenizer_definition *d, json_t *pipeline);

/* Releases the definition, whatever comes out. */
ps_err ps_tokenizer_build(ps_tokenizer_definition *d, ps_tokenizer **out) PS_MUST_CHECK;

#endif
