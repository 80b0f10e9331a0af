/* The values of fields as trees of tokens.
 *
 * A value is encoded in its line, "keyscale: F# minor", because a blank may merge with what follows
 * it; the tokens of "keyscale:" come off, what is left is the path. Values whose line does not
 * begin with those tokens cannot be written behind the name and are left out. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "serve/acestep_parts.h"

static const char *const field_names[PS_ACESTEP_FIELDS] = {
    [PS_ACESTEP_BPM] = "bpm",
    [PS_ACESTEP_CAPTION] = "caption",
    [PS_ACESTEP_DURATION] = "duration",
    [PS_ACESTEP_GENRES] = "genres",
    [PS_ACESTEP_KEYSCALE] = "keyscale",
    [PS_ACESTEP_LANGUAGE] = "language",
    [PS_ACESTEP_TIMESIGNATURE] = "timesignature",
};

static const char *const languages[] = {
    "ar", "az", "bg", "bn", "ca", "cs", "da", "de", "el", "en",  "es", "fa",      "fi",
    "fr", "he", "hi", "hr", "ht", "hu", "id", "is", "it", "ja",  "ko", "la",      "lt",
    "ms", "ne", "nl", "no", "pa", "pl", "pt", "ro", "ru", "sa",  "sk", "sr",      "sv",
    "sw", "ta", "te", "th", "tl", "tr", "uk", "ur", "vi", "yue", "zh", "unknown",
};

/* None, sharp, flat, and the last two as musical signs. */
static const char *const accidentals[] = {"", "#", "b", "\xE2\x99\xAF", "\xE2\x99\xAD"};
static const char *const modes[] = {"major", "minor"};
static const char *const time_signatures[] = {"2", "3", "4", "6"};

enum { MIN_BPM = 30, MAX_BPM = 300, N_NOTES = 7 };

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* A tree while values go into it. */
typedef struct gardener {
    const ps_tokenizer *tokenizer;
    ps_acestep_field field;
    ps_tokens name; // the tokens of "name:"
    ps_tokens line; // of the value's line; scratch
    acestep_tree *tree;
} gardener;

const char *ps_acestep_field_name(ps_acestep_field field)
{
    assert((unsigned)field < PS_ACESTEP_FIELDS);
    return field_names[field];
}

static int new_node(acestep_tree *tree, int32_t token)
{
    tree->nodes = ps_mem_grow(tree->nodes, &tree->capacity, tree->n + 1, sizeof *tree->nodes);
    tree->nodes[tree->n] = (acestep_node){token, -1, -1, -1, INT32_MAX};
    return (int)tree->n++;
}

int acestep_tree_find(const acestep_tree *tree, int node, int32_t token)
{
    int at = tree->nodes[node].child;
    while (at >= 0 && tree->nodes[at].token < token) {
        at = tree->nodes[at].sibling;
    }
    return at >= 0 && tree->nodes[at].token == token ? at : -1;
}

/* The child with this token, made at its place among its siblings if it was not there. */
static int grow_child(acestep_tree *tree, int node, int32_t token)
{
    int before = -1, at = tree->nodes[node].child;
    while (at >= 0 && tree->nodes[at].token < token) {
        before = at;
        at = tree->nodes[at].sibling;
    }
    if (at >= 0 && tree->nodes[at].token == token) return at;
    const int made = new_node(tree, token);
    tree->nodes[made].sibling = at;
    if (before < 0) {
        tree->nodes[node].child = made;
    } else {
        tree->nodes[before].sibling = made;
    }
    return made;
}

static void grow_path(acestep_tree *tree, const int32_t *tokens, size_t n, int value)
{
    int node = 0;
    for (size_t i = 0;; i++) {
        acestep_node *here = &tree->nodes[node];
        if (value < here->least) here->least = value;
        if (i == n) {
            here->value = value;
            return;
        }
        node = grow_child(tree, node, tokens[i]);
    }
}

/* Whether a keyscale's first token begins with its note, or is the blank before it. */
static ps_err begins_with_a_note(const ps_tokenizer *t, int32_t token, bool *out)
{
    ps_text text = {0};
    const ps_err err = ps_tokenizer_decode(t, &token, 1, false, &text);
    const char *at = ps_text_str(&text);
    size_t n = text.len;
    acestep_strip(&at, &n);
    *out = n == 0 || strchr("ABCDEFGabcdefg", at[0]) != NULL;
    ps_text_release(&text);
    return err;
}

