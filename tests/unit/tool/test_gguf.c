/* GGUF files and split sets: good ones, and each refusal with its exact text. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "support/gguf_file.h"
#include "support/scratch.h"

#define FILE_NAME "model.gguf"
enum { F32 = 0, F16 = 1, Q4_0 = 2, Q8_0 = 8, Q4_K = 12 };

static const unsigned char numbers[1024] = {1, 2, 3, 4, 5, 6, 7, 8, 9};

static ps_gguf *open_good(const char *path)
{
    ps_gguf *set;
    assert_ok(ps_gguf_open(path, &set));
    return set;
}

static void refuse_path(const char *path, ps_err code, const char *message)
{
    ps_gguf *set;
    ck_assert_int_eq(ps_gguf_open(path, &set), code);
    ck_assert_ptr_null(set);
    assert_message(message);
}

/* Writes the file, releases it, and wants the refusal. */
static void refuse(gguf_file *f, ps_err code, const char *message)
{
    gguf_file_write(f, FILE_NAME);
    gguf_file_release(f);
    refuse_path(FILE_NAME, code, message);
}

static void refuse_bytes(const void *bytes, size_t n, ps_err code, const char *message)
{
    scratch_write(FILE_NAME, bytes, n);
    refuse_path(FILE_NAME, code, message);
}

/* ---- good files ---- */

START_TEST(a_file_gives_its_tensors_in_the_order_of_their_data)
{
    gguf_file f = {0};
    gguf_file_tensor(&f, "b", F32, 1, (uint64_t[]){3}, numbers, 12);
    gguf_file_tensor(&f, "a", Q4_0, 2, (uint64_t[]){64, 2}, numbers, 72);
    gguf_file_write(&f, FILE_NAME);
    gguf_file_release(&f);
    ps_gguf *set = open_good(FILE_NAME);
    ck_assert_int_eq(ps_gguf_count(set), 2);
    const ps_gguf_tensor *t = ps_gguf_at(set, 0);
    ck_assert_str_eq(t->name, "b");
    ck_assert_int_eq(t->type, F32);
    ck_assert_int_eq(t->n_dims, 1);
    ck_assert_uint_eq(t->shape[0], 3);
    ck_assert_uint_eq(t->bytes, 12);
    ck_assert_mem_eq(t->data, numbers, 12);
    t = ps_gguf_at(set, 1);
    ck_assert_str_eq(t->name, "a");
    ck_assert_str_eq(ps_gguf_type_name(t->type), "Q4_0");
    ck_assert_uint_eq(t->shape[0], 2);
    ck_assert_uint_eq(t->shape[1], 64);
    ck_assert_uint_eq(t->bytes, 72);
    ck_assert_mem_eq(t->data, numbers, 72);
    ck_assert_str_eq(ps_gguf_file(set, t), FILE_NAME);
    ck_assert_ptr_eq(ps_gguf_find_tensor(set, "a"), t);
    ck_assert_ptr_null(ps_gguf_find_tensor(set, "c"));
    ps_gguf_close(set);
}

START_TEST(a_file_may_hold_no_tensor)
{
    gguf_file f = {0};
    gguf_file_text(&f, "general.architecture", "llama");
    gguf_file_write(&f, FILE_NAME);
    gguf_file_release(&f);
    ps_gguf *set = open_good(FILE_NAME);
    ck_assert_int_eq(ps_gguf_count(set), 0);
    ck_assert_ptr_null(ps_gguf_find_tensor(set, ""));
    ps_gguf_close(set);
}

START_TEST(a_file_may_hold_nothing)
{
    gguf_file f = {0};
    gguf_file_write(&f, FILE_NAME);
    gguf_file_release(&f);
    ps_gguf *set = open_good(FILE_NAME);
    ck_assert_int_eq(ps_gguf_key_count(set), 0);
    ck_assert_ptr_null(ps_gguf_find(set, "general.architecture"));
    ps_gguf_close(set);
}

START_TEST(version_2_is_read_as_version_3)
{
    gguf_file f = {.version = 2};
    gguf_file_tensor(&f, "a", F32, 1, (uint64_t[]){1}, numbers, 4);
    gguf_file_write(&f, FILE_NAME);
    gguf_file_release(&f);
    ps_gguf *set = open_good(FILE_NAME);
    ck_assert_int_eq(ps_gguf_count(set), 1);
    ps_gguf_close(set);
}

START_TEST(the_alignment_is_that_of_the_file)
{
    gguf_file f = {.alignment = 8};
    gguf_file_int(&f, "general.alignment", PS_GGUF_U32, 8);
    gguf_file_tensor(&f, "a", F32, 1, (uint64_t[]){1}, numbers, 4);
    gguf_file_tensor(&f, "b", F32, 1, (uint64_t[]){2}, numbers + 4, 8);
    gguf_file_write(&f, FILE_NAME);
    gguf_file_release(&f);
    ps_gguf *set = open_good(FILE_NAME);
    ck_assert_mem_eq(ps_gguf_find_tensor(set, "b")->data, numbers + 4, 8);
    ps_gguf_close(set);
}

