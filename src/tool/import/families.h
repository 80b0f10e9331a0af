/* Model families of Hugging Face checkpoints: one table.
 *
 * A family is a row: how its config.json fills a spec, what its tensors are called, and how their
 * rows lie in them. A new family is a new row, and a new line of code only where its keys or its
 * maths are new.
 *
 * Errors: PS_ERR_UNSUPPORTED for a family, key or value that is not computed here.   MPI: local.
 */
#ifndef PS_TOOL_IMPORT_FAMILIES_H
#define PS_TOOL_IMPORT_FAMILIES_H

#include "base/text.h"
#include "model/spec.h"
#include "model/tensors.h"
#include "tool/import/config.h"

/* How the rows of a role lie in the tensor that holds them. H, G: heads and key heads, K: head
 * size. */
typedef enum ps_rows_from {
    PS_ROWS_PLAIN,
    PS_ROWS_QKV,          // [q of all heads; k; v]
    PS_ROWS_QKV_HEADS,    // [H][q, k, v][K]
    PS_ROWS_QKV_GROUPS,   // [G][q of its heads, k, v][K]
    PS_ROWS_GATE_UP,      // [gate; up]
    PS_ROWS_GATE_UP_PAIRS // gate and up alternate
} ps_rows_from;

/* Where a role comes from. In a name %d is the layer, %e an expert, %h a head, each of which has a
 * tensor of its own; without %e a tensor of experts is stacked. */
typedef struct ps_tensor_from {
    const char *name;
    ps_rows_from rows;
    bool columns; // stored [in, out]: the rows are the columns
} ps_tensor_from;

/* What a foreign model is, apart from its numbers. */
typedef struct ps_import {
    ps_spec spec;                       // owned
    ps_tensor_from from[PS_ROLE_COUNT]; // name NULL: the family has no such tensor
    bool interleaved;                   // rotated pairs of q and k are neighbours
    bool norm_plus_one;                 // norms multiply by 1 + weight
    bool unit_head_rows;                // rows of the head are scaled to length 1
    int skip_positions;                 // rows of the position table that are never used
    const char *embed_linear;           // a Linear layer that goes into the embedding; or NULL
    double embed_norm_factor;           // times the norm of the embedding; 0: as it is
    const char *own_prefix;             // tensors called otherwise are of another model; or NULL
} ps_import;

/* Fills *out from config (its spec is released by the caller with ps_spec_release, also after an
 * error). Every key of the config is used, known to be harmless, or an error. */
ps_err ps_family_read(ps_config *config, ps_import *out) PS_MUST_CHECK;

/* Name of the source tensor of a role: "model.layers.3.mlp.up_proj.weight". `item`: expert or
 * head. */
void ps_family_tensor_name(const ps_tensor_from *from, int layer, int item, ps_text *out);

/* The row of the source that holds row n of a role. */
int64_t ps_import_row(const ps_import *import, const ps_tensor_need *need, int n);

/* Rows that the source tensor of a role must have. */
int64_t ps_import_rows(const ps_import *import, const ps_tensor_need *need);

/* Whether a tensor that no role asks for may be left out: buffers, and the copy of a tied head. */
bool ps_family_ignores(const ps_import *import, const char *name);

#endif
