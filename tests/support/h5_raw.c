#include "support/h5_raw.h"

#include <check.h>
#include <string.h>

#include "base/mem.h"

#define GOOD(call) ck_assert_msg((call) >= 0, #call " failed")

static hid_t open_file(const char *path)
{
    const hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    ck_assert_msg(file >= 0, "%s cannot be opened for changes", path);
    return file;
}

void h5_raw_create(const char *path)
{
    const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    GOOD(file);
    GOOD(H5Fclose(file));
}

/* ---- repack ---- */

typedef struct copy {
    hid_t from, to;
} copy;

static hid_t packed_properties(int rank, const hsize_t *dims)
{
    const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t chunk[H5S_MAX_RANK], values = 1;
    for (int d = 0; d < rank; d++) {
        values *= dims[d];
        chunk[d] = dims[d] > 5 ? (dims[d] + 2) / 3 : dims[d];
    }
    if (rank == 0 || values <= 64) return properties;
    GOOD(H5Pset_chunk(properties, rank, chunk));
    GOOD(H5Pset_shuffle(properties));
    GOOD(H5Pset_deflate(properties, 6));
    GOOD(H5Pset_fletcher32(properties));
    return properties;
}

static void copy_dataset(const copy *c, const char *name)
{
    const hid_t from = H5Dopen2(c->from, name, H5P_DEFAULT);
    const hid_t space = H5Dget_space(from), type = H5Dget_type(from);
    hsize_t dims[H5S_MAX_RANK] = {0};
    const int rank = H5Sget_simple_extent_dims(space, dims, NULL);
    GOOD(rank);
    const hid_t links = H5Pcreate(H5P_LINK_CREATE), properties = packed_properties(rank, dims);
    GOOD(H5Pset_create_intermediate_group(links, 1));
    const hid_t to = H5Dcreate2(c->to, name, type, space, links, properties, H5P_DEFAULT);
    GOOD(to);
    const hssize_t values = H5Sget_simple_extent_npoints(space);
    char *data = ps_mem_new((size_t)values, H5Tget_size(type));
    GOOD(H5Dread(from, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data));
    GOOD(H5Dwrite(to, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data));
    ps_mem_free(data);
    H5Dclose(to);
    H5Pclose(properties);
    H5Pclose(links);
    H5Tclose(type);
    H5Sclose(space);
    H5Dclose(from);
}

static herr_t visit(hid_t object, const char *name, const H5O_info_t *info, void *arg)
{
    (void)object;
    if (info->type == H5O_TYPE_DATASET) copy_dataset(arg, name);
    return 0;
}

