/* What is legal in each state, and where a token leads: the rules of serve/acestep_states.h.
 *
 * A state's row says what kind of state it is; a kind has two functions, one that finds the legal
 * tokens and one that follows a token. All that a kind needs to know of a state, it reads there. */
#include <assert.h>
#include <string.h>

#include "serve/acestep_parts.h"

/* Kinds of states. */
typedef enum state_kind {
    KIND_SPELLED,  // a tag, a name: its text
    KIND_END_TAG,  // spelled too, or the end token
    KIND_TREE,     // a value out of a tree; the line break behind a whole one, and it alone
    KIND_NUMBER,   // likewise, but a number that is whole may also go on
    KIND_LANGUAGE, // likewise, but the first token is not drawn
    KIND_CAPTION,
    KIND_GENRES,
    KIND_CODES,
    KIND_FREE,
    KIND_COUNT,
} state_kind;

typedef struct state_row {
    const char *name;
    state_kind kind;
    ps_acestep_field field; // of names and values
} state_row;

static const state_row rows[STATE_COUNT] = {
    [STATE_THINK_TAG] = {"THINK_TAG", KIND_SPELLED, 0},
    [STATE_NEWLINE_AFTER_THINK] = {"NEWLINE_AFTER_THINK", KIND_SPELLED, 0},
    [STATE_BPM_NAME] = {"BPM_NAME", KIND_SPELLED, PS_ACESTEP_BPM},
    [STATE_BPM_VALUE] = {"BPM_VALUE", KIND_NUMBER, PS_ACESTEP_BPM},
    [STATE_CAPTION_NAME] = {"CAPTION_NAME", KIND_SPELLED, PS_ACESTEP_CAPTION},
    [STATE_CAPTION_VALUE] = {"CAPTION_VALUE", KIND_CAPTION, PS_ACESTEP_CAPTION},
    [STATE_DURATION_NAME] = {"DURATION_NAME", KIND_SPELLED, PS_ACESTEP_DURATION},
    [STATE_DURATION_VALUE] = {"DURATION_VALUE", KIND_NUMBER, PS_ACESTEP_DURATION},
    [STATE_GENRES_NAME] = {"GENRES_NAME", KIND_SPELLED, PS_ACESTEP_GENRES},
    [STATE_GENRES_VALUE] = {"GENRES_VALUE", KIND_GENRES, PS_ACESTEP_GENRES},
    [STATE_KEYSCALE_NAME] = {"KEYSCALE_NAME", KIND_SPELLED, PS_ACESTEP_KEYSCALE},
    [STATE_KEYSCALE_VALUE] = {"KEYSCALE_VALUE", KIND_TREE, PS_ACESTEP_KEYSCALE},
    [STATE_LANGUAGE_NAME] = {"LANGUAGE_NAME", KIND_SPELLED, PS_ACESTEP_LANGUAGE},
    [STATE_LANGUAGE_VALUE] = {"LANGUAGE_VALUE", KIND_LANGUAGE, PS_ACESTEP_LANGUAGE},
    [STATE_TIMESIG_NAME] = {"TIMESIG_NAME", KIND_SPELLED, PS_ACESTEP_TIMESIGNATURE},
    [STATE_TIMESIG_VALUE] = {"TIMESIG_VALUE", KIND_TREE, PS_ACESTEP_TIMESIGNATURE},
    [STATE_THINK_END_TAG] = {"THINK_END_TAG", KIND_END_TAG, 0},
    [STATE_CODES_GENERATION] = {"CODES_GENERATION", KIND_CODES, 0},
    [STATE_COMPLETED] = {"COMPLETED", KIND_FREE, 0},
};

const char *acestep_state_name(acestep_state state)
{
    return rows[state].name;
}

static acestep_state name_state(ps_acestep_field field)
{
    return (acestep_state)(STATE_BPM_NAME + 2 * (int)field);
}

