/* What a component searches for: a literal string, or a regular expression run by PCRE2.
 *
 * Matches are enumerated as the onig crate does it: the next search begins where the last match
 * ended, and an empty match right there is passed over by going one character on.
 *
 * Limits. A search may take a million steps and 16 a byte of the text at each starting point (an
 * honest pattern goes over a run of letters two or three times), 256 MiB of heap and 64 MiB of the
 * machine code's stack. A pattern that backtracks without end on some text is an error then, not a
 * hang. What the limits cannot see is a pattern that looks ahead to the end of a long run at each
 * of its matches in it; none of the known ones does. PCRE2_NO_UTF_CHECK is not for speed alone:
 * checking the whole text at each of its matches would make the walk quadratic. Texts are valid
 * here by construction.
 *
 * PCRE2 10.42 knows Unicode 14, the library being imitated Unicode 16. Characters that came in
 * between are shown to PCRE2 as an older one (`stand_in`) with the same general category and the
 * same length, so that its offsets hold for the real text. */
#include "serve/tokenizer_parts.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <assert.h>
#include <pcre2.h>
#include <string.h>

#include "base/mem.h"

/* First bytes of the characters that ps_tok_stand_in knows. */
static const bool may_be_newer[256] = {
    [0xE0] = true, [0xE1] = true, [0xE2] = true, [0xE3] = true, [0xEA] = true, [0xF0] = true,
};

enum {
    MATCH_LIMIT = 1000 * 1000,
    MATCH_LIMIT_PER_BYTE = 16,
    HEAP_LIMIT_KIB = 256 << 10,
    STACK_START_BYTES = 32 << 10,
    STACK_LIMIT_BYTES = 64 << 20,
};

void ps_tok_pattern_literal(ps_tok_pattern *p, const char *literal, size_t n)
{
    *p = (ps_tok_pattern){.literal = ps_mem_copy_bytes(literal, n), .literal_bytes = n};
}

ps_err ps_tok_pattern_regex(ps_tok_pattern *p, const char *regex, size_t n, const char *where)
{
    *p = (ps_tok_pattern){0};
    ps_text translated = {0};
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    ps_err err = ps_tok_regex_translate(regex, n, where, &translated);
    if (err) goto out;
    int code = 0;
    PCRE2_SIZE offset = 0;
    const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    p->code = pcre2_compile((PCRE2_SPTR)ps_text_str(&translated), translated.len, options, &code,
                            &offset, context);
    if (!p->code) {
        char reason[128] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)reason, sizeof reason);
        err = PS_FAIL(PS_ERR_FORMAT, "%s: the regular expression %.*s does not compile: %s", where,
                      n < 200 ? (int)n : 200, regex, reason);
        goto out;
    }
    p->compiled_to_machine_code = pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0;
out:
    pcre2_compile_context_free(context);
    ps_text_release(&translated);
    return err;
}

void ps_tok_pattern_release(ps_tok_pattern *p)
{
    pcre2_code_free(p->code);
    ps_mem_free(p->literal);
    *p = (ps_tok_pattern){0};
}

void ps_tok_matcher_release(ps_tok_matcher *m)
{
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    pcre2_jit_stack_free(m->stack);
    ps_text_release(&m->stand_in);
    *m = (ps_tok_matcher){0};
}

static void matcher_init(ps_tok_matcher *m)
{
    m->data = pcre2_match_data_create(1, NULL);
    m->context = pcre2_match_context_create(NULL);
    m->stack = pcre2_jit_stack_create(STACK_START_BYTES, STACK_LIMIT_BYTES, NULL);
    assert(m->data && m->context && "a few hundred bytes");
    pcre2_set_heap_limit(m->context, HEAP_LIMIT_KIB);
    if (m->stack) pcre2_jit_stack_assign(m->context, NULL, m->stack);
}

/* The text as PCRE2 shall see it: itself, unless there are newer characters. Only a few first bytes
 * can begin one, so Latin letters, most others and Chinese characters are passed quickly. */
