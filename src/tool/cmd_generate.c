/* pipestep generate: one prompt, its continuations. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "tool/chat_prompt.h"
#include "tool/commands.h"
#include "tool/job.h"
#include "tool/metrics.h"
#include "tool/milestones.h"
#include "tool/prompt.h"
#include "tool/result.h"
#include "tool/saved_state.h"

typedef struct options {
    ps_prompt prompt;
    const char *system, *chat_template;
    const char *negative;
    double guidance;
    const char *save_state, *load_state;
    int64_t n, hash_every;
    bool ids, echo, json, chat;
} options;

typedef struct state {
    options options;
    ps_sampling_options sampling;
    ps_job *job;
    ps_request request;
    ps_text echo;
    bool printed; // anything on the present line of --ids
    ps_milestones *milestones;
    ps_saved_state saved;
} state;

#define AT(field) offsetof(options, field)

static const ps_opt rows[] = {
    {"prompt", 'p', PS_OPT_TEXT, AT(prompt.text), 0, 0, NULL, NULL, "TEXT", "text to continue"},
    {"prompt-file", 0, PS_OPT_TEXT, AT(prompt.file), 0, 0, NULL, NULL, "FILE",
     "file with the text to continue; - is standard input"},
    {"tokens", 0, PS_OPT_TEXT, AT(prompt.tokens_file), 0, 0, NULL, NULL, "FILE",
     "file whose first line is the prompt as token ids, taken as it is"},
    {"chat", 0, PS_OPT_FLAG, AT(chat), 0, 0, NULL, NULL, NULL,
     "the prompt is what a user says: puts it into the model's chat template"},
    {"system", 0, PS_OPT_TEXT, AT(system), 0, 0, NULL, NULL, "TEXT",
     "--chat: the system message before it"},
    {"chat-template", 0, PS_OPT_TEXT, AT(chat_template), 0, 0, NULL, NULL, "NAME",
     "--chat: template by name instead of the model's own: chatml, qwen2, qwen3, llama3, llama3.1, "
     "gemma, mistral, mistral-v3, mistral-tekken, gpt-oss"},
    {"guidance", 0, PS_OPT_REAL, AT(guidance), 1, 1e5, "1", NULL, "S",
     "draws from U + S (C - U), C the logits behind the prompt, U those behind --negative; each "
     "sample takes two slots; 1: off"},
    {"negative", 0, PS_OPT_TEXT, AT(negative), 0, 0, NULL, NULL, "TEXT",
     "--guidance: text to lead away from, with --chat as what a user says; by default nothing"},
    {"n", 'n', PS_OPT_I64, AT(n), -1, 9e15, "256", NULL, "N", "new tokens at most; -1 never stops"},
    {"ids", 0, PS_OPT_FLAG, AT(ids), 0, 0, NULL, NULL, NULL,
     "prints the new token ids instead of text"},
    {"echo", 0, PS_OPT_FLAG, AT(echo), 0, 0, NULL, NULL, NULL, "prints the prompt before it"},
    {"json", 0, PS_OPT_FLAG, AT(json), 0, 0, NULL, NULL, NULL,
     "prints one JSON object at the end instead of a stream"},
    {"hash-every", 0, PS_OPT_I64, AT(hash_every), 0, 9e15, "0", NULL, "N",
     "every N new tokens prints a hash of all so far, the time and the memory on standard error; "
     "0: never"},
    {"save-state", 0, PS_OPT_TEXT, AT(save_state), 0, 0, NULL, NULL, "FILE.h5",
     "writes what another run needs to go on after the last token: caches, tokens, sampler"},
    {"load-state", 0, PS_OPT_TEXT, AT(load_state), 0, 0, NULL, NULL, "FILE.h5",
     "goes on where that run stopped, bit by bit, on any number of ranks; prompt and sampler are "
     "the state's"},
};

static const char notes[] =
    "Without a prompt the model begins by itself, if it has a token to begin with. The same seed "
    "gives\nthe same text on any number of ranks and threads.\n\n"
    "  pipestep generate model.h5 --prompt 'Once upon a time' -n 200 --seed 7 --top-p 0.95\n"
    "  mpirun -np 4 pipestep generate model.h5 --prompt-file story.txt --temperature 0.8\n"
    "  pipestep generate chat.gguf --chat --prompt 'Of the sea' --guidance 1.5 "
    "--negative 'Be brief'\n"
    "  pipestep generate --config configs/endless.conf\n"
    "  pipestep generate --seed 7 -n 500 --ignore-eos --save-state tune.h5\n"
    "  mpirun -np 2 pipestep generate --load-state tune.h5 -n 500\n";

static ps_err check(void *arg, ps_job *job)
{
    state *s = arg;
    const options *o = &s->options;
    PS_TRY(ps_prompt_check(&o->prompt));
    if (o->chat && o->prompt.tokens_file)
        return PS_FAIL(PS_ERR_USAGE, "--chat and --tokens exclude each other");
    if (!o->chat && (o->system || o->chat_template))
        return PS_FAIL(PS_ERR_USAGE, "--%s goes with --chat",
                       o->system ? "system" : "chat-template");
    if (o->negative && o->guidance <= 1.0)
        return PS_FAIL(PS_ERR_USAGE, "--negative goes with --guidance above 1");
    if (o->guidance > 1.0 && (o->save_state || o->load_state))
        return PS_FAIL(PS_ERR_USAGE, "--guidance and --%s-state exclude each other",
                       o->save_state ? "save" : "load");
    if (o->ids && o->json) return PS_FAIL(PS_ERR_USAGE, "--ids and --json exclude each other");
    if (o->echo && o->json) return PS_FAIL(PS_ERR_USAGE, "--echo and --json exclude each other");
    if (s->sampling.n_logprobs >= 0 && !o->json)
        return PS_FAIL(PS_ERR_USAGE, "--logprobs goes with --json");
    if (o->n < 0 && (s->sampling.n_samples > 1 || o->json))
        return PS_FAIL(PS_ERR_USAGE,
                       "-n -1 never ends: it goes with one sample and without --json");
    s->request.max_tokens = o->n;
    s->request.guidance = o->guidance;
    if (o->hash_every > 0 && s->sampling.n_samples > 1)
        return PS_FAIL(PS_ERR_USAGE, "--hash-every goes with one sample");
    s->saved = (ps_saved_state){.save = o->save_state, .load = o->load_state};
    PS_TRY(ps_saved_state_check(&s->saved, job, o->n, s->sampling.n_samples));
    s->request.keeps_state = o->save_state != NULL;
    PS_TRY(ps_sampling_to_request(&s->sampling, &job->parsed, &s->request));
    s->request.streamed = !o->json && s->request.n_samples == 1;
    // Ranks that were not given a seed draw different ones; rank 0's counts.
    ps_sample_params sampling = s->request.sampling;
    sampling.guidance = o->guidance;
    return ps_sample_params_check(&sampling, 0);
}

static ps_err read_tokens(state *s)
{
    PS_TRY(ps_prompt_read_tokens(&s->options.prompt, &s->request.prompt));
    if (!s->options.echo || s->options.ids || !s->job->tokenizer) return PS_OK;
    return ps_tokenizer_decode(s->job->tokenizer, s->request.prompt.ids, s->request.prompt.n, true,
                               &s->echo);
}

static void append_ids(const ps_tokens *tokens, ps_text *out)
{
    for (size_t i = 0; i < tokens->n; i++) {
        ps_text_appendf(out, i ? " %d" : "%d", tokens->ids[i]);
    }
}

static ps_err encode_chat(const state *s, const char *where, const char *text, size_t n,
                          ps_request *out)
{
    const char *system = s->options.system;
    const size_t system_bytes = system ? strlen(system) : 0;
    ps_chat *chat;
    PS_TRY(ps_job_check_text(where, text, n));
    PS_TRY(ps_job_check_text("--system", system, system_bytes));
    PS_TRY(ps_chat_prompt_open(s->job, s->options.chat_template, &chat));
    const ps_chat_message messages[2] = {{"system", system, system_bytes}, {"user", text, n}};
    const ps_err err = system ? ps_chat_prompt_encode(s->job, chat, messages, 2, out)
                              : ps_chat_prompt_encode(s->job, chat, messages + 1, 1, out);
    ps_chat_free(chat);
    return err;
}

static ps_err encode(const state *s, const char *where, const char *text, size_t n, ps_request *out)
{
    if (s->options.chat) return encode_chat(s, where, text, n, out);
    return ps_job_encode(s->job, where, text, n, &out->prompt);
}

static ps_err read_negative(state *s)
{
    if (!ps_request_is_guided(&s->request)) return PS_OK;
    const char *text = s->options.negative ? s->options.negative : "";
    ps_request other = {0};
    const ps_err err = encode(s, "--negative", text, strlen(text), &other);
    s->request.negative = other.prompt;
    other.prompt = (ps_tokens){0};
    ps_request_release(&other);
    if (err || s->request.negative.n > 0) return err;
    return PS_FAIL(PS_ERR_USAGE, "--guidance: the model has no token to begin with: give "
                                 "--negative TEXT");
}

static ps_err read_prompt(state *s)
{
    const options *o = &s->options;
    if (o->prompt.tokens_file) return read_tokens(s);
    ps_text text = {0};
    const char *where = ps_prompt_where(&o->prompt);
    ps_err err = ps_prompt_read_text(&o->prompt, &text);
    if (!err) err = encode(s, where, ps_text_str(&text), text.len, &s->request);
    if (!err && o->echo && !o->ids) ps_text_append(&s->echo, text.data, text.len);
    if (!err) err = ps_prompt_check_tokens(&s->request.prompt);
    ps_text_release(&text);
    return err;
}

static ps_err prepare(void *arg, ps_job *job, ps_needs *needs)
{
    state *s = arg;
    s->job = job;
    needs->n_sequences = ps_request_sequences(&s->request);
    ps_needs_add_tokens(needs, s->options.n, (int)needs->n_sequences);
    PS_TRY(ps_saved_state_prepare(&s->saved, job));
    if (s->saved.load) {
        const ps_state *from = &s->saved.state;
        const int64_t known = from->first + (int64_t)from->request.prompt.n;
        needs->longest = s->options.n < 0 ? INT64_MAX : known + s->options.n;
        return PS_OK;
    }
    PS_TRY(read_prompt(s));
    PS_TRY(read_negative(s));
    if (s->options.echo && s->options.ids) append_ids(&s->request.prompt, &s->echo);
    needs->longest =
        s->options.n < 0 ? INT64_MAX : ps_request_longest_prompt(&s->request) + s->options.n;
    return PS_OK;
}

static ps_err print(const state *s, const char *text, size_t n)
{
    return ps_output_write(&s->job->output, text, n);
}

/* The first sample streams; the others follow when all are done. */
static ps_err on_token(void *arg, uint64_t number, int sample, int32_t token, const char *text,
                       size_t n)
{
    (void)number;
    state *s = arg;
    if (token >= 0) ps_milestones_add(s->milestones, token);
    if (sample != 0 || s->options.json) return PS_OK;
    if (!s->options.ids) return print(s, text, n);
    if (token < 0) return PS_OK;
    char id[16];
    const int length = snprintf(id, sizeof id, s->printed || s->echo.len > 0 ? " %d" : "%d", token);
    s->printed = true;
    return print(s, id, (size_t)length);
}

