/* Headers are parsed by jansson straight from the mapping and forgotten; what stays is one array of
 * tensors and, for look-ups, one of their names, sorted.
 *
 * Holes, overlaps and a short or long file are one check: with the tensors of a file sorted by
 * their begin, each must begin where the one before ended, and the last must end with the file.
 *
 * Nothing of the mapping outside the checked ranges is ever handed out. What a mapping cannot guard
 * against is a file that is cut while it is open: the kernel then sends SIGBUS. */
#include "tool/import/safetensors.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

#define SINGLE_NAME  "model.safetensors"
#define INDEX_NAME   "model.safetensors.index.json"
#define METADATA_KEY "__metadata__"

enum { LENGTH_BYTES = 8, MAX_FILE_NAME_BYTES = 255 };

typedef struct shard {
    char *path; // owned
    ps_file_map map;
} shard;

typedef struct entry {
    const char *name; // the tensor's
    int tensor;
} entry;

struct ps_safetensors {
    shard *shards;
    size_t shards_capacity;
    int n_shards;
    ps_safetensors_tensor *tensors; // names are owned
    size_t tensors_capacity;
    int n_tensors;
    entry *by_name; // [n_tensors], sorted
};

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {
    [PS_SAFETENSORS_F64] = {"F64", 8},         [PS_SAFETENSORS_F32] = {"F32", 4},
    [PS_SAFETENSORS_F16] = {"F16", 2},         [PS_SAFETENSORS_BF16] = {"BF16", 2},
    [PS_SAFETENSORS_F8_E4M3] = {"F8_E4M3", 1}, [PS_SAFETENSORS_F8_E5M2] = {"F8_E5M2", 1},
    [PS_SAFETENSORS_I64] = {"I64", 8},         [PS_SAFETENSORS_I32] = {"I32", 4},
    [PS_SAFETENSORS_I16] = {"I16", 2},         [PS_SAFETENSORS_I8] = {"I8", 1},
    [PS_SAFETENSORS_U64] = {"U64", 8},         [PS_SAFETENSORS_U32] = {"U32", 4},
    [PS_SAFETENSORS_U16] = {"U16", 2},         [PS_SAFETENSORS_U8] = {"U8", 1},
    [PS_SAFETENSORS_BOOL] = {"BOOL", 1},
};
_Static_assert(sizeof dtypes / sizeof dtypes[0] == PS_SAFETENSORS_DTYPE_COUNT, "one row a dtype");

/* ---- one tensor of a header ---- */

static ps_err read_dtype(const json_t *fields, const char *where, ps_safetensors_tensor *t)
{
    const char *name;
    PS_TRY(ps_json_get_text(fields, "dtype", where, &name));
    for (int d = 0; d < PS_SAFETENSORS_DTYPE_COUNT; d++) {
        if (strcmp(name, dtypes[d].name) != 0) continue;
        t->dtype = (ps_safetensors_dtype)d;
        return PS_OK;
    }
    return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: dtype \"%.20s\" is not known", where, name);
}

/* Shape, and from it and the dtype the size that the offsets must confirm. A product that overflows
 * is refused even if a later dimension is 0, as in the format's reference reader. */
static ps_err read_shape(const json_t *fields, const char *where, ps_safetensors_tensor *t)
{
    json_t *shape;
    PS_TRY(ps_json_get(fields, "shape", JSON_ARRAY, where, &shape));
    const size_t n_dims = json_array_size(shape);
    if (n_dims > PS_SAFETENSORS_MAX_DIMS) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: %zu dimensions, wanted at most %d", where, n_dims,
                       PS_SAFETENSORS_MAX_DIMS);
    }
    size_t bytes = dtypes[t->dtype].bytes;
    for (size_t i = 0; i < n_dims; i++) {
        const json_t *value = json_array_get(shape, i);
        if (!json_is_integer(value) || json_integer_value(value) < 0) {
            return PS_FAIL(PS_ERR_FORMAT, "%s: shape[%zu] is not an integer >= 0", where, i);
        }
        t->shape[i] = (size_t)json_integer_value(value);
        if (!ps_mem_mul(bytes, t->shape[i], &bytes)) {
            return PS_FAIL(PS_ERR_FORMAT, "%s: the product of its shape overflows", where);
        }
    }
    t->n_dims = (int)n_dims;
    t->bytes = bytes;
    return PS_OK;
}

