/* Opening a model file: manifest against attribute, spec and tokenizer against manifest, every
 * tensor against spec, manifest and the file's own metadata. Contents of tensors are verified
 * elsewhere (model/weights.h), by the ranks that use them. */
#include "model/ckpt.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "math/panel.h"
#include "math/quant.h"
#include "model/ckpt_parts.h"

uint64_t ps_ckpt_hash(const void *bytes, size_t n)
{
    return XXH3_64bits(bytes, n);
}

void ps_ckpt_hash_text(uint64_t hash, char out[PS_CKPT_HASH_BYTES])
{
    snprintf(out, PS_CKPT_HASH_BYTES, "%016" PRIx64, hash);
}

ps_h5_type ps_ckpt_h5_type(ps_dtype dtype)
{
    static const ps_h5_type types[PS_DTYPE_FLOATS] = {
        [PS_F32] = PS_H5_F32, [PS_F16] = PS_H5_F16, [PS_BF16] = PS_H5_BF16};
    return ps_dtype_is_quantised(dtype) ? PS_H5_U8 : types[dtype];
}

int ps_ckpt_dims(const ps_tensor_need *need, ps_dtype dtype, uint64_t *dims)
{
    const uint64_t count = (uint64_t)need->count;
    const uint64_t padded = (uint64_t)ps_panel_count(need->n) * PS_PANEL_LANES;
    if (!need->panel) {
        dims[0] = need->count > 1 ? count * padded : (uint64_t)need->n;
        return 1;
    }
    dims[0] = count * (uint64_t)ps_panel_count(need->n);
    if (ps_dtype_is_quantised(dtype)) {
        dims[1] = ps_panel_bytes(dtype, need->k);
        return 2;
    }
    dims[1] = (uint64_t)need->k;
    dims[2] = PS_PANEL_LANES;
    return 3;
}

uint64_t ps_ckpt_bytes(const ps_tensor_need *need, ps_dtype dtype)
{
    uint64_t dims[3], bytes = ps_h5_type_bytes(ps_ckpt_h5_type(dtype));
    const int rank = ps_ckpt_dims(need, dtype, dims);
    for (int d = 0; d < rank; d++) {
        bytes *= dims[d];
    }
    return bytes;
}

static ps_err check_format(ps_h5_file *file, const char *path)
{
    if (!ps_h5_has_attribute(file, "/", "format"))
        return PS_FAIL(PS_ERR_FORMAT, "%s: an HDF5 file, but not a pipestep model", path);
    ps_text format = {0};
    int64_t version = 0;
    ps_err err = ps_h5_attribute_text(file, "/", "format", &format);
    if (!err && strcmp(ps_text_str(&format), PS_CKPT_FORMAT) != 0)
        err = PS_FAIL(PS_ERR_FORMAT, "%s: format is %s, wanted " PS_CKPT_FORMAT, path,
                      ps_text_str(&format));
    if (!err) err = ps_h5_attribute_int(file, "/", "version", &version);
    if (!err && version != PS_CKPT_VERSION)
        err = PS_FAIL(PS_ERR_FORMAT, "%s: format version %lld, this program reads version %d", path,
                      (long long)version, PS_CKPT_VERSION);
    ps_text_release(&format);
    return err;
}

static ps_err check_text_hash(const char *path, const char *name, const ps_text *text,
                              const char *wanted)
{
    char found[PS_CKPT_HASH_BYTES];
    ps_ckpt_hash_text(ps_ckpt_hash(ps_text_str(text), text->len), found);
    if (strcmp(found, wanted) == 0) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "%s: %s is damaged: checksum %s, wanted %s", path, name, found,
                   wanted);
}

/* Reads a text dataset and checks it against the hash that the manifest holds under `key`. */
static ps_err read_text(ps_h5_file *file, const char *path, const char *name,
                        const json_t *manifest, const char *key, ps_text *out)
{
    const char *hash;
    PS_TRY(ps_json_get_text(manifest, key, path, &hash));
    PS_TRY(ps_h5_read_bytes(file, name, PS_CKPT_TEXT_BYTES_MAX, out));
    return check_text_hash(path, name, out, hash);
}

