/* The message of the ring: what goes in comes out, and whatever else arrives is refused. */
#include "pipe/parcel.h"

#include <limits.h>
#include <string.h>
#include <xxhash.h>

#include "base/mem.h"
#include "support/dice.h"
#include "support/scratch.h"

enum { ROWS = 6, SLOTS = 4, STRIDE = 32 };

static const ps_parcel_limits limits = {
    .rows_max = ROWS, .n_slots = SLOTS, .stride = STRIDE, .report_bytes = 1000};

/* A buffer of exactly the size that the ring would give it, so that a sanitizer sees any byte past
 * it; 64-byte aligned. */
static ps_region buffer_of(size_t bytes)
{
    ps_region region;
    assert_ok(ps_region_take(bytes, "parcel", &region));
    memset(region.base, 0xA5, region.mapped);
    return region;
}

/* Any legal parcel. */
static ps_parcel make_parcel(char *buffer, dice *d, uint64_t sequence, size_t *bytes)
{
    const int n_actions = dice_throw(d, 2 * SLOTS + 1), n_rows = dice_throw(d, ROWS + 1);
    const int n_data = dice_throw(d, n_rows + 1);
    const ps_parcel p =
        ps_parcel_begin(buffer, PS_PARCEL_WORK, sequence, n_actions, n_rows, STRIDE);
    for (int i = 0; i < n_actions; i++) {
        const int slot = dice_throw(d, SLOTS);
        p.actions[i] =
            (ps_parcel_action){.kind = 1 + dice_throw(d, 3),
                               .slot = slot,
                               .argument = (slot + 1 + dice_throw(d, SLOTS - 1)) % SLOTS};
    }
    for (int i = 0; i < n_rows; i++) {
        p.rows[i] = (ps_parcel_row){.position = (int64_t)(dice_bits(d) >> 1),
                                    .slot = dice_throw(d, SLOTS),
                                    .wants_logits = (int16_t)dice_throw(d, 2),
                                    .hidden = (int16_t)dice_throw(d, 2)};
    }
    for (int i = 0; i < n_data * STRIDE; i++) {
        p.data[i] = (float)dice_real(d, -1.0, 1.0);
    }
    *bytes = ps_parcel_seal(&p, n_data);
    return p;
}

/* Makes the checksum right again, so that what follows is looked at. */
static void rehash(char *buffer, size_t bytes)
{
    const uint64_t hash = XXH3_64bits(buffer + 8, bytes - 8);
    memcpy(buffer, &hash, sizeof hash);
}

START_TEST(what_is_sealed_opens_again)
{
    dice d = {.seed = 1};
    for (uint64_t i = 0; i < 2000; i++) {
        ps_region region = buffer_of(ps_parcel_bytes_max(&limits));
        char *buffer = region.base;
        size_t bytes;
        const ps_parcel in = make_parcel(buffer, &d, i, &bytes);
        ps_parcel out;
        ck_assert_uint_le(bytes, ps_parcel_bytes_max(&limits));
        char *copy = ps_mem_copy_bytes(buffer, bytes);
        assert_ok(ps_parcel_open(buffer, bytes, i, &limits, &out));
        ck_assert_mem_eq(buffer, copy, bytes);
        ck_assert_ptr_eq(out.head, in.head);
        ck_assert_ptr_eq(out.actions, in.actions);
        ck_assert_ptr_eq(out.rows, in.rows);
        ck_assert_ptr_eq(out.data, in.data);
        ck_assert_uint_eq((uintptr_t)out.data % 64, 0);
        ck_assert_uint_eq(out.head->bytes, bytes);
        ck_assert_uint_eq(out.head->sequence, i);
        ps_mem_free(copy);
        ps_region_release(&region);
    }
}
END_TEST

START_TEST(equal_parcels_have_equal_bytes)
{
    const size_t most = ps_parcel_bytes_max(&limits);
    ps_region one = buffer_of(most), two = buffer_of(most);
    memset(two.base, 0x11, two.bytes); // what was in the buffer before does not travel
    size_t bytes, other;
    dice d = {.seed = 5}, e = {.seed = 5};
    make_parcel(one.base, &d, 9, &bytes);
    make_parcel(two.base, &e, 9, &other);
    ck_assert_uint_eq(bytes, other);
    ck_assert_mem_eq(one.base, two.base, bytes);
    ps_region_release(&one);
    ps_region_release(&two);
}
END_TEST

