/* State files: what is written is read, and nothing that does not fit is. The sequences themselves
 * are gone on with in test_generate.c. */
#include "serve/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "serve/state_parts.h"
#include "support/scratch.h"

static const ps_state_origin origin = {UINT64_C(0xFEDCBA9876543210), "gemm panel"};

static ps_stop_string stop_of(const char *bytes, size_t n)
{
    return (ps_stop_string){ps_mem_copy_bytes(bytes, n), n};
}

/* Every field something else than it is by itself. */
static ps_state make_state(void)
{
    ps_state s = {.first = (INT64_C(1) << 40) + 3,
                  .position = (INT64_C(1) << 40) + 6,
                  .length = 77,
                  .finish = PS_FINISH_LENGTH,
                  .has_detokenizer = true};
    ps_request *r = &s.request;
    ps_sample_params *p = &r->sampling;
    for (int32_t i = 0; i < 5; i++) {
        ps_tokens_append(&r->prompt, 1000 - i);
    }
    r->n_samples = 1;
    r->n_logprobs = -1;
    r->ignore_eos = true;
    r->n_end_ids = 2;
    r->end_ids[0] = 5;
    r->end_ids[1] = INT32_MAX;
    *p = (ps_sample_params){.temperature = 0.1,
                            .top_k = 7,
                            .top_p = 1.0 / 3.0,
                            .min_p = 5e-324,
                            .typical_p = 0.9,
                            .repetition_penalty = 1.2,
                            .frequency_penalty = -0.3,
                            .presence_penalty = 0.7,
                            .repeat_last_n = -1,
                            .min_new_tokens = 12,
                            .seed = UINT64_MAX,
                            .sample = 3};
    assert_ok(ps_sample_order_parse("llama", p));
    ps_sample_bias *biases = ps_mem_new(2, sizeof *biases);
    biases[0] = (ps_sample_bias){4, -1.5f};
    biases[1] = (ps_sample_bias){4, 0.1f};
    int32_t *banned = ps_mem_new(1, sizeof *banned);
    banned[0] = 9;
    p->logit_bias = biases;
    p->n_logit_bias = 2;
    p->banned = banned;
    p->n_banned = 1;
    r->stops = ps_mem_new(2, sizeof *r->stops);
    r->stops[0] = stop_of("\0\xFF\n", 3);
    r->stops[1] = stop_of("\"stop\"", 6);
    r->n_stops = 2;
    s.sampler.generated = UINT64_MAX - 1;
    s.sampler.n = 2;
    s.sampler.entries = ps_mem_new(2, sizeof *s.sampler.entries);
    s.sampler.entries[0] = (ps_sampler_entry){3, 4, 1};
    s.sampler.entries[1] = (ps_sampler_entry){8, INT64_C(1) << 31, 0};
    ps_text_append_str(&s.held, "\"sto");
    ps_text_append(&s.detokenizer, "\1\0\2", 3);
    return s;
}

static void write_state(const char *path, const ps_state *s)
{
    ps_h5_writer *w;
    assert_ok(ps_h5_create(path, &w));
    assert_ok(ps_state_write(w, s, &origin));
    assert_ok(ps_h5_commit(w));
}

static void write_one(const char *path)
{
    ps_state s = make_state();
    write_state(path, &s);
    ps_state_release(&s);
}

/* Lists may be empty, and then nowhere. */
static void expect_same(const void *a, const void *b, size_t n)
{
    if (n > 0) ck_assert_mem_eq(a, b, n);
}

