/* The definition of a tokenizer, and building from it.
 *
 * The parts are built in the order in which they depend on each other: the model over the
 * vocabulary, normalizers, then the added tokens (which need both to know their ids and their
 * normalized content), then the rest. */
#include "serve/tokenizer_parts.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

ps_tokenizer_definition *ps_tokenizer_definition_new(int32_t n_ids, size_t n_tokens,
                                                     const char *where)
{
    assert(where);
    ps_tokenizer_definition *d = ps_mem_new(1, sizeof *d);
    d->where = ps_mem_copy_text(where);
    ps_tok_vocab_init(&d->vocab, n_ids, n_tokens, 0);
    return d;
}

void ps_tokenizer_definition_free(ps_tokenizer_definition *d)
{
    if (!d) return;
    ps_mem_free(d->order);
    ps_mem_free(d->joints.pair);
    ps_tok_added_release(&d->added);
    ps_mem_free(d->merge);
    ps_mem_free(d->score);
    ps_tok_vocab_release(&d->vocab);
    json_decref(d->pipeline);
    ps_mem_free(d->where);
    ps_mem_free(d);
}

// ---- defining ----

static int shown(size_t n)
{
    return n < 100 ? (int)n : 100;
}

ps_err ps_tokenizer_define_token(ps_tokenizer_definition *d, int32_t id, const char *token,
                                 size_t n)
{
    const char *other;
    size_t other_bytes;
    if (id < 0 || id >= d->vocab.size) {
        return PS_FAIL(PS_ERR_LIMIT, "%s: a token has the id %d, wanted 0..%d", d->where, id,
                       d->vocab.size - 1);
    }
    if (n > PS_TOK_MAX_TOKEN_BYTES) {
        return PS_FAIL(PS_ERR_LIMIT, "%s: token %d has %zu bytes, at most %d", d->where, id, n,
                       PS_TOK_MAX_TOKEN_BYTES);
    }
    if (ps_utf8_valid_prefix(token, n, NULL) != n) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: token %d is not UTF-8", d->where, id);
    }
    if (ps_tok_vocab_text(&d->vocab, id, &other, &other_bytes)) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: tokens %.*s and %.*s have the same id %d", d->where,
                       shown(other_bytes), other, shown(n), token, id);
    }
    ps_tok_vocab_add(&d->vocab, id, token, n);
    return PS_OK;
}

int32_t ps_tokenizer_defined_id(const ps_tokenizer_definition *d, const char *token, size_t n)
{
    return ps_tok_vocab_find(&d->vocab, token, n);
}

void ps_tokenizer_define_score(ps_tokenizer_definition *d, int32_t id, double score)
{
    assert(id >= 0 && id < d->vocab.size);
    if (!d->score) {
        d->score = ps_mem_new((size_t)d->vocab.size, sizeof *d->score);
        for (int32_t i = 0; i < d->vocab.size; i++) {
            d->score[i] = -INFINITY;
        }
    }
    d->score[id] = score;
}

static bool is_token(const ps_tokenizer_definition *d, int32_t id)
{
    return id >= 0 && id < d->vocab.size && d->vocab.start[id] != 0;
}

ps_err ps_tokenizer_define_merge(ps_tokenizer_definition *d, const ps_tokenizer_merge *merge)
{
    if (d->n_merges == PS_TOKENIZER_MAX_IDS) {
        return PS_FAIL(PS_ERR_LIMIT, "%s: more than %d merges", d->where, PS_TOKENIZER_MAX_IDS);
    }
    if (!is_token(d, merge->left) || !is_token(d, merge->right) || !is_token(d, merge->merged) ||
        merge->rank == UINT32_MAX) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: merge %zu makes %d of %d and %d, which are not tokens",
                       d->where, d->n_merges, merge->merged, merge->left, merge->right);
    }
    if (d->n_merges == d->merge_capacity) {
        d->merge = ps_mem_grow(d->merge, &d->merge_capacity, d->n_merges + 1, sizeof *d->merge);
    }
    d->merge[d->n_merges++] = *merge;
    return PS_OK;
}

ps_err ps_tokenizer_define_added(ps_tokenizer_definition *d, const ps_tokenizer_added *token)
{
    ps_tok_added *a = &d->added;
    if (token->n == 0) return PS_OK;
    if (token->id < 0 || token->id >= PS_TOKENIZER_MAX_IDS || a->n == PS_TOKENIZER_MAX_IDS) {
        return PS_FAIL(PS_ERR_LIMIT, "%s: added token %d has the id %d, wanted 0..%d", d->where,
                       a->n, token->id, PS_TOKENIZER_MAX_IDS - 1);
    }
    if (token->n > PS_TOK_MAX_ADDED_BYTES) {
        return PS_FAIL(PS_ERR_LIMIT, "%s: added token %d has %zu bytes, at most %d", d->where,
                       token->id, token->n, PS_TOK_MAX_ADDED_BYTES);
    }
    if (ps_utf8_valid_prefix(token->content, token->n, NULL) != token->n) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: added token %d is not UTF-8", d->where, token->id);
    }
    a->token = ps_mem_grow(a->token, &a->capacity, (size_t)a->n + 1, sizeof *a->token);
    a->token[a->n++] = (ps_tok_added_token){
        .id = token->id,
        .content = ps_mem_copy_bytes(token->content, token->n),
        .n = token->n,
        .single_word = token->single_word,
        .lstrip = token->lstrip,
        .rstrip = token->rstrip,
        .normalized = token->normalized,
        .special = token->special,
        .verbatim = token->verbatim,
    };
    return PS_OK;
}

