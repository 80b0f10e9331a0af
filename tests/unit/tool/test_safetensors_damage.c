/* Damaged safetensors files: cut, with changed bytes, with headers put together at random. They
 * must be refused or read, but never crash. */
#include "safetensors_files.h"

/* Opens a damaged file. It may still be good; else there is a message. Returns whether it opened.
 */
static bool survive(const void *bytes, size_t n)
{
    // Written plainly: the fsyncs of a file writer would take most of the time.
    FILE *f = fopen(FILE_NAME, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(bytes, 1, n, f), n);
    fclose(f);
    ps_safetensors *set;
    const ps_err err = ps_safetensors_open(FILE_NAME, &set);
    if (err) {
        ck_assert_ptr_null(set);
        ck_assert(err == PS_ERR_FORMAT || err == PS_ERR_UNSUPPORTED);
        ck_assert_ptr_nonnull(strstr(ps_err_message(), FILE_NAME ": "));
        return false;
    }
    touch_all(set);
    ps_safetensors_close(set);
    return true;
}

START_TEST(a_file_cut_anywhere_is_refused)
{
    ps_text file = build(GOOD, GOOD_DATA);
    for (size_t i = 0; i < 16; i++) {
        ck_assert(!survive(file.data, file.len * i / 16));
    }
    ck_assert(!survive(file.data, file.len - 1));
    ck_assert(survive(file.data, file.len));
    ps_text_release(&file);
}

START_TEST(a_flipped_bit_of_the_header_does_no_harm)
{
    ps_text file = build(GOOD, GOOD_DATA);
    for (size_t i = 0; i < file.len - GOOD_DATA; i++) {
        const char kept = file.data[i];
        file.data[i] = (char)(kept ^ 1 << _i);
        survive(file.data, file.len);
        file.data[i] = kept;
    }
    ps_text_release(&file);
}

/* A deterministic stream of numbers (Knuth's MMIX constants). */
static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

START_TEST(a_replaced_byte_of_the_header_does_no_harm)
{
    uint64_t state = (uint64_t)_i + 1;
    ps_text file = build(GOOD, GOOD_DATA);
    for (size_t i = 0; i < file.len - GOOD_DATA; i++) {
        static const char likely[] = "0123456789{}[]\":,-.eE \\";
        const char kept = file.data[i];
        const uint64_t r = next_random(&state);
        file.data[i] = r % 2 ? likely[r / 2 % (sizeof likely - 1)] : (char)(r / 2);
        survive(file.data, file.len);
        file.data[i] = kept;
    }
    ps_text_release(&file);
}

/* Pieces from which headers are put together that are nearly right. */
static void append_random_value(uint64_t *state, ps_text *out)
{
    static const char *const values[] = {"0",
                                         "1",
                                         "2",
                                         "-1",
                                         "16",
                                         "4",
                                         "18446744073709551615",
                                         "1e999",
                                         "[]",
                                         "[0,4]",
                                         "[0]",
                                         "[4,16]",
                                         "[2,3]",
                                         "[9223372036854775807,2]",
                                         "[0,0,0]",
                                         "\"F32\"",
                                         "\"U8\"",
                                         "null",
                                         "true",
                                         "{}",
                                         "[16,16]",
                                         "[4,4]",
                                         "\"\"",
                                         "[1]",
                                         "{\"a\":\"b\"}",
                                         "[-1,4]",
                                         "[0,17]",
                                         "1.5"};
    ps_text_append_str(out, values[next_random(state) % (sizeof values / sizeof values[0])]);
}

START_TEST(headers_put_together_at_random_do_no_harm)
{
    static const char *const keys[] = {"dtype", "shape", "data_offsets", "extra"};
    static const char *const names[] = {"a", "b", "__metadata__", ""};
    uint64_t state = (uint64_t)_i + 100;
    for (int round = 0; round < 300; round++) {
        ps_text header = {0};
        ps_text_append_char(&header, '{');
        const uint64_t n = next_random(&state) % 4;
        for (uint64_t t = 0; t < n; t++) {
            ps_text_appendf(&header, "%s\"%s%d\":{", t ? "," : "", names[next_random(&state) % 4],
                            (int)(next_random(&state) % 3));
            for (int k = 0; k < 4; k++) {
                if (next_random(&state) % 16 == 0) continue;
                ps_text_appendf(&header, "\"%s\":", keys[k]);
                if (k == 0 && next_random(&state) % 4) {
                    ps_text_append_str(&header, "\"U8\"");
                } else {
                    append_random_value(&state, &header);
                }
                if (k < 3) ps_text_append_char(&header, ',');
            }
            ps_text_append_char(&header, '}');
        }
        ps_text_append_char(&header, '}');
        ps_text file = build(header.data, next_random(&state) % 20);
        survive(file.data, file.len);
        ps_text_release(&file);
        ps_text_release(&header);
    }
}

START_TEST(random_bytes_behind_a_brace_do_no_harm)
{
    uint64_t state = (uint64_t)_i + 10000;
    for (int round = 0; round < 300; round++) {
        char bytes[64];
        const size_t n = 9 + next_random(&state) % (sizeof bytes - 9);
        for (size_t i = 0; i < n; i++) {
            bytes[i] = (char)next_random(&state);
        }
        memset(bytes, 0, 8);
        bytes[0] = (char)(next_random(&state) % (n - 7));
        bytes[8] = '{';
        survive(bytes, n);
    }
}

int main(void)
{
    Suite *suite = suite_create("safetensors_damage");
    TCase *damage = make_case(suite, "damage");
    tcase_add_test(damage, a_file_cut_anywhere_is_refused);
    tcase_add_loop_test(damage, a_flipped_bit_of_the_header_does_no_harm, 0, 8);
    tcase_add_loop_test(damage, a_replaced_byte_of_the_header_does_no_harm, 0, 20);
    tcase_add_loop_test(damage, headers_put_together_at_random_do_no_harm, 0, 20);
    tcase_add_loop_test(damage, random_bytes_behind_a_brace_do_no_harm, 0, 10);
    return run_suite(suite);
}
