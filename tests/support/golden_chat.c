#include "support/golden_chat.h"

#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "serve/chat.h"
#include "tool/import/tokenizers.h"

enum { FILE_LIMIT = 1 << 26 };

typedef struct row {
    const char *dir;
    const json_t *json;
    int line;
    golden_counts *counts;
    ps_text *failures;
} row;

static const char *text_of(const row *r, const char *key)
{
    const char *text = json_string_value(json_object_get(r->json, key));
    return text ? text : "";
}

static void count(const row *r, bool good, const char *what, const char *wanted, const char *found)
{
    r->counts->n_cases++;
    if (good) return;
    r->counts->n_failed++;
    ps_text_appendf(r->failures, "chat.jsonl:%d: %s\n  wanted %.400s\n  found  %.400s\n", r->line,
                    what, wanted, found);
}

static ps_err render(const row *r, const ps_chat *chat, ps_chat_rendering *out)
{
    const json_t *messages = json_object_get(r->json, "messages");
    const size_t n = json_array_size(messages);
    ps_chat_message *list = ps_mem_new(n, sizeof *list);
    for (size_t i = 0; i < n; i++) {
        const json_t *message = json_array_get(messages, i);
        const json_t *content = json_object_get(message, "content");
        list[i] = (ps_chat_message){json_string_value(json_object_get(message, "role")),
                                    json_string_value(content), json_string_length(content)};
    }
    const ps_err err = ps_chat_render(
        chat, list, n, json_is_true(json_object_get(r->json, "add_generation_prompt")), out);
    ps_mem_free(list);
    return err;
}

/* Ids of a rendering are those of its text, as long as no message holds the name of a token. */
static ps_err compare_ids(const row *r, const ps_chat_rendering *rendering, const ps_tokenizer *t)
{
    const json_t *text = json_object_get(r->json, "text");
    const char *bos = text_of(r, "bos_token"), *eos = text_of(r, "eos_token");
    ps_tokens wanted = {0}, found = {0};
    ps_err err =
        ps_tokenizer_encode(t, json_string_value(text), json_string_length(text), false, &wanted);
    if (!err)
        err = ps_chat_to_ids(rendering, t, ps_tokenizer_find(t, bos), ps_tokenizer_find(t, eos),
                             &found);
    const bool same = wanted.n == found.n && wanted.n > 0 &&
                      memcmp(wanted.ids, found.ids, wanted.n * sizeof *wanted.ids) == 0;
    if (!err) count(r, same, "ids", "those of the text", "others");
    ps_tokens_release(&found);
    ps_tokens_release(&wanted);
    return err;
}

static ps_err compare(const row *r, const ps_chat_rendering *rendering)
{
    ps_text found = {0}, path = {0};
    const json_t *wanted = json_object_get(r->json, "text");
    ps_chat_to_text(rendering, text_of(r, "bos_token"), text_of(r, "eos_token"), &found);
    const bool same = found.len == json_string_length(wanted) &&
                      memcmp(ps_text_str(&found), json_string_value(wanted), found.len) == 0;
    count(r, same, "text", json_string_value(wanted), ps_text_str(&found));
    ps_tokenizer *t = NULL;
    ps_text_appendf(&path, "%s/%s/tokenizer.json", r->dir, text_of(r, "tokenizer"));
    ps_err err = ps_tokenizers_open(path.data, &t);
    if (!err) err = compare_ids(r, rendering, t);
    ps_tokenizer_free(t);
    ps_text_release(&path);
    ps_text_release(&found);
    return err;
}

static ps_err check_row(const row *r)
{
    ps_chat *chat;
    ps_chat_rendering rendering = {0};
    PS_TRY(ps_chat_detect(text_of(r, "chat_template"), NULL, "chat.jsonl", &chat));
    count(r, strcmp(ps_chat_name(chat), text_of(r, "family")) == 0, "family", text_of(r, "family"),
          ps_chat_name(chat));
    ps_err err = render(r, chat, &rendering);
    if (!err) err = compare(r, &rendering);
    ps_chat_rendering_release(&rendering);
    ps_chat_free(chat);
    return err;
}

ps_err golden_chat_check(const char *dir, golden_counts *counts, ps_text *first_failures)
{
    ps_text path = {0}, text = {0};
    ps_text_appendf(&path, "%s/chat.jsonl", dir);
    ps_err err = ps_file_read(path.data, FILE_LIMIT, &text);
    row r = {.dir = dir, .counts = counts, .failures = first_failures};
    const char *at = ps_text_str(&text), *end = at + text.len;
    while (!err && at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline ? newline : end;
        json_t *line;
        r.line++;
        err = ps_json_parse(at, (size_t)(stop - at), path.data, &line);
        r.json = line;
        if (!err) err = check_row(&r);
        json_decref(line);
        at = stop + 1;
    }
    ps_text_release(&text);
    ps_text_release(&path);
    return err;
}
