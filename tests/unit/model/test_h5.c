/* Typed arrays in HDF5 files: what is written is read, and files appear whole or not at all. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "model/h5.h"
#include "support/h5_raw.h"
#include "support/scratch.h"

/* A file with one dataset of each type, values 0, 1, 2, ... as bytes. */
static void write_types(const char *path)
{
    unsigned char bytes[6 * 8];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (unsigned char)i;
    }
    ps_h5_writer *w;
    assert_ok(ps_h5_create(path, &w));
    const uint64_t dims[2] = {2, 3};
    for (int t = 0; t < PS_H5_TYPE_COUNT; t++) {
        char name[64];
        snprintf(name, sizeof name, "/types/%s", ps_h5_type_name((ps_h5_type)t));
        assert_ok(ps_h5_put(w, name, (ps_h5_type)t, 2, dims, bytes));
    }
    assert_ok(ps_h5_commit(w));
}

static ps_h5_file *open_good(const char *path)
{
    ps_h5_file *file;
    assert_ok(ps_h5_open(path, &file));
    return file;
}

/* A file whose only dataset is /x. */
static void write_one(const char *path, const void *bytes, size_t n)
{
    const uint64_t dims[1] = {n};
    ps_h5_writer *w;
    assert_ok(ps_h5_create(path, &w));
    assert_ok(ps_h5_put(w, "/x", PS_H5_U8, 1, dims, bytes));
    assert_ok(ps_h5_commit(w));
}

/* ---- round trips ---- */

START_TEST(values_of_every_type_come_back_bit_by_bit)
{
    write_types("a.h5");
    ps_h5_file *file = open_good("a.h5");
    char name[64];
    unsigned char found[48];
    ps_h5_info info;
    snprintf(name, sizeof name, "/types/%s", ps_h5_type_name((ps_h5_type)_i));
    assert_ok(ps_h5_find(file, name, &info));
    ck_assert_int_eq(info.type, _i);
    ck_assert_int_eq(info.rank, 2);
    ck_assert_uint_eq(info.dims[0], 2);
    ck_assert_uint_eq(info.dims[1], 3);
    ck_assert_uint_eq(info.values, 6);
    ck_assert_uint_eq(info.bytes, 6 * ps_h5_type_bytes((ps_h5_type)_i));
    assert_ok(ps_h5_read(file, name, &info, found));
    for (size_t i = 0; i < info.bytes; i++) {
        ck_assert_uint_eq(found[i], i);
    }
    ps_h5_close(file);
}
END_TEST

START_TEST(the_offset_is_where_the_values_lie)
{
    write_types("a.h5");
    size_t n;
    char *bytes = scratch_read("a.h5", &n);
    ps_h5_file *file = open_good("a.h5");
    for (int t = 0; t < PS_H5_TYPE_COUNT; t++) {
        char name[64];
        ps_h5_info info;
        snprintf(name, sizeof name, "/types/%s", ps_h5_type_name((ps_h5_type)t));
        assert_ok(ps_h5_find(file, name, &info));
        ck_assert_uint_le(info.offset + info.bytes, n);
        for (size_t i = 0; i < info.bytes; i++) {
            ck_assert_uint_eq((unsigned char)bytes[info.offset + i], i);
        }
    }
    ps_h5_close(file);
    ps_mem_free(bytes);
}
END_TEST

START_TEST(halves_are_numbers_to_other_programs)
{
    write_types("a.h5");
    static const struct {
        const char *name;
        double second, third; // of the bits 0x0302 and 0x0504
    } wanted[2] = {{"/types/f16", 770 * 0x1p-24, 1.25 * 0x1p-14 + 4 * 0x1p-24},
                   {"/types/bf16", 0x1.04p-121, 0x1.08p-117}};
    const hid_t file = H5Fopen("a.h5", H5F_ACC_RDONLY, H5P_DEFAULT);
    for (int i = 0; i < 2; i++) {
        double values[6];
        const hid_t dataset = H5Dopen2(file, wanted[i].name, H5P_DEFAULT);
        ck_assert_int_ge(H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values),
                         0);
        ck_assert_double_eq(values[1], wanted[i].second);
        ck_assert_double_eq(values[2], wanted[i].third);
        H5Dclose(dataset);
    }
    H5Fclose(file);
}
END_TEST

