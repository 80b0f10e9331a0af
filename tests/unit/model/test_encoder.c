/* Encoders: padding that nobody sees, splits, the streamed form. That the numbers are those of the
 * formulas is the business of the reference data (tests/golden/acestep). */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "support/dice.h"
#include "support/scratch.h"
#include "support/spec_model.h"
#include "support/stage_runner.h"

enum { LAYERS = 3, OUTPUTS = 37, HEADS = 4, HEAD_DIM = 8, D = 40, LONG = 290 };

/* window 0: all see all. */
static spec_model new_model(int window, int n_outputs, uint64_t seed)
{
    spec_model m = {.spec = ps_spec_plain(), .seed = seed, .dtype = PS_F32};
    ps_spec *s = &m.spec;
    s->encoder = true;
    s->n_outputs = n_outputs;
    s->d_model = D;
    s->n_heads = s->n_kv_heads = HEADS;
    s->head_dim = HEAD_DIM;
    s->d_ff = 50;
    s->vocab_size = 90;
    s->attention_scale = 1.0 / sqrt((double)HEAD_DIM);
    s->norm = PS_NORM_LAYER;
    s->norm_eps = 1e-5;
    s->norm_bias = s->qkv_bias = s->o_bias = s->mlp_bias = s->embed_norm = true;
    s->head_bias = n_outputs > 0;
    s->gated = false;
    ps_spec_take_layers(s, LAYERS);
    for (int l = 0; l < LAYERS; l++) {
        s->layers[l] =
            (ps_layer_spec){.rope = -1,
                            .window = window,
                            .look_ahead = window == 0,
                            .n_biases = 2,
                            .biases = {{.kind = PS_BIAS_REL_POS, .dim = 24, .theta = 100.0},
                                       {.kind = PS_BIAS_KEY_MASK}}};
    }
    return m;
}

static int32_t *new_tokens(int n, uint64_t seed)
{
    dice d = {.seed = seed};
    int32_t *tokens = ps_mem_new((size_t)n, sizeof *tokens);
    for (int i = 0; i < n; i++) {
        tokens[i] = dice_throw(&d, 90);
    }
    return tokens;
}

/* Outputs [n, OUTPUTS] of a sequence with a mask (NULL: none), in parcels of `chunk` rows; owned by
 * the caller. */
static float *encode(const stage_runner_params *params, const int32_t *tokens, const bool *hidden,
                     int n, int chunk)
{
    stage_runner r;
    assert_ok(stage_runner_open(params, &r));
    float *out = ps_mem_new((size_t)n * OUTPUTS, sizeof *out);
    int *slots = ps_mem_new((size_t)n, sizeof *slots);
    int64_t *positions = ps_mem_new((size_t)n, sizeof *positions);
    for (int i = 0; i < n; i++) {
        positions[i] = i;
    }
    for (int first = 0; first < n; first += chunk) {
        const ps_rows rows = {.n = n - first < chunk ? n - first : chunk,
                              .slot = slots,
                              .position = positions + first,
                              .hidden = hidden ? hidden + first : NULL};
        stage_runner_rows(&r, &rows, tokens + first, out + (size_t)first * OUTPUTS);
    }
    stage_runner_close(&r);
    ps_mem_free(positions);
    ps_mem_free(slots);
    return out;
}

static bool same_row(const float *a, const float *b, int row)
{
    const size_t at = (size_t)row * OUTPUTS;
    return memcmp(a + at, b + at, OUTPUTS * sizeof *a) == 0;
}

START_TEST(rows_of_a_padded_sequence_have_the_bits_of_the_sequence_alone)
{
    static const int lengths[] = {1, 15, 16, 17, 64, 100, 256, 257};
    const int n = lengths[_i];
    spec_model m = new_model(0, OUTPUTS, 5);
    assert_ok(spec_model_write(&m, "m.h5"));
    const stage_runner_params p = {.path = "m.h5", .n_threads = 1 + _i % 2};
    int32_t *tokens = new_tokens(LONG, 3);
    bool hidden[LONG];
    for (int i = 0; i < LONG; i++) {
        hidden[i] = i >= n;
    }
    float *alone = encode(&p, tokens, NULL, n, n);
    float *padded = encode(&p, tokens, hidden, LONG, LONG);
    float *seen = encode(&p, tokens, NULL, LONG, LONG);
    int differ = 0;
    for (int i = 0; i < n; i++) {
        ck_assert_msg(same_row(alone, padded, i), "row %d of %d", i, n);
        differ += !same_row(alone, seen, i);
    }
    ck_assert_int_eq(differ, n); // without the mask they would not
    ps_mem_free(seen);
    ps_mem_free(padded);
    ps_mem_free(alone);
    ps_mem_free(tokens);
    spec_model_release(&m);
}
END_TEST