static ps_err print_ids(const state *s, const ps_tokens *tokens)
{
    ps_text line = {0};
    ps_text_append(&line, s->echo.data, s->echo.len);
    if (line.len > 0 && tokens->n > 0) ps_text_append_str(&line, " ");
    append_ids(tokens, &line);
    const ps_err err = print(s, ps_text_str(&line), line.len);
    ps_text_release(&line);
    return err;
}

static ps_err print_json(const state *s, const ps_request *request,
                         const ps_completion *completions, int n)
{
    ps_text line = {0};
    ps_result_to_json(NULL, s->job, request, completions, n, &line);
    const ps_err err = print(s, ps_text_str(&line), line.len);
    ps_text_release(&line);
    return err;
}

static ps_err on_done(void *arg, uint64_t number, const ps_request *request,
                      const ps_completion *completions, int n)
{
    (void)number;
    state *s = arg;
    if (s->options.json) return print_json(s, request, completions, n);
    for (int i = 0; i < n; i++) {
        if (i > 0 && s->options.ids) PS_TRY(print_ids(s, &completions[i].tokens));
        if (i > 0 && !s->options.ids) {
            PS_TRY(print(s, s->echo.data, s->echo.len));
            PS_TRY(print(s, completions[i].text.data, completions[i].text.len));
        }
        const bool last = i + 1 == n;
        // Samples are set apart by an empty line; a terminal gets a line end.
        if (s->options.ids) PS_TRY(print(s, "\n", 1));
        if (!s->options.ids && !last) PS_TRY(print(s, "\n\n", 2));
        if (!s->options.ids && last && ps_output_is_terminal()) PS_TRY(print(s, "\n", 1));
    }
    return PS_OK;
}

