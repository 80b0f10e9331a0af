#include "tool/options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/mem.h"

#define RUN(field)  offsetof(ps_run_options, field)
#define DRAW(field) offsetof(ps_sampling_options, field)
#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

static const ps_opt_choice gemm_choices[] = {
    {"panel", PS_GEMM_PANEL}, {"blas", PS_GEMM_BLAS}, {NULL, 0}};

static const ps_opt_choice activation_choices[] = {
    {"i16", PS_ACTIVATIONS_I16}, {"f32", PS_ACTIVATIONS_F32}, {"i8", PS_ACTIVATIONS_I8}, {NULL, 0}};

static const ps_opt_choice verify_choices[] = {
    {"always", PS_VERIFY_ALWAYS}, {"once", PS_VERIFY_ONCE}, {"never", PS_VERIFY_NEVER}, {NULL, 0}};

static const ps_opt_choice weights_choices[] = {
    {"auto", PS_WEIGHTS_AUTO}, {"map", PS_WEIGHTS_MAP}, {"copy", PS_WEIGHTS_COPY}, {NULL, 0}};

static const ps_opt_choice wait_choices[] = {
    {"auto", PS_WAIT_AUTO}, {"latency", PS_WAIT_LATENCY}, {"shared", PS_WAIT_SHARED}, {NULL, 0}};

static const ps_opt_choice keep_choices[] = {
    {"true", PS_KEEP_AT_TRUE}, {"cache", PS_KEEP_AT_CACHE}, {NULL, 0}};

static const ps_opt_choice cache_choices[] = {{"f32", PS_F32},   {"f16", PS_F16},
                                              {"bf16", PS_BF16}, {"q8_0", PS_Q8_0},
                                              {"q4_0", PS_Q4_0}, {NULL, 0}};

#define CACHE_ROW                                                                                  \
    {                                                                                              \
        "cache-dir", 0, PS_OPT_TEXT, RUN(cache_directory), 0, 0, NULL, NULL, "DIR",                \
            "where models of other formats are kept once converted; by default pipestep/models "   \
            "in the user's cache directory"                                                        \
    }

static const ps_opt base_rows[] = {
    {"help", 'h', PS_OPT_FLAG, RUN(help), 0, 0, NULL, NULL, NULL, "shows this help"},
    {"config", 0, PS_OPT_TEXT, RUN(config), 0, 0, NULL, NULL, "FILE",
     "reads options from a file of \"name = value\" lines"},
    {"quiet", 'q', PS_OPT_FLAG, RUN(quiet), 0, 0, NULL, NULL, NULL,
     "errors only: no report, no progress"},
    {"verbose", 'v', PS_OPT_FLAG, RUN(verbose), 0, 0, NULL, NULL, NULL,
     "tells what is decided on the way"},
    {"progress", 0, PS_OPT_FLAG, RUN(progress), 0, 0, "true", NULL, NULL,
     "progress of long work on standard error"},
    {"log-json", 0, PS_OPT_FLAG, RUN(log_json), 0, 0, NULL, NULL, NULL,
     "messages on standard error as JSON, an object a line: time, level, rank, host, message"},
    {"stall-timeout", 0, PS_OPT_SECONDS, RUN(stall_timeout_s), 0.1, 86400, "60", NULL, "TIME",
     "a rank without a sign of life for so long ends the job"},
    {"start-timeout", 0, PS_OPT_SECONDS, RUN(start_timeout_s), 1, 86400, "600", NULL, "TIME",
     "longest wait for the other ranks at start and end"},
};

