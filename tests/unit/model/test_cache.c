/* Pages of keys and values against a model that keeps a plain array for each sequence. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/cache.h"
#include "support/dice.h"
#include "support/scratch.h"

enum { LAYERS = 3, SLOTS = 6, LENGTH = 2800, KV_HEADS = 2, HEAD_DIM = 5 };

/* Number that a position's key and value are made of, by slot and position. Forks copy it. */
typedef struct naive_slot {
    int64_t length;
    int id[LENGTH];
} naive_slot;

typedef struct scene {
    ps_spec spec;
    ps_cache_params params;
    ps_cache cache;
    naive_slot slots[SLOTS];
    int next_id;
} scene;

/* Layers with a long window, a short one, and none; the last two with numbers for each key. */
static void open_scene(scene *s, int64_t context, int chunk_rows)
{
    *s =
        (scene){.spec = {.n_heads = 4, .n_kv_heads = KV_HEADS, .head_dim = HEAD_DIM}, .next_id = 1};
    ps_spec_take_layers(&s->spec, LAYERS);
    s->spec.layers[0] = (ps_layer_spec){.window = 600};
    s->spec.layers[1] =
        (ps_layer_spec){.window = 3, .n_biases = 1, .biases = {{.kind = PS_BIAS_REL_POS}}};
    s->spec.layers[2] =
        (ps_layer_spec){.window = 0, .n_biases = 1, .biases = {{.kind = PS_BIAS_REL_POS}}};
    s->params = (ps_cache_params){.spec = &s->spec,
                                  .end_layer = LAYERS,
                                  .n_slots = SLOTS,
                                  .context = context,
                                  .chunk_rows = chunk_rows};
    assert_ok(ps_cache_open(&s->params, &s->cache));
}

static void close_scene(scene *s)
{
    ps_cache_close(&s->cache);
    ps_spec_release(&s->spec);
}

/* Value i of the key (0) or value (1) or number (2) of an id in a layer. */
static float content(int id, int layer, int kind, int i)
{
    return (float)(id * 64 + layer * 16 + kind * 5) + (float)i / 16.0f;
}

static void append(scene *s, int slot, int n)
{
    naive_slot *naive = &s->slots[slot];
    ps_cache_reserve(&s->cache, slot, naive->length, n);
    for (int r = 0; r < n; r++) {
        const int id = s->next_id++;
        const int64_t position = naive->length++;
        naive->id[position] = id;
        for (int layer = 0; layer < LAYERS; layer++) {
            float key[KV_HEADS * HEAD_DIM], value[KV_HEADS * HEAD_DIM], numbers[4];
            for (int i = 0; i < KV_HEADS * HEAD_DIM; i++) {
                key[i] = content(id, layer, 0, i);
                value[i] = content(id, layer, 1, i);
            }
            for (int i = 0; i < 4; i++) {
                numbers[i] = content(id, layer, 2, i);
            }
            const ps_kv_view view = ps_cache_view(&s->cache, layer, slot);
            if (!ps_kv_append(&view, position, key, value, numbers)) ck_abort_msg("does not fit");
        }
    }
}

static const float *floats_at(const char *bytes)
{
    return (const float *)(const void *)bytes;
}

static void check_position(const scene *s, int slot, int layer, int64_t position)
{
    const ps_kv_view view = ps_cache_view(&s->cache, layer, slot);
    const int id = s->slots[slot].id[position];
    bool good = true;
    for (int i = 0; i < KV_HEADS * HEAD_DIM; i++) {
        const int head = i / HEAD_DIM, k = i % HEAD_DIM;
        const float key =
            floats_at(ps_kv_keys(&view, position, head))[k * PS_KV_TILE + position % PS_KV_TILE];
        const float value = floats_at(ps_kv_value(&view, position, head))[k];
        good = good && key == content(id, layer, 0, i) && value == content(id, layer, 1, i);
    }
    for (int i = 0; i < ps_spec_layer_numbers(&s->spec, layer); i++) {
        good = good && *ps_kv_number(&view, position, i) == content(id, layer, 2, i);
    }
    // Not ck_assert: it tells the parent process each time, which is slow in a loop.
    if (!good)
        ck_abort_msg("slot %d, layer %d, position %lld of %lld: another sequence's key or value",
                     slot, layer, (long long)position, (long long)s->slots[slot].length);
}

/* All that the next row of a slot sees, in all layers. */
static void check_slot(const scene *s, int slot)
{
    for (int layer = 0; layer < LAYERS; layer++) {
        const int64_t window = s->spec.layers[layer].window, length = s->slots[slot].length;
        const int64_t first = window > 0 && length > window - 1 ? length - (window - 1) : 0;
        for (int64_t p = first; p < length; p++) {
            check_position(s, slot, layer, p);
        }
    }
}

