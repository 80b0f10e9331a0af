/* The way of a text through the chain, and the cache of words.
 *
 * Pre-tokens repeat: in English text 19 of 20 have been seen before. The cache maps a short word to
 * where its ids stand in the output already, so a hit costs a hash, a comparison and a copy. It
 * lives for one call, which keeps the tokenizer itself unchanging, and each word has one place: a
 * newer word takes the place of an older one, so nothing grows. */
#include "serve/tokenizer_parts.h"

#include <assert.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/mem.h"

enum {
    WORD_BYTES = 47, // longer words are not cached
    MIN_PLACES = 64,
    MAX_PLACES = 1 << 14,
    CUT_BYTES = 64, // words longer than this are cut where no merge can join them
};

typedef struct place {
    uint64_t at; // of the ids in the output
    uint32_t n;
    uint8_t word_bytes; // 0: nothing here
    char word[WORD_BYTES];
} place;

typedef struct encoder {
    const ps_tokenizer *tokenizer;
    ps_tokens *out;
    int plain;     // 1: special tokens in the text are plain text
    place *places; // [mask + 1]
    uint64_t mask;
    ps_tok_matcher matcher;
    ps_tok_work normal, split; // one is cut at added tokens while the other is worked on
    ps_tok_bpe_scratch bpe;
    ps_tok_unigram_scratch unigram;
} encoder;

/* Appends ids that stand in the tokens already. */
static void repeat(ps_tokens *tokens, size_t at, size_t n)
{
    tokens->ids = ps_mem_grow(tokens->ids, &tokens->capacity, tokens->n + n, sizeof *tokens->ids);
    for (size_t i = 0; i < n; i++) {
        tokens->ids[tokens->n + i] = tokens->ids[at + i];
    }
    tokens->n += n;
}

// ---- a text on its way ----

void ps_tok_spans_append(ps_tok_spans *s, size_t start, size_t n)
{
    if (n == 0) return;
    if (s->n == s->capacity) {
        s->span = ps_mem_grow(s->span, &s->capacity, s->n + 1, sizeof *s->span);
    }
    s->span[s->n++] = (ps_tok_span){start, n};
}

void ps_tok_work_begin(ps_tok_work *w, const char *text, size_t n, size_t origin)
{
    w->text = text;
    w->n = n;
    w->origin = origin;
}

ps_text *ps_tok_work_other(ps_tok_work *w)
{
    ps_text *other = &w->buffer[1 - w->filled];
    ps_text_clear(other);
    return other;
}

ps_err ps_tok_work_flip(ps_tok_work *w)
{
    w->filled = 1 - w->filled;
    w->text = ps_text_str(&w->buffer[w->filled]);
    w->n = w->buffer[w->filled].len;
    if (w->n < INT32_MAX) return PS_OK;
    return PS_FAIL(PS_ERR_LIMIT, "tokenizer: normalizing made a text of %zu bytes", w->n);
}

void ps_tok_work_release(ps_tok_work *w)
{
    ps_mem_free(w->other.span);
    ps_mem_free(w->spans.span);
    ps_text_release(&w->buffer[1]);
    ps_text_release(&w->buffer[0]);
}

// ---- words ----

static ps_err run_model(encoder *e, const char *word, size_t n)
{
    const ps_tokenizer *t = e->tokenizer;
    return t->model == PS_TOK_BPE
               ? ps_tok_bpe_encode(&t->bpe, word, n, &e->bpe, e->out)
               : ps_tok_unigram_encode(&t->unigram, word, n, &e->unigram, e->out);
}

static ps_err encode_word(encoder *e, const char *word, size_t n)
{
    if (n > WORD_BYTES) return run_model(e, word, n);
    place *p = &e->places[XXH3_64bits(word, n) & e->mask];
    if (p->word_bytes == n && memcmp(p->word, word, n) == 0) {
        repeat(e->out, p->at, p->n);
        return PS_OK;
    }
    const size_t before = e->out->n;
    PS_TRY(run_model(e, word, n));
    p->at = before;
    p->n = (uint32_t)(e->out->n - before);
    p->word_bytes = (uint8_t)n;
    memcpy(p->word, word, n);
    return PS_OK;
}