static const ps_opt run_rows[] = {
    {"threads", 't', PS_OPT_INT, RUN(threads), 0, 1024, "0", NULL, "N",
     "threads of each rank; 0: the cores it may use, shared with the ranks beside it"},
    {"isa", 0, PS_OPT_TEXT, RUN(isa), 0, 0, "auto", NULL, "NAME",
     "instruction set of the kernels: auto, portable, avx2, avx512, avx512vnni"},
    {"gemm", 0, PS_OPT_CHOICE, RUN(gemm), 0, 0, "panel", gemm_choices, NULL,
     "engine for prompt chunks; with blas, bits depend on the chunk size"},
    {"activations", 0, PS_OPT_CHOICE, RUN(activations), 0, 0, "i16", activation_choices, NULL,
     "what quantised weights are multiplied with: integers of 16 or 8 bits, or floats"},
    {"slots", 0, PS_OPT_INT, RUN(slots), 0, 65536, "0", NULL, "B",
     "sequences at a time; 0: as many as there are, up to 16 or 4 for each rank"},
    {"ctx", 0, PS_OPT_I64, RUN(context), 0, 281474976710656.0, "0", NULL, "N",
     "positions of a sequence; 0: as many as the work needs, up to the model's"},
    {"chunk", 0, PS_OPT_INT, RUN(chunk), 0, 8192, "0", NULL, "N",
     "prompt tokens in one message between ranks; 0: up to 128, as few as 12 when that keeps all "
     "ranks at work"},
    {"window", 0, PS_OPT_TEXT, RUN(windows), 0, 0, NULL, NULL, "LIST",
     "keys that the layers see instead of the model's: N, full, model, chunk:C or chunk:C+L, with "
     "commas between, from the first layer on again when the list ends"},
    {"keep-first", 0, PS_OPT_INT, RUN(n_kept), 0, PS_SPEC_KEPT_MAX, "0", NULL, "N",
     "first tokens that layers with a window go on seeing (attention sinks)"},
    {"keep-at", 0, PS_OPT_CHOICE, RUN(keep_at), 0, 0, "true", keep_choices, NULL,
     "where they stand: at their true positions, or as if they were next to the window, which is "
     "an approximation of what the model was trained for"},
    {"cache-k", 0, PS_OPT_CHOICE, RUN(cache_k), 0, 0, "f32", cache_choices, NULL,
     "type of cached keys"},
    {"cache-v", 0, PS_OPT_CHOICE, RUN(cache_v), 0, 0, "f32", cache_choices, NULL,
     "type of cached values"},
    {"in-flight", 0, PS_OPT_INT, RUN(in_flight), 0, 65536, "0", NULL, "N",
     "messages under way at a time; 0: as many as ranks, or with --split auto as keep the slowest "
     "busy"},
    {"split", 0, PS_OPT_TEXT, RUN(split), 0, 0, NULL, NULL, "A,B,...",
     "layers of each rank, or auto: as a short trial before the work measures layers, head and "
     "hops; "
     "by default the rank that reads most is made to read as little as possible"},
    {"verify", 0, PS_OPT_CHOICE, RUN(verify), 0, 0, "once", verify_choices, NULL,
     "checks the contents of the weights: always, once for each state of the file, or never"},
    {"weights", 0, PS_OPT_CHOICE, RUN(weights), 0, 0, "auto", weights_choices, NULL,
     "used in the mapped file, or copied into memory of each rank; auto copies for 256 "
     "steps of decoding or more, on several NUMA nodes and from a network file system, where there "
     "is memory for it"},
    {"wait", 0, PS_OPT_CHOICE, RUN(wait), 0, 0, "auto", wait_choices, NULL,
     "waiting threads spin (latency) or give way soon (shared)"},
    {"bind", 0, PS_OPT_FLAG, RUN(bind), 0, 0, NULL, NULL, NULL,
     "binds each thread to a core of its own"},
    {"report", 0, PS_OPT_TEXT, RUN(report), 0, 0, NULL, NULL, "FILE.json",
     "writes the report of the run as JSON too"},
    {"trace", 0, PS_OPT_TEXT, RUN(trace), 0, 0, NULL, NULL, "FILE.json",
     "writes what each rank did when, for Perfetto or chrome://tracing"},
    CACHE_ROW,
};

static const ps_opt metrics_rows[] = {
    {"metrics", 0, PS_OPT_TEXT, RUN(metrics), 0, 0, NULL, NULL, "FILE.prom",
     "keeps how far the run is, for Prometheus: as text, for node_exporter's textfile collector"},
    {"metrics-every", 0, PS_OPT_SECONDS, RUN(metrics_every_s), 0.1, 86400, "5", NULL, "TIME",
     "how often that file is written while the run makes progress; and once at the end"},
};

static const ps_opt cache_rows[] = {CACHE_ROW};

