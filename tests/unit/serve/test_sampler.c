/* The sampler of a sequence: facts about its steps, its memory, its draws, its errors. The steps
 * are compared with plain ones in test_sampler_steps.c. */
#include "serve/sampler.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../support/dice.h"
#include "../../support/fixed_constraint.h"

enum { SUPPORT_MAX = 16 };

typedef struct desk {
    ps_sampler *s;
    ps_sampler_work *work;
    int V;
} desk;

static desk open_desk(ps_sample_params p, int V)
{
    desk k = {.work = ps_sampler_work_new(V), .V = V};
    ck_assert_msg(ps_sampler_new(&p, V, &k.s) == PS_OK, "%s", ps_err_message());
    return k;
}

static void close_desk(desk *k)
{
    ps_sampler_free(k->s);
    ps_sampler_work_free(k->work);
}

static int32_t pick(desk *k, const float *logits)
{
    int32_t token = -1;
    ck_assert_msg(ps_sampler_pick(k->s, k->work, &(ps_sampler_input){.logits = logits}, &token) ==
                      PS_OK,
                  "%s", ps_err_message());
    return token;
}

/* Asserts the set of tokens that can be drawn, as a string of 0 and 1. */
static void expect_support(desk *k, const float *logits, const char *wanted)
{
    double p[SUPPORT_MAX];
    char found[SUPPORT_MAX + 1] = "";
    ck_assert_int_le(k->V, SUPPORT_MAX);
    ck_assert_int_eq(
        ps_sampler_probabilities(k->s, k->work, &(ps_sampler_input){.logits = logits}, p), PS_OK);
    for (int v = 0; v < k->V; v++) {
        found[v] = p[v] > 0.0 ? '1' : '0';
        found[v + 1] = '\0';
    }
    ck_assert_str_eq(found, wanted);
}

static void expect_support_of(ps_sample_params p, const float *logits, const char *wanted)
{
    desk k = open_desk(p, (int)strlen(wanted));
    expect_support(&k, logits, wanted);
    close_desk(&k);
}

START_TEST(temperature_zero_takes_the_lowest_id_of_the_largest)
{
    const float logits[6] = {-1.0f, 2.0f, 3.0f, 3.0f, 0.0f, 3.0f};
    ps_sample_params p = ps_sample_params_default();
    for (int i = 0; i < 2; i++) {
        p.temperature = -(double)i;
        desk k = open_desk(p, 6);
        ck_assert_int_eq(pick(&k, logits), 2);
        expect_support(&k, logits, "001000");
        close_desk(&k);
    }
    p.banned = (const int32_t[]){2};
    p.n_banned = 1;
    desk k = open_desk(p, 6);
    ck_assert_int_eq(pick(&k, logits), 3);
    close_desk(&k);
}
END_TEST

/* Probabilities 0.4 and 15 times 0.04: typical alone keeps the small ones, which are nearer to the
 * entropy. */
START_TEST(greedy_leaves_out_what_only_shapes_a_draw)
{
    ps_sample_params p = ps_sample_params_default();
    p.typical_p = 0.2;
    float logits[16] = {0.0f};
    logits[1] = 2.3f;
    expect_support_of(p, logits, "1011111111111111");
    p.temperature = 0.0;
    expect_support_of(p, logits, "0100000000000000");
    desk k = open_desk(p, 16);
    ck_assert_int_eq(pick(&k, logits), 1);
    close_desk(&k);
}
END_TEST

START_TEST(top_k_keeps_ties_and_may_exceed_the_vocabulary)
{
    const float logits[5] = {1.0f, 3.0f, 2.0f, 2.0f, 0.0f};
    ps_sample_params p = ps_sample_params_default();
    p.top_k = 2;
    expect_support_of(p, logits, "01110");
    p.top_k = 1;
    expect_support_of(p, logits, "01000");
    p.top_k = 1000000;
    expect_support_of(p, logits, "11111");
}
END_TEST

START_TEST(top_p_of_zero_keeps_one_and_of_one_keeps_all)
{
    const float logits[4] = {1.0f, 5.0f, 5.0f, -30.0f};
    ps_sample_params p = ps_sample_params_default();
    p.top_p = 0.0;
    expect_support_of(p, logits, "0100");
    p.top_p = 1.0;
    expect_support_of(p, logits, "1111");
}
END_TEST

