#include "base/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

enum { LOCK_BYTES_MAX = 4096, TAKING_STALE_S = 60 };

/* Who holds a lock, as it stands in the file. */
typedef struct holder {
    ps_text line;
    json_t *object; // the texts below are its
    const char *host, *space, *boot, *job;
    int pid, restart;
    const char *start; // of the process, in ticks since the boot; a text, since it may be large
} holder;

struct ps_lock {
    char *path; // owned
    ps_text line;
    int64_t renewed_ns;
};

static ps_err fail_errno(const char *path, const char *verb)
{
    return PS_FAIL(PS_ERR_IO, "%s: cannot %s: %s", path, verb, strerror(errno));
}

/* ---- this process ---- */

/* Field 22 of /proc/PID/stat; no text when there is no such process. The name in field 2 may hold
 * anything, so fields are counted from its closing bracket. A zombie is as good as dead. */
static void append_start(int pid, ps_text *out)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    if (!file) return;
    const size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = '\0';
    char *save = NULL, *at = strrchr(text, ')');
    if (!at) return;
    char *word = strtok_r(at + 1, " ", &save);
    if (!word || *word == 'Z' || *word == 'X') return;
    for (int field = 3; word && field < 22; field++) {
        word = strtok_r(NULL, " ", &save);
    }
    if (word) ps_text_append_str(out, word);
}

static void append_boot(ps_text *out)
{
    char text[64] = "";
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (!file) return;
    if (!fgets(text, sizeof text, file)) text[0] = '\0';
    fclose(file);
    text[strcspn(text, "\n")] = '\0';
    ps_text_append_str(out, text);
}

static void append_space(ps_text *out)
{
    char text[64];
    const ssize_t n = readlink("/proc/self/ns/pid", text, sizeof text);
    if (n > 0) ps_text_append(out, text, (size_t)n);
}

void ps_lock_batch_job(ps_text *job, int *restart)
{
    static const char *const ids[][2] = {{"SLURM_JOB_ID", "slurm"},
                                         {"PBS_JOBID", "pbs"},
                                         {"LSB_JOBID", "lsf"},
                                         {"FLUX_JOB_ID", "flux"}};
    const char *count = getenv("SLURM_RESTART_COUNT");
    *restart = count ? (int)strtol(count, NULL, 10) : 0;
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        const char *id = getenv(ids[i][0]);
        if (!id || *id == '\0') continue;
        ps_text_appendf(job, "%s %s", ids[i][1], id);
        return;
    }
}

static void append_text(ps_text *out, const char *key, const ps_text *value)
{
    ps_text_appendf(out, ", \"%s\": ", key);
    ps_json_append_text(out, ps_text_str(value), value->len);
}

static void describe_self(ps_text *out)
{
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    ps_text start = {0}, boot = {0}, space = {0}, job = {0};
    int restart;
    append_start((int)getpid(), &start);
    append_boot(&boot);
    append_space(&space);
    ps_lock_batch_job(&job, &restart);
    ps_text_append_str(out, "{\"host\": ");
    ps_json_append_text(out, host, strlen(host));
    ps_text_appendf(out, ", \"pid\": %ld", (long)getpid());
    append_text(out, "start", &start);
    append_text(out, "namespace", &space);
    append_text(out, "boot", &boot);
    append_text(out, "job", &job);
    ps_text_appendf(out, ", \"restart\": %d}\n", restart);
    ps_text_release(&start);
    ps_text_release(&boot);
    ps_text_release(&space);
    ps_text_release(&job);
}

/* ---- another's lock ---- */

static void release_holder(holder *h)
{
    json_decref(h->object);
    ps_text_release(&h->line);
    *h = (holder){0};
}

