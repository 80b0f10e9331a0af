/* Random models: shapes and tokens of the models they stand for, weights of the right size, equal
 * specs equal files. */
#include "tool/synthetic.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "math/panel.h"
#include "model/ckpt.h"
#include "serve/tokenizer.h"
#include "support/scratch.h"
#include "tool/synthetic_tokenizer.h"

/* One narrow layer under the true vocabulary. */
#define SMALL "acestep-0.6b,layers=1,d=256,ff=256,heads=2,kv=1"

START_TEST(acestep_models_have_the_shapes_of_the_real_ones)
{
    assert_ok(ps_synthetic_write(SMALL ",type=q4_0", "m.h5", false));
    ps_ckpt ckpt;
    assert_ok(ps_ckpt_open("m.h5", &ckpt));
    const ps_spec *s = &ckpt.spec;
    ck_assert_int_eq(s->vocab_size, 217204);
    ck_assert(s->head_dim == 128 && s->context == 40960 && s->tied_head);
    ck_assert(s->qk_norm == PS_QK_NORM_HEAD && s->norm_eps == 1e-6 && s->ropes[0].base == 1e6);
    ck_assert(s->n_eos == 1 && s->eos_ids[0] == 151645 && s->bos_id == -1);
    ps_ckpt_close(&ckpt);
    const ps_err err = ps_synthetic_write(SMALL ",vocab=300", "n.h5", false);
    ck_assert_int_eq(err, PS_ERR_USAGE);
    assert_mentions("its tokenizer has 217204 tokens");
}
END_TEST

static ps_tokenizer *open_tokenizer(void)
{
    ps_text packed = {0};
    ps_tokenizer *t;
    assert_ok(ps_synthetic_tokenizer_pack(&packed));
    assert_ok(ps_tokenizer_open(packed.data, packed.len, "packed", &t));
    ps_text_release(&packed);
    return t;
}

static void expect_ids(const ps_tokenizer *t, const char *text, const int32_t *wanted, size_t n)
{
    ps_tokens ids = {0};
    assert_ok(ps_tokenizer_encode(t, text, strlen(text), true, &ids));
    ck_assert_uint_eq(ids.n, n);
    ck_assert_mem_eq(ids.ids, wanted, n * sizeof *wanted);
    ps_tokens_release(&ids);
}

#define IDS(...)                                                                                   \
    (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t)

