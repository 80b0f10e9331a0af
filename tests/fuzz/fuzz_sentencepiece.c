/* tokenizer.model, and its own last bytes as a text. */
#include "fuzz/fuzz.h"
#include "tool/import/tokenizers.h"

enum { TEXT_BYTES = 256 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ps_tokenizer *t;
    fuzz_input text = {(const char *)data, size};
    const char *path = fuzz_file("tokenizer.model", data, size);
    if (!fuzz_is_ok(ps_tokenizers_open_sentencepiece(path, NULL, &t))) return 0;
    if (size > TEXT_BYTES) text = (fuzz_input){text.data + size - TEXT_BYTES, TEXT_BYTES};
    fuzz_tokenizer(t, text);
    ps_tokenizer_free(t);
    return 0;
}
