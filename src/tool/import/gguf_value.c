/* Typed access to the metadata: one place that knows how wide a number is. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "tool/import/gguf_parts.h"

static const struct {
    const char *name; // with its article, for messages
    size_t bytes;
    bool is_integer;
} kinds[] = {
    [PS_GGUF_U8] = {"an integer", 1, true},    [PS_GGUF_I8] = {"an integer", 1, true},
    [PS_GGUF_U16] = {"an integer", 2, true},   [PS_GGUF_I16] = {"an integer", 2, true},
    [PS_GGUF_U32] = {"an integer", 4, true},   [PS_GGUF_I32] = {"an integer", 4, true},
    [PS_GGUF_F32] = {"a real", 4, false},      [PS_GGUF_BOOL] = {"a boolean", 1, false},
    [PS_GGUF_STRING] = {"a string", 0, false}, [PS_GGUF_ARRAY] = {"an array", 0, false},
    [PS_GGUF_U64] = {"an integer", 8, true},   [PS_GGUF_I64] = {"an integer", 8, true},
    [PS_GGUF_F64] = {"a real", 8, false},
};
_Static_assert(sizeof kinds / sizeof kinds[0] == PS_GGUF_KIND_COUNT, "one row a kind");

size_t ps_gguf_kind_bytes(ps_gguf_kind kind)
{
    return kinds[kind].bytes;
}

const ps_gguf_value *ps_gguf_keys_find(const ps_gguf_keys *keys, const char *key)
{
    int low = 0, high = keys->n;
    while (low < high) {
        const int middle = low + (high - low) / 2;
        const ps_gguf_value *value = &keys->values[keys->by_key[middle]];
        const int order = strcmp(value->key, key);
        if (order == 0) return value;
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

static uint64_t bits_at(const ps_gguf_value *value, size_t i)
{
    const size_t bytes = kinds[value->kind].bytes;
    const unsigned char *p = value->data + i * bytes;
    uint64_t bits = 0;
    for (size_t b = bytes; b-- > 0;) {
        bits = bits << 8 | p[b];
    }
    return bits;
}

int64_t ps_gguf_int_at(const ps_gguf_value *value, size_t i)
{
    assert(i < value->n);
    const uint64_t bits = bits_at(value, i);
    switch (value->kind) {
    case PS_GGUF_I8:
        return (int8_t)bits;
    case PS_GGUF_I16:
        return (int16_t)bits;
    case PS_GGUF_I32:
        return (int32_t)bits;
    case PS_GGUF_I64:
        return (int64_t)bits;
    default:
        assert(kinds[value->kind].is_integer || value->kind == PS_GGUF_BOOL);
        return bits > INT64_MAX ? INT64_MAX : (int64_t)bits;
    }
}

double ps_gguf_real_at(const ps_gguf_value *value, size_t i)
{
    assert(i < value->n);
    if (value->kind == PS_GGUF_F32) {
        const uint32_t bits = (uint32_t)bits_at(value, i);
        float real;
        memcpy(&real, &bits, sizeof real);
        return (double)real;
    }
    if (value->kind == PS_GGUF_F64) {
        const uint64_t bits = bits_at(value, i);
        double real;
        memcpy(&real, &bits, sizeof real);
        return real;
    }
    if (value->kind == PS_GGUF_U64) return (double)bits_at(value, i);
    return (double)ps_gguf_int_at(value, i);
}

bool ps_gguf_next_string(const ps_gguf_value *value, size_t *cursor, const char **bytes, size_t *n)
{
    assert(value->kind == PS_GGUF_STRING);
    if (*cursor == value->bytes) return false;
    *n = (size_t)ps_gguf_u64(value->data + *cursor);
    *bytes = (const char *)value->data + *cursor + 8;
    *cursor += 8 + *n;
    return true;
}

/* ---- getters ---- */

static ps_err wrong_kind(const char *path, const ps_gguf_value *value, const char *wanted)
{
    return PS_FAIL(PS_ERR_FORMAT, "%s: key %.80s is %s%s, wanted %s", path, value->key,
                   value->is_array ? "an array, each " : "", kinds[value->kind].name, wanted);
}

static ps_err to_int(const char *path, const ps_gguf_value *value, int64_t min, int64_t max,
                     int64_t *out)
{
    if (value->is_array || !kinds[value->kind].is_integer)
        return wrong_kind(path, value, "an integer");
    const int64_t found = ps_gguf_int_at(value, 0);
    const bool too_large = value->kind == PS_GGUF_U64 && bits_at(value, 0) > INT64_MAX;
    if (found < min || found > max || too_large)
        return PS_FAIL(PS_ERR_FORMAT, "%s: key %.80s is %s%lld, wanted %lld..%lld", path,
                       value->key, too_large ? "over " : "", (long long)found, (long long)min,
                       (long long)max);
    *out = found;
    return PS_OK;
}