START_TEST(the_largest_parcel_fits_exactly)
{
    const ps_parcel_limits large = {.rows_max = ROWS, .n_slots = SLOTS, .stride = 512};
    ps_region region = buffer_of(ps_parcel_bytes_max(&large));
    const ps_parcel p = ps_parcel_begin(region.base, PS_PARCEL_WORK, 0, 2 * SLOTS, ROWS, 512);
    ck_assert_uint_eq(ps_parcel_seal(&p, ROWS), ps_parcel_bytes_max(&large));
    // A path to a state file decides where rows are few.
    const ps_parcel_limits small = {.rows_max = 1, .n_slots = 1, .stride = 16};
    ck_assert_uint_eq(ps_parcel_bytes_max(&small),
                      sizeof(ps_parcel_head) + sizeof(ps_parcel_state));
    // Reports larger than any rows decide instead.
    const ps_parcel_limits reports = {
        .rows_max = 1, .n_slots = 1, .stride = 16, .report_bytes = 100000};
    ck_assert_uint_eq(ps_parcel_bytes_max(&reports), sizeof(ps_parcel_head) + 100000);
    ps_region_release(&region);
}
END_TEST

START_TEST(a_parcel_without_rows_is_its_head_and_actions)
{
    char *buffer = ps_mem_new(4096, 1);
    ps_parcel p = ps_parcel_begin(buffer, PS_PARCEL_WORK, 3, 0, 0, STRIDE), out;
    ck_assert_uint_eq(ps_parcel_seal(&p, 0), 64);
    assert_ok(ps_parcel_open(buffer, 64, 3, &limits, &out));
    p = ps_parcel_begin(buffer, PS_PARCEL_WORK, 4, 1, 0, STRIDE);
    p.actions[0] = (ps_parcel_action){.kind = PS_ACTION_END, .slot = 3};
    ck_assert_uint_eq(ps_parcel_seal(&p, 0), 128);
    assert_ok(ps_parcel_open(buffer, 128, 4, &limits, &out));
    ps_mem_free(buffer);
}
END_TEST

START_TEST(a_stop_carries_reports)
{
    char *buffer = ps_mem_new(4096, 1);
    const ps_parcel p = ps_parcel_begin(buffer, PS_PARCEL_STOP, 8, 0, 0, 50);
    ps_parcel out;
    const size_t bytes = ps_parcel_seal(&p, 5);
    ck_assert_uint_eq(bytes, 64 + 5 * 50 * sizeof(float));
    assert_ok(ps_parcel_open(buffer, bytes, 8, &limits, &out));
    ck_assert_uint_eq(out.head->kind, PS_PARCEL_STOP);
    ps_mem_free(buffer);
}
END_TEST

START_TEST(a_save_carries_its_state_and_what_is_wrong_with_it_is_found)
{
    static char buffer[64 + sizeof(ps_parcel_state)];
    const uint32_t stride = sizeof(ps_parcel_state) / sizeof(float);
    for (int wrong = 0; wrong < 7; wrong++) {
        const ps_parcel p =
            ps_parcel_begin(buffer, wrong % 2 ? PS_PARCEL_LOAD : PS_PARCEL_SAVE, 8, 0, 0, stride);
        ps_parcel_state *s = (ps_parcel_state *)(void *)p.data;
        *s = (ps_parcel_state){.slot = 1, .position = 5, .path = "a.h5"};
        if (wrong == 1) s->slot = SLOTS;
        if (wrong == 2) s->position = 0;
        if (wrong == 3) memset(s->path, 'x', sizeof s->path);
        if (wrong == 4) memset(s->message, 'x', sizeof s->message);
        if (wrong == 5) s->err = PS_ERR_COUNT;
        if (wrong == 6) s->length = -1;
        ps_parcel out;
        const size_t bytes = ps_parcel_seal(&p, 1);
        ck_assert_uint_eq(bytes, sizeof buffer);
        ck_assert_int_eq(ps_parcel_open(buffer, bytes, 8, &limits, &out),
                         wrong ? PS_ERR_LOST : PS_OK);
    }
    const ps_parcel p = ps_parcel_begin(buffer, PS_PARCEL_SAVE, 8, 0, 0, 16);
    ps_parcel out;
    ck_assert_int_eq(ps_parcel_open(buffer, ps_parcel_seal(&p, 1), 8, &limits, &out), PS_ERR_LOST);
}
END_TEST

