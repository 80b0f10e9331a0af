#include "tool/job.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cores.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/signals.h"
#include "serve/chunks.h"
#include "serve/rehearsal.h"
#include "tool/import/cached.h"
#include "tool/metrics.h"
#include "tool/placing.h"
#include "tool/report.h"
#include "tool/rings.h"
#include "tool/version.h"
#include "tool/windows.h"

enum { SLOTS_DEFAULT = 16, SLOTS_PER_RANK = 4, TOKENIZER_WHERE_BYTES = 64 };

/* ---- before MPI ---- */

static ps_err parse(const ps_job_command *c, ps_job *job, int argc, char **argv)
{
    PS_TRY(ps_opt_parse(c->groups, c->n_groups, &c->positionals, argc, argv, &job->parsed));
    ps_log_set_json(job->run.log_json);
    if (job->run.quiet && job->run.verbose)
        return PS_FAIL(PS_ERR_USAGE, "--quiet and --verbose contradict each other");
    if (job->parsed.help || !c->check) return PS_OK;
    return c->check(c->state, job);
}

static void set_log(const ps_job *job, int rank)
{
    ps_log_set(job->run.quiet ? PS_LOG_ERROR : job->run.verbose ? PS_LOG_DEBUG : PS_LOG_INFO, rank);
}

static int print_help(const ps_job_command *c, int rank)
{
    ps_text text = {0};
    ps_text_appendf(&text, "usage: pipestep %s", c->name);
    for (int i = 0; i < c->positionals.n_names; i++) {
        ps_text_appendf(&text, i < c->positionals.n_required ? " %s" : " [%s]",
                        c->positionals.names[i]);
    }
    ps_text_append_str(&text, " [options]\n\n");
    ps_opt_help(c->groups, c->n_groups, &text);
    if (c->notes) ps_text_appendf(&text, "\n%s", c->notes);
    const ps_output output = {0};
    const ps_err err = rank == 0 ? ps_output_write(&output, text.data, text.len) : PS_OK;
    if (err && err != PS_ERR_CLOSED) ps_log(PS_LOG_ERROR, "%s", ps_err_message());
    ps_text_release(&text);
    return ps_err_exit_status(err);
}

static int fail_before_start(ps_err err, int rank)
{
    if (rank == 0) ps_log(PS_LOG_ERROR, "%s", ps_err_message());
    return ps_err_exit_status(err);
}

/* ---- start ---- */

void ps_job_dump_options(const ps_job *job, ps_text *out)
{
    ps_opt_dump(job->command->groups, job->command->n_groups, &job->parsed, out);
}

/* The ranks must have been started alike: version and options, the model's path aside. */
static ps_err check_same_start(const ps_job_command *c, ps_job *job)
{
    ps_text options = {0};
    ps_job_dump_options(job, &options);
    ps_err err = ps_comm_check_same(job->comm, "version", ps_version());
    if (!err) err = ps_comm_check_same(job->comm, "command", c->name);
    if (!err) err = ps_comm_check_same(job->comm, "set of options", ps_text_str(&options));
    ps_text_release(&options);
    return err;
}

static ps_err begin(const ps_job_command *c, ps_job *job, ps_err parsed)
{
    char message[PS_ERR_MESSAGE_BYTES];
    snprintf(message, sizeof message, "%s", ps_err_message());
    const double timeout_s = job->run.start_timeout_s > 0.0 ? job->run.start_timeout_s : 600.0;
    PS_TRY(ps_comm_open(timeout_s, &job->comm));
    job->rank = ps_comm_rank(job->comm);
    job->size = ps_comm_size(job->comm);
    job->ring_comm = job->comm; // one ring, until make_rings
    job->n_rings = 1;
    job->n_stages = job->size;
    job->stage = job->rank;
    set_log(job, job->rank);
    if (parsed) parsed = PS_FAIL(parsed, "%s", message);
    PS_TRY(ps_comm_agree(job->comm, parsed));
    job->watch = ps_watch_open(job->comm, job->run.stall_timeout_s);
    return check_same_start(c, job);
}

