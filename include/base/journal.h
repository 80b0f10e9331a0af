/* A journal: a file of checksummed lines that only grows, and survives the end of its writer at any
 * instant.
 *
 *   line   HHHHHHHHHHHHHHHH body \n      16 hex digits, a blank, the body, a line end
 *
 * The number is the XXH3-64 of the body with the line before's as seed (0 for the first), so a line
 * that was changed, lost, doubled or moved ends what can be believed. Bodies are any bytes but line
 * ends.
 *
 *   create   a new file with its first line: under a temporary name, fsynced, renamed. A journal has
 *            its first line or is not there
 *   open     reads all lines that can be believed, from the first on, and cuts off the rest: what a
 *            writer that was killed left of its last line, or a disk damaged
 *   append   one write. Not more than PS_JOURNAL_SYNC_S later a thread of the journal's own begins
 *            an fsync for all that was appended meanwhile, so whoever appends does not wait for
 *            disks. Without a thread to be had the appending one does it
 *   sync     everything appended is on the disk
 *
 * The thread also calls `tick` every PS_JOURNAL_SYNC_S, for what else must go on while the others
 * compute (a lease). What it returns, and a failed fsync, is returned by the next append or sync.
 *
 * Errors: PS_ERR_IO with path and reason, after which the file ends with the last whole line, and
 * nothing more is appended; PS_ERR_FORMAT.   Cost: a write of the line's length.   MPI: local.
 */
#ifndef PS_BASE_JOURNAL_H
#define PS_BASE_JOURNAL_H

#include <stdint.h>

#include "base/err.h"
#include "base/text.h"

#define PS_JOURNAL_SYNC_S 1

typedef struct ps_journal ps_journal;

/* Where a line stands, to read it again. */
typedef struct ps_journal_place {
    uint64_t offset, seed; // of the line's first byte; the number of the line before
    size_t bytes;          // of the body
} ps_journal_place;

/* What opening found. The body is borrowed for the call. An error ends the opening. */
typedef ps_err ps_journal_on_line(void *arg, uint64_t line, const ps_journal_place *place,
                                  const char *body, size_t n);

/* What goes on every second; NULL: nothing. Called by the journal's thread. */
typedef struct ps_journal_tick {
    ps_err (*call)(void *arg);
    void *arg;
} ps_journal_tick;

ps_err ps_journal_create(const char *path, const char *body, size_t n, const ps_journal_tick *tick,
                         ps_journal **out) PS_MUST_CHECK;

/* *cut_bytes: how much was cut off. PS_ERR_FORMAT when not even the first line can be believed; the
 * file is then left as it is. */
ps_err ps_journal_open(const char *path, ps_journal_on_line *on_line, void *arg,
                       const ps_journal_tick *tick, uint64_t *cut_bytes,
                       ps_journal **out) PS_MUST_CHECK;

/* *place (may be NULL) is where the line stands. */
ps_err ps_journal_append(ps_journal *j, const char *body, size_t n,
                         ps_journal_place *place) PS_MUST_CHECK;

ps_err ps_journal_sync(ps_journal *j) PS_MUST_CHECK;

/* Appends a line's body to *out. Its number is checked again. */
ps_err ps_journal_read(const ps_journal *j, const ps_journal_place *place,
                       ps_text *out) PS_MUST_CHECK;

/* Without syncing; whoever wants that does so first. */
void ps_journal_close(ps_journal *j);

#endif
