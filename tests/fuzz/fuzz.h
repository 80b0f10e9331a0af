/* What the fuzz targets share: pieces of an input, files for readers that want a path, outcomes.
 *
 * A target is a file fuzz_<name>.c with the one function of libFuzzer's interface. It gives foreign
 * bytes to a reader and uses what comes out as the program would. Bytes may be refused, with a
 * message; what must not happen is any other end: a sanitizer's report, an assertion, memory or
 * time out of proportion, or an outcome that contradicts another (fuzz_require).
 *
 * MPI: local.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "serve/tokenizer.h"

/* The target. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The rest of an input. Several files or texts in one are separated by NUL. */
typedef struct fuzz_input {
    const char *data;
    size_t n;
} fuzz_input;

/* Takes what stands before the next NUL, or all, and the NUL with it. */
fuzz_input fuzz_take(fuzz_input *rest);

/* The same, copied with a NUL behind it; owned by the caller (ps_mem_free). */
char *fuzz_take_text(fuzz_input *rest);

/* Path of this name in a directory that the process makes under TMPDIR (or /tmp) and removes at its
 * end; "" is the directory. Borrowed until the next four calls. */
const char *fuzz_path(const char *name);

/* A file there with these bytes, in place of an old one; its path, as above. */
const char *fuzz_file(const char *name, const void *bytes, size_t n);

/* Removes a file there if it exists. */
void fuzz_remove(const char *name);

/* Ends the process with a line when a fact does not hold. */
#define fuzz_require(fact) fuzz_require_at((fact), #fact, __FILE__, __LINE__)
void fuzz_require_at(bool fact, const char *text, const char *file, int line);

/* Whether it went well; if not, there must be a message. */
bool fuzz_is_ok(ps_err err);

/* Uses a tokenizer on a text: ids and back, whole and one by one, packed and opened again with the
 * same results. */
void fuzz_tokenizer(const ps_tokenizer *t, fuzz_input text);

#endif
