/* The dispatch: numbered texts of any length between rank 0 and the heads of the other rings,
 * cut into letters (pipe/letters.h). Texts from one to another arrive whole and in their order; what
 * they say is up to who sends them.
 *
 *   ps_dispatch_send   queues a text
 *   ps_dispatch_poll   moves letters on, and hands out the texts that are complete
 *
 * Memory: the texts that wait. Errors: PS_ERR_LOST; those of on_text.   MPI: local; for the ranks of
 * the comm that the letters have.
 */
#ifndef PS_SERVE_DISPATCH_H
#define PS_SERVE_DISPATCH_H

#include "base/text.h"
#include "pipe/letters.h"

typedef struct ps_dispatch ps_dispatch;

/* A text of rank `from` of the letters' comm is here, its contents to be moved or left. */
typedef ps_err ps_dispatch_on_text(void *arg, int from, uint32_t kind, uint64_t number,
                                   ps_text *text);

/* `letters` is borrowed; n_ranks is the size of its comm. */
ps_dispatch *ps_dispatch_new(ps_letters *letters, int n_ranks, ps_dispatch_on_text *on_text,
                             void *arg);
void ps_dispatch_free(ps_dispatch *d);

/* From or to rank 0. The text's contents are moved; NULL: none. */
void ps_dispatch_send(ps_dispatch *d, int to, uint32_t kind, uint64_t number, ps_text *text);

/* As many letters as go at once, both ways. After an error of on_text the next call goes on behind
 * that text. */
ps_err ps_dispatch_poll(ps_dispatch *d) PS_MUST_CHECK;

/* Whether everything that was queued has left; *all. */
ps_err ps_dispatch_has_left(ps_dispatch *d, bool *all) PS_MUST_CHECK;

#endif
