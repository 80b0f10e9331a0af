/* Which stage owns which layers, and what that costs.
 *
 * A stage's cost is the bytes it reads for one token: weights of its layers, the caches of a
 * sequence at its context (bounded by the windows), and on stage 0 the head, or of it as many ids as
 * most tokens need. Layers stay in order;
 * the split makes the dearest stage as cheap as possible, and among equals gives earlier stages
 * more. Stage 0 may own no layer when the head is dear; every other stage owns at least one.
 *
 * Errors: PS_ERR_USAGE for a split that does not fit, or more ranks than stages can be made.
 * MPI: local.
 */
#ifndef PS_PIPE_PLAN_H
#define PS_PIPE_PLAN_H

#include "model/stage_model.h"

typedef struct ps_plan_stage {
    ps_part part;
    uint64_t cost_bytes; // read for one token
    ps_stage_size size;
    size_t ring_bytes;
} ps_plan_stage;

typedef struct ps_plan {
    int n_stages;
    ps_plan_stage *stages; // [n_stages] owned
    ps_limits limits;
    int depth, in_flight; // parcels: receive buffers of a rank, most under way
    size_t parcel_bytes;  // of the largest
    size_t hop_bytes;     // of a parcel with one row
} ps_plan;

typedef struct ps_plan_params {
    const ps_ckpt *ckpt;
    int n_stages;
    const char *split; // "3,2,2,1": layers of each stage; NULL: by cost
    ps_limits limits;
    ps_gemm gemm;
    ps_activations activations;
    int n_threads;
    int in_flight; // 0: as many as stages
} ps_plan_params;

ps_err ps_plan_make(const ps_plan_params *params, ps_plan *out) PS_MUST_CHECK;
void ps_plan_release(ps_plan *plan);

/* Memory that a stage takes for itself (without mapped weights), and with them. */
size_t ps_plan_taken_bytes(const ps_plan_stage *stage);
size_t ps_plan_all_bytes(const ps_plan_stage *stage);

/* PS_ERR_LIMIT when the stages [first, end) need more than `limit_bytes` together. `limit_source`
 * names the limit. */
ps_err ps_plan_check_memory(const ps_plan *plan, int first, int end, size_t limit_bytes,
                            const char *limit_source) PS_MUST_CHECK;

/* The table that `pipestep plan` prints. */
void ps_plan_describe(const ps_plan *plan, ps_text *out);
void ps_plan_to_json(const ps_plan *plan, ps_text *out);

#endif
