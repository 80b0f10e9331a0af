/* A tokenizer.json as a whole: opened once, checked in every part, then only read.
 *
 * The parts are read in the order in which they depend on each other: vocabulary, model,
 * normalizers, then the added tokens (which need both to know their ids and their normalized
 * content), then the rest. The JSON is gone when opening is done; everything kept is a copy. */
#include "serve/tokenizer_parts.h"

#include <assert.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

enum { MAX_FILE_BYTES = 1 << 30 };

// ---- vocabularies ----

static ps_err check_token(const char *where, json_int_t id, size_t n)
{
    if (id < 0 || id >= PS_TOKENIZER_MAX_IDS) {
        return PS_FAIL(PS_ERR_LIMIT, "%s: a token has the id %lld, wanted 0..%d", where,
                       (long long)id, PS_TOKENIZER_MAX_IDS - 1);
    }
    if (n > PS_TOK_MAX_TOKEN_BYTES) {
        return PS_FAIL(PS_ERR_LIMIT, "%s: token %lld has %zu bytes, at most %d", where,
                       (long long)id, n, PS_TOK_MAX_TOKEN_BYTES);
    }
    return PS_OK;
}

/* {"token": id, ...} */
static ps_err read_vocab_object(ps_tok_vocab *v, json_t *object, const char *where)
{
    const char *token;
    json_t *value;
    json_int_t highest = -1;
    json_object_foreach(object, token, value)
    {
        if (!json_is_integer(value)) {
            return PS_FAIL(PS_ERR_FORMAT, "%s: the id of token %s is not an integer", where, token);
        }
        PS_TRY(check_token(where, json_integer_value(value), strlen(token)));
        if (json_integer_value(value) > highest) highest = json_integer_value(value);
    }
    ps_tok_vocab_init(v, (int32_t)highest + 1, json_object_size(object));
    json_object_foreach(object, token, value)
    {
        const int32_t id = (int32_t)json_integer_value(value);
        const char *other;
        size_t n;
        if (ps_tok_vocab_text(v, id, &other, &n)) {
            return PS_FAIL(PS_ERR_FORMAT, "%s: tokens %.*s and %s have the same id %d", where,
                           (int)n, other, token, id);
        }
        ps_tok_vocab_add(v, id, token, strlen(token));
    }
    return PS_OK;
}

/* [["token", score], ...]; the place is the id. */
static ps_err read_vocab_list(ps_tok_vocab *v, const json_t *list, const char *where)
{
    const size_t n = json_array_size(list);
    if (n == 0 || n > PS_TOKENIZER_MAX_IDS) {
        return PS_FAIL(PS_ERR_LIMIT, "%s: a vocabulary of %zu tokens, wanted 1..%d", where, n,
                       PS_TOKENIZER_MAX_IDS);
    }
    ps_tok_vocab_init(v, (int32_t)n, n);
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(list, i);
        const json_t *token = json_array_get(entry, 0);
        if (!json_is_string(token) || !json_is_number(json_array_get(entry, 1))) {
            return PS_FAIL(PS_ERR_FORMAT, "%s: token %zu is not a pair of string and score", where,
                           i);
        }
        PS_TRY(check_token(where, (json_int_t)i, json_string_length(token)));
        ps_tok_vocab_add(v, (int32_t)i, json_string_value(token), json_string_length(token));
    }
    return PS_OK;
}

// ---- models ----

/* Files from before 2021 do not name the type: BPE is the one with merges, Unigram the one whose
 * vocabulary is a list. */
static ps_err read_model_type(const json_t *model, const char *where, ps_tok_model *out)
{
    const char *type = NULL;
    PS_TRY(ps_json_opt_text(model, "type", where, &type));
    if (!type) {
        type = json_object_get(model, "merges")                 ? "BPE"
               : json_is_array(json_object_get(model, "vocab")) ? "Unigram"
                                                                : "WordPiece";
    }
    if (strcmp(type, "BPE") != 0 && strcmp(type, "Unigram") != 0) {
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: model of type %s is not supported", where, type);
    }
    *out = strcmp(type, "BPE") == 0 ? PS_TOK_BPE : PS_TOK_UNIGRAM;
    return PS_OK;
}

static ps_err read_model(ps_tokenizer *t, const json_t *root)
{
    json_t *model, *vocab;
    PS_TRY(ps_json_get(root, "model", JSON_OBJECT, t->where, &model));
    PS_TRY(read_model_type(model, t->where, &t->model));
    if (t->model == PS_TOK_BPE) {
        PS_TRY(ps_json_get(model, "vocab", JSON_OBJECT, t->where, &vocab));
        PS_TRY(read_vocab_object(&t->vocab, vocab, t->where));
        return ps_tok_bpe_read(&t->bpe, model, &t->vocab, t->where);
    }
    PS_TRY(ps_json_get(model, "vocab", JSON_ARRAY, t->where, &vocab));
    PS_TRY(read_vocab_list(&t->vocab, vocab, t->where));
    return ps_tok_unigram_read(&t->unigram, model, &t->vocab, t->where);
}

// ---- the whole ----

