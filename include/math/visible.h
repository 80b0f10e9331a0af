/* Which keys a query sees.
 *
 *   the query's part   first(i) <= j < end(i)   from the window and the chunks
 *   the kept part      j < min(n_kept, first(i))   the first tokens of the sequence
 *
 *   window W           i - j < W: W keys with the query's own; 0: no bound
 *   chunk C, left L    j >= (i/C - L) C: the query's own chunk of C positions and L whole ones
 *                      before it (Conformer, Llama 4: L = 0); L = -1: all before it
 *   look_ahead         end(i) is the end of the query's chunk, or without chunks of the sequence;
 *                      else i + 1
 *
 * Kept tokens (attention sinks, arXiv 2309.17453) stay at their true positions, or with
 * kept_at_cache stand as if nothing lay between them and the window: a query at i then sees them
 * from position min(i, n_kept + W - 1), its place in a cache of n_kept + W entries.
 *
 * MPI: local.
 */
#ifndef PS_MATH_VISIBLE_H
#define PS_MATH_VISIBLE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct ps_visible {
    int64_t window;      // 0: no bound
    int64_t chunk;       // 0: no chunks
    int64_t left_chunks; // -1: all
    bool look_ahead;
    int64_t n_kept;
    bool kept_at_cache; // only with a window and without chunks
} ps_visible;

/* Oldest position of the query's part. */
static inline int64_t ps_visible_first(const ps_visible *v, int64_t query)
{
    int64_t first = v->window > 0 ? query - v->window + 1 : 0;
    if (v->chunk > 0 && v->left_chunks >= 0) {
        const int64_t oldest = (query / v->chunk - v->left_chunks) * v->chunk;
        if (oldest > first) first = oldest;
    }
    return first > 0 ? first : 0;
}

/* Position behind the last that the query sees, in a sequence of `length` positions so far. */
static inline int64_t ps_visible_end(const ps_visible *v, int64_t query, int64_t length)
{
    if (!v->look_ahead) return query + 1;
    const int64_t end = v->chunk > 0 ? (query / v->chunk + 1) * v->chunk : length;
    return end < length ? end : length;
}

/* Kept positions that are not in the query's part: [0, this). */
static inline int64_t ps_visible_kept(const ps_visible *v, int64_t query)
{
    if (v->n_kept == 0) return 0;
    const int64_t first = ps_visible_first(v, query);
    return v->n_kept < first ? v->n_kept : first;
}

/* Where the query stands as seen from the kept tokens. */
static inline int64_t ps_visible_kept_query(const ps_visible *v, int64_t query)
{
    const int64_t last = v->n_kept + v->window - 1;
    return v->kept_at_cache && query > last ? last : query;
}

/* Most positions from the oldest of a query's part to the query itself; 0: no bound. A cache of
 * the last reach + rows - 1 positions, and the kept ones, holds all that `rows` new rows see. */
static inline int64_t ps_visible_reach(const ps_visible *v)
{
    int64_t reach = v->window;
    if (v->chunk > 0 && v->left_chunks >= 0) {
        const int64_t chunks = (v->left_chunks + 1) * v->chunk;
        if (reach == 0 || chunks < reach) reach = chunks;
    }
    return reach;
}

#endif
