/* pipestep batch: a JSONL file of requests, side by side; results in the order of the input. */
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/progress.h"
#include "tool/batch_request.h"
#include "tool/batch_rings.h"
#include "tool/commands.h"
#include "tool/input.h"
#include "tool/job.h"
#include "tool/metrics.h"
#include "tool/request_lines.h"
#include "tool/result.h"
#include "tool/resuming.h"
#include "tool/run_record.h"
#include "tool/stopping.h"

enum { RESULTS_AHEAD_MAX = 4096 };

typedef struct options {
    const char *in, *out, *chat_template, *prefix, *prefix_file;
    uint64_t seed;
    int note_every; // tokens
    bool acestep;
    int stages; // of a ring; 0: all ranks
} options;

typedef struct state {
    options options;
    ps_resuming_options resuming;
    ps_job *job;
    ps_batch_context batch;
    ps_tokens prefix;
    ps_request_lines lines;
    size_t n_added, n_begun; // n_begun: and not done
    ps_ledger *ledger;
    ps_stopping stopping;
    ps_generate *generate;
    ps_batch_rings *rings; // NULL: there is one
    ps_progress progress;
} state;

#define AT(field) offsetof(options, field)

static const ps_opt option_rows[] = {
    {"in", 'i', PS_OPT_TEXT, AT(in), 0, 0, NULL, NULL, "FILE",
     "requests, a JSON object a line; - is standard input"},
    {"out", 'o', PS_OPT_TEXT, AT(out), 0, 0, NULL, NULL, "FILE",
     "results, a JSON object a line; - is standard output"},
    {"journal-every", 0, PS_OPT_INT, AT(note_every), 1, INT32_MAX, "256", NULL, "N",
     "tokens of a sample after which they go into the journal"},
    {"chat-template", 0, PS_OPT_TEXT, AT(chat_template), 0, 0, NULL, NULL, "NAME",
     "template for requests with messages, by name instead of the model's own"},
    {"prefix", 0, PS_OPT_TEXT, AT(prefix), 0, 0, NULL, NULL, "TEXT",
     "text that every prompt goes on from; it is computed once, in a slot of its own"},
    {"prefix-file", 0, PS_OPT_TEXT, AT(prefix_file), 0, 0, NULL, NULL, "FILE",
     "file with that text"},
    {"stages", 0, PS_OPT_INT, AT(stages), 0, INT32_MAX, "0", NULL, "S",
     "every S ranks are a ring with the whole model, and the rings take their requests from one "
     "queue; 0: all ranks are one ring"},
    {"seed", 0, PS_OPT_U64, AT(seed), 0, 0, "0", NULL, "S",
     "seed of the run: a request without a seed gets one from it and its line"},
    {"acestep", 0, PS_OPT_FLAG, AT(acestep), 0, 0, NULL, NULL, NULL,
     "requests are songs of ACE-Step; keys and other options are those of pipestep acestep"},
};

static const char notes[] =
    "Keys of a request (\"prompt\" or \"tokens\" is needed):\n"
    "  prompt              text, or an array of token ids\n"
    "  tokens              array of token ids: the whole prompt, nothing added\n"
    "  id                  any value; comes back in the result\n"
    "  max_tokens          new tokens at most (16)\n"
    "  n                   samples (1)\n"
    "  temperature         0 takes the likeliest token (1)\n"
    "  top_k top_p min_p typical_p                        what is drawn from (all of it)\n"
    "  repetition_penalty frequency_penalty presence_penalty repeat_last_n\n"
    "  logit_bias          object of token id: number\n"
    "  banned              array of token ids that are never drawn\n"
    "  sampler_order       as --sampler-order of generate (\"hf\")\n"
    "  seed                0 or more (from --seed and the line's place)\n"
    "  guidance_scale      over 1: leads away from the negative prompt (1)\n"
    "  negative_prompt     text, or an array of token ids (what an empty text comes to)\n"
    "  stop                text, or an array of texts, before which the output ends\n"
    "  logprobs            true, or the number of likeliest tokens to show at each step\n"
    "  min_tokens ignore_eos                              when an end token counts\n"
    "  model user          are not looked at\n"
    "With --prefix a request's prompt, the negative one too, is the tokens of the prefix, then\n"
    "its own ids or those of its text with nothing added; its result is that of a request with\n"
    "all these tokens.\n"
    "With --acestep the lines are songs: pipestep acestep --help has their keys.\n"
    "An unknown key is an error. A line that cannot run gets {\"line\": N, \"error\": {...}} as "
    "its\n"
    "result, and the exit status stays 0: the others still run.\n"
    "\n"
    "A job that ended early, however it did, goes on when the same command is given again: on any\n"
    "number of ranks, threads and slots, with the results of a job that nobody disturbed. "
    "SIGUSR1,\n"
    "--stop-after and the end of a Slurm job (SLURM_JOB_END_TIME) save what is under way and end "
    "it\n"
    "with status 75, SIGTERM and SIGINT with 143 and 130. SIGUSR2 asks who waits for whom.\n"
    "OUT.run.json tells what became of the run, its exit status too, which launchers may change.\n"
    "\n"
    "  echo '{\"prompt\": \"X:1\\nR:jig\\n\", \"max_tokens\": 64, \"seed\": 7}' |\n"
    "      pipestep batch --in - --out -\n";

