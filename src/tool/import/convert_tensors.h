/* From the tensors of a source to those of a model file.
 *
 * Walks the tensors that the spec calls for, in the order of the model file; each is found in the
 * source, checked, its rows put into the canonical order (families.h), packed panel by panel and
 * appended. A matrix that gets another format, or an adapter (lora.h), goes through f32, and what
 * the rounding cost is said for each. Memory: a few panels, the longest vector, one adapter.
 *
 * Errors: PS_ERR_FORMAT for a tensor that is missing or left over, PS_ERR_SHAPE, PS_ERR_UNSUPPORTED
 * for a type that a model file does not hold or cannot be written, or rows that a block of the
 * wanted type does not divide, PS_ERR_NUMERIC for NaN or infinity.   MPI: rank 0 only.
 */
#ifndef PS_TOOL_IMPORT_CONVERT_TENSORS_H
#define PS_TOOL_IMPORT_CONVERT_TENSORS_H

#include "model/ckpt.h"
#include "tool/import/convert.h"
#include "tool/import/families.h"
#include "tool/import/source.h"

typedef struct ps_conversion {
    const char *where; // names the source in messages
    const ps_import *import;
    ps_source *source;
    const ps_text *origin;             // JSON object of what the source is, without its end
    const ps_text *tokenizer;          // as the model file holds it; may be empty
    const ps_convert_options *options; // NULL: the default
} ps_conversion;                       // all borrowed

/* Writes the model file: texts, tensors, and in /source the files' sizes and SHA-256 (origin.h). It
 * appears under its name when it is complete. */
ps_err ps_convert_write(const ps_conversion *conversion, const char *output) PS_MUST_CHECK;

#endif
