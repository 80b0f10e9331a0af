/* Finished requests as JSON lines, in the form of the OpenAI completions interface. */
#ifndef PS_TOOL_RESULT_H
#define PS_TOOL_RESULT_H

#include <jansson.h>

#include "tool/job.h"

/* One line with its line end. `id` (may be NULL) is the request's own; "rope" stands in it where
 * the request's length chose among the model's ropes. Holds no times: equal requests give equal
 * lines. */
void ps_result_to_json(const json_t *id, const ps_job *job, const ps_request *request,
                       const ps_completion *completions, int n, ps_text *out);

/* The line of a request that could not run. */
void ps_result_error_to_json(const json_t *id, int line, ps_err err, const char *message,
                             ps_text *out);

#endif