START_TEST(the_end_may_be_padded)
{
    gguf_file f = {0};
    gguf_file_tensor(&f, "a", F32, 1, (uint64_t[]){1}, numbers, 32);
    gguf_file_write(&f, FILE_NAME);
    gguf_file_release(&f);
    ps_gguf *set = open_good(FILE_NAME);
    ck_assert_uint_eq(ps_gguf_at(set, 0)->bytes, 4);
    ps_gguf_close(set);
}

START_TEST(infos_may_come_in_another_order_than_the_data)
{
    gguf_file f = {0};
    gguf_file_info(&f, "late", F32, 1, (uint64_t[]){1}, 32);
    gguf_file_info(&f, "early", F32, 0, NULL, 0);
    ps_text_append(&f.data, numbers, 36);
    gguf_file_write(&f, FILE_NAME);
    gguf_file_release(&f);
    ps_gguf *set = open_good(FILE_NAME);
    ck_assert_str_eq(ps_gguf_at(set, 0)->name, "early");
    ck_assert_int_eq(ps_gguf_at(set, 0)->n_dims, 0);
    ck_assert_uint_eq(ps_gguf_at(set, 0)->bytes, 4);
    ck_assert_str_eq(ps_gguf_at(set, 1)->name, "late");
    ps_gguf_close(set);
}

START_TEST(many_tensors_and_keys_are_all_found)
{
    gguf_file f = {0};
    char name[32];
    for (int i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "t%d", i);
        gguf_file_int(&f, name, PS_GGUF_I32, i);
        gguf_file_tensor(&f, name, F32, 1, (uint64_t[]){1}, &i, 4);
    }
    gguf_file_write(&f, FILE_NAME);
    gguf_file_release(&f);
    ps_gguf *set = open_good(FILE_NAME);
    for (int i = 0; i < 2000; i++) {
        int64_t value = -1;
        snprintf(name, sizeof name, "t%d", i);
        assert_ok(ps_gguf_find_int(set, name, 0, 1999, &value));
        ck_assert_int_eq(value, i);
        ck_assert_mem_eq(ps_gguf_find_tensor(set, name)->data, &i, 4);
    }
    ps_gguf_close(set);
}

START_TEST(closing_nothing_is_allowed)
{
    ps_gguf_close(NULL);
}

/* ---- metadata ---- */

START_TEST(integers_of_every_width_and_sign_are_read)
{
    static const struct {
        ps_gguf_kind kind;
        int64_t low, high;
    } all[] = {{PS_GGUF_U8, 0, 255},         {PS_GGUF_I8, -128, 127},
               {PS_GGUF_U16, 0, 65535},      {PS_GGUF_I16, -32768, 32767},
               {PS_GGUF_U32, 0, UINT32_MAX}, {PS_GGUF_I32, INT32_MIN, INT32_MAX},
               {PS_GGUF_U64, 0, INT64_MAX},  {PS_GGUF_I64, INT64_MIN, INT64_MAX}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        gguf_file f = {0};
        gguf_file_int(&f, "low", all[i].kind, all[i].low);
        gguf_file_int(&f, "high", all[i].kind, all[i].high);
        gguf_file_write(&f, FILE_NAME);
        gguf_file_release(&f);
        ps_gguf *set = open_good(FILE_NAME);
        int64_t low = 1, high = 1;
        double real = 0.5;
        assert_ok(ps_gguf_find_int(set, "low", INT64_MIN, INT64_MAX, &low));
        assert_ok(ps_gguf_find_int(set, "high", INT64_MIN, INT64_MAX, &high));
        assert_ok(ps_gguf_find_real(set, "high", &real));
        ck_assert_int_eq(low, all[i].low);
        ck_assert_int_eq(high, all[i].high);
        ck_assert(real == (double)all[i].high);
        ps_gguf_close(set);
    }
}

START_TEST(a_key_that_is_not_there_leaves_the_value_alone)
{
    gguf_file f = {0};
    gguf_file_write(&f, FILE_NAME);
    ps_gguf *set = open_good(FILE_NAME);
    int64_t integer = 7;
    double real = 0.5;
    bool boolean = true;
    const char *text = "x";
    const ps_gguf_value *array;
    assert_ok(ps_gguf_find_int(set, "a", 0, 1, &integer));
    assert_ok(ps_gguf_find_real(set, "a", &real));
    assert_ok(ps_gguf_find_bool(set, "a", &boolean));
    assert_ok(ps_gguf_find_text(set, "a", &text));
    assert_ok(ps_gguf_find_array(set, "a", PS_GGUF_STRING, &array));
    ck_assert_int_eq(integer, 7);
    ck_assert(real == 0.5);
    ck_assert(boolean);
    ck_assert_str_eq(text, "x");
    ck_assert_ptr_null(array);
    ps_gguf_close(set);
}

