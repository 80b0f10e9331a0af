#include "tool/result.h"

#include <string.h>

#include "base/json.h"

static void append_id(const json_t *id, ps_text *out)
{
    if (!id) return;
    char *text = json_dumps(id, JSON_ENCODE_ANY | JSON_COMPACT);
    ps_text_appendf(out, "\"id\": %s, ", text ? text : "null");
    free(text);
}

/* The text of one token alone; bytes that are no whole character become U+FFFD. */
static void append_token_text(const ps_tokenizer *tokenizer, int32_t token, ps_text *out)
{
    ps_text text = {0};
    if (tokenizer && ps_tokenizer_decode(tokenizer, &token, 1, false, &text) != PS_OK)
        ps_text_clear(&text);
    ps_json_append_text(out, ps_text_str(&text), text.len);
    ps_text_release(&text);
}

static void append_logprobs(const ps_completion *c, int n_alternatives,
                            const ps_tokenizer *tokenizer, ps_text *out)
{
    ps_text_append_str(out, ", \"logprobs\": {\"token_logprobs\": [");
    for (size_t t = 0; t < c->tokens.n; t++) {
        if (t > 0) ps_text_append_str(out, ", ");
        ps_json_append_real(out, c->logprobs[t].chosen);
    }
    ps_text_append_str(out, "], \"tokens\": [");
    for (size_t t = 0; t < c->tokens.n; t++) {
        if (t > 0) ps_text_append_str(out, ", ");
        append_token_text(tokenizer, c->tokens.ids[t], out);
    }
    ps_text_append_str(out, "]");
    if (n_alternatives > 0) {
        ps_text_append_str(out, ", \"top\": [");
        for (size_t t = 0; t < c->tokens.n; t++) {
            ps_text_append_str(out, t ? ", [" : "[");
            for (int i = 0; i < c->logprobs[t].n_top; i++) {
                ps_text_appendf(out, "%s{\"id\": %d, \"logprob\": ", i ? ", " : "",
                                c->logprobs[t].token[i]);
                ps_json_append_real(out, c->logprobs[t].logprob[i]);
                ps_text_append_str(out, "}");
            }
            ps_text_append_str(out, "]");
        }
        ps_text_append_str(out, "]");
    }
    ps_text_append_str(out, "}");
}

static void append_choice(const ps_request *request, const ps_completion *c, int index,
                          const ps_tokenizer *tokenizer, ps_text *out)
{
    ps_text_appendf(out, "{\"index\": %d, \"text\": ", index);
    ps_json_append_text(out, ps_text_str(&c->text), c->text.len);
    ps_text_append_str(out, ", \"tokens\": [");
    for (size_t t = 0; t < c->tokens.n; t++) {
        ps_text_appendf(out, t ? ", %d" : "%d", c->tokens.ids[t]);
    }
    ps_text_appendf(out, "], \"finish_reason\": \"%s\"", ps_finish_name(c->finish));
    if (request->n_logprobs >= 0) append_logprobs(c, request->n_logprobs, tokenizer, out);
    ps_text_append_str(out, "}");
}

/* Which variant of a rope the request's length took; nothing for most models. */
static void append_ropes(const ps_job *job, const ps_request *request, ps_text *out)
{
    const ps_spec *spec = &job->ckpt.spec;
    ps_text variants = {0};
    ps_spec_describe_ropes(spec, ps_generate_length(request, spec, &job->limits), &variants);
    if (variants.len > 0) {
        ps_text_append_str(out, ", \"rope\": ");
        ps_json_append_text(out, variants.data, variants.len);
    }
    ps_text_release(&variants);
}

void ps_result_to_json(const json_t *id, const ps_job *job, const ps_request *request,
                       const ps_completion *completions, int n, ps_text *out)
{
    size_t n_new = 0;
    ps_text_append_str(out, "{");
    append_id(id, out);
    ps_text_append_str(out, "\"choices\": [");
    for (int i = 0; i < n; i++) {
        if (i > 0) ps_text_append_str(out, ", ");
        append_choice(request, &completions[i], i, job->tokenizer, out);
        n_new += completions[i].tokens.n;
    }
    ps_text_append_char(out, ']');
    append_ropes(job, request, out);
    ps_text_appendf(
        out,
        ", \"seed\": %llu, \"usage\": {\"prompt_tokens\": %zu, \"completion_tokens\": %zu, "
        "\"total_tokens\": %zu}}\n",
        (unsigned long long)request->sampling.seed, request->prompt.n, n_new,
        request->prompt.n + n_new);
}

void ps_result_error_to_json(const json_t *id, int line, ps_err err, const char *message,
                             ps_text *out)
{
    ps_text_append_str(out, "{");
    append_id(id, out);
    ps_text_appendf(out, "\"line\": %d, \"error\": {\"type\": \"%s\", \"message\": ", line,
                    ps_err_name(err));
    ps_json_append_text(out, message, strlen(message));
    ps_text_append_str(out, "}}\n");
}
