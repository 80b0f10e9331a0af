/* A GGUF model as a whole: the parts of a split one, and all tensors by name.
 *
 * The parts of a split model are found by the name of the first and must then say themselves that
 * they are what the name promises: their number, the number of parts, the number of all tensors. */
#include "tool/import/gguf.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "tool/import/gguf_parts.h"

#define SPLIT_NO_KEY      "split.no"
#define SPLIT_COUNT_KEY   "split.count"
#define SPLIT_TENSORS_KEY "split.tensors.count"

enum { SUFFIX_BYTES = sizeof "-00001-of-00001.gguf" - 1 };

/* ---- names ---- */

static int compare_names(const void *a, const void *b, void *tensors)
{
    const ps_gguf_tensor *t = tensors;
    return strcmp(t[*(const int *)a].name, t[*(const int *)b].name);
}

static ps_err sort_names(ps_gguf *self)
{
    const size_t n = (size_t)self->n_tensors;
    self->by_name = ps_mem_new(n, sizeof *self->by_name);
    for (size_t i = 0; i < n; i++) {
        self->by_name[i] = (int)i;
    }
    if (n > 0) qsort_r(self->by_name, n, sizeof *self->by_name, compare_names, self->tensors);
    for (size_t i = 1; i < n; i++) {
        const ps_gguf_tensor *a = &self->tensors[self->by_name[i - 1]];
        const ps_gguf_tensor *b = &self->tensors[self->by_name[i]];
        if (strcmp(a->name, b->name) != 0) continue;
        if (a->file == b->file)
            return PS_FAIL(PS_ERR_FORMAT, "%s: tensor %s is there twice", ps_gguf_file(self, a),
                           a->name);
        return PS_FAIL(PS_ERR_FORMAT, "%s: tensor %s is also in %s",
                       self->parts[a->file > b->file ? a->file : b->file].path, a->name,
                       self->parts[a->file > b->file ? b->file : a->file].path);
    }
    return PS_OK;
}

