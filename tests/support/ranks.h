/* What a test program under mpirun needs around its checks: one world for all of them, and a
 * directory that all ranks see.
 *
 *   int main(void)
 *   {
 *       ranks_open(20.0);
 *       Suite *suite = suite_create("pipe/ring");
 *       tcase_add_test(ranks_case(suite, "ring"), ...);
 *       return ranks_run(suite);
 *   }
 *
 * All ranks run the same tests in step (CK_FORK=no): before each one they meet. A rank whose check
 * failed is missed by the others, which then fail by their deadline.
 *
 * MPI: everything is collective, but for the three that only tell.
 */
#ifndef TESTS_SUPPORT_RANKS_H
#define TESTS_SUPPORT_RANKS_H

#include <check.h>

#include "pipe/pipeline.h"
#include "support/tiny_model.h"

/* 0: a world that waits inside MPI, without deadlines (ps_comm_open_blocking). */
void ranks_open(double timeout_s);

/* Tests of such a case begin together, with a time limit of their own for each. */
TCase *ranks_case(Suite *suite, const char *name);

/* Runs the suite, frees it, ends MPI. Returns the exit status of the program. */
int ranks_run(Suite *suite);

ps_comm *ranks_comm(void);
int ranks_size(void);
int ranks_rank(void);

/* Opened on first use, with the deadline given to ranks_open; closed at the end. */
ps_watch *ranks_watch(void);

void ranks_meet(void);

/* Path of a file in the shared directory; owned by the caller (ps_mem_free). MPI: local. */
char *ranks_path(const char *name);

/* A tiny model, its plan over all ranks, and the pipeline. */
typedef struct ranks_pipeline {
    ps_ckpt ckpt;
    ps_engine engine;
    ps_plan plan;
    ps_pipeline *pipeline;
} ranks_pipeline;

typedef struct ranks_pipeline_params {
    const tiny_model *model;
    ps_limits limits;
    int in_flight, n_threads; // 0: as many as stages; 0: one
    const char *path;         // of this rank's model file; NULL: where rank 0 wrote it
} ranks_pipeline_params;

/* Everything up to the pipeline, and the pipeline. *out is to be closed in any case. */
void ranks_pipeline_prepare(const ranks_pipeline_params *params, ranks_pipeline *out);
ps_stage_params ranks_pipeline_stage(const ranks_pipeline *p);
ps_err ranks_pipeline_open(const ranks_pipeline_params *params, ranks_pipeline *out) PS_MUST_CHECK;
void ranks_pipeline_close(ranks_pipeline *p);

#endif
