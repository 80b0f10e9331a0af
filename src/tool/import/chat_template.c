#include "tool/import/chat_template.h"

#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"

enum { BYTES_MAX = 1 << 24 };

static ps_err take_text(const json_t *text, const char *where, ps_text *out)
{
    if (!json_is_string(text))
        return PS_FAIL(PS_ERR_FORMAT, "%s: chat_template is neither a text nor a list of texts",
                       where);
    ps_text_append(out, json_string_value(text), json_string_length(text));
    return PS_OK;
}

static ps_err read_config(const char *path, ps_text *out)
{
    json_t *root;
    PS_TRY(ps_json_load(path, BYTES_MAX, &root));
    const json_t *value = json_object_get(root, "chat_template");
    ps_err err = PS_OK;
    if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value) && !err; i++) {
            const json_t *entry = json_array_get(value, i);
            const char *name = json_string_value(json_object_get(entry, "name"));
            if (name && strcmp(name, "default") == 0)
                err = take_text(json_object_get(entry, "template"), path, out);
        }
    } else if (value && !json_is_null(value)) {
        err = take_text(value, path, out);
    }
    json_decref(root);
    return err;
}

ps_err ps_chat_template_read(const char *directory, ps_text *out)
{
    ps_text jinja = {0}, config = {0};
    ps_err err = PS_OK;
    ps_text_appendf(&jinja, "%s/chat_template.jinja", directory);
    ps_text_appendf(&config, "%s/tokenizer_config.json", directory);
    if (access(jinja.data, F_OK) == 0) {
        err = ps_file_read(jinja.data, BYTES_MAX, out);
    } else if (access(config.data, F_OK) == 0) {
        err = read_config(config.data, out);
    }
    ps_text_release(&config);
    ps_text_release(&jinja);
    return err;
}
