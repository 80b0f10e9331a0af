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

static uint64_t number_at(const ps_text *text, size_t at, int n)
{
    uint64_t value = 0;
    for (int i = n - 1; i >= 0; i--) {
        value = value << 8 | (unsigned char)text->data[at + (size_t)i];
    }
    return value;
}

/* Bytes of `count` values of a kind from `at` on. */
static size_t value_bytes(const ps_text *keys, size_t at, ps_gguf_kind kind, uint64_t count)
{
    if (kind != PS_GGUF_STRING) return (size_t)kind_bytes(kind) * (size_t)count;
    const size_t begin = at;
    for (; count > 0; count--) {
        at += 8 + (size_t)number_at(keys, at, 8);
    }
    return at - begin;
}

/* Where the key that begins at `at` ends. */
static size_t end_of_key(const ps_text *keys, size_t at)
{
    at += 8 + (size_t)number_at(keys, at, 8);
    ps_gguf_kind kind = (ps_gguf_kind)number_at(keys, at, 4);
    uint64_t count = 1;
    at += 4;
    if (kind == PS_GGUF_ARRAY) {
        kind = (ps_gguf_kind)number_at(keys, at, 4);
        count = number_at(keys, at + 4, 8);
        at += 12;
    }
    return at + value_bytes(keys, at, kind, count);
}

void gguf_file_drop(gguf_file *f, const char *key)
{
    const size_t n = strlen(key);
    size_t at = 0;
    while (at < f->keys.len) {
        const size_t end = end_of_key(&f->keys, at);
        if (number_at(&f->keys, at, 8) == n && memcmp(f->keys.data + at + 8, key, n) == 0) {
            memmove(f->keys.data + at, f->keys.data + end, f->keys.len - end);
            f->keys.len -= end - at;
            f->n_keys--;
            return;
        }
        at = end;
    }
    ck_abort_msg("no key %s", key);
}

void gguf_file_rename(gguf_file *f, const char *from, const char *to)
{
    ck_assert_uint_eq(strlen(from), strlen(to));
    char *at = memmem(f->infos.data, f->infos.len, from, strlen(from));
    ck_assert_ptr_nonnull(at);
    memcpy(at, to, strlen(to));
}

char *gguf_file_data(gguf_file *f, const char *name)
{
    ps_text string = {0};
    append_string(&string, name);
    const char *found = memmem(f->infos.data, f->infos.len, string.data, string.len);
    ck_assert_ptr_nonnull(found);
    const size_t at = (size_t)(found - f->infos.data) + string.len;
    const size_t n_dims = (size_t)number_at(&f->infos, at, 4);
    ps_text_release(&string);
    return f->data.data + number_at(&f->infos, at + 4 + 8 * n_dims + 4, 8);
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
