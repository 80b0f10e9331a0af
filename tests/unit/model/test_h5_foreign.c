/* HDF5 files that other hands have made or changed: what cannot be read safely is refused by name.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "model/h5.h"
#include "support/h5_raw.h"
#include "support/scratch.h"

/* Asked by the leak sanitizer: the library forgets memory when it gives a damaged file up. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libhdf5\n";
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

static void refuse_file(const char *path, ps_err code, const char *message)
{
    ps_h5_file *file;
    ck_assert_int_eq(ps_h5_open(path, &file), code);
    ck_assert_ptr_null(file);
    assert_message(message);
}

START_TEST(what_is_no_hdf5_file_is_refused)
{
    refuse_file("a.h5", PS_ERR_IO, "a.h5: cannot open: No such file or directory");
    scratch_write_text("a.h5", "");
    refuse_file("a.h5", PS_ERR_FORMAT, "a.h5: the file is empty");
    scratch_write_text("a.h5", "\211HDF");
    refuse_file("a.h5", PS_ERR_FORMAT, "a.h5: not an HDF5 file");
    scratch_write_text("a.h5", "some text, long enough for a signature");
    refuse_file("a.h5", PS_ERR_FORMAT, "a.h5: not an HDF5 file");
    ck_assert_int_eq(mkdir("directory", 0700), 0);
    refuse_file("directory", PS_ERR_IO, "directory: is a directory, wanted a regular file");
    ck_assert_int_eq(mkfifo("fifo", 0600), 0);
    refuse_file("fifo", PS_ERR_IO, "fifo: is a FIFO, wanted a regular file");
    refuse_file("/dev/null", PS_ERR_IO, "/dev/null: is a device, wanted a regular file");
}
END_TEST

START_TEST(a_file_of_the_signature_alone_is_refused)
{
    scratch_write_text("a.h5", "\211HDF\r\n\032\n");
    ps_h5_file *file;
    ck_assert_int_eq(ps_h5_open("a.h5", &file), PS_ERR_FORMAT);
    assert_mentions("a.h5: not an HDF5 file, or a damaged or truncated one (HDF5: ");
}
END_TEST

START_TEST(a_file_that_another_program_has_locked_is_read)
{
    write_one("a.h5", "abc", 3);
    const int fd = open("a.h5", O_RDONLY);
    ck_assert_int_eq(flock(fd, LOCK_EX), 0);
    ps_h5_close(open_good("a.h5"));
    close(fd);
}
END_TEST

/* What ps_h5_find says of /x. */
static void refuse_x(ps_err code, const char *message)
{
    ps_h5_file *file = open_good("a.h5");
    ps_h5_info info;
    const ps_err err = ps_h5_find(file, "/x", &info);
    ck_assert_str_eq(ps_err_name(err), ps_err_name(code));
    assert_message(message);
    ps_h5_close(file);
}

static void put_x(hid_t type, int rank, const hsize_t *dims, h5_raw_layout layout, const void *data)
{
    h5_raw_put("a.h5", &(h5_raw_dataset){"/x", type, rank, dims, layout, data});
}

START_TEST(links_out_of_the_file_are_not_followed)
{
    write_one("b.h5", "abc", 3);
    write_one("a.h5", "abc", 3);
    h5_raw_soft_link("a.h5", "/x", "/soft");
    h5_raw_external_link("a.h5", "b.h5", "/x", "/external");
    h5_raw_external_link("a.h5", "b.h5", "/", "/group");
    ps_h5_file *file = open_good("a.h5");
    ps_h5_info info;
    static const char *const names[] = {"/soft", "/external", "/group", "/group/x", "/missing"};
    for (int i = 0; i < 5; i++) {
        char message[100];
        ck_assert(!ps_h5_exists(file, names[i]));
        ck_assert_int_eq(ps_h5_find(file, names[i], &info), PS_ERR_FORMAT);
        snprintf(message, sizeof message, "a.h5: %s is missing (or not a plain dataset)", names[i]);
        assert_message(message);
        ck_assert(!ps_h5_has_attribute(file, names[i], "x"));
    }
    ck_assert(ps_h5_exists(file, "/x"));
    ck_assert(ps_h5_exists(file, "/"));
    ps_h5_close(file);
}
END_TEST

