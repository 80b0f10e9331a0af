/* A tokenizer as bytes: what a model file holds, and what opens fast.
 *
 * A tokenizer.json of 20 to 30 MB takes most of a second to parse. Here the tables lie as numbers,
 * merges and joints in the order of their slots in the hash tables, so that filling those goes
 * through memory in one direction, and the tokens of a Unigram model are sorted.
 *
 *   magic    8 bytes
 *   counts   u32 each: version, ids, tokens, bytes of strings, merges, joints, added tokens, bytes
 *            of those, scores, order, bytes of pipeline
 *   lengths  u16[ids]     of the tokens' strings; 65535: no token has this id
 *   strings  bytes        one behind the other, by id
 *   merges   u32[4]       left, right, merged, rank
 *   joints   u32[2]       pairs of characters
 *   added    u32 id, u16 bytes, u16 flags
 *   contents bytes        of the added tokens
 *   scores   f64[ids]     or none
 *   order    u32          ids sorted by their strings, or none
 *   pipeline bytes        JSON
 * All little endian, nothing in between, nothing behind. Where it lies is checksummed, but what it
 * says is believed no more than a tokenizer.json: every length, id and character is checked. */
#include "serve/tokenizer_parts.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

static const char magic[8] = {'P', 'S', 'T', 'O', 'K', 'E', 'N', '\n'};

enum { VERSION = 1, NO_TOKEN = UINT16_MAX };

typedef enum count {
    COUNT_VERSION,
    COUNT_IDS,
    COUNT_TOKENS,
    COUNT_STRING_BYTES,
    COUNT_MERGES,
    COUNT_JOINTS,
    COUNT_ADDED,
    COUNT_ADDED_BYTES,
    COUNT_SCORES,
    COUNT_ORDER,
    COUNT_PIPELINE_BYTES,
    N_COUNTS
} count;

enum added_flag {
    SINGLE_WORD = 1,
    LSTRIP = 2,
    RSTRIP = 4,
    NORMALIZED = 8,
    SPECIAL = 16,
    VERBATIM = 32,
    ALL_FLAGS = 63
};

// ---- numbers ----

static void put_u16(ps_text *out, uint32_t value)
{
    const unsigned char bytes[2] = {(unsigned char)value, (unsigned char)(value >> 8)};
    ps_text_append(out, bytes, sizeof bytes);
}

static void put_u32(ps_text *out, uint32_t value)
{
    const unsigned char bytes[4] = {(unsigned char)value, (unsigned char)(value >> 8),
                                    (unsigned char)(value >> 16), (unsigned char)(value >> 24)};
    ps_text_append(out, bytes, sizeof bytes);
}

static void put_f64(ps_text *out, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_u32(out, (uint32_t)bits);
    put_u32(out, (uint32_t)(bits >> 32));
}

