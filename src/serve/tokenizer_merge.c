/* BPE on one word: its symbols, then merges, lowest rank first and leftmost among equals, until
 * none applies.
 *
 * Short words, nearly all of them, are searched for the best pair again and again: 12 symbols fit
 * in a cache line and no structure is faster. Long ones have their symbols linked in a list and
 * their pairs in a heap of rank << 32 | position; an entry whose pair is gone is recognised when it
 * comes up, since its rank no longer is the pair's. n log n in the length of the word. */
#include "serve/tokenizer_parts.h"

#include <assert.h>

#include "base/mem.h"

enum { SHORT_WORD = 48 };

static const uint32_t NONE = UINT32_MAX;

void ps_tok_bpe_scratch_release(ps_tok_bpe_scratch *s)
{
    ps_text_release(&s->text);
    ps_mem_free(s->heap);
    ps_mem_free(s->next);
    ps_mem_free(s->previous);
    ps_mem_free(s->symbol);
    *s = (ps_tok_bpe_scratch){0};
}

static uint32_t rank_of(const ps_tok_bpe *b, int32_t left, int32_t right)
{
    return ps_tok_bpe_find(b, left, right)->rank;
}

static uint32_t rank_at(const ps_tok_bpe *b, const int32_t *symbol, size_t i)
{
    return rank_of(b, symbol[i], symbol[i + 1]);
}

static size_t merge_short(const ps_tok_bpe *b, int32_t *symbol, size_t n)
{
    uint32_t rank[SHORT_WORD];
    for (size_t i = 0; i + 1 < n; i++) {
        rank[i] = rank_at(b, symbol, i);
    }
    for (;;) {
        size_t best = 0;
        uint32_t lowest = NONE;
        for (size_t i = 0; i + 1 < n; i++) {
            if (rank[i] >= lowest) continue;
            lowest = rank[i];
            best = i;
        }
        if (lowest == NONE) return n;
        symbol[best] = ps_tok_bpe_find(b, symbol[best], symbol[best + 1])->merged;
        n--;
        for (size_t i = best + 1; i < n; i++) {
            symbol[i] = symbol[i + 1];
            rank[i - 1] = rank[i];
        }
        if (best > 0) rank[best - 1] = rank_at(b, symbol, best - 1);
        if (best + 1 < n) rank[best] = rank_at(b, symbol, best);
    }
}

static void sift_down(uint64_t *heap, size_t n, size_t at)
{
    const uint64_t moving = heap[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= n) break;
        if (child + 1 < n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= moving) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

static void sift_up(uint64_t *heap, size_t at)
{
    const uint64_t moving = heap[at];
    while (at > 0 && heap[(at - 1) / 2] > moving) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = moving;
}

/* Puts the pair that begins at `at` on the heap, if it can merge. */
static size_t push_pair(const ps_tok_bpe *b, ps_tok_bpe_scratch *s, size_t n_heap, int32_t at)
{
    if (at < 0 || s->next[at] < 0) return n_heap;
    const uint32_t rank = rank_of(b, s->symbol[at], s->symbol[s->next[at]]);
    if (rank == NONE) return n_heap;
    s->heap = ps_mem_grow(s->heap, &s->heap_capacity, n_heap + 1, sizeof *s->heap);
    s->heap[n_heap] = (uint64_t)rank << 32 | (uint32_t)at;
    return n_heap + 1;
}

/* Links the symbols and makes the heap of their pairs. */
static size_t link_symbols(const ps_tok_bpe *b, ps_tok_bpe_scratch *s, size_t n)
{
    s->previous = ps_mem_grow(s->previous, &s->previous_capacity, n, sizeof *s->previous);
    s->next = ps_mem_grow(s->next, &s->next_capacity, n, sizeof *s->next);
    for (size_t i = 0; i < n; i++) {
        s->previous[i] = (int32_t)i - 1;
        s->next[i] = i + 1 < n ? (int32_t)i + 1 : -1;
    }
    size_t n_heap = 0;
    for (size_t i = 0; i < n; i++) {
        n_heap = push_pair(b, s, n_heap, (int32_t)i);
    }
    for (size_t i = n_heap / 2; i-- > 0;) {
        sift_down(s->heap, n_heap, i);
    }
    return n_heap;
}

/* Merges the symbol at `at` with the next, which leaves the list: its symbol becomes -1. */
static void join(ps_tok_bpe_scratch *s, int32_t at, int32_t merged)
{
    const int32_t right = s->next[at];
    s->symbol[at] = merged;
    s->symbol[right] = -1;
    s->next[at] = s->next[right];
    if (s->next[at] >= 0) s->previous[s->next[at]] = at;
}

static size_t merge_long(const ps_tok_bpe *b, ps_tok_bpe_scratch *s, size_t n)
{
    size_t n_heap = link_symbols(b, s, n);
    while (n_heap > 0) {
        const uint64_t top = s->heap[0];
        s->heap[0] = s->heap[--n_heap];
        if (n_heap > 0) sift_down(s->heap, n_heap, 0);
        const int32_t at = (int32_t)(uint32_t)top;
        const uint32_t rank = (uint32_t)(top >> 32);
        if (s->symbol[at] < 0 || s->next[at] < 0) continue;
        const ps_tok_merge_slot *slot = ps_tok_bpe_find(b, s->symbol[at], s->symbol[s->next[at]]);
        if (slot->rank != rank) continue;
        join(s, at, slot->merged);
        const int32_t ends[2] = {s->previous[at], at};
        for (int i = 0; i < 2; i++) {
            const size_t before = n_heap;
            n_heap = push_pair(b, s, n_heap, ends[i]);
            if (n_heap > before) sift_up(s->heap, before);
        }
    }
    size_t left = 0;
    for (int32_t i = 0; i >= 0; i = s->next[i]) {
        s->symbol[left++] = s->symbol[i];
    }
    return left;
}

size_t ps_tok_merge(const ps_tok_bpe *b, ps_tok_bpe_scratch *s, size_t n)
{
    assert(n <= INT32_MAX);
    if (n < 2) return n;
    return n <= SHORT_WORD ? merge_short(b, s->symbol, n) : merge_long(b, s, n);
}

// ---- symbols of a word ----

/* Symbols on their way into s->symbol; runs of unknown characters wait to be one, if they fuse. */
typedef struct symbolizer {
    const ps_tok_bpe *bpe;
    ps_tok_bpe_scratch *scratch;
    size_t n;
    bool unknown_waits;
} symbolizer;

static void add_symbol(symbolizer *z, int32_t id)
{
    ps_tok_bpe_scratch *s = z->scratch;
    s->symbol = ps_mem_grow(s->symbol, &s->symbol_capacity, z->n + 1, sizeof *s->symbol);
    s->symbol[z->n++] = id;
}

static void flush_unknown(symbolizer *z)
{
    if (z->unknown_waits) add_symbol(z, z->bpe->unk_id);
    z->unknown_waits = false;
}

/* The bytes of a character as byte tokens; false if one has none. What waits still waits: the
 * library, too, puts an unknown character behind the byte tokens that follow it. */
static bool add_byte_tokens(symbolizer *z, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (z->bpe->byte_token[(unsigned char)text[i]] < 0) return false;
    }
    for (size_t i = 0; i < n; i++) {
        add_symbol(z, z->bpe->byte_token[(unsigned char)text[i]]);
    }
    return true;
}

