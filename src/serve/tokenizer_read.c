/* Components out of JSON. A component is an object with a type; a Sequence holds others and means
 * nothing but their order, so it is flattened here, with a stack of arrays instead of recursion. */
#include "serve/tokenizer_parts.h"

#include <string.h>

#include "base/json.h"

typedef struct level {
    const json_t *array;
    size_t at;
} level;

typedef struct flattener {
    const ps_tok_kind *kind;
    const char *where;
    level stack[PS_TOK_MAX_NESTING];
    int depth;
    ps_tok_component *out;
    int n;
} flattener;

static ps_err push_sequence(flattener *f, const json_t *sequence)
{
    json_t *array;
    PS_TRY(ps_json_get(sequence, f->kind->sequence_key, JSON_ARRAY, f->where, &array));
    if (f->depth == PS_TOK_MAX_NESTING) {
        return PS_FAIL(PS_ERR_LIMIT, "%s: %s: more than %d Sequences in one another", f->where,
                       f->kind->key, PS_TOK_MAX_NESTING);
    }
    f->stack[f->depth++] = (level){.array = array};
    return PS_OK;
}

static ps_err add_component(flattener *f, const json_t *json)
{
    if (!json_is_object(json)) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: a %s is not an object", f->where, f->kind->key);
    }
    const char *type;
    PS_TRY(ps_json_get_text(json, "type", f->where, &type));
    if (strcmp(type, "Sequence") == 0) return push_sequence(f, json);
    if (f->n == PS_TOK_MAX_COMPONENTS) {
        return PS_FAIL(PS_ERR_LIMIT, "%s: %s: more than %d components", f->where, f->kind->key,
                       PS_TOK_MAX_COMPONENTS);
    }
    for (int i = 0; i < f->kind->n_types; i++) {
        if (strcmp(type, f->kind->types[i]) != 0) continue;
        f->out[f->n++] = (ps_tok_component){.json = json, .type = i, .where = f->where};
        return PS_OK;
    }
    return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: %s of type %s is not supported", f->where, f->kind->key,
                   type);
}

ps_err ps_tok_read_components(const json_t *tokenizer, const ps_tok_kind *kind, const char *where,
                              ps_tok_component out[PS_TOK_MAX_COMPONENTS], int *n)
{
    flattener f = {.kind = kind, .where = where, .out = out};
    json_t *root = NULL;
    *n = 0;
    PS_TRY(ps_json_opt(tokenizer, kind->key, JSON_OBJECT, where, &root));
    if (!root) return PS_OK;
    PS_TRY(add_component(&f, root));
    while (f.depth > 0) {
        level *top = &f.stack[f.depth - 1];
        const json_t *next = json_array_get(top->array, top->at++);
        if (!next) {
            f.depth--;
            continue;
        }
        PS_TRY(add_component(&f, next));
    }
    *n = f.n;
    return PS_OK;
}

ps_err ps_tok_read_string(const ps_tok_component *c, const char *key, const char **out, size_t *n)
{
    json_t *value;
    PS_TRY(ps_json_get(c->json, key, JSON_STRING, c->where, &value));
    *out = json_string_value(value);
    *n = json_string_length(value);
    return PS_OK;
}

ps_err ps_tok_read_char(const ps_tok_component *c, const char *key, uint32_t *out)
{
    const char *text;
    size_t n;
    PS_TRY(ps_tok_read_string(c, key, &text, &n));
    if (n == 0 || ps_utf8_decode(text, n, out) != n) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: %s is \"%s\", wanted one character", c->where, key,
                       text);
    }
    return PS_OK;
}

ps_err ps_tok_read_pattern(const ps_tok_component *c, ps_tok_pattern *out)
{
    json_t *pattern;
    PS_TRY(ps_json_get(c->json, "pattern", JSON_OBJECT, c->where, &pattern));
    const ps_tok_component inner = {.json = pattern, .where = c->where};
    const char *text;
    size_t n;
    if (json_object_get(pattern, "String")) {
        PS_TRY(ps_tok_read_string(&inner, "String", &text, &n));
        ps_tok_pattern_literal(out, text, n);
        return PS_OK;
    }
    PS_TRY(ps_tok_read_string(&inner, "Regex", &text, &n));
    return ps_tok_pattern_regex(out, text, n, c->where);
}

ps_err ps_tok_read_choice(const ps_tok_component *c, const char *key, const char *const *names,
                          int n_names, int *out)
{
    const char *name = NULL;
    PS_TRY(ps_json_opt_text(c->json, key, c->where, &name));
    if (!name) return PS_OK;
    for (int i = 0; i < n_names; i++) {
        if (strcmp(name, names[i]) != 0) continue;
        *out = i;
        return PS_OK;
    }
    return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: %s is \"%s\", which is not supported", c->where, key,
                   name);
}
