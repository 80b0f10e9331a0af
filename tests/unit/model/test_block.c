/* The forward pass of models straight from specs of all kinds: right (against plain loops in double
 * precision), and the same to the last bit however it is cut up. The families' own are in
 * test_stage_model.c. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "math/isa.h"
#include "support/dice.h"
#include "support/naive_spec.h"
#include "support/scratch.h"
#include "support/stage_runner.h"

/* Models that the tests with many runs go through; a multiple of what the numbers pick in turn. */
enum { MODELS = 42, FEW = 14 };

/* Of the largest logit. The bits are the same on every machine, so what passes once passes always.
 */
#define TOLERANCE 2e-4

static int32_t *random_tokens(const spec_model *m, int n, uint64_t seed)
{
    dice d = {.seed = seed};
    int32_t *tokens = ps_mem_new((size_t)n, sizeof *tokens);
    for (int i = 0; i < n; i++) {
        tokens[i] = dice_throw(&d, m->spec.vocab_size);
    }
    return tokens;
}

static float *new_logits(const spec_model *m, int n)
{
    return ps_mem_new((size_t)n * (size_t)m->spec.vocab_size, sizeof(float));
}

static spec_model roll_and_write(int number)
{
    spec_model m = spec_model_roll((uint64_t)number);
    assert_ok(spec_model_write(&m, "m.h5"));
    return m;
}

/* Logits of a sequence in one slot of a fresh runner; owned by the caller. */
static float *run_alone(const stage_runner_params *params, const spec_model *m,
                        const int32_t *tokens, int n, int64_t length, int chunk)
{
    stage_runner r;
    assert_ok(stage_runner_open(params, &r));
    float *logits = new_logits(m, n);
    stage_runner_begin(&r, 0, length);
    stage_runner_run(&r, 0, 0, tokens, n, chunk, logits);
    stage_runner_close(&r);
    return logits;
}

static void assert_same(const spec_model *m, const float *found, const float *wanted, int n,
                        const char *what, int number)
{
    for (int i = 0; i < n; i++) {
        const size_t at = (size_t)i * (size_t)m->spec.vocab_size;
        const size_t bytes = (size_t)m->spec.vocab_size * sizeof *found;
        ck_assert_msg(memcmp(found + at, wanted + at, bytes) == 0,
                      "model %d, %s %d: the logits of position %d differ", (int)m->seed, what,
                      number, i);
    }
}

/* ---- right ---- */

static void compare_with_naive(const spec_model *m, int n, int64_t length, int chunk)
{
    const size_t values = (size_t)n * (size_t)m->spec.vocab_size;
    int32_t *tokens = random_tokens(m, n, m->seed);
    double *wanted = ps_mem_new(values, sizeof *wanted), off = 0.0, largest = 0.0;
    naive_spec_forward(m, tokens, n, length, wanted);
    float *found = run_alone(&(stage_runner_params){.path = "m.h5"}, m, tokens, n, length, chunk);
    for (size_t i = 0; i < values; i++) {
        const double difference = fabs((double)found[i] - wanted[i]);
        off = isnan(difference) ? 1e30 : fmax(off, difference);
        largest = fmax(largest, fabs(wanted[i]));
    }
    ck_assert_msg(off <= TOLERANCE * largest, "model %d, length %lld: the logits are off by %.2e",
                  (int)m->seed, (long long)length, off / largest);
    ps_mem_free(found);
    ps_mem_free(wanted);
    ps_mem_free(tokens);
}

START_TEST(logits_are_those_of_the_formulas)
{
    dice d = {.seed = (uint64_t)_i};
    spec_model m = roll_and_write(_i);
    const int n = 100 + dice_throw(&d, 60);
    compare_with_naive(&m, n, _i % 3 == 0 ? 0 : n + dice_throw(&d, 300), 1 + dice_throw(&d, 70));
    spec_model_release(&m);
}
END_TEST

