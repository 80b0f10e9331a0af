/* Decoders: reading them, and chains of them for whole texts and for streams.
 *
 * A decoder turns a list of strings into another; a chain of them begins with the tokens' strings
 * and ends with strings that are joined to the text. Each has its machine (tokenizer_machine.c),
 * which is fed the list piece by piece, so a whole text is a stream that is fed many tokens at
 * once, and both give the same. Lists go from machine to machine through two buffers. */
#include "serve/tokenizer_decode.h"

#include <assert.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

static const char *const type_names[] = {
    [PS_TOK_DECODE_BYTE_LEVEL] = "ByteLevel",
    [PS_TOK_DECODE_BYTE_FALLBACK] = "ByteFallback",
    [PS_TOK_DECODE_METASPACE] = "Metaspace",
    [PS_TOK_DECODE_REPLACE] = "Replace",
    [PS_TOK_DECODE_FUSE] = "Fuse",
    [PS_TOK_DECODE_STRIP] = "Strip",
    [PS_TOK_DECODE_BPE] = "BPEDecoder",
};
_Static_assert(sizeof type_names / sizeof *type_names == PS_TOK_DECODE_COUNT,
               "a name for each type");

enum { MAX_STRIP = 1 << 16 };

// ---- reading ----

static ps_err read_metaspace(const ps_tok_component *c, ps_tok_decoder *d)
{
    static const char *const names[] = {"first", "never", "always"};
    bool add_prefix_space = true;
    PS_TRY(ps_json_opt_bool(c->json, "add_prefix_space", c->where, &add_prefix_space));
    int scheme = add_prefix_space ? 2 : 1;
    PS_TRY(ps_tok_read_choice(c, "prepend_scheme", names, 3, &scheme));
    d->drops_first = scheme != 1;
    return ps_tok_read_char(c, "replacement", &d->character);
}

static ps_err read_replace(const ps_tok_component *c, ps_tok_decoder *d)
{
    const char *content;
    size_t n;
    PS_TRY(ps_tok_read_pattern(c, &d->pattern));
    PS_TRY(ps_tok_read_string(c, "content", &content, &n));
    if (n > PS_TOK_MAX_REPLACEMENT_BYTES || d->pattern.literal_bytes > PS_TOK_MAX_ADDED_BYTES) {
        return PS_FAIL(PS_ERR_LIMIT, "%s: decoder: a Replace of %zu bytes by %zu, at most %d by %d",
                       c->where, d->pattern.literal_bytes, n, PS_TOK_MAX_ADDED_BYTES,
                       PS_TOK_MAX_REPLACEMENT_BYTES);
    }
    ps_text_append(&d->content, content, n);
    return PS_OK;
}

static ps_err read_suffix(const ps_tok_component *c, ps_tok_decoder *d)
{
    const char *suffix;
    size_t n;
    PS_TRY(ps_tok_read_string(c, "suffix", &suffix, &n));
    if (n == 0) {
        return PS_FAIL(PS_ERR_UNSUPPORTED, "%s: a BPEDecoder with an empty suffix", c->where);
    }
    ps_tok_pattern_literal(&d->pattern, suffix, n);
    return PS_OK;
}

static ps_err read_decoder(const ps_tok_component *c, ps_tok_decoder *d)
{
    d->type = (ps_tok_decoder_type)c->type;
    switch (d->type) {
    case PS_TOK_DECODE_METASPACE:
        return read_metaspace(c, d);
    case PS_TOK_DECODE_REPLACE:
        return read_replace(c, d);
    case PS_TOK_DECODE_STRIP:
        PS_TRY(ps_json_get_int(c->json, "start", 0, MAX_STRIP, c->where, &d->n_start));
        PS_TRY(ps_json_get_int(c->json, "stop", 0, MAX_STRIP, c->where, &d->n_stop));
        return ps_tok_read_char(c, "content", &d->character);
    case PS_TOK_DECODE_BPE:
        return read_suffix(c, d);
    default:
        return PS_OK;
    }
}

ps_err ps_tok_decoders_read(ps_tok_decoders *out, const json_t *tokenizer, const char *where)
{
    const ps_tok_kind kind = {"decoder", "decoders", type_names, PS_TOK_DECODE_COUNT};
    ps_tok_component components[PS_TOK_MAX_COMPONENTS];
    json_t *root = NULL;
    int n = 0;
    *out = (ps_tok_decoders){0};
    PS_TRY(ps_tok_read_components(tokenizer, &kind, where, components, &n));
    PS_TRY(ps_json_opt(tokenizer, "decoder", JSON_OBJECT, where, &root));
    out->list = ps_mem_new((size_t)n + 1, sizeof *out->list);
    out->n = n;
    for (int i = 0; i < n; i++) {
        PS_TRY(read_decoder(&components[i], &out->list[i]));
    }
    // An empty Sequence passes everything on, and so does a Fuse; no decoder at all does not.
    if (n == 0)
        out->list[out->n++] =
            (ps_tok_decoder){.type = root ? PS_TOK_DECODE_FUSE : PS_TOK_DECODE_JOIN_BY_BLANKS};
    return PS_OK;
}

