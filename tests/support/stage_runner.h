/* A model file run by stage models in one process: the parts of a split one after the other, as the
 * ring would run them, without MPI.   MPI: local.
 */
#ifndef TESTS_SUPPORT_STAGE_RUNNER_H
#define TESTS_SUPPORT_STAGE_RUNNER_H

#include "model/stage_model.h"

enum { STAGE_RUNNER_PARTS_MAX = 8 };

typedef struct stage_runner_params {
    const char *path;
    int n_parts;                          // 0 counts as 1
    int cuts[STAGE_RUNNER_PARTS_MAX - 1]; // first layers of parts 1, 2, ...
    ps_limits limits;                     // zeros: 1 slot, context 512, chunks of 512
    int n_threads;                        // 0 counts as 1
    const char *isa;
    ps_gemm gemm;
    ps_activations activations;
    ps_verify verify;
    ps_own_biases own; // borrowed
} stage_runner_params;

typedef struct stage_runner {
    stage_runner_params params;
    ps_engine engine;
    ps_ckpt ckpt;
    ps_stage_model *parts[STAGE_RUNNER_PARTS_MAX];
    float *x; // [rows_max, stride]
} stage_runner;

ps_err stage_runner_open(const stage_runner_params *params, stage_runner *out) PS_MUST_CHECK;
void stage_runner_close(stage_runner *r);

/* One parcel of rows: tokens[n] -> logits[n, vocabulary], or an encoder's outputs, out. */
void stage_runner_rows(stage_runner *r, const ps_rows *rows, const int32_t *tokens, float *logits);

/* tokens[n] of one slot from position `first` on, in parcels of up to `chunk` rows. */
void stage_runner_run(stage_runner *r, int slot, int64_t first, const int32_t *tokens, int n,
                      int chunk, float *logits);

/* A sequence of up to `length` positions (0: no end) begins in the slot. */
void stage_runner_begin(stage_runner *r, int slot, int64_t length);
void stage_runner_fork(stage_runner *r, int from, int to);
void stage_runner_end(stage_runner *r, int slot);

#endif