START_TEST(attributes_come_back)
{
    ps_h5_writer *w;
    assert_ok(ps_h5_create("a.h5", &w));
    const uint64_t dims[1] = {1};
    assert_ok(ps_h5_put(w, "/g/x", PS_H5_U8, 1, dims, "!"));
    assert_ok(ps_h5_put_attribute_text(w, "/", "text",
                                       "M\xC3\xBC"
                                       "de"));
    assert_ok(ps_h5_put_attribute_text(w, "/g/x", "empty", ""));
    assert_ok(ps_h5_put_attribute_int(w, "/g", "int", INT64_MIN));
    assert_ok(ps_h5_put_attribute_real(w, "/g/x", "real", -0.1));
    assert_ok(ps_h5_commit(w));
    ps_h5_file *file = open_good("a.h5");
    ps_text text = {0};
    int64_t number = 0;
    double real = 0.0;
    assert_ok(ps_h5_attribute_text(file, "/", "text", &text));
    ck_assert_str_eq(ps_text_str(&text), "M\xC3\xBC"
                                         "de");
    ps_text_clear(&text);
    assert_ok(ps_h5_attribute_text(file, "/g/x", "empty", &text));
    ck_assert_str_eq(ps_text_str(&text), "");
    assert_ok(ps_h5_attribute_int(file, "/g", "int", &number));
    ck_assert_int_eq(number, INT64_MIN);
    assert_ok(ps_h5_attribute_real(file, "/g/x", "real", &real));
    ck_assert_double_eq(real, -0.1);
    assert_ok(ps_h5_attribute_real(file, "/g", "int", &real));
    ck_assert_double_eq(real, -0x1p63);
    ck_assert(ps_h5_has_attribute(file, "/", "text"));
    ck_assert(!ps_h5_has_attribute(file, "/", "int"));
    ck_assert(!ps_h5_has_attribute(file, "/nothing", "text"));
    ps_text_release(&text);
    ps_h5_close(file);
}
END_TEST

START_TEST(rows_may_be_written_in_pieces_and_over_again)
{
    ps_h5_writer *w;
    ps_h5_dataset dataset;
    assert_ok(ps_h5_create("a.h5", &w));
    const uint64_t dims[2] = {5, 2}, planes[3] = {2, 3, 2};
    assert_ok(ps_h5_begin(w, "/g/x", PS_H5_I32, 2, dims, &dataset));
    assert_ok(ps_h5_write_rows(w, dataset, 3, 2, (int32_t[]){30, 31, 40, 41}));
    assert_ok(ps_h5_write_rows(w, dataset, 0, 0, NULL));
    assert_ok(ps_h5_write_rows(w, dataset, 0, 3, (int32_t[]){0, 1, 10, 11, 20, 21}));
    assert_ok(ps_h5_end(w, dataset));
    assert_ok(ps_h5_overwrite_rows(w, "/g/x", 1, 1, (int32_t[]){-10, -11}));
    const int32_t zeros[12] = {0};
    assert_ok(ps_h5_put(w, "/planes", PS_H5_I32, 3, planes, zeros));
    assert_ok(ps_h5_overwrite_plane(w, "/planes", 1, 1, 2, (int32_t[]){1, 2, 3, 4}));
    assert_ok(ps_h5_commit(w));
    ps_h5_file *file = open_good("a.h5");
    ps_h5_info info;
    int32_t found[12];
    assert_ok(ps_h5_find(file, "/g/x", &info));
    assert_ok(ps_h5_read(file, "/g/x", &info, found));
    const int32_t wanted[10] = {0, 1, -10, -11, 20, 21, 30, 31, 40, 41};
    ck_assert_mem_eq(found, wanted, sizeof wanted);
    assert_ok(ps_h5_find(file, "/planes", &info));
    assert_ok(ps_h5_read(file, "/planes", &info, found));
    const int32_t wanted_planes[12] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4};
    ck_assert_mem_eq(found, wanted_planes, sizeof wanted_planes);
    ps_h5_close(file);
}
END_TEST

