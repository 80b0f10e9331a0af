/* The rate is the average since the beginning: it moves slowly, and so does the time left.
 *
 * The line never reaches the last column of the terminal, since a line that wraps cannot be drawn
 * over; what does not fit is cut at a whole character. */
#include "base/progress.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

enum { LINE_BYTES = 256, DEFAULT_COLUMNS = 80 };

static const int64_t quiet_ns = 1000000000;          // work shorter than this shows nothing
static const int64_t redraw_ns = 200000000;          // on a terminal
static const int64_t line_ns = INT64_C(60000000000); // elsewhere

void ps_progress_begin(ps_progress *self, const char *what, uint64_t total, const char *unit,
                       bool silent)
{
    const int64_t now_ns = ps_clock_now_ns();
    *self = (ps_progress){.what = what,
                          .unit = unit,
                          .total = total,
                          .begin_ns = now_ns,
                          .shown_ns = now_ns,
                          .silent = silent || !ps_log_shows(PS_LOG_INFO),
                          .terminal = isatty(STDERR_FILENO) == 1 && !ps_log_is_json()};
}

/* "1234 tokens", or "1.2 GB" for the unit "B". */
static void append_amount(double amount, const char *unit, ps_text *out)
{
    static const char *const prefixes[] = {"", "k", "M", "G", "T", "P"};
    size_t power = 0;
    if (strcmp(unit, "B") == 0) {
        while (amount >= 999.5 && power + 1 < sizeof prefixes / sizeof prefixes[0]) {
            amount /= 1000.0;
            power++;
        }
    }
    if (amount > 0.0 && amount < 0.95) {
        ps_text_appendf(out, "%.2g %s", amount, unit);
    } else {
        const bool whole = amount >= 99.95 || (power == 0 && amount == floor(amount));
        ps_text_appendf(out, "%.*f %s%s", whole ? 0 : 1, amount, prefixes[power], unit);
    }
}

/* "1:02:03", "2:03" */
static void append_time(double seconds, ps_text *out)
{
    const int64_t s = seconds < 1e9 ? (int64_t)(seconds + 0.5) : INT64_C(1000000000);
    if (s >= 3600) {
        ps_text_appendf(out, "%lld:%02lld:%02lld", (long long)(s / 3600), (long long)(s / 60 % 60),
                        (long long)(s % 60));
    } else {
        ps_text_appendf(out, "%lld:%02lld", (long long)(s / 60), (long long)(s % 60));
    }
}

static void compose(const ps_progress *self, double seconds, bool closing, ps_text *out)
{
    const double done = (double)self->done, total = (double)self->total;
    const double rate = seconds > 0.0 ? done / seconds : 0.0;
    ps_text_appendf(out, "%s: ", self->what);
    if (self->total > 0) {
        const double share = done < total ? done / total : 1.0;
        // Rounded down: 100 % is when it is done.
        ps_text_appendf(out, "%3d%%  ", (int)(100.0 * share));
    }
    append_amount(done, self->unit, out);
    if (self->total > 0) {
        ps_text_append_str(out, " of ");
        append_amount(total, self->unit, out);
    }
    ps_text_append_str(out, ", ");
    append_amount(rate, self->unit, out);
    ps_text_append_str(out, "/s");
    if (closing) {
        ps_text_append_str(out, ", took ");
        append_time(seconds, out);
    } else if (self->total > self->done && rate > 0.0) {
        ps_text_append_str(out, ", ");
        append_time((total - done) / rate, out);
        ps_text_append_str(out, " left");
    }
}

static size_t terminal_columns(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return DEFAULT_COLUMNS;
    return size.ws_col;
}

static void draw(const char *text, bool closing)
{
    // Bytes are counted as columns: a line with other letters than ASCII is cut a little early.
    size_t room = terminal_columns() - 1, n = strlen(text);
    if (room > LINE_BYTES) room = LINE_BYTES;
    if (n > room) {
        bool incomplete;
        n = ps_utf8_valid_prefix(text, room, &incomplete);
        if (!incomplete) n = room;
    }
    ps_text line = {0};
    ps_text_append_char(&line, '\r');
    ps_text_append(&line, text, n);
    for (size_t i = 1; i < line.len; i++) {
        if ((unsigned char)line.data[i] < 0x20 || line.data[i] == 0x7F) line.data[i] = ' ';
    }
    ps_text_append_str(&line, closing ? "\033[K\n" : "\033[K");
    // A terminal that went away is not this room's business.
    while (write(STDERR_FILENO, line.data, line.len) < 0 && errno == EINTR) {
    }
    ps_text_release(&line);
}

static void show(ps_progress *self, int64_t now_ns, bool closing)
{
    ps_text text = {0};
    compose(self, ps_clock_seconds_between(self->begin_ns, now_ns), closing, &text);
    if (self->terminal) {
        draw(ps_text_str(&text), closing);
    } else {
        ps_log(PS_LOG_INFO, "%s", ps_text_str(&text));
    }
    ps_text_release(&text);
    self->shown_ns = now_ns;
    self->drawn = true;
}

void ps_progress_update(ps_progress *self, uint64_t done)
{
    self->done = done;
    if (self->silent) return;
    const int64_t now_ns = ps_clock_now_ns();
    if (now_ns - self->begin_ns < quiet_ns) return;
    if (now_ns - self->shown_ns < (self->terminal ? redraw_ns : line_ns)) return;
    show(self, now_ns, false);
}

void ps_progress_end(ps_progress *self)
{
    if (self->drawn && !self->silent) show(self, ps_clock_now_ns(), true);
    self->drawn = false;
}