START_TEST(tokens_that_matter_have_their_ids)
{
    ps_tokenizer *t = open_tokenizer();
    ck_assert_int_eq(ps_tokenizer_size(t), 217204);
    expect_ids(t, "\n", IDS(198));
    expect_ids(t, "\n\n", IDS(271));
    expect_ids(t, " 120", IDS(220, 16, 17, 15));
    expect_ids(t, "bpm:", IDS(65, 79, 76, 25));
    expect_ids(t, "<|im_start|>a<|im_end|>", IDS(151644, 64, 151645));
    expect_ids(t, "<|endoftext|><think></think>", IDS(151643, 151667, 151668));
    expect_ids(t, "<|audio_code_0|><|audio_code_65534|>", IDS(151669, 217203));
    // Neither is a token.
    expect_ids(t, "<|audio_code_01|>",
               IDS(27, 91, 64, 84, 67, 72, 78, 62, 66, 78, 67, 68, 62, 15, 16, 91, 29));
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(every_text_comes_back)
{
    ps_tokenizer *t = open_tokenizer();
    char bytes[512];
    size_t n = 0;
    for (int c = 1; c < 0x180; c++) {
        if (c < 0x80) {
            bytes[n++] = (char)c;
        } else {
            bytes[n++] = (char)(0xC0 | c >> 6);
            bytes[n++] = (char)(0x80 | (c & 0x3F));
            if (n > sizeof bytes - 3) break;
        }
    }
    ps_tokens ids = {0};
    ps_text text = {0};
    assert_ok(ps_tokenizer_encode(t, bytes, n, true, &ids));
    assert_ok(ps_tokenizer_decode(t, ids.ids, ids.n, false, &text));
    ck_assert_uint_eq(text.len, n);
    ck_assert_mem_eq(text.data, bytes, n);
    ps_text_clear(&text);
    assert_ok(ps_tokenizer_decode(t, IDS(300, 151642), false, &text));
    ck_assert_str_eq(ps_text_str(&text), " w300 w151642");
    ps_text_release(&text);
    ps_tokens_release(&ids);
    ps_tokenizer_free(t);
}
END_TEST

static void read_whole(const char *path, ps_text *out)
{
    assert_ok(ps_file_read(path, SIZE_MAX, out));
}

START_TEST(equal_specs_give_equal_files_and_seeds_others)
{
    static const char *const specs[] = {"tunes,layers=2,type=q8_0", "tunes,layers=2,type=q8_0",
                                        "tunes,layers=2,type=q8_0,seed=2"};
    ps_text files[3] = {{0}};
    for (int i = 0; i < 3; i++) {
        assert_ok(ps_synthetic_write(specs[i], "m.h5", false));
        read_whole("m.h5", &files[i]);
    }
    ck_assert_uint_eq(files[0].len, files[1].len);
    ck_assert_int_eq(memcmp(files[0].data, files[1].data, files[0].len), 0);
    ck_assert_uint_eq(files[0].len, files[2].len);
    ck_assert_int_ne(memcmp(files[0].data, files[2].data, files[0].len), 0);
    for (int i = 0; i < 3; i++) {
        ps_text_release(&files[i]);
    }
}
END_TEST

/* Rows are of variance 1/K, no two alike, and lanes behind the last row are empty. */
START_TEST(rows_are_random)
{
    enum { N = 519, K = 768, LAST = 9 };
    char spec[160];
    snprintf(spec, sizeof spec, "tunes,layers=1,vocab=%d,d=%d,heads=6,kv=2,head_dim=128,type=%s", N,
             K, ps_dtype_name((ps_dtype)_i));
    assert_ok(ps_synthetic_write(spec, "m.h5", false));
    ps_ckpt ckpt;
    assert_ok(ps_ckpt_open("m.h5", &ckpt));
    const ps_ckpt_tensor *t = ps_ckpt_find(&ckpt, PS_ROLE_EMBED, -1);
    ps_text file = {0};
    read_whole("m.h5", &file);
    float *rows = ps_mem_new((N + LAST) * K, sizeof *rows);
    for (int r = 0; r < N + LAST; r++) {
        ps_panel_unpack_row(t->dtype, file.data + t->offset, K, r, rows + (size_t)r * K);
    }
    double sum = 0.0, squares = 0.0;
    for (int i = 0; i < N * K; i++) {
        sum += (double)rows[i];
        squares += (double)rows[i] * (double)rows[i];
    }
    ck_assert_double_le(fabs(sum / N), 0.3);
    if (_i == PS_MXFP4) { // scales that are powers of two are off by the root of two at most
        ck_assert(squares / N >= 0.5 && squares / N <= 2.0);
    } else {
        ck_assert_double_eq_tol(squares / N, 1.0, 0.02);
    }
    for (int r = 1; r < N; r++) {
        for (int other = r % 16; other < r; other += 16) {
            ck_assert_int_ne(memcmp(rows + (size_t)r * K, rows + (size_t)other * K, K * 4), 0);
        }
    }
    for (int i = N * K; i < (N + LAST) * K; i++) {
        ck_assert(rows[i] == 0.0f);
    }
    ps_mem_free(rows);
    ps_text_release(&file);
    ps_ckpt_close(&ckpt);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/synthetic");
    TCase *tcase = scratch_case(suite, "synthetic");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, acestep_models_have_the_shapes_of_the_real_ones);
    tcase_add_test(tcase, tokens_that_matter_have_their_ids);
    tcase_add_test(tcase, every_text_comes_back);
    tcase_add_test(tcase, equal_specs_give_equal_files_and_seeds_others);
    tcase_add_loop_test(tcase, rows_are_random, 0, PS_DTYPE_COUNT);
    return scratch_run(suite);
}
