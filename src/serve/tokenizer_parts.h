/* What the files of the tokenizer share. However a tokenizer came, it is a definition first, and is
 * built from that: a vocabulary, its merges or scores, added tokens, and a pipeline, which is a
 * chain of small components; each kind has its file, and a table row in it for each type:
 *
 *   tokenizer.c            open, free, what callers ask about tokens
 *   tokenizer_definition.c the definition, and building from it
 *   tokenizer_json.c       a definition out of a tokenizer.json
 *   tokenizer_pack.c       a tokenizer as bytes, and a definition out of them
 *   tokenizer_read.c       components out of JSON
 *   tokenizer_encode.c     the way of a text through the chain, and the cache of words
 *   tokenizer_added.c      added tokens: the cuts they make in a text
 *   tokenizer_normalize.c  normalizers;      tokenizer_unicode.c, tokenizer_charsmap.c  two of them
 *   tokenizer_split.c      pre-tokenizers
 *   tokenizer_bpe.c        BPE as data;      tokenizer_merge.c  its merging of a word
 *   tokenizer_unigram.c    Unigram
 *   tokenizer_post.c       post-processors
 *   tokenizer_decode.c     decoders, for whole texts and streams alike;   tokenizer_machine.c  each
 * and below them: tokenizer_vocab.c (string <-> id), tokenizer_trie.c (longest prefixes),
 * tokenizer_pattern.c (literals and regular expressions), tokenizer_regex.c and tokenizer_class.c
 * (their translation for PCRE2), tokenizer_chars.c
 * (classes of characters, the byte alphabet), tokenizer_ages.c (editions of Unicode).
 *
 * Text between the parts is always valid UTF-8, except where it says "raw bytes".
 *
 * MPI: local.
 */
#ifndef PS_SERVE_TOKENIZER_PARTS_H
#define PS_SERVE_TOKENIZER_PARTS_H

#include <jansson.h>

#include "serve/tokenizer.h"
#include "serve/tokenizer_definition.h"

enum {
    PS_TOK_MAX_TOKEN_BYTES = 4096, // one token of a vocabulary; in real ones at most 512
    PS_TOK_MAX_ADDED_BYTES = 512,  // one added token: a failed match costs at most this
    PS_TOK_MAX_PIECE_BYTES = 256,  // one token of a Unigram vocabulary: the cost of a position
    PS_TOK_RING = 512,             // a power of two greater than that
    PS_TOK_MAX_PATTERN_BYTES = 1 << 16,
    PS_TOK_MAX_REPLACEMENT_BYTES = 1024, // of one rule of a normalizer
    PS_TOK_MAX_COMPONENTS = 64,          // of one kind, Sequences flattened
    PS_TOK_MAX_NESTING = 8,              // Sequences in Sequences
};

// ---- classes of characters (tokenizer_chars.c) ----

bool ps_tok_is_space(uint32_t c);       // White_Space
bool ps_tok_is_word(uint32_t c);        // \w of Rust's regular expressions
bool ps_tok_is_punctuation(uint32_t c); // general category P, or ASCII punctuation
bool ps_tok_is_numeric(uint32_t c);     // general category N
bool ps_tok_is_mark(uint32_t c);        // general category M

/* An older character with the properties of one that Unicode 15 or 16 brought; 0 for all others.
 * The libraries at hand know Unicode 14 (PCRE2 10.42) and 15 (utf8proc 2.8), the one being imitated
 * knows 16. (tokenizer_ages.c) */
uint32_t ps_tok_stand_in(uint32_t c);

/* Characters that the library's older tables do not know yet. (tokenizer_ages.c) */
bool ps_tok_is_young_punctuation(uint32_t c);
bool ps_tok_is_young_mark(uint32_t c);
bool ps_tok_has_young_decomposition(uint32_t c);
uint32_t ps_tok_small_letter(uint32_t c); // one for one; c itself if it has none

/* The code point in front of text[at]; at >= 1. */
uint32_t ps_tok_char_before(const char *text, size_t at);

/* The byte alphabet of GPT-2: every byte has a printable character. The way back is -1 for
 * characters outside the alphabet. */
