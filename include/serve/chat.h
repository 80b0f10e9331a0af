/* Chat templates: messages into what a model was trained to see.
 *
 *   messages -> rendering: stretches of text, and tokens by name -> ids
 *
 * Models carry their template as a Jinja program. Those are not run; the known families are written
 * out here and told by name, by marks in the text of the model's template, or by the special tokens
 * that a tokenizer has:
 *
 *   chatml          <|im_start|>ROLE\nTEXT<|im_end|>\n  with the system message, if any, that the
 *                   template itself brings for a chat without one
 *   qwen2           the same with "You are a helpful assistant."
 *   qwen3           the same without; the thinking of earlier answers is left out
 *   llama3          BOS, <|start_header_id|>ROLE<|end_header_id|>\n\nTEXT<|eot_id|>
 *   llama3.1        the same, with knowledge and present date (26 Jul 2024, the template's own when
 *                   it knows no clock) in the system message
 *   gemma           BOS, <start_of_turn>user|model\nTEXT<end_of_turn>\n; the system message goes in
 *                   front of the first text
 *   mistral         BOS, [INST] TEXT [/INST]TEXT EOS
 *   mistral-v3      BOS, [INST] TEXT[/INST] TEXT EOS; the system message in front of the last text
 *   mistral-tekken  BOS, [INST]TEXT[/INST]TEXT EOS; as before
 *   gpt-oss         <|start|>ROLE<|message|>TEXT<|end|> (harmony); the system message becomes the
 *                   developer's; the date is 2025-06-28, that of the format's description, since
 *                   equal requests must give equal prompts
 *
 * A template's tokens are tokens; the same strings in a message's text are plain text. (A token
 * that the tokenizer does not have is text, as [INST] is for Mistral 7B.)
 *
 * Errors: PS_ERR_USAGE for roles that a template has no place for; PS_ERR_UNSUPPORTED for a
 * template that is none of these, with the list.   MPI: local.
 */
#ifndef PS_SERVE_CHAT_H
#define PS_SERVE_CHAT_H

#include "serve/tokenizer.h"

typedef struct ps_chat ps_chat;

ps_err ps_chat_open(const char *name, ps_chat **out) PS_MUST_CHECK;

/* `text` is the model's own template, NULL if it brings none; then the tokenizer's tokens decide.
 * `where` names the model in the message. */
ps_err ps_chat_detect(const char *text, const ps_tokenizer *t, const char *where,
                      ps_chat **out) PS_MUST_CHECK;
void ps_chat_free(ps_chat *chat); // may be NULL
const char *ps_chat_name(const ps_chat *chat);

/* Content of the token that ends an answer; NULL when it is the model's eos. */
const char *ps_chat_end(const ps_chat *chat);

/* role: system (or developer, which is the same), user, assistant. Borrowed. */
typedef struct ps_chat_message {
    const char *role;
    const char *text; // [n]
    size_t n;
} ps_chat_message;

typedef enum ps_chat_kind { PS_CHAT_TEXT, PS_CHAT_TOKEN, PS_CHAT_BOS, PS_CHAT_EOS } ps_chat_kind;

typedef struct ps_chat_piece {
    ps_chat_kind kind;
    size_t start, n; // in the rendering's text: a stretch, or the content of a token
} ps_chat_piece;

/* Start from {0}, end with ps_chat_rendering_release. */
typedef struct ps_chat_rendering {
    ps_text text;
    ps_chat_piece *piece; // [n]
    size_t n, capacity;
} ps_chat_rendering;

/* Renders into an empty rendering; the prompt for an answer follows if so asked. n >= 1. */
ps_err ps_chat_render(const ps_chat *chat, const ps_chat_message *messages, size_t n,
                      bool prompt_for_answer, ps_chat_rendering *out) PS_MUST_CHECK;
void ps_chat_rendering_release(ps_chat_rendering *r);

/* The whole as text; bos and eos may be "". */
void ps_chat_to_text(const ps_chat_rendering *r, const char *bos, const char *eos, ps_text *out);

/* Appends the ids; bos_id and eos_id -1: the model has none. */
ps_err ps_chat_to_ids(const ps_chat_rendering *r, const ps_tokenizer *t, int32_t bos_id,
                      int32_t eos_id, ps_tokens *out) PS_MUST_CHECK;

#endif
