/* What the states of ACE-Step need to know of a tokenizer: the text of each token, the ids of some,
 * which run of ids the audio codes are, and how tags and names are spelled. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "serve/acestep_parts.h"
#include "serve/tokenizer_parts.h"

static const char code_beginning[] = "<|audio_code_";

enum { MAX_CODE_DIGITS = 7 }; // more than any id has

bool acestep_is_space(uint32_t c)
{
    return ps_tok_is_space(c) || (c >= 0x1C && c <= 0x1F);
}

void acestep_append_lower(ps_text *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint32_t c;
        char bytes[4];
        i += ps_utf8_decode(text + i, n - i, &c);
        if (c == 0x130) { // the one letter whose lower case is two characters: i and a dot above
            ps_text_append_str(out, "i\xCC\x87");
        } else {
            ps_text_append(out, bytes, ps_utf8_encode(ps_tok_small_letter(c), bytes));
        }
    }
}

void acestep_strip(const char **text, size_t *n)
{
    const char *at = *text, *end = at + *n;
    uint32_t c;
    while (at < end) {
        const size_t length = ps_utf8_decode(at, (size_t)(end - at), &c);
        if (!acestep_is_space(c)) break;
        at += length;
    }
    while (at < end) {
        const char *last = end - 1;
        while (((unsigned char)*last & 0xC0) == 0x80) {
            last--;
        }
        ps_utf8_decode(last, (size_t)(end - last), &c);
        if (!acestep_is_space(c)) break;
        end = last;
    }
    *text = at;
    *n = (size_t)(end - at);
}

const char *acestep_token_text(const ps_acestep_vocabulary *v, int32_t id, size_t *n)
{
    *n = 0;
    if (id < 0 || id >= v->n_tokens) return "";
    const size_t start = id > 0 ? v->text_end[id - 1] : 0;
    *n = v->text_end[id] - start;
    return ps_text_str(&v->bytes) + start;
}

static ps_err decode_all(ps_acestep_vocabulary *v)
{
    v->text_end = ps_mem_new((size_t)v->n_tokens, sizeof *v->text_end);
    for (int32_t id = 0; id < v->n_tokens; id++) {
        PS_TRY(ps_tokenizer_decode(v->tokenizer, &id, 1, false, &v->bytes));
        if (v->bytes.len > UINT32_MAX)
            return PS_FAIL(PS_ERR_LIMIT, "tokenizer: the texts of its tokens are over 4 GiB");
        v->text_end[id] = (uint32_t)v->bytes.len;
    }
    return PS_OK;
}

/* N of <|audio_code_N|>; -1 for other texts. */
static int32_t code_number(const char *text, size_t n)
{
    const size_t begin = sizeof code_beginning - 1;
    if (n < begin + 3 || memcmp(text, code_beginning, begin) != 0) return -1;
    if (memcmp(text + n - 2, "|>", 2) != 0 || n - 2 - begin > MAX_CODE_DIGITS) return -1;
    int32_t number = 0;
    for (size_t i = begin; i < n - 2; i++) {
        if (text[i] < '0' || text[i] > '9') return -1;
        number = number * 10 + (text[i] - '0');
    }
    return number;
}

/* The audio codes must be one run of ids in the order of their numbers, from 0 on: so legal codes
 * are a range, and a code's number is a difference. */
static ps_err find_codes(ps_acestep_vocabulary *v)
{
    int32_t first = -1;
    int count = 0;
    for (int32_t id = 0; id < v->n_tokens; id++) {
        size_t n;
        const char *text = acestep_token_text(v, id, &n);
        const int32_t number = code_number(text, n);
        if (number < 0) continue;
        if (count == 0) first = id;
        if (number != count || id != first + count)
            return PS_FAIL(PS_ERR_FORMAT,
                           "tokenizer: audio codes are not in a row: %.*s is token %d, wanted "
                           "<|audio_code_%d|>%s",
                           (int)n, text, id, count,
                           count > 0 ? " right behind the one before" : "");
        count++;
    }
    if (count == 0)
        return PS_FAIL(PS_ERR_FORMAT, "tokenizer: no audio codes (<|audio_code_0|> ...): not that "
                                      "of an ACE-Step language model");
    v->ids.first_code = first;
    v->ids.n_codes = count;
    return PS_OK;
}

static ps_err count_legal_codes(ps_acestep_vocabulary *v, int wanted)
{
    const int most =
        v->ids.n_codes < PS_ACESTEP_CODEBOOK ? v->ids.n_codes : (int)PS_ACESTEP_CODEBOOK;
    if (wanted < 0 || wanted > most)
        return PS_FAIL(PS_ERR_USAGE, "acestep: %d legal audio codes wanted, the tokenizer has %d",
                       wanted, most);
    v->ids.n_legal_codes = wanted > 0 ? wanted : most;
    return PS_OK;
}

static ps_err find_token(const ps_tokenizer *t, const char *content, int32_t *out)
{
    *out = ps_tokenizer_find(t, content);
    if (*out < 0)
        return PS_FAIL(PS_ERR_FORMAT,
                       "tokenizer: no token %s: not that of an ACE-Step language model", content);
    return PS_OK;
}

