/* Reference cases of a tokenizer, line by line. */
#include "support/golden_tokenizer.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "tool/import/tokenizers.h"

enum { SHOWN_FAILURES = 5, FILE_LIMIT = 1 << 28 };

typedef struct golden {
    const ps_tokenizer *tokenizer;
    const ps_tokenizer *second; // whose ids count instead of llama.cpp's; may be NULL
    const char *cases;          // name of llama.cpp's file
    const char *file;
    int line;
    int *n_cases, *n_failed, *n_excepted;
    int n_shown;
    ps_text *failures;
} golden;

/* Counts one comparison of `what`; wanted and found are shown when it failed. */
static void count(golden *g, bool good, const char *what, const char *wanted, const char *found)
{
    ++*g->n_cases;
    if (good) return;
    ++*g->n_failed;
    if (g->n_shown++ >= SHOWN_FAILURES) return;
    ps_text_appendf(g->failures, "%s:%d: %s\n  wanted %.300s\n  found  %.300s\n", g->file, g->line,
                    what, wanted, found);
}

static void append_ids(ps_text *out, const int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ps_text_appendf(out, i ? " %d" : "%d", ids[i]);
    }
}

static void read_ids(const json_t *array, ps_tokens *out)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        ps_tokens_append(out, (int32_t)json_integer_value(json_array_get(array, i)));
    }
}

static void compare_ids(golden *g, const char *what, const ps_tokens *wanted,
                        const ps_tokens *found)
{
    ps_text a = {0}, b = {0};
    append_ids(&a, wanted->ids, wanted->n);
    append_ids(&b, found->ids, found->n);
    count(g, strcmp(ps_text_str(&a), ps_text_str(&b)) == 0, what, ps_text_str(&a), ps_text_str(&b));
    ps_text_release(&b);
    ps_text_release(&a);
}

static ps_err compare_encoding(golden *g, const json_t *text, bool special, const json_t *wanted)
{
    ps_tokens found = {0}, ids = {0};
    read_ids(wanted, &ids);
    const ps_err err = ps_tokenizer_encode(g->tokenizer, json_string_value(text),
                                           json_string_length(text), special, &found);
    if (!err) compare_ids(g, special ? "ids with special tokens" : "ids", &ids, &found);
    ps_tokens_release(&ids);
    ps_tokens_release(&found);
    return err;
}

static void compare_text(golden *g, const char *what, const json_t *wanted, const ps_text *found)
{
    const size_t n = json_string_length(wanted);
    const bool good =
        found->len == n && memcmp(ps_text_str(found), json_string_value(wanted), n) == 0;
    count(g, good, what, json_string_value(wanted), ps_text_str(found));
}

static ps_err compare_decoding(golden *g, const json_t *array, bool skip_special,
                               const json_t *wanted)
{
    ps_tokens ids = {0};
    ps_text found = {0};
    read_ids(array, &ids);
    const ps_err err = ps_tokenizer_decode(g->tokenizer, ids.ids, ids.n, skip_special, &found);
    if (!err)
        compare_text(g, skip_special ? "text without special tokens" : "text", wanted, &found);
    ps_text_release(&found);
    ps_tokens_release(&ids);
    return err;
}

/* The value under a key, or what stands for it when it is missing. */
static const json_t *value_or(const json_t *object, const char *key, const json_t *otherwise)
{
    const json_t *value = json_object_get(object, key);
    return value ? value : otherwise;
}

static ps_err check_case(golden *g, const json_t *line)
{
    const json_t *text = json_object_get(line, "text"), *ids = json_object_get(line, "ids");
    const json_t *ids_special = value_or(line, "ids_special", ids);
    const json_t *decoded = value_or(line, "decoded", text);
    const json_t *skipped = value_or(line, "decoded_skip_special", decoded);
    PS_TRY(compare_encoding(g, text, false, ids));
    PS_TRY(compare_encoding(g, text, true, ids_special));
    PS_TRY(compare_decoding(g, ids, false, decoded));
    return compare_decoding(g, ids_special, true, skipped);
}

static ps_err check_decoding(golden *g, const json_t *line)
{
    const json_t *ids = json_object_get(line, "ids");
    PS_TRY(compare_decoding(g, ids, false, json_object_get(line, "decoded")));
    return compare_decoding(g, ids, true, json_object_get(line, "decoded_skip_special"));
}

static ps_err stream(golden *g, ps_detokenizer *d, const json_t *line)
{
    const json_t *ids = json_object_get(line, "ids"), *emitted = json_object_get(line, "emitted");
    ps_text found = {0};
    ps_err err = PS_OK;
    for (size_t i = 0; i < json_array_size(ids) && !err; i++) {
        ps_text_clear(&found);
        err = ps_detokenizer_push(d, (int32_t)json_integer_value(json_array_get(ids, i)), &found);
        if (!err) compare_text(g, "emitted text", json_array_get(emitted, i), &found);
    }
    ps_text_clear(&found);
    if (!err) err = ps_detokenizer_finish(d, &found);
    if (!err) compare_text(g, "tail", json_object_get(line, "tail"), &found);
    ps_text_release(&found);
    return err;
}

