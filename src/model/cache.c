/* Page tables, reference counts and a stack of free pages for each layer. The same layout code
 * counts and takes the memory. */
#include "model/cache.h"

#include <assert.h>
#include <string.h>

/* Pages of a slot's table, and how many of them hold kept tokens for ever. A ring must hold the
 * window before the first new row and all new rows without two of them falling on one page: W - 1 +
 * C positions touch at most (W + C - 2) / PS_KV_PAGE + 2.
 */
static int64_t table_pages(const ps_cache_params *params, int layer, int64_t *n_fixed)
{
    const int64_t reach = ps_spec_reach(params->spec, layer);
    const int64_t full = (params->context + PS_KV_PAGE - 1) / PS_KV_PAGE;
    const int64_t kept = (params->spec->n_kept + PS_KV_PAGE - 1) / PS_KV_PAGE;
    const int64_t ring = kept + (reach + params->chunk_rows - 2) / PS_KV_PAGE + 2;
    const bool is_ring = reach > 0 && (params->context == 0 || ring < full);
    *n_fixed = is_ring ? kept : 0;
    return is_ring ? ring : full;
}

static int numbers_of(const ps_cache_params *params, int layer)
{
    return ps_spec_layer_numbers(params->spec, layer) + ps_own_biases_numbers(&params->own, layer);
}

static ps_kv_layout layout_of(const ps_cache_params *params, int layer)
{
    return ps_kv_layout_make(params->spec->n_kv_heads, params->spec->head_dim,
                             numbers_of(params, layer), params->types);
}

static void lay_out_layer(const ps_cache_params *params, int layer, ps_arena *arena,
                          ps_cache_layer *out)
{
    int64_t n_fixed;
    const int64_t pages = table_pages(params, layer, &n_fixed);
    *out = (ps_cache_layer){
        .layout = layout_of(params, layer), .n_pages = (int)pages, .n_fixed = (int)n_fixed};
    const size_t all = (size_t)pages * (size_t)params->n_slots;
    out->table = ps_arena_take(arena, all, sizeof *out->table);
    out->free_pages = ps_arena_take(arena, all, sizeof *out->free_pages);
    out->n_owners = ps_arena_take(arena, all, sizeof *out->n_owners);
    out->base = ps_arena_take(arena, all, out->layout.page_bytes);
}

static bool sizes_fit(const ps_cache_params *params)
{
    size_t total = 0;
    for (int l = params->first_layer; l < params->end_layer; l++) {
        int64_t n_fixed;
        const int64_t pages = table_pages(params, l, &n_fixed);
        const ps_kv_layout layout = layout_of(params, l);
        size_t all, bytes;
        if (pages > INT32_MAX / params->n_slots) return false;
        if (!ps_mem_mul((size_t)pages, (size_t)params->n_slots, &all)) return false;
        if (!ps_mem_mul(all, layout.page_bytes + 64, &bytes)) return false;
        if (!ps_mem_add(total, bytes, &total)) return false;
    }
    return true;
}

bool ps_cache_measure(const ps_cache_params *params, size_t *out)
{
    if (!sizes_fit(params)) return false;
    ps_arena arena = ps_arena_counting();
    ps_cache_layer layer;
    const int n_layers = params->end_layer - params->first_layer;
    ps_arena_take(&arena, (size_t)n_layers, sizeof layer);
    for (int l = params->first_layer; l < params->end_layer; l++) {
        lay_out_layer(params, l, &arena, &layer);
    }
    *out = arena.used;
    return true;
}

static void fill_free_pages(ps_cache_layer *layer, int n_slots)
{
    layer->n_free = layer->n_pages * n_slots;
    for (int i = 0; i < layer->n_free; i++) {
        // The lowest page lies on top, so that a small run touches little memory.
        layer->free_pages[i] =
            layer->base + (size_t)(layer->n_free - 1 - i) * layer->layout.page_bytes;
    }
}

