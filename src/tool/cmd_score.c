/* pipestep score: log-probabilities and perplexity of given sequences, one a line. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "serve/divergence.h"
#include "serve/score.h"
#include "tool/commands.h"
#include "tool/input.h"
#include "tool/job.h"
#include "tool/logits_file.h"
#include "tool/metrics.h"

typedef struct options {
    const char *tokens_file, *text_file, *logits, *reference;
    int skip;
    bool hidden, json;
} options;

typedef struct state {
    options options;
    ps_job *job;
    ps_tokens *sequences; // [n] owned; moved into the scorer one by one
    size_t n, capacity;
    size_t *lengths;          // [n]
    ps_score_result *results; // [n], n_tokens 0: not done
    size_t n_added, n_printed;
    ps_h5_writer *h5; // NULL: logits are not kept
    // With --reference:
    ps_logits_reference *reference;
    float *reference_row;       // [V]
    ps_divergence *predictions; // [n_predictions] of all sequences, in their order
    size_t n_predictions;
    size_t *first_prediction; // [n] of each sequence
} state;

#define AT(field) offsetof(options, field)

static const ps_opt rows[] = {
    {"tokens", 0, PS_OPT_TEXT, AT(tokens_file), 0, 0, NULL, NULL, "FILE",
     "one sequence of token ids a line, taken as it is"},
    {"text", 0, PS_OPT_TEXT, AT(text_file), 0, 0, NULL, NULL, "FILE", "one text a line"},
    {"logits", 0, PS_OPT_TEXT, AT(logits), 0, 0, NULL, NULL, "OUT.h5",
     "writes /0/tokens [T], /0/logits [T,V], /0/logprob [T-1], then /1/..., as HDF5"},
    {"hidden", 0, PS_OPT_FLAG, AT(hidden), 0, 0, NULL, NULL, NULL,
     "with --logits: /0/hidden [L+1,T,D], the input of block 0 and the output of each; one rank "
     "only"},
    {"reference", 0, PS_OPT_TEXT, AT(reference), 0, 0, NULL, NULL, "FILE.h5",
     "logits of the same sequences by another run (its --logits): ends with the KL divergence from "
     "them, how often the likeliest token is the same, and both perplexities"},
    {"skip", 0, PS_OPT_INT, AT(skip), 0, INT32_MAX, "0", NULL, "N",
     "first predictions of each sequence that are not counted, compared or kept"},
    {"json", 0, PS_OPT_FLAG, AT(json), 0, 0, NULL, NULL, NULL, "prints a JSON object a line"},
};

static ps_err check(void *arg, ps_job *job)
{
    const options *o = &((state *)arg)->options;
    if (!!o->tokens_file + !!o->text_file != 1)
        return PS_FAIL(PS_ERR_USAGE, "give either --tokens FILE or --text FILE");
    if (o->hidden && !o->logits) return PS_FAIL(PS_ERR_USAGE, "--hidden goes with --logits OUT.h5");
    if (!o->logits) return PS_OK;
    char *model;
    PS_TRY(ps_job_model_path(job, &model));
    const char *const input = o->tokens_file ? o->tokens_file : o->text_file;
    const bool over = ps_file_is_same(o->logits, input) || ps_file_is_same(o->logits, model) ||
                      (o->reference && ps_file_is_same(o->logits, o->reference));
    ps_mem_free(model);
    if (over) return PS_FAIL(PS_ERR_USAGE, "--logits %s: would overwrite what is read", o->logits);
    job->needs_one_rank = o->hidden ? "--hidden" : NULL;
    return PS_OK;
}

static ps_err read_line(state *s, const char *line, size_t n, int number, ps_tokens *out)
{
    const options *o = &s->options;
    if (o->tokens_file) return ps_input_parse_ids(line, n, o->tokens_file, number, out);
    char where[PS_ERR_MESSAGE_BYTES];
    snprintf(where, sizeof where, "%s:%d", o->text_file, number);
    return ps_job_encode(s->job, where, line, n, out);
}

static ps_err read_sequences(state *s)
{
    const char *path = s->options.tokens_file ? s->options.tokens_file : s->options.text_file;
    ps_text text = {0};
    ps_err err = ps_file_read(path, PS_INPUT_BYTES_MAX, &text);
    const char *line;
    size_t at = 0, n;
    while (!err && ps_input_next_line(&text, &at, &line, &n)) {
        s->sequences = ps_mem_grow(s->sequences, &s->capacity, s->n + 1, sizeof *s->sequences);
        ps_tokens *tokens = &s->sequences[s->n++];
        *tokens = (ps_tokens){0};
        err = read_line(s, line, n, (int)s->n, tokens);
    }
    if (!err && s->n == 0) err = PS_FAIL(PS_ERR_FORMAT, "%s: holds no sequence", path);
    ps_text_release(&text);
    return err;
}

static ps_err prepare(void *arg, ps_job *job, ps_needs *needs)
{
    state *s = arg;
    s->job = job;
    PS_TRY(read_sequences(s));
    s->lengths = ps_mem_new(s->n, sizeof *s->lengths);
    s->results = ps_mem_new(s->n, sizeof *s->results);
    needs->n_sequences = (int64_t)s->n;
    for (size_t i = 0; i < s->n; i++) {
        s->lengths[i] = s->sequences[i].n;
        if ((int64_t)s->lengths[i] > needs->longest) needs->longest = (int64_t)s->lengths[i];
    }
    return PS_OK;
}

/* ---- logits, to keep and to compare ---- */

