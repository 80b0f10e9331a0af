/* base/clock for the simulator: its headers turn clock_gettime and nanosleep into those of the
 * simulated clock, but not clock_nanosleep, which base/clock sleeps with. */
#include "base/clock.h"

#include <time.h>

int64_t ps_clock_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

double ps_clock_seconds_between(int64_t from_ns, int64_t to_ns)
{
    return (double)(to_ns - from_ns) * 1e-9;
}

void ps_clock_sleep_us(int64_t wait_us)
{
    if (wait_us <= 0) return;
    const struct timespec wait = {.tv_sec = (time_t)(wait_us / 1000000),
                                  .tv_nsec = (long)(wait_us % 1000000) * 1000};
    nanosleep(&wait, NULL);
}