static ps_err add(state *s, ps_generate *g)
{
    if (s->saved.load) return ps_saved_state_add(&s->saved, s->job, &s->request, g);
    if (s->request.sampling.temperature > 0.0)
        ps_log(PS_LOG_INFO, "seed %llu", (unsigned long long)s->request.sampling.seed);
    if (!s->options.json) PS_TRY(print(s, s->echo.data, s->echo.len));
    return ps_generate_add(g, 0, &s->request);
}

static void update_metrics(const ps_job *job, const ps_generate *g)
{
    ps_generate_counts counts;
    ps_metrics_work work = {.finished = !ps_generate_busy(g), .begun = ps_generate_busy(g)};
    ps_generate_count(g, &counts);
    ps_metrics_add_counts(&work, &counts);
    ps_generate_counts_release(&counts);
    ps_metrics_update(job->metrics, &work);
}

static ps_err work(void *arg, ps_job *job)
{
    state *s = arg;
    if (!s->saved.load) PS_TRY(ps_generate_check(&s->request, &job->ckpt.spec, &job->limits));
    const ps_generate_params params = {.pipeline = job->pipeline,
                                       .spec = &job->ckpt.spec,
                                       .tokenizer = job->tokenizer,
                                       .limits = job->limits,
                                       .in_flight = job->plan.in_flight,
                                       .callbacks = {on_token, on_done, s}};
    s->milestones = ps_milestones_open(s->options.hash_every);
    ps_generate *g = ps_generate_new(&params);
    ps_err err = add(s, g);
    while (!err && ps_generate_busy(g)) {
        err = ps_generate_step(g);
        if (ps_metrics_due(job->metrics)) update_metrics(job, g);
    }
    if (!err && s->saved.save) err = ps_saved_state_save(&s->saved, job, g);
    update_metrics(job, g);
    ps_generate_count(g, &job->counts);
    ps_generate_free(g);
    ps_milestones_close(s->milestones);
    return err;
}

int ps_cmd_generate(int argc, char **argv)
{
    state s = {0};
    ps_job job = {0};
    ps_opt_group groups[] = {{"Prompt and output", rows, sizeof rows / sizeof rows[0], &s.options},
                             ps_sampling_group(&s.sampling),
                             ps_run_group(&job.run),
                             ps_metrics_group(&job.run),
                             ps_base_group(&job.run)};
    static const char *const names[] = {"MODEL"};
    const ps_job_command command = {.name = "generate",
                                    .groups = groups,
                                    .n_groups = 5,
                                    .notes = notes,
                                    .positionals = {names, 0, 1},
                                    .check = check,
                                    .prepare = prepare,
                                    .work = work,
                                    .state = &s};
    const int status = ps_job_main(&command, &job, argc, argv);
    ps_request_release(&s.request);
    ps_state_release(&s.saved.state);
    ps_text_release(&s.echo);
    return status;
}
