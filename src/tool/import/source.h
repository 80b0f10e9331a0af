/* The tensors of a foreign model, whatever its file format, as the converter walks them.
 *
 * A reader (safetensors, gguf) fills one entry for each tensor, in the order of the files and of
 * their data, and stays open while the source is used. Rows are stored one behind the other;
 * quantised types in the blocks of math/dtype.h.
 *
 * Cost: n log n for the names.   Errors: none.   MPI: local.
 */
#ifndef PS_TOOL_IMPORT_SOURCE_H
#define PS_TOOL_IMPORT_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

#include "math/dtype.h"

enum { PS_SOURCE_DIMS_MAX = 8 };

typedef struct ps_source_tensor {
    const char *name, *file, *type_name; // borrowed from the reader; "BF16"
    bool supported;                      // dtype is one that a model file holds
    ps_dtype dtype;
    int n_dims;
    size_t shape[PS_SOURCE_DIMS_MAX]; // outermost first
    const unsigned char *data;        // at any address
    size_t bytes;
    // mxfp4 as Hugging Face has it: data holds 16 bytes a block of 32 values, value 2b and 2b+1 in
    // byte b; the blocks' exponents lie here. NULL for everything else.
    const unsigned char *exponents;
    bool used;
} ps_source_tensor;

typedef struct ps_source {
    int n;
    ps_source_tensor *tensors; // [n] owned
    int *by_name;              // [n] owned
    char **joined;             // [n_joined] names of joined tensors, owned
    size_t n_joined;
} ps_source;

/* Room for n tensors, to be filled; then ps_source_sort, once. */
void ps_source_take(ps_source *source, int n);
void ps_source_sort(ps_source *source);
void ps_source_release(ps_source *source);

/* NULL when there is none of that name. */
ps_source_tensor *ps_source_find(const ps_source *source, const char *name);

/* Makes one tensor NAME of type mxfp4 of each pair NAME_blocks [.., G, 16] and NAME_scales [.., G]
 * of bytes; its shape is [.., 32 G]. Call before ps_source_sort. */
void ps_source_join_mxfp4(ps_source *source);

/* Values of a tensor's shape. */
size_t ps_source_values(const ps_source_tensor *tensor);

/* Tells the kernel what becomes of a tensor's pages. NEED before reading it: they are fetched
 * ahead. DONE behind it: they leave this process's resident memory, so that a model of any size
 * passes through a small one. */
typedef enum ps_source_hint { PS_SOURCE_NEED, PS_SOURCE_DONE } ps_source_hint;
void ps_source_advise(const ps_source_tensor *tensor, ps_source_hint hint);

#endif