static const ps_opt sampling_rows[] = {
    {"temperature", 0, PS_OPT_REAL, DRAW(temperature), 0, 1e5, NULL, NULL, "X",
     "0 takes the likeliest token; by default 0, or 1 when --seed, --samples, --top-k, --top-p, "
     "--min-p, --typical or --sampler-order is given"},
    {"top-k", 0, PS_OPT_INT, DRAW(top_k), 0, INT32_MAX, "0", NULL, "K",
     "draws from the K likeliest tokens; 0: all"},
    {"top-p", 0, PS_OPT_REAL, DRAW(top_p), 0, 1, "1", NULL, "P",
     "draws from the fewest tokens whose probabilities sum to P"},
    {"min-p", 0, PS_OPT_REAL, DRAW(min_p), 0, 1, "0", NULL, "P",
     "drops tokens with less than P times the likeliest one's probability"},
    {"typical", 0, PS_OPT_REAL, DRAW(typical_p), 0, 1, "1", NULL, "P",
     "draws from the tokens nearest the expected information, up to mass P"},
    {"repetition-penalty", 0, PS_OPT_REAL, DRAW(repetition_penalty), 1e-5, 1e5, "1", NULL, "R",
     "divides positive and multiplies negative logits of tokens seen in prompt and output"},
    {"presence-penalty", 0, PS_OPT_REAL, DRAW(presence_penalty), -1e5, 1e5, "0", NULL, "A",
     "subtracts A from tokens that were generated"},
    {"frequency-penalty", 0, PS_OPT_REAL, DRAW(frequency_penalty), -1e5, 1e5, "0", NULL, "A",
     "subtracts A for each time a token was generated"},
    {"repeat-last-n", 0, PS_OPT_INT, DRAW(repeat_last_n), -1, PS_SAMPLE_WINDOW_MAX, "0", NULL, "N",
     "tokens that the penalties look back on; 0 or -1: all"},
    {"logit-bias", 0, PS_OPT_LIST_TEXT, DRAW(logit_bias), 0, 0, NULL, NULL, "ID:X",
     "adds X to a token's logit; may be given again"},
    {"ban", 0, PS_OPT_LIST_TEXT, DRAW(ban), 0, 0, NULL, NULL, "ID",
     "never draws this token; may be given again"},
    {"stop", 0, PS_OPT_LIST_TEXT, DRAW(stop), 0, 0, NULL, NULL, "TEXT",
     "ends the output before this text; may be given again"},
    {"sampler-order", 0, PS_OPT_TEXT, DRAW(order), 0, 0, "hf", NULL, "LIST",
     "order of the steps: hf, llama, pytorch, vllm, or names with commas between them; a step that "
     "is not named is left out; hf is guidance, logit_bias, banned, repetition, frequency, "
     "presence, "
     "constraint, temperature, top_k, top_p, min_p, typical; llama has temperature last, typical "
     "before top_p; pytorch has temperature last; vllm has output_repetition (blind to the "
     "prompt), "
     "frequency and presence before guidance"},
    {"seed", 0, PS_OPT_U64, DRAW(seed), 0, 0, NULL, NULL, "S",
     "seed of the draws; chosen at random, and reported, when it is needed and not given"},
    {"samples", 0, PS_OPT_INT, DRAW(n_samples), 1, PS_REQUEST_SAMPLES_MAX, "1", NULL, "N",
     "continuations of the prompt, which runs once for all"},
    {"logprobs", 0, PS_OPT_INT, DRAW(n_logprobs), -1, PS_REQUEST_LOGPROBS_MAX, "-1", NULL, "K",
     "with --json: log-probabilities of each token and of the K likeliest; -1: none"},
    {"min-tokens", 0, PS_OPT_INT, DRAW(min_tokens), 0, INT32_MAX, "0", NULL, "N",
     "no end token before N new tokens"},
    {"ignore-eos", 0, PS_OPT_FLAG, DRAW(ignore_eos), 0, 0, NULL, NULL, NULL,
     "goes on after an end token"},
};

ps_opt_group ps_base_group(ps_run_options *target)
{
    return (ps_opt_group){"General", base_rows, ROWS(base_rows), target};
}

ps_opt_group ps_run_group(ps_run_options *target)
{
    return (ps_opt_group){"Running", run_rows, ROWS(run_rows), target};
}

