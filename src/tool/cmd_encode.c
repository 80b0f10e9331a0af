/* pipestep encode: what an encoder makes of given sequences of token ids, one a line. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/h5.h"
#include "serve/encode.h"
#include "tool/commands.h"
#include "tool/input.h"
#include "tool/job.h"

enum { CHUNK_MAX = 8192 }; // as --chunk has it

typedef struct options {
    const char *tokens, *mask, *out;
} options;

/* Lines of a file as numbers. */
typedef struct lists {
    ps_tokens *line; // [n] owned
    size_t n, capacity;
} lists;

typedef struct state {
    options options;
    ps_job *job;
    lists ids, masks;
    ps_encode_sequence *sequences; // [ids.n] owned
    ps_h5_writer *h5;
    ps_h5_dataset hidden, output; // of the sequence being written
    float *rows;                  // [PS_HEAD_ROWS, D or n_outputs] without padding, owned
} state;

#define AT(field) offsetof(options, field)

static const ps_opt rows[] = {
    {"tokens", 0, PS_OPT_TEXT, AT(tokens), 0, 0, NULL, NULL, "FILE",
     "one sequence of token ids a line"},
    {"mask", 0, PS_OPT_TEXT, AT(mask), 0, 0, NULL, NULL, "FILE",
     "a line for each sequence, with a 1 for each token, or a 0 for padding that no token sees"},
    {"out", 'o', PS_OPT_TEXT, AT(out), 0, 0, NULL, NULL, "OUT.h5",
     "writes /0/ids [T], /0/hidden [T,D] behind the final norm, /0/output [T,N] of the model's "
     "projection, then /1/..., as HDF5"},
};

/* Another table because it sets an option of the run. */
static const ps_opt stream_rows[] = {
    {"stream", 0, PS_OPT_INT, offsetof(ps_run_options, stream), 0, INT32_MAX, "0", NULL, "W",
     "causal: each token sees itself and the W - 1 before it, however long the sequence; 0: as the "
     "model has it"},
};

static ps_err check(void *arg, ps_job *job)
{
    const options *o = &((state *)arg)->options;
    if (!o->tokens) return PS_FAIL(PS_ERR_USAGE, "--tokens FILE is missing");
    if (!o->out) return PS_FAIL(PS_ERR_USAGE, "--out OUT.h5 is missing");
    char *model;
    PS_TRY(ps_job_model_path(job, &model));
    const bool over = ps_file_is_same(o->out, o->tokens) || ps_file_is_same(o->out, model) ||
                      (o->mask && ps_file_is_same(o->out, o->mask));
    ps_mem_free(model);
    if (over) return PS_FAIL(PS_ERR_USAGE, "--out %s: would overwrite what is read", o->out);
    return PS_OK;
}

static ps_err read_lists(const char *path, lists *out)
{
    ps_text text = {0};
    ps_err err = ps_file_read(path, PS_INPUT_BYTES_MAX, &text);
    const char *line;
    size_t at = 0, n;
    while (!err && ps_input_next_line(&text, &at, &line, &n)) {
        out->line = ps_mem_grow(out->line, &out->capacity, out->n + 1, sizeof *out->line);
        ps_tokens *numbers = &out->line[out->n++];
        *numbers = (ps_tokens){0};
        err = ps_input_parse_ids(line, n, path, (int)out->n, numbers);
    }
    if (!err && out->n == 0) err = PS_FAIL(PS_ERR_FORMAT, "%s: holds no sequence", path);
    ps_text_release(&text);
    return err;
}

static void release_lists(lists *l)
{
    for (size_t i = 0; i < l->n; i++) {
        ps_tokens_release(&l->line[i]);
    }
    ps_mem_free(l->line);
}

static ps_err check_mask(const state *s, size_t i)
{
    const ps_tokens *mask = &s->masks.line[i];
    if (mask->n != s->ids.line[i].n)
        return PS_FAIL(PS_ERR_FORMAT, "%s:%zu: %zu numbers for the %zu tokens of %s:%zu",
                       s->options.mask, i + 1, mask->n, s->ids.line[i].n, s->options.tokens, i + 1);
    for (size_t t = 0; t < mask->n; t++) {
        if (mask->ids[t] > 1)
            return PS_FAIL(PS_ERR_FORMAT, "%s:%zu: number %zu is %d, wanted 0 or 1",
                           s->options.mask, i + 1, t, mask->ids[t]);
    }
    return PS_OK;
}

