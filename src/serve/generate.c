/* A request becomes a job with one sequence for each sample. The first sequence of a wave runs the
 * prompt; when its last row comes back every sequence of the wave draws its first token from the
 * same logits, and those that go on are forked. A request with more samples than slots runs in
 * waves.
 *
 * A streamed or endless request keeps no record of its output, so its memory stays bounded; one
 * whose state is to be saved keeps as many tokens as a state has.
 *
 * The prefix is a task without a job: it runs when the first request wants it, and is then held for
 * the others to be forked from. */
#include "serve/generate_parts.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

// A shorter common beginning is computed twice: running it alone reads all weights once more.
enum { TIMES_MAX = 1 << 16, COMMON_MIN = 16 };

static ps_err on_row(void *arg, ps_sched *sched, ps_task *task, int64_t position,
                     const float *logits);

ps_generate *ps_generate_new(const ps_generate_params *params)
{
    ps_generate *g = ps_mem_new(1, sizeof *g);
    g->params = *params;
    const ps_sched_params sched = {.pipeline = params->pipeline,
                                   .spec = params->spec,
                                   .limits = params->limits,
                                   .in_flight = params->in_flight,
                                   .on_row = on_row,
                                   .arg = g};
    g->sched = ps_sched_new(&sched);
    g->work = ps_sampler_work_new(params->spec->vocab_size);
    g->token_ms = ps_mem_new(TIMES_MAX, sizeof *g->token_ms);
    return g;
}

int ps_generate_waiting(const ps_generate *g)
{
    return ps_sched_waiting(g->sched);
}

bool ps_generate_busy(const ps_generate *g)
{
    return ps_sched_busy(g->sched);
}

ps_err ps_generate_step(ps_generate *g)
{
    return ps_sched_step(g->sched);
}

void ps_generate_count(const ps_generate *g, ps_generate_counts *out)
{
    *out = g->counts;
    out->slots_used = ps_sched_slots_used(g->sched);
    out->n_token_ms = g->n_times < TIMES_MAX ? (size_t)g->n_times : TIMES_MAX;
    out->token_ms = ps_mem_new(out->n_token_ms, sizeof *out->token_ms);
    memcpy(out->token_ms, g->token_ms, out->n_token_ms * sizeof *out->token_ms);
}

void ps_generate_counts_note(ps_generate_counts *counts, int64_t length)
{
    if (length == 0) length = INT64_MAX;
    if (counts->shortest == 0 || length < counts->shortest) counts->shortest = length;
    if (length > counts->longest) counts->longest = length;
}

void ps_generate_counts_release(ps_generate_counts *counts)
{
    ps_mem_free(counts->token_ms);
    *counts = (ps_generate_counts){0};
}

/* Tokens that end a request; the sampler bans them while it is shorter than it must be. */
static int list_ends(const ps_spec *spec, const ps_request *r, int32_t *out)
{
    int n = 0;
    for (int i = 0; i < spec->n_eos; i++) {
        out[n++] = spec->eos_ids[i];
    }
    for (int i = 0; i < r->n_end_ids; i++) {
        out[n++] = r->end_ids[i];
    }
    return n;
}

static ps_err check_prompt(const char *name, const ps_tokens *prompt, const ps_spec *spec,
                           const ps_limits *limits)
{
    if (prompt->n == 0) return PS_FAIL(PS_ERR_USAGE, "the %s is empty", name);
    for (size_t i = 0; i < prompt->n; i++) {
        const int32_t id = prompt->ids[i];
        if (id >= 0 && id < spec->vocab_size) continue;
        return PS_FAIL(PS_ERR_USAGE, "%s token %zu is %d, the vocabulary has 0..%d", name, i, id,
                       spec->vocab_size - 1);
    }
    // Caches and tables are made for these positions: behind them nothing is right.
    if (prompt->n <= (uint64_t)limits->context) return PS_OK;
    return PS_FAIL(PS_ERR_LIMIT, "the %s has %zu tokens, the context %lld", name, prompt->n,
                   (long long)limits->context);
}

