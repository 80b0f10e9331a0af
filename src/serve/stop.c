/* Knuth-Morris-Pratt, one automaton per stop string, stepped side by side.
 *
 * The state of an automaton is the length of the longest end of the text that begins its string. So
 * the longest state over all strings is exactly what must be held back; it grows by one a byte at
 * most, so the place up to which text may be shown never moves back. One automaton for all strings
 * (Aho-Corasick) would save the factor of their number, which is 1 to 4 in practice, and costs a
 * transition table or a sorted child list per state.
 *
 * The places where text is cut lie at the beginning of a character: a stop string that begins with
 * the second byte of a character drags the place back by up to 3 bytes. */
#include "serve/stop.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"

typedef struct automaton {
    unsigned char *bytes; // [n]
    uint16_t *border;     // [n]  of bytes[0..i]: length of its longest proper end that begins it
    size_t n;
    size_t state; // bytes matched, < n
} automaton;

struct ps_stop {
    automaton *automata; // [n_automata]
    int n_automata;
    ps_text text;  // shown bytes up to `start`, then held ones
    size_t start;  // the held bytes are text[start..]
    int matched;   // -1 while none
    bool finished; // for the assert
};

_Static_assert(PS_STOP_MAX_BYTES <= UINT16_MAX, "a border fits");

/* State after one more byte; n when the string is complete. */
static size_t follow(const automaton *a, size_t state, unsigned char byte)
{
    while (state > 0 && a->bytes[state] != byte) {
        state = a->border[state - 1];
    }
    return state + (a->bytes[state] == byte);
}

static void build(automaton *a, const ps_stop_string *string)
{
    a->n = string->n;
    a->bytes = ps_mem_new(a->n, 1);
    memcpy(a->bytes, string->bytes, a->n);
    a->border = ps_mem_new(a->n, sizeof *a->border);
    size_t state = 0;
    for (size_t i = 1; i < a->n; i++) {
        state = follow(a, state, a->bytes[i]);
        a->border[i] = (uint16_t)state;
    }
}

ps_err ps_stop_check(const ps_stop_string *strings, int n_strings)
{
    assert(n_strings >= 0);
    if (n_strings > PS_STOP_MAX_STRINGS) {
        return PS_FAIL(PS_ERR_LIMIT, "stop: %d strings, at most %d are allowed", n_strings,
                       PS_STOP_MAX_STRINGS);
    }
    for (int i = 0; i < n_strings; i++) {
        if (strings[i].n == 0) {
            return PS_FAIL(PS_ERR_USAGE, "stop: string %d is empty, wanted at least one byte",
                           i + 1);
        }
        if (strings[i].n > PS_STOP_MAX_BYTES) {
            return PS_FAIL(PS_ERR_LIMIT, "stop: string %d has %zu bytes, at most %d are allowed",
                           i + 1, strings[i].n, PS_STOP_MAX_BYTES);
        }
    }
    return PS_OK;
}

ps_err ps_stop_new(const ps_stop_string *strings, int n_strings, ps_stop **out)
{
    *out = NULL;
    PS_TRY(ps_stop_check(strings, n_strings));
    ps_stop *s = ps_mem_new(1, sizeof *s);
    s->automata = ps_mem_new((size_t)n_strings, sizeof *s->automata);
    s->n_automata = n_strings;
    s->matched = -1;
    for (int i = 0; i < n_strings; i++) {
        build(&s->automata[i], &strings[i]);
    }
    *out = s;
    return PS_OK;
}

void ps_stop_free(ps_stop *s)
{
    if (!s) return;
    for (int i = 0; i < s->n_automata; i++) {
        ps_mem_free(s->automata[i].border);
        ps_mem_free(s->automata[i].bytes);
    }
    ps_mem_free(s->automata);
    ps_text_release(&s->text);
    ps_mem_free(s);
}

/* Steps all automata; sets `matched` to the longest string that is complete. */
static void step(ps_stop *s, unsigned char byte)
{
    size_t longest = 0;
    for (int i = 0; i < s->n_automata; i++) {
        automaton *a = &s->automata[i];
        a->state = follow(a, a->state, byte);
        if (a->state == a->n && a->n > longest) {
            longest = a->n;
            s->matched = i;
        }
    }
}

/* `place` or, if it lies inside a character, where that character begins. */
static size_t character_start(const ps_stop *s, size_t place)
{
    size_t at = place;
    for (int back = 0; back < 3 && at > s->start && at < s->text.len; back++) {
        if (((unsigned char)s->text.data[at] & 0xC0) != 0x80) break;
        at--;
    }
    return at;
}

static void show_up_to(ps_stop *s, size_t place, ps_text *out)
{
    assert(place >= s->start);
    if (place > s->start) ps_text_append(out, s->text.data + s->start, place - s->start);
    s->start = place;
}

/* Drops the shown bytes once they outnumber the held ones, so that each byte moves O(1) times. */
static void compact(ps_stop *s)
{
    const size_t held = s->text.len - s->start;
    if (s->start <= held) return;
    memmove(s->text.data, s->text.data + s->start, held);
    s->text.data[held] = '\0';
    s->text.len = held;
    s->start = 0;
}

bool ps_stop_push(ps_stop *s, const char *bytes, size_t n, ps_text *out)
{
    assert(!s->finished);
    if (s->matched >= 0) return true;
    if (s->n_automata == 0) {
        if (n > 0) ps_text_append(out, bytes, n);
        return false;
    }
    size_t end = s->text.len; // of the bytes the automata have seen
    if (n > 0) ps_text_append(&s->text, bytes, n);
    while (end < s->text.len && s->matched < 0) {
        step(s, (unsigned char)s->text.data[end++]);
    }
    size_t longest = 0;
    for (int i = 0; i < s->n_automata; i++) {
        if (s->automata[i].state > longest) longest = s->automata[i].state;
    }
    if (s->matched >= 0) longest = s->automata[s->matched].n;
    show_up_to(s, character_start(s, end - longest), out);
    if (s->matched >= 0) s->start = s->text.len;
    compact(s);
    return s->matched >= 0;
}

void ps_stop_finish(ps_stop *s, ps_text *out)
{
    if (s->matched < 0) show_up_to(s, s->text.len, out);
    s->finished = true;
}

int ps_stop_matched(const ps_stop *s)
{
    return s->matched;
}

size_t ps_stop_held_bytes(const ps_stop *s)
{
    return s->text.len - s->start;
}

const char *ps_stop_held(const ps_stop *s)
{
    return ps_text_str(&s->text) + s->start;
}
