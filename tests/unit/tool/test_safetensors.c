/* Safetensors files and sets: good ones, and each refusal with its exact text. */
#include "safetensors_files.h"

static void refuse(const char *path, ps_err code, const char *message)
{
    ps_safetensors *set;
    ck_assert_int_eq(ps_safetensors_open(path, &set), code);
    ck_assert_ptr_null(set);
    ck_assert_str_eq(ps_err_message(), message);
}

/* The header of one file, and what is said about it. */
static void refuse_header(const char *header, size_t data_bytes, const char *message)
{
    write_file(FILE_NAME, header, data_bytes);
    refuse(FILE_NAME, PS_ERR_FORMAT, message);
}

/* ---- good files ---- */

START_TEST(a_file_gives_its_tensors_in_the_order_of_their_data)
{
    write_file(FILE_NAME, GOOD, GOOD_DATA);
    ps_safetensors *set = open_good(FILE_NAME);
    ck_assert_int_eq(ps_safetensors_count(set), 3);
    const ps_safetensors_tensor *t = ps_safetensors_at(set, 0);
    ck_assert_str_eq(t->name, "bias");
    ck_assert_int_eq(t->dtype, PS_SAFETENSORS_F32);
    ck_assert_int_eq(t->n_dims, 0);
    ck_assert_uint_eq(t->bytes, 4);
    ck_assert_mem_eq(t->data, "\0\1\2\3", 4);
    t = ps_safetensors_at(set, 1);
    ck_assert_str_eq(t->name, "w.up");
    ck_assert_int_eq(t->dtype, PS_SAFETENSORS_BF16);
    ck_assert_int_eq(t->n_dims, 2);
    ck_assert_uint_eq(t->shape[0], 2);
    ck_assert_uint_eq(t->shape[1], 3);
    ck_assert_uint_eq(t->bytes, 12);
    ck_assert_mem_eq(t->data, "\4\5\6\7", 4);
    t = ps_safetensors_at(set, 2);
    ck_assert_str_eq(t->name, "none");
    ck_assert_uint_eq(t->bytes, 0);
    ck_assert_uint_eq(t->shape[1], 7);
    ps_safetensors_close(set);
}

START_TEST(tensors_are_found_by_name)
{
    write_file(FILE_NAME, GOOD, GOOD_DATA);
    ps_safetensors *set = open_good(FILE_NAME);
    for (int i = 0; i < 3; i++) {
        const ps_safetensors_tensor *t = ps_safetensors_at(set, i);
        ck_assert_ptr_eq(ps_safetensors_find(set, t->name), t);
        ck_assert_str_eq(ps_safetensors_file(set, t), FILE_NAME);
    }
    ck_assert_ptr_null(ps_safetensors_find(set, "w"));
    ck_assert_ptr_null(ps_safetensors_find(set, "__metadata__"));
    ps_safetensors_close(set);
}

START_TEST(a_file_may_hold_no_tensor)
{
    write_file(FILE_NAME, "{}", 0);
    ps_safetensors *set = open_good(FILE_NAME);
    ck_assert_int_eq(ps_safetensors_count(set), 0);
    ck_assert_ptr_null(ps_safetensors_find(set, ""));
    ps_safetensors_close(set);
}

