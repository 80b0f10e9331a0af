#include "tool/prompt.h"

#include "base/file.h"
#include "tool/input.h"

int ps_prompt_count(const ps_prompt *prompt)
{
    return !!prompt->text + !!prompt->file + !!prompt->tokens_file;
}

ps_err ps_prompt_check(const ps_prompt *prompt)
{
    if (ps_prompt_count(prompt) <= 1) return PS_OK;
    return PS_FAIL(PS_ERR_USAGE, "--prompt, --prompt-file and --tokens exclude each other");
}

ps_err ps_prompt_read_tokens(const ps_prompt *prompt, ps_tokens *out)
{
    ps_text text = {0};
    const char *line = "";
    size_t at = 0, n = 0;
    ps_err err = ps_file_read(prompt->tokens_file, PS_INPUT_BYTES_MAX, &text);
    if (!err) ps_input_next_line(&text, &at, &line, &n);
    if (!err) err = ps_input_parse_ids(line, n, prompt->tokens_file, 1, out);
    ps_text_release(&text);
    return err;
}

ps_err ps_prompt_read_text(const ps_prompt *prompt, ps_text *out)
{
    if (prompt->file) return ps_file_read(prompt->file, PS_INPUT_BYTES_MAX, out);
    ps_text_append_str(out, prompt->text ? prompt->text : "");
    return PS_OK;
}

const char *ps_prompt_where(const ps_prompt *prompt)
{
    return prompt->file ? prompt->file : "--prompt";
}

ps_err ps_prompt_check_tokens(const ps_tokens *tokens)
{
    if (tokens->n > 0) return PS_OK;
    return PS_FAIL(PS_ERR_USAGE, "the prompt is empty, and this model has no token to begin with");
}
