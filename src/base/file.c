/* Whole-file input and atomic output over the plain system calls. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

enum { WRITE_BUFFER_BYTES = 1 << 18, READ_STEP_BYTES = 1 << 16, MAPS_NAMED_MAX = 256 };

static ps_err fail_errno(const char *path, const char *verb)
{
    return PS_FAIL(PS_ERR_IO, "%s: cannot %s: %s", path, verb, strerror(errno));
}

static ps_err fail_kind(const char *path, const struct stat *status)
{
    return PS_FAIL(PS_ERR_IO, "%s: is %s, wanted a regular file", path,
                   S_ISDIR(status->st_mode)    ? "a directory"
                   : S_ISFIFO(status->st_mode) ? "a FIFO"
                                               : "a device");
}

static ps_err open_regular(const char *path, int *fd, struct stat *status)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) return fail_errno(path, "open");
    ps_err err = PS_OK;
    if (fstat(*fd, status) != 0) {
        err = fail_errno(path, "stat");
    } else if (!S_ISREG(status->st_mode)) {
        err = fail_kind(path, status);
    }
    if (err) close(*fd);
    return err;
}

/* Reads until end of file, whatever the descriptor is. */
static ps_err read_stream(int fd, const char *path, size_t limit, ps_text *out)
{
    const size_t before = out->len;
    char *step = ps_mem_new(READ_STEP_BYTES, 1);
    ps_err err = PS_OK;
    for (;;) {
        const ssize_t n = read(fd, step, READ_STEP_BYTES);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) err = fail_errno(path, "read");
        if (n <= 0) break;
        if ((size_t)n > limit - (out->len - before)) {
            err = PS_FAIL(PS_ERR_LIMIT, "%s: more than %zu bytes", path, limit);
            break;
        }
        ps_text_append(out, step, (size_t)n);
    }
    ps_mem_free(step);
    return err;
}

ps_err ps_file_read(const char *path, size_t limit, ps_text *out)
{
    if (strcmp(path, "-") == 0) return read_stream(STDIN_FILENO, "standard input", limit, out);
    struct stat status;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_errno(path, "open");
    ps_err err = PS_OK;
    if (fstat(fd, &status) != 0) {
        err = fail_errno(path, "stat");
    } else if (S_ISDIR(status.st_mode)) {
        err = PS_FAIL(PS_ERR_IO, "%s: is a directory, wanted a file", path);
    } else {
        err = read_stream(fd, path, limit, out);
    }
    close(fd);
    return err;
}

/* What is mapped, for the signal handler. Maps beyond the table's end are not named. */
static struct {
    _Atomic(const unsigned char *) data; // NULL: a free place
    size_t bytes;
    char *path; // owned
} maps[MAPS_NAMED_MAX];

/* A mapped page that the file does not have any more is a signal at whoever reads it. Only code of
 * ours reads mappings, never one that holds a lock of the C library: writing a line is safe. */
static void on_bus_error(int number, siginfo_t *info, void *context)
{
    (void)context;
    const unsigned char *at = info->si_addr;
    for (int i = 0; i < MAPS_NAMED_MAX; i++) {
        const unsigned char *data = atomic_load(&maps[i].data);
        if (!data || at < data || at >= data + ps_mem_round_up(maps[i].bytes, 4096)) continue;
        ps_log(PS_LOG_ERROR,
               "%s: was cut short while it was in use, or cannot be read any more (offset %zu)",
               maps[i].path, (size_t)(at - data));
        _exit(ps_err_exit_status(PS_ERR_IO));
    }
    // None of our files: on return the instruction fails again and ends the process.
    signal(number, SIG_DFL);
}

static void name_map(const unsigned char *data, size_t bytes, const char *path)
{
    static atomic_bool installed;
    if (!atomic_exchange(&installed, true)) {
        struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
        sigemptyset(&action.sa_mask);
        sigaction(SIGBUS, &action, NULL);
    }
    for (int i = 0; i < MAPS_NAMED_MAX; i++) {
        if (atomic_load(&maps[i].data)) continue;
        maps[i].bytes = bytes;
        maps[i].path = ps_mem_copy_text(path);
        atomic_store(&maps[i].data, data);
        return;
    }
}