START_TEST(every_dtype_has_its_size)
{
    static const struct {
        const char *name;
        size_t bytes;
    } all[] = {{"F64", 8},     {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F8_E4M3", 1},
               {"F8_E5M2", 1}, {"I64", 8}, {"I32", 4}, {"I16", 2},  {"I8", 1},
               {"U64", 8},     {"U32", 4}, {"U16", 2}, {"U8", 1},   {"BOOL", 1}};
    for (int d = 0; d < PS_SAFETENSORS_DTYPE_COUNT; d++) {
        ps_text header = {0};
        ps_text_appendf(&header,
                        "{\"x\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,%zu]}}",
                        all[d].name, 3 * all[d].bytes);
        write_file(FILE_NAME, header.data, 3 * all[d].bytes);
        ps_text_release(&header);
        ps_safetensors *set = open_good(FILE_NAME);
        ck_assert_int_eq(ps_safetensors_at(set, 0)->dtype, d);
        ck_assert_str_eq(ps_safetensors_dtype_name((ps_safetensors_dtype)d), all[d].name);
        ck_assert_uint_eq(ps_safetensors_dtype_bytes((ps_safetensors_dtype)d), all[d].bytes);
        ps_safetensors_close(set);
    }
}

START_TEST(a_tensor_may_have_8_dimensions)
{
    write_file(FILE_NAME,
               "{\"x\":{\"dtype\":\"U8\",\"shape\":[1,2,1,2,1,2,1,2],\"data_offsets\":[0,16]}}",
               16);
    ps_safetensors *set = open_good(FILE_NAME);
    ck_assert_int_eq(ps_safetensors_at(set, 0)->n_dims, 8);
    ck_assert_uint_eq(ps_safetensors_at(set, 0)->shape[7], 2);
    ps_safetensors_close(set);
}

START_TEST(a_name_may_have_512_bytes)
{
    char name[513];
    memset(name, 'n', 512);
    name[512] = '\0';
    ps_text header = {0};
    ps_text_appendf(&header, "{\"%s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
                    name);
    write_file(FILE_NAME, header.data, 1);
    ps_text_release(&header);
    ps_safetensors *set = open_good(FILE_NAME);
    ck_assert_ptr_nonnull(ps_safetensors_find(set, name));
    ps_safetensors_close(set);
}

START_TEST(many_tensors_are_all_found)
{
    ps_text header = {0};
    ps_text_append_char(&header, '{');
    for (int i = 0; i < 2000; i++) {
        ps_text_appendf(&header,
                        "%s\"t%d\":{\"dtype\":\"U16\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
                        i ? "," : "", i, 2 * (1999 - i), 2 * (1999 - i) + 2);
    }
    ps_text_append_char(&header, '}');
    write_file(FILE_NAME, header.data, 4000);
    ps_text_release(&header);
    ps_safetensors *set = open_good(FILE_NAME);
    ck_assert_int_eq(ps_safetensors_count(set), 2000);
    for (int i = 0; i < 2000; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", i);
        ck_assert_ptr_eq(ps_safetensors_find(set, name), ps_safetensors_at(set, 1999 - i));
    }
    ps_safetensors_close(set);
}

START_TEST(closing_nothing_is_allowed)
{
    ps_safetensors_close(NULL);
}

/* ---- refusals of one file ---- */

START_TEST(a_file_too_short_for_a_length_is_refused)
{
    write_bytes(FILE_NAME, "", 0);
    refuse(FILE_NAME, PS_ERR_FORMAT, FILE_NAME ": has 0 bytes, wanted at least 8");
    write_bytes(FILE_NAME, "\2\0\0\0\0\0\0", 7);
    refuse(FILE_NAME, PS_ERR_FORMAT, FILE_NAME ": has 7 bytes, wanted at least 8");
}

START_TEST(a_header_longer_than_the_file_is_refused)
{
    write_bytes(FILE_NAME, "\3\0\0\0\0\0\0\0{}", 10);
    refuse(FILE_NAME, PS_ERR_FORMAT, FILE_NAME ": header of 3 bytes in a file of 10");
}

START_TEST(a_header_over_100_megabytes_is_refused)
{
    // 100 000 001
    write_bytes(FILE_NAME, "\x01\xE1\xF5\x05\0\0\0\0{}", 10);
    refuse(FILE_NAME, PS_ERR_FORMAT,
           FILE_NAME ": header of 100000001 bytes, wanted at most 100000000");
    write_bytes(FILE_NAME, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF{}", 10);
    refuse(FILE_NAME, PS_ERR_FORMAT,
           FILE_NAME ": header of 18446744073709551615 bytes, wanted at most 100000000");
}

START_TEST(a_header_that_does_not_begin_an_object_is_refused)
{
    refuse_header("", 0, FILE_NAME ": header does not begin with '{'");
    refuse_header(" {}", 0, FILE_NAME ": header does not begin with '{'");
    refuse_header("[]", 0, FILE_NAME ": header does not begin with '{'");
}

START_TEST(a_header_that_is_no_json_is_refused)
{
    ps_safetensors *set;
    write_file(FILE_NAME, "{\"x\":", 0);
    ck_assert_int_eq(ps_safetensors_open(FILE_NAME, &set), PS_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(ps_err_message(), FILE_NAME ": not valid JSON: line 1, column 5"));
    write_file(FILE_NAME, "{} x", 0);
    ck_assert_int_eq(ps_safetensors_open(FILE_NAME, &set), PS_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(ps_err_message(), FILE_NAME ": not valid JSON"));
}

START_TEST(a_name_given_twice_is_refused)
{
    ps_safetensors *set;
    write_file(FILE_NAME,
               "{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
               "\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
               2);
    ck_assert_int_eq(ps_safetensors_open(FILE_NAME, &set), PS_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(ps_err_message(), "duplicate"));
}

START_TEST(a_git_lfs_pointer_is_named_as_such)
{
    write_text(FILE_NAME, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n");
    refuse(FILE_NAME, PS_ERR_FORMAT,
           FILE_NAME ": is a Git LFS pointer, the weights were not fetched");
}

START_TEST(an_unknown_dtype_is_refused)
{
    write_file(FILE_NAME, "{\"x\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1);
    refuse(FILE_NAME, PS_ERR_UNSUPPORTED, FILE_NAME ": tensor x: dtype \"F4\" is not known");
}

START_TEST(a_tensor_that_is_no_object_is_refused)
{
    refuse_header("{\"x\":[]}", 0, FILE_NAME ": tensor x: is not an object");
}

START_TEST(missing_and_mistyped_keys_are_refused)
{
    refuse_header("{\"x\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
                  FILE_NAME ": tensor x: key dtype is missing");
    refuse_header("{\"x\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
                  FILE_NAME ": tensor x: dtype is an integer, wanted a string");
    refuse_header("{\"x\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1,
                  FILE_NAME ": tensor x: key shape is missing");
    refuse_header("{\"x\":{\"dtype\":\"U8\",\"shape\":{},\"data_offsets\":[0,1]}}", 1,
                  FILE_NAME ": tensor x: shape is an object, wanted an array");
    refuse_header("{\"x\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1,
                  FILE_NAME ": tensor x: key data_offsets is missing");
}

START_TEST(bad_dimensions_are_refused)
{
    refuse_header("{\"x\":{\"dtype\":\"U8\",\"shape\":[1,-1],\"data_offsets\":[0,1]}}", 1,
                  FILE_NAME ": tensor x: shape[1] is not an integer >= 0");
    refuse_header("{\"x\":{\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]}}", 1,
                  FILE_NAME ": tensor x: shape[0] is not an integer >= 0");
    refuse_header("{\"x\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}",
                  1, FILE_NAME ": tensor x: 9 dimensions, wanted at most 8");
}

START_TEST(a_product_that_overflows_is_refused)
{
    // 2^32 * 2^32 would be 0 modulo 2^64.
    refuse_header("{\"x\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],"
                  "\"data_offsets\":[0,0]}}",
                  0, FILE_NAME ": tensor x: the product of its shape overflows");
    refuse_header("{\"x\":{\"dtype\":\"F32\",\"shape\":[9223372036854775807,0],"
                  "\"data_offsets\":[0,0]}}",
                  0, FILE_NAME ": tensor x: the product of its shape overflows");
}

START_TEST(bad_offsets_are_refused)
{
    refuse_header("{\"x\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0]}}", 2,
                  FILE_NAME ": tensor x: data_offsets is not two integers");
    refuse_header("{\"x\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,\"2\"]}}", 2,
                  FILE_NAME ": tensor x: data_offsets is not two integers");
    refuse_header("{\"x\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[-1,1]}}", 2,
                  FILE_NAME ": tensor x: data_offsets [-1, 1] are not inside the 2 bytes of data");
    refuse_header("{\"x\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,0]}}", 2,
                  FILE_NAME ": tensor x: data_offsets [2, 0] are not inside the 2 bytes of data");
    refuse_header("{\"x\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 2,
                  FILE_NAME ": tensor x: data_offsets [1, 3] are not inside the 2 bytes of data");
}

START_TEST(offsets_that_disagree_with_the_shape_are_refused)
{
    refuse_header("{\"x\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,3]}}", 4,
                  FILE_NAME ": tensor x: data_offsets span 3 bytes, its shape wants 4");
}

START_TEST(overlapping_tensors_are_refused)
{
    refuse_header("{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[1,4]},"
                  "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
                  4, FILE_NAME ": tensors a and b overlap");
    refuse_header("{\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
                  "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
                  2, FILE_NAME ": tensors a and b overlap");
}

START_TEST(holes_are_refused)
{
    refuse_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[3,5]}}", 5,
                  FILE_NAME ": a hole of 3 bytes before tensor a");
    refuse_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 5,
                  FILE_NAME ": 3 bytes of data belong to no tensor");
    refuse_header("{}", 1, FILE_NAME ": 1 bytes of data belong to no tensor");
}

