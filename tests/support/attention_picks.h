/* The shapes that attention is tested with. The lists have lengths without a common divisor, so
 * that the loop number goes through all pairs of values. */
#ifndef PS_TESTS_ATTENTION_PICKS_H
#define PS_TESTS_ATTENTION_PICKS_H

#include "support/attention_case.h"

enum { ATTENTION_PICKS = 385 };

/* work_max bounds the multiplications of the plain sum; long sequences then query their end only,
 * or are cut. */
attention_sizes attention_picks_sizes(int number, dice *d, double work_max);

#endif