static void forget_map(const unsigned char *data)
{
    for (int i = 0; i < MAPS_NAMED_MAX; i++) {
        if (atomic_load(&maps[i].data) != data) continue;
        atomic_store(&maps[i].data, NULL);
        ps_mem_free(maps[i].path);
        return;
    }
}

static int64_t modified_ns(const struct stat *status)
{
    return status->st_mtim.tv_sec * 1000000000LL + status->st_mtim.tv_nsec;
}

ps_err ps_file_map_open_unmapped(const char *path, ps_file_map *out)
{
    *out = (ps_file_map){.fd = -1};
    struct stat status;
    int fd;
    PS_TRY(open_regular(path, &fd, &status));
    *out = (ps_file_map){
        .bytes = (size_t)status.st_size, .fd = fd, .modified_ns = modified_ns(&status)};
    return PS_OK;
}

ps_err ps_file_map_open(const char *path, ps_file_map *out)
{
    PS_TRY(ps_file_map_open_unmapped(path, out));
    if (out->bytes == 0) return PS_OK;
    void *data = mmap(NULL, out->bytes, PROT_READ, MAP_SHARED, out->fd, 0);
    if (data == MAP_FAILED) {
        const ps_err err = fail_errno(path, "map");
        ps_file_map_close(out);
        return err;
    }
    name_map(data, out->bytes, path);
    out->data = data;
    return PS_OK;
}

ps_err ps_file_map_check(const ps_file_map *map, const char *path)
{
    struct stat status;
    if (fstat(map->fd, &status) != 0) return fail_errno(path, "stat");
    if ((size_t)status.st_size == map->bytes && modified_ns(&status) == map->modified_ns)
        return PS_OK;
    return PS_FAIL(PS_ERR_IO, "%s: was written to while it was in use; the results may be wrong",
                   path);
}

void ps_file_map_close(ps_file_map *map)
{
    if (map->data) {
        forget_map(map->data);
        munmap((void *)(uintptr_t)map->data, map->bytes);
    }
    if (map->fd >= 0) close(map->fd);
    *map = (ps_file_map){.fd = -1};
}

ps_err ps_file_read_at(int fd, const char *path, uint64_t offset, void *out, size_t n)
{
    char *to = out;
    while (n > 0) {
        const ssize_t got = pread(fd, to, n, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno(path, "read");
        if (got == 0) {
            return PS_FAIL(PS_ERR_IO, "%s: ends %zu bytes early at offset %llu", path, n,
                           (unsigned long long)offset);
        }
        to += got;
        offset += (uint64_t)got;
        n -= (size_t)got;
    }
    return PS_OK;
}

ps_err ps_file_identify(const char *path, ps_file_identity *out)
{
    struct stat s;
    if (stat(path, &s) != 0) return fail_errno(path, "stat");
    *out = (ps_file_identity){
        .device = s.st_dev,
        .inode = s.st_ino,
        .bytes = (uint64_t)s.st_size,
        .modified_ns = modified_ns(&s),
        .changed_ns = s.st_ctim.tv_sec * 1000000000LL + s.st_ctim.tv_nsec,
    };
    return PS_OK;
}

const char *ps_file_network_system_of(long type)
{
    // Numbers as statfs(2) and the makers of the file systems give them, 32 bits wide.
    static const struct {
        uint32_t type;
        const char *name;
    } systems[] = {
        {0x6969, "NFS"},        {0x0BD00BD0, "Lustre"}, {0x47504653, "GPFS"},
        {0x19830326, "BeeGFS"}, {0xFF534D42, "CIFS"},   {0xFE534D42, "SMB2"},
        {0x517B, "SMB"},        {0x65735546, "FUSE"},   {0x00C36400, "Ceph"},
        {0x5346414F, "AFS"},    {0x6B414653, "AFS"},    {0xAAD7AAEA, "PanFS"},
        {0x01161970, "GFS2"},   {0x7461636F, "OCFS2"},  {0x20030528, "OrangeFS"},
        {0x01021997, "9P"},     {0x73757245, "Coda"},
    };
    for (size_t i = 0; i < sizeof systems / sizeof systems[0]; i++) {
        if (systems[i].type == (uint32_t)type) return systems[i].name;
    }
    return NULL;
}

const char *ps_file_network_system(const char *path)
{
    struct statfs s;
    return statfs(path, &s) == 0 ? ps_file_network_system_of((long)s.f_type) : NULL;
}

ps_err ps_file_peek(const char *path, uint64_t offset, void *out, size_t n, uint64_t *bytes)
{
    struct stat status;
    int fd;
    PS_TRY(open_regular(path, &fd, &status));
    *bytes = (uint64_t)status.st_size;
    memset(out, 0, n);
    const uint64_t left = *bytes > offset ? *bytes - offset : 0;
    const ps_err err = ps_file_read_at(fd, path, offset, out, left < n ? (size_t)left : n);
    close(fd);
    return err;
}

ps_err ps_file_write_all(int fd, const void *bytes, size_t n, const char *what)
{
    const char *from = bytes;
    while (n > 0) {
        const ssize_t done = write(fd, from, n);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0 && errno == EPIPE) {
            return PS_FAIL(PS_ERR_CLOSED, "%s: its reader has gone away", what);
        }
        if (done < 0) return fail_errno(what, "write");
        from += done;
        n -= (size_t)done;
    }
    return PS_OK;
}