/* A set of bits for each flag or kind: those of its values that were met. */
START_TEST(the_models_meet_every_flag_and_kind)
{
    unsigned flags[21] = {0}, kinds[10] = {0};
    for (int number = 0; number < MODELS; number++) {
        spec_model m = spec_model_roll((uint64_t)number);
        const ps_spec *s = &m.spec;
        const bool values[21] = {
            s->norm_bias,    s->pre_norm,        s->post_norm,      s->parallel,
            s->shared_norm,  s->embed_norm,      s->qkv_bias,       s->o_bias,
            s->mlp_bias,     s->sinks,           s->gated,          s->router_bias,
            s->expert_bias,  s->n_positions > 0, s->tied_head,      s->head_bias,
            s->softcap > 0,  s->qkv_clip > 0,    s->n_experts == 0, s->final_softcap > 0,
            s->quiet_softmax};
        for (int i = 0; i < 21; i++) {
            flags[i] |= 1u << values[i];
        }
        kinds[0] |= 1u << s->norm;
        kinds[1] |= 1u << s->qk_norm;
        kinds[2] |= 1u << s->activation;
        kinds[8] |= 1u << s->output_gate;
        if (s->n_experts > 0) kinds[3] |= 1u << s->router;
        for (int l = 0; l < s->n_layers; l++) {
            if (s->layers[l].rope >= 0) kinds[4] |= 1u << s->ropes[s->layers[l].rope].kind;
            kinds[5] |= 1u << s->layers[l].n_biases;
            kinds[6] |= 1u << s->layers[l].mixture;
            kinds[7] |= 1u << (s->layers[l].window > 0);
            for (int b = 0; b < s->layers[l].n_biases; b++) {
                kinds[9] |= 1u << s->layers[l].biases[b].kind;
            }
        }
        spec_model_release(&m);
    }
    for (int i = 0; i < 21; i++) {
        ck_assert_msg(flags[i] == 3, "flag %d: only one of its values was met", i);
    }
    const int counts[10] = {PS_NORM_KIND_COUNT,
                            PS_QK_NORM_COUNT,
                            PS_ACTIVATION_KIND_COUNT,
                            PS_ROUTER_COUNT,
                            PS_ROPE_KIND_COUNT,
                            PS_BIAS_MAX + 1,
                            2,
                            2,
                            PS_OUTPUT_GATE_COUNT,
                            PS_BIAS_CUSTOM};
    for (int i = 0; i < 10; i++) {
        const unsigned none = i == 4 ? 1u << PS_ROPE_NONE : 0;
        ck_assert_msg((kinds[i] | none) == (1u << counts[i]) - 1, "kind %d: 0x%X", i, kinds[i]);
    }
}
END_TEST

/* ---- the same bits ---- */

START_TEST(a_split_over_any_parts_gives_the_same_bits)
{
    spec_model m = roll_and_write(_i);
    int32_t *tokens = random_tokens(&m, 90, 3);
    stage_runner_params p = {.path = "m.h5"};
    float *whole = run_alone(&p, &m, tokens, 90, 90, 40);
    for (int mask = 1; mask < 1 << (m.spec.n_layers - 1); mask++) {
        p.n_parts = 1;
        for (int l = 1; l < m.spec.n_layers; l++) {
            if (mask >> (l - 1) & 1) p.cuts[p.n_parts++ - 1] = l;
        }
        float *split = run_alone(&p, &m, tokens, 90, 90, 40);
        assert_same(&m, split, whole, 90, "split", mask);
        ps_mem_free(split);
    }
    ps_mem_free(whole);
    ps_mem_free(tokens);
    spec_model_release(&m);
}
END_TEST

START_TEST(chunks_threads_and_instruction_sets_change_no_bit)
{
    enum { N = 140 };
    static const int chunks[] = {1, 7, 16, 17, 64, 139};
    spec_model m = roll_and_write(_i);
    int32_t *tokens = random_tokens(&m, N, 4);
    stage_runner_params p = {.path = "m.h5", .isa = "portable"};
    float *whole = run_alone(&p, &m, tokens, N, 0, N);
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        const int isa = (int)i % ps_isa_count();
        p.isa = ps_isa_supported(isa) ? ps_isa_name(isa) : NULL;
        p.n_threads = 1 + (int)i % 3;
        p.limits.chunk_rows = chunks[i]; // the rings are as small as they may be
        float *cut = run_alone(&p, &m, tokens, N, 0, chunks[i]);
        assert_same(&m, cut, whole, N, "chunks of", chunks[i]);
        ps_mem_free(cut);
    }
    ps_mem_free(whole);
    ps_mem_free(tokens);
    spec_model_release(&m);
}
END_TEST

/* Three slots with lengths of their own, one forked from another, rows mixed: each as if alone. */
START_TEST(slots_and_forks_keep_their_own_bits_and_lengths)
{
    enum { COMMON = 50, N = 100, SLOTS = 3 };
    spec_model m = roll_and_write(_i);
    const size_t v = (size_t)m.spec.vocab_size;
    const stage_runner_params p = {
        .path = "m.h5", .n_threads = 2, .limits = {.n_slots = SLOTS, .chunk_rows = COMMON}};
    const int64_t lengths[SLOTS] = {N, N, 500}; // slot 1 is a fork of slot 0
    int32_t *tokens[SLOTS];
    float *found[SLOTS], *rows = new_logits(&m, SLOTS);
    stage_runner r;
    assert_ok(stage_runner_open(&p, &r));
    for (int s = 0; s < SLOTS; s++) {
        tokens[s] = random_tokens(&m, N, (uint64_t)(10 + s));
        found[s] = new_logits(&m, N);
    }
    memcpy(tokens[1], tokens[0], COMMON * sizeof *tokens[1]);
    stage_runner_begin(&r, 1, 7); // forgotten with the fork
    stage_runner_begin(&r, 0, lengths[0]);
    stage_runner_begin(&r, 2, lengths[2]);
    stage_runner_run(&r, 0, 0, tokens[0], COMMON, COMMON, found[0]);
    stage_runner_run(&r, 2, 0, tokens[2], COMMON, 20, found[2]);
    stage_runner_fork(&r, 0, 1);
    memcpy(found[1], found[0], COMMON * v * sizeof *found[1]);
    for (int at = COMMON; at < N; at++) {
        const int slot[SLOTS] = {at % 3, (at + 1) % 3, (at + 2) % 3};
        const int64_t position[SLOTS] = {at, at, at};
        const int32_t next[SLOTS] = {tokens[slot[0]][at], tokens[slot[1]][at], tokens[slot[2]][at]};
        stage_runner_rows(&r, &(ps_rows){.n = SLOTS, .slot = slot, .position = position}, next,
                          rows);
        for (int i = 0; i < SLOTS; i++) {
            memcpy(found[slot[i]] + (size_t)at * v, rows + (size_t)i * v, v * sizeof *rows);
        }
    }
    stage_runner_close(&r);
    for (int s = 0; s < SLOTS; s++) {
        float *wanted = run_alone(&p, &m, tokens[s], N, lengths[s], 33);
        assert_same(&m, found[s], wanted, N, "slot", s);
        ps_mem_free(wanted);
        ps_mem_free(found[s]);
        ps_mem_free(tokens[s]);
    }
    ps_mem_free(rows);
    spec_model_release(&m);
}
END_TEST