START_TEST(metadata_must_be_a_map_of_strings)
{
    refuse_header("{\"__metadata__\":{\"a\":1}}", 0,
                  FILE_NAME ": __metadata__ is not a map of strings");
    refuse_header("{\"__metadata__\":\"x\"}", 0,
                  FILE_NAME ": __metadata__ is not a map of strings");
}

START_TEST(a_name_over_512_bytes_is_refused)
{
    ps_text header = {0};
    ps_text_append_str(&header, "{\"");
    for (int i = 0; i < 513; i++) {
        ps_text_append_char(&header, 'n');
    }
    ps_text_append_str(&header, "\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}");
    refuse_header(header.data, 1,
                  FILE_NAME ": a tensor's name has 513 bytes, wanted at most 512: "
                            "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn");
    ps_text_release(&header);
}

START_TEST(more_than_a_mebi_of_tensors_are_refused)
{
    ps_text header = {0};
    ps_text_append_char(&header, '{');
    for (int i = 0; i <= PS_SAFETENSORS_MAX_TENSORS; i++) {
        ps_text_appendf(&header, "\"%d\":0,", i);
    }
    header.data[header.len - 1] = '}';
    write_file(FILE_NAME, header.data, 0);
    ps_text_release(&header);
    refuse(FILE_NAME, PS_ERR_LIMIT, FILE_NAME ": more than 1048576 tensors");
}

