/* The recorded runs of ACE-Step's constrained decoding. */
#include "support/acestep_lm.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "support/golden_tokenizer.h"

enum { FILE_LIMIT = 1 << 26 };

ps_err acestep_lm_read(const char *name, ps_text *out)
{
    ps_text path = {0};
    ps_text_appendf(&path, "%s/acestep/lm/%s", golden_root(), name);
    const ps_err err = ps_file_read(path.data, FILE_LIMIT, out);
    ps_text_release(&path);
    return err;
}

static ps_err count_legal_codes(int *out)
{
    ps_text text = {0};
    json_t *facts = NULL;
    ps_err err = acestep_lm_read("model/acestep.json", &text);
    if (!err) err = ps_json_parse(text.data, text.len, "acestep.json", &facts);
    if (!err) err = ps_json_get_int(facts, "legal_codes", 1, INT32_MAX, "acestep.json", out);
    json_decref(facts);
    ps_text_release(&text);
    return err;
}

ps_err acestep_lm_open(acestep_lm *out)
{
    ps_text text = {0}, table = {0};
    int n_legal_codes = 0;
    *out = (acestep_lm){0};
    ps_err err = count_legal_codes(&n_legal_codes);
    if (!err) err = acestep_lm_read("model/tokenizer.json", &text);
    if (!err) err = ps_tokenizer_open(text.data, text.len, "tokenizer.json", &out->tokenizer);
    if (err) goto out;
    out->V = ps_tokenizer_size(out->tokenizer);
    err = ps_acestep_vocabulary_new(out->tokenizer, out->V, n_legal_codes, &out->vocabulary);
    if (err) goto out;
    out->ids = ps_acestep_vocabulary_ids(out->vocabulary);
    err = acestep_lm_read("genres.txt", &table);
    if (!err)
        err = ps_acestep_genres_new(out->vocabulary, ps_text_str(&table), table.len, "genres.txt",
                                    &out->genres);
out:
    ps_text_release(&text);
    ps_text_release(&table);
    if (err) acestep_lm_close(out);
    return err;
}

void acestep_lm_close(acestep_lm *lm)
{
    ps_acestep_genres_free(lm->genres);
    ps_acestep_vocabulary_free(lm->vocabulary);
    ps_tokenizer_free(lm->tokenizer);
    *lm = (acestep_lm){0};
}

// ---- parameters ----

static ps_err read_values(const json_t *run, bool is_rewrite, acestep_lm_texts *texts,
                          ps_acestep_params *out)
{
    json_t *values = NULL;
    PS_TRY(ps_json_opt(run, "user_metadata", JSON_OBJECT, "fsm.jsonl", &values));
    for (ps_acestep_field field = 0; field < PS_ACESTEP_FIELDS; field++) {
        const json_t *value = json_object_get(values, ps_acestep_field_name(field));
        char *text = texts->value[field];
        if (!value || json_is_null(value)) continue;
        if (is_rewrite && field == PS_ACESTEP_LANGUAGE) { // skipped, and not put in
            out->skip_language = true;
            continue;
        }
        const int n = json_is_string(value)
                          ? snprintf(text, ACESTEP_LM_TEXTS_MAX, "%s", json_string_value(value))
                          : snprintf(text, ACESTEP_LM_TEXTS_MAX, "%lld",
                                     (long long)json_integer_value(value));
        if (n >= ACESTEP_LM_TEXTS_MAX) return PS_FAIL(PS_ERR_LIMIT, "fsm.jsonl: a long value");
        out->values[field] = text;
    }
    return PS_OK;
}

ps_err acestep_lm_params(const acestep_lm *lm, const json_t *run, acestep_lm_texts *texts,
                         ps_acestep_params *out)
{
    const char *mode, *where = "fsm.jsonl", *genres_file = NULL;
    int phase = 1;
    *out = ps_acestep_params_default();
    PS_TRY(ps_json_get_text(run, "mode", where, &mode));
    PS_TRY(ps_json_opt_int(run, "phase", 1, 2, where, &phase));
    PS_TRY(ps_json_opt_text(run, "genres_file", where, &genres_file));
    PS_TRY(ps_json_opt_real(run, "target_duration", where, &out->target_duration));
    PS_TRY(ps_json_get_int(run, "max_duration", 1, 10000, where, &out->max_duration));
    out->genres = genres_file ? lm->genres : NULL;
    const bool is_generate = strcmp(mode, "generate") == 0;
    out->phase = phase == 2    ? PS_ACESTEP_CODES
                 : is_generate ? PS_ACESTEP_COT
                               : PS_ACESTEP_UNDERSTAND;
    out->skip_genres = out->stop_at_reasoning = false;
    PS_TRY(ps_json_opt_bool(run, "skip_caption", where, &out->skip_caption));
    PS_TRY(ps_json_opt_bool(run, "skip_genres", where, &out->skip_genres));
    PS_TRY(ps_json_opt_bool(run, "skip_language", where, &out->skip_language));
    PS_TRY(ps_json_opt_bool(run, "stop_at_reasoning", where, &out->stop_at_reasoning));
    return read_values(run, strcmp(mode, "rewrite") == 0, texts, out);
}

