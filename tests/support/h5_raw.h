/* HDF5 files changed behind the program's back, with the library's own calls: what h5repack, h5py,
 * and people who mean no good can do to a model file.
 *
 * Any failure of the library fails the test.   MPI: local.
 */
#ifndef TESTS_SUPPORT_H5_RAW_H
#define TESTS_SUPPORT_H5_RAW_H

#include <hdf5.h>
#include <stddef.h>
#include <stdint.h>

/* A new file that holds nothing. */
void h5_raw_create(const char *path);

/* Copies all datasets and the attributes of the root; datasets of more than 64 values become
 * chunked, shuffled, deflated and checksummed. */
void h5_raw_repack(const char *from, const char *to);

typedef enum h5_raw_layout {
    H5_RAW_CONTIGUOUS,
    H5_RAW_CHUNKED,
    H5_RAW_COMPACT,
    H5_RAW_EXTERNAL, // in the file "outside.bin"
    H5_RAW_UNWRITTEN // contiguous, without room in the file
} h5_raw_layout;

typedef struct h5_raw_dataset {
    const char *name;
    hid_t type; // borrowed
    int rank;   // -1: a null dataspace
    const hsize_t *dims;
    h5_raw_layout layout;
    const void *data; // NULL: nothing is written
} h5_raw_dataset;

/* Makes a dataset, in place of an old one of that name. */
void h5_raw_put(const char *path, const h5_raw_dataset *dataset);

/* /name as u8 [n] with these bytes, in place of the old one. */
void h5_raw_put_text(const char *path, const char *name, const void *text, size_t n);

void h5_raw_delete(const char *path, const char *name);
void h5_raw_rename(const char *path, const char *from, const char *to);

/* Links of the three kinds that lead elsewhere. */
void h5_raw_soft_link(const char *path, const char *target, const char *name);
void h5_raw_external_link(const char *path, const char *file, const char *target, const char *name);

/* Attributes of the root, in place of old ones. Text: fixed length, or variable. */
void h5_raw_put_attribute_text(const char *path, const char *name, const char *value);
void h5_raw_put_attribute_variable_text(const char *path, const char *name, const char *value);
void h5_raw_put_attribute(const char *path, const char *name, hid_t type, int rank,
                          const hsize_t *dims, const void *value);
void h5_raw_delete_attribute(const char *path, const char *name);

#endif