/* Every bit of a parcel, flipped alone. */
START_TEST(any_changed_bit_is_found)
{
    char *buffer = ps_mem_new(ps_parcel_bytes_max(&limits), 1);
    size_t bytes;
    dice d = {.seed = 77};
    ps_parcel out;
    do {
        make_parcel(buffer, &d, 12, &bytes);
    } while (bytes < 600);
    for (size_t bit = 0; bit < 8 * bytes; bit++) {
        buffer[bit / 8] = (char)(buffer[bit / 8] ^ 1 << bit % 8);
        ck_assert_msg(ps_parcel_open(buffer, bytes, 12, &limits, &out) == PS_ERR_LOST,
                      "bit %zu of byte %zu may change", bit % 8, bit / 8);
        buffer[bit / 8] = (char)(buffer[bit / 8] ^ 1 << bit % 8);
    }
    assert_ok(ps_parcel_open(buffer, bytes, 12, &limits, &out));
    ps_mem_free(buffer);
}
END_TEST

START_TEST(another_length_than_the_heads_is_found)
{
    char *buffer = ps_mem_new(2 * ps_parcel_bytes_max(&limits), 1);
    size_t bytes;
    dice d = {.seed = 3};
    ps_parcel out;
    make_parcel(buffer, &d, 0, &bytes);
    for (size_t n = 0; n < bytes + 100; n++) {
        if (n == bytes) continue;
        // In a block of that length, for a sanitizer to see.
        char *cut = ps_mem_new(n, 1);
        memcpy(cut, buffer, n);
        ck_assert_int_eq(ps_parcel_open(cut, n, 0, &limits, &out), PS_ERR_LOST);
        assert_mentions("bytes arrived that are not a parcel");
        ps_mem_free(cut);
    }
    ps_mem_free(buffer);
}
END_TEST

START_TEST(another_place_in_the_sequence_is_found)
{
    char *buffer = ps_mem_new(ps_parcel_bytes_max(&limits), 1);
    size_t bytes;
    dice d = {.seed = 3};
    ps_parcel out;
    make_parcel(buffer, &d, 41, &bytes);
    ck_assert_int_eq(ps_parcel_open(buffer, bytes, 42, &limits, &out), PS_ERR_LOST);
    assert_message("parcel 41 arrived where 42 was expected");
    ck_assert_int_eq(ps_parcel_open(buffer, bytes, 40, &limits, &out), PS_ERR_LOST);
    assert_message("parcel 41 arrived where 40 was expected");
    ps_mem_free(buffer);
}
END_TEST

/* A head, or entries, that contradict the run under a right checksum. Offsets are those of the
 * format, not of the structures. */
typedef struct lie {
    size_t offset;
    uint32_t value;
} lie;

static void expect_lies_found(const lie *lies, size_t n, char *buffer, size_t bytes)
{
    ps_parcel out;
    assert_ok(ps_parcel_open(buffer, bytes, 0, &limits, &out));
    for (size_t i = 0; i < n; i++) {
        uint32_t truth;
        memcpy(&truth, buffer + lies[i].offset, sizeof truth);
        memcpy(buffer + lies[i].offset, &lies[i].value, sizeof truth);
        rehash(buffer, bytes);
        ck_assert_msg(ps_parcel_open(buffer, bytes, 0, &limits, &out) == PS_ERR_LOST,
                      "offset %zu may be %u", lies[i].offset, lies[i].value);
        assert_message("parcel 0: its head contradicts this run's sizes");
        memcpy(buffer + lies[i].offset, &truth, sizeof truth);
        rehash(buffer, bytes);
    }
    assert_ok(ps_parcel_open(buffer, bytes, 0, &limits, &out));
}

