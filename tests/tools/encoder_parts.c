/* An encoder from the inside, against reference data: every rank compares its own layers.
 *
 *   encoder_parts MODEL.h5 EXPECTED.h5 GROUP WINDOW OUT
 *
 * Runs the sequence GROUP/ids (with GROUP/mask where there is one) in one parcel, or with WINDOW
 * above 0 streamed through windows in chunks of 7. OUT.<rank> gets a line "WHAT ERROR TOLERANCE"
 * for each thing compared: the rows behind the embedding and each block, the key part and the
 * position part of each layer's relative bias, its attention weights, and on rank 0 what the
 * encoder gives. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/explain.h"
#include "pipe/pipeline.h"
#include "serve/encode.h"
#include "support/golden_run.h"
#include "tool/windows.h"

enum { CHUNK = 7, LAYERS_MAX = 64 };

/* Largest differences, in the units of the reference. */
typedef struct layer_errors {
    double hidden, key_part, position_part, weights;
    int n_rows, n_queries; // seen so far, behind the layer and in its attention
} layer_errors;

typedef struct state {
    ps_comm *comm;
    ps_ckpt ckpt;
    ps_plan plan;
    ps_engine engine;
    ps_pipeline *pipeline;
    ps_h5_file *expected;
    const char *group;
    int window;
    int32_t *ids, *mask;
    size_t n;
    ps_explained explained;
    layer_errors layers[LAYERS_MAX + 1]; // the embedding, and each layer
    double after_norm, projection;
    FILE *out;
} state;

static void must(ps_err err)
{
    if (!err) return;
    fprintf(stderr, "encoder_parts: %s\n", ps_err_message());
    exit(EXIT_FAILURE);
}

/* A dataset of the group as floats; owned by the caller. */
static float *reference(const state *s, const char *name, size_t wanted)
{
    char path[128];
    size_t n;
    snprintf(path, sizeof path, "/%s/%s", s->group, name);
    float *values = golden_read_dataset(s->expected, path, PS_H5_F32, &n);
    if (!values || n != wanted)
        must(PS_FAIL(PS_ERR_FORMAT, "%s: has not %zu values", path, wanted));
    return values;
}

static void note(double *worst, float found, float wanted)
{
    const double off = fabs((double)found - (double)wanted);
    if (!(off <= *worst)) *worst = off; // NaN stays
}

static void compare_rows(const state *s, const char *name, size_t first, int n, const float *rows,
                         size_t stride, int width, double *worst)
{
    float *wanted = reference(s, name, s->n * (size_t)width);
    for (int r = 0; r < n; r++) {
        for (int i = 0; i < width; i++) {
            note(worst, rows[(size_t)r * stride + (size_t)i],
                 wanted[(first + (size_t)r) * (size_t)width + (size_t)i]);
        }
    }
    ps_mem_free(wanted);
}

static void on_hidden(void *arg, int layer, const float *x, size_t stride, int n_rows)
{
    state *s = arg;
    layer_errors *e = &s->layers[layer + 1];
    char name[64];
    snprintf(name, sizeof name, layer < 0 ? "hidden/embed" : "hidden/block%d", layer);
    compare_rows(s, name, (size_t)e->n_rows, n_rows, x, stride, s->ckpt.spec.d_model, &e->hidden);
    e->n_rows += n_rows;
}

/* Reference of one layer's attention: parts and weights by key, or with a window by distance. */
typedef struct attention_reference {
    float *key_part, *position_part, *weights;
} attention_reference;

static attention_reference open_reference(const state *s, int layer)
{
    char name[64];
    const char *suffix = s->window > 0 ? "_by_distance" : "";
    const size_t rows = (size_t)s->ckpt.spec.n_heads * s->n;
    const size_t columns = s->window > 0 ? (size_t)s->window : s->n;
    attention_reference r;
    snprintf(name, sizeof name, "layer%d/key_bias", layer);
    r.key_part = reference(s, name, rows);
    snprintf(name, sizeof name, "layer%d/pos_bias%s", layer, suffix);
    r.position_part = reference(s, name, rows * columns);
    snprintf(name, sizeof name, "layer%d/weights%s", layer, suffix);
    r.weights = reference(s, name, rows * columns);
    return r;
}