/* The token that a text of one character ends in. */
static ps_err find_last(const ps_tokenizer *t, const char *text, int32_t *out)
{
    ps_tokens tokens = {0};
    ps_err err = ps_tokenizer_encode(t, text, strlen(text), false, &tokens);
    if (!err && tokens.n == 0) err = PS_FAIL(PS_ERR_FORMAT, "tokenizer: \"%s\" is no token", text);
    if (!err) *out = tokens.ids[tokens.n - 1];
    ps_tokens_release(&tokens);
    return err;
}

/* The longest beginning of text[0..n) that is one token, and that token's text again. */
static ps_err longest_token(const ps_acestep_vocabulary *v, const char *text, size_t n,
                            ps_tokens *scratch, int32_t *id, size_t *length)
{
    for (*length = n; *length > 0; --*length) {
        size_t decoded;
        scratch->n = 0;
        PS_TRY(ps_tokenizer_encode(v->tokenizer, text, *length, false, scratch));
        if (scratch->n != 1) continue;
        *id = scratch->ids[0];
        const char *back = acestep_token_text(v, *id, &decoded);
        if (decoded == *length && memcmp(back, text, decoded) == 0) break;
    }
    return PS_OK;
}

static ps_err spell(const ps_acestep_vocabulary *v, const char *text, acestep_spelling *out)
{
    ps_tokens scratch = {0};
    ps_err err = PS_OK;
    const size_t n = strlen(text);
    assert(n <= ACESTEP_MAX_SPELLED);
    for (size_t at = 0; at < n && !err;) {
        size_t length;
        err = longest_token(v, text + at, n - at, &scratch, &out->ids[out->n], &length);
        if (!err && length == 0)
            err =
                PS_FAIL(PS_ERR_FORMAT, "tokenizer: \"%s\" cannot be written token by token", text);
        at += length;
        out->n++;
    }
    ps_tokens_release(&scratch);
    return err;
}

static ps_err spell_all(ps_acestep_vocabulary *v)
{
    PS_TRY(spell(v, "<think>", &v->think));
    PS_TRY(spell(v, "</think>", &v->think_end));
    PS_TRY(spell(v, "\n", &v->newline));
    for (ps_acestep_field field = 0; field < PS_ACESTEP_FIELDS; field++) {
        char label[ACESTEP_MAX_SPELLED + 1];
        const int n = snprintf(label, sizeof label, "%s:", ps_acestep_field_name(field));
        assert(n > 0 && n <= ACESTEP_MAX_SPELLED);
        (void)n;
        PS_TRY(spell(v, label, &v->names[field]));
    }
    v->ids.newline = v->newline.ids[0];
    return PS_OK;
}

static ps_err find_ids(ps_acestep_vocabulary *v)
{
    const ps_tokenizer *t = v->tokenizer;
    PS_TRY(find_token(t, "<|im_end|>", &v->ids.eos));
    PS_TRY(find_token(t, "<think>", &v->ids.think));
    PS_TRY(find_token(t, "</think>", &v->ids.think_end));
    v->ids.pad = ps_tokenizer_find(t, "<|endoftext|>");
    PS_TRY(find_last(t, "`", &v->ids.backtick));
    for (int digit = 0; digit < 10; digit++) {
        PS_TRY(find_last(t, (const char[]){(char)('0' + digit), '\0'}, &v->digits[digit]));
    }
    return PS_OK;
}

static ps_err fill(ps_acestep_vocabulary *v, int n_legal_codes)
{
    if (v->n_tokens > v->V)
        return PS_FAIL(PS_ERR_SHAPE, "tokenizer: %d tokens, the model has %d logits", v->n_tokens,
                       v->V);
    PS_TRY(find_ids(v));
    PS_TRY(decode_all(v));
    PS_TRY(find_codes(v));
    PS_TRY(count_legal_codes(v, n_legal_codes));
    PS_TRY(spell_all(v));
    return acestep_trees_grow(v->tokenizer, v->trees);
}

ps_err ps_acestep_vocabulary_new(const ps_tokenizer *t, int V, int n_legal_codes,
                                 ps_acestep_vocabulary **out)
{
    ps_acestep_vocabulary *v = ps_mem_new(1, sizeof *v);
    *out = NULL;
    v->tokenizer = t;
    v->V = V;
    v->n_tokens = ps_tokenizer_size(t);
    const ps_err err = fill(v, n_legal_codes);
    if (err) {
        ps_acestep_vocabulary_free(v);
        return err;
    }
    *out = v;
    return PS_OK;
}

void ps_acestep_vocabulary_free(ps_acestep_vocabulary *v)
{
    if (!v) return;
    acestep_trees_release(v->trees);
    ps_mem_free(v->text_end);
    ps_text_release(&v->bytes);
    ps_mem_free(v);
}

const ps_acestep_ids *ps_acestep_vocabulary_ids(const ps_acestep_vocabulary *v)
{
    return &v->ids;
}