static void expect_same_lists(const ps_state *a, const ps_state *b)
{
    const ps_sample_params *p = &a->request.sampling, *q = &b->request.sampling;
    ck_assert_int_eq(p->n_logit_bias, q->n_logit_bias);
    expect_same(p->logit_bias, q->logit_bias, (size_t)p->n_logit_bias * sizeof *p->logit_bias);
    ck_assert_int_eq(p->n_banned, q->n_banned);
    expect_same(p->banned, q->banned, (size_t)p->n_banned * sizeof *p->banned);
    ck_assert_int_eq(p->n_order, q->n_order);
    expect_same(p->order, q->order, (size_t)p->n_order * sizeof *p->order);
    ck_assert_int_eq(a->request.n_stops, b->request.n_stops);
    for (int i = 0; i < a->request.n_stops; i++) {
        const ps_stop_string *x = &a->request.stops[i], *y = &b->request.stops[i];
        ck_assert_uint_eq(x->n, y->n);
        expect_same(x->bytes, y->bytes, x->n);
    }
    ck_assert_uint_eq(a->request.prompt.n, b->request.prompt.n);
    expect_same(a->request.prompt.ids, b->request.prompt.ids, a->request.prompt.n * 4);
    ck_assert_uint_eq(a->sampler.n, b->sampler.n);
    expect_same(a->sampler.entries, b->sampler.entries, a->sampler.n * sizeof *a->sampler.entries);
}

START_TEST(a_state_comes_back_as_it_was)
{
    ps_state a = make_state(), b;
    write_state("state.h5", &a);
    assert_ok(ps_state_read("state.h5", &origin, &b));
    ck_assert_int_eq(a.first, b.first);
    ck_assert_int_eq(a.position, b.position);
    ck_assert_int_eq(a.length, b.length);
    ck_assert_int_eq(b.finish, PS_FINISH_LENGTH);
    ck_assert_uint_eq(a.sampler.generated, b.sampler.generated);
    ck_assert(b.request.ignore_eos && b.has_detokenizer);
    ck_assert_int_eq(b.request.n_samples, 1);
    ck_assert_int_eq(b.request.n_logprobs, -1);
    ck_assert_int_eq(b.request.n_end_ids, 2);
    ck_assert_mem_eq(a.request.end_ids, b.request.end_ids, 2 * sizeof *a.request.end_ids);
    expect_same_lists(&a, &b);
    const ps_sample_params *p = &a.request.sampling, *q = &b.request.sampling;
    ck_assert(p->temperature == q->temperature && p->top_p == q->top_p && p->min_p == q->min_p);
    ck_assert(p->typical_p == q->typical_p && p->repetition_penalty == q->repetition_penalty);
    ck_assert(p->frequency_penalty == q->frequency_penalty);
    ck_assert(p->presence_penalty == q->presence_penalty);
    ck_assert_int_eq(p->top_k, q->top_k);
    ck_assert_int_eq(p->repeat_last_n, q->repeat_last_n);
    ck_assert_int_eq(p->min_new_tokens, q->min_new_tokens);
    ck_assert_uint_eq(p->seed, q->seed);
    ck_assert_uint_eq(p->sample, q->sample);
    ck_assert_str_eq(ps_text_str(&b.held), "\"sto");
    ck_assert_uint_eq(b.detokenizer.len, 3);
    ck_assert_mem_eq(b.detokenizer.data, "\1\0\2", 3);
    ps_state_release(&b);
    ps_state_release(&a);
}
END_TEST

START_TEST(nothing_held_back_and_no_tokenizer_come_back_too)
{
    ps_state a = {.position = 1, .finish = PS_FINISH_LENGTH}, b;
    a.request.sampling = ps_sample_params_default();
    ps_tokens_append(&a.request.prompt, 1);
    ps_tokens_append(&a.request.prompt, 2);
    write_state("state.h5", &a);
    assert_ok(ps_state_read("state.h5", &origin, &b));
    ck_assert(!b.has_detokenizer && b.request.n_stops == 0 && b.held.len == 0);
    expect_same_lists(&a, &b);
    ps_state_release(&b);
    ps_state_release(&a);
}
END_TEST

static void expect_refusal(const char *path, const ps_state_origin *by, ps_err code,
                           const char *message)
{
    ps_state s;
    ck_assert_int_eq(ps_state_read(path, by, &s), code);
    assert_mentions(message);
    ps_state_release(&s);
}

