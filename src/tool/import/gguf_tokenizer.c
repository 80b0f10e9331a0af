#include "tool/import/gguf_tokenizer.h"

#include <string.h>

#include "base/mem.h"
#include "tool/import/pieces.h"
#include "tool/import/pipeline.h"
#include "tool/import/pre_tokenizers.h"

#define KEY(name) "tokenizer.ggml." name

/* What all kinds have. */
typedef struct vocabulary {
    ps_gguf *g;
    const char *where;
    ps_piece *piece; // [n] owned
    size_t n;
    char **owned; // [n] bytes of pieces that were written anew; NULL: borrowed
    int32_t bos_id, eos_id;
    bool add_bos, add_eos;
} vocabulary;

static ps_err want_length(const vocabulary *v, const char *key, const ps_gguf_value *value)
{
    if (!value || value->n == v->n) return PS_OK;
    return PS_FAIL(PS_ERR_SHAPE, "%s: %s has %zu elements, " KEY("tokens") " has %zu", v->where,
                   key, value->n, v->n);
}

static ps_err read_tokens(vocabulary *v)
{
    const ps_gguf_value *tokens, *types, *scores;
    PS_TRY(ps_gguf_find_array(v->g, KEY("tokens"), PS_GGUF_STRING, &tokens));
    if (!tokens) return PS_FAIL(PS_ERR_FORMAT, "%s: " KEY("tokens") " is missing", v->where);
    if (tokens->n == 0 || tokens->n > PS_TOKENIZER_MAX_IDS) {
        return PS_FAIL(PS_ERR_LIMIT, "%s: a vocabulary of %zu tokens, wanted 1..%d", v->where,
                       tokens->n, PS_TOKENIZER_MAX_IDS);
    }
    v->n = tokens->n;
    v->piece = ps_mem_new(v->n, sizeof *v->piece);
    v->owned = ps_mem_new(v->n, sizeof *v->owned);
    PS_TRY(ps_gguf_find_array(v->g, KEY("token_type"), PS_GGUF_I64, &types));
    PS_TRY(ps_gguf_find_array(v->g, KEY("scores"), PS_GGUF_F64, &scores));
    PS_TRY(want_length(v, KEY("token_type"), types));
    PS_TRY(want_length(v, KEY("scores"), scores));
    size_t cursor = 0;
    for (size_t i = 0; i < v->n; i++) {
        ps_piece *piece = &v->piece[i];
        const int64_t kind = types ? ps_gguf_int_at(types, i) : PS_PIECE_NORMAL;
        ps_gguf_next_string(tokens, &cursor, &piece->bytes, &piece->n);
        if (kind < 0 || kind > PS_PIECE_BYTE) {
            return PS_FAIL(PS_ERR_FORMAT, "%s: " KEY("token_type") ": token %zu is of type %lld",
                           v->where, i, (long long)kind);
        }
        piece->kind = kind == 0 ? PS_PIECE_NORMAL : (ps_piece_kind)kind;
        piece->score = scores ? ps_gguf_real_at(scores, i) : 0.0;
    }
    return PS_OK;
}

/* An id is -1 when the file names none. `wanted` is whether texts get it, -1: the file must say. */
static ps_err read_end(const vocabulary *v, const char *id_key, const char *flag_key, bool wanted,
                       int32_t *id, bool *adds)
{
    int64_t value = -1;
    PS_TRY(ps_gguf_find_int(v->g, id_key, -1, UINT32_MAX, &value));
    *adds = wanted;
    PS_TRY(ps_gguf_find_bool(v->g, flag_key, adds));
    // UINT32_MAX is how some files say that there is none.
    if (value == UINT32_MAX) value = -1;
    if (value >= (int64_t)v->n) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: %s is %lld, wanted 0..%zu", v->where, id_key,
                       (long long)value, v->n - 1);
    }
    *id = (int32_t)value;
    if (!*adds || *id >= 0) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "%s: %s is wanted, and %s is missing", v->where, flag_key,
                   id_key);
}

static ps_err read_ends(vocabulary *v, bool add_bos, bool add_eos)
{
    PS_TRY(
        read_end(v, KEY("bos_token_id"), KEY("add_bos_token"), add_bos, &v->bos_id, &v->add_bos));
    return read_end(v, KEY("eos_token_id"), KEY("add_eos_token"), add_eos, &v->eos_id, &v->add_eos);
}

// ---- pieces with scores ----