bool ps_file_is_same(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* The directory that holds `path`; owned by the caller. */
static char *directory_of(const char *path)
{
    char *directory = ps_mem_copy_text(path);
    char *slash = strrchr(directory, '/');
    if (slash) {
        slash[slash == directory] = '\0';
        return directory;
    }
    ps_mem_free(directory);
    return ps_mem_copy_text(".");
}

ps_err ps_file_find_target(const char *path, bool *regular, char **out)
{
    *out = NULL;
    struct stat status;
    const bool exists = stat(path, &status) == 0;
    const bool replaced = !exists || S_ISREG(status.st_mode);
    if (exists && (S_ISDIR(status.st_mode) || (!replaced && !regular)))
        return fail_kind(path, &status);
    struct stat link;
    const bool is_link = lstat(path, &link) == 0 && S_ISLNK(link.st_mode);
    char *real = is_link && exists && replaced ? realpath(path, NULL) : NULL;
    *out = ps_mem_copy_text(real ? real : path);
    free(real);
    if (regular) *regular = replaced;
    if (!replaced) return PS_OK;
    char *directory = directory_of(*out);
    const bool good = access(directory, W_OK) == 0;
    ps_mem_free(directory);
    if (good) return PS_OK;
    const ps_err err = fail_errno(path, "create");
    ps_mem_free(*out);
    *out = NULL;
    return err;
}

char *ps_file_temporary_name(const char *path)
{
    ps_text name = {0};
    ps_text_appendf(&name, "%s.part-%ld", path, (long)getpid());
    return ps_text_take(&name);
}

/* fsync of the directory that holds `path`, so that a rename survives a power cut. */
static ps_err sync_directory_of(const char *path)
{
    char *directory = directory_of(path);
    const int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ps_err err = PS_OK;
    // Some file systems cannot sync a directory (EINVAL): the rename is then as safe as they make
    // it.
    if (fd < 0) err = fail_errno(directory, "open directory");
    if (!err && fsync(fd) != 0 && errno != EINVAL) err = fail_errno(directory, "fsync directory");
    if (fd >= 0) close(fd);
    ps_mem_free(directory);
    return err;
}

ps_err ps_file_sync(const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_errno(path, "open");
    ps_err err = fsync(fd) == 0 ? PS_OK : fail_errno(path, "fsync");
    if (close(fd) != 0 && !err) err = fail_errno(path, "close");
    return err;
}

ps_err ps_file_publish(const char *temporary, const char *path)
{
    ps_err err = ps_file_sync(temporary);
    if (!err && rename(temporary, path) != 0) err = fail_errno(path, "rename into place");
    if (!err) err = sync_directory_of(path);
    return err;
}

ps_err ps_file_writer_open(const char *path, ps_file_writer *out)
{
    *out = (ps_file_writer){.fd = -1};
    bool regular;
    char *target;
    PS_TRY(ps_file_find_target(path, &regular, &target));
    char *temporary = regular ? ps_file_temporary_name(target) : NULL;
    // A FIFO that nobody reads is an error, not a wait.
    const int fd = regular ? open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)
                           : open(target, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        const ps_err err = fail_errno(path, regular ? "create" : "open");
        ps_mem_free(temporary);
        ps_mem_free(target);
        return err;
    }
    if (!regular) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    *out = (ps_file_writer){.path = target,
                            .temporary = temporary,
                            .fd = fd,
                            .buffer = ps_mem_new(WRITE_BUFFER_BYTES, 1)};
    return PS_OK;
}

