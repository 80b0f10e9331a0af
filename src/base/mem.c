/* The only file that calls malloc. Small allocations end the process when the system has nothing
 * left; big ones report. Regions come straight from mmap: page-aligned, zero, returned at once. */
#include "base/mem.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

bool ps_mem_mul(size_t a, size_t b, size_t *out)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product)) return false;
    *out = product;
    return true;
}

bool ps_mem_add(size_t a, size_t b, size_t *out)
{
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum)) return false;
    *out = sum;
    return true;
}

static _Noreturn void exhausted(size_t count, size_t size)
{
    ps_log(PS_LOG_ERROR, "out of memory: wanted %zu x %zu bytes", count, size);
    _exit(1);
}

void *ps_mem_new(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size ? size : 1);
    if (!p) exhausted(count, size);
    return p;
}

void *ps_mem_grow(void *array, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity) return array;
    size_t wanted = *capacity < 8 ? 8 : *capacity;
    while (wanted < need) {
        if (!ps_mem_mul(wanted, 2, &wanted)) exhausted(need, size);
    }
    size_t bytes;
    if (!ps_mem_mul(wanted, size, &bytes)) exhausted(wanted, size);
    void *p = realloc(array, bytes);
    if (!p) exhausted(wanted, size);
    *capacity = wanted;
    return p;
}

char *ps_mem_copy_bytes(const void *bytes, size_t n)
{
    char *copy = ps_mem_new(n + 1, 1);
    if (n) memcpy(copy, bytes, n);
    return copy;
}

char *ps_mem_copy_text(const char *text)
{
    return ps_mem_copy_bytes(text, strlen(text));
}

void ps_mem_free(void *p)
{
    free(p);
}

/* Takes the pages now: what was planned is then really there, and no step of the work waits for the
 * kernel to find and clear a page. Kernels before 5.14 do not know the advice; the pages are
 * touched instead. */
static void populate(char *base, size_t bytes)
{
    if (madvise(base, bytes, MADV_POPULATE_WRITE) == 0) return;
    for (size_t i = 0; i < bytes; i += 4096) {
        ((volatile char *)base)[i] = 0;
    }
}

ps_err ps_region_reserve(size_t bytes, const char *what, ps_region *out)
{
    *out = (ps_region){0};
    if (bytes == 0) return PS_OK;
    const size_t huge = (size_t)2 << 20;
    size_t mapped;
    if (!ps_mem_add(bytes, bytes >= huge ? huge - 1 : 4095, &mapped)) {
        return PS_FAIL(PS_ERR_NOMEM, "%s: a size of %zu bytes overflows", what, bytes);
    }
    mapped -= mapped % (bytes >= huge ? huge : 4096);
    void *base = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
        return PS_FAIL(PS_ERR_NOMEM, "%s: no %.1f MiB of memory to be had", what,
                       (double)bytes / 1048576.0);
    }
    if (bytes >= huge) madvise(base, mapped, MADV_HUGEPAGE);
    *out = (ps_region){.base = base, .bytes = bytes, .mapped = mapped};
    return PS_OK;
}

ps_err ps_region_take(size_t bytes, const char *what, ps_region *out)
{
    PS_TRY(ps_region_reserve(bytes, what, out));
    if (out->base) populate(out->base, out->mapped);
    return PS_OK;
}

void ps_region_release(ps_region *region)
{
    if (region->base) munmap(region->base, region->mapped);
    *region = (ps_region){0};
}

ps_arena ps_arena_counting(void)
{
    return (ps_arena){.base = NULL, .bytes = SIZE_MAX, .used = 0};
}

ps_arena ps_arena_over(const ps_region *region)
{
    return (ps_arena){.base = region->base, .bytes = region->bytes, .used = 0};
}

void *ps_arena_take(ps_arena *arena, size_t count, size_t size)
{
    size_t bytes, rounded = 0, used;
    bool fits = ps_mem_mul(count, size, &bytes) && ps_mem_add(bytes, PS_MEM_ALIGN - 1, &rounded);
    rounded -= rounded % PS_MEM_ALIGN;
    fits = fits && ps_mem_add(arena->used, rounded, &used) && used <= arena->bytes;
    assert(fits && "an arena is sized by a counting pass");
    void *p = arena->base ? arena->base + arena->used : NULL;
    arena->used = used;
    return p;
}

