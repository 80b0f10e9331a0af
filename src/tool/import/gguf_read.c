/* The head of one file. A cursor walks over the mapping; nothing behind the checked length is ever
 * looked at, and a count is believed only when the file is long enough to hold that many.
 *
 * Holes, overlaps and a short file are one check, as for safetensors: with the tensors sorted by
 * their offset, each must begin where the one before ended, rounded up to the alignment. Behind the
 * last one there may be padding or none. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "tool/import/gguf_parts.h"

#define ALIGNMENT_KEY "general.alignment"

enum {
    DEFAULT_ALIGNMENT = 32,
    MAX_ALIGNMENT = 1 << 20,
    MIN_KEY_BYTES = 8 + 4 + 1,        // length, kind, value
    MIN_TENSOR_BYTES = 8 + 4 + 4 + 8, // length, dimensions, type, offset
    MESSAGE_NAME_BYTES = 200
};

/* ggml's types by their number. Gaps are types that were withdrawn, or never stored. */
static const struct {
    const char *name;
    size_t block_values, block_bytes;
} types[] = {
    [0] = {"F32", 1, 4},         [1] = {"F16", 1, 2},         [2] = {"Q4_0", 32, 18},
    [3] = {"Q4_1", 32, 20},      [6] = {"Q5_0", 32, 22},      [7] = {"Q5_1", 32, 24},
    [8] = {"Q8_0", 32, 34},      [9] = {"Q8_1", 32, 36},      [10] = {"Q2_K", 256, 84},
    [11] = {"Q3_K", 256, 110},   [12] = {"Q4_K", 256, 144},   [13] = {"Q5_K", 256, 176},
    [14] = {"Q6_K", 256, 210},   [15] = {"Q8_K", 256, 292},   [16] = {"IQ2_XXS", 256, 66},
    [17] = {"IQ2_XS", 256, 74},  [18] = {"IQ3_XXS", 256, 98}, [19] = {"IQ1_S", 256, 50},
    [20] = {"IQ4_NL", 32, 18},   [21] = {"IQ3_S", 256, 110},  [22] = {"IQ2_S", 256, 82},
    [23] = {"IQ4_XS", 256, 136}, [24] = {"I8", 1, 1},         [25] = {"I16", 1, 2},
    [26] = {"I32", 1, 4},        [27] = {"I64", 1, 8},        [28] = {"F64", 1, 8},
    [29] = {"IQ1_M", 256, 56},   [30] = {"BF16", 1, 2},       [34] = {"TQ1_0", 256, 54},
    [35] = {"TQ2_0", 256, 66},   [39] = {"MXFP4", 32, 17},
};

static bool is_type(int64_t type)
{
    return type >= 0 && type < (int64_t)(sizeof types / sizeof types[0]) && types[type].name;
}

const char *ps_gguf_type_name(int type)
{
    return is_type(type) ? types[type].name : NULL;
}

size_t ps_gguf_type_block_values(int type)
{
    return is_type(type) ? types[type].block_values : 0;
}

size_t ps_gguf_type_block_bytes(int type)
{
    return is_type(type) ? types[type].block_bytes : 0;
}

/* ---- the cursor ---- */

typedef struct cursor {
    const char *path;
    const unsigned char *data;
    size_t bytes, at;
} cursor;

/* The next n bytes; `what` and `name` say what they would have been. */
static ps_err take(cursor *c, size_t n, const char *what, const char *name,
                   const unsigned char **out)
{
    if (n > c->bytes - c->at)
        return PS_FAIL(PS_ERR_FORMAT, "%s: %s%.200s wants %zu bytes at offset %zu of a file of %zu",
                       c->path, what, name, n, c->at, c->bytes);
    *out = c->data + c->at;
    c->at += n;
    return PS_OK;
}

static ps_err take_u32(cursor *c, const char *what, const char *name, uint32_t *out)
{
    const unsigned char *p = NULL;
    PS_TRY(take(c, 4, what, name, &p));
    *out = ps_gguf_u32(p);
    return PS_OK;
}

