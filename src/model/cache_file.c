#include "model/cache_file.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "model/h5.h"

enum { ROWS_AT_ONCE = 64, NAME_BYTES = 32, HASH_BYTES = 17 };

/* What of a layer is in the file. */
typedef struct layer_range {
    int64_t kept, first, end; // positions [0, kept) and [first, end)
    uint64_t n_rows;
} layer_range;

static layer_range find_range(const ps_spec *spec, int layer, int64_t position)
{
    const ps_visible visible = ps_spec_visible(spec, layer);
    layer_range r = {.kept = ps_visible_kept(&visible, position),
                     .first = ps_visible_first(&visible, position),
                     .end = position};
    // A provider may go on from the newest position's numbers, which the next one may not see.
    if (r.first == position) r.first--;
    if (r.kept > r.first) r.kept = r.first;
    r.n_rows = (uint64_t)(r.kept + r.end - r.first);
    return r;
}

static int64_t position_of(const layer_range *r, uint64_t row)
{
    return (int64_t)row < r->kept ? (int64_t)row : r->first + (int64_t)row - r->kept;
}

/* What must be the same in the run that saves and in the one that loads. */
static void describe_policy(const ps_spec *spec, int layer, const ps_kv_layout *layout,
                            ps_text *out)
{
    const ps_visible v = ps_spec_visible(spec, layer);
    ps_text_appendf(out, "window %lld", (long long)v.window);
    if (v.chunk > 0)
        ps_text_appendf(out, ", chunks of %lld and %lld before", (long long)v.chunk,
                        (long long)v.left_chunks);
    if (v.n_kept > 0)
        ps_text_appendf(out, ", first %lld kept at %s positions", (long long)v.n_kept,
                        v.kept_at_cache ? "cache" : "true");
    ps_text_appendf(out, ", %d heads of %d, keys %s, values %s, %d numbers", layout->n_kv_heads,
                    layout->head_dim, ps_dtype_name(layout->types.key),
                    ps_dtype_name(layout->types.value), layout->n_numbers);
}

static void hash_text(XXH3_state_t *state, char *out)
{
    snprintf(out, HASH_BYTES, "%016llx", (unsigned long long)XXH3_64bits_digest(state));
}

/* One layer on its way into a file or out of it. */
typedef struct transfer {
    const ps_cache_part *part;
    const char *path;
    char name[NAME_BYTES]; // of the dataset
    layer_range range;
    size_t row_bytes;
    ps_kv_view view;
    ps_text policy;
    uint8_t *buffer; // [ROWS_AT_ONCE, row_bytes]
    XXH3_state_t *hash;
} transfer;

static void begin(const ps_cache_part *part, int local, int slot, int64_t position,
                  const char *path, transfer *t)
{
    const int layer = part->first_layer + local;
    *t = (transfer){.part = part,
                    .path = path,
                    .range = find_range(part->spec, layer, position),
                    .view = ps_cache_view(part->cache, local, slot),
                    .hash = XXH3_createState()};
    snprintf(t->name, sizeof t->name, "/layers/%03d/cache", layer);
    t->row_bytes = ps_kv_position_bytes(t->view.layout);
    t->buffer = ps_mem_new(ROWS_AT_ONCE * t->row_bytes, 1);
    describe_policy(part->spec, layer, t->view.layout, &t->policy);
    assert(t->hash && "a few hundred bytes");
    XXH3_64bits_reset(t->hash);
}

static void end(transfer *t)
{
    XXH3_freeState(t->hash);
    ps_mem_free(t->buffer);
    ps_text_release(&t->policy);
}

static uint64_t rows_from(const transfer *t, uint64_t row)
{
    const uint64_t left = t->range.n_rows - row;
    return left < ROWS_AT_ONCE ? left : ROWS_AT_ONCE;
}

static ps_err save_layer(transfer *t, ps_h5_writer *w)
{
    const uint64_t dims[2] = {t->range.n_rows, t->row_bytes};
    ps_h5_dataset dataset;
    PS_TRY(ps_h5_begin(w, t->name, PS_H5_U8, 2, dims, &dataset));
    for (uint64_t row = 0; row < t->range.n_rows; row += ROWS_AT_ONCE) {
        const uint64_t n = rows_from(t, row);
        for (uint64_t r = 0; r < n; r++) {
            ps_kv_read_position(&t->view, position_of(&t->range, row + r),
                                t->buffer + r * t->row_bytes);
        }
        XXH3_64bits_update(t->hash, t->buffer, n * t->row_bytes);
        PS_TRY(ps_h5_write_rows(w, dataset, row, n, t->buffer));
    }
    PS_TRY(ps_h5_end(w, dataset));
    char hash[HASH_BYTES];
    hash_text(t->hash, hash);
    PS_TRY(ps_h5_put_attribute_int(w, t->name, "first", t->range.first));
    PS_TRY(ps_h5_put_attribute_int(w, t->name, "kept", t->range.kept));
    PS_TRY(ps_h5_put_attribute_text(w, t->name, "policy", ps_text_str(&t->policy)));
    return ps_h5_put_attribute_text(w, t->name, "xxh3", hash);
}

