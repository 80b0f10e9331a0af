/* A chat: the model's template, NUL, then role, NUL, text, NUL of each message. A template that
 * begins with { is a tokenizer_config.json that holds it. */
#include <string.h>

#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "fuzz/fuzz_chat_tokenizer.h"
#include "serve/chat.h"
#include "tool/import/chat_template.h"

enum { MESSAGES_MAX = 16 };

static void render(const ps_chat *chat, const ps_tokenizer *t, const ps_chat_message *messages,
                   size_t n)
{
    for (int prompt = 0; prompt < 2; prompt++) {
        ps_chat_rendering r = {0};
        if (fuzz_is_ok(ps_chat_render(chat, messages, n, prompt, &r))) {
            ps_text text = {0};
            ps_tokens ids = {0};
            ps_chat_to_text(&r, "<s>", "", &text);
            (void)fuzz_is_ok(ps_chat_to_ids(&r, t, 1, -1, &ids));
            ps_tokens_release(&ids);
            ps_text_release(&text);
        }
        ps_chat_rendering_release(&r);
    }
}

/* The template's text; false when there is none. */
static bool read_template(const char *piece, ps_text *out)
{
    if (piece[0] != '{') {
        ps_text_append_str(out, piece);
    } else {
        fuzz_file("tokenizer_config.json", piece, strlen(piece));
        (void)fuzz_is_ok(ps_chat_template_read(fuzz_path(""), out));
    }
    return out->len > 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static ps_tokenizer *t;
    fuzz_input rest = {(const char *)data, size};
    ps_text text = {0};
    ps_chat *chat;
    char *roles[MESSAGES_MAX], *piece = fuzz_take_text(&rest);
    ps_chat_message messages[MESSAGES_MAX];
    size_t n = 0;
    if (!t) t = fuzz_chat_tokenizer();
    for (; n < MESSAGES_MAX && (rest.n > 0 || n == 0); n++) {
        roles[n] = fuzz_take_text(&rest);
        const fuzz_input content = fuzz_take(&rest);
        messages[n] = (ps_chat_message){roles[n], content.n > 0 ? content.data : "", content.n};
    }
    const bool found = read_template(piece, &text);
    if (fuzz_is_ok(ps_chat_detect(found ? ps_text_str(&text) : NULL, t, "model", &chat))) {
        render(chat, t, messages, n);
        ps_chat_free(chat);
    }
    for (size_t i = 0; i < n; i++) {
        ps_mem_free(roles[i]);
    }
    ps_mem_free(piece);
    ps_text_release(&text);
    return 0;
}
