/* Kinds of reference data about tokenizers, as rows of the report (support/golden_run.h):
 *
 *   tokenizer.json + cases.jsonl                 the tokenizers library's, with decode and stream
 *   tokenizer.model + sentencepiece_cases.jsonl  SentencePiece's
 *   vocab.gguf, tokenizer.model + gguf_cases.jsonl   llama.cpp's
 *   tokenizer_cases.jsonl                            llama.cpp's for a real model, whose file
 *                                                    $PS_GOLDEN_MODEL names
 *   chat.jsonl                                       chat templates
 *
 * MPI: local. */
#ifndef TESTS_SUPPORT_GOLDEN_VOCABULARIES_H
#define TESTS_SUPPORT_GOLDEN_VOCABULARIES_H

#include "support/golden_run.h"

/* Checks what is of these kinds in a directory; false if nothing is. */
bool golden_check_vocabularies(golden *g, const char *directory, const char *name);

#endif
