#include "tool/request_lines.h"

#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "math/rng.h"
#include "tool/input.h"
#include "tool/result.h"

void ps_request_lines_release(ps_request_lines *l)
{
    for (size_t i = 0; i < l->n; i++) {
        json_decref(l->lines[i].id);
    }
    ps_mem_free(l->lines);
    ps_text_release(&l->input);
    *l = (ps_request_lines){0};
}

ps_err ps_request_lines_read(ps_request_lines *l, const char *path)
{
    const char *text;
    size_t at = 0, n;
    PS_TRY(ps_file_read(path, PS_INPUT_BYTES_MAX, &l->input));
    for (int number = 1; ps_input_next_line(&l->input, &at, &text, &n); number++) {
        // An empty line is no request and gets no result.
        if (strspn(text, " \t\r") >= n) continue;
        l->lines = ps_mem_grow(l->lines, &l->capacity, l->n + 1, sizeof *l->lines);
        l->lines[l->n++] = (ps_request_line){.text = text, .n = n, .number = number};
    }
    return PS_OK;
}

uint64_t ps_request_lines_seed(uint64_t run_seed, size_t i)
{
    // 53 bits, which every reader of JSON keeps.
    return ps_rng_derive(run_seed, i) >> 11;
}

void ps_request_lines_fail(ps_request_lines *l, size_t i, ps_err err, ps_text *result)
{
    ps_result_error_to_json(l->lines[i].id, l->lines[i].number, err, ps_err_message(), result);
}

void ps_request_lines_end(ps_request_lines *l, size_t i)
{
    json_decref(l->lines[i].id);
    l->lines[i].id = NULL;
}
