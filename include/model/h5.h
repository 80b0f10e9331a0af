/* Typed arrays in HDF5 files: the only door to the HDF5 library.
 *
 * Reading trusts nothing: a file is opened read-only without locks, only hard links are followed,
 * no external storage, no filters other than deflate, shuffle and fletcher32, types must be one of
 * the list, sizes are multiplied with overflow checks and must lie inside the file. Values are
 * moved as they are stored; HDF5 never converts a number.
 *
 * Writing goes to a temporary name and becomes visible, complete and fsynced, with ps_h5_commit.
 * Equal contents give equal files: no object times, format bounds V18..V110. Datasets of 64 KiB and
 * more begin at a multiple of 4096 and are contiguous, so that they can be mapped.
 *
 * Not thread-safe.   MPI: local.   Errors: PS_ERR_IO, PS_ERR_FORMAT, PS_ERR_SHAPE with file and
 * dataset.
 */
#ifndef PS_MODEL_H5_H
#define PS_MODEL_H5_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/text.h"

typedef enum ps_h5_type {
    PS_H5_U8,
    PS_H5_I32,
    PS_H5_I64,
    PS_H5_F16,
    PS_H5_BF16,
    PS_H5_F32,
    PS_H5_F64,
    PS_H5_TYPE_COUNT
} ps_h5_type;

enum { PS_H5_RANK_MAX = 8 };

const char *ps_h5_type_name(ps_h5_type type);
size_t ps_h5_type_bytes(ps_h5_type type);

/* ---- reading ---- */

typedef struct ps_h5_file ps_h5_file;

#define PS_H5_NOT_MAPPABLE UINT64_MAX

typedef struct ps_h5_info {
    ps_h5_type type;
    int rank;
    uint64_t dims[PS_H5_RANK_MAX];
    size_t values, bytes; // products, checked
    uint64_t offset;      // of the first byte in the file; PS_H5_NOT_MAPPABLE if chunked or compact
} ps_h5_info;

ps_err ps_h5_open(const char *path, ps_h5_file **out) PS_MUST_CHECK;
void ps_h5_close(ps_h5_file *file);

bool ps_h5_exists(ps_h5_file *file, const char *name);
ps_err ps_h5_find(ps_h5_file *file, const char *name, ps_h5_info *out) PS_MUST_CHECK;

/* The whole dataset into out[info->bytes]; info from ps_h5_find. */
ps_err ps_h5_read(ps_h5_file *file, const char *name, const ps_h5_info *info,
                  void *out) PS_MUST_CHECK;

/* Rows first_row .. + n_rows of a dataset, counted on its first axis. */
ps_err ps_h5_read_rows(ps_h5_file *file, const char *name, const ps_h5_info *info,
                       uint64_t first_row, uint64_t n_rows, void *out) PS_MUST_CHECK;

/* A dataset of bytes (u8, rank 1) of at most `limit`, appended to *out. */
ps_err ps_h5_read_bytes(ps_h5_file *file, const char *name, size_t limit,
                        ps_text *out) PS_MUST_CHECK;

/* Attributes of an object ("/" for the root). Text: fixed-length strings of at most 4095 bytes. */
bool ps_h5_has_attribute(ps_h5_file *file, const char *object, const char *name);
ps_err ps_h5_attribute_text(ps_h5_file *file, const char *object, const char *name,
                            ps_text *out) PS_MUST_CHECK;
ps_err ps_h5_attribute_int(ps_h5_file *file, const char *object, const char *name,
                           int64_t *out) PS_MUST_CHECK;
ps_err ps_h5_attribute_real(ps_h5_file *file, const char *object, const char *name,
                            double *out) PS_MUST_CHECK;

/* ---- writing ---- */

typedef struct ps_h5_writer ps_h5_writer;
typedef int64_t ps_h5_dataset; // handle, valid until commit or abandon

ps_err ps_h5_create(const char *path, ps_h5_writer **out) PS_MUST_CHECK;

/* A contiguous dataset, groups on the way made as needed. dims[0] is the row dimension. */
ps_err ps_h5_begin(ps_h5_writer *w, const char *name, ps_h5_type type, int rank,
                   const uint64_t *dims, ps_h5_dataset *out) PS_MUST_CHECK;
ps_err ps_h5_write_rows(ps_h5_writer *w, ps_h5_dataset dataset, uint64_t first_row, uint64_t n_rows,
                        const void *data) PS_MUST_CHECK;
ps_err ps_h5_end(ps_h5_writer *w, ps_h5_dataset dataset) PS_MUST_CHECK;

/* Rows of a dataset that was begun and ended before; and rows of one plane of a rank-3 dataset,
 * whose dims[0] counts the planes. */
ps_err ps_h5_overwrite_rows(ps_h5_writer *w, const char *name, uint64_t first_row, uint64_t n_rows,
                            const void *data) PS_MUST_CHECK;
ps_err ps_h5_overwrite_plane(ps_h5_writer *w, const char *name, uint64_t plane, uint64_t first_row,
                             uint64_t n_rows, const void *data) PS_MUST_CHECK;

/* The three in one. */
ps_err ps_h5_put(ps_h5_writer *w, const char *name, ps_h5_type type, int rank, const uint64_t *dims,
                 const void *data) PS_MUST_CHECK;
ps_err ps_h5_put_attribute_text(ps_h5_writer *w, const char *object, const char *name,
                                const char *value) PS_MUST_CHECK;
ps_err ps_h5_put_attribute_int(ps_h5_writer *w, const char *object, const char *name,
                               int64_t value) PS_MUST_CHECK;
ps_err ps_h5_put_attribute_real(ps_h5_writer *w, const char *object, const char *name,
                                double value) PS_MUST_CHECK;

/* One file by several writers in turn: the first creates it and hands it over, which closes it
 * under its temporary name; each of the others appends to that file and commits (close, fsync) or
 * abandons (close) its part; the first commits or abandons the whole. Only one has it open at a
 * time. */
ps_err ps_h5_hand_over(ps_h5_writer *w) PS_MUST_CHECK;
const char *ps_h5_temporary(const ps_h5_writer *w); // borrowed
ps_err ps_h5_append(const char *temporary, ps_h5_writer **out) PS_MUST_CHECK;

/* Close, fsync, rename. Releases the writer in every case; on error nothing is left behind. */
ps_err ps_h5_commit(ps_h5_writer *w) PS_MUST_CHECK;
void ps_h5_abandon(ps_h5_writer *w);

/* "1.10.8", the version of the library in use; out[16]. */
void ps_h5_library_version(char *out);

#endif
