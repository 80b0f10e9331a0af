/* Model architectures of GGUF files: one table.
 *
 * An architecture is a row: which kinds of norm, activation and rotation it has, what it reads from
 * the metadata, and what is known of it although no file says so (periods of windows, bases,
 * scales). Tensors have the same names everywhere; where an architecture uses one for something
 * else, a table of renames says so.
 *
 * What the files do differently from the canonical form (model/spec.h):
 *   - fused matrices (attn_qkv, phi3's ffn_up) are runs of rows one behind the other
 *   - architectures that rotate neighbours have the rows of q and k in that order. Rows move whole,
 *     so quantised ones need no new rounding.
 *   - norm weights hold the 1 that Gemma adds, as here
 *   - experts are one tensor of three dimensions, or, in old files, one tensor each
 *
 * A key of the architecture that nobody understands is an error that names it, unless it is known
 * to leave the computation alone.
 *
 * Errors: PS_ERR_UNSUPPORTED, PS_ERR_FORMAT, PS_ERR_SHAPE with file and key or tensor. MPI: local.
 */
#ifndef PS_TOOL_IMPORT_GGUF_FAMILIES_H
#define PS_TOOL_IMPORT_GGUF_FAMILIES_H

#include "tool/import/families.h"
#include "tool/import/gguf.h"
#include "tool/import/source.h"

/* What the file computes and what its tensors are called. The spec is released by the caller with
 * ps_spec_release, also after an error. */
ps_err ps_gguf_family_read(ps_gguf *gguf, ps_import *out) PS_MUST_CHECK;

/* The file's tensors for the converter (ps_source_release); `gguf` stays open while they are used.
 * Factors of the rotation, which the spec holds, count as used. */
void ps_gguf_fill_source(const ps_gguf *gguf, ps_source *out);

/* The format of a tensor; false when a model file has none for its type. */
bool ps_gguf_format(const ps_gguf_tensor *tensor, ps_dtype *out);

#endif
