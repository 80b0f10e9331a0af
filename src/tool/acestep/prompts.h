/* What ACE-Step's language model is asked, literally: chats of a system turn, a user turn and an
 * open or closed assistant turn.
 *
 *   metadata     the first phase of generation: what the music is to be, as a thinking block
 *   codes        the second: audio codes, behind the block
 *   understand   codes to metadata and lyrics
 *   inspiration  a wish to metadata and lyrics
 *   rewrite      caption and lyrics to better ones
 *
 * Guidance compares a prompt with another one that says less, here `without`. Nothing is escaped:
 * "<think>" in a caption becomes the token. All functions append.
 *
 * MPI: local.   Errors: none.
 */
#ifndef PS_TOOL_ACESTEP_PROMPTS_H
#define PS_TOOL_ACESTEP_PROMPTS_H

#include "tool/acestep/unicode.h"

/* How prompts of the codes phase are put together. */
typedef enum ps_acestep_format {
    PS_ACESTEP_NEW,             // codes go on in the turn of the block; `without` is the bare
                                // negative prompt, or NO USER INPUT
    PS_ACESTEP_LEGACY,          // codes follow a closed turn; `without` has an empty block, and the
                                // negative prompt in place of the caption
    PS_ACESTEP_LEGACY_CFG_OPEN, // turns as in NEW, `without` as in LEGACY
    PS_ACESTEP_FORMATS
} ps_acestep_format;

/* "new", "legacy", "legacy_cfg_open"; static. */
const char *ps_acestep_format_name(ps_acestep_format format);

/* Whether a negative prompt says something: more than white space, and not NO USER INPUT. It is
 * judged stripped and inserted as it is. */
bool ps_acestep_is_negative(ps_span negative);

void ps_acestep_prompt_metadata(ps_text *out, ps_span caption, ps_span lyrics);

/* Legacy alone: the current form has no guidance in this phase. */
void ps_acestep_prompt_metadata_without(ps_text *out, ps_span negative, ps_span lyrics);

/* `cot` is the whole block, from <think> to </think>. */
void ps_acestep_prompt_codes(ps_text *out, ps_acestep_format format, ps_span caption,
                             ps_span lyrics, ps_span cot);
void ps_acestep_prompt_codes_without(ps_text *out, ps_acestep_format format, ps_span caption,
                                     ps_span lyrics, ps_span negative);

/* Nothing but white space stands for no input: NO USER INPUT, or lyrics of [Instrumental]. */
void ps_acestep_prompt_understand(ps_text *out, ps_span codes);
void ps_acestep_prompt_inspiration(ps_text *out, ps_span query, bool instrumental);
void ps_acestep_prompt_rewrite(ps_text *out, ps_span caption, ps_span lyrics);

#endif
