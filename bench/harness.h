/* What the benchmarks share: repeated timing with medians, a header of the machine, CSV lines.
 *
 * A figure is the median over runs that follow an untimed one; for how noisy the machine is, the
 * fastest and the 90th percentile stand beside it. Units are in the column names.
 */
#ifndef PS_BENCH_HARNESS_H
#define PS_BENCH_HARNESS_H

#include <stddef.h>

#include "math/engine.h"

typedef struct bench_time {
    double min_s, median_s, p90_s;
    int runs;
} bench_time;

typedef void bench_function(void *arg);

/* Runs `function` at least `min_runs` times and `min_s` seconds. */
bench_time bench_measure(bench_function *function, void *arg, int min_runs, double min_s);

/* "# key=value" lines: host, processor, cores, threads, instruction set, revision of the program.
 */
void bench_header(const char *name, const ps_engine *engine);

/* An engine with this many threads; ends the program when it cannot be had. */
ps_engine bench_engine(int n_threads, const char *isa);

/* Memory of whole huge pages, every page touched; ends the program when it cannot be had. */
void *bench_memory(size_t bytes);

/* Plain reads by all threads of the engine, GB/s: the limit beside every figure. */
double bench_read_gb_s(const ps_engine *engine);
double bench_fma_gflop_s(const ps_engine *engine);

#endif