START_TEST(nobody_sees_a_hidden_key_wherever_it_stands)
{
    spec_model m = new_model(0, OUTPUTS, 6);
    assert_ok(spec_model_write(&m, "m.h5"));
    const stage_runner_params p = {.path = "m.h5"};
    int32_t *tokens = new_tokens(LONG, 4);
    dice d = {.seed = 9};
    bool hidden[LONG];
    for (int i = 0; i < LONG; i++) {
        hidden[i] = dice_throw(&d, 3) == 0;
    }
    float *before = encode(&p, tokens, hidden, LONG, LONG);
    for (int i = 0; i < LONG; i++) {
        if (hidden[i]) tokens[i] = (tokens[i] + 1) % 90;
    }
    float *after = encode(&p, tokens, hidden, LONG, LONG);
    for (int i = 0; i < LONG; i++) {
        // A hidden row is still computed, from its own token.
        ck_assert_msg(same_row(before, after, i) == !hidden[i], "row %d", i);
    }
    ps_mem_free(after);
    ps_mem_free(before);
    ps_mem_free(tokens);
    spec_model_release(&m);
}
END_TEST

START_TEST(attention_over_hidden_keys_alone_gives_the_bias_of_its_output)
{
    static const float zeros[D * HEADS * HEAD_DIM];
    enum { N = 40 };
    spec_model m = new_model(0, OUTPUTS, 7);
    m.spec.n_layers = 2; // one edit for each
    assert_ok(spec_model_write(&m, "seen.h5"));
    m.edits[0] = (spec_model_edit){PS_ROLE_O, 0, zeros};
    m.edits[1] = (spec_model_edit){PS_ROLE_O, 1, zeros};
    assert_ok(spec_model_write(&m, "cut.h5"));
    int32_t *tokens = new_tokens(N, 5);
    bool hidden[N];
    memset(hidden, true, sizeof hidden);
    float *found = encode(&(stage_runner_params){.path = "seen.h5"}, tokens, hidden, N, N);
    float *wanted = encode(&(stage_runner_params){.path = "cut.h5"}, tokens, NULL, N, N);
    for (int i = 0; i < N; i++) {
        ck_assert(isfinite(found[i * OUTPUTS]));
        ck_assert_msg(same_row(found, wanted, i), "row %d", i);
    }
    ps_mem_free(wanted);
    ps_mem_free(found);
    ps_mem_free(tokens);
    spec_model_release(&m);
}
END_TEST

START_TEST(the_first_row_depends_on_the_last_token)
{
    spec_model m = new_model(0, OUTPUTS, 8);
    assert_ok(spec_model_write(&m, "m.h5"));
    const stage_runner_params p = {.path = "m.h5"};
    int32_t *tokens = new_tokens(LONG, 6);
    float *before = encode(&p, tokens, NULL, LONG, LONG);
    tokens[LONG - 1] = (tokens[LONG - 1] + 1) % 90;
    float *after = encode(&p, tokens, NULL, LONG, LONG);
    ck_assert(!same_row(before, after, 0));
    ps_mem_free(after);
    ps_mem_free(before);
    ps_mem_free(tokens);
    spec_model_release(&m);
}
END_TEST

START_TEST(splits_and_threads_change_no_bit_of_an_encoder)
{
    spec_model m = new_model(_i ? 16 : 0, OUTPUTS, 9);
    assert_ok(spec_model_write(&m, "m.h5"));
    int32_t *tokens = new_tokens(LONG, 7);
    bool hidden[LONG];
    for (int i = 0; i < LONG; i++) {
        hidden[i] = i % 7 == 3;
    }
    float *whole = encode(&(stage_runner_params){.path = "m.h5"}, tokens, hidden, LONG, LONG);
    const stage_runner_params ways[] = {
        {.path = "m.h5", .n_parts = 2, .cuts = {1}},
        {.path = "m.h5", .n_parts = 3, .cuts = {1, 2}, .n_threads = 3},
        {.path = "m.h5", .n_threads = 2, .isa = "portable"},
    };
    for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
        float *found = encode(&ways[w], tokens, hidden, LONG, LONG);
        for (int i = 0; i < LONG; i++) {
            ck_assert_msg(same_row(found, whole, i), "way %zu, row %d", w, i);
        }
        ps_mem_free(found);
    }
    ps_mem_free(whole);
    ps_mem_free(tokens);
    spec_model_release(&m);
}
END_TEST