static const char *known_text(ps_tok_matcher *m, const char *text, size_t n)
{
    bool copied = false;
    for (size_t i = 0; i < n; i++) {
        if (!may_be_newer[(unsigned char)text[i]]) continue;
        uint32_t c;
        const size_t length = ps_utf8_decode(text + i, n - i, &c);
        const uint32_t stand_in = ps_tok_stand_in(c);
        if (stand_in != 0) {
            if (!copied) {
                ps_text_clear(&m->stand_in);
                ps_text_append(&m->stand_in, text, n);
                copied = true;
            }
            char bytes[4];
            const size_t replaced = ps_utf8_encode(stand_in, bytes);
            assert(replaced == length);
            memcpy(m->stand_in.data + i, bytes, length);
        }
        i += length - 1;
    }
    return copied ? m->stand_in.data : text;
}

void ps_tok_search_begin(ps_tok_search *s, const ps_tok_pattern *p, ps_tok_matcher *m,
                         const char *text, size_t n)
{
    *s = (ps_tok_search){.pattern = p, .matcher = m, .text = text, .n = n, .last_end = SIZE_MAX};
    if (n == 0) s->from = 1; // nothing matches in an empty text, not even nothing
    if (p->literal) return;
    if (!m->data) matcher_init(m);
    const size_t limit = MATCH_LIMIT + MATCH_LIMIT_PER_BYTE * n;
    pcre2_set_match_limit(m->context, limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX);
    s->text = known_text(m, text, n);
}

static ps_err search_regex(const ps_tok_search *s, bool *found, size_t *start, size_t *end)
{
    const ps_tok_matcher *m = s->matcher;
    const PCRE2_SPTR text = (PCRE2_SPTR)s->text;
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    if (s->pattern->compiled_to_machine_code && m->stack) {
        rc = pcre2_jit_match(s->pattern->code, text, s->n, s->from, PCRE2_NO_UTF_CHECK, m->data,
                             m->context);
    }
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
        rc = pcre2_match(s->pattern->code, text, s->n, s->from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                         m->data, m->context);
    }
    *found = rc >= 0;
    if (rc == PCRE2_ERROR_NOMATCH) return PS_OK;
    if (rc < 0) {
        char reason[128] = "";
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)reason, sizeof reason);
        return PS_FAIL(PS_ERR_LIMIT,
                       "tokenizer: a regular expression gave up on the text after byte %zu: %s",
                       s->from, reason);
    }
    const PCRE2_SIZE *match = pcre2_get_ovector_pointer(m->data);
    // \K in a lookahead can put the start behind the end; there is no such match to report.
    *start = match[0] < match[1] ? match[0] : match[1];
    *end = match[1];
    return PS_OK;
}

static void search_literal(const ps_tok_search *s, bool *found, size_t *start, size_t *end)
{
    const ps_tok_pattern *p = s->pattern;
    const char *at = p->literal_bytes == 0
                         ? s->text + s->from
                         : memmem(s->text + s->from, s->n - s->from, p->literal, p->literal_bytes);
    *found = at != NULL;
    if (!at) return;
    *start = (size_t)(at - s->text);
    *end = *start + p->literal_bytes;
}

ps_err ps_tok_search_next(ps_tok_search *s, bool *found, size_t *start, size_t *end)
{
    *found = false;
    while (s->from <= s->n) {
        if (s->pattern->literal) {
            search_literal(s, found, start, end);
        } else {
            PS_TRY(search_regex(s, found, start, end));
        }
        if (!*found) return PS_OK;
        if (*start == *end && *end == s->last_end) {
            uint32_t c;
            *found = false;
            s->from += s->from < s->n ? ps_utf8_decode(s->text + s->from, s->n - s->from, &c) : 1;
            continue;
        }
        s->from = *end;
        s->last_end = *end;
        return PS_OK;
    }
    return PS_OK;
}
