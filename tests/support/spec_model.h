/* Small random models straight from a spec: every flag, kind and number that a spec has is drawn,
 * and the model file is written tensor by tensor without any foreign format. For families as other
 * people's files have them see support/tiny_model.h.
 *
 * A weight is a pure function of seed, role, layer and index.   MPI: local; one rank writes.
 */
#ifndef TESTS_SUPPORT_SPEC_MODEL_H
#define TESTS_SUPPORT_SPEC_MODEL_H

#include "math/dtype.h"
#include "model/spec.h"
#include "model/tensors.h"

/* Values [count * n * k] in the place of those of one role and layer, borrowed; NULL: none. */
typedef struct spec_model_edit {
    ps_role role;
    int layer;
    const float *values;
} spec_model_edit;

typedef struct spec_model {
    ps_spec spec; // owned
    ps_dtype dtype;
    uint64_t seed;
    spec_model_edit edits[2];
} spec_model;

/* 1-4 layers, up to 60 wide. The number picks some of the kinds in turn, so that a few in a row
 * meet all of them. */
spec_model spec_model_roll(uint64_t number);
void spec_model_release(spec_model *m);

/* The weights of a role, [count, n, k], as the file stores them; owned by the caller. NULL when the
 * spec does not call for it. */
float *spec_model_values(const spec_model *m, ps_role role, int layer);

ps_err spec_model_write(const spec_model *m, const char *path) PS_MUST_CHECK;

#endif