/* User-defined tokens are written with blanks where the pieces have U+2581. */
static void restore_blanks(vocabulary *v)
{
    for (size_t i = 0; i < v->n; i++) {
        ps_piece *piece = &v->piece[i];
        if (piece->kind != PS_PIECE_USER_DEFINED || !memchr(piece->bytes, ' ', piece->n)) continue;
        ps_text text = {0};
        for (size_t k = 0; k < piece->n; k++) {
            if (piece->bytes[k] == ' ') {
                ps_text_append_str(&text, "\xE2\x96\x81");
            } else {
                ps_text_append_char(&text, piece->bytes[k]);
            }
        }
        piece->n = text.len;
        v->owned[i] = ps_text_take(&text);
        piece->bytes = v->owned[i];
    }
}

/* A file that has no piece of the kind unknown may name one by its id. */
static ps_err mark_unknown(vocabulary *v)
{
    int64_t id = -1;
    PS_TRY(ps_gguf_find_int(v->g, KEY("unknown_token_id"), 0, (int64_t)v->n - 1, &id));
    for (size_t i = 0; i < v->n; i++) {
        if (v->piece[i].kind == PS_PIECE_UNKNOWN) return PS_OK;
    }
    if (id >= 0) v->piece[id].kind = PS_PIECE_UNKNOWN;
    return PS_OK;
}

static ps_err read_charsmap(const vocabulary *v, ps_pieces *p)
{
    const ps_gguf_value *value;
    PS_TRY(ps_gguf_find_array(v->g, KEY("precompiled_charsmap"), PS_GGUF_I64, &value));
    if (!value) return PS_OK;
    if (value->kind != PS_GGUF_U8 && value->kind != PS_GGUF_I8) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: " KEY("precompiled_charsmap") " is not made of bytes",
                       v->where);
    }
    p->charsmap = (const char *)value->data;
    p->charsmap_bytes = value->n;
    return PS_OK;
}

static ps_err define_scored(vocabulary *v, bool unigram, ps_tokenizer_definition **out)
{
    const ps_gguf_value *scores;
    PS_TRY(ps_gguf_find_array(v->g, KEY("scores"), PS_GGUF_F64, &scores));
    if (!scores) return PS_FAIL(PS_ERR_FORMAT, "%s: " KEY("scores") " is missing", v->where);
    PS_TRY(read_ends(v, !unigram, unigram));
    PS_TRY(mark_unknown(v));
    restore_blanks(v);
    bool space_prefix = true;
    ps_pieces p = {.where = v->where,
                   .unigram = unigram,
                   .piece = v->piece,
                   .n = v->n,
                   .bos_id = v->add_bos ? v->bos_id : -1,
                   .eos_id = v->add_eos ? v->eos_id : -1};
    PS_TRY(ps_gguf_find_bool(v->g, KEY("add_space_prefix"), &space_prefix));
    PS_TRY(ps_gguf_find_bool(v->g, KEY("remove_extra_whitespaces"), &p.remove_extra_whitespaces));
    PS_TRY(read_charsmap(v, &p));
    p.prefix = space_prefix ? PS_PREFIX_EACH : PS_PREFIX_NONE;
    return ps_pieces_define(&p, out);
}

// ---- bytes with merges ----

/* Control tokens stay out of the vocabulary, so that no word can come to be one. */
static ps_err define_token(const vocabulary *v, ps_tokenizer_definition *d, int32_t id)
{
    const ps_piece *piece = &v->piece[id];
    const bool special = piece->kind == PS_PIECE_CONTROL || piece->kind == PS_PIECE_UNKNOWN;
    if (special || piece->kind == PS_PIECE_USER_DEFINED) {
        const ps_tokenizer_added token = {
            .id = id, .content = piece->bytes, .n = piece->n, .special = special};
        PS_TRY(ps_tokenizer_define_added(d, &token));
        if (special) return PS_OK;
    }
    return ps_tokenizer_define_token(d, id, piece->bytes, piece->n);
}

