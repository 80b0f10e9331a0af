/* What the model wrote: metadata, audio codes, lyrics.
 *
 * The block is not read as YAML but line by line, as the model's trainers read it, so that the next
 * prompt says what they would have said:
 *   - the block is the first <think>...</think>, or <reasoning>...</reasoning>, or, where that is
 *     missing or empty, the text before the first code; it is stripped as a whole
 *   - a line that begins with < is passed over
 *   - a line that begins with no white space and holds a colon begins a field, whose name is what
 *     stands before the first colon, in any case; quotes stay part of the value
 *   - lines that begin with a blank or a tab belong to the field before them; other lines are lost
 *   - an empty field is none, a repeated one counts as it was written last, unknown ones are lost
 *   - bpm and duration become integers where they can; a caption's lines are stripped and joined by
 *     blanks; all other values are stripped
 *
 * MPI: local.   Errors: none; the text is valid UTF-8.
 */
#ifndef PS_TOOL_ACESTEP_PARSE_H
#define PS_TOOL_ACESTEP_PARSE_H

#include "serve/tokenizer.h"
#include "tool/acestep/metadata.h"

/* Into *out, which is empty before. */
void ps_acestep_parse_metadata(ps_span text, ps_metadata *out);

/* Appends all <|audio_code_N|> of the text, one behind the other. */
void ps_acestep_parse_codes(ps_span text, ps_text *out);

/* Appends the numbers N. False for one over INT32_MAX. */
bool ps_acestep_parse_code_numbers(ps_span text, ps_tokens *out);

/* Appends what follows </think>, stripped, without a header "# Lyric" and a last <|im_end|>. */
void ps_acestep_parse_lyrics(ps_span text, ps_text *out);

#endif
