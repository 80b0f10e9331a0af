/* Lines of token ids, as --tokens and detokenize read them. */
#include "base/text.h"
#include "fuzz/fuzz.h"
#include "tool/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ps_text text = {0};
    const char *line;
    size_t at = 0, n;
    ps_text_append(&text, data, size);
    for (int number = 1; ps_input_next_line(&text, &at, &line, &n); number++) {
        ps_tokens ids = {0};
        const bool ok = fuzz_is_ok(ps_input_parse_ids(line, n, "ids", number, &ids));
        for (size_t i = 0; i < ids.n && ok; i++) {
            fuzz_require(ids.ids[i] >= 0);
        }
        ps_tokens_release(&ids);
    }
    ps_text_release(&text);
    return 0;
}
