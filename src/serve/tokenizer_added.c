/* Added tokens: strings that are tokens wherever they stand in a text, control tokens most of all.
 *
 * A text is cut twice. First at the tokens that are not to be normalized, as the text came; then
 * the rest, normalized, at the others, whose content is normalized as well. Either time the
 * leftmost token wins, and of those the longest; a search goes on behind the token, not behind the
 * white space it swallowed, so such a token can come to lie in what the one before swallowed. That
 * is what the tokenizers library does, and what ids depend on. */
#include "serve/tokenizer_parts.h"

#include <stdlib.h>

#include "base/mem.h"

// ---- building ----

/* The id must be the one the model's vocabulary has for the string, if it has one, and nobody
 * else's. */
static ps_err check_id(const ps_tok_vocab *vocab, const ps_tok_added_token *token,
                       const char *where)
{
    const int32_t known = ps_tok_vocab_find(vocab, token->content, token->n);
    const char *other;
    size_t n;
    if (known >= 0 && known != token->id) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: added token %s has id %d, in the vocabulary it has %d",
                       where, token->content, token->id, known);
    }
    if (known < 0 && ps_tok_vocab_text(vocab, token->id, &other, &n)) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: added token %s has id %d, which is %.*s's", where,
                       token->content, token->id, n < 100 ? (int)n : 100, other);
    }
    return PS_OK;
}

static int compare_ids(const void *left, const void *right)
{
    const ps_tok_added_token *a = left, *b = right;
    return (a->id > b->id) - (a->id < b->id);
}

static ps_err sort_by_id(ps_tok_added *a, const char *where)
{
    if (a->n > 0) qsort(a->token, (size_t)a->n, sizeof *a->token, compare_ids);
    for (int i = 1; i < a->n; i++) {
        if (a->token[i].id == a->token[i - 1].id) {
            return PS_FAIL(PS_ERR_FORMAT, "%s: added tokens %s and %s have the same id %d", where,
                           a->token[i - 1].content, a->token[i].content, a->token[i].id);
        }
    }
    return PS_OK;
}

static ps_err normalize_token(const ps_tok_normalizers *ns, ps_tok_work *w,
                              ps_tok_added_token *token)
{
    ps_tok_work_begin(w, token->content, token->n, 0);
    if (token->normalized && !token->verbatim) PS_TRY(ps_tok_normalize(ns, w));
    token->shown = ps_mem_copy_bytes(w->text, w->n);
    token->n_shown = w->n;
    return PS_OK;
}

/* Of tokens with the same string the special ones come first, then those with lower ids; the trie
 * keeps the last key, so they go in the other way round. */
static void build_trie(const ps_tok_added *a, bool normalized, bool plain, ps_tok_trie *trie)
{
    ps_tok_key *keys = ps_mem_new((size_t)a->n, sizeof *keys);
    int *index = ps_mem_new((size_t)a->n, sizeof *index);
    size_t n = 0;
    for (int special = 0; special < (plain ? 1 : 2); special++) {
        for (int i = a->n - 1; i >= 0; i--) {
            const ps_tok_added_token *t = &a->token[i];
            if (t->normalized != normalized || t->special != special || t->n_shown == 0) continue;
            keys[n] = (ps_tok_key){.bytes = t->shown, .n = t->n_shown, .value = (int32_t)n};
            index[n++] = i;
        }
    }
    ps_tok_trie_sort(keys, n);
    ps_tok_trie_build(trie, keys, n);
    for (size_t i = 0; i < trie->n; i++) {
        int32_t *value = &trie->node[i].value;
        if (*value >= 0) *value = index[*value];
    }
    ps_mem_free(index);
    ps_mem_free(keys);
}

static ps_err normalize_tokens(ps_tok_added *a, const ps_tok_normalizers *ns)
{
    ps_tok_matcher matcher = {0};
    ps_tok_work work = {.matcher = &matcher};
    ps_err err = PS_OK;
    for (int i = 0; i < a->n && !err; i++) {
        err = normalize_token(ns, &work, &a->token[i]);
    }
    ps_tok_work_release(&work);
    ps_tok_matcher_release(&matcher);
    return err;
}

ps_err ps_tok_added_build(ps_tok_added *a, const ps_tok_vocab *vocab, const ps_tok_normalizers *ns,
                          const char *where)
{
    for (int i = 0; i < a->n; i++) {
        PS_TRY(check_id(vocab, &a->token[i], where));
    }
    PS_TRY(sort_by_id(a, where));
    PS_TRY(normalize_tokens(a, ns));
    for (int plain = 0; plain < 2; plain++) {
        build_trie(a, false, plain, &a->raw[plain]);
        build_trie(a, true, plain, &a->normalized[plain]);
    }
    return PS_OK;
}

