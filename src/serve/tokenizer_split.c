/* Pre-tokenizers: they cut a text into spans, and two of them change it on the way (Metaspace,
 * ByteLevel).
 *
 * Whatever does the cutting, a pattern or a class of characters, it says which stretches match and
 * which do not, in order and without gaps; the behavior says how those become spans. Each span is a
 * text of its own: a regular expression does not see what stands around it. */
#include "serve/tokenizer_parts.h"

#include <string.h>

#include "base/json.h"
#include "base/mem.h"

typedef enum splitter_type {
    BYTE_LEVEL,
    SPLIT,
    METASPACE,
    DIGITS,
    PUNCTUATION,
    WHITESPACE,
    WHITESPACE_SPLIT,
    CHAR_DELIMITER,
    FIXED_LENGTH,
    BERT,
    TYPE_COUNT
} splitter_type;

static const char *const type_names[] = {
    [BYTE_LEVEL] = "ByteLevel",
    [SPLIT] = "Split",
    [METASPACE] = "Metaspace",
    [DIGITS] = "Digits",
    [PUNCTUATION] = "Punctuation",
    [WHITESPACE] = "Whitespace",
    [WHITESPACE_SPLIT] = "WhitespaceSplit",
    [CHAR_DELIMITER] = "CharDelimiterSplit",
    [FIXED_LENGTH] = "FixedLength",
    [BERT] = "BertPreTokenizer",
};
_Static_assert(sizeof type_names / sizeof *type_names == TYPE_COUNT, "a name for each type");

/* What becomes of matching stretches. */
typedef enum behavior {
    REMOVED,
    ISOLATED,
    MERGED_WITH_PREVIOUS,
    MERGED_WITH_NEXT,
    CONTIGUOUS,
    BEHAVIOR_COUNT
} behavior;