ps_err ps_cache_open(const ps_cache_params *params, ps_cache *out)
{
    assert(params->n_slots >= 1 && params->chunk_rows >= 1);
    *out =
        (ps_cache){.n_layers = params->end_layer - params->first_layer, .n_slots = params->n_slots};
    size_t bytes;
    if (!ps_cache_measure(params, &bytes))
        return PS_FAIL(PS_ERR_LIMIT, "caches for %d slots of %lld positions overflow",
                       params->n_slots, (long long)params->context);
    PS_TRY(ps_region_take(bytes, "caches", &out->region));
    ps_arena arena = ps_arena_over(&out->region);
    out->layers = ps_arena_take(&arena, (size_t)out->n_layers, sizeof *out->layers);
    for (int i = 0; i < out->n_layers; i++) {
        lay_out_layer(params, params->first_layer + i, &arena, &out->layers[i]);
        fill_free_pages(&out->layers[i], params->n_slots);
    }
    return PS_OK;
}

void ps_cache_close(ps_cache *cache)
{
    ps_region_release(&cache->region);
    *cache = (ps_cache){0};
}

static int *owners_of(const ps_cache_layer *layer, const char *page)
{
    return &layer->n_owners[(size_t)(page - layer->base) / layer->layout.page_bytes];
}

static char *take_page(ps_cache_layer *layer)
{
    assert(layer->n_free > 0 && "a slot's table never refers to more pages than its share");
    char *page = layer->free_pages[--layer->n_free];
    *owners_of(layer, page) = 1;
    return page;
}

static void drop_page(ps_cache_layer *layer, char *page)
{
    if (--*owners_of(layer, page) == 0) layer->free_pages[layer->n_free++] = page;
}

/* Makes the page of one table entry writable. `keep`: positions that are seen may already be in it.
 */
static void own_page(ps_cache_layer *layer, char **entry, bool keep)
{
    char *page = *entry;
    if (page && *owners_of(layer, page) == 1) return;
    if (!page) {
        *entry = take_page(layer);
        return;
    }
    // Shared: leave it to the others. Dropping first is safe, since it stays theirs.
    drop_page(layer, page);
    *entry = take_page(layer);
    if (keep) memcpy(*entry, page, layer->layout.page_bytes);
}

void ps_cache_reserve_in_layer(ps_cache *cache, int number, int slot, int64_t first, int64_t n)
{
    assert(slot >= 0 && slot < cache->n_slots && first >= 0);
    ps_cache_layer *layer = &cache->layers[number];
    char **table = layer->table + (size_t)slot * (size_t)layer->n_pages;
    for (int64_t page = first / PS_KV_PAGE; page <= (first + n - 1) / PS_KV_PAGE; page++) {
        const int64_t index = ps_kv_page_index(page, layer->n_pages, layer->n_fixed);
        own_page(layer, &table[index], page * PS_KV_PAGE < first);
    }
}

void ps_cache_reserve(ps_cache *cache, int slot, int64_t first, int n)
{
    assert(n >= 1);
    for (int l = 0; l < cache->n_layers; l++) {
        ps_cache_reserve_in_layer(cache, l, slot, first, n);
    }
}

void ps_cache_fork(ps_cache *cache, int from, int to)
{
    assert(from != to);
    for (int l = 0; l < cache->n_layers; l++) {
        ps_cache_layer *layer = &cache->layers[l];
        char **source = layer->table + (size_t)from * (size_t)layer->n_pages;
        char **copy = layer->table + (size_t)to * (size_t)layer->n_pages;
        for (int p = 0; p < layer->n_pages; p++) {
            assert(!copy[p] && "a fork goes into an empty slot");
            copy[p] = source[p];
            if (copy[p]) ++*owners_of(layer, copy[p]);
        }
    }
}

void ps_cache_end(ps_cache *cache, int slot)
{
    for (int l = 0; l < cache->n_layers; l++) {
        ps_cache_layer *layer = &cache->layers[l];
        char **table = layer->table + (size_t)slot * (size_t)layer->n_pages;
        for (int p = 0; p < layer->n_pages; p++) {
            if (table[p]) drop_page(layer, table[p]);
            table[p] = NULL;
        }
    }
}

ps_kv_view ps_cache_view(const ps_cache *cache, int layer, int slot)
{
    const ps_cache_layer *l = &cache->layers[layer];
    return (ps_kv_view){.layout = &l->layout,
                        .pages = l->table + (size_t)slot * (size_t)l->n_pages,
                        .n_pages = l->n_pages,
                        .n_fixed = l->n_fixed};
}