START_TEST(a_head_that_contradicts_the_run_is_found)
{
    enum { KIND = 12, ACTIONS = 32, ROW_COUNT = 36, DATA = 40, STRIDE_AT = 44 };
    static const lie lies[] = {
        {KIND, 0},
        {KIND, 3},
        {KIND, PS_PARCEL_STOP}, // with rows that it does not have
        {ACTIONS, 2},
        {ACTIONS, 1u << 28},
        {ACTIONS, UINT32_MAX},
        {ROW_COUNT, 1},
        {ROW_COUNT, 4},
        {ROW_COUNT, ROWS + 1},
        {ROW_COUNT, UINT32_MAX},
        {DATA, 0},
        {DATA, 1},
        {DATA, 3},
        {DATA, UINT32_MAX},
        {STRIDE_AT, STRIDE - 16},
        {STRIDE_AT, 0},
        {STRIDE_AT, UINT32_MAX},
    };
    char *buffer = ps_mem_new(4096, 1);
    const ps_parcel p = ps_parcel_begin(buffer, PS_PARCEL_WORK, 0, 1, 2, STRIDE);
    p.actions[0] = (ps_parcel_action){.kind = PS_ACTION_FORK, .slot = 1, .argument = 2};
    p.rows[0] = p.rows[1] = (ps_parcel_row){.position = 5, .slot = 1};
    const size_t bytes = ps_parcel_seal(&p, 2);
    ck_assert_uint_eq(bytes, 128 + 2 * STRIDE * sizeof(float));
    expect_lies_found(lies, sizeof lies / sizeof lies[0], buffer, bytes);
    ps_mem_free(buffer);
}
END_TEST

START_TEST(entries_that_contradict_the_run_are_found)
{
    enum { ACTION = 64, ROW = 80, MINUS_ONE = -1 };
    static const lie lies[] = {
        {ACTION, 0},                       // kind
        {ACTION, 4},                       //
        {ACTION + 4, SLOTS},               // slot
        {ACTION + 4, (uint32_t)MINUS_ONE}, //
        {ACTION + 4, 2},                   // a fork of itself
        {ACTION + 8, SLOTS},               // slot to copy
        {ACTION + 12, 1u << 31},           // upper half: negative
        {ROW + 4, 1u << 31},               // position, upper half: negative
        {ROW + 8, SLOTS},                  // slot
        {ROW + 8, (uint32_t)INT_MIN},      //
        {ROW + 16 + 8, SLOTS},             // of the second row
    };
    char *buffer = ps_mem_new(4096, 1);
    const ps_parcel p = ps_parcel_begin(buffer, PS_PARCEL_WORK, 0, 1, 2, STRIDE);
    p.actions[0] = (ps_parcel_action){.kind = PS_ACTION_FORK, .slot = 1, .argument = 2};
    p.rows[0] = p.rows[1] = (ps_parcel_row){.position = 5, .slot = 1};
    expect_lies_found(lies, sizeof lies / sizeof lies[0], buffer, ps_parcel_seal(&p, 2));
    ps_mem_free(buffer);
}
END_TEST

/* Any length may begin a sequence, as wide as positions are, but none below 0. */
START_TEST(a_begin_carries_any_length)
{
    static const int64_t lengths[] = {0, 1, SLOTS, INT64_C(1) << 40, INT64_MAX};
    static const lie lies[] = {{64 + 12, 1u << 31}, {64 + 12, 0xFFFFFFFF}, {64 + 4, SLOTS}};
    char *buffer = ps_mem_new(4096, 1);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        ps_parcel out;
        const ps_parcel p = ps_parcel_begin(buffer, PS_PARCEL_WORK, 0, 1, 0, STRIDE);
        p.actions[0] =
            (ps_parcel_action){.kind = PS_ACTION_BEGIN, .slot = 2, .argument = lengths[i]};
        const size_t bytes = ps_parcel_seal(&p, 0);
        expect_lies_found(lies, 3, buffer, bytes);
        assert_ok(ps_parcel_open(buffer, bytes, 0, &limits, &out));
        ck_assert_int_eq(out.actions[0].kind, PS_ACTION_BEGIN);
        ck_assert_int_eq(out.actions[0].slot, 2);
        ck_assert_int_eq(out.actions[0].argument, lengths[i]);
    }
    ps_mem_free(buffer);
}
END_TEST

