/* The one error type, and the one message that goes with it.
 *
 * The place that detects an error writes the message, once: what, where, wanted, found. Every
 * caller only passes the code on; the tool floor prints the message and turns the code into an exit
 * status. The message belongs to the thread that failed and stays valid until that thread fails
 * again.
 *
 * Cost: formatting into a fixed buffer, no allocation.   MPI: local.
 */
#ifndef PS_BASE_ERR_H
#define PS_BASE_ERR_H

typedef enum ps_err {
    PS_OK,
    PS_ERR_USAGE,       // the command line or a configuration file is wrong
    PS_ERR_NOMEM,       // memory that was asked for is not there
    PS_ERR_IO,          // the operating system refused a read, a write, a rename
    PS_ERR_FORMAT,      // a file is not what its format says
    PS_ERR_SHAPE,       // sizes that should agree do not
    PS_ERR_LIMIT,       // a documented limit was passed
    PS_ERR_UNSUPPORTED, // understood, but not something this program computes
    PS_ERR_NUMERIC,     // NaN or infinity where a number must stand
    PS_ERR_LOST,        // a rank died, stalled or spoke another protocol
    PS_ERR_CLOSED,      // whoever read our standard output went away
    PS_ERR_SAVED,       // stopped as asked, with everything saved to go on from
    PS_ERR_INTERRUPTED, // stopped by SIGINT
    PS_ERR_TERMINATED,  // stopped by SIGTERM
    PS_ERR_COUNT
} ps_err;

#define PS_MUST_CHECK        __attribute__((warn_unused_result))
#define PS_PRINTF(f, a)      __attribute__((format(printf, f, a)))
#define PS_ERR_MESSAGE_BYTES 1024

/* Writes the message of this thread and returns `code`, so that it reads `return ps_err_set(...)`.
 */
ps_err ps_err_set(ps_err code, const char *format, ...) PS_PRINTF(2, 3);

/* Message of the last failure in this thread; "" if there was none. Borrowed until the next one. */
const char *ps_err_message(void);

/* One word for a code, for reports and tests: "usage", "io", ... Static. */
const char *ps_err_name(ps_err code);

/* Exit status of the program for a code; the list stands in the help text. */
int ps_err_exit_status(ps_err code);

#define PS_FAIL(code, ...) ps_err_set((code), __VA_ARGS__)

/* For code that owns nothing yet; everything else uses one `out:` label. */
#define PS_TRY(call)                                                                               \
    do {                                                                                           \
        ps_err ps_try_err_ = (call);                                                               \
        if (ps_try_err_ != PS_OK) return ps_try_err_;                                              \
    } while (0)

#endif
