/* Rows reach a layer in ascending order, whatever the chunks are, so steps are only appended. */
#include "tool/pictures/record.h"

#include <stdio.h>
#include <string.h>

const char *ps_quantity_name(ps_quantity quantity)
{
    static const char *const names[PS_RECORD_QUANTITIES] = {
        "score", "key_part", "position_part", "bias", "weight", "weight_without_bias"};
    return names[quantity];
}

void ps_record_open(const ps_ranges *layers, const ps_ranges *heads, const ps_ranges *steps,
                    const ps_spec *spec, ps_record *out)
{
    *out = (ps_record){.steps = *steps};
    out->heads = ps_mem_new((size_t)spec->n_heads, sizeof *out->heads);
    out->layers = ps_mem_new((size_t)spec->n_layers, sizeof *out->layers);
    for (int h = 0; h < spec->n_heads; h++) {
        if (ps_ranges_hold(heads, h)) out->heads[out->n_heads++] = h;
    }
    for (int l = 0; l < spec->n_layers; l++) {
        if (ps_ranges_hold(layers, l)) out->layers[out->n_layers++].layer = l;
    }
}

static void release_layer(ps_record_layer *layer)
{
    ps_mem_free(layer->steps);
    ps_mem_free(layer->keys);
    ps_mem_free(layer->values);
    ps_mem_free(layer->sinks);
    *layer = (ps_record_layer){.layer = layer->layer};
}

void ps_record_release(ps_record *record)
{
    for (int l = 0; l < record->n_layers; l++) {
        release_layer(&record->layers[l]);
    }
    ps_mem_free(record->layers);
    ps_mem_free(record->heads);
    ps_explained_close(&record->explained);
    *record = (ps_record){0};
}

double ps_record_bytes(const ps_record *record, const ps_spec *spec, int64_t length)
{
    double keys = 0.0;
    for (int l = 0; l < record->n_layers; l++) {
        const ps_visible v = ps_spec_visible(spec, record->layers[l].layer);
        for (int64_t query = 0; query < length; query++) {
            if (!ps_ranges_hold(&record->steps, query)) continue;
            keys += (double)(ps_visible_kept(&v, query) + ps_visible_end(&v, query, length) -
                             ps_visible_first(&v, query));
        }
    }
    return keys * (double)record->n_heads * PS_RECORD_QUANTITIES * sizeof(float);
}

/* ---- watching ---- */

/* Room for one more step of n keys; its values, cleared. */
static float *append_step(const ps_record *record, ps_record_layer *layer, int64_t query, int64_t n)
{
    const size_t heads = (size_t)record->n_heads, keys = layer->n_keys + (size_t)n;
    const size_t per_key = heads * PS_RECORD_QUANTITIES;
    layer->steps =
        ps_mem_grow(layer->steps, &layer->steps_capacity, layer->n_steps + 1, sizeof *layer->steps);
    layer->keys = ps_mem_grow(layer->keys, &layer->keys_capacity, keys, sizeof *layer->keys);
    layer->values =
        ps_mem_grow(layer->values, &layer->values_capacity, keys * per_key, sizeof *layer->values);
    layer->sinks = ps_mem_grow(layer->sinks, &layer->sinks_capacity, (layer->n_steps + 1) * heads,
                               sizeof *layer->sinks);
    float *values = layer->values + layer->n_keys * per_key;
    memset(values, 0, (size_t)n * per_key * sizeof *values);
    layer->steps[layer->n_steps++] =
        (ps_record_step){.query = query, .first = layer->n_keys, .n = n};
    layer->n_keys = keys;
    return values;
}

/* values: [PS_RECORD_QUANTITIES][n] */
static void keep(const ps_explained *e, float *values)
{
    const size_t n = (size_t)e->n;
    memcpy(values + PS_QUANTITY_SCORE * n, e->score, n * sizeof *values);
    memcpy(values + PS_QUANTITY_BIAS * n, e->bias, n * sizeof *values);
    memcpy(values + PS_QUANTITY_WEIGHT * n, e->weight, n * sizeof *values);
    memcpy(values + PS_QUANTITY_PLAIN_WEIGHT * n, e->plain_weight, n * sizeof *values);
    for (int p = 0; p < e->n_biases; p++) {
        for (size_t j = 0; j < n; j++) {
            values[PS_QUANTITY_KEY_PART * n + j] += e->key_part[p][j];
            values[PS_QUANTITY_POSITION_PART * n + j] += e->position_part[p][j];
        }
    }
}

