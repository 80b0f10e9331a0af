/* When a long job is to stop: signals, --stop-after, the batch system's end of the job.
 *
 * Slurm tells when it will end a job (SLURM_JOB_END_TIME, seconds since 1970). The job stops before
 * that by a tenth of the time that was left when it began, at least 5 and at most 120 s: steps end
 * and files are written in that time. All times are counted by a clock that nobody sets.
 *
 * Errors: PS_ERR_SAVED, PS_ERR_INTERRUPTED, PS_ERR_TERMINATED: what check returns once it is time.
 * MPI: rank 0.
 */
#ifndef PS_TOOL_STOPPING_H
#define PS_TOOL_STOPPING_H

#include "pipe/watch.h"

typedef struct ps_stopping {
    int64_t begun_ns;         // when the program began
    int64_t after_ns, end_ns; // 0: never
    const ps_watch *watch;
    const char *what, *journal; // borrowed; journal NULL: there is none
} ps_stopping;

/* As early as possible. */
ps_stopping ps_stopping_open(void);

/* `what` names the work in messages. */
void ps_stopping_begin(ps_stopping *s, const ps_watch *watch, const char *what, const char *journal,
                       double after_s);

ps_err ps_stopping_check(const ps_stopping *s) PS_MUST_CHECK;

/* Whether the error is such a stop. */
bool ps_stopping_asked(ps_err err);

#endif
