/* Lines go out in one write each. The thread sleeps a second at a time; appending sets a flag, and
 * never waits for an fsync that is under way. */
#include "base/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"

enum { HASH_DIGITS = 16, FRAME_BYTES = HASH_DIGITS + 2, STEP_BYTES = 1 << 16 };

struct ps_journal {
    char *path; // owned
    int fd;
    uint64_t end, last; // of the file; number of the last line
    ps_text line;       // scratch
    ps_err err;         // of an append: nothing more is written
    ps_journal_tick tick;
    int64_t ticked_ns;
    atomic_bool unsynced;
    // the thread
    bool has_thread;
    pthread_t thread;
    pthread_mutex_t mutex; // over all that follows
    pthread_cond_t wake;
    bool ended;
    ps_err thread_err;
    char message[PS_ERR_MESSAGE_BYTES];
};

static ps_err fail_errno(const char *path, const char *verb)
{
    return PS_FAIL(PS_ERR_IO, "%s: cannot %s: %s", path, verb, strerror(errno));
}

/* ---- lines ---- */

static uint64_t append_line(ps_text *out, uint64_t seed, const char *body, size_t n)
{
    const uint64_t hash = XXH3_64bits_withSeed(body, n, seed);
    ps_text_appendf(out, "%016llx ", (unsigned long long)hash);
    ps_text_append(out, body, n);
    ps_text_append_char(out, '\n');
    return hash;
}

/* Whether line[n], without its end, follows the one whose number is `seed`. */
static bool check_line(const char *line, size_t n, uint64_t seed, uint64_t *hash)
{
    char digits[HASH_DIGITS + 1];
    if (n < HASH_DIGITS + 1 || line[HASH_DIGITS] != ' ') return false;
    *hash = XXH3_64bits_withSeed(line + HASH_DIGITS + 1, n - HASH_DIGITS - 1, seed);
    snprintf(digits, sizeof digits, "%016llx", (unsigned long long)*hash);
    return memcmp(digits, line, HASH_DIGITS) == 0;
}

/* ---- the thread ---- */

static ps_err sync_now(ps_journal *j)
{
    if (!atomic_exchange(&j->unsynced, false)) return PS_OK;
    return fdatasync(j->fd) == 0 ? PS_OK : fail_errno(j->path, "fsync");
}

static ps_err turn(ps_journal *j)
{
    PS_TRY(sync_now(j));
    return j->tick.call ? j->tick.call(j->tick.arg) : PS_OK;
}

static void wait_a_turn(ps_journal *j)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += PS_JOURNAL_SYNC_S;
    int reason = 0;
    while (!j->ended && reason != ETIMEDOUT) {
        reason = pthread_cond_timedwait(&j->wake, &j->mutex, &until);
    }
}

static void *thread_main(void *arg)
{
    ps_journal *j = arg;
    pthread_mutex_lock(&j->mutex);
    while (!j->ended && !j->thread_err) {
        wait_a_turn(j);
        if (j->ended) break;
        pthread_mutex_unlock(&j->mutex);
        const ps_err err = turn(j);
        pthread_mutex_lock(&j->mutex);
        if (err) snprintf(j->message, sizeof j->message, "%s", ps_err_message());
        j->thread_err = err;
    }
    pthread_mutex_unlock(&j->mutex);
    return NULL;
}

/* Signals are the others' to handle. */
static void start_thread(ps_journal *j)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    j->has_thread = pthread_create(&j->thread, NULL, thread_main, j) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    j->ticked_ns = ps_clock_now_ns();
}

static ps_err thread_error(ps_journal *j)
{
    pthread_mutex_lock(&j->mutex);
    const ps_err err = j->thread_err;
    pthread_mutex_unlock(&j->mutex);
    return err ? PS_FAIL(err, "%s", j->message) : PS_OK;
}

/* In place of the thread, where the system gave none. */
static ps_err turn_if_due(ps_journal *j)
{
    if (j->has_thread) return thread_error(j);
    const int64_t now = ps_clock_now_ns();
    if (now - j->ticked_ns < PS_JOURNAL_SYNC_S * 1000000000LL) return PS_OK;
    j->ticked_ns = now;
    return turn(j);
}

