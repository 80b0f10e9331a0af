/* Reading the large matrices of a part into memory of its own. The memory is reserved, not
 * touched: a page is taken, near it, by the thread that reads the first piece into it. Pieces go in
 * the order of the file, so that a disk sees one stream. */
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>

#include "model/weights_parts.h"

/* Two huge pages: enough for a network file system to ask for in one go, and threads still end
 * together. */
enum { PIECE_BYTES = 4 << 20 };

static bool is_copied(const ps_ckpt_tensor *t, const ps_part *part)
{
    return ps_part_owns(part, t->need.layer) && ps_weights_in_place(t);
}

size_t ps_weights_lay_out_copy(const ps_ckpt *ckpt, const ps_part *part, size_t *at)
{
    size_t bytes = 0;
    for (int i = 0; i < ckpt->n_tensors; i++) {
        const ps_ckpt_tensor *t = &ckpt->tensors[i];
        if (!is_copied(t, part)) continue;
        if (at) at[i] = bytes;
        // No overflow: each lies inside the file, and they are less than 2^20.
        bytes += ps_mem_round_up(t->bytes, PS_MEM_ALIGN);
    }
    return bytes;
}

typedef struct copying {
    const ps_weights *weights;
    const size_t *at;       // [n_tensors]
    const int *first_piece; // [n_tensors + 1]
    atomic_bool failed;
    ps_err err; // of whoever failed first, with its message
    char message[PS_ERR_MESSAGE_BYTES];
} copying;

/* The tensor that a piece belongs to. */
static int tensor_of(const copying *c, int piece)
{
    int low = 0, high = c->weights->ckpt->n_tensors - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (c->first_piece[middle] <= piece) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

static void read_piece(void *arg, int item, int thread)
{
    (void)thread;
    copying *c = arg;
    const ps_weights *w = c->weights;
    const int i = tensor_of(c, item);
    const ps_ckpt_tensor *t = &w->ckpt->tensors[i];
    const size_t skip = (size_t)(item - c->first_piece[i]) * PIECE_BYTES, left = t->bytes - skip;
    char *to = (char *)w->copy.base + c->at[i] + skip;
    if (atomic_load_explicit(&c->failed, memory_order_relaxed)) return;
    const ps_err err = ps_file_read_at(w->map.fd, w->ckpt->path, t->offset + skip, to,
                                       left < PIECE_BYTES ? left : PIECE_BYTES);
    if (!err || atomic_exchange(&c->failed, true)) return;
    c->err = err;
    snprintf(c->message, sizeof c->message, "%s", ps_err_message());
}

/* first_piece[n_tensors + 1]: tensors that are not copied have none. */
static ps_err count_pieces(const ps_weights *w, int *first_piece)
{
    size_t n = 0;
    for (int i = 0; i < w->ckpt->n_tensors; i++) {
        const ps_ckpt_tensor *t = &w->ckpt->tensors[i];
        first_piece[i] = (int)n;
        if (is_copied(t, &w->part)) n += (t->bytes + PIECE_BYTES - 1) / PIECE_BYTES;
        if (n > INT_MAX)
            return PS_FAIL(PS_ERR_LIMIT, "%s: more than %d pieces to read", w->ckpt->path, INT_MAX);
    }
    first_piece[w->ckpt->n_tensors] = (int)n;
    return PS_OK;
}

static ps_err read_all(ps_weights *w, const size_t *at, int *first_piece, const ps_engine *engine)
{
    const ps_ckpt *ckpt = w->ckpt;
    PS_TRY(count_pieces(w, first_piece));
    copying c = {.weights = w, .at = at, .first_piece = first_piece};
    atomic_init(&c.failed, false);
    // Advice alone: a longer readahead.
    (void)posix_fadvise(w->map.fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    ps_pool_run(engine->pool, first_piece[ckpt->n_tensors], read_piece, &c);
    if (atomic_load(&c.failed)) return PS_FAIL(c.err, "%s", c.message);
    for (int i = 0; i < ckpt->n_tensors; i++) {
        if (is_copied(&ckpt->tensors[i], &w->part)) {
            w->tensors[i] = (const char *)w->copy.base + at[i];
        }
    }
    return PS_OK;
}

ps_err ps_weights_copy(ps_weights *weights, const ps_engine *engine)
{
    const size_t n = (size_t)weights->ckpt->n_tensors;
    size_t *at = ps_mem_new(n, sizeof *at);
    int *first_piece = ps_mem_new(n + 1, sizeof *first_piece);
    const size_t bytes = ps_weights_lay_out_copy(weights->ckpt, &weights->part, at);
    ps_err err = ps_region_reserve(bytes, "a copy of the weights", &weights->copy);
    if (!err) err = read_all(weights, at, first_piece, engine);
    ps_mem_free(first_piece);
    ps_mem_free(at);
    return err;
}
