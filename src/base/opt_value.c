/* One value from text and back to text.
 *
 * Integers are read digit by digit, so that nothing but digits passes. Reals go through strtod, but
 * only when the characters are those of a decimal number: strtod alone would take blanks, "nan",
 * "inf" and hexadecimal. The program never calls setlocale, so the point is a point. */
#include "base/opt_parts.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

enum { EXCERPT_TEXT_BYTES = 60 };

static const struct {
    const char *wanted; // in messages; NULL: composed
    size_t bytes;
} types[] = {
    [PS_OPT_FLAG] = {"true or false", sizeof(bool)},
    [PS_OPT_INT] = {"an integer", sizeof(int)},
    [PS_OPT_I64] = {"an integer", sizeof(int64_t)},
    [PS_OPT_U64] = {"an integer", sizeof(uint64_t)},
    [PS_OPT_REAL] = {"a finite number", sizeof(double)},
    [PS_OPT_TEXT] = {"a text", sizeof(const char *)},
    [PS_OPT_CHOICE] = {NULL, sizeof(int)},
    [PS_OPT_SECONDS] = {"a time (90, 1.5, 2m, 1h)", sizeof(double)},
    [PS_OPT_LIST_TEXT] = {"a text", sizeof(ps_opt_list)},
};
_Static_assert(sizeof types / sizeof types[0] == PS_OPT_TYPE_COUNT, "one row a type");

size_t ps_opt_type_bytes(ps_opt_type type)
{
    assert(type < PS_OPT_TYPE_COUNT);
    return types[type].bytes;
}

/* ---- from text ---- */

/* All of `text` as digits of a base up to 16; false on anything else, and on overflow. */
static bool read_digits(const char *text, unsigned base, uint64_t *out)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    uint64_t value = 0;
    if (*text == '\0') return false;
    for (; *text; text++) {
        const char *at = strchr(digits, *text);
        if (!at) return false;
        const unsigned digit = (unsigned)(at - digits) % 16;
        if (digit >= base || value > (UINT64_MAX - digit) / base) return false;
        value = value * base + digit;
    }
    *out = value;
    return true;
}

static bool read_i64(const char *text, int64_t *out)
{
    const bool negative = text[0] == '-';
    uint64_t size;
    if (!read_digits(text + negative, 10, &size)) return false;
    if (size > (uint64_t)INT64_MAX + negative) return false;
    *out = !negative ? (int64_t)size : size > INT64_MAX ? INT64_MIN : -(int64_t)size;
    return true;
}

static bool read_u64(const char *text, uint64_t *out)
{
    const bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    return read_digits(text + (hex ? 2 : 0), hex ? 16 : 10, out);
}

/* A finite decimal number at the start of `text`; *rest is what stands behind it. A number too
 * small for a double becomes 0. */
static bool read_real(const char *text, double *out, const char **rest)
{
    const size_t n = strspn(text, "0123456789+-.eE");
    char *end;
    if (n == 0) return false;
    *out = strtod(text, &end);
    *rest = end;
    return end == text + n && isfinite(*out);
}

static bool read_seconds(const char *text, double *out)
{
    const char *unit = "";
    if (!read_real(text, out, &unit)) return false;
    if (*unit == '\0') return true;
    if (unit[1] != '\0' || !strchr("smh", *unit)) return false;
    *out *= *unit == 's' ? 1.0 : *unit == 'm' ? 60.0 : 3600.0;
    return isfinite(*out);
}

static bool bounded(const ps_opt *row)
{
    return row->min != 0.0 || row->max != 0.0;
}

static bool inside(const ps_opt *row, double value)
{
    return !bounded(row) || (value >= row->min && value <= row->max);
}

static const ps_opt_choice *find_choice(const ps_opt *row, const char *text)
{
    for (const ps_opt_choice *c = row->choices; c->name; c++) {
        if (strcmp(c->name, text) == 0) return c;
    }
    return NULL;
}

static bool read_integer(const ps_opt *row, const char *text, void *target)
{
    int64_t value;
    if (!read_i64(text, &value) || !inside(row, (double)value)) return false;
    if (row->type == PS_OPT_I64) {
        memcpy(target, &value, sizeof value);
        return true;
    }
    if (value < INT_MIN || value > INT_MAX) return false;
    const int narrow = (int)value;
    memcpy(target, &narrow, sizeof narrow);
    return true;
}