/* One number from a one-line file of the kernel; SIZE_MAX when absent, "max" or not a number. */
static size_t read_limit_file(const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f) return SIZE_MAX;
    unsigned long long value = 0;
    const bool ok = fscanf(f, "%llu", &value) == 1;
    fclose(f);
    // cgroup v1 says "no limit" with a number close to 2^63.
    return ok && value > 0 && value < (1ULL << 60) ? (size_t)value : SIZE_MAX;
}

/* Least limit on the way from this process's cgroup up to the root, for both cgroup versions. */
static size_t cgroup_limit(void)
{
    size_t least = SIZE_MAX;
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (!f) return least;
    char line[1024];
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path) continue;
        *path++ = '\0';
        const bool v2 = controllers[1] == '\0';
        if (!v2 && !strstr(controllers, "memory")) continue;
        for (;;) {
            char file[1200];
            snprintf(file, sizeof file, "/sys/fs/cgroup%s%s/%s", v2 ? "" : "/memory", path,
                     v2 ? "memory.max" : "memory.limit_in_bytes");
            const size_t value = read_limit_file(file);
            if (value < least) least = value;
            char *slash = strrchr(path, '/');
            if (!slash || path[0] == '\0') break;
            *slash = '\0';
        }
    }
    fclose(f);
    return least;
}

size_t ps_mem_limit(const char **source)
{
    const long pages = sysconf(_SC_PHYS_PAGES);
    const long page_bytes = sysconf(_SC_PAGESIZE);
    struct {
        const char *name;
        size_t bytes;
    } limits[4] = {{"machine", pages > 0 ? (size_t)pages * (size_t)page_bytes : SIZE_MAX},
                   {"cgroup", cgroup_limit()},
                   {"RLIMIT_AS", SIZE_MAX},
                   {"RLIMIT_DATA", SIZE_MAX}};
    struct rlimit r;
    if (getrlimit(RLIMIT_AS, &r) == 0 && r.rlim_cur != RLIM_INFINITY) limits[2].bytes = r.rlim_cur;
    if (getrlimit(RLIMIT_DATA, &r) == 0 && r.rlim_cur != RLIM_INFINITY)
        limits[3].bytes = r.rlim_cur;
    int least = 0;
    for (int i = 1; i < 4; i++) {
        if (limits[i].bytes < limits[least].bytes) least = i;
    }
    if (source) *source = limits[least].name;
    return limits[least].bytes;
}

/* Bytes that a line "KEY: N kB" of one of the kernel's files says; `none` without such a line. */
static size_t read_kib(const char *path, const char *key, size_t none)
{
    FILE *f = fopen(path, "re");
    if (!f) return none;
    char line[256];
    size_t bytes = none;
    const size_t n = strlen(key);
    while (fgets(line, sizeof line, f)) {
        unsigned long long kib;
        if (strncmp(line, key, n) != 0 || line[n] != ':') continue;
        if (sscanf(line + n + 1, " %llu kB", &kib) == 1) bytes = (size_t)kib * 1024;
        break;
    }
    fclose(f);
    return bytes;
}

/* Not getrusage: its maximum begins with that of the process that started this one. */
size_t ps_mem_peak_resident(void)
{
    return read_kib("/proc/self/status", "VmHWM", 0);
}

size_t ps_mem_data(void)
{
    return read_kib("/proc/self/status", "VmData", 0);
}

size_t ps_mem_available(void)
{
    return read_kib("/proc/meminfo", "MemAvailable", SIZE_MAX);
}

/* Pages of this process: all that are mapped, and those in memory. */
static bool read_statm(unsigned long long *mapped, unsigned long long *resident)
{
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f) return false;
    const bool ok = fscanf(f, "%llu %llu", mapped, resident) == 2;
    fclose(f);
    return ok;
}

size_t ps_mem_resident(void)
{
    unsigned long long mapped, resident;
    return read_statm(&mapped, &resident) ? (size_t)resident * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

size_t ps_mem_mapped(void)
{
    unsigned long long mapped, resident;
    return read_statm(&mapped, &resident) ? (size_t)mapped * (size_t)sysconf(_SC_PAGESIZE) : 0;
}
