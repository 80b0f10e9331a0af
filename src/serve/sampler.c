/* One sequence's sampler: what it remembers, the run through its steps, the draw.
 *
 * Memory of the past is two counts per token, so that a pick needs no search: `seen` in prompt and
 * output, `drawn` in the output alone. With a window the last tokens stand in a ring, and one that
 * leaves it is taken from the counts again. All of it follows from the sequence of advances.
 *
 * The draw is an inverse CDF over ascending ids. u comes from a counter, so picking twice, or
 * picking for other sequences in between, changes nothing. */
#include "serve/sampler.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "math/rng.h"
#include "serve/sampler_steps.h"

enum { PURPOSE_DRAW = 0x64726177 }; // "draw"; another use of randomness takes another number

struct ps_sampler {
    ps_sample_params params; // its lists are owned copies
    int V;
    ps_sample_step step[PS_SAMPLE_STEP_COUNT]; // those that have work to do, in order
    int n_steps;
    uint64_t generated;
    uint32_t *seen, *drawn; // [V] each; NULL without penalties
    int window;             // 0: counts are for ever
    int32_t *ring;          // [window] token, or ~token if it was generated
    int ring_used, ring_next;
};

ps_sampler_work *ps_sampler_work_new(int V)
{
    assert(V >= 1);
    const size_t n = (size_t)V;
    ps_sampler_work *work = ps_mem_new(1, sizeof *work);
    *work = (ps_sampler_work){
        .V = V,
        .token = ps_mem_new(n, sizeof *work->token),
        .z = ps_mem_new(n, sizeof *work->z),
        .weight = ps_mem_new(n, sizeof *work->weight),
        .key = ps_mem_new(n, sizeof *work->key),
        .member = ps_mem_new(n, sizeof *work->member),
        .mass = ps_mem_new(PS_SAMPLER_DIGITS, sizeof *work->mass),
        .shown = ps_mem_new(n, sizeof *work->shown),
        .allowed = ps_mem_new((n + 63) / 64, sizeof *work->allowed),
    };
    for (size_t v = 0; v < n; v++) {
        work->shown[v] = -INFINITY;
    }
    return work;
}

void ps_sampler_work_free(ps_sampler_work *work)
{
    if (!work) return;
    ps_mem_free(work->allowed);
    ps_mem_free(work->shown);
    ps_mem_free(work->mass);
    ps_mem_free(work->member);
    ps_mem_free(work->key);
    ps_mem_free(work->weight);
    ps_mem_free(work->z);
    ps_mem_free(work->token);
    ps_mem_free(work);
}

static bool is_greedy(const ps_sampler *s)
{
    return s->params.temperature <= 0.0;
}

/* Greedy leaves out every step from the temperature on: none of them changes which is largest,
 * except typical, which is no way to choose one token. */
static bool has_work(const ps_sampler *s, ps_sample_step step)
{
    if (step == PS_SAMPLE_CONSTRAINT) return true;
    if (is_greedy(s) && step >= PS_SAMPLE_TEMPERATURE) return false;
    return ps_sampler_switched_on_by(&s->params, step) != NULL;
}

static void *copy_list(const void *list, int n, size_t size)
{
    if (n == 0) return NULL;
    void *copy = ps_mem_new((size_t)n, size);
    memcpy(copy, list, (size_t)n * size);
    return copy;
}

static void take_counts(ps_sampler *s)
{
    const ps_sample_params *p = &s->params;
    if (p->repetition_penalty == 1.0 && p->frequency_penalty == 0.0 && p->presence_penalty == 0.0)
        return;
    s->seen = ps_mem_new((size_t)s->V, sizeof *s->seen);
    s->drawn = ps_mem_new((size_t)s->V, sizeof *s->drawn);
    if (p->repeat_last_n <= 0) return;
    s->window = p->repeat_last_n;
    s->ring = ps_mem_new((size_t)s->window, sizeof *s->ring);
}