static ps_err check_guidance(const ps_request *r, const ps_spec *spec, const ps_limits *limits)
{
    const bool guided = ps_request_is_guided(r);
    if (r->keeps_state && (guided || r->constraint))
        return PS_FAIL(PS_ERR_USAGE, "no state is kept of an output with %s",
                       guided ? "guidance" : "a constraint");
    if (r->constraint) PS_TRY(ps_sample_params_check_constraint(&r->sampling));
    if (!guided) return PS_OK;
    PS_TRY(check_prompt("negative prompt", &r->negative, spec, limits));
    if (limits->n_slots >= 2) return PS_OK;
    return PS_FAIL(PS_ERR_USAGE, "a sample with guidance takes two slots, there is %d",
                   limits->n_slots);
}

ps_err ps_generate_check(const ps_request *request, const ps_spec *spec, const ps_limits *limits)
{
    PS_TRY(check_prompt("prompt", &request->prompt, spec, limits));
    if (request->max_tokens < 0 && request->max_tokens != PS_REQUEST_ENDLESS)
        return PS_FAIL(PS_ERR_USAGE, "max_tokens is %lld, wanted 0 or more, or -1 for no end",
                       (long long)request->max_tokens);
    if (request->n_samples < 1 || request->n_samples > PS_REQUEST_SAMPLES_MAX)
        return PS_FAIL(PS_ERR_USAGE, "n is %d, wanted 1..%d samples", request->n_samples,
                       PS_REQUEST_SAMPLES_MAX);
    if (request->n_logprobs < -1 || request->n_logprobs > PS_REQUEST_LOGPROBS_MAX)
        return PS_FAIL(PS_ERR_USAGE, "logprobs is %d, wanted 0..%d", request->n_logprobs,
                       PS_REQUEST_LOGPROBS_MAX);
    if (request->keeps_state && (request->n_samples != 1 || request->max_tokens < 1))
        return PS_FAIL(PS_ERR_USAGE,
                       "a state is kept of one sample with an end, found n %d and "
                       "max_tokens %lld",
                       request->n_samples, (long long)request->max_tokens);
    PS_TRY(check_guidance(request, spec, limits));
    PS_TRY(ps_stop_check(request->stops, request->n_stops));
    ps_sample_params sampling = request->sampling;
    sampling.guidance = request->guidance;
    int32_t ends[PS_SPEC_EOS_MAX + PS_REQUEST_ENDS_MAX];
    sampling.end_tokens = ends;
    sampling.n_end_tokens = list_ends(spec, request, ends);
    PS_TRY(ps_sample_params_check(&sampling, spec->vocab_size));
    return ps_sample_params_check_left(&sampling, spec->vocab_size);
}

/* ---- sequences ---- */

static void close_sequence(ps_sequence *q)
{
    ps_sampler_free(q->sampler);
    ps_detokenizer_free(q->detokenizer);
    ps_stop_free(q->stop);
    if (q->constraint) q->constraint->kind->free(q->constraint);
    ps_tokens_release(&q->task.tokens);
    ps_tokens_release(&q->negative.tokens);
}

void ps_generate_expect(ps_sequence *q)
{
    q->expected = (ps_expectation){.certain = -1};
    if (q->constraint) q->constraint->kind->expect(q->constraint, &q->expected);
    const ps_logits_wanted wanted = {q->expected.ranges, q->expected.n_ranges};
    q->negative.wanted = wanted;
    // Log-probabilities are over all tokens.
    q->task.wanted = q->job->request.n_logprobs < 0 ? wanted : (ps_logits_wanted){0};
}

ps_err ps_generate_open_sequence(ps_generate *g, ps_generate_job *j, int sample, ps_sequence *q)
{
    *q = (ps_sequence){.job = j, .sample = sample, .completion = &j->completions[sample]};
    ps_sample_params params = j->request.sampling;
    params.sample += (uint32_t)sample;
    params.guidance = j->request.guidance;
    int32_t ends[PS_SPEC_EOS_MAX + PS_REQUEST_ENDS_MAX];
    params.end_tokens = ends;
    params.n_end_tokens = list_ends(g->params.spec, &j->request, ends);
    PS_TRY(ps_sampler_new(&params, g->params.spec->vocab_size, &q->sampler));
    PS_TRY(ps_stop_new(j->request.stops, j->request.n_stops, &q->stop));
    if (g->params.tokenizer) q->detokenizer = ps_detokenizer_new(g->params.tokenizer, true);
    const ps_constraint *constraint = j->request.constraint;
    if (constraint) q->constraint = constraint->kind->copy(constraint);
    ps_generate_expect(q);
    return PS_OK;
}