START_TEST(the_state_of_another_model_or_arithmetic_is_refused)
{
    write_one("state.h5");
    expect_refusal("state.h5", &(ps_state_origin){12, "gemm panel"}, PS_ERR_FORMAT,
                   "state.h5: is the state of another model: fedcba9876543210, this one is "
                   "000000000000000c");
    expect_refusal("state.h5", &(ps_state_origin){origin.model_identity, "gemm blas"},
                   PS_ERR_FORMAT, "state.h5: was computed with gemm panel, this run has gemm blas");
}
END_TEST

START_TEST(tokens_that_do_not_meet_the_caches_are_refused)
{
    static const int64_t positions[] = {0, 2, 8, 9};
    for (int i = 0; i < 4; i++) {
        ps_state s = make_state();
        s.first = 3;
        s.position = positions[i];
        write_state("state.h5", &s);
        ps_state_release(&s);
        expect_refusal("state.h5", &origin, PS_ERR_FORMAT, "do not go on from ");
    }
}
END_TEST

/* Any byte of any of its datasets. */
START_TEST(a_changed_byte_is_found)
{
    static const char *const names[] = {"/state", "/tokens", "/sampler",
                                        "/stops", "/held",   "/detokenizer"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        write_one("state.h5");
        ps_h5_file *file;
        ps_h5_info info;
        assert_ok(ps_h5_open("state.h5", &file));
        assert_ok(ps_h5_find(file, names[i], &info));
        ps_h5_close(file);
        FILE *f = fopen("state.h5", "r+");
        ck_assert_int_eq(fseek(f, (long)(info.offset + info.bytes / 2), SEEK_SET), 0);
        const int byte = fgetc(f);
        ck_assert_int_eq(fseek(f, (long)(info.offset + info.bytes / 2), SEEK_SET), 0);
        fputc(byte ^ 2, f);
        ck_assert_int_eq(fclose(f), 0);
        char wanted[80];
        snprintf(wanted, sizeof wanted, "state.h5: %s: damaged", names[i]);
        expect_refusal("state.h5", &origin, PS_ERR_FORMAT, wanted);
    }
}
END_TEST

/* Cut anywhere, it is refused and nothing worse. */
START_TEST(a_truncated_file_is_refused)
{
    write_one("state.h5");
    FILE *f = fopen("state.h5", "r");
    char *bytes = ps_mem_new(1 << 20, 1);
    const size_t n = fread(bytes, 1, 1 << 20, f);
    ck_assert_int_eq(fclose(f), 0);
    for (size_t cut = 0; cut < n; cut += 97) {
        scratch_write("cut.h5", bytes, cut);
        ps_state s;
        ck_assert_int_ne(ps_state_read("cut.h5", &origin, &s), PS_OK);
        assert_mentions("cut.h5");
        ps_state_release(&s);
    }
    ps_mem_free(bytes);
}
END_TEST

/* The JSON of a state with one piece replaced by another. */
static ps_err read_changed(const char *piece, const char *other, ps_state *out)
{
    ps_state s = make_state();
    ps_text json = {0}, changed = {0};
    ps_state_to_json(&s, &origin, &json);
    const char *at = strstr(ps_text_str(&json), piece);
    ck_assert_msg(at != NULL, "%s is not in %s", piece, ps_text_str(&json));
    ps_text_append(&changed, json.data, (size_t)(at - json.data));
    ps_text_append_str(&changed, other);
    ps_text_append_str(&changed, at + strlen(piece));
    *out = (ps_state){.request = {.sampling = ps_sample_params_default()}};
    const ps_err err =
        ps_state_from_json(ps_text_str(&changed), changed.len, "state.h5", &origin, out);
    ps_text_release(&changed);
    ps_text_release(&json);
    ps_state_release(&s);
    return err;
}

