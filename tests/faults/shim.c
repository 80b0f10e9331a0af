/* Makes system calls on chosen files fail, or end the process: a library to be preloaded
 * (cc -shared -fPIC -O1 -o shim.so shim.c -ldl).
 *
 *   FAULT_PATH     calls on files whose path holds this text count, from 1 on
 *   FAULT_CALLS    which calls count, names with commas between: open read pread write fsync
 *                  ftruncate rename link unlink close mmap; default all but open, read, close.
 *                  alloc and thread are the program's own allocations, with the path "alloc", and
 *                  threads, with the path "thread"; cores is its question which processors it may
 *                  use, with the path "cores"; region is a block of memory that it maps, with the path
 *                  "region"
 *   FAULT_AT       the number of the call that the action is for; 0: none
 *   FAULT_TIMES    for so many calls from it on (1); -1: all that follow
 *   FAULT_ACTION   kill    SIGKILL before the call
 *                  torn    of a write one half is done, then SIGKILL
 *                  part    of a write or read one half is done
 *                  a number: the call fails with this errno; a close closes all the same
 *   FAULT_RANK     acts in this rank alone (0); without a launcher a process is rank 0
 *   FAULT_LOG      a file that gets a line for each call that counts: number, name, path, result
 *
 * Calls that the C library makes inside itself are not seen. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

static atomic_long n_calls;

/* Read before any thread of MPI's is there: getenv beside a setenv of another thread may fail. Calls
 * before that do not count. */
static struct {
    const char *path, *calls, *action, *log;
    long at, times;
    int clock_jumps, acts_here;
} settings;

static const char *setting(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

static int is_named(const char *list, const char *name)
{
    const size_t n = strlen(name);
    for (const char *at = strstr(list, name); at; at = strstr(at + 1, name)) {
        if ((at == list || at[-1] == ',') && (at[n] == '\0' || at[n] == ',')) return 1;
    }
    return 0;
}

static int is_this_rank(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"};
    const char *rank = "0";
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        rank = setting(names[i], rank);
    }
    return strcmp(rank, setting("FAULT_RANK", "0")) == 0;
}

__attribute__((constructor)) static void read_settings(void)
{
    settings.calls = setting("FAULT_CALLS", "pread,write,fsync,ftruncate,rename,link,unlink");
    settings.action = setting("FAULT_ACTION", "kill");
    settings.log = getenv("FAULT_LOG");
    settings.at = strtol(setting("FAULT_AT", "0"), NULL, 10);
    settings.times = strtol(setting("FAULT_TIMES", "1"), NULL, 10);
    settings.clock_jumps = getenv("FAULT_CLOCK") != NULL;
    settings.acts_here = is_this_rank();
    settings.path = getenv("FAULT_PATH");
}

static void note(long number, const char *name, const char *path)
{
    char line[PATH_BYTES + 64];
    if (!settings.log) return;
    const int n = snprintf(line, sizeof line, "%ld %s %s\n", number, name, path);
    const int fd =
        (int)syscall(SYS_openat, AT_FDCWD, settings.log, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (fd < 0) return;
    syscall(SYS_write, fd, line, (size_t)n);
    syscall(SYS_close, fd);
}

/* The action for this call, or NULL. */
static const char *action_for(const char *name, const char *path)
{
    if (!settings.path || !strstr(path, settings.path) || !settings.acts_here) return NULL;
    if (!is_named(settings.calls, name)) return NULL;
    const long number = atomic_fetch_add(&n_calls, 1) + 1, at = settings.at;
    note(number, name, path);
    if (at == 0 || number < at || (settings.times >= 0 && number >= at + settings.times))
        return NULL;
    const char *action = settings.action;
    if (strcmp(action, "kill") == 0 || (strcmp(action, "torn") == 0 && strcmp(name, "write") != 0))
        raise(SIGKILL);
    return action;
}

static const char *action_for_fd(const char *name, int fd)
{
    char link[64], path[PATH_BYTES];
    const int kept = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    errno = kept;
    return action_for(name, path);
}

static int fails(const char *action)
{
    if (!action || *action < '0' || *action > '9') return 0;
    errno = (int)strtol(action, NULL, 10);
    return 1;
}

/* Whether the caller is the program, not a library. */
static int is_program(const void *at)
{
    Dl_info info;
    return dladdr(at, &info) && info.dli_fname && !strstr(info.dli_fname, ".so");
}

static _Thread_local int inside;

static int alloc_fails(const void *caller)
{
    if (inside || !settings.calls || strcmp(settings.calls, "alloc") != 0) return 0;
    inside = 1;
    const int failed = is_program(caller) && fails(action_for("alloc", "alloc"));
    inside = 0;
    return failed;
}

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t count, size_t n);
extern void *__libc_realloc(void *p, size_t n);

