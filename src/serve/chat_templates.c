/* The families, each a function that writes its rendering. In a string for `put`, what stands
 * between < and > or [ and ] is a token of the template. */
#include <string.h>

#include "base/mem.h"
#include "serve/chat_parts.h"

typedef ps_chat_render_state state;

// ---- writing ----

static void put_piece(const state *s, ps_chat_kind kind, const char *bytes, size_t n)
{
    ps_chat_rendering *r = s->out;
    ps_chat_piece *last = r->n > 0 ? &r->piece[r->n - 1] : NULL;
    const size_t start = r->text.len;
    ps_text_append(&r->text, bytes, n);
    if (kind == PS_CHAT_TEXT && last && last->kind == PS_CHAT_TEXT) {
        last->n += n;
        return;
    }
    r->piece = ps_mem_grow(r->piece, &r->capacity, r->n + 1, sizeof *r->piece);
    r->piece[r->n++] = (ps_chat_piece){kind, start, n};
}

/* Text of the template, tokens among it. */
static void put(const state *s, const char *text)
{
    while (*text) {
        const size_t n = strcspn(text, "<[");
        if (n > 0) put_piece(s, PS_CHAT_TEXT, text, n);
        text += n;
        if (!*text) return;
        const size_t token = strcspn(text, *text == '<' ? ">" : "]") + 1;
        put_piece(s, PS_CHAT_TOKEN, text, token);
        text += token;
    }
}

static void put_bytes(const state *s, const char *bytes, size_t n)
{
    put_piece(s, PS_CHAT_TEXT, bytes, n);
}

static void put_message(const state *s, const ps_chat_message *m)
{
    put_bytes(s, m->text, m->n);
}

