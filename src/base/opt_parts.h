/* What the files of the option table share: opt.c (command line), opt_config.c (file), opt_value.c
 * (one value from and to text), opt_help.c (help and dump).
 *
 * Both sources first note what they were given, in order; the values are converted afterwards, the
 * file's before the command line's. So --config may stand anywhere.
 *
 * MPI: local.
 */
#ifndef PS_BASE_OPT_PARTS_H
#define PS_BASE_OPT_PARTS_H

#include "base/opt.h"

#define PS_OPT_CONFIG_NAME "config"
#define PS_OPT_HELP_NAME   "help"

enum { PS_OPT_FROM_FILE = 1, PS_OPT_FROM_LINE = 2, PS_OPT_EXCERPT_BYTES = 72 };

/* An option of the running command. */
typedef struct ps_opt_slot {
    const ps_opt *row;
    void *target;
    unsigned origins; // PS_OPT_FROM_* bits
} ps_opt_slot;

/* An option as it was given; values are borrowed from argv or the file's text. */
typedef struct ps_opt_given {
    ps_opt_slot *slot;
    const char *value;
    int line; // in the file; 0 on the command line
} ps_opt_given;

typedef struct ps_opt_givens {
    ps_opt_given *items; // owned
    size_t capacity;
    int count;
} ps_opt_givens;

/* Slot of a long name of n bytes; NULL when there is none. */
ps_opt_slot *ps_opt_find(const ps_opt_parsed *parsed, const char *name, size_t n);

/* Notes a value. An option that this source gave before, and that is not a list, is an error; it
 * begins with `subject`. */
ps_err ps_opt_note(ps_opt_givens *givens, ps_opt_given given, const char *subject) PS_MUST_CHECK;

/* Reads the file into parsed->config_text and notes what it gives. */
ps_err ps_opt_config_read(const char *path, ps_opt_parsed *parsed,
                          ps_opt_givens *givens) PS_MUST_CHECK;

/* Whether an option is part of a configuration: all but `config` and `help` are. */
bool ps_opt_is_setting(const ps_opt *row);

/* One value from text into the target; LIST_TEXT is not for here. `subject` begins the message:
 * "option --steps" or "tune.conf:3: steps". */
ps_err ps_opt_value_read(const ps_opt *row, const char *text, const char *subject,
                         void *target) PS_MUST_CHECK;

/* Appends a value as the configuration file wants it. */
void ps_opt_value_write(const ps_opt *row, const void *target, ps_text *out);

/* Appends one text in double quotes, with escapes. */
void ps_opt_quote(const char *text, ps_text *out);

/* Bytes of a target of this type. */
size_t ps_opt_type_bytes(ps_opt_type type);

/* Appends "1..10", ">= 1" or "<= 10"; nothing for an option without bounds. */
void ps_opt_append_range(const ps_opt *row, ps_text *out);

/* The closest name so far to what somebody typed, if it is close at all. */
typedef struct ps_opt_nearest {
    const char *typed;
    const char *name; // NULL: none yet
    int distance;
} ps_opt_nearest;

void ps_opt_nearest_consider(ps_opt_nearest *nearest, const char *name);

/* Nearest long name among the options; NULL when none is close. `flags_only` for --no-NAME. */
const char *ps_opt_nearest_name(const ps_opt_parsed *parsed, const char *typed, bool flags_only);

/* At most 60 bytes of a text for use in a message: whole characters, nothing unprintable. */
const char *ps_opt_excerpt(const char *text, char out[PS_OPT_EXCERPT_BYTES]);

#endif
