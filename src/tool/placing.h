/* Where ranks take their weights from (--weights): used in the mapped file, or copied into memory.
 *
 *   auto = copy   on a machine of several NUMA nodes, whose file pages lie where somebody read them
 *                 first, and from a network file system, which may be slow or gone when a page is
 *                 wanted again; if what the rank then takes for itself is free now
 *                 and for STEPS_MIN (256) steps of decoding or more if twice that is free: the
 *                 copy lies in huge pages, from which one row is read faster
 *        = map    otherwise
 *
 * Each rank chooses for itself, since nodes differ, and all know what the others chose.
 */
#ifndef PS_TOOL_PLACING_H
#define PS_TOOL_PLACING_H

#include "tool/job.h"

/* What a rank knows when it chooses. */
typedef struct ps_placing_facts {
    int asked;           // ps_weights_access or PS_WEIGHTS_AUTO
    int n_numa_nodes;    // of its machine
    const char *network; // name of the file system, NULL: a local one
    int64_t steps;       // of decoding, about
    size_t wanted_bytes; // memory that it takes if it copies
    size_t free_bytes;   // that it may take now
} ps_placing_facts;

typedef struct ps_placing {
    int32_t access; // ps_weights_access
    char why[64];   // in words
} ps_placing;

void ps_placing_choose(const ps_placing_facts *facts, ps_placing *out);

/* Chooses for every stage of the plan, a rank of this ring each.   MPI: collective. */
ps_err ps_placing_apply(const ps_job *job, ps_plan *plan) PS_MUST_CHECK;

/* The same as if every stage were on this process. */
void ps_placing_apply_alone(const ps_job *job, ps_plan *plan);

#endif