START_TEST(reals_booleans_and_texts_are_read)
{
    gguf_file f = {0};
    gguf_file_real(&f, "f32", PS_GGUF_F32, 0.1);
    gguf_file_real(&f, "f64", PS_GGUF_F64, 0.1);
    gguf_file_int(&f, "yes", PS_GGUF_BOOL, 1);
    gguf_file_int(&f, "no", PS_GGUF_BOOL, 0);
    gguf_file_text(&f, "text", "ein Text");
    gguf_file_text(&f, "empty", "");
    gguf_file_write(&f, FILE_NAME);
    gguf_file_release(&f);
    ps_gguf *set = open_good(FILE_NAME);
    double real = 0.0;
    bool boolean = false;
    const char *text = NULL;
    assert_ok(ps_gguf_find_real(set, "f32", &real));
    ck_assert(real == (double)0.1f);
    assert_ok(ps_gguf_find_real(set, "f64", &real));
    ck_assert(real == 0.1);
    assert_ok(ps_gguf_find_bool(set, "yes", &boolean));
    ck_assert(boolean);
    assert_ok(ps_gguf_find_bool(set, "no", &boolean));
    ck_assert(!boolean);
    assert_ok(ps_gguf_find_text(set, "text", &text));
    ck_assert_str_eq(text, "ein Text");
    assert_ok(ps_gguf_find_text(set, "empty", &text));
    ck_assert_str_eq(text, "");
    ps_gguf_close(set);
}

START_TEST(arrays_are_read)
{
    gguf_file f = {0};
    gguf_file_ints(&f, "ints", PS_GGUF_I16, 3, (int64_t[]){-1, 0, 300});
    gguf_file_ints(&f, "flags", PS_GGUF_BOOL, 2, (int64_t[]){1, 0});
    gguf_file_reals(&f, "reals", 2, (float[]){0.5f, -2.0f});
    gguf_file_texts(&f, "texts", 3, (const char *[]){"a", "", "bcd"});
    gguf_file_texts(&f, "none", 0, NULL);
    gguf_file_write(&f, FILE_NAME);
    gguf_file_release(&f);
    ps_gguf *set = open_good(FILE_NAME);
    const ps_gguf_value *v;
    assert_ok(ps_gguf_find_array(set, "ints", PS_GGUF_I64, &v));
    ck_assert_uint_eq(v->n, 3);
    ck_assert_int_eq(ps_gguf_int_at(v, 0), -1);
    ck_assert_int_eq(ps_gguf_int_at(v, 2), 300);
    assert_ok(ps_gguf_find_array(set, "flags", PS_GGUF_BOOL, &v));
    ck_assert_int_eq(ps_gguf_int_at(v, 0), 1);
    ck_assert_int_eq(ps_gguf_int_at(v, 1), 0);
    assert_ok(ps_gguf_find_array(set, "reals", PS_GGUF_F64, &v));
    ck_assert(ps_gguf_real_at(v, 0) == 0.5 && ps_gguf_real_at(v, 1) == -2.0);
    assert_ok(ps_gguf_find_array(set, "texts", PS_GGUF_STRING, &v));
    size_t cursor = 0, n;
    const char *bytes;
    ck_assert(ps_gguf_next_string(v, &cursor, &bytes, &n));
    ck_assert_uint_eq(n, 1);
    ck_assert_mem_eq(bytes, "a", 1);
    ck_assert(ps_gguf_next_string(v, &cursor, &bytes, &n));
    ck_assert_uint_eq(n, 0);
    ck_assert(ps_gguf_next_string(v, &cursor, &bytes, &n));
    ck_assert_uint_eq(n, 3);
    ck_assert_mem_eq(bytes, "bcd", 3);
    ck_assert(!ps_gguf_next_string(v, &cursor, &bytes, &n));
    assert_ok(ps_gguf_find_array(set, "none", PS_GGUF_STRING, &v));
    cursor = 0;
    ck_assert(!ps_gguf_next_string(v, &cursor, &bytes, &n));
    ps_gguf_close(set);
}

