/* Prompts of chats: the model's template, and messages as ids.   MPI: rank 0 only. */
#ifndef PS_TOOL_CHAT_PROMPT_H
#define PS_TOOL_CHAT_PROMPT_H

#include <jansson.h>

#include "serve/chat.h"
#include "tool/job.h"

/* The template of this name, or (NULL) the model's own: what convert kept of it in /source, under
 * "chat_template", or else what the tokenizer's tokens say. *out is the caller's. */
ps_err ps_chat_prompt_open(const ps_job *job, const char *name, ps_chat **out) PS_MUST_CHECK;

/* Ids of the messages and the beginning of an answer, and the token that ends the answer, into a
 * request without a prompt. */
ps_err ps_chat_prompt_encode(const ps_job *job, const ps_chat *chat,
                             const ps_chat_message *messages, size_t n,
                             ps_request *out) PS_MUST_CHECK;

/* The same from JSON in the form of the OpenAI chat interface: [{"role": ..., "content": ...}, ..],
 * content a text or an array of {"type": "text", "text": ...}. */
ps_err ps_chat_prompt_encode_json(const ps_job *job, const ps_chat *chat, const json_t *messages,
                                  ps_request *out) PS_MUST_CHECK;

#endif
