/* Reading, with every size checked before it is believed. */
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/h5_types.h"

struct ps_h5_file {
    hid_t id;
    char *path; // owned
    uint64_t file_bytes;
};

static ps_err open_library_file(const char *path, hid_t *out)
{
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    ps_h5_lock_nothing(access);
    *out = access < 0 ? -1 : H5Fopen(path, H5F_ACC_RDONLY, access);
    ps_err err = PS_OK;
    if (*out < 0) {
        err = ps_h5_fail(PS_ERR_FORMAT, path, "not an HDF5 file, or a damaged or truncated one");
    }
    H5Pclose(access);
    return err;
}

ps_err ps_h5_open(const char *path, ps_h5_file **out)
{
    *out = NULL;
    ps_h5_quiet();
    // Our own look first: HDF5's messages for missing files, directories and FIFOs are poor.
    uint64_t bytes;
    char head[8];
    PS_TRY(ps_file_peek(path, 0, head, sizeof head, &bytes));
    const bool magic = memcmp(head, "\211HDF\r\n\032\n", 8) == 0;
    if (bytes == 0) return PS_FAIL(PS_ERR_FORMAT, "%s: the file is empty", path);
    if (!magic) return PS_FAIL(PS_ERR_FORMAT, "%s: not an HDF5 file", path);
    hid_t id;
    PS_TRY(open_library_file(path, &id));
    ps_h5_file *file = ps_mem_new(1, sizeof *file);
    *file = (ps_h5_file){.id = id, .path = ps_mem_copy_text(path), .file_bytes = bytes};
    *out = file;
    return PS_OK;
}

void ps_h5_close(ps_h5_file *file)
{
    if (!file) return;
    H5Fclose(file->id);
    ps_mem_free(file->path);
    ps_mem_free(file);
}

/* True when every part of the path is a hard link, so that nothing outside the file is opened. */
static bool is_hard_path(ps_h5_file *file, const char *name)
{
    if (strcmp(name, "/") == 0) return true;
    char *path = ps_mem_copy_text(name);
    bool hard = true;
    for (char *p = path + 1; hard; p++) {
        if (*p != '/' && *p != '\0') continue;
        const char kept = *p;
        *p = '\0';
        H5L_info_t info;
        hard = H5Lget_info(file->id, path, &info, H5P_DEFAULT) >= 0 && info.type == H5L_TYPE_HARD;
        *p = kept;
        if (kept == '\0') break;
    }
    ps_mem_free(path);
    return hard;
}

bool ps_h5_exists(ps_h5_file *file, const char *name)
{
    return is_hard_path(file, name);
}

static ps_err open_dataset(ps_h5_file *file, const char *name, hid_t *out)
{
    *out = -1;
    if (!is_hard_path(file, name))
        return PS_FAIL(PS_ERR_FORMAT, "%s: %s is missing (or not a plain dataset)", file->path,
                       name);
    *out = H5Dopen2(file->id, name, H5P_DEFAULT);
    if (*out < 0) return ps_h5_fail(PS_ERR_FORMAT, file->path, name);
    return PS_OK;
}

static ps_err find_type(ps_h5_file *file, const char *name, hid_t dataset, ps_h5_type *out)
{
    const hid_t type = H5Dget_type(dataset);
    bool found = false;
    for (int t = 0; t < PS_H5_TYPE_COUNT && !found && type >= 0; t++) {
        const hid_t candidate = ps_h5_make_type((ps_h5_type)t);
        if (candidate >= 0 && H5Tequal(type, candidate) > 0) {
            *out = (ps_h5_type)t;
            found = true;
        }
        H5Tclose(candidate);
    }
    if (type >= 0) H5Tclose(type);
    if (!found)
        return PS_FAIL(PS_ERR_FORMAT, "%s: %s has a number type that is not read here", file->path,
                       name);
    return PS_OK;
}

static ps_err find_dims(ps_h5_file *file, const char *name, hid_t dataset, ps_h5_info *out)
{
    const hid_t space = H5Dget_space(dataset);
    const int rank = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
    ps_err err = PS_OK;
    if (rank < 0 || rank > PS_H5_RANK_MAX) {
        err = PS_FAIL(PS_ERR_SHAPE, "%s: %s has rank %d, wanted 0..%d", file->path, name, rank,
                      PS_H5_RANK_MAX);
    } else {
        hsize_t dims[PS_H5_RANK_MAX] = {0};
        if (rank > 0) H5Sget_simple_extent_dims(space, dims, NULL);
        out->rank = rank;
        out->values = 1;
        bool fits = true;
        for (int d = 0; d < rank; d++) {
            out->dims[d] = dims[d];
            fits = fits && ps_mem_mul(out->values, (size_t)dims[d], &out->values);
        }
        fits = fits && ps_mem_mul(out->values, ps_h5_type_bytes(out->type), &out->bytes);
        if (!fits)
            err = PS_FAIL(PS_ERR_SHAPE, "%s: %s has a size that overflows", file->path, name);
    }
    if (space >= 0) H5Sclose(space);
    return err;
}