START_TEST(empty_datasets_come_back_empty)
{
    write_one("a.h5", "", 0);
    ps_h5_file *file = open_good("a.h5");
    ps_h5_info info;
    ps_text text = {0};
    assert_ok(ps_h5_find(file, "/x", &info));
    ck_assert_uint_eq(info.bytes, 0);
    assert_ok(ps_h5_read_bytes(file, "/x", 0, &text));
    ck_assert_uint_eq(text.len, 0);
    ps_text_release(&text);
    ps_h5_close(file);
}
END_TEST

START_TEST(bytes_are_read_up_to_a_limit)
{
    write_one("a.h5", "12345", 5);
    ps_h5_file *file = open_good("a.h5");
    ps_text text = {0};
    assert_ok(ps_h5_read_bytes(file, "/x", 5, &text));
    ck_assert_str_eq(ps_text_str(&text), "12345");
    ck_assert_int_eq(ps_h5_read_bytes(file, "/x", 4, &text), PS_ERR_LIMIT);
    assert_message("a.h5: /x has 5 bytes, wanted at most 4");
    ps_text_release(&text);
    ps_h5_close(file);
}
END_TEST

START_TEST(only_bytes_are_read_as_bytes)
{
    write_types("a.h5");
    ps_h5_file *file = open_good("a.h5");
    ps_text text = {0};
    ck_assert_int_eq(ps_h5_read_bytes(file, "/types/f32", 99, &text), PS_ERR_FORMAT);
    assert_message("a.h5: /types/f32 is f32 of rank 2, wanted u8 of rank 1");
    ck_assert_int_eq(ps_h5_read_bytes(file, "/types/u8", 99, &text), PS_ERR_FORMAT);
    assert_message("a.h5: /types/u8 is u8 of rank 2, wanted u8 of rank 1");
    ps_h5_close(file);
}
END_TEST

/* ---- layout of the file ---- */

static void write_mixed(const char *path)
{
    char *big = ps_mem_new(200000, 1);
    for (int i = 0; i < 200000; i++) {
        big[i] = (char)(i % 251);
    }
    ps_h5_writer *w;
    assert_ok(ps_h5_create(path, &w));
    static const uint64_t sizes[] = {65536, 3, 65535, 200000, 17};
    for (int i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "/part%d/group/x", i);
        assert_ok(ps_h5_put(w, name, PS_H5_U8, 1, &sizes[i], big));
        assert_ok(ps_h5_put_attribute_int(w, name, "number", i));
    }
    assert_ok(ps_h5_put_attribute_text(w, "/", "format", "test"));
    assert_ok(ps_h5_commit(w));
    ps_mem_free(big);
}

START_TEST(big_datasets_begin_at_a_page)
{
    write_mixed("a.h5");
    ps_h5_file *file = open_good("a.h5");
    ps_h5_info info;
    assert_ok(ps_h5_find(file, "/part0/group/x", &info));
    ck_assert_uint_eq(info.offset % 4096, 0);
    assert_ok(ps_h5_find(file, "/part3/group/x", &info));
    ck_assert_uint_eq(info.offset % 4096, 0);
    ps_h5_close(file);
}
END_TEST

START_TEST(equal_contents_give_equal_files_even_a_second_later)
{
    write_mixed("a.h5");
    sleep(1);
    write_mixed("b.h5");
    size_t n_a, n_b;
    char *a = scratch_read("a.h5", &n_a), *b = scratch_read("b.h5", &n_b);
    ck_assert_uint_eq(n_a, n_b);
    ck_assert_int_eq(memcmp(a, b, n_a), 0);
    ps_mem_free(b);
    ps_mem_free(a);
}
END_TEST

/* ---- all or nothing ---- */

