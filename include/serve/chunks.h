/* How many rows of a prompt go into a parcel.
 *
 * A row at position p costs 1 + growth p: the weights, and the keys that it sees in layers without a
 * bound. A prompt of cost C in m chunks of equal cost takes C/m (m + S - 1) on S stages, so they are
 * busy m / (m + S - 1) of that time: the more chunks, the fuller. But each chunk reads the weights
 * anew, which costs the slowest stage as much as `overhead` rows do beside the chunk's own. The time
 *
 *   (C/m + overhead) (m + S - 1)      is least for   m = sqrt(C (S - 1) / overhead)
 *
 * And
 *
 *   chunk at p: c rows with  c + growth (p c + c^2 / 2) = C / m,  least <= c <= most
 *
 * rounded to whole tiles of the kernels, which are of 4 or 6 rows (1.1 B parameters, f16, two ranks
 * of a thread: a prompt of 512 tokens at 96 tokens/s in chunks of 24, 91 of 28, 95 of 30, 90 of 32).
 *
 * With windows in all layers growth is 0, and so the chunks are equal.
 *
 * The overhead comes of the times that parcels took on their slowest stage: means over the last ones
 * of few rows (decoding) and of many (prompts) are two points of the line  ns = (overhead + cost) b.
 *
 * Errors: none.   MPI: local.
 */
#ifndef PS_SERVE_CHUNKS_H
#define PS_SERVE_CHUNKS_H

#include "model/spec.h"
#include "pipe/plan.h"

/* Fewest and most rows of a chunk; what they are a multiple of; the overhead that is taken as long as
 * none has been measured. */
enum { PS_CHUNKS_LEAST = 12, PS_CHUNKS_MOST = 128, PS_CHUNKS_TILE = 12, PS_CHUNKS_OVERHEAD = 2 };

/* What a key that is seen costs in layers without a bound, in rows at position 0. */
double ps_chunks_growth(const ps_spec *spec);

/* Running means over parcels that have something in common. */
typedef struct ps_chunks_mean {
    double cost, ns;
    int n; // parcels seen
} ps_chunks_mean;

typedef struct ps_chunks_times {
    ps_chunks_mean few, many; // rows
} ps_chunks_times;

/* A parcel whose rows cost `cost` took the slowest stage `ns`. */
void ps_chunks_saw(ps_chunks_times *times, double cost, double ns);

/* What a parcel costs beside its rows, in rows at position 0; 0: not known. */
double ps_chunks_overhead(const ps_chunks_times *times);
double ps_chunks_overhead_of(const ps_plan_times *times); // the same, of a trial

/* Cost of rows [position, position + n). */
double ps_chunks_cost(double growth, int64_t position, int64_t n);

/* Rows of the chunk at `position` of prompts that cost `cost` in all, over n_stages > 1; `overhead`
 * 0: not known. */
int ps_chunks_rows(double growth, double overhead, double cost, int n_stages, int64_t position,
                   int least, int most);

#endif
