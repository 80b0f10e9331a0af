/* BPE as data: the merges by pair and rank, the tokens of single bytes, and the pairs of characters
 * a merge can join.
 *
 * The last is what keeps long words cheap. Between two characters x y no merge can happen unless
 * some merge's left token ends in x and its right token begins with y, because every token the
 * merging makes is the string it stands for. So a word may be cut wherever that is not so, and its
 * parts merged alone: the result is the same. SentencePiece vocabularies, which have no
 * pre-tokenizer, come apart into words that way ("e" before U+2581 is joined by no merge). It does
 * not hold with affixes (continuing_subword_prefix, end_of_word_suffix), nor next to an unknown
 * character, which may be fused with its neighbour, nor with ignore_merges, which looks at the
 * whole word first; such words are not cut. */
#include "serve/tokenizer_parts.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

static const uint64_t EMPTY = UINT64_MAX;

/* Finalizer of splitmix64: every bit of the pair reaches the low ones. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static uint64_t pair_of(uint32_t left, uint32_t right)
{
    return (uint64_t)left << 32 | right;
}

/* Slots for n entries, a power of two, at most half of them used. */
static size_t slots_for(size_t n)
{
    size_t slots = 16;
    while (slots < 2 * n) {
        slots *= 2;
    }
    return slots;
}

static ps_tok_merge_slot *merge_slot(const ps_tok_bpe *b, uint64_t pair)
{
    uint32_t at = (uint32_t)mix(pair) & b->merge_mask;
    while (b->merges[at].pair != EMPTY && b->merges[at].pair != pair) {
        at = (at + 1) & b->merge_mask;
    }
    return &b->merges[at];
}

uint32_t ps_tok_bpe_rank(const ps_tok_bpe *b, int32_t left, int32_t right)
{
    return merge_slot(b, pair_of((uint32_t)left, (uint32_t)right))->rank;
}

static uint64_t *joint_slot(const ps_tok_bpe *b, uint64_t pair)
{
    uint32_t at = (uint32_t)mix(pair) & b->joint_mask;
    while (b->joint[at] != EMPTY && b->joint[at] != pair) {
        at = (at + 1) & b->joint_mask;
    }
    return &b->joint[at];
}

// ---- reading ----

/* One merge: an array of two strings, or one string with a blank in between. */
static ps_err read_merge_strings(const json_t *merge, const char *where, size_t rank,
                                 ps_text part[2])
{
    ps_text_clear(&part[0]);
    ps_text_clear(&part[1]);
    if (json_is_string(merge)) {
        const char *text = json_string_value(merge);
        const size_t n = json_string_length(merge);
        const char *blank = memchr(text, ' ', n);
        if (blank && !memchr(blank + 1, ' ', n - (size_t)(blank + 1 - text))) {
            ps_text_append(&part[0], text, (size_t)(blank - text));
            ps_text_append(&part[1], blank + 1, n - (size_t)(blank + 1 - text));
            return PS_OK;
        }
    } else if (json_array_size(merge) == 2 && json_is_string(json_array_get(merge, 0)) &&
               json_is_string(json_array_get(merge, 1))) {
        for (size_t i = 0; i < 2; i++) {
            const json_t *string = json_array_get(merge, i);
            ps_text_append(&part[i], json_string_value(string), json_string_length(string));
        }
        return PS_OK;
    }
    return PS_FAIL(PS_ERR_FORMAT, "%s: merge %zu is not a pair of tokens", where, rank);
}

static ps_err find_token(const ps_tok_bpe *b, const char *token, size_t n, const char *where,
                         size_t rank, int32_t *id)
{
    *id = ps_tok_vocab_find(b->vocab, token, n);
    if (*id >= 0) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "%s: merge %zu names the token \"%.*s\", not in the vocabulary",
                   where, rank, n < 100 ? (int)n : 100, token);
}