/* Positions that the negative prompt can take from the prompt, which itself begins behind those of
 * the prefix. Each keeps a last row of its own. */
static int64_t find_common(const ps_generate_job *j)
{
    const ps_tokens *a = &j->request.prompt, *b = &j->request.negative;
    size_t n = 0;
    while (n + 1 < a->n && n + 1 < b->n && a->ids[n] == b->ids[n]) {
        n++;
    }
    return n >= COMMON_MIN && (int64_t)n >= j->shared ? (int64_t)n : 0;
}

/* The prompts, of which the prefix's positions and the common ones are given. */
static void take_prompt(ps_generate_job *j, ps_sequence *q)
{
    const ps_tokens *prompt = &j->request.prompt, *negative = &j->request.negative;
    for (size_t i = (size_t)j->common; i < negative->n && ps_request_is_guided(&j->request); i++) {
        ps_tokens_append(&q->negative.tokens, negative->ids[i]);
    }
    if (ps_request_is_guided(&j->request)) q->task.partner = &q->negative;
    q->negative.first = j->common;
    for (size_t i = 0; i < prompt->n; i++) {
        if ((int64_t)i >= j->shared) ps_tokens_append(&q->task.tokens, prompt->ids[i]);
        ps_generate_note_recent(j, prompt->ids[i]);
        ps_sampler_advance(q->sampler, prompt->ids[i], true);
    }
    q->task.first = j->shared;
}

/* Samples that a wave can have. */
static int samples_of_wave(const ps_generate *g, const ps_generate_job *j)
{
    const int slots = g->params.limits.n_slots - (g->params.prefix ? 1 : 0);
    return ps_request_is_guided(&j->request) ? slots / 2 : slots;
}

/* Whether ropes turn keys alike in sequences of these lengths. */
static bool ropes_agree(const ps_spec *spec, int64_t a, int64_t b)
{
    const size_t half = (size_t)(spec->head_dim / 2);
    double *frequencies = ps_mem_new(2 * half, sizeof *frequencies);
    bool agree = true;
    for (int r = 0; r < spec->n_ropes && agree; r++) {
        if (!ps_rope_depends_on_length(&spec->ropes[r])) continue;
        ps_rope_frequencies(&spec->ropes[r], a, frequencies);
        ps_rope_frequencies(&spec->ropes[r], b, frequencies + half);
        agree = memcmp(frequencies, frequencies + half, half * sizeof *frequencies) == 0;
    }
    ps_mem_free(frequencies);
    return agree;
}

/* The prompt goes on behind the prefix, and the ropes are those of the prefix: its first request's.
 */
static bool shares_prefix(const ps_generate *g, const ps_generate_job *j, int64_t length)
{
    const ps_tokens *prefix = g->params.prefix, *prompt = &j->request.prompt;
    if (!prefix || prompt->n <= prefix->n) return false;
    if (memcmp(prompt->ids, prefix->ids, prefix->n * sizeof *prefix->ids) != 0) return false;
    return !g->prefix_begun || ropes_agree(g->params.spec, length, g->prefix.length);
}

static void begin_prefix(ps_generate *g, int64_t length)
{
    const ps_tokens *prefix = g->params.prefix;
    g->prefix_begun = true;
    g->prefix = (ps_task){.n_slots = 1, .length = length};
    for (size_t i = 0; i < prefix->n; i++) {
        ps_tokens_append(&g->prefix.tokens, prefix->ids[i]);
    }
    g->counts.prefix_tokens = prefix->n;
    g->counts.prompt_tokens += prefix->n;
    ps_sched_add(g->sched, &g->prefix);
}

/* What the prompts of a job share with others and with each other. */
static void find_shared(const ps_generate *g, ps_generate_job *j, int64_t length)
{
    const bool guided = ps_request_is_guided(&j->request);
    j->known = (int64_t)j->request.prompt.n;
    j->shared = shares_prefix(g, j, length) ? (int64_t)g->params.prefix->n : 0;
    j->common = guided ? find_common(j) : 0;
    j->computed = j->known - j->shared;
    if (guided) j->computed += (int64_t)j->request.negative.n - j->common;
}

