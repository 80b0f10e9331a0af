/* The seam of constrained decoding: what a sequence may draw next.
 *
 *   expect    before there are logits: which of them the next token depends on
 *   allow     with the logits: which tokens may be drawn
 *   advance   after the pick: the token that was drawn
 *
 * A constraint is a state machine over tokens. It knows nothing of models, sequences or samplers;
 * a request carries one, each sample works on a copy of its own. expect saves work and changes no
 * token: whoever calls computes only the logits that it names, or none at all where one token is
 * left, and feeds tokens that are certain to the model together.
 *
 * MPI: local, rank 0.
 */
#ifndef PS_SERVE_CONSTRAINT_H
#define PS_SERVE_CONSTRAINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "math/id_range.h"

/* What the next token depends on. */
typedef struct ps_expectation {
    int32_t certain; // >= 0: it will be this one, whatever the logits; -1: not certain
    const ps_id_range
        *ranges; // [n_ranges] ascending, disjoint: all that allow looks at and all that
                 // it can allow; borrowed until the next call. n_ranges 0: every logit
    int n_ranges;
} ps_expectation;

typedef struct ps_constraint ps_constraint;

/* What a kind of constraint does; static. */
typedef struct ps_constraint_kind {
    /* May be called any number of times between two tokens, and changes nothing. */
    void (*expect)(ps_constraint *c, ps_expectation *out);

    /* Once for each token that is not certain. logits[V] are those that the draw works on (guidance
     * done), -inf outside of what expect named. allowed[ceil(V/64)]: bit v % 64 of word v / 64 says
     * that v may be drawn; bits behind V are 0. *all: every token may, and `allowed` was not
     * written. PS_ERR_FORMAT when no token is left. */
    ps_err (*allow)(ps_constraint *c, const float *logits, uint64_t *allowed, bool *all);

    /* The sequence grew by a token that was allowed or certain. */
    void (*advance)(ps_constraint *c, int32_t token);

    /* An independent constraint in the same state. */
    ps_constraint *(*copy)(const ps_constraint *c);

    void (*free)(ps_constraint *c);
} ps_constraint_kind;

/* The beginning of every constraint; what follows is its kind's. */
struct ps_constraint {
    const ps_constraint_kind *kind;
};

#endif