START_TEST(top_p_splits_ties_by_id_and_counts_the_last_one_in)
{
    const float logits[8] = {0};
    ps_sample_params p = ps_sample_params_default();
    p.top_p = 0.5;
    expect_support_of(p, logits, "11110000");
    p.top_p = 0.51;
    expect_support_of(p, logits, "11111000");
}
END_TEST

START_TEST(both_zeros_are_equal)
{
    const float logits[4] = {-0.0f, 0.0f, -0.0f, -1.0f};
    ps_sample_params p = ps_sample_params_default();
    p.top_k = 1;
    expect_support_of(p, logits, "1110");
    p = ps_sample_params_default();
    p.top_p = 0.0;
    expect_support_of(p, logits, "1000");
}
END_TEST

START_TEST(extreme_logits_are_drawn_without_overflow)
{
    const float logits[4] = {3.4e38f, -3.4e38f, 3.4e38f, -INFINITY};
    ps_sample_params p = ps_sample_params_default();
    p.temperature = 1e-5;
    p.repetition_penalty = 1e5;
    p.frequency_penalty = p.presence_penalty = -1e5;
    p.top_p = 0.9;
    p.typical_p = 0.9;
    p.min_p = 1e-300;
    desk k = open_desk(p, 4);
    ps_sampler_advance(k.s, 1, false);
    expect_support(&k, logits, "1010");
    close_desk(&k);
}
END_TEST

START_TEST(end_tokens_are_banned_until_enough_is_generated)
{
    const float logits[3] = {0.0f, 9.0f, 0.0f};
    ps_sample_params p = ps_sample_params_default();
    p.end_tokens = (const int32_t[]){1};
    p.n_end_tokens = 1;
    p.min_new_tokens = 2;
    desk k = open_desk(p, 3);
    ps_sampler_advance(k.s, 0, true);
    ps_sampler_advance(k.s, 0, true);
    ps_sampler_advance(k.s, 0, false);
    expect_support(&k, logits, "101");
    ps_sampler_advance(k.s, 0, false);
    expect_support(&k, logits, "111");
    close_desk(&k);
}
END_TEST

START_TEST(the_prompt_counts_for_repetition_only)
{
    const float logits[3] = {1.0f, 1.0f, 0.0f};
    ps_sample_params p = ps_sample_params_default();
    p.temperature = 0.0;
    p.presence_penalty = 5.0;
    p.frequency_penalty = 5.0;
    desk k = open_desk(p, 3);
    ps_sampler_advance(k.s, 0, true);
    ck_assert_int_eq(pick(&k, logits), 0);
    ps_sampler_advance(k.s, 0, false);
    ck_assert_int_eq(pick(&k, logits), 1);
    close_desk(&k);
    p.presence_penalty = p.frequency_penalty = 0.0;
    p.repetition_penalty = 2.0;
    k = open_desk(p, 3);
    ps_sampler_advance(k.s, 0, true);
    ck_assert_int_eq(pick(&k, logits), 1);
    close_desk(&k);
}
END_TEST

START_TEST(a_token_that_left_the_window_is_free_again)
{
    const float logits[3] = {1.0f, 0.5f, 0.5f};
    ps_sample_params p = ps_sample_params_default();
    p.temperature = 0.0;
    p.presence_penalty = 1.0;
    p.repeat_last_n = 2;
    desk k = open_desk(p, 3);
    ps_sampler_advance(k.s, 0, false);
    ps_sampler_advance(k.s, 1, false);
    ck_assert_int_eq(pick(&k, logits), 2);
    ps_sampler_advance(k.s, 1, false);
    ck_assert_int_eq(pick(&k, logits), 0);
    close_desk(&k);
}
END_TEST

/* Logits of step t of a made-up model: multiples of 2^-10 from the stream of the seed. */
static void made_up_logits(uint64_t seed, uint32_t t, float *logits, int V)
{
    dice d = {.seed = seed + t};
    for (int v = 0; v < V; v++) {
        logits[v] = (float)(dice_throw(&d, 1 << 14) - (1 << 13)) * 0x1p-10f;
    }
}

static ps_sample_params busy_params(uint64_t seed)
{
    ps_sample_params p = ps_sample_params_default();
    p.temperature = 0.9;
    p.top_k = 60;
    p.top_p = 0.95;
    p.min_p = 0.001;
    p.typical_p = 0.97;
    p.repetition_penalty = 1.1;
    p.frequency_penalty = 0.2;
    p.presence_penalty = 0.3;
    p.repeat_last_n = 24;
    p.seed = seed;
    return p;
}

