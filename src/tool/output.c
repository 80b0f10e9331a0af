#include "tool/output.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "pipe/comm.h"

enum { WAIT_MS = 20 };

/* Waits until a write of up to PIPE_BUF bytes would not block. */
static ps_err wait_writable(const ps_output *output)
{
    for (;;) {
        struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};
        const int ready = poll(&p, 1, WAIT_MS);
        // Errors and hang-ups show in the write that follows.
        if (ready > 0 || (ready < 0 && errno != EINTR)) return PS_OK;
        if (output->wait) PS_TRY(output->wait(output->arg));
    }
}

ps_err ps_output_write(const ps_output *output, const char *bytes, size_t n)
{
    while (n > 0) {
        const size_t piece = n < PIPE_BUF ? n : PIPE_BUF;
        PS_TRY(wait_writable(output));
        const ps_err err = ps_file_write_all(STDOUT_FILENO, bytes, piece, "standard output");
        // A stream that was closed from the start is held by a descriptor that cannot be written.
        if (err && errno == EBADF)
            return PS_FAIL(PS_ERR_CLOSED, "standard output: was closed before the program began");
        PS_TRY(err);
        bytes += piece;
        n -= piece;
    }
    return PS_OK;
}

bool ps_output_is_terminal(void)
{
    int rank;
    // mpirun gives its ranks a terminal of its own making, whatever its output goes to.
    return !ps_comm_launched(&rank) && isatty(STDOUT_FILENO);
}