static ps_err check_stream(golden *g, const json_t *line)
{
    ps_detokenizer *d = ps_detokenizer_new(g->tokenizer, false);
    const ps_err err = stream(g, d, line);
    ps_detokenizer_free(d);
    return err;
}

static ps_err check_lines(golden *g, const char *text, size_t n,
                          ps_err (*check)(golden *, const json_t *))
{
    ps_err err = PS_OK;
    g->line = 0;
    for (const char *end = text + n; text < end && !err;) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *stop = newline ? newline : end;
        json_t *line;
        g->line++;
        err = ps_json_parse(text, (size_t)(stop - text), g->file, &line);
        if (!err) err = check(g, line);
        json_decref(line);
        text = stop + 1;
    }
    return err;
}

static ps_err check_file(golden *g, const char *dir, const char *name,
                         ps_err (*check)(golden *, const json_t *))
{
    ps_text path = {0}, text = {0};
    ps_text_appendf(&path, "%s/%s", dir, name);
    g->file = ps_text_str(&path);
    ps_err err = ps_file_read(path.data, FILE_LIMIT, &text);
    if (!err) err = check_lines(g, ps_text_str(&text), text.len, check);
    ps_text_release(&text);
    ps_text_release(&path);
    return err;
}

static ps_err check_all(golden *g, const char *dir)
{
    PS_TRY(check_file(g, dir, "cases.jsonl", check_case));
    PS_TRY(check_file(g, dir, "decode.jsonl", check_decoding));
    return check_file(g, dir, "stream.jsonl", check_stream);
}

/* The tokenizer as a model file holds it, opened again. */
static ps_err repack(const ps_tokenizer *t, const char *where, ps_tokenizer **out)
{
    ps_text packed = {0};
    ps_tokenizer_pack(t, &packed);
    const ps_err err = ps_tokenizer_open(ps_text_str(&packed), packed.len, where, out);
    ps_text_release(&packed);
    return err;
}

/* Opens dir/name and checks it as it came, then packed. */
static ps_err check_twice(golden *g, const char *dir, const char *name,
                          ps_err (*check)(golden *, const char *))
{
    ps_text path = {0};
    ps_tokenizer *t = NULL, *packed = NULL;
    if (name[0] == '/') {
        ps_text_append_str(&path, name);
    } else {
        ps_text_appendf(&path, "%s/%s", dir, name);
    }
    ps_err err = ps_tokenizers_open(path.data, &t);
    if (!err && !t) err = PS_FAIL(PS_ERR_FORMAT, "%s: holds no tokenizer", path.data);
    if (!err) err = repack(t, path.data, &packed);
    g->tokenizer = t;
    if (!err) err = check(g, dir);
    g->tokenizer = packed;
    if (!err) err = check(g, dir);
    ps_tokenizer_free(packed);
    ps_tokenizer_free(t);
    ps_text_release(&path);
    return err;
}

ps_err golden_tokenizer_check(const char *dir, int *n_cases, int *n_failed, ps_text *first_failures)
{
    golden g = {.n_cases = n_cases, .n_failed = n_failed, .failures = first_failures};
    return check_twice(&g, dir, "tokenizer.json", check_all);
}

// ---- llama.cpp's cases ----

typedef enum mode { PLAIN, WITH_SPECIAL, SPECIAL_AS_TEXT, N_MODES } mode;

static const char *const mode_names[N_MODES] = {"ids", "ids with special tokens",
                                                "ids with special tokens as plain text"};
static const char *const mode_keys[N_MODES] = {"ids", "ids_special", "ids_noparse"};

static ps_err encode(const ps_tokenizer *t, mode m, const json_t *text, ps_tokens *out)
{
    const ps_tokenizer_part part = {-1, json_string_value(text), json_string_length(text)};
    if (m == SPECIAL_AS_TEXT) return ps_tokenizer_encode_parts(t, &part, 1, out);
    return ps_tokenizer_encode(t, part.text, part.n, m == WITH_SPECIAL, out);
}

static bool same_ids(const ps_tokens *a, const ps_tokens *b)
{
    if (a->n != b->n) return false;
    return a->n == 0 || memcmp(a->ids, b->ids, a->n * sizeof *a->ids) == 0;
}

