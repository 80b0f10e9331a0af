/* Conversion of a foreign model into a model file.
 *
 *   directory   of Hugging Face: config.json, safetensors (one file or shards), and, where they are
 *               there, tokenizer.json, tokenizer_config.json, generation_config.json
 *   gguf        a GGUF file; of a split model the first part
 *
 * Weights keep their format and their values, quantised ones block by block, unless the options say
 * otherwise; only their order changes. Memory: a few panels and the headers, whatever the model's
 * size. The model file appears when it is complete.
 *
 * Errors: those of the readers; PS_ERR_FORMAT for a tensor that is missing, left over or of a wrong
 * shape; PS_ERR_NUMERIC for NaN or infinity.   MPI: rank 0 only.
 */
#ifndef PS_TOOL_IMPORT_CONVERT_H
#define PS_TOOL_IMPORT_CONVERT_H

#include <stdbool.h>

#include "base/err.h"
#include "math/dtype.h"

/* What changes on the way. Nothing by default: every matrix keeps its format and its values. */
typedef struct ps_convert_options {
    bool has_type; // matrices get the format `type`; routers, positions and w_pos keep theirs
    ps_dtype type;
    const char *const *loras; // [n_loras] DIR or DIR:SCALE, borrowed
    int n_loras;
    bool progress; // a bar, where standard error is a terminal
} ps_convert_options;

/* options NULL: the default. */
ps_err ps_convert_directory(const char *directory, const char *output,
                            const ps_convert_options *options) PS_MUST_CHECK;
ps_err ps_convert_gguf(const char *path, const char *output,
                       const ps_convert_options *options) PS_MUST_CHECK;

/* Either of them, by what `path` is. */
ps_err ps_convert_model(const char *path, const char *output,
                        const ps_convert_options *options) PS_MUST_CHECK;

#endif