ps_err ps_job_model_path(const ps_job *job, char **out)
{
    *out = NULL;
    if (job->parsed.n_positionals > 0) {
        *out = ps_mem_copy_text(job->parsed.positionals[0]);
        return PS_OK;
    }
    char program[4096];
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    program[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(program, '/');
    if (slash) *slash = '\0';
    static const char *const places[] = {"../configs/tunes/tunes.h5",    // build/pipestep
                                         "../../configs/tunes/tunes.h5", // build/MODE/pipestep
                                         "../share/pipestep/tunes.h5"};  // installed
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        ps_text path = {0};
        ps_text_appendf(&path, "%s/%s", program, places[i]);
        if (access(ps_text_str(&path), R_OK) == 0) {
            *out = ps_text_take(&path);
            return PS_OK;
        }
        ps_text_release(&path);
    }
    return PS_FAIL(PS_ERR_USAGE, "no MODEL was given, and the model that ships is not beside %s",
                   program);
}

ps_err ps_job_open_tokenizer(ps_job *job)
{
    if (job->ckpt.tokenizer.len == 0) return PS_OK;
    PS_TRY(ps_tokenizer_open(job->ckpt.tokenizer.data, job->ckpt.tokenizer.len, job->ckpt.path,
                             &job->tokenizer));
    if (ps_tokenizer_size(job->tokenizer) > job->ckpt.spec.vocab_size)
        return PS_FAIL(
            PS_ERR_FORMAT, "%s: the tokenizer has %d tokens, the model's vocab_size is %d",
            job->ckpt.path, ps_tokenizer_size(job->tokenizer), job->ckpt.spec.vocab_size);
    return PS_OK;
}

ps_err ps_job_model_file(const ps_job *job, char **out)
{
    PS_TRY(ps_job_model_path(job, out));
    if (!ps_cached_is_foreign(*out)) return PS_OK;
    char *foreign = *out;
    const bool progress = job->run.progress && !job->run.quiet;
    const ps_err err = ps_cached_find(foreign, job->run.cache_directory, progress, out);
    ps_mem_free(foreign);
    return err;
}

/* Rank 0 finds the model file; a model of another format is converted first, and the others wait as
 * long as that takes. It is then rank 0's file for all of them; else each has its own path. */
static ps_err find_model(ps_job *job, char **out)
{
    ps_text found = {0};
    ps_err err = ps_job_model_path(job, out);
    if (!err && job->rank == 0) {
        char *file;
        ps_watch_suspend(job->watch, true);
        err = ps_job_model_file(job, &file);
        ps_watch_suspend(job->watch, false);
        if (!err && strcmp(file, *out) != 0) ps_text_append_str(&found, file);
        ps_mem_free(file);
    }
    err = ps_comm_wait_agree(job->comm, err);
    if (!err) err = ps_comm_broadcast(job->comm, &found);
    if (!err && found.len > 0) {
        err = ps_comm_check_same(job->comm, "model", *out);
        ps_mem_free(*out);
        *out = ps_mem_copy_text(ps_text_str(&found));
    }
    ps_text_release(&found);
    return err;
}

/* An encoder gives vectors, all others the next token. */
static ps_err check_models(ps_job_models models, const ps_job *job)
{
    const bool encoder = job->ckpt.spec.encoder;
    if (models == PS_JOB_DECODERS && encoder)
        return PS_FAIL(PS_ERR_USAGE, "%s: is an encoder, which predicts no tokens: use encode",
                       job->ckpt.path);
    if (models == PS_JOB_ENCODERS && !encoder)
        return PS_FAIL(PS_ERR_USAGE, "%s: is no encoder (%s): encode wants one", job->ckpt.path,
                       job->ckpt.spec.family);
    return PS_OK;
}

ps_err ps_job_load_index(ps_job *job, ps_job_models models)
{
    char *path;
    ps_err err = find_model(job, &path);
    if (err) {
        ps_mem_free(path);
        return err;
    }
    if (job->rank == 0) err = ps_ckpt_open(path, &job->ckpt);
    if (!err && job->rank == 0) err = ps_job_open_tokenizer(job);
    err = ps_comm_agree(job->comm, err);
    ps_text index = {0};
    if (!err) {
        if (job->rank == 0) ps_ckpt_pack(&job->ckpt, &index);
        err = ps_comm_broadcast(job->comm, &index);
    }
    if (!err) {
        ps_err mine = PS_OK;
        if (job->rank != 0) mine = ps_ckpt_unpack(ps_text_str(&index), index.len, path, &job->ckpt);
        err = ps_comm_agree(job->comm, mine);
    }
    if (!err) err = ps_comm_agree(job->comm, check_models(models, job));
    if (!err) err = ps_comm_agree(job->comm, ps_windows_apply(&job->run, &job->ckpt.spec));
    ps_text_release(&index);
    ps_mem_free(path);
    return err;
}