static const char *const behavior_names[] = {
    [REMOVED] = "Removed",
    [ISOLATED] = "Isolated",
    [MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
    [MERGED_WITH_NEXT] = "MergedWithNext",
    [CONTIGUOUS] = "Contiguous",
};
_Static_assert(sizeof behavior_names / sizeof *behavior_names == BEHAVIOR_COUNT, "all named");

typedef enum prepend_scheme {
    PREPEND_FIRST,
    PREPEND_NEVER,
    PREPEND_ALWAYS,
    PREPEND_COUNT
} prepend_scheme;

static const char *const prepend_names[] = {"first", "never", "always"};

struct ps_tok_splitter {
    splitter_type type;
    ps_tok_pattern pattern; // SPLIT, BYTE_LEVEL with use_regex
    behavior behavior;
    bool invert;            // SPLIT: what does not match is the match
    bool add_prefix_space;  // BYTE_LEVEL
    bool use_pattern;       // BYTE_LEVEL
    uint32_t character;     // METASPACE's replacement, CHAR_DELIMITER
    prepend_scheme prepend; // METASPACE
    bool split;             // METASPACE
    bool individual;        // DIGITS
    int length;             // FIXED_LENGTH, in characters
};

static const char gpt2_regex[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static ps_err read_byte_level(const ps_tok_component *c, ps_tok_splitter *s)
{
    s->behavior = ISOLATED;
    s->add_prefix_space = true;
    s->use_pattern = true;
    PS_TRY(ps_json_opt_bool(c->json, "add_prefix_space", c->where, &s->add_prefix_space));
    PS_TRY(ps_json_opt_bool(c->json, "use_regex", c->where, &s->use_pattern));
    if (!s->use_pattern) return PS_OK;
    return ps_tok_pattern_regex(&s->pattern, gpt2_regex, sizeof gpt2_regex - 1, c->where);
}

static ps_err read_behavior(const ps_tok_component *c, ps_tok_splitter *s)
{
    int choice = ISOLATED;
    PS_TRY(ps_tok_read_choice(c, "behavior", behavior_names, BEHAVIOR_COUNT, &choice));
    s->behavior = (behavior)choice;
    return PS_OK;
}

static ps_err read_split(const ps_tok_component *c, ps_tok_splitter *s)
{
    PS_TRY(read_behavior(c, s));
    PS_TRY(ps_json_opt_bool(c->json, "invert", c->where, &s->invert));
    return ps_tok_read_pattern(c, &s->pattern);
}

static ps_err read_metaspace(const ps_tok_component *c, ps_tok_splitter *s)
{
    bool add_prefix_space = true;
    PS_TRY(ps_json_opt_bool(c->json, "add_prefix_space", c->where, &add_prefix_space));
    int prepend = add_prefix_space ? PREPEND_ALWAYS : PREPEND_NEVER;
    PS_TRY(ps_tok_read_choice(c, "prepend_scheme", prepend_names, PREPEND_COUNT, &prepend));
    if (!add_prefix_space && prepend != PREPEND_NEVER) {
        return PS_FAIL(PS_ERR_FORMAT,
                       "%s: Metaspace says both add_prefix_space false and prepend_scheme %s",
                       c->where, prepend_names[prepend]);
    }
    s->behavior = MERGED_WITH_NEXT;
    s->prepend = (prepend_scheme)prepend;
    s->split = true;
    PS_TRY(ps_json_opt_bool(c->json, "split", c->where, &s->split));
    return ps_tok_read_char(c, "replacement", &s->character);
}

static ps_err read_splitter(const ps_tok_component *c, ps_tok_splitter *s)
{
    s->type = (splitter_type)c->type;
    s->behavior = REMOVED;
    switch (s->type) {
    case BYTE_LEVEL:
        return read_byte_level(c, s);
    case SPLIT:
        return read_split(c, s);
    case METASPACE:
        return read_metaspace(c, s);
    case DIGITS:
        PS_TRY(ps_json_opt_bool(c->json, "individual_digits", c->where, &s->individual));
        s->behavior = s->individual ? ISOLATED : CONTIGUOUS;
        return PS_OK;
    case PUNCTUATION:
        return read_behavior(c, s);
    case CHAR_DELIMITER:
        return ps_tok_read_char(c, "delimiter", &s->character);
    case FIXED_LENGTH:
        s->length = 5;
        return ps_json_opt_int(c->json, "length", 1, PS_TOKENIZER_MAX_TEXT, c->where, &s->length);
    default:
        return PS_OK;
    }
}

ps_err ps_tok_splitters_read(ps_tok_splitters *out, const json_t *tokenizer, const char *where)
{
    const ps_tok_kind kind = {"pre_tokenizer", "pretokenizers", type_names, TYPE_COUNT};
    ps_tok_component components[PS_TOK_MAX_COMPONENTS];
    int n = 0;
    *out = (ps_tok_splitters){0};
    PS_TRY(ps_tok_read_components(tokenizer, &kind, where, components, &n));
    out->list = ps_mem_new((size_t)n, sizeof *out->list);
    out->n = n;
    for (int i = 0; i < n; i++) {
        PS_TRY(read_splitter(&components[i], &out->list[i]));
    }
    out->ends_in_bytes = n > 0 && out->list[n - 1].type == BYTE_LEVEL;
    return PS_OK;
}

void ps_tok_splitters_release(ps_tok_splitters *ss)
{
    for (int i = 0; i < ss->n; i++) {
        ps_tok_pattern_release(&ss->list[i].pattern);
    }
    ps_mem_free(ss->list);
    *ss = (ps_tok_splitters){0};
}

// ---- from stretches to spans ----

/* Takes stretches, appends spans. The last span waits while it may still grow. */
typedef struct assembler {
    ps_tok_spans *out;
    behavior behavior;
    bool previous_match;
    bool waits, waiting_match; // there is a span that waits; it is a match not merged yet
    size_t start, end;         // of it
} assembler;

static void flush(assembler *a)
{
    if (a->waits) ps_tok_spans_append(a->out, a->start, a->end - a->start);
    a->waits = false;
}

/* Whether a stretch belongs to the span that waits. */
static bool joins(const assembler *a, bool match)
{
    switch (a->behavior) {
    case MERGED_WITH_PREVIOUS:
        return match && !a->previous_match;
    case MERGED_WITH_NEXT:
        return !match && a->waiting_match;
    case CONTIGUOUS:
        return match == a->previous_match;
    default:
        return false;
    }
}

static void take_stretch(assembler *a, size_t start, size_t end, bool match)
{
    if (a->behavior == REMOVED && match) return;
    if (a->waits && joins(a, match)) {
        a->end = end;
        a->waiting_match = false;
    } else {
        flush(a);
        a->waits = true;
        a->waiting_match = match;
        a->start = start;
        a->end = end;
    }
    a->previous_match = match;
}

// ---- who cuts ----

static ps_err cut_by_pattern(const ps_tok_splitter *s, ps_tok_work *w, ps_tok_span span,
                             assembler *a)
{
    ps_tok_search search;
    ps_tok_search_begin(&search, &s->pattern, w->matcher, w->text + span.start, span.n);
    size_t done = 0;
    for (;;) {
        bool found;
        size_t start, end;
        PS_TRY(ps_tok_search_next(&search, &found, &start, &end));
        if (!found) break;
        if (done != start) take_stretch(a, span.start + done, span.start + start, s->invert);
        take_stretch(a, span.start + start, span.start + end, !s->invert);
        done = end;
    }
    if (done != span.n) take_stretch(a, span.start + done, span.start + span.n, s->invert);
    return PS_OK;
}

static bool is_cut_char(const ps_tok_splitter *s, uint32_t c)
{
    switch (s->type) {
    case DIGITS:
        return ps_tok_is_numeric(c);
    case PUNCTUATION:
        return ps_tok_is_punctuation(c);
    case WHITESPACE_SPLIT:
        return ps_tok_is_space(c);
    default:
        return c == s->character;
    }
}

static void cut_by_char(const ps_tok_splitter *s, const ps_tok_work *w, ps_tok_span span,
                        assembler *a)
{
    const size_t end = span.start + span.n;
    size_t done = span.start;
    for (size_t at = span.start; at < end;) {
        uint32_t c;
        const size_t length = ps_utf8_decode(w->text + at, end - at, &c);
        if (is_cut_char(s, c)) {
            if (done < at) take_stretch(a, done, at, false);
            take_stretch(a, at, at + length, true);
            done = at + length;
        }
        at += length;
    }
    if (done < end) take_stretch(a, done, end, false);
}

/* Runs of characters of one class, white space left out: \w+|[^\w\s]+ for Whitespace; for BERT
 * every punctuation character alone and everything else together. */
static void cut_by_class(const ps_tok_splitter *s, const ps_tok_work *w, ps_tok_span span,
                         ps_tok_spans *out)
{
    const size_t end = span.start + span.n;
    size_t start = span.start;
    int class = 0; // of the run: 0 none, 1 and 2 runs, 3 single characters
    for (size_t at = span.start; at < end;) {
        uint32_t c;
        const size_t length = ps_utf8_decode(w->text + at, end - at, &c);
        int next = ps_tok_is_space(c) ? 0 : 1;
        if (next == 1 && s->type == WHITESPACE) next = ps_tok_is_word(c) ? 1 : 2;
        if (next == 1 && s->type == BERT && ps_tok_is_punctuation(c)) next = 3;
        if (next != class || next == 3) {
            if (class != 0) ps_tok_spans_append(out, start, at - start);
            start = at;
        }
        class = next;
        at += length;
    }
    if (class != 0) ps_tok_spans_append(out, start, end - start);
}

static void cut_by_length(const ps_tok_splitter *s, const ps_tok_work *w, ps_tok_span span,
                          ps_tok_spans *out)
{
    const size_t end = span.start + span.n;
    size_t start = span.start;
    int length = 0;
    for (size_t at = span.start; at < end; length++) {
        uint32_t c;
        if (length == s->length) {
            ps_tok_spans_append(out, start, at - start);
            start = at;
            length = 0;
        }
        at += ps_utf8_decode(w->text + at, end - at, &c);
    }
    ps_tok_spans_append(out, start, end - start);
}

static ps_err cut_span(const ps_tok_splitter *s, ps_tok_work *w, ps_tok_span span)
{
    assembler a = {.out = &w->other, .behavior = s->behavior};
    switch (s->type) {
    case SPLIT:
    case BYTE_LEVEL:
        PS_TRY(cut_by_pattern(s, w, span, &a));
        break;
    case WHITESPACE:
    case BERT:
        cut_by_class(s, w, span, &w->other);
        break;
    case FIXED_LENGTH:
        cut_by_length(s, w, span, &w->other);
        break;
    default:
        cut_by_char(s, w, span, &a);
    }
    flush(&a);
    return PS_OK;
}

static void swap_spans(ps_tok_work *w)
{
    const ps_tok_spans old = w->spans;
    w->spans = w->other;
    w->other = old;
}

static ps_err cut(const ps_tok_splitter *s, ps_tok_work *w)
{
    w->other.n = 0;
    for (size_t i = 0; i < w->spans.n; i++) {
        PS_TRY(cut_span(s, w, w->spans.span[i]));
    }
    swap_spans(w);
    return PS_OK;
}

// ---- who changes the text ----

typedef enum rewriting { AS_METASPACE, WITH_PREFIX_SPACE, AS_BYTE_CHARS } rewriting;

/* What comes in front of a span, which says by itself whether it has it already. */
static void write_prefix(const ps_tok_splitter *s, rewriting how, const ps_tok_work *w,
                         ps_tok_span span, ps_text *out)
{
    const char *text = w->text + span.start;
    char mark[4] = " ";
    size_t mark_bytes = 1;
    bool wanted = how == WITH_PREFIX_SPACE;
    if (how == AS_METASPACE) {
        const bool first = span.start < w->origin;
        wanted = s->prepend == PREPEND_ALWAYS || (s->prepend == PREPEND_FIRST && first);
        mark_bytes = ps_utf8_encode(s->character, mark);
    }
    if (text[0] == ' ' || (span.n >= mark_bytes && memcmp(text, mark, mark_bytes) == 0)) return;
    if (wanted) ps_text_append(out, mark, mark_bytes);
}

static void write_part(const ps_tok_splitter *s, rewriting how, const char *text, size_t n,
                       ps_text *out)
{
    if (how == WITH_PREFIX_SPACE) {
        ps_text_append(out, text, n);
    } else if (how == AS_BYTE_CHARS) {
        ps_tok_append_byte_chars(out, text, n);
    } else {
        char mark[4];
        const size_t mark_bytes = ps_utf8_encode(s->character, mark);
        for (size_t at = 0; at < n;) {
            const char *blank = memchr(text + at, ' ', n - at);
            const size_t end = blank ? (size_t)(blank - text) : n;
            ps_text_append(out, text + at, end - at);
            if (blank) ps_text_append(out, mark, mark_bytes);
            at = end + (blank != NULL);
        }
    }
}

/* Writes every span anew, each as one span, what comes from the first character (w->origin, as with
 * the normalizers) and the rest of it. */
static ps_err rewrite(const ps_tok_splitter *s, ps_tok_work *w, rewriting how)
{
    ps_text *out = ps_tok_work_other(w);
    size_t origin = 0;
    w->other.n = 0;
    for (size_t i = 0; i < w->spans.n; i++) {
        const ps_tok_span span = w->spans.span[i];
        const size_t start = out->len;
        const size_t from_first = span.start < w->origin ? w->origin - span.start : 0;
        const size_t part = from_first < span.n ? from_first : span.n;
        write_prefix(s, how, w, span, out);
        write_part(s, how, w->text + span.start, part, out);
        if (part > 0) origin = out->len;
        write_part(s, how, w->text + span.start + part, span.n - part, out);
        ps_tok_spans_append(&w->other, start, out->len - start);
    }
    w->origin = origin;
    swap_spans(w);
    return ps_tok_work_flip(w);
}

static ps_err apply(const ps_tok_splitter *s, bool raw_bytes, ps_tok_work *w)
{
    if (s->type == METASPACE) {
        PS_TRY(rewrite(s, w, AS_METASPACE));
        return s->split ? cut(s, w) : PS_OK;
    }
    if (s->type == BYTE_LEVEL) {
        if (s->add_prefix_space) PS_TRY(rewrite(s, w, WITH_PREFIX_SPACE));
        if (s->use_pattern) PS_TRY(cut(s, w));
        return raw_bytes ? PS_OK : rewrite(s, w, AS_BYTE_CHARS);
    }
    return cut(s, w);
}

ps_err ps_tok_split(const ps_tok_splitters *ss, bool raw_bytes, ps_tok_work *w)
{
    w->spans.n = 0;
    ps_tok_spans_append(&w->spans, 0, w->n);
    for (int i = 0; i < ss->n; i++) {
        PS_TRY(apply(&ss->list[i], raw_bytes && i + 1 == ss->n, w));
    }
    return PS_OK;
}
