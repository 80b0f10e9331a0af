/* A job: what every command that runs a model does before and after its own work.
 *
 *   parse -> MPI -> agree on options -> model on rank 0, index to all -> the command's needs
 *     -> rings, limits and plan -> engine, weights, caches -> rank 0 works, the others serve
 *     -> stop -> report -> leave together
 *
 * Where the command wants stages, R = ranks / stages rings of so many ranks do the work, each with a
 * head of its own; rank 0 is the head of the first, and has what the others have to say afterwards.
 *
 * A command gives two functions that run on rank 0: prepare (reads its input, says what it needs)
 * and work (drives the pipeline). Errors on one rank end all of them, with one message and one exit
 * status.
 */
#ifndef PS_TOOL_JOB_H
#define PS_TOOL_JOB_H

#include "base/cores.h"
#include "pipe/letters.h"
#include "pipe/trial.h"
#include "serve/generate.h"
#include "serve/tokenizer.h"
#include "tool/options.h"
#include "tool/output.h"
#include "tool/trace.h"

typedef struct ps_metrics ps_metrics; // tool/metrics.h

/* What the work asks of slots and caches. */
typedef struct ps_needs {
    int64_t n_sequences; // that can run side by side
    int64_t longest;     // positions of the longest; INT64_MAX: no end
    int head_ids;        // ids whose logits most tokens need; 0: all
    int64_t new_tokens;  // of all sequences together, at most; INT64_MAX: no end; 0: few
} ps_needs;

/* Adds the new tokens of so many sequences; under 0: no end. */
void ps_needs_add_tokens(ps_needs *needs, int64_t tokens, int n_sequences);

/* When each part of the start was done; the first is the beginning. */
typedef struct ps_job_start {
    int64_t begun_ns, joined_ns, indexed_ns, input_ns, planned_ns, opened_ns;
} ps_job_start;

typedef struct ps_job {
    ps_run_options run;
    char *const *argv; // [argc] behind the command's name; borrowed
    int argc;
    int64_t begun_unix_s;
    ps_opt_parsed parsed;
    const struct ps_job_command *command; // borrowed while the job runs
    int rank, size;
    int stages;        // of a ring, as the command wants them; 0: all ranks are one ring
    int n_rings, ring; // how many there are, and this rank's
    int n_stages, stage;
    ps_comm *comm;
    ps_comm *ring_comm;  // the ranks of the ring; `comm` where it is one
    ps_comm *heads;      // stages 0 of the rings, on these; NULL where it is one ring
    ps_letters *letters; // between the heads, on these
    ps_watch *watch;
    ps_cores cores;
    ps_engine engine;
    ps_ckpt ckpt;
    ps_tokenizer *tokenizer; // rank 0; NULL when the model has none
    ps_limits limits;
    ps_job_start start;
    ps_plan plan;
    ps_pipeline *pipeline;
    ps_trace *trace;                 // NULL: not asked for
    ps_metrics *metrics;             // rank 0; NULL: not asked for
    ps_output output;                // standard output, rank 0
    ps_generate_counts counts;       // filled by work, for the report
    ps_stage_report *reports;        // [size], rank 0, after the work; on other heads [n_stages]
    uint64_t *planned_bytes;         // [size] what the plan gives each rank; as reports
    ps_generate_counts *ring_counts; // [n_rings] without times; where there are several, rank 0
    const char *needs_one_rank;      // what refuses more; NULL: nothing
    bool works_together; // without a pipeline: all ranks run `work`, which is collective
} ps_job;

/* Models that a command is for. */
typedef enum ps_job_models { PS_JOB_DECODERS, PS_JOB_ENCODERS, PS_JOB_ALL_MODELS } ps_job_models;

typedef struct ps_job_command {
    const char *name;
    ps_job_models models;
    ps_opt_group *groups; // the base group is among them, over job->run
    int n_groups;
    const char *notes; // ends the help: what the table of options cannot say; may be NULL
    ps_opt_positionals positionals;            // the first is MODEL, optional: the model that ships
    ps_err (*check)(void *state, ps_job *job); // options, on every rank; may be NULL
    ps_err (*prepare)(void *state, ps_job *job, ps_needs *needs); // rank 0
    ps_err (*begin)(void *state, ps_job *job); // every rank, before the work; may be NULL
    ps_err (*work)(void *state, ps_job *job);  // rank 0; every head where `stages` may be set
    ps_err (*end)(void *state, ps_job *job);   // collective, after the work; may be NULL
    /* Rank 0: it is clear how the job ends, whose message is ps_err_message's. The last that happens
     * before ranks leave each other, also when others are lost. Its own error counts when there is
     * no other. May be NULL. */
    ps_err (*ended)(void *state, ps_job *job, ps_err err);
    bool saves; // signals stop it in order, with what it has (base/signals.h)
    void *state;
} ps_job_command;

/* Runs it all; returns the exit status. */
int ps_job_main(const ps_job_command *command, ps_job *job, int argc, char **argv);

/* The same for commands that need no pipeline: rank 0 runs `work`, the others wait; or all run it
 * together. */
int ps_job_main_alone(const ps_job_command *command, ps_job *job, int argc, char **argv);

/* The values in force of all options of the command, as base/opt.h dumps them. */
void ps_job_dump_options(const ps_job *job, ps_text *out);

/* The tokenizer of the model that is open, into job->tokenizer; it stays NULL if there is none. */
ps_err ps_job_open_tokenizer(ps_job *job) PS_MUST_CHECK;

/* Of what this limit of ps_mem_limit bounds, what the process has. */
size_t ps_job_memory_taken(const char *source);

/* Memory that this rank may still take under the least of its limits, which *source names. */
size_t ps_job_memory_left(const ps_job *job, const char **source);

/* Whether the ranks of a machine share this limit of ps_mem_limit, or each has its own. */
bool ps_job_limit_is_shared(const char *source);

/* Path of the model: the first positional, or the model that ships. Owned by the caller. */
ps_err ps_job_model_path(const ps_job *job, char **out) PS_MUST_CHECK;

/* The same, or the model file made of it, once, where it is a model of another format. Rank 0. */
ps_err ps_job_model_file(const ps_job *job, char **out) PS_MUST_CHECK;

/* Limits for these needs under these options. */
ps_err ps_job_limits(const ps_run_options *run, const ps_spec *spec, const ps_needs *needs,
                     int n_ranks, ps_limits *out) PS_MUST_CHECK;

/* Rank 0 opens the model and tells the others what is in it: job->ckpt, on rank 0 the tokenizer.
 * Collective. */
ps_err ps_job_load_index(ps_job *job, ps_job_models models) PS_MUST_CHECK;

/* The plan of these options for so many stages; the engine is open. times: NULL or measured. Where
 * weights are taken from it does not say yet (tool/placing.h). */
ps_err ps_job_make_plan(const ps_job *job, int n_stages, const ps_plan_times *times,
                        ps_plan *out) PS_MUST_CHECK;

/* Threads of this rank, from options and affinity. Collective if `shared`: the ranks of a host then
 * divide its cores. */
ps_err ps_job_engine_params(ps_job *job, bool shared, ps_engine_params *out) PS_MUST_CHECK;

/* PS_ERR_FORMAT for a text that is not UTF-8: its tokens would be those of another text. `where`
 * names it in the message. */
ps_err ps_job_check_text(const char *where, const char *text, size_t n) PS_MUST_CHECK;

/* Ids of a prompt text: with what the post-processor or add_bos puts around it. */
ps_err ps_job_encode(const ps_job *job, const char *where, const char *text, size_t n,
                     ps_tokens *out) PS_MUST_CHECK;

#endif