static ps_err read_manifest(ps_h5_file *file, ps_ckpt *ckpt, json_t **out)
{
    ps_text text = {0}, hash = {0};
    ps_h5_info info;
    ps_err err = ps_h5_attribute_text(file, "/", "manifest_xxh3", &hash);
    if (!err) err = ps_h5_find(file, "/manifest", &info);
    if (!err) {
        ckpt->manifest_offset = info.offset;
        ckpt->manifest_bytes = info.bytes;
    }
    if (!err) err = ps_h5_read_bytes(file, "/manifest", PS_CKPT_TEXT_BYTES_MAX, &text);
    if (!err) err = check_text_hash(ckpt->path, "/manifest", &text, ps_text_str(&hash));
    if (!err) err = ps_json_parse(text.data, text.len, ckpt->path, out);
    if (!err) ckpt->identity = ps_ckpt_hash(text.data, text.len);
    ps_text_release(&hash);
    ps_text_release(&text);
    return err;
}

static void append_shape(const uint64_t *dims, int rank, ps_text *out)
{
    ps_text_append_str(out, "[");
    for (int d = 0; d < rank; d++) {
        ps_text_appendf(out, d ? ",%llu" : "%llu", (unsigned long long)dims[d]);
    }
    ps_text_append_str(out, "]");
}

/* Size and place of one tensor's dataset against what the spec wants. */
static ps_err check_dataset(ps_h5_file *file, const char *path, const char *name,
                            ps_ckpt_tensor *tensor)
{
    ps_h5_info info;
    PS_TRY(ps_h5_find(file, name, &info));
    if (info.type != ps_ckpt_h5_type(tensor->dtype))
        return PS_FAIL(PS_ERR_FORMAT, "%s: tensor %s is stored as %s, the manifest says %s", path,
                       name, ps_h5_type_name(info.type), ps_dtype_name(tensor->dtype));
    uint64_t dims[3];
    const int rank = ps_ckpt_dims(&tensor->need, tensor->dtype, dims);
    bool same = info.rank == rank;
    for (int d = 0; same && d < rank; d++) {
        same = info.dims[d] == dims[d];
    }
    if (!same) {
        ps_text found = {0}, wanted = {0};
        append_shape(info.dims, info.rank, &found);
        append_shape(dims, rank, &wanted);
        const ps_err err = PS_FAIL(PS_ERR_SHAPE, "%s: tensor %s is %s, wanted %s", path, name,
                                   ps_text_str(&found), ps_text_str(&wanted));
        ps_text_release(&found);
        ps_text_release(&wanted);
        return err;
    }
    tensor->offset = info.offset;
    tensor->bytes = info.bytes;
    return PS_OK;
}

/* What the manifest says of a tensor's size against what the spec wants. */
static ps_err check_size(const char *path, const json_t *entry, const char *name,
                         const ps_ckpt_tensor *tensor)
{
    const ps_tensor_need *need = &tensor->need;
    json_t *shape, *bytes;
    int wanted_shape[3];
    const int rank = ps_tensor_shape(need, wanted_shape);
    PS_TRY(ps_json_get(entry, "shape", JSON_ARRAY, path, &shape));
    PS_TRY(ps_json_get(entry, "bytes", JSON_INTEGER, path, &bytes));
    bool same = json_array_size(shape) == (size_t)rank;
    for (int d = 0; same && d < rank; d++) {
        same = json_integer_value(json_array_get(shape, (size_t)d)) == wanted_shape[d];
    }
    const uint64_t wanted = ps_ckpt_bytes(need, tensor->dtype);
    if (same && json_integer_value(bytes) == (json_int_t)wanted) return PS_OK;
    return PS_FAIL(PS_ERR_SHAPE,
                   "%s: the manifest gives tensor %s another size than [%d,%d] and %llu bytes",
                   path, name, need->n, need->k, (unsigned long long)wanted);
}

