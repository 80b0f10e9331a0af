/* Score biases: one table of providers.
 *
 * Attention adds bias(h, i, j) to the scaled score of query i and key j in head h. A provider is
 * one row of a table with two hooks:
 *
 *   prepare   once for each new row of a parcel: from the layer's input and the unrotated queries
 *             and keys it makes what it declared it needs: `features` for the row's query,
 *             `numbers` for the row's key, which the cache stores with the key
 *   fill      for a block of queries and one segment of 256 positions: adds bias(h, i, j) to the
 *             scores' bias rows
 *
 * Positions are aligned to the active window: nothing of size T x T ever exists.
 *
 * A layer may have several providers; their biases add up in the order of the list.
 *
 *   alibi     slope_h (j - i)                              Press et al., arXiv 2108.12409
 *   rel_pos   (<u_h, k_j> + <q_i + v_h, P_h[i-j]>) scale   Transformer-XL, arXiv 1901.02860
 *             P[r] = W_pos PE(r), PE(r)[2t] = sin(r w_t), PE(r)[2t+1] = cos(r w_t),
 *             w_t = theta^(-2t/d). The first term is a number per key and head, cached with the
 *             key; the second depends on query and distance alone. P is a table made once.
 *   custom    two functions and a pointer of the caller's: any attn_bias of one's own
 *
 * What fill computes for (h, i, j) must not depend on the other rows or keys of the call. Errors:
 * none (checked when the spec is read).   MPI: local.
 */
#ifndef PS_MATH_BIAS_H
#define PS_MATH_BIAS_H

#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "math/engine.h"
#include "math/kv.h"
#include "math/linear.h"

enum { PS_SEGMENT = 256, PS_SEGMENT_PAGES = PS_SEGMENT / PS_KV_PAGE, PS_BIAS_MAX = 4 };

typedef enum ps_bias_kind {
    PS_BIAS_ALIBI,
    PS_BIAS_REL_POS,
    PS_BIAS_CUSTOM,
    PS_BIAS_KIND_COUNT
} ps_bias_kind;

/* One new row of a parcel, as prepare sees it. */
typedef struct ps_bias_row {
    int64_t position;
    const float *x;  // [D] input of the attention projections
    const float *q;  // [n_heads, K] before rotation
    const float *k;  // [n_kv_heads, K] before rotation
    float *features; // [n_features] out
    float *numbers;  // [n_numbers] out
} ps_bias_row;

/* A block of queries against the keys [first, last) of the segment that starts at `start`: the
 * n_queries positions from first_position on, in each of the heads first_head .. + n_heads. Row
 * (h, i) of the block is row h*n_queries + i of `bias`; bias[row, j] belongs to key start + j. */
typedef struct ps_bias_tile {
    int first_head, n_heads, n_queries;
    int64_t first_position;
    const float *features; // [n_queries, n_features] of this provider, row stride feature_stride
    size_t feature_stride;
    int64_t start;                          // multiple of PS_SEGMENT
    int first, last;                        // keys start+first .. start+last-1
    const float *numbers[PS_SEGMENT_PAGES]; // this provider's [n_numbers][64] in each page, or NULL
    float *bias;                            // [n_heads*n_queries, PS_SEGMENT] added to
    float *scratch;                         // ps_bias_scratch_floats(n_queries)
} ps_bias_tile;

typedef struct ps_bias ps_bias;
typedef void ps_bias_prepare(const ps_bias *bias, const ps_bias_row *row);
typedef void ps_bias_fill(const ps_bias *bias, const struct ps_kernels *kernels,
                          const ps_bias_tile *tile);

struct ps_bias {
    ps_bias_kind kind;
    int n_heads, n_kv_heads, head_dim;
    float scale;         // of the layer's scores
    int64_t span;        // distances 0 .. span-1 can occur
    const float *slopes; // alibi: [n_heads]
    const float *u, *v;  // rel_pos: [n_heads, K]
    const float *table;  // rel_pos: see ps_bias_table_floats
    // custom
    int n_features, n_numbers;
    ps_bias_prepare *prepare;
    ps_bias_fill *fill;
    void *user;
};

const char *ps_bias_kind_name(ps_bias_kind kind);

/* What a provider needs for each query and each key, in floats. */
int ps_bias_features(const ps_bias *bias);
int ps_bias_numbers(const ps_bias *bias);

void ps_bias_prepare_row(const ps_bias *bias, const ps_bias_row *row);
void ps_bias_fill_tile(const ps_bias *bias, const struct ps_kernels *kernels,
                       const ps_bias_tile *tile);

/* Scratch of one thread for fill, for blocks of up to n_queries queries. */
size_t ps_bias_scratch_floats(int n_queries);

/* Published slopes for any head count and largest exponent (8 in the paper), times a factor (1):
 * slopes[n_heads], out. */
void ps_bias_alibi_slopes(int n_heads, double max_exponent, double factor, float *slopes);

/* Table of P for one rel_pos layer: [n_heads][span/16 tiles][K][16], lane n of the tiles together
 * being distance (rounded-up span - 1) - n, so that ascending lanes are ascending keys. */
size_t ps_bias_table_floats(int n_heads, int head_dim, int64_t span);

/* Fills the table. w_pos is [n_heads*K, d]; scratch: ps_bias_table_scratch_floats floats. */
void ps_bias_make_table(const ps_engine *engine, const ps_linear *w_pos, double theta, int n_heads,
                        int head_dim, int64_t span, float *scratch, float *table);
size_t ps_bias_table_scratch_floats(int n_heads, int head_dim, int d);

#endif
