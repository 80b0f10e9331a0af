/* Normalizers: each turns a whole text into another.
 *
 * Besides the text they keep account of how much of its beginning comes from the first character of
 * what is encoded: the Metaspace pre-tokenizer asks for it ("prepend_scheme": "first"). The
 * tokenizers library keeps the origin of every byte for that; here it is one number, w->origin, and
 * the rule that what a step writes for a character has the origin of that character. */
#include "serve/tokenizer_parts.h"

#include "base/json.h"
#include "base/mem.h"

typedef enum normalizer_type {
    NFC,
    NFD,
    NFKC,
    NFKD,
    LOWERCASE,
    STRIP_ACCENTS,
    STRIP,
    REPLACE,
    PREPEND,
    NMT,
    PRECOMPILED,
    BYTE_LEVEL,
    TYPE_COUNT
} normalizer_type;

static const char *const type_names[] = {
    [NFC] = "NFC",
    [NFD] = "NFD",
    [NFKC] = "NFKC",
    [NFKD] = "NFKD",
    [LOWERCASE] = "Lowercase",
    [STRIP_ACCENTS] = "StripAccents",
    [STRIP] = "Strip",
    [REPLACE] = "Replace",
    [PREPEND] = "Prepend",
    [NMT] = "Nmt",
    [PRECOMPILED] = "Precompiled",
    [BYTE_LEVEL] = "ByteLevel",
};
_Static_assert(sizeof type_names / sizeof *type_names == TYPE_COUNT, "a name for each type");

struct ps_tok_normalizer {
    normalizer_type type;
    bool strip_left, strip_right;
    ps_tok_pattern pattern; // REPLACE
    ps_text text;           // REPLACE: the replacement; PREPEND: the prefix
    ps_tok_charsmap charsmap;
};

static ps_err read_text(const ps_tok_component *c, const char *key, ps_text *out)
{
    const char *text;
    size_t n;
    PS_TRY(ps_tok_read_string(c, key, &text, &n));
    if (n > PS_TOK_MAX_REPLACEMENT_BYTES) {
        return PS_FAIL(PS_ERR_LIMIT, "%s: %s has %zu bytes, at most %d", c->where, key, n,
                       PS_TOK_MAX_REPLACEMENT_BYTES);
    }
    ps_text_append(out, text, n);
    return PS_OK;
}

static ps_err read_normalizer(const ps_tok_component *c, ps_tok_normalizer *out)
{
    out->type = (normalizer_type)c->type;
    switch (out->type) {
    case STRIP:
        PS_TRY(ps_json_opt_bool(c->json, "strip_left", c->where, &out->strip_left));
        return ps_json_opt_bool(c->json, "strip_right", c->where, &out->strip_right);
    case REPLACE:
        PS_TRY(ps_tok_read_pattern(c, &out->pattern));
        return read_text(c, "content", &out->text);
    case PREPEND:
        return read_text(c, "prepend", &out->text);
    case PRECOMPILED: {
        const char *base64;
        size_t n;
        PS_TRY(ps_tok_read_string(c, "precompiled_charsmap", &base64, &n));
        PS_TRY(ps_tok_charsmap_read(&out->charsmap, base64, n, c->where));
        return ps_json_opt_bool(c->json, "longest_match", c->where, &out->charsmap.longest_match);
    }
    default:
        return PS_OK;
    }
}

ps_err ps_tok_normalizers_read(ps_tok_normalizers *out, const json_t *tokenizer, const char *where)
{
    const ps_tok_kind kind = {"normalizer", "normalizers", type_names, TYPE_COUNT};
    ps_tok_component components[PS_TOK_MAX_COMPONENTS];
    int n = 0;
    *out = (ps_tok_normalizers){0};
    PS_TRY(ps_tok_read_components(tokenizer, &kind, where, components, &n));
    out->list = ps_mem_new((size_t)n, sizeof *out->list);
    out->n = n;
    for (int i = 0; i < n; i++) {
        PS_TRY(read_normalizer(&components[i], &out->list[i]));
    }
    return PS_OK;
}

void ps_tok_normalizers_release(ps_tok_normalizers *ns)
{
    for (int i = 0; i < ns->n; i++) {
        ps_tok_pattern_release(&ns->list[i].pattern);
        ps_text_release(&ns->list[i].text);
        ps_tok_charsmap_release(&ns->list[i].charsmap);
    }
    ps_mem_free(ns->list);
    *ns = (ps_tok_normalizers){0};
}

static void append_char(ps_text *out, uint32_t c)
{
    char bytes[4];
    const size_t n = ps_utf8_encode(c, bytes);
    ps_text_append(out, bytes, n);
}

/* Notes that everything written so far comes from the first character, if text[at] does. */
static void keep_origin(const ps_tok_work *w, size_t at, const ps_text *out, size_t *origin)
{
    if (at < w->origin) *origin = out->len;
}

/* Lower case, character by character and without context. One character becomes two. */
static void lowercase(ps_tok_work *w, ps_text *out)
{
    size_t origin = 0;
    for (size_t i = 0; i < w->n;) {
        uint32_t c;
        const size_t at = i;
        i += ps_utf8_decode(w->text + i, w->n - i, &c);
        if (c == 0x130) {
            ps_text_append_str(out, "i\xCC\x87");
        } else {
            append_char(out, ps_tok_small_letter(c));
        }
        keep_origin(w, at, out, &origin);
    }
    w->origin = origin;
}