static ps_err plant(gardener *g, const char *text, int value)
{
    char line[64];
    const int n = snprintf(line, sizeof line, "%s: %s", field_names[g->field], text);
    assert(n > 0 && (size_t)n < sizeof line);
    g->line.n = 0;
    PS_TRY(ps_tokenizer_encode(g->tokenizer, line, (size_t)n, false, &g->line));
    const size_t skipped = g->name.n;
    if (g->line.n <= skipped ||
        memcmp(g->line.ids, g->name.ids, skipped * sizeof *g->name.ids) != 0)
        return PS_OK;
    const int32_t *path = g->line.ids + skipped;
    bool is_kept = true;
    if (g->field == PS_ACESTEP_KEYSCALE) PS_TRY(begins_with_a_note(g->tokenizer, *path, &is_kept));
    if (is_kept) grow_path(g->tree, path, g->line.n - skipped, value);
    return PS_OK;
}

static ps_err plant_numbers(gardener *g, int first, int last)
{
    for (int value = first; value <= last; value++) {
        char text[16];
        snprintf(text, sizeof text, "%d", value);
        PS_TRY(plant(g, text, value));
    }
    return PS_OK;
}

static ps_err plant_words(gardener *g, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        PS_TRY(plant(g, words[i], 0));
    }
    return PS_OK;
}

static ps_err plant_keyscales(gardener *g)
{
    for (int note = 0; note < N_NOTES; note++) {
        for (size_t a = 0; a < COUNT(accidentals); a++) {
            for (size_t m = 0; m < COUNT(modes); m++) {
                char text[32];
                snprintf(text, sizeof text, "%c%s %s", 'A' + note, accidentals[a], modes[m]);
                PS_TRY(plant(g, text, 0));
            }
        }
    }
    return PS_OK;
}

static ps_err plant_field(gardener *g)
{
    switch (g->field) {
    case PS_ACESTEP_BPM:
        return plant_numbers(g, MIN_BPM, MAX_BPM);
    case PS_ACESTEP_DURATION:
        return plant_numbers(g, PS_ACESTEP_MIN_DURATION, PS_ACESTEP_MAX_DURATION);
    case PS_ACESTEP_KEYSCALE:
        return plant_keyscales(g);
    case PS_ACESTEP_LANGUAGE:
        return plant_words(g, languages, COUNT(languages));
    case PS_ACESTEP_TIMESIGNATURE:
        return plant_words(g, time_signatures, COUNT(time_signatures));
    default:
        assert(0 && "a field without a tree");
        return PS_OK;
    }
}

static ps_err grow_tree(const ps_tokenizer *t, ps_acestep_field field, acestep_tree *tree)
{
    gardener g = {.tokenizer = t, .field = field, .tree = tree};
    const char *name = field_names[field];
    ps_text label = {0};
    new_node(tree, -1);
    ps_text_appendf(&label, "%s:", name);
    ps_err err = ps_tokenizer_encode(t, label.data, label.len, false, &g.name);
    if (!err) err = plant_field(&g);
    // the shortest duration is in every tree that a lower maximum leaves: so none is empty
    if (!err && (tree->nodes[0].child < 0 ||
                 (field == PS_ACESTEP_DURATION && tree->nodes[0].least > PS_ACESTEP_MIN_DURATION)))
        err = PS_FAIL(PS_ERR_FORMAT, "tokenizer: no value of %s can be written behind \"%s:\"",
                      name, name);
    ps_text_release(&label);
    ps_tokens_release(&g.name);
    ps_tokens_release(&g.line);
    return err;
}

ps_err acestep_trees_grow(const ps_tokenizer *t, acestep_tree trees[PS_ACESTEP_FIELDS])
{
    for (ps_acestep_field field = 0; field < PS_ACESTEP_FIELDS; field++) {
        if (field == PS_ACESTEP_CAPTION || field == PS_ACESTEP_GENRES) continue;
        PS_TRY(grow_tree(t, field, &trees[field]));
    }
    return PS_OK;
}

void acestep_trees_release(acestep_tree trees[PS_ACESTEP_FIELDS])
{
    for (int field = 0; field < PS_ACESTEP_FIELDS; field++) {
        ps_mem_free(trees[field].nodes);
    }
}
