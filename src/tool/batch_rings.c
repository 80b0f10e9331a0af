#include "tool/batch_rings.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "serve/dispatch.h"
#include "tool/ledger_lines.h"

enum { REST_US = 100 };

/* Who has a request. */
typedef struct given {
    int ring, n_sequences; // 0: nobody
} given;

struct ps_batch_rings {
    ps_batch_rings_params params;
    ps_dispatch *dispatch;
    int *loads;         // [n_rings] sequences of requests that the ring has
    given *given;       // [n]
    size_t n_elsewhere; // requests that other rings have
    int n_done;         // heads that have ended
};

static ps_err on_text(void *arg, int from, uint32_t kind, uint64_t number, ps_text *text);

ps_batch_rings *ps_batch_rings_new(const ps_batch_rings_params *params)
{
    ps_batch_rings *r = ps_mem_new(1, sizeof *r);
    r->params = *params;
    const int n_rings = params->job->n_rings;
    r->dispatch = ps_dispatch_new(params->job->letters, n_rings, on_text, r);
    r->loads = ps_mem_new((size_t)n_rings, sizeof *r->loads);
    r->given = ps_mem_new(params->n, sizeof *r->given);
    return r;
}

void ps_batch_rings_free(ps_batch_rings *r)
{
    if (!r) return;
    ps_dispatch_free(r->dispatch);
    ps_mem_free(r->given);
    ps_mem_free(r->loads);
    ps_mem_free(r);
}

/* ---- who gets what ---- */

static int find_idlest(const ps_batch_rings *r)
{
    int idlest = 0;
    for (int i = 1; i < r->params.job->n_rings; i++) {
        if (r->loads[i] < r->loads[idlest]) idlest = i;
    }
    return idlest;
}

bool ps_batch_rings_have_room(const ps_batch_rings *r)
{
    const int n_slots = r->params.n_slots, ahead = 1 + n_slots / 4;
    return r->loads[find_idlest(r)] < n_slots + ahead;
}

int ps_batch_rings_choose(ps_batch_rings *r, size_t number, const ps_request *request)
{
    const int ring = find_idlest(r), n = ps_request_sequences(request);
    r->given[number] = (given){ring, n};
    r->loads[ring] += n;
    r->n_elsewhere += ring > 0;
    return ring;
}

void ps_batch_rings_end_request(ps_batch_rings *r, size_t number)
{
    given *g = &r->given[number];
    r->loads[g->ring] -= g->n_sequences;
    r->n_elsewhere -= g->ring > 0;
    *g = (given){0};
}

void ps_batch_rings_give(ps_batch_rings *r, int ring, size_t number, const char *line, size_t n,
                         const ps_completion *begun, int n_samples)
{
    ps_text text = {0};
    ps_text_append(&text, line, n);
    ps_text_append_char(&text, '\n');
    for (int i = 0; begun && i < n_samples; i++) {
        if (begun[i].tokens.n == 0) continue;
        ps_ledger_write_note(number, i, 0, &begun[i], &text);
        ps_text_append_char(&text, '\n');
    }
    ps_dispatch_send(r->dispatch, ring, PS_BATCH_REQUEST, number, &text);
}

bool ps_batch_rings_busy(const ps_batch_rings *r)
{
    return r->n_elsewhere > 0;
}

/* ---- what comes back ---- */

static ps_err fail_nonsense(const ps_batch_rings *r, int ring, uint32_t kind, uint64_t number)
{
    const ps_job *job = r->params.job;
    const int rank = ps_comm_whole_rank(job->heads, ring);
    return PS_FAIL(PS_ERR_LOST, "rank %d (%s): a message of kind %u, number %llu, makes no sense",
                   rank, ps_comm_host(job->comm, rank), kind, (unsigned long long)number);
}

static ps_err on_text(void *arg, int from, uint32_t kind, uint64_t number, ps_text *text)
{
    ps_batch_rings *r = arg;
    const ps_job *job = r->params.job;
    if (kind == PS_BATCH_DONE) {
        r->n_done++;
        return PS_OK;
    }
    if (kind == PS_BATCH_FAILED && number > PS_OK && number < PS_ERR_COUNT) {
        const int rank = ps_comm_whole_rank(job->heads, from);
        return PS_FAIL((ps_err)number, "rank %d (%s): %s", rank, ps_comm_host(job->comm, rank),
                       ps_text_str(text));
    }
    const bool its_own = number < r->params.n && r->given[number].n_sequences > 0 &&
                         r->given[number].ring == from && text->len > 0;
    if (!its_own) return fail_nonsense(r, from, kind, number);
    if (kind == PS_BATCH_NOTE) return ps_ledger_note_line(r->params.ledger, text);
    if (kind != PS_BATCH_RESULT) return fail_nonsense(r, from, kind, number);
    ps_batch_rings_end_request(r, (size_t)number);
    return r->params.on_result(r->params.arg, (size_t)number, text);
}

ps_err ps_batch_rings_poll(ps_batch_rings *r)
{
    return ps_dispatch_poll(r->dispatch);
}

ps_err ps_batch_rings_rest(const ps_batch_rings *r)
{
    PS_TRY(ps_pipeline_poll(r->params.job->pipeline));
    ps_clock_sleep_us(REST_US);
    return PS_OK;
}

ps_err ps_batch_rings_stop(ps_batch_rings *r, bool save)
{
    const int n_others = r->params.job->n_rings - 1;
    for (int ring = 1; ring <= n_others; ring++) {
        ps_dispatch_send(r->dispatch, ring, PS_BATCH_STOP, save, NULL);
    }
    ps_err first = PS_OK;
    char message[PS_ERR_MESSAGE_BYTES] = "";
    bool sent = false;
    while (r->n_done < n_others || !sent) {
        const ps_err err = ps_dispatch_poll(r->dispatch);
        if (err == PS_ERR_LOST) return err;
        if (err && !first) {
            first = err;
            snprintf(message, sizeof message, "%s", ps_err_message());
        }
        PS_TRY(ps_dispatch_has_left(r->dispatch, &sent));
        PS_TRY(ps_batch_rings_rest(r));
    }
    return first ? PS_FAIL(first, "%s", message) : PS_OK;
}

/* ---- all heads ---- */

ps_err ps_batch_rings_share(ps_job *job, ps_tokens *prefix, int *note_every)
{
    ps_text text = {0};
    ps_text_append(&text, note_every, sizeof *note_every);
    ps_text_append(&text, prefix->ids, prefix->n * sizeof *prefix->ids);
    ps_err err = ps_comm_broadcast(job->heads, &job->ckpt.tokenizer);
    if (!err) err = ps_comm_broadcast(job->heads, &job->ckpt.source);
    if (!err) err = ps_comm_broadcast(job->heads, &text);
    if (!err && job->rank != 0) {
        const size_t n = (text.len - sizeof *note_every) / sizeof *prefix->ids;
        memcpy(note_every, text.data, sizeof *note_every);
        for (size_t i = 0; i < n; i++) {
            int32_t id;
            memcpy(&id, text.data + sizeof *note_every + i * sizeof id, sizeof id);
            ps_tokens_append(prefix, id);
        }
        err = ps_job_open_tokenizer(job);
    }
    ps_text_release(&text);
    return err;
}
