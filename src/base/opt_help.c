/* Help and dump, both straight from the table.
 *
 * Help has two columns. The right one begins behind the longest left one of all groups, but not
 * further right than LEFT_MAX; a longer left one has its line to itself. */
#include "base/opt_parts.h"

#include <assert.h>
#include <string.h>

enum { HELP_COLUMNS = 100, LEFT_MAX = 34, LEFT_GAP = 2 };

static const char *const hints[PS_OPT_TYPE_COUNT] = {
    [PS_OPT_INT] = "N",        [PS_OPT_I64] = "N",          [PS_OPT_U64] = "N",
    [PS_OPT_REAL] = "X",       [PS_OPT_TEXT] = "TEXT",      [PS_OPT_CHOICE] = "NAME",
    [PS_OPT_SECONDS] = "TIME", [PS_OPT_LIST_TEXT] = "TEXT",
};

/* ---- help ---- */

/* Columns of a text: characters, since all the texts of the tables are one column a character. */
static size_t columns(const char *text)
{
    size_t n = 0;
    for (; *text; text++) {
        n += ((unsigned char)*text & 0xC0) != 0x80;
    }
    return n;
}

static void append_spaces(size_t n, ps_text *out)
{
    while (n-- > 0) {
        ps_text_append_char(out, ' ');
    }
}

static bool is_on(const ps_opt *row)
{
    return row->type == PS_OPT_FLAG && row->initial && strcmp(row->initial, "true") == 0;
}

/* "  -n, --count N" */
static void append_left(const ps_opt *row, ps_text *out)
{
    if (row->letter) {
        ps_text_appendf(out, "  -%c, ", row->letter);
    } else {
        ps_text_append_str(out, "      ");
    }
    ps_text_appendf(out, "--%s%s", is_on(row) ? "[no-]" : "", row->name);
    if (row->type == PS_OPT_FLAG) return;
    ps_text_appendf(out, " %s", row->hint ? row->hint : hints[row->type]);
}

/* Begins a note: "(" for the first, "; " for the others. */
static void begin_note(bool *any, ps_text *out)
{
    ps_text_append_str(out, *any ? "; " : " (");
    *any = true;
}

/* Help of a row with what the table knows besides: " (choices; default; range; repeatable)". */
static void append_right(const ps_opt *row, ps_text *out)
{
    bool any = false;
    ps_text_append_str(out, row->help ? row->help : "");
    if (row->type == PS_OPT_CHOICE) {
        begin_note(&any, out);
        for (const ps_opt_choice *c = row->choices; c->name; c++) {
            ps_text_appendf(out, "%s%s", c == row->choices ? "" : ", ", c->name);
        }
    }
    if (row->initial && (row->type != PS_OPT_FLAG || is_on(row))) {
        begin_note(&any, out);
        ps_text_appendf(out, "default %s",
                        is_on(row)             ? "on"
                        : row->initial[0] == 0 ? "\"\""
                                               : row->initial);
    }
    ps_text range = {0};
    ps_opt_append_range(row, &range);
    if (range.len > 0) {
        begin_note(&any, out);
        ps_text_append(out, range.data, range.len);
    }
    ps_text_release(&range);
    if (row->type == PS_OPT_LIST_TEXT) {
        begin_note(&any, out);
        ps_text_append_str(out, "repeatable");
    }
    if (any) ps_text_append_char(out, ')');
}

/* Words of `text` in lines from column `left` on; the first line has reached column `left`. */
static void append_wrapped(const char *text, size_t left, ps_text *out)
{
    size_t column = left;
    bool first = true;
    while (*text) {
        const size_t n = strcspn(text, " ");
        ps_text word = {0};
        ps_text_append(&word, text, n);
        const size_t width = columns(ps_text_str(&word));
        if (!first && column + 1 + width > HELP_COLUMNS) {
            ps_text_append_char(out, '\n');
            append_spaces(left, out);
            column = left;
        } else if (!first) {
            ps_text_append_char(out, ' ');
            column++;
        }
        ps_text_append(out, word.data, word.len);
        ps_text_release(&word);
        column += width;
        first = false;
        text += n + strspn(text + n, " ");
    }
    ps_text_append_char(out, '\n');
}

