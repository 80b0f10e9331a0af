/* The table of genres: a tree of the entries' bytes, and the tokens' texts as they are compared.
 *
 * Entries are sorted, so those that begin alike stand together and the tree can be laid out breadth
 * first: a node's children are neighbours. Texts and entries are valid UTF-8, so that going by
 * bytes is going by characters.
 *
 * Finding the legal tokens walks the tree once for each token of the vocabulary. Most leave it at
 * their first or second byte; 217,204 tokens take 4 ms. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "serve/acestep_parts.h"

typedef struct entry {
    const char *text; // [n]
    size_t n;
} entry;

typedef struct node {
    uint32_t children; // index of the first
    uint16_t n_children;
    unsigned char byte;
    bool is_whole; // an entry ends here
} node;

struct ps_acestep_genres {
    const ps_acestep_vocabulary *vocabulary; // borrowed
    node *nodes;                             // [n]  node 0 is the root
    size_t n, capacity;
    ps_text bytes;      // the tokens' texts in lower case, white space at their ends taken off
    uint32_t *text_end; // [n_tokens]  where each ends
};

/* The entries below a node, while the tree is laid out. */
typedef struct stretch {
    size_t first, end; // of the sorted entries
    size_t depth;      // bytes that they have in common
} stretch;

typedef struct layout {
    const entry *entries;
    stretch *stretches; // [n of the tree]
    size_t capacity;
} layout;

static int compare_entries(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    const size_t n = x->n < y->n ? x->n : y->n;
    const int order = memcmp(x->text, y->text, n);
    if (order != 0) return order;
    return (x->n > y->n) - (x->n < y->n);
}

static void add_node(ps_acestep_genres *g, layout *l, unsigned char byte, stretch entries)
{
    g->nodes = ps_mem_grow(g->nodes, &g->capacity, g->n + 1, sizeof *g->nodes);
    l->stretches = ps_mem_grow(l->stretches, &l->capacity, g->n + 1, sizeof *l->stretches);
    g->nodes[g->n] = (node){.byte = byte};
    l->stretches[g->n] = entries;
    g->n++;
}

/* Gives a node its children: one for each byte that its entries go on with. */
static void add_children(ps_acestep_genres *g, layout *l, size_t parent)
{
    const stretch s = l->stretches[parent];
    const size_t children = g->n;
    size_t at = s.first;
    while (at < s.end && l->entries[at].n == s.depth) {
        g->nodes[parent].is_whole = true;
        at++;
    }
    while (at < s.end) {
        const size_t first = at;
        const char byte = l->entries[at].text[s.depth];
        while (at < s.end && l->entries[at].text[s.depth] == byte) {
            at++;
        }
        add_node(g, l, (unsigned char)byte, (stretch){first, at, s.depth + 1});
    }
    g->nodes[parent].children = (uint32_t)children;
    g->nodes[parent].n_children = (uint16_t)(g->n - children);
}

static void lay_out(ps_acestep_genres *g, const entry *entries, size_t n)
{
    layout l = {.entries = entries};
    add_node(g, &l, 0, (stretch){0, n, 0});
    for (size_t i = 0; i < g->n; i++) {
        add_children(g, &l, i);
    }
    ps_mem_free(l.stretches);
}

/* The next line without its end, which is \n, \r or both; false when there is none. */
static bool next_line(const char *text, size_t n, size_t *at, entry *line)
{
    if (*at >= n) return false;
    size_t end = *at;
    while (end < n && text[end] != '\n' && text[end] != '\r') {
        end++;
    }
    *line = (entry){text + *at, end - *at};
    *at = end + 1 + (end + 1 < n && text[end] == '\r' && text[end + 1] == '\n');
    return true;
}

/* Entries of a text that is in lower case. */
static size_t find_entries(const char *text, size_t n, entry **out)
{
    size_t count = 0, capacity = 0, at = 0;
    entry line;
    *out = NULL;
    while (next_line(text, n, &at, &line)) {
        acestep_strip(&line.text, &line.n);
        if (line.n == 0 || line.text[0] == '#') continue;
        *out = ps_mem_grow(*out, &capacity, count + 1, sizeof **out);
        (*out)[count++] = line;
    }
    return count;
}