START_TEST(a_missing_file_is_an_error_of_input)
{
    refuse("nowhere", PS_ERR_IO, "nowhere: cannot open: No such file or directory");
}

/* ---- directories and shards ---- */

#define A_HEADER                                                                                   \
    "{\"a.1\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"                            \
    "\"a.2\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}"
#define B_HEADER "{\"b.1\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}"
#define GOOD_MAP "\"b.1\":\"b.safetensors\",\"a.1\":\"a.safetensors\",\"a.2\":\"a.safetensors\""

static void write_shards(const char *weight_map)
{
    ps_text index = {0};
    ps_text_appendf(&index, "{\"metadata\":{\"total_size\":7},\"weight_map\":{%s}}", weight_map);
    write_text(INDEX_NAME, index.data);
    ps_text_release(&index);
    write_file("a.safetensors", A_HEADER, 3);
    write_file("b.safetensors", B_HEADER, 4);
}

static void refuse_map(const char *weight_map, ps_err code, const char *message)
{
    write_shards(weight_map);
    refuse(".", code, message);
}

START_TEST(a_directory_with_the_usual_file_is_opened)
{
    write_file(FILE_NAME, GOOD, GOOD_DATA);
    write_file("a.safetensors", A_HEADER, 3);
    ps_safetensors *set = open_good(directory);
    ck_assert_int_eq(ps_safetensors_count(set), 3);
    ps_safetensors_close(set);
}

START_TEST(a_directory_with_one_file_of_another_name_is_opened)
{
    write_file("a.safetensors", A_HEADER, 3);
    write_text(".c.safetensors", "not for us");
    ps_safetensors *set = open_good("./");
    ck_assert_int_eq(ps_safetensors_count(set), 2);
    ck_assert_str_eq(ps_safetensors_file(set, ps_safetensors_at(set, 0)), "./a.safetensors");
    ps_safetensors_close(set);
}

START_TEST(a_directory_without_weights_is_refused)
{
    refuse(".", PS_ERR_IO,
           ".: holds neither model.safetensors nor model.safetensors.index.json, and 0 other "
           "*.safetensors files where one would do");
}

START_TEST(a_directory_with_two_files_and_no_index_is_refused)
{
    write_file("a.safetensors", A_HEADER, 3);
    write_file("b.safetensors", B_HEADER, 4);
    refuse(".", PS_ERR_IO,
           ".: holds neither model.safetensors nor model.safetensors.index.json, and 2 other "
           "*.safetensors files where one would do");
}

