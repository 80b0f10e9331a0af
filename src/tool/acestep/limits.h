/* What ACE-Step documents as its input, checked before any of it is computed.
 *
 * `where` begins the message: an option, or a request's key.   MPI: local.
 * Errors: PS_ERR_FORMAT for what is not UTF-8, PS_ERR_LIMIT for a text that is too long,
 * PS_ERR_USAGE for a value that is none of those wanted.
 */
#ifndef PS_TOOL_ACESTEP_LIMITS_H
#define PS_TOOL_ACESTEP_LIMITS_H

#include "serve/acestep_states.h"
#include "tool/acestep/unicode.h"

enum {
    PS_ACESTEP_CAPTION_MAX = 511, // characters, which are code points
    PS_ACESTEP_LYRICS_MAX = 4095,
    PS_ACESTEP_BPM_MIN = 30,
    PS_ACESTEP_BPM_MAX = 300
};

/* A caption, a wish, a negative prompt. */
ps_err ps_acestep_check_caption(const char *where, ps_span text) PS_MUST_CHECK;
ps_err ps_acestep_check_lyrics(const char *where, ps_span text) PS_MUST_CHECK;

ps_err ps_acestep_check_bpm(const char *where, double bpm) PS_MUST_CHECK;
ps_err ps_acestep_check_duration(const char *where, double seconds) PS_MUST_CHECK;

/* A to G, then nothing or one of # b and their signs U+266F U+266D, a blank, major or minor. */
ps_err ps_acestep_check_keyscale(const char *where, ps_span text) PS_MUST_CHECK;

/* One of 51 codes: en, zh, yue, unknown, ... */
ps_err ps_acestep_check_language(const char *where, ps_span text) PS_MUST_CHECK;

/* 2, 3, 4, 6, or as a musician writes them: 2/4, 3/4, 4/4, 6/8. *out is the number's text, static.
 */
ps_err ps_acestep_read_timesignature(const char *where, ps_span text,
                                     const char **out) PS_MUST_CHECK;

#endif
