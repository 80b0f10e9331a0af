/* A spec in words, a line a fact: what distinguishes the model, and what of it changes from layer
 * to layer. What is as in most models is left out.   Errors: none.   MPI: local. */
#ifndef PS_TOOL_DESCRIBE_H
#define PS_TOOL_DESCRIBE_H

#include "base/text.h"
#include "model/spec.h"

void ps_describe_spec(const ps_spec *spec, ps_text *out);

#endif