static bool read_number(const ps_opt *row, const char *text, void *target)
{
    double value;
    const char *rest = "";
    bool good;
    if (row->type == PS_OPT_SECONDS) {
        good = read_seconds(text, &value) && value >= 0.0;
    } else {
        good = read_real(text, &value, &rest) && *rest == '\0';
    }
    good = good && inside(row, value);
    if (good) memcpy(target, &value, sizeof value);
    return good;
}

/* False when `text` is not a value of the row; the target is then as it was. */
static bool read_value(const ps_opt *row, const char *text, void *target)
{
    assert(row->type < PS_OPT_TYPE_COUNT && row->type != PS_OPT_LIST_TEXT);
    switch (row->type) {
    case PS_OPT_FLAG: {
        const bool on = strcmp(text, "true") == 0;
        if (!on && strcmp(text, "false") != 0) return false;
        memcpy(target, &on, sizeof on);
        return true;
    }
    case PS_OPT_INT:
    case PS_OPT_I64:
        return read_integer(row, text, target);
    case PS_OPT_U64: {
        uint64_t value;
        if (!read_u64(text, &value) || !inside(row, (double)value)) return false;
        memcpy(target, &value, sizeof value);
        return true;
    }
    case PS_OPT_REAL:
    case PS_OPT_SECONDS:
        return read_number(row, text, target);
    case PS_OPT_TEXT:
        memcpy(target, &text, sizeof text);
        return true;
    case PS_OPT_CHOICE: {
        const ps_opt_choice *choice = find_choice(row, text);
        if (choice) memcpy(target, &choice->value, sizeof choice->value);
        return choice != NULL;
    }
    default:
        return false; // a list is filled as a whole, by opt.c
    }
}

/* ---- messages ---- */

static void append_bound(const ps_opt *row, double bound, ps_text *out)
{
    const bool real = row->type == PS_OPT_REAL || row->type == PS_OPT_SECONDS;
    ps_text_appendf(out, real ? "%g" : "%.0f", bound);
}

void ps_opt_append_range(const ps_opt *row, ps_text *out)
{
    const bool open_below = isinf(row->min), open_above = isinf(row->max);
    if (!bounded(row) || (open_below && open_above)) return;
    if (open_below || open_above) ps_text_append_str(out, open_above ? ">= " : "<= ");
    if (!open_below) append_bound(row, row->min, out);
    if (!open_below && !open_above) ps_text_append_str(out, "..");
    if (!open_above) append_bound(row, row->max, out);
}

static void append_wanted(const ps_opt *row, ps_text *out)
{
    if (row->type == PS_OPT_CHOICE) {
        ps_text_append_str(out, "one of ");
        for (const ps_opt_choice *c = row->choices; c->name; c++) {
            ps_text_appendf(out, "%s%s", c == row->choices ? "" : "|", c->name);
        }
        return;
    }
    ps_text_append_str(out, types[row->type].wanted);
    ps_text range = {0};
    ps_opt_append_range(row, &range);
    if (range.len > 0) {
        const bool closed = !isinf(row->min) && !isinf(row->max);
        ps_text_appendf(out, "%s%s", closed ? " in " : " ", range.data);
    } else if (row->type == PS_OPT_INT) {
        ps_text_appendf(out, " in %d..%d", INT_MIN, INT_MAX);
    } else if (row->type == PS_OPT_I64) {
        ps_text_appendf(out, " in %" PRId64 "..%" PRId64, INT64_MIN, INT64_MAX);
    } else if (row->type == PS_OPT_U64) {
        ps_text_appendf(out, " in 0..%" PRIu64, UINT64_MAX);
    }
    ps_text_release(&range);
}

const char *ps_opt_excerpt(const char *text, char out[PS_OPT_EXCERPT_BYTES])
{
    const size_t n = strlen(text);
    size_t kept = n;
    if (n > EXCERPT_TEXT_BYTES) {
        bool incomplete;
        kept = ps_utf8_valid_prefix(text, EXCERPT_TEXT_BYTES, &incomplete);
        if (!incomplete) kept = EXCERPT_TEXT_BYTES;
    }
    for (size_t i = 0; i < kept; i++) {
        const unsigned char c = (unsigned char)text[i];
        out[i] = c < 0x20 || c == 0x7F ? '?' : text[i];
    }
    memcpy(out + kept, kept < n ? "..." : "", kept < n ? 4 : 1);
    return out;
}

