/* Attention of one sequence, for tests: random inputs, and a run over them in chunks, with a cache
 * of its own whose every slot that nobody may see holds NaN. */
#ifndef PS_TESTS_ATTENTION_CASE_H
#define PS_TESTS_ATTENTION_CASE_H

#include "math/attention.h"
#include "support/providers.h"

/* Sees each job when it has run. */
typedef void attention_look(void *arg, const ps_engine *engine, const ps_attention_job *job);

typedef struct attention_case {
    ps_attention_shape shape;
    int64_t base;       // position of the first key
    int n, first_query; // keys 0 .. n-1; queries first_query .. n-1
    int width;          // of x
    providers list;
    float *x, *q, *k, *v; // [n, width], [n, H*K], [n, G*K], [n, G*K]
    float *q_kept;        // [n, H*K]: queries as kept tokens at cache positions see them, or NULL
    float *sinks;         // [H] or NULL
    bool quiet;
    ps_kv_types types;    // k and v are values that these can hold
    attention_look *look; // NULL: nobody
    void *look_arg;
} attention_case;

/* What a case is made of. window 0: all keys. With kept tokens the base is 0. */
typedef struct attention_sizes {
    int n_kv_heads, group, head_dim;
    int64_t window, base;
    int n, first_query;
    int n_providers;
    provider_kind kinds[PS_BIAS_MAX];
    float softcap;              // 0: none
    bool sinks, quiet;          // not both
    int64_t chunk, left_chunks; // of what is visible
    bool look_ahead;
    int64_t n_kept;
    bool kept_at_cache;
    ps_kv_types types;
} attention_sizes;

/* One way through the same sequence. */
typedef struct attention_way {
    int chunk; // rows at a time
    bool ring; // the smallest page table that model/cache.c would make; else one without wrapping
    bool company; // rows of another sequence before and behind, in the same job
} attention_way;

attention_case attention_case_roll(const attention_sizes *sizes, const ps_engine *engine, dice *d);
void attention_case_release(attention_case *c);

/* Queries of a case, and floats of its results: [queries, H*K]. */
size_t attention_case_queries(const attention_case *c);
size_t attention_case_floats(const attention_case *c);

/* Results of one way through, [queries, H*K]. Fails the test when anything is written where it does
 * not belong. */
void attention_case_run(const attention_case *c, const ps_engine *engine, const attention_way *way,
                        float *out);

/* Query and key of a case as the reference of a provider takes them. */
provider_pair attention_case_pair(const attention_case *c, int head, int query, int key);

/* The same, as it has to come out: one sum after the other in double precision. */
void attention_case_naive(const attention_case *c, double *out);

#endif
