/* Milestones of a long stream: every N tokens one line says how far it is, a hash over all token ids
 * so far, how long the last N took, and what memory rank 0 holds. Two runs that draw the same tokens
 * print the same hashes, on any number of ranks.
 *
 *   10000 tokens, hash 8f2d6b1e0c55a917, 2.513 s, resident 52.1 MiB
 *
 * The hash begins with 0; a token makes it XXH3-64 of its id, as a 32-bit little-endian integer,
 * with the hash before as seed.   MPI: rank 0.
 */
#ifndef PS_TOOL_MILESTONES_H
#define PS_TOOL_MILESTONES_H

#include <stdint.h>

typedef struct ps_milestones ps_milestones;

/* NULL when `every` is 0: then nothing is printed. */
ps_milestones *ps_milestones_open(int64_t every);
void ps_milestones_add(ps_milestones *milestones, int32_t token);
void ps_milestones_close(ps_milestones *milestones);

#endif