static ps_err read_offsets(const json_t *fields, const char *where, size_t data_bytes,
                           ps_safetensors_tensor *t, size_t *begin)
{
    json_t *offsets;
    PS_TRY(ps_json_get(fields, "data_offsets", JSON_ARRAY, where, &offsets));
    const json_t *first = json_array_get(offsets, 0), *second = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(second)) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: data_offsets is not two integers", where);
    }
    const json_int_t from = json_integer_value(first), to = json_integer_value(second);
    if (from < 0 || to < from || (uint64_t)to > data_bytes) {
        return PS_FAIL(PS_ERR_FORMAT,
                       "%s: data_offsets [%" JSON_INTEGER_FORMAT ", %" JSON_INTEGER_FORMAT
                       "] are not inside the %zu bytes of data",
                       where, from, to, data_bytes);
    }
    if ((size_t)(to - from) != t->bytes) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: data_offsets span %zu bytes, its shape wants %zu", where,
                       (size_t)(to - from), t->bytes);
    }
    *begin = (size_t)from;
    return PS_OK;
}

static ps_err read_tensor(ps_safetensors *self, const char *name, const json_t *fields,
                          const unsigned char *data, size_t data_bytes)
{
    const int file = self->n_shards - 1;
    const char *path = self->shards[file].path;
    if (strlen(name) > PS_SAFETENSORS_MAX_NAME_BYTES) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: a tensor's name has %zu bytes, wanted at most %d: %.40s",
                       path, strlen(name), PS_SAFETENSORS_MAX_NAME_BYTES, name);
    }
    char where[PS_ERR_MESSAGE_BYTES];
    snprintf(where, sizeof where, "%s: tensor %s", path, name);
    if (!json_is_object(fields)) return PS_FAIL(PS_ERR_FORMAT, "%s: is not an object", where);
    ps_safetensors_tensor t = {.file = file};
    size_t begin = 0;
    PS_TRY(read_dtype(fields, where, &t));
    PS_TRY(read_shape(fields, where, &t));
    PS_TRY(read_offsets(fields, where, data_bytes, &t, &begin));
    t.name = ps_mem_copy_text(name);
    t.data = data + begin;
    self->tensors = ps_mem_grow(self->tensors, &self->tensors_capacity, (size_t)self->n_tensors + 1,
                                sizeof *self->tensors);
    self->tensors[self->n_tensors++] = t;
    return PS_OK;
}

/* ---- one file ---- */

static int compare_place(const void *a, const void *b)
{
    const ps_safetensors_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Sorts the tensors [first, n) of the last file by place and checks that they tile its data. */
static ps_err check_tiling(ps_safetensors *self, int first, const unsigned char *data,
                           size_t data_bytes)
{
    const char *path = self->shards[self->n_shards - 1].path;
    ps_safetensors_tensor *tensors = self->tensors;
    const int n = self->n_tensors;
    if (n > first) qsort(tensors + first, (size_t)(n - first), sizeof *tensors, compare_place);
    size_t end = 0;
    for (int i = first; i < n; i++) {
        const size_t begin = (size_t)(tensors[i].data - data);
        if (begin < end) {
            return PS_FAIL(PS_ERR_FORMAT, "%s: tensors %s and %s overlap", path,
                           tensors[i - 1].name, tensors[i].name);
        }
        if (begin > end) {
            return PS_FAIL(PS_ERR_FORMAT, "%s: a hole of %zu bytes before tensor %s", path,
                           begin - end, tensors[i].name);
        }
        end = begin + tensors[i].bytes;
    }
    if (end == data_bytes) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "%s: %zu bytes of data belong to no tensor", path,
                   data_bytes - end);
}

static ps_err check_metadata(json_t *metadata, const char *path)
{
    bool good = json_is_object(metadata);
    const char *key;
    json_t *value;
    json_object_foreach(metadata, key, value)
    {
        good = good && json_is_string(value);
    }
    if (good) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "%s: " METADATA_KEY " is not a map of strings", path);
}

