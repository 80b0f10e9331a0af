/* Growing byte strings, and the few things about UTF-8 that several rooms need.
 *
 * A ps_text holds bytes, not necessarily UTF-8, and always a NUL behind them. Owned by whoever
 * declares it: start from {0}, end with ps_text_release.
 *
 * MPI: local.   Errors: none; exhaustion of memory ends the process (see base/mem.h).
 */
#ifndef PS_BASE_TEXT_H
#define PS_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct ps_text {
    char *data; // NUL-terminated once anything was appended; NULL before
    size_t len; // bytes without the NUL
    size_t capacity;
} ps_text;

void ps_text_release(ps_text *text);
void ps_text_clear(ps_text *text); // length 0, memory kept
void ps_text_append(ps_text *text, const void *bytes, size_t n);
void ps_text_append_str(ps_text *text, const char *str);
void ps_text_append_char(ps_text *text, char c);
void ps_text_appendf(ps_text *text, const char *format, ...) PS_PRINTF(2, 3);

/* Contents as a C string: never NULL. Borrowed until the next change. */
const char *ps_text_str(const ps_text *text);

/* Moves the contents out: the caller owns the string, the text is empty again. Never NULL. */
char *ps_text_take(ps_text *text);

/* Length of the longest prefix of bytes[0..n) that is whole, valid UTF-8 characters (RFC 3629: no
 * surrogates, nothing over U+10FFFF, shortest forms). *incomplete (may be NULL) becomes true when
 * the rest is the valid beginning of a character that is not finished yet. */
size_t ps_utf8_valid_prefix(const char *bytes, size_t n, bool *incomplete);

/* Decodes one character of valid UTF-8; returns its length in bytes. n >= 1. */
size_t ps_utf8_decode(const char *bytes, size_t n, uint32_t *codepoint);

/* Encodes a code point <= U+10FFFF into out[4]; returns the number of bytes. */
size_t ps_utf8_encode(uint32_t codepoint, char out[4]);

/* The next character of bytes[0..n), n >= 1, as it stands within a JSON string: returns its length
 * in out, and in *used how many bytes it was. What is not UTF-8 becomes U+FFFD, byte by byte. Takes
 * no memory. */
enum { PS_TEXT_JSON_BYTES = 8 };
size_t ps_text_escape_json(const char *bytes, size_t n, char out[PS_TEXT_JSON_BYTES], size_t *used);

/* Number of single-character insertions, deletions and replacements between two names; for "did you
 * mean". Names longer than 63 bytes count as far away. */
int ps_text_distance(const char *a, const char *b);

#endif
