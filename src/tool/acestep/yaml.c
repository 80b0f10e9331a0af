#include "tool/acestep/yaml.h"

#include "base/mem.h"

enum { WIDTH = 80, INDENT = 2, NEL = 0x85, LINE_SEPARATOR = 0x2028, BYTE_ORDER_MARK = 0xFEFF };

/* The characters of a value; one behind the last is 0. */
typedef struct characters {
    uint32_t *c; // [n + 1]
    long n;
} characters;

/* A text on its way out. */
typedef struct writer {
    ps_text *out;
    long column; // characters of the line so far
} writer;

typedef enum style { PLAIN, SINGLE_QUOTED, DOUBLE_QUOTED } style;

static characters characters_of(ps_span text)
{
    characters out = {.c = ps_mem_new(text.n + 1, sizeof *out.c)};
    for (size_t at = 0; at < text.n;) {
        at += ps_utf8_decode(text.at + at, text.n - at, &out.c[out.n++]);
    }
    return out;
}

// ---- which style ----

static bool is_break(uint32_t c)
{
    return c == '\n' || c == NEL || c == LINE_SEPARATOR || c == LINE_SEPARATOR + 1;
}

/* Behind the end of the text too. */
static bool ends_word(const characters *text, long i)
{
    if (i < 0 || i >= text->n) return true;
    const uint32_t c = text->c[i];
    return c == '\0' || c == ' ' || c == '\t' || c == '\r' || is_break(c);
}

/* What may stand in a text without being escaped. */
static bool is_printable(uint32_t c)
{
    if (c == '\n' || (c >= 0x20 && c <= 0x7E)) return true;
    if (c == BYTE_ORDER_MARK) return false;
    return c == NEL || (c >= 0xA0 && c <= 0xD7FF) || (c >= 0xE000 && c <= 0xFFFD) ||
           (c >= 0x10000 && c < 0x10FFFF);
}

static bool is_one_of(uint32_t c, const char *set)
{
    for (; *set; set++) {
        if (c == (unsigned char)*set) return true;
    }
    return false;
}

/* Characters that would be read as the beginning of something else. */
static bool has_indicator(const characters *text)
{
    const uint32_t *c = text->c;
    if (text->n >= 3 && (c[0] == '-' || c[0] == '.') && c[1] == c[0] && c[2] == c[0]) return true;
    if (is_one_of(c[0], "#,[]{}&*!|>'\"%@`")) return true;
    if (is_one_of(c[0], "?:-") && ends_word(text, 1)) return true;
    for (long i = 1; i < text->n; i++) {
        if (c[i] == ':' && ends_word(text, i + 1)) return true;
        if (c[i] == '#' && ends_word(text, i - 1)) return true;
    }
    return false;
}

static style choose_style(const characters *text, bool is_other_type)
{
    const uint32_t *c = text->c;
    bool has_break = false;
    for (long i = 0; i < text->n; i++) {
        has_break = has_break || is_break(c[i]);
        // A quoted text that is folded loses blanks beside its line breaks.
        const bool blank_at_break =
            i > 0 && ((c[i] == ' ' && is_break(c[i - 1])) || (c[i - 1] == ' ' && is_break(c[i])));
        if (!is_printable(c[i]) || blank_at_break) return DOUBLE_QUOTED;
    }
    if (is_other_type || has_break || has_indicator(text)) return SINGLE_QUOTED;
    return c[0] == ' ' || c[text->n - 1] == ' ' ? SINGLE_QUOTED : PLAIN;
}

// ---- writing ----

static void put(writer *w, uint32_t c)
{
    char bytes[4];
    ps_text_append(w->out, bytes, ps_utf8_encode(c, bytes));
    w->column++;
}

static void put_range(writer *w, const characters *text, long begin, long end)
{
    for (long i = begin; i < end; i++) {
        put(w, text->c[i]);
    }
}

static void indent(writer *w)
{
    ps_text_append_str(w->out, "  ");
    w->column = INDENT;
}

static void fold(writer *w)
{
    ps_text_append_char(w->out, '\n');
    indent(w);
}

static long end_of_blanks(const characters *text, long i)
{
    while (i < text->n && text->c[i] == ' ') {
        i++;
    }
    return i;
}

/* One blank, past the width: a line break stands for it. */
static void put_blanks(writer *w, const characters *text, long begin, long end, bool foldable)
{
    if (foldable && end == begin + 1 && w->column > WIDTH) {
        fold(w);
    } else {
        put_range(w, text, begin, end);
    }
}

static void write_plain(writer *w, const characters *text)
{
    for (long i = 0; i < text->n;) {
        if (text->c[i] != ' ') {
            put(w, text->c[i++]);
            continue;
        }
        const long end = end_of_blanks(text, i);
        put_blanks(w, text, i, end, true);
        i = end;
    }
}

/* A run of line breaks; one that begins with \n has another in front, since a single one would be
 * read as a blank. */
static long put_breaks(writer *w, const characters *text, long i)
{
    if (text->c[i] == '\n') ps_text_append_char(w->out, '\n');
    for (; i < text->n && is_break(text->c[i]); i++) {
        put(w, text->c[i]);
    }
    indent(w);
    return i;
}

static void write_single_quoted(writer *w, const characters *text)
{
    put(w, '\'');
    for (long i = 0; i < text->n;) {
        if (is_break(text->c[i])) {
            i = put_breaks(w, text, i);
        } else if (text->c[i] == ' ') {
            const long end = end_of_blanks(text, i);
            put_blanks(w, text, i, end, i > 0 && end < text->n);
            i = end;
        } else {
            if (text->c[i] == '\'') put(w, '\'');
            put(w, text->c[i++]);
        }
    }
    put(w, '\'');
}