/* A pre-token. Long ones are cut first, which leaves words that are short and may be known. */
static ps_err encode_span(encoder *e, const char *text, size_t n)
{
    if (n <= CUT_BYTES || e->tokenizer->model != PS_TOK_BPE) return encode_word(e, text, n);
    for (size_t at = 0; at < n;) {
        const size_t end = ps_tok_bpe_cut(&e->tokenizer->bpe, text, n, at);
        PS_TRY(encode_word(e, text + at, end - at));
        at = end;
    }
    return PS_OK;
}

// ---- texts ----

/* Text without added tokens, normalized. */
static ps_err encode_normal(encoder *e, const char *text, size_t n, size_t origin)
{
    const ps_tokenizer *t = e->tokenizer;
    ps_tok_work *w = &e->split;
    ps_tok_work_begin(w, text, n, origin);
    PS_TRY(ps_tok_split(&t->splitters, t->bpe.raw_bytes, w));
    for (size_t i = 0; i < w->spans.n; i++) {
        const ps_tok_span span = w->spans.span[i];
        PS_TRY(encode_span(e, w->text + span.start, span.n));
    }
    return PS_OK;
}

/* Text without tokens that are found before normalization. */
static ps_err encode_raw(encoder *e, const char *text, size_t n, size_t origin)
{
    const ps_tokenizer *t = e->tokenizer;
    ps_tok_work *w = &e->normal;
    ps_tok_work_begin(w, text, n, origin);
    PS_TRY(ps_tok_normalize(&t->normalizers, w));
    ps_tok_cutter cutter;
    ps_tok_cut_begin(&cutter, &t->added, &t->added.normalized[e->plain], w->text, w->n);
    const ps_tok_added_token *token;
    size_t start, length;
    while (ps_tok_cut_next(&cutter, &token, &start, &length)) {
        if (token) {
            ps_tokens_append(e->out, token->id);
        } else {
            const size_t part = w->origin > start ? w->origin - start : 0;
            PS_TRY(encode_normal(e, w->text + start, length, part));
        }
    }
    return PS_OK;
}

/* `at_start`: nothing stands in front of the text. */
static ps_err encode_text(encoder *e, const char *text, size_t n, bool at_start)
{
    const ps_tokenizer *t = e->tokenizer;
    ps_tok_cutter cutter;
    ps_tok_cut_begin(&cutter, &t->added, &t->added.raw[e->plain], text, n);
    const ps_tok_added_token *token;
    size_t start, length;
    while (ps_tok_cut_next(&cutter, &token, &start, &length)) {
        if (token) {
            ps_tokens_append(e->out, token->id);
        } else {
            uint32_t first;
            const size_t origin = at_start && start == 0 ? ps_utf8_decode(text, n, &first) : 0;
            PS_TRY(encode_raw(e, text + start, length, origin));
        }
    }
    return PS_OK;
}

static void encoder_init(encoder *e, const ps_tokenizer *t, size_t n, ps_tokens *out)
{
    size_t places = MIN_PLACES;
    while (places < MAX_PLACES && places < n / 4) {
        places *= 2;
    }
    e->tokenizer = t;
    e->out = out;
    e->places = ps_mem_new(places, sizeof *e->places);
    e->mask = places - 1;
    e->normal.matcher = &e->matcher;
    e->split.matcher = &e->matcher;
}

static void encoder_release(encoder *e)
{
    ps_tok_unigram_scratch_release(&e->unigram);
    ps_tok_bpe_scratch_release(&e->bpe);
    ps_tok_work_release(&e->split);
    ps_tok_work_release(&e->normal);
    ps_tok_matcher_release(&e->matcher);
    ps_mem_free(e->places);
}

/* Follows the post-processor's steps; a text that is wanted again is copied. */
static ps_err encode_steps(encoder *e, const char *text, size_t n, bool add_special)
{
    const ps_tok_post *post = &e->tokenizer->post;
    if (!post->step) return encode_text(e, text, n, true);
    size_t at = SIZE_MAX, length = 0; // of the text's ids
    for (size_t i = 0; i < post->n; i++) {
        if (!post->step[i].is_text) {
            if (add_special) ps_tokens_append(e->out, post->step[i].id);
        } else if (at == SIZE_MAX) {
            at = e->out->n;
            PS_TRY(encode_text(e, text, n, true));
            length = e->out->n - at;
        } else {
            repeat(e->out, at, length);
        }
    }
    return PS_OK;
}