static herr_t copy_attribute(hid_t object, const char *name, const H5A_info_t *info, void *arg)
{
    (void)info;
    const copy *c = arg;
    const hid_t from = H5Aopen(object, name, H5P_DEFAULT);
    const hid_t type = H5Aget_type(from), space = H5Aget_space(from);
    const hid_t to = H5Acreate2(c->to, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    char data[4096] = "";
    ck_assert_uint_le(H5Tget_size(type), sizeof data);
    GOOD(H5Aread(from, type, data));
    GOOD(H5Awrite(to, type, data));
    H5Aclose(to);
    H5Sclose(space);
    H5Tclose(type);
    H5Aclose(from);
    return 0;
}

void h5_raw_repack(const char *from, const char *to)
{
    copy c = {.from = open_file(from)};
    c.to = H5Fcreate(to, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    GOOD(c.to);
    GOOD(H5Aiterate2(c.from, H5_INDEX_NAME, H5_ITER_INC, NULL, copy_attribute, &c));
    GOOD(H5Ovisit(c.from, H5_INDEX_NAME, H5_ITER_INC, visit, &c));
    GOOD(H5Fclose(c.to));
    GOOD(H5Fclose(c.from));
}

/* ---- datasets ---- */

static hid_t make_space(int rank, const hsize_t *dims)
{
    const hid_t space = rank < 0    ? H5Screate(H5S_NULL)
                        : rank == 0 ? H5Screate(H5S_SCALAR)
                                    : H5Screate_simple(rank, dims, NULL);
    GOOD(space);
    return space;
}

static hid_t make_properties(const h5_raw_dataset *d)
{
    const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t chunk[H5S_MAX_RANK];
    for (int i = 0; i < d->rank; i++) {
        chunk[i] = d->dims[i] < 16 ? d->dims[i] : 16;
    }
    switch (d->layout) {
    case H5_RAW_CHUNKED:
        GOOD(H5Pset_chunk(properties, d->rank, chunk));
        break;
    case H5_RAW_COMPACT:
        GOOD(H5Pset_layout(properties, H5D_COMPACT));
        break;
    case H5_RAW_EXTERNAL:
        GOOD(H5Pset_external(properties, "outside.bin", 0, H5F_UNLIMITED));
        break;
    case H5_RAW_UNWRITTEN:
        GOOD(H5Pset_alloc_time(properties, H5D_ALLOC_TIME_LATE));
        break;
    default:
        break;
    }
    return properties;
}

void h5_raw_put(const char *path, const h5_raw_dataset *d)
{
    const hid_t file = open_file(path), space = make_space(d->rank, d->dims);
    const hid_t links = H5Pcreate(H5P_LINK_CREATE), properties = make_properties(d);
    GOOD(H5Pset_create_intermediate_group(links, 1));
    H5E_BEGIN_TRY
    {
        H5Ldelete(file, d->name, H5P_DEFAULT); // there need not be one
    }
    H5E_END_TRY;
    const hid_t dataset = H5Dcreate2(file, d->name, d->type, space, links, properties, H5P_DEFAULT);
    GOOD(dataset);
    if (d->data) GOOD(H5Dwrite(dataset, d->type, H5S_ALL, H5S_ALL, H5P_DEFAULT, d->data));
    H5Dclose(dataset);
    H5Pclose(properties);
    H5Pclose(links);
    H5Sclose(space);
    GOOD(H5Fclose(file));
}

void h5_raw_put_text(const char *path, const char *name, const void *text, size_t n)
{
    const hsize_t dims[1] = {n};
    h5_raw_put(path, &(h5_raw_dataset){.name = name,
                                       .type = H5T_STD_U8LE,
                                       .rank = 1,
                                       .dims = dims,
                                       .data = n > 0 ? text : NULL});
}

void h5_raw_delete(const char *path, const char *name)
{
    const hid_t file = open_file(path);
    GOOD(H5Ldelete(file, name, H5P_DEFAULT));
    GOOD(H5Fclose(file));
}

void h5_raw_rename(const char *path, const char *from, const char *to)
{
    const hid_t file = open_file(path);
    GOOD(H5Lmove(file, from, file, to, H5P_DEFAULT, H5P_DEFAULT));
    GOOD(H5Fclose(file));
}

void h5_raw_soft_link(const char *path, const char *target, const char *name)
{
    const hid_t file = open_file(path);
    GOOD(H5Lcreate_soft(target, file, name, H5P_DEFAULT, H5P_DEFAULT));
    GOOD(H5Fclose(file));
}

void h5_raw_external_link(const char *path, const char *file_name, const char *target,
                          const char *name)
{
    const hid_t file = open_file(path);
    GOOD(H5Lcreate_external(file_name, target, file, name, H5P_DEFAULT, H5P_DEFAULT));
    GOOD(H5Fclose(file));
}

/* ---- attributes ---- */

void h5_raw_put_attribute(const char *path, const char *name, hid_t type, int rank,
                          const hsize_t *dims, const void *value)
{
    const hid_t file = open_file(path), space = make_space(rank, dims);
    if (H5Aexists(file, name) > 0) GOOD(H5Adelete(file, name));
    const hid_t attribute = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    GOOD(attribute);
    if (rank >= 0) GOOD(H5Awrite(attribute, type, value));
    H5Aclose(attribute);
    H5Sclose(space);
    GOOD(H5Fclose(file));
}

void h5_raw_put_attribute_text(const char *path, const char *name, const char *value)
{
    const hid_t type = H5Tcopy(H5T_C_S1);
    GOOD(H5Tset_size(type, strlen(value) + 1));
    h5_raw_put_attribute(path, name, type, 0, NULL, value);
    H5Tclose(type);
}

void h5_raw_put_attribute_variable_text(const char *path, const char *name, const char *value)
{
    const hid_t type = H5Tcopy(H5T_C_S1);
    GOOD(H5Tset_size(type, H5T_VARIABLE));
    h5_raw_put_attribute(path, name, type, 0, NULL, &value);
    H5Tclose(type);
}

void h5_raw_delete_attribute(const char *path, const char *name)
{
    const hid_t file = open_file(path);
    GOOD(H5Adelete(file, name));
    GOOD(H5Fclose(file));
}