static ps_logits_input input_of(const state *s)
{
    return (ps_logits_input){
        .sequences = s->sequences, .n = s->n, .skip = s->options.skip, .spec = &s->job->ckpt.spec};
}

/* While all sequences are still here. */
static ps_err open_files(state *s)
{
    const options *o = &s->options;
    const ps_logits_input input = input_of(s);
    if (o->reference) {
        PS_TRY(ps_logits_open(o->reference, &input, &s->reference));
        s->reference_row = ps_mem_new((size_t)input.spec->vocab_size, sizeof(float));
        s->first_prediction = ps_mem_new(s->n, sizeof *s->first_prediction);
        for (size_t i = 0; i < s->n; i++) {
            s->first_prediction[i] = s->n_predictions;
            s->n_predictions += s->lengths[i] - 1 - (size_t)o->skip;
        }
        if (s->n_predictions == 0)
            return PS_FAIL(PS_ERR_USAGE, "--reference: no sequence has a token to predict");
        s->predictions = ps_mem_new(s->n_predictions, sizeof *s->predictions);
    }
    return o->logits ? ps_logits_create(o->logits, &input, o->hidden, &s->h5) : PS_OK;
}

static ps_err compare(state *s, uint64_t number, int64_t position, const float *logits,
                      int32_t next)
{
    const size_t at = s->first_prediction[number] + (size_t)(position - s->options.skip);
    PS_TRY(ps_logits_read(s->reference, number, position, s->reference_row));
    return ps_divergence_find(logits, s->reference_row, s->job->ckpt.spec.vocab_size, next,
                              &s->predictions[at]);
}

static ps_err on_logits(void *arg, uint64_t number, int64_t position, const float *logits,
                        int32_t next, double logprob)
{
    state *s = arg;
    const ps_logits_input input = input_of(s);
    if (s->reference && next >= 0) PS_TRY(compare(s, number, position, logits, next));
    if (!s->h5) return PS_OK;
    return ps_logits_write(s->h5, &input, number, position, logits, next >= 0 ? &logprob : NULL);
}

/* Which variant of a rope the sequence's length took; nothing for most models. */
static void append_ropes(const state *s, const ps_score_result *r, ps_text *out)
{
    ps_text variants = {0};
    ps_spec_describe_ropes(&s->job->ckpt.spec, (int64_t)r->n_tokens, &variants);
    if (variants.len > 0) {
        ps_text_append_str(out, ", \"rope\": ");
        ps_json_append_text(out, variants.data, variants.len);
    }
    ps_text_release(&variants);
}