START_TEST(values_of_another_kind_or_out_of_range_are_refused)
{
    gguf_file f = {0};
    gguf_file_int(&f, "int", PS_GGUF_U32, 9);
    gguf_file_int(&f, "huge", PS_GGUF_U64, -1);
    gguf_file_int(&f, "bool", PS_GGUF_BOOL, 1);
    gguf_file_real(&f, "real", PS_GGUF_F32, 1.5);
    gguf_file_raw(&f, "nul", PS_GGUF_STRING, "\2\0\0\0\0\0\0\0a\0", 10);
    gguf_file_ints(&f, "ints", PS_GGUF_I32, 1, (int64_t[]){1});
    gguf_file_write(&f, FILE_NAME);
    gguf_file_release(&f);
    ps_gguf *set = open_good(FILE_NAME);
    int64_t i = 0;
    double r = 0.0;
    bool b = false;
    const char *t = NULL;
    const ps_gguf_value *v;
    ck_assert_int_eq(ps_gguf_find_int(set, "int", 10, 20, &i), PS_ERR_FORMAT);
    assert_message(FILE_NAME ": key int is 9, wanted 10..20");
    ck_assert_int_eq(ps_gguf_find_int(set, "huge", 0, INT64_MAX, &i), PS_ERR_FORMAT);
    assert_message(FILE_NAME ": key huge is over 9223372036854775807, wanted "
                             "0..9223372036854775807");
    ck_assert_int_eq(ps_gguf_find_int(set, "real", 0, 1, &i), PS_ERR_FORMAT);
    assert_message(FILE_NAME ": key real is a real, wanted an integer");
    ck_assert_int_eq(ps_gguf_find_int(set, "bool", 0, 1, &i), PS_ERR_FORMAT);
    assert_message(FILE_NAME ": key bool is a boolean, wanted an integer");
    ck_assert_int_eq(ps_gguf_find_int(set, "ints", 0, 1, &i), PS_ERR_FORMAT);
    assert_message(FILE_NAME ": key ints is an array, each an integer, wanted an integer");
    ck_assert_int_eq(ps_gguf_find_real(set, "nul", &r), PS_ERR_FORMAT);
    assert_message(FILE_NAME ": key nul is a string, wanted a real");
    ck_assert_int_eq(ps_gguf_find_bool(set, "int", &b), PS_ERR_FORMAT);
    assert_message(FILE_NAME ": key int is an integer, wanted a boolean");
    ck_assert_int_eq(ps_gguf_find_text(set, "int", &t), PS_ERR_FORMAT);
    assert_message(FILE_NAME ": key int is an integer, wanted a string");
    ck_assert_int_eq(ps_gguf_find_text(set, "nul", &t), PS_ERR_FORMAT);
    assert_message(FILE_NAME ": key nul holds a NUL character");
    ck_assert_int_eq(ps_gguf_find_array(set, "int", PS_GGUF_I64, &v), PS_ERR_FORMAT);
    assert_message(FILE_NAME ": key int is an integer, wanted an array, each an integer");
    ck_assert_int_eq(ps_gguf_find_array(set, "ints", PS_GGUF_STRING, &v), PS_ERR_FORMAT);
    assert_message(FILE_NAME
                   ": key ints is an array, each an integer, wanted an array, each a string");
    ps_gguf_close(set);
}

START_TEST(keys_that_were_asked_for_are_marked)
{
    gguf_file f = {0};
    gguf_file_int(&f, "b", PS_GGUF_U32, 1);
    gguf_file_int(&f, "a", PS_GGUF_U32, 1);
    gguf_file_write(&f, FILE_NAME);
    gguf_file_release(&f);
    ps_gguf *set = open_good(FILE_NAME);
    int64_t value = 0;
    assert_ok(ps_gguf_find_int(set, "a", 0, 1, &value));
    ck_assert_int_eq(ps_gguf_key_count(set), 2);
    ck_assert_str_eq(ps_gguf_key_at(set, 0)->key, "b");
    ck_assert(!ps_gguf_key_is_used(set, 0));
    ck_assert(ps_gguf_key_is_used(set, 1));
    ps_gguf_close(set);
}

/* ---- refusals ---- */

START_TEST(what_is_no_gguf_file_is_refused)
{
    refuse_bytes("", 0, PS_ERR_FORMAT, FILE_NAME ": does not begin with GGUF");
    refuse_bytes("GGU", 3, PS_ERR_FORMAT, FILE_NAME ": does not begin with GGUF");
    refuse_bytes("GGML\3\0\0\0", 8, PS_ERR_FORMAT, FILE_NAME ": does not begin with GGUF");
    refuse_bytes("version https://git-lfs.github.com/spec/v1\n", 43, PS_ERR_FORMAT,
                 FILE_NAME ": is a Git LFS pointer, the weights were not fetched");
    refuse_path("nowhere", PS_ERR_IO, "nowhere: cannot open: No such file or directory");
}

START_TEST(other_versions_are_refused)
{
    refuse_bytes("GGUF\1\0\0\0\0\0\0\0\0\0\0\0", 16, PS_ERR_UNSUPPORTED,
                 FILE_NAME ": is GGUF version 1, wanted 2 or 3");
    refuse_bytes("GGUF\4\0\0\0", 8, PS_ERR_UNSUPPORTED,
                 FILE_NAME ": is GGUF version 4, wanted 2 or 3");
    refuse_bytes("GGUF\0\0\0\0", 8, PS_ERR_UNSUPPORTED,
                 FILE_NAME ": is GGUF version 0, wanted 2 or 3");
    refuse_bytes("GGUF\0\0\0\3\0\0\0\0", 12, PS_ERR_UNSUPPORTED,
                 FILE_NAME ": is a big-endian GGUF file, only little-endian ones are read here");
}

START_TEST(counts_that_the_file_cannot_hold_are_refused)
{
    gguf_file f = {.n_tensors = 1};
    refuse(&f, PS_ERR_FORMAT, FILE_NAME ": 1 tensors in a file of 24 bytes");
    f.n_keys = 1;
    refuse(&f, PS_ERR_FORMAT, FILE_NAME ": 1 keys in a file of 24 bytes");
    f.n_tensors = UINT64_MAX;
    refuse(&f, PS_ERR_FORMAT, FILE_NAME ": 18446744073709551615 tensors in a file of 24 bytes");
}

