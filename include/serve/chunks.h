/* How many rows of a prompt go into a parcel.
 *
 * A row at position p costs 1 + growth p: the weights, and the keys that it sees in layers without a
 * bound. A prompt of cost C in m chunks of equal cost takes C/m (m + S - 1) on S stages, so they are
 * busy m / (m + S - 1) of that time: the more chunks, the fuller. But each chunk reads the weights
 * anew, and below `least` rows that costs more than it brings. So
 *
 *   m = 16 (S - 1)                    16/17 of the time busy
 *   chunk at p: c rows with  c + growth (p c + c^2 / 2) = C / m,  least <= c <= most
 *
 * With windows in all layers growth is 0, and so the chunks are equal.
 *
 * Errors: none.   MPI: local.
 */
#ifndef PS_SERVE_CHUNKS_H
#define PS_SERVE_CHUNKS_H

#include "model/spec.h"

/* Fewest rows of a chunk: products of so many run at the rate of many (1.1 B parameters, f16, two
 * ranks of a thread each: a prompt of 512 at 75 tokens/s in chunks of 128, 83 of 64, 84 of 32, 83 of
 * 24, 81 of 16). */
enum { PS_CHUNKS_LEAST = 32, PS_CHUNKS_MOST = 128 };

/* What a key that is seen costs in layers without a bound, in rows at position 0. */
double ps_chunks_growth(const ps_spec *spec);

/* Cost of rows [position, position + n). */
double ps_chunks_cost(double growth, int64_t position, int64_t n);

/* Rows of the chunk at `position` of prompts that cost `cost` in all, over n_stages > 1. */
int ps_chunks_rows(double growth, double cost, int n_stages, int64_t position, int least, int most);

#endif
