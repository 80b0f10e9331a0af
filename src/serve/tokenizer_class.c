/* Classes of characters in regular expressions: escapes, properties, POSIX brackets, and bracketed
 * classes with their classes inside.
 *
 * PCRE2 has neither classes in classes nor intersections, so a class that uses them becomes an
 * expression that matches one character:
 *
 *   [ab[^c]]     (?:[ab]|[^c])
 *   [a-z&&[^q]]  (?:(?=[a-z])[^q])
 *   [^...]       of such: (?:(?!...)(?s:.))
 * A class inside that is not negated just adds its items to the one around it. */
#include "serve/tokenizer_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <ctype.h>
#include <pcre2.h>
#include <stdio.h>
#include <string.h>

/* Names as Oniguruma compares them: lower case, without blanks, '-' and '_'. `space` and `word`
 * stand for those sets; an items string beginning with '^' is a complement. */
static const struct {
    const char *name, *items;
} properties[] = {
    {"any", "\\p{Any}"},
    {"assigned", "^\\p{Cn}"},
    {"ascii", "\\x{0}-\\x{7F}"},
    {"alnum", "\\p{Alphabetic}\\p{Nd}"},
    {"alpha", "\\p{Alphabetic}"},
    {"alphabetic", "\\p{Alphabetic}"},
    {"blank", "\\t\\p{Zs}"},
    {"cntrl", "\\p{Cc}"},
    {"digit", "\\p{Nd}"},
    {"graph", "^" PS_TOK_REGEX_SPACE "\\p{Cc}\\p{Cn}\\p{Cs}"},
    {"lower", "\\p{Lowercase}"},
    {"lowercase", "\\p{Lowercase}"},
    {"print", "^\\x{2028}\\x{2029}\\p{Cc}\\p{Cn}\\p{Cs}"},
    {"punct", "\\p{P}"},
    {"space", PS_TOK_REGEX_SPACE},
    {"upper", "\\p{Uppercase}"},
    {"uppercase", "\\p{Uppercase}"},
    {"whitespace", PS_TOK_REGEX_SPACE},
    {"word", "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"},
    {"xdigit", "0-9A-Fa-f"},
    // General categories by their long names.
    {"other", "\\p{C}"},
    {"control", "\\p{Cc}"},
    {"format", "\\p{Cf}"},
    {"unassigned", "\\p{Cn}"},
    {"privateuse", "\\p{Co}"},
    {"surrogate", "\\p{Cs}"},
    {"letter", "\\p{L}"},
    {"casedletter", "\\p{L&}"},
    {"lc", "\\p{L&}"},
    {"lowercaseletter", "\\p{Ll}"},
    {"modifierletter", "\\p{Lm}"},
    {"otherletter", "\\p{Lo}"},
    {"titlecaseletter", "\\p{Lt}"},
    {"uppercaseletter", "\\p{Lu}"},
    {"mark", "\\p{M}"},
    {"combiningmark", "\\p{M}"},
    {"spacingmark", "\\p{Mc}"},
    {"enclosingmark", "\\p{Me}"},
    {"nonspacingmark", "\\p{Mn}"},
    {"number", "\\p{N}"},
    {"decimalnumber", "\\p{Nd}"},
    {"letternumber", "\\p{Nl}"},
    {"othernumber", "\\p{No}"},
    {"punctuation", "\\p{P}"},
    {"connectorpunctuation", "\\p{Pc}"},
    {"dashpunctuation", "\\p{Pd}"},
    {"closepunctuation", "\\p{Pe}"},
    {"finalpunctuation", "\\p{Pf}"},
    {"initialpunctuation", "\\p{Pi}"},
    {"otherpunctuation", "\\p{Po}"},
    {"openpunctuation", "\\p{Ps}"},
    {"symbol", "\\p{S}"},
    {"currencysymbol", "\\p{Sc}"},
    {"modifiersymbol", "\\p{Sk}"},
    {"mathsymbol", "\\p{Sm}"},
    {"othersymbol", "\\p{So}"},
    {"separator", "\\p{Z}"},
    {"lineseparator", "\\p{Zl}"},
    {"paragraphseparator", "\\p{Zp}"},
    {"spaceseparator", "\\p{Zs}"},
};

enum { NAME_BYTES = 64 };

static void set_items(ps_tok_regex_set *set, const char *items)
{
    set->is_char = false;
    if (items[0] == '^') {
        set->negated = !set->negated;
        items++;
    }
    snprintf(set->items, sizeof set->items, "%s", items);
}

static void set_char(ps_tok_regex_set *set, uint32_t c)
{
    set->is_char = true;
    set->code_point = c;
}

