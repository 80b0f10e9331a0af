/* Reader of GGUF: one file, or the files of a split model.
 *
 *   file    = "GGUF", u32 version (2 or 3), u64 tensors, u64 keys, metadata, tensor infos, padding,
 *             data; little endian
 *   key     = string, u32 kind, value;   string = u64 length, bytes;   array = u32 kind, u64 n,
 *             elements
 *   tensor  = string, u32 number of dimensions, u64 dimensions (the contiguous one first),
 *             u32 type, u64 offset from the start of the data, a multiple of general.alignment (32)
 *   split   = NAME-00001-of-000NN.gguf ...; split.no, split.count, split.tensors.count in each
 *
 * Files are mapped, so that opening costs the heads only. Everything is checked before the first
 * value or tensor can be seen: each length against the file, kinds, keys and names that come twice,
 * shapes and sizes without overflow, and that the tensors fill the data without overlap and with no
 * holes but the padding. Of a split model each part must be there and say that it is the one.
 *
 * The metadata are those of the first file. A file may hold no tensor (a vocabulary). Every getter
 * marks its key as used, so that a reader of architectures can tell which nobody understood.
 *
 * Cost: parsing the heads, n log n for the names.   MPI: local.
 * Errors: PS_ERR_IO; PS_ERR_FORMAT with file and key or tensor; PS_ERR_UNSUPPORTED for big-endian
 * files, version 1, nested arrays and types of no known name; PS_ERR_LIMIT for too many of
 * anything.
 */
#ifndef PS_TOOL_IMPORT_GGUF_H
#define PS_TOOL_IMPORT_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    PS_GGUF_MAX_DIMS = 4,
    PS_GGUF_MAX_NAME_BYTES = 512, // of a tensor; the format's own limit is 64
    PS_GGUF_MAX_KEY_BYTES = 65535,
    PS_GGUF_MAX_TENSORS = 1 << 20, // of all parts
    PS_GGUF_MAX_KEYS = 1 << 20,    // of a part
    PS_GGUF_MAX_PARTS = 10000
};

/* Kinds of metadata values, as numbered in the file. */
typedef enum ps_gguf_kind {
    PS_GGUF_U8,
    PS_GGUF_I8,
    PS_GGUF_U16,
    PS_GGUF_I16,
    PS_GGUF_U32,
    PS_GGUF_I32,
    PS_GGUF_F32,
    PS_GGUF_BOOL,
    PS_GGUF_STRING,
    PS_GGUF_ARRAY,
    PS_GGUF_U64,
    PS_GGUF_I64,
    PS_GGUF_F64,
    PS_GGUF_KIND_COUNT
} ps_gguf_kind;

/* One value of the metadata. Borrowed until ps_gguf_close. */
typedef struct ps_gguf_value {
    const char *key;
    bool is_array;
    ps_gguf_kind kind;         // of the value, or of an array's elements; never PS_GGUF_ARRAY
    size_t n;                  // elements; 1 for a single value
    const unsigned char *data; // where they lie in the file, at any address
    size_t bytes;
} ps_gguf_value;

/* One tensor. Rows are those of ggml, in blocks of its type, little endian. Borrowed until
 * ps_gguf_close. */
typedef struct ps_gguf_tensor {
    const char *name;
    int type; // number of the ggml type
    int n_dims;
    int file;                       // for ps_gguf_file
    size_t shape[PS_GGUF_MAX_DIMS]; // row-major: the file's dimensions in reverse, [.., out, in]
    const unsigned char *data;
    size_t bytes;
} ps_gguf_tensor;

typedef struct ps_gguf ps_gguf;

/* `path` is a file; of a split model the first one. *out is owned by the caller, NULL on error. */
ps_err ps_gguf_open(const char *path, ps_gguf **out) PS_MUST_CHECK;
void ps_gguf_close(ps_gguf *self);

/* ---- metadata ---- */

/* Typed; *out is left alone when the key is absent. Integers may have any width and sign, reals may
 * be integers. A value of another kind, or out of range, is an error. */
ps_err ps_gguf_find_int(ps_gguf *self, const char *key, int64_t min, int64_t max,
                        int64_t *out) PS_MUST_CHECK;
ps_err ps_gguf_find_real(ps_gguf *self, const char *key, double *out) PS_MUST_CHECK;
ps_err ps_gguf_find_bool(ps_gguf *self, const char *key, bool *out) PS_MUST_CHECK;

/* A string without NUL, ended by one. Borrowed until ps_gguf_close. */
ps_err ps_gguf_find_text(ps_gguf *self, const char *key, const char **out) PS_MUST_CHECK;

/* The value itself: NULL when the key is absent. */
const ps_gguf_value *ps_gguf_find(ps_gguf *self, const char *key);

/* An array of a kind: integers of any width for PS_GGUF_I64, numbers for PS_GGUF_F64, else exactly
 * the kind that is asked for. *out is NULL when the key is absent. */
ps_err ps_gguf_find_array(ps_gguf *self, const char *key, ps_gguf_kind kind,
                          const ps_gguf_value **out) PS_MUST_CHECK;

/* Element i of a value of a fitting kind (asserted): booleans and integers, numbers. An integer
 * over INT64_MAX counts as INT64_MAX. */
int64_t ps_gguf_int_at(const ps_gguf_value *value, size_t i);
double ps_gguf_real_at(const ps_gguf_value *value, size_t i);

/* Walks the strings of a value: start with *cursor = 0; false behind the last. The bytes may be
 * anything, and no NUL ends them. */
bool ps_gguf_next_string(const ps_gguf_value *value, size_t *cursor, const char **bytes, size_t *n);

/* All keys, in the order of the file, and whether somebody asked for one. */
int ps_gguf_key_count(const ps_gguf *self);
const ps_gguf_value *ps_gguf_key_at(const ps_gguf *self, int index);
bool ps_gguf_key_is_used(const ps_gguf *self, int index);

/* ---- tensors, in the order of the files and of their data ---- */

int ps_gguf_count(const ps_gguf *self);
const ps_gguf_tensor *ps_gguf_at(const ps_gguf *self, int index);

/* NULL when there is none of that name. Cost: a binary search. */
const ps_gguf_tensor *ps_gguf_find_tensor(const ps_gguf *self, const char *name);

/* Path of the file that a tensor lies in, and of the first file, for messages. */
const char *ps_gguf_file(const ps_gguf *self, const ps_gguf_tensor *tensor);
const char *ps_gguf_path(const ps_gguf *self);

/* A ggml type by its number: name ("Q4_K"; static), values and bytes of a block. NULL, 0 for a
 * number that is no type of data. */
const char *ps_gguf_type_name(int type);
size_t ps_gguf_type_block_values(int type);
size_t ps_gguf_type_block_bytes(int type);

#endif
