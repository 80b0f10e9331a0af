/* Metadata as the thinking block of the second prompt: <think>, YAML, </think>.
 *
 * Byte for byte what PyYAML 6.0 makes of the mapping with dump(allow_unicode=True, sort_keys=True),
 * stripped of white space; a difference of a blank is another prompt.
 *
 *   fields    bpm, caption, duration, keyscale, language, timesignature; never genres
 *   values    a text of nothing but digits, of any script, is an integer; a time signature X/4 is X
 *   style     plain where the text reads back as a text; else in single quotes; in double quotes
 *             with escapes what holds control characters, or blanks beside a line break
 *   folding   at the first single blank behind column 80; column: characters of the line
 *
 * MPI: local.
 */
#ifndef PS_TOOL_ACESTEP_YAML_H
#define PS_TOOL_ACESTEP_YAML_H

#include "tool/acestep/metadata.h"

/* Appends the block. PS_ERR_FORMAT for a time signature that is no text, and for a value of nothing
 * but digits of which one is no decimal digit (a raised 2). */
ps_err ps_acestep_append_cot(ps_text *out, const ps_metadata *metadata) PS_MUST_CHECK;

/* Appends "name: value" of a text, without a line end. The name is a plain word. */
void ps_yaml_append_text(ps_text *out, const char *name, ps_span text);

/* Whether YAML 1.1 reads the plain text as something else: null, bool, int, float, timestamp,
 * merge, value. */
bool ps_yaml_is_other_type(ps_span text);

#endif