/* Whether PCRE2 knows a property by this text. */
static bool is_known(const char *items)
{
    int code = 0;
    PCRE2_SIZE offset = 0;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)items, PCRE2_ZERO_TERMINATED,
                                         PCRE2_UTF | PCRE2_UCP, &code, &offset, NULL);
    pcre2_code_free(compiled);
    return compiled != NULL;
}

/* Items of a property: out of the table, a general category's short name, a script, or a binary
 * property that PCRE2 calls the same. */
static ps_err find_property(const ps_tok_regex_input *in, const char *name, ps_tok_regex_set *out)
{
    for (size_t i = 0; i < sizeof properties / sizeof *properties; i++) {
        if (strcmp(properties[i].name, name) == 0) {
            set_items(out, properties[i].items);
            return PS_OK;
        }
    }
    char items[NAME_BYTES + 16];
    if (strlen(name) <= 2) {
        snprintf(items, sizeof items, "\\p{%c%s}", toupper((unsigned char)name[0]), name + 1);
    } else {
        snprintf(items, sizeof items, "\\p{sc:%s}", name);
        if (!is_known(items)) snprintf(items, sizeof items, "\\p{%s}", name);
    }
    if (!is_known(items)) return ps_tok_regex_unsupported(in, "an unknown property");
    set_items(out, items);
    return PS_OK;
}

/* A name up to `end`, in the form of the table; in->at is behind the end then. */
static ps_err read_name(ps_tok_regex_input *in, const char *end, char name[NAME_BYTES])
{
    size_t n = 0;
    const size_t end_bytes = strlen(end);
    for (; in->n - in->at >= end_bytes; in->at++) {
        const char c = in->text[in->at];
        if (memcmp(in->text + in->at, end, end_bytes) == 0) {
            name[n] = '\0';
            in->at += end_bytes;
            return n > 0 ? PS_OK : ps_tok_regex_unsupported(in, "a property without a name");
        }
        if (c == ' ' || c == '-' || c == '_') continue;
        if (!isalnum((unsigned char)c) || n + 1 == NAME_BYTES) break;
        name[n++] = (char)tolower((unsigned char)c);
    }
    return ps_tok_regex_unsupported(in, "an unfinished property");
}

/* \p{Name}, \p{^Name}, \P{Name}; in->at stands behind the p. */
static ps_err read_property(ps_tok_regex_input *in, bool negated, ps_tok_regex_set *out)
{
    if (in->at == in->n || in->text[in->at] != '{') {
        return ps_tok_regex_unsupported(in, "a property without braces");
    }
    in->at++;
    if (in->at < in->n && in->text[in->at] == '^') {
        negated = !negated;
        in->at++;
    }
    char name[NAME_BYTES];
    PS_TRY(read_name(in, "}", name));
    out->negated = negated;
    return find_property(in, name, out);
}

/* Up to `max` digits of a base into *value; how many there were. */
static size_t read_digits(ps_tok_regex_input *in, int base, size_t max, uint32_t *value)
{
    size_t n = 0;
    *value = 0;
    for (; n < max && in->at < in->n; n++, in->at++) {
        const char c = in->text[in->at];
        const int digit = isdigit((unsigned char)c)    ? c - '0'
                          : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10
                                                       : 99;
        if (digit >= base) break;
        *value = *value * (uint32_t)base + (uint32_t)digit;
    }
    return n;
}

/* \xHH, \x{H...}, \uHHHH; in->at stands behind the letter. */
static ps_err read_hexadecimal(ps_tok_regex_input *in, char letter, ps_tok_regex_set *out)
{
    uint32_t c = 0;
    bool good;
    if (letter == 'x' && in->at < in->n && in->text[in->at] == '{') {
        in->at++;
        good = read_digits(in, 16, 6, &c) > 0 && in->at < in->n && in->text[in->at] == '}';
        in->at += good;
    } else {
        const size_t wanted = letter == 'x' ? 2 : 4;
        const size_t n = read_digits(in, 16, wanted, &c);
        // Above 7F, \xHH is a byte of a character and not one.
        good = letter == 'x' ? n > 0 && c < 0x80 : n == 4;
    }
    if (!good || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) {
        return ps_tok_regex_unsupported(in, "a hexadecimal escape");
    }
    set_char(out, c);
    return PS_OK;
}

