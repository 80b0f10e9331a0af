/* The instruction sets that the kernels were built for, and which of them this processor has.
 *
 * Sets are ordered from slowest to fastest; "portable" is always there. All of them give the same
 * bits, so the choice is a matter of speed (and of tests).   Errors: PS_ERR_USAGE.   MPI: local.
 */
#ifndef PS_MATH_ISA_H
#define PS_MATH_ISA_H

#include <stdbool.h>

#include "base/err.h"

struct ps_kernels;

int ps_isa_count(void);
const char *ps_isa_name(int isa);
bool ps_isa_supported(int isa);

/* Table of the named set; "auto" or NULL takes the fastest that this processor has. An unknown
 * name, or a set that the processor lacks, is an error that lists what there is. */
ps_err ps_isa_kernels(const char *name, const struct ps_kernels **out) PS_MUST_CHECK;

#endif