enum { RUN_TOKENS = 60, RUN_V = 120 };

static void generate(ps_sample_params p, int32_t *tokens)
{
    float logits[RUN_V];
    desk k = open_desk(p, RUN_V);
    for (int32_t i = 0; i < 5; i++) {
        ps_sampler_advance(k.s, i, true);
    }
    for (uint32_t t = 0; t < RUN_TOKENS; t++) {
        made_up_logits(77, t, logits, RUN_V);
        tokens[t] = pick(&k, logits);
        ps_sampler_advance(k.s, tokens[t], false);
    }
    close_desk(&k);
}

START_TEST(a_replayed_sampler_goes_on_as_the_undisturbed_one)
{
    int32_t tokens[RUN_TOKENS];
    float logits[RUN_V];
    generate(busy_params(3), tokens);
    for (uint32_t cut = 0; cut < RUN_TOKENS; cut += 7) {
        desk k = open_desk(busy_params(3), RUN_V);
        for (int32_t i = 0; i < 5; i++) {
            ps_sampler_advance(k.s, i, true);
        }
        for (uint32_t t = 0; t < cut; t++) {
            ps_sampler_advance(k.s, tokens[t], false);
        }
        for (uint32_t t = cut; t < RUN_TOKENS; t++) {
            made_up_logits(77, t, logits, RUN_V);
            ck_assert_int_eq(pick(&k, logits), tokens[t]);
            ps_sampler_advance(k.s, tokens[t], false);
        }
        close_desk(&k);
    }
}
END_TEST

/* The same from what it remembers, with penalties over all tokens, over a window, and without. */
START_TEST(a_restored_sampler_goes_on_as_the_undisturbed_one)
{
    float logits[RUN_V];
    ps_sample_params p = busy_params(3);
    p.repeat_last_n = _i == 1 ? 9 : 0;
    if (_i == 2) {
        p.repetition_penalty = 1.0;
        p.frequency_penalty = p.presence_penalty = 0.0;
    }
    desk k = open_desk(p, RUN_V), other = open_desk(p, RUN_V);
    for (int32_t i = 0; i < 5; i++) {
        ps_sampler_advance(k.s, i, true);
    }
    for (uint32_t t = 0; t < RUN_TOKENS; t++) {
        ps_sampler_memory memory;
        ps_sampler_remember(k.s, &memory);
        ck_assert_uint_eq(memory.generated, t);
        ck_assert_uint_le(memory.n, _i == 1 ? 9U : _i == 2 ? 0U : (unsigned)RUN_V);
        close_desk(&other);
        other = open_desk(p, RUN_V);
        ck_assert_int_eq(ps_sampler_restore(other.s, &memory), PS_OK);
        ps_sampler_memory_release(&memory);
        made_up_logits(77, t, logits, RUN_V);
        const int32_t token = pick(&k, logits);
        ck_assert_int_eq(pick(&other, logits), token);
        ps_sampler_advance(k.s, token, false);
        // One that goes on for some tokens by itself stays the same.
        ps_sampler_advance(other.s, token, false);
        made_up_logits(78, t, logits, RUN_V);
        ck_assert_int_eq(pick(&other, logits), pick(&k, logits));
    }
    close_desk(&other);
    close_desk(&k);
}
END_TEST

START_TEST(what_no_sampler_remembers_is_refused)
{
    static const struct {
        int window;
        ps_sampler_entry entries[3];
    } bad[] = {{0, {{1, 1, 0}, {1, 1, 0}}},
               {0, {{-1, 1, 0}}},
               {0, {{RUN_V, 1, 0}}},
               {0, {{1, 0, 0}, {2, 1, 0}}},
               {0, {{1, 1, 2}}},
               {0, {{1, 1, -1}}},
               {0, {{1, 1LL << 32, 0}}},
               {2, {{1, 2, 1}}},
               {2, {{RUN_V, 1, 0}}},
               {2, {{1, 1, 0}, {1, 1, 1}, {3, 1, 0}}}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ps_sample_params p = busy_params(3);
        p.repeat_last_n = bad[i].window;
        desk k = open_desk(p, RUN_V);
        ps_sampler_entry entries[3];
        memcpy(entries, bad[i].entries, sizeof entries);
        const ps_sampler_memory memory = {.entries = entries, .n = 3};
        ck_assert_int_eq(ps_sampler_restore(k.s, &memory), PS_ERR_FORMAT);
        close_desk(&k);
    }
    desk k = open_desk(ps_sample_params_default(), RUN_V);
    ps_sampler_entry entry = {1, 1, 0};
    ck_assert_int_eq(ps_sampler_restore(k.s, &(ps_sampler_memory){.entries = &entry, .n = 1}),
                     PS_ERR_FORMAT);
    ck_assert_str_eq(ps_err_message(), "a sampler without penalties remembers 1 tokens");
    close_desk(&k);
}
END_TEST