static ps_err take_u64(cursor *c, const char *what, const char *name, uint64_t *out)
{
    const unsigned char *p = NULL;
    PS_TRY(take(c, 8, what, name, &p));
    *out = ps_gguf_u64(p);
    return PS_OK;
}

/* Skips a string and the length before it. */
static ps_err skip_string(cursor *c, const char *what, const char *name)
{
    uint64_t n;
    const unsigned char *p = NULL;
    PS_TRY(take_u64(c, what, name, &n));
    return take(c, n > SIZE_MAX ? SIZE_MAX : (size_t)n, what, name, &p);
}

/* A name: printable, so that it can stand in a message. Owned by the caller, NULL on error. */
static ps_err take_name(cursor *c, const char *what, size_t max, char **out)
{
    uint64_t n;
    const unsigned char *p = NULL;
    *out = NULL;
    PS_TRY(take_u64(c, what, "", &n));
    if (n < 1 || n > max)
        return PS_FAIL(PS_ERR_FORMAT, "%s: %s of %llu bytes at offset %zu, wanted 1..%zu", c->path,
                       what, (unsigned long long)n, c->at - 8, max);
    PS_TRY(take(c, (size_t)n, what, "", &p));
    for (size_t i = 0; i < n; i++) {
        if (p[i] < 0x20 || p[i] == 0x7f)
            return PS_FAIL(PS_ERR_FORMAT, "%s: %s at offset %zu holds the control character %d",
                           c->path, what, c->at - (size_t)n, p[i]);
    }
    *out = ps_mem_copy_bytes(p, (size_t)n);
    return PS_OK;
}

/* ---- metadata ---- */

static ps_err take_kind(cursor *c, const char *key, ps_gguf_kind *out)
{
    uint32_t kind;
    PS_TRY(take_u32(c, "the kind of key ", key, &kind));
    if (kind >= PS_GGUF_KIND_COUNT)
        return PS_FAIL(PS_ERR_FORMAT, "%s: key %.200s is of kind %u, which is not known", c->path,
                       key, kind);
    *out = (ps_gguf_kind)kind;
    return PS_OK;
}

static ps_err check_booleans(const cursor *c, const ps_gguf_value *value)
{
    for (size_t i = 0; i < value->n; i++) {
        if (value->data[i] > 1)
            return PS_FAIL(PS_ERR_FORMAT, "%s: key %.200s holds the boolean %d, wanted 0 or 1",
                           c->path, value->key, value->data[i]);
    }
    return PS_OK;
}

/* The elements of a value whose kind and number are known. */
static ps_err take_elements(cursor *c, ps_gguf_value *value)
{
    static const char what[] = "the value of key ";
    const size_t at = c->at, size = ps_gguf_kind_bytes(value->kind);
    value->data = c->data + at;
    size_t bytes;
    if (value->kind == PS_GGUF_STRING) {
        for (size_t i = 0; i < value->n; i++) {
            PS_TRY(skip_string(c, what, value->key));
        }
    } else {
        const unsigned char *p;
        if (!ps_mem_mul(value->n, size, &bytes)) bytes = SIZE_MAX;
        PS_TRY(take(c, bytes, what, value->key, &p));
    }
    value->bytes = c->at - at;
    return value->kind == PS_GGUF_BOOL ? check_booleans(c, value) : PS_OK;
}

static ps_err take_value(cursor *c, ps_gguf_value *value)
{
    PS_TRY(take_kind(c, value->key, &value->kind));
    value->is_array = value->kind == PS_GGUF_ARRAY;
    value->n = 1;
    if (value->is_array) {
        uint64_t n;
        PS_TRY(take_kind(c, value->key, &value->kind));
        if (value->kind == PS_GGUF_ARRAY)
            return PS_FAIL(PS_ERR_UNSUPPORTED,
                           "%s: key %.200s is an array of arrays, which is not read here", c->path,
                           value->key);
        PS_TRY(take_u64(c, "the length of key ", value->key, &n));
        value->n = n > SIZE_MAX ? SIZE_MAX : (size_t)n;
    }
    return take_elements(c, value);
}