uint32_t ps_tok_char_of_byte(unsigned char byte);
int ps_tok_byte_of_char(uint32_t c);
void ps_tok_append_byte_chars(ps_text *out, const char *bytes, size_t n);

/* Appends text with every maximal invalid part replaced by U+FFFD. The first stops in front of an
 * unfinished character at the end, and returns how many bytes it has done. */
size_t ps_tok_append_certain(ps_text *out, const char *bytes, size_t n);
void ps_tok_append_lossy(ps_text *out, const char *bytes, size_t n);

// ---- string <-> id (tokenizer_vocab.c) ----

typedef struct ps_tok_vocab_slot {
    int32_t id;   // -1: empty
    uint32_t tag; // of the string's hash: strings are looked at only if this agrees
} ps_tok_vocab_slot;

typedef struct ps_tok_vocab {
    char *bytes;
    size_t used, capacity;
    uint32_t *start;         // [size]  offset in bytes, plus one; 0: no such id
    uint16_t *length;        // [size]
    int32_t size;            // highest id + 1
    ps_tok_vocab_slot *slot; // [mask + 1]  open addressing
    uint32_t mask;
} ps_tok_vocab;

/* For ids below `size`, with `count` tokens of `bytes` bytes in all (more bytes are taken as they
 * come). */
void ps_tok_vocab_init(ps_tok_vocab *v, int32_t size, size_t count, size_t bytes);
void ps_tok_vocab_release(ps_tok_vocab *v);

/* A string that is there already moves to the new id; both ids keep it as their text. The caller
 * has checked that the id is in range, free, and the string not too long. */
void ps_tok_vocab_add(ps_tok_vocab *v, int32_t id, const char *token, size_t n);
int32_t ps_tok_vocab_find(const ps_tok_vocab *v, const char *token, size_t n); // -1: none
bool ps_tok_vocab_text(const ps_tok_vocab *v, int32_t id, const char **token, size_t *n);

// ---- prefixes (tokenizer_trie.c) ----

typedef struct ps_tok_key {
    const char *bytes;
    size_t n;
    int32_t value; // >= 0
} ps_tok_key;

typedef struct ps_tok_trie_node {
    uint32_t first; // children are nodes first .. first + count - 1
    int32_t value;  // -1: no key ends here
    uint16_t count;
} ps_tok_trie_node;

typedef struct ps_tok_trie {
    ps_tok_trie_node *node; // [n]  node 0 is the root; NULL: no keys
    unsigned char *label;   // [n]  byte on the way from the parent, ascending among siblings
    size_t n, node_capacity, label_capacity;
    uint32_t root[256]; // child of the root by byte; 0: none
} ps_tok_trie;

/* Keys are not empty; of equal ones the last wins. */
void ps_tok_trie_sort(ps_tok_key *keys, size_t n);
bool ps_tok_trie_sorted(const ps_tok_key *keys, size_t n);
void ps_tok_trie_build(ps_tok_trie *trie, const ps_tok_key *keys, size_t n); // of sorted keys
void ps_tok_trie_release(ps_tok_trie *trie);
uint32_t ps_tok_trie_child(const ps_tok_trie *trie, uint32_t node, unsigned char byte); // 0: none

// ---- patterns (tokenizer_pattern.c, tokenizer_regex.c) ----

typedef struct ps_tok_pattern {
    char *literal; // NULL: a regular expression
    size_t literal_bytes;
    struct pcre2_real_code_8 *code;
    bool compiled_to_machine_code;
} ps_tok_pattern;

void ps_tok_pattern_literal(ps_tok_pattern *p, const char *literal, size_t n);
ps_err ps_tok_pattern_regex(ps_tok_pattern *p, const char *regex, size_t n,
                            const char *where) PS_MUST_CHECK;
void ps_tok_pattern_release(ps_tok_pattern *p);

/* Oniguruma (Ruby syntax) to PCRE2. Errors: PS_ERR_FORMAT, PS_ERR_UNSUPPORTED. */
ps_err ps_tok_regex_translate(const char *regex, size_t n, const char *where,
                              ps_text *out) PS_MUST_CHECK;

