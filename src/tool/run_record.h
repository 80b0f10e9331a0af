/* The record of a run: what ran, where, how far it came and why it ended, as JSON beside the
 * output. Launchers change exit statuses, so this is what batch scripts decide by.
 *
 *   OUTPUT.run.json   one key a line, in this order:
 *     format, version   "pipestep-run", 1
 *     state             "running"; "ended"
 *     exit_status       null while it runs; what the program ends with (a launcher may say another)
 *     reason            "" while it runs; "done", or an error's word (base/err.h): "saved", "lost"
 *     message           the error's line
 *     program_version, mpi, command, arguments [...], options ["name = value", ...] in force
 *     model, model_identity
 *     host, pid         of rank 0
 *     job, restart      the batch system's job ("slurm 4711"; "") and how often it began again
 *     begun, ended      UTC; ended is null while it runs
 *     ranks, stages     [{"rank", "ring", "host", "first_layer", "end_layer", "threads"}]; null
 *                       where it is not known: layers before the plan, threads of others when they
 *                       did not report
 *     output, journal   paths; journal is null when there is none (any more)
 *     requests          {"all", "finished", "failed", "left"}: of all runs; finished + failed +
 *                       left are all, failed ones have a result that says why
 *     tokens            {"prompt", "generated", "begun"} of this run; begun: of earlier ones, fed
 *                       again; null when other rings did not come to say theirs
 *     earlier_runs      that had a part in this output
 *
 * It is replaced as a whole: with state running as soon as output, lock and journal are this run's,
 * and when the run ends, however it does, unless it is killed: state is running then. A run that
 * ends before its output is open (no model, another job's lock, another job's journal) leaves it as
 * it is.
 *
 * Errors: PS_ERR_IO.   MPI: rank 0.   Cost: two fsyncs each.
 */
#ifndef PS_TOOL_RUN_RECORD_H
#define PS_TOOL_RUN_RECORD_H

#include "tool/job.h"
#include "tool/ledger.h"

/* Both do nothing for an output that is no regular file, end also for a ledger that is NULL: not
 * opened. `err`: how the run ends; its message is ps_err_message's. */
ps_err ps_run_record_begin(const ps_job *job, const ps_ledger *ledger) PS_MUST_CHECK;
ps_err ps_run_record_end(const ps_job *job, const ps_ledger *ledger, ps_err err) PS_MUST_CHECK;

/* The text of the record. */
void ps_run_record_describe(const ps_job *job, const ps_ledger *ledger, bool ended, ps_err err,
                            ps_text *out);

#endif
