/* ACE-Step's states as a constraint: how it is made and copied, and what the seam asks. The rules
 * are in acestep_rules.c. */
#include "serve/acestep_states.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "serve/acestep_parts.h"

static const ps_constraint_kind states_kind;

static acestep_states *states_of(ps_constraint *c)
{
    assert(c->kind == &states_kind);
    return (acestep_states *)c;
}

// ---- making ----

ps_acestep_params ps_acestep_params_default(void)
{
    return (ps_acestep_params){
        .phase = PS_ACESTEP_COT,
        .stop_at_reasoning = true,
        .skip_genres = true,
        .max_duration = PS_ACESTEP_MAX_DURATION,
    };
}

static ps_err check_durations(const ps_acestep_params *p)
{
    if (p->max_duration < PS_ACESTEP_MIN_DURATION || p->max_duration > PS_ACESTEP_MAX_DURATION)
        return PS_FAIL(PS_ERR_USAGE, "acestep: longest duration %d s, wanted %d .. %d",
                       p->max_duration, (int)PS_ACESTEP_MIN_DURATION, (int)PS_ACESTEP_MAX_DURATION);
    if (!(p->target_duration >= 0 && p->target_duration <= PS_ACESTEP_MAX_DURATION))
        return PS_FAIL(PS_ERR_USAGE, "acestep: target duration %g s, wanted 0 .. %d",
                       p->target_duration, (int)PS_ACESTEP_MAX_DURATION);
    return PS_OK;
}

/* A value's text must stay text. What its tokens say decides, since a tokenizer's added tokens are
 * found in it as they are in every text. */
static ps_err check_value(const ps_acestep_vocabulary *v, const char *name, const ps_tokens *tokens,
                          const char *text, size_t n)
{
    const ps_tokenizer_part part = {-1, text, n};
    ps_tokens plain = {0};
    ps_err err = ps_tokenizer_encode_parts(v->tokenizer, &part, 1, &plain);
    bool is_text = !err && plain.n == tokens->n &&
                   memcmp(plain.ids, tokens->ids, plain.n * sizeof *plain.ids) == 0;
    const ps_acestep_ids *ids = &v->ids;
    for (size_t i = 0; i < tokens->n; i++) {
        const int32_t id = tokens->ids[i];
        is_text = is_text && id != ids->eos && id != ids->think && id != ids->think_end &&
                  (id < ids->first_code || id >= ids->first_code + ids->n_codes);
    }
    if (!err && !is_text)
        err = PS_FAIL(PS_ERR_USAGE,
                      "acestep: the value of %s holds the text of a control token or an audio code",
                      name);
    ps_tokens_release(&plain);
    return err;
}

static ps_err give_value(acestep_states *s, ps_acestep_field field, const char *value)
{
    const char *name = ps_acestep_field_name(field);
    const size_t n = strlen(value);
    if (n > PS_ACESTEP_MAX_USER_BYTES)
        return PS_FAIL(PS_ERR_LIMIT,
                       "acestep: the value of %s has %zu bytes, at most %d are allowed", name, n,
                       (int)PS_ACESTEP_MAX_USER_BYTES);
    if (ps_utf8_valid_prefix(value, n, NULL) < n)
        return PS_FAIL(PS_ERR_USAGE, "acestep: the value of %s is not UTF-8", name);
    const ps_acestep_vocabulary *v = s->vocabulary;
    ps_text text = {0};
    ps_text_appendf(&text, " %s\n", value);
    ps_tokens *tokens = &s->given[field];
    ps_err err = ps_tokenizer_encode(v->tokenizer, text.data, text.len, false, tokens);
    if (!err) err = check_value(v, name, tokens, text.data, text.len);
    ps_text_release(&text);
    return err;
}

/* The target as a value: its digits right behind the name, without a blank. */
static void give_target(acestep_states *s, double target)
{
    ps_tokens *tokens = &s->given[PS_ACESTEP_DURATION];
    char digits[16];
    snprintf(digits, sizeof digits, "%d", (int)target);
    for (const char *at = digits; *at; at++) {
        ps_tokens_append(tokens, s->vocabulary->digits[*at - '0']);
    }
    ps_tokens_append(tokens, s->vocabulary->ids.newline);
}

static ps_err set_up(acestep_states *s, const ps_acestep_params *p)
{
    PS_TRY(check_durations(p));
    s->genres = p->genres;
    s->phase = p->phase;
    s->stop_at_reasoning = p->stop_at_reasoning;
    s->skip[PS_ACESTEP_CAPTION] = p->skip_caption;
    s->skip[PS_ACESTEP_GENRES] = p->skip_genres;
    s->skip[PS_ACESTEP_LANGUAGE] = p->skip_language;
    s->max_duration = p->max_duration;
    const bool has_target = p->target_duration > 0;
    s->target_codes = has_target ? (int)(p->target_duration * PS_ACESTEP_CODES_PER_SECOND) : -1;
    for (ps_acestep_field field = 0; field < PS_ACESTEP_FIELDS; field++) {
        if (p->values[field]) PS_TRY(give_value(s, field, p->values[field]));
    }
    if (has_target && !p->values[PS_ACESTEP_DURATION]) give_target(s, p->target_duration);
    s->state = p->phase == PS_ACESTEP_CODES ? STATE_CODES_GENERATION : STATE_THINK_TAG;
    return PS_OK;
}

