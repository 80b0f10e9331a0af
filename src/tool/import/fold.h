/* A Linear layer behind a table of rows, folded into the table.
 *
 *   row' = W row + b        W [width, width], b [width]
 *
 * computed in double precision, k ascending, and rounded once to f32.
 *
 * Errors: PS_ERR_FORMAT for a tensor that is missing, PS_ERR_SHAPE, PS_ERR_UNSUPPORTED for a type
 * that a model file does not hold, PS_ERR_NUMERIC for NaN or infinity.   MPI: local.
 * Cost: 2 width^2 operations a row; 8 width^2 bytes.
 */
#ifndef PS_TOOL_IMPORT_FOLD_H
#define PS_TOOL_IMPORT_FOLD_H

#include "base/err.h"
#include "tool/import/source.h"

typedef struct ps_fold ps_fold;

/* LAYER.weight and LAYER.bias of the source, which are then used. `where` names the source. */
ps_err ps_fold_open(const ps_source *source, const char *where, const char *layer, int width,
                    ps_fold **out) PS_MUST_CHECK;
void ps_fold_close(ps_fold *fold);

/* Replaces rows[n, width]. */
void ps_fold_rows(ps_fold *fold, int n, float *rows);

#endif