/* ---- limits, threads, plan ---- */

void ps_needs_add_tokens(ps_needs *needs, int64_t tokens, int n_sequences)
{
    const int64_t left = INT64_MAX - needs->new_tokens;
    const bool too_many = tokens < 0 || (n_sequences > 0 && tokens > left / n_sequences);
    needs->new_tokens = too_many ? INT64_MAX : needs->new_tokens + tokens * n_sequences;
}

ps_err ps_job_limits(const ps_run_options *run, const ps_spec *spec, const ps_needs *needs,
                     int n_ranks, ps_limits *out)
{
    const bool endless = ps_spec_is_endless(spec);
    int64_t context = needs->longest;
    if (endless && context > PS_CONTEXT_ENDLESS) context = PS_CONTEXT_ENDLESS;
    if (!endless && spec->context > 0 && context > spec->context) context = spec->context;
    if (spec->n_positions > 0 && context > spec->n_positions) context = spec->n_positions;
    if (run->context > 0) context = run->context;
    if (spec->n_positions > 0 && context > spec->n_positions)
        return PS_FAIL(PS_ERR_USAGE, "--ctx is %lld, but the model has %d learned positions",
                       (long long)context, spec->n_positions);
    if (!endless && context > INT32_MAX)
        return PS_FAIL(PS_ERR_USAGE, "the model has layers without a window and names no context: "
                                     "give --ctx");
    if (!endless && spec->context > 0 && context > spec->context)
        ps_log(PS_LOG_WARNING, "--ctx %lld is beyond the %lld positions the model was trained for",
               (long long)context, (long long)spec->context);
    const int most =
        SLOTS_PER_RANK * n_ranks > SLOTS_DEFAULT ? SLOTS_PER_RANK * n_ranks : SLOTS_DEFAULT;
    int64_t slots = needs->n_sequences < most ? needs->n_sequences : most;
    if (run->slots > 0) slots = run->slots;
    if (slots < 1) slots = 1;
    if (context < 1) context = 1;
    const int64_t most_rows = run->chunk > 0 ? run->chunk : PS_CHUNKS_MOST;
    const int64_t chunk = context < most_rows ? context : most_rows;
    *out = (ps_limits){.rows_max = (int)(chunk + slots),
                       .chunk_rows = (int)chunk,
                       .n_slots = (int)slots,
                       .context = context,
                       .cache = {(ps_dtype)run->cache_k, (ps_dtype)run->cache_v},
                       .head_ids = needs->head_ids,
                       .steps = needs->new_tokens / slots,
                       .chunk_least = run->chunk > 0 ? 0 : PS_CHUNKS_LEAST,
                       .chunk_growth = ps_chunks_growth(spec)};
    return PS_OK;
}

ps_err ps_job_engine_params(ps_job *job, bool shared, ps_engine_params *out)
{
    const ps_cores *cores = &job->cores;
    int n_sharing = 1, index = 0;
    // Whoever finds none takes part all the same: the others wait for its answer.
    const ps_err found = ps_cores_find(&job->cores);
    if (shared) PS_TRY(ps_comm_share_cores(job->comm, cores->cpuset_hash, &n_sharing, &index));
    PS_TRY(found);
    const int share = cores->count / n_sharing > 1 ? cores->count / n_sharing : 1;
    const int threads = job->run.threads > 0 ? job->run.threads : share;
    const bool own_cores = threads * n_sharing <= cores->count;
    if (threads > cores->count)
        ps_log(PS_LOG_WARNING, "%d threads on the %d cores that this rank may use", threads,
               cores->count);
    ps_wait wait = own_cores ? PS_WAIT_LATENCY : PS_WAIT_SHARED;
    if (job->run.wait != PS_WAIT_AUTO) wait = (ps_wait)job->run.wait;
    *out = (ps_engine_params){.isa = job->run.isa,
                              .n_threads = threads,
                              .wait = wait,
                              .gemm = (ps_gemm)job->run.gemm,
                              .activations = (ps_activations)job->run.activations};
    if (job->run.bind && own_cores) out->processors = cores->processor + index * threads;
    return PS_OK;
}