void ps_opt_nearest_consider(ps_opt_nearest *nearest, const char *name)
{
    const size_t n = strlen(nearest->typed);
    // A typed beginning counts as close as one wrong letter: --temp for --temperature.
    const bool beginning = n >= 3 && strncmp(nearest->typed, name, n) == 0;
    const int distance = beginning ? 1 : ps_text_distance(nearest->typed, name);
    if (distance > ((int)n + 2) / 3) return;
    if (nearest->name && distance >= nearest->distance) return;
    nearest->name = name;
    nearest->distance = distance;
}

static ps_err fail_value(const ps_opt *row, const char *text, const char *subject)
{
    ps_text wanted = {0};
    append_wanted(row, &wanted);
    ps_opt_nearest nearest = {.typed = text};
    if (row->type == PS_OPT_CHOICE) {
        for (const ps_opt_choice *c = row->choices; c->name; c++) {
            ps_opt_nearest_consider(&nearest, c->name);
        }
    }
    char excerpt[PS_OPT_EXCERPT_BYTES];
    const ps_err err =
        PS_FAIL(PS_ERR_USAGE, "%s wants %s, found \"%s\"%s%s%s", subject, ps_text_str(&wanted),
                ps_opt_excerpt(text, excerpt), nearest.name ? "; did you mean " : "",
                nearest.name ? nearest.name : "", nearest.name ? "?" : "");
    ps_text_release(&wanted);
    return err;
}

ps_err ps_opt_value_read(const ps_opt *row, const char *text, const char *subject, void *target)
{
    return read_value(row, text, target) ? PS_OK : fail_value(row, text, subject);
}

/* ---- to text ---- */

void ps_opt_quote(const char *text, ps_text *out)
{
    static const char plain[] = "\\\"\n\r\t", letters[] = "\\\"nrt";
    ps_text_append_char(out, '"');
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        const char *escape = strchr(plain, *text);
        if (escape) {
            ps_text_appendf(out, "\\%c", letters[escape - plain]);
        } else if (c < 0x20 || c == 0x7F) {
            ps_text_appendf(out, "\\x%02x", c);
        } else {
            ps_text_append_char(out, *text);
        }
    }
    ps_text_append_char(out, '"');
}

static void write_choice(const ps_opt *row, const void *target, ps_text *out)
{
    int value;
    memcpy(&value, target, sizeof value);
    const ps_opt_choice *c = row->choices;
    while (c->name && c->value != value) {
        c++;
    }
    assert(c->name && "a choice holds one of its values");
    ps_text_append_str(out, c->name);
}

static void write_integer(const ps_opt *row, const void *target, ps_text *out)
{
    int narrow;
    int64_t wide;
    uint64_t natural;
    if (row->type == PS_OPT_INT) {
        memcpy(&narrow, target, sizeof narrow);
        ps_text_appendf(out, "%d", narrow);
    } else if (row->type == PS_OPT_I64) {
        memcpy(&wide, target, sizeof wide);
        ps_text_appendf(out, "%" PRId64, wide);
    } else {
        memcpy(&natural, target, sizeof natural);
        ps_text_appendf(out, "%" PRIu64, natural);
    }
}

void ps_opt_value_write(const ps_opt *row, const void *target, ps_text *out)
{
    bool on;
    double real;
    const char *text;
    switch (row->type) {
    case PS_OPT_FLAG:
        memcpy(&on, target, sizeof on);
        ps_text_append_str(out, on ? "true" : "false");
        break;
    case PS_OPT_REAL:
    case PS_OPT_SECONDS:
        memcpy(&real, target, sizeof real);
        ps_json_append_real(out, real);
        break;
    case PS_OPT_TEXT:
        memcpy(&text, target, sizeof text);
        ps_opt_quote(text ? text : "", out);
        break;
    case PS_OPT_CHOICE:
        write_choice(row, target, out);
        break;
    default:
        assert(row->type != PS_OPT_LIST_TEXT);
        write_integer(row, target, out);
    }
}
