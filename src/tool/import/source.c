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