static ps_err begin_by_jump(ps_generate *g, ps_generate_job *j);
static ps_err end_wave(ps_generate *g, ps_generate_job *j);

/* Starts the samples from first_sample on, as many as there are slots for. Where their end is
 * certain already none is open afterwards: end_wave goes on. */
static ps_err start_wave(ps_generate *g, ps_generate_job *j)
{
    const int left = j->request.n_samples - j->first_sample, most = samples_of_wave(g, j);
    const int64_t length = ps_generate_length(&j->request, g->params.spec, &g->params.limits);
    assert(most > 0 && "ps_generate_check");
    j->wave = left < most ? left : most;
    j->n_open = j->wave;
    j->begun = false;
    find_shared(g, j, length);
    j->sequences = ps_mem_new((size_t)j->wave, sizeof *j->sequences);
    for (int i = 0; i < j->wave; i++) {
        PS_TRY(ps_generate_open_sequence(g, j, j->first_sample + i, &j->sequences[i]));
        take_prompt(j, &j->sequences[i]);
    }
    ps_task *task = &j->sequences[0].task;
    task->user = &j->sequences[0];
    task->n_slots = task->partner ? 2 * j->wave : j->wave;
    task->length = j->sequences[0].negative.length = length;
    PS_TRY(begin_by_jump(g, j));
    if (j->n_open == 0) return PS_OK;
    ps_generate_counts_note(&g->counts, length);
    if (j->shared > 0) {
        if (!g->prefix_begun) begin_prefix(g, length);
        task->parent = &g->prefix;
    }
    ps_sched_add(g->sched, task);
    return PS_OK;
}

void ps_generate_close_wave(ps_generate_job *j)
{
    for (int i = 0; i < j->wave; i++) {
        close_sequence(&j->sequences[i]);
    }
    ps_mem_free(j->sequences);
    j->sequences = NULL;
    j->first_sample += j->wave;
    j->wave = 0;
}

void ps_generate_free_job(ps_generate_job *j)
{
    *j->link = j->next;
    if (j->next) j->next->link = j->link;
    for (int i = 0; i < j->request.n_samples; i++) {
        ps_completion_release(&j->completions[i]);
    }
    ps_generate_free_earlier(j);
    ps_mem_free(j->noted);
    ps_mem_free(j->completions);
    ps_tokens_release(&j->recent);
    ps_request_release(&j->request);
    ps_mem_free(j);
}

void ps_generate_free(ps_generate *g)
{
    if (!g) return;
    // After an error there are some that were not finished.
    while (g->jobs) {
        ps_generate_close_wave(g->jobs);
        ps_generate_free_job(g->jobs);
    }
    ps_tokens_release(&g->prefix.tokens);
    ps_mem_free(g->token_ms);
    ps_text_release(&g->shown);
    ps_text_release(&g->piece);
    ps_sampler_work_free(g->work);
    ps_sched_free(g->sched);
    ps_mem_free(g);
}

static ps_err finish_job(ps_generate *g, ps_generate_job *j)
{
    ps_err err = PS_OK;
    if (g->params.callbacks.on_done)
        err = g->params.callbacks.on_done(g->params.callbacks.arg, j->number, &j->request,
                                          j->completions, j->request.n_samples);
    g->counts.requests++;
    if (j->request.keeps_state) {
        g->kept = j;
    } else {
        ps_generate_free_job(j);
    }
    return err;
}

int64_t ps_generate_length(const ps_request *request, const ps_spec *spec, const ps_limits *limits)
{
    const bool endless = request->max_tokens == PS_REQUEST_ENDLESS;
    const int64_t prompt = ps_request_longest_prompt(request);
    if (request->keeps_state) return limits->context; // another run goes on
    if (endless && ps_spec_is_endless(spec)) return 0;
    if (endless || request->max_tokens > limits->context - prompt) return limits->context;
    return prompt + request->max_tokens;
}

