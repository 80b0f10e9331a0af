/* GGUF files put together piece by piece, without the reader's code.
 *
 *   gguf_file f = {0};
 *   gguf_file_text(&f, "general.architecture", "llama");
 *   gguf_file_tensor(&f, "token_embd.weight", 0, 2, (uint64_t[]){32, 8}, values, 1024);
 *   gguf_file_write(&f, "model.gguf");
 *   gguf_file_release(&f);
 *
 * Numbers that a good file would hold by itself may be set to others: version, counts, alignment.
 *
 * MPI: local.
 */
#ifndef TESTS_SUPPORT_GGUF_FILE_H
#define TESTS_SUPPORT_GGUF_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "tool/import/gguf.h"

typedef struct gguf_file {
    ps_text keys, infos, data;
    uint64_t n_keys, n_tensors;
    uint32_t version;   // 0 counts as 3
    uint64_t alignment; // of the data; 0 counts as 32. The key is the caller's business.
} gguf_file;

void gguf_file_release(gguf_file *f);

/* A key with a single integer or real of the given kind (PS_GGUF_BOOL too). */
void gguf_file_int(gguf_file *f, const char *key, ps_gguf_kind kind, int64_t value);
void gguf_file_real(gguf_file *f, const char *key, ps_gguf_kind kind, double value);
void gguf_file_text(gguf_file *f, const char *key, const char *text);

/* A key with an array: integers of a kind, f32 values, texts. */
void gguf_file_ints(gguf_file *f, const char *key, ps_gguf_kind kind, size_t n,
                    const int64_t *values);
void gguf_file_reals(gguf_file *f, const char *key, size_t n, const float *values);
void gguf_file_texts(gguf_file *f, const char *key, size_t n, const char *const *texts);

/* A key with any kind and any bytes behind it. */
void gguf_file_raw(gguf_file *f, const char *key, uint32_t kind, const void *bytes, size_t n);

/* A tensor behind those before; dims[n_dims] with the contiguous one first. */
void gguf_file_tensor(gguf_file *f, const char *name, uint32_t type, uint32_t n_dims,
                      const uint64_t *dims, const void *bytes, size_t n);

/* An info alone, wherever it says that its data are. */
void gguf_file_info(gguf_file *f, const char *name, uint32_t type, uint32_t n_dims,
                    const uint64_t *dims, uint64_t offset);

/* Takes a key out again; renames a tensor (the new name has as many bytes). Both must be there. */
void gguf_file_drop(gguf_file *f, const char *key);
void gguf_file_rename(gguf_file *f, const char *from, const char *to);

/* The bytes of a tensor that was added, at any address. */
char *gguf_file_data(gguf_file *f, const char *name);

/* The bytes of the file; owned by the caller. Of its head alone: up to where the data begin. */
ps_text gguf_file_bytes(const gguf_file *f);
size_t gguf_file_head_bytes(const gguf_file *f);

void gguf_file_write(const gguf_file *f, const char *path);

/* Little-endian numbers behind a text. */
void gguf_file_append_u32(ps_text *out, uint32_t value);
void gguf_file_append_u64(ps_text *out, uint64_t value);

#endif
