#include "tool/pictures/tables.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "model/h5.h"

enum { CSV_BUFFER_BYTES = 1 << 20 };

static const char *about(ps_quantity quantity)
{
    static const char *const texts[PS_RECORD_QUANTITIES] = {
        "scale <q, k>, softcapped where the model does so, before any bias",
        "part of the bias that the key decides, alone or with the text up to it",
        "the rest of the bias: for a given query a function of the distance",
        "what is added to the score, all providers together",
        "attention weight: softmax of score + bias",
        "softmax of the score alone: the weight if there were no bias"};
    return texts[quantity];
}

/* ---- HDF5 ---- */

static ps_err write_tokens(const ps_scene *scene, ps_h5_writer *w)
{
    const size_t n = scene->tokens.n;
    ps_text all = {0};
    int64_t *ends = ps_mem_new(n, sizeof *ends);
    for (size_t i = 0; i < n; i++) {
        ps_text_append(&all, scene->texts[i].data, scene->texts[i].len);
        ends[i] = (int64_t)all.len;
    }
    const uint64_t count = n, bytes = all.len;
    ps_err err = ps_h5_put(w, "/token_id", PS_H5_I32, 1, &count, scene->tokens.ids);
    if (!err) err = ps_h5_put(w, "/token_text_end", PS_H5_I64, 1, &count, ends);
    if (!err) err = ps_h5_put(w, "/token_text", PS_H5_U8, 1, &bytes, ps_text_str(&all));
    ps_mem_free(ends);
    ps_text_release(&all);
    return err;
}

static size_t most_keys(const ps_record_layer *layer)
{
    size_t most = 0;
    for (size_t s = 0; s < layer->n_steps; s++) {
        if ((size_t)layer->steps[s].n > most) most = (size_t)layer->steps[s].n;
    }
    return most;
}

static ps_err write_keys(const ps_record_layer *layer, const char *group, ps_h5_writer *w)
{
    const size_t columns = most_keys(layer);
    const uint64_t dims[2] = {layer->n_steps, columns};
    int64_t *queries = ps_mem_new(layer->n_steps, sizeof *queries);
    int64_t *keys = ps_mem_new(layer->n_steps * columns, sizeof *keys);
    for (size_t s = 0; s < layer->n_steps; s++) {
        const ps_record_step *step = &layer->steps[s];
        queries[s] = step->query;
        for (size_t c = 0; c < columns; c++) {
            keys[s * columns + c] = c < (size_t)step->n ? layer->keys[step->first + c] : -1;
        }
    }
    char name[64];
    snprintf(name, sizeof name, "%s/query", group);
    ps_err err = ps_h5_put(w, name, PS_H5_I64, 1, dims, queries);
    snprintf(name, sizeof name, "%s/key", group);
    if (!err) err = ps_h5_put(w, name, PS_H5_I64, 2, dims, keys);
    ps_mem_free(queries);
    ps_mem_free(keys);
    return err;
}

static ps_err write_quantity(const ps_record *record, const ps_record_layer *layer,
                             ps_quantity quantity, const char *group, ps_h5_writer *w)
{
    const size_t columns = most_keys(layer), plane = layer->n_steps * columns;
    const uint64_t dims[3] = {(uint64_t)record->n_heads, layer->n_steps, columns};
    char name[64];
    ps_h5_dataset dataset;
    snprintf(name, sizeof name, "%s/%s", group, ps_quantity_name(quantity));
    PS_TRY(ps_h5_begin(w, name, PS_H5_F32, 3, dims, &dataset));
    float *rows = ps_mem_new(plane, sizeof *rows);
    ps_err err = PS_OK;
    for (int h = 0; h < record->n_heads && !err; h++) {
        for (size_t s = 0; s < layer->n_steps; s++) {
            const float *values = ps_record_values(record, layer, s, h, quantity);
            for (size_t c = 0; c < columns; c++) {
                rows[s * columns + c] = c < (size_t)layer->steps[s].n ? values[c] : NAN;
            }
        }
        err = ps_h5_write_rows(w, dataset, (uint64_t)h, 1, rows);
    }
    ps_mem_free(rows);
    PS_TRY(err);
    PS_TRY(ps_h5_end(w, dataset));
    return ps_h5_put_attribute_text(w, name, "about", about(quantity));
}