/* Length of the header; the mapping holds it whole when this succeeds. */
static ps_err header_length(const ps_file_map *map, const char *path, size_t *out)
{
    static const char lfs[] = "version https://git-lfs";
    if (map->bytes >= sizeof lfs - 1 && memcmp(map->data, lfs, sizeof lfs - 1) == 0) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: is a Git LFS pointer, the weights were not fetched",
                       path);
    }
    if (map->bytes < LENGTH_BYTES) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: has %zu bytes, wanted at least %d", path, map->bytes,
                       LENGTH_BYTES);
    }
    uint64_t length = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--) {
        length = length << 8 | map->data[i];
    }
    if (length > PS_SAFETENSORS_MAX_HEADER_BYTES) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: header of %llu bytes, wanted at most %d", path,
                       (unsigned long long)length, PS_SAFETENSORS_MAX_HEADER_BYTES);
    }
    if (length > map->bytes - LENGTH_BYTES) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: header of %llu bytes in a file of %zu", path,
                       (unsigned long long)length, map->bytes);
    }
    if (length == 0 || map->data[LENGTH_BYTES] != '{') {
        return PS_FAIL(PS_ERR_FORMAT, "%s: header does not begin with '{'", path);
    }
    *out = (size_t)length;
    return PS_OK;
}

static ps_err read_header(ps_safetensors *self, json_t *header, const unsigned char *data,
                          size_t data_bytes)
{
    const char *path = self->shards[self->n_shards - 1].path;
    json_t *metadata = json_object_get(header, METADATA_KEY);
    const size_t count = json_object_size(header) - (metadata ? 1 : 0);
    if (count > (size_t)(PS_SAFETENSORS_MAX_TENSORS - self->n_tensors)) {
        return PS_FAIL(PS_ERR_LIMIT, "%s: more than %d tensors", path, PS_SAFETENSORS_MAX_TENSORS);
    }
    if (metadata) PS_TRY(check_metadata(metadata, path));
    const int first = self->n_tensors;
    const char *name;
    json_t *fields;
    json_object_foreach(header, name, fields)
    {
        if (fields != metadata) PS_TRY(read_tensor(self, name, fields, data, data_bytes));
    }
    return check_tiling(self, first, data, data_bytes);
}

static ps_err open_file(ps_safetensors *self, const char *path)
{
    self->shards = ps_mem_grow(self->shards, &self->shards_capacity, (size_t)self->n_shards + 1,
                               sizeof *self->shards);
    shard *s = &self->shards[self->n_shards++];
    *s = (shard){.path = ps_mem_copy_text(path), .map.fd = -1};
    PS_TRY(ps_file_map_open(path, &s->map));
    // The mapping lives without its descriptor; a set of shards may have more than a process may.
    close(s->map.fd);
    s->map.fd = -1;
    size_t length = 0;
    PS_TRY(header_length(&s->map, path, &length));
    json_t *header;
    PS_TRY(ps_json_parse((const char *)s->map.data + LENGTH_BYTES, length, path, &header));
    const size_t skip = LENGTH_BYTES + length;
    const ps_err err = read_header(self, header, s->map.data + skip, s->map.bytes - skip);
    json_decref(header);
    return err;
}

/* ---- names ---- */

