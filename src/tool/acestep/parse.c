#include "tool/acestep/parse.h"

#include <ctype.h>
#include <string.h>

static const char code_begin[] = "<|audio_code_", code_end[] = "|>";

static ps_span rest_from(ps_span text, size_t at)
{
    return (ps_span){text.at + at, text.n - at};
}

static uint32_t first_character(ps_span text)
{
    uint32_t c = 0;
    if (text.n > 0) ps_utf8_decode(text.at, text.n, &c);
    return c;
}

// ---- metadata ----

/* What stands between the first `open` that a `close` follows, and that. */
static bool find_between(ps_span text, const char *open, const char *close, ps_span *out)
{
    const size_t at = ps_span_find(text, open);
    if (at == text.n) return false;
    const ps_span rest = rest_from(text, at + strlen(open));
    const size_t n = ps_span_find(rest, close);
    if (n == rest.n) return false;
    *out = ps_span_strip((ps_span){rest.at, n});
    return true;
}

static ps_span find_block(ps_span text)
{
    ps_span block = {0};
    if (!find_between(text, "<think>", "</think>", &block))
        find_between(text, "<reasoning>", "</reasoning>", &block);
    if (block.n > 0) return block;
    return ps_span_strip((ps_span){text.at, ps_span_find(text, code_begin)});
}

static void append_joined(ps_span value, ps_text *out)
{
    ps_span line;
    while (ps_span_next_line(&value, &line)) {
        const ps_span stripped = ps_span_strip(line);
        if (stripped.n == 0) continue;
        if (out->len > 0) ps_text_append_char(out, ' ');
        ps_text_append(out, stripped.at, stripped.n);
    }
}

/* The value's lines have come to their end. Nothing was collected where the field has no value. */
static void end_field(ps_acestep_field field, ps_text *value, ps_metadata *out)
{
    const ps_span text = ps_span_of_text(value);
    if (field == PS_ACESTEP_FIELDS || text.n == 0) {
        ps_text_clear(value);
        return;
    }
    if (field == PS_ACESTEP_BPM || field == PS_ACESTEP_DURATION) {
        ps_metadata_set_number(out, field, text);
    } else if (field == PS_ACESTEP_CAPTION) {
        ps_text joined = {0};
        append_joined(text, &joined);
        ps_metadata_set_text(out, field, ps_span_of_text(&joined));
        ps_text_release(&joined);
    } else {
        ps_metadata_set_text(out, field, ps_span_strip(text));
    }
    ps_text_clear(value);
}

static void add_line(ps_text *value, ps_span line)
{
    if (value->len > 0) ps_text_append_char(value, '\n');
    ps_text_append(value, line.at, line.n);
}

void ps_acestep_parse_metadata(ps_span text, ps_metadata *out)
{
    ps_span rest = find_block(text), line;
    ps_acestep_field field = PS_ACESTEP_FIELDS;
    ps_text value = {0};
    while (ps_span_next_line(&rest, &line)) {
        if (ps_span_starts_with(ps_span_strip(line), "<")) continue;
        const size_t colon = ps_span_find(line, ":");
        if (colon < line.n && !ps_unicode_is_space(first_character(line))) {
            end_field(field, &value, out);
            field = ps_metadata_find(ps_span_strip((ps_span){line.at, colon}));
            line = rest_from(line, colon + 1);
            if (ps_span_strip(line).n > 0) add_line(&value, line);
        } else if (line.n > 0 && (line.at[0] == ' ' || line.at[0] == '\t')) {
            add_line(&value, line);
        }
    }
    end_field(field, &value, out);
    ps_text_release(&value);
}

// ---- codes ----

/* The next code: its token, and its number's digits; *rest goes behind it. */
static bool next_code(ps_span *rest, ps_span *token, ps_span *digits)
{
    for (;;) {
        const size_t at = ps_span_find(*rest, code_begin);
        if (at == rest->n) return false;
        *token = rest_from(*rest, at);
        ps_span after = rest_from(*token, sizeof code_begin - 1);
        digits->at = after.at;
        while (after.n > 0 && ps_unicode_decimal(first_character(after)) >= 0) {
            uint32_t c;
            after = rest_from(after, ps_utf8_decode(after.at, after.n, &c));
        }
        digits->n = (size_t)(after.at - digits->at);
        *rest = after;
        if (digits->n == 0 || !ps_span_starts_with(after, code_end)) continue;
        *rest = rest_from(after, sizeof code_end - 1);
        token->n = (size_t)(rest->at - token->at);
        return true;
    }
}

void ps_acestep_parse_codes(ps_span text, ps_text *out)
{
    ps_span token, digits;
    while (next_code(&text, &token, &digits)) {
        ps_text_append(out, token.at, token.n);
    }
}

bool ps_acestep_parse_code_numbers(ps_span text, ps_tokens *out)
{
    ps_span token, digits;
    while (next_code(&text, &token, &digits)) {
        int64_t number = 0;
        while (digits.n > 0) {
            uint32_t c;
            digits = rest_from(digits, ps_utf8_decode(digits.at, digits.n, &c));
            number = number * 10 + ps_unicode_decimal(c);
            if (number > INT32_MAX) return false;
        }
        ps_tokens_append(out, (int32_t)number);
    }
    return true;
}

// ---- lyrics ----

static size_t count_space(ps_span text)
{
    size_t n = 0;
    while (n < text.n && ps_unicode_is_space(first_character(rest_from(text, n)))) {
        uint32_t c;
        n += ps_utf8_decode(text.at + n, text.n - n, &c);
    }
    return n;
}

/* Bytes of a header line: #, white space, "Lyri" in any case, one of c | s or nothing, white space
 * that ends in a line end. It goes on up to the last line end of that white space. 0: none. */
static size_t header_length(ps_span text)
{
    static const char word[] = "lyri";
    size_t at = 1;
    if (!ps_span_starts_with(text, "#")) return 0;
    at += count_space(rest_from(text, at));
    for (size_t i = 0; i < sizeof word - 1; i++, at++) {
        if (at == text.n || tolower((unsigned char)text.at[at]) != word[i]) return 0;
    }
    if (at < text.n && strchr("cCsS|", text.at[at]) && text.at[at] != '\0') at++;
    const ps_span space = {text.at + at, count_space(rest_from(text, at))};
    const char *line_end = space.n > 0 ? memrchr(space.at, '\n', space.n) : NULL;
    return line_end ? (size_t)(line_end + 1 - text.at) : 0;
}

void ps_acestep_parse_lyrics(ps_span text, ps_text *out)
{
    static const char close[] = "</think>", end[] = "<|im_end|>";
    const size_t at = ps_span_find(text, close);
    if (at == text.n) return;
    ps_span rest = ps_span_strip(rest_from(text, at + sizeof close - 1));
    rest = ps_span_strip(rest_from(rest, header_length(rest)));
    if (rest.n >= sizeof end - 1 &&
        ps_span_starts_with(rest_from(rest, rest.n - (sizeof end - 1)), end))
        rest.n -= sizeof end - 1;
    rest = ps_span_strip(rest);
    ps_text_append(out, rest.at, rest.n);
}
