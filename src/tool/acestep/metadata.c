#include "tool/acestep/metadata.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

/* Python converts no longer texts: sys.int_info.default_max_str_digits. */
enum { INTEGER_DIGITS_MAX = 4300, KELVIN_SIGN = 0x212A };

void ps_metadata_release(ps_metadata *metadata)
{
    for (int i = 0; i < PS_ACESTEP_FIELDS; i++) {
        ps_text_release(&metadata->fields[i].text);
    }
    *metadata = (ps_metadata){0};
}

/* Of the letters outside of ASCII only the Kelvin sign is one of ASCII in lower case. */
static bool is_name(ps_span text, const char *name)
{
    size_t at = 0;
    for (; *name && at < text.n; name++) {
        uint32_t c;
        at += ps_utf8_decode(text.at + at, text.n - at, &c);
        const bool same = c < 0x80 ? tolower((int)c) == *name : c == KELVIN_SIGN && *name == 'k';
        if (!same) return false;
    }
    return *name == '\0' && at == text.n;
}

ps_acestep_field ps_metadata_find(ps_span name)
{
    int field = 0;
    while (field < PS_ACESTEP_FIELDS &&
           !is_name(name, ps_acestep_field_name((ps_acestep_field)field))) {
        field++;
    }
    return (ps_acestep_field)field;
}

bool ps_metadata_has(const ps_metadata *metadata, ps_acestep_field field)
{
    return metadata->fields[field].kind != PS_METADATA_ABSENT;
}

void ps_metadata_set_text(ps_metadata *metadata, ps_acestep_field field, ps_span text)
{
    ps_metadata_value *value = &metadata->fields[field];
    ps_text_clear(&value->text);
    ps_text_append(&value->text, text.at, text.n);
    value->kind = PS_METADATA_TEXT;
}

void ps_metadata_set_integer(ps_metadata *metadata, ps_acestep_field field, int64_t number)
{
    ps_metadata_value *value = &metadata->fields[field];
    ps_text_clear(&value->text);
    ps_text_appendf(&value->text, "%lld", (long long)number);
    value->kind = PS_METADATA_INTEGER;
}

void ps_metadata_set_real(ps_metadata *metadata, ps_acestep_field field, double number)
{
    ps_metadata_value *value = &metadata->fields[field];
    ps_text_clear(&value->text);
    value->real = number;
    value->kind = PS_METADATA_REAL;
}

void ps_metadata_set_number(ps_metadata *metadata, ps_acestep_field field, ps_span text)
{
    ps_text digits = {0};
    const bool is_integer = ps_metadata_parse_integer(text, &digits);
    ps_metadata_set_text(metadata, field,
                         is_integer ? ps_span_of_text(&digits) : ps_span_strip(text));
    if (is_integer) metadata->fields[field].kind = PS_METADATA_INTEGER;
    ps_text_release(&digits);
}

void ps_metadata_copy(const ps_metadata *from, ps_acestep_field field, ps_metadata *to)
{
    const ps_metadata_value *value = &from->fields[field];
    ps_metadata_set_text(to, field, ps_span_of_text(&value->text));
    to->fields[field].kind = value->kind;
    to->fields[field].real = value->real;
}

/* Appends the digits without leading zeros; false when anything else is among them, or nothing. */
static bool append_digits(ps_span text, ps_text *out)
{
    size_t at = 0, n = 0;
    bool after_digit = false;
    const size_t start = out->len;
    while (at < text.n) {
        uint32_t c;
        at += ps_utf8_decode(text.at + at, text.n - at, &c);
        const int digit = ps_unicode_decimal(c);
        if (digit < 0 && (c != '_' || !after_digit)) return false;
        after_digit = digit >= 0;
        if (digit < 0) continue;
        n++;
        if (digit > 0 || out->len > start) ps_text_append_char(out, (char)('0' + digit));
    }
    if (!after_digit || n > INTEGER_DIGITS_MAX) return false;
    if (out->len == start) ps_text_append_char(out, '0');
    return true;
}

bool ps_metadata_parse_integer(ps_span text, ps_text *out)
{
    text = ps_span_strip(text);
    const bool is_signed = text.n > 0 && (text.at[0] == '-' || text.at[0] == '+');
    const bool negative = is_signed && text.at[0] == '-';
    if (is_signed) text = (ps_span){text.at + 1, text.n - 1};
    ps_text digits = {0};
    const bool good = append_digits(text, &digits);
    if (good) {
        if (negative && strcmp(ps_text_str(&digits), "0") != 0) ps_text_append_char(out, '-');
        ps_text_append(out, digits.data, digits.len);
    }
    ps_text_release(&digits);
    return good;
}

/* Fixed notation from 1e-4 up to 1e16, as in Python. */
void ps_metadata_append_real(ps_text *out, double value)
{
    if (!isfinite(value)) {
        ps_text_append_str(out, isnan(value) ? ".nan" : value < 0 ? "-.inf" : ".inf");
        return;
    }
    char digits[40];
    int precision = 0;
    do {
        snprintf(digits, sizeof digits, "%.*e", precision, value);
    } while (strtod(digits, NULL) != value && ++precision < 17);
    const int exponent = (int)strtol(strchr(digits, 'e') + 1, NULL, 10);
    if (exponent >= -4 && exponent < 16) {
        const int decimals = precision - exponent > 1 ? precision - exponent : 1;
        ps_text_appendf(out, "%.*f", decimals, value);
        return;
    }
    char *e = strchr(digits, 'e');
    *e = '\0';
    ps_text_appendf(out, "%s%se%s%02d", digits, strchr(digits, '.') ? "" : ".0",
                    exponent < 0 ? "-" : "+", abs(exponent));
}

void ps_metadata_append_value(ps_text *out, const ps_metadata_value *value)
{
    if (value->kind == PS_METADATA_REAL) {
        ps_metadata_append_real(out, value->real);
    } else {
        ps_text_append(out, value->text.data, value->text.len);
    }
}

void ps_metadata_append_json(ps_text *out, const ps_metadata *metadata)
{
    const char *separator = "{";
    for (int i = 0; i < PS_ACESTEP_FIELDS; i++) {
        const ps_metadata_value *value = &metadata->fields[i];
        if (value->kind == PS_METADATA_ABSENT) continue;
        ps_text_appendf(out, "%s\"%s\": ", separator, ps_acestep_field_name((ps_acestep_field)i));
        if (value->kind == PS_METADATA_TEXT) {
            ps_json_append_text(out, ps_text_str(&value->text), value->text.len);
        } else {
            ps_metadata_append_value(out, value);
        }
        separator = ", ";
    }
    ps_text_append_str(out, separator[0] == '{' ? "{}" : "}");
}

double ps_metadata_duration(const ps_metadata *metadata)
{
    const ps_metadata_value *value = &metadata->fields[PS_ACESTEP_DURATION];
    if (value->kind == PS_METADATA_REAL) return value->real;
    if (value->kind == PS_METADATA_ABSENT) return 0.0;
    char *end;
    const double seconds = strtod(ps_text_str(&value->text), &end);
    return end != value->text.data && *end == '\0' && isfinite(seconds) ? seconds : 0.0;
}