static ps_err define_merge(const vocabulary *v, ps_tokenizer_definition *d, const char *bytes,
                           size_t n, uint32_t rank)
{
    char whole[2 * 4096];
    const char *blank = n > 1 ? memchr(bytes + 1, ' ', n - 1) : NULL;
    if (!blank || n > sizeof whole) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: " KEY("merges") ": merge %u is not a pair of tokens",
                       v->where, rank);
    }
    const size_t left = (size_t)(blank - bytes), right = n - left - 1;
    memcpy(whole, bytes, left);
    memcpy(whole + left, blank + 1, right);
    const ps_tokenizer_merge merge = {.left = ps_tokenizer_defined_id(d, bytes, left),
                                      .right = ps_tokenizer_defined_id(d, blank + 1, right),
                                      .merged = ps_tokenizer_defined_id(d, whole, left + right),
                                      .rank = rank};
    if (merge.left < 0 || merge.right < 0 || merge.merged < 0) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: " KEY("merges") ": merge %u, \"%.*s\", is not of tokens",
                       v->where, rank, n < 100 ? (int)n : 100, bytes);
    }
    return ps_tokenizer_define_merge(d, &merge);
}

static ps_err define_merges(const vocabulary *v, ps_tokenizer_definition *d)
{
    const ps_gguf_value *merges;
    PS_TRY(ps_gguf_find_array(v->g, KEY("merges"), PS_GGUF_STRING, &merges));
    if (!merges) return PS_FAIL(PS_ERR_FORMAT, "%s: " KEY("merges") " is missing", v->where);
    const char *bytes;
    size_t n, cursor = 0;
    for (uint32_t rank = 0; ps_gguf_next_string(merges, &cursor, &bytes, &n); rank++) {
        PS_TRY(define_merge(v, d, bytes, n, rank));
    }
    return PS_OK;
}

static ps_err define_bytes(vocabulary *v, ps_tokenizer_definition **out)
{
    const char *name = "default";
    const ps_pre_tokenizer *pre;
    bool space_prefix = false;
    PS_TRY(ps_gguf_find_text(v->g, KEY("pre"), &name));
    PS_TRY(ps_pre_tokenizer_find(name, v->where, &pre));
    PS_TRY(read_ends(v, pre->add_bos, false));
    PS_TRY(ps_gguf_find_bool(v->g, KEY("add_space_prefix"), &space_prefix));
    if (space_prefix) {
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: " KEY("add_space_prefix") " with " KEY("model") " gpt2", v->where);
    }
    *out = ps_tokenizer_definition_new((int32_t)v->n, v->n, v->where);
    for (size_t i = 0; i < v->n; i++) {
        PS_TRY(define_token(v, *out, (int32_t)i));
    }
    PS_TRY(define_merges(v, *out));
    ps_tokenizer_define_pipeline(
        *out,
        json_pack("{s:o, s:o, s:o, s:o, s:{s:s, s:b}}", "normalizer",
                  ps_pre_tokenizer_normalizer(pre), "pre_tokenizer", ps_pre_tokenizer_pipeline(pre),
                  "post_processor",
                  ps_pipeline_around(v->add_bos ? v->bos_id : -1, v->add_eos ? v->eos_id : -1),
                  "decoder", ps_pipeline_plain("ByteLevel"), "model", "type", "BPE",
                  "ignore_merges", pre->ignore_merges));
    return PS_OK;
}

// ---- the whole ----

static ps_err define(vocabulary *v, const char *model, ps_tokenizer_definition **out)
{
    PS_TRY(read_tokens(v));
    if (strcmp(model, "gpt2") == 0) return define_bytes(v, out);
    if (strcmp(model, "llama") == 0) return define_scored(v, false, out);
    return define_scored(v, true, out);
}

ps_err ps_gguf_tokenizer_read(ps_gguf *g, ps_tokenizer **out)
{
    const char *model = NULL;
    vocabulary v = {.g = g, .where = ps_gguf_path(g)};
    ps_tokenizer_definition *d = NULL;
    *out = NULL;
    PS_TRY(ps_gguf_find_text(g, KEY("model"), &model));
    if (!model || strcmp(model, "none") == 0) return PS_OK;
    if (strcmp(model, "gpt2") != 0 && strcmp(model, "llama") != 0 && strcmp(model, "t5") != 0) {
        return PS_FAIL(PS_ERR_UNSUPPORTED,
                       "%s: " KEY("model") " is \"%.40s\", wanted llama, gpt2 or t5", v.where,
                       model);
    }
    ps_err err = define(&v, model, &d);
    if (!err) {
        err = ps_tokenizer_build(d, out);
    } else {
        ps_tokenizer_definition_free(d);
    }
    for (size_t i = 0; v.owned && i < v.n; i++) {
        ps_mem_free(v.owned[i]);
    }
    ps_mem_free(v.owned);
    ps_mem_free(v.piece);
    return err;
}