static ps_err check(void *arg, ps_job *job)
{
    const options *o = &((const state *)arg)->options;
    if (o->acestep)
        return PS_FAIL(PS_ERR_USAGE, "acestep: is for the command line: --acestep, written out");
    job->stages = o->stages;
    if (!o->in) return PS_FAIL(PS_ERR_USAGE, "--in FILE is missing");
    if (!o->out) return PS_FAIL(PS_ERR_USAGE, "--out FILE is missing");
    if (ps_file_is_same(o->in, o->out))
        return PS_FAIL(PS_ERR_USAGE, "--out %s: would overwrite the requests", o->out);
    if (o->prefix && o->prefix_file)
        return PS_FAIL(PS_ERR_USAGE, "--prefix and --prefix-file exclude each other");
    if (o->prefix_file && strcmp(o->prefix_file, "-") == 0 && strcmp(o->in, "-") == 0)
        return PS_FAIL(PS_ERR_USAGE, "--prefix-file and --in cannot both be standard input");
    if ((o->prefix || o->prefix_file) && job->run.slots == 1)
        return PS_FAIL(PS_ERR_USAGE, "--prefix takes a slot for itself: --slots 1 leaves none");
    return PS_OK;
}

static ps_err parse(state *s, size_t number, json_t **id, ps_request *out)
{
    const ps_request_line *l = &s->lines.lines[number];
    return ps_batch_request_parse(&s->batch, l->text, l->n,
                                  ps_request_lines_seed(s->options.seed, number), id, out);
}

static ps_err read_prefix(state *s)
{
    const options *o = &s->options;
    if (!o->prefix && !o->prefix_file) return PS_OK;
    ps_text text = {0};
    ps_err err = PS_OK;
    if (o->prefix_file) {
        err = ps_file_read(o->prefix_file, PS_INPUT_BYTES_MAX, &text);
    } else {
        ps_text_append_str(&text, o->prefix);
    }
    const char *where = o->prefix_file ? o->prefix_file : "--prefix";
    if (!err) err = ps_job_encode(s->job, where, ps_text_str(&text), text.len, &s->prefix);
    if (!err && s->prefix.n == 0) err = PS_FAIL(PS_ERR_USAGE, "%s: the prefix is empty", where);
    ps_text_release(&text);
    s->batch.prefix = &s->prefix;
    return err;
}

/* How long the longest request that can run will become. Requests are read again when their turn
 * comes, so that a long batch does not lie in memory as tokens. */
static ps_err find_needs(state *s, ps_needs *needs)
{
    needs->n_sequences = s->batch.prefix ? 1 : 0;
    for (size_t i = 0; i < s->lines.n; i++) {
        ps_request request;
        json_t *id;
        const ps_err err = parse(s, i, &id, &request);
        json_decref(id);
        if (err) continue;
        const int64_t length = ps_request_longest_prompt(&request) + request.max_tokens;
        if (length > needs->longest) needs->longest = length;
        needs->n_sequences += ps_request_sequences(&request);
        ps_needs_add_tokens(needs, request.max_tokens, ps_request_sequences(&request));
        ps_request_release(&request);
    }
    return PS_OK;
}

