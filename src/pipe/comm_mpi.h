/* What pipe/ring needs to know of pipe/comm: the one header with MPI types in it. */
#ifndef PS_PIPE_COMM_MPI_H
#define PS_PIPE_COMM_MPI_H

#include <mpi.h>

#include "pipe/comm.h"

/* The communicator of ordered data; liveness has another one. Borrowed. */
MPI_Comm ps_comm_world(const ps_comm *comm);

/* PS_ERR_LOST with MPI's own words where a call came back with an error, as those on the ring do. */
ps_err ps_comm_check(const ps_comm *comm, int result, const char *what) PS_MUST_CHECK;

/* What goes from one rank to another on it. */
enum { PS_TAG_PARCEL = 2, PS_TAG_TEXT = 3, PS_TAG_LETTER = 4 };

#endif
