/* Version of the program and the revision it was built from. */
#ifndef PS_TOOL_VERSION_H
#define PS_TOOL_VERSION_H

#include "base/text.h"

const char *ps_version(void); // "0.1.0 (1a2b3c4d)"

/* Program, MPI, HDF5, BLAS, instruction sets: the lines of --version. */
void ps_version_describe(ps_text *out);

#endif
