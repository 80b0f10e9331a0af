/* Standard output that may be slow, closed or full.
 *
 * Before each write the output is polled, and while its reader is slow the waiting function runs,
 * so that rank 0 goes on giving signs of life. A reader that has gone away is PS_ERR_CLOSED,
 * anything else PS_ERR_IO.
 */
#ifndef PS_TOOL_OUTPUT_H
#define PS_TOOL_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

typedef struct ps_output {
    ps_err (*wait)(void *arg); // may be NULL
    void *arg;
} ps_output;

ps_err ps_output_write(const ps_output *output, const char *bytes, size_t n) PS_MUST_CHECK;

/* True when somebody reads standard output on a terminal, as far as that can be known. */
bool ps_output_is_terminal(void);

#endif