START_TEST(a_streamed_encoder_has_the_same_bits_in_chunks_of_any_size)
{
    static const int chunks[] = {1, 7, 15, 16, 17, 48, 100};
    spec_model m = new_model(16, OUTPUTS, 10);
    assert_ok(spec_model_write(&m, "m.h5"));
    int32_t *tokens = new_tokens(LONG, 8);
    bool hidden[LONG];
    for (int i = 0; i < LONG; i++) {
        hidden[i] = i % 5 == 2 || (i > 100 && i < 130); // there a whole window is hidden
    }
    float *whole = encode(&(stage_runner_params){.path = "m.h5"}, tokens, hidden, LONG, LONG);
    for (int c = 0; c < 7; c++) {
        const stage_runner_params p = {.path = "m.h5",
                                       .limits = {.rows_max = chunks[c], .chunk_rows = chunks[c]}};
        float *found = encode(&p, tokens, hidden, LONG, chunks[c]);
        for (int i = 0; i < LONG; i++) {
            ck_assert_msg(same_row(found, whole, i), "chunks of %d, row %d", chunks[c], i);
        }
        ps_mem_free(found);
    }
    ps_mem_free(whole);
    ps_mem_free(tokens);
    spec_model_release(&m);
}
END_TEST

START_TEST(a_streamed_token_reaches_as_far_as_its_layers_windows_and_nothing_ahead)
{
    enum { W = 16, AT = 120, REACH = AT + LAYERS * (W - 1) };
    spec_model m = new_model(W, OUTPUTS, 11);
    assert_ok(spec_model_write(&m, "m.h5"));
    const stage_runner_params p = {.path = "m.h5"};
    int32_t *tokens = new_tokens(LONG, 9);
    float *before = encode(&p, tokens, NULL, LONG, LONG);
    tokens[AT] = (tokens[AT] + 1) % 90;
    float *after = encode(&p, tokens, NULL, LONG, LONG);
    for (int i = 0; i < LONG; i++) {
        if (i < AT || i > REACH) ck_assert_msg(same_row(before, after, i), "row %d", i);
    }
    ck_assert(!same_row(before, after, AT) && !same_row(before, after, REACH));
    ps_mem_free(after);
    ps_mem_free(before);
    ps_mem_free(tokens);
    spec_model_release(&m);
}
END_TEST

START_TEST(an_encoder_without_a_head_still_gives_its_hidden_rows)
{
    enum { N = 5 };
    static const int sizes[] = {OUTPUTS, 0};
    float hidden[2][N * D];
    int32_t *tokens = new_tokens(N, 2);
    for (int i = 0; i < 2; i++) {
        spec_model m = new_model(0, sizes[i], 12);
        assert_ok(spec_model_write(&m, "m.h5"));
        float out[N * OUTPUTS];
        const int slots[N] = {0};
        const int64_t positions[N] = {0, 1, 2, 3, 4};
        stage_runner r;
        assert_ok(stage_runner_open(&(stage_runner_params){.path = "m.h5"}, &r));
        ck_assert_int_eq(ps_spec_head_size(&r.ckpt.spec), sizes[i]);
        stage_runner_rows(&r, &(ps_rows){.n = N, .slot = slots, .position = positions}, tokens,
                          out);
        const float *rows = ps_stage_head_input(r.parts[0]);
        for (int row = 0; row < N; row++) {
            memcpy(hidden[i] + row * D, rows + (size_t)row * ps_stage_stride(&r.ckpt.spec),
                   D * sizeof *rows);
        }
        stage_runner_close(&r);
        spec_model_release(&m);
    }
    ck_assert_mem_eq(hidden[0], hidden[1], sizeof hidden[0]);
    ps_mem_free(tokens);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/encoder");
    TCase *tcase = scratch_case(suite, "encoder");
    tcase_add_loop_test(tcase, rows_of_a_padded_sequence_have_the_bits_of_the_sequence_alone, 0, 8);
    tcase_add_test(tcase, nobody_sees_a_hidden_key_wherever_it_stands);
    tcase_add_test(tcase, attention_over_hidden_keys_alone_gives_the_bias_of_its_output);
    tcase_add_test(tcase, the_first_row_depends_on_the_last_token);
    tcase_add_loop_test(tcase, splits_and_threads_change_no_bit_of_an_encoder, 0, 2);
    tcase_add_test(tcase, a_streamed_encoder_has_the_same_bits_in_chunks_of_any_size);
    tcase_add_test(tcase, a_streamed_token_reaches_as_far_as_its_layers_windows_and_nothing_ahead);
    tcase_add_test(tcase, an_encoder_without_a_head_still_gives_its_hidden_rows);
    return scratch_run(suite);
}
