#include "tool/acestep/unicode.h"

#include <string.h>

/* The zeros of all scripts; each is followed by its digits 1 to 9. */
static const uint32_t zeros[] = {
    0x0030,  0x0660,  0x06F0,  0x07C0,  0x0966,  0x09E6,  0x0A66,  0x0AE6,  0x0B66,  0x0BE6,
    0x0C66,  0x0CE6,  0x0D66,  0x0DE6,  0x0E50,  0x0ED0,  0x0F20,  0x1040,  0x1090,  0x17E0,
    0x1810,  0x1946,  0x19D0,  0x1A80,  0x1A90,  0x1B50,  0x1BB0,  0x1C40,  0x1C50,  0xA620,
    0xA8D0,  0xA900,  0xA9D0,  0xA9F0,  0xAA50,  0xABF0,  0xFF10,  0x104A0, 0x10D30, 0x11066,
    0x110F0, 0x11136, 0x111D0, 0x112F0, 0x11450, 0x114D0, 0x11650, 0x116C0, 0x11730, 0x118E0,
    0x11950, 0x11C50, 0x11D50, 0x11DA0, 0x16A60, 0x16AC0, 0x16B50, 0x1D7CE, 0x1D7D8, 0x1D7E2,
    0x1D7EC, 0x1D7F6, 0x1E140, 0x1E2F0, 0x1E950, 0x1FBF0,
};

typedef struct range {
    uint32_t first, last;
} range;

/* Digits that are no decimal ones. */
static const range lone_digits[] = {
    {0x00B2, 0x00B3},   {0x00B9, 0x00B9},   {0x1369, 0x1371},   {0x19DA, 0x19DA},
    {0x2070, 0x2070},   {0x2074, 0x2079},   {0x2080, 0x2089},   {0x2460, 0x2468},
    {0x2474, 0x247C},   {0x2488, 0x2490},   {0x24EA, 0x24EA},   {0x24F5, 0x24FD},
    {0x24FF, 0x24FF},   {0x2776, 0x277E},   {0x2780, 0x2788},   {0x278A, 0x2792},
    {0x10A40, 0x10A43}, {0x10E60, 0x10E68}, {0x11052, 0x1105A}, {0x1F100, 0x1F10A},
};

static const range spaces[] = {
    {0x0009, 0x000D}, {0x001C, 0x0020}, {0x0085, 0x0085}, {0x00A0, 0x00A0}, {0x1680, 0x1680},
    {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000},
};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static bool is_in(const range *ranges, size_t n, uint32_t c)
{
    for (size_t i = 0; i < n && ranges[i].first <= c; i++) {
        if (c <= ranges[i].last) return true;
    }
    return false;
}

ps_span ps_span_of(const char *text)
{
    return (ps_span){text ? text : "", text ? strlen(text) : 0};
}

ps_span ps_span_of_text(const ps_text *text)
{
    return (ps_span){ps_text_str(text), text->len};
}

bool ps_unicode_is_space(uint32_t c)
{
    return is_in(spaces, COUNT(spaces), c);
}

int ps_unicode_decimal(uint32_t c)
{
    for (size_t i = 0; i < COUNT(zeros) && zeros[i] <= c; i++) {
        if (c <= zeros[i] + 9) return (int)(c - zeros[i]);
    }
    return -1;
}

bool ps_unicode_is_digit(uint32_t c)
{
    return ps_unicode_decimal(c) >= 0 || is_in(lone_digits, COUNT(lone_digits), c);
}

/* Bytes of white space at the end: back over a character's continuation bytes to its first. */
static size_t last_space(ps_span text)
{
    size_t begin = text.n - 1;
    while (begin > 0 && ((unsigned char)text.at[begin] & 0xC0) == 0x80) {
        begin--;
    }
    uint32_t c;
    ps_utf8_decode(text.at + begin, text.n - begin, &c);
    return ps_unicode_is_space(c) ? text.n - begin : 0;
}

ps_span ps_span_strip(ps_span text)
{
    while (text.n > 0) {
        uint32_t c;
        const size_t length = ps_utf8_decode(text.at, text.n, &c);
        if (!ps_unicode_is_space(c)) break;
        text.at += length;
        text.n -= length;
    }
    for (size_t length; text.n > 0 && (length = last_space(text)) > 0;) {
        text.n -= length;
    }
    return text;
}

size_t ps_span_find(ps_span text, const char *part)
{
    const char *found = text.n > 0 ? memmem(text.at, text.n, part, strlen(part)) : NULL;
    return found ? (size_t)(found - text.at) : text.n;
}

bool ps_span_starts_with(ps_span text, const char *part)
{
    const size_t n = strlen(part);
    return text.n >= n && memcmp(text.at, part, n) == 0;
}

bool ps_span_next_line(ps_span *rest, ps_span *line)
{
    if (!rest->at) return false;
    const char *end = rest->n > 0 ? memchr(rest->at, '\n', rest->n) : NULL;
    *line = (ps_span){rest->at, end ? (size_t)(end - rest->at) : rest->n};
    *rest = end ? (ps_span){end + 1, rest->n - line->n - 1} : (ps_span){NULL, 0};
    return true;
}

size_t ps_span_count_characters(ps_span text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++) {
        n += ((unsigned char)text.at[i] & 0xC0) != 0x80;
    }
    return n;
}
