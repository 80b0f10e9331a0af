/* What white space and digits are to those who trained the model: the text methods of Python 3.11
 * (Unicode 14), in which the texts that it was trained on were cut and converted.
 *
 * All texts are valid UTF-8.   MPI: local.   Errors: none.
 */
#ifndef PS_TOOL_ACESTEP_UNICODE_H
#define PS_TOOL_ACESTEP_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

/* A stretch of somebody's text; not NUL-terminated. */
typedef struct ps_span {
    const char *at;
    size_t n;
} ps_span;

ps_span ps_span_of(const char *text); // NULL: empty
ps_span ps_span_of_text(const ps_text *text);

/* str.isspace: white space by category or by its direction, U+001C .. U+001F and NEL among it. */
bool ps_unicode_is_space(uint32_t c);

/* Value of a decimal digit of any script; -1 for anything else. */
int ps_unicode_decimal(uint32_t c);

/* str.isdigit of one character: decimal digits, and those that stand alone, raised or in a circle.
 */
bool ps_unicode_is_digit(uint32_t c);

/* str.strip. */
ps_span ps_span_strip(ps_span text);

/* Where `part` begins in the text; text.n if nowhere. */
size_t ps_span_find(ps_span text, const char *part);

bool ps_span_starts_with(ps_span text, const char *part);

/* Takes the first line off *rest, without its line end; false when nothing is left. A text that
 * ends in a line end has an empty last line: str.split("\n"). rest->at is NULL behind the last. */
bool ps_span_next_line(ps_span *rest, ps_span *line);

/* Code points: the characters that limits and columns count. */
size_t ps_span_count_characters(ps_span text);

#endif