ps_generate_job *ps_generate_new_job(ps_generate *g, uint64_t number, ps_request *request)
{
    ps_generate_job *j = ps_mem_new(1, sizeof *j);
    *j = (ps_generate_job){.number = number, .request = *request, .added_ns = ps_clock_now_ns()};
    *request = (ps_request){0};
    j->next = g->jobs;
    j->link = &g->jobs;
    if (j->next) j->next->link = &j->next;
    g->jobs = j;
    j->completions = ps_mem_new((size_t)j->request.n_samples, sizeof *j->completions);
    j->noted = ps_mem_new((size_t)j->request.n_samples, sizeof *j->noted);
    if (g->counts.begun_ns == 0) g->counts.begun_ns = j->added_ns;
    return j;
}

ps_err ps_generate_add_begun(ps_generate *g, uint64_t number, ps_request *request,
                             ps_completion *begun)
{
    ps_generate_job *j = ps_generate_new_job(g, number, request);
    if (begun) {
        const size_t n = (size_t)j->request.n_samples;
        j->earlier = ps_mem_new(n, sizeof *j->earlier);
        memcpy(j->earlier, begun, n * sizeof *begun);
        memset(begun, 0, n * sizeof *begun);
        for (size_t i = 0; i < n; i++) {
            j->noted[i] = j->earlier[i].tokens.n;
        }
    }
    if (j->request.max_tokens == 0) {
        for (int i = 0; i < j->request.n_samples; i++) {
            j->completions[i].finish = PS_FINISH_LENGTH;
        }
        return finish_job(g, j);
    }
    // After an error what is left of the job goes with the generator.
    PS_TRY(start_wave(g, j));
    return end_wave(g, j);
}

ps_err ps_generate_add(ps_generate *g, uint64_t number, ps_request *request)
{
    return ps_generate_add_begun(g, number, request, NULL);
}

/* ---- tokens ---- */

/* Tokens that were certain before anything was computed say nothing about time. */
static void count_token(ps_generate *g, ps_sequence *q)
{
    const int64_t now = ps_clock_now_ns();
    g->counts.new_tokens++;
    if (!q->job->begun) return;
    g->counts.last_token_ns = now;
    if (g->counts.first_token_ns == 0) g->counts.first_token_ns = now;
    if (q->token_ns != 0 && g->counts.second_token_ns == 0)
        g->counts.second_token_ns = now - q->token_ns;
    if (q->token_ns != 0)
        g->token_ms[g->n_times++ % TIMES_MAX] = (float)((double)(now - q->token_ns) * 1e-6);
    q->token_ns = now;
}

static bool keeps_output(const ps_request *request)
{
    return request->max_tokens != PS_REQUEST_ENDLESS && !request->streamed;
}

static ps_err show(ps_generate *g, ps_sequence *q, int32_t token)
{
    if (keeps_output(&q->job->request))
        ps_text_append(&q->completion->text, g->shown.data, g->shown.len);
    if (!g->params.callbacks.on_token) return PS_OK;
    return g->params.callbacks.on_token(g->params.callbacks.arg, q->job->number, q->sample, token,
                                        ps_text_str(&g->shown), g->shown.len);
}

static ps_err note_logprobs(ps_generate *g, ps_sequence *q, const float *logits, int32_t token)
{
    if (q->job->request.n_logprobs < 0) return PS_OK;
    ps_completion *c = q->completion;
    c->logprobs =
        ps_mem_grow(c->logprobs, &c->logprobs_capacity, c->tokens.n + 1, sizeof *c->logprobs);
    return ps_sampler_find_logprobs(logits, g->params.spec->vocab_size, token,
                                    q->job->request.n_logprobs, &c->logprobs[c->tokens.n]);
}

static bool is_end(const ps_generate *g, const ps_request *r, int32_t token)
{
    for (int i = 0; i < r->n_end_ids; i++) {
        if (r->end_ids[i] == token) return true;
    }
    return ps_spec_is_eos(g->params.spec, token);
}

/* Why the sequence ends with this token, if it does. */
static ps_finish finish_of(const ps_generate *g, const ps_sequence *q, int32_t token)
{
    const ps_request *r = &q->job->request;
    if (!r->ignore_eos && is_end(g, r, token)) return PS_FINISH_STOP;
    if (r->max_tokens >= 0 && q->n_new >= r->max_tokens) return PS_FINISH_LENGTH;
    // The token itself still needs a position to be fed at, if another is to follow.
    const int64_t prompt = ps_request_longest_prompt(r), before = q->job->known;
    const int64_t known = (prompt > before ? prompt : before) + q->n_new;
    return known > g->params.limits.context ? PS_FINISH_LENGTH : PS_FINISH_NONE;
}

