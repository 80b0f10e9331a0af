#include "tool/chat_prompt.h"

#include <string.h>

#include "base/json.h"
#include "base/mem.h"

ps_err ps_chat_prompt_open(const ps_job *job, const char *name, ps_chat **out)
{
    *out = NULL;
    if (!job->tokenizer)
        return PS_FAIL(PS_ERR_USAGE, "%s: has no tokenizer: a chat cannot be written down",
                       job->ckpt.path);
    if (name) return ps_chat_open(name, out);
    const ps_text *source = &job->ckpt.source;
    json_t *root = NULL;
    const char *text = NULL;
    ps_err err = PS_OK;
    if (source->len > 0) err = ps_json_parse(source->data, source->len, job->ckpt.path, &root);
    if (!err && root) err = ps_json_opt_text(root, "chat_template", job->ckpt.path, &text);
    if (!err) err = ps_chat_detect(text, job->tokenizer, job->ckpt.path, out);
    json_decref(root);
    return err;
}

static void add_end(const ps_job *job, const ps_chat *chat, ps_request *out)
{
    const char *end = ps_chat_end(chat);
    const int32_t id = end ? ps_tokenizer_find(job->tokenizer, end) : -1;
    if (ps_tokenizer_is_special(job->tokenizer, id)) out->end_ids[out->n_end_ids++] = id;
}

ps_err ps_chat_prompt_encode(const ps_job *job, const ps_chat *chat,
                             const ps_chat_message *messages, size_t n, ps_request *out)
{
    const ps_spec *spec = &job->ckpt.spec;
    ps_chat_rendering rendering = {0};
    ps_err err = ps_chat_render(chat, messages, n, true, &rendering);
    if (!err)
        err = ps_chat_to_ids(&rendering, job->tokenizer, spec->bos_id,
                             spec->n_eos > 0 ? spec->eos_ids[0] : -1, &out->prompt);
    if (!err) add_end(job, chat, out);
    ps_chat_rendering_release(&rendering);
    return err;
}

/* ---- messages out of JSON ---- */

static ps_err read_part(const json_t *part, size_t number, ps_text *out)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    const json_t *text = json_object_get(part, "text");
    if (!type || strcmp(type, "text") != 0 || !json_is_string(text))
        return PS_FAIL(PS_ERR_USAGE, "message %zu: a part of \"content\" is not of type text",
                       number);
    ps_text_append(out, json_string_value(text), json_string_length(text));
    return PS_OK;
}

static ps_err read_content(const json_t *message, size_t number, ps_text *out)
{
    const json_t *content = json_object_get(message, "content");
    if (json_is_string(content)) {
        ps_text_append(out, json_string_value(content), json_string_length(content));
        return PS_OK;
    }
    if (!json_is_array(content))
        return PS_FAIL(PS_ERR_USAGE,
                       "message %zu: \"content\" is neither a text nor an array of parts", number);
    for (size_t i = 0; i < json_array_size(content); i++) {
        PS_TRY(read_part(json_array_get(content, i), number, out));
    }
    return PS_OK;
}

/* A key that is not understood could change the prompt (tool_calls, name). */
static ps_err check_keys(const json_t *message, size_t number)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)message, key, value)
    {
        if (strcmp(key, "role") == 0 || strcmp(key, "content") == 0) continue;
        return PS_FAIL(PS_ERR_USAGE, "message %zu: unknown key \"%.60s\"", number, key);
    }
    return PS_OK;
}

static ps_err read_message(const json_t *json, size_t number, ps_text *content,
                           ps_chat_message *out)
{
    if (!json_is_object(json)) return PS_FAIL(PS_ERR_USAGE, "message %zu is not an object", number);
    PS_TRY(check_keys(json, number));
    out->role = json_string_value(json_object_get(json, "role"));
    if (!out->role) return PS_FAIL(PS_ERR_USAGE, "message %zu has no \"role\"", number);
    PS_TRY(read_content(json, number, content));
    out->text = ps_text_str(content);
    out->n = content->len;
    return PS_OK;
}

ps_err ps_chat_prompt_encode_json(const ps_job *job, const ps_chat *chat, const json_t *messages,
                                  ps_request *out)
{
    const size_t n = json_array_size(messages);
    if (n == 0) return PS_FAIL(PS_ERR_USAGE, "\"messages\" is not an array of messages");
    ps_chat_message *list = ps_mem_new(n, sizeof *list);
    ps_text *contents = ps_mem_new(n, sizeof *contents);
    ps_err err = PS_OK;
    for (size_t i = 0; i < n && !err; i++) {
        err = read_message(json_array_get(messages, i), i, &contents[i], &list[i]);
    }
    if (!err) err = ps_chat_prompt_encode(job, chat, list, n, out);
    for (size_t i = 0; i < n; i++) {
        ps_text_release(&contents[i]);
    }
    ps_mem_free(contents);
    ps_mem_free(list);
    return err;
}