static const struct {
    char letter;
    bool is_char;
    uint32_t code_point;
    const char *items;
} escapes[] = {
    {'t', true, '\t', NULL},
    {'n', true, '\n', NULL},
    {'r', true, '\r', NULL},
    {'f', true, '\f', NULL},
    {'v', true, '\v', NULL},
    {'a', true, '\a', NULL},
    {'e', true, 0x1B, NULL},
    {'s', false, 0, PS_TOK_REGEX_SPACE},
    {'S', false, 0, "^" PS_TOK_REGEX_SPACE},
    {'w', false, 0, PS_TOK_REGEX_WORD},
    {'W', false, 0, "^" PS_TOK_REGEX_WORD},
    {'d', false, 0, "\\p{Nd}"},
    {'D', false, 0, "^\\p{Nd}"},
    {'h', false, 0, "0-9A-Fa-f"},
    {'H', false, 0, "^0-9A-Fa-f"},
};

ps_err ps_tok_regex_read_escape(ps_tok_regex_input *in, ps_tok_regex_set *out)
{
    *out = (ps_tok_regex_set){0};
    in->at++;
    if (in->at == in->n) return ps_tok_regex_unsupported(in, "a \\ at the end");
    const char letter = in->text[in->at];
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++) {
        if (escapes[i].letter != letter) continue;
        in->at++;
        if (escapes[i].is_char) {
            set_char(out, escapes[i].code_point);
        } else {
            set_items(out, escapes[i].items);
        }
        return PS_OK;
    }
    if (letter == '0') {
        uint32_t value;
        read_digits(in, 8, 3, &value);
        set_char(out, value);
        return PS_OK;
    }
    if (isalnum((unsigned char)letter)) {
        in->at++;
        if (letter == 'p' || letter == 'P') return read_property(in, letter == 'P', out);
        if (letter == 'x' || letter == 'u') return read_hexadecimal(in, letter, out);
        return ps_tok_regex_unsupported(in, "an unknown escape");
    }
    uint32_t c;
    in->at += ps_utf8_decode(in->text + in->at, in->n - in->at, &c);
    set_char(out, c);
    return PS_OK;
}

/* One class while it is read. */
typedef struct frame {
    bool negated;
    bool empty;         // nothing read yet
    ps_text items;      // plain items
    ps_text others;     // "|..." each: what items cannot say
    ps_text lookaheads; // "(?=...)" each: the terms before the last &&
} frame;

typedef struct class_reader {
    ps_tok_regex_input *in;
    ps_text *out;
    frame frame[PS_TOK_REGEX_MAX_CLASSES];
    int depth; // frames in use
} class_reader;

static bool next_is(const ps_tok_regex_input *in, const char *what)
{
    const size_t n = strlen(what);
    return in->n - in->at >= n && memcmp(in->text + in->at, what, n) == 0;
}

static void append_char_item(ps_text *items, uint32_t c)
{
    if (c < 0x80 && isalnum((int)c)) {
        ps_text_append_char(items, (char)c);
    } else {
        ps_text_appendf(items, "\\x{%X}", c);
    }
}

static void append_set(frame *f, const ps_tok_regex_set *set)
{
    if (set->is_char) {
        append_char_item(&f->items, set->code_point);
    } else if (set->negated) {
        ps_text_appendf(&f->others, "|[^%s]", set->items);
    } else {
        ps_text_append_str(&f->items, set->items);
    }
}

/* The union of a frame's present term, as an expression. */
static void append_term(ps_text *out, const frame *f)
{
    if (f->others.len == 0) {
        ps_text_appendf(out, f->items.len > 0 ? "[%s]" : "(?!)", ps_text_str(&f->items));
    } else if (f->items.len == 0) {
        ps_text_appendf(out, "(?:%s)", f->others.data + 1);
    } else {
        ps_text_appendf(out, "(?:[%s]%s)", f->items.data, f->others.data);
    }
}

static void end_term(frame *f)
{
    ps_text_append_str(&f->lookaheads, "(?=");
    append_term(&f->lookaheads, f);
    ps_text_append_char(&f->lookaheads, ')');
    ps_text_clear(&f->items);
    ps_text_clear(&f->others);
}

static void frame_release(frame *f)
{
    ps_text_release(&f->items);
    ps_text_release(&f->others);
    ps_text_release(&f->lookaheads);
}

/* The whole class as an expression. */
static void append_class(ps_text *out, const frame *f)
{
    const bool simple = f->others.len == 0 && f->lookaheads.len == 0;
    if (simple && f->negated && f->items.len > 0) {
        ps_text_appendf(out, "[^%s]", f->items.data);
        return;
    }
    if (f->negated) ps_text_append_str(out, "(?:(?!");
    if (f->lookaheads.len > 0) ps_text_appendf(out, "(?:%s", f->lookaheads.data);
    append_term(out, f);
    if (f->lookaheads.len > 0) ps_text_append_char(out, ')');
    if (f->negated) ps_text_append_str(out, ")(?s:.))");
}