static ps_err parse_holder(holder *h, const char *path)
{
    PS_TRY(ps_json_parse(ps_text_str(&h->line), h->line.len, path, &h->object));
    PS_TRY(ps_json_get_text(h->object, "host", path, &h->host));
    PS_TRY(ps_json_get_int(h->object, "pid", 1, INT32_MAX, path, &h->pid));
    PS_TRY(ps_json_get_text(h->object, "start", path, &h->start));
    PS_TRY(ps_json_get_text(h->object, "namespace", path, &h->space));
    PS_TRY(ps_json_get_text(h->object, "boot", path, &h->boot));
    PS_TRY(ps_json_get_text(h->object, "job", path, &h->job));
    return ps_json_get_int(h->object, "restart", 0, INT32_MAX, path, &h->restart);
}

static bool same_text(const json_t *a, const json_t *b, const char *key)
{
    const char *x = json_string_value(json_object_get(a, key));
    const char *y = json_string_value(json_object_get(b, key));
    return x && y && *x != '\0' && strcmp(x, y) == 0;
}

static bool is_running(const holder *h)
{
    ps_text start = {0};
    append_start(h->pid, &start);
    const bool running = start.len > 0 && strcmp(ps_text_str(&start), h->start) == 0;
    ps_text_release(&start);
    return running;
}

/* Seconds that the lock is older than a file created now, by the file system's clock. */
static ps_err find_age(const char *path, const char *fresh, double *age_s)
{
    struct stat lock, now;
    if (stat(fresh, &now) != 0) return fail_errno(fresh, "stat");
    if (stat(path, &lock) != 0) return fail_errno(path, "stat");
    *age_s = (double)(now.st_mtim.tv_sec - lock.st_mtim.tv_sec) +
             1e-9 * (double)(now.st_mtim.tv_nsec - lock.st_mtim.tv_nsec);
    return PS_OK;
}

static void describe_holder(const holder *h, ps_text *out)
{
    if (*h->job) ps_text_appendf(out, "job %s, ", h->job);
    ps_text_appendf(out, "process %d on %s", h->pid, h->host);
}

/* Whether the holder is dead. `own` is this job's line, `fresh` a file that was just created. */
static ps_err judge(const holder *h, const char *path, const ps_text *own, const char *fresh,
                    bool *dead)
{
    json_t *self;
    int restart = 0;
    PS_TRY(ps_json_parse(ps_text_str(own), own->len, path, &self));
    ps_err err = ps_json_get_int(self, "restart", 0, INT32_MAX, path, &restart);
    if (same_text(h->object, self, "host") && same_text(h->object, self, "boot") &&
        same_text(h->object, self, "namespace")) {
        *dead = !is_running(h);
    } else if (same_text(h->object, self, "job") && h->restart < restart) {
        *dead = true;
    } else {
        double age_s = 0.0;
        if (!err) err = find_age(path, fresh, &age_s);
        *dead = age_s > PS_LOCK_LEASE_S;
    }
    json_decref(self);
    return err;
}

/* ---- taking ---- */

/* A file with this job's line, to be linked to. */
static ps_err write_fresh(const char *path, const ps_text *line)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return fail_errno(path, "create");
    ps_err err = ps_file_write_all(fd, line->data, line->len, path);
    if (!err && fsync(fd) != 0 && errno != EINVAL) err = fail_errno(path, "fsync");
    if (close(fd) != 0 && !err) err = fail_errno(path, "close");
    return err;
}

/* *taken: the name was free, and is this job's now. */
static ps_err link_free(const char *fresh, const char *path, const ps_text *line, bool *taken)
{
    *taken = link(fresh, path) == 0;
    if (*taken || errno == EEXIST) return PS_OK;
    if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS && errno != EMLINK)
        return fail_errno(path, "create");
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno == EEXIST) return PS_OK;
    if (fd < 0) return fail_errno(path, "create");
    *taken = true;
    const ps_err err = ps_file_write_all(fd, line->data, line->len, path);
    close(fd);
    return err;
}

/* Under the second lock: the holder is still the one that was found dead. */
static ps_err replace_dead(const char *path, const char *fresh, const holder *h)
{
    ps_text now = {0};
    ps_err err = ps_file_read(path, LOCK_BYTES_MAX, &now);
    if (!err && (now.len != h->line.len || memcmp(now.data, h->line.data, now.len) != 0))
        err = PS_FAIL(PS_ERR_LIMIT, "%s: another job has just taken it over", path);
    if (!err && rename(fresh, path) != 0) err = fail_errno(path, "take over");
    ps_text_release(&now);
    return err;
}