/* Working memory of one thread for regular expressions; start from {0}. */
typedef struct ps_tok_matcher {
    struct pcre2_real_match_data_8 *data;
    struct pcre2_real_match_context_8 *context;
    struct pcre2_real_jit_stack_8 *stack;
    ps_text stand_in; // see tokenizer_pattern.c
} ps_tok_matcher;

void ps_tok_matcher_release(ps_tok_matcher *m);

/* All matches of a pattern in a text, left to right. An empty match is not reported right behind
 * the match before it. */
typedef struct ps_tok_search {
    const ps_tok_pattern *pattern;
    ps_tok_matcher *matcher;
    const char *text;
    size_t n;
    size_t from;     // where to look on
    size_t last_end; // of the match before; SIZE_MAX: none
} ps_tok_search;

void ps_tok_search_begin(ps_tok_search *s, const ps_tok_pattern *p, ps_tok_matcher *m,
                         const char *text, size_t n);
ps_err ps_tok_search_next(ps_tok_search *s, bool *found, size_t *start, size_t *end) PS_MUST_CHECK;

// ---- components out of JSON (tokenizer_read.c) ----

/* A component, flattened out of Sequences, with its place for messages. */
typedef struct ps_tok_component {
    const json_t *json;
    int type; // index in the names given to ps_tok_read_components
    const char *where;
} ps_tok_component;

/* What a kind of component is called in the file. */
typedef struct ps_tok_kind {
    const char *key;          // in the tokenizer.json: "normalizer"
    const char *sequence_key; // in a Sequence: "normalizers"
    const char *const *types; // names, in the order of the kind's enum
    int n_types;
} ps_tok_kind;

/* The components under t[kind->key]; none if absent or null. `where` must outlive them. */
ps_err ps_tok_read_components(const json_t *tokenizer, const ps_tok_kind *kind, const char *where,
                              ps_tok_component out[PS_TOK_MAX_COMPONENTS], int *n) PS_MUST_CHECK;

/* Fields. A string may hold NUL characters, so it comes with its length; borrowed from the JSON. */
ps_err ps_tok_read_string(const ps_tok_component *c, const char *key, const char **out,
                          size_t *n) PS_MUST_CHECK;
ps_err ps_tok_read_char(const ps_tok_component *c, const char *key, uint32_t *out) PS_MUST_CHECK;
ps_err ps_tok_read_pattern(const ps_tok_component *c, ps_tok_pattern *out) PS_MUST_CHECK;

/* Index of the string under `key` in names; an absent key leaves *out as it was. */
ps_err ps_tok_read_choice(const ps_tok_component *c, const char *key, const char *const *names,
                          int n_names, int *out) PS_MUST_CHECK;

// ---- a text on its way ----

typedef struct ps_tok_span {
    size_t start, n;
} ps_tok_span;

typedef struct ps_tok_spans {
    ps_tok_span *span; // not empty, in order
    size_t n, capacity;
} ps_tok_spans;

/* The present form of a text. Steps that change it write the other of the two buffers and flip. */
typedef struct ps_tok_work {
    const char *text; // borrowed, or one of the buffers
    size_t n;
    size_t origin; // so many bytes of it come from the first character of what is encoded
    ps_text buffer[2];
    int filled;                // buffer that `text` may be in
    ps_tok_spans spans, other; // pre-tokens, for the splitting steps
    ps_tok_matcher *matcher;   // borrowed
} ps_tok_work;

void ps_tok_work_begin(ps_tok_work *w, const char *text, size_t n, size_t origin);
ps_text *ps_tok_work_other(ps_tok_work *w); // emptied, to be filled

/* What was filled is the text now. Errors: PS_ERR_LIMIT when it has grown beyond 2 GiB. */
ps_err ps_tok_work_flip(ps_tok_work *w) PS_MUST_CHECK;
void ps_tok_work_release(ps_tok_work *w);
void ps_tok_spans_append(ps_tok_spans *s, size_t start, size_t n); // n == 0: nothing

