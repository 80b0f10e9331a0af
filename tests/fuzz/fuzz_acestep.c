/* A table of genres, NUL, a value that the user gives, NUL, and numbers, a byte each, that choose
 * among the tokens that ACE-Step's states allow. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "fuzz/fuzz.h"
#include "serve/acestep_states.h"
#include "support/tiny_tokenizer.h"

enum { BYTES = 256, TOKENS_MAX = 200, CODES = 5, TARGET = 3 };

/* Tokens of one byte each: those of ASCII but NUL as characters, the others by number. */
static void append_vocab(ps_text *json)
{
    ps_text_append_str(json, "{\"type\":\"BPE\",\"byte_fallback\":true,\"merges\":[],\"vocab\":{");
    for (int byte = 0; byte < BYTES; byte++) {
        const char *comma = byte > 0 ? "," : "";
        ps_text_appendf(json, byte > 0 && byte < 0x80 ? "%s\"\\u%04x\":%d" : "%s\"<0x%02X>\":%d",
                        comma, byte, byte);
    }
    ps_text_append_str(json, "}}");
}

static void append_added(ps_text *json)
{
    static const char *const contents[] = {"<|im_end|>", "<think>", "</think>"};
    for (int i = 0; i < 3 + CODES; i++) {
        char code[32];
        snprintf(code, sizeof code, "<|audio_code_%d|>", i - 3);
        ps_text_appendf(json,
                        "%s{\"id\":%d,\"content\":\"%s\",\"special\":%s,\"single_word\":false,"
                        "\"lstrip\":false,\"rstrip\":false,\"normalized\":false}",
                        i > 0 ? "," : "[", BYTES + i, i < 3 ? contents[i] : code,
                        i == 0 ? "true" : "false");
    }
    ps_text_append_str(json, "]");
}

/* Made once, for all inputs. */
static const ps_acestep_vocabulary *vocabulary(int *V)
{
    static ps_acestep_vocabulary *made;
    static ps_tokenizer *tokenizer;
    if (!made) {
        ps_text model = {0}, added = {0};
        append_vocab(&model);
        append_added(&added);
        const tiny_tokenizer parts = {
            .model = model.data,
            .added_tokens = added.data,
            .decoder = "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteFallback\"},"
                       "{\"type\":\"Fuse\"}]}",
        };
        fuzz_require(tiny_tokenizer_open(&parts, &tokenizer) == PS_OK);
        fuzz_require(ps_acestep_vocabulary_new(tokenizer, ps_tokenizer_size(tokenizer), 4, &made) ==
                     PS_OK);
        ps_text_release(&model);
        ps_text_release(&added);
    }
    *V = ps_tokenizer_size(tokenizer);
    return made;
}

/* One of the tokens that are expected and allowed, by a number. */
static int32_t choose(ps_constraint *c, int V, unsigned number)
{
    ps_expectation e;
    float logits[2 * BYTES] = {0};
    uint64_t allowed[2 * BYTES / 64] = {0};
    bool all = false;
    c->kind->expect(c, &e);
    if (e.certain >= 0) return e.certain;
    logits[number] = 1.0f;
    for (int i = 0; i < e.n_ranges; i++) {
        fuzz_require(e.ranges[i].first < e.ranges[i].end && e.ranges[i].end <= V);
        fuzz_require(i == 0 || e.ranges[i].first > e.ranges[i - 1].end);
    }
    fuzz_require(c->kind->allow(c, logits, allowed, &all) == PS_OK);
    if (all) return (int32_t)number;
    int32_t token = (int32_t)number;
    for (int tried = 0; !(allowed[token / 64] >> (token % 64) & 1); tried++) {
        fuzz_require(tried < V);
        token = (token + 1) % V;
    }
    return token;
}

static void walk(const ps_acestep_params *p, const ps_acestep_vocabulary *v, int V,
                 fuzz_input choices)
{
    const ps_acestep_ids *ids = ps_acestep_vocabulary_ids(v);
    ps_constraint *c;
    if (!fuzz_is_ok(ps_acestep_states_new(v, p, &c))) return;
    for (size_t i = 0; i < choices.n + TOKENS_MAX; i++) {
        const bool in_codes = strcmp(ps_acestep_states_name(c), "CODES_GENERATION") == 0;
        const unsigned char number = i < choices.n ? (unsigned char)choices.data[i] : 0;
        const int32_t token = choose(c, V, number);
        fuzz_require(token >= 0 && token < V);
        fuzz_require(!in_codes || token == ids->eos ||
                     (token >= ids->first_code && token < ids->first_code + ids->n_legal_codes));
        c->kind->advance(c, token);
        if (token == ids->eos) break;
    }
    fuzz_require(ps_acestep_states_codes(c) <= TARGET * PS_ACESTEP_CODES_PER_SECOND);
    c->kind->free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int V;
    ps_acestep_genres *genres;
    const ps_acestep_vocabulary *v = vocabulary(&V);
    fuzz_input rest = {(const char *)data, size};
    const fuzz_input table = fuzz_take(&rest);
    char *value = fuzz_take_text(&rest);
    ps_acestep_params p = ps_acestep_params_default();
    p.skip_genres = false;
    p.skip_caption = rest.n % 2;
    p.stop_at_reasoning = false;
    p.target_duration = TARGET;
    if (value[0]) p.values[PS_ACESTEP_KEYSCALE] = value;
    if (!fuzz_is_ok(ps_acestep_genres_new(v, table.data, table.n, "table", &genres))) genres = NULL;
    p.genres = genres;
    walk(&p, v, V, rest);
    ps_acestep_genres_free(genres);
    ps_mem_free(value);
    return 0;
}
