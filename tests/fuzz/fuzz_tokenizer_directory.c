/* A directory with tokenizer_config.json, NUL, added_tokens.json, NUL, special_tokens_map.json,
 * NUL, tokenizer.model. Of the JSON files an empty one is not there. */
#include "fuzz/fuzz.h"
#include "tool/import/tokenizers.h"

enum { TEXT_BYTES = 256 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"tokenizer_config.json", "added_tokens.json",
                                        "special_tokens_map.json"};
    fuzz_input rest = {(const char *)data, size}, text = {(const char *)data, size};
    ps_tokenizer *t;
    for (int i = 0; i < 3; i++) {
        const fuzz_input piece = fuzz_take(&rest);
        if (piece.n > 0) {
            fuzz_file(names[i], piece.data, piece.n);
        } else {
            fuzz_remove(names[i]);
        }
    }
    fuzz_file("tokenizer.model", rest.data, rest.n);
    if (!fuzz_is_ok(ps_tokenizers_open(fuzz_path(""), &t))) return 0;
    fuzz_require(t != NULL);
    if (text.n > TEXT_BYTES) text.n = TEXT_BYTES;
    fuzz_tokenizer(t, text);
    ps_tokenizer_free(t);
    return 0;
}