void ps_tok_added_release(ps_tok_added *a)
{
    for (int plain = 0; plain < 2; plain++) {
        ps_tok_trie_release(&a->normalized[plain]);
        ps_tok_trie_release(&a->raw[plain]);
    }
    for (int i = 0; i < a->n; i++) {
        ps_mem_free(a->token[i].shown);
        ps_mem_free(a->token[i].content);
    }
    ps_mem_free(a->token);
    *a = (ps_tok_added){0};
}

const ps_tok_added_token *ps_tok_added_by_id(const ps_tok_added *a, int32_t id)
{
    int low = 0, high = a->n;
    while (low < high) {
        const int middle = low + (high - low) / 2;
        if (a->token[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < a->n && a->token[low].id == id ? &a->token[low] : NULL;
}

// ---- cutting ----

void ps_tok_cut_begin(ps_tok_cutter *c, const ps_tok_added *a, const ps_tok_trie *trie,
                      const char *text, size_t n)
{
    *c = (ps_tok_cutter){.added = a, .trie = trie, .text = text, .n = n};
}

/* The leftmost longest token from c->from on. */
static const ps_tok_added_token *find_token(ps_tok_cutter *c, size_t *start, size_t *end)
{
    if (c->trie->n == 0) return NULL;
    for (size_t at = c->from; at < c->n; at++) {
        int32_t found = -1;
        uint32_t node = c->trie->root[(unsigned char)c->text[at]];
        for (size_t i = at + 1; node != 0; i++) {
            if (c->trie->node[node].value >= 0) {
                found = c->trie->node[node].value;
                *end = i;
            }
            if (i == c->n) break;
            node = ps_tok_trie_child(c->trie, node, (unsigned char)c->text[i]);
        }
        if (found < 0) continue;
        *start = at;
        return &c->added->token[found];
    }
    return NULL;
}

static bool stands_alone(const ps_tok_cutter *c, size_t start, size_t end)
{
    if (start > 0 && ps_tok_is_word(ps_tok_char_before(c->text, start))) return false;
    if (end == c->n) return true;
    uint32_t after;
    ps_utf8_decode(c->text + end, c->n - end, &after);
    return !ps_tok_is_word(after);
}

/* Start of the white space in front of `start`, but no further back than what is handed out. */
static size_t space_before(const ps_tok_cutter *c, size_t start)
{
    while (start > c->done) {
        const uint32_t before = ps_tok_char_before(c->text, start);
        if (!ps_tok_is_space(before)) break;
        char bytes[4];
        start -= ps_utf8_encode(before, bytes);
    }
    return start > c->done ? start : c->done;
}

/* End of the white space behind `end`. A run that is known is not walked again: otherwise tokens
 * that are white space themselves would make this quadratic. */
static size_t space_behind(ps_tok_cutter *c, size_t end)
{
    if (end < c->space_end) return c->space_end;
    while (end < c->n) {
        uint32_t after;
        const size_t length = ps_utf8_decode(c->text + end, c->n - end, &after);
        if (!ps_tok_is_space(after)) break;
        end += length;
    }
    c->space_end = end;
    return end;
}

static bool hand_out_token(ps_tok_cutter *c, const ps_tok_added_token **token)
{
    *token = c->waiting;
    c->waiting = NULL;
    c->done = c->waiting_end;
    return true;
}

static bool hand_out_text(ps_tok_cutter *c, size_t end, const ps_tok_added_token **token,
                          size_t *start, size_t *n)
{
    *token = NULL;
    *start = c->done;
    *n = end - c->done;
    c->done = end;
    return true;
}

bool ps_tok_cut_next(ps_tok_cutter *c, const ps_tok_added_token **token, size_t *start, size_t *n)
{
    if (c->waiting) return hand_out_token(c, token);
    size_t at, end;
    for (;;) {
        const ps_tok_added_token *found = find_token(c, &at, &end);
        if (!found) break;
        c->from = end;
        if (found->single_word && !stands_alone(c, at, end)) continue;
        if (found->lstrip) at = space_before(c, at);
        if (found->rstrip) end = space_behind(c, end);
        if (at >= end) continue; // all of it was swallowed by the token before
        c->waiting = found;
        c->waiting_end = end;
        if (c->done < at) return hand_out_text(c, at, token, start, n);
        return hand_out_token(c, token);
    }
    c->from = c->n;
    if (c->done >= c->n) return false;
    return hand_out_text(c, c->n, token, start, n);
}
