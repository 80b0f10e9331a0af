/* SHA-256 (FIPS 180-4) of files, for naming what a model was made from. The only user of OpenSSL.
 *
 * Cost: one pass; about 1.5 GB/s where the processor has instructions for it.   MPI: local.
 */
#ifndef PS_BASE_SHA256_H
#define PS_BASE_SHA256_H

#include <stddef.h>

#include "base/err.h"

enum { PS_SHA256_TEXT_BYTES = 65 };

/* The hash of n bytes as 64 hexadecimal digits and a NUL. Errors: PS_ERR_NOMEM. */
ps_err ps_sha256_text(const void *bytes, size_t n, char out[PS_SHA256_TEXT_BYTES]) PS_MUST_CHECK;

#endif