/* A character, with its affixes. Without a token for the unknown it is dropped. */
static ps_err add_char(symbolizer *z, const char *text, size_t n)
{
    const ps_tok_bpe *b = z->bpe;
    const int32_t id = ps_tok_vocab_find(b->vocab, text, n);
    if (id >= 0) {
        flush_unknown(z);
        add_symbol(z, id);
        return PS_OK;
    }
    if (b->byte_fallback && add_byte_tokens(z, text, n)) return PS_OK;
    if (!b->unk_token) return PS_OK;
    if (b->unk_id < 0) {
        return PS_FAIL(PS_ERR_FORMAT,
                       "tokenizer: unknown character \"%.*s\", and unk_token %s is not in the "
                       "vocabulary",
                       n < 100 ? (int)n : 100, text, b->unk_token);
    }
    if (!b->fuse_unk) flush_unknown(z);
    z->unknown_waits = true;
    return PS_OK;
}

static ps_err symbolize_chars(symbolizer *z, const char *word, size_t n)
{
    const ps_tok_bpe *b = z->bpe;
    for (size_t at = 0; at < n;) {
        uint32_t c;
        const size_t length = ps_utf8_decode(word + at, n - at, &c);
        const bool last = at + length == n;
        const char *text = word + at;
        size_t text_bytes = length;
        if ((b->prefix && at > 0) || (b->suffix && last)) {
            ps_text *affixed = &z->scratch->text;
            ps_text_clear(affixed);
            if (b->prefix && at > 0) ps_text_append_str(affixed, b->prefix);
            ps_text_append(affixed, text, length);
            if (b->suffix && last) ps_text_append_str(affixed, b->suffix);
            text = affixed->data;
            text_bytes = affixed->len;
        }
        PS_TRY(add_char(z, text, text_bytes));
        at += length;
    }
    flush_unknown(z);
    return PS_OK;
}

/* The word's own id, where merges are ignored for words that are tokens; -1: none. */
static int32_t find_whole(const ps_tok_bpe *b, const char *word, size_t n, ps_tok_bpe_scratch *s)
{
    if (!b->ignore_merges || n > PS_TOK_MAX_TOKEN_BYTES) return -1;
    if (!b->raw_bytes) return ps_tok_vocab_find(b->vocab, word, n);
    ps_text_clear(&s->text);
    ps_tok_append_byte_chars(&s->text, word, n);
    return ps_tok_vocab_find(b->vocab, s->text.data, s->text.len);
}

ps_err ps_tok_bpe_encode(const ps_tok_bpe *b, const char *word, size_t n, ps_tok_bpe_scratch *s,
                         ps_tokens *out)
{
    const int32_t whole = find_whole(b, word, n, s);
    if (whole >= 0) {
        ps_tokens_append(out, whole);
        return PS_OK;
    }
    symbolizer z = {.bpe = b, .scratch = s};
    s->symbol = ps_mem_grow(s->symbol, &s->symbol_capacity, n, sizeof *s->symbol);
    if (b->raw_bytes) {
        for (size_t i = 0; i < n; i++) {
            s->symbol[i] = b->byte_symbol[(unsigned char)word[i]];
        }
        z.n = n;
    } else {
        PS_TRY(symbolize_chars(&z, word, n));
    }
    const size_t left = ps_tok_merge(b, s, z.n);
    for (size_t i = 0; i < left; i++) {
        ps_tokens_append(out, s->symbol[i]);
    }
    return PS_OK;
}
