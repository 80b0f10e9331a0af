/* A slot's caches in a file: a run that goes on from there has the bits of one that was never
 * stopped, however the model is cut into parts before and after; and what is wrong with a file. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "model/cache_file.h"
#include "model/h5.h"
#include "support/dice.h"
#include "support/scratch.h"
#include "support/spec_model.h"
#include "support/stage_runner.h"
#include "support/tiny_model.h"

enum { TOKENS = 230, CHUNK = 13 };

static const ps_dtype stored[] = {PS_F32, PS_F16, PS_BF16, PS_Q8_0, PS_Q4_0};
enum { N_STORED = sizeof stored / sizeof stored[0] };

static void save(stage_runner *r, int slot, int64_t position, const char *path)
{
    ps_h5_writer *w;
    assert_ok(ps_h5_create(path, &w));
    assert_ok(ps_h5_hand_over(w));
    for (int i = 0; i < r->params.n_parts; i++) {
        assert_ok(ps_stage_save(r->parts[i], slot, position, ps_h5_temporary(w)));
    }
    assert_ok(ps_h5_commit(w));
}

static ps_err load(stage_runner *r, int slot, int64_t position, int64_t length, const char *path)
{
    for (int i = 0; i < r->params.n_parts; i++) {
        PS_TRY(ps_stage_load(r->parts[i], slot, position, length, path));
    }
    return PS_OK;
}

/* One part, or two of them cut at a random layer. */
static void open_runner(const char *path, dice *d, int chunk, ps_kv_types types, stage_runner *out)
{
    stage_runner_params params = {.path = path,
                                  .n_parts = 1,
                                  .limits = {.rows_max = TOKENS,
                                             .chunk_rows = chunk,
                                             .n_slots = 3,
                                             .context = TOKENS + dice_throw(d, 100),
                                             .cache = types},
                                  .verify = PS_VERIFY_NEVER};
    assert_ok(stage_runner_open(&params, out));
    const int n_layers = out->ckpt.spec.n_layers;
    if (n_layers < 2 || dice_throw(d, 2) == 0) return;
    stage_runner_close(out);
    params.n_parts = 2;
    params.cuts[0] = 1 + dice_throw(d, n_layers - 1);
    assert_ok(stage_runner_open(&params, out));
}

static void throw_tokens(dice *d, int vocabulary, int32_t *tokens)
{
    for (int i = 0; i < TOKENS; i++) {
        tokens[i] = dice_throw(d, vocabulary);
    }
}

/* Stops a run at some position, starts another from the file, in another slot, with other parts,
 * chunks and context, and lets it run to the end. */
static void stop_and_go_on(const char *path, dice *d)
{
    stage_runner first, second;
    const ps_kv_types types = {stored[dice_throw(d, N_STORED)], stored[dice_throw(d, N_STORED)]};
    open_runner(path, d, CHUNK, types, &first);
    open_runner(path, d, 1 + dice_throw(d, 70), types, &second);
    const int vocabulary = first.ckpt.spec.vocab_size, position = 1 + dice_throw(d, TOKENS - 1);
    const int64_t length = dice_throw(d, 2) ? 0 : TOKENS;
    int32_t tokens[TOKENS];
    throw_tokens(d, vocabulary, tokens);
    const size_t row = (size_t)vocabulary, n_left = (size_t)(TOKENS - position);
    float *wanted = ps_mem_new(TOKENS * row, sizeof *wanted);
    float *found = ps_mem_new(TOKENS * row, sizeof *found);
    stage_runner_begin(&first, 1, length);
    stage_runner_run(&first, 1, 0, tokens, position, CHUNK, wanted);
    save(&first, 1, position, "state.h5");
    stage_runner_run(&first, 1, position, tokens + position, (int)n_left, CHUNK,
                     wanted + (size_t)position * row);
    assert_ok(load(&second, 2, position, length, "state.h5"));
    stage_runner_run(&second, 2, position, tokens + position, (int)n_left,
                     second.params.limits.chunk_rows, found);
    ck_assert_msg(memcmp(wanted + (size_t)position * row, found, n_left * row * sizeof *found) == 0,
                  "logits behind position %d differ", position);
    ps_mem_free(found);
    ps_mem_free(wanted);
    stage_runner_close(&second);
    stage_runner_close(&first);
}

