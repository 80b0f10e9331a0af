/* The trace of a run: what each rank did when, for Perfetto or chrome://tracing (--trace FILE.json).
 *
 * Every rank notes the spans of its pipeline (pipe/stage.h), up to SPANS_MAX of them in memory taken
 * at the start; further ones are counted and dropped. After the work they come to rank 0, which puts
 * them on its own clock: a process is a rank, an event a span with the number of its parcel. The sums
 * of the events are the report's busy, wait and send.
 *
 * Errors: those of writing a file.   MPI: as said.
 */
#ifndef PS_TOOL_TRACE_H
#define PS_TOOL_TRACE_H

#include "pipe/pipeline.h"

typedef struct ps_trace ps_trace;

/* Begins to note. MPI: local. */
ps_trace *ps_trace_open(ps_pipeline *pipeline, int rank);
void ps_trace_free(ps_trace *trace);

/* reports[size]: of all stages, on rank 0; NULL elsewhere. MPI: collective. */
ps_err ps_trace_write(const ps_trace *trace, ps_comm *comm, const ps_stage_report *reports,
                      const char *path) PS_MUST_CHECK;

#endif
