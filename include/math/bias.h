/* Score biases: one table of providers.
 *
 * Attention adds bias(h, i, j) to the scaled score of query i and key j in head h. A provider is
 * one row of a table with three hooks:
 *
 *   prepare     once for each new row of a parcel: from the layer's input, the unrotated queries
 *               and keys, and the outputs of its projection it makes what it declared it needs:
 *               `features` for the row's query, `numbers` for the row's key, which the cache stores
 *               with the key
 *   accumulate  for each new row of a sequence in ascending order, when all rows are prepared: sees
 *               the numbers of the key before and finishes its own. So numbers may hold sums over
 *               the sequence, and the cache is all the state there is
 *   fill        for a block of queries and one segment of 256 positions: adds bias(h, i, j) to the
 *               scores' bias rows
 *
 * Positions are aligned to the active window: nothing of size T x T ever exists.
 *
 * A layer may have several providers; their biases add up in the order of the list. D = i - j:
 *
 *   alibi         -slope_h D                             Press et al., arXiv 2108.12409
 *   rel_pos       (<u_h, k_j> + <q_i + v_h, P_h[D]>) scale   Transformer-XL, arXiv 1901.02860
 *                 P[r] = W_pos PE(r), PE(r)[2t] = sin(r w_t), PE(r)[2t+1] = cos(r w_t),
 *                 w_t = theta^(-2t/d). The first term is a number per key and head, cached with the
 *                 key; the second depends on query and distance alone. P is a table made once.
 *   t5            table[bucket(D), h]                    Raffel et al., arXiv 1910.10683
 *   kerple_log    -p_h log(1 + a_h |D|)                  Chi et al., arXiv 2205.09921
 *   kerple_power  -p_h |D|^(q_h)                         p, a, q held >= 0.01 as there, q <= 2
 *   sandwich      H / (8 (h+1)) sum_c cos(D 10000^(-2c/dim)), c < dim/2    arXiv 2212.10356
 *   fire          <w2_h, relu(w1 x + b1)> + b2_h         Li et al., arXiv 2310.04418
 *                 x = log(1 + |c D|) / (log(1 + |c| max(i, |L L0|)) + 1e-6)
 *   fox           sum of log f_t, j < t <= i             forgetting transformer, arXiv 2503.02130
 *                 f = sigmoid(W x + b) of the layer's input, for each head
 *   key_mask      -inf for a key whose row is hidden (padding), else 0, for every head and query;
 *                 the number is cached with the key
 *   custom        functions and a pointer of the caller's: any attn_bias of one's own
 *
 * What fill computes for (h, i, j) must not depend on the other rows or keys of the call. Errors:
 * none (checked when the spec is read).   MPI: local.
 */
#ifndef PS_MATH_BIAS_H
#define PS_MATH_BIAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "math/engine.h"
#include "math/kv.h"
#include "math/linear.h"
#include "math/visible.h"

enum { PS_SEGMENT = PS_KV_PAGE, PS_BIAS_MAX = 4 };

typedef enum ps_bias_kind {
    PS_BIAS_ALIBI,
    PS_BIAS_REL_POS,
    PS_BIAS_T5,
    PS_BIAS_KERPLE_LOG,
    PS_BIAS_KERPLE_POWER,
    PS_BIAS_SANDWICH,
    PS_BIAS_FIRE,
    PS_BIAS_FOX,
    PS_BIAS_KEY_MASK,
    PS_BIAS_CUSTOM,
    PS_BIAS_KIND_COUNT
} ps_bias_kind;

/* One new row of a parcel, as prepare sees it. */
typedef struct ps_bias_row {
    const struct ps_kernels *kernels;
    int sequence; // slot of the cache
    int64_t position;
    bool hidden;            // no query may see this row's key (key_mask)
    const float *x;         // [D] input of the attention projections
    const float *projected; // [n] outputs of the provider's projection, if it has one
    const float *q;         // [n_heads, K] before rotation
    const float *k;         // [n_kv_heads, K] before rotation
    float *features;        // [n_features] out
    float *numbers;         // [n_numbers] out
} ps_bias_row;

