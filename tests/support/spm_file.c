#include "support/spm_file.h"

#include <string.h>

#include "support/scratch.h"

static void append_varint(ps_text *out, uint64_t value)
{
    for (; value > 0x7F; value >>= 7) {
        ps_text_append_char(out, (char)(value & 0x7F) | (char)0x80);
    }
    ps_text_append_char(out, (char)value);
}

static void append_number(ps_text *out, unsigned field, unsigned value)
{
    append_varint(out, (uint64_t)field << 3);
    append_varint(out, value);
}

void spm_file_append_field(ps_text *message, unsigned field, const void *bytes, size_t n)
{
    append_varint(message, (uint64_t)field << 3 | 2);
    append_varint(message, n);
    ps_text_append(message, bytes, n);
}

void spm_file_release(spm_file *f)
{
    ps_text_release(&f->denormalizer);
    ps_text_release(&f->normalizer);
    ps_text_release(&f->trainer);
    ps_text_release(&f->pieces);
}

void spm_file_piece(spm_file *f, const char *piece, float score, int type)
{
    ps_text message = {0};
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    spm_file_append_field(&message, 1, piece, strlen(piece));
    append_varint(&message, 2 << 3 | 5);
    for (int i = 0; i < 4; i++) {
        ps_text_append_char(&message, (char)(bits >> (8 * i)));
    }
    if (type != 0) append_number(&message, 3, (unsigned)type);
    spm_file_append_field(&f->pieces, 1, message.data, message.len);
    ps_text_release(&message);
}

void spm_file_trainer(spm_file *f, unsigned field, unsigned value)
{
    append_number(&f->trainer, field, value);
}

void spm_file_normalizer(spm_file *f, unsigned field, unsigned value)
{
    append_number(&f->normalizer, field, value);
}

void spm_file_plain(spm_file *f)
{
    spm_file_piece(f, "<unk>", 0.0f, 2);
    spm_file_piece(f, "<s>", 0.0f, 3);
    spm_file_piece(f, "</s>", 0.0f, 3);
    spm_file_trainer(f, 3, 2);
    spm_file_normalizer(f, 3, 0);
    spm_file_normalizer(f, 4, 0);
}

ps_text spm_file_bytes(const spm_file *f)
{
    ps_text out = {0};
    ps_text_append(&out, ps_text_str(&f->pieces), f->pieces.len);
    spm_file_append_field(&out, 2, ps_text_str(&f->trainer), f->trainer.len);
    spm_file_append_field(&out, 3, ps_text_str(&f->normalizer), f->normalizer.len);
    if (f->denormalizer.len > 0)
        spm_file_append_field(&out, 5, f->denormalizer.data, f->denormalizer.len);
    return out;
}

void spm_file_write(const spm_file *f, const char *path)
{
    ps_text bytes = spm_file_bytes(f);
    scratch_write(path, bytes.data, bytes.len);
    ps_text_release(&bytes);
}
