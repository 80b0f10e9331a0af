/* The configuration file: one `name = value` a line.
 *
 * The whole file is read into one buffer that lives as long as the parsed options. Each line is cut
 * and unescaped in place (a value never grows by that), so values need no memory of their own. */
#include "base/opt_parts.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"

enum { CONFIG_MAX_BYTES = 1 << 20 };

typedef struct place {
    const char *path;
    int line;
} place;

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static char *skip_blanks(char *at)
{
    while (is_blank(*at)) {
        at++;
    }
    return at;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* One escape, `at` behind the backslash. Returns the bytes it takes, 0 if it is none. */
static size_t read_escape(const char *at, char *out)
{
    static const char letters[] = "\\\"nrt", plain[] = "\\\"\n\r\t";
    if (*at == '\0') return 0;
    const char *letter = strchr(letters, *at);
    if (letter) {
        *out = plain[letter - letters];
        return 1;
    }
    if (*at != 'x') return 0;
    const int high = hex_digit(at[1]);
    const int low = high < 0 ? -1 : hex_digit(at[2]);
    if (low < 0 || high + low == 0) return 0; // a NUL would end the text
    *out = (char)(high * 16 + low);
    return 3;
}

/* A quoted value, `at` on its first quotation mark. Writes the text over it; *rest is what stands
 * behind the second mark. */
static ps_err read_quoted(char *at, const place *where, char **value, char **rest)
{
    const char mark = *at++;
    char *to = at;
    *value = at;
    while (*at && *at != mark) {
        if (*at != '\\' || mark == '\'') {
            *to++ = *at++;
            continue;
        }
        const size_t n = read_escape(at + 1, to);
        if (n == 0) {
            char excerpt[PS_OPT_EXCERPT_BYTES];
            return PS_FAIL(PS_ERR_USAGE,
                           "%s:%d: no escape: \"%s\"; there are \\\\ \\\" \\n \\r \\t \\xHH",
                           where->path, where->line, ps_opt_excerpt(at, excerpt));
        }
        to++;
        at += 1 + n;
    }
    if (*at == '\0') {
        return PS_FAIL(PS_ERR_USAGE, "%s:%d: a quotation mark is not closed", where->path,
                       where->line);
    }
    *rest = at + 1;
    *to = '\0';
    return PS_OK;
}

/* Text without quotation marks: up to a comment or the end of the line, without the blanks behind
 * it. Something stands before it in the line, or it does not begin with a #. */
static char *read_plain(char *at)
{
    char *end = at;
    for (char *c = at; *c; c++) {
        if (*c == '#' && is_blank(c[-1])) break;
        if (!is_blank(*c)) end = c + 1;
    }
    *end = '\0';
    return at;
}

static ps_err read_value(char *at, const place *where, char **value)
{
    if (*at != '"' && *at != '\'') {
        *value = read_plain(at);
        return PS_OK;
    }
    char *rest = at;
    PS_TRY(read_quoted(at, where, value, &rest));
    rest = skip_blanks(rest);
    if (*rest == '\0' || *rest == '#') return PS_OK;
    char excerpt[PS_OPT_EXCERPT_BYTES];
    return PS_FAIL(PS_ERR_USAGE, "%s:%d: text behind the closing quotation mark: \"%s\"",
                   where->path, where->line, ps_opt_excerpt(rest, excerpt));
}

static ps_err find_key(const char *key, const place *where, const ps_opt_parsed *parsed,
                       ps_opt_slot **out)
{
    char excerpt[PS_OPT_EXCERPT_BYTES];
    *out = ps_opt_find(parsed, key, strlen(key));
    if (!*out) {
        const char *near = ps_opt_nearest_name(parsed, key, false);
        return PS_FAIL(PS_ERR_USAGE, "%s:%d: unknown key %s%s%s%s", where->path, where->line,
                       ps_opt_excerpt(key, excerpt), near ? "; did you mean " : "",
                       near ? near : "", near ? "?" : "");
    }
    if (ps_opt_is_setting((*out)->row)) return PS_OK;
    return PS_FAIL(PS_ERR_USAGE, "%s:%d: %s cannot stand in a configuration file", where->path,
                   where->line, key);
}

static ps_err read_line(char *line, const place *where, const ps_opt_parsed *parsed,
                        ps_opt_givens *givens)
{
    char *key = skip_blanks(line);
    if (*key == '\0' || *key == '#') return PS_OK;
    char *key_end = key + strcspn(key, " \t\r=#");
    char *equals = skip_blanks(key_end);
    if (*equals != '=' || key_end == key) {
        char excerpt[PS_OPT_EXCERPT_BYTES];
        return PS_FAIL(PS_ERR_USAGE, "%s:%d: wanted name = value, found \"%s\"", where->path,
                       where->line, ps_opt_excerpt(read_plain(key), excerpt));
    }
    *key_end = '\0';
    ps_opt_slot *slot = NULL;
    PS_TRY(find_key(key, where, parsed, &slot));
    char *value = NULL;
    PS_TRY(read_value(skip_blanks(equals + 1), where, &value));
    char subject[PS_ERR_MESSAGE_BYTES];
    snprintf(subject, sizeof subject, "%s:%d: %s", where->path, where->line, key);
    return ps_opt_note(givens, (ps_opt_given){.slot = slot, .value = value, .line = where->line},
                       subject);
}

ps_err ps_opt_config_read(const char *path, ps_opt_parsed *parsed, ps_opt_givens *givens)
{
    if (strcmp(path, "-") == 0) {
        return PS_FAIL(PS_ERR_USAGE, "option --" PS_OPT_CONFIG_NAME
                                     " wants a file: standard input reaches one process only");
    }
    ps_text text = {0};
    ps_err err = ps_file_read(path, CONFIG_MAX_BYTES, &text);
    const size_t n = text.len;
    parsed->config_text = ps_text_take(&text);
    if (!err && strlen(parsed->config_text) != n) {
        err = PS_FAIL(PS_ERR_USAGE, "%s: a NUL byte at offset %zu, wanted text", path,
                      strlen(parsed->config_text));
    }
    char *at = parsed->config_text;
    if (strncmp(at, "\xEF\xBB\xBF", 3) == 0) at += 3; // byte order mark of some editors
    place where = {.path = path};
    while (!err && *at) {
        char *line = at;
        at += strcspn(at, "\n");
        if (*at == '\n') *at++ = '\0';
        where.line++;
        err = read_line(line, &where, parsed, givens);
    }
    return err;
}