START_TEST(too_many_tensors_and_keys_are_refused)
{
    ps_text bytes = {0};
    gguf_file f = {.n_tensors = PS_GGUF_MAX_TENSORS + 1};
    bytes = gguf_file_bytes(&f);
    char *zeros = ps_mem_new((size_t)(PS_GGUF_MAX_TENSORS + 1) * 24, 1);
    ps_text_append(&bytes, zeros, (size_t)(PS_GGUF_MAX_TENSORS + 1) * 24);
    refuse_bytes(bytes.data, bytes.len, PS_ERR_LIMIT,
                 FILE_NAME ": 1048577 tensors, wanted at most 1048576");
    memset(bytes.data + 8, 0, 8);
    memcpy(bytes.data + 16, "\1\0\x10\0\0\0\0\0", 8);
    refuse_bytes(bytes.data, bytes.len, PS_ERR_LIMIT,
                 FILE_NAME ": 1048577 keys, wanted at most 1048576");
    ps_mem_free(zeros);
    ps_text_release(&bytes);
}

START_TEST(bad_keys_are_refused)
{
    gguf_file f = {0};
    gguf_file_int(&f, "", PS_GGUF_U8, 1);
    refuse(&f, PS_ERR_FORMAT, FILE_NAME ": a key of 0 bytes at offset 24, wanted 1..65535");
    gguf_file_int(&f, "a\nb", PS_GGUF_U8, 1);
    refuse(&f, PS_ERR_FORMAT, FILE_NAME ": a key at offset 32 holds the control character 10");
    gguf_file_int(&f, "twice", PS_GGUF_U8, 1);
    gguf_file_int(&f, "once", PS_GGUF_U8, 1);
    gguf_file_int(&f, "twice", PS_GGUF_U32, 1);
    refuse(&f, PS_ERR_FORMAT, FILE_NAME ": key twice is there twice");
    gguf_file_raw(&f, "odd", 13, "\0\0\0\0\0\0\0\0", 8);
    refuse(&f, PS_ERR_FORMAT, FILE_NAME ": key odd is of kind 13, which is not known");
    gguf_file_int(&f, "flag", PS_GGUF_BOOL, 2);
    refuse(&f, PS_ERR_FORMAT, FILE_NAME ": key flag holds the boolean 2, wanted 0 or 1");
    gguf_file_raw(&f, "nested", PS_GGUF_ARRAY, "\x9\0\0\0\0\0\0\0\0\0\0\0", 12);
    refuse(&f, PS_ERR_UNSUPPORTED,
           FILE_NAME ": key nested is an array of arrays, which is not read here");
}

START_TEST(a_key_of_65535_bytes_is_read_and_a_longer_one_refused)
{
    char *key = ps_mem_new(65537, 1);
    memset(key, 'k', 65535);
    gguf_file f = {0};
    gguf_file_int(&f, key, PS_GGUF_U8, 5);
    gguf_file_write(&f, FILE_NAME);
    gguf_file_release(&f);
    ps_gguf *set = open_good(FILE_NAME);
    ck_assert_ptr_nonnull(ps_gguf_find(set, key));
    ps_gguf_close(set);
    key[65535] = 'k';
    gguf_file_int(&f, key, PS_GGUF_U8, 5);
    refuse(&f, PS_ERR_FORMAT, FILE_NAME ": a key of 65536 bytes at offset 24, wanted 1..65535");
    ps_mem_free(key);
}