/* Every page is either free, once, or in as many tables as it has owners. */
static void check_pages(const scene *s)
{
    for (int l = 0; l < LAYERS; l++) {
        const ps_cache_layer *layer = &s->cache.layers[l];
        const int all = layer->n_pages * SLOTS;
        int *seen = ps_mem_new((size_t)all, sizeof *seen);
        for (int i = 0; i < all; i++) {
            if (!layer->table[i]) continue;
            seen[(size_t)(layer->table[i] - layer->base) / layer->layout.page_bytes]++;
        }
        int used = 0;
        for (int i = 0; i < all; i++) {
            if (layer->n_owners[i] != seen[i])
                ck_abort_msg("page %d of layer %d has %d owners and is in %d tables", i, l,
                             layer->n_owners[i], seen[i]);
            used += seen[i] > 0;
        }
        if (layer->n_free != all - used)
            ck_abort_msg("layer %d has %d free pages, wanted %d", l, layer->n_free, all - used);
        for (int i = 0; i < layer->n_free; i++) {
            const size_t page =
                (size_t)(layer->free_pages[i] - layer->base) / layer->layout.page_bytes;
            if (seen[page]++ > 0)
                ck_abort_msg("page %zu of layer %d is free twice or in use", page, l);
        }
        ps_mem_free(seen);
    }
}

static void end_slot(scene *s, int slot)
{
    ps_cache_end(&s->cache, slot);
    s->slots[slot].length = 0;
}

static void check_all_free(const scene *s)
{
    check_pages(s);
    for (int l = 0; l < LAYERS; l++) {
        ck_assert_int_eq(s->cache.layers[l].n_free, s->cache.layers[l].n_pages * SLOTS);
    }
}

static void random_step(scene *s, dice *d)
{
    const int slot = dice_throw(d, SLOTS), other = dice_throw(d, SLOTS);
    const int kind = dice_throw(d, 20);
    naive_slot *naive = &s->slots[slot];
    if (kind == 0) {
        end_slot(s, slot);
    } else if (kind <= 2 && other != slot) {
        end_slot(s, other);
        ps_cache_fork(&s->cache, slot, other);
        s->slots[other] = *naive;
    } else {
        const int64_t left = s->params.context - naive->length;
        int n = 1 + dice_throw(d, s->params.chunk_rows);
        if (dice_throw(d, 2) == 0) n = 1;
        if (n <= left) append(s, slot, n);
    }
}

START_TEST(random_operations_keep_every_sequence)
{
    dice d = {.seed = (uint64_t)_i};
    scene s;
    open_scene(&s, 1 + dice_throw(&d, LENGTH), 1 + dice_throw(&d, 130));
    if (s.params.chunk_rows > s.params.context) s.params.chunk_rows = (int)s.params.context;
    for (int step = 0; step < 400; step++) {
        random_step(&s, &d);
        check_pages(&s);
        if (step % 10 == 0) check_slot(&s, dice_throw(&d, SLOTS));
    }
    for (int slot = 0; slot < SLOTS; slot++) {
        check_slot(&s, slot);
    }
    for (int slot = 0; slot < SLOTS; slot++) {
        end_slot(&s, slot);
    }
    check_all_free(&s);
    close_scene(&s);
}
END_TEST

START_TEST(every_slot_can_be_full_at_the_same_time)
{
    scene s;
    open_scene(&s, LENGTH, 100);
    for (int64_t done = 0; done < LENGTH; done += 100) {
        for (int slot = 0; slot < SLOTS; slot++) {
            append(&s, slot, 100);
        }
    }
    for (int slot = 0; slot < SLOTS; slot++) {
        check_slot(&s, slot);
    }
    ck_assert_int_eq(s.cache.layers[2].n_free, 0);
    check_pages(&s);
    close_scene(&s);
}
END_TEST

/* The smallest ring: what the rows of a chunk see stays readable until the chunk is done. */
START_TEST(a_chunk_does_not_write_over_what_its_first_row_sees)
{
    scene s;
    const int chunk = 1 + _i;
    open_scene(&s, LENGTH, chunk);
    while (s.slots[0].length + chunk <= LENGTH) {
        const int64_t before = s.slots[0].length;
        append(&s, 0, chunk);
        for (int layer = 0; layer < LAYERS; layer++) {
            const int64_t window = s.spec.layers[layer].window;
            const int64_t first = window > 0 && before > window - 1 ? before - (window - 1) : 0;
            for (int64_t p = first; p < s.slots[0].length; p += 1 + (p < before ? 0 : 3)) {
                check_position(&s, 0, layer, p);
            }
        }
    }
    close_scene(&s);
}
END_TEST

