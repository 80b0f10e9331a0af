/* Reference blocks of the stored formats: a group a type with raw blocks and their exact values.
 *
 *   /TYPE/raw      uint8 [rows, bytes]      /TYPE/values    float32 [rows, elements]
 *
 * Each is widened from the source rows, and packed into panels and unpacked again; both must give
 * the values bit for bit. */
#ifndef PS_TESTS_GOLDEN_QUANTS_H
#define PS_TESTS_GOLDEN_QUANTS_H

#include <stdbool.h>

#include "base/err.h"
#include "base/text.h"
#include "math/dtype.h"

typedef struct golden_quant {
    ps_dtype dtype;
    int rows, k; // of the reference
    size_t row_bytes;
    uint8_t *raw;  // [rows, row_bytes]
    float *values; // [rows, k]
} golden_quant;

/* One type of the file; false in *found when the file has no such group. */
ps_err golden_quant_open(const char *path, ps_dtype dtype, golden_quant *out,
                         bool *found) PS_MUST_CHECK;
void golden_quant_release(golden_quant *g);

/* Values that differ after widening, and after packing and unpacking; `first` gets the first one.
 */
int golden_quant_count_wrong(const golden_quant *g, ps_text *first);

#endif