void ps_tok_decoders_release(ps_tok_decoders *ds)
{
    for (int i = 0; i < ds->n; i++) {
        ps_tok_pattern_release(&ds->list[i].pattern);
        ps_text_release(&ds->list[i].content);
    }
    ps_mem_free(ds->list);
    *ds = (ps_tok_decoders){0};
}

// ---- chains ----

struct ps_detokenizer {
    const ps_tokenizer *tokenizer;
    bool skip_special;
    ps_tok_matcher matcher;
    ps_tok_machine *machine; // [n decoders]
    ps_tok_pieces pieces[2];
};

static ps_detokenizer *chain_new(const ps_tokenizer *t, bool skip_special, bool streams)
{
    ps_detokenizer *d = ps_mem_new(1, sizeof *d);
    d->tokenizer = t;
    d->skip_special = skip_special;
    d->machine = ps_mem_new((size_t)t->decoders.n, sizeof *d->machine);
    for (int i = 0; i < t->decoders.n; i++) {
        d->machine[i].decoder = &t->decoders.list[i];
        d->machine[i].matcher = &d->matcher;
        d->machine[i].streams = streams;
    }
    return d;
}

/* Puts a token's string behind the first machine's pieces. */
static void add_token(ps_detokenizer *d, int32_t id)
{
    const ps_tokenizer *t = d->tokenizer;
    const char *text;
    size_t n;
    if (!ps_tok_text_of_id(t, id, &text, &n)) return;
    if (d->skip_special && (t->flags[id] & PS_TOK_IS_SKIPPED)) return;
    ps_text_append(&d->pieces[0].text, text, n);
    ps_tok_pieces_end(&d->pieces[0]);
}

/* Runs the pieces that were added through all machines and appends what comes out. */
static ps_err run_chain(ps_detokenizer *d, bool finish, ps_text *out)
{
    ps_err err = PS_OK;
    int in = 0;
    for (int i = 0; i < d->tokenizer->decoders.n && !err; i++) {
        ps_tok_pieces_clear(&d->pieces[1 - in]);
        err = ps_tok_machine_run(&d->machine[i], &d->pieces[in], finish, &d->pieces[1 - in]);
        in = 1 - in;
    }
    if (!err) ps_text_append(out, ps_text_str(&d->pieces[in].text), d->pieces[in].text.len);
    ps_tok_pieces_clear(&d->pieces[0]);
    return err;
}

ps_detokenizer *ps_detokenizer_new(const ps_tokenizer *t, bool skip_special)
{
    assert(t);
    return chain_new(t, skip_special, true);
}

ps_err ps_detokenizer_push(ps_detokenizer *d, int32_t id, ps_text *out)
{
    assert(d && out);
    add_token(d, id);
    return run_chain(d, false, out);
}

ps_err ps_detokenizer_finish(ps_detokenizer *d, ps_text *out)
{
    assert(d && out);
    const ps_err err = run_chain(d, true, out);
    for (int i = 0; i < d->tokenizer->decoders.n; i++) {
        ps_tok_machine *m = &d->machine[i];
        ps_text_release(&m->held);
        ps_text_release(&m->bytes);
        *m = (ps_tok_machine){.decoder = m->decoder, .matcher = m->matcher, .streams = m->streams};
    }
    return err;
}

enum {
    SAVED_BEGAN = 1,
    SAVED_INSIDE = 2,
    SAVED_SHOWN = 4,
    SAVED_SPOILT = 8,
    SAVED_WAITS = 16,
    SAVED_START_DONE = 32,
    SAVED_FLAGS = 63
};

/* A machine as it is saved, before its held bytes and its other bytes. */
typedef struct saved_machine {
    int32_t flags, n_taken, n_waiting, held_bytes, other_bytes;
} saved_machine;