static int compare_keys(const void *a, const void *b, void *values)
{
    const ps_gguf_value *v = values;
    return strcmp(v[*(const int *)a].key, v[*(const int *)b].key);
}

static ps_err sort_keys(ps_gguf_keys *keys, const char *path)
{
    keys->by_key = ps_mem_new((size_t)keys->n, sizeof *keys->by_key);
    for (int i = 0; i < keys->n; i++) {
        keys->by_key[i] = i;
    }
    qsort_r(keys->by_key, (size_t)keys->n, sizeof *keys->by_key, compare_keys, keys->values);
    for (int i = 1; i < keys->n; i++) {
        const char *key = keys->values[keys->by_key[i]].key;
        if (strcmp(keys->values[keys->by_key[i - 1]].key, key) == 0)
            return PS_FAIL(PS_ERR_FORMAT, "%s: key %.200s is there twice", path, key);
    }
    return PS_OK;
}

static ps_err read_keys(cursor *c, uint64_t count, ps_gguf_keys *keys)
{
    keys->values = ps_mem_new((size_t)count, sizeof *keys->values);
    for (uint64_t i = 0; i < count; i++) {
        char *key;
        PS_TRY(take_name(c, "a key", PS_GGUF_MAX_KEY_BYTES, &key));
        ps_gguf_value *value = &keys->values[keys->n++];
        value->key = key;
        PS_TRY(take_value(c, value));
    }
    return sort_keys(keys, c->path);
}

/* ---- tensor infos ---- */

/* Dimensions, which the file gives contiguous one first, and from them and the type the size. */
static ps_err take_shape(cursor *c, ps_gguf_tensor *t)
{
    uint32_t n_dims;
    PS_TRY(take_u32(c, "tensor ", t->name, &n_dims));
    if (n_dims > PS_GGUF_MAX_DIMS)
        return PS_FAIL(PS_ERR_FORMAT, "%s: tensor %s: %u dimensions, wanted at most %d", c->path,
                       t->name, n_dims, PS_GGUF_MAX_DIMS);
    t->n_dims = (int)n_dims;
    for (int d = t->n_dims - 1; d >= 0; d--) {
        uint64_t n;
        PS_TRY(take_u64(c, "tensor ", t->name, &n));
        if (n < 1 || n > INT64_MAX)
            return PS_FAIL(PS_ERR_FORMAT,
                           "%s: tensor %s: dimension %d is %llu, wanted at least 1%s", c->path,
                           t->name, t->n_dims - 1 - d, (unsigned long long)n,
                           n < 1 ? "" : " and less than 2^63");
        t->shape[d] = (size_t)n;
    }
    return PS_OK;
}

static ps_err take_type(cursor *c, ps_gguf_tensor *t)
{
    uint32_t type;
    PS_TRY(take_u32(c, "tensor ", t->name, &type));
    if (!is_type(type))
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: tensor %s: type %u is not known", c->path, t->name,
                       type);
    t->type = (int)type;
    const size_t row = t->n_dims > 0 ? t->shape[t->n_dims - 1] : 1;
    if (row % types[type].block_values != 0)
        return PS_FAIL(PS_ERR_FORMAT,
                       "%s: tensor %s: rows of %zu values are no whole %s blocks of %zu", c->path,
                       t->name, row, types[type].name, types[type].block_values);
    size_t bytes = row / types[type].block_values;
    bool fits = ps_mem_mul(bytes, types[type].block_bytes, &bytes);
    for (int d = 0; d < t->n_dims - 1; d++) {
        fits = fits && ps_mem_mul(bytes, t->shape[d], &bytes);
    }
    if (!fits)
        return PS_FAIL(PS_ERR_FORMAT, "%s: tensor %s: the product of its shape overflows", c->path,
                       t->name);
    t->bytes = bytes;
    return PS_OK;
}

