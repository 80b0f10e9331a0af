/* Time: a clock that only goes forwards for measuring and waiting, and the date for reports.
 *
 * Errors: none.   MPI: local; the clocks of two hosts have nothing in common.
 */
#ifndef PS_BASE_CLOCK_H
#define PS_BASE_CLOCK_H

#include <stdint.h>

enum {
    PS_CLOCK_UTC_BYTES = 21,   // "2026-01-31T23:59:59Z" and its NUL
    PS_CLOCK_UTC_MS_BYTES = 25 // "2026-01-31T23:59:59.999Z" and its NUL
};

/* Nanoseconds since some moment before the process began. Cost: about 20 ns. */
int64_t ps_clock_now_ns(void);

/* Seconds from one such time to another; negative if `to` is the earlier one. */
double ps_clock_seconds_between(int64_t from_ns, int64_t to_ns);

/* Sleeps at least this long, through interruptions by signals; not at all for wait_us <= 0. */
void ps_clock_sleep_us(int64_t wait_us);

/* Seconds since 1970-01-01 UTC, without leap seconds. */
int64_t ps_clock_unix_s(void);

int64_t ps_clock_unix_ms(void); // the same in milliseconds

/* Such a time, year 1970 to 9999, as text in the form of ISO 8601. */
void ps_clock_utc_text(int64_t unix_s, char out[PS_CLOCK_UTC_BYTES]);
void ps_clock_utc_ms_text(int64_t unix_ms, char out[PS_CLOCK_UTC_MS_BYTES]);

#endif
