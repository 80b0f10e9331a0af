/* The values of datasets as plain bytes on standard output, one dataset behind the other.
 *
 *   h5_bytes FILE DATASET ...
 *
 * What a checksum is to cover: the values, and not how this HDF5 library lays a file out. */
#include <stdio.h>

#include "base/mem.h"
#include "model/h5.h"

static ps_err write_dataset(ps_h5_file *file, const char *name)
{
    ps_h5_info info;
    PS_TRY(ps_h5_find(file, name, &info));
    char *values = ps_mem_new(info.bytes, 1);
    ps_err err = ps_h5_read(file, name, &info, values);
    if (!err && fwrite(values, 1, info.bytes, stdout) != info.bytes)
        err = PS_FAIL(PS_ERR_IO, "standard output: cannot be written");
    ps_mem_free(values);
    return err;
}

int main(int argc, char **argv)
{
    ps_h5_file *file = NULL;
    ps_err err = argc < 3 ? PS_FAIL(PS_ERR_USAGE, "wanted a file and names of datasets")
                          : ps_h5_open(argv[1], &file);
    for (int i = 2; i < argc && !err; i++) {
        err = write_dataset(file, argv[i]);
    }
    if (file) ps_h5_close(file);
    if (!err && fflush(stdout) != 0) err = PS_FAIL(PS_ERR_IO, "standard output: cannot be written");
    if (err) fprintf(stderr, "h5_bytes: %s\n", ps_err_message());
    return ps_err_exit_status(err);
}
