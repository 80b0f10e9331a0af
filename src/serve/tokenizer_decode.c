/* Decoders, for whole texts and for streams. A decoder turns a list of strings into another; a
 * chain of them begins with the tokens' strings and ends with strings that are joined to the text.
 *
 * Here each decoder is a machine that is fed pieces of the list and hands on what is certain:
 *
 *   pieces   text "hel" "lo" "▁wor"   ends after "lo": the string "hello", and the beginning of the
 *            next, which goes on with the next feeding
 * so a whole text is a stream that is fed many tokens at once, and both give the same. Lists go
 * from machine to machine through two buffers. What a machine holds back is bounded by one token,
 * but for an unfinished string (behind a Fuse, where the whole text is one string) in a decoder
 * that has to see strings whole: a regular expression, ByteLevel, ByteFallback, BPEDecoder. */
#include "serve/tokenizer_parts.h"

#include <assert.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

typedef enum decoder_type {
    BYTE_LEVEL,
    BYTE_FALLBACK,
    METASPACE,
    REPLACE,
    FUSE,
    STRIP,
    BPE_DECODER,
    TYPE_COUNT,
    JOIN_BY_BLANKS = TYPE_COUNT // what happens without any decoder
} decoder_type;

static const char *const type_names[] = {
    [BYTE_LEVEL] = "ByteLevel",
    [BYTE_FALLBACK] = "ByteFallback",
    [METASPACE] = "Metaspace",
    [REPLACE] = "Replace",
    [FUSE] = "Fuse",
    [STRIP] = "Strip",
    [BPE_DECODER] = "BPEDecoder",
};
_Static_assert(sizeof type_names / sizeof *type_names == TYPE_COUNT, "a name for each type");

struct ps_tok_decoder {
    decoder_type type;
    uint32_t character;     // METASPACE's replacement, STRIP's content
    bool drops_first;       // METASPACE: no blanks out of the first string
    int n_start, n_stop;    // STRIP: how many to take off
    ps_tok_pattern pattern; // REPLACE; BPE_DECODER: the suffix, a literal
    ps_text content;        // REPLACE
};

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
    d->type = (decoder_type)c->type;
    switch (d->type) {
    case METASPACE:
        return read_metaspace(c, d);
    case REPLACE:
        return read_replace(c, d);
    case STRIP:
        PS_TRY(ps_json_get_int(c->json, "start", 0, MAX_STRIP, c->where, &d->n_start));
        PS_TRY(ps_json_get_int(c->json, "stop", 0, MAX_STRIP, c->where, &d->n_stop));
        return ps_tok_read_char(c, "content", &d->character);
    case BPE_DECODER:
        return read_suffix(c, d);
    default:
        return PS_OK;
    }
}

ps_err ps_tok_decoders_read(ps_tok_decoders *out, const json_t *tokenizer, const char *where)
{
    const ps_tok_kind kind = {"decoder", "decoders", type_names, TYPE_COUNT};
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
    if (n == 0) out->list[out->n++] = (ps_tok_decoder){.type = root ? FUSE : JOIN_BY_BLANKS};
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

// ---- pieces ----

/* Strings, one behind the other; what stands behind the last end is the beginning of one more. */
typedef struct pieces {
    ps_text text;
    size_t *end; // [n]
    size_t n, capacity;
} pieces;

static void pieces_clear(pieces *p)
{
    ps_text_clear(&p->text);
    p->n = 0;
}

static void end_piece(pieces *p)
{
    p->end = ps_mem_grow(p->end, &p->capacity, p->n + 1, sizeof *p->end);
    p->end[p->n++] = p->text.len;
}

static void pieces_release(pieces *p)
{
    ps_mem_free(p->end);
    ps_text_release(&p->text);
}

/* What one decoder remembers between feedings. */
typedef struct machine {
    const ps_tok_decoder *decoder;
    ps_tok_matcher *matcher;
    bool streams;    // shows byte tokens before their run is over
    bool began;      // the first string has begun
    bool inside;     // a string has begun and not ended
    ps_text held;    // an unfinished string, or what else waits
    ps_text bytes;   // BYTE_FALLBACK: the run of byte tokens; BPE_DECODER: the last string's rest
    bool shown;      // BYTE_FALLBACK: some of the run is handed on
    bool spoilt;     // BYTE_FALLBACK: the run is no UTF-8
    bool waits;      // BPE_DECODER: there is a last string
    int n_taken;     // STRIP: characters taken off the start
    bool start_done; // STRIP: nothing more to take off there
    int n_waiting;   // STRIP: characters that may be the string's last
} machine;

static void append_char(ps_text *out, uint32_t c)
{
    char bytes[4];
    const size_t n = ps_utf8_encode(c, bytes);
    ps_text_append(out, bytes, n);
}

static void append_replacements(pieces *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ps_text_append_str(&out->text, "\xEF\xBF\xBD");
        end_piece(out);
    }
}

