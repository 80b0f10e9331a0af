/* The command line, and the order in which the sources of a value win.
 *
 * The line is only noted while it is read; then the file it names is noted; then the file's values
 * are converted, then the line's over them. A bad value in the file is an error even where the line
 * replaces it: a file is checked as a whole. */
#include "base/opt.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/opt_parts.h"

/* ---- the table ---- */

static void *target_of(const ps_opt_group *group, const ps_opt *row)
{
    return (char *)group->target + row->offset;
}

bool ps_opt_is_setting(const ps_opt *row)
{
    return strcmp(row->name, PS_OPT_CONFIG_NAME) != 0 && strcmp(row->name, PS_OPT_HELP_NAME) != 0;
}

void ps_opt_defaults(const ps_opt_group *groups, int n_groups)
{
    for (int g = 0; g < n_groups; g++) {
        for (int i = 0; i < groups[g].count; i++) {
            const ps_opt *row = &groups[g].rows[i];
            void *target = target_of(&groups[g], row);
            memset(target, 0, ps_opt_type_bytes(row->type));
            if (!row->initial) continue;
            const ps_err err = ps_opt_value_read(row, row->initial, row->name, target);
            assert(err == PS_OK && "a default is a valid value of its row");
            (void)err;
        }
    }
}

/* Rules of a table that its author can break. */
static void check_row(const ps_opt_slot *slots, int index)
{
    const ps_opt *row = slots[index].row;
    assert(row->name && row->name[0] && !strpbrk(row->name, " \t=#") && "a plain name");
    assert(strncmp(row->name, "no-", 3) != 0 && "no- is the negation of a flag");
    assert(row->min <= row->max);
    assert(row->type != PS_OPT_CHOICE || (row->choices && row->initial));
    assert(row->type != PS_OPT_LIST_TEXT || !row->initial);
    assert(row->letter == 0 || isalpha((unsigned char)row->letter));
    for (int i = 0; i < index; i++) {
        assert(strcmp(slots[i].row->name, row->name) != 0 && "one row a name");
        assert((row->letter == 0 || slots[i].row->letter != row->letter) && "one row a letter");
    }
}

static void collect_slots(const ps_opt_group *groups, int n_groups, ps_opt_parsed *out)
{
    for (int g = 0; g < n_groups; g++) {
        out->n_slots += groups[g].count;
    }
    out->slots = ps_mem_new((size_t)out->n_slots, sizeof *out->slots);
    int n = 0;
    for (int g = 0; g < n_groups; g++) {
        for (int i = 0; i < groups[g].count; i++) {
            const ps_opt *row = &groups[g].rows[i];
            out->slots[n] = (ps_opt_slot){.row = row, .target = target_of(&groups[g], row)};
            check_row(out->slots, n++);
        }
    }
}

ps_opt_slot *ps_opt_find(const ps_opt_parsed *parsed, const char *name, size_t n)
{
    for (int i = 0; i < parsed->n_slots; i++) {
        const char *known = parsed->slots[i].row->name;
        if (strlen(known) == n && memcmp(known, name, n) == 0) return &parsed->slots[i];
    }
    return NULL;
}

static ps_opt_slot *find_letter(const ps_opt_parsed *parsed, char letter)
{
    for (int i = 0; i < parsed->n_slots; i++) {
        if (letter && parsed->slots[i].row->letter == letter) return &parsed->slots[i];
    }
    return NULL;
}

const char *ps_opt_nearest_name(const ps_opt_parsed *parsed, const char *typed, bool flags_only)
{
    ps_opt_nearest nearest = {.typed = typed};
    for (int i = 0; i < parsed->n_slots; i++) {
        const ps_opt *row = parsed->slots[i].row;
        if (!flags_only || row->type == PS_OPT_FLAG) ps_opt_nearest_consider(&nearest, row->name);
    }
    return nearest.name;
}

bool ps_opt_is_set(const ps_opt_parsed *parsed, const char *name)
{
    const ps_opt_slot *slot = ps_opt_find(parsed, name, strlen(name));
    assert(slot && "an option of the table");
    return slot->origins != 0;
}

/* ---- the command line ---- */

ps_err ps_opt_note(ps_opt_givens *givens, ps_opt_given given, const char *subject)
{
    const unsigned origin = given.line ? PS_OPT_FROM_FILE : PS_OPT_FROM_LINE;
    if ((given.slot->origins & origin) && given.slot->row->type != PS_OPT_LIST_TEXT) {
        return PS_FAIL(PS_ERR_USAGE, "%s is given twice", subject);
    }
    given.slot->origins |= origin;
    givens->items = ps_mem_grow(givens->items, &givens->capacity, (size_t)givens->count + 1,
                                sizeof *givens->items);
    givens->items[givens->count++] = given;
    return PS_OK;
}

typedef struct cursor {
    int argc;
    char *const *argv;
    int at; // argument being read
    ps_opt_parsed *parsed;
    ps_opt_givens *givens;
} cursor;

