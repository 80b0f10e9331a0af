#include "fuzz/fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

enum { PATH_BYTES = 256, PATHS = 4, IDS_MAX = 64, TEXT_BYTES_MAX = 512 };

fuzz_input fuzz_take(fuzz_input *rest)
{
    const char *end = rest->n > 0 ? memchr(rest->data, '\0', rest->n) : NULL;
    const fuzz_input piece = {rest->data, end ? (size_t)(end - rest->data) : rest->n};
    const size_t used = piece.n + (end != NULL);
    if (used > 0) rest->data += used;
    rest->n -= used;
    return piece;
}

char *fuzz_take_text(fuzz_input *rest)
{
    const fuzz_input piece = fuzz_take(rest);
    return ps_mem_copy_bytes(piece.n > 0 ? piece.data : "", piece.n);
}

/* ---- files ---- */

static char directory[PATH_BYTES / 2];

static void remove_directory(void)
{
    DIR *d = opendir(directory);
    if (!d) return;
    for (struct dirent *entry; (entry = readdir(d));) {
        char path[2 * PATH_BYTES];
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        unlink(path);
    }
    closedir(d);
    rmdir(directory);
}

static void make_directory(void)
{
    const char *parent = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/pipestep-fuzz-XXXXXX", parent ? parent : "/tmp");
    fuzz_require(mkdtemp(directory) != NULL);
    fuzz_require(atexit(remove_directory) == 0);
}

const char *fuzz_path(const char *name)
{
    static char paths[PATHS][PATH_BYTES];
    static int next;
    char *path = paths[next++ % PATHS];
    if (directory[0] == '\0') make_directory();
    const int n = snprintf(path, PATH_BYTES, "%s%s%s", directory, name[0] ? "/" : "", name);
    fuzz_require(n < PATH_BYTES);
    return path;
}

const char *fuzz_file(const char *name, const void *bytes, size_t n)
{
    const char *path = fuzz_path(name);
    FILE *file = fopen(path, "wb");
    fuzz_require(file != NULL);
    fuzz_require(n == 0 || fwrite(bytes, 1, n, file) == n);
    fuzz_require(fclose(file) == 0);
    return path;
}

void fuzz_remove(const char *name)
{
    unlink(fuzz_path(name));
}

/* ---- outcomes ---- */

void fuzz_require_at(bool fact, const char *text, const char *file, int line)
{
    if (fact) return;
    fprintf(stderr, "%s:%d: does not hold: %s (last message: %s)\n", file, line, text,
            ps_err_message());
    abort();
}

bool fuzz_is_ok(ps_err err)
{
    // A lie about memory or the file system would hide what a reader does with good bytes.
    fuzz_require(err != PS_ERR_NOMEM);
    fuzz_require(err == PS_OK || ps_err_message()[0] != '\0');
    return err == PS_OK;
}

static void check_decode(const ps_tokenizer *t, const ps_tokens *ids, bool skip_special)
{
    ps_text whole = {0}, pushed = {0};
    ps_detokenizer *d = ps_detokenizer_new(t, skip_special);
    bool ok = fuzz_is_ok(ps_tokenizer_decode(t, ids->ids, ids->n, skip_special, &whole));
    for (size_t i = 0; i < ids->n && ok; i++) {
        ok = fuzz_is_ok(ps_detokenizer_push(d, ids->ids[i], &pushed));
    }
    if (ok) ok = fuzz_is_ok(ps_detokenizer_finish(d, &pushed));
    fuzz_require(ps_utf8_valid_prefix(ps_text_str(&whole), whole.len, NULL) == whole.len);
    fuzz_require(ps_utf8_valid_prefix(ps_text_str(&pushed), pushed.len, NULL) == pushed.len);
    ps_detokenizer_free(d);
    ps_text_release(&pushed);
    ps_text_release(&whole);
}

static void check_encode(const ps_tokenizer *t, const ps_tokenizer *again, fuzz_input text)
{
    for (int special = 0; special < 2; special++) {
        ps_tokens ids = {0}, other = {0};
        const ps_err a = ps_tokenizer_encode(t, text.data, text.n, special, &ids);
        const ps_err b = ps_tokenizer_encode(again, text.data, text.n, special, &other);
        fuzz_require(a == b && ids.n == other.n);
        fuzz_require(ids.n == 0 || memcmp(ids.ids, other.ids, ids.n * sizeof *ids.ids) == 0);
        for (size_t i = 0; i < ids.n; i++) {
            fuzz_require(ids.ids[i] >= 0 && ids.ids[i] < ps_tokenizer_size(t));
        }
        if (fuzz_is_ok(a)) check_decode(t, &ids, special);
        ps_tokens_release(&other);
        ps_tokens_release(&ids);
    }
}

/* A token between two stretches of text. */
static void check_parts(const ps_tokenizer *t, fuzz_input text)
{
    const size_t half = text.n / 2;
    const int32_t id = ps_tokenizer_size(t) - 1;
    const ps_tokenizer_part parts[] = {
        {.id = -1, .text = text.data, .n = half},
        {.id = id},
        {.id = -1, .text = half > 0 ? text.data + half : text.data, .n = text.n - half}};
    ps_tokens ids = {0};
    if (fuzz_is_ok(ps_tokenizer_encode_parts(t, parts, 3, &ids))) {
        bool found = false;
        for (size_t i = 0; i < ids.n; i++) {
            fuzz_require(ids.ids[i] >= 0 && ids.ids[i] <= id);
            found = found || ids.ids[i] == id;
        }
        fuzz_require(found);
    }
    fuzz_require(!ps_tokenizer_is_special(t, id + 1) && !ps_tokenizer_is_special(t, -1));
    ps_tokens_release(&ids);
}

void fuzz_tokenizer(const ps_tokenizer *t, fuzz_input text)
{
    ps_text packed = {0};
    ps_tokenizer *again;
    if (text.n > TEXT_BYTES_MAX) text.n = TEXT_BYTES_MAX;
    ps_tokenizer_pack(t, &packed);
    fuzz_require(ps_tokenizer_open(packed.data, packed.len, "packed", &again) == PS_OK);
    check_encode(t, again, text);
    if (ps_tokenizer_size(t) > 0) check_parts(t, text);
    // Ids of all kinds: those of the text's bytes, the last ones, and some that do not exist.
    ps_tokens ids = {0};
    for (size_t i = 0; i < text.n && i < IDS_MAX; i++) {
        ps_tokens_append(&ids, (signed char)text.data[i]);
        ps_tokens_append(&ids, ps_tokenizer_size(t) - (signed char)text.data[i] % 8);
    }
    check_decode(t, &ids, false);
    ps_tokens_release(&ids);
    ps_tokenizer_free(again);
    ps_text_release(&packed);
}

/* libFuzzer calls it once before the first input; the replay does too. */
int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    ps_log_set(PS_LOG_ERROR, 0); // warnings about each of a million inputs
    return 0;
}
