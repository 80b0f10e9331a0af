/* SentencePiece models put together piece by piece, without the reader's code.
 *
 *   spm_file f = {0};
 *   spm_file_piece(&f, "<unk>", 0.0f, 2);
 *   spm_file_trainer(&f, 3, 2);           // model_type BPE
 *   ps_text bytes = spm_file_bytes(&f);   // released by the caller
 *   spm_file_release(&f);
 *
 * MPI: local.
 */
#ifndef TESTS_SUPPORT_SPM_FILE_H
#define TESTS_SUPPORT_SPM_FILE_H

#include "base/text.h"

typedef struct spm_file {
    ps_text pieces, trainer, normalizer, denormalizer;
} spm_file;

void spm_file_release(spm_file *f);
void spm_file_piece(spm_file *f, const char *piece, float score, int type); // 0: no type is written

/* A number in the trainer's or the normalizer's spec, by the number of its field. */
void spm_file_trainer(spm_file *f, unsigned field, unsigned value);
void spm_file_normalizer(spm_file *f, unsigned field, unsigned value);

/* BPE, with no prefix and white space as it comes, and pieces <unk>, <s>, </s>. */
void spm_file_plain(spm_file *f);

ps_text spm_file_bytes(const spm_file *f);
void spm_file_write(const spm_file *f, const char *path);

/* A field of bytes behind a message. */
void spm_file_append_field(ps_text *message, unsigned field, const void *bytes, size_t n);

#endif