// ---- normalizers ----

typedef struct ps_tok_normalizer ps_tok_normalizer;
typedef struct ps_tok_normalizers {
    ps_tok_normalizer *list;
    int n;
} ps_tok_normalizers;

ps_err ps_tok_normalizers_read(ps_tok_normalizers *out, const json_t *tokenizer,
                               const char *where) PS_MUST_CHECK;
void ps_tok_normalizers_release(ps_tok_normalizers *ns);
ps_err ps_tok_normalize(const ps_tok_normalizers *ns, ps_tok_work *w) PS_MUST_CHECK;

/* Unicode normalization form D or KD, then recomposed for C and KC (UAX #15). */
void ps_tok_unicode_normalize(const char *text, size_t n, bool compatible, bool compose,
                              ps_text *out);

/* The normalization rules a SentencePiece model carries ("precompiled_charsmap"). */
typedef struct ps_tok_charsmap {
    uint32_t *unit; // [n_units]  double array
    size_t n_units;
    char *strings; // [n_strings]  replacements, each with a NUL behind it
    size_t n_strings;
    bool longest_match; // as SentencePiece applies the rules; else as the tokenizers library does
} ps_tok_charsmap;

ps_err ps_tok_charsmap_read(ps_tok_charsmap *m, const char *base64, size_t n,
                            const char *where) PS_MUST_CHECK;
void ps_tok_charsmap_release(ps_tok_charsmap *m);

/* *origin in: bytes of text, out: bytes of *out that come from the first character. */
void ps_tok_charsmap_apply(const ps_tok_charsmap *m, const char *text, size_t n, size_t *origin,
                           ps_text *out);

// ---- pre-tokenizers ----

typedef struct ps_tok_splitter ps_tok_splitter;
typedef struct ps_tok_splitters {
    ps_tok_splitter *list;
    int n;
    bool ends_in_bytes; // the last one is ByteLevel
} ps_tok_splitters;

ps_err ps_tok_splitters_read(ps_tok_splitters *out, const json_t *tokenizer,
                             const char *where) PS_MUST_CHECK;
void ps_tok_splitters_release(ps_tok_splitters *ss);

/* Cuts w->text into w->spans. With raw_bytes the last step, a ByteLevel, leaves the bytes as they
 * are instead of writing them in the byte alphabet. */
ps_err ps_tok_split(const ps_tok_splitters *ss, bool raw_bytes, ps_tok_work *w) PS_MUST_CHECK;

// ---- models ----

typedef struct ps_tok_merge_slot {
    uint64_t pair; // left id << 32 | right id; UINT64_MAX: empty
    uint32_t rank; // UINT32_MAX: empty
    int32_t merged;
} ps_tok_merge_slot;

/* Pairs of characters, left << 32 | right. */
typedef struct ps_tok_joints {
    uint64_t *pair; // [n]
    size_t n;
} ps_tok_joints;

typedef struct ps_tok_bpe {
    const ps_tok_vocab *vocab; // borrowed
    ps_tok_merge_slot *merges; // [merge_mask + 1]  open addressing
    uint32_t merge_mask;
    char *unk_token, *prefix, *suffix; // NULL: none
    int32_t unk_id;                    // -1: the vocabulary has no such token
    bool fuse_unk, byte_fallback, ignore_merges;
    int32_t byte_token[256];    // "<0x00>" .. "<0xFF>"; -1: not there
    int32_t byte_symbol[256];   // of the byte alphabet
    bool all_bytes;             // every byte that UTF-8 uses has its symbol
    bool raw_bytes;             // words come as raw bytes (set by the tokenizer)
    uint64_t *joint;            // [joint_mask + 1]  pairs of characters that a merge can join
    uint32_t joint_mask;        // joint NULL: words are never cut
    uint64_t joint_bytes[1024]; // the same for pairs of bytes: bit (left << 8 | right)
} ps_tok_bpe;

typedef struct ps_tok_bpe_scratch {
    int32_t *symbol, *previous, *next; // a word's symbols, linked
    uint64_t *heap;                    // rank << 32 | position of the left symbol
    size_t symbol_capacity, previous_capacity, next_capacity, heap_capacity;
    ps_text text;
} ps_tok_bpe_scratch;

