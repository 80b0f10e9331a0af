/* Chat templates held against reference renderings.
 *
 *   dir/chat.jsonl   chat_template (Jinja), bos_token, eos_token (null: none), messages,
 *                    add_generation_prompt, text, tokenizer (a directory beside it)
 * The family is told by the template's text; the rendering is compared as text, and its ids with
 * those of the text.   MPI: local.
 */
#ifndef TESTS_SUPPORT_GOLDEN_CHAT_H
#define TESTS_SUPPORT_GOLDEN_CHAT_H

#include "support/golden_tokenizer.h"

ps_err golden_chat_check(const char *dir, golden_counts *counts,
                         ps_text *first_failures) PS_MUST_CHECK;

#endif
