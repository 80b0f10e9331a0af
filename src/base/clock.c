/* CLOCK_MONOTONIC through the vDSO. Sleeping is to an absolute time, so that interruptions do not
 * add up. */
#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <time.h>

#define NS_PER_S 1000000000LL

int64_t ps_clock_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

double ps_clock_seconds_between(int64_t from_ns, int64_t to_ns)
{
    return (double)(to_ns - from_ns) * 1e-9;
}

void ps_clock_sleep_us(int64_t wait_us)
{
    if (wait_us <= 0) return;
    assert(wait_us <= INT64_MAX / 2000);
    const int64_t end_ns = ps_clock_now_ns() + wait_us * 1000;
    const struct timespec end = {.tv_sec = (time_t)(end_ns / NS_PER_S),
                                 .tv_nsec = (long)(end_ns % NS_PER_S)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR) {
    }
}
