/* A vocabulary of pieces with scores, as SentencePiece makes them and GGUF carries them, into the
 * definition of a tokenizer.
 *
 *   text -> [charsmap] -> white space -> mark in front, blanks become U+2581 -> user-defined pieces
 *        -> BPE: the neighbours whose piece has the highest score, leftmost of equals, become one
 *        or Unigram: the greatest sum of scores;  what is unknown becomes bytes, or the unknown
 *
 * Control pieces stand for themselves only where the caller lets special tokens be recognised
 * (SentencePiece itself never finds them in a text).
 *
 * A piece of kind unused that BPE could make is refused: SentencePiece would merge through it and
 * take it apart again.
 *
 * Errors: PS_ERR_FORMAT, PS_ERR_LIMIT, PS_ERR_NUMERIC, PS_ERR_UNSUPPORTED.   MPI: local.
 */
#ifndef PS_TOOL_IMPORT_PIECES_H
#define PS_TOOL_IMPORT_PIECES_H

#include "serve/tokenizer_definition.h"

/* Numbered as in both formats. */
typedef enum ps_piece_kind {
    PS_PIECE_NORMAL = 1,
    PS_PIECE_UNKNOWN,
    PS_PIECE_CONTROL,
    PS_PIECE_USER_DEFINED,
    PS_PIECE_UNUSED,
    PS_PIECE_BYTE
} ps_piece_kind;

typedef struct ps_piece {
    const char *bytes; // borrowed; blanks are U+2581
    size_t n;
    double score;
    ps_piece_kind kind;
} ps_piece;

typedef enum ps_piece_prefix {
    PS_PREFIX_NONE,
    PS_PREFIX_EACH, // a blank in front of the text, and again behind each special token
    PS_PREFIX_FIRST // in front of the text alone
} ps_piece_prefix;

typedef struct ps_pieces {
    const char *where;
    bool unigram;          // else BPE
    const ps_piece *piece; // [n]  by id
    size_t n;
    ps_piece_prefix prefix;
    bool remove_extra_whitespaces; // at both ends, and runs of blanks to one
    bool keep_blanks;              // blanks stay blanks instead of becoming U+2581
    const char *charsmap;          // [charsmap_bytes]  normalization rules; may be empty
    size_t charsmap_bytes;
    int32_t bos_id, eos_id; // added around a text; -1: not
    // [n_added]  tokens beside the pieces (ids from n on), and how pieces that are named here are
    // found in a text; each id once
    const ps_tokenizer_added *added;
    size_t n_added;
} ps_pieces;

/* *out is the caller's, NULL on an error. */
ps_err ps_pieces_define(const ps_pieces *p, ps_tokenizer_definition **out) PS_MUST_CHECK;

#endif
