/* The ring: how parcels go from rank to rank.
 *
 * A ring is a communicator; rank r receives from r-1 and sends to r+1, the last sends to 0. Each
 * rank has `depth` receive buffers posted. A parcel is computed on where it arrived and sent on
 * from there: a buffer is receiving, in the rank's hands, or being sent, and is posted again as
 * soon as its send has left. Rank 0 has buffers of its own to inject from, and posts a received one
 * again when it releases it. With no more than size*depth - 1 parcels in flight some rank always
 * has a buffer posted for the next one: nothing waits in a circle. In front of a rank that lags, by
 * more than its depth, parcels wait inside MPI, no more than there are in flight: as copies if they
 * are small, as a header and a sender's buffer if not.
 *
 * A ring of one hands the parcel to itself; nobody else needs to know.
 *
 * Cost: one message a hop.   Errors: PS_ERR_LOST from the watch; PS_ERR_LIMIT, PS_ERR_NOMEM from
 * open.   MPI: open and close are collective; the rest is local. All have closed a ring before any
 * opens the next: its receives would take the other's parcels.
 */
#ifndef PS_PIPE_RING_H
#define PS_PIPE_RING_H

#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"
#include "pipe/comm.h"
#include "pipe/watch.h"

typedef struct ps_ring ps_ring;

typedef struct ps_ring_params {
    ps_comm *comm;       // borrowed
    ps_watch *watch;     // borrowed
    int depth;           // receive buffers of a rank, 2..16
    size_t buffer_bytes; // of the largest parcel
    ps_wait wait;
} ps_ring_params;

/* One parcel's memory, 64-byte aligned. */
typedef struct ps_ring_buffer {
    char *data;
    size_t bytes; // of the parcel in it
    int index;    // private
} ps_ring_buffer;

ps_err ps_ring_open(const ps_ring_params *params, ps_ring **out) PS_MUST_CHECK;
void ps_ring_close(ps_ring *ring);

int ps_ring_rank(const ps_ring *ring);
int ps_ring_size(const ps_ring *ring);

/* Most parcels that may be in flight. */
int ps_ring_credits(const ps_ring *ring);

/* Rank 0: an empty buffer to inject from; NULL while all are being sent. */
ps_ring_buffer *ps_ring_take(ps_ring *ring);

/* Passes buffer->bytes of it on to the next rank. The buffer is the ring's from now on. */
void ps_ring_send(ps_ring *ring, ps_ring_buffer *buffer);

/* Waits for the next parcel, in the order it was sent. *out is the caller's until it sends or
 * releases it. */
ps_err ps_ring_receive(ps_ring *ring, ps_ring_buffer **out) PS_MUST_CHECK;

/* Rank 0: waits until the next parcel is here, which receive then returns, or a buffer is free to
 * inject from. */
ps_err ps_ring_wait(ps_ring *ring) PS_MUST_CHECK;

/* Rank 0: done with a received parcel. */
void ps_ring_release(ps_ring *ring, ps_ring_buffer *buffer);

/* Moves messages and signs of life along; called at work-item boundaries. An error is kept and
 * returned by the next receive. */
void ps_ring_poke(void *ring);

/* Waits until everything that was sent has left. */
ps_err ps_ring_flush(ps_ring *ring) PS_MUST_CHECK;

/* Bytes of buffers that open takes on this rank. */
size_t ps_ring_bytes(int rank, int depth, size_t buffer_bytes);

/* Time spent waiting in receive so far, and bytes sent. */
int64_t ps_ring_waited_ns(const ps_ring *ring);
uint64_t ps_ring_sent_bytes(const ps_ring *ring);

#endif
