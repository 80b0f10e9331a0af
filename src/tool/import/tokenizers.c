#include "tool/import/tokenizers.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "tool/import/gguf_tokenizer.h"

enum { JSON_BYTES_MAX = 1 << 28 };

static bool ends_with(const char *path, const char *suffix)
{
    const size_t n = strlen(path), m = strlen(suffix);
    return n > m && strcmp(path + n - m, suffix) == 0;
}

static bool is_directory(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

bool ps_tokenizers_knows(const char *path)
{
    return ends_with(path, ".json") || ends_with(path, ".model") || ends_with(path, ".gguf") ||
           is_directory(path);
}

static ps_err open_json(const char *path, ps_tokenizer **out)
{
    ps_text json = {0};
    ps_err err = ps_file_read(path, JSON_BYTES_MAX, &json);
    if (!err) err = ps_tokenizer_open(ps_text_str(&json), json.len, path, out);
    ps_text_release(&json);
    return err;
}

static ps_err open_gguf(const char *path, ps_tokenizer **out)
{
    ps_gguf *g;
    PS_TRY(ps_gguf_open(path, &g));
    const ps_err err = ps_gguf_tokenizer_read(g, out);
    ps_gguf_close(g);
    return err;
}

static ps_err open_directory(const char *directory, ps_tokenizer **out)
{
    ps_text json = {0}, model = {0};
    ps_err err = PS_OK;
    ps_text_appendf(&json, "%s/tokenizer.json", directory);
    ps_text_appendf(&model, "%s/tokenizer.model", directory);
    if (access(json.data, F_OK) == 0) {
        err = open_json(json.data, out);
    } else if (access(model.data, F_OK) == 0) {
        err = ps_tokenizers_open_sentencepiece(model.data, directory, out);
    }
    ps_text_release(&model);
    ps_text_release(&json);
    return err;
}

ps_err ps_tokenizers_open(const char *path, ps_tokenizer **out)
{
    *out = NULL;
    if (is_directory(path)) return open_directory(path, out);
    if (ends_with(path, ".gguf")) return open_gguf(path, out);
    if (ends_with(path, ".model")) return ps_tokenizers_open_sentencepiece(path, NULL, out);
    return open_json(path, out);
}

ps_err ps_tokenizers_pack(const ps_tokenizer *t, const char *where, const ps_spec *spec,
                          ps_text *out)
{
    if (ps_tokenizer_size(t) > spec->vocab_size)
        return PS_FAIL(PS_ERR_SHAPE,
                       "%s: the tokenizer has %d tokens, the model's vocab_size is %d", where,
                       ps_tokenizer_size(t), spec->vocab_size);
    ps_tokenizer_pack(t, out);
    return PS_OK;
}