START_TEST(values_longer_than_the_file_are_refused)
{
    gguf_file f = {0};
    gguf_file_raw(&f, "k", PS_GGUF_U64, "\0\0\0\0", 4);
    refuse(&f, PS_ERR_FORMAT,
           FILE_NAME ": the value of key k wants 8 bytes at offset 37 of a file of 41");
    gguf_file_raw(&f, "k", PS_GGUF_STRING, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    refuse(&f, PS_ERR_FORMAT,
           FILE_NAME ": the value of key k wants 18446744073709551615 bytes at offset 45 of a "
                     "file of 45");
    // 2^61 values of 8 bytes would be 0 bytes modulo 2^64.
    gguf_file_raw(&f, "k", PS_GGUF_ARRAY, "\xa\0\0\0\0\0\0\0\0\0\0\x20", 12);
    refuse(&f, PS_ERR_FORMAT,
           FILE_NAME ": the value of key k wants 18446744073709551615 bytes at offset 49 of a "
                     "file of 49");
    gguf_file_raw(&f, "k", PS_GGUF_ARRAY, "\x8\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
    refuse(&f, PS_ERR_FORMAT,
           FILE_NAME ": the value of key k wants 8 bytes at offset 57 of a file of 57");
}

START_TEST(bad_tensor_infos_are_refused)
{
    gguf_file f = {0};
    gguf_file_tensor(&f, "t", F32, 5, (uint64_t[]){1, 1, 1, 1, 1}, numbers, 4);
    refuse(&f, PS_ERR_FORMAT, FILE_NAME ": tensor t: 5 dimensions, wanted at most 4");
    gguf_file_tensor(&f, "t", F32, 2, (uint64_t[]){1, 0}, numbers, 4);
    refuse(&f, PS_ERR_FORMAT, FILE_NAME ": tensor t: dimension 1 is 0, wanted at least 1");
    gguf_file_tensor(&f, "t", F32, 1, (uint64_t[]){UINT64_MAX}, numbers, 4);
    refuse(&f, PS_ERR_FORMAT,
           FILE_NAME ": tensor t: dimension 0 is 18446744073709551615, wanted at least 1 and "
                     "less than 2^63");
    gguf_file_tensor(&f, "t", 99, 1, (uint64_t[]){1}, numbers, 4);
    refuse(&f, PS_ERR_UNSUPPORTED, FILE_NAME ": tensor t: type 99 is not known");
    gguf_file_tensor(&f, "t", 4, 1, (uint64_t[]){1}, numbers, 4); // Q4_2, withdrawn
    refuse(&f, PS_ERR_UNSUPPORTED, FILE_NAME ": tensor t: type 4 is not known");
    gguf_file_tensor(&f, "t", Q4_K, 2, (uint64_t[]){640, 2}, numbers, 1024);
    refuse(&f, PS_ERR_FORMAT,
           FILE_NAME ": tensor t: rows of 640 values are no whole Q4_K blocks of 256");
    gguf_file_tensor(&f, "t", Q8_0, 0, NULL, numbers, 34);
    refuse(&f, PS_ERR_FORMAT,
           FILE_NAME ": tensor t: rows of 1 values are no whole Q8_0 blocks of 32");
    // 2^32 * 2^32 would be 0 modulo 2^64.
    gguf_file_tensor(&f, "t", F16, 2, (uint64_t[]){1ull << 32, 1ull << 32}, numbers, 4);
    refuse(&f, PS_ERR_FORMAT, FILE_NAME ": tensor t: the product of its shape overflows");
    gguf_file_tensor(&f, "t", F32, 1, (uint64_t[]){1ull << 62}, numbers, 4);
    refuse(&f, PS_ERR_FORMAT, FILE_NAME ": tensor t: the product of its shape overflows");
    gguf_file_tensor(&f, "t", F32, 1, (uint64_t[]){1}, numbers, 4);
    gguf_file_tensor(&f, "t", F32, 1, (uint64_t[]){1}, numbers, 4);
    refuse(&f, PS_ERR_FORMAT, FILE_NAME ": tensor t is there twice");
}

START_TEST(names_have_a_limit)
{
    char name[PS_GGUF_MAX_NAME_BYTES + 2] = {0};
    memset(name, 'n', PS_GGUF_MAX_NAME_BYTES);
    gguf_file f = {0};
    gguf_file_tensor(&f, name, F32, 1, (uint64_t[]){1}, numbers, 4);
    gguf_file_write(&f, FILE_NAME);
    gguf_file_release(&f);
    ps_gguf *set = open_good(FILE_NAME);
    ck_assert_ptr_nonnull(ps_gguf_find_tensor(set, name));
    ps_gguf_close(set);
    name[PS_GGUF_MAX_NAME_BYTES] = 'n';
    gguf_file_tensor(&f, name, F32, 1, (uint64_t[]){1}, numbers, 4);
    refuse(&f, PS_ERR_FORMAT,
           FILE_NAME ": a tensor's name of 513 bytes at offset 24, wanted 1..512");
}

START_TEST(tensors_that_lie_wrong_are_refused)
{
    gguf_file f = {0};
    gguf_file_info(&f, "t", F32, 1, (uint64_t[]){1}, 4);
    ps_text_append(&f.data, numbers, 64);
    refuse(&f, PS_ERR_FORMAT,
           FILE_NAME ": tensor t: offset 4 is not a multiple of the alignment 32");
    gguf_file_tensor(&f, "t", F32, 1, (uint64_t[]){9}, numbers, 32);
    refuse(&f, PS_ERR_FORMAT,
           FILE_NAME ": tensor t: 36 bytes at offset 0 are not inside the 32 bytes of data");
    gguf_file_info(&f, "t", F32, 1, (uint64_t[]){1}, UINT64_MAX - 31);
    ps_text_append(&f.data, numbers, 32);
    refuse(&f, PS_ERR_FORMAT,
           FILE_NAME ": tensor t: 4 bytes at offset 18446744073709551584 are not inside the 32 "
                     "bytes of data");
    gguf_file_info(&f, "a", F32, 1, (uint64_t[]){9}, 0);
    gguf_file_info(&f, "b", F32, 1, (uint64_t[]){9}, 32);
    ps_text_append(&f.data, numbers, 128);
    refuse(&f, PS_ERR_FORMAT, FILE_NAME ": tensors a and b overlap");
    gguf_file_info(&f, "b", F32, 1, (uint64_t[]){1}, 0);
    gguf_file_info(&f, "a", F32, 1, (uint64_t[]){1}, 0);
    ps_text_append(&f.data, numbers, 32);
    refuse(&f, PS_ERR_FORMAT, FILE_NAME ": tensors a and b overlap");
    gguf_file_info(&f, "a", F32, 1, (uint64_t[]){1}, 0);
    gguf_file_info(&f, "b", F32, 1, (uint64_t[]){1}, 96);
    ps_text_append(&f.data, numbers, 128);
    refuse(&f, PS_ERR_FORMAT, FILE_NAME ": a hole of 64 bytes before tensor b");
    gguf_file_tensor(&f, "t", F32, 1, (uint64_t[]){1}, numbers, 36);
    refuse(&f, PS_ERR_FORMAT, FILE_NAME ": 32 bytes of data belong to no tensor");
    gguf_file_info(&f, "t", F32, 1, (uint64_t[]){1}, 0);
    refuse(&f, PS_ERR_FORMAT,
           FILE_NAME ": tensor t: 4 bytes at offset 0 are not inside the 0 bytes of data");
}

START_TEST(bad_alignments_are_refused)
{
    gguf_file f = {0};
    gguf_file_int(&f, "general.alignment", PS_GGUF_U32, 24);
    refuse(&f, PS_ERR_FORMAT, FILE_NAME ": key general.alignment is 24, wanted a power of two");
    gguf_file_int(&f, "general.alignment", PS_GGUF_U32, 0);
    refuse(&f, PS_ERR_FORMAT, FILE_NAME ": key general.alignment is 0, wanted 1..1048576");
    gguf_file_text(&f, "general.alignment", "32");
    refuse(&f, PS_ERR_FORMAT, FILE_NAME ": key general.alignment is a string, wanted an integer");
}

START_TEST(every_type_of_data_has_its_size)
{
    for (int type = 0; type < 64; type++) {
        const char *name = ps_gguf_type_name(type);
        ck_assert((name != NULL) == (ps_gguf_type_block_bytes(type) > 0));
        if (!name) continue;
        const uint64_t row = ps_gguf_type_block_values(type);
        const size_t bytes = 2 * ps_gguf_type_block_bytes(type);
        ck_assert_uint_le(bytes, sizeof numbers);
        gguf_file f = {0};
        gguf_file_tensor(&f, "t", (uint32_t)type, 2, (uint64_t[]){row, 2}, numbers, bytes);
        gguf_file_write(&f, FILE_NAME);
        gguf_file_release(&f);
        ps_gguf *set = open_good(FILE_NAME);
        ck_assert_int_eq(ps_gguf_at(set, 0)->type, type);
        ck_assert_uint_eq(ps_gguf_at(set, 0)->bytes, bytes);
        ps_gguf_close(set);
    }
    ck_assert_ptr_null(ps_gguf_type_name(-1));
}

/* ---- split models ---- */

#define PART_1 "m-00001-of-00002.gguf"
#define PART_2 "m-00002-of-00002.gguf"

static void write_part(const char *path, const char *tensor, int no, int count, int n_tensors)
{
    gguf_file f = {0};
    gguf_file_int(&f, "split.no", PS_GGUF_U16, no);
    gguf_file_int(&f, "split.count", PS_GGUF_U16, count);
    gguf_file_int(&f, "split.tensors.count", PS_GGUF_I32, n_tensors);
    if (no == 0) gguf_file_text(&f, "general.name", "split");
    gguf_file_tensor(&f, tensor, F32, 1, (uint64_t[]){1}, numbers + no, 4);
    gguf_file_write(&f, path);
    gguf_file_release(&f);
}

START_TEST(the_parts_of_a_split_model_are_one)
{
    write_part(PART_1, "a", 0, 2, 2);
    write_part(PART_2, "b", 1, 2, 2);
    ps_gguf *set = open_good(PART_1);
    ck_assert_int_eq(ps_gguf_count(set), 2);
    ck_assert_mem_eq(ps_gguf_find_tensor(set, "a")->data, numbers, 4);
    ck_assert_mem_eq(ps_gguf_find_tensor(set, "b")->data, numbers + 1, 4);
    ck_assert_str_eq(ps_gguf_file(set, ps_gguf_find_tensor(set, "b")), PART_2);
    const char *name = NULL;
    assert_ok(ps_gguf_find_text(set, "general.name", &name));
    ck_assert_str_eq(name, "split");
    ps_gguf_close(set);
}

START_TEST(a_model_of_one_part_may_have_any_name)
{
    write_part(FILE_NAME, "a", 0, 1, 1);
    ps_gguf *set = open_good(FILE_NAME);
    ck_assert_int_eq(ps_gguf_count(set), 1);
    ps_gguf_close(set);
}

START_TEST(a_missing_part_is_named)
{
    write_part(PART_1, "a", 0, 2, 2);
    refuse_path(PART_1, PS_ERR_IO, PART_2 ": part 2 of 2: No such file or directory");
}

START_TEST(a_later_part_alone_is_refused)
{
    write_part(PART_1, "a", 0, 2, 2);
    write_part(PART_2, "b", 1, 2, 2);
    refuse_path(PART_2, PS_ERR_USAGE, PART_2 ": is part 2 of 2, give the first one");
}

START_TEST(a_first_part_of_another_name_is_refused)
{
    write_part(FILE_NAME, "a", 0, 2, 2);
    refuse_path(FILE_NAME, PS_ERR_FORMAT,
                FILE_NAME
                ": is the first of 2 parts, so its name must end in -00001-of-00002.gguf");
}

START_TEST(a_part_that_says_something_else_is_refused)
{
    write_part(PART_1, "a", 0, 2, 2);
    write_part(PART_2, "b", 0, 2, 2);
    refuse_path(PART_1, PS_ERR_FORMAT,
                PART_2 ": says that it is part 1 of 2 with 2 tensors in all, wanted part 2 of 2 "
                       "with 2");
    write_part(PART_2, "b", 1, 3, 2);
    refuse_path(PART_1, PS_ERR_FORMAT,
                PART_2 ": says that it is part 2 of 3 with 2 tensors in all, wanted part 2 of 2 "
                       "with 2");
    write_part(PART_2, "b", 1, 2, 5);
    refuse_path(PART_1, PS_ERR_FORMAT,
                PART_2 ": says that it is part 2 of 2 with 5 tensors in all, wanted part 2 of 2 "
                       "with 2");
    gguf_file f = {0};
    gguf_file_tensor(&f, "b", F32, 1, (uint64_t[]){1}, numbers, 4);
    gguf_file_write(&f, PART_2);
    gguf_file_release(&f);
    refuse_path(PART_1, PS_ERR_FORMAT,
                PART_2 ": says that it is part 1 of 1 with -1 tensors in all, wanted part 2 of 2 "
                       "with 2");
}

START_TEST(a_wrong_number_of_tensors_is_refused)
{
    write_part(PART_1, "a", 0, 2, 3);
    write_part(PART_2, "b", 1, 2, 3);
    refuse_path(PART_1, PS_ERR_FORMAT,
                PART_1 ": 2 tensors in 2 parts, key split.tensors.count says 3");
}

START_TEST(a_tensor_in_two_parts_is_refused)
{
    write_part(PART_1, "a", 0, 2, 2);
    write_part(PART_2, "a", 1, 2, 2);
    refuse_path(PART_1, PS_ERR_FORMAT, PART_2 ": tensor a is also in " PART_1);
}

int main(void)
{
    Suite *suite = suite_create("tool/gguf");
    TCase *good = scratch_case(suite, "good");
    tcase_add_test(good, a_file_gives_its_tensors_in_the_order_of_their_data);
    tcase_add_test(good, a_file_may_hold_no_tensor);
    tcase_add_test(good, a_file_may_hold_nothing);
    tcase_add_test(good, version_2_is_read_as_version_3);
    tcase_add_test(good, the_alignment_is_that_of_the_file);
    tcase_add_test(good, the_end_may_be_padded);
    tcase_add_test(good, infos_may_come_in_another_order_than_the_data);
    tcase_add_test(good, many_tensors_and_keys_are_all_found);
    tcase_add_test(good, closing_nothing_is_allowed);
    tcase_add_test(good, every_type_of_data_has_its_size);
    TCase *metadata = scratch_case(suite, "metadata");
    tcase_add_test(metadata, integers_of_every_width_and_sign_are_read);
    tcase_add_test(metadata, a_key_that_is_not_there_leaves_the_value_alone);
    tcase_add_test(metadata, reals_booleans_and_texts_are_read);
    tcase_add_test(metadata, arrays_are_read);
    tcase_add_test(metadata, values_of_another_kind_or_out_of_range_are_refused);
    tcase_add_test(metadata, keys_that_were_asked_for_are_marked);
    TCase *bad = scratch_case(suite, "bad");
    tcase_add_test(bad, what_is_no_gguf_file_is_refused);
    tcase_add_test(bad, other_versions_are_refused);
    tcase_add_test(bad, counts_that_the_file_cannot_hold_are_refused);
    tcase_add_test(bad, too_many_tensors_and_keys_are_refused);
    tcase_add_test(bad, bad_keys_are_refused);
    tcase_add_test(bad, a_key_of_65535_bytes_is_read_and_a_longer_one_refused);
    tcase_add_test(bad, values_longer_than_the_file_are_refused);
    tcase_add_test(bad, bad_tensor_infos_are_refused);
    tcase_add_test(bad, names_have_a_limit);
    tcase_add_test(bad, tensors_that_lie_wrong_are_refused);
    tcase_add_test(bad, bad_alignments_are_refused);
    TCase *parts = scratch_case(suite, "parts");
    tcase_add_test(parts, the_parts_of_a_split_model_are_one);
    tcase_add_test(parts, a_model_of_one_part_may_have_any_name);
    tcase_add_test(parts, a_missing_part_is_named);
    tcase_add_test(parts, a_later_part_alone_is_refused);
    tcase_add_test(parts, a_first_part_of_another_name_is_refused);
    tcase_add_test(parts, a_part_that_says_something_else_is_refused);
    tcase_add_test(parts, a_wrong_number_of_tensors_is_refused);
    tcase_add_test(parts, a_tensor_in_two_parts_is_refused);
    return scratch_run(suite);
}