START_TEST(picks_do_not_depend_on_other_picks)
{
    int32_t tokens[RUN_TOKENS];
    float logits[RUN_V], others[RUN_V];
    generate(busy_params(3), tokens);
    desk k = open_desk(busy_params(3), RUN_V);
    ps_sample_params other_params = busy_params(4);
    ps_sampler *other;
    ck_assert_int_eq(ps_sampler_new(&other_params, RUN_V, &other), PS_OK);
    for (int32_t i = 0; i < 5; i++) {
        ps_sampler_advance(k.s, i, true);
    }
    for (uint32_t t = 0; t < RUN_TOKENS; t++) {
        int32_t token;
        made_up_logits(78, t, others, RUN_V);
        for (uint32_t n = 0; n < t % 3; n++) { // the other one shares the scratch
            ck_assert_int_eq(
                ps_sampler_pick(other, k.work, &(ps_sampler_input){.logits = others}, &token),
                PS_OK);
            ps_sampler_advance(other, token, false);
        }
        made_up_logits(77, t, logits, RUN_V);
        ck_assert_int_eq(pick(&k, logits), tokens[t]);
        ck_assert_int_eq(pick(&k, logits), tokens[t]);
        ps_sampler_advance(k.s, tokens[t], false);
    }
    ps_sampler_free(other);
    close_desk(&k);
}
END_TEST

START_TEST(another_seed_or_sample_draws_other_tokens)
{
    int32_t tokens[RUN_TOKENS], others[RUN_TOKENS];
    generate(busy_params(3), tokens);
    generate(busy_params(3), others);
    ck_assert_mem_eq(tokens, others, sizeof tokens);
    generate(busy_params(4), others);
    ck_assert_mem_ne(tokens, others, sizeof tokens);
    ps_sample_params p = busy_params(3);
    p.sample = 1;
    generate(p, others);
    ck_assert_mem_ne(tokens, others, sizeof tokens);
}
END_TEST

static uint64_t mix(uint64_t hash, uint64_t word)
{
    return (hash ^ word) * 1099511628211u;
}

/* Every bit of every probability, so that a compiler or a processor that computes otherwise shows.
 * The numbers were found with gcc and with clang. */
START_TEST(probabilities_have_the_same_bits_on_every_machine)
{
    enum { V = 3000 };
    static float logits[V];
    static double p[V];
    ps_sample_params params = busy_params(9);
    if (_i == 1) {
        ck_assert_int_eq(ps_sample_order_parse("llama", &params), PS_OK);
    } else if (_i == 2) {
        params = ps_sample_params_default();
    }
    desk k = open_desk(params, V);
    uint64_t hash = 14695981039346656037u;
    for (uint32_t t = 0; t < 20; t++) {
        made_up_logits(5, t, logits, V);
        ck_assert_int_eq(
            ps_sampler_probabilities(k.s, k.work, &(ps_sampler_input){.logits = logits}, p), PS_OK);
        for (int v = 0; v < V; v++) {
            uint64_t bits;
            memcpy(&bits, &p[v], sizeof bits);
            hash = mix(hash, bits);
        }
        const int32_t token = pick(&k, logits);
        hash = mix(hash, (uint64_t)token);
        ps_sampler_advance(k.s, token, false);
    }
    close_desk(&k);
    static const uint64_t wanted[3] = {0xc455d01b9dad964f, 0x1744a15923a037f5, 0x49cd5fde1dbe31db};
    ck_assert_msg(hash == wanted[_i], "hash %#llx", (unsigned long long)hash);
}
END_TEST

/* Chi-square with 7 degrees of freedom: 24.3 is passed once in a thousand times. The draws differ
 * by token index, by seed, or by sample index. */
