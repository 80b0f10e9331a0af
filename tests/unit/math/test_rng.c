/* Philox4x32-10 against the known answers of its authors (Random123's kat_vectors). */
#include "math/rng.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

static const struct {
    uint64_t key;
    ps_rng_block counter, wanted;
} known[] = {
    {0, {{0, 0, 0, 0}}, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
    {0xffffffffffffffff,
     {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
     {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
    {0x299f31d0a4093822, // pi digits
     {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
     {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
};

START_TEST(philox_gives_the_known_answers)
{
    const ps_rng_block found = ps_rng_philox(known[_i].key, known[_i].counter);
    for (int w = 0; w < 4; w++) {
        ck_assert_uint_eq(found.word[w], known[_i].wanted.word[w]);
    }
}
END_TEST

START_TEST(uniform_takes_the_upper_53_bits_of_two_words)
{
    ck_assert(ps_rng_uniform((ps_rng_block){{0, 0x7ff, 9, 9}}) == 0.0);
    ck_assert(ps_rng_uniform((ps_rng_block){{0, 0x800, 9, 9}}) == 0x1p-53);
    ck_assert(ps_rng_uniform((ps_rng_block){{0x80000000, 0, 9, 9}}) == 0.5);
    ck_assert(ps_rng_uniform((ps_rng_block){{0xffffffff, 0xffffffff, 9, 9}}) == 1.0 - 0x1p-53);
}
END_TEST

/* 256 equal bins, 100,000 draws: chi-square has mean 255 and deviation 22.6. */
START_TEST(uniform_fills_the_unit_interval_evenly)
{
    enum { DRAWS = 100000 };
    int bin[256] = {0};
    for (uint32_t i = 0; i < DRAWS; i++) {
        const ps_rng_block counter = {{i, (uint32_t)_i, 0, 0}};
        bin[(int)(ps_rng_uniform(ps_rng_philox(7, counter)) * 256.0)]++;
    }
    double chi_square = 0.0;
    for (int b = 0; b < 256; b++) {
        chi_square += (bin[b] - DRAWS / 256.0) * (bin[b] - DRAWS / 256.0) / (DRAWS / 256.0);
    }
    ck_assert_double_gt(chi_square, 255.0 - 4.0 * 22.6);
    ck_assert_double_lt(chi_square, 255.0 + 4.0 * 22.6);
}
END_TEST

static int compare_words(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Indices that differ in their low and in their high word, of neighbouring seeds. */
START_TEST(derived_seeds_differ)
{
    enum { N = 4000 };
    static uint64_t seed[N];
    for (uint64_t i = 0; i < N; i++) {
        const uint64_t index = i % 2 ? i << 32 : i;
        seed[i] = ps_rng_derive(i % 4 < 2 ? 1 : 2, index);
    }
    qsort(seed, N, sizeof *seed, compare_words);
    for (int i = 1; i < N; i++) {
        ck_assert_uint_ne(seed[i], seed[i - 1]);
    }
}
END_TEST

/* Computed by another program from philox's definition and the counter (7, 0, "seed", 0). */
START_TEST(a_derived_seed_stays_what_it_is)
{
    ck_assert_uint_eq(ps_rng_derive(42, 7), 0xda35922cb5f898a6u);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("rng");
    tcase_add_loop_test(tcase, philox_gives_the_known_answers, 0, 3);
    tcase_add_test(tcase, uniform_takes_the_upper_53_bits_of_two_words);
    tcase_add_loop_test(tcase, uniform_fills_the_unit_interval_evenly, 0, 3);
    tcase_add_test(tcase, derived_seeds_differ);
    tcase_add_test(tcase, a_derived_seed_stays_what_it_is);
    Suite *suite = suite_create("math/rng");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
