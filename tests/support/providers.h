/* Bias providers for tests: made with random parameters, and each with its bias written down once
 * more, for one pair of positions, in double precision. */
#ifndef PS_TESTS_PROVIDERS_H
#define PS_TESTS_PROVIDERS_H

#include "math/bias.h"
#include "support/dice.h"
#include "support/matrices.h"

typedef enum provider_kind {
    PROVIDER_ALIBI,
    PROVIDER_REL_POS,
    PROVIDER_DOT,   // custom, 3 features and 2 numbers: a scaled dot product of them
    PROVIDER_TABLE, // custom, without prepare: a number for each head and distance, as in T5
    PROVIDER_T5,
    PROVIDER_KERPLE_LOG,
    PROVIDER_KERPLE_POWER,
    PROVIDER_SANDWICH,
    PROVIDER_FIRE,
    PROVIDER_FOX, // the last: needs the rows between key and query
    PROVIDER_KIND_COUNT
} provider_kind;

typedef struct provider_shape {
    int n_heads, n_kv_heads, head_dim;
    int width; // of the layer's input
    float scale;
    int64_t span, ahead;
} provider_shape;

/* Sums of the logarithms of the gates of 0, 1, .. n rows from a query back: a key after the other asks
 * for one of them. */
typedef struct gate_sums {
    const float *query_x;
    int head;
    int64_t n;
    double *sums; // [n + 1] owned
} gate_sums;

/* One provider with all that it was made of. */
typedef struct provider {
    provider_kind kind;
    ps_bias bias;
    float *slopes, *u, *v, *table;
    matrix w_pos;
    double *positions; // rel_pos: P[r], [ahead + span, n_heads*K], from r = -ahead on
    float *own[5];     // parameters of the other kinds
    int width;         // fire: hidden units
    double *doubles;   // fire: what was made of them
    matrix gate;       // fox
    gate_sums *gates;  // fox: of the query that was asked for last; owned
    struct custom_numbers *custom;
} provider;

/* A layer's list of providers. */
typedef struct providers {
    int n;
    provider item[PS_BIAS_MAX];
    ps_bias bias[PS_BIAS_MAX];
    int n_features, n_numbers; // of all of them
} providers;

/* Query i and key j of one head, with the layer's inputs and the unrotated vectors of both. */
typedef struct provider_pair {
    int head;
    int64_t distance; // i - j
    int64_t position; // i
    // What was between them, also where distance and position are those of a cache.
    int64_t rows; // from the key's to the query's
    int x_stride; // of query_x, before which those rows lie
    const float *query_x, *q;
    const float *key_x, *k;
} provider_pair;

void providers_add(providers *list, provider_kind kind, const provider_shape *shape,
                   const ps_engine *engine, dice *d);
void providers_release(providers *list);

/* The hooks of the list for one row, as a layer calls them. */
void providers_prepare(const providers *list, const ps_bias_row *row);
void providers_accumulate(const providers *list, const ps_bias_run *run);

double provider_reference(const provider *p, const provider_pair *pair);

#endif
