/* A tokenizer.model and the files that Hugging Face puts beside it. Ids and flags of added tokens
 * stand in tokenizer_config.json; before 2023 the ids stood in added_tokens.json, and which of them
 * are special in special_tokens_map.json. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "tool/import/sentencepiece.h"
#include "tool/import/tokenizers.h"

enum { MODEL_BYTES_MAX = 1 << 28, CONFIG_BYTES_MAX = 1 << 26 };

typedef struct directory {
    const char *path;
    json_t *config, *ids, *specials; // NULL: no such file
    ps_sentencepiece *model;
    ps_tokenizer_added *added; // contents borrowed from the JSON
    size_t n_added, capacity;
} directory;

/* A token's content, and where it stands among the added tokens or the pieces. */
typedef struct spelling {
    const char *bytes; // [n]
    size_t n, index;
    bool used;
} spelling;

/* Contents in the order of their bytes, equal ones in that of their index. */
typedef struct spellings {
    spelling *list; // [n]
    size_t n;
} spellings;

static ps_err load(const char *path, const char *name, json_t **out)
{
    ps_text file = {0};
    ps_text_appendf(&file, "%s/%s", path, name);
    ps_err err = PS_OK;
    if (access(file.data, F_OK) == 0) err = ps_json_load(file.data, CONFIG_BYTES_MAX, out);
    if (!err && *out && !json_is_object(*out)) {
        err = PS_FAIL(PS_ERR_FORMAT, "%s: not an object", file.data);
    }
    ps_text_release(&file);
    return err;
}

static void add(directory *d, const ps_tokenizer_added *token)
{
    d->added = ps_mem_grow(d->added, &d->capacity, d->n_added + 1, sizeof *d->added);
    d->added[d->n_added++] = *token;
}

static int compare_ids(const void *a, const void *b, void *added)
{
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    const ps_tokenizer_added *list = added;
    if (list[x].id != list[y].id) return list[x].id < list[y].id ? -1 : 1;
    return x < y ? -1 : 1;
}

/* Sorts the added tokens by id and keeps the first of each. A list of any length may be in the
 * file, and nothing here looks through all of it for each entry. */
static void keep_first_of_each_id(directory *d)
{
    size_t *order = ps_mem_new(d->n_added, sizeof *order), n = 0;
    ps_tokenizer_added *kept = ps_mem_new(d->n_added, sizeof *kept);
    for (size_t i = 0; i < d->n_added; i++) {
        order[i] = i;
    }
    if (d->n_added > 0) qsort_r(order, d->n_added, sizeof *order, compare_ids, d->added);
    for (size_t i = 0; i < d->n_added; i++) {
        const ps_tokenizer_added *token = &d->added[order[i]];
        if (n == 0 || kept[n - 1].id != token->id) kept[n++] = *token;
    }
    ps_mem_free(order);
    ps_mem_free(d->added);
    d->added = kept;
    d->capacity = d->n_added;
    d->n_added = n;
}

static int compare_bytes(const spelling *x, const spelling *y)
{
    const size_t n = x->n < y->n ? x->n : y->n;
    const int order = n > 0 ? memcmp(x->bytes, y->bytes, n) : 0;
    return order != 0 ? order : (x->n > y->n) - (x->n < y->n);
}

static int compare_spellings(const void *a, const void *b)
{
    const spelling *x = a, *y = b;
    const int order = compare_bytes(x, y);
    return order != 0 ? order : (x->index > y->index) - (x->index < y->index);
}

