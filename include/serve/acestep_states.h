/* ACE-Step's constrained decoding: which tokens its 5 Hz language model may write next.
 *
 * The model writes a song's metadata as a block of text and then, in a second run, its audio codes:
 *
 *   <think>                  THINK_TAG  NEWLINE_AFTER_THINK
 *   bpm: 120                 BPM_NAME  BPM_VALUE
 *   caption: Warm piano.     CAPTION_NAME  CAPTION_VALUE
 *   duration: 95             DURATION_NAME  DURATION_VALUE
 *   genres:folk rock         GENRES_NAME  GENRES_VALUE
 *   keyscale: F# minor       KEYSCALE_NAME  KEYSCALE_VALUE
 *   language: en             LANGUAGE_NAME  LANGUAGE_VALUE
 *   timesignature: 4         TIMESIG_NAME  TIMESIG_VALUE
 *   </think>                 THINK_END_TAG
 *   <|audio_code_17|>...     CODES_GENERATION
 *                            COMPLETED
 *
 * These are the states, and what may follow in each is this:
 *
 *   tags, names    their text, token by token: each time the longest beginning of what is left of
 *                  it that is one token
 *   given values   " value\n", encoded at once: whatever the user wrote, without a look at it
 *   bpm, duration  30 .. 300, 10 .. max_duration: a tree of the values' tokens, and the line break
 *                  behind each value that is whole
 *   keyscale       A .. G, plain or with # b (or the musical signs), major or minor;  likewise
 *   timesignature  2, 3, 4, 6;  a value that is whole takes the line break alone
 *   language       one of 51 codes;  its first token is not drawn: of those that begin a code it is
 *                  the one with the largest logit
 *   caption        everything but one backtick and the legal audio codes. Behind a token that holds
 *                  a line break the largest of all logits decides: if that token begins with a
 *                  space or a tab (or has no text), the caption goes on. Otherwise it ends, and
 *                  every token is free until one holds a colon. What was written up to there names
 *                  the field whose value follows; if it is none of duration, genres, keyscale,
 *                  language and timesignature, the next field's name is written behind it. From
 *                  512 tokens on, a caption that goes on takes line breaks alone.
 *   genres         an entry of the table (below); without a table: anything, and the line break
 *                  once there is something before it; where that is larger than every other logit
 *                  it is the only one
 *   codes          the legal codes; the end token before the target never, there and behind it
 *                  alone, and without a target always
 *   COMPLETED      everything; in the understand phase everything but the legal codes
 *
 * So it is in the published handler (acestep/constrained_logits_processor.py), set for set, quirks
 * of the caption included: the model is used with them. Where that runs into a
 * defect, this does not follow:
 *   - genres without a table: there the state moves on before the line break is drawn, so the break
 *     counts as the first letter of the next name ("eyscale:") and that field is lost. Here the
 *     line break ends the field, as it does with a table.
 *   - a caption that ends in the name of a field that is to be skipped: there no state follows such
 *     a field's value, and line breaks are written without end. Here the next field follows.
 *   - a value given by the user may not hold the text of a control token, a think tag or an audio
 *     code, which there becomes that token.
 *   - lower case has no context: a capital sigma at the end of a Greek word becomes the common one.
 * The temperatures of its phases are the sampler's business, and a handler that is disabled is a
 * request without a constraint.
 *
 * MPI: local, rank 0.
 */
#ifndef PS_SERVE_ACESTEP_STATES_H
#define PS_SERVE_ACESTEP_STATES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "serve/constraint.h"
#include "serve/tokenizer.h"

enum {
    PS_ACESTEP_CODEBOOK = 64000,         // codes that the decoder knows: 0 .. this - 1
    PS_ACESTEP_CODES_PER_SECOND = 5,     // of music
    PS_ACESTEP_MIN_DURATION = 10,        // seconds that the model may write
    PS_ACESTEP_MAX_DURATION = 600,       //
    PS_ACESTEP_MAX_CAPTION = 512,        // tokens
    PS_ACESTEP_MAX_GENRES = 1 << 28,     // bytes of a table
    PS_ACESTEP_MAX_USER_BYTES = 1 << 16, // one value that the user gives
};

// ---- the vocabulary: what all constraints of a tokenizer share ----

/* The decoded text of every token, the ids that the states name, the trees of the values. Does not
 * change once it is made: any number of threads may read it. */
typedef struct ps_acestep_vocabulary ps_acestep_vocabulary;

typedef struct ps_acestep_ids {
    int32_t eos;              // <|im_end|>
    int32_t pad;              // <|endoftext|>, which ends a run as well; -1: there is none
    int32_t newline;          // "\n"
    int32_t think, think_end; // <think>, </think>
    int32_t backtick;         // the last token of "`"
    int32_t first_code;       // <|audio_code_0|>; code N is this + N
    int n_codes;              // codes that are tokens
    int n_legal_codes;        // those that may be written: 0 .. this - 1
} ps_acestep_ids;

