#include "base/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

enum { PIECE = 1 << 20, DIGEST_BYTES = 32 };

static void write_digits(const unsigned char digest[DIGEST_BYTES], char out[PS_SHA256_TEXT_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < DIGEST_BYTES; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[2 * DIGEST_BYTES] = '\0';
}

static ps_err fail(void)
{
    return PS_FAIL(PS_ERR_NOMEM, "SHA-256 cannot be computed: OpenSSL refuses");
}

ps_err ps_sha256_text(const void *bytes, size_t n, char out[PS_SHA256_TEXT_BYTES])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    if (!EVP_Digest(bytes, n, digest, &length, EVP_sha256(), NULL) || length != DIGEST_BYTES)
        return fail();
    write_digits(digest, out);
    return PS_OK;
}

static ps_err hash_descriptor(int fd, const char *path, const atomic_bool *stop,
                              EVP_MD_CTX *context, char *piece, uint64_t *bytes)
{
    if (!EVP_DigestInit_ex(context, EVP_sha256(), NULL)) return fail();
    for (*bytes = 0;;) {
        if (stop && atomic_load(stop)) return PS_FAIL(PS_ERR_IO, "%s: hashing was stopped", path);
        const ssize_t n = read(fd, piece, PIECE);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return PS_FAIL(PS_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
        if (n == 0) return PS_OK;
        if (!EVP_DigestUpdate(context, piece, (size_t)n)) return fail();
        *bytes += (uint64_t)n;
    }
}

ps_err ps_sha256_file(const char *path, const atomic_bool *stop, char out[PS_SHA256_TEXT_BYTES],
                      uint64_t *bytes)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return PS_FAIL(PS_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    char *piece = ps_mem_new(PIECE, 1);
    ps_err err = context ? hash_descriptor(fd, path, stop, context, piece, bytes) : fail();
    if (!err && (!EVP_DigestFinal_ex(context, digest, &length) || length != DIGEST_BYTES))
        err = fail();
    if (!err) write_digits(digest, out);
    ps_mem_free(piece);
    EVP_MD_CTX_free(context);
    close(fd);
    return err;
}
