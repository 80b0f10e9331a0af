#include "tool/version.h"

#include "math/isa.h"
#include "math/linear.h"
#include "model/h5.h"
#include "pipe/comm.h"

#ifndef PS_REVISION
#define PS_REVISION "unknown"
#endif

#define PS_RELEASE "0.1.0"

const char *ps_version(void)
{
    return PS_RELEASE " (" PS_REVISION ")";
}

void ps_version_describe(ps_text *out)
{
    char mpi[128], h5[16], blas[128];
    ps_comm_library_version(mpi, sizeof mpi);
    ps_h5_library_version(h5);
    ps_linear_blas_version(blas, sizeof blas);
    ps_text_appendf(out,
                    "pipestep %s\nMPI: %s\nHDF5: %s\nBLAS: %s\ninstruction sets:", ps_version(),
                    mpi, h5, blas);
    for (int i = 0; i < ps_isa_count(); i++) {
        if (ps_isa_supported(i)) ps_text_appendf(out, " %s", ps_isa_name(i));
    }
    ps_text_append_str(out, "\n");
}
