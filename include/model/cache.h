/* The caches of a stage's layers: pages of keys and values (math/kv.h), for a fixed number of
 * slots.
 *
 * A slot is one sequence. In a layer without a window its page table covers the context; in a layer
 * with one it is a ring: the table is cyclic and holds the window, one chunk of new rows, and a
 * page more, so that a page that is written again never holds a key somebody still sees. Tokens
 * that are kept for ever have pages of their own before the ring. Forked
 * slots share pages by reference count; a shared page is copied when one of its owners writes into
 * it.
 *
 * All memory is taken at the start: slots x pages of every layer. No slot's table refers to more
 * pages than its share, so there is always a free page when one is needed.
 *
 * Errors: PS_ERR_NOMEM from open; the rest cannot fail (positions are checked by the caller).
 * MPI: local.
 */
#ifndef PS_MODEL_CACHE_H
#define PS_MODEL_CACHE_H

#include "base/mem.h"
#include "math/kv.h"
#include "model/spec.h"

typedef struct ps_cache_params {
    const ps_spec *spec; // borrowed for the call
    ps_own_biases own;   // whose numbers the caches keep too
    int first_layer, end_layer;
    int n_slots;
    int64_t context; // positions of a slot in layers without a window
    int chunk_rows;  // most new rows of one slot in one parcel
    ps_kv_types types;
} ps_cache_params;

typedef struct ps_cache_layer {
    ps_kv_layout layout;
    int n_pages, n_fixed; // of a slot's table; the first n_fixed hold kept tokens (math/kv.h)
    char **table;         // [n_slots][n_pages], NULL: no page yet
    char *base;           // the layer's pages, n_slots * n_pages of them
    int *n_owners;        // [n_slots * n_pages] slots that refer to a page
    char **free_pages;    // stack of n_free
    int n_free;
} ps_cache_layer;

typedef struct ps_cache {
    int n_layers, n_slots;
    ps_cache_layer *layers; // [n_layers]
    ps_region region;
} ps_cache;

ps_err ps_cache_open(const ps_cache_params *params, ps_cache *out) PS_MUST_CHECK;
void ps_cache_close(ps_cache *cache);

/* Bytes that ps_cache_open would take; false on overflow. */
bool ps_cache_measure(const ps_cache_params *params, size_t *out);

/* Makes room for n new positions of a slot from `first` on, in all layers: positions follow each
 * other, n <= chunk_rows. */
void ps_cache_reserve(ps_cache *cache, int slot, int64_t first, int n);

/* The same in one layer, for positions that are given and not computed: any number of them that the
 * next row sees. */
void ps_cache_reserve_in_layer(ps_cache *cache, int layer, int slot, int64_t first, int64_t n);

/* `to` (empty) becomes a copy of `from`, sharing its pages. */
void ps_cache_fork(ps_cache *cache, int from, int to);

/* Gives the slot's pages back. Ending an empty slot does nothing. */
void ps_cache_end(ps_cache *cache, int slot);

/* Valid until the slot's next reserve, fork or end. */
ps_kv_view ps_cache_view(const ps_cache *cache, int layer, int slot);

#endif