static acestep_state value_state(ps_acestep_field field)
{
    return (acestep_state)(STATE_BPM_VALUE + 2 * (int)field);
}

// ---- short names ----

static void add_one(acestep_states *s, int32_t id)
{
    acestep_legal_add(&s->legal, id, id + 1);
}

static void add_all(acestep_states *s)
{
    acestep_legal_add(&s->legal, 0, s->vocabulary->n_tokens);
}

// ---- from state to state ----

static void enter(acestep_states *s, acestep_state state)
{
    s->state = state;
    s->position = 0;
    s->node = 0;
    s->caption_tokens = 0;
    s->after_newline = false;
    s->ending = false;
    ps_text_clear(&s->name);
    ps_text_clear(&s->written);
}

/* Behind a field's value: the next field that is not skipped, or the tag. */
static void enter_next_field(acestep_states *s)
{
    for (int field = (int)rows[s->state].field + 1; field < PS_ACESTEP_FIELDS; field++) {
        if (s->skip[field]) continue;
        enter(s, name_state((ps_acestep_field)field));
        return;
    }
    enter(s, STATE_THINK_END_TAG);
}

// ---- texts that are certain ----

static const acestep_spelling *spelling_of(const acestep_states *s)
{
    const ps_acestep_vocabulary *v = s->vocabulary;
    switch (s->state) {
    case STATE_THINK_TAG:
        return &v->think;
    case STATE_NEWLINE_AFTER_THINK:
        return &v->newline;
    case STATE_THINK_END_TAG:
        return &v->think_end;
    default:
        return &v->names[rows[s->state].field];
    }
}

static void find_spelled(acestep_states *s)
{
    add_one(s, spelling_of(s)->ids[s->position]);
}

static void follow_spelled(acestep_states *s, int32_t token)
{
    const acestep_spelling *spelling = spelling_of(s);
    assert(token == spelling->ids[s->position] && "a token that was not legal");
    (void)token;
    if (++s->position == spelling->n) enter(s, (acestep_state)(s->state + 1));
}

static void find_end_tag(acestep_states *s)
{
    if (s->stop_at_reasoning) {
        add_one(s, s->vocabulary->ids.eos);
    } else {
        find_spelled(s);
    }
}

static void follow_end_tag(acestep_states *s, int32_t token)
{
    (void)token;
    if (s->stop_at_reasoning) {
        enter(s, STATE_COMPLETED);
    } else if (++s->position == s->vocabulary->think_end.n) {
        enter(s, s->phase == PS_ACESTEP_UNDERSTAND ? STATE_COMPLETED : STATE_CODES_GENERATION);
    }
}

/* The user's value, or the digits of the target; NULL where the model writes the value. */
static const ps_tokens *given_value(const acestep_states *s)
{
    const ps_acestep_field field = rows[s->state].field;
    const bool is_value = s->state == value_state(field);
    return is_value && s->given[field].n > 0 ? &s->given[field] : NULL;
}

// ---- values out of trees ----

/* The tokens that lead on to a value up to the limit, and the line break behind a whole one. */
static void add_tree(acestep_states *s, int limit, bool may_go_on)
{
    const acestep_node *nodes = s->vocabulary->trees[rows[s->state].field].nodes;
    const acestep_node *here = &nodes[s->node];
    const int32_t newline = s->vocabulary->ids.newline;
    bool may_end = here->value >= 0 && here->value <= limit;
    if (may_end && !may_go_on) {
        add_one(s, newline);
        return;
    }
    for (int at = here->child; at >= 0; at = nodes[at].sibling) {
        if (nodes[at].least > limit) continue;
        if (may_end && newline < nodes[at].token) {
            add_one(s, newline);
            may_end = false;
        }
        add_one(s, nodes[at].token);
    }
    if (may_end) add_one(s, newline);
}

static void find_number(acestep_states *s)
{
    const bool is_duration = s->state == STATE_DURATION_VALUE;
    add_tree(s, is_duration ? s->max_duration : INT32_MAX, true);
}

