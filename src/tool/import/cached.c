#include "tool/import/cached.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "model/ckpt.h"
#include "tool/import/convert.h"

enum { LOCK_POLL_MS = 200, LOCK_HOURS = 12, FILES_MAX = 20000 };

bool ps_cached_is_foreign(const char *path)
{
    struct stat status;
    char magic[4];
    uint64_t bytes;
    if (stat(path, &status) != 0) return false;
    if (S_ISDIR(status.st_mode)) return true;
    return S_ISREG(status.st_mode) && status.st_size >= (off_t)sizeof magic &&
           ps_file_peek(path, 0, magic, sizeof magic, &bytes) == PS_OK &&
           memcmp(magic, "GGUF", sizeof magic) == 0;
}

/* ---- what the model consists of ---- */

static bool ends_with(const char *name, const char *suffix)
{
    const size_t n = strlen(name), m = strlen(suffix);
    return n > m && strcmp(name + n - m, suffix) == 0;
}

/* Of a split GGUF the part of the name that all files share; 0 for a file that stands alone. */
static size_t split_stem(const char *name)
{
    static const char pattern[] = "-#####-of-#####.gguf";
    const size_t n = strlen(name), m = sizeof pattern - 1;
    if (n <= m) return 0;
    for (size_t i = 0; i < m; i++) {
        const char c = name[n - m + i];
        if (pattern[i] == '#' ? c < '0' || c > '9' : c != pattern[i]) return 0;
    }
    return n - m;
}

static bool belongs(const char *name, const char *stem, size_t n_stem)
{
    if (stem) return strncmp(name, stem, n_stem) == 0 && split_stem(name) == n_stem;
    return ends_with(name, ".safetensors") || ends_with(name, ".json") ||
           ends_with(name, ".model") || ends_with(name, ".jinja");
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static ps_err append_identity(const char *path, ps_text *key)
{
    ps_file_identity id;
    PS_TRY(ps_file_identify(path, &id));
    ps_text_appendf(key, "%s %" PRIu64 " %" PRIu64 " %" PRId64 "\n", path, id.bytes, id.inode,
                    id.modified_ns);
    return PS_OK;
}

/* Identities of the files of a directory that belong, in the order of their names. */
static ps_err append_directory(const char *directory, const char *stem, size_t n_stem, ps_text *key)
{
    DIR *d = opendir(directory);
    if (!d) return PS_FAIL(PS_ERR_IO, "%s: cannot open: %s", directory, strerror(errno));
    char **names = NULL;
    size_t n = 0, capacity = 0;
    for (struct dirent *e; n < FILES_MAX && (e = readdir(d)) != NULL;) {
        if (!belongs(e->d_name, stem, n_stem)) continue;
        names = ps_mem_grow(names, &capacity, n + 1, sizeof *names);
        names[n++] = ps_mem_copy_text(e->d_name);
    }
    closedir(d);
    if (n > 0) qsort(names, n, sizeof *names, compare_names);
    ps_err err = PS_OK;
    for (size_t i = 0; i < n; i++) {
        ps_text path = {0};
        ps_text_appendf(&path, "%s/%s", directory, names[i]);
        if (!err) err = append_identity(ps_text_str(&path), key);
        ps_text_release(&path);
        ps_mem_free(names[i]);
    }
    ps_mem_free(names);
    return err;
}

/* Everything that tells this state of the model from another. */
static ps_err make_key(const char *canonical, ps_text *key)
{
    struct stat status;
    ps_text_appendf(key, "%s\nformat %d, layouts %d\n", canonical, PS_CKPT_VERSION,
                    PS_CKPT_LAYOUTS);
    if (stat(canonical, &status) == 0 && S_ISDIR(status.st_mode))
        return append_directory(canonical, NULL, 0, key);
    const char *name = strrchr(canonical, '/') + 1;
    const size_t stem = split_stem(name);
    if (stem == 0) return append_identity(canonical, key);
    char *directory = ps_mem_copy_bytes(canonical, (size_t)(name - canonical));
    const ps_err err = append_directory(directory, name, stem, key);
    ps_mem_free(directory);
    return err;
}

/* ---- the cache ---- */

static ps_err cache_directory(const char *directory, ps_text *out)
{
    if (directory) {
        ps_text_append_str(out, directory);
    } else {
        if (!ps_file_cache_directory(out))
            return PS_FAIL(PS_ERR_USAGE, "there is no cache directory: set HOME or XDG_CACHE_HOME, "
                                         "or give --cache-dir");
        ps_text_append_str(out, "/models");
    }
    return ps_file_make_dirs(ps_text_str(out));
}

static ps_err model_path(const char *path, const char *directory, ps_text *out)
{
    char *canonical = realpath(path, NULL);
    if (!canonical) return PS_FAIL(PS_ERR_IO, "%s: %s", path, strerror(errno));
    ps_text key = {0};
    ps_err err = make_key(canonical, &key);
    if (!err) err = cache_directory(directory, out);
    if (!err) {
        ps_text_appendf(out, "/%s-%016" PRIx64 ".h5", strrchr(canonical, '/') + 1,
                        XXH3_64bits(ps_text_str(&key), key.len));
    }
    ps_text_release(&key);
    free(canonical);
    return err;
}

/* The file that the descriptor holds still has this name. */
static bool is_there(int fd, const char *path)
{
    struct stat held, named;
    return fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_dev == named.st_dev &&
           held.st_ino == named.st_ino;
}

/* Waits for an exclusive lock on an open file. */
static ps_err wait_for_lock(int fd, const char *path, const char *model, bool *told)
{
    const int64_t begin = ps_clock_now_ns();
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return PS_FAIL(PS_ERR_IO, "%s: cannot lock: %s", path, strerror(errno));
        if (ps_clock_now_ns() - begin > LOCK_HOURS * INT64_C(3600000000000))
            return PS_FAIL(PS_ERR_IO, "%s: another process has held the lock for %d hours", path,
                           LOCK_HOURS);
        if (!*told) ps_log(PS_LOG_INFO, "another process converts %s: waiting for it", model);
        *told = true;
        const struct timespec pause = {0, LOCK_POLL_MS * 1000000L};
        nanosleep(&pause, NULL);
    }
    return PS_OK;
}