ps_err ps_sampler_new(const ps_sample_params *params, int V, ps_sampler **out)
{
    assert(V >= 1);
    *out = NULL;
    PS_TRY(ps_sample_params_check(params, V));
    ps_sampler *s = ps_mem_new(1, sizeof *s);
    *s = (ps_sampler){.params = *params, .V = V};
    s->params.logit_bias =
        copy_list(params->logit_bias, params->n_logit_bias, sizeof *params->logit_bias);
    s->params.banned = copy_list(params->banned, params->n_banned, sizeof *params->banned);
    s->params.end_tokens =
        copy_list(params->end_tokens, params->n_end_tokens, sizeof *params->end_tokens);
    for (int i = 0; i < params->n_order; i++) {
        if (has_work(s, params->order[i])) s->step[s->n_steps++] = params->order[i];
    }
    take_counts(s);
    *out = s;
    return PS_OK;
}

void ps_sampler_free(ps_sampler *s)
{
    if (!s) return;
    ps_mem_free(s->ring);
    ps_mem_free(s->drawn);
    ps_mem_free(s->seen);
    ps_mem_free((void *)(uintptr_t)s->params.end_tokens);
    ps_mem_free((void *)(uintptr_t)s->params.banned);
    ps_mem_free((void *)(uintptr_t)s->params.logit_bias);
    ps_mem_free(s);
}

/* Counts stop at their largest value: an endless stream gets there, and only without a window. */
static void count(uint32_t *counter)
{
    if (*counter < UINT32_MAX) ++*counter;
}

static void pass_window(ps_sampler *s, int32_t entry)
{
    if (s->ring_used == s->window) {
        const int32_t oldest = s->ring[s->ring_next];
        const int32_t token = oldest < 0 ? ~oldest : oldest;
        s->seen[token]--;
        if (oldest < 0) s->drawn[token]--;
    } else {
        s->ring_used++;
    }
    s->ring[s->ring_next] = entry;
    s->ring_next = s->ring_next + 1 == s->window ? 0 : s->ring_next + 1;
}

void ps_sampler_advance(ps_sampler *s, int32_t token, bool is_prompt)
{
    assert(token >= 0 && token < s->V);
    if (!is_prompt) s->generated++;
    if (!s->seen) return;
    if (s->window > 0) pass_window(s, is_prompt ? token : ~token);
    count(&s->seen[token]);
    if (!is_prompt) count(&s->drawn[token]);
}

static size_t count_entries(const ps_sampler *s)
{
    if (!s->seen) return 0;
    if (s->window > 0) return (size_t)s->ring_used;
    size_t n = 0;
    for (int v = 0; v < s->V; v++) {
        n += s->seen[v] > 0;
    }
    return n;
}

void ps_sampler_remember(const ps_sampler *s, ps_sampler_memory *out)
{
    const size_t n = count_entries(s);
    *out = (ps_sampler_memory){.generated = s->generated};
    out->entries = ps_mem_new(n, sizeof *out->entries);
    const int oldest = s->window > 0 && s->ring_used == s->window ? s->ring_next : 0;
    for (int i = 0; s->window > 0 && i < s->ring_used; i++) {
        const int32_t token = s->ring[(oldest + i) % s->window];
        out->entries[out->n++] =
            token < 0 ? (ps_sampler_entry){~token, 1, 1} : (ps_sampler_entry){token, 1, 0};
    }
    for (int v = 0; out->n < n; v++) {
        if (s->seen[v] > 0) out->entries[out->n++] = (ps_sampler_entry){v, s->seen[v], s->drawn[v]};
    }
}

void ps_sampler_memory_release(ps_sampler_memory *memory)
{
    ps_mem_free(memory->entries);
    *memory = (ps_sampler_memory){0};
}

/* A window's entries are told one by one, counts are set. */
static bool restore_entry(ps_sampler *s, const ps_sampler_entry *e, int64_t before)
{
    if (e->token < 0 || e->token >= s->V || e->seen < 1 || e->drawn < 0 || e->drawn > e->seen)
        return false;
    if (s->window > 0) {
        if (e->seen != 1 || s->ring_used == s->window) return false;
        ps_sampler_advance(s, (int32_t)e->token, e->drawn == 0);
        return true;
    }
    if (e->token <= before || e->seen > UINT32_MAX) return false;
    s->seen[e->token] = (uint32_t)e->seen;
    s->drawn[e->token] = (uint32_t)e->drawn;
    return true;
}