/* The same row as accumulate sees it. */
typedef struct ps_bias_step {
    int sequence;
    int64_t position;
    const float *before; // [n_numbers] of the key at position - 1; NULL at position 0
    float *features;     // [n_features] as prepare left them, in and out
    float *numbers;      // [n_numbers] likewise
} ps_bias_step;

/* A block of queries against the keys [first, last) of the segment that starts at `start`: the
 * n_queries positions from first_position on, in each of the heads first_head .. + n_heads. Row
 * (h, i) of the block is row h*n_queries + i of `bias`; bias[row, j] belongs to key start + j. The
 * keys are those that any query of the block sees: what is added for one that its own query does
 * not see is never used. */
typedef struct ps_bias_tile {
    int sequence;
    int first_head, n_heads, n_queries;
    int64_t first_position;
    const float *features; // [n_queries, n_features] of this provider, row stride feature_stride
    size_t feature_stride;
    int64_t start;        // multiple of PS_SEGMENT
    int first, last;      // keys start+first .. start+last-1
    const float *numbers; // this provider's [n_numbers][PS_SEGMENT], from position `start` on
    float *bias;          // [n_heads*n_queries, PS_SEGMENT] added to
    float *scratch;       // ps_bias_scratch_floats(n_queries), aligned to 16 bytes
} ps_bias_tile;

typedef struct ps_bias ps_bias;
typedef void ps_bias_prepare(const ps_bias *bias, const ps_bias_row *row);
typedef void ps_bias_accumulate(const ps_bias *bias, const ps_bias_step *step);
typedef void ps_bias_fill(const ps_bias *bias, const struct ps_kernels *kernels,
                          const ps_bias_tile *tile);

/* The piecewise linear function of one fire layer (ps_bias_make_fire). */
typedef struct ps_bias_fire {
    double c, length; // |c|, |L L0|
    int n_knots;
    const double *knots;      // [n_knots] ascending
    const double *slopes;     // [n_knots + 1, n_heads] between them
    const double *intercepts; // [n_knots + 1, n_heads]
    const double *logs;       // [table_span] log(1 + c D)
} ps_bias_fire;

struct ps_bias {
    ps_bias_kind kind;
    int n_heads, n_kv_heads, head_dim;
    float scale;          // of the layer's scores
    int64_t span, ahead;  // distances -ahead .. span-1 can occur
    const float *slopes;  // alibi: [n_heads]
    const float *u, *v;   // rel_pos: [n_heads, K]
    const float *table;   // rel_pos: see ps_bias_table_floats; functions of the distance: see
                          // ps_bias_distance_floats
    const float *buckets; // t5: [n_buckets, n_heads]
    int n_buckets, max_distance;    // t5
    bool bidirectional;             // t5: half of the buckets are for keys ahead
    const float *p, *a;             // kerple: [n_heads]; a is the exponent of kerple_power
    int dim;                        // sandwich
    ps_bias_fire fire;              // fire
    const ps_linear *projection;    // fox: [n_heads] of [D]; custom: any, or NULL
    int n_features, n_numbers;      // custom
    ps_bias_prepare *prepare;       // custom, or NULL
    ps_bias_accumulate *accumulate; // custom, or NULL
    ps_bias_fill *fill;             // custom
    void *user;                     // custom
};

const char *ps_bias_kind_name(ps_bias_kind kind);

/* What a provider needs for each query and each key, in floats. */
int ps_bias_features(const ps_bias *bias);
int ps_bias_numbers(const ps_bias *bias);

void ps_bias_prepare_row(const ps_bias *bias, const ps_bias_row *row);
/* Outputs of the provider's projection; 0 where it has none. */
int ps_bias_projected(const ps_bias *bias);

/* Whether rows must pass ps_bias_accumulate_run. */
bool ps_bias_accumulates(const ps_bias *bias);

void ps_bias_accumulate_step(const ps_bias *bias, const ps_bias_step *step);

