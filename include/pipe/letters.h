/* Letters: messages of up to so many bytes between rank 0 and the other ranks of a comm, beside the
 * parcels of rings. None is lost or overtaken; what they mean is serve/dispatch's matter.
 *
 * To each rank one letter is under way at a time, and one receive is posted: in front of rank 0 no
 * more than one of each other rank waits inside MPI. Nothing waits here: whoever calls tries again.
 *
 * Memory: on rank 0 a letter for each rank, else two.
 * Errors: PS_ERR_LOST with MPI's words.   MPI: local, but for open and close, which belong to all
 * ranks of the comm; at close nothing is under way.
 */
#ifndef PS_PIPE_LETTERS_H
#define PS_PIPE_LETTERS_H

#include "pipe/comm.h"

enum { PS_LETTER_BYTES = 16384 };

typedef struct ps_letters ps_letters;

/* The comm is borrowed, and has no other letters. */
ps_err ps_letters_open(ps_comm *comm, ps_letters **out) PS_MUST_CHECK;
void ps_letters_close(ps_letters *letters);

/* bytes[n] to rank `to`, from or to rank 0; *sent is false while the last one has not left. */
ps_err ps_letters_send(ps_letters *letters, int to, const void *bytes, size_t n,
                       bool *sent) PS_MUST_CHECK;

/* The next letter that is here: bytes[PS_LETTER_BYTES], *n of them; *got is false when there is
 * none. */
ps_err ps_letters_receive(ps_letters *letters, void *bytes, size_t *n, int *from,
                          bool *got) PS_MUST_CHECK;

/* Whether all that were sent have left. */
ps_err ps_letters_have_left(ps_letters *letters, bool *all) PS_MUST_CHECK;

#endif
