/* Walks the tensors that the spec calls for, in the order of the model file; each is found in the
 * source, checked, packed panel by panel and appended. */
#include "tool/import/convert.h"

#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/progress.h"
#include "math/panel.h"
#include "model/ckpt.h"
#include "serve/tokenizer.h"
#include "tool/import/families.h"
#include "tool/import/safetensors.h"

enum { TOKENIZER_BYTES_MAX = 1 << 28, PANELS_AT_ONCE = 16 };

typedef struct conversion {
    const char *directory;
    ps_config config;
    const ps_family *family;
    ps_spec spec;
    ps_safetensors *source;
    ps_text tokenizer;
    ps_ckpt_writer *writer;
    char *buffer; // panels being packed, or a vector; owned
    size_t buffer_bytes;
    bool *used; // [tensors of the source]
    ps_progress progress;
    uint64_t done_bytes;
} conversion;

static char *path_in(const conversion *c, const char *name)
{
    ps_text path = {0};
    ps_text_appendf(&path, "%s/%s", c->directory, name);
    return ps_text_take(&path);
}

/* Token ids that end generation: config.json's, and those of generation_config.json. */
static ps_err read_generation_config(conversion *c)
{
    char *path = path_in(c, "generation_config.json");
    ps_err err = PS_OK;
    if (access(path, F_OK) == 0) {
        ps_config generation;
        err = ps_config_open(path, &generation);
        if (!err)
            err = ps_config_token_ids(&generation, "eos_token_id", PS_SPEC_EOS_MAX, c->spec.eos_ids,
                                      &c->spec.n_eos);
        if (!err) err = ps_spec_check(&c->spec, path);
        ps_config_close(&generation);
    }
    ps_mem_free(path);
    return err;
}

/* add_bos_token of tokenizer_config.json, for tokenizers without a post-processor that adds it. */
static ps_err read_tokenizer_config(conversion *c)
{
    char *path = path_in(c, "tokenizer_config.json");
    ps_err err = PS_OK;
    if (access(path, F_OK) == 0) {
        ps_config tokenizer;
        err = ps_config_open(path, &tokenizer);
        if (!err) err = ps_config_bool(&tokenizer, "add_bos_token", &c->spec.add_bos);
        if (!err && c->spec.add_bos && c->spec.bos_id < 0) c->spec.add_bos = false;
        ps_config_close(&tokenizer);
    }
    ps_mem_free(path);
    return err;
}

/* The tokenizer must open, and must not know tokens that the model does not. */
static ps_err read_tokenizer(conversion *c)
{
    char *path = path_in(c, "tokenizer.json");
    ps_err err = PS_OK;
    if (access(path, F_OK) == 0) {
        ps_tokenizer *tokenizer = NULL;
        err = ps_file_read(path, TOKENIZER_BYTES_MAX, &c->tokenizer);
        if (!err)
            err = ps_tokenizer_open(ps_text_str(&c->tokenizer), c->tokenizer.len, path, &tokenizer);
        if (!err && ps_tokenizer_size(tokenizer) > c->spec.vocab_size)
            err = PS_FAIL(PS_ERR_SHAPE, "%s: has %d tokens, the model's vocab_size is %d", path,
                          ps_tokenizer_size(tokenizer), c->spec.vocab_size);
        ps_tokenizer_free(tokenizer);
    }
    ps_mem_free(path);
    return err;
}

static ps_err open_source(conversion *c)
{
    char *path = path_in(c, "config.json");
    ps_err err = ps_config_open(path, &c->config);
    ps_mem_free(path);
    if (!err) err = ps_family_read(&c->config, &c->family, &c->spec);
    if (!err) err = read_generation_config(c);
    if (!err) err = read_tokenizer_config(c);
    if (!err) err = read_tokenizer(c);
    if (!err) err = ps_safetensors_open(c->directory, &c->source);
    if (!err) c->used = ps_mem_new((size_t)ps_safetensors_count(c->source), sizeof *c->used);
    return err;
}

static bool dtype_of(ps_safetensors_dtype dtype, ps_dtype *out)
{
    switch (dtype) {
    case PS_SAFETENSORS_F32:
        *out = PS_F32;
        return true;
    case PS_SAFETENSORS_F16:
        *out = PS_F16;
        return true;
    case PS_SAFETENSORS_BF16:
        *out = PS_BF16;
        return true;
    default:
        return false;
    }
}