static uint32_t get_u16(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

static uint32_t get_u32(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static double get_f64(const unsigned char *at)
{
    const uint64_t bits = (uint64_t)get_u32(at + 4) << 32 | get_u32(at);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// ---- writing ----

static size_t put_merges(const ps_tok_bpe *b, ps_text *out)
{
    size_t n = 0;
    for (size_t i = 0; b->merges && i <= b->merge_mask; i++) {
        const ps_tok_merge_slot *slot = &b->merges[i];
        if (slot->rank == UINT32_MAX) continue;
        put_u32(out, (uint32_t)(slot->pair >> 32));
        put_u32(out, (uint32_t)slot->pair);
        put_u32(out, (uint32_t)slot->merged);
        put_u32(out, slot->rank);
        n++;
    }
    return n;
}

static size_t put_joints(const ps_tok_bpe *b, ps_text *out)
{
    size_t n = 0;
    for (size_t i = 0; b->joint && i <= b->joint_mask; i++) {
        if (b->joint[i] == UINT64_MAX) continue;
        put_u32(out, (uint32_t)(b->joint[i] >> 32));
        put_u32(out, (uint32_t)b->joint[i]);
        n++;
    }
    return n;
}

static uint32_t flags_of(const ps_tok_added_token *token)
{
    return (token->single_word ? SINGLE_WORD : 0u) | (token->lstrip ? LSTRIP : 0u) |
           (token->rstrip ? RSTRIP : 0u) | (token->normalized ? NORMALIZED : 0u) |
           (token->special ? SPECIAL : 0u) | (token->verbatim ? VERBATIM : 0u);
}

static void put_added(const ps_tok_added *a, ps_text *table, ps_text *contents)
{
    for (int i = 0; i < a->n; i++) {
        const ps_tok_added_token *token = &a->token[i];
        put_u32(table, (uint32_t)token->id);
        put_u16(table, (uint32_t)token->n);
        put_u16(table, flags_of(token));
        ps_text_append(contents, token->content, token->n);
    }
}

/* Ids of the tokens that a Unigram model can find, sorted by their strings. */
static size_t put_order(const ps_tokenizer *t, ps_text *out)
{
    if (t->model != PS_TOK_UNIGRAM || !t->score) return 0;
    ps_tok_key *keys = ps_mem_new((size_t)t->vocab.size, sizeof *keys);
    size_t n = 0;
    for (int32_t id = 0; id < t->vocab.size; id++) {
        ps_tok_key key = {.value = id};
        if (!ps_tok_vocab_text(&t->vocab, id, &key.bytes, &key.n)) continue;
        if (key.n > 0 && t->score[id] != -INFINITY) keys[n++] = key;
    }
    ps_tok_trie_sort(keys, n);
    for (size_t i = 0; i < n; i++) {
        put_u32(out, (uint32_t)keys[i].value);
    }
    ps_mem_free(keys);
    return n;
}

static size_t put_tokens(const ps_tok_vocab *v, ps_text *lengths, ps_text *strings)
{
    size_t n_tokens = 0;
    for (int32_t id = 0; id < v->size; id++) {
        const char *token;
        size_t n;
        const bool there = ps_tok_vocab_text(v, id, &token, &n);
        put_u16(lengths, there ? (uint32_t)n : NO_TOKEN);
        if (there) ps_text_append(strings, token, n);
        n_tokens += there;
    }
    return n_tokens;
}

enum { LENGTHS, STRINGS, MERGES, JOINTS, ADDED, CONTENTS, SCORES, ORDER, PIPELINE, N_SECTIONS };

void ps_tokenizer_pack(const ps_tokenizer *t, ps_text *out)
{
    assert(t && out);
    ps_text section[N_SECTIONS] = {{0}};
    uint32_t counts[N_COUNTS] = {[COUNT_VERSION] = VERSION,
                                 [COUNT_IDS] = (uint32_t)t->vocab.size,
                                 [COUNT_ADDED] = (uint32_t)t->added.n,
                                 [COUNT_SCORES] = t->score ? (uint32_t)t->vocab.size : 0};
    counts[COUNT_TOKENS] = (uint32_t)put_tokens(&t->vocab, &section[LENGTHS], &section[STRINGS]);
    counts[COUNT_MERGES] = (uint32_t)put_merges(&t->bpe, &section[MERGES]);
    counts[COUNT_JOINTS] = (uint32_t)put_joints(&t->bpe, &section[JOINTS]);
    put_added(&t->added, &section[ADDED], &section[CONTENTS]);
    for (uint32_t i = 0; i < counts[COUNT_SCORES]; i++) {
        put_f64(&section[SCORES], t->score[i]);
    }
    counts[COUNT_ORDER] = (uint32_t)put_order(t, &section[ORDER]);
    char *pipeline = json_dumps(t->pipeline, JSON_COMPACT | JSON_SORT_KEYS);
    ps_text_append_str(&section[PIPELINE], pipeline ? pipeline : "");
    free(pipeline);
    counts[COUNT_STRING_BYTES] = (uint32_t)section[STRINGS].len;
    counts[COUNT_ADDED_BYTES] = (uint32_t)section[CONTENTS].len;
    counts[COUNT_PIPELINE_BYTES] = (uint32_t)section[PIPELINE].len;
    ps_text_append(out, magic, sizeof magic);
    for (int i = 0; i < N_COUNTS; i++) {
        put_u32(out, counts[i]);
    }
    for (int i = 0; i < N_SECTIONS; i++) {
        ps_text_append(out, ps_text_str(&section[i]), section[i].len);
        ps_text_release(&section[i]);
    }
}

// ---- reading ----

bool ps_tok_is_packed(const char *bytes, size_t n)
{
    return n >= sizeof magic && memcmp(bytes, magic, sizeof magic) == 0;
}

typedef struct packed {
    const char *where;
    uint32_t count[N_COUNTS];
    const unsigned char *section[N_SECTIONS];
} packed;

static ps_err read_head(packed *p, const unsigned char *bytes, size_t n)
{
    const size_t head = sizeof magic + 4 * N_COUNTS;
    if (n < head) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: the tokenizer's head is cut short: %zu bytes", p->where,
                       n);
    }
    for (size_t i = 0; i < N_COUNTS; i++) {
        p->count[i] = get_u32(bytes + sizeof magic + 4 * i);
    }
    const uint32_t *c = p->count;
    if (c[COUNT_VERSION] != VERSION) {
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: tokenizer of version %u, this program reads %d",
                       p->where, c[COUNT_VERSION], VERSION);
    }
    // Counts have 32 bits and entries at most 16 bytes: no sum can overflow.
    const uint64_t size[N_SECTIONS] = {
        [LENGTHS] = 2 * (uint64_t)c[COUNT_IDS],        [STRINGS] = c[COUNT_STRING_BYTES],
        [MERGES] = 16 * (uint64_t)c[COUNT_MERGES],     [JOINTS] = 8 * (uint64_t)c[COUNT_JOINTS],
        [ADDED] = 8 * (uint64_t)c[COUNT_ADDED],        [CONTENTS] = c[COUNT_ADDED_BYTES],
        [SCORES] = 8 * (uint64_t)c[COUNT_SCORES],      [ORDER] = 4 * (uint64_t)c[COUNT_ORDER],
        [PIPELINE] = (uint64_t)c[COUNT_PIPELINE_BYTES]};
    uint64_t at = head;
    for (int i = 0; i < N_SECTIONS; i++) {
        p->section[i] = at <= n ? bytes + at : NULL;
        at += size[i];
    }
    if (at != n) {
        return PS_FAIL(PS_ERR_FORMAT, "%s: the tokenizer has %zu bytes, its head says %llu",
                       p->where, n, (unsigned long long)at);
    }
    return PS_OK;
}