START_TEST(a_group_is_no_dataset)
{
    write_mixed("a.h5");
    ps_h5_file *file = open_good("a.h5");
    ps_h5_info info;
    ck_assert_int_eq(ps_h5_find(file, "/part0", &info), PS_ERR_FORMAT);
    assert_mentions("a.h5: /part0 (HDF5: ");
    ck_assert_int_eq(ps_h5_find(file, "/part0/group/x/y", &info), PS_ERR_FORMAT);
    ps_h5_close(file);
}
END_TEST

START_TEST(values_in_another_file_are_refused)
{
    const hsize_t dims[1] = {3};
    scratch_write_text("outside.bin", "abc");
    h5_raw_create("a.h5");
    put_x(H5T_STD_U8LE, 1, dims, H5_RAW_EXTERNAL, NULL);
    refuse_x(PS_ERR_UNSUPPORTED, "a.h5: /x is stored outside the file or with an unknown filter");
}
END_TEST

START_TEST(values_of_a_virtual_dataset_are_refused)
{
    write_one("b.h5", "abc", 3);
    h5_raw_create("a.h5");
    const hsize_t dims[1] = {3};
    const hid_t file = H5Fopen("a.h5", H5F_ACC_RDWR, H5P_DEFAULT);
    const hid_t space = H5Screate_simple(1, dims, NULL), p = H5Pcreate(H5P_DATASET_CREATE);
    ck_assert_int_ge(H5Pset_virtual(p, space, "b.h5", "/x", space), 0);
    const hid_t x = H5Dcreate2(file, "/x", H5T_STD_U8LE, space, H5P_DEFAULT, p, H5P_DEFAULT);
    ck_assert_int_ge(x, 0);
    H5Dclose(x);
    H5Pclose(p);
    H5Sclose(space);
    H5Fclose(file);
    refuse_x(PS_ERR_UNSUPPORTED, "a.h5: /x is stored outside the file or with an unknown filter");
}
END_TEST

START_TEST(filters_that_are_not_listed_are_refused)
{
    h5_raw_create("a.h5");
    const hsize_t dims[1] = {64};
    const hid_t file = H5Fopen("a.h5", H5F_ACC_RDWR, H5P_DEFAULT);
    const hid_t space = H5Screate_simple(1, dims, NULL), p = H5Pcreate(H5P_DATASET_CREATE);
    ck_assert_int_ge(H5Pset_chunk(p, 1, dims), 0);
    ck_assert_int_ge(H5Pset_nbit(p), 0);
    const hid_t x = H5Dcreate2(file, "/x", H5T_STD_I32LE, space, H5P_DEFAULT, p, H5P_DEFAULT);
    ck_assert_int_ge(x, 0);
    H5Dclose(x);
    H5Pclose(p);
    H5Sclose(space);
    H5Fclose(file);
    refuse_x(PS_ERR_UNSUPPORTED, "a.h5: /x is stored outside the file or with an unknown filter");
}
END_TEST

START_TEST(types_that_are_not_listed_are_refused)
{
    const hsize_t dims[1] = {3};
    const hid_t types[] = {H5T_STD_I16LE, H5T_IEEE_F32BE, H5T_STD_U64LE, H5T_C_S1, H5T_STD_REF_OBJ};
    for (int i = 0; i < 5; i++) {
        h5_raw_create("a.h5");
        put_x(types[i], 1, dims, H5_RAW_CONTIGUOUS, NULL);
        refuse_x(PS_ERR_FORMAT, "a.h5: /x has a number type that is not read here");
    }
}
END_TEST

START_TEST(more_than_8_dimensions_are_refused)
{
    hsize_t dims[32];
    for (int d = 0; d < 32; d++) {
        dims[d] = 1;
    }
    h5_raw_create("a.h5");
    put_x(H5T_STD_U8LE, 32, dims, H5_RAW_CONTIGUOUS, "!");
    refuse_x(PS_ERR_SHAPE, "a.h5: /x has rank 32, wanted 0..8");
    put_x(H5T_STD_U8LE, 9, dims, H5_RAW_CONTIGUOUS, "!");
    refuse_x(PS_ERR_SHAPE, "a.h5: /x has rank 9, wanted 0..8");
}
END_TEST

