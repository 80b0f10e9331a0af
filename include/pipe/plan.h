/* Which stage owns which layers, and what that costs.
 *
 * A stage's cost is the bytes it reads for one token: weights of its layers, the caches of a
 * sequence at its context (bounded by the windows), and on stage 0 the head, or of it as many ids as
 * most tokens need. Layers stay in order;
 * the split makes the dearest stage as cheap as possible, and among equals gives earlier stages
 * more. Stage 0 may own no layer when the head is dear; every other stage owns at least one.
 *
 * With measured times (pipe/trial.h) a stage's cost is the time that it takes for a parcel, and
 * stages may differ: a layer costs another time on each. Then, unless said otherwise, as many
 * parcels are under way as keep the slowest stage busy, and no more, so that each is as full as can
 * be:
 *   in_flight = ceil((sum_s T_s + S hop) / max_s T_s), a tenth of a parcel not counted
 *
 * Errors: PS_ERR_USAGE for a split that does not fit, or more ranks than stages can be made.
 * MPI: local.
 */
#ifndef PS_PIPE_PLAN_H
#define PS_PIPE_PLAN_H

#include "model/stage_model.h"

/* Measured times of the work for a parcel of `rows` sequences, one token each. */
typedef struct ps_plan_times {
    int n_stages, n_layers, rows;
    double *layer_ns; // [n_stages, n_layers] a layer's weights, were it on that stage; owned
    double *byte_ns;  // [n_stages] a byte of its caches; owned
    double head_ns;   // on stage 0, with what is done with its logits
    double hop_ns;    // a parcel from rank to rank
    // What the slowest stage takes for such a parcel, and for one of a prompt with chunk_rows.
    double rows_ns, chunk_ns;
    int chunk_rows; // 0: not measured
} ps_plan_times;

void ps_plan_times_release(ps_plan_times *times);

typedef struct ps_plan_stage {
    ps_part part;
    uint64_t cost_bytes; // read for one token
    double time_ns;      // for a parcel; 0: not measured
    ps_stage_size size;
    size_t ring_bytes;
    ps_weights_access access;
    char access_why[64]; // what chose it, in words; empty: nobody chose
} ps_plan_stage;

typedef struct ps_plan {
    int n_stages;
    ps_plan_stage *stages; // [n_stages] owned
    ps_limits limits;
    int depth, in_flight; // parcels: receive buffers of a rank, most under way
    size_t parcel_bytes;  // of the largest
    size_t hop_bytes;     // of a parcel with one row
    int timed_rows;       // rows of the parcels that times are of; 0: not measured
    double hop_ns, head_ns;
} ps_plan;

typedef struct ps_plan_params {
    const ps_ckpt *ckpt;
    int n_stages;
    const char *split;          // "3,2,2,1": layers of each stage; NULL: by cost
    const ps_plan_times *times; // [n_stages]; NULL: the cost is bytes
    ps_limits limits;
    ps_gemm gemm;
    ps_activations activations;
    int n_threads;
    int in_flight; // 0: as many as stages, or as the times ask for
} ps_plan_params;

/* Every stage maps its weights until ps_plan_set_access says otherwise. An error leaves *out
 * empty: without stages. */
ps_err ps_plan_make(const ps_plan_params *params, ps_plan *out) PS_MUST_CHECK;
void ps_plan_release(ps_plan *plan);

/* How a stage comes by its weights, and why; its sizes follow. */
void ps_plan_set_access(ps_plan *plan, const ps_ckpt *ckpt, int stage, ps_weights_access access,
                        const char *why);

/* A measured plan's time for a parcel to go round once, and its tokens/s with all parcels under way
 * that the slots can fill:
 *   rows x min(min(in_flight, slots / rows) / round, 1 / max_s T_s) */
double ps_plan_round_ns(const ps_plan *plan);
double ps_plan_tokens_per_s(const ps_plan *plan);

/* Memory that a stage takes for itself (without mapped weights), and with them. Mapped ones are
 * shared with whoever else maps the file, copied ones are the stage's own. */
size_t ps_plan_taken_bytes(const ps_plan_stage *stage);
size_t ps_plan_all_bytes(const ps_plan_stage *stage);

/* PS_ERR_LIMIT when the stages [first, end) need more than `limit_bytes` together. `limit_source`
 * names the limit: RLIMIT_DATA bounds what a process takes for itself, the others mapped files
 * too. */
ps_err ps_plan_check_memory(const ps_plan *plan, int first, int end, size_t limit_bytes,
                            const char *limit_source) PS_MUST_CHECK;

/* Lines on how the stages come by their weights: one, or as many as there are changes of it. */
void ps_plan_describe_access(const ps_plan *plan, ps_text *out);

/* The table that `pipestep plan` prints. */
void ps_plan_describe(const ps_plan *plan, ps_text *out);
void ps_plan_to_json(const ps_plan *plan, ps_text *out);

#endif