static ps_err check_counts(const packed *p)
{
    const uint32_t *c = p->count;
    const bool good = c[COUNT_IDS] <= PS_TOKENIZER_MAX_IDS && c[COUNT_TOKENS] <= c[COUNT_IDS] &&
                      c[COUNT_MERGES] <= PS_TOKENIZER_MAX_IDS &&
                      c[COUNT_JOINTS] <= PS_TOKENIZER_MAX_IDS &&
                      (c[COUNT_SCORES] == 0 || c[COUNT_SCORES] == c[COUNT_IDS]) &&
                      c[COUNT_ORDER] <= c[COUNT_SCORES];
    if (good) return PS_OK;
    return PS_FAIL(
        PS_ERR_FORMAT, "%s: a tokenizer of %u ids, %u tokens, %u merges, %u joints, %u scores",
        p->where, c[COUNT_IDS], c[COUNT_TOKENS], c[COUNT_MERGES], c[COUNT_JOINTS], c[COUNT_SCORES]);
}

static bool begins_char(char c)
{
    return ((unsigned char)c & 0xC0) != 0x80;
}

/* The strings are valid if their sum is and no string begins in the middle of a character. */
static ps_err unpack_tokens(const packed *p, ps_tok_vocab *v)
{
    const char *strings = (const char *)p->section[STRINGS];
    const size_t total = p->count[COUNT_STRING_BYTES];
    size_t at = 0, n_tokens = 0;
    bool good = ps_utf8_valid_prefix(strings, total, NULL) == total;
    for (uint32_t id = 0; good && id < p->count[COUNT_IDS]; id++) {
        const uint32_t n = get_u16(p->section[LENGTHS] + 2 * (size_t)id);
        if (n == NO_TOKEN) continue;
        good = n <= PS_TOK_MAX_TOKEN_BYTES && n <= total - at &&
               n_tokens < p->count[COUNT_TOKENS] && (n == 0 || begins_char(strings[at]));
        if (!good) break;
        ps_tok_vocab_add(v, (int32_t)id, strings + at, n);
        at += n;
        n_tokens++;
    }
    if (good && at == total && n_tokens == p->count[COUNT_TOKENS]) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "%s: the tokenizer's strings are damaged at token %zu", p->where,
                   n_tokens);
}

static ps_err unpack_merges(const packed *p, ps_tokenizer_definition *d)
{
    const unsigned char *at = p->section[MERGES];
    d->merge_capacity = p->count[COUNT_MERGES];
    d->merge = ps_mem_new(d->merge_capacity, sizeof *d->merge);
    for (uint32_t i = 0; i < p->count[COUNT_MERGES]; i++, at += 16) {
        // Ids beyond INT32_MAX turn negative and are refused with the others.
        const ps_tokenizer_merge merge = {.left = (int32_t)get_u32(at),
                                          .right = (int32_t)get_u32(at + 4),
                                          .merged = (int32_t)get_u32(at + 8),
                                          .rank = get_u32(at + 12)};
        PS_TRY(ps_tokenizer_define_merge(d, &merge));
    }
    return PS_OK;
}

