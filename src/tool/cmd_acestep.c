/* pipestep acestep: ACE-Step's language model, from caption and lyrics to metadata and audio codes.
 */
#include <stdio.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/progress.h"
#include "tool/acestep/options.h"
#include "tool/acestep/request_json.h"
#include "tool/acestep/song_output.h"
#include "tool/acestep/songs.h"
#include "tool/commands.h"
#include "tool/input.h"
#include "tool/metrics.h"
#include "tool/request_lines.h"
#include "tool/resuming.h"
#include "tool/run_record.h"
#include "tool/stopping.h"

enum { REQUESTS_AHEAD_MAX = 4096 };

typedef struct state {
    ps_acestep_options options;
    ps_job *job;
    ps_acestep_request request; // of the options: the one there is, or what lines leave out
    ps_acestep_vocabulary *vocabulary;
    ps_acestep_genres *genres;
    ps_resuming_options resuming;
    ps_text inputs; // what a run that goes on must have read (tool/resuming.h)
    ps_request_lines lines;
    ps_ledger *ledger; // with --requests
    ps_stopping stopping;
    ps_songs *songs;
    size_t n, n_added, n_begun, n_done; // requests; begun and not done; done by this run
    bool writes_texts;                  // some do, so that most tokens are not codes
    ps_progress progress;
} state;

// ---- before the work ----

static ps_err check(void *arg, ps_job *job)
{
    state *s = arg;
    static const char *const of_requests[] = {"order", "resume", "journal", "stop-after"};
    for (size_t i = 0; i < sizeof of_requests / sizeof of_requests[0]; i++) {
        if (!s->options.requests && ps_opt_is_set(&job->parsed, of_requests[i]))
            return PS_FAIL(PS_ERR_USAGE, "--%s goes with --requests", of_requests[i]);
    }
    return ps_acestep_options_to_request(&s->options, &job->parsed, &job->run, &s->request);
}

static ps_err read_files(state *s)
{
    const ps_acestep_options *o = &s->options;
    ps_acestep_request *r = &s->request;
    ps_text text = {0};
    ps_err err = PS_OK;
    if (o->lyrics_file) {
        err = ps_file_read(o->lyrics_file, PS_INPUT_BYTES_MAX, &text);
        if (text.len > 0 && text.data[text.len - 1] == '\n') text.len--;
        if (!err) ps_resuming_add_input(&s->inputs, "lyrics", text.data, text.len);
        if (!err) err = ps_acestep_set_lyrics(r, o->lyrics_file, ps_span_of_text(&text));
        ps_text_clear(&text);
    }
    if (!err && o->audio_codes) {
        err = ps_file_read(o->audio_codes, PS_INPUT_BYTES_MAX, &text);
        if (!err) ps_resuming_add_input(&s->inputs, "audio codes", text.data, text.len);
        if (!err) err = ps_acestep_set_codes(r, o->audio_codes, ps_span_of_text(&text));
    }
    ps_text_release(&text);
    return err;
}

static ps_err open_vocabulary(state *s)
{
    const ps_job *job = s->job;
    const ps_acestep_options *o = &s->options;
    if (!job->tokenizer)
        return PS_FAIL(PS_ERR_USAGE, "%s: has no tokenizer, and so no audio codes", job->ckpt.path);
    const ps_err found = ps_acestep_vocabulary_new(job->tokenizer, job->ckpt.spec.vocab_size,
                                                   o->codebook, &s->vocabulary);
    if (found) {
        char message[PS_ERR_MESSAGE_BYTES];
        snprintf(message, sizeof message, "%s", ps_err_message());
        return PS_FAIL(found, "%s: %s", job->ckpt.path, message);
    }
    if (!o->genres) return PS_OK;
    ps_text text = {0};
    ps_err err = ps_file_read(o->genres, PS_ACESTEP_MAX_GENRES, &text);
    if (!err) ps_resuming_add_input(&s->inputs, "genres", text.data, text.len);
    if (!err)
        err = ps_acestep_genres_new(s->vocabulary, ps_text_str(&text), text.len, o->genres,
                                    &s->genres);
    ps_text_release(&text);
    return err;
}