// ---- decoders that see strings whole ----

/* The bytes a string stands for in the byte alphabet, or its own if it has other characters. */
static void append_bytes_of(ps_text *out, const char *text, size_t n)
{
    const size_t before = out->len;
    for (size_t i = 0; i < n;) {
        uint32_t c;
        i += ps_utf8_decode(text + i, n - i, &c);
        const int byte = ps_tok_byte_of_char(c);
        if (byte < 0) {
            out->len = before;
            ps_text_append(out, text, n);
            return;
        }
        ps_text_append_char(out, (char)byte);
    }
}

/* All strings become one; it is handed on up to an unfinished character, which stays in m->bytes.
 */
static void hand_on_valid(machine *m, bool finish, pieces *out)
{
    ps_text *bytes = &m->bytes;
    if (bytes->len == 0) return;
    const size_t done = ps_tok_append_certain(&out->text, bytes->data, bytes->len);
    memmove(bytes->data, bytes->data + done, bytes->len - done);
    bytes->len -= done;
    if (finish) ps_tok_append_lossy(&out->text, bytes->data, bytes->len);
}

/* Byte of a token "<0x41>"; -1 for other strings. */
static int byte_of_token(const char *text, size_t n)
{
    if (n != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    int value = 0;
    for (int i = 3; i < 5; i++) {
        const char c = text[i];
        if (c >= '0' && c <= '9') {
            value = value * 16 + (c - '0');
        } else if ((c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f')) {
            value = value * 16 + ((c & 0xDF) - 'A' + 10);
        } else {
            return -1;
        }
    }
    return value;
}

/* The end of a run of byte tokens. In a stream, what is left of it is unfinished. */
static void end_run(machine *m, pieces *out)
{
    const size_t n = m->bytes.len;
    const bool valid = ps_utf8_valid_prefix(m->bytes.data, n, NULL) == n;
    if (valid && n > 0) {
        ps_text_append(&out->text, m->bytes.data, n);
        m->shown = true;
    }
    if (m->shown) end_piece(out);
    if (!valid) append_replacements(out, n);
    ps_text_clear(&m->bytes);
    m->shown = m->spoilt = false;
}

/* One more byte of a run, in a stream: characters are shown when they are complete. */
static void stream_byte(machine *m, pieces *out)
{
    bool incomplete;
    const size_t n = m->bytes.len;
    const size_t good = ps_utf8_valid_prefix(m->bytes.data, n, &incomplete);
    if (m->spoilt || (good < n && !incomplete)) {
        if (m->shown) end_piece(out);
        append_replacements(out, n);
        ps_text_clear(&m->bytes);
        m->spoilt = true;
        m->shown = false;
    } else if (good == n) {
        ps_text_append(&out->text, m->bytes.data, n);
        ps_text_clear(&m->bytes);
        m->shown = true;
    }
}

static void fall_back(machine *m, const char *text, size_t n, pieces *out)
{
    const int byte = byte_of_token(text, n);
    if (byte >= 0) {
        ps_text_append_char(&m->bytes, (char)byte);
        if (m->streams) stream_byte(m, out);
        return;
    }
    end_run(m, out);
    ps_text_append(&out->text, text, n);
    end_piece(out);
}

static ps_err replace_in(machine *m, const char *text, size_t n, pieces *out)
{
    const ps_tok_decoder *d = m->decoder;
    ps_tok_search search;
    ps_tok_search_begin(&search, &d->pattern, m->matcher, text, n);
    size_t done = 0;
    for (;;) {
        bool found;
        size_t start, end;
        PS_TRY(ps_tok_search_next(&search, &found, &start, &end));
        if (!found) break;
        ps_text_append(&out->text, text + done, start - done);
        ps_text_append(&out->text, ps_text_str(&d->content), d->content.len);
        done = end;
    }
    ps_text_append(&out->text, text + done, n - done);
    return PS_OK;
}

/* The rest of the last string, with its suffixes as blanks, or as nothing at the end of all. */
static void hand_on_suffixed(machine *m, const char *blank, pieces *out)
{
    if (!m->waits) return;
    const ps_tok_pattern *suffix = &m->decoder->pattern;
    const char *text = ps_text_str(&m->bytes);
    size_t n = m->bytes.len;
    for (;;) {
        const char *at = memmem(text, n, suffix->literal, suffix->literal_bytes);
        if (!at) break;
        ps_text_append(&out->text, text, (size_t)(at - text));
        ps_text_append_str(&out->text, blank);
        n -= (size_t)(at - text) + suffix->literal_bytes;
        text = at + suffix->literal_bytes;
    }
    ps_text_append(&out->text, text, n);
    end_piece(out);
    ps_text_clear(&m->bytes);
    m->waits = false;
}

/* A string's text up to its first suffix is certain. */
static void replace_suffix(machine *m, const char *text, size_t n, pieces *out)
{
    const ps_tok_pattern *suffix = &m->decoder->pattern;
    hand_on_suffixed(m, " ", out);
    const char *at = memmem(text, n, suffix->literal, suffix->literal_bytes);
    const size_t certain = at ? (size_t)(at - text) : n;
    ps_text_append(&out->text, text, certain);
    ps_text_append(&m->bytes, text + certain, n - certain);
    m->waits = true;
}

static ps_err take_whole(machine *m, const char *text, size_t n, pieces *out)
{
    switch (m->decoder->type) {
    case BYTE_LEVEL:
        append_bytes_of(&m->bytes, text, n);
        return PS_OK;
    case BYTE_FALLBACK:
        fall_back(m, text, n, out);
        return PS_OK;
    case BPE_DECODER:
        replace_suffix(m, text, n, out);
        return PS_OK;
    default:
        PS_TRY(replace_in(m, text, n, out));
        end_piece(out);
        return PS_OK;
    }
}

// ---- decoders that see strings as they come ----

static void replace_marks(machine *m, const char *text, size_t n, bool first, pieces *out)
{
    for (size_t i = 0; i < n;) {
        uint32_t c;
        const size_t length = ps_utf8_decode(text + i, n - i, &c);
        if (c != m->decoder->character) {
            ps_text_append(&out->text, text + i, length);
        } else if (!first || !m->decoder->drops_first) {
            ps_text_append_char(&out->text, ' ');
        }
        i += length;
    }
}

static void strip(machine *m, const char *text, size_t n, pieces *out)
{
    const ps_tok_decoder *d = m->decoder;
    for (size_t i = 0; i < n;) {
        uint32_t c;
        i += ps_utf8_decode(text + i, n - i, &c);
        const bool strips = c == d->character;
        if (strips && !m->start_done && m->n_taken < d->n_start) {
            m->n_taken++;
            continue;
        }
        m->start_done = true;
        if (strips && m->n_waiting < d->n_stop) {
            m->n_waiting++;
            continue;
        }
        // One more of them pushes the first of those that wait out; anything else, all.
        for (; !strips && m->n_waiting > 0; m->n_waiting--) {
            append_char(&out->text, d->character);
        }
        append_char(&out->text, c);
    }
}

/* Length of the longest end of text that is a true beginning of the literal. */
static size_t unfinished(const ps_tok_pattern *p, const char *text, size_t n)
{
    size_t length = n < p->literal_bytes - 1 ? n : p->literal_bytes - 1;
    while (length > 0 && memcmp(text + n - length, p->literal, length) != 0) {
        length--;
    }
    return length;
}

/* A literal in a string that goes on: all but what may be its beginning is certain. */
static ps_err replace_literal(machine *m, const char *text, size_t n, bool ends, pieces *out)
{
    const ps_tok_pattern *p = &m->decoder->pattern;
    ps_text_append(&m->held, text, n);
    const char *from = ps_text_str(&m->held), *end = from + m->held.len;
    for (const char *at; (at = memmem(from, (size_t)(end - from), p->literal, p->literal_bytes));) {
        ps_text_append(&out->text, from, (size_t)(at - from));
        ps_text_append(&out->text, ps_text_str(&m->decoder->content), m->decoder->content.len);
        from = at + p->literal_bytes;
    }
    const size_t kept = ends ? 0 : unfinished(p, from, (size_t)(end - from));
    ps_text_append(&out->text, from, (size_t)(end - from) - kept);
    memmove(m->held.data, end - kept, kept);
    m->held.len = kept;
    return PS_OK;
}

// ---- the machines ----

static bool sees_whole_strings(const ps_tok_decoder *d)
{
    if (d->type == REPLACE) return !d->pattern.literal || d->pattern.literal_bytes == 0;
    return d->type == BYTE_LEVEL || d->type == BYTE_FALLBACK || d->type == BPE_DECODER;
}

/* One stretch of a string; `ends` says whether the string ends with it. */
static ps_err take_stretch(machine *m, const char *text, size_t n, bool ends, pieces *out)
{
    switch (m->decoder->type) {
    case METASPACE:
        replace_marks(m, text, n, !m->began, out);
        break;
    case STRIP:
        strip(m, text, n, out);
        break;
    case REPLACE:
        PS_TRY(replace_literal(m, text, n, ends, out));
        break;
    case JOIN_BY_BLANKS:
        if (m->began && !m->inside) ps_text_append_char(&out->text, ' ');
        ps_text_append(&out->text, text, n);
        break;
    default: // FUSE
        ps_text_append(&out->text, text, n);
        return PS_OK;
    }
    if (ends) end_piece(out);
    return PS_OK;
}

static void next_string(machine *m)
{
    m->began = true;
    m->inside = false;
    m->n_taken = m->n_waiting = 0;
    m->start_done = false;
}

static ps_err feed(machine *m, const char *text, size_t n, bool ends, pieces *out)
{
    if (!sees_whole_strings(m->decoder)) {
        PS_TRY(take_stretch(m, text, n, ends, out));
        m->inside = true;
    } else if (ends && m->held.len == 0) {
        PS_TRY(take_whole(m, text, n, out));
    } else {
        ps_text_append(&m->held, text, n);
        if (ends) {
            PS_TRY(take_whole(m, ps_text_str(&m->held), m->held.len, out));
            ps_text_clear(&m->held);
        }
    }
    if (ends) next_string(m);
    return PS_OK;
}

static ps_err run_machine(machine *m, const pieces *in, bool finish, pieces *out)
{
    size_t start = 0;
    for (size_t i = 0; i < in->n; i++) {
        PS_TRY(feed(m, ps_text_str(&in->text) + start, in->end[i] - start, true, out));
        start = in->end[i];
    }
    const size_t rest = in->text.len - start;
    if (rest > 0) PS_TRY(feed(m, ps_text_str(&in->text) + start, rest, false, out));
    if (m->decoder->type == BYTE_LEVEL) hand_on_valid(m, finish, out);
    if (!finish) return PS_OK;
    if (m->decoder->type == BYTE_FALLBACK) end_run(m, out);
    if (m->decoder->type == BPE_DECODER) hand_on_suffixed(m, "", out);
    if (m->decoder->type == BYTE_LEVEL || m->decoder->type == FUSE) end_piece(out);
    return PS_OK;
}

// ---- chains ----

struct ps_detokenizer {
    const ps_tokenizer *tokenizer;
    bool skip_special;
    ps_tok_matcher matcher;
    machine *machine; // [n decoders]
    pieces pieces[2];
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
    end_piece(&d->pieces[0]);
}

/* Runs the pieces that were added through all machines and appends what comes out. */
static ps_err run_chain(ps_detokenizer *d, bool finish, ps_text *out)
{
    ps_err err = PS_OK;
    int in = 0;
    for (int i = 0; i < d->tokenizer->decoders.n && !err; i++) {
        pieces_clear(&d->pieces[1 - in]);
        err = run_machine(&d->machine[i], &d->pieces[in], finish, &d->pieces[1 - in]);
        in = 1 - in;
    }
    if (!err) ps_text_append(out, ps_text_str(&d->pieces[in].text), d->pieces[in].text.len);
    pieces_clear(&d->pieces[0]);
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
        machine *m = &d->machine[i];
        ps_text_release(&m->held);
        ps_text_release(&m->bytes);
        *m = (machine){.decoder = m->decoder, .matcher = m->matcher, .streams = m->streams};
    }
    return err;
}

void ps_detokenizer_free(ps_detokenizer *d)
{
    if (!d) return;
    for (int i = 0; i < d->tokenizer->decoders.n; i++) {
        ps_text_release(&d->machine[i].held);
        ps_text_release(&d->machine[i].bytes);
    }
    ps_mem_free(d->machine);
    pieces_release(&d->pieces[1]);
    pieces_release(&d->pieces[0]);
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
