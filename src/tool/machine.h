/* What this machine gives: the limits that every speed figure is held against.
 *
 *   read        plain reads of memory far larger than the caches, by all threads of the pool
 *   fma         fused multiply-adds on registers, by all threads
 *   rows        one-row products over weights far larger than the caches, for each number format
 *
 * Best of several runs each (a limit is what can be reached). Takes a few seconds.
 * Errors: PS_ERR_NOMEM.   MPI: local.
 */
#ifndef PS_TOOL_MACHINE_H
#define PS_TOOL_MACHINE_H

#include "math/dtype.h"
#include "math/engine.h"

typedef struct ps_machine {
    double read_gb_s, fma_gflop_s;
    double row_gb_s[PS_DTYPE_COUNT];
} ps_machine;

ps_err ps_machine_measure_read(const ps_engine *engine, ps_machine *out) PS_MUST_CHECK;
void ps_machine_measure_fma(const ps_engine *engine, ps_machine *out);

/* All of it. */
ps_err ps_machine_measure(const ps_engine *engine, ps_machine *out) PS_MUST_CHECK;

#endif
