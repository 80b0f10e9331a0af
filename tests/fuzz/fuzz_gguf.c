/* A GGUF file: head, metadata, tensors; the architecture's spec; the vocabulary; the model file. */
#include "fuzz/fuzz.h"
#include "tool/import/convert.h"
#include "tool/import/gguf_families.h"
#include "tool/import/gguf_tokenizer.h"

/* Converting what is sound takes time by the file's own size, except for these. */
enum { LAYERS_MAX = 8, TEXT_BYTES = 256 };

static void walk_value(ps_gguf *g, const ps_gguf_value *value)
{
    const char *bytes, *text;
    size_t cursor = 0, n, count = 0, total = 0;
    bool flag;
    int64_t number;
    double real;
    if (value->kind == PS_GGUF_STRING) {
        while (ps_gguf_next_string(value, &cursor, &bytes, &n)) {
            count++;
            total += n;
        }
        fuzz_require(count == value->n && total <= value->bytes);
    } else if (value->n > 0) {
        (void)ps_gguf_real_at(value, value->n - 1);
    }
    (void)fuzz_is_ok(ps_gguf_find_int(g, value->key, -5, INT64_MAX, &number));
    (void)fuzz_is_ok(ps_gguf_find_real(g, value->key, &real));
    (void)fuzz_is_ok(ps_gguf_find_bool(g, value->key, &flag));
    (void)fuzz_is_ok(ps_gguf_find_text(g, value->key, &text));
    const ps_gguf_value *array;
    (void)fuzz_is_ok(ps_gguf_find_array(g, value->key, PS_GGUF_I64, &array));
    (void)fuzz_is_ok(ps_gguf_find_array(g, value->key, PS_GGUF_F64, &array));
    (void)fuzz_is_ok(ps_gguf_find_array(g, value->key, PS_GGUF_STRING, &array));
}

static void walk_tensors(ps_gguf *g, size_t size)
{
    size_t bytes = 0;
    unsigned sum = 0;
    for (int i = 0; i < ps_gguf_count(g); i++) {
        const ps_gguf_tensor *t = ps_gguf_at(g, i);
        ps_dtype dtype;
        fuzz_require(ps_gguf_find_tensor(g, t->name) == t);
        (void)ps_gguf_format(t, &dtype);
        bytes += t->bytes;
        for (size_t b = 0; b < t->bytes; b++) {
            sum += t->data[b];
        }
    }
    fuzz_require(bytes <= size && sum <= 255u * size);
}

/* Keys and tensors as such; a reader of its own, since getters mark keys as used. */
static bool walk(const char *path, size_t size)
{
    ps_gguf *g;
    if (!fuzz_is_ok(ps_gguf_open(path, &g))) return false;
    for (int i = 0; i < ps_gguf_key_count(g); i++) {
        walk_value(g, ps_gguf_key_at(g, i));
    }
    walk_tensors(g, size);
    ps_gguf_close(g);
    return true;
}

/* Whether there is a model to convert. */
static bool read_model(ps_gguf *g)
{
    ps_import import;
    ps_source source;
    const bool ok = fuzz_is_ok(ps_gguf_family_read(g, &import));
    const bool wanted = ok && import.spec.n_layers <= LAYERS_MAX;
    if (ok) {
        ps_gguf_fill_source(g, &source);
        ps_source_release(&source);
    }
    ps_spec_release(&import.spec);
    return wanted;
}

static void read_tokenizer(ps_gguf *g, fuzz_input text)
{
    ps_tokenizer *t;
    if (!fuzz_is_ok(ps_gguf_tokenizer_read(g, &t)) || !t) return;
    fuzz_tokenizer(t, text);
    ps_tokenizer_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ps_gguf *g;
    const char *path = fuzz_file("model.gguf", data, size);
    if (!walk(path, size)) return 0;
    fuzz_require(ps_gguf_open(path, &g) == PS_OK);
    const size_t n = size < TEXT_BYTES ? size : TEXT_BYTES;
    const bool convert = read_model(g);
    read_tokenizer(g, (fuzz_input){(const char *)data + size - n, n});
    ps_gguf_close(g);
    if (convert) (void)fuzz_is_ok(ps_convert_gguf(path, fuzz_path("model.h5"), NULL));
    return 0;
}