/* The values of a tensor's shape, whatever way its dimensions are written: [6,32] serves for [192].
 */
static ps_err check_shape(const conversion *c, const ps_safetensors_tensor *t,
                          const ps_tensor_need *need)
{
    const size_t n = (size_t)need->n, k = (size_t)need->k;
    size_t values = 1;
    for (int d = 0; d < t->n_dims; d++) {
        values *= t->shape[d];
    }
    const bool same =
        need->panel ? t->n_dims == 2 && t->shape[0] == n && t->shape[1] == k : values == n;
    if (same) return PS_OK;
    ps_text shape = {0};
    for (int d = 0; d < t->n_dims; d++) {
        ps_text_appendf(&shape, d ? ",%zu" : "%zu", t->shape[d]);
    }
    const char *file = ps_safetensors_file(c->source, t);
    const ps_err err = need->panel
                           ? PS_FAIL(PS_ERR_SHAPE, "%s: tensor %s is [%s], wanted [%zu,%zu]", file,
                                     t->name, ps_text_str(&shape), n, k)
                           : PS_FAIL(PS_ERR_SHAPE, "%s: tensor %s is [%s], wanted [%zu]", file,
                                     t->name, ps_text_str(&shape), n);
    ps_text_release(&shape);
    return err;
}

static ps_err find_tensor(conversion *c, const ps_tensor_need *need,
                          const ps_safetensors_tensor **out, ps_dtype *dtype)
{
    ps_text name = {0};
    ps_family_tensor_name(c->family, need->role, need->layer, &name);
    const ps_safetensors_tensor *t = ps_safetensors_find(c->source, ps_text_str(&name));
    ps_err err = PS_OK;
    if (!t) {
        err = PS_FAIL(PS_ERR_FORMAT, "%s: tensor %s is missing", c->directory, ps_text_str(&name));
    } else if (!dtype_of(t->dtype, dtype)) {
        err = PS_FAIL(PS_ERR_UNSUPPORTED, "%s: tensor %s is %s, wanted F32, F16 or BF16",
                      ps_safetensors_file(c->source, t), t->name,
                      ps_safetensors_dtype_name(t->dtype));
    } else {
        err = check_shape(c, t, need);
    }
    ps_text_release(&name);
    *out = t;
    return err;
}

static ps_err check_finite(const conversion *c, const ps_safetensors_tensor *t, ps_dtype dtype,
                           const void *values, size_t n, size_t first)
{
    const size_t at = ps_dtype_first_not_finite(dtype, values, n);
    if (at == n) return PS_OK;
    return PS_FAIL(PS_ERR_NUMERIC, "%s: tensor %s holds NaN or infinity at value %zu",
                   ps_safetensors_file(c->source, t), t->name, first + at);
}

static void need_buffer(conversion *c, size_t bytes)
{
    c->buffer = ps_mem_grow(c->buffer, &c->buffer_bytes, bytes, 1);
}

static ps_err write_panels(conversion *c, const ps_tensor_need *need,
                           const ps_safetensors_tensor *t, ps_dtype dtype)
{
    const size_t row_bytes = (size_t)need->k * ps_dtype_block_bytes(dtype);
    const size_t panel_bytes = ps_panel_bytes(dtype, need->k);
    const int n_panels = ps_panel_count(need->n);
    need_buffer(c, panel_bytes * PANELS_AT_ONCE);
    for (int panel = 0; panel < n_panels; panel += PANELS_AT_ONCE) {
        const int n = n_panels - panel < PANELS_AT_ONCE ? n_panels - panel : PANELS_AT_ONCE;
        for (int p = 0; p < n; p++) {
            const int first = (panel + p) * PS_PANEL_LANES;
            const int n_rows = need->n - first < PS_PANEL_LANES ? need->n - first : PS_PANEL_LANES;
            const void *rows = t->data + (size_t)first * row_bytes;
            PS_TRY(check_finite(c, t, dtype, rows, (size_t)n_rows * (size_t)need->k,
                                (size_t)first * (size_t)need->k));
            ps_panel_pack(dtype, rows, n_rows, row_bytes, need->k,
                          c->buffer + (size_t)p * panel_bytes);
        }
        PS_TRY(ps_ckpt_append(c->writer, c->buffer, (size_t)n * panel_bytes));
    }
    return PS_OK;
}

