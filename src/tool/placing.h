/* Where ranks take their weights from (--weights): used in the mapped file, or copied into memory.
 *
 *   auto = copy   on a machine of several NUMA nodes, whose file pages lie where somebody read them
 *                 first, and from a network file system, which may be slow or gone when a page is
 *                 wanted again; if what the rank then takes for itself is free now
 *        = copy   for long work, which reads huge pages faster than it lost time by making them; if
 *                 half of what is free is enough
 *        = map    otherwise
 *
 * Each rank chooses for itself, since nodes differ, and all know what the others chose.
 */
#ifndef PS_TOOL_PLACING_H
#define PS_TOOL_PLACING_H

#include "tool/job.h"

/* Work of so many positions one after the other is long. Measured on 1.1 B parameters, f16 and q8_0,
 * two threads: a copy saves a ninth of each step and costs the time of 30 steps, or of 250 where the
 * memory is a virtual machine's that must come from its host. */
enum { PS_PLACING_LONG = 1024 };

/* What a rank knows when it chooses. */
typedef struct ps_placing_facts {
    int asked;           // ps_weights_access or PS_WEIGHTS_AUTO
    int n_numa_nodes;    // of its machine
    const char *network; // name of the file system, NULL: a local one
    int64_t positions;   // that the work goes through one after the other
    size_t wanted_bytes; // memory that it takes if it copies
    size_t free_bytes;   // that it may take now
} ps_placing_facts;

typedef struct ps_placing {
    int32_t access; // ps_weights_access
    char why[64];   // in words
} ps_placing;

/* Positions that a slot goes through if the slots share these needs evenly. */
int64_t ps_placing_positions(const ps_needs *needs, const ps_limits *limits);

void ps_placing_choose(const ps_placing_facts *facts, ps_placing *out);

/* Chooses for every stage of the plan of job->size ranks.   MPI: collective. */
ps_err ps_placing_apply(const ps_job *job, ps_plan *plan) PS_MUST_CHECK;

/* The same as if every stage were on this process. */
void ps_placing_apply_alone(const ps_job *job, ps_plan *plan);

#endif
