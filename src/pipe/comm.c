/* MPI start, end and collectives, each under a deadline.
 *
 * MPI itself has none: a blocking call into a dead world waits for ever. Collectives are therefore
 * posted non-blocking and tested with growing pauses. MPI_Init and MPI_Finalize cannot be posted: a
 * watchdog thread ends the process when they do not return in time. */
#include "pipe/comm.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "pipe/comm_mpi.h"

enum { NOTE_TAG = 1, PAUSE_MIN_US = 20, PAUSE_MAX_US = 1000, LOST_EXIT_STATUS = 3 };

struct ps_comm {
    MPI_Comm world, notes;
    int rank, size, local_size;
    bool blocks;
    double timeout_s;                  // of what does not block
    char (*hosts)[PS_COMM_HOST_BYTES]; // [size] owned
    int *whole; // [size] ranks in the comm that it was split from; NULL: it was not; owned
    ps_comm_idle *idle;
    void *idle_arg;
    // notes: one send under way to each rank, one receive posted
    MPI_Request *note_sends;         // [size] owned
    char (*note_out)[PS_NOTE_BYTES]; // [size] owned
    MPI_Request note_receive;
    char note_in[PS_NOTE_BYTES];
};

/* ---- watchdog over calls that cannot be tested ---- */

typedef struct watchdog {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t stop;
    const char *what;
    double timeout_s;
    bool stopped;
} watchdog;

static void *watchdog_main(void *arg)
{
    watchdog *w = arg;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)w->timeout_s;
    until.tv_nsec += (long)((w->timeout_s - (double)(time_t)w->timeout_s) * 1e9);
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    pthread_mutex_lock(&w->mutex);
    int reason = 0;
    while (!w->stopped && reason != ETIMEDOUT) {
        reason = pthread_cond_timedwait(&w->stop, &w->mutex, &until);
    }
    if (!w->stopped) {
        ps_log(PS_LOG_ERROR, "%s did not return within %.0f s", w->what, w->timeout_s);
        _exit(LOST_EXIT_STATUS);
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

/* False when there is no thread for it: the call then runs without a deadline. */
static bool watchdog_start(watchdog *w, const char *what, double timeout_s)
{
    *w = (watchdog){.what = what, .timeout_s = timeout_s};
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->stop, &attributes);
    pthread_condattr_destroy(&attributes);
    return pthread_create(&w->thread, NULL, watchdog_main, w) == 0;
}

static void watchdog_stop(watchdog *w)
{
    pthread_mutex_lock(&w->mutex);
    w->stopped = true;
    pthread_cond_signal(&w->stop);
    pthread_mutex_unlock(&w->mutex);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->stop);
    pthread_mutex_destroy(&w->mutex);
}

/* ---- start and end ---- */

bool ps_comm_launched(int *rank)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK",
                                        "SLURM_PROCID"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *value = getenv(names[i]);
        if (!value) continue;
        *rank = (int)strtol(value, NULL, 10);
        return true;
    }
    *rank = 0;
    return false;
}

/* Ranks that the launcher started, by its own word; 0 when it says nothing. srun names its tasks
 * even where another launcher runs inside, so it is asked last. */
static int launched_size(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *value = getenv(names[i]);
        if (value) return (int)strtol(value, NULL, 10);
    }
    return 0;
}

static void start_notes(ps_comm *c)
{
    // NOLINTNEXTLINE(bugprone-sizeof-expression): the handle is a pointer in Open MPI
    c->note_sends = ps_mem_new((size_t)c->size, sizeof *c->note_sends);
    c->note_out = ps_mem_new((size_t)c->size, sizeof *c->note_out);
    for (int r = 0; r < c->size; r++) {
        c->note_sends[r] = MPI_REQUEST_NULL;
    }
    MPI_Irecv(c->note_in, PS_NOTE_BYTES, MPI_BYTE, MPI_ANY_SOURCE, NOTE_TAG, c->notes,
              &c->note_receive);
}

/* Host names of all ranks, and how many of them share ours. */
static ps_err find_hosts(ps_comm *c)
{
    char name[PS_COMM_HOST_BYTES] = "";
    gethostname(name, sizeof name - 1);
    c->hosts = ps_mem_new((size_t)c->size, sizeof *c->hosts);
    PS_TRY(ps_comm_gather_all(c, name, sizeof name, c->hosts));
    for (int r = 0; r < c->size; r++) {
        c->local_size += strcmp(c->hosts[r], name) == 0;
    }
    return PS_OK;
}

