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

const ps_tok_merge_slot *ps_tok_bpe_find(const ps_tok_bpe *b, int32_t left, int32_t right)
{
    return merge_slot(b, pair_of((uint32_t)left, (uint32_t)right));
}

static uint64_t *joint_slot(const ps_tok_bpe *b, uint64_t pair)
{
    uint32_t at = (uint32_t)mix(pair) & b->joint_mask;
    while (b->joint[at] != EMPTY && b->joint[at] != pair) {
        at = (at + 1) & b->joint_mask;
    }
    return &b->joint[at];
}

// ---- building ----

static void add_joint(ps_tok_bpe *b, uint64_t pair)
{
    *joint_slot(b, pair) = pair;
    const int left_byte = ps_tok_byte_of_char((uint32_t)(pair >> 32));
    const int right_byte = ps_tok_byte_of_char((uint32_t)pair);
    if (left_byte < 0 || right_byte < 0) return;
    const unsigned bit = (unsigned)left_byte << 8 | (unsigned)right_byte;
    b->joint_bytes[bit >> 6] |= (uint64_t)1 << (bit & 63);
}

static void add_joint_of_merge(ps_tok_bpe *b, const ps_tokenizer_merge *merge)
{
    const char *left, *right;
    size_t left_bytes, right_bytes;
    uint32_t first;
    if (!ps_tok_vocab_text(b->vocab, merge->left, &left, &left_bytes) || left_bytes == 0 ||
        !ps_tok_vocab_text(b->vocab, merge->right, &right, &right_bytes) || right_bytes == 0) {
        return;
    }
    ps_utf8_decode(right, right_bytes, &first);
    add_joint(b, pair_of(ps_tok_char_before(left, left_bytes), first));
}

static void build_joints(ps_tok_bpe *b, const ps_tokenizer_definition *d)
{
    const bool known = d->joints.pair != NULL;
    const size_t slots = slots_for(known ? d->joints.n : d->n_merges);
    b->joint_mask = (uint32_t)(slots - 1);
    b->joint = ps_mem_new(slots, sizeof *b->joint);
    memset(b->joint, 0xFF, slots * sizeof *b->joint);
    for (size_t i = 0; known && i < d->joints.n; i++) {
        add_joint(b, d->joints.pair[i]);
    }
    for (size_t i = 0; !known && i < d->n_merges; i++) {
        add_joint_of_merge(b, &d->merge[i]);
    }
}

static void build_merges(ps_tok_bpe *b, const ps_tokenizer_definition *d)
{
    const size_t slots = slots_for(d->n_merges);
    b->merge_mask = (uint32_t)(slots - 1);
    b->merges = ps_mem_new(slots, sizeof *b->merges);
    memset(b->merges, 0xFF, slots * sizeof *b->merges);
    for (size_t i = 0; i < d->n_merges; i++) {
        const ps_tokenizer_merge *merge = &d->merge[i];
        const uint64_t pair = pair_of((uint32_t)merge->left, (uint32_t)merge->right);
        *merge_slot(b, pair) =
            (ps_tok_merge_slot){.pair = pair, .rank = merge->rank, .merged = merge->merged};
    }
    if (!b->prefix && !b->suffix && !b->ignore_merges) build_joints(b, d);
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

ps_err ps_tok_bpe_build(ps_tok_bpe *b, const json_t *model, const ps_tok_vocab *vocab,
                        const ps_tokenizer_definition *d)
{
    *b = (ps_tok_bpe){.vocab = vocab};
    PS_TRY(read_options(b, model, d->where));
    ps_tok_find_byte_tokens(vocab, b->byte_token);
    find_byte_symbols(b);
    b->all_bytes = b->all_bytes && !b->prefix && !b->suffix;
    build_merges(b, d);
    return PS_OK;
}

void ps_tok_bpe_release(ps_tok_bpe *b)
{
    ps_mem_free(b->joint);
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
