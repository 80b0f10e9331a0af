/* Logits that are kept and read again; and files that belong to another run. */
#include "tool/logits_file.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "support/scratch.h"

enum { V = 7, N = 3 };

static int32_t ids[N][5] = {{3, 1, 4, 1, 5}, {2, 6}, {5, 3, 5}};
static const size_t lengths[N] = {5, 2, 3};

static ps_spec spec_of(int vocabulary)
{
    return (ps_spec){.vocab_size = vocabulary, .n_layers = 2, .d_model = 3};
}

static float value_of(size_t sequence, size_t position, int v)
{
    return (float)(100 * sequence + 10 * position) + 0.5f * (float)v;
}

typedef struct inputs {
    ps_tokens sequences[N];
    ps_spec spec;
    ps_logits_input input;
} inputs;

static void prepare(inputs *in, int64_t skip)
{
    for (size_t i = 0; i < N; i++) {
        in->sequences[i] = (ps_tokens){.ids = ids[i], .n = lengths[i]};
    }
    in->spec = spec_of(V);
    in->input =
        (ps_logits_input){.sequences = in->sequences, .n = N, .skip = skip, .spec = &in->spec};
}

/* Rows of the sequences in any order, as they come back. */
static void write_file(const char *path, int64_t skip)
{
    inputs in;
    prepare(&in, skip);
    ps_h5_writer *w;
    assert_ok(ps_logits_create(path, &in.input, false, &w));
    for (size_t n = N; n-- > 0;) {
        for (size_t t = (size_t)skip; t < lengths[n]; t++) {
            float row[V];
            for (int v = 0; v < V; v++) {
                row[v] = value_of(n, t, v);
            }
            const double logprob = -(double)t;
            const bool last = t + 1 == lengths[n];
            assert_ok(ps_logits_write(w, &in.input, n, (int64_t)t, row, last ? NULL : &logprob));
        }
    }
    assert_ok(ps_h5_commit(w));
}

static void check_rows(const char *path, int64_t skip)
{
    inputs in;
    prepare(&in, skip);
    ps_logits_reference *r;
    assert_ok(ps_logits_open(path, &in.input, &r));
    for (size_t n = 0; n < N; n++) {
        for (size_t t = (size_t)skip; t < lengths[n]; t++) {
            float row[V];
            assert_ok(ps_logits_read(r, n, (int64_t)t, row));
            for (int v = 0; v < V; v++) {
                ck_assert(row[v] == value_of(n, t, v));
            }
        }
    }
    ps_logits_close(r);
}

START_TEST(what_was_written_is_read_again)
{
    write_file("all.h5", 0);
    check_rows("all.h5", 0);
    // A run that skips more may be compared with one that kept more.
    check_rows("all.h5", 1);
    write_file("skipped.h5", 1);
    check_rows("skipped.h5", 1);
}
END_TEST

START_TEST(the_values_lie_where_the_header_says)
{
    write_file("skipped.h5", 1);
    ps_h5_file *file;
    assert_ok(ps_h5_open("skipped.h5", &file));
    int64_t skip;
    assert_ok(ps_h5_attribute_int(file, "/", "skip", &skip));
    ck_assert_int_eq(skip, 1);
    ps_h5_info info;
    assert_ok(ps_h5_find(file, "/0/logits", &info));
    ck_assert(info.type == PS_H5_F32 && info.rank == 2 && info.dims[0] == 4 && info.dims[1] == V);
    assert_ok(ps_h5_find(file, "/1/logprob", &info));
    ck_assert(info.rank == 1 && info.dims[0] == 0);
    float logprob[3];
    assert_ok(ps_h5_find(file, "/0/logprob", &info));
    ck_assert(info.rank == 1 && info.dims[0] == 3);
    assert_ok(ps_h5_read(file, "/0/logprob", &info, logprob));
    ck_assert(logprob[0] == -1.0f && logprob[2] == -3.0f);
    int32_t tokens[5];
    assert_ok(ps_h5_find(file, "/0/tokens", &info));
    ck_assert(info.type == PS_H5_I32 && info.rank == 1 && info.dims[0] == 5);
    assert_ok(ps_h5_read(file, "/0/tokens", &info, tokens));
    ck_assert_mem_eq(tokens, ids[0], sizeof tokens);
    ps_h5_close(file);
}
END_TEST

static void expect_refusal(const char *path, const ps_logits_input *input, ps_err code,
                           const char *message)
{
    ps_logits_reference *r;
    ck_assert_int_eq(ps_logits_open(path, input, &r), code);
    ck_assert_ptr_null(r);
    assert_message(message);
}