/* The sequence grows by a token: shows its text, says whether the sequence ends. */
static ps_err take(ps_generate *g, ps_sequence *q, int32_t token, ps_finish *finish)
{
    ps_sampler_advance(q->sampler, token, false);
    q->n_new++;
    *finish = finish_of(g, q, token);
    if (keeps_output(&q->job->request)) ps_tokens_append(&q->completion->tokens, token);
    ps_generate_note_recent(q->job, token);
    ps_task_append(&q->task, token);
    if (q->task.partner) ps_task_append(q->task.partner, token);
    ps_text_clear(&g->shown);
    ps_text_clear(&g->piece);
    const bool ended = *finish == PS_FINISH_STOP;
    if (q->detokenizer && !ended) PS_TRY(ps_detokenizer_push(q->detokenizer, token, &g->piece));
    if (ps_stop_push(q->stop, ps_text_str(&g->piece), g->piece.len, &g->shown))
        *finish = PS_FINISH_STOP;
    if (q->constraint) q->constraint->kind->advance(q->constraint, token);
    if (*finish == PS_FINISH_NONE) ps_generate_expect(q);
    return show(g, q, token);
}

/* Takes the tokens that are certain, unless somebody wants to know how likely they are. */
static ps_err jump(ps_generate *g, ps_sequence *q, ps_finish *finish)
{
    while (*finish == PS_FINISH_NONE && q->expected.certain >= 0 &&
           q->job->request.n_logprobs < 0) {
        count_token(g, q);
        PS_TRY(take(g, q, q->expected.certain, finish));
    }
    return PS_OK;
}

/* The next token by its logits; with guidance those of the negative prompt lie behind them. */
static ps_err choose(ps_generate *g, const ps_sequence *q, const float *logits, int32_t *token)
{
    *token = q->expected.certain;
    if (*token >= 0) return PS_OK;
    const float *other = logits + ps_stage_logits_stride(g->params.spec);
    const ps_sampler_input in = {.logits = logits,
                                 .unconditional = q->task.partner ? other : NULL,
                                 .constraint = q->constraint,
                                 .ranges = q->expected.ranges,
                                 .n_ranges = q->expected.n_ranges};
    return ps_sampler_pick(q->sampler, g->work, &in, token);
}

/* A token by its logits, and those that are certain behind it. */
static ps_err draw(ps_generate *g, ps_sequence *q, const float *logits, ps_finish *finish)
{
    int32_t token;
    PS_TRY(choose(g, q, logits, &token));
    PS_TRY(note_logprobs(g, q, logits, token));
    count_token(g, q);
    PS_TRY(take(g, q, token, finish));
    return jump(g, q, finish);
}

/* The first tokens of a sequence: those that another run drew, or one drawn from the prompt's last
 * logits. The former are submitted together, and the next is drawn when the last of them is back.
 * Those that were certain may be taken already. */
static ps_err draw_first(ps_generate *g, ps_sequence *q, const float *logits, ps_finish *finish)
{
    ps_completion *earlier = q->job->earlier ? &q->job->earlier[q->sample] : NULL;
    const size_t taken = (size_t)q->n_new;
    if (!earlier || earlier->tokens.n <= taken) return draw(g, q, logits, finish);
    *finish = PS_FINISH_NONE;
    ps_err err = PS_OK;
    q->completion->logprobs = earlier->logprobs;
    q->completion->logprobs_capacity = earlier->logprobs_capacity;
    earlier->logprobs = NULL;
    for (size_t t = taken; t < earlier->tokens.n && !err && *finish == PS_FINISH_NONE; t++) {
        err = take(g, q, earlier->tokens.ids[t], finish);
    }
    g->counts.begun_tokens += (uint64_t)q->n_new - taken;
    ps_completion_release(earlier);
    return err ? err : jump(g, q, finish);
}

