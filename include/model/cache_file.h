/* A slot's caches in an HDF5 file, by position: exactly the bytes that are stored, and no more of
 * them than the next position can see.
 *
 *   /layers/NNN/cache   u8 [n, bytes of a position], math/kv.h's ps_kv_read_position: first the
 *                       kept positions 0 .. kept-1, then those from `first` to the newest
 *     attributes        first, kept (integers); policy (text: what is visible, types of keys and
 *                       values, count of numbers); xxh3 (16 hexadecimal digits, of all bytes)
 *
 * The newest position is there even where no later one sees it.
 *
 * Cost: one pass over what is seen; a buffer of 64 positions is allocated, and so does HDF5.
 * Errors: PS_ERR_IO; PS_ERR_FORMAT, PS_ERR_SHAPE naming file and layer.   MPI: local.
 */
#ifndef PS_MODEL_CACHE_FILE_H
#define PS_MODEL_CACHE_FILE_H

#include "model/cache.h"

typedef struct ps_cache_part {
    ps_cache *cache;
    const ps_spec *spec;
    int first_layer; // of the model, which is the cache's layer 0
} ps_cache_part;     // all borrowed

/* Adds the layers of `slot`, which holds positions 0 .. position-1, to a file that another writer
 * handed over (model/h5.h). */
ps_err ps_cache_save(const ps_cache_part *part, int slot, int64_t position,
                     const char *path) PS_MUST_CHECK;

/* Fills an empty slot. After an error it holds some of it. */
ps_err ps_cache_load(const ps_cache_part *part, int slot, int64_t position,
                     const char *path) PS_MUST_CHECK;

#endif
