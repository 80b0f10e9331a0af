#include "serve/state.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "base/mem.h"
#include "serve/state_parts.h"

enum {
    HASH_BYTES = 17,
    JSON_BYTES_MAX = 1 << 28,
    HELD_BYTES_MAX = 1 << 20,
    ENTRIES_MAX = 1 << 24,
};

void ps_state_release(ps_state *state)
{
    ps_request_release(&state->request);
    ps_sampler_memory_release(&state->sampler);
    ps_text_release(&state->held);
    ps_text_release(&state->detokenizer);
    *state = (ps_state){0};
}

static void hash_of(const void *data, size_t n, char *out)
{
    snprintf(out, HASH_BYTES, "%016llx", (unsigned long long)XXH3_64bits(data, n));
}

/* ---- writing ---- */

static ps_err put(ps_h5_writer *w, const char *name, ps_h5_type type, int rank,
                  const uint64_t *dims, const void *data)
{
    size_t bytes = ps_h5_type_bytes(type);
    for (int d = 0; d < rank; d++) {
        bytes *= (size_t)dims[d];
    }
    char hash[HASH_BYTES];
    hash_of(data, bytes, hash);
    PS_TRY(ps_h5_put(w, name, type, rank, dims, data));
    return ps_h5_put_attribute_text(w, name, "xxh3", hash);
}

static ps_err put_text(ps_h5_writer *w, const char *name, const ps_text *text)
{
    const uint64_t dims[1] = {text->len};
    return put(w, name, PS_H5_U8, 1, dims, ps_text_str(text));
}

static ps_err put_stops(ps_h5_writer *w, const ps_request *r)
{
    ps_text all = {0};
    for (int i = 0; i < r->n_stops; i++) {
        ps_text_append(&all, r->stops[i].bytes, r->stops[i].n);
    }
    const ps_err err = put_text(w, "/stops", &all);
    ps_text_release(&all);
    return err;
}

ps_err ps_state_write(ps_h5_writer *w, const ps_state *state, const ps_state_origin *origin)
{
    const uint64_t tokens[1] = {state->request.prompt.n};
    const uint64_t entries[2] = {state->sampler.n, 3};
    ps_text json = {0};
    ps_state_to_json(state, origin, &json);
    ps_err err = ps_h5_put_attribute_text(w, "/", "format", PS_STATE_FORMAT);
    if (!err) err = ps_h5_put_attribute_int(w, "/", "version", PS_STATE_VERSION);
    if (!err) err = put_text(w, "/state", &json);
    if (!err) err = put(w, "/tokens", PS_H5_I32, 1, tokens, state->request.prompt.ids);
    if (!err) err = put(w, "/sampler", PS_H5_I64, 2, entries, state->sampler.entries);
    if (!err) err = put_stops(w, &state->request);
    if (!err) err = put_text(w, "/held", &state->held);
    if (!err && state->has_detokenizer) err = put_text(w, "/detokenizer", &state->detokenizer);
    ps_text_release(&json);
    return err;
}

/* ---- reading ---- */

static ps_err check_hash(ps_h5_file *file, const char *path, const char *name, const void *data,
                         size_t n)
{
    char hash[HASH_BYTES];
    ps_text found = {0};
    hash_of(data, n, hash);
    ps_err err = ps_h5_attribute_text(file, name, "xxh3", &found);
    if (!err && strcmp(ps_text_str(&found), hash) != 0)
        err = PS_FAIL(PS_ERR_FORMAT,
                      "%s: %s: damaged: its bytes do not have the checksum that it names", path,
                      name);
    ps_text_release(&found);
    return err;
}

static ps_err get_text(ps_h5_file *file, const char *path, const char *name, size_t limit,
                       ps_text *out)
{
    PS_TRY(ps_h5_read_bytes(file, name, limit, out));
    return check_hash(file, path, name, ps_text_str(out), out->len);
}

/* An array [n] or [n, columns] of at most `limit` rows; *out is the caller's. */
static ps_err get_rows(ps_h5_file *file, const char *path, const char *name, ps_h5_type type,
                       uint64_t columns, uint64_t limit, void **out, size_t *n)
{
    ps_h5_info info;
    const int rank = columns > 1 ? 2 : 1;
    PS_TRY(ps_h5_find(file, name, &info));
    if (info.type != type || info.rank != rank || info.dims[0] > limit ||
        (rank == 2 && info.dims[1] != columns))
        return PS_FAIL(PS_ERR_SHAPE, "%s: %s is %s of rank %d with %llu rows, wanted %s of rank %d",
                       path, name, ps_h5_type_name(info.type), info.rank,
                       (unsigned long long)info.dims[0], ps_h5_type_name(type), rank);
    *out = ps_mem_new(info.bytes, 1);
    *n = (size_t)info.dims[0];
    PS_TRY(ps_h5_read(file, name, &info, *out));
    return check_hash(file, path, name, *out, info.bytes);
}

