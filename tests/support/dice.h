/* Random numbers for tests: a stream per seed, the same on every machine, so that a failing case is
 * found again by its loop number. */
#ifndef PS_TESTS_DICE_H
#define PS_TESTS_DICE_H

#include <stdint.h>

#include "math/rng.h"

/* Rounds of a test with random cases: a quarter of them under a sanitizer, which looks at memory or
 * threads and is ten times as slow. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define DICE_ROUNDS(n) ((n) / 4 + 1)
#else
#define DICE_ROUNDS(n) (n)
#endif

typedef struct dice {
    uint64_t seed;
    uint32_t next;
} dice;

static inline uint64_t dice_bits(dice *d)
{
    const ps_rng_block block =
        ps_rng_philox(d->seed, (ps_rng_block){{d->next++, 0x74657374, 0, 0}});
    return (uint64_t)block.word[0] << 32 | block.word[1];
}

/* 0 <= result < sides */
static inline int dice_throw(dice *d, int sides)
{
    return (int)(dice_bits(d) % (uint64_t)sides);
}

/* low <= result < high */
static inline double dice_real(dice *d, double low, double high)
{
    return low + (high - low) * ((double)(dice_bits(d) >> 11) * 0x1p-53);
}

#endif