static bool removed_by_nmt(uint32_t c)
{
    return (c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F ||
           c == 0x8F || c == 0x9F;
}

static bool blank_by_nmt(uint32_t c)
{
    return c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 ||
           (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
           c == 0xFEFF || c == 0xFFFD;
}

/* Drops or replaces single characters. */
static void filter(ps_tok_work *w, normalizer_type type, ps_text *out)
{
    size_t origin = 0;
    for (size_t i = 0; i < w->n;) {
        uint32_t c;
        const size_t at = i;
        i += ps_utf8_decode(w->text + i, w->n - i, &c);
        if (type == NMT ? removed_by_nmt(c) : ps_tok_is_mark(c)) continue;
        append_char(out, type == NMT && blank_by_nmt(c) ? ' ' : c);
        keep_origin(w, at, out, &origin);
    }
    w->origin = origin;
}

static void strip(const ps_tok_normalizer *nz, ps_tok_work *w, ps_text *out)
{
    size_t start = 0, end = w->n;
    while (nz->strip_left && start < end) {
        uint32_t c;
        const size_t length = ps_utf8_decode(w->text + start, end - start, &c);
        if (!ps_tok_is_space(c)) break;
        start += length;
    }
    while (nz->strip_right && end > start) {
        const uint32_t c = ps_tok_char_before(w->text, end);
        if (!ps_tok_is_space(c)) break;
        char bytes[4];
        end -= ps_utf8_encode(c, bytes);
    }
    w->origin = w->origin > start ? w->origin - start : 0;
    ps_text_append(out, w->text + start, end - start);
}

/* What is put in place of a match counts as coming from its last character. */
static ps_err replace(const ps_tok_normalizer *nz, ps_tok_work *w, ps_text *out)
{
    ps_tok_search search;
    ps_tok_search_begin(&search, &nz->pattern, w->matcher, w->text, w->n);
    size_t done = 0, origin = 0;
    for (;;) {
        bool found;
        size_t start, end;
        PS_TRY(ps_tok_search_next(&search, &found, &start, &end));
        if (!found) break;
        ps_text_append(out, w->text + done, start - done);
        if (done < w->origin) origin = out->len - (start > w->origin ? start - w->origin : 0);
        ps_text_append(out, nz->text.data, nz->text.len);
        keep_origin(w, end > 0 ? end - 1 : 0, out, &origin);
        done = end;
    }
    ps_text_append(out, w->text + done, w->n - done);
    if (done < w->origin) origin = out->len - (w->n - w->origin);
    w->origin = origin;
    return PS_OK;
}

/* The normal form of the first character's part alone, and of its first character at least: what
 * follows may have been composed into it. */
static void normalize_form(ps_tok_work *w, normalizer_type type, ps_text *out)
{
    const bool compatible = type == NFKC || type == NFKD;
    const bool compose = type == NFC || type == NFKC;
    ps_tok_unicode_normalize(w->text, w->n, compatible, compose, out);
    if (w->origin == 0) return;
    ps_text part = {0};
    uint32_t c;
    ps_tok_unicode_normalize(w->text, w->origin, compatible, compose, &part);
    const size_t first = out->len > 0 ? ps_utf8_decode(out->data, out->len, &c) : 0;
    const size_t shorter = part.len < out->len ? part.len : out->len;
    w->origin = shorter > first ? shorter : first;
    ps_text_release(&part);
}

static void write_byte_chars(ps_tok_work *w, ps_text *out)
{
    ps_tok_append_byte_chars(out, w->text, w->origin);
    const size_t origin = out->len;
    ps_tok_append_byte_chars(out, w->text + w->origin, w->n - w->origin);
    w->origin = origin;
}

static ps_err apply(const ps_tok_normalizer *nz, ps_tok_work *w, ps_text *out)
{
    switch (nz->type) {
    case NFC:
    case NFD:
    case NFKC:
    case NFKD:
        normalize_form(w, nz->type, out);
        return PS_OK;
    case LOWERCASE:
        lowercase(w, out);
        return PS_OK;
    case STRIP_ACCENTS:
    case NMT:
        filter(w, nz->type, out);
        return PS_OK;
    case STRIP:
        strip(nz, w, out);
        return PS_OK;
    case REPLACE:
        return replace(nz, w, out);
    case PREPEND:
        ps_text_append(out, nz->text.data, nz->text.len);
        ps_text_append(out, w->text, w->n);
        if (w->origin > 0) w->origin += nz->text.len;
        return PS_OK;
    case PRECOMPILED:
        ps_tok_charsmap_apply(&nz->charsmap, w->text, w->n, &w->origin, out);
        return PS_OK;
    default: // BYTE_LEVEL
        write_byte_chars(w, out);
        return PS_OK;
    }
}

ps_err ps_tok_normalize(const ps_tok_normalizers *ns, ps_tok_work *w)
{
    for (int i = 0; i < ns->n; i++) {
        // An empty text stays empty: no normalizer puts anything in front of nothing.
        if (w->n == 0) return PS_OK;
        PS_TRY(apply(&ns->list[i], w, ps_tok_work_other(w)));
        PS_TRY(ps_tok_work_flip(w));
    }
    return PS_OK;
}
