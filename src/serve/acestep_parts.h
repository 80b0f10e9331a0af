/* What the files of ACE-Step's constrained decoding share.
 *
 *   acestep_vocabulary.c   the tokens' texts and ids; how tags and names are spelled
 *   acestep_fields.c       the values of fields as trees of tokens
 *   acestep_genres.c       the table of genres, and which tokens go on in it
 *   acestep_legal.c        sets of tokens as ranges
 *   acestep_rules.c        what is legal in each state, and where a token leads
 *   acestep_states.c       the constraint: made, copied, asked
 *
 * MPI: local.
 */
#ifndef PS_SERVE_ACESTEP_PARTS_H
#define PS_SERVE_ACESTEP_PARTS_H

#include "base/text.h"
#include "serve/acestep_states.h"

// ---- the value trees (acestep_fields.c) ----

/* A tree whose paths are the tokens of a field's values. Node 0 is the root. */
typedef struct acestep_node {
    int32_t token;
    int child, sibling; // the first child, the next one of the same parent; -1: none. Siblings
                        // stand in ascending order of tokens
    int value;          // what ends here: a number of seconds or beats, 0 for words; -1: nothing
    int least;          // the least value here and below
} acestep_node;

typedef struct acestep_tree {
    acestep_node *nodes; // [n]
    size_t n, capacity;
} acestep_tree;

/* The trees of a tokenizer; those of caption and genres stay empty. */
ps_err acestep_trees_grow(const ps_tokenizer *t,
                          acestep_tree trees[PS_ACESTEP_FIELDS]) PS_MUST_CHECK;
void acestep_trees_release(acestep_tree trees[PS_ACESTEP_FIELDS]);

/* The child of a node with this token; -1 if there is none. */
int acestep_tree_find(const acestep_tree *tree, int node, int32_t token);

// ---- the vocabulary (acestep_vocabulary.c) ----

enum { ACESTEP_MAX_SPELLED = 16 }; // bytes of the longest tag or name

/* A fixed text as the tokens that it is forced in. */
typedef struct acestep_spelling {
    int32_t ids[ACESTEP_MAX_SPELLED];
    size_t n;
} acestep_spelling;

struct ps_acestep_vocabulary {
    const ps_tokenizer *tokenizer; // borrowed
    int V, n_tokens;               // logits, tokens; n_tokens <= V
    ps_acestep_ids ids;
    int32_t digits[10];
    ps_text bytes;      // texts of all tokens, one behind the other
    uint32_t *text_end; // [n_tokens]  where each ends in `bytes`
    acestep_spelling think, think_end, newline, names[PS_ACESTEP_FIELDS];
    acestep_tree trees[PS_ACESTEP_FIELDS];
};

/* A token's text alone, *n bytes of valid UTF-8, not NUL-terminated; empty for ids that are none. */
const char *acestep_token_text(const ps_acestep_vocabulary *v, int32_t id, size_t *n);

// ---- characters (acestep_vocabulary.c) ----

/* Python's str.isspace, str.lower (appends), and str.strip in place of *text and *n. */
bool acestep_is_space(uint32_t c);
void acestep_append_lower(ps_text *out, const char *text, size_t n);
void acestep_strip(const char **text, size_t *n);

// ---- sets of tokens, as ranges (acestep_legal.c) ----

/* What decides between the tokens of a set. */
typedef enum acestep_choice {
    CHOICE_FREE,       // nothing: all of them may be drawn
    CHOICE_LARGEST,    // the largest logit of them is the one that may
    CHOICE_LINE,       // the caption behind a line break: the largest of all logits
    CHOICE_GENRES_END, // the line break, if it is the largest of all logits
} acestep_choice;

typedef struct acestep_legal {
    acestep_choice choice;
    ps_id_range *ranges; // [n] ascending, disjoint, never adjacent
    size_t n, capacity;
} acestep_legal;

void acestep_legal_clear(acestep_legal *legal); // empty, CHOICE_FREE

/* Adds first .. end-1, which lie behind all that is in the set. */
void acestep_legal_add(acestep_legal *legal, int32_t first, int32_t end);

/* To an empty set: every token but the legal codes and one more, -1 for none. Codes that are not
 * legal stay in it, as they do in the published handler. */
void acestep_legal_add_text(acestep_legal *legal, const ps_acestep_vocabulary *v, int32_t excepted);

/* The lowest id of the largest logit in the set, which is not empty. */
int32_t acestep_legal_largest(const acestep_legal *legal, const float *logits);

ps_id_range acestep_legal_codes(const ps_acestep_vocabulary *v); // those that may be written

// ---- genres (acestep_genres.c) ----

/* Adds the tokens that may follow the text written so far: never none. */
void acestep_genres_add_legal(const ps_acestep_genres *g, const ps_text *written,
                              acestep_legal *legal);

// ---- the machine ----

/* A field's name comes right before its value, and the fields in their order: rules count on it. */
typedef enum acestep_state {
    STATE_THINK_TAG,
    STATE_NEWLINE_AFTER_THINK,
    STATE_BPM_NAME,
    STATE_BPM_VALUE,
    STATE_CAPTION_NAME,
    STATE_CAPTION_VALUE,
    STATE_DURATION_NAME,
    STATE_DURATION_VALUE,
    STATE_GENRES_NAME,
    STATE_GENRES_VALUE,
    STATE_KEYSCALE_NAME,
    STATE_KEYSCALE_VALUE,
    STATE_LANGUAGE_NAME,
    STATE_LANGUAGE_VALUE,
    STATE_TIMESIG_NAME,
    STATE_TIMESIG_VALUE,
    STATE_THINK_END_TAG,
    STATE_CODES_GENERATION,
    STATE_COMPLETED,
    STATE_COUNT,
} acestep_state;

typedef struct acestep_states {
    ps_constraint base;

    // what was asked for
    const ps_acestep_vocabulary *vocabulary; // borrowed
    const ps_acestep_genres *genres;         // borrowed; NULL: no table
    ps_acestep_phase phase;
    bool stop_at_reasoning;
    bool skip[PS_ACESTEP_FIELDS];
    ps_tokens given[PS_ACESTEP_FIELDS]; // a value's tokens and its line break; n 0: the model's
    int max_duration;
    int target_codes; // -1: none

    // where it is
    acestep_state state;
    size_t position;    // in a spelled text or in given tokens
    int node;           // in the field's tree
    int caption_tokens; // so far
    bool after_newline; // the caption's last token held a line break
    bool ending;        // the caption is over: `name` grows until there is a colon
    ps_text name;       // of the next field, as the model writes it
    ps_text written;    // genres so far
    int n_codes;        // so far

    acestep_legal legal; // in this state
    bool is_known;       // `legal` is what the state leaves
} acestep_states;

/* What the state table says of a state (acestep_rules.c). */
const char *acestep_state_name(acestep_state state);

/* Finds out s->legal, once a token. */
void acestep_find_legal(acestep_states *s);

/* Decides s->legal.choice by the logits [V]; it is CHOICE_FREE then. */
void acestep_decide(acestep_states *s, const float *logits);

/* The state behind a token. */
void acestep_follow(acestep_states *s, int32_t token);

#endif