START_TEST(a_file_appears_with_commit)
{
    ps_h5_writer *w;
    const uint64_t dims[1] = {3};
    assert_ok(ps_h5_create("a.h5", &w));
    assert_ok(ps_h5_put(w, "/x", PS_H5_U8, 1, dims, "abc"));
    ck_assert(!scratch_exists("a.h5"));
    assert_ok(ps_h5_commit(w));
    ck_assert(scratch_exists("a.h5"));
    ck_assert_int_eq(scratch_count(), 1);
}
END_TEST

START_TEST(the_old_file_stays_until_commit)
{
    write_one("a.h5", "old", 3);
    ps_h5_writer *w;
    const uint64_t dims[1] = {3};
    assert_ok(ps_h5_create("a.h5", &w));
    assert_ok(ps_h5_put(w, "/x", PS_H5_U8, 1, dims, "new"));
    ps_text text = {0};
    ps_h5_file *file = open_good("a.h5");
    assert_ok(ps_h5_read_bytes(file, "/x", 9, &text));
    assert_ok(ps_h5_commit(w));
    ps_h5_close(file);
    file = open_good("a.h5");
    assert_ok(ps_h5_read_bytes(file, "/x", 9, &text));
    ps_h5_close(file);
    ck_assert_str_eq(ps_text_str(&text), "oldnew");
    ps_text_release(&text);
}
END_TEST

START_TEST(abandon_leaves_nothing)
{
    ps_h5_writer *w;
    ps_h5_dataset dataset;
    const uint64_t dims[1] = {300000};
    assert_ok(ps_h5_create("a.h5", &w));
    assert_ok(ps_h5_begin(w, "/g/open", PS_H5_U8, 1, dims, &dataset));
    assert_ok(ps_h5_write_rows(w, dataset, 7, 3, "abc"));
    ps_h5_abandon(w);
    ck_assert_int_eq(scratch_count(), 0);
    ps_h5_abandon(NULL);
}
END_TEST

START_TEST(a_commit_that_fails_leaves_nothing)
{
    ps_h5_writer *w;
    const uint64_t dims[1] = {3};
    assert_ok(ps_h5_create("a.h5", &w));
    ck_assert_int_eq(mkdir("a.h5", 0700), 0);
    assert_ok(ps_h5_put(w, "/x", PS_H5_U8, 1, dims, "abc"));
    ck_assert_int_eq(ps_h5_commit(w), PS_ERR_IO);
    assert_message("a.h5: cannot rename into place: Is a directory");
    ck_assert_int_eq(scratch_count(), 1);
}
END_TEST

START_TEST(a_directory_or_a_device_is_no_place_for_a_file)
{
    ps_h5_writer *w;
    ck_assert_int_eq(mkdir("a.h5", 0700), 0);
    ck_assert_int_eq(ps_h5_create("a.h5", &w), PS_ERR_IO);
    assert_message("a.h5: is a directory, wanted a regular file");
    // Renaming over it would replace the device by a file.
    ck_assert_int_eq(ps_h5_create("/dev/null", &w), PS_ERR_IO);
    assert_message("/dev/null: is a device, wanted a regular file");
}
END_TEST

START_TEST(a_directory_that_is_not_there_is_named)
{
    ps_h5_writer *w;
    ck_assert_int_eq(ps_h5_create("no/such/a.h5", &w), PS_ERR_IO);
    ck_assert_ptr_null(w);
    assert_message("no/such/a.h5: cannot create: No such file or directory");
}
END_TEST

START_TEST(a_name_that_is_taken_is_refused)
{
    ps_h5_writer *w;
    const uint64_t dims[1] = {1};
    assert_ok(ps_h5_create("a.h5", &w));
    assert_ok(ps_h5_put(w, "/x", PS_H5_U8, 1, dims, "1"));
    ck_assert_int_eq(ps_h5_put(w, "/x", PS_H5_U8, 1, dims, "2"), PS_ERR_IO);
    assert_mentions("a.h5: /x");
    ck_assert_int_eq(ps_h5_put(w, "/x/y", PS_H5_U8, 1, dims, "2"), PS_ERR_IO);
    assert_mentions("a.h5: /x/y");
    ck_assert_int_eq(ps_h5_overwrite_rows(w, "/z", 0, 1, "3"), PS_ERR_IO);
    assert_mentions("a.h5: /z");
    ps_h5_abandon(w);
}
END_TEST

