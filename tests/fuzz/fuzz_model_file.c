/* The texts of a model file: /spec, NUL, /manifest, NUL, /source. The file around them is sound,
 * and holds every tensor that the spec calls for while that is little. Hashes are put right before
 * the file is opened, or else no change would get past them: the manifest's own, and those that it
 * gives as "@spec", "@source" and "@tokenizer". */
#include <string.h>

#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "model/ckpt.h"
#include "model/ckpt_parts.h"
#include "model/h5.h"

enum { LAYERS_MAX = 2, BYTES_MAX = 1 << 16 };

static bool put_text(ps_h5_writer *w, const char *name, const char *text, size_t n)
{
    const uint64_t dims[1] = {n};
    return ps_h5_put(w, name, PS_H5_U8, 1, dims, text) == PS_OK;
}

/* Zeros for the tensors of a spec that can be read. */
static void put_tensors(ps_h5_writer *w, const char *json)
{
    static const char zeros[BYTES_MAX];
    ps_spec spec;
    ps_tensor_need need;
    uint64_t left = BYTES_MAX;
    if (ps_spec_from_json(json, strlen(json), "spec", &spec)) return;
    for (int cursor = 0; spec.n_layers <= LAYERS_MAX && ps_tensor_next(&spec, &cursor, &need);) {
        char name[PS_TENSOR_NAME_BYTES];
        uint64_t dims[3];
        const int rank = ps_ckpt_dims(&need, PS_F32, dims);
        const uint64_t bytes = ps_ckpt_bytes(&need, PS_F32);
        if (bytes > left) break;
        left -= bytes;
        ps_tensor_name(need.role, need.layer, name);
        fuzz_require(ps_h5_put(w, name, PS_H5_F32, rank, dims, zeros) == PS_OK);
    }
    ps_spec_release(&spec);
}

/* The manifest with hashes in the place of names. */
static void fill_in(const char *manifest, const char *const *texts, ps_text *out)
{
    static const char *const names[] = {"@spec", "@source", "@tokenizer"};
    while (*manifest) {
        size_t used = 0;
        for (int i = 0; i < 3 && !used; i++) {
            char hash[PS_CKPT_HASH_BYTES];
            if (strncmp(manifest, names[i], strlen(names[i])) != 0) continue;
            used = strlen(names[i]);
            ps_ckpt_hash_text(ps_ckpt_hash(texts[i], strlen(texts[i])), hash);
            ps_text_append_str(out, hash);
        }
        if (!used) ps_text_append_char(out, *manifest);
        manifest += used ? used : 1;
    }
}

static void write_file(const char *path, const char *manifest, const char *const *texts)
{
    ps_h5_writer *w;
    ps_text filled = {0};
    char hash[PS_CKPT_HASH_BYTES];
    fill_in(manifest, texts, &filled);
    ps_ckpt_hash_text(ps_ckpt_hash(ps_text_str(&filled), filled.len), hash);
    fuzz_require(ps_h5_create(path, &w) == PS_OK);
    bool ok = ps_h5_put_attribute_text(w, "/", "format", PS_CKPT_FORMAT) == PS_OK;
    ok = ok && ps_h5_put_attribute_int(w, "/", "version", PS_CKPT_VERSION) == PS_OK;
    ok = ok && ps_h5_put_attribute_text(w, "/", "manifest_xxh3", hash) == PS_OK;
    ok = ok && put_text(w, "/spec", texts[0], strlen(texts[0]));
    ok = ok && put_text(w, "/source", texts[1], strlen(texts[1]));
    ok = ok && put_text(w, "/tokenizer", texts[2], strlen(texts[2]));
    ok = ok && put_text(w, "/manifest", ps_text_str(&filled), filled.len);
    fuzz_require(ok);
    put_tensors(w, texts[0]);
    fuzz_require(ps_h5_commit(w) == PS_OK);
    ps_text_release(&filled);
}

/* An index that was accepted goes to the other ranks and comes out as it was. */
static void check_index(const ps_ckpt *ckpt)
{
    ps_text packed = {0};
    ps_ckpt other;
    ps_ckpt_pack(ckpt, &packed);
    fuzz_require(ps_ckpt_unpack(packed.data, packed.len, ckpt->path, &other) == PS_OK);
    fuzz_require(other.n_tensors == ckpt->n_tensors && other.identity == ckpt->identity);
    for (int i = 0; i < other.n_tensors; i++) {
        const ps_ckpt_tensor *a = &ckpt->tensors[i], *b = &other.tensors[i];
        fuzz_require(ps_ckpt_find(&other, a->need.role, a->need.layer) == b);
        fuzz_require(a->dtype == b->dtype && a->bytes == b->bytes && a->offset == b->offset);
    }
    ps_ckpt_close(&other);
    ps_text_release(&packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input rest = {(const char *)data, size};
    ps_ckpt ckpt;
    char *spec = fuzz_take_text(&rest), *manifest = fuzz_take_text(&rest);
    char *source = fuzz_take_text(&rest);
    const char *texts[] = {spec, source, ""};
    write_file(fuzz_path("model.h5"), manifest, texts);
    if (fuzz_is_ok(ps_ckpt_open(fuzz_path("model.h5"), &ckpt))) {
        check_index(&ckpt);
        ps_ckpt_close(&ckpt);
    }
    ps_mem_free(source);
    ps_mem_free(manifest);
    ps_mem_free(spec);
    return 0;
}
