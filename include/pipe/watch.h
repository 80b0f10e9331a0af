/* Signs of life, and the deadline for those who give none.
 *
 * Rank 0 tells all others that it lives, and all others tell rank 0, a few times within the
 * deadline, on the communicator of notes. A rank that is silent for longer than the stall timeout
 * is lost: rank 0 knows who, and who waits for it. After a quarter of that time it warns, once, and
 * says so when the rank is back. Whoever gets the error prints it, tells the others
 * (ps_watch_tell_all), and leaves, in this order: the first to hear of it may end all. If rank 0
 * itself is silent, every rank finds that out by itself. Deadlines watch missing progress, not
 * missing messages: a rank that computes for minutes gives signs of life at every work item, a rank
 * that waits does so while it waits. When all live but nothing has moved for the stall timeout
 * although parcels are under way, the job is lost too; where there are several rings, when one of
 * them stands still.
 *
 * ps_watch_poll must be called often by the thread that does MPI, wherever it waits or computes; it
 * looks at the clock and does its work at most every millisecond.
 *
 * What signals ask for (base/signals.h) travels with the signs of life: whichever rank is asked to
 * stop, rank 0 hears of it, and on SIGUSR2 to any rank it prints who waits for whom and how far each
 * stage is, also while it waits itself.
 *
 * Errors: PS_ERR_LOST from poll, once it must end.   MPI: local (sends and receives notes).
 */
#ifndef PS_PIPE_WATCH_H
#define PS_PIPE_WATCH_H

#include "base/signals.h"
#include "pipe/comm.h"

typedef struct ps_watch ps_watch;

/* The comm is borrowed; its idle function becomes the watch's. timeout_s > 0; or 0 on a comm that
 * blocks: nothing is watched, nothing sent. */
ps_watch *ps_watch_open(ps_comm *comm, double timeout_s);
void ps_watch_close(ps_watch *watch);

ps_err ps_watch_poll(ps_watch *watch) PS_MUST_CHECK;

/* Work was done here. */
void ps_watch_progress(ps_watch *watch);

/* A parcel was computed here, which is progress too. */
void ps_watch_step(ps_watch *watch);

/* This rank owns these layers; for the messages. */
void ps_watch_set_layers(ps_watch *watch, int first_layer, int end_layer);

/* This rank waits for `rank` from now on; -1: it does not wait. */
void ps_watch_waits_for(ps_watch *watch, int rank);

/* Every so many ranks are a ring; by default all are one. Before the work. */
void ps_watch_set_ring_size(ps_watch *watch, int ring_size);

/* The head of a ring: parcels are under way, so that standing still means that something was lost. */
void ps_watch_expect_progress(ps_watch *watch, bool expect);

/* This rank will be silent for a while for a good reason (it reads standard input, it converts a
 * model): the others suspend its deadline until it is back. */
void ps_watch_suspend(ps_watch *watch, bool suspend);

/* Tells all ranks to leave, with this rank's message. For errors after the start. */
void ps_watch_tell_all(ps_watch *watch, ps_err err, const char *message);

/* What this rank, or on rank 0 any rank, was asked for by a signal. */
ps_asked ps_watch_asked(const ps_watch *watch);

/* True once after a table was printed: for more to be said about the work. */
bool ps_watch_take_tell(ps_watch *watch);

/* True when the error that poll returned was already printed by another rank. */
bool ps_watch_is_told(const ps_watch *watch);

#endif