ps_err ps_acestep_states_new(const ps_acestep_vocabulary *v, const ps_acestep_params *p,
                             ps_constraint **out)
{
    acestep_states *s = ps_mem_new(1, sizeof *s);
    *out = NULL;
    s->base.kind = &states_kind;
    s->vocabulary = v;
    const ps_err err = set_up(s, p);
    if (err) {
        states_kind.free(&s->base);
        return err;
    }
    *out = &s->base;
    return PS_OK;
}

// ---- the seam ----

static bool is_every_logit(const acestep_states *s)
{
    const ps_id_range *ranges = s->legal.ranges;
    return s->legal.n == 1 && ranges[0].first == 0 && ranges[0].end == s->vocabulary->V;
}

static void expect(ps_constraint *c, ps_expectation *out)
{
    acestep_states *s = states_of(c);
    acestep_find_legal(s);
    const acestep_legal *legal = &s->legal;
    const bool is_one = legal->n == 1 && legal->ranges[0].end - legal->ranges[0].first == 1;
    *out = (ps_expectation){
        .certain = is_one ? legal->ranges[0].first : -1,
        .ranges = is_every_logit(s) ? NULL : legal->ranges,
        .n_ranges = is_every_logit(s) ? 0 : (int)legal->n,
    };
}

static void set_bits(uint64_t *words, int32_t first, int32_t end)
{
    for (int32_t id = first; id < end;) {
        if (id % 64 == 0 && end - id >= 64) {
            words[id / 64] = UINT64_MAX;
            id += 64;
        } else {
            words[id / 64] |= UINT64_C(1) << (id % 64);
            id++;
        }
    }
}

static ps_err allow(ps_constraint *c, const float *logits, uint64_t *allowed, bool *all)
{
    acestep_states *s = states_of(c);
    acestep_find_legal(s);
    s->is_known = s->legal.choice == CHOICE_FREE; // other logits would decide otherwise
    acestep_decide(s, logits);
    *all = is_every_logit(s);
    if (*all) return PS_OK;
    const size_t words = ((size_t)s->vocabulary->V + 63) / 64;
    memset(allowed, 0, words * sizeof *allowed);
    for (size_t i = 0; i < s->legal.n; i++) {
        set_bits(allowed, s->legal.ranges[i].first, s->legal.ranges[i].end);
    }
    return PS_OK;
}

static void advance(ps_constraint *c, int32_t token)
{
    acestep_follow(states_of(c), token);
}

static void copy_text(const ps_text *from, ps_text *to)
{
    *to = (ps_text){0};
    ps_text_append(to, ps_text_str(from), from->len);
}

static ps_constraint *copy(const ps_constraint *c)
{
    assert(c->kind == &states_kind);
    const acestep_states *from = (const acestep_states *)c;
    acestep_states *to = ps_mem_new(1, sizeof *to);
    *to = *from;
    for (int field = 0; field < PS_ACESTEP_FIELDS; field++) {
        to->given[field] = (ps_tokens){0};
        for (size_t i = 0; i < from->given[field].n; i++) {
            ps_tokens_append(&to->given[field], from->given[field].ids[i]);
        }
    }
    copy_text(&from->name, &to->name);
    copy_text(&from->written, &to->written);
    to->legal = (acestep_legal){0}; // found out again: between two tokens it follows from the rest
    to->is_known = false;
    return &to->base;
}

static void free_states(ps_constraint *c)
{
    acestep_states *s = states_of(c);
    for (int field = 0; field < PS_ACESTEP_FIELDS; field++) {
        ps_tokens_release(&s->given[field]);
    }
    ps_text_release(&s->name);
    ps_text_release(&s->written);
    ps_mem_free(s->legal.ranges);
    ps_mem_free(s);
}

static const ps_constraint_kind states_kind = {
    .expect = expect,
    .allow = allow,
    .advance = advance,
    .copy = copy,
    .free = free_states,
};

const char *ps_acestep_states_name(const ps_constraint *c)
{
    assert(c->kind == &states_kind);
    return acestep_state_name(((const acestep_states *)c)->state);
}

int ps_acestep_states_codes(const ps_constraint *c)
{
    assert(c->kind == &states_kind);
    return ((const acestep_states *)c)->n_codes;
}
