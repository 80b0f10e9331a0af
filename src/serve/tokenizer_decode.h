/* What the two files of the decoders share: a decoder as it is read, and the machine that runs it.
 *
 * MPI: local.
 */
#ifndef PS_SERVE_TOKENIZER_DECODE_H
#define PS_SERVE_TOKENIZER_DECODE_H

#include "serve/tokenizer_parts.h"

typedef enum ps_tok_decoder_type {
    PS_TOK_DECODE_BYTE_LEVEL,
    PS_TOK_DECODE_BYTE_FALLBACK,
    PS_TOK_DECODE_METASPACE,
    PS_TOK_DECODE_REPLACE,
    PS_TOK_DECODE_FUSE,
    PS_TOK_DECODE_STRIP,
    PS_TOK_DECODE_BPE,
    PS_TOK_DECODE_COUNT,
    PS_TOK_DECODE_JOIN_BY_BLANKS = PS_TOK_DECODE_COUNT // what happens without any decoder
} ps_tok_decoder_type;

struct ps_tok_decoder {
    ps_tok_decoder_type type;
    uint32_t character;     // Metaspace: the replacement; Strip: what to take off
    bool drops_first;       // Metaspace: no blanks out of the first string
    int n_start, n_stop;    // Strip: how many to take off
    ps_tok_pattern pattern; // Replace; BPEDecoder: the suffix, a literal
    ps_text content;        // Replace: what is put there
};

/* Strings, one behind the other; what stands behind the last end is the beginning of one more. */
typedef struct ps_tok_pieces {
    ps_text text;
    size_t *end; // [n]
    size_t n, capacity;
} ps_tok_pieces;

void ps_tok_pieces_clear(ps_tok_pieces *p);
void ps_tok_pieces_end(ps_tok_pieces *p); // what was appended to p->text ends a string
void ps_tok_pieces_release(ps_tok_pieces *p);

/* What one decoder remembers between feedings. */
typedef struct ps_tok_machine {
    const ps_tok_decoder *decoder;
    ps_tok_matcher *matcher;
    bool streams;    // shows byte tokens before their run is over
    bool began;      // the first string has begun
    bool inside;     // a string has begun and not ended
    ps_text held;    // an unfinished string, or the beginning of a literal
    ps_text bytes;   // ByteLevel: an unfinished character; ByteFallback: the run of byte tokens;
                     // BPEDecoder: the last string from its first suffix on
    bool shown;      // ByteFallback: some of the run is handed on
    bool spoilt;     // ByteFallback: the run is no UTF-8
    bool waits;      // BPEDecoder: there is a last string
    int n_taken;     // Strip: characters taken off the start
    bool start_done; // Strip: nothing more to take off there
    int n_waiting;   // Strip: characters that may be the string's last
} ps_tok_machine;

/* Replaces a literal as text comes; a regular expression needs whole strings. */
static inline bool ps_tok_replaces_literal(const ps_tok_decoder *d)
{
    return d->type == PS_TOK_DECODE_REPLACE && d->pattern.literal && d->pattern.literal_bytes > 0;
}

/* Feeds the pieces and appends to *out what is certain; `finish` says that nothing comes after
 * them. Errors: PS_ERR_LIMIT from a regular expression. */
ps_err ps_tok_machine_run(ps_tok_machine *m, const ps_tok_pieces *in, bool finish,
                          ps_tok_pieces *out) PS_MUST_CHECK;

#endif
