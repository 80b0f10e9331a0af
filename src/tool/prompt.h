/* The prompt of a command that runs one: --prompt, --prompt-file or --tokens.   MPI: rank 0 reads.
 */
#ifndef PS_TOOL_PROMPT_H
#define PS_TOOL_PROMPT_H

#include "tool/job.h"

/* At most one of them; the others NULL. Borrowed from the options. */
typedef struct ps_prompt {
    const char *text, *file, *tokens_file;
} ps_prompt;

/* How many of them were given, and PS_ERR_USAGE for more than one. */
int ps_prompt_count(const ps_prompt *prompt);
ps_err ps_prompt_check(const ps_prompt *prompt) PS_MUST_CHECK;

/* Ids of the first line of the tokens file. */
ps_err ps_prompt_read_tokens(const ps_prompt *prompt, ps_tokens *out) PS_MUST_CHECK;

/* The text, or what the file holds. */
ps_err ps_prompt_read_text(const ps_prompt *prompt, ps_text *out) PS_MUST_CHECK;

/* What messages about the text begin with. */
const char *ps_prompt_where(const ps_prompt *prompt);

/* PS_ERR_USAGE for a text that came to no token. */
ps_err ps_prompt_check_tokens(const ps_tokens *tokens) PS_MUST_CHECK;

#endif