static int compare_name(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static ps_err sort_names(ps_safetensors *self)
{
    const size_t n = (size_t)self->n_tensors;
    self->by_name = ps_mem_new(n, sizeof *self->by_name);
    for (size_t i = 0; i < n; i++) {
        self->by_name[i] = (entry){.name = self->tensors[i].name, .tensor = (int)i};
    }
    if (n > 0) qsort(self->by_name, n, sizeof *self->by_name, compare_name);
    for (size_t i = 1; i < n; i++) {
        const entry *pair = &self->by_name[i - 1];
        if (strcmp(pair[0].name, pair[1].name) != 0) continue;
        const ps_safetensors_tensor *a = &self->tensors[pair[0].tensor];
        const ps_safetensors_tensor *b = &self->tensors[pair[1].tensor];
        return PS_FAIL(PS_ERR_FORMAT, "%s: tensor %s is also in %s",
                       self->shards[b->file > a->file ? b->file : a->file].path, a->name,
                       self->shards[b->file > a->file ? a->file : b->file].path);
    }
    return PS_OK;
}

const ps_safetensors_tensor *ps_safetensors_find(const ps_safetensors *self, const char *name)
{
    const entry key = {.name = name};
    if (self->n_tensors == 0) return NULL;
    const entry *found =
        bsearch(&key, self->by_name, (size_t)self->n_tensors, sizeof *self->by_name, compare_name);
    return found ? &self->tensors[found->tensor] : NULL;
}

/* ---- a set of shards ---- */

static char *join(const char *directory, size_t n, const char *name)
{
    ps_text path = {0};
    ps_text_append(&path, directory, n);
    if (n > 0 && directory[n - 1] != '/') ps_text_append_char(&path, '/');
    ps_text_append_str(&path, name);
    return ps_text_take(&path);
}

/* Opens the shard `name` unless `opened` (name -> number) has it already. A shard's name comes from
 * a file, so it must not lead out of the directory. */
static ps_err open_shard_once(ps_safetensors *self, const char *index_path, const json_t *value,
                              json_t *opened)
{
    const char *name = json_string_value(value);
    const size_t n = json_string_length(value);
    if (json_object_get(opened, name)) return PS_OK;
    if (n == 0 || n > MAX_FILE_NAME_BYTES || strlen(name) != n || strchr(name, '/') ||
        strstr(name, "..") || strcmp(name, ".") == 0) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: shard \"%.60s\" is not a plain file name", index_path,
                       name);
    }
    if (self->n_shards == PS_SAFETENSORS_MAX_SHARDS) {
        return PS_FAIL(PS_ERR_LIMIT, "%s: more than %d shards", index_path,
                       PS_SAFETENSORS_MAX_SHARDS);
    }
    const char *slash = strrchr(index_path, '/');
    char *path = join(index_path, slash ? (size_t)(slash - index_path) + 1 : 0, name);
    ps_err err = PS_OK;
    if (access(path, F_OK) != 0) {
        err = PS_FAIL(PS_ERR_IO, "%s: shard %s: %s", index_path, name, strerror(errno));
    } else if (json_object_set_new(opened, name, json_integer(self->n_shards)) != 0) {
        err = PS_FAIL(PS_ERR_NOMEM, "%s: no memory for the list of shards", index_path);
    }
    if (!err) err = open_file(self, path);
    ps_mem_free(path);
    return err;
}

/* Each entry of the index in its shard, each tensor of the shards in the index. */
static ps_err check_index(const ps_safetensors *self, const char *index_path, json_t *weight_map,
                          const json_t *opened)
{
    const char *name;
    json_t *value;
    json_object_foreach(weight_map, name, value)
    {
        const char *shard_name = json_string_value(value);
        const json_int_t file = json_integer_value(json_object_get(opened, shard_name));
        const ps_safetensors_tensor *t = ps_safetensors_find(self, name);
        if (!t || t->file != file) {
            return PS_FAIL(PS_ERR_FORMAT, "%s: tensor %s is not in its shard %s", index_path, name,
                           shard_name);
        }
    }
    for (int i = 0; i < self->n_tensors; i++) {
        const ps_safetensors_tensor *t = &self->tensors[i];
        if (json_object_get(weight_map, t->name)) continue;
        return PS_FAIL(PS_ERR_FORMAT, "%s: tensor %s is not in the index",
                       ps_safetensors_file(self, t), t->name);
    }
    return PS_OK;
}

static ps_err open_set(ps_safetensors *self, const char *index_path, const json_t *index)
{
    json_t *weight_map;
    PS_TRY(ps_json_get(index, "weight_map", JSON_OBJECT, index_path, &weight_map));
    json_t *opened = json_object();
    ps_err err = PS_OK;
    const char *name;
    json_t *value;
    json_object_foreach(weight_map, name, value)
    {
        if (json_is_string(value)) {
            err = open_shard_once(self, index_path, value, opened);
        } else {
            err = PS_FAIL(PS_ERR_FORMAT, "%s: weight_map of %.512s is not a string", index_path,
                          name);
        }
        if (err) goto out;
    }
    err = sort_names(self);
    if (!err) err = check_index(self, index_path, weight_map, opened);
out:
    json_decref(opened);
    return err;
}

static ps_err open_index(ps_safetensors *self, const char *path)
{
    ps_file_map map;
    PS_TRY(ps_file_map_open(path, &map));
    json_t *index = NULL;
    ps_err err = PS_OK;
    if (map.bytes > PS_SAFETENSORS_MAX_HEADER_BYTES) {
        err = PS_FAIL(PS_ERR_FORMAT, "%s: has %zu bytes, wanted at most %d", path, map.bytes,
                      PS_SAFETENSORS_MAX_HEADER_BYTES);
    }
    if (!err) err = ps_json_parse((const char *)map.data, map.bytes, path, &index);
    ps_file_map_close(&map);
    if (!err && !json_is_object(index)) {
        err = PS_FAIL(PS_ERR_FORMAT, "%s: is not a JSON object", path);
    }
    if (!err) err = open_set(self, path, index);
    json_decref(index);
    return err;
}

