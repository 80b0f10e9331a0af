/* The index of a model file as rank 0 sends it, behind its first 32 bytes: those name the file's
 * length and manifest, and are those of a sound file of one layer. */
#include <string.h>

#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "model/ckpt.h"

enum { SAME_BYTES = 32, WIDTH = 16 };

static ps_spec small_spec(void)
{
    ps_spec spec = ps_spec_plain();
    strcpy(spec.family, "llama");
    spec.d_model = spec.d_ff = spec.head_dim = spec.vocab_size = WIDTH;
    spec.n_heads = spec.n_kv_heads = 1;
    spec.norm_eps = 1e-5;
    spec.attention_scale = 0.25;
    spec.tied_head = true;
    spec.bos_id = -1;
    ps_spec_take_layers(&spec, 1);
    spec.layers[0].rope = -1;
    return spec;
}

static void write_model(const char *path)
{
    static const char zeros[WIDTH * WIDTH * sizeof(float)];
    ps_spec spec = small_spec();
    ps_ckpt_writer *w;
    ps_tensor_need need;
    fuzz_require(ps_ckpt_create(path, &spec, &w) == PS_OK);
    fuzz_require(ps_ckpt_put_source(w, "{}", 2) == PS_OK);
    fuzz_require(ps_ckpt_put_tokenizer(w, "", 0) == PS_OK);
    for (int cursor = 0; ps_tensor_next(&spec, &cursor, &need);) {
        const size_t n = (size_t)need.n * (size_t)need.k * sizeof(float);
        fuzz_require(n <= sizeof zeros);
        fuzz_require(ps_ckpt_begin(w, &need, PS_F32) == PS_OK);
        fuzz_require(ps_ckpt_append(w, zeros, n) == PS_OK);
        fuzz_require(ps_ckpt_end(w) == PS_OK);
    }
    fuzz_require(ps_ckpt_commit(w) == PS_OK);
    ps_spec_release(&spec);
}

static const ps_text *good_index(void)
{
    static ps_text index;
    ps_ckpt ckpt;
    if (index.len > 0) return &index;
    write_model(fuzz_path("model.h5"));
    fuzz_require(ps_ckpt_open(fuzz_path("model.h5"), &ckpt) == PS_OK);
    ps_ckpt_pack(&ckpt, &index);
    ps_ckpt_close(&ckpt);
    return &index;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ps_ckpt ckpt;
    ps_text bytes = {0};
    ps_text_append(&bytes, good_index()->data, SAME_BYTES);
    // No input: the sound index, so that there is one to begin with on any machine.
    if (size == 0) {
        ps_text_append(&bytes, good_index()->data + SAME_BYTES, good_index()->len - SAME_BYTES);
    } else {
        ps_text_append(&bytes, data, size);
    }
    const ps_err err = ps_ckpt_unpack(bytes.data, bytes.len, fuzz_path("model.h5"), &ckpt);
    fuzz_require(err == PS_OK || size > 0);
    if (fuzz_is_ok(err)) {
        for (int i = 0; i < ckpt.n_tensors; i++) {
            const ps_ckpt_tensor *t = &ckpt.tensors[i];
            fuzz_require(ps_ckpt_find(&ckpt, t->need.role, t->need.layer) == t);
        }
        ps_ckpt_close(&ckpt);
    }
    ps_text_release(&bytes);
    return 0;
}