const ps_gguf_tensor *ps_gguf_find_tensor(const ps_gguf *self, const char *name)
{
    int low = 0, high = self->n_tensors;
    while (low < high) {
        const int middle = low + (high - low) / 2;
        const ps_gguf_tensor *t = &self->tensors[self->by_name[middle]];
        const int order = strcmp(t->name, name);
        if (order == 0) return t;
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

/* ---- split models ---- */

/* What a part says about the whole; *count is 1 when it says nothing. */
typedef struct split {
    int64_t no, count, n_tensors; // n_tensors -1: not said
} split;

static ps_err read_split(const ps_gguf_part *part, split *out)
{
    *out = (split){.count = 1, .n_tensors = -1};
    PS_TRY(ps_gguf_part_int(part, SPLIT_NO_KEY, 0, PS_GGUF_MAX_PARTS - 1, &out->no));
    PS_TRY(ps_gguf_part_int(part, SPLIT_COUNT_KEY, 0, PS_GGUF_MAX_PARTS, &out->count));
    if (out->count == 0) out->count = 1;
    return ps_gguf_part_int(part, SPLIT_TENSORS_KEY, 0, PS_GGUF_MAX_TENSORS, &out->n_tensors);
}

/* Whether the name ends as that of part `no` (from 0) of `count` does. */
static bool is_named_as(const char *path, int64_t no, int64_t count)
{
    char suffix[SUFFIX_BYTES + 32];
    snprintf(suffix, sizeof suffix, "-%05lld-of-%05lld.gguf", (long long)no + 1, (long long)count);
    const size_t n = strlen(path), m = strlen(suffix);
    return n >= m && strcmp(path + n - m, suffix) == 0;
}

/* Opens part `no` beside the first one, which said `whole`, and checks what it says itself. */
static ps_err open_part(ps_gguf *self, const split *whole, int no)
{
    const char *first = self->parts[0].path;
    ps_text path = {0};
    ps_text_append(&path, first, strlen(first) - SUFFIX_BYTES);
    ps_text_appendf(&path, "-%05d-of-%05d.gguf", no + 1, (int)whole->count);
    ps_err err = PS_OK;
    if (access(ps_text_str(&path), F_OK) != 0)
        err = PS_FAIL(PS_ERR_IO, "%s: part %d of %d: %s", ps_text_str(&path), no + 1,
                      (int)whole->count, strerror(errno));
    if (!err) err = ps_gguf_read_part(self, ps_text_str(&path));
    split said;
    if (!err) err = read_split(&self->parts[no], &said);
    if (!err && (said.no != no || said.count != whole->count || said.n_tensors != whole->n_tensors))
        err = PS_FAIL(PS_ERR_FORMAT,
                      "%s: says that it is part %d of %d with %d tensors in all, wanted part %d of "
                      "%d with %d",
                      ps_text_str(&path), (int)said.no + 1, (int)said.count, (int)said.n_tensors,
                      no + 1, (int)whole->count, (int)whole->n_tensors);
    ps_text_release(&path);
    return err;
}

static ps_err open_parts(ps_gguf *self)
{
    split whole;
    const char *first = self->parts[0].path;
    PS_TRY(read_split(&self->parts[0], &whole));
    if (whole.no != 0)
        return PS_FAIL(PS_ERR_USAGE, "%s: is part %d of %d, give the first one", first,
                       (int)whole.no + 1, (int)whole.count);
    if (whole.count > 1 && !is_named_as(first, 0, whole.count))
        return PS_FAIL(PS_ERR_FORMAT,
                       "%s: is the first of %d parts, so its name must end in -00001-of-%05d.gguf",
                       first, (int)whole.count, (int)whole.count);
    for (int no = 1; no < whole.count; no++) {
        PS_TRY(open_part(self, &whole, no));
    }
    if (whole.n_tensors >= 0 && whole.n_tensors != self->n_tensors)
        return PS_FAIL(PS_ERR_FORMAT,
                       "%s: %d tensors in %d parts, key " SPLIT_TENSORS_KEY " says %d", first,
                       self->n_tensors, (int)whole.count, (int)whole.n_tensors);
    return sort_names(self);
}

/* ---- open and close ---- */

ps_err ps_gguf_open(const char *path, ps_gguf **out)
{
    ps_gguf *self = ps_mem_new(1, sizeof *self);
    ps_err err = ps_gguf_read_part(self, path);
    if (!err) err = open_parts(self);
    if (err) {
        ps_gguf_close(self);
        self = NULL;
    } else {
        const size_t n = (size_t)self->parts[0].keys.n;
        self->used = ps_mem_new(n, sizeof *self->used);
        self->texts = ps_mem_new(n, sizeof *self->texts);
    }
    *out = self;
    return err;
}

void ps_gguf_close(ps_gguf *self)
{
    if (!self) return;
    for (int i = 0; self->texts && i < self->parts[0].keys.n; i++) {
        ps_mem_free(self->texts[i]);
    }
    for (int i = 0; i < self->n_tensors; i++) {
        ps_mem_free((void *)(uintptr_t)self->tensors[i].name);
    }
    for (int i = 0; i < self->n_parts; i++) {
        ps_gguf_part *part = &self->parts[i];
        for (int k = 0; k < part->keys.n; k++) {
            ps_mem_free((void *)(uintptr_t)part->keys.values[k].key);
        }
        ps_mem_free(part->keys.values);
        ps_mem_free(part->keys.by_key);
        ps_file_map_close(&part->map);
        ps_mem_free(part->path);
    }
    ps_mem_free(self->texts);
    ps_mem_free(self->used);
    ps_mem_free(self->by_name);
    ps_mem_free(self->tensors);
    ps_mem_free(self->parts);
    ps_mem_free(self);
}

/* ---- looking at an open one ---- */

int ps_gguf_count(const ps_gguf *self)
{
    return self->n_tensors;
}

const ps_gguf_tensor *ps_gguf_at(const ps_gguf *self, int index)
{
    assert(index >= 0 && index < self->n_tensors);
    return &self->tensors[index];
}

const char *ps_gguf_file(const ps_gguf *self, const ps_gguf_tensor *tensor)
{
    assert(tensor->file >= 0 && tensor->file < self->n_parts);
    return self->parts[tensor->file].path;
}

const char *ps_gguf_path(const ps_gguf *self)
{
    return self->parts[0].path;
}