START_TEST(a_ring_holds_window_and_chunk_and_no_more_pages_than_the_context)
{
    scene s;
    open_scene(&s, 10000, 100);
    ck_assert_int_eq(s.cache.layers[0].n_pages, (600 + 100 - 2) / PS_KV_PAGE + 2);
    ck_assert_int_eq(s.cache.layers[1].n_pages, (3 + 100 - 2) / PS_KV_PAGE + 2);
    ck_assert_int_eq(s.cache.layers[2].n_pages, (10000 + PS_KV_PAGE - 1) / PS_KV_PAGE);
    close_scene(&s);
    open_scene(&s, PS_KV_PAGE + 1, 1);
    for (int layer = 0; layer < LAYERS; layer++) {
        ck_assert_int_eq(s.cache.layers[layer].n_pages, 2);
    }
    close_scene(&s);
}
END_TEST

START_TEST(a_fork_shares_pages_until_one_side_writes)
{
    scene s;
    open_scene(&s, LENGTH, 100);
    for (int i = 0; i < 3; i++) {
        append(&s, 0, 100); // pages 0 and 1 of layer 2
    }
    const int before = s.cache.layers[2].n_free;
    ps_cache_fork(&s.cache, 0, 1);
    s.slots[1] = s.slots[0];
    ck_assert_int_eq(s.cache.layers[2].n_free, before);
    append(&s, 1, 1); // writes into page 1: copied
    ck_assert_int_eq(s.cache.layers[2].n_free, before - 1);
    append(&s, 0, 1); // page 1 is slot 0's alone again
    ck_assert_int_eq(s.cache.layers[2].n_free, before - 1);
    const ps_kv_view a = ps_cache_view(&s.cache, 2, 0), b = ps_cache_view(&s.cache, 2, 1);
    ck_assert_ptr_eq(a.pages[0], b.pages[0]);
    ck_assert_ptr_ne(a.pages[1], b.pages[1]);
    check_slot(&s, 0);
    check_slot(&s, 1);
    close_scene(&s);
}
END_TEST

/* In rings too: both sides go round theirs more than once, and neither sees the other's. */
START_TEST(a_fork_of_a_ring_shares_its_pages_until_they_are_written)
{
    scene s;
    open_scene(&s, LENGTH, 10);
    while (s.slots[0].length < 1300) {
        append(&s, 0, 10);
    }
    const ps_cache_layer *ring = &s.cache.layers[0];
    const int before = ring->n_free;
    ps_cache_fork(&s.cache, 0, 1);
    s.slots[1] = s.slots[0];
    ck_assert_int_eq(ring->n_free, before);
    ck_assert_mem_eq(ring->table, ring->table + ring->n_pages,
                     (size_t)ring->n_pages * sizeof *ring->table);
    append(&s, 1, 1);
    ck_assert_int_eq(ring->n_free, before - 1); // one page was copied, the others are shared
    for (int turn = 0; turn < 500; turn++) {
        append(&s, turn % 2, 1 + turn % 9);
        check_slot(&s, 0);
        check_slot(&s, 1);
        check_pages(&s);
    }
    for (int p = 0; p < ring->n_pages; p++) {
        ck_assert_ptr_ne(ring->table[p], ring->table[ring->n_pages + p]);
    }
    end_slot(&s, 0);
    end_slot(&s, 1);
    check_all_free(&s);
    close_scene(&s);
}
END_TEST

/* Room for what is given and not computed: as many positions as the next row sees. */
START_TEST(a_slot_can_be_filled_from_any_position_on)
{
    scene s;
    open_scene(&s, LENGTH, 10);
    for (int64_t length = 600; length < 1600; length += 137) {
        const int before = s.cache.layers[0].n_free;
        ps_cache_reserve_in_layer(&s.cache, 0, 2, length - 599, 599);
        const ps_kv_view view = ps_cache_view(&s.cache, 0, 2);
        for (int64_t p = length - 599; p < length; p++) {
            ck_assert_ptr_nonnull(ps_kv_page(&view, p));
        }
        ck_assert_int_eq(before - s.cache.layers[0].n_free,
                         (length - 1) / PS_KV_PAGE - (length - 599) / PS_KV_PAGE + 1);
        ps_cache_end(&s.cache, 2);
    }
    check_all_free(&s);
    close_scene(&s);
}
END_TEST