static void find_in_tree(acestep_states *s)
{
    add_tree(s, INT32_MAX, false);
}

static void find_language(acestep_states *s)
{
    find_in_tree(s);
    if (s->node == 0) s->legal.choice = CHOICE_LARGEST;
}

static void follow_tree(acestep_states *s, int32_t token)
{
    if (token == s->vocabulary->ids.newline) {
        enter_next_field(s);
        return;
    }
    s->node = acestep_tree_find(&s->vocabulary->trees[rows[s->state].field], s->node, token);
    assert(s->node >= 0 && "a token that was not legal");
}

// ---- the caption ----

static void add_caption(acestep_states *s)
{
    if (s->caption_tokens >= PS_ACESTEP_MAX_CAPTION) {
        add_one(s, s->vocabulary->ids.newline);
    } else {
        acestep_legal_add_text(&s->legal, s->vocabulary, s->vocabulary->ids.backtick);
    }
}

static void find_caption(acestep_states *s)
{
    if (s->after_newline) {
        add_all(s);
        s->legal.choice = CHOICE_LINE;
    } else if (s->ending) {
        add_all(s);
    } else {
        add_caption(s);
    }
}

/* Behind a line break the largest logit tells whether the next line still is the caption: its lines
 * are indented. */
static void decide_line(acestep_states *s, const float *logits)
{
    size_t n;
    const int32_t largest = acestep_legal_largest(&s->legal, logits);
    const char *text = acestep_token_text(s->vocabulary, largest, &n);
    if (n > 0 && *text != ' ' && *text != '\t') {
        s->ending = true;
        ps_text_clear(&s->name);
    } else if (!s->ending) {
        acestep_legal_clear(&s->legal);
        add_caption(s);
    }
    s->legal.choice = CHOICE_FREE;
}

/* The field that a caption's last line names, "Duration :\n"; PS_ACESTEP_FIELDS if it is none that
 * may follow. */
static ps_acestep_field named_field(const ps_text *line)
{
    const char *at = ps_text_str(line);
    size_t n = line->len;
    acestep_strip(&at, &n);
    while (n > 0 && at[n - 1] == ':') {
        n--;
    }
    acestep_strip(&at, &n);
    ps_text name = {0};
    acestep_append_lower(&name, at, n);
    ps_acestep_field field = PS_ACESTEP_DURATION; // not back to bpm or the caption
    while (field < PS_ACESTEP_FIELDS &&
           strcmp(ps_text_str(&name), ps_acestep_field_name(field)) != 0) {
        field++;
    }
    ps_text_release(&name);
    return field;
}

static void follow_caption(acestep_states *s, int32_t token)
{
    size_t n;
    const char *text = acestep_token_text(s->vocabulary, token, &n);
    s->caption_tokens++;
    s->after_newline = n > 0 && memchr(text, '\n', n);
    if (!s->ending) return;
    ps_text_append(&s->name, text, n);
    if (n == 0 || !memchr(text, ':', n)) return;
    const ps_acestep_field field = named_field(&s->name);
    if (field < PS_ACESTEP_FIELDS) {
        enter(s, value_state(field));
    } else {
        enter_next_field(s);
    }
}

// ---- genres ----

static void find_genres(acestep_states *s)
{
    if (s->genres) {
        acestep_genres_add_legal(s->genres, &s->written, &s->legal);
        return;
    }
    const char *text = ps_text_str(&s->written);
    size_t n = s->written.len;
    acestep_strip(&text, &n);
    if (n > 0) {
        add_all(s);
        s->legal.choice = CHOICE_GENRES_END;
        return;
    }
    const int32_t newline = s->vocabulary->ids.newline;
    acestep_legal_add(&s->legal, 0, newline);
    acestep_legal_add(&s->legal, newline + 1, s->vocabulary->n_tokens);
}

