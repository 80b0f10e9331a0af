/* The ranks of a job: who is here, agreeing, small notes, leaving together.
 *
 * Together with pipe/ring the only user of MPI. Collective calls wait with a deadline and never
 * inside a blocking MPI call: while they wait the idle function runs, so that signs of life go on.
 *
 *   agree   every rank hands in its error code. If any is not PS_OK, all get the code and the
 *           message of the lowest failing rank, so that they leave together and rank 0 prints one
 *           line.
 *   notes   fixed-size messages on a communicator of their own; what they mean is pipe/watch's
 *           matter
 *
 * A start without a launcher is a world of one.
 *
 * Errors: PS_ERR_LOST when a deadline passes.
 * MPI: collective over all ranks unless said otherwise.
 */
#ifndef PS_PIPE_COMM_H
#define PS_PIPE_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/text.h"

typedef struct ps_comm ps_comm;

enum { PS_COMM_HOST_BYTES = 64, PS_NOTE_BYTES = 256 };

/* True when this process was started by mpirun, srun or the like; its rank by the launcher's word.
 * Local, needs no MPI. */
bool ps_comm_launched(int *rank);

/* Starts MPI (thread level FUNNELED) under a deadline of `timeout_s`. */
ps_err ps_comm_open(double timeout_s, ps_comm **out) PS_MUST_CHECK;

/* The same for a simulator, or wherever nobody can be lost: waits block inside MPI, nothing has a
 * deadline, no idle function runs, no thread is started, and an MPI without threads will do. No notes
 * may be sent: ps_watch_open then wants no timeout. */
ps_err ps_comm_open_blocking(ps_comm **out) PS_MUST_CHECK;
bool ps_comm_blocks(const ps_comm *comm);

/* MPI_Finalize under the same deadline; ends the process when it does not return. */
void ps_comm_close(ps_comm *comm);

/* Ends all ranks with this exit status, at once. Does not return. MPI: local. */
_Noreturn void ps_comm_abort(ps_comm *comm, int status);

int ps_comm_rank(const ps_comm *comm);
int ps_comm_size(const ps_comm *comm);
const char *ps_comm_host(const ps_comm *comm, int rank); // name of the rank's host

/* How many ranks of this host have the same cpuset as this rank, itself included, and which of them
 * this is: cores are divided among them. Known after ps_comm_share_cores. */
ps_err ps_comm_share_cores(ps_comm *comm, uint64_t cpuset_hash, int *n_sharing,
                           int *index) PS_MUST_CHECK;

/* Number of ranks on this rank's host. */
int ps_comm_local_size(const ps_comm *comm);

/* Ranks that name the same group (0 or more), in their order, become a comm of their own, with this
 * one's deadline and idle function as they are now, and without notes. -1: *out is NULL. To be closed
 * before this one. */
ps_err ps_comm_split(ps_comm *comm, int group, ps_comm **out) PS_MUST_CHECK;
void ps_comm_close_group(ps_comm *group);

/* What a group's rank is in the comm that it was split from, by which it goes in messages. MPI:
 * local. */
int ps_comm_whole_rank(const ps_comm *comm, int rank);

/* Runs while a collective call waits; an error ends the wait. NULL: none. */
typedef ps_err ps_comm_idle(void *arg);
void ps_comm_set_idle(ps_comm *comm, ps_comm_idle *idle, void *arg);

ps_err ps_comm_agree(ps_comm *comm, ps_err mine) PS_MUST_CHECK;

/* The same without a deadline, for ranks that wait for work of unknown length. */
ps_err ps_comm_wait_agree(ps_comm *comm, ps_err mine) PS_MUST_CHECK;

/* *text of rank 0 replaces that of the others. */
ps_err ps_comm_broadcast(ps_comm *comm, ps_text *text) PS_MUST_CHECK;

/* *text of rank `from` replaces that of rank 0. MPI: for these two ranks. */
ps_err ps_comm_bring(ps_comm *comm, int from, ps_text *text) PS_MUST_CHECK;

/* *ahead_ns: how far the clock of rank `from` is ahead of rank 0's, on rank 0; wrong by no more
 * than the shortest of some round trips, and 0 when it is less than that: so it is on one host.
 * MPI: for these two ranks. */
ps_err ps_comm_compare_clocks(ps_comm *comm, int from, int64_t *ahead_ns) PS_MUST_CHECK;

/* all[size][n]: the n bytes of every rank, on every rank. */
ps_err ps_comm_gather_all(ps_comm *comm, const void *mine, size_t n, void *all) PS_MUST_CHECK;

/* Fails on all ranks, naming the first rank that differs and the first line in which it does, when
 * `text` is not the same everywhere. `what` names the thing compared. */
ps_err ps_comm_check_same(ps_comm *comm, const char *what, const char *text) PS_MUST_CHECK;

/* Sends a note if the last one to that rank has left; false if it was dropped. MPI: local. */
bool ps_comm_note_send(ps_comm *comm, int to, const void *note, size_t n);

/* Next note that arrived, if any. note[PS_NOTE_BYTES]. MPI: local. */
bool ps_comm_note_receive(ps_comm *comm, void *note, int *from);

/* One line on the MPI library in use; out[n]. MPI: local. */
void ps_comm_library_version(char *out, size_t n);

#endif
