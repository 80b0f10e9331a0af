#include "support/jsonl.h"

#include <string.h>

#include "base/file.h"

enum { BYTES_MAX = 1 << 26 };

ps_err jsonl_read(const char *name, ps_text *out)
{
    ps_text path = {0};
    ps_text_appendf(&path, "%s/%s", golden_root(), name);
    const ps_err err = ps_file_read(ps_text_str(&path), BYTES_MAX, out);
    ps_text_release(&path);
    return err;
}

int jsonl_walk(const char *name, void (*row)(const json_t *row, int line, void *arg), void *arg)
{
    ps_text text = {0};
    int n = 0;
    if (jsonl_read(name, &text)) return 0;
    for (const char *at = ps_text_str(&text); *at;) {
        const char *end = strchrnul(at, '\n');
        json_error_t error;
        json_t *object = json_loadb(at, (size_t)(end - at), JSON_ALLOW_NUL, &error);
        if (!object) {
            (void)PS_FAIL(PS_ERR_FORMAT, "%s:%d: %s", name, n + 1, error.text);
            n = 0;
            break;
        }
        row(object, ++n, arg);
        json_decref(object);
        at = *end ? end + 1 : end;
    }
    ps_text_release(&text);
    return n;
}

const char *jsonl_text(const json_t *row, const char *key)
{
    const char *text = json_string_value(json_object_get(row, key));
    return text ? text : "";
}
