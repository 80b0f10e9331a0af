/* Topology by hwloc; falls back to the affinity mask alone where hwloc finds no cores (containers
 * without /sys). */
#include "base/cores.h"

#include <hwloc.h>
#include <sched.h>

static void count_cores(hwloc_topology_t topology, hwloc_const_cpuset_t allowed, ps_cores *out)
{
    hwloc_obj_t core = NULL;
    while ((core = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_CORE, core)) != NULL) {
        for (int cpu = hwloc_bitmap_first(core->cpuset); cpu >= 0;
             cpu = hwloc_bitmap_next(core->cpuset, cpu)) {
            if (!hwloc_bitmap_isset(allowed, (unsigned)cpu)) continue;
            if (out->count < PS_CORES_MAX) out->processor[out->count++] = cpu;
            break;
        }
    }
}

static uint64_t hash_cpuset(hwloc_const_cpuset_t set)
{
    uint64_t hash = 14695981039346656037ull; // FNV-1a over the processors' numbers
    for (int cpu = hwloc_bitmap_first(set); cpu >= 0; cpu = hwloc_bitmap_next(set, cpu)) {
        hash = (hash ^ (uint64_t)(unsigned)cpu) * 1099511628211ull;
    }
    return hash;
}

/* This thread's processors are those of all that it will start. Those of the process would be looked
 * up in /proc, which in some process namespaces is not its own. */
ps_err ps_cores_find(ps_cores *out)
{
    *out = (ps_cores){0};
    hwloc_topology_t topology;
    if (hwloc_topology_init(&topology) != 0)
        return PS_FAIL(PS_ERR_NOMEM, "the machine's topology cannot be read");
    hwloc_cpuset_t allowed = hwloc_bitmap_alloc();
    ps_err err = PS_OK;
    if (!allowed || hwloc_topology_load(topology) != 0 ||
        hwloc_get_cpubind(topology, allowed, HWLOC_CPUBIND_THREAD) != 0) {
        err = PS_FAIL(PS_ERR_IO, "the processors this process may use cannot be found out");
    } else {
        count_cores(topology, allowed, out);
        const int nodes = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE);
        out->n_numa_nodes = nodes > 1 ? nodes : 1;
        out->cpuset_hash = hash_cpuset(allowed);
        if (out->count == 0) {
            out->processor[0] = hwloc_bitmap_first(allowed);
            out->count = 1;
        }
    }
    hwloc_bitmap_free(allowed);
    hwloc_topology_destroy(topology);
    return err;
}

void ps_cores_bind_thread(int processor)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (processor < 0 || processor >= CPU_SETSIZE) return;
    CPU_SET((size_t)processor, &set);
    // A refused binding costs speed, not correctness.
    (void)sched_setaffinity(0, sizeof set, &set);
}
