/* Providers of one's own in a loaded model. Each does by its hooks what a provider of the file does,
 * so the model without that provider must give the same bits: a plain tensor and a sum over the
 * sequence against alibi, a projection of the layer's input against the forgetting gate. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "math/bias_kinds.h"
#include "math/panel.h"
#include "support/dice.h"
#include "support/floats.h"
#include "support/matrices.h"
#include "support/scratch.h"
#include "support/spec_model.h"
#include "support/stage_runner.h"

enum { TOKENS = 90, LAYERS = 2 };

/* Two layers, a window in the second; `bias` in layer 1, or none. */
static spec_model make_model(uint64_t number, const ps_bias_spec *bias, const char *path)
{
    spec_model m = spec_model_roll(number);
    ps_mem_free(m.spec.layers);
    ps_spec_take_layers(&m.spec, LAYERS);
    m.spec.layers[0] = (ps_layer_spec){.rope = 0};
    m.spec.layers[1] = (ps_layer_spec){.window = 20, .rope = -1};
    if (bias) {
        m.spec.layers[1].n_biases = 1;
        m.spec.layers[1].biases[0] = *bias;
    }
    assert_ok(spec_model_write(&m, path));
    return m;
}

/* Logits of random tokens, [TOKENS, vocabulary]. */
static float *run(const spec_model *m, const char *path, const ps_own_biases *own, int chunk,
                  int n_parts, int n_threads)
{
    const size_t vocabulary = (size_t)m->spec.vocab_size;
    stage_runner_params p = {.path = path, .n_parts = n_parts, .cuts = {1}, .n_threads = n_threads};
    if (own) p.own = *own;
    p.limits = (ps_limits){.rows_max = chunk, .chunk_rows = chunk, .n_slots = 1, .context = 128};
    stage_runner runner;
    assert_ok(stage_runner_open(&p, &runner));
    dice d = {.seed = 5};
    int32_t tokens[TOKENS];
    for (int i = 0; i < TOKENS; i++) {
        tokens[i] = dice_throw(&d, m->spec.vocab_size);
    }
    float *logits = floats_new(TOKENS * vocabulary);
    stage_runner_begin(&runner, 0, TOKENS);
    stage_runner_run(&runner, 0, 0, tokens, TOKENS, chunk, logits);
    stage_runner_close(&runner);
    return logits;
}

/* The model with the provider and the one without it that has one of one's own. */
static void compare(uint64_t number, const ps_bias_spec *bias, const ps_bias *own_bias)
{
    static const struct {
        int chunk, parts, threads;
    } ways[] = {{TOKENS, 1, 1}, {1, 1, 1}, {7, 2, 3}, {20, 1, 2}, {60, 2, 1}};
    spec_model with = make_model(number, bias, "with.h5"), without;
    without = make_model(number, NULL, "without.h5");
    const ps_own_bias list = {.layer = 1, .bias = *own_bias};
    const ps_own_biases own = {&list, 1};
    float *wanted = run(&with, "with.h5", NULL, TOKENS, 1, 1);
    const size_t n = TOKENS * (size_t)with.spec.vocab_size;
    for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
        float *found =
            run(&without, "without.h5", &own, ways[w].chunk, ways[w].parts, ways[w].threads);
        const size_t at = floats_first_difference(found, wanted, n);
        ck_assert_msg(at == n, "way %zu: logit %zu differs", w, at);
        ps_mem_free(found);
    }
    float *bare = run(&without, "without.h5", NULL, TOKENS, 1, 1);
    ck_assert_uint_lt(floats_first_difference(bare, wanted, n), n);
    ps_mem_free(bare);
    ps_mem_free(wanted);
    spec_model_release(&with);
    spec_model_release(&without);
}

static const ps_bias_spec alibi = {.kind = PS_BIAS_ALIBI, .max_exponent = 8.0, .factor = 1.0};

START_TEST(a_tensor_does_what_alibi_does)
{
    spec_model m = spec_model_roll((uint64_t)_i);
    const int heads = m.spec.n_heads, k_len = 20;
    float *slopes = floats_new((size_t)heads);
    float *values = floats_new((size_t)(heads * TOKENS * k_len));
    ps_bias_alibi_slopes(heads, 8.0, 1.0, slopes);
    for (int h = 0; h < heads; h++) {
        for (int i = 0; i < TOKENS; i++) {
            const int first = i < k_len ? 0 : i - k_len + 1;
            for (int c = 0; c < k_len; c++) {
                values[(h * TOKENS + i) * k_len + c] = slopes[h] * (float)(first + c - i);
            }
        }
    }
    const ps_bias_tensor tensor = {.values = values,
                                   .n_sequences = 1,
                                   .n_heads = heads,
                                   .q_len = TOKENS,
                                   .k_len = k_len,
                                   .visible = {.window = 20}};
    const ps_bias own = ps_bias_from_tensor(&tensor);
    compare((uint64_t)_i, &alibi, &own);
    ps_mem_free(values);
    ps_mem_free(slopes);
    spec_model_release(&m);
}
END_TEST

/* Counts the tokens: s_i = s_(i-1) + 1. */
static void count_prepare(const ps_bias *bias, const ps_bias_row *row)
{
    (void)bias;
    row->numbers[0] = 1.0f;
}

static void count_accumulate(const ps_bias *bias, const ps_bias_step *step)
{
    (void)bias;
    ck_assert((step->before == NULL) == (step->position == 0));
    if (step->before) step->numbers[0] += step->before[0];
    step->features[0] = step->numbers[0];
}