static ps_err check_length(size_t n)
{
    if (n <= PS_TOKENIZER_MAX_TEXT) return PS_OK;
    return PS_FAIL(PS_ERR_LIMIT, "tokenizer: a text of %zu bytes, at most %d", n,
                   PS_TOKENIZER_MAX_TEXT);
}

/* Text as valid UTF-8: itself, or written to *valid. */
static void make_valid(const char **text, size_t *n, ps_text *valid)
{
    if (ps_utf8_valid_prefix(*text, *n, NULL) == *n) return;
    ps_tok_append_lossy(valid, *text, *n);
    *text = valid->data;
    *n = valid->len;
}

ps_err ps_tokenizer_encode(const ps_tokenizer *t, const char *text, size_t n, bool add_special,
                           ps_tokens *out)
{
    assert(t && out);
    assert(text || n == 0);
    PS_TRY(check_length(n));
    ps_text valid = {0};
    make_valid(&text, &n, &valid);
    const size_t before = out->n;
    encoder e = {0};
    encoder_init(&e, t, n, out);
    const ps_err err = encode_steps(&e, text, n, add_special);
    encoder_release(&e);
    ps_text_release(&valid);
    if (err) out->n = before;
    return err;
}

// ---- parts ----

static const ps_tok_added_token *token_of(const ps_tokenizer *t, const ps_tokenizer_part *part)
{
    return part->id >= 0 ? ps_tok_added_by_id(&t->added, part->id) : NULL;
}

/* Text without the white space that the tokens beside it swallow. */
static void strip_for_neighbours(const ps_tokenizer *t, const ps_tokenizer_part *before,
                                 const ps_tokenizer_part *behind, const char **text, size_t *n)
{
    const ps_tok_added_token *left = before ? token_of(t, before) : NULL;
    const ps_tok_added_token *right = behind ? token_of(t, behind) : NULL;
    while (left && left->rstrip && *n > 0) {
        uint32_t c;
        const size_t length = ps_utf8_decode(*text, *n, &c);
        if (!ps_tok_is_space(c)) break;
        *text += length;
        *n -= length;
    }
    while (right && right->lstrip && *n > 0) {
        char bytes[4];
        const uint32_t c = ps_tok_char_before(*text, *n);
        if (!ps_tok_is_space(c)) break;
        *n -= ps_utf8_encode(c, bytes);
    }
}

static ps_err encode_part(encoder *e, const ps_tokenizer_part *parts, size_t n_parts, size_t at)
{
    const ps_tokenizer_part *part = &parts[at];
    if (part->id >= 0) {
        ps_tokens_append(e->out, part->id);
        return PS_OK;
    }
    ps_text valid = {0};
    const char *text = part->text;
    size_t n = part->n;
    make_valid(&text, &n, &valid);
    strip_for_neighbours(e->tokenizer, at > 0 ? part - 1 : NULL, at + 1 < n_parts ? part + 1 : NULL,
                         &text, &n);
    const ps_err err = encode_text(e, text, n, at == 0);
    ps_text_release(&valid);
    return err;
}

ps_err ps_tokenizer_encode_parts(const ps_tokenizer *t, const ps_tokenizer_part *parts,
                                 size_t n_parts, ps_tokens *out)
{
    assert(t && out);
    assert(parts || n_parts == 0);
    size_t total = 0;
    for (size_t i = 0; i < n_parts; i++) {
        if (parts[i].id < 0) PS_TRY(check_length(total + parts[i].n));
        if (parts[i].id < 0) total += parts[i].n;
    }
    const size_t before = out->n;
    encoder e = {.plain = 1};
    encoder_init(&e, t, total, out);
    ps_err err = PS_OK;
    for (size_t i = 0; i < n_parts && !err; i++) {
        err = encode_part(&e, parts, n_parts, i);
    }
    encoder_release(&e);
    if (err) out->n = before;
    return err;
}
