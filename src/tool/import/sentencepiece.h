/* Reader of SentencePiece's tokenizer.model: a protobuf message (sentencepiece_model.proto).
 *
 *   ModelProto       1 pieces   2 trainer_spec   3 normalizer_spec   5 denormalizer_spec
 *   SentencePiece    1 piece    2 score (float)  3 type (1 normal ... 6 byte)
 *   TrainerSpec      3 model_type (1 Unigram, 2 BPE)   24 treat_whitespace_as_suffix
 *                    46 bos_piece   47 eos_piece
 *   NormalizerSpec   2 precompiled_charsmap   3 add_dummy_prefix   4 remove_extra_whitespaces
 *                    5 escape_whitespaces
 * Other fields do not change how a text is cut. Every length is checked against the message that it
 * lies in.
 *
 * Errors: PS_ERR_FORMAT; PS_ERR_UNSUPPORTED for the types WORD and CHAR, white space as a suffix
 * and denormalization.   MPI: local.
 */
#ifndef PS_TOOL_IMPORT_SENTENCEPIECE_H
#define PS_TOOL_IMPORT_SENTENCEPIECE_H

#include "tool/import/pieces.h"

/* What is read, borrowing from the file's bytes; the list of pieces is owned: start from {0}, end
 * with ps_sentencepiece_release. */
typedef struct ps_sentencepiece {
    ps_pieces pieces; // without bos_id and eos_id
    ps_piece *list;
    size_t capacity;
    int32_t bos_id, eos_id; // control pieces that begin and end a text; -1: none
} ps_sentencepiece;

ps_err ps_sentencepiece_read(const char *bytes, size_t n, const char *where,
                             ps_sentencepiece *out) PS_MUST_CHECK;
void ps_sentencepiece_release(ps_sentencepiece *self);

#endif
