/* Finished requests as JSON lines, in the form of the OpenAI completions interface. */
#ifndef PS_TOOL_RESULT_H
#define PS_TOOL_RESULT_H

#include <jansson.h>

#include "serve/request.h"

/* One line with its line end. `id` (may be NULL) is the request's own. Holds no times: equal
 * requests give equal lines. */
void ps_result_to_json(const json_t *id, const ps_request *request,
                       const ps_completion *completions, int n, const ps_tokenizer *tokenizer,
                       ps_text *out);

/* The line of a request that could not run. */
void ps_result_error_to_json(const json_t *id, int line, ps_err err, const char *message,
                             ps_text *out);

#endif