void ps_tokenizer_define_pipeline(ps_tokenizer_definition *d, json_t *pipeline)
{
    json_decref(d->pipeline);
    d->pipeline = pipeline;
}

// ---- building ----

static ps_err build_model(ps_tokenizer *t, const ps_tokenizer_definition *d)
{
    json_t *model;
    const char *type;
    PS_TRY(ps_json_get(t->pipeline, "model", JSON_OBJECT, t->where, &model));
    PS_TRY(ps_json_get_text(model, "type", t->where, &type));
    if (strcmp(type, "BPE") == 0) {
        t->model = PS_TOK_BPE;
        return ps_tok_bpe_build(&t->bpe, model, &t->vocab, d);
    }
    if (strcmp(type, "Unigram") != 0 || !t->score) {
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: model of type %s%s is not supported", t->where,
                       type, t->score ? "" : " without scores");
    }
    t->model = PS_TOK_UNIGRAM;
    return ps_tok_unigram_build(&t->unigram, model, &t->vocab, t->score, d->order, d->n_order,
                                t->where);
}

/* The contents of all special tokens. */
static void collect_special(const ps_tok_added *a, ps_tok_vocab *special)
{
    ps_tok_vocab_init(special, a->n, (size_t)a->n, 0);
    for (int i = 0; i < a->n; i++) {
        const ps_tok_added_token *token = &a->token[i];
        if (token->special) ps_tok_vocab_add(special, i, token->content, token->n);
    }
}

/* Decoding skips a token if the string it shows is the content of a special one. That is not the
 * same as being special: one whose normalized content differs is not skipped, as in the library. */
static void set_flags(ps_tokenizer *t)
{
    const ps_tok_added *a = &t->added;
    t->size = t->vocab.size;
    if (a->n > 0 && a->token[a->n - 1].id >= t->size) t->size = a->token[a->n - 1].id + 1;
    t->flags = ps_mem_new((size_t)t->size, sizeof *t->flags);
    ps_tok_vocab special;
    collect_special(a, &special);
    for (int i = 0; i < a->n; i++) {
        const ps_tok_added_token *token = &a->token[i];
        unsigned char *flags = &t->flags[token->id];
        *flags = PS_TOK_IS_ADDED;
        if (token->special) *flags |= PS_TOK_IS_SPECIAL;
        if (ps_tok_vocab_find(&special, token->shown, token->n_shown) >= 0) {
            *flags |= PS_TOK_IS_SKIPPED;
        }
    }
    ps_tok_vocab_release(&special);
}

static ps_err check_post_ids(const ps_tokenizer *t)
{
    for (size_t i = 0; i < t->post.n; i++) {
        const char *text;
        size_t n;
        const ps_tok_post_step *step = &t->post.step[i];
        if (step->is_text || ps_tok_text_of_id(t, step->id, &text, &n)) continue;
        return PS_FAIL(PS_ERR_FORMAT, "%s: post_processor adds the id %d, which no token has",
                       t->where, step->id);
    }
    return PS_OK;
}

static ps_err build(ps_tokenizer *t, const ps_tokenizer_definition *d)
{
    if (!json_is_object(t->pipeline)) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: the tokenizer's pipeline is not an object", t->where);
    }
    PS_TRY(build_model(t, d));
    PS_TRY(ps_tok_normalizers_read(&t->normalizers, t->pipeline, t->where));
    PS_TRY(ps_tok_added_build(&t->added, &t->vocab, &t->normalizers, t->where));
    PS_TRY(ps_tok_splitters_read(&t->splitters, t->pipeline, t->where));
    PS_TRY(ps_tok_post_read(&t->post, t->pipeline, t->where));
    PS_TRY(ps_tok_decoders_read(&t->decoders, t->pipeline, t->where));
    t->bpe.raw_bytes = t->model == PS_TOK_BPE && t->splitters.ends_in_bytes && t->bpe.all_bytes;
    set_flags(t);
    return check_post_ids(t);
}

ps_err ps_tokenizer_build(ps_tokenizer_definition *d, ps_tokenizer **out)
{
    assert(d && out);
    ps_tokenizer *t = ps_mem_new(1, sizeof *t);
    t->where = ps_mem_copy_text(d->where);
    t->pipeline = json_incref(d->pipeline);
    t->vocab = d->vocab;
    t->score = d->score;
    t->added = d->added;
    d->vocab = (ps_tok_vocab){0};
    d->score = NULL;
    d->added = (ps_tok_added){0};
    const ps_err err = build(t, d);
    ps_tokenizer_definition_free(d);
    *out = err ? NULL : t;
    if (err) ps_tokenizer_free(t);
    return err;
}
