/* The model file: spec, tensors in panel layout, tokenizer, checksums.
 *
 *   attributes   format = "pipestep-model", version = 1, manifest_xxh3 = hash of /manifest
 *   /spec        JSON, model/spec.h          /tokenizer   packed, serve/tokenizer.h (may be empty)
 *   /source      JSON, what it was made from
 *   /manifest    JSON: name, dtype, layout, shape, bytes and XXH3-64 of every tensor, hashes of the
 *                texts
 *   /layers/NNN/<part>/<tensor>, /embed, /head, /norm     names in model/tensors.h
 *
 * Panel matrices are stored as [ceil(N/16)][K][16], those of quantised formats as
 * [ceil(N/16)][bytes of a panel] u8 (math/panel.h), vectors as [N] f32. `layout` is vector, panel16,
 * or, of codes of five and six bits, panel16-halves: a file where those are panel16 has them in
 * another order and is refused. Where a tensor lies in the file is asked of HDF5 when the file is
 * opened, so a file that went through h5repack still works.
 *
 * Rank 0 opens the file; the others get the index from it (pack, unpack) and never touch HDF5
 * unless a tensor is chunked. The identity is the hash of the manifest: equal identity, equal
 * model.
 *
 * Errors: PS_ERR_IO, PS_ERR_FORMAT, PS_ERR_SHAPE naming file and tensor.   MPI: local.
 */
#ifndef PS_MODEL_CKPT_H
#define PS_MODEL_CKPT_H

#include <stdint.h>

#include "base/err.h"
#include "base/text.h"
#include "math/dtype.h"
#include "model/spec.h"
#include "model/tensors.h"

#define PS_CKPT_FORMAT  "pipestep-model"
#define PS_CKPT_VERSION 1
#define PS_CKPT_LAYOUTS 2 // grows with every change of what a layout's name stands for

typedef struct ps_ckpt_tensor {
    ps_tensor_need need;
    ps_dtype dtype;
    uint64_t bytes, hash;
    uint64_t offset; // in the file; PS_H5_NOT_MAPPABLE: must be read through HDF5
} ps_ckpt_tensor;

typedef struct ps_ckpt {
    char *path; // owned
    uint64_t file_bytes, identity;
    uint64_t manifest_offset, manifest_bytes; // where the manifest lies, for the other ranks
    ps_spec spec;                             // owned
    int n_tensors;
    ps_ckpt_tensor *tensors;   // [n_tensors] owned, in the order of ps_tensor_next
    int *index;                // [n_layers + 1][PS_ROLE_COUNT] into tensors, -1: none; owned
    ps_text tokenizer, source; // rank 0 only
} ps_ckpt;

ps_err ps_ckpt_open(const char *path, ps_ckpt *out) PS_MUST_CHECK;
void ps_ckpt_close(ps_ckpt *ckpt);

/* The index (without the texts) as bytes, and back. `path` is this rank's own: the file there must
 * have the same length and the same manifest, byte for byte. A rank that was started with another
 * model finds out here. */
void ps_ckpt_pack(const ps_ckpt *ckpt, ps_text *out);
ps_err ps_ckpt_unpack(const char *bytes, size_t n, const char *path, ps_ckpt *out) PS_MUST_CHECK;

/* How a tensor's numbers lie, as the manifest names it. */
const char *ps_ckpt_layout(const ps_tensor_need *need, ps_dtype dtype);

/* NULL when the spec does not call for it. Borrowed. */
const ps_ckpt_tensor *ps_ckpt_find(const ps_ckpt *ckpt, ps_role role, int layer);

/* ---- writing, tensor by tensor, panel by panel: memory for one panel is enough ---- */

typedef struct ps_ckpt_writer ps_ckpt_writer;

ps_err ps_ckpt_create(const char *path, const ps_spec *spec, ps_ckpt_writer **out) PS_MUST_CHECK;
ps_err ps_ckpt_put_tokenizer(ps_ckpt_writer *w, const char *packed, size_t n) PS_MUST_CHECK;
ps_err ps_ckpt_put_source(ps_ckpt_writer *w, const char *json, size_t n) PS_MUST_CHECK;

/* One tensor at a time: begin, append its bytes in order (whole panels, or the whole vector), end.
 */
ps_err ps_ckpt_begin(ps_ckpt_writer *w, const ps_tensor_need *need, ps_dtype dtype) PS_MUST_CHECK;
ps_err ps_ckpt_append(ps_ckpt_writer *w, const void *bytes, size_t n) PS_MUST_CHECK;
ps_err ps_ckpt_end(ps_ckpt_writer *w) PS_MUST_CHECK;

/* Every tensor that the spec calls for must have been written. Releases the writer. */
ps_err ps_ckpt_commit(ps_ckpt_writer *w) PS_MUST_CHECK;
void ps_ckpt_abandon(ps_ckpt_writer *w);

#endif
