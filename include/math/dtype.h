/* Number formats of stored tensors.
 *
 *   f32    IEEE single          4 bytes
 *   f16    IEEE half            2 bytes
 *   bf16   upper half of f32    2 bytes
 *
 * Widening to f32 is exact for all of them. MPI: local.
 */
#ifndef PS_MATH_DTYPE_H
#define PS_MATH_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum ps_dtype { PS_F32, PS_F16, PS_BF16, PS_DTYPE_COUNT } ps_dtype;

const char *ps_dtype_name(ps_dtype dtype);
size_t ps_dtype_bytes(ps_dtype dtype); // bytes of one value

/* False when no format has this name. */
bool ps_dtype_from_name(const char *name, ps_dtype *out);

/* out[i] = (float)in[i], exactly. */
void ps_dtype_widen(ps_dtype dtype, const void *in, size_t n, float *out);

/* Rounds to nearest even; values too large for f16 become infinite. */
void ps_dtype_narrow(ps_dtype dtype, const float *in, size_t n, void *out);

/* Index of the first NaN or infinity among n values; n if there is none. Cost: one pass. */
size_t ps_dtype_first_not_finite(ps_dtype dtype, const void *in, size_t n);

#endif