/* ---- what a path means ---- */

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

static ps_err open_single(ps_safetensors *self, const char *path)
{
    ps_err err = open_file(self, path);
    return err ? err : sort_names(self);
}

/* The only name in the directory that ends in .safetensors; *count tells how many there are. Names
 * that begin with a dot are leavings of other systems. */
static char *only_candidate(const char *directory, int *count)
{
    char *found = NULL;
    *count = 0;
    DIR *d = opendir(directory);
    if (!d) return NULL;
    for (struct dirent *file; (file = readdir(d));) {
        const char *name = file->d_name;
        if (name[0] == '.' || !ends_with(name, ".safetensors")) continue;
        if ((*count)++ == 0) found = join(directory, strlen(directory), name);
    }
    closedir(d);
    return found;
}

static ps_err open_directory(ps_safetensors *self, const char *directory)
{
    const size_t n = strlen(directory);
    char *single = join(directory, n, SINGLE_NAME), *index = join(directory, n, INDEX_NAME);
    char *other = NULL;
    int count = 0;
    ps_err err;
    if (access(single, F_OK) == 0) {
        err = open_single(self, single);
    } else if (access(index, F_OK) == 0) {
        err = open_index(self, index);
    } else if ((other = only_candidate(directory, &count)) && count == 1) {
        err = open_single(self, other);
    } else {
        err = PS_FAIL(PS_ERR_IO,
                      "%s: holds neither " SINGLE_NAME " nor " INDEX_NAME
                      ", and %d other *.safetensors files where one would do",
                      directory, count);
    }
    ps_mem_free(other);
    ps_mem_free(index);
    ps_mem_free(single);
    return err;
}

ps_err ps_safetensors_open(const char *path, ps_safetensors **out)
{
    ps_safetensors *self = ps_mem_new(1, sizeof *self);
    struct stat status;
    ps_err err;
    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode)) {
        err = open_directory(self, path);
    } else if (ends_with(path, ".index.json")) {
        err = open_index(self, path);
    } else {
        err = open_single(self, path);
    }
    if (err) {
        ps_safetensors_close(self);
        self = NULL;
    }
    *out = self;
    return err;
}

void ps_safetensors_close(ps_safetensors *self)
{
    if (!self) return;
    for (int i = 0; i < self->n_tensors; i++) {
        ps_mem_free((void *)(uintptr_t)self->tensors[i].name);
    }
    for (int i = 0; i < self->n_shards; i++) {
        ps_file_map_close(&self->shards[i].map);
        ps_mem_free(self->shards[i].path);
    }
    ps_mem_free(self->by_name);
    ps_mem_free(self->tensors);
    ps_mem_free(self->shards);
    ps_mem_free(self);
}

/* ---- looking at an open one ---- */

int ps_safetensors_count(const ps_safetensors *self)
{
    return self->n_tensors;
}

const ps_safetensors_tensor *ps_safetensors_at(const ps_safetensors *self, int index)
{
    assert(index >= 0 && index < self->n_tensors);
    return &self->tensors[index];
}

int ps_safetensors_index(const ps_safetensors *self, const ps_safetensors_tensor *tensor)
{
    assert(tensor >= self->tensors && tensor < self->tensors + self->n_tensors);
    return (int)(tensor - self->tensors);
}

const char *ps_safetensors_file(const ps_safetensors *self, const ps_safetensors_tensor *tensor)
{
    assert(tensor->file >= 0 && tensor->file < self->n_shards);
    return self->shards[tensor->file].path;
}

const char *ps_safetensors_dtype_name(ps_safetensors_dtype dtype)
{
    assert(dtype < PS_SAFETENSORS_DTYPE_COUNT);
    return dtypes[dtype].name;
}

size_t ps_safetensors_dtype_bytes(ps_safetensors_dtype dtype)
{
    assert(dtype < PS_SAFETENSORS_DTYPE_COUNT);
    return dtypes[dtype].bytes;
}