void ps_detokenizer_save(const ps_detokenizer *d, ps_text *out)
{
    for (int i = 0; i < d->tokenizer->decoders.n; i++) {
        const ps_tok_machine *m = &d->machine[i];
        const saved_machine saved = {
            .flags = (m->began ? SAVED_BEGAN : 0) | (m->inside ? SAVED_INSIDE : 0) |
                     (m->shown ? SAVED_SHOWN : 0) | (m->spoilt ? SAVED_SPOILT : 0) |
                     (m->waits ? SAVED_WAITS : 0) | (m->start_done ? SAVED_START_DONE : 0),
            .n_taken = m->n_taken,
            .n_waiting = m->n_waiting,
            .held_bytes = (int32_t)m->held.len,
            .other_bytes = (int32_t)m->bytes.len};
        ps_text_append(out, &saved, sizeof saved);
        ps_text_append(out, ps_text_str(&m->held), m->held.len);
        ps_text_append(out, ps_text_str(&m->bytes), m->bytes.len);
    }
}

/* Whether a machine of this kind can hold these: the machines take their text for UTF-8, but for
 * the unfinished characters of bytes, and what waits for the rest of a literal is its beginning. */
static bool is_possible(const ps_tok_decoder *d, const saved_machine *s, const char *held,
                        const char *other)
{
    if (s->flags < 0 || s->flags > SAVED_FLAGS) return false;
    if (s->n_taken < 0 || s->n_taken > d->n_start || s->n_waiting < 0 || s->n_waiting > d->n_stop)
        return false;
    const size_t n = (size_t)s->held_bytes;
    if (ps_utf8_valid_prefix(held, n, NULL) < n) return false;
    const ps_tok_pattern *p = &d->pattern;
    if (n > 0 && ps_tok_replaces_literal(d) &&
        (n >= p->literal_bytes || memcmp(held, p->literal, n) != 0))
        return false;
    return d->type != PS_TOK_DECODE_BPE ||
           ps_utf8_valid_prefix(other, (size_t)s->other_bytes, NULL) == (size_t)s->other_bytes;
}

static ps_err load_machine(ps_tok_machine *m, const char **at, const char *end)
{
    saved_machine s = {0};
    size_t left = (size_t)(end - *at);
    bool good = left >= sizeof s;
    if (good) memcpy(&s, *at, sizeof s);
    *at += good ? sizeof s : 0;
    left -= good ? sizeof s : 0;
    good = good && s.held_bytes >= 0 && s.other_bytes >= 0 && (size_t)s.held_bytes <= left &&
           (size_t)s.other_bytes <= left - (size_t)s.held_bytes;
    if (!good || !is_possible(m->decoder, &s, *at, *at + s.held_bytes))
        return PS_FAIL(PS_ERR_FORMAT, "what the detokenizer held back does not fit this tokenizer");
    ps_text_append(&m->held, *at, (size_t)s.held_bytes);
    ps_text_append(&m->bytes, *at + s.held_bytes, (size_t)s.other_bytes);
    *at += s.held_bytes + s.other_bytes;
    m->began = s.flags & SAVED_BEGAN;
    m->inside = s.flags & SAVED_INSIDE;
    m->shown = s.flags & SAVED_SHOWN;
    m->spoilt = s.flags & SAVED_SPOILT;
    m->waits = s.flags & SAVED_WAITS;
    m->start_done = s.flags & SAVED_START_DONE;
    m->n_taken = s.n_taken;
    m->n_waiting = s.n_waiting;
    return PS_OK;
}

ps_err ps_detokenizer_load(ps_detokenizer *d, const char *bytes, size_t n)
{
    const char *end = bytes + n;
    for (int i = 0; i < d->tokenizer->decoders.n; i++) {
        PS_TRY(load_machine(&d->machine[i], &bytes, end));
    }
    if (bytes == end) return PS_OK;
    return PS_FAIL(PS_ERR_FORMAT, "what the detokenizer held back has %zu bytes too many",
                   (size_t)(end - bytes));
}

void ps_detokenizer_free(ps_detokenizer *d)
{
    if (!d) return;
    for (int i = 0; i < d->tokenizer->decoders.n; i++) {
        ps_text_release(&d->machine[i].held);
        ps_text_release(&d->machine[i].bytes);
    }
    ps_mem_free(d->machine);
    ps_tok_pieces_release(&d->pieces[1]);
    ps_tok_pieces_release(&d->pieces[0]);
    ps_tok_matcher_release(&d->matcher);
    ps_mem_free(d);
}

ps_err ps_tokenizer_decode(const ps_tokenizer *t, const int32_t *ids, size_t n, bool skip_special,
                           ps_text *out)
{
    enum { AT_ONCE = 256 }; // bounds the buffers between the machines
    assert(t && out);
    assert(ids || n == 0);
    ps_detokenizer *d = chain_new(t, skip_special, false);
    ps_err err = PS_OK;
    for (size_t i = 0; i < n && !err; i++) {
        add_token(d, ids[i]);
        if ((i + 1) % AT_ONCE == 0) err = run_chain(d, false, out);
    }
    if (!err) err = run_chain(d, true, out);
    ps_detokenizer_free(d);
    return err;
}