static ps_err note_option(cursor *c, ps_opt_slot *slot, const char *value)
{
    char subject[PS_OPT_EXCERPT_BYTES + 16];
    snprintf(subject, sizeof subject, "option --%s", slot->row->name);
    return ps_opt_note(c->givens, (ps_opt_given){.slot = slot, .value = value}, subject);
}

static ps_err fail_flag_value(const char *dashes, const char *name, const char *value)
{
    char excerpt[PS_OPT_EXCERPT_BYTES];
    return PS_FAIL(PS_ERR_USAGE, "option %s%s takes no value, found \"%s\"", dashes, name,
                   ps_opt_excerpt(value, excerpt));
}

static bool looks_like_option(const ps_opt_parsed *parsed, const char *text)
{
    if (text[0] != '-' || text[1] == '\0') return false;
    return text[1] == '-' || (text[2] == '\0' && find_letter(parsed, text[1]));
}

/* The option's value from the next argument. */
static ps_err note_with_next(cursor *c, ps_opt_slot *slot)
{
    const char *name = slot->row->name;
    if (c->at + 1 == c->argc) return PS_FAIL(PS_ERR_USAGE, "option --%s needs a value", name);
    const char *value = c->argv[c->at + 1];
    if (looks_like_option(c->parsed, value)) {
        char excerpt[PS_OPT_EXCERPT_BYTES];
        ps_opt_excerpt(value, excerpt);
        return PS_FAIL(PS_ERR_USAGE,
                       "option --%s needs a value, found the option %s; if that is the value, "
                       "write --%s=%s",
                       name, excerpt, name, excerpt);
    }
    c->at++;
    return note_option(c, slot, value);
}

static ps_err fail_unknown(const ps_opt_parsed *parsed, const char *name)
{
    char excerpt[PS_OPT_EXCERPT_BYTES];
    ps_opt_excerpt(name, excerpt);
    const bool negated = strncmp(name, "no-", 3) == 0;
    const char *near = negated ? ps_opt_nearest_name(parsed, name + 3, true) : NULL;
    if (near) {
        return PS_FAIL(PS_ERR_USAGE, "unknown option --%s; did you mean --no-%s?", excerpt, near);
    }
    near = ps_opt_nearest_name(parsed, name, false);
    if (near)
        return PS_FAIL(PS_ERR_USAGE, "unknown option --%s; did you mean --%s?", excerpt, near);
    return PS_FAIL(PS_ERR_USAGE, "unknown option --%s", excerpt);
}

/* `name` is the argument behind its dashes, NUL-terminated before any "="; `value` follows the "=",
 * NULL if there is none. */
static ps_err read_long(cursor *c, const char *name, const char *value)
{
    const size_t n = strlen(name);
    ps_opt_slot *slot = ps_opt_find(c->parsed, name, n);
    bool on = true;
    if (!slot && strncmp(name, "no-", 3) == 0) {
        slot = ps_opt_find(c->parsed, name + 3, n - 3);
        if (slot && slot->row->type != PS_OPT_FLAG) slot = NULL;
        on = false;
    }
    if (!slot) return fail_unknown(c->parsed, name);
    if (slot->row->type == PS_OPT_FLAG) {
        if (value) return fail_flag_value("--", name, value);
        return note_option(c, slot, on ? "true" : "false");
    }
    return value ? note_option(c, slot, value) : note_with_next(c, slot);
}

static ps_err read_long_argument(cursor *c, const char *argument)
{
    const char *equals = strchr(argument, '=');
    if (!equals) return read_long(c, argument, NULL);
    char *name = ps_mem_copy_bytes(argument, (size_t)(equals - argument));
    const ps_err err = read_long(c, name, equals + 1);
    ps_mem_free(name);
    return err;
}

static ps_err read_short_argument(cursor *c, const char *argument)
{
    char excerpt[PS_OPT_EXCERPT_BYTES];
    ps_opt_slot *slot = find_letter(c->parsed, argument[0]);
    const char *value = argument + 1;
    if (!slot) {
        return PS_FAIL(PS_ERR_USAGE, "unknown option -%s", ps_opt_excerpt(argument, excerpt));
    }
    if (slot->row->type == PS_OPT_FLAG) {
        const char name[2] = {argument[0], '\0'};
        if (*value) return fail_flag_value("-", name, value);
        return note_option(c, slot, "true");
    }
    if (*value == '\0') return note_with_next(c, slot);
    return note_option(c, slot, *value == '=' ? value + 1 : value);
}

/* Whether the last option noted was --help. */
static bool met_help(const ps_opt_givens *givens)
{
    if (givens->count == 0) return false;
    const ps_opt_given *last = &givens->items[givens->count - 1];
    return strcmp(last->slot->row->name, PS_OPT_HELP_NAME) == 0 && strcmp(last->value, "true") == 0;
}

