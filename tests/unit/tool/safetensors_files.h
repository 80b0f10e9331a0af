/* Safetensors files built byte by byte, in a directory of the test's own. */
#ifndef PS_TEST_SAFETENSORS_FILES_H
#define PS_TEST_SAFETENSORS_FILES_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "tool/import/safetensors.h"

#define FILE_NAME  "model.safetensors"
#define INDEX_NAME "model.safetensors.index.json"

static char directory[64];

static inline void enter_directory(void)
{
    snprintf(directory, sizeof directory, "/tmp/pipestep-safetensors-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(chdir(directory), 0);
}

static inline void leave_directory(void)
{
    static const char *const names[] = {FILE_NAME,       INDEX_NAME,       "a.safetensors",
                                        "b.safetensors", ".c.safetensors", "x.index.json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        unlink(names[i]);
    }
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(rmdir(directory), 0);
}

static inline void write_bytes(const char *path, const void *bytes, size_t n)
{
    ps_file_writer w;
    ck_assert_int_eq(ps_file_writer_open(path, &w), PS_OK);
    ps_file_writer_write(&w, bytes, n);
    ck_assert_int_eq(ps_file_writer_commit(&w), PS_OK);
}

/* Length, header, and data bytes 0, 1, 2, ... */
static inline ps_text build(const char *header, size_t data_bytes)
{
    ps_text file = {0};
    const uint64_t length = strlen(header);
    for (int i = 0; i < 8; i++) {
        ps_text_append_char(&file, (char)(length >> (8 * i)));
    }
    ps_text_append_str(&file, header);
    for (size_t i = 0; i < data_bytes; i++) {
        ps_text_append_char(&file, (char)i);
    }
    return file;
}

static inline void write_file(const char *path, const char *header, size_t data_bytes)
{
    ps_text file = build(header, data_bytes);
    write_bytes(path, file.data, file.len);
    ps_text_release(&file);
}

static inline void write_text(const char *path, const char *text)
{
    write_bytes(path, text, strlen(text));
}

static inline ps_safetensors *open_good(const char *path)
{
    ps_safetensors *set;
    ck_assert_msg(ps_safetensors_open(path, &set) == PS_OK, "%s", ps_err_message());
    return set;
}

/* Reads every byte of every tensor, so that a bad range would crash. */
static inline unsigned touch_all(const ps_safetensors *set)
{
    unsigned sum = 0;
    for (int i = 0; i < ps_safetensors_count(set); i++) {
        const ps_safetensors_tensor *t = ps_safetensors_at(set, i);
        for (size_t k = 0; k < t->bytes; k++) {
            sum += t->data[k];
        }
    }
    return sum;
}

#define GOOD                                                                                       \
    "{\"__metadata__\":{\"format\":\"pt\"},"                                                       \
    "\"w.up\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[4,16]},"                       \
    "\"bias\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"                            \
    "\"none\":{\"dtype\":\"I64\",\"shape\":[0,7],\"data_offsets\":[16,16]}}   "
enum { GOOD_DATA = 16 };

static inline TCase *make_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);
    tcase_add_checked_fixture(tcase, enter_directory, leave_directory);
    tcase_set_timeout(tcase, 60);
    suite_add_tcase(suite, tcase);
    return tcase;
}

static inline int run_suite(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
