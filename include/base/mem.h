/* Memory: checked sizes, small allocations that cannot fail quietly, and big regions.
 *
 * Three kinds, told apart by who can live without the memory:
 *   ps_mem_new/grow    small things of the serve and tool floors. When the system has no memory
 *                      left for them there is nothing sensible to continue with: one line, exit
 *                      status 1. The launcher ends the other ranks when one leaves; where it lets
 *                      them live, they miss its signs of life. Journals are valid at any instant.
 *   ps_region          the big blocks (caches, buffers, weights): failing is an error with a
 *                      message
 *   ps_arena           sub-allocation from a region, 64-byte aligned, no free: a stage takes all it
 *                      needs at the start and never allocates again
 *
 * Sizes that come from files or options are multiplied with ps_mem_mul and added with ps_mem_add.
 *
 * MPI: local.
 */
#ifndef PS_BASE_MEM_H
#define PS_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define PS_MEM_ALIGN 64

/* a*b and a+b into *out; false (and *out unchanged) on overflow. */
bool ps_mem_mul(size_t a, size_t b, size_t *out) PS_MUST_CHECK;
bool ps_mem_add(size_t a, size_t b, size_t *out) PS_MUST_CHECK;

static inline size_t ps_mem_round_up(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

/* Zeroed array of `count` things of `size` bytes, owned by the caller, freed with ps_mem_free.
 * Never NULL: exhaustion ends the process with one line and status 1. count*size may be 0. */
void *ps_mem_new(size_t count, size_t size);

/* Grows an array obtained from ps_mem_new (or NULL) to hold at least `need` things, doubling;
 * *capacity is updated. New bytes are not zeroed. */
void *ps_mem_grow(void *array, size_t *capacity, size_t need, size_t size);

/* Copy of a string / of n bytes plus a terminating NUL, owned by the caller. */
char *ps_mem_copy_text(const char *text);
char *ps_mem_copy_bytes(const void *bytes, size_t n);

void ps_mem_free(void *p);

/* A big zeroed block of whole pages, in huge pages where the kernel offers them on advice. All
 * pages are taken at once: the resident memory of a process is what it asked for, from the start.
 */
typedef struct ps_region {
    void *base;    // 4096-aligned; NULL when bytes is 0
    size_t bytes;  // as asked for
    size_t mapped; // whole pages really mapped
} ps_region;

/* `what` names the block in the error message. Errors: PS_ERR_NOMEM. */
ps_err ps_region_take(size_t bytes, const char *what, ps_region *out) PS_MUST_CHECK;
void ps_region_release(ps_region *region);

/* The same with no page taken yet: each lies near the thread that touches it first. */
ps_err ps_region_reserve(size_t bytes, const char *what, ps_region *out) PS_MUST_CHECK;

/* Bump allocation. With base NULL an arena only counts: the same code that lays a structure out in
 * a real arena tells its size to the plan beforehand. */
typedef struct ps_arena {
    char *base;
    size_t bytes; // capacity; SIZE_MAX when counting
    size_t used;
} ps_arena;

/* An arena that counts, and one over a region. */
ps_arena ps_arena_counting(void);
ps_arena ps_arena_over(const ps_region *region);

/* `count*size` bytes, 64-byte aligned. NULL while counting. Programmer error (assert) when the
 * arena is too small, since it was sized by a counting pass. */
void *ps_arena_take(ps_arena *arena, size_t count, size_t size);

/* Memory that this process may use: the least of the cgroup limits (v1 and v2), RLIMIT_AS,
 * RLIMIT_DATA and the machine's total. `source` (may be NULL) gets a static name of the winner. */
size_t ps_mem_limit(const char **source);

/* Largest and present resident set of this process, in bytes, from the kernel. */
size_t ps_mem_peak_resident(void);
size_t ps_mem_resident(void);
size_t ps_mem_mapped(void); // address space, which RLIMIT_AS bounds
size_t ps_mem_data(void);   // of it what is its own to write, which RLIMIT_DATA bounds

/* Memory of the machine that programs can take now without swapping, files in memory that can be
 * read again among it; SIZE_MAX when the kernel does not say. */
size_t ps_mem_available(void);

#endif
