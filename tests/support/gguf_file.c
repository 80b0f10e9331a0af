#include "support/gguf_file.h"

#include <string.h>

#include "support/scratch.h"

static void append_bytes(ps_text *out, uint64_t value, int n)
{
    for (int i = 0; i < n; i++) {
        ps_text_append_char(out, (char)(value >> (8 * i)));
    }
}

void gguf_file_append_u32(ps_text *out, uint32_t value)
{
    append_bytes(out, value, 4);
}

void gguf_file_append_u64(ps_text *out, uint64_t value)
{
    append_bytes(out, value, 8);
}

static void append_string(ps_text *out, const char *text)
{
    gguf_file_append_u64(out, strlen(text));
    ps_text_append_str(out, text);
}

static void pad(ps_text *out, size_t begin, size_t alignment)
{
    while ((out->len - begin) % alignment != 0) {
        ps_text_append_char(out, '\0');
    }
}

void gguf_file_release(gguf_file *f)
{
    ps_text_release(&f->keys);
    ps_text_release(&f->infos);
    ps_text_release(&f->data);
    *f = (gguf_file){0};
}

static int kind_bytes(ps_gguf_kind kind)
{
    switch (kind) {
    case PS_GGUF_U8:
    case PS_GGUF_I8:
    case PS_GGUF_BOOL:
        return 1;
    case PS_GGUF_U16:
    case PS_GGUF_I16:
        return 2;
    case PS_GGUF_U64:
    case PS_GGUF_I64:
    case PS_GGUF_F64:
        return 8;
    default:
        return 4;
    }
}

static void begin_key(gguf_file *f, const char *key, uint32_t kind)
{
    append_string(&f->keys, key);
    gguf_file_append_u32(&f->keys, kind);
    f->n_keys++;
}

static void begin_array(gguf_file *f, const char *key, ps_gguf_kind kind, size_t n)
{
    begin_key(f, key, PS_GGUF_ARRAY);
    gguf_file_append_u32(&f->keys, kind);
    gguf_file_append_u64(&f->keys, n);
}

void gguf_file_int(gguf_file *f, const char *key, ps_gguf_kind kind, int64_t value)
{
    begin_key(f, key, kind);
    append_bytes(&f->keys, (uint64_t)value, kind_bytes(kind));
}

static void append_f32(ps_text *out, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    gguf_file_append_u32(out, bits);
}

void gguf_file_real(gguf_file *f, const char *key, ps_gguf_kind kind, double value)
{
    uint64_t bits;
    begin_key(f, key, kind);
    memcpy(&bits, &value, sizeof bits);
    if (kind == PS_GGUF_F64) {
        gguf_file_append_u64(&f->keys, bits);
    } else {
        append_f32(&f->keys, (float)value);
    }
}

void gguf_file_text(gguf_file *f, const char *key, const char *text)
{
    begin_key(f, key, PS_GGUF_STRING);
    append_string(&f->keys, text);
}

void gguf_file_ints(gguf_file *f, const char *key, ps_gguf_kind kind, size_t n,
                    const int64_t *values)
{
    begin_array(f, key, kind, n);
    for (size_t i = 0; i < n; i++) {
        append_bytes(&f->keys, (uint64_t)values[i], kind_bytes(kind));
    }
}

void gguf_file_reals(gguf_file *f, const char *key, size_t n, const float *values)
{
    begin_array(f, key, PS_GGUF_F32, n);
    for (size_t i = 0; i < n; i++) {
        append_f32(&f->keys, values[i]);
    }
}

void gguf_file_texts(gguf_file *f, const char *key, size_t n, const char *const *texts)
{
    begin_array(f, key, PS_GGUF_STRING, n);
    for (size_t i = 0; i < n; i++) {
        append_string(&f->keys, texts[i]);
    }
}

void gguf_file_raw(gguf_file *f, const char *key, uint32_t kind, const void *bytes, size_t n)
{
    begin_key(f, key, kind);
    ps_text_append(&f->keys, bytes, n);
}

void gguf_file_info(gguf_file *f, const char *name, uint32_t type, uint32_t n_dims,
                    const uint64_t *dims, uint64_t offset)
{
    append_string(&f->infos, name);
    gguf_file_append_u32(&f->infos, n_dims);
    for (uint32_t d = 0; d < n_dims; d++) {
        gguf_file_append_u64(&f->infos, dims[d]);
    }
    gguf_file_append_u32(&f->infos, type);
    gguf_file_append_u64(&f->infos, offset);
    f->n_tensors++;
}

static size_t alignment_of(const gguf_file *f)
{
    return f->alignment ? (size_t)f->alignment : 32;
}

void gguf_file_tensor(gguf_file *f, const char *name, uint32_t type, uint32_t n_dims,
                      const uint64_t *dims, const void *bytes, size_t n)
{
    pad(&f->data, 0, alignment_of(f));
    gguf_file_info(f, name, type, n_dims, dims, f->data.len);
    ps_text_append(&f->data, bytes, n);
}

static ps_text head(const gguf_file *f)
{
    ps_text out = {0};
    ps_text_append_str(&out, "GGUF");
    gguf_file_append_u32(&out, f->version ? f->version : 3);
    gguf_file_append_u64(&out, f->n_tensors);
    gguf_file_append_u64(&out, f->n_keys);
    ps_text_append(&out, ps_text_str(&f->keys), f->keys.len);
    ps_text_append(&out, ps_text_str(&f->infos), f->infos.len);
    return out;
}

size_t gguf_file_head_bytes(const gguf_file *f)
{
    ps_text out = head(f);
    const size_t n = out.len;
    ps_text_release(&out);
    return n;
}

ps_text gguf_file_bytes(const gguf_file *f)
{
    ps_text out = head(f);
    if (f->data.len > 0) pad(&out, 0, alignment_of(f));
    ps_text_append(&out, ps_text_str(&f->data), f->data.len);
    return out;
}

void gguf_file_write(const gguf_file *f, const char *path)
{
    ps_text bytes = gguf_file_bytes(f);
    scratch_write(path, bytes.data, bytes.len);
    ps_text_release(&bytes);
}
