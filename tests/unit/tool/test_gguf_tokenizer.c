/* Tokenizers out of GGUF metadata: what each key does, and what is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "support/gguf_file.h"
#include "support/golden_tokenizer.h"
#include "support/scratch.h"
#include "support/tiny_tokenizer.h"
#include "tool/import/gguf_tokenizer.h"
#include "tool/import/pre_tokenizers.h"
#include "tool/import/tokenizers.h"

#define T "tokenizer.ggml."

static ps_err open_file(gguf_file *f, ps_tokenizer **out)
{
    gguf_file_write(f, "m.gguf");
    gguf_file_release(f);
    *f = (gguf_file){0};
    return ps_tokenizers_open("m.gguf", out);
}

static ps_tokenizer *open_good(gguf_file *f)
{
    ps_tokenizer *t;
    assert_ok(open_file(f, &t));
    ck_assert_ptr_nonnull(t);
    return t;
}

static void refuse(gguf_file *f, ps_err code, const char *message)
{
    ps_tokenizer *t;
    ck_assert_int_eq(open_file(f, &t), code);
    ck_assert_ptr_null(t);
    assert_mentions(message);
}

static void expect(const ps_tokenizer *t, const char *text, bool special, const char *wanted)
{
    char *found = tiny_tokenizer_ids(t, text, special);
    ck_assert_str_eq(found, wanted);
    ps_mem_free(found);
}

/* A byte-level vocabulary: a b ab, a control token, a user-defined one. */
static const char *const byte_tokens[] = {"a", "b", "ab", "<end>", "<tool>"};
static const int64_t byte_types[] = {1, 1, 1, 3, 4};

static gguf_file byte_level(const char *pre)
{
    gguf_file f = {0};
    static const char *const merges[] = {"a b"};
    gguf_file_text(&f, T "model", "gpt2");
    if (pre) gguf_file_text(&f, T "pre", pre);
    gguf_file_texts(&f, T "tokens", 5, byte_tokens);
    gguf_file_ints(&f, T "token_type", PS_GGUF_I32, 5, byte_types);
    gguf_file_texts(&f, T "merges", 1, merges);
    return f;
}

/* Scores: a blank's mark, a, b, ab, and a user-defined run of two blanks. */
static const char *const scored_tokens[] = {"<unk>", "<s>", "</s>", "\xE2\x96\x81",
                                            "a",     "b",   "ab",   "  "};
static const int64_t scored_types[] = {2, 3, 3, 1, 1, 1, 1, 4};
static const float scores[] = {0, 0, 0, -4, -2, -3, -1, 0};

static gguf_file scored(const char *model)
{
    gguf_file f = {0};
    gguf_file_text(&f, T "model", model);
    gguf_file_texts(&f, T "tokens", 8, scored_tokens);
    gguf_file_ints(&f, T "token_type", PS_GGUF_I32, 8, scored_types);
    gguf_file_reals(&f, T "scores", 8, scores);
    gguf_file_int(&f, T "bos_token_id", PS_GGUF_U32, 1);
    gguf_file_int(&f, T "eos_token_id", PS_GGUF_U32, 2);
    return f;
}

START_TEST(a_file_without_a_tokenizer_has_none)
{
    gguf_file f = {0};
    ps_tokenizer *t;
    gguf_file_text(&f, "general.architecture", "llama");
    assert_ok(open_file(&f, &t));
    ck_assert_ptr_null(t);
    gguf_file_text(&f, T "model", "none");
    assert_ok(open_file(&f, &t));
    ck_assert_ptr_null(t);
}
END_TEST