/* An exclusive lock on the file `path`. The descriptor holds it. Whoever had it before removed the
 * name: then there is a new file to lock. */
static ps_err take_lock(const char *path, const char *model, int *fd)
{
    bool told = false;
    for (;;) {
        *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (*fd < 0) return PS_FAIL(PS_ERR_IO, "%s: cannot make: %s", path, strerror(errno));
        PS_TRY(wait_for_lock(*fd, path, model, &told));
        if (is_there(*fd, path)) return PS_OK;
        close(*fd);
    }
}

/* Removes what converters that were killed have left of a model. The lock is held, so none is at
 * work. */
static void remove_parts(const char *model)
{
    const char *name = strrchr(model, '/') + 1;
    char *directory = ps_mem_copy_bytes(model, (size_t)(name - model));
    ps_text part = {0};
    ps_text_appendf(&part, "%s.part-", name);
    DIR *d = opendir(directory);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        if (strncmp(e->d_name, part.data, part.len) == 0) unlinkat(dirfd(d), e->d_name, 0);
    }
    if (d) closedir(d);
    ps_text_release(&part);
    ps_mem_free(directory);
}

static ps_err convert_once(const char *path, const char *model, bool progress)
{
    ps_text lock = {0};
    int fd = -1;
    ps_text_appendf(&lock, "%s.lock", model);
    ps_err err = take_lock(ps_text_str(&lock), path, &fd);
    if (!err) {
        remove_parts(model);
        if (access(model, R_OK) != 0) {
            ps_log(PS_LOG_INFO, "converting %s, once; kept as %s", path, model);
            const ps_convert_options options = {.progress = progress};
            err = ps_convert_model(path, model, &options);
        }
        unlink(ps_text_str(&lock));
    }
    if (fd >= 0) close(fd);
    ps_text_release(&lock);
    return err;
}

ps_err ps_cached_find(const char *path, const char *directory, bool progress, char **out)
{
    *out = NULL;
    ps_text model = {0};
    ps_err err = model_path(path, directory, &model);
    if (!err && access(ps_text_str(&model), R_OK) != 0)
        err = convert_once(path, ps_text_str(&model), progress);
    if (!err) *out = ps_text_take(&model);
    ps_text_release(&model);
    return err;
}