/* V is the number of logits; ids from the tokenizer's size on are never allowed. n_legal_codes is 0
 * for what a published model has, min(n_codes, PS_ACESTEP_CODEBOOK), or that number for a model
 * with fewer. The tokenizer is borrowed until the vocabulary is freed. *out is owned by the caller;
 * NULL on error.
 *
 * Errors: PS_ERR_FORMAT for a tokenizer that lacks a token (<|im_end|>, <think>, </think>, audio
 * codes), whose codes are not in a row, or that cannot write a tag, a name or a value;
 * PS_ERR_SHAPE for more tokens than logits; PS_ERR_USAGE for n_legal_codes out of range.
 * Cost: decodes every token once: 217,204 of them in 0.16 s, 4 MB. */
ps_err ps_acestep_vocabulary_new(const ps_tokenizer *t, int V, int n_legal_codes,
                                 ps_acestep_vocabulary **out) PS_MUST_CHECK;
void ps_acestep_vocabulary_free(ps_acestep_vocabulary *v); // v may be NULL

/* Borrowed from the vocabulary. */
const ps_acestep_ids *ps_acestep_vocabulary_ids(const ps_acestep_vocabulary *v);

// ---- genres ----

/* A table of genres: text in UTF-8, an entry a line; white space around an entry, empty lines and
 * those that begin with # do not count; all in lower case. An entry may hold commas and blanks and
 * is written whole.
 *
 * A token is legal when what is written so far, white space at its ends taken off, and the token's
 * text in lower case without the white space at its end, are together the beginning of an entry: so
 * "genres:TrancE" is legal, and "genres: trance" is not. Tokens of white space alone are legal
 * where a blank or a comma may follow (and their first character). The line break is legal behind
 * a whole entry, and it alone where nothing else is. Does not change once it is made. */
typedef struct ps_acestep_genres ps_acestep_genres;

/* `where` names the table in messages. The text is only read here; the vocabulary is borrowed for
 * good. *out is owned by the caller; NULL on error.
 * Errors: PS_ERR_FORMAT (not UTF-8, no entry), PS_ERR_LIMIT. Cost: linear in the vocabulary, n log n
 * in the text: 178,000 entries in 0.3 s; at most 8 bytes for each of the text's. */
ps_err ps_acestep_genres_new(const ps_acestep_vocabulary *v, const char *text, size_t n,
                             const char *where, ps_acestep_genres **out) PS_MUST_CHECK;
void ps_acestep_genres_free(ps_acestep_genres *g); // g may be NULL

// ---- the constraint ----

/* In the order in which they are written. */
typedef enum ps_acestep_field {
    PS_ACESTEP_BPM,
    PS_ACESTEP_CAPTION,
    PS_ACESTEP_DURATION,
    PS_ACESTEP_GENRES,
    PS_ACESTEP_KEYSCALE,
    PS_ACESTEP_LANGUAGE,
    PS_ACESTEP_TIMESIGNATURE,
    PS_ACESTEP_FIELDS,
} ps_acestep_field;

const char *ps_acestep_field_name(ps_acestep_field field); // "bpm"; static

typedef enum ps_acestep_phase {
    PS_ACESTEP_COT,        // metadata, and codes behind it unless stop_at_reasoning
    PS_ACESTEP_UNDERSTAND, // metadata, then free text without codes: also inspiration and rewrite
    PS_ACESTEP_CODES,      // codes: the prompt has the metadata
} ps_acestep_phase;

typedef struct ps_acestep_params {
    ps_acestep_phase phase;
    bool stop_at_reasoning; // the end token in place of </think>
    bool skip_caption, skip_genres, skip_language;
    const char *values[PS_ACESTEP_FIELDS]; // given by the user, UTF-8; NULL: the model writes it
    int max_duration;       // seconds; PS_ACESTEP_MIN_DURATION .. PS_ACESTEP_MAX_DURATION
    double target_duration; // seconds, 0 .. PS_ACESTEP_MAX_DURATION; 0: none. Gives the number of
                            // codes, (int)(5 x this), and where the model would write a duration
                            // that no value is given for, "duration:" and (int)this
    const ps_acestep_genres *genres; // NULL: no table
} ps_acestep_params;

/* The first phase of a generation: COT, stop_at_reasoning, genres skipped, nothing given, the
 * longest duration. */
ps_acestep_params ps_acestep_params_default(void);

/* In the state before the first token that the model writes. Vocabulary and table are borrowed
 * until the last copy is freed; values are copied. *out is owned by the caller, who ends it with
 * its kind's free; NULL on error.
 * Errors: PS_ERR_USAGE (a duration out of range, a value that is not UTF-8 or holds the text of
 * such a token), PS_ERR_LIMIT (a value too long).
 * Cost of a token: about 1 us for a set of 64,000 of 217,204; a look at every logit where the
 * largest decides; 4 ms in genres, where the text of every token is compared. */
ps_err ps_acestep_states_new(const ps_acestep_vocabulary *v, const ps_acestep_params *p,
                             ps_constraint **out) PS_MUST_CHECK;

/* The name of the state that c is in, as in the list above; static. c must be of this kind. */
const char *ps_acestep_states_name(const ps_constraint *c);

/* Audio codes written so far. */
int ps_acestep_states_codes(const ps_constraint *c);

#endif
