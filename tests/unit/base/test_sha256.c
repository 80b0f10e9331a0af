/* Known answers of FIPS 180-4's examples. */
#include "base/sha256.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "support/scratch.h"

static void check_hash(const void *bytes, size_t n, const char *wanted)
{
    char found[PS_SHA256_TEXT_BYTES];
    ck_assert_int_eq(ps_sha256_text(bytes, n, found), PS_OK);
    ck_assert_str_eq(found, wanted);
}

START_TEST(known_texts_have_their_known_hashes)
{
    check_hash("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    check_hash("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    const char *two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    check_hash(two_blocks, strlen(two_blocks),
               "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}
END_TEST

START_TEST(a_million_letters_have_theirs)
{
    char *letters = ps_mem_new(1000000, 1);
    memset(letters, 'a', 1000000);
    check_hash(letters, 1000000,
               "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    ps_mem_free(letters);
}
END_TEST

static void check_file(const char *path, uint64_t bytes, const char *wanted)
{
    char found[PS_SHA256_TEXT_BYTES];
    uint64_t n = 12345;
    assert_ok(ps_sha256_file(path, NULL, found, &n));
    ck_assert_str_eq(found, wanted);
    ck_assert_uint_eq(n, bytes);
}

/* Of a length that is a MiB, one less or more, and more than one. */
START_TEST(a_file_has_the_hash_of_its_bytes)
{
    static const size_t sizes[] = {0, 1, 63, 64, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3000000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char wanted[PS_SHA256_TEXT_BYTES];
        char *bytes = ps_mem_new(sizes[i] + 1, 1);
        for (size_t k = 0; k < sizes[i]; k++) {
            bytes[k] = (char)(k * k >> 3);
        }
        scratch_write("file", bytes, sizes[i]);
        assert_ok(ps_sha256_text(bytes, sizes[i], wanted));
        check_file("file", sizes[i], wanted);
        ps_mem_free(bytes);
    }
    scratch_write_text("abc", "abc");
    check_file("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}
END_TEST

START_TEST(files_that_cannot_be_read_are_errors)
{
    char found[PS_SHA256_TEXT_BYTES];
    uint64_t n;
    ck_assert_int_eq(ps_sha256_file("nothing", NULL, found, &n), PS_ERR_IO);
    assert_message("nothing: cannot open: No such file or directory");
    ck_assert_int_eq(ps_sha256_file(".", NULL, found, &n), PS_ERR_IO);
    assert_message(".: cannot read: Is a directory");
}
END_TEST

START_TEST(hashing_stops_when_told)
{
    char found[PS_SHA256_TEXT_BYTES];
    uint64_t n;
    atomic_bool stop;
    atomic_init(&stop, true);
    scratch_write_text("abc", "abc");
    ck_assert_int_eq(ps_sha256_file("abc", &stop, found, &n), PS_ERR_IO);
    assert_message("abc: hashing was stopped");
    atomic_store(&stop, false);
    assert_ok(ps_sha256_file("abc", &stop, found, &n));
    ck_assert_uint_eq(n, 3);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base/sha256");
    TCase *tcase = tcase_create("sha256");
    tcase_add_test(tcase, known_texts_have_their_known_hashes);
    tcase_add_test(tcase, a_million_letters_have_theirs);
    suite_add_tcase(suite, tcase);
    TCase *files = scratch_case(suite, "files");
    tcase_add_test(files, a_file_has_the_hash_of_its_bytes);
    tcase_add_test(files, files_that_cannot_be_read_are_errors);
    tcase_add_test(files, hashing_stops_when_told);
    return scratch_run(suite);
}
