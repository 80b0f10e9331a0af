/* A trie over bytes for longest-prefix and all-prefix questions. Nodes are numbered breadth first
 * from sorted keys, so the children of a node are neighbours and need one index and a count:
 *
 *   node     first child, number of children, value
 *   label    byte of each node, ascending among siblings
 *
 * 12 bytes a node. The root, which every search passes and which has the most children, has a table
 * of 256 instead. Number 0 is the root and nobody's child, so it says "no such child". */
#include "serve/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Keys [low, high) share the bytes from the root to a node. */
typedef struct range {
    size_t low, high, depth;
} range;

typedef struct builder {
    ps_tok_trie *trie;
    range *range; // [trie->n]  of each node
    size_t range_capacity;
} builder;

static int compare_keys(const void *left, const void *right)
{
    const ps_tok_key *a = left, *b = right;
    const int order = memcmp(a->bytes, b->bytes, a->n < b->n ? a->n : b->n);
    if (order != 0) return order;
    if (a->n != b->n) return a->n < b->n ? -1 : 1;
    // Equal keys keep the order they came in, whatever qsort does: the value breaks the tie, and
    // callers number the values in that order.
    return (a->value > b->value) - (a->value < b->value);
}

static void add_node(builder *b, unsigned char byte, range r)
{
    ps_tok_trie *t = b->trie;
    t->node = ps_mem_grow(t->node, &t->node_capacity, t->n + 1, sizeof *t->node);
    t->label = ps_mem_grow(t->label, &t->label_capacity, t->n + 1, 1);
    b->range = ps_mem_grow(b->range, &b->range_capacity, t->n + 1, sizeof *b->range);
    t->node[t->n] = (ps_tok_trie_node){.value = -1};
    t->label[t->n] = byte;
    b->range[t->n] = r;
    t->n++;
}

/* Gives node i its value and its children. */
static void expand(builder *b, const ps_tok_key *keys, size_t i)
{
    ps_tok_trie *t = b->trie;
    range r = b->range[i];
    while (r.low < r.high && keys[r.low].n == r.depth) {
        t->node[i].value = keys[r.low].value;
        r.low++;
    }
    t->node[i].first = (uint32_t)t->n;
    while (r.low < r.high) {
        const unsigned char byte = (unsigned char)keys[r.low].bytes[r.depth];
        size_t end = r.low + 1;
        while (end < r.high && (unsigned char)keys[end].bytes[r.depth] == byte) {
            end++;
        }
        add_node(b, byte, (range){r.low, end, r.depth + 1});
        t->node[i].count++;
        r.low = end;
    }
}

void ps_tok_trie_sort(ps_tok_key *keys, size_t n)
{
    if (n > 0) qsort(keys, n, sizeof *keys, compare_keys);
}

bool ps_tok_trie_sorted(const ps_tok_key *keys, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        if (compare_keys(&keys[i - 1], &keys[i]) >= 0) return false;
    }
    return true;
}

void ps_tok_trie_build(ps_tok_trie *trie, const ps_tok_key *keys, size_t n)
{
    *trie = (ps_tok_trie){0};
    if (n == 0) return;
    builder b = {.trie = trie};
    add_node(&b, 0, (range){0, n, 0});
    for (size_t i = 0; i < trie->n; i++) {
        expand(&b, keys, i);
    }
    for (uint32_t i = 0; i < trie->node[0].count; i++) {
        trie->root[trie->label[trie->node[0].first + i]] = trie->node[0].first + i;
    }
    ps_mem_free(b.range);
}

void ps_tok_trie_release(ps_tok_trie *trie)
{
    ps_mem_free(trie->label);
    ps_mem_free(trie->node);
    *trie = (ps_tok_trie){0};
}

uint32_t ps_tok_trie_child(const ps_tok_trie *trie, uint32_t node, unsigned char byte)
{
    if (node == 0) return trie->root[byte];
    const ps_tok_trie_node *at = &trie->node[node];
    if (at->count == 0) return 0;
    const unsigned char *labels = trie->label + at->first;
    const unsigned char *found = memchr(labels, byte, at->count);
    return found ? at->first + (uint32_t)(found - labels) : 0;
}