/* Ids that are neither llama.cpp's nor the second opinion's are wrong. */
static ps_err check_llama_ids(golden *g, const json_t *line, mode m)
{
    const json_t *text = json_object_get(line, "text");
    ps_tokens wanted = {0}, found = {0}, other = {0};
    read_ids(value_or(line, mode_keys[m], json_object_get(line, "ids")), &wanted);
    ps_err err = encode(g->tokenizer, m, text, &found);
    if (!err && g->second && !same_ids(&wanted, &found)) {
        err = encode(g->second, m, text, &other);
        if (same_ids(&other, &found)) {
            wanted.n = 0;
            for (size_t i = 0; i < other.n; i++) {
                ps_tokens_append(&wanted, other.ids[i]);
            }
            ++*g->n_excepted;
        }
    }
    if (!err) compare_ids(g, mode_names[m], &wanted, &found);
    ps_tokens_release(&other);
    ps_tokens_release(&found);
    ps_tokens_release(&wanted);
    return err;
}

static ps_err check_llama_case(golden *g, const json_t *line)
{
    const json_t *ids = json_object_get(line, "ids");
    const json_t *skipped = json_object_get(line, "decoded_skip_special");
    for (int m = 0; m < N_MODES; m++) {
        PS_TRY(check_llama_ids(g, line, (mode)m));
    }
    PS_TRY(
        compare_decoding(g, ids, false, value_or(line, "decoded", json_object_get(line, "text"))));
    return skipped ? compare_decoding(g, ids, true, skipped) : PS_OK;
}

static ps_err check_llama_cases(golden *g, const char *dir)
{
    return check_file(g, dir, g->cases, check_llama_case);
}

// ---- SentencePiece's cases ----

static ps_err check_sentencepiece_case(golden *g, const json_t *line)
{
    const json_t *text = json_object_get(line, "text"), *ids = json_object_get(line, "ids");
    const json_t *decoded = value_or(line, "decoded", text);
    ps_tokens wanted = {0}, found = {0};
    read_ids(ids, &wanted);
    ps_err err = encode(g->tokenizer, SPECIAL_AS_TEXT, text, &found);
    if (!err) compare_ids(g, mode_names[PLAIN], &wanted, &found);
    ps_tokens_release(&found);
    ps_tokens_release(&wanted);
    if (err || json_is_null(decoded)) return err;
    return compare_decoding(g, ids, false, decoded);
}

static ps_err check_sentencepiece_cases(golden *g, const char *dir)
{
    return check_file(g, dir, "sentencepiece_cases.jsonl", check_sentencepiece_case);
}

ps_err golden_tokenizer_check_sentencepiece(const char *dir, golden_counts *counts,
                                            ps_text *first_failures)
{
    golden g = {
        .n_cases = &counts->n_cases, .n_failed = &counts->n_failed, .failures = first_failures};
    return check_twice(&g, dir, "tokenizer.model", check_sentencepiece_cases);
}

ps_err golden_tokenizer_check_llama(const char *dir, const char *name, const char *second,
                                    const char *cases, golden_counts *counts,
                                    ps_text *first_failures)
{
    golden g = {.n_cases = &counts->n_cases,
                .n_failed = &counts->n_failed,
                .n_excepted = &counts->n_excepted,
                .cases = cases,
                .failures = first_failures};
    ps_text path = {0};
    ps_tokenizer *t = NULL;
    ps_err err = PS_OK;
    if (second) {
        ps_text_appendf(&path, "%s/%s", dir, second);
        err = ps_tokenizers_open(path.data, &t);
    }
    g.second = t;
    if (!err) err = check_twice(&g, dir, name, check_llama_cases);
    ps_tokenizer_free(t);
    ps_text_release(&path);
    return err;
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(*(char *const *)left, *(char *const *)right);
}

ps_err golden_tokenizer_list(const char *root, char ***names, int *n)
{
    size_t capacity = 0;
    *names = NULL;
    *n = 0;
    DIR *dir = opendir(root);
    if (!dir) return PS_FAIL(PS_ERR_IO, "%s: no such directory", root);
    for (struct dirent *entry; (entry = readdir(dir));) {
        ps_text path = {0};
        ps_text_appendf(&path, "%s/%s/tokenizer.json", root, entry->d_name);
        if (entry->d_name[0] != '.' && access(path.data, R_OK) == 0) {
            *names = ps_mem_grow(*names, &capacity, (size_t)*n + 1, sizeof **names);
            (*names)[(*n)++] = ps_mem_copy_text(entry->d_name);
        }
        ps_text_release(&path);
    }
    closedir(dir);
    if (*n > 0) qsort(*names, (size_t)*n, sizeof **names, compare_names);
    return PS_OK;
}

void golden_tokenizer_free_list(char **names, int n)
{
    for (int i = 0; i < n; i++) {
        ps_mem_free(names[i]);
    }
    ps_mem_free(names);
}

const char *golden_root(void)
{
    const char *root = getenv("PS_GOLDEN");
    return root && root[0] ? root : "tests/golden";
}