ps_opt_group ps_metrics_group(ps_run_options *target)
{
    return (ps_opt_group){"Watching", metrics_rows, ROWS(metrics_rows), target};
}

ps_opt_group ps_cache_group(ps_run_options *target)
{
    return (ps_opt_group){"Model", cache_rows, ROWS(cache_rows), target};
}

ps_opt_group ps_sampling_group(ps_sampling_options *target)
{
    return (ps_opt_group){"Sampling", sampling_rows, ROWS(sampling_rows), target};
}

/* "12" or "12:-1.5". */
static ps_err parse_token(const char *option, const char *text, bool with_bias, ps_sample_bias *out)
{
    char *end;
    const long id = strtol(text, &end, 10);
    bool good = end != text && id >= 0 && id <= INT32_MAX;
    double bias = 0.0;
    if (good && with_bias) {
        const char *number = end + 1;
        good = *end == ':' && *number != '\0';
        if (good) bias = strtod(number, &end);
        good = good && end != number && isfinite((float)bias);
    }
    if (!good || *end != '\0')
        return PS_FAIL(PS_ERR_USAGE, "--%s %s: wanted %s", option, text,
                       with_bias ? "a token id, a colon and a number" : "a token id");
    *out = (ps_sample_bias){(int32_t)id, (float)bias};
    return PS_OK;
}

static ps_err copy_lists(const ps_sampling_options *o, ps_request *out)
{
    ps_sample_bias *biases = ps_mem_new((size_t)o->logit_bias.count, sizeof *biases);
    int32_t *banned = ps_mem_new((size_t)o->ban.count, sizeof *banned);
    out->sampling.logit_bias = biases;
    out->sampling.banned = banned;
    for (int i = 0; i < o->logit_bias.count; i++) {
        PS_TRY(parse_token("logit-bias", o->logit_bias.items[i], true, &biases[i]));
        out->sampling.n_logit_bias++;
    }
    for (int i = 0; i < o->ban.count; i++) {
        ps_sample_bias token;
        PS_TRY(parse_token("ban", o->ban.items[i], false, &token));
        banned[i] = token.token;
        out->sampling.n_banned++;
    }
    out->stops = ps_mem_new((size_t)o->stop.count, sizeof *out->stops);
    for (int i = 0; i < o->stop.count; i++) {
        out->stops[i] =
            (ps_stop_string){ps_mem_copy_text(o->stop.items[i]), strlen(o->stop.items[i])};
        out->n_stops++;
    }
    return PS_OK;
}

static bool wants_randomness(const ps_opt_parsed *parsed)
{
    static const char *const names[] = {"seed",  "samples", "top-k",        "top-p",
                                        "min-p", "typical", "sampler-order"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (ps_opt_is_set(parsed, names[i])) return true;
    }
    return false;
}

uint64_t ps_options_random_seed(void)
{
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) seed = (uint64_t)ps_clock_now_ns();
    return seed >> 11; // 53 bits, which every reader of JSON keeps
}

ps_err ps_sampling_to_request(const ps_sampling_options *o, const ps_opt_parsed *parsed,
                              ps_request *out)
{
    ps_sample_params *p = &out->sampling;
    *p = ps_sample_params_default();
    if (ps_opt_is_set(parsed, "temperature")) {
        p->temperature = o->temperature;
    } else if (!wants_randomness(parsed)) {
        p->temperature = 0.0;
    }
    p->top_k = o->top_k;
    p->top_p = o->top_p;
    p->min_p = o->min_p;
    p->typical_p = o->typical_p;
    p->repetition_penalty = o->repetition_penalty;
    p->presence_penalty = o->presence_penalty;
    p->frequency_penalty = o->frequency_penalty;
    p->repeat_last_n = o->repeat_last_n;
    p->min_new_tokens = o->min_tokens;
    p->seed = ps_opt_is_set(parsed, "seed") ? o->seed : ps_options_random_seed();
    PS_TRY(ps_sample_order_parse(o->order, p));
    out->n_samples = o->n_samples;
    out->n_logprobs = o->n_logprobs;
    out->ignore_eos = o->ignore_eos;
    return copy_lists(o, out);
}