START_TEST(shards_make_one_set)
{
    write_shards(GOOD_MAP);
    ps_safetensors *set = open_good(".");
    ck_assert_int_eq(ps_safetensors_count(set), 3);
    const ps_safetensors_tensor *t = ps_safetensors_find(set, "b.1");
    ck_assert_str_eq(ps_safetensors_file(set, t), "./b.safetensors");
    ck_assert_uint_eq(t->bytes, 4);
    t = ps_safetensors_find(set, "a.2");
    ck_assert_str_eq(ps_safetensors_file(set, t), "./a.safetensors");
    ck_assert_int_eq(t->data[0], 2);
    ck_assert_uint_eq(touch_all(set), 0 + 1 + 2 + 3 + 0 + 1 + 2);
    ps_safetensors_close(set);
}

START_TEST(an_index_may_be_named_itself)
{
    write_shards(GOOD_MAP);
    ck_assert_int_eq(rename(INDEX_NAME, "x.index.json"), 0);
    ps_safetensors *set = open_good("x.index.json");
    ck_assert_int_eq(ps_safetensors_count(set), 3);
    ps_safetensors_close(set);
}

START_TEST(a_missing_shard_is_named)
{
    refuse_map("\"c.1\":\"c.safetensors\"", PS_ERR_IO,
               "./" INDEX_NAME ": shard c.safetensors: No such file or directory");
}

START_TEST(a_tensor_that_is_not_in_its_shard_is_named)
{
    refuse_map(GOOD_MAP ",\"a.3\":\"a.safetensors\"", PS_ERR_FORMAT,
               "./" INDEX_NAME ": tensor a.3 is not in its shard a.safetensors");
    refuse_map("\"b.1\":\"a.safetensors\",\"a.1\":\"a.safetensors\",\"a.2\":\"b.safetensors\"",
               PS_ERR_FORMAT, "./" INDEX_NAME ": tensor b.1 is not in its shard a.safetensors");
}

START_TEST(a_tensor_that_is_not_in_the_index_is_named)
{
    refuse_map("\"b.1\":\"b.safetensors\",\"a.2\":\"a.safetensors\"", PS_ERR_FORMAT,
               "./a.safetensors: tensor a.1 is not in the index");
}

START_TEST(a_tensor_in_two_shards_is_refused)
{
    write_shards(GOOD_MAP);
    write_file("b.safetensors",
               "{\"b.1\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
               "\"a.2\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[3,4]}}",
               4);
    refuse(".", PS_ERR_FORMAT, "./a.safetensors: tensor a.2 is also in ./b.safetensors");
}

START_TEST(shard_names_that_lead_elsewhere_are_refused)
{
    static const char *const bad[] = {
        "", ".", "..", "../a.safetensors", "/etc/passwd", "x/y", "./a.safetensors"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ps_text map = {0}, message = {0};
        ps_text_appendf(&map, "\"a.1\":\"%s\"", bad[i]);
        ps_text_appendf(&message, "./" INDEX_NAME ": shard \"%s\" is not a plain file name",
                        bad[i]);
        refuse_map(map.data, PS_ERR_FORMAT, message.data);
        ps_text_release(&message);
        ps_text_release(&map);
    }
    refuse_map("\"a.1\":\"a.safetensors\\u0000x\"", PS_ERR_FORMAT,
               "./" INDEX_NAME ": shard \"a.safetensors\" is not a plain file name");
}

START_TEST(a_broken_shard_is_named)
{
    write_shards(GOOD_MAP);
    write_file("b.safetensors", B_HEADER, 3);
    refuse(".", PS_ERR_FORMAT,
           "./b.safetensors: tensor b.1: data_offsets [0, 4] are not inside the 3 bytes of data");
}

START_TEST(a_broken_index_is_refused)
{
    write_text(INDEX_NAME, "[]");
    refuse(".", PS_ERR_FORMAT, "./" INDEX_NAME ": is not a JSON object");
    write_text(INDEX_NAME, "{}");
    refuse(".", PS_ERR_FORMAT, "./" INDEX_NAME ": key weight_map is missing");
    write_text(INDEX_NAME, "{\"weight_map\":{\"x\":7}}");
    refuse(".", PS_ERR_FORMAT, "./" INDEX_NAME ": weight_map of x is not a string");
    ps_safetensors *set;
    write_text(INDEX_NAME, "");
    ck_assert_int_eq(ps_safetensors_open(".", &set), PS_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(ps_err_message(), INDEX_NAME ": not valid JSON"));
}