static ps_err open_ledger(state *s)
{
    // The requests and the prefix count by their contents.
    static const char *const free_options[] = {"in", "prefix", "prefix-file", "journal-every",
                                               NULL};
    ps_text inputs = {0};
    ps_resuming_add_input(&inputs, "input", s->lines.input.data, s->lines.input.len);
    if (s->batch.prefix)
        ps_resuming_add_input(&inputs, "tokens of the prefix", s->prefix.ids,
                              s->prefix.n * sizeof *s->prefix.ids);
    // Slots change nothing, but with one alone requests with guidance cannot run.
    if (s->job->run.slots > 0 && s->job->run.slots - (s->batch.prefix ? 1 : 0) < 2)
        ps_text_append_str(&inputs, "slots for guidance = none\n");
    const ps_resuming_params params = {.options = &s->resuming,
                                       .job = s->job,
                                       .out = s->options.out,
                                       .n = s->lines.n,
                                       .inputs = &inputs,
                                       .free_options = free_options,
                                       .exact = true};
    const ps_err err = ps_resuming_open(&params, &s->ledger);
    ps_text_release(&inputs);
    return err;
}

static ps_err prepare(void *arg, ps_job *job, ps_needs *needs)
{
    state *s = arg;
    s->job = job;
    s->batch = (ps_batch_context){.job = job, .chat_template = s->options.chat_template};
    PS_TRY(read_prefix(s));
    PS_TRY(ps_request_lines_read(&s->lines, s->options.in));
    PS_TRY(find_needs(s, needs));
    return open_ledger(s);
}

/* Every rank: what heads of other rings have to know. */
static ps_err begin(void *arg, ps_job *job)
{
    state *s = arg;
    if (!job->heads) return PS_OK;
    if (job->rank == 0 && !ps_ledger_journal(s->ledger)) s->options.note_every = 0;
    PS_TRY(ps_batch_rings_share(job, &s->prefix, &s->options.note_every));
    if (job->rank == 0) return PS_OK;
    s->batch = (ps_batch_context){.job = job, .chat_template = s->options.chat_template};
    if (s->prefix.n > 0) s->batch.prefix = &s->prefix;
    return PS_OK;
}

static ps_err finish_line(state *s, size_t number, ps_err put)
{
    ps_request_lines_end(&s->lines, number);
    ps_progress_update(&s->progress, ps_ledger_finished(s->ledger));
    return put;
}

static ps_err on_done(void *arg, uint64_t number, const ps_request *request,
                      const ps_completion *completions, int n)
{
    state *s = arg;
    ps_text result = {0};
    if (s->rings) ps_batch_rings_end_request(s->rings, number);
    s->n_begun--;
    ps_result_to_json(s->lines.lines[number].id, s->job, request, completions, n, &result);
    return finish_line(s, number, ps_ledger_put(s->ledger, number, &result));
}

static ps_err on_result(void *arg, size_t number, ps_text *result)
{
    state *s = arg;
    s->n_begun--;
    return finish_line(s, number, ps_ledger_put(s->ledger, number, result));
}

static ps_err fail_line(state *s, size_t number, ps_err err)
{
    ps_text result = {0};
    ps_request_lines_fail(&s->lines, number, err, &result);
    return finish_line(s, number, ps_ledger_put_failed(s->ledger, number, &result));
}

/* Here or on another ring, with what an earlier run had of it. */
static ps_err add_request(state *s, size_t number, ps_request *request)
{
    const int n = request->n_samples;
    const ps_request_line *line = &s->lines.lines[number];
    const int ring = s->rings ? ps_batch_rings_choose(s->rings, number, request) : 0;
    ps_completion *all = ps_mem_new((size_t)n, sizeof *all), *begun = NULL;
    if (ps_ledger_begun(s->ledger, number, n, request->n_logprobs, s->job->ckpt.spec.vocab_size,
                        all))
        begun = all;
    ps_err err = PS_OK;
    if (ring == 0) {
        err = ps_generate_add_begun(s->generate, number, request, begun);
    } else {
        ps_batch_rings_give(s->rings, ring, number, line->text, line->n, begun, n);
        ps_request_release(request);
    }
    for (int i = 0; i < n; i++) {
        ps_completion_release(&all[i]);
    }
    ps_mem_free(all);
    if (!err) s->n_begun++;
    return err;
}

