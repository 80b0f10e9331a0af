/* Oniguruma's regular expressions (Ruby syntax, UTF-8), as tokenizers are written in, rewritten for
 * PCRE2. Most of the language is common; what is not:
 *
 *   \s \S          U+180E is white space for PCRE2 only: written out
 *   \w \W \b \B    Alphabetic, M, Nd, Pc, and by an old table six signs of Latin-1: written out
 *   \h \H \v       hexadecimal digits and a vertical tab here, horizontal and vertical space there
 *   \p{...}        loose long names; scripts mean Script, for PCRE2 Script_Extensions
 *   [a[bc]&&[^d]]  classes in classes and intersections: alternatives and lookaheads
 *   [[:punct:]]    POSIX brackets over Unicode
 *   {n,m}+ {n}?    a second quantifier here, possessive and lazy there; {,n} is no quantifier there
 *   (?m) (?i)      m is "dot matches newline"; (?i) reaches to the end of its group, over |
 *   ^ $            always lines (PCRE2_MULTILINE)
 * Whatever has no meaning here that is sure to be the same is PS_ERR_UNSUPPORTED.
 *
 * One pass, no recursion: groups and classes stand on stacks of fixed depth. */
#include "serve/tokenizer_regex.h"

#include <ctype.h>
#include <string.h>

typedef struct translator {
    ps_tok_regex_input in;
    ps_text *out;
    size_t atom; // where in `out` the last thing begins that a quantifier can follow
    bool has_atom;
    int depth;
    struct {
        size_t start;   // of the group in `out`
        int n_implicit; // groups opened for (?i), closed with this one
    } group[PS_TOK_REGEX_MAX_GROUPS];
} translator;

ps_err ps_tok_regex_unsupported(const ps_tok_regex_input *in, const char *what)
{
    return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: %s in the regular expression %.*s", in->where, what,
                   in->n < 200 ? (int)in->n : 200, in->text);
}

/* Puts "(?:" in front of the last atom and ")" behind it. */
static void wrap_atom(translator *t)
{
    ps_text atom = {0};
    ps_text_append(&atom, t->out->data + t->atom, t->out->len - t->atom);
    t->out->len = t->atom;
    ps_text_append_str(t->out, "(?:");
    ps_text_append(t->out, atom.data, atom.len);
    ps_text_append_char(t->out, ')');
    ps_text_release(&atom);
}

static bool at_end(const translator *t)
{
    return t->in.at == t->in.n;
}

static char peek(const translator *t, size_t ahead)
{
    return t->in.n - t->in.at > ahead ? t->in.text[t->in.at + ahead] : '\0';
}

/* Reads {n}, {n,}, {,n} or {n,m} at t->in.at; false if the brace begins none. */
static bool read_interval(const translator *t, char low[8], char high[8], bool *exact,
                          size_t *length)
{
    size_t at = 1, n_low = 0, n_high = 0;
    while (isdigit((unsigned char)peek(t, at)) && n_low < 7) {
        low[n_low++] = peek(t, at++);
    }
    *exact = peek(t, at) != ',';
    if (!*exact) {
        at++;
        while (isdigit((unsigned char)peek(t, at)) && n_high < 7) {
            high[n_high++] = peek(t, at++);
        }
    }
    low[n_low] = high[n_high] = '\0';
    *length = at + 1;
    return peek(t, at) == '}' && n_low + n_high > 0;
}

static void translate_brace(translator *t)
{
    char low[8], high[8];
    bool exact;
    size_t length;
    if (!t->has_atom || !read_interval(t, low, high, &exact, &length)) {
        t->atom = t->out->len;
        t->has_atom = true;
        ps_text_append_str(t->out, "\\{");
        t->in.at++;
        return;
    }
    ps_text_appendf(t->out, exact ? "{%s}" : "{%s,%s}", low[0] ? low : "0", high);
    t->in.at += length;
    const bool repeats = peek(t, 0) == '+';
    const bool optional = exact && peek(t, 0) == '?';
    if (repeats || optional) wrap_atom(t);
}

/* (?imx-imx) and (?imx-imx: at t->in.at, which stands on the first letter. */
static ps_err translate_flags(translator *t)
{
    ps_text_append_str(t->out, "(?");
    for (char c = peek(t, 0); c != ':' && c != ')'; c = peek(t, 0)) {
        if (c != 'i' && c != 'm' && c != '-') {
            return ps_tok_regex_unsupported(&t->in, "an option other than i and m");
        }
        ps_text_append_char(t->out, c == 'm' ? 's' : c);
        t->in.at++;
    }
    if (peek(t, 0) == ')') {
        // To the end of the enclosing group, alternatives included: a group of its own.
        t->group[t->depth].n_implicit++;
    } else {
        t->depth++;
    }
    ps_text_append_char(t->out, ':');
    t->in.at++;
    t->has_atom = false;
    return PS_OK;
}

