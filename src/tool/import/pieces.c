/* Pieces to a definition. User-defined pieces are found in the normalized text as they stand there,
 * so that the mark in front of the text is not put in front of what follows one.
 *
 * The merges of BPE follow from the pieces: a piece is made of any two others that it can be cut
 * into. Pieces of equal score have equal rank, so the leftmost of them is made first, as
 * SentencePiece does it (bpe_model.cc); all ways to make a piece share its rank. */
#include "tool/import/pieces.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tool/import/pipeline.h"

static const char mark[] = "\xE2\x96\x81"; // U+2581

enum { MARK_BYTES = sizeof mark - 1 };

// ---- tokens ----

/* The token that the caller has for a piece; NULL: none. */
static const ps_tokenizer_added *find_added(const ps_pieces *p, int32_t id)
{
    for (size_t i = 0; i < p->n_added; i++) {
        if (p->added[i].id == id) return &p->added[i];
    }
    return NULL;
}

static ps_err define_found(ps_tokenizer_definition *d, const ps_pieces *p, int32_t id)
{
    const ps_piece *piece = &p->piece[id];
    const bool user_defined = piece->kind == PS_PIECE_USER_DEFINED;
    const ps_tokenizer_added token = {.id = id,
                                      .content = piece->bytes,
                                      .n = piece->n,
                                      .special = !user_defined,
                                      .normalized = user_defined,
                                      .verbatim = user_defined};
    return ps_tokenizer_define_added(d, &token);
}

static ps_err define_piece(ps_tokenizer_definition *d, const ps_pieces *p, int32_t id)
{
    const ps_piece *piece = &p->piece[id];
    const ps_tokenizer_added *added = find_added(p, id);
    const bool model_finds = piece->kind == PS_PIECE_NORMAL || piece->kind == PS_PIECE_UNUSED ||
                             piece->kind == PS_PIECE_BYTE;
    if (!isfinite(piece->score)) {
        return PS_FAIL(PS_ERR_NUMERIC, "%s: piece %d has the score %g", p->where, id, piece->score);
    }
    if (added) {
        PS_TRY(ps_tokenizer_define_added(d, added));
    } else if (!model_finds) {
        PS_TRY(define_found(d, p, id));
    }
    if (!model_finds && piece->kind != PS_PIECE_UNKNOWN) return PS_OK;
    PS_TRY(ps_tokenizer_define_token(d, id, piece->bytes, piece->n));
    if (p->unigram && piece->kind == PS_PIECE_NORMAL) {
        ps_tokenizer_define_score(d, id, piece->score);
    }
    return PS_OK;
}

static ps_err find_unknown(const ps_pieces *p, int32_t *out)
{
    *out = -1;
    for (size_t i = 0; i < p->n; i++) {
        if (p->piece[i].kind != PS_PIECE_UNKNOWN) continue;
        if (*out >= 0) {
            return PS_FAIL(PS_ERR_FORMAT, "%s: pieces %d and %zu are both the unknown one",
                           p->where, *out, i);
        }
        *out = (int32_t)i;
    }
    return PS_OK;
}

static bool has_bytes(const ps_pieces *p)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n; i++) {
        n += p->piece[i].kind == PS_PIECE_BYTE;
    }
    return n == 256;
}

// ---- merges ----

static int compare_falling(const void *left, const void *right)
{
    const double a = *(const double *)left, b = *(const double *)right;
    return (a < b) - (a > b);
}

/* The different scores of normal pieces, falling: a score's place is its rank. */
static size_t collect_scores(const ps_pieces *p, double *score)
{
    size_t n = 0, n_different = 0;
    for (size_t i = 0; i < p->n; i++) {
        if (p->piece[i].kind == PS_PIECE_NORMAL) score[n++] = p->piece[i].score;
    }
    if (n > 0) qsort(score, n, sizeof *score, compare_falling);
    for (size_t i = 0; i < n; i++) {
        if (n_different == 0 || score[i] != score[n_different - 1]) score[n_different++] = score[i];
    }
    return n_different;
}

static uint32_t rank_of(const double *score, size_t n, double wanted)
{
    const double *found = bsearch(&wanted, score, n, sizeof *score, compare_falling);
    return (uint32_t)(found - score);
}

static int32_t find_normal(const ps_pieces *p, const ps_tokenizer_definition *d, const char *bytes,
                           size_t n)
{
    const int32_t id = ps_tokenizer_defined_id(d, bytes, n);
    return id >= 0 && p->piece[id].kind == PS_PIECE_NORMAL ? id : -1;
}

/* All ways to cut a piece into two others. */
static ps_err define_merges_of(ps_tokenizer_definition *d, const ps_pieces *p, int32_t id,
                               uint32_t rank)
{
    const ps_piece *piece = &p->piece[id];
    for (size_t cut = 1; cut < piece->n; cut++) {
        if (((unsigned char)piece->bytes[cut] & 0xC0) == 0x80) continue;
        const ps_tokenizer_merge merge = {.left = find_normal(p, d, piece->bytes, cut),
                                          .right =
                                              find_normal(p, d, piece->bytes + cut, piece->n - cut),
                                          .merged = id,
                                          .rank = rank};
        if (merge.left < 0 || merge.right < 0) continue;
        if (piece->kind == PS_PIECE_UNUSED) {
            return PS_FAIL(PS_ERR_UNSUPPORTED,
                           "%s: piece %d is unused, but pieces %d and %d make it", p->where, id,
                           merge.left, merge.right);
        }
        PS_TRY(ps_tokenizer_define_merge(d, &merge));
    }
    return PS_OK;
}

