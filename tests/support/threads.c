#include "support/threads.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

int threads_of_process(void)
{
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks) return -1;
    int n = 0;
    for (const struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
        n += entry->d_name[0] != '.';
    }
    closedir(tasks);
    return n;
}

bool threads_become(int n)
{
    const int64_t until_ns = ps_clock_now_ns() + 5000000000;
    while (threads_of_process() != n) {
        if (ps_clock_now_ns() > until_ns) return false;
        ps_clock_sleep_us(100);
    }
    return true;
}

size_t threads_address_space_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file) return 0;
    unsigned long pages = 0;
    if (fscanf(file, "%lu", &pages) != 1) pages = 0;
    fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

size_t threads_stack_bytes(void)
{
    pthread_attr_t attributes;
    size_t bytes = 0;
    if (pthread_attr_init(&attributes) != 0) return 0;
    pthread_attr_getstacksize(&attributes, &bytes);
    pthread_attr_destroy(&attributes);
    return bytes;
}

#if defined(__has_feature)
#define HAS_FEATURE(x) __has_feature(x)
#else
#define HAS_FEATURE(x) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||                               \
    HAS_FEATURE(address_sanitizer) || HAS_FEATURE(thread_sanitizer)
bool threads_can_be_refused(void)
{
    return false;
}
#else
bool threads_can_be_refused(void)
{
    return threads_address_space_bytes() > 0;
}
#endif

#ifdef __SSE2__
#include <xmmintrin.h>

void threads_flush_denormals(void)
{
    _mm_setcsr(_mm_getcsr() | 0x8040); // flush to zero, denormals are zero
}
#else
void threads_flush_denormals(void)
{
}
#endif