static bool filters_are_known(hid_t properties)
{
    const int n = H5Pget_nfilters(properties);
    for (int i = 0; i < n; i++) {
        unsigned flags = 0, config = 0;
        size_t n_values = 0;
        const H5Z_filter_t filter =
            H5Pget_filter2(properties, (unsigned)i, &flags, &n_values, NULL, 0, NULL, &config);
        if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE &&
            filter != H5Z_FILTER_FLETCHER32)
            return false;
    }
    return n >= 0;
}

/* Where the values lie, if they lie in one piece of this file. */
static ps_err find_offset(ps_h5_file *file, const char *name, hid_t dataset, ps_h5_info *out)
{
    const hid_t properties = H5Dget_create_plist(dataset);
    if (properties < 0) return ps_h5_fail(PS_ERR_FORMAT, file->path, name);
    const H5D_layout_t layout = H5Pget_layout(properties);
    const bool external = H5Pget_external_count(properties) != 0;
    const bool known = filters_are_known(properties);
    H5Pclose(properties);
    if (external || !known || layout == H5D_VIRTUAL)
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: %s is stored outside the file or with an unknown filter", file->path,
                       name);
    // The library copies as much as the shape wants from a header that may hold less (1.10.8).
    if (layout == H5D_COMPACT && H5Dget_storage_size(dataset) != out->bytes)
        return PS_FAIL(PS_ERR_FORMAT, "%s: %s stores %llu bytes, its shape wants %zu", file->path,
                       name, (unsigned long long)H5Dget_storage_size(dataset), out->bytes);
    out->offset = PS_H5_NOT_MAPPABLE;
    if (layout != H5D_CONTIGUOUS || out->bytes == 0) return PS_OK;
    const haddr_t at = H5Dget_offset(dataset);
    if (at == HADDR_UNDEF)
        return PS_FAIL(PS_ERR_FORMAT, "%s: %s was made but never written", file->path, name);
    size_t end;
    if (!ps_mem_add((size_t)at, out->bytes, &end) || end > file->file_bytes) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: %s needs %zu bytes at offset %llu, the file has %llu",
                       file->path, name, out->bytes, (unsigned long long)at,
                       (unsigned long long)file->file_bytes);
    }
    out->offset = at;
    return PS_OK;
}

ps_err ps_h5_find(ps_h5_file *file, const char *name, ps_h5_info *out)
{
    *out = (ps_h5_info){0};
    hid_t dataset;
    PS_TRY(open_dataset(file, name, &dataset));
    ps_err err = find_type(file, name, dataset, &out->type);
    if (!err) err = find_dims(file, name, dataset, out);
    if (!err) err = find_offset(file, name, dataset, out);
    H5Dclose(dataset);
    return err;
}

ps_err ps_h5_read(ps_h5_file *file, const char *name, const ps_h5_info *info, void *out)
{
    if (info->bytes == 0) return PS_OK;
    hid_t dataset;
    PS_TRY(open_dataset(file, name, &dataset));
    const hid_t type = ps_h5_make_type(info->type);
    ps_err err = PS_OK;
    if (H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) < 0)
        err = ps_h5_fail(PS_ERR_IO, file->path, name);
    H5Tclose(type);
    H5Dclose(dataset);
    return err;
}

ps_err ps_h5_read_rows(ps_h5_file *file, const char *name, const ps_h5_info *info,
                       uint64_t first_row, uint64_t n_rows, void *out)
{
    if (n_rows == 0 || info->bytes == 0) return PS_OK;
    hid_t dataset;
    PS_TRY(open_dataset(file, name, &dataset));
    hsize_t start[PS_H5_RANK_MAX] = {first_row}, count[PS_H5_RANK_MAX] = {n_rows};
    for (int d = 1; d < info->rank; d++) {
        count[d] = info->dims[d];
    }
    const hid_t type = ps_h5_make_type(info->type), space = H5Dget_space(dataset);
    const hid_t memory = H5Screate_simple(info->rank, count, NULL);
    ps_err err = PS_OK;
    if (H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) < 0 ||
        H5Dread(dataset, type, memory, space, H5P_DEFAULT, out) < 0)
        err = ps_h5_fail(PS_ERR_IO, file->path, name);
    H5Sclose(memory);
    H5Sclose(space);
    H5Tclose(type);
    H5Dclose(dataset);
    return err;
}

