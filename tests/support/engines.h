/* Engines for tests of the law of same bits: every instruction set that this processor has, and any
 * number of threads. */
#ifndef PS_TESTS_ENGINES_H
#define PS_TESTS_ENGINES_H

#include "math/engine.h"

enum { ENGINES_THREADS_MAX = 3 };

/* Best instruction set, panels. Fails the test when it cannot be opened. */
ps_engine engines_open(int n_threads);

/* The instruction set of that index; ask ps_isa_supported first. */
ps_engine engines_open_isa(int isa, int n_threads, ps_gemm gemm);

/* All supported sets with 1 .. ENGINES_THREADS_MAX threads each. */
typedef struct engines_all {
    int n;
    ps_engine engine[32];
    int n_threads[32];
} engines_all;

engines_all engines_open_all(void);
void engines_close_all(engines_all *all);

#endif