const char *ps_ckpt_layout(const ps_tensor_need *need, ps_dtype dtype)
{
    if (!need->panel) return "vector";
    return ps_quant_in_halves(&ps_quant_formats[dtype]) ? "panel16-halves" : "panel16";
}

static ps_err check_layout(const char *path, const char *name, const char *found,
                           const char *wanted)
{
    if (strcmp(found, wanted) == 0) return PS_OK;
    const bool is_old = strcmp(found, "panel16") == 0 && strcmp(wanted, "panel16-halves") == 0;
    return PS_FAIL(PS_ERR_FORMAT, "%s: tensor %s has layout %s, wanted %s%s", path, name, found,
                   wanted, is_old ? ": an older version wrote it, convert the model again" : "");
}

static ps_err read_tensor(ps_h5_file *file, const char *path, const json_t *entry, const char *name,
                          ps_ckpt_tensor *tensor)
{
    const char *dtype, *layout, *hash;
    PS_TRY(ps_json_get_text(entry, "dtype", path, &dtype));
    PS_TRY(ps_json_get_text(entry, "layout", path, &layout));
    PS_TRY(ps_json_get_text(entry, "xxh3", path, &hash));
    if (!ps_dtype_from_name(dtype, &tensor->dtype))
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: tensor %s has unknown dtype %s", path, name, dtype);
    if (!tensor->need.panel && tensor->dtype != PS_F32)
        return PS_FAIL(PS_ERR_FORMAT, "%s: tensor %s is %s, wanted f32", path, name, dtype);
    PS_TRY(check_layout(path, name, layout, ps_ckpt_layout(&tensor->need, tensor->dtype)));
    if (tensor->need.panel && tensor->need.k % ps_dtype_block_values(tensor->dtype) != 0)
        return PS_FAIL(PS_ERR_SHAPE, "%s: tensor %s has rows of %d values, %s wants blocks of %d",
                       path, name, tensor->need.k, dtype, ps_dtype_block_values(tensor->dtype));
    PS_TRY(check_size(path, entry, name, tensor));
    char *end;
    tensor->hash = strtoull(hash, &end, 16);
    if (strlen(hash) != PS_CKPT_HASH_BYTES - 1 || *end != '\0')
        return PS_FAIL(PS_ERR_FORMAT, "%s: tensor %s has a bad checksum text", path, name);
    return check_dataset(file, path, name, tensor);
}

static int count_needs(const ps_spec *spec)
{
    int cursor = 0, n = 0;
    ps_tensor_need need;
    while (ps_tensor_next(spec, &cursor, &need)) {
        n++;
    }
    return n;
}

static ps_err read_tensors(ps_h5_file *file, const json_t *manifest, ps_ckpt *ckpt)
{
    json_t *entries;
    PS_TRY(ps_json_get(manifest, "tensors", JSON_OBJECT, ckpt->path, &entries));
    ckpt->n_tensors = count_needs(&ckpt->spec);
    ckpt->tensors = ps_mem_new((size_t)ckpt->n_tensors, sizeof *ckpt->tensors);
    int cursor = 0;
    for (int i = 0; i < ckpt->n_tensors; i++) {
        ps_ckpt_tensor *tensor = &ckpt->tensors[i];
        ps_tensor_next(&ckpt->spec, &cursor, &tensor->need);
        char name[PS_TENSOR_NAME_BYTES];
        ps_tensor_name(tensor->need.role, tensor->need.layer, name);
        const json_t *entry = json_object_get(entries, name);
        if (!entry) return PS_FAIL(PS_ERR_FORMAT, "%s: tensor %s is missing", ckpt->path, name);
        PS_TRY(read_tensor(file, ckpt->path, entry, name, tensor));
    }
    const size_t extra = json_object_size(entries) - (size_t)ckpt->n_tensors;
    if (extra > 0)
        ps_log(PS_LOG_WARNING, "%s: %zu tensors that this architecture does not use are ignored",
               ckpt->path, extra);
    return PS_OK;
}

