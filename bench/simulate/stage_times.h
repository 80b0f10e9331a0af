/* Stages that take time and nothing else, in the place of models where the pipeline itself is looked
 * at: stage_times.c defines what the floors pipe and serve call of model/.
 *
 *   blocks of R rows   stage_us + R row_us          head of R rows   head_us + R head_row_us
 *
 * They sleep, so in a simulator it is the simulated clock that moves.   MPI: local.
 */
#ifndef PS_BENCH_STAGE_TIMES_H
#define PS_BENCH_STAGE_TIMES_H

#include <stdint.h>

#include "base/pool.h"
#include "model/ckpt.h"

typedef struct stage_times {
    double stage_us, row_us; // of this rank
    double head_us, head_row_us;
} stage_times;

/* What is opened as a model: its spec has a width and a vocabulary, nothing else is looked at. */
typedef struct timed_model {
    ps_ckpt ckpt; // the first member: it is passed where a ps_ckpt is
    stage_times times;
} timed_model;

/* For real runs: a pool without threads, by which a stage asleep moves messages along. */
ps_pool *stage_times_pool(void);
void stage_times_pool_free(ps_pool *pool);

#endif
