/* The chat template of a Hugging Face directory: chat_template.jinja, or chat_template in
 * tokenizer_config.json (of several named ones the one named default).   MPI: local.
 */
#ifndef PS_TOOL_IMPORT_CHAT_TEMPLATE_H
#define PS_TOOL_IMPORT_CHAT_TEMPLATE_H

#include "base/err.h"
#include "base/text.h"

/* Appends its text, which is Jinja; nothing if there is none. Errors: PS_ERR_IO, PS_ERR_FORMAT. */
ps_err ps_chat_template_read(const char *directory, ps_text *out) PS_MUST_CHECK;

#endif
