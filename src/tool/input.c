#include "tool/input.h"

#include <string.h>

ps_err ps_input_parse_ids(const char *text, size_t n, const char *where, int line, ps_tokens *out)
{
    size_t i = 0;
    for (;;) {
        while (i < n && (text[i] == ' ' || text[i] == '\t' || text[i] == ',' || text[i] == '\r')) {
            i++;
        }
        if (i == n) return PS_OK;
        const size_t start = i;
        int64_t id = 0;
        while (i < n && text[i] >= '0' && text[i] <= '9' && id <= INT32_MAX) {
            id = id * 10 + (text[i++] - '0');
        }
        const bool ended = i == n || strchr(" \t,\r", text[i]) != NULL;
        if (i == start || id > INT32_MAX || !ended)
            return PS_FAIL(PS_ERR_FORMAT, "%s:%d: \"%.*s\" at column %zu is not a token id", where,
                           line, n - start < 20 ? (int)(n - start) : 20, text + start, start + 1);
        ps_tokens_append(out, (int32_t)id);
    }
}

bool ps_input_next_line(const ps_text *text, size_t *at, const char **line, size_t *n)
{
    if (*at >= text->len) return false;
    *line = text->data + *at;
    const char *end = memchr(*line, '\n', text->len - *at);
    *n = end ? (size_t)(end - *line) : text->len - *at;
    *at += *n + 1;
    return true;
}
