/* One request on its way through the model: a phase, or two.
 *
 *   generate     metadata as a thinking block, then codes behind that block. The first phase is
 *                left out without `cot`, and where bpm, keyscale, time signature and duration are
 *                all given; the metadata are then what is given.
 *   all others   metadata and lyrics, in one phase
 *
 * ps_song_begin gives the generator's request for the first phase, ps_song_take takes what came out
 * and gives the next one. Codes number as many as the target says, 5 a second: the target's
 * seconds, or the given duration's, or, but in the legacy format, the metadata's. Without a target
 * the model ends by itself.
 *
 * Draws: Philox with the request's seed. Sample b of the codes has counter b, so it is the same
 * whatever stands beside it; the first phase has counter 2^32 - 1.
 *
 * MPI: local, rank 0.
 */
#ifndef PS_TOOL_ACESTEP_SONG_H
#define PS_TOOL_ACESTEP_SONG_H

#include "serve/request.h"
#include "tool/acestep/request.h"

/* What songs have in common; everything is borrowed. */
typedef struct ps_song_context {
    const ps_tokenizer *tokenizer;
    const ps_acestep_vocabulary *vocabulary;
    const ps_acestep_genres *genres; // NULL: no table
} ps_song_context;

/* A phase and what came out of it. */
typedef struct ps_song_phase {
    ps_text prompt, without; // `without`: of the guidance; empty: none
    size_t n_prompt_tokens, n_without_tokens;
    double guidance;        // 1: none
    int64_t n_target_codes; // 0: no target
    ps_tokens tokens;       // of a phase that writes text, with the end token
    ps_text text;           // the same as text, control tokens included
    ps_finish finish;       //
    size_t n_new_tokens;    // of all samples
    int64_t begun_ns, ended_ns;
} ps_song_phase;

/* Starts from {0}, ends with ps_song_release. */
typedef struct ps_song {
    ps_acestep_request request;
    ps_metadata metadata;    // as the model wrote them, given ones among them
    ps_text cot;             // generate: the block of the codes' prompt
    ps_text lyrics;          // other modes
    ps_song_phase phases[2]; // [n_phases] those that have begun
    int n_phases;
    bool has_codes;    // the last phase is that of the codes
    ps_tokens *codes;  // [request.n_samples] numbers; NULL before there are any
    ps_finish *finish; // [request.n_samples]
} ps_song;

void ps_song_release(ps_song *song);

/* Moves the request into the song and makes the first phase. *out is to be released or moved.
 * Errors: PS_ERR_USAGE for codes that the model does not have, those of the tokenizer and of the
 * constraint. */
ps_err ps_song_begin(const ps_song_context *c, ps_acestep_request *request, ps_song *song,
                     ps_request *out) PS_MUST_CHECK;

/* What the present phase came to. *more says whether there is another, then in *out. Errors: as
 * above, and PS_ERR_FORMAT for metadata that cannot be written as a block. */
ps_err ps_song_take(const ps_song_context *c, ps_song *song, const ps_completion *completions,
                    int n, bool *more, ps_request *out) PS_MUST_CHECK;

/* Most positions that a sequence of the request can reach, from its first phase's prompt, and the
 * most sequences that it has at a time. */
int64_t ps_song_longest(const ps_acestep_request *request, const ps_request *first);
int ps_song_sequences(const ps_acestep_request *request);

/* Names of a phase: "metadata", "codes", "text"; static. */
const char *ps_song_phase_name(const ps_song *song, int phase);

#endif