static ps_err read_arguments(cursor *c)
{
    ps_opt_parsed *parsed = c->parsed;
    parsed->positionals = ps_mem_new((size_t)c->argc, sizeof *parsed->positionals);
    bool options_ended = false;
    for (; c->at < c->argc && !parsed->help; c->at++) {
        const char *argument = c->argv[c->at];
        if (options_ended || argument[0] != '-' || argument[1] == '\0') {
            parsed->positionals[parsed->n_positionals++] = argument;
        } else if (strcmp(argument, "--") == 0) {
            options_ended = true;
        } else if (argument[1] == '-') {
            PS_TRY(read_long_argument(c, argument + 2));
        } else {
            PS_TRY(read_short_argument(c, argument + 1));
        }
        parsed->help = met_help(c->givens);
    }
    return PS_OK;
}

static ps_err check_positionals(const ps_opt_positionals *wanted, const ps_opt_parsed *parsed)
{
    const int n = parsed->n_positionals, n_names = wanted->n_names;
    if (n < wanted->n_required) {
        return PS_FAIL(PS_ERR_USAGE, "argument %s is missing", wanted->names[n]);
    }
    if (n <= n_names) return PS_OK;
    char excerpt[PS_OPT_EXCERPT_BYTES];
    ps_text list = {0};
    for (int i = 0; i < n_names; i++) {
        ps_text_appendf(&list, "%s%s", i ? " " : "; wanted only ", wanted->names[i]);
    }
    const ps_err err =
        PS_FAIL(PS_ERR_USAGE, "argument \"%s\" is too much%s",
                ps_opt_excerpt(parsed->positionals[n_names], excerpt), ps_text_str(&list));
    ps_text_release(&list);
    return err;
}

/* ---- values ---- */

/* Converts what one source gave; `path` of the file, NULL for the command line. */
static ps_err apply(const ps_opt_givens *givens, const char *path)
{
    char subject[PS_ERR_MESSAGE_BYTES];
    for (int i = 0; i < givens->count; i++) {
        const ps_opt_given *given = &givens->items[i];
        const ps_opt *row = given->slot->row;
        if (row->type == PS_OPT_LIST_TEXT) continue;
        if (path) {
            snprintf(subject, sizeof subject, "%s:%d: %s", path, given->line, row->name);
        } else {
            snprintf(subject, sizeof subject, "option --%s", row->name);
        }
        PS_TRY(ps_opt_value_read(row, given->value, subject, given->slot->target));
    }
    return PS_OK;
}

/* Each list takes all its items from the stronger source that gave any. */
static void apply_lists(ps_opt_parsed *parsed, const ps_opt_givens *file, const ps_opt_givens *line)
{
    parsed->items = ps_mem_new((size_t)file->count + (size_t)line->count, sizeof *parsed->items);
    int used = 0;
    for (int s = 0; s < parsed->n_slots; s++) {
        const ps_opt_slot *slot = &parsed->slots[s];
        if (slot->row->type != PS_OPT_LIST_TEXT || !slot->origins) continue;
        const ps_opt_givens *source = slot->origins & PS_OPT_FROM_LINE ? line : file;
        const ps_opt_list begin = {.items = parsed->items + used};
        ps_opt_list list = begin;
        for (int i = 0; i < source->count; i++) {
            if (source->items[i].slot != slot) continue;
            parsed->items[used++] = source->items[i].value;
            list.count++;
        }
        memcpy(slot->target, &list, sizeof list);
    }
}

static ps_err apply_all(ps_opt_parsed *parsed, const ps_opt_givens *line)
{
    ps_opt_givens file = {0};
    const char *path = NULL;
    ps_err err = PS_OK;
    for (int i = 0; i < line->count; i++) {
        if (strcmp(line->items[i].slot->row->name, PS_OPT_CONFIG_NAME) == 0) {
            path = line->items[i].value;
        }
    }
    if (path) err = ps_opt_config_read(path, parsed, &file);
    if (!err && path) err = apply(&file, path);
    if (!err) err = apply(line, NULL);
    if (!err) apply_lists(parsed, &file, line);
    ps_mem_free(file.items);
    return err;
}

ps_err ps_opt_parse(const ps_opt_group *groups, int n_groups, const ps_opt_positionals *wanted,
                    int argc, char *const *argv, ps_opt_parsed *out)
{
    static const ps_opt_positionals none = {0};
    if (!wanted) wanted = &none;
    assert(argc >= 0 && wanted->n_required <= wanted->n_names);
    *out = (ps_opt_parsed){0};
    ps_opt_defaults(groups, n_groups);
    collect_slots(groups, n_groups, out);
    ps_opt_givens line = {0};
    cursor c = {.argc = argc, .argv = argv, .parsed = out, .givens = &line};
    ps_err err = read_arguments(&c);
    if (!err && !out->help) err = check_positionals(wanted, out);
    if (!err && !out->help) err = apply_all(out, &line);
    ps_mem_free(line.items);
    if (!err) return PS_OK;
    // What was set already may point into the file's text, which goes now.
    ps_opt_release(out);
    ps_opt_defaults(groups, n_groups);
    return err;
}

void ps_opt_release(ps_opt_parsed *parsed)
{
    ps_mem_free(parsed->items);
    ps_mem_free(parsed->config_text);
    ps_mem_free(parsed->slots);
    ps_mem_free(parsed->positionals);
    *parsed = (ps_opt_parsed){0};
}
