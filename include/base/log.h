/* Messages to standard error, one line each.
 *
 *   pipestep: text                     rank 0
 *   pipestep: [rank 3] error: text     other ranks; "error: " and "warning: " by level
 *
 * or, once ps_log_set_json asks for it, JSON objects:
 *
 *   {"time": "2026-01-31T23:59:59.123Z", "level": "error", "rank": 3, "host": "n7",
 *    "message": "text"}
 *
 * with level one of status, error, warning, info, debug, and the message whole: what is not UTF-8
 * in it becomes U+FFFD, nothing else changes.
 *
 * PS_LOG_STATUS is for answers to a question asked by a signal: they are shown at any level.
 *
 * A line goes out in one write, so the lines of several ranks and threads do not mix. Outside of
 * JSON line breaks and other control characters in it become blanks (texts of files and names of
 * others end up in messages); a line over PS_LOG_LINE_BYTES is cut at a whole character and ends in
 * "...".
 * On a terminal the line first wipes what base/progress.h may have drawn there.
 *
 * Cost: formatting on the stack, one system call.   Errors: none; errno is kept.   MPI: local.
 */
#ifndef PS_BASE_LOG_H
#define PS_BASE_LOG_H

#include <stdbool.h>

#include "base/err.h"

enum { PS_LOG_LINE_BYTES = 4096 }; // Linux keeps a write up to this size to a pipe in one piece

typedef enum ps_log_level {
    PS_LOG_STATUS,
    PS_LOG_ERROR,
    PS_LOG_WARNING,
    PS_LOG_INFO,
    PS_LOG_DEBUG,
    PS_LOG_LEVEL_COUNT
} ps_log_level;

/* Shows messages up to `level` and names this rank in them. Until then: PS_LOG_INFO, rank 0. */
void ps_log_set(ps_log_level level, int rank);

bool ps_log_shows(ps_log_level level);

/* Lines are JSON objects from here on, or are not. One thread at a time. */
void ps_log_set_json(bool json);
bool ps_log_is_json(void);

void ps_log(ps_log_level level, const char *format, ...) PS_PRINTF(2, 3);

#endif