/* Place of the first entry that is not less than these bytes. */
static size_t find_spelling(const spellings *c, const spelling *wanted)
{
    size_t low = 0, high = c->n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (compare_bytes(&c->list[middle], wanted) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void sort_spellings(spellings *c)
{
    if (c->n > 0) qsort(c->list, c->n, sizeof *c->list, compare_spellings);
}

static spellings spellings_of_added(const directory *d)
{
    spellings c = {ps_mem_new(d->n_added, sizeof *c.list), d->n_added};
    for (size_t i = 0; i < c.n; i++) {
        c.list[i] = (spelling){.bytes = d->added[i].content, .n = d->added[i].n, .index = i};
    }
    sort_spellings(&c);
    return c;
}

static spellings spellings_of_pieces(const ps_sentencepiece *model)
{
    spellings c = {ps_mem_new(model->pieces.n, sizeof *c.list), model->pieces.n};
    for (size_t i = 0; i < c.n; i++) {
        c.list[i] = (spelling){.bytes = model->list[i].bytes, .n = model->list[i].n, .index = i};
    }
    sort_spellings(&c);
    return c;
}

/* "added_tokens_decoder": {"32000": {"content": ..., "special": ...}, ...} */
static ps_err read_decoder(directory *d)
{
    json_t *table = NULL, *value;
    const char *key;
    PS_TRY(ps_json_opt(d->config, "added_tokens_decoder", JSON_OBJECT, d->path, &table));
    json_object_foreach(table, key, value)
    {
        char *end;
        const long id = strtol(key, &end, 10);
        const json_t *content = json_object_get(value, "content");
        if (end == key || *end != '\0' || id < 0 || id >= PS_TOKENIZER_MAX_IDS ||
            !json_is_string(content)) {
            return PS_FAIL(PS_ERR_FORMAT,
                           "%s: tokenizer_config.json: added_tokens_decoder: \"%.40s\" is not an "
                           "id with a token",
                           d->path, key);
        }
        ps_tokenizer_added token = {.id = (int32_t)id,
                                    .content = json_string_value(content),
                                    .n = json_string_length(content)};
        PS_TRY(ps_json_opt_bool(value, "special", d->path, &token.special));
        token.normalized = !token.special;
        PS_TRY(ps_json_opt_bool(value, "normalized", d->path, &token.normalized));
        PS_TRY(ps_json_opt_bool(value, "single_word", d->path, &token.single_word));
        PS_TRY(ps_json_opt_bool(value, "lstrip", d->path, &token.lstrip));
        PS_TRY(ps_json_opt_bool(value, "rstrip", d->path, &token.rstrip));
        add(d, &token);
    }
    return PS_OK;
}

/* {"<token>": 32000, ...} */
static ps_err read_ids(directory *d)
{
    const char *key;
    json_t *value;
    json_object_foreach(d->ids, key, value)
    {
        const json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= PS_TOKENIZER_MAX_IDS) {
            return PS_FAIL(PS_ERR_FORMAT, "%s: added_tokens.json: %.100s has no id in 0..%d",
                           d->path, key, PS_TOKENIZER_MAX_IDS - 1);
        }
        const ps_tokenizer_added token = {.id = (int32_t)id, .content = key, .n = strlen(key)};
        add(d, &token);
    }
    return PS_OK;
}

/* A special token by its content: one that was added, or a piece. */
static ps_err mark_special(directory *d, const json_t *json, const spellings *added,
                           const spellings *pieces)
{
    const json_t *text = json_is_object(json) ? json_object_get(json, "content") : json;
    if (!json_is_string(text)) return PS_OK; // null, or a number that says something else
    const spelling wanted = {.bytes = json_string_value(text), .n = json_string_length(text)};
    bool found = false;
    for (size_t i = find_spelling(added, &wanted);
         i < added->n && compare_bytes(&added->list[i], &wanted) == 0; i++) {
        d->added[added->list[i].index].special = true;
        found = true;
    }
    if (found) return PS_OK;
    const size_t at = find_spelling(pieces, &wanted);
    if (at == pieces->n || compare_bytes(&pieces->list[at], &wanted) != 0)
        return PS_FAIL(PS_ERR_FORMAT, "%s: special_tokens_map.json: %.100s is no token", d->path,
                       wanted.bytes);
    spelling *piece = &pieces->list[at];
    if (piece->used) return PS_OK;
    piece->used = true;
    add(d,
        &(ps_tokenizer_added){
            .id = (int32_t)piece->index, .content = wanted.bytes, .n = wanted.n, .special = true});
    return PS_OK;
}

static ps_err read_specials(directory *d)
{
    if (!d->specials) return PS_OK;
    const spellings added = spellings_of_added(d), pieces = spellings_of_pieces(d->model);
    const char *key;
    json_t *value;
    ps_err err = PS_OK;
    json_object_foreach(d->specials, key, value)
    {
        for (size_t i = 0; i < json_array_size(value) && !err; i++) {
            err = mark_special(d, json_array_get(value, i), &added, &pieces);
        }
        if (!err) err = mark_special(d, value, &added, &pieces);
        if (err) break;
    }
    ps_mem_free(pieces.list);
    ps_mem_free(added.list);
    return err;
}

/* Prefix, bos and eos. */
static ps_err read_options(const directory *d, ps_pieces *p)
{
    const ps_sentencepiece *m = d->model;
    const char *class = "";
    bool legacy = true, prefix = p->prefix != PS_PREFIX_NONE;
    PS_TRY(ps_json_opt_text(d->config, "tokenizer_class", d->path, &class));
    const bool is_t5 = strncmp(class, "T5", 2) == 0;
    bool add_bos = !is_t5, add_eos = is_t5;
    PS_TRY(ps_json_opt_bool(d->config, "add_bos_token", d->path, &add_bos));
    PS_TRY(ps_json_opt_bool(d->config, "add_eos_token", d->path, &add_eos));
    PS_TRY(ps_json_opt_bool(d->config, "legacy", d->path, &legacy));
    PS_TRY(ps_json_opt_bool(d->config, "add_prefix_space", d->path, &prefix));
    p->prefix = !prefix ? PS_PREFIX_NONE : legacy ? PS_PREFIX_EACH : PS_PREFIX_FIRST;
    p->bos_id = add_bos ? m->bos_id : -1;
    p->eos_id = add_eos ? m->eos_id : -1;
    return PS_OK;
}

static ps_err read_directory(directory *d, ps_pieces *p)
{
    PS_TRY(load(d->path, "tokenizer_config.json", &d->config));
    PS_TRY(load(d->path, "added_tokens.json", &d->ids));
    PS_TRY(load(d->path, "special_tokens_map.json", &d->specials));
    if (d->config) PS_TRY(read_decoder(d));
    PS_TRY(read_ids(d));
    keep_first_of_each_id(d);
    PS_TRY(read_specials(d));
    if (d->config) PS_TRY(read_options(d, p));
    p->added = d->added;
    p->n_added = d->n_added;
    return PS_OK;
}

ps_err ps_tokenizers_open_sentencepiece(const char *path, const char *directory_path,
                                        ps_tokenizer **out)
{
    ps_text bytes = {0};
    ps_sentencepiece model = {0};
    directory d = {.path = directory_path, .model = &model};
    ps_tokenizer_definition *definition = NULL;
    *out = NULL;
    ps_err err = ps_file_read(path, MODEL_BYTES_MAX, &bytes);
    if (!err) err = ps_sentencepiece_read(ps_text_str(&bytes), bytes.len, path, &model);
    if (err) goto out;
    model.pieces.bos_id = model.bos_id;
    if (model.pieces.unigram && model.bos_id < 0) model.pieces.eos_id = model.eos_id;
    if (directory_path) err = read_directory(&d, &model.pieces);
    if (!err) err = ps_pieces_define(&model.pieces, &definition);
    if (!err) err = ps_tokenizer_build(definition, out);
out:
    ps_mem_free(d.added);
    json_decref(d.specials);
    json_decref(d.ids);
    json_decref(d.config);
    ps_sentencepiece_release(&model);
    ps_text_release(&bytes);
    return err;
}