START_TEST(json_that_says_something_else_is_refused)
{
    static const char *const bad[][3] = {
        {"\"position\": 1099511627782", "\"position\": -1", "position is -1, wanted 0 or more"},
        {"\"position\": 1099511627782", "\"position\": 1.5", "position"},
        {"\"length\": 77,", "", "length"},
        {"\"finish\": \"length\"", "\"finish\": \"none\"", "finish is \"none\""},
        {"\"generated\": \"18446744073709551614\"", "\"generated\": \"18446744073709551616\"",
         "generated is \"18446744073709551616\", wanted a number of 64 bits"},
        {"\"seed\": \"18446744073709551615\"", "\"seed\": \"-1\"", "seed is \"-1\""},
        {"\"end_ids\": [5, ", "\"end_ids\": [1, 2, 3, 4, ", "end_ids has 5 entries"},
        {"\"end_ids\": [5, ", "\"end_ids\": [-5, ", "entry 0 of end_ids is not a token id"},
        {"\"stop_bytes\": [3", "\"stop_bytes\": [0", "a stop string of 0 bytes"},
        {"\"stop_bytes\": [3", "\"stop_bytes\": [5000", "a stop string of 5000 bytes"},
        {"[4, -1.5]", "[4]", "entry 0 of logit_bias"},
        {"[4, -1.5]", "[4, -1e39]", "entry 0 of logit_bias"},
        {"\"banned\": [9]", "\"banned\": [\"9\"]", "entry 0 of banned"},
        {"\"top_k\": 7", "\"top_k\": 7.5", "top_k"},
        {"\"temperature\": 0.1", "\"temperature\": null", "temperature"},
        {"\"order\": \"guidance", "\"order\": \"logit_bia", "logit_bia"},
        {"\"sampling\": {", "\"sampling\": [{", "state.h5"},
        {"{\"model", "[{\"model", "state.h5"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ps_state s;
        ck_assert_msg(read_changed(bad[i][0], bad[i][1], &s) != PS_OK, "%s", bad[i][1]);
        assert_mentions(bad[i][2]);
        ps_state_release(&s);
    }
}
END_TEST

START_TEST(other_files_are_named_for_what_they_are)
{
    ps_h5_writer *w;
    assert_ok(ps_h5_create("model.h5", &w));
    assert_ok(ps_h5_put_attribute_text(w, "/", "format", "pipestep-model"));
    assert_ok(ps_h5_commit(w));
    expect_refusal("model.h5", &origin, PS_ERR_FORMAT,
                   "model.h5: is no state file: its format is \"pipestep-model\"");
    assert_ok(ps_h5_create("empty.h5", &w));
    assert_ok(ps_h5_commit(w));
    expect_refusal("empty.h5", &origin, PS_ERR_FORMAT,
                   "empty.h5: is no state file: its format is \"\"");
    assert_ok(ps_h5_create("new.h5", &w));
    assert_ok(ps_h5_put_attribute_text(w, "/", "format", PS_STATE_FORMAT));
    assert_ok(ps_h5_put_attribute_int(w, "/", "version", 2));
    assert_ok(ps_h5_commit(w));
    expect_refusal("new.h5", &origin, PS_ERR_FORMAT,
                   "new.h5: state version 2, this program reads 1");
    expect_refusal("none.h5", &origin, PS_ERR_IO, "none.h5: cannot open");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("serve/state");
    TCase *tcase = scratch_case(suite, "state");
    tcase_add_test(tcase, a_state_comes_back_as_it_was);
    tcase_add_test(tcase, nothing_held_back_and_no_tokenizer_come_back_too);
    tcase_add_test(tcase, the_state_of_another_model_or_arithmetic_is_refused);
    tcase_add_test(tcase, tokens_that_do_not_meet_the_caches_are_refused);
    tcase_add_test(tcase, a_changed_byte_is_found);
    tcase_add_test(tcase, a_truncated_file_is_refused);
    tcase_add_test(tcase, json_that_says_something_else_is_refused);
    tcase_add_test(tcase, other_files_are_named_for_what_they_are);
    return scratch_run(suite);
}
