/* Post-processors: the tokens around a text. All kinds come to one list of steps, "this id" or "the
 * text", since only ids matter here (their other work, offsets and segments, has no reader). */
#include "serve/tokenizer_parts.h"

#include <string.h>

#include "base/json.h"
#include "base/mem.h"

typedef enum processor_type { TEMPLATE, ROBERTA, BERT, BYTE_LEVEL, TYPE_COUNT } processor_type;

static const char *const type_names[] = {
    [TEMPLATE] = "TemplateProcessing",
    [ROBERTA] = "RobertaProcessing",
    [BERT] = "BertProcessing",
    [BYTE_LEVEL] = "ByteLevel",
};
_Static_assert(sizeof type_names / sizeof *type_names == TYPE_COUNT, "a name for each type");

enum { MAX_STEPS = 1024 };

static ps_err add_step(ps_tok_post *p, ps_tok_post_step step, const char *where)
{
    if (p->n == MAX_STEPS) {
        return PS_FAIL(PS_ERR_LIMIT, "%s: post_processor: more than %d tokens", where, MAX_STEPS);
    }
    p->step = ps_mem_grow(p->step, &p->capacity, p->n + 1, sizeof *p->step);
    p->step[p->n++] = step;
    return PS_OK;
}

static ps_err add_id(ps_tok_post *p, const json_t *id, const char *where)
{
    const json_int_t value = json_integer_value(id);
    if (!json_is_integer(id) || value < 0 || value >= PS_TOKENIZER_MAX_IDS) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: post_processor: a token id is not in 0..%d", where,
                       PS_TOKENIZER_MAX_IDS - 1);
    }
    return add_step(p, (ps_tok_post_step){.id = (int32_t)value}, where);
}

static ps_err add_special(ps_tok_post *p, const ps_tok_component *c, const json_t *piece)
{
    const char *name;
    json_t *table, *token, *ids;
    PS_TRY(ps_json_get_text(piece, "id", c->where, &name));
    PS_TRY(ps_json_get(c->json, "special_tokens", JSON_OBJECT, c->where, &table));
    PS_TRY(ps_json_get(table, name, JSON_OBJECT, c->where, &token));
    PS_TRY(ps_json_get(token, "ids", JSON_ARRAY, c->where, &ids));
    for (size_t i = 0; i < json_array_size(ids); i++) {
        PS_TRY(add_id(p, json_array_get(ids, i), c->where));
    }
    return PS_OK;
}

static ps_err add_sequence(ps_tok_post *p, const ps_tok_component *c, const json_t *piece)
{
    const char *name;
    PS_TRY(ps_json_get_text(piece, "id", c->where, &name));
    if (strcmp(name, "A") != 0) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: the template for one text names the sequence %s",
                       c->where, name);
    }
    return add_step(p, (ps_tok_post_step){.is_text = true}, c->where);
}

static ps_err read_template(ps_tok_post *p, const ps_tok_component *c)
{
    json_t *single;
    PS_TRY(ps_json_get(c->json, "single", JSON_ARRAY, c->where, &single));
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *piece = json_array_get(single, i);
        const json_t *special = json_object_get(piece, "SpecialToken");
        const json_t *sequence = json_object_get(piece, "Sequence");
        if (json_is_object(special)) {
            PS_TRY(add_special(p, c, special));
        } else if (json_is_object(sequence)) {
            PS_TRY(add_sequence(p, c, sequence));
        } else {
            return PS_FAIL(PS_ERR_FORMAT,
                           "%s: a piece of the template is neither SpecialToken nor Sequence",
                           c->where);
        }
    }
    return PS_OK;
}

/* ["</s>", 2] */
static ps_err add_named(ps_tok_post *p, const ps_tok_component *c, const char *key)
{
    json_t *pair;
    PS_TRY(ps_json_get(c->json, key, JSON_ARRAY, c->where, &pair));
    return add_id(p, json_array_get(pair, 1), c->where);
}

static ps_err read_classifier(ps_tok_post *p, const ps_tok_component *c)
{
    PS_TRY(add_named(p, c, "cls"));
    PS_TRY(add_step(p, (ps_tok_post_step){.is_text = true}, c->where));
    return add_named(p, c, "sep");
}

ps_err ps_tok_post_read(ps_tok_post *p, const json_t *tokenizer, const char *where)
{
    const ps_tok_kind kind = {"post_processor", "processors", type_names, TYPE_COUNT};
    ps_tok_component components[PS_TOK_MAX_COMPONENTS];
    int n = 0;
    bool found = false;
    *p = (ps_tok_post){0};
    PS_TRY(ps_tok_read_components(tokenizer, &kind, where, components, &n));
    for (int i = 0; i < n; i++) {
        const processor_type type = (processor_type)components[i].type;
        if (type == BYTE_LEVEL) continue;
        if (found) {
            return PS_FAIL(PS_ERR_UNSUPPORTED,
                           "%s: post_processor: a second one that adds tokens (%s)", where,
                           type_names[type]);
        }
        found = true;
        p->step = ps_mem_grow(p->step, &p->capacity, 1, sizeof *p->step);
        PS_TRY(type == TEMPLATE ? read_template(p, &components[i])
                                : read_classifier(p, &components[i]));
    }
    return PS_OK;
}

void ps_tok_post_release(ps_tok_post *p)
{
    ps_mem_free(p->step);
    *p = (ps_tok_post){0};
}
