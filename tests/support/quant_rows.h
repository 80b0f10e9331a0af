/* Source rows of quantised formats, their panels, and products by the letter of math/panel.h. */
#ifndef PS_TESTS_QUANT_ROWS_H
#define PS_TESTS_QUANT_ROWS_H

#include <stddef.h>
#include <stdint.h>

#include "math/linear.h"
#include "support/dice.h"

/* What stands in the blocks: any bytes, or one byte everywhere; scales are finite in either case.
 */
typedef enum quant_pattern {
    QUANT_ANY,    // scales within 2^-10 .. 2^-5
    QUANT_ZEROS,  // 0x00, scales of 1
    QUANT_ONES,   // 0xFF
    QUANT_TOP,    // 0x80
    QUANT_BOTTOM, // 0x7F
    QUANT_PATTERN_COUNT
} quant_pattern;

typedef struct quant_matrix {
    ps_linear linear; // panels, and a bias if asked for
    uint8_t *rows;    // [n, row_bytes]
    size_t row_bytes;
    float *values; // [n, k] widened
    void *panels;
    float *bias; // [round_up(n, 16)] or NULL
} quant_matrix;

quant_matrix quant_matrix_roll(dice *d, ps_dtype dtype, int n, int k, quant_pattern pattern,
                               bool with_bias);
void quant_matrix_release(quant_matrix *m);

/* Writes a block's scales d (and m where the format has it) as half bits, or e of mxfp4. */
void quant_set_scales(ps_dtype dtype, uint8_t *block, uint16_t d, uint16_t m);

/* Output `output` for one row x[k] rounded to integers up to `limit`, bias and all: scalar C, sums
 * of integers in 64 bits that are asserted to fit 32. */
float quant_row_times(const quant_matrix *m, int output, const float *x, int limit);

/* Largest difference that rounding the activations can make: half a step of each run times the
 * weights' magnitudes, and the steps of f32 sums. */
double quant_rounding_bound(const quant_matrix *m, int output, const float *x, int limit);

#endif