static ps_err write_vector(conversion *c, const ps_tensor_need *need,
                           const ps_safetensors_tensor *t, ps_dtype dtype)
{
    const size_t n = (size_t)need->n;
    need_buffer(c, n * sizeof(float) + t->bytes);
    char *values = c->buffer + n * sizeof(float);
    memcpy(values, t->data, t->bytes);
    ps_dtype_widen(dtype, values, n, (float *)(void *)c->buffer);
    PS_TRY(check_finite(c, t, PS_F32, c->buffer, n, 0));
    return ps_ckpt_append(c->writer, c->buffer, n * sizeof(float));
}

static ps_err convert_tensor(conversion *c, const ps_tensor_need *need)
{
    const ps_safetensors_tensor *t;
    ps_dtype dtype = PS_F32;
    PS_TRY(find_tensor(c, need, &t, &dtype));
    ps_safetensors_advise(t, PS_SAFETENSORS_NEED);
    PS_TRY(ps_ckpt_begin(c->writer, need, need->panel ? dtype : PS_F32));
    PS_TRY(need->panel ? write_panels(c, need, t, dtype) : write_vector(c, need, t, dtype));
    PS_TRY(ps_ckpt_end(c->writer));
    ps_safetensors_advise(t, PS_SAFETENSORS_DONE);
    c->used[ps_safetensors_index(c->source, t)] = true;
    c->done_bytes += t->bytes;
    ps_progress_update(&c->progress, c->done_bytes);
    return PS_OK;
}

static ps_err check_leftovers(const conversion *c)
{
    for (int i = 0; i < ps_safetensors_count(c->source); i++) {
        const ps_safetensors_tensor *t = ps_safetensors_at(c->source, i);
        if (c->used[i] || ps_family_ignores(c->family, &c->spec, t->name)) continue;
        return PS_FAIL(PS_ERR_FORMAT, "%s: tensor %s belongs to no part of a %s model",
                       ps_safetensors_file(c->source, t), t->name, c->spec.family);
    }
    return PS_OK;
}

static ps_err convert_tensors(conversion *c)
{
    int cursor = 0;
    ps_tensor_need need;
    while (ps_tensor_next(&c->spec, &cursor, &need)) {
        PS_TRY(convert_tensor(c, &need));
    }
    return check_leftovers(c);
}

static ps_err put_texts(conversion *c)
{
    ps_text source = {0};
    ps_text_appendf(&source, "{\"kind\": \"huggingface\", \"model_type\": \"%s\"}\n",
                    c->spec.family);
    ps_err err = ps_ckpt_put_source(c->writer, ps_text_str(&source), source.len);
    ps_text_release(&source);
    if (!err) err = ps_ckpt_put_tokenizer(c->writer, ps_text_str(&c->tokenizer), c->tokenizer.len);
    return err;
}

ps_err ps_convert_directory(const char *directory, const char *output, bool progress)
{
    conversion c = {.directory = directory};
    uint64_t total_bytes = 0;
    ps_err err = open_source(&c);
    if (err) goto out;
    for (int i = 0; i < ps_safetensors_count(c.source); i++) {
        total_bytes += ps_safetensors_at(c.source, i)->bytes;
    }
    err = ps_ckpt_create(output, &c.spec, &c.writer);
    if (err) goto out;
    ps_progress_begin(&c.progress, "convert", total_bytes, "B", !progress);
    err = put_texts(&c);
    if (!err) err = convert_tensors(&c);
    ps_progress_end(&c.progress);
    if (!err) {
        err = ps_ckpt_commit(c.writer);
        c.writer = NULL;
    }
out:
    ps_ckpt_abandon(c.writer);
    ps_mem_free(c.buffer);
    ps_mem_free(c.used);
    ps_text_release(&c.tokenizer);
    ps_safetensors_close(c.source);
    ps_spec_release(&c.spec);
    ps_config_close(&c.config);
    return err;
}