/* From the model's options and the definition's vocabulary, merges and joints (which are found from
 * the merges if there are none). Ids have been checked. */
ps_err ps_tok_bpe_build(ps_tok_bpe *b, const json_t *model, const ps_tok_vocab *vocab,
                        const ps_tokenizer_definition *d) PS_MUST_CHECK;
void ps_tok_bpe_release(ps_tok_bpe *b);

/* What becomes of a pair: its slot, or an empty one, whose rank is UINT32_MAX. */
const ps_tok_merge_slot *ps_tok_bpe_find(const ps_tok_bpe *b, int32_t left, int32_t right);

/* End of the stretch of text that begins at `from` and that no merge connects with what follows. */
size_t ps_tok_bpe_cut(const ps_tok_bpe *b, const char *text, size_t n, size_t from);
ps_err ps_tok_bpe_encode(const ps_tok_bpe *b, const char *word, size_t n, ps_tok_bpe_scratch *s,
                         ps_tokens *out) PS_MUST_CHECK;
void ps_tok_bpe_scratch_release(ps_tok_bpe_scratch *s);

/* Merges symbols[0..n) in place; returns how many are left. Long words use the scratch. */
size_t ps_tok_merge(const ps_tok_bpe *b, ps_tok_bpe_scratch *s, size_t n);

typedef struct ps_tok_unigram {
    const ps_tok_vocab *vocab; // borrowed
    ps_tok_trie trie;
    const double *score; // [vocab size]  borrowed; -INFINITY: never found in a text
    double unk_score;
    int32_t unk_id; // -1: none
    bool byte_fallback;
    bool single_precision; // scores are summed in float
    int32_t byte_token[256];
} ps_tok_unigram;

typedef struct ps_tok_unigram_scratch {
    int32_t *back; // id of the best token that ends here
    uint32_t *end; // ends of the best path's tokens, last first
    size_t back_capacity, end_capacity;
    double best[PS_TOK_RING]; // scores of the last positions
} ps_tok_unigram_scratch;

/* `order` holds the ids that can be found, sorted by their strings; NULL: not known. */
ps_err ps_tok_unigram_build(ps_tok_unigram *u, const json_t *model, const ps_tok_vocab *vocab,
                            const double *score, const int32_t *order, size_t n_order,
                            const char *where) PS_MUST_CHECK;
void ps_tok_unigram_release(ps_tok_unigram *u);
ps_err ps_tok_unigram_encode(const ps_tok_unigram *u, const char *word, size_t n,
                             ps_tok_unigram_scratch *s, ps_tokens *out) PS_MUST_CHECK;
void ps_tok_unigram_scratch_release(ps_tok_unigram_scratch *s);

/* Ids of the tokens "<0x00>" .. "<0xFF>". */
void ps_tok_find_byte_tokens(const ps_tok_vocab *v, int32_t out[256]);

// ---- added tokens ----

typedef struct ps_tok_added_token {
    int32_t id;
    char *content; // as it was defined
    size_t n;
    char *shown; // what decoding and, if normalized, matching take: the normalized content
    size_t n_shown;
    bool single_word, lstrip, rstrip, normalized, special, verbatim;
} ps_tok_added_token;

/* The tries hold indices of `token`: [0] all tokens, [1] all that are not special. */
typedef struct ps_tok_added {
    ps_tok_added_token *token; // ascending ids
    int n;
    size_t capacity;
    ps_tok_trie raw[2], normalized[2];
} ps_tok_added;

/* Sorts and checks the tokens that the definition gathered, normalizes their content, and makes the
 * tries. */
ps_err ps_tok_added_build(ps_tok_added *a, const ps_tok_vocab *vocab, const ps_tok_normalizers *ns,
                          const char *where) PS_MUST_CHECK;
void ps_tok_added_release(ps_tok_added *a);
const ps_tok_added_token *ps_tok_added_by_id(const ps_tok_added *a, int32_t id); // NULL: none