static void count_fill(const ps_bias *bias, const struct ps_kernels *kernels,
                       const ps_bias_tile *tile)
{
    (void)kernels;
    const float *slopes = bias->user;
    for (int r = 0; r < tile->n_heads * tile->n_queries; r++) {
        const float own = tile->features[(size_t)(r % tile->n_queries) * tile->feature_stride];
        const float slope = slopes[tile->first_head + r / tile->n_queries];
        for (int j = tile->first; j < tile->last; j++) {
            const float count = tile->numbers[j];
            tile->bias[(size_t)r * PS_SEGMENT + (size_t)j] += slope * (count - own);
        }
    }
}

START_TEST(a_sum_over_the_sequence_counts_its_tokens)
{
    spec_model m = spec_model_roll((uint64_t)_i);
    float *slopes = floats_new((size_t)m.spec.n_heads);
    ps_bias_alibi_slopes(m.spec.n_heads, 8.0, 1.0, slopes);
    const ps_bias own = {.kind = PS_BIAS_CUSTOM,
                         .n_features = 1,
                         .n_numbers = 1,
                         .prepare = count_prepare,
                         .accumulate = count_accumulate,
                         .fill = count_fill,
                         .user = slopes};
    compare((uint64_t)_i, &alibi, &own);
    ps_mem_free(slopes);
    spec_model_release(&m);
}
END_TEST

/* The forgetting gate by way of a projection that the caller owns. */
START_TEST(a_projection_of_ones_own_is_multiplied_with_the_others)
{
    static const ps_bias_spec fox = {.kind = PS_BIAS_FOX};
    spec_model m = make_model((uint64_t)_i, &fox, "source.h5");
    float *weight = spec_model_values(&m, PS_ROLE_FOX_WEIGHT, 1);
    float *bias = spec_model_values(&m, PS_ROLE_FOX_BIAS, 1);
    const int heads = m.spec.n_heads, k = m.spec.d_model;
    const int n_panels = ps_panel_count(heads);
    char *panels = ps_mem_new((size_t)n_panels, ps_panel_bytes(m.dtype, k));
    float *padded = floats_new((size_t)n_panels * 16);
    memset(padded, 0, (size_t)n_panels * 16 * sizeof *padded);
    memcpy(padded, bias, (size_t)heads * sizeof *bias);
    const size_t row_bytes = (size_t)k * ps_dtype_block_bytes(m.dtype);
    char *rows = ps_mem_new(16, row_bytes);
    for (int p = 0; p < n_panels; p++) {
        const int n = heads - 16 * p < 16 ? heads - 16 * p : 16;
        ps_dtype_narrow(m.dtype, weight + (size_t)(16 * p * k), (size_t)(n * k), rows);
        ps_panel_pack(m.dtype, rows, n, row_bytes, k,
                      panels + (size_t)p * ps_panel_bytes(m.dtype, k));
    }
    const ps_linear projection = {
        .dtype = m.dtype, .n = heads, .k = k, .panels = panels, .bias = padded};
    const ps_bias own = {.kind = PS_BIAS_CUSTOM,
                         .n_features = 2 * heads,
                         .n_numbers = 2 * heads,
                         .projection = &projection,
                         .prepare = ps_fox_prepare,
                         .accumulate = ps_fox_accumulate,
                         .fill = ps_fox_fill};
    compare((uint64_t)_i, &fox, &own);
    ps_mem_free(rows);
    ps_mem_free(panels);
    ps_mem_free(padded);
    ps_mem_free(weight);
    ps_mem_free(bias);
    spec_model_release(&m);
}
END_TEST

START_TEST(what_does_not_fit_the_model_is_refused)
{
    spec_model m = make_model(1, &alibi, "m.h5");
    const ps_linear narrow = {.n = 3, .k = m.spec.d_model + 1};
    const ps_bias good = {.kind = PS_BIAS_CUSTOM, .fill = count_fill};
    ps_bias bent = good;
    bent.projection = &narrow;
    char projection[64];
    snprintf(projection, sizeof projection, "own bias 0: projection of %d inputs, wanted %d",
             narrow.k, m.spec.d_model);
    const struct {
        ps_own_bias list[4];
        int n;
        const char *message;
    } rows[] = {
        {{{2, good}}, 1, "own bias 0: layer 2 of a model with 2"},
        {{{-1, good}}, 1, "own bias 0: layer -1 of a model with 2"},
        {{{0, {.kind = PS_BIAS_CUSTOM}}}, 1, "own bias 0: wanted a custom provider with a fill"},
        {{{0, {.kind = PS_BIAS_ALIBI}}}, 1, "own bias 0: wanted a custom provider with a fill"},
        {{{1, good}, {1, good}, {1, good}, {1, good}},
         4,
         "own bias 0: layer 1 has 5 biases, wanted at most 4"},
        {{{0, bent}}, 1, projection},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        stage_runner runner;
        const stage_runner_params p = {.path = "m.h5", .own = {rows[i].list, rows[i].n}};
        ck_assert_int_eq(stage_runner_open(&p, &runner), PS_ERR_USAGE);
        ck_assert_str_eq(ps_err_message(), rows[i].message);
    }
    spec_model_release(&m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/own bias");
    TCase *tcase = scratch_case(suite, "own");
    tcase_add_loop_test(tcase, a_tensor_does_what_alibi_does, 0, 4);
    tcase_add_loop_test(tcase, a_sum_over_the_sequence_counts_its_tokens, 0, 4);
    tcase_add_loop_test(tcase, a_projection_of_ones_own_is_multiplied_with_the_others, 0, 6);
    tcase_add_test(tcase, what_does_not_fit_the_model_is_refused);
    return scratch_run(suite);
}
