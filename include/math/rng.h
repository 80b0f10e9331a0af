/* Philox4x32-10: a counter-based random generator (Salmon et al., SC'11).
 *
 * The four output words are a pure function of key and counter: nothing has to be saved, and a draw
 * does not depend on ranks, batching or retries. A request's draws use key = its seed and
 * counter = (sample index, token index, purpose, 0).
 *
 * Cost: about 40 integer multiplications.   Errors: none.   MPI: local.
 */
#ifndef PS_MATH_RNG_H
#define PS_MATH_RNG_H

#include <stdint.h>

typedef struct ps_rng_block {
    uint32_t word[4];
} ps_rng_block;

ps_rng_block ps_rng_philox(uint64_t key, ps_rng_block counter);

/* Uniform in [0, 1) with 53 bits, from words 0 and 1. */
double ps_rng_uniform(ps_rng_block block);

/* A well-mixed seed for stream `index` of a run seed (the run's seed and a request's place). */
uint64_t ps_rng_derive(uint64_t seed, uint64_t index);

#endif