/* Where each role of each layer stands among the tensors. */
static void make_index(ps_ckpt *ckpt)
{
    const size_t n = (size_t)(ckpt->spec.n_layers + 1) * PS_ROLE_COUNT;
    ckpt->index = ps_mem_new(n, sizeof *ckpt->index);
    for (size_t i = 0; i < n; i++) {
        ckpt->index[i] = -1;
    }
    for (int i = 0; i < ckpt->n_tensors; i++) {
        const ps_tensor_need *need = &ckpt->tensors[i].need;
        ckpt->index[(need->layer + 1) * PS_ROLE_COUNT + (int)need->role] = i;
    }
}

static ps_err read_all(ps_h5_file *file, ps_ckpt *ckpt)
{
    json_t *manifest = NULL;
    ps_text spec = {0};
    ps_err err = check_format(file, ckpt->path);
    if (!err) err = read_manifest(file, ckpt, &manifest);
    if (!err) err = read_text(file, ckpt->path, "/spec", manifest, "spec_xxh3", &spec);
    if (!err)
        err =
            read_text(file, ckpt->path, "/tokenizer", manifest, "tokenizer_xxh3", &ckpt->tokenizer);
    if (!err) err = read_text(file, ckpt->path, "/source", manifest, "source_xxh3", &ckpt->source);
    if (!err) err = ps_spec_from_json(spec.data, spec.len, ckpt->path, &ckpt->spec);
    if (!err) err = read_tensors(file, manifest, ckpt);
    if (!err) make_index(ckpt);
    ps_text_release(&spec);
    if (manifest) json_decref(manifest);
    return err;
}

ps_err ps_ckpt_open(const char *path, ps_ckpt *out)
{
    *out = (ps_ckpt){0};
    ps_h5_file *file;
    ps_file_identity identity;
    PS_TRY(ps_h5_open(path, &file));
    out->path = ps_mem_copy_text(path);
    ps_err err = ps_file_identify(path, &identity);
    if (!err) out->file_bytes = identity.bytes;
    if (!err) err = read_all(file, out);
    ps_h5_close(file);
    if (err) ps_ckpt_close(out);
    return err;
}

void ps_ckpt_close(ps_ckpt *ckpt)
{
    ps_text_release(&ckpt->tokenizer);
    ps_text_release(&ckpt->source);
    ps_mem_free(ckpt->index);
    ps_mem_free(ckpt->tensors);
    ps_spec_release(&ckpt->spec);
    ps_mem_free(ckpt->path);
    *ckpt = (ps_ckpt){0};
}

const ps_ckpt_tensor *ps_ckpt_find(const ps_ckpt *ckpt, ps_role role, int layer)
{
    const int at = ckpt->index[(layer + 1) * PS_ROLE_COUNT + (int)role];
    return at < 0 ? NULL : &ckpt->tensors[at];
}

/* The index between ranks: a fixed head, the tensors' numbers as they lie in memory (all ranks run
 * the same version, which the start-up agreement has checked), then the spec's JSON. */
typedef struct packed_head {
    uint64_t file_bytes, identity, manifest_offset, manifest_bytes, n_tensors, spec_bytes;
} packed_head;

void ps_ckpt_pack(const ps_ckpt *ckpt, ps_text *out)
{
    ps_text spec = {0};
    ps_spec_to_json(&ckpt->spec, &spec);
    const packed_head head = {ckpt->file_bytes,          ckpt->identity,
                              ckpt->manifest_offset,     ckpt->manifest_bytes,
                              (uint64_t)ckpt->n_tensors, spec.len};
    ps_text_append(out, &head, sizeof head);
    ps_text_append(out, ckpt->tensors, (size_t)ckpt->n_tensors * sizeof *ckpt->tensors);
    ps_text_append(out, spec.data, spec.len);
    ps_text_release(&spec);
}

/* This rank's file must hold the manifest that rank 0 read. A manifest in chunks (after h5repack)
 * is not looked for: then the checksums of the tensors tell. */
