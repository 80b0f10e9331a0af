/* Keys and values in every type: what comes back is what math/dtype.h makes of them, on every
 * instruction set; positions travel between page tables as bytes. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/kernels.h"
#include "math/kv.h"
#include "support/engines.h"
#include "support/floats.h"

enum { HEADS = 2, NUMBERS = 3, PAGES = 3, TYPES = 5 };

static const ps_dtype all_types[TYPES] = {PS_F32, PS_F16, PS_BF16, PS_Q8_0, PS_Q4_0};
static const int all_dims[] = {1, 8, 16, 17, 24, 31, 32, 33, 48, 64, 80, 128};

typedef struct book {
    ps_kv_layout layout;
    ps_kv_view view;
    char *memory, *pages[PAGES];
} book;

static book *book_new(int dim, ps_kv_types types, int n_fixed)
{
    book *b = ps_mem_new(1, sizeof *b);
    b->layout = ps_kv_layout_make(HEADS, dim, NUMBERS, types);
    b->memory = ps_mem_new(PAGES, b->layout.page_bytes);
    memset(b->memory, 0xFF, PAGES * b->layout.page_bytes);
    for (int i = 0; i < PAGES; i++) {
        b->pages[i] = b->memory + (size_t)i * b->layout.page_bytes;
    }
    b->view =
        (ps_kv_view){.layout = &b->layout, .pages = b->pages, .n_pages = PAGES, .n_fixed = n_fixed};
    return b;
}

static void book_free(book *b)
{
    ps_mem_free(b->memory);
    ps_mem_free(b);
}

/* The blocks of a vector, stored and read back by math/dtype.h. */
static void round_trip(ps_dtype type, int k, const float *x, float *out)
{
    for (int t = 0; t < k; t += PS_KV_BLOCK) {
        const size_t n = (size_t)(k - t < PS_KV_BLOCK ? k - t : PS_KV_BLOCK);
        float block[PS_KV_BLOCK] = {0};
        char bytes[PS_KV_BLOCK * sizeof(float)];
        memcpy(block, x + t, n * sizeof *x);
        ps_dtype_narrow(type, block, PS_KV_BLOCK, bytes);
        ps_dtype_widen(type, bytes, PS_KV_BLOCK, block);
        memcpy(out + t, block, n * sizeof *x);
    }
}

/* Lane of a tile of keys as floats, whatever the type. */
static void read_key(const ps_kernels *kernels, const book *b, int64_t position, int head,
                     float *out)
{
    const int k = b->layout.head_dim, lane = (int)(position % PS_KV_TILE);
    const ps_dtype type = b->layout.types.key;
    const char *tile = ps_kv_keys(&b->view, position, head);
    float *all = floats_new((size_t)k * PS_KV_TILE);
    if (ps_dtype_is_quantised(type)) {
        kernels->kv_widen_keys(type, tile, k, all);
    } else {
        ps_dtype_widen(type, tile, (size_t)k * PS_KV_TILE, all);
    }
    for (int t = 0; t < k; t++) {
        out[t] = all[t * PS_KV_TILE + lane];
    }
    ps_mem_free(all);
}

static void read_value(const ps_kernels *kernels, const book *b, int64_t position, int head,
                       float *out)
{
    const ps_dtype type = b->layout.types.value;
    const char *row = ps_kv_value(&b->view, position, head);
    float *all = floats_new(b->layout.value_stride);
    if (ps_dtype_is_quantised(type)) {
        kernels->kv_widen_value(type, row, b->layout.head_dim, all);
    } else {
        ps_dtype_widen(type, row, b->layout.value_stride, all);
    }
    memcpy(out, all, (size_t)b->layout.head_dim * sizeof *out);
    ps_mem_free(all);
}

typedef struct vectors {
    float *key, *value, numbers[NUMBERS];
} vectors;

static vectors roll_vectors(dice *d, int dim)
{
    const size_t n = (size_t)(HEADS * dim);
    return (vectors){.key = floats_new_rolled(d, n, -3.0, 3.0),
                     .value = floats_new_rolled(d, n, -1e-3, 1e-3),
                     .numbers = {1.5f, NAN, -2.0f}};
}

