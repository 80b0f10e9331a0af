/* What a piece of music is described by: the fields of the thinking block.
 *
 * A value is a text, an integer or a real; a field that is absent was not said. Integers are
 * decimal texts, of any length: 7, -5, 1000.   MPI: local.
 */
#ifndef PS_TOOL_ACESTEP_METADATA_H
#define PS_TOOL_ACESTEP_METADATA_H

#include "serve/acestep_states.h"
#include "tool/acestep/unicode.h"

typedef enum ps_metadata_kind {
    PS_METADATA_ABSENT,
    PS_METADATA_INTEGER,
    PS_METADATA_REAL,
    PS_METADATA_TEXT
} ps_metadata_kind;

typedef struct ps_metadata_value {
    ps_metadata_kind kind;
    ps_text text; // of an INTEGER or a TEXT; owned
    double real;  // of a REAL
} ps_metadata_value;

/* Starts from {0}, ends with ps_metadata_release. */
typedef struct ps_metadata {
    ps_metadata_value fields[PS_ACESTEP_FIELDS];
} ps_metadata;

void ps_metadata_release(ps_metadata *metadata);

/* The field of this name, in letters of any case; PS_ACESTEP_FIELDS if there is none. */
ps_acestep_field ps_metadata_find(ps_span name);

bool ps_metadata_has(const ps_metadata *metadata, ps_acestep_field field);

/* A later value replaces an earlier one. */
void ps_metadata_set_text(ps_metadata *metadata, ps_acestep_field field, ps_span text);
void ps_metadata_set_integer(ps_metadata *metadata, ps_acestep_field field, int64_t value);
void ps_metadata_set_real(ps_metadata *metadata, ps_acestep_field field, double value);

/* The integer that the text is to Python's int(): white space around it, a sign, decimal digits of
 * any script, single underscores between them. Without one the text itself, stripped. */
void ps_metadata_set_number(ps_metadata *metadata, ps_acestep_field field, ps_span text);

/* Copies a field, absent or not. */
void ps_metadata_copy(const ps_metadata *from, ps_acestep_field field, ps_metadata *to);

/* The integer as decimal text: true and appended to *out; false when the text is none. */
bool ps_metadata_parse_integer(ps_span text, ps_text *out);

/* A real as Python shows it: the shortest digits that read back, and always a point. */
void ps_metadata_append_real(ps_text *out, double value);

/* A value as one reads it: 120, 12.5, C major. */
void ps_metadata_append_value(ps_text *out, const ps_metadata_value *value);

/* {"bpm": 120, "caption": "..."}; absent fields are left out. */
void ps_metadata_append_json(ps_text *out, const ps_metadata *metadata);

/* Seconds, when the duration is a number or a text that is one; 0 otherwise. */
double ps_metadata_duration(const ps_metadata *metadata);

#endif