static ps_err unpack_joints(const packed *p, ps_tok_joints *joints)
{
    joints->n = p->count[COUNT_JOINTS];
    joints->pair = ps_mem_new(joints->n + 1, sizeof *joints->pair); // known, even if there are none
    const unsigned char *at = p->section[JOINTS];
    for (size_t i = 0; i < joints->n; i++, at += 8) {
        const uint32_t left = get_u32(at), right = get_u32(at + 4);
        if (left > 0x10FFFF || right > 0x10FFFF) {
            return PS_FAIL(PS_ERR_FORMAT, "%s: joint %zu is of the characters %X and %X", p->where,
                           i, left, right);
        }
        joints->pair[i] = (uint64_t)left << 32 | right;
    }
    return PS_OK;
}

static ps_err unpack_added(const packed *p, ps_tokenizer_definition *d)
{
    const char *contents = (const char *)p->section[CONTENTS];
    const unsigned char *at = p->section[ADDED];
    size_t left = p->count[COUNT_ADDED_BYTES];
    for (uint32_t i = 0; i < p->count[COUNT_ADDED]; i++, at += 8) {
        const uint32_t n = get_u16(at + 4), flags = get_u16(at + 6);
        if (n > left || flags > ALL_FLAGS) {
            return PS_FAIL(PS_ERR_FORMAT, "%s: added token %u has %u bytes of %zu, flags %X",
                           p->where, i, n, left, flags);
        }
        const ps_tokenizer_added token = {.id = (int32_t)get_u32(at),
                                          .content = contents,
                                          .n = n,
                                          .single_word = flags & SINGLE_WORD,
                                          .lstrip = flags & LSTRIP,
                                          .rstrip = flags & RSTRIP,
                                          .normalized = flags & NORMALIZED,
                                          .special = flags & SPECIAL,
                                          .verbatim = flags & VERBATIM};
        PS_TRY(ps_tokenizer_define_added(d, &token));
        contents += n;
        left -= n;
    }
    if (left == 0) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "%s: %zu bytes of added tokens are left over", p->where, left);
}

static ps_err unpack_scores(const packed *p, ps_tokenizer_definition *d)
{
    for (uint32_t i = 0; i < p->count[COUNT_SCORES]; i++) {
        const double score = get_f64(p->section[SCORES] + 8 * (size_t)i);
        if (isnan(score) || score == INFINITY) {
            return PS_FAIL(PS_ERR_NUMERIC, "%s: token %u has the score %g", p->where, i, score);
        }
        ps_tokenizer_define_score(d, (int32_t)i, score);
    }
    if (p->count[COUNT_SCORES] == 0) return PS_OK;
    d->n_order = p->count[COUNT_ORDER];
    d->order = ps_mem_new(d->n_order + 1, sizeof *d->order);
    for (size_t i = 0; i < d->n_order; i++) {
        d->order[i] = (int32_t)get_u32(p->section[ORDER] + 4 * i);
    }
    return PS_OK;
}

static ps_err unpack(const packed *p, ps_tokenizer_definition *d)
{
    json_t *pipeline;
    ps_tok_vocab_release(&d->vocab);
    ps_tok_vocab_init(&d->vocab, (int32_t)p->count[COUNT_IDS], p->count[COUNT_TOKENS],
                      p->count[COUNT_STRING_BYTES]);
    PS_TRY(unpack_tokens(p, &d->vocab));
    PS_TRY(unpack_merges(p, d));
    PS_TRY(unpack_joints(p, &d->joints));
    PS_TRY(unpack_added(p, d));
    PS_TRY(unpack_scores(p, d));
    PS_TRY(ps_json_parse((const char *)p->section[PIPELINE], p->count[COUNT_PIPELINE_BYTES],
                         p->where, &pipeline));
    ps_tokenizer_define_pipeline(d, pipeline);
    return PS_OK;
}

ps_err ps_tok_unpack(const char *bytes, size_t n, const char *where, ps_tokenizer_definition **out)
{
    packed p = {.where = where};
    *out = NULL;
    PS_TRY(read_head(&p, (const unsigned char *)bytes, n));
    PS_TRY(check_counts(&p));
    *out = ps_tokenizer_definition_new(0, 0, where);
    return unpack(&p, *out);
}
