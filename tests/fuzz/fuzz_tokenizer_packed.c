/* /tokenizer of a model file: the packed form, and its own last bytes as a text. */
#include "fuzz/fuzz.h"

enum { TEXT_BYTES = 256 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ps_tokenizer *t;
    fuzz_input text = {(const char *)data, size};
    if (!fuzz_is_ok(ps_tokenizer_open(text.data, size, "model.h5", &t))) return 0;
    if (size > TEXT_BYTES) text = (fuzz_input){text.data + size - TEXT_BYTES, TEXT_BYTES};
    fuzz_tokenizer(t, text);
    ps_tokenizer_free(t);
    return 0;
}
