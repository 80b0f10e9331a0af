/* Pages keep what was appended, at the places that the header states, and appending writes nothing
 * else. */
#include "math/kv.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "support/floats.h"

enum { PAGES_MAX = 5 };

/* A sequence's page table with its pages in reverse order in memory, all NaN. */
typedef struct book {
    ps_kv_layout layout;
    ps_kv_view view;
    char *memory, *pages[PAGES_MAX];
    size_t floats;
} book;

static book *book_new(int n_kv_heads, int head_dim, int n_numbers, int n_pages)
{
    book *b = ps_mem_new(1, sizeof *b);
    b->layout = ps_kv_layout_make(n_kv_heads, head_dim, n_numbers, (ps_kv_types){0});
    b->floats = (size_t)n_pages * b->layout.page_bytes / sizeof(float);
    b->memory = ps_mem_new((size_t)n_pages, b->layout.page_bytes);
    floats_poison((float *)(void *)b->memory, b->floats);
    for (int i = 0; i < n_pages; i++) {
        b->pages[i] = b->memory + (size_t)(n_pages - 1 - i) * b->layout.page_bytes;
    }
    b->view = (ps_kv_view){.layout = &b->layout, .pages = b->pages, .n_pages = n_pages};
    return b;
}

static book *book_roll(dice *d)
{
    const int heads = 1 + dice_throw(d, 4), dim = 1 + dice_throw(d, 70);
    return book_new(heads, dim, dice_throw(d, 6), 1 + dice_throw(d, PAGES_MAX));
}

static void book_free(book *b)
{
    ps_mem_free(b->memory);
    ps_mem_free(b);
}

/* What belongs to a position: a function of the position and the place, never the same twice. */
static float mark(int64_t position, int what, int i)
{
    return (float)(position % 4096) * 4096.0f + (float)(what * 1000 + i);
}

static void append_marked(const book *b, int64_t position)
{
    const int n = b->layout.n_kv_heads * b->layout.head_dim, numbers = b->layout.n_numbers;
    float *key = floats_new((size_t)n), *value = floats_new((size_t)n);
    float *number = floats_new((size_t)numbers + 1);
    for (int i = 0; i < n; i++) {
        key[i] = mark(position, 1, i);
        value[i] = mark(position, 2, i);
    }
    for (int i = 0; i < numbers; i++) {
        number[i] = mark(position, 3, i);
    }
    ck_assert(ps_kv_append(&b->view, position, key, value, numbers ? number : NULL));
    ps_mem_free(key);
    ps_mem_free(value);
    ps_mem_free(number);
}

static void check_marked(const book *b, int64_t position)
{
    const int dim = b->layout.head_dim;
    bool same = true;
    for (int g = 0; g < b->layout.n_kv_heads; g++) {
        const float *key =
            (const float *)(const void *)ps_kv_keys(&b->view, position, g) + position % PS_KV_TILE;
        const float *value = (const float *)(const void *)ps_kv_value(&b->view, position, g);
        for (int t = 0; t < dim; t++) {
            same = same && key[t * PS_KV_TILE] == mark(position, 1, g * dim + t);
            same = same && value[t] == mark(position, 2, g * dim + t);
        }
    }
    for (int i = 0; i < b->layout.n_numbers; i++) {
        same = same && *ps_kv_number(&b->view, position, i) == mark(position, 3, i);
    }
    ck_assert_msg(same, "position %lld lost something", (long long)position);
}

START_TEST(every_position_keeps_what_was_appended)
{
    dice d = {.seed = (uint64_t)_i};
    book *b = book_roll(&d);
    const int64_t capacity = (int64_t)b->view.n_pages * PS_KV_PAGE;
    const int64_t first = dice_throw(&d, 2) ? 0 : dice_throw(&d, 1 << 30);
    for (int64_t p = first; p < first + capacity; p++) {
        append_marked(b, p);
    }
    for (int64_t p = first; p < first + capacity; p++) {
        check_marked(b, p);
    }
    book_free(b);
}
END_TEST