/* For a process alone. Open MPI would start a daemon for processes that this one might spawn (100 ms,
 * and files of its own), and look for every network there may be (150 ms, in which one of them
 * measures the clock). */
static void expect_nobody(void)
{
    setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
    setenv("OMPI_MCA_pml", "ob1", 0);
    setenv("OMPI_MCA_btl", "self", 0);
}

/* Starts MPI; *level is what it allows. */
static ps_err start_mpi(ps_comm *c, int *level)
{
    const int failed = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, level);
    if (failed) return PS_FAIL(PS_ERR_LOST, "MPI could not be started");
    c->note_receive = MPI_REQUEST_NULL;
    MPI_Comm_rank(MPI_COMM_WORLD, &c->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &c->size);
    MPI_Comm_dup(MPI_COMM_WORLD, &c->world);
    MPI_Comm_dup(MPI_COMM_WORLD, &c->notes);
    return PS_OK;
}

ps_err ps_comm_open(double timeout_s, ps_comm **out)
{
    *out = NULL;
    watchdog dog;
    int launcher_rank;
    if (!ps_comm_launched(&launcher_rank)) expect_nobody();
    const bool watched = watchdog_start(&dog, "MPI_Init", timeout_s);
    int level = MPI_THREAD_SINGLE;
    ps_comm *c = ps_mem_new(1, sizeof *c);
    c->timeout_s = timeout_s;
    ps_err err = start_mpi(c, &level);
    if (err) {
        ps_mem_free(c);
        return err;
    }
    if (watched) watchdog_stop(&dog);
    start_notes(c);
    err = find_hosts(c);
    if (!err && c->size == 1 && launched_size() > 1)
        err = PS_FAIL(
            PS_ERR_USAGE,
            "the launcher started %d ranks, but each of them is alone: it belongs to another MPI "
            "than this program",
            launched_size());
    if (!err && level < MPI_THREAD_FUNNELED)
        err = PS_FAIL(PS_ERR_UNSUPPORTED, "this MPI library does not allow threads (FUNNELED)");
    if (err) {
        ps_comm_close(c);
        return err;
    }
    *out = c;
    return PS_OK;
}

ps_err ps_comm_open_blocking(ps_comm **out)
{
    *out = NULL;
    int level = MPI_THREAD_SINGLE;
    ps_comm *c = ps_mem_new(1, sizeof *c);
    c->blocks = true;
    ps_err err = start_mpi(c, &level);
    if (err) {
        ps_mem_free(c);
        return err;
    }
    err = find_hosts(c);
    if (err) {
        ps_comm_close(c);
        return err;
    }
    *out = c;
    return PS_OK;
}

/* Who is in it. */
static ps_err find_group(ps_comm *c, int whole_rank)
{
    MPI_Comm_rank(c->world, &c->rank);
    MPI_Comm_size(c->world, &c->size);
    PS_TRY(find_hosts(c));
    c->whole = ps_mem_new((size_t)c->size, sizeof *c->whole);
    return ps_comm_gather_all(c, &whole_rank, sizeof whole_rank, c->whole);
}

ps_err ps_comm_split(ps_comm *comm, int group, ps_comm **out)
{
    *out = NULL;
    // It cannot be posted: all are here before anybody begins.
    PS_TRY(ps_comm_agree(comm, PS_OK));
    watchdog dog;
    MPI_Comm split;
    const bool watched = !comm->blocks && watchdog_start(&dog, "MPI_Comm_split", comm->timeout_s);
    const int color = group >= 0 ? group : MPI_UNDEFINED;
    const int result = MPI_Comm_split(comm->world, color, comm->rank, &split);
    if (watched) watchdog_stop(&dog);
    PS_TRY(ps_comm_check(comm, result, "splitting the ranks"));
    if (group < 0) return PS_OK;
    ps_comm *c = ps_mem_new(1, sizeof *c);
    *c = (ps_comm){.world = split,
                   .notes = MPI_COMM_NULL,
                   .blocks = comm->blocks,
                   .timeout_s = comm->timeout_s,
                   .idle = comm->idle,
                   .idle_arg = comm->idle_arg,
                   .note_receive = MPI_REQUEST_NULL};
    *out = c;
    return find_group(c, comm->rank);
}

static void free_comm(ps_comm *c)
{
    ps_mem_free(c->whole);
    ps_mem_free(c->hosts);
    ps_mem_free(c->note_out);
    ps_mem_free(c->note_sends);
    ps_mem_free(c);
}

void ps_comm_close_group(ps_comm *group)
{
    if (!group) return;
    watchdog dog;
    const bool watched = !group->blocks && watchdog_start(&dog, "MPI_Comm_free", group->timeout_s);
    MPI_Comm_free(&group->world);
    if (watched) watchdog_stop(&dog);
    free_comm(group);
}