// ---- logits ----

/* The README's hash: 24 bits of (seed and row, tokens so far, token), each step one to one in the
 * token, so that all logits of a step differ. */
static double hash_logit(uint32_t s, uint32_t t, uint32_t token)
{
    const uint32_t mask = 0xFFFFFF;
    uint32_t k = t * 0x85EBCA77u + s * 0xC2B2AE3Du;
    k ^= k >> 15;
    k *= 0x2C1B3C6Du;
    k ^= k >> 12;
    k *= 0x297A2D39u;
    k ^= k >> 15;
    uint32_t x = (token + (k & mask)) & mask;
    x = (x * 0x5D1B35u) & mask;
    x ^= x >> 11;
    x = (x * 0xA2C9D3u) & mask;
    x ^= k >> 8;
    x ^= x >> 13;
    x = (x * 0x1B8735u) & mask;
    x ^= x >> 12;
    return x * 0x1p-20 - 8.0;
}

static void hash_row(const json_t *logits, uint32_t row, int t, int V, float *out)
{
    const uint32_t seed = (uint32_t)json_integer_value(json_object_get(logits, "hash_seed"));
    double *sums = ps_mem_new((size_t)V, sizeof *sums);
    for (int token = 0; token < V; token++) {
        sums[token] = hash_logit(seed + row, (uint32_t)t, (uint32_t)token);
    }
    size_t i;
    json_t *boost;
    json_array_foreach(json_object_get(logits, "boosts"), i, boost)
    {
        const json_int_t first = json_integer_value(json_array_get(boost, 0));
        const json_int_t end = json_integer_value(json_array_get(boost, 1));
        for (json_int_t token = first; token < end && token < V; token++) {
            sums[token] += json_number_value(json_array_get(boost, 2));
        }
    }
    for (int token = 0; token < V; token++) {
        out[token] = (float)sums[token];
    }
    ps_mem_free(sums);
}

void acestep_lm_hash_logits(const json_t *run, int t, int V, float *out)
{
    const json_t *logits = json_object_get(run, "logits");
    const float scale = (float)json_number_value(json_object_get(run, "cfg_scale"));
    hash_row(logits, 0, t, V, out);
    if (!(scale > 1.0f)) return;
    float *uncond = ps_mem_new((size_t)V, sizeof *uncond);
    hash_row(logits, 1, t, V, uncond);
    for (int token = 0; token < V; token++) {
        out[token] = uncond[token] + scale * (out[token] - uncond[token]);
    }
    ps_mem_free(uncond);
}

// ---- sets ----

bool acestep_lm_is_set(const json_t *set, const uint64_t *bits, int V, ps_text *found)
{
    char hash[PS_SHA256_TEXT_BYTES];
    ps_text ids = {0};
    size_t n = 0;
    for (int v = 0; v < V; v++) {
        if (!(bits[v / 64] >> (v % 64) & 1)) continue;
        const unsigned char bytes[4] = {(unsigned char)v, (unsigned char)(v >> 8),
                                        (unsigned char)(v >> 16), (unsigned char)(v >> 24)};
        ps_text_append(&ids, bytes, 4);
        if (n++ < 64) ps_text_appendf(found, "%d ", v);
    }
    ps_text_appendf(found, "(%zu)", n);
    const ps_err err = ps_sha256_text(ps_text_str(&ids), ids.len, hash);
    ps_text_release(&ids);
    const char *wanted = json_string_value(json_object_get(set, "sha256"));
    return !err && json_integer_value(json_object_get(set, "n")) == (json_int_t)n && wanted &&
           strcmp(wanted, hash) == 0;
}
