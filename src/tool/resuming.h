/* Jobs that go on where they ended: their options, and the ledger that these open.
 *
 * MPI: rank 0.
 */
#ifndef PS_TOOL_RESUMING_H
#define PS_TOOL_RESUMING_H

#include "tool/job.h"
#include "tool/ledger.h"

typedef struct ps_resuming_options {
    int order, resume; // ps_ledger_order, ps_resume
    bool journal;
    double stop_after_s;
} ps_resuming_options;

/* The group over the caller's struct. */
ps_opt_group ps_resuming_group(ps_resuming_options *target);

/* An input counts by its contents: adds a line to what must be the same in a run that goes on. */
void ps_resuming_add_input(ps_text *inputs, const char *name, const void *bytes, size_t n);

/* Opens the ledger of n requests, and begins the run's record (tool/run_record.h). A run that goes
 * on must have the program, model, inputs (lines of ps_resuming_add_input) and options of the one
 * before, but for those that change no result and those in free_options[], which ends with NULL.
 * exact: equal runs give equal bytes. */
typedef struct ps_resuming_params {
    const ps_resuming_options *options;
    const ps_job *job;
    const char *out;
    size_t n;
    const ps_text *inputs;
    const char *const *free_options;
    bool exact;
} ps_resuming_params;

ps_err ps_resuming_open(const ps_resuming_params *params, ps_ledger **out) PS_MUST_CHECK;

/* When something ended the work: what there is goes into the journal and onto the disk. note(arg)
 * adds what is under way; NULL: nothing of it. Returns the error that ended it, or why the journal
 * could not be written if it was a stop that promises one. */
ps_err ps_resuming_save(ps_ledger *l, ps_err (*note)(void *arg), void *arg,
                        ps_err err) PS_MUST_CHECK;

#endif
