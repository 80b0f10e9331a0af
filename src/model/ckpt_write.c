/* Writing a model file: datasets as they come, checksums on the way, the manifest last. */
#include <assert.h>
#include <string.h>
#include <xxhash.h>

#include "base/mem.h"
#include "math/panel.h"
#include "model/ckpt_parts.h"

struct ps_ckpt_writer {
    ps_h5_writer *h5;
    char *path;          // owned
    const ps_spec *spec; // borrowed
    ps_text entries;     // the manifest's list of tensors so far
    int n_written;
    char tokenizer_hash[PS_CKPT_HASH_BYTES], source_hash[PS_CKPT_HASH_BYTES];
    // the tensor being written
    ps_tensor_need need;
    ps_dtype dtype;
    ps_h5_dataset dataset;
    uint64_t row, row_bytes;
    XXH3_state_t *hash;
    bool open;
};

ps_err ps_ckpt_create(const char *path, const ps_spec *spec, ps_ckpt_writer **out)
{
    *out = NULL;
    ps_h5_writer *h5;
    PS_TRY(ps_h5_create(path, &h5));
    ps_ckpt_writer *w = ps_mem_new(1, sizeof *w);
    *w = (ps_ckpt_writer){.h5 = h5, .path = ps_mem_copy_text(path), .spec = spec};
    w->hash = XXH3_createState();
    *out = w;
    ps_err err = ps_h5_put_attribute_text(h5, "/", "format", PS_CKPT_FORMAT);
    if (!err) err = ps_h5_put_attribute_int(h5, "/", "version", PS_CKPT_VERSION);
    if (err) {
        ps_ckpt_abandon(w);
        *out = NULL;
    }
    return err;
}

static ps_err put_text(ps_ckpt_writer *w, const char *name, const char *text, size_t n,
                       char hash[PS_CKPT_HASH_BYTES])
{
    const uint64_t dims[1] = {n};
    ps_ckpt_hash_text(ps_ckpt_hash(text, n), hash);
    return ps_h5_put(w->h5, name, PS_H5_U8, 1, dims, text);
}

ps_err ps_ckpt_put_tokenizer(ps_ckpt_writer *w, const char *packed, size_t n)
{
    return put_text(w, "/tokenizer", packed, n, w->tokenizer_hash);
}

ps_err ps_ckpt_put_source(ps_ckpt_writer *w, const char *json, size_t n)
{
    return put_text(w, "/source", json, n, w->source_hash);
}

ps_err ps_ckpt_begin(ps_ckpt_writer *w, const ps_tensor_need *need, ps_dtype dtype)
{
    assert(!w->open && (need->panel || dtype == PS_F32));
    assert(!need->panel || need->k % ps_dtype_block_values(dtype) == 0);
    char name[PS_TENSOR_NAME_BYTES];
    uint64_t dims[3];
    ps_tensor_name(need->role, need->layer, name);
    const int rank = ps_ckpt_dims(need, dtype, dims);
    PS_TRY(ps_h5_begin(w->h5, name, ps_ckpt_h5_type(dtype), rank, dims, &w->dataset));
    w->need = *need;
    w->dtype = dtype;
    w->row = 0;
    w->row_bytes = ps_ckpt_bytes(need, dtype) / dims[0];
    w->open = true;
    XXH3_64bits_reset(w->hash);
    return PS_OK;
}

ps_err ps_ckpt_append(ps_ckpt_writer *w, const void *bytes, size_t n)
{
    assert(w->open && n % w->row_bytes == 0);
    const uint64_t rows = n / w->row_bytes;
    XXH3_64bits_update(w->hash, bytes, n);
    PS_TRY(ps_h5_write_rows(w->h5, w->dataset, w->row, rows, bytes));
    w->row += rows;
    return PS_OK;
}

ps_err ps_ckpt_end(ps_ckpt_writer *w)
{
    assert(w->open);
    uint64_t dims[3];
    char name[PS_TENSOR_NAME_BYTES], hash[PS_CKPT_HASH_BYTES];
    ps_ckpt_dims(&w->need, w->dtype, dims);
    assert(w->row == dims[0] && "a tensor is appended whole");
    w->open = false;
    PS_TRY(ps_h5_end(w->h5, w->dataset));
    ps_tensor_name(w->need.role, w->need.layer, name);
    ps_ckpt_hash_text(XXH3_64bits_digest(w->hash), hash);
    ps_text_appendf(&w->entries, "%s  \"%s\": {\"dtype\": \"%s\", \"layout\": \"%s\", \"shape\": [",
                    w->n_written ? ",\n" : "", name, ps_dtype_name(w->dtype),
                    ps_ckpt_layout(&w->need, w->dtype));
    int shape[3];
    const int rank = ps_tensor_shape(&w->need, shape);
    for (int d = 0; d < rank; d++) {
        ps_text_appendf(&w->entries, d ? ", %d" : "%d", shape[d]);
    }
    ps_text_appendf(&w->entries, "], \"bytes\": %llu, \"xxh3\": \"%s\"}",
                    (unsigned long long)ps_ckpt_bytes(&w->need, w->dtype), hash);
    w->n_written++;
    return PS_OK;
}

static void release(ps_ckpt_writer *w)
{
    XXH3_freeState(w->hash);
    ps_text_release(&w->entries);
    ps_mem_free(w->path);
    ps_mem_free(w);
}

static ps_err put_manifest(ps_ckpt_writer *w, const char *spec_hash)
{
    ps_text manifest = {0};
    char hash[PS_CKPT_HASH_BYTES];
    ps_text_appendf(&manifest,
                    "{\n \"spec_xxh3\": \"%s\",\n \"tokenizer_xxh3\": \"%s\",\n"
                    " \"source_xxh3\": \"%s\",\n \"tensors\": {\n%s\n }\n}\n",
                    spec_hash, w->tokenizer_hash, w->source_hash, ps_text_str(&w->entries));
    ps_err err = put_text(w, "/manifest", manifest.data, manifest.len, hash);
    if (!err) err = ps_h5_put_attribute_text(w->h5, "/", "manifest_xxh3", hash);
    ps_text_release(&manifest);
    return err;
}

ps_err ps_ckpt_commit(ps_ckpt_writer *w)
{
    ps_text spec = {0};
    char spec_hash[PS_CKPT_HASH_BYTES];
    int cursor = 0, n_needed = 0;
    ps_tensor_need need;
    while (ps_tensor_next(w->spec, &cursor, &need)) {
        n_needed++;
    }
    assert(!w->open && w->n_written == n_needed && "every tensor is written once");
    ps_err err = PS_OK;
    if (!w->tokenizer_hash[0]) err = ps_ckpt_put_tokenizer(w, "", 0);
    if (!err && !w->source_hash[0]) err = ps_ckpt_put_source(w, "{}", 2);
    ps_spec_to_json(w->spec, &spec);
    if (!err) err = put_text(w, "/spec", spec.data, spec.len, spec_hash);
    if (!err) err = put_manifest(w, spec_hash);
    ps_text_release(&spec);
    if (err) {
        ps_ckpt_abandon(w);
        return err;
    }
    err = ps_h5_commit(w->h5);
    release(w);
    return err;
}

void ps_ckpt_abandon(ps_ckpt_writer *w)
{
    if (!w) return;
    ps_h5_abandon(w->h5);
    release(w);
}
