/* The normalization rules of SentencePiece ("precompiled_charsmap", normalizer.cc): base64 of
 *
 *   u32     bytes of the double array
 *   u32[]   double array over UTF-8: prefix -> offset of its replacement
 *   bytes   replacements, each with a NUL behind it
 * all little endian. A unit of the array (Darts-clone) is: bits 0-7 and 31 the label, bit 8 "has a
 * leaf", bit 9 "offset in units of 256", bits 10-30 the offset; in a leaf bits 0-30 are the value.
 *
 * There are two ways to apply the rules, and they decide ids. SentencePiece's own: wherever a rule
 * begins, the longest one is applied. The tokenizers library's (normalizers/precompiled.rs),
 * oddities included: a grapheme cluster of less than six bytes is looked up as a whole, and the
 * *shortest* prefix that has a rule replaces all of it; otherwise each of its characters is looked
 * up alone. Every access is checked: the array comes from a file. */
#include "serve/tokenizer_parts.h"

#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"

enum {
    MAX_CLUSTER_BYTES = 5,
    MAX_RULE_BYTES = 256, // what a rule can be for; the cost of a position with a hostile array
};

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == '+') return 62;
    return c == '/' ? 63 : -1;
}

static bool decode_base64(const char *text, size_t n, ps_text *out)
{
    while (n > 0 && text[n - 1] == '=') {
        n--;
    }
    uint32_t bits = 0;
    int n_bits = 0;
    for (size_t i = 0; i < n; i++) {
        const int value = base64_value(text[i]);
        if (value < 0) return false;
        bits = (bits << 6 | (uint32_t)value) & 0xFFFF;
        n_bits += 6;
        if (n_bits < 8) continue;
        n_bits -= 8;
        ps_text_append_char(out, (char)(bits >> n_bits & 0xFF));
    }
    return true;
}

static uint32_t read_u32(const char *bytes)
{
    uint32_t value = 0;
    for (int i = 3; i >= 0; i--) {
        value = value << 8 | (unsigned char)bytes[i];
    }
    return value;
}

ps_err ps_tok_charsmap_read(ps_tok_charsmap *m, const char *base64, size_t n, const char *where)
{
    ps_text blob = {0};
    ps_err err = PS_OK;
    *m = (ps_tok_charsmap){0};
    if (!decode_base64(base64, n, &blob)) {
        err = PS_FAIL(PS_ERR_FORMAT, "%s: precompiled_charsmap is not base64", where);
        goto out;
    }
    const size_t array_bytes = blob.len >= 4 ? read_u32(blob.data) : 0;
    if (blob.len < 4 || array_bytes % 4 != 0 || array_bytes > blob.len - 4) {
        err = PS_FAIL(PS_ERR_FORMAT, "%s: precompiled_charsmap has %zu bytes, an array of %zu",
                      where, blob.len, array_bytes);
        goto out;
    }
    m->n_units = array_bytes / 4;
    m->unit = ps_mem_new(m->n_units, sizeof *m->unit);
    for (size_t i = 0; i < m->n_units; i++) {
        m->unit[i] = read_u32(blob.data + 4 + 4 * i);
    }
    m->n_strings = blob.len - 4 - array_bytes;
    m->strings = ps_mem_copy_bytes(blob.data + 4 + array_bytes, m->n_strings);
out:
    ps_text_release(&blob);
    return err;
}

void ps_tok_charsmap_release(ps_tok_charsmap *m)
{
    ps_mem_free(m->strings);
    ps_mem_free(m->unit);
    *m = (ps_tok_charsmap){0};
}

static size_t unit_offset(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & (1u << 9)) >> 6);
}

/* Replacement of a prefix of key[0..n) that has one, the shortest or the longest; *used is its
 * length. */
