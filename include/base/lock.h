/* A lock beside a file: one job at a time writes it.
 *
 *   PATH   one line of JSON: {"host", "pid", "start", "namespace", "boot", "job", "restart"}
 *
 * The file is there, whole, or not at all: it is written under another name and linked to its own,
 * which fails where there is one (and on file systems without links is created exclusively). It is
 * removed when the job ends. A job that died leaves it, and is known to be dead
 *
 *   - on the same host, since the same boot, and in the same process namespace: when no process has
 *     its number, or one that was started at another time
 *   - when this is the same batch job, restarted (SLURM_RESTART_COUNT): the scheduler ended the
 *     former run
 *   - else when its lease is over: the holder touches the file all the time (ps_lock_renew), and it
 *     is PS_LOCK_LEASE_S behind a file that was just created. Both times are the file system's own,
 *     so the clocks of hosts do not matter
 *
 * Whoever takes a dead job's lock over does so under a second lock, PATH.taking, so that two do not
 * do it at a time.
 *
 * Errors: PS_ERR_IO; PS_ERR_LIMIT when another job holds it, naming that job.   MPI: local.
 */
#ifndef PS_BASE_LOCK_H
#define PS_BASE_LOCK_H

#include "base/err.h"
#include "base/text.h"

#define PS_LOCK_LEASE_S 120
#define PS_LOCK_RENEW_S 10

typedef struct ps_lock ps_lock;

/* `dead` (may be NULL) gets one line on the dead job whose lock was taken over, or nothing. */
ps_err ps_lock_take(const char *path, ps_text *dead, ps_lock **out) PS_MUST_CHECK;

/* Touches the file, at most every PS_LOCK_RENEW_S. An error when it is not this job's any more:
 * then another one writes too. One thread at a time. */
ps_err ps_lock_renew(ps_lock *lock) PS_MUST_CHECK;

/* Removes the file, if it is still this job's. */
void ps_lock_release(ps_lock *lock);

/* The batch system's name for this job ("slurm 4711") and how often it was started again; no text
 * and 0 without a batch system. */
void ps_lock_batch_job(ps_text *job, int *restart);

#endif
