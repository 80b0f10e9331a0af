/* Unicode normalization forms (UAX #15): decompose every character, put combining marks in
 * canonical order, and for the composed forms compose again. Tables and composition are utf8proc's.
 *
 * The ordering is not: utf8proc sorts marks by exchanging neighbours, which takes quadratic time on
 * a long run of marks. Here each run is sorted by counting, 256 classes, so a run of m marks costs
 * m + 256 at worst, and short runs, the usual case, are sorted by insertion.
 *
 * A text is worked on in stretches that end before an ASCII character: none of those combines with
 * what stands in front of it. Runs of ASCII are copied. */
#include "serve/tokenizer_parts.h"

#include <assert.h>
#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"

enum { SHORT_RUN = 16, MAX_DECOMPOSITION = 32 };

typedef struct stretch {
    utf8proc_int32_t *c; // code points
    size_t n, capacity;
    utf8proc_int32_t *sorted; // scratch of one run
    size_t sorted_capacity;
} stretch;

static int combining_class(utf8proc_int32_t c)
{
    return utf8proc_get_property(c)->combining_class;
}

static void sort_by_insertion(utf8proc_int32_t *c, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        const utf8proc_int32_t moving = c[i];
        const int class = combining_class(moving);
        size_t at = i;
        for (; at > 0 && combining_class(c[at - 1]) > class; at--) {
            c[at] = c[at - 1];
        }
        c[at] = moving;
    }
}

static void sort_by_counting(stretch *s, utf8proc_int32_t *c, size_t n)
{
    size_t start[257] = {0};
    for (size_t i = 0; i < n; i++) {
        start[combining_class(c[i]) + 1]++;
    }
    for (int k = 0; k < 256; k++) {
        start[k + 1] += start[k];
    }
    s->sorted = ps_mem_grow(s->sorted, &s->sorted_capacity, n, sizeof *s->sorted);
    for (size_t i = 0; i < n; i++) {
        s->sorted[start[combining_class(c[i])]++] = c[i];
    }
    memcpy(c, s->sorted, n * sizeof *c);
}

static void put_in_canonical_order(stretch *s)
{
    size_t at = 0;
    while (at < s->n) {
        if (combining_class(s->c[at]) == 0) {
            at++;
            continue;
        }
        size_t end = at + 1;
        while (end < s->n && combining_class(s->c[end]) != 0) {
            end++;
        }
        if (end - at <= SHORT_RUN) {
            sort_by_insertion(s->c + at, end - at);
        } else {
            sort_by_counting(s, s->c + at, end - at);
        }
        at = end;
    }
}

static void decompose(stretch *s, const char *text, size_t n, bool compatible)
{
    const utf8proc_option_t options =
        compatible ? UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT : UTF8PROC_DECOMPOSE;
    s->n = 0;
    for (size_t i = 0; i < n;) {
        uint32_t c;
        int boundary = UTF8PROC_BOUNDCLASS_START;
        i += ps_utf8_decode(text + i, n - i, &c);
        s->c = ps_mem_grow(s->c, &s->capacity, s->n + MAX_DECOMPOSITION, sizeof *s->c);
        if (ps_tok_has_young_decomposition(c)) {
            s->c[s->n++] = (utf8proc_int32_t)c;
            continue;
        }
        const utf8proc_ssize_t length = utf8proc_decompose_char(
            (utf8proc_int32_t)c, s->c + s->n, MAX_DECOMPOSITION, options, &boundary);
        assert(length >= 0 && length <= MAX_DECOMPOSITION && "the longest is 18 (U+FDFA)");
        s->n += (size_t)length;
    }
}

static void normalize_stretch(stretch *s, const char *text, size_t n, bool compatible, bool compose,
                              ps_text *out)
{
    decompose(s, text, n, compatible);
    put_in_canonical_order(s);
    if (compose) {
        const utf8proc_ssize_t length = utf8proc_normalize_utf32(
            s->c, (utf8proc_ssize_t)s->n, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        assert(length >= 0);
        assert((size_t)length <= s->n);
        s->n = (size_t)length;
    }
    for (size_t i = 0; i < s->n; i++) {
        char bytes[4];
        const size_t length = ps_utf8_encode((uint32_t)s->c[i], bytes);
        ps_text_append(out, bytes, length);
    }
}

static size_t ascii_run(const char *text, size_t n)
{
    size_t i = 0;
    while (i < n && (unsigned char)text[i] < 0x80) {
        i++;
    }
    return i;
}

void ps_tok_unicode_normalize(const char *text, size_t n, bool compatible, bool compose,
                              ps_text *out)
{
    stretch s = {0};
    size_t at = 0;
    while (at < n) {
        const size_t ascii = ascii_run(text + at, n - at);
        if (at + ascii == n) {
            ps_text_append(out, text + at, ascii);
            break;
        }
        // The last ASCII character may take part: a letter before its accent.
        const size_t copied = ascii > 0 ? ascii - 1 : 0;
        ps_text_append(out, text + at, copied);
        at += copied;
        size_t end = at + (ascii > 0);
        while (end < n && (unsigned char)text[end] >= 0x80) {
            end++;
        }
        normalize_stretch(&s, text + at, end - at, compatible, compose, out);
        at = end;
    }
    ps_mem_free(s.sorted);
    ps_mem_free(s.c);
}