/* ---- open and close ---- */

static ps_journal *new_journal(const char *path, int fd, const ps_journal_tick *tick)
{
    ps_journal *j = ps_mem_new(1, sizeof *j);
    j->path = ps_mem_copy_text(path);
    j->fd = fd;
    if (tick) j->tick = *tick;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&j->mutex, NULL);
    pthread_cond_init(&j->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    return j;
}

void ps_journal_close(ps_journal *j)
{
    if (!j) return;
    if (j->has_thread) {
        pthread_mutex_lock(&j->mutex);
        j->ended = true;
        pthread_cond_signal(&j->wake);
        pthread_mutex_unlock(&j->mutex);
        pthread_join(j->thread, NULL);
    }
    pthread_cond_destroy(&j->wake);
    pthread_mutex_destroy(&j->mutex);
    if (j->fd >= 0) close(j->fd);
    ps_text_release(&j->line);
    ps_mem_free(j->path);
    ps_mem_free(j);
}

static ps_err open_end(ps_journal *j)
{
    j->fd = open(j->path, O_RDWR | O_CLOEXEC);
    if (j->fd < 0) return fail_errno(j->path, "open");
    if (lseek(j->fd, (off_t)j->end, SEEK_SET) < 0) return fail_errno(j->path, "seek");
    return PS_OK;
}

ps_err ps_journal_create(const char *path, const char *body, size_t n, const ps_journal_tick *tick,
                         ps_journal **out)
{
    *out = NULL;
    ps_text line = {0};
    ps_file_writer w;
    const uint64_t hash = append_line(&line, 0, body, n);
    ps_err err = ps_file_writer_open(path, &w);
    if (!err) {
        ps_file_writer_write(&w, line.data, line.len);
        err = ps_file_writer_commit(&w);
    }
    if (!err) {
        ps_journal *j = new_journal(path, -1, tick);
        j->end = line.len;
        j->last = hash;
        err = open_end(j);
        if (err) {
            ps_journal_close(j);
        } else {
            start_thread(j);
            *out = j;
        }
    }
    ps_text_release(&line);
    return err;
}

/* Lines that can be believed, from the file's beginning; j->end is behind the last of them. */
typedef struct reader {
    ps_journal *j;
    ps_journal_on_line *on_line;
    void *arg;
    uint64_t n_lines;
    ps_text held; // from j->end on
    bool stopped; // at one that cannot be believed
} reader;

/* Takes the whole lines of what is held. */
static ps_err take_lines(reader *r)
{
    ps_journal *j = r->j;
    size_t at = 0;
    ps_err err = PS_OK;
    while (!err && !r->stopped) {
        const char *line = r->held.data + at;
        const char *end = at < r->held.len ? memchr(line, '\n', r->held.len - at) : NULL;
        if (!end) break;
        const size_t n = (size_t)(end - line);
        uint64_t hash;
        r->stopped = !check_line(line, n, j->last, &hash);
        if (r->stopped) break;
        const ps_journal_place place = {
            .offset = j->end, .seed = j->last, .bytes = n - HASH_DIGITS - 1};
        err = r->on_line(r->arg, r->n_lines, &place, line + HASH_DIGITS + 1, place.bytes);
        r->n_lines++;
        j->last = hash;
        j->end += n + 1;
        at += n + 1;
    }
    if (at > 0) memmove(r->held.data, r->held.data + at, r->held.len - at);
    r->held.len -= at;
    return err;
}

static ps_err read_lines(reader *r)
{
    char *step = ps_mem_new(STEP_BYTES, 1);
    ps_err err = PS_OK;
    while (!err && !r->stopped) {
        const ssize_t got = read(r->j->fd, step, STEP_BYTES);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) err = fail_errno(r->j->path, "read");
        if (got <= 0) break;
        ps_text_append(&r->held, step, (size_t)got);
        // A line that is longer than a step is looked at when its end is there.
        if (memchr(step, '\n', (size_t)got)) err = take_lines(r);
    }
    ps_mem_free(step);
    ps_text_release(&r->held);
    return err;
}

