/* The tensors of a source: found by name, and their pages fetched and given back. */
#include <stdio.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "base/text.h"
#include "support/dice.h"
#include "support/scratch.h"
#include "tool/import/source.h"

/* A source of n tensors whose names are in no order. */
static ps_source named_source(int n, char names[][24], dice *d)
{
    ps_source source;
    ps_source_take(&source, n);
    ck_assert_int_eq(source.n, n);
    for (int i = 0; i < n; i++) {
        snprintf(names[i], 24, "t%d.%d", dice_throw(d, 1000), i);
        source.tensors[i].name = names[i];
    }
    ps_source_sort(&source);
    return source;
}

START_TEST(every_tensor_is_found_by_its_name_and_no_other_is)
{
    dice d = {.seed = (uint64_t)_i};
    char names[70][24];
    for (int n = 0; n <= 70; n++) {
        ps_source source = named_source(n, names, &d);
        for (int i = 0; i < n; i++) {
            ck_assert_ptr_eq(ps_source_find(&source, names[i]), &source.tensors[i]);
            ps_text before = {0}, behind = {0};
            ps_text_appendf(&before, "s%s", names[i] + 1);
            ps_text_appendf(&behind, "%s.", names[i]);
            ck_assert_ptr_null(ps_source_find(&source, before.data));
            ck_assert_ptr_null(ps_source_find(&source, behind.data));
            ps_text_release(&before);
            ps_text_release(&behind);
        }
        ck_assert_ptr_null(ps_source_find(&source, ""));
        ck_assert_ptr_null(ps_source_find(&source, "t"));
        ck_assert_ptr_null(ps_source_find(&source, "u"));
        ps_source_release(&source);
        ck_assert_ptr_null(source.tensors);
    }
}
END_TEST

START_TEST(new_tensors_are_not_used_yet)
{
    ps_source source;
    ps_source_take(&source, 3);
    for (int i = 0; i < 3; i++) {
        ck_assert(!source.tensors[i].used && !source.tensors[i].supported);
    }
    ps_source_release(&source);
}
END_TEST

START_TEST(values_are_the_product_of_the_shape)
{
    const ps_source_tensor cases[] = {{.n_dims = 0},
                                      {.n_dims = 1, .shape = {7}},
                                      {.n_dims = 2, .shape = {7, 0}},
                                      {.n_dims = 3, .shape = {2, 3, 5}},
                                      {.n_dims = 8, .shape = {1, 2, 1, 2, 1, 2, 1, 2}}};
    static const size_t wanted[] = {1, 7, 0, 30, 16};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ck_assert_uint_eq(ps_source_values(&cases[i]), wanted[i]);
    }
}
END_TEST

/* Two tensors in one map, as a reader has them; the second begins inside the first one's last page.
 */
START_TEST(pages_leave_resident_memory_when_done_with)
{
    enum { TENSOR = (16 << 20) + 100 };
    scratch_write_text("data", "");
    FILE *f = fopen("data", "r+");
    ck_assert_int_eq(fseek(f, 2L * TENSOR - 1, SEEK_SET), 0);
    fputc('x', f);
    fflush(f);
    unsigned char *map = mmap(NULL, (size_t)2 * TENSOR, PROT_READ, MAP_PRIVATE, fileno(f), 0);
    ck_assert(map != MAP_FAILED);
    const size_t before = ps_mem_resident();
    for (int i = 0; i < 2; i++) {
        const ps_source_tensor t = {.data = map + (size_t)i * TENSOR, .bytes = TENSOR};
        ps_source_advise(&t, PS_SOURCE_NEED);
        unsigned sum = 0;
        for (size_t k = 0; k + 1 < t.bytes; k += 512) {
            sum += t.data[k];
        }
        ck_assert_uint_eq(sum, 0);
        ck_assert_uint_ge(ps_mem_resident(), before + TENSOR * 3 / 4);
        ps_source_advise(&t, PS_SOURCE_DONE);
        ck_assert_uint_le(ps_mem_resident(), before + TENSOR / 4);
    }
    ck_assert_int_eq(map[(size_t)2 * TENSOR - 1], 'x'); // the bytes are there again
    munmap(map, (size_t)2 * TENSOR);
    fclose(f);
}
END_TEST

START_TEST(a_tensor_without_bytes_needs_no_pages)
{
    const ps_source_tensor none = {.data = NULL, .bytes = 0};
    ps_source_advise(&none, PS_SOURCE_NEED);
    ps_source_advise(&none, PS_SOURCE_DONE);
    ck_assert_ptr_null(none.data);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool/source");
    TCase *tcase = scratch_case(suite, "source");
    tcase_add_loop_test(tcase, every_tensor_is_found_by_its_name_and_no_other_is, 0, 4);
    tcase_add_test(tcase, new_tensors_are_not_used_yet);
    tcase_add_test(tcase, values_are_the_product_of_the_shape);
    tcase_add_test(tcase, pages_leave_resident_memory_when_done_with);
    tcase_add_test(tcase, a_tensor_without_bytes_needs_no_pages);
    return scratch_run(suite);
}