int ps_comm_whole_rank(const ps_comm *comm, int rank)
{
    return comm->whole ? comm->whole[rank] : rank;
}

bool ps_comm_blocks(const ps_comm *comm)
{
    return comm->blocks;
}

void ps_comm_close(ps_comm *c)
{
    watchdog dog;
    const bool watched = !c->blocks && watchdog_start(&dog, "MPI_Finalize", c->timeout_s);
    if (c->note_receive != MPI_REQUEST_NULL) {
        MPI_Cancel(&c->note_receive);
        MPI_Wait(&c->note_receive, MPI_STATUS_IGNORE);
    }
    for (int r = 0; c->note_sends && r < c->size; r++) {
        MPI_Wait(&c->note_sends[r], MPI_STATUS_IGNORE);
    }
    MPI_Comm_free(&c->notes);
    MPI_Comm_free(&c->world);
    MPI_Finalize();
    if (watched) watchdog_stop(&dog);
    free_comm(c);
}

_Noreturn void ps_comm_abort(ps_comm *comm, int status)
{
    MPI_Abort(comm->world, status);
    _exit(status);
}

int ps_comm_rank(const ps_comm *comm)
{
    return comm->rank;
}

int ps_comm_size(const ps_comm *comm)
{
    return comm->size;
}

int ps_comm_local_size(const ps_comm *comm)
{
    return comm->local_size;
}

const char *ps_comm_host(const ps_comm *comm, int rank)
{
    return comm->hosts[rank];
}

MPI_Comm ps_comm_world(const ps_comm *comm)
{
    return comm->world;
}

void ps_comm_set_idle(ps_comm *comm, ps_comm_idle *idle, void *arg)
{
    comm->idle = idle;
    comm->idle_arg = arg;
}

void ps_comm_library_version(char *out, size_t n)
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0;
    MPI_Get_library_version(text, &length);
    text[strcspn(text, ",\n")] = '\0';
    snprintf(out, n, "%s", text);
}

/* ---- collectives ---- */

ps_err ps_comm_check(const ps_comm *comm, int result, const char *what)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    if (result == MPI_SUCCESS) return PS_OK;
    MPI_Error_string(result, text, &length);
    return PS_FAIL(PS_ERR_LOST, "rank %d (%s): %s failed: %s", ps_comm_whole_rank(comm, comm->rank),
                   comm->hosts ? comm->hosts[comm->rank] : "?", what, text);
}

static ps_err wait_for(ps_comm *c, MPI_Request *request, const char *what)
{
    if (c->blocks) {
        MPI_Wait(request, MPI_STATUS_IGNORE);
        return PS_OK;
    }
    const int64_t begin = ps_clock_now_ns();
    int64_t pause_us = PAUSE_MIN_US;
    for (;;) {
        int done = 0;
        PS_TRY(ps_comm_check(c, MPI_Test(request, &done, MPI_STATUS_IGNORE), what));
        if (done) return PS_OK;
        if (c->idle) PS_TRY(c->idle(c->idle_arg));
        const double waited_s = ps_clock_seconds_between(begin, ps_clock_now_ns());
        if (waited_s > c->timeout_s)
            return PS_FAIL(PS_ERR_LOST, "rank %d (%s) waited %.0f s for the other ranks (%s)",
                           ps_comm_whole_rank(c, c->rank), c->hosts ? c->hosts[c->rank] : "?",
                           waited_s, what);
        ps_clock_sleep_us(pause_us);
        pause_us = pause_us * 2 < PAUSE_MAX_US ? pause_us * 2 : PAUSE_MAX_US;
    }
}

ps_err ps_comm_gather_all(ps_comm *comm, const void *mine, size_t n, void *all)
{
    // Simulators know many ways to do this one, and of the other the slowest.
    if (comm->blocks) {
        MPI_Allgather(mine, (int)n, MPI_BYTE, all, (int)n, MPI_BYTE, comm->world);
        return PS_OK;
    }
    MPI_Request request;
    MPI_Iallgather(mine, (int)n, MPI_BYTE, all, (int)n, MPI_BYTE, comm->world, &request);
    return wait_for(comm, &request, "gather");
}

/* Texts of any length go in pieces of so many bytes. */
enum { PIECE = 1 << 24 };