START_TEST(a_shard_that_is_a_directory_is_refused)
{
    ck_assert_int_eq(mkdir("sub", 0777), 0);
    write_text(INDEX_NAME, "{\"weight_map\":{\"x\":\"sub\"}}");
    ps_safetensors *set;
    const ps_err err = ps_safetensors_open(".", &set);
    rmdir("sub");
    ck_assert_int_eq(err, PS_ERR_IO);
    ck_assert_str_eq(ps_err_message(), "./sub: is a directory, wanted a regular file");
}

static void add_file_tests(Suite *suite)
{
    TCase *good = make_case(suite, "good files");
    tcase_add_test(good, a_file_gives_its_tensors_in_the_order_of_their_data);
    tcase_add_test(good, tensors_are_found_by_name);
    tcase_add_test(good, a_file_may_hold_no_tensor);
    tcase_add_test(good, every_dtype_has_its_size);
    tcase_add_test(good, a_tensor_may_have_8_dimensions);
    tcase_add_test(good, a_name_may_have_512_bytes);
    tcase_add_test(good, many_tensors_are_all_found);
    tcase_add_test(good, closing_nothing_is_allowed);
}

static void add_refusal_tests(Suite *suite)
{
    TCase *refusals = make_case(suite, "refusals");
    tcase_add_test(refusals, a_file_too_short_for_a_length_is_refused);
    tcase_add_test(refusals, a_header_longer_than_the_file_is_refused);
    tcase_add_test(refusals, a_header_over_100_megabytes_is_refused);
    tcase_add_test(refusals, a_header_that_does_not_begin_an_object_is_refused);
    tcase_add_test(refusals, a_header_that_is_no_json_is_refused);
    tcase_add_test(refusals, a_name_given_twice_is_refused);
    tcase_add_test(refusals, a_git_lfs_pointer_is_named_as_such);
    tcase_add_test(refusals, an_unknown_dtype_is_refused);
    tcase_add_test(refusals, a_tensor_that_is_no_object_is_refused);
    tcase_add_test(refusals, missing_and_mistyped_keys_are_refused);
    tcase_add_test(refusals, bad_dimensions_are_refused);
    tcase_add_test(refusals, a_product_that_overflows_is_refused);
    tcase_add_test(refusals, bad_offsets_are_refused);
    tcase_add_test(refusals, offsets_that_disagree_with_the_shape_are_refused);
    tcase_add_test(refusals, overlapping_tensors_are_refused);
    tcase_add_test(refusals, holes_are_refused);
    tcase_add_test(refusals, metadata_must_be_a_map_of_strings);
    tcase_add_test(refusals, a_name_over_512_bytes_is_refused);
    tcase_add_test(refusals, more_than_a_mebi_of_tensors_are_refused);
    tcase_add_test(refusals, a_missing_file_is_an_error_of_input);
}

static void add_set_tests(Suite *suite)
{
    TCase *sets = make_case(suite, "directories and shards");
    tcase_add_test(sets, a_directory_with_the_usual_file_is_opened);
    tcase_add_test(sets, a_directory_with_one_file_of_another_name_is_opened);
    tcase_add_test(sets, a_directory_without_weights_is_refused);
    tcase_add_test(sets, a_directory_with_two_files_and_no_index_is_refused);
    tcase_add_test(sets, shards_make_one_set);
    tcase_add_test(sets, an_index_may_be_named_itself);
    tcase_add_test(sets, a_missing_shard_is_named);
    tcase_add_test(sets, a_tensor_that_is_not_in_its_shard_is_named);
    tcase_add_test(sets, a_tensor_that_is_not_in_the_index_is_named);
    tcase_add_test(sets, a_tensor_in_two_shards_is_refused);
    tcase_add_test(sets, shard_names_that_lead_elsewhere_are_refused);
    tcase_add_test(sets, a_broken_shard_is_named);
    tcase_add_test(sets, a_broken_index_is_refused);
    tcase_add_test(sets, a_shard_that_is_a_directory_is_refused);
}

int main(void)
{
    Suite *suite = suite_create("safetensors");
    add_file_tests(suite);
    add_refusal_tests(suite);
    add_set_tests(suite);
    return run_suite(suite);
}
