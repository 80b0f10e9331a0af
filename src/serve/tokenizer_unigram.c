/* Unigram: the segmentation of a word into tokens with the greatest sum of scores (log
 * probabilities), found by Viterbi's algorithm over positions.
 *
 * A position needs the score of the best path to it only while tokens can still end there, so
 * scores stand in a ring as long as the longest token; what stays for the way back is one id a
 * byte. A character no token covers alone costs as much as the worst token and 10 more, and becomes
 * unknown; neighbours that are unknown become one (Kudo 2018; SentencePiece, unigram_model.cc).
 * Ties go to the path found first, as in the library, and sums are taken in the same order, so
 * results agree to the last bit; SentencePiece itself adds in float, which breaks ties
 * otherwise. */
#include "serve/tokenizer_parts.h"

#include <math.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

enum {
    NOT_REACHED = -1,  // no path ends here
    UNKNOWN_CHAR = -2, // the best path ends with a character of its own
};
_Static_assert(PS_TOK_RING > PS_TOK_MAX_PIECE_BYTES,
               "a token's end must not meet its start in the ring");

/* The tokens that can be found in a text, as keys. */
static ps_err collect_keys(const ps_tok_unigram *u, const int32_t *order, size_t n_order,
                           const char *where, ps_tok_key *keys, size_t *n)
{
    const size_t n_ids = order ? n_order : (size_t)u->vocab->size;
    *n = 0;
    for (size_t i = 0; i < n_ids; i++) {
        const int32_t id = order ? order[i] : (int32_t)i;
        ps_tok_key key = {.value = id};
        if (!ps_tok_vocab_text(u->vocab, id, &key.bytes, &key.n) || u->score[id] == -INFINITY) {
            continue;
        }
        if (key.n > PS_TOK_MAX_PIECE_BYTES) {
            return PS_FAIL(PS_ERR_LIMIT, "%s: token %d has %zu bytes, at most %d", where, id, key.n,
                           PS_TOK_MAX_PIECE_BYTES);
        }
        if (key.n > 0) keys[(*n)++] = key;
    }
    return PS_OK;
}

/* All of the tokens must be there, in the order of their strings. */
static ps_err check_order(const ps_tok_unigram *u, const ps_tok_key *keys, size_t n,
                          const char *where)
{
    size_t wanted = 0;
    for (int32_t id = 0; id < u->vocab->size; id++) {
        const char *token;
        size_t length;
        const bool there = ps_tok_vocab_text(u->vocab, id, &token, &length);
        wanted += there && length > 0 && u->score[id] != -INFINITY;
    }
    if (n == wanted && ps_tok_trie_sorted(keys, n)) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "%s: the tokens are not all there in the order of their strings",
                   where);
}

static ps_err build_trie(ps_tok_unigram *u, const int32_t *order, size_t n_order, const char *where)
{
    ps_tok_key *keys = ps_mem_new((size_t)u->vocab->size, sizeof *keys);
    size_t n = 0;
    ps_err err = collect_keys(u, order, n_order, where, keys, &n);
    if (!err && !order) ps_tok_trie_sort(keys, n);
    if (!err && order) err = check_order(u, keys, n, where);
    if (!err) ps_tok_trie_build(&u->trie, keys, n);
    ps_mem_free(keys);
    return err;
}

ps_err ps_tok_unigram_build(ps_tok_unigram *u, const json_t *model, const ps_tok_vocab *vocab,
                            const double *score, const int32_t *order, size_t n_order,
                            const char *where)
{
    *u = (ps_tok_unigram){.vocab = vocab, .score = score, .unk_id = -1};
    int unk_id = -1;
    PS_TRY(ps_json_opt_int(model, "unk_id", 0, vocab->size - 1, where, &unk_id));
    PS_TRY(ps_json_opt_bool(model, "byte_fallback", where, &u->byte_fallback));
    PS_TRY(ps_json_opt_bool(model, "single_precision", where, &u->single_precision));
    u->unk_id = unk_id;
    ps_tok_find_byte_tokens(vocab, u->byte_token);
    double lowest = INFINITY;
    for (int32_t id = 0; id < vocab->size; id++) {
        if (score[id] < lowest && score[id] != -INFINITY) lowest = score[id];
    }
    u->unk_score = lowest - 10.0;
    return build_trie(u, order, n_order, where);
}

void ps_tok_unigram_release(ps_tok_unigram *u)
{
    ps_tok_trie_release(&u->trie);
    *u = (ps_tok_unigram){0};
}

void ps_tok_unigram_scratch_release(ps_tok_unigram_scratch *s)
{
    ps_mem_free(s->end);
    ps_mem_free(s->back);
    *s = (ps_tok_unigram_scratch){0};
}

typedef struct lattice {
    const ps_tok_unigram *unigram;
    const char *word;
    size_t n;
    int32_t *back; // [n + 1]
    double *best;  // [PS_TOK_RING]  of positions, modulo RING; valid where back is not NOT_REACHED
} lattice;