static ps_err cut_rest(ps_journal *j, uint64_t *cut_bytes)
{
    struct stat status;
    if (fstat(j->fd, &status) != 0) return fail_errno(j->path, "stat");
    *cut_bytes = (uint64_t)status.st_size - j->end;
    if (*cut_bytes > 0 && ftruncate(j->fd, (off_t)j->end) != 0)
        return fail_errno(j->path, "cut off what is torn");
    if (lseek(j->fd, (off_t)j->end, SEEK_SET) < 0) return fail_errno(j->path, "seek");
    // What was read may never have reached the disk.
    atomic_store(&j->unsynced, true);
    return PS_OK;
}

ps_err ps_journal_open(const char *path, ps_journal_on_line *on_line, void *arg,
                       const ps_journal_tick *tick, uint64_t *cut_bytes, ps_journal **out)
{
    *out = NULL;
    struct stat status;
    const int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return fail_errno(path, "open");
    ps_journal *j = new_journal(path, fd, tick);
    reader r = {.j = j, .on_line = on_line, .arg = arg};
    ps_err err = fstat(fd, &status) == 0 ? PS_OK : fail_errno(path, "stat");
    if (!err && !S_ISREG(status.st_mode)) err = PS_FAIL(PS_ERR_FORMAT, "%s: is no journal", path);
    if (!err) err = read_lines(&r);
    if (!err && r.n_lines == 0)
        err = PS_FAIL(PS_ERR_FORMAT, "%s: is no journal, or its first line is damaged", path);
    if (!err) err = cut_rest(j, cut_bytes);
    if (err) {
        ps_journal_close(j);
        return err;
    }
    start_thread(j);
    *out = j;
    return PS_OK;
}

/* ---- append and read ---- */

/* What a failed write left of the line goes: a journal of whole lines is easier on its readers. If
 * that fails too, the reader cuts it. */
static ps_err take_back(ps_journal *j)
{
    char message[PS_ERR_MESSAGE_BYTES];
    snprintf(message, sizeof message, "%s", ps_err_message());
    const bool cut = ftruncate(j->fd, (off_t)j->end) == 0;
    return PS_FAIL(PS_ERR_IO, "%s%s", message, cut ? "" : "; its last line is torn");
}

ps_err ps_journal_append(ps_journal *j, const char *body, size_t n, ps_journal_place *place)
{
    if (j->err) return PS_FAIL(j->err, "%s: an earlier line could not be written", j->path);
    PS_TRY(turn_if_due(j));
    if (memchr(body, '\n', n))
        return PS_FAIL(PS_ERR_FORMAT, "%s: a line end inside a line", j->path);
    ps_text_clear(&j->line);
    const uint64_t hash = append_line(&j->line, j->last, body, n);
    j->err = ps_file_write_all(j->fd, j->line.data, j->line.len, j->path);
    if (j->err) return take_back(j);
    if (place) *place = (ps_journal_place){.offset = j->end, .seed = j->last, .bytes = n};
    j->end += j->line.len;
    j->last = hash;
    atomic_store(&j->unsynced, true);
    return PS_OK;
}

ps_err ps_journal_sync(ps_journal *j)
{
    // The thread may have taken the flag and not be done: this waits for the disk in any case.
    atomic_store(&j->unsynced, true);
    PS_TRY(sync_now(j));
    return j->has_thread ? thread_error(j) : PS_OK;
}

ps_err ps_journal_read(const ps_journal *j, const ps_journal_place *place, ps_text *out)
{
    const size_t n = place->bytes + FRAME_BYTES;
    char *line = ps_mem_new(n, 1);
    uint64_t hash;
    ps_err err = ps_file_read_at(j->fd, j->path, place->offset, line, n);
    if (!err && (line[n - 1] != '\n' || !check_line(line, n - 1, place->seed, &hash)))
        err = PS_FAIL(PS_ERR_FORMAT, "%s: was changed while it was in use (offset %llu)", j->path,
                      (unsigned long long)place->offset);
    if (!err) ps_text_append(out, line + HASH_DIGITS + 1, place->bytes);
    ps_mem_free(line);
    return err;
}