void *malloc(size_t n)
{
    return alloc_fails(__builtin_return_address(0)) ? NULL : __libc_malloc(n);
}

void *calloc(size_t count, size_t n)
{
    return alloc_fails(__builtin_return_address(0)) ? NULL : __libc_calloc(count, n);
}

void *realloc(void *p, size_t n)
{
    return alloc_fails(__builtin_return_address(0)) ? NULL : __libc_realloc(p, n);
}

#define NEXT(type, name) ((type)dlsym(RTLD_NEXT, name))

ssize_t write(int fd, const void *bytes, size_t n)
{
    const char *action = action_for_fd("write", fd);
    if (fails(action)) return -1;
    if (action) n = n / 2 ? n / 2 : n;
    const ssize_t done = syscall(SYS_write, fd, bytes, n);
    if (action && strcmp(action, "torn") == 0) raise(SIGKILL);
    return done;
}

ssize_t read(int fd, void *bytes, size_t n)
{
    const char *action = action_for_fd("read", fd);
    if (fails(action)) return -1;
    if (action && n > 1) n /= 2;
    return syscall(SYS_read, fd, bytes, n);
}

ssize_t pread(int fd, void *bytes, size_t n, off_t offset)
{
    const char *action = action_for_fd("pread", fd);
    if (fails(action)) return -1;
    if (action && n > 1) n /= 2;
    return syscall(SYS_pread64, fd, bytes, n, offset);
}

ssize_t pread64(int fd, void *bytes, size_t n, off64_t offset)
{
    return pread(fd, bytes, n, offset);
}

static int sync_file(int fd, long number)
{
    if (fails(action_for_fd("fsync", fd))) return -1;
    return (int)syscall(number, fd);
}

int fsync(int fd)
{
    return sync_file(fd, SYS_fsync);
}

int fdatasync(int fd)
{
    return sync_file(fd, SYS_fdatasync);
}

int ftruncate(int fd, off_t n)
{
    if (fails(action_for_fd("ftruncate", fd))) return -1;
    return (int)syscall(SYS_ftruncate, fd, n);
}

int ftruncate64(int fd, off64_t n)
{
    return ftruncate(fd, n);
}

int rename(const char *from, const char *to)
{
    if (fails(action_for("rename", to))) return -1;
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int link(const char *from, const char *to)
{
    if (fails(action_for("link", to))) return -1;
    return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlink(const char *path)
{
    if (fails(action_for("unlink", path))) return -1;
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

static int open_file(const char *path, int flags, mode_t mode)
{
    if (fails(action_for("open", path))) return -1;
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    const mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    return open_file(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    const mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    return open_file(path, flags | O_LARGEFILE, mode);
}

int close(int fd)
{
    const int failed = fails(action_for_fd("close", fd)), kept = errno;
    const int done = (int)syscall(SYS_close, fd);
    if (!failed) return done;
    errno = kept;
    return -1;
}

typedef int create_thread(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                   void *arg)
{
    if (is_program(__builtin_return_address(0)) && fails(action_for("thread", "thread")))
        return errno;
    return NEXT(create_thread *, "pthread_create")(thread, attributes, start, arg);
}

typedef int get_binding(void *, void *, int);

/* Of libhwloc, which the program links. */
int hwloc_get_cpubind(void *topology, void *set, int flags)
{
    if (is_program(__builtin_return_address(0)) && fails(action_for("cores", "cores"))) return -1;
    return NEXT(get_binding *, "hwloc_get_cpubind")(topology, set, flags);
}

/* With FAULT_CLOCK the time of day jumps by a day and back at each look. */
int clock_gettime(clockid_t clock, struct timespec *out)
{
    static atomic_int looks;
    const int done = (int)syscall(SYS_clock_gettime, clock, out);
    if (clock == CLOCK_REALTIME && settings.clock_jumps)
        out->tv_sec += atomic_fetch_add(&looks, 1) % 2 ? 86400 : -86400;
    return done;
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    const void *caller = __builtin_return_address(0);
    if (fd >= 0 && fails(action_for_fd("mmap", fd))) return MAP_FAILED;
    if (fd < 0 && is_program(caller) && fails(action_for("region", "region"))) return MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, n, protection, flags, fd, offset);
}