/* The new rows of one sequence, n_rows positions from `first` on, whose numbers are appended:
 * accumulate in ascending order, of the provider whose features and numbers begin at the given
 * places of the rows and whose numbers begin at number_at in the cache. What comes out goes into
 * the rows and into the cache. before: scratch, n_numbers floats. */
typedef struct ps_bias_run {
    int sequence, n_rows;
    int64_t first;
    const ps_kv_view *view;
    int number_at;
    float *features, *numbers; // of the first row, row strides below
    size_t feature_stride, number_stride;
    float *before;
} ps_bias_run;

void ps_bias_accumulate_run(const ps_bias *bias, const ps_bias_run *run);

void ps_bias_fill_tile(const ps_bias *bias, const struct ps_kernels *kernels,
                       const ps_bias_tile *tile);

/* The same for the part of the bias that the keys decide, alone or with the text up to them: of
 * rel_pos <u_h, k_j> scale; all that a provider adds that keeps numbers for keys and does not part
 * them; of others nothing. The rest is the position part: for a given query a function of the
 * distance. */
void ps_bias_fill_key_part(const ps_bias *bias, const struct ps_kernels *kernels,
                           const ps_bias_tile *tile);

/* Scratch of one thread for fill, for blocks of up to n_queries queries. */
size_t ps_bias_scratch_floats(int n_queries);

/* Published slopes for any head count and largest exponent (8 in the paper), times a factor (1):
 * slopes[n_heads], out. */
void ps_bias_alibi_slopes(int n_heads, double max_exponent, double factor, float *slopes);

/* Table of P for one rel_pos layer: [n_heads][tiles][K][16] with as many tiles as span + ahead
 * distances fill; the last lane of the tiles together is distance -ahead, each lane before it one
 * more, so that ascending lanes are ascending keys. */
size_t ps_bias_table_floats(int n_heads, int head_dim, int64_t span, int64_t ahead);

/* Fills the table. w_pos is [n_heads*K, d]; scratch: ps_bias_table_scratch_floats floats. */
void ps_bias_make_table(const ps_engine *engine, const ps_linear *w_pos, double theta, int n_heads,
                        int head_dim, int64_t span, int64_t ahead, float *scratch, float *table);
size_t ps_bias_table_scratch_floats(int n_heads, int head_dim, int d);

/* Functions of head and distance alone (t5, kerple_log, kerple_power, sandwich): the value in
 * double precision, for any distance, also of keys ahead (< 0). */
bool ps_bias_is_of_distance(ps_bias_kind kind);
double ps_bias_distance_value(const ps_bias *bias, int head, int64_t distance);

/* Their values, rounded to f32, of the distances that are worth a table: [n_heads][lanes], lane n
 * being one distance less than the lane before it. Others are computed when they are met, and have
 * the same bits. */
size_t ps_bias_distance_floats(const ps_bias *bias);
void ps_bias_make_distances(const ps_bias *bias, float *table);

/* Parameters of fire as they are trained: w1, b1 [width], w2 [n_heads, width], b2 [n_heads],
 * scalars [3] = c, L, L0. Fills bias->fire; memory: ps_bias_fire_doubles. */
typedef struct ps_bias_fire_weights {
    int width;
    const float *w1, *b1, *w2, *b2, *scalars;
} ps_bias_fire_weights;

size_t ps_bias_fire_doubles(const ps_bias *bias, int width);
void ps_bias_make_fire(const ps_bias_fire_weights *weights, double *memory, ps_bias *bias);

/* A bias that is a plain tensor, aligned to the active window: values[b, h, r, c] belongs to
 * sequence b, head h, the query at position first_query + r and the c-th key of its own part
 * (math/visible.h). Pairs outside the tensor, kept tokens too, have none. A custom provider; *tensor
 * and its values are borrowed. */
typedef struct ps_bias_tensor {
    const float *values; // [n_sequences, n_heads, q_len, k_len]
    int n_sequences, n_heads, q_len, k_len;
    int64_t first_query;
    ps_visible visible; // of the layer
} ps_bias_tensor;

ps_bias ps_bias_from_tensor(const ps_bias_tensor *tensor);

#endif