static size_t left_width(const ps_opt_group *groups, int n_groups)
{
    size_t width = 0;
    for (int g = 0; g < n_groups; g++) {
        for (int i = 0; i < groups[g].count; i++) {
            ps_text left = {0};
            append_left(&groups[g].rows[i], &left);
            const size_t n = columns(ps_text_str(&left)) + LEFT_GAP;
            ps_text_release(&left);
            if (n > width && n <= LEFT_MAX) width = n;
        }
    }
    return width;
}

static void append_row(const ps_opt *row, size_t width, ps_text *out)
{
    ps_text left = {0}, right = {0};
    append_left(row, &left);
    append_right(row, &right);
    ps_text_append(out, left.data, left.len);
    size_t column = columns(ps_text_str(&left));
    if (column + LEFT_GAP > width) {
        ps_text_append_char(out, '\n');
        column = 0;
    }
    append_spaces(width - column, out);
    append_wrapped(ps_text_str(&right), width, out);
    ps_text_release(&right);
    ps_text_release(&left);
}

void ps_opt_help(const ps_opt_group *groups, int n_groups, ps_text *out)
{
    const size_t width = left_width(groups, n_groups);
    for (int g = 0; g < n_groups; g++) {
        ps_text_appendf(out, "%s%s:\n", g ? "\n" : "", groups[g].title);
        for (int i = 0; i < groups[g].count; i++) {
            append_row(&groups[g].rows[i], width, out);
        }
    }
}

/* ---- dump ---- */

static void dump_list(const ps_opt *row, const void *target, ps_text *out)
{
    ps_opt_list list;
    memcpy(&list, target, sizeof list);
    if (list.count == 0) ps_text_appendf(out, "# %s =\n", row->name);
    for (int i = 0; i < list.count; i++) {
        ps_text_appendf(out, "%s = ", row->name);
        ps_opt_quote(list.items[i], out);
        ps_text_append_char(out, '\n');
    }
}

/* An option without default and without value has no text that reads back: 0 may be out of its
 * range, no text is not the empty text, and a seed that was not given is not the seed 0. */
static bool is_unset(const ps_opt *row, const void *target, const ps_opt_parsed *parsed)
{
    static const unsigned char zeros[sizeof(double) + sizeof(const char *)];
    const size_t n = ps_opt_type_bytes(row->type);
    assert(n <= sizeof zeros);
    if (row->type == PS_OPT_FLAG) return false;
    if (row->type == PS_OPT_TEXT) {
        const char *text;
        memcpy(&text, target, sizeof text);
        return text == NULL;
    }
    if (row->initial || memcmp(target, zeros, n) != 0) return false;
    return !parsed || !ps_opt_is_set(parsed, row->name);
}

void ps_opt_dump(const ps_opt_group *groups, int n_groups, const ps_opt_parsed *parsed,
                 ps_text *out)
{
    for (int g = 0; g < n_groups; g++) {
        ps_text_appendf(out, "%s# %s\n", g ? "\n" : "", groups[g].title);
        for (int i = 0; i < groups[g].count; i++) {
            const ps_opt *row = &groups[g].rows[i];
            const void *target = (const char *)groups[g].target + row->offset;
            if (!ps_opt_is_setting(row)) continue;
            if (row->type == PS_OPT_LIST_TEXT) {
                dump_list(row, target, out);
            } else if (is_unset(row, target, parsed)) {
                ps_text_appendf(out, "# %s =\n", row->name);
            } else {
                ps_text_appendf(out, "%s = ", row->name);
                ps_opt_value_write(row, target, out);
                ps_text_append_char(out, '\n');
            }
        }
    }
}
