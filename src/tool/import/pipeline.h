/* Parts of a tokenizer's pipeline (serve/tokenizer_definition.h) as JSON, for readers of files that
 * are not JSON. Every function returns a new object, the caller's.   MPI: local.
 */
#ifndef PS_TOOL_IMPORT_PIPELINE_H
#define PS_TOOL_IMPORT_PIPELINE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* Normalizer or decoder: every occurrence of a literal, or match of a regular expression. */
json_t *ps_pipeline_replace(const char *literal, const char *content);
json_t *ps_pipeline_replace_regex(const char *regex, const char *content);

/* Pre-tokenizer: matches of a regular expression, or of a literal together with what follows. */
json_t *ps_pipeline_split_regex(const char *regex);
json_t *ps_pipeline_split_before(const char *literal);

/* A component with a type and nothing else. */
json_t *ps_pipeline_plain(const char *type);

/* A Sequence under `key` ("normalizers", ...); takes the list over. */
json_t *ps_pipeline_sequence(const char *key, json_t *list);

/* Post-processor that adds these ids, -1 for none; null when there is nothing to add. */
json_t *ps_pipeline_around(int32_t bos_id, int32_t eos_id);

/* Normalizer: the rules of a SentencePiece model. */
json_t *ps_pipeline_charsmap(const char *bytes, size_t n);

#endif
