/* Buffers and their states. Receives are matched in the order they were posted, so the oldest
 * posted buffer holds the next parcel: `posted` is a queue of their indices. In a ring of one the
 * queue holds what was sent and not yet received. */
#include "pipe/ring.h"

#include <assert.h>
#include <sched.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "pipe/comm_mpi.h"

enum {
    DEPTH_MAX = 16,
    BUFFERS_MAX = 2 * DEPTH_MAX,
    /* About 200 ms of tests. A sleep of 160 us takes 400 on a virtual machine, and a hop with it,
     * for one of 30; a stream alone waits for the other stages' steps, tens of ms, at every one. */
    LATENCY_SPINS = 2000000,
    SHARED_SPINS = 50,
    YIELDS = 100,
    SLEEP_MIN_US = 20,
    SLEEP_MAX_US = 500
};

static const size_t BUFFER_BYTES_MAX = (size_t)1 << 30;

typedef enum { FREE, RECEIVING, HELD, SENDING } buffer_state;

typedef struct buffer {
    ps_ring_buffer handle;
    buffer_state state;
    bool injects; // rank 0's own: free when sent, never posted for receiving
    MPI_Request request;
} buffer;

struct ps_ring {
    const ps_comm *owner;
    MPI_Comm comm;
    ps_watch *watch;
    int rank, size, depth, n_buffers;
    size_t buffer_bytes;
    ps_wait wait;
    bool blocks; // waits inside MPI
    ps_region region;
    buffer buffers[BUFFERS_MAX];
    int posted[BUFFERS_MAX]; // queue of indices
    int first_posted, n_posted;
    buffer *arrived; // a parcel that ps_ring_wait found; NULL: none
    ps_err poke_err;
    char poke_message[PS_ERR_MESSAGE_BYTES]; // others may fail, and be forgiven, before it is told
    int64_t waited_ns;
    uint64_t sent_bytes;
};

static int count_buffers(int rank, int depth)
{
    return rank == 0 ? 2 * depth : depth;
}

static size_t rounded(size_t buffer_bytes)
{
    return ps_mem_round_up(buffer_bytes, 4096);
}

size_t ps_ring_bytes(int rank, int depth, size_t buffer_bytes)
{
    return (size_t)count_buffers(rank, depth) * rounded(buffer_bytes);
}

static void push_posted(ps_ring *ring, int index)
{
    ring->posted[(ring->first_posted + ring->n_posted++) % BUFFERS_MAX] = index;
}

static int pop_posted(ps_ring *ring)
{
    const int index = ring->posted[ring->first_posted];
    ring->first_posted = (ring->first_posted + 1) % BUFFERS_MAX;
    ring->n_posted--;
    return index;
}

/* The first error is kept for the next receive, whoever met it. */
static void keep_error(ps_ring *ring, ps_err err)
{
    if (!err || ring->poke_err) return;
    ring->poke_err = err;
    snprintf(ring->poke_message, sizeof ring->poke_message, "%s", ps_err_message());
}

static void check(ps_ring *ring, int result, const char *what)
{
    keep_error(ring, ps_comm_check(ring->owner, result, what));
}

static void post_receive(ps_ring *ring, buffer *b)
{
    b->state = RECEIVING;
    const int previous = (ring->rank + ring->size - 1) % ring->size;
    check(ring,
          MPI_Irecv(b->handle.data, (int)ring->buffer_bytes, MPI_BYTE, previous, PS_TAG_PARCEL,
                    ring->comm, &b->request),
          "receiving a parcel");
    push_posted(ring, b->handle.index);
}

ps_err ps_ring_open(const ps_ring_params *params, ps_ring **out)
{
    assert(params->depth >= 2 && params->depth <= DEPTH_MAX);
    *out = NULL;
    if (params->buffer_bytes > BUFFER_BYTES_MAX)
        return PS_FAIL(PS_ERR_LIMIT,
                       "a parcel of %zu bytes is over the limit of %zu: take fewer rows",
                       params->buffer_bytes, BUFFER_BYTES_MAX);
    ps_ring *ring = ps_mem_new(1, sizeof *ring);
    *ring = (ps_ring){.owner = params->comm,
                      .comm = ps_comm_world(params->comm),
                      .watch = params->watch,
                      .rank = ps_comm_rank(params->comm),
                      .size = ps_comm_size(params->comm),
                      .depth = params->depth,
                      .buffer_bytes = params->buffer_bytes,
                      .wait = params->wait,
                      .blocks = ps_comm_blocks(params->comm)};
    ring->n_buffers = count_buffers(ring->rank, ring->depth);
    const ps_err err = ps_region_take(ps_ring_bytes(ring->rank, ring->depth, params->buffer_bytes),
                                      "parcel buffers", &ring->region);
    if (err) {
        ps_mem_free(ring);
        return err;
    }
    // By default MPI itself ends the process, with its own words only.
    MPI_Comm_set_errhandler(ring->comm, MPI_ERRORS_RETURN);
    for (int i = 0; i < ring->n_buffers; i++) {
        buffer *b = &ring->buffers[i];
        b->handle.data = (char *)ring->region.base + (size_t)i * rounded(params->buffer_bytes);
        b->handle.index = i;
        b->request = MPI_REQUEST_NULL;
        b->injects = ring->size == 1 || (ring->rank == 0 && i >= ring->depth);
        if (!b->injects) post_receive(ring, b);
    }
    *out = ring;
    return PS_OK;
}

