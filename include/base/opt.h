/* The option table: one list of rows drives command line, configuration file, help text and the
 * dump of the values in force.
 *
 * A row names an option and the place of its value in a plain struct; a group is rows that share
 * such a struct, so that commands can share groups. Rooms never see the table, only their struct.
 *
 *   command line   --name VALUE  --name=VALUE  --flag  --no-flag  -n VALUE  -nVALUE  -n=VALUE
 *                  -- ends the options; a lone - is a positional argument; each option at most
 *                  once, lists any number of times. A value that looks like an option is taken only
 *                  behind "=": a forgotten value must not swallow the next option.
 *   configuration  name = value, one a line; flags are true or false; a # at the start of a line or
 *                  behind a blank begins a comment. A value may stand in '...' (as it is) or "..."
 *                  (with \\ \" \n \r \t \xHH).
 *   order          default < configuration file < command line; a list is replaced as a whole
 *
 * Two names are known to the parser. `config` (TEXT) is the configuration file, wherever it stands
 * on the command line; `help` (FLAG) ends the parsing at once. Neither can stand in a file.
 *
 * Numbers are plain decimal ones: integers without point and exponent, U64 also 0x..., reals
 * finite, seconds with an optional s, m or h behind them.
 *
 * Errors: PS_ERR_USAGE, one line, with the nearest valid name or choice; from the file with
 * file:line. PS_ERR_IO when the file cannot be read.   MPI: local.
 */
#ifndef PS_BASE_OPT_H
#define PS_BASE_OPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/text.h"

/* Type of the target behind each. */
typedef enum ps_opt_type {
    PS_OPT_FLAG,      // bool
    PS_OPT_INT,       // int
    PS_OPT_I64,       // int64_t
    PS_OPT_U64,       // uint64_t
    PS_OPT_REAL,      // double
    PS_OPT_TEXT,      // const char *, borrowed: see ps_opt_parse
    PS_OPT_CHOICE,    // int, or an enum
    PS_OPT_SECONDS,   // double
    PS_OPT_LIST_TEXT, // ps_opt_list
    PS_OPT_TYPE_COUNT
} ps_opt_type;

typedef struct ps_opt_list {
    const char *const *items;
    int count;
} ps_opt_list;

typedef struct ps_opt_choice {
    const char *name; // NULL ends the list
    int value;
} ps_opt_choice;

typedef struct ps_opt {
    const char *name; // long name without dashes; may not begin with "no-"
    char letter;      // short name; 0: none
    ps_opt_type type;
    size_t offset;                // of the target in the group's struct
    double min, max;              // both 0: any value. +-INFINITY: open. Under 2^53 for integers
    const char *initial;          // default as text; NULL: 0, false, no text, no items
    const ps_opt_choice *choices; // of a CHOICE, which needs an `initial` too
    const char *hint;             // name of the value in the help; NULL: by type
    const char *help;             // one line, no full stop needed
} ps_opt;

typedef struct ps_opt_group {
    const char *title; // in the help, and a comment in the dump
    const ps_opt *rows;
    int count;
    void *target; // the struct that the offsets count in
} ps_opt_group;

/* Positional arguments of a command: names as they stand in its usage line. */
typedef struct ps_opt_positionals {
    const char *const *names; // [n_names]
    int n_required;           // the first of them
    int n_names;
} ps_opt_positionals;

/* What was on the line beside the targets. Owns the texts that came from the configuration file
 * and the arrays of the lists: keep it as long as the targets are in use. */
typedef struct ps_opt_parsed {
    const char **positionals; // [n_positionals], the texts borrowed from argv
    int n_positionals;
    bool help;                 // --help was met: nothing behind it was looked at, the targets
                               // hold the defaults, the number of positionals is not checked
    struct ps_opt_slot *slots; // from here on private
    int n_slots;
    char *config_text;
    const char **items;
} ps_opt_parsed;

/* Writes the defaults of the tables into the targets. A default that its own row would refuse is a
 * programmer error. */
void ps_opt_defaults(const ps_opt_group *groups, int n_groups);

/* Sets defaults, then reads argv[0..argc), which begins behind the command's name, and the
 * configuration file it names. `wanted` NULL: no positionals. argv is borrowed until
 * ps_opt_release, the groups too. On error there is nothing to release and the targets hold the
 * defaults. */
ps_err ps_opt_parse(const ps_opt_group *groups, int n_groups, const ps_opt_positionals *wanted,
                    int argc, char *const *argv, ps_opt_parsed *out) PS_MUST_CHECK;
void ps_opt_release(ps_opt_parsed *parsed);

/* Whether the command line or the configuration file gave the option of this long name. */
bool ps_opt_is_set(const ps_opt_parsed *parsed, const char *name);

/* Appends the help of the groups, at most 100 columns wide: names, one-line help, default, range.
 */
void ps_opt_help(const ps_opt_group *groups, int n_groups, ps_text *out);

/* Appends the values in force as a configuration file that reads back to the same values. An option
 * that has no default, holds 0 and was not given becomes a comment. `parsed` tells what was given;
 * NULL: nothing was. */
void ps_opt_dump(const ps_opt_group *groups, int n_groups, const ps_opt_parsed *parsed,
                 ps_text *out);

#endif
