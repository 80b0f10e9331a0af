/* Reader of safetensors: one file, or a set of shards with its index.
 *
 *   file   = u64 length N (little endian), N bytes of JSON, data
 *   JSON   = { name: { dtype, shape, data_offsets: [begin, end) }, ..., "__metadata__": {...} }
 *   index  = { "weight_map": { name: file name of the shard, ... } }
 *
 * The files are mapped, so that opening costs the headers only. Everything is checked before the
 * first tensor can be seen: header length, dtypes, shapes, sizes without overflow, and that the
 * tensors of a file cover its data without holes and without overlap. A set must agree with its
 * index in both directions.
 *
 * Tensors are numbered in the order of the files and of their data, so that a loop over all of them
 * reads the disk forwards.
 *
 * Cost: parsing the headers, n log n for the names.   MPI: local.
 * Errors: PS_ERR_IO; PS_ERR_FORMAT and, for a dtype of no known name, PS_ERR_UNSUPPORTED, with file
 * and tensor; PS_ERR_LIMIT for too many tensors or shards.
 */
#ifndef PS_TOOL_IMPORT_SAFETENSORS_H
#define PS_TOOL_IMPORT_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    PS_SAFETENSORS_MAX_DIMS = 8,
    PS_SAFETENSORS_MAX_NAME_BYTES = 512,
    PS_SAFETENSORS_MAX_TENSORS = 1 << 20,
    PS_SAFETENSORS_MAX_SHARDS = 10000,
    PS_SAFETENSORS_MAX_HEADER_BYTES = 100 * 1000 * 1000, // the limit that the format itself sets
};

typedef enum ps_safetensors_dtype {
    PS_SAFETENSORS_F64,
    PS_SAFETENSORS_F32,
    PS_SAFETENSORS_F16,
    PS_SAFETENSORS_BF16,
    PS_SAFETENSORS_F8_E4M3,
    PS_SAFETENSORS_F8_E5M2,
    PS_SAFETENSORS_I64,
    PS_SAFETENSORS_I32,
    PS_SAFETENSORS_I16,
    PS_SAFETENSORS_I8,
    PS_SAFETENSORS_U64,
    PS_SAFETENSORS_U32,
    PS_SAFETENSORS_U16,
    PS_SAFETENSORS_U8,
    PS_SAFETENSORS_BOOL,
    PS_SAFETENSORS_DTYPE_COUNT
} ps_safetensors_dtype;

/* One tensor, row-major, little endian. Borrowed until ps_safetensors_close. */
typedef struct ps_safetensors_tensor {
    const char *name;
    ps_safetensors_dtype dtype;
    int n_dims; // 0: a single value
    int file;   // for ps_safetensors_file
    size_t shape[PS_SAFETENSORS_MAX_DIMS];
    const unsigned char *data; // at any address: the format aligns nothing
    size_t bytes;
} ps_safetensors_tensor;

typedef struct ps_safetensors ps_safetensors;

/* `path` is a safetensors file, an index (a name that ends in ".index.json"), or a directory. In a
 * directory model.safetensors is looked for, then model.safetensors.index.json, then any name
 * ending in .safetensors if there is exactly one. *out is owned by the caller, NULL on error. */
ps_err ps_safetensors_open(const char *path, ps_safetensors **out) PS_MUST_CHECK;
void ps_safetensors_close(ps_safetensors *self);

int ps_safetensors_count(const ps_safetensors *self);
const ps_safetensors_tensor *ps_safetensors_at(const ps_safetensors *self, int index);

/* NULL when there is none of that name. Cost: a binary search. */
const ps_safetensors_tensor *ps_safetensors_find(const ps_safetensors *self, const char *name);

/* The number under which ps_safetensors_at gives this tensor. */
int ps_safetensors_index(const ps_safetensors *self, const ps_safetensors_tensor *tensor);

/* Path of the file that a tensor lies in, for messages. Borrowed until ps_safetensors_close. */
const char *ps_safetensors_file(const ps_safetensors *self, const ps_safetensors_tensor *tensor);

const char *ps_safetensors_dtype_name(ps_safetensors_dtype dtype); // "BF16"; static
size_t ps_safetensors_dtype_bytes(ps_safetensors_dtype dtype);     // of one value

#endif