ps_err ps_cache_save(const ps_cache_part *part, int slot, int64_t position, const char *path)
{
    assert(position >= 1);
    ps_h5_writer *w;
    PS_TRY(ps_h5_append(path, &w));
    ps_err err = PS_OK;
    for (int l = 0; l < part->cache->n_layers && !err; l++) {
        transfer t;
        begin(part, l, slot, position, path, &t);
        err = save_layer(&t, w);
        end(&t);
    }
    if (!err) return ps_h5_commit(w);
    ps_h5_abandon(w);
    return err;
}

/* The text attribute of the layer is what it must be, or the message says both. */
static ps_err check_text(const transfer *t, ps_h5_file *file, const char *name, const char *wanted)
{
    ps_text found = {0};
    ps_err err = ps_h5_attribute_text(file, t->name, name, &found);
    if (!err && strcmp(ps_text_str(&found), wanted) != 0)
        err = PS_FAIL(PS_ERR_FORMAT, "%s: %s: the %s is \"%s\", wanted \"%s\"", t->path, t->name,
                      name, ps_text_str(&found), wanted);
    ps_text_release(&found);
    return err;
}

static ps_err check_int(const transfer *t, ps_h5_file *file, const char *name, int64_t wanted)
{
    int64_t found;
    PS_TRY(ps_h5_attribute_int(file, t->name, name, &found));
    if (found == wanted) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "%s: %s: %s is %lld, wanted %lld", t->path, t->name, name,
                   (long long)found, (long long)wanted);
}

static ps_err check_layer(const transfer *t, ps_h5_file *file, ps_h5_info *info)
{
    PS_TRY(ps_h5_find(file, t->name, info));
    PS_TRY(check_text(t, file, "policy", ps_text_str(&t->policy)));
    PS_TRY(check_int(t, file, "first", t->range.first));
    PS_TRY(check_int(t, file, "kept", t->range.kept));
    if (info->type != PS_H5_U8 || info->rank != 2 || info->dims[0] != t->range.n_rows ||
        info->dims[1] != t->row_bytes)
        return PS_FAIL(
            PS_ERR_SHAPE, "%s: %s is %s of rank %d with %llu rows, wanted u8 [%llu, %zu]", t->path,
            t->name, ps_h5_type_name(info->type), info->rank, (unsigned long long)info->dims[0],
            (unsigned long long)t->range.n_rows, t->row_bytes);
    return PS_OK;
}

static ps_err load_layer(transfer *t, ps_h5_file *file)
{
    ps_h5_info info;
    PS_TRY(check_layer(t, file, &info));
    for (uint64_t row = 0; row < t->range.n_rows; row += ROWS_AT_ONCE) {
        const uint64_t n = rows_from(t, row);
        PS_TRY(ps_h5_read_rows(file, t->name, &info, row, n, t->buffer));
        XXH3_64bits_update(t->hash, t->buffer, n * t->row_bytes);
        for (uint64_t r = 0; r < n; r++) {
            ps_kv_write_position(&t->view, position_of(&t->range, row + r),
                                 t->buffer + r * t->row_bytes);
        }
    }
    char hash[HASH_BYTES];
    hash_text(t->hash, hash);
    if (check_text(t, file, "xxh3", hash) == PS_OK) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT,
                   "%s: %s: damaged: its bytes do not have the checksum that it names", t->path,
                   t->name);
}

ps_err ps_cache_load(const ps_cache_part *part, int slot, int64_t position, const char *path)
{
    assert(position >= 1);
    ps_h5_file *file;
    PS_TRY(ps_h5_open(path, &file));
    ps_err err = PS_OK;
    for (int l = 0; l < part->cache->n_layers && !err; l++) {
        const layer_range r = find_range(part->spec, part->first_layer + l, position);
        if (r.kept > 0) ps_cache_reserve_in_layer(part->cache, l, slot, 0, r.kept);
        ps_cache_reserve_in_layer(part->cache, l, slot, r.first, r.end - r.first);
        transfer t;
        begin(part, l, slot, position, path, &t);
        err = load_layer(&t, file);
        end(&t);
    }
    ps_h5_close(file);
    return err;
}
