/* SHA-256 (FIPS 180-4), for naming what a model was made from. The only user of OpenSSL.
 *
 * Cost: one pass; about 1.5 GB/s where the processor has instructions for it.   MPI: local.
 */
#ifndef PS_BASE_SHA256_H
#define PS_BASE_SHA256_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { PS_SHA256_TEXT_BYTES = 65 };

/* The hash of n bytes as 64 hexadecimal digits and a NUL. Errors: PS_ERR_NOMEM. */
ps_err ps_sha256_text(const void *bytes, size_t n, char out[PS_SHA256_TEXT_BYTES]) PS_MUST_CHECK;

/* The hash of a file and its length, by reads of a MiB. *stop (may be NULL) ends it early, with
 * PS_ERR_IO. Errors: PS_ERR_IO, PS_ERR_NOMEM. */
ps_err ps_sha256_file(const char *path, const atomic_bool *stop, char out[PS_SHA256_TEXT_BYTES],
                      uint64_t *bytes) PS_MUST_CHECK;

#endif
