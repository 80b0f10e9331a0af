/* What the tests of single kernels share: a set's table, the tree of sums, comparison bit by bit.
 */
#ifndef PS_TESTS_KERNEL_CHECKS_H
#define PS_TESTS_KERNEL_CHECKS_H

#include <check.h>
#include <string.h>

#include "math/isa.h"
#include "math/kernels.h"
#include "support/floats.h"

enum { LANES = 16 };

/* NULL, and nothing to test, where the processor lacks the set. */
static inline const ps_kernels *kernels_of(int isa)
{
    const ps_kernels *kernels = NULL;
    if (!ps_isa_supported(isa)) return NULL;
    ck_assert_int_eq(ps_isa_kernels(ps_isa_name(isa), &kernels), PS_OK);
    return kernels;
}

/* Sum over 16 lanes by the fixed tree: l + (l+8), l + (l+4), l + (l+2), l + (l+1). */
static inline float tree_sum(const float lanes[LANES])
{
    float sums[LANES];
    memcpy(sums, lanes, sizeof sums);
    for (int step = 8; step >= 1; step /= 2) {
        for (int l = 0; l < step; l++) {
            sums[l] = sums[l] + sums[l + step];
        }
    }
    return sums[0];
}

static inline void check_same(const float *found, const float *wanted, size_t n, const char *what)
{
    const size_t at = floats_first_difference(found, wanted, n);
    ck_assert_msg(at == n, "%s: value %zu of %zu is %a, not %a", what, at, n, (double)found[at],
                  (double)wanted[at]);
}

#endif