/* Starts the next request; one that cannot run gets its error as its result. */
static ps_err add_next(state *s)
{
    const size_t number = s->n_added++;
    if (ps_ledger_has(s->ledger, number)) return PS_OK;
    ps_request request = {0};
    ps_limits limits = s->job->limits;
    if (s->batch.prefix) limits.n_slots--;
    ps_err err = parse(s, number, &s->lines.lines[number].id, &request);
    if (!err) err = ps_generate_check(&request, &s->job->ckpt.spec, &limits);
    if (!err) return add_request(s, number, &request);
    const ps_err written = fail_line(s, number, err);
    ps_request_release(&request);
    return written;
}

static bool has_room(const state *s)
{
    return s->rings ? ps_batch_rings_have_room(s->rings)
                    : ps_generate_waiting(s->generate) < s->job->limits.n_slots;
}

static bool wants_more(const state *s)
{
    return s->n_added < s->lines.n &&
           s->n_added < ps_ledger_written(s->ledger) + RESULTS_AHEAD_MAX && has_room(s);
}

static ps_err note_tokens(void *arg, uint64_t number, int sample, size_t first,
                          const ps_completion *so_far)
{
    return ps_ledger_note(((state *)arg)->ledger, number, sample, first, so_far);
}

static ps_err step(state *s)
{
    PS_TRY(ps_stopping_check(&s->stopping));
    while (wants_more(s)) {
        PS_TRY(add_next(s));
    }
    if (s->rings) PS_TRY(ps_batch_rings_poll(s->rings));
    if (s->rings && !ps_generate_busy(s->generate)) return ps_batch_rings_rest(s->rings);
    PS_TRY(ps_generate_step(s->generate));
    if (s->options.note_every == 0) return PS_OK;
    return ps_generate_note(s->generate, (size_t)s->options.note_every, note_tokens, s);
}

static bool has_more(const state *s)
{
    return s->n_added < s->lines.n || ps_generate_busy(s->generate) ||
           (s->rings && ps_batch_rings_busy(s->rings));
}

/* The tokens of all samples under way, on all rings, which stop with that. */
static ps_err note_all(void *arg)
{
    state *s = arg;
    const ps_err others = s->rings ? ps_batch_rings_stop(s->rings, true) : PS_OK;
    const ps_err own = ps_generate_note(s->generate, 1, note_tokens, s);
    return own ? own : others;
}

/* Who has lost a rank asks no other for anything. */
static ps_err note_own(void *arg)
{
    return ps_generate_note(((state *)arg)->generate, 1, note_tokens, arg);
}

static void update_metrics(const state *s)
{
    ps_generate_counts counts;
    const size_t failed = ps_ledger_failed(s->ledger), done = ps_ledger_finished(s->ledger);
    ps_metrics_work work = {.finished = done - failed,
                            .failed = failed,
                            .begun = s->n_begun,
                            .waiting = s->lines.n - done - s->n_begun};
    ps_generate_count(s->generate, &counts);
    ps_metrics_add_counts(&work, &counts);
    ps_generate_counts_release(&counts);
    ps_metrics_update(s->job->metrics, &work);
}

static ps_err end(state *s, ps_err err)
{
    if (err) return ps_resuming_save(s->ledger, err == PS_ERR_LOST ? note_own : note_all, s, err);
    if (s->rings) PS_TRY(ps_batch_rings_stop(s->rings, false));
    return ps_ledger_finish(s->ledger);
}

static ps_err run(state *s)
{
    ps_job *job = s->job;
    ps_err err =
        ps_ledger_begin(s->ledger, job->size, ps_pool_threads(job->engine.pool), &job->output);
    while (!err && has_more(s)) {
        err = step(s);
        if (ps_metrics_due(s->job->metrics)) update_metrics(s);
        if (ps_watch_take_tell(s->job->watch))
            ps_log(PS_LOG_STATUS, "%zu of %zu requests are finished, %zu begun",
                   ps_ledger_finished(s->ledger), s->lines.n, s->n_added);
    }
    return end(s, err);
}

