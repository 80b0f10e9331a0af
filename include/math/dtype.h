/* Number formats of stored tensors.
 *
 *   f32  f16  bf16                       IEEE single, IEEE half, upper half of f32: a value a block
 *   q8_0 q4_0 q4_1 q5_0 q5_1             blocks of 32 integers with a half-precision scale; the _1
 *   iq4_nl mxfp4                         kinds have a minimum too, the last two a table of values
 *   q2_k q3_k q4_k q5_k q6_k iq4_xs      blocks of 256 with scales of sub-blocks of 16 or 32
 *   tq1_0 tq2_0                          blocks of 256 of the values -1, 0, 1 with one scale
 *
 * A source row is a run of blocks as ggml and GGUF lay them out (little endian, no padding, no
 * alignment). Widening to f32 is exact for f32, f16 and bf16, and bit for bit what ggml's
 * dequantisers give for the others. MPI: local.
 */
#ifndef PS_MATH_DTYPE_H
#define PS_MATH_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum ps_dtype {
    PS_F32,
    PS_F16,
    PS_BF16,
    PS_Q8_0,
    PS_Q4_0,
    PS_Q4_1,
    PS_Q5_0,
    PS_Q5_1,
    PS_IQ4_NL,
    PS_MXFP4,
    PS_Q2_K,
    PS_Q3_K,
    PS_Q4_K,
    PS_Q5_K,
    PS_Q6_K,
    PS_IQ4_XS,
    PS_TQ1_0,
    PS_TQ2_0,
    PS_DTYPE_COUNT
} ps_dtype;

enum {
    PS_DTYPE_FLOATS = PS_Q8_0,      // the formats below this one are not quantised
    PS_DTYPE_BLOCK_VALUES_MAX = 256 // values of the largest block
};

/* "f32", "q4_k", ... */
const char *ps_dtype_name(ps_dtype dtype);

/* False when no format has this name. */
bool ps_dtype_from_name(const char *name, ps_dtype *out);

bool ps_dtype_is_quantised(ps_dtype dtype);

/* Values of a block (1, 32 or 256), and its bytes in a source row. */
int ps_dtype_block_values(ps_dtype dtype);
size_t ps_dtype_block_bytes(ps_dtype dtype);

/* Bytes of a source row of k values; false when a block does not divide k, or on overflow. */
bool ps_dtype_row_bytes(ps_dtype dtype, size_t k, size_t *out);

/* out[i] = value i of a source row; n is a multiple of the block. */
void ps_dtype_widen(ps_dtype dtype, const void *in, size_t n, float *out);

/* Whether ps_dtype_narrow can write the format: f32, f16, bf16, q8_0, q4_0, q4_k. */
bool ps_dtype_can_narrow(ps_dtype dtype);

/* Writes a source row of n values, a multiple of the block, the same bytes on every processor.
 * f16 and bf16 round to nearest even; values too large for f16 become infinite. q8_0 and q4_0 take
 * the scale from the largest magnitude of the block; q4_k looks for the scales and minima with the
 * least weighted squared error. Finite values give finite values, unless a scale exceeds f16. */
void ps_dtype_narrow(ps_dtype dtype, const float *in, size_t n, void *out);

/* Index of the first NaN or infinity among n values of a source row (of a quantised format: of the
 * first block whose scales are not finite); n if there is none. Cost: one pass. */
size_t ps_dtype_first_not_finite(ps_dtype dtype, const void *in, size_t n);

#endif
