/* What a model file was made from: the files of the source, their sizes and SHA-256.
 *
 * The hashes are computed by a thread of their own while the tensors are converted, by plain reads,
 * so that they cost time only where a disk or a core is short, and no memory.
 *
 * Errors: PS_ERR_IO for a file that cannot be read.   MPI: rank 0 only.
 */
#ifndef PS_TOOL_IMPORT_ORIGIN_H
#define PS_TOOL_IMPORT_ORIGIN_H

#include "base/err.h"
#include "base/text.h"
#include "tool/import/source.h"

typedef struct ps_origin ps_origin;

/* Starts with the files that hold the tensors of the source; names are borrowed until the end. */
ps_origin *ps_origin_begin(const ps_source *source);

/* Waits for the hashes and appends them as a JSON array. */
ps_err ps_origin_finish(ps_origin *origin, ps_text *json) PS_MUST_CHECK;

/* Stops a thread that is still at work, and releases. origin may be NULL. */
void ps_origin_free(ps_origin *origin);

#endif