static ps_song_context context_of(const state *s)
{
    return (ps_song_context){s->job->tokenizer, s->vocabulary, s->genres};
}

/* Request number i, from its line or from the options. */
static ps_err take_request(state *s, size_t i, ps_acestep_request *out)
{
    if (!s->options.requests) {
        ps_acestep_request_copy(&s->request, out);
        return PS_OK;
    }
    ps_request_line *line = &s->lines.lines[i];
    ps_request_lines_end(&s->lines, i);
    return ps_acestep_request_parse(line->text, line->n, &s->request,
                                    ps_request_lines_seed(s->request.sampling.seed, i), &line->id,
                                    out);
}

/* Adds what request i needs. One that cannot run needs nothing: its turn will tell. */
static ps_err add_needs(state *s, size_t i, ps_needs *needs)
{
    const ps_song_context context = context_of(s);
    ps_acestep_request request;
    PS_TRY(take_request(s, i, &request));
    ps_song song;
    ps_request first;
    const ps_err err = ps_song_begin(&context, &request, &song, &first);
    if (!err) {
        const int64_t longest = ps_song_longest(&song.request, &first);
        if (longest > needs->longest) needs->longest = longest;
        needs->n_sequences += ps_song_sequences(&song.request);
        ps_needs_add_tokens(needs, longest - (int64_t)first.prompt.n,
                            ps_song_sequences(&song.request));
        if (song.request.mode != PS_ACESTEP_MODE_GENERATE || !song.request.wants_codes)
            s->writes_texts = true;
        ps_request_release(&first);
    }
    ps_song_release(&song);
    return err;
}

static ps_err check_codes_file(const char *path)
{
    bool regular;
    char *target;
    PS_TRY(ps_file_find_target(path, &regular, &target));
    ps_mem_free(target);
    return PS_OK;
}

static ps_err find_needs(state *s, ps_needs *needs)
{
    const ps_acestep_options *o = &s->options;
    needs->n_sequences = 0;
    s->n = 1;
    if (!o->requests) return add_needs(s, 0, needs);
    // What the options say of all is no mistake in a line whose mode has no use for it.
    s->request.given &= (uint32_t)1 << PS_ACESTEP_P_TOP_P;
    PS_TRY(ps_request_lines_read(&s->lines, o->requests));
    s->n = s->lines.n;
    for (size_t i = 0; i < s->n; i++) {
        if (add_needs(s, i, needs) != PS_OK) continue;
    }
    return PS_OK;
}

static ps_err open_ledger(state *s)
{
    static const char *const free_options[] = {"requests", "lyrics-file", "audio-codes", "genres",
                                               NULL};
    ps_resuming_add_input(&s->inputs, "requests", s->lines.input.data, s->lines.input.len);
    // Slots change nothing, but with one alone requests with guidance cannot run.
    if (s->job->run.slots == 1) ps_text_append_str(&s->inputs, "slots for guidance = none\n");
    const ps_resuming_params params = {.options = &s->resuming,
                                       .job = s->job,
                                       .out = s->options.out,
                                       .n = s->n,
                                       .inputs = &s->inputs,
                                       .free_options = free_options,
                                       .exact = !s->options.timings};
    return ps_resuming_open(&params, &s->ledger);
}

static ps_err prepare(void *arg, ps_job *job, ps_needs *needs)
{
    state *s = arg;
    const ps_acestep_options *o = &s->options;
    s->job = job;
    PS_TRY(open_vocabulary(s));
    PS_TRY(read_files(s));
    if (o->codes) PS_TRY(check_codes_file(o->codes));
    PS_TRY(find_needs(s, needs));
    // The codes and the end token.
    if (!s->writes_texts)
        needs->head_ids = ps_acestep_vocabulary_ids(s->vocabulary)->n_legal_codes + 1;
    return o->requests ? open_ledger(s) : PS_OK;
}

// ---- the work ----