static void put_escape(writer *w, uint32_t c)
{
    static const struct {
        uint32_t c;
        const char *name;
    } names[] = {{'\0', "\\0"},  {7, "\\a"},   {8, "\\b"},      {'\t', "\\t"},  {'\n', "\\n"},
                 {11, "\\v"},    {12, "\\f"},  {'\r', "\\r"},   {27, "\\e"},    {'"', "\\\""},
                 {'\\', "\\\\"}, {NEL, "\\N"}, {0x2028, "\\L"}, {0x2029, "\\P"}};
    const size_t before = w->out->len;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && w->out->len == before; i++) {
        if (names[i].c == c) ps_text_append_str(w->out, names[i].name);
    }
    if (w->out->len == before)
        ps_text_appendf(w->out, c <= 0xFF ? "\\x%02X" : c <= 0xFFFF ? "\\u%04X" : "\\U%08X", c);
    w->column += (long)(w->out->len - before);
}

/* Beyond U+FFFF everything is escaped, though it could be printed. */
static bool wants_escape(uint32_t c)
{
    return c == '"' || c == '\\' || c == '\n' || is_break(c) || c > 0xFFFF || !is_printable(c);
}

/* Characters wait until a blank, an escape or the end: `start` is the first that waits. A line that
 * would get too long with them ends in a backslash, and a blank behind that has one in front. */
static void write_double_quoted(writer *w, const characters *text)
{
    put(w, '"');
    long start = 0;
    for (long end = 0; end <= text->n; end++) {
        const bool escaped = end < text->n && wants_escape(text->c[end]);
        if (end == text->n || escaped) {
            put_range(w, text, start, end);
            if (start < end) start = end;
            if (escaped) {
                put_escape(w, text->c[end]);
                start = end + 1;
            }
        }
        const bool inside = end > 0 && end < text->n - 1;
        if (!inside || (text->c[end] != ' ' && start < end) || w->column + end - start <= WIDTH)
            continue;
        put_range(w, text, start, end);
        if (start < end) start = end;
        put(w, '\\');
        fold(w);
        if (text->c[start] == ' ') put(w, '\\');
    }
    put(w, '"');
}

void ps_yaml_append_text(ps_text *out, const char *name, ps_span text)
{
    const characters value = characters_of(text);
    const size_t before = out->len;
    ps_text_appendf(out, "%s: ", name);
    writer w = {out, (long)(out->len - before)};
    switch (value.n > 0 ? choose_style(&value, ps_yaml_is_other_type(text)) : SINGLE_QUOTED) {
    case PLAIN:
        write_plain(&w, &value);
        break;
    case SINGLE_QUOTED:
        write_single_quoted(&w, &value);
        break;
    case DOUBLE_QUOTED:
        write_double_quoted(&w, &value);
        break;
    }
    ps_mem_free(value.c);
}

// ---- the block ----

static bool is_all_digits(ps_span text)
{
    size_t at = 0;
    while (at < text.n) {
        uint32_t c;
        at += ps_utf8_decode(text.at + at, text.n - at, &c);
        if (!ps_unicode_is_digit(c)) return false;
    }
    return text.n > 0;
}

/* A text "X/4" without what follows the first slash. */
static ps_span without_quarters(ps_span text)
{
    const bool quarters = text.n >= 2 && text.at[text.n - 2] == '/' && text.at[text.n - 1] == '4';
    if (quarters) text.n = ps_span_find(text, "/");
    return text;
}

static ps_err append_field(ps_text *out, ps_acestep_field field, const ps_metadata_value *value)
{
    const char *name = ps_acestep_field_name(field);
    const bool is_text = value->kind == PS_METADATA_TEXT;
    ps_span text = ps_span_of_text(&value->text);
    if (field == PS_ACESTEP_TIMESIGNATURE) {
        if (!is_text)
            return PS_FAIL(PS_ERR_FORMAT, "metadata: timesignature is a number, wanted a text");
        text = without_quarters(text);
    }
    if (is_text && is_all_digits(text)) {
        ps_text digits = {0};
        const bool good = ps_metadata_parse_integer(text, &digits);
        if (good) ps_text_appendf(out, "%s: %s", name, ps_text_str(&digits));
        ps_text_release(&digits);
        if (good) return PS_OK;
        return PS_FAIL(PS_ERR_FORMAT, "metadata: %s is \"%.*s\": digits that make no number", name,
                       (int)(text.n < 60 ? text.n : 60), text.at);
    }
    if (is_text) {
        ps_yaml_append_text(out, name, text);
    } else {
        ps_text_appendf(out, "%s: ", name);
        ps_metadata_append_value(out, value);
    }
    return PS_OK;
}

ps_err ps_acestep_append_cot(ps_text *out, const ps_metadata *metadata)
{
    ps_text yaml = {0};
    ps_err err = PS_OK;
    for (int i = 0; i < PS_ACESTEP_FIELDS && !err; i++) {
        const ps_metadata_value *value = &metadata->fields[i];
        if (i == PS_ACESTEP_GENRES || value->kind == PS_METADATA_ABSENT) continue;
        if (yaml.len > 0) ps_text_append_char(&yaml, '\n');
        err = append_field(&yaml, (ps_acestep_field)i, value);
    }
    if (!err) {
        const ps_span stripped = ps_span_strip(ps_span_of_text(&yaml));
        ps_text_append_str(out, "<think>\n");
        ps_text_append(out, stripped.at, stripped.n);
        ps_text_append_str(out, "\n</think>");
    }
    ps_text_release(&yaml);
    return err;
}