static void add_joint(ps_tok_bpe *b, const ps_text part[2])
{
    if (!b->joint || part[0].len == 0 || part[1].len == 0) return;
    const uint32_t left = ps_tok_char_before(part[0].data, part[0].len);
    uint32_t right;
    ps_utf8_decode(part[1].data, part[1].len, &right);
    const uint64_t pair = pair_of(left, right);
    *joint_slot(b, pair) = pair;
    const int left_byte = ps_tok_byte_of_char(left), right_byte = ps_tok_byte_of_char(right);
    if (left_byte < 0 || right_byte < 0) return;
    const unsigned bit = (unsigned)left_byte << 8 | (unsigned)right_byte;
    b->joint_bytes[bit >> 6] |= (uint64_t)1 << (bit & 63);
}

/* part is scratch. A pair that is listed twice has its later rank, as in the library. */
static ps_err add_merge(ps_tok_bpe *b, const json_t *merge, const char *where, ps_text part[2])
{
    const size_t rank = b->n_merges;
    int32_t left, right;
    PS_TRY(read_merge_strings(merge, where, rank, part));
    PS_TRY(find_token(b, ps_text_str(&part[0]), part[0].len, where, rank, &left));
    PS_TRY(find_token(b, ps_text_str(&part[1]), part[1].len, where, rank, &right));
    add_joint(b, part);
    const size_t prefix_bytes = b->prefix ? strlen(b->prefix) : 0;
    if (part[1].len < prefix_bytes) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: merge %zu: the right token lacks the prefix %s", where,
                       rank, b->prefix);
    }
    ps_text_append(&part[0], ps_text_str(&part[1]) + prefix_bytes, part[1].len - prefix_bytes);
    PS_TRY(find_token(b, ps_text_str(&part[0]), part[0].len, where, rank, &b->merged[rank]));
    *merge_slot(b, pair_of((uint32_t)left, (uint32_t)right)) = (ps_tok_merge_slot){
        .pair = pair_of((uint32_t)left, (uint32_t)right), .rank = (uint32_t)rank};
    b->n_merges++;
    return PS_OK;
}

static bool is_version_line(const json_t *merge)
{
    const char *text = json_string_value(merge);
    return text && strncmp(text, "#version", 8) == 0;
}

static ps_err read_merges(ps_tok_bpe *b, const json_t *model, const char *where)
{
    json_t *merges;
    PS_TRY(ps_json_get(model, "merges", JSON_ARRAY, where, &merges));
    const size_t n = json_array_size(merges);
    if (n > PS_TOKENIZER_MAX_IDS) {
        return PS_FAIL(PS_ERR_LIMIT, "%s: %zu merges, at most %d", where, n, PS_TOKENIZER_MAX_IDS);
    }
    const size_t slots = slots_for(n);
    b->merge_mask = (uint32_t)(slots - 1);
    b->merges = ps_mem_new(slots, sizeof *b->merges);
    memset(b->merges, 0xFF, slots * sizeof *b->merges);
    b->merged = ps_mem_new(n, sizeof *b->merged);
    if (!b->prefix && !b->suffix && !b->ignore_merges) {
        b->joint_mask = (uint32_t)(slots - 1);
        b->joint = ps_mem_new(slots, sizeof *b->joint);
        memset(b->joint, 0xFF, slots * sizeof *b->joint);
    }
    ps_text part[2] = {{0}, {0}};
    ps_err err = PS_OK;
    for (size_t i = 0; i < n && !err; i++) {
        const json_t *merge = json_array_get(merges, i);
        if (!is_version_line(merge)) err = add_merge(b, merge, where, part);
    }
    ps_text_release(&part[0]);
    ps_text_release(&part[1]);
    return err;
}

void ps_tok_find_byte_tokens(const ps_tok_vocab *v, int32_t out[256])
{
    for (int i = 0; i < 256; i++) {
        char token[8];
        const int n = snprintf(token, sizeof token, "<0x%02X>", (unsigned)i);
        out[i] = ps_tok_vocab_find(v, token, (size_t)n);
    }
}