static void release_vectors(vectors *v)
{
    ps_mem_free(v->key);
    ps_mem_free(v->value);
}

START_TEST(what_comes_back_is_what_the_type_holds)
{
    const int dim = all_dims[_i / TYPES % 12];
    const ps_kv_types types = {all_types[_i % TYPES], all_types[(_i + _i / TYPES) % TYPES]};
    dice d = {.seed = 40 + (uint64_t)_i};
    book *b = book_new(dim, types, 0);
    engines_all engines = engines_open_all();
    float *wanted = floats_new((size_t)dim), *found = floats_new((size_t)dim);
    vectors v[20];
    for (int i = 0; i < 20; i++) {
        v[i] = roll_vectors(&d, dim);
        ck_assert(ps_kv_append(&b->view, 55 + i, v[i].key, v[i].value, v[i].numbers));
    }
    for (int i = 0; i < 20 * HEADS; i++) {
        const int head = i % HEADS, at = i / HEADS;
        const ps_kernels *kernels = engines.engine[i % engines.n].kernels;
        round_trip(types.key, dim, v[at].key + head * dim, wanted);
        read_key(kernels, b, 55 + at, head, found);
        ck_assert_uint_eq(floats_first_difference(wanted, found, (size_t)dim), (size_t)dim);
        round_trip(types.value, dim, v[at].value + head * dim, wanted);
        read_value(kernels, b, 55 + at, head, found);
        ck_assert_uint_eq(floats_first_difference(wanted, found, (size_t)dim), (size_t)dim);
    }
    for (int i = 0; i < 20; i++) {
        release_vectors(&v[i]);
    }
    ps_mem_free(wanted);
    ps_mem_free(found);
    engines_close_all(&engines);
    book_free(b);
}
END_TEST

START_TEST(positions_travel_as_bytes)
{
    const int dim = all_dims[_i / TYPES % 12];
    const ps_kv_types types = {all_types[_i % TYPES], all_types[(_i + _i / TYPES) % TYPES]};
    dice d = {.seed = 90 + (uint64_t)_i};
    book *from = book_new(dim, types, 0), *to = book_new(dim, types, 1);
    ps_engine engine = engines_open(1);
    const ps_kernels *kernels = engine.kernels;
    const size_t n = ps_kv_position_bytes(&from->layout);
    uint8_t *bytes = ps_mem_new(n + 1, 1), *again = ps_mem_new(n, 1);
    float *a = floats_new((size_t)dim), *c = floats_new((size_t)dim);
    bytes[n] = 0xA5;
    for (int64_t p = 180; p < 200; p++) {
        vectors v = roll_vectors(&d, dim);
        ck_assert(ps_kv_append(&from->view, p, v.key, v.value, v.numbers));
        ps_kv_read_position(&from->view, p, bytes);
        ck_assert_uint_eq(bytes[n], 0xA5);
        ps_kv_write_position(&to->view, p, bytes);
        ps_kv_read_position(&to->view, p, again);
        ck_assert_mem_eq(bytes, again, n);
        for (int h = 0; h < HEADS; h++) {
            read_key(kernels, from, p, h, a);
            read_key(kernels, to, p, h, c);
            ck_assert_uint_eq(floats_first_difference(a, c, (size_t)dim), (size_t)dim);
            read_value(kernels, from, p, h, a);
            read_value(kernels, to, p, h, c);
            ck_assert_uint_eq(floats_first_difference(a, c, (size_t)dim), (size_t)dim);
        }
        ck_assert(*ps_kv_number(&to->view, p, 2) == -2.0f);
        release_vectors(&v);
    }
    ps_mem_free(bytes);
    ps_mem_free(again);
    ps_mem_free(a);
    ps_mem_free(c);
    ps_engine_close(&engine);
    book_free(from);
    book_free(to);
}
END_TEST