START_TEST(draws_follow_the_probabilities)
{
    enum { V = 8, DRAWS = 20000 };
    const float logits[V] = {0.0f, 1.0f, -1.0f, 2.0f, 0.5f, 1.5f, -0.5f, 0.25f};
    double p[V], chi_square = 0.0;
    int drawn[V] = {0};
    ps_sample_params params = ps_sample_params_default();
    desk k = open_desk(params, V);
    ck_assert_int_eq(
        ps_sampler_probabilities(k.s, k.work, &(ps_sampler_input){.logits = logits}, p), PS_OK);
    for (uint32_t i = 0; i < DRAWS; i++) {
        const int32_t token = pick(&k, logits);
        drawn[token]++;
        if (_i == 0) {
            ps_sampler_advance(k.s, token, false);
            continue;
        }
        if (_i == 1) params.seed++;
        if (_i == 2) params.sample++;
        ps_sampler_free(k.s);
        ck_assert_int_eq(ps_sampler_new(&params, V, &k.s), PS_OK);
    }
    for (int v = 0; v < V; v++) {
        const double expected = p[v] * DRAWS;
        chi_square += (drawn[v] - expected) * (drawn[v] - expected) / expected;
    }
    ck_assert_double_lt(chi_square, 24.3);
    ck_assert_double_gt(chi_square, 0.5);
    close_desk(&k);
}
END_TEST

static void expect_pick_fails(double temperature, const float *logits, int V, const char *message)
{
    ps_sample_params p = ps_sample_params_default();
    p.temperature = temperature;
    desk k = open_desk(p, V);
    int32_t token = -7;
    ck_assert_int_eq(ps_sampler_pick(k.s, k.work, &(ps_sampler_input){.logits = logits}, &token),
                     PS_ERR_NUMERIC);
    ck_assert_str_eq(ps_err_message(), message);
    ck_assert_int_eq(token, -7);
    close_desk(&k);
}

START_TEST(logits_that_are_not_numbers_are_refused)
{
    const double temperature = _i;
    const float none[3] = {-INFINITY, -INFINITY, -INFINITY};
    const float nan_last[3] = {1.0f, 2.0f, NAN}, infinite[3] = {1.0f, INFINITY, 2.0f};
    expect_pick_fails(temperature, nan_last, 3, "logits: token 2 has NaN, wanted a number or -inf");
    expect_pick_fails(temperature, infinite, 3,
                      "logits: token 1 has +inf, wanted a number or -inf");
    expect_pick_fails(temperature, none, 3,
                      "logits: all 3 tokens have -inf, wanted a number somewhere");
}
END_TEST

/* Blocks of logits without a larger one are passed over: the largest, twice, and a NaN are in every
 * place of a vocabulary of several blocks. Ranges leave the ends out. */
START_TEST(greedy_searches_every_place)
{
    enum { V = 1021, STEP = 7 };
    ps_sample_params p = ps_sample_params_default();
    p.temperature = 0.0;
    desk k = open_desk(p, V);
    float logits[V];
    for (int v = 0; v < V; v++) {
        logits[v] = (float)(v * 37 % V) / V;
    }
    const ps_id_range ranges[2] = {{STEP, 400}, {401, V - STEP}};
    const ps_sampler_input in = {.logits = logits, .ranges = ranges, .n_ranges = 2};
    for (int at = STEP; at < V - STEP; at++) {
        if (at == 400) continue;
        const float here = logits[at], last = logits[V - STEP - 1];
        logits[at] = logits[V - STEP - 1] = 2.0f;
        logits[0] = logits[400] = logits[V - 1] = 3.0f;
        int32_t token = -1;
        ck_assert_int_eq(ps_sampler_pick(k.s, k.work, &in, &token), PS_OK);
        ck_assert_int_eq(token, at);
        ck_assert_int_eq(pick(&k, logits), 0);
        logits[at] = NAN;
        ck_assert_int_eq(ps_sampler_pick(k.s, k.work, &in, &token), PS_ERR_NUMERIC);
        logits[V - STEP - 1] = last;
        logits[at] = here;
    }
    close_desk(&k);
}
END_TEST

