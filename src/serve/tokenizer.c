/* A tokenizer as a whole: opened once, checked in every part, then only read. */
#include "serve/tokenizer_parts.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

enum { MAX_FILE_BYTES = 1 << 30 };

ps_err ps_tokenizer_open(const char *bytes, size_t n, const char *where, ps_tokenizer **out)
{
    assert(bytes || n == 0);
    assert(where && out);
    *out = NULL;
    if (n > MAX_FILE_BYTES) {
        return PS_FAIL(PS_ERR_LIMIT, "%s: %zu bytes, at most %d", where, n, MAX_FILE_BYTES);
    }
    ps_tokenizer_definition *d = NULL;
    const ps_err err = ps_tok_is_packed(bytes, n) ? ps_tok_unpack(bytes, n, where, &d)
                                                  : ps_tok_read_json(bytes, n, where, &d);
    if (!err) return ps_tokenizer_build(d, out);
    ps_tokenizer_definition_free(d);
    return err;
}

void ps_tokenizer_free(ps_tokenizer *t)
{
    if (!t) return;
    ps_mem_free(t->flags);
    ps_tok_decoders_release(&t->decoders);
    ps_tok_post_release(&t->post);
    ps_tok_splitters_release(&t->splitters);
    ps_tok_added_release(&t->added);
    ps_tok_normalizers_release(&t->normalizers);
    ps_tok_unigram_release(&t->unigram);
    ps_tok_bpe_release(&t->bpe);
    ps_mem_free(t->score);
    ps_tok_vocab_release(&t->vocab);
    json_decref(t->pipeline);
    ps_mem_free(t->where);
    ps_mem_free(t);
}

// ---- questions ----

int ps_tokenizer_size(const ps_tokenizer *t)
{
    assert(t);
    return t->size;
}

bool ps_tokenizer_has_post_processor_tokens(const ps_tokenizer *t)
{
    assert(t);
    for (size_t i = 0; i < t->post.n; i++) {
        if (!t->post.step[i].is_text) return true;
    }
    return false;
}

int32_t ps_tokenizer_find(const ps_tokenizer *t, const char *content)
{
    assert(t && content);
    const size_t n = strlen(content);
    for (int i = 0; i < t->added.n; i++) {
        const ps_tok_added_token *token = &t->added.token[i];
        if (token->n == n && memcmp(token->content, content, n) == 0) return token->id;
    }
    return ps_tok_vocab_find(&t->vocab, content, n);
}

bool ps_tokenizer_is_special(const ps_tokenizer *t, int32_t id)
{
    assert(t);
    return id >= 0 && id < t->size && (t->flags[id] & PS_TOK_IS_SPECIAL);
}

bool ps_tok_text_of_id(const ps_tokenizer *t, int32_t id, const char **text, size_t *n)
{
    if (id < 0 || id >= t->size) return false;
    if ((t->flags[id] & PS_TOK_IS_ADDED) == 0) return ps_tok_vocab_text(&t->vocab, id, text, n);
    const ps_tok_added_token *token = ps_tok_added_by_id(&t->added, id);
    *text = token->shown;
    *n = token->n_shown;
    return true;
}
