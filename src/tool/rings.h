/* What the rings of a job have to say when they are done: it comes to rank 0, for the report.
 *
 * Errors: PS_ERR_LOST.   MPI: collective over the job.
 */
#ifndef PS_TOOL_RINGS_H
#define PS_TOOL_RINGS_H

#include "tool/job.h"

/* On rank 0: reports and planned bytes of all ranks, counts of each ring by rank 0's clock, and
 * their sum in job->counts, whose times between tokens are those of all rings. */
ps_err ps_rings_gather(ps_job *job) PS_MUST_CHECK;

#endif
