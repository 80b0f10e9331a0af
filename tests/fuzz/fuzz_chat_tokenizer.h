/* A tokenizer that knows ASCII and the tokens of chat templates.   MPI: local. */
#ifndef TESTS_FUZZ_FUZZ_CHAT_TOKENIZER_H
#define TESTS_FUZZ_FUZZ_CHAT_TOKENIZER_H

#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "support/tiny_tokenizer.h"

/* Never NULL. */
static inline ps_tokenizer *fuzz_chat_tokenizer(void)
{
    static const char *const names[] = {"<|im_start|>",
                                        "<|im_end|>",
                                        "<|begin_of_text|>",
                                        "<|start_header_id|>",
                                        "<|end_header_id|>",
                                        "<|eot_id|>",
                                        "<start_of_turn>",
                                        "<end_of_turn>",
                                        "[INST]",
                                        "[/INST]",
                                        "<|start|>",
                                        "<|message|>",
                                        "<|end|>",
                                        "<|return|>"};
    ps_text added = {0};
    ps_tokenizer *t;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        ps_text_appendf(&added, "%s{\"id\": %zu, \"content\": \"%s\", \"special\": true}",
                        i ? ", " : "[", i + 280, names[i]);
    }
    ps_text_append_str(&added, "]");
    char *model = tiny_tokenizer_bpe("a b,ab c,t h,th e", "\"unk_token\": \"?\", ");
    const tiny_tokenizer parts = {.model = model, .added_tokens = ps_text_str(&added)};
    fuzz_require(tiny_tokenizer_open(&parts, &t) == PS_OK);
    ps_mem_free(model);
    ps_text_release(&added);
    return t;
}

#endif
