/* Strings and their ids: one block of bytes, a table by id, and a hash table of ids by string
 * (XXH3, open addressing, at most half full). Built once, then only read. */
#include "serve/tokenizer_parts.h"

#include <assert.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/mem.h"

void ps_tok_vocab_init(ps_tok_vocab *v, int32_t size, size_t count, size_t bytes)
{
    assert(size >= 0 && size <= PS_TOKENIZER_MAX_IDS);
    assert(count <= PS_TOKENIZER_MAX_IDS);
    size_t slots = 16;
    while (slots < 2 * count) {
        slots *= 2;
    }
    *v = (ps_tok_vocab){
        .bytes = bytes > 0 ? ps_mem_new(bytes, 1) : NULL,
        .capacity = bytes,
        .start = ps_mem_new((size_t)size, sizeof *v->start),
        .length = ps_mem_new((size_t)size, sizeof *v->length),
        .size = size,
        .slot = ps_mem_new(slots, sizeof *v->slot),
        .mask = (uint32_t)(slots - 1),
    };
    memset(v->slot, 0xFF, slots * sizeof *v->slot);
}

void ps_tok_vocab_release(ps_tok_vocab *v)
{
    ps_mem_free(v->slot);
    ps_mem_free(v->length);
    ps_mem_free(v->start);
    ps_mem_free(v->bytes);
    *v = (ps_tok_vocab){0};
}

/* The slot of a string: where it stands, or the empty one where it would. */
static uint32_t slot_of(const ps_tok_vocab *v, const char *token, size_t n, uint32_t *tag)
{
    const uint64_t hash = XXH3_64bits(token, n);
    uint32_t at = (uint32_t)hash & v->mask;
    *tag = (uint32_t)(hash >> 32);
    for (;;) {
        const int32_t id = v->slot[at].id;
        if (id < 0) return at;
        if (v->slot[at].tag == *tag && v->length[id] == n &&
            memcmp(v->bytes + v->start[id] - 1, token, n) == 0) {
            return at;
        }
        at = (at + 1) & v->mask;
    }
}

void ps_tok_vocab_add(ps_tok_vocab *v, int32_t id, const char *token, size_t n)
{
    assert(id >= 0 && id < v->size && v->start[id] == 0);
    assert(n <= PS_TOK_MAX_TOKEN_BYTES && v->used + n < UINT32_MAX);
    v->bytes = ps_mem_grow(v->bytes, &v->capacity, v->used + n + 1, 1);
    memcpy(v->bytes + v->used, token, n);
    v->start[id] = (uint32_t)v->used + 1;
    v->length[id] = (uint16_t)n;
    v->used += n;
    uint32_t tag;
    const uint32_t at = slot_of(v, token, n, &tag);
    v->slot[at] = (ps_tok_vocab_slot){id, tag};
}

int32_t ps_tok_vocab_find(const ps_tok_vocab *v, const char *token, size_t n)
{
    uint32_t tag;
    return n <= PS_TOK_MAX_TOKEN_BYTES ? v->slot[slot_of(v, token, n, &tag)].id : -1;
}

bool ps_tok_vocab_text(const ps_tok_vocab *v, int32_t id, const char **token, size_t *n)
{
    if (id < 0 || id >= v->size || v->start[id] == 0) return false;
    *token = v->bytes + v->start[id] - 1;
    *n = v->length[id];
    return true;
}
