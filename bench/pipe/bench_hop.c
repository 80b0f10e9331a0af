/* A hop of the ring: parcels of several sizes go round, one at a time, and nothing is computed.
 * Under mpirun.
 *
 *   latency_us   time of one hop (a turn of the ring over its ranks)
 *   rate_gb_s    bytes over that time
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "harness.h"
#include "pipe/parcel.h"
#include "pipe/ring.h"

enum { TURNS_MAX = 2000, SIZES = 6 };

static const size_t sizes[SIZES] = {256, 4096, 8192 + 128, 65536, 1 << 20, 8 << 20};

static void must(ps_err err)
{
    if (!err) return;
    fprintf(stderr, "%s\n", ps_err_message());
    exit(1);
}

static int turns_of(size_t bytes)
{
    const size_t turns = ((size_t)1 << 29) / bytes;
    return turns < 20 ? 20 : turns > TURNS_MAX ? TURNS_MAX : (int)turns;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void lead(ps_ring *ring, size_t bytes)
{
    static double times[TURNS_MAX];
    const int turns = turns_of(bytes);
    for (int t = -5; t < turns; t++) {
        ps_ring_buffer *buffer = NULL;
        while (!buffer) {
            buffer = ps_ring_take(ring);
        }
        buffer->bytes = bytes;
        const int64_t begin = ps_clock_now_ns();
        ps_ring_send(ring, buffer);
        must(ps_ring_receive(ring, &buffer));
        if (t >= 0) times[t] = ps_clock_seconds_between(begin, ps_clock_now_ns());
        ps_ring_release(ring, buffer);
    }
    qsort(times, (size_t)turns, sizeof times[0], by_value);
    const double hop_s = times[turns / 2] / ps_ring_size(ring);
    printf("%d,%zu,%d,%.2f,%.2f,%.3f\n", ps_ring_size(ring), bytes, turns, 1e6 * hop_s,
           1e6 * times[turns * 9 / 10] / ps_ring_size(ring), (double)bytes * 1e-9 / hop_s);
    fflush(stdout);
}

static void follow(ps_ring *ring, size_t bytes)
{
    for (int t = -5; t < turns_of(bytes); t++) {
        ps_ring_buffer *buffer;
        must(ps_ring_receive(ring, &buffer));
        ps_ring_send(ring, buffer);
    }
}

int main(void)
{
    ps_comm *comm;
    must(ps_comm_open(60.0, &comm));
    ps_watch *watch = ps_watch_open(comm, 30.0);
    const ps_ring_params params = {.comm = comm,
                                   .watch = watch,
                                   .depth = 3,
                                   .buffer_bytes = sizes[SIZES - 1],
                                   .wait = PS_WAIT_LATENCY};
    ps_ring *ring;
    must(ps_ring_open(&params, &ring));
    must(ps_comm_agree(comm, PS_OK));
    if (ps_comm_rank(comm) == 0) {
        bench_header("hop", NULL);
        printf("ranks,bytes,turns,latency_us,p90_us,rate_gb_s\n");
    }
    for (int s = 0; s < SIZES; s++) {
        (ps_comm_rank(comm) == 0 ? lead : follow)(ring, sizes[s]);
    }
    must(ps_ring_flush(ring));
    must(ps_comm_agree(comm, PS_OK));
    ps_ring_close(ring);
    ps_watch_close(watch);
    ps_comm_close(comm);
    return 0;
}