static bool takes_masks(const ps_spec *spec)
{
    for (int l = 0; l < spec->n_layers; l++) {
        bool found = false;
        for (int b = 0; b < spec->layers[l].n_biases; b++) {
            found = found || spec->layers[l].biases[b].kind == PS_BIAS_KEY_MASK;
        }
        if (!found) return false;
    }
    return true;
}

static ps_err read_masks(state *s)
{
    if (!takes_masks(&s->job->ckpt.spec))
        return PS_FAIL(PS_ERR_UNSUPPORTED, "--mask: a layer of %s has no key_mask",
                       s->job->ckpt.path);
    PS_TRY(read_lists(s->options.mask, &s->masks));
    if (s->masks.n != s->ids.n)
        return PS_FAIL(PS_ERR_FORMAT, "%s: has %zu lines, %s has %zu", s->options.mask, s->masks.n,
                       s->options.tokens, s->ids.n);
    for (size_t i = 0; i < s->ids.n; i++) {
        PS_TRY(check_mask(s, i));
    }
    return PS_OK;
}

/* Checked here, before weights and caches are made for it. */
static ps_err check_sequences(const state *s)
{
    for (size_t i = 0; i < s->ids.n; i++) {
        const ps_err err = ps_encode_check(&s->sequences[i], &s->job->ckpt.spec, s->job->run.chunk);
        if (!err) continue;
        char message[PS_ERR_MESSAGE_BYTES];
        snprintf(message, sizeof message, "%s", ps_err_message());
        return PS_FAIL(err, "%s:%zu: %s", s->options.tokens, i + 1, message);
    }
    return PS_OK;
}

static ps_err prepare(void *arg, ps_job *job, ps_needs *needs)
{
    state *s = arg;
    s->job = job;
    PS_TRY(read_lists(s->options.tokens, &s->ids));
    if (s->options.mask) PS_TRY(read_masks(s));
    needs->n_sequences = (int64_t)s->ids.n;
    s->sequences = ps_mem_new(s->ids.n, sizeof *s->sequences);
    for (size_t i = 0; i < s->ids.n; i++) {
        s->sequences[i] = (ps_encode_sequence){.ids = s->ids.line[i].ids,
                                               .mask = s->masks.n ? s->masks.line[i].ids : NULL,
                                               .n = s->ids.line[i].n};
        if ((int64_t)s->ids.line[i].n > needs->longest) needs->longest = (int64_t)s->ids.line[i].n;
    }
    // A sequence that cannot be cut makes the messages as long as it is, unless they were given.
    if (ps_spec_looks_ahead(&job->ckpt.spec) && job->run.chunk == 0) job->run.chunk = CHUNK_MAX;
    return check_sequences(s);
}

/* ---- the HDF5 output ---- */

static ps_err put_numbers(const state *s, size_t sequence, const char *name, const ps_tokens *list)
{
    char path[64];
    const uint64_t dims[1] = {list->n};
    snprintf(path, sizeof path, "/%zu/%s", sequence, name);
    return ps_h5_put(s->h5, path, PS_H5_I32, 1, dims, list->ids);
}

static ps_err begin_matrix(const state *s, size_t sequence, const char *name, int width,
                           ps_h5_dataset *out)
{
    char path[64];
    const uint64_t dims[2] = {s->ids.line[sequence].n, (uint64_t)width};
    snprintf(path, sizeof path, "/%zu/%s", sequence, name);
    return ps_h5_begin(s->h5, path, PS_H5_F32, 2, dims, out);
}

