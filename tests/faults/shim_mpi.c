/* Does things to parcels on their way: a library to be preloaded (mpicc -shared -fPIC -O1), which
 * stands between the program and MPI_Isend.
 *
 *   PARCEL_RANK    the rank whose parcels it is about
 *   PARCEL_AT      the first of them, from 1 on; PARCEL_TIMES so many (1), -1 all that follow
 *   PARCEL_ACTION  delay    it is sent after PARCEL_MS milliseconds
 *                  drop     it is never sent
 *                  double   it is sent twice
 *                  swap     it is sent after the one that follows it
 *                  flip     one bit of it is another
 *                  short    the last eighth is missing; empty: all of it is
 *                  long     64 bytes follow; huge: 64 MiB do */
#define _GNU_SOURCE
#include <mpi.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TAG_PARCEL = 2, HUGE_BYTES = 1 << 26, COPIES = 4096 };

static long n_parcels;
static MPI_Request copies[COPIES];
static int n_copies;

static long number(const char *name, long otherwise)
{
    const char *value = getenv(name);
    return value && *value ? strtol(value, NULL, 10) : otherwise;
}

/* Sends bytes of its own, which stay. */
static void send_copy(const void *bytes, int n, int room, int to, MPI_Comm comm)
{
    char *copy = calloc(1, (size_t)(room > n ? room : n) + 1);
    if (!copy || n_copies == COPIES) abort();
    memcpy(copy, bytes, (size_t)n);
    PMPI_Isend(copy, room, MPI_BYTE, to, TAG_PARCEL, comm, &copies[n_copies++]);
}

static int is_chosen(int tag)
{
    int rank;
    if (tag != TAG_PARCEL || !getenv("PARCEL_ACTION")) return 0;
    PMPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank != number("PARCEL_RANK", 0)) return 0;
    const long at = number("PARCEL_AT", 1), times = number("PARCEL_TIMES", 1);
    n_parcels++;
    return n_parcels >= at && (times < 0 || n_parcels < at + times);
}

int MPI_Isend(const void *bytes, int n, MPI_Datatype type, int to, int tag, MPI_Comm comm,
              MPI_Request *request)
{
    static char held[1 << 20];
    static int n_held;
    if (!is_chosen(tag)) {
        const int rc = PMPI_Isend(bytes, n, type, to, tag, comm, request);
        if (tag == TAG_PARCEL && n_held > 0) send_copy(held, n_held, n_held, to, comm);
        if (tag == TAG_PARCEL) n_held = 0;
        return rc;
    }
    const char *action = getenv("PARCEL_ACTION");
    const struct timespec pause = {number("PARCEL_MS", 50) / 1000,
                                   number("PARCEL_MS", 50) % 1000 * 1000000};
    *request = MPI_REQUEST_NULL;
    if (strcmp(action, "delay") == 0) nanosleep(&pause, NULL);
    if (strcmp(action, "drop") == 0) return MPI_SUCCESS;
    if (strcmp(action, "swap") == 0 && n <= (int)sizeof held) {
        memcpy(held, bytes, (size_t)n);
        n_held = n;
        return MPI_SUCCESS;
    }
    if (strcmp(action, "double") == 0) send_copy(bytes, n, n, to, comm);
    if (strcmp(action, "short") == 0) n -= n / 8;
    if (strcmp(action, "empty") == 0) n = 0;
    if (strcmp(action, "long") == 0 || strcmp(action, "huge") == 0) {
        send_copy(bytes, n, n + (strcmp(action, "long") == 0 ? 64 : HUGE_BYTES), to, comm);
        return MPI_SUCCESS;
    }
    if (strcmp(action, "flip") == 0) {
        char *changed = malloc((size_t)n);
        if (!changed) abort();
        memcpy(changed, bytes, (size_t)n);
        changed[n / 2] = (char)(changed[n / 2] ^ 16);
        send_copy(changed, n, n, to, comm);
        free(changed);
        return MPI_SUCCESS;
    }
    return PMPI_Isend(bytes, n, type, to, tag, comm, request);
}
