/* What the files of the chat room share.   MPI: local. */
#ifndef PS_SERVE_CHAT_PARTS_H
#define PS_SERVE_CHAT_PARTS_H

#include "serve/chat.h"

typedef struct ps_chat_row ps_chat_row;

/* What the text of a model's template can say beyond its family. */
struct ps_chat {
    const ps_chat_row *row;
    ps_text default_system;       // of a chat without a system message; empty: none
    bool refuses_system;          // Gemma 1 and 2
    bool breaks_behind_developer; // gpt-oss: an empty line behind the developer's text
};

typedef struct ps_chat_render_state {
    const ps_chat *chat;
    const ps_chat_message *message; // [n]
    size_t n;
    bool prompt_for_answer;
    ps_chat_rendering *out;
} ps_chat_render_state;

/* A family: how it is told, and what renders it. */
struct ps_chat_row {
    const char *name;
    const char *end;            // token that ends an answer; NULL: eos
    const char *default_system; // when it is chosen by name; NULL: none
    const char *marks[3];       // all of these are in the template's text; none: by name alone
    const char *foreign[3];     // and none of these
    const char *tokens[2];      // special tokens that tell it where there is no template
    ps_err (*render)(const ps_chat_render_state *s);
};

/* Row i of the table; NULL behind the last. */
const ps_chat_row *ps_chat_row_at(int i);

#endif