bool ps_job_limit_is_shared(const char *source)
{
    return strcmp(source, "machine") == 0 || strcmp(source, "cgroup") == 0;
}

size_t ps_job_memory_taken(const char *source)
{
    if (strcmp(source, "RLIMIT_DATA") == 0) return ps_mem_data();
    return ps_job_limit_is_shared(source) ? ps_mem_resident() : ps_mem_mapped();
}

size_t ps_job_memory_left(const ps_job *job, const char **source)
{
    const size_t limit = ps_mem_limit(source);
    const bool shared = ps_job_limit_is_shared(*source);
    const size_t share = shared ? limit / (size_t)ps_comm_local_size(job->comm) : limit;
    const size_t taken = ps_job_memory_taken(*source);
    return share > taken ? share - taken : 0;
}

static ps_err check_memory(const ps_job *job)
{
    const char *source;
    const size_t left = ps_job_memory_left(job, &source);
    return ps_plan_check_memory(&job->plan, job->stage, job->stage + 1, left, source);
}

static bool splits_by_measure(const ps_run_options *run)
{
    return run->split && strcmp(run->split, PS_SPLIT_AUTO) == 0;
}

ps_err ps_job_make_plan(const ps_job *job, int n_stages, const ps_plan_times *times, ps_plan *out)
{
    const ps_plan_params params = {.ckpt = &job->ckpt,
                                   .n_stages = n_stages,
                                   .split = splits_by_measure(&job->run) ? NULL : job->run.split,
                                   .times = times,
                                   .limits = job->limits,
                                   .gemm = (ps_gemm)job->run.gemm,
                                   .activations = (ps_activations)job->run.activations,
                                   .n_threads = ps_pool_threads(job->engine.pool),
                                   .in_flight = job->run.in_flight};
    return ps_plan_make(&params, out);
}

/* Each line of the text a message; the text is released. */
static void log_lines(ps_log_level level, ps_text *text)
{
    char *save = NULL, *copy = ps_text_take(text);
    for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        ps_log(level, "%s", line);
    }
    ps_mem_free(copy);
}

/* Collective. */
static ps_err make_plan(ps_job *job, const ps_plan_times *times)
{
    PS_TRY(ps_comm_agree(job->comm, ps_job_make_plan(job, job->n_stages, times, &job->plan)));
    PS_TRY(ps_placing_apply(job, &job->plan));
    if (job->rank == 0 && ps_log_shows(PS_LOG_DEBUG)) {
        ps_text text = {0};
        ps_plan_describe(&job->plan, &text);
        log_lines(PS_LOG_DEBUG, &text);
    }
    return ps_comm_agree(job->comm, check_memory(job));
}

/* A report that cannot be written is an error before the work, not after it. */
static ps_err check_report(const char *path)
{
    bool regular;
    char *target;
    PS_TRY(ps_file_find_target(path, &regular, &target));
    ps_mem_free(target);
    return PS_OK;
}

/* What rank 0 found out about the work becomes everybody's limits. */
static ps_err share_limits(const ps_job_command *c, ps_job *job)
{
    ps_needs needs = {.n_sequences = 1, .longest = 1};
    ps_err err = PS_OK;
    if (job->rank == 0) {
        // Reading the input may take as long as whoever writes it likes.
        ps_watch_suspend(job->watch, true);
        if (job->run.report) err = check_report(job->run.report);
        if (!err && job->run.trace) err = check_report(job->run.trace);
        if (!err && job->run.metrics) err = check_report(job->run.metrics);
        if (!err) err = c->prepare(c->state, job, &needs);
        if (!err)
            err = ps_job_limits(&job->run, &job->ckpt.spec, &needs, job->n_stages, &job->limits);
        ps_watch_suspend(job->watch, false);
    }
    PS_TRY(ps_comm_agree(job->comm, err));
    ps_text limits = {0};
    ps_text_append(&limits, &job->limits, sizeof job->limits);
    err = ps_comm_broadcast(job->comm, &limits);
    if (!err) memcpy(&job->limits, limits.data, sizeof job->limits);
    ps_text_release(&limits);
    return err;
}