/* Nor may the length come out by wrapping round. */
START_TEST(a_stop_without_room_for_the_reports_is_found)
{
    char *buffer = ps_mem_new(4096, 1);
    const ps_parcel p = ps_parcel_begin(buffer, PS_PARCEL_STOP, 0, 0, 0, 50);
    const size_t bytes = ps_parcel_seal(&p, 5);
    ps_parcel out;
    assert_ok(ps_parcel_open(buffer, bytes, 0, &limits, &out));
    static const uint32_t factors[][2] = {{1u << 31, 1u << 31},
                                          {UINT32_MAX, UINT32_MAX},
                                          {1u << 30, 1u << 30},
                                          {0, 50},
                                          {5, 49},
                                          {4, 50}};
    for (size_t i = 0; i < sizeof factors / sizeof factors[0]; i++) {
        memcpy(buffer + 40, &factors[i][0], 4);
        memcpy(buffer + 44, &factors[i][1], 4);
        rehash(buffer, bytes);
        ck_assert_int_eq(ps_parcel_open(buffer, bytes, 0, &limits, &out), PS_ERR_LOST);
    }
    ps_mem_free(buffer);
}
END_TEST

/* Random changes under a right checksum: whatever is accepted lies within the buffer. */
START_TEST(what_is_accepted_lies_within_the_parcel)
{
    dice d = {.seed = 99};
    char *buffer = ps_mem_new(ps_parcel_bytes_max(&limits), 1);
    int accepted = 0;
    for (int i = 0; i < 40000; i++) {
        size_t bytes;
        ps_parcel out;
        make_parcel(buffer, &d, 0, &bytes);
        for (int changes = 1 + dice_throw(&d, 3); changes > 0; changes--) {
            const size_t most = bytes < 200 ? bytes : 200;
            buffer[dice_throw(&d, (int)most)] = (char)dice_throw(&d, dice_throw(&d, 2) ? 8 : 256);
        }
        rehash(buffer, bytes);
        if (ps_parcel_open(buffer, bytes, 0, &limits, &out) != PS_OK) continue;
        accepted++;
        const ps_parcel_head *h = out.head;
        ck_assert((char *)(out.actions + h->n_actions) <= buffer + bytes);
        ck_assert((char *)(out.rows + h->n_rows) <= buffer + bytes);
        ck_assert((char *)(out.data + (size_t)h->n_data * h->stride) <= buffer + bytes);
    }
    ck_assert_int_gt(accepted, 1000);
    ps_mem_free(buffer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pipe/parcel");
    TCase *tcase = tcase_create("parcel");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, what_is_sealed_opens_again);
    tcase_add_test(tcase, equal_parcels_have_equal_bytes);
    tcase_add_test(tcase, the_largest_parcel_fits_exactly);
    tcase_add_test(tcase, a_parcel_without_rows_is_its_head_and_actions);
    tcase_add_test(tcase, a_stop_carries_reports);
    tcase_add_test(tcase, a_save_carries_its_state_and_what_is_wrong_with_it_is_found);
    tcase_add_test(tcase, any_changed_bit_is_found);
    tcase_add_test(tcase, another_length_than_the_heads_is_found);
    tcase_add_test(tcase, another_place_in_the_sequence_is_found);
    tcase_add_test(tcase, a_head_that_contradicts_the_run_is_found);
    tcase_add_test(tcase, entries_that_contradict_the_run_are_found);
    tcase_add_test(tcase, a_begin_carries_any_length);
    tcase_add_test(tcase, a_stop_without_room_for_the_reports_is_found);
    tcase_add_test(tcase, what_is_accepted_lies_within_the_parcel);
    suite_add_tcase(suite, tcase);
    return scratch_run(suite);
}
