/* Byte strings that double their room, and a strict UTF-8 walk by the table of RFC 3629 section 4.
 */
#include "base/text.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

void ps_text_release(ps_text *text)
{
    ps_mem_free(text->data);
    *text = (ps_text){0};
}

void ps_text_clear(ps_text *text)
{
    text->len = 0;
    if (text->data) text->data[0] = '\0';
}

static void reserve(ps_text *text, size_t more)
{
    text->data = ps_mem_grow(text->data, &text->capacity, text->len + more + 1, 1);
}

void ps_text_append(ps_text *text, const void *bytes, size_t n)
{
    reserve(text, n);
    if (n) memcpy(text->data + text->len, bytes, n);
    text->len += n;
    text->data[text->len] = '\0';
}

void ps_text_append_str(ps_text *text, const char *str)
{
    ps_text_append(text, str, strlen(str));
}

void ps_text_append_char(ps_text *text, char c)
{
    ps_text_append(text, &c, 1);
}

void ps_text_appendf(ps_text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    assert(n >= 0);
    reserve(text, (size_t)n);
    va_start(args, format);
    vsnprintf(text->data + text->len, (size_t)n + 1, format, args);
    va_end(args);
    text->len += (size_t)n;
}

const char *ps_text_str(const ps_text *text)
{
    return text->data ? text->data : "";
}

char *ps_text_take(ps_text *text)
{
    if (!text->data) reserve(text, 0);
    text->data[text->len] = '\0';
    char *data = text->data;
    *text = (ps_text){0};
    return data;
}

/* Length of a character from its first byte, and the range its second byte must lie in. 0: no first
 * byte at all. The ranges shut out overlong forms (E0, F0), surrogates (ED) and > U+10FFFF (F4). */
static size_t lead_length(unsigned char c, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xBF;
    if (c < 0x80) return 1;
    if (c < 0xC2) return 0;
    if (c < 0xE0) return 2;
    if (c == 0xE0) *low = 0xA0;
    if (c == 0xED) *high = 0x9F;
    if (c < 0xF0) return 3;
    if (c == 0xF0) *low = 0x90;
    if (c == 0xF4) *high = 0x8F;
    return c < 0xF5 ? 4 : 0;
}

size_t ps_utf8_valid_prefix(const char *bytes, size_t n, bool *incomplete)
{
    size_t i = 0;
    if (incomplete) *incomplete = false;
    while (i < n) {
        unsigned char low, high;
        const size_t length = lead_length((unsigned char)bytes[i], &low, &high);
        if (length == 0) return i;
        for (size_t k = 1; k < length; k++) {
            if (i + k == n) {
                if (incomplete) *incomplete = true;
                return i;
            }
            const unsigned char c = (unsigned char)bytes[i + k];
            if (c < low || c > high) return i;
            low = 0x80;
            high = 0xBF;
        }
        i += length;
    }
    return i;
}

size_t ps_utf8_decode(const char *bytes, size_t n, uint32_t *codepoint)
{
    unsigned char low, high;
    const unsigned char c = (unsigned char)bytes[0];
    const size_t length = lead_length(c, &low, &high);
    assert(length >= 1 && length <= n);
    static const unsigned char first_mask[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t value = c & first_mask[length];
    for (size_t k = 1; k < length; k++) {
        value = value << 6 | ((unsigned char)bytes[k] & 0x3F);
    }
    *codepoint = value;
    return length;
}

size_t ps_utf8_encode(uint32_t c, char out[4])
{
    assert(c <= 0x10FFFF);
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

/* The letter behind the backslash for characters that have such a form; 0 for others. */
static char short_escape(unsigned char c)
{
    switch (c) {
    case '"':
    case '\\':
        return (char)c;
    case '\n':
        return 'n';
    case '\t':
        return 't';
    case '\r':
        return 'r';
    default:
        return 0;
    }
}

size_t ps_text_escape_json(const char *bytes, size_t n, char out[PS_TEXT_JSON_BYTES], size_t *used)
{
    static const char replacement[3] = {'\xEF', '\xBF', '\xBD'}; // U+FFFD
    const unsigned char c = (unsigned char)bytes[0];
    const char letter = short_escape(c);
    *used = 1;
    if (letter) {
        out[0] = '\\';
        out[1] = letter;
        return 2;
    }
    if (c < 0x20) return (size_t)snprintf(out, PS_TEXT_JSON_BYTES, "\\u%04x", c);
    if (ps_utf8_valid_prefix(bytes, n < 4 ? n : 4, NULL) == 0) {
        memcpy(out, replacement, sizeof replacement);
        return 3;
    }
    uint32_t ignored;
    *used = ps_utf8_decode(bytes, n, &ignored);
    memcpy(out, bytes, *used);
    return *used;
}

int ps_text_distance(const char *a, const char *b)
{
    enum { MAX = 64 };
    const size_t la = strlen(a), lb = strlen(b);
    if (la >= MAX || lb >= MAX) return MAX;
    int row[MAX];
    for (size_t j = 0; j <= lb; j++) {
        row[j] = (int)j;
    }
    for (size_t i = 1; i <= la; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= lb; j++) {
            const int above = row[j];
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (above + 1 < best) best = above + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
            diagonal = above;
        }
    }
    return row[lb];
}
