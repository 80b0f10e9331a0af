/* A constraint that never changes its mind: the same set of tokens at every step. It remembers what
 * it was shown. */
#ifndef TESTS_SUPPORT_FIXED_CONSTRAINT_H
#define TESTS_SUPPORT_FIXED_CONSTRAINT_H

#include <string.h>

#include "base/mem.h"
#include "serve/constraint.h"

enum { FIXED_CONSTRAINT_WORDS = 16 };

typedef struct fixed_constraint {
    ps_constraint base;
    uint64_t allowed[FIXED_CONSTRAINT_WORDS];
    int V;
    int n_allows;                             // calls
    float shown[64 * FIXED_CONSTRAINT_WORDS]; // [V] by the last call
} fixed_constraint;

static inline void fixed_constraint_expect(ps_constraint *c, ps_expectation *out)
{
    (void)c;
    *out = (ps_expectation){.certain = -1};
}

static inline ps_err fixed_constraint_allow(ps_constraint *c, const float *logits,
                                            uint64_t *allowed, bool *all)
{
    fixed_constraint *f = (fixed_constraint *)(void *)c;
    f->n_allows++;
    memcpy(f->shown, logits, (size_t)f->V * sizeof *logits);
    memcpy(allowed, f->allowed, (size_t)(f->V + 63) / 64 * sizeof *allowed);
    *all = false;
    return PS_OK;
}

static inline void fixed_constraint_advance(ps_constraint *c, int32_t token)
{
    (void)c;
    (void)token;
}

static inline ps_constraint *fixed_constraint_copy(const ps_constraint *c)
{
    return (ps_constraint *)(void *)ps_mem_copy_bytes(c, sizeof(fixed_constraint));
}

static inline void fixed_constraint_free(ps_constraint *c)
{
    ps_mem_free(c);
}

static inline const ps_constraint_kind *fixed_constraint_kind(void)
{
    static const ps_constraint_kind kind = {fixed_constraint_expect, fixed_constraint_allow,
                                            fixed_constraint_advance, fixed_constraint_copy,
                                            fixed_constraint_free};
    return &kind;
}

/* allowed[ceil(V/64)] */
static inline fixed_constraint fixed_constraint_of(const uint64_t *allowed, int V)
{
    fixed_constraint f = {.base = {fixed_constraint_kind()}, .V = V};
    memcpy(f.allowed, allowed, (size_t)(V + 63) / 64 * sizeof *allowed);
    return f;
}

#endif
