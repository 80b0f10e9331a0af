/* Renderings, and the way from them to ids. */
#include "serve/chat.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "serve/chat_parts.h"

// ---- finding ----

static ps_chat *new_chat(const ps_chat_row *row)
{
    ps_chat *chat = ps_mem_new(1, sizeof *chat);
    chat->row = row;
    return chat;
}

static void append_names(ps_text *out)
{
    const ps_chat_row *row;
    for (int i = 0; (row = ps_chat_row_at(i)); i++) {
        ps_text_appendf(out, "%s%s", i ? ", " : "", row->name);
    }
}

ps_err ps_chat_open(const char *name, ps_chat **out)
{
    *out = NULL;
    const ps_chat_row *row;
    for (int i = 0; (row = ps_chat_row_at(i)); i++) {
        if (strcmp(name, row->name) != 0) continue;
        *out = new_chat(row);
        if (row->default_system) {
            ps_text_append_str(&(*out)->default_system, row->default_system);
        }
        return PS_OK;
    }
    ps_text names = {0};
    append_names(&names);
    const ps_err err = PS_FAIL(PS_ERR_USAGE, "unknown chat template \"%.60s\": it is one of %s",
                               name, ps_text_str(&names));
    ps_text_release(&names);
    return err;
}

static bool fits_text(const ps_chat_row *row, const char *text)
{
    if (!row->marks[0]) return false;
    for (int i = 0; i < 3; i++) {
        if (row->marks[i] && !strstr(text, row->marks[i])) return false;
        if (row->foreign[i] && strstr(text, row->foreign[i])) return false;
    }
    return true;
}

static bool fits_tokens(const ps_chat_row *row, const ps_tokenizer *t)
{
    if (!row->tokens[0]) return false;
    for (int i = 0; i < 2; i++) {
        if (!row->tokens[i]) continue;
        if (!ps_tokenizer_is_special(t, ps_tokenizer_find(t, row->tokens[i]))) return false;
    }
    return true;
}

/* The system message that a ChatML template writes out: '<|im_start|>system\nTEXT<|im_end|>' in one
 * literal of the program, where the line end may be written as \n. */
static void find_default_system(const char *text, ps_text *out)
{
    static const char start[] = "<|im_start|>system", end[] = "<|im_end|>";
    for (const char *at = text; (at = strstr(at, start));) {
        const char quote = at > text ? at[-1] : '\0';
        at += sizeof start - 1;
        const size_t line_end = at[0] == '\n' ? 1 : strncmp(at, "\\n", 2) == 0 ? 2 : 0;
        const char *stop = strstr(at, end);
        if (line_end == 0 || !stop || (quote != '\'' && quote != '"')) continue;
        const char *first = at + line_end;
        if (stop == first || memchr(first, quote, (size_t)(stop - first))) continue;
        ps_text_append(out, first, (size_t)(stop - first));
        return;
    }
}

/* Whether the text right behind `mark`, white space aside, is `next`. */
static bool is_followed_by(const char *text, const char *mark, const char *next)
{
    const char *at = strstr(text, mark);
    if (!at) return false;
    at += strlen(mark);
    at += strspn(at, " \t\r\n");
    return strncmp(at, next, strlen(next)) == 0;
}

static ps_chat *read_template(const ps_chat_row *row, const char *text)
{
    ps_chat *chat = new_chat(row);
    find_default_system(text, &chat->default_system);
    chat->refuses_system = strstr(text, "System role not supported") != NULL;
    chat->breaks_behind_developer =
        is_followed_by(text, "{{- developer_message }}", "{{- \"\\n\\n\" }}");
    return chat;
}

ps_err ps_chat_detect(const char *text, const ps_tokenizer *t, const char *where, ps_chat **out)
{
    *out = NULL;
    const ps_chat_row *row;
    for (int i = 0; !*out && (row = ps_chat_row_at(i)); i++) {
        if (text && fits_text(row, text)) *out = read_template(row, text);
        if (!text && fits_tokens(row, t)) *out = new_chat(row);
    }
    if (*out) return PS_OK;
    ps_text names = {0};
    append_names(&names);
    const ps_err err =
        PS_FAIL(PS_ERR_UNSUPPORTED, "%s: %s: name one with --chat-template: %s", where,
                text ? "its chat template is none of those known here"
                     : "it brings no chat template, and its tokens do not tell one",
                ps_text_str(&names));
    ps_text_release(&names);
    return err;
}

