/* Writing contiguous datasets into a file that appears only when it is complete. */
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/h5_types.h"

enum { ALIGN_FROM_BYTES = 65536, ALIGN_BYTES = 4096 };

struct ps_h5_writer {
    hid_t id;               // -1: handed over
    char *path, *temporary; // owned; no temporary name: appends to another writer's file
};

static hid_t make_access(void)
{
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (access < 0) return access;
    ps_h5_lock_nothing(access);
    // V18..V110: readable after a crash once flushed; the newest bounds leave a write mark behind.
    if (H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V110) < 0 ||
        H5Pset_alignment(access, ALIGN_FROM_BYTES, ALIGN_BYTES) < 0) {
        H5Pclose(access);
        return -1;
    }
    return access;
}

ps_err ps_h5_create(const char *path, ps_h5_writer **out)
{
    *out = NULL;
    char *target;
    PS_TRY(ps_file_find_target(path, NULL, &target));
    ps_h5_quiet();
    char *temporary = ps_file_temporary_name(target);
    const hid_t access = make_access(), creation = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_obj_track_times(creation, false);
    const hid_t id = H5Fcreate(temporary, H5F_ACC_TRUNC, creation, access);
    ps_err err = PS_OK;
    if (id < 0) err = ps_h5_fail(PS_ERR_IO, path, "cannot be created");
    H5Pclose(creation);
    H5Pclose(access);
    if (err) {
        unlink(temporary); // a full disk takes the name, but not the first block
        ps_mem_free(temporary);
        ps_mem_free(target);
        return err;
    }
    *out = ps_mem_new(1, sizeof **out);
    **out = (ps_h5_writer){.id = id, .path = target, .temporary = temporary};
    return PS_OK;
}

ps_err ps_h5_append(const char *temporary, ps_h5_writer **out)
{
    *out = NULL;
    ps_h5_quiet();
    char head[8];
    uint64_t bytes;
    PS_TRY(ps_file_peek(temporary, 0, head, sizeof head, &bytes));
    const hid_t access = make_access();
    const hid_t id = H5Fopen(temporary, H5F_ACC_RDWR, access);
    ps_err err = PS_OK;
    if (id < 0) err = ps_h5_fail(PS_ERR_IO, temporary, "cannot be opened for writing");
    H5Pclose(access);
    if (err) return err;
    *out = ps_mem_new(1, sizeof **out);
    **out = (ps_h5_writer){.id = id, .path = ps_mem_copy_text(temporary)};
    return PS_OK;
}

const char *ps_h5_temporary(const ps_h5_writer *w)
{
    return w->temporary;
}

/* Makes the groups on the way to `name`, as far as they are not there: by hand, since those that
 * HDF5 makes by itself carry the time of day. */
static ps_err make_groups(ps_h5_writer *w, const char *name)
{
    const hid_t properties = H5Pcreate(H5P_GROUP_CREATE);
    H5Pset_obj_track_times(properties, false);
    char *path = ps_mem_copy_text(name);
    ps_err err = PS_OK;
    for (char *slash = strchr(path + 1, '/'); slash && !err; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (H5Lexists(w->id, path, H5P_DEFAULT) <= 0) {
            const hid_t group = H5Gcreate2(w->id, path, H5P_DEFAULT, properties, H5P_DEFAULT);
            if (group < 0) err = ps_h5_fail(PS_ERR_IO, w->path, path);
            if (group >= 0) H5Gclose(group);
        }
        *slash = '/';
    }
    ps_mem_free(path);
    H5Pclose(properties);
    return err;
}

static hid_t make_dataset_properties(void)
{
    const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
    if (properties < 0) return properties;
    if (H5Pset_obj_track_times(properties, false) < 0 ||
        H5Pset_layout(properties, H5D_CONTIGUOUS) < 0 ||
        H5Pset_alloc_time(properties, H5D_ALLOC_TIME_EARLY) < 0 ||
        H5Pset_fill_time(properties, H5D_FILL_TIME_NEVER) < 0) {
        H5Pclose(properties);
        return -1;
    }
    return properties;
}

ps_err ps_h5_begin(ps_h5_writer *w, const char *name, ps_h5_type type, int rank,
                   const uint64_t *dims, ps_h5_dataset *out)
{
    *out = -1;
    PS_TRY(make_groups(w, name));
    hsize_t extent[PS_H5_RANK_MAX] = {0};
    for (int d = 0; d < rank; d++) {
        extent[d] = dims[d];
    }
    const hid_t space = H5Screate_simple(rank, extent, NULL), file_type = ps_h5_make_type(type);
    const hid_t properties = make_dataset_properties();
    const hid_t id =
        H5Dcreate2(w->id, name, file_type, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    ps_err err = PS_OK;
    if (id < 0) err = ps_h5_fail(PS_ERR_IO, w->path, name);
    H5Pclose(properties);
    H5Tclose(file_type);
    H5Sclose(space);
    *out = id;
    return err;
}

/* Writes the block that begins at start[axis] = first, n long on that axis and, before it, 1 long
 * at start[0] = plane; whole on the axes behind. */
static ps_err write_block(ps_h5_writer *w, hid_t dataset, int axis, uint64_t plane, uint64_t first,
                          uint64_t n, const void *data)
{
    if (n == 0) return PS_OK;
    const hid_t space = H5Dget_space(dataset), type = H5Dget_type(dataset);
    hsize_t dims[PS_H5_RANK_MAX] = {0}, start[PS_H5_RANK_MAX] = {0};
    const int rank = H5Sget_simple_extent_ndims(space);
    H5Sget_simple_extent_dims(space, dims, NULL);
    if (axis > 0) {
        dims[0] = 1;
        start[0] = plane;
    }
    dims[axis] = n;
    start[axis] = first;
    const hid_t memory = H5Screate_simple(rank, dims, NULL);
    ps_err err = PS_OK;
    if (H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, dims, NULL) < 0 ||
        H5Dwrite(dataset, type, memory, space, H5P_DEFAULT, data) < 0)
        err = ps_h5_fail(PS_ERR_IO, w->path, "cannot be written");
    H5Sclose(memory);
    H5Tclose(type);
    H5Sclose(space);
    return err;
}

