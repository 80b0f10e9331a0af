/* The machines of the decoders: each is fed pieces of a list of strings and hands on what is
 * certain.
 *
 *   pieces   text "hel" "lo" "▁wor"   ends after "lo": the string "hello", and the beginning of
 *            the next, which goes on with the next feeding
 *
 * What a machine holds back is bounded by one token, but for an unfinished string (behind a Fuse,
 * where the whole text is one string) in a decoder that has to see strings whole: a regular
 * expression, ByteLevel, ByteFallback, BPEDecoder. */
#include "serve/tokenizer_decode.h"

#include <string.h>

#include "base/mem.h"

void ps_tok_pieces_clear(ps_tok_pieces *p)
{
    ps_text_clear(&p->text);
    p->n = 0;
}

void ps_tok_pieces_end(ps_tok_pieces *p)
{
    p->end = ps_mem_grow(p->end, &p->capacity, p->n + 1, sizeof *p->end);
    p->end[p->n++] = p->text.len;
}

void ps_tok_pieces_release(ps_tok_pieces *p)
{
    ps_mem_free(p->end);
    ps_text_release(&p->text);
}

static void append_char(ps_text *out, uint32_t c)
{
    char bytes[4];
    const size_t n = ps_utf8_encode(c, bytes);
    ps_text_append(out, bytes, n);
}