void ps_chat_free(ps_chat *chat)
{
    if (!chat) return;
    ps_text_release(&chat->default_system);
    ps_mem_free(chat);
}

const char *ps_chat_name(const ps_chat *chat)
{
    return chat->row->name;
}

const char *ps_chat_end(const ps_chat *chat)
{
    return chat->row->end;
}

// ---- rendering ----

static ps_err check_roles(const ps_chat_message *messages, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *role = messages[i].role;
        if (strcmp(role, "user") == 0 || strcmp(role, "assistant") == 0 ||
            strcmp(role, "system") == 0) {
            continue;
        }
        return PS_FAIL(PS_ERR_USAGE,
                       "message %zu has the role \"%.40s\", wanted system, user or assistant", i,
                       role);
    }
    return PS_OK;
}

ps_err ps_chat_render(const ps_chat *chat, const ps_chat_message *messages, size_t n,
                      bool prompt_for_answer, ps_chat_rendering *out)
{
    assert(n >= 1 && out->n == 0);
    ps_chat_message *list = ps_mem_new(n, sizeof *list);
    for (size_t i = 0; i < n; i++) {
        list[i] = messages[i];
        if (strcmp(list[i].role, "developer") == 0) list[i].role = "system";
    }
    const ps_chat_render_state s = {chat, list, n, prompt_for_answer, out};
    ps_err err = check_roles(list, n);
    if (!err) err = chat->row->render(&s);
    ps_mem_free(list);
    return err;
}

void ps_chat_rendering_release(ps_chat_rendering *r)
{
    ps_mem_free(r->piece);
    ps_text_release(&r->text);
    *r = (ps_chat_rendering){0};
}

void ps_chat_to_text(const ps_chat_rendering *r, const char *bos, const char *eos, ps_text *out)
{
    for (size_t i = 0; i < r->n; i++) {
        const ps_chat_piece *piece = &r->piece[i];
        if (piece->kind == PS_CHAT_BOS) ps_text_append_str(out, bos);
        if (piece->kind == PS_CHAT_EOS) ps_text_append_str(out, eos);
        ps_text_append(out, ps_text_str(&r->text) + piece->start, piece->n);
    }
}

// ---- ids ----

/* Id of a piece that is a token; -1: it is text. */
static int32_t id_of(const ps_chat_rendering *r, const ps_chat_piece *piece, const ps_tokenizer *t)
{
    if (piece->kind != PS_CHAT_TOKEN) return -1;
    char *content = ps_mem_copy_bytes(r->text.data + piece->start, piece->n);
    const int32_t id = ps_tokenizer_find(t, content);
    ps_mem_free(content);
    return ps_tokenizer_is_special(t, id) ? id : -1;
}

/* Stretches that lie side by side in the rendering's text become one part; tokens that the
 * tokenizer does not have are among them. */
static void add_part(ps_tokenizer_part *parts, size_t *n, int32_t id, const char *text,
                     size_t length)
{
    ps_tokenizer_part *last = *n > 0 ? &parts[*n - 1] : NULL;
    if (id < 0 && last && last->id < 0 && last->text + last->n == text) {
        last->n += length;
        return;
    }
    if (id < 0 && length == 0) return;
    parts[(*n)++] = (ps_tokenizer_part){.id = id, .text = text, .n = length};
}

ps_err ps_chat_to_ids(const ps_chat_rendering *r, const ps_tokenizer *t, int32_t bos_id,
                      int32_t eos_id, ps_tokens *out)
{
    ps_tokenizer_part *parts = ps_mem_new(r->n, sizeof *parts);
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++) {
        const ps_chat_piece *piece = &r->piece[i];
        const bool is_end = piece->kind == PS_CHAT_BOS || piece->kind == PS_CHAT_EOS;
        const int32_t end = piece->kind == PS_CHAT_BOS ? bos_id : eos_id;
        if (is_end && end < 0) continue;
        add_part(parts, &n, is_end ? end : id_of(r, piece, t), ps_text_str(&r->text) + piece->start,
                 piece->n);
    }
    const ps_err err = ps_tokenizer_encode_parts(t, parts, n, out);
    ps_mem_free(parts);
    return err;
}