static ps_err write_sinks(const ps_record *record, const ps_record_layer *layer, const char *group,
                          ps_h5_writer *w)
{
    const size_t heads = (size_t)record->n_heads;
    const uint64_t dims[2] = {heads, layer->n_steps};
    float *sinks = ps_mem_new(heads * layer->n_steps, sizeof *sinks);
    for (size_t h = 0; h < heads; h++) {
        for (size_t s = 0; s < layer->n_steps; s++) {
            sinks[h * layer->n_steps + s] = layer->sinks[s * heads + h];
        }
    }
    char name[64];
    snprintf(name, sizeof name, "%s/sink", group);
    const ps_err err = ps_h5_put(w, name, PS_H5_F32, 2, dims, sinks);
    ps_mem_free(sinks);
    return err;
}

static ps_err write_layer(const ps_scene *scene, int l, ps_h5_writer *w)
{
    const ps_record *record = &scene->record;
    const ps_record_layer *layer = &record->layers[l];
    char group[32], name[64];
    snprintf(group, sizeof group, "/layers/%03d", layer->layer);
    const uint64_t heads = (uint64_t)record->n_heads;
    snprintf(name, sizeof name, "%s/head", group);
    PS_TRY(ps_h5_put(w, name, PS_H5_I32, 1, &heads, record->heads));
    PS_TRY(write_keys(layer, group, w));
    for (int q = 0; q < PS_RECORD_QUANTITIES; q++) {
        PS_TRY(write_quantity(record, layer, (ps_quantity)q, group, w));
    }
    PS_TRY(write_sinks(record, layer, group, w));
    PS_TRY(ps_h5_put_attribute_int(w, group, "window", scene->layers[l].window));
    ps_text biases = {0};
    ps_scene_biases(&scene->layers[l], &biases);
    const ps_err err = ps_h5_put_attribute_text(w, group, "biases", ps_text_str(&biases));
    ps_text_release(&biases);
    return err;
}

static ps_err write_root(const ps_scene *scene, ps_h5_writer *w)
{
    PS_TRY(ps_h5_put_attribute_text(w, "/", "format", "pipestep bias"));
    PS_TRY(ps_h5_put_attribute_int(w, "/", "version", 1));
    PS_TRY(ps_h5_put_attribute_text(w, "/", "family", scene->family));
    PS_TRY(ps_h5_put_attribute_int(w, "/", "prompt_tokens", (int64_t)scene->n_prompt));
    return write_tokens(scene, w);
}

ps_err ps_tables_write_h5(const ps_scene *scene, const char *path)
{
    ps_h5_writer *w;
    PS_TRY(ps_h5_create(path, &w));
    ps_err err = write_root(scene, w);
    for (int l = 0; l < scene->record.n_layers && !err; l++) {
        err = write_layer(scene, l, w);
    }
    if (!err) return ps_h5_commit(w);
    ps_h5_abandon(w);
    return err;
}

/* ---- CSV ---- */

static void append_step(const ps_record *record, const ps_record_layer *layer, size_t s, int head,
                        ps_text *out)
{
    const ps_record_step *step = &layer->steps[s];
    const float *values[PS_RECORD_QUANTITIES];
    for (int q = 0; q < PS_RECORD_QUANTITIES; q++) {
        values[q] = ps_record_values(record, layer, s, head, (ps_quantity)q);
    }
    for (int64_t j = 0; j < step->n; j++) {
        const int64_t key = layer->keys[step->first + (size_t)j];
        ps_text_appendf(out, "%d,%d,%lld,%lld,%lld", layer->layer, record->heads[head],
                        (long long)step->query, (long long)key, (long long)(step->query - key));
        for (int q = 0; q < PS_RECORD_QUANTITIES; q++) {
            ps_text_appendf(out, ",%.7g", (double)values[q][j]);
        }
        ps_text_append_char(out, '\n');
    }
}

ps_err ps_tables_write_csv(const ps_scene *scene, const char *path)
{
    const ps_record *record = &scene->record;
    ps_file_writer file;
    PS_TRY(ps_file_writer_open(path, &file));
    ps_text lines = {0};
    ps_text_append_str(&lines, "layer,head,query,key,distance");
    for (int q = 0; q < PS_RECORD_QUANTITIES; q++) {
        ps_text_appendf(&lines, ",%s", ps_quantity_name((ps_quantity)q));
    }
    ps_text_append_char(&lines, '\n');
    for (int l = 0; l < record->n_layers; l++) {
        for (int h = 0; h < record->n_heads; h++) {
            for (size_t s = 0; s < record->layers[l].n_steps; s++) {
                append_step(record, &record->layers[l], s, h, &lines);
                if (lines.len < CSV_BUFFER_BYTES) continue;
                ps_file_writer_write(&file, lines.data, lines.len);
                ps_text_clear(&lines);
            }
        }
    }
    ps_file_writer_write(&file, lines.data, lines.len);
    ps_text_release(&lines);
    return ps_file_writer_commit(&file);
}