static ps_err write_codes_file(const char *path, const ps_song *song)
{
    ps_file_writer file;
    ps_text codes = {0};
    ps_song_append_codes(song, &codes);
    ps_err err = ps_file_writer_open(path, &file);
    if (!err) {
        ps_file_writer_write(&file, codes.data, codes.len);
        err = ps_file_writer_commit(&file);
    }
    ps_text_release(&codes);
    return err;
}

static ps_err finish_alone(state *s, const ps_song *song)
{
    const ps_acestep_options *o = &s->options;
    ps_text text = {0};
    ps_song_append_summary(song, &text);
    ps_log(PS_LOG_INFO, "%s", ps_text_str(&text));
    ps_text_clear(&text);
    ps_song_append_shortcomings(song, &text);
    if (text.len > 0) ps_log(PS_LOG_WARNING, "%s", ps_text_str(&text));
    ps_text_clear(&text);
    if (o->json) {
        ps_song_append_json(NULL, song, o->timings, &text);
    } else {
        ps_song_append_text(song, &text);
    }
    ps_err err = o->codes ? write_codes_file(o->codes, song) : PS_OK;
    if (!err) err = ps_output_write(&s->job->output, ps_text_str(&text), text.len);
    ps_text_release(&text);
    return err;
}

static ps_err on_done(void *arg, uint64_t number, const ps_song *song)
{
    state *s = arg;
    s->n_begun--;
    s->n_done++;
    if (!s->options.requests) return finish_alone(s, song);
    ps_text line = {0};
    ps_song_append_json(s->lines.lines[number].id, song, s->options.timings, &line);
    ps_request_lines_end(&s->lines, (size_t)number);
    return ps_ledger_put(s->ledger, (size_t)number, &line);
}

static ps_err on_failed(void *arg, uint64_t number, ps_err err)
{
    state *s = arg;
    if (!s->options.requests) return err;
    ps_text line = {0};
    ps_request_lines_fail(&s->lines, (size_t)number, err, &line);
    ps_request_lines_end(&s->lines, (size_t)number);
    return ps_ledger_put_failed(s->ledger, (size_t)number, &line);
}

/* A song that had begun. */
static ps_err on_song_failed(void *arg, uint64_t number, ps_err err)
{
    ((state *)arg)->n_begun--;
    return on_failed(arg, number, err);
}

static ps_err add_next(state *s)
{
    const size_t i = s->n_added++;
    if (s->ledger && ps_ledger_has(s->ledger, i)) return PS_OK;
    ps_acestep_request request = {0};
    ps_err err = take_request(s, i, &request);
    if (!err) err = ps_songs_add(s->songs, i, &request);
    if (err) return on_failed(s, i, err);
    s->n_begun++;
    return PS_OK;
}

static bool wants_more(const state *s)
{
    const size_t written = s->ledger ? ps_ledger_written(s->ledger) : 0;
    return s->n_added < s->n && s->n_added < written + REQUESTS_AHEAD_MAX &&
           !ps_songs_full(s->songs);
}

static ps_err step(state *s)
{
    PS_TRY(ps_stopping_check(&s->stopping));
    while (wants_more(s)) {
        PS_TRY(add_next(s));
    }
    return ps_songs_step(s->songs);
}

static void show_progress(state *s)
{
    ps_songs_progress tokens;
    ps_songs_count(s->songs, &tokens, NULL);
    if (!s->ledger) s->progress.total = tokens.n_total;
    ps_progress_update(&s->progress, s->ledger ? ps_ledger_finished(s->ledger) : tokens.n_tokens);
    if (s->ledger && ps_watch_take_tell(s->job->watch))
        ps_log(PS_LOG_STATUS, "%zu of %zu songs are finished, %zu begun",
               ps_ledger_finished(s->ledger), s->n, s->n_added);
}

static void update_metrics(const state *s)
{
    ps_generate_counts counts;
    const size_t failed = s->ledger ? ps_ledger_failed(s->ledger) : 0;
    const size_t done = s->ledger ? ps_ledger_finished(s->ledger) : s->n_done;
    ps_metrics_work work = {.finished = done - failed,
                            .failed = failed,
                            .begun = s->n_begun,
                            .waiting = s->n - done - s->n_begun};
    ps_songs_count(s->songs, NULL, &counts);
    ps_metrics_add_counts(&work, &counts);
    ps_generate_counts_release(&counts);
    ps_metrics_update(s->job->metrics, &work);
}