static bool look_up(const ps_tok_charsmap *m, const char *key, size_t n, size_t *used,
                    const char **found, size_t *found_bytes)
{
    size_t at = 0;
    *used = 0;
    if (m->n_units == 0) return false;
    if (n > MAX_RULE_BYTES) n = MAX_RULE_BYTES;
    at ^= unit_offset(m->unit[0]);
    for (size_t i = 0; i < n && key[i] != '\0' && (*used == 0 || m->longest_match); i++) {
        at ^= (unsigned char)key[i];
        if (at >= m->n_units) break;
        const uint32_t unit = m->unit[at];
        if ((unit & (1u << 31 | 0xFF)) != (unsigned char)key[i]) break;
        at ^= unit_offset(unit);
        if ((unit >> 8 & 1) == 0) continue;
        const size_t start = at < m->n_units ? m->unit[at] & 0x7FFFFFFF : SIZE_MAX;
        if (start > m->n_strings) break;
        *found = m->strings + start;
        *used = i + 1;
    }
    if (*used == 0) return false;
    *found_bytes = strlen(*found); // the copy of the strings ends with a NUL
    if (*found_bytes > PS_TOK_MAX_REPLACEMENT_BYTES) return false;
    return ps_utf8_valid_prefix(*found, *found_bytes, NULL) == *found_bytes;
}

/* A walk over a text; `kept` is what is written of its first `origin` bytes. */
typedef struct walk {
    const ps_tok_charsmap *map;
    const char *text;
    size_t origin, kept;
    ps_text *out;
} walk;

/* The library forgets about a replacement by nothing at the very start, so that the next character
 * counts as the first. */
static void append_for(walk *w, size_t at, const char *bytes, size_t n)
{
    ps_text_append(w->out, bytes, n);
    if (at < w->origin || (w->origin > 0 && w->kept == 0)) w->kept = w->out->len;
}

static void apply_to_cluster(walk *w, size_t start, size_t end)
{
    const char *text = w->text, *found;
    size_t found_bytes, used;
    if (end - start <= MAX_CLUSTER_BYTES &&
        look_up(w->map, text + start, end - start, &used, &found, &found_bytes)) {
        append_for(w, start, found, found_bytes);
        return;
    }
    for (size_t at = start; at < end;) {
        uint32_t c;
        const size_t length = ps_utf8_decode(text + at, end - at, &c);
        if (look_up(w->map, text + at, length, &used, &found, &found_bytes)) {
            append_for(w, at, found, found_bytes);
        } else {
            append_for(w, at, text + at, length);
        }
        at += length;
    }
}

/* Whether a cluster ends between two characters. */
static bool is_break(uint32_t before, uint32_t after, utf8proc_int32_t *state)
{
    if (before < 0x80 && after < 0x80) {
        *state = 0;
        return before != '\r' || after != '\n';
    }
    return utf8proc_grapheme_break_stateful((utf8proc_int32_t)before, (utf8proc_int32_t)after,
                                            state);
}

static void apply_longest(walk *w, size_t n)
{
    for (size_t at = 0; at < n;) {
        const char *text = w->text + at, *found;
        size_t found_bytes, used;
        uint32_t c;
        const size_t length = ps_utf8_decode(text, n - at, &c);
        // A rule that ends inside a character is none: rules are for whole characters.
        if (look_up(w->map, text, n - at, &used, &found, &found_bytes) && used >= length &&
            (at + used == n || ((unsigned char)text[used] & 0xC0) != 0x80)) {
            append_for(w, at, found, found_bytes);
            at += used;
        } else {
            append_for(w, at, text, length);
            at += length;
        }
    }
}

static void apply_to_clusters(walk *w, size_t n)
{
    const char *text = w->text;
    utf8proc_int32_t state = 0;
    uint32_t before = 0;
    size_t start = 0;
    for (size_t at = 0; at < n;) {
        uint32_t c;
        const size_t length = ps_utf8_decode(text + at, n - at, &c);
        if (at > 0 && is_break(before, c, &state)) {
            apply_to_cluster(w, start, at);
            start = at;
        }
        before = c;
        at += length;
    }
    apply_to_cluster(w, start, n);
}

void ps_tok_charsmap_apply(const ps_tok_charsmap *m, const char *text, size_t n, size_t *origin,
                           ps_text *out)
{
    walk w = {.map = m, .text = text, .origin = *origin, .out = out};
    if (m->longest_match) {
        apply_longest(&w, n);
    } else {
        apply_to_clusters(&w, n);
    }
    *origin = w.kept;
}
