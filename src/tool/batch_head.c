/* The head of a ring that is not rank 0: runs the requests that rank 0 sends it. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "serve/dispatch.h"
#include "tool/batch_rings.h"
#include "tool/ledger_lines.h"
#include "tool/request_lines.h"
#include "tool/result.h"

enum { REST_US = 100 };

/* A request that is not over; its id comes back in the result. */
typedef struct open_request {
    struct open_request *next;
    uint64_t number;
    json_t *id;
} open_request;

typedef struct head {
    ps_batch_head_params params;
    ps_dispatch *dispatch;
    ps_generate *generate;
    open_request *open;
    bool stopped, saves, failed;
    bool waits; // for rank 0
} head;

static json_t *close_request(head *h, uint64_t number)
{
    for (open_request **link = &h->open; *link; link = &(*link)->next) {
        open_request *o = *link;
        if (o->number != number) continue;
        json_t *id = o->id;
        *link = o->next;
        ps_mem_free(o);
        return id;
    }
    return NULL;
}

static void open_id(head *h, uint64_t number, json_t *id)
{
    open_request *o = ps_mem_new(1, sizeof *o);
    *o = (open_request){h->open, number, id};
    h->open = o;
}

/* ---- to rank 0 ---- */

static ps_err on_done(void *arg, uint64_t number, const ps_request *request,
                      const ps_completion *completions, int n)
{
    head *h = arg;
    ps_text result = {0};
    json_t *id = close_request(h, number);
    ps_result_to_json(id, h->params.job, request, completions, n, &result);
    json_decref(id);
    ps_dispatch_send(h->dispatch, 0, PS_BATCH_RESULT, number, &result);
    return PS_OK;
}

static ps_err note_tokens(void *arg, uint64_t number, int sample, size_t first,
                          const ps_completion *so_far)
{
    head *h = arg;
    ps_text line = {0};
    ps_ledger_write_note((size_t)number, sample, first, so_far, &line);
    ps_dispatch_send(h->dispatch, 0, PS_BATCH_NOTE, number, &line);
    return PS_OK;
}

static void tell_failure(head *h, ps_err err)
{
    ps_text message = {0};
    ps_text_append_str(&message, ps_err_message());
    ps_dispatch_send(h->dispatch, 0, PS_BATCH_FAILED, (uint64_t)err, &message);
    h->failed = true;
}

/* ---- from rank 0 ---- */

/* What an earlier run had: begun[n_samples], of the lines text[n]. */
static ps_err read_begun(const head *h, const ps_request *request, const char *text, size_t n,
                         ps_completion *begun)
{
    for (size_t at = 0; at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        const size_t length = end ? (size_t)(end - text) - at : n - at;
        if (!ps_ledger_read_note(text + at, length, request->n_samples, request->n_logprobs,
                                 h->params.job->ckpt.spec.vocab_size, begun))
            return PS_FAIL(PS_ERR_LOST, "tokens of an earlier run came from rank 0 as \"%.60s\"",
                           text + at);
        at += length + 1;
    }
    return PS_OK;
}

static ps_err add_request(head *h, uint64_t number, const ps_text *text)
{
    const char *end = text->len > 0 ? memchr(text->data, '\n', text->len) : NULL;
    if (!end)
        return PS_FAIL(PS_ERR_LOST, "request %llu came without an end", (unsigned long long)number);
    const size_t n = (size_t)(end - text->data);
    ps_request request;
    json_t *id;
    const ps_err parsed = ps_batch_request_parse(
        h->params.batch, text->data, n, ps_request_lines_seed(h->params.seed, (size_t)number), &id,
        &request);
    open_id(h, number, id);
    PS_TRY(parsed);
    const size_t n_samples = (size_t)request.n_samples;
    ps_completion *begun = ps_mem_new(n_samples, sizeof *begun);
    ps_err err = read_begun(h, &request, end + 1, text->len - n - 1, begun);
    if (!err) {
        const bool has_begun = text->len > n + 1;
        err = ps_generate_add_begun(h->generate, number, &request, has_begun ? begun : NULL);
    } else {
        ps_request_release(&request);
    }
    for (size_t i = 0; i < n_samples; i++) {
        ps_completion_release(&begun[i]);
    }
    ps_mem_free(begun);
    return err;
}

static ps_err on_text(void *arg, int from, uint32_t kind, uint64_t number, ps_text *text)
{
    (void)from;
    head *h = arg;
    switch (kind) {
    case PS_BATCH_REQUEST:
        return h->failed ? PS_OK : add_request(h, number, text);
    case PS_BATCH_STOP:
        h->stopped = true;
        h->saves = number != 0;
        return PS_OK;
    default:
        return PS_FAIL(PS_ERR_LOST, "a message of kind %u from rank 0 makes no sense", kind);
    }
}

/* ---- the loop ---- */

static void set_waiting(head *h, bool waits)
{
    if (h->waits != waits) ps_watch_waits_for(h->params.job->watch, waits ? 0 : -1);
    h->waits = waits;
}

/* A moment in which this ring has nothing to do. */
static ps_err rest(head *h)
{
    set_waiting(h, true);
    PS_TRY(ps_pipeline_poll(h->params.job->pipeline));
    ps_clock_sleep_us(REST_US);
    return PS_OK;
}

static ps_err step(head *h)
{
    PS_TRY(ps_dispatch_poll(h->dispatch));
    if (h->failed || !ps_generate_busy(h->generate)) return rest(h);
    set_waiting(h, false);
    PS_TRY(ps_generate_step(h->generate));
    if (h->params.note_every == 0) return PS_OK;
    return ps_generate_note(h->generate, (size_t)h->params.note_every, note_tokens, h);
}

/* What there is goes to rank 0, and then nothing more. */
static ps_err leave(head *h)
{
    if (h->saves && h->params.note_every > 0)
        PS_TRY(ps_generate_note(h->generate, 1, note_tokens, h));
    ps_dispatch_send(h->dispatch, 0, PS_BATCH_DONE, 0, NULL);
    for (bool all = false; !all;) {
        PS_TRY(ps_dispatch_poll(h->dispatch));
        PS_TRY(ps_dispatch_has_left(h->dispatch, &all));
        PS_TRY(rest(h));
    }
    return PS_OK;
}

static ps_err run(head *h)
{
    while (!h->stopped) {
        const ps_err err = step(h);
        if (err == PS_ERR_LOST) return err;
        if (err) tell_failure(h, err);
    }
    const ps_err err = leave(h);
    set_waiting(h, false);
    return err;
}

ps_err ps_batch_head_run(const ps_batch_head_params *params)
{
    ps_job *job = params->job;
    head h = {.params = *params};
    const ps_generate_params generate = {.pipeline = job->pipeline,
                                         .spec = &job->ckpt.spec,
                                         .tokenizer = job->tokenizer,
                                         .limits = job->limits,
                                         .in_flight = job->plan.in_flight,
                                         .prefix = params->batch->prefix,
                                         .callbacks = {NULL, on_done, &h}};
    h.generate = ps_generate_new(&generate);
    h.dispatch = ps_dispatch_new(job->letters, job->n_rings, on_text, &h);
    const ps_err err = run(&h);
    ps_generate_count(h.generate, &job->counts);
    ps_generate_free(h.generate);
    ps_dispatch_free(h.dispatch);
    while (h.open) {
        json_decref(close_request(&h, h.open->number));
    }
    return err;
}