static ps_err take_over(const char *path, const char *fresh, const ps_text *line, const holder *h)
{
    ps_text second = {0};
    ps_text_appendf(&second, "%s.taking", path);
    const char *name = ps_text_str(&second);
    bool taken;
    double age_s = 0.0;
    ps_err err = link_free(fresh, name, line, &taken);
    // One who died while taking over: the next try finds it gone.
    if (!err && !taken && find_age(name, fresh, &age_s) == PS_OK && age_s > TAKING_STALE_S)
        unlink(name);
    if (!err && !taken)
        err =
            PS_FAIL(PS_ERR_LIMIT, "%s: another job is about to take over a dead job's lock", path);
    if (!err) {
        err = replace_dead(path, fresh, h);
        unlink(name);
    }
    ps_text_release(&second);
    return err;
}

/* The lock is there: is its holder alive? */
static ps_err take_held(const char *path, const char *fresh, const ps_text *line, ps_text *dead)
{
    holder h = {0};
    bool is_dead = false;
    ps_text who = {0};
    ps_err err = ps_file_read(path, LOCK_BYTES_MAX, &h.line);
    if (!err) err = parse_holder(&h, path);
    if (err == PS_ERR_FORMAT)
        err = PS_FAIL(PS_ERR_FORMAT, "%s: is no lock file: remove it if no job is running", path);
    if (!err) err = judge(&h, path, line, fresh, &is_dead);
    if (!err) describe_holder(&h, &who);
    if (!err && !is_dead)
        err = PS_FAIL(PS_ERR_LIMIT, "%s: is held by %s, which is running", path, ps_text_str(&who));
    if (!err) err = take_over(path, fresh, line, &h);
    if (!err && dead)
        ps_text_appendf(dead, "the lock of %s, which is dead, was taken over", ps_text_str(&who));
    ps_text_release(&who);
    release_holder(&h);
    return err;
}

ps_err ps_lock_take(const char *path, ps_text *dead, ps_lock **out)
{
    *out = NULL;
    ps_text line = {0};
    describe_self(&line);
    char *fresh = ps_file_temporary_name(path);
    bool taken = false;
    ps_err err = write_fresh(fresh, &line);
    if (!err) err = link_free(fresh, path, &line, &taken);
    if (!err && !taken) err = take_held(path, fresh, &line, dead);
    unlink(fresh);
    ps_mem_free(fresh);
    if (err) {
        ps_text_release(&line);
        return err;
    }
    *out = ps_mem_new(1, sizeof **out);
    **out =
        (ps_lock){.path = ps_mem_copy_text(path), .line = line, .renewed_ns = ps_clock_now_ns()};
    return PS_OK;
}

/* ---- holding ---- */

static bool is_ours(const ps_lock *lock)
{
    ps_text now = {0};
    const bool ours = ps_file_read(lock->path, LOCK_BYTES_MAX, &now) == PS_OK &&
                      now.len == lock->line.len && memcmp(now.data, lock->line.data, now.len) == 0;
    ps_text_release(&now);
    return ours;
}

ps_err ps_lock_renew(ps_lock *lock)
{
    const int64_t now = ps_clock_now_ns();
    if (now - lock->renewed_ns < PS_LOCK_RENEW_S * 1000000000LL) return PS_OK;
    lock->renewed_ns = now;
    if (!is_ours(lock))
        return PS_FAIL(PS_ERR_IO,
                       "%s: is not this job's any more: another one took it, or it was "
                       "removed",
                       lock->path);
    return utimensat(AT_FDCWD, lock->path, NULL, 0) == 0 ? PS_OK : fail_errno(lock->path, "touch");
}

void ps_lock_release(ps_lock *lock)
{
    if (!lock) return;
    if (is_ours(lock)) unlink(lock->path);
    ps_text_release(&lock->line);
    ps_mem_free(lock->path);
    ps_mem_free(lock);
}