void ps_ring_close(ps_ring *ring)
{
    if (!ring) return;
    for (int i = 0; i < ring->n_buffers; i++) {
        buffer *b = &ring->buffers[i];
        if (b->state == RECEIVING) MPI_Cancel(&b->request);
        if (b->request != MPI_REQUEST_NULL) MPI_Wait(&b->request, MPI_STATUS_IGNORE);
    }
    MPI_Comm_set_errhandler(ring->comm, MPI_ERRORS_ARE_FATAL);
    ps_region_release(&ring->region);
    ps_mem_free(ring);
}

int ps_ring_rank(const ps_ring *ring)
{
    return ring->rank;
}

int ps_ring_size(const ps_ring *ring)
{
    return ring->size;
}

int ps_ring_credits(const ps_ring *ring)
{
    return ring->size * ring->depth - 1;
}

int64_t ps_ring_waited_ns(const ps_ring *ring)
{
    return ring->waited_ns;
}

uint64_t ps_ring_sent_bytes(const ps_ring *ring)
{
    return ring->sent_bytes;
}

/* Buffers whose send has left become free, or are posted again. */
static void finish_sends(ps_ring *ring)
{
    for (int i = 0; i < ring->n_buffers; i++) {
        buffer *b = &ring->buffers[i];
        if (b->state != SENDING) continue;
        int done = b->request == MPI_REQUEST_NULL;
        if (!done) check(ring, MPI_Test(&b->request, &done, MPI_STATUS_IGNORE), "sending a parcel");
        if (!done) continue;
        if (b->injects) {
            b->state = FREE;
        } else {
            post_receive(ring, b);
        }
    }
}

ps_ring_buffer *ps_ring_take(ps_ring *ring)
{
    assert(ring->rank == 0);
    finish_sends(ring);
    for (int i = 0; i < ring->n_buffers; i++) {
        buffer *b = &ring->buffers[i];
        if (!b->injects || b->state != FREE) continue;
        b->state = HELD;
        return &b->handle;
    }
    return NULL;
}

void ps_ring_send(ps_ring *ring, ps_ring_buffer *handle)
{
    buffer *b = &ring->buffers[handle->index];
    assert(b->state == HELD && handle->bytes <= ring->buffer_bytes);
    ring->sent_bytes += handle->bytes;
    if (ring->size == 1) {
        b->state = RECEIVING;
        push_posted(ring, handle->index);
        return;
    }
    b->state = SENDING;
    check(ring,
          MPI_Isend(handle->data, (int)handle->bytes, MPI_BYTE, (ring->rank + 1) % ring->size,
                    PS_TAG_PARCEL, ring->comm, &b->request),
          "sending a parcel");
}

void ps_ring_release(ps_ring *ring, ps_ring_buffer *handle)
{
    buffer *b = &ring->buffers[handle->index];
    assert(b->state == HELD);
    if (b->injects) {
        b->state = FREE;
    } else {
        post_receive(ring, b);
    }
}

/* The oldest posted buffer, if its parcel is here. */
static buffer *try_receive(ps_ring *ring)
{
    if (ring->n_posted == 0) return NULL;
    buffer *b = &ring->buffers[ring->posted[ring->first_posted]];
    // A blocking wait that took the parcel has its bytes already.
    if (ring->size > 1 && b->request != MPI_REQUEST_NULL) {
        if (ring->blocks) return NULL;
        int done = 0, bytes = 0;
        MPI_Status status;
        check(ring, MPI_Test(&b->request, &done, &status), "receiving a parcel");
        if (!done || ring->poke_err) return NULL;
        MPI_Get_count(&status, MPI_BYTE, &bytes);
        b->handle.bytes = (size_t)bytes;
    }
    pop_posted(ring);
    b->state = HELD;
    return b;
}

/* Blocks until a send has left or, if any is asked for, the oldest posted receive is complete; that
 * is then left for try_receive to find. */
