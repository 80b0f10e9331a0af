#include "tool/pictures/ranges.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Digits alone: no sign, no blanks. */
static bool parse_number(const char **at, int64_t *out)
{
    if (!isdigit((unsigned char)**at)) return false;
    char *end;
    errno = 0;
    *out = strtoll(*at, &end, 10);
    *at = end;
    return errno == 0;
}

static bool parse_item(const char **at, int64_t *first, int64_t *last)
{
    if (!parse_number(at, first)) return false;
    *last = *first;
    if (**at != '-') return true;
    (*at)++;
    if (**at == ',' || **at == '\0') {
        *last = INT64_MAX;
        return true;
    }
    return parse_number(at, last) && *first <= *last;
}

ps_err ps_ranges_parse(const char *option, const char *text, int64_t highest, ps_ranges *out)
{
    *out = (ps_ranges){0};
    if (strcmp(text, "all") == 0) {
        *out = ps_ranges_all();
        return PS_OK;
    }
    for (const char *at = text;; at++) {
        int64_t first, last;
        if (out->n == PS_RANGES_MAX)
            return PS_FAIL(PS_ERR_USAGE, "--%s: more than %d ranges", option, (int)PS_RANGES_MAX);
        if (!parse_item(&at, &first, &last) || (*at != ',' && *at != '\0'))
            return PS_FAIL(PS_ERR_USAGE,
                           "--%s %s: wanted numbers and ranges such as 0,3,8-15 or 20-, or all",
                           option, text);
        if (first > highest || (last != INT64_MAX && last > highest))
            return PS_FAIL(PS_ERR_USAGE, "--%s %s: the highest is %lld", option, text,
                           (long long)highest);
        out->item[out->n].first = first;
        out->item[out->n++].last = last;
        if (*at == '\0') return PS_OK;
    }
}

ps_ranges ps_ranges_all(void)
{
    ps_ranges all = {.n = 1};
    all.item[0].last = INT64_MAX;
    return all;
}

void ps_ranges_add(ps_ranges *ranges, int64_t number)
{
    assert(ranges->n < PS_RANGES_MAX);
    ranges->item[ranges->n].first = ranges->item[ranges->n].last = number;
    ranges->n++;
}

bool ps_ranges_hold(const ps_ranges *ranges, int64_t number)
{
    for (int i = 0; i < ranges->n; i++) {
        if (number >= ranges->item[i].first && number <= ranges->item[i].last) return true;
    }
    return false;
}

int64_t ps_ranges_highest(const ps_ranges *ranges)
{
    int64_t highest = -1;
    for (int i = 0; i < ranges->n; i++) {
        const int64_t first = ranges->item[i].first, last = ranges->item[i].last;
        const int64_t named = last == INT64_MAX ? first : last;
        if (named > highest) highest = named;
    }
    return highest;
}
