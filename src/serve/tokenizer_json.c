/* The definition in a tokenizer.json. What is large is taken out of the JSON (vocabulary, merges,
 * added tokens); what is left of it is the pipeline. */
#include "serve/tokenizer_parts.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

// ---- vocabularies ----

static ps_err check_id(const char *where, json_int_t id)
{
    if (id >= 0 && id < PS_TOKENIZER_MAX_IDS) return PS_OK;
    return PS_FAIL(PS_ERR_LIMIT, "%s: a token has the id %lld, wanted 0..%d", where, (long long)id,
                   PS_TOKENIZER_MAX_IDS - 1);
}

/* {"token": id, ...} */
static ps_err read_vocab_object(json_t *object, const char *where, ps_tokenizer_definition **out)
{
    const char *token;
    json_t *value;
    json_int_t highest = -1;
    json_object_foreach(object, token, value)
    {
        if (!json_is_integer(value)) {
            return PS_FAIL(PS_ERR_FORMAT, "%s: the id of token %s is not an integer", where, token);
        }
        PS_TRY(check_id(where, json_integer_value(value)));
        if (json_integer_value(value) > highest) highest = json_integer_value(value);
    }
    *out = ps_tokenizer_definition_new((int32_t)highest + 1, json_object_size(object), where);
    json_object_foreach(object, token, value)
    {
        const int32_t id = (int32_t)json_integer_value(value);
        PS_TRY(ps_tokenizer_define_token(*out, id, token, strlen(token)));
    }
    return PS_OK;
}

/* A score as the library has it. It reads numbers with two roundings, of the digits and of their
 * product with a power of ten (serde_json without float_roundtrip), so that 17 digits can come out
 * one unit off. Where two segmentations have the same sum, which occurs, that decides. The digits
 * in the file are the shortest that give the number, so they can be had back from it. */
static double score_as_read(double exact)
{
    char text[40];
    int n_digits = 14;
    do {
        snprintf(text, sizeof text, "%.*e", n_digits++, fabs(exact));
    } while (n_digits < 17 && strtod(text, NULL) != fabs(exact));
    uint64_t digits = 0;
    int n_decimals = 0;
    const char *at = text;
    for (; *at != 'e' && *at != '\0'; at++) {
        if (*at == '.') continue;
        digits = 10 * digits + (uint64_t)(*at - '0');
        n_decimals += at > text;
    }
    if (*at != 'e') return exact; // NaN and infinity, which JSON does not have
    const long exponent = strtol(at + 1, NULL, 10) - n_decimals;
    char power_text[32];
    snprintf(power_text, sizeof power_text, "1e%ld", labs(exponent));
    const double power = strtod(power_text, NULL);
    const double magnitude = exponent < 0 ? (double)digits / power : (double)digits * power;
    return isfinite(power) ? copysign(magnitude, exact) : exact;
}

/* [["token", score], ...]; the place is the id. */
static ps_err read_vocab_list(const json_t *list, const char *where, ps_tokenizer_definition **out)
{
    const size_t n = json_array_size(list);
    if (n == 0 || n > PS_TOKENIZER_MAX_IDS) {
        return PS_FAIL(PS_ERR_LIMIT, "%s: a vocabulary of %zu tokens, wanted 1..%d", where, n,
                       PS_TOKENIZER_MAX_IDS);
    }
    *out = ps_tokenizer_definition_new((int32_t)n, n, where);
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(list, i);
        const json_t *token = json_array_get(entry, 0), *score = json_array_get(entry, 1);
        if (!json_is_string(token) || !json_is_number(score)) {
            return PS_FAIL(PS_ERR_FORMAT, "%s: token %zu is not a pair of string and score", where,
                           i);
        }
        PS_TRY(ps_tokenizer_define_token(*out, (int32_t)i, json_string_value(token),
                                         json_string_length(token)));
        ps_tokenizer_define_score(*out, (int32_t)i, score_as_read(json_number_value(score)));
    }
    return PS_OK;
}

// ---- merges ----

