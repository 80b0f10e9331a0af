/* Arrays of floats for tests: made, filled, spoiled and compared bit by bit. */
#ifndef PS_TESTS_FLOATS_H
#define PS_TESTS_FLOATS_H

#include <stdbool.h>
#include <stddef.h>

#include "support/dice.h"

/* Zeroed, owned by the caller, freed with ps_mem_free. */
float *floats_new(size_t n);

/* Uniform in [low, high). */
void floats_roll(dice *d, float *out, size_t n, double low, double high);

/* n new random values in [low, high). */
float *floats_new_rolled(dice *d, size_t n, double low, double high);

/* NaN in every value: whoever computes with it shows it. */
void floats_poison(float *out, size_t n);
float *floats_new_poisoned(size_t n);

/* True if every value still has the bits that floats_poison wrote. */
bool floats_untouched(const float *values, size_t n);

/* First index where the bits differ (one NaN is like another); n if there is none. */
size_t floats_first_difference(const float *a, const float *b, size_t n);

/* Largest |a[i] - b[i]|; HUGE_VAL where exactly one is NaN. */
double floats_distance(const float *a, const double *b, size_t n);

#endif