/* In a child of its own: writes a file while no file may have more than `limit` bytes. Exit status
 * 0: it was written; 1: refused, with a message that says why, and nothing left; 2: worse. */
static void write_with_limit(rlim_t limit)
{
    struct rlimit usual;
    getrlimit(RLIMIT_FSIZE, &usual);
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){limit, usual.rlim_max});
    ps_h5_writer *w;
    char bytes[3000] = "";
    const uint64_t dims[1] = {sizeof bytes};
    ps_err err = ps_h5_create("a.h5", &w);
    for (int i = 0; w && !err && i < 20; i++) {
        char name[32];
        snprintf(name, sizeof name, "/group%d/x", i % 10 * 10 + i);
        err = ps_h5_put(w, name, PS_H5_U8, 1, dims, bytes);
        if (!err) err = ps_h5_put_attribute_int(w, name, "n", i);
    }
    if (w && err) ps_h5_abandon(w);
    if (w && !err) err = ps_h5_commit(w);
    setrlimit(RLIMIT_FSIZE, &usual); // Check's assertions write, too
    const bool said = strncmp(ps_err_message(), "a.h5: ", 6) == 0 &&
                      strstr(ps_err_message(), "File too large") != NULL;
    if (!err) exit(scratch_exists("a.h5") && scratch_count() == 1 ? 0 : 2);
    exit(err == PS_ERR_IO && said && scratch_count() == 0 ? 1 : 2);
}

START_TEST(a_full_disk_is_an_error_wherever_it_strikes)
{
    int n_written = 0, n_refused = 0;
    for (rlim_t limit = 0; limit < 80000; limit += limit < 4000 ? 97 : 1501) {
        const pid_t child = fork();
        if (child == 0) write_with_limit(limit);
        int status = 0;
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        if (!WIFEXITED(status) || WEXITSTATUS(status) > 1)
            ck_abort_msg("limit %ld: status %x", (long)limit, (unsigned)status);
        *(WEXITSTATUS(status) == 0 ? &n_written : &n_refused) += 1;
        if (WEXITSTATUS(status) == 0) unlink("a.h5");
    }
    ck_assert_int_gt(n_written, 3);
    ck_assert_int_gt(n_refused, 40);
}
END_TEST

/* ---- one file by several writers ---- */

START_TEST(writers_add_to_a_file_in_turn)
{
    const uint64_t dims[1] = {3};
    const unsigned char values[3][3] = {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}};
    static const char *const names[] = {"/parts/0", "/parts/1", "/parts/2"};
    ps_h5_writer *first;
    assert_ok(ps_h5_create("turns.h5", &first));
    assert_ok(ps_h5_put(first, names[0], PS_H5_U8, 1, dims, values[0]));
    assert_ok(ps_h5_hand_over(first));
    for (int i = 1; i < 3; i++) {
        ps_h5_writer *w;
        assert_ok(ps_h5_append(ps_h5_temporary(first), &w));
        assert_ok(ps_h5_put(w, names[i], PS_H5_U8, 1, dims, values[i]));
        assert_ok(ps_h5_put_attribute_int(w, names[i], "number", i));
        assert_ok(ps_h5_commit(w));
        ck_assert_int_ne(access("turns.h5", F_OK), 0);
    }
    assert_ok(ps_h5_commit(first));
    ps_h5_file *file = open_good("turns.h5");
    for (int i = 0; i < 3; i++) {
        ps_h5_info info;
        unsigned char found[3];
        assert_ok(ps_h5_find(file, names[i], &info));
        assert_ok(ps_h5_read(file, names[i], &info, found));
        ck_assert_mem_eq(found, values[i], 3);
    }
    ps_h5_close(file);
}
END_TEST

