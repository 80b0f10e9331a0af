#include "support/dice_constraint.h"

#include <check.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "support/dice.h"

enum { RANGES_MAX = 4 };

typedef enum kind { CERTAIN, FEW, ALL, BY_LOGITS, KINDS } kind;

typedef struct dice_constraint {
    ps_constraint base;
    uint64_t state;
    int vocabulary;
    ps_id_range ranges[RANGES_MAX]; // what expect lends out
} dice_constraint;

static int n_allows;

int dice_constraint_allows(void)
{
    return n_allows;
}

static dice dice_of(const dice_constraint *c)
{
    return (dice){.seed = c->state};
}

/* Ascending ranges with gaps between them; at least one. */
static int throw_ranges(dice *d, int vocabulary, ps_id_range *out)
{
    int n = 0, at = dice_throw(d, vocabulary / 2);
    while (n < RANGES_MAX && at < vocabulary) {
        const int left = vocabulary - at, length = 1 + dice_throw(d, left < 20 ? left : 20);
        out[n++] = (ps_id_range){at, at + length};
        at += length + 1 + dice_throw(d, 20);
        if (dice_throw(d, 3) == 0) break;
    }
    return n;
}

static void expect(ps_constraint *base, ps_expectation *out)
{
    dice_constraint *c = (dice_constraint *)(void *)base;
    dice d = dice_of(c);
    *out = (ps_expectation){.certain = -1};
    switch ((kind)dice_throw(&d, KINDS)) {
    case CERTAIN:
        out->certain = dice_throw(&d, c->vocabulary);
        break;
    case FEW:
        out->n_ranges = throw_ranges(&d, c->vocabulary, c->ranges);
        out->ranges = c->ranges;
        break;
    default:
        break;
    }
}

static void set(uint64_t *allowed, int v)
{
    allowed[v / 64] |= (uint64_t)1 << v % 64;
}

/* What is not smaller than the mean of the least and the largest. */
static void allow_by_logits(const float *logits, int V, uint64_t *allowed)
{
    float most = -INFINITY, least = INFINITY;
    for (int v = 0; v < V; v++) {
        most = fmaxf(most, logits[v]);
        if (logits[v] > -INFINITY) least = fminf(least, logits[v]);
    }
    for (int v = 0; v < V; v++) {
        if (logits[v] >= 0.5f * (most + least)) set(allowed, v);
    }
}

static ps_err allow(ps_constraint *base, const float *logits, uint64_t *allowed, bool *all)
{
    dice_constraint *c = (dice_constraint *)(void *)base;
    dice d = dice_of(c);
    n_allows++;
    memset(allowed, 0, (size_t)(c->vocabulary + 63) / 64 * sizeof *allowed);
    const kind k = (kind)dice_throw(&d, KINDS);
    ck_assert_int_ne(k, CERTAIN);
    *all = k == ALL;
    if (k == BY_LOGITS) allow_by_logits(logits, c->vocabulary, allowed);
    if (k != FEW) return PS_OK;
    ps_id_range ranges[RANGES_MAX];
    const int n = throw_ranges(&d, c->vocabulary, ranges);
    set(allowed, ranges[0].first);
    for (int r = 0; r < n; r++) {
        for (int v = ranges[r].first; v < ranges[r].end; v++) {
            ck_assert(logits[v] > -INFINITY);
            if (dice_throw(&d, 2)) set(allowed, v);
        }
    }
    return PS_OK;
}

static void advance(ps_constraint *base, int32_t token)
{
    dice_constraint *c = (dice_constraint *)(void *)base;
    ck_assert(token >= 0 && token < c->vocabulary);
    c->state = ps_rng_derive(c->state, (uint64_t)token);
}

static ps_constraint *copy(const ps_constraint *base)
{
    dice_constraint *c = ps_mem_new(1, sizeof *c);
    memcpy(c, base, sizeof *c);
    return &c->base;
}

static void release(ps_constraint *base)
{
    ps_mem_free(base);
}

ps_constraint *dice_constraint_new(uint64_t seed, int vocabulary)
{
    static const ps_constraint_kind functions = {expect, allow, advance, copy, release};
    dice_constraint *c = ps_mem_new(1, sizeof *c);
    *c = (dice_constraint){.base = {&functions}, .state = seed, .vocabulary = vocabulary};
    return &c->base;
}