static void append_replacements(ps_tok_pieces *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ps_text_append_str(&out->text, "\xEF\xBF\xBD");
        ps_tok_pieces_end(out);
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
static void hand_on_valid(ps_tok_machine *m, bool finish, ps_tok_pieces *out)
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
static void end_run(ps_tok_machine *m, ps_tok_pieces *out)
{
    const size_t n = m->bytes.len;
    const bool valid = ps_utf8_valid_prefix(m->bytes.data, n, NULL) == n;
    if (valid && n > 0) {
        ps_text_append(&out->text, m->bytes.data, n);
        m->shown = true;
    }
    if (m->shown) ps_tok_pieces_end(out);
    if (!valid) append_replacements(out, n);
    ps_text_clear(&m->bytes);
    m->shown = m->spoilt = false;
}

/* One more byte of a run, in a stream: characters are shown when they are complete. */
static void stream_byte(ps_tok_machine *m, ps_tok_pieces *out)
{
    bool incomplete;
    const size_t n = m->bytes.len;
    const size_t good = ps_utf8_valid_prefix(m->bytes.data, n, &incomplete);
    if (m->spoilt || (good < n && !incomplete)) {
        if (m->shown) ps_tok_pieces_end(out);
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

static void fall_back(ps_tok_machine *m, const char *text, size_t n, ps_tok_pieces *out)
{
    const int byte = byte_of_token(text, n);
    if (byte >= 0) {
        ps_text_append_char(&m->bytes, (char)byte);
        if (m->streams) stream_byte(m, out);
        return;
    }
    end_run(m, out);
    ps_text_append(&out->text, text, n);
    ps_tok_pieces_end(out);
}

static ps_err replace_in(ps_tok_machine *m, const char *text, size_t n, ps_tok_pieces *out)
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
static void hand_on_suffixed(ps_tok_machine *m, const char *blank, ps_tok_pieces *out)
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
    ps_tok_pieces_end(out);
    ps_text_clear(&m->bytes);
    m->waits = false;
}

/* A string's text up to its first suffix is certain. */
static void replace_suffix(ps_tok_machine *m, const char *text, size_t n, ps_tok_pieces *out)
{
    const ps_tok_pattern *suffix = &m->decoder->pattern;
    hand_on_suffixed(m, " ", out);
    const char *at = memmem(text, n, suffix->literal, suffix->literal_bytes);
    const size_t certain = at ? (size_t)(at - text) : n;
    ps_text_append(&out->text, text, certain);
    ps_text_append(&m->bytes, text + certain, n - certain);
    m->waits = true;
}

static ps_err take_whole(ps_tok_machine *m, const char *text, size_t n, ps_tok_pieces *out)
{
    switch (m->decoder->type) {
    case PS_TOK_DECODE_BYTE_LEVEL:
        append_bytes_of(&m->bytes, text, n);
        return PS_OK;
    case PS_TOK_DECODE_BYTE_FALLBACK:
        fall_back(m, text, n, out);
        return PS_OK;
    case PS_TOK_DECODE_BPE:
        replace_suffix(m, text, n, out);
        return PS_OK;
    default:
        PS_TRY(replace_in(m, text, n, out));
        ps_tok_pieces_end(out);
        return PS_OK;
    }
}

// ---- decoders that see strings as they come ----

static void replace_marks(ps_tok_machine *m, const char *text, size_t n, bool first,
                          ps_tok_pieces *out)
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

static void strip(ps_tok_machine *m, const char *text, size_t n, ps_tok_pieces *out)
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
static void replace_literal(ps_tok_machine *m, const char *text, size_t n, bool ends,
                            ps_tok_pieces *out)
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
}

// ---- the machines ----

static bool sees_whole_strings(const ps_tok_decoder *d)
{
    if (d->type == PS_TOK_DECODE_REPLACE) return !ps_tok_replaces_literal(d);
    return d->type == PS_TOK_DECODE_BYTE_LEVEL || d->type == PS_TOK_DECODE_BYTE_FALLBACK ||
           d->type == PS_TOK_DECODE_BPE;
}

/* One stretch of a string; `ends` says whether the string ends with it. */
static void take_stretch(ps_tok_machine *m, const char *text, size_t n, bool ends,
                         ps_tok_pieces *out)
{
    switch (m->decoder->type) {
    case PS_TOK_DECODE_METASPACE:
        replace_marks(m, text, n, !m->began, out);
        break;
    case PS_TOK_DECODE_STRIP:
        strip(m, text, n, out);
        break;
    case PS_TOK_DECODE_REPLACE:
        replace_literal(m, text, n, ends, out);
        break;
    case PS_TOK_DECODE_JOIN_BY_BLANKS:
        if (m->began && !m->inside) ps_text_append_char(&out->text, ' ');
        ps_text_append(&out->text, text, n);
        break;
    default: // PS_TOK_DECODE_FUSE, whose one string ends at the end of all
        ps_text_append(&out->text, text, n);
        return;
    }
    if (ends) ps_tok_pieces_end(out);
}

static void next_string(ps_tok_machine *m)
{
    m->began = true;
    m->inside = false;
    m->n_taken = m->n_waiting = 0;
    m->start_done = false;
}

static ps_err feed(ps_tok_machine *m, const char *text, size_t n, bool ends, ps_tok_pieces *out)
{
    if (!sees_whole_strings(m->decoder)) {
        take_stretch(m, text, n, ends, out);
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

ps_err ps_tok_machine_run(ps_tok_machine *m, const ps_tok_pieces *in, bool finish,
                          ps_tok_pieces *out)
{
    size_t start = 0;
    for (size_t i = 0; i < in->n; i++) {
        PS_TRY(feed(m, ps_text_str(&in->text) + start, in->end[i] - start, true, out));
        start = in->end[i];
    }
    const size_t rest = in->text.len - start;
    if (rest > 0) PS_TRY(feed(m, ps_text_str(&in->text) + start, rest, false, out));
    if (m->decoder->type == PS_TOK_DECODE_BYTE_LEVEL) hand_on_valid(m, finish, out);
    if (!finish) return PS_OK;
    if (m->decoder->type == PS_TOK_DECODE_BYTE_FALLBACK) end_run(m, out);
    if (m->decoder->type == PS_TOK_DECODE_BPE) hand_on_suffixed(m, "", out);
    if (m->decoder->type == PS_TOK_DECODE_BYTE_LEVEL || m->decoder->type == PS_TOK_DECODE_FUSE)
        ps_tok_pieces_end(out);
    return PS_OK;
}
