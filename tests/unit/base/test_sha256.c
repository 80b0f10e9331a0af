/* Known answers of FIPS 180-4's examples. */
#include "base/sha256.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

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

int main(void)
{
    Suite *suite = suite_create("base/sha256");
    TCase *tcase = tcase_create("sha256");
    tcase_add_test(tcase, known_texts_have_their_known_hashes);
    tcase_add_test(tcase, a_million_letters_have_theirs);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
