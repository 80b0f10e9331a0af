/* What the two files of the regular expression translator share.
 *
 * MPI: local.
 */
#ifndef PS_SERVE_TOKENIZER_REGEX_H
#define PS_SERVE_TOKENIZER_REGEX_H

#include "serve/tokenizer_parts.h"

enum {
    PS_TOK_REGEX_MAX_GROUPS = 64,
    PS_TOK_REGEX_MAX_CLASSES = 8, // classes in classes
    PS_TOK_REGEX_SET_BYTES = 512,
};

/* Items of a PCRE2 class: white space, and \w outside of classes. */
#define PS_TOK_REGEX_SPACE                                                                         \
    "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}"       \
    "\\x{3000}"
#define PS_TOK_REGEX_WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"

/* A regular expression being read; `at` moves on. */
typedef struct ps_tok_regex_input {
    const char *text;
    size_t n, at;
    const char *where;
} ps_tok_regex_input;

/* What an escape or a bracket expression stands for: one character, or items of a class. */
typedef struct ps_tok_regex_set {
    bool is_char;
    uint32_t code_point;
    bool negated;
    char items[PS_TOK_REGEX_SET_BYTES];
} ps_tok_regex_set;

ps_err ps_tok_regex_unsupported(const ps_tok_regex_input *in, const char *what);

/* Reads the escape at in->at, a backslash, as a character or a set. */
ps_err ps_tok_regex_read_escape(ps_tok_regex_input *in, ps_tok_regex_set *out) PS_MUST_CHECK;

/* Translates the bracketed class at in->at. */
ps_err ps_tok_regex_translate_class(ps_tok_regex_input *in, ps_text *out) PS_MUST_CHECK;

#endif
