/* A stage's share of a model, ready to compute: weights, caches, and all scratch memory.
 *
 *   embed    tokens, positions [R] -> x [R, D]
 *   blocks   x [R, D]              -> x [R, D]        the layers of the part, filling the caches
 *   head     x [n, D]              -> logits [n, V]   final norm and head, n <= PS_HEAD_ROWS; of the
 *                                                     ids that are wanted
 *
 * Rows of x are `stride` = D rounded up to 16 floats apart. Rows of one slot follow each other with
 * consecutive positions; rows of several slots may come in any order. Everything is taken by open;
 * afterwards nothing allocates.
 *
 * The numbers of a row do not depend on the rows beside it.
 * Errors: PS_ERR_NOMEM, and those of weights and caches, from open; PS_ERR_NUMERIC.   MPI: local.
 */
#ifndef PS_MODEL_STAGE_MODEL_H
#define PS_MODEL_STAGE_MODEL_H

#include "math/attention.h"
#include "math/id_range.h"
#include "model/cache.h"
#include "model/weights.h"

enum { PS_HEAD_ROWS = 16 };

/* What a run asks of every stage. */
typedef struct ps_limits {
    int rows_max;      // rows of a parcel
    int chunk_rows;    // rows of one slot in a parcel
    int n_slots;       // sequences at a time
    int64_t context;   // positions of a sequence; caches and tables are made for no more
    ps_kv_types cache; // how keys and values are stored
    int head_ids;      // ids whose logits most tokens need, for the plan; 0: all
    int64_t steps;     // of decoding that the work takes, about; 0: few
    int chunk_least;   // the scheduler may cut prompts so small; 0: by chunk_rows (serve/chunks.h)
    double chunk_growth, chunk_overhead;
} ps_limits;

/* The context of a sequence without an end. */
#define PS_CONTEXT_ENDLESS (INT64_C(1) << 48)

typedef struct ps_rows {
    int n;
    const int *slot;         // [n]
    const int64_t *position; // [n]
    const bool *hidden;      // [n] the row's key is padding (key_mask); NULL: none is
} ps_rows;

/* Sees x after the embedding (layer -1) and after each block. */
typedef void ps_observer(void *arg, int layer, const float *x, size_t stride, int rows);

/* Sees each layer's attention when it has run: queries, features and caches are as it left them
 * until the call returns, so that ps_attention_explain can take it apart. The runs of the
 * job name their slots. */
typedef void ps_attention_observer(void *arg, const ps_engine *engine, int layer,
                                   const ps_attention_job *job);

typedef struct ps_stage_model ps_stage_model;

typedef struct ps_stage_model_params {
    const ps_ckpt *ckpt; // borrowed while the model lives
    ps_part part;
    ps_limits limits;
    ps_weights_access access;
    ps_verify verify;
    const ps_engine *engine; // borrowed while the model lives
    ps_own_biases own;       // of any layers; those of other parts are left alone
} ps_stage_model_params;

ps_err ps_stage_model_open(const ps_stage_model_params *params, ps_stage_model **out) PS_MUST_CHECK;
void ps_stage_model_close(ps_stage_model *model);

/* Time that open took to map or read the weights, and to verify their contents. */
void ps_stage_opened(const ps_stage_model *model, int64_t *map_ns, int64_t *verify_ns);

/* Floats between two rows of x. */
size_t ps_stage_stride(const ps_spec *spec);

void ps_stage_embed(ps_stage_model *model, const int32_t *tokens, const int64_t *positions, int n,
                    float *x);
/* PS_ERR_NUMERIC, with the layer, when a key or value does not fit the cache's type. */
ps_err ps_stage_blocks(ps_stage_model *model, const ps_rows *rows, float *x) PS_MUST_CHECK;

/* Logits of a row that somebody looks at. */
typedef struct ps_logits_wanted {
    const ps_id_range *ranges; // [n_ranges] ascending, disjoint, none empty; borrowed
    int n_ranges;              // 0: all
} ps_logits_wanted;

/* logits[n, V rounded up to 16] of rows 0 .. n of x, in the model's own buffer: valid until the
 * next call. Only where the part ends the model. Of an encoder: its outputs, n_outputs for V.
 * wanted[n]: the others are -inf, those have the same bits as with all; NULL: all.
 * Cost: panels of 16 ids that some row wants are computed for all rows of the call. */
const float *ps_stage_head(ps_stage_model *model, const float *x, int n,
                           const ps_logits_wanted *wanted);
size_t ps_stage_logits_stride(const ps_spec *spec);

/* Bytes of the head's weights that the last ps_stage_head read. */
size_t ps_stage_head_bytes_read(const ps_stage_model *model);

/* [n, D] the rows of the last ps_stage_head behind the final norm, row stride ps_stage_stride. */
const float *ps_stage_head_input(const ps_stage_model *model);

/* Bytes of experts that the rows of the last ps_stage_blocks chose. */
size_t ps_stage_expert_bytes_read(const ps_stage_model *model);

/* Bytes of cached keys and values that the rows of the last ps_stage_blocks saw. */
size_t ps_stage_cache_bytes_read(const ps_stage_model *model);

/* Positions that no later row can see since the rows of the last ps_stage_blocks, summed over the
 * part's layers; and how many of its layers ever leave a position behind. */
size_t ps_stage_evicted(const ps_stage_model *model);
int ps_stage_window_layers(const ps_stage_model *model);

/* An empty slot's new sequence will have at most `length` positions (0: no end). Some ropes take
 * their frequencies from it; it says nothing about memory. */
void ps_stage_start(ps_stage_model *model, int slot, int64_t length);

void ps_stage_fork(ps_stage_model *model, int from, int to);
void ps_stage_end(ps_stage_model *model, int slot);

/* Adds the part's layers of a slot, which holds positions 0 .. position-1, to the state file being
 * written at `path`; and fills an empty slot from such a file, for a sequence of at most `length`
 * positions as in ps_stage_start. model/cache_file.h has the format and the errors. */
ps_err ps_stage_save(ps_stage_model *model, int slot, int64_t position,
                     const char *path) PS_MUST_CHECK;
ps_err ps_stage_load(ps_stage_model *model, int slot, int64_t position, int64_t length,
                     const char *path) PS_MUST_CHECK;

/* Fails when weights lie in a mapped file that was written to since open. */
ps_err ps_stage_check_file(const ps_stage_model *model) PS_MUST_CHECK;

void ps_stage_observe(ps_stage_model *model, ps_observer *observer, void *arg);
void ps_stage_observe_attention(ps_stage_model *model, ps_attention_observer *observer, void *arg);

/* Memory of a stage, as open would take it. */
typedef struct ps_stage_size {
    size_t mapped_bytes;  // weights used in place from the file
    size_t copied_bytes;  // or these, read into memory
    size_t weights_bytes; // small weights and tables in memory
    size_t cache_bytes;
    size_t buffer_bytes; // scratch
} ps_stage_size;

/* With the weights mapped. Errors: PS_ERR_LIMIT when a size overflows. */
ps_err ps_stage_measure(const ps_ckpt *ckpt, const ps_part *part, const ps_limits *limits,
                        ps_gemm gemm, ps_activations activations, int n_threads,
                        ps_stage_size *out) PS_MUST_CHECK;

#endif
