/* Metadata as reference rows have it.   MPI: local. */
#ifndef TESTS_SUPPORT_ACESTEP_ROWS_H
#define TESTS_SUPPORT_ACESTEP_ROWS_H

#include <jansson.h>

#include "tool/acestep/metadata.h"

/* A JSON string as a span; empty for anything else. */
ps_span acestep_span(const json_t *value);

/* An object's texts, integers and reals; null values and unknown keys are passed over. *out is
 * empty before; released by the caller. */
void acestep_metadata(const json_t *object, ps_metadata *out);

/* Compared with an object, kinds too: "" or what differs. Released by the caller. */
ps_text acestep_difference(const ps_metadata *got, const json_t *wanted);

#endif