ps_err ps_gguf_part_int(const ps_gguf_part *part, const char *key, int64_t min, int64_t max,
                        int64_t *out)
{
    const ps_gguf_value *value = ps_gguf_keys_find(&part->keys, key);
    return value ? to_int(part->path, value, min, max, out) : PS_OK;
}

const ps_gguf_value *ps_gguf_find(ps_gguf *self, const char *key)
{
    const ps_gguf_keys *keys = &self->parts[0].keys;
    const ps_gguf_value *value = ps_gguf_keys_find(keys, key);
    if (value) self->used[value - keys->values] = true;
    return value;
}

ps_err ps_gguf_find_int(ps_gguf *self, const char *key, int64_t min, int64_t max, int64_t *out)
{
    const ps_gguf_value *value = ps_gguf_find(self, key);
    return value ? to_int(ps_gguf_path(self), value, min, max, out) : PS_OK;
}

ps_err ps_gguf_find_real(ps_gguf *self, const char *key, double *out)
{
    const ps_gguf_value *value = ps_gguf_find(self, key);
    if (!value) return PS_OK;
    const bool is_real = value->kind == PS_GGUF_F32 || value->kind == PS_GGUF_F64;
    if (value->is_array || !(is_real || kinds[value->kind].is_integer))
        return wrong_kind(ps_gguf_path(self), value, "a real");
    *out = ps_gguf_real_at(value, 0);
    return PS_OK;
}

ps_err ps_gguf_find_bool(ps_gguf *self, const char *key, bool *out)
{
    const ps_gguf_value *value = ps_gguf_find(self, key);
    if (!value) return PS_OK;
    if (value->is_array || value->kind != PS_GGUF_BOOL)
        return wrong_kind(ps_gguf_path(self), value, "a boolean");
    *out = ps_gguf_int_at(value, 0) != 0;
    return PS_OK;
}

ps_err ps_gguf_find_text(ps_gguf *self, const char *key, const char **out)
{
    const ps_gguf_value *value = ps_gguf_find(self, key);
    if (!value) return PS_OK;
    if (value->is_array || value->kind != PS_GGUF_STRING)
        return wrong_kind(ps_gguf_path(self), value, "a string");
    size_t cursor = 0, n;
    const char *bytes;
    const bool there = ps_gguf_next_string(value, &cursor, &bytes, &n);
    assert(there);
    if (memchr(bytes, '\0', n))
        return PS_FAIL(PS_ERR_FORMAT, "%s: key %.80s holds a NUL character", ps_gguf_path(self),
                       key);
    char **text = &self->texts[value - self->parts[0].keys.values];
    if (!*text) *text = ps_mem_copy_bytes(bytes, n);
    *out = *text;
    return PS_OK;
}

static bool serves_as(ps_gguf_kind found, ps_gguf_kind wanted)
{
    const bool is_integer = kinds[found].is_integer;
    if (wanted == PS_GGUF_I64) return is_integer;
    if (wanted == PS_GGUF_F64) return is_integer || found == PS_GGUF_F32 || found == PS_GGUF_F64;
    return found == wanted;
}

ps_err ps_gguf_find_array(ps_gguf *self, const char *key, ps_gguf_kind kind,
                          const ps_gguf_value **out)
{
    const ps_gguf_value *value = ps_gguf_find(self, key);
    *out = NULL;
    if (value && !(value->is_array && serves_as(value->kind, kind)))
        return PS_FAIL(PS_ERR_FORMAT, "%s: key %.80s is %s%s, wanted an array, each %s",
                       ps_gguf_path(self), key, value->is_array ? "an array, each " : "",
                       kinds[value->kind].name, kinds[kind].name);
    *out = value;
    return PS_OK;
}

int ps_gguf_key_count(const ps_gguf *self)
{
    return self->parts[0].keys.n;
}

const ps_gguf_value *ps_gguf_key_at(const ps_gguf *self, int index)
{
    assert(index >= 0 && index < ps_gguf_key_count(self));
    return &self->parts[0].keys.values[index];
}

bool ps_gguf_key_is_used(const ps_gguf *self, int index)
{
    assert(index >= 0 && index < ps_gguf_key_count(self));
    return self->used[index];
}
