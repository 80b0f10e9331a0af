/* Inside of the GGUF reader: what its files share.   MPI: local. */
#ifndef PS_TOOL_IMPORT_GGUF_PARTS_H
#define PS_TOOL_IMPORT_GGUF_PARTS_H

#include "base/file.h"
#include "tool/import/gguf.h"

/* The keys of one file. */
typedef struct ps_gguf_keys {
    int n;
    ps_gguf_value *values; // [n] in the order of the file; keys are owned
    int *by_key;           // [n] sorted by key
} ps_gguf_keys;

typedef struct ps_gguf_part {
    char *path; // owned
    ps_file_map map;
    ps_gguf_keys keys;
    int first_tensor, n_tensors; // of ps_gguf.tensors
} ps_gguf_part;

struct ps_gguf {
    ps_gguf_part *parts;
    size_t parts_capacity;
    int n_parts;
    ps_gguf_tensor *tensors; // names are owned
    size_t tensors_capacity;
    int n_tensors;
    int *by_name; // [n_tensors] sorted by name
    bool *used;   // [keys of the first part]
    char **texts; // [keys of the first part] copies that end with NUL, made when asked for
};

/* Opens a file as the next part and reads its head: keys and tensors, checked within the file. */
ps_err ps_gguf_read_part(ps_gguf *self, const char *path) PS_MUST_CHECK;

const ps_gguf_value *ps_gguf_keys_find(const ps_gguf_keys *keys, const char *key);

/* An integer of a part's own metadata; *out is left alone when the key is absent. */
ps_err ps_gguf_part_int(const ps_gguf_part *part, const char *key, int64_t min, int64_t max,
                        int64_t *out) PS_MUST_CHECK;

static inline uint32_t ps_gguf_u32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t ps_gguf_u64(const unsigned char *p)
{
    return (uint64_t)ps_gguf_u32(p) | (uint64_t)ps_gguf_u32(p + 4) << 32;
}

/* Bytes of a value of a kind of fixed size; 0 for strings and arrays. */
size_t ps_gguf_kind_bytes(ps_gguf_kind kind);

#endif