static void flush(ps_file_writer *w)
{
    if (!w->err && w->used > 0) w->err = ps_file_write_all(w->fd, w->buffer, w->used, w->path);
    w->used = 0;
}

void ps_file_writer_write(ps_file_writer *w, const void *bytes, size_t n)
{
    if (w->err) return;
    if (n > WRITE_BUFFER_BYTES - w->used) flush(w);
    if (n > WRITE_BUFFER_BYTES) {
        if (!w->err) w->err = ps_file_write_all(w->fd, bytes, n, w->path);
        return;
    }
    memcpy(w->buffer + w->used, bytes, n);
    w->used += n;
}

static void writer_release(ps_file_writer *w)
{
    ps_mem_free(w->buffer);
    ps_mem_free(w->temporary);
    ps_mem_free(w->path);
    *w = (ps_file_writer){.fd = -1};
}

static ps_err rename_into_place(const char *temporary, const char *path)
{
    return rename(temporary, path) == 0 ? PS_OK : fail_errno(path, "rename into place");
}

static ps_err writer_end(ps_file_writer *w, ps_err (*publish)(const char *, const char *))
{
    flush(w);
    ps_err err = w->err;
    if (close(w->fd) != 0 && !err) err = fail_errno(w->path, "close");
    if (!err && w->temporary) err = publish(w->temporary, w->path);
    if (err && w->temporary) unlink(w->temporary);
    writer_release(w);
    return err;
}

ps_err ps_file_writer_commit(ps_file_writer *w)
{
    return writer_end(w, ps_file_publish);
}

ps_err ps_file_writer_replace(ps_file_writer *w)
{
    return writer_end(w, rename_into_place);
}

void ps_file_writer_abandon(ps_file_writer *w)
{
    if (w->fd < 0) return;
    close(w->fd);
    if (w->temporary) unlink(w->temporary);
    writer_release(w);
}

/* One directory. Whatever mkdir says, one that is there already is fine; a file in its place is
 * not.
 */
static ps_err make_dir(const char *path)
{
    if (mkdir(path, 0777) == 0) return PS_OK;
    const int reason = errno;
    struct stat s;
    if (stat(path, &s) == 0 && S_ISDIR(s.st_mode)) return PS_OK;
    errno = reason;
    return fail_errno(path, "make directory");
}

bool ps_file_cache_directory(ps_text *out)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && cache[0] == '/') {
        ps_text_appendf(out, "%s/pipestep", cache);
    } else if (home && home[0] == '/') {
        ps_text_appendf(out, "%s/.cache/pipestep", home);
    } else {
        return false;
    }
    return true;
}

ps_err ps_file_make_dirs(const char *path)
{
    char *copy = ps_mem_copy_text(path);
    ps_err err = PS_OK;
    for (char *p = copy + (*copy != '\0'); !err; p++) {
        if (*p != '/' && *p != '\0') continue;
        const char kept = *p;
        *p = '\0';
        err = make_dir(copy);
        *p = kept;
        if (kept == '\0') break;
    }
    ps_mem_free(copy);
    return err;
}
