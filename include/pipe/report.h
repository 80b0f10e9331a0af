/* What a stage tells about itself when the STOP parcel passes.
 *
 * Plain numbers, filled by the stage, carried round the ring, read on rank 0.   MPI: local.
 */
#ifndef PS_PIPE_REPORT_H
#define PS_PIPE_REPORT_H

#include <stdint.h>

#include "pipe/comm.h"

typedef struct ps_stage_report {
    int32_t rank, first_layer, end_layer, n_threads;
    int64_t wall_ns;           // from the first parcel to STOP
    int64_t busy_ns;           // computing
    int64_t wait_ns;           // waiting for the previous stage, since the first parcel
    int64_t send_ns;           // packing and handing over
    int64_t map_ns, verify_ns; // at the start: weights mapped or read, contents verified
    uint64_t parcels, rows;
    uint64_t sent_bytes;
    uint64_t weight_bytes, cache_bytes; // read from memory by the kernels
    uint64_t evicted;                   // positions that windows left behind, layer by layer
    int64_t window_layers;              // layers that leave positions behind
    uint64_t peak_resident_bytes, base_resident_bytes;
    char host[PS_COMM_HOST_BYTES];
    char isa[16];
} ps_stage_report;

_Static_assert(sizeof(ps_stage_report) % 8 == 0, "reports stay aligned in the parcel");

#endif
