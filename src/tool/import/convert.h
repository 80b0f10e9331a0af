/* Conversion of a foreign model into a model file.
 *
 *   source   a Hugging Face directory: config.json, safetensors (one file or shards), and, where
 * they are there, tokenizer.json, tokenizer_config.json, generation_config.json
 *
 * Weights keep their format (f32, f16, bf16) and their values; only their order changes. Memory:
 * one panel and the headers, whatever the model's size. The model file appears when it is complete.
 *
 * Errors: those of the readers; PS_ERR_FORMAT for a tensor that is missing, left over or of a wrong
 * shape; PS_ERR_NUMERIC for NaN or infinity.   MPI: rank 0 only.
 */
#ifndef PS_TOOL_IMPORT_CONVERT_H
#define PS_TOOL_IMPORT_CONVERT_H

#include <stdbool.h>

#include "base/err.h"

ps_err ps_convert_directory(const char *directory, const char *output, bool progress) PS_MUST_CHECK;

#endif
