/* Option groups that several commands share: how a job runs, and how tokens are drawn.
 *
 * One table each drives command line, configuration file, help and dump (base/opt.h).
 */
#ifndef PS_TOOL_OPTIONS_H
#define PS_TOOL_OPTIONS_H

#include "base/opt.h"
#include "base/pool.h"
#include "math/engine.h"
#include "model/weights.h"
#include "serve/request.h"

enum { PS_WAIT_AUTO = PS_WAIT_COUNT, PS_WEIGHTS_AUTO = PS_WEIGHTS_ACCESS_COUNT };

/* The split that is found by measuring. */
#define PS_SPLIT_AUTO "auto"

/* Where tokens that are kept for ever stand. */
typedef enum ps_keep_at { PS_KEEP_AT_TRUE, PS_KEEP_AT_CACHE } ps_keep_at;

/* How a job runs. */
typedef struct ps_run_options {
    const char *config;
    bool help;
    int threads; // 0: from the affinity
    const char *isa;
    int gemm;        // ps_gemm
    int activations; // ps_activations
    int slots, chunk, in_flight;
    int64_t context;
    const char *split;
    int stream; // encode: keys that a token sees, itself included, none ahead; 0: the model's
    const char *windows;  // NULL: the model's
    int n_kept, keep_at;  // ps_keep_at
    int cache_k, cache_v; // ps_dtype
    int verify;           // ps_verify
    int weights;          // ps_weights_access or PS_WEIGHTS_AUTO
    int wait;             // ps_wait or PS_WAIT_AUTO
    bool bind;
    double stall_timeout_s, start_timeout_s;
    const char *report, *trace;
    const char *metrics; // NULL: none
    double metrics_every_s;
    const char *cache_directory; // NULL: the user's
    bool quiet, verbose, progress, log_json;
} ps_run_options;

/* How tokens are drawn. */
typedef struct ps_sampling_options {
    double temperature;
    int top_k;
    double top_p, min_p, typical_p;
    double repetition_penalty, presence_penalty, frequency_penalty;
    int repeat_last_n;
    ps_opt_list logit_bias; // "id:bias"
    ps_opt_list ban;        // ids
    ps_opt_list stop;
    const char *order;
    uint64_t seed;
    int n_samples, n_logprobs, min_tokens;
    bool ignore_eos;
} ps_sampling_options;

/* The groups, over the caller's structs. Every command has the base group; commands that run a
 * model have the run group too, those that may take long the metrics group, and one that only looks
 * into it the cache group. */
ps_opt_group ps_base_group(ps_run_options *target);
ps_opt_group ps_run_group(ps_run_options *target);
ps_opt_group ps_metrics_group(ps_run_options *target);
ps_opt_group ps_cache_group(ps_run_options *target);
ps_opt_group ps_sampling_group(ps_sampling_options *target);

/* Fills the sampling part of a request. Without --seed or any other option that asks for randomness
 * the choice is greedy; with one, and without --temperature, the temperature is 1. */
ps_err ps_sampling_to_request(const ps_sampling_options *options, const ps_opt_parsed *parsed,
                              ps_request *out) PS_MUST_CHECK;

/* A seed for who gave none: 53 bits, which every reader of JSON keeps. */
uint64_t ps_options_random_seed(void);

#endif