static void compare_query(const state *s, const attention_reference *r, int head, int64_t query,
                          layer_errors *e)
{
    const ps_explained *x = &s->explained;
    const size_t row = (size_t)head * s->n + (size_t)query;
    for (int64_t j = 0; j < x->n; j++) {
        const int64_t key = x->position[j];
        const size_t at = s->window > 0 ? row * (size_t)s->window + (size_t)(query - key)
                                        : row * s->n + (size_t)key;
        note(&e->key_part, x->key_part[0][j], r->key_part[(size_t)head * s->n + (size_t)key]);
        note(&e->position_part, x->position_part[0][j], r->position_part[at]);
        note(&e->weights, x->weight[j], r->weights[at]);
    }
}

static void on_attention(void *arg, const ps_engine *engine, int layer, const ps_attention_job *job)
{
    state *s = arg;
    const attention_reference r = open_reference(s, layer);
    const ps_attention_run *run = &job->runs[0];
    for (int row = 0; row < run->n_rows; row++) {
        for (int head = 0; head < job->shape.n_heads; head++) {
            ps_attention_explain(engine, job, run, row, head, &s->explained);
            compare_query(s, &r, head, run->first_position + row, &s->layers[layer + 1]);
        }
    }
    s->layers[layer + 1].n_queries += run->n_rows;
    ps_mem_free(r.key_part);
    ps_mem_free(r.position_part);
    ps_mem_free(r.weights);
}

static ps_err on_rows(void *arg, size_t sequence, size_t first, int n, const float *hidden,
                      const float *output)
{
    (void)sequence;
    state *s = arg;
    const ps_spec *spec = &s->ckpt.spec;
    compare_rows(s, "hidden/after_norm", first, n, hidden, ps_stage_stride(spec), spec->d_model,
                 &s->after_norm);
    compare_rows(s, "hidden/lyric_proj", first, n, output, ps_stage_logits_stride(spec),
                 spec->n_outputs, &s->projection);
    return PS_OK;
}

static void open_model(state *s, const char *model)
{
    must(ps_ckpt_open(model, &s->ckpt));
    if (s->ckpt.spec.n_layers > LAYERS_MAX)
        must(PS_FAIL(PS_ERR_LIMIT, "%s: has more than %d layers", model, LAYERS_MAX));
    const ps_run_options run = {.stream = s->window};
    must(ps_windows_apply(&run, &s->ckpt.spec));
    const int rows = s->window > 0 ? CHUNK : (int)s->n;
    must(ps_engine_open(&(ps_engine_params){.n_threads = 1, .wait = PS_WAIT_SHARED}, &s->engine));
    const ps_plan_params plan = {.ckpt = &s->ckpt,
                                 .n_stages = ps_comm_size(s->comm),
                                 .limits = {.rows_max = rows + 1,
                                            .chunk_rows = rows,
                                            .n_slots = 1,
                                            .context = (int64_t)s->n},
                                 .n_threads = 1};
    must(ps_plan_make(&plan, &s->plan));
    must(ps_explained_open((int64_t)s->n, s->ckpt.spec.head_dim, &s->explained));
}

