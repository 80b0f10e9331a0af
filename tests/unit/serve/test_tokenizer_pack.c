/* A tokenizer as bytes: the same comes out, and bytes that are damaged do no harm. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "support/tiny_tokenizer.h"

static const char unigram[] =
    "{\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"<unk>\", 0.0], "
    "[\"b\", -1.5], [\"ab\", -1.0], [\"a\", -2.0]]}";
static const char added[] =
    "[{\"id\": 200, \"content\": \"<s>\", \"special\": true}, {\"id\": 201, "
    "\"content\": \"x y\", \"lstrip\": true, \"normalized\": true}]";
static const char replace[] = "{\"type\": \"Replace\", \"pattern\": {\"String\": \"q\"}, "
                              "\"content\": \"a\"}";

/* Packed bytes of a small BPE (0) or Unigram (1) tokenizer. */
static void pack_tiny(int kind, ps_text *out)
{
    char *bpe = tiny_tokenizer_bpe("a b,ab a,b b", "");
    const tiny_tokenizer parts = {
        .model = kind == 0 ? bpe : unigram, .normalizer = replace, .added_tokens = added};
    ps_tokenizer *t;
    ck_assert_msg(tiny_tokenizer_open(&parts, &t) == PS_OK, "%s", ps_err_message());
    ps_tokenizer_pack(t, out);
    ps_tokenizer_free(t);
    ps_mem_free(bpe);
}

static void expect_ids(const ps_tokenizer *t, const char *text, const char *wanted)
{
    char *found = tiny_tokenizer_ids(t, text, false);
    ck_assert_str_eq(found, wanted);
    ps_mem_free(found);
}

START_TEST(what_was_packed_comes_out_the_same)
{
    ps_text packed = {0}, again = {0};
    ps_tokenizer *t;
    pack_tiny(_i, &packed);
    ck_assert_msg(ps_tokenizer_open(packed.data, packed.len, "packed", &t) == PS_OK, "%s",
                  ps_err_message());
    ps_tokenizer_pack(t, &again);
    ck_assert_uint_eq(packed.len, again.len);
    ck_assert_mem_eq(packed.data, again.data, packed.len);
    expect_ids(t, "ab<s>qb  x y", _i == 0 ? "128 200 128 201" : "2 200 2 201");
    ps_tokenizer_free(t);
    ps_text_release(&again);
    ps_text_release(&packed);
}
END_TEST

START_TEST(bytes_that_are_cut_short_are_refused)
{
    ps_text packed = {0};
    pack_tiny(_i, &packed);
    ps_text_append_char(&packed, 'x');
    for (size_t n = 0; n <= packed.len; n++) {
        ps_tokenizer *t;
        if (n + 1 == packed.len) continue; // whole
        char *copy = ps_mem_copy_bytes(packed.data, n);
        ck_assert_int_eq(ps_tokenizer_open(copy, n, "cut", &t), PS_ERR_FORMAT);
        ck_assert_ptr_null(t);
        ps_mem_free(copy);
    }
    ps_text_release(&packed);
}
END_TEST

/* Whatever a byte is changed to, the tokenizer opens and works, or is refused. */
START_TEST(bytes_that_are_damaged_do_no_harm)
{
    static const char text[] = "ab abba <s> x y q \xC3\xA9 <0x41> \xF0\x9F\x98\x80";
    static const unsigned char masks[] = {0x01, 0x80, 0xFF, 0x55};
    ps_text packed = {0};
    pack_tiny(_i, &packed);
    for (size_t i = 0; i < packed.len; i++) {
        for (size_t k = 0; k < sizeof masks; k++) {
            ps_tokenizer *t;
            char *copy = ps_mem_copy_bytes(packed.data, packed.len);
            copy[i] = (char)(copy[i] ^ (char)masks[k]);
            if (ps_tokenizer_open(copy, packed.len, "damaged", &t) == PS_OK) {
                ps_tokens ids = {0};
                ps_text out = {0};
                ck_assert_int_ge(ps_tokenizer_encode(t, text, sizeof text - 1, true, &ids), 0);
                ck_assert_int_ge(ps_tokenizer_decode(t, ids.ids, ids.n, false, &out), 0);
                ps_text_release(&out);
                ps_tokens_release(&ids);
            }
            ps_tokenizer_free(t);
            ps_mem_free(copy);
        }
    }
    ps_text_release(&packed);
}
END_TEST

/* Changes one u32 of the head or of a section and expects to be told. */
static void expect_refusal(int kind, size_t at, uint32_t value, const char *message)
{
    ps_text packed = {0};
    ps_tokenizer *t;
    pack_tiny(kind, &packed);
    for (int i = 0; i < 4; i++) {
        packed.data[at + (size_t)i] = (char)(value >> (8 * i));
    }
    ck_assert_int_ne(ps_tokenizer_open(packed.data, packed.len, "packed", &t), PS_OK);
    ck_assert_msg(strstr(ps_err_message(), message), "wanted %s\nfound  %s", message,
                  ps_err_message());
    ps_text_release(&packed);
}

START_TEST(what_is_wrong_is_named)
{
    expect_refusal(0, 8, 2, "packed: tokenizer of version 2, this program reads 1");
    expect_refusal(0, 12, 16 << 20, "its head says");
    // BPE: ids 0..130 have lengths; then 127 letters, ab, aba, bb; then the merges.
    const size_t merges = 8 + 4 * 11 + 2 * 131 + 127 + 2 + 3 + 2;
    expect_refusal(0, merges, 131, "packed: merge 0 makes");
    expect_refusal(0, merges, 0x80000000u, "which are not tokens");
    expect_refusal(0, merges + 12, UINT32_MAX, "which are not tokens");
    expect_refusal(0, merges + 3 * 16, 0x110000, "is of the characters 110000");
    // Unigram: lengths of 4 ids, 5 + 1 + 2 + 1 bytes; two added tokens of 3 bytes each.
    const size_t scores = 8 + 4 * 11 + 2 * 4 + 9 + 2 * 8 + 2 * 3;
    expect_refusal(1, scores + 4, 0x7FF80000u, "packed: token 0 has the score nan");
    expect_refusal(1, scores + 4 * 8, 1, "not all there in the order of their strings");
    expect_refusal(1, scores + 4 * 8, 99, "not all there in the order of their strings");
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("pack");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, what_was_packed_comes_out_the_same, 0, 2);
    tcase_add_loop_test(tcase, bytes_that_are_cut_short_are_refused, 0, 2);
    tcase_add_loop_test(tcase, bytes_that_are_damaged_do_no_harm, 0, 2);
    tcase_add_test(tcase, what_is_wrong_is_named);
    Suite *suite = suite_create("serve/tokenizer_pack");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
