/* One rank's part of the pipeline: its share of the model, and its place in the ring.
 *
 *   receive -> check -> actions on slots -> blocks of the part -> seal -> send
 *
 * Ranks 1..S-1 do this until the STOP parcel has passed. Rank 0 does the same step on the parcels
 * that it makes (pipe/pipeline.h). The last stage keeps only the rows whose logits are wanted.
 *
 * Errors: those of opening a model; PS_ERR_LOST for a damaged or lost parcel; PS_ERR_NUMERIC.
 * MPI: as said.
 */
#ifndef PS_PIPE_STAGE_H
#define PS_PIPE_STAGE_H

#include "pipe/parcel.h"
#include "pipe/plan.h"
#include "pipe/report.h"
#include "pipe/ring.h"

/* What a rank does with its time. Embedding, blocks and head are what the report calls busy. */
typedef enum ps_stage_span {
    PS_SPAN_WAIT, // for the parcel
    PS_SPAN_EMBED,
    PS_SPAN_BLOCKS,
    PS_SPAN_HEAD, // of the parcel that came round
    PS_SPAN_SEND, // sealing and handing over
    PS_SPAN_COUNT
} ps_stage_span;

/* Sees every span when it is over; `sequence` is the parcel's. Called by the thread that does MPI.
 */
typedef void ps_stage_span_observer(void *arg, ps_stage_span span, uint64_t sequence,
                                    int64_t begin_ns, int64_t end_ns);

typedef struct ps_stage_params {
    ps_comm *comm;     // of the ring
    ps_comm *together; // of all rings that open at once: they agree on the outcome; NULL: comm
    ps_watch *watch;
    const ps_ckpt *ckpt;
    const ps_plan *plan;
    const ps_engine *engine;
    ps_verify verify;
    ps_wait wait;
    ps_own_biases own; // of any layers (model/spec.h); the same on all ranks
} ps_stage_params;     // all borrowed while the stage lives

typedef struct ps_stage {
    const ps_plan *plan;
    const ps_engine *engine;
    ps_watch *watch;
    ps_ring *ring;
    ps_stage_model *model;
    ps_parcel_limits limits;
    bool last;          // of the pipeline
    int *slots;         // [rows_max] scratch
    int64_t *positions; // [rows_max] scratch
    bool *hidden;       // [rows_max] scratch
    ps_region region;
    size_t weight_bytes;    // read by one parcel
    int64_t begun_ns;       // of the first parcel; 0 before
    int64_t idle_ns;        // waited for it
    ps_stage_report report; // filled as the work goes
    ps_stage_span_observer *span_observer;
    void *span_arg;
} ps_stage;

/* Local but for the ring; the caller agrees on the outcome with the other ranks. */
ps_err ps_stage_open(const ps_stage_params *params, ps_stage *out) PS_MUST_CHECK;
void ps_stage_close(ps_stage *stage);

/* The first call begins the time of the report. */
void ps_stage_begin(ps_stage *stage);

/* A span that began then ends now: counts in the report, and is told. */
void ps_stage_end_span(ps_stage *stage, ps_stage_span span, uint64_t sequence, int64_t begin_ns);

/* Does a WORK parcel's actions and blocks; n_data: the rows of data that go on. */
ps_err ps_stage_step(ps_stage *stage, const ps_parcel *parcel, int *n_data) PS_MUST_CHECK;

/* This stage's part of a SAVE or LOAD parcel, unless another stage has failed before; an error is
 * noted in it, with this rank's name. The rank may be silent meanwhile: disks are slow. */
void ps_stage_do_state(ps_stage *stage, ps_parcel_kind kind, ps_parcel_state *state);

/* This stage's report as it stands now. */
void ps_stage_fill_report(ps_stage *stage, ps_stage_report *out);

/* The loop of ranks 1..S-1: ends when STOP has been passed on. PS_ERR_IO when this rank's model
 * file was written to meanwhile. */
ps_err ps_stage_run(ps_stage *stage) PS_MUST_CHECK;

#endif
