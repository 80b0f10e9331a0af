/* How far a long piece of work has come, on standard error.
 *
 *   convert:  42%  1.3 GB of 3.1 GB, 310 MB/s, 0:06 left
 *
 * On a terminal the line is redrawn in place, at most 5 times a second; elsewhere, and where the
 * log is JSON, an ordinary message (base/log.h, level info) appears once a minute. Work that is
 * done within a second shows nothing. All state is in the caller's struct; it belongs to one
 * thread.
 *
 * Cost: an update that shows nothing reads the clock, about 20 ns.   Errors: none.   MPI: local;
 * the caller lets one rank only speak.
 */
#ifndef PS_BASE_PROGRESS_H
#define PS_BASE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct ps_progress {
    const char *what; // borrowed until ps_progress_end, as is `unit`
    const char *unit;
    uint64_t total; // 0: not known
    uint64_t done;
    int64_t begin_ns; // see base/clock.h
    int64_t shown_ns; // of the last line; begin_ns before there is one
    bool silent, terminal, drawn;
} ps_progress;

/* `unit` in the plural: "tokens", "files"; "B" is bytes, shown as kB, MB, GB. `silent` for
 * --no-progress: nothing is ever shown, nor while the log hides messages of level info. */
void ps_progress_begin(ps_progress *self, const char *what, uint64_t total, const char *unit,
                       bool silent);

/* Sets how much is done; shows it when it is time to. */
void ps_progress_update(ps_progress *self, uint64_t done);

/* Leaves a closing line with the time it took, if any line was shown before. */
void ps_progress_end(ps_progress *self);

#endif
