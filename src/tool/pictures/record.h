/* What attention did in chosen layers, heads and steps of one sequence, kept as it runs.
 *
 *   every rank   ps_record_watch     its own layers' attention, from now on
 *                ps_record_gather    the other ranks' layers come to rank 0
 *   rank 0       ps_record_value and the fields, afterwards without model or MPI
 *
 * A step is a query's position. Of each step all visible keys are kept, aligned to the window of
 * the layer: column 0 is the oldest visible key, and a step of few keys has few columns.
 *
 * Memory: PS_RECORD_QUANTITIES floats for each (layer, head, step, key).
 * Errors: PS_ERR_NOMEM, those of the ranks.   MPI: gather is collective, the rest local.
 */
#ifndef PS_TOOL_PICTURES_RECORD_H
#define PS_TOOL_PICTURES_RECORD_H

#include "math/explain.h"
#include "pipe/pipeline.h"
#include "tool/pictures/ranges.h"

/* As in math/explain.h; the parts are summed over the providers. */
typedef enum ps_quantity {
    PS_QUANTITY_SCORE,
    PS_QUANTITY_KEY_PART,
    PS_QUANTITY_POSITION_PART,
    PS_QUANTITY_BIAS,
    PS_QUANTITY_WEIGHT,
    PS_QUANTITY_PLAIN_WEIGHT,
    PS_RECORD_QUANTITIES
} ps_quantity;

const char *ps_quantity_name(ps_quantity quantity); // "key_part": of datasets and columns

typedef struct ps_record_step {
    int64_t query;
    size_t first; // of its keys in the layer's `keys`
    int64_t n;    // visible keys
} ps_record_step;

typedef struct ps_record_layer {
    int layer;             // of the model
    ps_record_step *steps; // [n_steps] ascending
    int64_t *keys;         // [n_keys] positions, ascending within a step
    float *values;         // step by step [heads][PS_RECORD_QUANTITIES][keys of the step]
    float *sinks;          // [n_steps, heads] weight of the head's sink, or of a quiet softmax's 0
    size_t n_steps, n_keys;
    size_t steps_capacity, keys_capacity, values_capacity, sinks_capacity;
} ps_record_layer;

typedef struct ps_record {
    int n_heads, n_layers;
    int *heads;              // [n_heads] of the model, ascending
    ps_record_layer *layers; // [n_layers] ascending
    ps_ranges steps;         // borrowed
    ps_explained explained;
    ps_err err; // of watching; its message below
    char message[PS_ERR_MESSAGE_BYTES];
} ps_record;

/* Layers and heads out of those of the model. Ended with ps_record_release. */
void ps_record_open(const ps_ranges *layers, const ps_ranges *heads, const ps_ranges *steps,
                    const ps_spec *spec, ps_record *out);
void ps_record_release(ps_record *record);

/* Bytes that a sequence of `length` positions takes. */
double ps_record_bytes(const ps_record *record, const ps_spec *spec, int64_t length);

void ps_record_watch(ps_record *record, ps_pipeline *pipeline);
ps_err ps_record_gather(ps_record *record, ps_comm *comm, const ps_plan *plan) PS_MUST_CHECK;

/* The keys' values of one step in one of the record's heads (0 .. n_heads-1): [n]. */
const float *ps_record_values(const ps_record *record, const ps_record_layer *layer, size_t step,
                              int head, ps_quantity quantity);

#endif
