#include "support/golden_vocabularies.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/golden_chat.h"
#include "support/golden_tokenizer.h"

static void print(golden *g, const char *name, const char *what, ps_err err,
                  const golden_counts *counts, const ps_text *first)
{
    const bool bad = err || counts->n_failed > 0 || counts->n_cases == 0;
    *(bad ? &g->n_failed : &g->n_passed) += 1;
    printf("%-36s %-16s %d of %d cases", name, what, counts->n_cases - counts->n_failed,
           counts->n_cases);
    if (counts->n_excepted > 0) printf(" (%d not as llama.cpp)", counts->n_excepted);
    printf("  %s%s\n", bad ? "FAIL " : "ok", err ? ps_err_message() : ps_text_str(first));
}

static ps_err check_json(const char *directory, golden_counts *counts, ps_text *first)
{
    return golden_tokenizer_check(directory, &counts->n_cases, &counts->n_failed, first);
}

static void check(golden *g, const char *directory, const char *name, const char *what,
                  ps_err (*function)(const char *, golden_counts *, ps_text *))
{
    golden_counts counts = {0};
    ps_text first = {0};
    const ps_err err = function(directory, &counts, &first);
    print(g, name, what, err, &counts, &first);
    ps_text_release(&first);
}

/* One file's tokenizer against llama.cpp's ids. Where another file of the same vocabulary lies
 * beside it, what that one says is right too. */
static void check_llama(golden *g, const char *directory, const char *name, const char *file,
                        const char *cases)
{
    golden_counts counts = {0};
    ps_text first = {0};
    const bool is_model = strcmp(file, "tokenizer.model") == 0;
    const char *second = golden_exists(directory, "tokenizer.json")    ? "tokenizer.json"
                         : is_model                                    ? "vocab.gguf"
                         : golden_exists(directory, "tokenizer.model") ? "tokenizer.model"
                                                                       : NULL;
    const ps_err err =
        golden_tokenizer_check_llama(directory, file, second, cases, &counts, &first);
    print(g, name, file[0] == '/' ? "vocabulary" : file, err, &counts, &first);
    ps_text_release(&first);
}

static void check_real(golden *g, const char *directory, const char *name)
{
    const char *model = getenv("PS_GOLDEN_MODEL");
    if (model && model[0] == '/') {
        check_llama(g, directory, name, model, "tokenizer_cases.jsonl");
    } else {
        ps_text_appendf(&g->unknown,
                        "not checked: %s/tokenizer_cases.jsonl: wants its model, see "
                        "make real\n",
                        name);
    }
}

bool golden_check_vocabularies(golden *g, const char *directory, const char *name)
{
    const bool model = golden_exists(directory, "tokenizer.model");
    const bool json =
        golden_exists(directory, "tokenizer.json") && golden_exists(directory, "cases.jsonl");
    const bool pieces = model && golden_exists(directory, "sentencepiece_cases.jsonl");
    const bool llama = golden_exists(directory, "gguf_cases.jsonl");
    const bool real = golden_exists(directory, "tokenizer_cases.jsonl");
    const bool chat = golden_exists(directory, "chat.jsonl");
    if (json) check(g, directory, name, "tokenizer", check_json);
    if (pieces) check(g, directory, name, "tokenizer.model", golden_tokenizer_check_sentencepiece);
    if (llama) check_llama(g, directory, name, "vocab.gguf", "gguf_cases.jsonl");
    if (llama && model) check_llama(g, directory, name, "tokenizer.model", "gguf_cases.jsonl");
    if (real) check_real(g, directory, name);
    if (chat) check(g, directory, name, "chat", golden_chat_check);
    return json || pieces || llama || real || chat;
}
