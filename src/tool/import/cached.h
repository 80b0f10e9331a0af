/* Foreign models that run without being converted by hand: converted once, kept in a cache.
 *
 *   name   NAME-<hash>.h5, the hash being XXH3 of the canonical path and of size, inode and time of
 *          modification of every file that the model consists of, and of the versions of the format
 *          and of its layouts
 *
 * A source that changed has another name, so nothing is ever stale. Who converts holds a lock;
 * others that want the same model wait for it and then find it. The model file appears when it is
 * complete.
 *
 * Errors: those of the conversion; PS_ERR_IO for the directory.   MPI: rank 0 only.
 */
#ifndef PS_TOOL_IMPORT_CACHED_H
#define PS_TOOL_IMPORT_CACHED_H

#include <stdbool.h>

#include "base/err.h"

/* Whether `path` is a model of another format: a directory, or a GGUF file. */
bool ps_cached_is_foreign(const char *path);

/* *out: the model file of a foreign model, made now if need be; owned by the caller. `directory`
 * NULL: pipestep/models in the user's cache directory. `progress`: a bar while converting. */
ps_err ps_cached_find(const char *path, const char *directory, bool progress,
                      char **out) PS_MUST_CHECK;

#endif