/* One merge: an array of two strings, or one string with a blank in between. */
static ps_err read_merge_strings(const json_t *merge, const char *where, size_t rank,
                                 ps_text part[2])
{
    ps_text_clear(&part[0]);
    ps_text_clear(&part[1]);
    if (json_is_string(merge)) {
        const char *text = json_string_value(merge);
        const size_t n = json_string_length(merge);
        const char *blank = memchr(text, ' ', n);
        if (blank && !memchr(blank + 1, ' ', n - (size_t)(blank + 1 - text))) {
            ps_text_append(&part[0], text, (size_t)(blank - text));
            ps_text_append(&part[1], blank + 1, n - (size_t)(blank + 1 - text));
            return PS_OK;
        }
    } else if (json_array_size(merge) == 2 && json_is_string(json_array_get(merge, 0)) &&
               json_is_string(json_array_get(merge, 1))) {
        for (size_t i = 0; i < 2; i++) {
            const json_t *string = json_array_get(merge, i);
            ps_text_append(&part[i], json_string_value(string), json_string_length(string));
        }
        return PS_OK;
    }
    return PS_FAIL(PS_ERR_FORMAT, "%s: merge %zu is not a pair of tokens", where, rank);
}

static ps_err find_token(const ps_tokenizer_definition *d, const ps_text *token, size_t rank,
                         int32_t *id)
{
    *id = ps_tokenizer_defined_id(d, ps_text_str(token), token->len);
    if (*id >= 0) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "%s: merge %zu names the token \"%.*s\", not in the vocabulary",
                   d->where, rank, token->len < 100 ? (int)token->len : 100, ps_text_str(token));
}

/* part is scratch. `prefix` is what the right one of two tokens loses when they are merged. */
static ps_err read_merge(ps_tokenizer_definition *d, const json_t *json, uint32_t rank,
                         const char *prefix, ps_text part[2])
{
    ps_tokenizer_merge merge = {.rank = rank};
    PS_TRY(read_merge_strings(json, d->where, rank, part));
    PS_TRY(find_token(d, &part[0], rank, &merge.left));
    PS_TRY(find_token(d, &part[1], rank, &merge.right));
    const size_t prefix_bytes = strlen(prefix);
    if (part[1].len < prefix_bytes) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: merge %u: the right token lacks the prefix %s", d->where,
                       rank, prefix);
    }
    ps_text_append(&part[0], ps_text_str(&part[1]) + prefix_bytes, part[1].len - prefix_bytes);
    PS_TRY(find_token(d, &part[0], rank, &merge.merged));
    return ps_tokenizer_define_merge(d, &merge);
}

static bool is_version_line(const json_t *merge)
{
    const char *text = json_string_value(merge);
    return text && strncmp(text, "#version", 8) == 0;
}

static ps_err read_merges(ps_tokenizer_definition *d, const json_t *model)
{
    assert(d);
    json_t *merges;
    const char *prefix = "";
    PS_TRY(ps_json_get(model, "merges", JSON_ARRAY, d->where, &merges));
    PS_TRY(ps_json_opt_text(model, "continuing_subword_prefix", d->where, &prefix));
    ps_text part[2] = {{0}, {0}};
    uint32_t rank = 0;
    ps_err err = PS_OK;
    for (size_t i = 0; i < json_array_size(merges) && !err; i++) {
        const json_t *merge = json_array_get(merges, i);
        if (!is_version_line(merge)) err = read_merge(d, merge, rank++, prefix, part);
    }
    ps_text_release(&part[0]);
    ps_text_release(&part[1]);
    return err;
}

// ---- models ----

/* Files from before 2021 do not name the type: BPE is the one with merges, Unigram the one whose
 * vocabulary is a list. */
static ps_err read_model_type(json_t *model, const char *where, ps_tok_model *out)
{
    const char *type = NULL;
    PS_TRY(ps_json_opt_text(model, "type", where, &type));
    if (!type) {
        type = json_object_get(model, "merges")                 ? "BPE"
               : json_is_array(json_object_get(model, "vocab")) ? "Unigram"
                                                                : "WordPiece";
    }
    if (strcmp(type, "BPE") != 0 && strcmp(type, "Unigram") != 0) {
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: model of type %s is not supported", where, type);
    }
    *out = strcmp(type, "BPE") == 0 ? PS_TOK_BPE : PS_TOK_UNIGRAM;
    json_object_set_new(model, "type", json_string(*out == PS_TOK_BPE ? "BPE" : "Unigram"));
    return PS_OK;
}