/* ---- lengths and positions ---- */

/* A model whose only rope is of this kind, with an original length of 32. */
static spec_model roped_model(ps_rope_kind kind)
{
    spec_model m = spec_model_roll(0);
    ps_spec *s = &m.spec;
    s->n_ropes = 1;
    s->ropes[0] = (ps_rope){.kind = kind,
                            .dims = 4,
                            .base = 100.0,
                            .magnitude = 1.0,
                            .factor = 4.0,
                            .original_length = 32.0,
                            .beta_fast = 4.0,
                            .beta_slow = 1.0,
                            .low_factor = 1.0,
                            .high_factor = 4.0,
                            .factors = {1.0, 1.5},
                            .long_factors = {2.0, 5.0}};
    for (int l = 0; l < s->n_layers; l++) {
        s->layers[l].rope = 0;
        s->layers[l].window = 0;
    }
    assert_ok(spec_model_write(&m, "m.h5"));
    return m;
}

START_TEST(a_slot_has_the_frequencies_of_its_length_from_its_begin)
{
    for (int kind = PS_ROPE_DEFAULT; kind < PS_ROPE_KIND_COUNT; kind++) {
        spec_model m = roped_model((ps_rope_kind)kind);
        const bool depends = kind == PS_ROPE_DYNAMIC || kind == PS_ROPE_LONGROPE;
        int32_t *tokens = random_tokens(&m, 30, 5);
        const stage_runner_params p = {.path = "m.h5"};
        compare_with_naive(&m, 30, 32, 30);
        compare_with_naive(&m, 30, 33, 30);
        compare_with_naive(&m, 30, 0, 30);
        float *within = run_alone(&p, &m, tokens, 30, 32, 30);
        float *shorter = run_alone(&p, &m, tokens, 30, 30, 30);
        float *beyond = run_alone(&p, &m, tokens, 30, 100, 30);
        const size_t bytes = 30 * (size_t)m.spec.vocab_size * sizeof *within;
        ck_assert_int_eq(memcmp(within, shorter, bytes), 0);
        ck_assert_int_eq(memcmp(within, beyond, bytes) != 0, depends);
        // A slot that is used again takes those of its next sequence.
        stage_runner r;
        assert_ok(stage_runner_open(&p, &r));
        float *again = new_logits(&m, 30);
        stage_runner_begin(&r, 0, 100);
        stage_runner_run(&r, 0, 0, tokens, 30, 30, again);
        stage_runner_end(&r, 0);
        stage_runner_begin(&r, 0, 32);
        stage_runner_run(&r, 0, 0, tokens, 30, 30, again);
        assert_same(&m, again, within, 30, "rope kind", kind);
        stage_runner_close(&r);
        ps_mem_free(again);
        ps_mem_free(beyond);
        ps_mem_free(shorter);
        ps_mem_free(within);
        ps_mem_free(tokens);
        spec_model_release(&m);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/block");
    TCase *right = scratch_case(suite, "right");
    tcase_add_loop_test(right, logits_are_those_of_the_formulas, 0, 3 * MODELS);
    tcase_add_test(right, the_models_meet_every_flag_and_kind);
    TCase *same = scratch_case(suite, "same bits");
    tcase_add_loop_test(same, a_split_over_any_parts_gives_the_same_bits, 0, FEW);
    tcase_add_loop_test(same, chunks_threads_and_instruction_sets_change_no_bit, 0, MODELS);
    tcase_add_loop_test(same, slots_and_forks_keep_their_own_bits_and_lengths, 0, MODELS);
    TCase *lengths = scratch_case(suite, "lengths");
    tcase_add_test(lengths, a_slot_has_the_frequencies_of_its_length_from_its_begin);
    return scratch_run(suite);
}