static void block(ps_ring *ring, bool receives)
{
    MPI_Request requests[BUFFERS_MAX + 1];
    int owners[BUFFERS_MAX + 1], n = 0, done = 0;
    for (int i = 0; i < ring->n_buffers; i++) {
        if (ring->buffers[i].state != SENDING) continue;
        if (ring->buffers[i].request == MPI_REQUEST_NULL) return;
        owners[n] = i;
        requests[n++] = ring->buffers[i].request;
    }
    const int oldest = ring->posted[ring->first_posted];
    if (receives && ring->n_posted > 0) {
        owners[n] = oldest;
        requests[n++] = ring->buffers[oldest].request;
    }
    assert(n > 0 && "there is something to wait for");
    MPI_Status status;
    MPI_Waitany(n, requests, &done, &status);
    buffer *b = &ring->buffers[owners[done]];
    b->request = requests[done]; // null now
    if (b->state == RECEIVING) {
        int bytes = 0;
        MPI_Get_count(&status, MPI_BYTE, &bytes);
        b->handle.bytes = (size_t)bytes;
    }
}

/* Spin, then yield, then sleep with growing pauses. */
static void pause_between(const ps_ring *ring, int64_t turn)
{
    const int64_t spins = ring->wait == PS_WAIT_LATENCY ? LATENCY_SPINS : SHARED_SPINS;
    if (turn < spins) return;
    if (turn < spins + YIELDS) {
        sched_yield();
        return;
    }
    int64_t pause_us = SLEEP_MIN_US
                       << ((turn - spins - YIELDS) / 50 < 8 ? (turn - spins - YIELDS) / 50 : 8);
    ps_clock_sleep_us(pause_us < SLEEP_MAX_US ? pause_us : SLEEP_MAX_US);
}

static void wait_a_little(ps_ring *ring, int64_t turn, bool receives)
{
    if (ring->blocks) {
        block(ring, receives);
    } else {
        pause_between(ring, turn);
    }
}

static bool can_take(const ps_ring *ring)
{
    for (int i = 0; i < ring->n_buffers; i++) {
        if (ring->buffers[i].injects && ring->buffers[i].state == FREE) return true;
    }
    return false;
}

/* Until the next parcel is here or, if that is enough, a buffer is free to inject from. */
static ps_err wait_for_parcel(ps_ring *ring, bool or_buffer)
{
    if (ring->poke_err) return PS_FAIL(ring->poke_err, "%s", ring->poke_message);
    const int64_t begin = ps_clock_now_ns();
    const int previous = (ring->rank + ring->size - 1) % ring->size;
    ps_watch_waits_for(ring->watch, ps_comm_whole_rank(ring->owner, previous));
    ps_err err = PS_OK;
    for (int64_t turn = 0; !err; turn++) {
        finish_sends(ring);
        if (!ring->arrived) ring->arrived = try_receive(ring);
        if (ring->arrived || (or_buffer && can_take(ring))) break;
        err = ps_watch_poll(ring->watch);
        if (!err && ring->poke_err) err = PS_FAIL(ring->poke_err, "%s", ring->poke_message);
        wait_a_little(ring, turn, true);
    }
    ps_watch_waits_for(ring->watch, -1);
    ring->waited_ns += ps_clock_now_ns() - begin;
    return err;
}

ps_err ps_ring_wait(ps_ring *ring)
{
    assert(ring->rank == 0);
    return wait_for_parcel(ring, true);
}

ps_err ps_ring_receive(ps_ring *ring, ps_ring_buffer **out)
{
    *out = NULL;
    PS_TRY(wait_for_parcel(ring, false));
    *out = &ring->arrived->handle;
    ring->arrived = NULL;
    return PS_OK;
}

void ps_ring_poke(void *arg)
{
    ps_ring *ring = arg;
    finish_sends(ring);
    if (ring->size > 1 && ring->n_posted > 0) {
        // A test of the oldest receive moves its message along; its completion is taken by receive.
        int done = 0;
        MPI_Request_get_status(ring->buffers[ring->posted[ring->first_posted]].request, &done,
                               MPI_STATUS_IGNORE);
    }
    ps_watch_progress(ring->watch);
    if (!ring->poke_err) keep_error(ring, ps_watch_poll(ring->watch));
}

ps_err ps_ring_flush(ps_ring *ring)
{
    for (int64_t turn = 0;; turn++) {
        finish_sends(ring);
        int n_sending = 0;
        for (int i = 0; i < ring->n_buffers; i++) {
            n_sending += ring->buffers[i].state == SENDING;
        }
        if (n_sending == 0) return PS_OK;
        PS_TRY(ps_watch_poll(ring->watch));
        wait_a_little(ring, turn, false);
    }
}
