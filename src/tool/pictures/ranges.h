/* Lists of numbers as options write them: "3", "0,2,5-7", "100-" (to the end), "all".
 *
 * Errors: PS_ERR_USAGE with the option's name.   MPI: local.
 */
#ifndef PS_TOOL_PICTURES_RANGES_H
#define PS_TOOL_PICTURES_RANGES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { PS_RANGES_MAX = 64 };

typedef struct ps_ranges {
    int n;
    struct {
        int64_t first, last; // both included; last INT64_MAX: no end
    } item[PS_RANGES_MAX];
} ps_ranges;

/* "--option text". Numbers are at most `highest`; a range goes upwards. */
ps_err ps_ranges_parse(const char *option, const char *text, int64_t highest,
                       ps_ranges *out) PS_MUST_CHECK;

ps_ranges ps_ranges_all(void);
void ps_ranges_add(ps_ranges *ranges, int64_t number);
bool ps_ranges_hold(const ps_ranges *ranges, int64_t number);

/* The highest number that is named; -1 when only open ranges are. */
int64_t ps_ranges_highest(const ps_ranges *ranges);

#endif
