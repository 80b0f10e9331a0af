/* Philox4x32-10 with the constants of the paper's section 4.3. */
#include "math/rng.h"

ps_rng_block ps_rng_philox(uint64_t key, ps_rng_block c)
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c.word[0];
        const uint64_t p1 = (uint64_t)0xCD9E8D57u * c.word[2];
        c = (ps_rng_block){{(uint32_t)(p1 >> 32) ^ c.word[1] ^ k0, (uint32_t)p1,
                            (uint32_t)(p0 >> 32) ^ c.word[3] ^ k1, (uint32_t)p0}};
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

double ps_rng_uniform(ps_rng_block block)
{
    const uint64_t bits = (uint64_t)block.word[0] << 32 | block.word[1];
    return (double)(bits >> 11) * 0x1p-53;
}

uint64_t ps_rng_derive(uint64_t seed, uint64_t index)
{
    const ps_rng_block counter = {
        {(uint32_t)index, (uint32_t)(index >> 32), 0x73656564u, 0}}; // "seed"
    const ps_rng_block block = ps_rng_philox(seed, counter);
    return (uint64_t)block.word[0] << 32 | block.word[1];
}
