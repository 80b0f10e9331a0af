/* Level, rank, form and the host's name are the only state: set at the start, before there are
 * threads, and read by every thread. */
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"

static _Atomic int shown_level = PS_LOG_INFO;
static _Atomic int own_rank;
static _Atomic bool as_json;
static char own_host[64]; // of JSON

static const char *const words[PS_LOG_LEVEL_COUNT] = {
    [PS_LOG_STATUS] = "", [PS_LOG_ERROR] = "error: ", [PS_LOG_WARNING] = "warning: ",
    [PS_LOG_INFO] = "",   [PS_LOG_DEBUG] = "",
};

static const char *const names[PS_LOG_LEVEL_COUNT] = {
    [PS_LOG_STATUS] = "status", [PS_LOG_ERROR] = "error", [PS_LOG_WARNING] = "warning",
    [PS_LOG_INFO] = "info",     [PS_LOG_DEBUG] = "debug",
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

void ps_log_set_json(bool json)
{
    if (gethostname(own_host, sizeof own_host - 1) != 0) own_host[0] = '\0';
    as_json = json;
}

bool ps_log_is_json(void)
{
    return as_json;
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

/* Length of text[0..n) without a character that is not whole. */
static size_t whole_characters(const char *text, size_t n)
{
    bool incomplete;
    const size_t whole = ps_utf8_valid_prefix(text, n, &incomplete);
    return incomplete ? whole : n;
}

/* Returns the length of the line, its end included. `cut`: the text was longer. */
static size_t compose_plain(ps_log_level level, const char *text, size_t n, bool cut,
                            char line[PS_LOG_LINE_BYTES])
{
    const size_t prefix = write_prefix(level, line, PS_LOG_LINE_BYTES);
    const size_t room = PS_LOG_LINE_BYTES - prefix - sizeof cut_mark; // and the line's end
    if (n > room) {
        cut = true;
        n = whole_characters(text, room);
    }
    memcpy(line + prefix, text, n);
    n = prefix + clean(line + prefix, n);
    if (cut) {
        memcpy(line + n, cut_mark, sizeof cut_mark - 1);
        n += sizeof cut_mark - 1;
    }
    line[n++] = '\n';
    return n;
}

/* Appends the text as it stands within a JSON string, and the mark where it does not fit into
 * `size` bytes. Returns the length. */
static size_t append_escaped(char *line, size_t at, size_t size, const char *text, size_t n,
                             bool cut)
{
    char character[PS_TEXT_JSON_BYTES];
    size_t used;
    for (size_t i = 0; i < n; i += used) {
        const size_t length = ps_text_escape_json(text + i, n - i, character, &used);
        if (at + length + sizeof cut_mark > size) {
            cut = true;
            break;
        }
        memcpy(line + at, character, length);
        at += length;
    }
    if (!cut) return at;
    memcpy(line + at, cut_mark, sizeof cut_mark - 1);
    return at + sizeof cut_mark - 1;
}

static size_t compose_json(ps_log_level level, const char *text, size_t n, bool cut,
                           char line[PS_LOG_LINE_BYTES])
{
    static const char end[] = "\"}\n";
    const size_t size = PS_LOG_LINE_BYTES - sizeof end;
    char utc[PS_CLOCK_UTC_MS_BYTES];
    ps_clock_utc_ms_text(ps_clock_unix_ms(), utc);
    size_t at = (size_t)snprintf(line, size,
                                 "{\"time\": \"%s\", \"level\": \"%s\", \"rank\": %d, "
                                 "\"host\": \"",
                                 utc, names[level], own_rank);
    at = append_escaped(line, at, size, own_host, strlen(own_host), false);
    at += (size_t)snprintf(line + at, size - at, "\", \"message\": \"");
    at = append_escaped(line, at, size, text, n, cut);
    memcpy(line + at, end, sizeof end - 1);
    return at + sizeof end - 1;
}

void ps_log(ps_log_level level, const char *format, ...)
{
    assert(level < PS_LOG_LEVEL_COUNT);
    if (!ps_log_shows(level)) return;
    const int kept_errno = errno;
    char text[PS_LOG_LINE_BYTES], line[PS_LOG_LINE_BYTES];
    va_list args;
    va_start(args, format);
    const int wanted = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t n = wanted < 0 ? 0 : (size_t)wanted;
    const bool cut = n >= sizeof text;
    if (cut) n = whole_characters(text, sizeof text - 1);
    n = as_json ? compose_json(level, text, n, cut, line)
                : compose_plain(level, text, n, cut, line);
    // Nobody can be told that standard error is gone, so the result is not looked at.
    while (write(STDERR_FILENO, line, n) < 0 && errno == EINTR) {
    }
    errno = kept_errno;
}
