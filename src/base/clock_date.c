/* Dates, apart from base/clock.c because a simulator brings a clock of its own in its place. */
#include <assert.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"

int64_t ps_clock_unix_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec;
}

int64_t ps_clock_unix_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void ps_clock_utc_text(int64_t unix_s, char out[PS_CLOCK_UTC_BYTES])
{
    assert(unix_s >= 0 && unix_s <= 253402300799);
    const time_t seconds = (time_t)unix_s;
    struct tm date;
    gmtime_r(&seconds, &date);
    strftime(out, PS_CLOCK_UTC_BYTES, "%Y-%m-%dT%H:%M:%SZ", &date);
}

void ps_clock_utc_ms_text(int64_t unix_ms, char out[PS_CLOCK_UTC_MS_BYTES])
{
    const size_t behind_seconds = PS_CLOCK_UTC_BYTES - 2; // where the Z stands without them
    ps_clock_utc_text(unix_ms / 1000, out);
    snprintf(out + behind_seconds, PS_CLOCK_UTC_MS_BYTES - behind_seconds, ".%03uZ",
             (unsigned)((uint64_t)unix_ms % 1000));
}
