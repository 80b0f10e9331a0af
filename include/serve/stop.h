/* Stop strings in a text that arrives in pieces.
 *
 *   pieces -> [ what may be shown | held back: may be the beginning of a stop string ] -> out
 *
 * The text ends where the first stop string is complete: the one that ends earliest, and of those
 * that end there the longest. Nothing from its first byte on is ever shown. What comes out does not
 * depend on how the text was cut into pieces.
 *
 * Stop strings are any bytes but none. Pieces are whole UTF-8 characters (the detokenizer sees to
 * that), and then so is what comes out at every push: a stop string that begins or ends inside a
 * character takes the whole character with it. Pieces of other bytes are searched all the same.
 *
 * Held back are at most (longest stop string - 1) bytes; 3 more for a stop string that begins
 * inside a character. The state follows from the sequence of pieces: a resumed request pushes its
 * old pieces again and throws away what it has shown already.
 *
 * Cost: O(bytes * number of stop strings), whatever they are.   MPI: local.
 */
#ifndef PS_SERVE_STOP_H
#define PS_SERVE_STOP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/text.h"

#define PS_STOP_MAX_STRINGS 64
#define PS_STOP_MAX_BYTES   4096 // of one stop string

typedef struct ps_stop_string {
    const char *bytes;
    size_t n;
} ps_stop_string;

typedef struct ps_stop ps_stop;

/* PS_ERR_USAGE for an empty string, PS_ERR_LIMIT for too many or too long ones. */
ps_err ps_stop_check(const ps_stop_string *strings, int n_strings) PS_MUST_CHECK;

/* Copies the strings; none at all is fine and holds nothing back. Owned by the caller.
 * Errors: those of ps_stop_check. */
ps_err ps_stop_new(const ps_stop_string *strings, int n_strings, ps_stop **out) PS_MUST_CHECK;
void ps_stop_free(ps_stop *s);

/* Appends to `out` what may be shown now. True once a stop string is complete: further pieces are
 * then ignored. */
bool ps_stop_push(ps_stop *s, const char *bytes, size_t n, ps_text *out);

/* The text is over: appends what was held back, unless a stop string was complete. Nothing may be
 * pushed afterwards. */
void ps_stop_finish(ps_stop *s, ps_text *out);

/* Index of the stop string that is complete (of equal ones the first), or -1. */
int ps_stop_matched(const ps_stop *s);

/* Bytes held back at present. They are all the state there is: a new ps_stop with the same strings
 * that is pushed these bytes first, and shows none of them, goes on like this one. */
size_t ps_stop_held_bytes(const ps_stop *s);
const char *ps_stop_held(const ps_stop *s); // borrowed until the next push; not NUL-terminated

#endif