static ps_err print_result(state *s, const ps_score_result *r)
{
    ps_text line = {0};
    if (s->options.json) {
        ps_text_appendf(&line, "{\"sequence\": %llu, \"tokens\": %zu, \"logprob\": ",
                        (unsigned long long)r->number, r->n_tokens);
        ps_json_append_real(&line, r->sum);
        ps_text_append_str(&line, ", \"perplexity\": ");
        ps_json_append_real(&line, r->perplexity);
        append_ropes(s, r, &line);
        ps_text_append_str(&line, "}\n");
    } else {
        ps_text_appendf(&line, "%llu: %zu tokens, log-probability %.6f, perplexity %.6f\n",
                        (unsigned long long)r->number, r->n_tokens, r->sum, r->perplexity);
    }
    const ps_err err = ps_output_write(&s->job->output, line.data, line.len);
    ps_text_release(&line);
    return err;
}

/* Results are printed in the order of the input. */
static ps_err on_done(void *arg, const ps_score_result *result)
{
    state *s = arg;
    s->results[result->number] = *result;
    s->job->counts.prompt_tokens += result->n_tokens;
    s->job->counts.requests++;
    ps_generate_counts_note(&s->job->counts, (int64_t)result->n_tokens);
    while (s->n_printed < s->n && s->results[s->n_printed].n_tokens > 0) {
        PS_TRY(print_result(s, &s->results[s->n_printed++]));
    }
    return PS_OK;
}

/* The last line: how far all predictions are from those of the reference. */
static ps_err print_divergence(state *s)
{
    static const char *const names[] = {
        "kl_mean",    "kl_median",           "kl_99", "kl_max", "same_top",
        "perplexity", "reference_perplexity"};
    ps_divergence_summary d;
    ps_divergence_summarise(s->predictions, s->n_predictions, &d);
    const double values[] = {d.kl_mean,    d.kl_median,           d.kl_99, d.kl_max, d.same_top,
                             d.perplexity, d.reference_perplexity};
    ps_text line = {0};
    if (s->options.json) {
        ps_text_append_str(&line, "{\"reference\": ");
        ps_json_append_text(&line, s->options.reference, strlen(s->options.reference));
        ps_text_appendf(&line, ", \"predictions\": %zu", d.n);
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            ps_text_appendf(&line, ", \"%s\": ", names[i]);
            ps_json_append_real(&line, values[i]);
        }
        ps_text_append_str(&line, "}\n");
    } else {
        ps_text_appendf(&line,
                        "%s: %zu predictions, KL divergence %.3g (median %.3g, 99 %% %.3g, maximum "
                        "%.3g), same likeliest token %.3f %%, perplexity %.6f here, %.6f there\n",
                        s->options.reference, d.n, d.kl_mean, d.kl_median, d.kl_99, d.kl_max,
                        100.0 * d.same_top, d.perplexity, d.reference_perplexity);
    }
    const ps_err err = ps_output_write(&s->job->output, line.data, line.len);
    ps_text_release(&line);
    return err;
}

/* ---- hidden states ---- */

/* Where the rows of the present parcel belong: --hidden runs one sequence at a time. */
typedef struct hidden_place {
    state *state;
    size_t sequence;
    uint64_t position; // of the parcel's first row
    float *rows;       // [chunk, D] without padding
    ps_err err;
} hidden_place;

static void on_hidden(void *arg, int layer, const float *x, size_t stride, int n_rows)
{
    hidden_place *h = arg;
    const state *s = h->state;
    const ps_spec *spec = &s->job->ckpt.spec;
    const size_t d = (size_t)spec->d_model;
    for (int r = 0; r < n_rows; r++) {
        memcpy(h->rows + (size_t)r * d, x + (size_t)r * stride, d * sizeof *x);
    }
    char path[64];
    snprintf(path, sizeof path, "/%zu/hidden", h->sequence);
    if (!h->err)
        h->err = ps_h5_overwrite_plane(s->h5, path, (uint64_t)layer + 1, h->position,
                                       (uint64_t)n_rows, h->rows);
    if (layer + 1 == spec->n_layers) h->position += (uint64_t)n_rows;
}

/* ---- the run ---- */

static void update_metrics(const state *s, const ps_score *score)
{
    const ps_generate_counts *c = &s->job->counts;
    const ps_metrics_work work = {.finished = c->requests,
                                  .begun = s->n_added - c->requests,
                                  .waiting = s->n - s->n_added,
                                  .prompt_tokens = c->prompt_tokens,
                                  .slots_used = ps_score_slots_used(score)};
    ps_metrics_update(s->job->metrics, &work);
}