/* Bytes C0, C1 and F5 to FF are in no valid UTF-8. */
static bool is_utf8_byte(int byte)
{
    return byte < 0xC0 || (byte > 0xC1 && byte < 0xF5);
}

static void find_byte_symbols(ps_tok_bpe *b)
{
    b->all_bytes = true;
    for (int i = 0; i < 256; i++) {
        char c[4];
        const size_t n = ps_utf8_encode(ps_tok_char_of_byte((unsigned char)i), c);
        b->byte_symbol[i] = ps_tok_vocab_find(b->vocab, c, n);
        if (b->byte_symbol[i] < 0 && is_utf8_byte(i)) b->all_bytes = false;
    }
}

static ps_err read_affix(const json_t *model, const char *key, const char *where, char **out)
{
    const char *text = NULL;
    PS_TRY(ps_json_opt_text(model, key, where, &text));
    if (text && text[0]) *out = ps_mem_copy_text(text);
    return PS_OK;
}

static ps_err read_options(ps_tok_bpe *b, const json_t *model, const char *where)
{
    double dropout = 0.0;
    PS_TRY(ps_json_opt_real(model, "dropout", where, &dropout));
    if (dropout != 0.0) {
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: BPE dropout %g is not supported", where, dropout);
    }
    const char *unk = NULL;
    PS_TRY(ps_json_opt_text(model, "unk_token", where, &unk));
    if (unk) b->unk_token = ps_mem_copy_text(unk);
    b->unk_id = unk ? ps_tok_vocab_find(b->vocab, unk, strlen(unk)) : -1;
    PS_TRY(read_affix(model, "continuing_subword_prefix", where, &b->prefix));
    PS_TRY(read_affix(model, "end_of_word_suffix", where, &b->suffix));
    PS_TRY(ps_json_opt_bool(model, "fuse_unk", where, &b->fuse_unk));
    PS_TRY(ps_json_opt_bool(model, "byte_fallback", where, &b->byte_fallback));
    return ps_json_opt_bool(model, "ignore_merges", where, &b->ignore_merges);
}

ps_err ps_tok_bpe_read(ps_tok_bpe *b, const json_t *model, const ps_tok_vocab *vocab,
                       const char *where)
{
    *b = (ps_tok_bpe){.vocab = vocab};
    PS_TRY(read_options(b, model, where));
    ps_tok_find_byte_tokens(vocab, b->byte_token);
    find_byte_symbols(b);
    b->all_bytes = b->all_bytes && !b->prefix && !b->suffix;
    return read_merges(b, model, where);
}

void ps_tok_bpe_release(ps_tok_bpe *b)
{
    ps_mem_free(b->joint);
    ps_mem_free(b->merged);
    ps_mem_free(b->merges);
    ps_mem_free(b->suffix);
    ps_mem_free(b->prefix);
    ps_mem_free(b->unk_token);
    *b = (ps_tok_bpe){0};
}

// ---- cutting a word ----

static size_t cut_bytes(const ps_tok_bpe *b, const char *text, size_t n, size_t from)
{
    size_t at = from + 1;
    for (; at < n; at++) {
        const unsigned bit = (unsigned)(unsigned char)text[at - 1] << 8 | (unsigned char)text[at];
        if ((b->joint_bytes[bit >> 6] >> (bit & 63) & 1) == 0) break;
    }
    return at;
}

size_t ps_tok_bpe_cut(const ps_tok_bpe *b, const char *text, size_t n, size_t from)
{
    if (!b->joint) return n;
    if (b->raw_bytes) return cut_bytes(b, text, n, from);
    uint32_t left = 0, right;
    bool left_known = false;
    for (size_t at = from; at < n;) {
        const size_t length = ps_utf8_decode(text + at, n - at, &right);
        const bool right_known = ps_tok_vocab_find(b->vocab, text + at, length) >= 0;
        if (at > from && left_known && right_known &&
            *joint_slot(b, pair_of(left, right)) == EMPTY) {
            return at;
        }
        left = right;
        left_known = right_known;
        at += length;
    }
    return n;
}