/* Too large for f16 is said; bf16 and f32 hold it; NaN is stored and shows. */
START_TEST(what_does_not_fit_is_said)
{
    static const struct {
        ps_dtype type;
        float value;
        bool fits;
    } cases[] = {
        {PS_F32, 3e38f, true},    {PS_BF16, 1e38f, true},    {PS_F16, 65504.0f, true},
        {PS_F16, 65519.0f, true}, {PS_F16, 65520.0f, false}, {PS_F16, -1e9f, false},
        {PS_Q8_0, 8.0e6f, true},  {PS_Q8_0, 9.0e6f, false},  {PS_Q4_0, 5e5f, true},
        {PS_Q4_0, -6e5f, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int which = 0; which < 2; which++) {
            float key[HEADS * 8] = {1.0f}, value[HEADS * 8] = {1.0f};
            const float numbers[NUMBERS] = {0};
            const ps_kv_types types = {which ? PS_F32 : cases[i].type,
                                       which ? cases[i].type : PS_F32};
            book *b = book_new(8, types, 0);
            (which ? value : key)[11] = cases[i].value;
            ck_assert_msg(ps_kv_append(&b->view, 70, key, value, numbers) == cases[i].fits,
                          "case %zu", i);
            book_free(b);
        }
    }
}
END_TEST

START_TEST(a_nan_is_stored_as_one)
{
    float key[HEADS * 8] = {1.0f}, value[HEADS * 8] = {1.0f}, found[8];
    const float numbers[NUMBERS] = {0};
    book *b = book_new(8, (ps_kv_types){all_types[_i], all_types[_i]}, 0);
    ps_engine engine = engines_open(1);
    const ps_kernels *kernels = engine.kernels;
    key[3] = value[3] = NAN;
    (void)ps_kv_append(&b->view, 5, key, value, numbers);
    read_key(kernels, b, 5, 0, found);
    ck_assert(isnan(found[3]));
    read_value(kernels, b, 5, 0, found);
    ck_assert(isnan(found[3]));
    ps_engine_close(&engine);
    book_free(b);
}
END_TEST

START_TEST(fixed_pages_are_no_part_of_the_ring)
{
    book *b = book_new(4, (ps_kv_types){0}, 1);
    ck_assert_ptr_eq(ps_kv_page(&b->view, 0), b->pages[0]);
    ck_assert_ptr_eq(ps_kv_page(&b->view, PS_KV_PAGE - 1), b->pages[0]);
    for (int64_t page = 1; page < 9; page++) {
        ck_assert_ptr_eq(ps_kv_page(&b->view, page * PS_KV_PAGE), b->pages[page % 2 ? 1 : 2]);
    }
    book_free(b);
}
END_TEST

/* Bytes of a token as published formats have them: 34 and 18 for 32 values. */
START_TEST(a_token_takes_the_bytes_of_its_types)
{
    static const size_t key_bytes[TYPES] = {512, 256, 256, 136, 72};
    for (int t = 0; t < TYPES; t++) {
        const ps_kv_layout l =
            ps_kv_layout_make(1, 128, 0, (ps_kv_types){all_types[t], all_types[t]});
        ck_assert_uint_eq(ps_kv_position_bytes(&l), 2 * key_bytes[t]);
        ck_assert_uint_eq(ps_kv_read_bytes(&l), 2 * key_bytes[t]);
        ck_assert_uint_eq(l.page_bytes, PS_KV_PAGE * 2 * key_bytes[t]);
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("kv_types");
    tcase_set_timeout(tcase, 60.0);
    tcase_add_loop_test(tcase, what_comes_back_is_what_the_type_holds, 0, 60);
    tcase_add_loop_test(tcase, positions_travel_as_bytes, 0, 60);
    tcase_add_test(tcase, what_does_not_fit_is_said);
    tcase_add_loop_test(tcase, a_nan_is_stored_as_one, 0, TYPES);
    tcase_add_test(tcase, fixed_pages_are_no_part_of_the_ring);
    tcase_add_test(tcase, a_token_takes_the_bytes_of_its_types);
    Suite *suite = suite_create("math/kv_types");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
