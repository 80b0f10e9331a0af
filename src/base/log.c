/* Level and rank are the only state: two words, set once at the start and read by every thread. */
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"

static _Atomic int shown_level = PS_LOG_INFO;
static _Atomic int own_rank;

static const char *const words[PS_LOG_LEVEL_COUNT] = {
    [PS_LOG_STATUS] = "", [PS_LOG_ERROR] = "error: ", [PS_LOG_WARNING] = "warning: ",
    [PS_LOG_INFO] = "",   [PS_LOG_DEBUG] = "",
};

static const char wipe[] = "\r\033[K"; // to the start of the terminal's line, and empty it
static const char cut_mark[] = "...";

void ps_log_set(ps_log_level level, int rank)
{
    assert(level < PS_LOG_LEVEL_COUNT && rank >= 0);
    shown_level = (int)level;
    own_rank = rank;
}

bool ps_log_shows(ps_log_level level)
{
    return (int)level <= shown_level;
}

/* Room in `line` for the text: behind it stand the cut mark and the line break. */
static size_t write_prefix(ps_log_level level, char *line, size_t size)
{
    const int rank = own_rank;
    size_t n = 0;
    if (isatty(STDERR_FILENO)) n += (size_t)snprintf(line, size, "%s", wipe);
    n += (size_t)snprintf(line + n, size - n, "pipestep: ");
    if (rank > 0) n += (size_t)snprintf(line + n, size - n, "[rank %d] ", rank);
    return n + (size_t)snprintf(line + n, size - n, "%s", words[level]);
}

/* Control characters to blanks, blanks at the end away. Returns the new length. */
static size_t clean(char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == 0x7F) text[i] = ' ';
    }
    while (n > 0 && text[n - 1] == ' ') {
        n--;
    }
    return n;
}

void ps_log(ps_log_level level, const char *format, ...)
{
    assert(level < PS_LOG_LEVEL_COUNT);
    if (!ps_log_shows(level)) return;
    const int kept_errno = errno;
    char line[PS_LOG_LINE_BYTES];
    const size_t prefix = write_prefix(level, line, sizeof line);
    // Behind the text stands the line break, in place of the NUL that vsnprintf writes.
    const size_t room = sizeof line - prefix - sizeof cut_mark;
    va_list args;
    va_start(args, format);
    const int wanted = vsnprintf(line + prefix, room + 1, format, args);
    va_end(args);
    size_t n = wanted < 0 ? 0 : (size_t)wanted;
    const bool cut = n > room;
    if (cut) {
        bool incomplete;
        n = ps_utf8_valid_prefix(line + prefix, room, &incomplete);
        if (!incomplete) n = room;
    }
    n = prefix + clean(line + prefix, n);
    if (cut) {
        memcpy(line + n, cut_mark, sizeof cut_mark - 1);
        n += sizeof cut_mark - 1;
    }
    line[n++] = '\n';
    // Nobody can be told that standard error is gone, so the result is not looked at.
    while (write(STDERR_FILENO, line, n) < 0 && errno == EINTR) {
    }
    errno = kept_errno;
}
