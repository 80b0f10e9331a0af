/* One message per thread in a fixed buffer: failing must never need memory. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char message[PS_ERR_MESSAGE_BYTES];

static const struct {
    const char *name;
    int exit_status;
} table[PS_ERR_COUNT] = {
    [PS_OK] = {"ok", 0},
    [PS_ERR_USAGE] = {"usage", 2},
    [PS_ERR_NOMEM] = {"nomem", 1},
    [PS_ERR_IO] = {"io", 1},
    [PS_ERR_FORMAT] = {"format", 1},
    [PS_ERR_SHAPE] = {"shape", 1},
    [PS_ERR_LIMIT] = {"limit", 1},
    [PS_ERR_UNSUPPORTED] = {"unsupported", 1},
    [PS_ERR_NUMERIC] = {"numeric", 1},
    [PS_ERR_LOST] = {"lost", 3},
    [PS_ERR_CLOSED] = {"closed", 4},
    [PS_ERR_SAVED] = {"saved", 75},
    [PS_ERR_INTERRUPTED] = {"interrupted", 130},
    [PS_ERR_TERMINATED] = {"terminated", 143},
};

ps_err ps_err_set(ps_err code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return code;
}

const char *ps_err_message(void)
{
    return message;
}

const char *ps_err_name(ps_err code)
{
    return table[code].name;
}

int ps_err_exit_status(ps_err code)
{
    return table[code].exit_status;
}