START_TEST(a_full_page_has_no_hole_but_the_values_padding)
{
    dice d = {.seed = (uint64_t)_i};
    book *b = book_roll(&d);
    const ps_kv_layout *l = &b->layout;
    for (int64_t p = 0; p < (int64_t)b->view.n_pages * PS_KV_PAGE; p++) {
        append_marked(b, p);
    }
    const float *all = (const float *)(void *)b->memory;
    const size_t page_floats = l->page_bytes / sizeof(float);
    size_t wrong = 0;
    for (size_t i = 0; i < b->floats; i++) {
        const size_t byte = i % page_floats * sizeof(float);
        const bool in_values = byte < l->number_at && byte % l->head_bytes >= l->value_at;
        const size_t lane = (byte % l->head_bytes - l->value_at) / sizeof(float) % l->value_stride;
        const bool padding = in_values && lane >= (size_t)l->head_dim;
        wrong += floats_untouched(all + i, 1) != padding;
    }
    ck_assert_uint_eq(wrong, 0);
    book_free(b);
}
END_TEST

START_TEST(appending_changes_its_own_position_alone)
{
    dice d = {.seed = (uint64_t)_i};
    book *b = book_roll(&d);
    const int64_t capacity = (int64_t)b->view.n_pages * PS_KV_PAGE;
    for (int64_t p = 0; p < capacity; p++) {
        append_marked(b, p);
    }
    float *before = floats_new(b->floats);
    memcpy(before, b->memory, b->floats * sizeof *before);
    // A lap later the same slot is written again, and nothing beside it.
    const int64_t again = capacity + dice_throw(&d, (int)capacity);
    append_marked(b, again);
    check_marked(b, again);
    size_t changed = 0;
    for (size_t i = 0; i < b->floats; i++) {
        changed += memcmp((const float *)(void *)b->memory + i, before + i, sizeof *before) != 0;
    }
    ck_assert_uint_eq(
        changed, (size_t)(2 * b->layout.n_kv_heads * b->layout.head_dim + b->layout.n_numbers));
    for (int64_t p = 0; p < capacity; p++) {
        if (p != again - capacity) check_marked(b, p);
    }
    ps_mem_free(before);
    book_free(b);
}
END_TEST

START_TEST(keys_are_tiles_and_values_rows)
{
    book *b = book_new(2, 24, 3, 1);
    ck_assert_uint_eq(b->layout.value_stride, 32);
    const size_t head = 256 * 24 + 256 * 32; // floats of a head: keys, values
    ck_assert_uint_eq(b->layout.value_at, 256 * 24 * sizeof(float));
    ck_assert_uint_eq(b->layout.head_bytes, head * sizeof(float));
    ck_assert_uint_eq(b->layout.number_at, 2 * head * sizeof(float));
    ck_assert_uint_eq(b->layout.page_bytes, (2 * head + 3 * 256) * sizeof(float));
    const float *page = (const float *)(void *)b->pages[0];
    // Position 165 lies in tile 2, lane 37; of head 1.
    append_marked(b, 165);
    ck_assert(page[head + (2 * 24 + 9) * 64 + 37] == mark(165, 1, 24 + 9));
    const float *values = page + head + 256 * 24, *numbers = page + 2 * head;
    ck_assert(values[165 * 32 + 9] == mark(165, 2, 24 + 9));
    ck_assert(numbers[2 * 256 + 165] == mark(165, 3, 2));
    book_free(b);
}
END_TEST

START_TEST(the_page_table_is_cyclic_at_any_distance)
{
    book *b = book_new(1, 4, 0, 3);
    static const int64_t laps[] = {0, 1, 1000, (int64_t)1 << 50};
    for (size_t i = 0; i < sizeof laps / sizeof laps[0]; i++) {
        for (int page = 0; page < 3; page++) {
            const int64_t first = (laps[i] * 3 + page) * PS_KV_PAGE;
            ck_assert_ptr_eq(ps_kv_page(&b->view, first), b->pages[page]);
            ck_assert_ptr_eq(ps_kv_page(&b->view, first + PS_KV_PAGE - 1), b->pages[page]);
        }
    }
    book_free(b);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("kv");
    tcase_set_timeout(tcase, 60.0);
    tcase_add_loop_test(tcase, every_position_keeps_what_was_appended, 0, 30);
    tcase_add_loop_test(tcase, a_full_page_has_no_hole_but_the_values_padding, 0, 30);
    tcase_add_loop_test(tcase, appending_changes_its_own_position_alone, 0, 30);
    tcase_add_test(tcase, keys_are_tiles_and_values_rows);
    tcase_add_test(tcase, the_page_table_is_cyclic_at_any_distance);
    Suite *suite = suite_create("math/kv");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