static ps_err open_class(class_reader *r)
{
    if (r->depth == PS_TOK_REGEX_MAX_CLASSES) {
        return ps_tok_regex_unsupported(r->in, "too deeply nested classes");
    }
    r->in->at++;
    const bool negated = next_is(r->in, "^");
    r->in->at += negated;
    r->frame[r->depth++] = (frame){.negated = negated, .empty = true};
    return PS_OK;
}

static void close_class(class_reader *r)
{
    r->in->at++;
    frame *f = &r->frame[--r->depth];
    frame *around = r->depth > 0 ? &r->frame[r->depth - 1] : NULL;
    const bool plain = !f->negated && f->others.len == 0 && f->lookaheads.len == 0;
    if (around && plain) {
        ps_text_append(&around->items, f->items.data, f->items.len);
    } else if (around) {
        ps_text_append_char(&around->others, '|');
        append_class(&around->others, f);
    } else {
        append_class(r->out, f);
    }
    frame_release(f);
}

/* [:name:] and [:^name:] */
static ps_err read_bracket(ps_tok_regex_input *in, ps_tok_regex_set *out)
{
    in->at += 2;
    *out = (ps_tok_regex_set){.negated = next_is(in, "^")};
    in->at += out->negated;
    char name[NAME_BYTES];
    PS_TRY(read_name(in, ":]", name));
    if (strcmp(name, "punct") == 0) {
        set_items(out, "\\p{P}\\p{S}");
        return PS_OK;
    }
    return find_property(in, name, out);
}

/* A character, an escape or a bracket expression. */
static ps_err read_item(ps_tok_regex_input *in, ps_tok_regex_set *out)
{
    if (next_is(in, "[:")) return read_bracket(in, out);
    if (next_is(in, "\\b")) {
        in->at += 2;
        set_char(out, '\b');
        return PS_OK;
    }
    // The signs of Latin-1 that \w has by an old table (see PS_TOK_REGEX_WORD) are not in a
    // class's.
    const bool is_word = next_is(in, "\\w") || next_is(in, "\\W");
    if (is_word) {
        *out = (ps_tok_regex_set){.negated = in->text[in->at + 1] == 'W'};
        in->at += 2;
        return find_property(in, "word", out);
    }
    if (next_is(in, "\\")) return ps_tok_regex_read_escape(in, out);
    uint32_t c;
    in->at += ps_utf8_decode(in->text + in->at, in->n - in->at, &c);
    set_char(out, c);
    return PS_OK;
}

/* Whether a range goes on at in->at: a '-' that something other than the end follows. */
static bool range_follows(const ps_tok_regex_input *in)
{
    return next_is(in, "-") && in->n - in->at >= 2 && in->text[in->at + 1] != ']' &&
           in->text[in->at + 1] != '[' && !next_is(in, "-&&");
}

static ps_err read_range(class_reader *r, frame *f)
{
    ps_tok_regex_set low = {0}, high = {0};
    PS_TRY(read_item(r->in, &low));
    if (!low.is_char || !range_follows(r->in)) {
        append_set(f, &low);
        return PS_OK;
    }
    r->in->at++;
    PS_TRY(read_item(r->in, &high));
    append_set(f, &low);
    if (!high.is_char) {
        append_char_item(&f->items, '-');
    } else {
        ps_text_append_char(&f->items, '-');
    }
    append_set(f, &high);
    return PS_OK;
}

static ps_err read_class(class_reader *r)
{
    PS_TRY(open_class(r));
    while (r->depth > 0) {
        frame *f = &r->frame[r->depth - 1];
        if (r->in->at == r->in->n) return ps_tok_regex_unsupported(r->in, "an unfinished class");
        if (next_is(r->in, "]") && !f->empty) {
            close_class(r);
            continue;
        }
        f->empty = false;
        if (next_is(r->in, "&&")) {
            r->in->at += 2;
            end_term(f);
        } else if (next_is(r->in, "[") && !next_is(r->in, "[:")) {
            PS_TRY(open_class(r));
        } else {
            PS_TRY(read_range(r, f));
        }
    }
    return PS_OK;
}

ps_err ps_tok_regex_translate_class(ps_tok_regex_input *in, ps_text *out)
{
    class_reader r = {.in = in, .out = out};
    const ps_err err = read_class(&r);
    for (int i = 0; i < r.depth; i++) {
        frame_release(&r.frame[i]);
    }
    return err;
}