/* Every so many ranks are a ring; ranks that are left over are refused, not idle in silence. */
static ps_err make_rings(ps_job *job)
{
    if (job->stages > 0) job->n_stages = job->stages;
    if (job->size % job->n_stages != 0)
        return PS_FAIL(PS_ERR_USAGE, "--stages %d: wants a multiple of so many ranks, there %s %d",
                       job->stages, job->size == 1 ? "is" : "are", job->size);
    job->n_rings = job->size / job->n_stages;
    job->ring = job->rank / job->n_stages;
    job->stage = job->rank % job->n_stages;
    if (job->n_rings == 1) return PS_OK;
    ps_watch_set_ring_size(job->watch, job->n_stages);
    PS_TRY(ps_comm_split(job->comm, job->ring, &job->ring_comm));
    PS_TRY(ps_comm_split(job->comm, job->stage == 0 ? 0 : -1, &job->heads));
    return job->heads ? ps_letters_open(job->heads, &job->letters) : PS_OK;
}

static void close_rings(ps_job *job)
{
    ps_letters_close(job->letters);
    ps_comm_close_group(job->heads);
    if (job->ring_comm != job->comm) ps_comm_close_group(job->ring_comm);
}

static ps_err start(const ps_job_command *c, ps_job *job)
{
    PS_TRY(make_rings(job));
    job->start.joined_ns = ps_clock_now_ns();
    PS_TRY(ps_job_load_index(job, c->models));
    job->start.indexed_ns = ps_clock_now_ns();
    PS_TRY(share_limits(c, job));
    job->start.input_ns = ps_clock_now_ns();
    ps_engine_params engine;
    PS_TRY(ps_comm_agree(job->comm, ps_job_engine_params(job, true, &engine)));
    PS_TRY(ps_comm_agree(job->comm, ps_engine_open(&engine, &job->engine)));
    PS_TRY(make_plan(job, NULL));
    const ps_stage_params stage = {.comm = job->ring_comm,
                                   .together = job->comm,
                                   .watch = job->watch,
                                   .ckpt = &job->ckpt,
                                   .plan = &job->plan,
                                   .engine = &job->engine,
                                   .verify = (ps_verify)job->run.verify,
                                   .wait = engine.wait};
    if (splits_by_measure(&job->run)) {
        ps_plan_times times;
        const int n_slots = job->limits.n_slots, in_flight = job->plan.in_flight;
        PS_TRY(ps_rehearsal_run(&stage, (n_slots + in_flight - 1) / in_flight, &times));
        job->limits.chunk_overhead = ps_chunks_overhead_of(&times);
        ps_plan_release(&job->plan);
        const ps_err err = make_plan(job, &times);
        ps_plan_times_release(&times);
        PS_TRY(err);
    }
    job->start.planned_ns = ps_clock_now_ns();
    PS_TRY(ps_pipeline_open(&stage, &job->pipeline));
    job->start.opened_ns = ps_clock_now_ns();
    if (job->run.trace) job->trace = ps_trace_open(job->pipeline, job->rank);
    return PS_OK;
}

/* ---- work and end ---- */

static ps_err poll_pipeline(void *arg)
{
    const ps_job *job = arg;
    return ps_pipeline_poll(job->pipeline);
}

/* Lets what is under way come round, so that STOP can follow it. */
static ps_err drain(ps_job *job)
{
    while (ps_pipeline_in_flight(job->pipeline) > 0) {
        ps_finished ignored;
        PS_TRY(ps_pipeline_collect(job->pipeline, &ignored));
        ps_pipeline_release(job->pipeline);
    }
    return PS_OK;
}

/* A head's part. An error of its own (a full disk, a closed output, NaN) still ends the job in
 * order. */