START_TEST(a_scalar_is_one_value)
{
    h5_raw_create("a.h5");
    put_x(H5T_STD_U8LE, 0, NULL, H5_RAW_CONTIGUOUS, "!");
    ps_h5_file *file = open_good("a.h5");
    ps_h5_info info;
    char value = 0;
    assert_ok(ps_h5_find(file, "/x", &info));
    ck_assert(info.rank == 0 && info.values == 1 && info.bytes == 1);
    assert_ok(ps_h5_read(file, "/x", &info, &value));
    ck_assert_int_eq(value, '!');
    ps_h5_close(file);
}
END_TEST

START_TEST(a_null_dataspace_holds_nothing_and_is_refused)
{
    h5_raw_create("a.h5");
    put_x(H5T_STD_U8LE, -1, NULL, H5_RAW_CONTIGUOUS, NULL);
    refuse_x(PS_ERR_FORMAT, "a.h5: /x was made but never written");
}
END_TEST

START_TEST(sizes_that_overflow_are_refused)
{
    const hsize_t dims[3] = {UINT64_C(1) << 31, UINT64_C(1) << 31, 16};
    h5_raw_create("a.h5");
    put_x(H5T_IEEE_F32LE, 3, dims, H5_RAW_CHUNKED, NULL);
    refuse_x(PS_ERR_SHAPE, "a.h5: /x has a size that overflows");
    const hsize_t bytes_overflow[2] = {UINT64_C(1) << 31, UINT64_C(1) << 32};
    put_x(H5T_IEEE_F32LE, 2, bytes_overflow, H5_RAW_CHUNKED, NULL);
    refuse_x(PS_ERR_SHAPE, "a.h5: /x has a size that overflows");
}
END_TEST

START_TEST(a_dataset_that_was_never_written_is_refused)
{
    const hsize_t dims[1] = {3};
    h5_raw_create("a.h5");
    put_x(H5T_STD_U8LE, 1, dims, H5_RAW_UNWRITTEN, NULL);
    refuse_x(PS_ERR_FORMAT, "a.h5: /x was made but never written");
}
END_TEST

START_TEST(values_that_cannot_be_mapped_are_read)
{
    unsigned char wanted[100], found[100];
    for (int i = 0; i < 100; i++) {
        wanted[i] = (unsigned char)(i * i);
    }
    const hsize_t dims[2] = {20, 5};
    static const h5_raw_layout layouts[] = {H5_RAW_CHUNKED, H5_RAW_COMPACT};
    for (int i = 0; i < 2; i++) {
        h5_raw_create("a.h5");
        put_x(H5T_STD_U8LE, 2, dims, layouts[i], wanted);
        ps_h5_file *file = open_good("a.h5");
        ps_h5_info info;
        assert_ok(ps_h5_find(file, "/x", &info));
        ck_assert(info.offset == PS_H5_NOT_MAPPABLE);
        assert_ok(ps_h5_read(file, "/x", &info, found));
        ck_assert_mem_eq(found, wanted, 100);
        ps_h5_close(file);
    }
}
END_TEST

/* The shape says more than the header holds: 777 bytes. */
START_TEST(a_compact_dataset_of_another_size_than_its_shape_is_refused)
{
    char ones[777];
    memset(ones, 1, sizeof ones);
    const hsize_t dims[1] = {sizeof ones};
    const uint64_t from = sizeof ones, to = 777777;
    h5_raw_create("a.h5"); // in the oldest format, whose headers have no checksums
    put_x(H5T_STD_U8LE, 1, dims, H5_RAW_COMPACT, ones);
    size_t n;
    char *file = scratch_read("a.h5", &n);
    for (size_t at = 0; at + 8 <= n; at++) {
        if (memcmp(file + at, &from, 8) == 0) memcpy(file + at, &to, 8);
    }
    scratch_write("a.h5", file, n);
    ps_mem_free(file);
    refuse_x(PS_ERR_FORMAT, "a.h5: /x stores 777 bytes, its shape wants 777777");
}
END_TEST

START_TEST(a_repacked_file_reads_the_same)
{
    write_mixed("a.h5");
    h5_raw_repack("a.h5", "b.h5");
    ps_h5_file *a = open_good("a.h5"), *b = open_good("b.h5");
    for (int i = 0; i < 5; i++) {
        char name[32];
        ps_text x = {0}, y = {0};
        ps_h5_info info;
        snprintf(name, sizeof name, "/part%d/group/x", i);
        assert_ok(ps_h5_read_bytes(a, name, 1 << 20, &x));
        assert_ok(ps_h5_read_bytes(b, name, 1 << 20, &y));
        ck_assert_uint_eq(x.len, y.len);
        ck_assert_mem_eq(x.data, y.data, x.len);
        assert_ok(ps_h5_find(b, name, &info));
        ck_assert_int_eq(info.offset == PS_H5_NOT_MAPPABLE, info.bytes > 64);
        ps_text_release(&y);
        ps_text_release(&x);
    }
    ps_h5_close(b);
    ps_h5_close(a);
}
END_TEST