ps_err ps_h5_read_bytes(ps_h5_file *file, const char *name, size_t limit, ps_text *out)
{
    ps_h5_info info;
    PS_TRY(ps_h5_find(file, name, &info));
    if (info.type != PS_H5_U8 || info.rank != 1)
        return PS_FAIL(PS_ERR_FORMAT, "%s: %s is %s of rank %d, wanted u8 of rank 1", file->path,
                       name, ps_h5_type_name(info.type), info.rank);
    if (info.bytes > limit)
        return PS_FAIL(PS_ERR_LIMIT, "%s: %s has %zu bytes, wanted at most %zu", file->path, name,
                       info.bytes, limit);
    // Read to where it stays: a tokenizer has 10 MB and more.
    const size_t before = out->len;
    out->data = ps_mem_grow(out->data, &out->capacity, before + info.bytes + 1, 1);
    const ps_err err = ps_h5_read(file, name, &info, out->data + before);
    if (!err) out->len += info.bytes;
    out->data[out->len] = '\0';
    return err;
}

bool ps_h5_has_attribute(ps_h5_file *file, const char *object, const char *name)
{
    return is_hard_path(file, object) && H5Aexists_by_name(file->id, object, name, H5P_DEFAULT) > 0;
}

/* Opens a scalar attribute. The caller closes *attribute and *type. */
static ps_err open_attribute(ps_h5_file *file, const char *object, const char *name,
                             hid_t *attribute, hid_t *type)
{
    if (!ps_h5_has_attribute(file, object, name))
        return PS_FAIL(PS_ERR_FORMAT, "%s: %s has no attribute %s", file->path, object, name);
    *attribute = H5Aopen_by_name(file->id, object, name, H5P_DEFAULT, H5P_DEFAULT);
    if (*attribute < 0) return ps_h5_fail(PS_ERR_FORMAT, file->path, name);
    const hid_t space = H5Aget_space(*attribute);
    const bool single = space >= 0 && H5Sget_simple_extent_npoints(space) == 1;
    if (space >= 0) H5Sclose(space);
    *type = single ? H5Aget_type(*attribute) : -1;
    if (*type >= 0) return PS_OK;
    H5Aclose(*attribute);
    return PS_FAIL(PS_ERR_FORMAT, "%s: attribute %s of %s is not a single value", file->path, name,
                   object);
}

ps_err ps_h5_attribute_text(ps_h5_file *file, const char *object, const char *name, ps_text *out)
{
    hid_t attribute = -1, type = -1;
    PS_TRY(open_attribute(file, object, name, &attribute, &type));
    ps_err err = PS_OK;
    const size_t bytes = H5Tget_size(type);
    char buffer[4096] = "";
    if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) > 0 ||
        bytes >= sizeof buffer) {
        err = PS_FAIL(PS_ERR_FORMAT, "%s: attribute %s of %s is not a short fixed-length string",
                      file->path, name, object);
    } else if (H5Aread(attribute, type, buffer) < 0) {
        err = ps_h5_fail(PS_ERR_IO, file->path, name);
    } else {
        ps_text_append_str(out, buffer);
    }
    H5Tclose(type);
    H5Aclose(attribute);
    return err;
}

ps_err ps_h5_attribute_int(ps_h5_file *file, const char *object, const char *name, int64_t *out)
{
    hid_t attribute = -1, type = -1;
    PS_TRY(open_attribute(file, object, name, &attribute, &type));
    ps_err err = PS_OK;
    if (H5Tget_class(type) != H5T_INTEGER) {
        err = PS_FAIL(PS_ERR_FORMAT, "%s: attribute %s of %s is not an integer", file->path, name,
                      object);
    } else if (H5Aread(attribute, H5T_NATIVE_INT64, out) < 0) {
        err = ps_h5_fail(PS_ERR_IO, file->path, name);
    }
    H5Tclose(type);
    H5Aclose(attribute);
    return err;
}

ps_err ps_h5_attribute_real(ps_h5_file *file, const char *object, const char *name, double *out)
{
    hid_t attribute = -1, type = -1;
    PS_TRY(open_attribute(file, object, name, &attribute, &type));
    ps_err err = PS_OK;
    const H5T_class_t kind = H5Tget_class(type);
    if (kind != H5T_FLOAT && kind != H5T_INTEGER) {
        err = PS_FAIL(PS_ERR_FORMAT, "%s: attribute %s of %s is not a number", file->path, name,
                      object);
    } else if (H5Aread(attribute, H5T_NATIVE_DOUBLE, out) < 0) {
        err = ps_h5_fail(PS_ERR_IO, file->path, name);
    }
    H5Tclose(type);
    H5Aclose(attribute);
    return err;
}
