/* Damaged GGUF files: cut, with changed bytes, with numbers put where others were. They must be
 * refused or read, but never crash. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "support/dice.h"
#include "support/gguf_file.h"
#include "support/scratch.h"

#define FILE_NAME "model.gguf"

/* A file with every kind of value, tensors of several types, and padding. */
static void build(gguf_file *f)
{
    static const char data[256] = {1, 2, 3};
    for (int kind = 0; kind < PS_GGUF_KIND_COUNT; kind++) {
        char key[16];
        snprintf(key, sizeof key, "kind.%d", kind);
        if (kind == PS_GGUF_STRING) {
            gguf_file_text(f, key, "some text");
        } else if (kind == PS_GGUF_ARRAY) {
            gguf_file_texts(f, key, 3, (const char *[]){"one", "", "three"});
        } else {
            gguf_file_int(f, key, (ps_gguf_kind)kind, 1);
        }
    }
    gguf_file_ints(f, "ints", PS_GGUF_U16, 4, (int64_t[]){1, 2, 3, 4});
    gguf_file_ints(f, "flags", PS_GGUF_BOOL, 2, (int64_t[]){0, 1});
    gguf_file_int(f, "general.alignment", PS_GGUF_U32, 32);
    gguf_file_int(f, "split.no", PS_GGUF_U16, 0);
    gguf_file_int(f, "split.count", PS_GGUF_U16, 1);
    gguf_file_int(f, "split.tensors.count", PS_GGUF_I32, 3);
    gguf_file_tensor(f, "a.weight", 2, 2, (uint64_t[]){32, 3}, data, 54);
    gguf_file_tensor(f, "b.bias", 0, 1, (uint64_t[]){5}, data, 20);
    gguf_file_tensor(f, "c", 8, 3, (uint64_t[]){32, 1, 2}, data, 68);
}

/* Looks at all that an opened file offers, so that a bad range would crash. */
static unsigned touch_all(ps_gguf *set)
{
    unsigned sum = 0;
    for (int i = 0; i < ps_gguf_count(set); i++) {
        const ps_gguf_tensor *t = ps_gguf_at(set, i);
        ck_assert_ptr_eq(ps_gguf_find_tensor(set, t->name), t);
        for (size_t k = 0; k < t->bytes; k++) {
            sum += t->data[k];
        }
    }
    for (int i = 0; i < ps_gguf_key_count(set); i++) {
        const ps_gguf_value *v = ps_gguf_key_at(set, i);
        int64_t integer;
        double real;
        bool boolean;
        const char *text;
        (void)!ps_gguf_find_int(set, v->key, INT64_MIN, INT64_MAX, &integer);
        (void)!ps_gguf_find_real(set, v->key, &real);
        (void)!ps_gguf_find_bool(set, v->key, &boolean);
        (void)!ps_gguf_find_text(set, v->key, &text);
        size_t cursor = 0, n;
        const char *bytes;
        while (v->kind == PS_GGUF_STRING && ps_gguf_next_string(v, &cursor, &bytes, &n)) {
            for (size_t k = 0; k < n; k++) {
                sum += (unsigned char)bytes[k];
            }
        }
        for (size_t k = 0; v->kind != PS_GGUF_STRING && k < v->n; k++) {
            sum += ps_gguf_real_at(v, k) > 0.0;
        }
    }
    return sum;
}

/* Opens a damaged file. It may still be good; else there is a message. */
static bool survive(const void *bytes, size_t n)
{
    scratch_write(FILE_NAME, bytes, n);
    ps_gguf *set;
    const ps_err err = ps_gguf_open(FILE_NAME, &set);
    if (err) {
        ck_assert_ptr_null(set);
        ck_assert_str_ne(ps_err_message(), "");
        ck_assert_ptr_null(strchr(ps_err_message(), '\n'));
        assert_mentions("model");
        return false;
    }
    touch_all(set);
    ps_gguf_close(set);
    return true;
}

START_TEST(a_file_cut_anywhere_is_refused)
{
    gguf_file f = {0};
    build(&f);
    ps_text bytes = gguf_file_bytes(&f);
    for (size_t n = 0; n < bytes.len; n += SCRATCH_SHARE) {
        ck_assert_msg(!survive(bytes.data, n), "cut at %zu", n);
    }
    ck_assert(survive(bytes.data, bytes.len));
    ps_text_release(&bytes);
    gguf_file_release(&f);
}

START_TEST(a_flipped_bit_of_the_head_does_no_harm)
{
    gguf_file f = {0};
    build(&f);
    ps_text bytes = gguf_file_bytes(&f);
    for (size_t i = 0; i < gguf_file_head_bytes(&f); i++) {
        const char kept = bytes.data[i];
        bytes.data[i] = (char)(kept ^ 1 << _i);
        survive(bytes.data, bytes.len);
        bytes.data[i] = kept;
    }
    ps_text_release(&bytes);
    gguf_file_release(&f);
}

START_TEST(a_number_put_anywhere_into_the_head_does_no_harm)
{
    static const uint64_t numbers[] = {0,          1,          255,        UINT32_MAX,
                                       UINT64_MAX, 1ull << 63, 1ull << 61, 0x7fffffffffffffff};
    gguf_file f = {0};
    build(&f);
    ps_text bytes = gguf_file_bytes(&f);
    const size_t head = gguf_file_head_bytes(&f);
    for (size_t i = 4; i + 8 <= head; i++) {
        char kept[8];
        memcpy(kept, bytes.data + i, 8);
        memcpy(bytes.data + i, &numbers[_i], 8);
        survive(bytes.data, bytes.len);
        memcpy(bytes.data + i, kept, 8);
    }
    ps_text_release(&bytes);
    gguf_file_release(&f);
}

START_TEST(several_random_bytes_do_no_harm)
{
    dice d = {.seed = (uint64_t)_i};
    gguf_file f = {0};
    build(&f);
    for (int round = 0; round < 300; round++) {
        ps_text bytes = gguf_file_bytes(&f);
        const int head = (int)gguf_file_head_bytes(&f);
        for (int n = 1 + dice_throw(&d, 4); n > 0; n--) {
            bytes.data[4 + dice_throw(&d, head - 4)] = (char)dice_throw(&d, 256);
        }
        survive(bytes.data, bytes.len);
        ps_text_release(&bytes);
    }
    gguf_file_release(&f);
}

START_TEST(random_bytes_behind_the_magic_do_no_harm)
{
    dice d = {.seed = (uint64_t)_i + 1000};
    for (int round = 0; round < 300; round++) {
        char bytes[128] = "GGUF\3";
        const int n = 9 + dice_throw(&d, (int)sizeof bytes - 9);
        for (int i = 8; i < n; i++) {
            // Small numbers get further into the file than large ones.
            bytes[i] = (char)(dice_throw(&d, 4) ? 0 : dice_throw(&d, 16));
        }
        survive(bytes, (size_t)n);
    }
}

int main(void)
{
    Suite *suite = suite_create("tool/gguf_damage");
    TCase *damage = scratch_case(suite, "damage");
    tcase_add_test(damage, a_file_cut_anywhere_is_refused);
    tcase_add_loop_test(damage, a_flipped_bit_of_the_head_does_no_harm, 0, 8);
    tcase_add_loop_test(damage, a_number_put_anywhere_into_the_head_does_no_harm, 0, 8);
    tcase_add_loop_test(damage, several_random_bytes_do_no_harm, 0, 20);
    tcase_add_loop_test(damage, random_bytes_behind_the_magic_do_no_harm, 0, 10);
    return scratch_run(suite);
}