static ps_err check_manifest(const packed_head *head, const char *path)
{
    const bool findable = head->manifest_offset != PS_H5_NOT_MAPPABLE;
    const size_t n = findable ? (size_t)head->manifest_bytes : 0;
    char *manifest = ps_mem_new(n, 1);
    uint64_t bytes;
    ps_err err = ps_file_peek(path, findable ? head->manifest_offset : 0, manifest, n, &bytes);
    if (!err && bytes != head->file_bytes) {
        err = PS_FAIL(PS_ERR_FORMAT, "%s: has %llu bytes here, on rank 0 it has %llu", path,
                      (unsigned long long)bytes, (unsigned long long)head->file_bytes);
    } else if (!err && findable && ps_ckpt_hash(manifest, n) != head->identity) {
        err = PS_FAIL(PS_ERR_FORMAT, "%s: another model than the one on rank 0", path);
    }
    ps_mem_free(manifest);
    return err;
}

/* What rank 0 says of a tensor, and what it can be by the spec. */
static bool is_possible(const ps_ckpt_tensor *tensor, uint64_t file_bytes)
{
    const ps_tensor_need *need = &tensor->need;
    if ((unsigned)tensor->dtype >= PS_DTYPE_COUNT) return false;
    if (need->panel ? need->k % ps_dtype_block_values(tensor->dtype) != 0 : tensor->dtype != PS_F32)
        return false;
    return tensor->bytes == ps_ckpt_bytes(need, tensor->dtype) &&
           (tensor->offset == PS_H5_NOT_MAPPABLE ||
            (tensor->bytes <= file_bytes && tensor->offset <= file_bytes - tensor->bytes));
}

/* The table of tensors; which they are is the spec's to say. */
static ps_err unpack_tensors(const char *table, ps_ckpt *out)
{
    ps_tensor_need need;
    out->tensors = ps_mem_new((size_t)out->n_tensors, sizeof *out->tensors);
    memcpy(out->tensors, table, (size_t)out->n_tensors * sizeof *out->tensors);
    int n = 0;
    for (int cursor = 0; ps_tensor_next(&out->spec, &cursor, &need); n++) {
        if (n == out->n_tensors) break;
        out->tensors[n].need = need;
        if (!is_possible(&out->tensors[n], out->file_bytes))
            return PS_FAIL(PS_ERR_LOST, "the model index from rank 0 is wrong at tensor %d", n);
    }
    if (n != out->n_tensors || count_needs(&out->spec) != n)
        return PS_FAIL(PS_ERR_LOST, "the model index from rank 0 has %d tensors, its spec %d",
                       out->n_tensors, count_needs(&out->spec));
    make_index(out);
    return PS_OK;
}

ps_err ps_ckpt_unpack(const char *bytes, size_t n, const char *path, ps_ckpt *out)
{
    *out = (ps_ckpt){0};
    packed_head head;
    if (n < sizeof head) return PS_FAIL(PS_ERR_LOST, "the model index from rank 0 is cut short");
    memcpy(&head, bytes, sizeof head);
    const size_t table = (size_t)head.n_tensors * sizeof *out->tensors;
    if (head.manifest_bytes > PS_CKPT_TEXT_BYTES_MAX ||
        head.n_tensors > PS_SPEC_LAYERS_MAX * PS_ROLE_COUNT + PS_ROLE_COUNT ||
        table > n - sizeof head || head.spec_bytes != n - sizeof head - table)
        return PS_FAIL(PS_ERR_LOST, "the model index from rank 0 has a wrong length");
    PS_TRY(check_manifest(&head, path));
    PS_TRY(ps_spec_from_json(bytes + sizeof head + table, head.spec_bytes, path, &out->spec));
    out->path = ps_mem_copy_text(path);
    out->file_bytes = head.file_bytes;
    out->identity = head.identity;
    out->manifest_offset = head.manifest_offset;
    out->manifest_bytes = head.manifest_bytes;
    out->n_tensors = (int)head.n_tensors;
    const ps_err err = unpack_tensors(bytes + sizeof head, out);
    if (err) ps_ckpt_close(out);
    return err;
}