static ps_err work(const ps_job_command *c, ps_job *job)
{
    if (job->stage != 0) return ps_pipeline_serve(job->pipeline);
    job->output = (ps_output){.wait = poll_pipeline, .arg = job};
    if (job->rank == 0) job->metrics = ps_metrics_open(job);
    const ps_err err = c->work(c->state, job);
    if (err == PS_ERR_LOST) return err;
    char message[PS_ERR_MESSAGE_BYTES];
    snprintf(message, sizeof message, "%s", ps_err_message());
    job->reports = ps_mem_new((size_t)job->size, sizeof *job->reports);
    job->planned_bytes = ps_mem_new((size_t)job->size, sizeof *job->planned_bytes);
    for (int s = 0; s < job->n_stages; s++) {
        job->planned_bytes[s] = ps_plan_all_bytes(&job->plan.stages[s]);
    }
    PS_TRY(drain(job));
    PS_TRY(ps_pipeline_stop(job->pipeline, job->reports));
    return err ? PS_FAIL(err, "%s", message) : PS_OK;
}

static ps_err write_report(const ps_job *job)
{
    if (!job->run.quiet) {
        ps_text text = {0};
        ps_report_describe(job, &text);
        log_lines(PS_LOG_INFO, &text);
    }
    if (!job->run.report) return PS_OK;
    ps_file_writer file;
    ps_text json = {0};
    ps_report_to_json(job, &json);
    ps_err err = ps_file_writer_open(job->run.report, &file);
    if (!err) {
        ps_file_writer_write(&file, json.data, json.len);
        err = ps_file_writer_commit(&file);
    }
    ps_text_release(&json);
    return err;
}

static void release(ps_job *job)
{
    ps_pipeline_close(job->pipeline);
    close_rings(job);
    ps_trace_free(job->trace);
    ps_metrics_free(job->metrics);
    ps_engine_close(&job->engine);
    ps_plan_release(&job->plan);
    ps_tokenizer_free(job->tokenizer);
    ps_ckpt_close(&job->ckpt);
    ps_watch_close(job->watch);
    ps_mem_free(job->ring_counts);
    ps_mem_free(job->planned_bytes);
    ps_mem_free(job->reports);
    ps_generate_counts_release(&job->counts);
    ps_opt_release(&job->parsed);
}

/* The last of the metrics, and the command's last word. Returns how the job ends. */
static ps_err end_command(ps_job *job, ps_err err)
{
    const ps_job_command *c = job->command;
    ps_metrics_end(job->metrics, err);
    if (job->rank != 0 || !c->ended) return err;
    const ps_err own = c->ended(c->state, job, err);
    if (own) ps_log(err ? PS_LOG_WARNING : PS_LOG_ERROR, "%s", ps_err_message());
    return err ? err : own;
}

/* A job that lost a rank cannot agree any more: whoever found out says so, and all leave. The line
 * comes first, since the launcher ends all of them when the first leaves. */
static _Noreturn void leave(ps_job *job, ps_err err)
{
    char message[PS_ERR_MESSAGE_BYTES];
    snprintf(message, sizeof message, "%s", ps_err_message());
    const bool told = job->watch && ps_watch_is_told(job->watch);
    if (!told) ps_log(PS_LOG_ERROR, "%s", message);
    end_command(job, err);
    if (!told && job->watch) ps_watch_tell_all(job->watch, err, message);
    ps_comm_abort(job->comm, ps_err_exit_status(err));
}

/* What was asked for is no error. */
static ps_log_level level_of(ps_err err)
{
    switch (err) {
    case PS_ERR_CLOSED:
        return PS_LOG_DEBUG;
    case PS_ERR_SAVED:
    case PS_ERR_INTERRUPTED:
    case PS_ERR_TERMINATED:
        return PS_LOG_WARNING;
    default:
        return PS_LOG_ERROR;
    }
}

static int finish(ps_job *job, ps_err err)
{
    if (err && job->rank == 0) ps_log(level_of(err), "%s", ps_err_message());
    err = end_command(job, err);
    ps_comm *comm = job->comm;
    release(job);
    if (comm) ps_comm_close(comm);
    return ps_err_exit_status(err);
}