/* One info. The offset is kept in *offset until it is known where the data begin. */
static ps_err read_info(cursor *c, ps_gguf_tensor *t, uint64_t *offset)
{
    PS_TRY(take_shape(c, t));
    PS_TRY(take_type(c, t));
    return take_u64(c, "tensor ", t->name, offset);
}

static int compare_place(const void *a, const void *b)
{
    const ps_gguf_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Sorts the tensors of a part by place and checks that they tile its data. */
static ps_err check_tiling(const ps_gguf_part *part, ps_gguf_tensor *tensors,
                           const unsigned char *data, size_t data_bytes, size_t alignment)
{
    const int n = part->n_tensors;
    if (n > 0) qsort(tensors, (size_t)n, sizeof *tensors, compare_place);
    size_t end = 0;
    for (int i = 0; i < n; i++) {
        const size_t begin = (size_t)(tensors[i].data - data);
        if (begin < end)
            return PS_FAIL(PS_ERR_FORMAT, "%s: tensors %s and %s overlap", part->path,
                           tensors[i - 1].name, tensors[i].name);
        const size_t wanted = ps_mem_round_up(end, alignment);
        if (begin > wanted)
            return PS_FAIL(PS_ERR_FORMAT, "%s: a hole of %zu bytes before tensor %s", part->path,
                           begin - wanted, tensors[i].name);
        end = begin + tensors[i].bytes;
    }
    if (data_bytes - end < alignment) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "%s: %zu bytes of data belong to no tensor", part->path,
                   data_bytes - end);
}

/* Where the tensors of a part lie, from their offsets. */
static ps_err place_tensors(ps_gguf *self, const cursor *c, const uint64_t *offsets)
{
    const ps_gguf_part *part = &self->parts[self->n_parts - 1];
    int64_t alignment = DEFAULT_ALIGNMENT;
    PS_TRY(ps_gguf_part_int(part, ALIGNMENT_KEY, 1, MAX_ALIGNMENT, &alignment));
    if ((alignment & (alignment - 1)) != 0)
        return PS_FAIL(PS_ERR_FORMAT, "%s: key " ALIGNMENT_KEY " is %lld, wanted a power of two",
                       part->path, (long long)alignment);
    if (part->n_tensors == 0) return PS_OK; // a vocabulary: the padding may be missing, too
    ps_gguf_tensor *tensors = self->tensors + part->first_tensor;
    const size_t start = ps_mem_round_up(c->at, (size_t)alignment);
    const size_t bytes = c->bytes > start ? c->bytes - start : 0;
    for (int i = 0; i < part->n_tensors; i++) {
        ps_gguf_tensor *t = &tensors[i];
        if (offsets[i] % (uint64_t)alignment != 0)
            return PS_FAIL(
                PS_ERR_FORMAT, "%s: tensor %s: offset %llu is not a multiple of the alignment %lld",
                part->path, t->name, (unsigned long long)offsets[i], (long long)alignment);
        if (offsets[i] > bytes || t->bytes > bytes - (size_t)offsets[i])
            return PS_FAIL(PS_ERR_FORMAT,
                           "%s: tensor %s: %zu bytes at offset %llu are not inside the %zu bytes "
                           "of data",
                           part->path, t->name, t->bytes, (unsigned long long)offsets[i], bytes);
        t->data = c->data + start + (size_t)offsets[i];
    }
    return check_tiling(part, tensors, c->data + start, bytes, (size_t)alignment);
}