/* Windows shorter and longer than a page, rings shorter than the run, relative positions. */
START_TEST(a_run_goes_on_bit_by_bit_from_any_position)
{
    dice d = {.seed = (uint64_t)_i};
    tiny_model m = tiny_model_default((tiny_family)(_i % TINY_FAMILY_COUNT));
    m.windows[0] = 1 + dice_throw(&d, 90);
    m.windows[1] = 1 + dice_throw(&d, 20);
    m.windows[2] = 0;
    m.windows[3] = 1 + dice_throw(&d, 4);
    m.context = 0;
    assert_ok(tiny_model_convert(&m, "model.h5"));
    stop_and_go_on("model.h5", &d);
}
END_TEST

/* Chunks where there is no window, and first tokens that stay visible where biases allow it. */
static void throw_windows(dice *d, ps_spec *spec)
{
    bool allowed = true;
    for (int l = 0; l < spec->n_layers; l++) {
        ps_layer_spec *layer = &spec->layers[l];
        for (int b = 0; b < layer->n_biases; b++) {
            allowed = allowed && layer->biases[b].kind != PS_BIAS_REL_POS;
        }
        if (layer->window > 0 || layer->n_biases > 0 || dice_throw(d, 2)) continue;
        layer->chunk = 1 + dice_throw(d, 40);
        layer->left_chunks = dice_throw(d, 4) - 1;
    }
    if (allowed) spec->n_kept = dice_throw(d, 80);
}

START_TEST(so_does_a_model_of_any_kind)
{
    dice d = {.seed = (uint64_t)_i};
    spec_model m = spec_model_roll((uint64_t)_i);
    m.spec.context = 0;
    throw_windows(&d, &m.spec);
    const bool short_positions = m.spec.n_positions > 0 && m.spec.n_positions < 2 * TOKENS;
    if (short_positions) m.spec.n_positions = 2 * TOKENS;
    assert_ok(spec_model_write(&m, "model.h5"));
    stop_and_go_on("model.h5", &d);
    spec_model_release(&m);
}
END_TEST

/* ---- what is in the file ---- */

static void save_windows(int64_t position, stage_runner *r)
{
    tiny_model m = tiny_model_default(TINY_RELPOS_LLAMA);
    m.windows[0] = 20;
    m.windows[1] = 0;
    m.windows[2] = 1;
    m.context = 0;
    int32_t tokens[TOKENS] = {0};
    float *logits = ps_mem_new((size_t)TOKENS * (size_t)m.vocabulary, sizeof *logits);
    assert_ok(tiny_model_convert(&m, "model.h5"));
    dice d = {.seed = 4};
    open_runner("model.h5", &d, TOKENS, (ps_kv_types){0}, r);
    stage_runner_run(r, 0, 0, tokens, (int)position, TOKENS, logits);
    save(r, 0, position, "state.h5");
    ps_mem_free(logits);
}

START_TEST(only_positions_that_can_still_be_seen_are_in_it)
{
    static const struct {
        const char *layer;
        int64_t first;
        uint64_t rows;
    } wanted[] = {
        {"/layers/000/cache", 81, 19}, {"/layers/001/cache", 0, 100}, {"/layers/002/cache", 99, 1}};
    stage_runner r;
    save_windows(100, &r);
    ps_h5_file *file;
    assert_ok(ps_h5_open("state.h5", &file));
    for (int i = 0; i < 3; i++) {
        ps_h5_info info;
        int64_t first;
        assert_ok(ps_h5_find(file, wanted[i].layer, &info));
        assert_ok(ps_h5_attribute_int(file, wanted[i].layer, "first", &first));
        ck_assert_int_eq(first, wanted[i].first);
        ck_assert_uint_eq(info.dims[0], wanted[i].rows);
        const int values = 2 * r.ckpt.spec.n_kv_heads * r.ckpt.spec.head_dim + r.ckpt.spec.n_heads;
        ck_assert_uint_eq(info.dims[1], (uint64_t)values * 4);
    }
    ps_h5_close(file);
    stage_runner_close(&r);
}
END_TEST

