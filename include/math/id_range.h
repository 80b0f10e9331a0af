/* Ids first .. end-1 of a vocabulary, or of any other rows of a matrix.   MPI: local. */
#ifndef PS_MATH_ID_RANGE_H
#define PS_MATH_ID_RANGE_H

#include <stdint.h>

typedef struct ps_id_range {
    int32_t first, end;
} ps_id_range;

#endif
