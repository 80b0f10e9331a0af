/* tokenizer.json, and a text for it behind a NUL (or else its own bytes). */
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input rest = {(const char *)data, size};
    const fuzz_input json = fuzz_take(&rest);
    ps_tokenizer *t;
    if (!fuzz_is_ok(ps_tokenizer_open(json.data, json.n, "tokenizer.json", &t))) return 0;
    fuzz_tokenizer(t, rest.n > 0 ? rest : json);
    ps_tokenizer_free(t);
    return 0;
}
