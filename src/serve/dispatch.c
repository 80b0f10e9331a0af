/* A text goes as one letter or several: each has a head and as many bytes as there is room for, the
 * last of a text says so. On a rank the next letter follows when the one before has left. */
#include "serve/dispatch.h"

#include <string.h>

#include "base/mem.h"

/* Travels as it lies in memory, as parcels do. */
typedef struct letter_head {
    uint64_t number;
    uint32_t kind, last;
} letter_head;

enum { PIECE_BYTES = PS_LETTER_BYTES - sizeof(letter_head) };

typedef struct letter {
    letter_head head;
    char bytes[PIECE_BYTES];
} letter;

_Static_assert(sizeof(letter) == PS_LETTER_BYTES, "a letter is full");

typedef struct queued {
    struct queued *next;
    ps_text text;
    uint32_t kind;
    uint64_t number;
    size_t sent; // bytes
} queued;

/* What goes to a rank, and what came of a text of it. */
typedef struct correspondent {
    queued *first, *last;
    ps_text text;
} correspondent;

struct ps_dispatch {
    ps_letters *letters;
    int n_ranks;
    ps_dispatch_on_text *on_text;
    void *arg;
    correspondent *others; // [n_ranks]
    letter letter;         // scratch
};

ps_dispatch *ps_dispatch_new(ps_letters *letters, int n_ranks, ps_dispatch_on_text *on_text,
                             void *arg)
{
    ps_dispatch *d = ps_mem_new(1, sizeof *d);
    d->letters = letters;
    d->n_ranks = n_ranks;
    d->on_text = on_text;
    d->arg = arg;
    d->others = ps_mem_new((size_t)n_ranks, sizeof *d->others);
    return d;
}

static void drop_first(correspondent *c)
{
    queued *q = c->first;
    c->first = q->next;
    if (!c->first) c->last = NULL;
    ps_text_release(&q->text);
    ps_mem_free(q);
}

void ps_dispatch_free(ps_dispatch *d)
{
    if (!d) return;
    for (int r = 0; r < d->n_ranks; r++) {
        while (d->others[r].first) {
            drop_first(&d->others[r]);
        }
        ps_text_release(&d->others[r].text);
    }
    ps_mem_free(d->others);
    ps_mem_free(d);
}

void ps_dispatch_send(ps_dispatch *d, int to, uint32_t kind, uint64_t number, ps_text *text)
{
    correspondent *c = &d->others[to];
    queued *q = ps_mem_new(1, sizeof *q);
    *q = (queued){.kind = kind, .number = number};
    if (text) {
        q->text = *text;
        *text = (ps_text){0};
    }
    if (c->last) {
        c->last->next = q;
    } else {
        c->first = q;
    }
    c->last = q;
}

/* As much of what waits for that rank as goes now. */
static ps_err send_waiting(ps_dispatch *d, int to)
{
    correspondent *c = &d->others[to];
    while (c->first) {
        queued *q = c->first;
        const size_t left = q->text.len - q->sent;
        const size_t n = left < PIECE_BYTES ? left : PIECE_BYTES;
        bool sent;
        d->letter.head = (letter_head){q->number, q->kind, n == left};
        if (n > 0) memcpy(d->letter.bytes, q->text.data + q->sent, n);
        PS_TRY(ps_letters_send(d->letters, to, &d->letter, sizeof d->letter.head + n, &sent));
        if (!sent) return PS_OK;
        q->sent += n;
        if (d->letter.head.last) drop_first(c);
    }
    return PS_OK;
}

static ps_err take(ps_dispatch *d, int from, size_t n)
{
    correspondent *c = &d->others[from];
    const letter_head head = d->letter.head;
    if (n < sizeof head)
        return PS_FAIL(PS_ERR_LOST, "a letter of %zu bytes, wanted %zu or more", n, sizeof head);
    ps_text_append(&c->text, d->letter.bytes, n - sizeof head);
    if (!head.last) return PS_OK;
    const ps_err err = d->on_text(d->arg, from, head.kind, head.number, &c->text);
    ps_text_clear(&c->text);
    return err;
}

ps_err ps_dispatch_poll(ps_dispatch *d)
{
    for (int r = 0; r < d->n_ranks; r++) {
        PS_TRY(send_waiting(d, r));
    }
    for (;;) {
        size_t n;
        int from;
        bool got;
        PS_TRY(ps_letters_receive(d->letters, &d->letter, &n, &from, &got));
        if (!got) return PS_OK;
        PS_TRY(take(d, from, n));
    }
}

ps_err ps_dispatch_has_left(ps_dispatch *d, bool *all)
{
    PS_TRY(ps_letters_have_left(d->letters, all));
    for (int r = 0; r < d->n_ranks; r++) {
        *all = *all && !d->others[r].first;
    }
    return PS_OK;
}
