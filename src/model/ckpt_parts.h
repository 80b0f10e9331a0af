/* What reading and writing a model file share. */
#ifndef PS_MODEL_CKPT_PARTS_H
#define PS_MODEL_CKPT_PARTS_H

#include <stddef.h>
#include <stdint.h>

#include "model/ckpt.h"
#include "model/h5.h"

enum { PS_CKPT_TEXT_BYTES_MAX = 1 << 28, PS_CKPT_HASH_BYTES = 17 };

uint64_t ps_ckpt_hash(const void *bytes, size_t n);
void ps_ckpt_hash_text(uint64_t hash, char out[PS_CKPT_HASH_BYTES]);

ps_h5_type ps_ckpt_h5_type(ps_dtype dtype);

/* Shape of a tensor's dataset: panels [P][K][16] of floats, [P][bytes of a panel] of a quantised
 * format, or vector [N]. Returns the rank. A block divides k. */
int ps_ckpt_dims(const ps_tensor_need *need, ps_dtype dtype, uint64_t *dims);

/* Bytes of a tensor's dataset; the shapes come from a checked spec. */
uint64_t ps_ckpt_bytes(const ps_tensor_need *need, ps_dtype dtype);

#endif
