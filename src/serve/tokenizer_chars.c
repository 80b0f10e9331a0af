/* Classes of characters as the tokenizers library has them (Rust's char and regex, and the crate
 * unicode_categories for punctuation), from utf8proc's general categories, and the byte alphabet.
 *
 * The byte alphabet (GPT-2, encoder.py): bytes 33-126, 161-172 and 174-255 are the characters of
 * the same number; the other 68, in order, are U+0100 .. U+0143. It is arithmetic, not a table. */
#include "serve/tokenizer_parts.h"

#include <utf8proc.h>

#define REPLACEMENT "\xEF\xBF\xBD" // U+FFFD

bool ps_tok_is_space(uint32_t c)
{
    if (c < 0x80) return (c >= 0x09 && c <= 0x0D) || c == 0x20;
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static utf8proc_category_t category(uint32_t c)
{
    const uint32_t stand_in = c < 0x800 ? 0 : ps_tok_stand_in(c);
    return utf8proc_category((utf8proc_int32_t)(stand_in ? stand_in : c));
}

bool ps_tok_is_mark(uint32_t c)
{
    if (c < 0x300 || ps_tok_is_young_mark(c)) return false;
    if (c == 0x1CF2 || c == 0x1CF3) return true; // letters since Unicode 12
    const utf8proc_category_t k = category(c);
    return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_MC || k == UTF8PROC_CATEGORY_ME;
}

bool ps_tok_is_numeric(uint32_t c)
{
    if (c < 0x80) return c >= '0' && c <= '9';
    const utf8proc_category_t k = category(c);
    return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}

bool ps_tok_is_punctuation(uint32_t c)
{
    if (c < 0x80)
        return c > 0x20 && c < 0x7F && !(c >= '0' && c <= '9') && (c < 'A' || c > 'Z') &&
               (c < 'a' || c > 'z');
    if (ps_tok_is_young_punctuation(c)) return false;
    if (c == 0x166D || c == 0x111C9) return true; // something else since Unicode 12 and 11
    const utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}

/* \w is Alphabetic, M, Nd, Pc and Join_Control. Alphabetic is L, Nl, some of M, and the circled and
 * squared Latin letters, which are symbols. */
bool ps_tok_is_word(uint32_t c)
{
    if (c < 0x80) {
        return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
               c == '_';
    }
    if (c == 0x200C || c == 0x200D) return true;
    if (c >= 0x24B6 && c <= 0x24E9) return true;
    if ((c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
        (c >= 0x1F170 && c <= 0x1F189)) {
        return true;
    }
    const utf8proc_category_t k = category(c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NL) || k == UTF8PROC_CATEGORY_PC;
}

uint32_t ps_tok_char_before(const char *text, size_t at)
{
    size_t start = at - 1;
    while (start > 0 && ((unsigned char)text[start] & 0xC0) == 0x80) {
        start--;
    }
    uint32_t c;
    ps_utf8_decode(text + start, at - start, &c);
    return c;
}

uint32_t ps_tok_char_of_byte(unsigned char byte)
{
    if (byte <= 32) return 0x100u + byte;
    if (byte >= 127 && byte <= 160) return 0x100u + 33u + (byte - 127u);
    if (byte == 173) return 0x100u + 67u;
    return byte;
}

int ps_tok_byte_of_char(uint32_t c)
{
    if (c >= 0x144) return -1;
    if (c >= 0x100) {
        const uint32_t place = c - 0x100;
        if (place <= 32) return (int)place;
        return place == 67 ? 173 : (int)(place - 33 + 127);
    }
    const bool itself = (c >= 33 && c <= 126) || (c >= 161 && c != 173);
    return itself ? (int)c : -1;
}

void ps_tok_append_byte_chars(ps_text *out, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c[4];
        const size_t length = ps_utf8_encode(ps_tok_char_of_byte((unsigned char)bytes[i]), c);
        ps_text_append(out, c, length);
    }
}

/* Bytes of the invalid part at bytes[0]: as many as begin some valid character, at least one. */
static size_t invalid_part(const char *bytes, size_t n)
{
    size_t length = 1;
    bool incomplete = true;
    while (length < n && length < 4) {
        ps_utf8_valid_prefix(bytes, length + 1, &incomplete);
        if (!incomplete) break;
        length++;
    }
    return length;
}

size_t ps_tok_append_certain(ps_text *out, const char *bytes, size_t n)
{
    size_t at = 0;
    for (;;) {
        bool incomplete;
        const size_t good = ps_utf8_valid_prefix(bytes + at, n - at, &incomplete);
        ps_text_append(out, bytes + at, good);
        at += good;
        if (at == n || incomplete) return at;
        ps_text_append_str(out, REPLACEMENT);
        at += invalid_part(bytes + at, n - at);
    }
}

void ps_tok_append_lossy(ps_text *out, const char *bytes, size_t n)
{
    if (ps_tok_append_certain(out, bytes, n) < n) ps_text_append_str(out, REPLACEMENT);
}