/* Parses, starts MPI, agrees. Returns false when the program is to end with *status. */
static bool open_job(const ps_job_command *c, ps_job *job, int argc, char **argv, ps_err *err,
                     int *status)
{
    int launcher_rank;
    const bool launched = ps_comm_launched(&launcher_rank);
    job->start.begun_ns = ps_clock_now_ns();
    job->begun_unix_s = ps_clock_unix_s();
    job->argc = argc;
    job->argv = argv;
    // A reader that went away and a file over its limit are errors of the write, with a message.
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    ps_signals_handle_tell();
    // Noted now, done when there is something to save. The others end a job that only loads.
    if (c->saves) ps_signals_handle_save();
    job->command = c;
    const ps_err parsed = parse(c, job, argc, argv);
    if (!parsed && job->parsed.help) {
        *status = print_help(c, launcher_rank);
        ps_opt_release(&job->parsed);
        return false;
    }
    if (parsed && !launched) {
        *status = fail_before_start(parsed, 0);
        ps_opt_release(&job->parsed);
        return false;
    }
    *err = begin(c, job, parsed);
    if (*err && !job->comm) {
        *status = fail_before_start(*err, launcher_rank);
        ps_opt_release(&job->parsed);
        return false;
    }
    return true;
}

int ps_job_main(const ps_job_command *c, ps_job *job, int argc, char **argv)
{
    ps_err err;
    int status;
    if (!open_job(c, job, argc, argv, &err, &status)) return status;
    if (!err && job->needs_one_rank && job->size > 1)
        err = PS_FAIL(PS_ERR_USAGE, "%s needs all layers on one rank, found %d ranks",
                      job->needs_one_rank, job->size);
    if (!err) err = start(c, job);
    if (!err && c->saves) ps_signals_handle_stop();
    if (!err && c->begin) err = ps_comm_agree(job->comm, c->begin(c->state, job));
    if (!err) {
        err = work(c, job);
        // A stage whose numbers went wrong does not pass its parcel on: the others would wait.
        if (err == PS_ERR_LOST || (err == PS_ERR_NUMERIC && job->stage != 0)) leave(job, err);
        err = ps_comm_agree(job->comm, err);
    }
    if (!err && job->n_rings > 1) err = ps_rings_gather(job);
    if (!err && job->trace)
        err = ps_trace_write(job->trace, job->comm, job->reports, job->run.trace);
    if (!err && c->end) err = c->end(c->state, job);
    if (err == PS_ERR_LOST) leave(job, err);
    if (!err && job->rank == 0) err = write_report(job);
    return finish(job, err);
}

int ps_job_main_alone(const ps_job_command *c, ps_job *job, int argc, char **argv)
{
    ps_err err;
    int status;
    if (!open_job(c, job, argc, argv, &err, &status)) return status;
    if (!err) {
        if (job->works_together) {
            err = c->work(c->state, job);
        } else if (job->rank == 0) {
            ps_watch_suspend(job->watch, true);
            err = c->work(c->state, job);
            ps_watch_suspend(job->watch, false);
        }
        if (err == PS_ERR_NUMERIC && job->rank != 0) leave(job, err);
        // The others wait as long as the work takes.
        if (err != PS_ERR_LOST) err = ps_comm_wait_agree(job->comm, err);
    }
    if (err == PS_ERR_LOST) leave(job, err);
    return finish(job, err);
}

ps_err ps_job_check_text(const char *where, const char *text, size_t n)
{
    const size_t valid = ps_utf8_valid_prefix(text, n, NULL);
    if (valid == n) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "%s: not UTF-8: byte %zu is 0x%02x", where, valid,
                   (unsigned)(unsigned char)text[valid]);
}

ps_err ps_job_encode(const ps_job *job, const char *where, const char *text, size_t n,
                     ps_tokens *out)
{
    if (!job->tokenizer)
        return PS_FAIL(PS_ERR_USAGE, "%s: has no tokenizer: give token ids (--tokens)",
                       job->ckpt.path);
    if (job->ckpt.spec.add_bos && !ps_tokenizer_has_post_processor_tokens(job->tokenizer))
        ps_tokens_append(out, job->ckpt.spec.bos_id);
    PS_TRY(ps_job_check_text(where, text, n));
    return ps_tokenizer_encode(job->tokenizer, text, n, true, out);
}