static void offer(lattice *l, size_t end, double score, int32_t id)
{
    if (l->unigram->single_precision) score = (double)(float)score;
    double *best = &l->best[end % PS_TOK_RING];
    if (l->back[end] != NOT_REACHED && score <= *best) return;
    *best = score;
    l->back[end] = id;
}

/* Offers all tokens that begin at `at`, whose first character has `length` bytes. */
static void extend(lattice *l, size_t at, size_t length)
{
    const ps_tok_unigram *u = l->unigram;
    const double here = at > 0 ? l->best[at % PS_TOK_RING] : 0.0;
    bool covered = false;
    uint32_t node = 0;
    for (size_t end = at; end < l->n; end++) {
        node = ps_tok_trie_child(&u->trie, node, (unsigned char)l->word[end]);
        if (node == 0) break;
        const int32_t id = u->trie.node[node].value;
        if (id < 0) continue;
        offer(l, end + 1, u->score[id] + here, id);
        covered = covered || end + 1 == at + length;
    }
    if (!covered) offer(l, at + length, u->unk_score + here, UNKNOWN_CHAR);
}

/* Start of what the best path ends with at `end`. */
static size_t step_back(const lattice *l, size_t end)
{
    const int32_t id = l->back[end];
    if (id >= 0) return end - l->unigram->vocab->length[id];
    size_t start = end - 1;
    while (start > 0 && ((unsigned char)l->word[start] & 0xC0) == 0x80) {
        start--;
    }
    return start;
}

static ps_err no_unknown(const char *text, size_t n)
{
    return PS_FAIL(PS_ERR_FORMAT, "tokenizer: unknown characters \"%.*s\", and there is no unk_id",
                   n < 100 ? (int)n : 100, text);
}

/* Ids of a stretch of unknown characters: a token by chance, bytes, or the unknown. */
static ps_err append_unknown(const ps_tok_unigram *u, const char *text, size_t n, ps_tokens *out)
{
    const int32_t id = ps_tok_vocab_find(u->vocab, text, n);
    if (id >= 0) {
        ps_tokens_append(out, id);
        return PS_OK;
    }
    bool all = u->byte_fallback;
    for (size_t i = 0; i < n && all; i++) {
        all = u->byte_token[(unsigned char)text[i]] >= 0;
    }
    for (size_t i = 0; i < n && all; i++) {
        ps_tokens_append(out, u->byte_token[(unsigned char)text[i]]);
    }
    if (all) return PS_OK;
    if (u->unk_id < 0) return no_unknown(text, n);
    ps_tokens_append(out, u->unk_id);
    return PS_OK;
}

static bool is_unknown(const lattice *l, size_t end)
{
    const int32_t id = l->back[end];
    return id == UNKNOWN_CHAR || id == l->unigram->unk_id;
}

/* Follows the best path from its end; the ends of its tokens, last first. */
static size_t collect_ends(const lattice *l, ps_tok_unigram_scratch *s)
{
    size_t n_ends = 0;
    for (size_t end = l->n; end > 0; end = step_back(l, end)) {
        s->end = ps_mem_grow(s->end, &s->end_capacity, n_ends + 1, sizeof *s->end);
        s->end[n_ends++] = (uint32_t)end;
    }
    return n_ends;
}

static ps_err append_path(const lattice *l, ps_tok_unigram_scratch *s, ps_tokens *out)
{
    size_t unknown = SIZE_MAX; // where a run of unknown characters began
    size_t start = 0;
    for (size_t i = collect_ends(l, s); i-- > 0; start = s->end[i]) {
        const size_t end = s->end[i];
        if (is_unknown(l, end)) {
            if (unknown == SIZE_MAX) unknown = start;
            continue;
        }
        if (unknown != SIZE_MAX) {
            PS_TRY(append_unknown(l->unigram, l->word + unknown, start - unknown, out));
            unknown = SIZE_MAX;
        }
        ps_tokens_append(out, l->back[end]);
    }
    if (unknown == SIZE_MAX) return PS_OK;
    return append_unknown(l->unigram, l->word + unknown, l->n - unknown, out);
}

ps_err ps_tok_unigram_encode(const ps_tok_unigram *u, const char *word, size_t n,
                             ps_tok_unigram_scratch *s, ps_tokens *out)
{
    s->back = ps_mem_grow(s->back, &s->back_capacity, n + 1, sizeof *s->back);
    memset(s->back, 0xFF, (n + 1) * sizeof *s->back); // NOT_REACHED
    lattice l = {.unigram = u, .word = word, .n = n, .back = s->back, .best = s->best};
    for (size_t at = 0; at < n;) {
        uint32_t c;
        const size_t length = ps_utf8_decode(word + at, n - at, &c);
        extend(&l, at, length);
        at += length;
    }
    return append_path(&l, s, out);
}