static void add(state *s, ps_score *score)
{
    ps_score_add(score, s->n_added, &s->sequences[s->n_added]);
    s->n_added++;
}

static ps_err step(state *s, ps_score *score)
{
    const ps_err err = ps_score_step(score);
    if (ps_metrics_due(s->job->metrics)) update_metrics(s, score);
    return err;
}

static ps_err run_all(state *s, ps_score *score)
{
    ps_err err = PS_OK;
    for (size_t i = 0; i < s->n && !err; i++) {
        add(s, score);
        // Sequences wait in the file's tokens, not as tasks: a handful is enough to keep slots
        // full.
        while (!err && ps_score_waiting(score) > s->job->limits.n_slots) {
            err = step(s, score);
        }
    }
    while (!err && ps_score_busy(score)) {
        err = step(s, score);
    }
    return err;
}

static ps_err run_hidden(state *s, ps_score *score)
{
    hidden_place h = {.state = s};
    h.rows = ps_mem_new((size_t)s->job->limits.rows_max * (size_t)s->job->ckpt.spec.d_model,
                        sizeof *h.rows);
    ps_pipeline_observe(s->job->pipeline, on_hidden, &h);
    ps_err err = PS_OK;
    for (size_t i = 0; i < s->n && !err; i++) {
        h.sequence = i;
        h.position = 0;
        add(s, score);
        while (!err && ps_score_busy(score)) {
            err = step(s, score);
        }
        if (!err) err = h.err;
    }
    ps_pipeline_observe(s->job->pipeline, NULL, NULL);
    ps_mem_free(h.rows);
    return err;
}

static ps_err check_sequences(const state *s)
{
    const char *path = s->options.tokens_file ? s->options.tokens_file : s->options.text_file;
    for (size_t i = 0; i < s->n; i++) {
        const ps_err err =
            ps_score_check(&s->sequences[i], &s->job->ckpt.spec, &s->job->limits, s->options.skip);
        if (!err) continue;
        char message[PS_ERR_MESSAGE_BYTES];
        snprintf(message, sizeof message, "%s", ps_err_message());
        return PS_FAIL(err, "%s:%zu: %s", path, i + 1, message);
    }
    return PS_OK;
}

static ps_err work(void *arg, ps_job *job)
{
    state *s = arg;
    PS_TRY(check_sequences(s));
    PS_TRY(open_files(s));
    const ps_score_params params = {
        .pipeline = job->pipeline,
        .spec = &job->ckpt.spec,
        .limits = job->limits,
        .in_flight = job->plan.in_flight,
        .skip = s->options.skip,
        .callbacks = {s->h5 || s->reference ? on_logits : NULL, on_done, s}};
    ps_score *score = ps_score_new(&params);
    ps_err err = s->options.hidden ? run_hidden(s, score) : run_all(s, score);
    update_metrics(s, score);
    ps_score_free(score);
    if (!err && s->reference) err = print_divergence(s);
    if (!s->h5) return err;
    if (!err) return ps_h5_commit(s->h5);
    ps_h5_abandon(s->h5);
    return err;
}

int ps_cmd_score(int argc, char **argv)
{
    state s = {0};
    ps_job job = {0};
    ps_opt_group groups[] = {{"Input and output", rows, sizeof rows / sizeof rows[0], &s.options},
                             ps_run_group(&job.run),
                             ps_metrics_group(&job.run),
                             ps_base_group(&job.run)};
    static const char *const names[] = {"MODEL"};
    const ps_job_command command = {.name = "score",
                                    .groups = groups,
                                    .n_groups = 4,
                                    .positionals = {names, 0, 1},
                                    .check = check,
                                    .prepare = prepare,
                                    .work = work,
                                    .state = &s};
    const int status = ps_job_main(&command, &job, argc, argv);
    for (size_t i = 0; i < s.n; i++) {
        ps_tokens_release(&s.sequences[i]);
    }
    ps_mem_free(s.sequences);
    ps_mem_free(s.lengths);
    ps_mem_free(s.results);
    ps_logits_close(s.reference);
    ps_mem_free(s.reference_row);
    ps_mem_free(s.predictions);
    ps_mem_free(s.first_prediction);
    return status;
}