static ps_err begin_sequence(state *s, size_t sequence)
{
    const ps_spec *spec = &s->job->ckpt.spec;
    PS_TRY(put_numbers(s, sequence, "ids", &s->ids.line[sequence]));
    if (s->options.mask) PS_TRY(put_numbers(s, sequence, "mask", &s->masks.line[sequence]));
    PS_TRY(begin_matrix(s, sequence, "hidden", spec->d_model, &s->hidden));
    if (spec->n_outputs == 0) return PS_OK;
    return begin_matrix(s, sequence, "output", spec->n_outputs, &s->output);
}

static ps_err end_sequence(state *s, size_t sequence)
{
    const size_t n = s->ids.line[sequence].n;
    PS_TRY(ps_h5_end(s->h5, s->hidden));
    if (s->job->ckpt.spec.n_outputs > 0) PS_TRY(ps_h5_end(s->h5, s->output));
    s->job->counts.prompt_tokens += n;
    s->job->counts.requests++;
    ps_generate_counts_note(&s->job->counts, (int64_t)n);
    return PS_OK;
}

static ps_err write_rows(const state *s, ps_h5_dataset dataset, size_t first, int n,
                         const float *from, size_t stride, int width)
{
    for (int r = 0; r < n; r++) {
        memcpy(s->rows + (size_t)r * (size_t)width, from + (size_t)r * stride,
               (size_t)width * sizeof *from);
    }
    return ps_h5_write_rows(s->h5, dataset, first, (uint64_t)n, s->rows);
}

static ps_err on_rows(void *arg, size_t sequence, size_t first, int n, const float *hidden,
                      const float *output)
{
    state *s = arg;
    const ps_spec *spec = &s->job->ckpt.spec;
    if (first == 0) PS_TRY(begin_sequence(s, sequence));
    PS_TRY(write_rows(s, s->hidden, first, n, hidden, ps_stage_stride(spec), spec->d_model));
    if (spec->n_outputs > 0)
        PS_TRY(write_rows(s, s->output, first, n, output, ps_stage_logits_stride(spec),
                          spec->n_outputs));
    return first + (size_t)n == s->ids.line[sequence].n ? end_sequence(s, sequence) : PS_OK;
}

static ps_err begin_file(state *s)
{
    PS_TRY(ps_h5_create(s->options.out, &s->h5));
    PS_TRY(ps_h5_put_attribute_text(s->h5, "/", "format", "pipestep-encodings"));
    return ps_h5_put_attribute_int(s->h5, "/", "stream", s->job->run.stream);
}

static ps_err work(void *arg, ps_job *job)
{
    state *s = arg;
    const ps_spec *spec = &job->ckpt.spec;
    const int width = spec->d_model > spec->n_outputs ? spec->d_model : spec->n_outputs;
    s->rows = ps_mem_new((size_t)PS_HEAD_ROWS * (size_t)width, sizeof *s->rows);
    const ps_encode_params params = {.pipeline = job->pipeline,
                                     .spec = spec,
                                     .limits = job->limits,
                                     .sequences = s->sequences,
                                     .n_sequences = s->ids.n,
                                     .on_rows = on_rows,
                                     .arg = s};
    ps_err err = begin_file(s);
    if (!err) err = ps_encode_run(&params);
    if (!s->h5) return err;
    if (!err) return ps_h5_commit(s->h5);
    ps_h5_abandon(s->h5);
    return err;
}

int ps_cmd_encode(int argc, char **argv)
{
    state s = {0};
    ps_job job = {0};
    ps_opt_group groups[] = {
        {"Input and output", rows, sizeof rows / sizeof rows[0], &s.options},
        {"Streaming", stream_rows, sizeof stream_rows / sizeof stream_rows[0], &job.run},
        ps_run_group(&job.run),
        ps_base_group(&job.run)};
    static const char *const names[] = {"MODEL"};
    const ps_job_command command = {.name = "encode",
                                    .groups = groups,
                                    .n_groups = 4,
                                    .positionals = {names, 1, 1},
                                    .models = PS_JOB_ENCODERS,
                                    .check = check,
                                    .prepare = prepare,
                                    .work = work,
                                    .state = &s};
    const int status = ps_job_main(&command, &job, argc, argv);
    release_lists(&s.ids);
    release_lists(&s.masks);
    ps_mem_free(s.sequences);
    ps_mem_free(s.rows);
    return status;
}