static void prepare_tokens(ps_acestep_genres *g)
{
    const ps_acestep_vocabulary *v = g->vocabulary;
    ps_text lower = {0};
    g->text_end = ps_mem_new((size_t)v->n_tokens, sizeof *g->text_end);
    for (int32_t id = 0; id < v->n_tokens; id++) {
        size_t n;
        const char *text = acestep_token_text(v, id, &n);
        ps_text_clear(&lower);
        acestep_append_lower(&lower, text, n);
        const char *kept = ps_text_str(&lower);
        size_t length = lower.len;
        acestep_strip(&kept, &length); // its end counts, not its beginning
        const size_t before = (size_t)(kept - ps_text_str(&lower));
        if (length > 0) ps_text_append(&g->bytes, lower.data, before + length);
        assert(g->bytes.len <= UINT32_MAX && "lower case is at most half as long again");
        g->text_end[id] = (uint32_t)g->bytes.len;
    }
    ps_text_release(&lower);
}

static ps_err read_table(ps_acestep_genres *g, const char *text, size_t n, const char *where)
{
    if (n > PS_ACESTEP_MAX_GENRES)
        return PS_FAIL(PS_ERR_LIMIT, "%s: %zu bytes, a table of genres has at most %d", where, n,
                       (int)PS_ACESTEP_MAX_GENRES);
    const size_t valid = ps_utf8_valid_prefix(text, n, NULL);
    if (valid < n)
        return PS_FAIL(PS_ERR_FORMAT, "%s: byte %zu is not UTF-8, wanted genres, one a line", where,
                       valid);
    ps_text lower = {0};
    entry *entries;
    acestep_append_lower(&lower, text, n);
    const size_t count = find_entries(ps_text_str(&lower), lower.len, &entries);
    if (count > 0) {
        qsort(entries, count, sizeof *entries, compare_entries);
        lay_out(g, entries, count);
    }
    ps_mem_free(entries);
    ps_text_release(&lower);
    if (count == 0) return PS_FAIL(PS_ERR_FORMAT, "%s: no genre in it, wanted one a line", where);
    return PS_OK;
}

ps_err ps_acestep_genres_new(const ps_acestep_vocabulary *v, const char *text, size_t n,
                             const char *where, ps_acestep_genres **out)
{
    ps_acestep_genres *g = ps_mem_new(1, sizeof *g);
    *out = NULL;
    g->vocabulary = v;
    const ps_err err = read_table(g, text, n, where);
    if (err) {
        ps_acestep_genres_free(g);
        return err;
    }
    prepare_tokens(g);
    *out = g;
    return PS_OK;
}

void ps_acestep_genres_free(ps_acestep_genres *g)
{
    if (!g) return;
    ps_mem_free(g->nodes);
    ps_mem_free(g->text_end);
    ps_text_release(&g->bytes);
    ps_mem_free(g);
}

static const node *find_child(const ps_acestep_genres *g, const node *parent, unsigned char byte)
{
    size_t low = 0, high = parent->n_children;
    const node *children = g->nodes + parent->children;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (children[middle].byte < byte) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < parent->n_children && children[low].byte == byte ? &children[low] : NULL;
}

/* The node that the bytes lead to; NULL when they leave the tree. */
static const node *walk(const ps_acestep_genres *g, const node *from, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n && from; i++) {
        from = find_child(g, from, (unsigned char)bytes[i]);
    }
    return from;
}

/* A token of white space alone: its first character must go on, and a blank or a comma as well. */
static bool blank_is_legal(const ps_acestep_genres *g, const node *here, int32_t id)
{
    size_t n;
    uint32_t c;
    const char *text = acestep_token_text(g->vocabulary, id, &n);
    if (n == 0) return false;
    return walk(g, here, text, ps_utf8_decode(text, n, &c)) &&
           (find_child(g, here, ' ') || find_child(g, here, ','));
}

static bool token_is_legal(const ps_acestep_genres *g, const node *here, int32_t id)
{
    if (id == g->vocabulary->ids.newline && here->is_whole) return true;
    const size_t start = id > 0 ? g->text_end[id - 1] : 0, n = g->text_end[id] - start;
    if (n == 0) return blank_is_legal(g, here, id);
    return walk(g, here, ps_text_str(&g->bytes) + start, n) != NULL;
}

void acestep_genres_add_legal(const ps_acestep_genres *g, const ps_text *written,
                              acestep_legal *legal)
{
    ps_text lower = {0};
    acestep_append_lower(&lower, ps_text_str(written), written->len);
    const char *prefix = ps_text_str(&lower);
    size_t n = lower.len;
    acestep_strip(&prefix, &n);
    const node *here = walk(g, g->nodes, prefix, n);
    ps_text_release(&lower);
    for (int32_t id = 0; here && id < g->vocabulary->n_tokens; id++) {
        if (token_is_legal(g, here, id)) acestep_legal_add(legal, id, id + 1);
    }
    const int32_t newline = g->vocabulary->ids.newline;
    if (legal->n == 0) acestep_legal_add(legal, newline, newline + 1); // nothing goes on: it ends
}