/* Cuts a text at the tokens of a trie: texts and tokens in turn, until ps_tok_cut_next is false. */
typedef struct ps_tok_cutter {
    const ps_tok_added *added;
    const ps_tok_trie *trie;
    const char *text;
    size_t n;
    size_t from;                       // where to look for the next token
    size_t done;                       // end of what was handed out
    size_t space_end;                  // a run of white space is known to last to here
    const ps_tok_added_token *waiting; // behind the text that was handed out
    size_t waiting_end;
} ps_tok_cutter;

void ps_tok_cut_begin(ps_tok_cutter *c, const ps_tok_added *a, const ps_tok_trie *trie,
                      const char *text, size_t n);

/* *token is NULL for a text, which is text[start .. start + n). */
bool ps_tok_cut_next(ps_tok_cutter *c, const ps_tok_added_token **token, size_t *start, size_t *n);

// ---- post-processors ----

typedef struct ps_tok_post_step {
    bool is_text;
    int32_t id;
} ps_tok_post_step;

typedef struct ps_tok_post {
    ps_tok_post_step *step; // NULL: the text alone
    size_t n, capacity;
} ps_tok_post;

ps_err ps_tok_post_read(ps_tok_post *p, const json_t *tokenizer, const char *where) PS_MUST_CHECK;
void ps_tok_post_release(ps_tok_post *p);

// ---- decoders ----

typedef struct ps_tok_decoder ps_tok_decoder;
typedef struct ps_tok_decoders {
    ps_tok_decoder *list; // at least one
    int n;
} ps_tok_decoders;

ps_err ps_tok_decoders_read(ps_tok_decoders *out, const json_t *tokenizer,
                            const char *where) PS_MUST_CHECK;
void ps_tok_decoders_release(ps_tok_decoders *ds);

// ---- the whole ----

typedef enum ps_tok_model { PS_TOK_BPE, PS_TOK_UNIGRAM, PS_TOK_MODEL_COUNT } ps_tok_model;

struct ps_tokenizer_definition {
    char *where;
    json_t *pipeline; // as in a tokenizer.json, without vocab, merges and added_tokens; owned
    ps_tok_vocab vocab;
    double *score;             // [vocab.size]  NULL: none defined
    ps_tokenizer_merge *merge; // [n_merges]
    size_t n_merges, merge_capacity;
    ps_tok_added added;   // tokens alone
    ps_tok_joints joints; // of the merges; pair NULL: not known
    int32_t *order;       // [n_order]  Unigram: ids sorted by their strings; NULL: not known
    size_t n_order;
};

/* The definition in a tokenizer.json, and in what ps_tokenizer_pack wrote. *out is the caller's, in
 * parts on an error. */
ps_err ps_tok_read_json(const char *json, size_t n, const char *where,
                        ps_tokenizer_definition **out) PS_MUST_CHECK;
ps_err ps_tok_unpack(const char *bytes, size_t n, const char *where,
                     ps_tokenizer_definition **out) PS_MUST_CHECK;
bool ps_tok_is_packed(const char *bytes, size_t n);

struct ps_tokenizer {
    char *where;
    json_t *pipeline;   // as it was defined
    ps_tok_vocab vocab; // of the model; added tokens that are not in it only have their own list
    double *score;      // [vocab.size]  Unigram
    int32_t size;
    ps_tok_added added;
    ps_tok_normalizers normalizers;
    ps_tok_splitters splitters;
    ps_tok_model model;
    ps_tok_bpe bpe;
    ps_tok_unigram unigram;
    ps_tok_post post;
    ps_tok_decoders decoders;
    unsigned char *flags; // [size]  PS_TOK_IS_*
};

enum {
    PS_TOK_IS_ADDED = 1,
    PS_TOK_IS_SPECIAL = 2,
    PS_TOK_IS_SKIPPED = 4, // not shown when special tokens are skipped
};

/* String of an id, as decoders take it; false if there is no such id. */
bool ps_tok_text_of_id(const ps_tokenizer *t, int32_t id, const char **text, size_t *n);

#endif
