#include "tool/rings.h"

#include <string.h>

#include "base/mem.h"

/* Counts, times between tokens, reports, planned bytes; they travel as they lie in memory. */
static void pack(const ps_job *job, ps_text *out)
{
    const ps_generate_counts *c = &job->counts;
    const size_t n_stages = (size_t)job->n_stages;
    ps_text_append(out, c, sizeof *c);
    ps_text_append(out, c->token_ms, c->n_token_ms * sizeof *c->token_ms);
    ps_text_append(out, job->reports, n_stages * sizeof *job->reports);
    ps_text_append(out, job->planned_bytes, n_stages * sizeof *job->planned_bytes);
}

/* The next n bytes of the text. */
static void take(const ps_text *text, size_t *at, void *out, size_t n)
{
    if (n > 0) memcpy(out, text->data + *at, n);
    *at += n;
}

static void unpack(ps_job *job, int ring, const ps_text *text, ps_generate_counts *out)
{
    const size_t n_stages = (size_t)job->n_stages, first = (size_t)ring * n_stages;
    size_t at = 0;
    take(text, &at, out, sizeof *out);
    out->token_ms = ps_mem_new(out->n_token_ms, sizeof *out->token_ms);
    take(text, &at, out->token_ms, out->n_token_ms * sizeof *out->token_ms);
    take(text, &at, job->reports + first, n_stages * sizeof *job->reports);
    take(text, &at, job->planned_bytes + first, n_stages * sizeof *job->planned_bytes);
}

/* Times that are known, on rank 0's clock. */
static void set_clock(ps_generate_counts *c, int64_t ahead_ns)
{
    int64_t *const times[] = {&c->begun_ns, &c->first_token_ns, &c->last_token_ns,
                              &c->last_prompt_ns};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        if (*times[i] != 0) *times[i] -= ahead_ns;
    }
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

static int64_t later(int64_t a, int64_t b)
{
    return b > a ? b : a;
}

static void add_times(ps_generate_counts *sum, const ps_generate_counts *c)
{
    if (c->n_token_ms == 0) return;
    float *all = ps_mem_new(sum->n_token_ms + c->n_token_ms, sizeof *all);
    if (sum->n_token_ms > 0) memcpy(all, sum->token_ms, sum->n_token_ms * sizeof *all);
    memcpy(all + sum->n_token_ms, c->token_ms, c->n_token_ms * sizeof *all);
    ps_mem_free(sum->token_ms);
    sum->token_ms = all;
    sum->n_token_ms += c->n_token_ms;
}

static void add_counts(ps_generate_counts *sum, const ps_generate_counts *c)
{
    sum->prompt_tokens += c->prompt_tokens;
    sum->new_tokens += c->new_tokens;
    sum->requests += c->requests;
    sum->prefix_tokens += c->prefix_tokens;
    sum->shared_tokens += c->shared_tokens;
    sum->begun_tokens += c->begun_tokens;
    sum->shortest = earlier(sum->shortest, c->shortest);
    sum->longest = later(sum->longest, c->longest);
    // The next token of whoever had the first.
    if (earlier(sum->first_token_ns, c->first_token_ns) != sum->first_token_ns)
        sum->second_token_ns = c->second_token_ns;
    sum->begun_ns = earlier(sum->begun_ns, c->begun_ns);
    sum->first_token_ns = earlier(sum->first_token_ns, c->first_token_ns);
    sum->last_token_ns = later(sum->last_token_ns, c->last_token_ns);
    sum->n_prompts += c->n_prompts;
    sum->prompt_ns += c->prompt_ns;
    sum->last_prompt_ns = later(sum->last_prompt_ns, c->last_prompt_ns);
    add_times(sum, c);
}

/* What the ring had to say, on rank 0. */
static void add_ring(ps_job *job, int ring, const ps_text *text, int64_t ahead_ns)
{
    ps_generate_counts counts;
    unpack(job, ring, text, &counts);
    set_clock(&counts, ahead_ns);
    add_counts(&job->counts, &counts);
    ps_generate_counts *kept = &job->ring_counts[ring];
    *kept = counts;
    kept->token_ms = NULL;
    kept->n_token_ms = 0;
    ps_generate_counts_release(&counts);
}

ps_err ps_rings_gather(ps_job *job)
{
    if (job->rank == 0) {
        job->ring_counts = ps_mem_new((size_t)job->n_rings, sizeof *job->ring_counts);
        job->ring_counts[0] = job->counts;
        job->ring_counts[0].token_ms = NULL;
        job->ring_counts[0].n_token_ms = 0;
    }
    for (int ring = 1; ring < job->n_rings; ring++) {
        const int rank = ring * job->n_stages;
        ps_text text = {0};
        int64_t ahead_ns;
        if (job->rank == rank) pack(job, &text);
        ps_err err = ps_comm_compare_clocks(job->comm, rank, &ahead_ns);
        if (!err) err = ps_comm_bring(job->comm, rank, &text);
        if (!err && job->rank == 0) add_ring(job, ring, &text, ahead_ns);
        ps_text_release(&text);
        PS_TRY(err);
    }
    return PS_OK;
}