START_TEST(logits_of_other_work_are_refused)
{
    inputs in;
    write_file("f.h5", 1);
    prepare(&in, 0);
    expect_refusal("f.h5", &in.input, PS_ERR_SHAPE,
                   "f.h5: begins at token 1 of each sequence, wanted 0 (--skip) or before");
    prepare(&in, 1);
    in.spec.vocab_size = 8;
    expect_refusal("f.h5", &in.input, PS_ERR_SHAPE, "f.h5: a vocabulary of 7, the model has 8");
    prepare(&in, 1);
    in.input.n = 2;
    expect_refusal("f.h5", &in.input, PS_ERR_SHAPE,
                   "f.h5: holds more sequences than the 2 to score");
    prepare(&in, 1);
    in.sequences[0].n = 4;
    expect_refusal("f.h5", &in.input, PS_ERR_SHAPE,
                   "f.h5: sequence 0 has 5 tokens, the one to score 4");
    prepare(&in, 1);
    int32_t other[3] = {5, 3, 4};
    in.sequences[2].ids = other;
    expect_refusal("f.h5", &in.input, PS_ERR_SHAPE,
                   "f.h5: token 2 of sequence 2 is 5, of the one to score 4");
    prepare(&in, 1);
    ps_tokens more[N + 1];
    memcpy(more, in.sequences, sizeof in.sequences);
    more[N] = more[0];
    in.input.sequences = more;
    in.input.n = N + 1;
    expect_refusal("f.h5", &in.input, PS_ERR_SHAPE, "f.h5: holds 3 sequences, wanted 4");
}
END_TEST

/* One sequence of two tokens, and what stands there of it. */
static void write_foreign(int64_t skip, ps_h5_type tokens_type, int rank, const uint64_t *dims)
{
    ps_h5_writer *w;
    static const char zeros[8 * V] = {0};
    const uint64_t two = 2;
    assert_ok(ps_h5_create("f.h5", &w));
    assert_ok(ps_h5_put_attribute_int(w, "/", "skip", skip));
    assert_ok(ps_h5_put(w, "/0/tokens", tokens_type, 1, &two, zeros));
    assert_ok(ps_h5_put(w, "/0/logits", PS_H5_F32, rank, dims, zeros));
    assert_ok(ps_h5_commit(w));
}

START_TEST(files_of_another_form_are_refused)
{
    int32_t zeros[2] = {0};
    const ps_tokens one = {.ids = zeros, .n = 2};
    const ps_spec spec = spec_of(V);
    const ps_logits_input input = {.sequences = &one, .n = 1, .skip = 0, .spec = &spec};
    const uint64_t good[2] = {2, V}, few[2] = {1, V};
    write_foreign(0, PS_H5_I32, 2, good);
    ps_logits_reference *r;
    assert_ok(ps_logits_open("f.h5", &input, &r));
    ps_logits_close(r);
    write_foreign(0, PS_H5_F32, 2, good);
    expect_refusal("f.h5", &input, PS_ERR_FORMAT,
                   "f.h5: /0/tokens is f32 of rank 1, wanted i32 of rank 1");
    write_foreign(0, PS_H5_I32, 1, good);
    expect_refusal("f.h5", &input, PS_ERR_FORMAT,
                   "f.h5: /0/logits is f32 of rank 1, wanted f32 of rank 2");
    write_foreign(0, PS_H5_I32, 2, few);
    expect_refusal("f.h5", &input, PS_ERR_SHAPE, "f.h5: /0/logits has 1 rows, wanted 2");
    write_foreign(-1, PS_H5_I32, 2, good);
    expect_refusal("f.h5", &input, PS_ERR_SHAPE,
                   "f.h5: begins at token -1 of each sequence, wanted 0 (--skip) or before");
    ps_h5_writer *w;
    assert_ok(ps_h5_create("f.h5", &w));
    assert_ok(ps_h5_commit(w));
    expect_refusal("f.h5", &input, PS_ERR_FORMAT, "f.h5: / has no attribute skip");
    scratch_write_text("f.h5", "X:1\n");
    expect_refusal("f.h5", &input, PS_ERR_FORMAT, "f.h5: not an HDF5 file");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/logits_file");
    TCase *tcase = scratch_case(suite, "logits_file");
    tcase_add_test(tcase, what_was_written_is_read_again);
    tcase_add_test(tcase, the_values_lie_where_the_header_says);
    tcase_add_test(tcase, logits_of_other_work_are_refused);
    tcase_add_test(tcase, files_of_another_form_are_refused);
    suite_add_tcase(suite, tcase);
    return scratch_run(suite);
}
