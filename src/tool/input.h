/* Reading prompts and lists of token ids. */
#ifndef PS_TOOL_INPUT_H
#define PS_TOOL_INPUT_H

#include "serve/tokenizer.h"

enum { PS_INPUT_BYTES_MAX = 1 << 30 };

/* Ids of one line, separated by blanks or commas. `where` and `line` (from 1) begin the message. */
ps_err ps_input_parse_ids(const char *text, size_t n, const char *where, int line,
                          ps_tokens *out) PS_MUST_CHECK;

/* Next line of text[*at ..): without its line end; false at the end. A last line without a line end
 * counts, an empty rest does not. */
bool ps_input_next_line(const ps_text *text, size_t *at, const char **line, size_t *n);

#endif
