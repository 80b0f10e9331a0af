/* A constraint that throws dice over the tokens that a sequence took: some tokens are certain, some
 * come from a few ranges, some depend on the logits that are shown. Two of them that took the same
 * tokens say the same.
 *
 * MPI: none.
 */
#ifndef TESTS_SUPPORT_DICE_CONSTRAINT_H
#define TESTS_SUPPORT_DICE_CONSTRAINT_H

#include "serve/constraint.h"

ps_constraint *dice_constraint_new(uint64_t seed, int vocabulary);

/* How often tokens were asked for (`allow`), by all since the process began. */
int dice_constraint_allows(void);

#endif
