/* Ten megabytes on one line: the time must grow with the text, not with its square. The bound is
 * far above what is measured (0.2 to 2.5 s on one core), and far below what a quadratic step takes.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/mem.h"
#include "serve/tokenizer.h"
#include "support/golden_tokenizer.h"

// A sanitizer makes it ten times slower.
#ifdef __SANITIZE_ADDRESS__
enum { BYTES = 1000000 };
#else
enum { BYTES = 10000000 };
#endif
enum { BOUND_S = 20 };

/* A text without a blank, of one kind of characters. */
typedef enum filling { RANDOM_LETTERS, ONE_LETTER, BLANKS, MARKS } filling;

static const struct {
    const char *kind;
    filling filling;
} cases[] = {
    {"gpt2", RANDOM_LETTERS},   {"gpt-oss", BLANKS},         {"llama2-prepend", ONE_LETTER},
    {"t5-unigram", ONE_LETTER}, {"unigram-nmt-nfkc", MARKS}, {"bpe-suffix", RANDOM_LETTERS},
};

static void fill(filling how, ps_text *out)
{
    uint32_t state = 1;
    for (size_t i = 0; out->len < BYTES; i++) {
        state = state * 1664525u + 1013904223u;
        switch (how) {
        case RANDOM_LETTERS:
            ps_text_append_char(out, (char)('a' + (state >> 16) % 26));
            break;
        case ONE_LETTER:
            ps_text_append_char(out, 'a');
            break;
        case BLANKS:
            ps_text_append_char(out, ' ');
            break;
        default:
            ps_text_append_str(out, i % 2 ? "\xCC\x96" : "\xCC\x81");
        }
    }
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static ps_tokenizer *open_golden(const char *kind)
{
    ps_text path = {0}, json = {0};
    ps_tokenizer *t;
    ps_text_appendf(&path, "%s/tokenizers/%s/tokenizer.json", golden_root(), kind);
    ck_assert_int_eq(ps_file_read(path.data, 1 << 26, &json), PS_OK);
    ck_assert_int_eq(ps_tokenizer_open(json.data, json.len, path.data, &t), PS_OK);
    ps_text_release(&json);
    ps_text_release(&path);
    return t;
}

START_TEST(one_long_line_takes_seconds)
{
    ps_tokenizer *t = open_golden(cases[_i].kind);
    ps_text text = {0}, decoded = {0};
    ps_tokens ids = {0};
    fill(cases[_i].filling, &text);
    const double start = seconds();
    const ps_err err = ps_tokenizer_encode(t, text.data, text.len, false, &ids);
    ck_assert_msg(err == PS_OK, "%s: %s", cases[_i].kind, ps_err_message());
    ck_assert_int_eq(ps_tokenizer_decode(t, ids.ids, ids.n, false, &decoded), PS_OK);
    const double took = seconds() - start;
    ck_assert_msg(took < BOUND_S, "%s: %.1f s", cases[_i].kind, took);
    ck_assert_uint_gt(ids.n, 0);
    ps_tokens_release(&ids);
    ps_text_release(&decoded);
    ps_text_release(&text);
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(a_long_stream_takes_seconds)
{
    ps_tokenizer *t = open_golden("llama2-prepend");
    ps_detokenizer *d = ps_detokenizer_new(t, false);
    ps_text out = {0};
    const double start = seconds();
    for (int i = 0; i < BYTES / 5; i++) {
        ck_assert_int_eq(ps_detokenizer_push(d, 3 + i % 500, &out), PS_OK);
    }
    ck_assert_int_eq(ps_detokenizer_finish(d, &out), PS_OK);
    ck_assert_double_lt(seconds() - start, BOUND_S);
    ps_detokenizer_free(d);
    ps_text_release(&out);
    ps_tokenizer_free(t);
}
END_TEST

#define COUNT(array) (int)(sizeof(array) / sizeof *(array))

int main(void)
{
    TCase *tcase = tcase_create("speed");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, one_long_line_takes_seconds, 0, COUNT(cases));
    tcase_add_test(tcase, a_long_stream_takes_seconds);
    Suite *suite = suite_create("serve/tokenizer_speed");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
