#include "tool/import/source.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"

void ps_source_take(ps_source *source, int n)
{
    *source = (ps_source){.n = n};
    source->tensors = ps_mem_new((size_t)n, sizeof *source->tensors);
    source->by_name = ps_mem_new((size_t)n, sizeof *source->by_name);
}

static int compare(const void *a, const void *b, void *arg)
{
    const ps_source_tensor *tensors = arg;
    return strcmp(tensors[*(const int *)a].name, tensors[*(const int *)b].name);
}

void ps_source_sort(ps_source *source)
{
    for (int i = 0; i < source->n; i++) {
        source->by_name[i] = i;
    }
    qsort_r(source->by_name, (size_t)source->n, sizeof *source->by_name, compare, source->tensors);
}

void ps_source_release(ps_source *source)
{
    for (size_t i = 0; i < source->n_joined; i++) {
        ps_mem_free(source->joined[i]);
    }
    ps_mem_free(source->joined);
    ps_mem_free(source->by_name);
    ps_mem_free(source->tensors);
    *source = (ps_source){0};
}

ps_source_tensor *ps_source_find(const ps_source *source, const char *name)
{
    int low = 0, high = source->n;
    while (low < high) {
        const int middle = low + (high - low) / 2;
        ps_source_tensor *t = &source->tensors[source->by_name[middle]];
        const int order = strcmp(name, t->name);
        if (order == 0) return t;
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

static const char blocks_suffix[] = "_blocks", scales_suffix[] = "_scales";

/* The tensor of exponents that belongs to blocks, or NULL. */
static ps_source_tensor *find_scales(const ps_source *source, const ps_source_tensor *blocks)
{
    const size_t stem = strlen(blocks->name) - (sizeof blocks_suffix - 1);
    for (int i = 0; i < source->n; i++) {
        ps_source_tensor *t = &source->tensors[i];
        if (strlen(t->name) == stem + sizeof scales_suffix - 1 &&
            strncmp(t->name, blocks->name, stem) == 0 && strcmp(t->name + stem, scales_suffix) == 0)
            return t;
    }
    return NULL;
}

static bool is_bytes(const ps_source_tensor *t)
{
    return strcmp(t->type_name, "U8") == 0;
}

static bool are_blocks(const ps_source_tensor *t)
{
    const size_t n = strlen(t->name), suffix = sizeof blocks_suffix - 1;
    return n > suffix && strcmp(t->name + n - suffix, blocks_suffix) == 0 && is_bytes(t) &&
           t->n_dims >= 3 && t->shape[t->n_dims - 1] == 16;
}

static bool belong_together(const ps_source_tensor *blocks, const ps_source_tensor *scales)
{
    if (!scales || !is_bytes(scales) || scales->n_dims != blocks->n_dims - 1) return false;
    return memcmp(scales->shape, blocks->shape, (size_t)scales->n_dims * sizeof *scales->shape) ==
           0;
}

void ps_source_join_mxfp4(ps_source *source)
{
    size_t capacity = 0;
    for (int i = 0; i < source->n; i++) {
        ps_source_tensor *t = &source->tensors[i];
        ps_source_tensor *scales = are_blocks(t) ? find_scales(source, t) : NULL;
        if (!belong_together(t, scales)) continue;
        char *name = ps_mem_copy_bytes(t->name, strlen(t->name) - (sizeof blocks_suffix - 1));
        source->joined =
            ps_mem_grow(source->joined, &capacity, source->n_joined + 1, sizeof *source->joined);
        source->joined[source->n_joined++] = name;
        t->name = name;
        t->type_name = "MXFP4";
        t->dtype = PS_MXFP4;
        t->supported = true;
        t->exponents = scales->data;
        t->n_dims--;
        t->shape[t->n_dims - 1] *= 32;
        scales->used = true;
    }
}

size_t ps_source_values(const ps_source_tensor *tensor)
{
    size_t values = 1;
    for (int d = 0; d < tensor->n_dims; d++) {
        values *= tensor->shape[d];
    }
    return values;
}

void ps_source_advise(const ps_source_tensor *tensor, ps_source_hint hint)
{
    if (tensor->bytes == 0) return;
    // Rounded outwards: a page shared with a neighbour is only faulted in again.
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t at = (uintptr_t)tensor->data, begin = at - at % page;
    // A hint that the kernel does not take changes no result, so its answer is not looked at.
    (void)madvise((void *)begin, tensor->bytes + (at - begin),
                  hint == PS_SOURCE_NEED ? MADV_WILLNEED : MADV_DONTNEED);
}