START_TEST(byte_level_tokens_are_merged_and_control_tokens_found)
{
    gguf_file f = byte_level("gpt-2");
    ps_tokenizer *t = open_good(&f);
    expect(t, "abb<end><tool>a", false, "2 1 3 4 0");
    ck_assert(ps_tokenizer_is_special(t, 3) && !ps_tokenizer_is_special(t, 4));
    const ps_tokenizer_part part = {-1, "<tool>a", 7};
    ps_tokens ids = {0};
    assert_ok(ps_tokenizer_encode_parts(t, &part, 1, &ids));
    ck_assert_uint_eq(ids.n, 2);
    ps_tokens_release(&ids);
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(the_file_says_which_ends_are_added)
{
    gguf_file f = byte_level("gpt-2");
    gguf_file_int(&f, T "bos_token_id", PS_GGUF_U32, 3);
    gguf_file_int(&f, T "eos_token_id", PS_GGUF_U64, 4);
    gguf_file_int(&f, T "add_bos_token", PS_GGUF_BOOL, 1);
    gguf_file_int(&f, T "add_eos_token", PS_GGUF_BOOL, 1);
    ps_tokenizer *t = open_good(&f);
    expect(t, "a", true, "3 0 4");
    ps_tokenizer_free(t);
    // Where it does not, the kind does.
    f = byte_level("llama-bpe");
    gguf_file_int(&f, T "bos_token_id", PS_GGUF_U32, 3);
    t = open_good(&f);
    expect(t, "a", true, "3 0");
    ps_tokenizer_free(t);
    f = byte_level("qwen2");
    gguf_file_int(&f, T "bos_token_id", PS_GGUF_U32, UINT32_MAX);
    t = open_good(&f);
    expect(t, "a", true, "0");
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(scores_are_merges_and_blanks_of_user_tokens_are_marks)
{
    gguf_file f = scored("llama");
    ps_tokenizer *t = open_good(&f);
    expect(t, "ab  a", true, "1 3 6 7 4");
    expect(t, "x", false, "3 0");
    ps_tokenizer_free(t);
    f = scored("llama");
    gguf_file_int(&f, T "add_space_prefix", PS_GGUF_BOOL, 0);
    gguf_file_int(&f, T "add_bos_token", PS_GGUF_BOOL, 0);
    t = open_good(&f);
    expect(t, "ab", true, "6");
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(t5_ends_its_texts)
{
    gguf_file f = scored("t5");
    gguf_file_int(&f, T "remove_extra_whitespaces", PS_GGUF_BOOL, 1);
    ps_tokenizer *t = open_good(&f);
    expect(t, " ab ", true, "3 6 2");
    ps_tokenizer_free(t);
}
END_TEST

START_TEST(what_is_missing_or_wrong_is_refused_and_named)
{
    gguf_file f = {0};
    gguf_file_text(&f, T "model", "bert");
    refuse(&f, PS_ERR_UNSUPPORTED,
           "m.gguf: tokenizer.ggml.model is \"bert\", wanted llama, gpt2 or t5");
    gguf_file_text(&f, T "model", "gpt2");
    refuse(&f, PS_ERR_FORMAT, "m.gguf: tokenizer.ggml.tokens is missing");
    f = byte_level("alien");
    refuse(&f, PS_ERR_UNSUPPORTED,
           "m.gguf: tokenizer.ggml.pre is \"alien\", which is none of default, gpt-2");
    f = byte_level("gpt-2");
    gguf_file_int(&f, T "add_bos_token", PS_GGUF_BOOL, 1);
    refuse(&f, PS_ERR_FORMAT,
           "tokenizer.ggml.add_bos_token is wanted, and tokenizer.ggml.bos_token_id is missing");
    f = byte_level("gpt-2");
    gguf_file_int(&f, T "bos_token_id", PS_GGUF_U32, 5);
    refuse(&f, PS_ERR_FORMAT, "tokenizer.ggml.bos_token_id is 5, wanted 0..4");
    f = byte_level("gpt-2");
    gguf_file_reals(&f, T "scores", 2, scores);
    refuse(&f, PS_ERR_SHAPE, "tokenizer.ggml.scores has 2 elements, tokenizer.ggml.tokens has 5");
    f = byte_level("gpt-2");
    gguf_file_int(&f, T "add_space_prefix", PS_GGUF_BOOL, 1);
    refuse(&f, PS_ERR_UNSUPPORTED,
           "tokenizer.ggml.add_space_prefix with tokenizer.ggml.model gpt2");
}
END_TEST

/* A byte-level file with one array of its own. */
static gguf_file with_merge(const char *merge)
{
    gguf_file f = {0};
    gguf_file_text(&f, T "model", "gpt2");
    gguf_file_texts(&f, T "tokens", 5, byte_tokens);
    gguf_file_ints(&f, T "token_type", PS_GGUF_I32, 5, byte_types);
    if (merge) gguf_file_texts(&f, T "merges", 1, &merge);
    return f;
}

START_TEST(merges_must_be_pairs_of_tokens)
{
    gguf_file f = with_merge(NULL);
    refuse(&f, PS_ERR_FORMAT, "m.gguf: tokenizer.ggml.merges is missing");
    f = with_merge("ab");
    refuse(&f, PS_ERR_FORMAT, "tokenizer.ggml.merges: merge 0 is not a pair of tokens");
    f = with_merge("a a");
    refuse(&f, PS_ERR_FORMAT, "tokenizer.ggml.merges: merge 0, \"a a\", is not of tokens");
    f = with_merge("");
    refuse(&f, PS_ERR_FORMAT, "tokenizer.ggml.merges: merge 0 is not a pair of tokens");
}
END_TEST

START_TEST(types_and_scores_are_checked)
{
    static const int64_t bad_types[] = {1, 1, 1, 3, 7};
    gguf_file f = {0};
    gguf_file_text(&f, T "model", "gpt2");
    gguf_file_texts(&f, T "tokens", 5, byte_tokens);
    gguf_file_ints(&f, T "token_type", PS_GGUF_I32, 5, bad_types);
    refuse(&f, PS_ERR_FORMAT, "tokenizer.ggml.token_type: token 4 is of type 7");
    gguf_file_text(&f, T "model", "llama");
    gguf_file_texts(&f, T "tokens", 8, scored_tokens);
    gguf_file_ints(&f, T "token_type", PS_GGUF_I32, 8, scored_types);
    refuse(&f, PS_ERR_FORMAT, "m.gguf: tokenizer.ggml.scores is missing");
    f = scored("llama");
    gguf_file_ints(&f, T "precompiled_charsmap", PS_GGUF_I32, 2, bad_types);
    refuse(&f, PS_ERR_FORMAT, "tokenizer.ggml.precompiled_charsmap is not made of bytes");
}
END_TEST

static const char *const pre_names[] = {
    "default",        "gpt-2",       "phi-2",        "mpt",           "olmo",
    "jais",           "starcoder",   "refact",       "command-r",     "smollm",
    "falcon",         "llama-bpe",   "llama3",       "llama-v3",      "dbrx",
    "smaug-bpe",      "glm4",        "qwen2",        "stablelm2",     "deepseek-r1-qwen",
    "qwen35",         "seed-coder",  "gpt-4o",       "llama4",        "tekken",
    "bloom",          "viking",      "deepseek-llm", "exaone",        "bailingmoe",
    "deepseek-coder", "deepseek-v3", "chatglm-bpe",  "hunyuan-dense", "poro-chat"};

enum { N_PRE_NAMES = sizeof pre_names / sizeof *pre_names };

/* The regular expressions of each compile and run. */
START_TEST(every_pre_tokenizer_opens)
{
    gguf_file f = byte_level(pre_names[_i]);
    gguf_file_int(&f, T "add_bos_token", PS_GGUF_BOOL, 0);
    ps_tokenizer *t = open_good(&f);
    expect(t, "ab", false, "2");
    ps_tokenizer_free(t);
}
END_TEST

/* ---- the reference ---- */

static char *golden_dir;

static const char *const kinds[] = {
    "bloom",      "deepseek-llm", "deepseek-v3",     "falcon", "gpt-oss",
    "gpt2",       "llama3",       "mistral-nemo",    "qwen2",  "starcoder",
    "t5-unigram", "spm-bpe",      "spm-bpe-noprefix"};

/* Comparisons, of ids with and without bos and eos and with special tokens as text, twice each, in
 * which llama.cpp is not followed: see tests/golden/tokenizers/README.md. */
static int excepted_of(const char *kind)
{
    if (strcmp(kind, "qwen2") == 0) return 7 * 6;
    if (strcmp(kind, "gpt-oss") == 0) return 6 + 14 * 2;
    return strcmp(kind, "spm-bpe") == 0 ? 4 * 6 + 2 * 2 : 0;
}

START_TEST(ids_are_those_of_llama_cpp_but_for_known_rows)
{
    golden_counts counts = {0};
    ps_text dir = {0}, failures = {0};
    ps_text_appendf(&dir, "%s/tokenizers/%s", golden_dir, kinds[_i]);
    const bool pieces = strncmp(kinds[_i], "spm", 3) == 0;
    assert_ok(golden_tokenizer_check_llama(dir.data, "vocab.gguf",
                                           pieces ? "tokenizer.model" : "tokenizer.json",
                                           "gguf_cases.jsonl", &counts, &failures));
    ck_assert_msg(counts.n_failed == 0, "%s", ps_text_str(&failures));
    ck_assert_int_gt(counts.n_cases, 1000);
    ck_assert_int_eq(counts.n_excepted, excepted_of(kinds[_i]));
    ps_text_release(&failures);
    ps_text_release(&dir);
}
END_TEST

int main(void)
{
    golden_dir = realpath("tests/golden", NULL);
    Suite *suite = suite_create("tool/gguf_tokenizer");
    TCase *tcase = scratch_case(suite, "gguf_tokenizer");
    tcase_add_test(tcase, a_file_without_a_tokenizer_has_none);
    tcase_add_test(tcase, byte_level_tokens_are_merged_and_control_tokens_found);
    tcase_add_test(tcase, the_file_says_which_ends_are_added);
    tcase_add_test(tcase, scores_are_merges_and_blanks_of_user_tokens_are_marks);
    tcase_add_test(tcase, t5_ends_its_texts);
    tcase_add_test(tcase, what_is_missing_or_wrong_is_refused_and_named);
    tcase_add_test(tcase, merges_must_be_pairs_of_tokens);
    tcase_add_test(tcase, types_and_scores_are_checked);
    tcase_add_loop_test(tcase, every_pre_tokenizer_opens, 0, N_PRE_NAMES);
    tcase_add_loop_test(tcase, ids_are_those_of_llama_cpp_but_for_known_rows, 0,
                        (int)(sizeof kinds / sizeof *kinds));
    const int status = scratch_run(suite);
    free(golden_dir);
    return status;
}
