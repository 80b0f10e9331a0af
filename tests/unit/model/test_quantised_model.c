/* Models whose matrices are quantised: stored in as many bytes as their blocks have, verified by
 * their scales, and run with the same bits for any chunks, parts, threads and instruction sets. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "math/isa.h"
#include "math/panel.h"
#include "model/ckpt_parts.h"
#include "model/weights.h"
#include "support/floats.h"
#include "support/scratch.h"
#include "support/stage_runner.h"
#include "tool/synthetic.h"

enum { LAYERS = 2, WIDTH = 256, VOCABULARY = 300, N_TOKENS = 41 };

static const char *const types[] = {"q8_0", "q4_0", "q4_k"};

static void make_model(const char *type)
{
    char spec[160];
    snprintf(spec, sizeof spec,
             "llama-0.3b,layers=%d,d=%d,heads=4,kv=2,head_dim=64,ff=512,vocab=%d,type=%s", LAYERS,
             WIDTH, VOCABULARY, type);
    assert_ok(ps_synthetic_write(spec, "m.h5", false));
}

START_TEST(matrices_take_the_bytes_of_their_blocks)
{
    make_model(types[_i]);
    ps_ckpt ckpt;
    assert_ok(ps_ckpt_open("m.h5", &ckpt));
    for (int i = 0; i < ckpt.n_tensors; i++) {
        const ps_ckpt_tensor *t = &ckpt.tensors[i];
        size_t row;
        if (!t->need.panel) continue;
        ck_assert_str_eq(ps_dtype_name(t->dtype), types[_i]);
        ck_assert(ps_dtype_row_bytes(t->dtype, (size_t)t->need.k, &row));
        ck_assert_uint_eq(t->bytes, row * 16 * (size_t)ps_panel_count(t->need.n));
        ck_assert(t->bytes < 65536 || t->offset % 4096 == 0);
    }
    ps_ckpt_close(&ckpt);
}
END_TEST

START_TEST(a_row_that_blocks_do_not_fill_is_refused)
{
    const ps_err err = ps_synthetic_write(
        "llama-0.3b,layers=1,d=256,heads=4,kv=2,head_dim=64,ff=320,type=q4_k", "m.h5", false);
    ck_assert_int_eq(err, PS_ERR_USAGE);
    assert_message("--synthetic: rows of 320 values, type q4_k has blocks of 256");
    ck_assert_int_eq(ps_synthetic_write("tunes,type=q6_k", "m.h5", false), PS_ERR_USAGE);
    ck_assert_int_ne(access("m.h5", F_OK), 0);
}
END_TEST

/* Behind a good checksum: here the check of the scales is all there is. */
START_TEST(a_scale_that_is_not_finite_is_found_where_it_stands)
{
    make_model("q4_k");
    ps_ckpt ckpt;
    assert_ok(ps_ckpt_open("m.h5", &ckpt));
    ps_ckpt_tensor *t = ckpt.tensors + (ps_ckpt_find(&ckpt, PS_ROLE_UP, 1) - ckpt.tensors);
    // Panel 2, its only block, minimum of lane 5: row 37.
    const size_t at = 2 * ps_panel_bytes(t->dtype, t->need.k) + 2 * 16 + 2 * 5;
    char *bytes = ps_mem_new(t->bytes, 1);
    const int fd = open("m.h5", O_RDWR);
    ck_assert_int_eq(pwrite(fd, &(uint16_t){0xFC00}, 2, (off_t)(t->offset + at)), 2);
    ck_assert_int_eq(pread(fd, bytes, t->bytes, (off_t)t->offset), (ssize_t)t->bytes);
    close(fd);
    t->hash = ps_ckpt_hash(bytes, t->bytes);
    const ps_part part = {0, LAYERS, true};
    const ps_engine_params params = {.n_threads = 1, .wait = PS_WAIT_SHARED};
    ps_engine engine;
    ps_weights w;
    assert_ok(ps_engine_open(&params, &engine));
    assert_ok(ps_weights_open(&ckpt, &part, 50, PS_WEIGHTS_MAP, &engine, &w));
    ck_assert_int_eq(ps_weights_verify(&w, PS_VERIFY_ALWAYS, &engine), PS_ERR_NUMERIC);
    assert_message("m.h5: tensor /layers/001/mlp/up holds NaN or infinity at [37,0]");
    ps_weights_close(&w);
    ps_ckpt_close(&ckpt);
    ps_engine_close(&engine);
    ps_mem_free(bytes);
}
END_TEST