/* Only a line break that is larger than all others: where another one is as large, both are legal.
 */
static void decide_genres_end(acestep_states *s, const float *logits)
{
    const int32_t newline = s->vocabulary->ids.newline;
    bool is_largest = true;
    for (int32_t id = 0; id < s->vocabulary->n_tokens && is_largest; id++) {
        is_largest = id == newline || logits[id] < logits[newline];
    }
    if (is_largest) {
        acestep_legal_clear(&s->legal);
        add_one(s, newline);
    }
    s->legal.choice = CHOICE_FREE;
}

static void follow_genres(acestep_states *s, int32_t token)
{
    if (token == s->vocabulary->ids.newline) {
        enter_next_field(s);
        return;
    }
    size_t n;
    const char *text = acestep_token_text(s->vocabulary, token, &n);
    ps_text_append(&s->written, text, n);
}

// ---- codes, and what comes after ----

static void find_codes(acestep_states *s)
{
    const ps_id_range codes = acestep_legal_codes(s->vocabulary);
    const int32_t eos = s->vocabulary->ids.eos;
    const bool has_target = s->target_codes >= 0;
    if (has_target && s->n_codes >= s->target_codes) {
        add_one(s, eos);
        return;
    }
    if (!has_target && eos < codes.first) add_one(s, eos);
    acestep_legal_add(&s->legal, codes.first, codes.end);
    if (!has_target && eos >= codes.end) add_one(s, eos);
}

static void follow_codes(acestep_states *s, int32_t token)
{
    if (token != s->vocabulary->ids.eos) s->n_codes++;
}

static void find_free(acestep_states *s)
{
    if (s->phase == PS_ACESTEP_UNDERSTAND) {
        acestep_legal_add_text(&s->legal, s->vocabulary, -1);
    } else {
        add_all(s);
    }
}

static void follow_free(acestep_states *s, int32_t token)
{
    (void)s;
    (void)token;
}

// ---- kinds ----

static const struct {
    void (*find)(acestep_states *s);
    void (*follow)(acestep_states *s, int32_t token);
} kinds[KIND_COUNT] = {
    [KIND_SPELLED] = {find_spelled, follow_spelled},
    [KIND_END_TAG] = {find_end_tag, follow_end_tag},
    [KIND_TREE] = {find_in_tree, follow_tree},
    [KIND_NUMBER] = {find_number, follow_tree},
    [KIND_LANGUAGE] = {find_language, follow_tree},
    [KIND_CAPTION] = {find_caption, follow_caption},
    [KIND_GENRES] = {find_genres, follow_genres},
    [KIND_CODES] = {find_codes, follow_codes},
    [KIND_FREE] = {find_free, follow_free},
};

void acestep_find_legal(acestep_states *s)
{
    if (s->is_known) return;
    const ps_tokens *given = given_value(s);
    acestep_legal_clear(&s->legal);
    if (given) {
        add_one(s, given->ids[s->position]);
    } else {
        kinds[rows[s->state].kind].find(s);
    }
    assert(s->legal.n > 0 && "every state leaves a token");
    s->is_known = true;
}

void acestep_decide(acestep_states *s, const float *logits)
{
    switch (s->legal.choice) {
    case CHOICE_FREE:
        break;
    case CHOICE_LARGEST: {
        const int32_t largest = acestep_legal_largest(&s->legal, logits);
        acestep_legal_clear(&s->legal);
        add_one(s, largest);
        break;
    }
    case CHOICE_LINE:
        decide_line(s, logits);
        break;
    case CHOICE_GENRES_END:
        decide_genres_end(s, logits);
        break;
    }
}

void acestep_follow(acestep_states *s, int32_t token)
{
    const ps_tokens *given = given_value(s);
    s->is_known = false;
    if (!given) {
        kinds[rows[s->state].kind].follow(s, token);
    } else if (++s->position == given->n) {
        enter_next_field(s);
    }
}
