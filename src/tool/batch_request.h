/* One line of a batch: a JSON object with the keys of the OpenAI completions interface.
 *
 *   id                          any JSON value, given back as it is
 *   prompt | tokens | messages  text; token ids taken as they are (prompt may be ids too); a chat
 *                               (tool/chat_prompt.h)
 *   max_tokens 16  n 1  temperature 1  top_p 1  top_k 0  min_p 0  typical_p 1  seed  stop  logprobs
 *   repetition_penalty 1  presence_penalty 0  frequency_penalty 0  repeat_last_n 0  logit_bias {}
 *   min_tokens 0  ignore_eos false
 *   guidance_scale 1 (off)      negative_prompt: text or ids; nothing where it is missing
 *   model, user                 ignored
 *
 * With a prefix the whole prompt, the negative one too, is the prefix's tokens, then the ids, or
 * those of the text with nothing added around it; messages, which bring a beginning of their own,
 * are an error.
 *
 * Any other key is an error. Errors: PS_ERR_FORMAT, PS_ERR_USAGE naming the key.   MPI: rank 0
 * only.
 */
#ifndef PS_TOOL_BATCH_REQUEST_H
#define PS_TOOL_BATCH_REQUEST_H

#include <jansson.h>

#include "tool/chat_prompt.h"

/* What requests have in common. */
typedef struct ps_batch_context {
    const ps_job *job;
    const char *chat_template; // name; NULL: the model's own
    ps_chat *chat;             // opened by the first request with messages; owned by the caller
    const ps_tokens *prefix;   // every prompt goes on from these tokens; NULL: none
} ps_batch_context;

/* `default_seed` serves a request that names none. On success *out is to be released or moved; *id
 * (may be NULL) is the caller's in every case. */
ps_err ps_batch_request_parse(ps_batch_context *batch, const char *line, size_t n,
                              uint64_t default_seed, json_t **id, ps_request *out) PS_MUST_CHECK;

#endif
