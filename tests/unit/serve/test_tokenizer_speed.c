/* Ten megabytes on one line: the time must grow with the text, not with its square. The bound is
 * far above what is measured (0.2 to 5 s on one core), and far below what a quadratic step takes.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "tool/import/tokenizers.h"

// A sanitizer makes it ten times slower.
#ifdef __SANITIZE_ADDRESS__
enum { BYTES = 1000000, GRID_BYTES = 200000 };
#else
enum { BYTES = 10000000, GRID_BYTES = 3000000 };
#endif
enum { BOUND_S = 20 };

/* A text of one line, of one kind of characters. */
typedef enum filling {
    RANDOM_LETTERS,
    ONE_LETTER,
    BLANKS,
    MARKS,
    HAN,
    RANDOM_BYTES,
    N_FILLINGS
} filling;

static const struct {
    const char *kind;
    filling filling;
} cases[] = {
    {"gpt2", RANDOM_LETTERS},   {"gpt-oss", BLANKS},         {"llama2-prepend", ONE_LETTER},
    {"t5-unigram", ONE_LETTER}, {"unigram-nmt-nfkc", MARKS}, {"bpe-suffix", RANDOM_LETTERS},
};

/* Every kind of model with every filling, on shorter lines. */
static const char *const files[] = {
    "gpt2/tokenizer.json",       "llama3/tokenizer.json",         "deepseek-v3/vocab.gguf",
    "falcon/vocab.gguf",         "llama2-prepend/tokenizer.json", "gemma/tokenizer.json",
    "bpe-suffix/tokenizer.json", "t5-unigram/tokenizer.json",     "unigram-bytes/tokenizer.json",
    "spm-bpe/tokenizer.model",   "spm-bpe-nfkc/tokenizer.model",  "spm-unigram/tokenizer.model",
};

enum { N_FILES = sizeof files / sizeof *files };

static void fill(filling how, size_t n, ps_text *out)
{
    uint32_t state = 1;
    char bytes[4];
    for (size_t i = 0; out->len < n; i++) {
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
        case HAN:
            ps_text_append(out, bytes, ps_utf8_encode(0x4E00 + (state >> 8) % 20000, bytes));
            break;
        case RANDOM_BYTES:
            ps_text_append_char(out, (char)(state >> 16));
            break;
        default:
            ps_text_append_str(out, i % 2 ? "\xCC\x96" : "\xCC\x81");
        }
    }
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now); // other work on the machine does not count
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static ps_tokenizer *open_golden(const char *file)
{
    ps_text path = {0};
    ps_tokenizer *t;
    ps_text_appendf(&path, "tests/golden/tokenizers/%s", file);
    ck_assert_msg(ps_tokenizers_open(path.data, &t) == PS_OK, "%s", ps_err_message());
    ps_text_release(&path);
    return t;
}

static ps_tokenizer *open_kind(const char *kind)
{
    ps_text file = {0};
    ps_text_appendf(&file, "%s/tokenizer.json", kind);
    ps_tokenizer *t = open_golden(file.data);
    ps_text_release(&file);
    return t;
}

static void expect_in_time(const ps_tokenizer *t, const char *name, filling how, size_t n)
{
    ps_text text = {0}, decoded = {0};
    ps_tokens ids = {0};
    fill(how, n, &text);
    const double start = seconds();
    const ps_err err = ps_tokenizer_encode(t, text.data, text.len, false, &ids);
    ck_assert_msg(err == PS_OK, "%s: %s", name, ps_err_message());
    ck_assert_int_eq(ps_tokenizer_decode(t, ids.ids, ids.n, false, &decoded), PS_OK);
    const double took = seconds() - start;
    ck_assert_msg(took < BOUND_S, "%s, filling %d: %.1f s", name, (int)how, took);
    ps_tokens_release(&ids);
    ps_text_release(&decoded);
    ps_text_release(&text);
}

START_TEST(one_long_line_takes_seconds)
{
    ps_tokenizer *t = open_kind(cases[_i].kind);
    expect_in_time(t, cases[_i].kind, cases[_i].filling, BYTES);
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(no_model_is_slow_on_any_line)
{
    ps_tokenizer *t = open_golden(files[_i]);
    for (int how = 0; how < N_FILLINGS; how++) {
        expect_in_time(t, files[_i], (filling)how, GRID_BYTES);
    }
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(a_long_stream_takes_seconds)
{
    ps_tokenizer *t = open_kind("llama2-prepend");
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
    tcase_set_timeout(tcase, 300);
    tcase_add_loop_test(tcase, one_long_line_takes_seconds, 0, COUNT(cases));
    tcase_add_loop_test(tcase, no_model_is_slow_on_any_line, 0, N_FILES);
    tcase_add_test(tcase, a_long_stream_takes_seconds);
    Suite *suite = suite_create("serve/tokenizer_speed");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
