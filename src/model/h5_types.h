/* What the reading and the writing half of the h5 room share. */
#ifndef PS_MODEL_H5_TYPES_H
#define PS_MODEL_H5_TYPES_H

#include <hdf5.h>

#include "model/h5.h"

/* The file type of a ps_h5_type; the caller closes it with H5Tclose. Negative on failure. */
hid_t ps_h5_make_type(ps_h5_type type);

/* PS_ERR_<code> with "<path>: <what>: <innermost message of HDF5>". */
ps_err ps_h5_fail(ps_err code, const char *path, const char *what);

/* HDF5's own printing off; its messages go into ours. Called before every use of the library. */
void ps_h5_quiet(void);

/* Opens files without the library's own locks: some file systems of clusters have none, and a lock
 * of anybody's would keep readers out. */
void ps_h5_lock_nothing(hid_t access);

#endif