static ps_err run(state *s)
{
    ps_err err = PS_OK;
    while (!err && (s->n_added < s->n || ps_songs_busy(s->songs))) {
        err = step(s);
        show_progress(s);
        if (ps_metrics_due(s->job->metrics)) update_metrics(s);
    }
    if (!s->ledger) return err;
    // Songs that are done are in the journal, the others will be made again.
    return err ? ps_resuming_save(s->ledger, NULL, NULL, err) : ps_ledger_finish(s->ledger);
}

static ps_err begin(state *s, ps_job *job)
{
    const ps_acestep_options *o = &s->options;
    if (s->ledger)
        PS_TRY(
            ps_ledger_begin(s->ledger, job->size, ps_pool_threads(job->engine.pool), &job->output));
    if (!o->requests && s->request.sampling.temperature > 0.0)
        ps_log(PS_LOG_INFO, "seed %llu", (unsigned long long)s->request.sampling.seed);
    ps_stopping_begin(&s->stopping, job->watch, s->ledger ? o->out : "acestep",
                      s->ledger ? ps_ledger_journal(s->ledger) : NULL, s->resuming.stop_after_s);
    return PS_OK;
}

static ps_err work(void *arg, ps_job *job)
{
    state *s = arg;
    const ps_acestep_options *o = &s->options;
    const ps_songs_params params = {.job = job,
                                    .context = context_of(s),
                                    .on_done = on_done,
                                    .on_failed = on_song_failed,
                                    .arg = s};
    PS_TRY(begin(s, job));
    s->songs = ps_songs_new(&params);
    ps_progress_begin(&s->progress, "acestep", o->requests ? s->n : 0,
                      o->requests ? "requests" : "tokens", !job->run.progress);
    const ps_err err = run(s);
    ps_progress_end(&s->progress);
    update_metrics(s);
    ps_songs_count(s->songs, NULL, &job->counts);
    ps_songs_free(s->songs);
    const size_t n_failed = s->ledger ? ps_ledger_failed(s->ledger) : 0;
    if (!err && n_failed > 0)
        ps_log(PS_LOG_WARNING, "%zu of %zu requests could not run: their results say why", n_failed,
               s->n);
    return err;
}

static ps_err ended(void *arg, ps_job *job, ps_err err)
{
    return ps_run_record_end(job, ((const state *)arg)->ledger, err);
}

int ps_cmd_acestep(int argc, char **argv)
{
    state s = {.stopping = ps_stopping_open()};
    ps_job job = {0};
    ps_opt_group groups[PS_ACESTEP_GROUPS + 4];
    ps_acestep_groups(&s.options, groups);
    groups[PS_ACESTEP_GROUPS] = ps_resuming_group(&s.resuming);
    groups[PS_ACESTEP_GROUPS + 1] = ps_run_group(&job.run);
    groups[PS_ACESTEP_GROUPS + 2] = ps_metrics_group(&job.run);
    groups[PS_ACESTEP_GROUPS + 3] = ps_base_group(&job.run);
    static const char *const names[] = {"MODEL"};
    const ps_job_command command = {.name = "acestep",
                                    .groups = groups,
                                    .n_groups = PS_ACESTEP_GROUPS + 4,
                                    .notes = ps_acestep_notes(),
                                    .positionals = {names, 1, 1},
                                    .check = check,
                                    .prepare = prepare,
                                    .work = work,
                                    .ended = ended,
                                    .saves = true,
                                    .state = &s};
    const int status = ps_job_main(&command, &job, argc, argv);
    // A job that ends otherwise than well keeps its journal.
    ps_ledger_close(s.ledger, status == 0);
    ps_text_release(&s.inputs);
    ps_acestep_request_release(&s.request);
    ps_request_lines_release(&s.lines);
    ps_acestep_genres_free(s.genres);
    ps_acestep_vocabulary_free(s.vocabulary);
    return status;
}