ps_err ps_sampler_restore(ps_sampler *s, const ps_sampler_memory *memory)
{
    if (memory->n > 0 && !s->seen)
        return PS_FAIL(PS_ERR_FORMAT, "a sampler without penalties remembers %zu tokens",
                       memory->n);
    for (size_t i = 0; i < memory->n; i++) {
        const ps_sampler_entry *e = &memory->entries[i];
        if (!restore_entry(s, e, i > 0 ? e[-1].token : -1))
            return PS_FAIL(PS_ERR_FORMAT,
                           "the sampler's entry %zu (token %lld, seen %lld, drawn %lld) is none", i,
                           (long long)e->token, (long long)e->seen, (long long)e->drawn);
    }
    s->generated = memory->generated;
    return PS_OK;
}

/* What the constraint sees are the logits as the steps before it have left them. */
static ps_err constrain(const ps_sampler *s, ps_sampler_work *work, const ps_sampler_input *in)
{
    if (!in->constraint) return PS_OK;
    const bool untouched = s->step[0] == PS_SAMPLE_CONSTRAINT && in->n_ranges == 0;
    bool all = false;
    if (!untouched) ps_sampler_show(work);
    const ps_err err = in->constraint->kind->allow(
        in->constraint, untouched ? in->logits : work->shown, work->allowed, &all);
    if (!untouched) ps_sampler_hide(work);
    if (!err && !all) ps_sampler_constrain(work, work->allowed);
    return err;
}

static ps_err take_step(const ps_sampler *s, ps_sampler_work *work, const ps_sampler_input *in,
                        ps_sample_step step)
{
    const ps_sample_params *p = &s->params;
    switch (step) {
    case PS_SAMPLE_GUIDANCE:
        return ps_sampler_guide(work, in->unconditional, p->guidance);
    case PS_SAMPLE_LOGIT_BIAS:
        ps_sampler_bias(work, p->logit_bias, p->n_logit_bias);
        break;
    case PS_SAMPLE_BANNED:
        ps_sampler_ban(work, p->banned, p->n_banned);
        if (s->generated < (uint64_t)p->min_new_tokens)
            ps_sampler_ban(work, p->end_tokens, p->n_end_tokens);
        break;
    case PS_SAMPLE_REPETITION:
        ps_sampler_repetition(work, s->seen, p->repetition_penalty);
        break;
    case PS_SAMPLE_OUTPUT_REPETITION:
        ps_sampler_repetition(work, s->drawn, p->repetition_penalty);
        break;
    case PS_SAMPLE_FREQUENCY:
        ps_sampler_frequency(work, s->drawn, p->frequency_penalty);
        break;
    case PS_SAMPLE_PRESENCE:
        ps_sampler_presence(work, s->drawn, p->presence_penalty);
        break;
    case PS_SAMPLE_CONSTRAINT:
        return constrain(s, work, in);
    case PS_SAMPLE_TEMPERATURE:
        ps_sampler_temperature(work, p->temperature);
        break;
    case PS_SAMPLE_TOP_K:
        ps_sampler_top_k(work, p->top_k);
        break;
    case PS_SAMPLE_TOP_P:
        ps_sampler_top_p(work, p->top_p);
        break;
    case PS_SAMPLE_MIN_P:
        ps_sampler_min_p(work, p->min_p);
        break;
    case PS_SAMPLE_TYPICAL:
        ps_sampler_typical(work, p->typical_p);
        break;
    case PS_SAMPLE_STEP_COUNT:
        break;
    }
    return PS_OK;
}