static ps_err read_tensors(ps_gguf *self, cursor *c, uint64_t count)
{
    ps_gguf_part *part = &self->parts[self->n_parts - 1];
    part->first_tensor = self->n_tensors;
    self->tensors = ps_mem_grow(self->tensors, &self->tensors_capacity,
                                (size_t)self->n_tensors + (size_t)count, sizeof *self->tensors);
    uint64_t *offsets = ps_mem_new((size_t)count, sizeof *offsets);
    ps_err err = PS_OK;
    for (uint64_t i = 0; i < count && !err; i++) {
        char *name;
        err = take_name(c, "a tensor's name", PS_GGUF_MAX_NAME_BYTES, &name);
        if (err) break;
        ps_gguf_tensor *t = &self->tensors[self->n_tensors++];
        *t = (ps_gguf_tensor){.name = name, .file = self->n_parts - 1};
        err = read_info(c, t, &offsets[part->n_tensors++]);
    }
    if (!err) err = place_tensors(self, c, offsets);
    ps_mem_free(offsets);
    return err;
}

/* ---- the head ---- */

static ps_err check_magic(const cursor *c)
{
    static const char lfs[] = "version https://git-lfs";
    if (c->bytes >= sizeof lfs - 1 && memcmp(c->data, lfs, sizeof lfs - 1) == 0)
        return PS_FAIL(PS_ERR_FORMAT, "%s: is a Git LFS pointer, the weights were not fetched",
                       c->path);
    if (c->bytes < 4 || memcmp(c->data, "GGUF", 4) != 0)
        return PS_FAIL(PS_ERR_FORMAT, "%s: does not begin with GGUF", c->path);
    return PS_OK;
}

static ps_err take_version(cursor *c)
{
    uint32_t version;
    PS_TRY(take_u32(c, "the version", "", &version));
    if (version == 2 || version == 3) return PS_OK;
    // The number of a big-endian file, read from the wrong end.
    if ((version & 0xffffu) == 0 && version != 0)
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: is a big-endian GGUF file, only little-endian ones are read here",
                       c->path);
    return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: is GGUF version %u, wanted 2 or 3", c->path, version);
}

/* A count of things of which each takes `least` bytes of the rest of the file. */
static ps_err take_count(cursor *c, const char *what, size_t least, uint64_t limit, uint64_t *out)
{
    PS_TRY(take_u64(c, "the number of ", what, out));
    if (*out > (c->bytes - c->at) / least)
        return PS_FAIL(PS_ERR_FORMAT, "%s: %llu %s in a file of %zu bytes", c->path,
                       (unsigned long long)*out, what, c->bytes);
    if (*out > limit)
        return PS_FAIL(PS_ERR_LIMIT, "%s: %llu %s, wanted at most %llu", c->path,
                       (unsigned long long)*out, what, (unsigned long long)limit);
    return PS_OK;
}

ps_err ps_gguf_read_part(ps_gguf *self, const char *path)
{
    self->parts = ps_mem_grow(self->parts, &self->parts_capacity, (size_t)self->n_parts + 1,
                              sizeof *self->parts);
    ps_gguf_part *part = &self->parts[self->n_parts++];
    *part = (ps_gguf_part){.path = ps_mem_copy_text(path), .map.fd = -1};
    PS_TRY(ps_file_map_open(path, &part->map));
    // The mapping lives without its descriptor; a model may have more parts than a process may.
    close(part->map.fd);
    part->map.fd = -1;
    cursor c = {.path = part->path, .data = part->map.data, .bytes = part->map.bytes};
    uint64_t n_tensors, n_keys;
    const unsigned char *magic;
    PS_TRY(check_magic(&c));
    PS_TRY(take(&c, 4, "the magic", "", &magic));
    PS_TRY(take_version(&c));
    PS_TRY(take_count(&c, "tensors", MIN_TENSOR_BYTES,
                      (uint64_t)(PS_GGUF_MAX_TENSORS - self->n_tensors), &n_tensors));
    PS_TRY(take_count(&c, "keys", MIN_KEY_BYTES, PS_GGUF_MAX_KEYS, &n_keys));
    PS_TRY(read_keys(&c, n_keys, &part->keys));
    return read_tensors(self, &c, n_tensors);
}