ps_err ps_h5_write_rows(ps_h5_writer *w, ps_h5_dataset dataset, uint64_t first_row, uint64_t n_rows,
                        const void *data)
{
    return write_block(w, dataset, 0, 0, first_row, n_rows, data);
}

static ps_err overwrite(ps_h5_writer *w, const char *name, int axis, uint64_t plane, uint64_t first,
                        uint64_t n, const void *data)
{
    const hid_t dataset = H5Dopen2(w->id, name, H5P_DEFAULT);
    if (dataset < 0) return ps_h5_fail(PS_ERR_IO, w->path, name);
    const ps_err err = write_block(w, dataset, axis, plane, first, n, data);
    const ps_err end = ps_h5_end(w, dataset);
    return err ? err : end;
}

ps_err ps_h5_overwrite_rows(ps_h5_writer *w, const char *name, uint64_t first_row, uint64_t n_rows,
                            const void *data)
{
    return overwrite(w, name, 0, 0, first_row, n_rows, data);
}

ps_err ps_h5_overwrite_plane(ps_h5_writer *w, const char *name, uint64_t plane, uint64_t first_row,
                             uint64_t n_rows, const void *data)
{
    return overwrite(w, name, 1, plane, first_row, n_rows, data);
}

ps_err ps_h5_end(ps_h5_writer *w, ps_h5_dataset dataset)
{
    if (H5Dclose(dataset) < 0) return ps_h5_fail(PS_ERR_IO, w->path, "cannot be written");
    return PS_OK;
}

ps_err ps_h5_put(ps_h5_writer *w, const char *name, ps_h5_type type, int rank, const uint64_t *dims,
                 const void *data)
{
    ps_h5_dataset dataset;
    PS_TRY(ps_h5_begin(w, name, type, rank, dims, &dataset));
    ps_err err = ps_h5_write_rows(w, dataset, 0, dims[0], data);
    const ps_err end = ps_h5_end(w, dataset);
    return err ? err : end;
}

static ps_err put_attribute(ps_h5_writer *w, const char *object, const char *name, hid_t type,
                            const void *value)
{
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t attribute =
        H5Acreate_by_name(w->id, object, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    ps_err err = PS_OK;
    if (attribute < 0 || H5Awrite(attribute, type, value) < 0)
        err = ps_h5_fail(PS_ERR_IO, w->path, name);
    if (attribute >= 0) H5Aclose(attribute);
    H5Sclose(space);
    return err;
}

ps_err ps_h5_put_attribute_text(ps_h5_writer *w, const char *object, const char *name,
                                const char *value)
{
    const hid_t type = H5Tcopy(H5T_C_S1);
    const size_t length = strlen(value);
    H5Tset_size(type, length > 0 ? length : 1);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    const ps_err err = put_attribute(w, object, name, type, value);
    H5Tclose(type);
    return err;
}

ps_err ps_h5_put_attribute_int(ps_h5_writer *w, const char *object, const char *name, int64_t value)
{
    return put_attribute(w, object, name, H5T_STD_I64LE, &value);
}

ps_err ps_h5_put_attribute_real(ps_h5_writer *w, const char *object, const char *name, double value)
{
    return put_attribute(w, object, name, H5T_IEEE_F64LE, &value);
}

static void release(ps_h5_writer *w)
{
    ps_mem_free(w->temporary);
    ps_mem_free(w->path);
    ps_mem_free(w);
}

/* Closes datasets that were left open by an error, then the file. */
static herr_t close_all(ps_h5_writer *w)
{
    if (w->id < 0) return 0;
    hid_t open[64];
    ssize_t n;
    while ((n = H5Fget_obj_ids(w->id, H5F_OBJ_DATASET | H5F_OBJ_LOCAL, 64, open)) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            H5Dclose(open[i]);
        }
    }
    const herr_t status = H5Fclose(w->id);
    w->id = -1;
    return status;
}

ps_err ps_h5_hand_over(ps_h5_writer *w)
{
    ps_err err = PS_OK;
    if (H5Fflush(w->id, H5F_SCOPE_LOCAL) < 0)
        err = ps_h5_fail(PS_ERR_IO, w->path, "cannot be written");
    if (close_all(w) < 0 && !err) err = ps_h5_fail(PS_ERR_IO, w->path, "cannot be written");
    return err;
}

ps_err ps_h5_commit(ps_h5_writer *w)
{
    ps_err err = w->id >= 0 ? ps_h5_hand_over(w) : PS_OK;
    if (!err) err = w->temporary ? ps_file_publish(w->temporary, w->path) : ps_file_sync(w->path);
    if (err && w->temporary) unlink(w->temporary);
    release(w);
    return err;
}

void ps_h5_abandon(ps_h5_writer *w)
{
    if (!w) return;
    close_all(w);
    if (w->temporary) unlink(w->temporary);
    release(w);
}
