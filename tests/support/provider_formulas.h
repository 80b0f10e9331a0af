/* Part of support/providers.h: t5, kerple, sandwich, fire, fox. */
#ifndef PS_TESTS_PROVIDER_FORMULAS_H
#define PS_TESTS_PROVIDER_FORMULAS_H

#include "support/providers.h"

/* Draws the parameters of p->kind; width: of the layer's input. */
void provider_roll_formula(provider *p, int width, dice *d);

double provider_formula(const provider *p, const provider_pair *pair);

#endif
