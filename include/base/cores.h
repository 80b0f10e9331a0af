/* The processor cores that this process may use.
 *
 * Counted from the process's own affinity (what mpirun, Slurm or taskset left of the machine), a
 * core once however many hardware threads it has.
 *
 * MPI: local.   Cost: reads the topology once, about 10 ms.
 */
#ifndef PS_BASE_CORES_H
#define PS_BASE_CORES_H

#include <stdint.h>

#include "base/err.h"

enum { PS_CORES_MAX = 1024 };

typedef struct ps_cores {
    int count;                   // cores that the process may run on, at least 1
    int processor[PS_CORES_MAX]; // operating system's number of the first thread of each
    int n_numa_nodes;            // memories of the machine, at least 1
    uint64_t cpuset_hash;        // equal for processes with the same affinity
} ps_cores;

ps_err ps_cores_find(ps_cores *out) PS_MUST_CHECK;

/* Binds the calling thread to one processor. Failing is not an error: speed only. */
void ps_cores_bind_thread(int processor);

#endif
