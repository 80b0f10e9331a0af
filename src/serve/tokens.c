#include "base/mem.h"
#include "serve/tokenizer.h"

void ps_tokens_append(ps_tokens *tokens, int32_t id)
{
    if (tokens->n == tokens->capacity) {
        tokens->ids =
            ps_mem_grow(tokens->ids, &tokens->capacity, tokens->n + 1, sizeof *tokens->ids);
    }
    tokens->ids[tokens->n++] = id;
}

void ps_tokens_release(ps_tokens *tokens)
{
    ps_mem_free(tokens->ids);
    *tokens = (ps_tokens){0};
}