static ps_err translate_open(translator *t)
{
    if (t->depth + 1 == PS_TOK_REGEX_MAX_GROUPS) {
        return ps_tok_regex_unsupported(&t->in, "too deeply nested groups");
    }
    t->group[t->depth + 1].start = t->out->len;
    t->group[t->depth + 1].n_implicit = 0;
    t->in.at++;
    if (peek(t, 0) == '?' && strchr("imx-", peek(t, 1)) && peek(t, 1) != '\0') {
        t->in.at++;
        return translate_flags(t);
    }
    if (peek(t, 0) == '?' && peek(t, 1) == '#') {
        while (!at_end(t) && peek(t, 0) != ')') {
            t->in.at++;
        }
        if (!at_end(t)) t->in.at++;
        return PS_OK;
    }
    t->depth++;
    t->has_atom = false;
    ps_text_append_char(t->out, '(');
    if (peek(t, 0) != '?') return PS_OK;
    const char kind = peek(t, 1);
    if (!strchr(":=!><", kind) || kind == '\0') {
        return ps_tok_regex_unsupported(&t->in, "a kind of group");
    }
    ps_text_append_char(t->out, '?');
    ps_text_append_char(t->out, kind);
    t->in.at += 2;
    if (kind != '<') return PS_OK;
    // A lookbehind's = or !, or the first letter of a name: neither is an atom.
    if (peek(t, 0) != '\0') ps_text_append_char(t->out, t->in.text[t->in.at++]);
    return PS_OK;
}

static ps_err translate_close(translator *t)
{
    if (t->depth == 0) return ps_tok_regex_unsupported(&t->in, "an unmatched )");
    for (; t->group[t->depth].n_implicit > 0; t->group[t->depth].n_implicit--) {
        ps_text_append_char(t->out, ')');
    }
    t->atom = t->group[t->depth].start;
    t->has_atom = true;
    t->depth--;
    ps_text_append_char(t->out, ')');
    t->in.at++;
    return PS_OK;
}

static void begin_atom(translator *t)
{
    t->atom = t->out->len;
    t->has_atom = true;
}

/* \b and \B by the definition of a word that \w has. */
static void append_boundary(translator *t, bool is_boundary)
{
    ps_text_appendf(t->out,
                    is_boundary ? "(?:(?<=[%s])(?![%s])|(?<![%s])(?=[%s]))"
                                : "(?:(?<=[%s])(?=[%s])|(?<![%s])(?![%s]))",
                    PS_TOK_REGEX_WORD, PS_TOK_REGEX_WORD, PS_TOK_REGEX_WORD, PS_TOK_REGEX_WORD);
}

/* Escapes that mean the same in both languages and are not a character or a class. */
static bool is_common_escape(char c)
{
    return strchr("AzZGKRNkg123456789", c) != NULL && c != '\0';
}

static ps_err translate_escape(translator *t)
{
    const char c = peek(t, 1);
    if (c == '\0') return ps_tok_regex_unsupported(&t->in, "a \\ at the end");
    begin_atom(t);
    if (c == 'b' || c == 'B') {
        append_boundary(t, c == 'b');
        t->in.at += 2;
        return PS_OK;
    }
    if (is_common_escape(c)) {
        ps_text_append(t->out, t->in.text + t->in.at, 2);
        t->in.at += 2;
        return PS_OK;
    }
    ps_tok_regex_set set;
    PS_TRY(ps_tok_regex_read_escape(&t->in, &set));
    if (set.is_char) {
        ps_text_appendf(t->out, "\\x{%X}", set.code_point);
    } else {
        ps_text_appendf(t->out, set.negated ? "[^%s]" : "[%s]", set.items);
    }
    return PS_OK;
}

static ps_err translate_one(translator *t)
{
    const char c = peek(t, 0);
    switch (c) {
    case '\\':
        return translate_escape(t);
    case '[':
        begin_atom(t);
        return ps_tok_regex_translate_class(&t->in, t->out);
    case '(':
        return translate_open(t);
    case ')':
        return translate_close(t);
    case '{':
        translate_brace(t);
        return PS_OK;
    case '*':
    case '+':
    case '?':
        ps_text_append_char(t->out, t->in.text[t->in.at++]);
        return PS_OK;
    case '|':
        t->has_atom = false;
        break;
    default:
        begin_atom(t);
    }
    uint32_t code_point;
    const size_t length = ps_utf8_decode(t->in.text + t->in.at, t->in.n - t->in.at, &code_point);
    ps_text_append(t->out, t->in.text + t->in.at, length);
    t->in.at += length;
    return PS_OK;
}

ps_err ps_tok_regex_translate(const char *regex, size_t n, const char *where, ps_text *out)
{
    translator t = {.in = {.text = regex, .n = n, .where = where}, .out = out};
    if (n > PS_TOK_MAX_PATTERN_BYTES) {
        return PS_FAIL(PS_ERR_LIMIT, "%s: a regular expression of %zu bytes, at most %d", where, n,
                       PS_TOK_MAX_PATTERN_BYTES);
    }
    if (memchr(regex, '\0', n)) {
        return ps_tok_regex_unsupported(&t.in, "a NUL character");
    }
    while (!at_end(&t)) {
        PS_TRY(translate_one(&t));
    }
    for (; t.group[0].n_implicit > 0; t.group[0].n_implicit--) {
        ps_text_append_char(out, ')');
    }
    return PS_OK;
}