ps_err ps_comm_broadcast(ps_comm *comm, ps_text *text)
{
    uint64_t length = text->len;
    MPI_Request request;
    MPI_Ibcast(&length, 1, MPI_UINT64_T, 0, comm->world, &request);
    PS_TRY(wait_for(comm, &request, "broadcast"));
    char *piece = ps_mem_new(PIECE, 1);
    if (comm->rank != 0) ps_text_clear(text);
    ps_err err = PS_OK;
    for (uint64_t at = 0; at < length && !err; at += PIECE) {
        const size_t n = length - at < PIECE ? (size_t)(length - at) : PIECE;
        if (comm->rank == 0) memcpy(piece, text->data + at, n);
        MPI_Ibcast(piece, (int)n, MPI_BYTE, 0, comm->world, &request);
        err = wait_for(comm, &request, "broadcast");
        if (!err && comm->rank != 0) ps_text_append(text, piece, n);
    }
    // After an error the request may still write into the piece: the process is about to end.
    if (!err) ps_mem_free(piece);
    return err;
}

/* n bytes of rank `from` to rank 0. */
static ps_err bring_bytes(ps_comm *c, int from, void *bytes, size_t n)
{
    MPI_Request request;
    if (c->rank == 0) {
        MPI_Irecv(bytes, (int)n, MPI_BYTE, from, PS_TAG_TEXT, c->world, &request);
    } else {
        MPI_Isend(bytes, (int)n, MPI_BYTE, 0, PS_TAG_TEXT, c->world, &request);
    }
    return wait_for(c, &request, "text");
}

ps_err ps_comm_bring(ps_comm *comm, int from, ps_text *text)
{
    if (from == 0 || (comm->rank != 0 && comm->rank != from)) return PS_OK;
    uint64_t length = text->len;
    PS_TRY(bring_bytes(comm, from, &length, sizeof length));
    char *piece = ps_mem_new(PIECE, 1);
    if (comm->rank == 0) ps_text_clear(text);
    ps_err err = PS_OK;
    for (uint64_t at = 0; at < length && !err; at += PIECE) {
        const size_t n = length - at < PIECE ? (size_t)(length - at) : PIECE;
        if (comm->rank != 0) memcpy(piece, text->data + at, n);
        err = bring_bytes(comm, from, piece, n);
        if (!err && comm->rank == 0) ps_text_append(text, piece, n);
    }
    // As in a broadcast: after an error the piece stays.
    if (!err) ps_mem_free(piece);
    return err;
}

/* A byte to rank `from` and its clock back; *round_ns is what that took on rank 0. */
static ps_err ask_clock(ps_comm *c, int from, int64_t *clock_ns, int64_t *round_ns)
{
    char question = 0;
    MPI_Request request;
    const int64_t begin = ps_clock_now_ns();
    if (c->rank == 0) {
        MPI_Isend(&question, 1, MPI_BYTE, from, PS_TAG_TEXT, c->world, &request);
    } else {
        MPI_Irecv(&question, 1, MPI_BYTE, 0, PS_TAG_TEXT, c->world, &request);
    }
    PS_TRY(wait_for(c, &request, "clock"));
    *clock_ns = ps_clock_now_ns();
    PS_TRY(bring_bytes(c, from, clock_ns, sizeof *clock_ns));
    *round_ns = ps_clock_now_ns() - begin;
    return PS_OK;
}

ps_err ps_comm_compare_clocks(ps_comm *comm, int from, int64_t *ahead_ns)
{
    enum { ROUNDS = 16 };
    *ahead_ns = 0;
    if (from == 0 || (comm->rank != 0 && comm->rank != from)) return PS_OK;
    int64_t shortest = INT64_MAX;
    for (int i = 0; i < ROUNDS; i++) {
        int64_t clock_ns, round_ns;
        PS_TRY(ask_clock(comm, from, &clock_ns, &round_ns));
        if (round_ns >= shortest) continue;
        shortest = round_ns;
        *ahead_ns = clock_ns - (ps_clock_now_ns() - round_ns / 2);
    }
    if (*ahead_ns >= -shortest && *ahead_ns <= shortest) *ahead_ns = 0;
    return PS_OK;
}