static float *run(stage_runner_params p, int chunk)
{
    int32_t tokens[N_TOKENS];
    for (int i = 0; i < N_TOKENS; i++) {
        tokens[i] = (i * 71 + 5) % VOCABULARY;
    }
    float *logits = floats_new((size_t)N_TOKENS * VOCABULARY);
    stage_runner r;
    p.path = "m.h5";
    p.limits =
        (ps_limits){.rows_max = chunk, .chunk_rows = chunk, .n_slots = 1, .context = N_TOKENS};
    assert_ok(stage_runner_open(&p, &r));
    stage_runner_run(&r, 0, 0, tokens, N_TOKENS, chunk, logits);
    stage_runner_close(&r);
    return logits;
}

START_TEST(logits_have_the_same_bits_however_the_work_is_cut)
{
    static const int chunks[] = {1, 2, 3, 7, 8, 9, 20};
    const size_t n = (size_t)N_TOKENS * VOCABULARY;
    make_model(types[_i % 3]);
    const ps_activations activations = (ps_activations)(_i / 3);
    float *wanted = run((stage_runner_params){.activations = activations}, N_TOKENS);
    for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++) {
        stage_runner_params p = {.activations = activations, .n_threads = 1 + (int)c % 3};
        int isa = (int)c % ps_isa_count();
        p.isa = ps_isa_supported(isa) ? ps_isa_name(isa) : "portable";
        if (c % 2) {
            p.n_parts = 2;
            p.cuts[0] = 1;
        }
        float *found = run(p, chunks[c]);
        ck_assert_uint_eq(floats_first_difference(found, wanted, n), n);
        ps_mem_free(found);
    }
    ps_mem_free(wanted);
}
END_TEST

/* Root mean square over that of the logits themselves. */
static double distance(const float *a, const float *b)
{
    double squares = 0.0, size = 0.0;
    for (size_t i = 0; i < (size_t)N_TOKENS * VOCABULARY; i++) {
        squares += pow((double)a[i] - (double)b[i], 2.0);
        size += (double)b[i] * (double)b[i];
    }
    return sqrt(squares / size);
}

START_TEST(sixteen_bits_are_nearer_to_floats_than_eight)
{
    make_model(types[_i]);
    float *exact = run((stage_runner_params){.activations = PS_ACTIVATIONS_F32}, 9);
    float *i16 = run((stage_runner_params){.activations = PS_ACTIVATIONS_I16}, 9);
    float *i8 = run((stage_runner_params){.activations = PS_ACTIVATIONS_I8}, 9);
    ck_assert_msg(distance(i16, exact) < 1e-4, "16 bits: %g", distance(i16, exact));
    ck_assert_msg(distance(i8, exact) < 3e-2, "8 bits: %g", distance(i8, exact));
    ck_assert(distance(i16, exact) * 50.0 < distance(i8, exact));
    ps_mem_free(exact);
    ps_mem_free(i16);
    ps_mem_free(i8);
}
END_TEST

START_TEST(prompt_chunks_through_blas_are_near)
{
    make_model(types[_i]);
    float *exact = run((stage_runner_params){.activations = PS_ACTIVATIONS_F32}, N_TOKENS);
    float *blas = run((stage_runner_params){.gemm = PS_GEMM_BLAS, .n_threads = 2}, N_TOKENS);
    ck_assert_msg(distance(blas, exact) < 1e-4, "%g", distance(blas, exact));
    ps_mem_free(exact);
    ps_mem_free(blas);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/quantised model");
    TCase *file = scratch_case(suite, "file");
    tcase_add_loop_test(file, matrices_take_the_bytes_of_their_blocks, 0, 3);
    tcase_add_test(file, a_row_that_blocks_do_not_fill_is_refused);
    tcase_add_test(file, a_scale_that_is_not_finite_is_found_where_it_stands);
    TCase *logits = scratch_case(suite, "logits");
    tcase_add_loop_test(logits, logits_have_the_same_bits_however_the_work_is_cut, 0, 9);
    tcase_add_loop_test(logits, sixteen_bits_are_nearer_to_floats_than_eight, 0, 3);
    tcase_add_loop_test(logits, prompt_chunks_through_blas_are_near, 0, 3);
    return scratch_run(suite);
}
