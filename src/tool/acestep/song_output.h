/* Finished songs as text and as JSON.   MPI: local. */
#ifndef PS_TOOL_ACESTEP_SONG_OUTPUT_H
#define PS_TOOL_ACESTEP_SONG_OUTPUT_H

#include <jansson.h>

#include "tool/acestep/song.h"

/* Metadata as YAML, an empty line, then a line of <|audio_code_N|> for each sample, or the lyrics.
 */
void ps_song_append_text(const ps_song *song, ps_text *out);

/* The codes alone: a line for each sample. */
void ps_song_append_codes(const ps_song *song, ps_text *out);

/* One line with its line end; `id` (may be NULL) is the request's own.
 *
 *   id  mode  format  seed
 *   metadata       object of the fields
 *   cot            the block of the codes' prompt
 *   lyrics         of other modes than generate
 *   outputs        [{sample, codes: [N, ...], finish_reason}]
 *   phases         [{phase, guidance, prompt, without, prompt_tokens, new_tokens, target_codes,
 *                  tokens, text, seconds}]
 *
 * Without `with_times` equal requests give equal lines: `seconds` is left out. */
void ps_song_append_json(const json_t *id, const ps_song *song, bool with_times, ps_text *out);

/* What was cut short by the context or by max_tokens, in one line; nothing where all came to its
 * end. */
void ps_song_append_shortcomings(const ps_song *song, ps_text *out);

/* "metadata: 81 tokens in 0.41 s" for each phase; with codes their rate, and the music's. */
void ps_song_append_summary(const ps_song *song, ps_text *out);

#endif
