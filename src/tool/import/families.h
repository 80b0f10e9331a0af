/* Model families of Hugging Face checkpoints: one table.
 *
 * A family is a row: how its config.json fills a spec, and what its tensors are called. A new
 * family is a new row, and a new line of code only where its keys or its maths are new.
 *
 * Errors: PS_ERR_UNSUPPORTED for a family, key or value that is not computed here.   MPI: local.
 */
#ifndef PS_TOOL_IMPORT_FAMILIES_H
#define PS_TOOL_IMPORT_FAMILIES_H

#include "base/text.h"
#include "model/spec.h"
#include "model/tensors.h"
#include "tool/import/config.h"

typedef struct ps_family ps_family;

/* Fills *spec from config (released by the caller with ps_spec_release, also after an error) and
 * finds the family. Every key of the config is used, known to be harmless, or an error. */
ps_err ps_family_read(ps_config *config, const ps_family **family, ps_spec *spec) PS_MUST_CHECK;

/* Name of the source tensor of a role: "model.layers.3.mlp.up_proj.weight". */
void ps_family_tensor_name(const ps_family *family, ps_role role, int layer, ps_text *out);

/* Whether a tensor that no role asks for may be left out: buffers, and the copy of a tied head. */
bool ps_family_ignores(const ps_family *family, const ps_spec *spec, const char *name);

#endif
