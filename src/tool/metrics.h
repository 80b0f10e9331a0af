/* How far a run is, as a file in Prometheus' text format (--metrics), for the textfile collector of
 * node_exporter: each time a new file in the place of the old one.
 *
 *   pipestep_info{version, command, model, model_identity}      1
 *   pipestep_start_time_seconds, pipestep_update_time_seconds   since 1970
 *   pipestep_running                        1, 0 in the end
 *   pipestep_exit_status                    in the end only
 *   pipestep_requests{state}                finished, failed, begun, waiting
 *   pipestep_tokens_total{ring, kind}       prompt, generated
 *   pipestep_tokens_per_second{ring, kind}  since the last update; in the end of the whole run
 *   pipestep_slots, pipestep_slots_used{ring}
 *   pipestep_cache_bytes{rank}              taken for keys and values
 *   pipestep_time_ratio{rank, host, activity}  busy, wait, send: rank 0's; in the end all ranks'
 *
 * Requests are those of all rings; rank 0 knows tokens and slots of its own ring, and in the end,
 * when the work was done, tokens of the others too.
 *
 * It is written between two steps of the work, so a job that stands still shows by its time of
 * update.
 * A file that cannot be written is a warning, once: the work goes on.
 *
 * Errors: none.   MPI: rank 0.   Cost: of due a look at the clock; a file is written without
 * fsync.
 */
#ifndef PS_TOOL_METRICS_H
#define PS_TOOL_METRICS_H

#include "tool/job.h"

typedef struct ps_metrics_work {
    uint64_t finished, failed, begun, waiting; // requests, each in one of these
    uint64_t prompt_tokens, generated_tokens;  // so far
    int slots_used;
} ps_metrics_work;

/* NULL when nobody asked for them; everything below then does nothing. The pipeline is open. */
ps_metrics *ps_metrics_open(const ps_job *job);

/* Whether it is time for an update. */
bool ps_metrics_due(const ps_metrics *m);
void ps_metrics_update(ps_metrics *m, const ps_metrics_work *work);

/* The last file, with what every rank reported if it is known. */
void ps_metrics_end(ps_metrics *m, ps_err err);
void ps_metrics_free(ps_metrics *m);

/* What counts of the generator say. */
void ps_metrics_add_counts(ps_metrics_work *work, const ps_generate_counts *counts);

#endif