START_TEST(a_file_that_was_handed_over_can_be_abandoned)
{
    ps_h5_writer *first, *second;
    assert_ok(ps_h5_create("turns.h5", &first));
    assert_ok(ps_h5_hand_over(first));
    assert_ok(ps_h5_append(ps_h5_temporary(first), &second));
    ps_h5_abandon(second);
    char *temporary = ps_mem_copy_text(ps_h5_temporary(first));
    ck_assert_int_eq(access(temporary, F_OK), 0); // it is the first one's
    ps_h5_abandon(first);
    ck_assert_int_ne(access(temporary, F_OK), 0);
    ps_mem_free(temporary);
}
END_TEST

START_TEST(nothing_is_appended_to_what_is_not_there_or_not_hdf5)
{
    ps_h5_writer *w;
    ck_assert_int_eq(ps_h5_append("none.h5", &w), PS_ERR_IO);
    assert_message("none.h5: cannot open: No such file or directory");
    scratch_write("text.h5", "no HDF5", 7);
    ck_assert_int_eq(ps_h5_append("text.h5", &w), PS_ERR_IO);
    assert_mentions("text.h5: cannot be opened for writing");
}
END_TEST

START_TEST(rows_are_read_in_pieces)
{
    const uint64_t dims[2] = {5, 3};
    unsigned char values[15], found[6];
    for (int i = 0; i < 15; i++) {
        values[i] = (unsigned char)(i * 7);
    }
    ps_h5_writer *w;
    assert_ok(ps_h5_create("rows.h5", &w));
    assert_ok(ps_h5_put(w, "/x", PS_H5_U8, 2, dims, values));
    assert_ok(ps_h5_commit(w));
    ps_h5_file *file = open_good("rows.h5");
    ps_h5_info info;
    assert_ok(ps_h5_find(file, "/x", &info));
    assert_ok(ps_h5_read_rows(file, "/x", &info, 2, 2, found));
    ck_assert_mem_eq(found, values + 6, 6);
    ck_assert_int_eq(ps_h5_read_rows(file, "/x", &info, 4, 2, found), PS_ERR_IO);
    ps_h5_close(file);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/h5");
    TCase *trip = scratch_case(suite, "round trip");
    tcase_add_loop_test(trip, values_of_every_type_come_back_bit_by_bit, 0, PS_H5_TYPE_COUNT);
    tcase_add_test(trip, the_offset_is_where_the_values_lie);
    tcase_add_test(trip, halves_are_numbers_to_other_programs);
    tcase_add_test(trip, attributes_come_back);
    tcase_add_test(trip, rows_may_be_written_in_pieces_and_over_again);
    tcase_add_test(trip, empty_datasets_come_back_empty);
    tcase_add_test(trip, bytes_are_read_up_to_a_limit);
    tcase_add_test(trip, only_bytes_are_read_as_bytes);
    TCase *whole = scratch_case(suite, "whole files");
    tcase_add_test(whole, big_datasets_begin_at_a_page);
    tcase_add_test(whole, equal_contents_give_equal_files_even_a_second_later);
    tcase_add_test(whole, a_file_appears_with_commit);
    tcase_add_test(whole, the_old_file_stays_until_commit);
    tcase_add_test(whole, abandon_leaves_nothing);
    tcase_add_test(whole, a_commit_that_fails_leaves_nothing);
    tcase_add_test(whole, a_directory_or_a_device_is_no_place_for_a_file);
    tcase_add_test(whole, a_directory_that_is_not_there_is_named);
    tcase_add_test(whole, a_name_that_is_taken_is_refused);
    tcase_add_test(whole, a_full_disk_is_an_error_wherever_it_strikes);
    TCase *turns = scratch_case(suite, "turns");
    tcase_add_test(turns, writers_add_to_a_file_in_turn);
    tcase_add_test(turns, a_file_that_was_handed_over_can_be_abandoned);
    tcase_add_test(turns, nothing_is_appended_to_what_is_not_there_or_not_hdf5);
    tcase_add_test(turns, rows_are_read_in_pieces);
    return scratch_run(suite);
}