START_TEST(a_fork_outlives_the_slot_it_came_from)
{
    scene s;
    open_scene(&s, LENGTH, 100);
    append(&s, 0, 90);
    ps_cache_fork(&s.cache, 0, 3);
    s.slots[3] = s.slots[0];
    end_slot(&s, 0);
    append(&s, 0, 100); // takes pages that must not be slot 3's
    check_slot(&s, 3);
    end_slot(&s, 3);
    end_slot(&s, 0);
    check_all_free(&s);
    close_scene(&s);
}
END_TEST

START_TEST(a_fork_of_an_empty_slot_is_empty)
{
    scene s;
    open_scene(&s, LENGTH, 100);
    ps_cache_fork(&s.cache, 0, 1);
    check_all_free(&s);
    append(&s, 1, 5);
    check_slot(&s, 1);
    close_scene(&s);
}
END_TEST

START_TEST(ending_an_empty_slot_does_nothing)
{
    scene s;
    open_scene(&s, LENGTH, 100);
    end_slot(&s, 2);
    append(&s, 2, 10);
    end_slot(&s, 2);
    end_slot(&s, 2);
    check_all_free(&s);
    close_scene(&s);
}
END_TEST

/* Positions of an endless stream: far beyond what an int holds. */
START_TEST(a_ring_takes_positions_beyond_two_to_the_32)
{
    scene s;
    open_scene(&s, INT64_C(1) << 20, 16);
    const ps_cache_params params = {.spec = &s.spec,
                                    .end_layer = 2, // the two with windows
                                    .n_slots = 1,
                                    .context = INT64_C(1) << 48,
                                    .chunk_rows = 16};
    ps_cache cache;
    assert_ok(ps_cache_open(&params, &cache));
    const int64_t start = (INT64_C(1) << 40) + 11;
    float key[KV_HEADS * HEAD_DIM] = {0}, value[KV_HEADS * HEAD_DIM] = {0}, numbers[4] = {0};
    for (int64_t p = start; p < start + 500; p++) {
        ps_cache_reserve(&cache, 0, p, 1);
        const ps_kv_view view = ps_cache_view(&cache, 0, 0);
        value[0] = (float)(p - start);
        ck_assert(ps_kv_append(&view, p, key, value, numbers));
        for (int64_t q = p - 149 > start ? p - 149 : start; q <= p; q++) {
            if (*floats_at(ps_kv_value(&view, q, 0)) != (float)(q - start))
                ck_abort_msg("position %lld is gone at %lld", (long long)q, (long long)p);
        }
    }
    ps_cache_close(&cache);
    close_scene(&s);
}
END_TEST

START_TEST(the_measure_is_what_is_taken)
{
    scene s;
    open_scene(&s, 333, 20);
    size_t bytes;
    ck_assert(ps_cache_measure(&s.params, &bytes));
    ck_assert_uint_eq(s.cache.region.bytes, bytes);
    close_scene(&s);
}
END_TEST

START_TEST(sizes_that_overflow_are_refused)
{
    scene s;
    open_scene(&s, 100, 20);
    s.params.context = INT64_C(1) << 48;
    size_t bytes;
    ps_cache cache;
    ck_assert(!ps_cache_measure(&s.params, &bytes));
    ck_assert_int_eq(ps_cache_open(&s.params, &cache), PS_ERR_LIMIT);
    assert_message("caches for 6 slots of 281474976710656 positions overflow");
    close_scene(&s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/cache");
    TCase *tcase = scratch_case(suite, "cache");
    tcase_add_loop_test(tcase, random_operations_keep_every_sequence, 0, 60);
    tcase_add_test(tcase, every_slot_can_be_full_at_the_same_time);
    tcase_add_loop_test(tcase, a_chunk_does_not_write_over_what_its_first_row_sees, 0, 70);
    tcase_add_test(tcase, a_ring_holds_window_and_chunk_and_no_more_pages_than_the_context);
    tcase_add_test(tcase, a_fork_shares_pages_until_one_side_writes);
    tcase_add_test(tcase, a_fork_of_a_ring_shares_its_pages_until_they_are_written);
    tcase_add_test(tcase, a_slot_can_be_filled_from_any_position_on);
    tcase_add_test(tcase, a_fork_outlives_the_slot_it_came_from);
    tcase_add_test(tcase, a_fork_of_an_empty_slot_is_empty);
    tcase_add_test(tcase, ending_an_empty_slot_does_nothing);
    tcase_add_test(tcase, a_ring_takes_positions_beyond_two_to_the_32);
    tcase_add_test(tcase, the_measure_is_what_is_taken);
    tcase_add_test(tcase, sizes_that_overflow_are_refused);
    return scratch_run(suite);
}
