#include "tool/acestep/songs.h"

#include "base/mem.h"

/* A song under way. */
typedef struct entry {
    ps_song song;
    uint64_t number; // the caller's
    bool used;
    bool has_next; // `next` waits to be added
    ps_request next;
} entry;

struct ps_songs {
    ps_songs_params params;
    ps_generate *generate;
    entry **entries; // [n] by the generator's number; freed ones are used again
    size_t n, capacity;
    int n_used;
    ps_songs_progress progress;
};

/* The generator is not called from within its own callbacks: what comes next waits for the step's
 * end. */
static ps_err on_done(void *arg, uint64_t number, const ps_request *request,
                      const ps_completion *completions, int n);

static ps_err on_token(void *arg, uint64_t number, int sample, int32_t token, const char *text,
                       size_t n)
{
    (void)number, (void)sample, (void)text, (void)n;
    ps_songs *s = arg;
    if (token >= 0) s->progress.n_tokens++;
    return PS_OK;
}

ps_songs *ps_songs_new(const ps_songs_params *params)
{
    ps_songs *s = ps_mem_new(1, sizeof *s);
    s->params = *params;
    const ps_job *job = params->job;
    const ps_generate_params generate = {.pipeline = job->pipeline,
                                         .spec = &job->ckpt.spec,
                                         .tokenizer = job->tokenizer,
                                         .limits = job->limits,
                                         .in_flight = job->plan.in_flight,
                                         .callbacks = {on_token, on_done, s}};
    s->generate = ps_generate_new(&generate);
    return s;
}

static void clear(ps_songs *s, entry *e)
{
    ps_song_release(&e->song);
    ps_request_release(&e->next);
    *e = (entry){0};
    s->n_used--;
}

void ps_songs_free(ps_songs *s)
{
    if (!s) return;
    ps_generate_free(s->generate);
    for (size_t i = 0; i < s->n; i++) {
        if (s->entries[i]->used) clear(s, s->entries[i]);
        ps_mem_free(s->entries[i]);
    }
    ps_mem_free(s->entries);
    ps_mem_free(s);
}

static size_t find_free(ps_songs *s)
{
    size_t i = 0;
    while (i < s->n && s->entries[i]->used) {
        i++;
    }
    if (i < s->n) return i;
    s->entries = ps_mem_grow(s->entries, &s->capacity, s->n + 1, sizeof(entry *));
    s->entries[s->n++] = ps_mem_new(1, sizeof(entry));
    return i;
}

/* Gives a phase to the generator, which takes the request. */
static ps_err add_phase(ps_songs *s, size_t i, ps_request *request)
{
    const ps_job *job = s->params.job;
    const ps_song *song = &s->entries[i]->song;
    PS_TRY(ps_generate_check(request, &job->ckpt.spec, &job->limits));
    if (song->has_codes)
        s->progress.n_total =
            s->progress.n_tokens + (uint64_t)(request->max_tokens * request->n_samples);
    return ps_generate_add(s->generate, i, request);
}

ps_err ps_songs_add(ps_songs *s, uint64_t number, ps_acestep_request *request)
{
    const size_t i = find_free(s);
    entry *e = s->entries[i];
    *e = (entry){.number = number, .used = true};
    s->n_used++;
    ps_request first;
    ps_err err = ps_song_begin(&s->params.context, request, &e->song, &first);
    if (!err) err = add_phase(s, i, &first);
    if (!err) return PS_OK;
    ps_request_release(&first);
    clear(s, e);
    return err;
}

static ps_err fail(ps_songs *s, entry *e, ps_err err)
{
    const ps_err result = s->params.on_failed(s->params.arg, e->number, err);
    clear(s, e);
    return result;
}

static ps_err on_done(void *arg, uint64_t number, const ps_request *request,
                      const ps_completion *completions, int n)
{
    (void)request;
    ps_songs *s = arg;
    entry *e = s->entries[number];
    bool more;
    const ps_err err = ps_song_take(&s->params.context, &e->song, completions, n, &more, &e->next);
    if (err) return fail(s, e, err);
    if (more) {
        e->has_next = true;
        return PS_OK;
    }
    const ps_err result = s->params.on_done(s->params.arg, e->number, &e->song);
    clear(s, e);
    return result;
}

static ps_err add_next_phases(ps_songs *s)
{
    for (size_t i = 0; i < s->n; i++) {
        entry *e = s->entries[i];
        if (!e->has_next) continue;
        e->has_next = false;
        const ps_err err = add_phase(s, i, &e->next);
        if (err) PS_TRY(fail(s, e, err));
    }
    return PS_OK;
}

bool ps_songs_busy(const ps_songs *s)
{
    return s->n_used > 0;
}

bool ps_songs_full(const ps_songs *s)
{
    return ps_generate_waiting(s->generate) >= s->params.job->limits.n_slots;
}

ps_err ps_songs_step(ps_songs *s)
{
    if (ps_generate_busy(s->generate)) PS_TRY(ps_generate_step(s->generate));
    return add_next_phases(s);
}

void ps_songs_count(const ps_songs *s, ps_songs_progress *progress, ps_generate_counts *counts)
{
    if (progress) *progress = s->progress;
    if (counts) ps_generate_count(s->generate, counts);
}
