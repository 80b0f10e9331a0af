#include "base/sha256.h"

#include <openssl/evp.h>

ps_err ps_sha256_text(const void *bytes, size_t n, char out[PS_SHA256_TEXT_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    if (!EVP_Digest(bytes, n, digest, &length, EVP_sha256(), NULL) || length != 32)
        return PS_FAIL(PS_ERR_NOMEM, "SHA-256 of %zu bytes cannot be computed", n);
    for (unsigned i = 0; i < length; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[2 * length] = '\0';
    return PS_OK;
}