START_TEST(attributes_of_other_kinds_are_refused)
{
    const hsize_t two[1] = {2};
    const int64_t numbers[2] = {1, 2};
    h5_raw_create("a.h5");
    h5_raw_put_attribute("a.h5", "list", H5T_STD_I64LE, 1, two, numbers);
    h5_raw_put_attribute("a.h5", "none", H5T_STD_I64LE, -1, NULL, NULL);
    h5_raw_put_attribute("a.h5", "real", H5T_IEEE_F64LE, 0, NULL, &(double){1.5});
    h5_raw_put_attribute_variable_text("a.h5", "variable", "text");
    char long_text[4200];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    h5_raw_put_attribute_text("a.h5", "long", long_text);
    ps_h5_file *file = open_good("a.h5");
    int64_t number = 7;
    double real = 7.0;
    ps_text text = {0};
    ck_assert_int_eq(ps_h5_attribute_int(file, "/", "missing", &number), PS_ERR_FORMAT);
    assert_message("a.h5: / has no attribute missing");
    ck_assert_int_eq(ps_h5_attribute_int(file, "/", "list", &number), PS_ERR_FORMAT);
    assert_message("a.h5: attribute list of / is not a single value");
    ck_assert_int_eq(ps_h5_attribute_int(file, "/", "none", &number), PS_ERR_FORMAT);
    assert_message("a.h5: attribute none of / is not a single value");
    ck_assert_int_eq(ps_h5_attribute_int(file, "/", "real", &number), PS_ERR_FORMAT);
    assert_message("a.h5: attribute real of / is not an integer");
    ck_assert_int_eq(ps_h5_attribute_real(file, "/", "variable", &real), PS_ERR_FORMAT);
    assert_message("a.h5: attribute variable of / is not a number");
    static const char *const not_texts[] = {"real", "variable", "long"};
    for (int i = 0; i < 3; i++) {
        char message[100];
        ck_assert_int_eq(ps_h5_attribute_text(file, "/", not_texts[i], &text), PS_ERR_FORMAT);
        snprintf(message, sizeof message,
                 "a.h5: attribute %s of / is not a short fixed-length string", not_texts[i]);
        assert_message(message);
    }
    ps_h5_close(file);
}
END_TEST

START_TEST(the_library_tells_its_version)
{
    char version[16];
    ps_h5_library_version(version);
    ck_assert_int_eq(strncmp(version, "1.", 2), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/h5 foreign");
    TCase *other = scratch_case(suite, "other hands");
    tcase_add_test(other, what_is_no_hdf5_file_is_refused);
    tcase_add_test(other, a_file_of_the_signature_alone_is_refused);
    tcase_add_test(other, a_file_that_another_program_has_locked_is_read);
    tcase_add_test(other, links_out_of_the_file_are_not_followed);
    tcase_add_test(other, a_group_is_no_dataset);
    tcase_add_test(other, values_in_another_file_are_refused);
    tcase_add_test(other, values_of_a_virtual_dataset_are_refused);
    tcase_add_test(other, filters_that_are_not_listed_are_refused);
    tcase_add_test(other, types_that_are_not_listed_are_refused);
    tcase_add_test(other, more_than_8_dimensions_are_refused);
    tcase_add_test(other, a_scalar_is_one_value);
    tcase_add_test(other, a_null_dataspace_holds_nothing_and_is_refused);
    tcase_add_test(other, sizes_that_overflow_are_refused);
    tcase_add_test(other, a_dataset_that_was_never_written_is_refused);
    tcase_add_test(other, values_that_cannot_be_mapped_are_read);
    tcase_add_test(other, a_compact_dataset_of_another_size_than_its_shape_is_refused);
    tcase_add_test(other, a_repacked_file_reads_the_same);
    tcase_add_test(other, attributes_of_other_kinds_are_refused);
    tcase_add_test(other, the_library_tells_its_version);
    return scratch_run(suite);
}