static ps_err read_model(json_t *root, const char *where, ps_tokenizer_definition **out)
{
    json_t *model, *vocab;
    ps_tok_model type = PS_TOK_BPE;
    PS_TRY(ps_json_get(root, "model", JSON_OBJECT, where, &model));
    PS_TRY(read_model_type(model, where, &type));
    if (type == PS_TOK_BPE) {
        PS_TRY(ps_json_get(model, "vocab", JSON_OBJECT, where, &vocab));
        PS_TRY(read_vocab_object(vocab, where, out));
        PS_TRY(read_merges(*out, model));
    } else {
        PS_TRY(ps_json_get(model, "vocab", JSON_ARRAY, where, &vocab));
        PS_TRY(read_vocab_list(vocab, where, out));
    }
    json_object_del(model, "vocab");
    json_object_del(model, "merges");
    return PS_OK;
}

// ---- added tokens ----

static ps_err read_added_token(ps_tokenizer_definition *d, const json_t *json)
{
    const ps_tok_component c = {.json = json, .where = d->where};
    ps_tokenizer_added token = {0};
    int id;
    if (!json_is_object(json)) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: an added token is not an object", d->where);
    }
    PS_TRY(ps_json_get_int(json, "id", 0, PS_TOKENIZER_MAX_IDS - 1, d->where, &id));
    PS_TRY(ps_tok_read_string(&c, "content", &token.content, &token.n));
    PS_TRY(ps_json_opt_bool(json, "special", d->where, &token.special));
    token.id = id;
    token.normalized = !token.special;
    PS_TRY(ps_json_opt_bool(json, "normalized", d->where, &token.normalized));
    PS_TRY(ps_json_opt_bool(json, "single_word", d->where, &token.single_word));
    PS_TRY(ps_json_opt_bool(json, "lstrip", d->where, &token.lstrip));
    PS_TRY(ps_json_opt_bool(json, "rstrip", d->where, &token.rstrip));
    return ps_tokenizer_define_added(d, &token);
}

static ps_err read_added_tokens(ps_tokenizer_definition *d, json_t *root)
{
    json_t *list = NULL;
    PS_TRY(ps_json_opt(root, "added_tokens", JSON_ARRAY, d->where, &list));
    for (size_t i = 0; i < json_array_size(list); i++) {
        PS_TRY(read_added_token(d, json_array_get(list, i)));
    }
    json_object_del(root, "added_tokens");
    return PS_OK;
}

// ---- the whole ----

/* Padding a batch to its longest text does nothing to a text alone, if no multiple is asked for. */
static ps_err check_padding(const json_t *root, const char *where)
{
    json_t *padding = NULL, *multiple = NULL;
    PS_TRY(ps_json_opt(root, "padding", JSON_OBJECT, where, &padding));
    if (!padding) return PS_OK;
    PS_TRY(ps_json_opt(padding, "pad_to_multiple_of", JSON_INTEGER, where, &multiple));
    const char *strategy = json_string_value(json_object_get(padding, "strategy"));
    if (strategy && strcmp(strategy, "BatchLongest") == 0 && !multiple) return PS_OK;
    return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: padding is not supported", where);
}

static ps_err check_header(const json_t *root, const char *where)
{
    if (!json_is_object(root)) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: a tokenizer is an object", where);
    }
    const char *version = "1.0";
    json_t *truncation = NULL;
    PS_TRY(ps_json_opt_text(root, "version", where, &version));
    if (strcmp(version, "1.0") != 0) {
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: version %s, wanted 1.0", where, version);
    }
    PS_TRY(ps_json_opt(root, "truncation", JSON_OBJECT, where, &truncation));
    if (truncation) return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: truncation is not supported", where);
    return check_padding(root, where);
}

ps_err ps_tok_read_json(const char *json, size_t n, const char *where,
                        ps_tokenizer_definition **out)
{
    json_t *root;
    *out = NULL;
    PS_TRY(ps_json_parse(json, n, where, &root));
    ps_err err = check_header(root, where);
    if (!err) err = read_model(root, where, out);
    if (!err) err = read_added_tokens(*out, root);
    if (!err) ps_tokenizer_define_pipeline(*out, json_incref(root));
    json_decref(root);
    return err;
}
