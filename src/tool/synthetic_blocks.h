/* Random blocks of quantised formats, for the formats that numbers are not rounded to here
 * (ps_dtype_can_narrow): the codes are uniform, the sub-blocks' scales lie within a factor of two
 * of each other, minima or the scales' signs centre the values. Scale and minimum are then such
 * that the values' root mean square is `deviation` (mxfp4: to the next power of two).
 *
 * Draws numbers first * PS_SYNTHETIC_BLOCK_DRAWS and on of a Philox stream. MPI: local.
 */
#ifndef PS_TOOL_SYNTHETIC_BLOCKS_H
#define PS_TOOL_SYNTHETIC_BLOCKS_H

#include <stdint.h>

#include "math/quant.h"
#include "math/rng.h"

enum { PS_SYNTHETIC_BLOCK_DRAWS = 17 }; // 16 bytes each: 256 codes, 16 scales

/* counter: word[0] and word[1] count draws, lower half first; the rest names the stream. */
void ps_synthetic_block(ps_dtype dtype, uint64_t seed, ps_rng_block counter, float deviation,
                        ps_quant_block *out);

#endif