ps_err ps_comm_agree(ps_comm *comm, ps_err mine)
{
    typedef struct verdict {
        int32_t code;
        char message[PS_ERR_MESSAGE_BYTES];
    } verdict;
    int32_t code = (int32_t)mine;
    int32_t *codes = ps_mem_new((size_t)comm->size, sizeof *codes);
    const ps_err err = ps_comm_gather_all(comm, &code, sizeof code, codes);
    int first = 0;
    while (!err && first < comm->size && codes[first] == PS_OK) {
        first++;
    }
    ps_mem_free(codes);
    if (err || first == comm->size) return err;
    verdict v = {.code = code};
    snprintf(v.message, sizeof v.message, "%s", ps_err_message());
    MPI_Request request;
    MPI_Ibcast(&v, (int)sizeof v, MPI_BYTE, first, comm->world, &request);
    PS_TRY(wait_for(comm, &request, "agreement"));
    if (first == 0) return PS_FAIL((ps_err)v.code, "%s", v.message);
    return PS_FAIL((ps_err)v.code, "rank %d (%s): %s", ps_comm_whole_rank(comm, first),
                   comm->hosts[first], v.message);
}

ps_err ps_comm_wait_agree(ps_comm *comm, ps_err mine)
{
    const double timeout_s = comm->timeout_s;
    char message[PS_ERR_MESSAGE_BYTES];
    snprintf(message, sizeof message, "%s", ps_err_message());
    comm->timeout_s = 1e9;
    char nothing = 0, *all = ps_mem_new((size_t)comm->size, 1);
    const ps_err err = ps_comm_gather_all(comm, &nothing, 1, all);
    ps_mem_free(all);
    comm->timeout_s = timeout_s;
    if (err) return err;
    return ps_comm_agree(comm, mine ? PS_FAIL(mine, "%s", message) : PS_OK);
}

/* Where the line with the first difference begins. */
static size_t differing_line(const char *a, const char *b)
{
    size_t line = 0;
    for (size_t i = 0; a[i] == b[i] && a[i] != '\0'; i++) {
        if (a[i] == '\n') line = i + 1;
    }
    return line;
}

static int line_length(const char *line)
{
    enum { SHOWN_MAX = 200 };
    const size_t n = strcspn(line, "\n");
    return n < SHOWN_MAX ? (int)n : SHOWN_MAX;
}

ps_err ps_comm_check_same(ps_comm *comm, const char *what, const char *text)
{
    ps_text common = {0};
    ps_text_append_str(&common, text);
    ps_err err = ps_comm_broadcast(comm, &common);
    ps_err mine = PS_OK;
    if (!err && strcmp(ps_text_str(&common), text) != 0) {
        const size_t at = differing_line(text, ps_text_str(&common));
        const char *own = text + at, *other = ps_text_str(&common) + at;
        mine = PS_FAIL(PS_ERR_USAGE, "has another %s than rank 0: \"%.*s\", there \"%.*s\"", what,
                       line_length(own), own, line_length(other), other);
    }
    ps_text_release(&common);
    return err ? err : ps_comm_agree(comm, mine);
}

ps_err ps_comm_share_cores(ps_comm *comm, uint64_t cpuset_hash, int *n_sharing, int *index)
{
    uint64_t *all = ps_mem_new((size_t)comm->size, sizeof *all);
    const ps_err err = ps_comm_gather_all(comm, &cpuset_hash, sizeof cpuset_hash, all);
    *n_sharing = 0;
    *index = 0;
    for (int r = 0; r < comm->size && !err; r++) {
        if (all[r] != cpuset_hash || strcmp(comm->hosts[r], comm->hosts[comm->rank]) != 0) continue;
        if (r < comm->rank) ++*index;
        ++*n_sharing;
    }
    ps_mem_free(all);
    return err;
}

/* ---- notes ---- */

bool ps_comm_note_send(ps_comm *comm, int to, const void *note, size_t n)
{
    int done = 1;
    assert(comm->note_sends && "a comm with notes");
    if (comm->note_sends[to] != MPI_REQUEST_NULL)
        MPI_Test(&comm->note_sends[to], &done, MPI_STATUS_IGNORE);
    if (!done) return false;
    memset(comm->note_out[to], 0, PS_NOTE_BYTES);
    memcpy(comm->note_out[to], note, n < PS_NOTE_BYTES ? n : PS_NOTE_BYTES);
    MPI_Isend(comm->note_out[to], PS_NOTE_BYTES, MPI_BYTE, to, NOTE_TAG, comm->notes,
              &comm->note_sends[to]);
    return true;
}

bool ps_comm_note_receive(ps_comm *comm, void *note, int *from)
{
    int done = 0;
    MPI_Status status;
    MPI_Test(&comm->note_receive, &done, &status);
    if (!done) return false;
    memcpy(note, comm->note_in, PS_NOTE_BYTES);
    *from = status.MPI_SOURCE;
    MPI_Irecv(comm->note_in, PS_NOTE_BYTES, MPI_BYTE, MPI_ANY_SOURCE, NOTE_TAG, comm->notes,
              &comm->note_receive);
    return true;
}