static ps_err define_merges(ps_tokenizer_definition *d, const ps_pieces *p)
{
    double *score = ps_mem_new(p->n, sizeof *score);
    const size_t n_scores = collect_scores(p, score);
    ps_err err = PS_OK;
    for (size_t i = 0; i < p->n && !err; i++) {
        const ps_piece *piece = &p->piece[i];
        // Of pieces that come twice the last one counts.
        if (ps_tokenizer_defined_id(d, piece->bytes, piece->n) != (int32_t)i) continue;
        const bool normal = piece->kind == PS_PIECE_NORMAL;
        if (!normal && piece->kind != PS_PIECE_UNUSED) continue;
        const uint32_t rank = normal ? rank_of(score, n_scores, piece->score) : 0;
        err = define_merges_of(d, p, (int32_t)i, rank);
    }
    ps_mem_free(score);
    return err;
}

// ---- pipeline ----

static json_t *make_normalizer(const ps_pieces *p)
{
    json_t *list = json_array();
    const char *blank = p->keep_blanks ? " " : mark;
    if (p->charsmap_bytes > 0) {
        json_array_append_new(list, ps_pipeline_charsmap(p->charsmap, p->charsmap_bytes));
    }
    if (p->remove_extra_whitespaces) {
        json_array_append_new(list, ps_pipeline_replace_regex("\\A +| +\\z", ""));
        json_array_append_new(list, ps_pipeline_replace_regex(" {2,}", " "));
    }
    if (p->prefix == PS_PREFIX_EACH) {
        json_array_append_new(list, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", blank));
    }
    if (!p->keep_blanks) json_array_append_new(list, ps_pipeline_replace(" ", mark));
    return ps_pipeline_sequence("normalizers", list);
}

/* Whether a text can be cut in front of its marks: no piece goes on behind one, and none is
 * unknown, so that unknown characters do not run together across it. */
static bool marks_begin_words(const ps_pieces *p)
{
    bool known = false;
    for (size_t i = 0; i < p->n; i++) {
        const ps_piece *piece = &p->piece[i];
        if (piece->kind != PS_PIECE_NORMAL) continue;
        known = known || (piece->n == MARK_BYTES && memcmp(piece->bytes, mark, MARK_BYTES) == 0);
        if (piece->n > 1 && memmem(piece->bytes + 1, piece->n - 1, mark, MARK_BYTES)) return false;
    }
    return known && !p->keep_blanks;
}

static json_t *make_pre_tokenizer(const ps_pieces *p)
{
    json_t *list = json_array();
    if (p->prefix == PS_PREFIX_FIRST) {
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace",
                                              "replacement", p->keep_blanks ? " " : mark,
                                              "prepend_scheme", "first", "split", 0));
    }
    if (p->unigram && marks_begin_words(p)) {
        json_array_append_new(list, ps_pipeline_split_before(mark));
    }
    return ps_pipeline_sequence("pretokenizers", list);
}

static json_t *make_decoder(const ps_pieces *p)
{
    json_t *list = json_array();
    if (!p->keep_blanks) json_array_append_new(list, ps_pipeline_replace(mark, " "));
    json_array_append_new(list, ps_pipeline_plain("ByteFallback"));
    json_array_append_new(list, ps_pipeline_plain("Fuse"));
    if (p->prefix != PS_PREFIX_NONE) {
        json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content",
                                              " ", "start", 1, "stop", 0));
    }
    return ps_pipeline_sequence("decoders", list);
}

static json_t *make_model(const ps_pieces *p, int32_t unknown)
{
    json_t *model = json_pack("{s:s, s:b}", "type", p->unigram ? "Unigram" : "BPE", "byte_fallback",
                              has_bytes(p));
    if (unknown < 0) return model;
    if (p->unigram) {
        json_object_set_new(model, "unk_id", json_integer(unknown));
        json_object_set_new(model, "single_precision", json_true());
    } else {
        const ps_piece *piece = &p->piece[unknown];
        json_object_set_new(model, "unk_token", json_stringn(piece->bytes, piece->n));
        json_object_set_new(model, "fuse_unk", json_true());
    }
    return model;
}

// ---- the whole ----

static ps_err define(ps_tokenizer_definition *d, const ps_pieces *p)
{
    int32_t unknown;
    PS_TRY(find_unknown(p, &unknown));
    for (size_t i = 0; i < p->n; i++) {
        PS_TRY(define_piece(d, p, (int32_t)i));
    }
    for (size_t i = 0; i < p->n_added; i++) {
        const ps_tokenizer_added *added = &p->added[i];
        if (added->id >= (int32_t)p->n) PS_TRY(ps_tokenizer_define_added(d, added));
    }
    if (!p->unigram) PS_TRY(define_merges(d, p));
    ps_tokenizer_define_pipeline(d, json_pack("{s:o, s:o, s:o, s:o, s:o}", "normalizer",
                                              make_normalizer(p), "pre_tokenizer",
                                              make_pre_tokenizer(p), "post_processor",
                                              ps_pipeline_around(p->bos_id, p->eos_id), "decoder",
                                              make_decoder(p), "model", make_model(p, unknown)));
    return PS_OK;
}

ps_err ps_pieces_define(const ps_pieces *p, ps_tokenizer_definition **out)
{
    *out = NULL;
    if (p->n == 0 || p->n > PS_TOKENIZER_MAX_IDS) {
        return PS_FAIL(PS_ERR_LIMIT, "%s: a vocabulary of %zu pieces, wanted 1..%d", p->where, p->n,
                       PS_TOKENIZER_MAX_IDS);
    }
    ps_tokenizer_definition *d = ps_tokenizer_definition_new((int32_t)p->n, p->n, p->where);
    const ps_err err = define(d, p);
    if (err) {
        ps_tokenizer_definition_free(d);
        return err;
    }
    *out = d;
    return PS_OK;
}