/* The rest of the text, once a sequence is over. Where another run is to go on, it is kept. */
static ps_err flush_text(ps_generate *g, ps_sequence *q)
{
    ps_text_clear(&g->shown);
    ps_text_clear(&g->piece);
    if (q->job->request.keeps_state && q->completion->finish == PS_FINISH_LENGTH)
        return show(g, q, -1);
    if (q->detokenizer && ps_stop_matched(q->stop) < 0)
        PS_TRY(ps_detokenizer_finish(q->detokenizer, &g->piece));
    if (ps_stop_matched(q->stop) < 0) {
        ps_stop_push(q->stop, ps_text_str(&g->piece), g->piece.len, &g->shown);
        ps_stop_finish(q->stop, &g->shown);
    }
    return show(g, q, -1);
}

static ps_err end_sequence(ps_generate *g, ps_sequence *q, ps_finish finish)
{
    q->completion->finish = finish;
    q->job->n_open--;
    return flush_text(g, q);
}

/* Once no sequence of a wave is open: the next one, or the end of the job. */
static ps_err end_wave(ps_generate *g, ps_generate_job *j)
{
    while (j->n_open == 0) {
        if (j->request.keeps_state) return finish_job(g, j);
        ps_generate_close_wave(j);
        if (j->first_sample == j->request.n_samples) return finish_job(g, j);
        PS_TRY(start_wave(g, j));
    }
    return PS_OK;
}

/* Tokens that are certain behind the prompt go through the model as if they belonged to it. They
 * are the same in all sequences of the wave, and so is its end, if that is one of them. */
static ps_err begin_by_jump(ps_generate *g, ps_generate_job *j)
{
    ps_finish finish = PS_FINISH_NONE;
    for (int i = 0; i < j->wave; i++) {
        finish = PS_FINISH_NONE;
        PS_TRY(jump(g, &j->sequences[i], &finish));
    }
    for (int i = 0; i < j->wave && finish != PS_FINISH_NONE; i++) {
        PS_TRY(end_sequence(g, &j->sequences[i], finish));
    }
    return PS_OK;
}

/* The sequence's slot is free, or kept for its state to be saved. */
static void leave_slot(ps_sched *sched, ps_sequence *q)
{
    if (q->job->request.keeps_state) {
        ps_sched_hold(sched, &q->task);
    } else {
        ps_sched_finish(sched, &q->task);
    }
}

/* First tokens of all sequences of a wave, from the logits of the prompt's last row. Those that go
 * on are forked before anything of the first one is submitted. */
static ps_err begin_wave(ps_generate *g, ps_sched *sched, ps_generate_job *j, const float *logits)
{
    const int wave = j->wave;
    ps_sequence *sequences = j->sequences;
    ps_finish *finish = ps_mem_new((size_t)wave, sizeof *finish);
    ps_err err = PS_OK;
    j->begun = true;
    g->counts.prompt_tokens += (uint64_t)j->computed;
    g->counts.shared_tokens += (uint64_t)j->shared;
    g->counts.n_prompts++;
    g->counts.last_prompt_ns = ps_clock_now_ns();
    g->counts.prompt_ns += g->counts.last_prompt_ns - j->added_ns;
    for (int i = 0; i < wave && !err; i++) {
        err = draw_first(g, &sequences[i], logits, &finish[i]);
        if (err || i == 0 || finish[i] != PS_FINISH_NONE) continue;
        sequences[i].task.user = &sequences[i];
        ps_sched_fork(sched, &sequences[0].task, &sequences[i].task);
    }
    if (!err && finish[0] != PS_FINISH_NONE) leave_slot(sched, &sequences[0]);
    for (int i = 0; i < wave && !err; i++) {
        if (finish[i] != PS_FINISH_NONE) err = end_sequence(g, &sequences[i], finish[i]);
    }
    ps_mem_free(finish);
    return err ? err : end_wave(g, j);
}

static ps_err on_row(void *arg, ps_sched *sched, ps_task *task, int64_t position,
                     const float *logits)
{
    (void)position;
    ps_generate *g = arg;
    if (task == &g->prefix) {
        ps_sched_hold(sched, task);
        return PS_OK;
    }
    ps_sequence *q = task->user;
    if (!q->job->begun) return begin_wave(g, sched, q->job, logits);
    ps_finish finish;
    PS_TRY(draw(g, q, logits, &finish));
    if (finish == PS_FINISH_NONE) return PS_OK;
    leave_slot(sched, q);
    PS_TRY(end_sequence(g, q, finish));
    return end_wave(g, q->job);
}
