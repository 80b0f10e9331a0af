#include "pipe/letters.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "pipe/comm_mpi.h"

typedef struct letter {
    MPI_Request request;
    char bytes[PS_LETTER_BYTES];
} letter;

struct ps_letters {
    ps_comm *comm;
    MPI_Comm world;
    int n_others; // whom this rank writes to
    letter *out;  // [n_others] owned
    letter in;
};

static ps_err post_receive(ps_letters *l)
{
    return ps_comm_check(l->comm,
                         MPI_Irecv(l->in.bytes, PS_LETTER_BYTES, MPI_BYTE, MPI_ANY_SOURCE,
                                   PS_TAG_LETTER, l->world, &l->in.request),
                         "receiving a letter");
}

ps_err ps_letters_open(ps_comm *comm, ps_letters **out)
{
    ps_letters *l = ps_mem_new(1, sizeof *l);
    const int size = ps_comm_size(comm);
    l->comm = comm;
    l->world = ps_comm_world(comm);
    l->n_others = ps_comm_rank(comm) == 0 ? size - 1 : 1;
    l->out = ps_mem_new((size_t)l->n_others, sizeof *l->out);
    for (int i = 0; i < l->n_others; i++) {
        l->out[i].request = MPI_REQUEST_NULL;
    }
    l->in.request = MPI_REQUEST_NULL;
    // By default MPI itself ends the process, with its own words only.
    MPI_Comm_set_errhandler(l->world, MPI_ERRORS_RETURN);
    *out = l;
    return post_receive(l);
}

void ps_letters_close(ps_letters *l)
{
    if (!l) return;
    if (l->in.request != MPI_REQUEST_NULL) {
        MPI_Cancel(&l->in.request);
        MPI_Wait(&l->in.request, MPI_STATUS_IGNORE);
    }
    MPI_Comm_set_errhandler(l->world, MPI_ERRORS_ARE_FATAL);
    ps_mem_free(l->out);
    ps_mem_free(l);
}

/* Whether the last letter to them has left. */
static ps_err test_sent(ps_letters *l, letter *out, bool *left)
{
    int done = 1;
    if (out->request != MPI_REQUEST_NULL)
        PS_TRY(ps_comm_check(l->comm, MPI_Test(&out->request, &done, MPI_STATUS_IGNORE),
                             "sending a letter"));
    *left = done != 0;
    return PS_OK;
}

ps_err ps_letters_send(ps_letters *l, int to, const void *bytes, size_t n, bool *sent)
{
    const bool first = ps_comm_rank(l->comm) == 0;
    assert(first == (to > 0) && to < ps_comm_size(l->comm) && n <= PS_LETTER_BYTES);
    letter *out = &l->out[first ? to - 1 : 0];
    PS_TRY(test_sent(l, out, sent));
    if (!*sent) return PS_OK;
    memcpy(out->bytes, bytes, n);
    return ps_comm_check(
        l->comm,
        MPI_Isend(out->bytes, (int)n, MPI_BYTE, to, PS_TAG_LETTER, l->world, &out->request),
        "sending a letter");
}

ps_err ps_letters_receive(ps_letters *l, void *bytes, size_t *n, int *from, bool *got)
{
    int done = 0, count = 0;
    MPI_Status status;
    PS_TRY(ps_comm_check(l->comm, MPI_Test(&l->in.request, &done, &status), "receiving a letter"));
    *got = done != 0;
    if (!done) return PS_OK;
    MPI_Get_count(&status, MPI_BYTE, &count);
    *n = (size_t)count;
    *from = status.MPI_SOURCE;
    memcpy(bytes, l->in.bytes, *n);
    return post_receive(l);
}

ps_err ps_letters_have_left(ps_letters *l, bool *all)
{
    *all = true;
    for (int i = 0; i < l->n_others; i++) {
        bool left;
        PS_TRY(test_sent(l, &l->out[i], &left));
        *all = *all && left;
    }
    return PS_OK;
}