static ps_batch_rings *open_rings(state *s)
{
    const ps_job *job = s->job;
    const ps_batch_rings_params params = {.job = job,
                                          .ledger = s->ledger,
                                          .n = s->lines.n,
                                          .n_slots =
                                              job->limits.n_slots - (s->batch.prefix ? 1 : 0),
                                          .on_result = on_result,
                                          .arg = s};
    return job->n_rings > 1 ? ps_batch_rings_new(&params) : NULL;
}

static ps_err work_here(state *s)
{
    ps_job *job = s->job;
    const ps_generate_params params = {.pipeline = job->pipeline,
                                       .spec = &job->ckpt.spec,
                                       .tokenizer = job->tokenizer,
                                       .limits = job->limits,
                                       .in_flight = job->plan.in_flight,
                                       .prefix = s->batch.prefix,
                                       .callbacks = {NULL, on_done, s}};
    s->generate = ps_generate_new(&params);
    s->rings = open_rings(s);
    ps_stopping_begin(&s->stopping, job->watch, s->options.out, ps_ledger_journal(s->ledger),
                      s->resuming.stop_after_s);
    ps_progress_begin(&s->progress, "batch", s->lines.n, "requests", !job->run.progress);
    const ps_err err = run(s);
    ps_progress_end(&s->progress);
    update_metrics(s);
    ps_generate_count(s->generate, &job->counts);
    ps_batch_rings_free(s->rings);
    ps_generate_free(s->generate);
    const size_t n_failed = ps_ledger_failed(s->ledger);
    if (!err && n_failed > 0)
        ps_log(PS_LOG_WARNING, "%zu of %zu requests could not run: their results say why", n_failed,
               s->lines.n);
    return err;
}

static ps_err work(void *arg, ps_job *job)
{
    state *s = arg;
    const ps_batch_head_params head = {.job = job,
                                       .batch = &s->batch,
                                       .seed = s->options.seed,
                                       .note_every = s->options.note_every};
    return job->rank == 0 ? work_here(s) : ps_batch_head_run(&head);
}

static ps_err ended(void *arg, ps_job *job, ps_err err)
{
    return ps_run_record_end(job, ((const state *)arg)->ledger, err);
}

/* Songs go through more than one phase, which is the other command's work: its name for --in is
 * --requests. */
static int run_acestep(int argc, char **argv)
{
    static char requests[] = "--requests";
    char **songs = ps_mem_new(2 * (size_t)argc + 1, sizeof *songs);
    int n = 0;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--in") == 0 || strcmp(argv[i], "-i") == 0) {
            songs[n++] = requests;
        } else if (strncmp(argv[i], "--in=", 5) == 0) {
            songs[n++] = requests;
            songs[n++] = argv[i] + 5;
        } else if (strcmp(argv[i], "--acestep") != 0) {
            songs[n++] = argv[i];
        }
    }
    const int status = ps_cmd_acestep(n, songs);
    ps_mem_free(songs);
    return status;
}

static bool asks_for_acestep(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--acestep") == 0) return true;
    }
    return false;
}

int ps_cmd_batch(int argc, char **argv)
{
    if (asks_for_acestep(argc, argv)) return run_acestep(argc, argv);
    state s = {.stopping = ps_stopping_open()};
    ps_job job = {0};
    ps_opt_group groups[] = {
        {"Input and output", option_rows, sizeof option_rows / sizeof option_rows[0], &s.options},
        ps_resuming_group(&s.resuming),
        ps_run_group(&job.run),
        ps_metrics_group(&job.run),
        ps_base_group(&job.run)};
    static const char *const names[] = {"MODEL"};
    const ps_job_command command = {.name = "batch",
                                    .groups = groups,
                                    .n_groups = 5,
                                    .notes = notes,
                                    .positionals = {names, 0, 1},
                                    .check = check,
                                    .prepare = prepare,
                                    .begin = begin,
                                    .work = work,
                                    .ended = ended,
                                    .saves = true,
                                    .state = &s};
    const int status = ps_job_main(&command, &job, argc, argv);
    // The last thing of all: a job that ends otherwise than well keeps its journal.
    ps_ledger_close(s.ledger, status == 0);
    ps_chat_free(s.batch.chat);
    ps_request_lines_release(&s.lines);
    ps_tokens_release(&s.prefix);
    return status;
}