/* ---- refusals ---- */

static void expect_refusal(int64_t position, ps_err code, const char *message)
{
    stage_runner r;
    dice d = {.seed = 4};
    open_runner("model.h5", &d, TOKENS, (ps_kv_types){0}, &r);
    ck_assert_int_eq(load(&r, 0, position, 0, "state.h5"), code);
    assert_mentions(message);
    stage_runner_close(&r);
}

/* Every byte of a layer's data, of its size and of its attributes counts. */
START_TEST(a_changed_byte_of_the_caches_is_found)
{
    stage_runner r;
    save_windows(100, &r);
    stage_runner_close(&r);
    ps_h5_file *file;
    ps_h5_info info;
    assert_ok(ps_h5_open("state.h5", &file));
    assert_ok(ps_h5_find(file, "/layers/001/cache", &info));
    ps_h5_close(file);
    FILE *f = fopen("state.h5", "r+");
    ck_assert_int_eq(fseek(f, (long)(info.offset + 777), SEEK_SET), 0);
    const int byte = fgetc(f);
    ck_assert_int_eq(fseek(f, (long)(info.offset + 777), SEEK_SET), 0);
    fputc(byte ^ 1, f);
    ck_assert_int_eq(fclose(f), 0);
    expect_refusal(100, PS_ERR_FORMAT, "state.h5: /layers/001/cache: damaged");
}
END_TEST

START_TEST(another_position_does_not_fit)
{
    stage_runner r;
    save_windows(100, &r);
    stage_runner_close(&r);
    expect_refusal(99, PS_ERR_FORMAT, "state.h5: /layers/000/cache: first is 81, wanted 80");
}
END_TEST

START_TEST(another_window_or_type_does_not_fit)
{
    stage_runner r;
    save_windows(15, &r); // all three would fit by their sizes
    stage_runner_close(&r);
    tiny_model m = tiny_model_default(TINY_RELPOS_LLAMA);
    m.windows[0] = 21;
    m.windows[1] = 0;
    m.windows[2] = 1;
    m.context = 0;
    assert_ok(tiny_model_convert(&m, "model.h5"));
    expect_refusal(15, PS_ERR_FORMAT, "state.h5: /layers/000/cache: the policy is \"window 20, ");
    m.windows[0] = 20;
    assert_ok(tiny_model_convert(&m, "model.h5"));
    dice d = {.seed = 4};
    open_runner("model.h5", &d, TOKENS, (ps_kv_types){PS_F32, PS_F16}, &r);
    ck_assert_int_eq(load(&r, 0, 15, 0, "state.h5"), PS_ERR_FORMAT);
    assert_mentions("keys f32, values f32, 4 numbers\", wanted \"");
    stage_runner_close(&r);
}
END_TEST

START_TEST(a_missing_file_or_layer_is_named)
{
    stage_runner r;
    save_windows(10, &r);
    ck_assert_int_eq(load(&r, 1, 10, 0, "none.h5"), PS_ERR_IO);
    assert_message("none.h5: cannot open: No such file or directory");
    stage_runner_close(&r);
    ps_h5_writer *w;
    assert_ok(ps_h5_create("state.h5", &w));
    assert_ok(ps_h5_commit(w));
    expect_refusal(10, PS_ERR_FORMAT, "state.h5: /layers/000/cache is missing");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/cache_file");
    TCase *tcase = scratch_case(suite, "cache file");
    tcase_add_loop_test(tcase, a_run_goes_on_bit_by_bit_from_any_position, 0, 20);
    tcase_add_loop_test(tcase, so_does_a_model_of_any_kind, 0, 24);
    tcase_add_test(tcase, only_positions_that_can_still_be_seen_are_in_it);
    tcase_add_test(tcase, a_changed_byte_of_the_caches_is_found);
    tcase_add_test(tcase, another_position_does_not_fit);
    tcase_add_test(tcase, another_window_or_type_does_not_fit);
    tcase_add_test(tcase, a_missing_file_or_layer_is_named);
    return scratch_run(suite);
}