static void run(state *s, ps_watch *watch)
{
    const ps_stage_params stage = {.comm = s->comm,
                                   .watch = watch,
                                   .ckpt = &s->ckpt,
                                   .plan = &s->plan,
                                   .engine = &s->engine,
                                   .verify = PS_VERIFY_ALWAYS,
                                   .wait = PS_WAIT_SHARED};
    must(ps_pipeline_open(&stage, &s->pipeline));
    ps_pipeline_observe(s->pipeline, on_hidden, s);
    ps_pipeline_observe_attention(s->pipeline, on_attention, s);
    must(ps_pipeline_serve(s->pipeline));
    if (ps_comm_rank(s->comm) == 0) {
        const ps_encode_sequence sequence = {.ids = s->ids, .mask = s->mask, .n = s->n};
        const ps_encode_params params = {.pipeline = s->pipeline,
                                         .spec = &s->ckpt.spec,
                                         .limits = s->plan.limits,
                                         .sequences = &sequence,
                                         .n_sequences = 1,
                                         .on_rows = on_rows,
                                         .arg = s};
        ps_stage_report *reports = ps_mem_new((size_t)s->plan.n_stages, sizeof *reports);
        must(ps_encode_run(&params));
        must(ps_pipeline_stop(s->pipeline, reports));
        ps_mem_free(reports);
    }
    ps_pipeline_close(s->pipeline);
}

static void line(const state *s, const char *what, int layer, double error, double tolerance)
{
    if (layer >= 0) {
        fprintf(s->out, "layer%d/%s %.17g %g\n", layer, what, error, tolerance);
    } else {
        fprintf(s->out, "%s %.17g %g\n", what, error, tolerance);
    }
}

static void write_lines(state *s, const char *prefix)
{
    char path[4200];
    const int rank = ps_comm_rank(s->comm);
    const ps_part *part = &s->plan.stages[rank].part;
    snprintf(path, sizeof path, "%s.%d", prefix, rank);
    s->out = fopen(path, "w");
    if (!s->out) must(PS_FAIL(PS_ERR_IO, "%s: cannot be written", path));
    if (rank == 0) {
        line(s, "embed", -1, s->layers[0].hidden, 2e-5);
        line(s, "after_norm", -1, s->after_norm, 2e-5);
        line(s, "lyric_proj", -1, s->projection, 2e-5);
    }
    for (int l = part->first_layer; l < part->end_layer; l++) {
        const layer_errors *e = &s->layers[l + 1];
        if (e->n_rows != (int)s->n || e->n_queries != (int)s->n)
            must(PS_FAIL(PS_ERR_FORMAT, "layer %d saw %d rows and %d queries of %zu", l, e->n_rows,
                         e->n_queries, s->n));
        line(s, "block", l, e->hidden, 2e-5);
        line(s, "key_part", l, e->key_part, 3e-5);
        line(s, "position_part", l, e->position_part, 3e-5);
        line(s, "weights", l, e->weights, 1e-5);
    }
    if (fclose(s->out) != 0) must(PS_FAIL(PS_ERR_IO, "%s: cannot be written", path));
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: encoder_parts MODEL.h5 EXPECTED.h5 GROUP WINDOW OUT\n");
        return 2;
    }
    state s = {.group = argv[3], .window = atoi(argv[4])};
    char path[128];
    size_t n_mask;
    must(ps_comm_open(60.0, &s.comm));
    ps_watch *watch = ps_watch_open(s.comm, 60.0);
    must(ps_h5_open(argv[2], &s.expected));
    snprintf(path, sizeof path, "/%s/ids", s.group);
    s.ids = golden_read_dataset(s.expected, path, PS_H5_I32, &s.n);
    snprintf(path, sizeof path, "/%s/mask", s.group);
    s.mask = golden_read_dataset(s.expected, path, PS_H5_I32, &n_mask);
    if (!s.ids || (s.mask && n_mask != s.n))
        must(PS_FAIL(PS_ERR_FORMAT, "%s: no ids, or another number of masks", s.group));
    open_model(&s, argv[1]);
    run(&s, watch);
    write_lines(&s, argv[5]);
    ps_explained_close(&s.explained);
    ps_plan_release(&s.plan);
    ps_engine_close(&s.engine);
    ps_ckpt_close(&s.ckpt);
    ps_h5_close(s.expected);
    ps_mem_free(s.ids);
    ps_mem_free(s.mask);
    ps_watch_close(watch);
    ps_comm_close(s.comm);
    return EXIT_SUCCESS;
}