static ps_err watch_row(ps_record *record, ps_record_layer *layer, const ps_engine *engine,
                        const ps_attention_job *job, const ps_attention_run *run, int row)
{
    const int64_t n = ps_attention_count_keys(job, run, row);
    if (n > record->explained.capacity) {
        ps_explained_close(&record->explained);
        PS_TRY(ps_explained_open(2 * n, job->shape.head_dim, &record->explained));
    }
    float *values = append_step(record, layer, run->first_position + row, n);
    float *sinks = layer->sinks + (layer->n_steps - 1) * (size_t)record->n_heads;
    for (int h = 0; h < record->n_heads; h++) {
        ps_attention_explain(engine, job, run, row, record->heads[h], &record->explained);
        keep(&record->explained, values + (size_t)h * PS_RECORD_QUANTITIES * (size_t)n);
        sinks[h] = record->explained.sink_weight;
    }
    memcpy(layer->keys + layer->steps[layer->n_steps - 1].first, record->explained.position,
           (size_t)n * sizeof *layer->keys);
    return PS_OK;
}

static ps_record_layer *find_layer(ps_record *record, int number)
{
    for (int l = 0; l < record->n_layers; l++) {
        if (record->layers[l].layer == number) return &record->layers[l];
    }
    return NULL;
}

static void watch(void *arg, const ps_engine *engine, int number, const ps_attention_job *job)
{
    ps_record *record = arg;
    ps_record_layer *layer = find_layer(record, number);
    for (int r = 0; layer && r < job->n_runs; r++) {
        const ps_attention_run *run = &job->runs[r];
        for (int row = 0; row < run->n_rows && !record->err; row++) {
            if (!ps_ranges_hold(&record->steps, run->first_position + row)) continue;
            record->err = watch_row(record, layer, engine, job, run, row);
            if (record->err)
                snprintf(record->message, sizeof record->message, "%s", ps_err_message());
        }
    }
}

void ps_record_watch(ps_record *record, ps_pipeline *pipeline)
{
    ps_pipeline_observe_attention(pipeline, watch, record);
}

/* ---- gathering ---- */

static void pack(const ps_record *record, const ps_record_layer *layer, ps_text *out)
{
    const size_t heads = (size_t)record->n_heads;
    ps_text_append(out, &layer->n_steps, sizeof layer->n_steps);
    ps_text_append(out, &layer->n_keys, sizeof layer->n_keys);
    ps_text_append(out, layer->steps, layer->n_steps * sizeof *layer->steps);
    ps_text_append(out, layer->keys, layer->n_keys * sizeof *layer->keys);
    ps_text_append(out, layer->values,
                   layer->n_keys * heads * PS_RECORD_QUANTITIES * sizeof *layer->values);
    ps_text_append(out, layer->sinks, layer->n_steps * heads * sizeof *layer->sinks);
}

static const char *take(const char *from, void *out, size_t n)
{
    if (n > 0) memcpy(out, from, n);
    return from + n;
}

static void unpack(const ps_record *record, const ps_text *text, ps_record_layer *layer)
{
    const size_t heads = (size_t)record->n_heads;
    const char *at = take(text->data, &layer->n_steps, sizeof layer->n_steps);
    at = take(at, &layer->n_keys, sizeof layer->n_keys);
    const size_t values = layer->n_keys * heads * PS_RECORD_QUANTITIES;
    layer->steps = ps_mem_new(layer->n_steps, sizeof *layer->steps);
    layer->keys = ps_mem_new(layer->n_keys, sizeof *layer->keys);
    layer->values = ps_mem_new(values, sizeof *layer->values);
    layer->sinks = ps_mem_new(layer->n_steps * heads, sizeof *layer->sinks);
    at = take(at, layer->steps, layer->n_steps * sizeof *layer->steps);
    at = take(at, layer->keys, layer->n_keys * sizeof *layer->keys);
    at = take(at, layer->values, values * sizeof *layer->values);
    take(at, layer->sinks, layer->n_steps * heads * sizeof *layer->sinks);
}

static int rank_of(const ps_plan *plan, int layer)
{
    int rank = 0;
    while (layer >= plan->stages[rank].part.end_layer) {
        rank++;
    }
    return rank;
}

ps_err ps_record_gather(ps_record *record, ps_comm *comm, const ps_plan *plan)
{
    PS_TRY(ps_comm_agree(comm, record->err ? PS_FAIL(record->err, "%s", record->message) : PS_OK));
    ps_err err = PS_OK;
    for (int l = 0; l < record->n_layers && !err; l++) {
        ps_record_layer *layer = &record->layers[l];
        const int from = rank_of(plan, layer->layer), rank = ps_comm_rank(comm);
        if (from == 0 || (rank != 0 && rank != from)) continue;
        ps_text text = {0};
        if (rank == from) pack(record, layer, &text);
        err = ps_comm_bring(comm, from, &text);
        if (!err && rank == 0) unpack(record, &text, layer);
        if (rank == from) release_layer(layer);
        ps_text_release(&text);
    }
    return ps_comm_agree(comm, err);
}

const float *ps_record_values(const ps_record *record, const ps_record_layer *layer, size_t step,
                              int head, ps_quantity quantity)
{
    const ps_record_step *s = &layer->steps[step];
    const size_t before = s->first * (size_t)record->n_heads * PS_RECORD_QUANTITIES;
    const size_t row = (size_t)head * PS_RECORD_QUANTITIES + (size_t)quantity;
    return layer->values + before + row * (size_t)s->n;
}