/* What Python's strip takes off. */
static bool is_blank(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

static bool is_line_end(uint32_t c)
{
    return c == '\n';
}

/* Without the characters of a class at its ends. Bytes that are not UTF-8 end the search. */
static ps_chat_message stripped(ps_chat_message m, bool (*is_stripped)(uint32_t), bool right)
{
    uint32_t c;
    while (m.n > 0 && ps_utf8_valid_prefix(m.text, m.n < 4 ? m.n : 4, NULL) > 0) {
        const size_t length = ps_utf8_decode(m.text, m.n, &c);
        if (!is_stripped(c)) break;
        m.text += length;
        m.n -= length;
    }
    while (right && m.n > 0) {
        size_t start = m.n - 1;
        while (start > 0 && m.n - start < 4 && ((unsigned char)m.text[start] & 0xC0) == 0x80) {
            start--;
        }
        if (ps_utf8_valid_prefix(m.text + start, m.n - start, NULL) != m.n - start) break;
        ps_utf8_decode(m.text + start, m.n - start, &c);
        if (!is_stripped(c)) break;
        m.n = start;
    }
    return m;
}

static ps_chat_message trimmed(const ps_chat_message *m)
{
    return stripped(*m, is_blank, true);
}

static bool is_role(const ps_chat_message *m, const char *role)
{
    return strcmp(m->role, role) == 0;
}

// ---- ChatML ----

static void put_chatml(const state *s, const char *role, const ps_chat_message *m)
{
    put(s, "<|im_start|>");
    put_bytes(s, role, strlen(role));
    put(s, "\n");
    put_message(s, m);
    put(s, "<|im_end|>\n");
}

static ps_err render_chatml(const state *s)
{
    const ps_text *system = &s->chat->default_system;
    if (!is_role(&s->message[0], "system") && system->len > 0) {
        put_chatml(s, "system", &(ps_chat_message){"system", system->data, system->len});
    }
    for (size_t i = 0; i < s->n; i++) {
        put_chatml(s, s->message[i].role, &s->message[i]);
    }
    if (s->prompt_for_answer) put(s, "<|im_start|>assistant\n");
    return PS_OK;
}

/* The parts of an answer that thinks: what stands in front of the last </think>, and behind it. */
static void split_thinking(const ps_chat_message *m, ps_chat_message *thinking,
                           ps_chat_message *answer)
{
    static const char open[] = "<think>", close[] = "</think>";
    *thinking = (ps_chat_message){m->role, "", 0};
    *answer = *m;
    const char *first = memmem(m->text, m->n, close, sizeof close - 1);
    if (!first) return;
    thinking->text = m->text;
    thinking->n = (size_t)(first - m->text);
    for (const char *at; (at = memmem(thinking->text, thinking->n, open, sizeof open - 1));) {
        thinking->n -= (size_t)(at - thinking->text) + sizeof open - 1;
        thinking->text = at + sizeof open - 1;
    }
    for (const char *at; (at = memmem(answer->text, answer->n, close, sizeof close - 1));) {
        answer->n -= (size_t)(at - answer->text) + sizeof close - 1;
        answer->text = at + sizeof close - 1;
    }
    *thinking = stripped(*thinking, is_line_end, true);
    *answer = stripped(*answer, is_line_end, false);
}

static size_t last_user(const state *s)
{
    for (size_t i = s->n; i-- > 0;) {
        if (is_role(&s->message[i], "user")) return i;
    }
    return s->n - 1;
}

/* Thinking is shown only behind the last question. */
static ps_err render_qwen3(const state *s)
{
    const size_t last = last_user(s);
    for (size_t i = 0; i < s->n; i++) {
        ps_chat_message thinking, answer = s->message[i];
        if (!is_role(&answer, "assistant")) {
            put_chatml(s, answer.role, &answer);
            continue;
        }
        split_thinking(&s->message[i], &thinking, &answer);
        if (i <= last || (i + 1 < s->n && thinking.n == 0)) {
            put_chatml(s, "assistant", &answer);
            continue;
        }
        answer = stripped(answer, is_line_end, false);
        put(s, "<|im_start|>assistant\n");
        put_bytes(s, "<think>\n", 8);
        put_message(s, &thinking);
        put_bytes(s, "\n</think>\n\n", 11);
        put_message(s, &answer);
        put(s, "<|im_end|>\n");
    }
    if (s->prompt_for_answer) put(s, "<|im_start|>assistant\n");
    return PS_OK;
}

// ---- Llama 3 ----

static void put_llama3_header(const state *s, const char *role)
{
    put(s, "<|start_header_id|>");
    put_bytes(s, role, strlen(role));
    put(s, "<|end_header_id|>\n\n");
}

static void put_llama3(const state *s, const ps_chat_message *m)
{
    const ps_chat_message text = trimmed(m);
    put_llama3_header(s, m->role);
    put_message(s, &text);
    put(s, "<|eot_id|>");
}

static ps_err render_llama3(const state *s)
{
    put_piece(s, PS_CHAT_BOS, "", 0);
    for (size_t i = 0; i < s->n; i++) {
        put_llama3(s, &s->message[i]);
    }
    if (s->prompt_for_answer) put_llama3_header(s, "assistant");
    return PS_OK;
}

static ps_err render_llama31(const state *s)
{
    size_t first = 0;
    put_piece(s, PS_CHAT_BOS, "", 0);
    put_llama3_header(s, "system");
    put(s, "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n");
    if (is_role(&s->message[0], "system")) {
        const ps_chat_message text = trimmed(&s->message[first++]);
        put_message(s, &text);
    }
    put(s, "<|eot_id|>");
    for (size_t i = first; i < s->n; i++) {
        put_llama3(s, &s->message[i]);
    }
    if (s->prompt_for_answer) put_llama3_header(s, "assistant");
    return PS_OK;
}

// ---- turns of two ----

/* Behind a system message, if there is one, user and assistant take turns. */
static ps_err check_turns(const state *s, bool with_system, size_t *first)
{
    *first = is_role(&s->message[0], "system");
    if (*first && !with_system) {
        return PS_FAIL(PS_ERR_USAGE, "the chat template %s has no place for a system message",
                       s->chat->row->name);
    }
    for (size_t i = *first; i < s->n; i++) {
        const char *wanted = (i - *first) % 2 == 0 ? "user" : "assistant";
        if (is_role(&s->message[i], wanted)) continue;
        return PS_FAIL(PS_ERR_USAGE, "message %zu is of role %s, the chat template %s wants %s", i,
                       s->message[i].role, s->chat->row->name, wanted);
    }
    if (*first < s->n) return PS_OK;
    return PS_FAIL(PS_ERR_USAGE, "the chat template %s wants a message of role user",
                   s->chat->row->name);
}

static ps_err render_gemma(const state *s)
{
    size_t first;
    PS_TRY(check_turns(s, !s->chat->refuses_system, &first));
    put_piece(s, PS_CHAT_BOS, "", 0);
    for (size_t i = first; i < s->n; i++) {
        const ps_chat_message *m = &s->message[i], text = trimmed(m);
        put(s, "<start_of_turn>");
        put(s, is_role(m, "assistant") ? "model\n" : "user\n");
        if (i == first && first > 0) {
            put_message(s, &s->message[0]);
            put(s, "\n\n");
        }
        put_message(s, &text);
        put(s, "<end_of_turn>\n");
    }
    if (s->prompt_for_answer) put(s, "<start_of_turn>model\n");
    return PS_OK;
}

/* How the editions of Mistral's template differ. */
typedef struct mistral {
    const char *open, *close, *before_answer;
    bool with_system, trims_answers;
} mistral;

static ps_err render_mistral(const state *s, const mistral *edition)
{
    size_t first;
    PS_TRY(check_turns(s, edition->with_system, &first));
    const size_t last = last_user(s);
    put_piece(s, PS_CHAT_BOS, "", 0);
    for (size_t i = first; i < s->n; i++) {
        ps_chat_message m = s->message[i];
        if (is_role(&m, "assistant")) {
            if (edition->trims_answers) m = trimmed(&m);
            put(s, edition->before_answer);
            put_message(s, &m);
            put_piece(s, PS_CHAT_EOS, "", 0);
            continue;
        }
        put(s, edition->open);
        if (i == last && first > 0) {
            put_message(s, &s->message[0]);
            put(s, "\n\n");
        }
        put_message(s, &m);
        put(s, edition->close);
    }
    return PS_OK;
}

static ps_err render_mistral_v1(const state *s)
{
    return render_mistral(s, &(mistral){"[INST] ", " [/INST]", "", false, false});
}

static ps_err render_mistral_v3(const state *s)
{
    return render_mistral(s, &(mistral){"[INST] ", "[/INST]", " ", true, true});
}

static ps_err render_mistral_tekken(const state *s)
{
    return render_mistral(s, &(mistral){"[INST]", "[/INST]", "", true, false});
}

// ---- harmony ----

static const char harmony_system[] =
    "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"
    "Knowledge cutoff: 2024-06\nCurrent date: 2025-06-28\n\nReasoning: medium\n\n"
    "# Valid channels: analysis, commentary, final. Channel must be included for every message."
    "<|end|>";

static ps_err render_harmony(const state *s)
{
    size_t first = 0;
    put(s, harmony_system);
    if (is_role(&s->message[0], "system") && s->message[first++].n > 0) {
        put(s, "<|start|>developer<|message|># Instructions\n\n");
        put_message(s, &s->message[0]);
        if (s->chat->breaks_behind_developer) put(s, "\n\n");
        put(s, "<|end|>");
    }
    for (size_t i = first; i < s->n; i++) {
        const ps_chat_message *m = &s->message[i];
        if (is_role(m, "system")) {
            return PS_FAIL(PS_ERR_USAGE, "message %zu is a system message, wanted as the first", i);
        }
        const bool answer = is_role(m, "assistant");
        const bool ends = answer && i + 1 == s->n && !s->prompt_for_answer;
        put(s,
            answer ? "<|start|>assistant<|channel|>final<|message|>" : "<|start|>user<|message|>");
        put_message(s, m);
        put(s, ends ? "<|return|>" : "<|end|>");
    }
    if (s->prompt_for_answer) put(s, "<|start|>assistant");
    return PS_OK;
}

// ---- the table ----

#define IM_START "<|im_start|>"
#define HEADER   "<|start_header_id|>"
#define INST     "[INST]"

static const ps_chat_row rows[] = {
    // The first row that fits counts: particular ones come before general ones.
    {"qwen3",
     "<|im_end|>",
     NULL,
     {IM_START, "</think>", "last_query_index"},
     {NULL},
     {NULL},
     render_qwen3},
    {"chatml",
     "<|im_end|>",
     NULL,
     {IM_START},
     {"<|im_sep|>", "</think>", "Knowledge Cutoff"},
     {IM_START, "<|im_end|>"},
     render_chatml},
    {"qwen2", "<|im_end|>", "You are a helpful assistant.", {NULL}, {NULL}, {NULL}, render_chatml},
    {"llama3.1",
     "<|eot_id|>",
     NULL,
     {HEADER, "Cutting Knowledge Date"},
     {NULL},
     {NULL},
     render_llama31},
    {"llama3",
     "<|eot_id|>",
     NULL,
     {HEADER},
     {"detailed thinking"},
     {HEADER, "<|eot_id|>"},
     render_llama3},
    {"gemma",
     "<end_of_turn>",
     NULL,
     {"<start_of_turn>"},
     {NULL},
     {"<start_of_turn>", "<end_of_turn>"},
     render_gemma},
    {"mistral",
     NULL,
     NULL,
     {"[INST] ", " [/INST]"},
     {"<<SYS>>", "[SYSTEM_PROMPT]", "eos_token + ' '"},
     {NULL},
     render_mistral_v1},
    {"mistral-v3",
     NULL,
     NULL,
     {"[INST] ", "[/INST]"},
     {"<<SYS>>", "[SYSTEM_PROMPT]", " [/INST]"},
     {NULL},
     render_mistral_v3},
    {"mistral-tekken",
     NULL,
     NULL,
     {INST, "[/INST]"},
     {"<<SYS>>", "[SYSTEM_PROMPT]", "[INST] "},
     {NULL},
     render_mistral_tekken},
    {"gpt-oss",
     "<|return|>",
     NULL,
     {"<|start|>", "<|channel|>", "<|message|>"},
     {NULL},
     {"<|start|>", "<|channel|>"},
     render_harmony},
};

const ps_chat_row *ps_chat_row_at(int i)
{
    return i < (int)(sizeof rows / sizeof rows[0]) ? &rows[i] : NULL;
}