START_TEST(removing_every_token_is_an_error_that_names_the_step)
{
    const float logits[2] = {0.0f, 1.0f};
    fixed_constraint nothing = fixed_constraint_of(&(uint64_t){0}, 2);
    const ps_sampler_input constrained = {.logits = logits, .constraint = &nothing.base};
    int32_t token;
    ps_sample_params p = ps_sample_params_default();
    desk k = open_desk(p, 2);
    ck_assert_int_eq(ps_sampler_pick(k.s, k.work, &constrained, &token), PS_ERR_NUMERIC);
    ck_assert_str_eq(ps_err_message(),
                     "sampler: no token is left to draw after the step constraint");
    close_desk(&k);
    p.banned = (const int32_t[]){0, 1};
    p.n_banned = 2;
    k = open_desk(p, 2);
    ck_assert_int_eq(ps_sampler_pick(k.s, k.work, &(ps_sampler_input){.logits = logits}, &token),
                     PS_ERR_NUMERIC);
    ck_assert_str_eq(ps_err_message(), "sampler: no token is left to draw after the step banned");
    close_desk(&k);
}
END_TEST

START_TEST(a_constraint_outside_the_order_is_refused)
{
    const float logits[2] = {0.0f, 1.0f};
    fixed_constraint first = fixed_constraint_of(&(uint64_t){1}, 2);
    const ps_sampler_input constrained = {.logits = logits, .constraint = &first.base};
    ps_sample_params p = ps_sample_params_default();
    ck_assert_int_eq(ps_sample_order_parse("temperature", &p), PS_OK);
    p.temperature = 0.0;
    desk k = open_desk(p, 2);
    int32_t token;
    ck_assert_int_eq(ps_sampler_pick(k.s, k.work, &constrained, &token), PS_ERR_USAGE);
    ck_assert_str_eq(ps_err_message(), "the output is constrained, but the sampler order does not "
                                       "name constraint");
    close_desk(&k);
}
END_TEST

START_TEST(greedy_obeys_the_constraint)
{
    float logits[130] = {0};
    logits[3] = 9.0f;
    logits[70] = 5.0f;
    logits[129] = 7.0f;
    const uint64_t allowed[3] = {~(uint64_t)8, ~(uint64_t)0, 1};
    fixed_constraint constraint = fixed_constraint_of(allowed, 130);
    const ps_sampler_input constrained = {.logits = logits, .constraint = &constraint.base};
    ps_sample_params p = ps_sample_params_default();
    p.temperature = 0.0;
    desk k = open_desk(p, 130);
    int32_t token;
    ck_assert_int_eq(ps_sampler_pick(k.s, k.work, &constrained, &token), PS_OK);
    ck_assert_int_eq(token, 70);
    close_desk(&k);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("sampler");
    tcase_add_test(tcase, temperature_zero_takes_the_lowest_id_of_the_largest);
    tcase_add_test(tcase, greedy_leaves_out_what_only_shapes_a_draw);
    tcase_add_test(tcase, greedy_searches_every_place);
    tcase_add_test(tcase, top_k_keeps_ties_and_may_exceed_the_vocabulary);
    tcase_add_test(tcase, top_p_of_zero_keeps_one_and_of_one_keeps_all);
    tcase_add_test(tcase, top_p_splits_ties_by_id_and_counts_the_last_one_in);
    tcase_add_test(tcase, both_zeros_are_equal);
    tcase_add_test(tcase, extreme_logits_are_drawn_without_overflow);
    tcase_add_test(tcase, end_tokens_are_banned_until_enough_is_generated);
    tcase_add_test(tcase, the_prompt_counts_for_repetition_only);
    tcase_add_test(tcase, a_token_that_left_the_window_is_free_again);
    tcase_add_test(tcase, a_replayed_sampler_goes_on_as_the_undisturbed_one);
    tcase_add_loop_test(tcase, a_restored_sampler_goes_on_as_the_undisturbed_one, 0, 3);
    tcase_add_test(tcase, what_no_sampler_remembers_is_refused);
    tcase_add_test(tcase, picks_do_not_depend_on_other_picks);
    tcase_add_test(tcase, another_seed_or_sample_draws_other_tokens);
    tcase_add_loop_test(tcase, probabilities_have_the_same_bits_on_every_machine, 0, 3);
    tcase_add_loop_test(tcase, draws_follow_the_probabilities, 0, 3);
    tcase_add_loop_test(tcase, logits_that_are_not_numbers_are_refused, 0, 2);
    tcase_add_test(tcase, removing_every_token_is_an_error_that_names_the_step);
    tcase_add_test(tcase, a_constraint_outside_the_order_is_refused);
    tcase_add_test(tcase, greedy_obeys_the_constraint);
    Suite *suite = suite_create("serve/sampler");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