static ps_err get_stops(ps_h5_file *file, const char *path, ps_request *r)
{
    size_t wanted = 0;
    for (int i = 0; i < r->n_stops; i++) {
        wanted += r->stops[i].n;
    }
    ps_text all = {0};
    ps_err err = get_text(file, path, "/stops", HELD_BYTES_MAX, &all);
    if (!err && all.len != wanted)
        err = PS_FAIL(PS_ERR_SHAPE, "%s: /stops has %zu bytes, wanted %zu", path, all.len, wanted);
    size_t at = 0;
    for (int i = 0; i < r->n_stops && !err; i++) {
        r->stops[i].bytes = ps_mem_copy_bytes(all.data + at, r->stops[i].n);
        at += r->stops[i].n;
    }
    ps_text_release(&all);
    return err;
}

static ps_err check_format(ps_h5_file *file, const char *path)
{
    ps_text format = {0};
    int64_t version = 0;
    ps_err err = ps_h5_has_attribute(file, "/", "format")
                     ? ps_h5_attribute_text(file, "/", "format", &format)
                     : PS_OK;
    if (!err && strcmp(ps_text_str(&format), PS_STATE_FORMAT) != 0)
        err = PS_FAIL(PS_ERR_FORMAT, "%s: is no state file: its format is \"%s\"", path,
                      ps_text_str(&format));
    if (!err) err = ps_h5_attribute_int(file, "/", "version", &version);
    if (!err && version != PS_STATE_VERSION)
        err = PS_FAIL(PS_ERR_FORMAT, "%s: state version %lld, this program reads %d", path,
                      (long long)version, PS_STATE_VERSION);
    ps_text_release(&format);
    return err;
}

/* The tokens reach from before the caches' end to behind it. */
static ps_err check_positions(const ps_state *s, const char *path)
{
    const int64_t end = s->first + (int64_t)s->request.prompt.n;
    if (s->position >= 1 && s->first <= s->position && end > s->position) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT,
                   "%s: tokens of positions %lld to %lld do not go on from %lld cached positions",
                   path, (long long)s->first, (long long)end - 1, (long long)s->position);
}

static ps_err read_file(ps_h5_file *file, const char *path, const ps_state_origin *origin,
                        ps_state *s)
{
    ps_text json = {0};
    PS_TRY(check_format(file, path));
    ps_err err = get_text(file, path, "/state", JSON_BYTES_MAX, &json);
    if (!err) err = ps_state_from_json(ps_text_str(&json), json.len, path, origin, s);
    ps_text_release(&json);
    PS_TRY(err);
    if (s->finish == PS_FINISH_STOP)
        return PS_FAIL(PS_ERR_FORMAT, "%s: its text has ended, nothing follows it", path);
    void *tokens = NULL, *entries = NULL;
    err = get_rows(file, path, "/tokens", PS_H5_I32, 1, PS_STATE_TOKENS_MAX, &tokens,
                   &s->request.prompt.n);
    s->request.prompt.ids = tokens;
    s->request.prompt.capacity = s->request.prompt.n;
    PS_TRY(err);
    PS_TRY(check_positions(s, path));
    err = get_rows(file, path, "/sampler", PS_H5_I64, 3, ENTRIES_MAX, &entries, &s->sampler.n);
    s->sampler.entries = entries;
    PS_TRY(err);
    PS_TRY(get_stops(file, path, &s->request));
    PS_TRY(get_text(file, path, "/held", HELD_BYTES_MAX, &s->held));
    s->has_detokenizer = ps_h5_exists(file, "/detokenizer");
    if (!s->has_detokenizer) return PS_OK;
    return get_text(file, path, "/detokenizer", JSON_BYTES_MAX, &s->detokenizer);
}

ps_err ps_state_read(const char *path, const ps_state_origin *origin, ps_state *out)
{
    *out = (ps_state){
        .request = {.n_samples = 1, .n_logprobs = -1, .sampling = ps_sample_params_default()}};
    ps_h5_file *file;
    PS_TRY(ps_h5_open(path, &file));
    const ps_err err = read_file(file, path, origin, out);
    ps_h5_close(file);
    return err;
}