/* Padding a batch to its longest text does nothing to a text alone, if no multiple is asked for. */
static ps_err check_padding(const json_t *root, const char *where)
{
    json_t *padding = NULL, *multiple = NULL;
    PS_TRY(ps_json_opt(root, "padding", JSON_OBJECT, where, &padding));
    if (!padding) return PS_OK;
    PS_TRY(ps_json_opt(padding, "pad_to_multiple_of", JSON_INTEGER, where, &multiple));
    const char *strategy = json_string_value(json_object_get(padding, "strategy"));
    if (strategy && strcmp(strategy, "BatchLongest") == 0 && !multiple) return PS_OK;
    return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: padding is not supported", where);
}

static ps_err check_header(const json_t *root, const char *where)
{
    if (!json_is_object(root)) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: a tokenizer is an object", where);
    }
    const char *version = "1.0";
    json_t *truncation = NULL;
    PS_TRY(ps_json_opt_text(root, "version", where, &version));
    if (strcmp(version, "1.0") != 0) {
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: version %s, wanted 1.0", where, version);
    }
    PS_TRY(ps_json_opt(root, "truncation", JSON_OBJECT, where, &truncation));
    if (truncation) return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: truncation is not supported", where);
    return check_padding(root, where);
}

/* The contents of all special tokens. */
static void collect_special(const ps_tok_added *a, ps_tok_vocab *special)
{
    ps_tok_vocab_init(special, a->n, (size_t)a->n);
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

static ps_err read_tokenizer(ps_tokenizer *t, const json_t *root)
{
    PS_TRY(check_header(root, t->where));
    PS_TRY(read_model(t, root));
    PS_TRY(ps_tok_normalizers_read(&t->normalizers, root, t->where));
    PS_TRY(ps_tok_added_read(&t->added, root, &t->vocab, &t->normalizers, t->where));
    PS_TRY(ps_tok_splitters_read(&t->splitters, root, t->where));
    PS_TRY(ps_tok_post_read(&t->post, root, t->where));
    PS_TRY(ps_tok_decoders_read(&t->decoders, root, t->where));
    t->bpe.raw_bytes = t->model == PS_TOK_BPE && t->splitters.ends_in_bytes && t->bpe.all_bytes;
    set_flags(t);
    return check_post_ids(t);
}

ps_err ps_tokenizer_open(const char *json, size_t n, const char *where, ps_tokenizer **out)
{
    assert(json || n == 0);
    assert(where && out);
    *out = NULL;
    if (n > MAX_FILE_BYTES) {
        return PS_FAIL(PS_ERR_LIMIT, "%s: %zu bytes, at most %d", where, n, MAX_FILE_BYTES);
    }
    json_t *root;
    PS_TRY(ps_json_parse(json, n, where, &root));
    ps_tokenizer *t = ps_mem_new(1, sizeof *t);
    t->where = ps_mem_copy_text(where);
    const ps_err err = read_tokenizer(t, root);
    json_decref(root);
    if (err) {
        ps_tokenizer_free(t);
        return err;
    }
    *out = t;
    return PS_OK;
}

void ps_tokenizer_free(ps_tokenizer *t)
{
    if (!t) return;
    ps_mem_free(t->flags);
    ps_tok_decoders_release(&t->decoders);
    ps_tok_post_release(&t->post);
    ps_tok_splitters_release(&t->splitters);
    ps_tok_added_release(&t->added);
    ps_tok_normalizers_release(&t->normalizers);
    ps_tok_unigram_release(&t->unigram);
    ps_tok_bpe_release(&t->bpe);
    ps_tok_vocab_release(&t->vocab);
    ps_mem_free(t->where);
    ps_mem_free(t);
}

// ---- questions ----

int ps_tokenizer_size(const ps_tokenizer *t)
{
    assert(t);
    return t->size;
}

bool ps_tokenizer_has_post_processor_tokens(const ps_tokenizer *t)
{
    assert(t);
    for (size_t i = 0; i < t->post.n; i++) {
        if (!t->post.step[i].is_text) return true;
    }
    return false;
}

int32_t ps_tokenizer_find(const ps_tokenizer *t, const char *content)
{
    assert(t && content);
    const size_t n = strlen(content);
    for (int i = 0; i < t->added.n; i++) {
        const ps_tok_added_token *token = &t->added.token[i];
        if (token->n == n && memcmp(token->content, content, n) == 0) return token->id;
    }
    return ps_tok_vocab_find(&t->vocab, content, n);
}

bool ps_tokenizer_is_special(const ps_tokenizer *t, int32_t id)
{
    assert(t);
    return id >= 0 && id < t->size && (t->flags[id] & PS_TOK_IS_SPECIAL);
}

bool ps_tok_text_of_id(const ps_tokenizer *t, int32_t id, const char **text, size_t *n)
{
    if (id < 0 || id >= t->size) return false;
    if ((t->flags[id] & PS_TOK_IS_ADDED) == 0) return ps_tok_vocab_text(&t->vocab, id, text, n);
    const ps_tok_added_token *token = ps_tok_added_by_id(&t->added, id);
    *text = token->shown;
    *n = token->n_shown;
    return true;
}