/* Leaves in `work` the tokens that may be drawn, at least one. */
static ps_err take_steps(const ps_sampler *s, ps_sampler_work *work, const ps_sampler_input *in)
{
    if (in->constraint) PS_TRY(ps_sample_params_check_constraint(&s->params));
    if (s->params.guidance > 1.0 && !in->unconditional)
        return PS_FAIL(PS_ERR_USAGE, "guidance is %g, but there are no unconditional logits",
                       s->params.guidance);
    PS_TRY(ps_sampler_load(work, in));
    for (int i = 0; i < s->n_steps; i++) {
        PS_TRY(take_step(s, work, in, s->step[i]));
        if (work->n > 0) continue;
        return PS_FAIL(PS_ERR_NUMERIC, "sampler: no token is left to draw after the step %s",
                       ps_sample_step_name(s->step[i]));
    }
    return PS_OK;
}

static double uniform(const ps_sampler *s)
{
    const ps_rng_block counter = {
        {s->params.sample, (uint32_t)s->generated, PURPOSE_DRAW, (uint32_t)(s->generated >> 32)}};
    return ps_rng_uniform(ps_rng_philox(s->params.seed, counter));
}

/* The running sum ends at exactly `sum`, and u * sum < sum for every u < 1. */
static int draw(const ps_sampler *s, ps_sampler_work *work)
{
    const double target = uniform(s) * ps_sampler_weigh(work);
    double running = 0.0;
    int i = 0;
    for (; i < work->n - 1; i++) {
        running += work->weight[i];
        if (running > target) break;
    }
    return i;
}

/* Whether some of x[n] are above `best` or no numbers. Compilers make vectors of this loop. */
static bool any_above(const float *x, int n, float best)
{
    int above = 0;
    for (int i = 0; i < n; i++) {
        above |= !(x[i] <= best);
    }
    return above != 0;
}

/* The first of the largest logits of first .. end-1 is *token if it is above *best. */
static ps_err search(const float *logits, int first, int end, float *best, int32_t *token)
{
    for (int v = first; v < end; v++) {
        const float x = logits[v];
        if (!(x < INFINITY)) return ps_sampler_reject(v, x);
        if (x > *best) {
            *best = x;
            *token = v;
        }
    }
    return PS_OK;
}

/* Greedy on unchanged logits. Few blocks hold a value above those before them. */
static ps_err pick_largest(const ps_sampler_input *in, int V, int32_t *token)
{
    enum { BLOCK = 256 };
    const ps_id_range whole = {0, V};
    const ps_id_range *ranges = in->n_ranges > 0 ? in->ranges : &whole;
    float best = -INFINITY;
    int32_t at = -1;
    for (int r = 0; r == 0 || r < in->n_ranges; r++) {
        for (int v = ranges[r].first; v < ranges[r].end; v += BLOCK) {
            const int n = ranges[r].end - v < BLOCK ? ranges[r].end - v : BLOCK;
            if (!any_above(in->logits + v, n, best)) continue;
            PS_TRY(search(in->logits, v, v + n, &best, &at));
        }
    }
    if (at < 0) return ps_sampler_reject_all(V);
    *token = at;
    return PS_OK;
}

/* The constraint is in the list of steps even where no pick has one. */
static bool is_plain(const ps_sampler *s)
{
    return s->n_steps == 0 || (s->n_steps == 1 && s->step[0] == PS_SAMPLE_CONSTRAINT);
}

ps_err ps_sampler_pick(const ps_sampler *s, ps_sampler_work *work, const ps_sampler_input *in,
                       int32_t *token)
{
    assert(work->V == s->V);
    if (is_greedy(s) && !in->constraint && is_plain(s)) return pick_largest(in, s->V, token);
    PS_TRY(take_steps(s, work, in));
    *token = work->token[is_greedy(s) ? ps_sampler_largest(work) : draw(s, work)];
    return PS_OK;
}

ps_err ps_sampler_probabilities(const ps_sampler *s, ps_sampler_work *work,
                                const ps_sampler_input *in, double *probability)
{
    assert(work->V == s->V);
    PS_TRY(take_steps(s, work, in));
    memset(probability, 0, (size_t)s->V * sizeof *probability);
    if (is_greedy(s)) {
        probability[work->token[ps_sampler_largest(work)]] = 1.0;
        return PS_OK;
    }
    const double sum = ps_sampler_weigh(work);
    for (int i = 0; i < work->n; i++) {
        probability[work->token[i]] = work->weight[i] / sum;
    }
    return PS_OK;
}
